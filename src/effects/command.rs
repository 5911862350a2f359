//! One simple command: removes wrappers, finds the rule, collects operands.

use super::{Assessment, Effect, MAX_DEPTH, Place, Surroundings, Word, shell, started};

mod judged;
mod readers;

use judged::{Args, fits, judged};

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

/// Returns true for a shell whose scripts can be read here.
pub(super) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

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
    let mut found = known(words, first, place, around, depth);
    if !is_assignment(first) {
        found.programs.extend(started::named(first, place));
    }
    if matches!(first.text(), Some("find" | "gfind" | "fd" | "fdfind")) {
        for command in started::by_find(&words[1..]) {
            let inner = simple(command, place, around, depth + 1);
            found.programs.extend(inner.programs);
        }
    }
    found
}

/// Assesses a command by its name.
fn known(
    words: &[Word],
    first: &Word,
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> Assessment {
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
    let mut script = None;
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
            _ => {
                script = Some(word);
                break;
            }
        }
    }
    let words: Vec<Word> = std::iter::once(Word::default())
        .chain(rest.iter().cloned())
        .collect();
    let unknown = Assessment {
        programs: script
            .and_then(|word| place.path(word))
            .into_iter()
            .collect(),
        ..Assessment::unknown("a shell runs a script")
    };
    with_paths(unknown, &words, place)
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
