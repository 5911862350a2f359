//! What a command may do, told from its words before it runs.
//!
//! The text of a command only ever *adds* to what is captured, with one exception: a command that provably only reads needs no snapshot. Hence the
//! direction of every doubt: what cannot be told is [`Effect::Unknown`], and unknown is captured. Nothing here looks at files.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::path::os_to_bytes;

mod cmd;
mod command;
mod mention;
mod powershell;
mod shell;
mod table;

pub use table::{Table, TableError};

/// What a command may do, from harmless to lasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It only reads.
    Read,
    /// It writes what it names, without discarding content.
    Write,
    /// It cannot be told.
    Unknown,
    /// It deletes or overwrites what it names.
    Destructive,
    /// It discards what git does not hold, or holds only by a name.
    GitDiscard,
    /// It acts on something that is not a file here: that part cannot be undone.
    Remote,
}

impl Effect {
    /// Returns the word used in rules, records and for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Unknown => "unknown",
            Self::Destructive => "destructive",
            Self::GitDiscard => "git-discard",
            Self::Remote => "remote",
        }
    }
}

/// A path that a command names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operand {
    /// Absolute.
    pub path: PathBuf,
    /// A symlink at its end is followed, as the command does.
    pub follow: bool,
    /// Its components are patterns: the shell would expand them.
    pub glob: bool,
    /// The command does something to it as a whole: removes, moves, overwrites it.
    pub itself: bool,
    /// It is where the command works, not what it names.
    pub place: bool,
}

/// What was found out about a command.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The gravest effect of its parts.
    pub effect: Effect,
    /// What it names, as far as it can be told.
    pub operands: Vec<Operand>,
    /// The rule that decided; empty if none fits.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// Parts that act elsewhere, as they were written.
    pub remote: Vec<String>,
    /// Every part only removes names, and all of them are known.
    pub unlinks_only: bool,
    /// What its words and texts could mean as paths, whether or not it is there.
    pub mentioned: Vec<PathBuf>,
    /// Destructive parts of which it cannot be told what they are given, as they were written.
    pub untold: Vec<String>,
    /// Something of it is sent to the background by the line itself: it may run on when the line is over.
    pub detaches: bool,
    /// Files that it provably only reads.
    inputs: Vec<PathBuf>,
    /// Where it goes.
    dirs: Vec<PathBuf>,
}

impl Assessment {
    fn nothing() -> Self {
        Self {
            effect: Effect::Read,
            operands: Vec::new(),
            rule: String::new(),
            reason: "it does nothing".to_owned(),
            remote: Vec::new(),
            unlinks_only: false,
            mentioned: Vec::new(),
            untold: Vec::new(),
            detaches: false,
            inputs: Vec::new(),
            dirs: Vec::new(),
        }
    }

    /// Returns what a program does that is only known to write these files, absolute: it makes or overwrites them.
    pub fn of_files(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let operand = |path| Operand {
            path,
            follow: true,
            glob: false,
            itself: true,
            place: false,
        };
        Self {
            effect: Effect::Write,
            operands: paths.into_iter().map(operand).collect(),
            reason: "it writes files".to_owned(),
            ..Self::nothing()
        }
        .finished()
    }

    /// Returns what is said of a command that cannot be told.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self {
            effect: Effect::Unknown,
            reason: reason.into(),
            ..Self::nothing()
        }
    }

    /// Adds another part of the same command.
    fn join(&mut self, other: Self) {
        self.unlinks_only = match (self.effect, other.effect) {
            (Effect::Read, _) => other.unlinks_only,
            (_, Effect::Read) => self.unlinks_only,
            _ => self.unlinks_only && other.unlinks_only,
        };
        if other.effect > self.effect || self.rule.is_empty() && other.effect == self.effect {
            self.effect = other.effect;
            self.rule = other.rule;
            self.reason = other.reason;
        }
        self.operands.extend(other.operands);
        self.remote.extend(other.remote);
        self.untold.extend(other.untold);
        self.detaches |= other.detaches;
        self.inputs.extend(other.inputs);
        self.dirs.extend(other.dirs);
    }

    /// Adds what the text of the command mentions, unless all of it only reads.
    fn mentioning<'t>(
        mut self,
        texts: impl Iterator<Item = &'t str>,
        around: &Surroundings<'_>,
    ) -> Self {
        if self.effect == Effect::Read {
            return self;
        }
        self.dirs.sort();
        self.dirs.dedup();
        self.dirs.truncate(MAX_DIRS);
        let mut dirs = vec![around.cwd];
        dirs.extend(self.dirs.iter().map(PathBuf::as_path));
        self.mentioned = mention::paths(texts, &dirs, around.home);
        self.mentioned.retain(|path| !self.inputs.contains(path));
        self
    }

    fn finished(mut self) -> Self {
        self.operands.sort();
        self.operands.dedup();
        let mut told = std::collections::HashSet::new();
        self.untold.retain(|part| told.insert(part.clone()));
        self
    }
}

/// What a command's words are read against.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where it would run.
    pub cwd: &'a Path,
    /// What `~` stands for.
    pub home: Option<&'a Path>,
    /// The rules.
    pub table: &'a Table,
}

/// Longer lines are not looked into.
pub const MAX_LINE: usize = 64 * 1024;
/// Values of a variable that are followed.
const MAX_VALUES: usize = 64;
/// Directories from which words are looked at, at most.
const MAX_DIRS: usize = 4;
/// Commands within commands, at most.
const MAX_DEPTH: usize = 8;

/// Assesses a command whose words are known, as a guard gets it.
pub fn assess(argv: &[OsString], around: &Surroundings<'_>) -> Assessment {
    let words: Vec<Word> = argv.iter().map(|arg| Word::exact(arg)).collect();
    let place = Place::new(around);
    let mut found = command::simple(&words, &place, around, 0);
    found.detaches |= command::detaches(&words);
    // Not the program itself.
    let texts = argv.iter().skip(1).filter_map(|arg| arg.to_str());
    found.finished().mentioning(texts, around)
}

/// The language of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// sh, bash, zsh and their like.
    Posix,
    /// PowerShell.
    PowerShell,
    /// The Windows command processor.
    Cmd,
}

/// Assesses a line of a shell, as a hook gets it.
pub fn assess_line_in(dialect: Dialect, line: &str, around: &Surroundings<'_>) -> Assessment {
    let mut place = Place::new(around);
    match dialect {
        Dialect::Posix => shell::line(line, &mut place, around, 0),
        Dialect::PowerShell => powershell::line(line, &mut place, around, 0),
        Dialect::Cmd => cmd::line(line, &mut place, around, 0),
    }
    .finished()
    .mentioning(std::iter::once(line), around)
}

/// Assesses a line of a POSIX shell, as a hook gets it.
pub fn assess_line(line: &str, around: &Surroundings<'_>) -> Assessment {
    assess_line_in(Dialect::Posix, line, around)
}

/// Where a part of a command runs; `None` after a `cd` to somewhere that cannot be told.
#[derive(Debug, Clone)]
struct Place {
    cwd: Option<PathBuf>,
    /// What variables were set to in this line, each with all values that a loop gives it. It may be out of date: it only ever adds.
    vars: Vec<(String, Vec<Word>)>,
}

impl Place {
    fn new(around: &Surroundings<'_>) -> Self {
        Self {
            cwd: Some(around.cwd.to_path_buf()),
            vars: Vec::new(),
        }
    }

    /// Returns what a variable was set to.
    fn values(&self, name: &str) -> &[Word] {
        let mut vars = self.vars.iter();
        vars.find(|(n, _)| n == name)
            .map_or(&[], |(_, values)| &values[..])
    }

    fn set(&mut self, name: &str, mut values: Vec<Word>) {
        values.truncate(MAX_VALUES);
        self.vars.retain(|(n, _)| n != name);
        self.vars.push((name.to_owned(), values));
    }

    /// Returns the absolute path of a word, if it can be told.
    fn path(&self, word: &Word) -> Option<PathBuf> {
        if word.dynamic || word.bytes.is_empty() || word.bytes.contains(&0) {
            return None;
        }
        let path = PathBuf::from(crate::base::path::os_from_bytes(&word.bytes));
        if path.is_absolute() {
            return Some(crate::base::path::absolute(Path::new("/"), &path));
        }
        Some(crate::base::path::absolute(self.cwd.as_deref()?, &path))
    }

    /// Returns the directory itself, as a place where a command works.
    fn here(&self) -> Option<Operand> {
        Some(Operand {
            path: self.cwd.clone()?,
            follow: true,
            glob: false,
            itself: false,
            place: true,
        })
    }

    fn operand(&self, word: &Word, follow: bool) -> Option<Operand> {
        Some(Operand {
            path: self.path(word)?,
            follow,
            glob: word.glob,
            itself: false,
            place: false,
        })
    }
}

/// A word of a command, with quotes removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Word {
    bytes: Vec<u8>,
    /// Something in it is known only when it runs: a variable, the output of a command.
    dynamic: bool,
    /// It has an unquoted `*`, `?` or `[`; in `bytes` what was quoted is escaped by `\`.
    glob: bool,
    /// What it probably is, if it is known only when it runs.
    likely: Vec<Self>,
    /// How it was written, if it is known only when it runs.
    written: String,
}

impl Word {
    fn exact(text: &OsStr) -> Self {
        Self {
            bytes: os_to_bytes(text).into_owned(),
            ..Self::default()
        }
    }

    fn text(&self) -> Option<&str> {
        if self.dynamic {
            return None;
        }
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Returns what is there for people.
    fn shown(&self) -> String {
        match self.dynamic && !self.written.is_empty() {
            true => crate::base::path::show_bytes(self.written.as_bytes()),
            false => crate::base::path::show_bytes(&self.bytes),
        }
    }
}

#[cfg(test)]
mod tests;
