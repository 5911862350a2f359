//! Where repository files live: bounded files, written once, named by `/`-separated paths.
//!
//! The seam for remote storage and for tests that lose power. Names are bdr's own (ASCII, no `..`).
//!
//! Another storage is a file beside [`local`] that implements [`Storage`], and a line in [`choose`]. What only a directory of this machine
//! has (a path, staging areas, a lifeboat) is no part of the trait: [`Storage::local`] leads to it.

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

/// The largest file that is read into memory as a whole: what is larger is read in pieces, or is none of bdr's.
pub const MAX_READ_BYTES: u64 = 64 << 20;

/// Says that a file is too large to be what its name says.
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
    /// Begins with a range of a file.
    pub fn range(storage: &'a dyn Storage, name: &'a str, at: u64, bytes: u64) -> Self {
        let end = at.saturating_add(bytes);
        Self {
            storage,
            name,
            at,
            end,
        }
    }

    /// Begins with the whole of a file, as it is now.
    ///
    /// # Errors
    /// It is missing.
    pub fn of(storage: &'a dyn Storage, name: &'a str) -> io::Result<Self> {
        let bytes = storage.size(name)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self::range(storage, name, 0, bytes))
    }

    /// Returns how many bytes are left.
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

/// A name found in a directory of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Last component.
    pub name: String,
    /// Size in bytes; 0 for a directory.
    pub bytes: u64,
    /// It is a directory.
    pub is_dir: bool,
}

/// How a file looks from outside: it stays so while nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last written to; `None` where that is not known.
    pub time: Option<Time>,
}

/// Keeps repository files.
pub trait Storage: Send + Sync {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It is missing, no regular file, or cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// It is missing, shorter, or cannot be read.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Returns the size of a file, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be determined.
    fn size(&self, name: &str) -> io::Result<Option<u64>>;

    /// Returns how a file looks from outside, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be determined.
    fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let bytes = self.size(name)?;
        Ok(bytes.map(|bytes| Look { bytes, time: None }))
    }

    /// Lists a directory; one that does not exist is empty.
    ///
    /// # Errors
    /// It cannot be read: never to be taken for empty.
    fn list(&self, dir: &str) -> io::Result<Vec<Listed>>;

    /// Returns the names in a directory, sorted: what [`Storage::list`] finds, without asking for sizes.
    ///
    /// # Errors
    /// As [`Storage::list`].
    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.list(dir)?.into_iter().map(|l| l.name).collect())
    }

    /// Begins a new file that is not visible yet.
    ///
    /// # Errors
    /// The storage cannot be written.
    fn stage(&self) -> io::Result<Box<dyn Staged>>;

    /// Makes a staged file visible under `name`; content and name are durable when it returns.
    ///
    /// # Errors
    /// The device failed; the file may or may not be visible then.
    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name; whatever had that name is replaced. After a crash it has one of the two.
    ///
    /// # Errors
    /// It is missing, or cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes files, durably when it returns; those that are not there are fine.
    ///
    /// # Errors
    /// One cannot be removed; some may be gone then.
    fn remove_all(&self, names: &[String]) -> io::Result<()> {
        for name in names {
            match self.remove(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Puts another copy of a file in place of one that is missing or damaged, if there is one that `is_whole`; durable when it returns true.
    ///
    /// # Errors
    /// The copy cannot be read, or the file cannot be written.
    fn heal(&self, name: &str, is_whole: &dyn Fn(&mut dyn io::Read) -> bool) -> io::Result<bool> {
        let _ = (name, is_whole);
        Ok(false)
    }

    /// Returns the names of files in a directory that other copies are kept of, whether or not the files are there.
    fn copies(&self, dir: &str) -> Vec<String> {
        let _ = dir;
        Vec::new()
    }

    /// Takes a lock between all who use the storage, trying for up to `patience`; `None` where there are no locks.
    ///
    /// # Errors
    /// `WouldBlock` if others hold it all that time; anything else if there is no getting it.
    fn lock(&self, name: &str, sharing: Sharing, patience: Duration) -> io::Result<Option<Hold>> {
        let _ = (name, sharing, patience);
        Ok(None)
    }

    /// Returns the names of files that were staged, never published, and last written to before `before`: a crash left them.
    ///
    /// # Errors
    /// They cannot be listed.
    fn abandoned(&self, before: Time) -> io::Result<Vec<String>> {
        let _ = before;
        Ok(Vec::new())
    }

    /// Makes the place that a new repository is put into, if there has to be one.
    ///
    /// # Errors
    /// It cannot be made.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Holds nothing open any more, for as long as nothing is asked of it: a file system that it lies on can be unmounted then.
    fn let_go(&self) {}

    /// Returns it as what it is if it is a directory of this machine; no other storage has anything to say here.
    fn local(&self) -> Option<&LocalStorage> {
        None
    }
}

/// A lock of a storage, held until this is dropped.
pub struct Hold {
    _lock: Box<dyn Send + Sync>,
}

impl Hold {
    /// Wraps whatever releases the lock when it is dropped.
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

/// Returns the scheme of a place that is written as a URL, `scheme://…`. One letter is a Windows drive, not a scheme.
pub fn scheme(place: &Path) -> Option<&str> {
    let (scheme, _) = place.to_str()?.split_once("://")?;
    let is_scheme = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    is_scheme.then_some(scheme)
}

/// Returns the storage for a place, chosen by its scheme: without one it is a directory, which may have a lifeboat.
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

/// A file being written.
pub trait Staged: Send {
    /// Appends.
    ///
    /// # Errors
    /// The disk is full or the device failed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it back to `length` bytes.
    ///
    /// # Errors
    /// The device failed.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// For the storage that made it.
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
