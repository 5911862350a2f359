//! What coding agents send to a hook, and how to answer them: bytes in, an event out; an answer in,
//! bytes and a status out.
//!
//! Hosts name the members of an event differently and change them between versions, so every known
//! spelling is read from every host, and unknown members are ignored. Only the answer depends on
//! the host. If there is nothing to say, the answer is silence, never "allow", which would skip the
//! host's own questions.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::base::path::absolute;

/// The host in records of operations in which bdr changes its own set-up.
pub const OWN_HOST: &str = "bdr";
/// The host in records of operations that came by MCP.
pub const MCP_HOST: &str = "mcp";

/// A program that runs hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Claude,
    Codex,
    Gemini,
    Cursor,
    /// Copilot CLI, the Copilot coding agent, VS Code.
    Copilot,
    /// An interactive shell: not an agent, but it reports before and after a line as agents do.
    Shell,
}

impl Host {
    /// All coding agents.
    pub const ALL: [Self; 5] = [
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Cursor,
        Self::Copilot,
    ];

    /// Returns the word for the command line, for records and for people.
    pub fn word(self) -> &'static str {
        self.manner().word
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.word() == word)
    }
}

/// How to talk to a host: every difference between hosts except the files that they read
/// (`install/hooks/agents`).
struct Manner {
    word: &'static str,
    /// What counts as silence: hosts that expect JSON take empty output for an error.
    silence: &'static str,
    /// How to say that a tool runs and cannot be undone, or only in part.
    warning: Way,
    /// How to say that something is gone, and how to get it back.
    loss: Way,
    /// How to keep a tool from running.
    refusal: Refusal,
    /// It supports asking the user whether a tool may run. Other hosts ignore the question, or take
    /// it for an error and continue.
    asks: bool,
    /// Exit status of a hook that let a tool run without a way back, or that failed.
    unprotected: u8,
    failed: u8,
}

/// How to say something to a host.
#[derive(Clone, Copy)]
enum Way {
    Message,
    Context,
    Both,
    /// To the agent after tools in general, as a document; after anything else on stderr.
    AfterTools,
    /// To the agent, in the form of the event's own name: VS Code names Copilot's events as Claude
    /// does.
    AsCalled,
    Aloud,
}

/// How to keep a tool from running. Versions that do not read the document go by the status.
#[derive(Clone, Copy)]
enum Refusal {
    /// `hookSpecificOutput`, and the status.
    Specific,
    /// `decision`, and the status.
    Decision,
    /// `permission`, and the status.
    Permission,
    /// As [`Way::AsCalled`], without the status, which would be taken for a failure.
    AsCalled,
    /// Only this status.
    Status(u8),
}

impl Host {
    /// Returns the record of a host. A new host is a variant, a record here and one in
    /// `install/hooks/agents`.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A tool is about to run.
    Before,
    /// It ran, failed, or was not allowed to run.
    After,
    /// The user sent a prompt.
    Prompt,
    SessionEnd,
    Other,
}

impl Moment {
    /// Returns the moment for the name of an event, in the spelling of any host.
    fn of(name: &str, is_tool: bool, has_response: bool) -> Self {
        match folded(name).as_str() {
            "pretooluse" | "beforetool" | "beforeshellexecution" | "beforemcpexecution" => {
                Self::Before
            }
            "posttooluse"
            | "posttoolusefailure"
            | "permissiondenied"
            | "aftertool"
            | "aftershellexecution"
            | "aftermcpexecution"
            | "afterfileedit" => Self::After,
            "userpromptsubmit" | "userpromptsubmitted" | "beforeagent" | "beforesubmitprompt" => {
                Self::Prompt
            }
            "sessionend" => Self::SessionEnd,
            // Some hosts leave it to the configuration to say for which event a hook is.
            "" if is_tool && has_response => Self::After,
            "" if is_tool => Self::Before,
            _ => Self::Other,
        }
    }
}

/// What the tool is, and what it is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// A shell with a command line.
    Line {
        /// As the agent wrote it.
        text: String,
        powershell: bool,
        /// What words in it stand for, if known: lines to put before it.
        means: String,
    },
    /// A program with its arguments.
    Argv(Vec<String>),
    /// It writes files: absolute paths, or relative to the session's directory.
    Files(Vec<PathBuf>),
    /// A tool of an MCP server.
    Mcp {
        /// The absolute paths among its arguments.
        paths: Vec<PathBuf>,
        /// An argument is a database statement that changes something, whatever the tool is called.
        writes: bool,
    },
    /// It only reads, or is unknown.
    Unguarded,
}

/// What a host tells a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub moment: Moment,
    /// The host's name for the event; empty if there is none.
    pub name: String,
    pub session: Option<String>,
    /// The id of the tool call, the same before and after.
    pub call: Option<String>,
    pub cwd: Option<PathBuf>,
    /// The host's name for the tool.
    pub tool_name: String,
    pub tool: Tool,
    /// It keeps running after the event that says it is over.
    pub background: bool,
    /// Exit status, if known.
    pub exit: Option<i32>,
    /// A shell's background processes.
    pub jobs: Vec<u32>,
}

/// A tool call in the operation log: the event after it uses this to find the operation that began
/// before it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentCall {
    /// Its program ([`Host::word`]).
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    pub tool: String,
    /// It keeps running after the host said that it is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// Words in names of destructive MCP tools, unless the configuration has others.
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

/// Names in records are cut to this many bytes.
const MAX_NAME: usize = 256;
/// How many paths to look for among the arguments of an MCP tool.
const MAX_PATHS: usize = 64;

/// Returns true if the name of an MCP tool contains one of `words`; the name of its server does not
/// count.
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
    /// Reads an event; `None` if the input is empty.
    ///
    /// # Errors
    /// It is not a JSON object; says why.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // Invalid UTF-8 comes from a command or a path; the rest of the event still counts.
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
        let moment = Moment::of(name, is_tool, response.is_some());
        // Arguments may be JSON in a string.
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
        let id = |names: &[&str]| {
            let id = event.text(names).filter(|id| !id.is_empty())?;
            Some(start_of(id, MAX_NAME).to_owned())
        };
        Self {
            moment,
            name: start_of(name, MAX_NAME).to_owned(),
            session: id(&["session_id", "sessionId", "conversation_id"]),
            call: id(&["tool_use_id", "toolUseId", "tool_call_id", "toolCallId"]),
            cwd: cwd_of(event, &input),
            tool_name: match tool_name {
                "" if matches!(tool, Tool::Line { .. } | Tool::Argv(_)) => "Shell".to_owned(),
                "" if matches!(tool, Tool::Files(_)) => "Edit".to_owned(),
                name => start_of(name, MAX_NAME).to_owned(),
            },
            tool,
            background: is_background(&input, response),
            exit: exit_of(event, response),
            jobs: Vec::new(),
        }
    }

    /// Returns what the operation log stores about the call.
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

/// Members of an object by any of their spellings.
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

/// Returns a name without case and separators: `run_shell_command` equals `runShellCommand`.
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

/// Members with a command line for a shell.
const COMMANDS: [&str; 6] = [
    "command",
    "cmd",
    "script",
    "commandLine",
    "command_line",
    "shell_command",
];
/// Members with a database statement.
const STATEMENTS: [&str; 4] = ["sql", "query", "statement", "queries"];
/// First words of statements that change something.
const WRITES: [&str; 16] = [
    "alter", "attach", "copy", "create", "delete", "detach", "drop", "grant", "insert", "merge",
    "reindex", "replace", "revoke", "truncate", "update", "vacuum",
];

/// Returns the kind of an MCP tool: it is a shell if it takes a command.
fn mcp(given: Option<&Value>, input: &Members<'_>) -> Tool {
    // The event itself may contain the command that starts the server.
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
        // Common table expressions come before the verb, and `explain` may execute its statement.
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
        // A shell whose command cannot be read still does something.
        _ => Tool::Argv(Vec::new()),
    }
}

/// Returns the files named by a tool that writes files.
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

/// Returns the files named in a patch in the form of `apply_patch`.
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

/// Returns the directory in which a call works. Some shells take one as an argument, below that of
/// the session.
fn cwd_of(event: &Members<'_>, input: &Members<'_>) -> Option<PathBuf> {
    let cwd = event
        .text(&["cwd"])
        .filter(|cwd| !cwd.is_empty())
        .or_else(|| event.first(&["workspace_roots"])?.get(0)?.as_str())
        .map(PathBuf::from)
        .filter(|cwd| cwd.is_absolute())?;
    let at = input.text(&["workdir", "dir_path", "directory", "working_directory"]);
    Some(match at.filter(|at| !at.is_empty()) {
        Some(at) => absolute(&cwd, Path::new(at)),
        None => cwd,
    })
}

/// Returns true if the command goes on after the call: the answer says so where the arguments do
/// not, because the host may decide it while the command runs.
fn is_background(input: &Members<'_>, response: Option<&Value>) -> bool {
    let id = || {
        let response = Members(response?.as_object()?);
        response
            .text(&["backgroundTaskId", "background_task_id"])
            .map(|id| !id.is_empty())
    };
    input.truth(&["run_in_background", "is_background", "isBackground"]) || id() == Some(true)
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

/// What to tell a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    Silence,
    /// The tool runs without a way back.
    Unprotected(&'a str),
    /// The tool runs, and part of what it may do cannot be undone.
    Partly(&'a str),
    /// Something is gone; says how to get it back.
    Lost(&'a str),
    /// The tool must not run.
    Deny(&'a str),
    /// The user decides whether it runs.
    Ask(&'a str),
    /// bdr failed; the host continues.
    Failed(&'a str),
}

/// The output and status of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    pub stdout: String,
    /// For people, and for hosts that read it.
    pub stderr: String,
    pub status: u8,
}

/// Status with which every host continues, and some show why.
const FAILED: u8 = 1;
/// Status that keeps the tool from running.
const BLOCKED: u8 = 2;
/// Status that tells a shell not to run a line; `bdr guard` ends with the same.
const NOT_PROTECTED: u8 = 125;

/// Says something to a host in its own protocol. `name` is the host's name for the event.
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

/// Returns the document for a way; `None` means stderr.
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

/// VS Code names Copilot's events as Claude does, and reads the same answers.
fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
