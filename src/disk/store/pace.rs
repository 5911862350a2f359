//! Spreads transfers over time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Conduct;

#[derive(Debug)]
pub(super) struct Pace {
    limit: Option<u64>,
    next: Mutex<Instant>,
    conduct: Conduct,
}

/// How often to look whether the user wants to stop.
const LOOKS: Duration = Duration::from_millis(100);

impl Pace {
    pub(super) fn new(conduct: &Conduct) -> Self {
        Self {
            limit: conduct.limit.filter(|limit| *limit > 0),
            next: Mutex::new(Instant::now()),
            conduct: conduct.clone(),
        }
    }

    /// Waits until so many more bytes may be sent or received; returns false if the user wants to stop.
    #[must_use]
    pub(super) fn wait(&self, bytes: usize) -> bool {
        let Some(limit) = self.limit else {
            return !self.conduct.is_stopped();
        };
        let begin = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*next).max(Instant::now());
            *next = begin + Duration::from_secs_f64(bytes as f64 / limit as f64);
            begin
        };
        sleep(
            begin.saturating_duration_since(Instant::now()),
            &self.conduct,
        )
    }

    /// Returns how long a request with that much content may take.
    pub(super) fn deadline(&self, conduct: &Conduct, bytes: u64) -> Duration {
        let limit = self.limit.unwrap_or(u64::MAX);
        // Others may use the same limit at the same time.
        let slowest = conduct.slowest.min(limit.div_ceil(4)).max(1);
        conduct.patience * 2 + Duration::from_secs(bytes / slowest)
    }
}

/// Sleeps; returns false if the user wants to stop.
pub(super) fn sleep(long: Duration, conduct: &Conduct) -> bool {
    let end = Instant::now() + long;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if conduct.is_stopped() || left.is_zero() {
            return !conduct.is_stopped();
        }
        std::thread::sleep(left.min(LOOKS));
    }
}

/// What is said of a transfer that the user stopped.
pub(super) const STOPPED: &str = "it was interrupted";
