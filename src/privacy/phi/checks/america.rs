//! Check digits of America.

use super::{Check, compact, digits, exactly, is_day, is_flat, luhn, value, weighted};

pub(super) const ALL: &[(&str, Check)] = &[
    ("us_ein", us_ein),
    ("ca_ohip", |text| {
        exactly::<10>(&text[..text.len().min(12)]).is_some_and(|d| d[0] > 0 && luhn(&d))
    }),
    ("br_cpf", |text| {
        exactly::<11>(text).is_some_and(|d| !is_flat(&d) && fits(&d, 9, 11) && fits(&d, 10, 11))
    }),
    ("br_cnpj", |text| {
        exactly::<14>(text).is_some_and(|d| !is_flat(&d) && fits(&d, 12, 9) && fits(&d, 13, 9))
    }),
    ("mx_curp", mx_curp),
    ("mx_rfc", mx_rfc),
    ("mx_nss", |text| {
        exactly::<11>(text).is_some_and(|d| !is_flat(&d) && luhn(&d))
    }),
    ("ar_cuit", ar_cuit),
    ("cl_rut", cl_rut),
    ("co_nit", co_nit),
    ("uy_ci", uy_ci),
    ("ec_ci", ec_ci),
];

/// The first two digits name the campus that gave it; these never did.
fn us_ein(text: &[u8]) -> bool {
    let d = digits(text);
    d.len() == 9
        && !is_flat(&d)
        && !matches!(d[0] * 10 + d[1], 0 | 7..=9 | 17..=19 | 28 | 29 | 49 | 69 | 70 | 78 | 79 | 89 | 96 | 97)
}

/// Brazil: the digit at a place, by weights that rise from 2 at its left, and begin anew after the
/// largest.
fn fits(d: &[u32], at: usize, most: u32) -> bool {
    let weights = (2..=most).cycle();
    let sum: u32 = d[..at].iter().rev().zip(weights).map(|(d, w)| d * w).sum();
    d[at] == (11 - sum % 11) % 11 % 10
}

fn mx_curp(text: &[u8]) -> bool {
    if text.len() != 18 {
        return false;
    }
    // Ñ, which is not written, has the place between N and O.
    let place = |b: u8| value(b) + u32::from(b >= b'O');
    let sum: u32 = text[..17]
        .iter()
        .zip((2..=18).rev())
        .map(|(b, w)| place(*b) * w)
        .sum();
    let d = digits(&text[4..10]);
    (10 - sum % 10) % 10 == value(text[17]) && is_day(d[4] * 10 + d[5], d[2] * 10 + d[3])
}

fn mx_rfc(text: &[u8]) -> bool {
    let place = |b: u8| match b {
        b'&' => 24,
        b'A'..=b'N' => value(b),
        b'O'..=b'Z' => value(b) + 1,
        _ => value(b),
    };
    let Some((last, body)) = text
        .split_last()
        .filter(|(_, body)| matches!(body.len(), 11 | 12))
    else {
        return false;
    };
    // A company has one letter less: a blank, whose value is 37, is put before it.
    let blank = if body.len() == 11 { 37 * 13 } else { 0 };
    let from = if body.len() == 11 { 12 } else { 13 };
    let sum: u32 = body
        .iter()
        .zip((2..=from).rev())
        .map(|(b, w)| place(*b) * w)
        .sum();
    let check = match (11 - (sum + blank) % 11) % 11 {
        10 => b'A',
        n => b'0' + n as u8,
    };
    let d = digits(&body[body.len() - 8..body.len() - 2]);
    check == *last && d.len() == 6 && is_day(d[4] * 10 + d[5], d[2] * 10 + d[3])
}

fn ar_cuit(text: &[u8]) -> bool {
    exactly::<11>(text).is_some_and(|d| {
        let sum = weighted(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]);
        (11 - sum % 11) % 11 == d[10]
    })
}

fn cl_rut(text: &[u8]) -> bool {
    let t = compact(text);
    let Some((last, body)) = t.split_last() else {
        return false;
    };
    let d = digits(body);
    let sum: u32 = d
        .iter()
        .rev()
        .zip((2..=7).cycle())
        .map(|(d, w)| d * w)
        .sum();
    let check = match (11 - sum % 11) % 11 {
        10 => b'K',
        n => b'0' + n as u8,
    };
    d.len() == body.len() && !is_flat(&d) && check == *last
}

fn co_nit(text: &[u8]) -> bool {
    let d = digits(text);
    let Some((last, body)) = d.split_last() else {
        return false;
    };
    let weights = [3, 7, 13, 17, 19, 23, 29, 37, 41, 43];
    let sum: u32 = body.iter().rev().zip(weights).map(|(d, w)| d * w).sum();
    let rest = sum % 11;
    body.len() <= 10 && !is_flat(&d) && *last == if rest < 2 { rest } else { 11 - rest }
}

fn uy_ci(text: &[u8]) -> bool {
    exactly::<8>(text).is_some_and(|d| {
        let sum = weighted(&d, &[2, 9, 8, 7, 6, 3, 4]);
        !is_flat(&d) && (10 - sum % 10) % 10 == d[7]
    })
}

fn ec_ci(text: &[u8]) -> bool {
    exactly::<10>(text)
        .is_some_and(|d| matches!(d[0] * 10 + d[1], 1..=24 | 30) && d[2] < 7 && luhn(&d))
}
