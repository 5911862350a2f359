//! Power is cut after every single step of a backup: what was acknowledged before is always there, whole.

use bdr::base::monitor::NullMonitor;
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::storage::{CrashMode, MemoryStorage};
use bdr::repo::Repository;

use crate::backup::{odd_tree, restore_to};
use crate::support::{Place, assert_same, later, picture};

const MODES: [CrashMode; 2] = [CrashMode::LoseUnsynced, CrashMode::KeepAll];

pub(crate) fn open(place: &Place, storage: &MemoryStorage) -> bdr::Result<Repository> {
    // After a power cut the cache may be anything: here it is gone.
    let _ = std::fs::remove_dir_all(place.cache());
    Repository::open(std::sync::Arc::new(storage.clone()), &place.cache())
}

/// Runs `act` with the power cut after 0, 1, 2, … steps, until it gets through; then `check`s what is left.
pub(crate) fn cut_everywhere(
    base: &MemoryStorage,
    act: impl Fn(&MemoryStorage) -> bdr::Result<()>,
    check: impl Fn(&MemoryStorage, bool, &str),
) -> u64 {
    for steps in 0.. {
        let storage = base.fork();
        storage.cut_after(steps);
        let done = act(&storage).is_ok();
        let (_, log) = storage.steps();
        for mode in MODES {
            let what = format!("{mode:?}, cut after {steps} ({:?})", log.last());
            check(&storage.after_crash(mode), done, &what);
        }
        if done {
            return steps;
        }
    }
    unreachable!("the loop ends when the action gets through")
}

#[test]
fn a_backup_cut_anywhere_leaves_the_last_snapshot_whole() {
    for full in [false, true] {
        let place = Place::new();
        odd_tree(&place);
        let base = MemoryStorage::new();
        let first = {
            let repo = place.memory(&base).unwrap();
            place.backup_with(&repo, &later(60)).snapshot
        };
        let before = picture(&place.tree());
        place.write("plain.txt", b"changed");
        place.write("new/file", b"new");
        place.write("big.log", &b"0123456789abcdef\n".repeat(20_001));
        let after = picture(&place.tree());
        let mut options = later(120);
        options.full = full;
        let points = cut_everywhere(
            &base,
            |storage| {
                let repo = open(&place, storage)?;
                bdr::protect::backup::backup(&repo, &[place.root()], &options, &NullMonitor)
                    .map(drop)
            },
            |storage, done, what| {
                let repo = open(&place, storage).unwrap();
                let snapshots = repo.snapshots().unwrap();
                assert!(
                    snapshots.iter().any(|s| s.id == first.id),
                    "{what}: the first is gone"
                );
                assert!(
                    !done || snapshots.len() == 2,
                    "{what}: acknowledged, and gone"
                );
                let report =
                    verify(&repo, Some(first.id), VerifyLevel::Full, None, &NullMonitor).unwrap();
                assert_eq!(report.damage.len(), 0, "{what}: {:?}", report.damage);
                for snapshot in &snapshots {
                    let out = tempfile::tempdir().unwrap();
                    let restored = restore_to(&repo, snapshot, out.path());
                    let expected = if snapshot.id == first.id {
                        &before
                    } else {
                        &after
                    };
                    assert_same(expected, &picture(&restored), what);
                }
                // And the next one just works.
                if !done {
                    let next = place.backup_with(&repo, &later(180));
                    let out = tempfile::tempdir().unwrap();
                    let restored = restore_to(&repo, &next.snapshot, out.path());
                    assert_same(&after, &picture(&restored), what);
                }
            },
        );
        assert!(points >= 6, "only {points} points were cut");
    }
}

#[test]
fn making_a_repository_can_be_cut_anywhere() {
    let place = Place::new();
    place.write("a", b"1");
    cut_everywhere(
        &MemoryStorage::new(),
        |storage| place.memory(storage).map(drop),
        |storage, _, what| {
            let _ = std::fs::remove_dir_all(place.cache());
            let repo = place
                .memory(storage)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            place.backup(&repo);
        },
    );
}

#[test]
fn a_full_disk_loses_nothing_and_heals_when_there_is_room() {
    let place = Place::new();
    odd_tree(&place);
    let base = MemoryStorage::new();
    let first = place
        .backup_with(&place.memory(&base).unwrap(), &later(60))
        .snapshot;
    let before = picture(&place.tree());
    place.write("incompressible", &noise(300_000));
    let mut failures = 0;
    for room in [0, 10, 1_000, 100_000, 290_000, 301_000, 1_000_000] {
        let storage = base.fork();
        storage.full_after(room);
        let repo = open(&place, &storage).unwrap();
        let done = bdr::protect::backup::backup(&repo, &[place.root()], &later(120), &NullMonitor);
        if let Err(error) = &done {
            failures += 1;
            assert!(
                error.hint().is_some_and(|h| h.contains("free some space")),
                "{error}"
            );
        }
        let storage = storage.after_crash(CrashMode::LoseUnsynced);
        let repo = open(&place, &storage).unwrap();
        let out = tempfile::tempdir().unwrap();
        let first = repo.snapshot(first.id).unwrap();
        assert_same(
            &before,
            &picture(&restore_to(&repo, &first, out.path())),
            "full disk",
        );
        place.backup_with(&repo, &later(180));
    }
    assert!((4..7).contains(&failures), "{failures} of 7 failed");
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut x: u64 = 0x9e37_79b9_7f4a_7c15;
    (0..length)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}
