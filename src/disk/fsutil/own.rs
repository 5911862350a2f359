//! Directories that bdr may remove with everything in them because it made them itself; the type is
//! the proof.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::dir::{Dir, Identity};
use super::is_private_dir;
use crate::base::error::{IoContext as _, Result};

/// Proof that a directory and everything in it is bdr's own. A path from a record is not enough to
/// get one.
#[derive(Debug)]
pub struct OwnTree {
    path: PathBuf,
    /// The directory above, and the identity of this one: by the time of the removal, something
    /// else may be there.
    held: Option<(Dir, Identity)>,
}

impl OwnTree {
    /// Creates a directory for this user alone.
    ///
    /// # Errors
    /// Something exists there, or it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        super::point("mkdir").context("create", path)?;
        super::make_dir(path, 0o700).context("create", path)?;
        super::ensure_mode(path, 0o700).context("create", path)?;
        Ok(Self::at(path))
    }

    /// Takes a directory that was just created under a unique name.
    pub fn made(dir: &tempfile::TempDir) -> Self {
        Self::at(dir.path())
    }

    /// Takes what an earlier run made as `name` in one of bdr's own places; `None` if it, or the
    /// place, is a symlink, somebody else's, or open to others.
    pub fn left_in(place: &Path, name: &OsStr) -> Option<Self> {
        let path = place.join(name);
        let is_child = path.parent() == Some(place) && path.file_name() == Some(name);
        if !is_child || !is_private_dir(place) {
            return None;
        }
        let place = Dir::open(place).ok()?;
        place.private()?;
        let id = place.child(name).ok()?.private()?;
        let held = Some((place, id));
        Some(Self { path, held })
    }

    /// Takes what was made a moment ago.
    fn at(path: &Path) -> Self {
        let held = || {
            let place = Dir::open(path.parent()?).ok()?;
            let id = place.child(path.file_name()?).ok()?.identity().ok()?;
            Some((place, id))
        };
        Self {
            held: held(),
            path: path.to_path_buf(),
        }
    }

    /// Takes an area that names the set it contains ([`super::area::OwnArea`]).
    pub(super) fn area(dir: &Path, held: Option<(Dir, Identity)>) -> Self {
        let path = dir.to_path_buf();
        Self { path, held }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it. Symlinks are removed, never followed.
    ///
    /// # Errors
    /// It cannot be found any more, or something in it cannot be removed.
    pub fn remove(self) -> Result<()> {
        match (&self.held, self.path.file_name()) {
            (Some((place, id)), Some(name)) => place.remove_tree(name, *id),
            _ => fs::remove_dir_all(&self.path),
        }
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .context("remove", &self.path)
    }
}

/// Removes a directory if it is empty.
pub fn remove_empty_dir(dir: &Path) {
    let _ = fs::remove_dir(dir);
}

/// Removes what bdr has made in its own directory: every name that `owns` knows, `last` at the end,
/// and the directory itself if nothing else is in it. Symlinks are removed, never followed. Returns
/// the names that stay.
///
/// The caller has made sure that the directory is bdr's. `last` is what proves that, so that the
/// rest can still be removed after a crash.
///
/// # Errors
/// The directory or something in it cannot be read or removed.
pub fn clear(dir: &Path, owns: &dyn Fn(&str) -> bool, last: &str) -> Result<Vec<String>> {
    let held = match Dir::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        held => held.context("read", dir)?,
    };
    // It may be closed against a stray `rm -r`. If changing the mode fails, the removal reports
    // what is wrong.
    let _ = held.set_mode(0o700);
    let (mut own, stays): (Vec<String>, Vec<String>) = held
        .names()
        .context("read", dir)?
        .into_iter()
        .partition(|name| owns(name) || super::is_temporary_name(name.as_bytes()));
    own.sort_by_key(|name| name == last);
    for name in own {
        let path = dir.join(&name);
        match held.child(OsStr::new(&name)) {
            Ok(child) => {
                let id = child.identity().context("read", &path)?;
                drop(child);
                held.remove_tree(OsStr::new(&name), id)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A file, or a symlink.
            Err(_) => held.remove_file(&name),
        }
        .context("remove", &path)?;
    }
    drop(held);
    remove_empty_dir(dir);
    Ok(stays)
}
