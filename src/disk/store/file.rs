//! A destination in a directory: a mounted disk, a share.
//!
//! The directory itself is only made by [`Store::prepare`], when somebody adds the destination: if
//! a disk is away, its objects must not land in the directory that it is mounted on.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use super::counted::Counted;
use super::pace::{Pace, STOPPED};
use super::tree::{self, Entry};
use super::{Conduct, Object, Store, StoreError, StoreResult, Traffic, Trouble, Write, key};
use crate::disk::fsutil::{self, Dir};

/// Held back in pieces of this size where a limit is set, in bytes.
const CHUNK: usize = 64 << 10;

pub(super) struct FileStore {
    path: PathBuf,
    counted: Counted,
    pace: Pace,
}

impl FileStore {
    pub(super) fn new(path: PathBuf, conduct: &Conduct) -> Self {
        Self {
            path,
            counted: Counted::default(),
            pace: Pace::new(conduct),
        }
    }

    fn top(&self) -> StoreResult<Dir> {
        Dir::open(&self.path).map_err(|error| {
            let shown = crate::base::path::show(self.path.as_os_str());
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::new(
                    Trouble::NoPlace,
                    format!("there is no directory `{shown}`: is its disk mounted?"),
                ),
                _ => said(&error),
            }
        })
    }

    /// Opens the directory that a prefix names; `None` if there is none.
    fn dir(&self, prefix: &str) -> StoreResult<Option<Dir>> {
        let mut dir = self.top()?;
        for part in prefix.split('/').filter(|part| !part.is_empty()) {
            dir = match dir.dir(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.map_err(|error| said(&error))?,
            };
        }
        Ok(Some(dir))
    }

    /// Opens the directory that a prefix names, and makes what is missing below the top.
    fn made_dir(&self, prefix: &str) -> StoreResult<Dir> {
        let mut dir = self.top()?;
        for part in prefix.split('/').filter(|part| !part.is_empty()) {
            dir = (|| match dir.dir(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match dir.make_dir(part) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        made => made?,
                    }
                    dir.sync()?;
                    dir.dir(part)
                }
                other => other,
            })()
            .map_err(|error| said(&error))?;
        }
        Ok(dir)
    }
}

/// Splits a key into the prefix and the last part.
fn parts(name: &str) -> StoreResult<(&str, &str)> {
    key::check(name)?;
    Ok(name.rsplit_once('/').unwrap_or(("", name)))
}

fn said(error: &io::Error) -> StoreError {
    let trouble = match error.kind() {
        io::ErrorKind::NotFound => Trouble::NotFound,
        io::ErrorKind::AlreadyExists => Trouble::Exists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Trouble::Forbidden,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::StaleNetworkFileHandle => Trouble::Unreachable,
        io::ErrorKind::InvalidData => Trouble::Nonsense,
        _ => Trouble::Other,
    };
    StoreError::new(trouble, error.to_string())
}

/// Writes a temporary file in `dir` and gives it its name; durable when it returns.
fn write(dir: &Dir, name: &str, bytes: &[u8], how: Write, pace: &Pace) -> io::Result<()> {
    let (mut file, temporary) = dir.temporary(0o600)?;
    let written = (|| {
        fsutil::point("write")?;
        for chunk in bytes.chunks(CHUNK) {
            if !pace.wait(chunk.len()) {
                return Err(io::Error::other(STOPPED));
            }
            file.write_all(chunk)?;
        }
        fsutil::point("fsync")?;
        file.sync_all()?;
        match how {
            Write::CreateOnly => dir.rename_new(&temporary, dir, name),
            Write::Plain => dir.rename(&temporary, dir, name),
        }
    })();
    if written.is_err() {
        // The first error is the one that matters.
        let _ = dir.remove_file(&temporary);
    }
    written?;
    dir.sync()
}

fn read(dir: &Dir, name: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
    let (mut file, bytes) = dir.file(name).map_err(|error| said(&error))?;
    let Range { start, end } = range.unwrap_or(0..bytes);
    if start > end || end > bytes {
        return Err(super::too_short(bytes, end));
    }
    let length = usize::try_from(end - start).map_err(|_| super::too_short(bytes, end))?;
    let mut content = vec![0; length];
    let filled = file
        .seek(io::SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut content));
    match filled {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(super::too_short(bytes, end))
        }
        other => other.map(|()| content).map_err(|error| said(&error)),
    }
}

/// Returns what may be bdr's in a directory. Anything else is left out: symlinks, names that no key
/// has, files that are being written.
fn entries(dir: &Dir) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for name in dir.names()? {
        // One that is gone by now was removed meanwhile.
        let Some(found) = dir.look(&name)? else {
            continue;
        };
        if found.is_dir || found.is_file {
            entries.extend(Entry::of(&name, found.bytes, found.is_dir));
        }
    }
    Ok(entries)
}

impl Store for FileStore {
    fn prepare(&self) -> StoreResult<()> {
        let made = fsutil::create_dir_private(&self.path);
        let shown = || crate::base::path::show(self.path.as_os_str());
        made.map_err(|error| match &error {
            crate::Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => StoreError::new(
                    Trouble::NoPlace,
                    format!("`{}` is no directory, or is below a file", shown()),
                ),
                io::ErrorKind::NotFound => StoreError::new(
                    Trouble::NoPlace,
                    format!("the directory `{}` cannot be made", shown()),
                ),
                _ => said(source),
            },
            _ => StoreError::new(Trouble::Other, error.to_string()),
        })
    }

    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        let (prefix, name) = parts(key)?;
        self.counted.request(bytes.len(), 0);
        let dir = self.made_dir(prefix)?;
        write(&dir, name, bytes, how, &self.pace).map_err(|error| said(&error))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        let (prefix, name) = parts(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let content = match self.dir(prefix)? {
            None => Err(StoreError::new(
                Trouble::NotFound,
                "there is no such object",
            )),
            Some(dir) => read(&dir, name, range),
        };
        let received = content.as_ref().map_or(0, Vec::len);
        self.counted.request(0, received);
        match self.pace.wait(received) {
            true => content,
            false => Err(StoreError::new(Trouble::Other, STOPPED)),
        }
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        let (prefix, name) = parts(key)?;
        self.counted.request(0, 0);
        let Some(dir) = self.dir(prefix)? else {
            return Ok(None);
        };
        let found = dir.look(name).map_err(|error| said(&error))?;
        Ok(found.filter(|found| found.is_file).map(|found| found.bytes))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        key::check_prefix(prefix)?;
        self.counted.request(0, 0);
        let entries = |prefix: &str| match self.dir(prefix)? {
            None => Ok(Vec::new()),
            Some(dir) => entries(&dir).map_err(|error| said(&error)),
        };
        tree::walk(&entries, prefix, after, each)
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        self.counted.request(0, 0);
        let Some(dir) = self.dir(prefix)? else {
            return Ok(Vec::new());
        };
        let entries = entries(&dir).map_err(|error| said(&error))?;
        let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        let (prefix, name) = parts(key)?;
        self.counted.request(0, 0);
        let Some(dir) = self.dir(prefix)? else {
            return Ok(());
        };
        let removed = dir.remove_file(name).and_then(|()| dir.sync());
        removed.map_err(|error| said(&error))
    }

    fn has_create_only(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.counted.so_far()
    }
}
