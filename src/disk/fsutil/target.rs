//! Writes files back: below an open directory, never through a symlink, each under its final name
//! only when it is complete.
//!
//! Content goes to a temporary file in the same directory, metadata is set on the open file, then
//! it is renamed into place. A symlink or hard link at the name is replaced, not written through.

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::model::manifest::{Body, Entry, Kind, Stat, Time};

#[cfg(unix)]
mod sink;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::Target;
#[cfg(any(not(unix), test))]
mod names;
#[cfg(not(unix))]
mod portable;
#[cfg(not(unix))]
pub use portable::Target;
#[cfg(not(unix))]
mod replace;

/// How much of an entry's metadata to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// All of it: the object returns to its place.
    InPlace,
    /// Another place: no set-user-id and set-group-id on files, no labels of `security.*` and
    /// `trusted.*`.
    Elsewhere,
}

/// Fills a file by passing pieces to the sink.
pub type Fill<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a;

/// Writes a file that does not exist yet, reached from `above` without following a symlink; creates
/// missing directories.
///
/// # Errors
/// The name is taken, a symlink is in the way, or the system refused.
pub fn write_beneath(above: &Path, path: &RepoPath, bytes: &[u8], now: Time) -> Result<()> {
    let mut target = Target::open(above, Fidelity::Elsewhere)?;
    if target.stat(path)?.is_some() {
        let there = std::io::ErrorKind::AlreadyExists.into();
        return Err(Error::io("write", path.to_path(above), there));
    }
    let (uid, gid) = super::user_and_group();
    let entry = Entry {
        path: path.clone(),
        kind: Kind::File,
        mode: 0o600,
        mtime: now,
        uid,
        gid,
        size: bytes.len() as u64,
        body: Body::default(),
    };
    target.write(path, &entry, true, &mut |sink| sink(bytes))?;
    target.sync_dir(&path.parent().unwrap_or_default())
}

/// Returns the nearest existing directory at or above `path`, and the rest of the path below it.
pub fn existing_base(path: &Path) -> Option<(std::path::PathBuf, RepoPath)> {
    let mut base = path;
    loop {
        if base.is_dir() {
            return Some((base.to_path_buf(), RepoPath::below(base, path)?));
        }
        base = base.parent()?;
    }
}

/// Returns true if a path is still as a plan saw it.
pub fn still_stands(seen: Option<&Stat>, now: Option<&Stat>) -> bool {
    match (seen, now) {
        (None, None) => true,
        // The work itself changes directories.
        (Some(a), Some(b)) if a.kind == crate::model::manifest::Kind::Dir => b.kind == a.kind,
        // Removing or restoring one name of a file changes ctime and link count of the others.
        (Some(a), Some(b)) if a.links > 1 || b.links > 1 => {
            (a.kind, a.mode, a.size, a.mtime) == (b.kind, b.mode, b.size, b.mtime)
                && (a.inode, a.device) == (b.inode, b.device)
        }
        (Some(a), Some(b)) => crate::model::manifest::same_identity(a, b),
        _ => false,
    }
}

/// Returns what [`still_stands`] compares, as bytes for a digest.
pub fn standing(seen: &Stat) -> Vec<u8> {
    let kept = match (seen.kind, seen.links) {
        (crate::model::manifest::Kind::Dir, _) => None,
        (_, links) => {
            let ctime = (links <= 1).then_some(seen.ctime);
            Some((
                seen.mode,
                seen.size,
                seen.mtime,
                ctime,
                seen.inode,
                seen.device,
            ))
        }
    };
    format!("{:?} {kept:?}", seen.kind).into_bytes()
}

fn mode_of(entry: &Entry, fidelity: Fidelity) -> u32 {
    match fidelity {
        Fidelity::InPlace => entry.mode & 0o7777,
        // On a directory these bits decide who shares what is created in it; they give nobody
        // privileges.
        Fidelity::Elsewhere if entry.kind == Kind::Dir => entry.mode & 0o7777,
        Fidelity::Elsewhere => entry.mode & 0o1777,
    }
}
