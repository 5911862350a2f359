//! Finds secrets that only the structure of a configuration file reveals: a value in
//! `mcpServers.*.env`, a Kubernetes secret.

use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::values::{Look, is_placeholder, look};
use super::words::{Strength, strength};
use super::{Finding, Group};

mod leaves;

pub use leaves::{Format, Leaf, format_of, leaves};

/// Headers with secret values, in lower case.
const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "cookie",
    "set-cookie",
    "x-goog-api-key",
    "x-functions-key",
];

/// Keys under which MCP clients list servers.
const SERVERS: &[&str] = &[
    "mcpServers",
    "mcp_servers",
    "context_servers",
    "servers",
    "mcp",
];

/// Returns true for a value that a program generated, or a person who was asked for a password: not
/// a word, place, number, model or version.
pub(super) fn looks_made(value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let is_place = value.starts_with(b"/")
        || value.starts_with(b"~")
        || value.starts_with(b".")
        || value.get(1..3) == Some(b":\\")
        || memchr::memmem::find(value, b"://").is_some();
    let odd = |b: &u8| b"!@#$%^&*+=?<>|;,(~".contains(b);
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    value.len() >= 8
        && !is_place
        && !value.contains(&b' ')
        && has(u8::is_ascii_digit)
        && (mixed || has(odd) && has(u8::is_ascii_alphabetic))
        && !super::values::is_wordy(value)
}

/// How many leaves before and after one count as its neighbours.
const NEAR: usize = 256;

/// Returns the text of another leaf with the same parent.
fn sibling<'t>(keys: &[&str], name: &str, text: &'t [u8], leaves: &[Leaf]) -> Option<&'t [u8]> {
    let parent = &keys[..keys.len() - 1];
    let leaf = leaves.iter().find(|leaf| {
        leaf.path.len() == keys.len()
            && leaf.path.last().is_some_and(|last| last == name)
            && leaf.path.iter().zip(parent).all(|(a, b)| a == b)
    })?;
    Some(&text[leaf.inner.clone()])
}

/// Returns true for the private parts of a JSON web key.
fn is_key_part(keys: &[&str], last: &str, text: &[u8], leaves: &[Leaf]) -> bool {
    matches!(last, "d" | "p" | "q" | "dp" | "dq" | "qi" | "k")
        && sibling(keys, "kty", text, leaves).is_some()
}

/// Returns true for values in a Terraform state that Terraform generated or calls sensitive.
fn is_generated(keys: &[&str], last: &str, text: &[u8], leaves: &[Leaf]) -> bool {
    match keys {
        ["resources", number, "instances", _, "attributes", _] => {
            matches!(last, "result" | "bcrypt_hash")
                && sibling(&["resources", number, ""], "type", text, leaves)
                    == Some(b"random_password")
        }
        ["outputs", _, "value"] => sibling(keys, "sensitive", text, leaves) == Some(b"true"),
        _ => false,
    }
}

/// Adds the secrets that the structure reveals.
pub(super) fn secrets(name: &[u8], text: &[u8], found: &mut Vec<Finding>) {
    let Some(format) = format_of(name).or_else(|| named_json(name)) else {
        return;
    };
    if !is_worth_reading(format, text) {
        return;
    }
    let Some(leaves) = leaves(format, text) else {
        return;
    };
    let document = Document::of(format, text, &leaves);
    for (at, leaf) in leaves.iter().enumerate() {
        let inner = &leaf.inner;
        // The scan has found it already; if it found only a small part of the value, that was
        // something else.
        let is_known = |f: &Finding| {
            f.group == Group::Secret
                && f.range.start < inner.end
                && inner.start < f.range.end
                && f.range.len() * 2 > inner.len()
        };
        if document.is_secret(at) && !found.iter().any(is_known) {
            // `Bearer …`: the scheme is no secret.
            let value = &text[inner.clone()];
            let scheme = [&b"Bearer "[..], b"Basic ", b"Token "]
                .iter()
                .find(|s| value.starts_with(s))
                .map_or(0, |s| s.len());
            found.push(Finding {
                range: inner.start + scheme..inner.end,
                group: Group::Secret,
                kind: "configured",
            });
        }
    }
    found.sort_by_key(|f| (f.range.start, f.range.end));
}

/// Returns false if the structure reveals nothing that the scan has not seen: parsing is slow, and
/// most files contain none of these words.
fn is_worth_reading(format: Format, text: &[u8]) -> bool {
    const WORDS: [&[u8]; 10] = [
        b"env",
        b"environment",
        b"Environment",
        b"headers",
        b"auths",
        b"args",
        b"_auth",
        b"kty",
        b"random_password",
        b"sensitive",
    ];
    // One pass for all: at each place the longest, which is the only one that may be a whole word.
    static ANY: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let any = ANY.get_or_init(|| {
        let mut any = AhoCorasick::builder();
        any.match_kind(MatchKind::LeftmostLongest).build(WORDS).ok()
    });
    let is_part = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    // `env` in `environments` is no key.
    let is_whole = |word: &Range<usize>| {
        let before = word.start.checked_sub(1).and_then(|at| text.get(at));
        !is_part(before) && !is_part(text.get(word.end))
    };
    let has = |word: &[u8]| {
        memchr::memmem::find_iter(text, word).any(|at| is_whole(&(at..at + word.len())))
    };
    let has_any = || {
        let mut found = any.iter().flat_map(|any| any.find_iter(text));
        found.any(|found| is_whole(&found.range()))
    };
    let is_kubernetes = || format == Format::Yaml && (has(b"Secret") || has(b"secret"));
    let is_worth = format == Format::Env
        || has_any()
        || is_kubernetes()
        || has(b"value") && lists_secret(format, text);
    is_worth && text.len() <= 8 << 20
}

/// Returns true if a list of names and values may have a secret: the name is near the value.
fn lists_secret(format: Format, text: &[u8]) -> bool {
    const NEAR: usize = 200;
    const WORDS: [&str; 10] = [
        "token",
        "secret",
        "password",
        "passwd",
        "api-key",
        "api_key",
        "apikey",
        "accesskey",
        "authorization",
        "cookie",
    ];
    static FIND: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let find = FIND.get_or_init(|| {
        let builder = &mut AhoCorasick::builder();
        builder.ascii_case_insensitive(true).build(WORDS).ok()
    });
    let member: &[u8] = match format {
        Format::Json => b"\"value\"",
        Format::Yaml => b"value:",
        _ => return false,
    };
    let mut near = memchr::memmem::find_iter(text, member).map(|at| {
        let end = (at + NEAR).min(text.len());
        &text[at.saturating_sub(NEAR)..end]
    });
    near.any(|near| find.as_ref().is_some_and(|find| find.is_match(near)))
}

/// A configuration file, with facts about the whole.
struct Document<'t> {
    format: Format,
    text: &'t [u8],
    leaves: &'t [Leaf],
    is_kubernetes: bool,
    has_keys: bool,
    has_state: bool,
}

impl<'t> Document<'t> {
    fn of(format: Format, text: &'t [u8], leaves: &'t [Leaf]) -> Self {
        let has = |what: &[u8]| memchr::memmem::find(text, what).is_some();
        let is_kind = |leaf: &Leaf| {
            leaf.path.last().is_some_and(|key| key == "kind")
                && text[leaf.inner.clone()].eq_ignore_ascii_case(b"secret")
        };
        Self {
            format,
            text,
            leaves,
            is_kubernetes: format == Format::Yaml && leaves.iter().any(is_kind),
            has_keys: has(b"\"kty\""),
            has_state: has(b"random_password") || has(b"\"sensitive\""),
        }
    }

    /// Judges a leaf by its place: the first known place decides.
    fn is_secret(&self, at: usize) -> bool {
        let leaf = &self.leaves[at];
        let value = &self.text[leaf.inner.clone()];
        if !leaf.is_text || value.is_empty() {
            return false;
        }
        // Related leaves are close together.
        let near = &self.leaves[at.saturating_sub(NEAR)..(at + NEAR).min(self.leaves.len())];
        let keys: Vec<&str> = leaf.path.iter().map(String::as_str).collect();
        let last = keys.last().copied().unwrap_or_default();
        let parent = keys.len().checked_sub(2).map_or("", |i| keys[i]);
        let strong = strength(last.as_bytes());
        let is_one = match self.format {
            Format::Env => strong >= Strength::Token && value.len() >= 4,
            // MCP servers get their secrets here, under names of their own.
            _ if matches!(parent, "env" | "headers")
                && keys.iter().any(|key| SERVERS.contains(key))
                && looks_made(value) =>
            {
                true
            }
            Format::Json if self.has_keys && is_key_part(&keys, last, self.text, near) => {
                value.len() >= 16
            }
            Format::Json if self.has_state && is_generated(&keys, last, self.text, near) => true,
            _ if matches!(parent, "env" | "environment") => is_in_environment(strong, value),
            _ if is_in_list(&keys) => {
                let named = |name| sibling(&keys, name, self.text, near);
                let name = named("name").or_else(|| named("Name"));
                is_in_environment(strength(name.unwrap_or_default()), value)
            }
            _ if is_in_named_list(&keys) => self.is_named(&keys, near, value),
            _ if parent == "headers" => is_header(last, strong, value),
            _ if keys.contains(&"auths") => matches!(last, "auth" | "identitytoken" | "password"),
            _ if keys.contains(&"args") => self.is_argument(at, value),
            Format::Yaml if self.is_kubernetes => {
                keys.contains(&"stringData") && value.len() >= 4
                    // In base64; shorter values are switches.
                    || keys.contains(&"data") && value.len() > 8
            }
            _ => last == "_auth",
        };
        // It takes longest, and nearly nothing comes here.
        is_one && !is_placeholder(value)
    }

    /// Requests of Postman, Insomnia and HAR: the name is in the member beside.
    fn is_named(&self, keys: &[&str], near: &[Leaf], value: &[u8]) -> bool {
        let names = ["name", "Name", "key", "Key"];
        let mut names = names
            .iter()
            .filter_map(|name| sibling(keys, name, self.text, near));
        let Some(name) = names.next() else {
            return false;
        };
        // `Bearer …`
        let value = value.rsplit(|b| *b == b' ').next().unwrap_or_default();
        // A label, as a form has it beside the field.
        if is_encoded_label(value) {
            return false;
        }
        let is_made = || value.len() >= 16 && matches!(look(value), Look::Random | Look::Hex);
        let of = keys.len().checked_sub(3).map_or("", |at| keys[at]);
        let lower = name.to_ascii_lowercase();
        let is_header = || HEADERS.iter().any(|header| header.as_bytes() == lower);
        match strength(name) {
            Strength::Password => value.len() >= 6 && (looks_chosen(value) || is_made()),
            Strength::Token => is_made(),
            _ if of == "cookies" => is_made(),
            _ => is_header() && value.len() >= 8 && (looks_made(value) || is_made()),
        }
    }

    /// `--api-key`, then the value.
    fn is_argument(&self, at: usize, value: &[u8]) -> bool {
        let before = at.checked_sub(1).map(|before| &self.leaves[before].inner);
        let flag = before.map_or(&b""[..], |inner| &self.text[inner.clone()]);
        flag.starts_with(b"-")
            && !flag.contains(&b'=')
            && strength(flag) >= Strength::Token
            && !value.starts_with(b"-")
            && value.len() >= 6
    }
}

/// `env: [{name: …, value: …}]` of Kubernetes, `environment` of ECS, `Environment` of CloudFormation.
fn is_in_list(keys: &[&str]) -> bool {
    matches!(
        keys,
        [.., "env" | "environment" | "Environment", number, "value" | "Value"]
            if number.bytes().all(|b| b.is_ascii_digit())
    )
}

/// `[{"key": "token", "value": …}]`
fn is_in_named_list(keys: &[&str]) -> bool {
    matches!(
        keys,
        [.., number, "value" | "Value"] if number.bytes().all(|b| b.is_ascii_digit())
    )
}

/// Returns true for base64 of a word with a colon: `UGFzc3dvcmQ6` is `Password:`.
fn is_encoded_label(value: &[u8]) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(value);
    decoded.is_ok_and(|text| {
        let is_in = |b: &u8| b.is_ascii_alphabetic() || *b == b' ';
        text.strip_suffix(b":")
            .is_some_and(|text| text.iter().all(is_in))
    })
}

/// Returns true for a password that somebody chose: not a word, and no label.
fn looks_chosen(value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let odd = |b: &u8| b"!@#$%^&*+=?|;,~".contains(b);
    has(u8::is_ascii_alphabetic) && (has(u8::is_ascii_digit) || has(odd))
}

fn is_in_environment(strong: Strength, value: &[u8]) -> bool {
    strong >= Strength::Token && value.len() >= 4
        || strong != Strength::Benign && value.len() >= 20 && matches!(look(value), Look::Random)
}

fn is_header(name: &str, strong: Strength, value: &[u8]) -> bool {
    HEADERS.contains(&name.to_ascii_lowercase().as_str())
        || strong >= Strength::Token
        || matches!(look(value), Look::Random) && value.len() >= 20
}

/// JSON files whose names do not say so.
fn named_json(name: &[u8]) -> Option<Format> {
    let ends = [
        &b".tfstate"[..],
        b".tfstate.backup",
        b".jwk",
        b".jwks",
        b".har",
    ];
    (name == b".dockercfg" || ends.iter().any(|end| name.ends_with(end))).then_some(Format::Json)
}
