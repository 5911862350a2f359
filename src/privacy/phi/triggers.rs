//! The words that make a line worth examining.

use std::sync::OnceLock;

use foldhash::{HashMap, HashMapExt as _};

use super::{TRIGGERS, identifiers, is_whole_word};
use crate::privacy::grams::{Four, Mark, NO_LETTERS};

/// A word up to this length counts only as a whole one, so what is before it is part of what is
/// looked for.
const SHORT: usize = 4;

/// What words of programs often begin with; four other bytes of a word say more.
const COMMON: [&[u8]; 24] = [
    b"vers", b"cont", b"enco", b"iden", b"char", b"pres", b"rent", b"inse", b"seri", b"perm",
    b"mati", b"regi", b"subs", b"extr", b"pers", b"nati", b"pass", b"indi", b"docu", b"disc",
    b"fore", b"dent", b"enti", b"ntif",
];

/// A mark of a word, and where it begins, counted from one byte before the word.
struct Place {
    mark: Mark,
    begins: usize,
    word: &'static [u8],
}

/// Returns the marks of a word: at least one at an even and one at an odd distance, see `Grams::new`.
fn marks(word: &'static [u8]) -> Vec<Place> {
    let place = |mark: Mark, begins| Place { mark, begins, word };
    if word.len() > SHORT {
        let rare = |parity: usize| {
            let mut places = (parity..=word.len() - 4).step_by(2);
            let at = places.find(|at| !COMMON.contains(&&word[*at..at + 4]));
            let at = at.unwrap_or(parity);
            let four = word[at..].first_chunk()?;
            Some(place(Mark::new(*four), at + 1))
        };
        return [rare(0), rare(1)].into_iter().flatten().collect();
    }
    let Some(first) = word.first_chunk::<3>() else {
        return Vec::new();
    };
    let before = NO_LETTERS.map(|b| place(Mark::after(b, *first), 0));
    let with_more = NO_LETTERS.into_iter().chain([b'0']);
    match word.first_chunk() {
        Some(four) => before
            .into_iter()
            .chain([place(Mark::new(*four), 1)])
            .collect(),
        None => {
            let after = with_more.map(|b| place(Mark::before(*first, b), 1));
            before.into_iter().chain(after).collect()
        }
    }
}

fn places() -> impl Iterator<Item = Place> {
    let words = TRIGGERS.iter().copied().chain(identifiers::triggers());
    words.flat_map(|word| marks(word.as_bytes()))
}

/// The words by their marks, and where these begin, counted from one byte before the word.
type Words = HashMap<Four, Vec<(&'static [u8], usize)>>;

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = Words::new();
        for place in places() {
            let there = words.entry(place.mark.four()).or_default();
            there.push((place.word, place.begins));
        }
        words
    })
}

/// Returns the marks by which the words are known.
pub(in crate::privacy) fn all_marks() -> impl Iterator<Item = Mark> {
    places().map(|place| place.mark)
}

/// Returns where the word begins of which four bytes begin at `at`.
pub(super) fn around(text: &[u8], at: usize) -> Option<usize> {
    words()
        .get(&Four::at(text, at))?
        .iter()
        .find_map(|(word, begins)| {
            let start = (at + 1).checked_sub(*begins)?;
            let there = text.get(start..start + word.len())?;
            let is_one = there.eq_ignore_ascii_case(word) && is_whole_word(text, start, word.len());
            is_one.then_some(start)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::grams::Grams;

    fn find(text: &[u8]) -> Option<usize> {
        static GRAMS: OnceLock<Grams> = OnceLock::new();
        let sifted = GRAMS.get_or_init(|| Grams::new(all_marks())).sift(text);
        sifted.places.into_iter().find_map(|at| around(text, at))
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
