//! Identifiers of people and health information, by form, check digits and the words around them.
//!
//! Numbers alone say little in a developer's files: bare nine-digit numbers are timestamps. So all
//! but a few kinds need context, a fitting word within reach on the same line (or the key of the
//! same member). [`verdict`] decides per record whether it is PHI.

use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexSet};

use super::check;
use super::{Finding, Group};

mod rules;

use rules::{RULES, Role, Rule};

struct Compiled {
    set: RegexSet,
    each: Vec<OnceLock<Option<Regex>>>,
    numbers: Vec<usize>,
}

fn compiled(strict: bool) -> &'static Compiled {
    static PLAIN: OnceLock<Compiled> = OnceLock::new();
    static STRICT: OnceLock<Compiled> = OnceLock::new();
    let make = || {
        let numbers: Vec<usize> = (0..RULES.len())
            .filter(|i| strict || !RULES[*i].strict)
            .collect();
        Compiled {
            // The forms are constants and a test compiles them, so the empty set never happens.
            set: regex::bytes::RegexSetBuilder::new(numbers.iter().map(|i| RULES[*i].form))
                .unicode(false)
                .build()
                .unwrap_or_else(|_| RegexSet::empty()),
            each: numbers.iter().map(|_| OnceLock::new()).collect(),
            numbers,
        }
    };
    if strict {
        STRICT.get_or_init(make)
    } else {
        PLAIN.get_or_init(make)
    }
}

/// What makes a line worth examining without the strict profile, in lower case, by the first three
/// letters.
const TRIGGERS: &[&str] = &[
    "ssn",
    "social",
    "itin",
    "taxpayer",
    "mbi",
    "medicare",
    "medicaid",
    "beneficiary",
    "npi",
    "dea",
    "mrn",
    "medical",
    "patient",
    "chart",
    "encounter",
    "admi",
    "member",
    "subscriber",
    "insurance",
    "health",
    "policy",
    "payer",
    "enrollee",
    "icd",
    "diagnos",
    "cpt",
    "hcpcs",
    "ndc",
    "loinc",
    "dob",
    "birth",
    "discharge",
    "death",
    "deceased",
    "prescri",
    "vin",
    "vehicle",
    "med rec",
    "ss#",
    "hic",
];

/// Returns true if a line has a word that makes it worth examining, or a number of the form
/// 123-45-6789.
fn is_worth(line: &[u8]) -> bool {
    static FIND: OnceLock<Option<aho_corasick::AhoCorasick>> = OnceLock::new();
    let find = FIND.get_or_init(|| {
        aho_corasick::AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(TRIGGERS)
            .ok()
    });
    let is_word = |m: &aho_corasick::Match| is_whole_word(line, m.start(), m.len());
    let has = |find: &aho_corasick::AhoCorasick| find.find_iter(line).any(|m| is_word(&m));
    find.as_ref().is_some_and(has) || has_dashed(line)
}

/// Returns true for a word long enough to match inside others; a short one must be whole: not
/// `which` for `hic`, not `3dea5` for `dea`.
fn is_whole_word(text: &[u8], at: usize, length: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    let after = text.get(at + length);
    length > 4
        || !before.is_some_and(u8::is_ascii_alphanumeric)
            && !after.is_some_and(u8::is_ascii_alphabetic)
}

/// Returns true if a line may contain `ddd-dd-dddd`, or a Medicare identifier with its dashes.
fn has_dashed(line: &[u8]) -> bool {
    let digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    let inside = |at: Option<usize>| {
        at.and_then(|at| line.get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    memchr::memchr_iter(b'-', line).any(|at| {
        // Three digits and not a fourth, as in a date; two; a dash.
        let social = at >= 3
            && digit(at - 1)
            && digit(at - 2)
            && digit(at - 3)
            && !inside(at.checked_sub(4))
            && digit(at + 1)
            && digit(at + 2)
            && line.get(at + 3) == Some(&b'-');
        // A digit, a letter, two more; three; a dash.
        let medicare = at >= 4
            && line.get(at + 4) == Some(&b'-')
            && digit(at - 4)
            && line[at - 3].is_ascii_alphabetic()
            && !inside(at.checked_sub(5));
        social || medicare
    })
}

/// Longest piece of a line that is examined at once, in bytes. Pieces overlap.
const PIECE: usize = 64 * 1024;
const OVERLAP: usize = 512;

/// Finds everything, line by line, and in pieces where a line is long.
pub(super) fn scan(text: &[u8], strict: bool, found: &mut Vec<Finding>) {
    let mut at = 0;
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |p| at + p + 1);
        let mut from = at;
        loop {
            let to = end.min(from + PIECE);
            if strict || is_worth(&text[from..to]) {
                line(text, from..to, strict, found);
            }
            if to == end {
                break;
            }
            from = to - OVERLAP;
        }
        at = end;
    }
}

fn line(text: &[u8], range: Range<usize>, strict: bool, found: &mut Vec<Finding>) {
    let compiled = compiled(strict);
    let piece = &text[range.clone()];
    let hits = compiled.set.matches(piece);
    if !hits.matched_any() {
        return;
    }
    let lower = piece.to_ascii_lowercase();
    let ibans = if strict { iban_like(piece) } else { Vec::new() };
    for hit in &hits {
        let rule = &RULES[compiled.numbers[hit]];
        let regex = compiled.each[hit].get_or_init(|| {
            regex::bytes::RegexBuilder::new(rule.form)
                .unicode(false)
                .build()
                .ok()
        });
        let Some(regex) = regex else { continue };
        for captures in regex.captures_iter(piece) {
            let Some(all) = captures.get(0) else { continue };
            let mut span = captures.get(1).unwrap_or(all).range();
            if rule.kind == "iban" {
                // The match may include the words that follow.
                let Some(end) = iban_end(&piece[span.clone()]) else {
                    continue;
                };
                span.end = span.start + end;
            }
            if !(rule.check)(&piece[span.clone()])
                || is_part(piece, &span, rule)
                || rule.kind != "iban"
                    && ibans
                        .iter()
                        .any(|i| i.start <= span.start && span.end <= i.end)
            {
                continue;
            }
            if !rule.context.is_empty() && !has_context(text, &range, &lower, &span, rule.context) {
                continue;
            }
            found.push(Finding {
                range: range.start + span.start..range.start + span.end,
                group: match rule.role {
                    Role::Person => Group::Pii,
                    _ => Group::Phi,
                },
                kind: rule.kind,
            });
        }
    }
}

/// Returns true for a part of something longer that is none of these: decimals, UUIDs, versions.
fn is_part(piece: &[u8], span: &Range<usize>, rule: &Rule) -> bool {
    if matches!(
        rule.kind,
        "email"
            | "date"
            | "age"
            | "health-text"
            | "ip-address"
            | "patient-name"
            | "old-age"
            | "fi-hetu"
    ) {
        return false;
    }
    let before = span.start.checked_sub(1).map_or(b' ', |i| piece[i]);
    let after = piece.get(span.end).copied().unwrap_or(b' ');
    let after2 = piece.get(span.end + 1).copied().unwrap_or(b' ');
    before == b'.' && span.start >= 2 && piece[span.start - 2].is_ascii_digit()
        || before == b'-' && span.start >= 2 && piece[span.start - 2].is_ascii_alphanumeric()
        || matches!(after, b'.' | b'-' | b'_')
            && after2.is_ascii_alphanumeric()
            && rule.kind != "phone"
        || before == b' '
            && span.start >= 2
            && piece[span.start - 2].is_ascii_digit()
            && rule.context.is_empty()
            && rule.strict
        || matches!(before, b'_' | b'/' | b'$')
}

/// Returns everything with the form of an IBAN, right or wrong: its digits are nothing else.
fn iban_like(piece: &[u8]) -> Vec<Range<usize>> {
    static FORM: OnceLock<Option<Regex>> = OnceLock::new();
    let form = FORM.get_or_init(|| {
        let form = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,8}(?: ?[A-Z0-9]{1,3})?\b";
        regex::bytes::RegexBuilder::new(form)
            .unicode(false)
            .build()
            .ok()
    });
    form.iter()
        .flat_map(|f| f.find_iter(piece))
        .map(|m| m.range())
        .collect()
}

fn iban_end(text: &[u8]) -> Option<usize> {
    (15..=text.len()).rev().find(|end| {
        text.get(*end).is_none_or(|b| !b.is_ascii_alphanumeric()) && check::iban(&text[..*end])
    })
}

/// Returns true if one of the words is within reach: 80 bytes before, on the line and the one
/// above, or 40 bytes after.
fn has_context(
    text: &[u8],
    range: &Range<usize>,
    lower: &[u8],
    span: &Range<usize>,
    words: &[&str],
) -> bool {
    let from = span.start.saturating_sub(80);
    let to = (span.end + 40).min(lower.len());
    let near = &lower[from..to];
    let has = |near: &[u8]| {
        words.iter().any(|word| {
            let word = word.as_bytes();
            memchr::memmem::find_iter(near, word).any(|at| is_whole_word(near, at, word.len()))
        })
    };
    if has(near) {
        return true;
    }
    // The line above explains this one: `Phone:` and the number below.
    if from == 0 && range.start > 1 {
        let above_from = text[..range.start - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |p| p + 1);
        let above = &text[above_from.max(range.start.saturating_sub(60))..range.start];
        return has(&above.to_ascii_lowercase());
    }
    false
}

/// What the findings say about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Nothing about health care.
    None,
    /// PHI: an identifier that is enough by itself, or one together with health information.
    Phi,
}

pub(super) fn verdict<'a>(kinds: impl Iterator<Item = &'a str>) -> Verdict {
    let (mut identifier, mut health) = (false, false);
    for kind in kinds {
        let roles = RULES
            .iter()
            .filter(|r| r.kind == kind && r.role != Role::Person);
        for rule in roles {
            match rule.role {
                Role::Strong => return Verdict::Phi,
                Role::Identifier => identifier = true,
                Role::Health => health = true,
                Role::Person => {}
            }
        }
    }
    if identifier && health {
        Verdict::Phi
    } else {
        Verdict::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_compiles() {
        for rule in RULES {
            assert!(
                regex::bytes::RegexBuilder::new(rule.form)
                    .unicode(false)
                    .build()
                    .is_ok(),
                "{}: {}",
                rule.kind,
                rule.form
            );
        }
    }
}
