//! Where names of secrets and words of patients may be: four bytes at a time against a table of bits.
//!
//! Nearly no text has any, so what counts is how fast that is known, for both in one pass. The tables
//! stay in the nearest cache.

use std::sync::OnceLock;

/// The name of a secret may have the four bytes.
pub(super) const NAME: u8 = 1;
/// A word may be here that makes a line worth examining for patients: see `phi::fours`.
pub(super) const TRIGGER: u8 = 2;

/// Four letters that names of secrets have, anywhere in a word; `tras` is of `contraseña`, `nflu` of
/// `confluent`.
const NAMES: [&[u8]; 14] = [
    b"toke", b"secr", b"pass", b"cred", b"auth", b"salt", b"cook", b"mnem", b"seed", b"bear",
    b"tras", b"webh", b"oaut", b"nflu",
];
/// Three letters, and what does not follow them: no `path`, no `pattern`.
const SHORT_NAMES: [(&[u8], &[u8]); 9] = [
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

/// Bytes, one of each kind that is in no word.
const NO_WORDS: [u8; 3] = [b' ', 0x80, 0x81];
/// Bytes, one of each kind that is no letter and no digit.
pub(super) const NO_LETTERS: [u8; 4] = [b' ', b'_', 0x80, 0x81];

/// The last four bytes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Four(u32);

impl Four {
    #[inline]
    pub(super) fn with(self, b: u8) -> Self {
        Self(self.0 << 5 | u32::from(KINDS[usize::from(b)]))
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        bytes.iter().fold(Self::default(), |four, b| four.with(*b))
    }

    #[inline]
    fn bit(self) -> usize {
        ((self.0 << 12).wrapping_mul(0x9e37_79b1) >> (32 - Grams::BITS)) as usize
    }

    /// Its place in the table that has all.
    fn number(self) -> usize {
        (self.0 & 0xf_ffff) as usize
    }
}

pub(super) struct Grams {
    any: Box<[u64; (1 << Self::BITS) / 64]>,
    /// What it is: few are in the first table by accident only.
    what: Box<[u8]>,
}

impl Grams {
    const BITS: u32 = 16;

    /// Names of secrets only.
    pub(super) fn names() -> &'static Self {
        static NAMES_ONLY: OnceLock<Grams> = OnceLock::new();
        NAMES_ONLY.get_or_init(|| Self::new(std::iter::empty()))
    }

    /// Names of secrets, and the words of patients with these four bytes.
    pub(super) fn new(words: impl Iterator<Item = Four>) -> Self {
        let mut grams = Self {
            any: Box::new([0; (1 << Self::BITS) / 64]),
            what: vec![0; 1 << 20].into_boxed_slice(),
        };
        for name in NAMES {
            grams.add(Four::of(name), NAME);
        }
        for (name, not) in SHORT_NAMES {
            for b in 0..=255_u8 {
                if !not.contains(&b.to_ascii_lowercase()) {
                    grams.add(Four::of(name).with(b), NAME);
                }
            }
        }
        // Alone, `pw` is one.
        for before in NO_WORDS {
            for after in NO_WORDS {
                grams.add(Four::of(&[before, b'p', b'w', after]), NAME);
            }
        }
        words.for_each(|four| grams.add(four, TRIGGER));
        grams
    }

    fn add(&mut self, four: Four, what: u8) {
        let bit = four.bit();
        self.any[bit / 64] |= 1 << (bit % 64);
        self.what[four.number()] |= what;
    }

    /// Returns what may be where four bytes end.
    #[inline]
    pub(super) fn at(&self, four: Four) -> u8 {
        let bit = four.bit();
        match self.any[bit / 64] >> (bit % 64) & 1 {
            0 => 0,
            _ => self.what[four.number()],
        }
    }
}

/// What was seen of a text on the way through it.
pub(super) struct Notes<'g> {
    grams: &'g Grams,
    four: Four,
    /// Everything before was seen.
    end: usize,
    /// Where words may be that are about patients.
    pub(super) places: Vec<usize>,
}

impl<'g> Notes<'g> {
    pub(super) fn new(grams: &'g Grams) -> Self {
        Self {
            grams,
            four: Four::default(),
            end: 0,
            places: Vec::new(),
        }
    }

    /// Sees the byte at `at`, the next one; returns what may end there.
    #[inline]
    pub(super) fn see(&mut self, at: usize, b: u8) -> u8 {
        self.four = self.four.with(b);
        self.end = at + 1;
        let here = self.grams.at(self.four);
        if here & TRIGGER != 0 {
            self.places.push(at);
        }
        here
    }

    /// Returns what would end with `b`.
    #[inline]
    pub(super) fn with(&self, b: u8) -> u8 {
        self.grams.at(self.four.with(b))
    }

    /// Sees what was passed over: a finding.
    #[inline]
    pub(super) fn catch_up(&mut self, text: &[u8], to: usize) {
        for (at, b) in text[..to].iter().enumerate().skip(self.end) {
            self.see(at, *b);
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
