//! `status`: the model behind everything that shows the state of protection.

use std::collections::BTreeMap;
use std::path::Path;

use bdr::care::runs::Memory;
use bdr::care::status::{RemoteStatus, Scheduler, SourceStatus, Status, Trouble};
use bdr::model::schedule::Job;
use bdr::remote::ledger::There;
use bdr::remote::level::Level;
use serde::Serialize;

use super::files::snapshot_kind;
use super::paths::At;
use super::{RetentionDocument, SealedDocument};
use crate::app::status::{Seen, words};
use crate::ui::when;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StatusDocument {
    level: &'static str,
    sentence: String,
    troubles: Vec<TroubleDocument>,
    last_backup: Option<LastBackup>,
    next_backup: Option<String>,
    jobs: BTreeMap<&'static str, JobDocument>,
    sources: Vec<SourceDocument>,
    remotes: Vec<RemoteDocument>,
    uncovered: Vec<At>,
    elsewhere: Vec<ElsewhereDocument>,
    storage: Option<StorageDocument>,
    vault: Option<VaultDocument>,
    lifeboat: Option<LifeboatDocument>,
    snapshots: u64,
    backups: u64,
    success_30_days: Rate,
    scheduler: SchedulerDocument,
    operations: Vec<RecentOperation>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TroubleDocument {
    code: &'static str,
    level: &'static str,
    message: String,
    fix: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ElsewhereDocument {
    #[serde(flatten)]
    at: At,
    repositories: u32,
    uncommitted: u32,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LastBackup {
    snapshot: String,
    time: String,
    kind: &'static str,
    partial: bool,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JobDocument {
    last_success: Option<String>,
    last_attempt: Option<String>,
    consecutive_failures: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RemoteDocument {
    name: String,
    url: String,
    automatic: bool,
    encrypted: bool,
    /// As far as bdr knows, the secret key is on this machine alone.
    key_only_here: bool,
    last_push: Option<String>,
    snapshots: u64,
    bytes: u64,
    behind: u64,
    behind_since: Option<String>,
    /// Records that somebody else wrote there, since a person looked last.
    written_by_others: u64,
    replaced: Option<String>,
    not_looked_at: u64,
    /// `here`, `away`, `emptied` or `silent`, for a directory.
    there: Option<&'static str>,
    error: Option<String>,
    level: Option<&'static str>,
    retention: RetentionDocument,
}

impl RemoteDocument {
    fn new(remote: &RemoteStatus, seen: &Seen) -> Self {
        let mut alone = seen.keys_only_here.iter();
        Self {
            name: remote.name.clone(),
            url: remote.url.clone(),
            automatic: remote.automatic,
            encrypted: remote.encrypted,
            key_only_here: alone.any(|(name, _, _)| *name == remote.name),
            last_push: remote.pushed.map(when::utc),
            snapshots: remote.snapshots,
            bytes: remote.bytes,
            behind: remote.behind,
            behind_since: remote.behind_since.map(when::utc),
            written_by_others: remote.strangers,
            replaced: remote.purged.as_ref().map(|purged| when::utc(purged.at)),
            not_looked_at: remote.purged.as_ref().map_or(0, |purged| purged.unseen),
            there: remote.there.map(There::word),
            error: remote.failed.clone(),
            level: remote.level.map(Level::word),
            retention: RetentionDocument::new(
                remote.keep.as_ref(),
                remote.pruner,
                remote.pruned.as_ref(),
            ),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SourceDocument {
    name: String,
    #[serde(flatten)]
    at: At,
    criticality: &'static str,
    exists: bool,
    files: u64,
    bytes: u64,
    backed_up: Option<String>,
    waiting: u64,
    newest_change: Option<String>,
    left_out: BTreeMap<String, u64>,
    sealed: SealedDocument,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StorageDocument {
    used_bytes: u64,
    max_bytes: u64,
    saved_percent: Option<u64>,
    added_bytes_30_days: u64,
    months_left: Option<u64>,
    by_disk: bool,
    trash_bytes: Option<u64>,
    staging_bytes: Option<u64>,
    lifeboat_bytes: Option<u64>,
    left_lifeboat_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VaultDocument {
    values: u64,
    bytes: u64,
    key: String,
    exported: Option<String>,
    only_here: u64,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LifeboatDocument {
    #[serde(flatten)]
    at: At,
    manned: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Rate {
    succeeded: u64,
    tried: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SchedulerDocument {
    backend: Option<String>,
    installed: bool,
    starts_other: Option<String>,
    lingers: Option<bool>,
    daemon_runs: Option<bool>,
    last_woke: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RecentOperation {
    id: String,
    kind: &'static str,
    time: String,
    undone: bool,
}

impl TroubleDocument {
    pub(super) fn new(trouble: &Trouble, now: chrono::DateTime<chrono::Utc>) -> Self {
        Self {
            code: trouble.word(),
            level: trouble.level().word(),
            message: words::trouble(trouble, now),
            fix: trouble.fix().into_owned(),
        }
    }
}

impl StatusDocument {
    pub(crate) fn new(seen: &Seen) -> Self {
        let status = &seen.status;
        let trouble = |trouble| TroubleDocument::new(trouble, status.now);
        let operations = status.operations.iter().map(|operation| RecentOperation {
            id: operation.begin.id.to_string(),
            kind: operation.begin.kind.word(),
            time: when::utc(operation.begin.time),
            undone: operation.undone_by.is_some(),
        });
        Self {
            level: status.level.word(),
            sentence: words::verdict(seen).sentence,
            troubles: status.troubles.iter().map(trouble).collect(),
            last_backup: last_backup(status),
            next_backup: status.next.map(when::utc),
            jobs: jobs(status),
            sources: status.sources.iter().map(SourceDocument::new).collect(),
            remotes: status
                .remotes
                .iter()
                .map(|remote| RemoteDocument::new(remote, seen))
                .collect(),
            uncovered: status.uncovered.iter().map(|path| At::new(path)).collect(),
            elsewhere: seen
                .elsewhere
                .iter()
                .map(|one| ElsewhereDocument {
                    at: At::new(&one.path),
                    repositories: one.repositories,
                    uncommitted: one.uncommitted,
                })
                .collect(),
            storage: storage(seen),
            vault: vault(seen),
            lifeboat: seen
                .lifeboat
                .as_ref()
                .map(|(dir, manned)| LifeboatDocument {
                    at: At::new(dir),
                    manned: *manned,
                }),
            snapshots: status.snapshots.0,
            backups: status.snapshots.1,
            success_30_days: Rate {
                succeeded: status.rate.succeeded,
                tried: status.rate.tried,
            },
            scheduler: SchedulerDocument::new(&status.scheduler, &status.memory),
            operations: operations.collect(),
        }
    }
}

fn last_backup(status: &Status) -> Option<LastBackup> {
    status.last.as_ref().map(|last| LastBackup {
        snapshot: last.id.to_string(),
        time: when::utc(last.time),
        kind: snapshot_kind(last.kind),
        partial: last.partial,
        files: last.stats.files,
        bytes: last.stats.bytes,
    })
}

fn jobs(status: &Status) -> BTreeMap<&'static str, JobDocument> {
    let job = |job: Job| {
        let past = status.memory.pasts.of(job);
        let document = JobDocument {
            last_success: past.success.map(when::utc),
            last_attempt: past.attempt.map(when::utc),
            consecutive_failures: past.failures.into(),
        };
        (job.word(), document)
    };
    Job::ALL.into_iter().map(job).collect()
}

fn storage(seen: &Seen) -> Option<StorageDocument> {
    let status = &seen.status;
    status.storage.map(|storage| StorageDocument {
        used_bytes: storage.used,
        max_bytes: storage.max,
        saved_percent: status.saved_percent,
        added_bytes_30_days: status.added_bytes,
        months_left: words::months_left(seen),
        by_disk: storage.by_disk,
        trash_bytes: seen.space.map(|space| space.trash),
        staging_bytes: seen.space.map(|space| space.staging + space.kept),
        lifeboat_bytes: seen.space.map(|space| space.lifeboat),
        left_lifeboat_bytes: seen.space.map(|space| space.left),
    })
}

fn vault(seen: &Seen) -> Option<VaultDocument> {
    seen.vault.as_ref().map(|vault| VaultDocument {
        values: vault.usage.0,
        bytes: vault.usage.1,
        key: vault.key.clone(),
        exported: vault.exported.map(when::utc),
        only_here: vault.only_here,
        trouble: vault.trouble.clone().or_else(|| vault.unproven.clone()),
    })
}

impl SourceDocument {
    fn new(source: &SourceStatus) -> Self {
        Self {
            name: source.name.clone(),
            at: At::new(&source.path),
            criticality: source.criticality.word(),
            exists: source.exists,
            files: source.files,
            bytes: source.bytes,
            backed_up: source.backed_up.map(when::utc),
            waiting: source.waiting,
            newest_change: source.newest_change.map(when::utc),
            left_out: source.left_out.clone(),
            sealed: SealedDocument::new(&source.sealed),
        }
    }
}

impl SchedulerDocument {
    pub(super) fn new(scheduler: &Scheduler, memory: &Memory) -> Self {
        let other = scheduler.starts_other.as_ref();
        Self {
            backend: scheduler.backend.clone(),
            installed: scheduler.backend.is_some(),
            starts_other: other.map(|path| bdr::base::path::show(path.as_os_str())),
            lingers: scheduler.lingers,
            daemon_runs: scheduler.daemon,
            last_woke: memory.tick.as_ref().map(|tick| when::utc(tick.time)),
        }
    }
}

/// `dashboard`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DashboardDocument {
    #[serde(flatten)]
    at: At,
    level: &'static str,
}

impl DashboardDocument {
    pub(crate) fn new(file: &Path, seen: &Seen) -> Self {
        Self {
            at: At::new(file),
            level: seen.status.level.word(),
        }
    }
}
