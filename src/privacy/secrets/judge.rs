//! Decides whether a value is a secret, by its name and its look.

use std::ops::Range;

use super::around::{
    calls_a_member, is_assignment, is_badge, is_called, is_called_password, is_checksum,
    is_command, is_conversion, is_cut_call, is_defined, is_denied_after, is_expansion,
    is_in_sentence, is_indexed, is_label_in_call, is_no_bare_value, is_number_of_request,
    is_number_of_thing, is_numbered_word, is_pattern, is_plain_cookie, is_resource, is_signature,
    is_subscript, is_type_path,
};
use super::expression::{is_expression, is_line_of_two, is_seed_of_parameters, is_size_of_array};
use super::value::{
    Joint, Value, after_name, block_end, skip_space, value_after, value_before, whole_name,
};
use super::{Style, secret};
use crate::privacy::Finding;
use crate::privacy::notation::{
    is_constant, is_dotted_name, is_file, is_label, is_named_token, is_namespace, is_notation,
    is_route, is_template, is_words_and_numbers,
};
use crate::privacy::tokens::is_word;
use crate::privacy::values::{
    Look, ends_in_version, is_encoded_host, is_name_of_digest, is_no_token_of, is_of_documentation,
    is_plain_source, is_typed, is_wordy, look, says_test,
};
use crate::privacy::words::{Strength, judged, strength};

/// Judges the value of a name.
pub(super) fn named(text: &[u8], start: usize, end: usize, style: Style) -> Option<Finding> {
    // The name may continue after `-`: `api-key`, but not `key--`.
    let mut end = end;
    while text.get(end) == Some(&b'-')
        && text.get(end + 1).is_some_and(u8::is_ascii_alphabetic)
        && end - start < 64
    {
        let more = text[end + 1..].iter().take_while(|b| is_word(**b)).count();
        // `datadog-secrettoken-0024…`: this is the value itself.
        if text[end + 1..end + 1 + more].iter().any(u8::is_ascii_digit) && more >= 12 {
            break;
        }
        end += 1 + more;
    }
    let name = whole_name(text, start, end);
    let strong = strength(&text[name.clone()]);
    if strong <= Strength::None {
        return None;
    }
    let after = default_of(text, &name).or_else(|| value_after(text, end));
    let before = value_before(text, name.start);
    if before.is_none() && after.is_none() {
        return None;
    }
    // `key="ClearTextPassword" value="…"`: here the name is a value itself.
    if is_type_path(text, name.start)
        || is_command(text, start, end)
        || is_badge(text, name.start)
        || is_resource(text, name.start)
        || is_expansion(text, &(name.start..end))
        || is_checksum(text, name.start)
        // `PASSWORD_FILE=/run/secrets/pw OTHER=…`
        || end - start == 2 && text[..start].ends_with(b"/")
    {
        return None;
    }
    if let Some(value) = before
        && judge(text, &text[name.clone()], strong, &value, style)
    {
        return Some(secret(value.range, "generic"));
    }
    let mut value = after?;
    if value.joint == Joint::Space || value.quoted {
        let xml = text[..].get(after_name(text, end)..)?;
        let trimmed = skip_space(xml, 0, 20);
        if xml.get(trimmed..)?.starts_with(b"value=") {
            value = value_after(text, after_name(text, end) + trimmed + 5)?;
        }
    }
    let is_name = is_defined(text, name.start)
        || strong == Strength::Password && text[..name.start].ends_with(b"-define(");
    if value.joint == Joint::Comma && value.quoted && is_name {
        value.joint = Joint::Assign;
    }
    judge(text, &text[name.clone()], strong, &value, style).then(|| {
        let kind = match strong {
            Strength::Password => "password",
            _ => "generic",
        };
        secret(value.range.start..block_end(text, &value.range), kind)
    })
}

/// What a variable of Terraform is if nobody says otherwise: `variable "db_password" { default = "…" }`.
fn default_of(text: &[u8], name: &Range<usize>) -> Option<Value> {
    if !text[..name.start].ends_with(b"variable \"") {
        return None;
    }
    let body = &text[name.end..(name.end + 600).min(text.len())];
    let body = &body[..memchr::memmem::find(body, b"\n}").unwrap_or(body.len())];
    let at = memchr::memmem::find(body, b" default")? + b" default".len();
    value_after(text, name.end + at)
}

/// Decides whether the value of a name is a secret. First the cheap checks that settle most text,
/// then what the value looks like by itself, last how strong the name is: the stronger, the less
/// the value has to prove.
pub(super) fn judge(
    text: &[u8],
    name: &[u8],
    strong: Strength,
    value: &Value,
    style: Style,
) -> bool {
    let raw = &text[value.range.clone()];
    if is_nothing(raw, strong, value) {
        return false;
    }
    let kind = look(raw);
    let seen = Seen::of(raw, value);
    if is_something_else(name, &seen, kind)
        || is_labelled(text, name, value)
        || text[..value.range.start].ends_with(b"-") && is_numbered_word(raw)
        || is_expression(text, name, value, style.code)
        || strong != Strength::Password && is_label(raw)
        || strong == Strength::Weak && is_file(raw)
        || style.code && value.quoted && is_template(raw)
        || style.code && !value.quoted && is_constant(raw)
        || is_shown(text, &value.range, strong, style)
    {
        return false;
    }
    if matches!(kind, Look::Hex | Look::Random) && !seen.spaced {
        return is_made_up(&seen, strong, value, style, kind);
    }
    if !seen.has_letter
        || seen.says_itself()
        || seen.calls
        || seen.is_member
        || value.joint == Joint::Comma && !value.quoted
        || !value.quoted && !style.env && (is_cut_call(raw) || is_no_bare_value(raw))
    {
        return false;
    }
    // A word or a number proves nothing.
    match strong {
        Strength::Password if value.quoted => is_quoted_password(text, &seen, value),
        Strength::Password | Strength::Token if is_line_of_two(text, name, value, style) => true,
        Strength::Password if is_flag(text, name, value) => {
            seen.len() >= 6
                && (seen.has_digit || seen.symbols > 0)
                && !raw.starts_with(b"$")
                && !raw.starts_with(b"-")
        }
        Strength::Password if style.code => is_in_connection(text, name, &seen, value),
        Strength::Password => is_bare_password(&seen, value, style) && !is_in_sentence(text, value),
        Strength::Token => is_token(&seen, value, style),
        _ => false,
    }
}

/// Returns true for what somebody made up to show how it looks. Letters that are counted up are that
/// in program text and documentation only: in settings and logs a program uses what has the name of
/// a secret.
fn is_shown(text: &[u8], value: &Range<usize>, strong: Strength, style: Style) -> bool {
    let raw = &text[value.clone()];
    let is_typed = || strong != Strength::Password && (is_typed(raw) || is_named_token(raw));
    !style.strict
        && (is_of_documentation(raw)
            || is_denied_after(text, value.end)
            || style.code && (is_called_password(raw) || is_typed() || says_test(raw)))
}

/// Returns true for the most common text without a closer look: prose, numbers, short words.
fn is_nothing(raw: &[u8], strong: Strength, value: &Value) -> bool {
    let plain_word = !value.quoted && raw.iter().all(u8::is_ascii_lowercase);
    raw.len() < 3
        || value.joint == Joint::Space && plain_word
        || strong == Strength::Weak && raw.len() < 16
        || ends_in_version(raw)
        || raw.iter().all(|b| b.is_ascii_digit() || *b == b'.') && raw.len() < 20
}

/// What a value consists of.
struct Seen<'t> {
    raw: &'t [u8],
    lower: String,
    has_letter: bool,
    has_digit: bool,
    /// Characters that are rare in names and paths.
    symbols: usize,
    spaced: bool,
    /// A call in code: `getPassword()`, `Config::get`.
    calls: bool,
    /// A lookup in code: `user.password`.
    is_member: bool,
}

impl<'t> Seen<'t> {
    fn of(raw: &'t [u8], value: &Value) -> Self {
        let is_symbol = |b: &&u8| {
            !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'.' | b' ' | b'/' | b':')
        };
        let symbols = raw.iter().filter(is_symbol).count();
        let has_digit = raw.iter().any(u8::is_ascii_digit);
        let in_member = |b: &u8| {
            is_word(*b) || matches!(b, b'.' | b'[' | b']' | b'(' | b')' | b'?' | b'!' | b':')
        };
        Self {
            raw,
            lower: crate::privacy::values::lower(raw),
            has_letter: raw.iter().any(|b| b.is_ascii_alphabetic()),
            has_digit,
            symbols,
            spaced: raw.contains(&b' '),
            calls: !value.quoted
                && (raw.contains(&b'(') && raw.contains(&b')') && symbols <= 4
                    || calls_a_member(raw)
                    || raw.windows(2).any(|w| w == b"::" || w == b"->")),
            is_member: !value.quoted
                && (!has_digit && raw.contains(&b'.') || is_indexed(raw))
                && raw.iter().all(in_member),
        }
    }

    fn len(&self) -> usize {
        self.raw.len()
    }

    /// `user_password` and `newPassword` are field names; `thisismypassword` is a password.
    fn says_itself(&self) -> bool {
        let joined = self.raw.iter().any(|b| !b.is_ascii_lowercase());
        ["password", "passwd", "passphrase"]
            .iter()
            .any(|w| self.lower.contains(w))
            && !self.has_digit
            && self.symbols <= 1
            && (joined || self.len() < 14)
            // `FTP_PASS`
            || ["_pass", "_pwd"].iter().any(|end| self.lower.ends_with(end))
                && !self.has_digit
                && self.symbols == 0
    }

    /// `redis://127.0.0.1:6379`: an address with nothing secret in it.
    fn is_bare_address(&self) -> bool {
        let scheme = self
            .raw
            .iter()
            .take_while(|b| b.is_ascii_lowercase())
            .count();
        scheme >= 4
            && self.raw[scheme..].starts_with(b"://")
            && !self.raw.iter().any(|b| matches!(b, b'@' | b'?' | b'='))
            && self.raw.iter().filter(|b| **b == b'/').count() <= 3
    }

    fn is_path(&self) -> bool {
        let raw = self.raw;
        raw.starts_with(b"/") && raw.iter().filter(|b| **b == b'/').count() >= 2 && !self.has_digit
            || raw.starts_with(b"./")
            || raw.starts_with(b"../")
            || raw.starts_with(b"~/")
            || raw.starts_with(b"http://")
            || raw.starts_with(b"https://")
            || self.is_bare_address()
    }
}

/// Returns true for a value that is certainly something else, whatever its name says.
fn is_something_else(name: &[u8], seen: &Seen<'_>, kind: Look) -> bool {
    let raw = seen.raw;
    if kind == Look::Placeholder
        || is_no_token_of(name, raw)
        || is_name_of_digest(name)
        || is_plain_source(name, raw)
        || is_encoded_host(raw)
        || is_notation(raw)
        || is_number_of_request(name, raw)
        || is_signature(name, raw)
        || is_pattern(name, raw)
        || is_plain_cookie(name, raw)
    {
        return true;
    }
    // `Credential=AKIA…/20210618/us-east-1/…` is a scope, not a secret.
    let is_scope = raw.contains(&b'/') && name.to_ascii_lowercase().ends_with(b"credential");
    // It repeats the name: `password: user_password`.
    is_scope || says_name(name, raw) || seen.is_path()
}

/// Returns true for an argument of a call that has a label: `initialize(token: value)`. There a literal
/// has quotes.
fn is_labelled(text: &[u8], name: &[u8], value: &Value) -> bool {
    let start = (name.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    !value.quoted && is_label_in_call(text, &(start..start + name.len()), &value.range)
}

/// Returns true for an argument that has a label, whatever its name.
pub(super) fn is_argument(text: &[u8], value: &Range<usize>) -> bool {
    name_before(text, value.start).is_some_and(|name| is_label_in_call(text, &name, value))
}

/// `password: "Password"`, `PKCS_15_TOKEN, "pkcs15Token"`
fn says_name(name: &[u8], value: &[u8]) -> bool {
    let letters = |text: &[u8]| -> Vec<u8> {
        let inner = text
            .iter()
            .filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
        inner.map(u8::to_ascii_lowercase).collect()
    };
    let says = letters(value);
    let name = letters(name);
    // `NetworkSecurityTypeWpaPsk = "WPA_PSK"`
    !says.is_empty() && (says == name || says.len() >= 6 && name.ends_with(&says))
}

/// Judges a value that nobody typed: mostly by its look, then by the name.
fn is_made_up(seen: &Seen<'_>, strong: Strength, value: &Value, style: Style, kind: Look) -> bool {
    if !value.quoted && (seen.calls || seen.is_member) {
        return false;
    }
    match strong {
        Strength::Password | Strength::Token => {
            seen.len() >= 8 && value.joint != Joint::Comma || seen.len() >= 16
        }
        Strength::Weak => {
            seen.len() >= if kind == Look::Hex { 100 } else { 20 }
                && value.joint != Joint::Comma
                && value.joint != Joint::Space
                || style.strict && seen.len() >= 16
        }
        _ => false,
    }
}

/// `password = "…"`: the quotes say that it is a value, so it only must not be a selector or a
/// sentence.
fn is_quoted_password(text: &[u8], seen: &Seen<'_>, value: &Value) -> bool {
    let raw = seen.raw;
    if raw.len() < 4 || seen.spaced && (raw.len() > 24 || seen.symbols == 0 || is_wordy(raw)) {
        return false;
    }
    // A label in another language.
    let in_label = |b: &u8| b.is_ascii_alphabetic() || !b.is_ascii() || b"- '".contains(b);
    if seen.spaced && !raw.is_ascii() && raw.iter().all(in_label) {
        return false;
    }
    if matches!(value.joint, Joint::Comma | Joint::Space) {
        let odd = seen.has_digit || seen.symbols >= 2 && raw.len() >= 8;
        return odd && !seen.spaced && raw.len() >= 6 && value.joint == Joint::Space
            || is_said(text, value, raw);
    }
    let selector = matches!(
        raw[0],
        b'#' | b'.' | b'/' | b'@' | b'%' | b'[' | b'<' | b'^' | b'('
    );
    !(selector && is_wordy(raw)) && (raw.len() >= 5)
}

/// `password = …` outside of code: without quotes it may be a word of a sentence, so it has to look
/// odd, or the file has to be one for settings.
fn is_bare_password(seen: &Seen<'_>, value: &Value, style: Style) -> bool {
    let raw = seen.raw;
    let is_odd = seen.has_digit || seen.symbols > 0;
    if value.tight && value.joint == Joint::Assign {
        return raw.len() >= 5 && (is_odd || raw.len() >= 6);
    }
    let is_place = raw.starts_with(b"/") && raw.iter().filter(|b| **b == b'/').count() >= 3;
    raw.len() >= 6
        && !(value.joint == Joint::Space && (is_place || raw[0] == b'['))
        && matches!(value.joint, Joint::Assign | Joint::Colon | Joint::Space)
        && (value.joint != Joint::Space || seen.has_digit && seen.symbols > 0)
        && (is_odd && !is_wordy(raw)
            || seen.symbols > 0 && seen.has_letter && raw.len() >= 8
            || style.env
            || style.strict && value.joint == Joint::Assign)
}

/// `"Server=db;Password=…;Encrypt=True"`, `"…?user=me&password=…"` in program text: a literal with several
/// values.
fn is_in_connection(text: &[u8], name: &[u8], seen: &Seen<'_>, value: &Value) -> bool {
    let line = &text[value.range.start.saturating_sub(300)..value.range.start];
    let line = &line[memchr::memrchr(b'\n', line).map_or(0, |at| at + 1)..];
    let Some(before) = line.len().checked_sub(name.len() + 1) else {
        return false;
    };
    let before = line[..before].strip_suffix(b" ").unwrap_or(&line[..before]);
    value.tight
        && value.joint == Joint::Assign
        && matches!(before.last(), Some(b';' | b'&' | b'?'))
        && before.iter().any(|b| matches!(b, b'"' | b'\'' | b'`'))
        && matches!(
            text.get(value.range.end),
            Some(b';' | b'&' | b'"' | b'\'' | b'`')
        )
        && seen.len() >= 6
        && (seen.has_digit || seen.symbols > 0)
        // `secure%20password` are words.
        && memchr::memmem::find(seen.raw, b"%20").is_none()
        && !is_wordy(seen.raw)
}

/// `token = …`: programs make tokens, so a value that reads like words is none.
fn is_token(seen: &Seen<'_>, value: &Value, style: Style) -> bool {
    let raw = seen.raw;
    let odd = seen.symbols >= 1 && (seen.has_digit || seen.symbols >= 2);
    let has_clauses = || raw.windows(2).any(|w| w == b", " || w == b". ");
    // A label in another language.
    let in_label = |b: &u8| b.is_ascii_alphabetic() || !b.is_ascii() || b"- '".contains(b);
    if !raw.is_ascii() && raw.iter().all(in_label) {
        return false;
    }
    if seen.spaced
        && (is_wordy(raw) || raw.len() > 64 || has_clauses() || is_words_and_numbers(raw))
    {
        return false;
    }
    if value.quoted {
        return raw.len() >= 8
            && matches!(value.joint, Joint::Assign | Joint::Colon | Joint::Compare)
            && (odd && !seen.spaced
                || seen.has_digit && !is_wordy(raw)
                || raw.len() >= 20 && !is_wordy(raw) && !seen.spaced);
    }
    !style.code
        && raw.len() >= 10
        && matches!(value.joint, Joint::Assign | Joint::Colon)
        && (odd
            || seen.has_digit && !is_wordy(raw)
            || raw.len() >= 20 && !is_wordy(raw)
            || style.env && raw.len() >= 8)
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
    let whole = whole_value(text, start, end)?;
    let (inner, from) = name_in_front(text, whole.start, start);
    let value = &text[from..whole.end];
    if value.len() < 16 {
        return None;
    }
    let name = match inner {
        Some(name) => name,
        None => name_before(text, from)?,
    };
    // `Unseal Key 2: …`
    let name = match text[name.clone()].iter().all(u8::is_ascii_digit) && name.len() <= 2 {
        true => word_before(text, name.start)?,
        false => name,
    };
    if is_label_in_call(text, &name, &(from..whole.end)) {
        return None;
    }
    let name = match is_conversion(text, &name) {
        true => name_before(text, name.start)?,
        false => name,
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
    // `api key 123…`, `blitapp SECRET key=…`: the word before counts too.
    if strong == Strength::Weak
        && !service
        && let Some(before) = before
        && !text[before.end..name.start].contains(&b',')
    {
        let both: Vec<u8> = [&text[before], b"_", &text[name.clone()]].concat();
        strong = strong.max(strength(&both));
    }
    // Last, because it is the slowest check.
    let kind = look(value);
    if !matches!(kind, Look::Hex | Look::Random)
        || is_encoded_host(value)
        || is_notation(value)
        || is_dotted_name(&text[whole.clone()])
        || is_namespace(&text[whole.clone()])
        || is_route(&text[whole.clone()])
        || is_shown(text, &(from..whole.end), strong, style)
        || strong != Strength::Password && is_label(value)
        || strong == Strength::Weak && is_file(value)
        || style.code && is_constant(value)
        || is_explained_otherwise(text, &name, &(from..whole.end))
        || is_checksum(text, whole.start)
    {
        return None;
    }
    let joined_by_space =
        from.saturating_sub(name.end) <= 2 && text[name.end..from].iter().all(|b| *b == b' ');
    let accepted = match strong {
        Strength::Password | Strength::Token => {
            !joined_by_space
                || service
                || value.len() >= 20 && (kind == Look::Random || style.strict)
        }
        Strength::Weak => {
            service && value.len() >= 16 && !is_number_of_thing(text, name.start, value)
                || kind == Look::Random
                    && value.len() >= 28
                    && !joined_by_space
                    && text[name].to_ascii_lowercase().ends_with(b"key")
        }
        _ => false,
    };
    accepted.then(|| secret(from..whole.end, "generic"))
}

/// Returns true if what stands around random text says that it is no secret.
fn is_explained_otherwise(text: &[u8], name: &Range<usize>, value: &Range<usize>) -> bool {
    let (called, raw) = (&text[name.clone()], &text[value.clone()]);
    is_signature(called, raw)
        || is_subscript(text, value)
        || is_size_of_array(text, value)
        || is_seed_of_parameters(text, called, value)
        || is_called(text, value)
        || is_number_of_request(called, raw)
        || is_type_path(text, name.start)
        || is_command(text, name.start, name.end)
        || is_badge(text, name.start)
        || is_resource(text, name.start)
        || is_no_token_of(called, raw)
        || is_name_of_digest(called)
        || says_name(called, raw)
        || is_assignment(raw)
        // A variable of a class of PHP.
        || text[..value.start].ends_with(b"::$")
}

/// What a value may have before and behind random text.
const IN_VALUE: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut b = 0;
    while b < 256 {
        bytes[b] = (b as u8).is_ascii_alphanumeric()
            || matches!(b as u8, b'_' | b'-' | b'+' | b'/' | b'.' | b'~');
        b += 1;
    }
    bytes
};

/// Returns the whole value that contains random text; `None` if it was cut off.
fn whole_value(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let mut from = start;
    while from > 0 && start - from < 200 && IN_VALUE[usize::from(text[from - 1])] {
        from -= 1;
    }
    let mut to = end;
    while to < text.len() && to - end < 400 && (IN_VALUE[usize::from(text[to])] || text[to] == b'=')
    {
        to += 1;
    }
    while to > end && matches!(text[to - 1], b'.' | b'/') {
        to -= 1;
    }
    // `AbC…..[redacted]`
    if text[to..].starts_with(b"..") {
        return None;
    }
    // An escape's letter.
    if from > 0 && text[from - 1] == b'\\' {
        from += 1;
    }
    Some(from..to)
}

/// `datadog-secrettoken-0024…`: the name is at the front of the value itself. Returns it, and where
/// the rest begins.
fn name_in_front(text: &[u8], from: usize, start: usize) -> (Option<Range<usize>>, usize) {
    if from < start {
        let head = &text[from..start];
        if let Some(cut) = head.iter().rposition(|b| matches!(b, b'-' | b'.'))
            && !head.contains(&b'/')
            && head[..cut].iter().any(u8::is_ascii_alphabetic)
            && !head.iter().any(u8::is_ascii_digit)
        {
            return (Some(from..from + cut), from + cut + 1);
        }
    }
    (None, from)
}

/// Returns the name before a value, across the characters that join them: a few, of which none ends
/// a sentence or begins another member.
fn name_before(text: &[u8], from: usize) -> Option<Range<usize>> {
    let quoted = from > 0 && matches!(text[from - 1], b'"' | b'\'' | b'`');
    let mut i = from;
    let mut gap = 0;
    while i > 0 && gap < 12 && !is_word(text[i - 1]) {
        let parts = matches!(
            text[i - 1],
            b'\n' | b';' | b',' | b'{' | b'}' | b'&' | b'?' | b'\\' | b')' | b'/' | b'#' | b'@'
        );
        if parts && !(text[i - 1] == b'\\' && quoted) {
            return None;
        }
        i -= 1;
        gap += 1;
    }
    if i == 0 || gap == 0 || gap >= 12 {
        return None;
    }
    Some(whole_name(text, i.saturating_sub(1), i))
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

/// Returns the name that made a value a secret: the nearest one before it on its line that says so.
pub(in crate::privacy) fn deciding(text: &[u8], value: &Range<usize>) -> Option<Range<usize>> {
    let line = memchr::memrchr(b'\n', &text[..value.start]).map_or(0, |at| at + 1);
    let from = line.max(value.start.saturating_sub(200));
    let says = |name: &Range<usize>| {
        let (strong, service) = judged(&text[name.clone()]);
        strong > Strength::None || service
    };
    let mut end = value.start;
    while end > from {
        if !is_word(text[end - 1]) {
            end -= 1;
            continue;
        }
        let mut start = end;
        while start > from && (is_word(text[start - 1]) || matches!(text[start - 1], b'-' | b'.')) {
            start -= 1;
        }
        if says(&(start..end)) {
            return Some(start..end);
        }
        end = start;
    }
    // A configuration has it in another place: `"name": "TOKEN", "value": "…"`.
    None
}
