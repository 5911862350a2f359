//! A root held open.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::disk::fsutil::area::Source;
use crate::disk::fsutil::attributes;
use crate::disk::fsutil::{DIR_FLAGS, c_path, open_unlinked, stat_of};
use crate::model::manifest::{Kind, Time};
use crate::model::rules::Root;
use crate::protect::walk::Xattrs;
use crate::repo::state::Stat;

/// A root held open: everything below it is reached through the handle, never through a symlink at
/// its end.
pub struct RootHandle {
    path: PathBuf,
    /// `None` for a root that is not a directory.
    pub(super) dir: Option<OwnedFd>,
    /// No symlink is followed on the way to the root either.
    resolved: bool,
}

impl RootHandle {
    /// Opens a root; `None` if it does not exist.
    ///
    /// # Errors
    /// It exists but cannot be opened; or its path was resolved and leads through a symlink by now.
    pub fn of(root: &Root) -> Result<Option<Self>> {
        Self::open_at(&root.path, root.resolved)
    }

    /// Opens a place as a root; `None` if it does not exist.
    ///
    /// # Errors
    /// It exists but cannot be opened.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        Self::open_at(path, false)
    }

    fn open_at(path: &Path, resolved: bool) -> Result<Option<Self>> {
        let opened = match resolved {
            true => c_path(path.as_os_str().as_bytes())
                .map_err(|_| Errno::INVAL)
                .and_then(|name| open_unlinked(CWD, &name, DIR_FLAGS)),
            // /home often is a symlink.
            false => rustix::fs::open(path, DIR_FLAGS, Mode::empty()),
        };
        match opened {
            Ok(dir) => Ok(Some(Self {
                path: path.to_path_buf(),
                dir: Some(dir),
                resolved,
            })),
            Err(Errno::LOOP) if resolved => Err(Error::Unsafe {
                path: crate::base::path::show(path.as_os_str()),
                reason: "a symlink was put in its way".to_owned(),
            }),
            // A symlink, a file, a FIFO: it exists, but is no directory.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
                match std::fs::symlink_metadata(path) {
                    Ok(_) => Ok(Some(Self {
                        path: path.to_path_buf(),
                        dir: None,
                        resolved,
                    })),
                    Err(e)
                        if matches!(
                            e.kind(),
                            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                        ) =>
                    {
                        Ok(None)
                    }
                    Err(e) => Err(Error::io("read", path, e)),
                }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("open", path, errno.into())),
        }
    }

    /// Returns the absolute path of `path`.
    pub fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    /// Returns the stat of the object at `path`, without following a symlink.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub fn stat(&self, path: &RepoPath) -> std::io::Result<Stat> {
        let stat = match (&self.dir, path.is_root()) {
            (Some(dir), true) => rustix::fs::fstat(dir)?,
            (Some(dir), false) => {
                rustix::fs::statat(dir, c_path(path.as_bytes())?, AtFlags::SYMLINK_NOFOLLOW)?
            }
            (None, _) => rustix::fs::lstat(&self.path)?,
        };
        Ok(stat_of(&stat))
    }

    /// Returns when the object at `path` was created, if the system tells.
    pub fn born(&self, path: &RepoPath) -> Option<Time> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::StatxFlags;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = match &self.dir {
                Some(dir) if path.is_root() => {
                    let flags = flags | AtFlags::EMPTY_PATH;
                    rustix::fs::statx(dir, c"", flags, StatxFlags::BTIME)
                }
                Some(dir) => {
                    let name = c_path(path.as_bytes()).ok()?;
                    rustix::fs::statx(dir, name, flags, StatxFlags::BTIME)
                }
                None => rustix::fs::statx(CWD, &self.path, flags, StatxFlags::BTIME),
            };
            let stat = stat.ok()?;
            let told = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
            told.then_some(Time(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            None
        }
    }

    /// Opens a regular file without following a symlink or blocking on a FIFO.
    ///
    /// # Errors
    /// It is gone, unreadable, or something else by now.
    pub fn open_file(&self, path: &RepoPath) -> std::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match &self.dir {
            Some(dir) => open_unlinked(dir.as_fd(), &c_path(path.as_bytes())?, flags)?,
            None if self.resolved => {
                open_unlinked(CWD, &c_path(self.path.as_os_str().as_bytes())?, flags)?
            }
            None => rustix::fs::open(&self.path, flags, Mode::empty())?,
        };
        Ok(File::from(file))
    }

    /// Returns where a file is, for a staging area.
    pub fn source<'a>(&'a self, path: &'a RepoPath) -> Source<'a> {
        match &self.dir {
            Some(dir) => Source {
                dir: Some(dir.as_fd()),
                path: path.as_bytes(),
            },
            None => Source {
                dir: None,
                path: self.path.as_os_str().as_bytes(),
            },
        }
    }

    /// Returns the stat of an open file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stat_file(file: &File) -> std::io::Result<Stat> {
        Ok(stat_of(&rustix::fs::fstat(file)?))
    }

    pub fn has_holes(file: &File) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata()
            .is_ok_and(|found| found.blocks().saturating_mul(512) < found.len())
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// It is gone, or not a symlink any more.
    pub fn read_link(&self, path: &RepoPath) -> std::io::Result<Vec<u8>> {
        let target = match &self.dir {
            Some(dir) => rustix::fs::readlinkat(dir, c_path(path.as_bytes())?, Vec::new())?,
            None => rustix::fs::readlink(&self.path, Vec::new())?,
        };
        Ok(target.into_bytes())
    }

    /// Returns the extended attributes that a restore could set, sorted by name.
    ///
    /// # Errors
    /// They cannot be read although there may be some.
    pub fn xattrs(file: &File) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        attributes::of_file(file)
    }

    /// As [`RootHandle::xattrs`], and whether some are withheld because of a secret.
    ///
    /// # Errors
    /// As [`RootHandle::xattrs`].
    pub fn all_xattrs(file: &File) -> std::io::Result<(Xattrs, bool)> {
        let all = attributes::all_of_file(file)?;
        Ok((all.kept, all.withheld))
    }

    /// Returns the extended attributes of a directory or symlink; only root can set any on the
    /// latter.
    ///
    /// # Errors
    /// They cannot be read although there may be some.
    pub fn xattrs_at(
        &self,
        path: &RepoPath,
        kind: Kind,
    ) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        Ok(self.all_xattrs_at(path, kind)?.0)
    }

    /// As [`RootHandle::xattrs_at`], and whether some are withheld because of a secret.
    ///
    /// # Errors
    /// As [`RootHandle::xattrs_at`].
    pub fn all_xattrs_at(&self, path: &RepoPath, kind: Kind) -> std::io::Result<(Xattrs, bool)> {
        let is_dir = kind == Kind::Dir;
        if !is_dir && (kind != Kind::Symlink || !crate::disk::fsutil::is_root()) {
            return Ok(Default::default());
        }
        let flags = if is_dir {
            DIR_FLAGS
        } else {
            crate::disk::fsutil::LINK_FLAGS
        };
        let fd = match &self.dir {
            Some(dir) if path.is_root() => rustix::io::dup(dir)?,
            // A final symlink is itself what we open, but none is followed on the way.
            Some(dir) if is_dir => open_unlinked(dir.as_fd(), &c_path(path.as_bytes())?, flags)?,
            Some(dir) => rustix::fs::openat(dir, c_path(path.as_bytes())?, flags, Mode::empty())?,
            None => rustix::fs::open(&self.path, flags, Mode::empty())?,
        };
        let all = match is_dir {
            true => attributes::all_of_file(&File::from(fd)),
            false => attributes::all_of_link(&fd),
        }?;
        Ok((all.kept, all.withheld))
    }
}
