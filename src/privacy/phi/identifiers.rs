//! Identifiers of the countries: the lines of `identifiers.txt`, read on first use.

use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexSet};

use super::checks::{self, Check};
use super::rules::Role;

pub(super) const TEXT: &str = include_str!("identifiers.txt");

/// What is enough in the strict profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Form,
    /// The form, if it is all there is in its line.
    Alone,
    Words,
}

pub(super) struct Word {
    pub(super) text: String,
    /// It counts only in the strict profile.
    pub(super) strict: bool,
}

pub(super) struct Identifier {
    pub(super) kind: &'static str,
    pub(super) proof: Proof,
    /// What it proves about a patient, beside one of its words.
    pub(super) patient: Option<Role>,
    pub(super) check: Check,
    /// The first group is the identifier.
    pub(super) form: String,
    pub(super) words: Vec<Word>,
    regex: OnceLock<Option<Regex>>,
}

impl Identifier {
    pub(super) fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| compile(&self.form)).as_ref()
    }
}

pub(super) fn compile(form: &str) -> Option<Regex> {
    regex::bytes::RegexBuilder::new(form)
        .unicode(false)
        .build()
        .ok()
}

pub(super) fn all() -> &'static [Identifier] {
    static ALL: OnceLock<Vec<Identifier>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<Identifier> = Vec::new();
        // Heads that have no words yet.
        let mut open = 0;
        for line in TEXT.lines().filter(|line| !line.starts_with('#')) {
            let line = line.trim_end();
            if let Some(words) = line.strip_prefix("  words  ") {
                for one in &mut all[open..] {
                    one.words = words.split(" | ").flat_map(word).collect();
                }
                open = all.len();
            } else if !line.starts_with(' ') {
                all.extend(head(line));
            }
        }
        all
    })
}

/// Parses a head; `None` if it is invalid.
fn head(line: &'static str) -> Option<Identifier> {
    let next = |text: &'static str| text.trim_start().split_once(' ');
    let (kind, rest) = next(line)?;
    let (proof, rest) = next(rest)?;
    let (patient, rest) = next(rest)?;
    let (check, form) = next(rest)?;
    let form = form.trim();
    Some(Identifier {
        kind,
        proof: match proof {
            "form" => Proof::Form,
            "alone" => Proof::Alone,
            "words" => Proof::Words,
            _ => return None,
        },
        patient: match patient {
            "strong" => Some(Role::Strong),
            "with-health" => Some(Role::Identifier),
            "-" => None,
            _ => return None,
        },
        check: checks::by_name(check)?,
        form: match form.strip_prefix('*') {
            Some(form) => form.to_owned(),
            None => format!(r"\b({form})\b"),
        },
        words: Vec::new(),
        regex: OnceLock::new(),
    })
}

/// Returns the spellings of a word in text whose ASCII letters were made small: other letters were
/// not.
fn word(written: &str) -> Vec<Word> {
    let written = written.trim();
    let (text, strict) = match written.strip_prefix('~') {
        Some(text) => (text, true),
        None => (written, false),
    };
    let mut first = text.chars();
    let title = first.next().map_or_else(String::new, |c| {
        c.to_uppercase().collect::<String>() + first.as_str()
    });
    let mut spellings = vec![text.to_owned(), title, text.to_uppercase()];
    for spelling in &mut spellings {
        spelling.make_ascii_lowercase();
    }
    spellings.sort_unstable();
    spellings.dedup();
    spellings
        .into_iter()
        .map(|text| Word { text, strict })
        .collect()
}

/// Returns the words that may make a line worth examining without the strict profile, and the number
/// in [`all`] of the identifier that each belongs to: all those of patients.
pub(super) fn triggers() -> impl Iterator<Item = (&'static str, usize)> {
    let patients = all().iter().enumerate();
    let patients = patients.filter(|(_, one)| one.patient.is_some());
    patients.flat_map(|(number, one)| {
        let words = one.words.iter().filter(|word| !word.strict);
        words.map(move |word| (&*word.text, number))
    })
}

/// Returns the identifiers that may be in a line by their forms.
pub(super) fn candidates(piece: &[u8]) -> Vec<&'static Identifier> {
    static FORMS: OnceLock<RegexSet> = OnceLock::new();
    let forms = FORMS.get_or_init(|| {
        regex::bytes::RegexSetBuilder::new(all().iter().map(|one| &one.form))
            .unicode(false)
            .size_limit(64 << 20)
            .dfa_size_limit(16 << 20)
            .build()
            // The forms are constants and a test compiles them, so this never happens.
            .unwrap_or_else(|_| RegexSet::empty())
    });
    forms.matches(piece).iter().map(|at| &all()[at]).collect()
}

/// Returns true if there is nothing else in a line.
pub(super) fn is_alone(piece: &[u8], span: &Range<usize>) -> bool {
    let nothing = |b: &u8| b.is_ascii_whitespace() || b"\"',;.".contains(b);
    piece[..span.start].iter().all(nothing) && piece[span.end..].iter().all(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_every_form_compiles() {
        let heads = TEXT
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ' ']));
        assert_eq!(all().len(), heads.count(), "a line that is not understood");
        for one in all() {
            assert!(
                one.regex().is_some_and(|r| r.captures_len() == 2),
                "{}: {}",
                one.kind,
                one.form
            );
            assert!(!one.words.is_empty(), "{} has no words", one.kind);
        }
        let found = candidates(b"943 476 5919");
        assert!(found.iter().any(|one| one.kind == "uk-nhs"));
    }
}
