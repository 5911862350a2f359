//! What the policy keeps restores exactly, whatever happens while the rest is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bdr::base::id::SnapshotId;
use bdr::base::monitor::NullMonitor;
use bdr::care::prune::{PruneOptions, PruneReport, apply, estimate, plan};
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::storage::MemoryStorage;
use bdr::model::retention::{Item, Policy, Reason, decide};
use bdr::protect::backup::BackupOptions;
use bdr::protect::guard::{GuardOptions, protect};
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Utc, Weekday};

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
            let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
            assert!(found.damage.is_empty(), "{what}: {:?}", found.damage);
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

#[test]
fn two_prunes_and_many_guards_at_once_lose_nothing() {
    let mut work = Work::new();
    let repo = work.place.repository();
    for day in 0..4 {
        work.day(&repo, day);
    }
    let policy = Policy {
        guard_within: TimeDelta::hours(1),
        guard_bytes: 0,
        last: 1,
        ..Policy::nothing()
    };
    let place = &work.place;
    let stop = AtomicBool::new(false);
    let time = |round: i64| work.start + TimeDelta::days(5) + TimeDelta::minutes(round);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let repo = place.repository();
                    match run(&repo, &at_once(policy.clone(), time(60))) {
                        Ok(_) | Err(bdr::Error::Busy { .. }) => {}
                        Err(error) => panic!("{error}: {error:?}"),
                    }
                }
            });
        }
        for round in 0..60 {
            let repo = place.repository();
            // Every other one changes nothing, and reuses the snapshot before.
            if round % 2 == 0 {
                place.write("log", format!("{round}").repeat(500).as_bytes());
            }
            let backup = BackupOptions::new(Trigger::Guard, time(round));
            let options = GuardOptions::new(backup, vec!["true".into()], &place.tree());
            let before = picture(&place.tree());
            let protected = protect(&repo, &[place.root()], &options, &NullMonitor).unwrap();
            let snapshot = &protected.report().snapshot;
            // As an undo would, in another process: what the last command needs is there.
            let repo = place.repository();
            let snapshot = repo.snapshot(snapshot.id).unwrap();
            let out = tempfile::tempdir().unwrap();
            let restored = restore_to(&repo, &snapshot, out.path());
            assert_same(&before, &picture(&restored), &format!("round {round}"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let repo = place.repository();
    let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    assert!(repo.snapshot_ids().unwrap().len() < 20, "prune did nothing");
    work.check(&repo, "after the race");
}

#[test]
fn another_prune_or_a_long_backup_is_waited_for_and_then_named() {
    let mut work = Work::new();
    let repo = work.place.repository();
    work.day(&repo, 0);
    work.day(&repo, 1);
    let mut options = at_once(daily(1), work.time(1, 2));
    options.policy.guard_within = TimeDelta::hours(1);
    options.patience = std::time::Duration::from_millis(30);
    for name in ["lock", "lock-prune"] {
        let file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(work.place.path("repo").join(name))
            .unwrap();
        file.lock_shared().unwrap();
        let busy = run(&repo, &options).unwrap_err();
        assert!(matches!(busy, bdr::Error::Busy { .. }), "{name}: {busy}");
        drop(file);
    }
    assert_eq!(repo.snapshot_ids().unwrap().len(), 4);
    run(&repo, &options).unwrap();
    assert!(repo.snapshot_ids().unwrap().len() < 4);
}

#[test]
fn a_full_disk_can_be_pruned() {
    let base = MemoryStorage::new();
    let mut work = Work::new();
    let repo = work.place.memory(&base).unwrap();
    for day in 0..10 {
        work.day(&repo, day);
    }
    base.full_after(0);
    let report = run(&repo, &at_once(daily(2), work.time(9, 2))).unwrap();
    assert!(report.swept_bytes > 1000, "{report:?}");
    work.check(&repo, "full disk");
}

#[test]
fn what_cannot_be_read_keeps_packs_where_they_are() {
    let base = MemoryStorage::new();
    let mut work = Work::new();
    {
        let repo = work.place.memory(&base).unwrap();
        for day in 0..10 {
            work.day(&repo, day);
        }
    }
    let options = at_once(daily(2), work.time(9, 2));
    // A record: nobody knows what it needs.
    let storage = base.fork();
    let repo = open(&work.place, &storage).unwrap();
    let name = repo.snapshot_names().unwrap()[4].clone();
    storage.damage(&name, |bytes| bytes.truncate(100));
    let planned = plan(&repo, &options, &NullMonitor).unwrap();
    assert_eq!(planned.damaged, std::slice::from_ref(&name));
    let report = run(&repo, &options).unwrap();
    assert_eq!(
        (report.blocked.len(), report.packs, report.swept),
        (1, 0, 0)
    );
    assert!(repo.snapshot_names().unwrap().contains(&name));
    work.check(&repo, "damaged record");
    // A pack: another copy of what is in it stays, whichever is the better place for it.
    let packs = open(&work.place, &base).unwrap().list_packs().unwrap();
    for pack in packs {
        let storage = base.fork();
        let repo = open(&work.place, &storage).unwrap();
        let name = bdr::repo::layout::pack(pack.id);
        storage.damage(&name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
        });
        let lost = |repo: &Repository| -> BTreeSet<(SnapshotId, String)> {
            let found = verify(repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
            let lost = found.damage.iter().flat_map(|d| &d.lost);
            lost.map(|l| (l.snapshot, l.path.to_string())).collect()
        };
        let before = lost(&repo);
        run(&repo, &options).unwrap();
        let there = repo.snapshot_ids().unwrap();
        let more: Vec<_> = lost(&repo)
            .into_iter()
            .filter(|lost| !before.contains(lost) && there.contains(&lost.0))
            .collect();
        assert!(more.is_empty(), "{name}: {more:?}");
    }
}

#[test]
fn what_was_thrown_away_and_is_needed_again_comes_back() {
    let mut work = Work::new();
    let repo = work.place.repository();
    for day in 0..6 {
        work.day(&repo, day);
    }
    let first = repo.snapshots().unwrap().swap_remove(2);
    let record = std::fs::read(work.place.path("repo").join(first.file_name())).unwrap();
    let mut options = at_once(daily(1), work.time(5, 2));
    options.policy.guard_within = TimeDelta::hours(1);
    options.grace = TimeDelta::days(1);
    let report = run(&repo, &options).unwrap();
    assert!(report.packs > 0 && report.swept == 0);
    // The record turns up again, as from a lifeboat.
    bdr::disk::storage::put(repo.storage(), &first.file_name(), &record).unwrap();
    // Its files are found in the trash, and the next prune moves them back.
    let listing = repo.listing(&repo.snapshot(first.id).unwrap().roots[0]);
    assert!(listing.is_ok());
    options.policy.guard_within = TimeDelta::days(30);
    let report = run(&repo, &options).unwrap();
    assert!(report.taken_back > 0, "{report:?}");
    assert_eq!(report.swept, 0);
    let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    work.check(&repo, "taken back");
}

#[test]
fn worn_packs_are_written_anew_and_tiny_ones_put_together() {
    let mut work = Work::new();
    let repo = work.place.repository();
    work.place.write("big", &noise(400_000));
    for part in 0..40 {
        work.place
            .write(&format!("part/{part}"), &noise(10_000 + part));
    }
    let mut first = BackupOptions::new(Trigger::Guard, work.time(0, 0));
    first.full = false;
    work.snapshot(&repo, &first);
    std::fs::remove_file(work.place.tree().join("big")).unwrap();
    // So many small packs, each of which stays in part.
    for round in 0..70 {
        work.place.write(
            &format!("small/{round}"),
            format!("{round} ").repeat(300).as_bytes(),
        );
        let guard = BackupOptions::new(Trigger::Guard, work.time(1, 0) + TimeDelta::minutes(round));
        work.snapshot(&repo, &guard);
    }
    let last = BackupOptions::new(Trigger::Backup, work.time(20, 0));
    work.snapshot(&repo, &last);
    let before = repo.list_packs().unwrap();
    let mut options = at_once(daily(1), work.time(20, 1));
    options.repack_bytes = 0;
    let report = run(&repo, &options).unwrap();
    assert_eq!(
        report.repacked, 1,
        "one pack at a time is the least: {report:?}"
    );
    options.repack_bytes = 64 << 20;
    let report = run(&repo, &options).unwrap();
    assert!(report.repacked > 60, "{report:?}");
    let after = repo.list_packs().unwrap();
    assert!(
        after.len() < 5 && before.len() > 70,
        "{} packs, then {}",
        before.len(),
        after.len()
    );
    work.check(&repo, "repacked");
    let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    let report = run(&repo, &options).unwrap();
    assert_eq!((report.repacked, report.packs), (0, 0), "it comes to rest");
}

#[test]
fn writing_packs_anew_can_be_cut_anywhere() {
    let base = MemoryStorage::new();
    let mut work = Work::new();
    {
        let repo = work.place.memory(&base).unwrap();
        work.place.write("big", &noise(300_000));
        work.place.write("huge", &noise(700_000));
        work.place.write("part", &noise(20_000));
        let guard = BackupOptions::new(Trigger::Guard, work.time(0, 0));
        work.snapshot(&repo, &guard);
        std::fs::remove_file(work.place.tree().join("huge")).unwrap();
        let backup = BackupOptions::new(Trigger::Backup, work.time(20, 0));
        work.snapshot(&repo, &backup);
    }
    let options = at_once(daily(1), work.time(20, 1));
    let points = cut_everywhere(
        &base,
        |storage| {
            let report = run(&open(&work.place, storage)?, &options)?;
            assert_eq!((report.repacked, report.packs), (1, 1), "{report:?}");
            Ok(())
        },
        |storage, _, what| {
            let repo = open(&work.place, storage).unwrap();
            let found = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
            assert!(found.damage.is_empty(), "{what}: {:?}", found.damage);
            run(&repo, &options).unwrap();
            assert_eq!(work.check(&repo, what), 1, "{what}");
            assert_eq!(repo.list_packs().unwrap().len(), 1, "{what}");
        },
    );
    assert!(points > 10, "only {points} points were cut");
}

#[test]
fn a_budget_takes_guards_first_and_never_what_has_to_stay() {
    let mut work = Work::new();
    let repo = work.place.repository();
    for day in 0..16 {
        work.day(&repo, day);
    }
    let policy = |max_bytes| Policy {
        max_bytes: Some(max_bytes),
        guard_within: TimeDelta::days(30),
        ..daily(16)
    };
    let going = |max_bytes| {
        let options = at_once(policy(max_bytes), work.time(15, 2));
        let planned = plan(&repo, &options, &NullMonitor).unwrap();
        let budget = planned
            .going()
            .filter(|s| s.decision.reasons == [Reason::Budget]);
        let triggers: Vec<Trigger> = budget.map(|s| s.trigger).collect();
        (triggers, planned.budget)
    };
    assert_eq!(going(0), (Vec::new(), None));
    let (none, budget) = going(10_000_000);
    assert!(none.is_empty() && !budget.unwrap().is_tight());
    let used = budget.unwrap().used;
    let (guards, budget) = going(used * 89 / 100);
    assert!(
        !guards.is_empty() && guards.iter().all(|t| *t == Trigger::Guard),
        "{guards:?}"
    );
    assert!(budget.unwrap().is_tight() && !budget.unwrap().unreachable);
    let (more, _) = going(used * 84 / 100);
    assert!(more.contains(&Trigger::Backup), "{more:?}");
    // Less than the newest and the last full take: then it would only cost history.
    let (none, budget) = going(1000);
    assert!(none.is_empty() && budget.unwrap().unreachable);
    let options = at_once(policy(used * 84 / 100), work.time(15, 2));
    run(&repo, &options).unwrap();
    let left = bdr::care::prune::used_bytes(&repo).unwrap();
    assert!(left <= used * 84 / 100, "{left}");
    work.check(&repo, "within the budget");
}

#[test]
fn a_year_of_use_stays_within_its_budget_and_keeps_every_promise() {
    let base = MemoryStorage::new();
    let mut work = Work::new();
    let repo = work.place.memory(&base).unwrap();
    let max_bytes = 2_000_000;
    let policy = Policy {
        guard_bytes: 200_000,
        max_bytes: Some(max_bytes),
        ..Policy::default()
    };
    for dir in 0..20 {
        work.place.write(&format!("dir/{dir}"), &noise(3000 + dir));
    }
    let mut every: Vec<Item> = Vec::new();
    for day in 0..365_i64 {
        // Asleep on some days, on holiday for two weeks.
        if day % 11 == 5 || (200..214).contains(&day) {
            continue;
        }
        for hour in 0..3 {
            work.place.write(
                &format!("dir/{}", (day * 3 + hour) % 20),
                &noise(2500 + day as usize),
            );
            let guard = BackupOptions::new(Trigger::Guard, work.time(day, hour));
            work.snapshot(&repo, &guard);
        }
        let mut backup = BackupOptions::new(Trigger::Backup, work.time(day, 4));
        backup.full = (work.time(day, 4)).weekday() == Weekday::Sun;
        let snapshot = work.place.backup_with(&repo, &backup).snapshot;
        work.pictures
            .insert(snapshot.id, picture(&work.place.tree()));
        every.push(Item {
            id: snapshot.id,
            seq: snapshot.seq,
            time: snapshot.time,
            full: backup.full,
            partial: false,
            guard: false,
            roots: vec!["tree".to_owned()],
            tags: Vec::new(),
            pinned: false,
            bytes: 0,
            undo: None,
            mirrored: false,
        });
        let options = PruneOptions {
            grace: TimeDelta::hours(12),
            ..at_once(policy.clone(), work.time(day, 5))
        };
        let report = run(&repo, &options).unwrap();
        assert!(report.blocked.is_empty());
        let left = bdr::care::prune::used_bytes(&repo).unwrap();
        assert!(left <= max_bytes, "day {day}: {left}");
    }
    // What the policy promises of all that there ever was, is there.
    let promised = decide(&every, &policy, work.time(364, 5), &utc).unwrap();
    let there: BTreeSet<SnapshotId> = repo.snapshot_ids().unwrap().into_iter().collect();
    let mut kept = 0;
    for decision in promised.all.iter().filter(|d| d.keep) {
        assert!(there.contains(&decision.id), "{decision:?}");
        kept += 1;
    }
    assert!(kept > 18, "{kept} restore points");
    let checked = work.check(&repo, "after a year");
    assert!((kept..60).contains(&checked), "{checked} snapshots");
}

#[test]
fn the_command_line_says_why_and_asks_first() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    for day in 1..6 {
        place.write("a", format!("{day}").as_bytes());
        let at = (now() + TimeDelta::days(day)).to_rfc3339();
        let done = place
            .bdr(&["backup"])
            .env("BDR_TEST_NOW", at)
            .output()
            .unwrap();
        assert!(done.status.success());
    }
    let at = (now() + TimeDelta::days(6)).to_rfc3339();
    let bdr = |args: &[&str], code: i32| {
        let output = place.bdr(args).env("BDR_TEST_NOW", &at).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?} {text} {output:?}"
        );
        text
    };
    bdr(&["tag", "latest~3", "before-upgrade"], 0);
    bdr(&["pin", "latest~2"], 0);
    let list = bdr(&["list"], 0);
    assert!(
        list.contains("#before-upgrade") && list.contains("pinned"),
        "{list}"
    );
    let args = [
        "prune",
        "--keep-daily",
        "1",
        "--keep-tag",
        "before-upgrade",
        "--dry-run",
    ];
    let plan = bdr(&args, 0);
    for part in [
        "tag before-upgrade",
        "pinned",
        "newest, day ",
        "no rule keeps it",
        "last full",
    ] {
        assert!(plan.contains(part), "no `{part}` in\n{plan}");
    }
    assert!(plan.contains("Would remove 2 of 6 snapshots"), "{plan}");
    let refused = bdr(&["prune", "--keep-daily", "1"], 3);
    assert!(refused.contains("bdr prune --yes"), "{refused}");
    bdr(&["prune", "--keep-daily", "0"], 2);
    bdr(&["prune", "--keep-within", "soon"], 2);
    let done = bdr(
        &[
            "prune",
            "--keep-daily",
            "1",
            "--keep-tag",
            "before-upgrade",
            "--yes",
        ],
        0,
    );
    assert!(done.contains("Removed 2 snapshots, 4 left."), "{done}");
    // The oldest is pinned no more, and forgotten; the pinned one is refused.
    bdr(&["forget", "latest~1", "--yes"], 2);
    bdr(&["unpin", "latest~1"], 0);
    assert!(bdr(&["forget", "latest~1", "--dry-run"], 0).contains("forgotten"));
    bdr(&["forget", "latest~1", "--yes"], 0);
    bdr(&["tag", "latest~1", "before-upgrade", "--remove"], 0);
    let json: serde_json::Value = serde_json::from_str(&bdr(&["--json", "list"], 0)).unwrap();
    let list = json["data"]["snapshots"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(list[1]["tags"], serde_json::json!([]));
    bdr(&["verify"], 0);
}
