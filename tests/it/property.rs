//! Random trees and edits against naive copies: whatever happens between, every snapshot restores as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::backup::restore_to;
use crate::support::{Object, Place, assert_same, options, picture};

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, usize, u8),
    Append(usize, u8),
    Patch(usize, u8),
    Remove(usize),
    Mkdir(usize),
    Rename(usize, usize),
    Symlink(usize, usize),
    Link(usize, usize),
    Chmod(usize, u32),
    Touch(usize, i64),
    ForgetCache,
    Reopen,
}

const NAMES: [&str; 12] = [
    "a",
    "b",
    "dir",
    "dir/a",
    "dir/b",
    "dir/sub",
    "dir/sub/x",
    "z/y",
    "z",
    "a-b",
    "dir.txt",
    "log.jsonl",
];

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), 0usize..40_000, any::<u8>()).prop_map(|(n, s, b)| Edit::Write(n, s, b)),
        3 => (name.clone(), any::<u8>()).prop_map(|(n, b)| Edit::Append(n, b)),
        3 => (name.clone(), any::<u8>()).prop_map(|(n, b)| Edit::Patch(n, b)),
        2 => name.clone().prop_map(Edit::Remove),
        2 => name.clone().prop_map(Edit::Mkdir),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Rename(a, b)),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Symlink(a, b)),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Link(a, b)),
        1 => (name.clone(), prop_oneof![Just(0o600), Just(0o755), Just(0o444)]).prop_map(|(n, m)| Edit::Chmod(n, m)),
        1 => (name, -1_000_000i64..2_000_000_000).prop_map(|(n, t)| Edit::Touch(n, t)),
        1 => Just(Edit::ForgetCache),
        1 => Just(Edit::Reopen),
    ]
}

/// Does what can be done of an edit; the rest does not matter.
fn apply(place: &Place, edit: &Edit) {
    use std::fs;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    let path = |n: &usize| place.tree().join(NAMES[*n]);
    let parent = |p: &PathBuf| {
        let _ = fs::create_dir_all(p.parent().unwrap());
    };
    match edit {
        Edit::Write(n, size, byte) => {
            parent(&path(n));
            let content: Vec<u8> = (0..*size)
                .map(|i| byte.wrapping_add((i / 97) as u8))
                .collect();
            let _ = fs::write(path(n), content);
        }
        Edit::Append(n, byte) => {
            if let Ok(mut file) = fs::File::options().append(true).open(path(n)) {
                let _ = file.write_all(&[*byte; 33]);
            }
        }
        Edit::Patch(n, byte) => {
            // In place, the same size.
            if let Ok(mut file) = fs::File::options().write(true).open(path(n)) {
                let length = file.metadata().unwrap().len();
                if length > 10 {
                    let _ = file.seek(SeekFrom::Start(length / 2));
                    let _ = file.write_all(&[*byte; 5]);
                }
            }
        }
        Edit::Remove(n) => {
            let _ = fs::remove_file(path(n)).or_else(|_| fs::remove_dir_all(path(n)));
        }
        Edit::Mkdir(n) => {
            let _ = fs::create_dir_all(path(n));
        }
        Edit::Rename(a, b) => {
            parent(&path(b));
            let _ = fs::rename(path(a), path(b));
        }
        Edit::Symlink(a, b) => {
            parent(&path(b));
            let _ = std::os::unix::fs::symlink(NAMES[*a], path(b));
        }
        Edit::Link(a, b) => {
            parent(&path(b));
            if path(a).is_file() && !path(a).is_symlink() {
                let _ = fs::hard_link(path(a), path(b));
            }
        }
        Edit::Chmod(n, mode) => {
            if path(n).is_file() && !path(n).is_symlink() {
                let _ = fs::set_permissions(path(n), fs::Permissions::from_mode(*mode));
            }
        }
        Edit::Touch(n, seconds) => {
            if path(n).is_file()
                && !path(n).is_symlink()
                && let Ok(file) = fs::File::options().read(true).open(path(n))
            {
                let time = if *seconds < 0 {
                    std::time::UNIX_EPOCH - std::time::Duration::from_secs(seconds.unsigned_abs())
                } else {
                    std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs())
                };
                let _ = file.set_modified(time);
            }
        }
        Edit::ForgetCache => {
            let _ = fs::remove_dir_all(place.cache());
        }
        Edit::Reopen => {}
    }
}

#[test]
fn every_snapshot_restores_as_the_tree_was() {
    let rounds = prop::collection::vec((prop::collection::vec(edit(), 1..8), any::<bool>()), 1..6);
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&rounds, |rounds| {
            let place = Place::new();
            let mut repo = place.repository();
            let mut taken: Vec<(bdr::repo::snapshot::Snapshot, BTreeMap<PathBuf, Object>)> =
                Vec::new();
            for (edits, full) in &rounds {
                for edit in edits {
                    apply(&place, edit);
                    if matches!(edit, Edit::Reopen | Edit::ForgetCache) {
                        repo = place.repository();
                    }
                }
                let mut options = options();
                options.full = *full && taken.len() % 2 == 1;
                let report = place.backup_with(&repo, &options);
                taken.push((report.snapshot, picture(&place.tree())));
            }
            for (snapshot, expected) in &taken {
                let out = tempfile::tempdir().unwrap();
                let tree = restore_to(&repo, snapshot, out.path());
                assert_same(
                    expected,
                    &picture(&tree),
                    &format!("snapshot {}", snapshot.seq),
                );
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn undo_takes_any_edits_back() {
    let rounds = (
        prop::collection::vec(edit(), 1..10),
        prop::collection::vec(edit(), 1..10),
        any::<bool>(),
    );
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&rounds, |(before, during, is_cut_off)| {
            edits_are_undone(&before, &during, is_cut_off);
            Ok(())
        })
        .unwrap();
}

#[test]
fn undo_of_a_new_name_and_a_new_mode_of_one_file() {
    edits_are_undone(
        &[Edit::Write(0, 0, 0)],
        &[Edit::Link(0, 1), Edit::Chmod(0, 0o600)],
        false,
    );
}

#[test]
fn undo_of_a_new_name_and_something_else_new_of_one_file() {
    let with_link: [&[Edit]; 9] = [
        &[Edit::Link(0, 1)],
        &[Edit::Link(0, 1), Edit::Chmod(0, 0o600)],
        &[Edit::Link(0, 1), Edit::Append(0, 7)],
        &[Edit::Link(0, 1), Edit::Touch(0, 1000)],
        &[Edit::Link(0, 1), Edit::Rename(0, 9)],
        &[Edit::Rename(0, 1), Edit::Append(1, 7)],
        &[Edit::Mkdir(2), Edit::Link(0, 3), Edit::Chmod(0, 0o600)],
        &[Edit::Link(7, 1), Edit::Rename(8, 2), Edit::Append(1, 7)],
        &[
            Edit::Rename(8, 2),
            Edit::Append(3, 7),
            Edit::Chmod(3, 0o600),
        ],
    ];
    for during in with_link {
        for is_cut_off in [false, true] {
            edits_are_undone(
                &[Edit::Write(0, 0, 0), Edit::Write(7, 9, 0)],
                during,
                is_cut_off,
            );
        }
    }
}

/// `is_cut_off`: nobody has looked at what the command did when it is undone.
fn edits_are_undone(before: &[Edit], during: &[Edit], is_cut_off: bool) {
    use bdr::protect::guard::{GuardOptions, protect};
    let place = Place::new();
    place.write("a", b"always something");
    before.iter().for_each(|edit| apply(&place, edit));
    let repo = place.repository();
    // What is older than the operation must be so by any clock: else it counts as made by it.
    std::thread::sleep(std::time::Duration::from_millis(25));
    let now = options().now;
    let expected = picture(&place.tree());
    let backup = bdr::protect::backup::BackupOptions::new(bdr::repo::snapshot::Trigger::Guard, now);
    let guard = GuardOptions::new(backup, vec!["edit".into()], &place.tree());
    let monitor = bdr::base::monitor::NullMonitor;
    let protected = protect(&repo, &[place.root()], &guard, &monitor).unwrap();
    // The edits happen while the guarded command runs.
    let place_ref = &place;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            during.iter().for_each(|edit| {
                if !matches!(edit, Edit::ForgetCache) {
                    apply(place_ref, edit);
                }
            });
            std::fs::write(place_ref.path("done"), "").unwrap();
        });
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(format!(
            "while [ ! -e '{}' ]; do sleep 0.01; done",
            place_ref.path("done").display()
        ));
        protected.run(command).unwrap()
    });
    let options = bdr::recover::undo::UndoOptions {
        force: false,
        all: false,
        look_only: false,
        now,
        cwd: place.tree(),
        argv: Vec::new(),
        paths: Vec::new(),
        never: Vec::new(),
        host: String::new(),
        agent: None,
    };
    let mut operation = outcome.operation;
    if is_cut_off {
        operation.end = None;
    }
    let plan = bdr::recover::undo::plan(&repo, &operation, &options, &monitor).unwrap();
    let report = bdr::recover::undo::apply(&repo, &operation, plan, &options, &monitor).unwrap();
    assert_eq!((report.conflicts, report.problems), (0, vec![]));
    assert_same(&expected, &picture(&place.tree()), "undone");
}
