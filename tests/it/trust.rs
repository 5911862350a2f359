//! What a state, an index or a record claims is there, is there; and what cannot be read is said.

use std::path::{Path, PathBuf};

use crate::incident::sh;
use crate::support::cli::stderr;
use crate::support::{Place, picture};

/// Files below a directory of the repository.
fn files(place: &Place, below: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(place.store().join(below)).sort_by_file_name();
    let files = walk.into_iter().filter_map(Result::ok);
    files
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = path.parent().unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn delete(path: &Path) {
    open_up(path);
    std::fs::remove_file(path).unwrap();
}

/// Overwrites a byte in place: what has the same inode is damaged along.
fn flip(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    open_up(path);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let at = std::fs::read(path).unwrap()[120];
    file.write_at(&[at ^ 0x10], 120).unwrap();
}

fn cut(path: &Path) {
    open_up(path);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// A tree of some size with two backups.
fn backed_up(lifeboat: bool) -> Place {
    let place = Place::with_repository();
    for i in 0..40 {
        place.write(
            &format!("data/{i}.txt"),
            format!("line {i}\n").repeat(50).as_bytes(),
        );
    }
    let run = |args: &[&str]| {
        let mut command = place.bdr(args);
        if lifeboat {
            command.env("BDR_LIFEBOAT", place.path("boat"));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    };
    let source = format!("tree={}", place.tree().display());
    run(&["init", "--yes", "--source", &source]);
    place.write("data/1.txt", b"another\n");
    run(&["backup"]);
    place
}

type Harm = (&'static str, &'static str, fn(&Path));

#[test]
fn a_guard_does_not_rely_on_a_listing_or_a_pack_that_is_gone() {
    let harms: [Harm; 5] = [
        ("deleted listing", "manifests", delete),
        ("damaged listing", "manifests", flip),
        ("cut listing", "manifests", cut),
        ("deleted pack", "packs", delete),
        ("cut pack", "packs", cut),
    ];
    for (what, dir, harm) in harms {
        let place = backed_up(false);
        // The cache is warm: a guard that finds nothing new would take the snapshot that is there.
        place.run(&["guard", "--", "true"], 0);
        files(&place, dir).iter().for_each(|file| harm(file));
        let before = picture(&place.tree());
        place.run(&["guard", "--", "rm", "-rf", "data"], 0);
        assert!(!place.tree().join("data").exists());
        place.run(&["undo", "--yes"], 0);
        assert_eq!(picture(&place.tree()), before, "{what}");
    }
}

#[test]
fn a_backup_after_a_lost_listing_can_be_restored() {
    for harm in [delete, flip] {
        let place = backed_up(false);
        files(&place, "manifests")
            .iter()
            .for_each(|file| harm(file));
        let status = place.run(&["status"], 4);
        assert!(
            String::from_utf8_lossy(&status.stdout).contains("of the repository cannot be read"),
            "{status:?}"
        );
        place.write("data/2.txt", b"third\n");
        place.run(&["backup"], 0);
        let out = place.path("out");
        let target = out.to_str().unwrap();
        place.run(&["restore", "latest", "--target", target, "--yes"], 0);
        assert_eq!(
            picture(&out.join("tree/data")),
            picture(&place.tree().join("data"))
        );
        place.run(&["status"], 0);
    }
}

#[test]
fn what_was_deleted_from_the_repository_is_taken_from_the_lifeboat() {
    let place = backed_up(true);
    let with_boat = |args: &[&str], code: i32| {
        let mut command = place.bdr(args);
        let output = command
            .env("BDR_LIFEBOAT", place.path("boat"))
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        output
    };
    let all = ["manifests", "packs", "snapshots"];
    let before: Vec<PathBuf> = all.iter().flat_map(|dir| files(&place, dir)).collect();
    // A listing: whoever reads it heals it.
    files(&place, "manifests")
        .iter()
        .for_each(|file| delete(file));
    with_boat(&["ls", "latest~1"], 0);
    // Packs and a record: found by verify.
    delete(&files(&place, "packs")[0]);
    delete(&files(&place, "snapshots")[0]);
    let output = with_boat(&["verify"], 0);
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("mended snapshots/"), "{said}");
    let after: Vec<PathBuf> = all.iter().flat_map(|dir| files(&place, dir)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_record_that_cannot_be_read_is_never_passed_over() {
    let place = backed_up(false);
    place.run(&["guard", "--", "rm", "data/5.txt"], 0);
    place.run(&["guard", "--", "rm", "data/6.txt"], 0);
    let log = place.json(&["log"]);
    let older = log["operations"][1]["id"].as_str().unwrap().to_owned();
    let begin = files(&place, "operations");
    let begin = begin
        .iter()
        .rev()
        .find(|f| f.to_str().unwrap().contains(".begin."))
        .unwrap();
    flip(begin);
    let said = stderr(&place.run(&["undo", "--yes"], 4));
    assert!(said.contains("cannot be read"), "{said}");
    assert!(!place.tree().join("data/5.txt").exists());
    place.run(&["undo", "--last", "1", "--yes"], 4);
    place.run(&["log"], 4);
    let status = place.run(&["status"], 4);
    assert!(String::from_utf8_lossy(&status.stdout).contains("Not protected"));
    // Named, it needs nothing that cannot be read.
    place.run(&["undo", &older, "--yes"], 0);
    assert!(place.tree().join("data/5.txt").exists());
    let id = begin
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .strip_suffix(".begin")
        .unwrap();
    place.run(&["op", "forget", id, "--yes"], 0);
    place.run(&["log"], 0);

    // A snapshot.
    let place = backed_up(false);
    let newest = files(&place, "snapshots").pop().unwrap();
    flip(&newest);
    let target = place.path("out");
    let target = target.to_str().unwrap();
    for args in [
        &["restore", "latest", "--target", target, "--yes"][..],
        &["cat", "latest", "data/1.txt"],
        &["ls", "latest"],
        &["diff", "latest"],
        &["ls", "--at", "now"],
        &["list"],
        &["status"],
    ] {
        let said = stderr(&place.run(args, 4));
        assert!(said.contains("cannot be read"), "{args:?}: {said}");
    }
    assert!(!Path::new(target).exists());
    let verify = place.run(&["verify"], 4);
    let said = String::from_utf8_lossy(&verify.stdout).into_owned();
    let advice = said
        .lines()
        .find_map(|l| l.split_once("bdr forget "))
        .unwrap()
        .1;
    assert!(said.contains("bdr backup --full"), "{said}");
    // What it advises is what helps.
    place.run(&["backup", "--full"], 0);
    place.run(&["forget", advice, "--yes"], 0);
    place.run(&["list"], 0);
    place.run(&["verify"], 0);
    place.run(&["status"], 0);
}

#[test]
fn the_newest_backup_is_missed_when_its_record_is_gone() {
    for (cold, changed) in [(false, false), (true, false), (true, true)] {
        let place = backed_up(false);
        // What came since tells of it as well: a snapshot, or an operation that needed none of its own.
        if changed {
            place.write("data/9.txt", b"new\n");
        }
        place.run(&["guard", "--", "rm", "data/3.txt"], 0);
        let newest = files(&place, "snapshots")[1].clone();
        let name = newest.file_stem().unwrap().to_str().unwrap();
        let id = name.split_once('-').unwrap().1.to_owned();
        delete(&newest);
        if cold {
            std::fs::remove_dir_all(place.path("bdr/cache")).unwrap();
        }
        let target = place.path("out");
        for args in [
            &[
                "restore",
                "latest",
                "--target",
                target.to_str().unwrap(),
                "--yes",
            ][..],
            &["cat", "latest", "data/1.txt"],
            &["ls", "latest"],
            &["list"],
            &["status"],
            &["verify"],
        ] {
            let output = place.run(args, 4);
            let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            assert!(
                said.contains("missing") && said.contains(&id),
                "{args:?}: {said}"
            );
        }
        assert!(!target.exists());
        match changed {
            // Whoever knows why it is gone says so.
            false => place.run(&["forget", &id], 0),
            true => place.run(&["backup"], 0),
        };
        for args in [
            &["cat", "latest", "data/2.txt"][..],
            &["list"],
            &["status"],
            &["verify"],
        ] {
            place.run(args, 0);
        }
    }
    // An older copy of a repository lacks nothing.
    let place = backed_up(false);
    let copy = place.path("copy");
    sh(
        &place,
        &format!("cp -a '{}' '{}'", place.store().display(), copy.display()),
    );
    place.write("data/1.txt", b"once more\n");
    place.run(&["backup"], 0);
    place.run(&["list", "--repository", copy.to_str().unwrap()], 0);
    place.run(&["list"], 0);
    // One that is forgotten is not missed, nor is one that prune took.
    let place = backed_up(false);
    place.run(&["guard", "--", "rm", "data/3.txt"], 0);
    place.run(&["forget", "latest", "--yes"], 0);
    for args in [
        &["cat", "latest", "data/2.txt"][..],
        &["list"],
        &["verify"],
        &["prune", "--now", "--keep-last", "1", "--yes"],
    ] {
        place.run(args, 0);
    }
    place.run(&["cat", "latest", "data/2.txt"], 0);
    place.run(&["list"], 0);
}

#[test]
fn an_undo_of_what_lost_its_snapshot_says_that_it_is_damage() {
    let place = backed_up(false);
    place.write("data/7.txt", b"new\n");
    place.run(&["guard", "--", "rm", "data/7.txt"], 0);
    delete(files(&place, "snapshots").last().unwrap());
    let said = stderr(&place.run(&["undo", "--yes"], 4));
    assert!(said.contains("it is missing"), "{said}");
}

#[test]
fn verify_misses_a_snapshot_that_an_operation_needs_but_not_one_that_was_forgotten() {
    let place = backed_up(false);
    place.write("data/7.txt", b"new\n");
    place.run(&["guard", "--", "rm", "data/7.txt"], 0);
    place.run(&["backup"], 0);
    let needed = files(&place, "snapshots")[2].clone();
    let id = needed
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .split_once('-')
        .unwrap()
        .1
        .to_owned();
    delete(&needed);
    let said = place.run(&["verify"], 4).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("an operation needs it"), "{said}");
    place.run(&["forget", &id, "--yes"], 0);
    place.run(&["verify"], 0);

    let place = backed_up(false);
    place.write("data/7.txt", b"new\n");
    place.run(&["guard", "--", "rm", "data/7.txt"], 0);
    place.run(&["backup"], 0);
    let list = place.json(&["list"]);
    let guard = list["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["trigger"] == "guard");
    let id = guard.unwrap()["id"].as_str().unwrap().to_owned();
    place.run(&["forget", &id, "--yes"], 0);
    place.run(&["verify"], 0);
}

#[test]
fn the_way_back_without_bdr_is_checked_and_mended() {
    for name in ["recover.py", "RECOVER.md"] {
        let place = backed_up(false);
        let file = place.store().join(name);
        let good = std::fs::read(&file).unwrap();
        for repair in ["verify", "backup"] {
            delete(&file);
            std::fs::write(&file, "garbage(").unwrap();
            place.run(&[repair], 0);
            assert_eq!(std::fs::read(&file).unwrap(), good, "{name} {repair}");
        }
    }
}

/// Two sources, each with a backup of its own.
fn two_sources() -> Place {
    let place = Place::with_repository();
    let (a, b) = (place.path("a"), place.path("b"));
    for dir in [&a, &b] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("file"), "one").unwrap();
    }
    let sources = [format!("a={}", a.display()), format!("b={}", b.display())];
    place.run(
        &[
            "init",
            "--yes",
            "--source",
            &sources[0],
            "--source",
            &sources[1],
        ],
        0,
    );
    place
}

#[test]
fn without_any_backup_a_word_that_names_nothing_is_an_error() {
    let place = Place::with_repository();
    place.write("data/1.txt", b"one\n");
    let file = place.tree().join("data/1.txt");
    // It makes the repository, and there is no backup.
    place.run(&["guard", "--", "rm", file.to_str().unwrap()], 0);
    for verb in ["cat", "ls", "restore"] {
        for word in [
            "nothing.txt",
            "latest:",
            "latest:data/1.txt",
            "zz",
            "latest",
        ] {
            let output = place.bdr(&[verb, word]).output().unwrap();
            let said = stderr(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
            assert!(said.contains("hint: "), "{verb} {word}: {said}");
        }
        // What a guard kept is named.
        let output = place.run(&[verb, file.to_str().unwrap()], 1);
        assert!(
            stderr(&output).contains(&format!("bdr {verb} ")),
            "{output:?}"
        );
    }
}

#[test]
fn latest_is_what_somebody_took_to_keep() {
    let place = backed_up(false);
    let kept = picture(&place.tree());
    std::fs::remove_dir_all(place.tree().join("data")).unwrap();
    place.run(&["restore", "latest", "--delete", "--yes"], 0);
    assert_eq!(picture(&place.tree()), kept);
    // Again: what the restore saved before it is not what anybody wants back.
    place.run(&["restore", "latest", "--delete", "--yes"], 0);
    assert_eq!(picture(&place.tree()), kept);
    let cat = place.run(&["cat", "latest", "data/1.txt"], 0);
    assert_eq!(cat.stdout, b"another\n");
    // Reached by name.
    let any = place.run(&["ls", "latest:any"], 0);
    assert!(
        !String::from_utf8_lossy(&any.stdout).contains("1.txt"),
        "{any:?}"
    );
    let out = place.path("out");
    let script = place.store().join("recover.py");
    let done = std::process::Command::new("python3")
        .arg(&script)
        .args(["restore", "latest"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(
        picture(&out.join("tree/data")),
        picture(&place.tree().join("data"))
    );
}

#[test]
fn restoring_the_latest_covers_every_source() {
    let place = two_sources();
    std::fs::write(place.path("a/file"), "two").unwrap();
    place.run(&["backup", "--source", "a"], 0);
    for name in ["a/file", "b/file"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let said = stderr(&place.run(&["restore", "latest", "--yes"], 0));
    assert!(
        said.contains("`b` is not in") && said.contains("taken from"),
        "{said}"
    );
    assert_eq!(std::fs::read(place.path("a/file")).unwrap(), b"two");
    assert_eq!(std::fs::read(place.path("b/file")).unwrap(), b"one");
    place.run(&["undo", "--yes"], 0);
    assert!(!place.path("b/file").exists());
    // Without bdr as well.
    let out = place.path("out");
    let script = place.store().join("recover.py");
    let mut recover = std::process::Command::new("python3");
    let done = recover
        .arg(&script)
        .args(["restore", "latest"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(std::fs::read(out.join("a/file")).unwrap(), b"two");
    assert_eq!(std::fs::read(out.join("b/file")).unwrap(), b"one");
}

#[test]
fn a_time_finds_what_the_list_shows_and_never_what_is_newer() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init_at("2026-11-10T10:00:40Z");
    place.write("f", b"2");
    place.run_at("2026-11-12T10:00:40Z", &["backup"], 0);
    // The clock was behind once.
    place.write("f", b"3");
    place.run_at("1990-01-01T00:00:00Z", &["backup"], 0);
    place.write("f", b"4");
    place.run_at("2026-11-14T10:00:40Z", &["backup"], 0);
    let now = "2026-11-20T00:00:00Z";
    let at = |time: &str| {
        let output = place.run_at(now, &["cat", "--at", time, "f"], 0);
        String::from_utf8(output.stdout).unwrap()
    };
    // As the list has it, to the minute.
    assert_eq!(at("2026-11-10 10:00"), "1");
    assert_eq!(at("2026-11-11"), "1");
    assert_eq!(at("2026-11-12 10:00"), "3");
    assert_eq!(at("2026-11-14 10:00"), "4");
    place.run_at(now, &["cat", "--at", "2026-11-10 09:59", "f"], 1);
    // A clock that was ahead once does not hide what came after.
    place.write("f", b"5");
    place.run_at("2031-01-01T00:00:00Z", &["backup"], 0);
    place.write("f", b"6");
    place.run_at("2026-11-16T10:00:40Z", &["backup"], 0);
    assert_eq!(at("2026-11-11"), "1");
    assert_eq!(at("2026-11-15"), "4");
    assert_eq!(at("2026-11-17"), "6");
    // The advice names the one that is wrong, not a good one.
    let list = place.json_at(now, &["list"], 0);
    let wrong = list["snapshots"][4]["short"].as_str().unwrap().to_owned();
    let prune = place.run_at(now, &["prune", "--dry-run"], 0);
    let said = stderr(&prune) + &String::from_utf8_lossy(&prune.stdout);
    assert!(said.contains(&format!("bdr forget {wrong}")), "{said}");
    let doctor = place.bdr_at(now, &["doctor"]).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains(&format!("snapshot {wrong} is from the future")),
        "{said}"
    );
}

#[test]
fn the_hour_that_comes_twice_is_told_apart_by_the_systems_own_zone() {
    let place = Place::with_repository();
    place.write("f", b"0");
    place.init_at("2026-10-24T22:00:00Z");
    for (time, content) in [
        ("2026-10-25T00:30:00Z", "first 02:30"),
        ("2026-10-25T01:30:00Z", "second 02:30"),
        ("2026-10-25T01:59:30Z", "before three"),
        ("2026-10-25T02:00:30Z", "at three"),
    ] {
        place.write("f", content.as_bytes());
        place.run_at(time, &["backup"], 0);
    }
    for (time, expected) in [
        ("2026-10-25 02:30", "second 02:30"),
        ("2026-10-25 02:59", "before three"),
        ("2026-10-25 03:00", "at three"),
    ] {
        let mut command = place.bdr_at("2026-11-01T00:00:00Z", &["cat", "--at", time, "f"]);
        let output = command
            .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{time}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn kept_content_that_cannot_be_read_for_a_moment_is_not_given_up() {
    let place = Place::with_repository();
    place.write("small", b"1");
    place.init();
    for i in 0..6 {
        place.write(&format!("data/{i}"), &vec![i; 8 << 20]);
    }
    let before = picture(&place.tree());
    let mut guard = place.bdr(&["guard", "--", "rm", "-rf", "data"]);
    guard.env("BDR_BACKGROUND", "0");
    assert!(guard.status().unwrap().success());
    let area = place.path("bdr/repository-staging");
    let walk = walkdir::WalkDir::new(&area).sort_by_file_name();
    let kept: Vec<PathBuf> = walk
        .into_iter()
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_file() && e.metadata().unwrap().len() == 8 << 20)
        .map(walkdir::DirEntry::into_path)
        .collect();
    assert_eq!(kept.len(), 6, "{kept:?}");
    // Not gone, and not written to: it just cannot be opened.
    let aside = place.path("aside");
    std::fs::rename(&kept[3], &aside).unwrap();
    std::os::unix::fs::symlink(&kept[3], &kept[3]).unwrap();
    let mut backup = place.bdr(&["backup"]);
    let output = backup.env("BDR_BACKGROUND", "0").output().unwrap();
    assert!(
        stderr(&output).contains("could not be packed yet"),
        "{}",
        stderr(&output)
    );
    std::fs::remove_file(&kept[3]).unwrap();
    std::fs::rename(&aside, &kept[3]).unwrap();
    place.run(&["undo", "--yes"], 0);
    assert_eq!(picture(&place.tree()), before);
    place.run(&["backup"], 0);
    place.run(&["verify"], 0);
}

/// Runs a script in a mount namespace of its own; false, loudly, where that cannot be.
fn in_namespace(place: &Place, script: &str) -> bool {
    let mut command = std::process::Command::new("unshare");
    let home = place.path("home");
    let bin = Path::new(env!("CARGO_BIN_EXE_bdr"))
        .parent()
        .unwrap()
        .to_owned();
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    command
        .args(["-rm", "sh", "-ec", script])
        .current_dir(place.path(""))
        .env("HOME", home)
        .env("BDR_HOME", place.path("bdr"))
        .env("BDR_LIFEBOAT", place.path("boat"))
        .env("BDR_BACKGROUND", "0")
        .env("PATH", path);
    let Ok(output) = command.output() else {
        println!("SKIPPED: there is no unshare");
        return false;
    };
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    if output.status.code() == Some(1) && said.contains("unshare failed") {
        println!("SKIPPED: namespaces are not allowed here");
        return false;
    }
    assert!(output.status.success(), "{said}");
    true
}

/// Runs a line of sh as an ordinary user of its own, of whom nothing else runs; `None` if that cannot be.
fn as_somebody(place: &Place, line: &str) -> Option<std::process::Output> {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: limits of another user take root");
        return None;
    }
    let user = 30_000 + std::process::id() % 20_000;
    let binary = place.path("bdr-binary");
    std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &binary).unwrap();
    for dir in [place.path(""), place.tree(), place.path("home")] {
        std::os::unix::fs::chown(dir, Some(user), Some(user)).unwrap();
    }
    let given = place.bdr(&[]);
    let mut command = std::process::Command::new("sh");
    let line = line.replace("bdr ", &format!("{} ", binary.display()));
    command
        .args(["-c", &line])
        .env_clear()
        .current_dir(place.tree());
    command.envs(
        given
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.env("BDR_LIFEBOAT", "").env("BDR_BACKGROUND", "0");
    Some(command.uid(user).gid(user).output().unwrap())
}

#[test]
fn where_there_are_no_more_processes_a_guard_runs_nothing_or_waits_for_it() {
    let place = Place::with_repository();
    let Some(output) = as_somebody(&place, "echo 1 > f; bdr guard -- rm f; bdr undo --yes") else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let mut ran = 0;
    for most in 1..8 {
        let line = format!(
            "rm -f ended; exec prlimit --nproc={most} bdr guard -- sh -c ': > f; : > ended'"
        );
        let output = as_somebody(&place, &line).unwrap();
        let said = stderr(&output);
        if said.contains("prlimit") {
            println!("SKIPPED: there is no prlimit");
            return;
        }
        let ended = place.tree().join("ended").exists();
        let is_whole = || std::fs::read(place.tree().join("f")).unwrap() == b"1\n";
        match output.status.code() {
            Some(125) => assert!(is_whole() && !ended, "{most}: {said}"),
            Some(0) => {
                assert!(!is_whole() && ended, "{most}: {said}");
                ran += 1;
                let undone = as_somebody(&place, "bdr undo --yes").unwrap();
                assert!(undone.status.success() && is_whole(), "{most}: {undone:?}");
            }
            _ => panic!("{most}: {output:?}"),
        }
    }
    assert!(ran > 0, "no limit let it run");
    // Threads of a verify and a backup are as many as there can be.
    for line in [
        "exec prlimit --nproc=1 bdr verify",
        "exec prlimit --nproc=1 bdr backup --full",
    ] {
        let output = as_somebody(&place, line).unwrap();
        assert!(!stderr(&output).contains("panicked"), "{output:?}");
    }
}

#[test]
fn a_limit_of_file_sizes_is_an_error_like_others() {
    let place = Place::with_repository();
    sh(&place, "head -c 400000 /dev/urandom > big; echo 1 > f");
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let given = place.bdr(&[]);
    let mut command = std::process::Command::new("sh");
    let line = format!("ulimit -f 40; exec {bdr} guard -- rm big f");
    command.args(["-c", &line]).current_dir(place.tree());
    command.envs(
        given
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = command.env("BDR_BACKGROUND", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(stderr(&output).contains("File too large"), "{output:?}");
    assert!(place.tree().join("big").exists());
    let left = walkdir::WalkDir::new(place.path("")).into_iter().flatten();
    let left: Vec<_> = left
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".bdr-tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_made_where_the_disk_is_away() {
    let place = Place::with_repository();
    in_namespace(
        &place,
        r#"
mkdir hold disk src
mount -t tmpfs -o size=30m none hold
mount --bind hold disk
echo one > src/f
bdr init --yes --source s=$PWD/src --repository $PWD/disk/repo
is() { want=$1; shift; code=0; "$@" > said 2>&1 || code=$?; [ $code = $want ] || { echo "$*: $code instead of $want"; cat said; exit 7; }; }
nothing() { [ -z "$(ls -A disk 2>/dev/null)" ] || { echo "after $1: $(ls -A disk)"; exit 8; }; }
umount disk
echo two > src/f
for verb in list status log "ls latest" backup "backup --full" prune verify "undo --yes" doctor; do
  case $verb in doctor) bdr doctor > said 2>&1 || true ;; *) is 10 bdr $verb ;; esac
  grep -q "is away" said || { echo "$verb: $(cat said)"; exit 9; }
  nothing "$verb"
done
is 125 bdr guard -- rm src/f
[ -f src/f ]; nothing guard
bdr tick > /dev/null 2>&1 || true; nothing tick
is 10 bdr init --yes --source s=$PWD/src --repository $PWD/disk/repo; nothing init
rmdir disk
is 10 bdr list
[ ! -e disk ] || { echo "made the mount point"; exit 8; }
# Another disk in its place is not it either.
mkdir disk
mount -t tmpfs none disk
bdr list > said 2>&1 && exit 9
nothing "another disk"
umount disk
# It comes back, and all is as before.
mount --bind hold disk
is 0 bdr backup
is 0 bdr status
[ "$(bdr cat latest s/f)" = two ]
# Deleted from where it is, it is brought back.
chmod -R u+w disk/repo; rm -rf disk/repo
is 0 bdr list
[ -f disk/repo/format.json ]
is 0 bdr verify
# A part of it is not brought back as if it was the whole.
chmod -R u+w boat disk/repo; rm -rf disk/repo; rm -rf boat/*/repository/manifests
bdr list > said 2>&1 && { cat said; exit 9; }
nothing "a part"
"#,
    );
}

#[test]
fn a_read_only_directory_is_no_damage_and_no_drill_leaves_anything() {
    let place = Place::of_a_user();
    place.sh_as_user(
        "mkdir -p module/pkg; echo package pkg > module/pkg/file.go; chmod 555 module/pkg module",
    );
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 0);
    let cache = place.path("bdr/cache");
    let scratch = || {
        let walk = walkdir::WalkDir::new(&cache)
            .into_iter()
            .filter_map(Result::ok);
        walk.filter(|e| e.file_name().to_string_lossy().starts_with("verify-"))
            .count()
    };
    assert_eq!(scratch(), 0);
    place.run_as_user(&["drill"], 0);
    place.run_as_user(&["verify", "--level", "restore"], 0);
    assert_eq!(scratch(), 0);
    // What an earlier one left goes with the next.
    let left = walkdir::WalkDir::new(&cache)
        .max_depth(1)
        .into_iter()
        .flatten()
        .nth(1)
        .unwrap();
    let left = left.path().join("verify-Ab12cd").join("tree/closed");
    place.sh_as_user(&format!(
        "mkdir -p '{0}' && touch '{0}/f' && chmod 555 '{0}' && chmod 700 '{0}/../..'",
        left.display()
    ));
    assert_eq!(scratch(), 1);
    place.run_as_user(&["drill"], 0);
    assert_eq!(scratch(), 0);
    place.sh_as_user("chmod 755 module/pkg module");
}

#[test]
fn a_umask_that_keeps_out_the_owner_does_not_keep_bdr_out_of_its_own_files() {
    let place = Place::of_a_user();
    place.sh_as_user("echo 1 > f");
    place.run_as_user(&["--version"], 0);
    let bdr = place.path("bdr-binary");
    let bdr = bdr.display();
    let env = format!(
        "export HOME='{}' BDR_HOME='{}' BDR_BACKGROUND=0",
        place.path("home").display(),
        place.path("bdr").display()
    );
    place.sh_as_user(&format!(
        "{env}; umask 0777; {bdr} guard -- rm f && [ ! -e f ] && {bdr} undo --yes && [ -e f ] && {bdr} verify && {bdr} list"
    ));
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"1\n");
}

#[test]
fn no_room_to_try_a_restore_is_no_damage() {
    let place = Place::with_repository();
    for i in 0..40 {
        place.write(&format!("d/{i}"), b"small");
    }
    in_namespace(
        &place,
        r#"
mkdir small
mount -t tmpfs -o size=20m,nr_inodes=20 none small
bdr init --yes --source s=$PWD/tree
code=0; bdr drill --scratch $PWD/small > said 2>&1 || code=$?
grep -q "not enough space" said || { echo "$code: $(cat said)"; exit 9; }
[ $code = 1 ] || { echo "$code: $(cat said)"; exit 9; }
[ -z "$(ls -A small)" ]
"#,
    );
}

#[test]
fn temporary_files_of_a_crash_do_not_stay_for_ever() {
    let place = backed_up(false);
    let cache = std::fs::read_dir(place.path("bdr/cache"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let left = [
        cache.join(".bdr-tmp-0011"),
        cache.join("state/.bdr-tmp-0022"),
        place.path("bdr/state/.bdr-tmp-0033"),
    ];
    for file in &left {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::File::create(file)
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    // One that somebody may be writing right now.
    std::fs::write(cache.join(".bdr-tmp-0044"), "").unwrap();
    place.run(&["backup"], 0);
    assert!(left.iter().all(|file| !file.exists()));
    assert!(cache.join(".bdr-tmp-0044").exists());
}

#[test]
fn what_was_found_damaged_is_said_until_it_is_stored_again() {
    type Finder = (&'static str, fn(&Place));
    let finders: [Finder; 4] = [
        ("restore", |place| {
            let out = place.path("out");
            let out = out.to_str().unwrap();
            place.run(&["restore", "latest", "--target", out, "--yes"], 3);
        }),
        ("cat", |place| {
            place.run(&["cat", "latest", "tree/data/3.txt"], 4);
        }),
        ("undo", |place| {
            place.run(&["guard", "--", "rm", "data/3.txt"], 0);
            place.run(&["undo", "--yes"], 3);
            place.write("data/3.txt", b"made again\n");
        }),
        ("verify", |place| {
            place.run(&["verify"], 4);
        }),
    ];
    for (what, find) in finders {
        let place = backed_up(false).watched();
        place.run(&["status"], 0);
        files(&place, "packs").iter().for_each(|pack| flip(pack));
        find(&place);
        let said = place.run(&["status"], 4);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.contains("of the last backup are damaged"),
            "{what}: {said}"
        );
        assert!(!said.starts_with("Protected"), "{what}: {said}");
        let json = place.run(&["--json", "status"], 4).stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            json["data"]["troubles"][0]["code"], "lost",
            "{what}: {json}"
        );
        // Whatever still stands is stored again, and then nothing is wrong.
        place.run(&["backup"], 0);
        place.run(&["status"], 0);
        let out = place.path("again");
        place.run(
            &[
                "restore",
                "latest",
                "--target",
                out.to_str().unwrap(),
                "--yes",
            ],
            0,
        );
    }
    // A pack that is gone is missed by looking alone.
    let place = backed_up(false);
    files(&place, "packs").iter().for_each(|pack| delete(pack));
    let said = place.run(&["status"], 4);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("of the last backup are damaged"), "{said}");
}

/// Runs bdr with every N-th call of one kind failing once, until there are no more; returns how many there were. `None`, and a line, where that cannot be done.
fn with_failing(
    place: &Place,
    call: &str,
    error: &str,
    args: &[&str],
    judge: impl Fn(usize, &std::process::Output),
) -> Option<usize> {
    for n in 1..400 {
        let log = place.path("trace");
        let bdr = place.bdr(args);
        let mut strace = std::process::Command::new("strace");
        strace
            .args(["-f", "-b", "execve", "-qq", "-o"])
            .arg(&log)
            .arg(format!("-etrace={call}"))
            .arg(format!("-einject={call}:error={error}:when={n}"))
            .arg(bdr.get_program())
            .args(args)
            .current_dir(place.tree())
            .env_clear();
        let set = bdr
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        strace.envs(set).env("BDR_BACKGROUND", "0");
        let Ok(output) = strace.output() else {
            println!("SKIPPED: there is no strace");
            return None;
        };
        if stderr(&output).contains("PTRACE") {
            println!("SKIPPED: strace may not trace here");
            return None;
        }
        let log = std::fs::read_to_string(&log).unwrap();
        if !log.contains("INJECTED") {
            return Some(n - 1);
        }
        judge(n, &output);
    }
    panic!("{call} does not end");
}

#[test]
fn a_directory_that_cannot_be_closed_is_no_reason_to_die() {
    let place = backed_up(false);
    for args in [&["list"][..], &["backup"]] {
        let tried = with_failing(&place, "close", "EIO", args, |n, output| {
            let said = stderr(output);
            assert!(!said.contains("panicked"), "{args:?}, close #{n}: {said}");
        });
        assert!(tried.is_none_or(|tried| tried > 10), "{args:?}: {tried:?}");
    }
}

#[test]
fn a_guard_that_hears_of_no_signals_waits_for_its_command_all_the_same() {
    for call in ["recvfrom", "sendto"] {
        let place = backed_up(false).watched();
        let args = &["guard", "--", "rm", "data/3.txt"];
        with_failing(&place, call, "EIO", args, |n, output| {
            assert_eq!(
                output.status.code(),
                Some(0),
                "{call} #{n}: {}",
                stderr(output)
            );
            assert!(!stderr(output).contains("panicked"), "{}", stderr(output));
            place.run(&["undo", "--yes"], 0);
            assert!(place.tree().join("data/3.txt").exists());
        });
    }
}
