//! What was pushed may be gone or damaged: the next push notices it, and mends what this machine can.

use std::fs;

use bdr::disk::store::{Manners, MemoryStore, Store as _};
use bdr::remote::crypt::Generated;
use bdr::remote::push::Doubt;

use crate::pushed::{Far, check_all};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, later, noise};

/// A history of so many pushes that records build on records of three depths.
fn history(encrypted: bool) -> (Place, bdr::repo::Repository, Far) {
    let place = Place::new();
    let far = Far::new(Manners::Strict, encrypted);
    place.write("picture", &noise(100_000));
    let repo = place.repository();
    for day in 0..11 {
        place.write("plain.txt", format!("day {day}").as_bytes());
        place.write(&format!("d{day}"), &noise(3_000));
        let mut options = later(60 + day * 60);
        options.full = day % 5 == 0;
        place.backup_with(&repo, &options);
        far.push(&place, &repo).unwrap();
    }
    (place, repo, far)
}

/// How a thing that was pushed is damaged; `None` removes it.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

fn damages() -> [(&'static str, Damage); 3] {
    [
        ("gone", |_| None),
        ("cut off", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("flipped", |bytes| {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            Some(bytes)
        }),
    ]
}

#[test]
fn whatever_is_lost_there_is_sent_again_by_a_push_that_looks() {
    for encrypted in [true, false] {
        let (place, repo, far) = history(encrypted);
        let is_part = |key: &String| key.contains("/objects/") || key.contains("/pushes/");
        let keys = far.store.keys();
        let keys: Vec<String> = keys.into_iter().filter(is_part).collect();
        for (at, key) in keys.iter().enumerate() {
            let (what, damage) = damages()[at % 3];
            let what = format!("{key} {what}, encrypted: {encrypted}");
            let Some(old) = far.store.get(key, None).ok() else {
                // Nothing needs it since an earlier round.
                continue;
            };
            far.store.change(key, damage(&old));
            // Whoever reads everything notes what no listing shows.
            let name = key.splitn(3, '/').nth(2).unwrap().to_owned();
            Doubt::note(&place.path("remotes/far"), &[name]).unwrap();
            let report = far.push_with(&place, &repo, true).unwrap();
            assert_eq!(report.lost, 0, "{what}");
            check_all(&place, &repo, &far, &what);
            // And it is enough once.
            Doubt::note(&place.path("remotes/far"), &[]).unwrap();
            let again = far.push_with(&place, &repo, true).unwrap();
            assert_eq!((again.mended, again.number), (0, None), "{what}");
        }
    }
}

#[test]
fn lost_records_are_written_anew_and_a_lost_newest_one_is_noticed_by_any_push() {
    for encrypted in [true, false] {
        let (place, repo, far) = history(encrypted);
        let records = |far: &Far| -> Vec<String> {
            let keys = far.store.keys().into_iter();
            keys.filter(|key| key.contains("/pushes/")).collect()
        };
        let newest = records(&far).pop().unwrap();
        far.store.change(&newest, None);
        let report = far.push(&place, &repo).unwrap();
        assert!(report.mended > 0 && report.number.is_some());
        check_all(&place, &repo, &far, "the newest record");
        for key in records(&far) {
            far.store.change(&key, None);
        }
        let report = far.push(&place, &repo).unwrap();
        assert!(report.mended > 0 && report.number.is_some());
        check_all(&place, &repo, &far, "all records");
        // With the notes of this machine lost as well, a damaged record on which others build is no
        // dead end.
        place.write("plain.txt", b"later");
        place.backup_with(&repo, &later(3_000));
        far.push(&place, &repo).unwrap();
        let base = &records(&far)[0];
        far.store.change(base, None);
        fs::remove_dir_all(place.path("remotes/far")).unwrap();
        far.push(&place, &repo).unwrap();
        far.push_with(&place, &repo, true).unwrap();
        check_all(&place, &repo, &far, "a base, and the notes");
    }
}

#[test]
fn an_emptied_place_is_an_error_and_filled_again_only_by_who_asks() {
    for encrypted in [true, false] {
        let (place, repo, far) = history(encrypted);
        for key in far.store.keys() {
            far.store.change(&key, None);
        }
        for _ in 0..2 {
            place.write("plain.txt", b"more");
            place.backup_with(&repo, &later(4_000));
            let said = far.push(&place, &repo).unwrap_err().to_string();
            assert!(said.contains("nothing is left there"), "{said}");
            assert_eq!(far.store.keys(), Vec::<String>::new());
        }
        let report = far.push_with(&place, &repo, true).unwrap();
        assert_eq!(report.lost, 0);
        check_all(&place, &repo, &far, "emptied");
        let keys = far.store.keys();
        for name in ["/machine.json", "/RECOVER.md", "/recover.py", "/fulls/"] {
            assert!(
                keys.iter().any(|key| key.contains(name)),
                "{name}: {keys:?}"
            );
        }
    }
}

fn same_key(far: &Far) -> Option<Generated> {
    let key = far.key.as_ref()?;
    Generated::parse(&key.secret)
}

#[test]
fn what_an_interrupted_first_push_left_is_looked_for_too() {
    for encrypted in [true, false] {
        let place = Place::new();
        let far = Far::new(Manners::Strict, encrypted);
        place.write("picture", &noise(100_000));
        let repo = place.repository();
        place.backup_with(&repo, &later(60));
        far.push(&place, &repo).unwrap();
        let requests = far.trial.log().len();
        let far = Far::over(&MemoryStore::new(Manners::Strict), same_key(&far));
        fs::remove_dir_all(place.path("remotes/far")).unwrap();
        far.trial.cut_before(requests - 1);
        far.push(&place, &repo).unwrap_err();
        assert!(!far.store.keys().is_empty());
        let disk = far.store.fork();
        for key in far.store.keys() {
            far.store.change(&key, None);
        }
        far.trial.reset();
        let said = far.push(&place, &repo).unwrap_err().to_string();
        assert!(said.contains("nothing is left there"), "{said}");
        assert_eq!(far.store.keys(), Vec::<String>::new());
        let back = Far::over(&disk, same_key(&far));
        back.push(&place, &repo).unwrap();
        check_all(&place, &repo, &back, "it is back");
    }
}

/// A disk whose mount point is the destination itself: while it is away, nothing lands below it.
#[test]
fn a_mount_point_without_its_disk_is_not_filled() {
    let place = Place::with_repository();
    place.write("a.txt", b"one\n");
    place.init();
    let (point, away) = (place.path("mnt"), place.path("away"));
    let url = point.to_str().unwrap();
    place.run(&["remote", "add", "disk", url], 0);
    place.run(&["push"], 0);
    fs::rename(&point, &away).unwrap();
    fs::create_dir(&point).unwrap();
    place.write("a.txt", b"two\n");
    place.run(&["backup"], 0);
    for args in [
        &["push"][..],
        &["push", "disk"],
        &["prune", "--remote", "disk", "--yes"],
    ] {
        let output = place.run(args, 1);
        let said = stderr(&output);
        assert!(said.contains("its disk is not mounted"), "{args:?}: {said}");
        assert!(said.contains("bdr push disk --check"), "{args:?}: {said}");
        assert_eq!(fs::read_dir(&point).unwrap().count(), 0, "{args:?}");
    }
    let said = stdout(&place.run(&["status"], 0));
    assert!(said.contains("the last push failed"), "{said}");
    // It is back.
    fs::remove_dir(&point).unwrap();
    fs::rename(&away, &point).unwrap();
    place.run(&["push"], 0);
    place.run(&["verify", "--remote", "disk", "--level", "full"], 0);
}

/// Ctrl-C ends a push that would take an hour; nothing is lost by it.
#[cfg(unix)]
#[test]
fn a_push_that_is_interrupted_ends_and_the_next_one_completes() {
    let place = Place::with_repository();
    place.write("a.bin", &noise(3_000_000));
    place.init();
    let disk = place.path("disk");
    let args = [
        "remote",
        "add",
        "disk",
        disk.to_str().unwrap(),
        "--limit",
        "1k",
    ];
    place.run(&args, 0);
    let mut push = place
        .bdr(&["push"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    crate::support::terminal::wait_for("the first file", || {
        disk.join("bdr1").is_dir()
            && walk(&disk.join("bdr1"))
                .iter()
                .any(|path| path.ends_with("machine.json"))
    });
    let id = rustix::process::Pid::from_raw(push.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(push.wait().unwrap().code(), Some(130));
    let is_record = |path: &std::path::PathBuf| path.to_str().unwrap().contains("/pushes/");
    assert!(!walk(&disk).iter().any(is_record), "it was not done yet");
    place.run(&["config", "set", "remote.disk.limit", "100M"], 0);
    place.run(&["push"], 0);
    place.run(&["verify", "--remote", "disk"], 0);
    let left = walk(&disk).into_iter();
    let left: Vec<_> = left
        .filter(|path| path.to_str().unwrap().contains(".bdr-tmp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_verify_finds_changed_the_next_push_sends_again() {
    for encrypt in ["--encrypt", "--no-encryption"] {
        let place = Place::with_repository();
        place.write("a.bin", &noise(50_000));
        place.init();
        let disk = place.path("disk");
        place.run(
            &["remote", "add", "disk", disk.to_str().unwrap(), encrypt],
            0,
        );
        place.run(&["push"], 0);
        let objects = walk(&disk).into_iter();
        let objects = objects.filter(|path| path.to_str().unwrap().contains("/objects/"));
        for path in objects {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let said = stdout(&place.run(&["verify", "--remote", "disk"], 4));
        assert!(said.contains("bdr push disk --check"), "{said}");
        let said = stdout(&place.run(&["push", "disk", "--check"], 0));
        assert!(said.contains("whole again"), "{said}");
        place.run(&["verify", "--remote", "disk"], 0);
        let file = place.path("bdr/disk.key");
        let mut args = vec!["cat", "latest", "a.bin", "--from", "disk"];
        if encrypt == "--encrypt" {
            args.extend(["--identity", file.to_str().unwrap()]);
        }
        let seen = place.run(&args, 0);
        assert_eq!(seen.stdout, noise(50_000), "{encrypt}");
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(walk(&path)),
            false => all.push(path),
        }
    }
    all
}
