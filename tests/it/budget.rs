//! What a guard stores is bounded, and one giant costs nobody else's history.

use crate::support::Place;
use crate::support::cli::stderr;

/// A source with a backup, a budget of 1 MiB for guards, and a new file of 3 MiB.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("small", b"small");
    place.write("other", b"other");
    place.init_at("2026-11-20T09:00:00Z");
    place.run(&["config", "set", "guard.max_bytes", "1M"], 0);
    // Nothing that compresses.
    let mut seed = 1_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    let big: Vec<u8> = (0..3 << 20).map(|_| noise()).collect();
    place.write("big.bin", &big);
    place
}

fn repository_bytes(place: &Place) -> u64 {
    place.json(&["list"])["repository_bytes"].as_u64().unwrap()
}

#[test]
fn a_giant_that_is_new_in_a_source_is_left_to_the_next_backup() {
    let place = place().watched();
    let before = repository_bytes(&place);
    place.run(&["guard", "--", "rm", "small"], 0);
    let grown = repository_bytes(&place) - before;
    assert!(grown < 1 << 20, "{grown}");
    let shown = place.json(&["show"]);
    let notes = shown["not_captured"].to_string();
    assert!(
        notes.contains("big.bin") && notes.contains("over the budget"),
        "{notes}"
    );
    // What it did is undone as always.
    place.run(&["undo", "--yes"], 0);
    assert!(place.tree().join("small").exists());
    place.run(&["backup"], 0);
    assert!(repository_bytes(&place) - before > 3 << 20);
    place.run(&["cat", "latest", "big.bin"], 0);
    // It is known now: nothing is left out.
    place.run(&["guard", "--", "rm", "other"], 0);
    let notes = place.json(&["show"])["not_captured"].to_string();
    assert!(!notes.contains("big.bin"), "{notes}");
}

#[test]
fn what_the_command_names_in_a_source_is_stored_however_large_it_is() {
    let place = place();
    let big = std::fs::read(place.tree().join("big.bin")).unwrap();
    place.run(&["guard", "--", "rm", "big.bin"], 0);
    assert_eq!(
        place.json(&["show"])["not_captured"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("big.bin")).unwrap(), big);
}

#[test]
fn prune_lets_the_giant_go_and_keeps_what_else_the_day_has() {
    let place = place().watched();
    place.run(&["config", "set", "retention.guard_bytes", "2M"], 0);
    let at = |minutes: u32, args: &[&str]| {
        let now = format!("2026-11-20T10:{minutes:02}:00Z");
        place.run_at(&now, args, 0)
    };
    let change = |minutes: u32, text: &str| {
        at(
            minutes,
            &["guard", "--", "sh", "-c", &format!("echo {text} > small")],
        );
    };
    change(0, "one");
    change(2, "two");
    at(4, &["guard", "--", "rm", "big.bin"]);
    change(6, "three");
    change(40, "four");
    let snapshots = || {
        let list = place.json(&["list", "--kind", "guard"]);
        list["snapshots"].as_array().unwrap().len()
    };
    let before = snapshots();
    assert!(before >= 5, "{before}");
    at(41, &["prune", "--yes"]);
    assert_eq!(snapshots(), before - 1);
    let log = place.json(&["log", "--grep", "big.bin"]);
    let giant = log["operations"][0]["short"].as_str().unwrap();
    let output = place.bdr(&["undo", giant, "--yes"]).output().unwrap();
    let said = stderr(&output);
    assert!(said.contains("`guard_bytes`"), "{said}");
    let log = place.json(&["log", "--grep", "two"]);
    let two = log["operations"][0]["short"].as_str().unwrap();
    place.run(&["undo", two, "--dry-run"], 0);
}
