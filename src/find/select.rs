//! Names for snapshots and for paths in them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use globset::GlobBuilder;

use crate::base::error::{Error, Result};
use crate::base::id::SnapshotId;
use crate::base::path::{RepoPath, absolute, os_to_bytes, show};
use crate::disk::fsutil::canonicalize;
use crate::repo::oplog::RootPath;
use crate::repo::snapshot::{RootRecord, Snapshot, SnapshotKind};
use crate::repo::{Repository, Snapshots};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSpec {
    /// `latest`, `latest~2`: only backups.
    Latest(usize),
    /// `latest:any`: whatever took it.
    LatestAny,
    /// `latest:full`.
    LatestFull,
    /// An id, or the beginning of its random part.
    Id(String),
    /// The last one at or before a time.
    At {
        time: DateTime<Utc>,
        /// A snapshot that claims to be later than this is not believed.
        now: DateTime<Utc>,
    },
}

impl SnapshotSpec {
    /// Parses a name; anything else is taken for an id.
    pub fn parse(text: &str) -> Self {
        match text {
            "latest" => Self::Latest(0),
            "latest:any" => Self::LatestAny,
            "latest:full" => Self::LatestFull,
            _ => match text.strip_prefix("latest~").map(str::parse) {
                Some(Ok(back)) => Self::Latest(back),
                _ => Self::Id(text.to_owned()),
            },
        }
    }
}

impl std::fmt::Display for SnapshotSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest(0) => f.write_str("latest"),
            Self::Latest(back) => write!(f, "latest~{back}"),
            Self::LatestAny => f.write_str("latest:any"),
            Self::LatestFull => f.write_str("latest:full"),
            Self::Id(id) => f.write_str(id),
            Self::At { time, .. } => write!(f, "{}", time.to_rfc3339()),
        }
    }
}

/// Finds a snapshot.
///
/// # Errors
/// None matches, or an id is ambiguous.
pub fn snapshot<'a>(snapshots: &'a Snapshots<'_>, spec: &SnapshotSpec) -> Result<&'a Snapshot> {
    let missing = || Error::NoSuchSnapshot {
        spec: spec.to_string(),
    };
    match spec {
        SnapshotSpec::Latest(_) | SnapshotSpec::LatestAny | SnapshotSpec::LatestFull => {
            let (back, wanted): (usize, fn(&Snapshot) -> bool) = match spec {
                SnapshotSpec::Latest(back) => (*back, Snapshot::is_backup),
                SnapshotSpec::LatestFull => (0, |s| s.kind == SnapshotKind::Full),
                _ => (0, |_| true),
            };
            let found = nth_that(snapshots.each().rev(), back, wanted)?;
            // A missing one could be the right one.
            snapshots.check_missing(found, |_| true)?;
            found.ok_or_else(missing)
        }
        SnapshotSpec::At { time, now } => {
            let found = at_or_before(snapshots, *time, *now).next().transpose()?;
            snapshots.check_missing(found, |id| id.millis() <= time.timestamp_millis())?;
            found.ok_or_else(|| {
                let oldest = snapshots
                    .iter()
                    .map(|s| s.time)
                    .min()
                    .map(|t| format!("; the oldest is {}", t.format("%Y-%m-%d %H:%M UTC")))
                    .unwrap_or_default();
                Error::NoSnapshotBefore {
                    time: time.format("%Y-%m-%d %H:%M UTC").to_string(),
                    oldest,
                }
            })
        }
        SnapshotSpec::Id(text) => {
            let mut found = snapshots.ids();
            found.retain(|id| id.matches(text));
            match found[..] {
                [one] => snapshots.read(one)?.ok_or_else(missing),
                [] => Err(missing()),
                _ => Err(Error::Ambiguous {
                    spec: text.clone(),
                    candidates: found
                        .iter()
                        .map(|id| id.to_string().to_lowercase())
                        .collect::<Vec<_>>()
                        .join(", "),
                }),
            }
        }
    }
}

/// Returns the snapshots at or before a time, newest first.
///
/// A snapshot is not older than those before it, whatever the clock said when it was taken, so the
/// answer is never newer than requested. Snapshots from the future do not count for that, nor do
/// imported backups, which are as old as they say.
pub fn at_or_before<'a>(
    snapshots: &'a Snapshots<'_>,
    time: DateTime<Utc>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = Result<&'a Snapshot>> {
    let ids = snapshots.ids();
    // Ids never go backwards, so their times are in order unless a clock was once ahead.
    let ahead = ids
        .last()
        .is_some_and(|id| id.millis() > now.timestamp_millis());
    let mut latest = DateTime::<Utc>::MIN_UTC;
    let mut known: HashMap<SnapshotId, DateTime<Utc>> = HashMap::new();
    for snapshot in snapshots
        .iter()
        .filter(|s| ahead && is_of_here(s) && s.time <= now)
    {
        latest = latest.max(snapshot.time);
        known.insert(snapshot.id, latest);
    }
    let taken = move |snapshot: &Snapshot| -> DateTime<Utc> {
        if !is_of_here(snapshot) {
            return snapshot.time;
        }
        let of_id = DateTime::from_timestamp_millis(snapshot.id.millis());
        let at_least = match ahead {
            true => known.get(&snapshot.id).copied(),
            false => of_id,
        };
        at_least.map_or(snapshot.time, |at_least| snapshot.time.max(at_least))
    };
    let mut ids = ids.into_iter().rev();
    std::iter::from_fn(move || {
        for id in ids.by_ref() {
            match snapshots.read(id) {
                Ok(Some(snapshot)) if taken(snapshot) <= time => return Some(Ok(snapshot)),
                Ok(_) => {}
                // Snapshots newer than the requested time need not be read.
                Err(_) if !ahead && id.millis() > time.timestamp_millis() => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    })
}

fn is_of_here(snapshot: &Snapshot) -> bool {
    !snapshot
        .tags
        .iter()
        .any(|tag| tag == crate::repo::snapshot::IMPORTED)
}

/// A root taken from an older snapshot than requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Older {
    pub root: String,
    pub snapshot: SnapshotId,
    pub time: DateTime<Utc>,
}

/// Returns a snapshot with the roots of `wanted` that it lacks, or that did not exist when it was
/// taken, each from the newest earlier backup that has it; and says which. A root is wanted by its
/// name and, if known, its place.
///
/// # Errors
/// A record on the way cannot be read.
pub fn completed(
    snapshots: &Snapshots<'_>,
    first: &Snapshot,
    wanted: &[(String, Option<PathBuf>)],
) -> Result<(Snapshot, Vec<Older>)> {
    let mut whole = first.clone();
    let mut older = Vec::new();
    let fits = |record: &RootRecord, (name, path): &(String, Option<PathBuf>)| {
        let at = path
            .as_ref()
            .is_none_or(|path| record.path.as_path() == path);
        record.name == *name && at && record.base.is_some()
    };
    let mut missing: Vec<&(String, Option<PathBuf>)> = wanted
        .iter()
        .filter(|one| !whole.roots.iter().any(|record| fits(record, one)))
        .collect();
    for snapshot in snapshots.each().rev() {
        if missing.is_empty() {
            break;
        }
        let snapshot = snapshot?;
        if !snapshot.is_backup() || snapshot.order() >= first.order() {
            continue;
        }
        missing.retain(|one| {
            let Some(record) = snapshot.roots.iter().find(|record| fits(record, one)) else {
                return true;
            };
            whole.roots.retain(|record| record.name != one.0);
            whole.roots.push(record.clone());
            older.push(Older {
                root: one.0.clone(),
                snapshot: snapshot.id,
                time: snapshot.time,
            });
            false
        });
    }
    Ok((whole, older))
}

/// Returns the n-th that is `wanted`. An unreadable one before it could be the right one: then
/// there is no answer.
fn nth_that<'a>(
    snapshots: impl Iterator<Item = Result<&'a Snapshot>>,
    n: usize,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Result<Option<&'a Snapshot>> {
    let mut left = n;
    for snapshot in snapshots {
        let snapshot = snapshot?;
        if wanted(snapshot) {
            match left.checked_sub(1) {
                Some(less) => left = less,
                None => return Ok(Some(snapshot)),
            }
        }
    }
    Ok(None)
}

/// Returns what a typed path can mean, most likely first: absolute, relative to `cwd`, with its
/// directory free of symlinks.
fn meanings(cwd: &Path, text: &OsStr) -> Vec<PathBuf> {
    let plain = absolute(cwd, Path::new(text));
    let mut found = vec![plain.clone()];
    if let (Some(parent), Some(name)) = (plain.parent(), plain.file_name())
        && let Ok(parent) = canonicalize(parent)
    {
        found.push(parent.join(name));
    }
    found.dedup();
    found
}

/// Resolves the symlinks of a path. If part of it is gone, as far as existing links still lead,
/// because that is when somebody wants it back.
fn led_to(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // As many as the kernel follows.
    for _ in 0..40 {
        if let Ok(found) = canonicalize(&path) {
            return found;
        }
        let links: Vec<&Path> = path.ancestors().collect();
        let link = links.into_iter().rev().find(|link| link.is_symlink());
        let Some((link, target)) =
            link.and_then(|link| Some((link, std::fs::read_link(link).ok()?)))
        else {
            return path;
        };
        let from = link.parent().unwrap_or(Path::new("/"));
        let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
        path = absolute(from, &target.join(rest));
    }
    path
}

/// Finds the root, and the path below it, that `text` names in a snapshot: an absolute original
/// path, a path relative to `cwd`, or `SOURCE/relative`; the first of them that exists, or else the
/// first that is possible.
///
/// # Errors
/// No root of the snapshot covers it.
pub fn path(repo: &Repository, snapshot: &Snapshot, cwd: &Path, text: &OsStr) -> Result<RootPath> {
    let mut all = candidates(snapshot, cwd, text);
    if all.len() > 1 {
        let is_there = |one: &RootPath| {
            let root = snapshot.root(&one.root)?;
            let found = repo.listing_of(root, &|path| *path == one.path).ok()?;
            (one.path.is_root() || !found.is_empty()).then_some(())
        };
        let there = all.iter().position(|one| is_there(one).is_some());
        all.rotate_left(there.unwrap_or(0));
    }
    all.into_iter().next().ok_or_else(|| Error::NoSuchPath {
        path: show(text),
        place: format!("snapshot {}", snapshot.id.prefix(&[])),
    })
}

/// Returns true if a text contains wildcards.
pub fn is_pattern(text: &OsStr) -> bool {
    os_to_bytes(text)
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Returns the topmost paths of a snapshot that match a pattern, read as in a shell: below `cwd`
/// unless it is absolute, or as `SOURCE/pattern`, and `*` stays within a directory.
///
/// # Errors
/// It is not a valid pattern, or a listing is damaged.
pub fn matching(
    repo: &Repository,
    snapshot: &Snapshot,
    cwd: &Path,
    pattern: &str,
) -> Result<Vec<RootPath>> {
    let compiled = |pattern: &str| {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|error| {
            let message = format!("the pattern `{pattern}` is wrong: {}", error.kind());
            Error::invalid(message, None)
        })?;
        Ok::<_, Error>(glob.compile_matcher())
    };
    let is_absolute = Path::new(pattern).is_absolute();
    let place = crate::model::rules::glob_of(&cwd.to_string_lossy());
    let by_place = compiled(&match is_absolute {
        true => pattern.to_owned(),
        false => format!("{}/{pattern}", place.trim_end_matches('/')),
    })?;
    let by_source = compiled(pattern)?;
    let mut found: Vec<RootPath> = Vec::new();
    for root in &snapshot.roots {
        let from = found.len();
        let base = root.path.as_path();
        let fits = |path: &RepoPath| {
            let named = Path::new(&root.name.to_string()).join(path.to_path(Path::new("")));
            by_place.is_match(path.to_path(base)) || by_source.is_match(named)
        };
        for entry in repo.listing_of(root, &fits)? {
            let above = found[from..].last();
            if !above.is_some_and(|above| entry.path.starts_with(&above.path)) {
                found.push(RootPath {
                    root: root.name.clone(),
                    path: entry.path,
                });
            }
        }
    }
    Ok(found)
}

/// Returns all readings of `text` in a snapshot, deepest root first.
pub fn candidates(snapshot: &Snapshot, cwd: &Path, text: &OsStr) -> Vec<RootPath> {
    let mut found: Vec<(usize, RootPath)> = Vec::new();
    let mut all = meanings(cwd, text);
    // A source that is a symlink is captured at its target, and can be named by the link too.
    let covers = |path: &PathBuf| {
        let mut roots = snapshot.roots.iter();
        roots.any(|root| RepoPath::below(root.path.as_path(), path).is_some())
    };
    if !all.iter().any(covers) {
        all.push(led_to(&absolute(cwd, Path::new(text))));
    }
    for meaning in all {
        for root in &snapshot.roots {
            if let Some(path) = RepoPath::below(root.path.as_path(), &meaning) {
                let depth = root.path.as_path().components().count();
                found.push((
                    depth,
                    RootPath {
                        root: root.name.clone(),
                        path,
                    },
                ));
            }
        }
    }
    found.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    let mut found: Vec<RootPath> = found.into_iter().map(|(_, path)| path).collect();
    let bytes = os_to_bytes(text);
    for root in &snapshot.roots {
        let rest = match bytes.strip_prefix(root.name.as_bytes()) {
            Some(b"" | b"/") => Some(&b""[..]),
            Some([b'/', rest @ ..]) => Some(rest),
            _ => None,
        };
        if let Some(path) = rest.and_then(|rest| RepoPath::new(rest).ok()) {
            found.push(RootPath {
                root: root.name.clone(),
                path,
            });
        }
    }
    found
}
