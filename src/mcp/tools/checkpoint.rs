//! `checkpoint`: a snapshot before a risky step.

use std::path::PathBuf;

use bdr::model::reason::Reason;
use bdr::model::rules::{Origin, Root};
use bdr::protect::backup::BackupReport;
use bdr::protect::guard::{self, GuardOptions};
use bdr::protect::staging::StagingOptions;
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, checkpoint_id, first};
use super::super::fault::Fault;
use super::super::roots::Use;
use crate::app::guard as guarding;
use crate::app::tick;
use crate::ui::{self, count, plural, when};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct CheckpointResult {
    success: bool,
    checkpoint_id: String,
    created: String,
    file_count: u64,
    changed_since_last: u64,
    excluded: Excluded,
    /// The checkpoint can be undone until then.
    expires: String,
    duration_ms: u64,
    warnings: Vec<String>,
}

/// Files that are stored without their secret values, or not at all.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Excluded {
    phi: u64,
    secret: u64,
    whole: usize,
    too_large: u64,
}

impl Excluded {
    pub(super) fn of(report: &BackupReport, too_large: u64) -> Self {
        Self {
            phi: report.sealed.records,
            secret: report.sealed.values,
            whole: report.sealed.whole.len(),
            too_large,
        }
    }
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let roots = call.roots()?;
    let paths = call.paths(&roots, "paths", Use::Read)?;
    let captured: Vec<Root> = match paths.is_empty() {
        true => roots.captured,
        false => paths.into_iter().map(named).collect(),
    };
    if captured.is_empty() {
        return Err(Fault::new(
            "SOURCE_NOT_FOUND",
            "there is nothing to protect: no source is configured, and the server does not run in a project",
            "ask the user to run `bdr init`, or call checkpoint with paths",
        ));
    }
    let repo = call.repository_or_new()?;
    cx.launch_lifeboat(repo.location());
    let label = call.args.text("label")?.map(str::to_owned);
    let mut backup = guarding::backup_options(cx, None);
    backup.label.clone_from(&label);
    backup.staging = Some(StagingOptions {
        max_bytes: cx.config.guard.max_kept,
        pack_bytes: cx.config.guard.max_bytes,
        ..StagingOptions::new()
    });
    let options = GuardOptions {
        label: label.clone(),
        ..GuardOptions::new(backup, vec![call.tool.into()], &cx.cwd)
    };
    let (id, report) = guard::checkpoint(&repo, &captured, &options, call.agent(), &cx.progress())?;
    call.session.set_checkpoint(id);
    // Where no scheduler runs, somebody has to start backups that are due.
    let overdue = tick::catch_up(cx, "mcp");
    Ok(answer(call, &checkpoint_id(id, cx.now), &report, overdue).into())
}

fn named(path: PathBuf) -> Root {
    Root::resolved(path, Origin::Operand)
}

fn answer(call: &Call<'_>, id: &str, report: &BackupReport, overdue: Option<String>) -> Answer {
    let cx = call.cx;
    let stats = &report.snapshot.stats;
    let changed = report.added + report.changed + report.removed;
    let mut warnings: Vec<String> = overdue.into_iter().collect();
    let (unread, more) = first(&report.problems, 10);
    warnings.extend(unread.iter().map(|note| {
        format!(
            "not captured: {} ({})",
            cx.shown_absolute(note.path.as_path()),
            note.reason
        )
    }));
    if more > 0 {
        warnings.push(format!("and {} more not captured", count(more as u64)));
    }
    let too_large = report
        .left_out
        .iter()
        .filter(|note| note.why() == Reason::OverBudget)
        .count();
    let elapsed = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    let mut brief = format!(
        "Saved {} in {}.",
        plural(stats.files, "file"),
        ui::elapsed(report.elapsed)
    );
    if !warnings.is_empty() {
        brief.push_str(&format!(
            " {}: see warnings.",
            plural(warnings.len() as u64, "warning")
        ));
    }
    brief.push_str(&format!(
        "\nTo undo whatever happens from here on: undo_changes {{\"checkpointId\":\"{id}\"}}"
    ));
    let result = CheckpointResult {
        success: true,
        checkpoint_id: id.to_owned(),
        created: when::utc(cx.now),
        file_count: stats.files,
        changed_since_last: if report.reused { 0 } else { changed },
        excluded: Excluded::of(report, too_large as u64),
        expires: when::utc(cx.now + cx.config.retention.guard_within),
        duration_ms: elapsed,
        warnings,
    };
    Answer::new(result, brief)
}
