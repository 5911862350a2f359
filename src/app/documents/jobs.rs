//! `tick`, `drill`, `settle`, `status --history`, `notify`.

use bdr::care::drill::Drilled;
use bdr::care::runs::Run;
use bdr::care::status::{Level, Trouble};
use bdr::model::schedule::Job;
use bdr::protect::staging::SettleReport;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::millis;
use super::paths::{Note, notes};
use crate::ui::when;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TickDocument {
    ran: Vec<RanDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RanDocument {
    job: &'static str,
    succeeded: bool,
}

impl TickDocument {
    pub(crate) fn new(ran: &[(Job, bool)]) -> Self {
        let one = |(job, succeeded): &(Job, bool)| RanDocument {
            job: job.word(),
            succeeded: *succeeded,
        };
        Self {
            ran: ran.iter().map(one).collect(),
        }
    }
}

/// `tick --dry-run`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DueDocument {
    due: Vec<&'static str>,
    next: Option<String>,
}

impl DueDocument {
    pub(crate) fn new(due: &[Job], next: Option<DateTime<Utc>>) -> Self {
        Self {
            due: due.iter().map(|job| job.word()).collect(),
            next: next.map(when::utc),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DrillDocument {
    passed: bool,
    snapshots: Vec<DrilledDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DrilledDocument {
    snapshot: String,
    files: u64,
    bytes: u64,
    databases: u64,
    documents: u64,
    damage: Vec<Note>,
    remarks: Vec<Note>,
    elapsed_ms: u64,
}

impl DrillDocument {
    pub(crate) fn new(drilled: &[Drilled]) -> Self {
        let one = |drilled: &Drilled| DrilledDocument {
            snapshot: drilled.snapshot.to_string(),
            files: drilled.files,
            bytes: drilled.bytes,
            databases: drilled.databases,
            documents: drilled.documents,
            damage: notes(&drilled.damage),
            remarks: notes(&drilled.remarks),
            elapsed_ms: millis(drilled.elapsed),
        };
        Self {
            passed: drilled.iter().all(|drilled| drilled.damage.is_empty()),
            snapshots: drilled.iter().map(one).collect(),
        }
    }
}

/// `settle`, which bdr runs in the background.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SettleDocument {
    sets: u64,
    bytes: u64,
    lost: u64,
    waiting: u64,
    reason: Option<String>,
}

impl SettleDocument {
    pub(crate) fn new(report: &SettleReport) -> Self {
        Self {
            sets: report.sets,
            bytes: report.bytes,
            lost: report.lost,
            waiting: report.waiting,
            reason: report.reason.clone(),
        }
    }
}

/// `status --history`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RunsDocument {
    runs: Vec<RunDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunDocument {
    time: String,
    job: &'static str,
    by: String,
    outcome: &'static str,
    elapsed_ms: u64,
    error: Option<String>,
    snapshot: Option<String>,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    repository_bytes: u64,
    problems: u64,
    torn: u64,
}

impl RunsDocument {
    pub(crate) fn new(runs: &[Run]) -> Self {
        let one = |run: &Run| RunDocument {
            time: when::utc(run.time),
            job: run.job.word(),
            by: run.by.clone(),
            outcome: run.outcome.word(),
            elapsed_ms: run.elapsed_ms,
            error: run.error.clone(),
            snapshot: run.snapshot.map(|id| id.to_string()),
            files: run.files,
            bytes: run.bytes,
            stored_bytes: run.stored_bytes,
            repository_bytes: run.repository_bytes,
            problems: run.problems,
            torn: run.torn,
        };
        Self {
            runs: runs.iter().map(one).collect(),
        }
    }
}

/// What a webhook and a command get. It says itself which document it is, because nothing is around it there.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AlertDocument {
    schema: &'static str,
    time: String,
    host: String,
    level: &'static str,
    pub(crate) test: bool,
    pub(crate) title: String,
    pub(crate) message: String,
    troubles: Vec<AlertTrouble>,
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AlertTrouble {
    code: &'static str,
    level: &'static str,
    message: String,
    fix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

impl AlertTrouble {
    pub(crate) fn new(trouble: &Trouble, message: &str) -> Self {
        Self {
            code: trouble.word(),
            level: trouble.level().word(),
            message: message.to_owned(),
            fix: trouble.fix().into_owned(),
            files: None,
        }
    }

    /// Says that backups now leave out the content of more files, because of what is in them.
    pub(crate) fn newly_excluded(files: u64, message: &str) -> Self {
        Self {
            code: "newly-excluded",
            level: Level::Warning.word(),
            message: message.to_owned(),
            fix: "bdr status".to_owned(),
            files: Some(files),
        }
    }
}

impl AlertDocument {
    pub(crate) fn new(
        (time, host): (DateTime<Utc>, &str),
        level: Level,
        (title, message): (String, String),
        troubles: Vec<AlertTrouble>,
    ) -> Self {
        Self {
            schema: "bdr.alert/1",
            time: when::utc(time),
            host: host.to_owned(),
            level: level.word(),
            test: false,
            title,
            message,
            troubles,
        }
    }
}

/// `notify`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NotifyDocument {
    sent: Vec<SentDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SentDocument {
    pub(crate) channel: &'static str,
    pub(crate) error: Option<String>,
}

impl NotifyDocument {
    pub(crate) fn new(sent: Vec<SentDocument>) -> Self {
        Self { sent }
    }
}

/// `notify --dry-run`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MessageDocument<'a> {
    pub(crate) message: Option<&'a AlertDocument>,
}
