//! Writes the record of a push: the push exists from then on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Run;
use super::upload::pack_id;
use crate::base::error::Result;
use crate::base::id::{Digest, Id};
use crate::remote::destination::{object_name, push_name};
use crate::remote::record::{Push, Stored, since};
use crate::repo::layout;
use crate::repo::snapshot::{Snapshot, SnapshotKind};

impl Run<'_> {
    /// Returns the next push, with nothing in it.
    pub(in crate::remote) fn empty(&self) -> Push {
        let newest = self
            .ledger
            .newest()
            .map(|newest| (newest.number, newest.id));
        let newest = newest.or_else(|| self.ledger.floor());
        let number = newest.map_or(1, |(number, _)| number + 1);
        let number = number.max(self.after);
        let previous = newest.map(|(_, id)| id);
        let now = self.options.now;
        let id = Id::after(previous, now);
        Push {
            previous,
            ..Push::new(self.machine.id, self.repo.id(), number, id, now)
        }
    }

    /// Writes the record of what is new or gone since the last push, and returns its size. `dropping`
    /// has the names of this repository that are not to be pushed again.
    pub(in crate::remote) fn commit(
        &mut self,
        delta: Push,
        dropping: &BTreeSet<String>,
    ) -> Result<u64> {
        let push = self.joined(delta);
        let gone = self.gone_keys(&push);
        let key = self.machine.signing_key()?;
        let record = push.encode(self.options.encryption, gone, key)?;
        self.ledger.begin(&push, dropping)?;
        let name = push_name(push.number, push.id);
        self.destination
            .put_new(&name, &record)
            .map_err(|e| self.destination.failed("write to", &e))?;
        self.ledger.finish(push)?;
        Ok(record.len() as u64)
    }

    /// Returns a push with everything since the one from which a reader goes on.
    fn joined(&self, delta: Push) -> Push {
        let number = delta.number;
        let mut ends: Vec<(u64, Option<Id>)> = self
            .ledger
            .chain()
            .iter()
            .map(|push| (push.number, Some(push.id)))
            .collect();
        match self.ledger.chain().last() {
            Some(oldest) => ends.push((oldest.since, oldest.base)),
            None => ends.push(
                self.ledger
                    .floor()
                    .map_or((0, None), |(n, id)| (n, Some(id))),
            ),
        }
        // A reader follows only what is signed by the same: after another key (or none), a record says
        // everything anew.
        let signed = self.ledger.newest().map(|newest| newest.signer);
        let is_by_another = signed.is_some_and(|signer| signer != self.machine.signer());
        let wanted = match is_by_another || self.options.encryption.is_new() {
            true => 0,
            false => since(number),
        };
        let from = ends.iter().filter(|(n, _)| *n >= wanted).min().copied();
        let from = from.filter(|_| !self.anew);
        let (since, base) = from.unwrap_or((0, None));
        let chain = self.ledger.chain();
        let count = chain.iter().take_while(|push| push.number > since).count();
        let later = chain[..count].iter().rev();
        let mut all = Push::new(
            delta.machine,
            delta.repository,
            number,
            delta.id,
            delta.time,
        );
        for older in later {
            all.follow(older);
        }
        all.follow(&delta);
        if since == 0 {
            all.gone.clear();
        }
        Push {
            since,
            base,
            previous: delta.previous,
            host: self.options.host.clone(),
            name_key: self.machine.name_key().to_owned(),
            signer: self.machine.signer(),
            recipients: self.options.encryption.names().to_vec(),
            before: self.options.encryption.before().to_vec(),
            ..all
        }
    }

    /// Returns the keys that the older records of a reader name and that are not needed any more.
    fn gone_keys(&self, push: &Push) -> Vec<Digest> {
        let older = self.ledger.chain().iter();
        let older: Vec<&Push> = older.filter(|older| older.number <= push.since).collect();
        let mut left: BTreeMap<&str, &Stored> = BTreeMap::new();
        for one in older.iter().copied().rev().chain([push]) {
            for name in one.gone.iter().chain(one.files.keys()) {
                left.remove(&**name);
            }
            left.extend(one.objects.iter().map(|(name, stored)| (&**name, stored)));
        }
        let keys = |stored: &Stored| stored.parts.iter().map(|part| part.key).collect::<Vec<_>>();
        let left: HashSet<Digest> = left.into_values().flat_map(keys).collect();
        let named = older.iter().flat_map(|older| older.objects.values());
        let mut gone: Vec<Digest> = named.flat_map(keys).filter(|k| !left.contains(k)).collect();
        gone.sort_unstable();
        gone.dedup();
        gone
    }

    /// Returns names that were lost there, and for which others stand now; and those others.
    pub(super) fn replaced(&self, delta: &Push) -> (BTreeSet<String>, BTreeSet<String>) {
        let is_new =
            |name: &str| delta.files.contains_key(name) || delta.objects.contains_key(name);
        let mut standing: HashMap<Digest, &str> = HashMap::new();
        for (name, stored) in &delta.objects {
            standing.extend(stored.instead_of.iter().map(|pack| (*pack, &**name)));
        }
        let (mut gone, mut stands) = (BTreeSet::new(), BTreeSet::new());
        for (name, packs) in self.lost.iter().filter(|(name, _)| !is_new(name)) {
            let own = pack_id(name).filter(|_| packs.is_empty());
            let packs: Vec<Digest> = packs.iter().copied().chain(own).collect();
            // Some are joined to others again, some come by themselves.
            let back = packs.iter().map(|pack| {
                let own = layout::pack(*pack);
                let other = standing.get(pack).map(|name| (*name).to_owned());
                other.or_else(|| (is_new(&own) || self.has(&own)).then_some(own))
            });
            if let Some(back) = back.collect::<Option<Vec<String>>>()
                && !back.is_empty()
            {
                gone.insert(name.clone());
                stands.extend(back);
            }
        }
        (gone, stands)
    }

    /// Writes the list with which a full backup is restored by a loop in a shell.
    pub(super) fn name_full(&self, snapshot: &Snapshot, delta: &Push) -> Result<()> {
        match self.full_list(snapshot, delta) {
            Some((name, text)) => self.destination.put_once(&name, text.as_bytes()),
            None => Ok(()),
        }
    }

    /// Returns name and text of that list; `None` if the snapshot is not full, or if its packs are so
    /// small that they are in the record: recover.py reads them there.
    pub(super) fn full_list(&self, snapshot: &Snapshot, delta: &Push) -> Option<(String, String)> {
        if snapshot.kind != SnapshotKind::Full {
            return None;
        }
        let mut text = String::new();
        for pack in &snapshot.packs {
            let name = layout::pack(pack.id);
            let held = self.held.as_ref().and_then(|held| held.objects.get(&name));
            let stored = delta.objects.get(&name).or(held)?;
            let keys: Vec<String> = stored
                .parts
                .iter()
                .map(|part| object_name(part.key))
                .collect();
            text.push_str(&keys.join(" "));
            text.push('\n');
        }
        let name = format!("fulls/{:010}-{}.txt", snapshot.seq, snapshot.id);
        Some((name, text))
    }
}
