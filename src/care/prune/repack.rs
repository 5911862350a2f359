//! Copies what is still needed from packs that are mostly dead, or tiny, into new ones. The old
//! packs are then removed like any other.
//!
//! A guard writes a pack of a few kilobytes and compresses it quickly. Repacked, the parts still
//! needed are in one place, compressed as well as the rest. Packs of full backups stay as they are,
//! because `tar` reads them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::needs::Needs;
use super::{PruneOptions, PruneReport};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::Monitor;
use crate::model::manifest::{Content, Time};
use crate::repo::Repository;
use crate::repo::index::{DigestSet, Index, Location};
use crate::repo::pack::{Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;

/// A smaller pack is tiny, in bytes.
const TINY_BYTES: u64 = 128 * 1024;
/// This many tiny packs are worth merging.
const MANY_TINY: usize = 64;
/// How long to wait for others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Blobs up to this size, in bytes, are read whole.
const MEMORY_BYTES: u64 = 8 << 20;

#[derive(Default)]
struct Worn {
    /// Packs whose content is copied.
    packs: DigestSet,
    /// Blobs that are needed and in no other pack that stays.
    blobs: Vec<(Digest, Location)>,
}

/// Rewrites packs within the budget of the run; returns those that can be removed then.
pub(super) fn repack(
    repo: &Repository,
    needs: &Needs,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
    monitor: &dyn Monitor,
) -> Result<DigestSet> {
    let (index, unreadable) = repo.refreshed_index()?;
    let unreadable: DigestSet = unreadable.iter().map(|(pack, _)| pack.id).collect();
    let mut worn = choose(&index, needs, &unreadable, options.repack_bytes);
    if worn.packs.is_empty() {
        return Ok(worn.packs);
    }
    let hold = repo.hold(options.patience)?;
    let written = copy(repo, &index, &worn, monitor);
    drop(hold);
    match written {
        Ok((lost, bytes)) => {
            for blob in lost {
                // Packs with unreadable blobs stay: some day they may be readable.
                let packs = index.copies(blob).filter_map(|l| index.pack(l.pack));
                for pack in packs {
                    worn.packs.remove(&pack.pack.id);
                }
            }
            report.repacked = worn.packs.len() as u64;
            report.repacked_bytes = bytes;
            Ok(worn.packs)
        }
        // On a full disk, free what needs no copying first; the rest has to wait.
        Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            Ok(DigestSet::default())
        }
        Err(error) => Err(error),
    }
}

/// Copies what is still needed of damaged packs, and is in no other, into new ones; returns what cannot be read, `None` if nobody knows what is
/// needed because a record or a listing cannot be read.
pub(in crate::care) fn evacuate(
    repo: &Repository,
    damaged: &DigestSet,
    monitor: &dyn Monitor,
) -> Result<Option<DigestSet>> {
    let needs = Needs::of(repo, &HashSet::new(), monitor)?;
    if !needs.unknown.is_empty() {
        return Ok(None);
    }
    let (index, _) = repo.refreshed_index()?;
    let is_damaged = |location: &Location| {
        let pack = index.pack(location.pack);
        pack.is_some_and(|pack| damaged.contains(&pack.pack.id))
    };
    let mut worn = Worn::default();
    for blob in &needs.blobs {
        let copies: Vec<Location> = index.copies(*blob).collect();
        if let (Some(first), true) = (copies.first(), copies.iter().all(is_damaged)) {
            worn.blobs.push((*blob, *first));
        }
    }
    worn.blobs
        .sort_by_key(|(_, l)| (l.pack, l.member, l.offset));
    if worn.blobs.is_empty() {
        return Ok(Some(DigestSet::default()));
    }
    let _hold = repo.hold(PATIENCE)?;
    let (lost, _) = copy(repo, &index, &worn, monitor)?;
    Ok(Some(lost.into_iter().collect()))
}

fn choose(index: &Index, needs: &Needs, unreadable: &DigestSet, budget: u64) -> Worn {
    let count = index.packs().len();
    let mut live = vec![0_u64; count];
    let mut only: Vec<Vec<(Digest, Location)>> = vec![Vec::new(); count];
    for blob in &needs.blobs {
        let copies: Vec<Location> = index.copies(*blob).collect();
        let safe = copies.iter().any(|location| {
            let pack = index.pack(location.pack);
            pack.is_some_and(|pack| needs.packs.contains(&pack.pack.id))
        });
        if let (false, Some(first)) = (safe, copies.first()) {
            live[first.pack as usize] += first.size;
            only[first.pack as usize].push((*blob, *first));
        }
    }
    let raw = |number: usize| -> u64 {
        let members = &index.packs()[number].members;
        members.iter().map(|(_, member)| u64::from(member.1)).sum()
    };
    let movable = |number: &usize| {
        let id = index.packs()[*number].pack.id;
        live[*number] > 0 && !needs.packs.contains(&id) && !unreadable.contains(&id)
    };
    let size = |number: usize| index.packs()[number].pack.bytes;
    let mut chosen: Vec<usize> = (0..count)
        .filter(movable)
        .filter(|number| live[*number] * 2 < raw(*number) && size(*number) > TINY_BYTES)
        .collect();
    let tiny: Vec<usize> = (0..count)
        .filter(movable)
        .filter(|number| size(*number) <= TINY_BYTES)
        .collect();
    if tiny.len() >= MANY_TINY {
        chosen.extend(tiny);
    }
    // The most freed space for the least copying first.
    chosen.sort_by_key(|number| live[*number].saturating_mul(1000) / size(*number).max(1));
    let mut worn = Worn::default();
    let mut bytes = 0;
    for number in chosen {
        bytes += size(number);
        if bytes > budget && !worn.packs.is_empty() {
            break;
        }
        worn.packs.insert(index.packs()[number].pack.id);
        worn.blobs.append(&mut only[number]);
    }
    worn.blobs
        .sort_by_key(|(_, l)| (l.pack, l.member, l.offset));
    worn
}

/// Copies blobs into new packs, and checks each as it is read; returns the unreadable ones, and the
/// bytes written.
fn copy(
    repo: &Repository,
    index: &Arc<Index>,
    worn: &Worn,
    monitor: &dyn Monitor,
) -> Result<(Vec<Digest>, u64)> {
    let mut reader = Reader::with_index(repo, Arc::clone(index));
    let mut writer = PackWriter::new(repo.storage(), repo.id(), Level::Best);
    let mut lost = Vec::new();
    for (blob, location) in &worn.blobs {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let name = format!("blobs/{blob}");
        let meta = TarMeta {
            name: &name,
            kind: TarKind::File,
            mode: 0o600,
            mtime: Time(0, 0),
        };
        let content = Content::whole(*blob, location.size);
        let copied = if location.size <= MEMORY_BYTES {
            match reader.to_vec(&content, location.size) {
                Ok(bytes) => {
                    writer.add(&meta, &bytes, Some(*blob))?;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        } else {
            writer.begin_long(&meta, location.size)?;
            let mut full = None;
            let copied = reader.content(&content, &mut |bytes| {
                writer.write_long(bytes).map_err(|error| {
                    full = Some(error);
                    Error::Interrupted
                })
            });
            match (full, copied) {
                (Some(error), _) => return Err(error),
                (None, Ok(())) => {
                    writer.end_long(*blob)?;
                    Ok(())
                }
                (None, Err(error)) => {
                    writer.abort_long()?;
                    Err(error)
                }
            }
        };
        if copied.is_err() {
            lost.push(*blob);
        }
    }
    let finished = writer.finish()?;
    repo.remember_packs(&finished);
    Ok((lost, finished.iter().map(|f| f.pack.bytes).sum()))
}

/// Returns a function for the compressed bytes of a blob, by the ratio of its pack.
pub(super) fn weights(index: &Index) -> impl Fn(&[Digest]) -> u64 + '_ {
    let ratios: HashMap<u32, f64> = (0..)
        .zip(index.packs())
        .map(|(number, pack)| {
            let raw: u64 = pack.members.iter().map(|(_, m)| u64::from(m.1)).sum();
            (number, pack.pack.bytes as f64 / raw.max(1) as f64)
        })
        .collect();
    move |blobs| {
        let one = |blob: &Digest| {
            let location = index.copies(*blob).next()?;
            Some(location.size as f64 * ratios.get(&location.pack)?)
        };
        blobs.iter().filter_map(one).sum::<f64>() as u64
    }
}
