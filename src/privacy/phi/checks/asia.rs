//! Check digits of Asia, Africa and the Pacific.

use super::{
    Check, compact, day_at, digits, exactly, is_day, is_flat, luhn, number, value, weighted,
};

pub(super) const ALL: &[(&str, Check)] = &[
    ("au_tfn", au_tfn),
    ("au_medicare", au_medicare),
    ("au_ihi", |text| {
        exactly::<16>(text).is_some_and(|d| luhn(&d))
    }),
    ("au_abn", au_abn),
    ("au_acn", au_acn),
    ("nz_ird", nz_ird),
    ("nz_nhi", nz_nhi),
    ("in_gstin", in_gstin),
    ("in_state", |text| {
        is_gst_state(text) && !text.starts_with(b"38")
    }),
    ("in_vehicle", |text| STATES.contains(&&text[..2])),
    ("cn_resident", cn_resident),
    ("cn_uscc", cn_uscc),
    ("jp_my_number", jp_my_number),
    ("kr_rrn", kr_rrn),
    ("kr_date", kr_date),
    ("kr_brn", kr_brn),
    ("sg_nric", sg_nric),
    ("sg_uen", sg_uen),
    ("my_nric", |text| {
        exactly::<12>(text).is_some_and(|d| day_at(&d, 4, 2) && d[6] * 10 + d[7] > 0)
    }),
    ("id_nik", id_nik),
    ("th_national", th_national),
    ("tw_id", tw_id),
    ("hk_hkid", hk_hkid),
    ("il_id", |text| {
        exactly::<9>(text).is_some_and(|d| !is_flat(&d) && luhn(&d))
    }),
    ("ae_emirates", |text| {
        exactly::<15>(text).is_some_and(|d| luhn(&d))
    }),
    ("sa_national", |text| {
        exactly::<10>(text).is_some_and(|d| luhn(&d))
    }),
    ("kz_iin", kz_iin),
    ("eg_national", eg_national),
];

fn au_tfn(text: &[u8]) -> bool {
    exactly::<9>(text).is_some_and(|d| {
        !is_flat(&d) && weighted(&d, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
    })
}

/// The check digit is the ninth; the tenth counts the cards.
fn au_medicare(text: &[u8]) -> bool {
    exactly::<10>(text)
        .is_some_and(|d| !is_flat(&d) && weighted(&d, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == d[8])
}

fn au_abn(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|mut d| {
        let first = d[0];
        d[0] = first.wrapping_sub(1);
        first > 0 && weighted(&d, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]).is_multiple_of(89)
    })
}

fn au_acn(text: &[u8]) -> bool {
    exactly::<9>(text).is_some_and(|d| {
        let sum = weighted(&d, &[8, 7, 6, 5, 4, 3, 2, 1]);
        !is_flat(&d) && (10 - sum % 10) % 10 == d[8]
    })
}

fn nz_ird(text: &[u8]) -> bool {
    let mut d = digits(text);
    if d.len() == 8 {
        d.insert(0, 0);
    }
    let check = |weights: &[u32]| (11 - weighted(&d[..8], weights) % 11) % 11;
    d.len() == 9 && !is_flat(&d) && {
        let first = check(&[3, 2, 7, 6, 5, 4, 3, 2]);
        let second = check(&[7, 4, 3, 2, 5, 2, 7, 6]);
        (if first == 10 { second } else { first }) == d[8]
    }
}

/// Letters count by their place in the alphabet without I and O.
fn nz_nhi(text: &[u8]) -> bool {
    if text.len() != 7 {
        return false;
    }
    let place = |b: u8| match b {
        b'0'..=b'9' => u32::from(b - b'0'),
        _ => 1 + u32::from(b - b'A') - u32::from(b > b'I') - u32::from(b > b'O'),
    };
    let v: Vec<u32> = text.iter().map(|b| place(*b)).collect();
    let sum = weighted(&v, &[7, 6, 5, 4, 3, 2]);
    match text[6].is_ascii_digit() {
        true => !sum.is_multiple_of(11) && (11 - sum % 11) % 10 == v[6],
        false => 23 - sum % 23 == v[6],
    }
}

/// Codes of the states, and the two of everywhere else.
fn is_gst_state(text: &[u8]) -> bool {
    matches!(number(&digits(&text[..2])), 1..=38 | 97)
}

fn in_gstin(text: &[u8]) -> bool {
    let Some((last, body)) = text.split_last().filter(|(_, body)| body.len() == 14) else {
        return false;
    };
    let sum: u32 = body
        .iter()
        .zip([1, 2].iter().cycle())
        .map(|(b, w)| value(*b) * w)
        .map(|n| n / 36 + n % 36)
        .sum();
    is_gst_state(text) && (36 - sum % 36) % 36 == value(*last)
}

const STATES: &[&[u8]] = &[
    b"AN", b"AP", b"AR", b"AS", b"BH", b"BR", b"CG", b"CH", b"DD", b"DL", b"DN", b"GA", b"GJ",
    b"HP", b"HR", b"JH", b"JK", b"KA", b"KL", b"LA", b"LD", b"MH", b"ML", b"MN", b"MP", b"MZ",
    b"NL", b"OD", b"OR", b"PB", b"PY", b"RJ", b"SK", b"TN", b"TR", b"TS", b"UA", b"UK", b"UP",
    b"WB",
];

fn cn_resident(text: &[u8]) -> bool {
    if text.len() != 18 {
        return false;
    }
    let d = digits(&text[..17]);
    let sum = weighted(&d, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    let year = number(&d[6..10]);
    (1880..2100).contains(&year)
        && day_at(&d, 12, 10)
        && b"10X98765432"[(sum % 11) as usize] == text[17]
}

fn cn_uscc(text: &[u8]) -> bool {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let places: Option<Vec<u32>> = text
        .iter()
        .map(|b| LETTERS.iter().position(|l| l == b).map(|p| p as u32))
        .collect();
    let weights = [
        1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28,
    ];
    places.is_some_and(|v| v.len() == 18 && (31 - weighted(&v, &weights) % 31) % 31 == v[17])
}

fn jp_my_number(text: &[u8]) -> bool {
    exactly::<12>(text).is_some_and(|d| {
        let rest = weighted(&d, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
        !is_flat(&d) && d[11] == if rest < 2 { 0 } else { 11 - rest }
    })
}

fn kr_date(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| day_at(&d, 4, 2))
}

/// Of foreigners the sum is 2 more. Since October 2020 new numbers have no check digit.
fn kr_rrn(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let sum = weighted(&d, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
        let more = if matches!(d[6], 5..=8) { 2 } else { 0 };
        let birth = number(&d[..4]);
        let is_new = matches!(d[6], 3 | 4 | 7 | 8) && (2010..4000).contains(&birth);
        day_at(&d, 4, 2) && (is_new || (11 - sum % 11 + more) % 10 == d[12])
    })
}

fn kr_brn(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        let sum = weighted(&d, &[1, 3, 7, 1, 3, 7, 1, 3, 5]) + d[8] * 5 / 10;
        !is_flat(&d) && (10 - sum % 10) % 10 == d[9]
    })
}

/// The letter, by the weighted digits and the century or series.
fn sg_nric(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 9 {
        return false;
    }
    let more = match t[0] {
        b'T' | b'G' => 4,
        b'M' => 3,
        _ => 0,
    };
    let rest = ((weighted(&digits(&t[1..8]), &[2, 7, 6, 5, 4, 3, 2]) + more) % 11) as usize;
    let letters = match t[0] {
        b'S' | b'T' => b"JZIHGFEDCBA",
        b'M' => b"XWUTRQPNJLK",
        _ => b"XWUTRQPNMLK",
    };
    letters[rest] == t[8]
}

/// Businesses, companies, and others.
fn sg_uen(text: &[u8]) -> bool {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWX0123456789";
    let Some((last, body)) = text.split_last() else {
        return false;
    };
    let d = digits(body);
    let check = match (body.len(), body[0].is_ascii_digit()) {
        (8, true) => b"XMKECAWLJDB"[(weighted(&d, &[10, 4, 9, 3, 8, 2, 7, 1]) % 11) as usize],
        (9, true) => b"ZKCMDNERGWH"[(weighted(&d, &[10, 8, 6, 4, 9, 7, 5, 3, 1]) % 11) as usize],
        _ => {
            let places = body.iter().map(|b| LETTERS.iter().position(|l| l == b));
            let v: Vec<u32> = places.map(|p| p.unwrap_or(0) as u32).collect();
            let sum = weighted(&v, &[4, 3, 5, 3, 10, 2, 2, 5, 7]);
            LETTERS[((sum + 6) % 11) as usize]
        }
    };
    check == *last
}

fn id_nik(text: &[u8]) -> bool {
    exactly::<16>(text).is_some_and(|d| {
        let day = d[6] * 10 + d[7];
        let day = if day > 40 { day - 40 } else { day };
        matches!(d[0] * 10 + d[1], 11..=96) && is_day(day, d[8] * 10 + d[9])
    })
}

/// The second and third digit are a province.
fn th_national(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let sum = weighted(&d, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
        let province = matches!(
            d[1] * 10 + d[2],
            10..=27 | 30..=49 | 50..=58 | 60..=67 | 70..=77 | 80..=86 | 90..=96
        );
        province && (11 - sum % 11) % 10 == d[12]
    })
}

fn tw_id(text: &[u8]) -> bool {
    // Cities and counties in the order in which they were numbered.
    const PLACES: &[u8] = b"ABCDEFGHJKLMNPQRSTUVXYWZIO";
    let Some(place) = PLACES.iter().position(|b| Some(b) == text.first()) else {
        return false;
    };
    let place = place as u32 + 10;
    // Residents from elsewhere had a letter in the second place.
    let second = text.get(1).map_or(0, |b| value(*b));
    let second = if second >= 10 { second % 10 } else { second };
    let d = digits(text.get(2..).unwrap_or_default());
    d.len() == 8 && {
        let sum =
            place / 10 + place % 10 * 9 + second * 8 + weighted(&d, &[7, 6, 5, 4, 3, 2, 1, 1]);
        sum.is_multiple_of(10)
    }
}

/// One or two letters, six digits, and 0 to 9 or A.
fn hk_hkid(text: &[u8]) -> bool {
    let t = compact(text);
    let letters = t.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let mut v: Vec<u32> = t.iter().map(|b| value(*b)).collect();
    if letters == 1 {
        v.insert(0, 36);
    }
    v.len() == 9 && weighted(&v, &[9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// A second row of weights where the first leaves 10.
fn kz_iin(text: &[u8]) -> bool {
    exactly::<12>(text).is_some_and(|d| {
        let first = weighted(&d, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) % 11;
        let second = weighted(&d, &[3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2]) % 11;
        day_at(&d, 4, 2) && d[11] == if first < 10 { first } else { second }
    })
}

/// A century, a date, and the code of a governorate.
fn eg_national(text: &[u8]) -> bool {
    exactly::<14>(text).is_some_and(|d| {
        let place = d[7] * 10 + d[8];
        day_at(&d, 5, 3) && matches!(place, 1..=4 | 11..=19 | 21..=29 | 31..=35 | 88)
    })
}
