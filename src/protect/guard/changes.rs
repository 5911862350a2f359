//! What an operation changed in a root: what differs from what was captured before it (`compare`), and whose doing that is.
//!
//! By the state files as long as they mirror the snapshot ([`of_run`]), else by the snapshot's listing and by content ([`since`]). What cannot be read is not taken for unchanged: such a root has no changes on record, and is compared when an undo is asked for. What was not captured
//! is unknown: never absent before, so it is never created after, whatever name it has by then.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::RepoPath;
use crate::disk::vcs;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::model::merge;
use crate::model::reason::Reason;
use crate::model::rules::{Origin, Root};
use crate::protect::backup::{RootRun, UNREADABLE};
use crate::protect::compare::{Compared, Differing, Present, stamp};
use crate::protect::walk::{Dirty, RootHandle, WalkOptions, walk};
use crate::repo::Repository;
use crate::repo::oplog::{Inside, Meaning, RootChanges, Stamp};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{LeftOut, RootRecord};
use crate::repo::state::State;

/// Files that are looked into after an operation, at most, and their size before and after.
const MAX_LOOKED_INTO: usize = 32;
const MAX_LOOKED_INTO_BYTES: u64 = 16 << 20;

/// How much earlier than the clock says the system may date what is made now: times of files come from a coarser clock.
const CLOCK_SLACK_NANOS: i64 = 20_000_000;

/// What a look at a root came to.
pub(crate) enum Look {
    /// All of it was looked at.
    Whole(Box<RootChanges>),
    /// Something could not be looked at: why.
    Partial(String),
}

/// What is known from before an operation, to tell what it made from what it only moved.
pub(crate) struct Origins<'a> {
    /// When the operation began.
    began: i64,
    /// Numbers of files that were left out.
    left_out: HashSet<u64>,
    /// Roots whose states tell which files were captured.
    runs: &'a [RootRun],
    captured: OnceCell<HashSet<u64>>,
    never: &'a [PathBuf],
    /// When the operation ended, if the look comes later: what is newer is not its own.
    ended: Option<i64>,
    /// Modes that directories have while nobody looks into them.
    modes: HashMap<PathBuf, u32>,
    /// The look comes when bdr may have opened and closed directories since.
    is_late: bool,
    /// Roots of their own, which are compared by themselves, and what is never looked at.
    covered: Vec<PathBuf>,
}

impl<'a> Origins<'a> {
    /// Collects what was left out of all roots of an operation: it may have been moved from one into another.
    pub(crate) fn new<'b>(
        began: DateTime<Utc>,
        left_out: impl Iterator<Item = &'b LeftOut>,
        runs: &'a [RootRun],
        never: &'a [PathBuf],
    ) -> Self {
        Self {
            began: began.timestamp_nanos_opt().unwrap_or(i64::MAX),
            left_out: left_out
                .filter(|left| left.why() != Reason::Elsewhere)
                .map(|left| left.inode)
                .filter(|number| *number != 0)
                .collect(),
            runs,
            captured: OnceCell::new(),
            never,
            ended: None,
            modes: HashMap::new(),
            is_late: false,
            covered: Vec::new(),
        }
    }

    /// Tells that the look comes when the operation has been over for a while, and that directories were opened for it.
    pub(crate) fn later(self, ended: Option<Time>, modes: HashMap<PathBuf, u32>) -> Self {
        Self {
            ended: ended.map(Time::nanos),
            modes,
            is_late: true,
            ..self
        }
    }

    /// Tells which places are looked at by themselves, or never.
    pub(crate) fn beside(self, covered: Vec<PathBuf>) -> Self {
        Self { covered, ..self }
    }

    /// Gives directories that were opened for the look the modes that they have while nobody looks: else each of them would differ.
    fn close_again(&self, record: &RootRecord, present: &mut Present) {
        for (dir, mode) in &self.modes {
            let below = RepoPath::below(record.path.as_path(), dir);
            if let Some(standing) = below.and_then(|path| present.objects.get_mut(&path)) {
                standing.stat.mode = *mode;
            }
        }
    }

    /// Returns true if something happened after the operation.
    fn is_later(&self, time: Time) -> bool {
        self.ended.is_some_and(|ended| time.nanos() > ended)
    }

    /// Returns true if a file with this number was captured, in whichever root: it was only moved, and comes back where it was.
    fn has_captured(&self, stat: &Stat) -> bool {
        let states = || self.runs.iter().filter_map(|run| run.state.as_ref());
        let collect = || states().flat_map(State::inodes).collect();
        self.captured.get_or_init(collect).contains(&stat.inode)
    }

    /// Returns true if an object under a new name was there before, without having been captured.
    fn is_older(
        &self,
        stat: &Stat,
        born: Option<Time>,
        is_captured: impl FnOnce() -> bool,
    ) -> bool {
        match born {
            // A number is given again once its file is gone: the time of birth tells the two apart.
            Some(born) if self.left_out.contains(&stat.inode) => {
                born.nanos() <= self.began.saturating_add(CLOCK_SLACK_NANOS)
            }
            Some(born) => {
                born.nanos() < self.began.saturating_sub(CLOCK_SLACK_NANOS) && !is_captured()
            }
            None => self.left_out.contains(&stat.inode),
        }
    }

    /// Sorts what turned up under new names into what was made and what was there before.
    fn sort_new(
        &self,
        handle: Option<&RootHandle>,
        new: Vec<(RepoPath, Stat)>,
        is_captured: &dyn Fn(&Stat) -> bool,
        changes: &mut RootChanges,
    ) {
        for (path, stat) in new {
            let above = changes.unknown.last();
            if above.is_some_and(|top| path.starts_with(top)) {
                continue;
            }
            let born = handle.and_then(|handle| handle.born(&path));
            if born.is_some_and(|born| self.is_later(born)) {
                continue;
            }
            if self.is_older(&stat, born, || is_captured(&stat)) {
                changes.unknown.push(path);
            } else {
                changes.created.push(stamp(path, &stat));
            }
        }
    }

    /// Finds what was left out and is not there any more, or is not as it was: it cannot come back.
    fn find_uncaptured<'b>(
        &self,
        handle: Option<&RootHandle>,
        left_out: impl Iterator<Item = &'b LeftOut>,
        changes: &mut RootChanges,
    ) {
        let is_unread = |left: &LeftOut| left.reason.starts_with(UNREADABLE);
        let known = |left: &&LeftOut| {
            (left.inode != 0 || is_unread(left))
                && left.why() != Reason::Own
                && left.why() != Reason::Elsewhere
                && left.path.name() != crate::privacy::SECRET_NAME
        };
        for left in left_out.filter(known) {
            let now = match handle.map(|handle| handle.stat(&left.path)) {
                Some(Ok(now)) if left.inode == 0 || now.inode == left.inode => now,
                Some(Err(error))
                    if !matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                _ => {
                    changes.lost.push(left.path.clone());
                    continue;
                }
            };
            let is_altered = match now.kind {
                // What is left out by a rule is not looked into: it may be large, and was named before.
                Kind::Dir if !is_unread(left) => false,
                Kind::Dir => self.is_altered_dir(handle, &left.path, &now),
                // Who has rules of his own for what is left out does not want to hear of it.
                _ => left.why() != Reason::Excluded && self.is_new(now.ctime),
            };
            if is_altered && !changes.altered.contains(&left.path) {
                changes.altered.push(left.path.clone());
            }
        }
    }

    /// Returns true if something happened since the operation began.
    fn is_new(&self, time: Time) -> bool {
        time.nanos() >= self.began
    }

    /// Returns true if a directory that could not be looked into is not as it was, as far as that can be told.
    fn is_altered_dir(&self, handle: Option<&RootHandle>, path: &RepoPath, now: &Stat) -> bool {
        if !self.is_late {
            // Its mode or owner. What is in it is looked at when an undo is asked for, which opens it.
            return self.is_new(now.ctime) && !self.is_new(now.mtime);
        }
        let Some(handle) = handle else { return false };
        let top = handle.absolute(path);
        let mut inside = self.covered.iter().filter(|root| root.starts_with(&top));
        let is_told = inside.any(|root| root.parent() == Some(&top));
        if self.is_new(now.mtime) && !is_told {
            return true;
        }
        let options = WalkOptions {
            never: &self.covered,
            max_files: None,
            keep_known: true,
        };
        let is_newer = |found: &Dirty| match found.stat.kind {
            // To open a directory and close it again changes the other time.
            Kind::Dir => !found.path.is_root() && self.is_new(found.stat.mtime),
            _ => !self.covered.contains(&found.path.to_path(&top)) && self.is_new(found.stat.ctime),
        };
        let below = Root::ad_hoc(top.clone(), Origin::Operand);
        let scan = walk(&below, None, &options);
        scan.is_ok_and(|scan| scan.dirty.iter().any(is_newer))
    }
}

/// Returns what changed in a root since it was captured by this process, or by one whose state still stands.
///
/// # Errors
/// The rules of the root do not compile.
pub(crate) fn of_run(repo: &Repository, run: &RootRun, origins: &Origins<'_>) -> Result<Look> {
    let (scan, handle) = match run.look_again(repo, origins.never) {
        Ok(seen) => seen,
        Err(error @ Error::Io { .. }) => return Ok(Look::Partial(error.to_string())),
        Err(error) => return Err(error),
    };
    if let Some((_, error)) = scan.problems.first() {
        return Ok(Look::Partial(error.to_string()));
    }
    let mut changes = RootChanges {
        name: run.root.name.clone(),
        ..RootChanges::default()
    };
    (changes.deleted_files, changes.deleted_bytes) = run.weigh(&scan.removed);
    changes.removed = scan.removed;
    changes.merges = inside_of_run(repo, run, &scan.dirty, handle.as_ref());
    let mut new = Vec::new();
    for dirty in scan.dirty {
        match dirty.prior {
            Some(_) => changes.modified.push(stamp(dirty.path, &dirty.stat)),
            None => new.push((dirty.path, dirty.stat)),
        }
    }
    let is_captured = |stat: &Stat| origins.has_captured(stat);
    origins.sort_new(handle.as_ref(), new, &is_captured, &mut changes);
    origins.find_uncaptured(handle.as_ref(), run.unknown(), &mut changes);
    changes.indexes = indexes(repo, handle.as_ref(), &changes);
    Ok(Look::Whole(Box::new(changes)))
}

/// Returns how a root differs from what a snapshot has of it, by content where no state tells.
///
/// # Errors
/// The listing cannot be read, or the rules of the root do not compile.
pub(crate) fn since(repo: &Repository, record: &RootRecord, origins: &Origins<'_>) -> Result<Look> {
    let mut compared = match Compared::of(repo, record, origins.never) {
        Ok(compared) => compared,
        Err(error @ Error::Io { .. }) => return Ok(Look::Partial(error.to_string())),
        Err(error) => return Err(error),
    };
    let unknown_before =
        |path: &RepoPath| record.left_out.iter().any(|l| path.starts_with(&l.path));
    let mut problems = compared.present.problems.iter();
    if let Some((_, error)) = problems.find(|(path, _)| !unknown_before(path)) {
        return Ok(Look::Partial(error.to_string()));
    }
    origins.close_again(record, &mut compared.present);
    let left_out = compared.present.left_out.iter().map(|left| &left.path);
    let left_out: Vec<&RepoPath> = left_out.collect();
    // What is left out, then or now, says nothing.
    let is_out = |path: &RepoPath| {
        unknown_before(path) || left_out.iter().any(|left| path.starts_with(left))
    };
    let mut found = Sorted::default();
    let mut changes = RootChanges {
        name: record.name.clone(),
        ..RootChanges::default()
    };
    for differing in compared.differences(repo, &is_out) {
        found.sort(differing, origins, &mut changes);
    }
    // Listings have no numbers of files: what is gone from one place and turns up in another was moved, and what is one file with something that
    // is as it was has only been given another name.
    let names = match found.new.is_empty() {
        true => HashSet::new(),
        false => found.still_there(&compared),
    };
    let is_captured = |stat: &Stat| {
        found.moved.contains(&(stat.kind, stat.size, stat.mtime))
            || names.contains(&(stat.device, stat.inode))
            || origins.has_captured(stat)
    };
    let handle = compared.present.handle.as_ref();
    origins.sort_new(handle, found.new, &is_captured, &mut changes);
    origins.find_uncaptured(handle, record.left_out.iter(), &mut changes);
    changes.merges = inside(repo, handle, &found.altered);
    Ok(Look::Whole(Box::new(changes)))
}

/// What differs from a listing, by what has to be asked of it next.
#[derive(Default)]
struct Sorted<'a> {
    /// Made, or moved here.
    new: Vec<(RepoPath, Stat)>,
    /// What was there, and the size of what is there now.
    altered: Vec<(&'a Entry, u64)>,
    /// What tells an object that is gone where it turns up again.
    moved: HashSet<(Kind, u64, Time)>,
}

impl<'a> Sorted<'a> {
    fn sort(&mut self, differing: Differing<'a>, origins: &Origins<'_>, changes: &mut RootChanges) {
        match differing {
            Differing::New(path, standing) => self.new.push((path.clone(), standing.stat)),
            Differing::Altered(entry, standing) => {
                self.altered.push((entry, standing.stat.size));
                let mut stamp = stamp(entry.path.clone(), &standing.stat);
                if stamp.kind != Kind::Dir && origins.is_later(stamp.ctime) {
                    // How the operation left it is not known any more: nothing is as it left it.
                    stamp.inode = 0;
                }
                changes.modified.push(stamp);
            }
            Differing::Gone(entry) => {
                if entry.kind == Kind::File {
                    changes.deleted_files += 1;
                    changes.deleted_bytes += entry.size;
                }
                self.moved.insert((entry.kind, entry.size, entry.mtime));
                // What is below a directory that is gone goes without saying.
                let top = changes.removed.last();
                if !top.is_some_and(|top| entry.path.starts_with(top)) {
                    changes.removed.push(entry.path.clone());
                }
            }
        }
    }
}

impl Sorted<'_> {
    /// Returns the files, by device and number, that are where they were and have the content that they had.
    fn still_there(&self, compared: &Compared) -> HashSet<(u64, u64)> {
        let written = self.altered.iter().filter(|(entry, _)| {
            let now = compared.present.objects.get(&entry.path);
            now.is_none_or(|now| {
                let now = now.stat;
                (now.kind, now.size, now.mtime) != (entry.kind, entry.size, entry.mtime)
            })
        });
        let written: HashSet<&RepoPath> = written.map(|(entry, _)| &entry.path).collect();
        let there = compared.present.objects.iter();
        there
            .filter(|(path, _)| compared.listing.contains_key(*path) && !written.contains(path))
            .map(|(_, standing)| (standing.stat.device, standing.stat.inode))
            .collect()
    }
}

/// Returns the directories of a root that could not be looked into when it was captured, and that are gone or hold something by now that changed since.
pub(crate) fn unread_and_altered(record: &RootRecord, origins: &Origins<'_>) -> Vec<RepoPath> {
    let mut unread = record
        .left_out
        .iter()
        .filter(|left| is_unread_dir(left))
        .peekable();
    if unread.peek().is_none() {
        return Vec::new();
    }
    let root = Root::ad_hoc(record.path.as_path().to_path_buf(), Origin::Operand);
    // One that is there and cannot be opened even now is somebody else's.
    let Ok(handle) = RootHandle::of(&root) else {
        return Vec::new();
    };
    let mut changes = RootChanges::default();
    origins.find_uncaptured(handle.as_ref(), unread, &mut changes);
    changes.lost.append(&mut changes.altered);
    changes.lost
}

/// Returns true if nothing but its name is known of a directory.
pub(crate) fn is_unread_dir(left: &LeftOut) -> bool {
    left.inode == 0 && left.reason.starts_with(UNREADABLE)
}

/// Returns what the indexes of git mean that an operation left.
fn indexes(repo: &Repository, handle: Option<&RootHandle>, changes: &RootChanges) -> Vec<Meaning> {
    let stamps = changes.created.iter().chain(&changes.modified);
    let named = stamps.filter(|stamp| stamp.path.name() == b"index" && stamp.kind == Kind::File);
    let meaning = |stamp: &Stamp| {
        let path = handle?.absolute(&stamp.path);
        let digest = vcs::index_meaning(&path, &repo.merge_key().ok()?)?;
        Some(Meaning {
            path: stamp.path.clone(),
            digest,
        })
    };
    named.filter_map(meaning).collect()
}

/// Looks into files that can be merged, within a budget: an end record is not to take longer than its command.
struct Glances<'a> {
    repo: &'a Repository,
    handle: &'a RootHandle,
    reader: Reader<'a>,
    left: u64,
    found: Vec<Inside>,
}

impl<'a> Glances<'a> {
    fn new(repo: &'a Repository, handle: &'a RootHandle) -> Self {
        Self {
            repo,
            handle,
            reader: Reader::new(repo),
            left: MAX_LOOKED_INTO_BYTES,
            found: Vec::new(),
        }
    }

    /// Adds what changed inside of a file, of which `before` returns the old content for the new one. What cannot be told is left out: then there
    /// is a conflict instead.
    fn look(
        &mut self,
        path: &RepoPath,
        sizes: (u64, u64),
        before: impl FnOnce(&mut Reader<'_>, &[u8]) -> Option<Vec<u8>>,
    ) {
        let bytes = sizes.0 + sizes.1;
        let fits = merge::is_mergeable(path.name())
            && sizes.0.max(sizes.1) <= merge::MAX_BYTES
            && bytes <= self.left
            && self.found.len() < MAX_LOOKED_INTO;
        if !fits {
            return;
        }
        self.left -= bytes;
        let told = read(self.handle, path).and_then(|after| {
            let before = before(&mut self.reader, &after)?;
            describe(self.repo, path, &before, &after)
        });
        self.found.extend(told.map(|changes| Inside {
            path: path.clone(),
            changes,
        }));
    }
}

fn read(handle: &RootHandle, path: &RepoPath) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = handle.open_file(path).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, merge::MAX_BYTES), &mut bytes)
        .ok()?;
    Some(bytes)
}

/// Returns what changed inside of files, by the state.
fn inside_of_run(
    repo: &Repository,
    run: &RootRun,
    dirty: &[Dirty],
    handle: Option<&RootHandle>,
) -> Vec<Inside> {
    let (Some(state), Some(handle)) = (&run.state, handle) else {
        return Vec::new();
    };
    let mut glances = Glances::new(repo, handle);
    for changed in dirty {
        let Some(known) = changed.prior.map(|number| state.entry(number as usize)) else {
            continue;
        };
        if known.stat.kind != Kind::File || changed.stat.kind != Kind::File {
            continue;
        }
        let sizes = (known.stat.size, changed.stat.size);
        glances.look(&changed.path, sizes, |reader, after| {
            let body = known.body()?;
            match &body.content {
                // Only its times are new: the old content need not be read.
                Some(content) if content.digest == Digest::of(after) => Some(after.to_vec()),
                _ => reader.original_to_vec(&body).ok(),
            }
        });
    }
    glances.found
}

/// Returns what changed inside of files, by the listing.
fn inside(
    repo: &Repository,
    handle: Option<&RootHandle>,
    altered: &[(&Entry, u64)],
) -> Vec<Inside> {
    let Some(handle) = handle else {
        return Vec::new();
    };
    let mut glances = Glances::new(repo, handle);
    for (entry, size) in altered.iter().filter(|(entry, _)| entry.kind == Kind::File) {
        glances.look(&entry.path, (entry.size, *size), |reader, _| {
            reader.original_to_vec(&entry.body).ok()
        });
    }
    glances.found
}

fn describe(
    repo: &Repository,
    path: &RepoPath,
    before: &[u8],
    after: &[u8],
) -> Option<merge::Changes> {
    if before == after {
        return Some(merge::Changes::none(path.name()));
    }
    merge::describe(path.name(), before, after, &repo.merge_key().ok()?)
}
