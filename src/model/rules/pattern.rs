//! What a pattern means: the one matcher for include and exclude.
//!
//! The language is that of `.gitignore`, with braces: `*` and `?` stay inside one name, `[a-z]`,
//! `[!a]` and `[[:alpha:]]` are one character, `**` as a whole component is any number of
//! directories (at the end: everything inside), `{a,b}` is either, and a backslash makes the next
//! character literal. Paths are compared as bytes, component by component.

use std::ffi::OsStr;

use crate::base::error::{Error, Result};
use crate::base::path::os_to_bytes;

/// Limits: bytes of a pattern, its components, and the patterns that its braces make.
const MAX_BYTES: usize = 4096;
const MAX_PARTS: usize = 120;
const MAX_ALTERNATIVES: usize = 256;
const MAX_ANY: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    alternatives: Vec<Vec<Part>>,
    /// It has a `/` other than at its end, so it starts at the root.
    pub(super) anchored: bool,
    /// It ends with `/`, so it matches directories.
    pub(super) directories: bool,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any number of directories, including none.
    Any,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(Vec<u8>),
    One,
    Many,
    Class(Class),
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    named: Vec<fn(char) -> bool>,
}

/// The state of a match along a path: one bit for each position in the pattern.
pub(super) struct Progress(Vec<u128>);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is too complex, or a bracket is not closed.
    pub(super) fn new(pattern: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::invalid(format!("the pattern `{pattern}` is wrong: {why}"), None);
        if pattern.len() > MAX_BYTES || pattern.matches("**").count() > MAX_ANY {
            return Err(Error::invalid(
                format!("the pattern `{pattern}` is too complex"),
                None,
            ));
        }
        let directories = pattern.ends_with('/');
        let inner = pattern.trim_end_matches('/');
        let anchored = inner.contains('/');
        let mut alternatives = Vec::new();
        for text in braces(inner).map_err(wrong)? {
            let mut parts = Vec::new();
            let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
            let names: Vec<&str> = names.collect();
            for (number, name) in names.iter().enumerate() {
                if *name == "**" && (anchored || names.len() > 1) {
                    if !matches!(parts.last(), Some(Part::Any)) {
                        parts.push(Part::Any);
                    }
                    if number + 1 == names.len() {
                        // Matches the content, not the directory itself.
                        parts.push(Part::Name(vec![Token::Many]));
                    }
                } else {
                    parts.push(Part::Name(tokens(name).map_err(wrong)?));
                }
            }
            if parts.len() > MAX_PARTS {
                return Err(wrong("it has too many components"));
            }
            alternatives.push(parts);
        }
        Ok(Self {
            alternatives,
            anchored,
            directories,
        })
    }

    /// Returns true if it matches the root itself.
    pub(super) fn is_root(&self) -> bool {
        self.alternatives.iter().any(Vec::is_empty)
    }

    /// Returns the same pattern at any depth.
    pub(super) fn anywhere(mut self) -> Self {
        for parts in &mut self.alternatives {
            parts.insert(0, Part::Any);
        }
        self
    }

    /// Returns the path that the pattern matches, if it is only one.
    pub(super) fn path(&self) -> Option<Vec<u8>> {
        let [parts] = &self.alternatives[..] else {
            return None;
        };
        let mut path = Vec::new();
        for part in parts {
            let Part::Name(tokens) = part else {
                return None;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            match &tokens[..] {
                [Token::Literal(name)] => path.extend_from_slice(name),
                _ => return None,
            }
        }
        Some(path)
    }

    /// Returns true if a single name matches, for patterns without a `/`.
    pub(super) fn fits_name(&self, name: &[u8]) -> bool {
        self.alternatives.iter().any(|parts| match &parts[..] {
            [Part::Name(tokens)] => fits(tokens, name),
            _ => false,
        })
    }

    /// Returns true if a whole path matches.
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        let mut progress = self.begin();
        let mut done = false;
        for name in path.split(|byte| *byte == b'/') {
            done = self.step(&mut progress, name);
        }
        done
    }

    /// Returns the state before the first name.
    pub(super) fn begin(&self) -> Progress {
        let start = |parts: &Vec<Part>| closure(parts, 1);
        Progress(self.alternatives.iter().map(start).collect())
    }

    /// Advances by one name; returns true if the path so far matches.
    pub(super) fn step(&self, progress: &mut Progress, name: &[u8]) -> bool {
        let mut done = false;
        for (parts, places) in self.alternatives.iter().zip(&mut progress.0) {
            let mut next = 0_u128;
            for (number, part) in parts.iter().enumerate() {
                if *places & (1 << number) == 0 {
                    continue;
                }
                match part {
                    Part::Any => next |= 1 << number,
                    Part::Name(tokens) if fits(tokens, name) => next |= 1 << (number + 1),
                    Part::Name(_) => {}
                }
            }
            *places = closure(parts, next);
            done |= *places & (1 << parts.len()) != 0;
        }
        done
    }

    /// Returns true if something below could match.
    pub(super) fn may_go_on(&self, progress: &Progress) -> bool {
        let mut each = self.alternatives.iter().zip(&progress.0);
        each.any(|(parts, places)| *places & !(1_u128 << parts.len()) != 0)
    }
}

/// `**` may match nothing, so a position before it is also one after it.
fn closure(parts: &[Part], mut places: u128) -> u128 {
    for (number, part) in parts.iter().enumerate() {
        if matches!(part, Part::Any) && places & (1 << number) != 0 {
            places |= 1 << (number + 1);
        }
    }
    places
}

/// Expands the braces of a pattern.
fn braces(pattern: &str) -> std::result::Result<Vec<String>, &'static str> {
    let mut todo = vec![pattern.to_owned()];
    let mut done = Vec::new();
    while let Some(text) = todo.pop() {
        if todo.len() + done.len() > MAX_ALTERNATIVES {
            return Err("its braces make too many patterns");
        }
        match first_brace(&text)? {
            None => done.push(text),
            Some((start, commas, end)) => {
                let mut from = start + 1;
                for to in commas.into_iter().chain([end]) {
                    todo.push([&text[..start], &text[from..to], &text[end + 1..]].concat());
                    from = to + 1;
                }
            }
        }
    }
    Ok(done)
}

type Brace = (usize, Vec<usize>, usize);

/// Returns where the first braces open, their commas, and where they close.
fn first_brace(text: &str) -> std::result::Result<Option<Brace>, &'static str> {
    let bytes = text.as_bytes();
    let (mut start, mut depth, mut commas) = (0, 0_usize, Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => at = class_end(bytes, at).ok_or("`[` is not closed")?,
            b'{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(at),
            b'}' if depth == 0 => {
                return Err("`}` has no `{`; for the character itself write `\\}`");
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((start, commas, at)));
                }
            }
            _ => {}
        }
        at += 1;
    }
    match depth {
        0 => Ok(None),
        _ => Err("`{` is not closed; for the character itself write `\\{`"),
    }
}

/// Returns the position of the `]` of a class that opens at `start`; a `/` is never inside.
fn class_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    if matches!(bytes.get(at), Some(b'!' | b'^')) {
        at += 1;
    }
    let first = at;
    while at < bytes.len() {
        match bytes[at] {
            b'/' => return None,
            b'\\' => at += 1,
            b'[' if bytes.get(at + 1) == Some(&b':') => {
                let rest = &bytes[at + 2..];
                if let Some(end) = rest.windows(2).position(|two| two == b":]") {
                    at += 2 + end + 1;
                }
            }
            b']' if at > first => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn tokens(name: &str) -> std::result::Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut literal = Vec::new();
    let flush = |literal: &mut Vec<u8>, tokens: &mut Vec<Token>| {
        if !literal.is_empty() {
            tokens.push(Token::Literal(std::mem::take(literal)));
        }
    };
    let mut at = 0;
    while let Some(c) = name[at..].chars().next() {
        let mut width = c.len_utf8();
        match c {
            '\\' => {
                let next = name[at + 1..].chars().next();
                let next = next.ok_or("it ends with a backslash")?;
                width += next.len_utf8();
                literal.extend_from_slice(&name.as_bytes()[at + 1..at + width]);
            }
            '*' => {
                flush(&mut literal, &mut tokens);
                if tokens.last() != Some(&Token::Many) {
                    tokens.push(Token::Many);
                }
            }
            '?' => {
                flush(&mut literal, &mut tokens);
                tokens.push(Token::One);
            }
            '[' => {
                flush(&mut literal, &mut tokens);
                let end = class_end(name.as_bytes(), at).ok_or("`[` is not closed")?;
                tokens.push(Token::Class(class(&name[at + 1..end])?));
                width = end + 1 - at;
            }
            _ => literal.extend_from_slice(&name.as_bytes()[at..at + width]),
        }
        at += width;
    }
    flush(&mut literal, &mut tokens);
    Ok(tokens)
}

fn class(text: &str) -> std::result::Result<Class, &'static str> {
    let mut class = Class::default();
    let mut text = text;
    if let Some(rest) = text.strip_prefix(['!', '^']) {
        class.negated = true;
        text = rest;
    }
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix("[:")
            && let Some(end) = rest.find(":]")
        {
            let named: fn(char) -> bool = match &rest[..end] {
                "alnum" => |c| c.is_ascii_alphanumeric(),
                "alpha" => |c| c.is_ascii_alphabetic(),
                "blank" => |c| matches!(c, ' ' | '\t'),
                "cntrl" => |c| c.is_ascii_control(),
                "digit" => |c| c.is_ascii_digit(),
                "graph" => |c| c.is_ascii_graphic(),
                "lower" => |c| c.is_ascii_lowercase(),
                "print" => |c| c == ' ' || c.is_ascii_graphic(),
                "punct" => |c| c.is_ascii_punctuation(),
                "space" => |c| c.is_ascii_whitespace() || c == '\x0b',
                "upper" => |c| c.is_ascii_uppercase(),
                "xdigit" => |c| c.is_ascii_hexdigit(),
                _ => return Err("there is no such class of characters"),
            };
            class.named.push(named);
            text = &rest[end + 2..];
            continue;
        }
        let (from, rest) = one(text)?;
        text = rest;
        let until = text.strip_prefix('-').filter(|rest| !rest.is_empty());
        let until = until.map(one).transpose()?;
        match until {
            Some((to, rest)) => {
                class.ranges.push((from, to));
                text = rest;
            }
            None => class.ranges.push((from, from)),
        }
    }
    Ok(class)
}

/// Takes one character of a class, which may be escaped.
fn one(text: &str) -> std::result::Result<(char, &str), &'static str> {
    let mut chars = text.chars();
    let c = match chars.next() {
        Some('\\') => chars.next(),
        other => other,
    };
    c.map(|c| (c, chars.as_str()))
        .ok_or("it ends with a backslash")
}

impl Class {
    fn has(&self, c: char) -> bool {
        let ranges = self
            .ranges
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&c));
        (ranges || self.named.iter().any(|named| named(c))) != self.negated
    }
}

/// Takes the first character; where the name is not UTF-8, one byte.
fn first_char(name: &[u8]) -> Option<(char, usize)> {
    let length = match name.first()? {
        0..=0x7f => return Some((char::from(name[0]), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let text = name.get(..length).and_then(|b| std::str::from_utf8(b).ok());
    Some(
        text.and_then(|text| text.chars().next())
            .map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8())),
    )
}

fn fits(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // Where to continue if the part after the last star does not match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            None if at == name.len() => return true,
            None => None,
            Some(Token::Many) => {
                token += 1;
                retry = Some((token, at));
                continue;
            }
            Some(Token::Literal(text)) => name[at..].starts_with(text).then_some(text.len()),
            Some(Token::One) => first_char(&name[at..]).map(|(_, width)| width),
            Some(Token::Class(class)) => first_char(&name[at..])
                .filter(|(c, _)| class.has(*c))
                .map(|(_, width)| width),
        };
        match (step, retry) {
            (Some(width), _) => {
                token += 1;
                at += width;
            }
            (None, Some((again, from))) => {
                let Some((_, width)) = first_char(&name[from..]) else {
                    return false;
                };
                retry = Some((again, from + width));
                token = again;
                at = from + width;
            }
            (None, None) => return false,
        }
    }
}

/// Returns a pattern that matches this path: special characters escaped, with `*` for what is not
/// UTF-8.
pub fn pattern_of(path: &OsStr) -> String {
    let bytes = os_to_bytes(path);
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!') {
                out.push('\\');
            }
            out.push(c);
        }
        if !chunk.invalid().is_empty() {
            out.push('*');
        }
    }
    out
}

/// Returns a glob of the globset crate that matches this path. Its own function leaves backslashes
/// as they are, and where they do not separate names they would escape what follows.
pub fn glob_of(path: &str) -> String {
    let glob = globset::escape(path);
    match cfg!(windows) {
        true => glob,
        false => glob.replace('\\', "\\\\"),
    }
}

/// Returns why a pattern can never match below a source, and what to write instead.
pub(crate) fn never_matches(pattern: &str, source: Option<&str>) -> Option<(String, String)> {
    if let Some(rest) = pattern.strip_prefix('!') {
        return Some((
            format!("the pattern `{pattern}` would be an exception, which patterns cannot express"),
            format!(
                "exclude less instead of including `{rest}` again; for a name that starts with `!` write `\\{pattern}`"
            ),
        ));
    }
    let source = source.map(|source| source.trim_end_matches('/'));
    if let Some(source) = source.filter(|source| !source.is_empty())
        && let Some(rest) = pattern.strip_prefix(source)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        let instead = if rest.len() > 1 { rest } else { "/NAME" };
        return Some((
            format!("the pattern `{pattern}` repeats the path of the source"),
            format!("patterns begin at the source: write `{instead}`"),
        ));
    }
    if pattern.contains('\0') {
        let hint = "names cannot contain one: remove it".to_owned();
        return Some((format!("the pattern `{pattern}` has a NUL in it"), hint));
    }
    if pattern.split('/').any(|name| {
        let plain = !name.contains(['*', '?', '[', '{', '\\']);
        plain && name.len() > 255
    }) {
        let hint = "names have at most 255 bytes".to_owned();
        return Some((format!("the pattern `{pattern}` can match nothing"), hint));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_means_to_git() {
        let fits = |pattern: &str, path: &str| {
            let pattern = Pattern::new(pattern).unwrap();
            match pattern.anchored {
                true => pattern.fits(path.as_bytes()),
                false => pattern.fits_name(path.rsplit('/').next().unwrap().as_bytes()),
            }
        };
        for (pattern, yes, no) in [
            ("*.log", &["a.log", "x/y.log", ".log"][..], &["a.logs"][..]),
            ("/a", &["a"], &["b/a"]),
            ("a/b", &["a/b"], &["x/a/b", "a/b/c"]),
            (
                "docs/**/*.md",
                &["docs/a.md", "docs/x/a.md", "docs/x/y/a.md"],
                &["a.md", "x/docs/a.md"],
            ),
            ("**/name", &["name", "a/name", "a/b/name"], &["name/x"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b/a"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
            ("a**/b", &["a/b", "axx/b"], &["a/x/b"]),
            ("{a,b}/**/*.x", &["a/1.x", "b/c/d/1.x"], &["c/1.x"]),
            ("x{1,2{a,b}}", &["x1", "x2a", "x2b"], &["x2"]),
            ("./x", &["x"], &["a/x"]),
            ("[a-c]?", &["ab", "cé"], &["d1", "a"]),
            ("[!a]b", &["bb"], &["ab"]),
            ("[]x]", &["]", "x"], &["y"]),
            ("[[:digit:]_]*", &["1a", "_"], &["a"]),
            ("\\*", &["*"], &["a"]),
            ("[{]", &["{"], &["["]),
            ("a*b*c", &["abc", "a--b--c"], &["ab"]),
        ] {
            for path in yes {
                assert!(fits(pattern, path), "{pattern} should match {path}");
            }
            for path in no {
                assert!(!fits(pattern, path), "{pattern} should not match {path}");
            }
        }
        for wrong in ["[", "{a", "a}", "a\\", "[[:nope:]]", "a[/]b"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::new(&"{a,b}".repeat(12)).is_err());
    }
}
