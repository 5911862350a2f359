//! Records that are listed and cannot be read. None is skipped in silence: whoever lists records
//! learns of it, because the one that cannot be read may be the one that is meant.

use std::sync::PoisonError;

use super::oplog::{Begin, End};
use super::snapshot::Snapshot;
use super::{Repository, layout, record};
use crate::base::error::{Error, Result};
use crate::base::id::OperationId;

impl Repository {
    /// Notes that something of what was to be read cannot be, so that no answer passes for whole.
    pub(crate) fn note_lost(&self, name: &str, reason: String) {
        if let Ok(mut unreadable) = self.unreadable.lock() {
            unreadable.insert(name.to_owned(), reason);
        }
    }

    /// Reads a snapshot record from a listing; `None` if another process removed it since.
    ///
    /// # Errors
    /// Why it cannot be read, which is also added to [`Repository::unreadable`].
    pub(super) fn read_listed(&self, name: &str) -> std::result::Result<Option<Snapshot>, String> {
        self.listed(name, self.read_snapshot(name))
    }

    /// Notes a listed record that cannot be read; `None` if another process removed it since.
    pub(super) fn listed<T>(
        &self,
        name: &str,
        read: Result<T>,
    ) -> std::result::Result<Option<T>, String> {
        let reason = match read {
            Ok(record) => return Ok(Some(record)),
            Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(Error::Damaged { reason, .. }) => reason,
            Err(Error::Storage { source, .. }) => source.to_string(),
            Err(other) => other.to_string(),
        };
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unreadable.insert(name.to_owned(), reason.clone());
        Err(reason)
    }

    /// Returns the records that this handle and its clones listed but could not read, by name, with
    /// the reason.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unreadable
            .iter()
            .map(|(name, reason)| (name.clone(), reason.clone()))
            .collect()
    }

    /// Removes an unreadable record, and for an operation both of its records.
    ///
    /// # Errors
    /// It can be read, or the storage cannot be written.
    pub fn remove_unreadable(&self, name: &str) -> Result<()> {
        self.take_unreadable(name, &|part| self.remove_if_there(part))
    }

    /// Takes a record away that cannot be read, by `take`. The beginning of an operation goes first: an end alone is no operation.
    pub(super) fn take_unreadable(
        &self,
        name: &str,
        take: &dyn Fn(&str) -> Result<()>,
    ) -> Result<()> {
        self.check_writable()?;
        let is_read = match name.rsplit_once('.').map_or(name, |(stem, _)| stem) {
            _ if name.starts_with("snapshots/") => self.read_snapshot(name).is_ok(),
            stem if stem.ends_with(".begin") => self.read_record::<Begin>(name).is_ok(),
            stem if stem.ends_with(".end") => self.read_record::<End>(name).is_ok(),
            _ => self.storage.read(name).is_ok_and(|b| record::is_whole(&b)),
        };
        if is_read {
            return Err(Error::invalid(
                format!("`{name}` can be read"),
                Some("bdr list"),
            ));
        }
        take(name)?;
        if let Some(id) = name.strip_suffix(".begin.json") {
            take(&format!("{id}.end.json"))?;
        }
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unreadable.remove(name);
        Ok(())
    }

    /// Makes sure that every record as new as `id`, or every one at all, could be read: which
    /// operation is the newest, and which are undone, depends on all of them.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn check_log(&self, id: Option<OperationId>) -> Result<()> {
        let is_newer = |name: &str| {
            layout::operation_of(name).is_some_and(|other| id.is_none_or(|id| other >= id))
        };
        let bad = self.unreadable().into_iter().rev();
        match bad.into_iter().find(|(name, _)| is_newer(name)) {
            Some((name, reason)) => Err(Error::Unreadable { name, reason }),
            None => Ok(()),
        }
    }
}
