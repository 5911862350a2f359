//! What an undo knows about the version control repositories in a root.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::path::RepoPath;
use crate::disk::vcs::Repositories;

#[derive(Default)]
pub(super) struct Found {
    pub(super) repositories: Repositories,
    /// Directories that can only be restored as a whole and that changed since: nothing in them is
    /// touched.
    pub(super) held: Vec<RepoPath>,
    /// Repositories that the operation created and nobody touched since: they are removed whole.
    pub(super) whole: Vec<RepoPath>,
    /// Whether the packed refs of a git directory have changed since the operation.
    pub(super) packed_moved: HashMap<PathBuf, bool>,
}

impl Found {
    /// Returns true if a path must not be touched.
    pub(super) fn holds(&self, path: &RepoPath) -> bool {
        self.held.iter().any(|top| path.starts_with(top))
    }

    /// Returns true if a path is in a repository: nothing may be written beside it there.
    pub(super) fn is_inside(&self, path: &Path) -> bool {
        self.repositories.around(path).is_some()
    }
}
