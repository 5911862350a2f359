//! Work for which nobody has to wait, in a process of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use crate::app::context::{Context, variable};

/// Starts bdr with `args` on the same repository without waiting for it. Returns false if it did
/// not start; then the next call does the work.
pub(crate) fn start(cx: &Context, args: &[&str]) -> bool {
    let off = variable("BDR_BACKGROUND").is_some_and(|v| v == "0");
    let Some(program) = std::env::current_exe().ok().filter(|_| !off) else {
        return false;
    };
    let mut command = Process::new(program);
    command
        .args(args)
        .args([OsStr::new("--quiet"), OsStr::new("--repository")])
        .arg(&cx.places.repository)
        // A current directory on a disk would keep that from being unmounted.
        .current_dir(cx.places.cache.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().is_ok()
}
