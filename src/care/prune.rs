//! Removes snapshots that the policy does not keep, and frees what only they needed.
//!
//! Order: records of snapshots, and of operations that cannot be undone any more → packs and key
//! frames into the trash → whatever was in the trash long enough is deleted. The first two steps
//! lock the repository alone, for a few milliseconds at a time, after checking again for what came
//! in between; anything in the trash that turns out to be needed is moved back. A crash anywhere
//! leaves files that the next prune finds again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::{OperationId, SnapshotId};
use crate::base::monitor::Monitor;
use crate::disk::vault::KeyName;
use crate::model::retention::{ClockTrouble, Decision, Item, Policy, Reason, decide};
use crate::repo::Repository;
use crate::repo::index::{DigestSet, Index};
use crate::repo::oplog::Operation;
use crate::repo::snapshot::{Snapshot, SnapshotKind, Trigger};
use crate::repo::state::State;
use crate::repo::trash::Part;

mod budget;
mod needs;
pub(in crate::care) mod repack;
mod sweep;

pub use budget::{Budget, used_bytes};

use needs::{Needs, spare_packs};

pub struct PruneOptions<'a> {
    pub policy: Policy,
    /// Snapshots to remove whatever the policy says; then nothing else is removed.
    pub forget: Vec<SnapshotId>,
    pub now: DateTime<Utc>,
    /// Local time.
    pub zone: &'a dyn Fn(DateTime<Utc>) -> NaiveDateTime,
    /// How long removed data stays in the trash.
    pub grace: TimeDelta,
    /// Bytes of packs that may be rewritten.
    pub repack_bytes: u64,
    /// How long to wait for other processes.
    pub patience: Duration,
}

impl<'a> PruneOptions<'a> {
    /// Returns the defaults: the default policy, a day in the trash.
    pub fn new(now: DateTime<Utc>, zone: &'a dyn Fn(DateTime<Utc>) -> NaiveDateTime) -> Self {
        Self {
            policy: Policy::default(),
            forget: Vec::new(),
            now,
            zone,
            grace: TimeDelta::days(1),
            repack_bytes: 64 << 20,
            patience: Duration::from_secs(10),
        }
    }
}

/// The decision about a snapshot, with what a person wants to see of it.
#[derive(Debug, Clone)]
pub struct PlannedSnapshot {
    pub decision: Decision,
    pub seq: u64,
    /// When it began.
    pub time: DateTime<Utc>,
    pub kind: SnapshotKind,
    pub trigger: Trigger,
    pub label: Option<String>,
    /// Given by the user, when it was taken or later.
    pub tags: Vec<String>,
    /// Bytes written for it.
    pub stored_bytes: u64,
}

/// What a prune would do: inert data.
#[derive(Debug, Clone)]
pub struct PrunePlan {
    /// All snapshots, oldest first.
    pub snapshots: Vec<PlannedSnapshot>,
    /// Operations whose records are removed: their snapshot is gone, and they are too old to undo.
    pub operations: Vec<OperationId>,
    /// Set if the clock cannot be trusted: then nothing is removed.
    pub clock: Option<ClockTrouble>,
    /// Snapshot records that cannot be read.
    pub damaged: Vec<String>,
    /// The budget and its use before the prune; `None` if there is no budget.
    pub budget: Option<Budget>,
    last_operation: OperationId,
    /// The existing operations, with the snapshots that they need.
    needed: Vec<(OperationId, SnapshotId)>,
}

impl PrunePlan {
    /// Returns the snapshots to be removed, oldest first.
    pub fn going(&self) -> impl Iterator<Item = &PlannedSnapshot> {
        self.snapshots.iter().filter(|s| !s.decision.keep)
    }
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    pub snapshots: u64,
    /// Snapshots that were to be removed but were needed meanwhile.
    pub spared: u64,
    pub operations: u64,
    /// Packs moved to the trash.
    pub packs: u64,
    /// Key frames moved to the trash.
    pub keyframes: u64,
    pub trashed_bytes: u64,
    /// Bytes freed in staging areas.
    pub staged_bytes: u64,
    /// Files deleted from the trash for good.
    pub swept: u64,
    /// Their size, which is free now.
    pub swept_bytes: u64,
    pub repacked: u64,
    /// Bytes written for that.
    pub repacked_bytes: u64,
    /// Files moved back from the trash.
    pub taken_back: u64,
    /// Why no pack was removed.
    pub blocked: Vec<String>,
}

/// Decides what to remove; only reads.
///
/// # Errors
/// The policy would keep nothing, a snapshot to forget does not exist, or the repository cannot be
/// read or pruned.
pub fn plan(
    repo: &Repository,
    options: &PruneOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<PrunePlan> {
    repo.check_prunable()?;
    let operations = repo.operations()?;
    let last_operation = operations
        .last()
        .map_or(OperationId::from_u128(0), |o| o.begin.id);
    let mut found = Found::look(repo, &operations, monitor)?;
    let fulls = found
        .planned
        .values()
        .filter(|one| one.kind == SnapshotKind::Full);
    let full = fulls
        .max_by_key(|one| one.seq)
        .map_or(0, |one| one.stored_bytes);
    let used = match options.policy.max_bytes {
        Some(0) => 0,
        _ => used_bytes(repo)?,
    };
    let budget = Budget::new(repo, used, options.policy.max_bytes, full);
    let mut budget = (budget.max > 0).then_some(budget);
    let mut decided = if options.forget.is_empty() {
        found.deciding(repo, options)?
    } else {
        found.forgetting(&options.forget)?
    };
    if let (Some(budget), true, None) = (&mut budget, options.forget.is_empty(), decided.clock) {
        found.items.sort_by_key(|item| (item.seq, item.id));
        budget::fit(repo, budget, &found.items, &mut decided.all, monitor)?;
    }
    let snapshots: Vec<PlannedSnapshot> = decided
        .all
        .into_iter()
        .filter_map(|decision| {
            let mut planned = found.planned.remove(&decision.id)?;
            planned.decision = decision;
            Some(planned)
        })
        .collect();
    let mut plan = PrunePlan {
        snapshots,
        operations: Vec::new(),
        clock: decided.clock,
        damaged: found.damaged,
        budget,
        last_operation,
        needed: operations
            .iter()
            .filter_map(|o| Some((o.begin.id, o.begin.before?)))
            .collect(),
    };
    if plan.clock.is_none() && options.forget.is_empty() {
        plan.operations = past(&plan, &operations, &options.policy, repo)?;
    }
    Ok(plan)
}

/// The existing snapshots.
struct Found {
    items: Vec<Item>,
    planned: HashMap<SnapshotId, PlannedSnapshot>,
    damaged: Vec<String>,
    /// The sequence number and the key that bound each snapshot.
    keys: HashMap<SnapshotId, (u64, Option<KeyName>)>,
}

impl Found {
    /// Decides by the policy, separately for snapshots of this machine and of others: neither takes
    /// a place of the other.
    fn deciding(
        &self,
        repo: &Repository,
        options: &PruneOptions<'_>,
    ) -> Result<crate::model::retention::Decisions> {
        let origins = repo.origins_by_key(self.keys.values().copied());
        let counts = |item: &Item| {
            let key = self.keys.get(&item.id);
            key.is_none_or(|(seq, key)| origins.counts_by_key(*seq, *key))
        };
        let (own, others): (Vec<Item>, Vec<Item>) = self.items.iter().cloned().partition(counts);
        let decide = |items: &[Item]| decide(items, &options.policy, options.now, options.zone);
        let mut decided = decide(&own)?;
        if !others.is_empty() {
            let of_others = decide(&others)?;
            decided.all.extend(of_others.all);
            // If either doubts the clock, it is doubtful for all.
            if decided.clock != of_others.clock {
                decided.clock = decided.clock.or(of_others.clock);
                for decision in decided.all.iter_mut().filter(|decision| !decision.keep) {
                    decision.keep = true;
                    decision.reasons = vec![Reason::Clock];
                }
            }
            let order: HashMap<SnapshotId, u64> =
                self.items.iter().map(|item| (item.id, item.seq)).collect();
            decided
                .all
                .sort_by_key(|decision| (order.get(&decision.id).copied(), decision.id));
        }
        Ok(decided)
    }

    fn look(repo: &Repository, operations: &[Operation], monitor: &dyn Monitor) -> Result<Self> {
        let pins = repo.pinned()?;
        let mirrored = mirrored(repo);
        let marked: HashSet<SnapshotId> = repo.marked()?.into_iter().collect();
        let mut undo: HashMap<SnapshotId, DateTime<Utc>> = HashMap::new();
        let mut pinned: HashSet<SnapshotId> = HashSet::new();
        for operation in operations {
            let begin = &operation.begin;
            let time = operation.end.as_ref().map_or(begin.time, |end| end.time);
            for id in needed_by(operation) {
                let newest = undo.entry(id).or_insert(time);
                *newest = time.max(*newest);
            }
            if pins.contains(&begin.id) {
                pinned.extend(begin.before);
            }
        }
        let mut found = Self {
            items: Vec::new(),
            planned: HashMap::new(),
            damaged: Vec::new(),
            keys: HashMap::new(),
        };
        for name in repo.snapshot_names()? {
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            let Ok(snapshot) = repo.read_snapshot(&name) else {
                found.damaged.push(name);
                continue;
            };
            let id = snapshot.id;
            let mark = match marked.contains(&id) {
                true => repo.mark(id),
                false => Ok(None),
            };
            // Its mark cannot be read, and may say that it is pinned.
            let unclear = mark.is_err();
            let mark = mark.ok().flatten();
            let is_pinned = unclear || mark.as_ref().is_some_and(|m| m.pinned);
            let tags = mark.map_or_else(|| snapshot.tags.clone(), |m| m.tags);
            found.items.push(Item {
                id,
                seq: snapshot.seq,
                time: snapshot.time,
                full: snapshot.kind == SnapshotKind::Full,
                partial: snapshot.partial,
                guard: !matches!(snapshot.trigger, Trigger::Backup | Trigger::Init),
                roots: snapshot.roots.iter().map(|r| r.name.to_string()).collect(),
                tags: tags.clone(),
                pinned: is_pinned || pinned.contains(&id),
                bytes: snapshot.stats.stored_bytes,
                undo: undo.get(&id).copied(),
                mirrored: mirrored.contains(&id),
            });
            let key = snapshot.bound.map(|bound| bound.key);
            found.keys.insert(id, (snapshot.seq, key));
            found.planned.insert(id, planned(snapshot, tags));
        }
        Ok(found)
    }

    /// Decides to remove the given ones and nothing else.
    fn forgetting(&self, forget: &[SnapshotId]) -> Result<crate::model::retention::Decisions> {
        let missing = forget.iter().find(|id| !self.planned.contains_key(id));
        if let Some(id) = missing {
            return Err(Error::NoSuchSnapshot {
                spec: id.to_string(),
            });
        }
        let mut all = Vec::new();
        for item in &self.items {
            let keep = !forget.contains(&item.id);
            let mut reasons = vec![if item.pinned {
                Reason::Pinned
            } else {
                Reason::NotNamed
            }];
            if !keep {
                if item.pinned {
                    return Err(Error::invalid(
                        format!("snapshot {} is pinned", item.id.to_string().to_lowercase()),
                        Some("bdr unpin SNAPSHOT, or unpin the operation that needs it"),
                    ));
                }
                reasons = vec![Reason::Forgotten];
            }
            all.push(Decision {
                id: item.id,
                keep,
                reasons,
            });
        }
        if !all.iter().any(|decision| decision.keep) {
            return Err(Error::invalid(
                "these are all the snapshots",
                Some("run bdr backup --full, then forget the others"),
            ));
        }
        Ok(crate::model::retention::Decisions { all, clock: None })
    }
}

/// Returns the snapshots that states in the cache mirror: a guard compares with these.
fn mirrored(repo: &Repository) -> HashSet<SnapshotId> {
    let listed = crate::disk::fsutil::read_dir(repo.cache().join("state"));
    let states = listed.into_iter().flatten().flatten();
    states
        .filter_map(|entry| State::mirrored_by(&entry.path(), repo.id()))
        .map(|mirrors| mirrors.snapshot)
        .collect()
}

fn planned(snapshot: Snapshot, tags: Vec<String>) -> PlannedSnapshot {
    PlannedSnapshot {
        decision: Decision {
            id: snapshot.id,
            keep: true,
            reasons: Vec::new(),
        },
        seq: snapshot.seq,
        time: snapshot.time,
        kind: snapshot.kind,
        trigger: snapshot.trigger,
        label: snapshot.label,
        tags,
        stored_bytes: snapshot.stats.stored_bytes,
    }
}

/// Returns the snapshots that an operation needs to be undone or resumed.
fn needed_by(operation: &Operation) -> impl Iterator<Item = SnapshotId> {
    let resumed = operation.begin.restore.as_ref();
    let resumed = resumed.filter(|_| operation.end.is_none());
    let before = operation.begin.before;
    before.into_iter().chain(resumed.map(|r| r.snapshot))
}

/// Returns operations that nobody can undo any more.
fn past(
    plan: &PrunePlan,
    operations: &[Operation],
    policy: &Policy,
    repo: &Repository,
) -> Result<Vec<OperationId>> {
    let pins = repo.pinned()?;
    let staying: HashSet<SnapshotId> = plan
        .snapshots
        .iter()
        .filter(|s| s.decision.keep)
        .map(|s| s.decision.id)
        .collect();
    let newest = plan.snapshots.iter().map(|s| s.time).max();
    let Some(newest) = newest else {
        return Ok(Vec::new());
    };
    // A damaged record may come back from another copy, so keep its snapshot's operations.
    let unclear = !plan.damaged.is_empty();
    Ok(operations
        .iter()
        .filter(|operation| {
            let begin = &operation.begin;
            let old = newest - begin.time >= policy.guard_within;
            let stays = begin
                .before
                .is_some_and(|id| unclear || staying.contains(&id));
            old && !stays && !pins.contains(&begin.id)
        })
        .map(|operation| operation.begin.id)
        .collect())
}

/// Returns what applying the plan now would free. Reads every listing that stays.
///
/// # Errors
/// The repository cannot be read, or the user stopped it.
pub fn estimate(
    repo: &Repository,
    plan: &PrunePlan,
    options: &PruneOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let without: HashSet<SnapshotId> = plan.going().map(|s| s.decision.id).collect();
    let mut report = PruneReport {
        snapshots: without.len() as u64,
        operations: plan.operations.len() as u64,
        ..PruneReport::default()
    };
    let needs = Needs::of(repo, &without, monitor)?;
    report.blocked = needs.unknown.iter().map(ToString::to_string).collect();
    if report.blocked.is_empty() {
        sweep::estimate(repo, &needs, options, &mut report)?;
    }
    Ok(report)
}

/// How many records are removed per lock.
const RECORDS_AT_ONCE: usize = 64;

/// Applies a plan.
///
/// # Errors
/// Another process prunes or does not let go, the storage cannot be written, or the user stopped
/// it. Whatever is done stays done; the next prune continues.
pub fn apply(
    repo: &Repository,
    plan: &PrunePlan,
    options: &PruneOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    repo.check_prunable()?;
    let alone = match repo.prune_alone() {
        // Even an empty file may take space the first time.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            repo.release_reserve()?;
            repo.prune_alone()
        }
        other => other,
    };
    let alone = alone.map_err(|error| match error {
        Error::Busy { .. } => Error::Busy {
            holder: " by another prune".to_owned(),
        },
        other => other,
    })?;
    let mut report = PruneReport::default();
    remove_records(repo, plan, options, &mut report, monitor)?;
    let mut needs = Needs::of(repo, &HashSet::new(), monitor)?;
    report.blocked = needs.unknown.iter().map(ToString::to_string).collect();
    // If a record cannot be read, nobody knows what it needs, so no file is removed.
    if report.blocked.is_empty() {
        sweep::collect(repo, &mut needs, options, &mut report, monitor)?;
    }
    drop(alone);
    Ok(report)
}

fn remove_records(
    repo: &Repository,
    plan: &PrunePlan,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let going: Vec<&PlannedSnapshot> = plan.going().collect();
    let staying = plan.snapshots.iter().filter(|s| s.decision.keep);
    let backups = staying.filter(|s| matches!(s.trigger, Trigger::Backup | Trigger::Init));
    let last_backup = backups.map(|s| s.decision.id).max();
    for chunk in going.chunks(RECORDS_AT_ONCE) {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        repo.alone(options.patience, || {
            // Guards that began since the plan may have reused one of these snapshots.
            let since = repo.operations_after(plan.last_operation)?;
            let needed: HashSet<SnapshotId> = since.iter().flat_map(needed_by).collect();
            let mut gone = Vec::new();
            for snapshot in chunk {
                let id = snapshot.decision.id;
                let forgotten = snapshot.decision.reasons.contains(&Reason::Forgotten);
                if needed.contains(&id) || !forgotten && is_pinned(repo, id) {
                    report.spared += 1;
                    continue;
                }
                gone.push((snapshot.seq, id));
            }
            // Remaining operations, or newer records, name these: note that they are not missing.
            let named = |id: &SnapshotId| {
                let operations = plan.needed.iter();
                let mut needed = operations.map(|(_, needed)| needed);
                Some(*id) > last_backup || needed.any(|needed| needed == id)
            };
            for (_, id) in gone.iter().filter(|(_, id)| named(id)) {
                repo.put_forgotten(*id)?;
            }
            repo.remove_snapshots(&gone)?;
            report.snapshots += gone.len() as u64;
            Ok(())
        })?;
    }
    let mut operations = plan.operations.clone();
    operations.extend(repo.orphan_ends()?);
    for chunk in operations.chunks(RECORDS_AT_ONCE) {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        repo.remove_operations(chunk)?;
        report.operations += chunk.len() as u64;
    }
    let gone: HashSet<OperationId> = operations.into_iter().collect();
    let staying = plan.needed.iter().filter(|(id, _)| !gone.contains(id));
    repo.sweep_forgotten(&staying.map(|(_, needed)| *needed).collect(), last_backup)
}

/// Returns true if the user pinned a snapshot, or may have.
fn is_pinned(repo: &Repository, id: SnapshotId) -> bool {
    repo.mark(id)
        .map_or(true, |mark| mark.is_some_and(|mark| mark.pinned))
}

/// Removes files that were kept for snapshots that are gone.
fn free_areas(
    repo: &Repository,
    needs: &Needs,
    options: &PruneOptions<'_>,
    report: &mut PruneReport,
) -> Result<()> {
    /// A guard records a set before the snapshot that names it, by less than this.
    const UNNAMED_FOR: TimeDelta = TimeDelta::hours(1);
    for set in repo.kept_sets()? {
        let age = options.now - set.time;
        if needs.sets.contains(&set.id) || age < UNNAMED_FOR {
            continue;
        }
        match set.open_area(&repo.areas()) {
            Ok(area) => {
                // Another process is packing it right now.
                let Ok(_alone) = area.lock() else {
                    continue;
                };
                if area.into_tree().remove().is_err() {
                    continue;
                }
                report.staged_bytes = report.staged_bytes.saturating_add(set.bytes());
                crate::protect::staging::leave_place(&set);
            }
            // Gone, or never bdr's: only its record is left.
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound
                        | std::io::ErrorKind::InvalidData
                        | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(_) => continue,
        }
        repo.remove_kept_set(set.id)?;
    }
    Ok(())
}

struct Spare {
    /// With their sizes.
    parts: Vec<(Part, u64)>,
    packs: needs::SparePacks,
    index: Arc<Index>,
}

/// Finds packs and key frames that nothing needs, or that are `worn`.
fn spare_parts(repo: &Repository, needs: &Needs, worn: &DigestSet) -> Result<Spare> {
    let (index, unreadable) = repo.refreshed_index()?;
    let unreadable: DigestSet = unreadable.iter().map(|(pack, _)| pack.id).collect();
    let packs = spare_packs(&index, needs, &unreadable, worn);
    let mut parts: Vec<(Part, u64)> = packs
        .packs
        .iter()
        .map(|pack| (Part::Pack(pack.id), pack.bytes))
        .collect();
    let listed = repo.storage().list("manifests");
    for file in listed.map_err(|e| Error::storage("list", "manifests", e))? {
        let id = file.name.strip_suffix(".json.gz");
        let id = id.and_then(|name| name.parse().ok());
        if let Some(id) = id.filter(|id| !needs.keyframes.contains(id)) {
            parts.push((Part::Keyframe(id), file.bytes));
        }
    }
    Ok(Spare {
        parts,
        packs,
        index,
    })
}
