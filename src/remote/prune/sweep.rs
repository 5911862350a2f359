//! The trash of a destination: lists of what waits, and what is removed when it has waited.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::{PruneReport, Pruning};
use crate::base::error::{Error, Result};
use crate::base::id::Id;
use crate::disk::store::Trouble;
use crate::remote::destination::object_name;
use crate::remote::ledger::{Discarded, Refusal};
use crate::remote::push::snapshot_of;
use crate::remote::record::{file_name, parse_file_name, since};

/// What a list in `trash/` says.
#[derive(Serialize, Deserialize)]
struct Listed {
    format: String,
    version: u32,
    machine: Id,
    /// Names below the machine's prefix.
    names: Vec<String>,
}

/// So many pushes before the newest stay with what they build on: if the newest record is damaged, a
/// reader takes the one before.
const SPARE: u64 = 8;
/// After so many refusals of what is retained, the rest is not asked about this time.
const PATIENCE: u64 = 200;

impl Pruning<'_> {
    /// Returns what is there and not needed, with sizes.
    pub(super) fn unneeded(&self) -> BTreeMap<String, u64> {
        let ledger = &*self.run.ledger;
        let Some(held) = self.run.held.as_ref().filter(|_| ledger.is_whole()) else {
            return BTreeMap::new();
        };
        let parts = held.objects.values().flat_map(|stored| &stored.parts);
        // What an interrupted push has written will be named by the next.
        let keys = parts.map(|part| part.key).chain(ledger.written_keys());
        let objects: HashSet<String> = keys.map(object_name).collect();
        let names = held.files.keys().chain(held.objects.keys());
        let snapshots: HashSet<(u64, Id)> = names.filter_map(|name| snapshot_of(name)).collect();
        let pushes = self.pushes_to_keep();
        let lists: HashSet<&str> = ledger
            .trash()
            .lists
            .iter()
            .map(|list| &*list.name)
            .collect();
        let is_unneeded = |name: &str| {
            let Some((dir, rest)) = name.split_once('/') else {
                return false;
            };
            match dir {
                "objects" => rest.len() == 67 && !objects.contains(name),
                "pushes" => parse_file_name(rest).is_some_and(|push| !pushes.contains(&push)),
                "fulls" => {
                    let name = rest.strip_suffix(".txt").unwrap_or_default();
                    let full = snapshot_of(&format!("snapshots/{name}.json"));
                    full.is_some_and(|full| !snapshots.contains(&full))
                }
                "trash" => rest
                    .strip_suffix(".json")
                    .is_some_and(|list| !lists.contains(list)),
                _ => false,
            }
        };
        let listed = self.listed.iter().filter(|(name, _)| is_unneeded(name));
        listed.map(|(name, bytes)| (name.clone(), *bytes)).collect()
    }

    /// Returns the records that a reader may need: those of the newest push, and of some before it.
    fn pushes_to_keep(&self) -> HashSet<(u64, Id)> {
        let chain = self.run.ledger.chain();
        let mut keep: HashSet<(u64, Id)> = chain.iter().map(|p| (p.number, p.id)).collect();
        let newest = chain.first().map_or(0, |push| push.number);
        let mut numbers = BTreeSet::new();
        let spare = newest.saturating_sub(SPARE)..=newest;
        for number in spare.chain(self.options.eras.iter().copied()) {
            let mut next = number;
            while next > 0 {
                numbers.insert(next);
                next = since(next);
            }
        }
        let listed = self
            .listed
            .keys()
            .filter_map(|name| name.strip_prefix("pushes/"));
        let pushes = listed.filter_map(parse_file_name);
        keep.extend(pushes.filter(|(number, _)| numbers.contains(number) || *number > newest));
        // What was found to be secret stands in older ones.
        let purged = self.run.ledger.purged().map_or(0, |purged| purged.number);
        // Unless the push that replaces it came to nothing.
        if chain.iter().all(|push| push.number >= purged) {
            keep.retain(|(number, _)| *number >= purged);
        }
        keep
    }

    /// Puts what is not needed any more into the trash, and removes what has waited.
    pub(super) fn sweep(&mut self, report: &mut PruneReport) -> Result<()> {
        let unneeded = self.unneeded();
        let mut trash = self.run.ledger.trash().clone();
        for list in &mut trash.lists {
            // Gone, or needed again.
            list.objects.retain(|name, _| unneeded.contains_key(name));
            // The clock was ahead then: the wait begins now.
            list.at = list.at.min(self.options.push.now);
        }
        let fresh: BTreeMap<String, (u64, Option<Refusal>)> = unneeded
            .into_iter()
            .filter(|(name, _)| !trash.has(name))
            .map(|(name, bytes)| (name, (bytes, None)))
            .collect();
        if !fresh.is_empty() {
            let newest = self.run.ledger.newest();
            let now = self.options.push.now;
            let id = Id::after(newest.map(|push| push.id), now);
            let name = file_name(newest.map_or(0, |push| push.number), id);
            let listed = Listed {
                format: "bdr-trash".to_owned(),
                version: 1,
                machine: self.run.destination.machine(),
                names: fresh.keys().cloned().collect(),
            };
            let json = serde_json::to_vec(&listed).map_err(|e| Error::Unrecordable {
                reason: e.to_string(),
            })?;
            let key = format!("trash/{name}.json");
            let put = self.run.destination.put_new(&key, &json);
            put.map_err(|e| self.run.destination.failed("write to", &e))?;
            report.trashed = (
                fresh.len() as u64,
                fresh.values().map(|(bytes, _)| bytes).sum(),
            );
            trash.lists.push(Discarded {
                name,
                at: now,
                objects: fresh,
                is_begun: false,
            });
        }
        self.run.ledger.set_trash(trash)?;
        self.remove_due(report)
    }

    /// Removes what has waited for long enough.
    fn remove_due(&mut self, report: &mut PruneReport) -> Result<()> {
        let due = self.options.push.now - self.options.wait;
        let mut trash = self.run.ledger.trash().clone();
        // From here on, nobody knows which of these are still there.
        let mut has_due = false;
        for list in trash.lists.iter_mut().filter(|list| list.at <= due) {
            list.is_begun = true;
            has_due |= !list.objects.is_empty();
        }
        if has_due {
            self.run.ledger.set_trash(trash.clone())?;
        }
        let mut refused = 0;
        let mut outcome = Ok(());
        'all: for list in trash.lists.iter_mut().filter(|list| list.at <= due) {
            let names: Vec<String> = list.objects.keys().cloned().collect();
            for name in names {
                if self.monitor.stopped() {
                    outcome = Err(Error::Interrupted);
                    break 'all;
                }
                let refusal = match self.run.destination.remove(&name) {
                    Ok(()) => None,
                    Err(error) => match error.trouble {
                        Trouble::NotFound => None,
                        Trouble::Retained => Some(Refusal::Retained),
                        Trouble::Forbidden => Some(Refusal::Forbidden),
                        _ => {
                            outcome = Err(self.run.destination.failed("delete from", &error));
                            break 'all;
                        }
                    },
                };
                match refusal {
                    None => {
                        let bytes = list.objects.remove(&name).map_or(0, |(bytes, _)| bytes);
                        report.removed.0 += 1;
                        report.removed.1 += bytes;
                    }
                    Some(why) => {
                        if let Some((_, fate)) = list.objects.get_mut(&name) {
                            *fate = Some(why);
                        }
                        refused += 1;
                        if why == Refusal::Forbidden || refused >= PATIENCE {
                            note_rest(list, why);
                            break;
                        }
                    }
                }
            }
        }
        let empty: Vec<String> = trash
            .lists
            .iter()
            .filter(|list| list.objects.is_empty())
            .map(|list| list.name.clone())
            .collect();
        if outcome.is_ok() {
            for name in &empty {
                // If it stays, the next prune finds it.
                let _ = self.run.destination.remove(&format!("trash/{name}.json"));
            }
        }
        trash.lists.retain(|list| !list.objects.is_empty());
        self.run.ledger.set_trash(trash)?;
        outcome
    }
}

/// Notes of what was not asked about that the answer would be the same.
fn note_rest(list: &mut Discarded, why: Refusal) {
    for (_, fate) in list.objects.values_mut() {
        fate.get_or_insert(why);
    }
}
