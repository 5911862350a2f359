//! Check digits of Europe.

use super::{
    Check, compact, crossed, day_at, digits, exactly, is_day, is_flat, luhn, mod_11_10, number,
    value, weighted,
};

pub(super) const ALL: &[(&str, Check)] = &[
    ("utr", utr),
    ("uk_licence", uk_licence),
    ("ie_pps", ie_pps),
    ("de_tax_id", de_tax_id),
    ("de_svnr", de_svnr),
    ("de_kvnr", de_kvnr),
    ("de_serial", de_serial),
    ("de_plate", |text| text.len() <= 14),
    ("de_lanr", de_lanr),
    (
        "de_bsnr",
        |text| matches!(number(&digits(text)[..2]), 1..=3 | 6..=21 | 24..=28 | 31..=98),
    ),
    ("de_vat", |text| mod_11_10(&digits(text))),
    ("fr_nir", fr_nir),
    ("fr_spi", fr_spi),
    ("fr_siret", |text| {
        luhn(&digits(text)) && !is_flat(&digits(text))
    }),
    ("nl_bsn", nl_bsn),
    ("be_national", be_national),
    ("lu_national", lu_national),
    ("es_cif", es_cif),
    ("es_nss", es_nss),
    ("pt_nif", pt_nif),
    ("it_fiscal", it_fiscal),
    ("it_vat", |text| {
        luhn(&digits(text)) && !is_flat(&digits(text))
    }),
    ("ch_ahv", ch_ahv),
    ("at_svnr", at_svnr),
    ("pl_nip", pl_nip),
    ("pl_regon", pl_regon),
    ("pl_id_card", pl_id_card),
    ("cz_birth", cz_birth),
    ("ro_cnp", ro_cnp),
    ("bg_egn", bg_egn),
    ("ex_yu_jmbg", ex_yu_jmbg),
    ("hu_taj", hu_taj),
    ("hu_tax", hu_tax),
    ("gr_amka", |text| {
        exactly::<11>(text).is_some_and(|d| day_at(&d, 0, 2) && luhn(&d))
    }),
    ("gr_afm", gr_afm),
    ("se_person", se_person),
    ("se_org", |text| {
        exactly::<10>(text).is_some_and(|d| d[2] >= 2 && luhn(&d) && !is_flat(&d))
    }),
    ("no_person", no_person),
    ("dk_cpr", |text| {
        exactly::<10>(text).is_some_and(|d| day_at(&d, 0, 2))
    }),
    ("is_kennitala", is_kennitala),
    ("baltic", baltic),
    ("ru_snils", ru_snils),
    ("ru_inn", ru_inn),
    ("ua_tax", ua_tax),
];

fn utr(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        let rest = weighted(&d[1..], &[6, 7, 8, 9, 10, 5, 4, 3, 2]) % 11;
        [2, 1, 9, 8, 7, 6, 5, 4, 3, 2, 1][rest as usize] == d[0]
    })
}

/// Five characters of the surname, filled up with 9; decade, month, day and year of birth.
fn uk_licence(text: &[u8]) -> bool {
    let name = text.iter().take(5).skip_while(|b| b.is_ascii_uppercase());
    let d: Vec<u32> = text.iter().skip(5).take(6).map(|b| value(*b)).collect();
    text.len() == 16
        && name.into_iter().all(|b| *b == b'9')
        && d.len() == 6
        && is_day(d[3] * 10 + d[4], (d[1] % 5) * 10 + d[2])
}

fn ie_pps(text: &[u8]) -> bool {
    let t = compact(text);
    let d = digits(&t[..t.len().min(7)]);
    let second = t.get(8).map_or(0, |b| u32::from(b - b'A') + 1) % 23;
    let sum = weighted(&d, &[8, 7, 6, 5, 4, 3, 2]) + 9 * second;
    t.len() >= 8
        && d.len() == 7
        && u32::from(t[7] - b'A') + 1 == if sum.is_multiple_of(23) { 23 } else { sum % 23 }
}

/// No digit of the first ten occurs more than three times.
fn de_tax_id(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let often = |digit| d[..10].iter().filter(|d| **d == digit).count() > 3;
        d[0] != 0 && mod_11_10(&d) && !(0..10).any(often)
    })
}

/// An area, a date of birth (a day over 50 for a second number), a letter, a serial.
fn de_svnr(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 12 {
        return false;
    }
    let letter = u32::from(t[8].saturating_sub(b'A')) + 1;
    let mut d: Vec<u32> = t[..8].iter().map(|b| value(*b)).collect();
    d.extend([letter / 10, letter % 10]);
    d.extend(t[9..].iter().map(|b| value(*b)));
    let weights = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let sum: u32 = d.iter().zip(weights).map(|(d, w)| crossed(d * w)).sum();
    let day = d[2] * 10 + d[3];
    let day = if day > 50 { day - 50 } else { day };
    sum % 10 == d[12] && is_day(day, d[4] * 10 + d[5])
}

fn de_kvnr(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 10 {
        return false;
    }
    let letter = u32::from(t[0].saturating_sub(b'A')) + 1;
    let mut d = vec![letter / 10, letter % 10];
    d.extend(digits(&t[1..]));
    let sum: u32 = (0..10).map(|i| crossed(d[i] * (1 + i as u32 % 2))).sum();
    sum % 10 == d[10]
}

/// Nine characters, the last of which is a check digit, or ten: of identity cards and passports.
fn de_serial(text: &[u8]) -> bool {
    let t = compact(text);
    let Some((last, body)) = t.split_last() else {
        return false;
    };
    let sum: u32 = body
        .iter()
        .zip([7, 3, 1].iter().cycle())
        .map(|(b, w)| value(*b) * w)
        .sum();
    sum % 10 == value(*last)
}

/// The check digit is the seventh; the last two name the field.
fn de_lanr(text: &[u8]) -> bool {
    exactly::<9>(text).is_some_and(|d| {
        let sum = weighted(&d[..6], &[4, 9, 4, 9, 4, 9]);
        (10 - sum % 10) % 10 == d[6] && d[7] * 10 + d[8] > 0
    })
}

fn fr_nir(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 15 {
        return false;
    }
    // Corsica: 2A counts as 19, 2B as 18.
    let body: Vec<u32> = match t[6] {
        b'A' => [&t[..5], b"19", &t[7..13]].concat(),
        b'B' => [&t[..5], b"18", &t[7..13]].concat(),
        _ => t[..13].to_vec(),
    }
    .iter()
    .map(|b| value(*b))
    .collect();
    97 - number(&body) % 97 == number(&digits(&t[13..]))
}

fn fr_spi(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| number(&d[..10]) % 511 == number(&d[10..]))
}

/// Weights 9 to 2 and -1; with eight digits a zero is left out.
fn nl_bsn(text: &[u8]) -> bool {
    let mut d = digits(text);
    if d.len() == 8 {
        d.insert(0, 0);
    }
    d.len() == 9
        && !is_flat(&d)
        && (weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2]) + 10 * d[8]).is_multiple_of(11)
}

/// Born since 2000: a 2 is put before the number.
fn be_national(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let (body, check) = (number(&d[..9]), number(&d[9..]));
        let month = (d[2] * 10 + d[3]) % 20;
        let is_date = month == 0 || is_day(d[4] * 10 + d[5], month);
        is_date
            && [body, body + 2_000_000_000]
                .iter()
                .any(|n| 97 - n % 97 == check)
    })
}

fn lu_national(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let second = [&d[..11], &d[12..]].concat();
        day_at(&d, 6, 4) && luhn(&d[..12]) && super::verhoeff(&second)
    })
}

/// Sources differ about which organisations have a letter and which a digit.
fn es_cif(text: &[u8]) -> bool {
    let t = compact(text);
    if t.len() != 9 {
        return false;
    }
    let d = digits(&t[1..8]);
    let even: u32 = d.iter().skip(1).step_by(2).sum();
    let odd: u32 = d.iter().step_by(2).map(|d| crossed(d * 2)).sum();
    let check = (10 - (even + odd) % 10) % 10;
    t[8] == b"JABCDEFGHI"[check as usize] || t[8].is_ascii_digit() && value(t[8]) == check
}

fn es_nss(text: &[u8]) -> bool {
    exactly::<12>(text).is_some_and(|d| {
        let serial = number(&d[2..10]);
        let province = number(&d[..2]);
        let body = match serial < 10_000_000 {
            true => serial + province * 10_000_000,
            false => number(&d[..10]),
        };
        (1..=66).contains(&province) && body % 97 == number(&d[10..])
    })
}

fn pt_nif(text: &[u8]) -> bool {
    exactly::<9>(text).is_some_and(|d| {
        let rest = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
        !is_flat(&d) && d[8] == if rest < 2 { 0 } else { 11 - rest }
    })
}

/// The last letter; digits may be written as letters, where two people have the same code.
fn it_fiscal(text: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let t = compact(text);
    if t.len() != 16 {
        return false;
    }
    let place = |b: u8| match b {
        b'0'..=b'9' => usize::from(b - b'0'),
        _ => usize::from(b - b'A'),
    };
    let sum: u32 = t[..15]
        .iter()
        .enumerate()
        .map(|(i, b)| match i % 2 {
            0 => ODD[place(*b)],
            _ => place(*b) as u32,
        })
        .sum();
    sum % 26 == u32::from(t[15] - b'A')
}

fn ch_ahv(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let sum = weighted(&d[..12], &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3]);
        (10 - sum % 10) % 10 == d[12]
    })
}

/// The check digit is the fourth; then the date of birth.
fn at_svnr(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        let sum = weighted(&d, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]);
        d[0] != 0 && sum % 11 == d[3] && day_at(&d, 4, 6)
    })
}

fn pl_nip(text: &[u8]) -> bool {
    exactly::<10>(text)
        .is_some_and(|d| !is_flat(&d) && weighted(&d, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == d[9])
}

fn pl_regon(text: &[u8]) -> bool {
    let d = digits(text);
    let short = |d: &[u32]| weighted(d, &[8, 9, 2, 3, 4, 5, 6, 7]) % 11 % 10 == d[8];
    let long = || weighted(&d, &[2, 4, 8, 5, 0, 9, 7, 3, 6, 1, 2, 4, 8]) % 11 % 10 == d[13];
    !is_flat(&d)
        && match d.len() {
            9 => short(&d),
            14 => short(&d) && long(),
            _ => false,
        }
}

fn pl_id_card(text: &[u8]) -> bool {
    let t = compact(text);
    let v: Vec<u32> = t.iter().map(|b| value(*b)).collect();
    t.len() == 9 && weighted(&v, &[7, 3, 1, 9, 7, 3, 1, 7, 3]).is_multiple_of(10)
}

/// The whole is divisible by 11; nine digits before 1954 have no check digit. 50 (and since 2004 20
/// or 70) is added to the month.
fn cz_birth(text: &[u8]) -> bool {
    let d = digits(text);
    let month = d.get(2..4).map_or(0, |m| m[0] * 10 + m[1]) % 50;
    let month = if month > 20 { month - 20 } else { month };
    let is_date = d.len() >= 9 && is_day(d[4] * 10 + d[5], month);
    is_date
        && match d.len() {
            9 => d[0] * 10 + d[1] < 54,
            10 => number(&d).is_multiple_of(11) || number(&d[..9]) % 11 == 10 && d[9] == 0,
            _ => false,
        }
}

fn ro_cnp(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let rest = weighted(&d, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
        let county = d[7] * 10 + d[8];
        let place = matches!(county, 1..=52 | 70);
        place && day_at(&d, 5, 3) && d[12] == if rest == 10 { 1 } else { rest }
    })
}

/// 20 is added to the month for births before 1900, 40 for those since 2000.
fn bg_egn(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        let sum = weighted(&d, &[2, 4, 8, 5, 10, 9, 7, 3, 6]);
        let month = (d[2] * 10 + d[3]) % 20;
        is_day(d[4] * 10 + d[5], month) && sum % 11 % 10 == d[9]
    })
}

fn ex_yu_jmbg(text: &[u8]) -> bool {
    exactly::<13>(text).is_some_and(|d| {
        let sum = weighted(&d, &[7, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]);
        day_at(&d, 0, 2) && matches!(d[4], 0 | 9) && (11 - sum % 11) % 11 % 10 == d[12]
    })
}

fn hu_taj(text: &[u8]) -> bool {
    exactly::<9>(text)
        .is_some_and(|d| !is_flat(&d) && weighted(&d, &[3, 7, 3, 7, 3, 7, 3, 7]) % 10 == d[8])
}

fn hu_tax(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| weighted(&d, &[1, 2, 3, 4, 5, 6, 7, 8, 9]) % 11 == d[9])
}

fn gr_afm(text: &[u8]) -> bool {
    exactly::<9>(text).is_some_and(|d| {
        let sum = weighted(&d, &[256, 128, 64, 32, 16, 8, 4, 2]);
        !is_flat(&d) && sum % 11 % 10 == d[8]
    })
}

/// With 60 added to the day for people who are not registered.
fn se_person(text: &[u8]) -> bool {
    let d = digits(text);
    let (century, d) = match d.len() {
        12 => (d[0] * 10 + d[1], &d[2..]),
        10 => (19, &d[..]),
        _ => return false,
    };
    let day = d[4] * 10 + d[5];
    let day = if day > 60 { day - 60 } else { day };
    matches!(century, 18..=20) && is_day(day, d[2] * 10 + d[3]) && luhn(d)
}

/// 40 is added to the day of a D number.
fn no_person(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let first = weighted(&d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]);
        let second = weighted(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]);
        let day = (d[0] % 4) * 10 + d[1];
        first.is_multiple_of(11) && second.is_multiple_of(11) && is_day(day, d[2] * 10 + d[3])
    })
}

fn is_kennitala(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        let sum = weighted(&d, &[3, 2, 7, 6, 5, 4, 3, 2, 1]);
        day_at(&d, 0, 2) && sum.is_multiple_of(11) && matches!(d[9], 0 | 8 | 9)
    })
}

/// Estonia and Lithuania: a second row of weights where the first leaves 10.
fn baltic(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let first = weighted(&d, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11;
        let second = weighted(&d, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11;
        let check = if first < 10 { first } else { second % 10 };
        day_at(&d, 5, 3) && check == d[10]
    })
}

fn ru_snils(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let sum = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2, 1]);
        !is_flat(&d[..9]) && sum % 101 % 100 == d[9] * 10 + d[10]
    })
}

fn ru_inn(text: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    let d = digits(text);
    // The digit at a place, from those before it.
    let fits = |at: usize| weighted(&d[..at], &WEIGHTS[11 - at..]) % 11 % 10 == d[at];
    !is_flat(&d)
        && match d.len() {
            10 => fits(9),
            12 => fits(10) && fits(11),
            _ => false,
        }
}

fn ua_tax(text: &[u8]) -> bool {
    exactly::<10>(text).is_some_and(|d| {
        // Subtracted, and so counted from the modulus: -1 is 10.
        let sum = weighted(&d, &[10, 5, 7, 9, 4, 6, 10, 5, 7]);
        !is_flat(&d) && sum % 11 % 10 == d[9]
    })
}
