//! `bdr settle`: started by guards in the background.

use std::path::Path;
use std::time::{Duration, Instant};

use bdr::model::agent::Host;
use bdr::protect::backup::Level;
#[cfg(target_os = "linux")]
use bdr::protect::calls::Unkept;
use bdr::protect::guard::{self, CloseOptions};
use bdr::protect::staging::settle;
use bdr::repo::Repository;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::SettleDocument;
use crate::app::error::Failure;
use crate::app::exit;
#[cfg(target_os = "linux")]
use crate::app::guard::capture;
use crate::app::guard::tell_settled;
use crate::ui::Ui;

/// Pack what guards kept instead of reading it
///
/// Guards start this by themselves, in the background.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr settle     before you unplug a disk, for example")]
pub(crate) struct SettleArgs {
    /// Leave the processor to others
    #[arg(long)]
    background: bool,
    /// Wait for processes, then close the operation that they belong to
    #[arg(long, hide = true, value_name = "OP", requires = "pids")]
    after: Option<String>,
    /// Go on capturing what a command left running: its filter is stdin
    #[arg(long, hide = true, value_name = "OP")]
    answer: Option<String>,
    /// Overrides what may be kept of it
    #[arg(long, hide = true, requires = "answer")]
    max_bytes: Option<u64>,
    /// What cannot be kept happens all the same
    #[arg(long, hide = true, requires = "answer")]
    on_fail_run: bool,
    /// Processes that are waited for
    #[arg(long, hide = true, value_delimiter = ',')]
    pids: Vec<u32>,
    /// How the command ended
    #[arg(long, hide = true, allow_hyphen_values = true)]
    exit: Option<i32>,
}

/// How long to wait for what a command left running: a server may run for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Waits until all the processes have ended, and closes the operation.
fn close_after(
    cx: &Context,
    repo: &Repository,
    operation: &str,
    args: &SettleArgs,
) -> Result<(), Failure> {
    let began = Instant::now();
    if let Ok(id) = operation.parse() {
        // This one as well: what it waited for is over before the end is written.
        let pids: Vec<u32> = args
            .pids
            .iter()
            .copied()
            .chain([std::process::id()])
            .collect();
        let _ = repo.note_running(id, &pids);
    }
    while args
        .pids
        .iter()
        .any(|pid| bdr::disk::fsutil::process_runs(*pid))
    {
        if began.elapsed() > LONGEST_WAIT {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let open = repo.unfinished_operations()?;
    let begin = open
        .into_iter()
        .find(|begin| begin.id.to_string() == operation);
    if let Some(begin) = begin {
        let waited = chrono::TimeDelta::from_std(began.elapsed()).unwrap_or_default();
        let options = CloseOptions {
            now: cx.now + waited,
            exit: args.exit,
            never: Vec::new(),
        };
        let typed = begin.agent.as_ref();
        let typed = typed.is_some_and(|call| call.host == Host::Shell.word());
        if let Some(operation) = guard::close(repo, begin, &options)?
            && typed
            && !operation.is_undoable()
            && operation.begin.remote.is_empty()
        {
            // As after every line.
            repo.forget(std::slice::from_ref(&operation), &operation)?;
        }
    }
    Ok(())
}

impl SettleArgs {
    /// Captures what a command left running until the last of it has ended; `None` if that is not
    /// asked for.
    pub(crate) fn answer_only(&self, repository: Option<&Path>, ui: Ui) -> Option<i32> {
        let operation = self.answer.as_ref()?;
        #[cfg(target_os = "linux")]
        {
            let unkept = match self.on_fail_run {
                true => Unkept::Goes,
                false => Unkept::Stays,
            };
            let done = capture::go_on_from_stdin(repository, operation, self.max_bytes, unkept, ui);
            if done.is_ok() {
                return Some(exit::OK.into());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (operation, repository, ui, self.max_bytes, self.on_fail_run);
        Some(exit::FAILURE.into())
    }
}

pub(crate) fn run(cx: &Context, args: &SettleArgs) -> Result<u8, Failure> {
    if args.background {
        bdr::disk::fsutil::lower_priority();
    }
    let repo = cx.repository()?;
    if let Some(operation) = &args.after {
        close_after(cx, &repo, operation, args)?;
    }
    let report = settle(&repo, Level::Fast, cx.now, &cx.progress())?;
    if cx.ui.json {
        let data = SettleDocument::new(&report);
        let code = match report.lost + report.waiting {
            0 => exit::OK,
            _ => exit::PARTIAL,
        };
        cx.ui.document("settle", code, &data)?;
    } else if report.sets > 0 {
        let bytes = bdr::base::units::size(report.bytes);
        cx.ui
            .report(&format!("Packed {bytes} that guards kept.\n"))?;
    }
    tell_settled(cx, &report);
    match report.lost + report.waiting {
        0 => Ok(exit::OK),
        _ => Ok(exit::PARTIAL),
    }
}
