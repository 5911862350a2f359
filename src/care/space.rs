//! What bdr takes on this machine besides the repository: its trash, what guards keep in staging
//! areas, and lifeboats.
//!
//! A hard link takes no space while its file has another name, so what is counted here is what a
//! removal would free.

use std::path::{Path, PathBuf};

use crate::base::error::Result;
use crate::disk::fsutil;
use crate::disk::storage::Lifeboat;
use crate::repo::Repository;

/// In bytes, place by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// In the trash of the repository: deleted for good after a day.
    pub trash: u64,
    /// In staging areas, to be packed.
    pub staging: u64,
    /// In staging areas, for as long as a snapshot needs it.
    pub kept: u64,
    /// In the lifeboat of this repository: copies, and files that the repository no longer has.
    pub lifeboat: u64,
    /// In lifeboats of repositories that are gone.
    pub left: u64,
}

/// A lifeboat, or a part of one, whose repository is gone.
#[derive(Debug)]
pub struct Left {
    pub repository: PathBuf,
    pub path: PathBuf,
    /// Bytes that its removal would free.
    pub bytes: u64,
    lifeboat: Lifeboat,
    /// The part of an earlier repository at the same place; `None` for all of it.
    part: Option<String>,
}

impl Left {
    /// Removes it: from then on the repository cannot be restored.
    ///
    /// # Errors
    /// It is not this user's alone, or something in it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match &self.part {
            Some(part) => self.lifeboat.remove_earlier(part),
            None => self.lifeboat.remove(),
        }
    }
}

/// Returns the lifeboats of repositories that were deleted or moved. `current` is the repository in
/// use: if it is missing, the next call restores it. A repository whose disk is away is not gone.
pub fn left(lifeboats: &Path, current: &Path) -> Vec<Left> {
    let mut all = Vec::new();
    for (lifeboat, about) in Lifeboat::all(lifeboats) {
        let repository = about.repository.as_path().to_path_buf();
        for (part, bytes) in lifeboat.earlier() {
            all.push(Left {
                repository: repository.clone(),
                path: lifeboat.dir().join(&part),
                bytes,
                lifeboat: lifeboat.clone(),
                part: Some(part),
            });
        }
        if repository != current && lifeboat.is_left() {
            all.push(Left {
                path: lifeboat.dir().to_path_buf(),
                bytes: lifeboat.own_bytes(),
                repository,
                lifeboat,
                part: None,
            });
        }
    }
    all
}

/// Counts all of it.
///
/// # Errors
/// The trash cannot be listed.
pub fn space(repo: &Repository, lifeboats: Option<&Path>) -> Result<Space> {
    let mut space = Space {
        trash: repo.trash()?.iter().map(|trashed| trashed.bytes).sum(),
        ..Space::default()
    };
    // `verify` reports sets with unreadable records.
    for set in repo.kept_sets().unwrap_or_default() {
        let bytes = only_here(set.area.as_path());
        match set.pack {
            true => space.staging += bytes,
            false => space.kept += bytes,
        }
    }
    if let Some(lifeboats) = lifeboats {
        space.lifeboat = Lifeboat::new(lifeboats, repo.location()).own_bytes();
        let left = left(lifeboats, repo.location());
        space.left = left.iter().map(|left| left.bytes).sum();
    }
    Ok(space)
}

/// Returns the bytes of the files below a directory that have no hard link elsewhere.
fn only_here(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else {
        return 0;
    };
    if found.is_dir() {
        let entries = fsutil::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| only_here(&entry.path())).sum();
    }
    match fsutil::has_another_name(path, Path::new("")) {
        true => 0,
        false => found.len(),
    }
}
