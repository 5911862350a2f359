//! Which snapshot, which paths: what `[SNAPSHOT|--at T] [PATH…]` means.

use std::ffi::{OsStr, OsString};

use bdr::Error;
use bdr::path::show;
use bdr::query;
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::Snapshot;
use bdr::repo::{Repository, Snapshots};
use bdr::select::{self, SnapshotSpec};
use chrono::{DateTime, Utc};

use super::context::Context;
use super::error::Failure;
use super::time;
use crate::ui::when;

/// What was named: a moment or a snapshot, and the words that are left for paths.
pub(crate) struct Picked<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) paths: Vec<RootPath>,
}

/// Returns the snapshot that a word names: an id prefix, `latest`, `latest~2`, `latest:full`, or a time.
pub(crate) fn one<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
    word: &OsStr,
) -> Result<&'a Snapshot, Failure> {
    let Some(text) = word.to_str() else {
        return Err(Error::NoSuchSnapshot { spec: show(word) }.into());
    };
    match select::snapshot(snapshots, &SnapshotSpec::parse(text)) {
        Ok(snapshot) => Ok(snapshot),
        Err(error @ Error::NoSuchSnapshot { .. }) => match time::parse(text, cx.now) {
            Ok(time) => at_or_before(snapshots, time),
            Err(_) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Returns the last snapshot at or before a moment.
pub(crate) fn at_or_before<'a>(
    snapshots: &'a Snapshots<'_>,
    time: DateTime<Utc>,
) -> Result<&'a Snapshot, Failure> {
    select::snapshot(snapshots, &SnapshotSpec::At(time)).map_err(|error| match error {
        // Said again in local time: that is what was typed.
        Error::NoSnapshotBefore { .. } => {
            let oldest = snapshots.iter().min_by_key(|s| s.time).map(|s| {
                format!(
                    "; the oldest is {}, {}",
                    s.id.prefix(&snapshots.ids()),
                    when::local(s.time)
                )
            });
            Error::NoSnapshotBefore {
                time: when::local(time),
                oldest: oldest.unwrap_or_default(),
            }
            .into()
        }
        other => other.into(),
    })
}

/// Returns what `[SNAPSHOT|--at T] [PATH…]` names. Without either it is the latest snapshot.
///
/// Guards take snapshots of different places. Where a moment or `latest` is asked for, and the last snapshot does not
/// cover the paths, the last one that does is meant.
pub(crate) fn pick<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
    at: Option<&str>,
    words: &[OsString],
) -> Result<Picked<'a>, Failure> {
    let latest = OsString::from("latest");
    let (first, paths, floating) = match (at, words) {
        (Some(at), words) => {
            // `restore latest notes.md --at T` says the same twice.
            let words = words
                .strip_prefix(std::slice::from_ref(&latest))
                .unwrap_or(words);
            (
                at_or_before(snapshots, time::parse(at, cx.now)?)?,
                words,
                true,
            )
        }
        (None, []) => (one(cx, snapshots, &latest)?, words, true),
        (None, [word, paths @ ..]) => {
            let snapshot =
                one(cx, snapshots, word).map_err(|failure| path_instead(failure, word))?;
            (snapshot, paths, *word == latest)
        }
    };
    let covered = |snapshot: &Snapshot| -> Result<Vec<RootPath>, Error> {
        paths
            .iter()
            .map(|path| select::path(snapshot, &cx.cwd, path))
            .collect()
    };
    let error = match covered(first) {
        Ok(paths) => {
            return Ok(Picked {
                snapshot: first,
                paths,
            });
        }
        Err(error) => error,
    };
    if floating {
        let older = snapshots.iter().rev().filter(|s| s.order() < first.order());
        for snapshot in older {
            if let Ok(paths) = covered(snapshot) {
                return Ok(Picked { snapshot, paths });
            }
        }
    }
    Err(error.into())
}

/// Somebody who typed a path where the snapshot belongs gets the right command.
fn path_instead(failure: Failure, word: &OsStr) -> Failure {
    failure.hinted(|error| {
        let unknown = matches!(error, Error::NoSuchSnapshot { .. });
        unknown.then(|| format!("`bdr list` shows them; for a path: latest {}", show(word)))
    })
}

/// Where a path is not in the snapshot that was asked, names the newest one that has it.
pub(crate) fn newest_instead(
    cx: &Context,
    repo: &Repository,
    word: Option<&OsString>,
    command: &str,
    failure: Failure,
) -> Failure {
    failure.hinted(|error| {
        let word = word.filter(|_| matches!(error, Error::NoSuchPath { .. }))?;
        let snapshots = repo.snapshots().ok()?;
        let versions = query::history(repo, &snapshots, &cx.cwd, word).ok()?;
        let newest = versions
            .iter()
            .rposition(|version| version.entry.is_some())?;
        let id = versions[newest].snapshot.prefix(&repo.snapshot_ids().ok()?);
        let word = super::guard::shell_words(std::slice::from_ref(word));
        Some(format!("bdr {command} {id} {word}"))
    })
}
