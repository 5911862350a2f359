//! Keeps the repository within its budget: removes the oldest guard snapshots first, then the
//! oldest backups.
//!
//! Snapshots that the policy always keeps stay. If those alone need more than the budget, nothing
//! is removed for it: it would only cost history.

use crate::base::error::{Error, Result};
use crate::base::monitor::Monitor;
use crate::model::retention::{Decision, Item, Reason};
use crate::repo::Repository;

use super::needs::Needs;
use super::repack::weights;

/// How much of its budget a repository takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that it takes, without the trash.
    pub used: u64,
    /// Bytes that it may take.
    pub max: u64,
    /// What has to stay takes more than it may.
    pub unreachable: bool,
}

impl Budget {
    /// Returns true if a person should know: four fifths are used.
    pub fn is_tight(&self) -> bool {
        self.used / 4 >= self.max / 5
    }

    /// Returns the share that is used, in percent.
    pub fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.max.max(1)
    }
}

/// Returns how much of `max` bytes a repository takes; `None` without a budget.
///
/// # Errors
/// The repository cannot be listed.
pub fn budget(repo: &Repository, max: u64) -> Result<Option<Budget>> {
    if max == 0 {
        return Ok(None);
    }
    let trash: u64 = repo.trash()?.iter().map(|trashed| trashed.bytes).sum();
    Ok(Some(Budget {
        used: repo.stored_bytes()?.saturating_sub(trash),
        max,
        unreachable: false,
    }))
}

/// Lets go what does not fit; says so in the budget if that is of no use.
pub(super) fn fit(
    repo: &Repository,
    budget: &mut Budget,
    items: &[Item],
    decisions: &mut [Decision],
    monitor: &dyn Monitor,
) -> Result<()> {
    if budget.used <= budget.max {
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
    let order = |item: &Item, fixed: bool| (!fixed, item.guard, std::cmp::Reverse(item.seq));
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
        if !full || fixed {
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
        decisions[at].keep = false;
        decisions[at].reasons = vec![Reason::Budget];
    }
    Ok(())
}
