//! Finds what is below a root and how it differs from the state, as fast as the system allows.
//!
//! It compares during the walk, so unchanged objects cost no memory. On Unix several threads read
//! directories through handles (`unix.rs`); elsewhere `walkdir` is used (`portable.rs`).

use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::model::rules::{Matcher, Root};
use crate::repo::snapshot::LeftOut;
use crate::repo::state::{DIRTY, Stat, State, is_racy, same_stat};

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::RootHandle;
#[cfg(unix)]
pub use unix::RootHandle;

/// Extended attributes: names and values, sorted.
pub type Xattrs = Vec<(String, Vec<u8>)>;

/// An object that is new, has changed, or may have changed.
#[derive(Debug, Clone)]
pub struct Dirty {
    pub path: RepoPath,
    pub stat: Stat,
    /// Its number in the state.
    pub prior: Option<u32>,
}

#[derive(Default)]
pub struct Scan {
    /// The root exists.
    pub exists: bool,
    /// New, changed or racy objects, sorted by path.
    pub dirty: Vec<Dirty>,
    /// Paths of the state that are gone, sorted; only the topmost of each tree.
    pub removed: Vec<RepoPath>,
    /// What the rules left out, sorted.
    pub left_out: Vec<LeftOut>,
    /// What could not be read; it counts as unchanged.
    pub problems: Vec<(RepoPath, Error)>,
    pub files: u64,
    pub bytes: u64,
    /// Sockets and devices.
    pub not_stored: u64,
    /// Directories on which another file system is mounted, and that were walked.
    pub mounts: Vec<RepoPath>,
    /// The rules choose something that exists.
    pub found: bool,
    /// There were more files than allowed, so the walk stopped.
    pub too_many: bool,
}

pub struct WalkOptions<'a> {
    /// Absolute paths that are never read.
    pub never: &'a [PathBuf],
    /// Stop after this many files.
    pub max_files: Option<u64>,
    /// Walk a rebuildable tree that the state has, even if it has grown since.
    pub keep_known: bool,
}

/// Walks a root.
///
/// # Errors
/// Its rules do not compile, or it exists but cannot be read.
pub fn walk(root: &Root, state: Option<&State>, options: &WalkOptions<'_>) -> Result<Scan> {
    let matcher = Matcher::new(&root.rules)?;
    #[cfg(unix)]
    let mut scan = unix::walk(root, &matcher, state, options)?;
    #[cfg(not(unix))]
    let mut scan = portable::walk(root, &matcher, state, options)?;
    scan.dirty.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    scan.removed.sort_unstable();
    scan.left_out.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(scan)
}

/// Returns true if an object equals the state and that can be trusted.
fn unchanged(state: &State, number: usize, stat: &Stat, started: i64) -> bool {
    let known = state.entry(number);
    if known.flags & DIRTY != 0 || !same_stat(&known.stat, stat) {
        return false;
    }
    stat.kind == crate::model::manifest::Kind::Dir || !is_racy(stat, started)
}

/// Returns the paths of `never` below `root`, relative to it.
fn never_below(root: &Path, never: &[PathBuf]) -> Vec<RepoPath> {
    never
        .iter()
        .filter_map(|path| RepoPath::below(root, path))
        .collect()
}
