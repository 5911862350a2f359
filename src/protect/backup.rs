//! Takes a snapshot: walk, compare with the state, read what changed, pack it, commit.
//!
//! Order on disk: packs (each fsynced by the thread that wrote it) → key frames → snapshot record,
//! the commit point → index and state, which are derived. An error or a crash before the record
//! leaves at most unreferenced files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::base::error::Result;
use crate::base::monitor::Monitor;
use crate::model::rules::Root;
use crate::protect::capture::{OwnNames, Shared};
use crate::protect::staging::KeptReport;
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::snapshot::{PathNote, Snapshot, Trigger};
use crate::repo::trash::Part;
use crate::repo::verdicts::Verdicts;

pub use crate::protect::options::BackupOptions;
pub use crate::protect::survey::SealedSummary;
pub(crate) use crate::protect::survey::{RootRun, roots_of, survey};
pub use crate::repo::pack::Level;

mod merge;
mod read;
mod run;

use run::Run;

#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new snapshot, or an older one if `reused`.
    pub snapshot: Snapshot,
    /// Nothing changed, so nothing was written.
    pub reused: bool,
    /// Regular files that are new since the state.
    pub added: u64,
    /// Regular files whose content or metadata changed.
    pub changed: u64,
    /// Paths that are gone; only the topmost of each tree.
    pub removed: u64,
    pub read_bytes: u64,
    /// Bytes of packs and key frames written.
    pub stored_bytes: u64,
    /// Files that could not be read.
    pub problems: Vec<PathNote>,
    /// Files that changed during every attempt to read them. The last reading is stored; its parts
    /// may not fit together.
    pub unstable: Vec<PathNote>,
    /// Paths left out by the rules or the budget.
    pub left_out: Vec<PathNote>,
    /// Directories of sources on which another file system is mounted, and that were captured.
    pub mounts: Vec<PathBuf>,
    /// FIFOs, sockets, devices.
    pub not_stored: u64,
    /// Content that was kept in a staging area instead of being read.
    pub kept: KeptReport,
    /// What was sealed; only for backups, not for snapshots of guards.
    pub sealed: SealedSummary,
    pub elapsed: Duration,
}

/// Takes a snapshot of `roots`.
///
/// # Errors
/// A root cannot be read, an operand is over the budget, the repository cannot be written or is held by prune, or
/// the user stopped it. Single files that cannot be read are problems, not errors.
pub fn backup(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    capture(repo, roots, options, monitor).map(|(report, _)| report)
}

/// [`backup`], which also returns what it learned about the roots.
pub(crate) fn capture(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<(BackupReport, Vec<RootRun>)> {
    let started = Instant::now();
    repo.check_writable()?;
    let scheduled = matches!(options.trigger, Trigger::Backup | Trigger::Init);
    if scheduled {
        tidy_up(repo, options.now);
    }
    let mut options = options.clone();
    let hold = run::hold(repo, &mut options, scheduled)?;
    // A full snapshot refers to no older packs, so it does not matter whether any are lost.
    if !options.full {
        repo.notice_lost_packs()?;
    }
    let damaged = repo.damaged_blobs();

    let mut run = Run::new(repo, &options, monitor, started);
    run.look(roots)?;
    let anew = run.distrust(&damaged);
    let kept = run.keep()?;
    run.note_unread()?;
    if run.is_untouched()
        && let Some(snapshot) = run.reusable()?
    {
        return Ok(run.finish(snapshot, true, Counts::default()));
    }
    let shared = Shared {
        repo,
        full: options.full,
        anew,
        level: options.level,
        damaged,
        stored: Mutex::default(),
        present: Mutex::default(),
        verdicts: match options.full || anew {
            true => Some(Verdicts::load(repo)),
            false => Verdicts::load_for(repo, run.dirty_bytes()),
        },
        own_names: OwnNames::default(),
        monitor,
    };
    let mut counts = Counts::default();
    let (captured, packs) = run.read(&shared, kept, &mut counts)?;
    if let Some(verdicts) = &shared.verdicts {
        verdicts.save();
    }
    let mut pending = run.rebuild(captured, &mut counts);
    // Everything dirty turned out to be unchanged, so another record would say nothing new.
    if pending.iter().all(|new| !new.is_news)
        && let Some(snapshot) = run.reusable()?
    {
        run.trust_racy(pending);
        return Ok(run.finish(snapshot, true, counts));
    }
    let snapshot = run.commit(&mut pending, &packs, &mut counts)?;
    if hold.is_none() {
        reclaim(repo, &snapshot)?;
    }
    run.renew_states(pending, &snapshot);
    note_mended(&shared)?;
    Ok(run.finish(snapshot, false, counts))
}

/// Removes leftovers of a crash. A failure here must not stop the backup.
fn tidy_up(repo: &Repository, now: DateTime<Utc>) {
    let _ = repo.sweep_temporaries(now);
    let hour_ago = std::time::SystemTime::from(now) - Duration::from_secs(3600);
    crate::disk::fsutil::sweep_temporaries(repo.cache(), 2, hour_ago);
    crate::repo::under_way::sweep(repo);
    // Rewrites the tools that restore without bdr, if they are damaged or an older bdr wrote them;
    // `verify` reports it if that fails.
    for name in repo.outdated_recovery() {
        let _ = repo.renew_recovery(name);
    }
}

/// Records that this run stored damaged blobs again, so they are whole now.
fn note_mended(shared: &Shared<'_>) -> Result<()> {
    if !shared.damaged.is_empty()
        && let Ok(stored) = shared.stored.lock()
    {
        let left: DigestSet = shared.damaged.difference(&stored).copied().collect();
        shared.repo.set_damaged_blobs(&left)?;
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    added: u64,
    changed: u64,
    read_bytes: u64,
    stored_bytes: u64,
}

/// Prune may have removed packs that were written without the lock, before the snapshot named them.
/// From the lock on it cannot.
fn reclaim(repo: &Repository, snapshot: &Snapshot) -> Result<()> {
    let Ok(_hold) = repo.hold(Duration::from_secs(1)) else {
        // Prune never holds the lock this long. If it did, the next one restores what is needed.
        return Ok(());
    };
    let bases = snapshot.roots.iter().filter_map(|root| root.base);
    let packs = snapshot.packs.iter().map(|pack| Part::Pack(pack.id));
    for part in packs.chain(bases.map(Part::Keyframe)) {
        repo.take_back_part(part)?;
    }
    Ok(())
}

/// Forgets the derived data of a root that will not be captured again.
pub(crate) fn forget_state(repo: &Repository, root: &Root) {
    // If it stays, it only costs space.
    let _ = crate::disk::fsutil::remove_file(&crate::protect::survey::state_path(repo, root));
}

pub fn scratch_dir(repo: &Repository) -> PathBuf {
    Path::new(repo.cache()).join("scratch")
}
