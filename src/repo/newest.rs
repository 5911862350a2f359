//! Which snapshots were the newest, so that a deleted record is missed.
//!
//! There are three clues. A derived file in the cache says what was committed last; each record
//! names the backup before it; and the last operation names the snapshot that it needs. So later
//! records reveal a missing one even without the cache. A removal on purpose is noted
//! (`marks/ID.forgotten.json`) for as long as anything could miss the snapshot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::Repository;
use super::oplog::Begin;
use super::snapshot::{Named, Snapshot};
use crate::base::id::Digest;
use crate::base::path::os_to_bytes;
use crate::disk::fsutil;
use crate::repo::layout;

/// The last snapshots committed by the users of this cache.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Newest {
    any: Option<Named>,
    /// The last backup, as opposed to a guard's snapshot.
    backup: Option<Named>,
}

/// How many copies of a repository are remembered.
const MOST_PLACES: usize = 16;

/// Reason for a record that is missing.
pub(crate) const MISSING: &str = "it is missing, though nobody removed it";

impl Repository {
    fn newest_path(&self) -> PathBuf {
        self.cache().join("newest.json")
    }

    /// Returns what is known by the repository's location: copies share a cache, but may be older.
    fn all_newest(&self) -> BTreeMap<String, Newest> {
        let json = fsutil::read_derived(&self.newest_path()).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    fn own_place(&self) -> String {
        let place = os_to_bytes(self.location().as_os_str());
        Digest::of(&place).to_hex()[..16].to_owned()
    }

    fn newest(&self) -> Newest {
        self.all_newest()
            .remove(&self.own_place())
            .unwrap_or_default()
    }

    /// Returns the newest backup according to the cache, without listing the repository.
    pub(crate) fn last_backup(&self) -> Option<Named> {
        self.newest().backup
    }

    pub(super) fn remember_newest(&self, snapshot: &Snapshot) {
        let own = Some(snapshot.named());
        let mut all = self.all_newest();
        if all.len() > MOST_PLACES {
            all.clear();
        }
        let newest = all.entry(self.own_place()).or_default();
        newest.any = newest.any.max(own);
        if snapshot.is_backup() {
            newest.backup = newest.backup.max(own);
        }
        let json = serde_json::to_vec(&all).unwrap_or_default();
        // Derived: without it, fewer losses are noticed.
        let _ = fsutil::create_dir_private(self.cache())
            .and_then(|()| fsutil::write_derived(&self.newest_path(), &json));
    }

    /// Returns the snapshot that the last operation needs, if it is newer than the newest existing
    /// one. Its number is the next.
    fn before_last_operation(&self, last: Option<Named>) -> Option<Named> {
        let operation = self.operation_ids().ok()?.pop()?;
        let name = layout::begin(operation);
        let id = self.read_record::<Begin>(&name).ok()?.before?;
        let seq = last.map_or(0, |last| last.seq) + 1;
        (last.is_none_or(|last| id > last.id)).then_some(Named { seq, id })
    }

    /// Notes missing records newer than `last` and `last_backup`, the newest existing ones, if the
    /// cache says that they were written, or `named` does: the backups that newer records name as
    /// their predecessor. From then on they are in [`Repository::unreadable`].
    pub(crate) fn notice_missing(
        &self,
        last: Option<Named>,
        last_backup: Option<Named>,
        named: impl Iterator<Item = Named>,
    ) -> Vec<Named> {
        let newest = self.newest();
        let any = newest.any.filter(|any| Some(*any) > last);
        let any = any.or_else(|| self.before_last_operation(last));
        let backups = newest.backup.into_iter().chain(named);
        let backups = backups.filter(|backup| Some(*backup) > last_backup);
        // Another process may have written it since the listing.
        let mut missing: Vec<Named> = any.into_iter().chain(backups).collect();
        if missing.is_empty() {
            return missing;
        }
        let there = self.snapshot_ids();
        let is_there = |one: &Named| there.as_ref().map_or(true, |ids| ids.contains(&one.id));
        missing.retain(|one| !is_there(one) && !self.is_forgotten(one.id));
        missing.sort();
        missing.dedup();
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for one in &missing {
            unreadable.insert(one.file_name(), MISSING.to_owned());
        }
        missing
    }
}
