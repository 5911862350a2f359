//! On systems without directory handles: by paths, checked each time.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Found, Identity, not_a_directory};

#[derive(Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::metadata(path)?.is_dir() {
            true => Ok(Self(path.to_path_buf())),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn dir(&self, name: &str) -> io::Result<Self> {
        let path = self.0.join(name);
        match fs::symlink_metadata(&path)?.is_dir() {
            true => Ok(Self(path)),
            false => Err(not_a_directory(name)),
        }
    }

    pub(super) fn child(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.0.join(name);
        match fs::symlink_metadata(&path)?.is_dir() {
            true => Ok(Self(path)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn make_dir(&self, name: &str) -> io::Result<()> {
        crate::disk::fsutil::make_dir(&self.0.join(name), 0o700)
    }

    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        crate::disk::fsutil::open_own(&self.0.join(name))
    }

    pub(super) fn writable(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(self.0.join(name))
    }

    pub(super) fn look(&self, name: &str) -> io::Result<Found> {
        let found = fs::symlink_metadata(self.0.join(name))?;
        Ok(Found {
            is_dir: found.is_dir(),
            is_file: found.is_file(),
            bytes: if found.is_file() { found.len() } else { 0 },
            mtime: crate::disk::fsutil::mtime_of(&found),
        })
    }

    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    pub(super) fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        fs::rename(self.0.join(name), to.0.join(new))
    }

    pub(super) fn rename_new(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        let (from, to) = (self.0.join(name), to.0.join(new));
        // A second name never replaces anything; without hard links (FAT), looking before the
        // rename is nearly as good.
        match fs::hard_link(&from, &to) {
            Ok(()) => fs::remove_file(from),
            Err(_) if fs::symlink_metadata(&to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        }
    }

    pub(super) fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        crate::disk::fsutil::private_options(&mut options, mode);
        options.open(self.0.join(name))
    }

    pub(super) fn link(&self, file: &Path, name: &str) -> io::Result<()> {
        fs::hard_link(file, self.0.join(name))
    }

    pub(super) fn link_to(&self, name: &str, to: &Path) -> io::Result<()> {
        fs::hard_link(self.0.join(name), to)
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        crate::disk::fsutil::set_mode(&self.0, mode)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        // NTFS journals names itself.
        Ok(())
    }

    pub(super) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity(0, 0))
    }

    pub(super) fn private(&self) -> io::Result<Option<Identity>> {
        Ok(crate::disk::fsutil::is_private_dir(&self.0).then_some(Identity(0, 0)))
    }

    pub(super) fn remove_tree(&self, name: &OsStr, _meant: Identity) -> io::Result<()> {
        match fs::remove_dir_all(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
