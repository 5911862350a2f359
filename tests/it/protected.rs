//! How an operation was protected: it is on record, and whoever wanted more hears why not.

use std::process::Command;

use crate::support::Place;
use crate::support::cli::stderr;

/// A guard where capture does not work, because there is no program to try it with.
fn without_rm(place: &Place, args: &[&str]) -> Command {
    let mut command = place.bdr(args);
    command.env("PATH", place.path("no-programs"));
    command.env("BDR_BACKGROUND", "0");
    command.env_remove("BDR_GUARD_CAPTURE");
    command
}

fn last(place: &Place) -> serde_json::Value {
    place.json(&["show"])
}

/// Returns false, and says so, where nothing can be captured.
fn captures(place: &Place) -> bool {
    let mut guard = place.bdr(&["guard", "--capture", "only", "--", "/bin/rm", "-f", "none"]);
    let output = guard.env("BDR_BACKGROUND", "0").output().unwrap();
    let said = stderr(&output);
    let refused = said.contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls cannot be captured on this machine: {said}");
    }
    !refused
}

#[test]
fn each_operation_records_how_it_was_protected() {
    let place = Place::with_repository();
    for name in ["a", "b", "c"] {
        place.write(name, name.as_bytes());
    }
    place.run(&["guard", "--capture", "off", "--", "/bin/rm", "a"], 0);
    let watched = serde_json::json!({"by": "watched", "because": null});
    assert_eq!(last(&place)["protection"], watched);
    let shown = place.run(&["show"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("\n  protected by a snapshot of the watched places\n"),
        "{shown}"
    );
    if captures(&place) {
        place.run(&["guard", "--capture", "auto", "--", "/bin/rm", "b"], 0);
        let captured = serde_json::json!({"by": "capture", "because": null});
        assert_eq!(last(&place)["protection"], captured);
        let shown = place.run(&["show"], 0);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            shown.contains("\n  protected by capture of each call, in all places\n"),
            "{shown}"
        );
    }
    // An undo saves the present by a snapshot of what it touches.
    place.run(&["undo", "--yes"], 0);
    assert_eq!(last(&place)["protection"], watched);
    let log = place.json(&["log"]);
    for operation in log["operations"].as_array().unwrap() {
        assert!(operation["protection"]["by"].is_string(), "{operation}");
    }
}

#[test]
fn a_snapshot_in_place_of_capture_is_explained_in_the_log_and_once_on_the_terminal() {
    let place = Place::with_repository();
    for name in ["a", "b", "c"] {
        place.write(name, name.as_bytes());
    }
    let guard = |file: &str| {
        let args = ["guard", "--capture", "auto", "--", "/bin/rm", file];
        let output = without_rm(&place, &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    let first = guard("a");
    let said = "a snapshot of the watched places protects it";
    assert_eq!(first.matches(said).count(), 1, "{first}");
    let second = guard("b");
    assert!(!second.contains(said), "said again: {second}");
    let operation = last(&place);
    assert_eq!(operation["protection"]["by"], "watched");
    let because = operation["protection"]["because"].as_str().unwrap();
    assert!(first.contains(because), "{because}: {first}");
    let shown = place.run(&["show"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&format!("(capture was not possible: {because})")),
        "{shown}"
    );
    // Nobody wanted it: nothing to explain.
    place.run(&["guard", "--capture", "off", "--", "/bin/rm", "c"], 0);
    assert!(last(&place)["protection"]["because"].is_null());
    place.run(&["undo", "--yes"], 0);
}

#[test]
fn doctor_says_which_mode_works_and_what_guards_are_set_to() {
    let place = Place::with_repository();
    place.init();
    let found = |command: &mut Command| {
        let output = command.output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = document["data"]["findings"].as_array().unwrap().clone();
        let mut findings = findings.into_iter();
        findings.find(|one| one["check"] == "capture").unwrap()
    };
    let works = captures(&place);
    for (set, health, says) in [
        ("off", "good", "off, and does not work here"),
        ("auto", "warning", "guards take a snapshot first"),
        ("only", "bad", "guards run nothing"),
    ] {
        place.run(&["config", "set", "guard.capture", set], 0);
        let finding = found(&mut without_rm(&place, &["--json", "doctor"]));
        assert_eq!(finding["health"], health, "{finding}");
        let message = finding["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        assert!(message.contains("no program `rm`"), "{message}");
        assert_eq!(finding["fix"].is_string(), health != "good", "{finding}");
        if works {
            let finding = found(&mut place.bdr(&["--json", "doctor"]));
            assert_eq!(finding["health"], "good", "{finding}");
            let message = finding["message"].as_str().unwrap();
            let is_off = message.contains("off, and works here");
            assert_eq!(is_off, set == "off", "{message}");
        }
    }
    let text = without_rm(&place, &["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("bdr config set guard.capture auto"), "{text}");
}
