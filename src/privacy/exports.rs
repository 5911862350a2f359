//! Finds secrets in what programs export, and where the form says which value a name has: tables of
//! passwords, cookies of a browser, KeePass as XML, property lists.

use std::ops::Range;

use super::values::{Look, is_placeholder, look};
use super::words::{Strength, strength};
use super::{Finding, Group, phi, secrets};

/// No header of such a table is longer, in bytes.
const LONGEST_HEADER: usize = 2048;
/// Nor a cell with line ends in it.
const LONGEST_CELL: usize = 64 * 1024;

/// Columns that say whose password it is, in lower case.
const BESIDE: [&[u8]; 17] = [
    b"username",
    b"user",
    b"user name",
    b"login",
    b"login name",
    b"login_username",
    b"loginuri",
    b"login_uri",
    b"url",
    b"website",
    b"web site",
    b"email",
    b"title",
    b"account",
    b"name",
    b"host",
    b"formactionorigin",
];

/// Adds the secrets of a text that a program exported.
pub(super) fn secrets(name: &[u8], text: &[u8], strict: bool, found: &mut Vec<Finding>) {
    let mut own = Vec::new();
    if phi::is_table(name) {
        table(text, &mut own);
    } else if is_cookies(text) {
        cookies(text, &mut own);
    } else if begins(text, b"<KeePassFile") {
        keepass(text, &mut own);
    } else if begins(text, b"<plist") {
        plist(text, strict, &mut own);
    }
    if own.is_empty() {
        return;
    }
    // The scan may have seen all of it, and has its findings in order.
    found.sort_by_key(|f| (f.range.start, f.range.end));
    own.retain(|(range, _)| {
        let before = found.partition_point(|f| f.range.start <= range.start);
        let near = &found[before.saturating_sub(8)..before];
        !near
            .iter()
            .any(|f| f.group == Group::Secret && range.end <= f.range.end)
    });
    found.extend(own.into_iter().map(|(range, kind)| Finding {
        range,
        group: Group::Secret,
        kind,
    }));
    found.sort_by_key(|f| (f.range.start, f.range.end));
}

/// What was found: where, and its kind.
type Own = Vec<(Range<usize>, &'static str)>;

/// The cells of one line of a table, which may have line ends between quotes.
struct Rows<'t> {
    text: &'t [u8],
    at: usize,
    delimiter: u8,
}

impl Iterator for Rows<'_> {
    type Item = Vec<Range<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text;
        if self.at >= text.len() {
            return None;
        }
        let mut cells = Vec::new();
        loop {
            let (start, mut end) = (self.at, self.at);
            let is_quoted = text.get(start) == Some(&b'"');
            let mut quoted = false;
            while end < text.len() {
                match text[end] {
                    b'"' if is_quoted => quoted = !quoted,
                    b'\n' if !quoted || end - start > LONGEST_CELL => break,
                    b if b == self.delimiter && !quoted => break,
                    _ => {}
                }
                end += 1;
            }
            let cell = &text[start..end];
            let is_outer = |b: &u8| matches!(b, b'"' | b' ' | b'\r' | 0xef | 0xbb | 0xbf);
            let head = cell.iter().take_while(|b| is_outer(b)).count();
            let tail = cell[head..]
                .iter()
                .rev()
                .take_while(|b| is_outer(b))
                .count();
            // The rest of such a line is passed over.
            if cells.len() < 512 {
                cells.push(start + head..end - tail);
            }
            let is_last = text.get(end) != Some(&self.delimiter);
            self.at = end + 1;
            if is_last {
                return Some(cells);
            }
        }
    }
}

/// A table whose first line says that a column has passwords or tokens: what a browser or a manager of
/// passwords exports, the keys of a user of AWS.
fn table(text: &[u8], found: &mut Own) {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    if end > LONGEST_HEADER {
        return;
    }
    let head = &text[..end];
    let count = |delimiter: u8| head.iter().filter(|b| **b == delimiter).count();
    let Some(delimiter) = [b',', b';', b'\t'].into_iter().max_by_key(|d| count(*d)) else {
        return;
    };
    let mut rows = Rows {
        text,
        at: 0,
        delimiter,
    };
    let Some(header) = rows.next() else { return };
    let names: Vec<Vec<u8>> = header
        .iter()
        .map(|cell| text[cell.clone()].to_ascii_lowercase())
        .collect();
    let judged = |name: &Vec<u8>| match name.len() {
        0..=40 => strength(
            &name
                .iter()
                .map(|b| if *b == b' ' { b'_' } else { *b })
                .collect::<Vec<u8>>(),
        ),
        _ => Strength::None,
    };
    let columns: Vec<Strength> = names
        .iter()
        .map(|name| match &name[..] {
            b"totp" | b"otp" | b"otpauth" | b"login_totp" => Strength::Token,
            _ => judged(name),
        })
        .collect();
    if header.len() < 2 || !columns.iter().any(|column| *column >= Strength::Token) {
        return;
    }
    let has_logins = names.iter().any(|name| BESIDE.contains(&&name[..]));
    for row in rows {
        for (cell, column) in row.into_iter().zip(&columns) {
            let value = &text[cell.clone()];
            let is_one = match column {
                // Without whose it is, it may be a list of words.
                Strength::Password => has_logins && value.len() >= 4 && !is_placeholder(value),
                Strength::Token => {
                    let is_made = matches!(look(value), Look::Random | Look::Hex);
                    is_made && value.len() >= 16 || is_seed(value)
                }
                _ => false,
            };
            if is_one {
                let kind = match column {
                    Strength::Password => "password",
                    _ => "generic",
                };
                found.push((cell, kind));
            }
        }
    }
}

/// The seed of codes that change: base32, as it is shown beside the picture.
fn is_seed(value: &[u8]) -> bool {
    value.len() >= 16
        && value
            .iter()
            .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(b))
        || value.starts_with(b"otpauth://")
}

fn is_cookies(text: &[u8]) -> bool {
    [&b"# Netscape HTTP Cookie File"[..], b"# HTTP Cookie File"]
        .iter()
        .any(|first| text.starts_with(first))
}

/// Cookies of `curl`, `wget` and browsers: a session is as good as a password.
fn cookies(text: &[u8], found: &mut Own) {
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let start = at;
        at += line.len();
        let line = line.trim_ascii_end();
        if line.starts_with(b"# ") {
            continue;
        }
        let mut tabs = memchr::memchr_iter(b'\t', line);
        let Some(last) = tabs.nth(5).filter(|_| tabs.next().is_none()) else {
            continue;
        };
        let value = &line[last + 1..];
        if value.len() >= 16 && matches!(look(value), Look::Random | Look::Hex) {
            found.push((start + last + 1..start + line.len(), "generic"));
        }
    }
}

/// Returns true if a text has a tag near its beginning.
fn begins(text: &[u8], tag: &[u8]) -> bool {
    memchr::memmem::find(&text[..text.len().min(1024)], tag).is_some()
}

/// A name in XML, and the value that follows it.
struct Pair<'t> {
    name: &'t [u8],
    /// What is in the tag of the value.
    tag: &'t [u8],
    range: Range<usize>,
}

/// Returns the names and values of XML that has one after the other.
fn pairs<'t>(text: &'t [u8], key: &str, value: &str) -> Vec<Pair<'t>> {
    let [open, close] = [format!("<{key}>"), format!("</{key}>")];
    let value = format!("<{value}");
    let find = |from: usize, what: &[u8]| {
        let at = memchr::memmem::find(&text[from..], what);
        at.map(|at| from + at)
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(key) = find(at, open.as_bytes()) {
        let start = key + open.len();
        let Some(end) = find(start, close.as_bytes()) else {
            break;
        };
        at = end + close.len();
        let gap = text[at..].iter().take_while(|b| b.is_ascii_whitespace());
        let tag = at + gap.count();
        if !text[tag..].starts_with(value.as_bytes()) {
            continue;
        }
        let Some(ends) = find(tag, b">") else { break };
        let Some(to) = find(ends, b"<") else { break };
        // `<Value/>` has nothing.
        if text[ends - 1] != b'/' {
            found.push(Pair {
                name: &text[start..end],
                tag: &text[tag..ends],
                range: ends + 1..to,
            });
        }
        at = to;
    }
    found
}

/// `<Key>Password</Key><Value ProtectInMemory="True">…</Value>`
fn keepass(text: &[u8], found: &mut Own) {
    for Pair { name, tag, range } in pairs(text, "Key", "Value") {
        let marks = [&b"ProtectInMemory=\"True\""[..], b"Protected=\"True\""];
        let is_marked = |mark: &&[u8]| memchr::memmem::find(tag, mark).is_some();
        let is_secret = marks.iter().any(is_marked) || strength(name) >= Strength::Token;
        if is_secret && !range.is_empty() {
            found.push((range, "password"));
        }
    }
}

/// `<key>ClientSecret</key><string>…</string>`: settings of programs on a Mac, profiles of devices.
fn plist(text: &[u8], strict: bool, found: &mut Own) {
    for Pair { name, range, .. } in pairs(text, "key", "string") {
        let value = &text[range.clone()];
        let is_one = strength(name) >= Strength::Token
            && !value.contains(&b' ')
            && secrets::is_value_of(name, value, strict);
        if is_one {
            let kind = match strength(name) {
                Strength::Password => "password",
                _ => "generic",
            };
            found.push((range, kind));
        }
    }
}
