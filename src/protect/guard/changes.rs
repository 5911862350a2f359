//! What an operation changed in a root: the differences from its snapshot (`compare`), and which of
//! them are its own.
//!
//! Uses the state files while they mirror the snapshot ([`of_run`]), else the snapshot's listing
//! and content ([`since`]). A root that cannot be read has no changes on record and is compared
//! when an undo is requested, because unreadable does not mean unchanged. Whatever was not captured
//! is unknown: it never counts as absent before, so never as created after, under any name.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{RepoPath, os_to_bytes};
use crate::disk::vcs;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::model::merge;
use crate::model::reason::Reason;
use crate::model::rules::{Origin, Root};
use crate::protect::backup::RootRun;
use crate::protect::compare::{Compared, Differing, Present, UNKNOWN, stamp};
use crate::protect::walk::{Dirty, RootHandle, WalkOptions, walk};
use crate::repo::Repository;
use crate::repo::oplog::{Inside, Meaning, RootChanges, Stamp};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{LeftOut, RootRecord};
use crate::repo::state::State;

/// How many files are read after an operation to find changes inside them, and their total size
/// before and after, in bytes.
const MAX_LOOKED_INTO: usize = 32;
const MAX_LOOKED_INTO_BYTES: u64 = 16 << 20;

/// How far the time stamp of a new file may be before the clock, because file times come from a
/// coarser clock.
const CLOCK_SLACK_NANOS: i64 = 20_000_000;

/// The result of walking a root after an operation.
pub(crate) enum Look {
    /// All of it was walked.
    Whole(Box<RootChanges>),
    /// Part of it could not be read; says why.
    Partial(String),
}

/// What was known before an operation, to tell what it made from what it only moved.
pub(crate) struct Origins<'a> {
    began: i64,
    /// Inodes of files that were left out.
    left_out: HashSet<u64>,
    /// Roots whose states tell which files were captured.
    runs: &'a [RootRun],
    captured: OnceCell<HashSet<u64>>,
    never: &'a [PathBuf],
    /// When the operation ended, if we look later: newer changes are not its own.
    ended: Option<i64>,
    /// The original modes of directories that bdr opened for the walk.
    modes: HashMap<PathBuf, u32>,
    /// bdr may have opened and closed directories since the operation.
    is_late: bool,
    /// Roots that are compared by themselves, and paths that are never read.
    covered: Vec<PathBuf>,
    /// Files, by device and inode, that bdr itself gave a name, and of which it has another one.
    linked: Option<&'a HashSet<(u64, u64)>>,
}

impl<'a> Origins<'a> {
    /// Collects what all roots of an operation left out: it may have moved from one root to
    /// another.
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
            linked: None,
        }
    }

    /// Says that the operation ended a while ago, and that directories were opened for the walk.
    pub(crate) fn later(self, ended: Option<Time>, modes: HashMap<PathBuf, u32>) -> Self {
        Self {
            ended: ended.map(Time::nanos),
            modes,
            is_late: true,
            ..self
        }
    }

    /// Says which files, by device and inode, the operation gave a name that bdr keeps under another
    /// one.
    pub(crate) fn with_linked(self, linked: &'a HashSet<(u64, u64)>) -> Self {
        Self {
            linked: Some(linked),
            ..self
        }
    }

    fn is_linked(&self, stat: &Stat) -> bool {
        self.linked
            .is_some_and(|linked| linked.contains(&(stat.device, stat.inode)))
    }

    /// Returns the stamp of an object as it is now.
    fn stamp(&self, path: RepoPath, stat: &Stat) -> Stamp {
        let mut stamp = stamp(path, stat);
        if self.is_linked(stat) {
            stamp.ctime = UNKNOWN;
        }
        stamp
    }

    /// Says which places are compared by themselves, or never.
    pub(crate) fn beside(self, covered: Vec<PathBuf>) -> Self {
        Self { covered, ..self }
    }

    /// Gives directories that were opened for the walk their original modes; otherwise each of them
    /// would differ.
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

    /// Returns true if a file with this inode was captured in any root: then it was only moved, and
    /// an undo brings it back.
    fn has_captured(&self, stat: &Stat) -> bool {
        let states = || self.runs.iter().filter_map(|run| run.state.as_ref());
        let collect = || states().flat_map(State::inodes).collect();
        self.captured.get_or_init(collect).contains(&stat.inode)
    }

    /// Returns true if an object under a new name existed before without having been captured.
    fn is_older(
        &self,
        stat: &Stat,
        born: Option<Time>,
        is_captured: impl FnOnce() -> bool,
    ) -> bool {
        match born {
            // An inode is reused once its file is gone; the birth time tells the two files apart.
            Some(born) if self.left_out.contains(&stat.inode) => {
                born.nanos() <= self.began.saturating_add(CLOCK_SLACK_NANOS)
            }
            Some(born) => {
                born.nanos() < self.began.saturating_sub(CLOCK_SLACK_NANOS) && !is_captured()
            }
            None => self.left_out.contains(&stat.inode),
        }
    }

    /// Sorts new names into what was made and what existed before.
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
            let is_older = || self.is_older(&stat, born, || is_captured(&stat));
            if !self.is_linked(&stat) && is_older() {
                changes.unknown.push(path);
            } else {
                changes.created.push(self.stamp(path, &stat));
            }
        }
    }

    /// Finds left-out objects that are gone or have changed: they cannot be brought back.
    fn find_uncaptured<'b>(
        &self,
        handle: Option<&RootHandle>,
        left_out: impl Iterator<Item = &'b LeftOut>,
        changes: &mut RootChanges,
    ) {
        let is_unread = |left: &LeftOut| left.why() == Reason::Unreadable;
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
                // A directory left out by a rule is not walked: it may be large, and it was
                // reported before.
                Kind::Dir if !is_unread(left) => false,
                Kind::Dir => self.is_altered_dir(handle, &left.path, &now),
                // Users who exclude paths by rules of their own do not want to hear about them.
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

    /// Returns true if a directory that could not be read has changed, as far as we can tell.
    fn is_altered_dir(&self, handle: Option<&RootHandle>, path: &RepoPath, now: &Stat) -> bool {
        if !self.is_late {
            // Only its mode or owner. Its content is compared when an undo opens it.
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
            // bdr opening and closing a directory changes only the ctime, so mtime decides.
            Kind::Dir => !found.path.is_root() && self.is_new(found.stat.mtime),
            _ => !self.covered.contains(&found.path.to_path(&top)) && self.is_new(found.stat.ctime),
        };
        let below = Root::ad_hoc(top.clone(), Origin::Operand);
        let scan = walk(&below, None, &options);
        scan.is_ok_and(|scan| scan.dirty.iter().any(is_newer))
    }
}

/// Returns what changed in a root since this process captured it, or another one whose state is
/// still current.
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
            Some(_) => changes
                .modified
                .push(origins.stamp(dirty.path, &dirty.stat)),
            None => new.push((dirty.path, dirty.stat)),
        }
    }
    let is_captured = |stat: &Stat| origins.has_captured(stat);
    origins.sort_new(handle.as_ref(), new, &is_captured, &mut changes);
    origins.find_uncaptured(handle.as_ref(), run.unknown(), &mut changes);
    changes.indexes = indexes(repo, handle.as_ref(), &changes);
    Ok(Look::Whole(Box::new(changes)))
}

/// Returns how a root differs from its snapshot, by content where no state tells.
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
    // Paths left out then or now prove nothing.
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
    // Listings have no inodes: an object that is gone in one place and appears in another was
    // moved, and a new name of a file that is otherwise unchanged is only another hard link.
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
    changes.merges = inside(repo, handle, record.path.as_path(), &found.altered);
    Ok(Look::Whole(Box::new(changes)))
}

/// Differences from a listing, sorted by what has to be checked next.
#[derive(Default)]
struct Sorted<'a> {
    new: Vec<(RepoPath, Stat)>,
    /// What existed before, and its size now.
    altered: Vec<(&'a Entry, u64)>,
    /// Identifies an object that is gone, in case it appears elsewhere.
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
                    // Nobody knows any more how the operation left it, so no stamp may match.
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
                // Everything below a directory that is gone is gone too.
                let top = changes.removed.last();
                if !top.is_some_and(|top| entry.path.starts_with(top)) {
                    changes.removed.push(entry.path.clone());
                }
            }
        }
    }
}

impl Sorted<'_> {
    /// Returns the files, by device and inode, that are in their old place with their old content.
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

/// Returns the directories of a root that could not be read when it was captured, and that are gone
/// or contain something that changed since.
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
    // It exists and cannot be opened even now, so it is somebody else's.
    let Ok(handle) = RootHandle::of(&root) else {
        return Vec::new();
    };
    let mut changes = RootChanges::default();
    origins.find_uncaptured(handle.as_ref(), unread, &mut changes);
    changes.lost.append(&mut changes.altered);
    changes.lost
}

/// Returns true if only the name of a directory is known.
pub(crate) fn is_unread_dir(left: &LeftOut) -> bool {
    left.inode == 0 && left.why() == Reason::Unreadable
}

/// Returns the meaning of the git indexes that an operation left.
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

/// Reads files that can be merged, within a budget: writing an end record must not take longer than
/// its command.
struct Glances<'a> {
    repo: &'a Repository,
    handle: &'a RootHandle,
    /// The name of the root, which may be a file itself.
    root: Vec<u8>,
    reader: Reader<'a>,
    left: u64,
    found: Vec<Inside>,
}

impl<'a> Glances<'a> {
    fn new(repo: &'a Repository, handle: &'a RootHandle, root: &Path) -> Self {
        let name = root.file_name().unwrap_or_default();
        Self {
            repo,
            handle,
            root: os_to_bytes(name).into_owned(),
            reader: Reader::new(repo),
            left: MAX_LOOKED_INTO_BYTES,
            found: Vec::new(),
        }
    }

    /// Adds the changes inside a file; `before` returns the old content for the new one. If they
    /// cannot be determined they are left out, and an undo then sees a conflict.
    fn look(
        &mut self,
        path: &RepoPath,
        sizes: (u64, u64),
        before: impl FnOnce(&mut Reader<'_>, &[u8]) -> Option<Vec<u8>>,
    ) {
        let bytes = sizes.0 + sizes.1;
        let name = match path.is_root() {
            true => &self.root[..],
            false => path.name(),
        };
        let fits = merge::is_mergeable(name)
            && sizes.0.max(sizes.1) <= merge::MAX_BYTES
            && bytes <= self.left
            && self.found.len() < MAX_LOOKED_INTO;
        if !fits {
            return;
        }
        self.left -= bytes;
        let told = read(self.handle, path).and_then(|after| {
            let before = before(&mut self.reader, &after)?;
            describe(self.repo, name, &before, &after)
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

/// Returns the changes inside files, by the state.
fn inside_of_run(
    repo: &Repository,
    run: &RootRun,
    dirty: &[Dirty],
    handle: Option<&RootHandle>,
) -> Vec<Inside> {
    let (Some(state), Some(handle)) = (&run.state, handle) else {
        return Vec::new();
    };
    let mut glances = Glances::new(repo, handle, &run.root.path);
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
                // Only its times changed: no need to read the old content.
                Some(content) if content.digest == Digest::of(after) => Some(after.to_vec()),
                _ => reader.original_to_vec(&body).ok(),
            }
        });
    }
    glances.found
}

/// Returns the changes inside files, by the listing.
fn inside(
    repo: &Repository,
    handle: Option<&RootHandle>,
    root: &Path,
    altered: &[(&Entry, u64)],
) -> Vec<Inside> {
    let Some(handle) = handle else {
        return Vec::new();
    };
    let mut glances = Glances::new(repo, handle, root);
    for (entry, size) in altered.iter().filter(|(entry, _)| entry.kind == Kind::File) {
        glances.look(&entry.path, (entry.size, *size), |reader, _| {
            reader.original_to_vec(&entry.body).ok()
        });
    }
    glances.found
}

fn describe(repo: &Repository, name: &[u8], before: &[u8], after: &[u8]) -> Option<merge::Changes> {
    if before == after {
        return Some(merge::Changes::none(name));
    }
    merge::describe(name, before, after, &repo.merge_key().ok()?)
}
