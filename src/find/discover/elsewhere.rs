//! Directories of HOME that are in no source, although a user may believe that they are backed up.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::base::path::RepoPath;
use crate::disk::fsutil;
use crate::model::config::Source;
use crate::model::rules::Matcher;

/// A directory of HOME that no source covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    pub path: PathBuf,
    /// Git repositories in it, up to three levels down.
    pub repositories: u32,
    /// Those with uncommitted work.
    pub uncommitted: u32,
}

/// Directories that systems and tools make, and whose content can be downloaded again.
const COMMON: &[&str] = &[
    "Applications",
    "AppData",
    "Desktop",
    "Downloads",
    "Library",
    "Movies",
    "Music",
    "Pictures",
    "Public",
    "Templates",
    "Videos",
    "anaconda3",
    "go",
    "miniconda3",
    "miniforge3",
    "node_modules",
    "perl5",
    "R",
    "snap",
    "venv",
];

/// How many are named: more would not help.
const MOST: usize = 8;
/// Entries read in one directory, and repositories checked for uncommitted work: `bdr status` must
/// answer at once.
const ENTRIES: usize = 2_000;
const REPOSITORIES: u32 = 10;
/// A larger index, in bytes, is not compared with its files.
const LARGE_INDEX: u64 = 4 << 20;

/// Returns the directories right below `home` that no source covers, not even in part, with what is
/// in them. Hidden ones are settings, for which [`super::uncovered`] exists; empty ones and those
/// that tools make do not count. `chosen` are in no source on purpose.
#[must_use]
pub fn elsewhere(
    home: &Path,
    sources: &[Source],
    never: &[PathBuf],
    chosen: &[PathBuf],
) -> Vec<Elsewhere> {
    let Ok(list) = fsutil::read_dir(home) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = list
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !name.starts_with('.') && !COMMON.contains(&&*name)
        })
        .map(|entry| entry.path())
        .filter(|dir| {
            !never
                .iter()
                .any(|own| own.starts_with(dir) || dir.starts_with(own))
        })
        .filter(|dir| !chosen.iter().any(|one| dir.starts_with(one)))
        .filter(|dir| !sources.iter().any(|source| is_touched(source, dir)))
        .filter(|dir| fsutil::read_dir(dir).is_ok_and(|mut list| list.next().is_some()))
        .collect();
    dirs.sort();
    dirs.truncate(MOST);
    dirs.into_iter().map(look).collect()
}

/// Returns true if a source has the directory, or something in it: then somebody has chosen.
fn is_touched(source: &Source, dir: &Path) -> bool {
    if source.path.starts_with(dir) {
        return true;
    }
    let Some(below) = RepoPath::below(&source.path, dir) else {
        return false;
    };
    let includes_in_it = source.rules.include.iter().any(|pattern| {
        let pattern = pattern.trim_start_matches('/');
        source.path.join(pattern).starts_with(dir)
    });
    // In a source without `include`, somebody excluded what it does not cover.
    source.rules.include.is_empty()
        || includes_in_it
        || Matcher::new(&source.rules).is_ok_and(|matcher| matcher.covers(&below))
}

fn look(path: PathBuf) -> Elsewhere {
    let mut found = Elsewhere {
        path,
        repositories: 0,
        uncommitted: 0,
    };
    let mut walk = WalkDir::new(&found.path).max_depth(3).into_iter();
    let mut entries = 0;
    let mut repositories = Vec::new();
    while let Some(entry) = walk.next() {
        entries += 1;
        if entries > ENTRIES {
            break;
        }
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_dir() && entry.path().join(".git").symlink_metadata().is_ok() {
            repositories.push(entry.path().to_path_buf());
            walk.skip_current_dir();
        } else if entry.file_type().is_dir() && entry.file_name() == "node_modules" {
            walk.skip_current_dir();
        }
    }
    found.repositories = u32::try_from(repositories.len()).unwrap_or(u32::MAX);
    for path in repositories.iter().take(REPOSITORIES as usize) {
        found.uncommitted += u32::from(has_own_work(path));
    }
    found
}

/// Returns true if a work tree has uncommitted changes. Runs nothing of the repository, and changes
/// nothing in it.
fn has_own_work(path: &Path) -> bool {
    let flags = git2::RepositoryOpenFlags::NO_SEARCH;
    let none: [&Path; 0] = [];
    let Ok(repository) = git2::Repository::open_ext(path, flags, none) else {
        return false;
    };
    let index = repository.path().join("index");
    if index.metadata().is_ok_and(|seen| seen.len() > LARGE_INDEX) {
        return false;
    }
    let mut options = git2::StatusOptions::new();
    options
        .include_untracked(true)
        .exclude_submodules(true)
        .update_index(false)
        .include_unreadable(false);
    repository
        .statuses(Some(&mut options))
        .is_ok_and(|statuses| !statuses.is_empty())
}
