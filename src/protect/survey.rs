//! Finds out what is new in the roots before anything is read: walks them against the states,
//! follows symlinks, applies budgets.

use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::disk::sqlite;
use crate::model::rules::Root;
use crate::protect::options::BackupOptions;
use crate::protect::walk::Dirty;
use crate::repo::Repository;

pub(crate) mod links;
mod reopen;
mod roots;
mod sealed;

pub(crate) use reopen::root_of;
pub(crate) use roots::{
    RootRun, apply_budget, is_damaged, is_kept_in, look_around, lost_sets, mark_all, mark_lost,
    paths_of, roots_of, spare_untouched, state_path,
};
pub use sealed::SealedSummary;

/// Walks roots as a guard would, without capturing anything.
pub(crate) fn survey(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
) -> Result<Vec<RootRun>> {
    let never = repo.untouchable(&options.never);
    let mut runs = Vec::new();
    for root in roots {
        look_around(repo, root, options, &never, &mut runs)?;
    }
    if options.follow_links {
        links::follow(repo, &mut runs, options, &never)?;
    }
    for run in &mut runs {
        apply_budget(run, options)?;
    }
    Ok(runs)
}

/// Returns the SQLite database that a dirty file is or belongs to.
pub(crate) fn database_for(run: &RootRun, dirty: &Dirty) -> Option<RepoPath> {
    let handle = run.handle.as_ref()?;
    let is_database = |path: &RepoPath| {
        let mut magic = [0; 16];
        handle.open_file(path).is_ok_and(|mut file| {
            std::io::Read::read_exact(&mut file, &mut magic).is_ok() && magic == *sqlite::MAGIC
        })
    };
    let parent = dirty.path.parent()?;
    if let Some(base) = sqlite::database_of(dirty.path.name()) {
        let base = parent.join(base);
        return is_database(&base).then_some(base);
    }
    // Databases consist of pages of at least 512 bytes, so no other file has to be opened to find
    // out.
    (dirty.stat.size >= 512 && dirty.stat.size.is_multiple_of(512) && is_database(&dirty.path))
        .then(|| dirty.path.clone())
}
