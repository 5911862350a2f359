//! What the logs and snapshots say of what both sides came from.

use std::collections::HashMap;

use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::model::manifest::{Entry, Listing};
use crate::model::rules::{Matcher, Rules, Verdict};
use crate::repo::Repository;
use crate::repo::oplog::SyncJournal;
use crate::repo::reader::Reader;
use crate::repo::snapshot::{RootRecord, Snapshot};

/// What both sides came from, by one of the logs.
pub(super) struct Base<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) listing: HashMap<RepoPath, Entry>,
    pub(super) scope: Scope,
    pub(super) conflicts: Vec<(RepoPath, RepoPath)>,
    pub(super) not_taken: Vec<RepoPath>,
    /// They brought ours in, not we theirs.
    pub(super) is_ours: bool,
    /// Then, what they had of a source that is a file.
    pub(super) file_then: Option<Entry>,
}

impl<'a> Base<'a> {
    /// `taken` if the other machine brought `record` in: its repository, with the snapshot that it took
    /// before.
    pub(super) fn new(
        repo: &'a Repository,
        record: &RootRecord,
        journal: &SyncJournal,
        taken: Option<(&'a Repository, Option<&Snapshot>)>,
    ) -> Result<Self> {
        let by_path = |listing: Listing| {
            let entries = listing.into_iter();
            entries
                .map(|entry| (entry.path.clone(), entry))
                .collect::<HashMap<_, _>>()
        };
        let then = match taken {
            Some((far, Some(snapshot))) if journal.conflicts.iter().any(|(of, _)| of.is_root()) => {
                let root = snapshot.root(&record.name);
                root.map(|root| far.listing(root)).transpose()?
            }
            _ => None,
        };
        Ok(Self {
            reader: Reader::new(repo),
            listing: by_path(repo.listing(record)?),
            scope: Scope::of(record)?,
            conflicts: journal.conflicts.clone(),
            not_taken: journal.not_taken.clone(),
            is_ours: taken.is_some(),
            file_then: then.and_then(|then| by_path(then).remove(&RepoPath::root())),
        })
    }
}

/// What a snapshot says about paths that it does not list: that they were not there, or nothing.
pub(super) struct Scope {
    pub(super) left_out: Vec<RepoPath>,
    matcher: Matcher,
}

impl Scope {
    pub(super) fn of(record: &RootRecord) -> Result<Self> {
        let left_out = record.left_out.iter().map(|left| left.path.clone());
        Self::new(left_out.collect(), &record.rules)
    }

    pub(super) fn new(left_out: Vec<RepoPath>, rules: &Rules) -> Result<Self> {
        // By the names that somebody chose: what is rebuildable shows on the disk only, and is
        // listed as left out.
        let rules = Rules {
            rebuildable: true,
            ..rules.clone()
        };
        Ok(Self {
            left_out,
            matcher: Matcher::new(&rules)?,
        })
    }

    /// Returns true if the path would be listed if it existed.
    pub(super) fn has(&self, path: &RepoPath) -> bool {
        let mut left_out = self.left_out.iter();
        !left_out.any(|left| path.starts_with(left)) && self.takes(path)
    }

    fn takes(&self, path: &RepoPath) -> bool {
        let on_the_way = || self.matcher.include(path.as_bytes()) == Verdict::OnTheWay;
        path.is_root() || self.matcher.covers(path) || on_the_way()
    }
}
