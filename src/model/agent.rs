//! What coding agents send to a hook, and how to answer them: bytes in, an event out; an answer in,
//! bytes and a status out.
//!
//! Hosts name the members of an event differently and change them between versions, so every known
//! spelling is read from every host, and unknown members are ignored. Only the answer depends on
//! the host. If there is nothing to say, the answer is silence, never "allow", which would skip the
//! host's own questions.

use std::path::PathBuf;

mod answer;
mod event;

pub use answer::{Answer, Reply, reply};
pub use event::start_of;

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

/// Status with which every host continues, and some show why.
const FAILED: u8 = 1;
/// Status that keeps the tool from running.
const BLOCKED: u8 = 2;
/// Status that tells a shell not to run a line; `bdr guard` ends with the same.
const NOT_PROTECTED: u8 = 125;

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

#[cfg(test)]
mod tests;
