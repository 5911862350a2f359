//! What stands around a name or a value and says that the value is no secret: a call, an index, the
//! name of a resource, a badge.

use std::ops::Range;

use super::value::{Joint, Value};
use crate::privacy::tokens::is_word;
use crate::privacy::values::{Look, is_wordy, look};

/// Returns true for the end of a quoted path of types: `"AWS::IAM::AccessKey": "72c2…"`.
pub(super) fn is_type_path(text: &[u8], name: usize) -> bool {
    let before = &text[name.saturating_sub(80)..name];
    let is_part = |b: &u8| is_word(*b) || *b == b':';
    let open = before.iter().rposition(|b| !is_part(b));
    before.ends_with(b"::") && open.is_some_and(|open| matches!(before[open], b'"' | b'\''))
}

/// Returns true for `secret` in the name of a resource: `arn:aws:secretsmanager:eu:123456789012:secret:x`.
pub(super) fn is_resource(text: &[u8], name: usize) -> bool {
    let before = &text[name.saturating_sub(120)..name];
    let is_part =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'_' | b'-' | b'.' | b'*');
    let from = before
        .iter()
        .rposition(|b| !is_part(b))
        .map_or(0, |at| at + 1);
    let is_number = |part: &[u8]| part.len() == 12 && part.iter().all(u8::is_ascii_digit);
    let mut parts = before[from..].split(|b| *b == b':');
    before[from..].starts_with(b"arn:") || before.ends_with(b":") && parts.any(is_number)
}

/// Returns true for a key of a table: `settings[APP_KEY]["nameOfAField"]`.
pub(super) fn is_subscript(text: &[u8], value: &Range<usize>) -> bool {
    let before = &text[value.start.saturating_sub(3)..value.start];
    let [close, b'[', b'"' | b'\''] = before else {
        return false;
    };
    (*close == b']' || is_word(*close))
        && text.get(value.end + 1) == Some(&b']')
        && !text[value.clone()].iter().any(u8::is_ascii_digit)
}

/// Returns true for the name of a function that is called: `default1 = MakeDefault()`.
pub(super) fn is_called(text: &[u8], value: &Range<usize>) -> bool {
    let raw = &text[value.clone()];
    text.get(value.end) == Some(&b'(')
        && raw.iter().all(|b| is_word(*b) || *b == b'.')
        && (text.get(value.end + 1) == Some(&b')') || !raw.iter().any(u8::is_ascii_digit))
}

/// Returns true for a cookie in which nothing is long or random enough for a session.
pub(super) fn is_plain_cookie(name: &[u8], value: &[u8]) -> bool {
    let is_plain = |part: &[u8]| {
        let at = memchr::memchr(b'=', part).map_or(0, |at| at + 1);
        let said = part[at..].trim_ascii();
        let escaped: Vec<u8> = said
            .split(|b| *b == b'\\')
            .map(|part| part.trim_ascii_start())
            .flat_map(|part| part.iter().skip_while(|b| b.is_ascii_digit()).chain(b"-"))
            .copied()
            .collect();
        said.len() < 12 && !matches!(look(said), Look::Hex | Look::Random)
            || said.contains(&b'\\') && is_wordy(&escaped)
    };
    name.to_ascii_lowercase().ends_with(b"cookie") && value.split(|b| *b == b';').all(is_plain)
}

/// Returns true for what tests call a password: `badpass`, `testPass`.
pub(super) fn is_called_password(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let ends = [&b"password"[..], b"passwd", b"pass", b"pwd", b"secret"];
    let head = ends.iter().find_map(|end| lower.strip_suffix(*end));
    let words = [
        &b"test"[..],
        b"some",
        b"bad",
        b"wrong",
        b"good",
        b"invalid",
        b"incorrect",
        b"any",
    ];
    head.is_some_and(|head| words.contains(&head.trim_ascii_end()))
}

/// Returns true if what is behind a value on its line says that it is none.
pub(super) fn is_denied_after(text: &[u8], at: usize) -> bool {
    let rest = &text[at..(at + 120).min(text.len())];
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let rest = rest[..end].to_ascii_lowercase();
    let says = [
        &b"don't actually use"[..],
        b"not a real",
        b"not the real",
        b"made up",
        b"bogus",
    ];
    says.iter()
        .any(|words| memchr::memmem::find(&rest, words).is_some())
}

/// Returns true for a checksum in a list of files: `a/tokens.py,sha256=jhYWZ…,34221`.
pub(super) fn is_checksum(text: &[u8], value: usize) -> bool {
    let before = &text[value.saturating_sub(8)..value];
    [&b"sha256="[..], b"sha384=", b"sha512=", b"sha1=", b"md5="]
        .iter()
        .any(|mark| before.ends_with(mark))
}

/// `# psk: Whether to keep …`: words of a comment, and more of them behind.
pub(super) fn is_in_sentence(text: &[u8], value: &Value) -> bool {
    let (from, to) = (value.range.start, value.range.end);
    let line = memchr::memrchr(b'\n', &text[..from]).map_or(0, |at| at + 1);
    let is_comment = text[line..from].trim_ascii_start().starts_with(b"#");
    let behind = &text[to..(to + 3).min(text.len())];
    is_comment
        && matches!(value.joint, Joint::Colon | Joint::Space)
        && matches!(behind, [b' ', a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic())
}

/// Returns true for the token of a picture that everybody is shown: `badge.svg?token=`.
pub(super) fn is_badge(text: &[u8], name: usize) -> bool {
    text[..name].ends_with(b"/badge.svg?")
}

/// Returns true for what makes a literal into another type and says nothing about it: `aws.String(`.
pub(super) fn is_conversion(text: &[u8], name: &Range<usize>) -> bool {
    const TYPES: [&[u8]; 5] = [b"String", b"StringPtr", b"StringValue", b"Ptr", b"ToPtr"];
    let mut parts = text[name.clone()].rsplit(|b| *b == b'.');
    let last = parts.next().unwrap_or_default();
    parts.next().is_some() && TYPES.contains(&last) && text.get(name.end) == Some(&b'(')
}

/// `X520countryname`: a word with one number in it.
pub(super) fn is_numbered_word(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let runs = value
        .split(|b| !b.is_ascii_digit())
        .filter(|run| !run.is_empty());
    let is_part = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    runs.count() == 1 && digits <= 4 && value.len() >= 10 && value[1..].iter().all(is_part)
}

/// `ac97_quirk=hp_only`: a parameter with its own name.
pub(super) fn is_assignment(value: &[u8]) -> bool {
    let at = memchr::memchr(b'=', value).unwrap_or(0);
    let (name, said) = (&value[..at], &value[at..]);
    at >= 3
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        && name.contains(&b'_')
        && (2..=12).contains(&said.len())
        && said[1..]
            .iter()
            .all(|b| b.is_ascii_lowercase() || b"_/".contains(b))
}

/// Returns true for a pattern: `pat` is short for that more often than for an access token, which has
/// only letters, digits, `_` and `-`.
pub(super) fn is_pattern(name: &[u8], value: &[u8]) -> bool {
    let is_part = |b: &u8| is_word(*b) || matches!(b, b'-' | b'.');
    // `$pat2`
    let digits = name.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let name = &name[..name.len() - digits];
    let before = name.len().checked_sub(4).map(|at| name[at]);
    name.to_ascii_lowercase().ends_with(b"pat")
        && before.is_none_or(|b| !b.is_ascii_lowercase())
        && !value.iter().all(is_part)
}

/// Returns true for a command in backticks whose output begins a path: `` `pwd`/target ``.
pub(super) fn is_command(text: &[u8], start: usize, end: usize) -> bool {
    start > 0 && text[start - 1] == b'`' && text.get(end..end + 2) == Some(b"`/")
}

/// Returns true for what a shell does to the value of a variable: `${PASSWORD:?missing}`, except for a
/// value that it has instead.
pub(super) fn is_expansion(text: &[u8], name: &Range<usize>) -> bool {
    let after = text.get(name.end..name.end + 2).unwrap_or_default();
    text[..name.start].ends_with(b"${")
        && after.first() == Some(&b':')
        && !matches!(after.get(1), Some(b'-' | b'=' | b'+'))
}

/// Returns true for the number that makes a request the only one of its kind: no credential.
pub(super) fn is_number_of_request(name: &[u8], value: &[u8]) -> bool {
    const NAMES: [&str; 5] = [
        "clienttoken",
        "clientrequesttoken",
        "requesttoken",
        "updatetoken",
        "idempotencytoken",
    ];
    let letters = |b: &&u8| b.is_ascii_alphabetic();
    let name: Vec<u8> = name
        .iter()
        .filter(letters)
        .map(u8::to_ascii_lowercase)
        .collect();
    let dashes: Vec<usize> = memchr::memchr_iter(b'-', value).collect();
    dashes == [8, 13, 18, 23]
        && value.len() == 36
        && NAMES.iter().any(|known| name.ends_with(known.as_bytes()))
}

/// Returns true for the signature of one request: `SharedKey account:G4jjBXA7LI…=`. The key cannot be
/// told from it.
pub(super) fn is_signature(name: &[u8], value: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let account = memchr::memchr(b':', value).unwrap_or(0);
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    (name.ends_with(b"sharedkey") || name.ends_with(b"sharedkeylite"))
        && account > 0
        && value[account + 1..].len() == 44
        && value[account + 1..].iter().all(is_part)
}

/// Returns true for the number of a thing that is named by a path: `"alias/aws/xray": "e9b758eb-…"`.
pub(super) fn is_number_of_thing(text: &[u8], name: usize, value: &[u8]) -> bool {
    let dashes: Vec<usize> = memchr::memchr_iter(b'-', value).collect();
    dashes == [8, 13, 18, 23] && value.len() == 36 && text[..name].ends_with(b"/")
}

/// Returns true for the first argument of `define('NAME', 'value')`, and for the name that Android's
/// builds give a value: `buildConfigField "String", "API_KEY", "\"…\""`.
pub(super) fn is_defined(text: &[u8], name: usize) -> bool {
    let before = &text[name.saturating_sub(40)..name];
    let fields = [&b"buildConfigField"[..], b"resValue"];
    if let Some(at) = fields.iter().find_map(|f| memchr::memmem::rfind(before, f)) {
        let between = &before[at..];
        let is_in = |b: &u8| b.is_ascii_alphabetic() || b" (\"',".contains(b);
        return between.iter().all(is_in)
            && memchr::memchr_iter(b',', between).count() == 1
            && matches!(between.last(), Some(b'"' | b'\''));
    }
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

pub(super) fn is_label_in_call(text: &[u8], name: &Range<usize>, value: &Range<usize>) -> bool {
    let before = text.get(..name.start).unwrap_or_default();
    let call = before.strip_suffix(b"(").and_then(|call| call.last());
    let between = text.get(name.end..value.start).unwrap_or_default();
    call.is_some_and(|b| is_word(*b))
        && between.trim_ascii() == b":"
        && text.get(value.end) == Some(&b')')
}

/// `prev_token[0]`, `s:tokens[line]`
pub(super) fn is_indexed(raw: &[u8]) -> bool {
    let Some(open) = memchr::memchr(b'[', raw).filter(|at| *at > 1) else {
        return false;
    };
    raw.ends_with(b"]") && !raw[..open].iter().any(u8::is_ascii_digit)
}

/// What is left of a call that has quotes or spaces in it: `getpwnam(`, `substitute(a:choice`.
pub(super) fn is_cut_call(raw: &[u8]) -> bool {
    let open = memchr::memchr(b'(', raw).unwrap_or(0);
    let is_name = |b: &u8| b.is_ascii_lowercase() || *b == b'_';
    open >= 3
        && raw[..open].iter().all(is_name)
        && raw[open + 1..].iter().all(|b| is_name(b) || *b == b':')
}

/// An option's help: `[specify`; the next name: `scmVersion=`; words: `key+cert`.
pub(super) fn is_no_bare_value(raw: &[u8]) -> bool {
    let begins = raw.strip_prefix(b"-").unwrap_or(raw);
    let is_letter = |b: &u8| b.is_ascii_alphabetic();
    let opens = begins.first() == Some(&b'[') && !raw.contains(&b']');
    let next = raw
        .strip_suffix(b"=")
        .is_some_and(|name| name.iter().all(is_letter));
    let mut parts = raw.split(|b| *b == b'+');
    let is_part = |part: &[u8]| {
        let digits = part.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        digits <= 1
            && part.len() >= 3
            && part[..part.len() - digits]
                .iter()
                .all(u8::is_ascii_lowercase)
    };
    opens || next || raw.contains(&b'+') && parts.all(is_part)
}

/// `jwt.encode({`
pub(super) fn calls_a_member(raw: &[u8]) -> bool {
    let open = memchr::memchr(b'(', raw).unwrap_or(0);
    let mut words = raw[..open].split(|b| *b == b'.');
    let is_name =
        |word: &[u8]| word.len() >= 2 && word.iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
    raw[..open].contains(&b'.') && words.all(is_name)
}
