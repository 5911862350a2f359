//! Brings files back from a snapshot: plan, save what is there now, apply.
//!
//! The begin record of the operation is the journal: it says what was requested, and applying it
//! again continues where it stopped, because everything already restored is left alone. To reverse
//! a restore, undo its operation.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, OperationId, SnapshotId};
use crate::base::monitor::Monitor;
use crate::base::path::{AbsolutePath, RepoPath, RootName};
use crate::disk::fsutil;
use crate::disk::fsutil::Opened;
use crate::model::agent::AgentCall;
use crate::model::manifest::{Entry, Kind};
use crate::model::rules::{Origin, Root};
use crate::privacy::merge::Merged;
use crate::protect::backup::{BackupOptions, roots_of};
use crate::protect::guard::{self, Intent};
use crate::protect::work::Work;
use crate::recover::apply::{self, Licence};
use crate::recover::site::below;
use crate::recover::unseal::SecretOptions;
use crate::repo::Repository;
use crate::repo::oplog::{Begin, Operation, OperationKind, RestoreJournal, RootPath};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};

mod rehearse;
mod root;
mod sealed;

pub(crate) use rehearse::rehearse;
use root::{Once, Wanted, is_beside, place_of, plan_root};

/// What to do with existing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    IfChanged,
    Never,
    Always,
}

impl Overwrite {
    /// Returns the word for flags and records.
    pub fn word(self) -> &'static str {
        match self {
            Self::IfChanged => "if-changed",
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Target directory; `None` for the original places.
    pub target: Option<PathBuf>,
    /// A directory above `target` from which it is reached without following a symlink, for callers
    /// that must stay inside.
    pub beneath: Option<PathBuf>,
    /// Empty means everything.
    pub paths: Vec<RootPath>,
    pub overwrite: Overwrite,
    /// Remove files that the snapshot does not have.
    pub delete: bool,
    /// Only read: not even the times of directories change. Directories that are closed to their
    /// owner stay closed and are reported as unread.
    pub look_only: bool,
    pub now: DateTime<Utc>,
    pub cwd: PathBuf,
    pub argv: Vec<OsString>,
    /// Absolute paths that are never touched, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    pub host: String,
    pub secrets: SecretOptions,
    /// The call of another program that requested it.
    pub agent: Option<AgentCall>,
}

/// What a restore does about the sealed values of a file. Names are those of keys.
#[derive(Debug, Clone)]
pub struct SecretStep {
    pub path: PathBuf,
    /// The result, key by key.
    pub merged: Merged,
    /// Set if a value is unavailable: the file is written here, next to the original.
    pub aside: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing is there.
    Create,
    /// What is there differs.
    Replace,
    /// Only mode, times or attributes differ.
    Metadata,
    /// The snapshot does not have it.
    Remove,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub path: PathBuf,
    pub action: Action,
    /// The kind of object restored or removed.
    pub kind: Kind,
    pub bytes: u64,
    pub old_bytes: Option<u64>,
}

/// An existing object that a restore was told to keep.
#[derive(Debug, Clone)]
pub struct Kept {
    pub path: PathBuf,
    /// It differs from the snapshot.
    pub differs: bool,
}

/// What a restore would do: inert data.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    pub snapshot: SnapshotId,
    /// Sorted by path.
    pub steps: Vec<Step>,
    /// Objects that are as they should be already.
    pub unchanged: u64,
    /// Of these, how many are directories.
    pub unchanged_dirs: u64,
    pub skipped: Vec<PathNote>,
    /// Existing objects that stay ([`Overwrite::Never`]).
    pub kept: Vec<Kept>,
    /// Files with unavailable values.
    pub problems: Vec<PathNote>,
    /// What was not read because no directory may be opened for it.
    pub unseen: Vec<PathNote>,
    /// What the snapshot lacks of what is wanted: it could not be read when that was taken.
    pub absent: Vec<PathNote>,
    pub secrets: Vec<SecretStep>,
    work: Work,
    /// Directories that are closed to their owner and have to be opened.
    closed: Vec<PathBuf>,
    /// Something exists where files are written.
    needs_snapshot: bool,
}

impl RestorePlan {
    fn new(snapshot: SnapshotId) -> Self {
        Self {
            snapshot,
            steps: Vec::new(),
            unchanged: 0,
            unchanged_dirs: 0,
            skipped: Vec::new(),
            kept: Vec::new(),
            problems: Vec::new(),
            unseen: Vec::new(),
            absent: Vec::new(),
            secrets: Vec::new(),
            work: Work::default(),
            closed: Vec::new(),
            needs_snapshot: false,
        }
    }

    /// Returns a digest of this plan. It differs for other steps, and for the same steps if the
    /// paths have changed meanwhile.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{} {}", self.snapshot, self.work.digest()).as_bytes())
    }
}

#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// `None` if there was nothing to do, or nothing existed at the target.
    pub operation: Option<OperationId>,
    pub restored: u64,
    /// Of these, how many are not directories.
    pub files: u64,
    pub removed: u64,
    pub unchanged: u64,
    pub bytes: u64,
    pub problems: Vec<PathNote>,
    pub skipped: Vec<PathNote>,
    /// Existing objects that stayed.
    pub kept: Vec<Kept>,
    pub elapsed: Duration,
}

impl RestoreReport {
    /// Returns true if something that was requested is not restored.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || !self.skipped.is_empty()
    }
}

impl RestorePlan {
    /// Returns true if a restore by this plan will leave something requested out.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || !self.skipped.is_empty()
    }
}

/// Plans a restore; only reads.
///
/// # Errors
/// A path is not in the snapshot, its listing is damaged, or the target cannot be read.
pub fn plan(
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestorePlan> {
    check_target(repo, options)?;
    plan_anywhere(repo, snapshot, options, monitor)
}

/// Returns the problems of a backup that concern what is wanted.
fn absent(snapshot: &Snapshot, options: &RestoreOptions) -> Vec<PathNote> {
    let places: Vec<PathBuf> = options
        .paths
        .iter()
        .filter_map(|wanted| {
            let root = snapshot.root(&wanted.root)?;
            Some(wanted.path.to_path(root.path.as_path()))
        })
        .collect();
    let concerns = |note: &&PathNote| {
        let path = note.path.as_path();
        let is_near = |place: &PathBuf| path.starts_with(place) || place.starts_with(path);
        options.paths.is_empty() || places.iter().any(is_near)
    };
    snapshot.problems.iter().filter(concerns).cloned().collect()
}

/// [`plan`] for targets that may be bdr's own: scratch directories are.
fn plan_anywhere(
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestorePlan> {
    let mut plan = RestorePlan::new(snapshot.id);
    plan.absent = absent(snapshot, options);
    let mut opened = match options.look_only {
        true => Opened::only_looking(),
        false => Opened::default(),
    };
    // Roots may be nested: what two of them have is restored once.
    let mut once = match options.target {
        None => Once::of(&snapshot.roots),
        Some(_) => Once::default(),
    };
    if options.delete && once.overlaps {
        for record in &snapshot.roots {
            let listing = repo.listing(record)?;
            once.note_listed(record, &listing);
        }
    }
    for record in &snapshot.roots {
        let wanted: Vec<&RepoPath> = options
            .paths
            .iter()
            .filter(|p| p.root == record.name)
            .map(|p| &p.path)
            .collect();
        if !options.paths.is_empty() && wanted.is_empty() {
            continue;
        }
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let listing = wanted_listing(repo, snapshot, record, &wanted)?;
        open_ways(record, &listing, options, &mut opened)?;
        let wanted = Wanted {
            record,
            listing: &listing,
            paths: &wanted,
        };
        plan_root(repo, &wanted, options, &opened, &mut once, &mut plan)?;
    }
    plan.closed = opened.paths();
    plan.unseen = apply::not_looked_at(opened.left(), "a restore opens it", &mut plan.problems);
    drop(opened);
    plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

/// Returns the part of a root's listing that a restore of these paths needs, or all if there are
/// none: one file of a root with hundreds of thousands should not take as long as the root.
fn wanted_listing(
    repo: &Repository,
    snapshot: &Snapshot,
    record: &RootRecord,
    wanted: &[&RepoPath],
) -> Result<Vec<Arc<Entry>>> {
    let listing = repo.listing_of(record, &|path| {
        // The wanted paths, the directories that lead to them, and the companions that a
        // database may have.
        wanted.is_empty()
            || wanted
                .iter()
                .any(|w| path.starts_with(w) || w.starts_with(path) || is_beside(path, w))
    })?;
    for path in wanted {
        if !listing.iter().any(|entry| entry.path.starts_with(path)) {
            let path = path.to_path(record.path.as_path());
            return Err(Error::NoSuchPath {
                path: crate::base::path::show(path.as_os_str()),
                place: format!("snapshot {}", snapshot.id.prefix(&[])),
            });
        }
    }
    // Shared with the jobs, because there may be hundreds of thousands.
    Ok(listing.into_iter().map(Arc::new).collect())
}

/// Opens directories that are closed to their owner and have to be read.
fn open_ways(
    record: &RootRecord,
    listing: &[Arc<Entry>],
    options: &RestoreOptions,
    opened: &mut Opened,
) -> Result<()> {
    let (base, prefix) = place_of(record, options)?;
    let dirs = listing.iter().filter(|entry| entry.kind == Kind::Dir);
    for entry in dirs {
        let dir = below(&prefix, &entry.path).to_path(&base);
        opened.way(&dir, &dir);
    }
    Ok(())
}

/// Makes sure that files may be written to the target at all.
fn check_target(repo: &Repository, options: &RestoreOptions) -> Result<()> {
    let Some(target) = &options.target else {
        return Ok(());
    };
    let real = fsutil::canonicalize(target).unwrap_or_else(|_| target.clone());
    let own = |own: &PathBuf| {
        let own = fsutil::canonicalize(own).unwrap_or_else(|_| own.clone());
        real.starts_with(own)
    };
    let shown = crate::base::path::show(target.as_os_str());
    if repo.own_paths().iter().chain(&options.never).any(own) {
        return Err(Error::invalid(
            format!("`{shown}` is among bdr's own files"),
            Some("choose another directory with --target"),
        ));
    }
    if target.exists() && !target.is_dir() {
        return Err(Error::invalid(
            format!("`{shown}` is not a directory"),
            Some("choose a directory with --target; it is created if needed"),
        ));
    }
    Ok(())
}

/// Saves what exists where files are written, in the repository `own`, then applies the plan. `own`
/// is another than that of the snapshot if that is only read: another machine's.
///
/// # Errors
/// It cannot be saved (then nothing is written), or a target cannot be opened. Files that cannot be
/// restored are problems, not errors.
pub fn apply(
    repo: &Repository,
    own: &Repository,
    snapshot: &Snapshot,
    plan: RestorePlan,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let started = Instant::now();
    let mut report = RestoreReport {
        operation: None,
        restored: 0,
        files: 0,
        removed: 0,
        unchanged: plan.unchanged,
        bytes: 0,
        problems: plan.problems.clone(),
        skipped: plan.skipped.clone(),
        kept: plan.kept.clone(),
        elapsed: Duration::ZERO,
    };
    crate::repo::under_way::sweep(own);
    if plan.work.jobs.is_empty() {
        report.elapsed = started.elapsed();
        return Ok(report);
    }
    let mut opened = Opened::again(&plan.closed);
    let applied = if options.target.is_some() && !plan.needs_snapshot {
        let durable = Licence::NothingThere { own: Some(own) };
        apply::apply(repo, &plan.work, &durable, monitor)?
    } else {
        let mut backup = BackupOptions::new(Trigger::Restore, options.now);
        backup.never.clone_from(&options.never);
        backup.host.clone_from(&options.host);
        let mut intent = intent_of(snapshot, options)?;
        if own.location() != repo.location() {
            // Whoever resumes it would look for the snapshot here.
            intent.restore = None;
        }
        let roots = roots_written(snapshot, options);
        backup.modes = opened.modes();
        let protected = guard::open(own, &roots, &backup, intent, monitor)?;
        report.operation = Some(protected.operation());
        let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
        protected.finish_work(&plan.work, &applied.linked)?;
        applied
    };
    opened.release(plan.work.sets_modes());
    drop(opened);
    let directories = plan
        .steps
        .iter()
        .filter(|step| step.kind == Kind::Dir && step.action == Action::Metadata);
    report.restored = applied.restored + directories.count() as u64;
    report.files = applied.files;
    report.removed = applied.removed;
    report.bytes = applied.bytes;
    report.problems.extend(applied.problems);
    report.problems.extend(applied.lacking);
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Returns what is saved before anything is written: the target, or the roots to which something is
/// restored.
fn roots_written(snapshot: &Snapshot, options: &RestoreOptions) -> Vec<Root> {
    if let Some(target) = &options.target {
        return vec![Root::ad_hoc(target.clone(), Origin::Source)];
    }
    let is_wanted = |record: &&RootRecord| {
        options.paths.is_empty() || options.paths.iter().any(|path| path.root == record.name)
    };
    let wanted = snapshot.roots.iter().filter(is_wanted);
    let names: Vec<RootName> = wanted.map(|record| record.name.clone()).collect();
    roots_of(&snapshot.roots, &names)
}

/// Returns the begin record of a restore. It has the whole request, so that an interrupted restore
/// can be continued.
fn intent_of(snapshot: &Snapshot, options: &RestoreOptions) -> Result<Intent> {
    let target = options.target.as_deref().map(AbsolutePath::new).transpose();
    Ok(Intent {
        restore: Some(RestoreJournal {
            snapshot: snapshot.id,
            target: target.map_err(|reason| Error::invalid(reason, None))?,
            paths: options.paths.clone(),
            delete: options.delete,
            overwrite: options.overwrite.word().to_owned(),
        }),
        agent: options.agent.clone(),
        in_place: options.target.is_none(),
        ..Intent::new(OperationKind::Restore, &options.argv, &options.cwd)
    })
}

/// Returns the newest restore that began and never ended, if its process is gone and no newer
/// operation touched the same files.
///
/// # Errors
/// The log cannot be read.
pub fn interrupted(repo: &Repository) -> Result<Option<Operation>> {
    // Read the whole log only if there is something to find.
    let open =
        |begin: &Begin| begin.kind == OperationKind::Restore && !fsutil::process_runs(begin.pid);
    if !repo.unfinished_operations()?.iter().any(open) {
        return Ok(None);
    }
    let newest = repo
        .operations()?
        .into_iter()
        .rev()
        .find(|o| o.is_ours && o.begin.kind == OperationKind::Restore);
    Ok(newest.filter(|o| o.end.is_none() && o.undone_by.is_none() && open(&o.begin)))
}

/// Returns the options that continue an interrupted restore.
pub fn options_of(operation: &Operation, base: RestoreOptions) -> RestoreOptions {
    let Some(journal) = &operation.begin.restore else {
        return base;
    };
    RestoreOptions {
        target: journal.target.as_ref().map(|t| t.as_path().to_path_buf()),
        paths: journal.paths.clone(),
        overwrite: match journal.overwrite.as_str() {
            "never" => Overwrite::Never,
            "always" => Overwrite::Always,
            _ => Overwrite::IfChanged,
        },
        delete: journal.delete,
        ..base
    }
}
