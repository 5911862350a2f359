//! What a value looks like: made by a machine, made by a person, or a stand-in for one that is elsewhere.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A stand-in: `${TOKEN}`, `your-key-here`, `********`, a reference to a vault.
    Placeholder,
    /// Plain: a number, a word, a path, a piece of code.
    Plain,
    /// Hexadecimal digits or a UUID.
    Hex,
    /// Random characters.
    Random,
    /// Text of other kinds.
    Text,
}

/// What marks a whole value as a stand-in, in lower case.
const STAND_INS: &[&str] = &[
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "replace",
    "redacted",
    "dummy",
    "insert_",
    "your_",
    "your-",
    "yourkey",
    "yourtoken",
    "yourpass",
    "yoursecret",
    "my_api",
    "my-api",
    "xxxx",
    "****",
    "....",
    "<your",
    "todo",
    "fixme",
    "notreal",
    "not-real",
    "not_real",
    "fake",
    "sample",
    "enter_",
    "enter-",
    "put_",
    "_here",
    "-here",
    "secret_key_here",
    "####",
    "some_",
    "some-",
    "lorem",
    "…",
    "goes-here",
    "mytoken",
    "my-token",
    "my_token",
    "my-secret",
    "my_secret",
    "mysecret",
];
/// Values that are nothing but these are stand-ins or settings, in lower case.
const WORDS: &[&str] = &[
    "",
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "empty",
    "string",
    "number",
    "boolean",
    "object",
    "password",
    "passwd",
    "secret",
    "token",
    "key",
    "apikey",
    "api_key",
    "pass",
    "pwd",
    "username",
    "user",
    "required",
    "optional",
    "default",
    "admin",
    "yes",
    "no",
    "on",
    "off",
    "unset",
    "hidden",
    "masked",
    "value",
    "text",
    "str",
    "int",
    "any",
    "unknown",
    "self",
    "this",
    "function",
    "async",
    "await",
    "return",
    "new",
    "var",
    "let",
    "const",
    "if",
    "else",
    "basic",
    "bearer",
    "digest",
    "disabled",
    "enabled",
    "auto",
    "test",
    "prompt",
    "ask",
    "env",
    "file",
    "keychain",
    "keyring",
    "n/a",
    "tbd",
    "foo",
    "bar",
    "baz",
    "foobar",
    "xxx",
    "\u{2022}\u{2022}\u{2022}",
];
/// Beginnings of references to where the value really is.
const REFERENCES: &[&str] = &[
    "${",
    "$(",
    "{{",
    "<%",
    "%(",
    "#{",
    "op://",
    "vault:",
    "vault://",
    "doppler://",
    "enc[",
    "$ansible_vault",
    "age1",
    "ssm://",
    "secretsmanager:",
    "arn:aws:",
    "keychain:",
    "env:",
    "env.",
    "process.env",
    "os.environ",
    "os.getenv",
    "system.getenv",
    "getenv",
    "bdr:sealed:",
    "file:",
    "/run/secrets",
    "ref+",
    "sops:",
    "!vault",
    "projects/",
    "aws:",
    "gcp:",
    "azure:",
    "@microsoft.keyvault",
    "akv://",
    "bw://",
    "lastpass:",
    "__",
    "fn::",
    "secret:",
    "\\u003c",
    "refs/",
    "sha256-",
    "sha384-",
    "sha512-",
    "sha1-",
    "sha256:",
    "data:",
];

pub(super) fn lower(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(200)]).to_lowercase()
}

/// Returns the Shannon entropy in bits per byte.
pub(super) fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for b in value {
        counts[usize::from(*b)] += 1;
    }
    let n = value.len() as f64;
    counts
        .iter()
        .filter(|c| **c > 0)
        .map(|c| {
            let p = f64::from(*c) / n;
            -p * p.log2()
        })
        .sum()
}

fn is_reference(text: &str) -> bool {
    let Some(first) = text.as_bytes().first() else {
        return false;
    };
    REFERENCES
        .iter()
        .any(|r| r.as_bytes()[0] == *first && text.starts_with(r))
}

fn has_stand_in(text: &str) -> bool {
    static FIND: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let find = FIND.get_or_init(|| AhoCorasick::new(STAND_INS).ok());
    find.as_ref().is_some_and(|find| find.is_match(text))
}

/// Returns true for a stand-in or a reference.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let text = lower(value);
    let trimmed = text.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '\\' | ':' | '?' | '!')
    });
    if trimmed.len() <= 12 && WORDS.contains(&trimmed) || is_reference(trimmed) {
        return true;
    }
    // `$TOKEN`, `%TOKEN%`, `<token>`, `[token]`, `{token}`, `*token*`
    let inner: &[u8] = value;
    let is_name = |s: &[u8]| {
        !s.is_empty()
            && s.iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b' ' | b':'))
    };
    match inner {
        [b'$', rest @ ..] if is_name(rest) && !rest[0].is_ascii_digit() => return true,
        [b'%', rest @ .., b'%']
        | [b'<', rest @ .., b'>']
        | [b'[', rest @ .., b']']
        | [b'{', rest @ .., b'}']
            if is_name(rest) =>
        {
            return true;
        }
        [b'%', b's' | b'd' | b'v' | b'@'] | [b'&', ..] => return true,
        _ => {}
    }
    if has_reference(trimmed) {
        return true;
    }
    // `$NAME/path`, `'$NAME'`
    if let Some(at) = value.iter().position(|b| *b == b'$')
        && value[..at].iter().all(|b| matches!(b, b'\'' | b'"'))
        && value[at + 1..]
            .iter()
            .take_while(|b| b.is_ascii_uppercase() || **b == b'_')
            .count()
            >= 3
    {
        return true;
    }
    // One character, repeated; or nothing but stars and dots.
    if let Some(first) = value.first()
        && value.iter().filter(|b| *b == first).count() * 10 >= value.len() * 9
    {
        return true;
    }
    if value
        .iter()
        .all(|b| matches!(b, b'*' | b'.' | b'x' | b'X' | b'-' | b'_' | b'#' | b'?'))
    {
        return true;
    }
    // Cut short: `sk-ant-api03-AbC...`; taken out: `ops_AbC..[Redacted]`
    if trimmed.ends_with("..") || trimmed.contains("...") || trimmed.contains("[redacted") {
        return true;
    }
    has_stand_in(trimmed) && !looks_random_inside(value)
}

/// Returns true for `sk_abcdefghijklmnopqrstuvwxyz`: nothing random has the alphabet in it.
pub(super) fn is_typed_in_order(value: &[u8]) -> bool {
    let mut run = 1;
    value.windows(2).any(|pair| {
        run = if pair[1] == pair[0] + 1 { run + 1 } else { 1 };
        run >= 24
    })
}

/// Returns true for base64 of a bare host name: a marker that some tokens begin with, not a token.
pub(super) fn is_encoded_host(value: &[u8]) -> bool {
    use base64::Engine as _;
    let value = value.trim_ascii_end();
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let padding = value.iter().rev().take_while(|b| **b == b'=').count();
    let Ok(host) = engine.decode(&value[..value.len() - padding]) else {
        return false;
    };
    let labels: Vec<&[u8]> = host.split(|b| *b == b'.').collect();
    let is_label = |label: &&[u8]| label.len() >= 2 && label.iter().all(u8::is_ascii_lowercase);
    labels.len() >= 3 && labels.iter().all(is_label)
}

/// Returns true if a value names a service in its key whose tokens have one form only, and has another one.
pub(super) fn is_no_token_of(name: &[u8], value: &[u8]) -> bool {
    // Telegram: the number of the bot, a colon, 35 characters. <https://core.telegram.org/bots/api#authorizing-your-bot>
    let Some(colon) = value.iter().position(|b| *b == b':') else {
        return false;
    };
    let (number, rest) = (&value[..colon], &value[colon + 1..]);
    let fits = number.iter().all(u8::is_ascii_digit)
        && (8..=10).contains(&number.len())
        && rest.len() == 35
        && rest
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    !fits && lower(name).contains("telegram")
}

/// Returns true if a well-formed `${NAME}`, `{{ name }}` or `$(command)` stands in a text.
fn has_reference(text: &str) -> bool {
    let is_inner = |c: char| {
        c.is_alphanumeric()
            || matches!(c, '_' | '.' | ':' | '-' | ' ' | '|' | '$' | '/' | '?' | '=')
    };
    [
        ("${", "}"),
        ("{{", "}}"),
        ("$(", ")"),
        ("#{", "}"),
        ("<%", "%>"),
    ]
    .iter()
    .any(|(open, close)| {
        text.match_indices(open).any(|(at, _)| {
            let rest = &text[at + open.len()..];
            rest.find(close)
                .is_some_and(|end| end > 0 && rest[..end].chars().all(is_inner))
        })
    })
}

/// Returns true if a value with a stand-in's word in it is random all the same: short words occur in it by chance.
fn looks_random_inside(value: &[u8]) -> bool {
    let digits = value.iter().any(u8::is_ascii_digit);
    value.len() >= 16 && digits && entropy(value) >= 3.5 && !is_wordy(value)
}

/// Says what a value looks like.
pub(super) fn look(value: &[u8]) -> Look {
    if is_placeholder(value) {
        return Look::Placeholder;
    }
    let n = value.len();
    let (mut lower, mut upper, mut digit, mut hex, mut other, mut odd) = (0, 0, 0, 0, 0, 0);
    for b in value {
        match b {
            b'0'..=b'9' => digit += 1,
            b'a'..=b'z' => lower += 1,
            b'A'..=b'Z' => upper += 1,
            b'-' | b'_' | b'+' | b'/' | b'=' | b'.' | b'~' | b':' | b'|' => other += 1,
            _ => odd += 1,
        }
        if b.is_ascii_hexdigit() || *b == b'-' {
            hex += 1;
        }
    }
    if digit == n || digit + other == n && n < 20 {
        return if digit == n && n >= 24 {
            Look::Hex
        } else {
            Look::Plain
        };
    }
    if hex == n && n >= 16 && (digit > 0 || n >= 24) {
        return if entropy(value) >= 2.5 {
            Look::Hex
        } else {
            Look::Plain
        };
    }
    if odd == 0 && n >= 10 {
        let letters = lower + upper;
        let mixed = digit > 0
            && letters > 0
            && (digit >= 2 || lower > 0 && upper > 0)
            && !ends_in_version(value);
        let bits = entropy(value);
        // Words joined by `-`, `_`, `.` or `/` are names, however long.
        let wordy = is_wordy(value);
        if mixed && !wordy && (n >= 16 && bits >= 3.0 || n >= 10 && bits >= 3.1 && digit >= 2) {
            return Look::Random;
        }
        if !mixed && !wordy && n >= 24 && lower > 0 && upper > 0 && bits >= 4.0 && other * 8 <= n {
            return Look::Random;
        }
        if wordy || !mixed {
            return if odd == 0 && (other > 0 || n > 40) {
                Look::Plain
            } else {
                Look::Text
            };
        }
    }
    Look::Text
}

/// Returns true for `name-0.11.2`.
pub(super) fn ends_in_version(value: &[u8]) -> bool {
    let tail = value
        .rsplit(|b| matches!(b, b'-' | b'@' | b':' | b'_' | b'=' | b'/'))
        .next()
        .unwrap_or_default();
    tail.len() < value.len()
        && tail.iter().filter(|b| **b == b'.').count() >= 1
        && tail.iter().all(|b| b.is_ascii_digit() || *b == b'.')
}

/// Returns true if a value consists of words, joined by punctuation or case, with few and short numbers among them.
pub(super) fn is_wordy(value: &[u8]) -> bool {
    let (mut words, mut numbers, mut others, mut word_chars, mut chars) = (0, 0, 0, 0, 0);
    for piece in value
        .split(|b| !b.is_ascii_alphanumeric())
        .filter(|p| !p.is_empty())
    {
        // Within a piece, runs of letters and runs of digits.
        let mut start = 0;
        while start < piece.len() {
            let is_digit = piece[start].is_ascii_digit();
            let mut end = start + 1;
            while end < piece.len()
                && piece[end].is_ascii_digit() == is_digit
                && !(piece[end].is_ascii_uppercase() && piece[end - 1].is_ascii_lowercase())
            {
                end += 1;
            }
            let run = &piece[start..end];
            chars += run.len();
            let vowels = run.iter().filter(|b| b"aeiouyAEIOUY".contains(b)).count();
            if is_digit && run.len() <= 4 {
                numbers += 1;
            } else if !is_digit
                && run.len() >= 3
                && vowels * 5 >= run.len()
                && vowels * 10 <= run.len() * 7
            {
                words += 1;
                word_chars += run.len();
            } else {
                others += 1;
            }
            start = end;
        }
    }
    // `getUser2Name` is a name; letters with numbers here and there are random, whatever syllables they make.
    let in_one = value.iter().all(u8::is_ascii_alphanumeric);
    if in_one && value.len() >= 16 && numbers >= 2 {
        return false;
    }
    words > 0
        && others * 3 <= words + 1
        && numbers <= words / 2 + 1
        && word_chars * 3 >= chars * 2
        && word_chars / words >= 3
}
