//! What the policy keeps restores exactly, whatever happens while the rest is removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bdr::backup::BackupOptions;
use bdr::id::SnapshotId;
use bdr::monitor::NullMonitor;
use bdr::prune::{PruneOptions, PruneReport, apply, estimate, plan};
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use bdr::retention::Policy;
use bdr::storage::MemoryStorage;
use bdr::verify::{VerifyLevel, verify};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::backup::restore_to;
use crate::crash::{cut_everywhere, noise, open};
use crate::support::{Object, Place, assert_same, now, picture};

type Pictures = BTreeMap<SnapshotId, BTreeMap<PathBuf, Object>>;

fn utc(time: DateTime<Utc>) -> NaiveDateTime {
    time.naive_utc()
}

fn daily(days: u32) -> Policy {
    Policy {
        daily: days,
        ..Policy::nothing()
    }
}

/// Options for a moment, with the trash emptied at once.
fn at_once(policy: Policy, now: DateTime<Utc>) -> PruneOptions<'static> {
    let mut options = PruneOptions::new(now, &utc);
    options.policy = policy;
    options.grace = TimeDelta::zero();
    options
}

fn run(repo: &Repository, options: &PruneOptions<'_>) -> bdr::Result<PruneReport> {
    let plan = plan(repo, options, &NullMonitor)?;
    apply(repo, &plan, options, &NullMonitor)
}

/// Days of work: a file that grows, files that come and go, a full each week, a guard each day.
struct Work {
    place: Place,
    pictures: Pictures,
    start: DateTime<Utc>,
}

impl Work {
    fn new() -> Self {
        Self {
            place: Place::new(),
            pictures: Pictures::new(),
            start: now() + TimeDelta::hours(1),
        }
    }

    fn time(&self, day: i64, hour: i64) -> DateTime<Utc> {
        self.start + TimeDelta::days(day) + TimeDelta::hours(hour)
    }

    fn day(&mut self, repo: &Repository, day: i64) {
        let mut log = std::fs::read(self.place.tree().join("log")).unwrap_or_default();
        log.extend_from_slice(format!("day {day}\n").repeat(50).as_bytes());
        self.place.write("log", &log);
        self.place.write("state", &noise(2000 + day as usize));
        self.place
            .write(&format!("day/{day}"), &noise(700 + 13 * day as usize));
        if day > 2 {
            std::fs::remove_file(self.place.tree().join(format!("day/{}", day - 3))).unwrap();
        }
        let mut guard = BackupOptions::new(Trigger::Guard, self.time(day, 0));
        guard.full = false;
        self.snapshot(repo, &guard);
        self.place.write("state", &noise(1000 + day as usize));
        let mut backup = BackupOptions::new(Trigger::Backup, self.time(day, 1));
        backup.full = day % 7 == 0;
        self.snapshot(repo, &backup);
    }

    fn snapshot(&mut self, repo: &Repository, options: &BackupOptions) {
        let report = self.place.backup_with(repo, options);
        let tree = picture(&self.place.tree());
        self.pictures.insert(report.snapshot.id, tree);
    }

    /// Restores every snapshot that is there.
    #[track_caller]
    fn check(&self, repo: &Repository, what: &str) -> usize {
        let snapshots = repo.snapshots().unwrap();
        for snapshot in &snapshots {
            let Some(expected) = self.pictures.get(&snapshot.id) else {
                continue;
            };
            let out = tempfile::tempdir().unwrap();
            let restored = restore_to(repo, snapshot, out.path());
            let what = format!("{what}: snapshot {} of {}", snapshot.seq, snapshots.len());
            assert_same(expected, &picture(&restored), &what);
        }
        snapshots.len()
    }
}

#[test]
fn what_goes_gives_its_space_back_and_what_stays_restores() {
    let mut work = Work::new();
    let repo = work.place.repository();
    for day in 0..16 {
        work.day(&repo, day);
    }
    let packed = |repo: &Repository| -> u64 {
        let packs = repo.list_packs().unwrap();
        packs.iter().map(|pack| pack.bytes).sum()
    };
    let before = packed(&repo);
    let options = at_once(daily(3), work.time(15, 2));
    let planned = plan(&repo, &options, &NullMonitor).unwrap();
    let expected = estimate(&repo, &planned, &options, &NullMonitor).unwrap();
    let report = apply(&repo, &planned, &options, &NullMonitor).unwrap();
    // Three days, the last full, guards of a week.
    assert_eq!(work.check(&repo, "pruned"), 3 + 7);
    assert_eq!(report.trashed_bytes, expected.trashed_bytes);
    assert_eq!(report.swept_bytes, report.trashed_bytes);
    assert!(report.packs > 10, "{report:?}");
    let after = packed(&repo);
    assert!(after * 10 < before * 7, "{before} bytes, then {after}");
    let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    assert!(repo.damaged_blobs().is_empty());
    // A second one has nothing to do.
    let report = run(&repo, &options).unwrap();
    assert_eq!((report.snapshots, report.packs, report.swept), (0, 0, 0));
    // And work goes on, without reading everything again.
    let next = BackupOptions::new(Trigger::Backup, work.time(16, 0));
    let report = work.place.backup_with(&repo, &next);
    assert_eq!(report.read_bytes, 0);
    work.check(&repo, "after the next backup");
}

#[test]
fn a_prune_cut_anywhere_loses_nothing_that_is_to_stay() {
    let base = MemoryStorage::new();
    let mut work = Work::new();
    {
        let repo = work.place.memory(&base).unwrap();
        for day in 0..10 {
            work.day(&repo, day);
        }
    }
    let options = at_once(
        Policy {
            guard_within: TimeDelta::days(2),
            ..daily(2)
        },
        work.time(9, 2),
    );
    let repo = open(&work.place, &base).unwrap();
    let planned = plan(&repo, &options, &NullMonitor).unwrap();
    let staying: Vec<SnapshotId> = planned
        .snapshots
        .iter()
        .filter(|s| s.decision.keep)
        .map(|s| s.decision.id)
        .collect();
    assert_eq!(staying.len(), 5, "two days, a full, two guards");
    let points = cut_everywhere(
        &base,
        |storage| run(&open(&work.place, storage)?, &options).map(drop),
        |storage, done, what| {
            let repo = open(&work.place, storage).unwrap();
            let there = repo.snapshot_ids().unwrap();
            assert!(
                staying.iter().all(|id| there.contains(id)),
                "{what}: one that is to stay is gone"
            );
            assert!(!done || there.len() == staying.len(), "{what}");
            work.check(&repo, what);
            // The next one finishes, and leaves nothing behind.
            run(&repo, &options).unwrap();
            assert_eq!(work.check(&repo, what), staying.len(), "{what}");
            assert!(repo.trash().unwrap().is_empty(), "{what}");
            let again = run(&repo, &options).unwrap();
            assert_eq!((again.packs, again.keyframes), (0, 0), "{what}");
        },
    );
    assert!(points > 50, "only {points} points were cut");
}
