//! Replaces and removes by path, where symlinks to directories and a read-only attribute are in the
//! way (Windows).
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::io;
use std::path::Path;

use crate::base::error::{IoContext as _, Result};
use crate::disk::fsutil::{self, is_dir_link};

/// Gives a temporary file its final name, or removes it if it could not be made.
pub(super) fn settle(temporary: &Path, absolute: &Path, made: Result<()>) -> Result<()> {
    let settled = made.and_then(|()| replace(temporary, absolute).context("write", absolute));
    // Also after success: renaming one name of a file over another name of it may do nothing.
    let _ = remove_object(temporary);
    settled
}

/// Renames over any object at `absolute`, unless it is a directory.
fn replace(temporary: &Path, absolute: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(absolute) {
        Ok(old) if old.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(old) => {
            // The system renames neither a symlink to a directory over anything, nor anything over
            // one.
            let new = std::fs::symlink_metadata(temporary)?;
            if is_dir_link(&old) || is_dir_link(&new) {
                remove_object(absolute)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    insist(absolute, || fsutil::rename(temporary, absolute))
}

/// Removes a file or link, whatever its target.
pub(super) fn remove_object(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    insist(path, || {
        if is_dir_link(&metadata) {
            std::fs::remove_dir(path)
        } else {
            std::fs::remove_file(path)
        }
    })
}

/// Retries without the read-only attribute of `path` if that was in the way; a restore may replace
/// read-only files.
///
/// Not at once, because all names of a file share the attribute, and the others should keep it.
pub(super) fn insist(path: &Path, step: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let denied = match step() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        other => return other,
    };
    let metadata = std::fs::symlink_metadata(path);
    if !metadata.is_ok_and(|m| !m.is_symlink() && m.permissions().readonly()) {
        return Err(denied);
    }
    fsutil::set_mode(path, 0o600)?;
    let again = step();
    if again.is_err() {
        let _ = fsutil::set_mode(path, 0o400);
    }
    again
}
