//! The target where there are no directory handles (Windows): by path, each component looked at before each step.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{File, FileTimes};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Fidelity, Fill, mode_of};
use crate::error::{Error, IoContext as _, Result};
use crate::fsutil::{TEMPORARY_PREFIX, create_temporary, point, set_mode};
use crate::manifest::{Entry, Kind, Stat, Time};
use crate::path::{RepoPath, os_from_bytes, tar_name};

/// A directory below which files are written.
pub struct Target {
    path: PathBuf,
    fidelity: Fidelity,
}

impl Target {
    /// Opens a directory that exists.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, fidelity: Fidelity) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::io("open", path, io::ErrorKind::NotFound.into()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            fidelity,
        })
    }

    /// Returns the path after looking at each directory above it: no symlink or junction may stand in the way.
    fn checked(&self, path: &RepoPath, create: bool) -> Result<PathBuf> {
        // Reserved names, streams (`a:b`), trailing dots: what the escaping for tar would change cannot be a name here.
        if cfg!(windows)
            && path
                .components()
                .any(|c| tar_name(c).as_bytes().contains(&b'%') && c.is_ascii())
        {
            return Err(Error::Unsafe {
                path: path.to_string(),
                reason: "this system cannot have a file of that name".to_owned(),
            });
        }
        let mut dir = self.path.clone();
        let parent = path.parent().unwrap_or_default();
        for component in parent.components() {
            dir.push(os_from_bytes(component));
            match std::fs::symlink_metadata(&dir) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    return Err(Error::Unsafe {
                        path: crate::path::show(dir.as_os_str()),
                        reason: "a symlink or file stands where a directory should be".to_owned(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                    point("mkdir").context("create", &dir)?;
                    std::fs::create_dir(&dir).context("create", &dir)?;
                }
                Err(error) => return Err(Error::io("open", dir, error)),
            }
        }
        Ok(path.to_path(&self.path))
    }

    /// Returns how the object at `path` stands, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be looked at; a symlink stands in the way.
    pub fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        let absolute = match self.checked(path, false) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        match std::fs::symlink_metadata(&absolute) {
            Ok(metadata) => Ok(Some(stat_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", absolute, error)),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// There is none, or a symlink stands in the way.
    pub fn open_file(&mut self, path: &RepoPath) -> Result<File> {
        let absolute = self.checked(path, false)?;
        File::open(&absolute).context("read", absolute)
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// There is none.
    pub fn read_link(&mut self, path: &RepoPath) -> Result<Vec<u8>> {
        let absolute = self.checked(path, false)?;
        let target = std::fs::read_link(&absolute).context("read", absolute)?;
        Ok(crate::path::os_to_bytes(target.as_os_str()).into_owned())
    }

    /// Writes a regular file: content from `fill`, metadata of `entry`, then its name.
    ///
    /// # Errors
    /// `fill` failed, or the system refused; what stood at the name is kept then.
    pub fn write(
        &mut self,
        path: &RepoPath,
        entry: &Entry,
        sync: bool,
        fill: &mut Fill<'_>,
    ) -> Result<()> {
        let absolute = self.checked(path, true)?;
        let dir = absolute.parent().unwrap_or(&self.path).to_path_buf();
        let (mut file, temporary) = create_temporary(&dir, 0o600).context("write", &absolute)?;
        let result = (|| {
            fill(&mut |bytes| file.write_all(bytes).context("write", &absolute))?;
            file.set_times(times(entry)).context("write", &absolute)?;
            if sync {
                point("fsync").context("write", &absolute)?;
                file.sync_all().context("write", &absolute)?;
            }
            drop(file);
            // A read-only file cannot be replaced on Windows.
            if absolute.exists() {
                set_mode(&absolute, 0o600).context("write", &absolute)?;
            }
            crate::fsutil::rename(&temporary, &absolute).context("write", &absolute)?;
            set_mode(&absolute, mode_of(entry, self.fidelity)).context("write", &absolute)
        })();
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    /// Makes a symlink; its target is kept as it is, never followed.
    ///
    /// # Errors
    /// The system refused: Windows wants a privilege or developer mode for it.
    pub fn symlink(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let absolute = self.checked(path, true)?;
        if std::fs::symlink_metadata(&absolute).is_ok() {
            crate::fsutil::remove_file(&absolute).context("write", &absolute)?;
        }
        point("symlink").context("write", &absolute)?;
        let target = PathBuf::from(os_from_bytes(&entry.body.target));
        #[cfg(windows)]
        {
            let is_dir = absolute
                .parent()
                .is_some_and(|dir| dir.join(&target).is_dir());
            let made = if is_dir {
                std::os::windows::fs::symlink_dir(&target, &absolute)
            } else {
                std::os::windows::fs::symlink_file(&target, &absolute)
            };
            made.context("write", absolute)
        }
        #[cfg(not(windows))]
        {
            let _ = target;
            Err(Error::io(
                "write",
                absolute,
                io::ErrorKind::Unsupported.into(),
            ))
        }
    }

    /// Makes `path` another name of the file at `first`, below the same target.
    ///
    /// # Errors
    /// The system refused.
    pub fn hard_link(&mut self, path: &RepoPath, first: &RepoPath) -> Result<()> {
        let from = self.checked(first, false)?;
        let absolute = self.checked(path, true)?;
        if std::fs::symlink_metadata(&absolute).is_ok() {
            crate::fsutil::remove_file(&absolute).context("link", &absolute)?;
        }
        point("link").context("link", &absolute)?;
        std::fs::hard_link(from, &absolute).context("link", absolute)
    }

    /// Makes a directory; one that is there is kept.
    ///
    /// # Errors
    /// The system refused, or something else is there.
    pub fn make_dir(&mut self, path: &RepoPath) -> Result<()> {
        // The check goes as far as the parent: one more component makes it go as far as the directory.
        self.checked(&path.join(b"x"), true).map(|_| ())
    }

    /// Gives the object at `path` the metadata of `entry`.
    ///
    /// # Errors
    /// It is not there, or the system refused.
    pub fn set_metadata(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let absolute = self.checked(path, false)?;
        point("metadata").context("change", &absolute)?;
        if entry.kind != Kind::File {
            // Directory times need a handle that the standard library does not open.
            return Ok(());
        }
        set_mode(&absolute, 0o600).context("change", &absolute)?;
        let file = File::options()
            .write(true)
            .open(&absolute)
            .context("change", &absolute)?;
        file.set_times(times(entry)).context("change", &absolute)?;
        set_mode(&absolute, mode_of(entry, self.fidelity)).context("change", absolute)
    }

    /// Directory times need a handle that the standard library does not open: they are left.
    ///
    /// # Errors
    /// Never.
    pub fn set_times(&mut self, _path: &RepoPath, _entry: &Entry) -> Result<()> {
        Ok(())
    }

    /// Removes a file or symlink; one that is not there is as good as removed.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove(&mut self, path: &RepoPath) -> Result<()> {
        let absolute = self.checked(path, false)?;
        if std::fs::symlink_metadata(&absolute).is_ok_and(|m| m.is_file()) {
            set_mode(&absolute, 0o600).context("remove", &absolute)?;
        }
        crate::fsutil::remove_file(&absolute).context("remove", absolute)
    }

    /// Removes an empty directory; returns false if it is not empty.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove_dir(&mut self, path: &RepoPath) -> Result<bool> {
        let absolute = self.checked(path, false)?;
        point("unlink").context("remove", &absolute)?;
        match std::fs::remove_dir(&absolute) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(Error::io("remove", absolute, error)),
        }
    }

    /// NTFS journals names itself.
    ///
    /// # Errors
    /// Never.
    pub fn sync_dir(&mut self, _path: &RepoPath) -> Result<()> {
        Ok(())
    }

    /// Removes temporary files that an interrupted restore left in a directory, unless they are fresh.
    pub fn sweep(&mut self, path: &RepoPath) {
        let Ok(entries) = std::fs::read_dir(path.to_path(&self.path)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)));
            if name
                .as_encoded_bytes()
                .starts_with(TEMPORARY_PREFIX.as_bytes())
                && old
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Returns what bdr needs of an object's metadata.
pub fn stat_of(metadata: &std::fs::Metadata) -> Stat {
    // Junctions and other reparse points count as symlinks: they are not followed.
    let kind = if metadata.is_symlink() {
        Kind::Symlink
    } else if metadata.is_dir() {
        Kind::Dir
    } else {
        Kind::File
    };
    let seconds = |time: io::Result<SystemTime>| {
        let since = time
            .ok()
            .and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(Time(0, 0), |s| {
            Time(
                i64::try_from(s.as_secs()).unwrap_or(i64::MAX),
                s.subsec_nanos(),
            )
        })
    };
    let write = if metadata.permissions().readonly() {
        0
    } else {
        0o200
    };
    Stat {
        kind,
        mode: if kind == Kind::Dir {
            0o755
        } else {
            0o444 | write
        },
        uid: 0,
        gid: 0,
        size: if kind == Kind::File {
            metadata.len()
        } else {
            0
        },
        mtime: seconds(metadata.modified()),
        ctime: seconds(metadata.created()),
        inode: 0,
        device: 0,
        links: 1,
    }
}

fn times(entry: &Entry) -> FileTimes {
    let Time(seconds, nanos) = entry.mtime;
    let time = if seconds >= 0 {
        SystemTime::UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanos)
    } else {
        SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs())
    };
    FileTimes::new().set_modified(time).set_accessed(time)
}
