//! What is said of the last prune of a destination, without asking it.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Plan, PruneReport};
use crate::base::error::{Error, Result};
use crate::disk::fsutil;
use crate::model::config::Remote;

/// What came of the last prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Another place is another destination.
    pub url: String,
    /// When this machine pruned there last, and went to the end.
    pub done: Option<DateTime<Utc>>,
    /// When it tried first.
    #[serde(default)]
    pub first: Option<DateTime<Utc>>,
    /// When it tried last.
    pub tried: Option<DateTime<Utc>>,
    /// Snapshots that it removed.
    pub snapshots: u64,
    /// What waits in the trash: objects, bytes, and when the next of it may be removed.
    pub waiting: u64,
    pub waiting_bytes: u64,
    pub next: Option<DateTime<Utc>>,
    /// Objects that the store keeps until their retention ends.
    pub retained: u64,
    /// Objects that these credentials cannot delete.
    pub forbidden: u64,
    /// Snapshots whose needs are not known.
    pub unknown: u64,
    /// Why nothing could be removed, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Last {
    /// Reads it, in the directory of a destination; `None` if there was no prune.
    pub fn read(dir: &Path, url: &str) -> Option<Self> {
        let json = fsutil::read_derived(&dir.join("pruned.json"))?;
        let last: Self = serde_json::from_slice(&json).ok()?;
        (last.url == url).then_some(last)
    }

    /// Forgets it: the destination is another one now.
    pub(in crate::remote) fn forget(dir: &Path) {
        let _ = fsutil::remove_file(&dir.join("pruned.json"));
    }

    /// Writes it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(dir)?;
        fsutil::write_atomic(&dir.join("pruned.json"), &json, 0o600)
    }

    /// Notes what came of a prune.
    pub fn note(&mut self, plan: &Plan, report: &PruneReport, now: DateTime<Utc>) {
        self.failed = plan.blocked.first().cloned();
        if report.is_forbidden {
            self.failed = Some("these credentials cannot delete there".to_owned());
        }
        if self.failed.is_none() {
            self.done = Some(now);
            self.snapshots = report.snapshots;
        }
        (self.waiting, self.waiting_bytes) = report.waiting;
        self.next = report.next;
        self.retained = report.retained.0;
        self.forbidden = report.forbidden.0;
        self.unknown = plan.unknown;
    }
}

/// Who removes at a destination what its retention does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruner {
    /// bdr by itself, after a push, once a day.
    Itself,
    /// Somebody with `bdr prune --remote`.
    Hand,
    Nobody,
}

impl Pruner {
    /// Returns who it is.
    pub fn of(remote: &Remote, last: Option<&Last>) -> Self {
        match (remote.keep.is_some() && remote.automatic, last) {
            (true, _) => Self::Itself,
            (false, Some(_)) => Self::Hand,
            (false, None) => Self::Nobody,
        }
    }

    /// Returns a stable word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Itself => "bdr",
            Self::Hand => "hand",
            Self::Nobody => "nobody",
        }
    }
}
