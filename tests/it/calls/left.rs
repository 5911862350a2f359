//! What a captured command leaves running goes on being captured.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::faults::{as_nobody, given_to_nobody, is_root, skipped, works};
use super::{Pictures, assert_same, captured, guard, pictures, undone, usable, waiting, world};
use crate::support::Place;
use crate::support::cli::stderr;

/// A shell that a command leaves running. It does what this test tells it, line by line.
struct Server {
    lines: File,
    said: BufReader<File>,
    start: String,
}

impl Server {
    fn new(place: &Place) -> Self {
        let script = place.path("server");
        let text = "while read -r line; do eval \"$line\"; echo done >&3; done\n";
        std::fs::write(&script, text).unwrap();
        let [lines, said] = ["lines", "said"].map(|name| {
            let fifo = place.path(name);
            let made = Command::new("mkfifo").arg(&fifo).status();
            assert!(made.unwrap().success());
            let mut both = std::fs::OpenOptions::new();
            both.read(true).write(true).open(&fifo).unwrap()
        });
        let start = format!(
            "sh {} < {} > /dev/null 2>&1 3> {} &",
            script.display(),
            place.path("lines").display(),
            place.path("said").display()
        );
        Self {
            lines,
            said: BufReader::new(said),
            start,
        }
    }

    /// Returns once it has done it.
    fn run(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
        let mut said = String::new();
        self.said.read_line(&mut said).unwrap();
        assert_eq!(said, "done\n");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = writeln!(self.lines, "exit");
    }
}

fn operations(place: &Place) -> Vec<Value> {
    let log = place.json(&["log", "-n", "0"]);
    log["operations"].as_array().unwrap().clone()
}

fn id(operation: &Value) -> &str {
    operation["id"].as_str().unwrap()
}

#[track_caller]
fn assert_all_same(before: &Pictures, after: &Pictures, what: &str) {
    for (before, after) in before.iter().zip(after) {
        assert_same(before, after, what);
    }
}

/// Returns the process that answers for what an operation left running.
fn answering(operation: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut numbers = numbers.filter(|number| {
        let words = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.contains(&&b"--answer"[..]) && words.contains(&operation.as_bytes())
    });
    numbers.next()
}

/// Returns the words after `bdr undo` in the line about what still runs.
fn told_undo(said: &str) -> String {
    let mut lines = said.lines();
    let line = lines.find(|line| line.contains("still running: `sh`"));
    let line = line.unwrap_or_else(|| panic!("nothing still runs: {said}"));
    let (_, id) = line.split_once("bdr undo ").unwrap();
    id.trim().to_owned()
}

#[test]
fn what_a_command_leaves_running_is_undone_by_itself_and_with_it() {
    for whole in [false, true] {
        let place = world();
        if !usable(&place) {
            return;
        }
        let before = pictures(&place);
        let mut server = Server::new(&place);
        // It ends, although the server has not, and so does all that it was given.
        let output = captured(&place, &format!("rm d/b; {}", server.start));
        assert!(output.status.success());
        let told = told_undo(&stderr(&output));
        let between = pictures(&place);
        server.run("rm a; echo late > late; chmod 600 mode; rm -r d/e");
        server.run("echo more >> late; echo x > \"$HOME/notes/one\"");
        // Whoever looks does not wait until the server has ended.
        let all = operations(&place);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0]["session"], all[1]["id"]);
        assert_eq!(all[0]["argv"], all[1]["argv"]);
        if !whole {
            place.run(&["undo", id(&all[0]), "--yes"], 0);
            assert_all_same(&between, &pictures(&place), "what it did later");
        }
        place.run(&["undo", &told, "--yes"], 0);
        assert_all_same(&before, &pictures(&place), "all");
        // It was told of neither undo, and goes on.
        server.run("echo still there > late");
        place.run(&["undo", "--yes"], 0);
        assert_all_same(&before, &pictures(&place), "once more");
        place.run(&["verify"], 0);
    }
}

#[test]
fn a_plain_undo_takes_a_command_with_what_it_left_running_and_newer_commands_first() {
    for undo in [&["undo", "--yes"][..], &["undo", "--last", "1", "--yes"]] {
        let place = world();
        if !usable(&place) {
            return;
        }
        let before = pictures(&place);
        let mut server = Server::new(&place);
        captured(&place, &format!("rm d/b; {}", server.start));
        server.run("rm a; echo late > late");
        // Whoever looks has it recorded.
        assert_eq!(operations(&place).len(), 2);
        captured(&place, "echo own > own");
        // Done after the newer command, and still the work of the older one.
        server.run("chmod 600 mode");
        assert_eq!(operations(&place).len(), 4);
        place.run(undo, 0);
        assert!(!place.tree().join("own").exists(), "{undo:?}");
        assert!(!place.tree().join("a").exists(), "{undo:?}");
        place.run(undo, 0);
        assert_all_same(&before, &pictures(&place), "the older one");
        place.run(&["redo", "--yes"], 0);
        let mode = std::fs::metadata(place.tree().join("mode")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        place.run(undo, 0);
        assert_all_same(&before, &pictures(&place), "once more");
    }
}

#[test]
fn the_last_process_ends_the_last_operation() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut server = Server::new(&place);
    captured(&place, &server.start);
    let first = id(&operations(&place)[0]).to_owned();
    let answering = answering(&first).unwrap();
    server.run("rm -r d; echo late > late");
    drop(server);
    // Nobody asks: it records what there is before it ends itself.
    while std::path::Path::new(&format!("/proc/{answering}")).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let journals = walkdir::WalkDir::new(place.path("bdr")).into_iter();
    let journals = journals.filter_map(Result::ok);
    let captures: Vec<_> = journals
        .filter(|entry| {
            entry
                .path()
                .parent()
                .is_some_and(|dir| dir.ends_with("captures"))
        })
        .collect();
    assert!(captures.is_empty(), "{captures:?}");
    place.run(&["undo", "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "late");
}

#[test]
fn who_answers_for_what_is_left_holds_nothing_of_the_user() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let server = Server::new(&place);
    std::fs::write(place.path("lock"), "").unwrap();
    // A pipe and a lock that the shell gives to bdr, and the server does not have. If they stayed
    // open, this would not return.
    let line = format!("exec 4>&- 9>&-; {}", server.start);
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let shell = format!(
        "exec 4>&1 9> {lock}; flock 9; {bdr} guard --capture only -- sh -c '{line}'; exec 9>&-; flock -w 20 {lock} true",
        lock = place.path("lock").display(),
    );
    let mut command = Command::new("sh");
    let from = guard(&place, &["true"]);
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command
        .args(["-c", &shell])
        .current_dir(place.tree())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let first = id(&operations(&place)[0]).to_owned();
    let answering = answering(&first).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{answering}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    assert_eq!(fields[2], answering.to_string(), "its own group");
    assert_eq!(fields[3], answering.to_string(), "its own session");
    assert_eq!(fields[4], "0", "no terminal");
    let cwd = std::fs::read_link(format!("/proc/{answering}/cwd")).unwrap();
    assert_eq!(cwd, PathBuf::from("/"));
    drop(server);
}

#[test]
fn what_is_left_after_who_answers_was_killed_destroys_nothing_and_nothing_is_lost() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut server = Server::new(&place);
    captured(&place, &format!("rm d/b; {}", server.start));
    let first = id(&operations(&place)[0]).to_owned();
    server.run("rm a; echo late > late");
    let pid = answering(&first).unwrap().cast_signed();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while answering(&first).is_some() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.run("rm mode");
    let log = place.run(&["log"], 0);
    let said = stderr(&log);
    assert!(said.contains("an interrupted guard had captured"), "{said}");
    place.run(&["undo", &first, "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "killed");
    place.run(&["verify"], 0);
}

#[test]
fn a_server_that_goes_on_and_on_holds_no_more_each_time() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut server = Server::new(&place);
    captured(&place, &server.start);
    let first = id(&operations(&place)[0]).to_owned();
    let answering = answering(&first).unwrap();
    let open = || {
        let open = std::fs::read_dir(format!("/proc/{answering}/fd")).unwrap();
        open.count()
    };
    let mut counts = Vec::new();
    for round in 0..30 {
        server.run(&format!(
            "echo {round} > a; rm -f d/b; echo {round} > d/b; touch mode"
        ));
        // Only temporary files: that is no operation.
        server.run("echo x > t; rm t");
        assert_eq!(operations(&place).len(), 2 + round);
        counts.push(open());
    }
    assert!(counts[29] <= counts[3] + 2, "{counts:?}");
    place.run(&["undo", &first, "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "all rounds");
}

#[test]
fn bdr_in_what_is_left_works_as_in_the_command() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let before = pictures(&place);
    let mut server = Server::new(&place);
    captured(&place, &server.start);
    // A guard leaves the work to who captures it. Starting bdr has everything before it recorded.
    server.run(&format!(
        "{bdr} guard --capture off -- rm a; {bdr} guard -- rm -r d"
    ));
    let all = operations(&place);
    assert_eq!(all.len(), 3, "{all:#?}");
    let first = id(&all[2]);
    for later in &all[..2] {
        assert_eq!(later["session"], first, "{later:#?}");
        assert_eq!(later["protection"]["by"], "capture", "{later:#?}");
    }
    // What was just done is recorded before bdr looks.
    server.run(&format!("rm mode; {bdr} undo --yes"));
    assert!(place.tree().join("mode").exists());
    server.run(&format!("{bdr} undo {first} --yes"));
    assert_all_same(&before, &pictures(&place), "undone from inside");
}

#[test]
fn what_a_session_leaves_running_is_a_part_of_it() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut server = Server::new(&place);
    let mut session = place.bdr(&["guard", "--session", "--", "bash", "-s"]);
    session.env("BDR_BACKGROUND", "0").env("TZ", "UTC");
    session
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut session = session.spawn().unwrap();
    writeln!(session.stdin.as_mut().unwrap(), "rm a\n{}", server.start).unwrap();
    drop(session.stdin.take());
    let output: Output = session.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(said.contains("still running: `sh`"), "{said}");
    server.run("rm -r d; echo late > late");
    let all = operations(&place);
    let own = all.iter().find(|one| one["session"] == one["id"]).unwrap();
    assert_eq!(all[0]["session"], own["id"], "{all:#?}");
    assert_eq!(all[0]["argv"][0], "rm", "{all:#?}");
    place.run(&["undo", id(own), "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "the session");
}

#[test]
fn what_an_ordinary_user_leaves_running_is_captured() {
    if !is_root() || !works("setpriv", &["--reuid", "65534", "true"]) {
        return skipped("what an ordinary user leaves running (needs root and setpriv)");
    }
    let place = world();
    given_to_nobody(&place);
    let mut server = Server::new(&place);
    let given = Command::new("chown")
        .arg("65534:65534")
        .args([place.path("lines"), place.path("said")])
        .status();
    assert!(given.unwrap().success());
    let before = pictures(&place);
    let line = format!("rm a; {}", server.start);
    let output = as_nobody(
        &place,
        &["guard", "--capture", "only", "--", "sh", "-c", &line],
    );
    if stderr(&output).contains("cannot be captured here") {
        return skipped(&stderr(&output));
    }
    let told = told_undo(&stderr(&output));
    server.run("rm -r d; echo late > late");
    let undo = as_nobody(&place, &["undo", &told, "--yes"]);
    assert_eq!(undo.status.code(), Some(0), "{}", stderr(&undo));
    // bdr's own files are in that home.
    assert_same(&before[0], &pictures(&place)[0], "as nobody");
}

#[test]
fn what_still_runs_is_in_the_log_and_no_undo_takes_the_one_before_it_instead() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let state = || -> Vec<(String, String)> {
        let log = place.run(&["log", "--json"], 0);
        let log: Value = serde_json::from_slice(&log.stdout).unwrap();
        let operations = log["data"]["operations"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        operations
            .map(|one| (text(&one["short"]), text(&one["state"])))
            .collect()
    };
    captured(&place, "echo earlier > a");
    let before = pictures(&place);
    let mut child = waiting(&place, "rm -r d; echo now; read x; rm mode");
    let listed = state();
    let [(id, running), (earlier, done)] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((running.as_str(), done.as_str()), ("running", "finished"));
    let shown = place.run(&["show", id], 0);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("running"));
    let now = pictures(&place);
    for line in [
        &["undo", "--yes"][..],
        &["undo", "--dry-run"],
        &["undo", "--last", "2", "--yes"],
        &["undo", "--since", "1h", "--yes"],
        &["undo", id, "--yes"],
    ] {
        let said = stderr(&place.run(line, 11));
        assert!(said.contains("still runs"), "{line:?}: {said}");
        assert_eq!(
            said.contains(&format!("bdr undo {earlier}")),
            line.len() < 3 || line[1].starts_with("--"),
            "{line:?}: {said}"
        );
        assert_eq!(now, pictures(&place), "{line:?}");
    }
    // Elsewhere it is nobody's last operation.
    let other = place.path("home/notes");
    let undo = place.bdr(&["undo", "--yes"]).current_dir(&other).output();
    assert!(!stderr(&undo.unwrap()).contains("still runs"));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    let listed = state();
    assert!(listed.iter().all(|(_, state)| state == "finished"));
    undone(&place, "when it has ended");
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, "when it has ended");
    }
}
