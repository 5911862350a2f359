//! `sync`.

use bdr::base::id::Id;
use bdr::recover::sync::{SyncAction, SyncPlan, SyncReport, SyncStep};
use serde::Serialize;

use super::millis;
use super::paths::{At, Note, notes};
use crate::ui::json::kind as kind_word;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SyncDocument {
    pub(crate) machine: String,
    pub(crate) host: String,
    pub(crate) dry_run: bool,
    pub(crate) sources: Vec<SyncedDocument>,
}

/// A source, as it is with the other machine's.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SyncedDocument {
    source: String,
    /// The other machine's snapshot.
    snapshot: Option<String>,
    time: Option<String>,
    first: bool,
    steps: Vec<SyncStepDocument>,
    same: u64,
    ours: u64,
    problems: Vec<Note>,
    unknown: Vec<Note>,
    undecided: Vec<UndecidedDocument>,
    left_to_git: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<SyncResult>,
    /// Why nothing could be planned.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SyncStepDocument {
    #[serde(flatten)]
    at: At,
    #[cfg_attr(test, schemars(with = "String"))]
    action: SyncAction,
    kind: &'static str,
    bytes: u64,
    beside: Option<String>,
    both: Vec<String>,
}

/// A conflict of an earlier sync that nobody has decided.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct UndecidedDocument {
    #[serde(flatten)]
    at: At,
    beside: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SyncResult {
    operation: Option<String>,
    written: u64,
    removed: u64,
    problems: Vec<Note>,
    elapsed_ms: u64,
}

fn shown(path: &std::path::Path) -> String {
    bdr::base::path::show(path.as_os_str())
}

impl SyncStepDocument {
    fn new(step: &SyncStep) -> Self {
        Self {
            at: At::new(&step.path),
            action: step.action,
            kind: kind_word(step.kind),
            bytes: step.bytes,
            beside: step.beside.as_deref().map(shown),
            both: step.both.clone(),
        }
    }
}

impl SyncDocument {
    pub(crate) fn new(machine: Id, host: &str, dry_run: bool) -> Self {
        Self {
            machine: machine.to_string(),
            host: host.to_owned(),
            dry_run,
            sources: Vec::new(),
        }
    }
}

impl SyncedDocument {
    pub(crate) fn new(source: &str, plan: &SyncPlan) -> Self {
        let undecided = plan.open.iter().map(|(path, beside)| UndecidedDocument {
            at: At::new(path),
            beside: shown(beside),
        });
        Self {
            source: source.to_owned(),
            snapshot: Some(plan.snapshot.to_string()),
            time: Some(plan.time.to_rfc3339()),
            first: plan.is_first,
            steps: plan.steps.iter().map(SyncStepDocument::new).collect(),
            same: plan.same,
            ours: plan.ours,
            problems: notes(&plan.problems),
            unknown: notes(&plan.unknown),
            undecided: undecided.collect(),
            left_to_git: plan.left_to_git,
            result: None,
            error: None,
        }
    }

    /// A source that could not be looked at.
    pub(crate) fn failed(source: &str, why: String) -> Self {
        Self {
            source: source.to_owned(),
            snapshot: None,
            time: None,
            first: false,
            steps: Vec::new(),
            same: 0,
            ours: 0,
            problems: Vec::new(),
            unknown: Vec::new(),
            undecided: Vec::new(),
            left_to_git: false,
            result: None,
            error: Some(why),
        }
    }

    pub(crate) fn done(mut self, report: &SyncReport) -> Self {
        self.result = Some(SyncResult {
            operation: report.operation.map(|id| id.to_string()),
            written: report.written,
            removed: report.removed,
            problems: notes(&report.problems),
            elapsed_ms: millis(report.elapsed),
        });
        self
    }
}
