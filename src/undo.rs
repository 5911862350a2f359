//! Takes an operation back: the reverse of what it changed, and nothing else.
//!
//! For each path that the operation changed there are three states: before (in its snapshot), after (the stamp in its end record) and now. Only where
//! now is as after left it is before put back. What changed again since is a conflict: it stays, and the old is written beside it. The undo
//! saves the present first and is an operation itself, so a redo is the undo of the undo.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::agent::AgentCall;
use crate::apply::{self, Licence, Work};
use crate::backup::{BackupOptions, roots_of};
use crate::error::{Error, Result};
use crate::guard::{self, Intent};
use crate::id::{Digest, OperationId, SnapshotId};
use crate::manifest::{Entry, Kind, Stat, by_path};
use crate::monitor::Monitor;
use crate::path::RepoPath;
use crate::repo::Repository;
use crate::repo::oplog::{Operation, OperationKind, RootChanges, Stamp};
use crate::repo::snapshot::{PathNote, Snapshot, Trigger};
use crate::rules::{Origin, Root};
use crate::walk::{WalkOptions, walk};
use plan::{Past, plan_root};

mod plan;

/// What to take back, and how.
#[derive(Debug, Clone)]
pub struct UndoOptions {
    /// The time of the operation.
    pub now: DateTime<Utc>,
    /// Where it was asked for.
    pub cwd: PathBuf,
    /// How it was asked for.
    pub argv: Vec<OsString>,
    /// Also put back what changed again since: what stands there now is saved with all else, and a redo brings it back.
    pub force: bool,
    /// Only at or below these absolute paths; empty: all.
    pub paths: Vec<PathBuf>,
    /// Absolute paths that are never touched, beside the repository's own.
    pub never: Vec<PathBuf>,
    /// Name of the machine.
    pub host: String,
    /// The call of another program that asked for it.
    pub agent: Option<AgentCall>,
}

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UndoAction {
    /// It comes back as it was.
    Restore,
    /// The operation made it, and nothing touched it since.
    Remove,
    /// Mode, times or attributes come back.
    Metadata,
    /// It changed again since, elsewhere inside: what the operation changed comes back, the rest stays.
    Merge,
    /// It changed again since: it stays, the old one is written beside it.
    Conflict,
    /// The operation made it, and it changed since: it stays.
    Keep,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct UndoStep {
    /// Where, absolute.
    pub path: PathBuf,
    /// What happens.
    pub action: UndoAction,
    /// What is restored or removed.
    pub kind: Kind,
    /// Its size, with all below a directory that comes back whole.
    pub bytes: u64,
    /// Regular files; more than one for a directory that comes back whole.
    pub files: u64,
    /// Where the old one is written, for a conflict.
    pub beside: Option<PathBuf>,
}

/// What an undo would do. Inert.
#[derive(Debug, Clone)]
pub struct UndoPlan {
    /// What is taken back.
    pub operation: OperationId,
    /// Steps, sorted by path.
    pub steps: Vec<UndoStep>,
    /// What the operation may have changed without its having been captured.
    pub not_captured: Vec<PathNote>,
    /// Files of which something was sealed and cannot be had.
    pub sealed: Vec<PathNote>,
    work: Work,
    roots: Vec<Root>,
}

impl UndoPlan {
    /// Returns what names this plan: another one for other steps, and for the same steps where something else stands by now.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{} {}", self.operation, self.work.digest()).as_bytes())
    }
}

/// What an undo did.
#[derive(Debug, Clone)]
pub struct UndoReport {
    /// The undo, itself an operation.
    pub operation: OperationId,
    /// Objects restored.
    pub restored: u64,
    /// Of these, those that are no directories.
    pub files: u64,
    /// Objects removed.
    pub removed: u64,
    /// Paths that changed since and were kept.
    pub conflicts: u64,
    /// What failed.
    pub problems: Vec<PathNote>,
    /// Wall time.
    pub elapsed: Duration,
}

/// Returns true if an operation ran in `workspace`, or somewhere above it.
pub fn is_about(operation: &Operation, workspace: &Path) -> bool {
    let there = operation.begin.cwd.as_path();
    there.starts_with(workspace) || workspace.starts_with(there)
}

/// Returns the operation that a plain `bdr undo` takes back: the newest that can be, about `workspace` if there is one.
///
/// # Errors
/// There is none.
pub fn choose<'a>(operations: &'a [Operation], workspace: &Path) -> Result<&'a Operation> {
    // A redo did it again: taking that back is what undo means then.
    let can_be = |o: &&Operation| o.is_undoable() && o.begin.kind != OperationKind::Undo;
    let newest = |near: bool| {
        operations
            .iter()
            .rev()
            .filter(can_be)
            .find(|o| !near || is_about(o, workspace))
    };
    newest(true)
        .or_else(|| newest(false))
        .ok_or(Error::NothingTo { verb: "undo" })
}

/// Returns the operations about `workspace` that can be taken back, the newest first.
pub fn newest_first<'a>(
    operations: &'a [Operation],
    workspace: &'a Path,
) -> impl Iterator<Item = &'a Operation> {
    operations.iter().rev().filter(move |operation| {
        operation.is_undoable()
            && !matches!(
                operation.begin.kind,
                OperationKind::Undo | OperationKind::Redo
            )
            && is_about(operation, workspace)
    })
}

/// Returns the undo that a plain `bdr redo` takes back: the newest, if no other operation came after it.
///
/// # Errors
/// There is none.
pub fn choose_redo<'a>(operations: &'a [Operation], workspace: &Path) -> Result<&'a Operation> {
    operations
        .iter()
        .rev()
        .filter(|o| is_about(o, workspace))
        .take_while(|o| matches!(o.begin.kind, OperationKind::Undo | OperationKind::Redo))
        .find(|o| o.begin.kind == OperationKind::Undo && o.is_undoable())
        .ok_or(Error::NothingTo { verb: "redo" })
}

/// Returns what has to be taken back to take back `operation`: itself, or the redo that did it again after it was undone.
pub fn effective<'a>(operations: &'a [Operation], operation: &'a Operation) -> &'a Operation {
    let mut current = operation;
    loop {
        let undo = operations
            .iter()
            .rev()
            .find(|o| o.begin.undoes == Some(current.begin.id));
        let redo = undo.and_then(|undo| {
            operations
                .iter()
                .find(|o| undo.undone_by == Some(o.begin.id))
        });
        match redo {
            Some(redo) => current = redo,
            None => return current,
        }
    }
}

/// Plans an undo. Reads only.
///
/// # Errors
/// The operation has no snapshot, or its snapshot is damaged.
pub fn plan(
    repo: &Repository,
    operation: &Operation,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoPlan> {
    let before = operation.begin.before.ok_or_else(|| {
        Error::invalid(
            "this operation ran unprotected: there is nothing to go back to",
            Some("bdr history PATH finds older versions of a file"),
        )
    })?;
    let snapshot = repo.snapshot(before).map_err(|error| match error {
        Error::NoSuchSnapshot { .. } => Error::invalid(
            "what was there before is not kept any more: the operation is older than [retention] promises",
            Some("bdr history PATH finds older versions of a file; bdr pin keeps a snapshot"),
        ),
        other => other,
    })?;
    let mut plan = UndoPlan {
        operation: operation.begin.id,
        steps: Vec::new(),
        not_captured: operation.begin.not_captured.clone(),
        sealed: Vec::new(),
        work: Work::default(),
        roots: roots_of(&snapshot.roots, &operation.begin.roots),
    };
    let computed;
    let changes = match &operation.end {
        Some(end) if operation.begin.kind != OperationKind::Call => &end.roots,
        // It was cut off; or it is a checkpoint, and all that came after is meant.
        _ => {
            computed = compare_with_now(repo, &snapshot, operation, options)?;
            &computed
        }
    };
    let later = repo.operations_after(operation.begin.id)?;
    let cut_off = cut_off(&later, operation).and_then(|id| repo.snapshot(id).ok());
    let mut put_back = put_back_since(later);
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for change in changes {
        let Some(record) = snapshot.root(&change.name) else {
            continue;
        };
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let put_back = put_back.remove(&change.name).unwrap_or_default();
        let since = cut_off
            .as_ref()
            .and_then(|snapshot| snapshot.root(&change.name));
        let past = Past {
            put_back,
            since: since.filter(|since| since.path == record.path),
        };
        plan_root(repo, record, change, options, past, &mut plan, &mut seen)?;
    }
    plan.steps = collapsed(std::mem::take(&mut plan.steps));
    Ok(plan)
}

/// Returns what stood before the first undo of `operation` that was cut off, if none got through since.
fn cut_off(later: &[Operation], operation: &Operation) -> Option<SnapshotId> {
    let attempts = later
        .iter()
        .filter(|later| later.begin.undoes == Some(operation.begin.id));
    let mut first = None;
    for attempt in attempts {
        first = match attempt.end {
            Some(_) => None,
            None => first.or(attempt.begin.before),
        };
    }
    first
}

/// Returns what undos and redos after an operation wrote, by root: they put back what it left, under another inode.
fn put_back_since(later: Vec<Operation>) -> HashMap<String, HashMap<RepoPath, Stamp>> {
    let mut found: HashMap<String, HashMap<RepoPath, Stamp>> = HashMap::new();
    let later = later
        .into_iter()
        .filter(|later| matches!(later.begin.kind, OperationKind::Undo | OperationKind::Redo));
    for root in later
        .filter_map(|later| later.end)
        .flat_map(|end| end.roots)
    {
        let stamps = root.created.into_iter().chain(root.modified);
        let known = found.entry(root.name).or_default();
        known.extend(stamps.map(|stamp| (stamp.path.clone(), stamp)));
    }
    found
}

/// Sorts steps, and makes one of a directory that comes back or goes with everything below it.
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

/// Returns what differs from the snapshot now: for operations that never ended.
fn compare_with_now(
    repo: &Repository,
    snapshot: &Snapshot,
    operation: &Operation,
    options: &UndoOptions,
) -> Result<Vec<RootChanges>> {
    let never: Vec<PathBuf> = repo
        .own_paths()
        .into_iter()
        .chain(options.never.clone())
        .collect();
    let names = &operation.begin.roots;
    let mut result = Vec::new();
    for record in snapshot
        .roots
        .iter()
        .filter(|r| names.is_empty() || names.contains(&r.name))
    {
        let root = roots_of(std::slice::from_ref(record), &[]).remove(0);
        let scan = walk(
            &root,
            None,
            &WalkOptions {
                never: &never,
                max_files: None,
                keep_known: false,
            },
        )?;
        let mut changes = RootChanges {
            name: record.name.clone(),
            ..RootChanges::default()
        };
        let listing = by_path(repo.listing(record)?);
        let handle = crate::walk::RootHandle::of(&root)?;
        let mut there = HashSet::new();
        for dirty in scan.dirty {
            there.insert(dirty.path.clone());
            let stamp = stamp_of(dirty.path.clone(), &dirty.stat);
            match listing.get(&dirty.path) {
                _ if record
                    .left_out
                    .iter()
                    .any(|l| dirty.path.starts_with(&l.path)) => {}
                None => changes.created.push(stamp),
                Some(entry) => {
                    let same = handle
                        .as_ref()
                        .is_some_and(|h| stands(repo, h, entry, &dirty.stat));
                    if !same {
                        changes.modified.push(stamp);
                    }
                }
            }
        }
        let mut top: Option<&RepoPath> = None;
        for path in listing.keys().filter(|p| !there.contains(p)) {
            if !top.is_some_and(|t| path.starts_with(t)) {
                top = Some(path);
                changes.removed.push(path.clone());
            }
        }
        if !changes.is_empty() {
            result.push(changes);
        }
    }
    Ok(result)
}

/// Returns true if the object is as the entry says, by reading it.
fn stands(repo: &Repository, handle: &crate::walk::RootHandle, entry: &Entry, stat: &Stat) -> bool {
    if stat.kind != entry.kind || stat.mode != entry.mode || stat.mtime != entry.mtime {
        return false;
    }
    match entry.kind {
        Kind::File => {
            stat.size == entry.size
                && handle
                    .open_file(&entry.path)
                    .is_ok_and(|mut file| repo.has_content(&entry.body, &mut file))
        }
        Kind::Symlink => handle
            .read_link(&entry.path)
            .is_ok_and(|t| t == entry.body.target),
        _ => true,
    }
}

fn stamp_of(path: RepoPath, stat: &Stat) -> Stamp {
    Stamp {
        path,
        kind: stat.kind,
        mode: stat.mode,
        mtime: stat.mtime,
        size: stat.size,
        ctime: stat.ctime,
        inode: stat.inode,
    }
}

/// Saves the present, then applies the plan.
///
/// # Errors
/// The present cannot be saved (nothing is written then). Files that cannot be restored are problems, not errors.
pub fn apply(
    repo: &Repository,
    operation: &Operation,
    plan: UndoPlan,
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
        kind,
        argv: options.argv.clone(),
        cwd: options.cwd.clone(),
        label: None,
        remote: Vec::new(),
        undoes: Some(operation.begin.id),
        restore: None,
        agent: options.agent.clone(),
        in_place: true,
    };
    let mut roots = plan.roots.clone();
    for root in &mut roots {
        root.origin = Origin::Source;
    }
    let protected = guard::open(repo, &roots, &backup, intent, monitor)?;
    let id = protected.operation();
    let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
    protected.finish(None, None)?;
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
        problems: plan.sealed.into_iter().chain(applied.problems).collect(),
        elapsed: started.elapsed(),
    })
}
