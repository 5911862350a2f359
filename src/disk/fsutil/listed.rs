//! Reads directories. Works like std, except at the end: std ends the process if a handle cannot be
//! closed, which a file system may report for any handle.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// The entries of a directory, one after the other; nothing comes after an error.
pub struct ReadDir {
    dir: rustix::fs::Dir,
    path: PathBuf,
}

pub struct DirEntry {
    path: PathBuf,
    name: OsString,
    kind: FileType,
}

/// Starts reading a directory.
///
/// # Errors
/// It does not exist, is something else, or may not be read.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_path_buf();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(&path, flags, Mode::empty())?;
    Ok(ReadDir {
        dir: rustix::fs::Dir::new(handle)?,
        path,
    })
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.dir.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let name = OsString::from_vec(name.to_vec());
                return Some(Ok(DirEntry {
                    path: self.path.join(&name),
                    kind: entry.file_type(),
                    name,
                }));
            }
        }
    }
}

impl DirEntry {
    /// Returns the path of the directory joined with the name.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub fn file_name(&self) -> OsString {
        self.name.clone()
    }

    /// Returns its type; a symlink is not followed.
    ///
    /// # Errors
    /// The file system does not list the type, and it cannot be read.
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.kind {
            FileType::Unknown => Ok(FileType::from_raw_mode(self.metadata()?.mode())),
            known => Ok(known),
        }
    }

    /// Returns its metadata, without following a symlink.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn metadata(&self) -> io::Result<Metadata> {
        std::fs::symlink_metadata(&self.path)
    }
}
