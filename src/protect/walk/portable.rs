//! The walk without directory handles (Windows): `walkdir`, one thread, by path.
//!
//! Two things are weaker than on Unix. There is no inode or ctime: size, mtime, creation time and
//! attributes decide. And while a writer keeps a file open, its directory lists stale sizes and
//! times, for how long is unknown. So every file, not only a recent one, is checked through a
//! handle of its own; `symlink_metadata` opens one on Windows, `DirEntry::metadata` does not. A
//! write in place that keeps the size is noticed at the latest when the writer closes the file.

use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::ops::Range;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{Dirty, Scan, WalkOptions, Xattrs, never_below, unchanged};
use crate::base::error::{Error, Result};
use crate::base::path::{RepoPath, os_from_bytes, os_to_bytes};
use crate::disk::fsutil::area::Source;
use crate::disk::fsutil::{is_own_object, may_be_own, stat_of};
use crate::model::manifest::{Kind, Stat};
use crate::model::reason::Reason;
use crate::model::rules::{Matcher, Root, Verdict};
use crate::repo::snapshot::LeftOut;
use crate::repo::state::State;

/// A root, and how to reach what is below it.
pub struct RootHandle {
    path: PathBuf,
}

impl RootHandle {
    /// Opens a root; `None` if it does not exist.
    ///
    /// # Errors
    /// It exists but cannot be read.
    pub fn of(root: &Root) -> Result<Option<Self>> {
        Self::open(&root.path)
    }

    /// Opens a place as a root; `None` if it does not exist.
    ///
    /// # Errors
    /// It exists but cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(Some(Self {
                path: path.to_path_buf(),
            })),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(Error::io("open", path, e)),
        }
    }

    /// Returns the absolute path of `path`.
    pub fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    /// Returns the stat of the object at `path`, without following a symlink or junction.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        Ok(stat_of(&std::fs::symlink_metadata(self.absolute(path))?))
    }

    /// Returns when the object at `path` was created, if the system tells.
    pub fn born(&self, _path: &RepoPath) -> Option<crate::model::manifest::Time> {
        None
    }

    /// Opens a regular file without following a symlink.
    ///
    /// # Errors
    /// It is gone, unreadable, or something else by now.
    pub fn open_file(&self, path: &RepoPath) -> io::Result<File> {
        let path = self.absolute(path);
        // Not by a flag when opening: that would open the stub of a deduplicated file instead of
        // its content.
        if !std::fs::symlink_metadata(&path)?.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        File::open(path)
    }

    /// Returns where a file is, for a staging area.
    pub fn source<'a>(&'a self, _path: &'a RepoPath) -> Source<'a> {
        Source(std::marker::PhantomData)
    }

    /// Returns the stat of an open file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stat_file(file: &File) -> io::Result<Stat> {
        Ok(stat_of(&file.metadata()?))
    }

    /// Returns the target of a symlink or junction.
    ///
    /// # Errors
    /// It is gone, not a symlink any more, or its target has no valid path.
    pub fn read_link(&self, path: &RepoPath) -> io::Result<Vec<u8>> {
        let target = std::fs::read_link(self.absolute(path))?;
        if target.to_str().is_none() {
            return Err(invalid("its target is not Unicode"));
        }
        Ok(os_to_bytes(target.as_os_str()).into_owned())
    }

    /// Returns false: this walk does not look for holes.
    pub fn has_holes(_file: &File) -> bool {
        false
    }

    /// Returns nothing: extended attributes are not stored here.
    ///
    /// # Errors
    /// None.
    pub fn xattrs(_file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// As [`RootHandle::xattrs`], and whether some are withheld.
    ///
    /// # Errors
    /// None.
    pub fn all_xattrs(_file: &File) -> io::Result<(Xattrs, bool)> {
        Ok(Default::default())
    }

    /// As [`RootHandle::all_xattrs`], by path.
    ///
    /// # Errors
    /// None.
    pub fn all_xattrs_at(&self, _path: &RepoPath, _kind: Kind) -> io::Result<(Xattrs, bool)> {
        Ok(Default::default())
    }

    /// Returns nothing: extended attributes are not stored here.
    ///
    /// # Errors
    /// None.
    pub fn xattrs_at(&self, _path: &RepoPath, _kind: Kind) -> io::Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

pub(super) fn walk(
    root: &Root,
    matcher: &Matcher,
    state: Option<&State>,
    options: &WalkOptions<'_>,
) -> Result<Scan> {
    let mut scan = Scan::default();
    let Some(handle) = RootHandle::of(root)? else {
        scan.removed.extend(state.map(|_| RepoPath::root()));
        return Ok(scan);
    };
    let stat = handle
        .stat(&RepoPath::root())
        .map_err(|e| Error::io("read", root.path.clone(), e))?;
    scan.exists = true;
    let mut walk = Walk {
        handle: &handle,
        matcher,
        plain: matcher.takes_everything() && root.without.is_empty(),
        without: never_below(&root.path, &root.without),
        state,
        started: state.map_or(i64::MIN, |s| s.mirrors().started),
        never: never_below(&root.path, options.never),
        keep_known: options.keep_known,
        dirs: Vec::new(),
        scan,
    };
    walk.note(RepoPath::root(), stat, state.map(|_| 0));
    walk.enter(RepoPath::root(), matcher.include(b"") != Verdict::Take);
    if stat.kind != Kind::Dir {
        // It is no directory any more, so everything below it is gone.
        walk.leave(0);
        return Ok(walk.scan);
    }
    let mut entries = WalkDir::new(&root.path)
        .min_depth(1)
        .follow_root_links(false)
        // Sort as the state does, which has names as bytes.
        .sort_by(|a, b| os_to_bytes(a.file_name()).cmp(&os_to_bytes(b.file_name())))
        .into_iter();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                if !walk.object(&entry) && entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
            }
            // A failure to list a directory comes as its first entry; then all of the directory
            // counts as unchanged.
            Err(error) => {
                walk.unreadable(error);
                entries.skip_current_dir();
            }
        }
        if options.max_files.is_some_and(|most| walk.scan.files > most) {
            walk.scan.too_many = true;
            return Ok(walk.scan);
        }
    }
    walk.leave(0);
    Ok(walk.scan)
}

struct Dir {
    path: RepoPath,
    /// Only part of the directory is captured.
    on_the_way: bool,
    /// The state's entries in it, from the first name not yet met.
    known: Option<Peekable<Range<usize>>>,
}

struct Walk<'a> {
    handle: &'a RootHandle,
    matcher: &'a Matcher,
    plain: bool,
    state: Option<&'a State>,
    started: i64,
    without: Vec<RepoPath>,
    never: Vec<RepoPath>,
    keep_known: bool,
    /// From the root to the current directory.
    dirs: Vec<Dir>,
    scan: Scan,
}

impl Walk<'_> {
    fn enter(&mut self, path: RepoPath, on_the_way: bool) {
        let known = self.state.and_then(|s| s.children(path.as_bytes()));
        self.dirs.push(Dir {
            known: known.map(Iterator::peekable),
            path,
            on_the_way,
        });
    }

    /// Leaves all directories but the first `depth`; whatever the state still has in them is gone.
    fn leave(&mut self, depth: usize) {
        while self.dirs.len() > depth {
            let dir = self.dirs.pop();
            if let (Some(state), Some(dir)) = (self.state, dir) {
                let gone = dir.known.into_iter().flatten();
                self.scan
                    .removed
                    .extend(gone.map(|number| dir.path.join(state.name(number))));
            }
        }
    }

    /// The directory entered last cannot be listed: its content counts as unchanged.
    fn unreadable(&mut self, error: walkdir::Error) {
        let Some(dir) = self.dirs.last_mut() else {
            return;
        };
        dir.known = None;
        let source = error
            .into_io_error()
            .unwrap_or_else(|| invalid("it cannot be listed"));
        // It vanished since it was listed; its parent will be dirty next time.
        if source.kind() != io::ErrorKind::NotFound {
            let path = dir.path.clone();
            self.problem(path, source);
        }
    }

    fn problem(&mut self, path: RepoPath, source: io::Error) {
        let error = Error::io("read", self.handle.absolute(&path), source);
        self.scan.problems.push((path, error));
    }

    /// Notes one object; returns true if it is a directory to be walked.
    fn object(&mut self, entry: &DirEntry) -> bool {
        self.leave(entry.depth());
        let name = os_to_bytes(entry.file_name());
        let Some(dir) = self.dirs.last_mut() else {
            return false;
        };
        if may_be_own(&name) && is_own_object(entry.path()) {
            return false;
        }
        let path = dir.path.join(&name);
        let parent_on_the_way = dir.on_the_way;
        let prior = self
            .state
            .and_then(|state| advance(state, dir, &name, &mut self.scan.removed));
        if entry.file_name().to_str().is_none() {
            // Its path would name another file: better to report it than to store it under a wrong
            // name.
            self.problem(path, invalid("its name is not Unicode"));
            return false;
        }
        let stat = match std::fs::symlink_metadata(entry.path()) {
            Ok(metadata) => stat_of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.scan.removed.extend(prior.map(|_| path));
                return false;
            }
            Err(error) => {
                self.problem(path, error);
                return false;
            }
        };
        let is_dir = stat.kind == Kind::Dir;
        let mut on_the_way = false;
        if parent_on_the_way {
            match self.matcher.include(path.as_bytes()) {
                Verdict::Take => self.scan.found = true,
                Verdict::OnTheWay if is_dir => on_the_way = true,
                _ => {
                    self.scan.removed.extend(prior.map(|_| path));
                    return false;
                }
            }
        }
        if crate::privacy::is_secret_name(&name) {
            // Do not even record its name.
            let parent = path.parent().unwrap_or_default();
            self.scan.left_out.push(LeftOut {
                path: parent.join(crate::privacy::SECRET_NAME),
                reason: "a secret in its name".to_owned(),
                inode: 0,
            });
            self.scan.removed.extend(prior.map(|_| path));
            return false;
        }
        if let Some(reason) = self.left_out(&path, &name, is_dir, prior.is_some()) {
            self.scan.removed.extend(prior.map(|_| path.clone()));
            self.scan.left_out.push(LeftOut {
                path,
                reason: reason.words().to_owned(),
                inode: stat.inode,
            });
            return false;
        }
        self.note(path.clone(), stat, prior);
        // Both: an object that became a directory since the listing is not walked, and nothing
        // known below it is gone.
        let walked = is_dir && entry.file_type().is_dir();
        if walked {
            self.enter(path, on_the_way);
        }
        walked
    }

    fn left_out(
        &self,
        path: &RepoPath,
        name: &[u8],
        is_dir: bool,
        is_known: bool,
    ) -> Option<Reason> {
        if !is_dir && self.plain {
            return None;
        }
        let parent = path.parent().unwrap_or_default();
        let dir = self.handle.absolute(&parent);
        let siblings = |name: &[u8]| dir.join(os_from_bytes(name)).symlink_metadata().is_ok();
        let reason = self
            .matcher
            .left_out(parent.as_bytes(), name, is_dir, &siblings)
            .filter(|reason| {
                *reason != Reason::Rebuildable
                    || !(self.keep_known && is_known
                        || crate::model::rules::is_small(&self.handle.absolute(path)))
            });
        // As the file system compares names: the repository must not capture itself because
        // somebody typed it in another case.
        let never = |n: &RepoPath| n.as_bytes().eq_ignore_ascii_case(path.as_bytes());
        let never = is_dir && self.never.iter().any(never);
        let apart = self.without.contains(path);
        reason
            .or(never.then_some(Reason::Own))
            .or(apart.then_some(Reason::Elsewhere))
    }

    /// Counts an object, and notes it unless it equals the state.
    fn note(&mut self, path: RepoPath, stat: Stat, prior: Option<usize>) {
        if stat.kind == Kind::File {
            self.scan.files += 1;
            self.scan.bytes += stat.size;
        }
        if let (Some(state), Some(number)) = (self.state, prior) {
            if unchanged(state, number, &stat, self.started) {
                return;
            }
            // When a directory becomes something else, everything below it is gone; for the root,
            // only that counts as gone.
            let was_dir = state.entry(number).stat.kind == Kind::Dir;
            if was_dir && stat.kind != Kind::Dir && !path.is_root() {
                self.scan.removed.push(path.clone());
            }
        }
        self.scan.dirty.push(Dirty {
            path,
            stat,
            prior: prior.map(|number| number as u32),
        });
    }
}

/// Returns the state's number for a name; names that the state has before it are gone.
fn advance(
    state: &State,
    dir: &mut Dir,
    name: &[u8],
    removed: &mut Vec<RepoPath>,
) -> Option<usize> {
    let known = dir.known.as_mut()?;
    while let Some(number) = known.next_if(|number| state.name(*number) < name) {
        removed.push(dir.path.join(state.name(number)));
    }
    known.next_if(|number| state.name(*number) == name)
}
