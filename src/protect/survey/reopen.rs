//! Reopens a root as a snapshot left it, in another process than the one that took the snapshot.

use super::{RootRun, roots_of, state_path};
use crate::base::id::SnapshotId;
use crate::model::rules::Root;
use crate::protect::walk::Scan;
use crate::repo::Repository;
use crate::repo::snapshot::RootRecord;
use crate::repo::state::State;

impl RootRun {
    /// Returns the root of a snapshot as it was right after it was captured; `None` if its state
    /// mirrors another snapshot by now.
    pub(crate) fn of_snapshot(
        repo: &Repository,
        record: &RootRecord,
        snapshot: SnapshotId,
    ) -> Option<Self> {
        let root = root_of(record);
        let state_path = state_path(repo, &root);
        // A root that did not exist has no state.
        let state = match record.base {
            None => None,
            Some(_) => Some(
                State::load(&state_path, repo.id())
                    .filter(|state| state.mirrors().snapshot == snapshot)?,
            ),
        };
        Some(Self {
            root,
            state,
            left_out: record.left_out.clone(),
            unread: Vec::new(),
            withheld: Vec::new(),
            state_path,
            handle: None,
            scan: Scan::default(),
        })
    }
}

/// Returns the root that a record describes.
pub(crate) fn root_of(record: &RootRecord) -> Root {
    roots_of(std::slice::from_ref(record), &[]).remove(0)
}
