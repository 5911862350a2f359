//! Where the value of a name begins and ends.

use std::ops::Range;

use super::LONGEST;
use crate::privacy::tokens::is_word;

/// Bytes that a value without quotes may have.
pub(super) fn is_bare(b: u8) -> bool {
    b > b' '
        && !matches!(
            b,
            b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'\\' | b')' | b']' | b'}'
        )
}

/// What joins a name and a value.
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

/// Skips the quotes, backslashes and brackets that close a name.
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

/// Finds the value that follows a name which ends at `at`.
pub(super) fn value_after(text: &[u8], at: usize) -> Option<Value> {
    let closed = after_name(text, at);
    let spaced = skip_space(text, closed, 40);
    let mut i = spaced;
    // `var token string = "…"`, `password is '…'`
    let may_be_type = matches!(text.get(i), Some(b's' | b'S' | b'c' | b'&' | b'N' | b'i'));
    if (spaced > closed || closed > at) && may_be_type {
        for word in [
            &b"string"[..],
            b"String",
            b"str",
            b"char*",
            b"&str",
            b"NSString *",
            b"is",
        ] {
            let after = i + word.len();
            if text.get(i..after) == Some(word) && matches!(text.get(after), Some(b' ' | b':')) {
                let next = skip_space(text, after, 8);
                let wanted: &[u8] = if word == b"is" { b"\"'`" } else { b"=:" };
                if text.get(next).is_some_and(|b| wanted.contains(b)) {
                    i = next;
                }
            }
        }
    }
    // `<token>` and the value on the next line.
    if (spaced > closed || closed > at)
        && text.get(closed.wrapping_sub(1)) == Some(&b'>')
        && text.get(closed) == Some(&b'\n')
    {
        i = skip_space(text, closed + 1, 40);
        let end = i + text[i..]
            .iter()
            .take(LONGEST)
            .take_while(|b| is_bare(**b))
            .count();
        return (end > i).then_some(Value {
            range: i..end,
            quoted: false,
            joint: Joint::Colon,
            tight: false,
        });
    }
    let rest = text.get(i..)?;
    let unicode = [
        &b"\\u003d"[..],
        b"\\u003D",
        b"%3D",
        b"%3d",
        b"%3A",
        b"&#61;",
        b"\\u003a",
    ];
    let escaped = matches!(rest.first(), Some(b'\\' | b'%' | b'&'));
    let escape = unicode.iter().find(|e| escaped && rest.starts_with(e));
    let joint = if let Some(escape) = escape {
        i += escape.len();
        Joint::Assign
    } else {
        let ops = rest
            .iter()
            .take(4)
            .take_while(|b| {
                matches!(
                    b,
                    b'=' | b':' | b'?' | b'!' | b'>' | b'-' | b'~' | b'+' | b'.' | b'|'
                )
            })
            .count();
        let op = &rest[..ops];
        if ops == 0 {
            if rest.first() == Some(&b',') {
                i += 1;
                Joint::Comma
            } else if i > at {
                Joint::Space
            } else {
                return None;
            }
        } else if matches!(op, b"==" | b"===" | b"!=" | b"!==") {
            i += ops;
            Joint::Compare
        } else if op == b"="
            || op == b":="
            || op == b"::="
            || op == b":::="
            || op == b"=>"
            || op == b"?="
            || op == b"->"
            || op == b"+="
            || op == b".="
            || op == b"||:"
            || op == b"~>"
            || op == b"||="
            || op == b"=:"
        {
            i += ops;
            Joint::Assign
        } else if op[0] == b':' {
            i += if op.starts_with(b"::") && !op.starts_with(b"::=") {
                return None;
            } else {
                1
            };
            Joint::Colon
        } else if op[0] == b'=' {
            // The value begins with the rest: `=-abc`.
            i += 1;
            Joint::Assign
        } else if op.iter().all(|b| *b == b'-') && spaced > at {
            Joint::Space
        } else if op[0] == b'-' && spaced == at {
            i += 1;
            Joint::Space
        } else {
            return None;
        }
    };
    let operator_end = i;
    i = skip_space(text, i, 40);
    if joint == Joint::Space || joint == Joint::Colon {
        // `Ldap password  ----  value`, `password: - value`
        let dashes = text[i..]
            .iter()
            .take(12)
            .take_while(|b| **b == b'-')
            .count();
        if dashes >= 2 {
            i = skip_space(text, i + dashes, 40);
        }
    }
    let tight = i == spaced + (operator_end - spaced) && spaced == at;
    // `new String("`, `str("`, `@"`, `b'`, a YAML tag.
    let open = text[i..]
        .iter()
        .take(16)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'.' | b' '))
        .count();
    if open > 0
        && text.get(i + open) == Some(&b'(')
        && matches!(text.get(i + open + 1), Some(b'"' | b'\''))
        && !text[i..i + open]
            .windows(3)
            .any(|w| w == b"get" || w == b"env" || w == b"Get" || w == b"Env")
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
    // Quotes, escaped as often as those of the string they stand in.
    let backslashes = text[i..]
        .iter()
        .take(7)
        .take_while(|b| **b == b'\\')
        .count();
    let quote = text.get(i + backslashes).copied();
    if let Some(quote @ (b'"' | b'\'' | b'`')) = quote
        && (backslashes == 0 || quote != b'`')
    {
        let from = i + backslashes + 1;
        // Three of them.
        let from = if backslashes == 0 && text[from..].starts_with(&[quote, quote]) {
            from + 2
        } else {
            from
        };
        let mut end = from;
        let limit = (from + LONGEST).min(text.len());
        while end < limit {
            match text[end] {
                b'\n' => return None,
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
        return (end < limit && end > from).then_some(Value {
            range: from..end,
            quoted: true,
            joint,
            tight,
        });
    }
    let limit = (i + LONGEST).min(text.len());
    let mut end = i;
    while end < limit && (is_bare(text[end]) || text[end] >= 0x80) {
        end += 1;
    }
    // A value that opens brackets may have them closed.
    if text[i..end].iter().any(|b| matches!(b, b'(' | b'[' | b'{')) {
        while end < limit && (is_bare(text[end]) || matches!(text[end], b')' | b']' | b'}' | b'>'))
        {
            end += 1;
        }
    }
    // Parameters of an URL end at `&`; a sentence's dot is not part of it.
    if let Some(amp) = text[i..end].iter().position(|b| *b == b'&') {
        end = i + amp;
    }
    while end > i && matches!(text[end - 1], b'.' | b':' | b'?' | b'!') {
        end -= 1;
    }
    // Cut short: `AbC…..[redacted]`; an option is no value.
    if text[end..].starts_with(b"..") || joint == Joint::Space && text.get(i) == Some(&b'-') {
        return None;
    }
    (end > i).then_some(Value {
        range: i..end,
        quoted: false,
        joint,
        tight,
    })
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

/// Widens a word to the whole name: `-` and `.` join words of a name.
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
