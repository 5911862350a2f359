//! A repository in a directory.
//!
//! Staged files live in `tmp/` of the same file system. Published files are 0400; the directories that hold them are
//! 0500 between writes where modes mean something, so that a stray `rm -r` fails.
#![expect(
    clippy::disallowed_methods,
    reason = "the directory behind the one storage that writes"
)]

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Lifeboat, Listed, Look, Staged, Storage};
use crate::disk::fsutil;

/// A repository in a directory of this machine.
pub struct LocalStorage {
    dir: PathBuf,
    /// Recently read files: restores read one pack many times.
    open: Mutex<Vec<(String, Arc<File>)>>,
    lifeboat: Option<Lifeboat>,
}

const OPEN_FILES: usize = 32;

impl LocalStorage {
    /// Names a directory; nothing is touched yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            open: Mutex::new(Vec::new()),
            lifeboat: None,
        }
    }

    /// Gives every file that is published from now on a second name.
    #[must_use]
    pub fn with_lifeboat(mut self, lifeboat: Lifeboat) -> Self {
        self.lifeboat = Some(lifeboat);
        self
    }

    /// Returns where a file or directory lies, if the directories on the way are those of the repository: a link in the place of one leads to
    /// something else, which is neither listed, read, written nor closed.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let mut path = self.dir.clone();
        let mut parts = name.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            if matches!(part, "." | "..") {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            path.push(part);
            let found = match parts.peek() {
                Some(_) => fs::symlink_metadata(&path),
                None => break,
            };
            match found {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(not_a_directory(part)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(path)
    }

    /// Returns where a directory lies, if it is one of the repository, or is not there.
    fn dir_path(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name)?;
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_dir() && !name.is_empty() => Err(not_a_directory(name)),
            _ => Ok(path),
        }
    }

    /// Reads a directory; `None` if that part of the repository is not there (yet).
    fn entries(&self, dir: &str) -> io::Result<Option<fsutil::ReadDir>> {
        match fsutil::read_dir(self.dir_path(dir)?) {
            Ok(entries) => Ok(Some(entries)),
            // A repository that is gone altogether is an error, a missing part of it is empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.dir.is_dir() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn opened(&self, name: &str) -> io::Result<Arc<File>> {
        if let Ok(open) = self.open.lock()
            && let Some((_, file)) = open.iter().find(|(n, _)| n == name)
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open_regular(&self.path(name)?)?.0);
        if let Ok(mut open) = self.open.lock() {
            if open.len() >= OPEN_FILES {
                open.remove(0);
            }
            open.push((name.to_owned(), Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Runs a change in `dir`, which is made writable for it if it has to be.
    fn in_writable(
        &self,
        dir: &Path,
        mut change: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        for attempt in 0.. {
            match change() {
                // Another writer may have closed the directory between our opening it and the change.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && attempt < 100
                        && dir.starts_with(&self.dir) =>
                {
                    fsutil::set_mode(dir, 0o700)?;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the directory of a file is there, and returns it.
    fn make_dir_of(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = path.parent().unwrap_or(&self.dir).to_path_buf();
        if !dir.is_dir() {
            let parent = dir.parent().unwrap_or(&self.dir).to_path_buf();
            self.in_writable(&parent, || {
                fsutil::create_dir_private(&dir).map_err(|error| match error {
                    crate::base::error::Error::Io { source, .. } => source,
                    other => io::Error::other(other),
                })
            })?;
            self.close_dir(&parent);
        }
        Ok(dir)
    }

    /// Removes a name, not durably yet; returns the directory that it was in.
    fn unlink(&self, name: &str) -> io::Result<PathBuf> {
        self.forget_open(name);
        let path = self.path(name)?;
        let dir = path.parent().unwrap_or(&self.dir).to_path_buf();
        self.in_writable(&dir, || fsutil::remove_file(&path))?;
        if let Some(lifeboat) = &self.lifeboat {
            lifeboat.forget(name);
        }
        Ok(dir)
    }

    fn forget_open(&self, name: &str) {
        if let Ok(mut open) = self.open.lock() {
            open.retain(|(n, _)| n != name);
        }
    }

    fn close_dir(&self, dir: &Path) {
        if cfg!(unix) && dir != self.dir {
            // A convenience, not a promise: failing to close changes nothing that matters.
            let _ = fsutil::set_mode(dir, 0o500);
        }
    }
}

fn not_a_directory(name: &str) -> io::Error {
    let what = format!("`{name}` there is not a directory of the repository");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Opens a file and returns its size; whatever else stands there is an error, a link too.
fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let file = fsutil::open_own(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a regular file",
        ));
    }
    Ok((file, metadata.len()))
}

struct LocalStaged {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Drop for LocalStaged {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Staged for LocalStaged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        fsutil::point("write")?;
        self.file.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(io::SeekFrom::Start(length)).map(|_| ())
    }

    fn as_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

impl LocalStorage {
    /// Returns a place beside the repository, on its file system. Not in it: what lies there is not sealed yet.
    fn beside(&self) -> Option<PathBuf> {
        let mut name = self.dir.file_name()?.to_owned();
        name.push("-staging");
        Some(self.dir.with_file_name(name))
    }
}

impl Storage for LocalStorage {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (mut file, bytes) = open_regular(&self.path(name)?)?;
        if bytes > super::MAX_READ_BYTES {
            return Err(super::too_large(bytes));
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        // A byte more than there should be: what grows is noticed, and the end costs no further look.
        (&mut file).take(bytes + 1).read_to_end(&mut content)?;
        Ok(content)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        fsutil::read_exact_at(&*self.opened(name)?, buffer, offset)
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(self.path(name)?) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a regular file",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn look(&self, name: &str) -> io::Result<Option<Look>> {
        match fs::symlink_metadata(self.path(name)?) {
            Ok(metadata) => Ok(metadata.is_file().then(|| Look {
                bytes: metadata.len(),
                time: Some(fsutil::mtime_of(&metadata)),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in self.entries(dir)?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            listed.push(Listed {
                name,
                bytes: if is_dir { 0 } else { metadata.len() },
                is_dir,
            });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.entries(dir)?.into_iter().flatten() {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        let tmp = self.dir_path("tmp")?;
        let (file, path) = match fsutil::create_temporary(&tmp, 0o400) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.dir.is_dir() => {
                fsutil::create_dir_private(&tmp).map_err(io::Error::other)?;
                fsutil::create_temporary(&tmp, 0o400)?
            }
            other => other?,
        };
        Ok(Box::new(LocalStaged {
            file,
            path,
            published: false,
        }))
    }

    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()> {
        let mut staged = staged
            .as_any()
            .downcast::<LocalStaged>()
            .map_err(|_| io::Error::other("staged by another storage"))?;
        fsutil::point("fsync")?;
        staged.file.sync_all()?;
        let path = self.path(name)?;
        let dir = self.make_dir_of(&path)?;
        self.in_writable(&dir, || fsutil::rename(&staged.path, &path))?;
        staged.published = true;
        fsutil::sync_dir(&dir)?;
        self.close_dir(&dir);
        if let Some(lifeboat) = &self.lifeboat {
            lifeboat.keep(name);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fsutil::sync_dir(&self.unlink(name)?)
    }

    fn remove_all(&self, names: &[String]) -> io::Result<()> {
        // One fsync for many names: a thousand of them take seconds.
        let mut dirs = std::collections::BTreeSet::new();
        for name in names {
            match self.unlink(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                dir => drop(dirs.insert(dir?)),
            }
        }
        // A directory that is not there holds no name.
        let there = dirs.iter().filter(|dir| dir.is_dir());
        there.map(PathBuf::as_path).try_for_each(fsutil::sync_dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget_open(from);
        self.forget_open(to);
        let (old, new) = (self.path(from)?, self.path(to)?);
        let old_dir = old.parent().unwrap_or(&self.dir).to_path_buf();
        let new_dir = self.make_dir_of(&new)?;
        self.in_writable(&new_dir, || {
            // Who is not allowed to take a name away is not told which of the two directories is meant.
            fsutil::set_mode(&old_dir, 0o700)?;
            fsutil::rename(&old, &new)
        })?;
        // The new name first: after a crash there are two rather than none.
        fsutil::sync_dir(&new_dir)?;
        fsutil::sync_dir(&old_dir)?;
        self.close_dir(&old_dir);
        self.close_dir(&new_dir);
        if let Some(lifeboat) = &self.lifeboat {
            lifeboat.keep(to);
            lifeboat.forget(from);
        }
        Ok(())
    }

    fn rescue(&self) -> io::Result<u64> {
        let lifeboat = self.lifeboat.as_ref();
        lifeboat.ok_or(io::ErrorKind::NotFound)?.rescue()
    }

    fn heal(&self, name: &str, is_whole: &dyn Fn(&mut dyn io::Read) -> bool) -> io::Result<bool> {
        let Some(second) = self.lifeboat.as_ref().and_then(|boat| boat.second(name)) else {
            return Ok(false);
        };
        let mut file = match open_regular(&second) {
            Ok((file, _)) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if !is_whole(&mut file) {
            return Ok(false);
        }
        self.forget_open(name);
        let path = self.path(name)?;
        let dir = self.make_dir_of(&path)?;
        let tmp = self.dir_path("tmp")?;
        if !tmp.is_dir() {
            self.in_writable(&self.dir, || {
                fsutil::create_dir_private(&tmp).map_err(io::Error::other)
            })?;
        }
        let temporary = super::lifeboat::link_beside(&second, &tmp)?;
        let moved = self.in_writable(&dir, || fsutil::rename(&temporary, &path));
        if moved.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        moved?;
        fsutil::sync_dir(&dir)?;
        self.close_dir(&dir);
        Ok(true)
    }

    fn copies(&self, dir: &str) -> Vec<String> {
        let second = self.lifeboat.as_ref().and_then(|boat| boat.second(dir));
        let listed = second.and_then(|dir| fsutil::read_dir(dir).ok());
        let names = listed.into_iter().flatten().flatten();
        let mut names: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    fn areas(&self) -> Vec<PathBuf> {
        let lifeboat = self.lifeboat.as_ref().and_then(Lifeboat::area);
        lifeboat.into_iter().chain(self.beside()).collect()
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.dir)
    }
}
