//! Reads program text byte by byte: which language writes strings and comments how.

use super::Place;

/// How a language writes strings and comments.
#[derive(Debug, Clone, Copy)]
pub(in crate::privacy) struct Language {
    /// What begins a comment up to the end of the line.
    pub(super) line: &'static [&'static [u8]],
    /// What begins a line that is all literal (Zig).
    pub(super) text_line: Option<&'static [u8]>,
    /// `/* … */`
    pub(super) block: bool,
    /// Block comments may be in block comments.
    pub(super) nested: bool,
    pub(super) single: Single,
    /// `"` may enclose several lines.
    pub(super) across: bool,
    pub(super) backtick: Backtick,
    pub(super) triple: Triple,
    pub(super) raw: Raw,
    /// `/…/` may be a regular expression.
    pub(super) regex: bool,
}

/// What `'` encloses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Single {
    String,
    /// One character, or whatever another language may mean by it, on one line.
    OnLine,
    /// One character; else it is a lifetime or the like.
    Character,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backtick {
    None,
    /// It encloses several lines as they stand.
    Raw,
    /// The same, with code in `${…}`.
    Template,
}

/// `"""` and, where `'` encloses strings, `'''`, across lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Triple {
    None,
    Escaped,
    /// A backslash is a backslash.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw {
    None,
    /// `r#"…"#`
    Rust,
    /// `R"x(…)x"`
    Cpp,
    /// `#"…"#`
    Swift,
    /// `@"…""…"`
    Verbatim,
}

impl Language {
    /// Returns the bytes with which something may begin that is no code, or a hole end.
    fn begins(&self) -> [bool; 256] {
        let mut begins = [false; 256];
        let marks = self.line.iter().chain(&self.text_line);
        let firsts = marks.filter_map(|mark| mark.first().copied());
        for b in firsts.chain(*b"\"'`/{}") {
            begins[usize::from(b)] = true;
        }
        begins
    }
}

/// Returns true for a byte of code that counts as the last one before something.
fn is_seen(byte: u8) -> bool {
    byte == b'\n' || !byte.is_ascii_whitespace()
}

pub(super) struct Reading<'t> {
    text: &'t [u8],
    language: Language,
    pub(super) changes: Vec<(usize, Place)>,
    /// The last byte of code that is no space.
    last: u8,
    /// For each `${` that is open, how many braces are open in it.
    holes: Vec<usize>,
    /// What begins the text that is still open at the end.
    open: Vec<u8>,
    /// Something is open at the end that must not be, so a quote before was something else.
    pub(super) lost: bool,
}

impl<'t> Reading<'t> {
    pub(super) fn of(language: Language, text: &'t [u8]) -> Self {
        let mut reading = Self {
            text,
            language,
            changes: vec![(0, Place::Code)],
            last: b'\n',
            holes: Vec::new(),
            open: Vec::new(),
            lost: false,
        };
        let begins = language.begins();
        let mut at = 0;
        loop {
            at += reading.skip(at, &begins);
            if at >= text.len() {
                break;
            }
            at = reading.step(at);
        }
        reading.lost |= !reading.holes.is_empty();
        reading
    }

    /// Returns a text that leads to where this one ends: what follows reads the same behind it.
    pub(super) fn before_next(&self) -> Vec<u8> {
        let mut before = Vec::new();
        for braces in &self.holes {
            before.extend_from_slice(b"`${");
            before.extend(std::iter::repeat_n(b'{', *braces));
        }
        before.extend_from_slice(&self.open);
        before
    }

    fn rest(&self, at: usize) -> &'t [u8] {
        self.text.get(at..).unwrap_or_default()
    }

    fn note(&mut self, from: usize, to: usize, place: Place) -> usize {
        self.changes.push((from, place));
        self.changes.push((to, Place::Code));
        if place == Place::Literal {
            self.last = b'"';
        }
        to
    }

    /// Notes what is open at the end of the text.
    fn unclosed(&mut self, from: usize, opener: &[u8], place: Place, lost: bool) -> usize {
        self.open = opener.to_vec();
        self.lost |= lost;
        self.note(from, self.text.len(), place)
    }

    /// Passes code in which nothing begins; returns how long it is.
    fn skip(&mut self, at: usize, begins: &[bool; 256]) -> usize {
        let rest = self.rest(at);
        let next = rest.iter().position(|b| begins[usize::from(*b)]);
        let plain = &rest[..next.unwrap_or(rest.len())];
        if let Some(last) = plain.iter().rfind(|b| is_seen(**b)) {
            self.last = *last;
        }
        plain.len()
    }

    /// Reads what begins at `at`; returns where it ends.
    fn step(&mut self, at: usize) -> usize {
        let language = self.language;
        let rest = self.rest(at);
        if let Some(mark) = language.text_line.filter(|mark| rest.starts_with(mark)) {
            return self.rest_of_line(at, mark, Place::Literal);
        }
        if let Some(mark) = language.line.iter().find(|mark| rest.starts_with(mark)) {
            return self.rest_of_line(at, mark, Place::Comment);
        }
        if language.block && rest.starts_with(b"/*") {
            return self.block(at);
        }
        match rest[0] {
            b'"' => self.double(at),
            b'\'' => match language.single {
                Single::String if language.triple != Triple::None && rest.starts_with(b"'''") => {
                    self.tripled(at, b"'''")
                }
                Single::String => self.quoted(at, b'\'', false),
                Single::OnLine => self.on_line(at),
                Single::Character => self.character(at),
            },
            b'`' if language.backtick == Backtick::Template => self.template(at, at + 1),
            b'`' if language.backtick == Backtick::Raw => self.quoted_raw(at, b'`'),
            b'/' if language.regex && self.begins_regex(at) => self.regex(at),
            byte => self.code(at, byte),
        }
    }

    fn code(&mut self, at: usize, byte: u8) -> usize {
        match (byte, self.holes.last_mut()) {
            (b'{', Some(braces)) => *braces += 1,
            (b'}', Some(0)) => {
                self.holes.pop();
                return self.template(at, at + 1);
            }
            (b'}', Some(braces)) => *braces -= 1,
            _ => {}
        }
        if is_seen(byte) {
            self.last = byte;
        }
        at + 1
    }

    fn double(&mut self, at: usize) -> usize {
        let rest = self.rest(at);
        if let Some((end, opener)) = self.raw(at) {
            return match end {
                Some(end) => self.note(at, end, Place::Literal),
                None => self.unclosed(at, &opener, Place::Literal, true),
            };
        }
        if self.language.triple != Triple::None && rest.starts_with(b"\"\"\"") {
            return self.tripled(at, b"\"\"\"");
        }
        self.quoted(at, b'"', self.language.across)
    }

    /// Reads to the end of the line; in C a backslash there continues it.
    fn rest_of_line(&mut self, at: usize, mark: &[u8], place: Place) -> usize {
        let mut end = at;
        loop {
            let Some(found) = memchr::memchr(b'\n', self.rest(end)) else {
                return self.unclosed(at, mark, place, false);
            };
            end += found + 1;
            let line = self.text[at..end - 1].trim_ascii_end();
            if self.language.raw != Raw::Cpp || mark != b"//" || !line.ends_with(b"\\") {
                return self.note(at, end, place);
            }
        }
    }

    fn block(&mut self, at: usize) -> usize {
        let (mut end, mut depth) = (at + 2, 1);
        while let Some(found) = memchr::memchr2(b'*', b'/', self.rest(end)) {
            end += found;
            let rest = self.rest(end);
            if rest.starts_with(b"*/") {
                (end, depth) = (end + 2, depth - 1);
                if depth == 0 {
                    return self.note(at, end, Place::Comment);
                }
            } else if self.language.nested && rest.starts_with(b"/*") {
                (end, depth) = (end + 2, depth + 1);
            } else {
                end += 1;
            }
        }
        let opener = b"/*".repeat(depth);
        self.unclosed(at, &opener, Place::Comment, true)
    }

    /// Returns the end of a raw string whose first quote is at `at`, and what begins it; `None` if it
    /// is none.
    fn raw(&self, at: usize) -> Option<(Option<usize>, Vec<u8>)> {
        let before = &self.text[at.saturating_sub(20)..at];
        let rest = self.rest(at + 1);
        let hashes = before.iter().rev().take_while(|b| **b == b'#').count();
        let close = |quotes: &[u8]| [quotes, &b"####################"[..hashes]].concat();
        let (opener, close) = match self.language.raw {
            Raw::None => return None,
            Raw::Cpp => {
                let open = rest.iter().take(18).position(|b| *b == b'(')?;
                if !before.ends_with(b"R") {
                    return None;
                }
                let mark = &rest[..open];
                let opener = [b"R\"", mark, b"("].concat();
                (opener, [b")", mark, b"\""].concat())
            }
            Raw::Rust => {
                let head = &before[..before.len() - hashes];
                let word = head.iter().rev().take_while(|b| b.is_ascii_alphanumeric());
                if !head.ends_with(b"r") || word.count() > 2 {
                    return None;
                }
                let opener = [&b"r"[..], &before[before.len() - hashes..], b"\""].concat();
                (opener, close(b"\""))
            }
            Raw::Swift if hashes > 0 => {
                let quotes: &[u8] = match rest.starts_with(b"\"\"") {
                    true => b"\"\"\"",
                    false => b"\"",
                };
                let opener = [&before[before.len() - hashes..], quotes].concat();
                (opener, close(quotes))
            }
            Raw::Swift => return None,
            Raw::Verbatim => {
                let is_verbatim = before.ends_with(b"@") || before.ends_with(b"@$");
                return is_verbatim.then(|| (self.verbatim_end(at + 1), b"@\"".to_vec()));
            }
        };
        let skipped = opener.len() - opener.iter().position(|b| *b == b'"').unwrap_or(0) - 1;
        let found = memchr::memmem::find(rest.get(skipped..).unwrap_or_default(), &close);
        let end = found.map(|end| at + 1 + skipped + end + close.len());
        Some((end, opener))
    }

    /// Two quotes are one.
    fn verbatim_end(&self, mut at: usize) -> Option<usize> {
        loop {
            at += memchr::memchr(b'"', self.rest(at))? + 1;
            if self.text.get(at) != Some(&b'"') {
                return Some(at);
            }
            at += 1;
        }
    }

    fn tripled(&mut self, at: usize, quotes: &[u8]) -> usize {
        let mut end = at + 3;
        while let Some(found) = memchr::memmem::find(self.rest(end), quotes) {
            let found = end + found;
            let escaped = self.text[at + 3..found].iter().rev();
            let escaped = escaped.take_while(|b| **b == b'\\').count();
            if self.language.triple == Triple::Raw || escaped.is_multiple_of(2) {
                return self.note(at, found + 3, Place::Literal);
            }
            end = found + 1;
        }
        self.unclosed(at, quotes, Place::Literal, true)
    }

    fn quoted_raw(&mut self, at: usize, quote: u8) -> usize {
        match memchr::memchr(quote, self.rest(at + 1)) {
            Some(end) => self.note(at, at + end + 2, Place::Literal),
            None => self.unclosed(at, &[quote], Place::Literal, true),
        }
    }

    /// Reads a string. One that is not closed on its line is none, or goes on behind a backslash.
    fn quoted(&mut self, at: usize, quote: u8, across: bool) -> usize {
        let mut end = at + 1;
        while let Some(byte) = self.text.get(end) {
            match byte {
                b'\\' => end += 1,
                b'\n' if !across => return self.note(at, end, Place::Literal),
                byte if *byte == quote => return self.note(at, end + 1, Place::Literal),
                _ => {}
            }
            end += 1;
        }
        self.unclosed(at, &[quote], Place::Literal, across)
    }

    /// Reads a template, or its rest behind `}`, up to its end or its next `${`.
    fn template(&mut self, at: usize, from: usize) -> usize {
        let mut end = from;
        while let Some(byte) = self.text.get(end) {
            match byte {
                b'\\' => end += 1,
                b'`' => return self.note(at, end + 1, Place::Literal),
                b'$' if self.text.get(end + 1) == Some(&b'{') => {
                    self.holes.push(0);
                    self.note(at, end + 2, Place::Literal);
                    self.last = b'{';
                    return end + 2;
                }
                _ => {}
            }
            end += 1;
        }
        self.unclosed(at, b"`", Place::Literal, true)
    }

    /// Reads what `'` encloses on this line, if it encloses anything.
    fn on_line(&mut self, at: usize) -> usize {
        // A separator in a number.
        if at > 0 && self.text[at - 1].is_ascii_digit() {
            return at + 1;
        }
        let mut end = at + 1;
        while let Some(byte) = self.text.get(end) {
            match byte {
                b'\\' => end += 1,
                b'\n' => break,
                b'\'' => return self.note(at, end + 1, Place::Literal),
                _ => {}
            }
            end += 1;
        }
        at + 1
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
    fn begins_regex(&self, at: usize) -> bool {
        const BEFORE: [&[u8]; 10] = [
            b"return", b"typeof", b"case", b"in", b"of", b"delete", b"void", b"throw", b"else",
            b"await",
        ];
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$');
        if is_word(&self.last) {
            let before = self.text[at.saturating_sub(24)..at].trim_ascii_end();
            let from = before
                .iter()
                .rposition(|b| !is_word(b))
                .map_or(0, |n| n + 1);
            return BEFORE.contains(&&before[from..]);
        }
        !matches!(self.last, b')' | b']' | b'"')
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
