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
    /// What each form begins with.
    starts: Starts,
    /// The first three bytes of those that begin with three or more.
    certain: Starts,
}

/// The first four bytes of what is looked at for its beginning, or all if it is shorter: one bit for the
/// hash of each.
#[derive(Clone)]
pub(super) struct Starts {
    threes: Box<[u64; Self::WORDS]>,
    fours: Box<[u64; Self::WORDS]>,
}

impl Starts {
    const BITS: u32 = 18;
    const WORDS: usize = (1 << Self::BITS) / 64;

    pub(super) fn new() -> Self {
        Self {
            threes: Box::new([0; Self::WORDS]),
            fours: Box::new([0; Self::WORDS]),
        }
    }

    /// Returns false if nothing begins with a text; rules out all but a few others. What is shorter than
    /// four bytes may be anything.
    #[inline]
    pub(super) fn may_begin(&self, text: &[u8]) -> bool {
        let Some(four) = text.first_chunk() else {
            return true;
        };
        let (three, four) = Self::bits(u32::from_le_bytes(*four));
        let has = |set: &[u64; Self::WORDS], bit: usize| set[bit / 64] >> (bit % 64) & 1 == 1;
        has(&self.fours, four) || has(&self.threes, three)
    }

    /// The same, if only heads of three bytes were added.
    #[inline]
    fn may_begin_with_three(&self, text: &[u8]) -> bool {
        text.first_chunk().is_none_or(|four| {
            let (bit, _) = Self::bits(u32::from_le_bytes(*four));
            self.threes[bit / 64] >> (bit % 64) & 1 == 1
        })
    }

    /// Returns the bits of the first three bytes and of all four.
    #[inline]
    fn bits(four: u32) -> (usize, usize) {
        let bit = |bytes: u32| (bytes.wrapping_mul(0x9e37_79b1) >> (32 - Self::BITS)) as usize;
        (bit(four << 8), bit(four))
    }

    /// Adds what begins so; of two bytes, with any third.
    fn add(&mut self, word: &[u8]) {
        match *word {
            [a, b, c, d, ..] => {
                let (_, bit) = Self::bits(u32::from_le_bytes([a, b, c, d]));
                self.fours[bit / 64] |= 1 << (bit % 64);
            }
            [a, b, c] => {
                let (bit, _) = Self::bits(u32::from_le_bytes([a, b, c, 0]));
                self.threes[bit / 64] |= 1 << (bit % 64);
            }
            [a, b] => (0..=255).for_each(|c| self.add(&[a, b, c])),
            _ => {}
        }
    }

    /// Adds a word in small and in capital letters; one of two bytes with whatever is in no word behind
    /// it.
    pub(super) fn add_caseless(&mut self, word: &[u8]) {
        let mut heads = vec![Vec::new()];
        for b in word.iter().take(4) {
            let both = [b.to_ascii_lowercase(), b.to_ascii_uppercase()];
            let longer = |head: &Vec<u8>| both.map(|b| [&head[..], &[b]].concat());
            heads = heads.iter().flat_map(longer).collect();
        }
        for head in heads {
            match head.len() {
                2 => (0..=255)
                    .filter(|b| !is_word(*b))
                    .for_each(|b| self.add(&[&head[..], &[b]].concat())),
                _ => self.add(&head),
            }
        }
    }
}

/// Returns true if a kind is one of the tokens'.
pub(super) fn has_kind(kind: &str) -> bool {
    let mut lines = TEXT.lines().filter(|line| !line.starts_with('#'));
    lines.any(|line| line.split_whitespace().next() == Some(kind))
}

#[inline]
pub(super) fn is_word(b: u8) -> bool {
    WORD[usize::from(b)]
}

const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut b = 0;
    while b < 256 {
        word[b] = (b as u8).is_ascii_alphanumeric() || b as u8 == b'_';
        b += 1;
    }
    word
};

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
            starts: Starts::new(),
            certain: Starts::new(),
        };
        let lines = TEXT
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty());
        for form in lines.filter_map(parse) {
            match form.parts.first() {
                Some(Part::Literal(literal)) if literal.len() >= 2 => {
                    let pair = [literal[0], literal[1]];
                    forms.starts.add(literal);
                    if let Some(head) = literal.first_chunk::<3>() {
                        forms.certain.add(head);
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
        self.0.starts.may_begin(text)
    }

    /// The same, for forms that begin with at least three known bytes.
    #[inline]
    pub(super) fn may_start_certain(&self, text: &[u8]) -> bool {
        self.0.certain.may_begin_with_three(text)
    }

    /// Returns what is known of the beginnings of all forms.
    #[cfg(test)]
    pub(super) fn heads(&self) -> Vec<&'static [u8]> {
        let forms = self.0.by_start.values().flatten();
        let heads = forms.filter_map(|form| match form.parts.first() {
            Some(Part::Literal(head)) => Some(*head),
            _ => None,
        });
        heads.collect()
    }

    pub(super) fn starts(&self) -> &'static Starts {
        &self.0.starts
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
    length >= 36 || next == b'~' || length >= 8 && matches!(next, b'.' | b'-' | b':' | b'|')
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
