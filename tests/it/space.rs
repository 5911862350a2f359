//! What bdr takes is shown and can be given back, and a budget is one that a disk and a day can live with.

use serde_json::Value;

use crate::support::cli::{data_manned as data, run_manned as run, stderr};
use crate::support::{Place, noise};

#[test]
fn what_is_left_of_a_repository_that_is_gone_is_shown_and_given_back() {
    let place = Place::with_repository();
    place.write("noise", &noise(300_000));
    let source = format!("tree={}", place.tree().display());
    run(&place, &["init", "--yes", "--source", &source], 0);
    // Hard links take nothing while the repository is there.
    let storage = data(&place, &["status"], 0)["storage"].take();
    assert_eq!(storage["lifeboat_bytes"], 0, "{storage}");
    assert_eq!(storage["left_lifeboat_bytes"], 0, "{storage}");
    let said = run(&place, &["prune", "--lifeboats", "--yes"], 0);
    assert!(said.contains("Nothing is left"), "{said}");
    // Another repository takes its place, and it is deleted.
    let other = place.path("other").display().to_string();
    run(&place, &["config", "set", "repository", &other], 0);
    run(&place, &["init", "--yes"], 0);
    std::fs::remove_dir_all(place.store()).unwrap();
    let said = run(&place, &["status"], 0);
    assert!(
        said.contains("of repositories that are gone: bdr prune --lifeboats"),
        "{said}"
    );
    let left = data(&place, &["status"], 0)["storage"]["left_lifeboat_bytes"].take();
    assert!(left.as_u64().unwrap() > 300_000, "{left}");
    // Named first, and deleted only if somebody says so.
    let said = run(&place, &["prune", "--lifeboats"], 3);
    assert!(
        said.contains("all that is left of") && said.contains("--lifeboats --yes"),
        "{said}"
    );
    let planned = data(&place, &["prune", "--lifeboats", "--dry-run"], 0);
    assert_eq!(planned["bytes"], left);
    assert_eq!(planned["lifeboats"].as_array().unwrap().len(), 1);
    run(&place, &["prune", "--lifeboats", "--yes"], 0);
    let storage = data(&place, &["status"], 0)["storage"].take();
    assert_eq!(storage["left_lifeboat_bytes"], 0, "{storage}");
    // That of the repository in use is none of these: it still brings it back.
    std::fs::remove_dir_all(&other).unwrap();
    run(&place, &["list"], 0);
}

#[test]
fn a_trash_is_shown_with_the_command_that_empties_it() {
    let place = Place::with_repository();
    place.write("noise", &noise(300_000));
    place.init();
    let first = place.json(&["list"])["snapshots"][0]["id"].take();
    place.write("noise", b"small");
    place.run(&["backup", "--full"], 0);
    place.run(&["forget", first.as_str().unwrap(), "--yes"], 0);
    let said = String::from_utf8(place.run(&["status"], 0).stdout).unwrap();
    assert!(said.contains("free it now: bdr prune --now"), "{said}");
    assert!(place.json(&["status"])["storage"]["trash_bytes"].as_u64() > Some(100_000));
    place.run(&["prune", "--now", "--yes"], 0);
    assert_eq!(place.json(&["status"])["storage"]["trash_bytes"], 0);
}

#[test]
fn a_budget_follows_the_disk_unless_somebody_says() {
    let place = Place::with_repository();
    place.init();
    assert_eq!(
        place.json(&["config", "show"])["retention"]["max_size"],
        Value::Null
    );
    let storage = place.json(&["status"])["storage"].take();
    assert_eq!(storage["by_disk"], true);
    // A quarter of what is free where the tests run; at least what it was by default before.
    assert!(
        storage["max_bytes"].as_u64() >= Some(500_000_000),
        "{storage}"
    );
    place.run(&["config", "set", "retention.max_size", "20G"], 0);
    let storage = place.json(&["status"])["storage"].take();
    assert_eq!(storage["by_disk"], false);
    assert_eq!(storage["max_bytes"], 20_u64 << 30);
    place.run(&["config", "set", "retention.max_size", "auto"], 0);
    assert_eq!(place.json(&["status"])["storage"]["by_disk"], true);
}

#[test]
fn a_first_backup_over_the_budget_says_so_and_costs_no_history_of_the_day() {
    let place = Place::with_repository();
    place.write("noise", &noise(300_000));
    place.run(&["config", "set", "retention.max_size", "100K"], 0);
    let source = format!("tree={}", place.tree().display());
    let said = stderr(&place.run(&["init", "--yes", "--source", &source], 0));
    assert!(
        said.contains("little room for history. Raise it: bdr config set retention.max_size 1G"),
        "{said}"
    );
    place.write("doc", b"one");
    place.run(&["guard", "--", "sh", "-c", "rm doc"], 0);
    place.write("doc", b"two");
    place.run(&["guard", "--", "sh", "-c", "rm doc"], 0);
    place.run(&["backup"], 0);
    let before = place.json(&["list", "--all"])["snapshots"].take();
    let said = String::from_utf8(place.run(&["prune", "--yes"], 0).stdout).unwrap();
    assert!(
        said.contains("What must stay is larger than that"),
        "{said}"
    );
    let after = place.json(&["list", "--all"])["snapshots"].take();
    assert_eq!(
        before.as_array().unwrap().len(),
        after.as_array().unwrap().len()
    );
    assert!(before.as_array().unwrap().len() >= 4, "{before}");
}

#[test]
fn a_backup_beside_another_says_so() {
    let place = Place::with_repository();
    place.init();
    let state = place.path("bdr/state");
    let files = walkdir::WalkDir::new(&state).into_iter().flatten();
    let memory = files
        .map(walkdir::DirEntry::into_path)
        .find(|path| path.ends_with("memory.json"))
        .unwrap();
    let mut remembered: Value = serde_json::from_slice(&std::fs::read(&memory).unwrap()).unwrap();
    // One that runs: this test itself.
    remembered["running"] = serde_json::json!({"job": "backup", "pid": std::process::id()});
    std::fs::write(&memory, remembered.to_string()).unwrap();
    let said = stderr(&place.run(&["backup"], 0));
    let word = format!("Another backup is running (process {})", std::process::id());
    assert!(said.contains(&word), "{said}");
    // It is over, and nothing is said any more.
    let said = stderr(&place.run(&["backup"], 0));
    assert!(!said.contains("Another backup"), "{said}");
}
