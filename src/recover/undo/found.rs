//! What an undo knows of the repositories of version control in a root.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::path::RepoPath;
use crate::disk::vcs::Repositories;

/// What is known of the repositories in a root.
#[derive(Default)]
pub(super) struct Found {
    pub(super) repositories: Repositories,
    /// What goes back as one or not at all, and moved on since: nothing of it is touched.
    pub(super) held: Vec<RepoPath>,
    /// Repositories that the operation made and nothing touched since: they go, content and all.
    pub(super) whole: Vec<RepoPath>,
    /// By git directory: its packed refs are not as the operation left them.
    pub(super) packed_moved: HashMap<PathBuf, bool>,
}

impl Found {
    /// Returns true if nothing at a path is to be touched.
    pub(super) fn holds(&self, path: &RepoPath) -> bool {
        self.held.iter().any(|top| path.starts_with(top))
    }

    /// Returns true if a path lies in a repository: nothing is written beside it.
    pub(super) fn is_inside(&self, path: &Path) -> bool {
        self.repositories.around(path).is_some()
    }
}
