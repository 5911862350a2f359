//! The configuration: bytes in, value out.
//!
//! TOML, with a line number for every mistake. Nothing here reads a file, the environment or the
//! clock; the home directory for `~` is an argument.

use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::effects::Table;
use crate::model::agent::TOOL_WORDS;
use crate::model::retention::Policy;
use crate::model::rules::{Root, Rules};
use crate::model::schedule::Schedule;
use crate::privacy::Profile;

pub mod edit;
mod read;
mod remote;
mod render;

pub use remote::{FLOOR, Remote, check_remote_name};
pub use render::{keep_lines, path_text};

/// The largest accepted configuration, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What the user wants protected, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Directory of the repository; `None` for the default place.
    pub repository: Option<PathBuf>,
    /// Sorted by name.
    pub sources: Vec<Source>,
    /// Places that are in no source on purpose: `bdr status` does not list them.
    pub not_covered: Vec<PathBuf>,
    pub guard: GuardConfig,
    /// Which calls the agents' hooks guard.
    pub hooks: HooksConfig,
    /// What MCP callers may do.
    pub mcp: McpConfig,
    pub retention: Policy,
    /// When backups run automatically; `None` for never.
    pub schedule: Option<Schedule>,
    /// Who is told about problems.
    pub notify: NotifyConfig,
    /// What must not be stored in the clear.
    pub privacy: PrivacyConfig,
    /// Where the repository is pushed to. Sorted by name.
    pub remotes: Vec<Remote>,
    /// Patterns that can never match, and what to write instead. They are accepted in a file, but
    /// not from `bdr config set`.
    pub useless: Vec<Useless>,
}

/// A pattern that can never match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Useless {
    pub source: String,
    pub line: usize,
    pub message: String,
    pub hint: String,
}

/// What must not be stored in the clear, and where it is stored instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivacyConfig {
    /// How much to look for.
    pub profile: Profile,
    /// Fingerprints of values that may be stored, and paths of files that may.
    pub allow: Vec<String>,
    pub vault: VaultKey,
    /// Also seal what a remote or a registry of packages has already.
    pub seal_published: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VaultKey {
    /// In the system's keychain if there is one, otherwise in a file.
    #[default]
    Auto,
    Keychain,
    /// In a file that only its owner can read.
    File,
    /// Nowhere: sealed values are not kept.
    Off,
}

impl VaultKey {
    pub const WORDS: [&'static str; 4] = ["auto", "keychain", "file", "off"];

    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Keychain => "keychain",
            Self::File => "file",
            Self::Off => "off",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Auto, Self::Keychain, Self::File, Self::Off]
            .into_iter()
            .find(|key| key.word() == word)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Unique; the first part of `SOURCE/relative`.
    pub name: String,
    /// Absolute path of a directory or file.
    pub path: PathBuf,
    pub rules: Rules,
    pub criticality: Criticality,
}

/// What the loss of a source would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Criticality {
    /// It exists nowhere else.
    #[default]
    Irreplaceable,
    /// It could be recreated, with work.
    Tedious,
}

/// Defaults of `bdr guard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardConfig {
    /// What to do if the snapshot fails.
    pub on_fail: OnFail,
    /// New bytes that one guard may store.
    pub max_bytes: u64,
    /// Files that a workspace may have.
    pub max_files: u64,
    /// Bytes that one guard may keep by a hard link or a clone, instead of reading and storing
    /// them.
    pub max_kept: u64,
    /// Whether the before-image of what a command destroys is kept call by call.
    pub capture: CaptureMode,
    /// What to print after the command.
    pub summary: Summary,
    /// Rules for commands, applied before the built-in ones:
    /// `id | effect | programs | conditions | operands`.
    pub rules: Vec<String>,
}

/// Which calls the agents' hooks guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksConfig {
    /// MCP tools with one of these words in their names are guarded.
    pub mcp_tools: Vec<String>,
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self {
            mcp_tools: TOOL_WORDS.map(str::to_owned).to_vec(),
        }
    }
}

/// What programs may do that call bdr by MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct McpConfig {
    /// What happens to calls that replace or remove files if the client cannot ask anybody.
    pub unattended: Unattended,
}

/// Whether files may be replaced if nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unattended {
    /// Yes: the existing ones are in a snapshot first.
    #[default]
    Snapshot,
    /// Only what a dry run has just shown.
    Plan,
    Deny,
}

impl Unattended {
    pub const WORDS: [&'static str; 3] = ["snapshot", "plan", "deny"];

    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Plan => "plan",
            Self::Deny => "deny",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Snapshot, Self::Plan, Self::Deny]
            .into_iter()
            .find(|policy| policy.word() == word)
    }
}

/// Who is told about problems.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotifyConfig {
    pub desktop: bool,
    /// A URL of healthchecks.io or the like: pinged as it is, with `/start` and with `/fail`.
    pub healthchecks: Option<String>,
    /// The URL of an ntfy topic.
    pub ntfy: Option<String>,
    /// A URL that gets a JSON document by POST.
    pub webhook: Option<String>,
    /// A program with arguments that gets the same document on stdin; empty for none.
    pub command: Vec<String>,
    /// A file for the text file collector of Prometheus, written after each run.
    pub prometheus: Option<PathBuf>,
}

/// What to do if a guard's snapshot fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFail {
    #[default]
    Block,
    /// Ask on a terminal; without one, do not run it.
    Ask,
    Run,
}

/// What a guard prints after the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Summary {
    /// A line if something was lost.
    #[default]
    Auto,
    Always,
    Never,
    Json,
}

/// Whether what a command destroys is kept at the moment of each call, instead of a snapshot before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureMode {
    /// A snapshot of watched places before the command.
    #[cfg_attr(not(target_os = "linux"), default)]
    Off,
    /// Where it works; a snapshot elsewhere.
    #[cfg_attr(target_os = "linux", default)]
    Auto,
    /// Or the command does not run.
    Only,
}

impl CaptureMode {
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Only => "only",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Auto, Self::Only]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

impl Summary {
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
            Self::Json => "json",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::Always, Self::Never, Self::Json]
            .into_iter()
            .find(|summary| summary.word() == word)
    }
}

impl GuardConfig {
    /// Returns the rules for commands: the user's, then the built-in ones.
    pub fn table(&self) -> std::borrow::Cow<'static, Table> {
        use std::borrow::Cow;
        if self.rules.is_empty() {
            return Cow::Borrowed(Table::builtin());
        }
        // They were checked when the configuration was read.
        let table = Table::builtin().with(&self.rules.join("\n"));
        table.map_or_else(|_| Cow::Borrowed(Table::builtin()), Cow::Owned)
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            on_fail: OnFail::Block,
            max_bytes: 512 << 20,
            max_files: 200_000,
            max_kept: 16 << 30,
            capture: CaptureMode::default(),
            summary: Summary::Auto,
            rules: Vec::new(),
        }
    }
}

impl Criticality {
    pub fn word(self) -> &'static str {
        match self {
            Self::Irreplaceable => "irreplaceable",
            Self::Tedious => "tedious",
        }
    }
}

impl OnFail {
    pub fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Ask => "ask",
            Self::Run => "run",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Block, Self::Ask, Self::Run]
            .into_iter()
            .find(|o| o.word() == word)
    }
}

impl Source {
    pub fn root(&self) -> Root {
        Root::source(&self.name, &self.path, self.rules.clone())
    }
}

impl Config {
    /// Reads a configuration. `file` names it in errors; `home` replaces `~`.
    ///
    /// # Errors
    /// [`Error::Config`] with the line of the first mistake.
    pub fn parse(bytes: &[u8], file: &str, home: Option<&Path>) -> Result<Self> {
        let whole = |line, message: String| Error::Config {
            path: file.to_owned(),
            line,
            message,
            hint: None,
        };
        if bytes.len() > MAX_BYTES {
            return Err(whole(
                1,
                format!("the file has {} bytes, more than 1 MiB", bytes.len()),
            ));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            whole(line, "this line is not UTF-8".to_owned())
        })?;
        read::read(text, file, home)
    }

    /// Returns the source with a name.
    ///
    /// # Errors
    /// There is none; the hint lists the existing ones.
    pub fn source(&self, name: &str) -> Result<&Source> {
        self.sources.iter().find(|s| s.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.sources.iter().map(|s| s.name.as_str()).collect();
            let hint = match closest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "bdr init".to_owned(),
                None => format!("the sources are {}", names.join(", ")),
            };
            Error::invalid(format!("there is no source `{name}`"), Some(&hint))
        })
    }

    /// Returns the destination with a name.
    ///
    /// # Errors
    /// There is none; the hint lists the existing ones.
    pub fn remote(&self, name: &str) -> Result<&Remote> {
        self.remotes.iter().find(|r| r.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.remotes.iter().map(|r| r.name.as_str()).collect();
            let hint = match closest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "bdr remote add NAME URL".to_owned(),
                None => format!("the destinations are {}", names.join(", ")),
            };
            let name = crate::base::path::show(name.as_ref());
            Error::invalid(format!("there is no destination `{name}`"), Some(&hint))
        })
    }

    /// Returns a commented file that [`Config::parse`] reads back as this value. Paths below `home`
    /// begin with `~`.
    ///
    /// # Errors
    /// A path is not UTF-8, which TOML requires.
    pub fn to_toml(&self, home: Option<&Path>) -> Result<String> {
        render::render(self, home)
    }
}

/// Parses a size like `512M`, `1.5G` or `4096` into bytes; units are powers of 1024.
///
/// # Errors
/// Says that it is no size.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size");
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: String = number.chars().filter(|c| *c != '_').collect();
    let shift = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" if !unit.trim().eq_ignore_ascii_case("i") => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(1 << shift)
            .ok_or_else(|| format!("`{text}` is too large"));
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    Ok((value * (1_u64 << shift) as f64) as u64)
}

/// Returns the word of which `word` is probably a misspelling.
pub fn closest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let best = words.iter().map(|w| (distance(word, w), *w)).min()?;
    (best.0 <= limit).then_some(best.1)
}

/// Returns how many characters must be inserted, removed, replaced or swapped to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests;
