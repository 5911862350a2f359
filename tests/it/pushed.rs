//! What was pushed to a destination comes back from there, whatever happened on the way.

use std::sync::Arc;
use std::time::Duration;

use bdr::base::error::Error;
use bdr::base::monitor::NullMonitor;
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::store::{Manners, MemoryStore, Service, Store, Trial};
use bdr::remote::crypt::{Encryption, Generated, Identities};
use bdr::remote::ledger::{Ledger, Machine};
use bdr::remote::push::{Doubt, Link, PushOptions, PushReport, push};
use bdr::remote::{Destination, open};
use bdr::repo::Repository;

use crate::backup::{odd_tree, restore_to};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, later, noise, now, picture};

/// A destination, with everything that pushing there and reading from there needs.
pub(crate) struct Far {
    pub(crate) store: MemoryStore,
    pub(crate) trial: Trial,
    pub(crate) key: Option<Generated>,
}

impl Far {
    pub(crate) fn new(manners: Manners, encrypted: bool) -> Self {
        let store = MemoryStore::new(manners);
        Self::over(&store, encrypted.then(Generated::new))
    }

    pub(crate) fn over(store: &MemoryStore, key: Option<Generated>) -> Self {
        let trial = Trial::new(Arc::new(store.clone()));
        let store = store.clone();
        Self { store, trial, key }
    }

    pub(crate) fn encryption(&self) -> Encryption {
        match &self.key {
            None => Encryption::None,
            Some(key) => Encryption::to(std::slice::from_ref(&key.recipient)).unwrap(),
        }
    }

    pub(crate) fn identities(&self) -> Identities {
        let mut identities = Identities::default();
        if let Some(key) = &self.key {
            identities.add(key.secret.as_bytes(), &|| None).unwrap();
        }
        identities
    }

    pub(crate) fn destination(&self, place: &Place) -> Destination {
        let machine = Machine::of(&place.path("remotes"), now()).unwrap();
        Destination::new(Arc::new(self.trial.clone()), "far", machine.id)
    }

    pub(crate) fn push(&self, place: &Place, repo: &Repository) -> bdr::Result<PushReport> {
        self.push_with(place, repo, false)
    }

    pub(crate) fn push_with(
        &self,
        place: &Place,
        repo: &Repository,
        check: bool,
    ) -> bdr::Result<PushReport> {
        self.push_at(place, repo, check, now())
    }

    pub(crate) fn push_at(
        &self,
        place: &Place,
        repo: &Repository,
        check: bool,
        now: chrono::DateTime<chrono::Utc>,
    ) -> bdr::Result<PushReport> {
        let machine = Machine::of(&place.path("remotes"), now).unwrap();
        let mut ledger = Ledger::open(&place.path("remotes/far"), Duration::ZERO)?;
        let options = PushOptions {
            now,
            host: "here".to_owned(),
            encryption: &self.encryption(),
            check,
            doubt: Doubt::read(&place.path("remotes/far"), Service::File, check),
        };
        push(
            Link {
                repo,
                destination: &self.destination(place),
                machine: &machine,
                ledger: &mut ledger,
            },
            &options,
            &NullMonitor,
        )
    }

    /// Reads on a machine that has nothing but the store and the key.
    pub(crate) fn read(&self, place: &Place) -> (Repository, tempfile::TempDir) {
        let bare = tempfile::tempdir().unwrap();
        let read = open(&self.destination(place), self.identities(), bare.path());
        (read.unwrap().0, bare)
    }
}

/// Every snapshot there is whole, and is as the local one.
pub(crate) fn check_all(place: &Place, repo: &Repository, far: &Far, what: &str) {
    let (there, _bare) = far.read(place);
    let (here, pushed) = (repo.snapshots().unwrap(), there.snapshots().unwrap());
    let ids = |all: &[bdr::repo::snapshot::Snapshot]| all.iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(ids(&here), ids(&pushed), "{what}");
    let report = verify(&there, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert_eq!(report.damage.len(), 0, "{what}: {:?}", report.damage);
    for (here, pushed) in here.iter().zip(&pushed) {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let wanted = picture(&restore_to(repo, here, one.path()));
        let found = picture(&restore_to(&there, pushed, two.path()));
        assert_same(&wanted, &found, what);
    }
}

/// A repository with some days of work: a full backup, incremental ones, many small packs.
pub(crate) fn worked(place: &Place) -> Repository {
    odd_tree(place);
    place.write("picture", &noise(300_000));
    let repo = place.repository();
    let mut full = later(60);
    full.full = true;
    place.backup_with(&repo, &full);
    for day in 1..5 {
        place.write("plain.txt", format!("day {day}").as_bytes());
        place.write(&format!("new/{day}.txt"), &noise(3000));
        place.backup_with(&repo, &later(60 + day * 60));
    }
    repo
}

#[test]
fn every_snapshot_comes_back_from_a_destination() {
    for encrypted in [true, false] {
        let place = Place::new();
        let repo = worked(&place);
        let far = Far::new(Manners::Strict, encrypted);
        let report = far.push(&place, &repo).unwrap();
        assert_eq!(report.snapshots, 5);
        assert!(report.joined > 1, "{report:?}");
        check_all(&place, &repo, &far, "after the first push");
        // Nothing is left to do, and finding that out costs one listing.
        far.trial.reset();
        let again = far.push(&place, &repo).unwrap();
        assert_eq!((again.number, again.held), (None, 5));
        assert_eq!(far.trial.log().len(), 1, "{:?}", far.trial.log());
        // A day's work is one object and one record, after the listing.
        place.write("big.log", &b"0123456789abcdef\n".repeat(20_100));
        place.write("more", &noise(30_000));
        place.backup_with(&repo, &later(900));
        far.trial.reset();
        assert_eq!(far.push(&place, &repo).unwrap().snapshots, 1);
        assert_eq!(far.trial.log().len(), 3, "{:?}", far.trial.log());
        check_all(&place, &repo, &far, "after a day's work");
    }
}

#[test]
fn nobody_reads_it_without_the_key() {
    let place = Place::new();
    place.write("plain.txt", b"the words that nobody may read");
    let repo = place.repository();
    place.backup_with(&repo, &later(60));
    let far = Far::new(Manners::Strict, true);
    far.push(&place, &repo).unwrap();
    for key in far.store.keys() {
        let bytes = far.store.get(&key, None).unwrap();
        let about = key.ends_with("RECOVER.md") || key.ends_with("recover.py");
        let found = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        assert!(
            about || !found("plain.txt") && !found("nobody may read"),
            "{key}"
        );
        // Nor do names tell which packs there are.
        for pack in repo.list_packs().unwrap() {
            assert!(!key.contains(&pack.id.to_hex()), "{key}");
        }
    }
    let bare = tempfile::tempdir().unwrap();
    let mut other = Identities::default();
    other
        .add(Generated::new().secret.as_bytes(), &|| None)
        .unwrap();
    for identities in [Identities::default(), other] {
        let error = open(&far.destination(&place), identities, bare.path()).err();
        assert!(matches!(error, Some(Error::NoKey { .. })), "{error:?}");
    }
}

#[test]
fn a_push_cut_at_any_request_is_completed_by_the_next() {
    for manners in [
        Manners::Strict,
        Manners::NoConditions,
        Manners::IgnoresConditions,
        Manners::AddOnly,
    ] {
        for encrypted in [true, false] {
            let base = Place::new();
            odd_tree(&base);
            let repo = base.repository();
            base.backup_with(&repo, &later(60));
            let start = Far::new(manners, encrypted);
            start.push(&base, &repo).unwrap();
            base.write("plain.txt", b"changed");
            base.write("noise", &noise(100_000));
            base.backup_with(&repo, &later(120));
            let ledger = base.path("remotes");
            let saved = tempfile::tempdir().unwrap();
            copy_tree(&ledger, saved.path());
            let mut cut = 0;
            for after in [false, true] {
                for number in 0.. {
                    std::fs::remove_dir_all(&ledger).unwrap();
                    copy_tree(saved.path(), &ledger);
                    let key = start
                        .key
                        .as_ref()
                        .map(|key| Generated::parse(&key.secret).unwrap());
                    let far = Far::over(&start.store.fork(), key);
                    match after {
                        true => far.trial.cut_after(number),
                        false => far.trial.cut_before(number),
                    }
                    let done = far.push(&base, &repo).is_ok();
                    let what = format!(
                        "{manners:?}, cut at {number}, {after}: {:?}",
                        far.trial.log()
                    );
                    far.trial.reset();
                    // What is there is whole, with or without the second snapshot.
                    let (there, _bare) = far.read(&base);
                    let report =
                        verify(&there, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
                    assert_eq!(report.damage.len(), 0, "{what}: {:?}", report.damage);
                    far.push(&base, &repo)
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                    check_all(&base, &repo, &far, &what);
                    if done {
                        break;
                    }
                    cut += 1;
                }
            }
            assert!(cut >= 5, "only {cut} cuts");
        }
    }
}

pub(crate) fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_lost_ledger_costs_no_second_upload() {
    for encrypted in [true, false] {
        let place = Place::new();
        let repo = worked(&place);
        let far = Far::new(Manners::Strict, encrypted);
        far.push(&place, &repo).unwrap();
        place.write("later", &noise(10_000));
        place.backup_with(&repo, &later(900));
        std::fs::remove_dir_all(place.path("remotes/far")).unwrap();
        let report = far.push(&place, &repo).unwrap();
        // What was put together then is put together anew; the pack of the full backup is not sent.
        let big = repo
            .list_packs()
            .unwrap()
            .iter()
            .map(|p| p.bytes)
            .max()
            .unwrap();
        assert!(report.bytes < big, "{report:?}");
        check_all(&place, &repo, &far, "after the ledger was lost");
        far.push(&place, &repo).unwrap();
        check_all(&place, &repo, &far, "and after the next push");
    }
}

#[test]
fn a_copy_of_the_machine_is_noticed() {
    let place = Place::new();
    let repo = worked(&place);
    let far = Far::new(Manners::Strict, true);
    far.push(&place, &repo).unwrap();
    let saved = tempfile::tempdir().unwrap();
    copy_tree(&place.path("remotes"), saved.path());
    place.write("one", b"1");
    place.backup_with(&repo, &later(900));
    far.push(&place, &repo).unwrap();
    // The copy has the state from before, and pushes something else.
    std::fs::remove_dir_all(place.path("remotes")).unwrap();
    copy_tree(saved.path(), &place.path("remotes"));
    place.write("two", b"2");
    place.backup_with(&repo, &later(960));
    let before = far.store.keys();
    let error = far.push(&place, &repo).unwrap_err();
    assert!(
        error.to_string().contains("another machine pushes"),
        "{error}"
    );
    assert_eq!(far.store.keys(), before);
}

#[test]
fn many_pushes_are_read_from_few_records() {
    let place = Place::new();
    let repo = worked(&place);
    let far = Far::new(Manners::Strict, true);
    for day in 0..70 {
        place.write("plain.txt", format!("push {day}").as_bytes());
        place.backup_with(&repo, &later(1000 + day * 60));
        far.push(&place, &repo).unwrap();
    }
    far.trial.reset();
    let (there, _bare) = far.read(&place);
    let log = far.trial.log();
    assert!(log.len() <= 5, "{} requests: {log:?}", log.len());
    let snapshots = there.snapshots().unwrap();
    assert_eq!(snapshots.len(), 75);
    let out = tempfile::tempdir().unwrap();
    let restored = restore_to(&there, &snapshots[74], out.path());
    assert_eq!(
        std::fs::read(restored.join("plain.txt")).unwrap(),
        b"push 69"
    );
    check_all(&place, &repo, &far, "after seventy pushes");
}

#[test]
fn what_was_changed_at_a_destination_is_never_restored() {
    for encrypted in [true, false] {
        let place = Place::new();
        let repo = worked(&place);
        let far = Far::new(Manners::IgnoresConditions, encrypted);
        far.push(&place, &repo).unwrap();
        let last = repo.snapshots().unwrap().pop().unwrap();
        let out = tempfile::tempdir().unwrap();
        let wanted = picture(&restore_to(&repo, &last, out.path()));
        let keys = far.store.keys();
        let objects = keys
            .iter()
            .filter(|key| key.contains("/objects/") || key.contains("/pushes/"));
        let mut noticed = 0;
        for key in objects {
            let whole = far.store.get(key, None).unwrap();
            let other = keys.iter().rev().find(|other| *other != key).unwrap();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            let changes = [
                None,
                Some(Vec::new()),
                Some(whole[..whole.len() - 1].to_vec()),
                Some(flipped),
                Some(far.store.get(other, None).unwrap()),
            ];
            for change in changes {
                far.store.change(key, change);
                let bare = tempfile::tempdir().unwrap();
                let out = tempfile::tempdir().unwrap();
                let restored = open(&far.destination(&place), far.identities(), bare.path())
                    .and_then(|(there, _)| {
                        let snapshot = there.snapshot(last.id)?;
                        let options = crate::backup::restore_options(Some(out.path()));
                        use bdr::recover::restore::{apply, plan};
                        let plan = plan(&there, &snapshot, &options, &NullMonitor)?;
                        let report =
                            apply(&there, &there, &snapshot, plan, &options, &NullMonitor)?;
                        Ok(report.problems.is_empty())
                    });
                match restored {
                    Ok(true) => assert_same(&wanted, &picture(&out.path().join("tree")), key),
                    Ok(false) | Err(_) => noticed += 1,
                }
                far.store.change(key, Some(whole.clone()));
            }
        }
        assert!(noticed >= 10, "{noticed}");
        check_all(&place, &repo, &far, "when everything is back");
    }
}

#[test]
fn what_was_deleted_there_is_noticed_and_sent_again() {
    let place = Place::new();
    let repo = worked(&place);
    let far = Far::new(Manners::Strict, true);
    far.push(&place, &repo).unwrap();
    let lost = far
        .store
        .keys()
        .into_iter()
        .filter(|key| key.contains("/objects/"));
    for key in lost.collect::<Vec<_>>() {
        far.store.change(&key, None);
        let report = far.push_with(&place, &repo, true).unwrap();
        assert_eq!(report.mended, 1, "{key}");
        check_all(&place, &repo, &far, &key);
    }
}

/// A place with a configured source and two destinations in directories, one of them encrypted.
pub(crate) fn configured() -> (Place, Generated) {
    let place = Place::new();
    odd_tree(&place);
    let key = Generated::new();
    std::fs::write(
        place.path("key.txt"),
        format!("# a comment\n{}\n", *key.secret),
    )
    .unwrap();
    for dir in ["far", "plain"] {
        std::fs::create_dir(place.path(dir)).unwrap();
    }
    place.init();
    place.configure(&format!(
        "[remote.far]\nurl = \"file://{}\"\nrecipients = [\"{}\"]\n\
         [remote.plain]\nurl = \"file://{}\"\n",
        place.path("far").display(),
        key.recipient,
        place.path("plain").display(),
    ));
    (place, key)
}

#[test]
fn a_bare_machine_gets_everything_back() {
    let (place, _) = configured();
    let before = picture(&place.tree());
    let pushed = place.json(&["push"]);
    assert_eq!(pushed["remotes"].as_array().unwrap().len(), 2, "{pushed}");
    assert_eq!(pushed["remotes"][0]["snapshots"], 1, "{pushed}");
    // The machine is gone, with repository, state, cache and configuration.
    let key = place.path("key.txt").display().to_string();
    for url in ["far", "plain"].map(|dir| format!("file://{}", place.path(dir).display())) {
        let bare = Place::new();
        let identity: &[&str] = if url.ends_with("far") {
            &["--identity", &key]
        } else {
            &[]
        };
        let with = |args: &[&str]| -> Vec<String> {
            args.iter()
                .chain(identity)
                .map(|&arg| arg.to_owned())
                .collect()
        };
        let run = |args: &[&str]| {
            let args = with(args);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            stdout(&bare.run(&args, 0))
        };
        // Without a repository of its own.
        assert!(run(&["ls", "--from", &url, "latest"]).contains("plain.txt"));
        assert_eq!(
            run(&["cat", "--from", &url, "latest", "tree/plain.txt"]),
            "hello"
        );
        assert!(run(&["find", "--from", &url, "big.*"]).contains("big.log"));
        assert!(run(&["list", "--from", &url]).contains("init"));
        assert!(!bare.store().exists());
        let out = bare.path("out").display().to_string();
        run(&["restore", "--from", &url, "latest", "--target", &out]);
        assert_same(&before, &picture(&bare.path("out/tree")), &url);
        // With one.
        assert!(run(&["clone", &url, "--dry-run"]).contains("Would fetch 1 snapshot"));
        run(&["clone", &url]);
        bare.run(&["verify"], 0);
        let out = bare.path("out2").display().to_string();
        bare.run(&["restore", "latest", "--target", &out], 0);
        assert_same(&before, &picture(&bare.path("out2/tree")), &url);
        assert!(run(&["pull", &url]).contains("Nothing is missing"));
        // What is lost here comes back from there.
        let pack = walkdir::WalkDir::new(bare.store().join("packs"))
            .into_iter()
            .flatten();
        let pack = pack
            .map(|entry| entry.into_path())
            .find(|path| path.is_file())
            .unwrap();
        let dir = pack.parent().unwrap();
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::remove_file(&pack).unwrap();
        run(&["pull", &url]);
        bare.run(&["verify"], 0);
    }
}

#[test]
fn a_restore_from_elsewhere_saves_what_it_replaces() {
    let (place, _) = configured();
    place.run(&["push", "plain"], 0);
    let url = format!("file://{}", place.path("plain").display());
    place.write("plain.txt", b"later work");
    let before = picture(&place.tree());
    let file = place.tree().join("plain.txt").display().to_string();
    place.run(&["restore", "--from", &url, "latest", &file, "--yes"], 0);
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "undone");
}

#[test]
fn a_destination_that_is_away_does_not_keep_the_others_waiting() {
    let (place, _) = configured();
    std::fs::remove_dir(place.path("far")).unwrap();
    let pushed = place.run(&["push", "--json"], 3);
    let pushed: serde_json::Value = serde_json::from_slice(&pushed.stdout).unwrap();
    let remotes = &pushed["data"]["remotes"];
    assert_eq!(remotes[0]["ok"], false, "{pushed}");
    assert!(remotes[0]["hint"].is_string(), "{pushed}");
    assert_eq!(
        (&remotes[1]["ok"], &remotes[1]["snapshots"]),
        (&true.into(), &1.into()),
        "{pushed}"
    );
    // Nothing was made in its place.
    assert!(!place.path("far").exists());
    std::fs::create_dir(place.path("far")).unwrap();
    place.run(&["push"], 0);
}

#[test]
fn a_wrong_key_and_a_missing_one_say_what_to_do() {
    let (place, _) = configured();
    place.run(&["push"], 0);
    let url = format!("file://{}", place.path("far").display());
    let said = stderr(&place.run(&["ls", "--from", &url, "latest"], 2));
    assert!(said.contains("--identity FILE"), "{said}");
    std::fs::write(place.path("other.txt"), Generated::new().secret.as_bytes()).unwrap();
    let other = place.path("other.txt").display().to_string();
    let said = stderr(&place.run(&["ls", "--from", &url, "latest", "--identity", &other], 2));
    assert!(said.contains("none of the identities"), "{said}");
    // An identity file that a passphrase protects.
    let (place, key) = configured();
    place.run(&["push"], 0);
    let url = format!("file://{}", place.path("far").display());
    std::fs::write(
        place.path("locked.age"),
        key.locked("correct horse").unwrap(),
    )
    .unwrap();
    let locked = place.path("locked.age").display().to_string();
    let args = [
        "cat",
        "--from",
        &url,
        "latest:plain.txt",
        "--identity",
        &locked,
    ];
    let found = place
        .bdr(&args)
        .env("BDR_PASSPHRASE", "correct horse")
        .output()
        .unwrap();
    assert_eq!(found.stdout, b"hello", "{}", stderr(&found));
    let found = place
        .bdr(&args)
        .env("BDR_PASSPHRASE", "wrong")
        .output()
        .unwrap();
    assert!(
        stderr(&found).contains("the passphrase is wrong"),
        "{}",
        stderr(&found)
    );
}

#[test]
fn a_guard_asks_a_destination_for_nothing() {
    let (place, _) = configured();
    place.run(&["push"], 0);
    let seen = |dir: &str| picture(&place.path(dir));
    let before = (seen("far"), seen("plain"));
    place.run(&["guard", "--", "rm", "-rf", "big.log", "deep"], 0);
    assert_eq!(before, (seen("far"), seen("plain")));
    place.undo_by_name();
    place.run(&["push"], 0);
    assert_ne!(before, (seen("far"), seen("plain")));
}

#[test]
fn verify_sees_what_happened_to_a_destination_without_a_key() {
    let (place, _) = configured();
    place.run(&["push"], 0);
    let said = stdout(&place.run(&["verify", "--remote", "far"], 0));
    assert!(said.contains("read and checked"), "{said}");
    let key = place.path("key.txt").display().to_string();
    let said = stdout(&place.run(&["verify", "--remote", "far", "--identity", &key], 0));
    assert!(said.contains("Opened: 1 snapshot good"), "{said}");
    let files = walkdir::WalkDir::new(place.path("far"))
        .into_iter()
        .flatten();
    let files: Vec<_> = files
        .map(|entry| entry.into_path())
        .filter(|path| path.is_file())
        .collect();
    let object = files
        .iter()
        .find(|path| path.components().any(|c| c.as_os_str() == "objects"));
    let object = object.unwrap();
    let whole = std::fs::read(object).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    let replace = |bytes: Option<&[u8]>| {
        std::fs::remove_file(object).unwrap();
        if let Some(bytes) = bytes {
            std::fs::write(object, bytes).unwrap();
        }
    };
    for (bytes, quick, reason) in [
        (Some(&changed[..]), 0, "it was changed"),
        (Some(&whole[1..]), 4, "it has another size"),
        (None, 4, "it is missing"),
    ] {
        replace(bytes);
        place.run(&["verify", "--remote", "far", "--level", "quick"], quick);
        let said = stdout(&place.run(&["verify", "--remote", "far"], 4));
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.contains("bdr push far --check"), "{said}");
        std::fs::write(object, &whole).unwrap();
    }
    // What is gone is sent again.
    std::fs::remove_file(object).unwrap();
    place.run(&["push", "far", "--check"], 0);
    place.run(&["verify", "--remote", "far", "--identity", &key], 0);
    // An old state is noticed by the machine that knows better.
    place.write("more", b"more");
    place.run(&["backup"], 0);
    place.run(&["push", "far"], 0);
    let pushes = files
        .iter()
        .find(|path| path.parent().unwrap().ends_with("pushes"))
        .unwrap();
    let newest = std::fs::read_dir(pushes.parent().unwrap())
        .unwrap()
        .flatten();
    let newest = newest.map(|entry| entry.path()).max().unwrap();
    std::fs::remove_file(newest).unwrap();
    let said = stdout(&place.run(&["verify", "--remote", "far", "--level", "quick"], 4));
    assert!(said.contains("does not show the last"), "{said}");
}

#[test]
fn a_wake_up_pushes_and_status_says_what_is_only_here() {
    let (place, _) = configured();
    let remotes = |status: &serde_json::Value| status["remotes"].as_array().unwrap().clone();
    let codes = |status: &serde_json::Value| {
        let troubles = status["troubles"].as_array().unwrap().iter();
        troubles
            .map(|one| one["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = place.run(&["status", "--json"], 0);
    let first: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let first = &first["data"];
    assert_eq!(remotes(first)[0]["behind"], 1, "{first}");
    assert!(!codes(first).contains(&"not-pushed".to_owned()), "{first}");
    place.configure("[schedule]\nat = \"00:00\"\n");
    let day = |days: i64| (now() + chrono::TimeDelta::days(days)).to_rfc3339();
    // The disk is away: no noise, and after a day a warning with the next command.
    std::fs::rename(place.path("far"), place.path("away")).unwrap();
    let said = place.run_at(&day(1), &["tick"], 0);
    assert!(stderr(&said).is_empty(), "{}", stderr(&said));
    let status = place.json_at(&day(3), &["status"], 0);
    assert_eq!(remotes(&status)[1]["snapshots"], 2, "{status}");
    assert!(remotes(&status)[0]["error"].is_string(), "{status}");
    assert!(
        codes(&status).contains(&"not-pushed".to_owned()),
        "{status}"
    );
    let text = stdout(&place.run_at(&day(3), &["status"], 0));
    assert!(
        text.contains("nothing has been pushed to `far` yet"),
        "{text}"
    );
    assert!(text.contains("bdr push"), "{text}");
    // The page and agents hear the same.
    let page = stdout(&place.run_at(&day(3), &["dashboard", "--output", "-"], 0));
    for word in [
        "What is in other places",
        "the last push failed",
        "bdr push far",
        "not encrypted",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    assert!(
        !page.contains(place.path("far").to_str().unwrap()),
        "{page}"
    );
    let mut agent = crate::support::mcp::Mcp::start(&place, &[], "2025-06-18");
    let told = agent.ok("get_backup_status", serde_json::json!({}));
    let far = &told["destinations"][0];
    assert_eq!(
        (&far["name"], &far["lastPush"]),
        (&"far".into(), &serde_json::Value::Null)
    );
    assert!(
        far["behind"].as_u64().unwrap() > 0 && far["error"].is_string(),
        "{told}"
    );
    assert_eq!(told["destinations"][1]["backups"], 2, "{told}");
    agent.close();
    // It is back.
    std::fs::rename(place.path("away"), place.path("far")).unwrap();
    place.run_at(&day(3), &["tick"], 0);
    let status = place.json_at(&day(3), &["status"], 0);
    assert_eq!(remotes(&status)[0]["behind"], 0, "{status}");
    assert_eq!(
        remotes(&status)[0]["error"],
        serde_json::Value::Null,
        "{status}"
    );
    // One that is only served by hand.
    let file = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("[remote.plain]", "[remote.plain]\nautomatic = false"),
    )
    .unwrap();
    let before = picture(&place.path("plain"));
    place.write("more", b"more");
    place.run_at(&day(5), &["tick"], 0);
    assert_eq!(before, picture(&place.path("plain")));
    let status = place.json_at(&day(8), &["status"], 0);
    assert_eq!(remotes(&status)[1]["behind"], 1, "{status}");
}

#[test]
fn a_copy_of_a_machine_gets_an_id_of_its_own() {
    let (place, _) = configured();
    place.run(&["push"], 0);
    let machines = |place: &Place| {
        let found = place.json(&["machines", "plain"]);
        found["machines"].as_array().unwrap().len()
    };
    assert_eq!(machines(&place), 1);
    place.run(&["remote", "reset"], 2);
    place.run(&["remote", "reset", "--yes"], 0);
    let pushed = place.json(&["push"]);
    assert_eq!(pushed["remotes"][1]["snapshots"], 1, "{pushed}");
    assert_eq!(machines(&place), 2);
    // Its own is meant, unless another is named.
    let url = format!("file://{}", place.path("plain").display());
    assert!(stdout(&place.run(&["ls", "--from", &url, "latest"], 0)).contains("plain.txt"));
    let bare = Place::new();
    let said = stderr(&bare.run(&["ls", "--from", &url, "latest"], 2));
    assert!(said.contains("choose one with --machine"), "{said}");
    // A name that both have names neither.
    let host = place.json(&["machines", "plain"])["machines"][0]["host"].clone();
    let host = host.as_str().unwrap();
    let said = stderr(&bare.run(&["ls", "--from", &url, "--machine", host, "latest"], 2));
    assert!(said.contains("2 machines are called"), "{said}");
}

#[test]
fn a_record_that_somebody_planted_is_named_and_not_followed() {
    let place = Place::new();
    let repo = worked(&place);
    let far = Far::new(Manners::IgnoresConditions, true);
    far.push(&place, &repo).unwrap();
    let plain = Far::over(&MemoryStore::new(Manners::Strict), None);
    let saved = tempfile::tempdir().unwrap();
    copy_tree(&place.path("remotes"), saved.path());
    // The same machine, in the clear, with a later number.
    let ledger = place.path("remotes/far");
    std::fs::remove_dir_all(&ledger).unwrap();
    plain.push(&place, &repo).unwrap();
    place.write("later", b"planted");
    place.backup_with(&repo, &later(900));
    plain.push(&place, &repo).unwrap();
    for key in plain.store.keys() {
        if key.contains("/pushes/0000000002-") || key.contains("/objects/") {
            far.store
                .change(&key, Some(plain.store.get(&key, None).unwrap()));
        }
    }
    std::fs::remove_dir_all(&ledger).unwrap();
    copy_tree(&saved.path().join("far"), &ledger);
    let (there, _bare) = far.read(&place);
    assert_eq!(there.snapshots().unwrap().len(), 5);
    let named: Vec<_> = there.unreadable().into_iter().collect();
    assert!(
        named.iter().any(|(_, why)| why.contains("not encrypted")),
        "{named:?}"
    );
    // Nor does a damaged newest record take away what was there before it.
    let far = Far::new(Manners::IgnoresConditions, true);
    std::fs::remove_dir_all(&ledger).unwrap();
    far.push(&place, &repo).unwrap();
    place.write("later", b"more");
    place.backup_with(&repo, &later(960));
    far.push(&place, &repo).unwrap();
    let newest = far
        .store
        .keys()
        .into_iter()
        .filter(|key| key.contains("/pushes/"))
        .max()
        .unwrap();
    far.store.change(&newest, Some(b"{}".to_vec()));
    let (there, _bare) = far.read(&place);
    assert_eq!(there.snapshots().unwrap().len(), 6);
    assert!(there.unreadable().into_iter().next().is_some());
}

#[test]
fn a_destination_is_not_half_encrypted() {
    let (place, key) = configured();
    place.run(&["push"], 0);
    let file = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let url = format!("url = \"file://{}\"", place.path("plain").display());
    let changed = text.replace(
        &url,
        &format!("{url}\nrecipients = [\"{}\"]", key.recipient),
    );
    std::fs::write(&file, changed).unwrap();
    let said = stderr(&place.run(&["push", "plain"], 2));
    assert!(
        said.contains("not encrypted") && said.contains("bdr remote reset"),
        "{said}"
    );
    place.run(&["remote", "reset", "--yes"], 0);
    place.run(&["push", "plain"], 0);
}

/// Returns true if anything at a destination in the clear has these bytes: packed, in a record, or in a
/// pack that is in a record.
pub(crate) fn has_bytes(dir: &std::path::Path, wanted: &[u8]) -> bool {
    has_any(dir, &[wanted])
}

/// The same for any of several.
pub(crate) fn has_any<T: AsRef<[u8]>>(dir: &std::path::Path, wanted: &[T]) -> bool {
    let finder = aho_corasick::AhoCorasick::new(wanted).unwrap();
    let files = walkdir::WalkDir::new(dir).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .into_iter()
        .any(|entry| holds(&std::fs::read(entry.path()).unwrap(), &finder, 3))
}

fn holds(bytes: &[u8], wanted: &aho_corasick::AhoCorasick, depth: u32) -> bool {
    use base64::Engine as _;
    use std::io::Read as _;
    if wanted.is_match(bytes) {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let packed = memchr::memmem::find_iter(bytes, b"\x1f\x8b\x08").any(|at| {
        let mut plain = Vec::new();
        let _ = flate2::read::MultiGzDecoder::new(&bytes[at..]).read_to_end(&mut plain);
        holds(&plain, wanted, depth - 1)
    });
    let mut strings = bytes.split(|byte| *byte == b'"');
    let engine = base64::engine::general_purpose::STANDARD;
    packed
        || strings.any(|text| {
            let inner = (text.len() > 40)
                .then(|| engine.decode(text).ok())
                .flatten();
            inner.is_some_and(|inner| holds(&inner, wanted, depth - 1))
        })
}

/// What is found to be secret after it was pushed goes from there as well: from snapshots whose records
/// are short or long, from records, and from what only the destination has, when it was looked at.
#[test]
fn what_is_found_to_be_secret_later_goes_from_destinations() {
    for is_lost in [false, true] {
        goes_from_destinations(is_lost);
    }
}

/// `is_lost`: nobody knows any more what was pushed to one of them.
fn goes_from_destinations(is_lost: bool) {
    const SECRET: &[u8] = b"kX7pQz92LmWv4TnB8sYc";
    let (place, _) = configured();
    let run = |now: &str, args: &[&str]| place.run_at(now, args, 0);
    let remotes = |now: &str| {
        let output = run(now, &["--json", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["data"]["remotes"].clone()
    };
    // Stored in the clear while it was allowed.
    place.write(".env", &[b"DATABASE_PASSWORD=", SECRET, b"\n"].concat());
    let file = place.tree().join(".env").display().to_string();
    let why = place.json(&["privacy", "why", ".env"]);
    let value = why["findings"][0]["fingerprint"].as_str().unwrap();
    let value = value.to_owned();
    place.run(&["privacy", "allow", &file, "--reason", "a test"], 0);
    place.run(&["privacy", "allow", &value, "--reason", "a test"], 0);
    run("2026-11-01T10:00:00Z", &["backup"]);
    let first = place.json(&["list"]);
    let first = first["snapshots"].as_array().unwrap();
    let first = first.last().unwrap()["id"].as_str().unwrap().to_owned();
    // A record that is too long for the record of a push.
    for number in 0..1500 {
        place.write(&format!("many/{number}"), format!("{number}").as_bytes());
    }
    place.write(
        ".env",
        &[b"DATABASE_PASSWORD=", SECRET, b"\n# more\n"].concat(),
    );
    run("2026-11-02T10:00:00Z", &["backup"]);
    for number in 0..1500 {
        place.write(
            &format!("many/{number}"),
            format!("now {number}").as_bytes(),
        );
    }
    run("2026-11-03T10:00:00Z", &["backup"]);
    run("2026-11-03T11:00:00Z", &["push"]);
    let secret = String::from_utf8_lossy(SECRET);
    let command = format!("DATABASE_PASSWORD={secret} true; rm many/0");
    run(
        "2026-11-03T12:00:00Z",
        &["guard", "--", "sh", "-c", &command],
    );
    for day in 4..8 {
        place.write("day", format!("{day}").as_bytes());
        run(&format!("2026-11-0{day}T10:00:00Z"), &["backup"]);
        run(&format!("2026-11-0{day}T11:00:00Z"), &["push"]);
    }
    let plain = place.path("plain");
    assert!(has_bytes(&plain, SECRET));
    if is_lost {
        let remotes = walkdir::WalkDir::new(place.path("bdr/state/remotes"));
        let needs = remotes
            .into_iter()
            .flatten()
            .map(walkdir::DirEntry::into_path);
        let needs = needs.filter(|path| path.ends_with("plain/needs"));
        assert_eq!(
            needs
                .map(|path| std::fs::remove_file(path).unwrap())
                .count(),
            1
        );
    }
    // One of them is only there now.
    run("2026-11-08T10:00:00Z", &["forget", &first, "--yes"]);
    place.run(&["privacy", "revoke", &file], 0);
    place.run(&["privacy", "revoke", &value], 0);
    let said = run(
        "2026-11-08T10:10:00Z",
        &["privacy", "rescan", "--purge", "--yes"],
    );
    let said = stdout(&said);
    assert!(
        said.contains("still has it") && said.contains("plain"),
        "{said}"
    );
    let pushed = run("2026-11-08T10:20:00Z", &["--json", "push"]);
    let pushed: serde_json::Value = serde_json::from_slice(&pushed.stdout).unwrap();
    for remote in pushed["data"]["remotes"].as_array().unwrap() {
        assert_eq!(remote["replaces"], true, "{pushed}");
    }
    for remote in remotes("2026-11-08T10:30:00Z").as_array().unwrap() {
        assert_eq!(remote["replaced"], "2026-11-08T10:20:00Z", "{remote}");
        assert_eq!(remote["not_looked_at"], 1, "{remote}");
    }
    run(
        "2026-11-08T12:00:00Z",
        &["verify", "--remote", "plain", "--level", "full"],
    );
    // A day later: but for the one that nobody has looked at.
    run("2026-11-09T11:00:00Z", &["push"]);
    assert!(has_bytes(&plain, SECRET));
    let key = place.path("key.txt").display().to_string();
    run("2026-11-09T12:00:00Z", &["pull", "plain"]);
    run(
        "2026-11-09T12:10:00Z",
        &["privacy", "rescan", "--purge", "--yes"],
    );
    run("2026-11-09T12:20:00Z", &["push"]);
    run("2026-11-10T13:00:00Z", &["push"]);
    assert!(!has_bytes(&plain, SECRET), "it is still there");
    for remote in remotes("2026-11-10T14:00:00Z").as_array().unwrap() {
        assert_eq!(remote["replaced"], serde_json::Value::Null, "{remote}");
    }
    // Everything else is there as before.
    for (name, key) in [("plain", None), ("far", Some(&key))] {
        let mut args = vec!["verify", "--remote", name, "--level", "full"];
        args.extend(key.iter().flat_map(|key| ["--identity", key]));
        run("2026-11-10T15:00:00Z", &args);
        let mut args = vec!["--json", "list", "--all", "--from", name];
        args.extend(key.iter().flat_map(|key| ["--identity", key]));
        let output = run("2026-11-10T15:00:00Z", &args);
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = listed["data"]["snapshots"].as_array().unwrap();
        assert!(all.iter().any(|one| one["id"] == *first), "{listed}");
        assert_eq!(all.len(), 9, "{listed}");
    }
}
