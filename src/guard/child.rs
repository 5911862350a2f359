//! Runs a child as if bdr were not there.

use std::io;
use std::process::{Command, ExitStatus};

/// Spawns and waits.
///
/// The terminal signals the whole foreground group, the child included: those signals only must not end bdr before it has recorded what
/// happened. Signals sent to bdr alone are passed on. Handlers, unlike ignored signals, are reset in the child by exec.
#[cfg(unix)]
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let handle = signals.handle();
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let forward = std::thread::spawn(move || {
        for signal in signals.forever() {
            let alone = match signal {
                SIGTERM => Some(rustix::process::Signal::TERM),
                SIGHUP => Some(rustix::process::Signal::HUP),
                SIGUSR1 => Some(rustix::process::Signal::USR1),
                SIGUSR2 => Some(rustix::process::Signal::USR2),
                _ => None,
            };
            if let (Some(signal), Some(pid)) = (alone, pid) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    });
    let status = child.wait();
    handle.close();
    let _ = forward.join();
    status
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
