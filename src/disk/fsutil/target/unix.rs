//! The target on Unix: every step through the handle of the parent directory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::sink::Sink;
use super::{Fidelity, Fill, mode_of};
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::RepoPath;
use crate::disk::fsutil::area::OwnArea;
use crate::disk::fsutil::{
    DIR_FLAGS, LINK_FLAGS, TEMPORARY_PREFIX, attributes, c_path, is_temporary_name, point, stat_of,
};
use crate::model::manifest::{Entry, Kind, Stat};

/// How many directory handles stay open; others are opened again.
const KEPT_DIRS: usize = 64;

/// A directory below which files are written.
pub struct Target {
    path: PathBuf,
    dir: Arc<OwnedFd>,
    dirs: HashMap<RepoPath, Arc<OwnedFd>>,
    fidelity: Fidelity,
    /// Owners can be restored.
    privileged: bool,
    counter: u64,
    token: String,
    /// Metadata that could not be restored since the last `take_lacking`.
    lacking: Vec<(PathBuf, String)>,
}

impl Target {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, fidelity: Fidelity) -> Result<Self> {
        // The base itself may be reached through symlinks: /home often is one.
        let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
        let dir = rustix::fs::open(path, flags, Mode::empty()).context("open", path)?;
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|e| Error::io("open", path, io::Error::other(e)))?;
        Ok(Self {
            path: path.to_path_buf(),
            dir: Arc::new(dir),
            dirs: HashMap::new(),
            fidelity,
            privileged: rustix::process::geteuid().is_root(),
            counter: 0,
            lacking: Vec::new(),
            token: format!("{}-{}", std::process::id(), hex::encode(random)),
        })
    }

    fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    fn directory(&mut self, path: &RepoPath, create: bool) -> Result<Arc<OwnedFd>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.dir));
        }
        if let Some(dir) = self.dirs.get(path) {
            return Ok(Arc::clone(dir));
        }
        let parent = self.directory(&path.parent().unwrap_or_default(), create)?;
        let name = c_path(path.name()).context("open", self.absolute(path))?;
        let opened = match rustix::fs::openat(&parent, &name, DIR_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) if create => {
                point("mkdir").context("create", self.absolute(path))?;
                rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o700))
                    .context("create", self.absolute(path))?;
                rustix::fs::openat(&parent, &name, DIR_FLAGS, Mode::empty())
            }
            other => other,
        };
        let dir = match opened {
            Ok(dir) => Arc::new(dir),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::MLINK) => {
                return Err(Error::Unsafe {
                    path: crate::base::path::show(self.absolute(path).as_os_str()),
                    reason: "there is a symlink or file where a directory should be".to_owned(),
                });
            }
            Err(errno) => return Err(Error::io("open", self.absolute(path), errno.into())),
        };
        if self.dirs.len() >= KEPT_DIRS {
            self.dirs.clear();
        }
        self.dirs.insert(path.clone(), Arc::clone(&dir));
        Ok(dir)
    }

    fn parent(&mut self, path: &RepoPath, create: bool) -> Result<Arc<OwnedFd>> {
        self.directory(&path.parent().unwrap_or_default(), create)
    }

    /// Returns the stat of the object at `path`, `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read; a symlink is in the way.
    pub fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        let parent = match self.parent(path, false) {
            Ok(parent) => parent,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if path.is_root() {
            return rustix::fs::fstat(&parent)
                .map(|s| Some(stat_of(&s)))
                .context("read", &self.path);
        }
        let name = c_path(path.name()).context("read", self.absolute(path))?;
        match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("read", self.absolute(path), errno.into())),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// There is none, or a symlink is in the way.
    pub fn open_file(&mut self, path: &RepoPath) -> Result<File> {
        let parent = self.parent(path, false)?;
        let name = c_path(path.name()).context("read", self.absolute(path))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &name, flags, Mode::empty())
            .context("read", self.absolute(path))?;
        Ok(File::from(file))
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// There is none.
    pub fn read_link(&mut self, path: &RepoPath) -> Result<Vec<u8>> {
        let parent = self.parent(path, false)?;
        let name = c_path(path.name()).context("read", self.absolute(path))?;
        Ok(rustix::fs::readlinkat(&parent, &name, Vec::new())
            .context("read", self.absolute(path))?
            .into_bytes())
    }

    /// Returns the extended attributes of the object at a path.
    ///
    /// # Errors
    /// It does not exist, or they cannot be read.
    pub fn xattrs(&mut self, path: &RepoPath, kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        let absolute = self.absolute(path);
        match kind {
            Kind::File => attributes::of_file(&self.open_file(path)?),
            Kind::Dir => {
                let dir = self.directory(path, false)?;
                attributes::of_file(&File::from(dir.try_clone().context("read", &absolute)?))
            }
            Kind::Symlink if self.privileged => attributes::of_link(&self.open_link(path)?),
            _ => Ok(Vec::new()),
        }
        .context("read", absolute)
    }

    fn open_link(&mut self, path: &RepoPath) -> Result<OwnedFd> {
        let parent = self.parent(path, false)?;
        let name = c_path(path.name()).context("read", self.absolute(path))?;
        rustix::fs::openat(&parent, &name, LINK_FLAGS, Mode::empty())
            .context("read", self.absolute(path))
    }

    /// Adds a remark about what was written to a path.
    pub fn note(&mut self, path: &RepoPath, what: &str) {
        self.lacking.push((self.absolute(path), what.to_owned()));
    }

    /// Returns metadata that could not be restored since the last call.
    pub fn take_lacking(&mut self) -> Vec<(PathBuf, String)> {
        std::mem::take(&mut self.lacking)
    }

    fn lacks(&mut self, path: &RepoPath, what: String) {
        self.lacking.push((self.absolute(path), what));
    }

    fn temporary(&mut self) -> Vec<u8> {
        self.counter += 1;
        format!("{TEMPORARY_PREFIX}{}-{}", self.token, self.counter).into_bytes()
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
        let parent = self.parent(path, true)?;
        let absolute = self.absolute(path);
        let temporary = c_path(&self.temporary()).context("write", &absolute)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        point("create").context("write", &absolute)?;
        // Private until it has its metadata: its temporary name must not let others read it.
        let file = rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o600))
            .context("write", &absolute)?;
        let file = File::from(file);
        let result = (|| {
            let mut sink = Sink::new(&file, entry.body.sparse);
            fill(&mut |bytes| sink.write(bytes).context("write", &absolute))?;
            sink.finish().context("write", &absolute)?;
            self.set_on(path, &file, entry)
                .context("write", &absolute)?;
            if sync {
                point("fsync").context("write", &absolute)?;
                file.sync_all().context("write", &absolute)?;
            }
            self.rename(&parent, &temporary, path)
        })();
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        result
    }

    /// Gives a file that is kept in a staging area its name back, instead of writing it anew, if it is
    /// in every respect as `entry` says and has no other name, under which somebody else may write to
    /// it. Returns its stat; `None` if it has to be written.
    ///
    /// # Errors
    /// The system refused; then the existing object stays.
    pub fn adopt(
        &mut self,
        path: &RepoPath,
        entry: &Entry,
        sync: bool,
        (area, number): (&OwnArea, u32),
    ) -> Result<Option<Stat>> {
        // Elsewhere the object is another one, with its own metadata.
        if self.fidelity != Fidelity::InPlace
            || mode_of(entry, self.fidelity) != entry.mode & 0o7777
        {
            return Ok(None);
        }
        let parent = self.parent(path, true)?;
        let absolute = self.absolute(path);
        let temporary = c_path(&self.temporary()).context("write", &absolute)?;
        let fits = |file: &File| {
            let found = rustix::fs::fstat(file).map(|stat| stat_of(&stat));
            found.is_ok_and(|found| {
                found.links == 1
                    && (found.kind, found.size, found.mtime)
                        == (entry.kind, entry.size, entry.mtime)
                    && (found.mode, found.uid, found.gid) == (entry.mode, entry.uid, entry.gid)
                    && attributes::of_file(file).is_ok_and(|found| found == entry.body.xattrs)
            })
        };
        let lent = area.lend(number, (parent.as_fd(), &temporary), fits);
        let Ok(Some(file)) = lent else {
            return Ok(None);
        };
        let synced = match sync {
            true => file.sync_all().context("write", &absolute),
            false => Ok(()),
        };
        let done = synced.and_then(|()| self.rename(&parent, &temporary, path));
        // If another name of this very file is there, it stays, and so does the temporary one (POSIX).
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        done?;
        let stat = rustix::fs::fstat(&file).context("read", absolute)?;
        Ok(Some(stat_of(&stat)))
    }

    fn rename(&self, parent: &OwnedFd, temporary: &std::ffi::CStr, path: &RepoPath) -> Result<()> {
        let absolute = self.absolute(path);
        let name = c_path(path.name()).context("write", &absolute)?;
        point("rename").context("write", &absolute)?;
        let renamed = rustix::fs::renameat(parent, temporary, parent, &name);
        if renamed.is_err() {
            // Nothing of bdr stays there.
            let _ = rustix::fs::unlinkat(parent, temporary, AtFlags::empty());
        }
        renamed.context("write", absolute)
    }

    /// Creates a symlink with its target as it is, which is never followed.
    ///
    /// # Errors
    /// The system refused.
    pub fn symlink(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let parent = self.parent(path, true)?;
        let absolute = self.absolute(path);
        let temporary = c_path(&self.temporary()).context("write", &absolute)?;
        let target = c_path(&entry.body.target).context("write", &absolute)?;
        point("symlink").context("write", &absolute)?;
        rustix::fs::symlinkat(&target, &parent, &temporary).context("write", &absolute)?;
        self.set_on_link(path, &parent, &temporary, entry);
        self.rename(&parent, &temporary, path)
    }

    /// Creates a FIFO.
    ///
    /// # Errors
    /// The system refused.
    pub fn fifo(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let parent = self.parent(path, true)?;
        let absolute = self.absolute(path);
        let temporary = c_path(&self.temporary()).context("write", &absolute)?;
        point("mkfifo").context("write", &absolute)?;
        make_fifo(&parent, &temporary).context("write", &absolute)?;
        let result = self
            .set_on_name(path, &parent, &temporary, entry)
            .context("write", &absolute)
            .and_then(|()| self.rename(&parent, &temporary, path));
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        result
    }

    /// Sets owner, mode and times of `name`, which is not a symlink, without opening it: opening a
    /// FIFO would wake the process at its other end.
    fn set_on_name(
        &mut self,
        path: &RepoPath,
        parent: &OwnedFd,
        name: &std::ffi::CStr,
        entry: &Entry,
    ) -> rustix::io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = stat_of(&rustix::fs::statat(parent, name, flags)?);
        if stat.kind != entry.kind {
            return Err(Errno::EXIST);
        }
        self.give_owner(path, &stat, entry, &|uid, gid| {
            rustix::fs::chownat(parent, name, uid, gid, flags)
        });
        let mode = Mode::from_raw_mode(mode_of(entry, self.fidelity) as _);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        rustix::fs::utimensat(parent, name, &times(entry), flags)
    }

    /// Sets owner, attributes and times of the symlink `name`; `path` is its current or future
    /// name.
    fn set_on_link(
        &mut self,
        path: &RepoPath,
        parent: &OwnedFd,
        name: &std::ffi::CStr,
        entry: &Entry,
    ) {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(parent, name, flags).map(|stat| stat_of(&stat));
        if let Ok(stat) = stat {
            self.give_owner(path, &stat, entry, &|uid, gid| {
                rustix::fs::chownat(parent, name, uid, gid, flags)
            });
        }
        let wanted = self.wanted(entry);
        if (self.privileged || !wanted.is_empty())
            && let Ok(link) = rustix::fs::openat(parent, name, LINK_FLAGS, Mode::empty())
        {
            for name in attributes::set_on_link(&link, &wanted) {
                self.lacks(
                    path,
                    format!("its attribute `{name}` could not be restored"),
                );
            }
        }
        // Not every file system stores the times of a symlink.
        let _ = rustix::fs::utimensat(parent, name, &times(entry), flags);
    }

    /// Restores the owner if it differs. Elsewhere, and without root, restored files belong to
    /// whoever restores.
    fn give_owner(
        &mut self,
        path: &RepoPath,
        stat: &Stat,
        entry: &Entry,
        chown: &dyn Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) {
        let uid = (stat.uid != entry.uid).then(|| Uid::from_raw(entry.uid));
        let gid = (stat.gid != entry.gid).then(|| Gid::from_raw(entry.gid));
        if uid.is_none() && gid.is_none() {
            return;
        }
        let expected = self.privileged || self.fidelity == Fidelity::InPlace;
        // The group may be one of the user's own, which they can set even if they cannot set the
        // user.
        let given = chown(uid, gid).is_ok();
        let group_given = !given && gid.is_some() && chown(None, gid).is_ok();
        if !given && expected && (uid.is_some() || !group_given) {
            let (uid, gid) = (entry.uid, entry.gid);
            self.lacks(path, format!("its owner {uid}:{gid} could not be restored"));
        }
    }

    /// Returns the attributes that an object should have here.
    fn wanted(&self, entry: &Entry) -> Vec<(String, Vec<u8>)> {
        let all = entry.body.xattrs.iter();
        let elsewhere = self.fidelity == Fidelity::Elsewhere;
        all.filter(|(name, _)| !(elsewhere && attributes::is_of_the_place(name)))
            .cloned()
            .collect()
    }

    /// Creates `path` as a hard link to the file at `first`, below the same target.
    ///
    /// # Errors
    /// The system refused.
    pub fn hard_link(&mut self, path: &RepoPath, first: &RepoPath) -> Result<()> {
        let absolute = self.absolute(path);
        let from = self.parent(first, false)?;
        let from_name = c_path(first.name()).context("link", &absolute)?;
        let parent = self.parent(path, true)?;
        let temporary = c_path(&self.temporary()).context("link", &absolute)?;
        point("link").context("link", &absolute)?;
        rustix::fs::linkat(&from, &from_name, &parent, &temporary, AtFlags::empty())
            .context("link", &absolute)?;
        let renamed = self.rename(&parent, &temporary, path);
        // Renaming one name of a file over another name of it does nothing (POSIX) and leaves the
        // temporary name.
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        renamed
    }

    /// Creates a directory that its owner can fill; an existing one stays.
    ///
    /// # Errors
    /// The system refused, or something else is there.
    pub fn make_dir(&mut self, path: &RepoPath) -> Result<()> {
        if self.directory(path, true).is_ok() && !path.is_root() {
            let stat = self.stat(path)?;
            if stat.is_some_and(|s| s.mode & 0o700 != 0o700) {
                let dir = self.directory(path, false)?;
                let mode = stat.map_or(0o700, |s| s.mode | 0o700);
                // Somebody else's directory stays as it is; writing into it will report the
                // problem.
                let _ = rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode));
            }
            return Ok(());
        }
        self.directory(path, true).map(|_| ())
    }

    /// Sets the metadata of `entry` on the object at `path`.
    ///
    /// # Errors
    /// It does not exist, or the system refused.
    pub fn set_metadata(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let absolute = self.absolute(path);
        point("metadata").context("change", &absolute)?;
        match entry.kind {
            Kind::Symlink => {
                let parent = self.parent(path, false)?;
                let name = c_path(path.name()).context("change", &absolute)?;
                self.set_on_link(path, &parent, &name, entry);
                Ok(())
            }
            Kind::Dir => {
                let dir = self.directory(path, false)?;
                let file = File::from(dir.try_clone().context("change", &absolute)?);
                self.set_on(path, &file, entry).context("change", absolute)
            }
            Kind::Fifo => {
                let parent = self.parent(path, false)?;
                let name = c_path(path.name()).context("change", &absolute)?;
                self.set_on_name(path, &parent, &name, entry)
                    .context("change", absolute)
            }
            _ => {
                let file = self.open_file(path)?;
                self.set_on(path, &file, entry).context("change", absolute)
            }
        }
    }

    /// Sets only the time of `entry` on a directory.
    ///
    /// # Errors
    /// It does not exist, or the system refused.
    pub fn set_times(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let dir = self.directory(path, false)?;
        rustix::fs::futimens(&dir, &times(entry)).context("change", self.absolute(path))
    }

    /// Opens a closed directory to its owner for writing; returns its previous stat if that was
    /// needed and worked.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open_up(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        let closed = self
            .stat(path)?
            .filter(|stat| stat.kind == Kind::Dir && stat.mode & 0o700 != 0o700);
        // Modes do not stop root.
        let Some(stat) = closed.filter(|_| !self.privileged) else {
            return Ok(None);
        };
        point("chmod").context("change", self.absolute(path))?;
        let dir = self.directory(path, false)?;
        let done = rustix::fs::fchmod(&dir, Mode::from_raw_mode((stat.mode | 0o700) as _));
        // If it is somebody else's, writing into it will report the problem.
        Ok(done.is_ok().then_some(stat))
    }

    /// Sets only the mode of `stat` on a directory.
    ///
    /// # Errors
    /// It does not exist, or the system refused.
    pub fn set_mode(&mut self, path: &RepoPath, stat: &Stat) -> Result<()> {
        let dir = self.directory(path, false)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(stat.mode as _))
            .context("change", self.absolute(path))
    }

    /// Sets owner, attributes, mode and times through the open file, in this order: a new owner
    /// clears special bits and capabilities, and an access control list changes the mode.
    fn set_on(&mut self, path: &RepoPath, file: &File, entry: &Entry) -> io::Result<()> {
        let stat = stat_of(&rustix::fs::fstat(file)?);
        self.give_owner(path, &stat, entry, &|uid, gid| {
            rustix::fs::fchown(file, uid, gid)
        });
        for name in attributes::set_on_file(file, &self.wanted(entry)) {
            self.lacks(
                path,
                format!("its attribute `{name}` could not be restored"),
            );
        }
        let mode = mode_of(entry, self.fidelity);
        if mode != entry.mode & 0o7777 {
            self.lacks(
                path,
                "set-user-id and set-group-id are restored only in the original place".to_owned(),
            );
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode as _))?;
        Ok(rustix::fs::futimens(file.as_fd(), &times(entry))?)
    }

    /// Removes a file or symlink; a missing one counts as removed.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove(&mut self, path: &RepoPath) -> Result<()> {
        self.unlink(path, AtFlags::empty())
    }

    /// Removes an empty directory; returns false if it is not empty.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove_dir(&mut self, path: &RepoPath) -> Result<bool> {
        self.dirs.retain(|dir, _| !dir.starts_with(path));
        match self.unlink(path, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::DirectoryNotEmpty
                    || source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn unlink(&mut self, path: &RepoPath, flags: AtFlags) -> Result<()> {
        let parent = match self.parent(path, false) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        let absolute = self.absolute(path);
        let name = c_path(path.name()).context("remove", &absolute)?;
        point("unlink").context("remove", &absolute)?;
        let mut result = rustix::fs::unlinkat(&parent, &name, flags);
        if result == Err(Errno::ACCESS) {
            // A read-only directory of our own: open it for a moment; its mode is set again with
            // its metadata.
            let stat = rustix::fs::fstat(&parent).context("remove", &absolute)?;
            let mode = Mode::from_raw_mode(stat.st_mode);
            if rustix::fs::fchmod(&parent, mode | Mode::RWXU).is_ok() {
                result = rustix::fs::unlinkat(&parent, &name, flags);
                let _ = rustix::fs::fchmod(&parent, mode);
            }
        }
        match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", absolute, errno.into())),
        }
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The device failed.
    pub fn sync_dir(&mut self, path: &RepoPath) -> Result<()> {
        let absolute = self.absolute(path);
        point("fsync-dir").context("write", &absolute)?;
        let dir = self.directory(path, false)?;
        match rustix::fs::fsync(&dir) {
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            other => other.context("write", absolute),
        }
    }

    /// Removes temporary files that interrupted restores left in a directory, if their processes
    /// are gone.
    pub fn sweep(&mut self, path: &RepoPath) {
        let Ok(dir) = self.directory(path, false) else {
            return;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(&dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !is_temporary_name(name.to_bytes()) {
                continue;
            }
            let owner = name.to_str().ok().and_then(|name| {
                name.strip_prefix(TEMPORARY_PREFIX)?
                    .split_once('-')?
                    .0
                    .parse()
                    .ok()
            });
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let is_own = stat.is_ok_and(|stat| crate::disk::fsutil::is_own(&stat_of(&stat)));
            if is_own && owner.is_some_and(|pid: u32| !crate::disk::fsutil::process_runs(pid)) {
                let _ = rustix::fs::unlinkat(&dir, name, AtFlags::empty());
            }
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.0 as _,
        tv_nsec: entry.mtime.1 as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(parent: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<()> {
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), 0)
}

/// There, no `mknodat` works for ordinary users.
#[cfg(target_vendor = "apple")]
fn make_fifo(_: &OwnedFd, _: &std::ffi::CStr) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}
