//! By handles, with `openat` and the like.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Found, Identity, not_a_directory};
use crate::base::path::os_to_bytes;
use crate::disk::fsutil::{DIR_FLAGS, LINK_FLAGS, c_path, stat_of, user_number};
use crate::model::manifest::Kind;

/// Where possible a handle that needs no read permission, so that a closed directory can still be
/// opened.
const FLAGS: OFlags = LINK_FLAGS.union(OFlags::DIRECTORY);

#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let name = c_path(&os_to_bytes(path.as_os_str()))?;
        let flags = FLAGS.difference(OFlags::NOFOLLOW);
        Ok(Self(rustix::fs::openat(CWD, name, flags, Mode::empty())?))
    }

    pub(super) fn dir(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::openat(&self.0, name, FLAGS, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => Err(not_a_directory(name)),
            other => Ok(Self(other?)),
        }
    }

    pub(super) fn child(&self, name: &OsStr) -> io::Result<Self> {
        let name = c_path(&os_to_bytes(name))?;
        Ok(Self(rustix::fs::openat(
            &self.0,
            name,
            FLAGS,
            Mode::empty(),
        )?))
    }

    /// The same directory, open for reading.
    fn readable(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.0, c".", DIR_FLAGS, Mode::empty())?)
    }

    pub(super) fn make_dir(&self, name: &str) -> io::Result<()> {
        rustix::fs::mkdirat(&self.0, name, Mode::RWXU)?;
        let made = self.dir(name)?;
        // A umask may have removed rights of the owner.
        match rustix::fs::fstat(&made.0)?.st_mode as u32 & 0o700 {
            0o700 => Ok(()),
            _ => made.set_mode(0o700),
        }
    }

    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Opens an existing file for reading and writing.
    pub(super) fn writable(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(File::from(file))
    }

    pub(super) fn look(&self, name: &str) -> io::Result<Found> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = stat_of(&stat);
        Ok(Found {
            is_dir: stat.kind == Kind::Dir,
            is_file: stat.kind == Kind::File,
            bytes: stat.size,
            mtime: stat.mtime,
        })
    }

    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    pub(super) fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, &to.0, new)?)
    }

    pub(super) fn rename_new(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.0, name, &to.0, new, flags) {
                // From an old kernel, or a file system that cannot (NFS).
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                other => return Ok(other?),
            }
        }
        // A second name never replaces anything.
        match rustix::fs::linkat(&self.0, name, &to.0, new, AtFlags::empty()) {
            Ok(()) => return self.unlink(name),
            Err(Errno::EXIST) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {}
        }
        // Without either, looking before the rename is nearly as good.
        match to.look(new) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(name, to, new),
            Err(error) => Err(error),
        }
    }

    pub(super) fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode as _);
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, mode)?))
    }

    pub(super) fn link(&self, file: &Path, name: &str) -> io::Result<()> {
        let file = c_path(&os_to_bytes(file.as_os_str()))?;
        Ok(rustix::fs::linkat(
            CWD,
            file,
            &self.0,
            name,
            AtFlags::empty(),
        )?)
    }

    pub(super) fn link_to(&self, name: &str, to: &Path) -> io::Result<()> {
        let to = c_path(&os_to_bytes(to.as_os_str()))?;
        Ok(rustix::fs::linkat(
            &self.0,
            name,
            CWD,
            to,
            AtFlags::empty(),
        )?)
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        match self.readable() {
            Ok(dir) => Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(mode as _))?),
            Err(error) => closed_set_mode(self.0.as_fd(), mode).map_err(|_| error),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        File::from(self.readable()?).sync_all()
    }

    pub(super) fn identity(&self) -> io::Result<Identity> {
        Identity::of(&self.0)
    }

    pub(super) fn private(&self) -> io::Result<Option<Identity>> {
        let stat = rustix::fs::fstat(&self.0)?;
        let is_private = stat.st_uid == user_number() && stat.st_mode & 0o077 == 0;
        Ok(is_private.then_some(identity(&stat)))
    }

    pub(super) fn remove_tree(&self, name: &OsStr, meant: Identity) -> io::Result<()> {
        let name = c_path(&os_to_bytes(name))?;
        let dir = match rustix::fs::openat(&self.0, &name, FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => Self(other?),
        };
        if identity(&rustix::fs::fstat(&dir.0)?) != meant {
            let why = "it was replaced by another directory";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        dir.empty()?;
        match rustix::fs::unlinkat(&self.0, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn empty(&self) -> io::Result<()> {
        // A restored directory may be closed: without write or even read permission.
        let stat = rustix::fs::fstat(&self.0)?;
        if stat.st_mode & 0o700 != 0o700 && stat.st_uid == user_number() {
            self.set_mode(0o700)?;
        }
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        for (name, kind) in names {
            if kind != FileType::Directory {
                match rustix::fs::unlinkat(&self.0, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    // On a file system that does not tell directories from files in its listing.
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let flags = FLAGS;
            match rustix::fs::openat(&self.0, &name, flags, Mode::empty()) {
                Ok(dir) => Self(dir).empty()?,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            match rustix::fs::unlinkat(&self.0, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Identity {
    /// Returns the identity of an open directory.
    pub(in crate::disk::fsutil) fn of(dir: &OwnedFd) -> io::Result<Self> {
        Ok(identity(&rustix::fs::fstat(dir)?))
    }
}

impl From<OwnedFd> for super::Dir {
    fn from(held: OwnedFd) -> Self {
        Self(Dir(held))
    }
}

fn identity(stat: &rustix::fs::Stat) -> Identity {
    let stat = stat_of(stat);
    Identity(stat.device, stat.inode)
}

/// Opens or closes a directory without read permission, by its handle.
#[cfg(target_os = "linux")]
fn closed_set_mode(dir: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Without `O_PATH`, a handle implies read permission.
#[cfg(not(target_os = "linux"))]
fn closed_set_mode(dir: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(mode as _))?)
}
