//! What each coding agent wants to read, and where.
//!
//! Claude Code: <https://code.claude.com/docs/en/hooks>. Codex: <https://developers.openai.com/codex/hooks>. Gemini CLI:
//! <https://geminicli.com/docs/hooks/reference/>. Cursor: <https://cursor.com/docs/agent/hooks>. Copilot:
//! <https://docs.github.com/copilot/reference/hooks-configuration>.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::json::Entry;
use crate::base::path::shell_word;
use crate::model::agent::Host;

/// Seconds that a host waits for a hook.
const PATIENCE: u32 = 30;

/// Returns the file that a host reads, for a project or for the user; `None` if it has none there.
pub fn file(host: Host, home: &Path, project: Option<&Path>) -> Option<PathBuf> {
    Some(match (host, project) {
        (Host::Claude, None) => home.join(".claude/settings.json"),
        // The one that is not shared with others: it names a program of this machine.
        (Host::Claude, Some(project)) => project.join(".claude/settings.local.json"),
        (Host::Codex, None) => home.join(".codex/hooks.json"),
        (Host::Codex, Some(project)) => project.join(".codex/hooks.json"),
        (Host::Gemini, None) => home.join(".gemini/settings.json"),
        (Host::Gemini, Some(project)) => project.join(".gemini/settings.json"),
        (Host::Cursor, None) => home.join(".cursor/hooks.json"),
        (Host::Cursor, Some(project)) => project.join(".cursor/hooks.json"),
        (Host::Copilot, Some(project)) => project.join(".github/hooks/bdr.json"),
        (Host::Copilot, None) | (Host::Shell, _) => return None,
    })
}

/// Returns the directory that says that a host is used here.
pub fn home_of(host: Host, home: &Path) -> Option<PathBuf> {
    Some(home.join(match host {
        Host::Claude => ".claude",
        Host::Codex => ".codex",
        Host::Gemini => ".gemini",
        Host::Cursor => ".cursor",
        Host::Copilot | Host::Shell => return None,
    }))
}

/// Returns the members that a host wants beside `hooks`.
pub fn beside(host: Host) -> Vec<(&'static str, Value)> {
    match host {
        Host::Cursor | Host::Copilot => vec![("version", json!(1))],
        Host::Claude | Host::Codex | Host::Gemini | Host::Shell => Vec::new(),
    }
}

/// Returns the entries for a host.
pub fn entries(host: Host, program: &str) -> Vec<Entry> {
    let line = format!("{} hook {}", shell_word(program), host.word());
    let entry = |event: &str, value: Value| Entry {
        event: event.to_owned(),
        value,
    };
    match host {
        Host::Claude => {
            // The arguments apart: no shell is started, and nothing has to be quoted.
            let handler = json!({"type": "command", "command": program, "args": ["hook", "claude"], "timeout": PATIENCE});
            let tools = "^(Bash|PowerShell|Write|Edit|MultiEdit|NotebookEdit|mcp__.*)$";
            // A command that fails arrives as PostToolUseFailure.
            let mut all: Vec<Entry> = ["PreToolUse", "PostToolUse", "PostToolUseFailure"]
                .map(|event| entry(event, json!({"matcher": tools, "hooks": [handler]})))
                .into();
            all.push(entry("SessionEnd", json!({"hooks": [handler]})));
            all
        }
        Host::Codex => {
            let handler = json!({"type": "command", "command": line, "timeout": PATIENCE});
            ["PreToolUse", "PostToolUse"]
                .map(|event| {
                    entry(
                        event,
                        json!({"matcher": "Bash|apply_patch|mcp__.*", "hooks": [handler]}),
                    )
                })
                .into()
        }
        Host::Gemini => {
            // Milliseconds, here.
            let handler = json!({"type": "command", "name": "bdr", "command": line, "timeout": PATIENCE * 1000});
            let tools = "run_shell_command|write_file|replace|mcp_.*";
            ["BeforeTool", "AfterTool"]
                .map(|event| entry(event, json!({"matcher": tools, "hooks": [handler]})))
                .into()
        }
        Host::Cursor => {
            let mut all: Vec<Entry> = [
                "beforeShellExecution",
                "afterShellExecution",
                "beforeMCPExecution",
                "afterMCPExecution",
                "afterFileEdit",
            ]
            .map(|event| entry(event, json!({"command": line})))
            .into();
            all.push(entry(
                "preToolUse",
                json!({"command": line, "matcher": "Write|Edit|StrReplace|Delete"}),
            ));
            all
        }
        Host::Copilot => ["preToolUse", "postToolUse"]
            .map(|event| {
                entry(
                    event,
                    json!({"type": "command", "bash": line, "timeoutSec": PATIENCE}),
                )
            })
            .into(),
        Host::Shell => Vec::new(),
    }
}

/// Returns why a host will not run what stands in its settings, as far as its settings say so.
pub fn disabled(host: Host, settings: &Value, managed: Option<&Value>) -> Option<&'static str> {
    if host != Host::Claude {
        return None;
    }
    let says = |settings: &Value, name: &str| settings.get(name) == Some(&Value::Bool(true));
    if says(settings, "disableAllHooks") || managed.is_some_and(|m| says(m, "disableAllHooks")) {
        return Some("disableAllHooks is set");
    }
    managed
        .is_some_and(|managed| says(managed, "allowManagedHooksOnly"))
        .then_some("the managed settings allow their own hooks only")
}
