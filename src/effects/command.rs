//! One simple command: removes wrappers, finds the rule, collects operands.

use super::table::{Condition, Rule, Source};
use super::{Assessment, Effect, MAX_DEPTH, Place, Surroundings, Word, shell};

/// Shells whose `-c` is parsed.
const SHELLS: [&str; 8] = ["sh", "bash", "zsh", "dash", "ksh", "ash", "mksh", "fish"];
/// Programs that run text from their arguments.
const INTERPRETERS: [&str; 12] = [
    "python",
    "python3",
    "python2",
    "pypy3",
    "node",
    "nodejs",
    "deno",
    "perl",
    "ruby",
    "php",
    "osascript",
    "lua",
];
/// Directories of the system's programs: elsewhere a name proves nothing.
const SYSTEM_DIRS: [&str; 6] = [
    "/bin/",
    "/usr/bin/",
    "/usr/local/bin/",
    "/sbin/",
    "/usr/sbin/",
    "/opt/homebrew/bin/",
];
/// Rules that remove, move or overwrite their operands as a whole.
const WHOLE: [&str; 9] = [
    "fs.rm",
    "fs.mv",
    "fs.cp",
    "fs.rsync",
    "fs.truncate",
    "fs.dd",
    "fs.tee",
    "fs.disk",
    "bak.delete",
];
/// Variables that change how a program reports, not what it does.
const HARMLESS: [&str; 8] = [
    "LANG",
    "TZ",
    "NO_COLOR",
    "TERM",
    "COLUMNS",
    "LINES",
    "CLICOLOR",
    "FORCE_COLOR",
];

/// Programs that detach another one, or with which a shell does.
const DETACHERS: [&str; 10] = [
    "nohup",
    "setsid",
    "disown",
    "daemon",
    "daemonize",
    "start-stop-daemon",
    "screen",
    "tmux",
    "systemd-run",
    "pm2",
];

/// Returns true if something that a command starts may outlive it.
pub(super) fn detaches(words: &[Word]) -> bool {
    let mut names = words.iter().filter_map(Word::text).filter_map(program);
    names.any(|name| DETACHERS.contains(&name))
}

/// Assesses a command. Redirections and assignments were handled before.
pub(super) fn simple(
    words: &[Word],
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let Some(first) = words.first() else {
        return Assessment::nothing();
    };
    if depth > MAX_DEPTH {
        return with_paths(
            Assessment::unknown("commands are nested too deeply to read"),
            words,
            place,
        );
    }
    let Some(name) = first.text().and_then(program) else {
        let reason = format!("`{}` is known only when it runs", first.shown());
        return with_paths(Assessment::unknown(reason), words, place);
    };
    let rest = &words[1..];
    if is_assignment(first) {
        return assigned(words, place, around, depth);
    }
    if name == "eval" {
        return joined(rest, place, around, depth);
    }
    if SHELLS.contains(&name) {
        return shell_program(rest, place, around, depth);
    }
    match name {
        "powershell" | "pwsh" => return super::powershell::program(rest, place, around, depth),
        "cmd" => return super::cmd::program(rest, place, around, depth),
        _ => {}
    }
    if let Some(wrap) = around.table.wrap(name) {
        return wrapped(name, &wrap, rest, place, around, depth);
    }
    let args = Args::new(name, rest, around);
    // git's operands are relative to where it works.
    let directory = match args
        .value_of("-C")
        .filter(|_| matches!(name, "git" | "make" | "tar"))
    {
        None => place.clone(),
        Some(word) => Place {
            cwd: place.path(word),
            ..place.clone()
        },
    };
    for rule in around.table.rules(name) {
        if let Some(positional) = fits(rule, &args, place, around, depth) {
            return judged(rule, name, words, &args, positional, &directory, around);
        }
    }
    let reason = match INTERPRETERS.contains(&name) {
        true => format!("`{name}` runs a program of its own"),
        false => format!("nothing is known about `{name}`"),
    };
    with_paths(Assessment::unknown(reason), words, place)
}

fn shown(words: &[Word]) -> String {
    words.iter().map(Word::shown).collect::<Vec<_>>().join(" ")
}

/// Returns the name by which rules know a program; `None` if it may be somebody's own.
fn program(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\\').unwrap_or(text);
    let name = SYSTEM_DIRS
        .iter()
        .find_map(|dir| text.strip_prefix(dir))
        .unwrap_or(text);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    (!name.is_empty() && !name.contains(['/', '\\'])).then_some(name)
}

/// A command that we do not understand may touch everything it names.
fn with_paths(mut assessment: Assessment, words: &[Word], place: &Place) -> Assessment {
    for word in words.iter().skip(1) {
        assessment.operands.extend(place.operand(word, true));
        let likely = word.likely.iter().filter_map(|w| place.operand(w, true));
        assessment.operands.extend(likely);
        if let Some(at) = word.bytes.iter().position(|b| *b == b'=') {
            let value = Word {
                bytes: word.bytes[at + 1..].to_vec(),
                ..word.clone()
            };
            assessment.operands.extend(place.operand(&value, true));
        }
    }
    assessment
}

fn is_assignment(word: &Word) -> bool {
    let Some(at) = word.bytes.iter().position(|b| *b == b'=') else {
        return false;
    };
    let name = &word.bytes[..at];
    name.first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Returns true if a variable cannot make a program do something else.
pub(super) fn is_harmless(name: &[u8]) -> bool {
    name.starts_with(b"LC_") || HARMLESS.iter().any(|h| h.as_bytes() == name)
}

/// `NAME=VALUE command`, as words.
fn assigned(words: &[Word], place: &Place, around: &Surroundings<'_>, depth: usize) -> Assessment {
    let count = words.iter().take_while(|word| is_assignment(word)).count();
    let harmless = words[..count].iter().all(|word| {
        let at = word.bytes.iter().position(|b| *b == b'=').unwrap_or(0);
        is_harmless(&word.bytes[..at])
    });
    let mut result = simple(&words[count..], place, around, depth + 1);
    if !harmless && result.effect == Effect::Read && words.len() > count {
        result.join(Assessment::unknown("a variable may change what it does"));
    }
    result
}

/// Joins the words into a line and parses it as a shell does.
fn joined(words: &[Word], place: &Place, around: &Surroundings<'_>, depth: usize) -> Assessment {
    let texts: Option<Vec<&str>> = words.iter().map(Word::text).collect();
    match texts {
        Some(texts) => shell::line(&texts.join(" "), &mut place.clone(), around, depth + 1),
        None => Assessment {
            untold: vec![format!("eval {}", shown(words))],
            ..Assessment::unknown("what it runs is known only when it runs")
        },
    }
}

fn shell_program(
    rest: &[Word],
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let mut args = rest.iter();
    while let Some(word) = args.next() {
        let Some(text) = word.text() else { break };
        match text {
            "-o" | "+o" | "-O" | "--rcfile" | "--init-file" => {
                args.next();
            }
            _ if text.starts_with('-') && !text.starts_with("--") && text.contains('c') => {
                let script = args.find(|w| !w.bytes.starts_with(b"-"));
                let Some(script) = script else { break };
                return match script.text() {
                    Some(text) => shell::line(text, &mut place.clone(), around, depth + 1),
                    None => Assessment {
                        untold: vec![format!("sh -c {}", script.shown())],
                        ..Assessment::unknown("the script is known only when it runs")
                    },
                };
            }
            _ if text.starts_with('-') || text.starts_with('+') => {}
            _ => break,
        }
    }
    let words: Vec<Word> = std::iter::once(Word::default())
        .chain(rest.iter().cloned())
        .collect();
    with_paths(Assessment::unknown("a shell runs a script"), &words, place)
}

fn wrapped(
    name: &str,
    wrap: &super::table::Wrap,
    rest: &[Word],
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
    let mut at = 0;
    let mut skip = wrap.skip;
    while let Some(word) = rest.get(at) {
        let bytes = &word.bytes[..];
        if bytes == b"--" && !wrap.values.iter().any(|v| v == "--") {
            at += 1;
            break;
        }
        if bytes.starts_with(b"-") && bytes.len() > 1 {
            let takes = word
                .text()
                .is_some_and(|t| wrap.values.iter().any(|v| v == t));
            if name == "env"
                && word
                    .text()
                    .is_some_and(|t| t == "-S" || t.starts_with("-S"))
            {
                return joined(&rest[at + 1..], place, around, depth);
            }
            at += if takes { 2 } else { 1 };
        } else if skip > 0 {
            skip -= 1;
            at += 1;
        } else {
            break;
        }
    }
    let elsewhere = changed_dir(name, &rest[..at.min(rest.len())], place);
    let place = elsewhere.as_ref().unwrap_or(place);
    let inner = rest.get(at..).unwrap_or_default();
    if inner.is_empty() {
        // `env` and `time` alone run nothing; `xargs` alone echoes.
        return match name {
            "env" | "xargs" | "time" | "command" | "nice" => Assessment::nothing(),
            _ => Assessment::unknown(format!("`{name}` runs something")),
        };
    }
    if matches!(name, "command" | "builtin")
        && rest
            .first()
            .is_some_and(|w| matches!(w.text(), Some("-v" | "-V")))
    {
        return Assessment::nothing();
    }
    let mut result = simple(inner, place, around, depth + 1);
    if matches!(name, "xargs" | "parallel") && result.effect != Effect::Read {
        result.unlinks_only = false;
        result.operands.extend(place.here());
        // Its input supplies words too, whatever its arguments are.
        let listed = rest.iter().any(|w| w.bytes.starts_with(b":::"));
        if result.effect == Effect::Destructive && !listed {
            result.untold = vec![format!("{name} {}", shown(rest))];
        }
    }
    if matches!(name, "npx" | "bunx" | "pnpx") && result.effect == Effect::Read {
        // A package of that name, not the program.
        result = with_paths(Assessment::unknown("a package is run"), rest, place);
    }
    result
}

/// Returns the directory in which `env -C DIR` and `sudo -D DIR` run a command.
fn changed_dir(name: &str, options: &[Word], place: &Place) -> Option<Place> {
    let (short, long) = match name {
        "env" => ("-C", "--chdir"),
        "sudo" | "doas" => ("-D", "--chdir"),
        _ => return None,
    };
    let mut options = options.iter();
    while let Some(word) = options.next() {
        let text = word.text().unwrap_or_default();
        let value = if text == short || text == long {
            options.next().cloned()
        } else {
            let rest = text
                .strip_prefix(long)
                .and_then(|rest| rest.strip_prefix('='));
            let rest = rest.or_else(|| text.strip_prefix(short));
            rest.map(|rest| Word {
                bytes: rest.as_bytes().to_vec(),
                ..word.clone()
            })
        };
        if let Some(value) = value {
            return Some(Place {
                cwd: place.path(&value),
                ..place.clone()
            });
        }
    }
    None
}

/// The arguments of a program, sorted.
struct Args<'a> {
    name: &'a str,
    words: &'a [Word],
    /// Options as written, with the value after them.
    options: Vec<(&'a Word, Option<&'a Word>)>,
    positional: Vec<&'a Word>,
}

impl<'a> Args<'a> {
    fn new(name: &'a str, words: &'a [Word], around: &Surroundings<'_>) -> Self {
        let mut args = Self {
            name,
            words,
            options: Vec::new(),
            positional: Vec::new(),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word.bytes == b"--" && !word.dynamic {
                args.positional.extend(rest);
                break;
            }
            let is_option = word.bytes.len() > 1 && word.bytes[0] == b'-';
            if is_option {
                let takes = word
                    .text()
                    .is_some_and(|t| around.table.takes_value(name, t));
                args.options
                    .push((word, if takes { rest.next() } else { None }));
            } else {
                args.positional.push(word);
            }
        }
        args
    }

    /// Returns true if one of the options is present: as it is, with `=value`, or among combined
    /// short ones.
    fn has(&self, wanted: &[String]) -> bool {
        self.options.iter().any(|(word, _)| {
            let bytes = &word.bytes[..];
            wanted.iter().any(|option| {
                let option = option.as_bytes();
                let short = option.len() == 2 && bytes[1] != b'-';
                bytes == option
                    || (option.starts_with(b"--")
                        && bytes.starts_with(option)
                        && bytes.get(option.len()) == Some(&b'='))
                    || (short
                        && bytes[1..]
                            .iter()
                            .take_while(|b| b.is_ascii_alphabetic())
                            .any(|b| *b == option[1]))
            })
        })
    }

    /// Returns the values of an option, written after it or attached.
    fn values_of(&self, wanted: &[String]) -> Vec<Word> {
        let mut found = Vec::new();
        for (word, value) in &self.options {
            for option in wanted {
                let option = option.as_bytes();
                let rest = word.bytes.strip_prefix(option);
                match rest {
                    Some(b"") => found.extend(value.map(Word::clone)),
                    Some(rest) if option.len() == 2 || rest[0] == b'=' => found.push(Word {
                        bytes: rest.strip_prefix(b"=").unwrap_or(rest).to_vec(),
                        ..(*word).clone()
                    }),
                    _ => {}
                }
            }
        }
        found
    }

    fn value_of(&self, option: &str) -> Option<&'a Word> {
        let found = self
            .options
            .iter()
            .find(|(word, _)| word.bytes == option.as_bytes());
        found.and_then(|(_, value)| *value)
    }
}

/// Returns how many leading arguments a rule consumes, if it fits.
fn fits(
    rule: &Rule,
    args: &Args<'_>,
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Option<usize> {
    // Configuration on the command line can make git run programs: pagers, monitors, external
    // diffs.
    let configures = ["-c", "--config-env", "--exec-path"].map(str::to_owned);
    if args.name == "git" && rule.effect == Effect::Read && args.has(&configures) {
        return None;
    }
    let mut used = 0;
    for condition in &rule.conditions {
        let holds = match condition {
            Condition::Word(words) => {
                let next = args.positional.get(used).and_then(|word| word.text());
                used += 1;
                next.is_some_and(|text| words.iter().any(|w| w == text))
            }
            Condition::Any(options) => args.has(options),
            Condition::None(options) => {
                let unclear = || args.words.iter().any(may_be_option);
                !(args.has(options) || rule.effect == Effect::Read && unclear())
            }
            Condition::More(more) => (args.positional.len() > used) == *more,
            Condition::Rewrites => args
                .positional
                .iter()
                .any(|word| word.bytes.starts_with(b"+") || word.bytes.starts_with(b":")),
            Condition::Prints => only_prints(args),
            Condition::RunsReaders => runs_readers(args, place, around, depth),
        };
        if !holds {
            return None;
        }
    }
    Some(used)
}

/// Returns true if expansion may turn a word into an option: a variable, or a pattern that matches
/// a file of that name.
fn may_be_option(word: &Word) -> bool {
    word.dynamic || word.glob && matches!(word.bytes.first(), Some(b'*' | b'?' | b'[' | b'-'))
}

fn judged(
    rule: &Rule,
    name: &str,
    words: &[Word],
    args: &Args<'_>,
    used: usize,
    place: &Place,
    around: &Surroundings<'_>,
) -> Assessment {
    let mut result = Assessment {
        effect: rule.effect,
        operands: Vec::new(),
        rule: rule.id.clone(),
        reason: String::new(),
        remote: Vec::new(),
        unlinks_only: rule.id == "fs.rm" && name != "shred" && name != "srm",
        ..Assessment::nothing()
    };
    let line = || shown(words);
    result.reason = match rule.effect {
        Effect::Read => format!("`{name}` only reads"),
        Effect::Write => format!("`{name}` writes"),
        Effect::Unknown => format!("what `{name}` does cannot be told"),
        Effect::Destructive => format!("`{name}` deletes or overwrites"),
        Effect::GitDiscard => format!("`{name}` can discard work"),
        Effect::Remote => format!("`{name}` acts on something that is not a file here"),
    };
    if rule.effect == Effect::Remote {
        result.remote.push(line());
    }
    if rule.effect == Effect::Read {
        return result;
    }
    let positional = args.positional.get(used..).unwrap_or_default();
    let mut operands = Operands {
        place,
        itself: WHOLE.contains(&rule.id.as_str()),
        found: Vec::new(),
        places: Vec::new(),
        plain: true,
        untold: false,
    };
    for source in &rule.operands {
        operands.from(source, args, positional, around);
    }
    result.unlinks_only &= operands.plain;
    result.operands = operands.found;
    result.operands.extend(operands.places);
    if operands.untold && rule.effect == Effect::Destructive {
        result.untold.push(line());
    }
    // A file that gets another name is written and removed under that from then on.
    if matches!(rule.id.as_str(), "fs.cp" | "fs.rsync") {
        let read = positional.iter().filter_map(|word| place.path(word));
        let written = |path: &std::path::PathBuf| result.operands.iter().any(|o| o.path == *path);
        result.inputs = read.filter(|path| !written(path)).collect();
    }
    made_beside(rule, name, positional, place, &mut result);
    result
}

struct Operands<'a> {
    place: &'a Place,
    itself: bool,
    found: Vec<super::Operand>,
    /// Places that no word names; last, because they are the widest.
    places: Vec<super::Operand>,
    /// Each is one literal path.
    plain: bool,
    /// Nothing is known about some word.
    untold: bool,
}

impl Operands<'_> {
    /// Adds the operands of one source of a rule.
    fn from(
        &mut self,
        source: &Source,
        args: &Args<'_>,
        positional: &[&Word],
        around: &Surroundings<'_>,
    ) {
        match source {
            Source::Args(follow) => self.all(positional.iter(), *follow),
            Source::First(follow) => self.all(positional.iter().take(1), *follow),
            Source::Last(follow) => self.all(positional.last().into_iter(), *follow),
            Source::Rest(follow) => self.all(positional.iter().skip(1), *follow),
            Source::Option(options, follow) => {
                let values = args.values_of(options);
                values.iter().for_each(|word| self.add(word, *follow));
            }
            Source::Value(key, follow) => {
                for word in positional {
                    let value = word.bytes.strip_prefix(key.as_bytes());
                    if let Some(value) = value.and_then(|v| v.strip_prefix(b"=")) {
                        let word = Word {
                            bytes: value.to_vec(),
                            ..(*word).clone()
                        };
                        self.add(&word, *follow);
                    }
                }
            }
            Source::Directory => self.places.extend(self.place.here()),
            Source::Here(file) => {
                let word = Word {
                    bytes: file.clone().into_bytes(),
                    ..Word::default()
                };
                self.add(&word, true);
            }
            Source::Home(file) => {
                if let Some(home) = around.home {
                    let file = Word::exact(home.join(file).as_os_str());
                    self.places.extend(self.place.operand(&file, true));
                }
            }
        }
    }

    fn all<'w>(&mut self, words: impl Iterator<Item = &'w &'w Word>, follow: bool) {
        words.for_each(|word| self.add(word, follow));
    }

    /// Adds a word; if it is known only at run time, its probable values.
    fn add(&mut self, word: &Word, follow: bool) {
        let itself = self.itself;
        match self.place.operand(word, follow) {
            Some(operand) => {
                self.plain &= !operand.glob;
                self.found.push(super::Operand { itself, ..operand });
            }
            None => {
                self.plain = false;
                self.untold |= word.likely.is_empty();
                let likely = word.likely.iter();
                let named = likely.filter_map(|word| self.place.operand(word, follow));
                self.found
                    .extend(named.map(|operand| super::Operand { itself, ..operand }));
            }
        }
    }
}

/// Files that a program creates next to its operands: existing ones are overwritten, new ones are
/// removed by an undo.
fn made_beside(
    rule: &Rule,
    name: &str,
    positional: &[&Word],
    place: &Place,
    result: &mut Assessment,
) {
    let mut add = |word: &Word, bytes: Vec<u8>, glob: bool| {
        let made = Word {
            bytes,
            glob,
            ..word.clone()
        };
        let operand = place.operand(&made, true);
        result
            .operands
            .extend(operand.map(|operand| super::Operand {
                itself: !glob,
                ..operand
            }));
    };
    let endings: &[&str] = match name {
        "gzip" | "gunzip" => &[".gz", ".tgz", ".Z"],
        "bzip2" | "bunzip2" => &[".bz2", ".tbz2"],
        "xz" | "unxz" => &[".xz", ".lzma", ".txz"],
        "zstd" | "unzstd" => &[".zst"],
        "zip" => &[".zip"],
        _ => &[],
    };
    for word in positional.iter().filter(|word| !word.glob) {
        for ending in endings {
            match word.bytes.strip_suffix(ending.as_bytes()) {
                Some(plain) => add(word, plain.to_vec(), false),
                None => add(word, [&word.bytes[..], ending.as_bytes()].concat(), false),
            }
        }
    }
    if rule.id == "fs.split" {
        // Named after a prefix, in the prefix's directory.
        for word in positional.iter().skip(1) {
            for count in [2, 3] {
                let made = [&word.bytes[..], b"[0-9a-z]".repeat(count).as_slice()].concat();
                add(word, made, true);
            }
        }
    }
}

/// Returns true if the script of `sed` or `awk`, its first argument, can only print.
fn only_prints(args: &Args<'_>) -> bool {
    let Some(script) = args.positional.first().and_then(|word| word.text()) else {
        return false;
    };
    let quiet = |text: &str| {
        ![">", "|", "system", "getline", "close", "@"]
            .iter()
            .any(|t| text.contains(t))
    };
    // awk programs have braces or conditions; sed scripts are parsed command by command.
    if script.contains('{') {
        return quiet(script);
    }
    script.split([';', '\n']).all(sed_prints)
}

/// One sed command with simple addresses: `p`, `d`, `q`, `=`, or `s` without `w` and `e`.
fn sed_prints(command: &str) -> bool {
    let rest = command.trim();
    let rest = if let Some(regex) = rest.strip_prefix('/') {
        match regex.find('/') {
            Some(end) if !regex[..end].contains('\\') => &regex[end + 1..],
            _ => return false,
        }
    } else {
        rest.trim_start_matches(|c: char| {
            c.is_ascii_digit() || matches!(c, ',' | '$' | '~' | '!' | ' ')
        })
    };
    let mut chars = rest.chars();
    match chars.next() {
        None => true,
        Some('p' | 'd' | 'q' | '=' | 'P' | 'D' | 'n') => chars.as_str().trim().is_empty(),
        Some('s') => {
            let Some(delimiter) = chars.next() else {
                return false;
            };
            let parts: Vec<&str> = chars.as_str().split(delimiter).collect();
            let [pattern, new, flags] = parts[..] else {
                return false;
            };
            !pattern.contains('\\')
                && !new.ends_with('\\')
                && flags
                    .chars()
                    .all(|c| c.is_ascii_digit() || "gpiIM".contains(c))
        }
        Some(_) => false,
    }
}

/// Returns true if every command after `-exec` only reads.
fn runs_readers(args: &Args<'_>, place: &Place, around: &Surroundings<'_>, depth: usize) -> bool {
    let mut words = args.words.iter();
    while let Some(word) = words.next() {
        if !matches!(word.text(), Some("-exec" | "-execdir")) {
            continue;
        }
        let command: Vec<Word> = words
            .by_ref()
            .take_while(|word| !matches!(word.text(), Some(";" | "+" | "\\;")))
            .cloned()
            .collect();
        if simple(&command, place, around, depth + 1).effect != Effect::Read {
            return false;
        }
    }
    true
}
