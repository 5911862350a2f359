//! Where repository files are: of bounded size, written once, named by `/`-separated paths.
//!
//! The seam for remote storage and for tests that lose power. Names are bdr's own (ASCII, no `..`).
//!
//! A new storage is a file next to [`local`] that implements [`Storage`], and a line in [`choose`].
//! What only a local directory has (a path, staging areas, a lifeboat) is not part of the trait;
//! [`Storage::local`] leads to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::disk::fsutil::Sharing;
use crate::model::manifest::Time;

mod lifeboat;
mod local;
#[cfg(feature = "test-support")]
mod memory;
mod place;

pub use lifeboat::{About, Lifeboat, is_part, lifeboats_in};
pub use local::LocalStorage;
#[cfg(feature = "test-support")]
pub use memory::{CrashMode, MemoryStorage};
pub use place::{Place, Stands};

/// The largest file that is read into memory as a whole, in bytes: larger ones are read in pieces,
/// or are not bdr's.
pub const MAX_READ_BYTES: u64 = 64 << 20;

/// Returns the error for a file that is too large for its name.
pub fn too_large(bytes: u64) -> io::Error {
    let bytes = crate::base::units::size(bytes);
    let what = format!("it has {bytes}, more than any file of its kind");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a file of the storage in pieces.
pub struct Pieces<'a> {
    storage: &'a dyn Storage,
    name: &'a str,
    at: u64,
    end: u64,
}

impl<'a> Pieces<'a> {
    /// Starts with a range of a file.
    pub fn range(storage: &'a dyn Storage, name: &'a str, at: u64, bytes: u64) -> Self {
        let end = at.saturating_add(bytes);
        Self {
            storage,
            name,
            at,
            end,
        }
    }

    /// Starts with a whole file at its present size.
    ///
    /// # Errors
    /// It is missing.
    pub fn of(storage: &'a dyn Storage, name: &'a str) -> io::Result<Self> {
        let bytes = storage.size(name)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self::range(storage, name, 0, bytes))
    }

    pub fn left(&self) -> u64 {
        self.end - self.at
    }
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left()).map_or(buffer.len(), |n| n.min(buffer.len()));
        if length > 0 {
            self.storage
                .read_at(self.name, self.at, &mut buffer[..length])?;
            self.at += length as u64;
        }
        Ok(length)
    }
}

/// An entry in a directory of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Last component.
    pub name: String,
    /// Size in bytes; 0 for a directory.
    pub bytes: u64,
    pub is_dir: bool,
}

/// Size and time of a file: they stay the same while nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub bytes: u64,
    /// When it was last written to; `None` if unknown.
    pub time: Option<Time>,
}

pub trait Storage: Send + Sync {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It is missing, not a regular file, or cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// It is missing, too short, or cannot be read.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Returns the size of a file, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be determined.
    fn size(&self, name: &str) -> io::Result<Option<u64>>;

    /// Returns size and time of a file, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be determined.
    fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let bytes = self.size(name)?;
        Ok(bytes.map(|bytes| Look { bytes, time: None }))
    }

    /// Lists a directory; a missing one is empty.
    ///
    /// # Errors
    /// It cannot be read, which must never pass for empty.
    fn list(&self, dir: &str) -> io::Result<Vec<Listed>>;

    /// Returns the names in a directory, sorted: like [`Storage::list`] without asking for sizes.
    ///
    /// # Errors
    /// As [`Storage::list`].
    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.list(dir)?.into_iter().map(|l| l.name).collect())
    }

    /// Starts a new file that is not visible yet.
    ///
    /// # Errors
    /// The storage cannot be written.
    fn stage(&self) -> io::Result<Box<dyn Staged>>;

    /// Makes a staged file visible as `name`; content and name are durable when it returns.
    ///
    /// # Errors
    /// The device failed; then the file may or may not be visible.
    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()>;

    /// Makes staged files visible, in this order, each under its name; all of them are durable when
    /// it returns. Together they cost less than one by one.
    ///
    /// # Errors
    /// As [`Storage::publish`]; then the first ones may be visible without the others.
    fn publish_all(&self, files: Vec<(Box<dyn Staged>, &str)>) -> io::Result<()> {
        let mut files = files.into_iter();
        files.try_for_each(|(staged, name)| self.publish(staged, name))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing whatever has the new name. After a crash it has one of the two
    /// names.
    ///
    /// # Errors
    /// It is missing, or cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes files, durably when it returns; missing ones are fine.
    ///
    /// # Errors
    /// One cannot be removed; then some may be gone.
    fn remove_all(&self, names: &[String]) -> io::Result<()> {
        for name in names {
            match self.remove(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Replaces a missing or damaged file by another copy, if there is one that `is_whole`; durable
    /// when it returns true.
    ///
    /// # Errors
    /// The copy cannot be read, or the file cannot be written.
    fn heal(&self, name: &str, is_whole: &dyn Fn(&mut dyn io::Read) -> bool) -> io::Result<bool> {
        let _ = (name, is_whole);
        Ok(false)
    }

    /// Returns the names in a directory of which other copies exist, whether or not the files
    /// themselves do.
    fn copies(&self, dir: &str) -> Vec<String> {
        let _ = dir;
        Vec::new()
    }

    /// Takes a lock among all users of the storage, trying for up to `patience`; `None` if there
    /// are no locks.
    ///
    /// # Errors
    /// `WouldBlock` if others hold it all that time; anything else if locking fails.
    fn lock(&self, name: &str, sharing: Sharing, patience: Duration) -> io::Result<Option<Hold>> {
        let _ = (name, sharing, patience);
        Ok(None)
    }

    /// Returns the names of staged files that were never published and not written since `before`:
    /// a crash left them.
    ///
    /// # Errors
    /// They cannot be listed.
    fn abandoned(&self, before: Time) -> io::Result<Vec<String>> {
        let _ = before;
        Ok(Vec::new())
    }

    /// Creates the place for a new repository, if it needs one.
    ///
    /// # Errors
    /// It cannot be created.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Closes everything until the next request, so that the file system can be unmounted.
    fn let_go(&self) {}

    /// Returns the local directory, if it is one; `None` for every other storage.
    fn local(&self) -> Option<&LocalStorage> {
        None
    }
}

/// A lock of a storage, held until this is dropped.
pub struct Hold {
    _lock: Box<dyn Send + Sync>,
}

impl Hold {
    /// Wraps anything that releases the lock when dropped.
    pub fn new(lock: impl Send + Sync + 'static) -> Self {
        Self {
            _lock: Box::new(lock),
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// Returns the scheme of a place that is a URL, `scheme://…`. A single letter is a Windows drive,
/// not a scheme.
pub fn scheme(place: &Path) -> Option<&str> {
    let (scheme, _) = place.to_str()?.split_once("://")?;
    let is_scheme = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    is_scheme.then_some(scheme)
}

/// Returns the storage for a place, chosen by its scheme; without one it is a directory, which may
/// have a lifeboat.
///
/// # Errors
/// There is no storage for such URLs.
pub fn choose(place: &Path, lifeboat: Option<Lifeboat>) -> Result<Arc<dyn Storage>> {
    match scheme(place) {
        None => Ok(Arc::new(match lifeboat {
            Some(lifeboat) => LocalStorage::new(place).with_lifeboat(lifeboat),
            None => LocalStorage::new(place),
        })),
        #[cfg(feature = "test-support")]
        Some("memory") => Ok(Arc::new(MemoryStorage::new())),
        Some(scheme) => Err(Error::invalid(
            format!("bdr cannot keep a repository at `{scheme}://`"),
            Some("name a directory: --repository DIR"),
        )),
    }
}

pub trait Staged: Send {
    /// Appends.
    ///
    /// # Errors
    /// The disk is full or the device failed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Truncates it to `length` bytes.
    ///
    /// # Errors
    /// The device failed.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// For the storage that created it.
    fn as_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// Writes a whole small file durably.
///
/// # Errors
/// As [`Storage::publish`].
pub fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut staged = storage.stage()?;
    staged.write(bytes)?;
    storage.publish(staged, name)
}

/// Writes whole small files durably, which become visible in this order.
///
/// # Errors
/// As [`Storage::publish_all`].
pub fn put_all(storage: &dyn Storage, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let staged = files.iter().map(|(name, bytes)| {
        let mut staged = storage.stage()?;
        staged.write(bytes)?;
        Ok((staged, name.as_str()))
    });
    storage.publish_all(staged.collect::<io::Result<_>>()?)
}
