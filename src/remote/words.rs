//! A secret key as words that can be written down: BIP-39, English, 24 words
//! (<https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki>).
//!
//! 24 words are 264 bits: the 256 of the key, and the first eight of its SHA-256. So of 256 mistakes
//! that make other words of the list, 255 are noticed. No two words begin with the same four letters.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::base::error::Error;

/// How many words are a key.
pub const COUNT: usize = 24;
/// A word is known by as many letters.
const PREFIX: usize = 4;
/// A word that needs more changes is no guess.
const FAR: usize = 2;

const TEXT: &str = include_str!("words.txt");
static LIST: LazyLock<Vec<&str>> = LazyLock::new(|| TEXT.lines().collect());

/// Returns the words of a key.
pub fn of(secret: &[u8; 32]) -> Vec<&'static str> {
    let list = &*LIST;
    let check = Sha256::digest(secret)[0];
    let bit = |at: usize| match at {
        0..256 => secret[at / 8] >> (7 - at % 8) & 1,
        _ => check >> (263 - at) & 1,
    };
    let word = |number: usize| {
        let bits = (number * 11..number * 11 + 11).map(bit);
        list[bits.fold(0, |sum, bit| sum << 1 | usize::from(bit))]
    };
    (0..COUNT).map(word).collect()
}

/// Returns the words of a text: what stands between them (numbers, dots, line breaks) means nothing.
pub fn split(text: &str) -> impl Iterator<Item = String> + '_ {
    let parts = text.split(|c: char| !c.is_alphabetic());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase)
}

/// Returns the number of a word in the list.
///
/// # Errors
/// It is none; `at` says the how many-th it is, from 1.
fn number_of(word: &str, at: usize) -> Result<usize, Error> {
    let list = &*LIST;
    if let Ok(number) = list.binary_search(&word) {
        return Ok(number);
    }
    if word.len() >= PREFIX {
        let number = list.partition_point(|one| *one < word);
        if list.get(number).is_some_and(|one| one.starts_with(word)) {
            return Ok(number);
        }
    }
    // The first letter is seldom the wrong one.
    let first = word.as_bytes().first().copied().unwrap_or_default();
    let near = list
        .iter()
        .map(|one| (changes(word, one), one.as_bytes()[0] != first, *one))
        .min()
        .filter(|(changes, ..)| *changes <= FAR);
    let guess = near.map_or_else(String::new, |(.., one)| format!("; do you mean `{one}`?"));
    let word: String = word.chars().take(24).collect();
    Err(Error::invalid(
        format!("word {at}, `{word}`, is not in the list of words{guess}"),
        Some("compare it with the sheet; the first four letters of a word are enough"),
    ))
}

/// Checks words of a row, of which `before` others were typed before.
///
/// # Errors
/// One is not in the list.
pub fn check_row(row: &str, before: usize) -> Result<usize, Error> {
    let mut count = 0;
    for word in split(row) {
        count += 1;
        number_of(&word, before + count)?;
    }
    Ok(count)
}

/// Returns the key of 24 words. Their case, line breaks and numbers do not matter, and the first four
/// letters of each are enough.
///
/// # Errors
/// One is not in the list, their number is wrong, or the checksum does not match.
pub fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
    let words: Vec<Zeroizing<String>> = split(text).map(Zeroizing::new).collect();
    let mut bits: Zeroizing<Vec<bool>> = Zeroizing::new(Vec::with_capacity(COUNT * 11));
    for (at, word) in words.iter().enumerate() {
        let number = number_of(word, at + 1)?;
        bits.extend((0..11).rev().map(|bit| number >> bit & 1 == 1));
    }
    if words.len() != COUNT {
        return Err(Error::invalid(
            format!("these are {} words; a key has {COUNT}", words.len()),
            Some("type all words of the sheet, in their order"),
        ));
    }
    let byte = |bits: &[bool]| bits.iter().fold(0_u8, |sum, bit| sum << 1 | u8::from(*bit));
    let mut secret = Zeroizing::new([0; 32]);
    for (to, eight) in secret.iter_mut().zip(bits.chunks(8)) {
        *to = byte(eight);
    }
    match Sha256::digest(&secret[..])[0] == byte(&bits[256..]) {
        true => Ok(secret),
        false => Err(Error::invalid(
            "the checksum of the words is wrong: each is in the list, but one is not the right one, or two changed places",
            Some("compare them with the sheet, one by one"),
        )),
    }
}

/// Returns how many letters have to be changed, added, left out, or swapped with the next.
fn changes(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.chars().take(32).collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let same = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    /// Of the authors of BIP-39 (python-mnemonic, vectors.json).
    #[test]
    fn known_answers() {
        for (hex, words) in [
            (
                "0000000000000000000000000000000000000000000000000000000000000000",
                "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
            ),
            (
                "8080808080808080808080808080808080808080808080808080808080808080",
                "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless",
            ),
            (
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
            ),
            (
                "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
                "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold",
            ),
        ] {
            let mut secret = [0; 32];
            hex::decode_to_slice(hex, &mut secret).unwrap();
            assert_eq!(of(&secret).join(" "), words);
            assert_eq!(*parse(words).unwrap(), secret);
        }
    }

    #[test]
    fn the_list_is_the_one_of_bip_39() {
        let digest = hex::encode(Sha256::digest(TEXT));
        assert_eq!(
            digest,
            "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
        );
        let list = &*LIST;
        assert!(list.is_sorted() && list.len() == 2048);
        let starts: std::collections::HashSet<&str> = list
            .iter()
            .map(|word| &word[..PREFIX.min(word.len())])
            .collect();
        assert_eq!(starts.len(), 2048, "the first four letters are enough");
    }

    #[test]
    fn a_mistake_is_named() {
        let words = of(&[7; 32]);
        let with = |at: usize, word: &str| {
            let mut changed = words.clone();
            changed[at] = word;
            said(&changed.join(" "))
        };
        assert!(
            with(6, "tabel")
                .contains("word 7, `tabel`, is not in the list of words; do you mean `table`?")
        );
        assert!(with(0, "qqqqqqqq").ends_with("is not in the list of words"));
        assert!(with(23, "Straße").contains("word 24"));
        assert!(said(&words[..23].join(" ")).contains("these are 23 words"));
        assert!(said("").contains("these are 0 words"));
    }

    proptest! {
        #[test]
        fn words_are_the_key_however_they_are_written(secret in any::<[u8; 32]>(), seed in any::<u64>()) {
            let words = of(&secret);
            let mut text = String::new();
            for (at, word) in words.iter().enumerate() {
                let turn = seed.rotate_left(at as u32);
                let word = if turn & 1 == 0 { word.to_uppercase() } else { (*word).to_owned() };
                let cut = if turn & 2 == 0 { 4.min(word.len()) } else { word.len() };
                let between = [" ", "\n", "\t 12. ", "  ", "\r\n", ", "][(turn >> 2) as usize % 6];
                text.push_str(&format!("{between}{}", &word[..cut]));
            }
            prop_assert_eq!(*parse(&text).unwrap(), secret);
        }

        #[test]
        fn whatever_is_typed_is_a_key_or_an_error(text in "\\PC{0,80}") {
            let _ = parse(&text);
            let _ = crate::remote::crypt::Generated::all_of(text.as_bytes());
        }
    }

    /// 8 bits of checksum: of all other words at one place, 1 of 256 passes, and every other is noticed.
    #[test]
    fn a_wrong_word_passes_once_in_256_times() {
        let (mut tried, mut passed) = (0, 0);
        for seed in 0..4_u8 {
            let secret: [u8; 32] = Sha256::digest([seed]).into();
            let words = of(&secret);
            for at in 0..COUNT {
                for other in LIST.iter().copied().step_by(7) {
                    if other == words[at] {
                        continue;
                    }
                    let mut changed = words.clone();
                    changed[at] = other;
                    tried += 1;
                    match parse(&changed.join(" ")) {
                        // The other word at the end may have another key with its own checksum.
                        Ok(found) => {
                            assert_ne!(*found, secret);
                            passed += 1;
                        }
                        Err(error) => assert!(error.to_string().contains("checksum")),
                    }
                }
            }
        }
        // 28,000 tries: 110 ± 10 are expected, and six times that deviation is allowed.
        let expected = f64::from(tried) / 256.0;
        assert!(
            (f64::from(passed) - expected).abs() < 6.0 * expected.sqrt(),
            "{passed} of {tried}"
        );
    }
}
