//! Snapshots are bound to the key of this machine: what it made can be told from what somebody wrote into the repository, checksum and all.

use std::path::PathBuf;

use bdr::id::Digest;
use serde_json::{Value, json};

use crate::gates::{open_up, put, read_record, write_record};
use crate::support::Place;
use crate::support::cli::stderr;

const DAMAGED: i32 = 4;

fn place() -> Place {
    let place = Place::with_repository();
    place.write("notes.txt", b"as it was\n");
    place.init();
    place
}

/// Names of the records in the repository, oldest first.
fn records(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.store().join("snapshots")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| format!("snapshots/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    names
}

pub(crate) fn key(place: &Place) -> PathBuf {
    let vaults = std::fs::read_dir(place.path("bdr/state/vault")).unwrap();
    let vault = vaults.map(|entry| entry.unwrap().path()).next().unwrap();
    vault.join("snapshots.key")
}

/// The record as it stands, with what binds it.
pub(crate) fn bound_record(place: &Place, name: &str) -> Value {
    let bytes = std::fs::read(place.store().join(name)).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["record"].take()
}

fn origins(place: &Place) -> Vec<String> {
    let listed = place.json(&["list"]);
    let snapshots = listed["snapshots"].as_array().unwrap().clone();
    let origin = |snapshot: Value| snapshot["origin"].as_str().unwrap().to_owned();
    snapshots.into_iter().map(origin).collect()
}

#[test]
fn what_this_machine_made_is_told_by_list_and_verify() {
    let place = place();
    assert_eq!(origins(&place), ["here"]);
    let made = place.json(&["verify"])["made_here"].take();
    assert_eq!(made["key"], "here");
    assert_eq!(made["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(made["others"], json!([]));
    // Nothing to say where all are.
    let said = place.run(&["verify"], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.contains("machine"), "{said}");
    // The key is closed to others, and not in the repository.
    use std::os::unix::fs::PermissionsExt as _;
    let key = key(&place);
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read(&key).unwrap();
    for entry in walkdir::WalkDir::new(place.store()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(
                !bytes.windows(32).any(|w| w == secret),
                "{:?}",
                entry.path()
            );
        }
    }
}

/// Edits the newest record with the checksum that fits.
fn alter(place: &Place, edit: &dyn Fn(&mut Value)) -> String {
    let name = records(place).pop().unwrap();
    let mut record = bound_record(place, &name);
    edit(&mut record);
    write_record(place, &name, &record);
    name
}

#[test]
fn a_record_that_was_altered_is_damage_and_is_used_for_nothing() {
    type Edit = Box<dyn Fn(&mut Value)>;
    let edits: [(&str, Edit); 5] = [
        ("label", Box::new(|r| r["label"] = json!("quarterly"))),
        ("files", Box::new(|r| r["roots"][0]["changed"] = json!([]))),
        (
            "moment",
            Box::new(|r| r["time"] = json!("2026-01-01T00:00:00Z")),
        ),
        ("kind", Box::new(|r| r["trigger"] = json!("guard"))),
        (
            "digest",
            Box::new(|r| r["bound"]["mac"] = json!("0".repeat(64))),
        ),
    ];
    for (what, edit) in edits {
        let place = place();
        place.write("notes.txt", b"another day\n");
        place.run(&["backup"], 0);
        let name = alter(&place, &*edit);
        let said = place.run(&["verify"], DAMAGED);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.contains("forged or altered") && said.contains(&name),
            "{what}: {said}"
        );
        // A list that knew it before looks again.
        let listed = place.bdr(&["--json", "list"]).output().unwrap();
        assert_eq!(listed.status.code(), Some(DAMAGED), "{what}");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(
            listed["data"]["snapshots"].as_array().unwrap().len(),
            1,
            "{what}"
        );
        assert_eq!(
            listed["data"]["unreadable"][0]["name"],
            json!(name),
            "{what}"
        );
        // Neither asked for nor by itself.
        place.run(
            &["restore", "latest", "--target", "/nonexistent/x"],
            DAMAGED,
        );
        place.run(&["drill"], DAMAGED);
        let status = place.bdr(&["status", "--json"]).output().unwrap();
        assert_eq!(
            status.status.code(),
            Some(DAMAGED),
            "{what}: {}",
            stderr(&status)
        );
        // What it needs stays for whoever decides.
        let before = crate::support::picture(&place.store().join("packs"));
        place.bdr(&["prune", "--yes"]).output().unwrap();
        assert!(place.store().join(&name).exists(), "{what}");
        assert_eq!(
            before.len(),
            crate::support::picture(&place.store().join("packs")).len()
        );
        // The way out that `verify` shows.
        place.run(&["backup", "--full"], 0);
        let id = name
            .rsplit_once('-')
            .unwrap()
            .1
            .trim_end_matches(".json")
            .to_lowercase();
        place.run(&["forget", &id, "--yes"], 0);
        place.run(&["verify"], 0);
    }
}

#[test]
fn a_forged_record_under_the_name_of_this_machine_is_no_backup_of_it() {
    let place = place();
    let name = records(&place).pop().unwrap();
    // The whole record, as of a later moment: what binds it is for the old one.
    let mut forged = bound_record(&place, &name);
    let id = "01M8Z0000000000000000000AA";
    forged["id"] = json!(id);
    forged["seq"] = json!(2);
    write_record(&place, &format!("snapshots/0000000002-{id}.json"), &forged);
    let said = place.run(&["verify"], DAMAGED);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("forged or altered") && said.contains(id),
        "{said}"
    );
    // Bound by nobody: it is said to be not of this machine.
    forged.as_object_mut().unwrap().remove("bound");
    write_record(&place, &format!("snapshots/0000000002-{id}.json"), &forged);
    assert_eq!(origins(&place), ["here", "unbound"]);
    let said = place.run(&["verify"], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("1 of 2 snapshots") && said.contains("forged"),
        "{said}"
    );
    // Whoever restores it is told.
    let restore = |which: &str, to: &str| {
        let target = place.path(to);
        let args = ["restore", which, "--target", target.to_str().unwrap()];
        stderr(&place.run(&args, 0))
    };
    let said = restore("latest", "theirs");
    assert!(said.contains("not made by this machine"), "{said}");
    let said = restore("latest~1", "own");
    assert!(!said.contains("machine"), "{said}");
    // Bound by somebody else.
    forged["bound"] = json!({"key": "00112233445566aa", "mac": "ab".repeat(32)});
    write_record(&place, &format!("snapshots/0000000002-{id}.json"), &forged);
    assert_eq!(origins(&place), ["here", "elsewhere"]);
    let others = place.json(&["verify"])["made_here"]["others"].take();
    assert_eq!(others, json!([{"id": id, "origin": "elsewhere"}]));
}

#[test]
fn a_record_under_another_name_is_damage() {
    let place = place();
    let name = records(&place).pop().unwrap();
    let bytes = std::fs::read(place.store().join(&name)).unwrap();
    put(&place, &name.replace("0000000001", "0000000007"), &bytes);
    place.run(&["verify"], DAMAGED);
    place.run(&["drill"], DAMAGED);
}

#[test]
fn what_binds_a_record_can_stand_in_no_other_place() {
    let place = place();
    let name = records(&place).pop().unwrap();
    let bytes = std::fs::read_to_string(place.store().join(&name)).unwrap();
    let body = bytes.split_once("\"record\":").unwrap().1.trim_end();
    let body = &body[..body.len() - 1];
    let (head, bound) = body.rsplit_once(",\"bound\":").unwrap();
    let bound = bound.strip_suffix('}').unwrap();
    for body in [
        // First instead of last, with something after it, twice.
        format!("{{\"bound\":{bound},{}}}", &head[1..]),
        format!("{head},\"bound\":{bound},\"label\":\"x\"}}"),
        format!("{head},\"bound\":{bound},\"bound\":{bound}}}"),
    ] {
        let digest = Digest::of(body.as_bytes()).to_hex();
        let text = format!("{{\"sha256\":\"{digest}\",\"record\":{body}}}\n");
        put(&place, &name, text.as_bytes());
        place.run(&["verify"], DAMAGED);
    }
}

#[test]
fn without_its_key_a_machine_calls_nothing_forged() {
    let place = place();
    std::fs::remove_file(key(&place)).unwrap();
    assert_eq!(origins(&place), ["elsewhere"]);
    let said = place.run(&["verify"], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("the key was lost"), "{said}");
    assert_eq!(place.json(&["verify"])["made_here"]["key"], "none");
    assert!(!key(&place).exists(), "looking made a key");
    // It works on with a new one.
    place.write("more", b"more");
    place.run(&["backup"], 0);
    assert_eq!(origins(&place), ["elsewhere", "here"]);
    place.run(
        &[
            "restore",
            "latest~1",
            "--target",
            place.path("out").to_str().unwrap(),
        ],
        0,
    );
    place.run(&["drill"], 0);
}

#[test]
fn a_lost_key_leaves_older_backups_to_be_drilled() {
    let place = place();
    std::fs::remove_file(key(&place)).unwrap();
    // The first that the new key binds is no backup.
    place.run(&["guard", "--", "rm", "notes.txt"], 0);
    place.write("notes.txt", b"another");
    place.run(&["guard", "--", "rm", "notes.txt"], 0);
    assert!(origins(&place).contains(&"here".to_owned()));
    place.run(&["drill"], 0);
}

#[test]
fn a_key_that_others_could_have_written_is_not_used_and_that_is_said() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    std::fs::set_permissions(key(&place), std::fs::Permissions::from_mode(0o644)).unwrap();
    place.write("more", b"more");
    place.run(&["backup"], 0);
    let said = place.run(&["verify"], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("chmod 600"), "{said}");
    let made = place.json(&["verify"])["made_here"].take();
    assert_eq!(made["key"], "refused");
    std::fs::set_permissions(key(&place), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(origins(&place), ["here", "unbound"]);
}

#[test]
fn snapshots_from_before_they_were_bound_are_called_so() {
    let place = place();
    let name = records(&place).pop().unwrap();
    let old = read_record(&place.store().join(&name));
    write_record(&place, &name, &old);
    assert_eq!(origins(&place), ["before"]);
    place.write("more", b"more");
    place.run(&["backup"], 0);
    assert_eq!(origins(&place), ["before", "here"]);
    let said = place.run(&["verify"], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("from before snapshots were bound"), "{said}");
    place.run(&["drill"], 0);
}

#[test]
fn the_key_comes_back_from_the_lifeboat() {
    let place = place();
    let lifeboat = place.path("boat");
    let with = |args: &[&str]| {
        let mut command = place.bdr(args);
        command.env("BDR_LIFEBOAT", &lifeboat);
        command
    };
    std::fs::remove_file(key(&place)).unwrap();
    place.write("more", b"more");
    assert!(with(&["backup"]).status().unwrap().success());
    std::fs::remove_file(key(&place)).unwrap();
    let listed = with(&["--json", "list"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["data"]["snapshots"][1]["origin"], "here");
    // And a record that was replaced comes back as it was.
    let name = alter(&place, &|record| record["label"] = json!("x"));
    open_up(&place.store());
    assert!(with(&["verify"]).status().unwrap().success());
    assert!(bound_record(&place, &name).get("label").is_none());
}

#[test]
fn what_others_write_takes_no_place_of_what_this_machine_made() {
    let place = Place::with_repository();
    place.write("notes.txt", b"as it was\n");
    place.init_at("2026-01-01T12:00:00Z");
    for day in 2..6 {
        place.write("notes.txt", format!("day {day}").as_bytes());
        place.run_at(
            &format!("2026-01-{day:02}T12:00:00Z"),
            &["backup", "--full"],
            0,
        );
    }
    let own = records(&place);
    let template = read_record(&place.store().join(own.last().unwrap()));
    for number in 0..60 {
        let mut forged = template.clone();
        let id = format!("01M8Z00000000000000000{number:04}");
        let (month, day) = (1 + (6 + number) / 28, 1 + (6 + number) % 28);
        forged["id"] = json!(id);
        forged["seq"] = json!(100 + number);
        forged["time"] = json!(format!("2026-{month:02}-{day:02}T13:00:00Z"));
        if number % 2 == 0 {
            forged["bound"] = json!({"key": "00112233445566aa", "mac": "ab".repeat(32)});
        }
        write_record(
            &place,
            &format!("snapshots/{:010}-{id}.json", 100 + number),
            &forged,
        );
    }
    let now = "2026-03-20T12:00:00Z";
    // They would have filled every slot of days and weeks.
    place.run_at(now, &["prune", "--yes"], 0);
    let left = records(&place);
    for name in &own[1..] {
        assert!(left.contains(name), "{name} is gone: {left:?}");
    }
    assert!(left.len() < 60, "{}", left.len());
    // The drill tries what this machine made.
    let drilled = place.json_at(now, &["drill"], 0);
    for one in drilled["snapshots"].as_array().unwrap() {
        let id = one["snapshot"].as_str().unwrap();
        assert!(own.iter().any(|name| name.contains(id)), "{drilled}");
    }
}

#[test]
fn doctor_looks_at_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let finding = || {
        let output = place.bdr(&["--json", "doctor"]).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = found["data"]["findings"].as_array().unwrap().clone();
        let is_it = |finding: &Value| finding["check"] == "own records";
        findings.into_iter().find(is_it).unwrap()
    };
    assert_eq!(finding()["health"], "good");
    std::fs::set_permissions(key(&place), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(finding()["health"], "warning");
    assert!(finding()["fix"].as_str().unwrap().contains("chmod 600"));
    std::fs::remove_file(key(&place)).unwrap();
    assert_eq!(finding()["health"], "warning");
    assert!(finding()["fix"].as_str().unwrap().contains("bdr backup"));
}
