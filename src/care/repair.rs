//! Repairs damage: stores lost content again if its bytes exist elsewhere, and sets damaged files
//! aside.
//!
//! Order on disk: lost content that was found is stored; the readable rest of a damaged pack is
//! copied, durably; a note says that the pack is set aside; then it is moved. A crash in between
//! leaves a copy too many, never one too few. Nothing is deleted.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::base::error::Result;
use crate::base::id::{Digest, Id, SnapshotId};
use crate::base::monitor::Monitor;
use crate::care::prune::repack::evacuate;
use crate::care::verify::{Damage, entries, read_listings, read_snapshots};
use crate::repo::index::DigestSet;
use crate::repo::{Repository, kept, layout, record};

mod remedy;

use remedy::{FoundAgain, Remedy};

/// How long to wait for other processes.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pack is read in pieces of this many bytes.
const PIECE: usize = 256 * 1024;

/// What can be repaired. A plan changes nothing until it is applied.
pub struct RepairPlan {
    /// Records whose bytes are not those that were written.
    torn: Vec<String>,
    /// Snapshots whose records are missing.
    missing: Vec<SnapshotId>,
    /// Damaged and missing packs.
    packs: DigestSet,
    remedies: Vec<Remedy>,
    found: Vec<FoundAgain>,
}

impl RepairPlan {
    /// Returns true if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.torn.is_empty()
            && self.missing.is_empty()
            && self.packs.is_empty()
            && self.remedies.is_empty()
    }

    /// Returns the files whose lost content was found completely: each with the file that has it,
    /// or `None` if it is elsewhere in the repository.
    pub fn found_again(&self) -> impl Iterator<Item = (&Path, Option<&Path>)> {
        let found = self.found.iter();
        found.map(|one| (one.path.as_path(), one.live.as_deref()))
    }

    /// Returns the names of files that will be set aside, if nothing needs them by then.
    pub fn set_aside(&self) -> Vec<String> {
        let mut packs: Vec<String> = self.packs.iter().map(|id| layout::pack(*id)).collect();
        packs.sort();
        self.torn.iter().cloned().chain(packs).collect()
    }
}

/// The result of a repair.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// Files whose lost content was stored again.
    pub stored: Vec<PathBuf>,
    /// Names of the files that were set aside.
    pub set_aside: Vec<String>,
    /// Snapshots whose records were missing: they count as forgotten now.
    pub forgotten: Vec<SnapshotId>,
}

/// Searches for content that a verification found damaged or missing: in the files as they are now,
/// and elsewhere in the repository. Changes nothing.
///
/// # Errors
/// The repository cannot be read, or the user stopped it.
pub fn plan(repo: &Repository, damage: &[Damage], monitor: &dyn Monitor) -> Result<RepairPlan> {
    let ids = repo.snapshot_ids()?;
    let names = || damage.iter().map(|damage| damage.name.as_str());
    let missing = names().filter_map(snapshot_of);
    let mut torn: Vec<String> = names()
        .filter(|name| is_torn(repo, name))
        .map(str::to_owned)
        .collect();
    torn.extend(torn_sets(repo, names())?);
    let missing: Vec<SnapshotId> = missing.filter(|id| !ids.contains(id)).collect();
    let (remedies, found) = remedy::find(repo, &repo.damaged_blobs(), monitor)?;
    Ok(RepairPlan {
        missing,
        torn,
        packs: names().filter_map(pack_of).collect(),
        remedies,
        found,
    })
}

/// Carries out a plan.
///
/// # Errors
/// The repository cannot be written, or the user stopped it.
pub fn repair(
    repo: &Repository,
    plan: &RepairPlan,
    now: DateTime<Utc>,
    monitor: &dyn Monitor,
) -> Result<RepairReport> {
    repo.check_writable()?;
    let mut report = RepairReport::default();
    // Records first: as long as one cannot be read, we do not know what it needs.
    for name in &plan.torn {
        repo.set_record_aside(name, now)?;
        report.set_aside.push(name.clone());
        // Operations still name it.
        if let Some(id) = snapshot_of(name) {
            repo.put_forgotten(id)?;
        }
    }
    for id in &plan.missing {
        repo.put_forgotten(*id)?;
        report.forgotten.push(*id);
    }
    if !plan.remedies.is_empty() {
        let _hold = repo.hold(PATIENCE)?;
        let stored = remedy::store(repo, &plan.remedies, monitor)?;
        let mut lost = repo.damaged_blobs();
        lost.retain(|blob| !stored.contains(blob));
        repo.set_damaged_blobs(&lost)?;
        let whole = plan.found.iter().filter(|one| one.is_in(&stored));
        report.stored.extend(whole.map(|one| one.path.clone()));
        report.stored.dedup();
    }
    set_packs_aside(repo, &plan.packs, now, &mut report, monitor)?;
    Ok(report)
}

/// Sets damaged packs aside once everything readable in them is elsewhere. A pack with content that
/// is lost for good is set aside only if its bytes are provably not those that were written: if a
/// disk cannot be read today, it may be readable tomorrow.
fn set_packs_aside(
    repo: &Repository,
    packs: &DigestSet,
    now: DateTime<Utc>,
    report: &mut RepairReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    let Some(lost) = evacuate(repo, packs, monitor)? else {
        return Ok(());
    };
    let (index, _) = repo.refreshed_index()?;
    let has_lost = |id: &Digest| {
        let mut copies = lost.iter().flat_map(|blob| index.copies(*blob));
        copies.any(|copy| {
            index
                .pack(copy.pack)
                .is_some_and(|pack| pack.pack.id == *id)
        })
    };
    let mut gone: Vec<Digest> = packs.iter().copied().collect();
    gone.retain(|id| !has_lost(id) || is_another(repo, *id));
    gone.sort();
    for id in &gone {
        repo.set_pack_aside(*id, now)?;
        report.set_aside.push(layout::pack(*id));
    }
    repo.forget_packs(&gone.into_iter().collect());
    Ok(())
}

/// Returns true if a pack can be read completely and has other bytes than when it was written.
fn is_another(repo: &Repository, id: Digest) -> bool {
    let name = layout::pack(id);
    let Ok(Some(bytes)) = repo.storage().size(&name) else {
        return false;
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut buffer[..length];
        if repo.storage().read_at(&name, at, piece).is_err() {
            return false;
        }
        hasher.update(&*piece);
        at += length as u64;
    }
    Digest::finish(hasher) != id
}

/// Returns true if a record exists and its bytes are not those that were written. A record that is
/// whole and unreadable comes from a newer version, or is forged: only the user may remove it.
fn is_torn(repo: &Repository, name: &str) -> bool {
    let mut dirs = ["snapshots/", "operations/", "marks/"].iter();
    dirs.any(|dir| name.starts_with(dir))
        && matches!(repo.storage().size(name), Ok(Some(_)))
        && repo
            .storage()
            .read(name)
            .is_ok_and(|bytes| !record::is_whole(&bytes))
}

/// Returns the damaged records of kept content that can go: those that no snapshot needs, and lists
/// of digests whose files are still there, which are packed again. As long as a snapshot cannot be
/// read, nobody knows what it needs.
fn torn_sets<'a>(repo: &Repository, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
    let is_bad = |name: &str| {
        repo.storage()
            .read(name)
            .is_ok_and(|bytes| match name.ends_with(".gz") {
                true => !kept::is_whole(&bytes),
                false => !record::is_whole(&bytes),
            })
    };
    let torn = names.filter_map(|name| Some((name, layout::set_of(name)?)));
    let torn: Vec<(&str, Id)> = torn.filter(|(name, _)| is_bad(name)).collect();
    if torn.is_empty() {
        return Ok(Vec::new());
    }
    let mut unread = Vec::new();
    let snapshots = read_snapshots(repo, None, &mut unread)?;
    let listings = read_listings(repo, &snapshots, &mut unread);
    if !unread.is_empty() {
        return Ok(Vec::new());
    }
    let needed: HashSet<Id> = entries(&snapshots, &listings)
        .filter_map(|(_, _, entry)| Some(entry.body.content.as_ref()?.as_kept()?.set))
        .collect();
    let is_packed_again = |name: &str, set: Id| {
        let files = || repo.kept_sets().ok()?.into_iter().find(|one| one.id == set);
        name == layout::kept_contents(set)
            && files().is_some_and(|set| set.open_area(&repo.areas()).is_ok())
    };
    let goes = |(name, set): &(&str, Id)| !needed.contains(set) || is_packed_again(name, *set);
    let gone = torn.into_iter().filter(goes);
    Ok(gone.map(|(name, _)| name.to_owned()).collect())
}

fn snapshot_of(name: &str) -> Option<SnapshotId> {
    let file = name.strip_prefix("snapshots/")?.strip_suffix(".json")?;
    file.rsplit('-').next()?.parse().ok()
}

fn pack_of(name: &str) -> Option<Digest> {
    let file = name.strip_prefix("packs/")?.strip_suffix(".tar.gz")?;
    file.rsplit('/').next()?.parse().ok()
}
