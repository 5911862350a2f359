//! Identifiers of people and health information, by form, check digits and the words around them.
//!
//! Numbers alone say little in a developer's files: bare nine-digit numbers are timestamps. So all
//! but a few kinds need context, a fitting word within reach on the same line (or the key of the
//! same member). [`verdict`] decides per record whether it is PHI.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::OnceLock;

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexSet};

use super::check;
use super::{Finding, Group};

mod checks;
mod columns;
mod identifiers;
mod rules;
mod triggers;

pub(super) use columns::Columns;
use identifiers::{Identifier, Proof};
use rules::{RULES, Role, Rule};
pub(super) use triggers::all_marks;

struct Compiled {
    set: RegexSet,
    each: Vec<OnceLock<Option<Regex>>>,
    numbers: Vec<usize>,
    /// The words of which each needs one.
    words: Vec<Vec<Finder<'static>>>,
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
            words: numbers
                .iter()
                .map(|i| RULES[*i].context.iter().map(Finder::new).collect())
                .collect(),
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
    "pid|",
    "insured",
    "hic",
];

/// Returns true if a piece of a text has a word that makes a line worth examining, or a number of the
/// form 123-45-6789. `places` are those of the text where one may be.
fn is_worth(text: &[u8], piece: &Range<usize>, places: &[usize]) -> bool {
    let part = &text[..piece.end];
    let near = triggers::near(places, piece).iter();
    let mut words = near.filter_map(|at| triggers::around(part, *at));
    words.next().is_some() || has_dashed(&text[piece.clone()])
}

/// Returns the lines that are worth examining.
fn worth_lines(text: &[u8], places: &[usize]) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let line_at = |at: usize| {
        let start = memchr::memrchr(b'\n', &text[..at]).map_or(0, |p| p + 1);
        start..memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |p| at + p + 1)
    };
    let mut end = 0;
    for at in places {
        if let Some(at) = triggers::around(text, *at).filter(|at| *at >= end) {
            let line = line_at(at);
            end = line.end;
            lines.push(line);
        }
    }
    let of_words = lines.len();
    let mut end = 0;
    for at in memchr::memchr_iter(b'-', text) {
        if at >= end && is_dashed(text, at) {
            let line = line_at(at);
            end = line.end;
            lines.push(line);
        }
    }
    if lines.len() > of_words {
        lines.sort_unstable_by_key(|line| line.start);
        lines.dedup();
    }
    lines
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
    memchr::memchr_iter(b'-', line).any(|at| is_dashed(line, at))
}

/// Returns true if the dash at `at` may be the first of such a number.
#[inline]
fn is_dashed(line: &[u8], at: usize) -> bool {
    let digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    let inside = |at: Option<usize>| {
        at.and_then(|at| line.get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
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
}

/// Longest piece of a line that is examined at once, in bytes. Pieces overlap.
const PIECE: usize = 64 * 1024;
const OVERLAP: usize = 512;

/// Finds everything, line by line, and in pieces where a line is long; and in a table what its
/// columns are. `name` is that of the file; `places` are those where one of the words of [`all_marks`] may
/// be.
pub(super) fn scan(
    name: &[u8],
    text: &[u8],
    places: &[usize],
    strict: bool,
    found: &mut Vec<Finding>,
) {
    lines(text, places, strict, found);
    if is_table(name) {
        columns::scan(text, strict, found);
    }
}

/// Returns true for the name of a table whose first line says what its columns are.
pub(super) fn is_table(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(b".csv") || lower.ends_with(b".tsv")
}

/// Returns the line of a table that says what its columns are, with its end; nothing of other files.
pub(super) fn header_of<'t>(name: &[u8], head: &'t [u8]) -> &'t [u8] {
    let end = memchr::memchr(b'\n', &head[..head.len().min(columns::LONGEST_HEADER + 1)]);
    match end.filter(|_| is_table(name)) {
        Some(end) => &head[..=end],
        None => b"",
    }
}

fn lines(text: &[u8], places: &[usize], strict: bool, found: &mut Vec<Finding>) {
    if strict {
        let mut at = 0;
        while at < text.len() {
            let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |p| at + p + 1);
            pieces(text, at..end, places, strict, found);
            at = end;
        }
        return;
    }
    // Without a digit there is nothing but words of health, which count only beside what identifies
    // somebody, and names.
    let has_digit = |line: &Range<usize>| text[line.clone()].iter().any(u8::is_ascii_digit);
    let (first, later): (Vec<_>, Vec<_>) =
        worth_lines(text, places).into_iter().partition(has_digit);
    let known = found.len();
    for line in first {
        pieces(text, line, places, strict, found);
    }
    let is_somebody = found[known..].iter().any(|one| one.kind != "health-text");
    for line in later {
        if is_somebody || has_name(&text[line.clone()]) {
            pieces(text, line, places, strict, found);
        }
    }
}

/// Returns true for a line that may say the name of a patient.
fn has_name(line: &[u8]) -> bool {
    let is_name = |w: &[u8]| w.eq_ignore_ascii_case(b"name") || w.eq_ignore_ascii_case(b"fami");
    line.windows(4).any(is_name)
}

fn pieces(
    text: &[u8],
    line_range: Range<usize>,
    places: &[usize],
    strict: bool,
    found: &mut Vec<Finding>,
) {
    let (mut from, end) = (line_range.start, line_range.end);
    if end - from <= PIECE {
        return line(text, line_range, places, strict, found);
    }
    loop {
        let to = end.min(from + PIECE);
        if strict || is_worth(text, &(from..to), places) {
            line(text, from..to, places, strict, found);
        }
        if to == end {
            break;
        }
        from = to - OVERLAP;
    }
}

fn line(
    text: &[u8],
    range: Range<usize>,
    places: &[usize],
    strict: bool,
    found: &mut Vec<Finding>,
) {
    let piece = &text[range.clone()];
    let compiled = compiled(strict);
    let hits = compiled.set.matches(piece);
    let lower = piece.to_ascii_lowercase();
    let line = Line {
        text,
        range,
        places,
        piece,
        lower: &lower,
        above: OnceCell::new(),
        strict,
        ibans: if strict { iban_like(piece) } else { Vec::new() },
    };
    let before = found.len();
    for hit in &hits {
        let rule = &RULES[compiled.numbers[hit]];
        if !line.may_have(&compiled.words[hit]) {
            continue;
        }
        let regex = compiled.each[hit].get_or_init(|| identifiers::compile(rule.form));
        if let Some(regex) = regex {
            line.by_rule(rule, regex, found);
        }
    }
    // What is known to be a patient's number is nobody's passport.
    let known = found[before..].iter().filter(|one| one.group == Group::Phi);
    let offset = line.range.start;
    let known = known
        .map(|one| one.range.start - offset..one.range.end - offset)
        .collect();
    line.identifiers(known, found);
}

/// A line or a piece of one.
struct Line<'t> {
    text: &'t [u8],
    range: Range<usize>,
    /// Where words of patients may be in the text.
    places: &'t [usize],
    piece: &'t [u8],
    /// The same in lower case.
    lower: &'t [u8],
    above: OnceCell<Vec<u8>>,
    strict: bool,
    /// What has the form of an IBAN: its digits are nothing else.
    ibans: Vec<Range<usize>>,
}

impl Line<'_> {
    fn by_rule(&self, rule: &Rule, regex: &Regex, found: &mut Vec<Finding>) {
        for captures in regex.captures_iter(self.piece) {
            let Some(all) = captures.get(0) else { continue };
            let mut span = captures.get(1).unwrap_or(all).range();
            if rule.kind == "iban" {
                // The match may include the words that follow.
                let Some(end) = iban_end(&self.piece[span.clone()]) else {
                    continue;
                };
                span.end = span.start + end;
            }
            if !(rule.check)(&self.piece[span.clone()])
                || is_part(self.piece, &span, rule)
                || rule.kind != "iban" && self.is_in_iban(&span)
            {
                continue;
            }
            if !rule.context.is_empty() && !self.has_word(&span, rule.context.iter().copied()) {
                continue;
            }
            let group = match rule.role {
                Role::Person => Group::Pii,
                _ => Group::Phi,
            };
            found.push(self.finding(span, group, rule.kind));
        }
    }

    fn finding(&self, span: Range<usize>, group: Group, kind: &'static str) -> Finding {
        Finding {
            range: self.range.start + span.start..self.range.start + span.end,
            group,
            kind,
        }
    }

    fn is_in_iban(&self, span: &Range<usize>) -> bool {
        let contains = |i: &Range<usize>| i.start <= span.start && span.end <= i.end;
        self.ibans.iter().any(contains)
    }

    /// Finds the identifiers of the countries. A number is one of them: the best of those that have
    /// a word beside it, or else the first.
    fn identifiers(&self, mut taken: Vec<Range<usize>>, found: &mut Vec<Finding>) {
        if !self.piece.iter().any(u8::is_ascii_digit) {
            return;
        }
        let mut all: Vec<(bool, Range<usize>, &Identifier)> = Vec::new();
        let candidates = match self.strict {
            true => identifiers::candidates(self.piece),
            false => triggers::owners(self.text, &self.range, self.places),
        };
        for one in candidates {
            let Some(regex) = one.regex() else { continue };
            for captures in regex.captures_iter(self.piece) {
                let Some(span) = captures.get(1).map(|group| group.range()) else {
                    continue;
                };
                if let Some(has_word) = self.proves(one, &span) {
                    all.push((has_word, span, one));
                }
            }
        }
        all.sort_by_key(|(has_word, _, one)| (!has_word, one.patient != Some(Role::Strong)));
        for (has_word, span, one) in all {
            if taken
                .iter()
                .any(|t| t.start < span.end && span.start < t.end)
            {
                continue;
            }
            let group = match one.patient {
                Some(_) if has_word => Group::Phi,
                _ => Group::Pii,
            };
            taken.push(span.clone());
            found.push(self.finding(span, group, one.kind));
        }
    }

    /// Returns whether a word is beside an identifier, if it counts.
    fn proves(&self, one: &Identifier, span: &Range<usize>) -> Option<bool> {
        let value = &self.piece[span.clone()];
        let upper = value.to_ascii_uppercase();
        if !(one.check)(&upper) || is_within(self.piece, span) || self.is_in_iban(span) {
            return None;
        }
        let words = one.words.iter().filter(|word| self.strict || !word.strict);
        if self.has_word(span, words.map(|word| &*word.text)) {
            return Some(true);
        }
        let is_enough = match one.proof {
            Proof::Form => !is_continued(self.piece, span),
            Proof::Alone => identifiers::is_alone(self.piece, span),
            Proof::Words => false,
        };
        (self.strict && is_enough).then_some(false)
    }

    /// Returns false if none of the words is in the line or in reach above it, as [`Self::has_word`]
    /// would have it; true if there are no words.
    fn may_have(&self, words: &[Finder<'_>]) -> bool {
        let in_any = |text: &[u8]| words.iter().any(|word| word.find(text).is_some());
        words.is_empty() || in_any(self.lower) || in_any(self.above())
    }

    /// Returns the end of the line above in small letters: it may explain this one.
    fn above(&self) -> &[u8] {
        self.above.get_or_init(|| {
            let start = self.range.start;
            let near = &self.text[start.saturating_sub(60)..start];
            let line = near.strip_suffix(b"\n").unwrap_or(near);
            let from = memchr::memrchr(b'\n', line).map_or(0, |at| at + 1);
            near[from..].to_ascii_lowercase()
        })
    }

    /// Returns true if one of the words is within reach: 80 bytes before, on the line and the one
    /// above, or 40 characters after.
    fn has_word<'w>(
        &self,
        span: &Range<usize>,
        words: impl Iterator<Item = &'w str> + Clone,
    ) -> bool {
        let from = span.start.saturating_sub(80);
        let after = self.lower[span.end..].iter();
        // Of a character of several bytes only the first counts.
        let characters = after
            .enumerate()
            .filter(|(_, b)| !(0x80..0xc0).contains(*b));
        let to = characters.map(|(at, _)| span.end + at).nth(40);
        let to = to.unwrap_or(self.lower.len());
        let near = &self.lower[from..to];
        let has = |near: &[u8]| {
            words.clone().any(|word| {
                let word = word.as_bytes();
                memchr::memmem::find_iter(near, word).any(|at| is_whole_word(near, at, word.len()))
            })
        };
        if has(near) {
            return true;
        }
        // The line above explains this one: `Phone:` and the number below.
        from == 0 && has(self.above())
    }
}

/// Returns true for a part of something longer that is none of these: decimals, UUIDs, versions.
fn is_part(piece: &[u8], span: &Range<usize>, rule: &Rule) -> bool {
    if matches!(
        rule.kind,
        "email"
            | "url"
            | "date"
            | "age"
            | "health-text"
            | "ip-address"
            | "patient-name"
            | "old-age"
    ) {
        return false;
    }
    follows_more(piece, span)
        || rule.kind != "phone" && goes_on(piece, span)
        || rule.context.is_empty() && rule.strict && is_continuation(piece, span)
}

fn is_within(piece: &[u8], span: &Range<usize>) -> bool {
    follows_more(piece, span) || goes_on(piece, span)
}

fn follows_more(piece: &[u8], span: &Range<usize>) -> bool {
    let at = |back| span.start.checked_sub(back).and_then(|at| piece.get(at));
    let (before, before2) = (at(1).copied(), at(2).copied().unwrap_or(b' '));
    match before {
        Some(b'.') => before2.is_ascii_digit(),
        Some(b'-') => before2.is_ascii_alphanumeric(),
        Some(b'_' | b'/' | b'$' | b'\\') => true,
        _ => false,
    }
}

fn goes_on(piece: &[u8], span: &Range<usize>) -> bool {
    matches!(piece.get(span.end), Some(b'.' | b'-' | b'_'))
        && piece
            .get(span.end + 1)
            .is_some_and(u8::is_ascii_alphanumeric)
}

/// Returns true if a number goes on with the same spaces before.
fn is_continuation(piece: &[u8], span: &Range<usize>) -> bool {
    span.start >= 2 && piece[span.start - 1] == b' ' && piece[span.start - 2].is_ascii_digit()
}

/// Returns true if there are more digits beside, as in a table of numbers.
fn is_continued(piece: &[u8], span: &Range<usize>) -> bool {
    let after = piece.get(span.end) == Some(&b' ')
        && piece.get(span.end + 1).is_some_and(u8::is_ascii_digit);
    let plain = piece[span.clone()]
        .iter()
        .all(|b| b.is_ascii_digit() || *b == b' ');
    is_continuation(piece, span) || plain && after
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
        let patients = identifiers::all().iter().filter(|one| one.kind == kind);
        match patients.filter_map(|one| one.patient).next() {
            Some(Role::Strong) => return Verdict::Phi,
            Some(_) => identifier = true,
            None => identifier |= columns::KINDS.contains(&kind),
        }
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
