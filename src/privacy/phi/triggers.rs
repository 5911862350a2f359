//! Where in a text the words are that make a line worth examining.
//!
//! Nearly no text has any, so what counts is how fast that is known: three bytes at a time against a
//! table of bits, which stays in the nearest cache, and only what passes is compared.

use std::sync::OnceLock;

use foldhash::{HashMap, HashMapExt as _};

use super::{TRIGGERS, identifiers, is_whole_word};

/// What three bytes make, without regard to case: five bits of each.
const BITS: usize = 1 << 15;

struct Words {
    starts: Box<[u64; BITS / 64]>,
    /// The words by their first three bytes.
    by_start: HashMap<usize, Vec<&'static [u8]>>,
}

#[inline]
fn next(three: usize, b: u8) -> usize {
    (three << 5 | usize::from(b & 31)) & (BITS - 1)
}

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = Words {
            starts: Box::new([0; BITS / 64]),
            by_start: HashMap::new(),
        };
        for word in TRIGGERS.iter().copied().chain(identifiers::triggers()) {
            let word = word.as_bytes();
            let three = word.iter().take(3).fold(0, |three, b| next(three, *b));
            words.starts[three / 64] |= 1 << (three % 64);
            words.by_start.entry(three).or_default().push(word);
        }
        words
    })
}

/// Returns the place of the first word from `from` on.
pub(super) fn find(text: &[u8], from: usize) -> Option<usize> {
    let words = words();
    let mut three = 0;
    for (at, b) in text.iter().enumerate().skip(from) {
        three = next(three, *b);
        if words.starts[three / 64] >> (three % 64) & 1 == 1
            && at >= from + 2
            && words.is_at(text, at - 2, three)
        {
            return Some(at - 2);
        }
    }
    None
}

impl Words {
    #[inline(never)]
    fn is_at(&self, text: &[u8], at: usize, three: usize) -> bool {
        let rest = &text[at..];
        self.by_start.get(&three).is_some_and(|words| {
            words.iter().any(|word| {
                rest.len() >= word.len()
                    && rest[..word.len()].eq_ignore_ascii_case(word)
                    && is_whole_word(text, at, word.len())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_wherever_it_is() {
        for word in TRIGGERS.iter().copied().chain(identifiers::triggers()) {
            assert!(word.len() >= 3, "{word}");
            for text in [
                word.to_owned(),
                format!("a\n {word}: 1"),
                format!("ssss {}", word.to_ascii_uppercase()),
            ] {
                let at = find(text.as_bytes(), 0).expect(word);
                assert!(at <= text.len() - word.len(), "{text}");
                assert_eq!(find(text.as_bytes(), text.len() - 2), None);
            }
        }
        assert_eq!(find(b"which 3dea5 administer xmrnx", 0), None);
    }
}
