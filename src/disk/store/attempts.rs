//! Attempts at a request: what went wrong with one, and whether another can help.

use std::time::Duration;

use super::pace;
use super::{Conduct, StoreError, StoreResult, Trouble};

/// What went wrong with one attempt.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) error: StoreError,
    /// How long the server asks to wait.
    pub(super) wait: Option<Duration>,
    /// No answer in time, as opposed to one that says no.
    pub(super) is_timeout: bool,
    /// The server has certainly not done it.
    pub(super) is_refused: bool,
    /// What the server answered, if it speaks HTTP.
    pub(super) status: Option<u16>,
    /// An attempt before may have been carried out without an answer.
    pub(super) is_unclear: bool,
}

/// Returns what came of writing an object. If there is one of that name, an attempt before may have
/// arrived, although nobody said so: then what is there decides.
pub(super) fn arrived(
    put: Result<(), Failed>,
    bytes: &[u8],
    get: impl FnOnce() -> StoreResult<Vec<u8>>,
) -> StoreResult<()> {
    match put {
        Err(failed) if failed.error.trouble == Trouble::Exists && failed.is_unclear => {
            match get() {
                Ok(there) if there == bytes => Ok(()),
                _ => Err(failed.error),
            }
        }
        put => put.map_err(|failed| failed.error),
    }
}

impl Failed {
    pub(super) fn new(trouble: Trouble, said: impl Into<String>) -> Self {
        Self {
            error: StoreError::new(trouble, said),
            wait: None,
            is_timeout: false,
            is_refused: false,
            status: None,
            is_unclear: false,
        }
    }

    pub(super) fn refused(trouble: Trouble, said: impl Into<String>) -> Self {
        Self {
            is_refused: true,
            ..Self::new(trouble, said)
        }
    }

    pub(super) fn timeout(said: impl Into<String>) -> Self {
        Self {
            is_timeout: true,
            ..Self::new(Trouble::Unreachable, said)
        }
    }
}

/// Counts the attempts at one thing.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: u32,
    timeouts: u32,
    is_unclear: bool,
}

impl Attempts {
    /// Waits for the next attempt, or gives the failure back if there should be none.
    pub(super) fn after(&mut self, mut failed: Failed, conduct: &Conduct) -> Result<(), Failed> {
        self.made += 1;
        self.timeouts += u32::from(failed.is_timeout);
        failed.is_unclear = self.is_unclear;
        self.is_unclear |= !failed.is_refused;
        let may_help = matches!(failed.error.trouble, Trouble::Busy | Trouble::Unreachable);
        // Whoever did not answer within the deadline twice will not.
        if !may_help || conduct.is_stopped() || self.made >= conduct.attempts || self.timeouts >= 2
        {
            return Err(failed);
        }
        match pace::sleep(pause(conduct, self.made, failed.wait), conduct) {
            true => Ok(()),
            false => Err(failed),
        }
    }

    /// Something was achieved: failures before it do not count any more.
    #[cfg(feature = "opendal")]
    pub(super) fn progress(&mut self) {
        self.made = 0;
        self.timeouts = 0;
    }
}

/// Carries something out, again where that can help.
pub(super) fn repeat<T>(
    conduct: &Conduct,
    mut once: impl FnMut() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut attempts = Attempts::default();
    loop {
        match once() {
            Ok(value) => return Ok(value),
            Err(failed) => attempts.after(failed, conduct)?,
        }
    }
}

/// Returns how long to wait before the next attempt: twice as long each time, give or take, so that
/// many machines do not come back at once.
fn pause(conduct: &Conduct, made: u32, asked: Option<Duration>) -> Duration {
    let whole = conduct.pause * 2_u32.saturating_pow(made.saturating_sub(1).min(8));
    let mut random = [0; 1];
    let _ = getrandom::fill(&mut random);
    let jittered = whole.mul_f64(0.5 + f64::from(random[0]) / 512.0);
    let asked = asked.unwrap_or_default();
    jittered.max(asked).min(conduct.patience)
}

/// Makes one line of what somebody else said, of a length that can be read.
pub(super) fn one_line(text: &str) -> String {
    let text: Vec<&str> = text.split_whitespace().collect();
    let mut text = text.join(" ");
    text.retain(|c| !c.is_control());
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Returns the name under which an object is written until it is whole, next to its own.
pub(super) fn unfinished_name(key: &str) -> Result<String, StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::new(Trouble::Other, error.to_string()))?;
    let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
    let slash = if directory.is_empty() { "" } else { "/" };
    let name = format!("{}{}", super::UNFINISHED, hex::encode(random));
    Ok(format!("{directory}{slash}{name}"))
}
