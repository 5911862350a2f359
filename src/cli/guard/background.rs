//! Work that need not be waited for: packing what a guard kept.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bdr::base::id::OperationId;
use bdr::disk::fsutil::canonicalize;
use bdr::model::agent::Host;
use bdr::protect::backup::Level;
use bdr::protect::guard::{self, CloseOptions};
use bdr::protect::staging::{SettleReport, settle};
use bdr::repo::Repository;
use clap::Args;
use serde_json::json;

use crate::cli::background;
use crate::cli::context::{Context, variable};
use crate::cli::error::Failure;
use crate::cli::exit;
use crate::ui::plural;

/// Pack what guards kept instead of reading it
///
/// Guards start this by themselves, in the background.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr settle     before a disk is taken away, for example")]
pub(crate) struct SettleArgs {
    /// Leave the processor to others
    #[arg(long)]
    background: bool,
    /// Wait for processes, then close the operation that they belong to
    #[arg(long, hide = true, value_name = "OP", requires = "pids")]
    after: Option<String>,
    /// Processes that are waited for
    #[arg(long, hide = true, value_delimiter = ',')]
    pids: Vec<u32>,
    /// How the command ended
    #[arg(long, hide = true, allow_hyphen_values = true)]
    exit: Option<i32>,
}

/// How long what a command left running is waited for: a server may run for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Waits until none of the processes runs any more, and closes the operation.
fn close_after(
    cx: &Context,
    repo: &Repository,
    operation: &str,
    args: &SettleArgs,
) -> Result<(), Failure> {
    let began = Instant::now();
    if let Ok(id) = operation.parse() {
        // This one as well: what was waited for is over before its end is written.
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

/// Starts a process that closes an operation when what it left running ends. Without one the operation stays open, which is undoable all the same.
pub(crate) fn close_later(
    cx: &Context,
    repo: &Repository,
    id: OperationId,
    running: &[(u32, String)],
    exit: Option<i32>,
) {
    let pids: Vec<u32> = running.iter().map(|(pid, _)| *pid).collect();
    let _ = repo.note_running(id, &pids);
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let (operation, pids) = (id.to_string(), pids.join(","));
    let mut args = vec![
        "settle",
        "--background",
        "--after",
        &operation,
        "--pids",
        &pids,
    ];
    let exit = exit.map(|exit| exit.to_string());
    if let Some(exit) = &exit {
        args.extend(["--exit", exit]);
    }
    background::start(cx, &args);
}

/// Returns what is said of what runs on, but for its undo.
pub(crate) fn still_running(running: &[(u32, String)]) -> Option<String> {
    let (_, first) = running.first()?;
    let more = match running.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = bdr::base::path::show_bytes(first.as_bytes());
    Some(format!("still running: `{first}`{more}"))
}

/// Packs what is kept.
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
        let data = json!({
            "sets": report.sets, "bytes": report.bytes, "lost": report.lost,
            "waiting": report.waiting, "reason": report.reason,
        });
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
    tell(cx, &report);
    match report.lost + report.waiting {
        0 => Ok(exit::OK),
        _ => Ok(exit::PARTIAL),
    }
}

/// Says what of it could not be packed.
pub(crate) fn tell(cx: &Context, report: &SettleReport) {
    if report.lost > 0 {
        let files = plural(report.lost, "file");
        cx.ui.warn(&format!(
            "bdr: {files} had been written to or deleted before bdr could pack what it kept; undo will not bring these back"
        ));
    }
    if let Some(reason) = &report.reason {
        let files = plural(report.waiting, "kept file");
        cx.ui.warn(&format!(
            "bdr: {files} could not be packed yet, and stay where they are until the next backup: {reason}"
        ));
    }
}

/// Starts packing what is kept, if there is something; nobody waits for it, and failing to start it costs nothing: the next call does it.
pub(crate) fn start(cx: &Context, repo: &Repository) {
    if repo.unpacked_sets().is_ok_and(|sets| !sets.is_empty()) {
        background::start(cx, &["settle", "--background"]);
    }
}

/// Returns true if a command's program is the system's own, not something else of that name: what it does is known.
pub(super) fn is_system_rm(name: &std::ffi::OsStr) -> bool {
    let typed = Path::new(name);
    if !matches!(
        typed.file_name().and_then(|n| n.to_str()),
        Some("rm" | "unlink")
    ) {
        return false;
    }
    let found = if typed.components().count() > 1 {
        typed.is_absolute().then(|| typed.to_path_buf())
    } else {
        let path = variable("PATH").unwrap_or_default();
        let mut dirs = std::env::split_paths(&path).map(|dir| dir.join(typed));
        dirs.find(|file| file.is_file())
    };
    let system: [&str; 5] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/nix/store"];
    found
        .and_then(|file: PathBuf| canonicalize(&file).ok())
        .is_some_and(|file| system.iter().any(|dir| file.starts_with(dir)))
}
