//! Where names of secrets and words of patients may be: four bytes at a time against a table of bits.
//!
//! Nearly no text has any, so what counts is how fast that is known, for both in one pass. It looks at
//! every other place only, without asking what each byte is; the table stays in the nearest cache.

use std::sync::OnceLock;

/// The name of a secret may have the four bytes.
pub(super) const NAME: u8 = 1;
/// A word may be here that makes a line worth examining for patients: see `phi::all_marks`.
pub(super) const TRIGGER: u8 = 2;

/// Four letters that names of secrets have, anywhere in a word; `tras` is of `contraseña`, `nflu` of
/// `confluent`, `ndpw` of `bindpw`.
const NAMES: [&[u8; 4]; 15] = [
    b"toke", b"secr", b"pass", b"cred", b"auth", b"salt", b"cook", b"mnem", b"seed", b"bear",
    b"tras", b"webh", b"oaut", b"nflu", b"ndpw",
];
/// Three letters, and what does not follow them: no `path`, no `pattern`.
const SHORT_NAMES: [(&[u8; 3], &[u8]); 9] = [
    (b"key", b""),
    (b"pwd", b""),
    (b"psw", b""),
    (b"dsn", b""),
    (b"jwt", b""),
    (b"otp", b""),
    (b"sas", b""),
    (b"psk", b""),
    (b"pat", b"ht"),
];

/// What counts of a byte: five bits. Case does not count, nor which of the others it is that are in no
/// word.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut b = 0;
    while b < 256 {
        kinds[b] = match b as u8 {
            letter @ (b'a'..=b'z' | b'A'..=b'Z') => letter & 31,
            b'0'..=b'9' => 27,
            0x80.. => 28 | b as u8 & 1,
            b'_' => 31,
            _ => 0,
        };
        b += 1;
    }
    kinds
};

/// Bytes, one of each kind that is no letter and no digit.
pub(super) const NO_LETTERS: [u8; 4] = [b' ', b'_', 0x80, 0x81];

/// Four bytes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Four(u32);

impl Four {
    fn with(self, b: u8) -> Self {
        Self(self.0 << 5 | u32::from(KINDS[usize::from(b)]))
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        bytes.iter().fold(Self::default(), |four, b| four.with(*b))
    }

    /// Returns those that begin at `at`; behind the end are spaces.
    pub(super) fn at(text: &[u8], at: usize) -> Self {
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        (at..at + 4).fold(Self::default(), |four, at| four.with(byte(at)))
    }

    /// Its place in the table that has all.
    fn number(self) -> usize {
        (self.0 & 0xf_ffff) as usize
    }
}

/// Four bytes that a word is known by; what is beside the word stands for its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    bytes: [u8; 4],
    /// Which of them is beside the word.
    beside: Option<usize>,
}

impl Mark {
    /// Four of the word.
    pub(super) fn new(bytes: [u8; 4]) -> Self {
        Self {
            bytes,
            beside: None,
        }
    }

    /// A byte of the kind of `before`, and three of the word.
    pub(super) fn after(before: u8, [a, b, c]: [u8; 3]) -> Self {
        Self {
            bytes: [before, a, b, c],
            beside: Some(0),
        }
    }

    /// Three of the word, and a byte of the kind of `after`.
    pub(super) fn before([a, b, c]: [u8; 3], after: u8) -> Self {
        Self {
            bytes: [a, b, c, after],
            beside: Some(3),
        }
    }

    pub(super) fn four(self) -> Four {
        Four::of(&self.bytes)
    }

    fn folds(self) -> [u32; 4] {
        let mut folds = self.bytes.map(|b| 1 << (b & 31));
        if let Some(at) = self.beside {
            folds[at] = FOLDS[usize::from(KINDS[usize::from(self.bytes[at])])];
        }
        folds
    }
}

/// The last five bits of the bytes of each kind, one bit each. Those of a letter are its kind.
const FOLDS: [u32; 32] = {
    let mut folds = [0; 32];
    let mut b = 0;
    while b < 256 {
        folds[KINDS[b] as usize] |= 1 << (b & 31);
        b += 1;
    }
    folds
};
const ANY: u32 = u32::MAX;

pub(super) struct Grams {
    any: Box<[u64; (1 << Self::BITS) / 64]>,
    /// What it is: few are in the first table by accident only.
    what: Box<[u8]>,
}

impl Grams {
    const BITS: u32 = 18;

    /// Names of secrets only.
    pub(super) fn names() -> &'static Self {
        static NAMES_ONLY: OnceLock<Grams> = OnceLock::new();
        NAMES_ONLY.get_or_init(|| Self::new(std::iter::empty()))
    }

    /// Names of secrets, and the words of patients with these marks. Each word has to have two, at an odd
    /// and at an even distance: only every other place is looked at.
    pub(super) fn new(words: impl Iterator<Item = Mark>) -> Self {
        let mut grams = Self {
            any: Box::new([0; (1 << Self::BITS) / 64]),
            what: vec![0; 1 << 20].into_boxed_slice(),
        };
        for name in NAMES {
            grams.what[Four::of(name).number()] |= NAME;
            let [a, b, c, d] = Mark::new(*name).folds();
            grams.add([a, b, c, d]);
            grams.add([ANY, a, b, c]);
        }
        for (name, not) in SHORT_NAMES {
            let [a, b, c, _] = Mark::new([name[0], name[1], name[2], 0]).folds();
            grams.add([a, b, c, ANY]);
            // It begins at the next place.
            grams.add([ANY, a, b, c]);
            for after in (0..=255_u8).filter(|b| !not.contains(&b.to_ascii_lowercase())) {
                grams.what[Four::of(name).with(after).number()] |= NAME;
            }
        }
        for mark in words {
            grams.what[mark.four().number()] |= TRIGGER;
            grams.add(mark.folds());
        }
        grams
    }

    /// Adds all that have these last five bits.
    fn add(&mut self, folds: [u32; 4]) {
        let each = |folds: u32| {
            let rest = std::iter::successors(Some(folds), |rest| Some(rest & rest.wrapping_sub(1)));
            let ones = rest.take_while(|rest| *rest != 0);
            ones.map(|rest| rest.trailing_zeros() as u8)
        };
        for a in each(folds[0]) {
            for b in each(folds[1]) {
                for c in each(folds[2]) {
                    for d in each(folds[3]) {
                        let bit = Self::bit(u32::from_le_bytes([a, b, c, d]));
                        self.any[bit / 64] |= 1 << (bit % 64);
                    }
                }
            }
        }
    }

    /// Returns the bit of four bytes; case does not count, as it is not in their last five bits.
    #[inline]
    fn bit(four: u32) -> usize {
        ((four & 0x1f1f_1f1f).wrapping_mul(0xb702_a6f3) >> (32 - Self::BITS)) as usize
    }

    #[inline]
    fn may_be(&self, four: u32) -> u64 {
        let bit = Self::bit(four);
        self.any[bit / 64] >> (bit % 64) & 1
    }

    /// Returns at which of the first four even places something may be, one bit each.
    #[inline]
    fn may_be_in(&self, bytes: &[u8; 16]) -> u64 {
        let bytes = u128::from_le_bytes(*bytes);
        let (low, behind) = (bytes as u64, (bytes >> 16) as u64);
        self.may_be(low as u32)
            | self.may_be(behind as u32) << 1
            | self.may_be((low >> 32) as u32) << 2
            | self.may_be((behind >> 32) as u32) << 3
    }

    /// Returns where in a text something may be.
    pub(super) fn sift(&self, text: &[u8]) -> Sifted {
        let mut sifted = Sifted::default();
        let mut at = 0;
        // Four places at a time: nearly always nothing is at any.
        while let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk()) {
            let hits = self.may_be_in(bytes);
            if hits != 0 {
                self.look_at(hits, text, at, &mut sifted);
            }
            at += 8;
        }
        for at in (at..text.len()).step_by(2) {
            self.look(text, at, &mut sifted);
        }
        sifted
    }

    #[inline(never)]
    fn look_at(&self, hits: u64, text: &[u8], at: usize, sifted: &mut Sifted) {
        for place in 0..4 {
            if hits >> place & 1 == 1 {
                self.look(text, at + 2 * place, sifted);
            }
        }
    }

    /// Looks closer at a place and at the next one.
    fn look(&self, text: &[u8], at: usize, sifted: &mut Sifted) {
        let (here, next) = match text.get(at..).and_then(|rest| rest.first_chunk()) {
            Some([a, b, c, d, e]) => {
                let four = Four::of(&[*a, *b, *c, *d]);
                (four, four.with(*e))
            }
            None => (Four::at(text, at), Four::at(text, at + 1)),
        };
        let here = self.what[here.number()];
        if here & TRIGGER != 0 {
            sifted.places.push(at);
        }
        if here & NAME != 0 {
            sifted.names.push(at + 3);
        }
        if self.what[next.number()] & NAME != 0 {
            sifted.names.push(at + 4);
        }
    }
}

/// What was seen of a text.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// Where names of secrets may be: the last of four bytes, in order.
    names: Vec<usize>,
    /// Where words may be that are about patients: the first of four bytes, in order.
    pub(super) places: Vec<usize>,
}

impl Sifted {
    pub(super) fn names(&self) -> Names<'_> {
        Names {
            all: &self.names,
            passed: 0,
        }
    }
}

/// Where names of secrets may be: the last of four bytes, from where it is read on.
#[derive(Debug, Clone)]
pub(super) struct Names<'s> {
    all: &'s [usize],
    passed: usize,
}

impl Names<'_> {
    /// Returns true if one may be in `start..end`.
    #[inline]
    pub(super) fn may_be_in(&mut self, start: usize, end: usize) -> bool {
        self.seek(start);
        self.all.get(self.passed).is_some_and(|at| *at <= end)
    }

    /// Returns the next one before `end`, and passes it.
    #[inline]
    pub(super) fn next_before(&mut self, end: usize) -> Option<usize> {
        let at = *self.all.get(self.passed).filter(|at| **at < end)?;
        self.passed += 1;
        Some(at)
    }

    /// Goes to the first at or behind `start`.
    #[inline]
    pub(super) fn seek(&mut self, start: usize) {
        let is_behind = |at: usize| self.all.get(at).is_some_and(|at| *at >= start);
        if self.passed > 0 && is_behind(self.passed - 1) {
            self.passed = self.all.partition_point(|at| *at < start);
        }
        while self.all.get(self.passed).is_some_and(|at| *at < start) {
            self.passed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::privacy::secrets;
    use crate::privacy::words::{PASSWORDS, Strength, TOKENS, strength};

    /// A scan looks only at words that have some letters: no name of a secret is without them.
    #[test]
    fn every_name_of_a_secret_is_looked_at() {
        // What is not ASCII is in no word.
        for word in PASSWORDS
            .iter()
            .chain(TOKENS)
            .filter(|word| word.is_ascii())
        {
            for name in [
                (*word).to_owned(),
                format!("db_{word}"),
                format!("my{word}"),
                word.to_uppercase(),
                format!("{word}_2"),
            ] {
                if strength(name.as_bytes()) < Strength::Token {
                    continue;
                }
                let text = format!("a b\n{name} = \"q7Tz4mPw9LrB2xYcV8nK5dHs\"\n");
                let mut found = Vec::new();
                secrets::scan(text.as_bytes(), secrets::Style::default(), &mut found);
                assert!(!found.is_empty(), "{text}");
            }
        }
    }
}
