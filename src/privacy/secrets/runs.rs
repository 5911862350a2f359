//! The words of a text, and what may begin between them.
//!
//! Most of what a scan costs is to know where words begin and end. So it is found out for sixty-four
//! bytes at a time, one bit each, and nothing depends on how long a word is.

use crate::privacy::tokens::Tokens;

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// Letters, digits and `_` in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) has_digit: bool,
}

pub(super) struct Runs<'t> {
    text: &'t [u8],
    /// Where the block begins whose bits these are.
    base: usize,
    words: u64,
    digits: u64,
}

impl<'t> Runs<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        let mut runs = Self {
            text,
            base: 0,
            words: 0,
            digits: 0,
        };
        runs.load(0);
        runs
    }

    /// Returns the first word at or behind `at`, or what is left of one.
    #[inline]
    pub(super) fn next(&mut self, at: usize) -> Option<Run> {
        let mut base = at / BLOCK * BLOCK;
        if base != self.base {
            self.load(base);
        }
        let mut rest = self.words >> (at % BLOCK) << (at % BLOCK);
        while rest == 0 {
            base += BLOCK;
            if base >= self.text.len() {
                return None;
            }
            self.load(base);
            rest = self.words;
        }
        let within = rest.trailing_zeros() as usize;
        let start = base + within;
        let mut length = (self.words >> within).trailing_ones() as usize;
        let digits = self.digits >> within;
        let mut has_digit = digits & mask(length) != 0;
        if within + length == BLOCK {
            // It goes on in the next block.
            loop {
                base += BLOCK;
                if base >= self.text.len() {
                    break;
                }
                self.load(base);
                let more = self.words.trailing_ones() as usize;
                has_digit |= self.digits & mask(more) != 0;
                length += more;
                if more < BLOCK {
                    break;
                }
            }
        }
        Some(Run {
            start,
            end: start + length,
            has_digit,
        })
    }

    #[inline]
    fn load(&mut self, base: usize) {
        self.base = base;
        let rest = self.text.get(base..).unwrap_or_default();
        (self.words, self.digits) = match rest.first_chunk() {
            Some(block) => bits(block),
            None => {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                bits(&block)
            }
        };
    }
}

/// Returns as many ones, up to 64.
#[inline]
fn mask(length: usize) -> u64 {
    match length {
        0..BLOCK => (1 << length) - 1,
        _ => u64::MAX,
    }
}

/// Returns which of the bytes are in words, and which are digits.
#[inline]
fn bits(block: &[u8; BLOCK]) -> (u64, u64) {
    let (mut words, mut digits) = (0, 0);
    let (eights, _) = block.as_chunks::<8>();
    for (i, eight) in eights.iter().enumerate() {
        let (word, digit) = in_eight(u64::from_le_bytes(*eight));
        words |= word << (8 * i);
        digits |= digit << (8 * i);
    }
    (words, digits)
}

/// The same of eight bytes, by arithmetic on all of them at once: the upper bit of each says whether
/// it is large enough.
#[inline]
fn in_eight(bytes: u64) -> (u64, u64) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const UPPER: u64 = 0x80 * EACH;
    let low = bytes & !UPPER;
    let at_least = |bytes: u64, least: u8| bytes + (0x80 - u64::from(least)) * EACH;
    let caseless = low | (0x20 * EACH);
    let letter = at_least(caseless, b'a') & !at_least(caseless, b'z' + 1);
    let digit = at_least(low, b'0') & !at_least(low, b'9' + 1);
    let underscore = UPPER - (low ^ (u64::from(b'_') * EACH));
    let ascii = !bytes & UPPER;
    // Moves the upper bits next to each other.
    let gathered = |bits: u64| ((bits & ascii) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    (gathered(letter | digit | underscore), gathered(digit))
}

/// Where something may begin that is no word: see `between_words`.
pub(super) struct Marks<'t> {
    text: &'t [u8],
    tokens: &'t Tokens,
    /// The next of each kind, if it is known.
    urls: Option<usize>,
    armour: Option<usize>,
    dollars: Option<usize>,
}

impl<'t> Marks<'t> {
    pub(super) fn new(text: &'t [u8], tokens: &'t Tokens) -> Self {
        let mut marks = Self {
            text,
            tokens,
            urls: Some(0),
            armour: Some(0),
            dollars: Some(0),
        };
        marks.seek_url(0);
        marks.seek_armour(0);
        marks.seek_dollar(0);
        marks
    }

    /// Returns the first at or behind `at`. To be called in order.
    #[inline]
    pub(super) fn next(&mut self, at: usize) -> usize {
        if self.urls.is_some_and(|mark| mark < at) {
            self.seek_url(at);
        }
        if self.armour.is_some_and(|mark| mark < at) {
            self.seek_armour(at);
        }
        if self.dollars.is_some_and(|mark| mark < at) {
            self.seek_dollar(at);
        }
        let marks = [self.urls, self.armour, self.dollars];
        marks.into_iter().flatten().min().unwrap_or(usize::MAX)
    }

    /// The first slash of `://`.
    fn seek_url(&mut self, at: usize) {
        let from = at.saturating_sub(1);
        let found = memchr::memmem::find(&self.text[from..], b"://");
        self.urls = found.map(|found| from + found + 1);
    }

    fn seek_armour(&mut self, at: usize) {
        let found = memchr::memmem::find(&self.text[at..], b"-----BEGIN ");
        self.armour = found.map(|found| at + found);
    }

    fn seek_dollar(&mut self, at: usize) {
        let text = self.text;
        let mut all = memchr::memchr_iter(b'$', &text[at..]).map(|found| at + found);
        self.dollars = all.find(|at| self.tokens.may_start(&text[*at..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_is_between_other_bytes() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..2_000 {
            let length = random(300);
            let text: Vec<u8> = (0..length)
                .map(|_| match random(8) {
                    0 => random(256) as u8,
                    1 => b'_',
                    2 => b'0' + random(10) as u8,
                    _ => b'A' + random(58) as u8,
                })
                .collect();
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let mut runs = Runs::new(&text);
            let mut at = random(length + 1) as usize;
            while at < text.len() {
                let expected = (at..text.len()).find(|at| is_word(text[*at])).map(|start| {
                    let rest = text[start..].iter();
                    let end = start + rest.take_while(|b| is_word(**b)).count();
                    let has_digit = text[start..end].iter().any(u8::is_ascii_digit);
                    Run {
                        start,
                        end,
                        has_digit,
                    }
                });
                assert_eq!(runs.next(at), expected, "{text:?} at {at}");
                let Some(run) = expected else { break };
                // Sometimes from the middle of the word.
                at = run.start + 1 + random((run.end - run.start) as u64) as usize;
            }
        }
    }
}
