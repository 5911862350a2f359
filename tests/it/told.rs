//! What a command changed where nobody looks: outside of its project. It is said afterwards.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::cli::stderr;

/// Changes something in each kind of place.
const EVERYWHERE: &str = "
rm inside
echo x >> \"$HOME/.bashrc\"
echo '{}' > \"$HOME/.claude.json\"
rm \"$HOME/work/other/src.c\"
echo 1 > \"$HOME/.config/app/one\"
echo 2 > \"$HOME/.config/app/two\"
echo gone > \"$HOME/notes/one\"
echo cached > \"$HOME/.cache/x\"
echo ls >> \"$HOME/.bash_history\"
echo '{}' >> \"$HOME/.claude/projects/one.jsonl\"
";

fn world() -> Place {
    let place = Place::with_repository();
    for dir in [
        ".cache",
        ".config/app",
        ".claude/projects",
        "notes",
        "work/other/.git/objects",
    ] {
        std::fs::create_dir_all(place.path("home").join(dir)).unwrap();
    }
    for file in [
        ".bashrc",
        ".bash_history",
        ".claude.json",
        ".claude/projects/one.jsonl",
        "notes/one",
        "work/other/src.c",
    ] {
        std::fs::write(place.path("home").join(file), "before\n").unwrap();
    }
    std::fs::write(
        place.path("home/work/other/.git/HEAD"),
        "ref: refs/heads/main\n",
    )
    .unwrap();
    place.write("inside", b"1");
    place.write("fix.sh", EVERYWHERE.as_bytes());
    place
}

fn guard(place: &Place, args: &[&str]) -> Output {
    let mut command = place.bdr(args);
    command.env("BDR_BACKGROUND", "0");
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    output
}

/// Returns the lines about what is outside.
fn outside(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said
        .lines()
        .skip_while(|line| !line.starts_with("bdr: outside"));
    lines.map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_captured_command_has_what_it_changed_elsewhere_named() {
    let place = world();
    let mut trial = place.bdr(&["guard", "--capture", "only", "--", "rm", "-f", "none"]);
    let trial = trial.env("BDR_BACKGROUND", "0").output().unwrap();
    if stderr(&trial).contains("cannot be captured here") {
        println!("SKIPPED: system calls cannot be captured on this machine");
        return;
    }
    let output = guard(
        &place,
        &["guard", "--capture", "only", "--", "sh", "fix.sh"],
    );
    assert_eq!(
        outside(&output),
        [
            "bdr: outside of the project",
            "bdr:   ~/.claude.json changed (configuration of an agent)",
            "bdr:   ~/work/other/src.c deleted (another repository)",
            "bdr:   ~/.bashrc changed",
            "bdr:   ~/.config/app: 2 created",
            "bdr:   ~/notes/one changed",
        ],
        "{}",
        stderr(&output)
    );
    place.run(&["undo", "--yes"], 0);
    // What is left out is counted, and documents have all of it.
    std::fs::create_dir(place.path("home/more")).unwrap();
    place.write("more.sh", b". ./fix.sh; echo 1 > \"$HOME/more/x\"\n");
    let args = ["guard", "--capture", "only", "--", "sh", "more.sh"];
    let output = guard(&place, &args);
    let lines = outside(&output);
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[6], "bdr:   and 1 more place: bdr show");
    place.run(&["undo", "--yes"], 0);
    let mut json = vec!["--json"];
    json.extend(args);
    let output = guard(&place, &json);
    let said = stderr(&output);
    let document: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let places = document["data"]["outside"].as_array().unwrap();
    let what: Vec<&str> = places
        .iter()
        .filter_map(|one| one["what"].as_str())
        .collect();
    assert_eq!(
        what,
        [
            "agent",
            "repository",
            "settings",
            "settings",
            "other",
            "other"
        ]
    );
    assert_eq!(places[3]["created"], 2);
    assert_eq!(places[3]["path"], json!(place.path("home/.config/app")));
}

#[test]
fn a_watched_command_has_what_it_changed_elsewhere_named_if_it_does_not_say_so() {
    let place = world();
    let bashrc = place.path("home/.bashrc");
    let bashrc = bashrc.to_str().unwrap();
    let app = place.path("home/.config/app");
    let paths = ["--path", bashrc, "--path", app.to_str().unwrap()];
    let watched = [&["guard", "--capture", "off"][..], &paths, &["--"]].concat();
    let run = |words: &[&str]| {
        let mut args = watched.to_vec();
        args.extend(words);
        guard(&place, &args)
    };
    let named = [
        "bdr: outside of the project",
        "bdr:   ~/.bashrc changed",
        "bdr:   ~/.config/app: 2 created",
    ];
    let output = run(&["sh", "fix.sh"]);
    assert_eq!(outside(&output), named, "{}", stderr(&output));
    // Nothing is lost, so there is no other line with the way back.
    place.write("make.sh", b"echo 1 > \"$HOME/.config/app/new\"\n");
    let output = run(&["sh", "make.sh"]);
    let created = [
        "bdr: outside of the project · undo: bdr undo",
        "bdr:   ~/.config/app/new created",
    ];
    assert_eq!(stderr(&output).lines().collect::<Vec<_>>(), created);
    place.run(&["undo", "--yes"], 0);
    let output = run(&["rm", bashrc]);
    assert!(outside(&output).is_empty(), "{}", stderr(&output));
    place.run(&["undo", "--yes"], 0);
    let output = run(&["sh", "-c", "rm fix.sh"]);
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn an_agent_hears_what_its_command_changed_elsewhere() {
    let place = world();
    let bashrc = place.path("home/.bashrc");
    let hook = |name: &str, tool: &str, call: &str, input: &Value| {
        let event = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": name,
            "tool_name": tool, "tool_use_id": call, "tool_input": input});
        let mut command = place.bdr(&["hook", "claude"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("BDR_BACKGROUND", "0");
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(event.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let line = json!({"command": format!("sh fix.sh {}", bashrc.display())});
    assert_eq!(hook("PreToolUse", "Bash", "1", &line), "");
    let ran = Command::new("sh")
        .args(["-c", "echo more >> \"$HOME/.bashrc\""])
        .env("HOME", place.path("home"))
        .status();
    assert!(ran.unwrap().success());
    let said = hook("PostToolUse", "Bash", "1", &line);
    assert!(
        said.contains("outside of the project: ~/.bashrc changed; undo with `bdr undo "),
        "{said}"
    );
    // It asked for that file.
    let edit = json!({"file_path": bashrc});
    assert_eq!(hook("PreToolUse", "Edit", "2", &edit), "");
    std::fs::write(&bashrc, "edited\n").unwrap();
    assert_eq!(hook("PostToolUse", "Edit", "2", &edit), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_session_says_at_its_end_where_its_commands_changed_something_elsewhere() {
    let place = world();
    let mut trial = place.bdr(&["guard", "--capture", "only", "--", "rm", "-f", "none"]);
    let trial = trial.env("BDR_BACKGROUND", "0").output().unwrap();
    if stderr(&trial).contains("cannot be captured here") {
        println!("SKIPPED: system calls cannot be captured on this machine");
        return;
    }
    // An agent writes its own configuration all the time; a command that it starts should not.
    let agent = place.path("claude");
    let script = "#!/bin/sh\necho '{}' > \"$HOME/.claude.json\"\nsh -c \"$1\"\n";
    std::fs::write(&agent, script).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&agent, open).unwrap();
    let agent = agent.to_str().unwrap();
    let output = guard(&place, &["guard", "--session", "--", agent, "rm inside"]);
    assert!(outside(&output).is_empty(), "{}", stderr(&output));
    place.write("inside", b"1");
    let output = guard(
        &place,
        &["guard", "--session", "--", agent, "sh fix.sh; true"],
    );
    assert_eq!(
        outside(&output),
        [
            "bdr: outside of the project",
            "bdr:   ~/.claude.json changed (configuration of an agent)",
            "bdr:   ~/work/other/src.c deleted (another repository)",
            "bdr:   ~/.bashrc changed",
            "bdr:   ~/.config/app: 2 created",
            "bdr:   ~/notes/one changed",
        ],
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_project_that_is_deleted_around_the_command_is_not_outside() {
    let place = world();
    std::fs::create_dir_all(place.tree().join("sub")).unwrap();
    let git = Command::new("git")
        .args(["init", "-q"])
        .current_dir(place.tree())
        .status();
    assert!(git.unwrap().success());
    let line = "cd ..; find . -mindepth 1 -delete";
    let mut command = place.bdr(&["guard", "--capture", "off", "--", "sh", "-c", line]);
    command
        .current_dir(place.tree().join("sub"))
        .env("BDR_BACKGROUND", "0");
    let output = command.output().unwrap();
    assert!(!place.tree().join("inside").exists(), "{}", stderr(&output));
    assert!(outside(&output).is_empty(), "{}", stderr(&output));
}
