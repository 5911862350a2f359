//! Takes a snapshot: walk, compare with the state, read what is dirty, pack it, commit.
//!
//! Order on disk: packs (each fsynced by the thread that wrote it) → key frames → snapshot record, the commit point → index and state, which
//! are derived. An error or a crash before the record leaves at most unreferenced files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::capture::{Capture, CapturedList, Shared};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::manifest::{Flag, Kind};
use crate::monitor::{Monitor, Phase};
use crate::path::{RawName, RepoPath, os_to_bytes, tar_name};
use crate::repo::index::DigestSet;
use crate::repo::pack::{Finished, TarKind, TarMeta};
use crate::repo::snapshot::{
    LeftOut, PathNote, RootRecord, Snapshot, SnapshotKind, Stats, Trigger,
};
use crate::repo::state::{Known, Mirrors, State, same_stat};
use crate::repo::{Repository, hold_shared};
use crate::rules::{Origin, Root, Rules};
use crate::walk::{Dirty, RootHandle, Scan, WalkOptions, walk};

pub use crate::repo::pack::Level;

mod links;
mod merge;
mod read;

use merge::rebuild;
use read::read_dirty;

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
    /// Cover what symlinks lead to as well.
    pub follow_links: bool,
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
            follow_links: false,
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
    if options.follow_links {
        links::follow(repo, &mut runs, options, &never)?;
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
    let mut captured: Vec<CapturedList> = runs.iter().map(|_| Vec::new()).collect();
    for (number, result) in results.objects {
        match result {
            Ok(one) => captured[number].push(one),
            Err(failed) => {
                let (path, error) = *failed;
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
    for (run, captured) in runs.iter_mut().zip(&mut captured) {
        run.scan.dirty = Vec::new();
        captured.sort_by(|a, b| a.path.cmp(&b.path));
        captured.dedup_by(|later, earlier| {
            let same = later.path == earlier.path;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
    }
    if options.full {
        packs.extend(write_tree(&shared, &runs, &captured)?);
    }

    // What each root looks like now.
    let mut pending = Vec::new();
    for (run, captured) in runs.iter().zip(captured) {
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
            run.state = new.save(run.state.take(), &run.state_path, repo.id(), &mirrors);
        }
        return Ok((report(snapshot, true, counts, problems, &runs), runs));
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
        let old = run.state.take();
        if run.scan.exists {
            run.state = new.save(old, &run.state_path, repo.id(), &mirrors);
        } else {
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
    let present = repo.pack_ids()?;
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
    let mut scan = walk(
        root,
        state.as_ref(),
        &WalkOptions {
            never,
            max_files,
            keep_known: false,
        },
    )?;
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
                .is_none_or(|b| b.content.is_some_and(|c| c.blobs().iter().any(is_lost)));
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

/// Writes the pack of what has no data of its own: extracted last, it gives directories their modes and times.
fn write_tree(
    shared: &Shared<'_>,
    runs: &[RootRun],
    captured: &[CapturedList],
) -> Result<Vec<Finished>> {
    let mut capture = Capture::new(shared);
    for (run, captured) in runs.iter().zip(captured) {
        let name_of = |path: &RepoPath| match path.is_root() {
            true => format!("files/{}", run.root.name),
            false => format!("files/{}/{}", run.root.name, tar_name(path.as_bytes())),
        };
        let mut firsts: HashMap<&str, &RepoPath> = HashMap::new();
        for one in captured.iter().filter(|one| !one.gone) {
            let path = &one.path;
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
            keep_known: true,
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

    /// Returns how many files and bytes of the snapshot lie at or below some paths, none below another.
    pub(crate) fn weigh(&self, paths: &[RepoPath]) -> (u64, u64) {
        let (Some(state), false) = (&self.state, paths.is_empty()) else {
            return (0, 0);
        };
        let (mut files, mut bytes) = (0, 0);
        let mut add = |stat: &crate::manifest::Stat| {
            if stat.kind == Kind::File {
                files += 1;
                bytes += stat.size;
            }
        };
        let whole = paths.iter().any(RepoPath::is_root);
        if whole {
            // A root that is a file is the one entry that no directory has.
            add(&state.entry(0).stat);
        }
        let paths: HashSet<&[u8]> = paths.iter().map(RepoPath::as_bytes).collect();
        for (dir, children) in state.directories() {
            let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let mut above = ends.map(|(end, _)| &dir[..end]).chain([dir]);
            let inside = whole || above.any(|above| paths.contains(above));
            let mut path = dir.to_vec();
            for number in children {
                let known = state.entry(number);
                let named = || {
                    path.truncate(dir.len());
                    if !dir.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(known.name);
                    paths.contains(&path[..])
                };
                if inside || { named }() {
                    add(&known.stat);
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
    let mut runs = Vec::new();
    for root in roots {
        runs.push(look_at(repo, root, options, &never)?);
    }
    if options.follow_links {
        links::follow(repo, &mut runs, options, &never)?;
    }
    for run in &mut runs {
        apply_budget(run, options)?;
    }
    Ok(runs)
}

/// Returns the default scratch directory of a repository.
pub fn scratch_dir(repo: &Repository) -> PathBuf {
    Path::new(repo.cache()).join("scratch")
}
