//! What an interrupted restore leaves in the user's directories: temporary files, found by a note
//! of where it was going to write.
//!
//! The note is in the cache from before the first write until after the last. The next restore
//! reads the notes of processes that are gone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Repository;
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::target::{Fidelity, Target};
use crate::disk::fsutil::{self, OwnTree};

#[derive(Serialize, Deserialize)]
struct Note {
    pid: u32,
    dirs: BTreeSet<RawName>,
}

/// A note that exists while its work is in progress.
pub(crate) struct UnderWay(Option<PathBuf>);

impl UnderWay {
    /// Notes the directories that the work is going to write to. A failure must not prevent a
    /// restore.
    pub(crate) fn begin(repo: &Repository, dirs: BTreeSet<RawName>) -> Self {
        let dir = notes_of(repo.cache());
        let pid = std::process::id();
        let note = Note { pid, dirs };
        let path = dir.join(format!("{pid}.json"));
        let json = serde_json::to_vec(&note).unwrap_or_default();
        // Durable before the first file that it is about, in case of a power failure.
        let written = fsutil::create_dir_private(&dir)
            .and_then(|()| fsutil::write_atomic(&path, &json, 0o600));
        Self(written.is_ok().then_some(path))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fsutil::remove_file(path);
        }
    }
}

fn notes_of(cache: &Path) -> PathBuf {
    cache.join("under-way")
}

/// Removes temporary files of processes that are gone.
pub(crate) fn sweep(repo: &Repository) {
    let notes = notes_of(repo.cache());
    if OwnTree::left_in(repo.cache(), OsStr::new("under-way")).is_none() {
        return;
    }
    for entry in fsutil::read_dir(&notes).into_iter().flatten().flatten() {
        let path = entry.path();
        let note = fsutil::read_derived(&path);
        let note: Option<Note> = note.and_then(|json| serde_json::from_slice(&json).ok());
        let is_gone = note
            .as_ref()
            .is_none_or(|note| note.pid == std::process::id() || !fsutil::process_runs(note.pid));
        if !is_gone {
            continue;
        }
        for dir in note.iter().flat_map(|note| &note.dirs) {
            if let Ok(mut target) = Target::open(dir.as_path(), Fidelity::Elsewhere) {
                target.sweep(&RepoPath::root());
            }
        }
        let _ = fsutil::remove_file(&path);
    }
}
