//! The walk where there are no directory handles (Windows): `walkdir`, one thread, portable metadata.
//!
//! Two things are weaker than on Unix. There is no inode or ctime: size, mtime and attributes decide. And a directory entry's size and time are
//! stale while a writer keeps the file open, so files written lately are looked at through a handle of our own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walkdir::WalkDir;

use super::{Dirty, Scan, WalkOptions, never_below, unchanged};
use crate::error::{Error, Result};
use crate::fsutil::TEMPORARY_PREFIX;
use crate::fsutil::target::stat_of;
use crate::manifest::{Kind, Stat};
use crate::path::{RepoPath, os_to_bytes};
use crate::repo::snapshot::LeftOut;
use crate::repo::state::State;
use crate::rules::{Matcher, Root, Verdict};

/// A file written within this time may still be open, and its directory entry stale.
const RECENT: Duration = Duration::from_secs(3600);

/// A root and how to reach what is below it.
pub struct RootHandle {
    path: PathBuf,
}

impl RootHandle {
    /// Opens a root; `None` if it is not there.
    ///
    /// # Errors
    /// It is there but cannot be looked at.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(Some(Self {
                path: path.to_path_buf(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// Returns the absolute path of what lies at `path`.
    pub fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    /// Returns how the object at `path` stands; a symlink is not followed.
    ///
    /// # Errors
    /// It is not there any more, or cannot be looked at.
    pub fn stat(&self, path: &RepoPath) -> std::io::Result<Stat> {
        let path = self.absolute(path);
        let metadata = std::fs::symlink_metadata(&path)?;
        let recent = metadata
            .modified()
            .ok()
            .and_then(|t| t.elapsed().ok())
            .is_none_or(|age| age < RECENT);
        if metadata.is_file() && recent {
            return Ok(stat_of(&File::open(path)?.metadata()?));
        }
        Ok(stat_of(&metadata))
    }

    /// Opens a regular file; a symlink is not followed.
    ///
    /// # Errors
    /// It is gone, unreadable, or something else by now.
    pub fn open_file(&self, path: &RepoPath) -> std::io::Result<File> {
        let path = self.absolute(path);
        if !std::fs::symlink_metadata(&path)?.is_file() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "not a regular file",
            ));
        }
        File::open(path)
    }

    /// Returns how an open file stands.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stat_file(file: &File) -> std::io::Result<Stat> {
        Ok(stat_of(&file.metadata()?))
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// It is gone, or no symlink any more.
    pub fn read_link(&self, path: &RepoPath) -> std::io::Result<Vec<u8>> {
        let target = std::fs::read_link(self.absolute(path))?;
        Ok(os_to_bytes(target.as_os_str()).into_owned())
    }

    /// There are none here that a restore could bring back.
    pub fn xattrs(_file: &File) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    /// There are none here that a restore could bring back.
    pub fn dir_xattrs(&self, _path: &RepoPath) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

pub(super) fn walk(
    root: &Root,
    matcher: &Matcher,
    state: Option<&State>,
    options: &WalkOptions<'_>,
) -> Result<Scan> {
    let Some(handle) = RootHandle::open(&root.path)? else {
        let removed = if state.is_some() {
            vec![RepoPath::root()]
        } else {
            Vec::new()
        };
        return Ok(Scan {
            removed,
            ..Scan::default()
        });
    };
    let mut scan = Scan {
        exists: true,
        ..Scan::default()
    };
    let started = state.map_or(i64::MIN, |s| s.mirrors().started);
    let never = never_below(&root.path, options.never);
    let mut seen: std::collections::HashSet<RepoPath> = std::collections::HashSet::new();
    let mut walker = WalkDir::new(&root.path).sort_by_file_name().into_iter();
    while let Some(entry) = walker.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error
                    .path()
                    .and_then(|p| RepoPath::below(&root.path, p))
                    .unwrap_or_default();
                let gone = error
                    .io_error()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
                // What cannot be looked at counts as it was.
                seen.insert(path.clone());
                if !gone {
                    let source = error
                        .into_io_error()
                        .unwrap_or_else(|| std::io::Error::other("a loop"));
                    scan.problems.push((
                        path.clone(),
                        Error::io("read", handle.absolute(&path), source),
                    ));
                }
                continue;
            }
        };
        let Some(path) = RepoPath::below(&root.path, entry.path()) else {
            continue;
        };
        if path.name().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            continue;
        }
        let is_dir = entry.file_type().is_dir();
        match matcher.include(path.as_bytes()) {
            Verdict::Take => {}
            Verdict::OnTheWay if is_dir => {}
            _ => {
                if is_dir {
                    walker.skip_current_dir();
                }
                continue;
            }
        }
        if !path.is_root() {
            let parent = path.parent().unwrap_or_default();
            let siblings = |name: &[u8]| handle.stat(&parent.join(name)).is_ok();
            let mut reason = matcher.left_out(parent.as_bytes(), path.name(), is_dir, &siblings);
            if reason.is_none() && never.contains(&path) {
                reason = Some("bdr's own");
            }
            if let Some(reason) = reason {
                scan.left_out.push(LeftOut {
                    path,
                    reason: reason.to_owned(),
                });
                if is_dir {
                    walker.skip_current_dir();
                }
                continue;
            }
        }
        let stat = match handle.stat(&path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                seen.insert(path.clone());
                scan.problems.push((
                    path.clone(),
                    Error::io("read", handle.absolute(&path), error),
                ));
                continue;
            }
        };
        if stat.kind == Kind::File {
            scan.files += 1;
            scan.bytes += stat.size;
        }
        if options.max_files.is_some_and(|most| scan.files > most) {
            scan.too_many = true;
            return Ok(scan);
        }
        let prior = prior_of(state, &path);
        let same = match (state, prior) {
            (Some(state), Some(number)) => unchanged(state, number, &stat, started),
            _ => false,
        };
        seen.insert(path.clone());
        if !same {
            scan.dirty.push(Dirty {
                path,
                stat,
                prior: prior.map(|n| n as u32),
            });
        }
    }
    if let Some(state) = state {
        removed_since(state, &seen, &scan.problems, &mut scan.removed);
    }
    Ok(scan)
}

fn prior_of(state: Option<&State>, path: &RepoPath) -> Option<usize> {
    let state = state?;
    let Some(parent) = path.parent() else {
        return Some(0);
    };
    state
        .children(parent.as_bytes())?
        .find(|n| state.name(*n) == path.name())
}

/// Collects the topmost paths that the state has and the walk did not meet.
fn removed_since(
    state: &State,
    seen: &std::collections::HashSet<RepoPath>,
    problems: &[(RepoPath, Error)],
    removed: &mut Vec<RepoPath>,
) {
    for (dir, children) in state.directories() {
        let Ok(dir) = RepoPath::new(dir) else {
            continue;
        };
        let unknown = problems.iter().any(|(path, _)| dir.starts_with(path));
        if unknown || removed.iter().any(|r| dir.starts_with(r)) {
            continue;
        }
        removed.extend(
            children
                .map(|n| dir.join(state.name(n)))
                .filter(|path| !seen.contains(path)),
        );
    }
}
