//! Which files have to stay for the snapshots that stay.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Pruning;
use super::decide::Found;
use crate::base::error::{Error, Result};
use crate::base::id::SnapshotId;
use crate::disk::storage::Storage;
use crate::model::retention::{Decision, Reason};
use crate::remote::book::{About, Need};
use crate::remote::crypt::Identities;
use crate::remote::destination::Holdings;
use crate::remote::needs::{Finder, Place};
use crate::remote::push::known::record_of;
use crate::remote::reading::RemoteStorage;
use crate::remote::record::Push;
use crate::repo::Repository;
use crate::repo::layout;

/// What each snapshot needs; `None` if nobody knows.
type Known = BTreeMap<SnapshotId, Option<BTreeSet<String>>>;

/// What has to stay.
pub(super) struct Stays {
    names: BTreeSet<String>,
    /// What was there when a snapshot came whose needs are unknown.
    protected: BTreeSet<String>,
}

impl Stays {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn is_protected(&self, name: &str) -> bool {
        self.protected.contains(name)
    }
}

impl Pruning<'_> {
    /// Finds out what the snapshots that stay need. Where that is unknown, what was there before stays,
    /// and so do the snapshots among it.
    pub(super) fn stays(
        &mut self,
        held: &Push,
        found: &[Found],
        decisions: &mut HashMap<SnapshotId, Decision>,
        identities: Identities,
    ) -> Result<Stays> {
        let mut stays = Stays {
            names: BTreeSet::new(),
            protected: BTreeSet::new(),
        };
        let is_held =
            |name: &String| held.files.contains_key(name) || held.objects.contains_key(name);
        let (opened, mut identities) = (OnceCell::new(), Some(identities));
        let (mut here, mut there): (Option<Finder<'_>>, Option<Finder<'_>>) = (None, None);
        let mut known: Known = BTreeMap::new();
        loop {
            let keeps = |one: &&Found| decisions.get(&one.id).is_none_or(|one| one.keep);
            let open = found.iter().filter(keeps);
            let open: Vec<&Found> = open.filter(|one| !known.contains_key(&one.id)).collect();
            if open.is_empty() {
                break;
            }
            let mut learned = Vec::new();
            for one in self.noted(held, &open, &is_held, &mut known) {
                if self.monitor.stopped() {
                    return Err(Error::Interrupted);
                }
                if here.is_none() {
                    let (index, _) = self.run.repo.refreshed_index()?;
                    here = Some(Finder::new(self.run.repo, index, self.run.places(None)?));
                }
                let need = here
                    .as_mut()
                    .and_then(|here| self.here(held, here, one, &is_held));
                let need = match need {
                    Some(need) => Some(need),
                    None => {
                        if let Some(identities) = identities.take() {
                            let _ = opened.set(self.open_there(held, identities)?);
                        }
                        if let (None, Some(Some(repo))) = (&there, opened.get()) {
                            there = self.finder_there(repo)?;
                        }
                        let finder = opened.get().and_then(Option::as_ref).zip(there.as_mut());
                        finder.and_then(|(repo, finder)| self.there(held, repo, finder, one))
                    }
                };
                known.insert(one.id, need.as_ref().map(|need| need.names.clone()));
                learned.extend(need);
            }
            self.run.ledger.note_needs(learned)?;
            self.protect(held, found, &known, decisions, &mut stays);
        }
        self.plan.unknown = known.values().filter(|need| need.is_none()).count() as u64;
        stays.names.extend(known.into_values().flatten().flatten());
        let packs = held
            .objects
            .iter()
            .filter(|(name, _)| stays.names.contains(*name) || stays.protected.contains(*name));
        let tails = packs.filter_map(|(_, stored)| Some(stored.tail_in.as_ref()?.0.clone()));
        let tails: Vec<String> = tails.collect();
        stays.names.extend(tails);
        Ok(stays)
    }

    /// Takes what was noted; returns the others.
    fn noted<'f>(
        &self,
        held: &Push,
        open: &[&'f Found],
        is_held: &dyn Fn(&String) -> bool,
        known: &mut Known,
    ) -> Vec<&'f Found> {
        let mut others = Vec::new();
        for one in open {
            let need = self.run.ledger.need(one.id);
            let need = need.filter(|need| {
                let record = record_of(held, &layout::snapshot(one.seq, one.id));
                // Another record of the same name needs something else.
                record == need.record && need.names.iter().all(is_held)
            });
            match need {
                Some(need) => drop(known.insert(one.id, Some(need.names.clone()))),
                None => others.push(*one),
            }
        }
        others
    }

    /// Finds out what a snapshot needs while this repository has it.
    fn here(
        &self,
        held: &Push,
        finder: &mut Finder<'_>,
        one: &Found,
        is_held: &dyn Fn(&String) -> bool,
    ) -> Option<Need> {
        let repo = self.run.repo;
        let name = layout::snapshot(one.seq, one.id);
        let pushed = record_of(held, &name)?;
        let snapshot = repo.read_snapshot(&name).ok()?;
        // Another record of the same name needs something else.
        if repo.record_digest(&name).ok() != Some(pushed) {
            return None;
        }
        let names = finder.names(&snapshot).ok()?;
        names.iter().all(is_held).then(|| Need {
            about: About::from(&snapshot),
            arrived: one.arrived,
            at: one.at,
            record: Some(pushed),
            long: None,
            names,
        })
    }

    /// Opens what is there, if a key fits or none is needed.
    fn open_there(
        &mut self,
        held: &Push,
        mut identities: Identities,
    ) -> Result<Option<Repository>> {
        let encryption = self.options.push.encryption.word();
        if encryption != "none" && identities.is_empty() {
            return Ok(None);
        }
        let holdings = Holdings {
            all: held.clone(),
            problems: Vec::new(),
            twins: Vec::new(),
            encryption: encryption.to_owned(),
            count: 0,
        };
        let destination = self.run.destination.clone();
        if !holdings.lacking(&identities).is_empty() {
            destination.follow(&mut identities)?;
        }
        // What an older key is needed for is unknown, and not damaged.
        if !holdings.lacking(&identities).is_empty() {
            return Ok(None);
        }
        let storage = Arc::new(RemoteStorage::new(destination, identities, holdings));
        Repository::open(storage as Arc<dyn Storage>, self.options.cache).map(Some)
    }

    /// Returns what finds needs in what is there; `None` if a pack there cannot be read.
    fn finder_there<'r>(&mut self, there: &'r Repository) -> Result<Option<Finder<'r>>> {
        let (index, unreadable) = there.refreshed_index()?;
        if let Some((pack, error)) = unreadable.first() {
            let name = layout::pack(pack.id);
            self.plan
                .blocked
                .push(format!("{name} cannot be read there: {error}"));
            return Ok(None);
        }
        let origins = self.run.ledger.origins();
        let places = there.list_packs()?.into_iter().map(|pack| {
            let name = layout::pack(pack.id);
            let rank = origins.get(&*name).map_or(0, |(_, number, _)| *number);
            let names = vec![name];
            (pack.id, Place { names, rank })
        });
        Ok(Some(Finder::new(there, index, places.collect())))
    }

    /// Finds out what a snapshot needs from what is there.
    fn there(
        &mut self,
        held: &Push,
        there: &Repository,
        finder: &mut Finder<'_>,
        one: &Found,
    ) -> Option<Need> {
        let name = layout::snapshot(one.seq, one.id);
        let found = there.read_snapshot(&name);
        let found = found.and_then(|snapshot| Ok((finder.names(&snapshot)?, snapshot)));
        match found {
            Ok((names, snapshot)) => Some(Need {
                about: About::from(&snapshot),
                arrived: one.arrived,
                at: one.at,
                record: record_of(held, &name),
                long: None,
                names,
            }),
            Err(error) => {
                // It is damaged there: what it needs may be anything.
                self.plan
                    .blocked
                    .push(format!("{name} cannot be read there: {error}"));
                None
            }
        }
    }

    /// Protects what was there when a snapshot came whose needs are unknown.
    fn protect(
        &self,
        held: &Push,
        found: &[Found],
        known: &Known,
        decisions: &mut HashMap<SnapshotId, Decision>,
        stays: &mut Stays,
    ) {
        let origins = self.run.ledger.origins();
        let came = |one: &Found| {
            let name = layout::snapshot(one.seq, one.id);
            origins
                .get(&*name)
                .map_or(u64::MAX, |(_, number, _)| *number)
        };
        let unknown = found
            .iter()
            .filter(|one| matches!(known.get(&one.id), Some(None)));
        let Some(last) = unknown.map(came).max() else {
            return;
        };
        let stands = self.run.ledger.stands();
        for name in held.files.keys().chain(held.objects.keys()) {
            let since = origins.get(&**name).map_or(0, |(since, _, _)| *since);
            // What stands for something that was lost was there, under another name.
            if since < last || stands.contains(name) {
                stays.protected.insert(name.clone());
            }
        }
        for one in found {
            let name = layout::snapshot(one.seq, one.id);
            if let Some(decision) = decisions.get_mut(&one.id)
                && !decision.keep
                && stays.protected.contains(&name)
            {
                decision.keep = true;
                decision.reasons = vec![Reason::Unknown];
            }
        }
    }
}
