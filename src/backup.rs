//! Takes a snapshot: walk, compare with the state, read what is dirty, pack it, commit.
//!
//! Order on disk: packs (each fsynced by the thread that wrote it) → key frames → snapshot record, the commit point → index and state, which
//! are derived. An error or a crash before the record leaves at most unreferenced files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::capture::{Capture, Captured, Shared};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::manifest::{Body, Entry, Flag, Kind, Listing};
use crate::monitor::{Monitor, Phase};
use crate::path::{RawName, RepoPath, compare, os_to_bytes, tar_name};
use crate::repo::index::DigestSet;
use crate::repo::pack::{Finished, TarKind, TarMeta};
use crate::repo::snapshot::{
    LeftOut, PathNote, RootRecord, Snapshot, SnapshotKind, Stats, Trigger,
};
use crate::repo::state::{
    DIRTY, IN_DELTA, Known, Mirrors, NOT_IN_BASE, Stat, State, StateBuilder, entry_of, same_stat,
};
use crate::repo::{Repository, hold_shared};
use crate::rules::{Origin, Root, Rules};
use crate::sqlite;
use crate::walk::{Dirty, RootHandle, Scan, WalkOptions, walk};

pub use crate::repo::pack::Level;

/// How to take a snapshot.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Re-read and store every byte, trust no cache.
    pub full: bool,
    /// What takes it.
    pub trigger: Trigger,
    /// Given by the user.
    pub label: Option<String>,
    /// Given by the user.
    pub tags: Vec<String>,
    /// Name of the machine.
    pub host: String,
    /// The time of the snapshot, and of the walk.
    pub now: DateTime<Utc>,
    /// How hard to compress.
    pub level: Level,
    /// New bytes that an operand or workspace may bring; `None`: any number.
    pub max_bytes: Option<u64>,
    /// Files that a workspace may have; `None`: any number.
    pub max_files: Option<u64>,
    /// Absolute paths that are never captured, beside the repository's own.
    pub never: Vec<PathBuf>,
}

impl BackupOptions {
    /// Returns the defaults for a trigger.
    pub fn new(trigger: Trigger, now: DateTime<Utc>) -> Self {
        let scheduled = matches!(trigger, Trigger::Backup | Trigger::Init);
        Self {
            full: false,
            trigger,
            label: None,
            tags: Vec::new(),
            host: String::new(),
            now,
            level: if scheduled { Level::Best } else { Level::Fast },
            max_bytes: None,
            max_files: None,
            never: Vec::new(),
        }
    }

    /// Returns true if a snapshot that says nothing new may be left out.
    fn may_reuse(&self) -> bool {
        !self.full && !matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }
}

/// What taking a snapshot came to.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot; an older one if `reused`.
    pub snapshot: Snapshot,
    /// Nothing had changed: nothing was written.
    pub reused: bool,
    /// Regular files that are new since the state.
    pub added: u64,
    /// Regular files whose content or metadata changed.
    pub changed: u64,
    /// Paths that are gone, topmost.
    pub removed: u64,
    /// Bytes read from files.
    pub read_bytes: u64,
    /// Bytes of packs and key frames written.
    pub stored_bytes: u64,
    /// What could not be read.
    pub problems: Vec<PathNote>,
    /// What the rules or the budget left out.
    pub left_out: Vec<PathNote>,
    /// FIFOs, sockets, devices.
    pub not_stored: u64,
    /// Wall time.
    pub elapsed: Duration,
}

/// One root while it is captured, and after: what the snapshot knows of it.
pub(crate) struct RootRun {
    pub(crate) root: Root,
    pub(crate) state: Option<State>,
    pub(crate) left_out: Vec<LeftOut>,
    state_path: PathBuf,
    handle: Option<RootHandle>,
    scan: Scan,
}

/// Takes a snapshot of `roots`.
///
/// # Errors
/// A root cannot be looked at, an operand is over the budget, the repository cannot be written or is held by prune, or
/// the user stopped it. Single files that cannot be read are problems, not errors.
pub fn backup(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    capture(repo, roots, options, monitor).map(|(report, _)| report)
}

/// [`backup`], with what it learned of the roots.
pub(crate) fn capture(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<(BackupReport, Vec<RootRun>)> {
    let started = Instant::now();
    repo.check_writable()?;
    let scheduled = matches!(options.trigger, Trigger::Backup | Trigger::Init);
    let patience = Duration::from_millis(if scheduled { 10_000 } else { 50 });
    let mut options = options.clone();
    if scheduled {
        // What a crash left. Not being able to tidy up is no reason not to back up.
        let _ = repo.sweep_temporaries();
    }
    let lock_file = repo.lock_file()?;
    let _hold = match hold_shared(lock_file.as_ref(), patience) {
        Ok(hold) => hold,
        // Prune is sweeping. A person waits: what refers to nothing older needs no lock.
        Err(Error::Busy { .. }) if !scheduled => {
            options.full = true;
            None
        }
        Err(error) => return Err(error),
    };
    let options = &options;
    if scheduled && !options.full {
        notice_missing_packs(repo)?;
    }
    let damaged = repo.damaged_blobs();
    monitor.phase(Phase::Scanning, 0, 0);
    let mut never = repo.own_paths();
    never.extend(options.never.iter().cloned());
    let mut runs = Vec::new();
    for root in roots {
        runs.push(look_at(repo, root, options, &never)?);
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
    }
    if !damaged.is_empty() {
        runs.iter_mut()
            .for_each(|run| mark_lost(run, &|blob| damaged.contains(blob)));
    }
    for run in &mut runs {
        apply_budget(run, options)?;
    }
    let mut problems: Vec<PathNote> = Vec::new();
    for run in &mut runs {
        for (path, error) in std::mem::take(&mut run.scan.problems) {
            monitor.problem(
                &os_to_bytes(path.to_path(&run.root.path).as_os_str()),
                &error,
            );
            problems.push(note(&run.root, &path, &reason_of(&error)));
        }
    }
    let report = |snapshot, reused, counts: Counts, problems, runs: &[RootRun]| BackupReport {
        snapshot,
        reused,
        added: counts.added,
        changed: counts.changed,
        removed: runs.iter().map(|r| r.scan.removed.len() as u64).sum(),
        read_bytes: counts.read_bytes,
        stored_bytes: counts.stored_bytes,
        problems,
        left_out: runs
            .iter()
            .flat_map(|r| r.left_out.iter().map(|l| note(&r.root, &l.path, &l.reason)))
            .collect(),
        not_stored: runs.iter().map(|r| r.scan.not_stored).sum(),
        elapsed: started.elapsed(),
    };
    let untouched = runs
        .iter()
        .all(|r| r.scan.dirty.is_empty() && r.scan.removed.is_empty());
    if options.may_reuse()
        && untouched
        && problems.is_empty()
        && let Some(snapshot) = reusable(repo, &runs)?
    {
        return Ok((
            report(snapshot, true, Counts::default(), problems, &runs),
            runs,
        ));
    }

    // Read and pack.
    let shared = Shared {
        repo,
        full: options.full,
        level: options.level,
        damaged,
        stored: Mutex::default(),
        present: Mutex::default(),
    };
    let mut counts = Counts::default();
    let results = read_dirty(&shared, &runs, &mut counts, monitor)?;
    let mut captured: Vec<BTreeMap<RepoPath, Captured>> =
        runs.iter().map(|_| BTreeMap::new()).collect();
    for (number, path, result) in results.objects {
        match result {
            Ok(one) => {
                captured[number].insert(path, one);
            }
            Err(error) => {
                let run = &runs[number];
                monitor.problem(
                    &os_to_bytes(path.to_path(&run.root.path).as_os_str()),
                    &error,
                );
                problems.push(note(&run.root, &path, &reason_of(&error)));
            }
        }
    }
    let mut packs = results.packs;

    // What each root looks like now.
    let mut pending = Vec::new();
    for (run, captured) in runs.iter().zip(&captured) {
        pending.push(rebuild(run, captured, options.full, &mut counts));
    }
    let changed_nothing = !options.full
        && pending.iter().all(|p| !p.is_news)
        && problems.is_empty()
        && options.may_reuse();
    if changed_nothing && let Some(snapshot) = reusable(repo, &runs)? {
        // Racy files that turned out to be as they were: from now on they can be trusted.
        for (run, new) in runs.iter_mut().zip(pending) {
            let mirrors = Mirrors {
                started: nanos(options.now),
                ..new.mirrors
            };
            run.state = Some(
                new.builder
                    .save(&run.state_path, repo.id(), &mirrors, &new.removed),
            );
        }
        return Ok((report(snapshot, true, counts, problems, &runs), runs));
    }
    if options.full {
        packs.extend(write_tree(&shared, &runs, &captured)?);
    }

    // Commit.
    let (seq, id) = repo.next_snapshot(options.now)?;
    let mut records = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for (run, new) in runs.iter().zip(&mut pending) {
        files += run.scan.files;
        bytes += run.scan.bytes;
        let mut record = RootRecord {
            name: run.root.name.clone(),
            path: RawName::from(run.root.path.as_path()),
            rules: run.root.rules.clone(),
            base: None,
            changed: Vec::new(),
            removed: Vec::new(),
            left_out: run.left_out.clone(),
            files: run.scan.files,
            bytes: run.scan.bytes,
        };
        if run.scan.exists {
            match new.mirrors.base {
                Some(base) => {
                    record.base = Some(base);
                    record.changed = std::mem::take(&mut new.changed);
                    record.removed.clone_from(&new.removed);
                }
                None => {
                    let listing = std::mem::take(&mut new.listing);
                    let (base, written) =
                        repo.put_keyframe(&run.root.name, &run.root.path, &listing)?;
                    counts.stored_bytes += written;
                    new.mirrors.base = Some(base);
                    record.base = Some(base);
                }
            }
        }
        records.push(record);
    }
    counts.stored_bytes += packs.iter().map(|p| p.pack.bytes).sum::<u64>();
    if monitor.stopped() {
        return Err(Error::Interrupted);
    }
    let snapshot = Snapshot {
        version: 1,
        repository: repo.id(),
        id,
        seq,
        time: options.now,
        kind: if options.full {
            SnapshotKind::Full
        } else {
            SnapshotKind::Incremental
        },
        trigger: options.trigger,
        label: options.label.clone(),
        tags: options.tags.clone(),
        host: options.host.clone(),
        partial: !problems.is_empty(),
        problems: problems.clone(),
        roots: records,
        packs: packs.iter().map(|p| p.pack).collect(),
        stats: Stats {
            files,
            bytes,
            stored_bytes: counts.stored_bytes,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        },
    };
    repo.commit(&snapshot)?;
    repo.remember_packs(&packs);
    for (run, new) in runs.iter_mut().zip(pending) {
        let mirrors = Mirrors {
            snapshot: id,
            seq,
            started: nanos(options.now),
            base: new.mirrors.base,
        };
        // A root that is not there has no state: nothing to compare with.
        run.state = run.scan.exists.then(|| {
            let removed = if new.base_kept { &new.removed[..] } else { &[] };
            new.builder
                .save(&run.state_path, repo.id(), &mirrors, removed)
        });
        if !run.scan.exists {
            let _ = crate::fsutil::remove_file(&run.state_path);
        }
    }
    // The damaged blobs that this run stored again are whole now.
    if !shared.damaged.is_empty()
        && let Ok(stored) = shared.stored.lock()
    {
        let left: DigestSet = shared.damaged.difference(&stored).copied().collect();
        repo.set_damaged_blobs(&left)?;
    }
    Ok((report(snapshot, false, counts, problems, &runs), runs))
}

fn nanos(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

fn reason_of(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

fn note(root: &Root, path: &RepoPath, reason: &str) -> PathNote {
    PathNote {
        path: RawName(path.to_path(&root.path).into_os_string()),
        reason: reason.to_owned(),
    }
}

/// Counts that a report needs.
#[derive(Default)]
struct Counts {
    added: u64,
    changed: u64,
    read_bytes: u64,
    stored_bytes: u64,
}

/// Makes the index forget packs that are not there any more; what they held counts as damaged.
fn notice_missing_packs(repo: &Repository) -> Result<()> {
    let present: DigestSet = repo.list_packs()?.iter().map(|p| p.id).collect();
    let index = repo.index();
    let known = index.packs().iter().all(|p| present.contains(&p.pack.id));
    if !known || index.packs().len() < present.len() {
        repo.refreshed_index()?;
    }
    Ok(())
}

/// Returns where the state of a root is kept.
fn state_path(repo: &Repository, root: &Root) -> PathBuf {
    let mut hasher = Sha256::new();
    hasher.update(os_to_bytes(root.path.as_os_str()));
    hasher.update([0]);
    hasher.update(serde_json::to_vec(&root.rules).unwrap_or_default());
    repo.cache()
        .join("state")
        .join(&Digest::finish(hasher).to_hex()[..24])
}

fn look_at(
    repo: &Repository,
    root: &Root,
    options: &BackupOptions,
    never: &[PathBuf],
) -> Result<RootRun> {
    let state_path = state_path(repo, root);
    let state = if options.full {
        None
    } else {
        State::load(&state_path, repo.id())
    };
    // A state mirrors a snapshot; without it, nothing says that the contents are still there.
    let state = state.filter(|state| {
        let mirrors = state.mirrors();
        let name = format!("snapshots/{:010}-{}.json", mirrors.seq, mirrors.snapshot);
        mirrors.base.is_some() && matches!(repo.storage().size(&name), Ok(Some(_)))
    });
    let max_files = if root.origin == Origin::Source {
        None
    } else {
        options.max_files
    };
    let mut scan = walk(root, state.as_ref(), &WalkOptions { never, max_files })?;
    if scan.too_many && root.origin == Origin::Operand {
        return Err(Error::invalid(
            format!(
                "`{}` has more than {} files",
                root.path.display(),
                max_files.unwrap_or(0)
            ),
            Some("name a smaller part with --path, or raise guard.max_files in the configuration"),
        ));
    }
    if scan.too_many {
        scan = Scan {
            exists: false,
            too_many: true,
            ..Scan::default()
        };
        scan.left_out.push(LeftOut {
            path: RepoPath::root(),
            reason: "too many files".to_owned(),
        });
    }
    let handle = if scan.exists {
        RootHandle::open(&root.path)?
    } else {
        None
    };
    let left_out = std::mem::take(&mut scan.left_out);
    Ok(RootRun {
        root: root.clone(),
        state,
        left_out,
        state_path,
        handle,
        scan,
    })
}

/// Marks entries whose content is lost as dirty: they are stored again.
fn mark_lost(run: &mut RootRun, is_lost: &dyn Fn(&Digest) -> bool) {
    let (Some(state), Some(handle)) = (&run.state, &run.handle) else {
        return;
    };
    let known: HashSet<RepoPath> = run.scan.dirty.iter().map(|d| d.path.clone()).collect();
    for (path, number) in paths_of(state) {
        let entry = state.entry(number);
        let lost = entry.stat.kind == Kind::File
            && entry
                .body()
                .is_none_or(|b| b.content.is_some_and(|c| c.blobs.iter().any(is_lost)));
        if lost
            && !known.contains(&path)
            && !run.scan.removed.iter().any(|r| path.starts_with(r))
            && let Ok(stat) = handle.stat(&path)
        {
            // No prior: the old content is not to be built upon.
            run.scan.dirty.push(Dirty {
                path,
                stat,
                prior: None,
            });
        }
    }
    run.scan.dirty.sort_by(|a, b| a.path.cmp(&b.path));
}

fn paths_of(state: &State) -> impl Iterator<Item = (RepoPath, usize)> + '_ {
    std::iter::once((RepoPath::root(), 0)).chain(state.directories().flat_map(
        move |(dir, children)| {
            let dir = RepoPath::new(dir).unwrap_or_default();
            children.map(move |number| (dir.join(state.name(number)), number))
        },
    ))
}

/// Keeps new content within the budget.
fn apply_budget(run: &mut RootRun, options: &BackupOptions) -> Result<()> {
    let Some(budget) = options.max_bytes else {
        return Ok(());
    };
    if run.root.origin == Origin::Source {
        return Ok(());
    }
    let mut total: u64 = run.scan.dirty.iter().map(|d| d.stat.size).sum();
    if total <= budget {
        return Ok(());
    }
    if run.root.origin == Origin::Operand {
        return Err(Error::OverBudget {
            path: run.root.path.clone(),
            bytes: total,
            budget,
        });
    }
    let mut by_size: Vec<usize> = (0..run.scan.dirty.len()).collect();
    by_size.sort_by_key(|i| std::cmp::Reverse(run.scan.dirty[*i].stat.size));
    let mut dropped = HashSet::new();
    for i in by_size {
        if total <= budget {
            break;
        }
        total -= run.scan.dirty[i].stat.size;
        dropped.insert(i);
    }
    let mut i = 0;
    let (left_out, removed) = (&mut run.left_out, &mut run.scan.removed);
    run.scan.dirty.retain(|dirty| {
        let out = dropped.contains(&i);
        i += 1;
        if out {
            left_out.push(LeftOut {
                path: dirty.path.clone(),
                reason: format!(
                    "over the budget ({})",
                    crate::monitor::size(dirty.stat.size)
                ),
            });
            run.scan.files -= 1;
            run.scan.bytes -= dirty.stat.size;
            if dirty.prior.is_some() {
                removed.push(dirty.path.clone());
            }
        }
        !out
    });
    removed.sort();
    left_out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

/// Returns the snapshot that all roots were last captured by, if it covers just these.
fn reusable(repo: &Repository, runs: &[RootRun]) -> Result<Option<Snapshot>> {
    let mut last = None;
    for run in runs {
        let Some(state) = &run.state else {
            // Not there, before or now.
            if run.scan.exists || run.scan.too_many {
                return Ok(None);
            }
            continue;
        };
        let mirrors = state.mirrors();
        if last.is_some_and(|(seq, id)| (seq, id) != (mirrors.seq, mirrors.snapshot)) {
            return Ok(None);
        }
        last = Some((mirrors.seq, mirrors.snapshot));
    }
    let Some((seq, id)) = last else {
        return Ok(None);
    };
    let Ok(snapshot) = repo.read_snapshot(&format!("snapshots/{seq:010}-{id}.json")) else {
        return Ok(None);
    };
    let same = snapshot.roots.len() == runs.len()
        && !snapshot.partial
        && runs.iter().all(|run| {
            snapshot.root(&run.root.name).is_some_and(|record| {
                record.path.as_path() == run.root.path
                    && record.base.is_some() == run.scan.exists
                    && record.left_out == run.left_out
            })
        });
    Ok(same.then_some(snapshot))
}

/// Number of the root, path, outcome.
type Outcome = (usize, RepoPath, Result<Captured>);

struct Results {
    objects: Vec<Outcome>,
    packs: Vec<Finished>,
    read_bytes: u64,
}

enum Task {
    /// Number of the root and of the dirty object.
    One(usize, usize),
    /// Number of the root, path of the database.
    Database(usize, RepoPath),
}

/// Returns what is to be read: databases as one unit, further names of one file not at all.
fn tasks(runs: &[RootRun]) -> (Vec<Task>, Vec<(usize, usize, usize)>) {
    let mut tasks = Vec::new();
    let mut aliases = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let mut databases: HashSet<RepoPath> = HashSet::new();
        let mut names: HashMap<(u64, u64), usize> = HashMap::new();
        for (i, dirty) in run.scan.dirty.iter().enumerate() {
            if dirty.stat.kind != Kind::File {
                tasks.push(Task::One(number, i));
                continue;
            }
            if dirty.stat.links > 1 {
                match names.entry((dirty.stat.device, dirty.stat.inode)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        aliases.push((number, i, *first.get()));
                        continue;
                    }
                    std::collections::hash_map::Entry::Vacant(place) => {
                        place.insert(i);
                    }
                }
            }
            match database_for(run, dirty) {
                Some(base) => {
                    if databases.insert(base.clone()) {
                        tasks.push(Task::Database(number, base));
                    }
                }
                None => tasks.push(Task::One(number, i)),
            }
        }
    }
    // Large ones first, so that no thread is left with one at the end; small ones in order, so that neighbours share members.
    let size = |task: &Task| match task {
        Task::One(number, i) => runs[*number].scan.dirty[*i].stat.size,
        Task::Database(..) => u64::MAX,
    };
    tasks.sort_by_key(|task| std::cmp::Reverse(if size(task) < 1 << 20 { 0 } else { size(task) }));
    (tasks, aliases)
}

/// Returns the SQLite database that a dirty file is, or belongs to.
fn database_for(run: &RootRun, dirty: &Dirty) -> Option<RepoPath> {
    let handle = run.handle.as_ref()?;
    let is_database = |path: &RepoPath| {
        let mut magic = [0; 16];
        handle.open_file(path).is_ok_and(|mut file| {
            std::io::Read::read_exact(&mut file, &mut magic).is_ok() && magic == *sqlite::MAGIC
        })
    };
    let parent = dirty.path.parent()?;
    if let Some(base) = sqlite::database_of(dirty.path.name()) {
        let base = parent.join(base);
        return is_database(&base).then_some(base);
    }
    // Databases consist of pages of at least 512 bytes: all other files need no look inside.
    (dirty.stat.size >= 512 && dirty.stat.size.is_multiple_of(512) && is_database(&dirty.path))
        .then(|| dirty.path.clone())
}

fn read_dirty<'a>(
    shared: &'a Shared<'a>,
    runs: &'a [RootRun],
    counts: &mut Counts,
    monitor: &dyn Monitor,
) -> Result<Results> {
    let (tasks, aliases) = tasks(runs);
    let total: u64 = runs
        .iter()
        .flat_map(|r| &r.scan.dirty)
        .map(|d| d.stat.size)
        .sum();
    monitor.phase(Phase::Storing, tasks.len() as u64, total);
    let next = AtomicUsize::new(0);
    let failed = std::sync::atomic::AtomicBool::new(false);
    let numbers: Vec<HashMap<RepoPath, usize>> = runs
        .iter()
        .map(|run| {
            let databases = run.scan.dirty.iter().enumerate();
            databases.map(|(i, d)| (d.path.clone(), i)).collect()
        })
        .collect();
    let work = || -> Result<Results> {
        let mut capture = Capture::new(shared);
        let mut objects = Vec::new();
        loop {
            // Neighbours go to one thread, so that they share a member.
            let first = next.fetch_add(16, Ordering::Relaxed);
            if first >= tasks.len() || failed.load(Ordering::Relaxed) {
                break;
            }
            for task in &tasks[first..(first + 16).min(tasks.len())] {
                if monitor.stopped() {
                    failed.store(true, Ordering::Relaxed);
                    return Err(Error::Interrupted);
                }
                let done = one_task(&mut capture, shared, runs, &numbers, task, &mut objects);
                if let Err(error) = done {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                let bytes = match task {
                    Task::One(number, i) => runs[*number].scan.dirty[*i].stat.size,
                    Task::Database(..) => 0,
                };
                monitor.advance(1, bytes);
            }
        }
        let read_bytes = capture.read_bytes;
        match capture.finish() {
            Ok(packs) => Ok(Results {
                objects,
                packs,
                read_bytes,
            }),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, 8);
    // Little to do is done before another thread has started, and makes one pack instead of two.
    let threads = if total < 1 << 20 && tasks.len() < 256 {
        1
    } else {
        threads
    };
    let outcomes: Vec<_> = if threads == 1 {
        vec![work()]
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut outcomes = vec![work()];
            for worker in workers {
                outcomes.push(
                    worker
                        .join()
                        .unwrap_or_else(|_| Err(Error::invalid("a worker thread failed", None))),
                );
            }
            outcomes
        })
    };
    let mut results = Results {
        objects: Vec::new(),
        packs: Vec::new(),
        read_bytes: 0,
    };
    for outcome in outcomes {
        let one = outcome?;
        results.objects.extend(one.objects);
        results.packs.extend(one.packs);
        counts.read_bytes += one.read_bytes;
    }
    add_aliases(runs, &aliases, &mut results);
    Ok(results)
}

fn one_task<'a>(
    capture: &mut Capture<'a>,
    shared: &Shared<'_>,
    runs: &'a [RootRun],
    numbers: &[HashMap<RepoPath, usize>],
    task: &Task,
    objects: &mut Vec<Outcome>,
) -> Result<()> {
    /// Errors of the repository end the backup; those of one file do not.
    fn sort(result: Result<Captured>) -> Result<Result<Captured>> {
        match result {
            Err(error @ (Error::Storage { .. } | Error::Damaged { .. } | Error::Interrupted)) => {
                Err(error)
            }
            other => Ok(other),
        }
    }
    match task {
        Task::One(number, i) => {
            let run = &runs[*number];
            let Some(handle) = &run.handle else {
                return Ok(());
            };
            let dirty = &run.scan.dirty[*i];
            let prior = known(run, dirty.prior);
            let result = capture.object(&run.root.name, handle, &dirty.path, prior);
            objects.push((*number, dirty.path.clone(), sort(result)?));
        }
        Task::Database(number, base) => {
            let run = &runs[*number];
            let Some(handle) = &run.handle else {
                return Ok(());
            };
            let prior = |path: &RepoPath| -> Option<(Known<'a>, bool)> {
                // Dirty ones carry their number; others are looked up, and trusted.
                if let Some(i) = numbers[*number].get(path) {
                    return known(run, run.scan.dirty[*i].prior).map(|k| (k, false));
                }
                let state = run.state.as_ref()?;
                let parent = path.parent()?;
                let mut children = state.children(parent.as_bytes())?;
                let found = children.find(|n| state.name(*n) == path.name())?;
                Some((state.entry(found), true))
            };
            let scratch = shared.repo.cache().join("scratch");
            match capture.database(&run.root.name, handle, base, &prior, &scratch) {
                Ok(captured) => objects.extend(
                    captured
                        .into_iter()
                        .map(|one| (*number, one.path.clone(), Ok(one))),
                ),
                Err(error) => objects.push((*number, base.clone(), sort(Err(error))?)),
            }
        }
    }
    Ok(())
}

fn known(run: &RootRun, prior: Option<u32>) -> Option<Known<'_>> {
    Some(run.state.as_ref()?.entry(prior? as usize))
}

/// Gives further names of a file the content of the first.
fn add_aliases(runs: &[RootRun], aliases: &[(usize, usize, usize)], results: &mut Results) {
    if aliases.is_empty() {
        return;
    }
    let firsts: HashMap<(usize, RepoPath), (Body, Stat, u8, bool)> = results
        .objects
        .iter()
        .filter_map(|(number, path, result)| {
            let one = result.as_ref().ok()?;
            Some((
                (*number, path.clone()),
                (one.body.clone(), one.stat, one.flags, one.gone),
            ))
        })
        .collect();
    for (number, i, first) in aliases {
        let (dirty, first) = (
            &runs[*number].scan.dirty[*i],
            &runs[*number].scan.dirty[*first],
        );
        if let Some((body, stat, flags, gone)) = firsts.get(&(*number, first.path.clone())) {
            let one = Captured {
                path: dirty.path.clone(),
                stat: *stat,
                body: body.clone(),
                flags: *flags,
                gone: *gone,
            };
            results.objects.push((*number, dirty.path.clone(), Ok(one)));
        } else {
            let error = Error::io(
                "read",
                dirty.path.to_path(&runs[*number].root.path),
                std::io::Error::other("another name of the same file could not be read"),
            );
            results
                .objects
                .push((*number, dirty.path.clone(), Err(error)));
        }
    }
}

/// What a root looks like now, ready to be committed.
struct Pending {
    builder: StateBuilder,
    /// Entries that differ from the base; empty if there is a new base.
    changed: Vec<Entry>,
    /// Paths of the base that are gone.
    removed: Vec<RepoPath>,
    /// The whole listing, if there is to be a new base.
    listing: Listing,
    mirrors: Mirrors,
    /// The old base is kept.
    base_kept: bool,
    /// Something is not as the last snapshot has it.
    is_news: bool,
}

/// Sorts as a state does: by directory, then by name.
fn state_order(a: &RepoPath, b: &RepoPath) -> std::cmp::Ordering {
    fn split(path: &RepoPath) -> (&[u8], &[u8]) {
        let bytes = path.as_bytes();
        match bytes.iter().rposition(|b| *b == b'/') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (b"", bytes),
        }
    }
    let ((dir_a, name_a), (dir_b, name_b)) = (split(a), split(b));
    compare(dir_a, dir_b).then_with(|| name_a.cmp(name_b))
}

/// Merges the state with what was captured.
fn rebuild(
    run: &RootRun,
    captured: &BTreeMap<RepoPath, Captured>,
    full: bool,
    counts: &mut Counts,
) -> Pending {
    let empty = Stat {
        kind: Kind::Dir,
        mode: 0o700,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: crate::manifest::Time(0, 0),
        ctime: crate::manifest::Time(0, 0),
        inode: 0,
        device: 0,
        links: 1,
    };
    let state = run.state.as_ref().filter(|_| !full);
    let removed: HashSet<&RepoPath> = run.scan.removed.iter().collect();
    let parents: HashSet<RepoPath> = run
        .scan
        .removed
        .iter()
        .filter_map(RepoPath::parent)
        .collect();

    // What stays of the state, in its order.
    let mut old: Vec<(RepoPath, usize)> = Vec::new();
    let mut gone_below: Option<RepoPath> = None;
    if let Some(state) = state.filter(|_| !removed.contains(&RepoPath::root())) {
        for (dir, children) in state.directories() {
            let Ok(dir) = RepoPath::new(dir) else {
                continue;
            };
            if gone_below.as_ref().is_some_and(|g| dir.starts_with(g)) {
                continue;
            }
            if removed.contains(&dir) {
                gone_below = Some(dir);
                continue;
            }
            let some_gone = parents.contains(&dir);
            for number in children {
                let path = dir.join(state.name(number));
                if !(some_gone && removed.contains(&path)) {
                    old.push((path, number));
                }
            }
        }
    }
    let mut new: Vec<&Captured> = captured.values().filter(|c| !c.path.is_root()).collect();
    new.sort_by(|a, b| state_order(&a.path, &b.path));

    let is_file = |stat: &Stat| u64::from(stat.kind == Kind::File);
    let mut is_news = !run.scan.removed.is_empty() || state.is_none();
    // Decide for one captured object: its flags, and whether it is news.
    let mut judge = |one: &Captured, prior: Option<Known<'_>>| -> u8 {
        let Some(prior) = prior else {
            counts.added += is_file(&one.stat);
            is_news = true;
            return one.flags | IN_DELTA | NOT_IN_BASE;
        };
        let inherited = prior.flags & (IN_DELTA | NOT_IN_BASE);
        let entry = entry_of(RepoPath::root(), &one.stat, one.body.clone());
        let same = prior.to_entry(RepoPath::root()).is_some_and(|p| p == entry);
        if same {
            return one.flags | inherited;
        }
        counts.changed += is_file(&one.stat);
        is_news = true;
        one.flags | inherited | IN_DELTA
    };
    let root_prior = state.map(|s| s.entry(0));
    let mut root_entry: Option<Entry> = None;
    let mut builder = match captured.get(&RepoPath::root()) {
        Some(one) => {
            let flags = judge(one, root_prior);
            root_entry = (flags & IN_DELTA != 0)
                .then(|| entry_of(RepoPath::root(), &one.stat, one.body.clone()));
            StateBuilder::new(&one.stat, flags, &body_json(&one.body))
        }
        None => match root_prior {
            Some(known) => {
                root_entry = (known.flags & IN_DELTA != 0)
                    .then(|| known.to_entry(RepoPath::root()))
                    .flatten();
                let body = known.body().unwrap_or_default();
                StateBuilder::new(&known.stat, known.flags, &body_json(&body))
            }
            None => StateBuilder::new(&empty, DIRTY, b""),
        },
    };
    let root_known = root_prior.and_then(|k| k.to_entry(RepoPath::root()));
    let mut changed: Vec<Entry> = root_entry.clone().into_iter().collect();
    let mut vanished: Vec<RepoPath> = Vec::new();
    let mut total = 1;
    let mut kept: Vec<(RepoPath, usize)> = Vec::new();
    let mut dir: Option<RepoPath> = None;
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let order = match (old.get(i), new.get(j)) {
            (Some((path, _)), Some(one)) => state_order(path, &one.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let prior = (order != std::cmp::Ordering::Greater)
            .then(|| state.map(|s| s.entry(old[i].1)))
            .flatten();
        let path = if order == std::cmp::Ordering::Greater {
            &new[j].path
        } else {
            &old[i].0
        };
        let one = (order != std::cmp::Ordering::Less).then(|| new[j]);
        let mut enter = |builder: &mut StateBuilder| {
            let parent = path.parent().unwrap_or_default();
            if dir.as_ref() != Some(&parent) {
                builder.dir(parent.as_bytes());
                dir = Some(parent);
            }
        };
        match (one, prior) {
            (Some(one), prior) if one.gone => {
                if let Some(prior) = prior
                    && prior.flags & NOT_IN_BASE == 0
                {
                    vanished.push(path.clone());
                }
            }
            (Some(one), prior) => {
                let flags = judge(one, prior);
                enter(&mut builder);
                builder.child(path.name(), &one.stat, flags, &body_json(&one.body));
                total += 1;
                if flags & IN_DELTA != 0 {
                    changed.push(entry_of(path.clone(), &one.stat, one.body.clone()));
                } else {
                    kept.push((path.clone(), old[i].1));
                }
            }
            (None, Some(prior)) => {
                enter(&mut builder);
                builder.copy(&prior, prior.flags);
                total += 1;
                if prior.flags & IN_DELTA != 0 {
                    changed.extend(prior.to_entry(path.clone()));
                } else {
                    kept.push((path.clone(), old[i].1));
                }
            }
            (None, None) => {}
        }
        if order != std::cmp::Ordering::Greater {
            i += 1;
        }
        if order != std::cmp::Ordering::Less {
            j += 1;
        }
    }
    is_news |= !vanished.is_empty();
    let mut gone: Vec<RepoPath> = state.map(State::removed).unwrap_or_default();
    for path in &run.scan.removed {
        let in_base = state.is_none_or(|s| {
            let parent = path.parent().unwrap_or_default();
            let found = s
                .children(parent.as_bytes())
                .and_then(|mut c| c.find(|n| s.name(*n) == path.name()));
            found.is_none_or(|n| s.entry(n).flags & NOT_IN_BASE == 0)
        });
        if in_base {
            gone.push(path.clone());
        }
    }
    gone.extend(vanished);
    gone.sort();
    gone.dedup();
    changed.sort_by(|a, b| a.path.cmp(&b.path));
    let mirrors = state.map_or(
        Mirrors {
            snapshot: crate::id::Id::from_u128(0),
            seq: 0,
            started: 0,
            base: None,
        },
        State::mirrors,
    );
    // A delta that has grown makes every record long; a key frame is long once. The square root balances the two.
    let limit = (total / 4).min(2 * usize::isqrt(total)).max(32);
    let base_kept = mirrors.base.is_some() && changed.len() + gone.len() <= limit;
    let mut listing = Vec::new();
    let mut base = mirrors.base;
    if !base_kept {
        base = None;
        let mut entries = std::mem::take(&mut changed);
        if let Some(state) = state {
            entries.extend(
                kept.into_iter()
                    .filter_map(|(path, number)| state.entry(number).to_entry(path)),
            );
            if root_entry.is_none() {
                entries.extend(root_known);
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        listing = entries;
        builder.forget_delta();
    }
    Pending {
        builder,
        changed,
        removed: gone,
        listing,
        mirrors: Mirrors { base, ..mirrors },
        base_kept,
        is_news,
    }
}

fn body_json(body: &Body) -> Vec<u8> {
    if *body == Body::default() {
        Vec::new()
    } else {
        body.to_json()
    }
}

/// Writes the pack of what has no data of its own: extracted last, it gives directories their modes and times.
fn write_tree(
    shared: &Shared<'_>,
    runs: &[RootRun],
    captured: &[BTreeMap<RepoPath, Captured>],
) -> Result<Vec<Finished>> {
    let mut capture = Capture::new(shared);
    for (run, captured) in runs.iter().zip(captured) {
        let name_of = |path: &RepoPath| match path.is_root() {
            true => format!("files/{}", run.root.name),
            false => format!("files/{}/{}", run.root.name, tar_name(path.as_bytes())),
        };
        let mut firsts: HashMap<&str, &RepoPath> = HashMap::new();
        for (path, one) in captured.iter().filter(|(_, one)| !one.gone) {
            let name = name_of(path);
            let link = one.body.link.as_str();
            let target;
            let kind = match one.stat.kind {
                Kind::Dir => TarKind::Dir,
                Kind::Symlink => TarKind::Symlink(&one.body.target),
                Kind::File if !link.is_empty() && firsts.contains_key(link) => {
                    target = name_of(firsts[link]);
                    TarKind::Hardlink(&target)
                }
                Kind::File if one.stat.size == 0 => TarKind::File,
                _ => {
                    if !link.is_empty() {
                        firsts.insert(link, path);
                    }
                    continue;
                }
            };
            if !link.is_empty() {
                firsts.entry(link).or_insert(path);
            }
            let (mode, mtime) = (one.stat.mode, one.stat.mtime);
            capture.tree_entry(&TarMeta {
                name: &name,
                kind,
                mode,
                mtime,
            })?;
        }
    }
    capture.finish()
}

/// Returns the roots of a snapshot as they were captured, for another capture of the same set.
pub(crate) fn roots_of(records: &[RootRecord], names: &[String]) -> Vec<Root> {
    records
        .iter()
        .filter(|record| names.is_empty() || names.contains(&record.name))
        .map(|record| Root {
            name: record.name.clone(),
            path: record.path.as_path().to_path_buf(),
            rules: Rules::clone(&record.rules),
            origin: Origin::Source,
        })
        .collect()
}

/// Returns the digest of a file from where it stands; `None` if it cannot be read.
pub(crate) fn digest_of(file: &mut std::fs::File) -> Option<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match std::io::Read::read(file, &mut buffer) {
            Ok(0) => return Some(Digest::finish(hasher)),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Returns true if what the state says of a file that looks untouched still holds, by reading it.
pub(crate) fn is_same_content(handle: &RootHandle, path: &RepoPath, known: &Known<'_>) -> bool {
    let Some(body) = known.body() else {
        return false;
    };
    if body.flags.contains(&Flag::Online) {
        return true;
    }
    match known.stat.kind {
        Kind::Symlink => handle
            .read_link(path)
            .is_ok_and(|target| target == body.target),
        Kind::File => {
            let Ok(mut file) = handle.open_file(path) else {
                return false;
            };
            let Some(digest) = digest_of(&mut file) else {
                return false;
            };
            body.content
                .map_or_else(|| digest == Digest::of(b""), |c| c.digest == digest)
        }
        _ => true,
    }
}

impl RootRun {
    /// Walks again and returns what differs from the snapshot.
    pub(crate) fn look_again(&self, never: &[PathBuf]) -> Result<(Scan, Option<RootHandle>)> {
        let options = WalkOptions {
            never,
            max_files: None,
        };
        let mut scan = walk(&self.root, self.state.as_ref(), &options)?;
        let handle = if scan.exists {
            RootHandle::open(&self.root.path)?
        } else {
            None
        };
        // Objects that only may have changed, because they were written just before the snapshot.
        if let (Some(state), Some(handle)) = (&self.state, &handle) {
            scan.dirty.retain(|dirty| {
                let Some(number) = dirty.prior else {
                    return true;
                };
                let known = state.entry(number as usize);
                !same_stat(&known.stat, &dirty.stat)
                    || !is_same_content(handle, &dirty.path, &known)
            });
        }
        let is_out = |path: &RepoPath| self.left_out.iter().any(|l| path.starts_with(&l.path));
        scan.dirty.retain(|dirty| !is_out(&dirty.path));
        scan.removed.retain(|path| !is_out(path));
        Ok((scan, handle))
    }

    /// Returns how many files and bytes of the snapshot lie at or below a path.
    pub(crate) fn weigh(&self, path: &RepoPath) -> (u64, u64) {
        let Some(state) = &self.state else {
            return (0, 0);
        };
        let (mut files, mut bytes) = (0, 0);
        for (dir, children) in state.directories() {
            let Ok(dir) = RepoPath::new(dir) else {
                continue;
            };
            let inside = dir.starts_with(path);
            if !inside && path.parent().as_ref() != Some(&dir) {
                continue;
            }
            for number in children {
                let known = state.entry(number);
                if known.stat.kind == Kind::File && (inside || known.name == path.name()) {
                    files += 1;
                    bytes += known.stat.size;
                }
            }
        }
        (files, bytes)
    }

    /// Returns what is new and its size, and totals: for a dry run.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let new = self.scan.dirty.iter().map(|d| d.stat.size).sum();
        (self.scan.files, self.scan.bytes, new)
    }
}

/// Looks at roots as a guard would, without capturing anything.
pub(crate) fn survey(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
) -> Result<Vec<RootRun>> {
    let mut never = repo.own_paths();
    never.extend(options.never.iter().cloned());
    roots
        .iter()
        .map(|root| {
            let mut run = look_at(repo, root, options, &never)?;
            apply_budget(&mut run, options)?;
            Ok(run)
        })
        .collect()
}

/// Returns the default scratch directory of a repository.
pub fn scratch_dir(repo: &Repository) -> PathBuf {
    Path::new(repo.cache()).join("scratch")
}
