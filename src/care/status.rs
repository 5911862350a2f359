//! The state of protection: one model for the terminal, monitoring, the dashboard and alerts.
//!
//! [`troubles`] judges by the journal alone and does not open the repository, because alerts and
//! guards must be fast. [`status`] also reads the repository and walks the sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};

use crate::base::error::Result;
use crate::care::prune::{Budget, used_bytes};
use crate::care::runs::{Memory, Outcome, Run};
use crate::model::config::{Config, Criticality};
use crate::model::manifest::Entry;
use crate::model::schedule::{Job, Schedule, trusted};
use crate::protect::backup::{BackupOptions, SealedSummary, survey};
use crate::repo::Repository;
use crate::repo::oplog::{Operation, mark_undone};
use crate::repo::snapshot::{SnapshotKind, Trigger};
use crate::repo::summaries::Summary;

mod remotes;
mod trouble;

pub use remotes::{RemoteStatus, failing, remotes};
pub use trouble::{Level, Trouble};

/// A scheduler wakes bdr every hour. After this much silence it no longer does; less may be a
/// laptop that was closed overnight.
const SILENCE: TimeDelta = TimeDelta::hours(26);
/// A scheduler that woke bdr within this time works, because it does so every hour.
const LATELY: TimeDelta = TimeDelta::hours(2);
/// A drill that is older should be repeated.
const DRILL_AGE: TimeDelta = TimeDelta::days(15);
/// The success rate covers runs of this period.
const RATE_DAYS: i64 = 30;
/// Status shows this many operations.
const OPERATIONS: usize = 20;

/// The scheduler that wakes bdr, as far as we can see from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduler {
    /// `systemd`, `launchd`, `cron` or `schtasks`; `None` if nothing is installed.
    pub backend: Option<String>,
    /// The program that the entry starts, if it is another one.
    pub starts_other: Option<PathBuf>,
    /// Whether it keeps running after logout; `None` if unknown or if the question does not arise.
    pub lingers: Option<bool>,
    /// Whether its daemon is running; `None` if unknown or if it needs none.
    pub daemon: Option<bool>,
}

/// Judges by the journal. `last` is the time of the last backup, if the caller knows it from the
/// repository.
pub fn troubles(
    schedule: Option<&Schedule>,
    memory: &Memory,
    max_bytes: u64,
    last: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Vec<Trouble> {
    let mut found = Vec::new();
    let pasts = &memory.pasts;
    let default = Schedule::default();
    let last = trusted(last.max(pasts.backup.success), now);
    let since = schedule.and(memory.since);
    match last {
        // People who back up by hand choose the time, but after a while we warn anyway.
        Some(last) => {
            let max_age = schedule.map_or(default.max_age * 7, |schedule| schedule.max_age);
            if now - last > max_age {
                found.push(Trouble::Overdue { last });
            }
        }
        None if schedule.unwrap_or(&default).is_overdue(None, since, now) => {
            found.push(Trouble::NoBackup);
        }
        None => {}
    }
    if pasts.backup.failures > 0 {
        let failures = pasts.backup.failures;
        found.push(Trouble::BackupFailing { failures });
    }
    if pasts.drill.failures > 0 {
        found.push(Trouble::DrillFailed);
    } else if schedule.is_some_and(|s| s.drill.is_some()) {
        let drill = trusted(pasts.drill.success, now);
        let from = drill.or(since);
        if last.is_some() && from.is_none_or(|from| now - from > DRILL_AGE) {
            found.push(Trouble::DrillOld { last: drill });
        }
    }
    if memory.damage > 0 {
        let objects = memory.damage;
        found.push(Trouble::FoundDamaged { objects });
    }
    if memory.unread > 0 {
        let problems = memory.unread;
        found.push(Trouble::Unread { problems });
    }
    if memory.torn > 0 {
        let files = memory.torn;
        found.push(Trouble::Torn { files });
    }
    if pasts.prune.failures > 0 {
        let failures = pasts.prune.failures;
        found.push(Trouble::PruneFailing { failures });
    }
    let used = Budget {
        used: memory.repository_bytes,
        max: max_bytes,
        by_disk: false,
        full: 0,
        unreachable: false,
    };
    if used.is_tight() {
        let percent = used.percent();
        found.push(Trouble::Full { percent });
    }
    found
}

/// A source, and how much of it is backed up.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    pub name: String,
    pub path: PathBuf,
    pub criticality: Criticality,
    /// Its directory exists.
    pub exists: bool,
    /// Current number of regular files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// The time of the last backup that covers it.
    pub backed_up: Option<DateTime<Utc>>,
    /// Files that are new, changed or gone since the last snapshot of any kind.
    pub waiting: u64,
    /// The time of the newest of these changes.
    pub newest_change: Option<DateTime<Utc>>,
    /// The reasons for what is left out, with counts.
    pub left_out: BTreeMap<String, u64>,
    /// Counts of sealed files and values.
    pub sealed: SealedSummary,
}

/// How many runs succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    pub succeeded: u64,
    pub tried: u64,
}

/// The state of protection.
#[derive(Debug, Clone)]
pub struct Status {
    pub now: DateTime<Utc>,
    /// The level of the worst trouble.
    pub level: Level,
    /// Worst first.
    pub troubles: Vec<Trouble>,
    pub last: Option<Summary>,
    /// The history of each job, and the last wake-up.
    pub memory: Memory,
    /// The time of the next backup.
    pub next: Option<DateTime<Utc>>,
    /// In the order of the configuration.
    pub remotes: Vec<RemoteStatus>,
    /// In the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// Places that bdr would offer as sources and that no source covers.
    pub uncovered: Vec<PathBuf>,
    /// The size of the repository without the trash, and the budget.
    pub storage: Option<Budget>,
    /// The number of snapshots, and how many of them are backups.
    pub snapshots: (u64, u64),
    /// The space that compression and deduplication saved in the last full backup, in percent.
    pub saved_percent: Option<u64>,
    /// Bytes that backups added in the last 30 days.
    pub added_bytes: u64,
    /// The last operations, newest first.
    pub operations: Vec<Operation>,
    /// The success rate of backups in the last 30 days.
    pub rate: Rate,
    /// The scheduler that wakes bdr.
    pub scheduler: Scheduler,
}

/// What [`status`] needs to know.
pub struct Inputs<'a> {
    pub config: &'a Config,
    /// `None` if there is no repository.
    pub repo: Option<&'a Repository>,
    /// The file system with the repository is not mounted.
    pub away: bool,
    /// The repository should have a lifeboat outside HOME, and has none.
    pub no_lifeboat: bool,
    /// What the journal remembers.
    pub memory: Memory,
    /// The runs in the journal, oldest first.
    pub runs: &'a [Run],
    /// Places that bdr would offer as sources and that no source covers.
    pub uncovered: Vec<PathBuf>,
    /// The scheduler that wakes bdr.
    pub scheduler: Scheduler,
    /// The directory with what is known of destinations; `None` if there is no repository.
    pub remotes: Option<PathBuf>,
    pub now: DateTime<Utc>,
    /// The age at which the last backup is too old, instead of that of the schedule.
    pub max_age: Option<TimeDelta>,
    /// Whether to walk the sources.
    pub walk: bool,
}

/// Reads the repository and walks the sources.
///
/// # Errors
/// The repository or a source cannot be listed.
pub fn status<Z: TimeZone>(inputs: Inputs<'_>, zone: &Z) -> Result<(Status, Vec<Summary>)> {
    let Inputs { config, now, .. } = inputs;
    let Looked {
        summaries,
        sources,
        storage,
    } = look(&inputs)?;
    let backups = || summaries.iter().filter(|s| s.is_backup());
    let last = backups().next_back().cloned();
    let mut memory = inputs.memory.clone();
    if let Some(storage) = storage {
        memory.repository_bytes = storage.used;
        memory.max_bytes = storage.max;
    }
    let operations = match inputs.repo {
        Some(repo) => operations(repo)?,
        None => Vec::new(),
    };
    let dir = inputs.remotes.as_deref();
    let remotes = dir.map_or_else(Vec::new, |dir| remotes(config, dir, &summaries));
    let mut troubles = all_troubles(&inputs, &memory, &sources, last.as_ref());
    troubles.extend(remotes.iter().flat_map(|remote| remote.troubles(now)));
    let recent = |time: DateTime<Utc>| now - time < TimeDelta::days(RATE_DAYS);
    let schedule = config.schedule.as_ref();
    let worst = troubles.iter().map(Trouble::level).max();
    let status = Status {
        now,
        level: worst.unwrap_or(Level::Good),
        troubles,
        next: schedule.and_then(|schedule| schedule.next(Job::Backup, &memory.pasts, now, zone)),
        remotes,
        sources,
        uncovered: inputs.uncovered,
        storage,
        snapshots: (summaries.len() as u64, backups().count() as u64),
        saved_percent: saved_percent(&summaries),
        added_bytes: backups()
            .filter(|s| recent(s.time))
            .map(|s| s.stats.stored_bytes)
            .fold(0, u64::saturating_add),
        operations,
        rate: rate(inputs.runs.iter().filter(|run| recent(run.time))),
        scheduler: inputs.scheduler,
        memory,
        last,
    };
    Ok((status, summaries))
}

/// What the repository and the sources say.
struct Looked {
    summaries: Vec<Summary>,
    sources: Vec<SourceStatus>,
    storage: Option<Budget>,
}

/// Reads the repository and walks the sources. Adding up the sizes of all files in the repository
/// takes long, so a thread does it meanwhile.
fn look(inputs: &Inputs<'_>) -> Result<Looked> {
    let max = inputs.config.retention.max_bytes;
    std::thread::scope(|scope| {
        let sizing = inputs
            .repo
            .map(|repo| (repo, scope.spawn(move || used_bytes(repo))));
        let summaries = inputs.repo.map(Repository::summaries).transpose()?;
        let summaries = summaries.unwrap_or_default();
        let walked = inputs.repo.filter(|_| inputs.walk);
        let sources = sources(&inputs.config.sources, walked, &summaries, inputs.now)?;
        let storage = match sizing.map(|(repo, sizing)| (repo, sizing.join())) {
            Some((repo, Ok(used))) => {
                let is_full = |s: &&Summary| s.is_backup() && s.kind == SnapshotKind::Full;
                let full = summaries.iter().rev().find(is_full);
                let full = full.map_or(0, |full| full.stats.stored_bytes);
                Some(Budget::new(repo, used?, max, full))
            }
            Some((_, Err(_))) | None => None,
        };
        Ok(Looked {
            summaries,
            sources,
            storage,
        })
    })
}

/// Returns everything that is wrong, worst first. Without sources we do not ask for a schedule,
/// because people who use only guards have none.
fn all_troubles(
    inputs: &Inputs<'_>,
    memory: &Memory,
    sources: &[SourceStatus],
    last: Option<&Summary>,
) -> Vec<Trouble> {
    let (config, repo, now) = (inputs.config, inputs.repo, inputs.now);
    let mut found = Vec::new();
    if config.sources.is_empty() {
        found.push(Trouble::NoSource);
    } else if repo.is_none() {
        found.push(match inputs.away {
            true => Trouble::Away,
            false => Trouble::NoRepository,
        });
    }
    let damaged = repo.map_or(0, |repo| unreadable(repo, last));
    if damaged > 0 {
        found.push(Trouble::Damaged { files: damaged });
    }
    let lost = repo.map_or(0, |repo| lost(repo, last));
    if lost > 0 {
        found.push(Trouble::Lost { files: lost });
    }
    if !config.sources.is_empty() {
        let mut schedule = config.schedule.clone();
        if let Some(max_age) = inputs.max_age {
            schedule.get_or_insert_default().max_age = max_age;
        }
        let max = config.retention.max_bytes.unwrap_or(memory.max_bytes);
        let last_time = last.map(|last| last.time);
        found.extend(troubles(schedule.as_ref(), memory, max, last_time, now));
        let missing = sources.iter().filter(|source| !source.exists);
        found.extend(missing.map(|s| Trouble::SourceMissing {
            name: s.name.clone(),
        }));
        let new = sources.iter().filter(|s| s.exists && s.backed_up.is_none());
        let new = new.count() as u64;
        if new > 0 && last.is_some() {
            found.push(Trouble::NotBackedUp { sources: new });
        }
        found.extend(scheduler_troubles(config, memory, &inputs.scheduler, now));
    }
    if inputs.no_lifeboat && repo.is_some() && last.is_some() {
        found.push(Trouble::NoLifeboat);
    }
    // A new source may go a day without a backup, but without any backup nothing is protected.
    let nothing = last.is_none() && repo.is_some() && !config.sources.is_empty();
    if nothing && !found.contains(&Trouble::NoBackup) {
        found.push(Trouble::NoBackup);
    }
    found.sort_by_key(|trouble| std::cmp::Reverse(trouble.level()));
    found
}

/// Returns the success rate of backups.
fn rate<'a>(runs: impl Iterator<Item = &'a Run>) -> Rate {
    let tried = runs.filter(|run| {
        matches!(run.job, Job::Backup | Job::Full) && run.outcome != Outcome::Skipped
    });
    tried.fold(Rate::default(), |rate, run| Rate {
        succeeded: rate.succeeded + u64::from(run.succeeded()),
        tried: rate.tried + 1,
    })
}

/// Returns the space that the last full backup saved. Other backups store only what is new, so
/// their sizes say nothing about compression.
fn saved_percent(summaries: &[Summary]) -> Option<u64> {
    let backups = summaries.iter().rev().filter(|s| s.is_backup());
    let mut full = backups.filter(|s| s.kind == SnapshotKind::Full && s.stats.bytes > 0);
    full.next().map(|full| {
        let stored = full.stats.stored_bytes.min(full.stats.bytes);
        100 - stored.saturating_mul(100) / full.stats.bytes
    })
}

/// Judges the scheduler.
pub fn scheduler_troubles(
    config: &Config,
    memory: &Memory,
    scheduler: &Scheduler,
    now: DateTime<Utc>,
) -> Option<Trouble> {
    if config.schedule.is_none() {
        return Some(Trouble::NoSchedule);
    }
    if scheduler.backend.is_none() {
        return Some(Trouble::NotInstalled);
    }
    if scheduler.starts_other.is_some() {
        return Some(Trouble::Moved);
    }
    let woken = memory.tick.as_ref().map(|tick| tick.time);
    // bdr was woken anyway: the daemon has another name, or this user cannot see it.
    let lately = trusted(woken, now).is_some_and(|woken| now - woken < LATELY);
    if scheduler.daemon == Some(false) && !lately {
        return Some(Trouble::NoDaemon);
    }
    if let Some(last) = trusted(woken, now).or(memory.since)
        && now - last > SILENCE
    {
        return Some(Trouble::NotWoken { last });
    }
    (scheduler.lingers == Some(false)).then_some(Trouble::NotLingering)
}

fn sources(
    configured: &[crate::model::config::Source],
    repo: Option<&Repository>,
    summaries: &[Summary],
    now: DateTime<Utc>,
) -> Result<Vec<SourceStatus>> {
    let mut found = Vec::new();
    for source in configured {
        let covering = summaries.iter().rev().filter(|s| s.is_backup());
        let record = covering.into_iter().find_map(|summary| {
            let same = |r: &&crate::repo::summaries::RootSummary| {
                r.name == source.name && r.path.as_path() == source.path
            };
            Some((summary.time, summary.roots.iter().find(same)?))
        });
        let mut status = SourceStatus {
            name: source.name.clone(),
            path: source.path.clone(),
            criticality: source.criticality,
            exists: source.path.symlink_metadata().is_ok(),
            files: record.map_or(0, |(_, root)| root.files),
            bytes: record.map_or(0, |(_, root)| root.bytes),
            backed_up: record.map(|(time, _)| time),
            waiting: 0,
            newest_change: None,
            left_out: BTreeMap::new(),
            sealed: SealedSummary::default(),
        };
        if let Some(repo) = repo {
            let options = BackupOptions::new(Trigger::Backup, now);
            for run in survey(repo, &[source.root()], &options)? {
                let waiting = run.waiting();
                status.files = run.totals().0;
                status.bytes = run.totals().1;
                status.waiting = waiting.0;
                run.add_sealed(&mut status.sealed);
                status.newest_change = waiting
                    .1
                    .and_then(|time| DateTime::from_timestamp(time.0, time.1));
                for left_out in &run.left_out {
                    // "over the budget (3 MiB)" counts as the same reason whatever the size.
                    let reason = left_out.reason.split(" (").next().unwrap_or_default();
                    *status.left_out.entry(reason.to_owned()).or_default() += 1;
                }
            }
        }
        found.push(status);
    }
    Ok(found)
}

/// Counts unreadable records, and listings that the last backup needs and that are missing.
fn unreadable(repo: &Repository, last: Option<&Summary>) -> u64 {
    let snapshot = last.and_then(|last| repo.snapshot(last.id).ok());
    let bases = snapshot.iter().flat_map(|s| &s.roots);
    let lost = bases.filter(|root| root.base.is_some_and(|base| !repo.has_whole_keyframe(base)));
    lost.count() as u64 + repo.unreadable().len() as u64
}

/// Counts the files of the last backup whose content is known to be damaged, or was in packs that
/// are missing. It lists the packs and does not read them, which would take too long here.
fn lost(repo: &Repository, last: Option<&Summary>) -> u64 {
    // If the packs cannot be listed, other checks report that.
    let _ = repo.notice_lost_packs();
    let damaged = repo.damaged_blobs();
    if damaged.is_empty() {
        return 0;
    }
    let snapshot = last.and_then(|last| repo.snapshot(last.id).ok());
    let roots = snapshot.iter().flat_map(|snapshot| &snapshot.roots);
    let entries = roots.flat_map(|root| repo.listing(root).unwrap_or_default());
    let is_lost = |entry: &Entry| {
        let content = entry.body.content.as_ref();
        content.is_some_and(|content| content.blobs().iter().any(|blob| damaged.contains(blob)))
    };
    entries.filter(is_lost).count() as u64
}

/// Returns the last operations, newest first. Undos count as operations.
fn operations(repo: &Repository) -> Result<Vec<Operation>> {
    let ids = repo.operation_ids()?;
    let mut operations = match ids.len().checked_sub(OPERATIONS + 1) {
        Some(before) => repo.operations_after(ids[before])?,
        None => repo.operations()?,
    };
    mark_undone(&mut operations);
    operations.reverse();
    Ok(operations)
}
