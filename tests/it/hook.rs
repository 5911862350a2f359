//! Hooks of coding agents on the real binary: one process before a tool, one after it, and in between the tool runs without bdr.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::backup::odd_tree;
use crate::incident;
use crate::support::cli::stderr;
use crate::support::terminal::wait_for;
use crate::support::{Place, assert_same, beside_new_objects, picture};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives bytes to a call of bdr.
fn feed(mut command: Command, bytes: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has seen enough closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

fn hook(place: &Place, host: &str, event: &Value) -> Output {
    feed(place.bdr(&["hook", host]), event.to_string().as_bytes())
}

#[track_caller]
fn is_silent(output: &Output) {
    let all = (output.status.code(), stdout(output), stderr(output));
    assert_eq!(all, (Some(0), String::new(), String::new()));
}

fn event(place: &Place, name: &str, call: &str, line: &str) -> Value {
    json!({"session_id": "s1", "transcript_path": "/t", "cwd": place.tree(), "permission_mode": "default",
        "hook_event_name": name, "tool_name": "Bash", "tool_use_id": call, "tool_input": {"command": line}})
}

fn sh(dir: &Path, script: &str) {
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status();
    assert!(status.unwrap().success(), "{script}");
}

/// The whole life of a call: before, the command itself, after.
fn call(place: &Place, id: &str, script: &str) -> Output {
    is_silent(&hook(
        place,
        "claude",
        &event(place, "PreToolUse", id, script),
    ));
    let _ = Command::new("sh")
        .args(["-c", script])
        .current_dir(place.tree())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    hook(place, "claude", &event(place, "PostToolUse", id, script))
}

fn operations(place: &Place) -> Vec<Value> {
    let log = place.json(&["log", "-n", "0"]);
    log["operations"].as_array().unwrap().clone()
}

#[test]
fn what_an_agent_destroys_is_undone_exactly() {
    for script in [
        "rm -rf ./* .[!.]*",
        "rm -rf deep 'empty dir' link plain.txt",
        "mv plain.txt moved; mv deep deeper",
        "> plain.txt; echo more >> big.log",
        "chmod 600 plain.txt; chmod 700 deep; touch -d @5 big.log",
        "rm -rf deep; echo 'a file now' > deep",
        "ln -sf elsewhere link; rm deep/hard",
        "mkdir -p created/by/it; echo 1 > created/by/it/file; rm -rf 'empty dir'",
    ] {
        let place = Place::with_repository();
        odd_tree(&place);
        place.init();
        let before = picture(&place.tree());
        let after = call(&place, "t1", script);
        assert_eq!(after.status.code(), Some(0), "{script}: {}", stderr(&after));
        assert_ne!(before, picture(&place.tree()), "{script}: nothing happened");
        let operation = &operations(&place)[0];
        assert_eq!(operation["finished"], true, "{script}");
        assert_eq!(operation["label"], "claude Bash");
        assert_eq!(operation["argv"], json!([script]));
        place.run(&["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), script);
        place.run(&["redo", "--yes"], 0);
        place.run(&["undo", "--yes"], 0);
        assert_same(
            &before,
            &picture(&place.tree()),
            &format!("{script}: after redo"),
        );
    }
}

#[test]
fn the_agent_hears_what_is_gone_and_how_it_comes_back() {
    let place = Place::with_repository();
    for i in 0..312 {
        place.write(&format!("data/{i}"), b"precious");
    }
    let said = call(&place, "t1", "rm -rf data");
    assert_eq!(said.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
    let short = operations(&place)[0]["short"].as_str().unwrap().to_owned();
    let text = format!("bdr: 312 files deleted (2.4 KiB); undo with `bdr undo {short}`");
    let expected = json!({"systemMessage": text,
        "hookSpecificOutput": {"hookEventName": "PostToolUse", "additionalContext": text}});
    assert_eq!(answer, expected);
    place.run(&["undo", &short, "--yes"], 0);
    assert_eq!(
        std::fs::read_dir(place.tree().join("data"))
            .unwrap()
            .count(),
        312
    );
    // Said once; and nothing where nothing is gone.
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t1", "rm -rf data"),
    ));
    for quiet in [
        "ls data",
        "echo new > made",
        "mv made moved",
        "echo more >> moved",
        "mkdir -p a/b",
    ] {
        is_silent(&call(&place, quiet, quiet));
    }
    let emptied = call(&place, "t9", ": > moved");
    assert!(
        stdout(&emptied).contains("1 file changed; undo with"),
        "{emptied:?}"
    );
}

#[test]
fn files_that_an_agent_writes_come_back() {
    let place = Place::with_repository();
    place.write("notes.md", b"mine");
    let outside = place.path("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("config.json"), "{\"a\": 1}").unwrap();
    let before = (picture(&place.tree()), picture(&outside));
    let edit = |name: &str, id: &str, tool: &str, path: &Path| {
        let event = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": name, "tool_name": tool,
            "tool_use_id": id, "tool_input": {"file_path": path, "content": "x"}});
        is_silent(&hook(&place, "claude", &event));
    };
    for (id, tool, path, content) in [
        ("w1", "Write", place.tree().join("notes.md"), "theirs"),
        ("w2", "Edit", outside.join("config.json"), "{\"a\": 2}"),
        ("w3", "Write", outside.join("new.txt"), "made"),
    ] {
        edit("PreToolUse", id, tool, &path);
        std::fs::write(&path, content).unwrap();
        edit("PostToolUse", id, tool, &path);
    }
    assert_eq!(operations(&place).len(), 3);
    place.run(&["undo", "--last", "3", "--yes"], 0);
    assert_same(&before.0, &picture(&place.tree()), "workspace");
    // The directory itself was not named: its time is not kept.
    let mut after = (before.1, picture(&outside));
    after.0.remove(Path::new(""));
    after.1.remove(Path::new(""));
    assert_same(&after.0, &after.1, "outside");
}

#[test]
fn what_an_agent_discards_in_git_comes_back_with_index_refs_and_stash() {
    for script in [
        "git reset -q --hard HEAD~1",
        "git checkout -q -- . && git clean -q -fdx",
        "git stash clear && git reflog expire --expire=now --all && git gc -q --prune=now",
        "git branch -q -D side; git stash drop -q",
        "git rm -q -rf .",
        "rm -rf .git",
        "cd d && rm -rf ../.git ../a; cd .. && rmdir none",
    ] {
        let place = Place::with_repository();
        incident::repository(&place);
        let before = picture(&place.tree());
        let after = call(&place, "t1", script);
        assert!(stdout(&after).contains("undo with"), "{script}: {after:?}");
        place.run(&["undo", "--yes"], 0);
        let after = beside_new_objects(&before, picture(&place.tree()));
        assert_same(&before, &after, script);
        incident::sh(
            &place,
            "git fsck --no-dangling >/dev/null; git status >/dev/null",
        );
    }
    // What only moves names around in `.git` is not worth a word.
    let place = Place::with_repository();
    incident::repository(&place);
    for quiet in ["git checkout -q -b other", "git add -A", "git tag v1"] {
        is_silent(&call(&place, quiet, quiet));
    }
}

#[test]
fn a_script_that_takes_the_repository_along() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.write("wipe.sh", b"chmod -R u+w ../bdr; rm -rf ../bdr a; true");
    let lifeboat = place.path("lifeboat");
    let run = |args: &[&str], event: &Value| {
        let mut bdr = place.bdr(args);
        bdr.env("BDR_LIFEBOAT", &lifeboat);
        feed(bdr, event.to_string().as_bytes())
    };
    let before = picture(&place.tree());
    let line = "sh wipe.sh";
    is_silent(&run(
        &["hook", "claude"],
        &event(&place, "PreToolUse", "t1", line),
    ));
    sh(&place.tree(), line);
    assert!(!place.path("bdr").exists());
    let after = run(
        &["hook", "claude"],
        &event(&place, "PostToolUse", "t1", line),
    );
    assert!(
        stdout(&after).contains("1 file deleted (1 B); undo with"),
        "{after:?}"
    );
    let undone = run(&["undo", "--yes"], &Value::Null);
    assert_eq!(undone.status.code(), Some(0), "{}", stderr(&undone));
    assert_same(&before, &picture(&place.tree()), "repository taken along");
}

#[test]
fn eight_calls_at_once() {
    let place = Place::with_repository();
    for i in 0..8 {
        place.write(&format!("dir{i}/file"), format!("content {i}").as_bytes());
        place.write(&format!("log{i}.jsonl"), b"{\"n\":1}\n{\"n\":2}\n");
    }
    place.init();
    let before = picture(&place.tree());
    std::thread::scope(|scope| {
        for i in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let script =
                    format!("rm -rf dir{i}; echo x > made{i}; echo '{{\"n\":3}}' >> log{i}.jsonl");
                let after = call(place, &format!("t{i}"), &script);
                assert_eq!(after.status.code(), Some(0), "{}", stderr(&after));
            });
        }
    });
    let all = operations(&place);
    assert_eq!(all.len(), 8);
    assert!(all.iter().all(|operation| operation["finished"] == true));
    assert!(!place.tree().join("dir0").exists());
    // Each has what changed while it ran, its own at least.
    for (i, operation) in all.iter().enumerate() {
        let short = operation["short"].as_str().unwrap();
        let own = operation["argv"][0].as_str().unwrap();
        let show = place.json(&["show", short]);
        let own = own.split([' ', ';']).nth(2).unwrap();
        assert!(
            show["changes"].to_string().contains(own),
            "{i}: {own}: {show}"
        );
    }
    place.run(&["undo", "--last", "8", "--yes"], 0);
    let after = picture(&place.tree());
    let names = |p: &std::collections::BTreeMap<_, _>| p.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    for (path, object) in &before {
        assert_eq!(object.content, after[path].content, "{}", path.display());
    }
}

#[test]
fn first_calls_at_once_make_one_repository() {
    for _ in 0..5 {
        let place = Place::with_repository();
        let lifeboat = place.path("lifeboat");
        for i in 0..8 {
            place.write(&format!("dir{i}/file"), b"x");
        }
        let before = picture(&place.tree());
        let at_once = |name: &str| {
            std::thread::scope(|scope| {
                for i in 0..8 {
                    let mut bdr = place.bdr(&["hook", "claude"]);
                    bdr.env("BDR_LIFEBOAT", &lifeboat);
                    let line = format!("rm -rf dir{i}");
                    let event = event(&place, name, &line, &line);
                    scope.spawn(move || {
                        let output = feed(bdr, event.to_string().as_bytes());
                        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
                    });
                }
            });
        };
        at_once("PreToolUse");
        sh(&place.tree(), "rm -rf dir?");
        at_once("PostToolUse");
        assert_eq!(operations(&place).len(), 8);
        place.run(&["verify", "--level", "full"], 0);
        place.run(&["undo", "--last", "8", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), "all of them");
    }
}

#[test]
fn a_call_that_nobody_closes_can_be_undone_and_is_closed_with_the_session() {
    let place = Place::with_repository();
    place.write("keep", b"1");
    place.write("precious", b"2");
    place.init();
    let before = picture(&place.tree());
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t1", "rm precious; sleep 9"),
    ));
    sh(&place.tree(), "rm precious");
    // Cancelled: no event comes.
    assert_eq!(operations(&place)[0]["finished"], false);
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "cancelled");

    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t2", "rm precious; sleep 9"),
    ));
    sh(&place.tree(), "rm precious");
    let other = json!({"session_id": "s2", "cwd": place.tree(), "hook_event_name": "SessionEnd", "reason": "exit"});
    is_silent(&hook(&place, "claude", &other));
    let prompt = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": "UserPromptSubmit", "prompt": "go on"});
    is_silent(&hook(&place, "claude", &prompt));
    let open = operations(&place)
        .iter()
        .filter(|o| o["finished"] == false)
        .count();
    assert_eq!(
        open, 2,
        "another session, or a call that may still run, was closed"
    );
    // A quarter of an hour later it does not run any more.
    let mut later = place.bdr(&["hook", "claude"]);
    let in_an_hour = crate::support::now() + chrono::TimeDelta::hours(1);
    later.env("BDR_TEST_NOW", in_an_hour.to_rfc3339());
    is_silent(&feed(later, prompt.to_string().as_bytes()));
    assert!(operations(&place).iter().all(|o| o["finished"] == true));
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "closed late");

    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t3", "rm precious &"),
    ));
    let end = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": "SessionEnd", "reason": "exit"});
    is_silent(&hook(&place, "claude", &end));
    assert!(operations(&place).iter().all(|o| o["finished"] == true));
}

#[test]
fn what_runs_on_in_the_background_stays_open() {
    let place = Place::with_repository();
    place.write("precious", b"2");
    place.init();
    let before = picture(&place.tree());
    let mut event = event(&place, "PreToolUse", "t1", "sleep 1; rm precious");
    event["tool_input"]["run_in_background"] = true.into();
    is_silent(&hook(&place, "claude", &event));
    event["hook_event_name"] = "PostToolUse".into();
    is_silent(&hook(&place, "claude", &event));
    sh(&place.tree(), "rm precious");
    assert_eq!(operations(&place)[0]["finished"], false);
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "background");
}

/// What a line of an agent's sends to the background belongs to its call, though its host says that the call is over.
#[cfg(target_os = "linux")]
#[test]
fn what_a_line_leaves_running_belongs_to_its_call() {
    for line in [
        "(JOB) >/dev/null 2>&1 </dev/null & rm -f plain.txt",
        "nohup sh -c 'JOB' >/dev/null 2>&1 </dev/null & rm -f plain.txt",
        "setsid sh -c 'JOB' >/dev/null 2>&1 </dev/null & rm -f plain.txt; exit 3",
        // Nothing in the line says so.
        "sh start.sh; rm -f plain.txt",
    ] {
        let place = Place::with_repository();
        odd_tree(&place);
        let job = "while ! [ -e go ]; do sleep 0.02; done; rm -rf deep go; : > done";
        place.write(
            "start.sh",
            format!("({job}) >/dev/null 2>&1 </dev/null &\n").as_bytes(),
        );
        place.init();
        let before = picture(&place.tree());
        let line = line.replace("JOB", job);
        let said = call(&place, "t1", &line);
        let text = stdout(&said);
        assert!(
            text.contains("still running") && text.contains("bdr undo"),
            "{line}: {said:?}"
        );
        assert_eq!(operations(&place)[0]["state"], "running", "{line}");
        // The end of the session ends no operation that goes on.
        let end = json!({"session_id": "s1", "cwd": place.tree(), "hook_event_name": "SessionEnd", "reason": "exit"});
        is_silent(&hook(&place, "claude", &end));
        assert_eq!(operations(&place)[0]["finished"], false, "{line}");
        place.write("go", b"");
        wait_for("the end of the operation", || {
            operations(&place)[0]["finished"] == true
        });
        assert!(!place.tree().join("deep").exists(), "{line}");
        place.run(&["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), &line);
    }
}

#[test]
fn the_same_call_seen_twice_is_one_operation() {
    let place = Place::with_repository();
    place.write("precious", b"2");
    let before = event(&place, "PreToolUse", "t1", "rm precious");
    for _ in 0..3 {
        is_silent(&hook(&place, "claude", &before));
    }
    sh(&place.tree(), "rm precious");
    let after = event(&place, "PostToolUse", "t1", "rm precious");
    assert!(stdout(&hook(&place, "claude", &after)).contains("1 file deleted"));
    is_silent(&hook(&place, "claude", &after));
    assert_eq!(operations(&place).len(), 1);
}

#[test]
fn a_guard_within_a_hooked_command() {
    let place = Place::with_repository();
    place.write("dir/a", b"1");
    let before = picture(&place.tree());
    // bdr protects what it does itself: one operation.
    let line = "bdr guard -- rm -rf dir";
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t1", line),
    ));
    place.run(&["guard", "--", "rm", "-rf", "dir"], 0);
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t1", line),
    ));
    assert_eq!(operations(&place).len(), 1);
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "guard alone");
    // From within a script: two, and undo takes back either.
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t2", "sh ./script"),
    ));
    place.run(&["guard", "--", "rm", "-rf", "dir"], 0);
    hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t2", "sh ./script"),
    );
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "guard within");
}

#[test]
fn what_cannot_be_protected_is_refused_only_if_it_destroys() {
    let place = Place::with_repository();
    place.write("precious", b"2");
    place.init();
    // A repository that cannot be used.
    let format = place.store().join("format.json");
    let mut permissions = place.store().metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
    std::fs::set_permissions(place.store(), permissions).unwrap();
    std::fs::remove_file(&format).unwrap();
    std::fs::write(&format, "not a repository").unwrap();
    let ask = |line: &str, on_fail: Option<&str>| {
        let mut bdr = place.bdr(&["hook", "claude"]);
        bdr.envs(on_fail.map(|word| ("BDR_GUARD_ON_FAIL", word)));
        let event = event(&place, "PreToolUse", "t1", line);
        let output = feed(bdr, event.to_string().as_bytes());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer, stderr(&output))
    };
    for line in [
        "rm -rf precious",
        "git reset --hard",
        "rm x && git push --force",
    ] {
        let (code, answer, said) = ask(line, None);
        assert_eq!(code, Some(2), "{line}: {said}");
        let specific = &answer["hookSpecificOutput"];
        assert_eq!(specific["permissionDecision"], "deny", "{line}");
        assert_eq!(specific["hookEventName"], "PreToolUse");
        let reason = specific["permissionDecisionReason"].as_str().unwrap();
        assert!(
            reason.starts_with("bdr: not run: no snapshot could be taken: "),
            "{reason}"
        );
        assert!(said.trim() == reason, "{said}");
    }
    for line in [
        "make all",
        "python3 script.py",
        "mkdir new",
        "echo x >> precious",
    ] {
        let (code, answer, said) = ask(line, None);
        assert_eq!(code, Some(0), "{line}: {said}");
        assert!(
            answer["systemMessage"]
                .as_str()
                .unwrap()
                .contains("cannot be undone")
        );
        assert!(answer["hookSpecificOutput"].is_null(), "{line}: {answer}");
    }
    let (code, answer, _) = ask("ls", None);
    assert_eq!((code, answer), (Some(0), Value::Null));
    let (code, answer, _) = ask("rm -rf precious", Some("run"));
    assert_eq!(code, Some(0));
    assert!(answer["systemMessage"].is_string());
    let (code, answer, _) = ask("rm -rf precious", Some("ask"));
    assert_eq!(code, Some(0));
    assert_eq!(answer["hookSpecificOutput"]["permissionDecision"], "ask");
    // After events fail without blocking.
    let after = hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t1", "rm x"),
    );
    assert_eq!(
        (after.status.code(), stdout(&after)),
        (Some(1), String::new())
    );
    assert_eq!(stderr(&after).lines().count(), 1);
}

#[test]
fn a_broken_configuration_stops_only_what_destroys() {
    let place = Place::with_repository();
    std::fs::create_dir_all(place.path("bdr")).unwrap();
    std::fs::write(place.path("bdr/config.toml"), "nonsense =").unwrap();
    let code = |line: &str| {
        let output = hook(&place, "claude", &event(&place, "PreToolUse", "t", line));
        output.status.code().unwrap()
    };
    assert_eq!((code("ls -l"), code("make"), code("rm -rf x")), (0, 0, 2));
}

#[test]
fn bdrs_own_repository_is_not_to_be_deleted() {
    let place = Place::with_repository();
    place.write("a", b"2");
    place.init();
    let store = place.store().display().to_string();
    for on_fail in ["block", "run"] {
        let mut bdr = place.bdr(&["hook", "claude"]);
        bdr.env("BDR_GUARD_ON_FAIL", on_fail);
        let event = event(&place, "PreToolUse", "t1", &format!("rm -rf {store}"));
        let output = feed(bdr, event.to_string().as_bytes());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stdout(&output).contains("\"deny\""));
    }
}

#[test]
fn what_hosts_send_is_never_too_odd() {
    let place = Place::with_repository();
    place.write("a", b"2");
    let huge = json!({"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "h", "cwd": place.tree(),
        "tool_input": {"command": format!("echo {}", "x".repeat(5 << 20))}});
    is_silent(&hook(&place, "claude", &huge));
    // Too long to look into: covered, and the record keeps the beginning.
    assert_eq!(
        operations(&place)[0]["argv"][0].as_str().unwrap().len(),
        4096
    );
    let bytes = |host: &str, bytes: &[u8]| {
        let output = feed(place.bdr(&["hook", host]), bytes);
        (
            output.status.code().unwrap(),
            stdout(&output),
            stderr(&output).lines().count(),
        )
    };
    for host in ["claude", "codex", "gemini", "cursor", "copilot"] {
        let silent = if host == "cursor" { "{}\n" } else { "" };
        for nothing in [
            &b""[..],
            b"\n",
            b"{}",
            b"{\"hook_event_name\":\"Tomorrow\"}",
        ] {
            assert_eq!(bytes(host, nothing), (0, silent.to_owned(), 0), "{host}");
        }
        let (code, out, lines) = bytes(host, b"{\"a\":");
        assert_eq!((out.as_str(), lines), (silent, 1), "{host}");
        assert!(code < 2, "{host}: {code}");
    }
    let lossy = b"{\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"rm \xff\"}}";
    assert_eq!(bytes("claude", lossy), (0, String::new(), 0));
    // Misuse must not look like a refusal.
    assert_eq!(bytes("nobody", b"{}").0, 1);
    let unknown_option = feed(place.bdr(&["hook", "claude", "--no-such"]), b"{}");
    assert_eq!(unknown_option.status.code(), Some(1));
}

#[test]
fn it_can_be_turned_off_and_reading_leaves_no_trace() {
    let place = Place::with_repository();
    place.write("a", b"2");
    let mut off = place.bdr(&["hook", "claude"]);
    off.env("BDR", "0");
    let event_text = event(&place, "PreToolUse", "t1", "rm -rf a").to_string();
    is_silent(&feed(off, event_text.as_bytes()));
    for line in ["ls -la", "git status", "cat a | head -3", "bdr undo --yes"] {
        is_silent(&hook(
            &place,
            "claude",
            &event(&place, "PreToolUse", "t1", line),
        ));
        is_silent(&hook(
            &place,
            "claude",
            &event(&place, "PostToolUse", "t1", line),
        ));
    }
    assert!(
        !place.path("bdr").exists(),
        "a repository was made for nothing"
    );
    // The parser knows shells, not PowerShell: there `@(…)` runs commands.
    let mut power = event(&place, "PreToolUse", "t1", "ls @(rm a)");
    power["tool_name"] = "PowerShell".into();
    is_silent(&hook(&place, "claude", &power));
    assert_eq!(operations(&place).len(), 1);
    // A rule of the user's says otherwise.
    let rules = "[guard]\nrules = [\"my.cat | destructive | cat | | args\"]\n";
    std::fs::write(place.path("bdr/config.toml"), rules).unwrap();
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t2", "cat a"),
    ));
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t2", "cat a"),
    ));
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t3", "ls a"),
    ));
    assert_eq!(operations(&place).len(), 2);
}

#[test]
fn without_arguments_an_event_is_answered_as_claudes() {
    let place = Place::with_repository();
    place.write("dir/a", b"2");
    let before = picture(&place.tree());
    let pre = event(&place, "PreToolUse", "t1", "rm -rf dir").to_string();
    is_silent(&feed(place.bdr(&[]), pre.as_bytes()));
    sh(&place.tree(), "rm -rf dir");
    let post = event(&place, "PostToolUse", "t1", "rm -rf dir").to_string();
    assert!(stdout(&feed(place.bdr(&[]), format!(" \n{post}").as_bytes())).contains("undo with"));
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "no arguments");
    for nothing in [&b""[..], b"hello"] {
        let help = feed(place.bdr(&[]), nothing);
        assert_eq!(help.status.code(), Some(2));
        assert!(stderr(&help).contains("Usage: bdr"));
    }
}

#[test]
fn every_host_is_served() {
    let run = |host: &str, before: &dyn Fn(&Place) -> Value, after: &dyn Fn(&Place) -> Value| {
        let place = Place::with_repository();
        place.write("dir/a", b"2");
        let tree = picture(&place.tree());
        let allowed = hook(&place, host, &before(&place));
        let silent = if host == "cursor" { "{}\n" } else { "" };
        assert_eq!(stdout(&allowed), silent, "{host}: {}", stderr(&allowed));
        sh(&place.tree(), "rm -rf dir");
        let said = hook(&place, host, &after(&place));
        assert_eq!(said.status.code(), Some(0), "{host}: {}", stderr(&said));
        let all = stdout(&said) + &stderr(&said);
        assert!(
            all.contains("1 file deleted (1 B); undo with `bdr undo "),
            "{host}: {all}"
        );
        let operation = &operations(&place)[0];
        assert_eq!(operation["finished"], true, "{host}");
        place.run(&["undo", "--yes"], 0);
        assert_same(&tree, &picture(&place.tree()), host);
    };
    let codex = |name: &'static str| {
        move |p: &Place| {
            json!({"cwd": p.tree(), "hook_event_name": name, "model": "m", "permission_mode": "default", "session_id": "s", "turn_id": "1",
            "tool_name": "Bash", "tool_input": {"command": "rm -rf dir"}, "tool_use_id": "c1", "transcript_path": null, "tool_response": "ok"})
        }
    };
    run("codex", &codex("PreToolUse"), &codex("PostToolUse"));
    let gemini = |name: &'static str| {
        move |p: &Place| {
            json!({"session_id": "g", "cwd": p.tree(), "hook_event_name": name, "timestamp": "x", "tool_name": "run_shell_command",
            "tool_input": {"command": "rm -rf dir"}, "tool_response": {"llmContent": "ok"}})
        }
    };
    run("gemini", &gemini("BeforeTool"), &gemini("AfterTool"));
    let cursor = |name: &'static str| {
        move |p: &Place| {
            json!({"hook_event_name": name, "conversation_id": "c", "generation_id": "g", "workspace_roots": [p.tree()],
            "cursor_version": "2.0", "command": "rm -rf dir", "cwd": ""})
        }
    };
    run(
        "cursor",
        &cursor("beforeShellExecution"),
        &cursor("afterShellExecution"),
    );
    let copilot = |result: Value| {
        move |p: &Place| {
            let mut event = json!({"timestamp": 1, "cwd": p.tree(), "toolName": "bash", "toolArgs": "{\"command\":\"rm -rf dir\"}"});
            if !result.is_null() {
                event["toolResult"] = result.clone();
            }
            event
        }
    };
    run(
        "copilot",
        &copilot(Value::Null),
        &copilot(json!({"resultType": "success"})),
    );
}

#[test]
fn mcp_tools_that_destroy_are_guarded() {
    let place = Place::with_repository();
    place.write("a", b"2");
    std::fs::write(
        place.path("home/.claude.json"),
        "{\"mcpServers\":{\"x\":{}}}",
    )
    .unwrap();
    let before = (picture(&place.tree()), picture(&place.path("home")));
    let event = |name: &str, tool: &str| {
        json!({"session_id": "s", "cwd": place.tree(), "hook_event_name": name, "tool_name": tool, "tool_use_id": tool,
            "tool_input": {"projectPath": place.tree(), "name": "x"}})
    };
    let listed = "mcp__config__list_servers";
    is_silent(&hook(&place, "claude", &event("PreToolUse", listed)));
    assert!(!place.path("bdr").exists());
    let tool = "mcp__config__unregister_mcp_server";
    is_silent(&hook(&place, "claude", &event("PreToolUse", tool)));
    std::fs::write(place.path("home/.claude.json"), "{\"mcpServers\":{}}").unwrap();
    sh(&place.tree(), "rm a");
    let said = hook(&place, "claude", &event("PostToolUse", tool));
    for part in [
        "1 file deleted (1 B), 1 file changed; ",
        "outside of the project: ~/.claude.json changed (configuration of an agent); undo with",
    ] {
        assert!(stdout(&said).contains(part), "{said:?}");
    }
    assert_eq!(operations(&place)[0]["label"], format!("claude {tool}"));
    place.run(&["undo", "--yes"], 0);
    assert_same(&before.0, &picture(&place.tree()), "workspace");
    assert_same(&before.1, &picture(&place.path("home")), "state below HOME");
    // Which tools these are can be said.
    std::fs::write(
        place.path("bdr/config.toml"),
        "[hooks]\nmcp_tools = [\"list\"]\n",
    )
    .unwrap();
    is_silent(&hook(&place, "claude", &event("PreToolUse", listed)));
    is_silent(&hook(
        &place,
        "claude",
        &event("PreToolUse", "mcp__config__unregister_other"),
    ));
    let labels: Vec<_> = operations(&place)
        .iter()
        .map(|o| o["label"].clone())
        .collect();
    assert_eq!(labels[0], format!("claude {listed}"));
    assert_eq!(labels.len(), 3, "{labels:?}");
}

#[test]
fn the_end_is_found_by_content_where_the_state_files_say_nothing() {
    let place = Place::with_repository();
    odd_tree(&place);
    place.write("settings.json", b"{\n  \"a\": 1,\n  \"b\": 2\n}\n");
    place.init();
    let before = picture(&place.tree());
    let script = "rm -rf deep link; echo 1 > made; chmod 600 plain.txt; printf '{\\n  \"a\": 1\\n}\\n' > settings.json";
    is_silent(&hook(
        &place,
        "claude",
        &event(&place, "PreToolUse", "t1", script),
    ));
    sh(&place.tree(), script);
    std::fs::remove_dir_all(place.path("bdr/cache")).unwrap();
    let after = hook(
        &place,
        "claude",
        &event(&place, "PostToolUse", "t1", script),
    );
    assert!(stdout(&after).contains("deleted"), "{}", stderr(&after));
    let operation = operations(&place)[0].clone();
    assert_eq!(
        (&operation["finished"], &operation["created"]),
        (&json!(true), &json!(1))
    );
    // What changed inside is known too: a later change elsewhere in the file is no conflict.
    std::fs::write(
        place.tree().join("settings.json"),
        "{\n  \"a\": 1,\n  \"c\": 3\n}\n",
    )
    .unwrap();
    place.run(&["undo", "--yes"], 0);
    let merged: Value =
        serde_json::from_slice(&std::fs::read(place.tree().join("settings.json")).unwrap())
            .unwrap();
    assert_eq!(merged, json!({"a": 1, "b": 2, "c": 3}));
    let mut after = picture(&place.tree());
    let mut expected = before;
    for picture in [&mut after, &mut expected] {
        picture.remove(Path::new("settings.json"));
        picture.remove(Path::new(""));
    }
    assert_same(&expected, &after, "by content");
}

#[test]
fn an_agent_hears_before_a_command_that_what_it_destroys_cannot_be_told() {
    let place = Place::with_repository();
    place.write("list", b"a\n");
    let before = |host: &str, call: &str, line: &str| {
        let output = hook(&place, host, &event(&place, "PreToolUse", call, line));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output) + &stderr(&output)
    };
    for host in ["claude", "codex", "gemini", "cursor", "copilot"] {
        let call = format!("of {host}");
        let said = before(host, &call, "rm -f $(cat list)");
        assert!(said.contains("until it runs"), "{host}: {said}");
        assert!(!said.contains("\"deny\""), "{host}: {said}");
        // The same hook may stand in two settings.
        let again = before(host, &call, "rm -f $(cat list)");
        assert!(!again.contains("until it runs"), "{host}: {again}");
        let plain = before(host, &format!("other of {host}"), "cat $(cat list)");
        assert!(!plain.contains("until it runs"), "{host}: {plain}");
    }
    // A shell's line goes on as protected.
    let mut shell = place.bdr(&["hook", "shell", "before", "--shell", "bash", "--session"]);
    shell.args([&std::process::id().to_string(), "--", "rm -rf $(cat list)"]);
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("until it runs"));
    assert_eq!(stderr(&output).lines().count(), 1);
}
