//! Tokens that can be recognised by their form.
//!
//! The forms are the lines of `tokens.txt`, read on first use. There is no backtracking: every run
//! of characters is as long as possible, so the time is linear for any input.

use foldhash::{HashMap, HashMapExt as _};
use std::ops::Range;
use std::sync::OnceLock;

/// The forms, one per line.
pub(super) const TEXT: &str = include_str!("tokens.txt");

type Class = fn(u8) -> bool;

enum Part {
    Literal(&'static [u8]),
    Run {
        class: Class,
        min: usize,
        max: usize,
    },
}

struct Form {
    kind: &'static str,
    parts: Vec<Part>,
    /// It may come right after other characters of a word.
    anywhere: bool,
}

/// A form that begins with arbitrary characters.
struct Open {
    /// How many of them.
    lengths: Range<usize>,
    /// The byte behind them that is in no word, if it is known.
    next: Option<u8>,
    form: Form,
}

impl Open {
    fn new(lengths: Range<usize>, form: Form) -> Self {
        let literals = form.parts.iter().skip(1).filter_map(|part| match part {
            Part::Literal(literal) => literal.first().copied(),
            Part::Run { .. } => None,
        });
        let next = literals.clone().next().filter(|b| !is_word(*b));
        Self {
            lengths,
            next,
            form,
        }
    }

    /// Returns true if it may begin with a word of this length, and with what is behind it.
    fn fits(&self, length: usize, next: u8) -> bool {
        let fits = self.lengths.contains(&length) || length >= 36 || next == b'~';
        fits && self.next.is_none_or(|b| b == next)
    }
}

struct Forms {
    /// Forms by their first two bytes.
    by_start: HashMap<[u8; 2], Vec<Form>>,
    /// Forms that begin with arbitrary characters.
    open: Vec<Open>,
    /// One bit for the hash of each three bytes that a form begins with.
    starts: Box<[u64; 1024]>,
}

/// Returns the bit of three bytes; with two, of any that begin so.
fn bit_of(a: u8, b: u8, c: u8) -> usize {
    (usize::from(a) << 8 ^ usize::from(b) << 4 ^ usize::from(c).wrapping_mul(0x9e5)) & 0xffff
}

/// Returns true if a kind is one of the tokens'.
pub(super) fn has_kind(kind: &str) -> bool {
    let mut lines = TEXT.lines().filter(|line| !line.starts_with('#'));
    lines.any(|line| line.split_whitespace().next() == Some(kind))
}

pub(super) fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn class_of(name: u8) -> Class {
    match name {
        b'b' => |b| is_word(b) || b == b'-',
        b'e' => |b| is_word(b) || matches!(b, b'-' | b'='),
        b's' => |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='),
        b'j' => |b| is_word(b) || matches!(b, b'-' | b'.' | b'=' | b'/' | b'+' | b'~' | b'$'),
        b'x' => |b| b.is_ascii_hexdigit(),
        b'l' => |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
        b'u' => |b| b.is_ascii_uppercase() || b.is_ascii_digit(),
        b'd' => |b| b.is_ascii_digit(),
        b'k' => |b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b),
        _ => is_word_or_digit,
    }
}

fn is_word_or_digit(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Parses a form; `None` if it is invalid.
fn parse(line: &'static str) -> Option<Form> {
    let (kind, form) = line.trim().split_once(char::is_whitespace)?;
    let form = form.trim();
    let (anywhere, mut rest) = match form.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, form),
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('<') {
            let (spec, after) = inner.split_once('>')?;
            let (class, length) = spec.split_at_checked(1)?;
            let (min, max) = match (length.strip_suffix('+'), length.split_once('-')) {
                (Some(min), _) => (min.parse().ok()?, 4096),
                (None, Some((min, max))) => (min.parse().ok()?, max.parse().ok()?),
                (None, None) => (length.parse().ok()?, length.parse().ok()?),
            };
            let class = class_of(class.as_bytes()[0]);
            parts.push(Part::Run { class, min, max });
            rest = after;
        } else {
            let (literal, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            parts.push(Part::Literal(literal.as_bytes()));
            rest = after;
        }
    }
    Some(Form {
        kind,
        parts,
        anywhere,
    })
}

fn forms() -> &'static Forms {
    static FORMS: OnceLock<Forms> = OnceLock::new();
    FORMS.get_or_init(|| {
        let mut forms = Forms {
            by_start: HashMap::new(),
            open: Vec::new(),
            starts: Box::new([0; 1024]),
        };
        let lines = TEXT
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty());
        for form in lines.filter_map(parse) {
            match form.parts.first() {
                Some(Part::Literal(literal)) if literal.len() >= 2 => {
                    let pair = [literal[0], literal[1]];
                    let thirds = match literal.get(2) {
                        Some(third) => *third..=*third,
                        None => 0..=255,
                    };
                    for third in thirds {
                        let bit = bit_of(pair[0], pair[1], third);
                        forms.starts[bit / 64] |= 1 << (bit % 64);
                    }
                    forms.by_start.entry(pair).or_default().push(form);
                }
                Some(Part::Run { min, max, .. }) => {
                    let lengths = *min..max + 1;
                    forms.open.push(Open::new(lengths, form));
                }
                // One letter, then any characters.
                _ => forms.open.push(Open::new(23..29, form)),
            }
        }
        forms
    })
}

pub(super) struct Token {
    pub(super) range: Range<usize>,
    pub(super) kind: &'static str,
    /// Length of the part with which all tokens of its kind begin.
    pub(super) head: usize,
}

impl Token {
    fn of(form: &Form, text: &[u8], at: usize, glued: bool) -> Option<Self> {
        let head = match form.parts.first() {
            Some(Part::Literal(literal)) if literal.len() >= 2 => literal.len(),
            _ => 0,
        };
        Some(Self {
            range: at..matched(form, text, at, glued)?,
            kind: form.kind,
            head,
        })
    }
}

/// Looks for tokens; borrowed once per text.
pub(super) struct Tokens(&'static Forms);

impl Tokens {
    pub(super) fn new() -> Self {
        Self(forms())
    }

    /// Returns true if a form may begin with the first bytes of `text`; rules out all but a few
    /// others.
    #[inline]
    pub(super) fn may_start(&self, text: &[u8]) -> bool {
        let [a, b, c, ..] = *text else { return false };
        let bit = bit_of(a, b, c);
        self.0.starts[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// Returns the longest token at `at` with a known beginning.
    pub(super) fn at(&self, text: &[u8], at: usize) -> Option<Token> {
        let pair = [*text.get(at)?, *text.get(at + 1)?];
        let inside = |b: u8| is_word(b) || b == b'.' && at >= 2 && is_word(text[at - 2]);
        let free = at == 0 || !inside(text[at - 1]) || follows_escape(text, at);
        self.0
            .by_start
            .get(&pair)?
            .iter()
            .filter(|form| free || form.anywhere)
            .filter_map(|form| Token::of(form, text, at, false))
            .max_by_key(|token| token.range.end)
    }

    /// Returns the token at `at` even if text is right before and after it, provided that its
    /// beginning is long enough to be certain.
    pub(super) fn glued_at(&self, text: &[u8], at: usize) -> Option<Token> {
        if let Some(found) = self.at(text, at) {
            return Some(found);
        }
        let pair = [*text.get(at)?, *text.get(at + 1)?];
        let forms = self.0.by_start.get(&pair)?.iter();
        let certain = forms.filter(
            |form| matches!(form.parts.first(), Some(Part::Literal(head)) if head.len() >= 4 && !matches!(*head, b"test_" | b"live_")),
        );
        certain
            .filter_map(|form| Token::of(form, text, at, true))
            .max_by_key(|token| token.range.end)
    }

    /// Returns the token at `at` in a word of `length` bytes, among the forms that begin with
    /// arbitrary characters.
    pub(super) fn open_at(&self, text: &[u8], at: usize, length: usize) -> Option<Token> {
        let next = text.get(at + length).copied().unwrap_or(0);
        if !may_be_open(length, next) {
            return None;
        }
        self.0
            .open
            .iter()
            .filter(|open| open.fits(length, next))
            .find_map(|open| Token::of(&open.form, text, at, false))
    }
}

/// Returns false for a word with which no form begins that begins with arbitrary characters, by its length
/// and by what joins the first part to the next.
#[inline]
pub(super) fn may_be_open(length: usize, next: u8) -> bool {
    matches!(next, b'.' | b'~' | b'-' | b':' | b'|') | (length >= 36)
}

/// Returns true if the letter of an escape is before `at`: `\nghp_…` in a JSON string.
fn follows_escape(text: &[u8], at: usize) -> bool {
    at >= 2 && text[at - 2] == b'\\' && matches!(text[at - 1], b'n' | b't' | b'r')
}

fn matched(form: &Form, text: &[u8], at: usize, glued: bool) -> Option<usize> {
    let mut end = at;
    for (i, part) in form.parts.iter().enumerate() {
        match part {
            Part::Literal(literal) => {
                if !text.get(end..)?.starts_with(literal) {
                    return None;
                }
                end += literal.len();
            }
            Part::Run { class, min, max } => {
                let rest = text.get(end..)?;
                let mut most = rest.iter().take(*max).take_while(|b| class(**b)).count();
                // A literal that the run would swallow ends it.
                if let Some(Part::Literal(next)) = form.parts.get(i + 1) {
                    let run = &rest[..most];
                    if class(next[0])
                        && let Some(found) =
                            find(&rest[..(most + next.len()).min(rest.len())], next)
                        && found <= run.len()
                    {
                        most = found;
                    }
                }
                if most < *min {
                    return None;
                }
                end += most;
            }
        }
    }
    // A token of fixed length must not be the beginning of a longer word.
    match text.get(end) {
        Some(b) if b.is_ascii_alphanumeric() && !glued => None,
        _ => Some(end),
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_form() {
        let lines = TEXT
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty());
        for line in lines {
            assert!(parse(line).is_some(), "{line}");
        }
    }
}
