//! Parses a line of PowerShell far enough to know which commands it runs on which files.
//!
//! Everything in parentheses, subexpressions and script blocks counts as if it ran. Values known
//! only at run time are dynamic words. Methods of .NET, and anything else that we do not
//! understand, are unknown.

use super::{Assessment, Effect, MAX_DEPTH, MAX_LINE, Operand, Place, Surroundings, Word, command};

mod cmdlets;

use cmdlets::{ALIASES, READERS, READING, READING_VERBS, cmdlet, read, sorted};

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
    let mut reader = Reader {
        chars: text.char_indices().peekable(),
        text,
        place,
        around,
        depth,
        result: Assessment::nothing(),
        words: Vec::new(),
        word: None,
        redirect: None,
        called: false,
        expression: false,
        method: false,
        outward: false,
    };
    reader.read();
    reader.result
}

struct Reader<'a> {
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    text: &'a str,
    place: &'a mut Place,
    around: &'a Surroundings<'a>,
    depth: usize,
    result: Assessment,
    /// Words of the statement being read.
    words: Vec<Word>,
    word: Option<Word>,
    /// The next word is the target of a redirection.
    redirect: Option<Effect>,
    /// The statement begins with `&`, so a variable names the program.
    called: bool,
    /// The statement begins with a value, not with a command.
    expression: bool,
    /// It calls a method of that value.
    method: bool,
    /// It has a variable that others see: `$env:PATH`.
    outward: bool,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some((at, c)) = self.chars.next() {
            let next = self.chars.peek().map(|(_, c)| *c);
            if matches!(c, '$' | '(') {
                self.expression |= !self.called && self.word.is_none() && self.words.is_empty();
                let of_value = self.word.as_ref().is_some_and(|w| w.bytes.contains(&b'.'));
                self.method |= c == '(' && of_value;
            }
            match (c, next) {
                ('\n' | '\r' | ';' | '|', _) => self.end_statement(),
                ('&', _) => {
                    self.end_statement();
                    self.called = true;
                }
                (c, _) if c.is_whitespace() => self.end_word(),
                ('#', _) if self.word.is_none() => {
                    while self.chars.next_if(|(_, c)| *c != '\n').is_some() {}
                }
                ('<', Some('#')) => self.skip_past("#>"),
                ('`', Some('\n' | '\r')) => drop(self.chars.next()),
                ('`', Some(_)) => {
                    let escaped = self.chars.next().map(|(_, c)| c);
                    self.push(escaped.unwrap_or('`'));
                }
                ('@', Some(quote @ ('\'' | '"'))) if self.word.is_none() => {
                    self.here_string(quote);
                }
                ('\'' | '\u{2018}' | '\u{2019}', _) => self.single_quoted(),
                ('"' | '\u{201c}' | '\u{201d}', _) => self.double_quoted(),
                ('@', Some('(' | '{')) => {}
                ('$', Some('(')) => {
                    self.current().dynamic = true;
                }
                ('$', _) => self.variable(),
                ('(', _) => {
                    self.nested(at, ')');
                    self.current().dynamic = true;
                }
                ('{', _) => {
                    self.end_word();
                    self.nested(at, '}');
                    // Whatever follows the block of a construct is a statement of its own.
                    let first = self
                        .words
                        .first()
                        .and_then(Word::text)
                        .map(str::to_lowercase);
                    let ends = first.is_none_or(|f| f == "foreach" || KEYWORDS.contains(&&*f));
                    if ends {
                        self.end_statement();
                    }
                }
                (')' | '}', _) => self.end_statement(),
                (',', _) => self.end_word(),
                ('>', _) => self.redirected(),
                (c, _) => self.push(c),
            }
        }
        self.end_statement();
    }

    fn current(&mut self) -> &mut Word {
        self.word.get_or_insert_with(Word::default)
    }

    fn push(&mut self, c: char) {
        let word = self.current();
        word.glob |= matches!(c, '*' | '?');
        let mut buffer = [0; 4];
        word.bytes
            .extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    }

    fn skip_past(&mut self, end: &str) {
        let at = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        let rest = self.text.get(at..).unwrap_or_default();
        let stop = rest
            .find(end)
            .map_or(self.text.len(), |n| at + n + end.len());
        while self.chars.next_if(|(at, _)| *at < stop).is_some() {}
    }

    fn single_quoted(&mut self) {
        self.current();
        while let Some((_, c)) = self.chars.next() {
            let is_quote = |c: char| matches!(c, '\'' | '\u{2018}' | '\u{2019}');
            if is_quote(c) && self.chars.next_if(|(_, c)| is_quote(*c)).is_none() {
                return;
            }
            self.push(c);
        }
        self.unclosed();
    }

    fn double_quoted(&mut self) {
        self.current();
        while let Some((at, c)) = self.chars.next() {
            let is_quote = |c: char| matches!(c, '"' | '\u{201c}' | '\u{201d}');
            match c {
                '`' => {
                    let escaped = self.chars.next().map(|(_, c)| c);
                    self.push(escaped.unwrap_or('`'));
                }
                '$' if self.chars.peek().is_some_and(|(_, c)| *c == '(') => {
                    self.chars.next();
                    self.nested(at + 1, ')');
                    self.current().dynamic = true;
                }
                '$' => self.variable(),
                c if is_quote(c) => {
                    if self.chars.next_if(|(_, c)| is_quote(*c)).is_none() {
                        return;
                    }
                    self.push(c);
                }
                c => self.push(c),
            }
        }
        self.unclosed();
    }

    fn unclosed(&mut self) {
        self.result
            .join(Assessment::unknown("a quote is not closed"));
    }

    /// `@'…'@`: from the next line to a line that begins with the terminator.
    fn here_string(&mut self, quote: char) {
        let end = format!("\n{quote}@");
        let from = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        let body = self.text.get(from..).unwrap_or_default();
        let body = body.split(&end[..]).next().unwrap_or_default();
        if quote == '"' && body.contains("$(") {
            self.result
                .join(Assessment::unknown("a here-string runs commands"));
        }
        self.skip_past(&end);
        self.current().dynamic = true;
    }

    /// `$name`, `${name}`, `$env:NAME`.
    fn variable(&mut self) {
        let mut name = String::new();
        if self.chars.next_if(|(_, c)| *c == '{').is_some() {
            while let Some((_, c)) = self.chars.next_if(|(_, c)| *c != '}') {
                name.push(c);
            }
            self.chars.next();
        } else {
            let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '?');
            while let Some((_, c)) = self.chars.next_if(|(_, c)| of_name(*c)) {
                name.push(c);
            }
        }
        self.outward |= name.contains(':');
        let known = match name.to_lowercase().as_str() {
            "home" | "env:userprofile" | "env:home" => self.around.home.map(Into::into),
            "pwd" => self.place.cwd.clone(),
            "null" => Some("NUL".into()),
            _ => None,
        };
        let word = self.word.get_or_insert_with(Word::default);
        match known {
            Some(path) => {
                let bytes = crate::base::path::os_to_bytes(path.as_os_str());
                word.bytes.extend_from_slice(&bytes);
            }
            None => word.dynamic = true,
        }
        if name.is_empty() {
            // `$(`, `$$`, `$?` and the like.
            word.dynamic = true;
        }
    }

    /// Assesses what is between brackets; `at` is the position of the opening one, which was read
    /// already.
    fn nested(&mut self, at: usize, close: char) {
        let open = if close == ')' { '(' } else { '{' };
        let mut level = 1;
        let mut quote = None;
        let mut end = self.text.len();
        let mut last = ' ';
        while let Some((at, c)) = self.chars.next() {
            let before = std::mem::replace(&mut last, c);
            let next = self.chars.peek().map(|(_, c)| *c);
            let begins = before.is_whitespace() || matches!(before, '{' | '(' | ';' | '|' | '&');
            match (quote, c) {
                (Some('"') | None, '`') => drop(self.chars.next()),
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '#') if begins => while self.chars.next_if(|(_, c)| *c != '\n').is_some() {},
                (None, '<') if next == Some('#') => self.skip_past("#>"),
                (None, '@') if matches!(next, Some('\'' | '"')) && begins => {
                    self.skip_past(&format!("\n{}@", next.unwrap_or('"')));
                }
                (None, '\'' | '"') => quote = Some(c),
                (None, c) if c == open => level += 1,
                (None, c) if c == close => {
                    level -= 1;
                    if level == 0 {
                        end = at;
                        break;
                    }
                }
                _ => {}
            }
        }
        if level > 0 {
            self.result
                .join(Assessment::unknown("a bracket is not closed"));
        }
        let inner = self.text.get(at + 1..end).unwrap_or_default();
        let found = line(inner, &mut self.place.clone(), self.around, self.depth + 1);
        self.result.join(found);
    }

    /// `>`, `>>`; a number or `*` before it selects the stream.
    fn redirected(&mut self) {
        let stream = |word: &Word| {
            matches!(
                &word.bytes[..],
                b"1" | b"2" | b"3" | b"4" | b"5" | b"6" | b"*"
            )
        };
        if self.word.as_ref().is_some_and(stream) {
            self.word = None;
        }
        self.end_word();
        let append = self.chars.next_if(|(_, c)| *c == '>').is_some();
        if self.chars.next_if(|(_, c)| *c == '&').is_some() {
            // `2>&1`
            self.chars.next_if(|(_, c)| c.is_ascii_digit());
            return;
        }
        self.redirect = Some(if append {
            Effect::Write
        } else {
            Effect::Destructive
        });
    }

    fn end_word(&mut self) {
        let Some(mut word) = self.word.take() else {
            return;
        };
        if word.bytes.first() == Some(&b'~')
            && matches!(word.bytes.get(1), None | Some(b'/' | b'\\'))
        {
            match self.around.home {
                Some(home) => {
                    let home = crate::base::path::os_to_bytes(home.as_os_str());
                    word.bytes.splice(..1, home.iter().copied());
                }
                None => word.dynamic = true,
            }
        }
        match self.redirect.take() {
            Some(_) if word.bytes.eq_ignore_ascii_case(b"NUL") => {}
            Some(effect) => {
                let found = written(&word, effect, self.place);
                self.result.join(found);
            }
            None => self.words.push(word),
        }
    }

    fn end_statement(&mut self) {
        self.end_word();
        self.redirect = None;
        let words = std::mem::take(&mut self.words);
        let (expression, method, outward) = (self.expression, self.method, self.outward);
        (self.called, self.expression) = (false, false);
        (self.method, self.outward) = (false, false);
        let assigns = words.get(1).is_some_and(|word| is_assignment(&word.bytes));
        // `$file.IsReadOnly = …`, `$env:PATH = …`
        if assigns && (outward || !words[0].bytes.is_empty()) {
            let reason = "an assignment may change what others see";
            self.result.join(with_paths(reason, &words, self.place));
        }
        if method {
            let unknown = with_paths("a method may do anything", &words, self.place);
            self.result.join(unknown);
        }
        if expression && !assigns {
            // The expression for the value was checked already.
            return;
        }
        let found = statement(&words, self.place, self.around, self.depth);
        self.result.join(found);
    }
}

/// Returns a word as a path, if this system has such paths.
pub(super) fn as_path(word: &Word) -> Option<Word> {
    if cfg!(windows) {
        return Some(word.clone());
    }
    // Drives do not exist here: `C:`, `HKLM:`.
    let letters = word.bytes.iter().take_while(|b| b.is_ascii_alphabetic());
    let drive = word.bytes.get(letters.count().max(1)) == Some(&b':');
    let mut word = word.clone();
    for byte in &mut word.bytes {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    (!drive).then_some(word)
}

/// Returns the effect of writing to a file.
pub(super) fn written(word: &Word, effect: Effect, place: &Place) -> Assessment {
    let operand = as_path(word).and_then(|word| place.operand(&word, true));
    Assessment {
        effect,
        operands: operand
            .into_iter()
            .map(|operand| Operand {
                itself: true,
                ..operand
            })
            .collect(),
        rule: "sh.redirect".to_owned(),
        reason: format!("the output goes to `{}`", word.shown()),
        ..Assessment::nothing()
    }
}

/// Keywords of constructs, whose content was checked or follows.
const KEYWORDS: &[&str] = &[
    "if", "else", "elseif", "while", "for", "do", "until", "try", "catch", "finally", "switch",
    "function", "filter", "begin", "process", "end", "param", "return", "throw", "trap", "break",
    "continue", "in",
];

fn statement(
    words: &[Word],
    place: &mut Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let Some(first) = words.first() else {
        return Assessment::nothing();
    };
    // `$x = …`, and `. script`, `& program`.
    if words.get(1).is_some_and(|word| is_assignment(&word.bytes)) {
        return statement(&words[2..], place, around, depth);
    }
    let Some(text) = first.text() else {
        if words.len() == 1 && first.bytes.is_empty() {
            // A value: its expression was checked already.
            return Assessment::nothing();
        }
        return with_paths("a command is known only when it runs", words, place);
    };
    if text == "." && words.len() > 1 {
        return with_paths("a script is read in", words, place);
    }
    let lower = text.to_lowercase();
    if KEYWORDS.contains(&lower.as_str()) {
        return statement(&words[1..], place, around, depth);
    }
    if lower.starts_with('[') || lower.contains("]::") {
        return with_paths("a method of .NET may do anything", words, place);
    }
    if lower.parse::<f64>().is_ok() {
        return Assessment::nothing();
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
    let name = alias.map_or(lower.as_str(), |(_, name)| name);
    let rest = &words[1..];
    if READERS.contains(&name) {
        return read(text);
    }
    let is_output = |word: &Word| word.bytes.starts_with(b"-o");
    if lower == "sort" && rest.iter().any(is_output) {
        // Where this is not an alias but the program.
        return command::simple(words, place, around, depth);
    }
    match name {
        "set-location" | "push-location" => {
            place.cwd = match sorted(rest).paths.first() {
                Some(word) => as_path(word).and_then(|word| place.path(&word)),
                None => around.home.map(Into::into),
            };
            return read(text);
        }
        "pop-location" => {
            place.cwd = None;
            return read(text);
        }
        "invoke-expression" | "invoke-command" => {
            return with_paths("what it runs is known only when it runs", words, place);
        }
        "start-process" => return started(rest, place, around, depth),
        _ => {}
    }
    if let Some(found) = cmdlet(name, text, rest, place) {
        return found;
    }
    let verb = name.split_once('-').map(|(verb, _)| verb);
    if name == "foreach-object" && sorted(rest).calls_a_member() {
        return with_paths("a method may do anything", words, place);
    }
    if READING.contains(&name) || verb.is_some_and(|verb| READING_VERBS.contains(&verb)) {
        return read(text);
    }
    if verb.is_some() && !text.contains(['.', '/', '\\']) {
        return with_paths("nothing is known about this cmdlet", words, place);
    }
    // A program like in any shell.
    let mut plain = words.to_vec();
    plain[0].bytes = lower.into_bytes();
    command::simple(&plain, place, around, depth)
}

fn is_assignment(bytes: &[u8]) -> bool {
    matches!(bytes, b"=" | b"+=" | b"-=" | b"*=")
}

fn with_paths(reason: &str, words: &[Word], place: &Place) -> Assessment {
    let mut found = Assessment::unknown(reason);
    let may_be_path = |word: &&Word| !word.bytes.starts_with(b"-") && !is_assignment(&word.bytes);
    let named = words.iter().skip(1).filter(may_be_path);
    let named = named.filter_map(as_path);
    found
        .operands
        .extend(named.filter_map(|word| place.operand(&word, true)));
    found
}

/// `Start-Process PROGRAM -ArgumentList a, b`.
fn started(rest: &[Word], place: &Place, around: &Surroundings<'_>, depth: usize) -> Assessment {
    let mut words = Vec::new();
    let mut given = rest.iter();
    while let Some(word) = given.next() {
        match word.text().map(str::to_lowercase).as_deref() {
            Some("-filepath" | "-argumentlist" | "-args") => {}
            Some(text) if text.starts_with("-wa") || text.starts_with("-no") => {}
            Some("-verb" | "-workingdirectory" | "-windowstyle") => drop(given.next()),
            _ => words.push(word.clone()),
        }
    }
    command::simple(&words, place, around, depth + 1)
}

/// `powershell -Command …`, as the arguments of a program.
pub(super) fn program(
    rest: &[Word],
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let mut args = rest.iter();
    while let Some(word) = args.next() {
        let Some(text) = word.text().map(str::to_lowercase) else {
            break;
        };
        let is = |full: &str| text.len() > 1 && full.starts_with(text.as_str());
        if is("-command") || is("/command") {
            let words: Vec<&Word> = args.collect();
            if words.iter().any(|word| word.dynamic) {
                break;
            }
            let script: Vec<_> = words
                .iter()
                .map(|w| String::from_utf8_lossy(&w.bytes))
                .collect();
            return line(&script.join(" "), &mut place.clone(), around, depth + 1);
        }
        if text == "-ec" || is("-encodedcommand") && text.len() > 2 {
            return Assessment::unknown("the command is encoded");
        }
        if is("-file") || !text.starts_with('-') {
            break;
        }
        if is("-executionpolicy") || text == "-ep" || is("-workingdirectory") || is("-version") {
            args.next();
        }
    }
    with_paths("a script is run", rest, place)
}
