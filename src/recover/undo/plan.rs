//! Plans an undo, one root at a time: what comes back, what goes, what is merged, what is a conflict.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::repositories::{self, Made};
use super::{UndoAction, UndoOptions, UndoPlan, UndoStep};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{RawName, RepoPath, os_to_bytes};
use crate::disk::fsutil::{Opened, is_temporary_name};
use crate::model::compare::{Differences, Groups};
use crate::model::manifest::{Entry, Kind, Stat, Time, by_path};
use crate::model::merge;
use crate::protect::compare::is_stamped;
use crate::protect::work::{Act, Job};
use crate::recover::apart::{self, APART};
use crate::recover::site::{Site, locate};
use crate::recover::unseal::{self, Recovery, SecretOptions, recover};
use crate::repo::Repository;
use crate::repo::oplog::{RootChanges, Stamp};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PathNote, RootRecord};

/// Bytes of a name that file systems take.
const NAME_MAX: usize = 255;

/// Cuts a name to so many bytes, between two characters.
fn shorten(name: &mut Vec<u8>, most: usize) {
    if name.len() <= most {
        return;
    }
    let is_inside = |byte: u8| byte & 0xc0 == 0x80;
    let mut end = most;
    while end > 0 && is_inside(name[end]) {
        end -= 1;
    }
    name.truncate(end);
}

/// What bdr itself did in a root since the operation.
pub(super) struct Past<'a> {
    /// How it left objects when it took later operations back.
    pub(super) put_back: HashMap<RepoPath, Stamp>,
    /// The root before an undo of this same operation that was cut off.
    pub(super) since: Option<&'a RootRecord>,
}

pub(super) struct Planner<'a> {
    repo: &'a Repository,
    pub(super) plan: &'a mut UndoPlan,
    pub(super) site: Site<'a>,
    pub(super) listing: BTreeMap<RepoPath, Entry>,
    /// Paths whose present object is cleared away first.
    cleared: HashSet<RepoPath>,
    /// What is added to the name of what is written beside.
    suffix: String,
    pub(super) reader: Reader<'a>,
    pub(super) key: Option<merge::Key>,
    /// What the operation changed inside of files.
    inside: HashMap<RepoPath, merge::Changes>,
    now: DateTime<Utc>,
    put_back: HashMap<RepoPath, Stamp>,
    /// What changed since is put back all the same.
    force: bool,
    /// What the operation left indexes of git to mean.
    pub(super) meanings: HashMap<RepoPath, Digest>,
    pub(super) found: repositories::Found,
    groups: Groups,
}

impl Planner<'_> {
    /// Returns true if an object stands as the operation left it: never touched since, or put back so by bdr.
    pub(super) fn is_left(&self, stamp: &Stamp, now: &Stat) -> bool {
        let same = |put: &Stamp| {
            put.kind == stamp.kind
                && (put.kind == Kind::Dir
                    || (put.size, put.mtime, put.mode) == (stamp.size, stamp.mtime, stamp.mode))
        };
        let put = self.put_back.get(&stamp.path);
        self.force
            || is_stamped(stamp, now)
            || put.is_some_and(|put| same(put) && is_stamped(put, now))
            || repositories::means_the_same(self, stamp, now)
    }

    /// Returns true if an object stands as bdr put it back.
    fn is_put_back(&self, path: &RepoPath, now: &Stat) -> bool {
        let put = self.put_back.get(path);
        put.is_some_and(|put| is_stamped(put, now))
    }

    /// Finishes what an undo put back that has the right bytes: it may be another file than it should be, or lack something else.
    fn finish(&mut self, entry: &Entry, now: &Stat) {
        match self.groups.fits(entry, now) {
            true => self.metadata(entry, now),
            false => self.restore(entry, Some(*now)),
        }
    }

    /// Returns the places in this root that something is planned for which `fits`.
    pub(super) fn planned(&self, fits: impl Fn(&Job) -> bool) -> HashSet<RepoPath> {
        let own = self.site.jobs(&self.plan.work).filter(|job| fits(job));
        own.map(|job| job.path.clone()).collect()
    }

    fn job(&mut self, path: &RepoPath, act: Act, entry: Option<Entry>, seen: Option<Stat>) {
        let job = self.site.job(path, act, entry.map(Arc::new), seen);
        self.plan.work.jobs.push(job);
    }

    pub(super) fn step(&mut self, path: &RepoPath, action: UndoAction, kind: Kind, bytes: u64) {
        let step = self.step_of(path, action, kind, bytes);
        self.plan.steps.push(step);
    }

    fn step_of(&self, path: &RepoPath, action: UndoAction, kind: Kind, bytes: u64) -> UndoStep {
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

    /// Gives an object back what is not its content. In any case: what is done below a directory changes its time.
    fn metadata(&mut self, entry: &Entry, now: &Stat) {
        let differs = self.site.differs(entry, now);
        // The time of a directory goes along with what is in it: not worth a line.
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
        self.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(*now));
    }

    /// Takes note of a path that cannot be looked at: it stays as it is.
    fn unseen(&mut self, path: &RepoPath, looked: Result<()>) -> Result<()> {
        match looked {
            Err(error @ Error::Io { .. }) => {
                let path = RawName(self.site.absolute(path).into_os_string());
                let why = crate::base::error::reason(&error);
                let reason = format!("it cannot be looked at: {why}");
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
            // Something else stands where a directory was: below it there is nothing.
            Err(Error::Unsafe { .. }) => Ok(None),
            other => other,
        }
    }

    /// Takes back what the operation changed inside of a file that changed again since. Returns false if that cannot be.
    fn merge(&mut self, entry: &Entry, gone: bool) -> Result<bool> {
        let place = self.site.place(&entry.path);
        let name = place.name();
        let Some(seen) = self.site.target.stat(&place)? else {
            return Ok(false);
        };
        let fits = entry.kind == Kind::File
            && seen.kind == Kind::File
            && merge::is_mergeable(name)
            && entry.size.max(seen.size) <= merge::MAX_BYTES;
        let (true, Some(key)) = (fits, self.key) else {
            return Ok(false);
        };
        let merged = (|| {
            let before = self.reader.original_to_vec(&entry.body).ok()?;
            let mut present = Vec::new();
            let file = self.site.target.open_file(&place).ok()?;
            std::io::Read::read_to_end(
                &mut std::io::Read::take(file, merge::MAX_BYTES),
                &mut present,
            )
            .ok()?;
            let all;
            let changes = match gone {
                true => {
                    all = merge::describe(name, &before, b"", &key)?;
                    &all
                }
                false => self.inside.get(&entry.path)?,
            };
            let merged = merge::reverse(&before, &present, changes, &key)?;
            Some((merged != present).then_some(merged))
        })();
        let Some(merged) = merged else {
            return Ok(false);
        };
        let Some(bytes) = merged else {
            return Ok(true);
        };
        self.step(
            &entry.path,
            UndoAction::Merge,
            Kind::File,
            bytes.len() as u64,
        );
        let now = self.now;
        let mut new = Entry {
            mode: seen.mode,
            mtime: Time(now.timestamp(), now.timestamp_subsec_nanos()),
            size: bytes.len() as u64,
            ..entry.clone()
        };
        new.body.content = None;
        new.body.sealed = None;
        new.body.link.clear();
        self.job(&entry.path, Act::Write, Some(new), Some(seen));
        if let Some(job) = self.plan.work.jobs.last_mut() {
            job.bytes = Some(Arc::new(bytes));
        }
        Ok(true)
    }

    /// The path is not as the operation left it: what is there stays, what was is merged into it or written beside it.
    fn conflict(&mut self, entry: &Entry, gone: bool) -> Result<()> {
        if entry.kind == Kind::Dir {
            return Ok(());
        }
        if self.found.is_inside(&self.site.absolute(&entry.path)) {
            // A copy beside would be taken for a branch, a log or an index of its own.
            self.step(&entry.path, UndoAction::Keep, entry.kind, entry.size);
            return Ok(());
        }
        if self.merge(entry, gone)? {
            return Ok(());
        }
        let (there, seen) = self.room_beside(entry)?;
        self.plan.steps.push(UndoStep {
            files: 1,
            beside: Some(self.site.absolute_place(&there)),
            ..self.step_of(&entry.path, UndoAction::Conflict, entry.kind, entry.size)
        });
        let mut copy = entry.clone();
        copy.body.link.clear();
        let job = Job {
            site: self.site.number,
            path: there,
            act: Act::Write,
            entry: Some(Arc::new(copy)),
            seen,
            bytes: None,
        };
        self.plan.work.jobs.push(job);
        Ok(())
    }

    /// Returns the place where an old one is written beside what is there, and what is there already: under the first name that is free, or has
    /// it from an earlier undo that met the same conflict.
    fn room_beside(&mut self, entry: &Entry) -> Result<(RepoPath, Option<Stat>)> {
        let mut name = self.site.place(&entry.path).name().to_vec();
        // Room for the suffix and a number.
        shorten(&mut name, NAME_MAX - self.suffix.len() - 4);
        name.extend_from_slice(self.suffix.as_bytes());
        let mut there = self.site.beside(&entry.path, &name);
        let mut number = 1;
        loop {
            let seen = self.site.target.stat(&there)?;
            match seen {
                Some(seen) if !self.site.has_at(&there, entry, &seen) => {
                    number += 1;
                    let numbered = [&name, format!("-{number}").as_bytes()].concat();
                    there = self.site.beside(&entry.path, &numbered);
                }
                seen => return Ok((there, seen)),
            }
        }
    }

    pub(super) fn restore(&mut self, entry: &Entry, seen: Option<Stat>) {
        if !entry.kind.is_stored() {
            let path = RawName(self.site.absolute(&entry.path).into_os_string());
            let reason = format!("a {} is not stored", entry.kind.word());
            self.plan.missing.push(PathNote { path, reason });
            return;
        }
        if entry.body.sealed.is_some() {
            let is_whole = self.repo.is_whole_here(&entry.body);
            let unproven = self.repo.vault().unproven();
            if !is_whole || unproven.is_some() {
                self.restore_sealed(entry, seen, is_whole, unproven);
                return;
            }
        }
        self.step(&entry.path, UndoAction::Restore, entry.kind, entry.size);
        self.job(&entry.path, Act::Write, Some(entry.clone()), seen);
    }

    /// A file of which values were sealed that are not in the vault, or that cannot be compared with what it was: it is put together from the vault where all
    /// values are there, else merged with what stands there, or written beside.
    fn restore_sealed(
        &mut self,
        entry: &Entry,
        seen: Option<Stat>,
        is_whole: bool,
        unproven: Option<String>,
    ) {
        let place = self.site.place(&entry.path);
        let mut live = match seen {
            Some(seen) if seen.kind == Kind::File => self.site.target.open_file(&place).ok(),
            _ => None,
        };
        let options = SecretOptions {
            from_vault: is_whole,
            ..SecretOptions::default()
        };
        let found = recover(self.repo, &mut self.reader, entry, live.as_mut(), &options);
        let (place, bytes, mode, seen, why) = match found {
            Ok(Recovery::Merged(bytes, _)) => {
                let why = unproven.map(|why| format!("{}: {why}", unseal::UNPROVEN));
                (place, bytes, entry.mode, seen, why)
            }
            Ok(Recovery::Aside(bytes, merged)) => {
                let name = unseal::aside(place.name());
                let aside = self.site.beside(&entry.path, &name);
                let there = self.site.target.stat(&aside).ok().flatten();
                let why = unseal::unresolved(&merged);
                (aside, bytes, 0o600, there, Some(why))
            }
            _ if let Some(reason) = unproven => {
                // Once the key is mended it can be taken back again, with this.
                let path = RawName(self.site.absolute(&entry.path).into_os_string());
                self.plan.problems.push(PathNote { path, reason });
                return;
            }
            _ => return self.not_whole(entry, unseal::NOTHING.to_owned()),
        };
        if let Some(why) = why {
            self.not_whole(entry, why);
        }
        let mut new = Entry {
            mode,
            size: bytes.len() as u64,
            ..entry.clone()
        };
        new.body.link.clear();
        self.plan.steps.push(UndoStep {
            path: self.site.absolute_place(&place),
            ..self.step_of(&entry.path, UndoAction::Restore, Kind::File, new.size)
        });
        self.plan.work.jobs.push(Job {
            site: self.site.number,
            path: place,
            act: Act::Write,
            entry: Some(Arc::new(new)),
            seen,
            bytes: Some(Arc::new(bytes)),
        });
    }

    fn not_whole(&mut self, entry: &Entry, reason: String) {
        let path = RawName(self.site.absolute(&entry.path).into_os_string());
        self.plan.sealed.push(PathNote { path, reason });
    }
}

/// Plans what is to be done in one root.
#[expect(
    clippy::too_many_arguments,
    reason = "what is known of a root, and what becomes of it"
)]
pub(super) fn plan_root(
    repo: &Repository,
    record: &RootRecord,
    changes: &RootChanges,
    options: &UndoOptions,
    past: Past<'_>,
    opened: &Opened,
    plan: &mut UndoPlan,
    seen: &mut HashSet<PathBuf>,
) -> Result<()> {
    let place = locate(record.path.as_path(), None)?;
    let site = Site::open(repo, place, opened, &mut plan.work)?;
    let suffix = format!(".bdr-{}", plan.operation.prefix(&[]));
    let listing = by_path(repo.listing(record)?);
    let mut planner = Planner {
        repo,
        plan,
        site,
        listing,
        cleared: HashSet::new(),
        suffix,
        reader: Reader::new(repo),
        key: repo.merge_key().ok(),
        inside: changes
            .merges
            .iter()
            .map(|inside| (inside.path.clone(), inside.changes.clone()))
            .collect(),
        now: options.now,
        put_back: past.put_back,
        force: options.force,
        meanings: changes
            .indexes
            .iter()
            .map(|index| (index.path.clone(), index.digest))
            .collect(),
        found: repositories::Found::default(),
        groups: Groups::default(),
    };
    repositories::find(&mut planner, changes);
    let mut wanted = |planner: &Planner<'_>, path: &RepoPath| {
        let absolute = planner.site.absolute(path);
        let chosen =
            options.paths.is_empty() || options.paths.iter().any(|p| absolute.starts_with(p));
        let chosen = chosen && !planner.found.holds(path);
        // Two roots may cover the same path.
        chosen && seen.insert(absolute)
    };
    // Created: removed if nothing touched them since. From the bottom, so that directories come after what they hold.
    for stamp in changes.created.iter().rev() {
        if !wanted(&planner, &stamp.path) {
            continue;
        }
        let now = match planner.stat(&stamp.path) {
            Ok(Some(now)) => now,
            Ok(None) => continue,
            Err(error) => {
                planner.unseen(&stamp.path, Err(error))?;
                continue;
            }
        };
        let needed = match repositories::of_made(&mut planner, changes, &stamp.path) {
            Made::Stays => continue,
            Made::Needed => true,
            Made::AsUsual => false,
        };
        if planner.is_left(stamp, &now) && !needed {
            planner.step(&stamp.path, UndoAction::Remove, now.kind, now.size);
            planner.job(&stamp.path, Act::Remove, None, Some(now));
        } else {
            planner.step(&stamp.path, UndoAction::Keep, now.kind, now.size);
        }
    }
    for stamp in &changes.modified {
        if wanted(&planner, &stamp.path) {
            let planned = plan_modified(&mut planner, stamp);
            planner.unseen(&stamp.path, planned)?;
        }
    }
    for top in &changes.removed {
        let below: Vec<Entry> = planner
            .listing
            .range((Bound::Included(top.clone()), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(top))
            .map(|(_, entry)| entry.clone())
            .collect();
        for entry in below {
            if !wanted(&planner, &entry.path) {
                continue;
            }
            let planned = plan_gone(&mut planner, changes, &entry);
            planner.unseen(&entry.path, planned)?;
        }
    }
    repositories::bring_content(&mut planner)?;
    anchors(&mut planner)?;
    if let Some(since) = past.since {
        directories(repo, &mut planner, since)?;
    }
    apart(&mut planner);
    Ok(())
}

/// Names files that come back without names that they had where nothing was captured.
fn apart(planner: &mut Planner<'_>) {
    let listing = std::mem::take(&mut planner.listing);
    let names = apart::elsewhere(listing.values());
    let found = apart::brought_back(&names, &planner.plan.work, &mut planner.site);
    for path in found {
        let path = RawName(planner.site.absolute(path).into_os_string());
        let reason = APART.to_owned();
        planner.plan.missing.push(PathNote { path, reason });
    }
    planner.listing = listing;
}

fn plan_gone(planner: &mut Planner<'_>, changes: &RootChanges, entry: &Entry) -> Result<()> {
    let gone = planner.stat(&entry.path)?.is_none();
    if gone && repositories::is_elsewhere(planner, changes, &entry.path)? {
        if entry.kind == Kind::File {
            planner.step(&entry.path, UndoAction::Keep, entry.kind, entry.size);
        }
        return Ok(());
    }
    plan_removed(planner, entry)
}

/// Returns true if a directory holds what it held before, by name: nobody but bdr had a reason to touch it.
fn has_the_names(
    dir: &Path,
    since: &RootRecord,
    listing: &BTreeMap<RepoPath, Entry>,
    path: &RepoPath,
) -> bool {
    let Ok(present) = crate::disk::fsutil::read_dir(dir) else {
        return false;
    };
    let mut missing: HashSet<&[u8]> = listing
        .range((Bound::Excluded(path.clone()), Bound::Unbounded))
        .take_while(|(below, _)| below.starts_with(path))
        .filter(|(below, _)| below.parent().as_ref() == Some(path))
        .map(|(below, _)| below.name())
        .collect();
    let left_out: HashSet<&[u8]> = since.left_out.iter().map(|l| l.path.name()).collect();
    for entry in present {
        let Ok(entry) = entry else { return false };
        let name = entry.file_name();
        let name = os_to_bytes(&name);
        let ours = is_temporary_name(&name);
        if !missing.remove(&name[..]) && !left_out.contains(&name[..]) && !ours {
            return false;
        }
    }
    missing.is_empty()
}

/// Puts back the times of directories in which an undo that was cut off replaced files: to everybody else nothing happened to them.
fn directories(repo: &Repository, planner: &mut Planner<'_>, since: &RootRecord) -> Result<()> {
    let listing = by_path(repo.listing(since)?);
    let planned = planner.planned(|_| true);
    for entry in listing.values().filter(|entry| entry.kind == Kind::Dir) {
        if planned.contains(&planner.site.place(&entry.path)) {
            continue;
        }
        let Some(now) = planner.stat(&entry.path)? else {
            continue;
        };
        if now.kind == Kind::Dir
            // It may have been opened to be written to.
            && (now.mode == entry.mode || now.mode == entry.mode | 0o700)
            && (now.mode, now.mtime) != (entry.mode, entry.mtime)
            && has_the_names(&planner.site.absolute(&entry.path), since, &listing, &entry.path)
        {
            planner.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(now));
        }
    }
    Ok(())
}

/// A directory goes back in what the operation changed of it; what others changed of it since stays.
fn plan_directory(planner: &mut Planner<'_>, stamp: &Stamp, mut entry: Entry, now: Stat) {
    if !planner.force && stamp.ctime != now.ctime {
        if stamp.mode == entry.mode {
            entry.mode = now.mode;
        }
        let left = stamp.owner.unwrap_or((now.uid, now.gid));
        if left == (entry.uid, entry.gid) || left != (now.uid, now.gid) {
            (entry.uid, entry.gid) = (now.uid, now.gid);
        }
    }
    planner.metadata(&entry, &now);
}

fn plan_modified(planner: &mut Planner<'_>, stamp: &Stamp) -> Result<()> {
    let Some(entry) = planner.listing.get(&stamp.path).cloned() else {
        return Ok(());
    };
    let Some(now) = planner.stat(&stamp.path)? else {
        // Gone since: nothing that could be lost stands there.
        planner.restore(&entry, None);
        return Ok(());
    };
    if entry.kind == Kind::Dir && now.kind == Kind::Dir {
        if planner.is_left(stamp, &now) {
            plan_directory(planner, stamp, entry, now);
        }
        return Ok(());
    }
    let same = planner.site.has(&entry, &now);
    if planner.is_left(stamp, &now) {
        if same {
            // The same bytes, but perhaps one file with a name that it was not one with, or no longer with those that it was.
            planner.finish(&entry, &now);
        } else if now.kind == Kind::Dir || entry.kind == Kind::Dir {
            // It became something else: that goes first.
            planner.cleared.insert(stamp.path.clone());
            if now.kind == Kind::Dir {
                clear_created_below(planner, &stamp.path);
            }
            planner.job(&stamp.path, Act::Clear, None, Some(now));
            planner.restore(&entry, None);
        } else {
            planner.restore(&entry, Some(now));
        }
        return Ok(());
    }
    if same && planner.is_put_back(&stamp.path, &now) {
        planner.finish(&entry, &now);
        return Ok(());
    }
    if same {
        // An undo that was interrupted leaves each of mode and time either as before or as after.
        let between = (now.mode == entry.mode || now.mode == stamp.mode)
            && (now.mtime == entry.mtime || now.mtime == stamp.mtime);
        if between && (now.mode, now.mtime) != (entry.mode, entry.mtime) {
            planner.step(&stamp.path, UndoAction::Metadata, entry.kind, 0);
            planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
        }
        return Ok(());
    }
    planner.conflict(&entry, false)
}

/// What the operation made below a path that is to become a file again goes before, not after.
fn clear_created_below(planner: &mut Planner<'_>, path: &RepoPath) {
    let place = planner.site.place(path);
    let site = planner.site.number;
    for job in &mut planner.plan.work.jobs {
        if job.site == site && job.act == Act::Remove && job.path.starts_with(&place) {
            job.act = Act::Clear;
        }
    }
}

fn plan_removed(planner: &mut Planner<'_>, entry: &Entry) -> Result<()> {
    let Some(now) = planner.stat(&entry.path)? else {
        planner.restore(entry, None);
        return Ok(());
    };
    if now.kind == Kind::Dir && entry.kind == Kind::Dir {
        // Made again since, perhaps by an undo that was interrupted: what comes back into it changes its time in any case.
        planner.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(now));
        return Ok(());
    }
    if planner.site.has(entry, &now) {
        if planner.is_put_back(&entry.path, &now) {
            planner.finish(entry, &now);
        }
        return Ok(());
    }
    if planner.force && now.kind != Kind::Dir && entry.kind != Kind::Dir {
        planner.restore(entry, Some(now));
        return Ok(());
    }
    planner.conflict(entry, true)
}

/// Finds names that still stand of files whose other names come back.
fn anchors(planner: &mut Planner<'_>) -> Result<()> {
    let restored = planner.site.written_groups(&planner.plan.work);
    if restored.is_empty() {
        return Ok(());
    }
    let written = planner.planned(|job| job.act != Act::Metadata);
    let candidates: Vec<Entry> = planner
        .listing
        .values()
        .filter(|e| restored.contains(&e.body.link))
        .cloned()
        .collect();
    for entry in candidates {
        let place = planner.site.place(&entry.path);
        if written.contains(&place) {
            continue;
        }
        if let Some(now) = planner.stat(&entry.path)?
            && planner.site.has(&entry, &now)
        {
            let group = (planner.site.number, entry.body.link.clone());
            planner.plan.work.anchors.insert(group, place);
        }
    }
    Ok(())
}
