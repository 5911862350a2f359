//! Finds the jobs that are due, and catches up on missed ones.

use bdr::care::runs::Memory;
use bdr::model::schedule::{Job, Schedule};
use chrono::{DateTime, Local, Utc};

use crate::app::background;
use crate::app::context::Context;
use crate::ui::when;

/// Returns when to expect the next backup.
pub(crate) fn next(
    schedule: &Schedule,
    memory: &Memory,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    schedule.next(Job::Backup, &memory.pasts, now, &Local)
}

/// Starts due jobs in the background if a scheduler should have but did not: called by guards,
/// hooks and the MCP server. Returns a line to print if backups are too old. Costs the reading of
/// one small file.
pub(crate) fn catch_up(cx: &Context, by: &str) -> Option<String> {
    let schedule = cx.config.schedule.as_ref()?;
    let memory = cx.journal().memory();
    let due = schedule.due(&memory.pasts, cx.now, &Local);
    let backup = due.iter().any(|job| matches!(job, Job::Backup | Job::Full));
    let started = backup
        && !cx.config.sources.is_empty()
        && background::start(cx, &["tick", "--scheduler", by]);
    let last = memory.pasts.backup.success;
    // Without a history we know nothing about the existing backups.
    memory.since?;
    if !schedule.is_overdue(last, memory.since, cx.now) {
        return None;
    }
    let since = last.map_or_else(
        || "there is no backup".to_owned(),
        |last| format!("last backup {}", when::ago(cx.now, last)),
    );
    Some(match started {
        true => format!("bdr: {since}; making one now, in the background"),
        false => format!("bdr: {since}: bdr status"),
    })
}
