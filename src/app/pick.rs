//! Chooses a snapshot and paths: the meaning of `[SNAPSHOT|--at T] [PATH…]`, and of `SNAPSHOT:PATH`.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use bdr::Error;
use bdr::base::path::{absolute, shell_path, show};
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

/// The chosen snapshot, and the remaining words, which are paths.
pub(crate) struct Picked<'a> {
    pub(crate) snapshot: Cow<'a, Snapshot>,
    pub(crate) paths: Vec<RootPath>,
    /// Sources that the snapshot itself lacks, and the snapshots from which they come.
    pub(crate) older: Vec<Older>,
}

/// For when there are at most snapshots of guards.
const NO_BACKUP: &str = "bdr backup takes one; for snapshots of guards: latest:any, or bdr list";

/// Returns the snapshot for a word: an id prefix, `latest`, `latest~2`, `latest:full`,
/// `latest:any`, or a time.
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
            Err(_) => Err(Failure::from(error).hinted(|_| file_instead(cx, word))),
        },
        Err(error) => Err(error.into()),
    }
}

/// Returns which snapshots have a file, for a user who gave it where only a snapshot is possible.
fn file_instead(cx: &Context, word: &OsStr) -> Option<String> {
    let path = absolute(&cx.cwd, Path::new(word));
    path.symlink_metadata().ok()?;
    let word = shell_path(word.as_ref());
    Some(format!(
        "{word} is a file here; to see which snapshots have it: bdr history {word}"
    ))
}

/// Returns true if the only problem is that no snapshot has the given name.
pub(crate) fn is_unknown(failure: &Failure) -> bool {
    match failure {
        Failure::Engine(error) | Failure::Hinted { error, .. } => {
            matches!(**error, Error::NoSuchSnapshot { .. })
        }
        _ => false,
    }
}

/// Splits `SNAPSHOT:PATH`, if the whole names no snapshot and the part before a colon does.
/// `latest:full` is a name, and so is a single drive letter.
pub(crate) fn split(
    cx: &Context,
    snapshots: &Snapshots<'_>,
    word: &OsStr,
) -> Option<(OsString, OsString)> {
    let text = word.to_str()?;
    let names = |text: &str| {
        let found = select::snapshot(snapshots, &SnapshotSpec::parse(text));
        !matches!(found, Err(Error::NoSuchSnapshot { .. }))
    };
    if !text.contains(':') || names(text) {
        return None;
    }
    // The longest name first: `latest:full:notes.md`.
    text.rmatch_indices(':').find_map(|(at, _)| {
        let (left, right) = (&text[..at], &text[at + 1..]);
        // No shell expands this inside a word.
        let path = match (right.strip_prefix("~/"), &cx.home) {
            (Some(rest), Some(home)) => home.join(rest).into_os_string(),
            _ => right.into(),
        };
        (left.len() > 1 && names(left)).then(|| (left.into(), path))
    })
}

/// Replaces each `SNAPSHOT:PATH` by a snapshot, which comes first, and a path.
fn spread(
    cx: &Context,
    snapshots: &Snapshots<'_>,
    words: &[OsString],
) -> Result<Vec<OsString>, Failure> {
    let mut named: Option<OsString> = None;
    let mut rest = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let Some((snapshot, path)) = split(cx, snapshots, word) else {
            rest.push(word.clone());
            continue;
        };
        let first = match at {
            0 => named.insert(snapshot.clone()),
            _ => named.as_ref().unwrap_or(&words[0]),
        };
        if *first != snapshot {
            return Err(Failure::usage(
                "the paths are of more than one snapshot",
                "name one snapshot, then its paths: bdr restore latest PATH PATH",
            ));
        }
        if !path.is_empty() {
            rest.push(path);
        }
    }
    rest.splice(0..0, named);
    Ok(rest)
}

/// Returns the last snapshot at or before a time.
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

/// Names the versions that exist of a path, where there is none as old as asked for.
fn with_history(failure: Failure, words: &[OsString]) -> Failure {
    match (failure, words) {
        (Failure::Engine(error), [path]) if matches!(*error, Error::NoSnapshotBefore { .. }) => {
            let path = crate::app::guard::shell_words(std::slice::from_ref(path));
            Failure::Hinted {
                error,
                hint: format!("bdr history {path}"),
            }
        }
        (failure, _) => failure,
    }
}

/// Resolves `[SNAPSHOT|--at T] [PATH…]`. Without either it is the latest snapshot.
///
/// Snapshots cover different places. For a time or `latest`, if the last snapshot does not cover
/// the paths, the last one that does is chosen; `latest` without a path means every source, each
/// from the newest backup that has it.
pub(crate) fn pick<'a>(
    cx: &Context,
    verb: &str,
    snapshots: &'a Snapshots<'_>,
    at: Option<&str>,
    words: &[OsString],
) -> Result<Picked<'a>, Failure> {
    let latest = OsString::from("latest");
    let words = &spread(cx, snapshots, words)?[..];
    let (first, paths, until) = match (at, words) {
        (Some(at), words) => {
            // `restore latest notes.md --at T` says the same thing twice.
            let words = words
                .strip_prefix(std::slice::from_ref(&latest))
                .unwrap_or(words);
            let time = time::parse_until(at, cx.now)?;
            let found = at_or_before(cx, snapshots, time);
            let found = found.map_err(|failure| with_history(failure, words))?;
            (found, words, Some(time))
        }
        (None, []) => return newest_of_each(cx, snapshots),
        (None, [word]) if *word == latest => return newest_of_each(cx, snapshots),
        (None, [word, paths @ ..]) => {
            let snapshot = match one(cx, snapshots, word) {
                Ok(snapshot) => snapshot,
                // Without any backup, `latest` is unknown too.
                Err(failure) if is_unknown(&failure) && *word != latest => {
                    return by_paths(cx, verb, snapshots, words, failure);
                }
                Err(failure) => return Err(failure),
            };
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

/// Chooses by paths alone, if the latest backup has them; `unknown` is the error if it has not.
fn by_paths<'a>(
    cx: &Context,
    verb: &str,
    snapshots: &'a Snapshots<'_>,
    words: &[OsString],
    unknown: Failure,
) -> Result<Picked<'a>, Failure> {
    let mut all = vec![OsString::from("latest")];
    all.extend_from_slice(words);
    let picked = pick(cx, verb, snapshots, None, &all).ok();
    let repo = snapshots.repository();
    let is_there = |picked: &Picked<'_>| {
        picked.paths.iter().all(|one| {
            let root = picked.snapshot.root(&one.root);
            let found = root.and_then(|root| repo.listing_of(root, &|p| *p == one.path).ok());
            found.is_some_and(|found| !found.is_empty())
        })
    };
    match picked.filter(is_there) {
        Some(picked) => Ok(picked),
        None => Err(path_instead(cx, verb, repo, unknown, &words[0])),
    }
}

/// Returns the paths that words name in a snapshot; a pattern names everything it matches.
fn covered(
    cx: &Context,
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    paths: &[OsString],
) -> Result<Vec<RootPath>, Error> {
    let repo = snapshots.repository();
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        if let (true, Some(pattern)) = (select::is_pattern(path), path.to_str()) {
            let found = select::matching(repo, snapshot, &cx.cwd, pattern)?;
            if !found.is_empty() {
                all.extend(found);
                continue;
            }
        }
        all.push(select::path(repo, snapshot, &cx.cwd, path)?);
    }
    Ok(all)
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

/// Returns the snapshot that has a path, for a user who typed one that the latest backup lacks.
fn path_instead(
    cx: &Context,
    verb: &str,
    repo: &Repository,
    failure: Failure,
    word: &OsStr,
) -> Failure {
    let known = newest_with(cx, repo, word);
    let word = shell_path(word.as_ref());
    let hint = match known {
        Some(id) => format!("the newest version of {word} is in {id}: bdr {verb} {id} {word}"),
        None => "which snapshots there are: bdr list".to_owned(),
    };
    match failure {
        Failure::Engine(error) | Failure::Hinted { error, .. } => Failure::Hinted { error, hint },
        other => other,
    }
}

/// Returns the newest snapshot that has a path.
fn newest_with(cx: &Context, repo: &Repository, word: &OsStr) -> Option<String> {
    let snapshots = repo.snapshots().ok()?;
    let versions = query::history(repo, &snapshots, &cx.cwd, word).ok()?;
    let newest = versions
        .iter()
        .rposition(|version| version.entry.is_some())?;
    Some(versions[newest].snapshot.prefix(&repo.snapshot_ids().ok()?))
}

/// Names the newest snapshot that has a path, if the chosen one does not.
pub(crate) fn newest_instead(
    cx: &Context,
    repo: &Repository,
    word: Option<&OsString>,
    command: &str,
    failure: Failure,
) -> Failure {
    failure.hinted(|error| {
        let word = word.filter(|_| matches!(error, Error::NoSuchPath { .. }))?;
        let snapshots = repo.all_snapshots().ok()?;
        let split = split(cx, &snapshots, word).map(|(_, path)| path);
        let word = split.unwrap_or_else(|| word.clone());
        let id = newest_with(cx, repo, &word)?;
        let word = crate::app::guard::shell_words(std::slice::from_ref(&word));
        Some(format!("bdr {command} {id} {word}"))
    })
}
