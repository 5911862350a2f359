//! `undo_changes`: undoes everything since a checkpoint.

use std::path::PathBuf;

use bdr::find::query;
use bdr::model::manifest::Change;
use bdr::recover::undo::{self, UndoAction, UndoOptions, UndoPlan, UndoReport};
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;
use serde::Serialize;

use super::super::call::{Answer, Call, Globs, Outcome, checkpoint_id, first, plan_id};
use super::super::fault::Fault;
use super::super::result::Problem;
use super::super::roots::Roots;
use crate::ui::plural;

/// A preview names this many steps.
const SHOWN: usize = 50;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct UndoResult {
    success: bool,
    operation: &'static str,
    checkpoint_id: String,
    restored: u64,
    recreated: u64,
    moved_aside: u64,
    /// The call that undoes this undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_checkpoint_id: Option<String>,
    #[serde(flatten)]
    preview: Option<Preview>,
    conflicts: Vec<StepOf>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl UndoResult {
    /// The result if nothing has changed.
    fn nothing(checkpoint: &str) -> Self {
        Self {
            success: true,
            operation: "undo",
            checkpoint_id: checkpoint.to_owned(),
            restored: 0,
            recreated: 0,
            moved_aside: 0,
            safety_checkpoint_id: None,
            preview: None,
            conflicts: Vec::new(),
            warnings: Vec::new(),
            error: None,
        }
    }
}

/// The answer to a dry run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Preview {
    plan: PlanCounts,
    steps: Vec<StepOf>,
    more_steps: usize,
    plan_id: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct PlanCounts {
    recreate: u64,
    replace: u64,
    move_aside: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct StepOf {
    path: String,
    #[cfg_attr(test, schemars(with = "String"))]
    action: UndoAction,
    size: u64,
    files: u64,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let repo = call.repository()?;
    let roots = call.roots()?;
    let operations = repo.operations()?;
    let operation = call.checkpoint(&operations, call.args.text("checkpointId")?)?;
    if operation.begin.before.is_none() {
        return Err(Fault::new(
            "CHECKPOINT_EXPIRED",
            "that is not a checkpoint: nothing was saved for it",
            "list_backups, then restore_backup",
        ));
    }
    let name = checkpoint_id(operation.begin.id, operation.begin.time);
    let globs = Globs::new(cx, &call.args.texts("paths")?)?;
    let paths = match globs.is_empty() {
        true => Vec::new(),
        false => changed_paths(call, &repo, operation, &globs)?,
    };
    if !globs.is_empty() && paths.is_empty() {
        return Ok(nothing(&name).into());
    }
    let options = UndoOptions {
        now: cx.now,
        cwd: cx.cwd.clone(),
        argv: call.argv(),
        force: false,
        all: false,
        look_only: false,
        paths,
        never: cx.own_files(),
        host: cx.host.clone(),
        agent: Some(call.agent()),
    };
    // Without an end, the undo compares with the present: a checkpoint is about everything that
    // came after it.
    let since = Operation {
        end: None,
        ..operation.clone()
    };
    let plan = undo::plan(&repo, &since, &options, &cx.progress())?;
    check(call, &roots, &plan)?;
    if plan.steps.is_empty() {
        return Ok(nothing(&name).into());
    }
    let id = plan_id([plan.digest().to_hex()]);
    if call.args.flag("dryRun")? == Some(true) {
        call.shown(&id);
        return Ok(preview(call, &name, &plan, &id).into());
    }
    let counts = Counts::of(&plan);
    if let Some(ask) = call.consent(&id, || question(call, operation, &plan, &counts))? {
        return Ok(ask);
    }
    let warnings = warnings(&plan);
    let conflicts = conflicts(call, &plan);
    let report = undo::apply(&repo, &since, plan, &options, &cx.progress())
        .map_err(|error| call.broken_off(&repo, error))?;
    let result = UndoResult {
        restored: report.files,
        recreated: counts.recreated,
        moved_aside: report.removed,
        conflicts,
        warnings,
        ..UndoResult::nothing(&name)
    };
    Ok(done(call, result, &report))
}

/// Returns warnings: what the plan cannot bring back or leaves alone.
fn warnings(plan: &UndoPlan) -> Vec<String> {
    let number = plan.not_captured.len() as u64;
    let told = || {
        format!(
            "{} were not captured and stay as they are",
            plural(number, "path")
        )
    };
    (number > 0).then(told).into_iter().collect()
}

/// Says what was undone, and how to reverse that.
fn done(call: &Call<'_>, mut result: UndoResult, report: &UndoReport) -> Outcome {
    let safety = checkpoint_id(report.operation, call.cx.now);
    let mut brief = format!(
        "Restored {}, removed {} created since (kept in the safety checkpoint).\nTo reverse this undo: undo_changes {{\"checkpointId\":\"{safety}\"}}",
        plural(report.files, "file"),
        plural(report.removed, "path"),
    );
    result.safety_checkpoint_id = Some(safety);
    if !report.problems.is_empty() {
        let paths = plural(report.problems.len() as u64, "path");
        let message = format!("{paths} could not be restored");
        result.success = false;
        result.error = Some(Problem::partial(call.cx, message, &report.problems));
        brief.insert_str(0, "PARTIAL: not everything could be restored; see error. ");
    }
    Outcome::Done(Answer {
        failed: !result.success,
        ..Answer::new(result, brief)
    })
}

fn nothing(name: &str) -> Answer {
    Answer::new(
        UndoResult::nothing(name),
        "Nothing has changed since that checkpoint; nothing was done.",
    )
}

/// Returns the paths that changed since the checkpoint and match the patterns.
fn changed_paths(
    call: &Call<'_>,
    repo: &Repository,
    operation: &Operation,
    globs: &Globs,
) -> Result<Vec<PathBuf>, Fault> {
    let before = operation.begin.before.unwrap_or(operation.begin.id);
    let snapshot = repo.snapshot(before).map_err(|_| {
        Fault::new(
            "CHECKPOINT_EXPIRED",
            "the snapshot of that checkpoint has expired",
            "list_backups, then restore_backup",
        )
    })?;
    let differences = query::diff(repo, &snapshot, None, &call.cx.progress())?;
    let mut paths = Vec::new();
    for (_, root, changes) in &differences {
        let all = changes
            .iter()
            .map(Change::path)
            .map(|path| path.to_path(root));
        paths.extend(all.filter(|path| globs.fit(path)));
    }
    Ok(paths)
}

/// Refuses plans that reach outside the places in which this client may act.
fn check(call: &Call<'_>, roots: &Roots, plan: &UndoPlan) -> Result<(), Fault> {
    match plan.steps.iter().find(|step| !roots.has(&step.path)) {
        None => Ok(()),
        Some(step) => {
            let shown = call.cx.shown_absolute(&step.path);
            let message = format!(
                "this would change `{shown}`, which is outside the protected roots; nothing was changed"
            );
            Err(Fault::new(
                "PATH_NOT_ALLOWED",
                message,
                "make the same call with paths, or ask the user to run `bdr undo`",
            ))
        }
    }
}

struct Counts {
    recreated: u64,
    replaced: u64,
    removed: u64,
}

impl Counts {
    fn of(plan: &UndoPlan) -> Self {
        let mut counts = Self {
            recreated: 0,
            replaced: 0,
            removed: 0,
        };
        for step in &plan.steps {
            let number = step.files.max(1);
            match step.action {
                UndoAction::Restore if step.path.symlink_metadata().is_err() => {
                    counts.recreated += number;
                }
                UndoAction::Restore | UndoAction::Merge | UndoAction::Metadata => {
                    counts.replaced += number;
                }
                UndoAction::Remove => counts.removed += number,
                UndoAction::Conflict | UndoAction::Keep => {}
            }
        }
        counts
    }
}

fn question(call: &Call<'_>, operation: &Operation, plan: &UndoPlan, counts: &Counts) -> String {
    let age = crate::ui::when::ago(call.cx.now, operation.begin.time);
    let names: Vec<String> = plan
        .steps
        .iter()
        .take(5)
        .map(|step| call.cx.shown_absolute(&step.path))
        .collect();
    let more = match plan.steps.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "Undo everything since the checkpoint of {age}? {} come back, {} are replaced, {} created since are removed: {}{more}. The current files are saved first.",
        plural(counts.recreated, "file"),
        plural(counts.replaced, "file"),
        plural(counts.removed, "file"),
        names.join(", "),
    )
}

fn step_of(call: &Call<'_>, step: &undo::UndoStep) -> StepOf {
    StepOf {
        path: call.cx.shown_absolute(&step.path),
        action: step.action,
        size: step.bytes,
        files: step.files,
    }
}

fn conflicts(call: &Call<'_>, plan: &UndoPlan) -> Vec<StepOf> {
    let left = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, UndoAction::Conflict | UndoAction::Keep));
    left.take(SHOWN).map(|step| step_of(call, step)).collect()
}

fn preview(call: &Call<'_>, name: &str, plan: &UndoPlan, id: &str) -> Answer {
    let (steps, more) = first(&plan.steps, SHOWN);
    let counts = Counts::of(plan);
    let result = UndoResult {
        operation: "dry-run",
        preview: Some(Preview {
            plan: PlanCounts {
                recreate: counts.recreated,
                replace: counts.replaced,
                move_aside: counts.removed,
            },
            steps: steps.iter().map(|step| step_of(call, step)).collect(),
            more_steps: more,
            plan_id: id.to_owned(),
        }),
        conflicts: conflicts(call, plan),
        ..UndoResult::nothing(name)
    };
    let brief = format!(
        "Would bring back {}, replace {} and remove {}; nothing was changed.\nTo do it: undo_changes {{\"checkpointId\":\"{name}\"}}",
        plural(counts.recreated, "file"),
        plural(counts.replaced, "file"),
        plural(counts.removed, "file"),
    );
    Answer::new(result, brief)
}
