//! The table of rules: `rules.txt`, and the lines that a user adds.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::Effect;

const BUILTIN: &str = include_str!("rules.txt");

/// A line of a rule table that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {line}: {reason}")]
pub struct TableError {
    /// Number of the line, from 1.
    pub line: usize,
    pub reason: String,
}

/// What programs do: the user's rules, then the built-in ones.
///
/// A table is split into columns when it is created, but a rule is parsed only when a command needs
/// it: most commands need a few of many.
#[derive(Debug, Clone, Default)]
pub struct Table {
    layers: Vec<Arc<Layer>>,
}

#[derive(Debug, Default)]
struct Layer {
    text: Cow<'static, str>,
    rules: Vec<Line>,
    /// Programs, and their options that take a value.
    values: Vec<[Span; 2]>,
    /// Programs that run another, their options that take a value, and the number of arguments
    /// before the command.
    wraps: Vec<[Span; 3]>,
}

/// A rule that is not parsed yet.
#[derive(Debug)]
struct Line {
    /// Id, effect, programs, conditions, operands.
    columns: [Span; 5],
    rule: OnceLock<Option<Rule>>,
}

#[derive(Debug, Clone, Copy)]
struct Span(u32, u32);

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) effect: Effect,
    pub(super) conditions: Vec<Condition>,
    pub(super) operands: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// The next argument that is not an option.
    Word(Vec<String>),
    /// One of these options.
    Any(Vec<String>),
    /// None of these options.
    None(Vec<String>),
    /// There are further arguments, or none.
    More(bool),
    /// An argument begins with `+` or `:`: a ref that is rewritten or deleted at the other end.
    Rewrites,
    Prints,
    /// The commands that it runs only read.
    RunsReaders,
}

/// Where operands come from; with the flag, a final symlink is followed.
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

#[derive(Debug, Clone, Default)]
pub(super) struct Wrap {
    /// Options that take a value.
    pub(super) values: Vec<String>,
    /// Number of arguments before the command.
    pub(super) skip: usize,
}

impl Table {
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| {
            // A test parses every line: the built-in ones are valid.
            let layer = Layer::new(Cow::Borrowed(BUILTIN)).unwrap_or_default();
            Self {
                layers: vec![Arc::new(layer)],
            }
        })
    }

    /// Returns these rules with others before them.
    ///
    /// # Errors
    /// A line cannot be parsed.
    pub fn with(&self, text: &str) -> Result<Self, TableError> {
        let layer = Layer::new(Cow::Owned(text.to_owned()))?;
        layer.check()?;
        let mut layers = vec![Arc::new(layer)];
        layers.extend(self.layers.iter().cloned());
        Ok(Self { layers })
    }

    pub(super) fn rules<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.layers
            .iter()
            .flat_map(move |layer| layer.rules_of(program))
    }

    pub(super) fn takes_value(&self, program: &str, option: &str) -> bool {
        let named = |layer: &Layer| {
            let mut values = layer.values.iter();
            values.any(|[programs, options]| {
                names(layer.get(*options)).any(|name| name == option)
                    && names(layer.get(*programs)).any(|name| name == program)
            })
        };
        self.layers.iter().any(|layer| named(layer))
    }

    pub(super) fn wrap(&self, program: &str) -> Option<Wrap> {
        let mut wraps = self
            .layers
            .iter()
            .flat_map(|layer| layer.wraps.iter().map(move |wrap| (layer, wrap)));
        let (layer, [_, values, skip]) = wraps.find(|(layer, [programs, ..])| {
            names(layer.get(*programs)).any(|name| name == program)
        })?;
        Some(Wrap {
            values: list(layer.get(*values)),
            skip: layer.get(*skip).parse().ok()?,
        })
    }

    /// Returns the number of rules; parses all of them.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| {
                layer.check().unwrap();
                layer.rules.len()
            })
            .sum()
    }
}

impl Layer {
    fn new(text: Cow<'static, str>) -> Result<Self, TableError> {
        let mut layer = Self::default();
        let start = text.as_ptr() as usize;
        let span = |part: &str| {
            let part = part.trim();
            let from = (part.as_ptr() as usize - start) as u32;
            Span(from, from + part.len() as u32)
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut columns = line.splitn(6, '|').map(span);
            let columns: Vec<Span> = columns.by_ref().collect();
            let first = columns.first().map(|first| first.of(&text));
            match (first, &columns[..]) {
                (Some("values"), [_, programs, values]) => layer.values.push([*programs, *values]),
                (Some("wrap"), [_, programs, values, skip]) => {
                    layer.wraps.push([*programs, *values, *skip]);
                }
                (_, &[id, effect, programs, conditions, operands]) => layer.rules.push(Line {
                    columns: [id, effect, programs, conditions, operands],
                    rule: OnceLock::new(),
                }),
                _ => {
                    return Err(TableError {
                        line: number + 1,
                        reason: "a rule is `id | effect | programs | conditions | operands`".into(),
                    });
                }
            }
        }
        layer.text = text;
        Ok(layer)
    }

    fn get(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    fn rules_of<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Rule> {
        let fitting = self
            .rules
            .iter()
            .filter(move |line| names(self.get(line.columns[2])).any(|name| name == program));
        fitting.filter_map(|line| line.rule.get_or_init(|| self.parse(line).ok()).as_ref())
    }

    fn parse(&self, line: &Line) -> Result<Rule, String> {
        let [id, effect, _, conditions, operands] = line.columns.map(|span| self.get(span));
        let effect = effect_of(effect).ok_or_else(|| format!("`{effect}` is no effect"))?;
        let conditions: Result<_, _> = conditions.split_whitespace().map(condition).collect();
        let operands: Result<_, _> = operands.split_whitespace().map(source).collect();
        Ok(Rule {
            id: id.to_owned(),
            effect,
            conditions: conditions?,
            operands: operands?,
        })
    }

    fn check(&self) -> Result<(), TableError> {
        let wrong = |at: Span, reason: String| {
            let before = self.text.get(..at.0 as usize).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            TableError { line, reason }
        };
        for line in &self.rules {
            self.parse(line)
                .map_err(|reason| wrong(line.columns[0], reason))?;
        }
        for [programs, _, skip] in &self.wraps {
            let number = self.get(*skip);
            if number.parse::<usize>().is_err() {
                let reason = format!("`{number}` is no number of arguments");
                return Err(wrong(*programs, reason));
            }
        }
        Ok(())
    }
}

impl Span {
    fn of(self, text: &str) -> &str {
        text.get(self.0 as usize..self.1 as usize)
            .unwrap_or_default()
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn list(text: &str) -> Vec<String> {
    names(text).map(str::to_owned).collect()
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
