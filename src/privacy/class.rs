//! Determines what kind of file it is, from its name and first bytes.

use std::io::Read as _;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// How a file is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// All of it is secret: keys, password stores.
    Container,
    /// A configuration file that is not text.
    Unreadable,
    Wide,
    /// Anything else that is not text.
    Binary,
    Text,
}

/// Names of files that contain keys or passwords and nothing else.
const CONTAINERS: &[&str] = &[
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    ".netrc",
    "_netrc",
    ".pgpass",
    "pgpass.conf",
    ".git-credentials",
    ".htpasswd",
    ".vault-token",
    ".authinfo",
    ".authinfo.gpg",
    ".my.cnf",
    ".mylogin.cnf",
    "login.keychain-db",
    "key4.db",
    "logins.json",
    ".vault_pass",
    "master.key",
];
/// Suffixes of such names.
const CONTAINER_ENDS: &[&str] = &[
    ".p12",
    ".pfx",
    ".kdbx",
    ".kdb",
    ".jks",
    ".keystore",
    ".ppk",
    ".p8",
    ".agekey",
    ".keychain",
    ".keychain-db",
    ".gpg-key",
    ".ovpn-auth",
];
/// Suffixes of such paths.
const CONTAINER_PATHS: &[&str] = &[
    "/.aws/credentials",
    "/.config/gcloud/credentials.db",
    "/.config/gcloud/access_tokens.db",
    "/.ssh/identity",
    "/.gnupg/secring.gpg",
];

/// Returns true for a file named like settings: whatever cannot be read there may be a secret.
fn is_configuration(name: &[u8]) -> bool {
    let ext = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    name.starts_with(b".env")
        || [
            &b"env"[..],
            b"json",
            b"jsonc",
            b"json5",
            b"toml",
            b"yaml",
            b"yml",
            b"ini",
            b"conf",
            b"cfg",
            b"properties",
            b"tfvars",
            b"plist",
        ]
        .contains(&ext)
}

/// Returns true for a file that is all secret, by its name.
pub(super) fn is_container(path: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let name = name_of(&lower);
    CONTAINERS.iter().any(|n| n.as_bytes() == name)
        || CONTAINER_ENDS.iter().any(|e| name.ends_with(e.as_bytes()))
        || CONTAINER_PATHS
            .iter()
            .any(|e| lower.ends_with(e.as_bytes()))
        || memchr::memmem::find(&lower, b"/.gnupg/private-keys-v1.d/").is_some()
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|b| matches!(b, b'/' | b'\\'))
        .next()
        .unwrap_or_default()
}

pub(super) fn of(path: &[u8], bytes: &[u8]) -> Class {
    if is_container(path) {
        return Class::Container;
    }
    let lower = path.to_ascii_lowercase();
    let name = name_of(&lower);
    let head = &bytes[..bytes.len().min(8192)];
    let nuls = memchr::memchr_iter(0, head).count();
    if is_wide_32(head)
        || head.starts_with(&[0xff, 0xfe])
        || head.starts_with(&[0xfe, 0xff])
        || nuls * 5 >= head.len() * 2 && is_wide(head)
    {
        return Class::Wide;
    }
    if nuls > 0 || head.starts_with(&[0x1f, 0x8b]) || is_zlib(bytes) {
        return if is_configuration(name) && !name.ends_with(b".plist") {
            Class::Unreadable
        } else {
            Class::Binary
        };
    }
    Class::Text
}

/// Returns true if nearly every other byte is zero and those between are not; all zeros are no
/// characters.
fn is_wide(head: &[u8]) -> bool {
    let zeros = |from: usize| {
        head.iter()
            .skip(from)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    let half = head.len() / 2;
    let (many, few) = (half * 8, half * 2);
    half > 8 && (even * 10 >= many && odd * 10 < few || odd * 10 >= many && even * 10 < few)
}

/// Returns true for UTF-32 with its mark.
fn is_wide_32(head: &[u8]) -> bool {
    head.starts_with(&[0xff, 0xfe, 0, 0]) || head.starts_with(&[0, 0, 0xfe, 0xff])
}

/// Returns UTF-16 or UTF-32 as one byte per character, with `?` for everything outside ASCII.
pub(super) fn narrow(bytes: &[u8]) -> Vec<u8> {
    if is_wide_32(bytes) {
        let units = bytes.chunks_exact(4).map(|four| match bytes[0] {
            0 => u32::from_be_bytes([four[0], four[1], four[2], four[3]]),
            _ => u32::from_le_bytes([four[0], four[1], four[2], four[3]]),
        });
        return units
            .map(|unit| u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(b'?'))
            .collect();
    }
    let swapped = bytes.starts_with(&[0xfe, 0xff])
        || !bytes.starts_with(&[0xff, 0xfe]) && bytes.first() == Some(&0);
    bytes
        .chunks_exact(2)
        .map(|pair| {
            let unit = if swapped {
                u16::from_be_bytes([pair[0], pair[1]])
            } else {
                u16::from_le_bytes([pair[0], pair[1]])
            };
            u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(b'?')
        })
        .collect()
}

/// Returns true if zlib data may begin with these bytes. Text may begin like that too: `x `.
pub(super) fn is_zlib_head(head: &[u8]) -> bool {
    matches!(head, [0x78, second, ..] if (0x7800 + u16::from(*second)).is_multiple_of(31))
}

/// Returns true for zlib data (git objects): not text, and the decoder has to produce something.
pub(super) fn is_zlib(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(8192)];
    if !is_zlib_head(head) {
        return false;
    }
    let is_text = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The end of the head may cut a character.
        Err(error) => error.valid_up_to() + 4 > head.len() && error.error_len().is_none(),
    };
    let mut first = [0; 32];
    !is_text
        && flate2::read::ZlibDecoder::new(bytes)
            .read(&mut first)
            .is_ok_and(|n| n > 0)
}

pub(super) fn is_log_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    [&b".jsonl"[..], b".ndjson", b".log", b".csv", b".tsv"]
        .iter()
        .any(|e| lower.ends_with(e))
}

/// Returns true for a log: one record per line.
pub(super) fn is_log(name: &[u8], bytes: &[u8]) -> bool {
    if is_log_name(name) {
        return true;
    }
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(b".json") {
        return false;
    }
    // Its name does not say so, but the first lines are JSON objects.
    let mut lines = bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .take(3);
    let mut number = 0;
    lines.all(|line| {
        number += 1;
        let line = line.trim_ascii();
        line.starts_with(b"{") && line.ends_with(b"}")
    }) && number >= 2
}

/// Returns true for health care documents: FHIR, HL7 version 2, C-CDA, X12 claims.
pub(super) fn is_health_document(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(16 * 1024)];
    let has = |what: &[u8]| memchr::memmem::find(head, what).is_some();
    // Nearly no text has a first one of these, so they are looked for by what is made once.
    static FIRST: LazyLock<[Finder<'static>; 5]> = LazyLock::new(|| {
        [
            &b"\nMSH|^~\\&"[..],
            b"\rPID|",
            b"\nPID|",
            b"urn:hl7-org:v3",
            b"\"resourceType\"",
        ]
        .map(Finder::new)
    });
    let [message, first_patient, patient, schema, resources] = &*FIRST;
    let is_there = |what: &Finder<'_>| what.find(head).is_some();
    if head.starts_with(b"MSH|^~\\&")
        || is_there(message)
        || is_there(first_patient)
        || is_there(patient)
    {
        return true;
    }
    if is_there(schema) && has(b"ClinicalDocument") {
        return true;
    }
    if head.starts_with(b"ISA*")
        && (has(b"ST*837") || has(b"ST*835") || has(b"ST*270") || has(b"ST*271") || has(b"ST*278"))
    {
        return true;
    }
    is_there(resources)
        && [
            "Patient",
            "Observation",
            "Encounter",
            "Condition",
            "MedicationRequest",
            "DiagnosticReport",
            "AllergyIntolerance",
            "Immunization",
            "Procedure",
            "Claim",
            "Coverage",
            "Bundle",
        ]
        .iter()
        .any(|kind| resource(head, kind))
}

fn resource(head: &[u8], kind: &str) -> bool {
    memchr::memmem::find_iter(head, b"\"resourceType\"").any(|at| {
        let rest = head[at + 14..].trim_ascii_start();
        let rest = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start();
        let is_kind = rest
            .strip_prefix(b"\"")
            .is_some_and(|r| r.starts_with(kind.as_bytes()) && r.get(kind.len()) == Some(&b'"'));
        // A bundle of definitions says nothing about any person.
        is_kind
            && (kind != "Bundle"
                || memchr::memmem::find(head, b"\"Patient\"").is_some()
                || memchr::memmem::find(head, b"Patient/").is_some())
    })
}

/// Returns true for a program or a library of a system.
pub(super) fn is_program(bytes: &[u8]) -> bool {
    const HEADS: [&[u8]; 6] = [
        b"\x7fELF",
        b"MZ",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
        b"!<arch>\n",
        b"\0asm",
    ];
    HEADS.iter().any(|head| bytes.starts_with(head))
}
