//! The words that make a line worth examining.

use std::ops::Range;
use std::sync::OnceLock;

use foldhash::{HashMap, HashMapExt as _};

use super::identifiers::{self, Identifier};
use super::{TRIGGERS, is_whole_word};
use crate::privacy::grams::{Four, Mark, NO_LETTERS};

/// A word up to this length counts only as a whole one, so what is before it is part of what is
/// looked for.
const SHORT: usize = 4;

/// What words of programs often begin with; four other bytes of a word say more.
const COMMON: [&[u8]; 54] = [
    b"vers", b"cont", b"enco", b"iden", b"char", b"pres", b"rent", b"inse", b"seri", b"perm",
    b"mati", b"regi", b"subs", b"extr", b"pers", b"nati", b"pass", b"indi", b"docu", b"disc",
    b"fore", b"dent", b"enti", b"ntif", b"tion", b"atio", b"ning", b"egis", b"gist", b"ersi",
    b"olic", b"poli", b"audi", b"edul", b"rive", b"aram", b"tran", b"lect", b"tifi", b"coun",
    b"nten", b"tent", b"siti", b"niti", b"ific", b"eria", b"escr", b"lien", b"omor", b"driv",
    b"cume", b"ocum", b"ment", b"ecur",
];

/// A word, and the number of the identifier that it belongs to.
#[derive(Clone, Copy)]
struct Word {
    text: &'static [u8],
    owner: Option<usize>,
}

/// A mark of a word, and where it begins, counted from one byte before the word.
struct Place {
    mark: Mark,
    begins: usize,
    word: Word,
}

/// Returns the marks of a word: at least one at an even and one at an odd distance, see `Grams::new`.
fn marks(of: Word) -> Vec<Place> {
    let word = of.text;
    let place = |mark: Mark, begins| Place {
        mark,
        begins,
        word: of,
    };
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
    let general = TRIGGERS.iter().map(|word| (*word, None));
    let owned = identifiers::triggers().map(|(word, owner)| (word, Some(owner)));
    general.chain(owned).flat_map(|(word, owner)| {
        let text = word.as_bytes();
        marks(Word { text, owner })
    })
}

/// The words by their marks, and where these begin, counted from one byte before the word.
type Words = HashMap<Four, Vec<(Word, usize)>>;

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

/// Returns the words of which four bytes begin at `at`, and where they begin.
fn all_around(text: &[u8], at: usize) -> impl Iterator<Item = (Word, usize)> {
    let known = words().get(&Four::at(text, at)).into_iter().flatten();
    known.filter_map(move |(word, begins)| {
        let start = (at + 1).checked_sub(*begins)?;
        let length = word.text.len();
        let there = text.get(start..start + length)?;
        let is_one = there.eq_ignore_ascii_case(word.text) && is_whole_word(text, start, length);
        is_one.then_some((*word, start))
    })
}

/// Returns where the word begins of which four bytes begin at `at`.
pub(super) fn around(text: &[u8], at: usize) -> Option<usize> {
    all_around(text, at).next().map(|(_, start)| start)
}

/// Returns those of `places` where a word may be that is, at least in part, in a piece of a text.
pub(super) fn near<'p>(places: &'p [usize], piece: &Range<usize>) -> &'p [usize] {
    // Four bytes may begin before the word that is in the piece.
    let first = places.partition_point(|at| *at + 3 < piece.start);
    let last = places.partition_point(|at| *at < piece.end);
    &places[first..last.max(first)]
}

/// Returns the identifiers of patients that have one of their words in a piece of a text.
pub(super) fn owners(
    text: &[u8],
    piece: &Range<usize>,
    places: &[usize],
) -> Vec<&'static Identifier> {
    let part = &text[..piece.end];
    let words = near(places, piece)
        .iter()
        .flat_map(|at| all_around(part, *at));
    let within = words.filter(|(_, start)| *start >= piece.start);
    let mut numbers: Vec<usize> = within.filter_map(|(word, _)| word.owner).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
        .into_iter()
        .map(|at| &identifiers::all()[at])
        .collect()
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
        let owned = identifiers::triggers().map(|(word, _)| word);
        for word in TRIGGERS.iter().copied().chain(owned) {
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
