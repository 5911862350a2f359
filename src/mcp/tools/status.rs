//! `get_backup_status`.

use bdr::repo::summaries::Summary;
use bdr::schedule::Job;
use bdr::status::Level;
use chrono::Local;
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Outcome, backup_id, is_listed};
use super::super::fault::Fault;
use super::cleanup;
use super::create::kind;
use super::list::statistics;
use super::schedule;
use crate::cli::context::Context;
use crate::cli::status::{Seen, look, words};
use crate::ui::when;

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let seen = look(call.cx, None, false)?;
    let mut data = data(call.cx, &seen);
    if call.args.flag("includeSchedules")? == Some(true) {
        data["schedules"] = schedule::overview(call.cx);
    }
    if call.args.flag("includeRetention")? == Some(true) {
        data["retention"] = cleanup::overview(call)?;
    }
    if call.args.flag("includeLogs")? == Some(true) || call.args.has("logLimit") {
        let most = call.args.number("logLimit", 1, 100)?.unwrap_or(10) as usize;
        let runs = seen.runs.iter().rev().take(most).map(|run| {
            json!({"time": when::utc(run.time), "job": run.job.word(), "by": run.by, "outcome": run.outcome.word(), "durationMs": run.elapsed_ms,
                "files": run.files, "problems": run.problems, "error": run.error})
        });
        data["logs"] = runs.collect();
    }
    Ok(Answer::new(data, "").into())
}

/// Returns what `bdr://status` shows.
pub(crate) fn document(cx: &Context) -> Result<Value, Fault> {
    Ok(data(cx, &look(cx, None, false)?))
}

fn data(cx: &Context, seen: &Seen) -> Value {
    let status = &seen.status;
    let health = match status.level {
        Level::Good => "healthy",
        Level::Warning => "warning",
        Level::Critical => "critical",
    };
    let issues: Vec<Value> = status
        .troubles
        .iter()
        .map(|trouble| json!({"code": trouble.word(), "message": words::trouble(trouble, status.now), "fix": trouble.fix()}))
        .collect();
    let backups: Vec<&Summary> = seen
        .summaries
        .iter()
        .filter(|summary| is_listed(summary))
        .collect();
    let recent: Vec<Value> = backups
        .iter()
        .rev()
        .take(5)
        .map(|summary| json!({"backupId": backup_id(summary.id, summary.time), "type": kind(summary.kind), "created": when::utc(summary.time), "fileCount": summary.stats.files}))
        .collect();
    let next = cx
        .config
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.next(Job::Backup, &status.memory.pasts, cx.now, &Local));
    json!({
        "success": true,
        "health": {"status": health, "summary": words::sentence(status), "issues": issues},
        "lastBackup": recent.first(),
        "nextScheduledBackup": next.map(when::utc),
        "storage": status.storage.map(|storage| json!({"used": storage.used, "max": storage.max, "percent": storage.percent()})),
        "sources": status.sources.iter().map(|source| json!({"name": source.name, "path": cx.shown_absolute(&source.path), "exists": source.exists,
            "backedUp": source.backed_up.map(when::utc)})).collect::<Vec<_>>(),
        "statistics": statistics(&backups),
        "recentBackups": recent,
    })
}
