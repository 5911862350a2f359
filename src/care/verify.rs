//! Proves that stored data can be read: by names and sizes, by every byte, or by a restore.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id, SnapshotId};
use crate::base::monitor::Monitor;
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::{self, OwnTree};
use crate::model::manifest::{Content, Entry};
use crate::recover::restore;
use crate::repo::Repository;
use crate::repo::aside::Aside;
use crate::repo::index::DigestSet;
use crate::repo::kept::KeptSet;
use crate::repo::layout;
use crate::repo::marks::Mark;
use crate::repo::oplog::{Begin, End, Pin};
use crate::repo::origin::Origin;
use crate::repo::snapshot::Snapshot;
use crate::repo::summaries::Summary;

mod content;
mod damage;
mod mend;
mod packs;

use content::check_content;
use damage::damage;
pub use damage::{Damage, Harm, LostFile};
use packs::Packs;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Every file exists with its size; records and listings are whole.
    Quick,
    /// Every byte of every pack, listing and record.
    Full,
    /// Full, and a real restore into a scratch directory, compared.
    Restore,
}

#[derive(Debug, Clone)]
pub struct VerifyReport {
    pub snapshots: u64,
    pub packs: u64,
    /// Distinct blobs in them.
    pub blobs: u64,
    pub bytes: u64,
    /// Empty if nothing is wrong.
    pub damage: Vec<Damage>,
    /// Files that were missing or damaged and are whole again: from the lifeboat, or rewritten.
    pub healed: Vec<String>,
    /// Who made each of the snapshots, oldest first. Forged or altered ones are in `damage`.
    pub origins: Vec<(SnapshotId, Origin)>,
    /// This machine has a key that identifies its records.
    pub has_key: bool,
    /// Why that key is not used: then no record counts as this machine's, and new ones are not bound.
    pub key_refused: Option<String>,
    pub elapsed: Duration,
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
        mend::bring_back_records(repo, &mut report);
        mend::mend_records(repo, &mut report);
        mend::check_recovery(repo, &mut report);
    }
    let snapshots = read_snapshots(repo, only, &mut report.damage)?;
    report.snapshots = snapshots.len() as u64;
    tell_origins(repo, only, &snapshots, &mut report)?;
    if only.is_none() {
        check_operations(repo, &snapshots, &mut report.damage)?;
    }
    mend::mend_listings(repo, &snapshots, &mut report);
    let listings = read_listings(repo, &snapshots, &mut report.damage);
    check_kept(repo, &snapshots, &listings, &mut report.damage);
    let needed = needed_blobs(&snapshots, &listings);

    report.healed.extend(packs::bring_back(repo, &snapshots)?);
    let mut packs = Packs::look(repo, &snapshots, &needed)?;
    let wanted = packs.wanted(only.is_some().then_some(&needed));
    report.packs = wanted.len() as u64;
    report.blobs = packs.index.blobs() as u64;
    if level != VerifyLevel::Quick {
        (report.bytes, report.blobs) = packs.read(repo, &wanted, &mut report.healed, monitor)?;
    }
    let lost = packs.lost(&needed, level);
    packs.report(&snapshots, &listings, &lost, &mut report.damage);
    if level != VerifyLevel::Quick {
        let (index, damage) = (&packs.index, &mut report.damage);
        check_content(repo, index, &snapshots, &listings, &lost, damage, monitor)?;
    }
    // The next backup stores damaged files again. Checking a part says nothing about the rest.
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
        rehearse(repo, snapshot, scratch, &mut report, monitor)?;
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

fn rehearse(
    repo: &Repository,
    snapshot: &Snapshot,
    scratch: Option<&Path>,
    report: &mut VerifyReport,
    monitor: &dyn Monitor,
) -> Result<()> {
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
        let path = problem.path.as_path();
        let path = path.strip_prefix(place.path()).unwrap_or(path);
        report.damage.push(Damage {
            name: crate::base::path::show(path.as_os_str()),
            reason: Harm::Other(problem.reason),
            lost: Vec::new(),
        });
    }
    OwnTree::made(&place).remove()
}

fn tell_origins(
    repo: &Repository,
    only: Option<SnapshotId>,
    snapshots: &[Snapshot],
    report: &mut VerifyReport,
) -> Result<()> {
    let looked_at = snapshots.iter().map(Summary::from);
    // Only all of them show when this machine began to bind its records.
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

pub(super) fn read_snapshots(
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
                // A snapshot that was forgotten on purpose has a note.
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
    check_marks(repo, found)?;
    let sets = repo.storage().names("kept");
    for name in sets.map_err(|e| Error::storage("list", "kept", e))? {
        let id = |end| name.strip_suffix(end)?.parse::<Id>().ok();
        let checked = match (id(".json"), id(".contents.json.gz")) {
            (Some(_), _) => {
                let name = format!("kept/{name}");
                repo.read_record::<KeptSet>(&name).map(drop)
            }
            // Without the record of its set nothing is read by it.
            (_, Some(id)) if repo.has_kept_set(id)? => repo.kept_contents(id).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = checked {
            found.push(damage(format!("kept/{name}"), &error));
        }
    }
    for one in repo.all_snapshots()?.missing() {
        missing.remove(&one.id);
        found.push(Damage {
            name: one.file_name(),
            reason: Harm::RecordMissing,
            lost: Vec::new(),
        });
    }
    let mut missing: Vec<SnapshotId> = missing.into_iter().collect();
    missing.sort();
    // Taken during this verify, so not missing.
    let newest = snapshots.last().map(|s| s.id);
    for id in missing
        .iter()
        .filter(|id| newest.is_some_and(|n| **id <= n))
    {
        found.push(Damage {
            name: layout::some_snapshot(*id),
            reason: Harm::NeededByUndo,
            lost: Vec::new(),
        });
    }
    Ok(())
}

/// Looks at what was said of snapshots: a mark that cannot be read may be what keeps one.
fn check_marks(repo: &Repository, found: &mut Vec<Damage>) -> Result<()> {
    let names = repo.storage().names("marks");
    for name in names.map_err(|e| Error::storage("list", "marks", e))? {
        let name = format!("marks/{name}");
        let checked = match name.ends_with(".aside.json") {
            true => repo.read_record::<Aside>(&name).map(drop),
            false => repo.read_record::<Mark>(&name).map(drop),
        };
        if let Err(error) = checked {
            found.push(damage(name, &error));
        }
    }
    Ok(())
}

pub(super) type Listings = HashMap<Digest, Vec<Entry>>;

pub(super) fn read_listings(
    repo: &Repository,
    snapshots: &[Snapshot],
    found: &mut Vec<Damage>,
) -> Listings {
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

/// Checks files that were kept and are not packed: they exist, and nobody wrote to them.
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
        if let Err(error) = repo.find_kept(kept) {
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
    // By key frame, the entries that no snapshot so far needs: the next one checks only those.
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

/// Returns all files of all snapshots with their blobs.
fn files<'a>(
    snapshots: &'a [Snapshot],
    listings: &'a Listings,
) -> impl Iterator<Item = (&'a Snapshot, std::path::PathBuf, Vec<Digest>)> {
    entries(snapshots, listings)
        .map(|(snapshot, path, entry)| (snapshot, path, blobs_of(entry).collect()))
}

/// Returns all entries of all snapshots with their places.
pub(super) fn entries<'a>(
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
