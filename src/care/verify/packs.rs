//! Checks that packs exist and are whole, and finds the blobs without a good copy.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::{Damage, Harm, Listings, LostFile, VerifyLevel, files};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::RawName;
use crate::base::threads;
use crate::repo::index::{DigestSet, Index, Location};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PackRef, Snapshot, SnapshotKind};
use crate::repo::trash::Part;
use crate::repo::{Repository, layout};

/// Restores packs from the lifeboat that are missing, or have another size than the records say.
pub(super) fn bring_back(repo: &Repository, snapshots: &[Snapshot]) -> Result<Vec<String>> {
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

type Needed = HashMap<Digest, ()>;

/// The findings about packs so far.
pub(super) struct Packs {
    pub(super) index: Arc<Index>,
    /// The existing packs, with their sizes.
    present: HashMap<Digest, u64>,
    bad: BTreeMap<Digest, Harm>,
    /// Unreadable copies of blobs, by blob, with the names of their packs.
    bad_copies: HashMap<Digest, Vec<(Location, String)>>,
}

impl Packs {
    /// Compares the packs in records with the existing ones.
    pub(super) fn look(repo: &Repository, snapshots: &[Snapshot], needed: &Needed) -> Result<Self> {
        let present: HashMap<Digest, u64> = repo
            .list_packs()?
            .into_iter()
            .map(|p| (p.id, p.bytes))
            .collect();
        let (index, unreadable) = repo.refreshed_index()?;
        let mut bad: BTreeMap<Digest, Harm> = BTreeMap::new();
        // An incremental is also whole if prune removed one of its packs because everything needed
        // has copies elsewhere.
        let is_lost = |blob: &Digest| index.copies(*blob).next().is_none();
        let any_lost = needed.keys().any(is_lost);
        let named = snapshots
            .iter()
            .filter(|s| any_lost || s.kind == SnapshotKind::Full);
        for pack in named.flat_map(|s| &s.packs) {
            match present.get(&pack.id) {
                None if repo.is_set_aside(pack.id) => {}
                None => drop(bad.insert(pack.id, Harm::Missing)),
                Some(bytes) if *bytes != pack.bytes => {
                    bad.insert(pack.id, wrong_size(*bytes, pack));
                }
                Some(_) => {}
            }
        }
        for (pack, error) in unreadable {
            bad.entry(pack.id).or_insert_with(|| Harm::of(&error));
        }
        Ok(Self {
            index,
            present,
            bad,
            bad_copies: HashMap::new(),
        })
    }

    /// Returns the packs to check: those with something of `needed`, or all.
    pub(super) fn wanted(&self, needed: Option<&Needed>) -> Vec<PackRef> {
        let index = &self.index;
        let holds = |pack: &PackRef, blob: Digest| {
            let mut copies = index.copies(blob);
            copies.any(|l| index.pack(l.pack).is_some_and(|p| p.pack.id == pack.id))
        };
        let packs = index.packs().iter().map(|known| known.pack);
        packs
            .filter(|pack| needed.is_none_or(|needed| needed.keys().any(|blob| holds(pack, *blob))))
            .collect()
    }

    /// Reads every byte of packs; returns the number of bytes of content checked, and of blobs.
    pub(super) fn read(
        &mut self,
        repo: &Repository,
        wanted: &[PackRef],
        healed: &mut Vec<String>,
        monitor: &dyn Monitor,
    ) -> Result<(u64, u64)> {
        self.read_files(repo, wanted, healed, monitor);
        let blobs = self.blobs_in(wanted);
        let sum = |sum: u64, (_, location): &(Digest, Location)| sum.saturating_add(location.size);
        let bytes = blobs.iter().fold(0, sum);
        monitor.phase(Phase::Verifying, blobs.len() as u64, bytes);
        for (digest, location) in unreadable(repo, &self.index, blobs, monitor)? {
            let mut name = String::new();
            if let Some(pack) = self.index.pack(location.pack) {
                name = layout::pack(pack.pack.id);
                self.bad.entry(pack.pack.id).or_insert(Harm::Parts);
            }
            let copies = self.bad_copies.entry(digest).or_default();
            copies.push((location, name));
        }
        Ok((bytes, self.index.digests().count() as u64))
    }

    /// Checks the packs as files, before their blobs: the lifeboat may replace them.
    fn read_files(
        &mut self,
        repo: &Repository,
        wanted: &[PackRef],
        healed: &mut Vec<String>,
        monitor: &dyn Monitor,
    ) {
        /// Bad files with the reason, and those that are whole again.
        type Found = (Vec<(PackRef, Harm)>, Vec<String>);
        let next = AtomicUsize::new(0);
        let found: Mutex<Found> = Mutex::default();
        let known = &self.bad;
        threads::share(threads::worth(8), &|| {
            let mut buffer = vec![0; PIECE];
            while let Some(pack) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                if monitor.stopped() {
                    return;
                }
                let known = known.get(&pack.id).cloned();
                let Some(reason) = known.or_else(|| bad_file(repo, pack, &mut buffer)) else {
                    continue;
                };
                let is_healed = repo.heal_part(Part::Pack(pack.id));
                if let Ok(mut found) = found.lock() {
                    match is_healed {
                        true => found.1.push(layout::pack(pack.id)),
                        false => found.0.push((*pack, reason)),
                    }
                }
            }
        });
        let (bad, mended) = found.into_inner().unwrap_or_default();
        healed.extend(mended);
        for (pack, reason) in bad {
            self.bad.entry(pack.id).or_insert(reason);
        }
    }

    /// Returns the copies of blobs in packs, in the order of the packs.
    fn blobs_in(&self, wanted: &[PackRef]) -> Vec<(Digest, Location)> {
        // An empty one may claim any number of parts of any length, so do not search for them.
        let is_empty = |pack: &&PackRef| {
            self.bad
                .get(&pack.id)
                .is_some_and(|why| *why == Harm::Empty)
        };
        let wanted = wanted.iter().filter(|pack| !is_empty(pack));
        let ids: DigestSet = wanted.map(|pack| pack.id).collect();
        let index = &self.index;
        let is_in = |location: &Location| {
            let pack = index.pack(location.pack);
            pack.is_some_and(|pack| ids.contains(&pack.pack.id))
        };
        let copies = |digest| index.copies(digest).map(move |location| (digest, location));
        let mut blobs: Vec<(Digest, Location)> = index
            .digests()
            .flat_map(copies)
            .filter(|(_, location)| is_in(location))
            .collect();
        blobs.sort_by_key(|(_, l)| (l.pack, l.member, l.offset));
        blobs
    }

    /// Returns the needed blobs without a good copy, with the name of the pack that had one.
    pub(super) fn lost(&self, needed: &Needed, level: VerifyLevel) -> HashMap<Digest, String> {
        let is_there = |location: &Location| {
            let pack = self.index.pack(location.pack);
            pack.is_some_and(|p| match level {
                VerifyLevel::Quick => self.present.get(&p.pack.id) == Some(&p.pack.bytes),
                _ => self
                    .bad
                    .get(&p.pack.id)
                    .is_none_or(|why| *why != Harm::Empty),
            })
        };
        let mut lost = HashMap::new();
        for blob in needed.keys() {
            let bad = self.bad_copies.get(blob).map_or(&[][..], Vec::as_slice);
            let is_good = |l: &Location| is_there(l) && !bad.iter().any(|(other, _)| other == l);
            if !self.index.copies(*blob).any(|l| is_good(&l)) {
                let pack = bad.first().map(|(_, name)| name.clone());
                lost.insert(*blob, pack.unwrap_or_default());
            }
        }
        lost
    }

    /// Reports which packs are bad, and which files are lost because of that.
    pub(super) fn report(
        &self,
        snapshots: &[Snapshot],
        listings: &Listings,
        lost: &HashMap<Digest, String>,
        found: &mut Vec<Damage>,
    ) {
        let mut by_pack: BTreeMap<String, Damage> = self
            .bad
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
                    // No copy is known at all: its pack is gone.
                    _ => by_pack
                        .values()
                        .find(|d| d.reason == Harm::Missing)
                        .map_or_else(|| format!("blob {blob}"), |d| d.name.clone()),
                };
                by_pack
                    .entry(name.clone())
                    .or_insert_with(|| Damage {
                        name,
                        reason: Harm::NoPack,
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
}

/// Reads blobs in several threads; returns the unreadable copies.
fn unreadable(
    repo: &Repository,
    index: &Arc<Index>,
    blobs: Vec<(Digest, Location)>,
    monitor: &dyn Monitor,
) -> Result<Vec<(Digest, Location)>> {
    let tasks = by_member(blobs);
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(Digest, Location)>> = Mutex::default();
    threads::share(threads::worth(8), &|| {
        let mut reader = Reader::with_index(repo, Arc::clone(index));
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
    Ok(found.into_inner().unwrap_or_default())
}

/// Splits blobs into tasks. Blobs of one member stay together, so that it is decompressed once.
fn by_member(blobs: Vec<(Digest, Location)>) -> Vec<Vec<(Digest, Location)>> {
    let mut tasks = Vec::new();
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
    tasks
}

/// Bytes of a pack in memory at a time.
const PIECE: usize = 256 * 1024;

/// More consecutive zeros than any pack has: a member is at most half as long.
const MOST_NOTHING: usize = 1 << 20;

fn wrong_size(bytes: u64, pack: &PackRef) -> Harm {
    Harm::Size {
        bytes,
        expected: pack.bytes,
    }
}

/// Returns what is wrong with a pack file. Reads it piece by piece, because a pack may be as large
/// as the largest file.
fn bad_file(repo: &Repository, pack: &PackRef, buffer: &mut [u8]) -> Option<Harm> {
    let name = layout::pack(pack.id);
    let bytes = match repo.storage().size(&name) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Some(Harm::Missing),
        Err(error) => return Some(Harm::Other(error.to_string())),
    };
    if bytes != pack.bytes {
        return Some(wrong_size(bytes, pack));
    }
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut nothing = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(buffer.len(), |n| n.min(buffer.len()));
        let piece = &mut buffer[..length];
        if let Err(error) = repo.storage().read_at(&name, at, piece) {
            return Some(Harm::Other(error.to_string()));
        }
        // A member is shorter than this, and begins with something: such a long empty range
        // contains nothing, however long it claims to be.
        nothing = match piece.iter().all(|byte| *byte == 0) {
            true => nothing + length,
            false => 0,
        };
        if nothing >= MOST_NOTHING {
            return Some(Harm::Empty);
        }
        hasher.update(&*piece);
        at += length as u64;
    }
    (Digest::finish(hasher) != pack.id).then_some(Harm::Checksum)
}
