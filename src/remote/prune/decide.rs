//! Which snapshots stay at a destination: the policy, asked twice.
//!
//! Once by when each was taken, as far as its arrival bears it out, and once by its arrival alone. What
//! either keeps stays. Somebody who adds snapshots takes places only at the end of both orders, however
//! they are dated; so good ones go no faster than time passes. A history that arrives all at once keeps
//! its days, weeks and months.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::base::error::Result;
use crate::base::id::SnapshotId;
use crate::model::retention::{self, ClockTrouble, Decision, Decisions, Item, Policy, Reason};
use crate::remote::book::About;
use crate::repo::snapshot::{SnapshotKind, Trigger};

/// A snapshot that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) id: SnapshotId,
    /// `None` if nothing is known of it here.
    pub(super) about: Option<About>,
    /// Number and time of the push that brought it.
    pub(super) arrived: u64,
    pub(super) at: DateTime<Utc>,
    pub(super) pinned: bool,
    /// The newest operation whose undo needs it.
    pub(super) undo: Option<DateTime<Utc>>,
}

/// Decides about snapshots; returns them in the order in which they came.
pub(super) fn decide(
    found: &mut [Found],
    policy: Option<&Policy>,
    now: DateTime<Utc>,
    zone: &dyn Fn(DateTime<Utc>) -> NaiveDateTime,
) -> Result<Decisions> {
    found.sort_by_key(|one| (one.arrived, one.seq, one.id));
    let all_for = |reason: Reason| {
        let one = |one: &Found| Decision {
            id: one.id,
            keep: true,
            reasons: vec![reason.clone()],
        };
        found.iter().map(one).collect::<Vec<_>>()
    };
    let Some(policy) = policy else {
        return Ok(Decisions {
            all: all_for(Reason::All),
            clock: None,
        });
    };
    // Guards are small, and nobody looks for the bytes of one there.
    let policy = Policy {
        guard_bytes: u64::MAX,
        ..policy.clone()
    };
    let known: Vec<&Found> = found.iter().filter(|one| one.about.is_some()).collect();
    let taken = believed(&known);
    let arrived: Vec<DateTime<Utc>> = known.iter().map(|one| one.at).collect();
    let mut decided: HashMap<SnapshotId, Decision> = HashMap::new();
    let mut clock: Option<ClockTrouble> = None;
    for times in [taken, arrived] {
        let items: Vec<Item> = (0..)
            .zip(known.iter().zip(times))
            .filter_map(item)
            .collect();
        let decisions = retention::decide(&items, &policy, now, zone)?;
        clock = clock.or(decisions.clock);
        for mut decision in decisions.all {
            // No operation is about to name it: it was pushed with its operations.
            decision.reasons.retain(|reason| *reason != Reason::New);
            if decision.reasons.is_empty() {
                decision.keep = false;
                decision.reasons.push(Reason::Expired);
            }
            match decided.get_mut(&decision.id) {
                Some(first) if first.keep && decision.keep => {
                    first.reasons.extend(decision.reasons);
                    first.reasons.sort();
                    first.reasons.dedup();
                }
                Some(first) if first.keep => {}
                _ => drop(decided.insert(decision.id, decision)),
            }
        }
    }
    let mut all = all_for(Reason::Unreadable);
    for decision in &mut all {
        if let Some(found) = decided.remove(&decision.id) {
            *decision = found;
        }
        // Either doubts the clock.
        if clock.is_some() && !decision.keep {
            decision.keep = true;
            decision.reasons = vec![Reason::Clock];
        }
    }
    Ok(Decisions { all, clock })
}

/// Returns when each was taken, as far as the order in which they came bears it out: not before the one
/// that came before it, nor after it came itself. Otherwise when it came.
fn believed(found: &[&Found]) -> Vec<DateTime<Utc>> {
    let mut last = DateTime::<Utc>::MIN_UTC;
    found
        .iter()
        .map(|one| {
            let own = one.about.as_ref().map_or(one.at, |about| about.time);
            let is_borne_out = last <= own && own <= one.at;
            last = if is_borne_out { own } else { one.at.max(last) };
            last
        })
        .collect()
}

fn item((order, (found, time)): (u64, (&&Found, DateTime<Utc>))) -> Option<Item> {
    let about = found.about.as_ref()?;
    Some(Item {
        id: found.id,
        seq: order,
        time,
        full: about.kind == SnapshotKind::Full,
        partial: about.partial,
        guard: !matches!(about.trigger, Trigger::Backup | Trigger::Init),
        roots: about.roots.clone(),
        tags: about.tags.clone(),
        pinned: found.pinned,
        bytes: about.bytes,
        undo: found.undo,
        mirrored: false,
    })
}

#[cfg(test)]
mod tests;
