//! Resources: status, snapshots, single files of them, differences. All read-only, all bounded, all
//! behind the privacy gate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bdr::base::path::RepoPath;
use bdr::model::manifest::{Entry, Kind};
use bdr::repo::snapshot::RootRecord;
use serde::Serialize;
use serde_json::{Value, json};

use super::call::{Options, backup_id, snapshot};
use super::fault::Fault;
use super::roots::Roots;
use super::tools::{diff_document, list_document, status_document};
use crate::app::context::Context;
use crate::app::mask;
use crate::ui::when;

/// Snapshots never change, so their manifests may be cached for a day, in milliseconds.
pub(crate) const FOREVER_MS: u64 = 86_400_000;
/// Entries per page of a manifest.
const PAGE: usize = 500;

/// Returns the resources with fixed addresses, as advertised to clients.
pub(crate) fn told() -> Value {
    json!([
        {"uri": "bdr://status", "name": "status", "title": "Backup health", "description": "Health, last and next backup, problems", "mimeType": "application/json"},
        {"uri": "bdr://snapshots", "name": "snapshots", "title": "Latest backups", "description": "The latest 50 backups", "mimeType": "application/json"},
        {"uri": "bdr://guide", "name": "guide", "title": "How to use bdr", "description": "When to call which tool", "mimeType": "text/markdown"},
    ])
}

/// Returns the resource templates, as advertised to clients.
pub(crate) fn templates() -> Value {
    json!([
        {"uriTemplate": "bdr://snapshots/{id}", "name": "manifest", "title": "Files of a snapshot", "description": "Its files, 500 a page: ?from=500", "mimeType": "application/json"},
        {"uriTemplate": "bdr://snapshots/{id}/files/{+path}", "name": "file", "title": "A file as it was", "description": "Up to 1 MiB; secrets are masked"},
        {"uriTemplate": "bdr://diff/{from}/{to}", "name": "diff", "title": "What differs", "description": "Between two snapshots, or a snapshot and `now`", "mimeType": "application/json"},
    ])
}

/// `bdr://snapshots/ID`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestDocument {
    backup_id: String,
    created: String,
    file_count: usize,
    files: Vec<FileDocument>,
    /// The next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct FileDocument {
    path: String,
    size: u64,
    modified: String,
}

pub(crate) struct Read {
    pub(crate) text: Option<String>,
    /// Base64, for content that is not text.
    pub(crate) blob: Option<String>,
    pub(crate) mime: &'static str,
    /// How long it may be cached, in milliseconds.
    pub(crate) ttl_ms: u64,
}

impl Read {
    fn json(document: &impl Serialize, ttl_ms: u64) -> Self {
        Self {
            text: serde_json::to_string(document).ok(),
            blob: None,
            mime: "application/json",
            ttl_ms,
        }
    }
}

/// Reads a resource; `None` if there is none at this address.
pub(crate) fn read(cx: &Context, options: &Options, uri: &str) -> Result<Option<Read>, Fault> {
    let Some(rest) = uri.strip_prefix("bdr://") else {
        return Ok(None);
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parts: Vec<&str> = rest.split('/').collect();
    match parts[..] {
        ["status"] => Ok(Some(Read::json(&status_document(cx)?, 0))),
        ["snapshots"] => Ok(Some(Read::json(&list_document(cx, 50)?, 0))),
        ["guide"] => Ok(Some(Read {
            text: Some(super::prompts::GUIDE.to_owned()),
            blob: None,
            mime: "text/markdown",
            ttl_ms: FOREVER_MS,
        })),
        ["snapshots", id] => {
            let from = query
                .strip_prefix("from=")
                .and_then(|from| from.parse().ok())
                .unwrap_or(0);
            manifest(cx, options, &decoded(id), from).map(Some)
        }
        ["snapshots", id, "files", ..] => {
            let path = rest.splitn(4, '/').nth(3).unwrap_or_default();
            file(cx, options, &decoded(id), &decoded(path))
        }
        ["diff", from, to] => {
            let roots = Roots::of(cx, &options.roots)?;
            let (document, stays) = diff_document(cx, &roots, &decoded(from), &decoded(to))?;
            let ttl_ms = if stays { FOREVER_MS } else { 0 };
            Ok(Some(Read::json(&document, ttl_ms)))
        }
        _ => Ok(None),
    }
}

fn manifest(cx: &Context, options: &Options, id: &str, from: usize) -> Result<Read, Fault> {
    let repo = cx.repository()?;
    let roots = Roots::of(cx, &options.roots)?;
    let snapshots = repo.all_snapshots()?;
    let found = snapshot(cx, &repo, &snapshots, id)?;
    let mut files = Vec::new();
    let mut number = 0;
    for record in &found.roots {
        for entry in repo.listing(record)? {
            let path = entry.path.to_path(record.path.as_path());
            if entry.kind != Kind::File || !roots.has(&path) {
                continue;
            }
            if (from..from + PAGE).contains(&number) {
                let modified = chrono::DateTime::from_timestamp_nanos(entry.mtime.nanos());
                files.push(FileDocument {
                    path: cx.shown_absolute(&path),
                    size: entry.size,
                    modified: when::utc(modified),
                });
            }
            number += 1;
        }
    }
    let name = backup_id(found.id, found.time);
    let data = ManifestDocument {
        created: when::utc(found.time),
        file_count: number,
        files,
        next: (from + PAGE < number)
            .then(|| format!("bdr://snapshots/{name}?from={}", from + PAGE)),
        backup_id: name,
    };
    // A name like `latest` means another snapshot tomorrow.
    let ttl_ms = if id == backup_id(found.id, found.time) {
        FOREVER_MS
    } else {
        0
    };
    Ok(Read::json(&data, ttl_ms))
}

fn file(cx: &Context, options: &Options, id: &str, path: &str) -> Result<Option<Read>, Fault> {
    let repo = cx.repository()?;
    let roots = Roots::of(cx, &options.roots)?;
    let snapshots = repo.all_snapshots()?;
    let found = snapshot(cx, &repo, &snapshots, id)?;
    let expanded = match (path.strip_prefix("~/"), &cx.home) {
        (Some(rest), Some(home)) => home.join(rest).into_os_string(),
        _ => path.into(),
    };
    for candidate in bdr::find::select::candidates(found, &cx.cwd, &expanded) {
        let Some(record) = found.root(&candidate.root) else {
            continue;
        };
        let Some(entry) = entry_of(&repo, record, &candidate.path)? else {
            continue;
        };
        let place = entry.path.to_path(record.path.as_path());
        if !roots.has(&place) {
            let message = format!(
                "`{}` is outside the protected roots",
                cx.shown_absolute(&place)
            );
            return Err(Fault::new("PATH_NOT_ALLOWED", message, "ask the user"));
        }
        let bytes = mask::stored(&repo, &place, &entry)?.map_err(|why| {
            Fault::new(
                "PHI_DETECTED",
                format!("`{}` is not shown: {why}", cx.shown_absolute(&place)),
                "restore_backup restores it without showing it",
            )
        })?;
        let ttl_ms = if id == backup_id(found.id, found.time) {
            FOREVER_MS
        } else {
            0
        };
        return Ok(Some(match String::from_utf8(bytes) {
            Ok(text) => Read {
                text: Some(text),
                blob: None,
                mime: "text/plain",
                ttl_ms,
            },
            Err(bytes) => Read {
                text: None,
                blob: Some(STANDARD.encode(bytes.as_bytes())),
                mime: "application/octet-stream",
                ttl_ms,
            },
        }));
    }
    Ok(None)
}

fn entry_of(
    repo: &bdr::repo::Repository,
    record: &RootRecord,
    path: &RepoPath,
) -> Result<Option<Entry>, Fault> {
    Ok(repo.listing_of(record, &|other| other == path)?.pop())
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns completions for a parameter of a template.
pub(crate) fn complete(
    cx: &Context,
    options: &Options,
    parameter: &str,
    typed: &str,
    id: Option<&str>,
) -> Result<Vec<String>, Fault> {
    let repo = cx.repository()?;
    match parameter {
        "id" | "from" | "to" => {
            let words = ["latest", "latest:full", "now"]
                .map(str::to_owned)
                .into_iter();
            let words = words.filter(|word| word != "now" || parameter == "to");
            let all = repo.summaries()?;
            let ids = all
                .iter()
                .rev()
                .filter(|summary| super::call::is_listed(summary))
                .map(|summary| backup_id(summary.id, summary.time));
            Ok(words
                .chain(ids)
                .filter(|value| value.starts_with(typed))
                .take(100)
                .collect())
        }
        "path" => {
            let snapshots = repo.all_snapshots()?;
            let found = snapshot(cx, &repo, &snapshots, id.unwrap_or("latest"))?;
            let roots = Roots::of(cx, &options.roots)?;
            let mut values = Vec::new();
            for record in &found.roots {
                for entry in repo.listing(record)? {
                    let path = entry.path.to_path(record.path.as_path());
                    let shown = cx.shown_absolute(&path);
                    if entry.kind == Kind::File && roots.has(&path) && shown.contains(typed) {
                        values.push(shown);
                    }
                    if values.len() >= 100 {
                        return Ok(values);
                    }
                }
            }
            Ok(values)
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::encoded;
    use super::*;

    #[test]
    fn paths_survive_addresses() {
        for path in ["a/b c.txt", "ü/100%.md", "q?x#y", "~/.claude.json"] {
            assert_eq!(decoded(&encoded(path)), path);
        }
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
