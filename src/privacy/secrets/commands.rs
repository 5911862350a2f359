//! Values on command lines: which option of which program takes one.
//!
//! One table for guarded commands, for shell histories, and for any other text with a command in
//! it.

use std::ops::Range;
use std::sync::LazyLock;

use super::{Finding, secret};
use crate::privacy::values::{is_placeholder, is_wordy};
use crate::privacy::words::{Strength, strength};

/// How a program gets a value.
#[derive(Clone, Copy)]
enum Takes {
    /// `-p VALUE`, `-pVALUE`, `--pass=VALUE`.
    Value(&'static [&'static str]),
    /// `-pVALUE` only: `-p` alone makes it prompt.
    Glued(&'static [&'static str]),
    /// `-u NAME:VALUE`; the byte is the separator.
    Pair(&'static [&'static str], u8),
    /// `-pass pass:VALUE`.
    Source(&'static [&'static str]),
    /// The argument with this number, from 0, not counting options.
    Argument(usize),
}

use Takes::{Argument, Glued, Pair, Source, Value};

/// Programs, a word that has to be among the arguments (empty for none), and what they take.
const TABLE: &[(&[&str], &str, &[Takes])] = &[
    (
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlshow",
            "mysqlpump",
            "mysqlsh",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mycli",
        ],
        "",
        &[Glued(&["-p"])],
    ),
    (&["mysqladmin", "mariadb-admin"], "password", &[Argument(1)]),
    (
        &[
            "docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras", "crane", "az",
            "oc", "cf", "ibmcloud", "argocd", "snowsql", "bw",
        ],
        "login",
        &[Value(&["-p"])],
    ),
    (
        &[
            "sshpass",
            "ipmitool",
            "cqlsh",
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "rdesktop",
        ],
        "",
        &[Value(&["-p", "-P"])],
    ),
    (
        &["redis-cli", "valkey-cli", "keydb-cli"],
        "",
        &[Value(&["-a", "--pass"])],
    ),
    (&["htpasswd"], "-b", &[Argument(2)]),
    (&["htpasswd"], "-nb", &[Argument(1)]),
    (
        &["openssl"],
        "",
        &[
            Value(&["-k", "-K"]),
            Source(&["-pass", "-passin", "-passout"]),
        ],
    ),
    (
        &["curl"],
        "",
        &[
            Pair(&["-u", "--user", "-U", "--proxy-user"], b':'),
            Value(&["--pass", "--proxy-pass"]),
        ],
    ),
    (
        &["http", "https", "xh"],
        "",
        &[Pair(&["-a", "--auth"], b':')],
    ),
    (&["lftp"], "", &[Pair(&["-u"], b',')]),
    (
        &["smbclient", "rpcclient", "smbget", "net"],
        "",
        &[Pair(&["-U", "--user"], b'%')],
    ),
    (
        &["7z", "7za", "7zr", "7zz", "rar", "unrar"],
        "",
        &[Glued(&["-p", "-hp"])],
    ),
    (
        &[
            "zip",
            "unzip",
            "sqlcmd",
            "bcp",
            "mosquitto_pub",
            "mosquitto_sub",
        ],
        "",
        &[Value(&["-P"])],
    ),
    (
        &[
            "ldapsearch",
            "ldapmodify",
            "ldapadd",
            "ldapdelete",
            "ldappasswd",
            "ldapwhoami",
        ],
        "",
        &[Value(&["-w", "-s"])],
    ),
    (
        &["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk"],
        "",
        &[Value(&["-A", "-X"])],
    ),
    (
        &["keytool", "jarsigner", "apksigner"],
        "",
        &[Value(&[
            "-storepass",
            "-keypass",
            "-srcstorepass",
            "-deststorepass",
        ])],
    ),
    (&["security"], "", &[Value(&["-w", "-p"])]),
    (&["xfreerdp", "wlfreerdp"], "", &[Glued(&["/p:"])]),
    (&["nmcli"], "password", &[Value(&["password"])]),
    (&["wpa_passphrase"], "", &[Argument(1)]),
    (&["rabbitmqctl"], "add_user", &[Argument(2)]),
    (&["rabbitmqctl"], "change_password", &[Argument(2)]),
    (&["gpg", "gpg2"], "", &[Value(&["--passphrase"])]),
    (&["set", "setenv"], "", &[]),
];

/// Lengths of program names, one bit each, by their first letter.
const NAMES: [u32; 256] = {
    let mut lengths = [0; 256];
    let mut row = 0;
    while row < TABLE.len() {
        let mut at = 0;
        while at < TABLE[row].0.len() {
            let name = TABLE[row].0[at].as_bytes();
            lengths[name[0] as usize] |= 1 << name.len();
            at += 1;
        }
        row += 1;
    }
    // These receive values by a pipe, from the words before them.
    lengths[b's' as usize] |= 1 << 4;
    lengths[b'p' as usize] |= 1 << 6;
    lengths[b'c' as usize] |= 1 << 8;
    lengths
};

/// Returns false for a word that is not the name of a program, by its first letter and its length, which
/// is less than 31. The name may go on after `-`.
#[inline]
pub(super) fn may_be_program(first: u8, length: usize, next: u8) -> bool {
    let lengths = NAMES[usize::from(first)] >> length;
    (lengths & 1 == 1) & (next == b' ') | (lengths > 1) & (next == b'-')
}

/// Returns the names of programs in the table, and of those that are piped into.
pub(super) fn names() -> impl Iterator<Item = &'static [u8]> {
    let names = TABLE.iter().flat_map(|(names, ..)| names.iter().copied());
    names
        .chain(["sudo", "passwd", "chpasswd"])
        .map(str::as_bytes)
}

/// Returns true for one of [`names`]. The length rules out most words, so it is checked first.
fn is_program(name: &[u8]) -> bool {
    static BY_LETTER: LazyLock<Vec<Vec<&[u8]>>> = LazyLock::new(|| {
        let mut by_letter = vec![Vec::new(); 256];
        for name in names() {
            by_letter[usize::from(name[0])].push(name);
        }
        by_letter
    });
    let Some(first) = name.first().map(|first| usize::from(*first)) else {
        return false;
    };
    name.len() < 32 && NAMES[first] >> name.len() & 1 == 1 && BY_LETTER[first].contains(&name)
}

/// Returns the secret parts of a program's arguments: which argument, and where in it.
pub(super) fn of_program(program: &[u8], args: &[&[u8]]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    if matches!(program, b"set" | b"setenv") {
        // `set -gx NAME VALUE` of fish, `setenv NAME VALUE` of csh.
        let name = args.iter().position(|arg| !arg.starts_with(b"-"));
        if let Some(name) = name
            && let Some(value) = args.get(name + 1)
            && args[name]
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'_')
            && strength(args[name]) >= Strength::Token
            && is_value(value)
        {
            found.push((name + 1, 0..value.len()));
        }
        return found;
    }
    for (names, needs, takes) in TABLE {
        if !names.iter().any(|name| name.as_bytes() == program) {
            continue;
        }
        let short = needs.strip_prefix('-');
        let has = |arg: &&[u8]| match short {
            // `-b` among other letters: `-Bb`.
            Some(letters) => {
                arg.starts_with(b"-")
                    && !arg.starts_with(b"--")
                    && letters.bytes().all(|letter| arg.contains(&letter))
            }
            None => *arg == needs.as_bytes(),
        };
        if !needs.is_empty() && !args.iter().any(has) {
            continue;
        }
        if *needs == "-b"
            && args
                .iter()
                .any(|arg| arg.starts_with(b"-") && arg.contains(&b'n'))
        {
            continue;
        }
        for takes in *takes {
            of_option(*takes, args, &mut found);
        }
    }
    found
}

fn of_option(takes: Takes, args: &[&[u8]], found: &mut Vec<(usize, Range<usize>)>) {
    let (options, between) = match takes {
        Argument(number) => {
            let mut plain = (0..args.len()).filter(|at| !args[*at].starts_with(b"-"));
            if let Some(at) = plain.nth(number).filter(|at| is_value(args[*at])) {
                found.push((at, 0..args[at].len()));
            }
            return;
        }
        Value(options) | Glued(options) => (options, None),
        Pair(options, between) => (options, Some(between)),
        Source(options) => (options, Some(b':')),
    };
    for (at, arg) in args.iter().enumerate() {
        for option in options {
            // `-keyout`, `-keyform` of openssl are options of their own.
            if arg.starts_with(b"-key") || arg.starts_with(b"-kdf") {
                continue;
            }
            let Some(rest) = arg.strip_prefix(option.as_bytes()) else {
                continue;
            };
            let long = option.starts_with("--") || matches!(takes, Source(_));
            let (at, from) = match (rest, takes) {
                ([], Glued(_)) => continue,
                ([], _) => (at + 1, 0),
                ([b'=', ..], _) => (at, option.len() + 1),
                _ if long || option.len() > 2 && !matches!(takes, Glued(_)) => continue,
                _ => (at, option.len()),
            };
            let Some(value) = args.get(at).and_then(|arg| arg.get(from..)) else {
                continue;
            };
            let start = match between {
                None => 0,
                Some(between) => match value.iter().position(|b| *b == between) {
                    Some(colon) if !matches!(takes, Source(_)) || value.starts_with(b"pass:") => {
                        colon + 1
                    }
                    _ => continue,
                },
            };
            let user = &value[..start];
            if is_value(&value[start..]) && !user.iter().any(|b| matches!(b, b'$' | b'<' | b'{')) {
                found.push((at, from + start..from + value.len()));
            }
        }
    }
}

/// Returns true for a value that is neither a name, a number nor a path.
fn is_made(value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    value.len() >= 8
        && is_value(value)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !value.contains(&b'/')
}

/// Returns false for a stand-in: a variable, an example, another option.
fn is_value(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let says_itself = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "yourpass",
        "mypass",
    ]
    .iter()
    .any(|word| memchr::memmem::find(&lower, word.as_bytes()).is_some());
    let plain = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-');
    value.len() >= 4
        && !is_placeholder(value)
        && !matches!(
            value[0],
            b'$' | b'<' | b'{' | b'[' | b'%' | b'-' | b'`' | b'*'
        )
        && !(value.iter().all(plain) && (says_itself || is_wordy(value)))
        // The end of a sentence.
        && !value.strip_suffix(b".").is_some_and(|word| word.iter().all(u8::is_ascii_lowercase))
}

/// Examines the arguments of a program whose name ends at `end` in a text.
pub(super) fn after_program(text: &[u8], start: usize, end: usize, found: &mut Vec<Finding>) {
    let mut name_end = end;
    while text.get(name_end) == Some(&b'-')
        || text.get(name_end).is_some_and(u8::is_ascii_alphanumeric)
    {
        name_end += 1;
        if name_end - start > 20 {
            return;
        }
    }
    let name = &text[start..name_end];
    if text.get(name_end) != Some(&b' ') || !is_program(name) {
        return;
    }
    // Part of a longer word.
    if start > 0 && matches!(text[start - 1], b'-' | b'.' | b'=' | b'$' | b'@') {
        return;
    }
    if matches!(name, b"sudo" | b"passwd" | b"chpasswd") {
        return piped(text, start, name_end, found);
    }
    if !may_take(name, &text[name_end..]) {
        return;
    }
    let words = words(text, name_end);
    let args: Vec<&[u8]> = words.iter().map(|range| &text[range.clone()]).collect();
    for (at, range) in of_program(name, &args) {
        let from = words[at].start;
        found.push(secret(from + range.start..from + range.end, "command"));
    }
}

/// Returns false if a program takes a value by options only, and none is in the rest of its line. Prose
/// has the names of some programs often.
fn may_take(name: &[u8], rest: &[u8]) -> bool {
    let only_options = |takes: &Takes| match takes {
        Argument(_) => false,
        Value(options) | Glued(options) | Pair(options, _) | Source(options) => {
            options.iter().all(|option| option.starts_with('-'))
        }
    };
    let mut rows = TABLE
        .iter()
        .filter(|(names, ..)| names.iter().any(|one| one.as_bytes() == name));
    if matches!(name, b"set" | b"setenv") || !rows.all(|(.., takes)| takes.iter().all(only_options))
    {
        return true;
    }
    let line = &rest[..rest.len().min(LONGEST)];
    let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
    let begins = |at: usize| at > 0 && matches!(line[at - 1], b' ' | b'\t' | b'"' | b'\'');
    memchr::memchr_iter(b'-', line).any(begins)
}

/// `echo VALUE | sudo -S`, `passwd --stdin`, `chpasswd`: what is piped in is a password.
fn piped(text: &[u8], start: usize, end: usize, found: &mut Vec<Finding>) {
    let before = &text[start.saturating_sub(300)..start];
    let from = start - before.len();
    let line = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let Some(pipe) = memchr::memrchr(b'|', before) else {
        return;
    };
    if before[pipe + 1..].iter().any(|b| !matches!(b, b' ')) {
        return;
    }
    let reads = match &text[start..end] {
        b"sudo" => words(text, end)
            .iter()
            .any(|word| matches!(&text[word.clone()], b"-S" | b"--stdin" | b"-kS" | b"-Sk")),
        b"passwd" => words(text, end)
            .iter()
            .any(|word| &text[word.clone()] == b"--stdin"),
        _ => true,
    };
    if !reads {
        return;
    }
    let producer = before[line..pipe]
        .windows(5)
        .rposition(|window| window == b"echo ")
        .map(|at| line + at + 4)
        .or_else(|| memchr::memmem::rfind(&before[line..pipe], b"printf ").map(|at| line + at + 6));
    let Some(producer) = producer else { return };
    let value = words(&text[..from + pipe], from + producer)
        .into_iter()
        .rfind(|word| !text[word.clone()].starts_with(b"-"));
    if let Some(mut value) = value {
        if &text[start..end] == b"chpasswd"
            && let Some(colon) = text[value.clone()].iter().position(|b| *b == b':')
        {
            value.start += colon + 1;
        }
        if is_value(&text[value.clone()]) {
            found.push(secret(value, "command"));
        }
    }
}

/// Longest command that is parsed, in bytes.
const LONGEST: usize = 2048;

/// Returns the words of a command from `at` on, without their quotes.
fn words(text: &[u8], at: usize) -> Vec<Range<usize>> {
    let limit = (at + LONGEST).min(text.len());
    let mut words = Vec::new();
    let mut at = at;
    while at < limit && words.len() < 64 {
        match text[at] {
            b' ' | b'\t' => at += 1,
            b'\n' | b'\r' | b';' | b'|' | b'&' | b')' | b'`' => break,
            _ => {
                // Quotes may be escaped if the command is in a string.
                let escaped = text[at] == b'\\' && matches!(text.get(at + 1), Some(b'"' | b'\''));
                let open = at + usize::from(escaped);
                if let quote @ (b'"' | b'\'') = text[open] {
                    let mut end = open + 1;
                    while end < limit && text[end] != quote && text[end] != b'\n' {
                        end += 1 + usize::from(text[end] == b'\\' && !escaped && quote == b'"');
                    }
                    let end = end.min(limit);
                    let inner =
                        end - usize::from(escaped && end > open + 1 && text[end - 1] == b'\\');
                    // The string with the command ends here.
                    if text.get(end) != Some(&quote) {
                        break;
                    }
                    words.push(open + 1..inner);
                    at = end + 1;
                } else {
                    let mut end = at;
                    // A quote may begin inside a word: `-p'VALUE'`.
                    let mut quote = None;
                    while end < limit {
                        let b = text[end];
                        match quote {
                            Some(open) if b == open => quote = None,
                            Some(_) if b == b'\n' => break,
                            Some(_) => {}
                            None if matches!(
                                b,
                                b' ' | b'\t' | b'\n' | b'\r' | b';' | b'|' | b'&'
                            ) =>
                            {
                                break;
                            }
                            None if matches!(b, b'"' | b'\'') => {
                                let closed = text[end + 1..limit]
                                    .iter()
                                    .take_while(|c| **c != b'\n')
                                    .any(|c| *c == b);
                                if !closed || end == at {
                                    break;
                                }
                                quote = Some(b);
                            }
                            None => {}
                        }
                        end += 1;
                    }
                    if end == at {
                        break;
                    }
                    words.push(at..end);
                    at = end;
                    if at < limit && matches!(text[at], b'"' | b'\'') {
                        break;
                    }
                }
            }
        }
    }
    words
}

/// Returns the secret parts of a command's words: which word, and where in it. Unlike in a text,
/// the ends of words are known.
pub(in crate::privacy) fn in_argv(argv: &[&[u8]]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    for (at, word) in argv.iter().enumerate() {
        let name = word
            .rsplit(|b| matches!(b, b'/' | b'\\'))
            .next()
            .unwrap_or_default();
        let rest = &argv[at + 1..];
        if is_program(name) {
            found.extend(
                of_program(name, rest)
                    .into_iter()
                    .map(|(arg, range)| (at + 1 + arg, range)),
            );
        }
        // `-u NAME:VALUE` of any program, if the value looks made up.
        if matches!(*word, b"-u" | b"--user")
            && let Some(pair) = rest.first()
            && let Some(colon) = pair.iter().position(|b| *b == b':')
            && is_made(&pair[colon + 1..])
        {
            found.push((at + 1, colon + 1..pair.len()));
        }
        // `--passphrase "two words"`, `--token=VALUE` of any program.
        let Some(option) = word.strip_prefix(b"--") else {
            continue;
        };
        let (name, given) = match option.iter().position(|b| *b == b'=') {
            Some(equals) => (&option[..equals], Some(equals + 3)),
            None => (option, None),
        };
        if strength(name) < Strength::Token {
            continue;
        }
        match given {
            Some(from) if is_value(&word[from..]) => found.push((at, from..word.len())),
            None => {
                if let Some(value) = rest.first().filter(|value| is_value(value)) {
                    found.push((at + 1, 0..value.len()));
                }
            }
            Some(_) => {}
        }
    }
    found
}
