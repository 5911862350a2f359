//! Keeps the repository within its budget: removes the oldest guard snapshots first, then the
//! oldest backups.
//!
//! Snapshots that the policy always keeps stay, and so do those of the last day: a budget that is
//! too small must not make today's changes impossible to undo. If what always stays needs more than
//! the budget, nothing is removed for it: it would only cost history.

use crate::base::error::{Error, Result};
use crate::base::monitor::Monitor;
use crate::disk::fsutil;
use crate::model::retention::{Decision, Item, Reason, usual_max_bytes};
use crate::repo::Repository;
use chrono::TimeDelta;

use super::needs::Needs;
use super::repack::weights;

/// How long snapshots stay, however full the storage is.
const DAY: TimeDelta = TimeDelta::days(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that it takes, without the trash.
    pub used: u64,
    /// Bytes that it may take; 0 for no limit.
    pub max: u64,
    /// The limit is not configured, so it follows the disk.
    pub by_disk: bool,
    /// Bytes that the last full backup stored; 0 if there is none.
    pub full: u64,
    /// What has to stay takes more than the budget.
    pub unreachable: bool,
}

impl Budget {
    /// Weighs what a repository takes; without a number in the configuration the budget follows the disk. `full` is what the
    /// last full backup stored.
    pub fn new(repo: &Repository, used: u64, configured: Option<u64>, full: u64) -> Self {
        // Where nobody knows how much room there is, there is no budget.
        let by_disk = || {
            let free = fsutil::free_bytes(repo.location());
            free.map_or(0, |free| usual_max_bytes(used, free, full))
        };
        Self {
            used,
            max: configured.unwrap_or_else(by_disk),
            by_disk: configured.is_none(),
            full,
            unreachable: false,
        }
    }

    /// Returns true if a person should know: four fifths are used.
    pub fn is_tight(&self) -> bool {
        self.max > 0 && self.used / 4 >= self.max / 5
    }

    /// Returns the used share, in percent.
    pub fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.max.max(1)
    }
}

/// Returns how much a repository takes, without its trash.
///
/// # Errors
/// The repository cannot be listed.
pub fn used_bytes(repo: &Repository) -> Result<u64> {
    let trash: u64 = repo.trash()?.iter().map(|trashed| trashed.bytes).sum();
    Ok(repo.stored_bytes()?.saturating_sub(trash))
}

/// Marks what does not fit for removal; notes in the budget if that would be useless.
pub(super) fn fit(
    repo: &Repository,
    budget: &mut Budget,
    items: &[Item],
    decisions: &mut [Decision],
    monitor: &dyn Monitor,
) -> Result<()> {
    if budget.max == 0 || budget.used <= budget.max {
        return Ok(());
    }
    let (index, _) = repo.refreshed_index()?;
    let weigh = weights(&index);
    let packs: u64 = index.packs().iter().map(|pack| pack.pack.bytes).sum();
    let listed = repo.storage().list("manifests");
    let listed = listed.map_err(|e| Error::storage("list", "manifests", e))?;
    let size_of = |id: &crate::base::id::Digest| {
        let name = format!("{id}.json.gz");
        let found = listed.binary_search_by(|file| file.name.as_str().cmp(&name));
        found.map_or(0, |at| listed[at].bytes)
    };
    let listings: u64 = listed.iter().map(|file| file.bytes).sum();
    // Records and the like: too small to count separately.
    let mut live = budget.used.saturating_sub(packs).saturating_sub(listings);
    let newest = items.iter().map(|item| item.time).max();
    let is_young = |item: &Item| newest.is_some_and(|newest| newest - item.time < DAY);
    let order = |item: &Item, fixed: bool| {
        let last = std::cmp::Reverse(item.seq);
        (!fixed, !is_young(item), item.guard, last)
    };
    let mut kept: Vec<usize> = (0..decisions.len())
        .filter(|at| decisions[*at].keep)
        .collect();
    kept.sort_by_key(|at| order(&items[*at], decisions[*at].is_fixed()));
    let mut needs = Needs::default();
    let mut full = false;
    for at in kept {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let fixed = decisions[at].is_fixed();
        let young = is_young(&items[at]);
        if !full || fixed || young {
            let news = needs.add(repo, items[at].seq, items[at].id);
            if !needs.unknown.is_empty() {
                return Ok(());
            }
            live += weigh(&news.blobs) + news.keyframes.iter().map(size_of).sum::<u64>();
        }
        if live <= budget.max {
            continue;
        }
        if fixed {
            budget.unreachable = true;
            return Ok(());
        }
        full = true;
        if young {
            budget.unreachable = true;
            continue;
        }
        decisions[at].keep = false;
        decisions[at].reasons = vec![Reason::Budget];
    }
    Ok(())
}
