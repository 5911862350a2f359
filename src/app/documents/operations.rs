//! Operations: `log`, `show`, `guard`, `undo`, `redo`.

use bdr::base::id::Id;
use bdr::model::agent::AgentCall;
#[cfg(target_os = "linux")]
use bdr::protect::calls::Tally;
use bdr::protect::guard::{GuardOutcome, GuardPlan};
use bdr::recover::undo::{Meanwhile, UndoAction, UndoPlan, UndoReport, UndoStep};
use bdr::repo::Repository;
use bdr::repo::by_path::root_path;
use bdr::repo::oplog::{Operation, Portion, Protection};
use bdr::repo::snapshot::Snapshot;
use serde::Serialize;

use super::changed::{FileDocument, GitDocument};
use super::paths::{At, Beside, Cwd, Note, notes};
use super::{Unreadable, millis};
use crate::app::context::Context;
use crate::app::guard::Outside;
use crate::app::log::unfinished;
use crate::app::refs::Touched;
use crate::ui::json::kind as kind_word;
use crate::ui::when;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LogDocument {
    pub(crate) operations: Vec<OperationDocument>,
    pub(crate) total: usize,
    pub(crate) unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OperationDocument {
    id: String,
    short: String,
    kind: &'static str,
    time: String,
    argv: Vec<String>,
    #[serde(flatten)]
    cwd: Cwd,
    label: Option<String>,
    agent: Option<AgentDocument>,
    snapshot: Option<String>,
    undoes: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    undone_by: Option<String>,
    partly_undone: Option<PortionDocument>,
    undoable: bool,
    finished: bool,
    state: &'static str,
    pinned: bool,
    origin: &'static str,
    exit: Option<i32>,
    signal: Option<i32>,
    elapsed_ms: Option<u64>,
    deleted: u64,
    created: u64,
    modified: u64,
    remote: Vec<String>,
    not_captured_count: usize,
    protection: Option<ProtectionDocument>,
    session: Option<String>,
    chain: Vec<String>,
}

/// How the state before an operation was kept.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ProtectionDocument {
    by: &'static str,
    because: Option<String>,
}

impl ProtectionDocument {
    fn new(protection: &Protection) -> Self {
        Self {
            by: protection.by.word(),
            because: protection.because.clone(),
        }
    }
}

/// How much of an operation.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PortionDocument {
    done: u64,
    of: u64,
}

impl PortionDocument {
    fn new(portion: Portion) -> Self {
        Self {
            done: portion.done,
            of: portion.of,
        }
    }
}

/// The call of a tool that an operation belongs to.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AgentDocument {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    tool: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    background: bool,
}

impl AgentDocument {
    fn new(call: &AgentCall) -> Self {
        Self {
            host: call.host.clone(),
            session: call.session.clone(),
            call: call.call.clone(),
            tool: call.tool.clone(),
            background: call.background,
        }
    }
}

impl OperationDocument {
    pub(crate) fn new(cx: &Context, repo: &Repository, operation: &Operation, ids: &[Id]) -> Self {
        let begin = &operation.begin;
        let (deleted, created, modified) = operation.counts();
        let end = operation.end.as_ref();
        Self {
            id: begin.id.to_string(),
            short: begin.id.prefix(ids),
            kind: begin.kind.word(),
            time: when::utc(begin.time),
            argv: begin.argv.iter().map(ToString::to_string).collect(),
            cwd: Cwd::new(&begin.cwd.0),
            label: begin.label.clone(),
            agent: begin.agent.as_ref().map(AgentDocument::new),
            snapshot: begin.before.map(|id| id.to_string()),
            undoes: begin.undoes.map(|id| id.to_string()),
            also: begin.also.iter().map(ToString::to_string).collect(),
            undone_by: operation.undone_by.map(|id| id.to_string()),
            partly_undone: operation
                .partly
                .filter(|_| operation.undone_by.is_none())
                .map(PortionDocument::new),
            undoable: operation.is_undoable(),
            finished: end.is_some_and(|end| !end.interrupted),
            state: unfinished(cx, repo, operation).unwrap_or("finished"),
            pinned: operation.pinned,
            origin: operation.origin.word(),
            exit: end.and_then(|end| end.exit),
            signal: end.and_then(|end| end.signal),
            elapsed_ms: end.map(|end| end.elapsed_ms),
            deleted,
            created,
            modified,
            remote: begin.remote.clone(),
            not_captured_count: begin.not_captured.len(),
            protection: begin.protection.as_ref().map(ProtectionDocument::new),
            session: begin.session.map(|id| id.to_string()),
            chain: begin.chain.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShowDocument {
    #[serde(flatten)]
    operation: OperationDocument,
    not_captured: Vec<Note>,
    changes: Vec<ChangeDocument>,
    pub(crate) git: Vec<GitDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<Vec<FileDocument>>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChangeDocument {
    #[serde(flatten)]
    at: At,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl ShowDocument {
    /// `snapshot` is the one before the operation, which has the paths of its roots.
    pub(crate) fn new(
        operation_document: OperationDocument,
        operation: &Operation,
        snapshot: Option<&Snapshot>,
    ) -> Self {
        let mut changes = Vec::new();
        for root in operation.end.iter().flat_map(|end| &end.roots) {
            let base = root_path(root, snapshot);
            changes.extend(root.removed.iter().map(|path| ChangeDocument {
                at: At::new(&path.to_path(&base)),
                change: "deleted",
                kind: None,
                bytes: None,
            }));
            for (change, stamps) in [("created", &root.created), ("modified", &root.modified)] {
                changes.extend(stamps.iter().map(|stamp| ChangeDocument {
                    at: At::new(&stamp.path.to_path(&base)),
                    change,
                    kind: Some(kind_word(stamp.kind)),
                    bytes: Some(stamp.size),
                }));
            }
        }
        Self {
            operation: operation_document,
            not_captured: notes(&operation.begin.not_captured),
            changes,
            git: Vec::new(),
            files: None,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuardDocument {
    operation: String,
    snapshot: Option<String>,
    exit: Option<i32>,
    signal: Option<i32>,
    deleted: u64,
    created: u64,
    modified: u64,
    deleted_bytes: Option<u64>,
    not_captured: Vec<Note>,
    remote: Vec<String>,
    undo: Option<String>,
    recorded: bool,
    outside: Vec<OutsideDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
}

/// A place outside of the project in which a command changed something.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OutsideDocument {
    #[serde(flatten)]
    at: At,
    what: &'static str,
    deleted: u64,
    created: u64,
    modified: u64,
}

impl OutsideDocument {
    fn new(outside: &Outside) -> Self {
        Self {
            at: At::new(&outside.path),
            what: outside.what.word(),
            deleted: outside.deleted,
            created: outside.created,
            modified: outside.modified,
        }
    }
}

impl GuardDocument {
    pub(crate) fn new(outcome: &GuardOutcome, undo: Option<&str>, outside: &[Outside]) -> Self {
        let operation = &outcome.operation;
        let (deleted, created, modified) = operation.counts();
        let end = operation.end.as_ref();
        Self {
            operation: operation.begin.id.to_string(),
            snapshot: operation.begin.before.map(|id| id.to_string()),
            exit: end.and_then(|end| end.exit),
            signal: end.and_then(|end| end.signal),
            deleted,
            created,
            modified,
            deleted_bytes: end.map(|end| end.roots.iter().map(|root| root.deleted_bytes).sum()),
            not_captured: notes(&operation.begin.not_captured),
            remote: operation.begin.remote.clone(),
            undo: undo.map(str::to_owned),
            recorded: outcome.after_error.is_none(),
            outside: outside.iter().map(OutsideDocument::new).collect(),
            operations: None,
        }
    }

    /// Has the numbers of the operations of a session, which by itself changed nothing.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_session(self, tally: Tally) -> Self {
        Self {
            deleted: tally.deleted,
            created: tally.created,
            modified: tally.changed,
            deleted_bytes: None,
            operations: Some(tally.operations),
            ..self
        }
    }
}

/// What a guard would cover (`--dry-run`).
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuardPlanDocument {
    read_only: bool,
    roots: Vec<PlannedRootDocument>,
    left_out: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PlannedRootDocument {
    #[serde(flatten)]
    at: At,
    name: String,
    origin: String,
    files: u64,
    bytes: u64,
    new_bytes: u64,
}

impl GuardPlanDocument {
    pub(crate) fn new(read_only: bool, plan: &GuardPlan) -> Self {
        let roots = plan.roots.iter().map(|root| PlannedRootDocument {
            at: At::new(&root.path),
            name: root.name.clone(),
            origin: format!("{:?}", root.origin).to_lowercase(),
            files: root.files,
            bytes: root.bytes,
            new_bytes: root.new_bytes,
        });
        Self {
            read_only,
            roots: roots.collect(),
            left_out: notes(&plan.left_out),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UndoDocument {
    operation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    origin: &'static str,
    time: String,
    #[serde(flatten)]
    cwd: Cwd,
    here: bool,
    set_up: bool,
    command: String,
    dry_run: bool,
    applied: bool,
    steps: Vec<UndoStepDocument>,
    git: Vec<GitDocument>,
    not_captured: Vec<Note>,
    missing: Vec<Note>,
    problems: Vec<Note>,
    meanwhile: Vec<MeanwhileDocument>,
    unseen: Vec<Note>,
    rest: u64,
    part: Option<PortionDocument>,
    remote: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<UndoResult>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct UndoStepDocument {
    #[serde(flatten)]
    at: At,
    action: &'static str,
    kind: &'static str,
    bytes: u64,
    files: u64,
    #[serde(flatten)]
    beside: Option<Beside>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MeanwhileDocument {
    #[serde(flatten)]
    at: At,
    deleted: u64,
    altered: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct UndoResult {
    operation: String,
    restored: u64,
    removed: u64,
    conflicts: u64,
    problems: Vec<Note>,
    missing: Vec<Note>,
    elapsed_ms: u64,
}

fn undo_action(action: UndoAction) -> &'static str {
    match action {
        UndoAction::Restore => "restore",
        UndoAction::Remove => "remove",
        UndoAction::Metadata => "metadata",
        UndoAction::Merge => "merge",
        UndoAction::Conflict => "conflict",
        UndoAction::Keep => "keep",
    }
}

/// What was requested, and how the operation was found.
pub(crate) struct UndoAsked {
    pub(crate) dry_run: bool,
    /// It belongs to this workspace, or was named.
    pub(crate) here: bool,
    pub(crate) set_up: bool,
    /// The command that does the same without asking, whatever happened meanwhile.
    pub(crate) command: String,
}

impl UndoDocument {
    /// Describes the plan, before it is applied.
    pub(crate) fn new(
        operation: &Operation,
        plan: &UndoPlan,
        git: &[Touched],
        asked: UndoAsked,
    ) -> Self {
        let step = |step: &UndoStep| UndoStepDocument {
            at: At::new(&step.path),
            action: undo_action(step.action),
            kind: kind_word(step.kind),
            bytes: step.bytes,
            files: step.files,
            beside: step.beside.as_deref().map(Beside::new),
        };
        let meanwhile = |root: &Meanwhile| MeanwhileDocument {
            at: At::new(&root.path),
            deleted: root.deleted,
            altered: root.altered,
        };
        Self {
            operation: operation.begin.id.to_string(),
            also: plan.also.iter().map(ToString::to_string).collect(),
            origin: operation.origin.word(),
            time: when::utc(operation.begin.time),
            cwd: Cwd::new(&operation.begin.cwd.0),
            here: asked.here,
            set_up: asked.set_up,
            command: asked.command,
            dry_run: asked.dry_run,
            applied: false,
            steps: plan.steps.iter().map(step).collect(),
            git: git.iter().map(GitDocument::new).collect(),
            not_captured: notes(&plan.not_captured),
            missing: notes(&plan.missing),
            problems: notes(&plan.problems),
            meanwhile: plan.meanwhile.iter().map(meanwhile).collect(),
            unseen: notes(&plan.unseen),
            rest: plan.rest,
            part: plan.part().map(PortionDocument::new),
            remote: operation.begin.remote.clone(),
            result: None,
        }
    }

    /// Adds the result.
    pub(crate) fn done(mut self, report: &UndoReport) -> Self {
        self.applied = true;
        self.result = Some(UndoResult {
            operation: report.operation.to_string(),
            restored: report.restored,
            removed: report.removed,
            conflicts: report.conflicts,
            problems: notes(&report.problems),
            missing: notes(&report.missing),
            elapsed_ms: millis(report.elapsed),
        });
        self
    }
}

/// `op pin`, `op unpin`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PinDocument {
    pub(crate) pinned: bool,
    pub(crate) operations: Vec<String>,
}

/// `op forget`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ForgetDocument {
    pub(crate) dry_run: bool,
    pub(crate) forgotten: bool,
    pub(crate) operations: Vec<String>,
}
