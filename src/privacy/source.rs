//! Program text: what of it is a literal or a comment, and what is code. In code a secret is a literal;
//! an identifier, a call, a type or a constant never is one, whatever name stands before it.
//!
//! The reader knows strings and comments and nothing else. Where it loses its way, and where a file is
//! not what its name says, everything counts.

use std::ops::Range;

pub(super) use reading::Language;
use reading::{Backtick, Raw, Reading, Single, Triple};

mod reading;

const C: Language = Language {
    line: &[b"//"],
    text_line: None,
    block: true,
    nested: false,
    single: Single::OnLine,
    across: false,
    backtick: Backtick::None,
    triple: Triple::None,
    raw: Raw::Cpp,
    regex: false,
};

/// Returns the language of a file, by its name and its beginning; a header may have no suffix.
pub(super) fn language(name: &[u8], text: &[u8]) -> Option<Language> {
    let name = name.to_ascii_lowercase();
    // A template of a header.
    let name = name.strip_suffix(b".in").unwrap_or(&name);
    let dot = name.iter().rposition(|b| *b == b'.');
    let suffix = match dot {
        Some(dot) => &name[dot + 1..],
        None if is_header(text) => b"h",
        None => return None,
    };
    by_suffix(suffix, text).filter(|_| is_program(text))
}

fn by_suffix(suffix: &[u8], text: &[u8]) -> Option<Language> {
    let nested = Language { nested: true, ..C };
    Some(match suffix {
        b"m" if !is_header(text) => return None,
        b"c" | b"h" | b"cc" | b"cpp" | b"cxx" | b"hh" | b"hpp" | b"hxx" | b"tcc" | b"ipp"
        | b"inl" | b"cu" | b"m" | b"mm" => C,
        b"zig" => Language {
            text_line: Some(b"\\\\"),
            block: false,
            raw: Raw::None,
            ..C
        },
        b"inc" | b"def" if is_header(text) => C,
        b"x" if text.starts_with(b"/*") || text.starts_with(b"%") => C,
        b"inc" | b"s" | b"asm" | b"td" => Language {
            line: &[b"//", b";", b"#"],
            ..C
        },
        b"rs" => Language {
            single: Single::Character,
            across: true,
            raw: Raw::Rust,
            ..nested
        },
        b"go" => Language {
            backtick: Backtick::Raw,
            raw: Raw::None,
            ..C
        },
        b"java" => Language {
            triple: Triple::Escaped,
            raw: Raw::None,
            ..C
        },
        b"cs" => Language {
            triple: Triple::Raw,
            raw: Raw::Verbatim,
            ..C
        },
        b"kt" | b"kts" | b"scala" => Language {
            triple: Triple::Raw,
            raw: Raw::None,
            ..nested
        },
        b"swift" => Language {
            triple: Triple::Escaped,
            raw: Raw::Swift,
            ..nested
        },
        // Qt's translations end in `.ts`, too.
        b"js" | b"jsx" | b"mjs" | b"cjs" | b"ts" | b"tsx" | b"mts" | b"cts"
            if !text.trim_ascii_start().starts_with(b"<") =>
        {
            Language {
                single: Single::String,
                backtick: Backtick::Template,
                raw: Raw::None,
                regex: true,
                ..C
            }
        }
        b"dart" => Language {
            single: Single::String,
            triple: Triple::Escaped,
            raw: Raw::None,
            ..nested
        },
        _ => return by_signs(suffix, text),
    })
}

/// The languages whose comments begin with `#` or `%`.
fn by_signs(suffix: &[u8], text: &[u8]) -> Option<Language> {
    let other = Language {
        block: false,
        raw: Raw::None,
        ..C
    };
    match suffix {
        b"py" | b"pyi" => Some(Language {
            line: &[b"#"],
            single: Single::String,
            triple: Triple::Escaped,
            ..other
        }),
        // `$"` is a character.
        b"erl" | b"hrl"
            if !text
                .windows(2)
                .any(|w| matches!(w, b"$\"" | b"$'" | b"$\\")) =>
        {
            Some(Language {
                line: &[b"%"],
                across: true,
                ..other
            })
        }
        _ => style_sheet(suffix),
    }
}

fn style_sheet(suffix: &[u8]) -> Option<Language> {
    let sheet = Language {
        line: &[],
        single: Single::String,
        raw: Raw::None,
        ..C
    };
    match suffix {
        b"css" => Some(sheet),
        b"scss" | b"less" => Some(Language {
            line: &[b"//"],
            ..sheet
        }),
        _ => None,
    }
}

/// Returns true for the beginning of a C header.
fn is_header(text: &[u8]) -> bool {
    let head = &text[..text.len().min(16 * 1024)];
    head.split(|b| *b == b'\n').any(|line| {
        let words = [
            &b"#include "[..],
            b"#ifndef ",
            b"#define ",
            b"#pragma ",
            b"#import ",
            b"@import ",
            b"@interface ",
            b"@implementation ",
        ];
        words.iter().any(|word| line.starts_with(word))
    })
}

/// Returns true for a file that has the name of a program and is none: then nothing in it is code.
pub(super) fn is_misnamed(name: &[u8], text: &[u8]) -> bool {
    let suffix = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    let suffix = suffix.to_ascii_lowercase();
    !is_program(text) && by_suffix(&suffix, text).is_some()
}

/// Returns false if most of the first lines are those of a log or of settings, whatever the name of the
/// file says.
fn is_program(text: &[u8]) -> bool {
    let head = &text[..text.len().min(4 * 1024)];
    let (mut foreign, mut all) = (0, 0);
    let mut rest = head;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"//") {
            continue;
        }
        all += 1;
        foreign += usize::from(is_logged(line) || is_setting(line));
    }
    foreign * 2 < all || all == 0
}

/// `2026-11-29 12:00:00 …`, `[2026-11-29T…`, `Nov 29 12:00:00 …`
fn is_logged(line: &[u8]) -> bool {
    const SHAPES: [&[u8]; 4] = [
        b"0000-00-00",
        b"0000/00/00",
        b"aaa 00 00:00",
        b"aaa  0 00:00",
    ];
    let line = line.strip_prefix(b"[").unwrap_or(line);
    let fits = |shape: &&[u8]| {
        let mut pairs = shape.iter().zip(line);
        shape.len() <= line.len()
            && pairs.all(|(shape, byte)| match shape {
                b'0' => byte.is_ascii_digit(),
                b'a' => byte.is_ascii_alphabetic(),
                other => byte == other,
            })
    };
    SHAPES.iter().any(fits)
}

/// `NAME=value`, without the spaces and the end that a statement has.
fn is_setting(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"export ").unwrap_or(line);
    let is_part = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    // Most lines begin with a small letter.
    if !line.first().is_some_and(is_part) {
        return false;
    }
    let Some(at) = memchr::memchr(b'=', line) else {
        return false;
    };
    let value = &line[at + 1..];
    at >= 2
        && line[..at].iter().all(is_part)
        && !value.is_empty()
        && !value.starts_with(b"=")
        && !value.starts_with(b" ")
        && !value.ends_with(b",")
        && !value.ends_with(b"\\")
        && !value.ends_with(b";")
        && !value.contains(&b'(')
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
        let reading = Reading::of(language, text);
        (!reading.lost).then_some(Self(reading.changes))
    }

    pub(super) fn at(&self, at: usize) -> Place {
        let number = self.0.partition_point(|(from, _)| *from <= at);
        self.0[number.saturating_sub(1)].1
    }
}

/// What has to be known of a program that is read in parts.
pub(super) struct Course {
    language: Language,
    /// A text that leads to where the next part begins.
    before: Vec<u8>,
    lost: bool,
}

impl Course {
    pub(super) fn new(language: Language) -> Self {
        Self {
            language,
            before: Vec::new(),
            lost: false,
        }
    }

    /// Reads the next part, which may end anywhere.
    pub(super) fn map(&self, part: &[u8]) -> Map {
        let text = [&self.before, part].concat();
        let reading = Reading::of(self.language, &text);
        let shift = self.before.len();
        let changes = reading.changes.into_iter();
        Map(changes
            .map(|(at, place)| (at.saturating_sub(shift), place))
            .collect())
    }

    /// Goes on behind `passed`.
    pub(super) fn pass(&mut self, passed: &[u8]) {
        let text = [&self.before, passed].concat();
        let reading = Reading::of(self.language, &text);
        self.lost = reading.lost;
        self.before = reading.before_next();
    }

    /// Returns true if the program cannot end here: somewhere before, a quote was something else.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }
}

/// Returns true for what stands in code and is none: a long number, what has quotes around it that
/// this language does not know (the name of the file may be wrong), text between tags, the value of a
/// line `NAME=value`, and whatever no identifier looks like.
pub(super) fn is_literal(text: &[u8], range: &Range<usize>) -> bool {
    let value = &text[range.clone()];
    let before = range.start.checked_sub(1).and_then(|at| text.get(at));
    let is_quoted = matches!(before, Some(b'"' | b'\'' | b'`')) && before == text.get(range.end);
    is_quoted
        || value.len() >= 20 && value[0].is_ascii_digit()
        || is_between_tags(text, range)
        || is_random(value) && is_setting(line_of(text, range.start))
}

/// Returns true for text with letters and digits mixed as no name has them.
fn is_random(value: &[u8]) -> bool {
    let turns = value.windows(2);
    let turns = turns.filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit());
    turns.count() >= 4
        || !value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn line_of(text: &[u8], at: usize) -> &[u8] {
    let from = memchr::memrchr(b'\n', &text[..at]).map_or(0, |n| n + 1);
    let to = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |n| at + n);
    text[from..to.min(from + 4096).max(from)].trim_ascii()
}

/// `<p>api key: q7Tz…</p>` in a component.
fn is_between_tags(text: &[u8], range: &Range<usize>) -> bool {
    let before = &text[range.start.saturating_sub(200)..range.start];
    let after = &text[range.end..(range.end + 200).min(text.len())];
    let opens = before
        .iter()
        .rev()
        .find(|b| matches!(b, b'>' | b'<' | b';' | b'\n'));
    let closes = after.iter().position(|b| matches!(b, b'<' | b'\n'));
    opens == Some(&b'>') && closes.is_some_and(|at| after[at..].starts_with(b"</"))
}

/// Returns true for text that is made like an identifier of several words: `NL80211_ATTR_COOKIE`.
pub(super) fn is_identifier(text: &[u8]) -> bool {
    let (mut parts, mut words) = (0, 0);
    let is_part =
        |part: &[u8]| part.len() <= 16 && (part.len() <= 9 || !part.iter().any(u8::is_ascii_digit));
    let count = |part: &&[u8]| {
        parts += 1;
        words += usize::from(part.len() >= 2 && part.iter().all(u8::is_ascii_alphabetic));
    };
    let all = text.split(|b| *b == b'_').filter(|part| !part.is_empty());
    let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
    text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && !text.first().is_some_and(u8::is_ascii_digit)
        && all.inspect(count).all(is_part)
        && parts >= 2
        && words >= 1
        && digits * 2 <= text.len()
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
                "a.js",
                "a = `${x ? `V` : \"V\"} V ${ {b: V} } V`; V",
                vec![Literal, Literal, Literal, Code, Literal, Code],
            ),
            (
                "a.ts",
                "return /[`'\"]/.test(V) && `V`; V",
                vec![Code, Literal, Code],
            ),
            ("a.rs", "/* a /* b */ V */ V", vec![Comment, Code]),
            (
                "a.cs",
                "a = @\"c:\\\"; V; b = @\"V\n \"\"V\"\" V\"; V",
                vec![Code, Literal, Literal, Literal, Code],
            ),
            (
                "a.kt",
                "a = \"\"\"c:\\\"\"\"; V; b = \"\"\"V\nV\"\"\"; V",
                vec![Code, Literal, Literal, Code],
            ),
            (
                "a.swift",
                "a = #\"V \"V\"#; V; b = \"V\"; V",
                vec![Literal, Literal, Code, Literal, Code],
            ),
            ("a.zig", "a =\n  \\\\ V \"\n  ;\nV", vec![Literal, Code]),
            ("a.c", "// V \\\n V\nV", vec![Comment, Comment, Code]),
            ("a.c", "a = 'V V'; V", vec![Literal, Literal, Code]),
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
        for (name, text) in [
            ("a.py", "PASSWORD=hunter2\nAPI_KEY=q7Tz4mPw9LrB2xYc\n"),
            (
                "a.h",
                "2026-11-29 12:00:00 password=hunter2 x\n2026-11-29 12:00:01 y\n",
            ),
            (
                "a.ts",
                "<?xml version=\"1.0\"?>\n<TS><source>V</source></TS>\n",
            ),
            ("a.m", "function x = y(z)\n% V\n"),
        ] {
            let language = language(name.as_bytes(), text.as_bytes());
            assert!(language.is_none(), "{name}: {text}");
        }
        assert!(language(b"a.txt", b"").is_none());
        assert!(language(b"vector", b"// -*- C++ -*-\n#include <x>\n").is_some());
    }

    /// A program reads the same in parts, wherever they end.
    #[test]
    fn a_program_reads_the_same_in_parts() {
        for (name, text) in [
            (
                "a.rs",
                "let a = r#\"V \" V\"#; /* V /* V */ V */ V; b = \"V\nV\"; // V\nV '\"' V",
            ),
            (
                "a.js",
                "a = `V ${ {b: `V ${V}`} } V`; V /* V */ b = 'V'; // V\nV\n",
            ),
            (
                "a.py",
                "a = \"\"\"V\nV\"\"\" V\nb = 'V' # V\nV\nc = '''V'''\nV\n",
            ),
            (
                "a.cpp",
                "a = R\"x(V)\" V)x\"; V; /* V\nV */ V; b = \"V\"; V\n",
            ),
            ("a.cs", "a = @\"V\n\"\"V\"\"\"; V; b = \"V\"; V\n"),
        ] {
            let language = language(name.as_bytes(), text.as_bytes()).unwrap();
            let whole = Map::of(language, text.as_bytes()).unwrap();
            for cut in 0..text.len() {
                // Not in the midst of what begins or ends something.
                if !text.as_bytes()[cut..].starts_with(b" ") && !text[..cut].ends_with('\n') {
                    continue;
                }
                let mut course = Course::new(language);
                course.pass(&text.as_bytes()[..cut]);
                let map = course.map(&text.as_bytes()[cut..]);
                for (at, _) in text.match_indices('V').filter(|(at, _)| *at >= cut) {
                    assert_eq!(map.at(at - cut), whole.at(at), "{name} cut at {cut}: {at}");
                }
                course.pass(&text.as_bytes()[cut..]);
                assert!(!course.is_lost(), "{name} cut at {cut}");
            }
        }
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
