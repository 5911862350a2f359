//! Chooses a snapshot and paths: the meaning of `[SNAPSHOT|--at T] [PATH…]`.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use bdr::Error;
use bdr::base::path::{shell_path, show};
use bdr::find::query;
use bdr::find::select::{self, Older, SnapshotSpec};
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::Snapshot;
use bdr::repo::{Repository, Snapshots};
use chrono::{DateTime, Utc};

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::time;
use crate::ui::when;

/// What was named: a moment or a snapshot, and the words that are left for paths.
pub(crate) struct Picked<'a> {
    pub(crate) snapshot: Cow<'a, Snapshot>,
    pub(crate) paths: Vec<RootPath>,
    /// Sources that the snapshot itself does not have, and where they were taken from.
    pub(crate) older: Vec<Older>,
}

/// Where there are snapshots of guards at most.
const NO_BACKUP: &str = "bdr backup takes one; for snapshots of guards: latest:any, or bdr list";

/// Returns the snapshot that a word names: an id prefix, `latest`, `latest~2`, `latest:full`, `latest:any`, or a time.
pub(crate) fn one<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
    word: &OsStr,
) -> Result<&'a Snapshot, Failure> {
    let Some(text) = word.to_str() else {
        return Err(Error::NoSuchSnapshot { spec: show(word) }.into());
    };
    let spec = SnapshotSpec::parse(text);
    match select::snapshot(snapshots, &spec) {
        Ok(snapshot) => Ok(snapshot),
        Err(error @ Error::NoSuchSnapshot { .. }) => match time::parse_until(text, cx.now) {
            Ok(time) => at_or_before(cx, snapshots, time),
            Err(_) if matches!(spec, SnapshotSpec::Latest(_)) => {
                Err(Failure::from(error).hinted(|_| Some(NO_BACKUP.to_owned())))
            }
            Err(_) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Returns the last snapshot at or before a moment.
pub(crate) fn at_or_before<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
    time: DateTime<Utc>,
) -> Result<&'a Snapshot, Failure> {
    select::snapshot(snapshots, &SnapshotSpec::At { time, now: cx.now }).map_err(
        |error| match error {
            // Repeat it in local time, as the user typed it.
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
        },
    )
}

/// Returns what `[SNAPSHOT|--at T] [PATH…]` names. Without either it is the latest snapshot.
///
/// Snapshots cover different places. Where a moment or `latest` is asked for, and the last snapshot does not cover the paths, the last one that does is meant;
/// `latest` without a path is every source, each from the newest backup that has it.
pub(crate) fn pick<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
    at: Option<&str>,
    words: &[OsString],
) -> Result<Picked<'a>, Failure> {
    let latest = OsString::from("latest");
    let (first, paths, until) = match (at, words) {
        (Some(at), words) => {
            // `restore latest notes.md --at T` says the same twice.
            let words = words
                .strip_prefix(std::slice::from_ref(&latest))
                .unwrap_or(words);
            let time = time::parse_until(at, cx.now)?;
            (at_or_before(cx, snapshots, time)?, words, Some(time))
        }
        (None, []) => return newest_of_each(cx, snapshots),
        (None, [word]) if *word == latest => return newest_of_each(cx, snapshots),
        (None, [word, paths @ ..]) => {
            let snapshot =
                one(cx, snapshots, word).map_err(|failure| path_instead(failure, word))?;
            if *word != latest {
                return Ok(Picked {
                    paths: covered(cx, snapshots, snapshot, paths)?,
                    snapshot: Cow::Borrowed(snapshot),
                    older: Vec::new(),
                });
            }
            (snapshot, paths, None)
        }
    };
    let error = match covered(cx, snapshots, first, paths) {
        Ok(paths) => {
            return Ok(Picked {
                snapshot: Cow::Borrowed(first),
                paths,
                older: Vec::new(),
            });
        }
        Err(error) => error,
    };
    let mut before: Box<dyn Iterator<Item = Result<&Snapshot, Error>>> = match until {
        Some(time) => Box::new(select::at_or_before(snapshots, time, cx.now)),
        None => Box::new(
            snapshots
                .each()
                .rev()
                .filter(|s| s.as_ref().map_or(true, |s| s.is_backup())),
        ),
    };
    let covering = before.find_map(|snapshot| match snapshot {
        Ok(snapshot) => {
            let paths = covered(cx, snapshots, snapshot, paths).ok()?;
            Some(Ok(Picked {
                snapshot: Cow::Borrowed(snapshot),
                paths,
                older: Vec::new(),
            }))
        }
        Err(error) => Some(Err(error)),
    });
    match covering {
        Some(picked) => Ok(picked?),
        None => Err(error.into()),
    }
}

fn covered(
    cx: &Context,
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    paths: &[OsString],
) -> Result<Vec<RootPath>, Error> {
    let each = paths.iter();
    each.map(|path| select::path(snapshots.repository(), snapshot, &cx.cwd, path))
        .collect()
}

/// Returns the latest snapshot, with every configured source.
pub(crate) fn newest_of_each<'a>(
    cx: &Context,
    snapshots: &'a Snapshots<'_>,
) -> Result<Picked<'a>, Failure> {
    let first = one(cx, snapshots, "latest".as_ref())?;
    let sources = cx.config.sources.iter();
    let wanted: Vec<(String, Option<std::path::PathBuf>)> = sources
        .map(|source| (source.name.clone(), Some(source.path.clone())))
        .collect();
    let (whole, older) = select::completed(snapshots, first, &wanted)?;
    let ids = snapshots.ids();
    for one in &older {
        let (root, id) = (show(one.root.as_ref()), one.snapshot.prefix(&ids));
        cx.ui.warn(&format!(
            "bdr: `{root}` is not in {}; taken from {id}, {}",
            first.id.prefix(&ids),
            when::ago(cx.now, one.time)
        ));
    }
    Ok(Picked {
        snapshot: match older.is_empty() {
            true => Cow::Borrowed(first),
            false => Cow::Owned(whole),
        },
        paths: Vec::new(),
        older,
    })
}

/// Somebody who typed a path where the snapshot belongs gets the right command.
fn path_instead(failure: Failure, word: &OsStr) -> Failure {
    failure.hinted(|error| {
        let unknown = matches!(error, Error::NoSuchSnapshot { .. });
        unknown.then(|| {
            format!(
                "`bdr list` shows them; for a path: latest {}",
                shell_path(word.as_ref())
            )
        })
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
        let word = crate::app::guard::shell_words(std::slice::from_ref(word));
        Some(format!("bdr {command} {id} {word}"))
    })
}
