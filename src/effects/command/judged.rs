//! What a command with known rules does: which rule fits its arguments, and which of them are
//! operands.

use super::super::table::{Condition, Rule, Source};
use super::super::{Assessment, Effect, Operand, Place, Surroundings, Word};
use super::readers::{only_prints, runs_readers};
use super::{WHOLE, shown};

/// The arguments of a program, sorted.
pub(super) struct Args<'a> {
    name: &'a str,
    pub(super) words: &'a [Word],
    /// Options as written, with the value after them.
    options: Vec<(&'a Word, Option<&'a Word>)>,
    pub(super) positional: Vec<&'a Word>,
}

impl<'a> Args<'a> {
    pub(super) fn new(name: &'a str, words: &'a [Word], around: &Surroundings<'_>) -> Self {
        let mut args = Self {
            name,
            words,
            options: Vec::new(),
            positional: Vec::new(),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word.bytes == b"--" && !word.dynamic {
                args.positional.extend(rest);
                break;
            }
            let is_option = word.bytes.len() > 1 && word.bytes[0] == b'-';
            if is_option {
                let takes = word
                    .text()
                    .is_some_and(|t| around.table.takes_value(name, t));
                args.options
                    .push((word, if takes { rest.next() } else { None }));
            } else {
                args.positional.push(word);
            }
        }
        args
    }

    /// Returns true if one of the options is present: as it is, with `=value`, or among combined
    /// short ones.
    fn has(&self, wanted: &[String]) -> bool {
        self.options.iter().any(|(word, _)| {
            let bytes = &word.bytes[..];
            wanted.iter().any(|option| {
                let option = option.as_bytes();
                let short = option.len() == 2 && bytes[1] != b'-';
                bytes == option
                    || (option.starts_with(b"--")
                        && bytes.starts_with(option)
                        && bytes.get(option.len()) == Some(&b'='))
                    || (short
                        && bytes[1..]
                            .iter()
                            .take_while(|b| b.is_ascii_alphabetic())
                            .any(|b| *b == option[1]))
            })
        })
    }

    /// Returns the values of an option, written after it or attached.
    fn values_of(&self, wanted: &[String]) -> Vec<Word> {
        let mut found = Vec::new();
        for (word, value) in &self.options {
            for option in wanted {
                let option = option.as_bytes();
                let rest = word.bytes.strip_prefix(option);
                match rest {
                    Some(b"") => found.extend(value.map(Word::clone)),
                    Some(rest) if option.len() == 2 || rest[0] == b'=' => found.push(Word {
                        bytes: rest.strip_prefix(b"=").unwrap_or(rest).to_vec(),
                        ..(*word).clone()
                    }),
                    _ => {}
                }
            }
        }
        found
    }

    pub(super) fn value_of(&self, option: &str) -> Option<&'a Word> {
        let found = self
            .options
            .iter()
            .find(|(word, _)| word.bytes == option.as_bytes());
        found.and_then(|(_, value)| *value)
    }
}

/// Returns how many leading arguments a rule consumes, if it fits.
pub(super) fn fits(
    rule: &Rule,
    args: &Args<'_>,
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Option<usize> {
    // Configuration on the command line can make git run programs: pagers, monitors, external
    // diffs.
    let configures = ["-c", "--config-env", "--exec-path"].map(str::to_owned);
    if args.name == "git" && rule.effect == Effect::Read && args.has(&configures) {
        return None;
    }
    let mut used = 0;
    for condition in &rule.conditions {
        let holds = match condition {
            Condition::Word(words) => {
                let next = args.positional.get(used).and_then(|word| word.text());
                used += 1;
                next.is_some_and(|text| words.iter().any(|w| w == text))
            }
            Condition::Any(options) => args.has(options),
            Condition::None(options) => {
                let unclear = || args.words.iter().any(may_be_option);
                !(args.has(options) || rule.effect == Effect::Read && unclear())
            }
            Condition::More(more) => (args.positional.len() > used) == *more,
            Condition::Rewrites => args
                .positional
                .iter()
                .any(|word| word.bytes.starts_with(b"+") || word.bytes.starts_with(b":")),
            Condition::Prints => only_prints(args),
            Condition::RunsReaders => runs_readers(args, place, around, depth),
        };
        if !holds {
            return None;
        }
    }
    Some(used)
}

/// Returns true if expansion may turn a word into an option: a variable, or a pattern that matches
/// a file of that name.
fn may_be_option(word: &Word) -> bool {
    word.dynamic || word.glob && matches!(word.bytes.first(), Some(b'*' | b'?' | b'[' | b'-'))
}

pub(super) fn judged(
    rule: &Rule,
    name: &str,
    words: &[Word],
    args: &Args<'_>,
    used: usize,
    place: &Place,
    around: &Surroundings<'_>,
) -> Assessment {
    let mut result = Assessment {
        effect: rule.effect,
        operands: Vec::new(),
        rule: rule.id.clone(),
        reason: String::new(),
        remote: Vec::new(),
        unlinks_only: rule.id == "fs.rm" && name != "shred" && name != "srm",
        ..Assessment::nothing()
    };
    let line = || shown(words);
    result.reason = match rule.effect {
        Effect::Read => format!("`{name}` only reads"),
        Effect::Write => format!("`{name}` writes"),
        Effect::Unknown => format!("what `{name}` does cannot be told"),
        Effect::Destructive => format!("`{name}` deletes or overwrites"),
        Effect::GitDiscard => format!("`{name}` can discard work"),
        Effect::Remote => format!("`{name}` acts on something that is not a file here"),
    };
    if rule.effect == Effect::Remote {
        result.remote.push(line());
    }
    if rule.effect == Effect::Read {
        return result;
    }
    let positional = args.positional.get(used..).unwrap_or_default();
    let mut operands = Operands {
        place,
        itself: WHOLE.contains(&rule.id.as_str()),
        found: Vec::new(),
        places: Vec::new(),
        plain: true,
        untold: false,
    };
    for source in &rule.operands {
        operands.from(source, args, positional, around);
    }
    result.unlinks_only &= operands.plain;
    result.operands = operands.found;
    result.operands.extend(operands.places);
    if operands.untold && rule.effect == Effect::Destructive {
        result.untold.push(line());
    }
    // A file that gets another name is written and removed under that from then on.
    if matches!(rule.id.as_str(), "fs.cp" | "fs.rsync") {
        let read = positional.iter().filter_map(|word| place.path(word));
        let written = |path: &std::path::PathBuf| result.operands.iter().any(|o| o.path == *path);
        result.inputs = read.filter(|path| !written(path)).collect();
    }
    made_beside(rule, name, positional, place, &mut result);
    result
}

struct Operands<'a> {
    place: &'a Place,
    itself: bool,
    found: Vec<Operand>,
    /// Places that no word names; last, because they are the widest.
    places: Vec<Operand>,
    /// Each is one literal path.
    plain: bool,
    /// Nothing is known about some word.
    untold: bool,
}

impl Operands<'_> {
    /// Adds the operands of one source of a rule.
    fn from(
        &mut self,
        source: &Source,
        args: &Args<'_>,
        positional: &[&Word],
        around: &Surroundings<'_>,
    ) {
        match source {
            Source::Args(follow) => self.all(positional.iter(), *follow),
            Source::First(follow) => self.all(positional.iter().take(1), *follow),
            Source::Last(follow) => self.all(positional.last().into_iter(), *follow),
            Source::Rest(follow) => self.all(positional.iter().skip(1), *follow),
            Source::Option(options, follow) => {
                let values = args.values_of(options);
                values.iter().for_each(|word| self.add(word, *follow));
            }
            Source::Value(key, follow) => {
                for word in positional {
                    let value = word.bytes.strip_prefix(key.as_bytes());
                    if let Some(value) = value.and_then(|v| v.strip_prefix(b"=")) {
                        let word = Word {
                            bytes: value.to_vec(),
                            ..(*word).clone()
                        };
                        self.add(&word, *follow);
                    }
                }
            }
            Source::Directory => self.places.extend(self.place.here()),
            Source::Here(file) => {
                let word = Word {
                    bytes: file.clone().into_bytes(),
                    ..Word::default()
                };
                self.add(&word, true);
            }
            Source::Home(file) => {
                if let Some(home) = around.home {
                    let file = Word::exact(home.join(file).as_os_str());
                    self.places.extend(self.place.operand(&file, true));
                }
            }
        }
    }

    fn all<'w>(&mut self, words: impl Iterator<Item = &'w &'w Word>, follow: bool) {
        words.for_each(|word| self.add(word, follow));
    }

    /// Adds a word; if it is known only at run time, its probable values.
    fn add(&mut self, word: &Word, follow: bool) {
        let itself = self.itself;
        match self.place.operand(word, follow) {
            Some(operand) => {
                self.plain &= !operand.glob;
                self.found.push(Operand { itself, ..operand });
            }
            None => {
                self.plain = false;
                self.untold |= word.likely.is_empty();
                let likely = word.likely.iter();
                let named = likely.filter_map(|word| self.place.operand(word, follow));
                self.found
                    .extend(named.map(|operand| Operand { itself, ..operand }));
            }
        }
    }
}

/// Files that a program creates next to its operands: existing ones are overwritten, new ones are
/// removed by an undo.
fn made_beside(
    rule: &Rule,
    name: &str,
    positional: &[&Word],
    place: &Place,
    result: &mut Assessment,
) {
    let mut add = |word: &Word, bytes: Vec<u8>, glob: bool| {
        let made = Word {
            bytes,
            glob,
            ..word.clone()
        };
        let operand = place.operand(&made, true);
        result.operands.extend(operand.map(|operand| Operand {
            itself: !glob,
            ..operand
        }));
    };
    let endings: &[&str] = match name {
        "gzip" | "gunzip" => &[".gz", ".tgz", ".Z"],
        "bzip2" | "bunzip2" => &[".bz2", ".tbz2"],
        "xz" | "unxz" => &[".xz", ".lzma", ".txz"],
        "zstd" | "unzstd" => &[".zst"],
        "zip" => &[".zip"],
        _ => &[],
    };
    for word in positional.iter().filter(|word| !word.glob) {
        for ending in endings {
            match word.bytes.strip_suffix(ending.as_bytes()) {
                Some(plain) => add(word, plain.to_vec(), false),
                None => add(word, [&word.bytes[..], ending.as_bytes()].concat(), false),
            }
        }
    }
    if rule.id == "fs.split" {
        // Named after a prefix, in the prefix's directory.
        for word in positional.iter().skip(1) {
            for count in [2, 3] {
                let made = [&word.bytes[..], b"[0-9a-z]".repeat(count).as_slice()].concat();
                add(word, made, true);
            }
        }
    }
}
