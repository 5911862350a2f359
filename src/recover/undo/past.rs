//! What bdr itself did since an operation: paths that an undo or redo restored count as left by the
//! operation.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{UndoAction, UndoPlan, UndoStep};
use crate::base::id::SnapshotId;
use crate::base::path::{RepoPath, RootName};
use crate::model::manifest::Time;
use crate::repo::oplog::{Operation, OperationKind, Stamp};
use crate::repo::snapshot::Snapshot;

/// Returns the snapshot before the first interrupted undo of `operation`, if no undo finished
/// since.
pub(super) fn cut_off(later: &[Operation], operation: &Operation) -> Option<SnapshotId> {
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

/// Returns what later undos and redos wrote, by root: they restored what the operation left, but
/// with other inodes.
pub(super) fn put_back_since(later: Vec<Operation>) -> HashMap<RootName, HashMap<RepoPath, Stamp>> {
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

/// Returns the times to restore on directories around roots, for those in which nothing else
/// changed since.
pub(super) fn times_around(
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
    // A forged record must not reach other directories.
    let around: HashSet<&Path> = snapshot
        .roots
        .iter()
        .filter_map(|record| record.path.as_path().parent())
        .collect();
    let as_left = end.parents.iter().filter(|after| {
        let now = crate::disk::fsutil::changed_at(after.path.as_path());
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
