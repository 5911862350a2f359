//! The state of planning one root: what is known about it, and the plan so far.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::found::Found;
use super::{UndoAction, UndoOptions, UndoPlan, UndoStep};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::Opened;
use crate::disk::vcs;
use crate::model::compare::{Differences, Groups};
use crate::model::manifest::{Entry, Kind, Listing, Stat, Time, by_path};
use crate::model::merge;
use crate::protect::compare::is_stamped;
use crate::protect::work::{Act, Job};
use crate::recover::site::{Site, locate};
use crate::repo::Repository;
use crate::repo::oplog::{RootChanges, Stamp};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PathNote, RootRecord};
use crate::repo::touches::Touches;

pub(super) struct Past<'a> {
    /// Stamps of the objects that later undos and redos wrote.
    pub(super) put_back: HashMap<RepoPath, Stamp>,
    /// The root before an interrupted undo of the same operation.
    pub(super) since: Option<&'a RootRecord>,
}

pub(super) struct Done<'a> {
    pub(super) record: &'a RootRecord,
    pub(super) changes: &'a RootChanges,
    pub(super) past: Past<'a>,
}

pub(super) struct Planner<'a> {
    pub(super) repo: &'a Repository,
    pub(super) plan: &'a mut UndoPlan,
    pub(super) site: Site<'a>,
    pub(super) listing: BTreeMap<RepoPath, Entry>,
    /// Paths whose current object is removed first.
    pub(super) cleared: HashSet<RepoPath>,
    /// The suffix of old versions that are written beside a path.
    pub(super) suffix: String,
    pub(super) reader: Reader<'a>,
    pub(super) key: Option<merge::Key>,
    /// Changes of the operation within files.
    pub(super) inside: HashMap<RepoPath, merge::Changes>,
    pub(super) now: DateTime<Utc>,
    put_back: &'a HashMap<RepoPath, Stamp>,
    /// Inodes that bdr gave a further name, and their ctime then: it is not the one that any other of
    /// their names was left with.
    linked: HashSet<(u64, Time)>,
    /// What else bdr did to the ctime of files; read when it is needed.
    touches: OnceCell<Touches>,
    /// Also restore paths that changed since.
    pub(super) force: bool,
    /// The meaning of the git indexes that the operation left.
    meanings: HashMap<RepoPath, Digest>,
    pub(super) found: Found,
    pub(super) groups: Groups,
    /// Only at or below these; empty for all.
    paths: &'a [PathBuf],
    /// Paths that are planned already, because two roots may cover the same one.
    seen: &'a mut HashSet<PathBuf>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        done: &'a Done<'a>,
        listing: Listing,
        options: &'a UndoOptions,
        opened: &'a Opened,
        plan: &'a mut UndoPlan,
        seen: &'a mut HashSet<PathBuf>,
    ) -> Result<Self> {
        let place = locate(done.record.path.as_path(), None)?;
        let merges = done.changes.merges.iter();
        let indexes = done.changes.indexes.iter();
        Ok(Self {
            repo,
            site: Site::open(repo, place, opened, &mut plan.work)?,
            listing: by_path(listing),
            cleared: HashSet::new(),
            suffix: format!(".bdr-{}", plan.operation.prefix(&[])),
            reader: Reader::new(repo),
            key: repo.merge_key().ok(),
            inside: merges
                .map(|inside| (inside.path.clone(), inside.changes.clone()))
                .collect(),
            now: options.now,
            put_back: &done.past.put_back,
            linked: done
                .past
                .put_back
                .values()
                .filter(|put| put.kind == Kind::File)
                .map(|put| (put.inode, put.ctime))
                .collect(),
            touches: OnceCell::new(),
            force: options.force,
            meanings: indexes
                .map(|index| (index.path.clone(), index.digest))
                .collect(),
            found: Found::default(),
            groups: Groups::default(),
            paths: &options.paths,
            seen,
            plan,
        })
    }

    /// Returns true if a path must be planned and is not yet.
    pub(super) fn takes(&mut self, path: &RepoPath) -> bool {
        let absolute = self.site.absolute(path);
        let is_chosen =
            self.paths.is_empty() || self.paths.iter().any(|chosen| absolute.starts_with(chosen));
        is_chosen && !self.found.holds(path) && self.seen.insert(absolute)
    }

    /// Returns true if an object is as the operation left it: nobody touched it since, or bdr
    /// restored it to that.
    pub(super) fn is_left(&self, stamp: &Stamp, now: &Stat) -> bool {
        let same = |put: &Stamp| {
            put.kind == stamp.kind
                && (put.kind == Kind::Dir
                    || (put.size, put.mtime, put.mode) == (stamp.size, stamp.mtime, stamp.mode))
        };
        let put = self.put_back.get(&stamp.path);
        self.force
            || self.is_as(stamp, now)
            || put.is_some_and(|put| same(put) && self.is_as(put, now))
            || self.means_the_same(stamp, now)
    }

    /// Returns true if an object is as bdr restored it.
    pub(super) fn is_put_back(&self, path: &RepoPath, now: &Stat) -> bool {
        let put = self.put_back.get(path);
        put.is_some_and(|put| self.is_as(put, now))
    }

    /// Returns true if an object is as in a stamp, or bdr alone has changed its ctime since.
    fn is_as(&self, stamp: &Stamp, now: &Stat) -> bool {
        let by_us = || {
            let touches = || self.touches.get_or_init(|| self.repo.touches());
            self.linked.contains(&(now.inode, now.ctime)) || touches().lead(stamp.ctime, now)
        };
        let but_for_ctime = || Stamp {
            ctime: now.ctime,
            ..stamp.clone()
        };
        is_stamped(stamp, now) || is_stamped(&but_for_ctime(), now) && by_us()
    }

    /// Returns true if a git index lists the same as when the operation ended. Its times do not
    /// count, because even `git status` rewrites it.
    fn means_the_same(&self, stamp: &Stamp, now: &Stat) -> bool {
        let Some(left) = self.meanings.get(&stamp.path) else {
            return false;
        };
        let path = self.site.absolute(&stamp.path);
        now.kind == Kind::File
            && self
                .key
                .is_some_and(|key| vcs::index_meaning(&path, &key).as_ref() == Some(left))
    }

    /// Reports a path that cannot be read. It stays as it is.
    pub(super) fn unseen(&mut self, path: &RepoPath, looked: Result<()>) -> Result<()> {
        match looked {
            Err(error @ Error::Io { .. }) => {
                let path = RawName(self.site.absolute(path).into_os_string());
                let why = crate::base::error::reason(&error);
                let reason = format!("it cannot be checked: {why}");
                self.plan.problems.push(PathNote { path, reason });
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        if self.cleared.iter().any(|c| path.starts_with(c)) {
            return Ok(None);
        }
        match self.site.stat(path) {
            // A directory was replaced by something else, so nothing is below it.
            Err(Error::Unsafe { .. }) => Ok(None),
            other => other,
        }
    }

    /// Returns the paths in this root with a planned job that `fits`.
    pub(super) fn planned(&self, fits: impl Fn(&Job) -> bool) -> HashSet<RepoPath> {
        let own = self.site.jobs(&self.plan.work).filter(|job| fits(job));
        own.map(|job| job.path.clone()).collect()
    }

    pub(super) fn job(
        &mut self,
        path: &RepoPath,
        act: Act,
        entry: Option<Entry>,
        seen: Option<Stat>,
    ) {
        let job = self.site.job(path, act, entry.map(Arc::new), seen);
        self.plan.work.jobs.push(job);
    }

    pub(super) fn step(&mut self, path: &RepoPath, action: UndoAction, kind: Kind, bytes: u64) {
        let step = self.step_of(path, action, kind, bytes);
        self.plan.steps.push(step);
    }

    pub(super) fn step_of(
        &self,
        path: &RepoPath,
        action: UndoAction,
        kind: Kind,
        bytes: u64,
    ) -> UndoStep {
        UndoStep {
            path: self.site.absolute(path),
            action,
            kind,
            bytes,
            files: u64::from(kind == Kind::File),
            beside: None,
            differs: Differences::default(),
        }
    }

    /// Plans to restore metadata. For directories always, because restoring their content changes
    /// their time.
    pub(super) fn metadata(&mut self, entry: &Entry, now: &Stat) {
        let differs = self.site.differs(entry, now);
        // The time of a directory changes with its content: not worth a line.
        let shown = Differences {
            time: differs.time && entry.kind != Kind::Dir,
            ..differs
        };
        if shown.any() {
            self.step(&entry.path, UndoAction::Metadata, entry.kind, 0);
            if let Some(step) = self.plan.steps.last_mut() {
                step.differs = shown;
            }
        }
        if differs.any() || entry.kind == Kind::Dir {
            self.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(*now));
        }
    }
}
