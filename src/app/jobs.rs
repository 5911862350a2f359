//! Runs scheduled jobs and records how they ended, in the same way whether a scheduler, a guard or
//! a person starts them.

use std::path::PathBuf;
use std::time::Instant;

use bdr::ErrorKind;
use bdr::base::id::SnapshotId;
use bdr::care::drill::Drilled;
use bdr::care::prune::{Budget, PruneReport, used_bytes};
use bdr::care::runs::{Journal, Memory, Outcome, Run, Running};
use bdr::care::verify::VerifyReport;
use bdr::model::schedule::Job;
use bdr::repo::Repository;
use bdr::repo::snapshot::SnapshotKind;

use crate::app::background;
use crate::app::backup::{self, BackupRun};
use crate::app::context::Context;
use crate::app::dashboard;
use crate::app::drill;
use crate::app::error::Failure;
use crate::app::prune;

/// What a run reports for the history.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// The job was done, but something was not right.
    pub(crate) partial: bool,
    /// The job ran to its end, but failed.
    pub(crate) failed: bool,
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) problems: u64,
    /// Number of files that changed during every reading.
    pub(crate) torn: u64,
    /// What it stored, if it was a full backup.
    pub(crate) full_bytes: Option<u64>,
    /// What a backup kept out of the repository, as file and kind; `None` if it was no backup.
    pub(crate) excluded: Option<Vec<(PathBuf, String)>>,
}

impl From<&BackupRun> for Came {
    fn from(run: &BackupRun) -> Self {
        let report = &run.report;
        let stats = &report.snapshot.stats;
        Self {
            partial: !report.problems.is_empty()
                || report.snapshot.partial
                || !report.unstable.is_empty(),
            // A source is missing and there is no file at all: nobody would call that a backup.
            failed: stats.files == 0 && !report.problems.is_empty(),
            snapshot: Some(report.snapshot.id),
            files: stats.files,
            bytes: stats.bytes,
            stored_bytes: report.stored_bytes,
            problems: report.problems.len() as u64,
            torn: report.unstable.len() as u64,
            full_bytes: (report.snapshot.kind == SnapshotKind::Full).then_some(report.stored_bytes),
            excluded: Some(report.sealed.excluded.clone()),
        }
    }
}

impl From<&PruneReport> for Came {
    fn from(report: &PruneReport) -> Self {
        Self {
            partial: !report.blocked.is_empty(),
            stored_bytes: report.swept_bytes + report.staged_bytes,
            problems: report.blocked.len() as u64,
            ..Self::default()
        }
    }
}

impl From<&Vec<Drilled>> for Came {
    fn from(drilled: &Vec<Drilled>) -> Self {
        let problems: usize = drilled.iter().map(|d| d.damage.len()).sum();
        Self {
            failed: problems > 0,
            snapshot: drilled.first().map(|d| d.snapshot),
            files: drilled.iter().map(|d| d.files).sum(),
            bytes: drilled.iter().map(|d| d.bytes).sum(),
            problems: problems as u64,
            ..Self::default()
        }
    }
}

impl From<&VerifyReport> for Came {
    fn from(report: &VerifyReport) -> Self {
        Self {
            failed: !report.damage.is_empty(),
            bytes: report.bytes,
            problems: report.damage.len() as u64,
            ..Self::default()
        }
    }
}

/// Runs a job and records it. A failure to record must not stop the job.
pub(crate) fn remember<T>(
    cx: &Context,
    job: Job,
    by: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Outcome), Failure>
where
    for<'a> Came: From<&'a T>,
{
    let journal = cx.journal();
    let pid = std::process::id();
    let before = journal.update(|memory| {
        memory.pasts.begin(job, cx.now);
        memory.running = Some(Running { job, pid });
    });
    let before = before.unwrap_or_default();
    let started = Instant::now();
    let result = work();
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let came = result.as_ref().map(Came::from).unwrap_or_default();
    let outcome = match &result {
        Err(failure) if was_not_tried(failure) => Outcome::Skipped,
        Err(_) => Outcome::Failed,
        Ok(_) if came.failed => Outcome::Failed,
        Ok(_) if came.partial => Outcome::Partial,
        Ok(_) => Outcome::Done,
    };
    let full = came.full_bytes.unwrap_or(before.full_bytes);
    let budget = match outcome {
        Outcome::Skipped => None,
        _ => cx.repository().ok().and_then(|repo| {
            let used = used_bytes(&repo).ok()?;
            Some(Budget::new(
                &repo,
                used,
                cx.config.retention.max_bytes,
                full,
            ))
        }),
    };
    let repository_bytes = budget.map_or(0, |budget| budget.used);
    let run = Run {
        time: cx.now,
        job,
        by: by.to_owned(),
        outcome,
        elapsed_ms,
        error: result
            .as_ref()
            .err()
            .map(|failure| failure.word().to_owned()),
        snapshot: came.snapshot,
        files: came.files,
        bytes: came.bytes,
        stored_bytes: came.stored_bytes,
        repository_bytes,
        problems: came.problems,
        torn: came.torn,
    };
    // If the message fails, `status` still shows it.
    let excluded = came.excluded.as_deref().unwrap_or_default();
    let newly_excluded = match came.excluded.is_some() {
        true => journal.newly_excluded(excluded).unwrap_or(0),
        false => 0,
    };
    let _ = journal.update(|memory| {
        note(memory, &run);
        memory.full_bytes = full;
        memory.max_bytes = budget.map_or(memory.max_bytes, |budget| budget.max);
        memory.newly_excluded += newly_excluded;
    });
    let _ = journal.add(&run);
    // A tick does this itself, once, at its end.
    let concerned = cx.config.notify != bdr::model::config::NotifyConfig::default()
        || dashboard::default_file(cx).exists();
    if by == "user" && concerned {
        background::start(cx, &["tick", "--afterwards"]);
    }
    result.map(|value| (value, outcome))
}

fn note(memory: &mut Memory, run: &Run) {
    memory.running = None;
    match run.outcome {
        Outcome::Done | Outcome::Partial => memory.pasts.succeed(run.job, run.time),
        Outcome::Skipped => memory.pasts.skip(run.job),
        // As before it began.
        Outcome::Failed => {}
    }
    if run.repository_bytes > 0 {
        memory.repository_bytes = run.repository_bytes;
    }
    if matches!(run.job, Job::Backup | Job::Full) && run.succeeded() {
        memory.unread = run.problems;
        memory.torn = run.torn;
    }
    // One that could not look says nothing of what is there.
    if run.job == Job::Verify && run.error.is_none() {
        memory.damage = run.problems;
    }
}

/// Busy, or the destination is away, or somebody pressed Ctrl-C: that does not say whether the job
/// would work.
fn was_not_tried(failure: &Failure) -> bool {
    matches!(failure, Failure::Engine(error) | Failure::Hinted { error, .. }
        if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NoRepository | ErrorKind::Interrupted)
            || matches!(**error, bdr::Error::NoRoom { .. }))
}

/// Runs a job as configured. Returns false if it ran to its end but failed.
pub(crate) fn run(cx: &Context, job: Job, by: &str) -> Result<bool, Failure> {
    let outcome = match job {
        Job::Backup | Job::Full => {
            let wanted = backup::Wanted {
                full: job == Job::Full,
                ..backup::Wanted::default()
            };
            let work = || backup::perform(cx, &cx.repository()?, &wanted);
            remember(cx, job, by, work)?.1
        }
        Job::Prune => remember(cx, job, by, || prune::by_policy(cx, &cx.repository()?))?.1,
        Job::Drill => {
            let work = || drill::perform(cx, &cx.repository()?, &[], None);
            remember(cx, job, by, work)?.1
        }
        // Only on request.
        Job::Verify => Outcome::Skipped,
    };
    Ok(outcome != Outcome::Failed)
}

/// Fills in when the last backup succeeded from the repository, if the history does not know.
pub(crate) fn adopt(journal: &Journal, memory: Memory, repo: &Repository) -> Memory {
    if memory.pasts.backup.success.is_some() {
        return memory;
    }
    let Ok(summaries) = repo.summaries() else {
        return memory;
    };
    let last = |full: bool| {
        let fits = |s: &&bdr::repo::summaries::Summary| {
            s.is_backup() && (!full || s.kind == bdr::repo::snapshot::SnapshotKind::Full)
        };
        summaries.iter().rev().find(fits).map(|s| s.time)
    };
    let (backup, full) = (last(false), last(true));
    let updated = journal.update(|memory| {
        let pasts = &mut memory.pasts;
        pasts.backup.success = pasts.backup.success.max(backup);
        pasts.full.success = pasts.full.success.max(full);
    });
    updated.unwrap_or(memory)
}
