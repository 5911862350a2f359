//! Stored files are flipped, cut, lost, doubled: bdr restores exactly, or says what it cannot.

use std::sync::Arc;

use bdr::base::monitor::{NullMonitor, RecordingMonitor};
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::storage::MemoryStorage;
use bdr::repo::Repository;

use crate::backup::restore_options;
use crate::crash::noise;
use crate::support::{Place, assert_same, later, options, picture};

fn small(place: &Place) -> MemoryStorage {
    place.write("a.json", br#"{"key": "value", "list": [1, 2, 3]}"#);
    place.write("dir/b.txt", b"some text, some more text");
    place.write("dir/empty", b"");
    std::os::unix::fs::symlink("a.json", place.tree().join("link")).unwrap();
    let storage = MemoryStorage::new();
    let repo = place.memory(&storage).unwrap();
    place.backup_with(&repo, &later(60));
    place.write("a.json", br#"{"key": "other", "list": [1, 2, 3]}"#);
    place.backup_with(&repo, &later(120));
    storage
}

fn open(place: &Place, storage: &MemoryStorage) -> bdr::Result<Repository> {
    let _ = std::fs::remove_dir_all(place.cache());
    Repository::open(Arc::new(storage.clone()), &place.cache())
}

/// Restores the newest snapshot; returns the tree if everything claimed to have worked.
fn restored(place: &Place, repo: &Repository) -> Option<tempfile::TempDir> {
    let snapshots = repo.snapshots().unwrap();
    let out = tempfile::tempdir().unwrap();
    let options = restore_options(Some(out.path()));
    let snapshot = snapshots.last()?;
    let plan = bdr::recover::restore::plan(repo, snapshot, &options, &NullMonitor).ok()?;
    let report = bdr::recover::restore::apply(
        repo,
        repo,
        snapshot,
        plan,
        &options,
        &RecordingMonitor::default(),
    )
    .ok()?;
    let _ = place;
    (report.problems.is_empty() && report.skipped.is_empty()).then_some(out)
}

#[test]
fn no_flipped_byte_ever_yields_wrong_data_without_a_word() {
    let place = Place::new();
    let base = small(&place);
    let now = picture(&place.tree());
    let before = {
        let repo = open(&place, &base).unwrap();
        let out = tempfile::tempdir().unwrap();
        let first = &repo.snapshots().unwrap()[0];
        picture(&crate::backup::restore_to(&repo, first, out.path()))
    };
    let (mut noticed, mut harmless) = (0, 0);
    for name in base.names() {
        if ["RECOVER.md", "recover.py", "reserve"].contains(&name.as_str()) {
            continue;
        }
        let length = {
            let mut length = 0;
            base.fork().damage(&name, |b| length = b.len());
            length
        };
        for at in 0..length {
            let storage = base.fork();
            storage.damage(&name, |bytes| bytes[at] ^= 1 << (at % 8));
            let Ok(repo) = open(&place, &storage) else {
                noticed += 1;
                continue;
            };
            let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
            match restored(&place, &repo) {
                None => assert!(
                    !report.damage.is_empty(),
                    "{name} byte {at}: restore failed, verify is content"
                ),
                Some(out) => {
                    let got = picture(&out.path().join("tree"));
                    // A damaged newest record leaves the one before as the newest: verify says so.
                    if got != now {
                        assert!(
                            !report.damage.is_empty(),
                            "{name} byte {at}: verify is content"
                        );
                        assert_same(&before, &got, &format!("{name} byte {at}"));
                    }
                }
            }
            if report.damage.is_empty() {
                harmless += 1;
            } else {
                noticed += 1;
            }
        }
    }
    // What verify may pass over: the few bytes of format.json that mean nothing.
    assert!(
        noticed > 2_000 && harmless < 100,
        "{noticed} noticed, {harmless} passed over"
    );
}

type Case = (&'static str, fn(&mut Vec<u8>));

#[test]
fn a_damaged_pack_is_named_with_what_it_costs_and_the_next_backup_heals_it() {
    let cases: [Case; 4] = [
        ("truncated", |b| b.truncate(b.len() / 2)),
        ("flipped", |b| b[100] ^= 0xff),
        ("emptied", Vec::clear),
        ("overwritten", |b| b.fill(0x55)),
    ];
    for (what, damage) in cases {
        let place = Place::new();
        place.write("keep/noise", &noise(100_000));
        place.write("keep/text", b"text that is only here");
        let storage = MemoryStorage::new();
        place.backup_with(&place.memory(&storage).unwrap(), &later(60));
        let pack = storage
            .names()
            .into_iter()
            .find(|n| n.starts_with("packs/"))
            .unwrap();
        storage.damage(&pack, damage);
        // The cache is kept: bdr must not believe it.
        let repo = Repository::open(Arc::new(storage.clone()), &place.cache()).unwrap();
        let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
        let found = report
            .damage
            .iter()
            .find(|d| d.name == pack)
            .unwrap_or_else(|| {
                panic!("{what}: the pack is not named in {:?}", report.damage);
            });
        assert!(!found.lost.is_empty(), "{what}: {found:?}");
        let healed = place.backup_with(&repo, &later(120));
        assert!(healed.read_bytes > 0, "{what}");
        let out = tempfile::tempdir().unwrap();
        let tree = crate::backup::restore_to(&repo, &healed.snapshot, out.path());
        assert_same(&picture(&place.tree()), &picture(&tree), what);
        let again = verify(
            &repo,
            Some(healed.snapshot.id),
            VerifyLevel::Full,
            None,
            &NullMonitor,
        )
        .unwrap();
        assert!(
            again.damage.iter().all(|d| d.lost.is_empty()),
            "{what}: {:?}",
            again.damage
        );
    }
}

#[test]
fn a_lost_pack_is_noticed_by_the_next_scheduled_backup() {
    let place = Place::new();
    place.write("a", &noise(5_000));
    let repo = place.repository();
    place.backup_with(&repo, &later(60));
    for pack in repo.list_packs().unwrap() {
        repo.storage()
            .remove(&bdr::repo::layout::pack(pack.id))
            .unwrap();
    }
    let repo = place.repository();
    let quick = verify(&repo, None, VerifyLevel::Quick, None, &NullMonitor).unwrap();
    assert_eq!(quick.damage.len(), 1, "{:?}", quick.damage);
    let repo = place.repository();
    let healed = place.backup_with(&repo, &later(120));
    let out = tempfile::tempdir().unwrap();
    let tree = crate::backup::restore_to(&repo, &healed.snapshot, out.path());
    assert_same(&picture(&place.tree()), &picture(&tree), "healed");
}

#[test]
fn a_second_copy_is_used_when_the_first_is_damaged() {
    let place = Place::new();
    place.write("a", &noise(50_000));
    let storage = MemoryStorage::new();
    let repo = place.memory(&storage).unwrap();
    let first = place.backup_with(&repo, &later(60));
    let mut full = later(120);
    full.full = true;
    // Metadata apart: the same pack would have the same name.
    full.level = bdr::protect::backup::Level::Fast;
    place.write("b", b"makes another pack");
    place.backup_with(&repo, &full);
    let packs: Vec<String> = storage
        .names()
        .into_iter()
        .filter(|n| n.starts_with("packs/"))
        .collect();
    let oldest = bdr::repo::layout::pack(first.snapshot.packs[0].id);
    assert!(packs.len() >= 2 && packs.contains(&oldest));
    storage.damage(&oldest, |b| b[2_000] ^= 1);
    let repo = open(&place, &storage).unwrap();
    let out = tempfile::tempdir().unwrap();
    let tree = crate::backup::restore_to(&repo, &first.snapshot, out.path());
    assert_eq!(std::fs::read(tree.join("a")).unwrap(), noise(50_000));
}

#[test]
fn a_repository_that_is_none_is_refused_with_a_reason() {
    let place = Place::new();
    let check = |files: &[(&str, &str)], expected: &str| {
        let storage = MemoryStorage::new();
        for (name, text) in files {
            bdr::disk::storage::put(&storage, name, text.as_bytes()).unwrap();
        }
        let made = Repository::create(Arc::new(storage), &place.cache(), options().now);
        let Err(error) = made else {
            panic!("{files:?} was taken for a repository")
        };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    check(&[("holiday.jpg", "x")], "it holds `holiday.jpg`");
    check(&[("format.json", "{}")], "not bdr's");
    check(&[("format.json", "{\"format\":\"bdr\",")], "damaged");
    check(
        &[("format.json", r#"{"format":"bdr","version":2}"#)],
        "format version 2",
    );
    check(
        &[(
            "format.json",
            r#"{"format":"bdr","version":1,"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","created":"2026-01-01T00:00:00Z","features":{"read":["holographic"]}}"#,
        )],
        "holographic",
    );
}

#[test]
fn a_state_of_another_time_or_repository_is_not_believed() {
    let place = Place::new();
    place.write("a", b"one");
    let repo = place.repository();
    place.backup_with(&repo, &later(60));
    let state_dir = repo.cache().join("state");
    let state = std::fs::read_dir(&state_dir)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = std::fs::read(&state).unwrap();
    for (what, bytes) in [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("emptied", Vec::new()),
        ("noise", noise(good.len())),
    ] {
        std::fs::write(&state, bytes).unwrap();
        let report = place.backup_with(&place.repository(), &later(120));
        assert!(report.read_bytes > 0, "{what}: it was believed");
        let out = tempfile::tempdir().unwrap();
        let tree = crate::backup::restore_to(&repo, &report.snapshot, out.path());
        assert_same(&picture(&place.tree()), &picture(&tree), what);
    }
    // The snapshot that it mirrors is gone.
    let report = place.backup_with(&place.repository(), &later(180));
    assert_eq!(report.read_bytes, 0);
    repo.storage().remove(&report.snapshot.file_name()).unwrap();
    let report = place.backup_with(&place.repository(), &later(240));
    assert!(
        report.read_bytes > 0,
        "a state without its snapshot was believed"
    );
}
