//! The snapshots of a repository, each read when it is first looked at: naming one of a thousand reads one.

use std::cell::OnceCell;

use super::{Repository, parse_snapshot_name};
use crate::error::Result;
use crate::id::SnapshotId;
use crate::repo::snapshot::Snapshot;

/// All snapshots, oldest first. Damaged records are left out; `verify` reports them.
pub struct Snapshots<'a> {
    repo: &'a Repository,
    all: Vec<(SnapshotId, String, OnceCell<Option<Snapshot>>)>,
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
        let at = self.all.iter().position(|(other, ..)| *other == id)?;
        self.at(at)
    }

    /// Returns them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        (0..self.all.len()).filter_map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> Option<&Snapshot> {
        let (_, name, read) = &self.all[at];
        read.get_or_init(|| self.repo.read_snapshot(name).ok())
            .as_ref()
    }
}
