//! What can go wrong in the engine, and what to do about it.
//!
//! One enum for the library; every variant names the path or id concerned. [`Error::kind`] decides
//! the exit code, [`Error::hint`] the next command. Messages are lowercase fragments that do not
//! repeat their cause.

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Groups errors by who can do something about them; the binary maps a kind to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be fulfilled as given.
    User,
    Config,
    Environment,
    NoRepository,
    Integrity,
    /// Another process holds what is needed.
    Busy,
    /// The user or a signal stopped it.
    Interrupted,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a file failed.
    #[error("cannot {action} `{}`", crate::base::path::show(path.as_os_str()))]
    Io {
        /// The attempted action, as a verb: "read", "create".
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A call on the repository's storage failed.
    #[error("cannot {action} `{name}` in the repository")]
    Storage {
        action: &'static str,
        /// Name inside the repository.
        name: String,
        source: io::Error,
    },
    /// Values of a file are sealed, and this machine does not have them.
    #[error("{} of it sealed, and not in this machine's vault", if values.len() == 1 { "one value is".to_owned() } else { format!("{} values are", values.len()) })]
    Sealed {
        values: Vec<crate::base::id::Fingerprint>,
    },
    #[error("no repository at `{location}`")]
    NoRepository { location: String },
    /// A destination shows no push of the machine that is asked for.
    #[error("`{place}` shows no push of that machine")]
    NothingPushed { place: String },
    /// The file system that holds the repository is not mounted.
    #[error("the disk with the repository `{location}` is away: {reason}")]
    Away { location: String, reason: String },
    /// There is not enough space for a trial restore.
    #[error("not enough space in `{place}`: {reason}")]
    NoRoom { place: String, reason: String },
    /// The directory contains something else, or a half-written repository.
    #[error("`{location}` is not a bdr repository: {reason}")]
    NotARepository {
        location: String,
        /// What was found instead.
        reason: String,
    },
    /// The repository was written by a newer bdr.
    #[error(
        "the repository has format version {version}; this bdr reads version {supported}{features}"
    )]
    NewerFormat {
        version: u64,
        /// The newest version that this program can read.
        supported: u64,
        /// Unknown features, or empty.
        features: String,
    },
    /// A stored file or blob does not match its name or digest.
    #[error("`{name}` is damaged: {reason}")]
    Damaged { name: String, reason: String },
    /// A record cannot be read, and the answer depends on it.
    #[error("`{name}` cannot be read: {reason}")]
    Unreadable {
        /// Its name inside the repository.
        name: String,
        reason: String,
    },
    /// A record would not pass its check when it is read, or be too long.
    #[error("a record cannot be written: {reason}")]
    Unrecordable { reason: String },
    /// No copy of a blob can be read.
    #[error("blob {id} cannot be read from any pack")]
    BlobMissing { id: crate::base::id::Digest },
    #[error("no snapshot matches `{spec}`")]
    NoSuchSnapshot { spec: String },
    #[error("no snapshot at or before {time}{oldest}")]
    NoSnapshotBefore {
        time: String,
        /// `; the oldest is …`, or empty.
        oldest: String,
    },
    /// Several ids begin with this.
    #[error("`{spec}` is ambiguous: {candidates}")]
    Ambiguous { spec: String, candidates: String },
    #[error("no operation matches `{spec}`")]
    NoSuchOperation { spec: String },
    /// The snapshot before an operation is gone: too old, no room for it, or forgotten.
    #[error(
        "the snapshot before this operation has expired: `guard_bytes` or `max_size` of [retention] had no room for it, or it was forgotten"
    )]
    Expired {
        snapshot: crate::base::id::SnapshotId,
    },
    /// There is nothing in the log to undo or redo.
    #[error("nothing to {verb}")]
    NothingTo {
        /// "undo" or "redo".
        verb: &'static str,
    },
    /// None of the searched snapshots has the path.
    #[error("`{path}` is not in {place}")]
    NoSuchPath {
        path: String,
        /// "snapshot 3f2a", "any snapshot".
        place: String,
    },
    #[error("{path}:{line}: {message}")]
    Config {
        path: String,
        /// One-based line.
        line: usize,
        message: String,
        hint: Option<String>,
    },
    /// A value from the user makes no sense.
    #[error("{message}")]
    Invalid {
        message: String,
        hint: Option<String>,
    },
    /// A system program refused.
    #[error("`{tool}` failed: {said}")]
    Tool { tool: String, said: String },
    /// A request to a destination failed.
    #[error("cannot {action} `{place}`: {said}")]
    Remote {
        /// As the user calls it.
        place: String,
        action: &'static str,
        /// What the store said.
        said: String,
        /// A stable word for the kind of trouble.
        trouble: &'static str,
        hint: Option<String>,
    },
    /// It is encrypted, and no secret key that was given opens it.
    #[error("{}", if *is_given { "none of the identities opens this destination" } else { "this destination is encrypted, and there is no identity to open it" })]
    NoKey {
        /// Whether there was one at all.
        is_given: bool,
    },
    /// Another process has the repository.
    #[error("the repository is in use{holder}")]
    Busy {
        /// ` by process 123`, or empty.
        holder: String,
    },
    /// A captured command is on record only when it has ended, and the answer depends on it.
    #[error("`{command}` still runs, and can be undone when it has ended")]
    Running { command: String },
    /// More bytes than the budget allows.
    #[error("`{}` holds {}; the budget is {}", crate::base::path::show(path.as_os_str()), crate::base::units::size(*bytes), crate::base::units::size(*budget))]
    OverBudget {
        path: PathBuf,
        bytes: u64,
        budget: u64,
    },
    /// An operand of the command cannot be captured.
    #[error("`{}` cannot be kept: {reason}", crate::base::path::show(path.as_os_str()))]
    NotCaptured { path: PathBuf, reason: String },
    /// The command would delete the repository, or what bdr itself runs from.
    #[error("this would delete what bdr needs to undo it (`{}`)", crate::base::path::show(path.as_os_str()))]
    WouldDeleteRepository { path: PathBuf },
    /// A path in a manifest or plan leaves its root.
    #[error("refusing `{path}`: {reason}")]
    Unsafe { path: String, reason: String },
    #[error("interrupted")]
    Interrupted,
}

const NOTHING_PUSHED: &str = "bdr machines NAME says who pushes there; right after a push, what a store \
     shows can be behind: run the same command again";

impl Error {
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.into(),
            source,
        }
    }

    pub fn storage(action: &'static str, name: impl Into<String>, source: io::Error) -> Self {
        Self::Storage {
            action,
            name: name.into(),
            source,
        }
    }

    pub fn damaged(name: impl Into<String>, reason: impl Into<String>) -> Self {
        // A damaged or forged text is quoted in both.
        let show = |text: String| {
            let text: String = text.chars().take(400).collect();
            crate::base::path::show_bytes(text.as_bytes())
        };
        Self::Damaged {
            name: show(name.into()),
            reason: show(reason.into()),
        }
    }

    pub fn tool(tool: &str, said: &str) -> Self {
        Self::Tool {
            tool: tool.to_owned(),
            said: said.to_owned(),
        }
    }

    pub fn invalid(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Invalid {
            message: message.into(),
            hint: hint.map(str::to_owned),
        }
    }

    /// Returns who can do something about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. }
            | Self::Storage { .. }
            | Self::Tool { .. }
            | Self::Remote { .. }
            | Self::NoRoom { .. } => ErrorKind::Environment,
            Self::NoRepository { .. } | Self::NothingPushed { .. } | Self::Away { .. } => {
                ErrorKind::NoRepository
            }
            Self::Sealed { .. }
            | Self::NotARepository { .. }
            | Self::NewerFormat { .. }
            | Self::NoSuchSnapshot { .. }
            | Self::NoSnapshotBefore { .. }
            | Self::Ambiguous { .. }
            | Self::NoSuchOperation { .. }
            | Self::Expired { .. }
            | Self::Unrecordable { .. }
            | Self::NothingTo { .. }
            | Self::NoSuchPath { .. }
            | Self::Invalid { .. }
            | Self::NoKey { .. }
            | Self::OverBudget { .. }
            | Self::NotCaptured { .. }
            | Self::WouldDeleteRepository { .. }
            | Self::Unsafe { .. } => ErrorKind::User,
            Self::Damaged { .. } | Self::Unreadable { .. } | Self::BlobMissing { .. } => {
                ErrorKind::Integrity
            }
            Self::Config { .. } => ErrorKind::Config,
            Self::Busy { .. } | Self::Running { .. } => ErrorKind::Busy,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }

    /// Returns a stable word for machines (`error.code` in JSON).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Storage { .. } => "storage",
            Self::NoRepository { .. } => "no-repository",
            Self::NothingPushed { .. } => "nothing-pushed",
            Self::Away { .. } => "away",
            Self::NoRoom { .. } => "no-room",
            Self::Sealed { .. } => "sealed",
            Self::NotARepository { .. } => "not-a-repository",
            Self::NewerFormat { .. } => "newer-format",
            Self::Damaged { .. } => "damaged",
            Self::Unreadable { .. } => "unreadable-record",
            Self::Unrecordable { .. } => "unrecordable",
            Self::BlobMissing { .. } => "blob-missing",
            Self::NoSuchSnapshot { .. } => "no-such-snapshot",
            Self::NoSnapshotBefore { .. } => "no-snapshot-before",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NoSuchOperation { .. } => "no-such-operation",
            Self::Expired { .. } => "expired",
            Self::NothingTo { .. } => "nothing-to-do",
            Self::NoSuchPath { .. } => "no-such-path",
            Self::Config { .. } => "config",
            Self::Invalid { .. } => "invalid",
            Self::Tool { .. } => "tool",
            Self::Remote { .. } => "remote",
            Self::NoKey { .. } => "no-key",
            Self::Busy { .. } => "busy",
            Self::Running { .. } => "running",
            Self::OverBudget { .. } => "over-budget",
            Self::NotCaptured { .. } => "not-captured",
            Self::WouldDeleteRepository { .. } => "would-delete-repository",
            Self::Unsafe { .. } => "unsafe-path",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the next command to run, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRepository { .. } => Some("bdr init".to_owned()),
            Self::NothingPushed { .. } => Some(NOTHING_PUSHED.to_owned()),
            Self::Away { .. } => Some(
                "plug it in or mount it, then run the same command again; if it is gone for good, choose another directory: bdr config set repository DIR"
                    .to_owned(),
            ),
            Self::NoRoom { .. } => {
                Some("free some space, or use another disk: bdr drill --scratch DIR".to_owned())
            }
            Self::NotARepository { .. } => {
                Some("name another directory with --repository, or empty this one".to_owned())
            }
            Self::NewerFormat { .. } => Some(
                "install a newer bdr; until then, `python3 recover.py` in the repository can restore"
                    .to_owned(),
            ),
            Self::Damaged { name, .. } => Some(hint_of_damage(name).to_owned()),
            Self::BlobMissing { .. } => Some(hint_of_damage("").to_owned()),
            Self::Unreadable { name, .. } if name.starts_with("objects/") || name.starts_with("pushes/") => Some(
                "give the older key as well: --identity OLDER --identity NEWER".to_owned(),
            ),
            Self::Unreadable { name, .. } if name.starts_with("operations/") => {
                Some("bdr verify; then name the operation by its id: bdr log".to_owned())
            }
            Self::Unreadable { .. } => {
                Some("bdr verify; then name the snapshot by its id: bdr list".to_owned())
            }
            Self::NoSuchSnapshot { .. } | Self::Ambiguous { .. } => Some("bdr list".to_owned()),
            Self::NoSnapshotBefore { .. } => Some("bdr list".to_owned()),
            Self::NoSuchOperation { .. } | Self::NothingTo { .. } => Some("bdr log".to_owned()),
            Self::Expired { .. } => Some(
                "bdr history PATH lists the versions that are left; bdr op pin keeps what an undo needs"
                    .to_owned(),
            ),
            Self::NoSuchPath { path, .. } => {
                let name = path.rsplit('/').next().unwrap_or(path.as_str());
                let pattern = match name.contains(['*', '?', '[']) {
                    true => name.to_owned(),
                    false => format!("*{name}*"),
                };
                let pattern = crate::base::path::shell_word(&pattern);
                Some(format!("bdr find {pattern}"))
            }
            Self::Config { hint, .. } | Self::Invalid { hint, .. } | Self::Remote { hint, .. } => {
                hint.clone()
            }
            Self::NoKey { is_given } => Some(
                match is_given {
                    true => "name the right file with the secret key, which the recovery sheet has: --identity FILE",
                    false => "name the file with the secret key, or with the words of the recovery sheet: --identity FILE (or - to type them)",
                }
                .to_owned(),
            ),
            Self::Busy { .. } => Some("try again when the other bdr is done".to_owned()),
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!(
                    "check the owner and mode: ls -ld {}",
                    crate::base::path::shell_path(path)
                ))
            }
            Self::Storage { source, .. } | Self::Io { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Some("free some space, then run the same command again".to_owned())
            }
            Self::Storage { .. } => Some("bdr doctor".to_owned()),
            Self::NotCaptured { path, .. } => Some(format!(
                "check it: ls -ld {}",
                crate::base::path::shell_path(path)
            )),
            Self::WouldDeleteRepository { .. } => Some(
                "name only what should be deleted, or move the repository first: bdr config path --repository"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Returns why something failed, for a line that names the path already.
pub fn reason(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Adds the attempted action and its path to an I/O result.
pub trait IoContext<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::io(action, path, source))
    }
}

#[cfg(unix)]
impl<T> IoContext<T> for std::result::Result<T, rustix::io::Errno> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|errno| Error::io(action, path, errno.into()))
    }
}
/// Returns what to do about a damaged part of a repository, or of a destination.
fn hint_of_damage(name: &str) -> &'static str {
    // Only a destination has these.
    match name.starts_with("pushes/") || name.starts_with("objects/") {
        true => "bdr verify --remote NAME says what is wrong there",
        false => "bdr verify --level full, then bdr backup --full",
    }
}
