//! Finds what is below a root and how it differs from the state, as fast as the system lets.
//!
//! The walk compares while it walks: what is as the state knows it costs no memory. On Unix directories are read through handles by
//! several threads (`unix.rs`); elsewhere `walkdir` serves (`portable.rs`).

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

/// An object that is new, has changed, or may have.
#[derive(Debug, Clone)]
pub struct Dirty {
    /// Where.
    pub path: RepoPath,
    /// How it stands.
    pub stat: Stat,
    /// Its number in the state.
    pub prior: Option<u32>,
}

/// What a walk found.
#[derive(Default)]
pub struct Scan {
    /// The root is there.
    pub exists: bool,
    /// New, changed or racy, sorted by path.
    pub dirty: Vec<Dirty>,
    /// Topmost paths of the state that are gone, sorted.
    pub removed: Vec<RepoPath>,
    /// What the rules left out, sorted.
    pub left_out: Vec<LeftOut>,
    /// What could not be looked at; it counts as it was.
    pub problems: Vec<(RepoPath, Error)>,
    /// Regular files.
    pub files: u64,
    /// Their total size.
    pub bytes: u64,
    /// Sockets and devices.
    pub not_stored: u64,
    /// Directories on which another file system is mounted, and that were looked at.
    pub mounts: Vec<RepoPath>,
    /// Something of what the rules choose is there.
    pub found: bool,
    /// There were more files than allowed: the walk was given up.
    pub too_many: bool,
}

/// What a walk needs to know beside the root.
pub struct WalkOptions<'a> {
    /// Absolute paths that are never looked at.
    pub never: &'a [PathBuf],
    /// Give up beyond so many files.
    pub max_files: Option<u64>,
    /// A rebuildable tree that the state has is looked at even if it has grown since.
    pub keep_known: bool,
}

/// Walks a root.
///
/// # Errors
/// Its rules do not compile, or it is there but cannot be read.
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

/// Returns true if an object stands as the state knows it, and can be trusted to.
fn unchanged(state: &State, number: usize, stat: &Stat, started: i64) -> bool {
    let known = state.entry(number);
    if known.flags & DIRTY != 0 || !same_stat(&known.stat, stat) {
        return false;
    }
    stat.kind == crate::model::manifest::Kind::Dir || !is_racy(stat, started)
}

/// Returns those of `never` that lie below `root`, as paths below it.
fn never_below(root: &Path, never: &[PathBuf]) -> Vec<RepoPath> {
    never
        .iter()
        .filter_map(|path| RepoPath::below(root, path))
        .collect()
}
