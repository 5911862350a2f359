//! Runs a child as if bdr were not there.

use std::io;
use std::process::{Command, ExitStatus};

/// Spawns and waits.
///
/// The terminal sends its signals to the whole foreground group, the child included: they only must
/// not end bdr before it has recorded what happened. Signals sent to bdr alone are passed on. Exec
/// resets handlers in the child but keeps ignored signals ignored, so `nohup` and background jobs
/// of a shell keep working. With SIGCHLD ignored there would be no status to wait for.
#[cfg(unix)]
pub(crate) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::backend::SignalDelivery;
    use signal_hook::iterator::exfiltrator::SignalOnly;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    let ignored = ignored();
    let handled = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let (wakes, woken) = UnixStream::pair()?;
    let mut signals =
        SignalDelivery::with_pipe(wakes, woken, SignalOnly, handled.chain([SIGCHLD]))?;
    let handle = signals.handle();
    adopt();
    // Start the thread before the command: if that fails, nothing has run.
    let started = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(0));
    let pid = std::sync::Arc::clone(&started);
    std::thread::Builder::new().spawn(move || {
        let pass_on = |signal| {
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
        };
        let mut wait = |wakes: &mut UnixStream| wakes.read(&mut [0]).map(|read| read > 0);
        let mut failures = 0;
        // If waiting for signals fails, they are no longer passed on; the command runs regardless.
        while failures < 100 && !signals.handle().is_closed() {
            match signals.poll_pending(&mut wait) {
                Ok(found) => found.into_iter().flatten().for_each(pass_on),
                Err(_) => failures += 1,
            }
        }
    })?;
    let status = command.spawn().and_then(|mut child| {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        started.store(pid, std::sync::atomic::Ordering::Release);
        ended(&mut child)
    });
    // Do not join the thread: it has nothing left to pass on, and may never notice the close.
    handle.close();
    status
}

/// Returns the command's process id, waiting a moment if it is about to start: a signal that
/// arrives then is meant for it too.
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

/// Waits for the command. Processes that it left behind are children of bdr by then, and those that end
/// before it would stay as zombies. Children of bdr's other threads are waited for there.
#[cfg(target_os = "linux")]
fn ended(child: &mut std::process::Child) -> io::Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::{WaitOptions, wait};

    /// `__WNOTHREAD` of wait(2), which rustix does not name.
    const OF_THIS_THREAD: u32 = 0x2000_0000;
    let own = i32::try_from(child.id()).ok();
    loop {
        match wait(WaitOptions::from_bits_retain(OF_THIS_THREAD)) {
            Ok(Some((pid, status))) if Some(pid.as_raw_pid()) == own => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return child.wait(),
        }
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn ended(child: &mut std::process::Child) -> io::Result<ExitStatus> {
    child.wait()
}

/// Makes processes that the command leaves behind children of bdr when their parent ends; otherwise
/// we could not tell that they still run, nor look at them where only a descendant may be looked at
/// (Yama).
#[cfg(target_os = "linux")]
fn adopt() {
    // If the kernel refuses, nothing changes.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

#[cfg(all(unix, not(target_os = "linux")))]
fn adopt() {}

/// Returns the signals that bdr was started with as ignored, one bit each. Without `/proc` we
/// cannot know, and none counts as ignored.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(not(unix))]
pub(crate) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    command.status()
}

/// Returns the signal that ended the child.
#[cfg(unix)]
pub(crate) fn signal_of(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

#[cfg(not(unix))]
pub(crate) fn signal_of(_status: &ExitStatus) -> Option<i32> {
    None
}
