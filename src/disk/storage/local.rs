//! A repository in a directory.
//!
//! Staged files are in `tmp/` of the same file system. Published files are 0400; between writes
//! their directories are 0500 where modes mean something, so that a stray `rm -r` fails.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Hold, Lifeboat, Listed, Look, Staged, Storage};
use crate::base::error::Result;
use crate::disk::fsutil::{self, Dir, Found, Identity, Lock, Sharing};
use crate::model::manifest::Time;

/// A repository in a local directory.
pub struct LocalStorage {
    dir: PathBuf,
    held: Mutex<Held>,
    /// Recently read files: restores read one pack many times.
    open: Mutex<Vec<(String, Arc<File>)>>,
    lifeboat: Option<Lifeboat>,
}

/// The repository's directory as it was first found: its path may lead elsewhere by the next step.
#[derive(Default)]
struct Held {
    dir: Option<Arc<Dir>>,
    known: Option<Known>,
}

/// Identifies the repository when its directory is opened again.
struct Known {
    directory: Identity,
    /// Its `format.json`: after a remount, the same directory has another identity.
    format: Option<Vec<u8>>,
}

impl Known {
    /// Returns true if the repository is in `dir`.
    fn is_in(&self, dir: &Dir) -> io::Result<bool> {
        Ok(dir.identity()? == self.directory
            || self.format.is_some() && self.format == read_in(dir, FORMAT).ok())
    }
}

/// The file that makes a directory a repository and identifies it.
const FORMAT: &str = "format.json";

const OPEN_FILES: usize = 32;

impl LocalStorage {
    /// Names a directory; touches nothing yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            held: Mutex::default(),
            open: Mutex::new(Vec::new()),
            lifeboat: None,
        }
    }

    /// Hard-links every file that is published from now on.
    #[must_use]
    pub fn with_lifeboat(mut self, lifeboat: Lifeboat) -> Self {
        self.lifeboat = Some(lifeboat);
        self
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which repository it is, as soon as that is known.
    fn note_format(&self, format: &[u8]) {
        if let Some(known) = &mut self.held().known {
            known.format.get_or_insert_with(|| format.to_vec());
        }
    }

    /// Returns the repository's directory: the one found first, for as long as it is open. When it
    /// is opened again, only the same repository is accepted.
    fn top(&self) -> io::Result<Arc<Dir>> {
        let mut held = self.held();
        if let Some(dir) = &held.dir {
            return Ok(Arc::clone(dir));
        }
        let dir = Dir::open(&self.dir)?;
        match &held.known {
            Some(known) if !known.is_in(&dir)? => {
                let what = "the repository was replaced by another directory";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Some(_) => {}
            None => {
                let directory = dir.identity()?;
                let format = None;
                held.known = Some(Known { directory, format });
            }
        }
        let dir = Arc::new(dir);
        held.dir = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Opens a directory of the repository step by step. A symlink in place of one leads elsewhere,
    /// and nothing there is listed, read, written or closed, whenever the link appeared.
    fn dir_at(&self, name: &str) -> io::Result<Arc<Dir>> {
        match below(self.top()?, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It may have been deleted and restored.
                self.held().dir = None;
                below(self.top()?, name)
            }
            other => other,
        }
    }

    /// Opens the directory of a file.
    fn dir_of(&self, name: &str) -> io::Result<Arc<Dir>> {
        self.dir_at(parts(name)?.0)
    }

    /// Opens a directory for listing; `None` if that part of the repository is missing (yet).
    fn listed_dir(&self, name: &str) -> io::Result<Option<Arc<Dir>>> {
        if name.is_empty() {
            // A deleted directory looks empty through an open handle.
            self.held().dir = None;
        }
        match self.dir_at(name) {
            // If the whole repository is gone, that is an error; a missing part is just empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.top().is_ok() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns what is at a name; `None` if it or its directory does not exist.
    fn found(&self, name: &str) -> io::Result<Option<Found>> {
        match self.dir_of(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            dir => dir?.look(parts(name)?.1),
        }
    }

    fn opened(&self, name: &str) -> io::Result<Arc<File>> {
        if let Ok(open) = self.open.lock()
            && let Some((_, file)) = open.iter().find(|(n, _)| n == name)
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.dir_of(name)?.file(parts(name)?.1)?.0);
        if let Ok(mut open) = self.open.lock() {
            if open.len() >= OPEN_FILES {
                open.remove(0);
            }
            open.push((name.to_owned(), Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Opens a directory of the repository, and creates it if it is missing.
    fn make_dir(&self, name: &str) -> io::Result<Arc<Dir>> {
        let mut dir = self.top()?;
        let mut is_top = true;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            let next = match dir.dir(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    in_writable(&dir, || match dir.make_dir(part) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                        made => made,
                    })?;
                    dir.sync()?;
                    if !is_top {
                        close(&dir);
                    }
                    dir.dir(part)?
                }
                other => other?,
            };
            dir = Arc::new(next);
            is_top = false;
        }
        Ok(dir)
    }

    /// Removes a name, not durably yet; returns its directory.
    fn unlink(&self, name: &str) -> io::Result<Arc<Dir>> {
        self.forget_open(name);
        let (_, file) = parts(name)?;
        let dir = self.dir_of(name)?;
        in_writable(&dir, || dir.remove_file(file))?;
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
}

/// Opens a directory below `top`, step by step.
fn below(top: Arc<Dir>, name: &str) -> io::Result<Arc<Dir>> {
    let mut dir = top;
    for part in name.split('/').filter(|part| !part.is_empty()) {
        if matches!(part, "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        dir = Arc::new(dir.dir(part)?);
    }
    Ok(dir)
}

fn read_in(dir: &Dir, name: &str) -> io::Result<Vec<u8>> {
    let (mut file, bytes) = dir.file(name)?;
    if bytes > super::MAX_READ_BYTES {
        return Err(super::too_large(bytes));
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    // One byte more than expected: this notices a growing file, and saves another read to find the
    // end.
    (&mut file).take(bytes + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Splits a name into the directory and the name in it.
fn parts(name: &str) -> io::Result<(&str, &str)> {
    let (dir, file) = name.rsplit_once('/').unwrap_or(("", name));
    match file {
        "" | "." | ".." => Err(io::ErrorKind::InvalidInput.into()),
        _ => Ok((dir, file)),
    }
}

/// Runs a change in `dir`, making it writable if necessary.
fn in_writable(dir: &Dir, mut change: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for attempt in 0.. {
        match change() {
            // Another writer may have closed the directory between our opening it and the change.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && attempt < 100 => {
                dir.set_mode(0o700)?;
            }
            other => {
                other?;
                break;
            }
        }
    }
    Ok(())
}

/// Closes a directory against a stray `rm -r`.
fn close(dir: &Dir) {
    if cfg!(unix) {
        // A convenience, not a promise: if it fails, nothing that matters changes.
        let _ = dir.set_mode(0o500);
    }
}

/// Opens a regular file and returns its size; anything else is an error, even a symlink.
fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let file = fsutil::open_own(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok((file, metadata.len()))
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a regular file")
}

struct LocalStaged {
    file: File,
    dir: Arc<Dir>,
    name: String,
    published: bool,
}

impl Drop for LocalStaged {
    fn drop(&mut self) {
        if !self.published {
            let _ = self.dir.remove_file(&self.name);
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
    /// Returns a place next to the repository on its file system. Not inside, because what is kept
    /// there is not sealed yet.
    fn beside(&self) -> Option<PathBuf> {
        let mut name = self.dir.file_name()?.to_owned();
        name.push("-staging");
        Some(self.dir.with_file_name(name))
    }

    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Returns places for files that do not go through the storage, best first: places that may
    /// survive the repository.
    pub fn areas(&self) -> Vec<PathBuf> {
        let lifeboat = self.lifeboat.as_ref().and_then(Lifeboat::area);
        lifeboat.into_iter().chain(self.beside()).collect()
    }

    /// Restores files that were deleted from outside, from their hard links. Returns how many.
    ///
    /// # Errors
    /// There are no hard links, or the files cannot be restored.
    pub fn rescue(&self) -> io::Result<u64> {
        let lifeboat = self.lifeboat.as_ref();
        let back = lifeboat.ok_or(io::ErrorKind::NotFound)?.rescue()?;
        // It is a new directory now, with the same content.
        self.let_go();
        let mut held = self.held();
        held.known.take_if(|known| known.format.is_none());
        drop(held);
        Ok(back)
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        let (place, own) = parts(name)?;
        match self.dir_at(place)?.lock(own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // As in `dir_at`.
                self.held().dir = None;
                self.dir_at(place)?.lock(own)
            }
            other => other,
        }
    }
}

impl Storage for LocalStorage {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let content = read_in(&*self.dir_of(name)?, parts(name)?.1)?;
        if name == FORMAT {
            self.note_format(&content);
        }
        Ok(content)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        fsutil::read_exact_at(&*self.opened(name)?, buffer, offset)
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match self.found(name)? {
            Some(found) if !found.is_file => Err(not_regular()),
            found => Ok(found.map(|found| found.bytes)),
        }
    }

    fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let found = self.found(name)?.filter(|found| found.is_file);
        Ok(found.map(|found| Look {
            bytes: found.bytes,
            time: Some(found.mtime),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let Some(dir) = self.listed_dir(dir)? else {
            return Ok(Vec::new());
        };
        let mut listed = Vec::new();
        for name in dir.names()? {
            if let Some(found) = dir.look(&name)? {
                listed.push(Listed {
                    name,
                    bytes: found.bytes,
                    is_dir: found.is_dir,
                });
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = match self.listed_dir(dir)? {
            Some(dir) => dir.names()?,
            None => Vec::new(),
        };
        names.sort_unstable();
        Ok(names)
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        let dir = self.make_dir("tmp")?;
        let (file, name) = dir.temporary(0o400)?;
        Ok(Box::new(LocalStaged {
            file,
            dir,
            name,
            published: false,
        }))
    }

    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()> {
        self.publish_all(vec![(staged, name)])
    }

    fn publish_all(&self, files: Vec<(Box<dyn Staged>, &str)>) -> io::Result<()> {
        let mut staged = Vec::with_capacity(files.len());
        for (file, name) in files {
            let file = file.as_any().downcast::<LocalStaged>();
            let file = file.map_err(|_| io::Error::other("staged by another storage"))?;
            staged.push((file, name));
        }
        for (file, _) in &staged {
            fsutil::point("fsync")?;
            file.file.sync_all()?;
        }
        // All names before the first fsync of a directory: a journal that is written for one of
        // them has the others in it, in the order of the renames.
        let mut dirs: Vec<(&str, Arc<Dir>)> = Vec::new();
        let mut named = Vec::with_capacity(staged.len());
        for (mut file, name) in staged {
            let (place, own) = parts(name)?;
            let dir = match dirs.iter().find(|(open, _)| *open == place) {
                Some((_, dir)) => Arc::clone(dir),
                None => {
                    let dir = self.make_dir(place)?;
                    dirs.push((place, Arc::clone(&dir)));
                    dir
                }
            };
            in_writable(&dir, || file.dir.rename(&file.name, &dir, own))?;
            file.published = true;
            named.push((name, dir));
        }
        for (place, dir) in &dirs {
            dir.sync()?;
            if !place.is_empty() {
                close(dir);
            }
        }
        if let Some(lifeboat) = &self.lifeboat {
            named
                .iter()
                .for_each(|(name, dir)| lifeboat.keep(name, dir));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.unlink(name)?.sync()
    }

    fn remove_all(&self, names: &[String]) -> io::Result<()> {
        // One fsync for many names: a thousand of them would take seconds.
        let mut dirs = std::collections::BTreeMap::new();
        for name in names {
            match self.unlink(name) {
                // A missing directory contains no name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                dir => drop(dirs.insert(parts(name)?.0, dir?)),
            }
        }
        dirs.values().try_for_each(|dir| dir.sync())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget_open(from);
        self.forget_open(to);
        let ((old_place, old), (new_place, new)) = (parts(from)?, parts(to)?);
        let old_dir = self.dir_at(old_place)?;
        let new_dir = self.make_dir(new_place)?;
        in_writable(&new_dir, || {
            // The error does not say which of the two directories forbids the rename.
            old_dir.set_mode(0o700)?;
            old_dir.rename(old, &new_dir, new)
        })?;
        // The new name first: after a crash there are two names rather than none.
        new_dir.sync()?;
        old_dir.sync()?;
        for (place, dir) in [(old_place, &old_dir), (new_place, &new_dir)] {
            if !place.is_empty() {
                close(dir);
            }
        }
        if let Some(lifeboat) = &self.lifeboat {
            lifeboat.keep(to, &new_dir);
            lifeboat.forget(from);
        }
        Ok(())
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
        let (place, own) = parts(name)?;
        let dir = self.make_dir(place)?;
        let tmp = self.make_dir("tmp")?;
        let temporary = super::lifeboat::name_in(&second, &tmp)?;
        let moved = in_writable(&dir, || tmp.rename(&temporary, &dir, own));
        if moved.is_err() {
            let _ = tmp.remove_file(&temporary);
        }
        moved?;
        dir.sync()?;
        if !place.is_empty() {
            close(&dir);
        }
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

    fn lock(&self, name: &str, sharing: Sharing, patience: Duration) -> io::Result<Option<Hold>> {
        let lock = Lock::take(self.lock_file(name)?, sharing, patience)?;
        Ok(Some(Hold::new(lock)))
    }

    fn abandoned(&self, before: Time) -> io::Result<Vec<String>> {
        let Some(dir) = self.listed_dir("tmp")? else {
            return Ok(Vec::new());
        };
        let mut names = dir.names()?;
        names.retain(|name| {
            let is_old = |found: Found| found.is_file && found.mtime < before;
            name.starts_with(fsutil::TEMPORARY_PREFIX)
                && dir.look(name).ok().flatten().is_some_and(is_old)
        });
        Ok(names.iter().map(|name| format!("tmp/{name}")).collect())
    }

    fn prepare(&self) -> Result<()> {
        fsutil::create_dir_private(&self.dir)
    }

    fn let_go(&self) {
        self.held().dir = None;
        if let Ok(mut open) = self.open.lock() {
            open.clear();
        }
    }

    fn local(&self) -> Option<&LocalStorage> {
        Some(self)
    }
}
