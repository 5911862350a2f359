//! `restore`.

use bdr::recover::restore::{Action, Kept, RestorePlan, RestoreReport, SecretStep, Step};
use bdr::recover::undo::UndoReport;
use bdr::repo::oplog::Operation;
use bdr::repo::origin::Origin;
use bdr::repo::snapshot::Snapshot;
use serde::Serialize;

use super::millis;
use super::paths::{At, Note, notes};
use crate::ui::json::kind as kind_word;
use crate::ui::when;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RestoreDocument {
    snapshot: String,
    time: String,
    origin: &'static str,
    steps: Vec<StepDocument>,
    unchanged: u64,
    skipped: Vec<Note>,
    kept: Vec<KeptDocument>,
    secrets: Vec<SecretDocument>,
    problems: Vec<Note>,
    unseen: Vec<Note>,
    /// What the snapshot does not have whole of what was asked for: it could not be read then.
    absent: Vec<Note>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<RestoreResult>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StepDocument {
    #[serde(flatten)]
    at: At,
    action: &'static str,
    kind: &'static str,
    bytes: u64,
    old_bytes: Option<u64>,
}

/// What stays because it is there already (`--overwrite never`).
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeptDocument {
    #[serde(flatten)]
    at: At,
    differs: bool,
}

impl KeptDocument {
    fn new(kept: &Kept) -> Self {
        Self {
            at: At::new(&kept.path),
            differs: kept.differs,
        }
    }
}

/// What becomes of the sealed values of a file, by keys.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SecretDocument {
    #[serde(flatten)]
    at: At,
    kept: Vec<String>,
    restored: Vec<String>,
    unresolved: Vec<String>,
    live_only: Vec<String>,
    blank: Vec<String>,
    aside: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RestoreResult {
    operation: Option<String>,
    restored: u64,
    removed: u64,
    unchanged: u64,
    bytes: u64,
    problems: Vec<Note>,
    skipped: Vec<Note>,
    elapsed_ms: u64,
}

pub(crate) fn action_word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Replace => "replace",
        Action::Metadata => "metadata",
        Action::Remove => "remove",
    }
}

impl SecretDocument {
    fn new(step: &SecretStep) -> Self {
        let merged = &step.merged;
        let aside = step.aside.as_ref();
        Self {
            at: At::new(&step.path),
            kept: merged.kept.clone(),
            restored: merged.restored.clone(),
            unresolved: merged.unresolved.clone(),
            live_only: merged.live_only.clone(),
            blank: merged.blank.clone(),
            aside: aside.map(|path| bdr::base::path::show(path.as_os_str())),
        }
    }
}

impl RestoreDocument {
    /// Describes the plan, before it is applied.
    pub(crate) fn new(
        plan: &RestorePlan,
        snapshot: &Snapshot,
        origin: Origin,
        dry_run: bool,
    ) -> Self {
        let step = |step: &Step| StepDocument {
            at: At::new(&step.path),
            action: action_word(step.action),
            kind: kind_word(step.kind),
            bytes: step.bytes,
            old_bytes: step.old_bytes,
        };
        Self {
            snapshot: plan.snapshot.to_string(),
            time: when::utc(snapshot.time),
            origin: origin.word(),
            steps: plan.steps.iter().map(step).collect(),
            unchanged: plan.unchanged,
            skipped: notes(&plan.skipped),
            kept: plan.kept.iter().map(KeptDocument::new).collect(),
            secrets: plan.secrets.iter().map(SecretDocument::new).collect(),
            problems: notes(&plan.problems),
            unseen: notes(&plan.unseen),
            absent: notes(&plan.absent),
            dry_run,
            result: None,
        }
    }

    /// Adds the result.
    pub(crate) fn done(mut self, report: &RestoreReport) -> Self {
        self.result = Some(RestoreResult {
            operation: report.operation.map(|id| id.to_string()),
            restored: report.restored,
            removed: report.removed,
            unchanged: report.unchanged,
            bytes: report.bytes,
            problems: notes(&report.problems),
            skipped: notes(&report.skipped),
            elapsed_ms: millis(report.elapsed),
        });
        self
    }
}

/// An interrupted restore that was taken back (`--abort`).
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AbortDocument {
    aborted: String,
    restored: u64,
    removed: u64,
    conflicts: u64,
    problems: Vec<Note>,
}

impl AbortDocument {
    pub(crate) fn new(operation: &Operation, report: &UndoReport) -> Self {
        Self {
            aborted: operation.begin.id.to_string(),
            restored: report.restored,
            removed: report.removed,
            conflicts: report.conflicts,
            problems: notes(&report.problems),
        }
    }
}
