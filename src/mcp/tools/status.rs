//! `get_backup_status`.

use bdr::care::runs::{Outcome as Ran, Run};
use bdr::care::status::{Level, RemoteStatus, SourceStatus, Trouble};
use bdr::model::schedule::Job;
use bdr::repo::summaries::Summary;
use chrono::TimeDelta;
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, backup_id, is_listed};
use super::super::fault::Fault;
use super::cleanup::{self, RetentionOverview};
use super::figures::{Statistics, kind};
use super::schedule::{self, SchedulesOverview};
use crate::app::context::Context;
use crate::app::status::{Seen, look, words};
use crate::ui::{plural, when};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusResult {
    success: bool,
    health: Health,
    status: SystemStatus,
    sources: Vec<SourceLine>,
    /// Where else backups are: what would be left if this machine were lost now.
    destinations: Vec<DestinationLine>,
    statistics: Statistics,
    recent_backups: Vec<Brief>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedules: Option<SchedulesOverview>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<RetentionOverview>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<LogLine>>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    summary: String,
    issues: Vec<String>,
}

/// The status in the form of the specification.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct SystemStatus {
    system_health: &'static str,
    last_backup: Option<Last>,
    next_scheduled_backup: Option<NextBackup>,
    storage_usage: Usage,
    recent_activity: Activity,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_status: Option<RetentionStatus>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Brief {
    backup_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    created: String,
    file_count: u64,
    total_size: u64,
}

/// The last backup, and the outcome of the last attempt.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Last {
    #[serde(flatten)]
    backup: Brief,
    status: &'static str,
    duration: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct NextBackup {
    schedule_name: String,
    scheduled_time: String,
}

/// The space that backups use, and their limit.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Usage {
    total_backups: usize,
    total_size: u64,
    total_size_compressed: u64,
    average_compression_ratio: u64,
    oldest_backup: Option<String>,
    newest_backup: Option<String>,
    #[serde(flatten)]
    limit: Option<Limit>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Limit {
    used: u64,
    max: u64,
    percent: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Activity {
    backups_last7_days: usize,
    backups_last30_days: usize,
    failures_last7_days: usize,
    average_backup_duration: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct RetentionStatus {
    daily_backups: usize,
    weekly_backups: usize,
    monthly_backups: usize,
    expired_backups: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct SourceLine {
    name: String,
    path: String,
    exists: bool,
    backed_up: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct DestinationLine {
    name: String,
    encrypted: bool,
    last_push: Option<String>,
    backups: u64,
    total_size: u64,
    /// Snapshots that are only on this machine.
    behind: u64,
    behind_since: Option<String>,
    /// Why the last push failed.
    error: Option<String>,
    /// How safe it is from this machine, as `bdr remote test` found out.
    protection: Option<&'static str>,
}

impl DestinationLine {
    fn new(remote: &RemoteStatus) -> Self {
        Self {
            name: remote.name.clone(),
            encrypted: remote.encrypted,
            last_push: remote.pushed.map(when::utc),
            backups: remote.snapshots,
            total_size: remote.bytes,
            behind: remote.behind,
            behind_since: remote.behind_since.map(when::utc),
            error: remote.failed.clone(),
            protection: remote.level.map(|level| level.word()),
        }
    }
}

/// A line of the log: one run of a job.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct LogLine {
    timestamp: String,
    level: &'static str,
    operation: &'static str,
    message: String,
    duration_ms: u64,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let seen = look(call.cx, None, false)?;
    let mut result = status(call.cx, &seen);
    if call.args.flag("includeSchedules")? == Some(true) {
        result.schedules = Some(schedule::overview(call.cx));
    }
    if call.args.flag("includeRetention")? == Some(true) {
        let retention = cleanup::overview(call)?;
        result.status.retention_status = Some(RetentionStatus {
            daily_backups: retention.daily,
            weekly_backups: retention.weekly,
            monthly_backups: retention.monthly,
            expired_backups: retention.expired,
        });
        result.retention = Some(retention);
    }
    if call.args.flag("includeLogs")? == Some(true) || call.args.has("logLimit") {
        let most = call.args.number("logLimit", 1, 100)?.unwrap_or(10) as usize;
        result.logs = Some(seen.runs.iter().rev().take(most).map(log).collect());
    }
    Ok(Answer::new(result, "").into())
}

/// Returns the content of `bdr://status`.
pub(crate) fn document(cx: &Context) -> Result<StatusResult, Fault> {
    Ok(status(cx, &look(cx, None, false)?))
}

fn status(cx: &Context, seen: &Seen) -> StatusResult {
    let status = &seen.status;
    let health = match status.level {
        Level::Good => "healthy",
        Level::Warning => "warning",
        Level::Critical => "critical",
    };
    let issue = |trouble: &Trouble| {
        let told = words::trouble(trouble, status.now);
        format!("{}: {told}. Next: {}", trouble.word(), trouble.fix())
    };
    let issues: Vec<String> = status.troubles.iter().map(issue).collect();
    let summaries = seen.summaries.iter();
    let backups: Vec<&Summary> = summaries.filter(|summary| is_listed(summary)).collect();
    let next = schedule::next(cx).map(|next| NextBackup {
        schedule_name: next.schedule_id,
        scheduled_time: next.next_run,
    });
    let source = |source: &SourceStatus| SourceLine {
        name: source.name.to_string(),
        path: cx.shown_absolute(&source.path),
        exists: source.exists,
        backed_up: source.backed_up.map(when::utc),
    };
    StatusResult {
        success: true,
        health: Health {
            status: health,
            summary: words::verdict(seen).sentence,
            issues: issues.clone(),
        },
        status: SystemStatus {
            system_health: health,
            last_backup: backups.last().map(|summary| last(summary, &seen.runs)),
            next_scheduled_backup: next,
            storage_usage: usage(seen, &backups),
            recent_activity: activity(seen, &backups),
            retention_status: None,
        },
        sources: status.sources.iter().map(source).collect(),
        destinations: status.remotes.iter().map(DestinationLine::new).collect(),
        statistics: Statistics::of(&backups),
        recent_backups: backups.iter().rev().take(5).map(|one| brief(one)).collect(),
        warnings: issues,
        schedules: None,
        retention: None,
        logs: None,
    }
}

fn brief(summary: &Summary) -> Brief {
    Brief {
        backup_id: backup_id(summary.id, summary.time),
        kind: kind(summary.kind),
        created: when::utc(summary.time),
        file_count: summary.stats.files,
        total_size: summary.stats.bytes,
    }
}

fn last(summary: &Summary, runs: &[Run]) -> Last {
    let tried = runs.iter().rfind(|run| is_backup(run));
    let succeeded = tried.is_none_or(Run::succeeded);
    Last {
        backup: brief(summary),
        status: if succeeded { "success" } else { "failure" },
        duration: summary.stats.elapsed_ms,
    }
}

fn is_backup(run: &Run) -> bool {
    matches!(run.job, Job::Backup | Job::Full)
}

fn usage(seen: &Seen, backups: &[&Summary]) -> Usage {
    let totals = Statistics::of(backups);
    Usage {
        total_backups: backups.len(),
        total_size: totals.total_size,
        total_size_compressed: totals.total_compressed_size,
        average_compression_ratio: totals.compression_ratio,
        oldest_backup: totals.oldest_backup,
        newest_backup: totals.newest_backup,
        limit: seen.status.storage.map(|storage| Limit {
            used: storage.used,
            max: storage.max,
            percent: storage.percent(),
        }),
    }
}

fn activity(seen: &Seen, backups: &[&Summary]) -> Activity {
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
    Activity {
        backups_last7_days: made(7),
        backups_last30_days: made(30),
        failures_last7_days: failures,
        average_backup_duration: mean,
    }
}

fn log(run: &Run) -> LogLine {
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
    LogLine {
        timestamp: when::utc(run.time),
        level,
        operation: run.job.word(),
        message,
        duration_ms: run.elapsed_ms,
    }
}
