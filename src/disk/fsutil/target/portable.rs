//! The target on systems without directory handles (Windows): works by path, and checks each
//! component right before each step.
//!
//! Between check and step somebody could still put a junction in the way, so this is weaker than on
//! Unix.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{File, FileTimes};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::replace::{insist, remove_object, settle};
use super::{Fidelity, Fill, mode_of, names};
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::{RepoPath, os_from_bytes, os_to_bytes, show};
use crate::disk::fsutil::area::OwnArea;
use crate::disk::fsutil::{self, TEMPORARY_PREFIX, open_attributes, point, stat_of};
use crate::model::manifest::{Entry, Kind, Stat, Time};

/// No restore takes this long to write one file, so an older temporary file was left by an
/// interrupted one.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A directory below which files are written.
pub struct Target {
    path: PathBuf,
    fidelity: Fidelity,
    counter: u64,
    token: String,
}

impl Target {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, fidelity: Fidelity) -> Result<Self> {
        // The base itself may be reached through symlinks and junctions: profiles are moved by
        // them.
        if !std::fs::metadata(path).context("open", path)?.is_dir() {
            return Err(Error::io("open", path, io::ErrorKind::NotADirectory.into()));
        }
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|e| Error::io("open", path, io::Error::other(e)))?;
        Ok(Self {
            path: path.to_path_buf(),
            fidelity,
            counter: 0,
            token: format!("{}-{}", std::process::id(), hex::encode(random)),
        })
    }

    /// Returns the path of a directory after checking each component below the base.
    fn directory(&self, path: &RepoPath, create: bool) -> Result<PathBuf> {
        path.components().try_for_each(|c| refuse(path, c))?;
        let mut dir = self.path.clone();
        for component in path.components() {
            dir.push(os_from_bytes(component));
            match std::fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                    point("mkdir").context("create", &dir)?;
                    match fsutil::make_dir(&dir, 0o700) {
                        // Another thread of the same restore was faster.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        other => other.context("create", &dir)?,
                    }
                    only_directory(&dir)?;
                }
                Err(error) => return Err(Error::io("open", dir, error)),
                Ok(_) => only_directory(&dir)?,
            }
        }
        Ok(dir)
    }

    /// Returns the path of an object after checking each directory above it.
    fn place(&self, path: &RepoPath, create: bool) -> Result<PathBuf> {
        let Some(parent) = path.parent() else {
            return Err(Error::Unsafe {
                path: show(self.path.as_os_str()),
                reason: "it is the directory itself".to_owned(),
            });
        };
        refuse(path, path.name())?;
        Ok(self
            .directory(&parent, create)?
            .join(os_from_bytes(path.name())))
    }

    /// Returns nothing: extended attributes are not stored here.
    ///
    /// # Errors
    /// None.
    pub fn xattrs(&mut self, _path: &RepoPath, _kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// Ignores the note: nothing is stored here about which there could be one.
    pub fn note(&mut self, _path: &RepoPath, _what: &str) {}

    /// Returns nothing: everything that cannot be restored here is an error.
    pub fn take_lacking(&mut self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }

    fn temporary(&mut self, beside: &Path) -> PathBuf {
        self.counter += 1;
        beside.with_file_name(format!("{TEMPORARY_PREFIX}{}-{}", self.token, self.counter))
    }

    /// Returns the stat of the object at `path`, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read; a symlink is in the way.
    pub fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        if path.is_root() {
            let metadata = std::fs::metadata(&self.path).context("read", &self.path)?;
            return Ok(Some(stat_of(&metadata)));
        }
        let Some(absolute) = if_there(self.place(path, false))? else {
            return Ok(None);
        };
        if_there(std::fs::symlink_metadata(&absolute).context("read", absolute))
            .map(|found| found.map(|metadata| stat_of(&metadata)))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// There is none, or a symlink is in the way.
    pub fn open_file(&mut self, path: &RepoPath) -> Result<File> {
        let absolute = self.place(path, false)?;
        let metadata = std::fs::symlink_metadata(&absolute).context("read", &absolute)?;
        if !metadata.is_file() {
            return Err(something_else(path));
        }
        File::open(&absolute).context("read", absolute)
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// There is none.
    pub fn read_link(&mut self, path: &RepoPath) -> Result<Vec<u8>> {
        let absolute = self.place(path, false)?;
        let target = std::fs::read_link(&absolute).context("read", absolute)?;
        Ok(os_to_bytes(target.as_os_str()).into_owned())
    }

    /// Writes a regular file: content from `fill`, metadata of `entry`, then its name.
    ///
    /// # Errors
    /// `fill` failed, or the system refused; then the existing object stays.
    pub fn write(
        &mut self,
        path: &RepoPath,
        entry: &Entry,
        sync: bool,
        fill: &mut Fill<'_>,
    ) -> Result<()> {
        let absolute = self.place(path, true)?;
        let temporary = self.temporary(&absolute);
        let mode = mode_of(entry, self.fidelity);
        let written = (|| {
            point("create").context("write", &absolute)?;
            let mut file = File::create_new(&temporary).context("write", &absolute)?;
            fill(&mut |bytes| file.write_all(bytes).context("write", &absolute))?;
            file.set_times(times(entry)).context("write", &absolute)?;
            fsutil::set_mode(&temporary, mode).context("write", &absolute)?;
            if sync {
                point("fsync").context("write", &absolute)?;
                file.sync_all().context("write", &absolute)?;
            }
            Ok(())
        })();
        settle(&temporary, &absolute, written)
    }

    /// Fails: there are no FIFOs here.
    ///
    /// # Errors
    /// Always.
    pub fn fifo(&mut self, path: &RepoPath, _entry: &Entry) -> Result<()> {
        let kind = io::ErrorKind::Unsupported;
        Err(Error::io("write", self.place(path, true)?, kind.into()))
    }

    /// Here nothing is kept in staging areas.
    ///
    /// # Errors
    /// None.
    pub fn adopt(
        &mut self,
        _path: &RepoPath,
        _entry: &Entry,
        _sync: bool,
        _kept: (&OwnArea, u32),
    ) -> Result<Option<Stat>> {
        Ok(None)
    }

    /// Creates a symlink with its target as it is, which is never followed.
    ///
    /// # Errors
    /// The system refused: Windows requires a privilege or developer mode. The existing object
    /// stays.
    pub fn symlink(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let absolute = self.place(path, true)?;
        let Ok(target) = std::str::from_utf8(&entry.body.target) else {
            return Err(Error::Unsafe {
                path: path.to_string(),
                reason: "its target is not Unicode".to_owned(),
            });
        };
        // Links with the other separator can be created, but lead nowhere.
        let native = PathBuf::from(target.replace('/', std::path::MAIN_SEPARATOR_STR));
        // Windows has two kinds of symlinks. Looking at a share would send the user's credentials
        // to a server that the snapshot names.
        let is_dir = target.ends_with('/')
            || (!target.starts_with("//") && absolute.with_file_name(&native).is_dir());
        let temporary = self.temporary(&absolute);
        let made = point("symlink")
            .and_then(|()| fsutil::symlink(&native, &temporary, is_dir))
            .context("write", &absolute);
        if made.is_ok() {
            // Not every file system stores the times of a symlink.
            let _ = open_attributes(&temporary).and_then(|link| link.set_times(times(entry)));
        }
        settle(&temporary, &absolute, made)
    }

    /// Creates `path` as a hard link to the file at `first`, below the same target.
    ///
    /// # Errors
    /// The system refused; then the existing object stays.
    pub fn hard_link(&mut self, path: &RepoPath, first: &RepoPath) -> Result<()> {
        let from = self.place(first, false)?;
        let absolute = self.place(path, true)?;
        let temporary = self.temporary(&absolute);
        let made = point("link")
            .and_then(|()| std::fs::hard_link(from, &temporary))
            .context("link", &absolute);
        settle(&temporary, &absolute, made)
    }

    /// Creates a directory; an existing one stays.
    ///
    /// # Errors
    /// The system refused, or something else is there.
    pub fn make_dir(&mut self, path: &RepoPath) -> Result<()> {
        self.directory(path, true).map(|_| ())
    }

    /// Sets the metadata of `entry` on the object at `path`: times, and on a file the read-only
    /// attribute.
    ///
    /// # Errors
    /// It does not exist, or the system refused.
    pub fn set_metadata(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let absolute = match entry.kind {
            Kind::Dir => self.directory(path, false)?,
            _ => self.place(path, false)?,
        };
        point("metadata").context("change", &absolute)?;
        let object = open_attributes(&absolute).context("change", &absolute)?;
        let stat = stat_of(&object.metadata().context("change", &absolute)?);
        // The base may be a symlink, which was followed.
        if stat.kind != entry.kind && !path.is_root() {
            return Err(something_else(path));
        }
        object
            .set_times(times(entry))
            .context("change", &absolute)?;
        // On a directory the attribute protects nothing: the shell uses it to mark folders with an
        // icon.
        if entry.kind == Kind::File {
            let mode = mode_of(entry, self.fidelity);
            fsutil::set_mode(&absolute, mode).context("change", absolute)?;
        }
        Ok(())
    }

    /// Sets only the time of `entry` on a directory.
    ///
    /// # Errors
    /// It does not exist, or the system refused.
    pub fn set_times(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let dir = self.directory(path, false)?;
        open_attributes(&dir)
            .and_then(|object| object.set_times(times(entry)))
            .context("change", dir)
    }

    /// Does nothing: directories are never closed here.
    ///
    /// # Errors
    /// None.
    pub fn open_up(&mut self, _: &RepoPath) -> Result<Option<Stat>> {
        Ok(None)
    }

    /// Does nothing: directories have no mode here.
    ///
    /// # Errors
    /// None.
    pub fn set_mode(&mut self, _: &RepoPath, _: &Stat) -> Result<()> {
        Ok(())
    }

    /// Removes a file or symlink; a missing one counts as removed.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove(&mut self, path: &RepoPath) -> Result<()> {
        let Some(absolute) = if_there(self.place(path, false))? else {
            return Ok(());
        };
        point("unlink").context("remove", &absolute)?;
        if_there(remove_object(&absolute).context("remove", absolute)).map(|_| ())
    }

    /// Removes an empty directory; returns false if it is not empty.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove_dir(&mut self, path: &RepoPath) -> Result<bool> {
        let Some(absolute) = if_there(self.place(path, false))? else {
            return Ok(true);
        };
        // Otherwise a junction would be removed as if it were the directory.
        if if_there(only_directory(&absolute))?.is_none() {
            return Ok(true);
        }
        point("unlink").context("remove", &absolute)?;
        match insist(&absolute, || std::fs::remove_dir(&absolute)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(Error::io("remove", absolute, error)),
        }
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn sync_dir(&mut self, path: &RepoPath) -> Result<()> {
        let dir = self.directory(path, false)?;
        fsutil::sync_dir(&dir).context("write", dir)
    }

    /// Removes temporary files that an interrupted restore left in a directory.
    pub fn sweep(&mut self, path: &RepoPath) {
        let Ok(dir) = self.directory(path, false) else {
            return;
        };
        let Ok(entries) = fsutil::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(TEMPORARY_PREFIX)) else {
                continue;
            };
            if !fsutil::is_temporary_name(name.as_encoded_bytes()) {
                continue;
            }
            let owner = rest.split('-').next().and_then(|pid| pid.parse().ok());
            let gone = owner.is_some_and(|pid: u32| !fsutil::process_runs(pid));
            // If that is unknown, decide by age. The time of change does not help: it is already
            // the entry's.
            let created = entry.metadata().and_then(|m| m.created());
            let stale = created.is_ok_and(|t| t.elapsed().is_ok_and(|age| age > STALE));
            if gone || stale {
                let _ = remove_object(&entry.path());
            }
        }
    }
}

fn refuse(path: &RepoPath, component: &[u8]) -> Result<()> {
    match names::refusal(component) {
        Some(reason) => Err(Error::Unsafe {
            path: path.to_string(),
            reason: reason.to_owned(),
        }),
        None => Ok(()),
    }
}

fn something_else(path: &RepoPath) -> Error {
    Error::Unsafe {
        path: path.to_string(),
        reason: "it was replaced meanwhile".to_owned(),
    }
}

/// Makes sure that a directory is one, not a symlink or junction.
fn only_directory(dir: &Path) -> Result<()> {
    if std::fs::symlink_metadata(dir)
        .context("open", dir)?
        .is_dir()
    {
        return Ok(());
    }
    Err(Error::Unsafe {
        path: show(dir.as_os_str()),
        reason: "there is a symlink or file where a directory should be".to_owned(),
    })
}

fn if_there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the times to set; none if this system cannot express them.
fn times(entry: &Entry) -> FileTimes {
    let Time(seconds, nanos) = entry.mtime;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    match time.and_then(|t| t.checked_add(Duration::from_nanos(nanos.into()))) {
        Some(time) => FileTimes::new().set_modified(time).set_accessed(time),
        None => FileTimes::new(),
    }
}
