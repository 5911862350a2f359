//! Expands words as the shell would: quotes, `~`, variables with known values, substitutions. What
//! is known only at run time makes a word dynamic; its beginning is kept.

use brush_parser::ast;
use brush_parser::word::{Parameter, ParameterExpr, TildeExpr, WordPiece, WordPieceWithSource};

use super::super::{Assessment, Place, Word};
use super::{Line, braces, line};

impl Line<'_> {
    /// Expands a word: several if it has `{a,b}` or `{1..3}`.
    pub(super) fn expanded(&mut self, word: &ast::Word, place: &Place) -> Vec<Word> {
        match braces::expand(&word.value, &self.options) {
            Some(texts) => texts.iter().map(|text| self.one(text, place)).collect(),
            None => vec![self.word(word, place)],
        }
    }

    pub(super) fn word(&mut self, word: &ast::Word, place: &Place) -> Word {
        let mut result = self.one(&word.value, place);
        // It expands to several words, or we cannot tell: this one word represents them all.
        if braces::may_expand(&word.value) {
            result.dynamic = true;
        }
        result
    }

    pub(super) fn one(&mut self, text: &str, place: &Place) -> Word {
        let mut result = self.read(text, place);
        if result.dynamic {
            text.clone_into(&mut result.written);
        }
        if result.dynamic && text.contains('$') && !place.vars.is_empty() {
            let count = place.vars.iter().map(|(_, values)| values.len()).max();
            let choices = (0..count.unwrap_or(0)).map(Some);
            result.likely = choices
                .map(|choice| {
                    self.choice = choice;
                    self.read(text, place)
                })
                .filter(|word| !word.dynamic)
                .collect();
            self.choice = None;
        }
        result
    }

    pub(super) fn read(&mut self, text: &str, place: &Place) -> Word {
        let mut result = Word::default();
        match brush_parser::word::parse(text, &self.options) {
            Ok(pieces) => self.pieces(&pieces, false, place, &mut result),
            Err(_) => result.dynamic = true,
        }
        if !result.glob {
            // Only patterns need to know what was quoted.
            result.bytes = unescaped(&result.bytes);
        }
        result
    }

    pub(super) fn pieces(
        &mut self,
        pieces: &[WordPieceWithSource],
        quoted: bool,
        place: &Place,
        word: &mut Word,
    ) {
        for piece in pieces {
            match &piece.piece {
                WordPiece::Text(text) if quoted => push_quoted(word, text),
                WordPiece::Text(text) => {
                    word.glob |= text.contains(['*', '?', '[']);
                    word.bytes.extend_from_slice(text.as_bytes());
                }
                WordPiece::SingleQuotedText(text) => push_quoted(word, text),
                WordPiece::AnsiCQuotedText(text) => match ansi_c(text) {
                    Some(text) => push_quoted(word, &text),
                    None => word.end_here(),
                },
                WordPiece::EscapeSequence(text) => {
                    push_quoted(word, text.strip_prefix('\\').unwrap_or(text));
                }
                WordPiece::DoubleQuotedSequence(inner)
                | WordPiece::GettextDoubleQuotedSequence(inner) => {
                    self.pieces(inner, true, place, word);
                }
                WordPiece::TildeExpansion(TildeExpr::Home) => self.home(word),
                WordPiece::TildeExpansion(_) => word.end_here(),
                WordPiece::ParameterExpansion(expr) => match plain(expr) {
                    Some("HOME") => self.home(word),
                    Some("PWD") if place.cwd.is_some() => {
                        let cwd = place.cwd.clone().unwrap_or_default();
                        word.bytes
                            .extend_from_slice(&crate::base::path::os_to_bytes(cwd.as_os_str()));
                    }
                    Some(name) => match self.chosen(name, place) {
                        Some(value) if value.glob => {
                            word.glob = true;
                            word.bytes.extend_from_slice(&value.bytes);
                        }
                        Some(value) => push_quoted(word, &String::from_utf8_lossy(&value.bytes)),
                        None => word.end_here(),
                    },
                    None => {
                        word.end_here();
                        // `${a:-$(rm x)}` runs commands too; its value is not examined further.
                        if format!("{expr:?}").contains(['$', '`']) {
                            self.result
                                .join(Assessment::unknown("an expansion may run commands"));
                        }
                    }
                },
                WordPiece::CommandSubstitution(text)
                | WordPiece::BackquotedCommandSubstitution(text) => {
                    word.end_here();
                    let inner = line(text, &mut place.clone(), self.around, self.depth + 1);
                    self.result.join(inner);
                }
                WordPiece::ArithmeticExpression(expression) => {
                    word.end_here();
                    self.text(&expression.value, place);
                }
            }
        }
    }

    /// Returns one of the values of a variable while probable words are computed.
    fn chosen<'a>(&self, name: &str, place: &'a Place) -> Option<&'a Word> {
        let values = place.values(name);
        values.get(self.choice? % values.len().max(1))
    }

    fn home(&self, word: &mut Word) {
        match self.around.home {
            Some(home) => {
                let home = crate::base::path::os_to_bytes(home.as_os_str());
                word.bytes.extend_from_slice(&home);
            }
            None => word.end_here(),
        }
    }
}

impl Word {
    /// Notes that the next part of it is known only at run time.
    fn end_here(&mut self) {
        if !self.dynamic {
            self.start = unescaped(&self.bytes);
        }
        self.dynamic = true;
    }
}

/// Returns the name of `$NAME` and `${NAME}`.
fn plain(expr: &ParameterExpr) -> Option<&str> {
    match expr {
        ParameterExpr::Parameter {
            parameter: Parameter::Named(name),
            indirect: false,
        } => Some(name),
        _ => None,
    }
}

/// Returns the value of `$'…'`, if we understand all of it.
fn ansi_c(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let kind = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + kind.len_utf8()..];
        let (radix, most) = match kind {
            'x' => (16, 2),
            'u' => (16, 4),
            'U' => (16, 8),
            '0'..='7' => (8, 2),
            _ => (0, 0),
        };
        let simple = match kind {
            'a' => '\x07',
            'b' => '\x08',
            'e' | 'E' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' | '\'' | '"' | '?' => kind,
            _ if radix > 0 => {
                let digits = rest.chars().take(most).take_while(|c| c.is_digit(radix));
                let length = digits.count();
                let (digits, after) = rest.split_at(length);
                rest = after;
                let digits = match radix {
                    8 => format!("{kind}{digits}"),
                    _ => digits.to_owned(),
                };
                let value = u32::from_str_radix(&digits, radix).ok()?;
                // A byte of a longer character, or the end of the text.
                let single = value < 0x80 || matches!(kind, 'u' | 'U');
                char::from_u32(value).filter(|c| single && *c != '\0')?
            }
            _ => return None,
        };
        out.push(simple);
    }
    out.push_str(rest);
    Some(out)
}

fn push_quoted(word: &mut Word, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
            word.bytes.push(b'\\');
        }
        word.bytes.push(byte);
    }
}

fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            other => out.push(*other),
        }
    }
    out
}
