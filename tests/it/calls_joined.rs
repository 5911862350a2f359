//! bdr below a captured command: hooks leave the work to the guard that captures them.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::cli::stderr;
use crate::support::mcp::{MODERN, Mcp};

/// Runs a line of a shell under capture, with `$PROGRAM` for the program.
fn captured(place: &Place, line: &str) -> Output {
    let mut guard = place.bdr(&["guard", "--capture", "only", "--", "sh", "-c", line]);
    guard
        .env("PROGRAM", env!("CARGO_BIN_EXE_bdr"))
        .env("BDR_BACKGROUND", "0");
    guard.output().unwrap()
}

fn captures(place: &Place) -> bool {
    let said = stderr(&captured(place, "rm -f none"));
    let refused = said.contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls cannot be captured on this machine: {said}");
    }
    !refused
}

fn event(place: &Place, name: &str, call: &str) {
    let event = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": name,
        "tool_name": "Bash", "tool_use_id": call, "tool_input": {"command": "rm a"}});
    place.write(&format!("../{name}"), event.to_string().as_bytes());
}

fn operations(place: &Place) -> Vec<Value> {
    let log = place.json(&["log", "-n", "0"]);
    log["operations"].as_array().unwrap().clone()
}

fn snapshots(place: &Place) -> usize {
    let list = place.json(&["list"]);
    list["snapshots"].as_array().unwrap().len()
}

#[test]
fn hooks_below_a_captured_command_leave_the_work_to_its_guard() {
    let place = Place::with_repository();
    place.init();
    if !captures(&place) {
        return;
    }
    event(&place, "PreToolUse", "1");
    event(&place, "PostToolUse", "1");
    for (before, after) in [
        (
            "hook claude < ../PreToolUse",
            "hook claude < ../PostToolUse",
        ),
        (
            "hook shell before --shell bash --session 1 -- 'rm a'",
            "hook shell after --shell bash --session 1 --exit 0 -- 'rm a'",
        ),
        ("hook git pre-commit", "hook git post-rewrite"),
        ("hook git pre-rebase main", "hook git post-rewrite"),
    ] {
        place.write("a", b"precious");
        let (known, taken) = (operations(&place).len(), snapshots(&place));
        let line = format!("\"$PROGRAM\" {before}; rm a; \"$PROGRAM\" {after} </dev/null");
        let line = line.replace("PostToolUse </dev/null", "PostToolUse");
        let output = captured(&place, &line);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{before}: {}",
            stderr(&output)
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{before}");
        let all = operations(&place);
        assert_eq!(all.len(), known + 1, "{before}: {all:?}");
        assert_eq!(all[0]["protection"]["by"], "capture", "{before}");
        assert_eq!(snapshots(&place), taken + 1, "{before}");
        place.run(&["undo", "--yes"], 0);
        assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"precious");
    }
}

#[test]
fn what_only_has_the_environment_of_a_captured_command_is_protected_by_itself() {
    let place = Place::with_repository();
    place.init();
    if !captures(&place) {
        return;
    }
    place.write("a", b"precious");
    captured(&place, "echo $BDR_CAPTURED > ../id");
    let id = std::fs::read_to_string(place.path("id")).unwrap();
    assert_eq!(id.trim().len(), 26, "{id}");
    event(&place, "PreToolUse", "2");
    let known = operations(&place).len();
    let mut hook = place.bdr(&["hook", "claude"]);
    hook.env("BDR_CAPTURED", id.trim());
    hook.stdin(std::fs::File::open(place.path("PreToolUse")).unwrap());
    let output = hook.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all = operations(&place);
    assert_eq!(all.len(), known + 1);
    assert_eq!(all[0]["protection"]["by"], "watched");
}

#[test]
fn a_guard_below_a_captured_command_makes_no_operation_of_its_own() {
    let place = Place::with_repository();
    place.init();
    if !captures(&place) {
        return;
    }
    for options in [
        "",
        "--capture off",
        "--capture auto",
        "--label x --on-fail run",
    ] {
        place.write("a", b"precious");
        let (known, taken) = (operations(&place).len(), snapshots(&place));
        let line = format!(
            "\"$PROGRAM\" guard {options} -- rm a; \"$PROGRAM\" guard {options} -- sh -c 'exit 7'"
        );
        let output = captured(&place, &line);
        assert_eq!(
            output.status.code(),
            Some(7),
            "{options}: {}",
            stderr(&output)
        );
        assert_eq!(operations(&place).len(), known + 1, "{options}");
        assert_eq!(snapshots(&place), taken + 1, "{options}");
        place.run(&["undo", "--yes"], 0);
        assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"precious");
    }
}

#[test]
fn a_server_of_an_agent_in_a_captured_command_gives_its_own_way_back() {
    let place = Place::with_repository();
    place.init();
    if !captures(&place) {
        return;
    }
    place.write("a", b"precious");
    let mut server = place.bdr(&["guard", "--capture", "only", "--"]);
    server
        .arg(env!("CARGO_BIN_EXE_bdr"))
        .arg("mcp")
        .env("BDR_BACKGROUND", "0");
    let mut client = Mcp::run(server, MODERN, None);
    client.ok("checkpoint", json!({"label": "before"}));
    std::fs::remove_file(place.tree().join("a")).unwrap();
    client.ok("undo_changes", json!({}));
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"precious");
    let (status, said) = client.close();
    assert_eq!(status, Some(0), "{said}");
    let all = operations(&place);
    let kinds: Vec<&str> = all.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert!(
        kinds.contains(&"call") && kinds.contains(&"undo"),
        "{kinds:?}"
    );
    place.run(&["verify"], 0);
}
