//! `bdr mcp install`: what clients have written in their files.

use std::fs;

use super::{contents, place};
use crate::support::{assert_same, picture};

const CLIENTS: [(&str, &str); 7] = [
    ("claude", ".claude.json"),
    (
        "claude-desktop",
        ".config/Claude/claude_desktop_config.json",
    ),
    ("cursor", ".cursor/mcp.json"),
    ("vscode", ".config/Code/User/mcp.json"),
    ("codex", ".codex/config.toml"),
    ("gemini", ".gemini/settings.json"),
    ("windsurf", ".codeium/windsurf/mcp_config.json"),
];

#[test]
fn clients_get_an_entry_that_works_and_lose_it_without_a_trace() {
    let place = place();
    let home = place.path("home");
    for (client, file) in CLIENTS {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match client {
            "codex" => fs::write(&path, "# mine\r\nmodel = \"x\"\r\n").unwrap(),
            "gemini" => fs::write(
                &path,
                "{\n\t// mine\n\t\"theme\": \"x\",\n\t\"mcpServers\": {}\n}",
            )
            .unwrap(),
            "claude" => fs::write(
                &path,
                "{\"numStartups\": 3, \"mcpServers\": {\"a\": {\"command\": \"x\"}}}",
            )
            .unwrap(),
            _ => {}
        }
    }
    let before = picture(&home);
    let names = CLIENTS.map(|(client, _)| client).join(",");
    let dry = place.run(&["mcp", "install", "--client", &names, "--dry-run"], 0);
    assert!(String::from_utf8_lossy(&dry.stdout).contains("would be written"));
    assert_same(&before, &picture(&home), "a dry run");
    place.run(&["mcp", "install", "--client", &names, "--read-only"], 0);
    for (client, file) in CLIENTS {
        let text = fs::read_to_string(home.join(file)).unwrap();
        assert!(text.contains(env!("CARGO_BIN_EXE_bdr")), "{client}: {text}");
        assert!(text.contains("--read-only"), "{client}: {text}");
    }
    let status = place.json(&["mcp", "status"]);
    let files = status["files"].as_array().unwrap();
    assert_eq!(files.len(), 7);
    for file in files {
        assert!(file["answers_ms"].is_u64(), "{file}");
    }
    let one = place.json(&["mcp", "status", "--client", "codex"]);
    assert_eq!(one["files"].as_array().unwrap().len(), 1);
    assert_eq!(one["files"][0]["client"], "codex");
    assert!(one["files"][0]["answers_ms"].is_u64(), "{one}");
    let again = place.json(&["mcp", "install", "--client", "all", "--read-only"]);
    for file in again["files"].as_array().unwrap() {
        assert_eq!(file["action"], "keep", "{file}");
    }
    place.run(&["mcp", "uninstall", "--client", "all"], 0);
    assert_eq!(contents(&before), contents(&picture(&home)));
    // The operation is one of the log.
    assert!(String::from_utf8_lossy(&place.run(&["log"], 0).stdout).contains("mcp install"));
}

#[test]
fn an_entry_of_somebody_else_and_a_broken_file_are_left_alone() {
    let place = place();
    let home = place.path("home");
    fs::create_dir_all(home.join(".cursor")).unwrap();
    let theirs = "{\"mcpServers\": {\"bdr\": {\"command\": \"/usr/bin/other\"}}}";
    fs::write(home.join(".cursor/mcp.json"), theirs).unwrap();
    fs::write(home.join(".claude.json"), "{broken").unwrap();
    place.run(&["mcp", "install", "--client", "cursor,claude"], 1);
    assert_eq!(
        fs::read_to_string(home.join(".cursor/mcp.json")).unwrap(),
        theirs
    );
    assert_eq!(
        fs::read_to_string(home.join(".claude.json")).unwrap(),
        "{broken"
    );
    place.run(&["mcp", "install", "--client", "emacs"], 2);
    place.run(
        &["mcp", "install", "--client", "windsurf", "--project", "."],
        1,
    );
    // Edited around: exactly bdr's part goes.
    place.run(
        &["mcp", "install", "--client", "vscode", "--project", "."],
        0,
    );
    let file = place.tree().join(".vscode/mcp.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("\"bdr\":", "\"mine\": {\"command\": \"x\"},\n    \"bdr\":"),
    )
    .unwrap();
    place.run(&["mcp", "uninstall", "--client", "vscode"], 0);
    let left = fs::read_to_string(&file).unwrap();
    assert!(left.contains("mine") && !left.contains("bdr"), "{left}");
}

#[test]
fn status_starts_what_the_entry_says() {
    let place = place();
    let file = place.path("home").join(".cursor/mcp.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    place.run(&["mcp", "status", "--client", "cursor"], 1);
    place.run(&["mcp", "status", "--client", "emacs"], 2);
    place.run(&["mcp", "install", "--client", "cursor"], 0);
    place.run(&["mcp", "status", "--client", "cursor"], 0);
    // An argument that bdr does not know: the client would see a server that ends at once.
    let text = fs::read_to_string(&file).unwrap();
    let broken = text.replacen("\"mcp\"", "\"mcp\", \"--tools\", \"none\"", 1);
    assert_ne!(text, broken);
    fs::write(&file, broken).unwrap();
    place.run(&["mcp", "status"], 1);
    place.run(&["mcp", "install", "--client", "cursor"], 0);
    place.run(&["mcp", "status"], 0);
}
