//! Links and clones through directory handles.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode};

use crate::fsutil::{DIR_FLAGS, c_path};
use crate::path::os_to_bytes;

/// Where a file is: below a directory held open, or at an absolute path.
pub struct Source<'a> {
    /// The directory.
    pub dir: Option<BorrowedFd<'a>>,
    /// The path below it.
    pub path: &'a [u8],
}

/// A subdirectory of an area.
pub(super) struct Dir(OwnedFd);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(&os_to_bytes(path.as_os_str()))?;
        Ok(Self(rustix::fs::open(path, DIR_FLAGS, Mode::empty())?))
    }

    pub(super) fn link(&self, source: &Source<'_>, name: &str) -> io::Result<()> {
        let from = source.dir.unwrap_or(CWD);
        // Without a flag a symlink at the end is not followed.
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
        // Its time tells later whether somebody wrote to it.
        let stat = rustix::fs::fstat(file)?;
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
        rustix::fs::futimens(&new, &times)?;
        Ok(())
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
