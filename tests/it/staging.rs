//! Large operands: kept instead of read, undone all the same, packed afterwards, never silently wrong.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cli::stderr;
use crate::support::{Place, assert_same, picture};

/// From this size on a guard keeps instead of reading.
const LARGE: usize = 33 << 20;

/// A large file that is quickly made: its bytes differ by `seed`.
fn large(path: &Path, seed: u8) {
    let mut file = std::fs::File::create(path).unwrap();
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| seed ^ (i / 4096) as u8).collect();
    for _ in 0..33 {
        file.write_all(&block).unwrap();
    }
}

/// A place whose tree has a directory `big` with everything that can be in one.
fn place_with_big() -> Place {
    let place = Place::with_repository();
    place.write("small", b"beside it");
    place.init();
    large_tree(&place.tree().join("big"));
    place
}

fn large_tree(big: &Path) {
    std::fs::create_dir_all(big.join("a/empty")).unwrap();
    large(&big.join("video"), 1);
    std::fs::write(big.join("a/one"), "1").unwrap();
    std::fs::hard_link(big.join("a/one"), big.join("a/two")).unwrap();
    std::fs::write(big.join("a/none"), "").unwrap();
    std::os::unix::fs::symlink("one", big.join("a/link")).unwrap();
    std::fs::write(big.join("a/mode"), "m").unwrap();
    std::fs::set_permissions(big.join("a/mode"), PermissionsExt::from_mode(0o640)).unwrap();
    let _ = xattr::set(big.join("a/mode"), "user.note", b"kept");
}

/// Without what would be packed behind the back of the test.
fn bdr(place: &Place, args: &[&str]) -> Command {
    let mut command = place.bdr(args);
    command.env("BDR_BACKGROUND", "0");
    command
}

#[track_caller]
fn run(place: &Place, args: &[&str], code: i32) -> String {
    let output = bdr(place, args).output().unwrap();
    let said = stderr(&output) + &String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "bdr {args:?}: {said}");
    said
}

/// Sets that wait to be packed, and the files in staging areas.
fn kept(place: &Place) -> (usize, Vec<PathBuf>) {
    let names = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(place.store().join(dir))
            .into_iter()
            .flatten();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let records = names("kept");
    let packed = records
        .iter()
        .filter(|n| n.ends_with(".contents.json.gz"))
        .count();
    let sets = records.len() - packed;
    let files = walkdir::WalkDir::new(place.path("bdr/repository-staging"))
        .into_iter()
        .flatten()
        .filter(|e| {
            e.file_type().is_file()
                && !["lock", "owner"].contains(&&*e.file_name().to_string_lossy())
        })
        .map(walkdir::DirEntry::into_path)
        .collect();
    (sets - packed, files)
}

#[test]
fn a_large_operand_is_kept_and_every_way_back_is_exact() {
    let place = place_with_big();
    let before = picture(&place.tree());
    let inode = std::fs::metadata(place.tree().join("big/video"))
        .unwrap()
        .ino();
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    assert!(!place.tree().join("big").exists());
    let (sets, files) = kept(&place);
    assert_eq!(sets, 1, "nothing was kept");
    let same = |file: &PathBuf| std::fs::metadata(file).unwrap().ino() == inode;
    assert!(files.iter().any(same), "the video was read instead of kept");
    run(&place, &["verify"], 0);

    // Once while it is only kept, once after it was packed.
    run(&place, &["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "kept");
    run(&place, &["redo", "--yes"], 0);
    assert!(!place.tree().join("big").exists());
    run(&place, &["settle"], 0);
    assert_eq!(
        kept(&place),
        (0, Vec::new()),
        "packed, and the space is given back"
    );
    run(&place, &["verify", "--level", "restore"], 0);
    run(&place, &["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "packed");
    run(&place, &["verify"], 0);
}

/// Another process may pack what is kept at any moment, also between two looks of one that runs.
#[test]
fn what_is_packed_meanwhile_is_still_known_for_what_it_is() {
    let place = Place::with_repository();
    place.write("plain.txt", b"hello");
    place.write("empty", b"");
    std::fs::create_dir(place.tree().join("deep")).unwrap();
    std::fs::hard_link(
        place.tree().join("plain.txt"),
        place.tree().join("deep/hard"),
    )
    .unwrap();
    place.init();
    run(
        &place,
        &["guard", "--", "sh", "-c", "rm plain.txt empty"],
        0,
    );
    assert_eq!(kept(&place).0, 1);
    let storage = std::sync::Arc::new(bdr::disk::storage::LocalStorage::new(place.store()));
    let repo = bdr::repo::Repository::open(storage, &place.cache()).unwrap();
    let snapshot = repo.snapshots().unwrap().pop().unwrap();
    let listing = repo.listing(&snapshot.roots[0]).unwrap();
    let entry = listing.iter().find(|e| e.path.name() == b"hard").unwrap();
    let hard = place.tree().join("deep/hard");
    let has = || repo.has_content(&entry.body, &mut std::fs::File::open(&hard).unwrap());
    assert!(has());
    run(&place, &["settle"], 0);
    assert_eq!(kept(&place), (0, Vec::new()));
    assert!(has(), "it is the same file as before");
    std::fs::write(&hard, "HELLO").unwrap();
    assert!(!has());
    let monitor = &bdr::base::monitor::NullMonitor;
    let level = bdr::care::verify::VerifyLevel::Full;
    let report = bdr::care::verify::verify(&repo, None, level, None, monitor).unwrap();
    assert_eq!(report.damage.len(), 0, "{:?}", report.damage);
}

#[test]
fn many_small_files_are_kept_too() {
    let place = Place::with_repository();
    place.init();
    for number in 0..4200 {
        place.write(
            &format!("many/{}/{number}", number % 7),
            format!("{number}").as_bytes(),
        );
    }
    let before = picture(&place.tree());
    run(&place, &["guard", "--", "rm", "-r", "many"], 0);
    let (sets, files) = kept(&place);
    assert_eq!((sets, files.len()), (1, 4200));
    run(&place, &["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "kept");
}

#[test]
fn what_only_calls_itself_rm_is_not_trusted_and_neither_is_a_script() {
    for command in [&["rm", "-rf", "big"][..], &["sh", "-c", "rm -rf big"]] {
        let place = place_with_big();
        let tools = place.path("tools");
        std::fs::create_dir(&tools).unwrap();
        let fake = tools.join("rm");
        // It writes over the file before it goes: a second name would not help.
        std::fs::write(&fake, "#!/bin/sh\n: > big/video\n/bin/rm \"$@\"\n").unwrap();
        std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
        let before = picture(&place.tree());
        let path = std::env::var_os("PATH").unwrap();
        let dirs = std::iter::once(tools).chain(std::env::split_paths(&path));
        let guarded: Vec<&str> = ["guard", "--"].iter().chain(command).copied().collect();
        let output = bdr(&place, &guarded)
            .env("PATH", std::env::join_paths(dirs).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        run(&place, &["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), "read");
    }
}

#[test]
fn what_is_appended_does_not_count_and_what_is_written_over_is_said() {
    let place = place_with_big();
    large(&place.tree().join("big/other"), 2);
    let before = picture(&place.tree());
    let open = |name: &str| {
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .open(place.tree().join("big").join(name))
            .unwrap()
    };
    // A program holds both files open while they are deleted, and goes on.
    let (mut log, mut over) = (open("video"), open("other"));
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    std::io::Seek::seek(&mut log, std::io::SeekFrom::End(0)).unwrap();
    log.write_all(b"more\n").unwrap();
    run(&place, &["verify"], 0);
    over.write_all(b"less").unwrap();
    drop((log, over));
    let said = run(&place, &["verify"], 4);
    assert!(
        said.contains("big/other") && !said.contains("big/video"),
        "{said}"
    );
    let said = run(&place, &["undo", "--yes"], 3);
    assert!(said.contains("big/other"), "{said}");
    let mut wanted = before;
    wanted.retain(|path, _| !path.ends_with("big/other") && !path.ends_with("big"));
    let mut now = picture(&place.tree());
    now.retain(|path, _| !path.ends_with("big"));
    assert_same(&wanted, &now, "all but the one");
    let said = run(&place, &["settle"], 3);
    assert!(said.contains("1 file"), "{said}");
    run(&place, &["verify"], 4);
}

#[test]
fn a_guard_cut_anywhere_leaves_the_tree_or_the_way_back() {
    let mut step = 1;
    let mut cuts = 0;
    loop {
        let place = place_with_big().watched();
        let before = picture(&place.tree());
        let output = bdr(&place, &["guard", "--", "rm", "-rf", "big"])
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        if output.status.signal() != Some(6) {
            assert!(output.status.success(), "{}", stderr(&output));
            break;
        }
        cuts += 1;
        if !place.tree().join("big").exists() {
            run(&place, &["undo", "--yes"], 0);
        }
        // Second names that no set records are taken away when nobody can be making them any more.
        let later = chrono::Utc::now() + chrono::TimeDelta::hours(2);
        let settled = bdr(&place, &["settle"])
            .env("BDR_TEST_NOW", later.to_rfc3339())
            .output()
            .unwrap();
        assert!(settled.status.success(), "{}", stderr(&settled));
        assert_eq!(kept(&place).1, Vec::<PathBuf>::new(), "cut at {step}");
        assert_same(&before, &picture(&place.tree()), &format!("cut at {step}"));
        run(&place, &["verify"], 0);
        // Whatever it left, the next guard works.
        run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
        run(&place, &["undo", "--yes"], 0);
        assert_same(
            &before,
            &picture(&place.tree()),
            &format!("after a cut at {step}"),
        );
        step += 1;
    }
    assert!(cuts > 15, "only {cuts} points were cut");
}

#[test]
fn packing_cut_anywhere_loses_nothing() {
    let (mut step, mut cuts) = (1, 0);
    loop {
        let place = place_with_big().watched();
        let before = picture(&place.tree());
        run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
        let output = bdr(&place, &["settle"])
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        let crashed = output.status.signal() == Some(6);
        run(&place, &["verify"], 0);
        run(&place, &["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), &format!("cut at {step}"));
        if !crashed {
            break;
        }
        run(&place, &["settle"], 0);
        run(&place, &["verify"], 0);
        // Every step of the order that matters is at the beginning or the end; between are many alike.
        cuts += 1;
        step += if step < 6 { 1 } else { 5 };
    }
    assert!(cuts > 8, "only {cuts} points were cut");
}

#[test]
fn objects_of_git_are_kept_for_any_command_and_a_backup_stands_without() {
    let place = place_with_big().watched();
    let pack = format!(".git/objects/pack/pack-{}.pack", "0123456789".repeat(4));
    place.write(&pack, b"");
    large(&place.tree().join(&pack), 3);
    std::fs::remove_dir_all(place.tree().join("big")).unwrap();
    let before = picture(&place.tree());
    run(&place, &["guard", "--", "sh", "-c", "rm -rf .git"], 0);
    let (sets, files) = kept(&place);
    assert_eq!((sets, files.len()), (1, 1));
    run(&place, &["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "kept");
    // They stay where they are; a backup does not rely on them.
    run(&place, &["guard", "--", "touch", "made"], 0);
    run(&place, &["settle"], 0);
    assert!(!kept(&place).1.is_empty());
    run(&place, &["undo", "--yes"], 0);
    run(&place, &["backup"], 0);
    std::fs::remove_dir_all(place.path("bdr/repository-staging")).unwrap();
    let out = place.path("out");
    run(
        &place,
        &["restore", "latest", "--target", out.to_str().unwrap()],
        0,
    );
    let restored = walkdir::WalkDir::new(&out)
        .into_iter()
        .flatten()
        .find(|e| e.path().ends_with(&pack))
        .unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(restored.path()) == read(&place.tree().join(&pack)));
}

/// A file system of its own, for as long as the test runs.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let done = works(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at));
        done.then_some(Self(at))
    }

    /// One that has clones.
    fn with_clones(at: PathBuf, make: &[&str]) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let image = at.with_extension("img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(400 << 20)
            .unwrap();
        let made = works(Command::new(make[0]).args(&make[1..]).arg(&image))
            && works(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(&at),
            );
        made.then_some(Self(at))
    }
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn it_is_kept_on_the_file_system_where_it_lies() {
    let place = Place::with_repository().watched();
    let Some(other) = Mounted::new(place.path("mnt")) else {
        eprintln!("SKIPPED: a second file system cannot be mounted");
        return;
    };
    let top = other.0.join("top");
    large_tree(&top.join("big"));
    let before = picture(&top);
    let guarded = bdr(&place, &["guard", "--", "rm", "-rf", "big"])
        .current_dir(&top)
        .output()
        .unwrap();
    assert!(guarded.status.success(), "{}", stderr(&guarded));
    assert_eq!(
        kept(&place),
        (1, Vec::new()),
        "kept, but not beside the repository"
    );
    let undone = bdr(&place, &["undo", "--yes"])
        .current_dir(&top)
        .output()
        .unwrap();
    assert!(undone.status.success(), "{}", stderr(&undone));
    let mut now = picture(&top);
    now.retain(|path, _| !path.starts_with(".bdr-staging"));
    assert_same(&before, &now, "other file system");
    assert!(other.0.join(".bdr-staging").is_dir());
    run(&place, &["settle"], 0);
    run(&place, &["verify"], 0);
}

#[test]
fn where_files_can_be_cloned_they_are_for_any_command() {
    for make in [
        &["mkfs.xfs", "-q", "-m", "reflink=1"][..],
        &["mkfs.btrfs", "-q"],
    ] {
        let place = Place::with_repository();
        let Some(other) = Mounted::with_clones(place.path("mnt"), make) else {
            eprintln!("SKIPPED: no file system by {} can be mounted", make[0]);
            continue;
        };
        let top = other.0.join("top");
        large_tree(&top.join("big"));
        // What was written just now is read: it may be written again within the same tick of the clock.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        let video = std::fs::File::options()
            .write(true)
            .open(top.join("big/video"));
        video.unwrap().set_modified(old).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let before = picture(&top);
        let call = |args: &[&str]| {
            let output = bdr(&place, args).current_dir(&top).output().unwrap();
            assert!(
                output.status.success(),
                "{make:?} {args:?}: {}",
                stderr(&output)
            );
        };
        let script = ": > big/video; echo new > big/a/one; rm big/a/mode";
        call(&["guard", "--", "sh", "-c", script]);
        assert_eq!(kept(&place).0, 1, "{make:?}: nothing was cloned");
        call(&["verify"]);
        call(&["undo", "--yes"]);
        let mut now = picture(&top);
        now.retain(|path, _| !path.starts_with(".bdr-staging"));
        assert_same(&before, &now, make[0]);
        call(&["redo", "--yes"]);
        call(&["settle"]);
        assert_eq!(kept(&place).0, 0);
        call(&["undo", "--yes"]);
        let mut now = picture(&top);
        now.retain(|path, _| !path.starts_with(".bdr-staging"));
        assert_same(&before, &now, "packed");
    }
}

#[test]
fn recover_py_finds_what_is_kept() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no python3");
        return;
    }
    let place = place_with_big();
    let before = std::fs::read(place.tree().join("big/video")).unwrap();
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    let names = std::fs::read_dir(place.store().join("snapshots")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest = names.max().unwrap();
    let number = newest
        .split('-')
        .next()
        .unwrap()
        .trim_start_matches('0')
        .to_owned();
    for round in ["kept", "packed"] {
        let out = place.path(round);
        let output = Command::new("python3")
            .arg("-B")
            .arg(place.store().join("recover.py"))
            .args(["restore", &number])
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{round}: {}", stderr(&output));
        let found = walkdir::WalkDir::new(&out)
            .into_iter()
            .flatten()
            .find(|e| e.file_name() == "video")
            .unwrap_or_else(|| panic!("{round}: no video"));
        assert!(std::fs::read(found.path()).unwrap() == before, "{round}");
        run(&place, &["settle"], 0);
    }
}

#[test]
fn what_a_command_names_is_within_the_budget_or_it_is_not_run() {
    let place = Place::with_repository().watched();
    large_tree(&place.tree().join("big"));
    place.write("other/file", b"x");
    for command in [&["rm", "-rf", "big"][..], &["sh", "-c", "rm -rf big"]] {
        let args = [&["guard", "--max-bytes", "1M", "--"], command].concat();
        let said = run(&place, &args, 125);
        assert!(said.contains("big holds 33.0 MiB"), "{said}");
    }
    assert!(place.tree().join("big/video").metadata().unwrap().len() >= LARGE as u64);
    // What is not named is left out, and said.
    let said = run(
        &place,
        &["guard", "--max-bytes", "1M", "--", "rm", "-rf", "other"],
        0,
    );
    assert!(said.contains("not captured: big/video"), "{said}");
    // Around what is named there may be more files than a workspace may have.
    std::fs::write(place.path("bdr/config.toml"), "[guard]\nmax_files = 3\n").unwrap();
    place.write("deep/er/file", b"precious");
    run(&place, &["guard", "--", "rm", "-rf", "deep"], 0);
    run(&place, &["undo", "--yes"], 0);
    assert_eq!(
        std::fs::read(place.tree().join("deep/er/file")).unwrap(),
        b"precious"
    );
}

#[test]
fn prune_leaves_what_an_undo_needs_and_gives_back_what_only_a_forgotten_snapshot_kept() {
    let place = place_with_big();
    let before = picture(&place.tree());
    for settled in [false, true] {
        run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
        if settled {
            run(&place, &["settle"], 0);
        }
        run(&place, &["prune", "--now", "--yes", "--keep-last", "1"], 0);
        run(&place, &["verify"], 0);
        run(&place, &["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), "after a prune");
    }
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    run(&place, &["backup"], 0);
    run(&place, &["guard", "--", "touch", "new"], 0);
    let at = |hours: i64| (crate::support::now() + chrono::TimeDelta::hours(hours)).to_rfc3339();
    let later = |args: &[&str], hours| {
        let mut command = bdr(&place, args);
        let output = command.env("BDR_TEST_NOW", at(hours)).output().unwrap();
        assert!(output.status.success(), "bdr {args:?}: {}", stderr(&output));
    };
    // A week and a day later none of this can be undone any more.
    later(&["backup", "--full"], 8 * 24);
    later(&["prune", "--now", "--yes", "--keep-last", "1"], 8 * 24 + 1);
    assert_eq!(kept(&place), (0, Vec::new()));
    let packs: u64 = walkdir::WalkDir::new(place.store())
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert!(packs < 1 << 20, "{packs} bytes are left");
    run(&place, &["verify"], 0);
}

#[test]
fn what_is_kept_for_a_forgotten_snapshot_is_freed_without_being_packed() {
    let place = place_with_big();
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    assert_eq!(kept(&place).0, 1);
    let later = (crate::support::now() + chrono::TimeDelta::hours(2)).to_rfc3339();
    let mut command = bdr(&place, &["forget", "latest:any", "--yes"]);
    let output = command.env("BDR_TEST_NOW", later).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(kept(&place), (0, Vec::new()));
    let said = run(&place, &["undo", "--yes"], 2);
    assert!(said.contains("has expired"), "{said}");
    run(&place, &["verify"], 0);
}

#[test]
fn what_was_written_over_and_became_longer_is_not_given_back_as_certain() {
    let place = place_with_big();
    let path = place.tree().join("big/video");
    let mut held = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    run(&place, &["guard", "--", "rm", "-rf", "big"], 0);
    held.write_all(b"another head").unwrap();
    std::io::Seek::seek(&mut held, std::io::SeekFrom::End(0)).unwrap();
    held.write_all(b"and more").unwrap();
    drop(held);
    let said = run(&place, &["undo", "--yes"], 3);
    assert!(said.contains("big/video"), "{said}");
}

#[test]
fn what_another_user_made_first_is_no_place_for_kept_files() {
    use std::os::unix::fs::{chown, symlink};
    use std::os::unix::process::CommandExt as _;
    const VICTIM: u32 = 1_234;
    const OTHER: u32 = crate::support::cli::NOBODY;
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: two users are needed");
        return;
    }
    for (mode, taken) in [
        (0o777, "directory"),
        (0o1777, "directory"),
        (0o1777, "link"),
        (0o1777, "nothing"),
    ] {
        let place = Place::with_repository();
        let Some(mounted) = Mounted::new(place.path("mnt")) else {
            println!("SKIPPED: a second file system cannot be mounted");
            return;
        };
        let what = format!("{mode:o} {taken}");
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let shared = mounted.0.join("shared");
        let project = shared.join("project");
        std::fs::create_dir_all(&project).unwrap();
        for dir in [
            &mounted.0,
            &shared,
            &project,
            &place.path(""),
            &place.path("home"),
        ] {
            chown(dir, Some(VICTIM), Some(VICTIM)).unwrap();
        }
        open(&mounted.0, mode);
        open(&shared, mode);
        let mut staged = Vec::new();
        for dir in [&mounted.0, &shared] {
            let staging = dir.join(".bdr-staging");
            match taken {
                "directory" => {
                    std::fs::create_dir(&staging).unwrap();
                    open(&staging, 0o777);
                }
                "link" => {
                    let own = dir.join("theirs");
                    std::fs::create_dir(&own).unwrap();
                    open(&own, 0o777);
                    chown(&own, Some(OTHER), Some(OTHER)).unwrap();
                    symlink(&own, &staging).unwrap();
                }
                _ => continue,
            }
            let _ = chown(&staging, Some(OTHER), Some(OTHER));
            staged.push(staging);
        }
        large(&project.join("video"), 1);
        let bytes = std::fs::read(project.join("video")).unwrap();
        chown(project.join("video"), Some(VICTIM), Some(VICTIM)).unwrap();
        let binary = place.path("bdr-binary");
        std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &binary).unwrap();
        let as_victim = |args: &[&str]| {
            let mut command = Command::new(&binary);
            command
                .args(args)
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .env("HOME", place.path("home"))
                .env("BDR_LIFEBOAT", "")
                .env("BDR_BACKGROUND", "0")
                .current_dir(&project)
                .uid(VICTIM)
                .gid(VICTIM);
            command.output().unwrap()
        };
        let guarded = as_victim(&["guard", "--", "rm", "-rf", "video"]);
        assert!(guarded.status.success(), "{what}: {}", stderr(&guarded));
        // Whoever can write to a directory above can put another in its place.
        for staging in &staged {
            let files = walkdir::WalkDir::new(staging).follow_links(true);
            let files = files.into_iter().flatten();
            let file = files.into_iter().find(|f| f.file_type().is_file());
            assert!(file.is_none(), "{what}: {file:?}");
        }
        let replaced = Command::new("sh")
            .args(["-c", "cd \"$1\" && find . -name .bdr-staging | while read d; do mv \"$d\" \"$d.was\" && cp -r \"$d.was\" \"$d\" && find \"$d\" -type f -exec sh -c 'echo theirs > \"$1\"' _ {} \\;; done", "sh"])
            .arg(&mounted.0)
            .uid(OTHER)
            .gid(OTHER)
            .output()
            .unwrap();
        drop(replaced);
        let undone = as_victim(&["undo", "--yes"]);
        assert!(undone.status.success(), "{what}: {}", stderr(&undone));
        assert!(
            std::fs::read(project.join("video")).unwrap() == bytes,
            "{what}"
        );
    }
}
