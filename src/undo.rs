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
use crate::compare::Differences;
use crate::error::{Error, Result};
use crate::fsutil::Opened;
use crate::guard::changes::{self, Look, Origins};
use crate::guard::{self, Intent};
use crate::id::{Digest, OperationId, SnapshotId};
use crate::manifest::{Kind, Time};
use crate::monitor::Monitor;
use crate::path::{RawName, RepoPath, RootName};
use crate::repo::Repository;
use crate::repo::oplog::{End, Operation, OperationKind, RootChanges, Stamp};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};
use crate::rules::{Origin, Root};
use plan::{Past, plan_root};

mod plan;
mod repositories;

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
    /// Also what changed, while the operation ran, in places that it neither named nor ran in.
    pub all: bool,
    /// Only look: not even the times of directories change. What is closed to its owner stays closed, and is named as not looked at.
    pub look_only: bool,
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
    /// What of its metadata comes back, if that is all.
    pub differs: Differences,
}

/// A root that an operation neither named nor ran in, and that changed while it ran.
#[derive(Debug, Clone)]
pub struct Meanwhile {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Files that are gone.
    pub deleted: u64,
    /// Objects that are new or differ.
    pub altered: u64,
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
    /// What it changed without its having been captured: it is not as it was, and this undo cannot bring it back.
    pub missing: Vec<PathNote>,
    /// What cannot be looked at, or not be put back.
    pub problems: Vec<PathNote>,
    /// What was not looked at because nothing was to be opened for it.
    pub unseen: Vec<PathNote>,
    /// Steps that paths given leave out.
    pub rest: u64,
    /// Where something changed while the operation ran, most likely by others: left as it is.
    pub meanwhile: Vec<Meanwhile>,
    /// Files of which something was sealed and cannot be had.
    pub sealed: Vec<PathNote>,
    work: Work,
    roots: Vec<Root>,
    /// Directories that are closed to their owner and have to be opened for it.
    closed: Vec<PathBuf>,
    /// An undo of the same operation was partial.
    is_again: bool,
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
    /// What the operation did to things that were not captured: it is not undone.
    pub missing: Vec<PathNote>,
    /// Wall time.
    pub elapsed: Duration,
}

/// Returns true if an operation ran in `workspace`, or somewhere above it.
pub fn is_about(operation: &Operation, workspace: &Path) -> bool {
    let there = operation.begin.cwd.as_path();
    there.starts_with(workspace) || workspace.starts_with(there)
}

/// Returns true if an operation changed something in `workspace`, wherever it ran: in another work tree of its repository, or by a path.
pub fn has_worked_in(repo: &Repository, operation: &Operation, workspace: &Path) -> bool {
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    let end = operation.end.as_ref();
    let touched = |name: &RootName| {
        let changed = |end: &End| end.roots.iter().any(|root| root.name == *name);
        !operation.begin.elsewhere.contains(name)
            && end.is_none_or(|end| changed(end) || end.unseen.contains(name))
    };
    let mut roots = snapshot.iter().flat_map(|snapshot| &snapshot.roots);
    roots.any(|root| {
        let path = root.path.as_path();
        touched(&root.name) && (path.starts_with(workspace) || workspace.starts_with(path))
    })
}

/// Returns the operation that a plain `bdr undo` takes back: the newest that can be, about `workspace` if there is one. With `all` one counts as well that
/// changed nothing but what it neither named nor ran in. One that this machine did not record has to be named: who writes to the repository may have made it up.
///
/// # Errors
/// There is none.
pub fn choose<'a>(
    operations: &'a [Operation],
    workspace: &Path,
    all: bool,
) -> Result<&'a Operation> {
    // A redo did it again: taking that back is what undo means then.
    let changed = |o: &Operation| o.is_undoable() || all && o.saw_changes_elsewhere();
    let can_be = |o: &&Operation| changed(o) && o.is_ours && o.begin.kind != OperationKind::Undo;
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
            && operation.is_ours
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
        .filter(|o| is_about(o, workspace) && o.is_ours)
        .take_while(|o| matches!(o.begin.kind, OperationKind::Undo | OperationKind::Redo))
        .find(|o| o.begin.kind == OperationKind::Undo && o.is_undoable())
        .ok_or(Error::NothingTo { verb: "redo" })
}

/// Returns what has to be taken back to take back `operation`: itself, or the redo that did it again after it was undone.
pub fn effective<'a>(operations: &'a [Operation], operation: &'a Operation) -> &'a Operation {
    let mut current = operation;
    // What somebody else wrote down leads nowhere from what this machine did.
    let counts = |o: &&Operation| o.is_ours || !operation.is_ours;
    loop {
        let undo = operations
            .iter()
            .rev()
            .filter(counts)
            .find(|o| o.begin.undoes == Some(current.begin.id));
        let redo = undo.and_then(|undo| {
            operations
                .iter()
                .filter(counts)
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
        Error::NoSuchSnapshot { .. } if !repo.is_forgotten(before) => Error::Unreadable {
            name: format!("snapshots/{before}.json"),
            reason: "it is missing, and nobody forgot it".to_owned(),
        },
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
    open_ways(operation, &snapshot, &mut opened);
    // One that was cut off is compared as it stands now; so is a checkpoint, of which all that came after is meant.
    let ended = operation.end.as_ref();
    let ended = ended.filter(|_| operation.begin.kind != OperationKind::Call);
    let mut changes = ended.map_or_else(Vec::new, |end| end.roots.clone());
    let names = ended.map_or(&operation.begin.roots, |end| &end.unseen);
    if ended.is_none() || !names.is_empty() {
        let modes = opened.modes();
        changes.extend(compare_with_now(
            repo, &snapshot, operation, names, options, modes, &mut plan,
        )?);
    }
    if !options.all {
        // What changed where the operation neither worked nor was told to is most likely somebody else's.
        let (elsewhere, own): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| operation.begin.elsewhere.contains(&change.name));
        changes = own;
        for change in elsewhere {
            if let Some(record) = snapshot.root(&change.name) {
                plan.meanwhile.push(Meanwhile {
                    path: record.path.as_path().to_path_buf(),
                    deleted: change.deleted_files,
                    altered: (change.created.len() + change.modified.len()) as u64,
                });
            }
        }
        plan.roots
            .retain(|root| !operation.begin.elsewhere.contains(&root.name));
    }
    let mut later = repo.operations_after(operation.begin.id)?;
    later.retain(|later| later.is_ours || !operation.is_ours);
    let cut_off = cut_off(&later, operation).and_then(|id| repo.snapshot(id).ok());
    plan.is_again = later.iter().any(|later| {
        let partial = later.end.as_ref().is_some_and(|end| end.partial);
        partial && later.begin.undoes == Some(operation.begin.id)
    });
    let mut put_back = put_back_since(later);
    let mut seen: HashSet<PathBuf> = HashSet::new();
    unread(
        operation, &snapshot, &changes, options, &opened, repo, &mut plan,
    );
    for change in &changes {
        let Some(record) = snapshot.root(&change.name) else {
            continue;
        };
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        not_captured(record, change, &mut plan);
        let put_back = put_back.remove(&change.name).unwrap_or_default();
        let since = cut_off
            .as_ref()
            .and_then(|snapshot| snapshot.root(&change.name));
        let past = Past {
            put_back,
            since: since.filter(|since| since.path == record.path),
        };
        plan_root(
            repo, record, change, options, past, &opened, &mut plan, &mut seen,
        )?;
    }
    plan.missing.extend(uncaptured_roots(operation, &snapshot));
    let mut named: HashSet<RawName> = HashSet::new();
    plan.missing.retain(|note| named.insert(note.path.clone()));
    plan.work.times = times_around(operation, &snapshot, &plan);
    plan.closed = opened.paths();
    plan.unseen = apply::not_looked_at(opened.left(), "an undo opens it", &mut plan.problems);
    drop(opened);
    plan.steps = collapsed(std::mem::take(&mut plan.steps));
    if !options.paths.is_empty() {
        let all = UndoOptions {
            paths: Vec::new(),
            ..options.clone()
        };
        let whole = self::plan(repo, operation, &all, monitor)?;
        // The rest can be taken back later: the operation is not undone by this.
        plan.rest = whole.work.jobs.len().saturating_sub(plan.work.jobs.len()) as u64;
        plan.work.partial = plan.rest > 0;
    }
    Ok(plan)
}

/// Opens what an operation has closed to its owner, as far as it is needed to look at what it changed.
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
            // Directories repeat: each is looked at once.
            let mut ways: HashSet<PathBuf> = HashSet::new();
            for path in paths {
                let path = path.to_path(root);
                ways.extend(path.parent().map(Path::to_path_buf));
                ways.insert(path);
            }
            let mut ways: Vec<PathBuf> = ways.into_iter().collect();
            ways.sort();
            ways.iter().for_each(|way| opened.way(root, way));
            // A root that is a file lies in a directory that may be closed.
            opened.way(root.parent().unwrap_or(root), root.parent().unwrap_or(root));
        }
    }
}

/// Notes what a command named, could not be captured at all, and is another now or gone: what became of it is not known.
fn uncaptured_roots(operation: &Operation, snapshot: &Snapshot) -> Vec<PathNote> {
    let began = operation.begin.time.timestamp_nanos_opt().unwrap_or(0);
    let is_unknown = |note: &&PathNote| {
        let path = note.path.as_path();
        // What lies below a root is compared with it; what the command names below this has roots of its own.
        let is_told = snapshot.roots.iter().any(|record| {
            let root = record.path.as_path();
            let is_out = record.left_out.iter().any(|left| left.path.is_root());
            path.starts_with(root) && !is_out || root.starts_with(path) && root != path
        });
        let changed = crate::fsutil::changed_at(path);
        !is_told && changed.is_none_or(|time| time.nanos() >= began)
    };
    let unknown = operation.begin.not_captured.iter().filter(is_unknown);
    let why = |note: &PathNote| {
        let reason = &note.reason;
        format!("it was not captured ({reason}): what became of it is not known")
    };
    unknown
        .map(|note| PathNote {
            path: note.path.clone(),
            reason: why(note),
        })
        .collect()
}

/// Returns the times that directories around roots are to have again: where nothing happened in them since.
fn times_around(
    operation: &Operation,
    snapshot: &Snapshot,
    plan: &UndoPlan,
) -> Vec<(PathBuf, Time)> {
    let Some(end) = &operation.end else {
        return Vec::new();
    };
    let stays = |step: &&UndoStep| matches!(step.action, UndoAction::Keep | UndoAction::Conflict);
    let kept: HashSet<&Path> = plan
        .steps
        .iter()
        .filter(stays)
        .filter_map(|step| step.path.parent())
        .collect();
    // A record is to reach no directory but these.
    let around: HashSet<&Path> = snapshot
        .roots
        .iter()
        .filter_map(|record| record.path.as_path().parent())
        .collect();
    let as_left = end.parents.iter().filter(|after| {
        let now = crate::fsutil::changed_at(after.path.as_path());
        now == Some(after.mtime)
            && around.contains(after.path.as_path())
            && !kept.contains(after.path.as_path())
    });
    as_left
        .filter_map(|after| {
            let mut before = operation.begin.parents.iter();
            let before = before.find(|before| before.path == after.path)?;
            Some((before.path.as_path().to_path_buf(), before.mtime))
        })
        .collect()
}

/// Notes directories that could not be looked into before an operation, and in which something changed since: what names it had elsewhere, the operation may
/// have changed here as well.
fn unread(
    operation: &Operation,
    snapshot: &Snapshot,
    changes: &[RootChanges],
    options: &UndoOptions,
    opened: &Opened,
    repo: &Repository,
    plan: &mut UndoPlan,
) {
    let Some(end) = &operation.end else { return };
    let mut never = repo.own_paths();
    never.extend(options.never.iter().cloned());
    let roots = snapshot.roots.iter().map(|record| record.path.as_path());
    let covered = roots.map(Path::to_path_buf).chain(never.clone()).collect();
    let origins = Origins::new(operation.begin.time, std::iter::empty(), &[], &never)
        .later(end.file_time, opened.modes())
        .beside(covered);
    let own = |record: &&RootRecord| {
        let names = &operation.begin.roots;
        let is_own = names.is_empty() || names.contains(&record.name);
        is_own
            && !end.unseen.contains(&record.name)
            && !operation.begin.elsewhere.contains(&record.name)
    };
    for record in snapshot.roots.iter().filter(own) {
        let told = |path: &RepoPath| {
            let mut own = changes.iter().filter(|change| change.name == record.name);
            own.any(|change| change.lost.contains(path) || change.altered.contains(path))
        };
        for path in changes::unread_and_altered(record, &origins) {
            if !told(&path) {
                let reason = "it could not be looked into before, and something in it changed: what became of it is not known";
                plan.missing.push(PathNote {
                    path: RawName(path.to_path(record.path.as_path()).into_os_string()),
                    reason: reason.to_owned(),
                });
            }
        }
    }
}

/// Notes what an operation did to things that the snapshot does not hold.
fn not_captured(record: &RootRecord, change: &RootChanges, plan: &mut UndoPlan) {
    let note = |path: &RepoPath, reason: String| PathNote {
        path: RawName(path.to_path(record.path.as_path()).into_os_string()),
        reason,
    };
    let reason_of = |path: &RepoPath| {
        let left = record.left_out.iter().find(|left| left.path == *path);
        left.map_or_else(String::new, |left| format!(" ({})", left.reason))
    };
    for path in &change.lost {
        let why = reason_of(path);
        plan.missing
            .push(note(path, format!("it is gone, and was not captured{why}")));
    }
    for path in &change.altered {
        let why = reason_of(path);
        let reason = format!("it changed, and was not captured{why}: it stays as it is");
        plan.missing.push(note(path, reason));
    }
    for path in &change.unknown {
        let reason = "it was there before under another name, and was not captured: it stays";
        plan.missing.push(note(path, reason.to_owned()));
    }
}

/// Returns what stood before the first undo of `operation` that was cut off, if none got through since.
fn cut_off(later: &[Operation], operation: &Operation) -> Option<SnapshotId> {
    let attempts = later
        .iter()
        .filter(|later| later.begin.undoes == Some(operation.begin.id));
    let mut first = None;
    for attempt in attempts {
        first = match &attempt.end {
            Some(end) if !end.partial => None,
            _ => first.or(attempt.begin.before),
        };
    }
    first
}

/// Returns what undos and redos after an operation wrote, by root: they put back what it left, under another inode.
fn put_back_since(later: Vec<Operation>) -> HashMap<RootName, HashMap<RepoPath, Stamp>> {
    let mut found: HashMap<RootName, HashMap<RepoPath, Stamp>> = HashMap::new();
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

/// Returns what differs from the snapshot now, in roots of which no end record tells. What cannot be looked at is a problem of the plan.
fn compare_with_now(
    repo: &Repository,
    snapshot: &Snapshot,
    operation: &Operation,
    names: &[RootName],
    options: &UndoOptions,
    modes: HashMap<PathBuf, u32>,
    plan: &mut UndoPlan,
) -> Result<Vec<RootChanges>> {
    let never: Vec<PathBuf> = repo
        .own_paths()
        .into_iter()
        .chain(options.never.clone())
        .collect();
    let chosen = |record: &&RootRecord| names.is_empty() || names.contains(&record.name);
    let left_out = snapshot.roots.iter().flat_map(|record| &record.left_out);
    let ended = operation.end.as_ref().and_then(|end| end.file_time);
    let origins = Origins::new(operation.begin.time, left_out, &[], &never).later(ended, modes);
    let mut result = Vec::new();
    for record in snapshot.roots.iter().filter(chosen) {
        match changes::since(repo, record, &origins)? {
            Look::Whole(changes) if changes.is_empty() => {}
            Look::Whole(changes) => result.push(*changes),
            Look::Partial(reason) => plan.problems.push(PathNote {
                path: record.path.clone().into(),
                reason: format!("it cannot be looked at: {reason}"),
            }),
        }
    }
    Ok(result)
}

/// Saves the present, then applies the plan.
///
/// # Errors
/// The present cannot be saved (nothing is written then). Files that cannot be restored are problems, not errors.
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
        kind,
        argv: options.argv.clone(),
        cwd: options.cwd.clone(),
        label: None,
        remote: Vec::new(),
        undoes: Some(operation.begin.id),
        restore: None,
        agent: options.agent.clone(),
        in_place: true,
        all_named: false,
    };
    let mut roots = plan.roots.clone();
    for root in &mut roots {
        root.origin = Origin::Source;
    }
    apply::sweep(repo);
    let mut opened = Opened::again(&plan.closed);
    // A redo closes them again.
    backup.modes = opened.modes();
    let protected = guard::open(repo, &roots, &backup, intent, monitor)?;
    let id = protected.operation();
    let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
    opened.release(plan.work.sets_modes());
    drop(opened);
    plan.work.partial |= !applied.problems.is_empty() || !plan.problems.is_empty();
    // What cannot be given back at the second time of asking either will not be at the third.
    plan.work.partial |= !applied.lacking.is_empty() && !plan.is_again;
    protected.finish_work(&plan.work)?;
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
