//! Operations and kept content are bound to the key of this machine, as snapshots are: what somebody writes into the repository is taken back by no plain
//! undo, and gives no file another content.

use std::io::Write as _;
use std::path::PathBuf;

use bdr::base::id::Id;
use serde_json::{Value, json};

use crate::bound::{bound_record, key};
use crate::gates::{open_up, read_record, write_record};
use crate::support::Place;
use crate::support::cli::stderr;
use crate::support::mcp::{LEGACY, Mcp};

const NOTHING: i32 = 1;
const PARTIAL: i32 = 3;
const DAMAGED: i32 = 4;

/// A place in which an operation was recorded, and worked on since.
fn place() -> Place {
    // The snapshot before has what the command did not touch, too.
    let place = Place::with_repository().watched();
    place.write("notes.txt", b"as it was\n");
    place.write("old.txt", b"old\n");
    place.init();
    place.run(&["guard", "--", "rm", "old.txt"], 0);
    place.write("notes.txt", b"a week of work\n");
    place
}

fn names(place: &Place, dir: &str, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.store().join(dir)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| format!("{dir}/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(end))
        .collect();
    names.sort();
    names
}

fn remove(place: &Place, name: &str) {
    open_up(&place.store());
    std::fs::remove_file(place.store().join(name)).unwrap();
}

/// An operation that never was, and that seems to have been cut off: all that came since its snapshot would be taken back.
fn forge(place: &Place, edit: &dyn Fn(&mut Value)) -> String {
    let begin = names(place, "operations", ".begin.json").pop().unwrap();
    let mut record = read_record(&place.store().join(begin));
    // A second later than any there is.
    let own: Id = record["id"].as_str().unwrap().parse().unwrap();
    let id = Id::from_u128(own.to_u128() + (1 << 90)).to_string();
    record["id"] = json!(id);
    record["argv"] = json!(["make", "clean"]);
    edit(&mut record);
    write_record(place, &format!("operations/{id}.begin.json"), &record);
    id
}

fn notes(place: &Place) -> String {
    std::fs::read_to_string(place.tree().join("notes.txt")).unwrap()
}

#[test]
fn an_operation_that_this_machine_did_not_record_is_taken_back_only_by_name() {
    for key_of_others in [false, true] {
        let place = place();
        let id = forge(&place, &|record| {
            if key_of_others {
                record["bound"] = json!({"key": "00112233445566aa", "mac": "ab".repeat(32)});
            }
        });
        let log = place.json(&["log"]);
        let origin = if key_of_others {
            "elsewhere"
        } else {
            "unbound"
        };
        assert_eq!(log["operations"][0]["origin"], origin, "{log}");
        assert_eq!(log["operations"][1]["origin"], "here");
        // A plain undo takes back what this machine did.
        place.run(&["undo", "--yes"], 0);
        assert_eq!(notes(&place), "a week of work\n");
        assert!(place.tree().join("old.txt").exists());
        // And then nothing.
        for args in [
            &["undo", "--yes"][..],
            &["undo", "--yes", "--last", "5"],
            &["undo", "--yes", "--since", "1 hour ago"],
        ] {
            let said = stderr(&place.bdr(args).output().unwrap());
            assert_eq!(notes(&place), "a week of work\n", "{args:?}: {said}");
        }
        // Who names it is told, and without a word to the contrary not obeyed.
        let shown = place.run(&["undo", &id], 3);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            shown.contains("it was not recorded by this machine"),
            "{shown}"
        );
        assert_eq!(notes(&place), "a week of work\n");
        place.run(&["undo", &id, "--yes"], 0);
        assert_eq!(notes(&place), "as it was\n");
    }
}

#[test]
fn where_all_that_was_recorded_here_is_gone_nothing_else_takes_its_place() {
    let place = place();
    let id = forge(&place, &|_| {});
    for name in names(&place, "operations", ".json") {
        if !name.contains(&id) {
            remove(&place, &name);
        }
    }
    let said = stderr(&place.run(&["undo", "--yes"], NOTHING));
    assert!(said.contains("not recorded by this machine"), "{said}");
    assert_eq!(notes(&place), "a week of work\n");
}

#[test]
fn a_record_of_an_operation_that_was_altered_is_damage() {
    type Edit = Box<dyn Fn(&mut Value)>;
    let edits: [(&str, &str, Edit); 4] = [
        (
            "end",
            "removed",
            Box::new(|r| r["roots"][0]["removed"] = json!(["notes.txt"])),
        ),
        ("end", "unseen", Box::new(|r| r["roots"] = json!([]))),
        (
            "begin",
            "elsewhere",
            Box::new(|r| r["argv"] = json!(["ls"])),
        ),
        (
            "begin",
            "label",
            Box::new(|r| r["label"] = json!("spring cleaning")),
        ),
    ];
    for (part, what, edit) in edits {
        let place = place();
        let name = names(&place, "operations", &format!(".{part}.json")).pop();
        let name = name.unwrap();
        let mut record = bound_record(&place, &name);
        edit(&mut record);
        write_record(&place, &name, &record);
        let said = stderr(&place.run(&["undo", "--yes"], DAMAGED));
        assert!(said.contains("operation"), "{what}: {said}");
        assert_eq!(notes(&place), "a week of work\n", "{what}");
        let said = place.run(&["verify"], DAMAGED);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("forged or altered"), "{what}: {said}");
    }
}

#[test]
fn an_undo_that_never_was_hides_nothing_and_is_not_done_again() {
    let place = place();
    let own = names(&place, "operations", ".begin.json").pop().unwrap();
    let own = read_record(&place.store().join(own))["id"].take();
    let id = forge(&place, &|record| {
        record["kind"] = json!("undo");
        record["undoes"] = own.clone();
    });
    let end = names(&place, "operations", ".end.json").pop().unwrap();
    let mut end = read_record(&place.store().join(end));
    end["id"] = json!(id);
    write_record(&place, &format!("operations/{id}.end.json"), &end);
    assert_eq!(
        place.json(&["log"])["operations"][1]["undone_by"],
        json!(null)
    );
    place.run(&["redo", "--yes"], NOTHING);
    assert!(!place.tree().join("old.txt").exists());
    place.run(&["undo", "--yes"], 0);
    assert!(place.tree().join("old.txt").exists());
    assert_eq!(notes(&place), "a week of work\n");
}

#[test]
fn a_restore_that_never_was_is_not_resumed() {
    let place = place();
    let target = place.path("home/Documents");
    std::fs::create_dir_all(&target).unwrap();
    let snapshot = place.json(&["list"])["snapshots"][0]["id"].take();
    forge(&place, &|record| {
        record["kind"] = json!("restore");
        record["pid"] = json!(u32::MAX);
        record["restore"] =
            json!({"snapshot": snapshot, "target": target, "delete": true, "overwrite": "always"});
    });
    let said = stderr(&place.run(&["restore", "latest", "notes.txt", "--dry-run"], 0));
    assert!(!said.contains("--resume"), "{said}");
    for how in ["--resume", "--abort"] {
        place.run(&["restore", how, "--yes"], 2);
    }
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(notes(&place), "a week of work\n");
}

#[test]
fn a_checkpoint_that_this_machine_did_not_make_is_none_for_clients() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let id = forge(&place, &|record| {
        record["kind"] = json!("call");
        record["agent"] = json!({"host": "mcp", "session": "x", "call": "1", "tool": "checkpoint"});
    });
    client.fails("undo_changes", json!({}), "NOTHING_TO_DO");
    client.fails(
        "undo_changes",
        json!({"checkpointId": id}),
        "CHECKPOINT_EXPIRED",
    );
    assert_eq!(notes(&place), "a week of work\n");
}

/// A place with a large file that a guard kept, without its being packed.
fn place_with_kept() -> Place {
    let place = Place::with_repository();
    place.write("small", b"small\n");
    place.init();
    let mut file = std::fs::File::create(place.tree().join("big")).unwrap();
    for number in 0..33_u8 {
        file.write_all(&vec![number; 1 << 20]).unwrap();
    }
    drop(file);
    let mut command = place.bdr(&["guard", "--", "rm", "big"]);
    let output = command.env("BDR_BACKGROUND", "0").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    place
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut gzip = flate2::read::MultiGzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut gzip, &mut text).unwrap();
    text
}

#[test]
fn what_kept_content_turned_out_to_be_is_said_by_this_machine_alone() {
    let place = place_with_kept();
    place.run(&["settle"], 0);
    let name = names(&place, "kept", ".contents.json.gz").pop().unwrap();
    let path = place.store().join(&name);
    let mut file: Value = serde_json::from_slice(&gunzip(&std::fs::read(&path).unwrap())).unwrap();
    assert!(file["record"]["bound"].is_object(), "{file}");
    let small = bdr::base::id::Digest::of(b"small\n").to_hex();
    file["record"]["files"] = json!([small]);
    for bound in [
        file["record"]["bound"].clone(),
        json!({"key": "00112233445566aa", "mac": "ab".repeat(32)}),
        Value::Null,
    ] {
        let mut record = file["record"].clone();
        record.as_object_mut().unwrap().remove("bound");
        if !bound.is_null() {
            record["bound"] = bound.clone();
        }
        write_record(&place, "contents", &record);
        let framed = std::fs::read(place.store().join("contents")).unwrap();
        remove(&place, "contents");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&framed).unwrap();
        crate::gates::put(&place, &name, &gzip.finish().unwrap());
        let said = place.run(&["undo", "--yes"], PARTIAL);
        let said = String::from_utf8_lossy(&said.stdout).into_owned() + &stderr(&said);
        assert!(said.contains("forged"), "{bound}: {said}");
        assert!(!place.tree().join("big").exists(), "{bound}");
        let said = place.run(&["verify"], DAMAGED);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("forged"), "{bound}: {said}");
    }
}

#[test]
fn a_set_that_this_machine_made_is_described_by_nobody_else() {
    let place = place_with_kept();
    let name = names(&place, "kept", ".json").pop().unwrap();
    let whole = std::fs::read(place.store().join(&name)).unwrap();
    let mut record = read_record(&place.store().join(&name));
    // As if nobody had said when it was kept: whatever stands there would be certain.
    record["files"][0][1] = Value::Null;
    write_record(&place, &name, &record);
    let said = place.run(&["undo", "--yes"], PARTIAL);
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &stderr(&said);
    assert!(said.contains("forged"), "{said}");
    assert!(!place.tree().join("big").exists());
    crate::gates::put(&place, &name, &whole);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(place.tree().join("big").metadata().unwrap().len(), 33 << 20);
}

/// Staging areas of a set.
fn area(place: &Place) -> PathBuf {
    let name = names(place, "kept", ".json").pop().unwrap();
    let record = read_record(&place.store().join(name));
    PathBuf::from(record["area"].as_str().unwrap())
}

#[test]
fn what_another_machine_keeps_is_not_declared_lost_by_this_one() {
    let place = place_with_kept();
    // Here the key is another, and the area is not there.
    let (key, area) = (key(&place), area(&place));
    let own = std::fs::read(&key).unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    let away = place.path("away");
    std::fs::rename(&area, &away).unwrap();
    place.run(&["backup"], 0);
    place.run(&["settle"], 0);
    assert_eq!(names(&place, "kept", ".contents.json.gz").len(), 0);
    // There it is as it was.
    std::fs::write(&key, own).unwrap();
    std::fs::rename(&away, &area).unwrap();
    place.run(&["settle"], 0);
    let id = names(&place, "operations", ".begin.json").remove(0);
    let id = read_record(&place.store().join(id))["id"].take();
    place.run(&["undo", id.as_str().unwrap(), "--yes"], 0);
    assert_eq!(place.tree().join("big").metadata().unwrap().len(), 33 << 20);
}
