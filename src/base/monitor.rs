//! What a verb reports to its observer while it works.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::error::Error;
use crate::base::path::show_bytes;

/// A stretch of work that a person may want to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Finding what changed.
    Scanning,
    /// Reading and storing content.
    Storing,
    Verifying,
    Restoring,
}

/// Observes a verb. Implementations draw, log or record; none may fail.
pub trait Monitor: Sync {
    /// A phase begins; `files` and `bytes` are its expected totals, 0 if unknown.
    fn phase(&self, phase: Phase, files: u64, bytes: u64);
    /// More of the phase is done.
    fn advance(&self, files: u64, bytes: u64);
    /// Something went wrong with one file; the work continues and the result is partial.
    fn problem(&self, path: &[u8], error: &Error);
    /// Returns true if the user wants to stop. Verbs check between files.
    fn stopped(&self) -> bool {
        false
    }
}

pub struct NullMonitor;

impl Monitor for NullMonitor {
    fn phase(&self, _: Phase, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn problem(&self, _: &[u8], _: &Error) {}
}

/// Records everything; for tests and for clients that report afterwards.
#[derive(Default)]
pub struct RecordingMonitor {
    pub problems: Mutex<Vec<String>>,
    pub files: AtomicU64,
    /// Set it to stop the verb.
    pub stop: AtomicBool,
}

impl Monitor for RecordingMonitor {
    fn phase(&self, _: Phase, _: u64, _: u64) {}
    fn advance(&self, files: u64, _: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
    }
    fn problem(&self, path: &[u8], error: &Error) {
        if let Ok(mut problems) = self.problems.lock() {
            problems.push(format!("{}: {error}", show_bytes(path)));
        }
    }
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
