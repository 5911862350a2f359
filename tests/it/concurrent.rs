//! Several bdr at once, and bdr killed at any moment.

use std::sync::Arc;

use bdr::base::monitor::NullMonitor;
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::storage::LocalStorage;
use bdr::repo::Repository;

use crate::backup::restore_to;
use crate::support::{Place, assert_same, options, picture};

#[test]
fn two_writers_do_not_hurt_each_other() {
    let place = Place::new();
    for i in 0..50 {
        place.write(
            &format!("dir/{i}"),
            format!("content {i}").repeat(20).as_bytes(),
        );
    }
    place.repository();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..8 {
                    place.write(
                        &format!("w{writer}"),
                        format!("{writer} {round}").as_bytes(),
                    );
                    let repo = place.repository();
                    let report = bdr::protect::backup::backup(
                        &repo,
                        &[place.root()],
                        &options(),
                        &NullMonitor,
                    )
                    .unwrap();
                    assert!(report.problems.is_empty(), "{:?}", report.problems);
                }
            });
        }
    });
    let repo = place.repository();
    let snapshots = repo.snapshots().unwrap();
    assert_eq!(snapshots.len(), 32);
    let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let last = place.backup(&repo);
    let out = tempfile::tempdir().unwrap();
    let tree = restore_to(&repo, &last.snapshot, out.path());
    assert_same(&picture(&place.tree()), &picture(&tree), "after the race");
}

#[test]
fn a_writer_is_not_stopped_by_readers_and_waits_for_a_sweep() {
    let place = Place::new();
    place.write("f", b"x");
    let repo = place.repository();
    place.backup(&repo);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(place.path("repo/lock"))
        .unwrap();
    file.lock().unwrap();
    // A guard does not wait: what it writes refers to nothing older.
    let guard = bdr::protect::backup::BackupOptions::new(
        bdr::repo::snapshot::Trigger::Guard,
        options().now,
    );
    place.write("f", b"changed");
    let report =
        bdr::protect::backup::backup(&repo, &[place.root()], &guard, &NullMonitor).unwrap();
    assert_eq!(
        report.snapshot.kind,
        bdr::repo::snapshot::SnapshotKind::Full
    );
    drop(file);
    place.backup(&repo);
}

#[test]
fn kill_nine_at_random_moments_leaves_a_good_repository() {
    let place = Place::with_repository();
    for i in 0..200 {
        place.write(
            &format!("dir{}/{i}", i % 7),
            format!("content {i} ").repeat(100).as_bytes(),
        );
    }
    place.init();
    let mut killed = 0;
    for round in 0..25u64 {
        place.write(
            "dir0/changing",
            &crate::crash::noise(200_000 + round as usize),
        );
        place.write(&format!("new{round}"), &[round as u8; 5_000]);
        let mut child = place
            .bdr(if round % 3 == 0 {
                &["backup", "--full"]
            } else {
                &["backup"]
            })
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(300 + round * 900));
        let _ = child.kill();
        killed += u32::from(!child.wait().unwrap().success());
    }
    assert!(killed > 0, "every backup was faster than the kill");
    // What lies there for a while belongs to nobody.
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for left in std::fs::read_dir(place.store().join("tmp")).unwrap() {
        let file = std::fs::File::open(left.unwrap().path()).unwrap();
        file.set_modified(an_hour_ago).unwrap();
    }
    place.run(&["backup"], 0);
    let storage = Arc::new(LocalStorage::new(place.store()));
    let repo = Repository::open(storage, &place.path("elsewhere")).unwrap();
    let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let snapshots = repo.snapshots().unwrap();
    let out = tempfile::tempdir().unwrap();
    let tree = restore_to(&repo, snapshots.last().unwrap(), out.path());
    assert_same(&picture(&place.tree()), &picture(&tree), "after the kills");
    // What the killed left was swept by the last one.
    assert_eq!(
        std::fs::read_dir(place.store().join("tmp"))
            .unwrap()
            .count(),
        0
    );
}

/// Swaps two names back and forth while `work` runs.
#[cfg(target_os = "linux")]
pub(crate) fn swapping(one: &std::path::Path, other: &std::path::Path, work: impl FnOnce()) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(150));
            }
        });
        // When it fails, too.
        let _end = Done(&done);
        work();
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_becomes_a_link_while_it_is_backed_up_leads_nowhere() {
    let place = Place::new();
    let outside = place.path("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    for n in 0..40 {
        place.write(&format!("d/deep/{n}"), format!("inside {n}").as_bytes());
        std::fs::write(outside.join(format!("deep/{n}")), "from outside").unwrap();
    }
    let link = place.path("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let repo = place.repository();
    let mut both = [0, 0];
    swapping(&place.tree().join("d"), &link, || {
        for _ in 0..150 {
            // Some paths are gone by the time they are read.
            let report =
                bdr::protect::backup::backup(&repo, &[place.root()], &options(), &NullMonitor);
            let Ok(report) = report else { continue };
            let listing = repo.listing(&report.snapshot.roots[0]).unwrap();
            both[usize::from(
                listing
                    .iter()
                    .any(|entry| entry.path.as_bytes() == b"d/deep/1"),
            )] += 1;
        }
    });
    assert!(both.iter().all(|seen| *seen > 0), "{both:?}");
    let secret = bdr::base::id::Digest::of(b"from outside");
    for snapshot in repo.snapshots().unwrap() {
        for entry in repo.listing(&snapshot.roots[0]).unwrap() {
            let digest = entry.body.content.as_ref().map(|content| content.digest);
            assert_ne!(digest, Some(secret), "{:?}", entry.path);
        }
    }
}
