//! `find_versions`: old versions of files, found by name or by content.

use std::collections::HashSet;

use bdr::find::query::{self, Version};
use bdr::model::manifest::Kind;
use bdr::repo::Repository;
use bdr::repo::snapshot::Snapshot;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::super::call::{Answer, Call, Outcome, Page, backup_id, slashes};
use super::super::fault::Fault;
use crate::app::context::Context;
use crate::app::mask;
use crate::app::time;
use crate::ui::{count, plural, when};

/// One call reads the history of this many paths.
const MAX_PATHS: usize = 200;
/// One call searches this many versions for a text.
const MAX_SEARCHED: usize = 2000;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionsResult {
    versions: Vec<VersionOf>,
    total: usize,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A file in one backup.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct VersionOf {
    path: String,
    backup_id: String,
    modified: String,
    size: u64,
    /// The beginning of its digest; null for a file with sealed values, because a digest would let
    /// a reader test guesses.
    sha256: Option<String>,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let wanted = Wanted::read(call)?;
    let repo = call.repository()?;
    let snapshots = repo.snapshots()?;
    let (mut versions, paths) = wanted.versions(call, &repo, &snapshots)?;
    let mut searched = 0;
    if let Some(text) = wanted.text {
        (versions, searched) = containing(call, &repo, versions, text)?;
    }
    let (path, text, since) = (wanted.path, wanted.text, wanted.since);
    let page = Page::read(
        &call.args,
        &format!("find_versions {path:?} {text:?} {since:?}"),
    )?;
    let shown = versions.iter().skip(page.from).take(wanted.limit);
    let shown: Vec<&Version> = shown.collect();
    let list = shown.iter().filter_map(|version| one(call, version));
    let result = VersionsResult {
        versions: list.collect(),
        total: versions.len(),
        warnings: warnings(paths, searched),
        next_cursor: page.next(shown.len(), versions.len()),
    };
    let mut answer = Answer::new(result, brief(call, &shown, versions.len()));
    let link = |version: &&Version| {
        let id = backup_id(version.snapshot, version.time);
        let path = call.cx.shown_absolute(&version.path);
        let encoded = super::super::call::encoded(&path);
        (format!("bdr://snapshots/{id}/files/{encoded}"), path)
    };
    answer.links = shown.iter().take(3).map(link).collect();
    Ok(answer.into())
}

struct Wanted<'a> {
    path: Option<&'a str>,
    text: Option<&'a str>,
    since: Option<DateTime<Utc>>,
    limit: usize,
}

impl<'a> Wanted<'a> {
    fn read(call: &'a Call<'_>) -> Result<Self, Fault> {
        let path = call.args.text("path")?;
        let text = call.args.text("text")?.filter(|text| !text.is_empty());
        if path.is_none() && text.is_none() {
            return Err(Fault::argument(
                "give `path` or `text` to search for",
                "find_versions {\"path\":\"**/checklist-registry.json\"}",
            ));
        }
        let since = call.args.text("since")?;
        Ok(Self {
            path,
            text,
            since: since
                .map(|text| time::parse(text, call.cx.now))
                .transpose()?,
            limit: call.args.number("limit", 1, 200)?.unwrap_or(20) as usize,
        })
    }

    /// Returns the matching versions, newest first, and the number of paths that have any.
    fn versions(
        &self,
        call: &Call<'_>,
        repo: &Repository,
        snapshots: &[Snapshot],
    ) -> Result<(Vec<Version>, usize), Fault> {
        let cx = call.cx;
        let roots = call.roots()?;
        let mut found = self.find(cx, repo, snapshots)?;
        found.retain(|found| found.entry.kind == Kind::File && roots.has(&found.path));
        // Callers mostly mean the file that changed last.
        found.sort_by_key(|found| std::cmp::Reverse((found.time, found.entry.mtime.nanos())));
        let paths = found.len();
        found.truncate(MAX_PATHS);
        let mut versions: Vec<Version> = Vec::new();
        for one in &found {
            if cx.is_stopped() {
                return Err(bdr::Error::Interrupted.into());
            }
            let path = one.path.as_os_str();
            versions.extend(query::history(repo, snapshots, &cx.cwd, path)?);
        }
        let is_file = |version: &Version| {
            let entry = version.entry.as_ref();
            entry.is_some_and(|entry| entry.kind == Kind::File)
        };
        let mut seen = HashSet::new();
        versions.retain(|version| {
            is_file(version)
                && self.since.is_none_or(|since| version.time >= since)
                && seen.insert((version.path.clone(), version.snapshot))
        });
        versions.sort_by_key(|version| std::cmp::Reverse((version.time, version.seq)));
        Ok((versions, paths))
    }

    /// Finds files by the pattern, and if there are none by its last part: clients often know only
    /// a name.
    fn find(
        &self,
        cx: &Context,
        repo: &Repository,
        snapshots: &[Snapshot],
    ) -> Result<Vec<query::Found>, Fault> {
        let pattern = match self.path {
            Some(path) => match (path.strip_prefix("~/"), &cx.home) {
                (Some(rest), Some(home)) => slashes(&format!("{}/{rest}", home.display())),
                _ => slashes(path),
            },
            None => "*".to_owned(),
        };
        let found = query::find(repo, snapshots, &pattern)?;
        let is_path = pattern.contains('/') && !pattern.contains(['*', '?', '[']);
        if !found.is_empty() || !is_path {
            return Ok(found);
        }
        let end = format!("**/{}", pattern.trim_start_matches("./"));
        Ok(query::find(repo, snapshots, &end)?)
    }
}

/// Returns the versions that contain a text, and how many were searched.
fn containing(
    call: &Call<'_>,
    repo: &Repository,
    versions: Vec<Version>,
    text: &str,
) -> Result<(Vec<Version>, usize), Fault> {
    let (mut fitting, mut searched) = (Vec::new(), 0);
    for version in versions {
        searched += 1;
        if searched > MAX_SEARCHED || call.cx.is_stopped() {
            break;
        }
        let Some(entry) = &version.entry else {
            continue;
        };
        // Sealed values are not searched, otherwise a caller could guess them one by one.
        if let Ok(bytes) = mask::stored(repo, &version.path, entry)?
            && memchr::memmem::find(&bytes, text.as_bytes()).is_some()
        {
            fitting.push(version);
        }
    }
    Ok((fitting, searched))
}

/// Returns warnings about versions that were not searched.
fn warnings(paths: usize, searched: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if paths > MAX_PATHS {
        warnings.push(format!(
            "{} paths match; the versions of the newest {MAX_PATHS} are listed: narrow path",
            count(paths as u64)
        ));
    }
    if searched > MAX_SEARCHED {
        warnings.push(format!(
            "only {MAX_SEARCHED} versions were searched: narrow path or since"
        ));
    }
    warnings
}

/// Returns the answer as text: the first versions, and the call that restores one.
fn brief(call: &Call<'_>, shown: &[&Version], total: usize) -> String {
    let cx = call.cx;
    // The current version need not be restored.
    let wanted = shown.iter().find(|version| !stands(version));
    let Some(wanted) = wanted.or(shown.first()) else {
        return "No version matches. Try a wider path, like **/NAME, or list_backups.".to_owned();
    };
    let line = |version: &&Version| {
        let entry = version.entry.as_ref()?;
        let id = backup_id(version.snapshot, version.time);
        Some(format!(
            "{id}  {}  {} bytes  {}",
            when::utc(version.time),
            entry.size,
            cx.shown_absolute(&version.path)
        ))
    };
    let mut lines = vec![format!(
        "{}, newest first:",
        plural(total as u64, "version")
    )];
    lines.extend(shown.iter().take(20).filter_map(line));
    let id = backup_id(wanted.snapshot, wanted.time);
    lines.push(format!(
        "To bring one back: restore_backup {{\"backupId\":\"{id}\",\"selective\":[{}],\"overwrite\":true}}",
        Value::from(cx.shown_absolute(&wanted.path))
    ));
    lines.join("\n")
}

/// Returns true if a version is the current file, judged by size and time.
fn stands(version: &Version) -> bool {
    let (Some(entry), Ok(standing)) = (&version.entry, version.path.symlink_metadata()) else {
        return false;
    };
    let times = standing.modified().is_ok_and(|time| {
        DateTime::<Utc>::from(time) == DateTime::from_timestamp_nanos(entry.mtime.nanos())
    });
    standing.is_file() && standing.len() == entry.size && times
}

fn one(call: &Call<'_>, version: &Version) -> Option<VersionOf> {
    let entry = version.entry.as_ref()?;
    let modified = DateTime::from_timestamp_nanos(entry.mtime.nanos());
    // With the digest of a sealed file a reader could test guesses of its values.
    let plain = Some(entry).filter(|entry| entry.body.sealed.is_none());
    let digest = plain
        .and_then(|entry| entry.digest())
        .map(|digest| digest.to_hex()[..12].to_owned());
    Some(VersionOf {
        path: call.cx.shown_absolute(&version.path),
        backup_id: backup_id(version.snapshot, version.time),
        modified: when::utc(modified),
        size: entry.size,
        sha256: digest,
    })
}
