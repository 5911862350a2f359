//! `restore_backup`.

use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, absolute};
use bdr::model::manifest::Kind;
use bdr::recover::restore::{
    self, Action, Overwrite, RestoreOptions, RestorePlan, RestoreReport, Step,
};
use bdr::recover::unseal::SecretOptions;
use bdr::repo::Repository;
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::Snapshot;
use serde::Serialize;

use super::super::call::{
    Answer, Call, Globs, Outcome, backup_id, checkpoint_id, first, plan_id, snapshot,
};
use super::super::fault::Fault;
use super::super::result::{PathReason, Problem, SHOWN, reasons};
use super::super::roots::{Roots, Use};
use crate::ui::{plural, when};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoreResult {
    success: bool,
    backup_id: String,
    operation: &'static str,
    changes: Changes,
    plan: PlanCounts,
    not_restored: Vec<PathReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_id: Option<String>,
    /// The backup of the files as they were before this restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_backup_id: Option<String>,
    /// The call that undoes this restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_checkpoint_id: Option<String>,
    duration: u64,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Changes {
    files_restored: u64,
    files_skipped: u64,
    bytes_restored: u64,
    conflicts: Vec<Conflict>,
    more_conflicts: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct PlanCounts {
    create: usize,
    replace: usize,
    delete: usize,
}

/// A file that exists and differs from the backup.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Conflict {
    path: String,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_modified: Option<String>,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let wanted = call.args.text("backupId")?.ok_or_else(|| {
        Fault::argument(
            "`backupId` is missing",
            "restore_backup {\"backupId\":\"latest\",\"dryRun\":true}",
        )
    })?;
    let repo = call.repository()?;
    let roots = call.roots()?;
    let snapshots = repo.all_snapshots()?;
    let from = snapshot(cx, &repo, &snapshots, wanted)?;
    let name = backup_id(from.id, from.time);
    let options = options(call, &repo, from, &roots)?;
    let plan = restore::plan(&repo, from, &options, &cx.progress())?;
    if let Some(step) = plan.steps.iter().find(|step| !roots.has(&step.path)) {
        let shown = cx.shown_absolute(&step.path);
        return Err(Fault::new(
            "PATH_NOT_ALLOWED",
            format!("this would write `{shown}`, which is outside the protected roots"),
            "make the same call with selective, or with a destination",
        ));
    }
    let mut warnings: Vec<String> = Vec::new();
    if call.args.flag("preBackup")? == Some(false) {
        warnings.push(
            "preBackup: false was ignored: files that are replaced are always saved first"
                .to_owned(),
        );
    }
    let id = plan_id([plan.digest().to_hex()]);
    let mut result = RestoreResult::new(call, &repo, from, &plan);
    result.warnings = warnings;
    if call.args.flag("dryRun")? == Some(true) {
        call.shown(&id);
        result.plan_id = Some(id);
        return Ok(Answer::new(result, "").into());
    }
    let replaced = result.plan.replace;
    if replaced > 0
        && let Some(ask) = call.consent(&id, || question(call, &name, &plan, replaced as u64))?
    {
        return Ok(ask);
    }
    let report = restore::apply(&repo, &repo, from, plan, &options, &cx.progress())
        .map_err(|error| call.broken_off(&repo, error))?;
    done(call, &repo, result, &report)
}

/// Returns the options for a call. Everything is limited to the places in which this client may
/// act.
fn options(
    call: &Call<'_>,
    repo: &Repository,
    from: &Snapshot,
    roots: &Roots,
) -> Result<RestoreOptions, Fault> {
    let cx = call.cx;
    let target = match call.args.text("destination")? {
        Some(text) => Some(roots.path(cx, text, Use::Write)?),
        None => None,
    };
    let overwrite = call.args.flag("overwrite")? == Some(true);
    let paths = chosen(call, repo, from, roots)?;
    Ok(RestoreOptions {
        beneath: target
            .as_deref()
            .and_then(|target| roots.above(target))
            .map(PathBuf::from),
        target,
        paths,
        overwrite: if overwrite {
            Overwrite::IfChanged
        } else {
            Overwrite::Never
        },
        delete: false,
        look_only: false,
        now: cx.now,
        cwd: cx.cwd.clone(),
        argv: call.argv(),
        never: cx.own_files(),
        host: cx.host.clone(),
        secrets: SecretOptions::default(),
        agent: Some(call.agent()),
    })
}

/// Says what was restored, and how to undo it.
fn done(
    call: &Call<'_>,
    repo: &Repository,
    mut result: RestoreResult,
    report: &RestoreReport,
) -> Result<Outcome, Fault> {
    result.operation = "restore";
    result.changes.files_restored = report.files;
    result.changes.bytes_restored = report.bytes;
    result.duration = call.elapsed_ms();
    if let Some(operation) = report.operation {
        let mut operations = repo.operations()?.into_iter();
        let before = operations
            .find(|o| o.begin.id == operation)
            .and_then(|o| o.begin.before)
            .and_then(|id| repo.snapshot(id).ok());
        result.pre_backup_id = before.map(|before| backup_id(before.id, before.time));
        result.safety_checkpoint_id = Some(checkpoint_id(operation, call.cx.now));
    }
    if !report.problems.is_empty() {
        let paths = plural(report.problems.len() as u64, "path");
        let message = format!("{paths} could not be restored");
        result.success = false;
        result.error = Some(Problem::partial(call.cx, message, &report.problems));
    }
    Ok(Outcome::Done(Answer {
        failed: !result.success,
        ..Answer::new(result, "")
    }))
}

/// Returns the paths to restore: everything that the client may see, or what matches the patterns.
fn chosen(
    call: &Call<'_>,
    repo: &Repository,
    from: &Snapshot,
    roots: &Roots,
) -> Result<Vec<RootPath>, Fault> {
    let patterns = call.args.texts("selective")?;
    let globs = Globs::new(call.cx, &patterns)?;
    let mut paths = Vec::new();
    let mut all = true;
    for record in &from.roots {
        let place = record.path.as_path();
        let whole = RootPath {
            root: record.name.clone(),
            path: RepoPath::root(),
        };
        if globs.is_empty() && roots.has(place) {
            paths.push(whole);
            continue;
        }
        all = false;
        // The root itself may be forbidden while directories in it are allowed.
        let listing = repo.listing(record)?;
        let mut top: Option<RepoPath> = None;
        for entry in &listing {
            let path = entry.path.to_path(place);
            let named = || {
                let text = format!(
                    "{}/{}",
                    record.name,
                    bdr::base::path::show_bytes(entry.path.as_bytes())
                );
                patterns.iter().any(|pattern| {
                    absolute(&call.cx.cwd, pattern.as_ref()) == path || *pattern == text
                })
            };
            if !roots.has(&path)
                || !(globs.fit(&path) || named())
                || top.as_ref().is_some_and(|top| entry.path.starts_with(top))
            {
                continue;
            }
            // A directory is restored with its content only if the pattern names the directory
            // itself.
            if entry.kind == Kind::Dir && (globs.is_empty() || entry.path.is_root()) {
                continue;
            }
            top = Some(entry.path.clone());
            paths.push(RootPath {
                root: record.name.clone(),
                path: entry.path.clone(),
            });
        }
    }
    if paths.is_empty() {
        let message = match globs.is_empty() {
            true => "nothing of this backup lies within the protected roots".to_owned(),
            false => "no file of this backup matches `selective`".to_owned(),
        };
        return Err(Fault::new(
            "SOURCE_NOT_FOUND",
            message,
            "find_versions {\"path\":\"**/NAME\"} lists the backups that have it",
        ));
    }
    // No paths means everything.
    Ok(if all { Vec::new() } else { paths })
}

fn question(call: &Call<'_>, name: &str, plan: &RestorePlan, replaced: u64) -> String {
    let changed = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Create);
    let names: Vec<String> = changed
        .take(5)
        .map(|step| call.cx.shown_absolute(&step.path))
        .collect();
    let more = match replaced as usize - names.len().min(replaced as usize) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "Restore from backup {name}: replace {} ({}{more}) and create {}? The current files are saved first.",
        plural(replaced, "file"),
        names.join(", "),
        plural(plan.steps.len() as u64 - replaced, "path"),
    )
}

impl RestoreResult {
    /// Returns the question for the user. Nothing is written yet.
    fn new(call: &Call<'_>, repo: &Repository, from: &Snapshot, plan: &RestorePlan) -> Self {
        let is_new = |step: &&Step| step.action == Action::Create;
        let create = plan.steps.iter().filter(is_new).count();
        let (conflicts, more) = conflicts(call, repo, from, plan);
        let kept = plan.kept.len() + plan.skipped.len();
        Self {
            success: true,
            backup_id: backup_id(from.id, from.time),
            operation: "dry-run",
            changes: Changes {
                files_restored: 0,
                files_skipped: plan.unchanged - plan.unchanged_dirs + kept as u64,
                bytes_restored: 0,
                conflicts,
                more_conflicts: more,
            },
            plan: PlanCounts {
                create,
                replace: plan.steps.len() - create,
                delete: 0,
            },
            not_restored: reasons(call.cx, plan.skipped.iter().chain(&plan.problems)),
            plan_id: None,
            pre_backup_id: None,
            safety_checkpoint_id: None,
            duration: call.elapsed_ms(),
            warnings: Vec::new(),
            error: None,
        }
    }
}

/// Returns the files that exist and differ, and what happens to them: they are replaced, or kept if
/// `overwrite` is not set.
fn conflicts(
    call: &Call<'_>,
    repo: &Repository,
    from: &Snapshot,
    plan: &RestorePlan,
) -> (Vec<Conflict>, usize) {
    let replaces = |step: &&Step| step.action == Action::Replace && step.kind != Kind::Dir;
    let replaced = plan.steps.iter().filter(replaces);
    let replaced = replaced.map(|step| (step.path.as_path(), "overwrite"));
    let kept = plan.kept.iter().filter(|kept| kept.differs);
    let kept = kept.map(|kept| (kept.path.as_path(), "skip"));
    let all: Vec<(&Path, &'static str)> = replaced.chain(kept).collect();
    let (named, more) = first(&all, SHOWN);
    let conflict = |(path, action): &(&Path, &'static str)| {
        let metadata = path.symlink_metadata().ok();
        let standing = metadata.and_then(|metadata| metadata.modified().ok());
        Conflict {
            path: call.cx.shown_absolute(path),
            action,
            existing_modified: standing.map(|time| when::utc(time.into())),
            backup_modified: stored_time(repo, from, path),
        }
    };
    (named.iter().map(conflict).collect(), more)
}

/// Returns the modification time that the snapshot has for a file.
fn stored_time(repo: &Repository, from: &Snapshot, path: &Path) -> Option<String> {
    let record = from
        .roots
        .iter()
        .find(|record| path.starts_with(record.path.as_path()))?;
    let wanted = RepoPath::below(record.path.as_path(), path)?;
    let entry = repo
        .listing_of(record, &|path| *path == wanted)
        .ok()?
        .pop()?;
    let time = chrono::DateTime::from_timestamp_nanos(entry.mtime.nanos());
    Some(when::utc(time))
}
