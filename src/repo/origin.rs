//! Who made a snapshot or recorded an operation: bound to this machine's key, to another key, or to
//! none.
//!
//! If a record claims to be bound by this machine but does not verify, it is damaged: somebody with
//! write access changed it, checksum included. Like any damaged record it is healed from the
//! lifeboat, and is never used.

use serde::Serialize;

use super::Repository;
use super::record::{self, Record};
use crate::base::error::{Error, Result};
use crate::base::id::Id;
use crate::disk::storage;
use crate::disk::vault::{Bound, KeyName};
use crate::repo::snapshot::Snapshot;
use crate::repo::summaries::Summary;

/// Who made a snapshot or recorded an operation, as far as we can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// This machine, and the record is unchanged.
    Here,
    /// Unknown: from before this machine bound its records.
    Before,
    /// Another key: another machine, or this one before it lost its key.
    Elsewhere,
    /// Unknown, although this machine had its key by then: an older bdr, an unavailable key, or a
    /// record made by hand.
    Unbound,
}

impl Origin {
    /// Returns the word for documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Elsewhere => "elsewhere",
            Self::Before => "before",
            Self::Unbound => "unbound",
        }
    }
}

/// Determines who made the snapshots of a repository.
#[derive(Debug, Clone)]
pub struct Origins {
    /// The key of this machine, if it has one.
    pub own: Option<KeyName>,
    /// Why the key is not used.
    pub refused: Option<String>,
    /// The first snapshot that it bound.
    since: Option<u64>,
}

impl Origins {
    fn new(
        own: Result<Option<KeyName>>,
        keys: impl Iterator<Item = (u64, Option<KeyName>)>,
    ) -> Self {
        let (own, refused) = match own {
            Ok(own) => (own, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let bound = keys.filter(|(_, key)| own.is_some() && *key == own);
        let since = bound.map(|(seq, _)| seq).min();
        Self {
            own,
            refused,
            since,
        }
    }

    pub fn of(&self, summary: &Summary) -> Origin {
        self.by_key(summary.seq, summary.key)
    }

    fn by_key(&self, seq: u64, key: Option<KeyName>) -> Origin {
        let since = self.since.unwrap_or(u64::MAX);
        match key {
            Some(key) if Some(key) == self.own => Origin::Here,
            Some(_) => Origin::Elsewhere,
            None if seq < since => Origin::Before,
            None => Origin::Unbound,
        }
    }

    /// Returns true if a snapshot may be used in place of this machine's own: this machine made it,
    /// or no clue says otherwise.
    pub fn counts(&self, summary: &Summary) -> bool {
        self.since.is_none() || matches!(self.of(summary), Origin::Here | Origin::Before)
    }

    /// As `counts`, by the number and the key that bound the snapshot.
    pub(crate) fn counts_by_key(&self, seq: u64, key: Option<KeyName>) -> bool {
        self.since.is_none() || matches!(self.by_key(seq, key), Origin::Here | Origin::Before)
    }
}

impl Repository {
    /// Returns the origins of `snapshots`, which must be all of the repository.
    pub fn origins(&self, snapshots: &[Summary]) -> Origins {
        self.origins_by_key(snapshots.iter().map(|s| (s.seq, s.key)))
    }

    /// As `origins`, by numbers and keys.
    pub(crate) fn origins_by_key(
        &self,
        keys: impl Iterator<Item = (u64, Option<KeyName>)>,
    ) -> Origins {
        Origins::new(self.vault().binding_key(), keys)
    }

    /// Writes a snapshot record, bound to this machine: the commit point.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn commit(&self, snapshot: &Snapshot) -> Result<()> {
        // An unbound snapshot is better than none; `verify` lists them, and says why the key is
        // refused.
        self.put_bound(&snapshot.file_name(), snapshot)?;
        self.remember_newest(snapshot);
        Ok(())
    }

    /// Writes a record, bound to this machine if possible.
    pub(super) fn put_bound<T: Serialize + Record>(&self, name: &str, value: &T) -> Result<()> {
        self.put(name, &self.encoded(value)?)
    }

    /// Returns the bytes of a record, bound to this machine if possible.
    pub(super) fn encoded<T: Serialize + Record>(&self, value: &T) -> Result<Vec<u8>> {
        record::encode_bound(value, |kind, record| self.vault().bind(kind, record).ok())
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        storage::put(self.storage(), name, bytes).map_err(|e| Error::storage("write", name, e))
    }

    /// Rewrites a record. One that another machine made stays bound to that machine.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn commit_again(&self, snapshot: &Snapshot) -> Result<()> {
        let vault = self.vault();
        let own = vault.binding_key().ok().flatten();
        let ours = own.is_some() && snapshot.bound.map(|bound| bound.key) == own;
        let bytes = record::encode_bound(snapshot, |kind, record| {
            ours.then(|| vault.bind(kind, record).ok()).flatten()
        })?;
        self.put(&snapshot.file_name(), &bytes)
    }

    /// Returns who recorded something, by the time in its id and the key that bound it.
    pub(super) fn origin_of(&self, id: Id, key: Option<KeyName>) -> Origin {
        let own = self.vault().binding_key().ok().flatten();
        // The oldest existing record does not count: removing all of them would make forged ones
        // look as if from before.
        let since = self.vault().bound_since().unwrap_or(i64::MAX);
        match key {
            Some(key) if Some(key) == own => Origin::Here,
            Some(_) => Origin::Elsewhere,
            None if id.millis() < since => Origin::Before,
            None => Origin::Unbound,
        }
    }

    /// Returns who recorded an operation, and whether it may be undone without being named: this
    /// machine recorded it, or no clue says otherwise.
    pub(super) fn recorded_by(
        &self,
        id: Id,
        begin: Option<&Bound>,
        end: Option<Option<&Bound>>,
    ) -> (Origin, bool) {
        let of = |bound: Option<&Bound>| self.origin_of(id, bound.map(|bound| bound.key));
        let origins = std::iter::once(of(begin)).chain(end.map(of));
        // The less certain of the two counts.
        let origin = origins.max().unwrap_or(Origin::Unbound);
        let is_ours = matches!(origin, Origin::Here | Origin::Before)
            || !matches!(self.vault().binding_key(), Ok(Some(_)));
        (origin, is_ours)
    }

    /// Makes sure that a record bound by this machine is unchanged.
    pub(super) fn check_bound<T: Record>(&self, name: &str, value: &T, bytes: &[u8]) -> Result<()> {
        let (Some(kind), Some(bound)) = (T::KIND, value.bound()) else {
            return Ok(());
        };
        let parts = record::without_bound(bytes);
        match self.vault().may_have_bound(kind, bound, parts) {
            true => Ok(()),
            false => Err(Error::damaged(
                name,
                "it was forged or altered: this is not what this machine wrote",
            )),
        }
    }
}
