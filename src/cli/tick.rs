//! `bdr tick`: run by a scheduler. Runs the jobs that are due, and nothing else; other commands do
//! the same if no scheduler did.

use std::ffi::OsString;

use bdr::care::runs::{Memory, Tick};
use bdr::model::schedule::{Job, Schedule};
use chrono::Local;
use clap::Args;

use crate::app::context::Context;
use crate::app::dashboard;
use crate::app::documents::{DueDocument, TickDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::notify;
use crate::app::remotes;
use crate::app::sync;
use crate::app::tick::next;
use crate::ui::when;

/// Do what is due
///
/// A scheduler runs this every hour; `bdr schedule install` sees to it. A backup is due once a day, a full one and a restore drill once a
/// week, retention after each backup. Then what is new is pushed to the destinations. Missed times are made up for once; what failed is tried again after a while. It says nothing unless
/// something fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr tick
  bdr tick --dry-run    print what is due; do nothing")]
pub(crate) struct TickArgs {
    /// Who runs it, for the record
    #[arg(
        long,
        value_name = "NAME",
        default_value = "user",
        hide_default_value = true
    )]
    scheduler: String,
    /// Print what is due; do nothing
    #[arg(long)]
    dry_run: bool,
    /// A variable that the scheduler does not hand on
    #[arg(long, hide = true, value_name = "NAME=VALUE")]
    with: Vec<OsString>,
    /// Only tell whom it concerns, and renew the dashboard
    #[arg(long, hide = true)]
    afterwards: bool,
}

impl TickArgs {
    /// Runs itself again with the variables that came as arguments, if there are any: Windows
    /// schedulers cannot set variables.
    pub(crate) fn run_with_variables(&self) -> Option<i32> {
        if self.with.is_empty() {
            return None;
        }
        let mut command = std::process::Command::new(std::env::current_exe().ok()?);
        let mut args = std::env::args_os().skip(1).peekable();
        while let Some(arg) = args.next() {
            match arg == "--with" {
                true => drop(args.next()),
                false => drop(command.arg(arg)),
            }
        }
        for pair in &self.with {
            let pair = pair.to_string_lossy();
            if let Some((name, value)) = pair.split_once('=') {
                command.env(name, value);
            }
        }
        let status = command.status().ok()?;
        Some(status.code().unwrap_or(exit::FAILURE.into()))
    }
}

pub(crate) fn run(cx: &Context, args: &TickArgs) -> Result<u8, Failure> {
    if args.afterwards {
        notify::tell(cx);
        dashboard::renew(cx);
        return tell(cx, &[]);
    }
    let Some(schedule) = &cx.config.schedule else {
        let message = "no schedule is configured";
        return Err(Failure::usage(message, "bdr schedule install"));
    };
    if args.dry_run {
        return dry_run(cx, schedule);
    }
    let journal = cx.journal();
    let Some(_alone) = journal.tick_lock()? else {
        cx.ui
            .say("bdr: another bdr is running the jobs that are due");
        return tell(cx, &[]);
    };
    let by: String = args
        .scheduler
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    let memory = awake(cx, &by)?;
    let due = schedule.due(&memory.pasts, cx.now, &Local);
    if due.is_empty() {
        remotes::push_automatically(cx);
        sync::automatically(cx);
        // Time alone can make the last backup too old.
        notify::tell(cx);
        return tell(cx, &[]);
    }
    bdr::disk::fsutil::lower_priority();
    let (done, code) = run_due(cx, due, &by)?;
    remotes::push_automatically(cx);
    sync::automatically(cx);
    notify::tell(cx);
    dashboard::renew(cx);
    match code {
        exit::OK => tell(cx, &done),
        code => Ok(code),
    }
}

/// Records that something woke bdr, and returns what each job did last. Backups that were made
/// before there was a schedule count, otherwise the first tick would repeat them all.
fn awake(cx: &Context, by: &str) -> Result<Memory, Failure> {
    let journal = cx.journal();
    let memory = journal.update(|memory| {
        memory.since.get_or_insert(cx.now);
        // A guard that finds something overdue does not prove that the scheduler works.
        if !matches!(by, "guard" | "hook" | "mcp") {
            memory.tick = Some(Tick {
                time: cx.now,
                by: by.to_owned(),
            });
        }
    })?;
    if memory.pasts.backup.success.is_none()
        && let Ok(repo) = cx.repository()
    {
        return Ok(jobs::adopt(&journal, memory, &repo));
    }
    Ok(memory)
}

/// Runs jobs one after the other. Returns which of them went well, and the exit code: one that
/// fails does not stop the next.
fn run_due(cx: &Context, due: Vec<Job>, by: &str) -> Result<(Vec<(Job, bool)>, u8), Failure> {
    let mut done = Vec::new();
    let mut code = exit::OK;
    for job in due {
        // Remove nothing while nothing new arrives.
        let no_backup = done
            .iter()
            .any(|(job, well)| matches!(job, Job::Backup | Job::Full) && !well);
        if no_backup && job != Job::Drill {
            continue;
        }
        // A job that cannot be attempted has neither begun nor failed.
        let pinged = cx.repository().is_ok();
        if pinged {
            notify::ping(cx, job, None);
        }
        let result = jobs::run(cx, job, by);
        if pinged {
            notify::ping(cx, job, Some(matches!(result, Ok(true))));
        }
        done.push((job, matches!(result, Ok(true))));
        match result {
            Ok(true) => {}
            Ok(false) if job == Job::Drill => {
                code = exit::DAMAGED;
                cx.ui.warn("bdr: a test restore failed: bdr drill");
            }
            Ok(false) => {
                code = exit::FAILURE;
                cx.ui.warn("bdr: the backup is empty: bdr status");
            }
            Err(failure) if failure.code() == exit::INTERRUPTED => return Err(failure),
            // Busy, or the disk is not plugged in: later. If it takes too long, people are
            // notified.
            Err(failure) if matches!(failure.code(), exit::BUSY | exit::NO_REPOSITORY) => {}
            Err(failure) => code = failure.tell(&cx.ui),
        }
    }
    Ok((done, code))
}

fn tell(cx: &Context, done: &[(Job, bool)]) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = TickDocument::new(done);
        cx.ui.document("tick", exit::OK, &data)?;
    }
    Ok(exit::OK)
}

fn dry_run(cx: &Context, schedule: &Schedule) -> Result<u8, Failure> {
    let memory = cx.journal().memory();
    let due = schedule.due(&memory.pasts, cx.now, &Local);
    let next = next(schedule, &memory, cx.now);
    if cx.ui.json {
        let data = DueDocument::new(&due, next);
        cx.ui.document("tick", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let text = if due.is_empty() {
        let next = next.map_or_else(|| "never".to_owned(), when::local);
        format!("Nothing is due. Next: {next}.\n")
    } else {
        let words: Vec<&str> = due.iter().map(|job| job.word()).collect();
        format!("Due: {}.\n", words.join(", "))
    };
    cx.ui.data(&text)?;
    Ok(exit::OK)
}
