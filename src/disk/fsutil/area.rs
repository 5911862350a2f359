//! Staging areas: directories that keep files by number without reading their bytes.
//!
//! A file gets there by a hard link (then its bytes cannot be deleted, only written to), or as a
//! clone that shares its blocks until one of the two is written (btrfs, XFS, APFS). Both work only
//! within one file system and take no space of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Lock, Sharing};
use crate::base::id::Id;

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

/// Files per subdirectory: some file systems are slow with larger ones.
const PER_SHARD: u32 = 1024;

/// The file in an area that says which set of which repository it contains.
const OWNER: &str = "owner";

/// What [`Area::part`] did.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parted {
    /// It has no other name.
    Alone,
    TooLarge,
    /// It is a copy of so many bytes now.
    Done(u64),
}

/// A staging area being filled.
pub struct Area {
    dir: PathBuf,
    shard: Option<(u32, platform::Dir)>,
}

fn shard_of(dir: &Path, number: u32) -> PathBuf {
    dir.join((number / PER_SHARD).to_string())
}

fn file_in(dir: &Path, number: u32) -> PathBuf {
    shard_of(dir, number).join((number % PER_SHARD).to_string())
}

/// An area that is bdr's own: it and the directory above belong to this user and are closed to
/// everyone else, no symlink leads there, and it names the set for which it is opened. Nothing is
/// read from, or removed with, any other.
#[derive(Debug)]
pub struct OwnArea {
    dir: PathBuf,
    held: platform::Held,
}

impl OwnArea {
    /// Opens an area for the set that `owner` names. Areas from before the owner file existed count
    /// if they are in `places`, or where every user's areas are ([`super::AREA_NAME`]).
    ///
    /// # Errors
    /// `NotFound` if it does not exist. Otherwise it is not bdr's own, or not for this set.
    pub fn open(dir: &Path, owner: &str, places: &[PathBuf]) -> io::Result<Self> {
        let strange = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let (Some(place), Some(_)) = (dir.parent(), dir.file_name()) else {
            return Err(strange("a staging area cannot have such a path"));
        };
        let held = platform::Held::open(dir)?;
        match held.read(OWNER) {
            Ok(text) if text == owner.as_bytes() => {}
            Ok(_) => return Err(strange("the staging area there belongs to another set")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let known = places.iter().any(|known| known == place)
                    || place.file_name() == Some(super::AREA_NAME.as_ref());
                if !known {
                    return Err(strange("there is no staging area of bdr"));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            held,
        })
    }

    /// Opens a file for reading, but never through a symlink, and only a regular file.
    ///
    /// # Errors
    /// It does not exist, is something else, or may not be read.
    pub fn file(&self, number: u32) -> io::Result<File> {
        self.held.file(
            &(number / PER_SHARD).to_string(),
            &(number % PER_SHARD).to_string(),
        )
    }

    /// Gives a file a further name in a directory, if it is as `fits` wants it; returns the file then.
    ///
    /// # Errors
    /// It does not exist, the name is taken, or the directory is on another file system.
    #[cfg(unix)]
    pub(super) fn lend(
        &self,
        number: u32,
        (dir, name): (std::os::fd::BorrowedFd<'_>, &std::ffi::CStr),
        fits: impl FnOnce(&File) -> bool,
    ) -> io::Result<Option<File>> {
        super::point("link")?;
        self.held.lend(
            (
                &(number / PER_SHARD).to_string(),
                &(number % PER_SHARD).to_string(),
            ),
            (dir, name),
            fits,
        )
    }

    /// Takes the lock for packing or removing the area, without waiting.
    ///
    /// # Errors
    /// Somebody else holds it, or it cannot be created.
    pub fn lock(&self) -> io::Result<Lock> {
        Lock::on(&self.dir.join("lock"), Sharing::Alone, Duration::ZERO)
    }

    /// Returns the right to remove it.
    pub fn into_tree(self) -> super::OwnTree {
        let held = self.held.place();
        super::OwnTree::area(&self.dir, held)
    }
}

/// How many entries are looked at to tell a directory of areas from others.
const LOOKED_INTO: u32 = 16;

/// Returns true if a directory with the name of areas' parents is one: this user's alone, and with
/// only areas in it.
pub fn is_place(dir: &Path) -> bool {
    // There may be thousands, whose names say enough.
    let mut left = LOOKED_INTO;
    let mut is_area = |entry: io::Result<super::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let is_id = name.to_str().is_some_and(|name| name.parse::<Id>().is_ok());
            let is_known = left == 0 || super::is_private_dir(&entry.path());
            left = left.saturating_sub(1);
            is_id && is_known
        })
    };
    super::is_private_dir(dir)
        && super::read_dir(dir).is_ok_and(|mut found| found.all(&mut is_area))
}

impl Area {
    /// Creates an area in a place that is this user's alone, for the set that `owner` names.
    ///
    /// # Errors
    /// Its parent cannot be written, or is open to others.
    pub fn create(dir: &Path, owner: &str) -> io::Result<Self> {
        let area = Self::start(dir)?;
        area.own(owner)?;
        Ok(area)
    }

    /// Creates an area that says later whose it is ([`Area::own`]), because somebody waits for it
    /// now. Until then it is whoever's journal names it, and no sweep takes it away.
    ///
    /// # Errors
    /// As [`Area::create`].
    pub fn start(dir: &Path) -> io::Result<Self> {
        let place = dir.parent().unwrap_or(dir);
        super::create_dir_private(place).map_err(io::Error::other)?;
        if !super::is_private_dir(place) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        super::point("mkdir")?;
        super::make_dir(dir, 0o700)?;
        super::ensure_mode(dir, 0o700)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            shard: None,
        })
    }

    /// Takes the lock that [`OwnArea::lock`] takes, so that nobody packs or removes the area before it
    /// is recorded.
    ///
    /// # Errors
    /// Somebody else holds it, or it cannot be created.
    #[cfg(target_os = "linux")]
    pub fn lock(&self) -> io::Result<Lock> {
        Lock::on(&self.dir.join("lock"), Sharing::Alone, Duration::ZERO)
    }

    /// Names the set to which the area belongs, unless it does already; durable with the next
    /// [`Area::sync`].
    ///
    /// # Errors
    /// It belongs to another set, or cannot be written.
    pub fn own(&self, owner: &str) -> io::Result<()> {
        let path = self.dir.join(OWNER);
        if super::read_derived(&path).is_some_and(|found| found == owner.as_bytes()) {
            return Ok(());
        }
        super::write_new_named_later(&path, owner.as_bytes(), 0o400)
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

    /// Hard-links a file into the area; not durable yet.
    ///
    /// # Errors
    /// It is on another file system, or may not be linked.
    pub fn link(&mut self, source: &Source<'_>, number: u32) -> io::Result<()> {
        super::point("link")?;
        let name = (number % PER_SHARD).to_string();
        self.shard(number)?.link(source, &name)
    }

    /// Clones a file into the area; not durable yet.
    ///
    /// # Errors
    /// The file system has no clones, or the file is on another one.
    pub fn clone_file(&mut self, file: &File, number: u32) -> io::Result<()> {
        super::point("clone")?;
        let name = (number % PER_SHARD).to_string();
        let made = self.shard(number)?.clone_file(file, &name);
        if made.is_err() {
            self.forget(number);
        }
        made
    }

    /// Copies what is left of an open file into the area, with its time; not durable yet.
    ///
    /// # Errors
    /// It cannot be read, or the area not written.
    #[cfg(target_os = "linux")]
    pub fn copy_file(&mut self, file: &File, number: u32) -> io::Result<()> {
        super::point("copy")?;
        let name = (number % PER_SHARD).to_string();
        let made = self.shard(number)?.copy_file(file, &name);
        if made.is_err() {
            self.forget(number);
        }
        made
    }

    /// Puts a clone or a copy of an open file in the place of a link to it; not durable yet.
    ///
    /// # Errors
    /// As [`Area::copy_file`]. Then the link stays.
    #[cfg(target_os = "linux")]
    pub fn replace_by_copy(&mut self, file: &File, number: u32) -> io::Result<()> {
        super::point("copy")?;
        let name = (number % PER_SHARD).to_string();
        let temporary = format!("{name}.new");
        let shard = self.shard(number)?;
        shard.remove(&temporary);
        if shard.clone_file(file, &temporary).is_err() {
            shard.remove(&temporary);
            shard.copy_file(file, &temporary)?;
        }
        shard.rename(&temporary, &name)
    }

    /// Makes a file in the area independent of its other names, if it has any: a clone or a copy from
    /// now on.
    ///
    /// # Errors
    /// As [`Area::copy_file`]. Then the link stays.
    #[cfg(target_os = "linux")]
    pub fn part(&mut self, number: u32, max: u64) -> io::Result<Parted> {
        use std::os::unix::fs::MetadataExt as _;
        let path = file_in(&self.dir, number);
        let found = fs::symlink_metadata(&path)?;
        if found.nlink() < 2 {
            return Ok(Parted::Alone);
        }
        if found.len() > max {
            return Ok(Parted::TooLarge);
        }
        self.replace_by_copy(&super::open_own(&path)?, number)?;
        Ok(Parted::Done(found.len()))
    }

    /// Returns size and time of a file in the area.
    ///
    /// # Errors
    /// It is not there.
    pub fn look(&self, number: u32) -> io::Result<(u64, crate::model::manifest::Time)> {
        let found = fs::symlink_metadata(file_in(&self.dir, number))?;
        Ok((found.len(), super::mtime_of(&found)))
    }

    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// It is not there, or the device failed.
    pub fn sync_file(&self, number: u32) -> io::Result<()> {
        super::point("fsync")?;
        super::open_own(&file_in(&self.dir, number))?.sync_all()
    }

    /// Reads a file in the area.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is longer than `most`.
    pub fn read(&self, number: u32, most: u64) -> io::Result<Vec<u8>> {
        use std::io::Read as _;
        let file = super::open_own(&file_in(&self.dir, number))?;
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(bytes),
        }
    }

    /// Returns an area that another process of this user filled.
    pub fn left_at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            shard: None,
        }
    }

    /// Returns the right to remove it, because it was just made.
    pub fn into_tree(self) -> super::OwnTree {
        let held = platform::Held::open(&self.dir);
        let held = held.ok().and_then(platform::Held::place);
        super::OwnTree::area(&self.dir, held)
    }

    /// Removes a file from the area again.
    pub fn forget(&self, number: u32) {
        let _ = fs::remove_file(file_in(&self.dir, number));
    }

    /// Makes the area with its owner and the names of the first `count` files durable, and with
    /// `clones` also their content.
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
        super::sync_dir(&self.dir)?;
        super::sync_dir(self.dir.parent().unwrap_or(&self.dir))
    }
}
