//! What was not captured is unknown: it keeps a command that names it from running, it is never taken for made by the command, and it is named.

use crate::incident::sh;
use crate::support::{Place, assert_same, picture};

#[test]
fn a_file_closed_to_its_owner_is_kept_from_rm_without_being_read() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir w; echo precious > w/f; : > w/empty; chmod 000 w/f w/empty");
    let before = picture_as_root(&place);
    place.run_as_user(&["guard", "--", "rm", "-rf", "w"], 0);
    assert!(!place.tree().join("w").exists());
    place.run_as_user(&["undo", "--yes"], 0);
    assert_same(&before, &picture_as_root(&place), "undone");
    // And once it is packed.
    place.run_as_user(&["guard", "--", "rm", "-rf", "w"], 0);
    place.run_as_user(&["settle"], 0);
    place.run_as_user(&["undo", "--yes"], 0);
    assert_same(
        &before,
        &picture_as_root(&place),
        "undone after it was packed",
    );
}

#[test]
fn a_directory_that_an_undo_cannot_remove_is_named_with_what_stays_in_it() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir -p w/d/e; echo precious > w/d/e/f; chmod 000 w/d/e/f");
    place.run_as_user(&["guard", "--", "mv", "w/d", "w/moved"], 0);
    let said = place.run_as_user(&["undo", "--yes"], 3);
    // Where there is a capture or root, it may come back whole.
    for stays in ["w/moved", "w/moved/e", "w/moved/e/f"] {
        let mut lines = said
            .lines()
            .map(|line| line.trim_start().split("   ").next());
        let is_named = lines.any(|path| path == Some(stays));
        assert_eq!(
            place.tree().join(stays).exists(),
            is_named,
            "{stays}: {said}"
        );
    }
}

/// Files that are closed to their owner can be looked into by root only.
fn picture_as_root(
    place: &Place,
) -> std::collections::BTreeMap<std::path::PathBuf, crate::support::Object> {
    if rustix::process::geteuid().is_root() {
        return picture(&place.tree());
    }
    place.sh_as_user("chmod -R u+r w");
    let seen = picture(&place.tree());
    place.sh_as_user("chmod 000 w/f w/empty");
    seen
}

#[test]
fn a_command_that_names_what_cannot_be_captured_is_not_run() {
    for command in [
        // What overwrites it could write to the second name as well.
        "mv -f new f",
        "truncate -s 0 f",
        "sed -i s/a/b/ f",
        "cp new f",
    ] {
        let place = Place::of_a_user().watched();
        place.sh_as_user("echo precious > f; chmod 000 f; echo new > new");
        let words: Vec<&str> = command.split(' ').collect();
        let mut args = vec!["guard", "--"];
        args.extend(&words);
        let said = place.run_as_user(&args, 125);
        assert!(said.contains("cannot be kept"), "{command}: {said}");
        assert!(place.tree().join("new").exists(), "{command} was run");
    }
    // Who wants it all the same has it named, and the rest is protected.
    let place = Place::of_a_user().watched();
    place.sh_as_user("echo precious > f; chmod 000 f; echo new > new");
    let args = ["guard", "--on-fail", "run", "--", "mv", "-f", "new", "f"];
    let said = place.run_as_user(&args, 0);
    assert!(said.contains("not captured"), "{said}");
    assert!(!place.tree().join("new").exists());
    place.run_as_user(&["undo", "--yes"], 3);
    assert!(place.tree().join("new").exists());
}

#[test]
fn a_path_too_long_for_the_system_keeps_rm_from_running() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let place = Place::with_repository();
    std::fs::create_dir(place.tree().join("top")).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut dir = rustix::fs::open(place.tree().join("top"), flags, Mode::empty()).unwrap();
    for number in 0..20 {
        let name = format!("{number:0250}");
        mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    openat(&dir, "f", flags, Mode::RUSR | Mode::WUSR).unwrap();
    let file = || {
        let mut look = std::process::Command::new("sh");
        let found = look
            .args(["-c", "find top -name f | wc -l"])
            .current_dir(place.tree());
        found.output().unwrap().stdout
    };
    assert_eq!(file(), b"1\n");
    let said = place.run(
        &["guard", "--capture", "off", "--", "rm", "-rf", "top"],
        125,
    );
    let said = crate::support::cli::stderr(&said);
    assert!(said.contains("cannot be kept"), "{said}");
    assert_eq!(file(), b"1\n");
    // Under capture it is not kept from running, but from what nobody could bring back.
    let output = place
        .bdr(&["guard", "--", "rm", "-rf", "top"])
        .output()
        .unwrap();
    let said = crate::support::cli::stderr(&output);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert_eq!(file(), b"1\n", "{said}");
    sh(&place, "rm -rf top");
}

#[test]
fn what_was_left_out_is_not_removed_under_another_name() {
    for (made, command, left) in [
        // Over the budget.
        (
            "head -c 3000000 /dev/zero | tr '\\0' x > big.iso",
            "mv big.iso renamed.iso",
            "renamed.iso",
        ),
        // Rebuildable, and too large to be taken all the same.
        (
            "echo {} > package.json; mkdir -p node_modules/p; i=0; while [ $i -lt 400 ]; do echo $i > node_modules/p/$i; i=$((i+1)); done",
            "mv node_modules kept",
            "kept/p/399",
        ),
        // A file of one's own in there.
        (
            "echo {} > package.json; mkdir -p node_modules/p; i=0; while [ $i -lt 400 ]; do echo $i > node_modules/p/$i; i=$((i+1)); done",
            "mv node_modules/p/7 mine",
            "mine",
        ),
    ] {
        let place = Place::with_repository().watched();
        sh(
            &place,
            &format!("git init -q .; {made}; echo '{command}' > mv.sh; sleep 0.1"),
        );
        place.run(&["guard", "--max-bytes", "1M", "--", "sh", "mv.sh"], 0);
        let output = place.run(&["undo", "--yes"], 3);
        assert!(
            place.tree().join(left).exists(),
            "{command}: {left} is gone"
        );
        let said = String::from_utf8_lossy(&output.stdout);
        let named = left.split('/').next().unwrap();
        assert!(said.contains(named), "{command}: {said}");
    }
}

#[test]
fn what_the_command_made_readable_is_not_what_it_made() {
    let place = Place::of_a_user().watched();
    place.sh_as_user("echo precious > f; chmod 000 f");
    place.run_as_user(&["guard", "--", "chmod", "644", "f"], 0);
    // Its mode is another now, and what it was before is not known.
    let said = place.run_as_user(&["undo", "--yes"], 3);
    assert!(said.contains("it changed and was not captured"), "{said}");
    assert!(place.tree().join("f").exists());
}

#[test]
fn what_cannot_be_looked_at_afterwards_is_compared_when_it_can() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir -p w/d; echo precious > w/d/g; echo other > w/f; chmod 750 w/d");
    let before = picture(&place.tree());
    let said = place.run_as_user(&["guard", "--", "sh", "-c", "rm w/d/g; chmod 000 w/d"], 0);
    assert!(
        said.contains("bdr undo"),
        "the way back is not named: {said}"
    );
    place.sh_as_user("chmod 750 w/d");
    place.run_as_user(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "undone");
}

#[test]
fn an_undo_that_did_not_finish_is_finished_by_asking_again() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir w other; echo older > other/older; echo 1 > w/a; echo 2 > w/b");
    place.run_as_user(&["guard", "--", "rm", "other/older"], 0);
    place.run_as_user(&["guard", "--", "rm", "w/a", "w/b"], 0);
    // A file of somebody else's stands in the way of one of the two.
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a partial undo takes root to be made");
        return;
    }
    std::fs::remove_dir(place.tree().join("w")).unwrap();
    std::fs::create_dir(place.tree().join("w")).unwrap();
    place.run_as_user(&["undo", "--yes"], 3);
    assert!(!place.tree().join("w/a").exists());
    std::fs::remove_dir(place.tree().join("w")).unwrap();
    place.run_as_user(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("w/a")).unwrap(), b"1\n");
    assert_eq!(std::fs::read(place.tree().join("w/b")).unwrap(), b"2\n");
    assert!(
        !place.tree().join("other/older").exists(),
        "the operation before was taken back"
    );
}

#[test]
fn one_path_of_an_operation_comes_back_and_the_rest_can_come_later() {
    let place = Place::with_repository();
    sh(&place, "mkdir d; echo 1 > d/1; echo 2 > d/2; echo 3 > d/3");
    let before = picture(&place.tree());
    place.run(&["guard", "--", "rm", "-rf", "d"], 0);
    let output = place.run(&["undo", "--yes", "d/2"], 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("rest"));
    assert!(place.tree().join("d/2").exists() && !place.tree().join("d/1").exists());
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "the rest as well");
}

#[test]
fn what_others_change_in_a_source_meanwhile_is_not_taken_back_unless_asked() {
    let place = Place::with_repository().watched();
    let other = place.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.md"), "old").unwrap();
    place.write("a", b"1");
    let sources = [
        format!("a={}", place.tree().display()),
        format!("b={}", other.display()),
    ];
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
    let script = format!(
        "rm a; echo new > '{0}/notes.md'; echo x > '{0}/draft.md'",
        other.display()
    );
    // It is not named in the line: a script does it, or another program at the same time.
    place.write("job.sh", script.as_bytes());
    place.run(&["guard", "--", "sh", "job.sh"], 0);
    let output = place.run(&["undo", "--yes"], 0);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("meanwhile") && said.contains("--all"),
        "{said}"
    );
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"1");
    assert_eq!(std::fs::read(other.join("notes.md")).unwrap(), b"new\n");
    assert!(other.join("draft.md").exists());
    let hint = said.split("bdr undo ").nth(1).unwrap();
    let id = hint.split(' ').next().unwrap();
    place.run(&["undo", id, "--all", "--yes"], 0);
    assert_eq!(std::fs::read(other.join("notes.md")).unwrap(), b"old");
    assert!(!other.join("draft.md").exists());
}

#[test]
fn directories_that_the_command_closed_are_opened_for_the_undo_and_get_their_modes_back() {
    for script in [
        "chmod 000 src",
        "chmod 300 src",
        "chmod -R 000 src",
        "chmod 000 src/sub src",
        "chmod -R a-rwx .",
        "rm src/sub/b; chmod 000 src/sub",
        "rm src/a; chmod -R 000 src",
    ] {
        let place = Place::of_a_user();
        place.sh_as_user("mkdir -p src/sub; echo a > src/a; echo b > src/sub/b; chmod 640 src/a; chmod 750 src/sub");
        let before = picture(&place.tree());
        place.run_as_user(&["demo", "--help"], 0);
        // In one shell: it stands in the directory that is closed. chmod -R cannot go on where it has just closed.
        place.sh_as_user(&format!(
            "export HOME='{}' BDR_HOME='{}'; '{2}' guard -- sh -c '{script}; true'; '{2}' undo --yes",
            place.path("home").display(),
            place.path("bdr").display(),
            place.path("bdr-binary").display(),
        ));
        assert_same(&before, &picture(&place.tree()), script);
    }
}

#[test]
fn directories_that_are_closed_are_opened_for_a_restore_and_get_their_modes_back() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir -p src/sub; echo b > src/sub/b; chmod 750 src/sub");
    let before = picture(&place.tree());
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 0);
    place.sh_as_user("rm src/sub/b; chmod 000 src/sub; chmod 300 src");
    place.run_as_user(&["restore", "latest", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "restored");
}

#[test]
fn what_is_named_in_a_directory_that_cannot_be_listed_comes_back() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir w; echo precious > w/f; chmod 300 w");
    place.run_as_user(&["guard", "--", "rm", "w/f"], 0);
    place.run_as_user(&["undo", "--yes"], 0);
    place.sh_as_user("chmod 700 w; grep -q precious w/f");
}

#[test]
fn a_fifo_comes_back() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir d; mkfifo -m 640 d/pipe; touch -d 2020-02-02 d/pipe d");
    let before = picture(&place.tree());
    place.run_as_user(&["guard", "--", "rm", "-rf", "d"], 0);
    place.run_as_user(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "undone");
    place.run_as_user(&["guard", "--", "chmod", "000", "d/pipe"], 0);
    place.run_as_user(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "its mode is undone");
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 0);
    let said = place.run_as_user(&["restore", "latest", "--yes"], 0);
    assert!(said.contains("Nothing to restore"), "{said}");
    place.sh_as_user("rm d/pipe");
    place.run_as_user(&["restore", "latest", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "restored");
    // A socket is nothing without who listens on it: that is said.
    drop(std::os::unix::net::UnixListener::bind(place.tree().join("sock")).unwrap());
    place.run_as_user(&["guard", "--", "rm", "-f", "sock"], 0);
    let said = place.run_as_user(&["undo", "--yes"], 3);
    assert!(said.contains("sock"), "{said}");
}

#[test]
fn what_others_make_where_bdr_could_not_look_is_not_taken_for_made_by_the_command() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir closed open; echo 1 > closed/f; echo 2 > open/g");
    let line = "echo mine > open/mine; echo more >> open/g; chmod 000 closed";
    place.run_as_user(&["guard", "--", "sh", "-c", line], 0);
    place.sh_as_user("echo theirs > open/theirs; echo theirs >> open/g");
    place.run_as_user(&["undo", "--yes"], 3);
    let read = |name: &str| std::fs::read_to_string(place.tree().join(name)).unwrap_or_default();
    assert_eq!(read("open/theirs"), "theirs\n");
    assert_eq!(read("open/g"), "2\nmore\ntheirs\n");
    assert!(!place.tree().join("open/mine").exists());
}

#[test]
fn a_dry_run_opens_nothing_and_says_what_it_did_not_look_at() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir -p open closed/sub; echo 1 > open/f; echo 2 > closed/sub/g");
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 0);
    let line = "rm open/f closed/sub/g; chmod 000 closed/sub";
    place.run_as_user(&["guard", "--", "sh", "-c", line], 0);
    let times = || {
        use std::os::unix::fs::MetadataExt as _;
        let of = |name: &str| {
            let found = place.tree().join(name).symlink_metadata().unwrap();
            (found.ctime(), found.ctime_nsec(), found.mode())
        };
        ["open", "closed", "closed/sub"].map(of)
    };
    let before = times();
    for args in [
        &["undo", "--dry-run"][..],
        &["restore", "latest", "--dry-run"],
    ] {
        let said = place.run_as_user(args, 0);
        assert_eq!(times(), before, "{args:?} changed a directory: {said}");
        assert!(said.contains("open/f"), "{args:?}: {said}");
        let closed = "not checked: closed/sub";
        // Root sees it anyway.
        assert!(said.contains(closed), "{args:?}: {said}");
        assert!(!said.contains("Permission denied"), "{args:?}: {said}");
    }
    place.run_as_user(&["undo", "--yes"], 0);
    place.sh_as_user("grep -q 1 open/f; grep -q 2 closed/sub/g");
}

#[test]
fn a_redo_closes_directories_that_an_undo_opened() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir -p d/e; echo 1 > d/e/f");
    place.run_as_user(
        &["guard", "--", "sh", "-c", "chmod 000 d/e; chmod 555 d"],
        0,
    );
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(place.tree().join(name)).unwrap();
        found.permissions().mode() & 0o7777
    };
    let closed = (mode("d"), mode("d/e"));
    place.run_as_user(&["undo", "--yes"], 0);
    assert_ne!((mode("d"), mode("d/e")), closed);
    place.run_as_user(&["redo", "--yes"], 0);
    assert_eq!((mode("d"), mode("d/e")), closed);
    place.sh_as_user("chmod 755 d d/e");
}

#[test]
fn what_a_command_makes_outside_of_all_roots_is_undone_and_leaves_no_trace() {
    let place = Place::with_repository().watched();
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/old"), "old").unwrap();
    sh(&place, "touch -d 2020-02-02 ../out");
    let before = picture(&place.path("out"));
    for line in [
        "ln -sfn old ../out/link",
        "touch ../out/new",
        "mkdir ../out/dir",
        "echo x > ../out/written",
        "rm ../out/old",
        "mv ../out/old ../out/moved",
    ] {
        place.run(&["guard", "--", "sh", "-c", line], 0);
        assert!(before != picture(&place.path("out")), "{line}");
        place.run(&["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.path("out")), line);
    }
    // Somebody else made something there since: the time of the directory is theirs.
    place.run(&["guard", "--", "sh", "-c", "rm ../out/old"], 0);
    sh(&place, "echo theirs > ../out/theirs");
    place.run(&["undo", "--yes"], 0);
    assert!(
        before[std::path::Path::new("")].mtime
            < picture(&place.path("out"))[std::path::Path::new("")].mtime
    );
}

#[test]
fn undo_all_finds_a_command_that_changed_other_places_only() {
    let place = Place::with_repository().watched();
    sh(&place, "mkdir -p ../elsewhere; echo 1 > f");
    place.init();
    let script = place.path("wipe");
    std::fs::write(&script, format!("rm {}/f", place.tree().display())).unwrap();
    let mut command = place.bdr(&["guard", "--", "sh", "../wipe"]);
    assert!(
        command
            .current_dir(place.path("elsewhere"))
            .status()
            .unwrap()
            .success()
    );
    assert!(!place.tree().join("f").exists());
    for (args, back) in [
        (&["undo", "--yes"][..], false),
        (&["undo", "--yes", "--all"][..], true),
    ] {
        let mut undo = place.bdr(args);
        let output = undo.current_dir(place.path("elsewhere")).output().unwrap();
        assert_eq!(output.status.success(), back, "{args:?}");
        assert_eq!(place.tree().join("f").exists(), back, "{args:?}");
    }
}

#[test]
fn names_of_one_file_that_could_not_be_joined_are_joined_by_asking_again() {
    let place = Place::with_repository();
    sh(
        &place,
        "mkdir d; echo x > d/a; ln d/a d/b; echo y > c; ln c e",
    );
    let before = picture(&place.tree());
    place.run(&["guard", "--", "sh", "-c", "rm -r d; rm e; echo z > c"], 0);
    let mut broken = place.bdr(&["undo", "--yes"]);
    let output = broken.env("BDR_TEST_FAIL_AT", "link").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("separate file"));
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "asked again");
}

#[test]
fn what_could_not_be_given_back_is_tried_once_more_and_then_the_operation_before_is_meant() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can make a file that the user cannot make again");
        return;
    }
    let place = Place::of_a_user();
    place.sh_as_user("echo older > older");
    std::fs::write(place.tree().join("roots"), "of root\n").unwrap();
    place.run_as_user(&["guard", "--", "rm", "older"], 0);
    place.run_as_user(&["guard", "--", "rm", "-f", "roots"], 0);
    for _ in 0..2 {
        let said = place.run_as_user(&["undo", "--yes"], 3);
        assert!(said.contains("its owner 0:0"), "{said}");
        assert!(!place.tree().join("older").exists());
    }
    place.run_as_user(&["undo", "--yes"], 0);
    assert!(place.tree().join("older").exists());
}

#[test]
fn what_was_not_captured_and_changed_is_named_and_what_did_not_change_is_not() {
    for (script, code) in [("one", 0), ("two", 3)] {
        let place = Place::with_repository().watched();
        sh(
            &place,
            "head -c 2000000 /dev/urandom > big; echo 1 > small; echo 2 > other
             echo rm other > one; echo big > names
             echo 'rm other; while read -r name; do echo more >> \"$name\"; done < names' > two",
        );
        place.run(&["guard", "--max-bytes", "1M", "--", "sh", script], 0);
        let said = place.run(&["undo", "--yes"], code);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let named = said.contains("big  it changed and was not captured");
        assert_eq!(named, code == 3, "{script}: {said}");
        assert!(place.tree().join("other").exists());
    }
}

#[test]
fn what_changed_in_a_directory_that_could_not_be_listed_is_said_to_be_unknown() {
    let place = Place::of_a_user().watched();
    place.sh_as_user("mkdir w; echo 1 > w/f; ln w/f w/another; echo 2 > else; chmod 300 w");
    place.run_as_user(&["guard", "--", "rm", "else"], 0);
    place.run_as_user(&["undo", "--yes"], 0);
    // Another name of the file is not known to bdr, and keeps what was written.
    place.run_as_user(&["guard", "--", "sh", "-c", "echo 3 > w/f"], 0);
    let said = place.run_as_user(&["undo", "--yes"], 3);
    assert!(said.contains("w  it "), "{said}");
    place.sh_as_user("grep -q 1 w/f");
}

#[test]
fn one_path_that_cannot_be_looked_at_does_not_keep_the_others_from_coming_back() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can close a directory to the user");
        return;
    }
    let place = Place::of_a_user();
    place.sh_as_user("mkdir w other; echo 1 > w/a; echo 2 > w/b; echo 3 > other/c");
    let line = "rm w/a other/c; echo changed > w/b; echo new > w/new";
    place.run_as_user(&["guard", "--", "sh", "-c", line], 0);
    let w = place.tree().join("w");
    std::os::unix::fs::chown(&w, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&w, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let said = place.run_as_user(&["undo", "--yes"], 3);
    assert!(said.contains("it cannot be checked"), "{said}");
    assert!(place.tree().join("other/c").exists());
    assert!(!w.join("a").exists());
}
