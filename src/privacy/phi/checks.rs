//! Check digits of the identifiers in `identifiers.txt`, by the names that are used there. The
//! sources are named there too.

use crate::privacy::check;

mod america;
mod asia;
mod europe;

pub(super) type Check = fn(&[u8]) -> bool;

pub(super) use check::{compact, digits, luhn};

/// Returns the check of a name.
pub(super) fn by_name(name: &str) -> Option<Check> {
    let all = GENERAL.iter().chain(europe::ALL);
    let all = all.chain(america::ALL).chain(asia::ALL);
    all.copied()
        .find(|(n, _)| *n == name)
        .map(|(_, check)| check)
}

const GENERAL: &[(&str, Check)] = &[
    ("any", |_| true),
    ("nhs", check::nhs),
    ("nino", check::nino),
    ("es_nif", check::nif),
    ("fi_hetu", check::hetu),
    ("pl_pesel", |text| {
        check::pesel(text) && has_pesel_date(&digits(text))
    }),
    ("tr_id", check::tckn),
    ("in_aadhaar", check::aadhaar),
    ("za_id", check::za_id),
    ("ca_sin", check::sin),
    ("us_npi", check::npi),
    ("us_itin", check::itin),
    ("us_mbi", check::mbi),
    ("us_ssn", check::ssn),
    ("us_dea", check::dea),
    ("us_aba", us_aba),
    ("mod_11_10", |text| mod_11_10(&digits(text))),
    ("verhoeff_11", |text| verhoeff(&digits(text))),
];

/// The first two digits are a Federal Reserve district, or of a thrift, or of the government.
fn us_aba(text: &[u8]) -> bool {
    let d = digits(text);
    check::aba(text) && matches!(d[0] * 10 + d[1], 0..=12 | 21..=32 | 61..=72 | 80)
}

/// Centuries are added to the month: 80 for 1800, 20 for 2000, and so on.
fn has_pesel_date(d: &[u32]) -> bool {
    is_day(d[4] * 10 + d[5], (d[2] % 2) * 10 + d[3])
}

/// Returns the sum of the products; what is longer counts only as far as the shorter.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

fn number(digits: &[u32]) -> u64 {
    digits.iter().fold(0, |n, d| n * 10 + u64::from(*d))
}

/// Returns the digits if there are as many.
fn exactly<const N: usize>(text: &[u8]) -> Option<[u32; N]> {
    digits(text).try_into().ok()
}

fn is_flat(digits: &[u32]) -> bool {
    digits.windows(2).all(|w| w[0] == w[1])
}

/// Returns true for a day of a month; in February up to 29, because the century may be unknown.
fn is_day(day: u32, month: u32) -> bool {
    let most = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => 0,
    };
    (1..=most).contains(&day)
}

/// Two digits of a day and two of a month, at these places.
fn day_at(d: &[u32], day: usize, month: usize) -> bool {
    is_day(d[day] * 10 + d[day + 1], d[month] * 10 + d[month + 1])
}

/// ISO 7064 mod 11,10.
fn mod_11_10(d: &[u32]) -> bool {
    let Some((last, body)) = d.split_last() else {
        return false;
    };
    let rest = body.iter().fold(10, |product, digit| {
        let sum = (product + digit) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - rest) % 10 == *last && !is_flat(d)
}

/// Verhoeff's formula, in the group of the pentagon: its table is computed, its permutation applied
/// over and over.
fn verhoeff(d: &[u32]) -> bool {
    const STEP: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let moved =
        |digit: u32, times: usize| (0..times % 8).fold(digit, |digit, _| STEP[digit as usize % 10]);
    let digits = d.iter().rev().enumerate();
    !is_flat(d) && digits.fold(0, |sum, (at, digit)| product(sum, moved(*digit, at))) == 0
}

/// Returns the value of a letter or digit: 0 to 9, A is 10, Z is 35.
fn value(b: u8) -> u32 {
    match b {
        b'0'..=b'9' => u32::from(b - b'0'),
        b'A'..=b'Z' => u32::from(b - b'A') + 10,
        _ => 0,
    }
}

/// Adds the digits of a product.
fn crossed(n: u32) -> u32 {
    n / 10 + n % 10
}
