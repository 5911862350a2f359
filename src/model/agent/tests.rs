use super::event::MAX_NAME;
use super::*;

fn event(text: &str) -> Event {
    Event::parse(text.as_bytes()).unwrap().unwrap()
}

fn line(text: &str) -> Tool {
    Tool::Line {
        text: text.to_owned(),
        powershell: false,
        means: String::new(),
    }
}

#[test]
fn claude_events() {
    let before = event(
        r#"{"session_id":"abc123","prompt_id":"550e","transcript_path":"/t.jsonl","cwd":"/home/u/p","permission_mode":"default",
        "hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"npm test","description":"Run","timeout":120000,"run_in_background":false},
        "tool_use_id":"toolu_01","agent_id":"a1","effort":{"level":3},"invented_tomorrow":[1,{"x":null}]}"#,
    );
    let expected = Event {
        moment: Moment::Before,
        name: "PreToolUse".into(),
        session: Some("abc123".into()),
        call: Some("toolu_01".into()),
        cwd: Some("/home/u/p".into()),
        tool_name: "Bash".into(),
        tool: line("npm test"),
        background: false,
        exit: None,
        jobs: Vec::new(),
    };
    assert_eq!(before, expected);
    let failed = event(
        r#"{"session_id":"abc123","cwd":"/p","hook_event_name":"PostToolUseFailure","tool_name":"Bash","tool_input":{"command":"make"},
        "tool_use_id":"toolu_01","error":"Exit code 2\nmake: *** no rule","is_interrupt":false,"duration_ms":4}"#,
    );
    assert_eq!((failed.moment, failed.exit), (Moment::After, Some(2)));
    let moved = event(
        r#"{"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"make"},"tool_response":{"stdout":"","backgroundTaskId":"b1"}}"#,
    );
    assert!(moved.background);
    let asked = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"make","run_in_background":true}}"#,
    );
    assert!(asked.background);
    for (tool_name, input, expected) in [
        (
            "Write",
            r#"{"file_path":"/p/a","content":"x"}"#,
            vec!["/p/a"],
        ),
        (
            "Edit",
            r#"{"file_path":"/p/a","old_string":"x","new_string":"y"}"#,
            vec!["/p/a"],
        ),
        (
            "MultiEdit",
            r#"{"file_path":"/p/a","edits":[{"old_string":"x"}]}"#,
            vec!["/p/a"],
        ),
        (
            "NotebookEdit",
            r#"{"notebook_path":"/p/n.ipynb","cell_id":"1"}"#,
            vec!["/p/n.ipynb"],
        ),
        ("Write", r#"{"content":"x"}"#, vec![]),
        ("Write", r#"{"file_path":7}"#, vec![]),
    ] {
        let text = format!(
            r#"{{"hook_event_name":"PreToolUse","tool_name":"{tool_name}","tool_input":{input}}}"#
        );
        let paths = expected.into_iter().map(PathBuf::from).collect();
        assert_eq!(event(&text).tool, Tool::Files(paths), "{text}");
    }
    let mcp = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"mcp__release__deploy_application","tool_input":{"projectPath":"/srv/app","environment":"dev","n":1,"more":["/x","y"]}}"#,
    );
    assert_eq!(mcp.tool, mcp_tool(&["/x", "/srv/app"]));
    let power = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"PowerShell","tool_input":{"command":"ls"}}"#,
    );
    assert!(matches!(
        power.tool,
        Tool::Line {
            powershell: true,
            ..
        }
    ));
    for read in ["Read", "Glob", "Grep", "WebFetch", "Task", "TodoWrite", ""] {
        let text = format!(
            r#"{{"hook_event_name":"PreToolUse","tool_name":"{read}","tool_input":{{"file_path":"/p/a"}}}}"#
        );
        assert_eq!(event(&text).tool, Tool::Unguarded, "{read}");
    }
    let moment = |name: &str| event(&format!(r#"{{"hook_event_name":"{name}"}}"#)).moment;
    assert_eq!(moment("UserPromptSubmit"), Moment::Prompt);
    assert_eq!(moment("SessionEnd"), Moment::SessionEnd);
    assert_eq!(moment("PermissionDenied"), Moment::After);
    for other in [
        "SessionStart",
        "Stop",
        "Notification",
        "PreCompact",
        "InventedTomorrow",
    ] {
        assert_eq!(moment(other), Moment::Other, "{other}");
    }
}

fn mcp_tool(paths: &[&str]) -> Tool {
    Tool::Mcp {
        paths: paths.iter().map(PathBuf::from).collect(),
        writes: false,
    }
}

#[test]
fn tools_of_servers_are_shells_if_they_are_given_a_command() {
    let tool = |name: &str, input: &str| {
        event(&format!(
            r#"{{"hook_event_name":"PreToolUse","tool_name":"{name}","tool_input":{input}}}"#
        ))
        .tool
    };
    assert_eq!(
        tool(
            "mcp__desktop__start_process",
            r#"{"command":"rm -rf x","timeout_ms":1}"#
        ),
        line("rm -rf x")
    );
    let words = ["rm", "-rf", "x y"].map(str::to_owned).to_vec();
    assert_eq!(
        tool("mcp__any__run", r#"{"command":"rm","args":["-rf","x y"]}"#),
        Tool::Argv(words)
    );
    for (statement, changes) in [
        ("DELETE FROM t", true),
        ("select 1; drop table t", true),
        ("-- tidy up\\n  UPDATE t SET a = 1", true),
        ("WITH old AS (SELECT 1) DELETE FROM t", true),
        ("PRAGMA journal_mode = DELETE", true),
        ("SELECT * FROM deleted", false),
        ("WITH a AS (SELECT 1) SELECT * FROM a", false),
        ("EXPLAIN SELECT 1", false),
        ("how do I remove a file", false),
    ] {
        for member in ["sql", "query"] {
            let found = tool("mcp__db__run", &format!(r#"{{"{member}":"{statement}"}}"#));
            let writes = matches!(found, Tool::Mcp { writes: true, .. });
            assert_eq!(writes, changes, "{statement}");
        }
    }
}

#[test]
fn codex_events() {
    let call = event(
        r#"{"cwd":"/p","hook_event_name":"PreToolUse","model":"m","permission_mode":"default","session_id":"s","tool_name":"Bash",
        "tool_input":{"command":"rm x"},"tool_use_id":"call_1","transcript_path":null,"turn_id":"t"}"#,
    );
    assert_eq!(call.tool, line("rm x"));
    let argv = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"shell","cwd":"/p","tool_input":{"command":["bash","-lc","rm x"],"workdir":"sub"}}"#,
    );
    let words = ["bash", "-lc", "rm x"].map(str::to_owned).to_vec();
    assert_eq!(argv.tool, Tool::Argv(words));
    assert_eq!(argv.cwd, Some("/p/sub".into()));
    let patch = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"apply_patch","tool_input":{"command":"*** Begin Patch\n*** Update File: src/a.rs\n*** Move to: src/b.rs\n@@\n-x\n*** Delete File: old name\n*** Add File: new\n+y\n*** End Patch"}}"#,
    );
    let files = ["src/a.rs", "src/b.rs", "old name", "new"].map(PathBuf::from);
    assert_eq!(patch.tool, Tool::Files(files.to_vec()));
    let odd = event(
        r#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":[1,2]}}"#,
    );
    assert_eq!(odd.tool, Tool::Argv(Vec::new()));
}

#[test]
fn gemini_events() {
    let before = event(
        r#"{"session_id":"g","transcript_path":"","cwd":"/p","hook_event_name":"BeforeTool","timestamp":"2026-11-23T00:00:00Z",
        "tool_name":"run_shell_command","tool_input":{"command":"git clean -fdx","directory":"lib"}}"#,
    );
    assert_eq!(before.moment, Moment::Before);
    assert_eq!(before.tool, line("git clean -fdx"));
    assert_eq!(before.cwd, Some("/p/lib".into()));
    assert_eq!(before.call, None);
    let after = event(
        r#"{"hook_event_name":"AfterTool","tool_name":"replace","tool_input":{"file_path":"/p/a"},"tool_response":{"llmContent":"ok","returnDisplay":""}}"#,
    );
    assert_eq!(after.moment, Moment::After);
    assert_eq!(after.tool, Tool::Files(vec!["/p/a".into()]));
    let mcp =
        r#"{"hook_event_name":"BeforeTool","tool_name":"mcp_files_delete_all","tool_input":{}}"#;
    assert_eq!(event(mcp).tool, mcp_tool(&[]));
}

#[test]
fn cursor_events() {
    let before = event(
        r#"{"hook_event_name":"beforeShellExecution","conversation_id":"c","generation_id":"g","workspace_roots":["/p"],"cursor_version":"2.0.77",
        "command":"rm -rf build","cwd":""}"#,
    );
    assert_eq!(before.moment, Moment::Before);
    assert_eq!(before.tool, line("rm -rf build"));
    assert_eq!(
        (before.cwd, before.tool_name.as_str()),
        (Some("/p".into()), "Shell")
    );
    assert_eq!(before.session.as_deref(), Some("c"));
    let after = event(
        r#"{"hook_event_name":"afterShellExecution","conversation_id":"c","command":"rm -rf build","cwd":"/p","output":"","duration":150}"#,
    );
    assert_eq!(
        (after.moment, after.tool),
        (Moment::After, line("rm -rf build"))
    );
    let mcp = event(
        r#"{"hook_event_name":"beforeMCPExecution","tool_name":"unregister_mcp_server","tool_input":"{\"path\":\"/p/.mcp.json\"}"}"#,
    );
    assert_eq!(mcp.tool, mcp_tool(&["/p/.mcp.json"]));
    let edited = event(
        r#"{"hook_event_name":"afterFileEdit","file_path":"/p/a","edits":[{"old_string":"x"}]}"#,
    );
    assert_eq!(
        (edited.moment, edited.tool),
        (Moment::After, Tool::Files(vec!["/p/a".into()]))
    );
    let general = event(
        r#"{"hook_event_name":"preToolUse","tool_name":"Shell","tool_input":{"command":"make"},"tool_use_id":"u"}"#,
    );
    assert_eq!(
        (general.moment, general.tool),
        (Moment::Before, line("make"))
    );
    assert_eq!(
        event(r#"{"hook_event_name":"beforeReadFile","file_path":"/p/a"}"#).moment,
        Moment::Other
    );
}

#[test]
fn copilot_events_are_told_apart_by_what_they_hold() {
    let before = event(
        r#"{"timestamp":1704614600000,"cwd":"/p","toolName":"bash","toolArgs":"{\"command\":\"rm -rf dist\",\"description\":\"clean\"}"}"#,
    );
    assert_eq!(
        (before.moment, before.tool),
        (Moment::Before, line("rm -rf dist"))
    );
    let object = event(r#"{"cwd":"/p","toolName":"bash","toolArgs":{"command":"ls"}}"#);
    assert_eq!(object.tool, line("ls"));
    let bare = event(r#"{"cwd":"/p","toolName":"bash","toolArgs":"rm -rf dist"}"#);
    assert_eq!(bare.tool, line("rm -rf dist"));
    let after = event(
        r#"{"cwd":"/p","toolName":"bash","toolArgs":"{\"command\":\"ls\"}","toolResult":{"resultType":"success","textResultForLlm":"","exitCode":3}}"#,
    );
    assert_eq!((after.moment, after.exit), (Moment::After, Some(3)));
    let file = event(
        r#"{"cwd":"/p","toolName":"create","toolArgs":"{\"path\":\"/p/new\",\"file_text\":\"\"}"}"#,
    );
    assert_eq!(file.tool, Tool::Files(vec!["/p/new".into()]));
    assert_eq!(
        event(r#"{"timestamp":1,"cwd":"/p","reason":"complete"}"#).moment,
        Moment::Other
    );
    let code = event(
        r#"{"hookEventName":"PreToolUse","sessionId":"v","tool_name":"runInTerminal","tool_input":{"command":"ls"},"tool_use_id":"t"}"#,
    );
    assert_eq!(
        (code.moment, code.session.as_deref()),
        (Moment::Before, Some("v"))
    );
}

#[test]
fn odd_bytes() {
    assert_eq!(Event::parse(b""), Ok(None));
    assert_eq!(Event::parse(b" \n\t"), Ok(None));
    for bad in [
        &b"{"[..],
        b"[]",
        b"null",
        b"7",
        b"\"x\"",
        b"{\"a\":1} trailing",
        b"rm -rf /",
        b"\xff\xfe",
        b"{\"a\"}",
    ] {
        assert!(Event::parse(bad).is_err(), "{bad:?}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    assert!(Event::parse(deep.as_bytes()).is_err());
    assert_eq!(event("{}").moment, Moment::Other);
    // A member of the wrong type counts as missing.
    let wrong = event(
        r#"{"hook_event_name":"PreToolUse","session_id":7,"tool_use_id":[],"cwd":{},"tool_name":"Bash","tool_input":null}"#,
    );
    assert_eq!((wrong.session, wrong.call, wrong.cwd), (None, None, None));
    assert_eq!(wrong.tool, Tool::Argv(Vec::new()));
    let relative = event(r#"{"hook_event_name":"PreToolUse","cwd":"p","tool_name":"Read"}"#);
    assert_eq!(relative.cwd, None);
    let mark = event("\u{feff}{\"hook_event_name\":\"SessionEnd\"}");
    assert_eq!(mark.moment, Moment::SessionEnd);
    let bytes = b"{\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"rm \xff\xfe\"}}";
    let lossy = Event::parse(bytes).unwrap().unwrap();
    assert_eq!(lossy.tool, line("rm \u{fffd}\u{fffd}"));
    let huge = "x".repeat(5 << 20);
    let text = format!(
        r#"{{"hook_event_name":"PreToolUse","tool_use_id":"{huge}","tool_name":"Bash","tool_input":{{"command":"{huge}"}}}}"#
    );
    let event = event(&text);
    assert_eq!(event.tool, line(&huge));
    assert_eq!(event.call.map(|call| call.len()), Some(MAX_NAME));
    assert_eq!(start_of("añb", 2), "a");
    assert_eq!(start_of("ab", 9), "ab");
}

#[test]
fn damaged_events_are_read_or_refused() {
    let samples = [
        r#"{"session_id":"é","cwd":"/p","hook_event_name":"PreToolUse","tool_name":"apply_patch","tool_input":{"command":["a","*** Add File: x"],"edits":[{"path":"y"}]},"tool_use_id":"t","error":"Exit code 12345678901 x"}"#,
        r#"{"cwd":"/p","toolName":"bash","toolArgs":"{\"command\":\"ls\"}","toolResult":{"exitCode":9999999999999},"workspace_roots":["/é"]}"#,
    ];
    for sample in samples {
        assert!(Event::parse(sample.as_bytes()).unwrap().is_some());
        for i in 0..sample.len() {
            let _ = Event::parse(&sample.as_bytes()[..i]);
            for byte in [b'"', b'{', b']', b'\\', b'7', 0, 0xff] {
                let mut damaged = sample.as_bytes().to_vec();
                damaged[i] = byte;
                let _ = Event::parse(&damaged);
            }
        }
    }
}

#[test]
fn names_of_tools_that_destroy() {
    for (name, is) in [
        ("mcp__release__deploy_application", true),
        ("mcp__mcp-config-manager__unregister_mcp_server", true),
        ("mcp__deployment-release-mcp__monitor_health", false),
        ("mcp__plugin_x_files__Delete_File", true),
        ("mcp_files_remove", true),
        ("MCP:release:rollback_deployment", true),
        ("MCP:delete-things:list", false),
        ("mcp__brain__search", false),
        ("mcp__odd", false),
    ] {
        assert_eq!(destroys(name, TOOL_WORDS), is, "{name}");
    }
    assert!(destroys("mcp__a__frobnicate", ["FROB"]));
    assert!(!destroys("mcp__a__delete", []));
}

/// stdout, stderr, status for each host.
fn replies(name: &str, answer: Answer<'_>) -> Vec<(Host, String, String, u8)> {
    let all = Host::ALL.into_iter().map(|host| {
        let reply = reply(host, name, answer);
        (host, reply.stdout, reply.stderr, reply.status)
    });
    all.collect()
}

#[test]
fn silence_is_each_hosts_own() {
    for (host, stdout, stderr, status) in replies("PreToolUse", Answer::Silence) {
        let expected = if host == Host::Cursor { "{}\n" } else { "" };
        assert_eq!(
            (stdout.as_str(), stderr.as_str(), status),
            (expected, "", 0)
        );
    }
}

#[test]
fn a_refusal_gives_its_reason() {
    let specific = r#"{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny","permissionDecisionReason":"bdr: not run: full"}}"#;
    let expected = [
        (specific, 2),
        (specific, 2),
        (r#"{"decision":"deny","reason":"bdr: not run: full"}"#, 2),
        (
            r#"{"agent_message":"bdr: not run: full","permission":"deny","user_message":"bdr: not run: full"}"#,
            2,
        ),
        (specific, 0),
    ];
    let found = replies("PreToolUse", Answer::Deny("not run: full"));
    for ((host, stdout, stderr, status), (document, code)) in found.into_iter().zip(expected) {
        assert_eq!(stdout, format!("{document}\n"), "{host:?}");
        assert_eq!(
            (stderr.as_str(), status),
            ("bdr: not run: full\n", code),
            "{host:?}"
        );
    }
    let older = reply(Host::Copilot, "", Answer::Deny("no"));
    let document = "{\"permissionDecision\":\"deny\",\"permissionDecisionReason\":\"bdr: no\"}\n";
    assert_eq!((older.stdout.as_str(), older.status), (document, 0));
    let nameless = reply(Host::Claude, "", Answer::Deny("no"));
    assert!(nameless.stdout.contains(r#""hookEventName":"PreToolUse""#));
}

#[test]
fn a_question_is_asked_where_the_host_can() {
    let asks = |host| {
        let reply = reply(host, "PreToolUse", Answer::Ask("full"));
        (reply.stdout.contains("\"ask\""), reply.status)
    };
    assert_eq!(asks(Host::Claude), (true, 0));
    assert_eq!(asks(Host::Cursor), (true, 0));
    assert_eq!(asks(Host::Codex), (false, 2));
    assert_eq!(asks(Host::Gemini), (false, 2));
    assert_eq!(asks(Host::Copilot), (false, 0));
}

#[test]
fn a_loss_reaches_the_agent() {
    let said = |host, name| {
        let reply = reply(host, name, Answer::Lost("312 files deleted"));
        assert_eq!(reply.status, 0);
        (reply.stdout, reply.stderr)
    };
    let context = |name: &str| {
        format!(
            "{{\"hookSpecificOutput\":{{\"additionalContext\":\"bdr: 312 files deleted\",\"hookEventName\":\"{name}\"}}}}\n"
        )
    };
    let plain = "{\"hookSpecificOutput\":{\"additionalContext\":\"bdr: 312 files deleted\",\"hookEventName\":\"PostToolUseFailure\"},\"systemMessage\":\"bdr: 312 files deleted\"}\n";
    assert_eq!(said(Host::Claude, "PostToolUseFailure").0, plain);
    assert_eq!(said(Host::Codex, "PostToolUse").0, context("PostToolUse"));
    assert_eq!(said(Host::Gemini, "AfterTool").0, context("AfterTool"));
    let cursor = "{\"additional_context\":\"bdr: 312 files deleted\"}\n";
    assert_eq!(said(Host::Cursor, "postToolUse").0, cursor);
    // Nobody reads the answer to this event.
    let shell = said(Host::Cursor, "afterShellExecution");
    assert_eq!(
        shell,
        ("{}\n".to_owned(), "bdr: 312 files deleted\n".to_owned())
    );
    let copilot = "{\"additionalContext\":\"bdr: 312 files deleted\"}\n";
    assert_eq!(said(Host::Copilot, "").0, copilot);
    assert_eq!(said(Host::Copilot, "PostToolUse").0, context("PostToolUse"));
}

#[test]
fn a_failure_never_blocks() {
    for (host, stdout, stderr, status) in replies("PreToolUse", Answer::Failed("a\nb")) {
        let silent = if host == Host::Cursor { "{}\n" } else { "" };
        assert_eq!((stdout.as_str(), stderr.as_str()), (silent, "bdr: a b\n"));
        assert_ne!(status, 2, "{host:?}");
    }
    for (host, stdout, stderr, status) in replies("PreToolUse", Answer::Unprotected("no snapshot"))
    {
        assert_eq!(status, 0, "{host:?}");
        assert!(
            !stdout.contains("permission") && !stdout.contains("decision"),
            "{stdout}"
        );
        assert!(
            stdout.contains("no snapshot") || stderr.contains("no snapshot"),
            "{host:?}"
        );
    }
}
