//! Removes from a destination what its own retention does not keep.
//!
//! The order: which snapshots stay → a push that names what is gone → a list of objects in `trash/` →
//! a day later they are removed. A reader that began before the push can finish. Everything happens
//! under the lock of the ledger, so no push of this machine comes between; and a push of another machine
//! under the same id is noticed before anything is removed.
//!
//! **What stays.** Each snapshot that stays needs what was noted when it was pushed
//! ([`super::book`]); or what its listing says, while this repository or (with a key) the destination has
//! it. If neither is so, its needs are unknown: then all that was there when it came stays. If a record
//! that a reader needs is damaged, or something that has to stay is missing there, nothing is removed.
//!
//! **What comes back.** Keys are made from content, so content that was removed and is pushed again
//! would have its old key, whose object waits in the trash or is gone already. Therefore:
//!
//! 1. What a push takes for granted is what records name, and a push that removes takes its names away
//!    first. So a later push that needs the content sends it.
//! 2. It sends it under another key, as long as the trash has the old one: a removal that is under way
//!    cannot hit it. Content in the clear has only one key. It is written (or found to be there) and then
//!    named; what is named is not removed, whatever list it is in.
//! 3. Each removal is decided anew, from a listing less what the newest records name and less what an
//!    interrupted push has written. The lists in `trash/` only say since when something waits. They are
//!    never followed: this machine's own note of them decides, and without it all waits once more.
//! 4. What a destination's retention took away, and this repository still has, is not pushed again
//!    because it is missing; only because a new snapshot needs it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::book::About;
use super::crypt::Identities;
use super::destination::object_name;
use super::ledger::Refusal;
use super::push::{Link, PushOptions, Run, snapshot_of};
use super::record::{Push, Stored, parse_file_name};
use crate::base::error::{Error, Result};
use crate::base::id::{Id, OperationId, SnapshotId};
use crate::base::monitor::Monitor;
use crate::disk::store::Traffic;
use crate::model::retention::{ClockTrouble, Decision, Policy};
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::marks::Mark;
use crate::repo::oplog::Begin;
use crate::repo::record;
use crate::repo::snapshot::Snapshot;

mod decide;
mod last;
mod stays;
mod sweep;

pub use last::{Last, Pruner};

use decide::Found;

/// How to prune.
pub struct PruneOptions<'a> {
    pub push: PushOptions<'a>,
    /// `None`: every snapshot stays, and only what nothing names is removed.
    pub policy: Option<Policy>,
    /// Local time.
    pub zone: &'a dyn Fn(DateTime<Utc>) -> NaiveDateTime,
    /// How long what is not needed any more waits.
    pub wait: TimeDelta,
    /// Pushes that were the last for other recipients: whoever has an older key reads these.
    pub eras: Vec<u64>,
    /// Try again what these credentials were not allowed to do a short while ago.
    pub insist: bool,
    /// For what is read from the destination.
    pub cache: &'a Path,
}

/// A snapshot that is there, with the decision about it.
#[derive(Debug, Clone)]
pub struct PlannedSnapshot {
    pub seq: u64,
    pub decision: Decision,
    /// `None` if nothing is known of it here.
    pub about: Option<About>,
    /// When it came.
    pub at: DateTime<Utc>,
}

/// What a prune would do.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order in which they came.
    pub snapshots: Vec<PlannedSnapshot>,
    pub clock: Option<ClockTrouble>,
    /// Snapshots that stay, and whose needs are not known.
    pub unknown: u64,
    /// Why nothing may be removed.
    pub blocked: Vec<String>,
    /// Names that go.
    pub gone: BTreeSet<String>,
    pub operations: u64,
    pub packs: u64,
    /// Bytes of objects that only those need.
    pub bytes: u64,
}

impl Plan {
    /// Returns the snapshots that go, oldest first.
    pub fn going(&self) -> impl Iterator<Item = &PlannedSnapshot> {
        self.snapshots.iter().filter(|one| !one.decision.keep)
    }
}

/// What a prune did.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// The push that says what is gone.
    pub number: Option<u64>,
    pub snapshots: u64,
    pub operations: u64,
    pub packs: u64,
    /// What was put into the trash: objects and bytes.
    pub trashed: (u64, u64),
    /// What was removed for good.
    pub removed: (u64, u64),
    /// What waits there.
    pub waiting: (u64, u64),
    /// When the next of it may be removed.
    pub next: Option<DateTime<Utc>>,
    /// What the store keeps until its retention ends.
    pub retained: (u64, u64),
    /// What these credentials cannot delete.
    pub forbidden: (u64, u64),
    /// These credentials cannot delete: nothing was removed.
    pub is_forbidden: bool,
    /// Snapshots that are left, the newest, and bytes of objects.
    pub held: u64,
    pub newest: Option<(u64, SnapshotId)>,
    pub held_bytes: u64,
    pub traffic: Traffic,
}

/// A prune that was planned.
pub struct Pruning<'a> {
    run: Run<'a>,
    options: &'a PruneOptions<'a>,
    monitor: &'a dyn Monitor,
    plan: Plan,
    /// What is there: names below the machine's prefix, with sizes.
    listed: BTreeMap<String, u64>,
    /// Names that go and that this repository has.
    dropping: BTreeSet<String>,
}

/// An operation that is there.
struct Operation {
    /// Its snapshot, and when it began; `None` if nobody knows.
    begin: Option<(Option<SnapshotId>, DateTime<Utc>)>,
    pinned: bool,
    /// Its record is needed, whatever it names.
    stays: bool,
}

/// Finds out what is to be removed; removes nothing.
///
/// # Errors
/// The destination or the repository cannot be read, another machine pushes under the same id, the
/// policy would keep nothing, or the user stopped it.
pub fn look<'a>(
    link: Link<'a>,
    options: &'a PruneOptions<'a>,
    mut identities: Identities,
    monitor: &'a dyn Monitor,
) -> Result<Pruning<'a>> {
    let destination = link.destination;
    let mut run = Run::new(link, &options.push, monitor);
    run.catch_up()?;
    let listed = destination.list("")?.into_iter();
    let mut pruning = Pruning {
        run,
        options,
        monitor,
        plan: Plan::default(),
        listed: listed.map(|object| (object.key, object.bytes)).collect(),
        dropping: BTreeSet::new(),
    };
    pruning.check_records(&mut identities)?;
    let Some(held) = pruning.run.held.clone() else {
        return Ok(pruning);
    };
    if pruning.run.ledger.is_whole() {
        pruning.decide(&held, identities)?;
        pruning.check_objects(&held);
    }
    Ok(pruning)
}

impl Pruning<'_> {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes sure that all records are known that a reader needs, and that they are there as they were
    /// written.
    fn check_records(&mut self, identities: &mut Identities) -> Result<()> {
        let pushes = self
            .listed
            .keys()
            .filter_map(|name| name.strip_prefix("pushes/"));
        let mut pushes: Vec<(u64, _)> = pushes.filter_map(parse_file_name).collect();
        pushes.sort_unstable();
        if pushes.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.plan.blocked.push(
                "two machines push under one id: bdr remote reset, on one of them".to_owned(),
            );
        }
        // Whoever wrote it may need what this machine does not.
        let others = self.run.others(&pushes)?;
        if let Some(name) = others.first() {
            let more = match others.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            self.plan.blocked.push(format!(
                "pushes/{name}{more} is not signed by this machine: if no other machine pushes as this one, delete it at the destination"
            ));
        }
        let destination = self.run.destination;
        let ledger = &mut *self.run.ledger;
        if !ledger.is_whole() {
            if pushes.is_empty() && ledger.newest().is_none() {
                return Ok(());
            }
            if identities.is_empty() {
                self.plan.blocked.push(
                    "what is there is not known on this machine any more: give the secret key once, --identity FILE"
                        .to_owned(),
                );
                return Ok(());
            }
            if let Some(chain) = destination.chain(identities)? {
                let problems = chain.problems.iter().map(ToString::to_string);
                self.plan.blocked.extend(problems);
                if chain.problems.is_empty() {
                    ledger.replace(chain.pushes)?;
                    self.run.held = self.run.ledger.held();
                }
            }
            return Ok(());
        }
        for push in ledger.chain() {
            let name = push.file_name();
            match destination.head((push.number, push.id)) {
                Ok((head, _)) => {
                    let parts = push.objects.values().flat_map(|stored| &stored.parts);
                    let mut known: Vec<_> = parts.map(|p| (p.key, p.digest, p.bytes)).collect();
                    let mut found = head.objects;
                    known.sort_unstable();
                    found.sort_unstable();
                    if known != found || (head.since, head.base) != (push.since, push.base) {
                        let why = format!("pushes/{name} is not what this machine wrote");
                        self.plan.blocked.push(why);
                    }
                }
                // Or a listing is behind: then it is there again when it is asked for later.
                Err(error @ Error::Damaged { .. }) => {
                    let place = destination.place();
                    let blocked = format!("{error}: bdr push {place} --check");
                    self.plan.blocked.push(blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decides about snapshots, and finds out which names go.
    fn decide(&mut self, held: &Push, identities: Identities) -> Result<()> {
        let operations = operations(held, &self.run.repo.pinned()?);
        let mut found = self.found(held, &operations)?;
        let (now, zone) = (self.options.push.now, self.options.zone);
        let decided = decide::decide(&mut found, self.options.policy.as_ref(), now, zone)?;
        self.plan.clock = decided.clock;
        let mut decisions: HashMap<SnapshotId, Decision> =
            decided.all.into_iter().map(|one| (one.id, one)).collect();
        let stays = self.stays(held, &found, &mut decisions, identities)?;
        let going: HashSet<SnapshotId> = decisions
            .values()
            .filter(|decision| !decision.keep)
            .map(|decision| decision.id)
            .collect();
        let newest = found.iter().map(|one| one.at).max();
        let past: HashSet<OperationId> = operations
            .iter()
            .filter(|(_, operation)| self.is_past(operation, &going, &found, newest))
            .map(|(id, _)| *id)
            .collect();
        self.plan.operations = past.len() as u64;
        let marks: HashSet<String> = going.iter().map(|id| layout::mark(*id)).collect();
        let goes = |name: &str| match name.split_once('/').map(|(dir, _)| dir) {
            Some("snapshots") => snapshot_of(name).is_some_and(|(_, id)| going.contains(&id)),
            Some("marks") => marks.contains(name),
            Some("operations") => layout::operation_of(name).is_some_and(|id| past.contains(&id)),
            Some("packs" | "manifests" | "kept" | "tails") => !stays.has(name),
            _ => false,
        };
        let names = held.files.keys().chain(held.objects.keys());
        self.plan.gone = names
            .filter(|name| goes(name) && !stays.is_protected(name))
            .cloned()
            .collect();
        let packs = self
            .plan
            .gone
            .iter()
            .filter(|name| name.starts_with("packs/"));
        self.plan.packs = packs.count() as u64;
        let (mut left, mut gone) = (HashMap::new(), HashMap::new());
        for (name, stored) in &held.objects {
            let goes = self.plan.gone.contains(name);
            let keys = if goes { &mut gone } else { &mut left };
            keys.extend(stored.parts.iter().map(|part| (part.key, part.bytes)));
        }
        gone.retain(|key, _| !left.contains_key(key));
        self.plan.bytes = gone.values().sum();
        self.dropping = self.dropping(held)?;
        self.plan.snapshots = found
            .into_iter()
            .filter_map(|one| {
                Some(PlannedSnapshot {
                    seq: one.seq,
                    decision: decisions.remove(&one.id)?,
                    about: one.about,
                    at: one.at,
                })
            })
            .collect();
        Ok(())
    }

    /// Returns the snapshots that are there.
    fn found(
        &self,
        held: &Push,
        operations: &BTreeMap<OperationId, Operation>,
    ) -> Result<Vec<Found>> {
        let repo = self.run.repo;
        let origins = self.run.ledger.origins();
        let mut pinned: HashSet<SnapshotId> = HashSet::new();
        let mut undo: HashMap<SnapshotId, DateTime<Utc>> = HashMap::new();
        for (before, time, is_pinned) in operations.values().filter_map(|operation| {
            let (before, time) = operation.begin?;
            Some((before?, time, operation.pinned))
        }) {
            let newest = undo.entry(before).or_insert(time);
            *newest = time.max(*newest);
            if is_pinned {
                pinned.insert(before);
            }
        }
        let mut found = Vec::new();
        for name in held.files.keys().chain(held.objects.keys()) {
            let Some((seq, id)) = snapshot_of(name) else {
                continue;
            };
            let Some((since, number, time)) = origins.get(&**name).copied() else {
                continue;
            };
            let noted = self.run.ledger.need(id);
            let about = noted.map(|need| need.about.clone());
            let about = about.or_else(|| about_of(repo, held, name));
            // The record's number is that of the last push that it repeats.
            let came = noted.map(|need| (need.arrived, need.at));
            let came = came.filter(|(arrived, _)| since < *arrived && *arrived <= number);
            let (arrived, at) = came.unwrap_or((number, time));
            // A mark that cannot be read may say that it is pinned.
            let marks = [held_mark(held, id), repo.mark(id)];
            let is_pinned = marks.iter().any(|mark| {
                mark.as_ref()
                    .map_or(true, |m| m.as_ref().is_some_and(|m| m.pinned))
            });
            let tags = marks.into_iter().filter_map(|mark| mark.ok()?).next_back();
            let about = about.map(|about| match tags {
                Some(mark) => About {
                    tags: mark.tags,
                    ..about
                },
                None => about,
            });
            found.push(Found {
                seq,
                id,
                about,
                arrived,
                at,
                pinned: is_pinned || pinned.contains(&id),
                undo: undo.get(&id).copied(),
            });
        }
        Ok(found)
    }

    /// Returns true if nobody can undo an operation any more.
    fn is_past(
        &self,
        operation: &Operation,
        going: &HashSet<SnapshotId>,
        found: &[Found],
        newest: Option<DateTime<Utc>>,
    ) -> bool {
        let Some(((before, time), policy)) = operation.begin.zip(self.options.policy.as_ref())
        else {
            return false;
        };
        if operation.stays {
            return false;
        }
        if before.is_some_and(|before| going.contains(&before)) {
            return true;
        }
        let window = policy.guard_within.max(policy.within.unwrap_or_default());
        let is_old = newest.is_some_and(|newest| newest - time >= window);
        let is_there = before.is_some_and(|before| found.iter().any(|one| one.id == before));
        is_old && !is_there && !operation.pinned && self.plan.clock.is_none()
    }

    /// Returns names that go and that this repository has.
    fn dropping(&self, held: &Push) -> Result<BTreeSet<String>> {
        let here = self.run.names_here()?;
        let stood = |name: &String| held.objects.get(name).map(|s| s.instead_of.clone());
        let stood = self.plan.gone.iter().filter_map(stood).flatten();
        let names = self
            .plan
            .gone
            .iter()
            .cloned()
            .chain(stood.map(layout::pack));
        Ok(names.filter(|name| here.contains(name)).collect())
    }

    /// Makes sure that everything is there that stays.
    fn check_objects(&mut self, held: &Push) {
        let is_there = |stored: &Stored| {
            let mut parts = stored.parts.iter();
            parts.all(|part| self.listed.get(&object_name(part.key)) == Some(&part.bytes))
        };
        let staying = held
            .objects
            .iter()
            .filter(|(name, _)| !self.plan.gone.contains(*name));
        let lost = staying.filter(|(_, stored)| !is_there(stored)).count();
        if lost > 0 {
            let place = self.run.destination.place();
            self.plan.blocked.push(format!(
                "{lost} of the files that stay are not there as they were written: bdr push {place} --check"
            ));
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The destination or the ledger cannot be written, or the user stopped it. What was done stays
    /// done; the next prune goes on.
    pub fn apply(mut self) -> Result<PruneReport> {
        let mut report = PruneReport::default();
        if self.plan.blocked.is_empty() {
            let before = self.unneeded();
            let is_new = |name: &String| !self.run.ledger.trash().has(name);
            let has_work = !self.plan.gone.is_empty() || before.keys().any(is_new);
            if has_work && !self.may_remove()? {
                report.is_forbidden = true;
            } else {
                self.take_away(&mut report)?;
                self.sweep(&mut report)?;
                if self.run.ledger.trash().lists.is_empty() && self.plan.unknown == 0 {
                    self.run.ledger.forget_purged();
                }
            }
        }
        self.sum(&mut report);
        Ok(report)
    }

    /// Writes the push that says what is gone.
    fn take_away(&mut self, report: &mut PruneReport) -> Result<()> {
        if self.plan.gone.is_empty() {
            return Ok(());
        }
        let mut delta = self.run.empty();
        delta.gone.clone_from(&self.plan.gone);
        // Newer records may name a snapshot that goes: readers would miss it.
        let backups = self.plan.snapshots.iter().filter(|one| one.decision.keep);
        let last = backups.map(|one| (one.seq, one.decision.id)).max();
        for one in self
            .plan
            .going()
            .filter(|one| Some((one.seq, one.decision.id)) > last)
        {
            let (name, bytes) = self.run.repo.forgotten_note(one.decision.id)?;
            delta.files.insert(name, super::record::Bytes(bytes));
        }
        report.number = Some(delta.number);
        self.run.commit(delta, &self.dropping)?;
        self.run.held = self.run.ledger.held();
        report.snapshots = self.plan.going().count() as u64;
        (report.operations, report.packs) = (self.plan.operations, self.plan.packs);
        let here = self.run.names_here()?;
        let held = self.run.held.as_ref();
        let is_there = |name: &str| {
            held.is_some_and(|h| h.files.contains_key(name) || h.objects.contains_key(name))
        };
        self.run.ledger.tidy(is_there, |name| here.contains(name))
    }

    /// Finds out whether these credentials can delete, unless that is known.
    fn may_remove(&mut self) -> Result<bool> {
        const LATELY: TimeDelta = TimeDelta::days(7);
        let now = self.options.push.now;
        let mut trash = self.run.ledger.trash().clone();
        if trash.can_remove {
            return Ok(true);
        }
        let lately = trash
            .forbidden
            .is_some_and(|at| now - at < LATELY && at <= now);
        if lately && !self.options.insist {
            return Ok(false);
        }
        let destination = self.run.destination;
        let refused = super::level::refusal(destination.store(), destination.place())?;
        trash.can_remove = refused != Some(Refusal::Forbidden);
        trash.forbidden = (!trash.can_remove).then_some(now);
        let can_remove = trash.can_remove;
        self.run.ledger.set_trash(trash)?;
        Ok(can_remove)
    }

    fn sum(&self, report: &mut PruneReport) {
        let trash = self.run.ledger.trash();
        report.waiting = trash.waiting();
        report.next = trash.next(self.options.wait);
        report.retained = trash.refused(Refusal::Retained);
        report.forbidden = trash.refused(Refusal::Forbidden);
        report.traffic = self.run.destination.traffic();
        if let Some(held) = self.run.ledger.held() {
            for name in held.files.keys().chain(held.objects.keys()) {
                if let Some(snapshot) = snapshot_of(name) {
                    report.held += 1;
                    report.newest = report.newest.max(Some(snapshot));
                }
            }
            let parts = held.objects.values().flat_map(|stored| &stored.parts);
            report.held_bytes = parts.map(|part| part.bytes).sum();
        }
    }
}

/// Returns what the destination's record of a snapshot says, as far as it is known here.
fn about_of(repo: &Repository, held: &Push, name: &str) -> Option<About> {
    let snapshot: Option<Snapshot> = match held.files.get(name) {
        Some(bytes) => record::decode(name, &bytes.0).ok(),
        None => repo.read_snapshot(name).ok(),
    };
    snapshot.as_ref().map(About::from)
}

/// Returns the mark of a snapshot that is there.
fn held_mark(held: &Push, id: SnapshotId) -> Result<Option<Mark>> {
    let name = layout::mark(id);
    match held.files.get(&name) {
        Some(bytes) => record::decode(&name, &bytes.0).map(Some),
        None if held.objects.contains_key(&name) => Err(Error::damaged(name, "it is too long")),
        None => Ok(None),
    }
}

/// Returns the operations that are there. The last sync with each machine is as if pinned: it says what
/// both came from.
fn operations(held: &Push, pinned: &HashSet<OperationId>) -> BTreeMap<OperationId, Operation> {
    let mut operations: BTreeMap<OperationId, Operation> = BTreeMap::new();
    // In the order of their ids.
    let mut synced: BTreeMap<(Id, String), OperationId> = BTreeMap::new();
    let names = held.files.keys().chain(held.objects.keys());
    for (id, name) in names.filter_map(|name| Some((layout::operation_of(name)?, name))) {
        let operation = operations.entry(id).or_insert(Operation {
            begin: None,
            pinned: pinned.contains(&id),
            stays: false,
        });
        operation.pinned |= *name == layout::operation(id, "pin");
        if *name == layout::begin(id)
            && let Some(bytes) = held.files.get(name)
            && let Ok(begin) = record::decode::<Begin>(name, &bytes.0)
        {
            operation.begin = Some((begin.before, begin.time));
            if let Some(sync) = begin.sync {
                synced.insert((sync.machine, sync.source.to_string()), id);
            }
        }
    }
    for id in synced.into_values() {
        if let Some(operation) = operations.get_mut(&id) {
            operation.stays = true;
        }
    }
    operations
}
