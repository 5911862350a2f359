//! The snapshot records of a repository: their names, which have the order, and their content.

use std::collections::HashMap;
use std::sync::PoisonError;

use chrono::{DateTime, Utc};

use super::snapshot::Snapshot;
use super::{Repository, Snapshots, record};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id, SnapshotId};

impl Repository {
    /// Returns the file names of all snapshots, oldest first.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn snapshot_names(&self) -> Result<Vec<String>> {
        let names = self.names("snapshots")?;
        Ok(names
            .into_iter()
            .filter(|name| parse_snapshot_name(name).is_some())
            .map(|name| format!("snapshots/{name}"))
            .collect())
    }

    /// Returns the ids of all snapshots, oldest first, without reading them.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let names = self.names("snapshots")?;
        let parsed = names.iter().filter_map(|name| parse_snapshot_name(name));
        Ok(parsed.map(|(_, id)| id).collect())
    }

    /// Reads one snapshot record.
    ///
    /// # Errors
    /// It is missing, damaged, or of another repository.
    pub fn read_snapshot(&self, name: &str) -> Result<Snapshot> {
        self.read_checked(name, &|bytes| {
            let snapshot: Snapshot = record::decode(name, bytes)?;
            if snapshot.repository != self.id || snapshot.file_name() != name {
                return Err(Error::damaged(
                    name,
                    "it belongs to another repository or name",
                ));
            }
            self.check_bound(name, &snapshot, bytes)?;
            Ok(snapshot)
        })
    }

    /// Returns the SHA-256 of a snapshot record, which names everything in the snapshot by digests.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn record_digest(&self, name: &str) -> Result<Digest> {
        let bytes = self
            .storage
            .read(name)
            .map_err(|e| Error::storage("read", name, e))?;
        Ok(Digest::of(&bytes))
    }

    /// Returns all readable snapshots, oldest first; the others are in [`Repository::unreadable`].
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots: Vec<Snapshot> = self
            .snapshot_names()?
            .iter()
            .filter_map(|name| self.read_listed(name).ok().flatten())
            .collect();
        snapshots.sort_by_key(Snapshot::order);
        Ok(snapshots)
    }

    /// Returns all snapshots, each to be read on first use.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn all_snapshots(&self) -> Result<Snapshots<'_>> {
        Snapshots::new(self)
    }

    /// Returns the snapshot with an id.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let name = self.snapshot_name(id)?;
        let spec = || id.to_string();
        self.read_snapshot(&name.ok_or_else(|| Error::NoSuchSnapshot { spec: spec() })?)
    }

    /// Returns the name of the record of a snapshot; lists the repository only if it is not known, or
    /// not there any more.
    fn snapshot_name(&self, id: SnapshotId) -> Result<Option<String>> {
        let known = || {
            self.snapshots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let name = known().get(&id).cloned();
        if let Some(name) = name
            && matches!(self.storage.size(&name), Ok(Some(_)))
        {
            return Ok(Some(name));
        }
        let mut named: HashMap<SnapshotId, String> = HashMap::new();
        for name in self.snapshot_names()? {
            let own = name.strip_prefix("snapshots/");
            if let Some((_, id)) = own.and_then(parse_snapshot_name) {
                named.entry(id).or_insert(name);
            }
        }
        let name = named.get(&id).cloned();
        *known() = named;
        Ok(name)
    }

    /// Returns number and id for a new snapshot.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn next_snapshot(&self, now: DateTime<Utc>) -> Result<(u64, SnapshotId)> {
        let names = self.snapshot_names()?;
        let named = names
            .iter()
            .filter_map(|name| parse_snapshot_name(name.strip_prefix("snapshots/")?));
        // Skip impossible numbers, and the last possible one, which has no successor.
        let last = named.filter(|(seq, _)| *seq < record::MAX_COUNT).max();
        Ok((
            last.map_or(1, |(seq, _)| seq + 1),
            Id::after(last.map(|(_, id)| id), now),
        ))
    }
}

pub(super) fn parse_snapshot_name(name: &str) -> Option<(u64, SnapshotId)> {
    let (seq, id) = name.strip_suffix(".json")?.split_once('-')?;
    if seq.len() < 10 || !seq.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((seq.parse().ok()?, id.parse().ok()?))
}
