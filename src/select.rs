//! Names for snapshots and for paths in them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::fsutil::canonicalize;
use crate::path::{RepoPath, absolute, os_to_bytes, show};
use crate::repo::Snapshots;
use crate::repo::oplog::RootPath;
use crate::repo::snapshot::{Snapshot, SnapshotKind};

/// How a snapshot is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSpec {
    /// `latest`, `latest~2`.
    Latest(usize),
    /// `latest:full`.
    LatestFull,
    /// An id, or the beginning of its random part.
    Id(String),
    /// The last one at or before a moment.
    At(DateTime<Utc>),
}

impl SnapshotSpec {
    /// Reads a name; what is no other name is taken for an id.
    pub fn parse(text: &str) -> Self {
        match text {
            "latest" => Self::Latest(0),
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
            Self::LatestFull => f.write_str("latest:full"),
            Self::Id(id) => f.write_str(id),
            Self::At(time) => write!(f, "{}", time.to_rfc3339()),
        }
    }
}

/// Finds a snapshot.
///
/// # Errors
/// None fits, or an id is ambiguous.
pub fn snapshot<'a>(snapshots: &'a Snapshots<'_>, spec: &SnapshotSpec) -> Result<&'a Snapshot> {
    let missing = || Error::NoSuchSnapshot {
        spec: spec.to_string(),
    };
    match spec {
        SnapshotSpec::Latest(back) => {
            nth_that(snapshots.each().rev(), *back, |_| true)?.ok_or_else(missing)
        }
        SnapshotSpec::LatestFull => {
            nth_that(snapshots.each().rev(), 0, |s| s.kind == SnapshotKind::Full)?
                .ok_or_else(missing)
        }
        SnapshotSpec::At(time) => {
            let found = nth_that(snapshots.each().rev(), 0, |s| s.time <= *time)?;
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

/// Returns the n-th that is `wanted`. One that cannot be read on the way there could be the one: then there is no answer.
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

/// Returns the ways in which a typed path can be meant, the likeliest first: absolute, relative to `cwd`, with its directory free of symlinks.
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

/// Finds the root, and the path below it, that `text` names in a snapshot: an absolute original path, a path relative to `cwd`, or
/// `SOURCE/relative`. The path need not be in the snapshot.
///
/// # Errors
/// No root of the snapshot covers it.
pub fn path(snapshot: &Snapshot, cwd: &Path, text: &OsStr) -> Result<RootPath> {
    candidates(snapshot, cwd, text)
        .into_iter()
        .next()
        .ok_or_else(|| Error::NoSuchPath {
            path: show(text),
            place: format!("snapshot {}", snapshot.id.prefix(&[])),
        })
}

/// Returns all readings of `text` in a snapshot, the deepest root first.
pub fn candidates(snapshot: &Snapshot, cwd: &Path, text: &OsStr) -> Vec<RootPath> {
    let mut found: Vec<(usize, RootPath)> = Vec::new();
    for meaning in meanings(cwd, text) {
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
