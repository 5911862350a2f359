//! Hard links and clones by directory handles.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::base::path::os_to_bytes;
use crate::disk::fsutil::dir::Identity;
use crate::disk::fsutil::{DIR_FLAGS, c_path, is_root, user_number};

/// Where a file is: below an open directory, or at an absolute path.
pub struct Source<'a> {
    pub dir: Option<BorrowedFd<'a>>,
    pub path: &'a [u8],
}

pub(super) struct Dir(OwnedFd);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(&os_to_bytes(path.as_os_str()))?;
        Ok(Self(rustix::fs::open(path, DIR_FLAGS, Mode::empty())?))
    }

    pub(super) fn link(&self, source: &Source<'_>, name: &str) -> io::Result<()> {
        let from = source.dir.unwrap_or(CWD);
        // Without flags, a final symlink is not followed.
        let flags = AtFlags::empty();
        rustix::fs::linkat(from, c_path(source.path)?, &self.0, name, flags)?;
        Ok(())
    }

    #[cfg(target_os = "linux")]
    pub(super) fn clone_file(&self, file: &File, name: &str) -> io::Result<()> {
        use rustix::fs::OFlags;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let new = rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ioctl_ficlone(&new, file)?;
        set_time(&new.into(), file)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn copy_file(&self, file: &File, name: &str) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let new = rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        // Whatever the umask says.
        rustix::fs::fchmod(&new, Mode::RUSR | Mode::WUSR)?;
        let mut new = File::from(new);
        io::copy(&mut &*file, &mut new)?;
        set_time(&new, file)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.0, name, AtFlags::empty());
    }

    #[cfg(any(target_os = "macos", target_os = "ios"))]
    pub(super) fn clone_file(&self, file: &File, name: &str) -> io::Result<()> {
        rustix::fs::fclonefileat(file, &self.0, name, rustix::fs::CloneFlags::empty())?;
        Ok(())
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "ios")))]
    pub(super) fn clone_file(&self, _file: &File, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Gives a new file the time of its original, which shows later whether somebody wrote to it.
#[cfg(target_os = "linux")]
fn set_time(new: &File, original: &File) -> io::Result<()> {
    let stat = rustix::fs::fstat(original)?;
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    };
    Ok(rustix::fs::futimens(new, &times)?)
}

/// How many directories stay open.
const MAX_SHARDS: usize = 32;

#[derive(Debug)]
pub(super) struct Held {
    dir: OwnedFd,
    /// Directories in it that were opened, by name: a thousand files may be read from each.
    shards: Mutex<HashMap<String, Arc<OwnedFd>>>,
    /// The directory above it.
    place: OwnedFd,
}

/// Flags for opening files of an area: never through a symlink, and never waiting for the writer of
/// a FIFO.
const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens a directory that is this user's alone.
fn open_private(at: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let dir = rustix::fs::openat(at, c_path(path)?, DIR_FLAGS, Mode::empty())?;
    let stat = rustix::fs::fstat(&dir)?;
    let is_private = stat.st_uid == user_number() && stat.st_mode & 0o077 == 0;
    if !is_private {
        let why = "another user can write to a directory above the staging area";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(dir)
}

impl Held {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let (Some(place), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let place = open_private(CWD, &os_to_bytes(place.as_os_str()))?;
        let dir = open_private(place.as_fd(), &os_to_bytes(name))?;
        Ok(Self {
            dir,
            shards: Mutex::default(),
            place,
        })
    }

    /// Returns the directory above it, and its own identity.
    pub(super) fn place(self) -> Option<(crate::disk::fsutil::Dir, Identity)> {
        let id = Identity::of(&self.dir).ok()?;
        Some((self.place.into(), id))
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = open_regular(&self.dir, name)?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn shard(&self, name: &str) -> io::Result<Arc<OwnedFd>> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shards.get(name) {
            return Ok(Arc::clone(shard));
        }
        let shard = rustix::fs::openat(&self.dir, name, DIR_FLAGS, Mode::empty())?;
        let shard = Arc::new(shard);
        if shards.len() >= MAX_SHARDS {
            shards.clear();
        }
        shards.insert(name.to_owned(), Arc::clone(&shard));
        Ok(shard)
    }

    pub(super) fn lend(
        &self,
        (shard, number): (&str, &str),
        (dir, name): (BorrowedFd<'_>, &std::ffi::CStr),
        fits: impl FnOnce(&File) -> bool,
    ) -> io::Result<Option<File>> {
        let shard = self.shard(shard)?;
        let file = open_regular(&shard, number)?;
        if !fits(&file) {
            return Ok(None);
        }
        rustix::fs::linkat(&shard, number, dir, name, AtFlags::empty())?;
        Ok(Some(file))
    }

    pub(super) fn file(&self, shard: &str, name: &str) -> io::Result<File> {
        let shard = self.shard(shard)?;
        let closed = match open_regular(&shard, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
            other => return other,
        };
        // A file that was closed to its owner is opened once it has no other name: then only bdr
        // uses its mode, and bdr has recorded it.
        let stat = rustix::fs::statat(&shard, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_nlink == 1
            && stat.st_uid == user_number();
        if !is_ours {
            return Err(closed);
        }
        rustix::fs::chmodat(&shard, name, Mode::RUSR, AtFlags::empty())?;
        open_regular(&shard, name)
    }
}

fn open_regular(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let file = match rustix::fs::openat(dir, name, FILE_FLAGS, Mode::empty()) {
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(no_file()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    // In a directory that is this user's alone, nobody else can have made it; but a disk that was
    // elsewhere may have been written to there.
    let is_own = stat.st_uid == user_number() || is_root() || stat.st_nlink > 1;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !is_own {
        return Err(no_file());
    }
    Ok(File::from(file))
}

fn no_file() -> io::Error {
    let why = "the file there is not one that bdr kept";
    io::Error::new(io::ErrorKind::InvalidData, why)
}
