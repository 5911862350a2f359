//! `find_versions`: old versions of files, by name or by what they held.

use std::collections::HashSet;

use bdr::find::query::{self, Version};
use bdr::model::manifest::Kind;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Outcome, Page, backup_id, slashes};
use super::super::fault::Fault;
use super::super::mask;
use crate::app::time;
use crate::ui::{count, plural, when};

/// Paths whose history is read in one call.
const MAX_PATHS: usize = 200;
/// Versions that are searched for a text.
const MAX_SEARCHED: usize = 2000;

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let path = call.args.text("path")?;
    let text = call.args.text("text")?.filter(|text| !text.is_empty());
    if path.is_none() && text.is_none() {
        return Err(Fault::argument(
            "neither `path` nor `text` says what to look for",
            "find_versions {\"path\":\"**/checklist-registry.json\"}",
        ));
    }
    let limit = call.args.number("limit", 1, 200)?.unwrap_or(20) as usize;
    let since = call
        .args
        .text("since")?
        .map(|text| time::parse(text, cx.now))
        .transpose()?;
    let repo = call.repository()?;
    let roots = call.roots()?;
    let snapshots = repo.snapshots()?;
    let pattern = match path {
        Some(path) => match (path.strip_prefix("~/"), &cx.home) {
            (Some(rest), Some(home)) => slashes(&format!("{}/{rest}", home.display())),
            _ => slashes(path),
        },
        None => "*".to_owned(),
    };
    let mut found = query::find(&repo, &snapshots, &pattern)?;
    if found.is_empty() && pattern.contains('/') && !pattern.contains(['*', '?', '[']) {
        found = query::find(
            &repo,
            &snapshots,
            &format!("**/{}", pattern.trim_start_matches("./")),
        )?;
    }
    found.retain(|found| found.entry.kind == Kind::File && roots.has(&found.path));
    // The newest first: what was touched last is meant most often.
    found.sort_by_key(|found| std::cmp::Reverse((found.time, found.entry.mtime.nanos())));
    let paths = found.len();
    found.truncate(MAX_PATHS);
    let mut versions: Vec<Version> = Vec::new();
    for one in &found {
        if cx.is_stopped() {
            return Err(bdr::Error::Interrupted.into());
        }
        versions.extend(query::history(
            &repo,
            &snapshots,
            &cx.cwd,
            one.path.as_os_str(),
        )?);
    }
    versions.retain(|version| {
        version
            .entry
            .as_ref()
            .is_some_and(|entry| entry.kind == Kind::File)
    });
    let mut seen = HashSet::new();
    versions.retain(|version| seen.insert((version.path.clone(), version.snapshot)));
    versions.sort_by_key(|version| std::cmp::Reverse((version.time, version.seq)));
    versions.retain(|version| since.is_none_or(|since| version.time >= since));
    let mut searched = 0;
    if let Some(text) = text {
        let mut fitting = Vec::new();
        for version in versions {
            searched += 1;
            if searched > MAX_SEARCHED || cx.is_stopped() {
                break;
            }
            let Some(entry) = &version.entry else {
                continue;
            };
            // What is sealed is not found either: nobody learns by asking.
            if let Ok(bytes) = mask::stored(&repo, &version.path, entry)?
                && memchr::memmem::find(&bytes, text.as_bytes()).is_some()
            {
                fitting.push(version);
            }
        }
        versions = fitting;
    }
    let page = Page::read(
        &call.args,
        &format!("find_versions {path:?} {text:?} {since:?}"),
    )?;
    let shown: Vec<&Version> = versions.iter().skip(page.from).take(limit).collect();
    let list: Vec<Value> = shown
        .iter()
        .filter_map(|version| one(call, version))
        .collect();
    let mut warnings = Vec::new();
    if paths > MAX_PATHS {
        warnings.push(format!(
            "{} paths fit; the versions of the {MAX_PATHS} newest are listed: narrow path",
            count(paths as u64)
        ));
    }
    if searched > MAX_SEARCHED {
        warnings.push(format!(
            "only {MAX_SEARCHED} versions were searched: narrow path or since"
        ));
    }
    let mut data = json!({"versions": list, "total": versions.len(), "warnings": warnings});
    page.next(&mut data, shown.len(), versions.len());
    let mut lines: Vec<String> = shown
        .iter()
        .take(20)
        .filter_map(|version| {
            let entry = version.entry.as_ref()?;
            let id = backup_id(version.snapshot, version.time);
            Some(format!(
                "{id}  {}  {} bytes  {}",
                when::utc(version.time),
                entry.size,
                cx.shown_absolute(&version.path)
            ))
        })
        .collect();
    // What stands already need not be brought back.
    let wanted = shown.iter().find(|version| !stands(version));
    let brief = match wanted.or(shown.first()) {
        None => "No version fits. Try a wider path, like **/NAME, or list_backups.".to_owned(),
        Some(wanted) => {
            let id = backup_id(wanted.snapshot, wanted.time);
            lines.insert(
                0,
                format!(
                    "{}, newest first:",
                    plural(versions.len() as u64, "version")
                ),
            );
            lines.push(format!(
                "To bring one back: restore_backup {{\"backupId\":\"{id}\",\"selective\":[{}],\"overwrite\":true}}",
                Value::from(cx.shown_absolute(&wanted.path))
            ));
            lines.join("\n")
        }
    };
    let mut answer = Answer::new(data, brief);
    answer.links = shown
        .iter()
        .take(3)
        .map(|version| {
            let id = backup_id(version.snapshot, version.time);
            let path = super::super::call::encoded(&cx.shown_absolute(&version.path));
            (
                format!("bdr://snapshots/{id}/files/{path}"),
                cx.shown_absolute(&version.path),
            )
        })
        .collect();
    Ok(answer.into())
}

/// Returns true for a version that is what stands there, by size and time.
fn stands(version: &Version) -> bool {
    let (Some(entry), Ok(standing)) = (&version.entry, version.path.symlink_metadata()) else {
        return false;
    };
    let times = standing.modified().is_ok_and(|time| {
        DateTime::<Utc>::from(time) == DateTime::from_timestamp_nanos(entry.mtime.nanos())
    });
    standing.is_file() && standing.len() == entry.size && times
}

fn one(call: &Call<'_>, version: &Version) -> Option<Value> {
    let entry = version.entry.as_ref()?;
    let modified = DateTime::from_timestamp_nanos(entry.mtime.nanos());
    // That of a sealed file would tell who guesses its values.
    let plain = Some(entry).filter(|entry| entry.body.sealed.is_none());
    let digest = plain
        .and_then(|entry| entry.digest())
        .map(|digest| digest.to_hex()[..12].to_owned());
    Some(json!({
        "path": call.cx.shown_absolute(&version.path),
        "backupId": backup_id(version.snapshot, version.time),
        "modified": when::utc(modified),
        "size": entry.size,
        "sha256": digest,
    }))
}
