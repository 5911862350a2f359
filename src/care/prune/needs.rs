//! Finds what the existing snapshots need: read from the records and listings themselves, one key
//! frame in memory at a time.

use std::collections::{HashMap, HashSet};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id, SnapshotId};
use crate::base::monitor::Monitor;
use crate::model::manifest::{Content, Entry};
use crate::privacy::Fingerprint;
use crate::repo::Repository;
use crate::repo::index::{DigestSet, Index};
use crate::repo::layout;
use crate::repo::snapshot::{PackRef, SnapshotKind};

/// What a snapshot needs that earlier ones did not.
#[derive(Default)]
pub(super) struct News {
    pub(super) blobs: Vec<Digest>,
    pub(super) keyframes: Vec<Digest>,
}

/// What must stay.
#[derive(Default)]
pub(super) struct Needs {
    pub(super) keyframes: DigestSet,
    pub(super) blobs: DigestSet,
    /// Packs of full backups: `tar` extracts them all.
    pub(super) packs: DigestSet,
    pub(super) sets: HashSet<Id>,
    /// Fingerprints of values in the vault.
    pub(super) values: HashSet<Fingerprint>,
    /// Sets whose files were not packed when they were read.
    unpacked: HashSet<Id>,
    seen: HashSet<(u64, SnapshotId)>,
    /// By key frame, the entries that no snapshot so far needs, because each replaces them.
    hidden: HashMap<Digest, Vec<Entry>>,
    /// Records that cannot be read: nobody knows what they need.
    pub(super) unknown: Vec<Error>,
}

impl Needs {
    /// Reads all snapshots except `without`.
    pub(super) fn of(
        repo: &Repository,
        without: &HashSet<SnapshotId>,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut needs = Self::default();
        needs.look(repo, without, monitor)?;
        Ok(needs)
    }

    /// Reads the snapshots that came since the last reading; returns the blobs that only they need.
    pub(super) fn look(
        &mut self,
        repo: &Repository,
        without: &HashSet<SnapshotId>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Digest>> {
        let mut fresh = News::default();
        for (seq, id) in repo.snapshot_order()? {
            if without.contains(&id) || !self.seen.insert((seq, id)) {
                continue;
            }
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            self.snapshot(repo, seq, id, &mut fresh);
        }
        // Another process may have packed kept content.
        for set in self.unpacked.clone() {
            self.set(repo, set, &mut fresh);
        }
        Ok(fresh.blobs)
    }

    pub(super) fn add(&mut self, repo: &Repository, seq: u64, id: SnapshotId) -> News {
        let mut fresh = News::default();
        if self.seen.insert((seq, id)) {
            self.snapshot(repo, seq, id, &mut fresh);
        }
        fresh
    }

    fn snapshot(&mut self, repo: &Repository, seq: u64, id: SnapshotId, fresh: &mut News) {
        let snapshot = match repo.read_snapshot(&layout::snapshot(seq, id)) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.unknown.push(error);
                return;
            }
        };
        if snapshot.kind == SnapshotKind::Full {
            self.packs.extend(snapshot.packs.iter().map(|pack| pack.id));
        }
        for root in &snapshot.roots {
            for entry in &root.changed {
                self.entry(repo, entry, fresh);
            }
            let Some(base) = root.base else { continue };
            let hidden = match self.hidden.remove(&base) {
                Some(hidden) => hidden,
                None => {
                    self.keyframes.insert(base);
                    fresh.keyframes.push(base);
                    match repo.keyframe(base) {
                        Ok(listing) => listing,
                        Err(error) => {
                            self.unknown.push(error);
                            continue;
                        }
                    }
                }
            };
            let over = root.over_base();
            let (hidden, seen): (Vec<Entry>, Vec<Entry>) = hidden
                .into_iter()
                .filter(|entry| entry.body.content.is_some() || entry.body.sealed.is_some())
                .partition(|entry| over.hides(&entry.path));
            for entry in &seen {
                self.entry(repo, entry, fresh);
            }
            self.hidden.insert(base, hidden);
        }
    }

    fn entry(&mut self, repo: &Repository, entry: &Entry, fresh: &mut News) {
        if let Some(sealed) = &entry.body.sealed {
            self.values.extend(&sealed.values);
        }
        let Some(content) = &entry.body.content else {
            return;
        };
        if let Some(kept) = content.as_kept() {
            if self.sets.insert(kept.set) {
                self.set(repo, kept.set, fresh);
            }
            return;
        }
        self.blobs_of(content, fresh);
    }

    fn blobs_of(&mut self, content: &Content, fresh: &mut News) {
        for blob in content.blobs() {
            if self.blobs.insert(*blob) {
                fresh.blobs.push(*blob);
            }
        }
    }

    fn set(&mut self, repo: &Repository, set: Id, fresh: &mut News) {
        match repo.kept_digests(set) {
            Ok(Some((digests, values))) => {
                self.unpacked.remove(&set);
                self.values.extend(values);
                for blob in digests {
                    if self.blobs.insert(blob) {
                        fresh.blobs.push(blob);
                    }
                }
            }
            Ok(None) => drop(self.unpacked.insert(set)),
            Err(error) => self.unknown.push(error),
        }
    }
}

#[derive(Default)]
pub(super) struct SparePacks {
    /// Nothing in them is needed, or every needed blob has a copy in a pack that stays.
    pub(super) packs: Vec<PackRef>,
    /// The blobs of such a pack that have a copy: that one has to be checked first.
    pub(super) copies: HashMap<Digest, Vec<Digest>>,
    /// Blobs that are needed and in no existing pack.
    pub(super) missing: DigestSet,
}

/// Chooses packs so that each needed blob stays in one, and returns the others. `worn` packs stay
/// only if there is no other copy.
pub(super) fn spare_packs(
    index: &Index,
    needs: &Needs,
    unreadable: &DigestSet,
    worn: &DigestSet,
) -> SparePacks {
    let count = index.packs().len();
    let mut wanted_bytes = vec![0_u64; count];
    let mut needed_in: Vec<Vec<Digest>> = vec![Vec::new(); count];
    let mut chosen: Vec<bool> = index
        .packs()
        .iter()
        .map(|pack| needs.packs.contains(&pack.pack.id))
        .collect();
    let mut spare = SparePacks::default();
    for blob in &needs.blobs {
        let mut copies = 0;
        let mut only = 0;
        for location in index.copies(*blob) {
            only = location.pack as usize;
            wanted_bytes[only] += location.size;
            needed_in[only].push(*blob);
            copies += 1;
        }
        match copies {
            0 => drop(spare.missing.insert(*blob)),
            1 => chosen[only] = true,
            _ => {}
        }
    }
    // Of several copies choose the one in the pack that is most needed anyway.
    let worth = |pack: usize| {
        let known = &index.packs()[pack].pack;
        let share = wanted_bytes[pack] as f64 / known.bytes.max(1) as f64;
        (if worn.contains(&known.id) { 0.0 } else { share }, pack)
    };
    for blob in &needs.blobs {
        let packs: Vec<usize> = index.copies(*blob).map(|l| l.pack as usize).collect();
        if packs.is_empty() || packs.iter().any(|pack| chosen[*pack]) {
            continue;
        }
        let best = packs.into_iter().max_by(|a, b| {
            let (a, b) = (worth(*a), worth(*b));
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        });
        if let Some(best) = best {
            chosen[best] = true;
        }
    }
    for (number, pack) in index.packs().iter().enumerate() {
        // The unreadable pack may contain what seems to be missing.
        let hope = unreadable.contains(&pack.pack.id) && !spare.missing.is_empty();
        if chosen[number] || hope {
            continue;
        }
        spare.packs.push(pack.pack);
        if !needed_in[number].is_empty() {
            let blobs = std::mem::take(&mut needed_in[number]);
            spare.copies.insert(pack.pack.id, blobs);
        }
    }
    spare
}
