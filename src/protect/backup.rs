//! Takes a snapshot: walk, compare with the state, read what is dirty, pack it, commit.
//!
//! Order on disk: packs (each fsynced by the thread that wrote it) → key frames → snapshot record, the commit point → index and state, which
//! are derived. An error or a crash before the record leaves at most unreferenced files.

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
pub(crate) use run::UNREADABLE;

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
    if scheduled {
        tidy_up(repo, options.now);
    }
    let mut options = options.clone();
    let hold = run::hold(repo, &mut options, scheduled)?;
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
        verdicts: (options.full || anew).then(|| Verdicts::load(repo)),
        own_names: OwnNames::default(),
        monitor,
    };
    let mut counts = Counts::default();
    let (captured, packs) = run.read(&shared, kept, &mut counts)?;
    let mut pending = run.rebuild(captured, &mut counts);
    if pending.iter().all(|new| !new.is_news)
        && let Some(snapshot) = run.reusable()?
    {
        run.trust_racy(pending);
        return Ok(run.finish(snapshot, true, counts));
    }
    let snapshot = run.commit(&mut pending, &packs, &mut counts)?;
    if let Some(verdicts) = &shared.verdicts {
        verdicts.save();
    }
    if hold.is_none() {
        reclaim(repo, &snapshot)?;
    }
    run.renew_states(pending, &snapshot);
    note_mended(&shared)?;
    Ok(run.finish(snapshot, false, counts))
}

/// Removes what a crash left. Not being able to is no reason not to back up.
fn tidy_up(repo: &Repository, now: DateTime<Utc>) {
    let _ = repo.sweep_temporaries(now);
    let hour_ago = std::time::SystemTime::from(now) - Duration::from_secs(3600);
    crate::disk::fsutil::sweep_temporaries(repo.cache(), 2, hour_ago);
    crate::repo::under_way::sweep(repo);
    // The way back without bdr, where it was damaged or written by an older one; verify says if it cannot be mended.
    for name in repo.outdated_recovery() {
        let _ = repo.renew_recovery(name);
    }
}

/// The damaged blobs that this run stored again are whole now.
fn note_mended(shared: &Shared<'_>) -> Result<()> {
    if !shared.damaged.is_empty()
        && let Ok(stored) = shared.stored.lock()
    {
        let left: DigestSet = shared.damaged.difference(&stored).copied().collect();
        shared.repo.set_damaged_blobs(&left)?;
    }
    Ok(())
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
fn reclaim(repo: &Repository, snapshot: &Snapshot) -> Result<()> {
    let Ok(_hold) = repo.hold(Duration::from_secs(1)) else {
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

/// Forgets what is derived of a root that will not be captured again.
pub(crate) fn forget_state(repo: &Repository, root: &Root) {
    // One that stays costs space only.
    let _ = crate::disk::fsutil::remove_file(&crate::protect::survey::state_path(repo, root));
}

/// Returns the default scratch directory of a repository.
pub fn scratch_dir(repo: &Repository) -> PathBuf {
    Path::new(repo.cache()).join("scratch")
}
