//! Whether a value is a secret, by its name and its look.

use std::ops::Range;

use super::value::{Joint, Value, after_name, skip_space, value_after, value_before, whole_name};
use super::{Style, secret};
use crate::privacy::Finding;
use crate::privacy::tokens::is_word;
use crate::privacy::values::{
    Look, ends_in_version, is_encoded_host, is_no_token_of, is_typed_in_order, is_wordy, look,
};
use crate::privacy::words::{Strength, judged, strength};

/// Judges the value of a name.
pub(super) fn named(text: &[u8], start: usize, end: usize, style: Style) -> Option<Finding> {
    // `-` may go on: `api-key`, but not `key--`.
    let mut end = end;
    while text.get(end) == Some(&b'-')
        && text.get(end + 1).is_some_and(u8::is_ascii_alphabetic)
        && end - start < 64
    {
        let more = text[end + 1..].iter().take_while(|b| is_word(**b)).count();
        // `datadog-secrettoken-0024…`: the value itself.
        if text[end + 1..end + 1 + more].iter().any(u8::is_ascii_digit) && more >= 12 {
            break;
        }
        end += 1 + more;
    }
    let name = whole_name(text, start, end);
    // `key="ClearTextPassword" value="…"`: the name is a value of its own.
    let strong = strength(&text[name.clone()]);
    if strong <= Strength::None {
        return None;
    }
    if let Some(value) = value_before(text, name.start)
        && judge(text, &text[name.clone()], strong, &value, style)
    {
        return Some(secret(value.range, "generic"));
    }
    let mut value = value_after(text, end)?;
    if value.joint == Joint::Space || value.quoted {
        let xml = text[..].get(after_name(text, end)..)?;
        let trimmed = skip_space(xml, 0, 20);
        if xml.get(trimmed..)?.starts_with(b"value=") {
            value = value_after(text, after_name(text, end) + trimmed + 5)?;
        }
    }
    if value.joint == Joint::Comma && value.quoted && is_defined(text, name.start) {
        value.joint = Joint::Assign;
    }
    judge(text, &text[name.clone()], strong, &value, style).then(|| {
        let kind = match strong {
            Strength::Password => "password",
            _ => "generic",
        };
        secret(value.range.clone(), kind)
    })
}

/// Returns true for the first argument of `define('NAME', 'value')`.
fn is_defined(text: &[u8], name: usize) -> bool {
    let before = &text[name.saturating_sub(24)..name];
    let Some(rest) = before
        .strip_suffix(b"'")
        .or_else(|| before.strip_suffix(b"\""))
    else {
        return false;
    };
    let rest = rest.trim_ascii_end();
    rest.strip_suffix(b"(").is_some_and(|rest| {
        rest.trim_ascii_end()
            .to_ascii_lowercase()
            .ends_with(b"define")
    })
}

pub(super) fn judge(
    text: &[u8],
    name: &[u8],
    strong: Strength,
    value: &Value,
    style: Style,
) -> bool {
    let raw = &text[value.range.clone()];
    // What the most common text is, without a closer look: prose, numbers, short words.
    let plain_word = !value.quoted && raw.iter().all(u8::is_ascii_lowercase);
    if raw.len() < 3
        || value.joint == Joint::Space && plain_word
        || strong == Strength::Weak && raw.len() < 16
        || ends_in_version(raw)
        || raw.iter().all(|b| b.is_ascii_digit() || *b == b'.') && raw.len() < 20
    {
        return false;
    }
    let kind = look(raw);
    let has_letter = raw.iter().any(|b| b.is_ascii_alphabetic());
    let has_digit = raw.iter().any(u8::is_ascii_digit);
    let symbols = raw
        .iter()
        .filter(|b| {
            !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'.' | b' ' | b'/' | b':')
        })
        .count();
    let spaced = raw.contains(&b' ');
    if kind == Look::Placeholder
        || is_no_token_of(name, raw)
        || is_encoded_host(raw)
        || is_typed_in_order(raw)
    {
        return false;
    }
    // `Credential=AKIA…/20210618/us-east-1/…` is a scope, not a secret.
    if raw.contains(&b'/') && name.to_ascii_lowercase().ends_with(b"credential") {
        return false;
    }
    // The name again: `password: user_password`.
    let lower = crate::privacy::values::lower(raw);
    let own = crate::privacy::values::lower(name);
    if lower == own {
        return false;
    }
    // `user_password`, `newPassword` are names of fields; `thisismypassword` is one.
    let joined = raw.iter().any(|b| !b.is_ascii_lowercase());
    let says_itself = ["password", "passwd", "passphrase"]
        .iter()
        .any(|w| lower.contains(w))
        && !has_digit
        && symbols <= 1
        && (joined || raw.len() < 14);
    let is_path =
        raw.starts_with(b"/") && raw.iter().filter(|b| **b == b'/').count() >= 2 && !has_digit
            || raw.starts_with(b"./")
            || raw.starts_with(b"../")
            || raw.starts_with(b"~/")
            || raw.starts_with(b"http://")
            || raw.starts_with(b"https://");
    if is_path {
        return false;
    }
    let calls = !value.quoted
        && (raw.contains(&b'(') && raw.contains(&b')') && symbols <= 4
            || raw.windows(2).any(|w| w == b"::" || w == b"->"));
    let member = !value.quoted
        && !has_digit
        && raw.contains(&b'.')
        && raw
            .iter()
            .all(|b| is_word(*b) || matches!(b, b'.' | b'[' | b']' | b'(' | b')' | b'?' | b'!'));
    match kind {
        Look::Hex | Look::Random if !spaced => {
            if !value.quoted && (calls || member) {
                return false;
            }
            match strong {
                Strength::Password | Strength::Token => {
                    raw.len() >= 8 && value.joint != Joint::Comma || raw.len() >= 16
                }
                Strength::Weak => {
                    raw.len() >= if kind == Look::Hex { 100 } else { 20 }
                        && value.joint != Joint::Comma
                        && value.joint != Joint::Space
                        || style.strict && raw.len() >= 16
                }
                _ => false,
            }
        }
        _ => {
            if !has_letter
                || says_itself
                || calls
                || member
                || value.joint == Joint::Comma && !value.quoted
            {
                return false;
            }
            // A word or a number says nothing.
            match strong {
                Strength::Password => {
                    if value.quoted {
                        if raw.len() < 4
                            || spaced && (raw.len() > 24 || symbols == 0 || is_wordy(raw))
                        {
                            return false;
                        }
                        if matches!(value.joint, Joint::Comma | Joint::Space) {
                            let odd = has_digit || symbols >= 2 && raw.len() >= 8;
                            return odd && !spaced && raw.len() >= 6 && value.joint == Joint::Space
                                || is_said(text, value, raw);
                        }
                        let selector = matches!(
                            raw[0],
                            b'#' | b'.' | b'/' | b'@' | b'%' | b'[' | b'<' | b'^' | b'('
                        );
                        !(selector && is_wordy(raw)) && (raw.len() >= 5)
                    } else if is_flag(text, name, value) {
                        raw.len() >= 6
                            && (has_digit || symbols > 0)
                            && !raw.starts_with(b"$")
                            && !raw.starts_with(b"-")
                    } else if style.code {
                        false
                    } else if value.tight && value.joint == Joint::Assign {
                        raw.len() >= 5 && (symbols > 0 || has_digit || raw.len() >= 6)
                    } else {
                        raw.len() >= 6
                            && matches!(value.joint, Joint::Assign | Joint::Colon | Joint::Space)
                            && (value.joint != Joint::Space || has_digit && symbols > 0)
                            && ((has_digit || symbols > 0) && !is_wordy(raw)
                                || symbols > 0 && has_letter && raw.len() >= 8
                                || style.env
                                || style.strict && value.joint == Joint::Assign)
                    }
                }
                Strength::Token => {
                    let odd = symbols >= 1 && (has_digit || symbols >= 2);
                    if spaced
                        && (is_wordy(raw)
                            || raw.len() > 64
                            || raw.windows(2).any(|w| w == b", " || w == b". "))
                    {
                        return false;
                    }
                    if value.quoted {
                        raw.len() >= 8
                            && matches!(value.joint, Joint::Assign | Joint::Colon | Joint::Compare)
                            && (odd && !spaced
                                || has_digit && !is_wordy(raw)
                                || raw.len() >= 20 && !is_wordy(raw) && !spaced)
                    } else if style.code {
                        false
                    } else {
                        raw.len() >= 10
                            && matches!(value.joint, Joint::Assign | Joint::Colon)
                            && (odd
                                || has_digit && !is_wordy(raw)
                                || raw.len() >= 20 && !is_wordy(raw)
                                || style.env && raw.len() >= 8)
                    }
                }
                _ => false,
            }
        }
    }
}

/// `--password value`
pub(super) fn is_flag(text: &[u8], name: &[u8], value: &Value) -> bool {
    let start = (name.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    value.joint == Joint::Space && start > 0 && text.get(start - 1) == Some(&b'-')
}

/// `The default Password is 'blooberry'`.
pub(super) fn is_said(text: &[u8], value: &Value, raw: &[u8]) -> bool {
    let before = &text[value.range.start.saturating_sub(12)..value.range.start];
    raw.len() >= 6 && before.windows(4).any(|w| w == b" is ")
}

/// Judges random text by the name right before it.
pub(super) fn explained(text: &[u8], start: usize, end: usize, style: Style) -> Option<Finding> {
    // The whole value.
    let mut from = start;
    while from > 0
        && start - from < 200
        && (is_word(text[from - 1]) || matches!(text[from - 1], b'-' | b'+' | b'/' | b'.' | b'~'))
    {
        from -= 1;
    }
    let mut to = end;
    while to < text.len()
        && to - end < 400
        && (is_word(text[to]) || matches!(text[to], b'-' | b'+' | b'/' | b'=' | b'.' | b'~'))
    {
        to += 1;
    }
    while to > end && matches!(text[to - 1], b'.' | b'/') {
        to -= 1;
    }
    // Cut short: `AbC…..[redacted]`
    if text[to..].starts_with(b"..") {
        return None;
    }
    // An escape's letter.
    if from > 0 && text[from - 1] == b'\\' {
        from += 1;
    }
    // `datadog-secrettoken-0024…`: the name is in front of the value itself.
    let mut name: Option<Range<usize>> = None;
    if from < start {
        let head = &text[from..start];
        if let Some(cut) = head.iter().rposition(|b| matches!(b, b'-' | b'.'))
            && !head.contains(&b'/')
            && head[..cut].iter().any(u8::is_ascii_alphabetic)
            && !head.iter().any(u8::is_ascii_digit)
        {
            name = Some(from..from + cut);
            from = from + cut + 1;
        }
    }
    let value = &text[from..to];
    if value.len() < 16 {
        return None;
    }
    let quoted = from > 0 && matches!(text[from - 1], b'"' | b'\'' | b'`');
    let name = match name {
        Some(name) => name,
        None => {
            let mut i = from;
            let mut gap = 0;
            while i > 0 && gap < 12 && !is_word(text[i - 1]) {
                if matches!(
                    text[i - 1],
                    b'\n'
                        | b';'
                        | b','
                        | b'{'
                        | b'}'
                        | b'&'
                        | b'?'
                        | b'\\'
                        | b')'
                        | b'/'
                        | b'#'
                        | b'@'
                ) && !(text[i - 1] == b'\\' && quoted)
                {
                    return None;
                }
                i -= 1;
                gap += 1;
            }
            if i == 0 || gap == 0 || gap >= 12 {
                return None;
            }
            whole_name(text, i.saturating_sub(1), i)
        }
    };
    let (mut strong, of_service) = judged(&text[name.clone()]);
    if strong == Strength::Benign {
        return None;
    }
    let before = word_before(text, name.start);
    let service = of_service || before.clone().is_some_and(|w| judged(&text[w]).1);
    if strong == Strength::None && !service {
        return None;
    }
    // `api key 123…`, `blitapp SECRET key=…`: the word before decides with it.
    let joined_by_space =
        from.saturating_sub(name.end) <= 2 && text[name.end..from].iter().all(|b| *b == b' ');
    if strong == Strength::Weak
        && !service
        && let Some(before) = before
        && !text[before.end..name.start].contains(&b',')
    {
        let both: Vec<u8> = [&text[before], b"_", &text[name.clone()]].concat();
        strong = strong.max(strength(&both));
    }
    // Last, because it takes longest.
    let kind = look(value);
    if !matches!(kind, Look::Hex | Look::Random)
        || is_encoded_host(value)
        || is_typed_in_order(value)
        || is_no_token_of(&text[name.clone()], value)
    {
        return None;
    }
    let accepted = match strong {
        Strength::Password | Strength::Token => {
            !joined_by_space
                || service
                || value.len() >= 20 && (kind == Look::Random || style.strict)
        }
        Strength::Weak => {
            service && value.len() >= 16
                || kind == Look::Random
                    && value.len() >= 28
                    && !joined_by_space
                    && text[name.clone()].to_ascii_lowercase().ends_with(b"key")
        }
        _ => false,
    };
    accepted.then(|| secret(from..to, "generic"))
}

/// Returns the word before a name on the same line.
pub(super) fn word_before(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut end = at;
    while end > 0 && at - end < 3 && matches!(text[end - 1], b' ' | b'\t' | b'.' | b'-') {
        end -= 1;
    }
    if end == at || end == 0 {
        return None;
    }
    let mut from = end;
    while from > 0 && end - from < 40 && is_word(text[from - 1]) {
        from -= 1;
    }
    (from < end).then_some(from..end)
}
