//! Parses a line of a POSIX shell with brush-parser: every simple command in it, with its
//! redirections and the directory where it runs.
//!
//! All branches are joined, whether or not they would run. Here-documents are data, unless a shell
//! reads them.

use brush_parser::ast;
use brush_parser::{Parser, ParserOptions};

use super::{Assessment, Effect, MAX_DEPTH, MAX_LINE, Place, Surroundings, Word};
use super::{command, started};

mod braces;
mod words;

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
    // The parser recurses: do not pass it nesting that would overflow its stack.
    if nesting(text) > 64 {
        return Assessment::unknown("the line is nested too deeply to read");
    }
    // The parser (0.4.0) never finishes with a here-document whose delimiter is empty or a
    // substitution: it makes tokens until memory runs out.
    if has_odd_here_document(text) {
        return Assessment::unknown("a here-document without a plain delimiter cannot be read");
    }
    let options = ParserOptions::default();
    let mut parser = Parser::new(std::io::Cursor::new(text), &options);
    let Ok(program) = parser.parse_program() else {
        return Assessment {
            programs: started::in_text(text, around),
            ..Assessment::unknown("the line cannot be parsed")
        };
    };
    let mut line = Line {
        around,
        options,
        depth,
        result: Assessment::nothing(),
        choice: None,
    };
    for list in &program.complete_commands {
        line.list(list, place);
    }
    line.result
}

/// Returns true if any `<<` is not followed by a plain word. Something mistaken for a here-document
/// is covered all the same.
fn has_odd_here_document(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("<<") {
        rest = &rest[at + 2..];
        if let Some(string) = rest.strip_prefix('<') {
            // A here-string has no delimiter.
            rest = string;
            continue;
        }
        let word = rest
            .strip_prefix('-')
            .unwrap_or(rest)
            .trim_start_matches([' ', '\t']);
        let quote = word.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let word = match (quote, word.strip_prefix('\\')) {
            (Some(quote), _) => &word[quote.len_utf8()..],
            (None, Some(escaped)) => escaped,
            (None, None) => word,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:%+,@/!".contains(c);
        let end = word.find(|c| !plain(c)).unwrap_or(word.len());
        let after = word[end..].chars().next();
        let closed = match quote {
            Some(quote) => after == Some(quote),
            None => after.is_none_or(|c| c.is_ascii_whitespace() || ";|&)<>".contains(c)),
        };
        if end == 0 || !closed {
            return true;
        }
    }
    false
}

fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'{' | b'`' => open += 1,
            b')' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    let words = ["if ", "while ", "until ", "case ", "for "];
    most + words.iter().map(|w| text.matches(w).count()).sum::<usize>()
}

struct Line<'a> {
    around: &'a Surroundings<'a>,
    options: ParserOptions,
    depth: usize,
    result: Assessment,
    /// Which value each variable has while probable words are computed.
    choice: Option<usize>,
}

impl Line<'_> {
    fn list(&mut self, list: &ast::CompoundList, place: &mut Place) {
        for ast::CompoundListItem(and_or, separator) in &list.0 {
            // A background job has a directory of its own.
            let mut own = place.clone();
            let here = match separator {
                ast::SeparatorOperator::Async => {
                    self.result.detaches = true;
                    &mut own
                }
                ast::SeparatorOperator::Sequence => &mut *place,
            };
            self.pipeline(&and_or.first, here);
            for next in &and_or.additional {
                let (ast::AndOr::And(pipeline) | ast::AndOr::Or(pipeline)) = next;
                self.pipeline(pipeline, here);
            }
        }
    }

    fn pipeline(&mut self, pipeline: &ast::Pipeline, place: &mut Place) {
        if let [command] = &pipeline.seq[..] {
            return self.command(command, place);
        }
        let before = self.result.untold.len();
        let mut literal = false;
        for (at, command) in pipeline.seq.iter().enumerate() {
            // The text says what is piped, so check its words.
            literal |= at == 0 && self.prints_literals(command, place);
            self.command(command, &mut place.clone());
        }
        if literal {
            let from_input = |part: &String| {
                !["xargs", "parallel"]
                    .iter()
                    .any(|name| part.starts_with(name))
            };
            let mut at = 0;
            self.result.untold.retain(|part| {
                at += 1;
                at <= before || from_input(part)
            });
        }
    }

    /// Returns true for `echo` and `printf` with known words.
    fn prints_literals(&mut self, command: &ast::Command, place: &Place) -> bool {
        use ast::CommandPrefixOrSuffixItem as Item;
        let ast::Command::Simple(simple) = command else {
            return false;
        };
        let name = simple.word_or_name.as_ref().map(|word| &*word.value);
        let mut items = simple.suffix.iter().flat_map(|suffix| &suffix.0);
        matches!(name, Some("echo" | "printf"))
            && items.all(|item| match item {
                Item::Word(word) => !self.one(&word.value, place).dynamic,
                _ => true,
            })
    }

    fn command(&mut self, command: &ast::Command, place: &mut Place) {
        match command {
            ast::Command::Simple(simple) => self.simple(simple, place),
            ast::Command::Compound(compound, redirects) => {
                self.redirects(redirects.as_ref(), place);
                self.compound(compound, place);
            }
            // It may be called later, so treat it as called here.
            ast::Command::Function(function) => {
                let ast::FunctionBody(body, redirects) = &function.body;
                self.redirects(redirects.as_ref(), place);
                self.compound(body, &mut place.clone());
                // Its name hides a program.
                self.result
                    .join(Assessment::unknown("a function is defined"));
            }
            ast::Command::ExtendedTest(test, redirects) => {
                self.redirects(redirects.as_ref(), place);
                self.text(&format!("{}", test.expr), place);
            }
        }
    }

    fn compound(&mut self, compound: &ast::CompoundCommand, place: &mut Place) {
        use ast::CompoundCommand as C;
        match compound {
            C::Arithmetic(command) => self.text(&command.expr.value, place),
            C::ArithmeticForClause(command) => {
                let parts = [&command.initializer, &command.condition, &command.updater];
                for part in parts.into_iter().flatten() {
                    self.text(&part.value, place);
                }
                self.list(&command.body.list, place);
            }
            C::BraceGroup(group) => self.list(&group.list, place),
            C::Subshell(subshell) => self.list(&subshell.list, &mut place.clone()),
            C::ForClause(command) => {
                let words = command.values.iter().flatten();
                let values: Vec<Word> = words.flat_map(|w| self.expanded(w, place)).collect();
                place.set(
                    &command.variable_name,
                    values.into_iter().flat_map(known).collect(),
                );
                self.list(&command.body.list, place);
            }
            C::CaseClause(command) => {
                self.word(&command.value, place);
                for case in &command.cases {
                    if let Some(list) = &case.cmd {
                        self.list(list, place);
                    }
                }
            }
            C::IfClause(command) => {
                self.list(&command.condition, place);
                self.list(&command.then, place);
                for other in command.elses.iter().flatten() {
                    if let Some(condition) = &other.condition {
                        self.list(condition, place);
                    }
                    self.list(&other.body, place);
                }
            }
            C::WhileClause(command) | C::UntilClause(command) => {
                let ast::WhileOrUntilClauseCommand(condition, body, _) = command;
                self.list(condition, place);
                self.list(&body.list, place);
            }
            C::Coprocess(command) => {
                self.result.detaches = true;
                self.command(&command.body, &mut place.clone());
            }
        }
    }

    fn simple(&mut self, simple: &ast::SimpleCommand, place: &mut Place) {
        use ast::CommandPrefixOrSuffixItem as Item;
        let mut words = Vec::new();
        let mut harmless = true;
        let mut document = None;
        let prefix = simple.prefix.iter().flat_map(|p| &p.0);
        let suffix = simple.suffix.iter().flat_map(|s| &s.0);
        for item in prefix {
            match item {
                Item::AssignmentWord(assignment, word) => {
                    self.word(word, place);
                    self.assign(assignment, simple.word_or_name.is_none(), place);
                    let name = match &assignment.name {
                        ast::AssignmentName::VariableName(name)
                        | ast::AssignmentName::ArrayElementName(name, _) => name,
                    };
                    harmless &= command::is_harmless(name.as_bytes());
                }
                other => self.item(other, place, &mut words, &mut document),
            }
        }
        if let Some(name) = &simple.word_or_name {
            words.extend(self.expanded(name, place));
        }
        for item in suffix {
            self.item(item, place, &mut words, &mut document);
        }
        let name = words.first().and_then(Word::text).map(str::to_owned);
        match name.as_deref() {
            Some("cd" | "pushd" | "popd") => return self.change_dir(&words, place),
            Some("." | "source") => {
                let script = words.get(1).and_then(|script| place.path(script));
                self.result.join(Assessment {
                    programs: script.into_iter().collect(),
                    ..Assessment::unknown("a script is read in")
                });
                return;
            }
            _ => {}
        }
        self.result.detaches |= command::detaches(&words);
        let mut part = command::simple(&words, place, self.around, self.depth);
        if !harmless && part.effect == Effect::Read && !words.is_empty() {
            part.join(Assessment::unknown("a variable may change what it does"));
        }
        // A shell runs the document that it reads.
        if let Some(text) = document
            && part.effect == Effect::Unknown
        {
            part.join(line(&text, &mut place.clone(), self.around, self.depth + 1));
        }
        self.result.join(part);
    }

    fn item(
        &mut self,
        item: &ast::CommandPrefixOrSuffixItem,
        place: &mut Place,
        words: &mut Vec<Word>,
        document: &mut Option<String>,
    ) {
        use ast::CommandPrefixOrSuffixItem as Item;
        match item {
            Item::Word(word) | Item::AssignmentWord(_, word) => {
                words.extend(self.expanded(word, place));
            }
            Item::IoRedirect(redirect) => {
                if let ast::IoRedirect::HereDocument(_, here) = redirect {
                    *document = Some(here.doc.value.clone());
                }
                self.redirect(redirect, place);
            }
            Item::ProcessSubstitution(_, subshell) => {
                self.list(&subshell.list, &mut place.clone());
                words.push(Word {
                    dynamic: true,
                    written: "<(…)".to_owned(),
                    ..Word::default()
                });
            }
        }
    }

    fn change_dir(&mut self, words: &[Word], place: &mut Place) {
        let target = words
            .iter()
            .skip(1)
            .find(|word| !word.bytes.starts_with(b"-"));
        let likely = target.iter().flat_map(|word| &word.likely);
        let likely: Vec<_> = likely.filter_map(|word| place.path(word)).collect();
        place.cwd = match (words[0].text(), target) {
            (Some("cd"), None) if words.len() == 1 => self.around.home.map(Into::into),
            (Some("cd" | "pushd"), Some(word)) if !word.glob => place.path(word),
            _ => None,
        };
        self.result.dirs.extend(place.cwd.clone());
        // One of a variable's values: words may be relative to it.
        self.result.dirs.extend(likely);
    }

    fn redirects(&mut self, redirects: Option<&ast::RedirectList>, place: &mut Place) {
        for redirect in redirects.iter().flat_map(|list| &list.0) {
            self.redirect(redirect, place);
        }
    }

    fn redirect(&mut self, redirect: &ast::IoRedirect, place: &mut Place) {
        use ast::IoFileRedirectKind as Kind;
        match redirect {
            ast::IoRedirect::File(_, kind, target) => {
                let writes = match kind {
                    Kind::Read | Kind::DuplicateInput => None,
                    Kind::Append => Some(Effect::Write),
                    Kind::Write | Kind::Clobber | Kind::ReadAndWrite | Kind::DuplicateOutput => {
                        Some(Effect::Destructive)
                    }
                };
                match target {
                    ast::IoFileRedirectTarget::Filename(word) => {
                        let word = self.word(word, place);
                        if let Some(effect) = writes {
                            self.written(&word, effect, place);
                        }
                    }
                    // `2>&1`, `>&-`; a name is a file.
                    ast::IoFileRedirectTarget::Duplicate(word) => {
                        let word = self.word(word, place);
                        let is_number = word.bytes.iter().all(|b| b.is_ascii_digit() || *b == b'-');
                        if let (Some(effect), false) = (writes, is_number) {
                            self.written(&word, effect, place);
                        }
                    }
                    ast::IoFileRedirectTarget::Fd(_) => {}
                    ast::IoFileRedirectTarget::ProcessSubstitution(_, subshell) => {
                        self.list(&subshell.list, &mut place.clone());
                    }
                }
            }
            ast::IoRedirect::OutputAndError(word, append) => {
                let word = self.word(word, place);
                let effect = match append {
                    true => Effect::Write,
                    false => Effect::Destructive,
                };
                self.written(&word, effect, place);
            }
            ast::IoRedirect::HereDocument(_, here) => {
                if here.requires_expansion {
                    self.document(&here.doc.value, place);
                }
            }
            ast::IoRedirect::HereString(_, word) => {
                self.word(word, place);
            }
        }
    }

    fn written(&mut self, word: &Word, effect: Effect, place: &Place) {
        let device = [
            &b"/dev/null"[..],
            b"/dev/stdout",
            b"/dev/stderr",
            b"/dev/tty",
            b"/dev/fd/",
        ];
        if device.iter().any(|d| word.bytes.starts_with(d)) && !word.dynamic {
            return;
        }
        let operand = place.operand(word, true);
        let known = operand.is_some();
        let untold = !known
            && word.likely.is_empty()
            && effect == Effect::Destructive
            && !place.is_below(word);
        let likely = word.likely.iter().filter_map(|w| place.operand(w, true));
        self.result.join(Assessment {
            effect,
            operands: operand
                .into_iter()
                .chain(likely)
                .map(|operand| super::Operand {
                    itself: true,
                    ..operand
                })
                .collect(),
            rule: "sh.redirect".to_owned(),
            reason: match known {
                true => format!("the output goes to `{}`", word.shown()),
                false => "the output goes to a file known only when it runs".to_owned(),
            },
            untold: match untold {
                true => vec![format!("> {}", word.shown())],
                false => Vec::new(),
            },
            ..Assessment::nothing()
        });
    }

    /// Looks for commands in text that the shell expands.
    fn text(&mut self, text: &str, place: &Place) {
        match brush_parser::word::parse(text, &self.options) {
            Ok(pieces) => {
                self.pieces(&pieces, false, place, &mut Word::default());
            }
            Err(_) => self
                .result
                .join(Assessment::unknown("a word cannot be parsed")),
        }
    }

    fn document(&mut self, text: &str, place: &Place) {
        match brush_parser::word::parse_heredoc(text, &self.options) {
            Ok(pieces) => {
                self.pieces(&pieces, true, place, &mut Word::default());
            }
            Err(_) => self
                .result
                .join(Assessment::unknown("a document cannot be parsed")),
        }
    }

    /// Records the value of a variable, unless the assignment is only for one command.
    fn assign(&mut self, assignment: &ast::Assignment, alone: bool, place: &mut Place) {
        let ast::AssignmentName::VariableName(name) = &assignment.name else {
            return;
        };
        let values = match &assignment.value {
            ast::AssignmentValue::Scalar(value) if alone && !assignment.append => {
                known(self.word(value, place))
            }
            _ => Vec::new(),
        };
        place.set(name, values);
    }
}

/// Returns a word, or its probable values.
fn known(word: Word) -> Vec<Word> {
    match word.dynamic {
        true => word.likely,
        false => vec![word],
    }
}
