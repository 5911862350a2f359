//! What a command may do, determined from its words before it runs.
//!
//! The text of a command only ever *adds* to what is captured, with one exception: a command that
//! provably only reads needs no snapshot. So every doubt goes one way: what cannot be determined is
//! [`Effect::Unknown`], and unknown is captured. Nothing here reads files.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::path::os_to_bytes;

mod cmd;
mod command;
mod mention;
mod powershell;
mod shell;
mod started;
mod table;

pub use table::{Table, TableError};

/// What a command may do, from harmless to permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    Read,
    /// It writes its operands without discarding content.
    Write,
    Unknown,
    /// It deletes or overwrites its operands.
    Destructive,
    /// It discards what git does not store, or stores only by a name.
    GitDiscard,
    /// It acts on something other than local files: that part cannot be undone.
    Remote,
}

impl Effect {
    /// Returns the word for rules, for records and for people.
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
    pub path: PathBuf,
    /// The command follows a symlink at its end.
    pub follow: bool,
    /// Its components are patterns that the shell would expand.
    pub glob: bool,
    /// The command acts on the whole object: removes, moves or overwrites it.
    pub itself: bool,
    /// The command works there, rather than naming it.
    pub place: bool,
}

/// What is known about a command.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The gravest effect of its parts.
    pub effect: Effect,
    /// What it names, as far as we can tell.
    pub operands: Vec<Operand>,
    /// The rule that decided; empty if none fits.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// Parts that act elsewhere, as written.
    pub remote: Vec<String>,
    /// Every part only removes names, and all of them are known.
    pub unlinks_only: bool,
    /// Everything in its words and texts that could be a path, whether or not it exists.
    pub mentioned: Vec<PathBuf>,
    /// Destructive parts with unknown operands, as written.
    pub untold: Vec<String>,
    /// The line itself sends something to the background, which may continue after the line.
    pub detaches: bool,
    /// Programs that it starts, and scripts that a shell reads, as far as its words tell: a name, or
    /// an absolute path where it was written with one.
    pub programs: Vec<PathBuf>,
    /// Files that it provably only reads.
    inputs: Vec<PathBuf>,
    /// Directories to which it changes.
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
            programs: Vec::new(),
            inputs: Vec::new(),
            dirs: Vec::new(),
        }
    }

    /// Returns the assessment of a program that creates or overwrites exactly these absolute paths.
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
        self.programs.extend(other.programs);
        self.inputs.extend(other.inputs);
        self.dirs.extend(other.dirs);
    }

    /// Adds the paths that the text of the command mentions, unless all of it only reads.
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
        self.programs.sort();
        self.programs.dedup();
        let mut told = std::collections::HashSet::new();
        self.untold.retain(|part| told.insert(part.clone()));
        self
    }
}

/// The context for reading a command's words.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub cwd: &'a Path,
    pub home: Option<&'a Path>,
    pub table: &'a Table,
}

/// Longer lines are not parsed, in bytes.
pub const MAX_LINE: usize = 64 * 1024;
/// How many values of a variable are followed.
const MAX_VALUES: usize = 64;
/// From how many directories words are resolved.
const MAX_DIRS: usize = 4;
/// How deeply commands within commands are followed.
const MAX_DEPTH: usize = 8;

/// Assesses a command with known words, as a guard gets it.
pub fn assess(argv: &[OsString], around: &Surroundings<'_>) -> Assessment {
    let words: Vec<Word> = argv.iter().map(|arg| Word::exact(arg)).collect();
    let place = Place::new(around);
    let mut found = command::simple(&words, &place, around, 0);
    found.detaches |= command::detaches(&words);
    // The program itself is not an operand.
    let texts = argv.iter().skip(1).filter_map(|arg| arg.to_str());
    found.finished().mentioning(texts, around)
}

/// Returns true for the name of a POSIX-like shell.
pub fn is_shell(name: &str) -> bool {
    command::is_shell(name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Posix,
    PowerShell,
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

/// Where a part of a command runs; `None` after a `cd` to an unknown directory.
#[derive(Debug, Clone)]
struct Place {
    cwd: Option<PathBuf>,
    /// Values of variables in this line, each with all values that a loop gives it. They may be out
    /// of date, because they only ever add.
    vars: Vec<(String, Vec<Word>)>,
}

impl Place {
    fn new(around: &Surroundings<'_>) -> Self {
        Self {
            cwd: Some(around.cwd.to_path_buf()),
            vars: Vec::new(),
        }
    }

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

    /// Returns the absolute path of a word, if it is known.
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

    /// Returns true if a word is below the current directory, although its end is known only at run
    /// time, as in `out/$name`. A guard watches that directory.
    fn is_below(&self, word: &Word) -> bool {
        let (above, name) = match word.start.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => word.start.split_at(slash + 1),
            None => (&b"./"[..], &word.start[..]),
        };
        let in_here = || {
            let above = Word {
                bytes: above.to_vec(),
                ..Word::default()
            };
            let above = self.path(&above)?;
            Some(above.starts_with(self.cwd.as_deref()?))
        };
        // A value alone may be an absolute path, and after dots it may lead upwards.
        !word.start.is_empty()
            && !word.glob
            && !name.starts_with(b".")
            && in_here().unwrap_or(false)
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
    /// Part of it is known only at run time: a variable, the output of a command.
    dynamic: bool,
    /// It has an unquoted `*`, `?` or `[`; in `bytes`, quoted ones are escaped by `\`.
    glob: bool,
    /// Its probable values, if it is known only at run time.
    likely: Vec<Self>,
    /// How it was written, if it is known only at run time.
    written: String,
    /// What comes before the first part that is known only at run time.
    start: Vec<u8>,
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

    fn shown(&self) -> String {
        match self.dynamic && !self.written.is_empty() {
            true => crate::base::path::show_bytes(self.written.as_bytes()),
            false => crate::base::path::show_bytes(&self.bytes),
        }
    }
}

#[cfg(test)]
mod tests;
