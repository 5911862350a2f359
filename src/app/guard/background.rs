//! Packs the files that a guard kept, in the background.

use std::path::{Path, PathBuf};

use bdr::base::id::OperationId;
use bdr::disk::fsutil::canonicalize;
use bdr::protect::staging::SettleReport;
use bdr::repo::Repository;

use crate::app::background;
use crate::app::context::{Context, variable};
use crate::ui::plural;

/// Starts a process that closes an operation when what it left running ends. Without it the
/// operation stays open, and can be undone all the same.
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

/// Returns the sentence about processes that still run, without the undo command.
pub(crate) fn still_running(running: &[(u32, String)]) -> Option<String> {
    let (_, first) = running.first()?;
    let more = match running.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = bdr::base::path::show_bytes(first.as_bytes());
    Some(format!("still running: `{first}`{more}"))
}

/// Reports what could not be packed.
pub(crate) fn tell(cx: &Context, report: &SettleReport) {
    if report.lost > 0 {
        let files = plural(report.lost, "file");
        let (were, them, these) = match report.lost {
            1 => ("was", "it", "it"),
            _ => ("were", "them", "these"),
        };
        cx.ui.warn(&format!(
            "bdr: {files} {were} written to or deleted before bdr could pack {them}; undo cannot bring {these} back"
        ));
    }
    if let Some(reason) = &report.reason {
        let files = plural(report.waiting, "kept file");
        cx.ui.warn(&format!(
            "bdr: {files} could not be packed yet and stay in the staging area until the next backup: {reason}"
        ));
    }
}

/// Starts packing kept files, if there are any. Nobody waits for it, and if it does not start, the
/// next call tries again.
pub(crate) fn start(cx: &Context, repo: &Repository) {
    if repo.unpacked_sets().is_ok_and(|sets| !sets.is_empty()) {
        background::start(cx, &["settle", "--background"]);
    }
}

/// Returns true if a command's program is the system's own, whose behaviour is known, rather than
/// something else of that name.
pub(crate) fn is_system_rm(name: &std::ffi::OsStr) -> bool {
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
    let system: [&str; 6] = [
        "/bin",
        "/usr/bin",
        "/sbin",
        "/usr/sbin",
        "/nix/store",
        "/gnu/store",
    ];
    found
        .and_then(|file: PathBuf| canonicalize(&file).ok())
        .is_some_and(|file| system.iter().any(|dir| file.starts_with(dir)))
}
