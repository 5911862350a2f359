//! Runs a child as if bdr were not there.

use std::io;
use std::process::{Command, ExitStatus};

/// Spawns and waits.
///
/// The terminal signals the whole foreground group, the child included: those signals only must not end bdr before it has recorded what
/// happened. Signals sent to bdr alone are passed on. Handlers, unlike ignored signals, are reset in the child by exec: what `nohup` or the shell of a
/// background job has set to be ignored stays untouched. With SIGCHLD ignored there would be no status to wait for.
#[cfg(unix)]
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::Signals;

    let ignored = ignored();
    let handled = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(handled.chain([SIGCHLD]))?;
    let handle = signals.handle();
    adopt();
    // The thread before the command: where none can be had, nothing was run.
    let started = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(0));
    let pid = std::sync::Arc::clone(&started);
    let forward = std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let alone = match signal {
                SIGTERM => Some(rustix::process::Signal::TERM),
                SIGHUP => Some(rustix::process::Signal::HUP),
                SIGUSR1 => Some(rustix::process::Signal::USR1),
                SIGUSR2 => Some(rustix::process::Signal::USR2),
                _ => None,
            };
            if let Some(signal) = alone
                && let Some(pid) = number_of(&pid).and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    })?;
    let status = command.spawn().and_then(|mut child| {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        started.store(pid, std::sync::atomic::Ordering::Release);
        child.wait()
    });
    handle.close();
    let _ = forward.join();
    status
}

/// Returns the number of the command, which may just be about to start: a signal that comes then is meant for it, too.
#[cfg(unix)]
fn number_of(started: &std::sync::atomic::AtomicI32) -> Option<i32> {
    for _ in 0..100 {
        match started.load(std::sync::atomic::Ordering::Acquire) {
            0 => std::thread::sleep(std::time::Duration::from_millis(10)),
            number => return Some(number),
        }
    }
    None
}

/// Has what the command leaves behind become bdr's own when its parent ends: else nobody could tell that it still runs.
#[cfg(target_os = "linux")]
fn adopt() {
    // A kernel that refuses leaves everything as it was.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

#[cfg(all(unix, not(target_os = "linux")))]
fn adopt() {}

/// Returns the processes that the command has left behind and that still run, with their names; not those that went away on purpose: in a session of
/// their own, and at work outside of `roots`.
#[cfg(target_os = "linux")]
pub(super) fn left_behind(roots: &[&std::path::Path]) -> Vec<(u32, String)> {
    // What only takes a moment to end is waited for.
    for _ in 0..10 {
        if found_behind(roots).is_empty() {
            return Vec::new();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    found_behind(roots)
}

#[cfg(target_os = "linux")]
fn found_behind(roots: &[&std::path::Path]) -> Vec<(u32, String)> {
    use rustix::process::{WaitOptions, waitpid};
    loop {
        match waitpid(None, WaitOptions::NOHANG) {
            // One that is over.
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => break,
            Err(_) => return Vec::new(),
        }
    }
    let own = std::process::id().to_string();
    let session = stat_of("self").map(|stat| stat.session);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(stat) = stat_of(&pid.to_string()) else {
            continue;
        };
        if stat.parent != own || stat.state == "Z" {
            continue;
        }
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let works_here = roots.iter().any(|root| cwd.starts_with(root));
        if works_here || Some(&stat.session) == session.as_ref() {
            found.push((pid, stat.name));
        }
    }
    found
}

#[cfg(not(target_os = "linux"))]
pub(super) fn left_behind(_roots: &[&std::path::Path]) -> Vec<(u32, String)> {
    Vec::new()
}

#[cfg(target_os = "linux")]
struct ProcessStat {
    name: String,
    state: String,
    parent: String,
    session: String,
}

/// Reads what proc(5) says of a process.
#[cfg(target_os = "linux")]
fn stat_of(pid: &str) -> Option<ProcessStat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (name, rest) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text[rest + 1..].split_whitespace().map(str::to_owned);
    let (state, parent) = (fields.next()?, fields.next()?);
    let _group = fields.next()?;
    Some(ProcessStat {
        name: text[name + 1..rest].to_owned(),
        state,
        parent,
        session: fields.next()?,
    })
}

/// Returns the signals that bdr was started to ignore, one bit each. Without `/proc` they cannot be told, and count as not ignored.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(not(unix))]
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    command.status()
}

/// Returns the signal that ended the child.
#[cfg(unix)]
pub(super) fn signal_of(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

#[cfg(not(unix))]
pub(super) fn signal_of(_status: &ExitStatus) -> Option<i32> {
    None
}
