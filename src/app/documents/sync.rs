//! `sync`.

use bdr::recover::sync::{SyncAction, SyncPlan, SyncReport, SyncStep};
use serde::Serialize;

use super::millis;
use super::paths::{At, Note, notes};
use super::{Unreadable, unreadable};
use crate::app::sync::Other;
use crate::ui::json::kind as kind_word;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SyncDocument {
    pub(crate) machine: String,
    pub(crate) host: String,
    pub(crate) dry_run: bool,
    /// Who signed what the other machine has pushed.
    signer: Option<String>,
    fingerprint: Option<String>,
    /// Nothing was synced with it before.
    new: bool,
    /// Records there that were not taken for the other machine's.
    unreadable: Vec<Unreadable>,
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
    pub(crate) fn new(other: &Other, is_new: bool, dry_run: bool) -> Self {
        Self {
            machine: other.machine.to_string(),
            host: other.host.clone(),
            dry_run,
            signer: other.signer.map(|signer| signer.to_string()),
            fingerprint: other.signer.map(|signer| signer.fingerprint()),
            new: is_new,
            unreadable: unreadable(&other.far),
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

    /// Returns true if something was done, be it that nothing was to do.
    pub(crate) fn is_done(&self) -> bool {
        self.result.is_some()
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
