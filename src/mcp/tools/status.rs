//! `get_backup_status`.

use bdr::care::runs::{Outcome as Ran, Run};
use bdr::care::status::Level;
use bdr::model::schedule::Job;
use bdr::repo::summaries::Summary;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Outcome, backup_id, is_listed};
use super::super::fault::Fault;
use super::cleanup;
use super::figures::{kind, statistics};
use super::schedule;
use crate::app::context::Context;
use crate::app::status::{Seen, look, words};
use crate::ui::{plural, when};

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let seen = look(call.cx, None, false)?;
    let mut data = data(call.cx, &seen);
    if call.args.flag("includeSchedules")? == Some(true) {
        data["schedules"] = schedule::overview(call.cx);
    }
    if call.args.flag("includeRetention")? == Some(true) {
        let retention = cleanup::overview(call)?;
        data["status"]["retentionStatus"] = json!({"dailyBackups": retention["daily"], "weeklyBackups": retention["weekly"],
            "monthlyBackups": retention["monthly"], "expiredBackups": retention["expired"]});
        data["retention"] = retention;
    }
    if call.args.flag("includeLogs")? == Some(true) || call.args.has("logLimit") {
        let most = call.args.number("logLimit", 1, 100)?.unwrap_or(10) as usize;
        data["logs"] = seen.runs.iter().rev().take(most).map(log).collect();
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
    let issues: Vec<String> = status
        .troubles
        .iter()
        .map(|trouble| {
            let told = words::trouble(trouble, status.now);
            format!("{}: {told}. Next: {}", trouble.word(), trouble.fix())
        })
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
        .map(|summary| short(summary))
        .collect();
    json!({
        "success": true,
        "health": {"status": health, "summary": words::sentence(status), "issues": issues},
        "status": {
            "systemHealth": health,
            "lastBackup": backups.last().map(|summary| last(summary, &seen.runs)),
            "nextScheduledBackup": schedule::next(cx).map(|(id, time)| json!({"scheduleName": id, "scheduledTime": time})),
            "storageUsage": usage(seen, &backups),
            "recentActivity": activity(seen, &backups),
        },
        "sources": status.sources.iter().map(|source| json!({"name": source.name, "path": cx.shown_absolute(&source.path), "exists": source.exists,
            "backedUp": source.backed_up.map(when::utc)})).collect::<Vec<_>>(),
        "statistics": statistics(&backups),
        "recentBackups": recent,
        "warnings": issues,
    })
}

fn short(summary: &Summary) -> Value {
    json!({"backupId": backup_id(summary.id, summary.time), "type": kind(summary.kind), "created": when::utc(summary.time),
        "fileCount": summary.stats.files, "totalSize": summary.stats.bytes})
}

/// Returns the last backup, and what came of the last try.
fn last(summary: &Summary, runs: &[Run]) -> Value {
    let tried = runs.iter().rfind(|run| is_backup(run));
    let mut last = short(summary);
    last["status"] = match tried.is_none_or(Run::succeeded) {
        true => "success".into(),
        false => "failure".into(),
    };
    last["duration"] = summary.stats.elapsed_ms.into();
    last
}

fn is_backup(run: &Run) -> bool {
    matches!(run.job, Job::Backup | Job::Full)
}

/// Returns what backups take of the storage, and how much they may.
fn usage(seen: &Seen, backups: &[&Summary]) -> Value {
    let totals = statistics(backups);
    let mut usage = json!({
        "totalBackups": backups.len(),
        "totalSize": totals["totalSize"],
        "totalSizeCompressed": totals["totalCompressedSize"],
        "averageCompressionRatio": totals["compressionRatio"],
        "oldestBackup": totals["oldestBackup"],
        "newestBackup": totals["newestBackup"],
    });
    if let Some(storage) = seen.status.storage {
        usage["used"] = storage.used.into();
        usage["max"] = storage.max.into();
        usage["percent"] = storage.percent().into();
    }
    usage
}

fn activity(seen: &Seen, backups: &[&Summary]) -> Value {
    let now = seen.status.now;
    let since = |days: i64| now - TimeDelta::days(days);
    let made = |days: i64| {
        backups
            .iter()
            .filter(|summary| summary.time >= since(days))
            .count()
    };
    let failures = seen
        .runs
        .iter()
        .filter(|run| is_backup(run) && run.time >= since(7) && run.outcome == Ran::Failed)
        .count();
    let took: Vec<u64> = backups
        .iter()
        .filter(|summary| summary.time >= since(30))
        .map(|summary| summary.stats.elapsed_ms)
        .collect();
    let mean = took.iter().sum::<u64>() / took.len().max(1) as u64;
    json!({"backupsLast7Days": made(7), "backupsLast30Days": made(30), "failuresLast7Days": failures, "averageBackupDuration": mean})
}

/// Returns a run as a line of a log.
fn log(run: &Run) -> Value {
    let level = match run.outcome {
        Ran::Done => "info",
        Ran::Partial | Ran::Skipped => "warning",
        Ran::Failed => "error",
    };
    let mut message = format!("{}, started by {}", run.outcome.word(), run.by);
    if run.files > 0 {
        message.push_str(&format!(", {}", plural(run.files, "file")));
    }
    if run.problems > 0 {
        message.push_str(&format!(", {}", plural(run.problems, "problem")));
    }
    if let Some(error) = &run.error {
        message.push_str(&format!(": {error}"));
    }
    json!({"timestamp": when::utc(run.time), "level": level, "operation": run.job.word(), "message": message, "durationMs": run.elapsed_ms})
}
