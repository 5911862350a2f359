//! Directories held open. Work in one happens there, whatever its name refers to by then, and names
//! in it are never followed if they are symlinks.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{TEMPORARY_PREFIX, point};
use crate::model::manifest::Time;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as platform;
#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
use other as platform;

/// A directory held open; on Windows its path, which is checked each time.
#[derive(Debug)]
pub struct Dir(platform::Dir);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub is_dir: bool,
    pub is_file: bool,
    pub bytes: u64,
    pub mtime: Time,
}

/// Identifies a directory under any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

fn not_a_directory(name: &str) -> io::Error {
    let what = format!("`{name}` there is not a directory of the repository");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a regular file")
}

impl Dir {
    /// Opens a directory. A symlink to one is followed, because the caller named it.
    ///
    /// # Errors
    /// It does not exist, is something else, or cannot be reached.
    pub fn open(path: &Path) -> io::Result<Self> {
        platform::Dir::open(path).map(Self)
    }

    /// Opens a subdirectory.
    ///
    /// # Errors
    /// It does not exist, or is something else, even a symlink to a directory.
    pub fn dir(&self, name: &str) -> io::Result<Self> {
        self.0.dir(name).map(Self)
    }

    /// Creates a subdirectory for this user alone.
    ///
    /// # Errors
    /// The directory cannot be written, or the name is taken.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        point("mkdir")?;
        self.0.make_dir(name)
    }

    /// Opens a file for reading; also returns its size.
    ///
    /// # Errors
    /// It does not exist, or is not a regular file.
    pub fn file(&self, name: &str) -> io::Result<(File, u64)> {
        let file = self.0.file(name)?;
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, metadata.len())),
            false => Err(not_regular()),
        }
    }

    /// Opens a lock file, and creates it if it is missing.
    ///
    /// # Errors
    /// It can neither be created nor read.
    pub fn lock(&self, name: &str) -> io::Result<File> {
        match self.0.writable(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // On read-only media, a shared lock works on a file that can only be read.
            Err(_) => return self.0.file(name),
            opened => return opened,
        }
        match self.0.create(name, 0o600) {
            // Another process was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.0.writable(name),
            made => {
                let file = made?;
                // A umask may have removed rights of the owner.
                super::keep_owner_mode(&file, 0o600)?;
                Ok(file)
            }
        }
    }

    /// Returns what is at a name; `None` if nothing is.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn look(&self, name: &str) -> io::Result<Option<Found>> {
        match self.0.look(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the names in it that are valid text, in no order.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    /// Removes a name that is not a directory; a missing one counts as removed.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        point("unlink")?;
        match self.0.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Renames `name` to `new` in `to`, replacing whatever has that name.
    ///
    /// # Errors
    /// The system refuses.
    pub fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        point("rename")?;
        self.0.rename(name, &to.0, new)
    }

    /// Renames `name` to `new` in `to`, if nothing has that name.
    ///
    /// # Errors
    /// `AlreadyExists` if something has; otherwise the system refuses.
    pub fn rename_new(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        point("rename")?;
        self.0.rename_new(name, &to.0, new)
    }

    /// Creates a file with an unguessable name; returns both.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn temporary(&self, mode: u32) -> io::Result<(File, String)> {
        for _ in 0..16 {
            let name = temporary_name()?;
            point("create")?;
            match self.0.create(&name, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    let file = made?;
                    // A umask may have removed rights of the owner.
                    super::keep_owner_mode(&file, mode)?;
                    return Ok((file, name));
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Creates a hard link with an unguessable name in it; returns the name.
    ///
    /// # Errors
    /// The file is on another file system, or hard links are impossible.
    pub fn second_name(&self, file: &Path) -> io::Result<String> {
        let name = temporary_name()?;
        self.0.link(file, &name)?;
        Ok(name)
    }

    /// Hard-links a file of this directory elsewhere.
    ///
    /// # Errors
    /// The name is taken, is on another file system, or hard links are impossible.
    pub fn link_to(&self, name: &str, to: &Path) -> io::Result<()> {
        self.0.link_to(name, to)
    }

    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.0.set_mode(mode)
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// The device failed. File systems that cannot sync a directory (some network ones) are
    /// trusted.
    pub fn sync(&self) -> io::Result<()> {
        point("fsync-dir")?;
        match self.0.sync() {
            // EINVAL, ENOTSUP: see `sync_dir`.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Returns its identity.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn identity(&self) -> io::Result<Identity> {
        self.0.identity()
    }

    /// Returns its identity if it is this user's and open to nobody else.
    pub fn private(&self) -> Option<Identity> {
        self.0.private().ok().flatten()
    }

    /// Removes a subdirectory with everything below, if it is `meant`. Symlinks are removed, never
    /// followed.
    ///
    /// # Errors
    /// It is another one by now, or something in it cannot be removed.
    pub fn remove_tree(&self, name: &std::ffi::OsStr, meant: Identity) -> io::Result<()> {
        self.0.remove_tree(name, meant)
    }

    /// As [`Dir::dir`], for a name that need not be text.
    ///
    /// # Errors
    /// As [`Dir::dir`].
    pub fn child(&self, name: &std::ffi::OsStr) -> io::Result<Self> {
        self.0.child(name).map(Self)
    }
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{TEMPORARY_PREFIX}{}", hex::encode(random)))
}
