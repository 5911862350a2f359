//! The history of a repository that is at another path than before.
//!
//! What a verification found is true of the repository, wherever somebody moves it, so its memory
//! is looked for by the repository's id where its path has none. Nothing is written until the next
//! run: then the history moves along. If a repository with the same id is still at the old path,
//! one of them is a copy, and each has its own history from then on.
//!
//! Whoever names a new place before the move (`bdr config set repository NEW`, then `mv`) still has
//! the repository at the old one: it is used there meanwhile. A new one made at the new place would
//! be in the way of the move.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{EXCLUDED, Journal, MEMORY, Memory, OLD_RUNS, RUNS, dir_of};
use crate::base::error::Result;
use crate::base::id::Id;
use crate::base::path::RawName;
use crate::disk::fsutil;
use crate::repo;

/// The file that says where a repository will come from.
const AWAITED: &str = "awaited.json";

/// Which repository a memory is about, and where that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    pub repository: Id,
    path: RawName,
}

impl Of {
    pub(super) fn new(repository: Id, path: &Path) -> Self {
        Self {
            repository,
            path: RawName::from(path),
        }
    }
}

pub(super) fn await_from(journal: &Journal, old: &Path) -> Result<()> {
    let Some(repository) = repo::id_at(old) else {
        return Ok(());
    };
    fsutil::create_dir_private(&journal.dir)?;
    // Only strings: cannot fail.
    let json = serde_json::to_vec(&Of::new(repository, old)).unwrap_or_default();
    fsutil::write_derived(&journal.dir.join(AWAITED), &json)
}

pub(super) fn awaited_from(journal: &Journal) -> Option<PathBuf> {
    if journal.repository.join("format.json").exists() {
        return None;
    }
    let json = fsutil::read_derived(&journal.dir.join(AWAITED))?;
    let of: Of = serde_json::from_slice(&json).ok()?;
    let old = of.path.as_path();
    (repo::id_at(old) == Some(of.repository)).then(|| old.to_path_buf())
}

pub(super) struct Found {
    /// Where the history is; `None` if there is none of this repository.
    pub(super) dir: Option<PathBuf>,
    pub(super) memory: Memory,
    /// The repository that is there now, unless it is away.
    pub(super) repository: Option<Id>,
    /// Another repository, of which the history in this path's directory is.
    other: Option<Id>,
}

/// Finds the memory of a repository: by its path, or else by its id.
pub(super) fn find(journal: &Journal) -> Found {
    let repository = repo::id_at(&journal.repository);
    let own = read(&journal.dir);
    let of = own.as_ref().and_then(|memory| memory.of.as_ref());
    let other = of
        .map(|of| of.repository)
        .filter(|of| repository.is_some_and(|repository| repository != *of));
    let own = own.filter(|_| other.is_none());
    let own = own.map(|memory| (journal.dir.clone(), memory));
    let found = own.or_else(|| elsewhere(journal, repository?));
    let (dir, memory) = found.unzip();
    Found {
        dir,
        memory: memory.unwrap_or_default(),
        repository,
        other,
    }
}

fn read(dir: &Path) -> Option<Memory> {
    let bytes = std::fs::read(dir.join(MEMORY)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns what was written last about a repository under another path.
fn elsewhere(journal: &Journal, repository: Id) -> Option<(PathBuf, Memory)> {
    let entries = fsutil::read_dir(&journal.state).ok()?.flatten();
    let dirs = entries.map(|entry| entry.path());
    let found = dirs.filter(|dir| *dir != journal.dir).filter_map(|dir| {
        let memory = read(&dir)?;
        let fits = memory.of.as_ref()?.repository == repository;
        fits.then_some((fsutil::changed_at(&dir.join(MEMORY)), dir, memory))
    });
    let newest = found.max_by_key(|(time, ..)| *time);
    newest.map(|(_, dir, memory)| (dir, memory))
}

/// Brings the history into the directory of the repository's path. A part that cannot be brought is
/// lost, as if it could not be read.
pub(super) fn carry(journal: &Journal, found: &Found) {
    if let Some(other) = found.other {
        // It was here before, and may be somewhere else now: found there by its id.
        let aside = dir_of(&journal.state, other.to_string().as_bytes());
        hand_over(&journal.dir, &aside, true);
    }
    let Some(from) = found.dir.as_ref().filter(|dir| **dir != journal.dir) else {
        return;
    };
    let of = found.memory.of.as_ref();
    let moved = of.is_none_or(|of| repo::id_at(of.path.as_path()) != Some(of.repository));
    hand_over(from, &journal.dir, moved);
}

fn hand_over(from: &Path, to: &Path, moved: bool) {
    if fsutil::create_dir_private(to).is_err() {
        return;
    }
    // The memory comes last: as long as it is where it was, all of it is looked for there.
    for name in [OLD_RUNS, RUNS, EXCLUDED, MEMORY] {
        let (from, to) = (from.join(name), to.join(name));
        if moved {
            let _ = fsutil::rename(&from, &to);
        } else if let Some(bytes) = fsutil::read_derived(&from) {
            let _ = fsutil::write_derived(&to, &bytes);
        }
    }
}
