//! Program text: what of it is a literal or a comment, and what is code. In code a secret is a literal;
//! an identifier, a call, a type or a constant never is one, whatever name stands before it.
//!
//! The scanner knows strings and comments and nothing else. Where it loses its way it says nothing, and
//! everything counts.

use std::ops::Range;

/// Longer text may be a part of a file, which begins anywhere.
const LONGEST: usize = 4 << 20;

/// How a language writes strings and comments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Language {
    /// What begins a comment up to the end of the line.
    line: &'static [&'static [u8]],
    /// `/* … */`
    block: bool,
    /// `'` encloses a string, else one character.
    single: bool,
    /// `"` may enclose several lines.
    across: bool,
    /// A backtick encloses several lines.
    backtick: bool,
    /// `"""` and, with `single`, `'''` enclose several lines.
    triple: bool,
    /// `r#"…"#` (Rust), `R"x(…)x"` (C++)
    raw: bool,
    /// `/…/` may be a regular expression.
    regex: bool,
}

const C: Language = Language {
    line: &[b"//"],
    block: true,
    single: false,
    across: false,
    backtick: false,
    triple: false,
    raw: true,
    regex: false,
};

/// Returns the language of a file, by its name; a header may have none.
pub(super) fn language(name: &[u8], text: &[u8]) -> Option<Language> {
    let name = name.to_ascii_lowercase();
    // A template of a header.
    let name = name.strip_suffix(b".in").unwrap_or(&name);
    let dot = name.iter().rposition(|b| *b == b'.');
    let Some(dot) = dot else {
        return is_header(text).then_some(C);
    };
    Some(match &name[dot + 1..] {
        b"c" | b"h" | b"cc" | b"cpp" | b"cxx" | b"hh" | b"hpp" | b"hxx" | b"tcc" | b"ipp"
        | b"inl" | b"cu" | b"m" | b"mm" | b"zig" => C,
        b"inc" | b"def" if is_header(text) => C,
        b"x" if text.starts_with(b"/*") || text.starts_with(b"%") => C,
        b"inc" | b"s" | b"asm" | b"td" => Language {
            line: &[b"//", b";", b"#"],
            ..C
        },
        b"rs" => Language { across: true, ..C },
        b"go" => Language {
            backtick: true,
            raw: false,
            ..C
        },
        b"java" | b"cs" | b"kt" | b"kts" | b"scala" | b"swift" => Language {
            triple: true,
            raw: false,
            ..C
        },
        b"js" | b"jsx" | b"mjs" | b"cjs" | b"ts" | b"tsx" | b"mts" | b"cts" => Language {
            single: true,
            backtick: true,
            raw: false,
            regex: true,
            ..C
        },
        b"dart" => Language {
            single: true,
            triple: true,
            raw: false,
            ..C
        },
        b"py" | b"pyi" => Language {
            line: &[b"#"],
            block: false,
            single: true,
            triple: true,
            raw: false,
            ..C
        },
        _ => return None,
    })
}

/// Returns true for the beginning of a C header.
fn is_header(text: &[u8]) -> bool {
    let head = &text[..text.len().min(16 * 1024)];
    head.split(|b| *b == b'\n').any(|line| {
        let words = [&b"#include "[..], b"#ifndef ", b"#define ", b"#pragma "];
        words.iter().any(|word| line.starts_with(word))
    })
}

/// What a place in program text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Code,
    Comment,
    Literal,
}

/// Where the literals and comments of a program are, in order.
pub(super) struct Map(Vec<(usize, Place)>);

impl Map {
    /// Reads program text; `None` if it is not certain what is what.
    pub(super) fn of(language: Language, text: &[u8]) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut reading = Reading {
            text,
            language,
            changes: vec![(0, Place::Code)],
            last: b'\n',
        };
        let mut at = 0;
        while at < text.len() {
            at = reading.step(at)?;
        }
        Some(Self(reading.changes))
    }

    pub(super) fn at(&self, at: usize) -> Place {
        let number = self.0.partition_point(|(from, _)| *from <= at);
        self.0[number.saturating_sub(1)].1
    }
}

struct Reading<'t> {
    text: &'t [u8],
    language: Language,
    changes: Vec<(usize, Place)>,
    /// The last byte of code that is no space.
    last: u8,
}

impl Reading<'_> {
    fn rest(&self, at: usize) -> &[u8] {
        self.text.get(at..).unwrap_or_default()
    }

    fn note(&mut self, from: usize, to: usize, place: Place) -> usize {
        self.changes.push((from, place));
        self.changes.push((to, Place::Code));
        self.last = b'"';
        to
    }

    /// Reads what begins at `at`; returns where it ends.
    fn step(&mut self, at: usize) -> Option<usize> {
        let language = self.language;
        let rest = self.rest(at);
        if language.line.iter().any(|mark| rest.starts_with(mark)) {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |n| n + 1);
            let last = self.last;
            let end = self.note(at, at + end, Place::Comment);
            self.last = last;
            return Some(end);
        }
        if language.block && rest.starts_with(b"/*") {
            let end = memchr::memmem::find(&rest[2..], b"*/")? + 4;
            let last = self.last;
            let end = self.note(at, at + end, Place::Comment);
            self.last = last;
            return Some(end);
        }
        match rest[0] {
            b'"' if language.raw && self.raw_end(at).is_some() => {
                let end = self.raw_end(at)?;
                Some(self.note(at, end, Place::Literal))
            }
            b'"' if language.triple && rest.starts_with(b"\"\"\"") => self.tripled(at, b"\"\"\""),
            b'\'' if language.triple && language.single && rest.starts_with(b"'''") => {
                self.tripled(at, b"'''")
            }
            b'"' => self.quoted(at, b'"', language.across),
            b'\'' if language.single => self.quoted(at, b'\'', false),
            b'\'' => Some(self.character(at)),
            b'`' if language.backtick => self.quoted(at, b'`', true),
            b'/' if language.regex && self.begins_regex() => Some(self.regex(at)),
            byte => {
                if byte == b'\n' || !byte.is_ascii_whitespace() {
                    self.last = byte;
                }
                Some(at + 1)
            }
        }
    }

    /// Returns the end of a raw string whose first quote is at `at`.
    fn raw_end(&self, at: usize) -> Option<usize> {
        let before = &self.text[at.saturating_sub(20)..at];
        if before.ends_with(b"R") {
            let open = self.rest(at + 1).iter().take(18).position(|b| *b == b'(')?;
            let close = [b")", &self.rest(at + 1)[..open], b"\""].concat();
            let end = memchr::memmem::find(self.rest(at), &close)?;
            return Some(at + end + close.len());
        }
        let hashes = before.iter().rev().take_while(|b| **b == b'#').count();
        let head = &before[..before.len() - hashes];
        let word = head.iter().rev().take_while(|b| b.is_ascii_alphanumeric());
        let is_raw = head.ends_with(b"r") && word.count() <= 2;
        if !is_raw {
            return None;
        }
        let close = [&b"\""[..], &b"####################"[..hashes]].concat();
        let end = memchr::memmem::find(self.rest(at + 1), &close)?;
        Some(at + 1 + end + close.len())
    }

    fn tripled(&mut self, at: usize, quotes: &[u8]) -> Option<usize> {
        let mut end = at + 3;
        loop {
            let found = end + memchr::memmem::find(self.rest(end), quotes)?;
            let escaped = self.text[..found].iter().rev().take_while(|b| **b == b'\\');
            if escaped.count().is_multiple_of(2) {
                return Some(self.note(at, found + 3, Place::Literal));
            }
            end = found + 1;
        }
    }

    /// Reads a string. One that is not closed on its line is none, or goes on behind a backslash.
    fn quoted(&mut self, at: usize, quote: u8, across: bool) -> Option<usize> {
        let mut end = at + 1;
        while let Some(byte) = self.text.get(end) {
            match byte {
                b'\\' => end += 1,
                b'\n' if !across => return Some(self.note(at, end, Place::Literal)),
                byte if *byte == quote => return Some(self.note(at, end + 1, Place::Literal)),
                _ => {}
            }
            end += 1;
        }
        // Somewhere before, a quote was something else.
        if across {
            None
        } else {
            Some(self.note(at, self.text.len(), Place::Literal))
        }
    }

    /// Reads a character, or steps over the quote of something else (a lifetime, a number).
    fn character(&mut self, at: usize) -> usize {
        let rest = self.rest(at + 1);
        let length = match rest {
            [b'\\', _, more @ ..] => {
                let more = more.iter().take(10).position(|b| *b == b'\'');
                more.map(|n| n + 2)
            }
            [b'\'' | b'\n', ..] | [] => None,
            _ => rest
                .iter()
                .take(5)
                .position(|b| *b == b'\'')
                .filter(|n| *n == 1 || rest[..*n].iter().all(|b| !b.is_ascii())),
        };
        match length {
            Some(length) => self.note(at, at + length + 2, Place::Literal),
            None => at + 1,
        }
    }

    /// Returns true if a value may begin here, rather than a division.
    fn begins_regex(&self) -> bool {
        !(self.last.is_ascii_alphanumeric()
            || matches!(self.last, b'_' | b'$' | b')' | b']' | b'"'))
            || self.last == b'\n'
    }

    fn regex(&mut self, at: usize) -> usize {
        let mut in_class = false;
        let mut end = at + 1;
        while let Some(byte) = self.text.get(end) {
            match byte {
                b'\\' => end += 1,
                b'\n' => return at + 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => return self.note(at, end + 1, Place::Literal),
                _ => {}
            }
            end += 1;
        }
        at + 1
    }
}

/// Returns true for a long number, and for what has quotes around it that this language does not know:
/// the name of the file may be wrong.
pub(super) fn is_literal(text: &[u8], range: &Range<usize>) -> bool {
    let value = &text[range.clone()];
    let before = range.start.checked_sub(1).and_then(|at| text.get(at));
    let is_quoted = matches!(before, Some(b'"' | b'\'' | b'`')) && before == text.get(range.end);
    is_quoted || value.len() >= 20 && value[0].is_ascii_digit()
}

/// Returns true for text that is made like an identifier of several words: `NL80211_ATTR_COOKIE`.
pub(super) fn is_identifier(text: &[u8]) -> bool {
    let mut parts = 0;
    let is_part =
        |part: &[u8]| part.len() <= 16 && (part.len() <= 9 || !part.iter().any(u8::is_ascii_digit));
    let all = text.split(|b| *b == b'_').filter(|part| !part.is_empty());
    text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && !text.first().is_some_and(u8::is_ascii_digit)
        && all.inspect(|_| parts += 1).all(is_part)
        && parts >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str, text: &str, of: &str) -> Vec<Place> {
        let language = language(name.as_bytes(), text.as_bytes()).unwrap();
        let map = Map::of(language, text.as_bytes()).unwrap();
        text.match_indices(of).map(|(at, _)| map.at(at)).collect()
    }

    #[test]
    fn literals_comments_and_code_are_told_apart() {
        use Place::{Code, Comment, Literal};
        for (name, text, wanted) in [
            (
                "a.rs",
                "fn x<'a>(v: &'a str) { y(\"V \\\" V\"); } // V",
                vec![Literal, Literal, Comment],
            ),
            (
                "a.rs",
                "let v = r#\"V\" V\"#; V; '\"'; V; br\"V\\\"; V;\"\nV\nV\"; V",
                vec![
                    Literal, Literal, Code, Code, Literal, Code, Literal, Literal, Code,
                ],
            ),
            (
                "a.c",
                "char *a = \"V\"; /* V\nV */ b = V; c = '\"'; V 1'000; V",
                vec![Literal, Comment, Comment, Code, Code, Code],
            ),
            (
                "a.cpp",
                "auto s = R\"x(V)\" V)x\"; V",
                vec![Literal, Literal, Code],
            ),
            (
                "a.py",
                "a = 'V' # V\nb = \"\"\"V\nV\"\"\"\nV",
                vec![Literal, Comment, Literal, Literal, Code],
            ),
            (
                "a.js",
                "a = /[\"'`/]V/; b = `V\nV`; c = 4 / V / 2; d = 'V'; V",
                vec![Literal, Literal, Literal, Code, Literal, Code],
            ),
            (
                "a.go",
                "a := `V\n\"V`; V; b := 'V'",
                vec![Literal, Literal, Code, Literal],
            ),
            (
                "a.java",
                "s = \"\"\"\n V \"V\" V\"\"\"; V",
                vec![Literal, Literal, Literal, Code],
            ),
        ] {
            assert_eq!(places(name, text, "V"), wanted, "{text}");
        }
        for (name, text) in [
            ("a.js", "a = `never closed"),
            ("a.c", "/* never closed"),
            ("a.py", "'''"),
        ] {
            let language = language(name.as_bytes(), text.as_bytes()).unwrap();
            assert!(Map::of(language, text.as_bytes()).is_none(), "{text}");
        }
        assert!(language(b"a.txt", b"").is_none());
        assert!(language(b"vector", b"// -*- C++ -*-\n#include <x>\n").is_some());
    }

    #[test]
    fn identifiers_are_known_by_their_parts() {
        for yes in [
            "NL80211_ATTR_COOKIE",
            "PLAT_s390x_linux",
            "_bindgen_ty_24",
            "__have_neon_a32",
        ] {
            assert!(is_identifier(yes.as_bytes()), "{yes}");
        }
        for no in [
            "hunter2",
            "9_a_b",
            "a_4eC39HqLyjWDarjtT1zdp7dc",
            "with-dash_x",
            "a b_c",
        ] {
            assert!(!is_identifier(no.as_bytes()), "{no}");
        }
    }
}
