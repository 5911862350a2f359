//! Proves that what is stored can be read: by names and sizes, by every byte, or by a restore.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id, SnapshotId};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{RawName, RepoPath};
use crate::base::threads;
use crate::disk::fsutil::{self, OwnTree};
use crate::model::manifest::{Content, Entry};
use crate::recover::restore;
use crate::repo::index::{DigestSet, Index, Location};
use crate::repo::kept::KeptSet;
use crate::repo::layout;
use crate::repo::oplog::{Begin, End, Pin};
use crate::repo::origin::Origin;
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PackRef, Snapshot, SnapshotKind};
use crate::repo::summaries::Summary;
use crate::repo::trash::Part;
use crate::repo::{Repository, record};

mod content;

use content::check_content;

/// How much to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Every file is there and has its size; records and listings are whole.
    Quick,
    /// Every byte of every pack, listing and record.
    Full,
    /// Full, and a real restore into a scratch directory, compared.
    Restore,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Different blobs in them.
    pub blobs: u64,
    /// Bytes of content checked.
    pub bytes: u64,
    /// What is wrong; empty: nothing.
    pub damage: Vec<Damage>,
    /// Files that were missing or damaged, and are whole again: taken from the lifeboat, or written anew.
    pub healed: Vec<String>,
    /// Who made each of the snapshots, oldest first. One that was forged or altered is among the damage.
    pub origins: Vec<(SnapshotId, Origin)>,
    /// There is a key that tells what this machine made.
    pub has_key: bool,
    /// Why that key is not used: nothing can be told to be of this machine, and what it makes is not bound.
    pub key_refused: Option<String>,
    /// Wall time.
    pub elapsed: Duration,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Damage {
    /// Pack, listing or record, by its name in the repository; or a restored path.
    pub name: String,
    /// How it shows.
    pub reason: String,
    /// Files that cannot be restored because of it.
    pub lost: Vec<LostFile>,
}

/// A file that cannot be restored from a snapshot.
#[derive(Debug, Clone)]
pub struct LostFile {
    /// From which snapshot.
    pub snapshot: SnapshotId,
    /// Which file, absolute.
    pub path: RawName,
    /// Another snapshot that has a good copy of the path, the newest.
    pub other: Option<SnapshotId>,
}

/// Verifies the repository, or one snapshot of it.
///
/// # Errors
/// The repository cannot be listed, or the user stopped it. Damage is in the report.
pub fn verify(
    repo: &Repository,
    only: Option<SnapshotId>,
    level: VerifyLevel,
    scratch: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let started = Instant::now();
    let mut report = VerifyReport {
        snapshots: 0,
        packs: 0,
        blobs: 0,
        bytes: 0,
        damage: Vec::new(),
        healed: Vec::new(),
        origins: Vec::new(),
        has_key: false,
        key_refused: None,
        elapsed: Duration::ZERO,
    };
    if only.is_none() {
        bring_back_records(repo, &mut report);
        check_recovery(repo, &mut report);
    }
    let snapshots = read_snapshots(repo, only, &mut report.damage)?;
    report.snapshots = snapshots.len() as u64;
    tell_origins(repo, only, &snapshots, &mut report)?;
    if only.is_none() {
        check_operations(repo, &snapshots, &mut report.damage)?;
    }
    let listings = read_listings(repo, &snapshots, &mut report.damage);
    check_kept(repo, &snapshots, &listings, &mut report.damage);
    let needed = needed_blobs(&snapshots, &listings);

    // Packs: those that records name, and those that are there.
    report.healed.extend(bring_back_packs(repo, &snapshots)?);
    let present: HashMap<Digest, u64> = repo
        .list_packs()?
        .into_iter()
        .map(|p| (p.id, p.bytes))
        .collect();
    let (index, unreadable) = repo.refreshed_index()?;
    let mut bad_packs: BTreeMap<Digest, String> = BTreeMap::new();
    // An incremental also stands when prune threw a pack of it away, because what is needed has copies elsewhere.
    let is_lost = |blob: &Digest| index.copies(*blob).next().is_none();
    let any_lost = needed.keys().any(is_lost);
    let named = snapshots
        .iter()
        .filter(|s| any_lost || s.kind == SnapshotKind::Full);
    for pack in named.flat_map(|s| &s.packs) {
        match present.get(&pack.id) {
            None => drop(bad_packs.insert(pack.id, "it is missing".to_owned())),
            Some(bytes) if *bytes != pack.bytes => drop(bad_packs.insert(
                pack.id,
                format!("it has {bytes} bytes instead of {}", pack.bytes),
            )),
            Some(_) => {}
        }
    }
    for (pack, error) in unreadable {
        bad_packs
            .entry(pack.id)
            .or_insert_with(|| reason_of(&error));
    }
    let mut bad_copies: Vec<(Digest, Location, String)> = Vec::new();
    let wanted: Vec<PackRef> = index
        .packs()
        .iter()
        .map(|p| p.pack)
        .filter(|pack| {
            only.is_none()
                || needed.iter().any(|(blob, _)| {
                    index
                        .copies(*blob)
                        .any(|l| index.pack(l.pack).is_some_and(|p| p.pack.id == pack.id))
                })
        })
        .collect();
    report.packs = wanted.len() as u64;
    if level != VerifyLevel::Quick {
        let (bytes, blobs) = check_packs(
            repo,
            &index,
            &wanted,
            &mut bad_packs,
            &mut bad_copies,
            &mut report.healed,
            monitor,
        )?;
        report.bytes = bytes;
        report.blobs = blobs;
    } else {
        report.blobs = index.blobs() as u64;
    }

    // A blob is lost if no good copy is left.
    let mut lost: HashMap<Digest, String> = HashMap::new();
    let mut bad: HashMap<Digest, Vec<(Location, String)>> = HashMap::new();
    for (digest, location, pack) in bad_copies {
        bad.entry(digest).or_default().push((location, pack));
    }
    let is_there = |location: &Location| {
        index.pack(location.pack).is_some_and(|p| match level {
            VerifyLevel::Quick => present.get(&p.pack.id) == Some(&p.pack.bytes),
            _ => bad_packs.get(&p.pack.id).is_none_or(|why| why != EMPTY),
        })
    };
    for blob in needed.keys() {
        let bad = bad.get(blob).map_or(&[][..], Vec::as_slice);
        let is_good = |l: &Location| is_there(l) && !bad.iter().any(|(other, _)| other == l);
        if !index.copies(*blob).any(|l| is_good(&l)) {
            let pack = bad
                .first()
                .map_or_else(String::new, |(_, name)| name.clone());
            lost.insert(*blob, pack);
        }
    }
    report_packs(&snapshots, &listings, &bad_packs, &lost, &mut report.damage);
    if level != VerifyLevel::Quick {
        check_content(
            repo,
            &index,
            &snapshots,
            &listings,
            &lost,
            &mut report.damage,
            monitor,
        )?;
    }
    if level != VerifyLevel::Quick && only.is_none() || !lost.is_empty() {
        let mut damaged: DigestSet = lost.keys().copied().collect();
        if only.is_some() || level == VerifyLevel::Quick {
            damaged.extend(repo.damaged_blobs());
        }
        repo.set_damaged_blobs(&damaged)?;
    }
    if level == VerifyLevel::Restore
        && let Some(snapshot) = snapshots.last()
    {
        let default = crate::protect::backup::scratch_dir(repo);
        let scratch = scratch.unwrap_or(&default);
        fsutil::create_dir_private(scratch)?;
        let place = tempfile::Builder::new()
            .prefix("restore-")
            .tempdir_in(scratch)
            .map_err(|e| Error::io("create", scratch, e))?;
        fsutil::ensure_mode(place.path(), 0o700).map_err(|e| Error::io("open", place.path(), e))?;
        let rehearsed = restore::rehearse(repo, snapshot, place.path(), monitor);
        let room = rehearsed.as_ref().map_or(Ok(()), |problems| {
            crate::care::drill::check_room(place.path(), problems)
        });
        if rehearsed.is_err() || room.is_err() {
            let _ = OwnTree::made(&place).remove();
        }
        room?;
        for problem in rehearsed? {
            let path = problem
                .path
                .as_path()
                .strip_prefix(place.path())
                .unwrap_or(problem.path.as_path());
            report.damage.push(Damage {
                name: crate::base::path::show(path.as_os_str()),
                reason: problem.reason,
                lost: Vec::new(),
            });
        }
        OwnTree::made(&place).remove()?;
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

fn reason_of(error: &Error) -> String {
    match error {
        Error::Damaged { reason, .. } => reason.clone(),
        Error::Storage { source, .. } | Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

fn damage(name: String, error: &Error) -> Damage {
    Damage {
        name,
        reason: reason_of(error),
        lost: Vec::new(),
    }
}

/// Takes records from the lifeboat that were deleted from the repository: what bdr removes has no second name either.
fn bring_back_records(repo: &Repository, report: &mut VerifyReport) {
    for dir in ["snapshots", "operations"] {
        let Ok(names) = repo.storage().names(dir) else {
            continue;
        };
        for name in repo.storage().copies(dir) {
            if names.binary_search(&name).is_ok() {
                continue;
            }
            let name = format!("{dir}/{name}");
            let whole = |file: &mut dyn std::io::Read| {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).is_ok() && record::is_whole(&bytes)
            };
            if matches!(repo.storage().heal(&name, &whole), Ok(true)) {
                report.healed.push(name);
            }
        }
    }
}

/// Looks at the way back without bdr, and writes it anew where it is damaged.
fn check_recovery(repo: &Repository, report: &mut VerifyReport) {
    for name in repo.outdated_recovery() {
        match repo.renew_recovery(name) {
            Ok(()) => report.healed.push(name.to_owned()),
            Err(error) => report.damage.push(Damage {
                reason: format!(
                    "it is not as bdr wrote it, and cannot be written: {}",
                    reason_of(&error)
                ),
                ..damage(name.to_owned(), &error)
            }),
        }
    }
}

/// Says who made the snapshots.
fn tell_origins(
    repo: &Repository,
    only: Option<SnapshotId>,
    snapshots: &[Snapshot],
    report: &mut VerifyReport,
) -> Result<()> {
    let looked_at = snapshots.iter().map(Summary::from);
    // When this machine began to bind what it makes is told by all of them.
    let all: Vec<Summary> = match only {
        Some(_) => repo.summaries()?,
        None => looked_at.clone().collect(),
    };
    let origins = repo.origins(&all);
    let each = looked_at.map(|summary| (summary.id, origins.of(&summary)));
    report.origins = each.collect();
    report.has_key = origins.own.is_some();
    report.key_refused = origins.refused;
    Ok(())
}

/// Takes packs from the lifeboat that are missing, or have another size than the records say.
fn bring_back_packs(repo: &Repository, snapshots: &[Snapshot]) -> Result<Vec<String>> {
    let present: HashMap<Digest, u64> = repo
        .list_packs()?
        .into_iter()
        .map(|p| (p.id, p.bytes))
        .collect();
    let mut healed = Vec::new();
    let mut seen = DigestSet::default();
    for pack in snapshots.iter().flat_map(|s| &s.packs) {
        if present.get(&pack.id) != Some(&pack.bytes)
            && seen.insert(pack.id)
            && repo.heal_part(Part::Pack(pack.id))
        {
            healed.push(layout::pack(pack.id));
        }
    }
    Ok(healed)
}

fn read_snapshots(
    repo: &Repository,
    only: Option<SnapshotId>,
    found: &mut Vec<Damage>,
) -> Result<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    for name in repo.snapshot_names()? {
        match repo.read_snapshot(&name) {
            Ok(mut snapshot) if only.is_none_or(|id| snapshot.id == id) => {
                for root in &mut snapshot.roots {
                    root.changed = repo.resolve_all(std::mem::take(&mut root.changed));
                }
                snapshots.push(snapshot);
            }
            Ok(_) => {}
            Err(error) if only.is_none_or(|id| name.contains(&id.to_string())) => {
                found.push(damage(name, &error));
            }
            Err(_) => {}
        }
    }
    snapshots.sort_by_key(Snapshot::order);
    Ok(snapshots)
}

fn check_operations(
    repo: &Repository,
    snapshots: &[Snapshot],
    found: &mut Vec<Damage>,
) -> Result<()> {
    let there: HashSet<SnapshotId> = repo.snapshot_ids()?.into_iter().collect();
    let mut missing: HashSet<SnapshotId> = HashSet::new();
    let listed = repo
        .storage()
        .list("operations")
        .map_err(|e| Error::storage("list", "operations", e))?;
    for file in listed {
        let name = format!("operations/{}", file.name);
        let checked = if file.name.ends_with(".begin.json") {
            repo.read_record::<Begin>(&name).map(|begin| {
                let before = begin.before.filter(|id| !there.contains(id));
                // What was forgotten on purpose is noted.
                missing.extend(before.filter(|id| !repo.is_forgotten(*id)));
            })
        } else if file.name.ends_with(".end.json") {
            repo.read_record::<End>(&name).map(drop)
        } else if file.name.ends_with(".pin.json") {
            repo.read_record::<Pin>(&name).map(drop)
        } else {
            continue;
        };
        if let Err(error) = checked {
            found.push(damage(name, &error));
        }
    }
    let sets = repo.storage().names("kept");
    for name in sets.map_err(|e| Error::storage("list", "kept", e))? {
        let is_record = name.strip_suffix(".json").map(str::parse::<Id>);
        let name = format!("kept/{name}");
        if matches!(is_record, Some(Ok(_)))
            && let Err(error) = repo.read_record::<KeptSet>(&name)
        {
            found.push(damage(name, &error));
        }
    }
    for one in repo.all_snapshots()?.missing() {
        missing.remove(&one.id);
        found.push(Damage {
            name: one.file_name(),
            reason: "it is missing, and nobody forgot it".to_owned(),
            lost: Vec::new(),
        });
    }
    let mut missing: Vec<SnapshotId> = missing.into_iter().collect();
    missing.sort();
    // Taken while this one looked: not missing.
    let newest = snapshots.last().map(|s| s.id);
    for id in missing
        .iter()
        .filter(|id| newest.is_some_and(|n| **id <= n))
    {
        found.push(Damage {
            name: layout::some_snapshot(*id),
            reason: "it is missing, and an operation needs it for its undo".to_owned(),
            lost: Vec::new(),
        });
    }
    Ok(())
}

type Listings = HashMap<Digest, Vec<Entry>>;

fn read_listings(repo: &Repository, snapshots: &[Snapshot], found: &mut Vec<Damage>) -> Listings {
    let mut listings = Listings::new();
    let mut broken: DigestSet = DigestSet::default();
    for base in snapshots
        .iter()
        .flat_map(|s| &s.roots)
        .filter_map(|r| r.base)
    {
        if listings.contains_key(&base) || broken.contains(&base) {
            continue;
        }
        match repo.keyframe(base) {
            Ok(listing) => drop(listings.insert(base, repo.resolve_all(listing))),
            Err(error) => {
                broken.insert(base);
                let lost = snapshots
                    .iter()
                    .flat_map(|s| s.roots.iter().map(move |r| (s, r)))
                    .filter(|(_, root)| root.base == Some(base))
                    .map(|(snapshot, root)| LostFile {
                        snapshot: snapshot.id,
                        path: root.path.clone().into(),
                        other: None,
                    })
                    .collect();
                found.push(Damage {
                    lost,
                    ..damage(layout::key_frame(base), &error)
                });
            }
        }
    }
    listings
}

/// Looks at files that were kept and are not packed: they are there, and nobody wrote to them.
fn check_kept(
    repo: &Repository,
    snapshots: &[Snapshot],
    listings: &Listings,
    found: &mut Vec<Damage>,
) {
    let mut lost: BTreeMap<String, Damage> = BTreeMap::new();
    for (snapshot, path, entry) in entries(snapshots, listings) {
        let Some(kept) = entry.body.content.as_ref().and_then(Content::as_kept) else {
            continue;
        };
        if let Err(error) = repo.open_kept(kept) {
            let name = layout::kept_set(kept.set);
            let known = lost
                .entry(name.clone())
                .or_insert_with(|| damage(name, &error));
            known.lost.push(LostFile {
                snapshot: snapshot.id,
                path: RawName(path.into_os_string()),
                other: None,
            });
        }
    }
    found.extend(lost.into_values());
}

fn blobs_of(entry: &Entry) -> impl Iterator<Item = Digest> + '_ {
    entry
        .body
        .content
        .iter()
        .flat_map(|c| c.blobs().iter().copied())
}

fn needed_blobs(snapshots: &[Snapshot], listings: &Listings) -> HashMap<Digest, ()> {
    let mut needed = HashMap::new();
    // By key frame, what no snapshot so far needs of it: the next has only that to look at.
    let mut hidden: HashMap<Digest, Vec<&Entry>> = HashMap::new();
    for root in snapshots.iter().flat_map(|s| &s.roots) {
        let changed = root.changed.iter().flat_map(blobs_of);
        needed.extend(changed.map(|blob| (blob, ())));
        let Some((base, listing)) = root.base.and_then(|b| Some((b, listings.get(&b)?))) else {
            continue;
        };
        let over = root.over_base();
        let hidden = hidden
            .entry(base)
            .or_insert_with(|| listing.iter().collect());
        hidden.retain(|entry| {
            let hides = over.hides(&entry.path);
            if !hides {
                needed.extend(blobs_of(entry).map(|blob| (blob, ())));
            }
            hides
        });
    }
    needed
}

/// Reads every byte of the packs; returns how many bytes of content were checked, and how many blobs.
fn check_packs(
    repo: &Repository,
    index: &std::sync::Arc<Index>,
    wanted: &[PackRef],
    bad_packs: &mut BTreeMap<Digest, String>,
    bad_copies: &mut Vec<(Digest, Location, String)>,
    healed: &mut Vec<String>,
    monitor: &dyn Monitor,
) -> Result<(u64, u64)> {
    /// Bad files, with the reason, and those that are whole again.
    type Found = (Vec<(PackRef, String)>, Vec<String>);
    // Before their blobs are looked at: what the lifeboat has is put in place.
    let packs_left = AtomicUsize::new(0);
    let known_bad = &*bad_packs;
    let bad_files: Mutex<Found> = Mutex::default();
    threads::share(threads::worth(8), &|| {
        let mut buffer = vec![0; PIECE];
        while let Some(pack) = wanted.get(packs_left.fetch_add(1, Ordering::Relaxed)) {
            if monitor.stopped() {
                return;
            }
            let known = known_bad.get(&pack.id).cloned();
            let Some(reason) = known.or_else(|| bad_file(repo, pack, &mut buffer)) else {
                continue;
            };
            let is_healed = repo.heal_part(Part::Pack(pack.id));
            if let Ok(mut found) = bad_files.lock() {
                match is_healed {
                    true => found.1.push(layout::pack(pack.id)),
                    false => found.0.push((*pack, reason)),
                }
            }
        }
    });
    let (bad, mended) = bad_files.into_inner().unwrap_or_default();
    healed.extend(mended);
    for (pack, reason) in bad {
        bad_packs.entry(pack.id).or_insert(reason);
    }
    // One that is empty may claim any number of parts of any length: none is looked for.
    let is_empty = |pack: &&PackRef| bad_packs.get(&pack.id).is_some_and(|why| why == EMPTY);
    let ids: DigestSet = wanted
        .iter()
        .filter(|pack| !is_empty(pack))
        .map(|pack| pack.id)
        .collect();
    let mut blobs: Vec<(Digest, Location)> = Vec::new();
    for digest in index.digests() {
        blobs.extend(
            index
                .copies(digest)
                .filter(|l| index.pack(l.pack).is_some_and(|p| ids.contains(&p.pack.id)))
                .map(|l| (digest, l)),
        );
    }
    blobs.sort_by_key(|(_, l)| (l.pack, l.member, l.offset));
    let bytes = blobs
        .iter()
        .fold(0, |sum: u64, (_, l)| sum.saturating_add(l.size));
    let count = blobs.len() as u64;
    monitor.phase(Phase::Verifying, count, bytes);
    let mut tasks: Vec<Vec<(Digest, Location)>> = Vec::new();
    // Blobs of one member stay together: it is decompressed once.
    let mut group: Vec<(Digest, Location)> = Vec::new();
    for (digest, location) in blobs {
        let new_member = group
            .last()
            .is_some_and(|(_, l)| (l.pack, l.member) != (location.pack, location.member));
        if new_member && group.len() >= 32 {
            tasks.push(std::mem::take(&mut group));
        }
        group.push((digest, location));
    }
    tasks.push(group);
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(Digest, Location)>> = Mutex::default();
    threads::share(threads::worth(8), &|| {
        let mut reader = Reader::with_index(repo, std::sync::Arc::clone(index));
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if monitor.stopped() {
                return;
            }
            for (digest, location) in task {
                if reader.check_copy(*digest, *location).is_err()
                    && let Ok(mut found) = found.lock()
                {
                    found.push((*digest, *location));
                }
                monitor.advance(1, location.size);
            }
        }
    });
    if monitor.stopped() {
        return Err(Error::Interrupted);
    }
    for (digest, location) in found.into_inner().unwrap_or_default() {
        let pack = index
            .pack(location.pack)
            .map_or_else(String::new, |p| layout::pack(p.pack.id));
        if let Some(pack) = index.pack(location.pack) {
            bad_packs
                .entry(pack.pack.id)
                .or_insert_with(|| "parts of it cannot be read".to_owned());
        }
        bad_copies.push((digest, location, pack));
    }
    let different = index.digests().count() as u64;
    Ok((bytes, different))
}

/// Bytes of a pack that are in memory at a time.
const PIECE: usize = 256 * 1024;

/// Zeros that no pack has one after another: a member of it is at most half as long.
const MOST_NOTHING: usize = 1 << 20;
/// What is wrong with a pack that has that many.
const EMPTY: &str = "much of it is empty";

/// Returns what is wrong with the file of a pack. It is read piece by piece: one that holds a large file is as large.
fn bad_file(repo: &Repository, pack: &PackRef, buffer: &mut [u8]) -> Option<String> {
    let name = layout::pack(pack.id);
    let bytes = match repo.storage().size(&name) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Some("it is missing".to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    if bytes != pack.bytes {
        return Some(format!("it has {bytes} bytes instead of {}", pack.bytes));
    }
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut nothing = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(buffer.len(), |n| n.min(buffer.len()));
        let piece = &mut buffer[..length];
        if let Err(error) = repo.storage().read_at(&name, at, piece) {
            return Some(error.to_string());
        }
        // A member is shorter than this, and begins with something: what is empty for so long holds nothing, however long it claims to be.
        nothing = match piece.iter().all(|byte| *byte == 0) {
            true => nothing + length,
            false => 0,
        };
        if nothing >= MOST_NOTHING {
            return Some(EMPTY.to_owned());
        }
        hasher.update(&*piece);
        at += length as u64;
    }
    (Digest::finish(hasher) != pack.id).then(|| "its checksum does not match its name".to_owned())
}

fn report_packs(
    snapshots: &[Snapshot],
    listings: &Listings,
    bad_packs: &BTreeMap<Digest, String>,
    lost: &HashMap<Digest, String>,
    found: &mut Vec<Damage>,
) {
    let mut by_pack: BTreeMap<String, Damage> = bad_packs
        .iter()
        .map(|(id, reason)| {
            let name = layout::pack(*id);
            (
                name.clone(),
                Damage {
                    name,
                    reason: reason.clone(),
                    lost: Vec::new(),
                },
            )
        })
        .collect();
    if !lost.is_empty() {
        for (snapshot, path, blobs) in files(snapshots, listings) {
            let Some(blob) = blobs.iter().find(|b| lost.contains_key(b)) else {
                continue;
            };
            let other = files(snapshots, listings)
                .filter(|(s, p, b)| {
                    s.id != snapshot.id && *p == path && !b.iter().any(|b| lost.contains_key(b))
                })
                .map(|(s, _, _)| s.id)
                .last();
            let name = match &lost[blob] {
                name if !name.is_empty() => name.clone(),
                // No copy is known at all: the pack that held it is gone.
                _ => by_pack
                    .values()
                    .find(|d| d.reason == "it is missing")
                    .map_or_else(|| format!("blob {blob}"), |d| d.name.clone()),
            };
            by_pack
                .entry(name.clone())
                .or_insert_with(|| Damage {
                    name,
                    reason: "no pack has it".to_owned(),
                    lost: Vec::new(),
                })
                .lost
                .push(LostFile {
                    snapshot: snapshot.id,
                    path: RawName(path.into_os_string()),
                    other,
                });
        }
    }
    found.extend(by_pack.into_values());
}

/// Returns all files of all snapshots with their blobs.
fn files<'a>(
    snapshots: &'a [Snapshot],
    listings: &'a Listings,
) -> impl Iterator<Item = (&'a Snapshot, std::path::PathBuf, Vec<Digest>)> {
    entries(snapshots, listings)
        .map(|(snapshot, path, entry)| (snapshot, path, blobs_of(entry).collect()))
}

/// Returns all entries of all snapshots, with where they were.
fn entries<'a>(
    snapshots: &'a [Snapshot],
    listings: &'a Listings,
) -> impl Iterator<Item = (&'a Snapshot, std::path::PathBuf, &'a Entry)> {
    snapshots.iter().flat_map(move |snapshot| {
        snapshot.roots.iter().flat_map(move |root| {
            let changed: std::collections::HashSet<&RepoPath> =
                root.changed.iter().map(|e| &e.path).collect();
            let based = root
                .base
                .and_then(|base| listings.get(&base))
                .into_iter()
                .flatten()
                .filter(move |e| {
                    !changed.contains(&e.path)
                        && !root.removed.iter().any(|r| e.path.starts_with(r))
                });
            root.changed
                .iter()
                .chain(based)
                .map(move |entry| (snapshot, entry.path.to_path(root.path.as_path()), entry))
        })
    })
}
