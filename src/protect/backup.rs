//! Takes a snapshot: walk, compare with the state, read what is dirty, pack it, commit.
//!
//! Order on disk: packs (each fsynced by the thread that wrote it) → key frames → snapshot record, the commit point → index and state, which
//! are derived. An error or a crash before the record leaves at most unreferenced files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result, reason};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{AbsolutePath, RawName, RepoPath, os_to_bytes, tar_name};
use crate::model::manifest::{Flag, Kind};
use crate::model::rules::{Origin, Root};
use crate::protect::capture::{Capture, CapturedList, Shared};
use crate::protect::staging::{self, KeptReport};
use crate::protect::survey::{
    apply_budget, is_damaged, is_kept_in, look_around, lost_sets, mark_all, mark_lost,
};
use crate::repo::index::DigestSet;
use crate::repo::layout;
use crate::repo::pack::{Finished, TarKind, TarMeta};
use crate::repo::snapshot::{
    LeftOut, PathNote, RootRecord, Snapshot, SnapshotKind, Stats, Trigger,
};
use crate::repo::state::{KEPT, Mirrors, SEALED, State};
use crate::repo::trash::Part;
use crate::repo::verdicts::Verdicts;
use crate::repo::{LockFile, Repository, hold_shared};

pub use crate::protect::options::BackupOptions;
pub use crate::protect::survey::SealedSummary;
pub(crate) use crate::protect::survey::{RootRun, roots_of, survey};
pub use crate::repo::pack::Level;

mod merge;
mod read;
mod reopen;

use merge::rebuild;
use read::read_dirty;
pub(crate) use reopen::{Present, present};

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
    /// What changed whenever it was read, and is stored as it was read last: parts of it may not fit together.
    pub unstable: Vec<PathNote>,
    /// What the rules or the budget left out.
    pub left_out: Vec<PathNote>,
    /// Directories of sources on which another file system is mounted, and that were taken.
    pub mounts: Vec<PathBuf>,
    /// FIFOs, sockets, devices.
    pub not_stored: u64,
    /// What was kept instead of being read.
    pub kept: KeptReport,
    /// What was sealed; for backups only, not for what guards take.
    pub sealed: SealedSummary,
    /// Wall time.
    pub elapsed: Duration,
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

/// Returns the sources of which nothing is there any more, or ever was what their rules choose: a disk that is not mounted looks just like it.
fn emptied(repo: &Repository, runs: &[RootRun], known: &[PathNote]) -> Result<Vec<PathNote>> {
    let is_empty = |run: &&RootRun| {
        let told = known
            .iter()
            .any(|note| note.path.as_path() == run.root.path);
        run.root.origin == Origin::Source && run.scan.exists && run.scan.files == 0 && !told
    };
    let empty: Vec<&RootRun> = runs.iter().filter(is_empty).collect();
    if empty.is_empty() {
        return Ok(Vec::new());
    }
    let summaries = repo.summaries()?;
    let mut notes = Vec::new();
    for run in empty {
        let name = &run.root.name;
        let mut backups = summaries.iter().rev().filter(|s| s.is_backup());
        let had = backups.find_map(|summary| {
            let mut roots = summary.roots.iter();
            roots.find(|r| r.name == *name && r.files > 0)
        });
        let reason = match had {
            Some(had) => format!(
                "source `{name}` is empty, and had {} file{} before: is its disk mounted? Older snapshots have what was there",
                had.files,
                if had.files == 1 { "" } else { "s" }
            ),
            None if !run.root.rules.include.is_empty() && !run.scan.found => {
                format!("nothing there matches what source `{name}` includes")
            }
            None => continue,
        };
        notes.push(PathNote {
            path: RawName::from(run.root.path.as_path()),
            reason,
        });
    }
    Ok(notes)
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
        let _ = repo.sweep_temporaries(options.now);
        let hour_ago = std::time::SystemTime::from(options.now) - Duration::from_secs(3600);
        crate::disk::fsutil::sweep_temporaries(repo.cache(), 2, hour_ago);
        crate::repo::under_way::sweep(repo);
        // The way back without bdr, where it was damaged or written by an older one; verify says if it cannot be mended.
        for name in repo.outdated_recovery() {
            let _ = repo.renew_recovery(name);
        }
    }
    let lock_file = repo.lock_file()?;
    let hold = match hold_shared(lock_file.as_ref(), patience) {
        Ok(hold) => hold,
        // Prune is sweeping. A person waits: what refers to nothing older needs no lock.
        Err(Error::Busy { .. }) if !scheduled => {
            options.full = true;
            None
        }
        Err(error) => return Err(error),
    };
    let options = &options;
    if !options.full {
        repo.notice_lost_packs()?;
    }
    let damaged = repo.damaged_blobs();
    monitor.phase(Phase::Scanning, 0, 0);
    let mut never = repo.own_paths();
    never.extend(options.never.iter().cloned());
    let mut runs = Vec::new();
    for root in roots {
        look_around(repo, root, options, &never, &mut runs)?;
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
    }
    let mut nowhere = Vec::new();
    if scheduled || options.follow_links {
        nowhere = crate::protect::survey::links::follow_included(repo, &mut runs, options, &never)?;
    }
    let mut not_followed = Vec::new();
    if options.follow_links {
        not_followed = crate::protect::survey::links::follow(repo, &mut runs, options, &never)?;
    }
    // What is only kept belongs to the guard that kept it: a backup stands without.
    let has_kept = |run: &RootRun| run.state.as_ref().is_some_and(|s| s.has_flag(KEPT));
    // What the vault lost is sealed again while it stands there.
    let vault = repo.vault();
    for run in &mut runs {
        if run.state.as_ref().is_some_and(|s| s.has_flag(SEALED)) && vault.trouble().is_none() {
            mark_lost(run, &|known| {
                known.flags & SEALED != 0
                    && known.body().is_none_or(|body| {
                        let sealed = body.sealed.as_ref();
                        sealed.is_some_and(|s| !s.values.iter().all(|v| vault.has(*v)))
                    })
            });
        }
    }
    // New rules: what did not change since is looked at again. A guard has no time for that.
    let rules = repo.privacy_rules().number();
    let by_other_rules = |state: &State| state.mirrors().rules != rules;
    let anew = scheduled
        && runs
            .iter()
            .any(|r| r.state.as_ref().is_some_and(by_other_rules));
    if anew {
        runs.iter_mut().for_each(mark_all);
    }
    for run in &mut runs {
        if !damaged.is_empty() || has_kept(run) {
            let lost = lost_sets(repo, run);
            mark_lost(run, &|known| {
                let kept = known.flags & KEPT != 0;
                kept && (scheduled || is_kept_in(known, &lost)) || is_damaged(known, &damaged)
            });
        }
    }
    let (kept, kept_report) = match &options.staging {
        Some(staging) => staging::keep(repo, &mut runs, staging, options.now)?,
        None => (
            runs.iter().map(|_| Vec::new()).collect(),
            KeptReport::default(),
        ),
    };
    for run in &mut runs {
        apply_budget(run, options)?;
    }
    let mut problems = options.problems.clone();
    problems.extend(nowhere.into_iter().filter(|_| scheduled));
    if scheduled && options.moved.is_empty() {
        problems.extend(emptied(repo, &runs, &problems)?);
    }
    for run in &mut runs {
        for (path, error) in std::mem::take(&mut run.scan.problems) {
            monitor.problem(
                &os_to_bytes(path.to_path(&run.root.path).as_os_str()),
                &error,
            );
            problems.push(note(&run.root, &path, &reason(&error)));
            run.unread.push(unread(path, &error, 0));
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
        unstable: Vec::new(),
        left_out: runs
            .iter()
            .flat_map(|r| r.left_out.iter().map(|l| note(&r.root, &l.path, &l.reason)))
            .chain(not_followed.iter().cloned())
            .chain(runs.iter().flat_map(|r| {
                let withheld = r.withheld.iter();
                withheld.map(|path| note(&r.root, path, crate::privacy::IN_ATTRIBUTE))
            }))
            .collect(),
        mounts: runs
            .iter()
            .filter(|r| r.root.origin == Origin::Source)
            .flat_map(|r| r.scan.mounts.iter().map(|m| m.to_path(&r.root.path)))
            .collect(),
        not_stored: runs.iter().map(|r| r.scan.not_stored).sum(),
        kept: kept_report,
        sealed: sealed_of(runs, scheduled),
        elapsed: started.elapsed(),
    };
    let untouched = kept_report.files == 0
        && runs
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
        anew,
        level: options.level,
        damaged,
        stored: Mutex::default(),
        present: Mutex::default(),
        verdicts: (options.full || anew).then(|| Verdicts::load(repo)),
    };
    let mut counts = Counts::default();
    let results = read_dirty(&shared, &runs, &mut counts, monitor)?;
    // What was sealed is safe before anything says that it was.
    repo.vault().flush()?;
    let mut captured: Vec<CapturedList> = kept;
    for (number, result) in results.objects {
        match result {
            Ok(mut one) => {
                if one.stat.kind == Kind::Dir && !options.modes.is_empty() {
                    let dir = one.path.to_path(&runs[number].root.path);
                    one.stat.mode = options.modes.get(&dir).copied().unwrap_or(one.stat.mode);
                }
                if one.withheld {
                    runs[number].withheld.push(one.path.clone());
                }
                captured[number].push(one);
            }
            Err(failed) => {
                let (path, error) = *failed;
                let run = &mut runs[number];
                // A directory that cannot be listed has no attributes to be read either: one word is enough.
                if run.unread.iter().any(|known| known.path == path) {
                    continue;
                }
                monitor.problem(
                    &os_to_bytes(path.to_path(&run.root.path).as_os_str()),
                    &error,
                );
                problems.push(note(&run.root, &path, &reason(&error)));
                let stat = run.handle.as_ref().and_then(|h| h.stat(&path).ok());
                let inode = stat.map_or(0, |stat| stat.inode);
                run.unread.push(unread(path, &error, inode));
            }
        }
    }
    let mut packs = results.packs;
    let mut unstable = Vec::new();
    for (run, captured) in runs.iter().zip(&captured) {
        let torn = captured
            .iter()
            .filter(|one| !one.gone && one.body.flags.contains(&Flag::Unstable));
        unstable.extend(torn.map(|one| note(&run.root, &one.path, UNSTABLE)));
    }
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
            path: AbsolutePath::new(options.recorded(&run.root))
                .map_err(|reason| Error::invalid(reason, None))?,
            rules: run.root.rules.clone(),
            base: None,
            changed: Vec::new(),
            removed: Vec::new(),
            left_out: run.unknown().cloned().collect(),
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
                        repo.put_keyframe(&run.root.name, options.recorded(&run.root), &listing)?;
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
        label: options.label.clone().map(|label| repo.redacted_text(label)),
        tags: {
            let tags = options.tags.iter().cloned();
            tags.map(|tag| repo.redacted_text(tag)).collect()
        },
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
        bound: None,
        last_backup: repo.last_backup(),
    };
    repo.commit(&snapshot)?;
    repo.remember_packs(&packs);
    if let Some(verdicts) = &shared.verdicts {
        verdicts.save();
    }
    if hold.is_none() {
        reclaim(repo, lock_file.as_ref(), &snapshot)?;
    }
    for (run, new) in runs.iter_mut().zip(pending) {
        let mirrors = Mirrors {
            snapshot: id,
            seq,
            started: nanos(options.now),
            base: new.mirrors.base,
            rules: match &run.state {
                Some(state) if !scheduled => state.mirrors().rules,
                _ => rules,
            },
        };
        // A root that is not there has no state: nothing to compare with.
        let old = run.state.take();
        if run.scan.exists {
            run.state = new.save(old, &run.state_path, repo.id(), &mirrors);
        } else {
            let _ = crate::disk::fsutil::remove_file(&run.state_path);
        }
    }
    // The damaged blobs that this run stored again are whole now.
    if !shared.damaged.is_empty()
        && let Ok(stored) = shared.stored.lock()
    {
        let left: DigestSet = shared.damaged.difference(&stored).copied().collect();
        repo.set_damaged_blobs(&left)?;
    }
    let mut report = report(snapshot, false, counts, problems, &runs);
    report.unstable = unstable;
    Ok((report, runs))
}

/// What is said of a file that never stood still.
const UNSTABLE: &str = "it changed while it was read";

fn sealed_of(runs: &[RootRun], wanted: bool) -> SealedSummary {
    let mut summary = SealedSummary::default();
    for run in runs.iter().filter(|_| wanted) {
        run.add_sealed(&mut summary);
    }
    summary
}

fn nanos(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// How the reason begins for what could not be read.
pub(crate) const UNREADABLE: &str = "unreadable: ";

fn unread(path: RepoPath, error: &Error, inode: u64) -> LeftOut {
    let reason = format!("{UNREADABLE}{}", reason(error));
    LeftOut {
        path,
        reason,
        inode,
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

/// What was written without the lock, prune may have thrown away before the snapshot named it. From the lock on it does not.
fn reclaim(repo: &Repository, lock: Option<&LockFile>, snapshot: &Snapshot) -> Result<()> {
    let Ok(_hold) = hold_shared(lock, Duration::from_secs(1)) else {
        // Whoever holds it for so long is not prune; if it is, the next one takes back what is needed.
        return Ok(());
    };
    let bases = snapshot.roots.iter().filter_map(|root| root.base);
    let packs = snapshot.packs.iter().map(|pack| Part::Pack(pack.id));
    for part in packs.chain(bases.map(Part::Keyframe)) {
        repo.take_back_part(part)?;
    }
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
    let Ok(snapshot) = repo.read_snapshot(&layout::snapshot(seq, id)) else {
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

/// Forgets what is derived of a root that will not be captured again.
pub(crate) fn forget_state(repo: &Repository, root: &Root) {
    // One that stays costs space only.
    let _ = crate::disk::fsutil::remove_file(&crate::protect::survey::state_path(repo, root));
}

/// Returns the default scratch directory of a repository.
pub fn scratch_dir(repo: &Repository) -> PathBuf {
    Path::new(repo.cache()).join("scratch")
}
