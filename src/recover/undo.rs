//! Undoes an operation: reverses its changes, and nothing else.
//!
//! For each path that the operation changed there are three states: before (in its snapshot), after
//! (the stamp in its end record) and now. If now equals after, we restore before. If the path has
//! changed again since, it is a conflict: the current version stays, and the old one is written
//! beside it. An undo first saves the present and is an operation itself, so a redo is the undo of
//! the undo.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use plan::plan_root;
use planner::{Done, Past};
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, OperationId};
use crate::base::monitor::Monitor;
use crate::base::path::{RawName, RepoPath, RootName};
use crate::disk::fsutil::Opened;
use crate::model::agent::AgentCall;
use crate::model::compare::Differences;
use crate::model::manifest::{Kind, Listing};
use crate::model::rules::{Origin, Root};
use crate::protect::backup::{BackupOptions, roots_of};
use crate::protect::guard::changes::{self, Look, Origins};
use crate::protect::guard::{self, Intent};
use crate::protect::survey::RootRun;
use crate::protect::work::Work;
use crate::recover::apply::{self, Licence};
use crate::repo::layout;
use crate::repo::oplog::{Operation, OperationKind, Portion, RootChanges};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};
use crate::repo::{MISSING, Repository};

mod around;
mod back;
mod choose;
pub(crate) mod conflict;
mod found;
mod others;
mod past;
mod plan;
mod planner;
mod repositories;
mod together;
mod uncaptured;

pub use choose::{
    Here, choose, choose_redo, effective, newest_first, of_last, of_session, whole_command,
};
pub use together::{Together, together};

/// What to undo, and how.
#[derive(Debug, Clone)]
pub struct UndoOptions {
    /// The time of the undo.
    pub now: DateTime<Utc>,
    /// The directory in which it was requested.
    pub cwd: PathBuf,
    /// The command line that requested it.
    pub argv: Vec<OsString>,
    /// Also restore paths that changed again since. Their current content is saved first like
    /// everything else, so a redo brings it back.
    pub force: bool,
    /// Also undo changes in places that the operation neither named nor ran in.
    pub all: bool,
    /// Change nothing, not even the times of directories. Directories that are closed to their
    /// owner stay closed and are reported as unseen.
    pub look_only: bool,
    /// Only at or below these absolute paths; empty for all.
    pub paths: Vec<PathBuf>,
    /// Absolute paths that are never touched, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    pub host: String,
    /// The call of another program that requested it.
    pub agent: Option<AgentCall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UndoAction {
    /// It is restored.
    Restore,
    /// The operation created it, and nobody touched it since: it is removed.
    Remove,
    /// Only mode, times or attributes are restored.
    Metadata,
    /// It changed again since, in other parts: only the part that the operation changed is
    /// restored.
    Merge,
    /// It changed again since: it stays, and the old version is written beside it.
    Conflict,
    /// The operation created it, and it changed since: it stays.
    Keep,
}

#[derive(Debug, Clone)]
pub struct UndoStep {
    /// Absolute.
    pub path: PathBuf,
    pub action: UndoAction,
    /// The kind of the object that is restored or removed.
    pub kind: Kind,
    /// Its size; for a directory that is restored whole, with everything in it.
    pub bytes: u64,
    /// Number of regular files; more than one for a directory that is restored whole.
    pub files: u64,
    /// In a conflict, the path to which the old version is written.
    pub beside: Option<PathBuf>,
    /// Which metadata is restored, if only that is.
    pub differs: Differences,
}

/// A root that changed while an operation ran that neither named it nor ran in it.
#[derive(Debug, Clone)]
pub struct Meanwhile {
    /// Absolute.
    pub path: PathBuf,
    /// Number of files that are gone.
    pub deleted: u64,
    /// Number of objects that are new or differ.
    pub altered: u64,
}

/// What an undo would do. A plan changes nothing until it is applied.
#[derive(Debug, Clone)]
pub struct UndoPlan {
    /// The operation to undo; of several, the newest.
    pub operation: OperationId,
    /// Older operations that are undone with it.
    pub also: Vec<OperationId>,
    /// Steps, sorted by path.
    pub steps: Vec<UndoStep>,
    /// Paths that the operation may have changed and that were not captured.
    pub not_captured: Vec<PathNote>,
    /// Paths that it changed and that were not captured: this undo cannot restore them.
    pub missing: Vec<PathNote>,
    /// Paths that cannot be read or restored.
    pub problems: Vec<PathNote>,
    /// Directories that were not read because `look_only` forbids opening them.
    pub unseen: Vec<PathNote>,
    /// Number of steps that were left out because only some paths were requested.
    pub rest: u64,
    /// Places that changed while the operation ran, most likely by somebody else. They stay as they
    /// are.
    pub meanwhile: Vec<Meanwhile>,
    /// Files with sealed values that are not available.
    pub sealed: Vec<PathNote>,
    work: Work,
    roots: Vec<Root>,
    /// Directories that are closed to their owner and must be opened to apply the plan.
    closed: Vec<PathBuf>,
    /// An earlier undo of this operation was partial.
    is_again: bool,
}

impl UndoPlan {
    /// Returns how much of the operation it covers, if only some paths were requested.
    pub fn part(&self) -> Option<Portion> {
        self.work.part
    }

    /// Returns true if it would change nothing, though conflicts of an earlier undo may remain.
    pub fn does_nothing(&self) -> bool {
        self.work.steps() == 0
    }

    /// Returns true if it reverses everything that it can, in the whole way: nothing has changed since.
    pub fn is_clean(&self) -> bool {
        let simple = |step: &UndoStep| {
            use UndoAction::{Metadata, Remove, Restore};
            matches!(step.action, Restore | Remove | Metadata)
        };
        self.steps.iter().all(simple)
            && self.problems.is_empty()
            && self.unseen.is_empty()
            && self.sealed.is_empty()
            && self.meanwhile.is_empty()
    }

    /// Returns a digest of this plan. It differs for other steps, and for the same steps if the
    /// paths have changed meanwhile.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{} {}", self.operation, self.work.digest()).as_bytes())
    }
}

/// The result of an undo.
#[derive(Debug, Clone)]
pub struct UndoReport {
    /// The operation that the undo is.
    pub operation: OperationId,
    pub restored: u64,
    /// Restored objects other than directories.
    pub files: u64,
    pub removed: u64,
    /// Number of paths that changed since and were kept.
    pub conflicts: u64,
    pub problems: Vec<PathNote>,
    /// Changes to paths that were not captured: these are not undone.
    pub missing: Vec<PathNote>,
    /// Wall time.
    pub elapsed: Duration,
}

/// Plans an undo. Changes nothing.
///
/// The changes are in the end record, or are found by comparing the present with the snapshot. Both
/// must read directories that the operation closed to their owner, so these are opened first and
/// closed again when the plan is ready.
///
/// # Errors
/// The operation has no snapshot, or its snapshot is damaged.
pub fn plan(
    repo: &Repository,
    operation: &Operation,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoPlan> {
    let whole = Whole {
        operation,
        snapshot: &snapshot_before(repo, operation)?,
        listings: None,
        since: operation.begin.id,
    };
    plan_whole(repo, &whole, options, monitor)
}

/// Plans the undo of several operations as one. Changes nothing.
///
/// # Errors
/// As for one.
pub fn plan_together(
    repo: &Repository,
    one: &Together,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoPlan> {
    let whole = Whole {
        operation: &one.operation,
        snapshot: &one.snapshot,
        listings: Some(&one.listings),
        since: one.since,
    };
    let mut plan = plan_whole(repo, &whole, options, monitor)?;
    plan.also.clone_from(&one.also);
    Ok(plan)
}

/// What is undone.
struct Whole<'a> {
    operation: &'a Operation,
    snapshot: &'a Snapshot,
    /// Those of the roots, if the repository does not have them.
    listings: Option<&'a HashMap<RootName, Listing>>,
    /// Later undos and redos may have put something back.
    since: OperationId,
}

fn plan_whole(
    repo: &Repository,
    whole: &Whole<'_>,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoPlan> {
    let (operation, snapshot) = (whole.operation, whole.snapshot);
    let mut plan = UndoPlan {
        operation: operation.begin.id,
        also: Vec::new(),
        steps: Vec::new(),
        not_captured: operation.begin.not_captured.clone(),
        missing: Vec::new(),
        problems: Vec::new(),
        unseen: Vec::new(),
        rest: 0,
        meanwhile: Vec::new(),
        sealed: Vec::new(),
        work: Work::default(),
        closed: Vec::new(),
        is_again: false,
        roots: roots_of(&snapshot.roots, &operation.begin.roots),
    };
    let mut opened = match options.look_only {
        true => Opened::only_looking(),
        false => Opened::default(),
    };
    open_ways(operation, snapshot, &mut opened);
    let mut changes = changes_of(repo, operation, snapshot, options, &opened, &mut plan)?;
    if !options.all {
        changes = without_elsewhere(operation, snapshot, changes, &mut plan);
        others::without_others(repo, operation, snapshot, &mut changes, &mut plan)?;
    }
    uncaptured::unread(
        operation, snapshot, &changes, options, &opened, repo, &mut plan,
    );
    plan_roots(repo, whole, &changes, options, &opened, &mut plan, monitor)?;
    let missing = uncaptured::uncaptured_roots(operation, snapshot);
    plan.missing.extend(missing);
    let mut named: HashSet<RawName> = HashSet::new();
    plan.missing.retain(|note| named.insert(note.path.clone()));
    plan.work.times = past::times_around(operation, snapshot, &plan);
    plan.closed = opened.paths();
    plan.unseen = apply::not_looked_at(opened.left(), "an undo opens it", &mut plan.problems);
    drop(opened);
    plan.steps = collapsed(std::mem::take(&mut plan.steps));
    if !options.paths.is_empty() {
        let all = UndoOptions {
            paths: Vec::new(),
            ..options.clone()
        };
        let of_all = plan_whole(repo, whole, &all, monitor)?;
        // The rest can be undone later, so the operation does not count as undone yet.
        plan.rest = of_all.work.steps().saturating_sub(plan.work.steps());
        plan.work.partial = plan.rest > 0;
        let (done, of) = (plan.work.files(), of_all.work.files());
        plan.work.part = (done < of).then_some(Portion { done, of });
    }
    Ok(plan)
}

/// Returns the snapshot before an operation. The errors differ because each has another solution.
fn snapshot_before(repo: &Repository, operation: &Operation) -> Result<Snapshot> {
    let before = operation.begin.before.ok_or_else(|| {
        Error::invalid(
            "this operation changed no protected file: there is nothing to undo",
            Some("bdr history PATH lists older versions of a file"),
        )
    })?;
    repo.snapshot(before).map_err(|error| match error {
        Error::NoSuchSnapshot { .. } if !repo.is_forgotten(before) => Error::Unreadable {
            name: layout::some_snapshot(before),
            reason: MISSING.to_owned(),
        },
        // If it were too old, the operation would have been removed with it.
        Error::NoSuchSnapshot { .. } => Error::Expired { snapshot: before },
        other => other,
    })
}

/// Returns what an operation changed: from its end record, and by comparing where that has gaps.
fn changes_of(
    repo: &Repository,
    operation: &Operation,
    snapshot: &Snapshot,
    options: &UndoOptions,
    opened: &Opened,
    plan: &mut UndoPlan,
) -> Result<Vec<RootChanges>> {
    // Without an end record we compare with the present. The same for a checkpoint, because its
    // undo is about everything that came after it.
    let ended = operation.end.as_ref();
    let ended = ended.filter(|_| operation.begin.kind != OperationKind::Call);
    let mut changes = ended.map_or_else(Vec::new, |end| end.roots.clone());
    let names = ended.map_or(&operation.begin.roots, |end| &end.unseen);
    if ended.is_none() || !names.is_empty() {
        let modes = opened.modes();
        changes.extend(compare_with_now(
            repo, snapshot, operation, names, options, modes, plan,
        )?);
    }
    Ok(changes)
}

/// Takes out changes in places that the operation neither ran in nor named: they are most likely
/// somebody else's work.
fn without_elsewhere(
    operation: &Operation,
    snapshot: &Snapshot,
    changes: Vec<RootChanges>,
    plan: &mut UndoPlan,
) -> Vec<RootChanges> {
    let is_elsewhere = |name: &RootName| operation.begin.elsewhere.contains(name);
    let (elsewhere, own): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|change| is_elsewhere(&change.name));
    // A file that the command names is in a root of its own, and may be in a source as well.
    let place_of = |change: &RootChanges| {
        let record = snapshot.root(&change.name);
        record.map(|record| record.path.as_path().to_path_buf())
    };
    let mut named: HashSet<PathBuf> = HashSet::new();
    for change in &own {
        if let Some(place) = place_of(change) {
            let stamps = change.created.iter().chain(&change.modified);
            let paths = stamps.map(|stamp| &stamp.path).chain(&change.removed);
            named.extend(paths.map(|path| path.to_path(&place)));
        }
    }
    for change in elsewhere {
        let Some(place) = place_of(&change) else {
            continue;
        };
        let is_own = |path: &RepoPath| named.contains(&path.to_path(&place));
        let mut removed = change.removed.clone();
        removed.retain(|path| !is_own(path));
        // The time of a directory changes with what is in it, and that may be of this operation.
        let altered = change.modified.iter();
        let altered =
            altered.filter(|stamp| stamp.kind != Kind::Dir).count() + change.created.len();
        let is_silent = altered == 0 && change.removed.is_empty();
        if let Some(record) = snapshot.root(&change.name).filter(|_| !is_silent) {
            plan.meanwhile.push(Meanwhile {
                path: record.path.as_path().to_path_buf(),
                deleted: change.deleted_files,
                altered: altered as u64,
            });
        }
    }
    plan.roots.retain(|root| !is_elsewhere(&root.name));
    own
}

/// Plans root by root. Paths that bdr itself restored since count as left by the operation,
/// otherwise every path of a redo would be a conflict.
fn plan_roots(
    repo: &Repository,
    whole: &Whole<'_>,
    changes: &[RootChanges],
    options: &UndoOptions,
    opened: &Opened,
    plan: &mut UndoPlan,
    monitor: &dyn Monitor,
) -> Result<()> {
    let (operation, snapshot) = (whole.operation, whole.snapshot);
    let mut later = repo.operations_after(whole.since)?;
    later.retain(|later| later.is_ours || !operation.is_ours);
    let cut_off = past::cut_off(&later, operation).and_then(|id| repo.snapshot(id).ok());
    plan.is_again = later.iter().any(|later| {
        let partial = later.end.as_ref().is_some_and(|end| end.partial);
        partial && later.begin.undoes == Some(operation.begin.id)
    });
    let put_back = past::put_back_since(repo, snapshot, later);
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for change in changes {
        let Some(record) = snapshot.root(&change.name) else {
            continue;
        };
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        uncaptured::not_captured(record, change, plan);
        let since = cut_off.as_ref();
        let since = since.and_then(|snapshot| snapshot.root(&change.name));
        let own = whole.listings.and_then(|all| all.get(&change.name));
        let listing = match own {
            Some(own) => own.clone(),
            None => repo.listing(record)?,
        };
        let done = Done {
            record,
            changes: change,
            past: Past {
                put_back: past::below(&put_back, record.path.as_path()),
                since: since.filter(|since| since.path == record.path),
            },
        };
        plan_root(repo, &done, listing, options, opened, plan, &mut seen)?;
    }
    Ok(())
}

/// Opens directories that an operation closed to their owner, where we must read them to find its
/// changes.
fn open_ways(operation: &Operation, snapshot: &Snapshot, opened: &mut Opened) {
    let ended = operation
        .end
        .as_ref()
        .filter(|_| operation.begin.kind != OperationKind::Call);
    for record in &snapshot.roots {
        let root = record.path.as_path();
        let Some(end) = ended.filter(|end| !end.unseen.contains(&record.name)) else {
            opened.tree(root);
            continue;
        };
        for left in record
            .left_out
            .iter()
            .filter(|left| changes::is_unread_dir(left))
        {
            let dir = left.path.to_path(root);
            opened.way(root, &dir);
            opened.tree(&dir);
        }
        for change in end.roots.iter().filter(|change| change.name == record.name) {
            let stamps = change.created.iter().chain(&change.modified);
            let paths = stamps.map(|stamp| &stamp.path).chain(&change.removed);
            // Many paths share directories; each is checked once.
            let mut ways: HashSet<PathBuf> = HashSet::new();
            for path in paths {
                let path = path.to_path(root);
                ways.extend(path.parent().map(Path::to_path_buf));
                ways.insert(path);
            }
            let mut ways: Vec<PathBuf> = ways.into_iter().collect();
            ways.sort();
            ways.iter().for_each(|way| opened.way(root, way));
            // If the root is a file, its directory may be closed.
            opened.way(root.parent().unwrap_or(root), root.parent().unwrap_or(root));
        }
    }
}

/// Returns the present differences from the snapshot, for roots without an end record. Unreadable
/// paths become problems of the plan.
fn compare_with_now(
    repo: &Repository,
    snapshot: &Snapshot,
    operation: &Operation,
    names: &[RootName],
    options: &UndoOptions,
    modes: HashMap<PathBuf, u32>,
    plan: &mut UndoPlan,
) -> Result<Vec<RootChanges>> {
    let never = repo.untouchable(&options.never);
    let chosen = |record: &&RootRecord| names.is_empty() || names.contains(&record.name);
    let left_out = snapshot.roots.iter().flat_map(|record| &record.left_out);
    let ended = operation.end.as_ref().and_then(|end| end.file_time);
    // As long as no other snapshot was taken, the states show which objects were captured and which
    // were only moved or linked here.
    let runs = snapshot.roots.iter();
    let runs = runs.filter_map(|record| RootRun::of_snapshot(repo, record, snapshot.id));
    let runs: Vec<RootRun> = runs.collect();
    let origins = Origins::new(operation.begin.time, left_out, &runs, &never).later(ended, modes);
    let mut result = Vec::new();
    for record in snapshot.roots.iter().filter(chosen) {
        match changes::since(repo, record, &origins)? {
            Look::Whole(changes) if changes.is_empty() => {}
            Look::Whole(changes) => result.push(*changes),
            Look::Partial(reason) => plan.problems.push(PathNote {
                path: record.path.clone().into(),
                reason: format!("it cannot be checked: {reason}"),
            }),
        }
    }
    Ok(result)
}

/// Sorts steps, and merges those of a directory that is restored or removed with everything in it.
fn collapsed(mut steps: Vec<UndoStep>) -> Vec<UndoStep> {
    steps.sort_by(|a, b| a.path.cmp(&b.path));
    let mut result: Vec<UndoStep> = Vec::with_capacity(steps.len().min(1024));
    for step in steps {
        let simple = matches!(step.action, UndoAction::Restore | UndoAction::Remove);
        if let Some(last) = result.last_mut()
            && simple
            && last.kind == Kind::Dir
            && last.action == step.action
            && step.path.starts_with(&last.path)
        {
            last.files += step.files;
            last.bytes += step.bytes;
        } else {
            result.push(step);
        }
    }
    result
}

/// Saves the present, then applies the plan.
///
/// # Errors
/// The present cannot be saved; then nothing is changed. Files that cannot be restored are
/// problems, not errors.
pub fn apply(
    repo: &Repository,
    operation: &Operation,
    mut plan: UndoPlan,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoReport> {
    let started = Instant::now();
    let redo = operation.begin.kind == OperationKind::Undo;
    let (trigger, kind) = if redo {
        (Trigger::Redo, OperationKind::Redo)
    } else {
        (Trigger::Undo, OperationKind::Undo)
    };
    let mut backup = BackupOptions::new(trigger, options.now);
    backup.never.clone_from(&options.never);
    backup.host.clone_from(&options.host);
    let intent = Intent {
        undoes: Some(operation.begin.id),
        also: plan.also.clone(),
        agent: options.agent.clone(),
        ..Intent::new(kind, &options.argv, &options.cwd)
    };
    let mut roots = plan.roots.clone();
    for root in &mut roots {
        root.origin = Origin::Source;
    }
    crate::repo::under_way::sweep(repo);
    let mut opened = Opened::again(&plan.closed);
    // The record has them, so that a redo closes them again.
    backup.modes = opened.modes();
    backup.touched = Some(Arc::new(plan.work.touched()));
    let linked = around::linked(&plan.work);
    let protected = guard::open(repo, &roots, &backup, intent, monitor)?;
    let id = protected.operation();
    let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
    around::note_touches(repo, linked);
    opened.release(plan.work.sets_modes());
    drop(opened);
    plan.work.partial |= !applied.problems.is_empty() || !plan.problems.is_empty();
    // Missing values make the first undo partial, so that it can be run again. Values that are
    // missing then too are lost.
    plan.work.partial |= !applied.lacking.is_empty() && !plan.is_again;
    protected.finish_work(&plan.work, &applied.linked)?;
    let conflicts = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, UndoAction::Conflict | UndoAction::Keep))
        .count() as u64;
    Ok(UndoReport {
        operation: id,
        restored: applied.restored,
        files: applied.files,
        removed: applied.removed,
        conflicts,
        problems: plan
            .sealed
            .into_iter()
            .chain(plan.problems)
            .chain(applied.problems)
            .chain(applied.lacking)
            .collect(),
        missing: plan.missing,
        elapsed: started.elapsed(),
    })
}
