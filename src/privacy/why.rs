//! Says why something was found: which rule, and which word. Never the value.

use super::{Finding, Group, class, secrets, tokens};

/// Why something was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub rule: String,
    /// The name before the value, if that decided.
    pub word: Option<String>,
}

/// Returns why something was found in a text.
pub fn why(text: &[u8], finding: &Finding) -> Why {
    let word = match finding.kind {
        "generic" | "password" => secrets::deciding(text, &finding.range)
            .map(|name| &text[name.start..name.end.min(name.start + 64)])
            .filter(|name| !may_be_value(name))
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    let rule = match (finding.kind, finding.group) {
        ("generic" | "password", _) if word.is_some() => "the name before it".to_owned(),
        ("generic" | "password", _) => "what stands before it".to_owned(),
        ("url-password", _) => "a password in a URL".to_owned(),
        ("authorization", _) => "the value of a header".to_owned(),
        ("basic-auth", _) => "user and password of a command".to_owned(),
        ("command", _) => "an argument that a program takes as a secret".to_owned(),
        ("private-key", _) => "a key between its armour lines".to_owned(),
        ("base64", _) => "a text with a secret, in base64".to_owned(),
        ("column", _) => "the name of a column".to_owned(),
        ("configured", _) => "its place in the configuration".to_owned(),
        ("secret-container" | "unreadable-configuration", _) => "the name of the file".to_owned(),
        (kind, Group::Secret) if tokens::has_kind(kind) => format!("the form of a {kind}"),
        (kind, _) => format!("the form of a {kind}, or words beside it"),
    };
    Why { rule, word }
}

/// Returns true for a word that may be a value that no rule knows: it is not to be shown either.
fn may_be_value(word: &[u8]) -> bool {
    word.iter().filter(|b| b.is_ascii_digit()).count() >= 3 && word.len() >= 8
}

/// Longest context before a value, in bytes.
const BEFORE: usize = 40;
/// Most of a value that is shown by its shape.
const SHOWN: usize = 24;

/// Returns the line of a finding up to its end, with every value replaced by its shape: `a` for a small
/// letter, `A` for a capital, `0` for a digit.
pub fn masked(text: &[u8], findings: &[Finding], finding: &Finding) -> String {
    let range = finding.range.start.min(text.len())..finding.range.end.min(text.len());
    let line = memchr::memrchr(b'\n', &text[..range.start]).map_or(0, |at| at + 1);
    let from = line.max(range.start.saturating_sub(BEFORE));
    let is_hidden = |at: usize| findings.iter().any(|one| one.range.contains(&at));
    let before = &text[from..range.start];
    let mut shown: Vec<u8> = Vec::new();
    for word in before.split_inclusive(|b| !b.is_ascii_alphanumeric()) {
        let random = may_be_value(word);
        let at = from + shown.len();
        match random || (at..at + word.len()).any(is_hidden) {
            true => shown.extend(word.iter().map(|b| shape(*b))),
            false => shown.extend(word),
        }
    }
    let value = &text[range.start..range.end];
    shown.extend(value.iter().take(SHOWN).map(|b| shape(*b)));
    let mut said: String = String::from_utf8_lossy(&shown)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if value.len() > SHOWN {
        said.push('…');
    }
    said.trim_start().to_owned()
}

fn shape(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => b'a',
        b'A'..=b'Z' => b'A',
        b'0'..=b'9' => b'0',
        b' '..=b'~' => byte,
        _ => b'?',
    }
}

/// Returns true if a file is one of those that are no text, where nothing can be shown.
pub fn is_text(path: &[u8], bytes: &[u8]) -> bool {
    class::of(path, bytes) == class::Class::Text
}
