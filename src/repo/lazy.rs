//! The snapshots of a repository, each read on first use: finding one among a thousand reads one.

use std::cell::OnceCell;

use super::newest::MISSING;
use super::{Repository, parse_snapshot_name};
use crate::base::error::{Error, Result};
use crate::base::id::SnapshotId;
use crate::repo::snapshot::{Named, Snapshot};

/// All snapshots, oldest first.
pub struct Snapshots<'a> {
    repo: &'a Repository,
    all: Vec<(SnapshotId, String, OnceCell<Read>)>,
}

enum Read {
    Good(Box<Snapshot>),
    /// Another process removed it since the listing.
    Gone,
    /// Why it cannot be read.
    Bad(String),
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(repo: &'a Repository) -> Result<Self> {
        // File names sort by sequence number and id.
        let all = repo.snapshot_names()?.into_iter().filter_map(|name| {
            let (_, id) = parse_snapshot_name(name.strip_prefix("snapshots/")?)?;
            Some((id, name, OnceCell::new()))
        });
        Ok(Self {
            repo,
            all: all.collect(),
        })
    }

    pub fn repository(&self) -> &'a Repository {
        self.repo
    }

    /// Returns the ids without reading the records.
    pub fn ids(&self) -> Vec<SnapshotId> {
        self.all.iter().map(|(id, ..)| *id).collect()
    }

    /// Returns the snapshot with an id, if it can be read.
    pub fn get(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.read(id).ok().flatten()
    }

    /// Returns the snapshot with an id; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(&self, id: SnapshotId) -> Result<Option<&Snapshot>> {
        let at = self.all.iter().position(|(other, ..)| *other == id);
        at.map_or(Ok(None), |at| self.at(at))
    }

    /// Returns the readable snapshots, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.each().filter_map(Result::ok)
    }

    /// Returns all snapshots, oldest first, with [`Error::Unreadable`] for those that cannot be
    /// read.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = Result<&Snapshot>> {
        (0..self.all.len()).filter_map(|at| self.at(at).transpose())
    }

    /// Returns snapshots that are known to have been written, newer than the newest existing
    /// backup, and that are gone without having been forgotten. From then on they count as
    /// unreadable.
    pub fn missing(&self) -> Vec<Named> {
        let mut named = Vec::new();
        let mut last_backup = None;
        for snapshot in self.iter().rev() {
            named.extend(snapshot.last_backup);
            if snapshot.is_backup() {
                last_backup = Some(snapshot.named());
                break;
            }
        }
        let last = self.all.last().and_then(|(_, name, _)| {
            let (seq, id) = parse_snapshot_name(name.strip_prefix("snapshots/")?)?;
            Some(Named { seq, id })
        });
        let named = named.into_iter();
        self.repo.notice_missing(last, last_backup, named)
    }

    /// Makes sure that no missing snapshot would be chosen before `found`, provided that it `fits`.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn check_missing(
        &self,
        found: Option<&Snapshot>,
        fits: impl Fn(SnapshotId) -> bool,
    ) -> Result<()> {
        let found = found.map(Snapshot::named);
        let newer = |one: &&Named| Some(**one) > found && fits(one.id);
        match self.missing().iter().rev().find(newer) {
            None => Ok(()),
            Some(missing) => Err(Error::Unreadable {
                name: missing.file_name(),
                reason: MISSING.to_owned(),
            }),
        }
    }

    fn at(&self, at: usize) -> Result<Option<&Snapshot>> {
        let (_, name, read) = &self.all[at];
        let read = read.get_or_init(|| match self.repo.read_listed(name) {
            Ok(Some(snapshot)) => Read::Good(Box::new(snapshot)),
            Ok(None) => Read::Gone,
            Err(reason) => Read::Bad(reason),
        });
        match read {
            Read::Good(snapshot) => Ok(Some(snapshot)),
            Read::Gone => Ok(None),
            Read::Bad(reason) => Err(Error::Unreadable {
                name: name.clone(),
                reason: reason.clone(),
            }),
        }
    }
}
