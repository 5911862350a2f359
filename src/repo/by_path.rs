//! Which operations changed something at a path, according to their records.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Repository;
use super::oplog::{Operation, RootChanges};
use super::snapshot::Snapshot;
use crate::base::id::SnapshotId;

/// Finds operations by the paths that they changed. Operations share snapshots, so each is read
/// only once.
pub struct ByPath<'a> {
    repo: &'a Repository,
    snapshots: HashMap<SnapshotId, Option<Snapshot>>,
}

impl<'a> ByPath<'a> {
    pub fn new(repo: &'a Repository) -> Self {
        Self {
            repo,
            snapshots: HashMap::new(),
        }
    }

    /// Returns true if something at or below `place` changed during the operation, whoever did it.
    pub fn saw_changes(&mut self, operation: &Operation, place: &Path) -> bool {
        self.any(operation, place, false)
    }

    /// Returns true if the operation changed something at or below `place`. Changes in roots that
    /// it neither named nor ran in are most likely not its own.
    pub fn changed(&mut self, operation: &Operation, place: &Path) -> bool {
        self.any(operation, place, true)
    }

    fn any(&mut self, operation: &Operation, place: &Path, only_own: bool) -> bool {
        let begin = &operation.begin;
        let snapshot = begin.before.and_then(|id| {
            let known = self.snapshots.entry(id);
            known
                .or_insert_with(|| self.repo.snapshot(id).ok())
                .as_ref()
        });
        let is_left_out = |name| only_own && begin.elsewhere.contains(name);
        let end = operation.end.as_ref();
        // If nobody looked afterwards, it may have changed anything that it covers.
        let mut covered = snapshot.iter().flat_map(|snapshot| &snapshot.roots);
        let is_covered = covered.any(|root| {
            let path = root.path.as_path();
            end.is_none_or(|end| end.unseen.contains(&root.name))
                && !is_left_out(&root.name)
                && (path.starts_with(place) || place.starts_with(path))
        });
        let mut changes = end.iter().flat_map(|end| &end.roots);
        is_covered
            || changes.any(|root| {
                !is_left_out(&root.name) && has_changed(root, &root_path(root, snapshot), place)
            })
    }
}

fn has_changed(root: &RootChanges, base: &Path, place: &Path) -> bool {
    let mut gone = root.removed.iter().map(|path| path.to_path(base));
    let mut stamps = root.created.iter().chain(&root.modified);
    // The time of a directory changes with its content, which proves nothing about other paths in
    // it.
    gone.any(|gone| gone.starts_with(place) || place.starts_with(&gone))
        || stamps.any(|stamp| stamp.path.to_path(base).starts_with(place))
}

/// Returns the path of a root, or its name if the snapshot is gone.
pub fn root_path(root: &RootChanges, snapshot: Option<&Snapshot>) -> PathBuf {
    let record = snapshot.and_then(|snapshot| snapshot.root(&root.name));
    record.map_or_else(
        || root.name.to_string().into(),
        |record| record.path.as_path().to_owned(),
    )
}
