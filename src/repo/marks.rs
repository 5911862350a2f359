//! What the user adds to a snapshot after it was taken: tags, and whether to keep it
//! (`docs/format.md` §2.5).
//!
//! The record of a snapshot is never edited. Readers that do not know marks restore just as well.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Repository;
use super::record::{self, Record, check_id};
use crate::base::error::{Error, Result};
use crate::base::id::{Id, SnapshotId};
use crate::disk::storage;
use crate::repo::layout;

/// Tags and pin of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: SnapshotId,
    /// Its tags, which replace those of its record.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Prune never removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl Record for Mark {
    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)
    }
}

impl Repository {
    /// Returns the mark of a snapshot; `None` if it has none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn mark(&self, id: SnapshotId) -> Result<Option<Mark>> {
        let name = layout::mark(id);
        let bytes = match self.storage.read(&name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::storage("read", name, error)),
        };
        let mark: Mark = record::decode(&name, &bytes)?;
        if mark.repository != self.id || mark.id != id {
            return Err(Error::damaged(name, "it belongs to another snapshot"));
        }
        Ok(Some(mark))
    }

    /// Returns true if a snapshot was removed on purpose while an operation still names it.
    pub fn is_forgotten(&self, id: SnapshotId) -> bool {
        matches!(self.storage.size(&layout::forgotten(id)), Ok(Some(_)))
    }

    /// Notes that a snapshot is removed on purpose while an operation still names it.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn put_forgotten(&self, id: SnapshotId) -> Result<()> {
        let (name, bytes) = self.forgotten_note(id)?;
        storage::put(&*self.storage, &name, &bytes).map_err(|e| Error::storage("write", name, e))
    }

    /// Returns the name and the content of that note.
    ///
    /// # Errors
    /// It has no JSON form.
    pub fn forgotten_note(&self, id: SnapshotId) -> Result<(String, Vec<u8>)> {
        let mark = Mark {
            version: 1,
            repository: self.id,
            id,
            tags: Vec::new(),
            pinned: false,
        };
        Ok((layout::forgotten(id), record::encode(&mark)?))
    }

    /// Removes the notes about forgotten snapshots that are not in `named` (no operation names them
    /// any more) and are older than the newest backup.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn sweep_forgotten(
        &self,
        named: &HashSet<SnapshotId>,
        last_backup: Option<SnapshotId>,
    ) -> Result<()> {
        for name in self.names("marks")? {
            let id = name.strip_suffix(".forgotten.json");
            let id: Option<SnapshotId> = id.and_then(|id| id.parse().ok());
            if id.is_some_and(|id| Some(id) <= last_backup && !named.contains(&id)) {
                self.remove_if_there(&format!("marks/{name}"))?;
            }
        }
        Ok(())
    }

    /// Returns the snapshots with marks.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn marked(&self) -> Result<Vec<SnapshotId>> {
        let names = self.names("marks")?;
        let ids = names.iter().filter_map(|n| n.strip_suffix(".json"));
        Ok(ids.filter_map(|id| id.parse().ok()).collect())
    }

    /// Writes a mark in place of the previous one.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn put_mark(&self, mark: &Mark) -> Result<()> {
        let name = layout::mark(mark.id);
        let tags = mark.tags.iter().cloned();
        let mark = Mark {
            tags: tags.map(|tag| self.redacted_text(tag)).collect(),
            ..mark.clone()
        };
        storage::put(&*self.storage, &name, &record::encode(&mark)?)
            .map_err(|e| Error::storage("write", name, e))
    }
}
