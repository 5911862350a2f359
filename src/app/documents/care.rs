//! `verify`, `prune`, `forget`, `doctor`.

use bdr::base::id::{Id, SnapshotId};
use bdr::care::prune::{PlannedSnapshot, PrunePlan, PruneReport};
use bdr::care::space::Left;
use bdr::care::verify::{Damage, LostFile, VerifyReport};
use bdr::repo::origin::Origin;
use serde::Serialize;

use super::files::snapshot_kind;
use super::millis;
use super::paths::At;
use crate::ui::when;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VerifyDocument {
    level: String,
    snapshots: u64,
    packs: u64,
    blobs: u64,
    bytes: u64,
    damage: Vec<DamageDocument>,
    healed: Vec<String>,
    made_here: MadeHere,
    elapsed_ms: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DamageDocument {
    name: String,
    reason: String,
    lost: Vec<LostDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LostDocument {
    #[serde(flatten)]
    at: At,
    snapshot: String,
    good_in: Option<String>,
}

/// Which of the snapshots this machine made.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MadeHere {
    key: &'static str,
    key_refused: Option<String>,
    snapshots: Vec<String>,
    others: Vec<MadeElsewhere>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MadeElsewhere {
    id: String,
    origin: &'static str,
}

impl VerifyDocument {
    pub(crate) fn new(report: &VerifyReport, level: &str) -> Self {
        let lost = |lost: &LostFile| LostDocument {
            at: At::new(lost.path.as_path()),
            snapshot: lost.snapshot.to_string(),
            good_in: lost.other.map(|id| id.to_string()),
        };
        let damage = |damage: &Damage| DamageDocument {
            name: damage.name.clone(),
            reason: damage.reason.to_string(),
            lost: damage.lost.iter().map(lost).collect(),
        };
        Self {
            level: level.to_owned(),
            snapshots: report.snapshots,
            packs: report.packs,
            blobs: report.blobs,
            bytes: report.bytes,
            damage: report.damage.iter().map(damage).collect(),
            healed: report.healed.clone(),
            made_here: MadeHere::new(report),
            elapsed_ms: millis(report.elapsed),
        }
    }
}

impl MadeHere {
    fn new(report: &VerifyReport) -> Self {
        let made = |here: bool| {
            let all = report.origins.iter();
            all.filter(move |(_, origin)| (*origin == Origin::Here) == here)
        };
        let elsewhere = |(id, origin): &(SnapshotId, Origin)| MadeElsewhere {
            id: id.to_string(),
            origin: origin.word(),
        };
        Self {
            key: match (&report.key_refused, report.has_key) {
                (Some(_), _) => "refused",
                (None, true) => "here",
                (None, false) => "none",
            },
            key_refused: report.key_refused.clone(),
            snapshots: made(true).map(|(id, _)| id.to_string()).collect(),
            others: made(false).map(elsewhere).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PruneDocument {
    applied: bool,
    clock_trusted: bool,
    budget: Option<BudgetDocument>,
    snapshots: Vec<PlannedDocument>,
    result: PruneResult,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BudgetDocument {
    used: u64,
    max: u64,
    unreachable: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PlannedDocument {
    id: String,
    short: String,
    seq: u64,
    time: String,
    kind: &'static str,
    trigger: &'static str,
    label: Option<String>,
    tags: Vec<String>,
    stored_bytes: u64,
    keep: bool,
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PruneResult {
    snapshots: u64,
    spared: u64,
    operations: u64,
    packs: u64,
    keyframes: u64,
    trashed_bytes: u64,
    staged_bytes: u64,
    swept: u64,
    swept_bytes: u64,
    repacked: u64,
    repacked_bytes: u64,
    taken_back: u64,
    blocked: Vec<String>,
}

impl PruneDocument {
    pub(crate) fn new(plan: &PrunePlan, report: &PruneReport, ids: &[Id], applied: bool) -> Self {
        let planned = |planned: &PlannedSnapshot| {
            let decision = &planned.decision;
            PlannedDocument {
                id: decision.id.to_string(),
                short: decision.id.prefix(ids),
                seq: planned.seq,
                time: when::utc(planned.time),
                kind: snapshot_kind(planned.kind),
                trigger: planned.trigger.word(),
                label: planned.label.clone(),
                tags: planned.tags.clone(),
                stored_bytes: planned.stored_bytes,
                keep: decision.keep,
                reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            }
        };
        Self {
            applied,
            clock_trusted: plan.clock.is_none(),
            budget: plan.budget.map(|budget| BudgetDocument {
                used: budget.used,
                max: budget.max,
                unreachable: budget.unreachable,
            }),
            snapshots: plan.snapshots.iter().map(planned).collect(),
            result: PruneResult {
                snapshots: report.snapshots,
                spared: report.spared,
                operations: report.operations,
                packs: report.packs,
                keyframes: report.keyframes,
                trashed_bytes: report.trashed_bytes,
                staged_bytes: report.staged_bytes,
                swept: report.swept,
                swept_bytes: report.swept_bytes,
                repacked: report.repacked,
                repacked_bytes: report.repacked_bytes,
                taken_back: report.taken_back,
                blocked: report.blocked.clone(),
            },
        }
    }
}

/// `prune --lifeboats`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LifeboatsDocument {
    applied: bool,
    bytes: u64,
    lifeboats: Vec<LeftDocument>,
}

/// What is left of a repository.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LeftDocument {
    #[serde(flatten)]
    at: At,
    bytes: u64,
}

impl LifeboatsDocument {
    pub(crate) fn new(left: &[Left], applied: bool) -> Self {
        let one = |left: &Left| LeftDocument {
            at: At::new(&left.repository),
            bytes: left.bytes,
        };
        Self {
            applied,
            bytes: left.iter().map(|left| left.bytes).sum(),
            lifeboats: left.iter().map(one).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorDocument {
    pub(crate) findings: Vec<FindingDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FindingDocument {
    pub(crate) check: &'static str,
    pub(crate) health: &'static str,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

/// What `repair` mended, and what is left.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RepairDocument {
    pub(crate) dry_run: bool,
    pub(crate) mended: Vec<String>,
    pub(crate) stored: Vec<FileAt>,
    pub(crate) set_aside: Vec<String>,
    pub(crate) forgotten: Vec<String>,
    pub(crate) no_backup: Option<String>,
    pub(crate) damage: Vec<FoundDocument>,
    pub(crate) lost: Vec<LostFor>,
}

/// A file, by its path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileAt {
    #[serde(flatten)]
    at: At,
}

/// Something damaged.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FoundDocument {
    name: String,
    reason: String,
}

/// A file that cannot be restored from some snapshots.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LostFor {
    #[serde(flatten)]
    at: At,
    snapshots: u64,
    good_in: Option<String>,
}

impl FileAt {
    pub(crate) fn new(path: &std::path::Path) -> Self {
        Self { at: At::new(path) }
    }
}

impl LostFor {
    pub(crate) fn new(path: &std::path::Path, snapshots: u64, good_in: Option<SnapshotId>) -> Self {
        Self {
            at: At::new(path),
            snapshots,
            good_in: good_in.map(|id| id.to_string()),
        }
    }
}

impl RepairDocument {
    pub(crate) fn new(last: &VerifyReport) -> Self {
        let found = |damage: &Damage| FoundDocument {
            name: damage.name.clone(),
            reason: damage.reason.to_string(),
        };
        Self {
            dry_run: false,
            mended: Vec::new(),
            stored: Vec::new(),
            set_aside: Vec::new(),
            forgotten: Vec::new(),
            no_backup: None,
            damage: last.damage.iter().map(found).collect(),
            lost: Vec::new(),
        }
    }
}
