//! Who made a snapshot: bound to the key of this machine, or to another, or to none.
//!
//! A record that says that this machine bound it, and is not as it was bound, is damaged: whoever can write to the repository changed it, checksum and all.
//! It is healed from the lifeboat like any other, and is used for nothing.

use super::{Repository, record};
use crate::base::error::{Error, Result};
use crate::disk::storage;
use crate::disk::vault::KeyName;
use crate::repo::snapshot::Snapshot;
use crate::repo::summaries::Summary;

/// Who made a snapshot, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This machine: its record is as it was written here.
    Here,
    /// Somebody with another key: another machine, or this one before it lost its own.
    Elsewhere,
    /// Nobody says: from before this machine bound what it makes.
    Before,
    /// Nobody says, though this machine bound older ones: an older bdr, a key that could not be had, or somebody who wrote it by hand.
    Unbound,
}

impl Origin {
    /// Returns the word for it in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Elsewhere => "elsewhere",
            Self::Before => "before",
            Self::Unbound => "unbound",
        }
    }
}

/// Tells who made the snapshots of a repository.
#[derive(Debug, Clone)]
pub struct Origins {
    /// The key of this machine; `None`: there is none.
    pub own: Option<KeyName>,
    /// Why it is not used.
    pub refused: Option<String>,
    /// The first that it bound.
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

    /// Returns who made a snapshot.
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

    /// Returns true if a snapshot may count in place of what this machine made: it made it itself, or nothing tells what it made.
    pub fn counts(&self, summary: &Summary) -> bool {
        self.since.is_none() || matches!(self.of(summary), Origin::Here | Origin::Before)
    }

    /// The same, of its number and the key that it was bound with.
    pub(crate) fn counts_by_key(&self, seq: u64, key: Option<KeyName>) -> bool {
        self.since.is_none() || matches!(self.by_key(seq, key), Origin::Here | Origin::Before)
    }
}

impl Repository {
    /// Returns what tells who made `snapshots`, all of the repository.
    pub fn origins(&self, snapshots: &[Summary]) -> Origins {
        self.origins_by_key(snapshots.iter().map(|s| (s.seq, s.key)))
    }

    /// The same, of numbers and keys.
    pub(crate) fn origins_by_key(
        &self,
        keys: impl Iterator<Item = (u64, Option<KeyName>)>,
    ) -> Origins {
        Origins::new(self.vault().binding_key(), keys)
    }

    /// Writes a snapshot record: the commit point. It is bound to this machine.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn commit(&self, snapshot: &Snapshot) -> Result<()> {
        // A snapshot without it is worth more than none; `verify` says which those are, and why the key is refused.
        self.put_snapshot(snapshot, |record| self.vault().bind(record).ok())?;
        self.remember_newest(snapshot);
        Ok(())
    }

    /// Writes a record in place of what it was before. One that this machine did not make does not become its own.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn commit_again(&self, snapshot: &Snapshot) -> Result<()> {
        let vault = self.vault();
        let own = vault.binding_key().ok().flatten();
        let ours = own.is_some() && snapshot.bound.map(|bound| bound.key) == own;
        self.put_snapshot(snapshot, |record| {
            ours.then(|| vault.bind(record).ok()).flatten()
        })
    }

    fn put_snapshot(
        &self,
        snapshot: &Snapshot,
        bind: impl FnOnce(&[u8]) -> Option<crate::disk::vault::Bound>,
    ) -> Result<()> {
        let name = snapshot.file_name();
        let bytes = record::encode_bound(snapshot, bind)?;
        storage::put(self.storage(), &name, &bytes).map_err(|e| Error::storage("write", name, e))
    }

    /// Makes sure that a record that this machine is said to have made is as it made it.
    pub(super) fn check_bound(&self, name: &str, snapshot: &Snapshot, bytes: &[u8]) -> Result<()> {
        let Some(bound) = &snapshot.bound else {
            return Ok(());
        };
        match self
            .vault()
            .may_have_bound(bound, record::without_bound(bytes))
        {
            true => Ok(()),
            false => Err(Error::damaged(
                name,
                "it was forged or altered: this machine did not write it so",
            )),
        }
    }
}
