//! What coding agents send to a hook, and how they are answered: bytes in, an event out; an answer in, bytes and a status out.
//!
//! Hosts name the members of an event differently and change them between versions: every known spelling is read from every host, and what is not
//! known is ignored. Only the answer depends on the host. Where nothing is to be said the answer is silence, never "allow", which would skip the
//! questions that the host itself asks.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::base::path::absolute;

/// The host in records of operations by which bdr changes its own set-up.
pub const OWN_HOST: &str = "bdr";
/// The host in records of operations that came by MCP.
pub const MCP_HOST: &str = "mcp";

/// A program that runs hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Cursor.
    Cursor,
    /// Copilot CLI, the Copilot coding agent, VS Code.
    Copilot,
    /// An interactive shell: no agent, but it says before a line and after it as they do.
    Shell,
}

impl Host {
    /// All that are coding agents.
    pub const ALL: [Self; 5] = [
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Cursor,
        Self::Copilot,
    ];

    /// Returns the word used on the command line, in records and for people.
    pub fn word(self) -> &'static str {
        self.manner().word
    }

    /// Returns what a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.word() == word)
    }
}

/// How a host is spoken to: all that differs from one to the next, but for the files that it reads (`install/hooks/agents`).
struct Manner {
    word: &'static str,
    /// What it takes for silence: hosts that ask for JSON take an empty output for a mistake.
    silence: &'static str,
    /// How it hears that a tool runs and cannot be undone, or not all of it.
    warning: Way,
    /// How it hears that something is gone, and how it comes back.
    loss: Way,
    /// How a tool is kept from running.
    refusal: Refusal,
    /// It knows the question whether a tool may run. The others know no question, or take it for a mistake and go on.
    asks: bool,
    /// How a hook ends that let a tool run without a way back, and one that failed.
    unprotected: u8,
    failed: u8,
}

/// How something is said to a host.
#[derive(Clone, Copy)]
enum Way {
    /// To the user.
    Message,
    /// To the agent.
    Context,
    /// To both.
    Both,
    /// To the agent after a tool in general, which takes a document; after anything else on stderr.
    AfterTools,
    /// To the agent, in the form of the event's own name: VS Code calls the events of Copilot as Claude does.
    AsCalled,
    /// On stderr.
    Aloud,
}

/// How a tool is kept from running. Versions that do not read the document go by the status.
#[derive(Clone, Copy)]
enum Refusal {
    /// `hookSpecificOutput`, and the status.
    Specific,
    /// `decision`, and the status.
    Decision,
    /// `permission`, and the status.
    Permission,
    /// As [`Way::AsCalled`]; the status would be taken for a failure.
    AsCalled,
    /// Nothing but this status.
    Status(u8),
}

impl Host {
    /// Returns the record of a host. Another one is a variant, a record here and one in `install/hooks/agents`.
    fn manner(self) -> &'static Manner {
        match self {
            Self::Claude => &Manner {
                word: "claude",
                silence: "",
                warning: Way::Message,
                loss: Way::Both,
                refusal: Refusal::Specific,
                asks: true,
                unprotected: 0,
                failed: FAILED,
            },
            Self::Codex => &Manner {
                word: "codex",
                silence: "",
                warning: Way::Context,
                loss: Way::Context,
                refusal: Refusal::Specific,
                asks: false,
                unprotected: 0,
                failed: FAILED,
            },
            Self::Gemini => &Manner {
                word: "gemini",
                silence: "",
                warning: Way::Message,
                loss: Way::Context,
                refusal: Refusal::Decision,
                asks: false,
                unprotected: 0,
                failed: FAILED,
            },
            Self::Cursor => &Manner {
                word: "cursor",
                silence: "{}\n",
                warning: Way::Aloud,
                loss: Way::AfterTools,
                refusal: Refusal::Permission,
                asks: true,
                unprotected: 0,
                failed: 0,
            },
            Self::Copilot => &Manner {
                word: "copilot",
                silence: "",
                warning: Way::Aloud,
                loss: Way::AsCalled,
                refusal: Refusal::AsCalled,
                asks: false,
                unprotected: 0,
                failed: 0,
            },
            Self::Shell => &Manner {
                word: "shell",
                silence: "",
                warning: Way::Aloud,
                loss: Way::Aloud,
                refusal: Refusal::Status(NOT_PROTECTED),
                asks: false,
                unprotected: FAILED,
                failed: 0,
            },
        }
    }
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A tool is about to run.
    Before,
    /// It ran, failed, or was not allowed to run.
    After,
    /// The user said something.
    Prompt,
    /// The session is over.
    SessionEnd,
    /// Anything else.
    Other,
}

/// What the tool is, and what it is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// A shell, with a line.
    Line {
        /// As the agent wrote it.
        text: String,
        /// It is PowerShell.
        powershell: bool,
        /// What words of it stand for, where somebody knows: lines that come before it.
        means: String,
    },
    /// A program with its arguments.
    Argv(Vec<String>),
    /// It writes files: absolute, or relative to where the session is.
    Files(Vec<PathBuf>),
    /// A tool of an MCP server.
    Mcp {
        /// The absolute paths among its arguments.
        paths: Vec<PathBuf>,
        /// An argument is a statement for a database that changes something, whatever the tool is called.
        writes: bool,
    },
    /// It only looks, or is not known.
    Unguarded,
}

/// What a host tells a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub moment: Moment,
    /// The event as the host calls it; empty if it does not.
    pub name: String,
    /// The session.
    pub session: Option<String>,
    /// The call of the tool, the same before and after.
    pub call: Option<String>,
    /// Where the tool runs.
    pub cwd: Option<PathBuf>,
    /// The tool as the host calls it.
    pub tool_name: String,
    /// The tool.
    pub tool: Tool,
    /// It goes on running after the event that says it is over.
    pub background: bool,
    /// Exit status, where it is told.
    pub exit: Option<i32>,
    /// Processes that a shell has in the background.
    pub jobs: Vec<u32>,
}

/// A call of a tool, as the operation log keeps it: what happens after it finds the operation that began before it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentCall {
    /// Which program ([`Host::word`]).
    pub host: String,
    /// Its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The tool.
    pub tool: String,
    /// It goes on running after the host has said that it is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// Words in the names of MCP tools that destroy, unless the configuration has others.
pub const TOOL_WORDS: [&str; 24] = [
    "delete",
    "remove",
    "uninstall",
    "unregister",
    "deploy",
    "rollback",
    "reset",
    "purge",
    "prune",
    "drop",
    "destroy",
    "wipe",
    "clear",
    "clean",
    "truncate",
    "overwrite",
    "replace",
    "restore",
    "migrate",
    "sync_",
    "write_file",
    "edit_file",
    "move_file",
    "execute",
];

/// Names are kept up to so many bytes in records.
const MAX_NAME: usize = 256;
/// Paths that are looked for among the arguments of an MCP tool.
const MAX_PATHS: usize = 64;

/// Returns true if one of `words` is in the name of an MCP tool; the name of its server does not count.
pub fn destroys<'w>(tool_name: &str, words: impl IntoIterator<Item = &'w str>) -> bool {
    let name = tool_name.to_ascii_lowercase();
    let own = match name.strip_prefix("mcp__") {
        Some(rest) => rest.split_once("__").map_or(rest, |(_, tool)| tool),
        None => name.rsplit(':').next().unwrap_or_default(),
    };
    words
        .into_iter()
        .any(|word| own.contains(&word.to_ascii_lowercase()))
}

impl Event {
    /// Reads an event; `None` if there is nothing at all.
    ///
    /// # Errors
    /// It is not a JSON object; says why.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // What is not UTF-8 stands in a command or a path; the rest of the event counts all the same.
        let text = String::from_utf8_lossy(bytes);
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| format!("the event is not JSON ({error})"))?;
        match value {
            Value::Object(map) => Ok(Some(Self::of(&Members(&map)))),
            _ => Err("the event is not a JSON object".to_owned()),
        }
    }

    fn of(event: &Members<'_>) -> Self {
        let name = event
            .text(&["hook_event_name", "hookEventName", "event", "eventName"])
            .unwrap_or_default();
        let response = event.first(&[
            "tool_response",
            "tool_output",
            "toolResult",
            "tool_result",
            "result_json",
            "output",
        ]);
        let tool_name = event.text(&["tool_name", "toolName"]).unwrap_or_default();
        let given = event.first(&["tool_input", "toolInput", "toolArgs", "tool_args"]);
        let is_tool = given.is_some() || !tool_name.is_empty() || event.0.contains_key("command");
        let moment = match folded(name).as_str() {
            "pretooluse" | "beforetool" | "beforeshellexecution" | "beforemcpexecution" => {
                Moment::Before
            }
            "posttooluse"
            | "posttoolusefailure"
            | "permissiondenied"
            | "aftertool"
            | "aftershellexecution"
            | "aftermcpexecution"
            | "afterfileedit" => Moment::After,
            "userpromptsubmit" | "userpromptsubmitted" | "beforeagent" | "beforesubmitprompt" => {
                Moment::Prompt
            }
            "sessionend" => Moment::SessionEnd,
            // Some hosts leave it to the configuration which event a hook is for.
            "" if is_tool && response.is_some() => Moment::After,
            "" if is_tool => Moment::Before,
            _ => Moment::Other,
        };
        // Arguments may be JSON within a string.
        let parsed = given
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .filter(Value::is_object);
        let given = parsed.as_ref().or(given);
        let input = given
            .and_then(Value::as_object)
            .map_or(Members(event.0), Members);
        let tool = match folded(name).as_str() {
            "beforeshellexecution" | "aftershellexecution" => shell("shell", given, &input),
            "beforemcpexecution" | "aftermcpexecution" => mcp(given, &input),
            "afterfileedit" => Tool::Files(files("edit", given, &input)),
            _ => tool(tool_name, given, &input),
        };
        let cwd = event
            .text(&["cwd"])
            .filter(|cwd| !cwd.is_empty())
            .or_else(|| event.first(&["workspace_roots"])?.get(0)?.as_str())
            .map(PathBuf::from)
            .filter(|cwd| cwd.is_absolute());
        // Some shells are told where to run.
        let at = input.text(&["workdir", "dir_path", "directory", "working_directory"]);
        let cwd = match (cwd, at.filter(|at| !at.is_empty())) {
            (Some(cwd), Some(at)) => Some(absolute(&cwd, Path::new(at))),
            (cwd, _) => cwd,
        };
        let background = input.truth(&["run_in_background", "is_background", "isBackground"])
            || response
                .and_then(Value::as_object)
                .map(Members)
                .and_then(|response| response.text(&["backgroundTaskId", "background_task_id"]))
                .is_some_and(|id| !id.is_empty());
        let id = |names: &[&str]| {
            let id = event.text(names).filter(|id| !id.is_empty())?;
            Some(start_of(id, MAX_NAME).to_owned())
        };
        Self {
            moment,
            name: start_of(name, MAX_NAME).to_owned(),
            session: id(&["session_id", "sessionId", "conversation_id"]),
            call: id(&["tool_use_id", "toolUseId", "tool_call_id", "toolCallId"]),
            cwd,
            tool_name: match tool_name {
                "" if matches!(tool, Tool::Line { .. } | Tool::Argv(_)) => "Shell".to_owned(),
                "" if matches!(tool, Tool::Files(_)) => "Edit".to_owned(),
                name => start_of(name, MAX_NAME).to_owned(),
            },
            tool,
            background,
            exit: exit_of(event, response),
            jobs: Vec::new(),
        }
    }

    /// Returns what the operation log keeps of the call.
    pub fn to_call(&self, host: Host) -> AgentCall {
        AgentCall {
            host: host.word().to_owned(),
            session: self.session.clone(),
            call: self.call.clone(),
            tool: self.tool_name.clone(),
            background: self.background,
        }
    }
}

/// Members of an object under any of their names.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn first(&self, names: &[&str]) -> Option<&'a Value> {
        names
            .iter()
            .find_map(|name| self.0.get(*name))
            .filter(|value| !value.is_null())
    }

    fn text(&self, names: &[&str]) -> Option<&'a str> {
        self.first(names)?.as_str()
    }

    fn truth(&self, names: &[&str]) -> bool {
        self.first(names).and_then(Value::as_bool) == Some(true)
    }
}

/// Returns a name without case and separators: `run_shell_command` and `runShellCommand` are the same.
fn folded(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .take(MAX_NAME)
        .collect()
}

/// Returns the beginning of a text, at most `max` bytes.
pub fn start_of(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn tool(name: &str, given: Option<&Value>, input: &Members<'_>) -> Tool {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("mcp__") || lower.starts_with("mcp_") || lower.starts_with("mcp:") {
        return mcp(given, input);
    }
    let plain = folded(name);
    match plain.as_str() {
        "bash" | "powershell" | "pwsh" | "shell" | "runshellcommand" | "shellcommand"
        | "runinterminal" | "runterminalcommand" | "runterminalcmd" | "localshell"
        | "execcommand" | "containerexec" | "terminal" => shell(&plain, given, input),
        "write"
        | "edit"
        | "multiedit"
        | "notebookedit"
        | "writefile"
        | "replace"
        | "create"
        | "createfile"
        | "editfile"
        | "editfiles"
        | "strreplace"
        | "strreplaceeditor"
        | "strreplacebasededittool"
        | "applypatch"
        | "patch"
        | "delete"
        | "deletefile"
        | "insert"
        | "inserteditintofile"
        | "replacestringinfile"
        | "multireplacestringinfile"
        | "editnotebook"
        | "editnotebookfile"
        | "tabwrite"
        | "movefile"
        | "renamefile" => Tool::Files(files(&plain, given, input)),
        _ => Tool::Unguarded,
    }
}

/// Members that hold a line for a shell.
const COMMANDS: [&str; 6] = [
    "command",
    "cmd",
    "script",
    "commandLine",
    "command_line",
    "shell_command",
];
/// Members that hold a statement for a database.
const STATEMENTS: [&str; 4] = ["sql", "query", "statement", "queries"];
/// What statements begin with that change something.
const WRITES: [&str; 16] = [
    "alter", "attach", "copy", "create", "delete", "detach", "drop", "grant", "insert", "merge",
    "reindex", "replace", "revoke", "truncate", "update", "vacuum",
];

/// Returns what a tool of an MCP server is: a shell if it is given a command.
fn mcp(given: Option<&Value>, input: &Members<'_>) -> Tool {
    // The event itself may name the command that starts the server.
    if given.is_some_and(Value::is_object) && input.first(&COMMANDS).is_some() {
        return shell("mcp", given, input);
    }
    let statements = STATEMENTS.iter().filter_map(|name| input.0.get(*name));
    let texts = statements.flat_map(|value| match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    });
    let mut parts = texts.flat_map(|text| text.split(';'));
    Tool::Mcp {
        paths: absolute_paths(input),
        writes: given.is_some() && parts.any(statement_writes),
    }
}

/// Returns true if a statement of SQL may change something.
fn statement_writes(text: &str) -> bool {
    let lines = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let plain: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
    let plain = plain.join(" ");
    let mut words = plain
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty());
    match words.next() {
        // Common table expressions come before what is done with them; a plan may be carried out.
        Some("with" | "explain") => words.any(|word| WRITES.contains(&word)),
        Some("pragma") => plain.contains('='),
        Some(first) => WRITES.contains(&first),
        None => false,
    }
}

fn shell(name: &str, given: Option<&Value>, input: &Members<'_>) -> Tool {
    let powershell = matches!(name, "powershell" | "pwsh");
    let command = input.first(&COMMANDS);
    let words = |list: &Vec<Value>| {
        let words = list.iter().map(|word| word.as_str().map(str::to_owned));
        words.collect::<Option<Vec<_>>>()
    };
    match (command, given) {
        (Some(Value::Array(list)), _) if let Some(words) = words(list) => Tool::Argv(words),
        (Some(Value::String(program)), _)
            if let Some(Value::Array(list)) = input.first(&["args", "arguments"])
                && let Some(mut words) = words(list) =>
        {
            words.insert(0, program.clone());
            Tool::Argv(words)
        }
        (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => Tool::Line {
            text: text.clone(),
            powershell,
            means: String::new(),
        },
        // A shell that is told to do something that cannot be read does something all the same.
        _ => Tool::Argv(Vec::new()),
    }
}

/// Returns the files that a tool names which writes files.
fn files(name: &str, given: Option<&Value>, input: &Members<'_>) -> Vec<PathBuf> {
    const ONE: [&str; 13] = [
        "file_path",
        "filePath",
        "notebook_path",
        "notebookPath",
        "absolute_path",
        "target_file",
        "path",
        "file",
        "filename",
        "old_path",
        "new_path",
        "source",
        "destination",
    ];
    let mut found: Vec<&str> = Vec::new();
    let mut objects = vec![input.0];
    for list in ["edits", "replacements", "files", "paths"] {
        for item in input
            .0
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            match item {
                Value::String(path) => found.push(path),
                Value::Object(item) => objects.push(item),
                _ => {}
            }
        }
    }
    for object in objects {
        found.extend(ONE.iter().filter_map(|name| object.get(*name)?.as_str()));
    }
    if name.ends_with("patch") {
        let text = input
            .text(&["command", "input", "patch", "patchText"])
            .or_else(|| input.first(&["command"])?.as_array()?.last()?.as_str())
            .or_else(|| given?.as_str());
        found.extend(text.into_iter().flat_map(patched));
    }
    found.truncate(MAX_PATHS);
    let paths = found.into_iter().filter(|path| !path.is_empty());
    paths.map(PathBuf::from).collect()
}

/// Returns the files that a patch in the form of `apply_patch` names.
fn patched(text: &str) -> impl Iterator<Item = &str> {
    const HEADS: [&str; 4] = [
        "*** Update File: ",
        "*** Delete File: ",
        "*** Add File: ",
        "*** Move to: ",
    ];
    text.lines()
        .filter_map(|line| HEADS.iter().find_map(|head| line.strip_prefix(head)))
        .map(str::trim)
}

fn absolute_paths(input: &Members<'_>) -> Vec<PathBuf> {
    let texts = input.0.values().flat_map(|value| match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    });
    texts
        .filter(|text| text.len() < 4096 && !text.contains(['\n', '\0']))
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .take(MAX_PATHS)
        .collect()
}

fn exit_of(event: &Members<'_>, response: Option<&Value>) -> Option<i32> {
    let told = response.and_then(Value::as_object).and_then(|response| {
        let code = Members(response).first(&["exit_code", "exitCode", "returnCode"])?;
        i32::try_from(code.as_i64()?).ok()
    });
    let from_error = || {
        let digits = event.text(&["error"])?.strip_prefix("Exit code ")?;
        let end = digits.find(|c: char| !c.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().ok()
    };
    told.or_else(from_error)
}

/// What is said to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// All is well.
    Silence,
    /// The tool runs without a way back.
    Unprotected(&'a str),
    /// The tool runs, and not all of what it may do can be undone.
    Partly(&'a str),
    /// Something is gone, and how it comes back.
    Lost(&'a str),
    /// The tool is not to run.
    Deny(&'a str),
    /// The user is to decide whether it runs.
    Ask(&'a str),
    /// bdr failed; the host goes on.
    Failed(&'a str),
}

/// What a hook writes, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// For the host.
    pub stdout: String,
    /// For people, and for hosts that read it.
    pub stderr: String,
    /// Exit status.
    pub status: u8,
}

/// Ends a hook such that every host goes on, and some show why.
const FAILED: u8 = 1;
/// Ends a hook such that the tool does not run.
const BLOCKED: u8 = 2;
/// Tells a shell not to run a line; the same as `bdr guard` ends with then.
const NOT_PROTECTED: u8 = 125;

/// Says something to a host in its own protocol. `name` is the event, as the host calls it.
pub fn reply(host: Host, name: &str, answer: Answer<'_>) -> Reply {
    let manner = host.manner();
    let aloud = |text: &str, status| Reply {
        stdout: manner.silence.to_owned(),
        stderr: format!("bdr: {}\n", one_line(text)),
        status,
    };
    let told = |way: Way, text: &str, status| match document(way, name, answer, text) {
        Some(document) => Reply {
            stdout: format!("{document}\n"),
            ..Reply::default()
        },
        None => aloud(text, status),
    };
    match answer {
        Answer::Silence => Reply {
            stdout: manner.silence.to_owned(),
            ..Reply::default()
        },
        Answer::Unprotected(text) => told(manner.warning, text, manner.unprotected),
        Answer::Partly(text) => told(manner.warning, text, 0),
        Answer::Lost(text) => told(manner.loss, text, 0),
        Answer::Failed(text) => aloud(text, manner.failed),
        Answer::Deny(text) | Answer::Ask(text) => {
            let asks = manner.asks && matches!(answer, Answer::Ask(_));
            let decision = if asks { "ask" } else { "deny" };
            match manner.refusal {
                Refusal::Status(status) => aloud(text, status),
                refusal => refuse(refusal, name, decision, text),
            }
        }
    }
}

/// Returns the document that says something in a way; `None`: it is said on stderr.
fn document(way: Way, name: &str, answer: Answer<'_>, text: &str) -> Option<Value> {
    let event = match (name, answer) {
        ("", Answer::Lost(_)) => "PostToolUse",
        ("", _) => "PreToolUse",
        (name, _) => name,
    };
    let text = format!("bdr: {text}");
    let context = || json!({"hookEventName": event, "additionalContext": text});
    Some(match way {
        Way::Message => json!({"systemMessage": text}),
        Way::Context => json!({"hookSpecificOutput": context()}),
        Way::Both => json!({"systemMessage": text, "hookSpecificOutput": context()}),
        Way::AfterTools if folded(name) == "posttooluse" => json!({"additional_context": text}),
        Way::AsCalled if is_pascal(name) => json!({"hookSpecificOutput": context()}),
        Way::AsCalled => json!({"additionalContext": text}),
        Way::AfterTools | Way::Aloud => return None,
    })
}

fn refuse(refusal: Refusal, name: &str, decision: &str, reason: &str) -> Reply {
    let reason = format!("bdr: {reason}");
    let event = if name.is_empty() { "PreToolUse" } else { name };
    let plain = json!({"permissionDecision": decision, "permissionDecisionReason": reason});
    let specific = || {
        json!({"hookSpecificOutput": {
            "hookEventName": event, "permissionDecision": decision, "permissionDecisionReason": reason,
        }})
    };
    let document = match refusal {
        Refusal::Specific => specific(),
        Refusal::AsCalled if is_pascal(name) => specific(),
        Refusal::Decision => json!({"decision": decision, "reason": reason}),
        Refusal::Permission => {
            json!({"permission": decision, "user_message": reason, "agent_message": reason})
        }
        Refusal::AsCalled | Refusal::Status(_) => plain,
    };
    let by_status = decision == "deny" && !matches!(refusal, Refusal::AsCalled);
    Reply {
        stdout: format!("{document}\n"),
        stderr: format!("{}\n", one_line(&reason)),
        status: if by_status { BLOCKED } else { 0 },
    }
}

/// VS Code calls the events of Copilot as Claude does, and reads the same answer.
fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
