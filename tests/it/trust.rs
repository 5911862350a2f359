//! What a state, an index or a record claims is there, is there; and what cannot be read is said.

use std::path::{Path, PathBuf};

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
