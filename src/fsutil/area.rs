//! Staging areas: directories that hold files as they were, by number, without their bytes having been read.
//!
//! A file gets there by a second name (its bytes cannot be deleted then, only written to), or as a clone that shares its blocks until
//! one of the two is written (btrfs, XFS, APFS). Both need the same file system and no space of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as platform;
#[cfg(unix)]
pub use unix::Source;
#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
use other as platform;
#[cfg(not(unix))]
pub use other::Source;

/// Files to a subdirectory: some file systems are slow in larger ones.
const PER_SHARD: u32 = 1024;

/// A staging area that is being filled.
pub struct Area {
    dir: PathBuf,
    shard: Option<(u32, platform::Dir)>,
}

fn shard_of(dir: &Path, number: u32) -> PathBuf {
    dir.join((number / PER_SHARD).to_string())
}

/// Returns where a file of an area lies.
pub fn file_in(dir: &Path, number: u32) -> PathBuf {
    shard_of(dir, number).join((number % PER_SHARD).to_string())
}

impl Area {
    /// Makes a new one.
    ///
    /// # Errors
    /// Its parent cannot be written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        super::create_dir_private(dir).map_err(io::Error::other)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            shard: None,
        })
    }

    fn shard(&mut self, number: u32) -> io::Result<&platform::Dir> {
        let wanted = number / PER_SHARD;
        if self.shard.as_ref().is_none_or(|(open, _)| *open != wanted) {
            let path = shard_of(&self.dir, number);
            super::point("mkdir")?;
            match super::make_dir(&path, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            self.shard = Some((wanted, platform::Dir::open(&path)?));
        }
        match &self.shard {
            Some((_, dir)) => Ok(dir),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Gives a file a second name here, which is not durable yet.
    ///
    /// # Errors
    /// It lies on another file system, or links to it are not allowed.
    pub fn link(&mut self, source: &Source<'_>, number: u32) -> io::Result<()> {
        super::point("link")?;
        let name = (number % PER_SHARD).to_string();
        self.shard(number)?.link(source, &name)
    }

    /// Makes a clone of a file, which is not durable yet.
    ///
    /// # Errors
    /// The file system has no clones, or the file lies on another.
    pub fn clone_file(&mut self, file: &File, number: u32) -> io::Result<()> {
        super::point("clone")?;
        let name = (number % PER_SHARD).to_string();
        let made = self.shard(number)?.clone_file(file, &name);
        if made.is_err() {
            self.forget(number);
        }
        made
    }

    /// Takes a file out again.
    pub fn forget(&self, number: u32) {
        let _ = fs::remove_file(file_in(&self.dir, number));
    }

    /// Makes the names of the first `count` files durable; the clones too.
    ///
    /// # Errors
    /// The device failed.
    pub fn sync(&self, count: u32, clones: bool) -> io::Result<()> {
        if clones {
            for number in 0..count {
                super::point("fsync")?;
                File::open(file_in(&self.dir, number))?.sync_all()?;
            }
        }
        for first in (0..count).step_by(PER_SHARD as usize) {
            super::sync_dir(&shard_of(&self.dir, first))?;
        }
        super::sync_dir(&self.dir)
    }
}
