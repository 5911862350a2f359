//! What bdr itself did since an operation: paths that an undo or redo restored count as left by the
//! operation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{UndoAction, UndoPlan, UndoStep};
use crate::base::id::SnapshotId;
use crate::base::path::RepoPath;
use crate::model::manifest::Time;
use crate::repo::Repository;
use crate::repo::oplog::{Operation, OperationKind, RootChanges, Stamp};
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

/// Returns what later undos and redos wrote, by absolute path: they restored what the operation left,
/// but with other inodes. Their roots may be others than the operation's.
pub(super) fn put_back_since(
    repo: &Repository,
    snapshot: &Snapshot,
    later: Vec<Operation>,
) -> BTreeMap<PathBuf, Stamp> {
    let mut found = BTreeMap::new();
    let later = later
        .into_iter()
        .filter(|later| matches!(later.begin.kind, OperationKind::Undo | OperationKind::Redo));
    for later in later {
        let Some(end) = later.end else { continue };
        let is_known = |root: &RootChanges| snapshot.root(&root.name).is_some();
        let own = match end.roots.iter().all(is_known) {
            true => None,
            false => later.begin.before.and_then(|id| repo.snapshot(id).ok()),
        };
        for root in end.roots {
            let record = own.as_ref().unwrap_or(snapshot).root(&root.name);
            let Some(base) = record.map(|record| record.path.as_path()) else {
                continue;
            };
            let stamps = root.created.into_iter().chain(root.modified);
            found.extend(stamps.map(|stamp| (stamp.path.to_path(base), stamp)));
        }
    }
    found
}

/// Returns what was put back below a root.
pub(super) fn below(put_back: &BTreeMap<PathBuf, Stamp>, base: &Path) -> HashMap<RepoPath, Stamp> {
    let own = put_back
        .range(base.to_path_buf()..)
        .take_while(|(path, _)| path.starts_with(base));
    own.filter_map(|(path, stamp)| Some((RepoPath::below(base, path)?, stamp.clone())))
        .collect()
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
