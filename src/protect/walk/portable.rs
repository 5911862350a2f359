//! The walk where there are no directory handles (Windows): `walkdir`, one thread, by path.
//!
//! Two things are weaker than on Unix. There is no inode or ctime: size, mtime, time of creation and attributes decide. And what a directory
//! lists of a file (size, times) is stale while a writer keeps the file open; for how long cannot be told from the listing. So not only files
//! written lately but all are looked at through a handle of their own, which is what `symlink_metadata` opens on Windows; `DirEntry::metadata`
//! does not. A write in place that leaves the size is seen when the writer closes the file at the latest.

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

/// A root and how to reach what is below it.
pub struct RootHandle {
    path: PathBuf,
}

impl RootHandle {
    /// Opens a root; `None` if it is not there.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn of(root: &Root) -> Result<Option<Self>> {
        Self::open(&root.path)
    }

    /// Opens a place as a root; `None` if it is not there.
    ///
    /// # Errors
    /// It is there but cannot be read.
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

    /// Returns the absolute path of what lies at `path`.
    pub fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    /// Returns how the object at `path` stands; a symlink or junction is not followed.
    ///
    /// # Errors
    /// It is not there any more, or cannot be read.
    pub fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        Ok(stat_of(&std::fs::symlink_metadata(self.absolute(path))?))
    }

    /// Returns when the object at `path` was made, where the system tells.
    pub fn born(&self, _path: &RepoPath) -> Option<crate::model::manifest::Time> {
        None
    }

    /// Opens a regular file; a symlink is not followed.
    ///
    /// # Errors
    /// It is gone, unreadable, or something else by now.
    pub fn open_file(&self, path: &RepoPath) -> io::Result<File> {
        let path = self.absolute(path);
        // Not by a flag on opening: that would also open what stands for a deduplicated file instead of its content.
        if !std::fs::symlink_metadata(&path)?.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        File::open(path)
    }

    /// Returns where a file is, for a staging area.
    pub fn source<'a>(&'a self, _path: &'a RepoPath) -> Source<'a> {
        Source(std::marker::PhantomData)
    }

    /// Returns how an open file stands.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stat_file(file: &File) -> io::Result<Stat> {
        Ok(stat_of(&file.metadata()?))
    }

    /// Returns the target of a symlink or junction.
    ///
    /// # Errors
    /// It is gone, no symlink any more, or leads where no path can name.
    pub fn read_link(&self, path: &RepoPath) -> io::Result<Vec<u8>> {
        let target = std::fs::read_link(self.absolute(path))?;
        if target.to_str().is_none() {
            return Err(invalid("its target is not Unicode"));
        }
        Ok(os_to_bytes(target.as_os_str()).into_owned())
    }

    /// Holes are not looked for here.
    pub fn has_holes(_file: &File) -> bool {
        false
    }

    /// Extended attributes are not kept here.
    ///
    /// # Errors
    /// None.
    pub fn xattrs(_file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// The same, and whether some are withheld.
    ///
    /// # Errors
    /// None.
    pub fn all_xattrs(_file: &File) -> io::Result<(Xattrs, bool)> {
        Ok(Default::default())
    }

    /// The same, by path.
    ///
    /// # Errors
    /// None.
    pub fn all_xattrs_at(&self, _path: &RepoPath, _kind: Kind) -> io::Result<(Xattrs, bool)> {
        Ok(Default::default())
    }

    /// Extended attributes are not kept here.
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
        // What was a directory is none any more: everything below it is gone.
        walk.leave(0);
        return Ok(walk.scan);
    }
    let mut entries = WalkDir::new(&root.path)
        .min_depth(1)
        .follow_root_links(false)
        // The order of the state, which has them as bytes.
        .sort_by(|a, b| os_to_bytes(a.file_name()).cmp(&os_to_bytes(b.file_name())))
        .into_iter();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                if !walk.object(&entry) && entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
            }
            // The first of a directory's entries is the error of listing it; like an unreadable one it is given up as a whole.
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

/// A directory being walked.
struct Dir {
    path: RepoPath,
    /// Not all of the directory is taken.
    on_the_way: bool,
    /// What the state has in it, from the first name not yet met.
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
    /// From the root to where the walk is.
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

    /// Leaves all directories but the first `depth`; what the state still has in them is gone.
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

    /// The directory entered last cannot be listed: what is in it counts as it was.
    fn unreadable(&mut self, error: walkdir::Error) {
        let Some(dir) = self.dirs.last_mut() else {
            return;
        };
        dir.known = None;
        let source = error
            .into_io_error()
            .unwrap_or_else(|| invalid("it cannot be listed"));
        // Gone since it was listed: its parent will be looked at again next time.
        if source.kind() != io::ErrorKind::NotFound {
            let path = dir.path.clone();
            self.problem(path, source);
        }
    }

    fn problem(&mut self, path: RepoPath, source: io::Error) {
        let error = Error::io("read", self.handle.absolute(&path), source);
        self.scan.problems.push((path, error));
    }

    /// Takes note of one object; returns true if it is a directory to be walked.
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
            // Its path would name another file: better said than stored under a wrong name.
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
            // Not even its name is written down.
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
        // Both: what became a directory since it was listed is not walked, and nothing known of it is gone.
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
        // As the file system compares names: the repository must not end up in itself because it was typed in another case.
        let never = |n: &RepoPath| n.as_bytes().eq_ignore_ascii_case(path.as_bytes());
        let never = is_dir && self.never.iter().any(never);
        let apart = self.without.contains(path);
        reason
            .or(never.then_some(Reason::Own))
            .or(apart.then_some(Reason::Elsewhere))
    }

    /// Counts an object, and takes note of it unless it stands as the state knows it.
    fn note(&mut self, path: RepoPath, stat: Stat, prior: Option<usize>) {
        if stat.kind == Kind::File {
            self.scan.files += 1;
            self.scan.bytes += stat.size;
        }
        if let (Some(state), Some(number)) = (self.state, prior) {
            if unchanged(state, number, &stat, self.started) {
                return;
            }
            // A directory that became something else takes what was below it along. Of the root only that is gone.
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

/// Returns the number that the state has for a name; what it has before that name is gone.
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
