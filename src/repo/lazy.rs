//! The snapshots of a repository, each read when it is first looked at: naming one of a thousand reads one.

use std::cell::OnceCell;

use super::{Repository, parse_snapshot_name};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::repo::snapshot::Snapshot;

/// All snapshots, oldest first.
pub struct Snapshots<'a> {
    repo: &'a Repository,
    all: Vec<(SnapshotId, String, OnceCell<Read>)>,
}

/// What came of reading a record.
enum Read {
    Good(Box<Snapshot>),
    /// Removed by another process since it was listed.
    Gone,
    /// Why it cannot be read.
    Bad(String),
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(repo: &'a Repository) -> Result<Self> {
        // File names sort as sequence number and id do.
        let all = repo.snapshot_names()?.into_iter().filter_map(|name| {
            let (_, id) = parse_snapshot_name(name.strip_prefix("snapshots/")?)?;
            Some((id, name, OnceCell::new()))
        });
        Ok(Self {
            repo,
            all: all.collect(),
        })
    }

    /// Returns their ids, without reading them.
    pub fn ids(&self) -> Vec<SnapshotId> {
        self.all.iter().map(|(id, ..)| *id).collect()
    }

    /// Returns the one with an id, if it can be read.
    pub fn get(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.read(id).ok().flatten()
    }

    /// Returns the one with an id; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(&self, id: SnapshotId) -> Result<Option<&Snapshot>> {
        let at = self.all.iter().position(|(other, ..)| *other == id);
        at.map_or(Ok(None), |at| self.at(at))
    }

    /// Returns those that can be read, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.each().filter_map(Result::ok)
    }

    /// Returns them, oldest first; [`Error::Unreadable`] in place of one that cannot be read.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = Result<&Snapshot>> {
        (0..self.all.len()).filter_map(|at| self.at(at).transpose())
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
