//! What agents are asked to do, played by a script that knows only what answers say: does the way from a trouble to its end lead through the tools, in few
//! calls and few bytes?

use std::fs;

use serde_json::{Value, json};

use crate::support::mcp::{LEGACY, Mcp};
use crate::support::{Place, assert_same, picture};

/// Plays a model, and counts what it costs.
struct Model {
    client: Mcp,
    calls: usize,
    bytes: usize,
    /// Resources that the last answer links to.
    links: Vec<String>,
}

impl Model {
    fn at(place: &Place, now: &str) -> Self {
        let client = Mcp::run(place.bdr_at(now, &["mcp"]), LEGACY, None);
        Self {
            client,
            calls: 0,
            bytes: 0,
            links: Vec::new(),
        }
    }

    /// Calls a tool; returns whether it failed, what a model reads, and the structured result.
    fn call(&mut self, tool: &str, arguments: Value) -> (bool, String, Value) {
        let mut result = self.client.tool(tool, arguments);
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        self.calls += 1;
        self.bytes += text.len();
        let blocks = result["content"].as_array().unwrap().iter();
        let links = blocks.filter_map(|block| block["uri"].as_str());
        self.links = links.map(str::to_owned).collect();
        let failed = result["isError"] == true;
        (failed, text, result["structuredContent"].take())
    }

    fn ok(&mut self, tool: &str, arguments: Value) -> (String, Value) {
        let (failed, text, data) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {text}");
        (text, data)
    }

    /// Reads a resource as text.
    fn read(&mut self, uri: &str) -> String {
        let answer = self.client.request("resources/read", json!({"uri": uri}));
        let text = answer["result"]["contents"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{uri}: {answer}")).to_owned();
        self.calls += 1;
        self.bytes += text.len();
        text
    }

    fn cost(&self, calls: usize, bytes: usize) {
        assert!(self.calls <= calls, "{} calls", self.calls);
        assert!(self.bytes <= bytes, "{} bytes", self.bytes);
    }
}

/// Returns the call that a text says comes next: a tool's name and its arguments.
fn said_next(text: &str) -> Option<(String, Value)> {
    let tools = [
        "checkpoint",
        "diff_changes",
        "undo_changes",
        "find_versions",
        "create_backup",
        "list_backups",
        "verify_backup",
        "restore_backup",
        "get_backup_status",
        "schedule_backup",
        "cleanup_old_backups",
        "export_backup_config",
    ];
    let (at, tool) = tools
        .iter()
        .filter_map(|tool| Some((text.rfind(&format!("{tool} {{"))?, tool)))
        .max()?;
    let rest = &text[at + tool.len() + 1..];
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    Some(((*tool).to_owned(), values.next()?.ok()?))
}

fn workspace() -> Place {
    let place = Place::with_repository();
    for n in 0..20 {
        place.write(&format!("notes/{n}.md"), format!("note {n}\n").as_bytes());
    }
    place.write("checklist-registry.json", br#"{"items": {"a": 1, "b": 2}}"#);
    place.write(
        ".mcp.json",
        br#"{"mcpServers": {"foo": {"command": "foo"}, "bar": {"command": "bar"}}}"#,
    );
    place.write("config/prod.json", br#"{"port": 80}"#);
    place.init_at("2026-11-23T06:00:00Z");
    place
}

/// "The migration wiped checklist-registry.json: put back this morning's, but keep what was added at noon."
#[test]
fn a_morning_version_comes_back_and_keeps_what_was_added_at_noon() {
    let place = workspace();
    let registry = place.tree().join("checklist-registry.json");
    fs::write(&registry, r#"{"items": {"a": 1}, "noon": "call back"}"#).unwrap();
    place.run_at("2026-11-23T12:00:00Z", &["backup"], 0);
    fs::write(&registry, "{}").unwrap();
    let mut model = Model::at(&place, "2026-11-23T15:00:00Z");
    let (_, found) = model.ok("find_versions", json!({"path": "checklist-registry.json"}));
    assert_eq!(found["total"], 2);
    let [noon, morning] = <[String; 2]>::try_from(model.links.clone()).unwrap();
    let noon: Value = serde_json::from_str(&model.read(&noon)).unwrap();
    let mut morning: Value = serde_json::from_str(&model.read(&morning)).unwrap();
    morning["noon"] = noon["noon"].clone();
    fs::write(&registry, morning.to_string()).unwrap();
    let merged: Value = serde_json::from_slice(&fs::read(&registry).unwrap()).unwrap();
    assert_eq!(
        merged,
        json!({"items": {"a": 1, "b": 2}, "noon": "call back"})
    );
    model.cost(3, 1200);
}

/// "prod.json is wrong since an hour ago": the wrong one is backed up by now, and what is said next brings back the one before.
#[test]
fn the_version_before_the_one_that_stands_is_what_comes_back() {
    let place = workspace();
    let config = place.tree().join("config/prod.json");
    fs::write(&config, r#"{"port": 8080}"#).unwrap();
    place.run_at("2026-11-23T12:00:00Z", &["backup"], 0);
    let mut model = Model::at(&place, "2026-11-23T13:00:00Z");
    let (text, found) = model.ok("find_versions", json!({"path": "prod.json"}));
    assert_eq!(found["total"], 2);
    let (tool, arguments) = said_next(&text).unwrap();
    model.ok(&tool, arguments);
    assert_eq!(fs::read_to_string(&config).unwrap(), r#"{"port": 80}"#);
    model.cost(2, 1400);
}

/// "Uninstall the server foo safely": too much went, and what the answers call next takes it back.
#[test]
fn an_uninstall_that_took_too_much_is_taken_back_by_what_the_answers_say() {
    let place = workspace();
    let before = picture(&place.tree());
    let mut model = Model::at(&place, "2026-11-23T15:00:00Z");
    let (text, _) = model.ok("checkpoint", json!({"label": "uninstall foo"}));
    let (tool, arguments) = said_next(&text).unwrap_or_else(|| panic!("no call in: {text}"));
    fs::write(place.tree().join(".mcp.json"), r#"{"mcpServers": {}}"#).unwrap();
    fs::remove_dir_all(place.tree().join("config")).unwrap();
    let mut diff = arguments.clone();
    diff["from"] = diff["checkpointId"].take();
    diff.as_object_mut().unwrap().remove("checkpointId");
    let (text, changed) = model.ok("diff_changes", diff);
    assert_eq!(changed["summary"]["deleted"], 1, "{changed}");
    assert_eq!(said_next(&text), Some((tool.clone(), arguments.clone())));
    model.ok(&tool, arguments);
    assert_same(&before, &picture(&place.tree()), "as it was");
    model.cost(3, 1200);
}

/// "Which backup still has the key?", and only that file comes back.
#[test]
fn the_backup_that_still_has_a_key_is_found_and_gives_back_one_file() {
    let place = workspace();
    fs::write(place.tree().join("config/prod.json"), r#"{"timeout": 30}"#).unwrap();
    place.run_at("2026-11-23T12:00:00Z", &["backup"], 0);
    fs::remove_file(place.tree().join("notes/3.md")).unwrap();
    let mut model = Model::at(&place, "2026-11-23T15:00:00Z");
    let (text, found) = model.ok(
        "find_versions",
        json!({"path": "**/*.json", "text": "\"port\""}),
    );
    assert_eq!(found["versions"].as_array().unwrap().len(), 1);
    let (tool, arguments) = said_next(&text).unwrap_or_else(|| panic!("no call in: {text}"));
    let mut preview = arguments.clone();
    preview["dryRun"] = true.into();
    let (_, plan) = model.ok(&tool, preview);
    assert_eq!(
        plan["plan"],
        json!({"create": 0, "replace": 1, "delete": 0}),
        "{plan}"
    );
    model.ok(&tool, arguments);
    assert_eq!(
        fs::read_to_string(place.tree().join("config/prod.json")).unwrap(),
        r#"{"port": 80}"#
    );
    assert!(!place.tree().join("notes/3.md").exists());
    model.cost(3, 2400);
}

/// "Undo what you did in notes/, my own work stays."
#[test]
fn of_two_who_work_there_only_the_work_of_one_is_taken_back() {
    let place = workspace();
    let mut model = Model::at(&place, "2026-11-23T15:00:00Z");
    let (_, point) = model.ok("checkpoint", json!({"label": "rewrite the notes"}));
    for n in 0..20 {
        fs::write(place.tree().join(format!("notes/{n}.md")), "rewritten").unwrap();
    }
    fs::write(place.tree().join("config/prod.json"), r#"{"port": 8080}"#).unwrap();
    let undo = json!({"checkpointId": point["checkpointId"], "paths": ["notes/**"]});
    let mut preview = undo.clone();
    preview["dryRun"] = true.into();
    model.ok("undo_changes", preview);
    let (_, undone) = model.ok("undo_changes", undo);
    assert_eq!(undone["restored"], 20, "{undone}");
    assert_eq!(
        fs::read_to_string(place.tree().join("config/prod.json")).unwrap(),
        r#"{"port": 8080}"#
    );
    assert_eq!(
        fs::read_to_string(place.tree().join("notes/7.md")).unwrap(),
        "note 7\n"
    );
    // And the user wanted them after all.
    let (_, again) = model.ok(
        "undo_changes",
        json!({"checkpointId": undone["safetyCheckpointId"]}),
    );
    assert_eq!(again["restored"], 20, "{again}");
    assert_eq!(
        fs::read_to_string(place.tree().join("notes/7.md")).unwrap(),
        "rewritten"
    );
    model.cost(4, 3000);
}

/// Whatever goes wrong: the call that the error names next is one that the server takes.
#[test]
fn errors_name_calls_that_work() {
    let place = workspace();
    let mut model = Model::at(&place, "2026-11-23T15:00:00Z");
    let mut followed = 0;
    for (tool, arguments) in [
        ("restore_backup", json!({})),
        (
            "restore_backup",
            json!({"backupId": "2020-01-01-000000-zzzzzzzz"}),
        ),
        (
            "restore_backup",
            json!({"backupId": "latest", "selective": ["**/nothing.json"]}),
        ),
        ("verify_backup", json!({})),
        ("verify_backup", json!({"backupId": "nope"})),
        (
            "undo_changes",
            json!({"checkpointId": "cp-2020-01-01-000000-zzzzzzzz"}),
        ),
        ("undo_changes", json!({})),
        ("undo_changes", json!({"path": "notes"})),
        ("find_versions", json!({})),
        (
            "diff_changes",
            json!({"from": "cp-2020-01-01-000000-zzzzzzzz"}),
        ),
        ("diff_changes", json!({"from": "before the flood"})),
        ("list_backups", json!({"limit": 0})),
        ("list_backups", json!({"dateRange": {"start": 5}})),
        ("create_backup", json!({"sources": ["no/such/place"]})),
        ("create_backup", json!({"sources": ["/etc"]})),
        ("schedule_backup", json!({})),
        (
            "schedule_backup",
            json!({"action": "create", "cronExpression": "* * * * *"}),
        ),
        (
            "schedule_backup",
            json!({"action": "create", "cronExpression": "0 2 * * 1"}),
        ),
        (
            "cleanup_old_backups",
            json!({"retentionPolicy": {"dailyRetention": "few"}}),
        ),
        (
            "export_backup_config",
            json!({"outputPath": "/etc/bdr.json"}),
        ),
        ("export_backup_config", json!({"format": "xml"})),
    ] {
        let (failed, text, data) = model.call(tool, arguments.clone());
        assert!(failed, "{tool} {arguments}: {text}");
        let recovery = data["error"]["recovery"].as_str().unwrap();
        assert!(!recovery.is_empty() && text.len() < 700, "{text}");
        // A call with its arguments, or the same call with one of them set.
        let next = said_next(recovery).or_else(|| {
            let at = recovery.find("the same call with {")? + "the same call with ".len();
            let mut values =
                serde_json::Deserializer::from_str(&recovery[at..]).into_iter::<Value>();
            let mut all = arguments.clone();
            for (name, value) in values.next()?.ok()?.as_object()? {
                all[name] = value.clone();
            }
            Some((tool.to_owned(), all))
        });
        let plain = || {
            let tools = ["list_backups", "checkpoint", "get_backup_status"];
            let tool = tools.into_iter().find(|tool| recovery.starts_with(tool));
            tool.map(|tool| (tool.to_owned(), json!({})))
        };
        let Some((tool, mut next)) = next.or_else(plain) else {
            continue;
        };
        if next["path"].is_string() && next["path"].as_str().unwrap().contains("NAME") {
            next["path"] = "**/*.md".into();
        }
        if tool == "schedule_backup" && next["action"] == "create" {
            next["action"] = "list".into();
        }
        let (failed, text, _) = model.call(&tool, next.clone());
        assert!(!failed, "{recovery} -> {tool} {next}: {text}");
        followed += 1;
    }
    assert!(followed >= 12, "{followed} named a call");
}
