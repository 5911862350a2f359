//! `restore_backup`.

use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, absolute};
use bdr::model::manifest::Kind;
use bdr::recover::restore::{self, Action, Overwrite, RestoreOptions, RestorePlan};
use bdr::recover::unseal::SecretOptions;
use bdr::repo::Repository;
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::Snapshot;
use serde_json::{Value, json};

use super::super::call::{
    Answer, Call, Globs, Outcome, backup_id, checkpoint_id, first, plan_id, snapshot,
};
use super::super::fault::Fault;
use super::super::roots::{Roots, Use};
use crate::app::context::Context;
use crate::ui::plural;

/// Conflicts and problems that are named.
const SHOWN: usize = 50;

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
    let target = match call.args.text("destination")? {
        Some(text) => Some(roots.path(cx, text, Use::Write)?),
        None => None,
    };
    let overwrite = call.args.flag("overwrite")? == Some(true);
    let paths = chosen(call, &repo, from, &roots)?;
    let mut never = repo.own_paths();
    never.extend([cx.places.config.clone(), cx.places.state.clone()]);
    let options = RestoreOptions {
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
        never,
        host: cx.host.clone(),
        secrets: SecretOptions::default(),
        agent: Some(call.agent()),
    };
    let plan = restore::plan(&repo, from, &options, &cx.progress())?;
    // Where nothing is replaced, what differs is worth knowing all the same.
    let kept = match overwrite {
        true => Vec::new(),
        false => differing(&repo, from, &options, cx)?,
    };
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
    let replaced = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Create)
        .count() as u64;
    if call.args.flag("dryRun")? == Some(true) {
        call.shown(&id);
        let mut answer = data(call, &repo, from, &name, &plan, &kept);
        answer["planId"] = id.into();
        answer["warnings"] = warnings.into();
        return Ok(Answer::new(answer, "").into());
    }
    if replaced > 0
        && let Some(ask) = call.consent(&id, || question(call, &name, &plan, replaced))?
    {
        return Ok(ask);
    }
    let mut answer = data(call, &repo, from, &name, &plan, &kept);
    answer["operation"] = "restore".into();
    let report = restore::apply(&repo, from, plan, &options, &cx.progress())
        .map_err(|error| call.broken_off(&repo, error))?;
    answer["changes"]["filesRestored"] = report.files.into();
    answer["changes"]["bytesRestored"] = report.bytes.into();
    answer["duration"] = call.elapsed_ms().into();
    if let Some(operation) = report.operation {
        let before = repo
            .operations()?
            .into_iter()
            .find(|o| o.begin.id == operation)
            .and_then(|o| o.begin.before);
        if let Some(before) = before.and_then(|id| repo.snapshot(id).ok()) {
            answer["preBackupId"] = backup_id(before.id, before.time).into();
        }
        answer["safetyCheckpointId"] = checkpoint_id(operation, cx.now).into();
    }
    answer["warnings"] = warnings.into();
    let failed = !report.problems.is_empty();
    if failed {
        answer["success"] = false.into();
        let details: Vec<Value> = report
            .problems
            .iter()
            .take(SHOWN)
            .map(|note| json!({"path": cx.shown_absolute(note.path.as_path()), "reason": note.reason}))
            .collect();
        answer["error"] = json!({"code": "PARTIAL", "message": format!("{} could not be restored", plural(report.problems.len() as u64, "path")), "details": details,
            "recovery": "fix the reasons given, then make the same call again"});
    }
    Ok(Outcome::Done(Answer {
        failed,
        ..Answer::new(answer, "")
    }))
}

/// Returns what is to come back of a snapshot: all that calls may see of it, or what fits the patterns.
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
        // A root may hold allowed places, and be none.
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
            // Directories come with all that is in them only where they are named themselves.
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
    // Everything is said by naming nothing.
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

/// Returns the files that stand there and are not as in the snapshot.
fn differing(
    repo: &Repository,
    from: &Snapshot,
    options: &RestoreOptions,
    cx: &Context,
) -> Result<Vec<PathBuf>, Fault> {
    let options = RestoreOptions {
        overwrite: Overwrite::IfChanged,
        ..options.clone()
    };
    let plan = restore::plan(repo, from, &options, &cx.progress())?;
    let steps = plan.steps.into_iter();
    Ok(steps
        .filter(|step| step.action == Action::Replace && step.kind != Kind::Dir)
        .map(|step| step.path)
        .collect())
}

fn data(
    call: &Call<'_>,
    repo: &Repository,
    from: &Snapshot,
    name: &str,
    plan: &RestorePlan,
    kept: &[PathBuf],
) -> Value {
    let created = plan
        .steps
        .iter()
        .filter(|step| step.action == Action::Create)
        .count();
    let replaced = plan
        .steps
        .iter()
        .filter(|step| step.action == Action::Replace && step.kind != Kind::Dir);
    let replaced = replaced.map(|step| (step.path.as_path(), "overwrite"));
    let all: Vec<(&Path, &str)> = replaced
        .chain(kept.iter().map(|path| (path.as_path(), "skip")))
        .collect();
    let (shown, more) = first(&all, SHOWN);
    let conflicts: Vec<Value> = shown
        .iter()
        .map(|(path, action)| {
            let mut one = json!({"path": call.cx.shown_absolute(path), "action": action});
            let standing = path
                .symlink_metadata()
                .ok()
                .and_then(|metadata| metadata.modified().ok());
            if let Some(time) = standing {
                one["existingModified"] = crate::ui::when::utc(time.into()).into();
            }
            if let Some(time) = stored_time(repo, from, path) {
                one["backupModified"] = time.into();
            }
            one
        })
        .collect();
    let others = plan
        .skipped
        .iter()
        .chain(&plan.problems)
        .filter(|note| note.reason != "it exists already");
    let others: Vec<Value> = others
        .take(SHOWN)
        .map(|note| json!({"path": call.cx.shown_absolute(note.path.as_path()), "reason": note.reason}))
        .collect();
    json!({
        "success": true,
        "backupId": name,
        "operation": "dry-run",
        "changes": {
            "filesRestored": 0,
            "filesSkipped": plan.unchanged - plan.unchanged_dirs + plan.skipped.len() as u64,
            "bytesRestored": 0,
            "conflicts": conflicts,
            "moreConflicts": more,
        },
        "plan": {"create": created, "replace": plan.steps.len() - created, "delete": 0},
        "notRestored": others,
        "duration": call.elapsed_ms(),
        "warnings": [],
    })
}

/// Returns when a file was changed last, as the snapshot has it.
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
    Some(crate::ui::when::utc(time))
}
