//! The operation log as a user meets it: summaries, `bdr log`, `bdr op`, what a plain undo and redo mean.

use std::process::Output;

use crate::support::cli::stderr;
use crate::support::{Place, assert_same, picture};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn guard(place: &Place, script: &str) -> Output {
    place.run(&["guard", "--", "sh", "-c", script], 0)
}

/// Ids of the operations, newest first.
fn ids(place: &Place) -> Vec<String> {
    let log = place.json(&["log", "-n", "0"]);
    let operations = log["operations"].as_array().unwrap();
    operations
        .iter()
        .map(|o| o["short"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_summary_says_what_was_lost_and_how_it_comes_back() {
    let place = Place::with_repository();
    for n in 0..3 {
        place.write(&format!("dir/{n}"), b"1234");
    }
    place.write("data.db", b"12");
    place.write("kept", b"1");
    place.init();
    let says = |args: &[&str], script: &str| {
        let mut all = vec!["guard"];
        all.extend_from_slice(args);
        all.extend_from_slice(&["--", "sh", "-c", script]);
        let output = place.run(&all, 0);
        assert_eq!(stdout(&output), "", "stdout is the command's");
        stderr(&output)
    };
    assert_eq!(
        says(&[], "rm -r dir data.db; echo 2 > kept; echo > new"),
        "bdr: 4 files deleted (14 B), 1 file changed, 1 file created, 1 database · undo: bdr undo\n"
    );
    assert_eq!(says(&[], "echo > another"), "", "nothing was lost");
    assert_eq!(says(&["--summary", "never"], "rm kept"), "");
    assert_eq!(
        says(&["--summary", "always"], "echo > a-third"),
        "bdr: 1 file created · undo: bdr undo\n"
    );
    assert_eq!(
        says(
            &["--summary", "always"],
            "git branch no-repository 2>/dev/null; true"
        ),
        "bdr: nothing changed\n"
    );
    assert_eq!(
        says(&[], "git push --force >/dev/null 2>&1; rm new"),
        "bdr: 1 file deleted (1 B) · cannot be undone: git push --force · undo: bdr undo\n"
    );
    for args in [&["--summary", "json"][..], &["--json"]] {
        let said = says(args, "echo x >> another");
        assert_eq!(said.lines().count(), 1, "{said}");
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(document["schema"], "bdr.guard/1");
        let data = &document["data"];
        assert_eq!((&data["modified"], &data["exit"]), (&1.into(), &0.into()));
        assert_eq!(
            (&data["undo"], &data["remote"]),
            (&"bdr undo".into(), &serde_json::json!([]))
        );
    }
    // The configuration may say so too; what is typed wins.
    let config = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("# summary = \"auto\"", "summary = \"always\"");
    std::fs::write(&config, text).unwrap();
    assert_eq!(
        says(&[], "git branch no-repository 2>/dev/null; true"),
        "bdr: nothing changed\n"
    );
    assert_eq!(
        says(
            &["--summary", "auto"],
            "git branch no-repository 2>/dev/null; true"
        ),
        ""
    );
    place.run(&["guard", "--summary", "loud", "--", "rm", "another"], 125);
    assert!(place.tree().join("another").exists());
}

#[test]
fn the_summary_names_the_operation_when_another_began_since() {
    let place = Place::with_repository().watched();
    place.write("f", b"1");
    place.write("g", b"2");
    place.init();
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let inner = format!("env -u BDR_OP {bdr} guard --summary never -- rm g");
    let said = stderr(&guard(&place, &format!("rm f; {inner}")));
    let ids = ids(&place);
    assert_eq!(ids.len(), 2);
    assert!(
        said.ends_with(&format!("undo: bdr undo {}\n", ids[1])),
        "{said}"
    );
    place.run(&["undo", &ids[1], "--yes"], 0);
    assert!(place.tree().join("f").exists());
}

#[test]
fn the_log_is_a_line_per_operation_with_what_became_of_it() {
    let place = Place::with_repository().watched();
    let config = |servers: &str| format!("{{\"mcpServers\":{{{servers}}}}}");
    place.write(".claude.json", config("\"foo\":{},\"bar\":{}").as_bytes());
    place.write("small.json", config("\"bar\":{}").as_bytes());
    place.write("dir/a", b"1");
    place.init();
    guard(&place, "cat small.json > .claude.json");
    guard(&place, "rm -r dir; exit 0");
    place.run(&["undo", "--yes"], 0);
    // One that is killed with its command, and one that still runs.
    let mut lost = place.bdr(&["guard", "--", "sh", "-c", "echo > begun; kill -9 $PPID"]);
    lost.status().unwrap();
    let mut open = place.bdr(&[
        "guard",
        "--label",
        "wait",
        "--",
        "sh",
        "-c",
        "until rm stop 2>/dev/null; do sleep 0.05; done",
    ]);
    let mut open = open.spawn().unwrap();
    for _ in 0..400 {
        if ids(&place).len() == 5 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ids = ids(&place);
    let undone = &ids[3];
    let log = |locale: &str| {
        let output = place.bdr(&["log"]).env("LC_ALL", locale).output().unwrap();
        // Ids are random, and so is what they cost in columns.
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        stdout(&output).lines().map(squeeze).collect::<Vec<_>>()
    };
    let lines = log("C.UTF-8");
    let expected = [
        format!(
            "@ {} just now wait: sh -c 'until rm stop 2>/dev/null; do sleep 0.05; done' running",
            ids[0]
        ),
        format!(
            "│ {} just now sh -c 'echo > begun; kill -9 $PPID' interrupted",
            ids[1]
        ),
        format!("│ {} just now undo {undone} +1", ids[2]),
        format!("│ {undone} just now sh -c 'rm -r dir; exit 0' −1 undone"),
        format!(
            "│ {} just now sh -c 'cat small.json > .claude.json' ~1 {}/.claude.json: −mcpServers.foo",
            ids[4],
            place.tree().display()
        ),
    ];
    assert_eq!(lines, expected);
    let ascii = log("C");
    assert!(ascii.iter().all(|line| line.is_ascii()), "{ascii:?}");
    assert!(
        ascii[3].starts_with("| ") && ascii[3].contains(" -1 "),
        "{ascii:?}"
    );
    let states: Vec<_> = place.json(&["log"])["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        states,
        ["running", "interrupted", "finished", "finished", "finished"]
    );
    place.write("stop", b"");
    open.wait().unwrap();
    // By path: what changed it, or something in it.
    let about = |path: &str| {
        let log = place.json(&["log", "--path", path]);
        let operations = log["operations"].as_array().unwrap();
        operations
            .iter()
            .map(|o| o["short"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // The one that never ended may have changed anything.
    assert_eq!(
        about("dir/a"),
        [&ids[1], &ids[2], &ids[3]].map(Clone::clone)
    );
    assert_eq!(about(".claude.json"), [&ids[1], &ids[4]].map(Clone::clone));
    assert_eq!(
        place.json(&["log", "-n", "1"])["operations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let shown = stdout(&place.run(&["log", "-n", "1"], 0));
    assert!(shown.contains("and 4 older"), "{shown}");
}

#[test]
fn a_pin_keeps_an_operation_and_forget_takes_it_out_of_the_log() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    guard(&place, "echo 2 > f");
    guard(&place, "echo 3 > f");
    let id = ids(&place)[1].clone();
    place.run(&["op", "pin", &id], 0);
    place.run(&["op", "pin", &id], 0);
    let pinned = || {
        let log = place.json(&["log"]);
        log["operations"][1]["pinned"].clone()
    };
    assert_eq!(pinned(), true);
    assert!(stdout(&place.run(&["log"], 0)).contains("pinned"));
    let refused = place.run(&["op", "forget", "--yes", &id], 2);
    assert!(
        stderr(&refused).contains(&format!("bdr op unpin {id}")),
        "{}",
        stderr(&refused)
    );
    place.run(&["verify"], 0);
    place.run(&["op", "unpin", &id], 0);
    assert_eq!(pinned(), false);
    // Not without a word, and not by a dry run.
    let snapshots = || place.json(&["list"])["snapshots"].as_array().unwrap().len();
    let before = snapshots();
    place.run(&["op", "forget", &id], 3);
    place.run(&["op", "forget", "--dry-run", &id], 0);
    assert_eq!(ids(&place).len(), 2);
    let forgotten = place.json(&["op", "forget", "--yes", &id]);
    assert_eq!(forgotten["forgotten"], true);
    assert_eq!(ids(&place).len(), 1);
    assert_eq!(snapshots(), before, "a snapshot went with it");
    place.run(&["op", "forget", "--yes", "zzzz"], 1);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"2\n");
    place.run(&["verify"], 0);
}

#[test]
fn an_undo_is_not_forgotten_while_what_it_reversed_is_in_the_log() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    guard(&place, "echo 2 > f");
    place.run(&["undo", "--yes"], 0);
    let ids_before = ids(&place);
    let refused = place.run(&["op", "forget", "--yes", &ids_before[0]], 2);
    assert!(
        stderr(&refused).contains("reverses"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(ids(&place).len(), 2);
    // Both together, however they are named.
    place.run(
        &["op", "forget", "--yes", &ids_before[0], &ids_before[1]],
        0,
    );
    assert_eq!(ids(&place), Vec::<String>::new());
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"1");
}

#[test]
fn forgetting_that_is_cut_off_leaves_the_operation_whole_or_gone() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    let mut cut = 0;
    for step in 1.. {
        place.write("f", b"1");
        guard(&place, "echo 2 > f");
        place.write("later", b"of somebody else");
        let count = ids(&place).len();
        let id = ids(&place)[0].clone();
        let output = place
            .bdr(&["op", "forget", "--yes", &id])
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        let log = place.json(&["log"]);
        let there = log["operations"].as_array().unwrap();
        let still = there.iter().find(|o| o["short"] == id.as_str());
        if let Some(operation) = still {
            assert_eq!(
                operation["finished"], true,
                "cut at {step}: half of it is left"
            );
            assert_eq!(there.len(), count);
            place.run(&["op", "forget", "--yes", &id], 0);
        }
        place.run(&["verify"], 0);
        if output.status.success() {
            break;
        }
        cut += 1;
    }
    assert!(cut >= 2, "only {cut} steps were cut");
    let left: Vec<_> = std::fs::read_dir(place.store().join("operations"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_redo_follows_an_undo_only() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    let read = || std::fs::read(place.tree().join("f")).unwrap();
    place.run(&["redo", "--yes"], 1);
    guard(&place, "echo 2 > f");
    place.run(&["redo", "--yes"], 1);
    guard(&place, "echo 3 > f");
    // Back step by step, and forth again.
    for expected in [&b"2\n"[..], b"1"] {
        place.run(&["undo", "--yes"], 0);
        assert_eq!(read(), expected);
    }
    place.run(&["undo", "--yes"], 1);
    for expected in [&b"2\n"[..], b"3\n"] {
        place.run(&["redo", "--yes"], 0);
        assert_eq!(read(), expected);
    }
    place.run(&["redo", "--yes"], 1);
    // Something new ends it.
    place.run(&["undo", "--yes"], 0);
    guard(&place, "echo 4 > f");
    place.run(&["redo", "--yes"], 1);
    assert_eq!(read(), b"4\n");
}

#[test]
fn a_plain_undo_is_about_the_workspace() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.write("sub/g", b"1");
    place.init();
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("h"), b"1").unwrap();
    let git = |dir: &std::path::Path| {
        let done = std::process::Command::new("git")
            .args(["init", "-q"])
            .current_dir(dir)
            .status();
        assert!(done.unwrap().success());
    };
    git(&place.tree());
    git(&elsewhere);
    guard(&place, "rm f");
    let mut there = place.bdr(&["guard", "--", "rm", "h"]);
    there.current_dir(&elsewhere).output().unwrap();
    // From a directory beside, in the same work tree.
    let mut undo = place.bdr(&["undo", "--yes"]);
    let output = undo.current_dir(place.tree().join("sub")).output().unwrap();
    assert!(place.tree().join("f").exists(), "{}", stderr(&output));
    assert!(!elsewhere.join("h").exists(), "another project was touched");
    // With nothing left here, the last elsewhere is offered, and said to be there.
    let plan = stdout(&place.run(&["undo", "--dry-run"], 0));
    assert!(
        plan.contains("The last operation elsewhere ran in"),
        "{plan}"
    );
    // Nobody is there to be asked, and `--yes` is no answer to that.
    for args in [&["undo"][..], &["undo", "--yes"]] {
        let said = stderr(&place.run(args, 1));
        assert!(
            said.contains("nothing to undo here") && said.contains("bdr undo "),
            "{said}"
        );
        assert!(!elsewhere.join("h").exists());
    }
    let id = ids(&place)[1].clone();
    place.run(&["undo", &id, "--yes"], 0);
    assert!(elsewhere.join("h").exists());
}

#[test]
fn what_is_undone_already_is_said_to_be() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    let before = picture(&place.tree());
    guard(&place, "echo 2 > f; echo > g");
    let id = ids(&place)[0].clone();
    place.run(&["undo", "--yes"], 0);
    let by = ids(&place)[0].clone();
    let again = place.run(&["undo", &id, "--yes"], 1);
    assert!(
        stderr(&again).contains(&format!("bdr redo {by}")),
        "{}",
        stderr(&again)
    );
    assert_eq!(ids(&place).len(), 2, "an undo of nothing was recorded");
    assert_same(&before, &picture(&place.tree()), "undone twice");
    place.run(&["redo", &by, "--yes"], 0);
    let again = place.run(&["redo", &by, "--yes"], 1);
    assert!(stderr(&again).contains("bdr undo"), "{}", stderr(&again));
    let unknown = place.run(&["undo", "zzzz9", "--yes"], 1);
    assert!(stderr(&unknown).contains("zzzz9"), "{}", stderr(&unknown));
}

#[test]
fn force_puts_back_what_changed_since_and_a_redo_brings_that_back() {
    let place = Place::with_repository();
    place.write("changed", b"first");
    place.write("deleted", b"first");
    place.init();
    guard(
        &place,
        "echo second > changed; rm deleted; mkdir new; echo made > new/made",
    );
    place.write("changed", b"third");
    place.write("deleted", b"made again");
    place.write("new/made", b"grown");
    place.write("new/mine", b"not of the operation");
    let id = ids(&place)[0].clone();
    let present = picture(&place.tree());
    place.run(&["undo", &id, "--force", "--yes"], 0);
    let read = |name: &str| std::fs::read(place.tree().join(name)).unwrap();
    assert_eq!(
        (read("changed"), read("deleted")),
        (b"first".to_vec(), b"first".to_vec())
    );
    assert!(!place.tree().join("new/made").exists());
    assert_eq!(read("new/mine"), b"not of the operation");
    place.run(&["redo", "--yes"], 0);
    assert_same(&present, &picture(&place.tree()), "redo");
}
