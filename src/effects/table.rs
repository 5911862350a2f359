//! The table of rules: `rules.txt`, and the lines that a user adds.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Effect;

const BUILTIN: &str = include_str!("rules.txt");

/// A line of a rule table that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {line}: {reason}")]
pub struct TableError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// What programs do.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Programs to the numbers of their rules, in order.
    programs: HashMap<String, Vec<usize>>,
    rules: Vec<Rule>,
    values: HashMap<String, Vec<String>>,
    wraps: HashMap<String, Wrap>,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) effect: Effect,
    pub(super) conditions: Vec<Condition>,
    pub(super) operands: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// The next argument that is no option.
    Word(Vec<String>),
    /// One of these options.
    Any(Vec<String>),
    /// None of these options.
    None(Vec<String>),
    /// There are further arguments, or none.
    More(bool),
    /// An argument begins with `+` or `:`: a ref that is rewritten or deleted at the other end.
    Rewrites,
    /// The script given only prints.
    Prints,
    /// The commands that it runs only read.
    RunsReaders,
}

/// Where operands come from; a symlink at the end is followed if the flag is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Args(bool),
    First(bool),
    Last(bool),
    Rest(bool),
    Value(String, bool),
    Option(Vec<String>, bool),
    Directory,
    /// Below HOME.
    Home(String),
    /// Below the directory where it works.
    Here(String),
}

/// A program that runs another.
#[derive(Debug, Clone, Default)]
pub(super) struct Wrap {
    /// Options that take a value.
    pub(super) values: Vec<String>,
    /// Arguments before the command.
    pub(super) skip: usize,
}

impl Table {
    /// Returns the rules that come with bdr.
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        // A test reads every line: what is built in has no wrong ones.
        TABLE.get_or_init(|| Self::default().with(BUILTIN).unwrap_or_default())
    }

    /// Returns these rules with others before them.
    ///
    /// # Errors
    /// A line cannot be understood.
    pub fn with(&self, text: &str) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            table.line(line).map_err(|reason| TableError {
                line: number + 1,
                reason,
            })?;
        }
        let first = table.rules.len();
        table.rules.extend(self.rules.iter().cloned());
        for (program, numbers) in &self.programs {
            let all = table.programs.entry(program.clone()).or_default();
            all.extend(numbers.iter().map(|n| n + first));
        }
        for (program, values) in &self.values {
            let all = table.values.entry(program.clone()).or_default();
            all.extend(values.iter().cloned());
        }
        for (program, wrap) in &self.wraps {
            let place = table.wraps.entry(program.clone());
            place.or_insert_with(|| wrap.clone());
        }
        Ok(table)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        match columns[..] {
            ["values", programs, values] => {
                for program in list(programs) {
                    self.values.entry(program).or_default().extend(list(values));
                }
            }
            ["wrap", programs, values, skip] => {
                let skip = skip
                    .parse()
                    .map_err(|_| format!("`{skip}` is no number of arguments"))?;
                let values = list(values);
                for program in list(programs) {
                    let values = values.clone();
                    self.wraps.insert(program, Wrap { values, skip });
                }
            }
            [id, effect, programs, conditions, operands] => {
                let effect = effect_of(effect).ok_or_else(|| format!("`{effect}` is no effect"))?;
                let conditions: Result<_, _> =
                    conditions.split_whitespace().map(condition).collect();
                let operands: Result<_, _> = operands.split_whitespace().map(source).collect();
                let number = self.rules.len();
                self.rules.push(Rule {
                    id: id.to_owned(),
                    effect,
                    conditions: conditions?,
                    operands: operands?,
                });
                for program in list(programs) {
                    self.programs.entry(program).or_default().push(number);
                }
            }
            _ => return Err("a rule is `id | effect | programs | conditions | operands`".into()),
        }
        Ok(())
    }

    pub(super) fn rules(&self, program: &str) -> impl Iterator<Item = &Rule> {
        let numbers = self.programs.get(program);
        numbers.into_iter().flatten().map(|n| &self.rules[*n])
    }

    /// Returns true if the option takes the next argument as its value.
    pub(super) fn takes_value(&self, program: &str, option: &str) -> bool {
        let values = self.values.get(program);
        values.is_some_and(|values| values.iter().any(|v| v == option))
    }

    pub(super) fn wrap(&self, program: &str) -> Option<&Wrap> {
        self.wraps.get(program)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }
}

fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

fn effect_of(word: &str) -> Option<Effect> {
    [
        Effect::Read,
        Effect::Write,
        Effect::Unknown,
        Effect::Destructive,
        Effect::GitDiscard,
        Effect::Remote,
    ]
    .into_iter()
    .find(|effect| effect.word() == word)
}

fn condition(token: &str) -> Result<Condition, String> {
    let options = |text: &str| text.strip_prefix('[')?.strip_suffix(']').map(list);
    Ok(match token {
        "#+" => Condition::More(true),
        "#0" => Condition::More(false),
        "{rewrites}" => Condition::Rewrites,
        "{prints}" => Condition::Prints,
        "{runs-readers}" => Condition::RunsReaders,
        _ if token.starts_with('[') => {
            Condition::Any(options(token).ok_or_else(|| format!("`{token}` is not closed"))?)
        }
        _ if token.starts_with("![") => {
            Condition::None(options(&token[1..]).ok_or_else(|| format!("`{token}` is not closed"))?)
        }
        _ if token.starts_with(['{', '!', '#']) => {
            return Err(format!("`{token}` is no condition"));
        }
        _ => Condition::Word(list(token)),
    })
}

fn source(token: &str) -> Result<Source, String> {
    let (name, follow) = match token.strip_suffix('+') {
        Some(name) => (name, true),
        None => (token, false),
    };
    Ok(match name {
        "args" => Source::Args(follow),
        "first" => Source::First(follow),
        "last" => Source::Last(follow),
        "rest" => Source::Rest(follow),
        "cwd" => Source::Directory,
        _ => {
            if let Some(options) = name.strip_prefix("opt:") {
                Source::Option(list(options), follow)
            } else if let Some(key) = name.strip_suffix('=') {
                Source::Value(key.to_owned(), follow)
            } else if let Some(file) = name.strip_prefix("~/") {
                Source::Home(file.to_owned())
            } else if let Some(file) = name.strip_prefix("./") {
                Source::Here(file.to_owned())
            } else {
                return Err(format!("`{token}` names no operands"));
            }
        }
    })
}
