//! Documents about destinations.

use bdr::base::id::Id;
use bdr::care::verify::VerifyReport;
use bdr::disk::store::Traffic;
use bdr::remote::check::CheckReport;
use bdr::remote::clone::CloneReport;
use bdr::remote::prune::{Plan, PlannedSnapshot, PruneReport};
use bdr::remote::push::PushReport;
use serde::Serialize;

use super::files::snapshot_kind;
use crate::app::signers::Known;
use crate::ui::when;

/// What a push to one destination came to.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PushedDocument {
    name: String,
    ok: bool,
    error: Option<String>,
    hint: Option<String>,
    push: Option<u64>,
    snapshots: u64,
    operations: u64,
    objects: u64,
    bytes: u64,
    joined_packs: u64,
    waiting: u64,
    unreadable: u64,
    mended: u64,
    /// Files that are missing or damaged there, and that this machine has no more.
    lost: u64,
    /// Records there that this machine has not signed.
    strangers: Vec<String>,
    replaces: bool,
    held_snapshots: u64,
    held_bytes: u64,
    requests: u64,
    sent: u64,
    received: u64,
}

impl PushedDocument {
    pub(crate) fn new(name: &str, done: Result<&PushReport, (String, Option<String>)>) -> Self {
        let (report, failed) = match done {
            Ok(report) => (Some(report), None),
            Err(failed) => (None, Some(failed)),
        };
        let count = |of: fn(&PushReport) -> u64| report.map_or(0, of);
        let traffic = report.map(|r| r.traffic).unwrap_or_default();
        let Traffic {
            requests,
            sent,
            received,
        } = traffic;
        let (error, hint) = failed.map_or((None, None), |(error, hint)| (Some(error), hint));
        Self {
            name: name.to_owned(),
            ok: error.is_none(),
            error,
            hint,
            push: report.and_then(|r| r.number),
            snapshots: count(|r| r.snapshots),
            operations: count(|r| r.operations),
            objects: count(|r| r.objects),
            bytes: count(|r| r.bytes),
            joined_packs: count(|r| r.joined),
            waiting: count(|r| r.waiting),
            unreadable: count(|r| r.unreadable),
            mended: count(|r| r.mended),
            lost: count(|r| r.lost),
            strangers: report.map(|r| r.strangers.clone()).unwrap_or_default(),
            replaces: report.is_some_and(|r| r.replaces),
            held_snapshots: count(|r| r.held),
            held_bytes: count(|r| r.held_bytes),
            requests,
            sent,
            received,
        }
    }
}

impl PushedDocument {
    /// Returns true if something of it had to stay.
    pub(crate) fn is_partial(&self) -> bool {
        self.waiting > 0 || self.unreadable > 0
    }
}

/// `push`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PushDocument {
    pub(crate) remotes: Vec<PushedDocument>,
}

/// A file that could not be fetched.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LackingDocument {
    name: String,
    reason: String,
}

/// `clone`, `pull`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CloneDocument {
    machine: String,
    host: String,
    repository: String,
    dry_run: bool,
    snapshots: u64,
    files: u64,
    bytes: u64,
    problems: Vec<LackingDocument>,
    requests: u64,
    received: u64,
}

impl CloneDocument {
    pub(crate) fn new(
        (machine, host, repository): (Id, &str, Id),
        report: &CloneReport,
        traffic: Traffic,
        dry_run: bool,
    ) -> Self {
        let problems = report
            .problems
            .iter()
            .map(|(name, reason)| LackingDocument {
                name: name.clone(),
                reason: reason.clone(),
            });
        Self {
            machine: machine.to_string(),
            host: host.to_owned(),
            repository: repository.to_string(),
            dry_run,
            snapshots: report.snapshots,
            files: report.files,
            bytes: report.bytes,
            problems: problems.collect(),
            requests: traffic.requests,
            received: traffic.received,
        }
    }
}

/// A machine that pushes to a destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MachineDocument {
    pub(crate) remote: String,
    pub(crate) machine: String,
    pub(crate) is_this: bool,
    /// Null if no identity opens it.
    pub(crate) host: Option<String>,
    pub(crate) pushes: u64,
    pub(crate) pushed: Option<String>,
    pub(crate) snapshots: Option<u64>,
    /// Who signed the newest push; null if it is not signed, or no identity opens it.
    pub(crate) signer: Option<String>,
    /// The same, short, for people to compare.
    pub(crate) fingerprint: Option<String>,
    /// True if this machine knew who signs, and that fits.
    pub(crate) signer_known: bool,
    /// Records that do not count, with the reason.
    pub(crate) unreadable: Vec<String>,
    pub(crate) error: Option<String>,
}

/// `machines`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MachinesDocument {
    pub(crate) machines: Vec<MachineDocument>,
}

/// `machines --forget`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MachinesForgottenDocument {
    forgotten: Vec<ForgottenDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ForgottenDocument {
    machine: String,
    host: String,
    signer: String,
    since: String,
}

impl MachinesForgottenDocument {
    pub(crate) fn new(gone: &[Known]) -> Self {
        let one = |known: &Known| ForgottenDocument {
            machine: known.machine.to_string(),
            host: known.host.clone(),
            signer: known.signer.to_string(),
            since: when::utc(known.since),
        };
        Self {
            forgotten: gone.iter().map(one).collect(),
        }
    }
}

/// Something at a destination that is not as it was written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FaultDocument {
    name: String,
    reason: String,
}

/// `verify --remote`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteVerifyDocument {
    remote: String,
    machine: String,
    pushes: u64,
    objects: u64,
    bytes: u64,
    faults: Vec<FaultDocument>,
    lacking_pushes: u64,
    twins: Vec<u64>,
    /// Who signed the newest record; null if nobody did.
    signer: Option<String>,
    /// True if this machine knew who signs, and that fits.
    signer_known: bool,
    unnamed: u64,
    unnamed_bytes: u64,
    /// Null if it was not opened.
    opened: Option<OpenedDocument>,
}

/// What was found with a key.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OpenedDocument {
    snapshots: u64,
    bytes: u64,
    damage: Vec<FaultDocument>,
}

impl RemoteVerifyDocument {
    pub(crate) fn new(
        remote: &str,
        machine: Id,
        report: &CheckReport,
        lacking: u64,
        opened: Option<&VerifyReport>,
    ) -> Self {
        let fault = |name: &str, reason: String| FaultDocument {
            name: name.to_owned(),
            reason,
        };
        let records = report.records.iter();
        let records =
            records.map(|(name, reason)| fault(&format!("pushes/{name}"), reason.clone()));
        let objects = report.faults.iter();
        let objects = objects.map(|(name, what)| fault(name, what.word().to_owned()));
        Self {
            remote: remote.to_owned(),
            machine: machine.to_string(),
            pushes: report.pushes,
            objects: report.objects,
            bytes: report.bytes,
            faults: records.chain(objects).collect(),
            lacking_pushes: lacking,
            twins: report.twins.clone(),
            signer: report.signer.map(|signer| signer.to_string()),
            signer_known: report.is_signer_known,
            unnamed: report.unnamed,
            unnamed_bytes: report.unnamed_bytes,
            opened: opened.map(|report| OpenedDocument {
                snapshots: report.snapshots,
                bytes: report.bytes,
                damage: report
                    .damage
                    .iter()
                    .map(|damage| fault(&damage.name, damage.reason.to_string()))
                    .collect(),
            }),
        }
    }
}

/// A snapshot at a destination, and whether it stays.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RemotePlannedDocument {
    id: String,
    short: String,
    seq: u64,
    /// When it came there.
    arrived: String,
    /// These are null if nothing is known of it here.
    time: Option<String>,
    kind: Option<&'static str>,
    trigger: Option<&'static str>,
    label: Option<String>,
    tags: Vec<String>,
    keep: bool,
    reasons: Vec<String>,
}

/// `prune --remote`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemotePruneDocument {
    remote: String,
    applied: bool,
    clock_trusted: bool,
    /// Snapshots that stay with all that was there before, because nobody here knows what they need.
    unknown: u64,
    /// Why nothing may be removed.
    blocked: Vec<String>,
    snapshots: Vec<RemotePlannedDocument>,
    result: RemotePruneResult,
}

#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RemotePruneResult {
    push: Option<u64>,
    snapshots: u64,
    operations: u64,
    packs: u64,
    bytes: u64,
    trashed: u64,
    trashed_bytes: u64,
    removed: u64,
    removed_bytes: u64,
    waiting: u64,
    waiting_bytes: u64,
    next: Option<String>,
    retained: u64,
    retained_bytes: u64,
    forbidden: u64,
    forbidden_bytes: u64,
    can_delete: Option<bool>,
    requests: u64,
    sent: u64,
    received: u64,
}

impl RemotePruneDocument {
    pub(crate) fn new(name: &str, plan: &Plan, report: Option<&PruneReport>) -> Self {
        let ids: Vec<Id> = plan.snapshots.iter().map(|one| one.decision.id).collect();
        let planned = |one: &PlannedSnapshot| {
            let about = one.about.as_ref();
            RemotePlannedDocument {
                id: one.decision.id.to_string(),
                short: one.decision.id.prefix(&ids),
                seq: one.seq,
                arrived: when::utc(one.at),
                time: about.map(|about| when::utc(about.time)),
                kind: about.map(|about| snapshot_kind(about.kind)),
                trigger: about.map(|about| about.trigger.word()),
                label: about.and_then(|about| about.label.clone()),
                tags: about.map_or_else(Vec::new, |about| about.tags.clone()),
                keep: one.decision.keep,
                reasons: one
                    .decision
                    .reasons
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            }
        };
        Self {
            remote: name.to_owned(),
            applied: report.is_some(),
            clock_trusted: plan.clock.is_none(),
            unknown: plan.unknown,
            blocked: plan.blocked.clone(),
            snapshots: plan.snapshots.iter().map(planned).collect(),
            result: match report {
                Some(report) => RemotePruneResult::of(plan, report),
                None => RemotePruneResult {
                    snapshots: plan.going().count() as u64,
                    operations: plan.operations,
                    packs: plan.packs,
                    bytes: plan.bytes,
                    ..RemotePruneResult::default()
                },
            },
        }
    }
}

impl RemotePruneResult {
    fn of(plan: &Plan, report: &PruneReport) -> Self {
        Self {
            push: report.number,
            snapshots: report.snapshots,
            operations: report.operations,
            packs: report.packs,
            bytes: report.number.map_or(0, |_| plan.bytes),
            trashed: report.trashed.0,
            trashed_bytes: report.trashed.1,
            removed: report.removed.0,
            removed_bytes: report.removed.1,
            waiting: report.waiting.0,
            waiting_bytes: report.waiting.1,
            next: report.next.map(when::utc),
            retained: report.retained.0,
            retained_bytes: report.retained.1,
            forbidden: report.forbidden.0,
            forbidden_bytes: report.forbidden.1,
            can_delete: Some(!report.is_forbidden),
            requests: report.traffic.requests,
            sent: report.traffic.sent,
            received: report.traffic.received,
        }
    }
}
