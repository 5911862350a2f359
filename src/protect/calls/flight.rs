//! Calls that were answered and have not happened yet.
//!
//! An operation is compared with what is there once it is over. A program that was told to go on may
//! not have had the processor since: what it is about to make would be missed.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

/// How many threads are remembered: a call that so many others followed has happened.
const MAX_RECENT: usize = 64;

/// A thread that ran so long since it was answered has made its call.
const RAN: u64 = 1_000_000;

/// How long to wait for a thread that does not get the processor, and for one that waits for a disk.
const READY: Duration = Duration::from_millis(50);
const DISK: Duration = Duration::from_secs(2);

/// Notes that a thread is about to be answered: what it did before has happened.
pub(super) fn answered(recent: &mut VecDeque<u32>, thread: u32) {
    if recent.back() == Some(&thread) {
        return;
    }
    if let Some(at) = recent.iter().position(|known| *known == thread) {
        recent.remove(at);
    } else if recent.len() >= MAX_RECENT {
        recent.pop_front();
    }
    recent.push_back(thread);
}

/// Waits until the calls of these threads have happened.
pub(super) fn landed(recent: &VecDeque<u32>) {
    let start = Instant::now();
    for thread in recent {
        let mut ran = None;
        loop {
            // One that waits for something else, such as its next answer, has made its call.
            let patience = match state(*thread) {
                Some(b'R') => READY,
                Some(b'D') => DISK,
                _ => break,
            };
            let now = run_time(*thread);
            let since = *ran.get_or_insert(now);
            if now >= since + RAN || start.elapsed() > patience {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Returns the state of a thread as in `/proc/PID/stat`: `R` for running or ready, `D` for waiting
/// for a device.
fn state(thread: u32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{thread}/stat")).ok()?;
    let name_ends = memchr::memrchr(b')', &stat)?;
    stat.get(name_ends + 2).copied()
}

/// Returns how long a thread has had a processor, in nanoseconds.
fn run_time(thread: u32) -> u64 {
    let found = fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    let first = found.split(' ').next();
    first
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX / 2)
}
