//! Finds secrets in text of any kind: by the form of a token, by the name next to a value, by the
//! place of a value.
//!
//! One pass over the bytes finds words. A word may begin a known token, be a name whose value
//! follows, or be random text that the name before it explains. It works on the raw bytes,
//! including escapes of JSON strings, so that findings can be cut out.

use std::ops::Range;

use super::grams::Grams;
use super::tokens::{self, Token, Tokens};
use super::values::entropy;
use super::{Finding, Group};

mod around;
mod commands;
mod expression;
mod judge;
mod places;
mod runs;
mod value;

pub(super) use commands::in_argv;
pub(super) use judge::deciding;
use judge::{explained, is_argument, named};
use places::{after_word, pem, public_pem, url_password};
use runs::{Marks, Run, Runs, may_be_followed};

/// Longest value that is examined, in bytes.
const LONGEST: usize = 4096;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Style {
    /// Program text: whatever is not quoted is code.
    pub(super) code: bool,
    /// `NAME=value` lines, values unquoted.
    pub(super) env: bool,
    /// Count findings that are only probable, too.
    pub(super) strict: bool,
    /// How often it was decoded from base64; not more often than [`MOST_DECODED`].
    pub(super) decoded: u8,
}

const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DIGIT: u8 = 4;
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut b = 0;
    while b < 256 {
        classes[b] = match b as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DIGIT,
            _ => 0,
        };
        b += 1;
    }
    classes
};

pub(super) fn scan(text: &[u8], style: Style, found: &mut Vec<Finding>) {
    scan_noting(text, style, Grams::names(), found);
}

/// The same; also returns places, in order, where a word may be that is about patients.
pub(super) fn scan_noting(
    text: &[u8],
    style: Style,
    grams: &Grams,
    found: &mut Vec<Finding>,
) -> Vec<usize> {
    let tokens = Tokens::new();
    let sifted = grams.sift(text);
    let mut names = sifted.names();
    let mut runs = Runs::new(text, sifted.names());
    let mut marks = Marks::new(text, &tokens);
    let mut at = 0;
    // Everything up to here is part of a finding.
    let mut done = 0;
    // Base64 up to here is decoded.
    let mut decoded = 0;
    let mut mark = marks.next(0);
    loop {
        let run = runs.next(at);
        let start = run.map_or(text.len(), |run| run.start);
        if mark < start {
            at = match between_words(text, mark, &tokens, style) {
                Some(Between::Public(end)) => end,
                Some(Between::Block(finding)) => {
                    let end = finding.range.end;
                    push(found, finding, &mut done);
                    end
                }
                Some(Between::Url(finding)) => {
                    push(found, finding, &mut done);
                    mark + 1
                }
                None => mark + 1,
            };
            mark = marks.next(at);
            continue;
        }
        let Some(run) = run else { break };
        at = run.end;
        let next = text.get(at).copied().unwrap_or(0);
        // Of what may be followed, only names of programs have a digit, and these are short.
        if (!run.has_digit || at - start <= 4) && may_be_followed(&text[start..]) {
            after_word(text, start, at, found);
        }
        let begins = tokens.may_start(&text[start..]);
        let may_be_name = names.may_be_in(start, at) || is_pw(&text[start..at]);
        if !(may_be_name || is_worth(text, &run, next, begins)) || start < done {
            continue;
        }
        let word = Word {
            start,
            end: at,
            kinds: kinds_of(&text[start..at]),
            begins,
            may_be_name,
        };
        let (next, finding) = in_word(text, &word, &tokens, style, &mut decoded);
        at = next;
        if let Some(finding) = finding {
            push(found, finding, &mut done);
        }
        if at > mark {
            mark = marks.next(at);
        }
    }
    sifted.places
}

/// The one name that is shorter than what is looked for.
fn is_pw(word: &[u8]) -> bool {
    matches!(word, [b'p' | b'P', b'w' | b'W'])
}

/// Returns true for a word that [`in_word`] may say something about, other than as a name. Nearly no
/// word is one. `begins` says whether a form may begin with it.
#[inline]
fn is_worth(text: &[u8], run: &Run, next: u8, begins: bool) -> bool {
    let length = run.end - run.start;
    let is_escaped = run.start > 0 && text[run.start - 1] == b'\\';
    length >= 20
        || run.has_digit && (length >= 8 || length >= 5 && goes_on(next))
        || is_escaped
        || begins
}

/// Returns true for what joins the parts of a value, or of a token.
#[inline]
fn goes_on(next: u8) -> bool {
    matches!(next, b'-' | b'+' | b'/' | b'=' | b'.' | b'~')
}

/// Returns what a word is made of.
fn kinds_of(word: &[u8]) -> u8 {
    word.iter()
        .fold(0, |kinds, b| kinds | CLASSES[usize::from(*b)])
}

struct Word {
    start: usize,
    end: usize,
    kinds: u8,
    /// A form may begin with it.
    begins: bool,
    /// The name of a secret may begin in it.
    may_be_name: bool,
}

/// Returns where to go on behind a word, and what it begins or explains.
#[inline]
fn in_word(
    text: &[u8],
    word: &Word,
    tokens: &Tokens,
    style: Style,
    decoded: &mut usize,
) -> (usize, Option<Finding>) {
    let (start, end, length) = (word.start, word.end, word.end - word.start);
    let behind = |finding: &Finding| end.max(finding.range.end.min(text.len()));
    if let Some(token) = token_in(tokens, text, word) {
        let is_one = is_real(text, &token)
            && !is_within_base64(text, token.range.start)
            && !(token.head == 0 && is_argument(text, &token.range));
        let finding = secret(token.range, token.kind);
        return (behind(&finding), is_one.then_some(finding));
    }
    if length >= 20
        && style.decoded < MOST_DECODED
        && start >= *decoded
        && let Some(finding) = encoded(text, start, end, style, decoded)
    {
        return (behind(&finding), Some(finding));
    }
    if word.may_be_name
        && length <= 64
        && let Some(finding) = named(text, start, end, style)
    {
        return (end, Some(finding));
    }
    let next = text.get(end).copied().unwrap_or(0);
    if may_be_random(length, word.kinds, next)
        && let Some(finding) = explained(text, start, end, style)
    {
        return (behind(&finding), Some(finding));
    }
    (end, None)
}

/// Returns true if a value is a secret under its name, as `NAME=value` in settings would be.
pub(super) fn is_value_of(name: &[u8], value: &[u8], strict: bool) -> bool {
    let style = Style {
        env: true,
        strict,
        ..Style::default()
    };
    let mut found = Vec::new();
    if (4..=LONGEST).contains(&value.len()) {
        scan(&[name, b"=", value].concat(), style, &mut found);
    }
    !found.is_empty()
}

/// A finding that does not begin with a word.
enum Between {
    /// What is in it need not be scanned.
    Block(Finding),
    /// What follows may have findings of its own: a host, a path with a token.
    Url(Finding),
    /// What ends here is known to be public.
    Public(usize),
}

/// Returns the finding that begins with a character that is in no word: a password in a URL, a
/// private key, a token that begins with `$`. Most text has none of these three characters in such
/// a place, so this is cheap.
#[inline]
fn between_words(text: &[u8], at: usize, tokens: &Tokens, style: Style) -> Option<Between> {
    let rest = &text[at..];
    match rest[0] {
        b'/' if rest.get(1) == Some(&b'/') && at > 0 && text[at - 1] == b':' => {
            url_password(text, at + 2, style).map(Between::Url)
        }
        b'-' if rest.starts_with(b"-----BEGIN ") => {
            let key = pem(text, at).map(Between::Block);
            key.or_else(|| public_pem(text, at).map(Between::Public))
        }
        b'$' if tokens.may_start(rest) => {
            let token = tokens.at(text, at)?;
            Some(Between::Block(secret(token.range, token.kind)))
        }
        _ => None,
    }
}

/// Returns true for a word that is worth a closer look: long enough, and mixed as words of a
/// language seldom are. The look is expensive, and most words are ordinary.
#[inline]
fn may_be_random(length: usize, kinds: u8, next: u8) -> bool {
    let (has_digit, has_letter) = (kinds & DIGIT != 0, kinds & (LOWER | UPPER) != 0);
    let is_mixed = kinds & (LOWER | UPPER) == LOWER | UPPER;
    has_digit && (has_letter && length >= 8 || goes_on(next) && next != b'~' && length >= 6)
        || length >= 24 && (is_mixed || kinds == DIGIT)
}

/// Base64 within base64 is what a secret of Kubernetes has in a document of a tool.
const MOST_DECODED: u8 = 2;
/// Longest base64 that is decoded, in bytes.
const MAX_ENCODED: usize = 256 * 1024;
/// Shortest base64 that is decoded, in bytes: 18 readable bytes are no accident.
const SHORTEST_ENCODED: usize = 24;

/// Decodes base64: if the text contains a secret, all of it is one.
fn encoded(
    text: &[u8],
    start: usize,
    end: usize,
    style: Style,
    looked_at: &mut usize,
) -> Option<Finding> {
    use base64::Engine as _;
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let mut from = start;
    while from > 0 && is_part(text[from - 1]) && start - from < MAX_ENCODED {
        from -= 1;
    }
    let mut to = end;
    while to < text.len() && is_part(text[to]) && to - from < MAX_ENCODED {
        to += 1;
    }
    let run = &text[from..to];
    *looked_at = to;
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    if run.len() < SHORTEST_ENCODED {
        return None;
    }
    // Nearly all of it is not text, and its beginning tells.
    let head = engine.decode(&run[..run.len().min(48) / 4 * 4]).ok()?;
    let readable = |b: &&u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\n' | b'\r' | b'\t');
    if head.iter().filter(readable).count() < head.len() {
        return None;
    }
    let decoded = engine
        .decode(&run[..run.len() - usize::from(run.len() % 4 == 1)])
        .ok()?;
    let mut inner = Vec::new();
    let style = Style {
        decoded: style.decoded + 1,
        ..style
    };
    scan(&decoded, style, &mut inner);
    let padding = text[to..]
        .iter()
        .take(2)
        .take_while(|b| **b == b'=')
        .count();
    (!inner.is_empty()).then(|| secret(from..to + padding, "base64"))
}

/// Finds what is certain by its form alone. `glued`: in bytes that are not text, two texts may
/// follow each other with nothing between.
pub(super) fn scan_certain(bytes: &[u8], glued: bool, found: &mut Vec<Finding>) {
    let tokens = Tokens::new();
    let mut at = 0;
    while at + 8 < bytes.len() {
        if bytes[at] == b'-'
            && bytes[at..].starts_with(b"-----BEGIN ")
            && let Some(finding) = pem(bytes, at)
        {
            at = finding.range.end;
            found.push(finding);
        } else if bytes[at] == b'-'
            && bytes[at..].starts_with(b"-----BEGIN ")
            && let Some(end) = public_pem(bytes, at)
        {
            at = end;
        } else if tokens.may_start_certain(&bytes[at..])
            && let Some(token) = match glued {
                true => tokens.glued_at(bytes, at),
                false => tokens.at(bytes, at),
            }
            && token.range.len() >= 24
            && token.head >= 3
            && is_real(bytes, &token)
            && !is_prose(&bytes[token.range.clone()])
            && !is_within_base64(bytes, token.range.start)
            && !(glued && is_amid_base64(bytes, &token.range))
        {
            at = token.range.end;
            found.push(secret(token.range, token.kind));
        } else {
            at += 1;
        }
    }
}

fn secret(range: Range<usize>, kind: &'static str) -> Finding {
    Finding {
        range,
        group: Group::Secret,
        kind,
    }
}

fn push(found: &mut Vec<Finding>, finding: Finding, done: &mut usize) {
    *done = (*done).max(finding.range.end);
    found.push(finding);
}

/// Returns the token that a word begins with, or contains after a `_` or the letter of an escape.
fn token_in(tokens: &Tokens, text: &[u8], word: &Word) -> Option<Token> {
    let (start, end) = (word.start, word.end);
    if word.begins
        && let Some(found) = tokens.at(text, start)
    {
        return Some(found);
    }
    // `\nghp_…` in a JSON string: the letter belongs to the escape.
    if start > 0
        && text[start - 1] == b'\\'
        && end - start > 2
        && tokens.may_start(&text[start + 1..])
        && let Some(found) = tokens.at(text, start + 1)
    {
        return Some(found);
    }
    let (length, next) = (end - start, text.get(end).copied().unwrap_or(0));
    match word.kinds & DIGIT != 0 && tokens::may_be_open(length, next) {
        true => tokens.open_at(text, start, length),
        false => None,
    }
}

/// Returns false for examples: one repeated character, words, a known stand-in.
fn is_real(text: &[u8], found: &Token) -> bool {
    let token = &text[found.range.clone()];
    let rest = &token[found.head..];
    match found.kind {
        "jwt" => return is_jwt(token),
        "sentry-token" if rest.starts_with(b"eyJ") || token.starts_with(b"sntrys_eyJ") => {
            return is_jwt(
                token
                    .get(7..)
                    .unwrap_or_default()
                    .split(|b| *b == b'_')
                    .next()
                    .unwrap_or_default(),
            );
        }
        // Public pages contain Google's keys by the thousand; one without a name is as likely one
        // of those.
        "gcp-api-key" if !is_named(text, found.range.start) => return false,
        _ => {}
    }
    // `live_migration_with_native_tls`
    let is_words = rest.len() >= 20 && rest.iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
    if is_words || around::is_checksum(text, found.range.start) {
        return false;
    }
    // Cut off, or masked from here on.
    let after = &text[found.range.end..(found.range.end + 3).min(text.len())];
    if after.starts_with(b"..") || after.starts_with(b"##") || after.starts_with(b"**") {
        return false;
    }
    let stand_in = rest
        .windows(4)
        .any(|w| matches!(w, b"XXXX" | b"xxxx" | b"****"))
        || rest.windows(7).any(|w| w.eq_ignore_ascii_case(b"example"))
        || rest
            .windows(9)
            .any(|w| w.eq_ignore_ascii_case(b"tokenhere"))
        || rest.windows(8).any(|w| w.eq_ignore_ascii_case(b"redacted"));
    if stand_in {
        // In long random text an example's word appears by chance.
        return entropy(rest) >= 4.3 || rest.iter().filter(|b| b.is_ascii_digit()).count() >= 8;
    }
    let least = if rest.len() < 24 { 2.0 } else { 2.6 };
    rest.len() < 12 || entropy(rest) >= least
}

/// Returns true in the midst of long base64, in which any text appears by chance: on one line, or at
/// the beginning of a line after another of the same kind.
fn is_within_base64(text: &[u8], at: usize) -> bool {
    const LONG: usize = 200;
    const LINE: usize = 48;
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let before = &text[at.saturating_sub(LONG)..at];
    if at > LONG && matches!(text[at - 1], b'+' | b'/') && before.iter().all(is_part) {
        return true;
    }
    let ends = before.iter().rev().take_while(|b| is_part(b)).count();
    let line = &before[..before.len() - ends];
    let Some(line) = line.strip_suffix(b"\n") else {
        return false;
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let above = line.iter().rev().take_while(|b| is_part(b)).count();
    let below = text[at..]
        .iter()
        .take(LONG)
        .take_while(|b| is_part(b))
        .count();
    (LINE..100).contains(&above) && (ends + below >= LINE || ends + below == above)
}

/// Returns true in long base64 among other bytes.
fn is_amid_base64(bytes: &[u8], token: &Range<usize>) -> bool {
    const LONG: usize = 64;
    let is_part = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let before = bytes[..token.start]
        .iter()
        .rev()
        .take(LONG)
        .take_while(is_part)
        .count();
    let within = bytes[token.clone()].iter().take_while(is_part).count();
    let after = bytes[token.end..]
        .iter()
        .take(LONG)
        .take_while(is_part)
        .count();
    within == token.len() && before >= 12 && before + within + after >= within + LONG / 2
}

/// Returns true for names that follow each other with nothing between, as programs have them: random
/// text that is mixed has no twelve small letters in a row.
fn is_prose(token: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| token.iter().any(is);
    let mut runs = token.split(|b| !b.is_ascii_lowercase());
    has(u8::is_ascii_uppercase) && runs.any(|run| run.len() >= 12)
}

/// Returns true if a name, an operator, a quote or a tag is right before `at`.
fn is_named(text: &[u8], at: usize) -> bool {
    at > 0
        && matches!(
            text[at - 1],
            b'"' | b'\'' | b'`' | b'=' | b':' | b'>' | b' ' | b'('
        )
}

/// Returns true if the head of a JSON web token is a JSON object.
fn is_jwt(token: &[u8]) -> bool {
    use base64::Engine as _;
    let head = token.split(|b| *b == b'.').next().unwrap_or_default();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let head: Vec<u8> = head.iter().copied().filter(|b| *b != b'=').collect();
    engine.decode(&head).is_ok_and(|json| {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json).is_ok()
    })
}
