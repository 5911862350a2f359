//! The process: environment variables, its own program, clock, signals and limits.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bdr::base::error::IoContext as _;
use bdr::disk::fsutil::canonicalize;
use chrono::{DateTime, Utc};

use crate::app::error::Failure;

/// Returns an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the path of bdr: the name under which it was installed, not the versioned file to which
/// that may link.
pub(crate) fn own_program() -> Option<PathBuf> {
    let real = std::env::current_exe().ok()?;
    let called = std::env::args_os().next().map(PathBuf::from)?;
    let same = |path: &PathBuf| canonicalize(path).ok() == canonicalize(&real).ok();
    let in_path = || {
        let dirs = variable("PATH")?;
        std::env::split_paths(&dirs)
            .map(|dir| dir.join("bdr"))
            .find(|file| file.is_absolute() && same(file))
    };
    let typed = Some(called).filter(|called| called.is_absolute() && same(called));
    typed.or_else(in_path).or(Some(real))
}

/// Returns true if this program is the `bdr` that a shell finds.
pub(crate) fn is_on_path() -> bool {
    let real = std::env::current_exe().and_then(canonicalize).ok();
    let first = variable("PATH").and_then(|dirs| {
        std::env::split_paths(&dirs)
            .map(|dir| dir.join("bdr"))
            .find(|file| file.is_file())
    });
    real.is_some() && first.and_then(|file| canonicalize(file).ok()) == real
}

/// Returns the name of the parent program, if the system has it in a file.
pub(crate) fn parent_name() -> Option<String> {
    #[cfg(unix)]
    let name = std::fs::read_to_string(format!(
        "/proc/{}/comm",
        std::os::unix::process::parent_id()
    ));
    #[cfg(not(unix))]
    let name = Err::<String, _>(std::io::ErrorKind::Unsupported);
    name.ok()
}

pub(crate) fn guard_is_off() -> bool {
    std::env::var_os("BDR").is_some_and(|v| v == "0")
        || variable("BDR_SKIP").is_some_and(|v| v != "0")
}

pub(crate) fn wants_plain() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(unix)]
pub(crate) fn shows_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(variable);
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(not(unix))]
pub(crate) fn shows_unicode() -> bool {
    true
}

/// Returns the current directory, or where it was if it was deleted: an undo restores it.
pub(crate) fn current_dir() -> Result<PathBuf, Failure> {
    let found = std::env::current_dir();
    if found.is_err()
        && let Some(was) = variable("PWD").map(PathBuf::from)
        && was.is_absolute()
    {
        return Ok(was);
    }
    Ok(found.context("find", ".")?)
}

/// Returns the time for what goes on for hours, which began with a valid [`clock`].
#[cfg(target_os = "linux")]
pub(crate) fn now() -> DateTime<Utc> {
    clock().unwrap_or_else(|_| Utc::now())
}

/// Returns the time, or that of `BDR_TEST_NOW`.
pub(super) fn clock() -> Result<DateTime<Utc>, Failure> {
    let Some(text) = variable("BDR_TEST_NOW") else {
        return Ok(Utc::now());
    };
    let parsed = text
        .to_str()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    parsed.map(|time| time.to_utc()).ok_or_else(|| {
        Failure::usage(
            "BDR_TEST_NOW is not a time",
            "BDR_TEST_NOW=2026-11-22T12:00:00Z",
        )
    })
}

/// Returns the name of this machine, or nothing if that would take a process.
pub(super) fn host_name() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_environment = || variable("COMPUTERNAME").or_else(|| variable("HOSTNAME"));
    let name = from_kernel.or_else(|| from_environment()?.into_string().ok());
    name.unwrap_or_default().trim().chars().take(255).collect()
}

/// Turns the limit on file sizes (`ulimit -f`) into an error instead of a fatal signal. Children
/// get it unchanged.
#[cfg(unix)]
pub(super) fn survive_file_limit() {
    let flag = Arc::new(AtomicBool::new(false));
    // Without it the signal ends the process, which is safe.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, flag);
}

#[cfg(not(unix))]
pub(super) fn survive_file_limit() {}

/// The first signal asks the verb to stop between two files; the second ends the process.
#[cfg(unix)]
pub(super) fn stop_on_signals(stop: &Arc<AtomicBool>) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = crate::app::exit::INTERRUPTED.into();
        // The order matters: the conditional one must not see the flag that this same signal sets.
        let ends = signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(stop));
        if ends.is_ok() {
            // Without a handler the signal ends the process at once, which is safe at any
            // instruction too.
            let _ = signal_hook::flag::register(signal, Arc::clone(stop));
        }
    }
}

#[cfg(not(unix))]
pub(super) fn stop_on_signals(_: &Arc<AtomicBool>) {}
