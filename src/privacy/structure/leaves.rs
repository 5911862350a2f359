//! The leaves of configuration files: which value has which key, and where.
//!
//! The search for secrets judges a value by its keys, and a restore matches the values of two
//! versions of a file. The name decides on the format; a file that does not parse has no leaves.

use std::ops::Range;

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
    /// Depth and key; for list elements, the number. The depth is twice the indent, and one more for an
    /// element: a list may be as far in as the key that it belongs to.
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
            None if self
                .stack
                .last()
                .is_some_and(|(depth, _)| *depth < 2 * indent)
                && indent > 0
                && line.trim_ascii_start().starts_with(b"-") =>
            {
                (at, None)
            }
            None => return,
        };
        let is_element = key.is_none();
        self.stack.extend(key.map(|key| (2 * indent, key)));
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
        let is_element = line[at..].starts_with(b"- ");
        let depth = 2 * indent + usize::from(is_element);
        self.stack.retain(|(i, _)| *i < depth);
        if !is_element {
            self.counts.retain(|(i, _)| *i < indent);
        }
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
            self.stack.push((2 * indent + 1, number.to_string()));
            at += 2;
            at += line[at..].iter().take_while(|b| **b == b' ').count();
            indent = at;
        }
        self.counts.retain(|(i, _)| *i <= indent);
        (at, indent)
    }

    /// Reads a block: everything indented deeper.
    fn block(&mut self, line_end: usize, rest: &[(usize, &[u8])]) {
        let own = self.stack.last().map_or(0, |(depth, _)| *depth / 2);
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
        // Elements no further in than their key.
        let yaml = "d:\n- x: 1\n  y:\n  - 2\n  - 3\n- x: 4\ne: 5\nf:\n- 6\n";
        assert_eq!(
            shown(Format::Yaml, yaml),
            want(&[
                ("d.0.x", "1"),
                ("d.0.y.0", "2"),
                ("d.0.y.1", "3"),
                ("d.1.x", "4"),
                ("e", "5"),
                ("f.0", "6")
            ])
        );
        let ini = "[s]\nk = v\n; c\np=q\n";
        assert_eq!(shown(Format::Ini, ini), want(&[("s.k", "v"), ("s.p", "q")]));
    }
}
