//! What is known of destinations without asking them.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::Trouble;
use crate::model::config::Config;
use crate::model::retention::Policy;
use crate::remote::ledger::At;
use crate::remote::level::{Known, Level};
use crate::remote::prune::{Last, Pruner};
use crate::repo::summaries::Summary;

/// Snapshots that wait longer for a push are news.
const BEHIND: TimeDelta = TimeDelta::hours(26);

/// A destination, as far as this machine knows.
#[derive(Debug, Clone)]
pub struct RemoteStatus {
    pub name: String,
    pub url: String,
    pub automatic: bool,
    pub encrypted: bool,
    /// The last push that went well.
    pub pushed: Option<DateTime<Utc>>,
    /// Snapshots that are there.
    pub snapshots: u64,
    /// Bytes of objects that are there.
    pub bytes: u64,
    /// Snapshots here that are newer than the newest there: what a loss of this machine would cost.
    pub behind: u64,
    /// When the oldest of them was taken.
    pub behind_since: Option<DateTime<Utc>>,
    /// Why the last push failed, if it did.
    pub failed: Option<String>,
    /// How safe it is from this machine, if that was tried.
    pub level: Option<Level>,
    /// Who removes what is old there, and what came of it last.
    pub pruner: Pruner,
    pub pruned: Option<Last>,
    /// What stays there; `None`: everything.
    pub keep: Option<Policy>,
}

/// Returns what is known of the configured destinations. `dir` has a directory for each.
pub fn remotes(config: &Config, dir: &Path, summaries: &[Summary]) -> Vec<RemoteStatus> {
    let status = |remote: &crate::model::config::Remote| {
        let at = At::read(&dir.join(&remote.name));
        // Another place is another destination.
        let at = at.filter(|at| at.url.is_empty() || at.url == remote.url);
        let at = at.unwrap_or_default();
        let pruned = Last::read(&dir.join(&remote.name), &remote.url);
        let is_new = |summary: &&Summary| Some((summary.seq, summary.id)) > at.newest;
        let behind: Vec<&Summary> = summaries.iter().filter(is_new).collect();
        RemoteStatus {
            name: remote.name.clone(),
            url: remote.url.clone(),
            automatic: remote.automatic,
            encrypted: !remote.recipients.is_empty(),
            pushed: at.pushed,
            snapshots: at.snapshots,
            bytes: at.bytes,
            behind: behind.len() as u64,
            behind_since: behind.iter().map(|summary| summary.time).min(),
            failed: at.failed,
            level: Known::read(&dir.join(&remote.name), &remote.url)
                .map(|known| known.probed.level),
            pruner: Pruner::of(remote, pruned.as_ref()),
            pruned,
            keep: remote.keep.clone(),
        }
    };
    config.remotes.iter().map(status).collect()
}

/// After so long without a prune that went well, it is said.
const UNPRUNED: TimeDelta = TimeDelta::days(3);

impl RemoteStatus {
    /// Returns why nothing is removed there any more, if it should be.
    pub fn prune_trouble(&self, now: DateTime<Utc>) -> Option<&str> {
        let last = self.pruned.as_ref()?;
        let is_late = last.done.is_none_or(|done| now - done > UNPRUNED);
        let failed = last.failed.as_deref();
        failed.filter(|_| self.pruner == Pruner::Itself && is_late)
    }

    /// Returns what is wrong with it, if something is.
    pub fn trouble(&self, now: DateTime<Utc>) -> Option<Trouble> {
        let is_late = self.behind_since.is_some_and(|since| now - since > BEHIND);
        (self.automatic && is_late).then(|| Trouble::NotPushed {
            name: self.name.clone(),
            last: self.pushed,
        })
    }
}

/// Returns what is wrong with destinations by the last pushes alone, for alerts.
pub fn failing(config: &Config, dir: &Path, now: DateTime<Utc>) -> Vec<Trouble> {
    let failing = |remote: &&crate::model::config::Remote| {
        let at = At::read(&dir.join(&remote.name)).filter(|_| remote.automatic)?;
        let is_old = at.pushed.is_none_or(|pushed| now - pushed > BEHIND);
        (at.failed.is_some() && is_old).then(|| Trouble::NotPushed {
            name: remote.name.clone(),
            last: at.pushed,
        })
    };
    config
        .remotes
        .iter()
        .filter_map(|remote| failing(&remote))
        .collect()
}
