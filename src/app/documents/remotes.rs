//! Documents about destinations.

use bdr::base::id::Id;
use bdr::care::verify::VerifyReport;
use bdr::disk::store::Traffic;
use bdr::remote::check::CheckReport;
use bdr::remote::clone::CloneReport;
use bdr::remote::push::PushReport;
use serde::Serialize;

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
    pub(crate) error: Option<String>,
}

/// `machines`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MachinesDocument {
    pub(crate) machines: Vec<MachineDocument>,
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
