//! What prune removes from the repository: records at once, packs and key frames by way of
//! `trash/`.
//!
//! A name in the trash says when it was moved there. Until it is swept, anything that turns out to
//! be needed is moved back.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::index::DigestSet;
use super::packs::pack_id;
use super::{LOCK, RESERVE_BYTES, Repository, VERSION, parse_snapshot_name};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, OperationId, SnapshotId};
use crate::disk::fsutil::{self, Sharing};
use crate::disk::storage::{self, Hold};
use crate::repo::layout;

/// A file that can be moved to the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Pack(Digest),
    Keyframe(Digest),
}

impl Part {
    pub fn name(self) -> String {
        match self {
            Self::Pack(id) => layout::pack(id),
            Self::Keyframe(id) => layout::key_frame(id),
        }
    }

    fn file_name(self) -> String {
        let name = self.name();
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }

    fn parse(file_name: &str) -> Option<Self> {
        let keyframe = |name: &str| name.strip_suffix(".json.gz")?.parse().ok();
        pack_id(file_name)
            .map(Self::Pack)
            .or_else(|| keyframe(file_name).map(Self::Keyframe))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    pub part: Part,
    pub name: String,
    pub bytes: u64,
    /// When it was moved to the trash, in milliseconds since 1970.
    pub since: i64,
}

impl Repository {
    /// Makes sure that this program may prune the repository.
    ///
    /// # Errors
    /// It has a feature that a writer or prune must know.
    pub fn check_prunable(&self) -> Result<()> {
        self.check_writable()?;
        if self.prune_features.is_empty() {
            return Ok(());
        }
        Err(Error::NewerFormat {
            version: VERSION,
            supported: VERSION,
            features: format!(" without pruning `{}`", self.prune_features.join("`, `")),
        })
    }

    /// Runs `act`, a short step of prune, while nobody else writes. Waits up to `patience` for
    /// that.
    ///
    /// # Errors
    /// [`Error::Busy`] if others do not stop, or what `act` returns.
    pub fn alone<T>(&self, patience: Duration, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let _alone = self.locked(LOCK, Sharing::Alone, patience)?;
        act()
    }

    /// Takes the lock by which one prune keeps out another; `None` if the storage has no locks.
    ///
    /// # Errors
    /// [`Error::Busy`] if another prune has it, or if locking fails.
    pub fn prune_alone(&self) -> Result<Option<Hold>> {
        self.locked("lock-prune", Sharing::Alone, Duration::ZERO)
    }

    /// Returns true if a snapshot exists.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn has_snapshot(&self, seq: u64, id: SnapshotId) -> Result<bool> {
        let name = layout::snapshot(seq, id);
        let size = self.storage.size(&name);
        Ok(size.map_err(|e| Error::storage("read", name, e))?.is_some())
    }

    /// Returns number and id of all snapshots, oldest first, without reading them.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn snapshot_order(&self) -> Result<Vec<(u64, SnapshotId)>> {
        let names = self.names("snapshots")?;
        Ok(names
            .iter()
            .filter_map(|n| parse_snapshot_name(n))
            .collect())
    }

    /// Removes the records of snapshots and their marks: from now on they do not exist.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn remove_snapshots(&self, gone: &[(u64, SnapshotId)]) -> Result<()> {
        let names = gone.iter().map(|(seq, id)| layout::snapshot(*seq, *id));
        self.remove_all(&names.collect::<Vec<_>>(), "snapshots")?;
        let marks = gone.iter().map(|(_, id)| layout::mark(*id));
        self.remove_all(&marks.collect::<Vec<_>>(), "marks")
    }

    /// Removes the records of operations.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn remove_operations(&self, ids: &[OperationId]) -> Result<()> {
        // Begin records go first: an end alone is no operation, but a begin alone would look
        // interrupted.
        for part in ["begin", "end"] {
            let names = ids.iter().map(|id| layout::operation(*id, part));
            self.remove_all(&names.collect::<Vec<_>>(), "operations")?;
        }
        Ok(())
    }

    fn remove_all(&self, names: &[String], what: &str) -> Result<()> {
        let done = self.storage.remove_all(names);
        done.map_err(|e| Error::storage("remove", what, e))
    }

    /// Returns operations of which only the end is left, because their removal was interrupted.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn orphan_ends(&self) -> Result<Vec<OperationId>> {
        let names = self.names("operations")?;
        let begun: HashSet<&str> = names
            .iter()
            .filter_map(|n| n.strip_suffix(".begin.json"))
            .collect();
        let ended = names.iter().filter_map(|n| n.strip_suffix(".end.json"));
        Ok(ended
            .filter(|id| !begun.contains(id))
            .filter_map(|id| id.parse().ok())
            .collect())
    }

    pub(super) fn remove_if_there(&self, name: &str) -> Result<()> {
        match self.storage.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::storage("remove", name, e)),
        }
    }

    /// Moves a file to the trash. If it is gone already, that is fine.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn throw_away(&self, part: Part, now: DateTime<Utc>) -> Result<()> {
        let name = part.name();
        let to = format!("trash/{}-{}", now.timestamp_millis(), part.file_name());
        match self.storage.rename(&name, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::storage("move", name, e)),
        }
    }

    /// Returns what is in the trash, oldest first.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn trash(&self) -> Result<Vec<Trashed>> {
        let listed = self.storage.list("trash");
        let listed = listed.map_err(|e| Error::storage("list", "trash", e))?;
        let mut found: Vec<Trashed> = listed
            .into_iter()
            .filter_map(|file| {
                let (since, rest) = file.name.split_once('-')?;
                Some(Trashed {
                    part: Part::parse(rest)?,
                    since: since.parse().ok()?,
                    name: format!("trash/{}", file.name),
                    bytes: file.bytes,
                })
            })
            .collect();
        found.sort_by_key(|trashed| (trashed.since, trashed.part));
        Ok(found)
    }

    /// Returns the place of a file in the trash, so that a reader still finds what was removed a
    /// moment ago.
    pub(super) fn in_trash(&self, part: Part) -> Option<String> {
        let file_name = part.file_name();
        let names = self.storage.names("trash").ok()?;
        let found = names.into_iter().rev().find(|name| {
            let rest = name.split_once('-').map(|(_, rest)| rest);
            rest == Some(file_name.as_str())
        })?;
        Some(format!("trash/{found}"))
    }

    /// Returns the current name of a file: its own, or that in the trash.
    pub(super) fn part_name(&self, part: Part) -> String {
        let name = part.name();
        match self.storage.size(&name) {
            Ok(None) => self.in_trash(part).unwrap_or(name),
            _ => name,
        }
    }

    /// Moves a file from the trash back to its place.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn take_back(&self, trashed: &Trashed) -> Result<()> {
        let done = self.storage.rename(&trashed.name, &trashed.part.name());
        done.map_err(|e| Error::storage("move", &trashed.name, e))
    }

    /// Makes sure that a file is in its place, if necessary by moving it back from the trash.
    ///
    /// # Errors
    /// [`Error::Busy`] if it was swept already, or the storage cannot be written.
    pub fn take_back_part(&self, part: Part) -> Result<()> {
        let name = part.name();
        let there = self.storage.size(&name);
        if there
            .map_err(|e| Error::storage("read", &name, e))?
            .is_some()
        {
            return Ok(());
        }
        let Some(from) = self.in_trash(part) else {
            return Err(Error::Busy {
                holder: " by prune".to_owned(),
            });
        };
        let done = self.storage.rename(&from, &name);
        done.map_err(|e| Error::storage("move", from, e))
    }

    /// Deletes files from the trash for good.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn sweep(&self, due: &[&Trashed]) -> Result<()> {
        let names: Vec<String> = due.iter().map(|trashed| trashed.name.clone()).collect();
        self.remove_all(&names, "trash")
    }

    /// Removes packs in the trash from the index: what they contained is not missing, but unneeded.
    pub fn forget_packs(&self, gone: &DigestSet) {
        let index = self.index();
        if gone.is_empty() || !gone.iter().any(|id| index.knows(*id)) {
            return;
        }
        let index = std::sync::Arc::new(index.without(gone));
        if fsutil::create_dir_private(&self.cache).is_ok() {
            // Derived: a failure only costs time.
            let _ = index.save(&self.index_path());
        }
        if let Ok(mut place) = self.index.write() {
            *place = Some(index);
        }
    }

    /// Deletes the reserve to make room on a full disk.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn release_reserve(&self) -> Result<()> {
        self.remove_if_there("reserve")
    }

    /// Restores the reserve if it is gone and there is space.
    pub fn restock_reserve(&self) {
        if matches!(self.storage.size("reserve"), Ok(None)) {
            // Optional: without it, the next full disk has a little less room.
            let _ = storage::put(&*self.storage, "reserve", &[0; RESERVE_BYTES]);
        }
    }
}
