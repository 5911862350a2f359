//! The words of a text that are worth a look, and what may begin between them.
//!
//! Most of what a scan costs is to pass what is not worth a look. So it is found out for sixty-four
//! bytes at a time, one bit each, which words may be.

use std::sync::{LazyLock, OnceLock};

use memchr::memmem::Finder;

use super::commands;
use super::places;
use crate::privacy::grams::Names;
use crate::privacy::tokens::{Starts, Tokens, is_word};

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// Letters, digits and `_` in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) has_digit: bool,
}

/// The words that may be worth a look: those for which `scan_noting` finds it so, and some others.
pub(super) struct Runs<'t> {
    text: &'t [u8],
    starts: &'static Starts,
    names: Names<'t>,
    /// Where the block begins whose bits these are.
    base: usize,
    words: u64,
    digits: u64,
    /// Where words begin that may be worth it.
    worth: u64,
}

impl<'t> Runs<'t> {
    pub(super) fn new(text: &'t [u8], names: Names<'t>) -> Self {
        let mut runs = Self {
            text,
            starts: starts(),
            names,
            base: 0,
            words: 0,
            digits: 0,
            worth: 0,
        };
        runs.load(0);
        runs
    }

    /// Returns the first word at or behind `at` that may be worth a look, or what is left of a word.
    #[inline]
    pub(super) fn next(&mut self, at: usize) -> Option<Run> {
        let is_word = |at: usize| self.text.get(at).copied().is_some_and(is_word);
        let is_within = at > 0 && is_word(at) && is_word(at - 1);
        if at / BLOCK * BLOCK != self.base {
            self.load(at / BLOCK * BLOCK);
        }
        if is_within {
            return Some(self.run(at));
        }
        let within = at % BLOCK;
        let mut rest = self.worth >> within << within;
        while rest == 0 {
            let base = self.base + BLOCK;
            if base >= self.text.len() {
                return None;
            }
            self.load(base);
            rest = self.worth;
        }
        Some(self.run(self.base + rest.trailing_zeros() as usize))
    }

    /// Returns the word of this block that begins at `start`.
    #[inline]
    fn run(&self, start: usize) -> Run {
        let within = start - self.base;
        let length = (self.words >> within).trailing_ones() as usize;
        let digits = self.digits >> within;
        let mut run = Run {
            start,
            end: start + length,
            has_digit: digits.trailing_zeros() < length as u32,
        };
        if within + length == BLOCK {
            // It may go on in the next block.
            let rest = self.text.get(run.end..).unwrap_or_default();
            let more = rest.iter().take_while(|b| is_word(**b)).count();
            run.has_digit |= rest[..more].iter().any(u8::is_ascii_digit);
            run.end += more;
        }
        run
    }

    #[inline]
    fn load(&mut self, base: usize) {
        self.base = base;
        let rest = self.text.get(base..).unwrap_or_default();
        let bits = match rest.first_chunk() {
            Some(block) => Bits::of(block),
            None => {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                Bits::of(&block)
            }
        };
        let before = base.checked_sub(1).and_then(|at| self.text.get(at));
        let first =
            bits.words & !(bits.words << 1 | u64::from(before.is_some_and(|b| is_word(*b))));
        let escape = bits.escapes << 1 | u64::from(before == Some(&b'\\'));
        let by_start = self.by_start(rest, first & !bits.numbers());
        self.worth = (bits.by_form() | escape | by_start | self.by_name(bits.words)) & first;
        (self.words, self.digits) = (bits.words, bits.digits);
    }

    /// Returns which words begin in a way that says something. `first` has where they begin in
    /// `rest`.
    #[inline]
    fn by_start(&self, rest: &[u8], first: u64) -> u64 {
        let (mut left, mut found) = (first, 0);
        while left != 0 {
            let at = left.trailing_zeros();
            let word = rest.get(at as usize..).unwrap_or_default();
            let may_be = self.starts.may_begin(word);
            found |= u64::from(may_be) << at;
            left &= left - 1;
        }
        found
    }

    /// Returns where words begin that may have the name of a secret. The last word of the block is in
    /// [`Bits::by_form`], so what is behind it does not count.
    #[inline]
    fn by_name(&mut self, words: u64) -> u64 {
        let mut found = 0;
        self.names.seek(self.base);
        while let Some(name) = self.names.next_before(self.base + BLOCK) {
            let within = name - self.base;
            // The last byte may be the one behind the word.
            for last in [within, within.wrapping_sub(1)] {
                if last < BLOCK && words >> last & 1 == 1 {
                    let length = (words << (BLOCK - 1 - last)).leading_ones() as usize;
                    found |= 1 << (last + 1 - length);
                }
            }
        }
        found
    }
}

/// How words begin that are looked at for that: tokens, what says what follows it, names
/// of programs, `pw`.
fn starts() -> &'static Starts {
    static STARTS: OnceLock<Starts> = OnceLock::new();
    STARTS.get_or_init(|| {
        let mut starts = Tokens::new().starts().clone();
        for word in followed().chain([&b"pw"[..]]) {
            starts.add_caseless(word);
        }
        starts
    })
}

fn followed() -> impl Iterator<Item = &'static [u8]> {
    places::FOLLOWED.into_iter().chain(commands::names())
}

/// Returns false for a word that is none of those that say what follows them, by how the rest of its text
/// begins.
#[inline]
pub(super) fn may_be_followed(word: &[u8]) -> bool {
    static STARTS: OnceLock<Starts> = OnceLock::new();
    let starts = STARTS.get_or_init(|| {
        let mut starts = Starts::new();
        followed().for_each(|word| starts.add_caseless(word));
        starts
    });
    starts.may_begin(word)
}

/// What the bytes of a block are, one bit each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Bits {
    words: u64,
    digits: u64,
    /// Backslashes.
    escapes: u64,
    /// What `goes_on` is true for.
    joints: u64,
}

impl Bits {
    /// Returns where words begin that are long, or have a digit and eight bytes, or five that are joined to
    /// something; and the last word, of which the end is not known. Only bits where a word begins count.
    #[inline]
    fn by_form(&self) -> u64 {
        let words = self.words;
        let two = words & words >> 1;
        let four = two & two >> 2;
        let eight = four & four >> 4;
        let sixteen = eight & eight >> 8;
        let five = four & words >> 4;
        let last = !u64::MAX.checked_shr(words.leading_ones()).unwrap_or(0) & words;
        let has_digit = self.flooded(self.digits);
        let is_joined = self.flooded(self.joints >> 1 & words);
        sixteen & four >> 16 | has_digit & (eight | five & is_joined) | last
    }

    /// Returns where two digits begin no token: all do, except four with `.` behind.
    #[inline]
    fn numbers(&self) -> u64 {
        let two = self.digits & self.digits >> 1;
        let may_be_token = two & two >> 2 & self.joints >> 4;
        two & !may_be_token
    }

    /// Returns all bytes of words that have one of these bits at or up to thirty-one bytes behind them.
    #[inline]
    fn flooded(&self, bits: u64) -> u64 {
        let (mut bits, mut through) = (bits, self.words);
        for by in [1, 2, 4, 8, 16] {
            bits |= through & bits >> by;
            through &= through >> by;
        }
        bits
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        #[expect(
            unsafe_code,
            reason = "the compiler asks for it, whatever the processor has"
        )]
        unsafe {
            Self::by_sixteens(block)
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "sse2")]
    #[inline]
    fn by_sixteens(block: &[u8; BLOCK]) -> Self {
        use std::arch::x86_64::{
            __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128,
            _mm_set_epi64x, _mm_set1_epi8,
        };
        let each = |b: u8| _mm_set1_epi8(b as i8);
        let is = |bytes: __m128i, b: u8| _mm_cmpeq_epi8(bytes, each(b));
        // What is from `first` on comes first of all signed bytes if 128 - `first` is added.
        let is_from = |bytes: __m128i, first: u8, many: u8| {
            let moved = _mm_add_epi8(bytes, each(128 - first));
            _mm_cmplt_epi8(moved, each(128 + many))
        };
        let mut bits = Self::default();
        let (sixteens, _) = block.as_chunks::<16>();
        for (i, sixteen) in sixteens.iter().enumerate() {
            let [low, high] = [0, 8].map(|at| {
                let eight = sixteen[at..].first_chunk().copied().unwrap_or_default();
                i64::from_le_bytes(eight)
            });
            let bytes = _mm_set_epi64x(high, low);
            let set = |bits: &mut u64, found: __m128i| {
                *bits |= u64::from(_mm_movemask_epi8(found) as u16) << (16 * i);
            };
            let letters = is_from(_mm_or_si128(bytes, each(0x20)), b'a', 26);
            let digits = is_from(bytes, b'0', 10);
            let words = _mm_or_si128(_mm_or_si128(letters, digits), is(bytes, b'_'));
            set(&mut bits.words, words);
            set(&mut bits.digits, digits);
            set(&mut bits.escapes, is(bytes, b'\\'));
            // `-`, `.` and `/` are neighbours.
            let joints = _mm_or_si128(
                _mm_or_si128(is_from(bytes, b'-', 3), is(bytes, b'+')),
                _mm_or_si128(is(bytes, b'='), is(bytes, b'~')),
            );
            set(&mut bits.joints, joints);
        }
        bits
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        Self::by_eights(block)
    }

    /// The same by arithmetic on eight bytes at once: the upper bit of each says whether it is large
    /// enough.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn by_eights(block: &[u8; BLOCK]) -> Self {
        const EACH: u64 = 0x0101_0101_0101_0101;
        const UPPER: u64 = 0x80 * EACH;
        let at_least = |bytes: u64, least: u8| bytes + (0x80 - u64::from(least)) * EACH;
        let mut bits = Self::default();
        let (eights, _) = block.as_chunks::<8>();
        for (i, eight) in eights.iter().enumerate() {
            let bytes = u64::from_le_bytes(*eight);
            let (low, ascii) = (bytes & !UPPER, !bytes & UPPER);
            let is = |bytes: u64, b: u8| UPPER - (bytes ^ (u64::from(b) * EACH));
            // Moves the upper bits next to each other.
            let set = |bits: &mut u64, found: u64| {
                let gathered = ((found & ascii) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                *bits |= gathered << (8 * i);
            };
            let caseless = low | (0x20 * EACH);
            let letters = at_least(caseless, b'a') & !at_least(caseless, b'z' + 1);
            let digits = at_least(low, b'0') & !at_least(low, b'9' + 1);
            set(&mut bits.words, letters | digits | is(low, b'_'));
            set(&mut bits.digits, digits);
            set(&mut bits.escapes, is(low, b'\\'));
            let three = at_least(low, b'-') & !at_least(low, b'/' + 1);
            let others = is(low, b'+') | is(low, b'=') | is(low, b'~');
            set(&mut bits.joints, three | others);
        }
        bits
    }
}

static URL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"://"));
static ARMOUR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"-----BEGIN "));

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
        let found = URL.find(&self.text[from..]);
        self.urls = found.map(|found| from + found + 1);
    }

    fn seek_armour(&mut self, at: usize) {
        let found = ARMOUR.find(&self.text[at..]);
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

    /// Random numbers from a seed, each less than its limit.
    fn chance(mut seed: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        }
    }

    #[test]
    fn bytes_are_told_apart_in_both_ways() {
        let mut random = chance(3);
        for _ in 0..2_000 {
            let mut block = [0; BLOCK];
            block.fill_with(|| random(256) as u8);
            let bits = Bits::by_eights(&block);
            assert_eq!(Bits::of(&block), bits);
            let each = |is: fn(u8) -> bool| {
                let ones = block.iter().enumerate().filter(|(_, b)| is(**b));
                ones.fold(0, |bits, (i, _)| bits | 1_u64 << i)
            };
            assert_eq!(bits.words, each(is_word));
            assert_eq!(bits.digits, each(|b| b.is_ascii_digit()));
            assert_eq!(bits.escapes, each(|b| b == b'\\'));
            assert_eq!(bits.joints, each(crate::privacy::secrets::goes_on));
        }
    }

    #[test]
    fn every_beginning_is_looked_at() {
        let heads = Tokens::new().heads();
        let words = heads.into_iter().filter(|head| is_word(head[0]));
        for word in words.chain(followed()) {
            for before in [
                "",
                " ",
                "=",
                "\n.......................................................... ",
            ] {
                let text = [before.as_bytes(), word, b" x"].concat();
                let sifted = crate::privacy::grams::Grams::names().sift(&text);
                let mut runs = Runs::new(&text, sifted.names());
                let start = before.len();
                let found = runs.next(0).map(|run| run.start);
                assert_eq!(found, Some(start), "{}", String::from_utf8_lossy(&text));
            }
        }
    }

    /// Without this, a word that is passed is a secret that is stored.
    #[test]
    fn no_word_is_passed_that_is_worth_a_look() {
        let mut random = chance(7);
        let mut asked = 0;
        for _ in 0..4_000 {
            let length = random(300);
            let words: [&[u8]; 10] = [
                b"pw", b"ghp_", b"curl", b"api_key", b"abc.", b"a1b2c3", b"AKIA", b"token",
                b"1000.", b" 1//0",
            ];
            let mut text = Vec::new();
            while text.len() < length as usize {
                match random(6) {
                    0 => text.push(random(256) as u8),
                    1 => text.extend_from_slice(words[random(10) as usize]),
                    2 => text.push(b" .-_:\\\"|"[random(8) as usize]),
                    _ => text.extend((0..random(9)).map(|_| b'0' + random(75) as u8)),
                }
            }
            let tokens = Tokens::new();
            let sifted = crate::privacy::grams::Grams::names().sift(&text);
            let mut names = sifted.names();
            let mut runs = Runs::new(&text, sifted.names());
            let mut at = 0;
            while at < text.len() {
                // Sometimes it was asked from further behind already.
                if random(4) == 0 {
                    runs.next(at + random(200) as usize);
                }
                let next = runs.next(at);
                // All words before it, one after the other.
                while let Some(start) = (at..text.len()).find(|at| is_word(text[*at])) {
                    let rest = text[start..].iter();
                    let end = start + rest.take_while(|b| is_word(**b)).count();
                    let run = Run {
                        start,
                        end,
                        has_digit: text[start..end].iter().any(u8::is_ascii_digit),
                    };
                    at = end;
                    if next.is_some_and(|next| next.start == start) {
                        assert_eq!(next, Some(run), "{text:?}");
                        break;
                    }
                    asked += 1;
                    let after = text.get(end).copied().unwrap_or(0);
                    let begins = tokens.at(&text, start).is_some();
                    let is_worth = super::super::is_worth(&text, &run, after, begins)
                        || super::super::is_pw(&text[start..end])
                        || names.may_be_in(start, end);
                    assert!(!is_worth, "{text:?} at {start}");
                    let mut said = Vec::new();
                    places::after_word(&text, start, end, &mut said);
                    assert!(said.is_empty(), "{text:?} at {start}");
                }
                match next {
                    None => break,
                    // Sometimes from the middle of the word.
                    Some(run) => {
                        at = run.start + 1 + random((run.end - run.start) as u64) as usize;
                    }
                }
            }
        }
        assert!(asked > 10_000, "{asked}");
    }
}
