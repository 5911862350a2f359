//! Which packs are missing at a destination. What guards wrote in many small ones is put into one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{INLINE, Item, PushReport, Run, Source, Wanted};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::model::manifest::{Content, Time};
use crate::remote::record::Stored;
use crate::remote::spool::Spool;
use crate::repo::index::{DigestSet, Index, Location};
use crate::repo::layout;
use crate::repo::pack::{Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PackRef, SnapshotKind};

/// A smaller pack is put together with others, in bytes.
const SMALL_PACK: u64 = 1 << 20;
/// Blobs that are put together are read whole; packs with larger ones stay as they are.
const SMALL_BLOB: u64 = 8 << 20;
/// So many bytes of small packs become one: far less than what a pack can have, so that each stands for
/// all of its own.
const JOINED: u64 = 16 << 20;

/// Parts small packs so that each group becomes one.
fn groups(small: &[PackRef]) -> Vec<Vec<PackRef>> {
    let mut groups: Vec<Vec<PackRef>> = Vec::new();
    let mut left = 0;
    for pack in small {
        match groups.last_mut().filter(|_| pack.bytes <= left) {
            Some(group) => group.push(*pack),
            None => {
                left = JOINED;
                groups.push(vec![*pack]);
            }
        }
        left -= pack.bytes.min(left);
    }
    groups
}

/// Returns true if all that a pack stands for is here. What was found to be secret was in one that is
/// not, so nobody is to need a pack for which that is not so any more.
pub(super) fn is_untouched(stored: &Stored, here: &HashSet<Digest>) -> bool {
    stored.instead_of.iter().all(|pack| here.contains(pack))
}

impl Run<'_> {
    /// Adds the packs that are not there, small ones put together.
    pub(super) fn packs(
        &self,
        wanted: &mut Wanted,
        is_wanted: &dyn Fn(&str) -> bool,
        report: &mut PushReport,
    ) -> Result<()> {
        let mut covered = DigestSet::default();
        let here: HashSet<Digest> = self.repo.list_packs()?.iter().map(|pack| pack.id).collect();
        for stored in self.held.iter().flat_map(|held| held.objects.values()) {
            if !wanted.replaces || is_untouched(stored, &here) {
                covered.extend(stored.instead_of.iter().copied());
            }
        }
        let is_missing = |pack: &PackRef| {
            let name = layout::pack(pack.id);
            !covered.contains(&pack.id) && !self.has(&name) && is_wanted(&name)
        };
        let mut missing = self.repo.list_packs()?;
        missing.retain(is_missing);
        if missing.is_empty() {
            return Ok(());
        }
        let (index, unreadable) = self.repo.refreshed_index()?;
        // `tar` reads those of full backups.
        let mut whole = DigestSet::default();
        for (_, snapshot) in &wanted.snapshots {
            if snapshot.kind == SnapshotKind::Full {
                whole.extend(snapshot.packs.iter().map(|pack| pack.id));
            }
        }
        if !self.lost.is_empty() {
            // Of older ones, too, when they are sent again.
            for snapshot in self.repo.snapshots()? {
                if snapshot.kind == SnapshotKind::Full {
                    whole.extend(snapshot.packs.iter().map(|pack| pack.id));
                }
            }
        }
        let damaged: DigestSet = unreadable.iter().map(|(pack, _)| pack.id).collect();
        let is_small = |pack: &&PackRef| {
            pack.bytes < SMALL_PACK && !whole.contains(&pack.id) && !damaged.contains(&pack.id)
        };
        let mut small: Vec<PackRef> = missing.iter().filter(is_small).copied().collect();
        if small.len() < 2 {
            small.clear();
        }
        let mut taken = DigestSet::default();
        let mut joined = Vec::new();
        for group in groups(&small) {
            let one = self.join(&group, &index)?;
            if !one.is_empty() {
                taken.extend(group.iter().map(|pack| pack.id));
            }
            joined.extend(one);
        }
        report.joined = taken.len() as u64;
        wanted.items.extend(joined);
        for pack in missing.iter().filter(|pack| !taken.contains(&pack.id)) {
            let inline = if whole.contains(&pack.id) { 0 } else { INLINE };
            self.want(wanted, layout::pack(pack.id), pack.bytes, inline)?;
        }
        Ok(())
    }

    /// Puts all that is in these packs into new ones.
    fn join(&self, small: &[PackRef], index: &Arc<Index>) -> Result<Vec<Item>> {
        let numbers = (0..).zip(index.packs());
        let numbers: HashMap<Digest, u32> = numbers.map(|(n, pack)| (pack.pack.id, n)).collect();
        let joins: HashSet<u32> = small
            .iter()
            .filter_map(|pack| numbers.get(&pack.id).copied())
            .collect();
        let mut blobs: Vec<(Digest, Location)> = Vec::new();
        for digest in index.digests() {
            let mut copies = index.copies(digest);
            let found = copies.find(|location| joins.contains(&location.pack));
            blobs.extend(found.map(|location| (digest, location)));
        }
        if blobs.iter().any(|(_, location)| location.size > SMALL_BLOB) {
            return Ok(Vec::new());
        }
        blobs.sort_unstable_by_key(|(_, l)| (l.pack, l.member, l.offset));
        let spool = Spool::default();
        let mut writer = PackWriter::new(&spool, self.repo.id(), Level::Best);
        let mut reader = Reader::with_index(self.repo, Arc::clone(index));
        for (digest, location) in blobs {
            if self.monitor.stopped() {
                return Err(Error::Interrupted);
            }
            let name = format!("blobs/{digest}");
            let meta = TarMeta {
                name: &name,
                kind: TarKind::File,
                mode: 0o600,
                mtime: Time(0, 0),
            };
            let content = Content::whole(digest, location.size);
            let bytes = reader.to_vec(&content, location.size)?;
            writer.add(&meta, &bytes, Some(digest))?;
        }
        writer.finish()?;
        let mut instead_of: Vec<Digest> = small.iter().map(|pack| pack.id).collect();
        let packs = spool.take().into_iter();
        Ok(packs
            .map(|(name, bytes)| Item {
                name,
                bytes: bytes.len() as u64,
                content: Source::Memory(bytes),
                // The first speaks for all: they are named by the same record.
                instead_of: std::mem::take(&mut instead_of),
            })
            .collect())
    }
}
