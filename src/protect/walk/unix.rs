//! The walk on Unix: directory handles, `fstatat`, several threads.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Dirty, Scan, WalkOptions, Xattrs, never_below, unchanged};
use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::base::threads;
use crate::disk::fsutil::area::Source;
use crate::disk::fsutil::attributes;
use crate::disk::fsutil::{DIR_FLAGS, c_path, is_own_object, may_be_own, open_unlinked, stat_of};
use crate::model::manifest::{Kind, Time};
use crate::model::reason::Reason;
use crate::model::rules::{Matcher, Root, Verdict};
use crate::repo::snapshot::LeftOut;
use crate::repo::state::{Stat, State};

/// A root held open: what is below it is reached through the handle, never through a symlink at its end.
pub struct RootHandle {
    path: PathBuf,
    /// `None` for a root that is not a directory.
    dir: Option<OwnedFd>,
    /// No symlink is followed on the way to the root either.
    resolved: bool,
}

impl RootHandle {
    /// Opens a root; `None` if it is not there.
    ///
    /// # Errors
    /// It is there but cannot be opened; its path was resolved, and leads through a symlink by now.
    pub fn of(root: &Root) -> Result<Option<Self>> {
        Self::open_at(&root.path, root.resolved)
    }

    /// Opens a place as a root; `None` if it is not there.
    ///
    /// # Errors
    /// It is there but cannot be opened.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        Self::open_at(path, false)
    }

    fn open_at(path: &Path, resolved: bool) -> Result<Option<Self>> {
        let opened = match resolved {
            true => c_path(path.as_os_str().as_bytes())
                .map_err(|_| Errno::INVAL)
                .and_then(|name| open_unlinked(CWD, &name, DIR_FLAGS)),
            // /home often is a symlink.
            false => rustix::fs::open(path, DIR_FLAGS, Mode::empty()),
        };
        match opened {
            Ok(dir) => Ok(Some(Self {
                path: path.to_path_buf(),
                dir: Some(dir),
                resolved,
            })),
            Err(Errno::LOOP) if resolved => Err(Error::Unsafe {
                path: crate::base::path::show(path.as_os_str()),
                reason: "a symlink was put in its way".to_owned(),
            }),
            // A symlink, a file, a FIFO: there, but no directory.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
                match std::fs::symlink_metadata(path) {
                    Ok(_) => Ok(Some(Self {
                        path: path.to_path_buf(),
                        dir: None,
                        resolved,
                    })),
                    Err(e)
                        if matches!(
                            e.kind(),
                            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                        ) =>
                    {
                        Ok(None)
                    }
                    Err(e) => Err(Error::io("read", path, e)),
                }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("open", path, errno.into())),
        }
    }

    /// Returns the absolute path of what lies at `path`.
    pub fn absolute(&self, path: &RepoPath) -> PathBuf {
        path.to_path(&self.path)
    }

    /// Returns how the object at `path` stands; a symlink is not followed.
    ///
    /// # Errors
    /// It is not there any more, or cannot be looked at.
    pub fn stat(&self, path: &RepoPath) -> std::io::Result<Stat> {
        let stat = match (&self.dir, path.is_root()) {
            (Some(dir), true) => rustix::fs::fstat(dir)?,
            (Some(dir), false) => {
                rustix::fs::statat(dir, c_path(path.as_bytes())?, AtFlags::SYMLINK_NOFOLLOW)?
            }
            (None, _) => rustix::fs::lstat(&self.path)?,
        };
        Ok(stat_of(&stat))
    }

    /// Returns when the object at `path` was made, where the system tells.
    pub fn born(&self, path: &RepoPath) -> Option<Time> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::StatxFlags;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = match &self.dir {
                Some(dir) if path.is_root() => {
                    let flags = flags | AtFlags::EMPTY_PATH;
                    rustix::fs::statx(dir, c"", flags, StatxFlags::BTIME)
                }
                Some(dir) => {
                    let name = c_path(path.as_bytes()).ok()?;
                    rustix::fs::statx(dir, name, flags, StatxFlags::BTIME)
                }
                None => rustix::fs::statx(CWD, &self.path, flags, StatxFlags::BTIME),
            };
            let stat = stat.ok()?;
            let told = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
            told.then_some(Time(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            None
        }
    }

    /// Opens a regular file; a symlink is not followed, a FIFO does not block.
    ///
    /// # Errors
    /// It is gone, unreadable, or something else by now.
    pub fn open_file(&self, path: &RepoPath) -> std::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match &self.dir {
            Some(dir) => open_unlinked(dir.as_fd(), &c_path(path.as_bytes())?, flags)?,
            None if self.resolved => {
                open_unlinked(CWD, &c_path(self.path.as_os_str().as_bytes())?, flags)?
            }
            None => rustix::fs::open(&self.path, flags, Mode::empty())?,
        };
        Ok(File::from(file))
    }

    /// Returns where a file is, for a staging area.
    pub fn source<'a>(&'a self, path: &'a RepoPath) -> Source<'a> {
        match &self.dir {
            Some(dir) => Source {
                dir: Some(dir.as_fd()),
                path: path.as_bytes(),
            },
            None => Source {
                dir: None,
                path: self.path.as_os_str().as_bytes(),
            },
        }
    }

    /// Returns how an open file stands.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stat_file(file: &File) -> std::io::Result<Stat> {
        Ok(stat_of(&rustix::fs::fstat(file)?))
    }

    /// Returns true if an open file has holes.
    pub fn has_holes(file: &File) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata()
            .is_ok_and(|found| found.blocks().saturating_mul(512) < found.len())
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// It is gone, or no symlink any more.
    pub fn read_link(&self, path: &RepoPath) -> std::io::Result<Vec<u8>> {
        let target = match &self.dir {
            Some(dir) => rustix::fs::readlinkat(dir, c_path(path.as_bytes())?, Vec::new())?,
            None => rustix::fs::readlink(&self.path, Vec::new())?,
        };
        Ok(target.into_bytes())
    }

    /// Returns the extended attributes that a restore could bring back, sorted by name.
    ///
    /// # Errors
    /// They cannot be read though there may be some.
    pub fn xattrs(file: &File) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        attributes::of_file(file)
    }

    /// The same, and whether some are withheld for a secret in them.
    ///
    /// # Errors
    /// As [`RootHandle::xattrs`].
    pub fn all_xattrs(file: &File) -> std::io::Result<(Xattrs, bool)> {
        let all = attributes::all_of_file(file)?;
        Ok((all.kept, all.withheld))
    }

    /// Returns the extended attributes of a directory or symlink; only root can give any to the latter.
    ///
    /// # Errors
    /// They cannot be read though there may be some.
    pub fn xattrs_at(
        &self,
        path: &RepoPath,
        kind: Kind,
    ) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        Ok(self.all_xattrs_at(path, kind)?.0)
    }

    /// The same, and whether some are withheld for a secret in them.
    ///
    /// # Errors
    /// As [`RootHandle::xattrs_at`].
    pub fn all_xattrs_at(&self, path: &RepoPath, kind: Kind) -> std::io::Result<(Xattrs, bool)> {
        let is_dir = kind == Kind::Dir;
        if !is_dir && (kind != Kind::Symlink || !crate::disk::fsutil::is_root()) {
            return Ok(Default::default());
        }
        let flags = if is_dir {
            DIR_FLAGS
        } else {
            crate::disk::fsutil::LINK_FLAGS
        };
        let fd = match &self.dir {
            Some(dir) if path.is_root() => rustix::io::dup(dir)?,
            // A symlink at the end is what is to be opened, on the way none is followed.
            Some(dir) if is_dir => open_unlinked(dir.as_fd(), &c_path(path.as_bytes())?, flags)?,
            Some(dir) => rustix::fs::openat(dir, c_path(path.as_bytes())?, flags, Mode::empty())?,
            None => rustix::fs::open(&self.path, flags, Mode::empty())?,
        };
        let all = match is_dir {
            true => attributes::all_of_file(&File::from(fd)),
            false => attributes::all_of_link(&fd),
        }?;
        Ok((all.kept, all.withheld))
    }
}

struct Job {
    path: RepoPath,
    device: u64,
    /// Not all of the directory is taken.
    on_the_way: bool,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    /// Directories being read.
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
        let removed = if state.is_some() {
            vec![RepoPath::root()]
        } else {
            Vec::new()
        };
        return Ok(Scan {
            removed,
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
        // What was a directory is none any more: everything below it is gone.
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
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, 8);
    // Few directories are read before a second thread would have started.
    walk.run(&mut scan, if threads > 1 { 12 } else { usize::MAX });
    let more = !lock(&walk.queue).jobs.is_empty();
    if more {
        let scans = threads::share(threads, &|| {
            let mut scan = Scan::default();
            walk.run(&mut scan, usize::MAX);
            scan
        });
        for other in scans {
            // What a thread saw that failed is not known: that is no walk.
            let other = other.ok_or_else(|| Error::invalid("a worker thread failed", None))?;
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
    }
    Ok(scan)
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

    /// Reads one directory; returns those below it.
    fn directory(&self, job: &Job, scan: &mut Scan, buffers: &mut Buffers) -> Vec<Job> {
        let path = &job.path;
        if let Err(errno) = buffers.read(self.handle, path) {
            // Gone since it was listed: its parent will be looked at again next time. Else it counts as it was.
            if errno != Errno::NOENT {
                scan.problems.push((
                    path.clone(),
                    Error::io("read", self.handle.absolute(path), errno.into()),
                ));
            }
            return Vec::new();
        }
        let Buffers {
            dir: Some(dir),
            heap,
            names,
            ..
        } = buffers
        else {
            return Vec::new();
        };
        let name_of = |range: &(u32, u32)| &heap[range.0 as usize..range.1 as usize];
        let known = self.state.and_then(|s| s.children(path.as_bytes()));
        let mut known = known.map(|range| range.peekable());
        let mut subdirs = Vec::new();
        for range in names.iter() {
            let name = name_of(range);
            let text = &name[..name.len() - 1];
            // What the state has before this name is gone.
            let mut prior = None;
            if let (Some(known), Some(state)) = (&mut known, self.state) {
                while let Some(number) = known.peek().copied() {
                    match state.name(number).cmp(text) {
                        std::cmp::Ordering::Less => {
                            scan.removed.push(path.join(state.name(number)));
                            known.next();
                        }
                        std::cmp::Ordering::Equal => {
                            prior = Some(number);
                            known.next();
                            break;
                        }
                        std::cmp::Ordering::Greater => break,
                    }
                }
            }
            let Ok(c_name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let stat = match rustix::fs::statat(dir.as_fd(), c_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat_of(&stat),
                Err(Errno::NOENT) => {
                    if prior.is_some() {
                        scan.removed.push(path.join(text));
                    }
                    continue;
                }
                Err(errno) => {
                    let child = path.join(text);
                    let error = Error::io("read", self.handle.absolute(&child), errno.into());
                    scan.problems.push((child, error));
                    continue;
                }
            };
            let is_dir = stat.kind == Kind::Dir;
            let mut on_the_way = false;
            if job.on_the_way {
                match self.matcher.include(path.join(text).as_bytes()) {
                    Verdict::Take => scan.found = true,
                    Verdict::OnTheWay if is_dir => on_the_way = true,
                    _ => {
                        if prior.is_some() {
                            scan.removed.push(path.join(text));
                        }
                        continue;
                    }
                }
            }
            if crate::privacy::is_secret_name(text) {
                // Not even its name is written down.
                scan.left_out.push(LeftOut {
                    path: path.join(crate::privacy::SECRET_NAME),
                    reason: "a secret in its name".to_owned(),
                    inode: stat.inode,
                });
                if prior.is_some() {
                    scan.removed.push(path.join(text));
                }
                continue;
            }
            let mounted = is_dir && stat.device != job.device;
            if is_dir || !self.plain {
                let siblings = |sibling: &[u8]| {
                    names
                        .binary_search_by(|r| {
                            let n = name_of(r);
                            n[..n.len() - 1].cmp(sibling)
                        })
                        .is_ok()
                };
                let mut reason = self
                    .matcher
                    .left_out(path.as_bytes(), text, is_dir, &siblings);
                if reason == Some(Reason::Rebuildable)
                    && (self.keep_known && prior.is_some()
                        || crate::model::rules::is_small(&self.handle.absolute(&path.join(text))))
                {
                    reason = None;
                }
                if is_dir && reason.is_none() && !self.never.is_empty() {
                    let child = path.join(text);
                    reason = self.never.contains(&child).then_some(Reason::Own);
                }
                if reason.is_none() && !self.without.is_empty() {
                    let child = path.join(text);
                    reason = self.without.contains(&child).then_some(Reason::Elsewhere);
                }
                if mounted && reason.is_none() {
                    reason = match self.one_file_system {
                        true => Some(Reason::OtherFileSystem),
                        false => is_made_up(dir.as_fd(), c_name).then_some(Reason::Kernel),
                    };
                }
                if let Some(reason) = reason {
                    scan.left_out.push(LeftOut {
                        path: path.join(text),
                        reason: reason.words().to_owned(),
                        // A root of its own is captured there.
                        inode: if reason == Reason::Elsewhere {
                            0
                        } else {
                            stat.inode
                        },
                    });
                    if prior.is_some() {
                        scan.removed.push(path.join(text));
                    }
                    continue;
                }
            }
            let same = match (self.state, prior) {
                (Some(state), Some(number)) => unchanged(state, number, &stat, self.started),
                _ => false,
            };
            if !same && stat.kind == Kind::Symlink {
                let target = rustix::fs::readlinkat(dir.as_fd(), c_name, Vec::new());
                if target.is_ok_and(|to| crate::privacy::is_secret_text(to.as_bytes())) {
                    scan.left_out.push(LeftOut {
                        path: path.join(text),
                        reason: crate::privacy::IN_TARGET.to_owned(),
                        inode: stat.inode,
                    });
                    if prior.is_some() {
                        scan.removed.push(path.join(text));
                    }
                    continue;
                }
            }
            count(scan, &stat);
            if !same {
                let prior = prior.map(|n| n as u32);
                // A directory that became something else takes what was below it along.
                if let (Some(number), Some(state)) = (prior, self.state)
                    && !is_dir
                    && state.entry(number as usize).stat.kind == Kind::Dir
                {
                    scan.removed.push(path.join(text));
                }
                scan.dirty.push(Dirty {
                    path: path.join(text),
                    stat,
                    prior,
                });
            }
            if is_dir {
                if mounted {
                    scan.mounts.push(path.join(text));
                }
                subdirs.push(Job {
                    path: path.join(text),
                    device: stat.device,
                    on_the_way,
                });
            }
        }
        if let (Some(known), Some(state)) = (known, self.state) {
            scan.removed
                .extend(known.map(|number| path.join(state.name(number))));
        }
        subdirs
    }
}

/// What reading a directory needs, kept from one to the next.
#[derive(Default)]
struct Buffers {
    dir: Option<OwnedFd>,
    /// Names, each with its NUL.
    heap: Vec<u8>,
    names: Vec<(u32, u32)>,
    #[cfg(target_os = "linux")]
    raw: Vec<std::mem::MaybeUninit<u8>>,
}

impl Buffers {
    fn read(&mut self, handle: &RootHandle, path: &RepoPath) -> std::result::Result<(), Errno> {
        let Some(root) = &handle.dir else {
            return Err(Errno::NOTDIR);
        };
        self.heap.clear();
        self.names.clear();
        let name = if path.is_root() {
            c".".to_owned()
        } else {
            CString::new(path.as_bytes()).map_err(|_| Errno::INVAL)?
        };
        let dir = open_unlinked(root.as_fd(), &name, DIR_FLAGS)?;
        #[cfg(target_os = "linux")]
        {
            self.raw.resize(32 * 1024, std::mem::MaybeUninit::uninit());
            let mut entries = rustix::fs::RawDir::new(&dir, &mut self.raw);
            while let Some(entry) = entries.next() {
                let entry = entry?;
                push_name(&mut self.heap, &mut self.names, entry.file_name());
            }
        }
        #[cfg(not(target_os = "linux"))]
        for entry in rustix::fs::Dir::read_from(&dir)? {
            push_name(&mut self.heap, &mut self.names, entry?.file_name());
        }
        let heap = &self.heap;
        let name_of = |(start, end): (u32, u32)| &heap[start as usize..end as usize - 1];
        let is_own =
            |name: &[u8]| may_be_own(name) && is_own_object(&handle.absolute(&path.join(name)));
        self.names.retain(|name| !is_own(name_of(*name)));
        // Without the NUL, so that the order is that of the state.
        self.names.sort_unstable_by(|a, b| {
            heap[a.0 as usize..a.1 as usize - 1].cmp(&heap[b.0 as usize..b.1 as usize - 1])
        });
        self.dir = Some(dir);
        Ok(())
    }
}

/// Returns true for what is mounted and that no disk holds: `/proc`, `/sys` and the like.
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

fn push_name(heap: &mut Vec<u8>, names: &mut Vec<(u32, u32)>, name: &CStr) {
    let bytes = name.to_bytes_with_nul();
    if bytes == b".\0" || bytes == b"..\0" {
        return;
    }
    let start = heap.len() as u32;
    heap.extend_from_slice(bytes);
    names.push((start, heap.len() as u32));
}
