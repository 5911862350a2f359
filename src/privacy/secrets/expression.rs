//! What stands behind the name of a secret and is no value of it, by the expression that both are in.

use std::ops::Range;

use super::Style;
use super::value::{Joint, Value};
use crate::privacy::notation::is_constant;
use crate::privacy::tokens::is_word;
use crate::privacy::values::is_wordy;

/// Returns true for a value that the program text around says to be something else. `name` is a part of
/// `text`.
pub(super) fn is_expression(text: &[u8], name: &[u8], value: &Value, code: bool) -> bool {
    let start = (name.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let (before, after) = (&text[..start], text.get(start + name.len()).copied());
    let raw = &text[value.range.clone()];
    let is_here = value.range.start > start;
    is_here && is_quoted_name(before, after, raw, value, code)
        || !value.quoted && is_in_braces(&text[..value.range.start])
        || !value.quoted && is_method(raw)
        || code && value.quoted && is_joined(raw)
        || is_action(name) && raw.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
        || is_here && value.quoted && is_key_in_braces(text, value)
        || code && value.quoted && value.joint == Joint::Compare && is_choice(raw)
        || code && value.quoted && is_long_constant(raw)
        || code && is_here && is_in_list_of_words(text, name, value)
        || is_here && is_size_of_array(text, &value.range)
        || is_here && value.joint == Joint::Space && is_option(text, value)
        || raw.starts_with(b"!") && before.ends_with(b"!")
        || is_here && is_seed_of_parameters(text, name, &value.range)
        || code && value.joint == Joint::Space && is_verb(before, name)
}

/// `"password" != kind.find("…")`, `x ? "password" : "text"`, `"Your password": "…"`: the name is a text
/// itself, and not that of a member.
fn is_quoted_name(before: &[u8], after: Option<u8>, raw: &[u8], value: &Value, code: bool) -> bool {
    let Some(quote @ (b'"' | b'\'' | b'`')) = after else {
        return false;
    };
    match (before.last(), value.joint) {
        (Some(b), Joint::Compare) => *b == quote,
        (Some(b), Joint::Colon) if *b == quote => {
            before[..before.len() - 1].trim_ascii_end().ends_with(b"?")
        }
        (Some(b' '), Joint::Colon) => code && !raw.iter().any(u8::is_ascii_digit),
        _ => false,
    }
}

/// `"Password": {"shape": "…"}`: the name of a member of what the name has.
fn is_key_in_braces(text: &[u8], value: &Value) -> bool {
    let is_mark = |b: &&u8| matches!(b, b'"' | b'\'' | b'\\');
    let before = &text[..value.range.start];
    let marks = before.iter().rev().take_while(is_mark).count();
    let after = &text[value.range.end..(value.range.end + 24).min(text.len())];
    let closed = after.iter().take_while(is_mark).count();
    let rest = after[closed..].trim_ascii_start();
    before[..before.len() - marks].ends_with(b"{")
        && (rest.starts_with(b":") || rest.starts_with(b"=>"))
}

/// `update_password == "on_create"`: one of several words that a program knows.
fn is_choice(raw: &[u8]) -> bool {
    raw.contains(&b'_') && raw.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
}

/// `'PASSWORD': ['encryption-functions', …]`, `$meta['autopasswd'] = array('onoff')`: names in a list.
fn is_in_list_of_words(text: &[u8], name: &[u8], value: &Value) -> bool {
    let raw = &text[value.range.clone()];
    let before = text[..value.range.start - 1].trim_ascii_end();
    let is_list = before.ends_with(b"[") || before.ends_with(b"array(");
    value.quoted
        && is_list
        && !name.ends_with(b"s")
        && raw
            .iter()
            .all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'))
}

/// `"VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"`
fn is_long_constant(raw: &[u8]) -> bool {
    let parts = raw.split(|b| *b == b'_');
    parts.clone().count() >= 4
        && raw.iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
        && parts.into_iter().all(|part| !part.is_empty())
}

/// `unsigned char key[TLS_CIPHER_AES_GCM_128_KEY_SIZE];`
pub(super) fn is_size_of_array(text: &[u8], value: &Range<usize>) -> bool {
    let at = value.start;
    at >= 2
        && text[at - 1] == b'['
        && is_word(text[at - 2])
        && text.get(value.end) == Some(&b']')
        && is_constant(&text[value.clone()])
}

/// `mkpasswd --method=SHA-512`
fn is_option(text: &[u8], value: &Value) -> bool {
    let raw = &text[value.range.clone()];
    let name = memchr::memchr(b'=', raw).unwrap_or(0);
    text[..value.range.start].ends_with(b"--")
        && name >= 3
        && raw[..name]
            .iter()
            .all(|b| b.is_ascii_lowercase() || *b == b'-')
}

/// `SEED = b869c82b…`, `counter = 123`: how the numbers that everybody uses were found (FIPS 186).
pub(super) fn is_seed_of_parameters(text: &[u8], name: &[u8], value: &Range<usize>) -> bool {
    let after = &text[value.end..(value.end + 240).min(text.len())];
    name.to_ascii_lowercase().ends_with(b"seed")
        && text[value.clone()].iter().all(u8::is_ascii_hexdigit)
        && memchr::memmem::find(&after.to_ascii_lowercase(), b"counter").is_some()
}

/// `{{ 60 | random(seed=inventory_hostname) }}`
fn is_in_braces(before: &[u8]) -> bool {
    let line = &before[before.len().saturating_sub(300)..];
    let line = &line[memchr::memrchr(b'\n', line).map_or(0, |at| at + 1)..];
    let open = memchr::memmem::rfind(line, b"{{");
    open.is_some_and(|open| memchr::memmem::find(&line[open..], b"}}").is_none())
}

/// `$token_key.GetValue(…`
fn is_method(raw: &[u8]) -> bool {
    let word = |text: &[u8]| text.iter().take_while(|b| is_word(**b)).count();
    let Some(rest) = raw.strip_prefix(b"$") else {
        return false;
    };
    let name = word(rest);
    rest.get(name) == Some(&b'.')
        && name >= 2
        && rest.get(name + 1 + word(&rest[name + 1..])) == Some(&b'(')
}

/// `value="' . token() . '"`, `"?secret=" + r + "…"`: the quotes are around something else.
fn is_joined(raw: &[u8]) -> bool {
    let rest = raw.trim_ascii_start();
    let (closed, rest) = match rest {
        [b'\'' | b'"', rest @ ..] => (true, rest.trim_ascii_start()),
        _ => (false, rest),
    };
    let [b'+' | b'.', rest @ ..] = rest else {
        return false;
    };
    let is_code = |b: &u8| is_word(*b) || b"$.,()[]+ ".contains(b);
    let goes_on = raw.iter().all(is_code) && rest.iter().any(|b| b"(,.+".contains(b));
    let spaced = raw[0] == b' ' && rest.first() == Some(&b' ');
    let is_name = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'$' | b' ');
    rest.first().is_some_and(is_name) && (closed || spaced || goes_on)
}

/// `update_password == "always"`: what is to be done about a password.
fn is_action(name: &[u8]) -> bool {
    const ACTIONS: [&[u8]; 10] = [
        b"update", b"change", b"reset", b"show", b"hide", b"toggle", b"forgot", b"forget",
        b"require", b"ask",
    ];
    let name = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let action = ACTIONS.iter().find(|action| lower.starts_with(action));
    let rest = action.map_or(&b""[..], |action| &lower[action.len()..]);
    let rest = rest.strip_prefix(b"_").unwrap_or(rest);
    matches!(rest, b"password" | b"pass" | b"passwd" | b"passphrase")
}

/// `requirepass Tr0mbone-bkaHV`, `> PASS m4rigold_hXzqH`: a line that has nothing else, and what no word
/// is.
pub(super) fn is_line_of_two(text: &[u8], name: &[u8], value: &Value, style: Style) -> bool {
    if style.code || value.joint != Joint::Space || value.quoted {
        return false;
    }
    let start = (name.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let line = &text[start.saturating_sub(8)..start];
    let line = &line[memchr::memrchr(b'\n', line).map_or(0, |at| at + 1)..];
    let is_first = start < 8 || line.len() < 8;
    let is_margin = |b: &u8| matches!(b, b' ' | b'\t' | b'>' | b'-');
    let after = text.get(value.range.end).copied().unwrap_or(b'\n');
    let raw = &text[value.range.clone()];
    let has = |is: fn(&u8) -> bool| raw.iter().any(is);
    is_first
        && line.iter().all(is_margin)
        && matches!(after, b'\n' | b'\r')
        && (name == b"PASS" || name.len() > 4)
        && raw.len() >= 8
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && raw[0].is_ascii_alphanumeric()
        && (!is_wordy(raw) || raw.iter().any(|b| b"!#%&*+?^~@".contains(b)))
}

/// A comment says what is passed: `to pass ed25519.PrivateKey`.
fn is_verb(before: &[u8], name: &[u8]) -> bool {
    name == b"pass" && !before.ends_with(b"-")
}
