//! Records that are written together: an operation of which everything is known has one wait for the
//! disk instead of one per record.

use std::path::Path;

use super::kept::KeptSet;
use super::oplog::{Begin, End};
use super::snapshot::Snapshot;
use super::{Repository, layout};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::disk::storage;
use crate::model::manifest::Listing;

/// Records that become visible in the order in which they are added, all of them by
/// [`Batch::write`]. Each is what the method of [`Repository`] for one of them writes.
pub struct Batch<'r> {
    repo: &'r Repository,
    files: Vec<(String, Vec<u8>)>,
    snapshot: Option<Snapshot>,
}

impl Repository {
    /// Starts with no record.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            repo: self,
            files: Vec::new(),
            snapshot: None,
        }
    }
}

impl Batch<'_> {
    /// Adds a key frame, unless it exists; returns its name.
    ///
    /// # Errors
    /// It cannot be encoded, or the storage cannot be read.
    pub fn keyframe(&mut self, root: &str, path: &Path, entries: &Listing) -> Result<Digest> {
        let (id, bytes) = self.repo.encoded_keyframe(root, path, entries)?;
        let file = bytes.map(|bytes| (layout::key_frame(id), bytes));
        self.files.extend(file);
        Ok(id)
    }

    /// Adds the record of a set.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn kept_set(&mut self, set: &KeptSet) -> Result<()> {
        let bytes = self.repo.encoded(set)?;
        self.files.push((layout::kept_set(set.id), bytes));
        Ok(())
    }

    /// Adds the snapshot record.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Result<()> {
        let bytes = self.repo.encoded(&snapshot)?;
        self.files.push((snapshot.file_name(), bytes));
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Adds the begin record of an operation.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn begin(&mut self, begin: &Begin) -> Result<()> {
        let bytes = self.repo.encoded(begin)?;
        self.files.push((layout::begin(begin.id), bytes));
        Ok(())
    }

    /// Adds the end record of an operation.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn end(&mut self, end: &End) -> Result<()> {
        let bytes = self.repo.encoded_end(end)?;
        self.files.push((layout::end(end.id), bytes));
        Ok(())
    }

    /// Writes them; all are durable when it returns.
    ///
    /// # Errors
    /// The storage cannot be written; then the first ones may exist without the others.
    pub fn write(self) -> Result<()> {
        let Some((last, _)) = self.files.last() else {
            return Ok(());
        };
        storage::put_all(self.repo.storage(), &self.files)
            .map_err(|e| Error::storage("write", last, e))?;
        if let Some(snapshot) = &self.snapshot {
            self.repo.remember_newest(snapshot);
        }
        Ok(())
    }
}
