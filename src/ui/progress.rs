//! The bar: on stderr, on a terminal, after half a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bdr::base::monitor::{Monitor, Phase};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Draws a verb's progress, and passes on that the user wants to stop.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// The bar may still be drawn; false once it is, or if it never may.
    waiting: AtomicBool,
    /// The total of what moves the bar: bytes if the phase knows them, otherwise files.
    total_bytes: AtomicU64,
    stop: Arc<AtomicBool>,
    phase: Mutex<&'static str>,
    relay: Option<Relay>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) phase: &'static str,
    /// Files or bytes of this phase that are done.
    pub(crate) done: u64,
    /// Their total; 0 if unknown.
    pub(crate) total: u64,
}

/// Receives progress, often.
pub(crate) type Relay = Arc<dyn Fn(Told) + Send + Sync>;

impl Progress {
    pub(crate) fn new(bars: bool, stop: Arc<AtomicBool>, relay: Option<Relay>) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            started: Instant::now(),
            waiting: AtomicBool::new(bars),
            total_bytes: AtomicU64::new(0),
            stop,
            phase: Mutex::new(""),
            relay,
        }
    }

    fn tell(&self) {
        if let Some(relay) = &self.relay {
            let phase = self.phase.lock().map_or("", |phase| *phase);
            relay(Told {
                phase,
                done: self.bar.position(),
                total: self.bar.length().unwrap_or(0),
            });
        }
    }

    fn show_if_due(&self) {
        if self.waiting.load(Ordering::Relaxed)
            && self.started.elapsed() >= PATIENCE
            && self.waiting.swap(false, Ordering::Relaxed)
        {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Monitor for Progress {
    fn phase(&self, phase: Phase, files: u64, bytes: u64) {
        let word = match phase {
            Phase::Scanning => "Scanning",
            Phase::Storing => "Storing",
            Phase::Verifying => "Verifying",
            Phase::Restoring => "Restoring",
        };
        let template = match (files, bytes) {
            (0, 0) => "{msg} {human_pos} files",
            (_, 1..) => "{msg} {bar:20} {percent:>3} %  {bytes} of {total_bytes}  {eta} left",
            _ => "{msg} {bar:20} {percent:>3} %  {human_pos} of {human_len} files  {eta} left",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        self.total_bytes.store(bytes, Ordering::Relaxed);
        self.bar.reset();
        self.bar.set_length(if bytes > 0 { bytes } else { files });
        self.bar.set_message(word);
        if let Ok(mut phase) = self.phase.lock() {
            *phase = word;
        }
        self.tell();
        self.show_if_due();
    }

    fn advance(&self, files: u64, bytes: u64) {
        let by_bytes = self.total_bytes.load(Ordering::Relaxed) > 0;
        self.bar.inc(if by_bytes { bytes } else { files });
        self.tell();
        self.show_if_due();
    }

    fn problem(&self, _: &[u8], _: &bdr::Error) {
        // In the report, after the bar is gone.
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
