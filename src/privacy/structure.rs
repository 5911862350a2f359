//! The leaves of configuration files: which value has which key, and where.
//!
//! This finds secrets that only the structure reveals (a value in `mcpServers.*.env`, a Kubernetes
//! secret), and lets a restore match the values of two versions of a file. The name decides on the
//! format; a file that does not parse has no leaves.

use std::ops::Range;

use super::values::{Look, is_placeholder, look};
use super::words::{Strength, strength};
use super::{Finding, Group};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `NAME=value` lines, with `export` and quotes.
    Env,
    /// JSON, with comments and trailing commas.
    Json,
    Toml,
    /// YAML in block style.
    Yaml,
    /// Sections and `name = value` lines.
    Ini,
}

/// Returns the format of a file by its name.
pub fn format_of(name: &[u8]) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let ext = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    if name.starts_with(b".env") || name == b"env" || ext == b"env" || ext == b"envrc" {
        return Some(Format::Env);
    }
    match ext {
        b"json" | b"jsonc" | b"json5" | b"code-workspace" => Some(Format::Json),
        b"toml" => Some(Format::Toml),
        b"yaml" | b"yml" => Some(Format::Yaml),
        b"ini" | b"cfg" | b"conf" | b"properties" | b"npmrc" | b"pypirc" => Some(Format::Ini),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Keys from the top; list elements by their number.
    pub path: Vec<String>,
    /// The value as written, without quotes.
    pub inner: Range<usize>,
    /// The value with its quotes.
    pub outer: Range<usize>,
    /// It is text, not a number or a keyword of the format.
    pub is_text: bool,
}

impl Leaf {
    /// Returns the path in readable form.
    pub fn name(&self) -> String {
        self.path.join(".")
    }
}

/// Returns the leaves of a file, in order; `None` if it does not parse.
pub fn leaves(format: Format, text: &[u8]) -> Option<Vec<Leaf>> {
    match format {
        Format::Env => Some(env(text)),
        Format::Json => json(std::str::from_utf8(text).ok()?),
        Format::Toml => toml(std::str::from_utf8(text).ok()?),
        Format::Yaml => Some(yaml(text)),
        Format::Ini => Some(ini(text)),
    }
}

/// Returns lines without their ends, with their offsets.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    text.split_inclusive(|b| *b == b'\n').map(move |line| {
        let start = at;
        at += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        (start, line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// Returns the value at `at` of a line, with and without its quotes. A quoted value may span lines.
fn quoted_or_bare(
    text: &[u8],
    at: usize,
    line_end: usize,
    comments: bool,
) -> (Range<usize>, Range<usize>) {
    let mut from = at;
    while from < line_end && matches!(text[from], b' ' | b'\t') {
        from += 1;
    }
    if let Some(quote @ (b'"' | b'\'' | b'`')) = text.get(from).copied().filter(|_| from < line_end)
    {
        let mut end = from + 1;
        while end < text.len() && text[end] != quote {
            end += if text[end] == b'\\' && quote == b'"' {
                2
            } else {
                1
            };
        }
        if end < text.len() && (end < line_end || text[from..end].len() < 64 * 1024) {
            return (from..end + 1, from + 1..end);
        }
    }
    let mut end = line_end;
    if comments {
        for i in from..line_end {
            if text[i] == b'#' && i > from && matches!(text[i - 1], b' ' | b'\t') {
                end = i;
                break;
            }
        }
    }
    while end > from && matches!(text[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    (from..end, from..end)
}

fn env(text: &[u8]) -> Vec<Leaf> {
    let mut found: Vec<Leaf> = Vec::new();
    let mut done = 0;
    for (start, line) in lines(text) {
        // Part of a multi-line value.
        if start < done {
            continue;
        }
        let mut at = line
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | 0xef | 0xbb | 0xbf))
            .count();
        if line[at..].starts_with(b"export ") {
            at += 7;
        }
        let key = line[at..]
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            .count();
        let mut equals = at + key;
        while line.get(equals) == Some(&b' ') {
            equals += 1;
        }
        if key == 0 || !matches!(line.get(equals), Some(b'=' | b':')) {
            continue;
        }
        let name = String::from_utf8_lossy(&line[at..at + key]).into_owned();
        let (outer, inner) = quoted_or_bare(text, start + equals + 1, start + line.len(), true);
        done = outer.end;
        found.push(Leaf {
            path: vec![name],
            inner,
            outer,
            is_text: true,
        });
    }
    found
}

fn ini(text: &[u8]) -> Vec<Leaf> {
    let mut found = Vec::new();
    let mut section = String::new();
    for (start, line) in lines(text) {
        let trimmed = line.trim_ascii();
        if trimmed.starts_with(b"#") || trimmed.starts_with(b";") {
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix(b"[")
            .and_then(|l| l.strip_suffix(b"]"))
        {
            section = String::from_utf8_lossy(name).into_owned();
            continue;
        }
        let Some(equals) = line
            .iter()
            .position(|b| *b == b'=')
            .or_else(|| line.iter().position(|b| *b == b':'))
        else {
            continue;
        };
        let name = String::from_utf8_lossy(line[..equals].trim_ascii()).into_owned();
        let (outer, inner) = quoted_or_bare(text, start + equals + 1, start + line.len(), false);
        if outer.end > start + line.len() {
            continue;
        }
        let mut path = vec![name];
        if !section.is_empty() {
            path.insert(0, section.clone());
        }
        found.push(Leaf {
            path,
            inner,
            outer,
            is_text: true,
        });
    }
    found
}

fn json(text: &str) -> Option<Vec<Leaf>> {
    use jsonc_parser::ast::Value;
    use jsonc_parser::common::Ranged as _;
    fn walk(value: &Value<'_>, path: &mut Vec<String>, found: &mut Vec<Leaf>) {
        match value {
            Value::Object(object) => {
                for property in &object.properties {
                    path.push(property.name.as_str().to_owned());
                    walk(&property.value, path, found);
                    path.pop();
                }
            }
            Value::Array(array) => {
                for (i, element) in array.elements.iter().enumerate() {
                    path.push(i.to_string());
                    walk(element, path, found);
                    path.pop();
                }
            }
            leaf => {
                let range = leaf.range();
                let is_text = matches!(leaf, Value::StringLit(_));
                let outer = range.start..range.end;
                let inner = if is_text {
                    range.start + 1..range.end - 1
                } else {
                    outer.clone()
                };
                found.push(Leaf {
                    path: path.clone(),
                    inner,
                    outer,
                    is_text,
                });
            }
        }
    }
    let skip = text.len() - text.trim_start_matches('\u{feff}').len();
    let parsed =
        jsonc_parser::parse_to_ast(&text[skip..], &Default::default(), &Default::default()).ok()?;
    let mut found = Vec::new();
    walk(&parsed.value?, &mut Vec::new(), &mut found);
    for leaf in &mut found {
        for range in [&mut leaf.inner, &mut leaf.outer] {
            *range = range.start + skip..range.end + skip;
        }
    }
    Some(found)
}

fn toml(text: &str) -> Option<Vec<Leaf>> {
    use toml_edit::{Item, Value};
    fn leaf_of(value: &Value, text: &str, path: &mut Vec<String>, found: &mut Vec<Leaf>) {
        match value {
            Value::Array(array) => {
                for (i, element) in array.iter().enumerate() {
                    path.push(i.to_string());
                    leaf_of(element, text, path, found);
                    path.pop();
                }
            }
            Value::InlineTable(table) => {
                for (key, element) in table.iter() {
                    path.push(key.to_owned());
                    leaf_of(element, text, path, found);
                    path.pop();
                }
            }
            leaf => {
                let Some(outer) = leaf.span() else { return };
                let is_text = leaf.is_str();
                let quotes = match text.get(outer.clone()) {
                    Some(t) if t.starts_with("\"\"\"") || t.starts_with("'''") => 3,
                    _ => 1,
                };
                let inner = if is_text {
                    outer.start + quotes..outer.end - quotes
                } else {
                    outer.clone()
                };
                found.push(Leaf {
                    path: path.clone(),
                    inner,
                    outer,
                    is_text,
                });
            }
        }
    }
    fn walk(
        table: &dyn toml_edit::TableLike,
        text: &str,
        path: &mut Vec<String>,
        found: &mut Vec<Leaf>,
    ) {
        for (key, item) in table.iter() {
            path.push(key.to_owned());
            match item {
                Item::Value(leaf) => leaf_of(leaf, text, path, found),
                Item::Table(table) => walk(table, text, path, found),
                Item::ArrayOfTables(tables) => {
                    for (i, table) in tables.iter().enumerate() {
                        path.push(i.to_string());
                        walk(table, text, path, found);
                        path.pop();
                    }
                }
                Item::None => {}
            }
            path.pop();
        }
    }
    let document = toml_edit::Document::parse(text).ok()?;
    let mut found = Vec::new();
    walk(document.as_table(), text, &mut Vec::new(), &mut found);
    found.sort_by_key(|leaf| leaf.outer.start);
    Some(found)
}

/// Mappings and lists in block style. Flow style, anchors and tags count as text.
fn yaml(text: &[u8]) -> Vec<Leaf> {
    let all: Vec<(usize, &[u8])> = lines(text).collect();
    let mut yaml = Yaml {
        text,
        found: Vec::new(),
        stack: Vec::new(),
        counts: Vec::new(),
        done: 0,
    };
    for (number, (start, line)) in all.iter().copied().enumerate() {
        let trimmed = line.trim_ascii_start();
        if start < yaml.done || trimmed.is_empty() || trimmed.starts_with(b"#") {
            continue;
        }
        if line.starts_with(b"---") {
            yaml.stack.clear();
            yaml.counts.clear();
            continue;
        }
        yaml.line(start, line, &all[number + 1..]);
    }
    yaml.found
}

struct Yaml<'t> {
    text: &'t [u8],
    found: Vec<Leaf>,
    /// Indent and key; for list elements, the number.
    stack: Vec<(usize, String)>,
    /// Indents of lists, with the number of elements so far.
    counts: Vec<(usize, usize)>,
    /// Everything up to here is read: values may span lines.
    done: usize,
}

impl Yaml<'_> {
    /// Reads a line at offset `start`; `rest` comes after it.
    fn line(&mut self, start: usize, line: &[u8], rest: &[(usize, &[u8])]) {
        let (at, indent) = self.elements(line);
        let (value_at, key) = match key_of(&line[at..]) {
            Some((end, key)) => (at + end, Some(key)),
            // A list element that is a value itself.
            None if self.stack.last().is_some_and(|(i, _)| *i < indent)
                && indent > 0
                && line.trim_ascii_start().starts_with(b"-") =>
            {
                (at, None)
            }
            None => return,
        };
        let is_element = key.is_none();
        self.stack.extend(key.map(|key| (indent, key)));
        let line_end = start + line.len();
        let (outer, inner) = quoted_or_bare(self.text, start + value_at, line_end, true);
        if outer.is_empty() {
            return;
        }
        let first = self.text[outer.start];
        if matches!(first, b'|' | b'>') && outer.len() <= 3 {
            self.block(line_end, rest);
        } else if !matches!(first, b'&' | b'*' | b'!' | b'{' | b'[') {
            self.done = outer.end;
            self.leaf(outer, inner);
        }
        if is_element {
            self.stack.pop();
        }
    }

    /// Counts the list elements that begin on a line; returns where their content begins, and its
    /// indent.
    fn elements(&mut self, line: &[u8]) -> (usize, usize) {
        let is_space = |b: &&u8| matches!(b, b' ' | b'\t');
        let mut at = line.iter().take_while(is_space).count();
        let mut indent = at;
        self.stack.retain(|(i, _)| *i < indent);
        while line[at..].starts_with(b"- ") {
            self.counts.retain(|(i, _)| *i <= indent);
            let number = match self.counts.last_mut().filter(|(i, _)| *i == indent) {
                Some((_, number)) => {
                    *number += 1;
                    *number
                }
                None => {
                    self.counts.push((indent, 0));
                    0
                }
            };
            self.stack.push((indent, number.to_string()));
            at += 2;
            at += line[at..].iter().take_while(|b| **b == b' ').count();
            indent = at;
        }
        self.counts.retain(|(i, _)| *i <= indent);
        (at, indent)
    }

    /// Reads a block: everything indented deeper.
    fn block(&mut self, line_end: usize, rest: &[(usize, &[u8])]) {
        let own = self.stack.last().map_or(0, |(i, _)| *i);
        let mut end = line_end;
        let mut first = None;
        for (next, line) in rest {
            let indent = line.iter().take_while(|b| **b == b' ').count();
            let deeper = indent > own;
            if !line.trim_ascii().is_empty() && !deeper {
                break;
            }
            first.get_or_insert(*next + indent);
            if deeper {
                end = next + line.len();
            }
        }
        self.done = end;
        if let Some(first) = first.filter(|f| *f < end) {
            self.leaf(first..end, first..end);
        }
    }

    fn leaf(&mut self, outer: Range<usize>, inner: Range<usize>) {
        self.found.push(Leaf {
            path: self.stack.iter().map(|(_, key)| key.clone()).collect(),
            inner,
            outer,
            is_text: true,
        });
    }
}

/// Returns the key at the beginning of a line, and where the text after its colon begins.
fn key_of(rest: &[u8]) -> Option<(usize, String)> {
    let end = match rest.first() {
        Some(quote @ (b'"' | b'\'')) => rest[1..].iter().position(|b| b == quote).map(|p| p + 2),
        _ => rest
            .windows(2)
            .position(|w| w == b": ")
            .or_else(|| rest.ends_with(b":").then(|| rest.len() - 1)),
    };
    let end = end.filter(|end| rest.get(*end) == Some(&b':') && *end > 0)?;
    let bytes = rest[..end].iter().copied();
    let key: Vec<u8> = bytes.filter(|b| !matches!(b, b'"' | b'\'')).collect();
    Some((end + 1, String::from_utf8_lossy(&key).into_owned()))
}

/// Headers with secret values, in lower case.
const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "cookie",
    "set-cookie",
    "x-goog-api-key",
    "x-functions-key",
];

/// Keys under which MCP clients list servers.
const SERVERS: &[&str] = &[
    "mcpServers",
    "mcp_servers",
    "context_servers",
    "servers",
    "mcp",
];

/// Returns true for a value that a program generated, or a person who was asked for a password: not
/// a word, place, number, model or version.
pub(super) fn looks_made(value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let is_place = value.starts_with(b"/")
        || value.starts_with(b"~")
        || value.starts_with(b".")
        || value.get(1..3) == Some(b":\\")
        || memchr::memmem::find(value, b"://").is_some();
    let odd = |b: &u8| b"!@#$%^&*+=?<>|;,(~".contains(b);
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    value.len() >= 8
        && !is_place
        && !value.contains(&b' ')
        && has(u8::is_ascii_digit)
        && (mixed || has(odd) && has(u8::is_ascii_alphabetic))
        && !super::values::is_wordy(value)
}

/// How many leaves before and after one count as its neighbours.
const NEAR: usize = 256;

/// Returns the text of another leaf with the same parent.
fn sibling<'t>(keys: &[&str], name: &str, text: &'t [u8], leaves: &[Leaf]) -> Option<&'t [u8]> {
    let parent = &keys[..keys.len() - 1];
    let leaf = leaves.iter().find(|leaf| {
        leaf.path.len() == keys.len()
            && leaf.path.last().is_some_and(|last| last == name)
            && leaf.path.iter().zip(parent).all(|(a, b)| a == b)
    })?;
    Some(&text[leaf.inner.clone()])
}

/// Returns true for the private parts of a JSON web key.
fn is_key_part(keys: &[&str], last: &str, text: &[u8], leaves: &[Leaf]) -> bool {
    matches!(last, "d" | "p" | "q" | "dp" | "dq" | "qi" | "k")
        && sibling(keys, "kty", text, leaves).is_some()
}

/// Returns true for values in a Terraform state that Terraform generated or calls sensitive.
fn is_generated(keys: &[&str], last: &str, text: &[u8], leaves: &[Leaf]) -> bool {
    match keys {
        ["resources", number, "instances", _, "attributes", _] => {
            matches!(last, "result" | "bcrypt_hash")
                && sibling(&["resources", number, ""], "type", text, leaves)
                    == Some(b"random_password")
        }
        ["outputs", _, "value"] => sibling(keys, "sensitive", text, leaves) == Some(b"true"),
        _ => false,
    }
}

/// Adds the secrets that the structure reveals.
pub(super) fn secrets(name: &[u8], text: &[u8], found: &mut Vec<Finding>) {
    let Some(format) = format_of(name).or_else(|| named_json(name)) else {
        return;
    };
    if !is_worth_reading(format, text) {
        return;
    }
    let Some(leaves) = leaves(format, text) else {
        return;
    };
    let document = Document::of(format, text, &leaves);
    for (at, leaf) in leaves.iter().enumerate() {
        let inner = &leaf.inner;
        // The scan has found it already; if it found only a small part of the value, that was
        // something else.
        let is_known = |f: &Finding| {
            f.group == Group::Secret
                && f.range.start < inner.end
                && inner.start < f.range.end
                && f.range.len() * 2 > inner.len()
        };
        if document.is_secret(at) && !found.iter().any(is_known) {
            // `Bearer …`: the scheme is no secret.
            let value = &text[inner.clone()];
            let scheme = [&b"Bearer "[..], b"Basic ", b"Token "]
                .iter()
                .find(|s| value.starts_with(s))
                .map_or(0, |s| s.len());
            found.push(Finding {
                range: inner.start + scheme..inner.end,
                group: Group::Secret,
                kind: "configured",
            });
        }
    }
    found.sort_by_key(|f| (f.range.start, f.range.end));
}

/// Returns false if the structure reveals nothing that the scan has not seen: parsing is slow, and
/// most files contain none of these words.
fn is_worth_reading(format: Format, text: &[u8]) -> bool {
    let words = [
        &b"env"[..],
        b"headers",
        b"auths",
        b"args",
        b"Secret",
        b"secret",
        b"\"kty\"",
        b"random_password",
        b"sensitive",
    ];
    let has = |word: &&[u8]| memchr::memmem::find(text, word).is_some();
    (format == Format::Env || words.iter().any(has)) && text.len() <= 8 << 20
}

/// A configuration file, with facts about the whole.
struct Document<'t> {
    format: Format,
    text: &'t [u8],
    leaves: &'t [Leaf],
    is_kubernetes: bool,
    has_keys: bool,
    has_state: bool,
}

impl<'t> Document<'t> {
    fn of(format: Format, text: &'t [u8], leaves: &'t [Leaf]) -> Self {
        let has = |what: &[u8]| memchr::memmem::find(text, what).is_some();
        let is_kind = |leaf: &Leaf| {
            leaf.path.last().is_some_and(|key| key == "kind")
                && text[leaf.inner.clone()].eq_ignore_ascii_case(b"secret")
        };
        Self {
            format,
            text,
            leaves,
            is_kubernetes: format == Format::Yaml && leaves.iter().any(is_kind),
            has_keys: has(b"\"kty\""),
            has_state: has(b"random_password") || has(b"\"sensitive\""),
        }
    }

    /// Judges a leaf by its place: the first known place decides.
    fn is_secret(&self, at: usize) -> bool {
        let leaf = &self.leaves[at];
        let value = &self.text[leaf.inner.clone()];
        if !leaf.is_text || value.is_empty() || is_placeholder(value) {
            return false;
        }
        // Related leaves are close together.
        let near = &self.leaves[at.saturating_sub(NEAR)..(at + NEAR).min(self.leaves.len())];
        let keys: Vec<&str> = leaf.path.iter().map(String::as_str).collect();
        let last = keys.last().copied().unwrap_or_default();
        let parent = keys.len().checked_sub(2).map_or("", |i| keys[i]);
        let strong = strength(last.as_bytes());
        match self.format {
            Format::Env => strong >= Strength::Token && value.len() >= 4,
            // MCP servers get their secrets here, under names of their own.
            _ if matches!(parent, "env" | "headers")
                && keys.iter().any(|key| SERVERS.contains(key))
                && looks_made(value) =>
            {
                true
            }
            Format::Json if self.has_keys && is_key_part(&keys, last, self.text, near) => {
                value.len() >= 16
            }
            Format::Json if self.has_state && is_generated(&keys, last, self.text, near) => true,
            _ if matches!(parent, "env" | "environment") => is_in_environment(strong, value),
            _ if parent == "headers" => is_header(last, strong, value),
            _ if keys.contains(&"auths") => matches!(last, "auth" | "identitytoken" | "password"),
            _ if keys.contains(&"args") => self.is_argument(at, value),
            Format::Yaml if self.is_kubernetes => {
                keys.contains(&"stringData") && value.len() >= 4
                    // In base64; shorter values are switches.
                    || keys.contains(&"data") && value.len() > 8
            }
            _ => last == "_auth",
        }
    }

    /// `--api-key`, then the value.
    fn is_argument(&self, at: usize, value: &[u8]) -> bool {
        let before = at.checked_sub(1).map(|before| &self.leaves[before].inner);
        let flag = before.map_or(&b""[..], |inner| &self.text[inner.clone()]);
        flag.starts_with(b"-")
            && !flag.contains(&b'=')
            && strength(flag) >= Strength::Token
            && !value.starts_with(b"-")
            && value.len() >= 6
    }
}

fn is_in_environment(strong: Strength, value: &[u8]) -> bool {
    strong >= Strength::Token && value.len() >= 4
        || strong != Strength::Benign && value.len() >= 20 && matches!(look(value), Look::Random)
}

fn is_header(name: &str, strong: Strength, value: &[u8]) -> bool {
    HEADERS.contains(&name.to_ascii_lowercase().as_str())
        || strong >= Strength::Token
        || matches!(look(value), Look::Random) && value.len() >= 20
}

/// JSON files whose names do not say so.
fn named_json(name: &[u8]) -> Option<Format> {
    let ends = [&b".tfstate"[..], b".tfstate.backup", b".jwk", b".jwks"];
    (name == b".dockercfg" || ends.iter().any(|end| name.ends_with(end))).then_some(Format::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, text: &str) -> Vec<(String, String)> {
        leaves(format, text.as_bytes())
            .unwrap()
            .iter()
            .map(|l| (l.name(), text[l.inner.clone()].to_owned()))
            .collect()
    }

    #[test]
    fn every_format_gives_its_leaves_with_their_keys() {
        let want = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let env = "# c\nexport A=one # note\nB=\"two words\"\nC='multi\nline'\nD=\n";
        assert_eq!(
            shown(Format::Env, env),
            want(&[
                ("A", "one"),
                ("B", "two words"),
                ("C", "multi\nline"),
                ("D", "")
            ])
        );
        let json = "{ // c\n \"a\": {\"b\": [\"x\", 2]}, \"c\": \"y\", }";
        assert_eq!(
            shown(Format::Json, json),
            want(&[("a.b.0", "x"), ("a.b.1", "2"), ("c", "y")])
        );
        let toml = "a = 1\n[t.u]\nk = \"v\"\n[[l]]\nz = 'q'\n";
        assert_eq!(
            shown(Format::Toml, toml),
            want(&[("a", "1"), ("t.u.k", "v"), ("l.0.z", "q")])
        );
        let yaml = "a: 1 # c\nb:\n  c: \"two\"\n  d:\n    - x: 1\n      y: 2\n    - x: 3\ne: |\n  block\n  more\nf: end\n";
        assert_eq!(
            shown(Format::Yaml, yaml),
            want(&[
                ("a", "1"),
                ("b.c", "two"),
                ("b.d.0.x", "1"),
                ("b.d.0.y", "2"),
                ("b.d.1.x", "3"),
                ("e", "block\n  more"),
                ("f", "end")
            ])
        );
        let ini = "[s]\nk = v\n; c\np=q\n";
        assert_eq!(shown(Format::Ini, ini), want(&[("s.k", "v"), ("s.p", "q")]));
    }
}
