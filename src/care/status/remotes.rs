//! What is known of destinations without asking them.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Trouble;
use crate::disk::store::Location;
use crate::model::config::{Config, Remote};
use crate::model::retention::Policy;
use crate::remote::ledger::{At, Machine, Purged, There};
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
    /// What a look at its directory says; `None` if it is none of this machine.
    pub there: Option<There>,
    /// Why the last push failed, if it did.
    pub failed: Option<String>,
    /// Records that somebody else wrote there, since a person looked last.
    pub strangers: u64,
    /// A push replaced what was found to be secret, and that is not gone yet.
    pub purged: Option<Purged>,
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
    let status = |remote: &Remote| {
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
            there: there(remote, dir, at.number),
            failed: at.failed,
            strangers: at.strangers.len() as u64,
            purged: Purged::read(&dir.join(&remote.name)),
            level: Known::read(&dir.join(&remote.name), &remote.url)
                .map(|known| known.probed.level),
            pruner: Pruner::of(remote, pruned.as_ref()),
            pruned,
            keep: remote.keep.clone(),
        }
    };
    config.remotes.iter().map(status).collect()
}

/// Looks at a destination that is a directory; whatever is elsewhere is not asked.
fn there(remote: &Remote, dir: &Path, number: u64) -> Option<There> {
    let directory = Location::parse(&remote.url).ok()?.directory()?;
    let machine = Machine::known(dir).map(|machine| machine.id);
    let pushed = machine.filter(|_| number > 0).map(|id| (id, number));
    let (say, heard) = std::sync::mpsc::sync_channel(1);
    // A share whose server is away can keep whoever looks waiting for ever.
    std::thread::spawn(move || say.send(There::look(&directory, pushed)));
    Some(heard.recv_timeout(ANSWER).unwrap_or(There::Silent))
}

/// A directory that does not answer by then is not waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// After so long without a prune that went well, it is said.
const UNPRUNED: TimeDelta = TimeDelta::days(3);

impl RemoteStatus {
    /// Returns why nothing is removed there any more, if it should be.
    pub fn prune_trouble(&self, now: DateTime<Utc>) -> Option<&str> {
        why_not_pruned(self.pruner, self.pruned.as_ref(), now)
    }

    /// Returns what is wrong with it.
    pub fn troubles(&self, now: DateTime<Utc>) -> Vec<Trouble> {
        let is_late = self.behind_since.is_some_and(|since| now - since > BEHIND);
        let late = (self.automatic && is_late).then(|| Trouble::NotPushed {
            name: self.name.clone(),
            last: self.pushed,
        });
        let unpruned = self.prune_trouble(now).map(|_| Trouble::NotPruned {
            name: self.name.clone(),
            last: self.pruned.as_ref().and_then(|last| last.done),
        });
        let foreign = foreign(&self.name, self.strangers);
        let emptied = (self.there == Some(There::Emptied)).then(|| Trouble::Emptied {
            name: self.name.clone(),
        });
        let all = late.into_iter().chain(unpruned).chain(foreign);
        all.chain(emptied).collect()
    }
}

fn why_not_pruned(pruner: Pruner, last: Option<&Last>, now: DateTime<Utc>) -> Option<&str> {
    let last = last?;
    // One that has never gone well has had time as well.
    let is_late = last
        .done
        .or(last.first)
        .is_none_or(|at| now - at > UNPRUNED);
    let failed = last.failed.as_deref();
    failed.filter(|_| pruner == Pruner::Itself && is_late)
}

fn foreign(name: &str, records: u64) -> Option<Trouble> {
    (records > 0).then(|| Trouble::WrittenByOthers {
        name: name.to_owned(),
        records,
    })
}

/// Returns what is wrong with destinations by the last pushes and prunes alone, for alerts.
pub fn failing(config: &Config, dir: &Path, now: DateTime<Utc>) -> Vec<Trouble> {
    let failing = |remote: &Remote| {
        let name = &remote.name;
        let at = At::read(&dir.join(name)).unwrap_or_default();
        let is_old = at.pushed.is_none_or(|pushed| now - pushed > BEHIND);
        let late = remote.automatic && at.failed.is_some() && is_old;
        let late = late.then(|| Trouble::NotPushed {
            name: name.clone(),
            last: at.pushed,
        });
        let last = Last::read(&dir.join(name), &remote.url);
        let pruner = Pruner::of(remote, last.as_ref());
        let unpruned = why_not_pruned(pruner, last.as_ref(), now).map(|_| Trouble::NotPruned {
            name: name.clone(),
            last: last.as_ref().and_then(|last| last.done),
        });
        let foreign = foreign(name, at.strangers.len() as u64);
        let all = late.into_iter().chain(unpruned).chain(foreign);
        all.collect::<Vec<_>>()
    };
    config.remotes.iter().flat_map(failing).collect()
}
