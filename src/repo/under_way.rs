//! What a restore that is cut off leaves in the user's directories: temporary files, found again by a note of where it was about to write.
//!
//! The note lies in the cache from before the first write to after the last. Whoever restores next reads the notes of those that are gone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Repository;
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::target::{Fidelity, Target};
use crate::disk::fsutil::{self, OwnTree};

/// Where somebody is writing.
#[derive(Serialize, Deserialize)]
struct Note {
    pid: u32,
    dirs: BTreeSet<RawName>,
}

/// A note that is there as long as its work is under way.
pub(crate) struct UnderWay(Option<PathBuf>);

impl UnderWay {
    /// Notes the directories where work is about to write. Not being able to keeps nobody from restoring.
    pub(crate) fn begin(repo: &Repository, dirs: BTreeSet<RawName>) -> Self {
        let dir = notes_of(repo.cache());
        let pid = std::process::id();
        let note = Note { pid, dirs };
        let path = dir.join(format!("{pid}.json"));
        let json = serde_json::to_vec(&note).unwrap_or_default();
        // On the disk before the first file that it is about: power may fail.
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

/// Removes what those left that are gone.
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
