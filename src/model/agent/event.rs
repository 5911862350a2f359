//! Reads what a host says about a call: the names of members, tools and arguments in the spellings
//! of all hosts.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{AgentCall, Event, Host, Moment, Tool};
use crate::base::path::absolute;

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

/// Names in records are cut to this many bytes.
pub(super) const MAX_NAME: usize = 256;
/// How many paths to look for among the arguments of an MCP tool.
const MAX_PATHS: usize = 64;

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
pub(super) fn folded(name: &str) -> String {
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
