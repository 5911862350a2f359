//! The walk on Unix: directory handles, `fstatat`, several threads.

use std::ffi::CStr;
use std::iter::Peekable;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Dirty, Scan, WalkOptions, never_below, unchanged};
use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::base::threads;
use crate::disk::fsutil::{DIR_FLAGS, open_unlinked, stat_of};
use crate::model::manifest::Kind;
use crate::model::reason::Reason;
use crate::model::rules::{Matcher, Root, Verdict};
use crate::repo::snapshot::LeftOut;
use crate::repo::state::{Stat, State};

mod handle;
mod names;

pub use handle::RootHandle;
use names::{Buffers, Names};

struct Job {
    path: RepoPath,
    device: u64,
    /// Only part of the directory is captured.
    on_the_way: bool,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    busy: usize,
    closed: bool,
}

struct Walk<'a> {
    handle: &'a RootHandle,
    matcher: &'a Matcher,
    plain: bool,
    one_file_system: bool,
    state: Option<&'a State>,
    started: i64,
    never: Vec<RepoPath>,
    without: Vec<RepoPath>,
    max_files: u64,
    keep_known: bool,
    queue: Mutex<Queue>,
    wake: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn walk(
    root: &Root,
    matcher: &Matcher,
    state: Option<&State>,
    options: &WalkOptions<'_>,
) -> Result<Scan> {
    let Some(handle) = RootHandle::of(root)? else {
        return Ok(Scan {
            removed: state.map(|_| RepoPath::root()).into_iter().collect(),
            ..Scan::default()
        });
    };
    let stat = handle
        .stat(&RepoPath::root())
        .map_err(|e| Error::io("read", root.path.clone(), e))?;
    let started = state.map_or(i64::MIN, |s| s.mirrors().started);
    let mut scan = Scan {
        exists: true,
        ..Scan::default()
    };
    count(&mut scan, &stat);
    if !state.is_some_and(|s| unchanged(s, 0, &stat, started)) {
        let prior = state.map(|_| 0);
        scan.dirty.push(Dirty {
            path: RepoPath::root(),
            stat,
            prior,
        });
    }
    if handle.dir.is_none() {
        // It is no directory any more, so everything below it is gone.
        if let Some(state) = state
            && let Some(children) = state.children(b"")
        {
            scan.removed
                .extend(children.map(|n| RepoPath::root().join(state.name(n))));
        }
        return Ok(scan);
    }
    let walk = Walk {
        handle: &handle,
        matcher,
        plain: matcher.takes_everything() && root.without.is_empty(),
        one_file_system: root.rules.one_file_system,
        state,
        started,
        never: never_below(&root.path, options.never),
        without: never_below(&root.path, &root.without),
        max_files: options.max_files.unwrap_or(u64::MAX),
        keep_known: options.keep_known,
        queue: Mutex::new(Queue {
            jobs: vec![Job {
                path: RepoPath::root(),
                device: stat.device,
                on_the_way: matcher.include(b"") != Verdict::Take,
            }],
            ..Queue::default()
        }),
        wake: Condvar::new(),
    };
    walk.all(&mut scan)?;
    Ok(scan)
}

/// Adds the results of another thread.
fn absorb(scan: &mut Scan, other: Scan) {
    scan.dirty.extend(other.dirty);
    scan.removed.extend(other.removed);
    scan.left_out.extend(other.left_out);
    scan.problems.extend(other.problems);
    scan.files += other.files;
    scan.bytes += other.bytes;
    scan.not_stored += other.not_stored;
    scan.mounts.extend(other.mounts);
    scan.found |= other.found;
    scan.too_many |= other.too_many;
}

fn count(scan: &mut Scan, stat: &Stat) {
    match stat.kind {
        Kind::File => {
            scan.files += 1;
            scan.bytes += stat.size;
        }
        kind if kind.is_stored() => {}
        _ => scan.not_stored += 1,
    }
}

impl Walk<'_> {
    /// Reads everything. One thread first: it reads a few directories before a second one would
    /// have started.
    fn all(&self, scan: &mut Scan) -> Result<()> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .clamp(1, 8);
        self.run(scan, if threads > 1 { 12 } else { usize::MAX });
        if lock(&self.queue).jobs.is_empty() {
            return Ok(());
        }
        let scans = threads::share(threads, &|| {
            let mut scan = Scan::default();
            self.run(&mut scan, usize::MAX);
            scan
        });
        for other in scans {
            // If a thread failed, what it saw is lost, so the walk is incomplete.
            let other = other.ok_or_else(|| Error::invalid("a worker thread failed", None))?;
            absorb(scan, other);
        }
        Ok(())
    }

    /// Reads up to `limit` directories.
    fn run(&self, scan: &mut Scan, limit: usize) {
        let mut buffers = Buffers::default();
        for _ in 0..limit {
            let job = {
                let mut queue = lock(&self.queue);
                loop {
                    if queue.closed {
                        return;
                    }
                    if let Some(job) = queue.jobs.pop() {
                        queue.busy += 1;
                        break job;
                    }
                    if queue.busy == 0 {
                        drop(queue);
                        self.wake.notify_all();
                        return;
                    }
                    queue = self
                        .wake
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            let subdirs = self.directory(&job, scan, &mut buffers);
            let mut queue = lock(&self.queue);
            queue.busy -= 1;
            if scan.files > self.max_files {
                scan.too_many = true;
                queue.closed = true;
            }
            let wake = subdirs.len() > 1 || (queue.busy == 0 && subdirs.is_empty()) || queue.closed;
            queue.jobs.extend(subdirs);
            drop(queue);
            if wake {
                self.wake.notify_all();
            }
        }
    }

    /// Reads one directory; returns its subdirectories.
    fn directory(&self, job: &Job, scan: &mut Scan, buffers: &mut Buffers) -> Vec<Job> {
        if let Err(errno) = buffers.read(self.handle, &job.path) {
            // It vanished since it was listed: its parent will be dirty next time. Otherwise it
            // counts as unchanged.
            if errno != Errno::NOENT {
                let error = Error::io("read", self.handle.absolute(&job.path), errno.into());
                scan.problems.push((job.path.clone(), error));
            }
            return Vec::new();
        }
        let Some((dir, names)) = buffers.last() else {
            return Vec::new();
        };
        let known = self.state.and_then(|s| s.children(job.path.as_bytes()));
        let mut reading = Reading {
            walk: self,
            job,
            dir,
            names,
            known: known.map(|range| range.peekable()),
            scan,
            subdirs: Vec::new(),
        };
        for name in names.iter() {
            reading.child(name);
        }
        reading.rest_is_gone();
        reading.subdirs
    }
}

/// A directory being read, side by side with its entries in the state: both are sorted, so one pass
/// tells what is new and what is gone.
struct Reading<'w> {
    walk: &'w Walk<'w>,
    job: &'w Job,
    dir: BorrowedFd<'w>,
    names: Names<'w>,
    /// Numbers of the state's entries from here on.
    known: Option<Peekable<Range<usize>>>,
    scan: &'w mut Scan,
    subdirs: Vec<Job>,
}

/// An object in a directory being read.
struct Child<'w> {
    name: &'w [u8],
    c_name: &'w CStr,
    stat: Stat,
    /// Its number in the state.
    prior: Option<usize>,
}

impl Child<'_> {
    fn is_dir(&self) -> bool {
        self.stat.kind == Kind::Dir
    }
}

impl<'w> Reading<'w> {
    fn path(&self, name: &[u8]) -> RepoPath {
        self.job.path.join(name)
    }

    /// Decides on one name: left out, unchanged, or to be captured. The path of an unchanged object
    /// is never built: there may be hundreds of thousands.
    fn child(&mut self, with_nul: &'w [u8]) {
        let name = &with_nul[..with_nul.len() - 1];
        let prior = self.number_of(name);
        let Ok(c_name) = CStr::from_bytes_with_nul(with_nul) else {
            return;
        };
        let Some(stat) = self.look(name, c_name, prior) else {
            return;
        };
        let child = Child {
            name,
            c_name,
            stat,
            prior,
        };
        let Some(on_the_way) = self.is_chosen(&child) else {
            return self.forget(&child);
        };
        if crate::privacy::is_secret_name(name) {
            // Do not even record its name.
            let path = self.path(crate::privacy::SECRET_NAME);
            return self.leave_out(&child, path, "a secret in its name", child.stat.inode);
        }
        let is_mounted = child.is_dir() && child.stat.device != self.job.device;
        if let Some(reason) = self.reason(&child, is_mounted) {
            // It is a root of its own, captured as that.
            let is_told = reason == Reason::Elsewhere;
            let inode = if is_told { 0 } else { child.stat.inode };
            return self.leave_out(&child, self.path(name), reason.words(), inode);
        }
        let same = match (self.walk.state, prior) {
            (Some(state), Some(number)) => unchanged(state, number, &child.stat, self.walk.started),
            _ => false,
        };
        if !same && self.leads_to_a_secret(&child) {
            let reason = crate::privacy::IN_TARGET;
            return self.leave_out(&child, self.path(name), reason, child.stat.inode);
        }
        count(self.scan, &child.stat);
        if !same {
            self.dirty(&child);
        }
        if child.is_dir() {
            if is_mounted {
                self.scan.mounts.push(self.path(name));
            }
            self.subdirs.push(Job {
                path: self.path(name),
                device: child.stat.device,
                on_the_way,
            });
        }
    }

    /// Finds a name in the state. Names that the state has before it are gone.
    fn number_of(&mut self, name: &[u8]) -> Option<usize> {
        let (known, state) = (self.known.as_mut()?, self.walk.state?);
        while let Some(number) = known.peek().copied() {
            match state.name(number).cmp(name) {
                std::cmp::Ordering::Less => {
                    let path = self.job.path.join(state.name(number));
                    self.scan.removed.push(path);
                    known.next();
                }
                std::cmp::Ordering::Equal => {
                    known.next();
                    return Some(number);
                }
                std::cmp::Ordering::Greater => break,
            }
        }
        None
    }

    /// Whatever the state has after the last name is gone.
    fn rest_is_gone(&mut self) {
        if let (Some(known), Some(state)) = (self.known.take(), self.walk.state) {
            let paths = known.map(|number| self.job.path.join(state.name(number)));
            self.scan.removed.extend(paths);
        }
    }

    fn look(&mut self, name: &[u8], c_name: &CStr, prior: Option<usize>) -> Option<Stat> {
        match rustix::fs::statat(self.dir, c_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => return Some(stat_of(&stat)),
            Err(Errno::NOENT) => {
                if prior.is_some() {
                    self.scan.removed.push(self.path(name));
                }
            }
            Err(errno) => {
                let child = self.path(name);
                let error = Error::io("read", self.walk.handle.absolute(&child), errno.into());
                self.scan.problems.push((child, error));
            }
        }
        None
    }

    /// Returns true for a directory that only leads to chosen paths, false for a chosen path, and
    /// `None` for everything else.
    fn is_chosen(&mut self, child: &Child<'_>) -> Option<bool> {
        if !self.job.on_the_way {
            return Some(false);
        }
        match self.walk.matcher.include(self.path(child.name).as_bytes()) {
            Verdict::Take => {
                self.scan.found = true;
                Some(false)
            }
            Verdict::OnTheWay if child.is_dir() => Some(true),
            _ => None,
        }
    }

    /// Returns why something is left out. Files are not even checked if no rule is about them.
    fn reason(&self, child: &Child<'_>, is_mounted: bool) -> Option<Reason> {
        let walk = self.walk;
        let is_dir = child.is_dir();
        if !is_dir && walk.plain {
            return None;
        }
        let path = || self.path(child.name);
        let siblings = |sibling: &[u8]| self.names.contains(sibling);
        let dir = self.job.path.as_bytes();
        match walk.matcher.left_out(dir, child.name, is_dir, &siblings) {
            // A tree that is small, or was captured already, costs little: keep it rather than have
            // it rebuilt.
            Some(Reason::Rebuildable)
                if walk.keep_known && child.prior.is_some()
                    || crate::model::rules::is_small(&walk.handle.absolute(&path())) => {}
            Some(reason) => return Some(reason),
            None => {}
        }
        if is_dir && !walk.never.is_empty() && walk.never.contains(&path()) {
            return Some(Reason::Own);
        }
        if !walk.without.is_empty() && walk.without.contains(&path()) {
            return Some(Reason::Elsewhere);
        }
        match (is_mounted, walk.one_file_system) {
            (true, true) => Some(Reason::OtherFileSystem),
            (true, false) => is_made_up(self.dir, child.c_name).then_some(Reason::Kernel),
            (false, _) => None,
        }
    }

    /// Returns true for a symlink with a secret in its target, for example a token pasted instead
    /// of a path.
    fn leads_to_a_secret(&self, child: &Child<'_>) -> bool {
        if child.stat.kind != Kind::Symlink {
            return false;
        }
        let target = rustix::fs::readlinkat(self.dir, child.c_name, Vec::new());
        target.is_ok_and(|to| crate::privacy::is_secret_text(to.as_bytes()))
    }

    fn leave_out(&mut self, child: &Child<'_>, path: RepoPath, reason: &str, inode: u64) {
        self.scan.left_out.push(LeftOut {
            path,
            reason: reason.to_owned(),
            inode,
        });
        self.forget(child);
    }

    /// Removes from the state what is left out now: otherwise it would count as captured.
    fn forget(&mut self, child: &Child<'_>) {
        if child.prior.is_some() {
            self.scan.removed.push(self.path(child.name));
        }
    }

    fn dirty(&mut self, child: &Child<'_>) {
        let prior = child.prior.map(|number| number as u32);
        // When a directory becomes something else, everything below it is gone.
        if let (Some(number), Some(state)) = (child.prior, self.walk.state)
            && !child.is_dir()
            && state.entry(number).stat.kind == Kind::Dir
        {
            self.scan.removed.push(self.path(child.name));
        }
        self.scan.dirty.push(Dirty {
            path: self.path(child.name),
            stat: child.stat,
            prior,
        });
    }
}

/// Returns true for a mounted file system without a disk: `/proc`, `/sys` and the like.
#[cfg(target_os = "linux")]
fn is_made_up(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    const MADE_UP: [u32; 14] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x1cd1,      // devpts
        0x6265_6570, // configfs
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x1980_0202, // mqueue
        0x6573_5543, // fusectl
    ];
    let Ok(opened) = open_unlinked(dir, name, DIR_FLAGS) else {
        return false;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "magic numbers have 32 bits, whatever type the system keeps them in"
    )]
    rustix::fs::fstatfs(&opened).is_ok_and(|found| MADE_UP.contains(&(found.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn is_made_up(_dir: BorrowedFd<'_>, _name: &CStr) -> bool {
    false
}
