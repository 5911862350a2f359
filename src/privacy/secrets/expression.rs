//! What stands behind the name of a secret and is no value of it, by the expression that both are in.

use super::value::{Joint, Value};
use crate::privacy::tokens::is_word;

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
        || is_action(name) && raw.iter().all(u8::is_ascii_lowercase)
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

/// A comment says what is passed: `to pass ed25519.PrivateKey`.
fn is_verb(before: &[u8], name: &[u8]) -> bool {
    name == b"pass" && !before.ends_with(b"-")
}
