//! Makes other programs call bdr: shells, git, coding agents, deployment. Edits their files,
//! remembers each edit, and can undo it.
//!
//! The wish ([`Wanted`]) and the current content make a [`Step`], which can be shown; [`apply`]
//! carries it out. The ledger keeps the file as it was before. If only bdr changed a file,
//! uninstalling restores it byte for byte. If the user edited around bdr's part, exactly that part
//! is removed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::Digest;
use crate::base::path::show;
use crate::disk::fsutil;
use crate::disk::fsutil::canonicalize;
use crate::model::agent::Host;

pub mod agents;
pub mod block;
mod content;
pub mod deploy;
pub mod git;
pub mod json;
mod ledger;
pub mod servers;
pub mod sessions;
pub mod shells;

use ledger::Original;
pub use ledger::{Ledger, Seen};

/// What calls bdr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Git,
    Shell(shells::Shell),
    Agent(Host),
    /// The command of an agent, which shells start as a captured session.
    Session(Host),
    /// The deployment of a project.
    Deploy,
    /// A client of the MCP server.
    Client(servers::Client),
}

impl Target {
    pub fn word(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Shell(shell) => shell.word(),
            Self::Agent(host) => host.word(),
            Self::Session(host) => sessions::word(host),
            Self::Deploy => "deploy",
            Self::Client(client) => client.word(),
        }
    }

    /// Returns the target of a word; `shell` and `all` mean several and are left to the caller.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "git" => Some(Self::Git),
            "deploy" => Some(Self::Deploy),
            _ => shells::Shell::parse(word)
                .map(Self::Shell)
                .or_else(|| Host::parse(word).map(Self::Agent))
                .or_else(|| sessions::parse(word).map(Self::Session)),
        }
    }
}

/// The form of bdr's part in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Handlers in a JSON settings file.
    Settings {
        host: Host,
        entries: Vec<json::Entry>,
    },
    /// A block of lines.
    Block(String),
    /// The whole file is bdr's.
    Own(String),
    /// A git hook: an existing one is put aside, and run by it.
    Shim {
        script: String,
        /// Where an existing hook is put.
        aside: PathBuf,
    },
    /// Scripts in a `package.json`.
    Scripts {
        /// What runs them: npm, yarn, …
        manager: String,
        /// Another program deploys, and runs only the checks.
        checks: bool,
    },
    /// An entry in a client's list of MCP servers.
    Server(servers::Client, serde_json::Value),
}

/// The form in the manifest: what is needed to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Settings,
    Block,
    Own,
    Shim,
    Scripts,
    Server,
}

impl Form {
    fn kind(&self) -> Kind {
        match self {
            Self::Settings { .. } => Kind::Settings,
            Self::Block(_) => Kind::Block,
            Self::Own(_) => Kind::Own,
            Self::Shim { .. } => Kind::Shim,
            Self::Scripts { .. } => Kind::Scripts,
            Self::Server(..) => Kind::Server,
        }
    }
}

/// Which content is wanted in which file.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub target: Target,
    /// The file as the host names it; a symlink is followed.
    pub file: PathBuf,
    pub form: Form,
    /// The program to call.
    pub program: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    /// Something is added to a file.
    Add,
    /// bdr's part is updated.
    Update,
    /// Everything is as it should be.
    Keep,
    /// bdr's part is removed.
    Remove,
    /// A file that bdr made is deleted.
    Delete,
}

impl Action {
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Add => "add",
            Self::Update => "update",
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Delete => "delete",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Step {
    pub target: String,
    /// The file; for a symlink, its target.
    pub file: PathBuf,
    pub action: Action,
    /// The current content; `None` if there is no file.
    pub before: Option<Vec<u8>>,
    /// The wanted content; `None` for no file.
    pub after: Option<Vec<u8>>,
    /// An existing hook is put aside here, or comes back from here.
    pub aside: Option<PathBuf>,
    /// The file in the manifest: another program may have moved bdr's hook.
    key: PathBuf,
    mode: u32,
    kind: Kind,
    program: PathBuf,
    /// The file before bdr edited it, if something better than `before` is known.
    original: Option<Original>,
    /// What it puts into place; `None` for a removal.
    wanted: Option<Wanted>,
}

impl Step {
    /// Returns true for a script in a directory of git hooks.
    pub fn is_hook_of_git(&self) -> bool {
        self.kind == Kind::Shim
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As it was made.
    Good,
    /// The file was edited around bdr's part, which is there.
    Edited,
    Gone,
    /// We cannot tell which part of the file is bdr's.
    Torn(String),
}

fn hex_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_hex()
}

struct Stands {
    real: PathBuf,
    bytes: Option<Vec<u8>>,
    mode: u32,
}

/// Reads a file that is going to be edited.
fn look(file: &Path, fresh: u32) -> Result<Stands> {
    let refuse = |why: &str| {
        let message = format!("`{}` {why}; nothing was changed", show(file.as_os_str()));
        Err(Error::invalid(
            message,
            Some("edit it yourself: bdr hooks print shows what to add"),
        ))
    };
    if file.symlink_metadata().is_err() {
        return Ok(Stands {
            real: file.to_path_buf(),
            bytes: None,
            mode: fresh,
        });
    }
    // Dotfile managers use links: edit the target, not the link.
    let Ok(real) = canonicalize(file) else {
        return refuse("is a dangling symlink");
    };
    let metadata = std::fs::metadata(&real).context("read", &real)?;
    if !metadata.is_file() {
        return refuse("is not a file");
    }
    if fsutil::is_of_another(&real) {
        return refuse("belongs to another user");
    }
    if metadata.permissions().readonly() {
        return refuse("is read-only");
    }
    let bytes = std::fs::read(&real).context("read", &real)?;
    Ok(Stands {
        real,
        bytes: Some(bytes),
        mode: fsutil::mode_of(&metadata),
    })
}

fn text_of(bytes: &[u8], file: &Path) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        Error::invalid(
            format!(
                "`{}` is not UTF-8; nothing was changed",
                show(file.as_os_str())
            ),
            Some("correct it by hand"),
        )
    })
}

fn at_file<T>(file: &Path, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        Error::invalid(
            format!("`{}`: {error}", show(file.as_os_str())),
            Some("correct it by hand; nothing was changed"),
        )
    })
}

/// Returns true for a file that says that it is bdr's.
pub(crate) fn is_own(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(400)];
    let says = |text: &[u8]| head.windows(text.len()).any(|w| w == text);
    says(b"bdr hooks uninstall")
}

/// Reads a git hook: it may be a symlink, and is put aside, not edited.
fn look_at_hook(file: &Path) -> Result<Stands> {
    if let Ok(metadata) = file.symlink_metadata() {
        if metadata.is_dir() {
            return Err(Error::invalid(
                format!(
                    "`{}` is a directory; nothing was changed",
                    show(file.as_os_str())
                ),
                Some("git cannot use it as a hook either: move it away"),
            ));
        }
        return Ok(Stands {
            real: file.to_path_buf(),
            bytes: Some(std::fs::read(file).unwrap_or_default()),
            mode: fsutil::mode_of(&metadata),
        });
    }
    Ok(Stands {
        real: file.to_path_buf(),
        bytes: None,
        mode: 0o755,
    })
}
