//! The four ways in which deployment-release-mcp has a snapshot before it deploys, each against a stand-in that does what the server does: its requests
//! have the shapes of its tools (`deploy_application`, `rollback_deployment`), its checks are the commands it runs.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::mcp::{LEGACY, Mcp};
use crate::support::{Place, assert_same, picture};

/// A project beside the workspace that the agent works in.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("shop/package.json", b"{\n  \"name\": \"shop\",\n  \"version\": \"1.0.0\",\n  \"scripts\": {\n    \"lint\": \"true\",\n    \"test\": \"true\"\n  }\n}\n");
    place.write("shop/app.js", b"works\n");
    place.write("shop/config/production.json", b"{\"replicas\": 3}\n");
    place.write(
        "shop/.deployments/deployment-registry.json",
        b"{\"deployments\": []}\n",
    );
    place.init();
    place
}

/// What a deployment that goes wrong leaves.
fn deploy(project: &Path) {
    std::fs::write(project.join("app.js"), "broken\n").unwrap();
    std::fs::remove_dir_all(project.join("config")).unwrap();
    let registry = "{\"deployments\": [{\"id\": \"deploy-1\", \"status\": \"failed\"}]}\n";
    std::fs::write(
        project.join(".deployments/deployment-registry.json"),
        registry,
    )
    .unwrap();
}

fn request(project: &Path) -> Value {
    json!({"projectPath": project, "environment": "production", "target": "all", "strategy": "rolling", "preChecks": true, "dryRun": false,
        "config": {"timeout": 300, "parallelism": 2}})
}

fn labels(place: &Place) -> Vec<String> {
    let list = place.json(&["list"]);
    let all = list["snapshots"].as_array().unwrap().iter();
    all.filter_map(|snapshot| Some(snapshot["label"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn its_own_checks_take_the_snapshot() {
    let place = place();
    let project = place.tree().join("shop");
    let package = std::fs::read(project.join("package.json")).unwrap();
    place.run(&["hooks", "install", "deploy", "--project", "shop"], 0);
    let before = picture(&project);
    // PreChecksManager.runAllChecks.
    let bin = Path::new(env!("CARGO_BIN_EXE_bdr"))
        .parent()
        .unwrap()
        .to_owned();
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let npm = |line: &str| {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(&project)
            .env_clear()
            .env("PATH", &path)
            .env("HOME", place.path("home"))
            .env("BDR_HOME", place.path("bdr"));
        command.output().is_ok_and(|output| output.status.success())
    };
    if !npm("npm --version") {
        println!("SKIPPED: checks of a project run by npm (no npm)");
        return;
    }
    assert!(npm("npm run lint") && npm("npm test -- --passWithNoTests"));
    assert_eq!(labels(&place), ["pre-deploy"]);
    deploy(&project);
    place.run(&["restore", "latest", "shop", "--yes"], 0);
    assert_same(&before, &picture(&project), "the project");
    place.run(&["hooks", "uninstall", "deploy", "--project", "shop"], 0);
    assert_eq!(
        std::fs::read(project.join("package.json")).unwrap(),
        package
    );
}

#[test]
fn a_child_process_takes_the_snapshot_and_says_which() {
    let place = place();
    let project = place.tree().join("shop");
    let before = picture(&project);
    // As it spawns another server: arguments apart, JSON on stdout.
    let child = place
        .bdr(&["backup", "--label", "pre-deploy:production", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let snapshot = said["data"]["snapshot"].as_str().unwrap().to_owned();
    deploy(&project);
    place.run(&["restore", &snapshot, "shop", "--yes"], 0);
    assert_same(&before, &picture(&project), "the project");
}

#[test]
fn calls_by_mcp_take_the_snapshot_and_bring_it_back() {
    let place = place();
    let project = place.tree().join("shop");
    let before = picture(&project);
    let mut client = Mcp::start(&place, &[], LEGACY);
    // What its comments say that it would call, with the parameters that the earlier server took.
    let made = client.ok(
        "create_backup",
        json!({"sources": [project], "type": "full", "label": "pre-deploy:production", "verify": true, "compression": true, "scanPHI": true}),
    );
    assert_eq!(made["success"], true);
    let checkpoint = client.ok(
        "checkpoint",
        json!({"label": "deploy_application production"}),
    );
    deploy(&project);
    client.ok(
        "undo_changes",
        json!({"checkpointId": checkpoint["checkpointId"]}),
    );
    assert_same(&before, &picture(&project), "undone");
    deploy(&project);
    client.ok(
        "restore_backup",
        json!({"backupId": made["backupId"], "overwrite": true, "preBackup": true}),
    );
    assert_same(&before, &picture(&project), "restored");
    let listed = client.ok("list_backups", json!({"filter": {"label": "pre-deploy"}}));
    assert_eq!(listed["filtered"], 1, "{listed}");
}

#[test]
fn the_agents_hook_sees_its_tools() {
    for (tool, input) in [
        (
            "mcp__deployment-release-mcp-server__deploy_application",
            None,
        ),
        (
            "mcp__deployment-release-mcp-server__rollback_deployment",
            Some(
                json!({"environment": "production", "reason": "errors", "preserveData": true, "force": false}),
            ),
        ),
        (
            "mcp__mcp-config-manager__unregister_mcp_server",
            Some(json!({"serverName": "foo", "createBackup": true})),
        ),
        (
            "mcp__mcp-config-manager__sync_mcp_configs",
            Some(json!({"dryRun": false})),
        ),
    ] {
        let place = place();
        // Elsewhere: the tool says where it works, the agent's directory does not.
        let project = place.path("elsewhere/shop");
        std::fs::create_dir_all(place.path("elsewhere")).unwrap();
        std::fs::rename(place.tree().join("shop"), &project).unwrap();
        std::fs::write(
            place.path("home/.claude.json"),
            "{\"mcpServers\": {\"foo\": {\"command\": \"x\"}}}",
        )
        .unwrap();
        let before = (picture(&project), picture(&place.path("home")));
        let mut input = input.unwrap_or_else(|| request(&project));
        input["projectPath"] = json!(project);
        let event = |name: &str| {
            json!({"session_id": "s", "cwd": place.tree(), "hook_event_name": name, "tool_name": tool, "tool_use_id": "t1", "tool_input": input}).to_string()
        };
        let hook = |event: String| {
            use std::io::Write as _;
            let mut child = place
                .bdr(&["hook", "claude"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(event.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{tool}: {output:?}");
        };
        hook(event("PreToolUse"));
        deploy(&project);
        std::fs::write(place.path("home/.claude.json"), "{\"mcpServers\": {}}").unwrap();
        hook(event("PostToolUse"));
        place.run(&["undo", "--yes"], 0);
        assert_same(&before.0, &picture(&project), tool);
        assert_same(&before.1, &picture(&place.path("home")), tool);
    }
}
