//! Large content before a command: kept by a hard link or a clone instead of being read, and packed
//! afterwards.
//!
//! A snapshot has to be durable before the command starts. For a gigabyte that is about to be
//! deleted, one more hard link per file in a staging area is enough: a command that only removes
//! names cannot touch the content. Where the file system has clones, they do the same for any
//! command. git never writes to its objects again, so a hard link to one is as good as a copy.
//!
//! Order: files into the area, durable → record of the set → the snapshot that names it. A crash
//! before the last leaves a set that no snapshot names. Packing: packs → digests of the set → the
//! area is deleted.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::Id;
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{AbsolutePath, RepoPath};
use crate::disk::fsutil;
use crate::disk::fsutil::area::{Area, OwnArea};
use crate::model::manifest::{Body, Content, Kept, Kind, Stat, same_identity};
use crate::protect::capture::{Capture, Captured, CapturedList, OwnNames, Shared};
use crate::protect::survey::{RootRun, database_for};
use crate::protect::walk::{Dirty, RootHandle};
use crate::repo::Repository;
use crate::repo::kept::{KeptContent, KeptContents, KeptSet, is_lost};
use crate::repo::pack::Level;
use crate::repo::state::{KEPT, is_racy};

pub use crate::protect::options::StagingOptions;

/// What a snapshot kept instead of reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptReport {
    pub files: u64,
    pub bytes: u64,
    /// Bytes of these that will not be packed: they take space until no snapshot needs them.
    pub lasting_bytes: u64,
}

/// Smaller files are not worth a clone, in bytes.
const MIN_CLONE: u64 = 1 << 20;

/// How a file is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// By a hard link, until it is packed.
    Unlinked,
    /// By a hard link whatever its size: the user's own file, but unreadable by its mode.
    Closed,
    /// By a hard link for as long as it is needed: it never changes.
    Immutable,
    Clone,
}

/// Keeps what need not be read: moves it from the dirty list to the captured objects, per root.
///
/// What cannot be kept stays dirty.
///
/// # Errors
/// The set cannot be recorded.
pub(crate) fn keep(
    repo: &Repository,
    runs: &mut [RootRun],
    options: &StagingOptions,
    now: DateTime<Utc>,
) -> Result<(Vec<CapturedList>, KeptReport)> {
    let mut kept: Vec<CapturedList> = runs.iter().map(|_| Vec::new()).collect();
    let mut report = KeptReport::default();
    for how in [How::Closed, How::Unlinked, How::Immutable, How::Clone] {
        for (run, kept) in runs.iter_mut().zip(&mut kept) {
            let left = options.max_bytes.saturating_sub(report.bytes);
            let Some(list) = keep_in(repo, run, how, options, left, now)? else {
                continue;
            };
            let bytes: u64 = list.iter().map(|one| one.stat.size).sum();
            report.files += list.len() as u64;
            report.bytes += bytes;
            if how == How::Immutable || bytes > options.pack_bytes {
                report.lasting_bytes += bytes;
            }
            kept.extend(list);
        }
    }
    Ok((kept, report))
}

/// Makes one set of what can be kept of a root in one way; `None` if it is not worth it, or
/// impossible.
fn keep_in(
    repo: &Repository,
    run: &mut RootRun,
    how: How,
    options: &StagingOptions,
    left: u64,
    now: DateTime<Utc>,
) -> Result<Option<CapturedList>> {
    let Some(handle) = run.handle() else {
        return Ok(None);
    };
    let chosen = worth_keeping(run, handle, how, options, left, now);
    let Some(first) = chosen.first() else {
        return Ok(None);
    };
    let id = repo.vault().own_name(Id::new(now));
    let Some((dir, area)) = open_area(repo, &run.root.path, &first.stat, id) else {
        return Ok(None);
    };
    let Some(list) = fill(area, handle, &chosen, how, id) else {
        return Ok(None);
    };
    let bytes: u64 = list.iter().map(|one| one.stat.size).sum();
    let time_of = |one: &Captured| (how != How::Immutable).then_some(one.stat.mtime);
    repo.put_kept_set(&KeptSet {
        version: 1,
        repository: repo.id(),
        id,
        time: now,
        area: AbsolutePath::new(dir.as_path()).map_err(|reason| Error::invalid(reason, None))?,
        files: list
            .iter()
            .map(|one| (one.stat.size, time_of(one)))
            .collect(),
        pack: how != How::Immutable && bytes <= options.pack_bytes,
        bound: None,
    })?;
    // Only now: what is taken off the list before the record exists would be in no snapshot.
    let taken: HashSet<RepoPath> = list.iter().map(|one| one.path.clone()).collect();
    run.take_dirty(&taken);
    Ok(Some(list))
}

/// Chooses the files to keep in one way; empty if they are too few or too small to be worth a set
/// (reading them takes less than making one), or more than may be kept.
fn worth_keeping<'r>(
    run: &'r RootRun,
    handle: &RootHandle,
    how: How,
    options: &StagingOptions,
    left: u64,
    now: DateTime<Utc>,
) -> Vec<&'r Dirty> {
    let started = now.timestamp_nanos_opt().unwrap_or(i64::MAX);
    let fits =
        |dirty: &&Dirty| is_plain(dirty) && is_kept_so(run, handle, dirty, how, options, started);
    let chosen: Vec<&Dirty> = run.dirty().iter().filter(fits).collect();
    let bytes: u64 = chosen.iter().map(|dirty| dirty.stat.size).sum();
    let large =
        how == How::Closed || bytes >= options.from_bytes || chosen.len() >= options.from_files;
    let number_fits = u32::try_from(chosen.len()).is_ok();
    match large && bytes <= left && number_fits {
        true => chosen,
        false => Vec::new(),
    }
}

/// Returns true for a file with content, one name and this user as owner. Settings and keys are
/// small, and have to be sealed first: a link would keep them in the clear.
fn is_plain(dirty: &Dirty) -> bool {
    let stat = &dirty.stat;
    stat.kind == Kind::File
        && stat.size > 0
        && stat.links == 1
        && (fsutil::is_own(stat) || fsutil::is_root())
        && !crate::privacy::is_sensitive_name(dirty.path.as_bytes())
}

/// Returns true if a file is to be kept in this way.
fn is_kept_so(
    run: &RootRun,
    handle: &RootHandle,
    dirty: &Dirty,
    how: How,
    options: &StagingOptions,
    started: i64,
) -> bool {
    let stat = &dirty.stat;
    let is_unlinked = || {
        let path = dirty.path.to_path(&run.root.path);
        options.unlinked.iter().any(|named| path.starts_with(named))
    };
    match how {
        How::Unlinked => is_unlinked(),
        How::Closed => {
            is_unlinked()
                && stat.mode & 0o400 == 0
                && fsutil::is_own(stat)
                && handle.open_file(&dirty.path).is_err()
        }
        How::Immutable => is_git_object(&dirty.path),
        How::Clone => {
            // A database is captured together with its companions.
            stat.size >= MIN_CLONE && !is_racy(stat, started) && database_for(run, dirty).is_none()
        }
    }
}

/// Links or clones files into an area, durably. `None` if none could be kept; the area is removed
/// then, because without a record nobody would find it again.
fn fill(
    mut area: Area,
    handle: &RootHandle,
    chosen: &[&Dirty],
    how: How,
    id: Id,
) -> Option<CapturedList> {
    let mut list: CapturedList = Vec::with_capacity(chosen.len());
    for dirty in chosen {
        let number = list.len() as u32;
        let Some(one) = keep_one(handle, dirty, how, &mut area, id, number) else {
            // If clones fail here, do not try each file.
            if how == How::Clone && list.is_empty() {
                break;
            }
            continue;
        };
        list.push(Box::new(one));
    }
    let count = list.len() as u32;
    if count == 0 || area.sync(count, how == How::Clone).is_err() {
        let _ = area.into_tree().remove();
        return None;
    }
    Some(list)
}

/// Keeps one file; `None` if that is impossible.
fn keep_one(
    handle: &RootHandle,
    dirty: &Dirty,
    how: How,
    area: &mut Area,
    set: Id,
    number: u32,
) -> Option<Captured> {
    let file = handle.open_file(&dirty.path).ok();
    if file.is_none() && how != How::Closed {
        return None;
    }
    let look = || match &file {
        Some(file) => RootHandle::stat_file(file).ok(),
        None => handle.stat(&dirty.path).ok(),
    };
    let before = look()?;
    if !same_identity(&before, &dirty.stat) {
        return None;
    }
    let made = match (how, &file) {
        (How::Clone, Some(file)) => area.clone_file(file, number),
        _ => area.link(&handle.source(&dirty.path), number),
    };
    made.ok()?;
    // A new hard link changes the file's ctime and nothing else; otherwise we kept something other
    // than what the walk saw.
    let after = look();
    let same = after.as_ref().is_some_and(|after| {
        same_identity(
            &before,
            &Stat {
                ctime: before.ctime,
                links: before.links,
                ..*after
            },
        ) && (how == How::Clone || after.links == before.links + 1)
    });
    let Some(after) = after.filter(|_| same) else {
        area.forget(number);
        return None;
    };
    let size = before.size;
    let content = Content::kept(Kept { set, number, size });
    Some(Captured {
        path: dirty.path.clone(),
        stat: after,
        body: Body {
            content: Some(content),
            sparse: file.as_ref().is_some_and(RootHandle::has_holes),
            xattrs: match &file {
                Some(file) => RootHandle::xattrs(file).ok()?,
                None => Vec::new(),
            },
            ..Body::default()
        },
        flags: KEPT,
        gone: false,
        withheld: false,
    })
}

/// Makes an area for a set on the file system of a file.
fn open_area(repo: &Repository, root: &Path, stat: &Stat, set: Id) -> Option<(PathBuf, Area)> {
    let mut places = repo.areas();
    places.extend(topmost_own(root, stat.device));
    area_in(places, stat.device, set, &|dir| {
        Area::create(dir, &KeptSet::owner(repo.id(), set))
    })
}

/// Makes an area for a set on a file system, for files of which only one path is known yet: not in a
/// directory that the command may be about to remove, if there is another place. It says whose it is
/// when it is recorded ([`Area::own`]).
#[cfg(target_os = "linux")]
pub(crate) fn area_for(
    repo: &Repository,
    path: &Path,
    device: u64,
    set: Id,
) -> Option<(PathBuf, Area)> {
    let mut places = repo.areas();
    let above = path.ancestors().skip(1);
    let shared =
        above.filter(|dir| fsutil::device_of(dir) == Some(device) && fsutil::is_sticky(dir));
    let own_name = format!("{}-{}", fsutil::AREA_NAME, fsutil::user_number());
    places.extend(shared.map(|dir| dir.join(&own_name)));
    places.extend(topmost_own(path, device));
    area_in(places, device, set, &Area::start)
}

/// Makes an area in the first place that is on a file system and fit for it.
fn area_in(
    places: Vec<PathBuf>,
    device: u64,
    set: Id,
    make: &dyn Fn(&Path) -> std::io::Result<Area>,
) -> Option<(PathBuf, Area)> {
    places.into_iter().find_map(|place| {
        if place.exists() && !fsutil::area::is_place(&place) {
            return None;
        }
        let parent = existing(&place)?;
        if fsutil::device_of(parent) != Some(device) {
            return None;
        }
        let dir = place.join(set.to_string());
        let area = make(&dir).ok()?;
        Some((dir, area))
    })
}

fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|dir| dir.is_dir())
}

/// Returns a place in the topmost directory above a root that belongs to this user and is on the
/// same file system.
fn topmost_own(root: &Path, device: u64) -> Option<PathBuf> {
    let own = |dir: &&Path| fsutil::device_of(dir) == Some(device) && fsutil::is_own_dir(dir);
    // Where others may write, they could remove the area and put something else in its place.
    let closed = |dir: &&Path| !fsutil::is_open_to_writers(dir);
    let above = root.ancestors().skip(1).take_while(own);
    let top = above.filter(closed).last()?;
    Some(top.join(fsutil::AREA_NAME))
}

/// Returns true for git's loose objects and packs: their content gives the name, so they are never
/// rewritten.
fn is_git_object(path: &RepoPath) -> bool {
    let bytes = path.as_bytes();
    let mut parts = bytes.rsplit(|b| *b == b'/');
    let (Some(name), Some(dir), Some(objects)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let loose = dir.len() == 2 && hex(dir) && matches!(name.len(), 38 | 62) && hex(name);
    let packed = dir == b"pack"
        && name.strip_prefix(b"pack-").is_some_and(|rest| {
            let mut halves = rest.splitn(2, |b| *b == b'.');
            let digest = halves
                .next()
                .is_some_and(|d| matches!(d.len(), 40 | 64) && hex(d));
            digest && matches!(halves.next(), Some(b"pack" | b"idx" | b"rev" | b"bitmap"))
        });
    objects == b"objects" && (loose || packed)
}

#[derive(Debug, Clone, Default)]
pub struct SettleReport {
    pub sets: u64,
    pub bytes: u64,
    /// Files that were changed or removed before they could be packed.
    pub lost: u64,
    /// Files of sets that could not be packed now and stay where they are.
    pub waiting: u64,
    /// Why they are `waiting`.
    pub reason: Option<String>,
}

/// Packs what was kept, and frees the staging areas. Does not wait for another process that does
/// the same.
///
/// A set that cannot be read completely for now stays as it is; the next call tries again.
///
/// # Errors
/// The repository cannot be written, or the user stopped it; what is not packed stays kept.
pub fn settle(
    repo: &Repository,
    level: Level,
    now: DateTime<Utc>,
    monitor: &dyn Monitor,
) -> Result<SettleReport> {
    sweep_areas(repo, now);
    let mut report = SettleReport::default();
    let sets = repo.unpacked_sets()?;
    let bytes = sum_of(sets.iter().map(KeptSet::bytes));
    let files = sets.iter().map(|set| set.files.len() as u64).sum();
    if !sets.is_empty() {
        monitor.phase(Phase::Storing, files, bytes);
    }
    for set in sets {
        let mut wait = |error: &Error| {
            report.waiting += set.files.len() as u64;
            report.reason.get_or_insert_with(|| match error {
                Error::Io { source, .. } => format!("{error}: {source}"),
                other => other.to_string(),
            });
        };
        let area = match set.open_area(&repo.areas()) {
            Ok(area) => Some(area),
            // It is on the machine that kept it, which packs it.
            Err(error) if is_lost(&error) && repo.is_kept_elsewhere(&set) => continue,
            // All of it is lost, and reported as lost.
            Err(error) if is_lost(&error) => None,
            Err(error) => {
                wait(&error);
                continue;
            }
        };
        let Ok(_alone) = area.as_ref().map(OwnArea::lock).transpose() else {
            continue;
        };
        // Another process may have packed it since it was listed: then its area is gone, and nothing is
        // lost. What it wrote must not be replaced.
        if repo.kept_contents(set.id)?.is_some() {
            continue;
        }
        match pack_set(repo, &set, area.as_ref(), level, monitor) {
            Ok(lost) => report.lost += lost,
            // An error of the file, not of the repository.
            Err(error @ Error::Io { .. }) => {
                wait(&error);
                continue;
            }
            Err(error) => return Err(error),
        }
        report.sets += 1;
        report.bytes = report.bytes.saturating_add(set.bytes());
        // The rest of it only takes space.
        if let Some(area) = area {
            let _ = area.into_tree().remove();
            leave_place(&set);
        }
    }
    Ok(report)
}

/// Adds up sizes from records: each is within limits, but the sum may overflow.
fn sum_of(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// An area that is still being filled is younger than this, in milliseconds.
const MAX_FILLING_MS: i64 = 3_600_000;

/// Removes areas that a crash left before their set was recorded: no snapshot names them.
fn sweep_areas(repo: &Repository, now: DateTime<Utc>) {
    let long_ago = |millis: i64| millis + MAX_FILLING_MS < now.timestamp_millis();
    let old = |id: &Id| long_ago(id.millis());
    let mut places = repo.areas();
    // A symlink in the place of an area leads to somebody else's files.
    places.retain(|place| fsutil::is_private_dir(place));
    for place in places {
        for entry in fsutil::read_dir(&place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id: Option<Id> = name.to_str().and_then(|name| name.parse().ok());
            let dir = place.join(&name);
            // One that a crash left hours ago has its owner only just before it is recorded.
            let changed = fsutil::changed_at(&dir).map(|time| time.nanos() / 1_000_000);
            let is_still = changed.is_some_and(long_ago);
            if let Some(id) = id.filter(old)
                && matches!(repo.has_kept_set(id), Ok(false))
            {
                match OwnArea::open(&dir, &KeptSet::owner(repo.id(), id), &[]) {
                    // A guard that captures holds the lock for as long as its command runs.
                    Ok(area) => {
                        if is_still && let Ok(_alone) = area.lock() {
                            let _ = area.into_tree().remove();
                        }
                    }
                    // The crash came before the area said whose it is, so it is empty. If it is not,
                    // a command is still filling it, or a journal says to whom it belongs.
                    Err(_) => fsutil::remove_empty_dir(&dir),
                }
            }
        }
    }
}

/// Removes the directory that held an area, if bdr made it for areas and none is left.
pub(crate) fn leave_place(set: &KeptSet) {
    if let Some(place) = set.area.as_path().parent()
        && place.file_name() == Some(fsutil::AREA_NAME.as_ref())
        && fsutil::is_own_object(place)
    {
        fsutil::remove_empty_dir(place);
    }
}

fn pack_set(
    repo: &Repository,
    set: &KeptSet,
    area: Option<&OwnArea>,
    level: Level,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let _hold = repo.hold(std::time::Duration::from_secs(10))?;
    let shared = Shared {
        repo,
        full: false,
        level,
        damaged: repo.damaged_blobs(),
        stored: Mutex::default(),
        present: Mutex::default(),
        anew: false,
        verdicts: None,
        own_names: OwnNames::default(),
        monitor,
    };
    let mut capture = Capture::new(&shared);
    let mut files: Vec<Option<KeptContent>> = Vec::with_capacity(set.files.len());
    let mut unsure = Vec::new();
    for (number, (size, _)) in (0..).zip(&set.files) {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        if *size == 0 {
            // It is stored by its name already.
            files.push(None);
            continue;
        }
        let digest = match area.map(|area| set.open(area, number)) {
            Some(Ok(kept)) => {
                unsure.extend((!kept.is_sure).then_some(number));
                capture.kept_file(set.id, number, &kept.file, *size)?
            }
            None => None,
            Some(Err(error)) if is_lost(&error) => None,
            Some(Err(error)) => return Err(error),
        };
        files.push(digest);
        monitor.advance(1, size.saturating_sub(capture.take_told()));
    }
    let lost = files.iter().zip(&set.files);
    let lost = lost.filter(|(file, (size, _))| file.is_none() && *size > 0);
    let lost = lost.count() as u64;
    let packs = capture.finish()?;
    repo.vault().flush()?;
    repo.put_kept_contents(&KeptContents {
        version: 1,
        repository: repo.id(),
        id: set.id,
        files,
        unsure,
        bound: None,
    })?;
    repo.remember_packs(&packs);
    Ok(lost)
}
