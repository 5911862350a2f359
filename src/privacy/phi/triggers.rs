//! The words that make a line worth examining.

use std::sync::OnceLock;

use foldhash::{HashMap, HashMapExt as _};

use super::{TRIGGERS, identifiers, is_whole_word};
use crate::privacy::grams::{Four, NO_LETTERS};

/// A word up to this length counts only as a whole one, so what is before it is part of what is
/// looked for.
const SHORT: usize = 4;

/// What words of programs often begin with; four other bytes of a word say more.
const COMMON: [&[u8]; 24] = [
    b"vers", b"cont", b"enco", b"iden", b"char", b"pres", b"rent", b"inse", b"seri", b"perm",
    b"mati", b"regi", b"subs", b"extr", b"pers", b"nati", b"pass", b"indi", b"docu", b"disc",
    b"fore", b"dent", b"enti", b"ntif",
];

/// The words by four bytes in them, and how many bytes of the word come before the end of these.
type Words = HashMap<Four, Vec<(&'static [u8], usize)>>;

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = Words::new();
        for word in TRIGGERS.iter().copied().chain(identifiers::triggers()) {
            let word = word.as_bytes();
            let mut add = |four, passed| words.entry(four).or_default().push((word, passed));
            if word.len() > SHORT {
                let rare = word.windows(4).position(|four| !COMMON.contains(&four));
                let at = rare.unwrap_or(0);
                add(Four::of(&word[at..at + 4]), at + 4);
            } else {
                for before in NO_LETTERS {
                    add(Four::of(&[&[before], &word[..3]].concat()), 3);
                }
            }
        }
        words
    })
}

/// Returns the four bytes by which each word is known.
pub(in crate::privacy) fn fours() -> impl Iterator<Item = Four> {
    words().keys().copied()
}

/// Returns where the word begins whose four bytes end at `at`.
pub(super) fn around(text: &[u8], at: usize) -> Option<usize> {
    let four = Four::of(&text[at.saturating_sub(3)..=at]);
    words().get(&four)?.iter().find_map(|(word, passed)| {
        let start = (at + 1).checked_sub(*passed)?;
        let there = text.get(start..start + word.len())?;
        let is_one = there.eq_ignore_ascii_case(word) && is_whole_word(text, start, word.len());
        is_one.then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::grams::{Grams, Notes};

    fn find(text: &[u8]) -> Option<usize> {
        let grams = Grams::new(fours());
        let mut notes = Notes::new(&grams);
        notes.catch_up(text, text.len());
        notes.places.into_iter().find_map(|at| around(text, at))
    }

    #[test]
    fn every_word_is_found_wherever_it_is() {
        for word in TRIGGERS.iter().copied().chain(identifiers::triggers()) {
            assert!(word.len() >= 3, "{word}");
            for text in [
                word.to_owned(),
                format!("a\n {word}: 1"),
                format!("ssss {}", word.to_ascii_uppercase()),
            ] {
                let at = find(text.as_bytes()).expect(word);
                assert!(at <= text.len() - word.len(), "{text}");
            }
        }
        assert_eq!(find(b"which 3dea5 administer xmrnx"), None);
    }
}
