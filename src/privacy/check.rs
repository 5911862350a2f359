//! Checks of numbers with check digits. To pass is no proof, but to fail is one.

/// Returns the digits of a text, 0 to 9 each.
pub(super) fn digits(text: &[u8]) -> Vec<u32> {
    text.iter()
        .filter(|b| b.is_ascii_digit())
        .map(|b| u32::from(b - b'0'))
        .collect()
}

/// Returns letters and digits, in upper case.
pub(super) fn compact(text: &[u8]) -> Vec<u8> {
    text.iter()
        .filter(|b| b.is_ascii_alphanumeric())
        .map(u8::to_ascii_uppercase)
        .collect()
}

fn is_flat(digits: &[u32]) -> bool {
    digits.windows(2).all(|w| w[0] == w[1])
}

fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

/// Luhn's formula (ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match i % 2 {
            0 => *d,
            _ if *d > 4 => d * 2 - 9,
            _ => d * 2,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// US social security number: no area 000, 666 or 9xx, no group 00, no serial 0000, not the one
/// that was printed on a specimen.
pub(super) fn ssn(text: &[u8]) -> bool {
    let d = digits(text);
    if d.len() != 9 || is_flat(&d) {
        return false;
    }
    let number = d.iter().fold(0, |n, d| n * 10 + d);
    let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
    area != 0 && area != 666 && area < 900 && group != 0 && serial != 0 && number != 78_051_120
}

/// US individual taxpayer number: 9xx, fourth and fifth digit 50–65, 70–88, 90–92, 94–99.
pub(super) fn itin(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 9 && d[0] == 9 && {
        let group = d[3] * 10 + d[4];
        matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99)
    }
}

/// Medicare beneficiary identifier: its eleven positions (CMS, "Understanding the MBI").
pub(super) fn mbi(text: &[u8]) -> bool {
    let t = compact(text);
    let letter = |b: u8| b.is_ascii_uppercase() && !b"SLOIBZ".contains(&b);
    let either = |b: u8| b.is_ascii_digit() || letter(b);
    t.len() == 11
        && (b'1'..=b'9').contains(&t[0])
        && letter(t[1])
        && either(t[2])
        && t[3].is_ascii_digit()
        && letter(t[4])
        && either(t[5])
        && t[6].is_ascii_digit()
        && letter(t[7])
        && letter(t[8])
        && t[9].is_ascii_digit()
        && t[10].is_ascii_digit()
}

/// US national provider identifier: Luhn over 80840 and its ten digits.
pub(super) fn npi(text: &[u8]) -> bool {
    let d = digits(text);
    let mut all = vec![8, 0, 8, 4, 0];
    all.extend(&d);
    d.len() == 10 && matches!(d[0], 1 | 2) && !is_flat(&d[1..]) && luhn(&all)
}

/// DEA registration: (d1+d3+d5) + 2·(d2+d4+d6), last digit = d7.
pub(super) fn dea(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 9
        || !b"ABCDEFGHJKLMPRSTUX".contains(&t[0])
        || !(t[1].is_ascii_uppercase() || t[1] == b'9')
    {
        return false;
    }
    let d = digits(&t[2..]);
    d.len() == 7 && (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]
}

/// Vehicle identification number: its ninth character (49 CFR 565.15).
pub(super) fn vin(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 17 || !t.iter().any(u8::is_ascii_digit) || !t.iter().any(u8::is_ascii_uppercase) {
        return false;
    }
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let mut sum = 0;
    for (b, weight) in t.iter().zip(WEIGHTS) {
        let value = match b {
            b'0'..=b'9' => u32::from(b - b'0'),
            b'A'..=b'H' => u32::from(b - b'A') + 1,
            b'J'..=b'N' => u32::from(b - b'J') + 1,
            b'P' => 7,
            b'R' => 9,
            b'S'..=b'Z' => u32::from(b - b'S') + 2,
            _ => return false,
        };
        sum += value * weight;
    }
    let check = match sum % 11 {
        10 => b'X',
        n => b'0' + n as u8,
    };
    t[8] == check
}

/// Payment card: Luhn, 12 to 19 digits.
pub(super) fn card(text: &[u8]) -> bool {
    let d = digits(text);
    (12..=19).contains(&d.len()) && !is_flat(&d) && d[0] != 0 && luhn(&d)
}

/// Lengths of IBANs by country (SWIFT's registry).
const IBANS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// IBAN: the length for its country, and ISO 7064 mod 97. The match may include text after it, so
/// the length decides.
pub(super) fn iban(text: &[u8]) -> bool {
    let t = compact(text);
    let Some((_, length)) = IBANS.iter().find(|(country, _)| t.starts_with(*country)) else {
        return false;
    };
    if t.len() != *length || text.iter().any(u8::is_ascii_lowercase) {
        return false;
    }
    let mut rest: u64 = 0;
    for b in t[4..].iter().chain(&t[..4]) {
        rest = match b {
            b'0'..=b'9' => rest * 10 + u64::from(b - b'0'),
            _ => rest * 100 + u64::from(b - b'A') + 10,
        } % 97;
    }
    rest == 1
}

/// US bank routing number: 3, 7, 1 weights, mod 10.
pub(super) fn aba(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 9 && !is_flat(&d) && weighted(&d, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// An existing date; with a year of four digits, between 1880 and 2099.
pub(super) fn date(text: &[u8]) -> bool {
    let parts: Vec<u32> = text
        .split(|b| !b.is_ascii_digit())
        .filter(|p| !p.is_empty())
        .take(3)
        .map(|p| {
            p.iter().fold(0_u32, |n, b| {
                n.saturating_mul(10).saturating_add(u32::from(b - b'0'))
            })
        })
        .collect();
    let fits = |year: u32, month: u32, day: u32| {
        (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (year < 100 || (1880..2100).contains(&year))
    };
    match parts[..] {
        [a, b, c] => fits(a, b, c) || fits(c, a, b) || fits(c, b, a),
        _ => false,
    }
}

/// An IPv4 address rather than a version: four numbers up to 255.
pub(super) fn ipv4(text: &[u8]) -> bool {
    let text = text.split(|b| *b == b'/').next().unwrap_or_default();
    let parts: Vec<&[u8]> = text.split(|b| *b == b'.').collect();
    parts.len() == 4
        && parts.iter().all(|p| {
            p.len() <= 3
                && p.iter()
                    .fold(0_u32, |n, b| n * 10 + u32::from(b.wrapping_sub(b'0')))
                    <= 255
        })
}

pub(super) fn ipv6(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let address = text
        .split(['/', '%'])
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    address.len() > 2 && address.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Luhn over nine digits: Canadian social insurance number.
pub(super) fn sin(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 9 && !is_flat(&d) && d[0] != 0 && d[0] != 8 && luhn(&d)
}

/// UK NHS number: mod 11.
pub(super) fn nhs(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 10 && !is_flat(&d) && {
        let check = (11 - weighted(&d[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
        check == d[9]
    }
}

/// Spanish DNI and NIE: its letter.
pub(super) fn nif(text: &[u8]) -> bool {
    let t = compact(text);
    let Some((letter, body)) = t.split_last() else {
        return false;
    };
    let number: Vec<u8> = body
        .iter()
        .map(|b| match b {
            b'X' => b'0',
            b'Y' => b'1',
            b'Z' => b'2',
            other => *other,
        })
        .collect();
    if !(7..=8).contains(&number.len()) || !number.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let n = number
        .iter()
        .fold(0_usize, |n, b| n * 10 + usize::from(b - b'0'));
    b"TRWAGMYFPDXBNJZSQVHLCKE"[n % 23] == *letter
}

fn is_day(day: u32, month: u32) -> bool {
    let most = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=most).contains(&day)
}

/// Finnish personal identity code: its last character.
pub(super) fn hetu(text: &[u8]) -> bool {
    let d = digits(&text[..text.len().saturating_sub(1)]);
    let Some(last) = text.last() else {
        return false;
    };
    let n = d.iter().fold(0_u64, |n, d| n * 10 + u64::from(*d));
    d.len() == 9
        && is_day(d[0] * 10 + d[1], d[2] * 10 + d[3])
        && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(n % 31) as usize] == last.to_ascii_uppercase()
}

/// UK national insurance number: no prefix that is never issued (HMRC, NIM39110).
pub(super) fn nino(text: &[u8]) -> bool {
    let t = compact(text);
    !matches!(
        t.get(..2),
        Some(b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ") | None
    )
}

/// A hardware address of a device: not all zeros, not the broadcast address.
pub(super) fn mac(text: &[u8]) -> bool {
    let t = compact(text);
    t.len() == 12 && !t.windows(2).all(|w| w[0] == w[1])
}

/// A date, or a month and a day.
pub(super) fn day(text: &[u8]) -> bool {
    let parts = text
        .split(|b| !b.is_ascii_digit())
        .filter(|p| !p.is_empty())
        .count();
    match parts {
        2 => {
            let whole = [text, b"/2000"].concat();
            text.contains(&b'/') && date(&whole)
        }
        _ => date(text),
    }
}

/// Polish PESEL: weights 1, 3, 7, 9.
pub(super) fn pesel(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 11 && !is_flat(&d) && {
        let sum = weighted(&d[..10], &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
        (10 - sum % 10) % 10 == d[10]
    }
}

/// Turkish identity number.
pub(super) fn tckn(text: &[u8]) -> bool {
    let d = digits(text);
    if d.len() != 11 || d[0] == 0 {
        return false;
    }
    let odd: u32 = d[..9].iter().step_by(2).sum();
    let even: u32 = d[1..8].iter().step_by(2).sum();
    (odd * 7 + 100 - even) % 10 == d[9] && d[..10].iter().sum::<u32>() % 10 == d[10]
}

/// Indian Aadhaar: Verhoeff's formula.
pub(super) fn aadhaar(text: &[u8]) -> bool {
    const D: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const P: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let d = digits(text);
    d.len() == 12
        && d[0] >= 2
        && d.iter().rev().enumerate().fold(0_usize, |c, (i, n)| {
            usize::from(D[c][usize::from(P[i % 8][*n as usize])])
        }) == 0
}

/// South African identity number: a date and Luhn.
pub(super) fn za_id(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 13
        && luhn(&d)
        && (1..=12).contains(&(d[2] * 10 + d[3]))
        && (1..=31).contains(&(d[4] * 10 + d[5]))
        && d[10] <= 2
}

/// Bitcoin address: base 58 with four bytes of its double SHA-256 at the end, or bech32 (BIP 173,
/// BIP 350).
pub(super) fn bitcoin(text: &[u8]) -> bool {
    match text.strip_prefix(b"bc1") {
        Some(data) => bech32(data),
        None => base58(text),
    }
}

fn base58(text: &[u8]) -> bool {
    use crate::base::id::Digest;
    const LETTERS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for b in text {
        let Some(place) = LETTERS.iter().position(|l| l == b) else {
            return false;
        };
        let mut carry = place as u32;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return false;
        }
    }
    Digest::of(&Digest::of(&bytes[..21]).0).0[..4] == bytes[21..]
}

fn bech32(data: &[u8]) -> bool {
    const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const STEPS: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    let step = |sum: u32, value: u32| {
        let mixed = STEPS.iter().enumerate();
        let mixed = mixed.filter(|(i, _)| sum >> (25 + i) & 1 == 1);
        mixed.fold((sum & 0x1ff_ffff) << 5 ^ value, |sum, (_, with)| sum ^ with)
    };
    // What "bc" adds.
    let start = [3, 3, 0, 2, 3]
        .iter()
        .fold(1, |sum, value| step(sum, *value));
    let places: Option<Vec<usize>> = data
        .iter()
        .map(|b| LETTERS.iter().position(|l| l == b))
        .collect();
    places.is_some_and(|places| {
        let sum = places
            .iter()
            .fold(start, |sum, place| step(sum, *place as u32));
        matches!(sum, 1 | 0x2bc8_30a3)
    })
}

/// A number in a national form that is not a date, a version or one repeated digit.
pub(super) fn phone(text: &[u8]) -> bool {
    let d = digits(text);
    (7..=15).contains(&d.len()) && !is_flat(&d) && !(d.len() == 8 && date(text))
}

/// A name of a person rather than a label in some language: it begins with a capital letter and has
/// none of the words that name a field.
pub(super) fn name(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    let has = |what: &&[u8]| memchr::memmem::find(&lower, what).is_some();
    let labels = [
        &b"name"[..],
        b"nombre",
        b"prenom",
        b"surname",
        b"required",
        b"enter",
        b"{",
        b"%",
        b"$",
    ];
    text.first()
        .is_some_and(|b| b.is_ascii_uppercase() || !b.is_ascii())
        && !text.iter().any(u8::is_ascii_digit)
        && !labels.iter().any(has)
}

/// An address of a street: a number, and a word of three letters or more; no URL, no path.
pub(super) fn place(text: &[u8]) -> bool {
    let is_word = |word: &[u8]| {
        word.len() >= 3
            && word
                .iter()
                .all(|b| b.is_ascii_alphabetic() || !b.is_ascii())
    };
    text.split(|b| matches!(b, b' ' | b',' | b'.')).any(is_word)
        && text.contains(&b' ')
        && !text
            .iter()
            .any(|b| matches!(b, b'@' | b':' | b'{' | b'%' | b'$'))
}

/// The same beside a word: digits in a row are ten or more, or begin with 0.
pub(super) fn phone_beside(text: &[u8]) -> bool {
    let is_row = text.iter().all(u8::is_ascii_digit);
    phone(text) && (!is_row || text.len() >= 10 || text.first() == Some(&b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_pass_as_their_issuers_say_and_fail_with_one_digit_changed() {
        type Case = (fn(&[u8]) -> bool, &'static str, &'static str);
        let cases: [Case; 9] = [
            (npi, "1234567893", "1234567894"),
            (mbi, "1EG4-TE5-MK73", "1SG4-TE5-MK73"),
            (dea, "AB1234563", "AB1234564"),
            (vin, "1M8GDM9AXKP042788", "1M8GDM9A1KP042788"),
            (card, "4111 1111 1111 1111", "4111 1111 1111 1112"),
            (
                iban,
                "DE89 3704 0044 0532 0130 00",
                "DE89 3704 0044 0532 0130 01",
            ),
            (nhs, "943 476 5919", "943 476 5918"),
            (aba, "021000021", "021000022"),
            (ssn, "219-09-9999", "666-09-9999"),
        ];
        for (check, good, bad) in cases {
            assert!(check(good.as_bytes()), "{good}");
            assert!(!check(bad.as_bytes()), "{bad}");
        }
    }
}
