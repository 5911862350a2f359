//! Parses a line of the Windows command processor far enough to know which commands it runs on
//! which files.

use super::powershell::{as_path, written};
use super::{Assessment, Effect, MAX_DEPTH, MAX_LINE, Operand, Place, Surroundings, Word, command};

/// Assesses a line and applies its `cd`s to `place`.
pub(super) fn line(
    text: &str,
    place: &mut Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    if text.len() > MAX_LINE {
        return Assessment::unknown("the line is too long to read");
    }
    if depth > MAX_DEPTH {
        return Assessment::unknown("commands are nested too deeply to read");
    }
    let mut line = Line {
        place,
        around,
        depth,
        words: Vec::new(),
        word: None,
        redirect: None,
        result: Assessment::nothing(),
    };
    line.read(text);
    line.result
}

/// A line that is being read: the words of the current command, and what was found out so far.
struct Line<'a> {
    place: &'a mut Place,
    around: &'a Surroundings<'a>,
    depth: usize,
    words: Vec<Word>,
    /// The word that is not at its end yet.
    word: Option<Word>,
    /// The next word is the target of a redirection, which does this to it.
    redirect: Option<Effect>,
    result: Assessment,
}

impl Line<'_> {
    fn read(&mut self, text: &str) {
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    quoted = !quoted;
                    self.word.get_or_insert_with(Word::default);
                }
                '^' if !quoted => {
                    if let Some(escaped) = chars.next().filter(|c| !matches!(c, '\n' | '\r')) {
                        push(&mut self.word, escaped);
                    }
                }
                '%' | '!' => {
                    self.word.get_or_insert_with(Word::default).dynamic = true;
                    // It is replaced before the line is parsed, so its value may be a command.
                    let unknown = Assessment::unknown("a variable is replaced as text");
                    self.result.join(unknown);
                }
                '>' if !quoted => self.redirection(&mut chars),
                '&' | '|' | '(' | ')' | '\n' | '\r' if !quoted => self.separator(c),
                '<' if !quoted => self.end_word(),
                c if !quoted && (c.is_whitespace() || matches!(c, ',' | ';' | '=')) => {
                    self.end_word();
                }
                c => push(&mut self.word, c),
            }
        }
        if quoted {
            let unknown = Assessment::unknown("a quote is not closed");
            self.result.join(unknown);
        }
        self.end_word();
        self.end_statement();
    }

    /// Ends a word, and with it the target of a redirection.
    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match self.redirect.take() {
            Some(_) if word.bytes.eq_ignore_ascii_case(b"nul") => {}
            Some(effect) => self.result.join(written(&word, effect, self.place)),
            None => self.words.push(word),
        }
    }

    /// Reads what follows a `>`: the number before it is no word of the command, and `>&2` has no
    /// target that is written to.
    fn redirection(&mut self, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
        let is_number = |w: &Word| matches!(&w.bytes[..], b"1" | b"2");
        if self.word.as_ref().is_some_and(is_number) {
            self.word = None;
        }
        self.end_word();
        let append = chars.next_if_eq(&'>').is_some();
        if chars.next_if_eq(&'&').is_some() {
            chars.next_if(char::is_ascii_digit);
        } else {
            self.redirect = Some(if append {
                Effect::Write
            } else {
                Effect::Destructive
            });
        }
    }

    /// Ends a command, unless the bracket belongs to `for %f in (a b) do …` or `if x (…)`: then the
    /// words continue.
    fn separator(&mut self, c: char) {
        self.end_word();
        let opens = c == '(' && is_construct(&self.words) || c == ')' && is_for(&self.words);
        if !opens {
            self.redirect = None;
            self.end_statement();
        }
    }

    fn end_statement(&mut self) {
        let words = std::mem::take(&mut self.words);
        let found = statement(&words, self.place, self.around, self.depth);
        self.result.join(found);
    }
}

fn push(word: &mut Option<Word>, c: char) {
    let word = word.get_or_insert_with(Word::default);
    word.glob |= matches!(c, '*' | '?');
    let mut buffer = [0; 4];
    word.bytes
        .extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
}

fn name_of(words: &[Word]) -> Option<String> {
    let text = words.first()?.text()?;
    Some(text.trim_start_matches('@').to_lowercase())
}

fn is_for(words: &[Word]) -> bool {
    let over = words.iter().any(|w| w.bytes.eq_ignore_ascii_case(b"do"));
    name_of(words).as_deref() == Some("for") && !over
}

fn is_construct(words: &[Word]) -> bool {
    is_for(words) && !words.is_empty()
}

/// Assesses one statement: keywords first, because each governs another statement.
fn statement(
    words: &[Word],
    place: &mut Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let Some(first) = words.first() else {
        return Assessment::nothing();
    };
    let Some(name) = name_of(words) else {
        let reason = format!("`{}` is known only when it runs", first.shown());
        return with_paths(&reason, words, place);
    };
    let name = ["exe", "com"]
        .iter()
        .find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))
        .unwrap_or(&name);
    if let Some(found) = keyword(name, words, place, around, depth) {
        return found;
    }
    if READERS.contains(&name) {
        return Assessment {
            rule: "cmd.read".to_owned(),
            reason: format!("`{name}` only reads"),
            ..Assessment::nothing()
        };
    }
    let Some((rule, effect, named)) = built_in(name, &words[1..]) else {
        let mut plain = words.to_vec();
        plain[0].bytes = name.as_bytes().to_vec();
        return command::simple(&plain, place, around, depth);
    };
    let operands = named
        .iter()
        .filter_map(|word| place.operand(&as_path(word)?, false));
    let mut operands: Vec<Operand> = operands
        .map(|operand| Operand {
            itself: effect == Effect::Destructive,
            ..operand
        })
        .collect();
    if named.iter().any(|word| word.dynamic) {
        operands.extend(place.here());
    }
    let line = || words.iter().map(Word::shown).collect::<Vec<_>>().join(" ");
    Assessment {
        effect,
        operands,
        rule: rule.to_owned(),
        reason: match effect {
            Effect::Destructive => format!("`{name}` deletes or overwrites"),
            Effect::Remote => format!("`{name}` acts on a whole disk"),
            _ => format!("`{name}` writes"),
        },
        remote: (effect == Effect::Remote).then(line).into_iter().collect(),
        ..Assessment::nothing()
    }
}

fn is(word: &Word, text: &str) -> bool {
    word.bytes.eq_ignore_ascii_case(text.as_bytes())
}

/// Assesses a statement with a keyword; `None` if the word is the name of a program.
fn keyword(
    name: &str,
    words: &[Word],
    place: &mut Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Option<Assessment> {
    let rest = &words[1..];
    Some(match name {
        "rem" | "::" => Assessment::nothing(),
        "for" => match words.iter().position(|word| is(word, "do")) {
            Some(at) => statement(&words[at + 1..], &mut place.clone(), around, depth),
            None => Assessment::unknown("what a loop does cannot be told"),
        },
        "if" => {
            // `if [not] exist X …`, `errorlevel N`, `defined V`, `a==b`: `=` ends words.
            let mut at = usize::from(rest.first().is_some_and(|w| is(w, "/i")));
            at += usize::from(rest.get(at).is_some_and(|w| is(w, "not")));
            statement(rest.get(at + 2..).unwrap_or_default(), place, around, depth)
        }
        "else" | "call" => statement(rest, place, around, depth),
        "start" => {
            let is_program = |word: &Word| !word.bytes.starts_with(b"/") && !word.bytes.is_empty();
            let program = rest.iter().position(is_program);
            let rest = program.map_or(&[][..], |at| &rest[at..]);
            statement(rest, place, around, depth)
        }
        "cd" | "chdir" | "pushd" => {
            let to = rest.iter().find(|word| !word.bytes.starts_with(b"/"));
            if let Some(word) = to {
                place.cwd = as_path(word).and_then(|word| place.path(&word));
            }
            Assessment::nothing()
        }
        "popd" => {
            place.cwd = None;
            Assessment::nothing()
        }
        "cmd" => program(rest, place, around, depth),
        _ => return None,
    })
}

/// Returns the rule, the effect and the operands of a built-in command; `None` for programs, which
/// have the same rules in all shells.
fn built_in<'w>(name: &str, rest: &'w [Word]) -> Option<(&'static str, Effect, Vec<&'w Word>)> {
    let is_operand = |word: &&Word| !word.bytes.starts_with(b"/");
    let args: Vec<&Word> = rest.iter().filter(is_operand).collect();
    let has = |option: &str| rest.iter().any(|word| is(word, option));
    Some(match name {
        "del" | "erase" | "rd" | "rmdir" => ("cmd.del", Effect::Destructive, args),
        "move" | "ren" | "rename" => ("cmd.move", Effect::Destructive, args),
        "copy" | "xcopy" | "replace" => {
            let last = args.iter().skip(1).last().copied();
            ("cmd.copy", Effect::Destructive, last.into_iter().collect())
        }
        "sort" => {
            let to = rest.iter().skip_while(|word| !is(word, "/o")).nth(1);
            match to {
                None if !has("/o") => ("cmd.read", Effect::Read, Vec::new()),
                to => ("cmd.write", Effect::Destructive, to.into_iter().collect()),
            }
        }
        "robocopy" => {
            let moved = has("/mov") || has("/move");
            let named = args.iter().skip(usize::from(!moved)).take(2).copied();
            let named = named.take(1 + usize::from(moved)).collect();
            ("cmd.copy", Effect::Destructive, named)
        }
        "mkdir" | "md" | "attrib" | "icacls" | "mklink" => ("cmd.write", Effect::Write, args),
        "format" | "diskpart" | "cipher" => ("cmd.disk", Effect::Remote, Vec::new()),
        _ => return None,
    })
}

const READERS: &[&str] = &[
    "dir",
    "type",
    "echo",
    "echo.",
    "cls",
    "ver",
    "vol",
    "find",
    "findstr",
    "more",
    "where",
    "tree",
    "exit",
    "title",
    "pause",
    "timeout",
    "help",
    "hostname",
    "whoami",
    "tasklist",
    "systeminfo",
    "fc",
    "comp",
    "chcp",
    "color",
    "prompt",
    "setlocal",
    "endlocal",
    "shift",
    "goto",
    "set",
];

fn with_paths(reason: &str, words: &[Word], place: &Place) -> Assessment {
    let mut found = Assessment::unknown(reason);
    let named = words.iter().skip(1).filter_map(as_path);
    found
        .operands
        .extend(named.filter_map(|word| place.operand(&word, true)));
    found
}

/// `cmd /c …`, as the arguments of a program.
pub(super) fn program(
    rest: &[Word],
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let runs = |word: &Word| {
        let text = word.bytes.to_ascii_lowercase();
        text.starts_with(b"/c") || text.starts_with(b"/k") || text.starts_with(b"/r")
    };
    let Some(at) = rest.iter().position(runs) else {
        return with_paths("a command processor reads its input", rest, place);
    };
    let given = &rest[at..];
    if given.iter().any(|word| word.dynamic) {
        return with_paths("what it runs is known only when it runs", given, place);
    }
    let mut script = String::from_utf8_lossy(&given[0].bytes[2..]).into_owned();
    for word in &given[1..] {
        script.push(' ');
        script.push_str(&String::from_utf8_lossy(&word.bytes));
    }
    line(&script, &mut place.clone(), around, depth + 1)
}
