//! What each coding agent reads, and where.
//!
//! Claude Code: <https://code.claude.com/docs/en/hooks>. Codex:
//! <https://developers.openai.com/codex/hooks>. Gemini CLI:
//! <https://geminicli.com/docs/hooks/reference/>. Cursor: <https://cursor.com/docs/agent/hooks>.
//! Copilot: <https://docs.github.com/copilot/reference/hooks-configuration>.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::json::Entry;
use crate::base::path::shell_word;
use crate::model::agent::Host;

/// Seconds that a host waits for a hook.
const PATIENCE: u32 = 30;

/// What a host reads, and where: every difference between hosts except the answers (`model/agent`).
struct Settings {
    /// Its file below HOME; `None` if it only reads the hooks of projects.
    user: Option<&'static str>,
    /// Its file in a project.
    project: &'static str,
    /// The directory below HOME that shows that it is used here.
    home: Option<&'static str>,
    /// Members that it wants next to `hooks`.
    beside: &'static [(&'static str, u32)],
    /// Returns the entries for what it should start.
    entries: fn(&Start<'_>) -> Vec<Entry>,
    /// What its user has to know.
    note: Option<&'static str>,
}

/// What a host should start.
struct Start<'a> {
    program: &'a str,
    /// The same as a shell line, with its arguments.
    line: String,
}

/// Returns the record of a host; a shell has none.
fn settings(host: Host) -> Option<&'static Settings> {
    Some(match host {
        Host::Claude => &Settings {
            user: Some(".claude/settings.json"),
            // The one that is not shared with others, because it names a program of this machine.
            project: ".claude/settings.local.json",
            home: Some(".claude"),
            beside: &[],
            entries: claude,
            note: None,
        },
        Host::Codex => &Settings {
            user: Some(".codex/hooks.json"),
            project: ".codex/hooks.json",
            home: Some(".codex"),
            beside: &[],
            entries: codex,
            note: Some("Codex asks once whether to trust the hook: /hooks"),
        },
        Host::Gemini => &Settings {
            user: Some(".gemini/settings.json"),
            project: ".gemini/settings.json",
            home: Some(".gemini"),
            beside: &[],
            entries: gemini,
            note: None,
        },
        Host::Cursor => &Settings {
            user: Some(".cursor/hooks.json"),
            project: ".cursor/hooks.json",
            home: Some(".cursor"),
            beside: &[("version", 1)],
            entries: cursor,
            note: None,
        },
        Host::Copilot => &Settings {
            user: None,
            project: ".github/hooks/bdr.json",
            home: None,
            beside: &[("version", 1)],
            entries: copilot,
            note: None,
        },
        Host::Shell => return None,
    })
}

fn entry(event: &str, value: Value) -> Entry {
    Entry {
        event: event.to_owned(),
        value,
    }
}

fn claude(start: &Start<'_>) -> Vec<Entry> {
    // Separate arguments: no shell is started, and nothing has to be quoted.
    let handler = json!({"type": "command", "command": start.program, "args": ["hook", "claude"], "timeout": PATIENCE});
    let tools = "^(Bash|PowerShell|Write|Edit|MultiEdit|NotebookEdit|mcp__.*)$";
    // A failed command arrives as PostToolUseFailure.
    let mut all: Vec<Entry> = ["PreToolUse", "PostToolUse", "PostToolUseFailure"]
        .map(|event| entry(event, json!({"matcher": tools, "hooks": [handler]})))
        .into();
    all.push(entry("SessionEnd", json!({"hooks": [handler]})));
    all
}

fn codex(start: &Start<'_>) -> Vec<Entry> {
    let handler = json!({"type": "command", "command": start.line, "timeout": PATIENCE});
    let tools = "Bash|apply_patch|mcp__.*";
    ["PreToolUse", "PostToolUse"]
        .map(|event| entry(event, json!({"matcher": tools, "hooks": [handler]})))
        .into()
}

fn gemini(start: &Start<'_>) -> Vec<Entry> {
    // In milliseconds, here.
    let handler = json!({"type": "command", "name": "bdr", "command": start.line, "timeout": PATIENCE * 1000});
    let tools = "run_shell_command|write_file|replace|mcp_.*";
    ["BeforeTool", "AfterTool"]
        .map(|event| entry(event, json!({"matcher": tools, "hooks": [handler]})))
        .into()
}

fn cursor(start: &Start<'_>) -> Vec<Entry> {
    let mut all: Vec<Entry> = [
        "beforeShellExecution",
        "afterShellExecution",
        "beforeMCPExecution",
        "afterMCPExecution",
        "afterFileEdit",
    ]
    .map(|event| entry(event, json!({"command": start.line})))
    .into();
    let tools = "Write|Edit|StrReplace|Delete";
    all.push(entry(
        "preToolUse",
        json!({"command": start.line, "matcher": tools}),
    ));
    all
}

fn copilot(start: &Start<'_>) -> Vec<Entry> {
    let handler = json!({"type": "command", "bash": start.line, "timeoutSec": PATIENCE});
    ["preToolUse", "postToolUse"]
        .map(|event| entry(event, handler.clone()))
        .into()
}

/// Returns the file that a host reads, for a project or for the user; `None` if it has none there.
pub fn file(host: Host, home: &Path, project: Option<&Path>) -> Option<PathBuf> {
    let settings = settings(host)?;
    match project {
        Some(project) => Some(project.join(settings.project)),
        None => Some(home.join(settings.user?)),
    }
}

/// Returns true if a host only has settings of projects.
pub fn is_of_projects_only(host: Host) -> bool {
    settings(host).is_some_and(|settings| settings.user.is_none())
}

/// Returns the directory that shows that a host is used here.
pub fn home_of(host: Host, home: &Path) -> Option<PathBuf> {
    Some(home.join(settings(host)?.home?))
}

/// Returns the members that a host wants next to `hooks`.
pub fn beside(host: Host) -> Vec<(&'static str, Value)> {
    let beside = settings(host).map_or(&[][..], |settings| settings.beside);
    beside
        .iter()
        .map(|(name, value)| (*name, json!(value)))
        .collect()
}

pub fn entries(host: Host, program: &str) -> Vec<Entry> {
    let line = format!("{} hook {}", shell_word(program), host.word());
    let start = Start { program, line };
    settings(host).map_or_else(Vec::new, |settings| (settings.entries)(&start))
}

/// Returns what the user of a host has to know when bdr is installed there.
pub fn note(host: Host) -> Option<&'static str> {
    settings(host)?.note
}

/// Returns the file of an administrator's settings for a host, which override its own.
pub fn managed(host: Host) -> Option<&'static str> {
    (host == Host::Claude).then_some(match () {
        () if cfg!(windows) => "C:/Program Files/ClaudeCode/managed-settings.json",
        () if cfg!(target_os = "macos") => {
            "/Library/Application Support/ClaudeCode/managed-settings.json"
        }
        () => "/etc/claude-code/managed-settings.json",
    })
}

/// Returns why a host ignores the hooks in its settings, as far as the settings say so.
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
