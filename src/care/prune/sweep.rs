//! Moves files to the trash, deletes them from it, and moves back those that are needed again.

use std::collections::HashSet;
use std::sync::Arc;

use super::needs::{Needs, SparePacks};
use super::repack::repack;
use super::{PruneOptions, PruneReport, Spare, free_areas, spare_parts};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::{DigestSet, Index};
use crate::repo::pack;
use crate::repo::reader::Reader;
use crate::repo::trash::{Part, Trashed};

/// How many files are moved per lock.
const MOVES_AT_ONCE: usize = 64;

/// Counts what [`collect`] would move and free.
pub(super) fn estimate(
    repo: &Repository,
    needs: &Needs,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
) -> Result<()> {
    for (part, bytes) in spare_parts(repo, needs, &DigestSet::default())?.parts {
        count(report, part, bytes);
    }
    for set in repo.kept_sets()? {
        if !needs.sets.contains(&set.id) {
            report.staged_bytes = report.staged_bytes.saturating_add(set.bytes());
        }
    }
    for trashed in repo.trash()? {
        if is_due(&trashed, options) {
            report.swept += 1;
            report.swept_bytes += trashed.bytes;
        }
    }
    Ok(())
}

fn count(report: &mut PruneReport, part: Part, bytes: u64) {
    match part {
        Part::Pack(_) => report.packs += 1,
        Part::Keyframe(_) => report.keyframes += 1,
    }
    report.trashed_bytes += bytes;
}

fn is_due(trashed: &Trashed, options: &PruneOptions<'_>) -> bool {
    let age = options.now.timestamp_millis() - trashed.since;
    age >= 0 && age >= options.grace.num_milliseconds()
}

/// Moves unneeded files to the trash, deletes those that were in it long enough, and moves back
/// what is needed.
pub(super) fn collect(
    repo: &Repository,
    needs: &mut Needs,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let worn = repack(repo, needs, options, report, monitor)?;
    let Spare {
        parts,
        packs: spare,
        index,
    } = spare_parts(repo, needs, &worn)?;
    // Blobs that count as damaged because their pack is gone, but that nothing needs.
    let mut damaged = repo.damaged_blobs();
    let before = damaged.len();
    damaged.retain(|blob| needs.blobs.contains(blob));
    if damaged.len() < before {
        repo.set_damaged_blobs(&damaged)?;
    }
    let bad = bad_copies(repo, &index, &spare, monitor)?;
    let mut moving = Moving {
        index: &index,
        going: spare.packs.iter().map(|pack| pack.id).collect(),
        gone: DigestSet::default(),
    };
    for pack in bad {
        moving.going.remove(&pack);
    }
    for chunk in parts.chunks(MOVES_AT_ONCE) {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        repo.alone(options.patience, || {
            moving.look_again(repo, needs, monitor)?;
            for (part, bytes) in chunk {
                if moving.is_spare(*part, needs) {
                    throw_away(repo, *part, options)?;
                    count(report, *part, *bytes);
                    if let Part::Pack(id) = part {
                        moving.gone.insert(*id);
                    }
                }
            }
            Ok(())
        })?;
    }
    repo.forget_packs(&moving.gone);
    sweep(repo, needs, options, report, monitor)?;
    if !repo.kept_sets()?.is_empty() {
        // Alone, because a running guard may be about to name a set that its state remembers.
        repo.alone(options.patience, || {
            needs.look(repo, &HashSet::new(), monitor)?;
            match needs.unknown.pop() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })?;
        free_areas(repo, needs, options, report)?;
    }
    repo.alone(options.patience, || {
        needs.look(repo, &HashSet::new(), monitor)?;
        match needs.unknown.pop() {
            Some(error) => Err(error),
            // Values sealed for a snapshot that is not written yet are younger than the grace period.
            None => repo
                .vault()
                .sweep(&needs.values, options.now.into())
                .map(|_| ()),
        }
    })?;
    repo.restock_reserve();
    Ok(())
}

struct Moving<'a> {
    index: &'a Index,
    going: DigestSet,
    gone: DigestSet,
}

impl Moving<'_> {
    /// Reads snapshots that came meanwhile: what they need stays.
    fn look_again(
        &mut self,
        repo: &Repository,
        needs: &mut Needs,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let fresh = needs.look(repo, &HashSet::new(), monitor)?;
        if let Some(error) = needs.unknown.pop() {
            return Err(error);
        }
        for blob in fresh {
            let packs = || {
                self.index
                    .copies(blob)
                    .filter_map(|l| self.index.pack(l.pack))
            };
            let stays = packs().any(|pack| !self.going.contains(&pack.pack.id));
            let one = packs().map(|pack| pack.pack.id).next();
            if let Some(pack) = one.filter(|_| !stays) {
                self.going.remove(&pack);
            }
        }
        Ok(())
    }

    fn is_spare(&self, part: Part, needs: &Needs) -> bool {
        match part {
            Part::Pack(id) => self.going.contains(&id) && !needs.packs.contains(&id),
            Part::Keyframe(id) => !needs.keyframes.contains(&id),
        }
    }
}

fn throw_away(repo: &Repository, part: Part, options: &PruneOptions<'_>) -> Result<()> {
    match repo.throw_away(part, options.now) {
        Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            // A name in another directory may take a block.
            repo.release_reserve()?;
            repo.throw_away(part, options.now)
        }
        other => other,
    }
}

/// Returns packs that must stay because the other copy of something in them cannot be read.
fn bad_copies(
    repo: &Repository,
    index: &Arc<Index>,
    spare: &SparePacks,
    monitor: &dyn Monitor,
) -> Result<DigestSet> {
    let going: DigestSet = spare.packs.iter().map(|pack| pack.id).collect();
    let staying = |blob: Digest| {
        index.copies(blob).filter(|location| {
            let pack = index.pack(location.pack);
            pack.is_some_and(|pack| !going.contains(&pack.pack.id))
        })
    };
    // In the order of the pack, so that each member is decompressed once.
    let mut checks = Vec::new();
    let mut bad = DigestSet::default();
    for (pack, blobs) in &spare.copies {
        for blob in blobs {
            match staying(*blob).next() {
                Some(location) => checks.push((location, *blob, *pack)),
                None => drop(bad.insert(*pack)),
            }
        }
    }
    checks.sort_by_key(|(l, ..)| (l.pack, l.member, l.offset));
    let mut reader = Reader::with_index(repo, Arc::clone(index));
    for (location, blob, pack) in checks {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let good = reader.check_copy(blob, location).is_ok()
            || staying(blob).any(|location| reader.check_copy(blob, location).is_ok());
        if !good {
            bad.insert(pack);
        }
    }
    Ok(bad)
}

/// Deletes what was in the trash long enough; moves back what is needed.
fn sweep(
    repo: &Repository,
    needs: &mut Needs,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let trash = repo.trash()?;
    if trash.is_empty() {
        return Ok(());
    }
    let (index, _) = repo.refreshed_index()?;
    let is_missing = |blob: &&Digest| index.copies(**blob).next().is_none();
    let mut missing: DigestSet = needs.blobs.iter().filter(is_missing).copied().collect();
    for chunk in trash.chunks(MOVES_AT_ONCE) {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        // Alone, and after another check: a guard that could not wait names what it wrote without
        // the lock, and then checks that it exists.
        repo.alone(options.patience, || {
            needs.look(repo, &HashSet::new(), monitor)?;
            if let Some(error) = needs.unknown.pop() {
                return Err(error);
            }
            let mut due = Vec::new();
            for trashed in chunk {
                if is_needed(repo, trashed, needs, &mut missing)? {
                    repo.take_back(trashed)?;
                    report.taken_back += 1;
                } else if is_due(trashed, options) {
                    due.push(trashed);
                    report.swept += 1;
                    report.swept_bytes += trashed.bytes;
                }
            }
            repo.sweep(&due)
        })?;
    }
    if report.taken_back > 0 {
        repo.refreshed_index()?;
    }
    Ok(())
}

fn is_needed(
    repo: &Repository,
    trashed: &Trashed,
    needs: &Needs,
    missing: &mut DigestSet,
) -> Result<bool> {
    let name = trashed.part.name();
    let there = repo.storage().size(&name);
    if there
        .map_err(|e| Error::storage("read", name, e))?
        .is_some()
    {
        return Ok(false);
    }
    let id = match trashed.part {
        Part::Keyframe(id) => return Ok(needs.keyframes.contains(&id)),
        Part::Pack(id) => id,
    };
    if missing.is_empty() {
        return Ok(needs.packs.contains(&id));
    }
    let (_, blobs) = pack::salvage(repo.storage(), &trashed.name, trashed.bytes);
    let holds: Vec<Digest> = blobs
        .iter()
        .map(|blob| blob.0)
        .filter(|blob| missing.contains(blob))
        .collect();
    for blob in &holds {
        missing.remove(blob);
    }
    Ok(!holds.is_empty() || needs.packs.contains(&id))
}
