//! What the tools do, and that callers of earlier servers find what they look for.

use std::fs;

use serde_json::json;

use super::{break_tree, place};
use crate::support::mcp::{LEGACY, MODERN, Mcp};
use crate::support::{Place, assert_same, picture};

#[test]
fn all_tools_answer_in_both_eras() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY, MODERN] {
        let place = place();
        let mut client = Mcp::start(&place, &[], version);
        let tools = client.request("tools/list", json!({}));
        let tools = tools["result"]["tools"].as_array().unwrap();
        assert_eq!(tools.len(), 12, "{version}");
        let before = picture(&place.tree());
        let checkpoint = client.ok("checkpoint", json!({"label": "test"}));
        assert_eq!(checkpoint["fileCount"], 31);
        break_tree(&place);
        let diff = client.ok("diff_changes", json!({"patch": true}));
        assert_eq!(
            diff["summary"],
            json!({"added": 1, "changed": 1, "deleted": 1, "bytes": 5})
        );
        let undone = client.ok("undo_changes", json!({}));
        assert_eq!(undone["movedAside"], 1);
        assert_same(&before, &picture(&place.tree()), "the tree");
        let found = client.ok("find_versions", json!({"path": "registry.json"}));
        assert_eq!(found["versions"].as_array().unwrap().len(), 2, "{found}");
        let made = client.ok("create_backup", json!({"type": "full", "verify": true}));
        assert_eq!(made["metadata"]["type"], "full");
        let listed = client.ok("list_backups", json!({}));
        assert_eq!(listed["backups"][0]["backupId"], made["backupId"]);
        let id = made["backupId"].clone();
        assert_eq!(
            client.ok("verify_backup", json!({"backupId": id, "deep": true}))["valid"],
            true
        );
        let restored = client.ok("restore_backup", json!({"backupId": id}));
        assert_eq!(restored["changes"]["filesRestored"], 0);
        assert_eq!(
            client.ok("get_backup_status", json!({"includeRetention": true}))["statistics"]["totalBackups"],
            2
        );
        assert_eq!(
            client.ok("schedule_backup", json!({"action": "list"}))["schedules"],
            json!([])
        );
        assert_eq!(
            client.ok("cleanup_old_backups", json!({"dryRun": true}))["dryRun"],
            true
        );
        assert_eq!(
            client.ok("export_backup_config", json!({}))["config"]["sources"][0]["name"],
            "tree"
        );
        let (code, stderr) = client.close();
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{version}");
    }
}

/// The earlier server stored every source that is a file under one name, and what two directories call alike under one: it restored one file's content
/// into another and said that all went well.
#[test]
fn files_of_equal_names_come_back_each_as_itself() {
    let place = Place::with_repository();
    let files = [
        (".claude.json", "{\"mcpServers\": {\"a\": {}}}"),
        ("rules.json", "[\"rule\"]"),
        ("ws/a/config.json", "{\"of\": \"a\"}"),
        ("ws/b/config.json", "{\"of\": \"b\"}"),
    ];
    for (path, content) in files {
        place.write(path, content.as_bytes());
    }
    let before = picture(&place.tree());
    let mut client = Mcp::start(&place, &[], LEGACY);
    let sources = json!([".claude.json", "rules.json", "ws/a", "ws/b"]);
    let made = client.ok(
        "create_backup",
        json!({"sources": sources, "type": "full", "verify": true}),
    );
    assert_eq!(made["metadata"]["fileCount"], 4, "{made}");
    for (path, _) in files {
        fs::write(place.tree().join(path), "lost").unwrap();
    }
    let restored = client.ok(
        "restore_backup",
        json!({"backupId": made["backupId"], "overwrite": true}),
    );
    assert_eq!(restored["plan"]["replace"], 4, "{restored}");
    assert_eq!(restored["changes"]["filesRestored"], 4, "{restored}");
    assert_same(&before, &picture(&place.tree()), "the tree");
    let again = client.ok(
        "restore_backup",
        json!({"backupId": made["backupId"], "overwrite": true}),
    );
    assert_eq!(again["changes"]["filesRestored"], 0, "{again}");
    assert_eq!(again["changes"]["filesSkipped"], 4, "{again}");
    // And elsewhere, from nothing.
    let elsewhere = client.ok(
        "restore_backup",
        json!({"backupId": made["backupId"], "destination": "out"}),
    );
    assert_eq!(elsewhere["changes"]["conflicts"], json!([]));
    // Directories are none.
    assert_eq!(elsewhere["changes"]["filesRestored"], 4, "{elsewhere}");
    let mut contents: Vec<String> = walkdir::WalkDir::new(place.tree().join("out"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| fs::read_to_string(entry.path()).unwrap())
        .collect();
    contents.sort();
    let mut wanted: Vec<String> = files
        .iter()
        .map(|(_, content)| (*content).to_owned())
        .collect();
    wanted.sort();
    assert_eq!(contents, wanted);
}

#[test]
fn a_missing_source_is_an_error_and_makes_no_backup() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let before = client.ok("list_backups", json!({}))["total"].clone();
    client.fails(
        "create_backup",
        json!({"sources": ["nowhere"]}),
        "SOURCE_NOT_FOUND",
    );
    assert_eq!(client.ok("list_backups", json!({}))["total"], before);
}

#[test]
fn what_cannot_be_read_makes_a_backup_partial_and_no_success() {
    let place = place();
    fs::rename(place.tree(), place.path("away")).unwrap();
    fs::create_dir(place.path("other")).unwrap();
    place.configure(&format!(
        "[source.other]\npath = \"{}\"\n",
        place.path("other").display()
    ));
    fs::write(place.path("other/x"), "x").unwrap();
    fs::create_dir(place.tree()).unwrap();
    let mut client = Mcp::start(&place, &[], LEGACY);
    fs::remove_dir(place.tree()).unwrap();
    let partial = client.fails("create_backup", json!({}), "PARTIAL");
    assert!(partial["backupId"].is_string(), "{partial}");
    assert_eq!(
        client.ok("list_backups", json!({}))["backups"][0]["status"],
        "partial"
    );
}

#[test]
fn an_undo_by_globs_touches_nothing_else_and_can_be_undone() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let made = client.ok("checkpoint", json!({}));
    break_tree(&place);
    let broken = picture(&place.tree());
    let dry = client.ok("undo_changes", json!({"paths": ["*.json"], "dryRun": true}));
    assert_eq!(dry["plan"]["replace"], 1, "{dry}");
    assert_same(&broken, &picture(&place.tree()), "the tree");
    let undone = client.ok(
        "undo_changes",
        json!({"paths": ["*.json"], "checkpointId": made["checkpointId"]}),
    );
    assert_eq!(undone["restored"], 1, "{undone}");
    let registry = place.tree().join("registry.json");
    assert!(fs::read_to_string(&registry).unwrap().contains("\"b\""));
    assert!(place.tree().join("src/new.txt").exists());
    let back = client.ok(
        "undo_changes",
        json!({"checkpointId": undone["safetyCheckpointId"]}),
    );
    assert_eq!(back["restored"], 1, "{back}");
    assert_same(&broken, &picture(&place.tree()), "the tree");
    // The command line knows the checkpoint too, and does not take it for the last thing that was done.
    let log = String::from_utf8(place.run(&["log"], 0).stdout).unwrap();
    assert!(log.contains("by test 1"), "{log}");
}

#[test]
fn without_overwrite_only_what_differs_is_a_conflict() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    break_tree(&place);
    let broken = fs::read_to_string(place.tree().join("registry.json")).unwrap();
    for dry in [true, false] {
        let result = client.ok(
            "restore_backup",
            json!({"backupId": "latest", "dryRun": dry}),
        );
        let conflicts = result["changes"]["conflicts"].as_array().unwrap();
        assert_eq!(conflicts.len(), 1, "{result}");
        assert_eq!(conflicts[0]["action"], "skip");
        assert!(
            conflicts[0]["path"]
                .as_str()
                .unwrap()
                .ends_with("registry.json")
        );
        assert!(conflicts[0]["backupModified"].is_string());
        assert_eq!(
            result["plan"],
            json!({"create": 1, "replace": 0, "delete": 0})
        );
    }
    assert!(place.tree().join("src/f1.txt").exists());
    assert_eq!(
        fs::read_to_string(place.tree().join("registry.json")).unwrap(),
        broken
    );
}

#[test]
fn arguments_of_earlier_callers_are_taken_and_misspelled_ones_refused() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let made = client.ok(
        "create_backup",
        json!({"sources": [], "type": "incremental", "compression": false, "scanPHI": false, "label": "old"}),
    );
    assert_eq!(made["warnings"].as_array().unwrap().len(), 2, "{made}");
    let nested = client.ok(
        "list_backups",
        json!({"filter": {"label": "old", "type": null}, "includeMetadata": true, "limit": 100}),
    );
    assert_eq!(nested["filtered"], 1);
    let range = client.ok(
        "list_backups",
        json!({"dateRange": {"start": "2020-01-01", "end": "2020-01-02"}}),
    );
    assert_eq!(
        (&range["filtered"], &range["total"]),
        (&json!(0), &json!(2))
    );
    let ignored = client.ok(
        "restore_backup",
        json!({"backupId": "latest", "preBackup": false, "overwrite": true}),
    );
    assert_eq!(ignored["warnings"].as_array().unwrap().len(), 1);
    client.ok(
        "verify_backup",
        json!({"backupId": "latest", "repair": true}),
    );
    for (tool, arguments) in [
        ("undo_changes", json!({"path": "src"})),
        ("undo_changes", json!({"dry_run": true})),
        ("restore_backup", json!({"backupId": 5})),
        ("restore_backup", json!({})),
        ("list_backups", json!({"limit": 0})),
        ("list_backups", json!({"sort": "name"})),
        ("list_backups", json!({"cursor": "1.2"})),
        ("find_versions", json!({})),
        ("find_versions", json!({"path": "["})),
        ("schedule_backup", json!({"action": "explode"})),
    ] {
        client.fails(tool, arguments, "INVALID_ARGUMENT");
    }
    for (tool, arguments, code) in [
        (
            "verify_backup",
            json!({"backupId": "nope"}),
            "BACKUP_NOT_FOUND",
        ),
        (
            "undo_changes",
            json!({"checkpointId": "cp-2020-01-01-000000-zzzzzzzz"}),
            "CHECKPOINT_EXPIRED",
        ),
        ("undo_changes", json!({}), "NOTHING_TO_DO"),
        (
            "schedule_backup",
            json!({"action": "create", "cronExpression": "*/5 * * * *"}),
            "INVALID_SCHEDULE",
        ),
        (
            "restore_backup",
            json!({"backupId": "latest", "selective": ["no-such-file"]}),
            "SOURCE_NOT_FOUND",
        ),
    ] {
        let fault = client.fails(tool, arguments, code);
        assert!(fault["error"]["recovery"].is_string(), "{fault}");
    }
}

#[test]
fn names_that_clients_see_are_known_on_the_command_line() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let before = picture(&place.tree());
    let made = client.ok("create_backup", json!({}));
    let checkpoint = client.ok("checkpoint", json!({}));
    break_tree(&place);
    let id = checkpoint["checkpointId"].as_str().unwrap();
    place.run(&["undo", id, "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "undone by hand");
    break_tree(&place);
    let id = made["backupId"].as_str().unwrap();
    place.run(&["restore", id, "registry.json", "--yes"], 0);
    assert_eq!(
        fs::read(place.tree().join("registry.json")).unwrap(),
        before[std::path::Path::new("registry.json")].content
    );
}

/// What a guard or an undo saved for itself is no backup that somebody took to keep: it has an id.
#[test]
fn latest_is_never_what_a_guard_or_an_undo_saved() {
    let place = place();
    let guarded = |place: &Place| {
        place.write("registry.json", b"{\"as the guard saw it\": 1}");
        place.run(&["guard", "--", "rm", "registry.json"], 0);
        place.run(&["undo", "--yes"], 0);
        place.write("registry.json", b"{\"as the second guard saw it\": 1}");
        place.run(&["guard", "--", "rm", "registry.json"], 0);
    };
    let mut client = Mcp::start(&place, &[], LEGACY);
    let kept = fs::read(place.tree().join("registry.json")).unwrap();
    let made = client.ok("create_backup", json!({}));
    guarded(&place);
    let listed = client.ok("list_backups", json!({}));
    assert_eq!(
        listed["backups"][0]["backupId"], made["backupId"],
        "{listed}"
    );
    let verified = client.ok("verify_backup", json!({"backupId": "latest"}));
    assert_eq!(verified["backupId"], made["backupId"], "{verified}");
    let arguments = json!({"backupId": "latest", "overwrite": true});
    let restored = client.ok("restore_backup", arguments.clone());
    assert_eq!(restored["backupId"], made["backupId"], "{restored}");
    assert_eq!(fs::read(place.tree().join("registry.json")).unwrap(), kept);
    // Where there is nothing else there is none.
    let place = Place::with_repository();
    place.write("registry.json", b"{}");
    let source = format!("tree={}", place.tree().display());
    place.run(&["init", "--yes", "--no-backup", "--source", &source], 0);
    guarded(&place);
    assert!(
        !place.json(&["list"])["snapshots"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.fails("restore_backup", arguments, "BACKUP_NOT_FOUND");
    client.fails(
        "verify_backup",
        json!({"backupId": "latest"}),
        "BACKUP_NOT_FOUND",
    );
    assert!(!place.tree().join("registry.json").exists());
}

/// The story that bdr is for: a server is uninstalled, and its configuration goes along.
#[test]
fn a_checkpoint_covers_what_tools_of_agents_edit() {
    let place = place();
    let file = place.path("home/.claude.json");
    let text = "{\"mcpServers\": {\"foo\": {\"command\": \"x\", \"env\": {\"KEY\": \"1\"}}}}";
    fs::write(&file, text).unwrap();
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.ok("checkpoint", json!({"label": "uninstall foo"}));
    fs::write(&file, "{\"mcpServers\": {}}").unwrap();
    let diff = client.ok("diff_changes", json!({}));
    assert_eq!(diff["files"][0]["path"], "~/.claude.json", "{diff}");
    client.ok("undo_changes", json!({"paths": ["~/.claude.json"]}));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_checkpoint_whose_snapshot_was_forgotten_has_expired() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    fs::write(place.tree().join("new"), "content").unwrap();
    let id = client.ok("checkpoint", json!({}))["checkpointId"].clone();
    break_tree(&place);
    let later = (crate::support::now() + chrono::TimeDelta::hours(2)).to_rfc3339();
    place.run_at(&later, &["forget", "latest:any", "--yes"], 0);
    let fault = client.fails(
        "undo_changes",
        json!({"checkpointId": id}),
        "CHECKPOINT_EXPIRED",
    );
    let next = fault["error"]["recovery"].as_str().unwrap();
    assert!(next.starts_with("list_backups"), "{fault}");
    let args = ["undo", id.as_str().unwrap(), "--yes", "--json"];
    let output = place.run_at(&later, &args, 2);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["error"]["code"], "expired", "{said}");
}

#[test]
fn a_file_whose_pack_is_gone_is_missing_and_one_whose_pack_is_damaged_does_not_match() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.ok("create_backup", json!({"type": "full"}));
    let is_pack = |path: &std::path::Path| path.to_string_lossy().ends_with(".tar.gz");
    // The lifeboat's as well, or it would heal the damage.
    let packs: Vec<_> = walkdir::WalkDir::new(place.path(""))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| is_pack(path))
        .collect();
    assert!(!packs.is_empty());
    let kinds = |client: &mut Mcp| {
        let found = client.tool("verify_backup", json!({"backupId": "latest"}));
        let issues = found["structuredContent"]["issues"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let kinds: std::collections::BTreeSet<String> = issues
            .iter()
            .map(|issue| issue["type"].as_str().unwrap().to_owned())
            .collect();
        assert!(!kinds.is_empty(), "{found}");
        kinds
    };
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        fs::remove_file(pack).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(pack, bytes).unwrap();
    }
    assert!(kinds(&mut client).contains("checksum-mismatch"));
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    assert!(kinds(&mut client).contains("missing-file"));
}
