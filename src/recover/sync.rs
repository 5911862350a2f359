//! Brings what another machine did into a source of this one.
//!
//! Three versions of each path decide: what is here, what the other machine's newest backup has, and
//! what both came from. A path that only one side changed is taken from that side; one that both
//! changed is merged where bdr can, and else stays, with the other version beside it.
//!
//! **What both came from** is in the operation logs. This machine's last sync names the snapshot of
//! the other that was brought in; the other's last sync with this one names a snapshot of ours. Both
//! count, because either side may have brought the other in since. If neither is there, nothing is
//! removed and no file is replaced: what only one side has was added, for all we know.
//!
//! **A conflict lasts** until somebody removes the file beside it: until then the log that names it
//! does not count for that path, which stays as it is. Who decides on one machine decides for both.
//!
//! Sealed values never travel. Files that have some are compared with all of them made alike, and a
//! merge keeps those that are here.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::id::{Id, OperationId, SnapshotId};
use crate::base::monitor::Monitor;
use crate::base::path::RepoPath;
use crate::model::manifest::Kind;
use crate::model::rules::{Origin, Root};
use crate::protect::backup::BackupOptions;
use crate::protect::guard::{self, Intent};
use crate::protect::work::Work;
use crate::recover::apply::{self, Licence};
use crate::repo::Repository;
use crate::repo::oplog::{Operation, OperationKind, SyncJournal};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};

mod base;
mod face;
mod plan;
mod write;

use base::Base;
use plan::Planner;

/// In the name of another machine's version of a file that both changed.
pub(crate) const FROM: &str = ".bdr-from-";

/// What is brought together, and how.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The other machine at a destination, and what people call it.
    pub with: Id,
    pub host: String,
    /// This machine at destinations, if it has pushed.
    pub own: Option<Id>,
    /// The source here; the other machine's has the same name.
    pub source: Root,
    pub now: DateTime<Utc>,
    pub cwd: PathBuf,
    pub argv: Vec<OsString>,
    /// Absolute paths that are never touched, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    pub own_host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncAction {
    /// Only there: it comes.
    Create,
    /// Changed only there.
    Replace,
    /// Changed on both sides, and both changes are kept.
    Merge,
    /// Removed there, and not changed here.
    Remove,
    /// Changed on both sides: it stays, and the other version is written beside it.
    Conflict,
}

#[derive(Debug, Clone)]
pub struct SyncStep {
    /// Absolute.
    pub path: PathBuf,
    pub action: SyncAction,
    pub kind: Kind,
    /// Size of what will be there.
    pub bytes: u64,
    /// Where the other version is, in a conflict.
    pub beside: Option<PathBuf>,
    /// Of a file that is merged: keys that both changed.
    pub both: Vec<String>,
}

/// What a sync would do: inert data.
#[derive(Debug, Clone)]
pub struct SyncPlan {
    /// The other machine's.
    pub snapshot: SnapshotId,
    pub time: DateTime<Utc>,
    /// Nothing is known of what both came from.
    pub is_first: bool,
    /// Sorted by path.
    pub steps: Vec<SyncStep>,
    /// Paths that are alike on both sides.
    pub same: u64,
    /// Paths that only this side changed or has.
    pub ours: u64,
    /// Paths that stay as they are though the other side changed them, and why.
    pub problems: Vec<PathNote>,
    /// Paths that cannot be compared: both sides have them, and one stores only their metadata.
    pub unknown: Vec<PathNote>,
    /// Conflicts of earlier syncs that nobody has decided: the path, and the other version beside it.
    pub open: Vec<(PathBuf, PathBuf)>,
    /// There are git repositories, which are left alone.
    pub left_to_git: bool,
    work: Work,
    conflicts: Vec<(RepoPath, RepoPath)>,
    not_taken: Vec<RepoPath>,
    /// The other side has changed since the last sync, so this one is recorded.
    is_news: bool,
}

impl SyncPlan {
    /// Returns true if something of the other machine is not in place afterwards.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || !self.conflicts.is_empty()
    }

    /// Returns how many files both sides changed, and nobody has decided.
    pub fn open_conflicts(&self) -> u64 {
        self.conflicts.len() as u64
    }
}

#[derive(Debug, Clone)]
pub struct SyncReport {
    /// `None` if there was nothing to do or to remember.
    pub operation: Option<OperationId>,
    pub written: u64,
    pub removed: u64,
    pub problems: Vec<PathNote>,
    pub elapsed: Duration,
}

/// Plans a sync; only reads.
///
/// # Errors
/// The other machine has no backup of that source, what it has is older than what was brought in
/// before, or something cannot be read.
pub fn plan(
    own: &Repository,
    far: &Repository,
    options: &SyncOptions,
    monitor: &dyn Monitor,
) -> Result<SyncPlan> {
    let theirs = newest(far, options)?.map_err(|names| no_backup(options, &names))?;
    let record = root_of(&theirs, options)?;
    let ours = last(&own.operations()?, options.with, options, &|o| o.is_ours);
    let last_seen = ours.as_ref().and_then(|o| o.begin.sync.as_ref());
    if let Some(seen) = last_seen.filter(|seen| seen.snapshot > theirs.id) {
        return Err(Error::invalid(
            format!(
                "the newest backup of {} there is older than what was brought in before ({})",
                crate::base::path::show(options.host.as_ref()),
                seen.snapshot.prefix(&[])
            ),
            Some("push there again, and check the destination: bdr verify --remote NAME"),
        ));
    }
    // Newest first, as far as one of them is: a snapshot of ours that they brought in later has what
    // we had brought in before.
    let mut bases = Vec::new();
    let mut is_news = true;
    if let Some(seen) = last_seen
        && let Ok(before) = far.snapshot(seen.snapshot)
        && let Some(then) = before.root(&options.source.name)
    {
        is_news = (&then.base, &then.changed, &then.removed)
            != (&record.base, &record.changed, &record.removed);
        bases.push(Base::new(far, then, seen, None)?);
    }
    if let Some(machine) = options.own
        && let Some(taken) = last(&far.operations()?, machine, options, &|o| is_in(o, &theirs))
        && let Some(sync) = &taken.begin.sync
        && let Ok(before) = own.snapshot(sync.snapshot)
        && let Some(then) = before.root(&options.source.name)
    {
        let was_before = taken.begin.before.and_then(|id| far.snapshot(id).ok());
        let base = Base::new(own, then, sync, Some((far, was_before.as_ref())))?;
        let saved = ours.as_ref().and_then(|o| o.begin.before);
        match saved.is_none_or(|saved| sync.snapshot > saved) {
            true => bases.insert(0, base),
            false => bases.push(base),
        }
    }
    let mut plan = SyncPlan {
        snapshot: theirs.id,
        time: theirs.time,
        is_first: bases.is_empty(),
        steps: Vec::new(),
        same: 0,
        ours: 0,
        problems: Vec::new(),
        unknown: Vec::new(),
        open: Vec::new(),
        left_to_git: false,
        work: Work::default(),
        conflicts: Vec::new(),
        not_taken: Vec::new(),
        is_news,
    };
    let planner = Planner::new((own, far), record, bases, options, &mut plan)?;
    planner.run(theirs.partial, monitor)?;
    plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

/// Returns true if the other machine has pushed a backup of the source.
///
/// # Errors
/// Its records cannot be read.
pub fn is_there(far: &Repository, options: &SyncOptions) -> Result<bool> {
    Ok(newest(far, options)?.is_ok())
}

/// Returns the other machine's newest backup that has the source; else what its sources are.
fn newest(
    far: &Repository,
    options: &SyncOptions,
) -> Result<std::result::Result<Snapshot, BTreeSet<String>>> {
    let snapshots = far.all_snapshots()?;
    let mut names = BTreeSet::new();
    for snapshot in snapshots.each().rev() {
        let snapshot = snapshot?;
        if !snapshot.is_backup() {
            continue;
        }
        let root = snapshot.root(&options.source.name);
        if root.is_some_and(|root| root.base.is_some()) {
            return Ok(Ok(snapshot.clone()));
        }
        names.extend(snapshot.roots.iter().map(|root| root.name.to_string()));
    }
    Ok(Err(names))
}

fn no_backup(options: &SyncOptions, names: &BTreeSet<String>) -> Error {
    let host = crate::base::path::show(options.host.as_ref());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = match names.is_empty() {
        true => "on that machine: bdr backup, then bdr push".to_owned(),
        false => format!(
            "it has {}; both have to call it alike: bdr add PATH --as NAME",
            names.join(", ")
        ),
    };
    let message = format!("{host} has pushed no backup of `{}`", options.source.name);
    Error::invalid(message, Some(&hint))
}

fn root_of<'a>(snapshot: &'a Snapshot, options: &SyncOptions) -> Result<&'a RootRecord> {
    let found = snapshot.root(&options.source.name);
    found.ok_or_else(|| Error::NoSuchPath {
        path: options.source.name.to_string(),
        place: format!("snapshot {}", snapshot.id.prefix(&[])),
    })
}

/// Returns the newest sync of the source with a machine that still counts.
fn last(
    operations: &[Operation],
    machine: Id,
    options: &SyncOptions,
    counts: &dyn Fn(&Operation) -> bool,
) -> Option<Operation> {
    let is_it = |o: &&Operation| {
        let sync = o.begin.sync.as_ref();
        sync.is_some_and(|s| s.machine == machine && s.source == options.source.name)
            && o.end.is_some()
            && o.undone_by.is_none()
            && counts(o)
    };
    operations.iter().rev().find(is_it).cloned()
}

/// Returns true if a snapshot was taken after an operation had ended.
fn is_in(operation: &Operation, snapshot: &Snapshot) -> bool {
    let ended = operation.end.as_ref().map(|end| end.time);
    ended.is_some_and(|ended| ended <= snapshot.time)
        && operation
            .begin
            .before
            .is_none_or(|before| before < snapshot.id)
}

/// Saves the source, then applies the plan.
///
/// # Errors
/// It cannot be saved (then nothing is written). Files that cannot be written are problems.
pub fn apply(
    own: &Repository,
    far: &Repository,
    plan: &SyncPlan,
    options: &SyncOptions,
    monitor: &dyn Monitor,
) -> Result<SyncReport> {
    let started = Instant::now();
    let mut report = SyncReport {
        operation: None,
        written: 0,
        removed: 0,
        problems: Vec::new(),
        elapsed: Duration::ZERO,
    };
    crate::repo::under_way::sweep(own);
    if plan.work.jobs.is_empty() && !plan.is_news {
        return Ok(report);
    }
    let mut backup = BackupOptions::new(Trigger::Restore, options.now);
    backup.never.clone_from(&options.never);
    backup.host.clone_from(&options.own_host);
    let intent = Intent {
        sync: Some(SyncJournal {
            machine: options.with,
            host: options.host.clone(),
            source: options.source.name.clone(),
            snapshot: plan.snapshot,
            conflicts: plan.conflicts.clone(),
            not_taken: plan.not_taken.clone(),
        }),
        ..Intent::new(OperationKind::Sync, &options.argv, &options.cwd)
    };
    let mut roots = vec![options.source.clone()];
    // Beside a source that is a file, there is nothing of the source.
    let written = plan
        .steps
        .iter()
        .flat_map(|step| [Some(&step.path), step.beside.as_ref()]);
    let outside = written
        .flatten()
        .filter(|path| !path.starts_with(&options.source.path));
    roots.extend(outside.map(|path| Root::ad_hoc(path.clone(), Origin::Operand)));
    let protected = guard::open(own, &roots, &backup, intent, monitor)?;
    report.operation = Some(protected.operation());
    let applied = apply::apply(far, &plan.work, &Licence::Saved(&protected), monitor)?;
    protected.finish_work(&plan.work, &applied.linked)?;
    report.written = applied.restored;
    report.removed = applied.removed;
    report.problems = applied.problems;
    report.problems.extend(applied.lacking);
    report.elapsed = started.elapsed();
    Ok(report)
}
