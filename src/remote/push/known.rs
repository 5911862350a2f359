//! What new snapshots need at a destination: noted with each push, and looked at before one where
//! something was removed.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::packs::is_untouched;
use super::{Run, Wanted};
use crate::base::error::Result;
use crate::base::id::Digest;
use crate::remote::book::{About, Need};
use crate::remote::needs::{Finder, Place};
use crate::remote::record::{Push, Stored};
use crate::repo::layout;
use crate::repo::snapshot::Snapshot;

/// Earlier versions put small packs together into several of this size or more, in bytes, of which one
/// spoke for all. (A pack has 32 MiB.)
const MAY_BE_SPLIT: u64 = 16 << 20;
/// Ranks of what is pushed now: above all numbers of pushes.
const NOW: u64 = 1 << 40;

/// Returns the digest of a file that is in the record of a push.
pub(in crate::remote) fn record_of(push: &Push, name: &str) -> Option<Digest> {
    Some(Digest::of(&push.files.get(name)?.0))
}

impl Run<'_> {
    /// Finds out what new snapshots need there, when their files are sent. One whose needs cannot be
    /// found out is left out: it counts as unknown.
    pub(super) fn needs(&self, new: &[&Snapshot], delta: &Push) -> Result<Vec<Need>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let (index, _) = self.repo.refreshed_index()?;
        let mut places = self.places(Some(delta))?;
        for snapshot in new {
            for pack in &snapshot.packs {
                if let Some(place) = places.get_mut(&pack.id).filter(|p| p.rank >= NOW) {
                    place.rank = place.rank.max(NOW + snapshot.seq);
                }
            }
        }
        let mut finder = Finder::new(self.repo, index, places);
        let mut needs = Vec::with_capacity(new.len());
        let origins = self.ledger.origins();
        for snapshot in new {
            if let Ok(names) = finder.names(snapshot) {
                let name = snapshot.file_name();
                let held = self
                    .held
                    .iter()
                    .filter(|_| !delta.objects.contains_key(&name));
                let record = [delta]
                    .into_iter()
                    .chain(held)
                    .find_map(|push| record_of(push, &name));
                let long = match record {
                    Some(_) => None,
                    None => self.digest_here(&name)?,
                };
                // One that was rewritten has been there since it came first.
                let noted = self
                    .ledger
                    .need(snapshot.id)
                    .map(|need| (need.arrived, need.at));
                let came = origins
                    .get(&*name)
                    .map(|(_, number, time)| (*number, *time));
                let (arrived, at) = noted.or(came).unwrap_or((delta.number, delta.time));
                needs.push(Need {
                    about: About::from(*snapshot),
                    arrived,
                    at,
                    record,
                    long,
                    names,
                });
            }
        }
        Ok(needs)
    }

    /// Returns what retention removed there and new snapshots need all the same.
    pub(super) fn needed_again(&self, wanted: &Wanted) -> Result<BTreeSet<String>> {
        let dropped = self.ledger.dropped();
        let mut again = BTreeSet::new();
        if dropped.is_empty() || wanted.snapshots.is_empty() {
            return Ok(again);
        }
        let (index, _) = self.repo.refreshed_index()?;
        let mut places = self.places(None)?;
        for pack in self.repo.list_packs()? {
            let name = layout::pack(pack.id);
            if !dropped.contains(&name) {
                // It is pushed now, if it is not there.
                let names = vec![name];
                places.entry(pack.id).or_insert(Place { names, rank: NOW });
            }
        }
        let mut finder = Finder::new(self.repo, index, places);
        for (_, snapshot) in &wanted.snapshots {
            let Ok((names, packs)) = finder.lacking(snapshot) else {
                // Nobody knows what it needs.
                let is_part = |name: &&String| !name.starts_with("snapshots/");
                return Ok(dropped.iter().filter(is_part).cloned().collect());
            };
            again.extend(names);
            again.extend(packs.into_iter().map(layout::pack));
        }
        Ok(again)
    }

    /// Returns where the packs of the repository are at the destination.
    pub(in crate::remote) fn places(&self, delta: Option<&Push>) -> Result<HashMap<Digest, Place>> {
        let origins = self.ledger.origins();
        let rank = |name: &str| origins.get(name).map_or(NOW, |(_, number, _)| *number);
        let held = self.held.iter().flat_map(|held| &held.objects);
        let packs = self.repo.list_packs()?;
        let here: HashSet<Digest> = packs.iter().map(|pack| pack.id).collect();
        let held = held.filter(|(_, stored)| !self.replaces || is_untouched(stored, &here));
        let mut instead: HashMap<Digest, &String> = HashMap::new();
        // What is pushed now comes last.
        for (name, stored) in held.chain(delta.iter().flat_map(|delta| &delta.objects)) {
            instead.extend(stored.instead_of.iter().map(|pack| (*pack, name)));
        }
        let mut places = HashMap::new();
        for pack in packs {
            let name = layout::pack(pack.id);
            let is_new = delta.is_some_and(|delta| {
                delta.files.contains_key(&name) || delta.objects.contains_key(&name)
            });
            let place = if is_new {
                (vec![name], NOW)
            } else if self.has(&name) {
                let rank = rank(&name);
                (vec![name], rank)
            } else if let Some(name) = instead.get(&pack.id) {
                (self.together(name, &here), rank(name))
            } else {
                continue;
            };
            let (names, rank) = place;
            places.insert(pack.id, Place { names, rank });
        }
        Ok(places)
    }

    /// Returns a pack that stands for others, with those that may have the rest of them.
    fn together(&self, name: &str, here: &HashSet<Digest>) -> Vec<String> {
        let mut names = vec![name.to_owned()];
        let Some(held) = self.held.as_ref() else {
            return names;
        };
        let origins = self.ledger.origins();
        let is_own = |other: &str| {
            let id = other
                .rsplit('/')
                .next()
                .and_then(|n| n.strip_suffix(".tar.gz"));
            id.and_then(|id| id.parse().ok())
                .is_some_and(|id| here.contains(&id))
        };
        let may_be = |(other, stored): &(&String, &Stored)| {
            other.starts_with("packs/")
                && stored.instead_of.is_empty()
                && origins.get(&***other) == origins.get(name)
                && !is_own(other)
        };
        let others: Vec<(&String, &Stored)> = held.objects.iter().filter(may_be).collect();
        let own = held.objects.get(name).map_or(0, |stored| stored.bytes);
        let largest = others.iter().map(|(_, stored)| stored.bytes).max();
        if origins.contains_key(name) && own.max(largest.unwrap_or(0)) >= MAY_BE_SPLIT {
            names.extend(others.into_iter().map(|(other, _)| other.clone()));
        }
        names
    }
}
