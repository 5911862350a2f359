//! Turns what was kept into a snapshot and an operation.
//!
//! Order on disk, as for every guard: kept files → records of their sets → key frame → snapshot →
//! begin → end, the records as one batch: the command is over, so nobody needs one of them before
//! the others. A crash in between leaves the journal, from which all of it is done again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};

use super::journal::{Head, Held, Set};
use super::keep::now_at;
use super::roots::inside_of;
use super::sorted::{Sorted, Taken, is_closed};
use crate::base::error::{Error, Result};
use crate::base::id::{Id, SnapshotId};
use crate::base::monitor::NullMonitor;
use crate::base::path::{AbsolutePath, RawName, RepoPath};
use crate::disk::fsutil;
use crate::disk::fsutil::area::{Area, OwnArea, Parted, Source};
use crate::disk::storage::Hold;
use crate::model::manifest::{Body, Content, Entry, Kept, Kind, Listing, Time};
use crate::model::reason::Reason;
use crate::privacy;
use crate::protect::capture::{Capture, OwnNames, Shared};
use crate::repo::kept::KeptSet;
use crate::repo::oplog::{Begin, End, Keeping, Operation, OperationKind, Protection};
use crate::repo::pack::{Finished, Level};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, SnapshotKind, Stats, Trigger};
use crate::repo::{Batch, Repository};

/// How the command ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) elapsed: TimeDelta,
    pub(super) now: DateTime<Utc>,
    /// Nobody saw it.
    pub(super) unseen: bool,
}

/// The snapshot of what was there, until it is written.
struct Before {
    id: SnapshotId,
    packs: Vec<Finished>,
    /// Nothing that it refers to is removed before it is there.
    _hold: Option<Hold>,
}

/// Bytes of living files that are copied while somebody waits.
const COPIED_AT_ONCE: u64 = 32 << 20;

impl Ended {
    /// A command of which only the end is known.
    pub(super) fn at(now: DateTime<Utc>, elapsed: TimeDelta) -> Self {
        Self {
            exit: None,
            signal: None,
            elapsed: elapsed.max(TimeDelta::zero()),
            now,
            unseen: false,
        }
    }
}

/// Compares what was touched with what is there now, and makes sure that nothing of it can change any
/// more.
///
/// # Errors
/// What is only needed now cannot be kept. The journal stays.
pub(super) fn sort(
    repo: &Repository,
    head: &Head,
    taken: &mut Taken,
    never: &[PathBuf],
) -> Result<Sorted> {
    let mut sorted = Sorted::new(repo, never, taken);
    let mut closed = Vec::new();
    for (path, before) in std::mem::take(&mut taken.before) {
        match is_closed(&path) {
            true => closed.push((path, before)),
            false => sorted.sort(&path, before),
        }
    }
    let opened = sorted.sort_closed(closed);
    sorted.note_parted();
    if !sorted.is_empty() {
        sorted.keep_what_is_in_place(repo, head)?;
        sorted.look_again(opened);
        sorted.changes = sorted.found_changes(repo, taken);
    }
    Ok(sorted)
}

/// Writes the snapshot of what was there before, and the operation.
///
/// # Errors
/// The repository cannot be written. The journal stays.
pub(super) fn write(
    repo: &Repository,
    head: &Head,
    mut sorted: Sorted,
    taken: &Taken,
    ended: Ended,
) -> Result<Operation> {
    let mut batch = repo.batch();
    let before = match sorted.is_empty() {
        true => {
            discard(&taken.sets);
            None
        }
        false => Some(sorted.snapshot(repo, head, taken, &mut batch)?),
    };
    sorted.note_touches(repo);
    let id = before.as_ref().map(|before| before.id);
    let begin = begin_of(head, id, &sorted, taken);
    batch.begin(&begin)?;
    let end = End {
        exit: ended.exit,
        signal: ended.signal,
        roots: sorted.changes,
        interrupted: ended.unseen,
        ..End::new(repo.id(), head.id, ended.now, ended.elapsed)
    };
    batch.end(&end)?;
    batch.write()?;
    if let Some(before) = before {
        repo.remember_packs(&before.packs);
    }
    Ok(Operation::recorded(begin, Some(end)))
}

fn begin_of(head: &Head, before: Option<SnapshotId>, sorted: &Sorted, taken: &Taken) -> Begin {
    let note = |path: &PathBuf, reason: &str| PathNote {
        path: RawName(path.clone().into_os_string()),
        reason: reason.to_owned(),
    };
    let mut not_captured = sorted.not_captured.clone();
    let foreign = taken.foreign.iter();
    not_captured.extend(foreign.map(|path| note(path, "it is in a mount that the command made")));
    if taken.unseen > 0 {
        let cwd = head.cwd.as_path().to_path_buf();
        let reason = Reason::Unseen.because(&taken.unseen.to_string());
        not_captured.push(note(&cwd, &reason));
    }
    Begin {
        before,
        not_captured,
        ..begun(head)
    }
}

/// Returns the record of an operation as far as it is known when it begins.
pub(super) fn begun(head: &Head) -> Begin {
    let words = (head.argv.clone(), head.cwd.clone());
    Begin {
        label: head.label.clone(),
        remote: head.remote.clone(),
        pid: head.pid,
        protection: Protection::by(Keeping::Capture),
        session: head.session,
        chain: head.chain.clone(),
        ..Begin::new(
            head.repository,
            head.id,
            OperationKind::Guard,
            head.time,
            words,
        )
    }
}

/// Returns the record of a session, which stands for its operations.
pub(super) fn begin_of_session(head: &Head) -> Begin {
    Begin {
        session: Some(head.id),
        ..begun(head)
    }
}

/// Copies what is kept of files that still exist under another name, as far as that is quick: whoever
/// writes to them would change what is kept, until it is packed. Returns the others.
pub(super) fn part_from_living(taken: &Taken) -> HashSet<(PathBuf, u32)> {
    let mut left = COPIED_AT_ONCE;
    let mut living = HashSet::new();
    for (set, files) in &taken.sets {
        let dir = set.dir.as_path();
        let mut area = Area::left_at(dir);
        for number in 0..u32::try_from(files.len()).unwrap_or(u32::MAX) {
            match area.part(number, left) {
                Ok(Parted::Done(bytes)) => left -= bytes,
                Ok(Parted::Alone) => {}
                Ok(Parted::TooLarge) | Err(_) => {
                    living.insert((dir.to_path_buf(), number));
                }
            }
        }
    }
    living
}

/// Makes what was kept durable, and says whose it is: while the command ran, neither was worth a wait.
///
/// What a power cut took of an area is not there to be written out: without it the operation is still
/// recorded, and an undo says what is lost.
fn make_durable(repo: &Repository, taken: &Taken) -> Result<()> {
    for (number, (set, files)) in taken.sets.iter().enumerate() {
        let dir = set.dir.as_path();
        let there = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("write", dir, error))
            }
            _ => Ok(()),
        };
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let area = Area::left_at(dir);
        there(area.own(&KeptSet::owner(repo.id(), set.id)))?;
        // Links are ordered with the removal of the names by the file system itself; copies are
        // content of their own.
        for (_, file) in taken.copies.iter().filter(|(set, _)| *set == number) {
            there(area.sync_file(*file))?;
        }
        there(area.sync(count, false))?;
    }
    Ok(())
}

/// Removes sets of which nothing is needed.
pub(super) fn discard(sets: &[(Set, Vec<(u64, Time)>)]) {
    for (set, _) in sets {
        let _ = Area::left_at(set.dir.as_path()).into_tree().remove();
    }
}

impl Sorted {
    /// Keeps the content of files of which only the metadata changed: an undo compares it.
    fn keep_what_is_in_place(&mut self, repo: &Repository, head: &Head) -> Result<()> {
        let mut by_device: BTreeMap<u64, Vec<(RepoPath, PathBuf)>> = BTreeMap::new();
        for (below, (before, path)) in &self.entries {
            if before.content == Held::InPlace && self.modified.contains_key(below) {
                let device = before.stat.device;
                let list = by_device.entry(device).or_default();
                list.push((below.clone(), path.clone()));
            }
        }
        for (device, list) in by_device {
            let first = &list[0].1;
            let id = repo.vault().own_name(crate::base::id::Id::new(head.time));
            let Some((dir, mut area)) = crate::protect::staging::area_for(repo, first, device, id)
            else {
                self.give_up(list.into_iter().map(|(below, _)| below));
                continue;
            };
            let mut files = Vec::new();
            let mut left = COPIED_AT_ONCE;
            for (below, path) in list {
                let number = u32::try_from(files.len()).unwrap_or(u32::MAX);
                let bytes = crate::base::path::os_to_bytes(path.as_os_str());
                let source = Source {
                    dir: None,
                    path: &bytes,
                };
                let bytes = now_at(&path).map_or(0, |now| now.size);
                let mut copied = || {
                    let file = fsutil::open_own(&path);
                    file.is_ok_and(|file| area.copy_file(&file, number).is_ok())
                };
                let is_copied = bytes <= left && copied();
                left -= if is_copied { bytes } else { 0 };
                let is_kept = is_copied || area.link(&source, number).is_ok();
                let Some((size, time)) = area.look(number).ok().filter(|_| is_kept) else {
                    self.give_up([below].into_iter());
                    continue;
                };
                if let Some(now) = now_at(&path) {
                    if !is_copied {
                        self.linked.insert((now.device, now.inode));
                    }
                    self.modified.insert(below.clone(), now);
                }
                files.push((size, Some(time)));
                let kept = Kept {
                    set: id,
                    number,
                    size,
                };
                self.in_place.insert(below, Content::kept(kept));
            }
            let count = files.len() as u32;
            area.own(&KeptSet::owner(repo.id(), id))
                .and_then(|()| area.sync(count, false))
                .map_err(|error| Error::io("write", &dir, error))?;
            self.later_sets
                .push(set_of(repo, id, &dir, files, head.pack_bytes)?);
        }
        Ok(())
    }

    /// Leaves out what cannot be kept after all.
    fn give_up(&mut self, paths: impl Iterator<Item = RepoPath>) {
        for below in paths {
            if let Some((_, path)) = self.entries.remove(&below) {
                self.modified.remove(&below);
                self.altered.insert(below);
                self.not_captured.push(PathNote {
                    path: RawName(path.into_os_string()),
                    reason: "its content could not be kept".to_owned(),
                });
            }
        }
    }

    /// Makes what is kept durable, and adds the snapshot of what was there with its sets and key
    /// frames to the batch.
    fn snapshot(
        &mut self,
        repo: &Repository,
        head: &Head,
        taken: &Taken,
        batch: &mut Batch<'_>,
    ) -> Result<Before> {
        let hold = repo.hold(std::time::Duration::from_secs(2)).ok().flatten();
        make_durable(repo, taken)?;
        // Before the sets are recorded: their links do not count as names that a file had.
        let mut named = Named::new(self, taken);
        let (mut listing, packs) = self.listing(repo, taken, &mut named)?;
        // What is sealed is in the vault before a record says so.
        repo.vault().flush()?;
        self.note_values_away(repo, &listing);
        listing.sort_by(|a, b| a.path.cmp(&b.path));
        for (set, files) in &taken.sets {
            let dir = set.dir.as_path();
            let files = files.iter().map(|(size, time)| (*size, Some(*time)));
            let mut set = set_of(repo, set.id, dir, files.collect(), head.pack_bytes)?;
            named.leave_out_of(&mut set);
            batch.kept_set(&set)?;
        }
        for mut set in std::mem::take(&mut self.later_sets) {
            named.leave_out_of(&mut set);
            batch.kept_set(&set)?;
        }
        let mut roots = Vec::new();
        for base in self.bases() {
            roots.push(self.record_of(batch, &base, &listing)?);
        }
        let count = roots.iter().map(|root| root.files).sum();
        let bytes = roots.iter().map(|root| root.bytes).sum();
        let (seq, id) = repo.next_snapshot(head.time)?;
        let snapshot = Snapshot {
            version: 1,
            repository: repo.id(),
            id,
            seq,
            time: head.time,
            kind: SnapshotKind::Incremental,
            trigger: Trigger::Guard,
            label: head.label.clone(),
            tags: Vec::new(),
            host: head.host.clone(),
            partial: !self.not_captured.is_empty(),
            problems: self.not_captured.clone(),
            packs: packs.iter().map(|pack| pack.pack).collect(),
            stats: Stats {
                files: count,
                bytes,
                stored_bytes: packs.iter().map(|pack| pack.pack.bytes).sum(),
                elapsed_ms: 0,
            },
            roots,
            bound: None,
            last_backup: repo.last_backup(),
        };
        batch.snapshot(snapshot)?;
        Ok(Before {
            id,
            packs,
            _hold: hold,
        })
    }

    /// Notes sealed files whose values cannot be kept.
    fn note_values_away(&mut self, repo: &Repository, listing: &Listing) {
        let sealed = listing.iter().filter(|entry| entry.body.sealed.is_some());
        let sealed: Vec<&RepoPath> = sealed.map(|entry| &entry.path).collect();
        // Fetching the key may be slow.
        let why = match sealed.is_empty() {
            true => None,
            false => repo.vault().trouble(),
        };
        let reason = why.map(|why| Reason::ValuesAway.because(&why));
        for path in sealed {
            let path = self.entries.get(path).map(|(_, path)| path.clone());
            if let (Some(path), Some(reason)) = (path, &reason) {
                self.not_captured.push(PathNote {
                    path: RawName(path.into_os_string()),
                    reason: reason.clone(),
                });
            }
        }
    }

    /// Adds the key frame of a root to the batch, and returns its record.
    fn record_of(
        &self,
        batch: &mut Batch<'_>,
        base: &RepoPath,
        listing: &Listing,
    ) -> Result<RootRecord> {
        let root = self.root(base);
        let entries = listing.iter().filter(|entry| entry.path.starts_with(base));
        let entries: Listing = entries
            .filter_map(|entry| {
                let path = inside_of(base, &entry.path)?;
                Some(Entry {
                    path,
                    ..entry.clone()
                })
            })
            .collect();
        let key_frame = match entries.is_empty() {
            // It did not exist.
            true => None,
            false => Some(batch.keyframe(&root.name, &root.path, &entries)?),
        };
        let files = entries.iter().filter(|entry| entry.kind == Kind::File);
        let (files, bytes) = files.fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.size));
        Ok(RootRecord {
            name: root.name,
            path: AbsolutePath::new(&*root.path).map_err(|reason| Error::invalid(reason, None))?,
            rules: root.rules,
            base: key_frame,
            changed: Vec::new(),
            removed: Vec::new(),
            left_out: Vec::new(),
            files,
            bytes,
        })
    }

    /// Returns the entries of what was there. What has a name by which it is sealed is read now.
    fn listing(
        &self,
        repo: &Repository,
        taken: &Taken,
        named: &mut Named,
    ) -> Result<(Listing, Vec<Finished>)> {
        let monitor = NullMonitor;
        let shared = Shared {
            repo,
            full: false,
            anew: false,
            level: Level::Fast,
            damaged: repo.damaged_blobs(),
            stored: Mutex::default(),
            present: Mutex::default(),
            verdicts: None,
            own_names: OwnNames::before(taken.sets.iter().map(|(set, _)| set.id).collect()),
            monitor: &monitor,
        };
        let mut capture = Capture::new(&shared);
        let mut listing = Vec::with_capacity(self.entries.len());
        for (below, (before, path)) in &self.entries {
            let stat = &shared.own_names.without(repo, &before.stat);
            let mut body = Body {
                target: before.target.clone(),
                xattrs: before.xattrs.clone(),
                sparse: before.sparse,
                ..Body::default()
            };
            if matches!(stat.kind, Kind::File | Kind::Symlink) {
                body = body.named(stat);
            }
            match &before.content {
                Held::Kept(number, file) => {
                    let (set, files) = &taken.sets[*number];
                    let size = files
                        .get(*file as usize)
                        .map_or(stat.size, |(size, _)| *size);
                    let kept = Kept {
                        set: set.id,
                        number: *file,
                        size,
                    };
                    body.content = Some(Content::kept(kept));
                    named.read(repo, &mut capture, (below, path), &mut body)?;
                }
                Held::InPlace => {
                    body.content = self.in_place.get(below).cloned();
                    named.read(repo, &mut capture, (below, path), &mut body)?;
                }
                Held::None | Held::Lost(_) => {}
            }
            listing.push(Entry {
                path: below.clone(),
                kind: stat.kind,
                mode: stat.mode,
                mtime: stat.mtime,
                uid: stat.uid,
                gid: stat.gid,
                size: stat.size,
                body,
            });
        }
        Ok((listing, capture.finish()?))
    }
}

/// Kept files that have a name by which they are sealed. They are stored by that name, and not once
/// more, without one, when the set is packed.
struct Named {
    /// Where the sets are.
    dirs: HashMap<Id, PathBuf>,
    /// By set and number: the path by which it is read.
    paths: HashMap<(Id, u32), RepoPath>,
    areas: HashMap<Id, OwnArea>,
    read: HashSet<(Id, u32)>,
}

impl Named {
    fn new(sorted: &Sorted, taken: &Taken) -> Self {
        let mut dirs: HashMap<Id, PathBuf> = HashMap::new();
        for (set, _) in &taken.sets {
            dirs.insert(set.id, set.dir.as_path().to_path_buf());
        }
        for set in &sorted.later_sets {
            dirs.insert(set.id, set.area.as_path().to_path_buf());
        }
        let mut paths = HashMap::new();
        for (below, (before, _)) in &sorted.entries {
            if !privacy::is_sensitive_name(below.as_bytes()) {
                continue;
            }
            let kept = match &before.content {
                // Other names of the same file have it as well.
                Held::Kept(number, file) => Some((taken.sets[*number].0.id, *file)),
                Held::InPlace => {
                    let content = sorted.in_place.get(below);
                    let kept = content.and_then(Content::as_kept);
                    kept.map(|kept| (kept.set, kept.number))
                }
                Held::None | Held::Lost(_) => None,
            };
            if let Some(kept) = kept {
                paths.entry(kept).or_insert_with(|| below.clone());
            }
        }
        Self {
            dirs,
            paths,
            areas: HashMap::new(),
            read: HashSet::new(),
        }
    }

    /// Stores the content of an entry by its name, if that says what it is.
    fn read(
        &mut self,
        repo: &Repository,
        capture: &mut Capture<'_>,
        (below, path): (&RepoPath, &Path),
        body: &mut Body,
    ) -> Result<()> {
        let Some(kept) = body.content.as_ref().and_then(Content::as_kept) else {
            return Ok(());
        };
        let key = (kept.set, kept.number);
        let Some(name) = self.paths.get(&key) else {
            return Ok(());
        };
        let name = match privacy::is_sensitive_name(below.as_bytes()) {
            true => below,
            false => name,
        };
        if !self.areas.contains_key(&kept.set) {
            let dir = self.dirs.get(&kept.set).cloned().unwrap_or_default();
            let owner = KeptSet::owner(repo.id(), kept.set);
            let opened = OwnArea::open(&dir, &owner, &repo.areas())
                .map_err(|error| Error::io("read", &dir, error))?;
            self.areas.insert(kept.set, opened);
        }
        let area = self.areas.get(&kept.set);
        if let Some(file) = area.and_then(|area| area.file(kept.number).ok()) {
            capture.kept_by_name(name, path, &file, body)?;
            self.read.insert(key);
        }
        Ok(())
    }

    /// Notes in a set that nothing more is needed of what was read.
    fn leave_out_of(&self, set: &mut KeptSet) {
        for (number, file) in (0..).zip(&mut set.files) {
            if self.read.contains(&(set.id, number)) {
                *file = (0, None);
            }
        }
    }
}

fn set_of(
    repo: &Repository,
    id: crate::base::id::Id,
    dir: &Path,
    files: Vec<(u64, Option<Time>)>,
    pack_bytes: u64,
) -> Result<KeptSet> {
    let bytes = files
        .iter()
        .fold(0, |sum: u64, (size, _)| sum.saturating_add(*size));
    Ok(KeptSet {
        version: 1,
        repository: repo.id(),
        id,
        time: DateTime::from_timestamp_millis(id.millis()).unwrap_or_default(),
        area: AbsolutePath::new(dir).map_err(|reason| Error::invalid(reason, None))?,
        files,
        pack: bytes <= pack_bytes,
        bound: None,
    })
}
