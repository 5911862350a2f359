//! What bdr's own operations were asked for, in their begin records.

use serde::{Deserialize, Serialize};

use crate::base::id::{Id, SnapshotId};
use crate::base::path::{AbsolutePath, RepoPath, RootName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreJournal {
    pub snapshot: SnapshotId,
    /// Target directory; `None` for in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<AbsolutePath>,
    /// Restored paths, as `ROOT/relative`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<RootPath>,
    /// Remove files that the snapshot does not have.
    #[serde(default)]
    pub delete: bool,
    /// `if-changed`, `never` or `always`.
    pub overwrite: String,
}

/// Up to which snapshot of another machine a source here has what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncJournal {
    pub machine: Id,
    /// What people call it.
    pub host: String,
    /// The source, here and there.
    pub source: RootName,
    /// The other machine's.
    pub snapshot: SnapshotId,
    /// Files that both changed: their path, and where the other's version was put. As long as that is
    /// there, nobody has decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<(RepoPath, RepoPath)>,
    /// Files that were not taken, because they have values that are sealed there, or are databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_taken: Vec<RepoPath>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPath {
    pub root: RootName,
    pub path: RepoPath,
}
