//! What was pushed is replaced where something in it was found to be secret (`docs/format.md` §9).

use std::collections::{BTreeSet, HashSet};

use super::{Run, Wanted, snapshot_of};
use crate::base::error::Result;
use crate::base::id::{Digest, Id};
use crate::remote::ledger::Purged;
use crate::repo::snapshot::Snapshot;

impl Run<'_> {
    /// Returns true if a file that can be written again was.
    pub(super) fn is_changed(&self, name: &str) -> Result<bool> {
        // Snapshots and commands are replaced when something in them is found to be secret (format §9);
        // marks when a tag is added. The others stay as they are.
        let is_command = name.starts_with("operations/") && name.ends_with(".begin.json");
        if !name.starts_with("marks/") && !is_command && snapshot_of(name).is_none() {
            return Ok(false);
        }
        let Some(held) = self.held_file(name) else {
            let Some(pushed) = self.long(name) else {
                return Ok(false);
            };
            return Ok(self.digest_here(name)?.is_some_and(|now| now != pushed));
        };
        Ok(self.read(name)?.is_some_and(|now| now != held))
    }

    /// Returns the digest of a snapshot's record that is an object of its own there, if it is known.
    fn long(&self, name: &str) -> Option<Digest> {
        self.ledger.need(snapshot_of(name)?.1)?.long
    }

    /// Adds the snapshots of which nobody knows what was pushed: something else was replaced.
    pub(super) fn want_long(&self, wanted: &mut Wanted) -> Result<()> {
        for (name, _) in self.list("snapshots")? {
            let is_unknown = self.held_file(&name).is_none() && self.long(&name).is_none();
            let is_new = wanted.snapshots.iter().any(|(other, _)| *other == name);
            if self.has(&name)
                && is_unknown
                && !is_new
                && let Ok(snapshot) = self.repo.read_snapshot(&name)
            {
                wanted.snapshots.push((name, snapshot));
            }
        }
        Ok(())
    }

    /// Returns the digest of a file of this repository, if it is there.
    pub(super) fn digest_here(&self, name: &str) -> Result<Option<Digest>> {
        Ok(self.read(name)?.map(|bytes| Digest::of(&bytes)))
    }

    /// Notes that this push replaces what is there: it says everything anew, and what older records have is
    /// to go. `here`: the snapshots of this repository.
    pub(super) fn replace(&mut self, number: u64, here: &BTreeSet<String>) -> Result<()> {
        self.replaces = true;
        self.anew = true;
        let held = self.held.iter();
        let held = held.flat_map(|held| held.files.keys().chain(held.objects.keys()));
        let unseen = held.filter(|name| snapshot_of(name).is_some() && !here.contains(*name));
        self.ledger.set_purged(&Purged {
            number,
            at: self.options.now,
            unseen: unseen.count() as u64,
        })
    }

    /// Returns the snapshots that are here and there, but for those that are pushed now.
    pub(super) fn others_here(
        &self,
        new: &[&Snapshot],
        here: &BTreeSet<String>,
    ) -> Result<Vec<Snapshot>> {
        let new: HashSet<Id> = new.iter().map(|snapshot| snapshot.id).collect();
        let is_other = |name: &&String| {
            snapshot_of(name).is_some_and(|(_, id)| !new.contains(&id)) && self.has(name)
        };
        let names = here.iter().filter(is_other);
        Ok(names
            .filter_map(|name| self.repo.read_snapshot(name).ok())
            .collect())
    }
}
