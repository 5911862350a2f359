//! How an operation was protected.

use serde::{Deserialize, Serialize};

/// How the state before an operation was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeping {
    /// By a snapshot of the watched roots, before it.
    Watched,
    /// At each call that destroyed something, wherever that was.
    Capture,
}

impl Keeping {
    /// Returns the word for records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::Capture => "capture",
        }
    }
}

/// How an operation was protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    pub by: Keeping,
    /// Why the watched roots had to do, where capture was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Protection {
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "calls are captured on Linux only")
    )]
    pub(crate) fn by(by: Keeping) -> Option<Self> {
        Some(Self { by, because: None })
    }
}
