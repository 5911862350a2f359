//! The steps that a decision comes to.

use std::sync::Arc;

use super::face::{self, Here};
use super::plan::Planner;
use super::{SyncAction, SyncStep};
use crate::base::error::Result;
use crate::base::path::{RawName, RepoPath};
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::protect::work::{Act, Job, Work};
use crate::recover::site::Site;
use crate::recover::undo::conflict::{NAME_MAX, shorten};
use crate::repo::snapshot::PathNote;

impl Planner<'_> {
    /// Puts the other side's version of a file beside it, under the same name each time.
    pub(super) fn conflict(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        both: Vec<String>,
    ) -> Result<()> {
        let mut name = entry.path.name().to_vec();
        if entry.path.is_root() {
            name = site.place(&entry.path).name().to_vec();
        }
        shorten(&mut name, NAME_MAX - self.suffix.len());
        name.extend_from_slice(&self.suffix);
        let place = site.beside(&entry.path, &name);
        self.put_beside(site, work, entry, place.clone())?;
        let path = entry.path.parent().unwrap_or_default().join(&name);
        self.plan.conflicts.push((entry.path.clone(), path));
        self.step(site, entry, SyncAction::Conflict, Some(&place), both);
        Ok(())
    }

    pub(super) fn put_beside(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        place: RepoPath,
    ) -> Result<()> {
        let seen = site.target.stat(&place)?;
        if seen.is_some_and(|seen| seen.kind == Kind::Dir) {
            let why = "a directory is where the other version would be";
            self.problem(site, &entry.path, why);
            return Ok(());
        }
        let mut copy = self.adopted(site, entry);
        let bytes = face::stored(&mut self.reader, entry)?;
        if entry.body.sealed.is_some() {
            copy.mode &= 0o600;
        }
        let mut there = Here::new(seen, &entry.path, place.clone());
        let own = there.bytes(&mut site.target);
        if own.is_some() && own == bytes.as_deref() {
            return Ok(());
        }
        copy.size = bytes.as_ref().map_or(copy.size, |bytes| bytes.len() as u64);
        work.jobs.push(Job {
            site: site.number,
            path: place,
            act: Act::Write,
            entry: Some(Arc::new(copy)),
            seen,
            bytes: bytes.map(Arc::new),
        });
        Ok(())
    }

    /// Returns an entry of the other machine as it is written here: it belongs to whom the source
    /// belongs, and is no other name of a file.
    pub(super) fn adopted(&self, site: &mut Site<'_>, entry: &Entry) -> Entry {
        let mut new = entry.clone();
        let owner = site.stat(&RepoPath::root()).ok().flatten();
        if let Some(owner) = owner {
            (new.uid, new.gid) = (owner.uid, owner.gid);
        }
        // What gives rights is not taken from elsewhere.
        new.mode &= 0o777;
        new.body.link.clear();
        new.body.names = 0;
        new.body
            .xattrs
            .retain(|(name, _)| name.starts_with("user."));
        new
    }

    pub(super) fn write(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        seen: Option<Stat>,
        bytes: Option<Vec<u8>>,
    ) {
        let mut new = self.adopted(site, entry);
        if let Some(bytes) = &bytes {
            new.size = bytes.len() as u64;
        }
        let mut job: Job = site.job(&entry.path, Act::Write, Some(Arc::new(new)), seen);
        job.bytes = bytes.map(Arc::new);
        work.jobs.push(job);
        let action = match seen {
            Some(_) => SyncAction::Replace,
            None => SyncAction::Create,
        };
        self.step(site, entry, action, None, Vec::new());
    }

    pub(super) fn job_merged(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        seen: Option<Stat>,
        bytes: Vec<u8>,
    ) {
        let now = self.options.now;
        let mut new = self.adopted(site, entry);
        new.mtime = Time(now.timestamp(), now.timestamp_subsec_nanos());
        new.size = bytes.len() as u64;
        new.body.content = None;
        new.body.sealed = None;
        if let Some(seen) = seen {
            (new.mode, new.uid, new.gid) = (seen.mode, seen.uid, seen.gid);
        }
        let mut job = site.job(&entry.path, Act::Write, Some(Arc::new(new)), seen);
        job.bytes = Some(Arc::new(bytes));
        work.jobs.push(job);
    }

    pub(super) fn remove(
        &mut self,
        site: &Site<'_>,
        work: &mut Work,
        path: &RepoPath,
        seen: Option<Stat>,
    ) {
        let Some(seen) = seen else {
            return;
        };
        self.removed.insert(path.clone());
        work.jobs
            .push(site.job(path, Act::Remove, None, Some(seen)));
        self.plan.steps.push(SyncStep {
            path: site.absolute(path),
            action: SyncAction::Remove,
            kind: seen.kind,
            bytes: seen.size,
            beside: None,
            both: Vec::new(),
        });
    }

    /// Removes other versions that were put beside a file, when it is decided.
    pub(super) fn clear(
        &mut self,
        site: &Site<'_>,
        work: &mut Work,
        beside: Vec<(RepoPath, Stat)>,
    ) {
        for (place, stat) in beside {
            self.plan.steps.push(SyncStep {
                path: site.absolute_place(&place),
                action: SyncAction::Remove,
                kind: stat.kind,
                bytes: stat.size,
                beside: None,
                both: Vec::new(),
            });
            work.jobs.push(Job {
                site: site.number,
                path: place,
                act: Act::Remove,
                entry: None,
                seen: Some(stat),
                bytes: None,
            });
        }
    }

    pub(super) fn step(
        &mut self,
        site: &Site<'_>,
        entry: &Entry,
        action: SyncAction,
        beside: Option<&RepoPath>,
        both: Vec<String>,
    ) {
        self.plan.steps.push(SyncStep {
            path: site.absolute(&entry.path),
            action,
            kind: entry.kind,
            bytes: entry.size,
            beside: beside.map(|place| site.absolute_place(place)),
            both,
        });
    }

    pub(super) fn problem(&mut self, site: &Site<'_>, path: &RepoPath, why: &str) {
        let note = self.note(site, path, why);
        self.plan.problems.push(note);
    }

    pub(super) fn note(&self, site: &Site<'_>, path: &RepoPath, why: &str) -> PathNote {
        PathNote {
            path: RawName::from(site.absolute(path).as_path()),
            reason: why.to_owned(),
        }
    }
}
