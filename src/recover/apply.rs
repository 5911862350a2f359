//! Carries out what a restore or an undo has planned.
//!
//! Order: remove what is in the way → directories, from the top → files (in several threads) →
//! symlinks → further names of files → metadata → other removals, from the bottom → metadata of
//! directories, from the bottom. Each object is checked once more before it is touched: one that
//! has changed since the plan is left alone and reported.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dirs::{neutral_dirs, open_dirs};
use unsaved::without_unsaved;

use crate::base::error::{Error, Result};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{RawName, RepoPath, os_to_bytes};
use crate::base::threads;
use crate::disk::fsutil;
use crate::disk::fsutil::target::{Fidelity, Target, still_stands};
use crate::model::manifest::{Entry, Kind, Stat};
use crate::privacy::RECORD;
use crate::privacy::seal::placeholders;
use crate::protect::guard::Protected;
use crate::protect::work::{Act, Job, Work, absolute};
use crate::repo::Repository;
use crate::repo::reader::Reader;
use crate::repo::snapshot::PathNote;
use crate::repo::under_way::UnderWay;

/// Proof that applying may destroy: what it overwrites is saved, or there is nothing to overwrite.
pub(crate) enum Licence<'a> {
    /// The state before is in a snapshot.
    Saved(&'a Protected),
    /// Only new names below a directory that was empty or missing.
    NothingThere {
        /// Notes where it is written, and that is on disk before it reports success; `None` for a
        /// scratch directory.
        own: Option<&'a Repository>,
    },
}

/// Returns notes about directories that stayed closed, in place of the problems they caused.
pub(crate) fn not_looked_at(
    closed: &[PathBuf],
    who: &str,
    problems: &mut Vec<PathNote>,
) -> Vec<PathNote> {
    problems.retain(|problem| {
        let path = problem.path.as_path();
        let mut closed = closed.iter();
        !closed.any(|dir| path.starts_with(dir) || dir.starts_with(path))
    });
    let note = |dir: &PathBuf| PathNote {
        path: RawName::from(dir.as_path()),
        reason: format!("its mode keeps its owner out; {who} while it works"),
    };
    closed.iter().map(note).collect()
}

#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) restored: u64,
    /// Of these, how many are not directories.
    pub(crate) files: u64,
    pub(crate) removed: u64,
    pub(crate) bytes: u64,
    pub(crate) problems: Vec<PathNote>,
    /// Metadata that could not be restored.
    pub(crate) lacking: Vec<PathNote>,
    /// Files of which bdr has a second name, by device and inode.
    pub(crate) linked: HashSet<(u64, u64)>,
}

struct Progress<'a> {
    monitor: &'a dyn Monitor,
    restored: AtomicU64,
    bytes: AtomicU64,
    problems: Mutex<Vec<PathNote>>,
    lacking: Mutex<Vec<PathNote>>,
    linked: Mutex<HashSet<(u64, u64)>>,
    stop: AtomicBool,
}

impl Progress<'_> {
    fn problem(&self, path: PathBuf, error: &Error) {
        self.monitor.problem(&os_to_bytes(path.as_os_str()), error);
        let reason = crate::base::error::reason(error);
        if let Ok(mut problems) = self.problems.lock() {
            problems.push(PathNote {
                path: RawName(path.into_os_string()),
                reason,
            });
        }
    }

    /// Adds a file of which bdr has a second name.
    fn linked(&self, file: Option<(u64, u64)>) {
        if let (Some(file), Ok(mut all)) = (file, self.linked.lock()) {
            all.insert(file);
        }
    }

    /// Adds the metadata that could not be restored.
    fn lacking(&self, target: &mut Target) {
        let lacking = target.take_lacking();
        if let Ok(mut all) = self.lacking.lock() {
            all.extend(lacking.into_iter().map(|(path, reason)| PathNote {
                path: RawName(path.into_os_string()),
                reason,
            }));
        }
    }

    fn stopped(&self) -> bool {
        if self.monitor.stopped() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }
}

/// Note on restored content that may not be the original.
const UNSURE: &str = "another program wrote to it after it was deleted: only its beginning came back, and even that may have changed";

/// From this size on, in bytes, a file that stays in its staging area gets its name back itself: a copy
/// would take the room of two for as long as the operation can be undone. The price is that what is
/// written to it changes what is kept of it, so everything else is copied, as long as there is room.
const ADOPTED: u64 = 8 << 20;

/// Up to this many files are synced one by one; for more, the file system is synced once at the
/// end.
const SYNC_EACH: usize = 32;

/// Returns the directories into which the work will write.
fn parents(work: &Work) -> BTreeSet<RawName> {
    let paths = work.jobs.iter().map(|job| absolute(work, job));
    paths
        .filter_map(|path| path.parent().map(RawName::from))
        .collect()
}

/// Applies `work`.
///
/// # Errors
/// A base directory cannot be opened, or the user stopped it. What cannot be restored is a problem, not an error.
pub(crate) fn apply(
    repo: &Repository,
    work: &Work,
    licence: &Licence<'_>,
    monitor: &dyn Monitor,
) -> Result<Applied> {
    let fidelity = match licence {
        Licence::Saved(protected) if protected.is_in_place() => Fidelity::InPlace,
        _ => Fidelity::Elsewhere,
    };
    // What is restored may be from elsewhere: that it is being written is noted here.
    let own = match licence {
        Licence::Saved(protected) => Some(protected.repository()),
        Licence::NothingThere { own } => *own,
    };
    let durable = own.is_some();
    let (mut unsaved, mut narrowed) = (Vec::new(), None);
    if let Licence::Saved(protected) = licence {
        (unsaved, narrowed) = without_unsaved(work, protected);
    }
    let work = narrowed.as_ref().unwrap_or(work);
    let bytes: u64 = of(work, Act::Write)
        .filter_map(|j| Some(j.entry.as_ref()?.size))
        .sum();
    monitor.phase(Phase::Restoring, work.jobs.len() as u64, bytes);
    let names = Names::of(work);
    let mut run = Applying {
        repo,
        work,
        fidelity,
        durable,
        sync_each: durable && names.files.len() <= SYNC_EACH,
        targets: open_sites(work, fidelity)?,
        progress: Progress {
            monitor,
            restored: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            problems: Mutex::new(unsaved),
            lacking: Mutex::default(),
            linked: Mutex::default(),
            stop: AtomicBool::new(false),
        },
        removed: 0,
    };
    // Before the first change, because this reads the times to restore.
    let neutral = neutral_dirs(work, &mut run.targets);
    let opened = open_dirs(work, &mut run.targets);
    let _under_way = own.map(|own| UnderWay::begin(own, parents(work)));
    run.remove(Act::Clear, &HashSet::new());
    let dirs = run.make_dirs();
    let made = dirs.len() as u64;
    run.write_files(&names.files)?;
    run.make_others(&names);
    run.join_names(&names);
    let changed = run.set_metadata();
    run.remove(Act::Remove, &changed);
    run.finish_dirs(dirs);
    run.put_times_back(neutral);
    for (site, path, stat) in opened {
        // Directories that were replaced or removed are handled above.
        let _ = run.targets[site].set_mode(&path, &stat);
    }
    run.finish(made)
}

fn open_sites(work: &Work, fidelity: Fidelity) -> Result<Vec<Target>> {
    let sites = work.sites.iter();
    sites.map(|site| Target::open(site, fidelity)).collect()
}

/// Decides which name gets the content: a file with several names is written once, and the others
/// are linked to it.
struct Names<'a> {
    files: Vec<&'a Job>,
    symlinks: Vec<&'a Job>,
    /// Names of files and symlinks of which another name is written already.
    further: Vec<&'a Job>,
    /// The name to which others are linked, by site and group.
    firsts: HashMap<(usize, String), RepoPath>,
}

impl<'a> Names<'a> {
    fn of(work: &'a Work) -> Self {
        let mut firsts = work.anchors.clone();
        let mut is_first = |job: &&Job| {
            let group = job.entry.as_ref().map_or("", |e| e.body.link.as_str());
            if group.is_empty() {
                return true;
            }
            let key = (job.site, group.to_owned());
            let is_further = firsts.contains_key(&key);
            firsts.entry(key).or_insert_with(|| job.path.clone());
            !is_further
        };
        let (files, mut further): (Vec<&Job>, Vec<&Job>) =
            writes(work, Kind::File).partition(&mut is_first);
        let (symlinks, more): (Vec<&Job>, Vec<&Job>) =
            writes(work, Kind::Symlink).partition(&mut is_first);
        further.extend(more);
        Self {
            files,
            symlinks,
            further,
            firsts,
        }
    }
}

/// Work being applied. The steps follow the order at the top of this file, and each relies on those
/// before it.
struct Applying<'a> {
    repo: &'a Repository,
    work: &'a Work,
    fidelity: Fidelity,
    /// Sync what was written before reporting success.
    durable: bool,
    /// Few enough files to sync each; otherwise the file systems are synced once.
    sync_each: bool,
    targets: Vec<Target>,
    progress: Progress<'a>,
    removed: u64,
}

impl<'a> Applying<'a> {
    fn remove(&mut self, act: Act, changed: &HashSet<(u64, u64)>) {
        let (work, progress) = (self.work, &self.progress);
        self.removed += remove(work, act, &mut self.targets, changed, progress);
    }

    /// Creates directories from the top. Their metadata comes last, because writing into them
    /// changes their times.
    fn make_dirs(&mut self) -> Vec<&'a Job> {
        let mut dirs: Vec<&Job> = writes(self.work, Kind::Dir).collect();
        dirs.sort_by(|a, b| a.path.cmp(&b.path));
        dirs.retain(|job| match self.targets[job.site].make_dir(&job.path) {
            Ok(()) => {
                count(&self.progress, 0);
                true
            }
            Err(error) => {
                self.progress.problem(absolute(self.work, job), &error);
                false
            }
        });
        dirs
    }

    fn write_files(&self, files: &[&Job]) -> Result<()> {
        let (work, fidelity) = (self.work, self.fidelity);
        // Each thread has handles of its own.
        let open = || open_sites(work, fidelity);
        write_files(
            self.repo,
            work,
            files,
            self.sync_each,
            &open,
            &self.progress,
        )
    }

    /// Creates symlinks and FIFOs.
    fn make_others(&mut self, names: &Names<'_>) {
        let fifos = writes(self.work, Kind::Fifo);
        for job in names.symlinks.iter().copied().chain(fifos) {
            let Some(entry) = &job.entry else { continue };
            let target = &mut self.targets[job.site];
            let done = check(target, job).and_then(|()| match entry.kind {
                Kind::Fifo => target.fifo(&job.path, entry),
                _ => target.symlink(&job.path, entry),
            });
            settle(self.work, job, done, &self.progress);
        }
    }

    /// Gives files and symlinks their further names.
    fn join_names(&mut self, names: &Names<'_>) {
        let mut reader = Reader::new(self.repo);
        for job in &names.further {
            let Some(entry) = &job.entry else { continue };
            let first = &names.firsts[&(job.site, entry.body.link.clone())];
            let target = &mut self.targets[job.site];
            let done = check(target, job).and_then(|()| {
                let Err(error) = target.hard_link(&job.path, first) else {
                    return Ok(());
                };
                // The first name could not be restored, or hard links are impossible here: a copy
                // is better than nothing.
                match entry.kind {
                    Kind::Symlink => target.symlink(&job.path, entry)?,
                    _ => {
                        let linked = write_one(&mut reader, target, job, entry, self.sync_each)?;
                        self.progress.linked(linked);
                    }
                }
                let reason =
                    format!("it is now a separate file, not a hard link to `{first}`: {error}");
                let reason = Error::invalid(reason, None);
                self.progress.problem(absolute(self.work, job), &reason);
                Ok(())
            });
            settle(self.work, job, done, &self.progress);
        }
    }

    /// Sets the metadata of everything but directories. Returns the files, by device and inode,
    /// whose other names changed along with the first.
    fn set_metadata(&mut self) -> HashSet<(u64, u64)> {
        let mut changed = HashSet::new();
        for job in of(self.work, Act::Metadata).filter(|j| !is_dir(j)) {
            let target = &mut self.targets[job.site];
            // Setting one name changes the ctime of the others, so only the first is compared with
            // the plan.
            let again = job
                .seen
                .is_some_and(|s| s.links > 1 && !changed.insert((s.device, s.inode)));
            let done = if again { Ok(()) } else { check(target, job) };
            let done = done.and_then(|()| {
                let entry = job.entry.as_ref();
                entry.map_or(Ok(()), |entry| target.set_metadata(&job.path, entry))
            });
            settle(self.work, job, done, &self.progress);
        }
        changed
    }

    /// Sets the metadata of directories from the bottom up, because a parent without permissions
    /// would block access to its children.
    fn finish_dirs(&mut self, mut dirs: Vec<&'a Job>) {
        dirs.extend(of(self.work, Act::Metadata).filter(|j| is_dir(j)));
        dirs.sort_by(|a, b| b.path.cmp(&a.path));
        for job in dirs {
            if let Some(entry) = &job.entry
                && let Err(error) = self.targets[job.site].set_metadata(&job.path, entry)
            {
                self.progress.problem(absolute(self.work, job), &error);
            }
        }
    }

    /// Restores the times of directories in which files were only replaced; a failure is not worth
    /// reporting.
    fn put_times_back(&mut self, neutral: Vec<(usize, RepoPath, Stat)>) {
        for (site, path, stat) in neutral {
            let body = crate::model::manifest::Body::default();
            let entry = crate::repo::state::entry_of(path.clone(), &stat, body);
            let _ = self.targets[site].set_times(&path, &entry);
        }
        for (path, mtime) in &self.work.times {
            let entry = Entry {
                kind: Kind::Dir,
                mtime: *mtime,
                ..Entry::default()
            };
            let _ = Target::open(path, self.fidelity)
                .and_then(|mut dir| dir.set_times(&RepoPath::root(), &entry));
        }
    }

    /// Syncs and reports; `made` are directories.
    fn finish(mut self, made: u64) -> Result<Applied> {
        for target in &mut self.targets {
            self.progress.lacking(target);
        }
        if self.durable && !self.work.jobs.is_empty() {
            sync(self.work, self.sync_each, &mut self.targets)?;
        }
        if self.progress.stopped() {
            return Err(Error::Interrupted);
        }
        let progress = self.progress;
        let restored = progress.restored.into_inner();
        Ok(Applied {
            restored,
            files: restored - made,
            removed: self.removed,
            bytes: progress.bytes.into_inner(),
            problems: progress.problems.into_inner().unwrap_or_default(),
            lacking: progress.lacking.into_inner().unwrap_or_default(),
            linked: progress.linked.into_inner().unwrap_or_default(),
        })
    }
}

fn of(work: &Work, act: Act) -> impl Iterator<Item = &Job> {
    work.jobs.iter().filter(move |job| job.act == act)
}

fn writes(work: &Work, kind: Kind) -> impl Iterator<Item = &Job> {
    of(work, Act::Write).filter(move |job| job.entry.as_ref().is_some_and(|e| e.kind == kind))
}

fn is_dir(job: &Job) -> bool {
    job.entry.as_ref().is_some_and(|e| e.kind == Kind::Dir)
}

fn count(progress: &Progress<'_>, bytes: u64) {
    progress.restored.fetch_add(1, Ordering::Relaxed);
    progress.bytes.fetch_add(bytes, Ordering::Relaxed);
    progress.monitor.advance(1, bytes);
}

fn settle(work: &Work, job: &Job, done: Result<()>, progress: &Progress<'_>) {
    match done {
        Ok(()) => count(progress, job.entry.as_ref().map_or(0, |e| e.size)),
        Err(error) => progress.problem(absolute(work, job), &error),
    }
}

/// Makes sure that nothing changed since the plan.
fn check(target: &mut Target, job: &Job) -> Result<()> {
    let now = target.stat(&job.path)?;
    if still_stands(job.seen.as_ref(), now.as_ref()) {
        return Ok(());
    }
    Err(changed_since(job))
}

fn changed_since(job: &Job) -> Error {
    Error::Unsafe {
        path: job.path.to_string(),
        reason: "it changed since the plan was made; run the command again".to_owned(),
    }
}

/// Removes an object; `changed` are files whose metadata was restored under another name.
fn remove(
    work: &Work,
    act: Act,
    targets: &mut [Target],
    changed: &HashSet<(u64, u64)>,
    progress: &Progress<'_>,
) -> u64 {
    let mut jobs: Vec<&Job> = of(work, act).collect();
    jobs.sort_by(|a, b| b.path.cmp(&a.path));
    let mut removed = 0;
    for job in jobs {
        let target = &mut targets[job.site];
        let ours = job
            .seen
            .filter(|seen| changed.contains(&(seen.device, seen.inode)));
        let checked = match ours {
            Some(seen) => target.stat(&job.path).and_then(|now| {
                let same = now.is_some_and(|now| {
                    (now.kind, now.size) == (seen.kind, seen.size)
                        && (now.device, now.inode) == (seen.device, seen.inode)
                });
                if same {
                    Ok(())
                } else {
                    Err(changed_since(job))
                }
            }),
            None => check(target, job),
        };
        let done = checked.and_then(|()| {
            match job.seen.as_ref().map(|s| s.kind) {
                // A directory that is not empty is not ours to remove.
                Some(Kind::Dir) => target.remove_dir(&job.path),
                _ => target.remove(&job.path).map(|()| true),
            }
        });
        match done {
            Ok(true) => {
                removed += u64::from(job.seen.as_ref().is_none_or(|s| s.kind != Kind::Dir));
                progress.monitor.advance(1, 0);
            }
            Ok(false) => {}
            Err(error) => progress.problem(absolute(work, job), &error),
        }
    }
    removed
}

/// Writes a file. Returns its device and inode if it is the kept file itself, of which bdr has a second
/// name.
fn write_one(
    reader: &mut Reader<'_>,
    target: &mut Target,
    job: &Job,
    entry: &Entry,
    sync: bool,
) -> Result<Option<(u64, u64)>> {
    // The last gate: a placeholder never gets into a file in use.
    if let (Some(bytes), Some(sealed)) = (&job.bytes, &entry.body.sealed)
        && memchr::memmem::find(job.path.name(), b".bdr-").is_none()
        && let left = placeholders(bytes)
        && let Some(one) = left
            .iter()
            .find(|one| one.kind != RECORD && sealed.values.contains(&one.fingerprint))
    {
        return Err(Error::Sealed {
            values: vec![one.fingerprint],
        });
    }
    reader.take_unsure();
    let kept = match &job.bytes {
        Some(_) => None,
        None => reader.kept_place(&entry.body),
    };
    let adopt = |target: &mut Target| -> Result<Option<(u64, u64)>> {
        let Some(kept) = &kept else {
            return Ok(None);
        };
        let adopted = target.adopt(&job.path, entry, sync, (&kept.area, kept.number))?;
        Ok(adopted.map(|stat| (stat.device, stat.inode)))
    };
    if entry.size >= ADOPTED
        && kept.as_ref().is_some_and(|kept| kept.stays)
        && let Some(linked) = adopt(target)?
    {
        return Ok(Some(linked));
    }
    let written = target.write(&job.path, entry, sync, &mut |sink| match &job.bytes {
        Some(bytes) => sink(bytes),
        None => reader.original(&entry.body, sink),
    });
    match written {
        // The kept file itself takes no room.
        Err(error) if is_full(&error) => {
            let linked = adopt(target)?;
            return linked.map(Some).ok_or(error);
        }
        other => other?,
    }
    if reader.take_unsure() {
        target.note(&job.path, UNSURE);
    }
    Ok(None)
}

fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}

fn write_files(
    repo: &Repository,
    work: &Work,
    files: &[&Job],
    sync: bool,
    open: &(dyn Fn() -> Result<Vec<Target>> + Sync),
    progress: &Progress<'_>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let run = || -> Result<()> {
        let mut targets = open()?;
        let mut reader = Reader::new(repo);
        loop {
            let first = next.fetch_add(16, Ordering::Relaxed);
            if first >= files.len() {
                return Ok(());
            }
            for job in &files[first..(first + 16).min(files.len())] {
                if progress.stopped() {
                    break;
                }
                let Some(entry) = &job.entry else { continue };
                let target = &mut targets[job.site];
                let done = check(target, job)
                    .and_then(|()| write_one(&mut reader, target, job, entry, sync))
                    .map(|linked| progress.linked(linked));
                settle(work, job, done, progress);
            }
            targets
                .iter_mut()
                .for_each(|target| progress.lacking(target));
            if progress.stopped() {
                return Ok(());
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, 8);
    if files.len() < 32 || threads == 1 {
        return run();
    }
    let failed = || Err(Error::invalid("a worker thread failed", None));
    threads::share(threads, &run)
        .into_iter()
        .try_for_each(|done| done.unwrap_or_else(failed))
}

fn sync(work: &Work, each: bool, targets: &mut [Target]) -> Result<()> {
    if !each {
        for site in &work.sites {
            fsutil::sync_file_system(site).map_err(|e| Error::io("sync", site, e))?;
        }
        return Ok(());
    }
    let mut dirs: Vec<(usize, RepoPath)> = work
        .jobs
        .iter()
        .map(|job| (job.site, job.path.parent().unwrap_or_default()))
        .collect();
    dirs.sort();
    dirs.dedup();
    for (site, dir) in dirs {
        match targets[site].sync_dir(&dir) {
            // Removed along with its content, or a file by now.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(Error::Unsafe { .. }) => {}
            other => other?,
        }
    }
    Ok(())
}

mod dirs;
#[cfg(all(test, feature = "test-support"))]
mod tests;
mod unsaved;
