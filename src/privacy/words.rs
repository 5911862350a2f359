//! What a name says of the value beside it.

use foldhash::{HashMap, HashMapExt as _};
use std::cell::RefCell;

/// How much a name says that its value is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// It says that it is not: `token_count`, `public_key`.
    Benign,
    /// Nothing.
    None,
    /// Something secret-like may stand there: `key`, `auth`, a service's name.
    Weak,
    /// A token or key that machines make: `token`, `api_key`, `client_secret`.
    Token,
    /// A password, made by people: any text may be one.
    Password,
}

/// Ends of names whose values are passwords.
const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwrd",
    "passw",
    "pwd",
    "pass",
    "pw",
    "psk",
    "contrasena",
    "contraseña",
];
/// Words of names whose values are secrets that machines make.
const TOKENS: &[&str] = &[
    "secret",
    "secrets",
    "secrete",
    "token",
    "tokens",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "credential",
    "credentials",
    "cred",
    "creds",
    "bearer",
    "authorization",
    "dsn",
    "jwt",
    "pat",
    "apitoken",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "clientsecret",
    "apisecret",
    "sessionkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "servicekey",
    "accountkey",
    "webhook",
    "salt",
    "cookie",
    "dbkey",
    "clientkey",
    "sharedkey",
    "sharedsecret",
    "appsecret",
    "consumersecret",
    "privkey",
    "keypass",
    "sas",
    "otp",
    "seed",
    "mnemonic",
    "oauth",
];
/// Before `key`, these make it a secret.
const KEY_QUALIFIERS: &[&str] = &[
    "api",
    "access",
    "auth",
    "service",
    "account",
    "private",
    "priv",
    "secret",
    "encryption",
    "signing",
    "client",
    "db",
    "master",
    "session",
    "app",
    "application",
    "shared",
    "license",
    "deploy",
    "storage",
    "admin",
    "write",
    "integration",
    "rest",
    "consumer",
    "token",
    "hmac",
    "aes",
    "crypt",
    "cipher",
    "jwt",
    "security",
    "subscription",
    "developer",
    "dev",
    "user",
    "server",
    "secure",
    "ssh",
    "rsa",
    "pgp",
    "gpg",
    "root",
    "bot",
    "stripe",
    "provision",
    "device",
    "connect",
    "sender",
    "sending",
    "data",
    "sonar",
];
/// Words that alone say little.
const WEAK: &[&str] = &[
    "key",
    "auth",
    "access",
    "api",
    "private",
    "client",
    "login",
    "credential",
    "appid",
    "sid",
    "signature",
];
/// As the last word, these say that the value is not the secret.
const BENIGN_ENDS: &[&str] = &[
    "id",
    "ids",
    "name",
    "names",
    "length",
    "len",
    "alias",
    "file",
    "filename",
    "path",
    "dir",
    "type",
    "types",
    "version",
    "count",
    "counts",
    "used",
    "limit",
    "limits",
    "size",
    "max",
    "min",
    "usage",
    "total",
    "budget",
    "url",
    "uri",
    "endpoint",
    "host",
    "port",
    "user",
    "username",
    "email",
    "field",
    "label",
    "hint",
    "policy",
    "expiry",
    "expires",
    "expiration",
    "ttl",
    "age",
    "at",
    "date",
    "time",
    "timestamp",
    "status",
    "state",
    "enabled",
    "required",
    "env",
    "var",
    "ref",
    "reference",
    "algorithm",
    "alg",
    "format",
    "prefix",
    "suffix",
    "index",
    "column",
    "header",
    "scheme",
    "mode",
    "method",
    "scope",
    "scopes",
    "strength",
    "regex",
    "pattern",
    "placeholder",
    "description",
    "title",
    "message",
    "text",
    "class",
    "input",
    "output",
    "provider",
    "manager",
    "store",
    "service",
    "issuer",
    "audience",
    "map",
    "list",
    "set",
    "arn",
    "kind",
    "rotation",
    "reset",
    "fingerprint",
    "hash",
    "digest",
    "checksum",
    "thumbprint",
    "tokens",
    "cost",
    "rate",
    "estimate",
    "display",
    "visible",
    "changed",
    "last",
    "next",
    "page",
    "cursor",
];
/// Before `key` or `token`, these say that it is none.
const BENIGN_QUALIFIERS: &[&str] = &[
    "public",
    "pub",
    "primary",
    "foreign",
    "sort",
    "partition",
    "cache",
    "object",
    "idempotency",
    "unique",
    "sorting",
    "range",
    "row",
    "map",
    "dict",
    "json",
    "hot",
    "short",
    "arrow",
    "lookup",
    "group",
    "search",
    "sync",
    "page",
    "next",
    "continuation",
    "cancellation",
    "cancel",
    "max",
    "min",
    "input",
    "output",
    "total",
    "prompt",
    "completion",
    "num",
    "count",
    "cached",
    "reasoning",
    "thinking",
    "csrf",
    "xsrf",
    "authenticity",
    "verification",
    "i18n",
    "translation",
    "react",
    "storage_",
    "parent",
    "tree",
    "entity",
    "model",
    "s3",
    "bucket",
    "routing",
    "message",
    "event",
    "registry",
    "composite",
    "natural",
    "surrogate",
    "host",
    "known",
    "monkey",
    "turkey",
    "donkey",
    "design",
    "css",
    "syntax",
    "lex",
];

/// Splits a name into words, in lower case: at `_ - . : / space` and where the case rises.
fn split(name: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut word = Vec::new();
    let mut last = 0_u8;
    for (i, &b) in name.iter().enumerate() {
        let next = name.get(i + 1).copied().unwrap_or(0);
        let rises = b.is_ascii_uppercase()
            && (last.is_ascii_lowercase()
                || last.is_ascii_digit()
                || last.is_ascii_uppercase() && next.is_ascii_lowercase());
        if !b.is_ascii_alphanumeric() && b < 0x80 {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            if rises && !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            word.push(b.to_ascii_lowercase());
        }
        last = b;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn is_in(word: &[u8], list: &[&str]) -> bool {
    list.iter().any(|w| w.as_bytes() == word)
}

fn ends_in(word: &[u8], list: &[&str], shortest: usize) -> bool {
    list.iter()
        .any(|w| w.len() >= shortest && word.ends_with(w.as_bytes()))
}

/// What was judged of names: logs say the same few over and over.
type Judged = HashMap<Vec<u8>, (Strength, bool)>;

/// Most names that are remembered.
const REMEMBERED: usize = 4096;

thread_local! {
    static JUDGED: RefCell<Judged> = RefCell::new(Judged::new());
}

/// Says how much `name` says that its value is secret, and whether it names a service.
pub(super) fn judged(name: &[u8]) -> (Strength, bool) {
    JUDGED.with_borrow_mut(|judged| {
        if let Some(found) = judged.get(name) {
            return *found;
        }
        if judged.len() >= REMEMBERED {
            judged.clear();
        }
        let found = (judge(name), names_service(name));
        judged.insert(name.to_vec(), found);
        found
    })
}

/// Says how much `name` says that its value is secret.
pub(super) fn strength(name: &[u8]) -> Strength {
    judged(name).0
}

/// Judges a name by its last word, and by those before it. The order of the questions decides: a name that ends in a password is one whatever
/// comes before it, and only what no other list knows is asked about in one word.
fn judge(name: &[u8]) -> Strength {
    if name.len() >= 15 && name.to_ascii_lowercase().ends_with(b"client-key-data") {
        return Strength::Token;
    }
    let words = split(name);
    let Some(mut last) = words.last() else {
        return Strength::None;
    };
    let mut rest = &words[..words.len() - 1];
    // `password1`, `token_2`.
    if last.iter().all(u8::is_ascii_digit) && !rest.is_empty() {
        (last, rest) = (&rest[rest.len() - 1], &rest[..rest.len() - 1]);
    }
    let digits = last.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let end = &last[..last.len() - digits];
    let before = rest.last().map(|word| &word[..]);
    if let Some(found) = as_password(end, before)
        .or_else(|| as_key(end, rest))
        .or_else(|| as_token(end, before))
        .or_else(|| about_a_secret(end, last, rest))
        .or_else(|| in_one_word(end))
        .or_else(|| in_front(end, before))
    {
        return found;
    }
    if is_in(end, WEAK) || ends_in(end, &["access", "private", "secret", "token"], 6) {
        return Strength::Weak;
    }
    if is_in(end, BENIGN_ENDS) {
        return Strength::Benign;
    }
    match words.iter().any(|w| is_service(w)) {
        true => Strength::Weak,
        false => Strength::None,
    }
}

fn as_password(end: &[u8], before: Option<&[u8]>) -> Option<Strength> {
    let is_one = is_in(end, PASSWORDS)
        || ends_in(end, PASSWORDS, 6)
        || ends_in(end, &["pwd", "pass"], 3) && end.len() <= 12;
    if !is_one {
        return None;
    }
    let words = [
        &b"bypass"[..],
        b"compass",
        b"encompass",
        b"surpass",
        b"trespass",
        b"overpass",
        b"underpass",
        b"byepass",
    ];
    if words.contains(&end) {
        return Some(Strength::None);
    }
    // `allow_pass`, `first pass` are not passwords; `db_pass` is.
    Some(match end == b"pass" && before.is_none() {
        true => Strength::Token,
        false => Strength::Password,
    })
}

/// `api_key`: what kind of key it is is said before.
fn as_key(end: &[u8], rest: &[Vec<u8>]) -> Option<Strength> {
    if end != b"key" && end != b"keys" {
        return None;
    }
    let qualified = |list: &[&str]| rest.last().is_some_and(|w| is_in(w, list));
    Some(if qualified(BENIGN_QUALIFIERS) {
        Strength::Benign
    } else if qualified(KEY_QUALIFIERS) || rest.iter().any(|w| is_in(w, TOKENS)) {
        Strength::Token
    } else {
        Strength::Weak
    })
}

fn as_token(end: &[u8], before: Option<&[u8]>) -> Option<Strength> {
    if !is_in(end, TOKENS) {
        return None;
    }
    let is_benign = before.is_some_and(|w| is_in(w, BENIGN_QUALIFIERS)) || end == b"tokens";
    Some(match is_benign {
        true => Strength::Benign,
        false => Strength::Token,
    })
}

/// `token_count`, `key_file`: it says something about a secret.
fn about_a_secret(end: &[u8], last: &Vec<u8>, rest: &[Vec<u8>]) -> Option<Strength> {
    let mut words = rest.iter().chain([last]);
    let is_about = is_in(end, BENIGN_ENDS)
        && words.any(|w| is_in(w, TOKENS) || is_in(w, PASSWORDS) || w == b"key");
    is_about.then_some(Strength::Benign)
}

/// `awssecretkey`, `fbconnectkey`, `nobleKey`.
fn in_one_word(end: &[u8]) -> Option<Strength> {
    if ends_in(end, TOKENS, 5) {
        return Some(Strength::Token);
    }
    if !ends_in(end, &["key"], 3) || end.len() <= 4 {
        return None;
    }
    let words = [
        "monkey",
        "turkey",
        "donkey",
        "hockey",
        "jockey",
        "whiskey",
        "publickey",
        "hotkey",
        "primarykey",
    ];
    Some(match ends_in(end, &words, 3) {
        true => Strength::Benign,
        false => Strength::Weak,
    })
}

/// The word is further to the front: `my_password_secure`, `token_value`.
fn in_front(end: &[u8], before: Option<&[u8]>) -> Option<Strength> {
    let says_nothing = [
        &b"secure"[..],
        b"value",
        b"val",
        b"str",
        b"string",
        b"raw",
        b"plain",
        b"default",
        b"prod",
        b"dev",
        b"test",
        b"current",
        b"new",
        b"old",
        b"prefix_",
    ];
    let word = before.filter(|_| says_nothing.contains(&end))?;
    if is_in(word, PASSWORDS) {
        Some(Strength::Password)
    } else if is_in(word, TOKENS) {
        Some(Strength::Token)
    } else {
        None
    }
}

/// Names of services whose keys are plain random text, as they stand in the names of variables.
const SERVICES: &str = include_str!("services.txt");

/// Returns true if a word in lower case is the name of a service, or begins with one.
pub(super) fn is_service(word: &[u8]) -> bool {
    static NAMES: std::sync::OnceLock<foldhash::HashSet<&'static [u8]>> =
        std::sync::OnceLock::new();
    let names = NAMES.get_or_init(|| {
        SERVICES
            .lines()
            .filter(|l| !l.starts_with('#'))
            .flat_map(str::split_whitespace)
            .map(str::as_bytes)
            .collect()
    });
    names.contains(word)
}

/// Returns true if a name has a service's name as a word of it, or begins with one in one word: `moonclerkKEY`.
fn names_service(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(|b| !b.is_ascii_alphanumeric());
    if words.any(is_service) {
        return true;
    }
    // `mailgunToken`, `ipstackKEY`: up to where the case changes, or a sensitive word begins.
    for end in 3..lower.len() {
        let rest = &lower[end..];
        let begins = [
            &b"key"[..],
            b"token",
            b"secret",
            b"access",
            b"private",
            b"api",
            b"auth",
            b"pass",
            b"client",
            b"app",
            b"org",
        ];
        if begins.iter().any(|w| rest.starts_with(w)) && is_service(&lower[..end]) {
            return true;
        }
    }
    false
}
