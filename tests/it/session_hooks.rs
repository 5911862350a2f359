//! Agents and shells that are started as a captured session: what that writes into start-up files, and
//! what real shells do with it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::Place;
use crate::support::cli::stderr;

/// Everything below HOME: mode and content.
fn picture(place: &Place) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let home = place.path("home");
    let all = walkdir::WalkDir::new(&home).into_iter().map(Result::unwrap);
    let one = |entry: walkdir::DirEntry| {
        let meta = entry.metadata().unwrap();
        let content = match meta.is_file() {
            true => std::fs::read(entry.path()).unwrap(),
            false => Vec::new(),
        };
        (entry.into_path(), (meta.permissions().mode(), content))
    };
    all.map(one).collect()
}

fn with_shells(rc: Option<&str>) -> Place {
    let place = Place::with_repository();
    place.init();
    for file in [".bashrc", ".zshrc"] {
        if let Some(rc) = rc {
            std::fs::write(place.path("home").join(file), rc).unwrap();
        }
    }
    std::fs::create_dir_all(place.path("home/.config/fish")).unwrap();
    place
}

/// All orders of three.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

#[test]
fn parts_of_one_file_come_and_go_in_any_order_without_a_trace() {
    let install: [&[&str]; 3] = [&["bash"], &["claude", "--session"], &["codex", "--session"]];
    let uninstall = ["bash", "claude", "codex-session"];
    for rc in [
        Some("last line without end"),
        Some("set -o vi\r\n"),
        Some(""),
        None,
    ] {
        for (number, out) in ORDERS.iter().enumerate() {
            let place = with_shells(rc);
            let before = picture(&place);
            for one in ORDERS[(number * 5 + 2) % 6] {
                let mut bash = place.bdr(&["hooks", "install"]);
                let output = bash.args(install[one]).env("SHELL", "/bin/bash").output();
                let output = output.unwrap();
                assert!(output.status.success(), "{}", stderr(&output));
            }
            let text = std::fs::read_to_string(place.path("home/.bashrc")).unwrap();
            assert_eq!(text.matches("# >>> bdr").count(), 3, "{text}");
            place.run(&["hooks", "status"], 0);
            for one in out {
                place.run(&["hooks", "uninstall", uninstall[*one]], 0);
            }
            assert_eq!(picture(&place), before, "{rc:?} {out:?}");
        }
        // All with one command, which plans them before it writes.
        let place = with_shells(rc);
        let before = picture(&place);
        let all = ["hooks", "install", "shell", "claude", "codex", "--session"];
        let output = place.bdr(&all).env("SHELL", "/bin/bash").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = std::fs::read_to_string(place.path("home/.bashrc")).unwrap();
        assert_eq!(text.matches("# >>> bdr").count(), 3, "{text}");
        let status = place.json(&["hooks", "status"]);
        let targets = status["files"].as_array().unwrap().iter();
        let sessions = targets
            .filter(|one| one["target"] == "claude-session")
            .count();
        assert_eq!(sessions, if rc.is_some() { 3 } else { 2 }, "{status}");
        // Once is enough.
        let with = picture(&place);
        place.bdr(&all).env("SHELL", "/bin/bash").output().unwrap();
        assert_eq!(picture(&place), with);
        place.run(&["hooks", "uninstall", "all"], 0);
        assert_eq!(picture(&place), before, "{rc:?}");
    }
}

#[test]
fn what_cannot_be_a_session_is_refused() {
    let place = with_shells(Some(""));
    let before = picture(&place);
    for args in [
        &["hooks", "install", "git", "--session"][..],
        &["hooks", "install", "claude", "--session", "--project", "."],
    ] {
        place.run(args, 2);
        assert_eq!(picture(&place), before, "{args:?}");
    }
    let off = place.bdr(&["shell", "session"]).env("BDR", "0").output();
    let off = off.unwrap();
    assert_eq!(off.status.code(), Some(2), "{}", stderr(&off));
    let none = place
        .bdr(&["shell", "session"])
        .env("PATH", "/none")
        .output();
    let none = none.unwrap();
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert!(
        stderr(&none).contains("cannot be captured here"),
        "{}",
        stderr(&none)
    );
}

fn has(program: &str) -> bool {
    let mut version = Command::new(program);
    let found = version.arg("--version").stdout(Stdio::null());
    let found = found.status().is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: no {program}");
    }
    found
}

/// An agent that does what its arguments say, where programs are found.
fn agent(place: &Place) -> std::ffi::OsString {
    let dir = place.path("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("claude");
    std::fs::write(&file, "#!/bin/sh\nsh -c \"$*\"\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", dir.display()).into()
}

fn captures(place: &Place) -> bool {
    let mut guard = place.bdr(&["guard", "--capture", "only", "--", "rm", "-f", "none"]);
    let output = guard.env("BDR_BACKGROUND", "0").output().unwrap();
    let refused = stderr(&output).contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls cannot be captured on this machine");
    }
    !refused
}

#[test]
fn each_shell_starts_the_agent_as_a_session_and_as_ever_without_bdr() {
    let place = with_shells(Some(""));
    if !captures(&place) {
        return;
    }
    let program = place.path("program");
    std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &program).unwrap();
    let path = agent(&place);
    let mut install = Command::new(&program);
    let like = place.bdr(&[]);
    install
        .args(["hooks", "install", "claude", "--session"])
        .env_clear();
    install.envs(
        like.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    assert!(
        install
            .current_dir(place.tree())
            .status()
            .unwrap()
            .success()
    );
    let shells: Vec<&str> = ["bash", "zsh", "fish"]
        .into_iter()
        .filter(|shell| has(shell))
        .collect();
    let run = |shell: &str, off: bool| {
        place.write("a", b"precious");
        let like = place.bdr(&[]);
        let mut command = Command::new(shell);
        command.args(["-i", "-c", "claude 'rm a'"]).env_clear();
        command.envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
            .env("PATH", &path)
            .env("BDR_BACKGROUND", "0")
            .env("TERM", "dumb");
        if off {
            command.env("BDR", "0");
        }
        let output = command
            .current_dir(place.tree())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            !place.tree().join("a").exists(),
            "{shell}: {}",
            stderr(&output)
        );
    };
    let count = || place.json(&["log", "-n", "0"])["total"].as_u64().unwrap();
    for shell in &shells {
        run(shell, false);
        let shown = place.json(&["show"]);
        assert_eq!(shown["protection"]["by"], "capture", "{shell}: {shown}");
        place.run(&["undo", "--yes"], 0);
        assert!(place.tree().join("a").exists(), "{shell}");
        let before = count();
        run(shell, true);
        assert_eq!(count(), before, "{shell}: BDR=0");
    }
    // Without it, the agent still starts.
    std::fs::remove_file(&program).unwrap();
    for shell in &shells {
        let before = count();
        run(shell, false);
        assert_eq!(count(), before, "{shell}: without bdr");
    }
}

#[test]
fn a_shell_of_ones_own_is_a_session_and_there_is_none_in_another() {
    let place = with_shells(Some(""));
    if !captures(&place) {
        return;
    }
    place.write("a", b"precious");
    let run = |line: &str, args: &[&str]| {
        let mut command = place.bdr(args);
        command.env("SHELL", "/bin/sh").env("BDR_BACKGROUND", "0");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, line.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let line = format!("rm a\n\"{bdr}\" shell session\necho \"it was $?\"\n");
    let output = run(&line, &["shell", "session"]);
    let said = stderr(&output);
    assert!(said.contains("in a captured session already"), "{said}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "it was 2",
        "{said}"
    );
    assert!(!place.tree().join("a").exists(), "{said}");
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"precious");
}

#[test]
fn an_agent_in_a_session_hears_once_what_each_of_its_tools_did() {
    let place = with_shells(Some("before\n"));
    if !captures(&place) {
        return;
    }
    place.write("inside", b"1");
    place.write("fix.sh", b"rm inside; echo x >> \"$HOME/.bashrc\"\n");
    for name in ["PreToolUse", "PostToolUse"] {
        let event = serde_json::json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": name,
            "tool_name": "Bash", "tool_use_id": "1", "tool_input": {"command": "sh fix.sh"}});
        std::fs::write(place.path(name), event.to_string()).unwrap();
    }
    let script = "#!/bin/sh\n\
        \"$PROGRAM\" hook claude < ../PreToolUse > \"$HOME/.cache/before\"\n\
        sh -c 'sh fix.sh; true'\n\
        \"$PROGRAM\" hook claude < ../PostToolUse > \"$HOME/.cache/after\"\n\
        \"$PROGRAM\" hook claude < ../PostToolUse > \"$HOME/.cache/again\"\n";
    // What is written there is nothing to tell.
    std::fs::create_dir(place.path("home/.cache")).unwrap();
    agent(&place);
    std::fs::write(place.path("bin/claude"), script).unwrap();
    let mut guard = place.bdr(&["guard", "--session", "--"]);
    guard.arg(place.path("bin/claude"));
    guard
        .env("PROGRAM", env!("CARGO_BIN_EXE_bdr"))
        .env("BDR_BACKGROUND", "0");
    let output = guard.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cache = place.path("home/.cache");
    let said = |name: &str| std::fs::read_to_string(cache.join(name)).unwrap();
    assert_eq!(said("before"), "");
    let after = said("after");
    for part in [
        "1 file deleted (1 B), 1 file changed; ",
        "outside of the project: ~/.bashrc changed; undo with `bdr undo ",
    ] {
        assert!(after.contains(part), "{after}");
    }
    assert_eq!(said("again"), "");
    // The command that it names does that, and nothing else.
    let (_, id) = after.split_once("`bdr undo ").unwrap();
    let (id, _) = id.split_once('`').unwrap();
    place.run(&["undo", id, "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("inside")).unwrap(), b"1");
    let rc = std::fs::read(place.path("home/.bashrc")).unwrap();
    assert_eq!(rc, b"before\n");
}
