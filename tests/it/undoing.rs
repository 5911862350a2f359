//! Undo as it is used: what is shown before, what is asked, what is booked.

use crate::support::cli::{stderr, stdout};
use crate::support::terminal::Terminal;
use crate::support::{Place, noise};

fn all(output: &std::process::Output) -> String {
    stdout(output) + &stderr(output)
}

/// The operations of the log, newest first.
fn logged(place: &Place) -> Vec<serde_json::Value> {
    place.json(&["log"])["operations"]
        .as_array()
        .unwrap()
        .clone()
}

fn short(operation: &serde_json::Value) -> String {
    operation["short"].as_str().unwrap().to_owned()
}

fn guard(place: &Place, line: &str) -> String {
    place.run(&["guard", "--", "sh", "-c", line], 0);
    short(&logged(place)[0])
}

fn six(place: &Place) {
    for number in 1..=6 {
        place.write(&format!("data/{number}.csv"), b"1,2");
    }
}

#[test]
fn several_operations_are_shown_with_all_that_would_be_done() {
    let place = Place::with_repository().watched();
    place.write("a", b"1");
    place.write("b", b"1");
    place.init();
    let first = guard(&place, "rm a; echo > new");
    let second = guard(&place, "rm b new");
    for args in [
        &["undo", "--last", "2", "--dry-run"][..],
        &["undo", "--since", "1h", "--dry-run"],
        &["undo", "--since", "yesterday", "--dry-run"],
    ] {
        let said = stdout(&place.run(args, 0));
        let (newer, older) = said.split_once(&format!("Undo {first}")).unwrap();
        assert!(newer.contains(&second), "{said}");
        assert!(
            newer.contains("restore  b") && newer.contains("restore  new"),
            "{said}"
        );
        assert!(older.contains("restore  a"), "{said}");
        assert!(said.ends_with("Nothing was changed.\n"), "{said}");
    }
    // Without a terminal it is the same, and says how to mean it.
    let said = stdout(&place.run(&["undo", "--last", "2"], 3));
    assert!(
        said.contains("restore  a") && said.contains("restore  b"),
        "{said}"
    );
    assert!(said.contains("bdr undo --last 2 --yes"), "{said}");
    assert!(!place.tree().join("a").exists());
    place.run(&["undo", "--last", "2", "--yes"], 0);
    assert!(place.tree().join("a").exists() && place.tree().join("b").exists());
    assert!(!place.tree().join("new").exists());
}

#[test]
fn an_operation_undone_in_part_is_booked_so_and_goes_on() {
    let place = Place::with_repository();
    six(&place);
    place.write("x", b"1");
    place.init();
    guard(&place, "rm x");
    let own = guard(&place, "rm -r data");
    let said = all(&place.run(&["undo", "data/3.csv", "--yes"], 0));
    assert!(said.contains("1 of 6 files"), "{said}");
    assert!(
        said.contains("5 files of it are not undone yet: bdr undo"),
        "{said}"
    );
    let log = stdout(&place.run(&["log"], 0));
    assert!(log.contains("partly undone (1 of 6)"), "{log}");
    let shown = stdout(&place.run(&["show", &own], 0));
    assert!(shown.contains("partly undone (1 of 6)"), "{shown}");
    let portion = serde_json::json!({"done": 1, "of": 6});
    assert_eq!(logged(&place)[1]["partly_undone"], portion);
    // Two of what is left, by another name.
    place.run(&["undo", &own, "data/4.csv", "data/5.csv", "--yes"], 0);
    let portion = serde_json::json!({"done": 3, "of": 6});
    assert_eq!(logged(&place)[2]["partly_undone"], portion);
    // The one before it is not touched until all of this is back.
    place.run(&["undo", "--yes"], 0);
    assert_eq!(
        std::fs::read_dir(place.tree().join("data"))
            .unwrap()
            .count(),
        6
    );
    assert!(!place.tree().join("x").exists());
    let log = stdout(&place.run(&["log"], 0));
    assert!(!log.contains("partly") && log.contains("undone"), "{log}");
    // Taken back, what was undone before it stays undone, and is booked so again.
    place.run(&["redo", "--yes"], 0);
    assert_eq!(
        std::fs::read_dir(place.tree().join("data"))
            .unwrap()
            .count(),
        3
    );
    let log = stdout(&place.run(&["log"], 0));
    assert!(log.contains("partly undone (3 of 6)"), "{log}");
    place.run(&["undo", "--yes"], 0);
    place.run(&["undo", "--yes"], 0);
    assert!(place.tree().join("x").exists());
}

#[test]
fn a_plain_undo_of_something_older_is_asked_about() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init_at("2026-11-22T10:00:00Z");
    place.run_at("2026-11-22T10:00:00Z", &["guard", "--", "rm", "a"], 0);
    let mut terminal = Terminal::start(
        &place,
        &["env", "BDR_TEST_NOW=2026-11-22T13:00:00Z", "bdr", "undo"],
    );
    let said = terminal.expect("It is from 3 h ago. Undo it?");
    assert!(said.contains("restore  a"), "{said}");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    assert!(!place.tree().join("a").exists());
    // Nobody is there to be asked: the command that means this one is named, whatever happens meanwhile.
    let said = place.run_at("2026-11-22T13:00:00Z", &["undo"], 3);
    let own = short(&logged(&place)[0]);
    assert!(
        stdout(&said).contains(&format!("bdr undo {own} --yes\n")),
        "{}",
        stdout(&said)
    );
    // What was done just now is what is meant.
    let mut terminal = Terminal::start(
        &place,
        &["env", "BDR_TEST_NOW=2026-11-22T10:05:00Z", "bdr", "undo"],
    );
    terminal.expect("Done in");
    assert!(place.tree().join("a").exists());
}

#[test]
fn a_plain_undo_with_nothing_to_do_is_asked_about() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    guard(&place, "mv a b");
    std::fs::rename(place.tree().join("b"), place.tree().join("a")).unwrap();
    let mut terminal = Terminal::start(&place, &["bdr", "undo"]);
    terminal.expect("There is nothing to do for it. Undo it anyway?");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    place.run(&["undo"], 3);
    assert_eq!(logged(&place).len(), 1);
}

#[test]
fn a_long_plan_is_told_by_directory() {
    let place = Place::with_repository();
    for number in 0..20 {
        place.write(&format!("junk/{number}"), b"0123456789");
    }
    place.write("junk/sub/x", b"1");
    place.write("few/1", b"1");
    place.write("few/2", b"1");
    place.init();
    guard(&place, "rm junk/? junk/1? junk/sub/x few/?");
    let said = stdout(&place.run(&["undo", "--dry-run"], 0));
    assert!(
        said.contains("  restore  20 files in junk  200 B\n"),
        "{said}"
    );
    assert!(said.contains("  restore  junk/sub/x  1 B\n"), "{said}");
    assert!(said.contains("  restore  few/1  1 B\n"), "{said}");
    assert_eq!(said.lines().count(), 6, "{said}");
    let said = stdout(&place.run(&["undo", "--dry-run", "--files"], 0));
    assert!(said.contains("  restore  junk/17  10 B\n"), "{said}");
    let plan = place.json(&["undo", "--dry-run"]);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 23);
}

#[test]
fn a_conflict_names_what_to_type_next_and_leaves_nothing_behind_once_reversed() {
    let place = Place::with_repository();
    place.write("my notes", b"1");
    place.init();
    let own = guard(&place, "echo 2 > 'my notes'");
    place.write("my notes", b"three");
    let said = all(&place.run(&["undo", "--yes"], 3));
    let beside = format!("my notes.bdr-{own}");
    assert!(
        said.contains(&format!("diff 'my notes' '{beside}'")),
        "{said}"
    );
    let force = format!("bdr undo {own} --force 'my notes'");
    assert!(said.contains(&force), "{said}");
    assert_eq!(std::fs::read(place.tree().join(&beside)).unwrap(), b"1");
    place.run(&["redo", "--yes"], 0);
    assert!(!place.tree().join(&beside).exists());
    // One that somebody went on with is theirs.
    place.run(&["undo", &own, "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join(&beside)).unwrap(), b"1");
    place.write(&beside, b"mine now");
    place.run(&["redo", "--yes"], 3);
    assert_eq!(
        std::fs::read(place.tree().join(&beside)).unwrap(),
        b"mine now"
    );
    place.run(&["undo", &own, "--force", "my notes", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("my notes")).unwrap(), b"1");
}

#[test]
fn what_no_operation_is_called_is_said_to_be_none() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.write("b", b"1");
    place.init();
    let first = guard(&place, "rm a");
    let last = guard(&place, "rm b");
    let said = all(&place.run(&["undo", "zzzz", "--yes"], 1));
    let none = "`zzzz` is not in what the last operation changed, and no operation matches it";
    assert!(said.contains(none), "{said}");
    assert!(said.contains("bdr log"), "{said}");
    let said = all(&place.run(&["undo", "a", "--yes"], 1));
    assert!(said.contains(&last) && said.contains("rm a"), "{said}");
    assert!(said.contains(&format!("bdr undo {first} a")), "{said}");
    // A redo says what it does again.
    place.run(&["undo", "--yes"], 0);
    let said = stdout(&place.run(&["redo", "--dry-run"], 0));
    assert!(
        said.contains(&format!("undo {last}: sh -c 'rm b'")),
        "{said}"
    );
}

fn stored(place: &Place) -> u64 {
    let files = walkdir::WalkDir::new(place.store()).into_iter().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

#[test]
fn taking_back_a_few_bytes_does_not_store_a_large_file_beside_them() {
    let place = Place::with_repository();
    place.write("package.json", b"{\"name\": 1}");
    place.init();
    guard(&place, "rm package.json");
    let large = noise(40 << 20);
    place.write("big.bin", &large);
    place.write("new", b"also new");
    let before = stored(&place);
    place.run(&["undo", "--yes"], 0);
    assert!(place.tree().join("package.json").exists());
    assert!(
        stored(&place) - before < 1 << 20,
        "the large file was stored"
    );
    // It is no concern of that undo, so nothing is said of it, and nothing happens to it.
    let undo = logged(&place)[0].clone();
    assert_eq!(undo["not_captured_count"], 0, "{undo}");
    place.run(&["redo", "--yes"], 0);
    assert!(!place.tree().join("package.json").exists());
    assert_eq!(std::fs::read(place.tree().join("big.bin")).unwrap(), large);
    assert_eq!(
        std::fs::read(place.tree().join("new")).unwrap(),
        b"also new"
    );
    place.run(&["undo", "--yes"], 0);
    assert!(
        stored(&place) - before < 1 << 20,
        "the large file was stored"
    );
    // A backup has it, as ever.
    place.run(&["backup"], 0);
    assert!(
        stored(&place) - before > 39 << 20,
        "the large file was forgotten"
    );
}

#[test]
fn a_large_file_that_an_undo_removes_is_saved_by_it() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    let large = noise(40 << 20);
    std::fs::write(place.path("home/large"), &large).unwrap();
    guard(&place, "cp ../home/large big.bin");
    place.run(&["undo", "--yes"], 0);
    assert!(!place.tree().join("big.bin").exists());
    place.run(&["redo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("big.bin")).unwrap(), large);
}

#[test]
fn an_undo_of_a_commit_says_where_the_branch_goes() {
    let place = Place::with_repository();
    place.write("a", b"1");
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args([
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@e",
            "-c",
            "init.defaultBranch=main",
        ]);
        let done = git.args(args).current_dir(place.tree()).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done).trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    place.init();
    let first = git(&["rev-parse", "HEAD"]);
    place.write("a", b"2");
    guard(
        &place,
        "git -c user.name=n -c user.email=e@e commit -q -a -m two; git branch extra",
    );
    let second = git(&["rev-parse", "HEAD"]);
    let said = stdout(&place.run(&["undo", "--dry-run"], 0));
    let moved = format!("main {} -> {}", &second[..7], &first[..7]);
    assert!(said.replace('→', "->").contains(&moved), "{said}");
    assert!(
        said.contains(&format!("extra {} deleted", &second[..7])),
        "{said}"
    );
    assert!(said.contains("files in .git"), "{said}");
    assert!(
        !said.contains("refs/heads") && !said.contains("objects"),
        "{said}"
    );
    let said = stdout(&place.run(&["undo", "--dry-run", "--files"], 0));
    assert!(said.contains(".git/refs/heads/main"), "{said}");
    place.run(&["undo", "--yes"], 0);
    assert_eq!(git(&["rev-parse", "HEAD"]), first);
}

#[test]
fn what_is_undone_can_be_chosen_from_lists() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.write("b", b"1");
    place.write("c", b"1");
    place.init();
    guard(&place, "rm a b");
    guard(&place, "rm c");
    let mut terminal = Terminal::start(&place, &["bdr", "undo", "-i"]);
    terminal.expect("Which operation");
    // The second: one down.
    terminal.type_in("j\r");
    terminal.expect("What of it");
    // Without the first.
    terminal.type_in(" \r");
    terminal.expect("1 of 2 files");
    terminal.expect("Undo this?");
    terminal.type_in("y\n");
    terminal.expect("Done in");
    assert!(!place.tree().join("a").exists() && place.tree().join("b").exists());
    assert!(!place.tree().join("c").exists());
    // Where nobody can choose, nothing is chosen.
    place.run(&["undo", "-i"], 2);
}

/// A directory that is no work tree of anything, beside the one that things happen in.
fn beside(place: &Place) -> std::path::PathBuf {
    let dir = place.path("beside");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn what_was_done_elsewhere_is_shown_and_asked_about() {
    let place = Place::with_repository();
    place.write("sub/a", b"1");
    place.init();
    let own = guard(&place, "rm sub/a");
    let dir = beside(&place);
    let mut terminal = Terminal::start_in(&place, &dir, &["bdr", "undo"]);
    let said = terminal.expect("Undo that one?");
    assert!(said.contains("Nothing to undo in "), "{said}");
    assert!(said.contains("sub/a"), "{said}");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    // Nobody to ask: the command that means it is named. `--yes` is no answer to that.
    for args in [&["undo"][..], &["undo", "--yes"]] {
        let output = place.bdr(args).current_dir(&dir).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("bdr undo {own} --yes")), "{said}");
    }
    assert!(!place.tree().join("sub/a").exists());
    let plan = place
        .bdr(&["--json", "undo", "--dry-run"])
        .current_dir(&dir)
        .output();
    let plan: serde_json::Value = serde_json::from_slice(&plan.unwrap().stdout).unwrap();
    assert_eq!(plan["data"]["here"], false, "{plan}");
    assert_eq!(
        plan["data"]["command"],
        format!("bdr undo {own} --yes"),
        "{plan}"
    );
}

#[test]
fn an_operation_is_of_the_place_that_it_changed_and_not_of_all_below_where_it_ran() {
    let place = Place::with_repository();
    place.write("one/a", b"1");
    place.write("two/b", b"1");
    place.init();
    guard(&place, "rm one/a");
    let (one, two) = (place.tree().join("one"), place.tree().join("two"));
    let undo = |dir: &std::path::Path| {
        let output = place.bdr(&["undo", "--yes"]).current_dir(dir).output();
        output.unwrap().status.code()
    };
    assert_eq!(undo(&two), Some(1), "it only ran above");
    assert!(!one.join("a").exists());
    assert_eq!(undo(&one), Some(0), "it worked here");
    assert!(one.join("a").exists());
}

#[test]
fn a_change_of_the_set_up_is_asked_about() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    let own = guard(&place, "rm a");
    let profile = place.path("home/.bashrc");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    std::fs::write(&profile, "# mine\n").unwrap();
    let installed = place
        .bdr(&["hooks", "install", "bash"])
        .env("HOME", place.path("home"))
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", all(&installed));
    let mut terminal = Terminal::start(&place, &["bdr", "undo"]);
    let said = terminal.expect("Undo bdr's own set-up?");
    assert!(said.contains(&format!("bdr undo {own}")), "{said}");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    assert_ne!(std::fs::read(&profile).unwrap(), b"# mine\n");
    let plan = place.json(&["undo", "--dry-run"]);
    assert_eq!(plan["set_up"], true, "{plan}");
}

#[test]
fn several_old_operations_are_asked_about_once() {
    let place = Place::with_repository().watched();
    place.write("a", b"1");
    place.write("b", b"1");
    place.init_at("2026-11-22T10:00:00Z");
    place.run_at("2026-11-22T10:00:00Z", &["guard", "--", "rm", "a"], 0);
    place.run_at("2026-11-22T10:01:00Z", &["guard", "--", "rm", "b"], 0);
    let line = [
        "env",
        "BDR_TEST_NOW=2026-11-22T13:00:00Z",
        "bdr",
        "undo",
        "--since",
        "4h",
    ];
    let mut terminal = Terminal::start(&place, &line);
    let said = terminal.expect("Undo 2 operations?");
    assert!(
        said.contains("restore  a") && said.contains("restore  b"),
        "{said}"
    );
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    assert!(!place.tree().join("a").exists() && !place.tree().join("b").exists());
    let mut terminal = Terminal::start(&place, &line);
    terminal.expect("Undo 2 operations?");
    terminal.type_in("y\n");
    terminal.expect("Done in");
    let said = terminal.expect("Done in");
    assert!(!said.contains("restore"), "shown twice: {said}");
    assert!(place.tree().join("a").exists() && place.tree().join("b").exists());
}

#[test]
fn yesterday_begins_at_midnight() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init_at("2026-11-21T00:00:00Z");
    place.run_at("2026-11-21T00:20:00Z", &["guard", "--", "rm", "a"], 0);
    let since = ["undo", "--since", "yesterday", "--dry-run"];
    let plan = stdout(&place.run_at("2026-11-22T23:00:00Z", &since, 0));
    assert!(plan.contains("restore  a"), "{plan}");
    place.run_at("2026-11-23T00:10:00Z", &since, 1);
}

#[test]
fn what_cannot_come_back_is_said_first() {
    let place = Place::with_repository().watched();
    place.write("a", b"1");
    // What it does to the large file cannot be known before.
    place.write("s.sh", b"rm a large");
    place.init();
    place.run(&["config", "set", "guard.max_bytes", "1M"], 0);
    place.write("large", &noise(2 << 20));
    place.run(&["guard", "--", "sh", "s.sh"], 0);
    let said = stdout(&place.run(&["undo", "--dry-run"], 0));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[1].contains("cannot be undone: large"), "{said}");
    assert!(said.contains("restore  a"), "{said}");
    let said = all(&place.run(&["undo", "--yes"], 3));
    assert!(
        said.contains("1 path cannot be undone in full: not captured (exit 3)"),
        "{said}"
    );
    assert!(place.tree().join("a").exists());
}

#[test]
fn a_second_try_at_a_conflict_leaves_nothing_more_behind() {
    let place = Place::with_repository();
    place.write("t", b"1");
    place.init();
    let own = guard(&place, "echo 2 > t");
    place.write("t", b"three");
    place.run(&["undo", "--yes"], 3);
    let said = all(&place.run(&["undo", &own, "--yes"], 3));
    assert!(said.contains("undone already"), "{said}");
    assert!(said.contains("--force t"), "{said}");
    assert_eq!(logged(&place).len(), 2);
    let names = || {
        let names = std::fs::read_dir(place.tree()).unwrap().flatten();
        names
            .filter(|entry| entry.file_name().to_string_lossy().contains(".bdr-"))
            .count()
    };
    assert_eq!(names(), 1);
    place.run(&["redo", "--yes"], 0);
    assert_eq!(names(), 0);
}

#[test]
fn yes_does_not_choose_an_operation_that_nobody_expects() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.write("b", b"1");
    place.init_at("2026-03-02T12:00:00Z");
    let line = ["guard", "--", "rm", "a"];
    place.run_at("2026-03-02T12:00:00Z", &line, 0);
    let own = short(&logged(&place)[0]);
    let exact = format!("bdr undo {own} --yes");
    // From this morning: refused, with the command that means it, also as JSON.
    let refused = |now: &str, args: &[&str]| {
        let said = all(&place.run_at(now, args, 3));
        assert!(said.contains(&exact), "{said}");
        assert!(!place.tree().join("a").exists());
    };
    refused("2026-03-02T15:00:00Z", &["undo", "--yes"]);
    refused("2026-03-02T15:00:00Z", &["undo"]);
    refused("2026-03-02T15:00:00Z", &["--json", "undo", "--yes"]);
    let words: Vec<&str> = exact.split(' ').skip(1).collect();
    place.run_at("2026-03-02T15:00:00Z", &words, 0);
    assert!(place.tree().join("a").exists());
    // What was just done is what `--yes` is for, and a range was chosen by whoever names it.
    place.run_at("2026-03-02T15:01:00Z", &["guard", "--", "rm", "b"], 0);
    place.run_at("2026-03-02T15:05:00Z", &["undo", "--yes"], 0);
    place.run_at("2026-03-02T15:06:00Z", &["guard", "--", "rm", "b"], 0);
    place.run_at("2026-03-02T18:00:00Z", &["undo", "--last", "1", "--yes"], 0);
    assert!(place.tree().join("b").exists());
}

#[test]
fn yes_does_not_take_back_the_set_up() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    let profile = place.path("home/.bashrc");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    std::fs::write(&profile, "# mine\n").unwrap();
    let home = place.path("home");
    let mut installed = place.bdr(&["hooks", "install", "bash", "--yes"]);
    assert!(installed.current_dir(&home).status().unwrap().success());
    let with = std::fs::read(&profile).unwrap();
    let mut undo = place.bdr(&["undo", "--yes"]);
    let output = undo.current_dir(&home).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let own = short(&logged(&place)[0]);
    let said = all(&output);
    assert!(said.contains(&format!("bdr undo {own} --yes")), "{said}");
    assert_eq!(std::fs::read(&profile).unwrap(), with);
}

#[test]
fn a_named_file_of_a_source_is_merged_and_no_change_of_others() {
    let place = Place::with_repository();
    place.write("home/settings.json", b"{\"projects\": {}}\n");
    place.write("shop/a", b"1");
    place.init();
    let shop = place.tree().join("shop");
    let settings = place.tree().join("home/settings.json");
    // The source that has the file is elsewhere; the line names the file.
    place.configure("");
    let config = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let home = place.tree().join("home");
    std::fs::write(
        &config,
        text.replace(&*place.tree().to_string_lossy(), &home.to_string_lossy()),
    )
    .unwrap();
    let line = format!(
        "echo '{{\"projects\": {{}}, \"added\": 1}}' > {}; rm a",
        settings.display()
    );
    let guard = place
        .bdr(&["guard", "--", "sh", "-c", &line])
        .current_dir(&shop)
        .status();
    assert!(guard.unwrap().success());
    std::fs::write(
        &settings,
        "{\"projects\": {\"x\": 1}, \"added\": 1, \"mine\": 2}\n",
    )
    .unwrap();
    let shown = place.bdr(&["show"]).current_dir(&shop).output().unwrap();
    let shown = all(&shown);
    assert_eq!(
        shown.matches("settings.json").count(),
        2,
        "once in the line, once changed: {shown}"
    );
    let output = place
        .bdr(&["undo", "--yes"])
        .current_dir(&shop)
        .output()
        .unwrap();
    let said = all(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("merge ") && !said.contains("meanwhile"),
        "{said}"
    );
    let now = std::fs::read_to_string(&settings).unwrap();
    assert_eq!(now, "{\"projects\": {\"x\": 1}, \"mine\": 2}\n");
}

#[test]
fn what_ran_in_another_project_is_asked_about_if_it_is_undone_there_too() {
    let place = Place::with_repository();
    place.write("shop/a", b"1");
    place.write("other/b", b"1");
    place.init();
    for project in ["shop", "other"] {
        let mut git = std::process::Command::new("git");
        git.args(["init", "-q"])
            .current_dir(place.tree().join(project));
        assert!(git.status().unwrap().success());
    }
    let (shop, other) = (place.tree().join("shop"), place.tree().join("other"));
    let line = "rm b; touch new; rm ../shop/a";
    let guard = place
        .bdr(&["guard", "--", "sh", "-c", line])
        .current_dir(&other)
        .status();
    assert!(guard.unwrap().success());
    let mut terminal = Terminal::start_in(&place, &shop, &["bdr", "undo"]);
    terminal.expect("and is undone there too. Undo it?");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    let output = place
        .bdr(&["undo", "--yes"])
        .current_dir(&shop)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(other.join("new").exists() && !other.join("b").exists());
    // Where it ran, it is what is meant.
    let done = place.bdr(&["undo", "--yes"]).current_dir(&other).status();
    assert!(done.unwrap().success());
    assert!(!other.join("new").exists() && other.join("b").exists());
    assert!(shop.join("a").exists());
}
