//! Finds where the value of a name begins and ends.

use std::ops::Range;

use super::LONGEST;
use crate::privacy::tokens::is_word;

/// Bytes allowed in a value without quotes.
pub(super) fn is_bare(b: u8) -> bool {
    b > b' '
        && !matches!(
            b,
            b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'\\' | b')' | b']' | b'}'
        )
}

/// What joins a name to its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// `=`, `:=`, `=>` …
    Assign,
    /// `:`
    Colon,
    /// `==`, `!=`
    Compare,
    /// `,`
    Comma,
    /// Nothing but space.
    Space,
}

pub(super) struct Value {
    pub(super) range: Range<usize>,
    pub(super) quoted: bool,
    pub(super) joint: Joint,
    /// `NAME=value`: no space around.
    pub(super) tight: bool,
}

/// Skips quotes, backslashes and brackets that close a name.
pub(super) fn after_name(text: &[u8], mut at: usize) -> usize {
    let limit = (at + 12).min(text.len());
    while at < limit {
        match text[at] {
            b'"' | b'\'' | b'`' | b']' | b'[' | b')' | b'*' | b'>' => at += 1,
            b'0'..=b'9' if text[at - 1] == b'[' || text[at - 1].is_ascii_digit() => at += 1,
            b'\\' if matches!(text.get(at + 1), Some(b'"' | b'\'' | b'\\')) => at += 2,
            b'&' if text[at..].starts_with(b"&quot;") => at += 6,
            _ => break,
        }
    }
    at
}

pub(super) fn skip_space(text: &[u8], mut at: usize, most: usize) -> usize {
    let limit = (at + most).min(text.len());
    while at < limit && matches!(text[at], b' ' | b'\t') {
        at += 1;
    }
    at
}

/// Finds the value after a name that ends at `at`.
pub(super) fn value_after(text: &[u8], at: usize) -> Option<Value> {
    let closed = after_tag(text, after_name(text, at));
    let spaced = skip_space(text, closed, 40);
    let mut i = spaced;
    if spaced > at {
        i = after_type(text, i);
        let tag_ends = text.get(closed.wrapping_sub(1)) == Some(&b'>');
        if tag_ends && text.get(closed) == Some(&b'\n') {
            return on_next_line(text, closed + 1);
        }
    }
    let (mut joint, operator_end) = joint_at(text, at, spaced, i)?;
    i = skip_space(text, operator_end, 40);
    if joint == Joint::Colon {
        if let Some(range) = block_at(text, i) {
            return Some(Value {
                range,
                quoted: true,
                joint,
                tight: false,
            });
        }
        i = after_declared(text, i);
    }
    if joint == Joint::Space
        && let Some(after) = after_way(text, i)
    {
        (joint, i) = (Joint::Assign, after);
    }
    if matches!(joint, Joint::Space | Joint::Colon) {
        // `Ldap password  ----  value`, `password: - value`
        let dashes = count_while(&text[i..], 12, |b| b == b'-');
        if dashes >= 2 {
            i = skip_space(text, i + dashes, 40);
        }
    }
    let tight = spaced == at && i == operator_end;
    if matches!(joint, Joint::Colon | Joint::Assign) {
        i = after_member(text, i).unwrap_or(i);
    }
    i = after_wrapping(text, i, joint);
    let (range, quoted) = match quoted_at(text, i) {
        Quoted::Value(range) => (range, true),
        Quoted::Broken => return None,
        Quoted::No => (bare_at(text, i, joint)?, false),
    };
    Some(Value {
        range,
        quoted,
        joint,
        tight,
    })
}

/// Skips the element that has the value of another: `<Password><Value>`.
fn after_tag(text: &[u8], at: usize) -> usize {
    let is_tag = |rest: &[u8]| rest.starts_with(b"<Value>") || rest.starts_with(b"<value>");
    match at > 0 && text[at - 1] == b'>' && is_tag(&text[at..]) {
        true => at + b"<Value>".len(),
        false => at,
    }
}

/// Skips what says how a password is written: `secret 0 …` of a router, `rootpw --plaintext …`.
fn after_way(text: &[u8], i: usize) -> Option<usize> {
    let rest = &text[i..];
    let options = [&b"--plaintext "[..], b"--iscrypted "];
    let skipped = match rest {
        [b'0' | b'5' | b'7' | b'8' | b'9', b' ', ..] => 2,
        _ => options
            .iter()
            .find(|option| rest.starts_with(option))?
            .len(),
    };
    let value = count_while(&rest[skipped..], 6, is_bare);
    (value >= 6).then_some(i + skipped)
}

/// Takes the first line of a text in YAML that begins on the next one: `password: |`, `token: >-`.
fn block_at(text: &[u8], i: usize) -> Option<Range<usize>> {
    let [b'|' | b'>', rest @ ..] = text.get(i..)? else {
        return None;
    };
    let marks = count_while(rest, 2, |b| matches!(b, b'+' | b'-' | b'1'..=b'9'));
    let line = memchr::memchr(b'\n', &rest[..rest.len().min(marks + 8)])?;
    if !rest[marks..line].trim_ascii().is_empty() {
        return None;
    }
    let next = i + 1 + line + 1;
    let from = skip_space(text, next, 40);
    let end = from + memchr::memchr(b'\n', &text[from..]).unwrap_or(text.len() - from);
    let value = text[from..end.min(from + LONGEST)].trim_ascii_end();
    (from > next && !value.is_empty()).then_some(from..from + value.len())
}

/// Returns the end of such a text whose first line is `value`: all lines that are as far from the
/// margin.
pub(super) fn block_end(text: &[u8], value: &Range<usize>) -> usize {
    let line = memchr::memrchr(b'\n', &text[..value.start]);
    let margin = line.map_or(0, |line| value.start - line - 1);
    let head = text[..line.unwrap_or(0)].trim_ascii_end();
    let head = head.strip_suffix(b"-").unwrap_or(head);
    if margin == 0
        || !matches!(head.last(), Some(b'|' | b'>'))
        || !text[value.start - margin..value.start]
            .iter()
            .all(|b| *b == b' ')
    {
        return value.end;
    }
    let mut end = value.end;
    for line in text[value.end..]
        .split_inclusive(|b| *b == b'\n')
        .skip(1)
        .take(1024)
    {
        let spaces = count_while(line, margin, |b| b == b' ');
        let inner = line.trim_ascii();
        if spaces < margin || inner.is_empty() {
            break;
        }
        let at = (line.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        end = at + line.trim_ascii_end().len();
    }
    end
}

/// Skips into the member that has the value of another: `"password": {"value": "…"`.
fn after_member(text: &[u8], i: usize) -> Option<usize> {
    const NAMES: [&[u8]; 5] = [b"value", b"default", b"plain", b"plaintext", b"secretValue"];
    let space = |at: usize| {
        at + count_while(text.get(at..).unwrap_or_default(), 64, |b| {
            b.is_ascii_whitespace()
        })
    };
    let quote = |at: usize| {
        at + count_while(text.get(at..).unwrap_or_default(), 8, |b| {
            b"\"'\\".contains(&b)
        })
    };
    if text.get(i) != Some(&b'{') {
        return None;
    }
    let from = quote(space(i + 1));
    let rest = text.get(from..)?;
    let name = NAMES.iter().find(|name| {
        rest.starts_with(name) && !rest.get(name.len()).is_some_and(|b| is_word(*b))
    })?;
    let joint = space(quote(from + name.len()));
    let rest = text.get(joint..)?;
    let operator = [&b"=>"[..], b":", b"="];
    let operator = operator
        .iter()
        .find(|operator| rest.starts_with(operator))?;
    Some(space(joint + operator.len()))
}

fn count_while(text: &[u8], most: usize, is: impl Fn(u8) -> bool) -> usize {
    text.iter().take(most).take_while(|b| is(**b)).count()
}

/// Skips a type or a verb after a name: `var token string = "…"`, `password is '…'`.
fn after_type(text: &[u8], mut i: usize) -> usize {
    const TYPES: [&[u8]; 8] = [
        b"As String",
        b"string",
        b"String",
        b"str",
        b"char*",
        b"&str",
        b"NSString *",
        b"is",
    ];
    for word in TYPES {
        let after = i + word.len();
        if text.get(i..after) == Some(word) && matches!(text.get(after), Some(b' ' | b':')) {
            let next = skip_space(text, after, 8);
            let wanted: &[u8] = if word == b"is" { b"\"'`" } else { b"=:" };
            if text.get(next).is_some_and(|b| wanted.contains(b)) {
                i = next;
            }
        }
    }
    i
}

/// Skips the type of a name that is declared: `let token: &str = "…"`.
fn after_declared(text: &[u8], i: usize) -> usize {
    let of_type = |b: u8| b.is_ascii_alphanumeric() || b"_&<>:.*?[]' |".contains(&b);
    let end = i + count_while(&text[i..], 40, of_type);
    let value = skip_space(text, end + 1, 8);
    let is_it = text.get(end) == Some(&b'=')
        && text
            .get(i)
            .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'&')
        && matches!(text.get(value), Some(b'"' | b'\'' | b'`' | b'b'));
    if is_it { value } else { i }
}

/// Takes the value of a `<token>` alone on its line.
fn on_next_line(text: &[u8], at: usize) -> Option<Value> {
    let i = skip_space(text, at, 40);
    let end = i + count_while(&text[i..], LONGEST, is_bare);
    (end > i).then_some(Value {
        range: i..end,
        quoted: false,
        joint: Joint::Colon,
        tight: false,
    })
}

/// Returns what joins the name that ends at `at` to its value, and where that ends; it begins at
/// `i`.
fn joint_at(text: &[u8], at: usize, spaced: usize, i: usize) -> Option<(Joint, usize)> {
    const ESCAPED: [&[u8]; 7] = [
        b"\\u003d", b"\\u003D", b"%3D", b"%3d", b"%3A", b"&#61;", b"\\u003a",
    ];
    const ASSIGN: [&[u8]; 13] = [
        b"=", b":=", b"::=", b":::=", b"=>", b"?=", b"->", b"+=", b".=", b"||:", b"~>", b"||=",
        b"=:",
    ];
    let rest = text.get(i..)?;
    // R
    for arrow in [&b"<- "[..], b"<<- "] {
        if rest.starts_with(arrow) {
            return Some((Joint::Assign, i + arrow.len()));
        }
    }
    let may_be_escaped = matches!(rest.first(), Some(b'\\' | b'%' | b'&'));
    if let Some(escape) = ESCAPED
        .iter()
        .find(|escape| may_be_escaped && rest.starts_with(escape))
    {
        return Some((Joint::Assign, i + escape.len()));
    }
    let length = count_while(rest, 4, |b| b"=:?!>-~+.|".contains(&b));
    let operator = &rest[..length];
    match operator {
        [] if rest.first() == Some(&b',') => Some((Joint::Comma, i + 1)),
        [] => (i > at).then_some((Joint::Space, i)),
        b"==" | b"===" | b"!=" | b"!==" => Some((Joint::Compare, i + length)),
        _ if ASSIGN.contains(&operator) => Some((Joint::Assign, i + length)),
        // A path in code: `token::new`.
        [b':', b':', rest @ ..] if rest.first() != Some(&b'=') => None,
        [b':', ..] => Some((Joint::Colon, i + 1)),
        // The rest begins the value: `=-abc`.
        [b'=', ..] => Some((Joint::Assign, i + 1)),
        _ if operator.iter().all(|b| *b == b'-') && spaced > at => Some((Joint::Space, i)),
        [b'-', ..] if spaced == at => Some((Joint::Space, i + 1)),
        _ => None,
    }
}

/// Skips what wraps a value: `new String("`, `str("`, `@"`, `b'`, brackets of a list, a YAML tag.
fn after_wrapping(text: &[u8], mut i: usize, joint: Joint) -> usize {
    for skipped in [
        &b"!!str "[..],
        b"!!binary ",
        b"!unsafe ",
        b"ConvertTo-SecureString ",
        b"-String ",
    ] {
        let there = text.get(i..i + skipped.len());
        if there.is_some_and(|there| there.eq_ignore_ascii_case(skipped)) {
            i = skip_space(text, i + skipped.len(), 8);
        }
    }
    let is_call = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'.' | b' ');
    let open = count_while(&text[i..], 16, is_call);
    // The argument of a lookup is the name of a value, not the value.
    let looks_up = || {
        let mut words = text[i..i + open].windows(3);
        words.any(|w| w == b"get" || w == b"env" || w == b"Get" || w == b"Env")
            || matches!(
                &text[i..i + open],
                b"require" | b"import" | b"require.resolve"
            )
            || [
                &b".encode"[..],
                b".decode",
                b".join",
                b".split",
                b".dumps",
                b".format",
            ]
            .iter()
            .any(|method| text[i..i + open].ends_with(method))
    };
    if open > 0
        && text.get(i + open) == Some(&b'(')
        && matches!(text.get(i + open + 1), Some(b'"' | b'\''))
        && !looks_up()
    {
        i += open + 1;
    }
    if matches!(
        text.get(i),
        Some(b'@' | b'b' | b'r' | b'u' | b'f' | b'N' | b'$')
    ) && matches!(text.get(i + 1), Some(b'"' | b'\''))
    {
        i += 1;
    }
    while matches!(text.get(i), Some(b'(' | b'[' | b'{'))
        && joint != Joint::Space
        && matches!(text.get(i + 1), Some(b'"' | b'\'' | b'\\'))
    {
        i += 1;
    }
    i
}

/// What is at the place where a quoted value may begin.
enum Quoted {
    Value(Range<usize>),
    /// It is empty, too long, or not closed on its line.
    Broken,
    No,
}

/// Takes a quoted value; its quotes are escaped as often as those of the string around it.
fn quoted_at(text: &[u8], i: usize) -> Quoted {
    let backslashes = count_while(&text[i..], 7, |b| b == b'\\');
    let quote = match text.get(i + backslashes) {
        Some(quote @ (b'"' | b'\'')) => *quote,
        Some(b'`') if backslashes == 0 => b'`',
        _ => return Quoted::No,
    };
    let mut from = i + backslashes + 1;
    // Triple quotes.
    if backslashes == 0 && text[from..].starts_with(&[quote, quote]) {
        from += 2;
        from += usize::from(text.get(from) == Some(&b'\r'));
        from += usize::from(text.get(from) == Some(&b'\n'));
    }
    let mut end = from;
    let limit = (from + LONGEST).min(text.len());
    while end < limit {
        match text[end] {
            b'\n' => return Quoted::Broken,
            b'\\' => {
                let run = text[end..limit].iter().take_while(|b| **b == b'\\').count();
                if text.get(end + run) == Some(&quote) {
                    if run <= backslashes {
                        break;
                    }
                    end += run + 1;
                } else {
                    end += run;
                }
            }
            b if b == quote => break,
            _ => end += 1,
        }
    }
    match end < limit && end > from {
        true => Quoted::Value(from..end),
        false => Quoted::Broken,
    }
}

/// Takes a value without quotes.
fn bare_at(text: &[u8], i: usize, joint: Joint) -> Option<Range<usize>> {
    let limit = (i + LONGEST).min(text.len());
    let mut end = i;
    while end < limit && (is_bare(text[end]) || text[end] >= 0x80) {
        end += 1;
    }
    // A value that opens brackets may also close them.
    if text[i..end].iter().any(|b| matches!(b, b'(' | b'[' | b'{')) {
        while end < limit && (is_bare(text[end]) || matches!(text[end], b')' | b']' | b'}' | b'>'))
        {
            end += 1;
        }
    }
    // Parameters of a URL end at `&`; the period of a sentence is not part of the value.
    if let Some(amp) = text[i..end].iter().position(|b| *b == b'&') {
        end = i + amp;
    }
    while end > i && matches!(text[end - 1], b'.' | b':' | b'?' | b'!') {
        end -= 1;
    }
    // Cut off: `AbC…..[redacted]`; an option is no value.
    if text[end..].starts_with(b"..") || joint == Joint::Space && text.get(i) == Some(&b'-') {
        return None;
    }
    (end > i).then_some(i..end)
}

/// Finds the value that a name is compared with, on its left: `"…" == password`.
pub(super) fn value_before(text: &[u8], at: usize) -> Option<Value> {
    let skip = |mut i: usize| {
        while i > 0 && text[i - 1] == b' ' {
            i -= 1;
        }
        i
    };
    let end = skip(at);
    let operator = text[..end]
        .iter()
        .rev()
        .take(3)
        .take_while(|b| matches!(b, b'=' | b'!'))
        .count();
    if operator < 2 {
        return None;
    }
    let close = skip(end - operator);
    let quote = *text.get(close.checked_sub(1)?)?;
    if !matches!(quote, b'"' | b'\'' | b'`') {
        return None;
    }
    let from = close.saturating_sub(200);
    let open = text[from..close - 1]
        .iter()
        .rposition(|b| *b == quote || *b == b'\n')?
        + from;
    (text[open] == quote && open + 1 < close - 1).then_some(Value {
        range: open + 1..close - 1,
        quoted: true,
        joint: Joint::Compare,
        tight: false,
    })
}

/// Widens a word to the whole name: `-` and `.` join words of one.
pub(super) fn whole_name(text: &[u8], start: usize, end: usize) -> Range<usize> {
    let mut from = start;
    while from > 0 && start - from < 64 {
        let b = text[from - 1];
        if is_word(b) || matches!(b, b'-' | b'.') {
            from -= 1;
        } else {
            break;
        }
    }
    // The letter of an escape is not part of it.
    if from > 0 && text[from - 1] == b'\\' && from < start {
        from += 1;
    }
    while from < start && matches!(text[from], b'-' | b'.') {
        from += 1;
    }
    from..end
}
