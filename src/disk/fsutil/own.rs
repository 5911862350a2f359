//! What bdr may remove with everything in it: directories that it made for itself, shown by a proof that cannot be had otherwise.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{is_private_dir, set_dir_mode};
use crate::base::error::{Error, IoContext as _, Result};

/// Proof that a directory is bdr's own, with everything in it. No path that a record tells makes one.
#[derive(Debug)]
pub struct OwnTree(PathBuf);

impl OwnTree {
    /// Makes a new directory for this user alone.
    ///
    /// # Errors
    /// Something is there already, or it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        super::point("mkdir").context("create", path)?;
        super::make_dir(path, 0o700).context("create", path)?;
        super::ensure_mode(path, 0o700).context("create", path)?;
        Ok(Self(path.to_path_buf()))
    }

    /// Takes a directory that was just made under a name of its own.
    pub fn made(dir: &tempfile::TempDir) -> Self {
        Self(dir.path().to_path_buf())
    }

    /// Takes what an earlier run made as `name` in a place of bdr's own; `None` if it, or the place, is a link, somebody else's, or open to others.
    pub fn left_in(place: &Path, name: &OsStr) -> Option<Self> {
        let dir = place.join(name);
        let is_child = dir.parent() == Some(place) && dir.file_name() == Some(name);
        (is_child && is_private_dir(place) && is_private_dir(&dir)).then_some(Self(dir))
    }

    /// Takes an area that says of itself which set it holds ([`super::area::OwnArea`]).
    pub(super) fn area(dir: &Path) -> Self {
        Self(dir.to_path_buf())
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it, with everything in it. Links in it are removed, never followed.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove(self) -> Result<()> {
        let removed = match fs::remove_dir_all(&self.0) {
            // What was restored there may be closed: directories without the right to write, or even to look.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_tree(&self.0);
                fs::remove_dir_all(&self.0)
            }
            other => other,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", self.0, error))
            }
            _ => Ok(()),
        }
    }
}

/// Opens every directory of a tree to its owner, as far as that can be done: what cannot shows when it is removed.
fn open_tree(dir: &Path) {
    let _ = set_dir_mode(dir, 0o700);
    for entry in super::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_tree(&entry.path());
        }
    }
}

/// Removes a directory that holds nothing; one that does stays.
pub fn remove_empty_dir(dir: &Path) {
    let _ = fs::remove_dir(dir);
}
