//! The record of a push (`docs/format.md` §10.2): what was added to a destination.
//!
//! It has two parts. The first line is JSON in the clear: the keys, sizes and digests of objects as
//! they are stored, so that anybody can check a destination. The rest is encrypted like an object
//! and says what they are.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crypt::{Encryption, Identities};
use super::frame;
use super::sign::{Signed, Signer, SigningKey};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::repo::record::{check_id, check_moment, check_sum};

const FORMAT: &str = "bdr-push";
const VERSION: u32 = 1;
/// The largest record of a push, decompressed, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The content of a small file: text, or anything else in base 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Binary { b64: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Wire::Text(text.to_owned()),
            Err(_) => Wire::Binary {
                b64: STANDARD.encode(&self.0),
            },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Wire::deserialize(deserializer)? {
            Wire::Text(text) => Ok(Self(text.into_bytes())),
            Wire::Binary { b64 } => {
                let bytes = STANDARD.decode(b64).map_err(serde::de::Error::custom)?;
                Ok(Self(bytes))
            }
        }
    }
}

/// One object of a destination, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// 64 hex digits; the object is at `objects/<first two>/<all>`.
    #[serde(rename = "k")]
    pub key: Digest,
    /// Of the stored bytes.
    #[serde(rename = "h")]
    pub digest: Digest,
    /// Stored size.
    #[serde(rename = "s")]
    pub bytes: u64,
    /// Where its content begins in the file.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub at: u64,
    /// The first bytes as they are stored, of a large encrypted object: a range of it is read without
    /// asking for its beginning.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Bytes>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A file of the repository that is in objects of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Size of the file in the repository.
    #[serde(rename = "s")]
    pub bytes: u64,
    /// In order; their contents together are the file.
    #[serde(rename = "p")]
    pub parts: Vec<Part>,
    /// The file is compressed in there, and is not in the repository.
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_compressed: bool,
    /// The last bytes of a pack: its table of contents and footer, so that it need not be fetched to
    /// know what is in it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Bytes>,
    /// The same, in a file that several share: its name, and where it begins there, with its length.
    #[serde(rename = "ti", default, skip_serializing_if = "Option::is_none")]
    pub tail_in: Option<(String, u64, u64)>,
    /// Packs of the local repository whose parts are all in this one.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<Digest>,
}

/// What a push added, and what was added since an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    pub(super) format: String,
    pub(super) version: u32,
    pub machine: Id,
    pub repository: Id,
    /// 1 is the first.
    pub number: u64,
    pub id: Id,
    pub time: DateTime<Utc>,
    /// It has everything that pushes after this number added or removed. 0: everything.
    pub since: u64,
    /// The push with the number `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Id>,
    /// The push before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Id>,
    /// Name of the machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The key of the names of objects, in hex: whoever continues this machine's work needs it.
    pub name_key: String,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// Who can open this record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// For whom older objects may be, where that was somebody else: one of each can open those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Vec<String>>,
    /// Small files of the repository, by name.
    #[serde(default)]
    pub files: BTreeMap<String, Bytes>,
    /// Other files, by name.
    #[serde(default)]
    pub objects: BTreeMap<String, Stored>,
    /// Names that are no longer there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<String>,
}

/// The first line of a push's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    format: String,
    version: u32,
    pub machine: Id,
    pub number: u64,
    pub id: Id,
    pub time: DateTime<Utc>,
    pub since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Id>,
    /// What the rest is encrypted with: `age`, or `none`.
    pub encryption: String,
    /// Key, digest and size of each object that it names, as stored.
    pub objects: Vec<(Digest, Digest, u64)>,
    /// Keys that are no longer needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Digest>,
    /// SHA-256 of everything after the first line.
    pub body: Digest,
    /// Who signed the line: the signature is its last member, and was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
}

/// The largest number after which another push can come: whoever can write there could use up all.
pub(super) const LAST: u64 = 9_000_000_000;

/// Returns the number after which a push repeats everything.
///
/// Numbers are read in base 8: a push repeats those of its own block. So a reader needs at most one
/// record per digit, and everything is written some four times per digit. (The same idea as a Fenwick
/// tree's, doi:10.1002/spe.4380240306, with a wider base.)
pub fn since(number: u64) -> u64 {
    let mut unit = 1_u64;
    while number != 0 && number.is_multiple_of(unit.saturating_mul(8)) {
        unit *= 8;
    }
    number - (number / unit % 8) * unit
}

impl Push {
    /// Starts a push of nothing.
    pub fn new(machine: Id, repository: Id, number: u64, id: Id, time: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            machine,
            repository,
            number,
            id,
            time,
            since: 0,
            base: None,
            previous: None,
            host: String::new(),
            name_key: String::new(),
            signer: None,
            recipients: Vec::new(),
            before: Vec::new(),
            files: BTreeMap::new(),
            objects: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// Adds what another push changed after this one.
    pub fn follow(&mut self, later: &Self) {
        for name in &later.gone {
            self.files.remove(name);
            self.objects.remove(name);
            self.gone.insert(name.clone());
        }
        for (name, bytes) in &later.files {
            self.gone.remove(name);
            self.objects.remove(name);
            self.files.insert(name.clone(), bytes.clone());
        }
        for (name, stored) in &later.objects {
            self.gone.remove(name);
            self.files.remove(name);
            self.objects.insert(name.clone(), stored.clone());
        }
    }

    /// Returns the last part of its key: sorting by it gives the order of pushes.
    pub fn file_name(&self) -> String {
        file_name(self.number, self.id)
    }

    /// Returns the bytes of its record, signed by this machine.
    ///
    /// # Errors
    /// It cannot be encrypted.
    pub fn encode(
        &self,
        encryption: &Encryption,
        gone: Vec<Digest>,
        key: &SigningKey,
    ) -> Result<Vec<u8>> {
        debug_assert_eq!(self.signer, Some(key.signer()));
        let json = serde_json::to_vec(self).map_err(|e| unwritable(&e))?;
        let text = format!("bdr1 {} push {}", self.repository, self.file_name());
        let body = encryption.encrypt(&frame::gzip(&text, &json)?)?;
        let parts = self.objects.values().flat_map(|stored| &stored.parts);
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
            machine: self.machine,
            number: self.number,
            id: self.id,
            time: self.time,
            since: self.since,
            base: self.base,
            encryption: encryption.word().to_owned(),
            objects: parts.map(|p| (p.key, p.digest, p.bytes)).collect(),
            gone,
            body: Digest::of(&body),
            signer: self.signer,
        };
        let mut bytes = key.sign(serde_json::to_vec(&head).map_err(|e| unwritable(&e))?);
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads the plain form of a body.
    pub(super) fn parse(name: &str, json: &[u8]) -> Result<Self> {
        let damaged = |reason: String| Error::damaged(name, reason);
        let value: Self = serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
        if value.format != FORMAT {
            return Err(damaged("it is no push".to_owned()));
        }
        if value.version != VERSION {
            return Err(newer(u64::from(value.version)));
        }
        value.check().map_err(damaged)?;
        Ok(value)
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        check_id(self.machine)?;
        check_moment(self.time)?;
        let fits = self.since < self.number && self.base.is_some() == (self.since > 0);
        if self.number > 9_999_999_999 || !fits {
            return Err("its number is impossible".to_owned());
        }
        let names = self.files.keys().chain(self.objects.keys());
        if let Some(name) = names.chain(&self.gone).find(|name| !is_name(name)) {
            let name = crate::base::path::show_bytes(name.as_bytes());
            return Err(format!("`{name}` is no name of a file in a repository"));
        }
        check_sum("objects", self.objects.values().map(|stored| stored.bytes))?;
        let parts = self.objects.values().flat_map(|stored| &stored.parts);
        check_sum("parts", parts.map(|part| part.bytes))?;
        for (name, stored) in &self.objects {
            let mut starts = stored.parts.iter().map(|part| part.at);
            let is_ordered = starts.next() == Some(0) && starts.is_sorted_by(|a, b| a < b);
            let ends = stored.parts.last().is_some_and(|p| p.at <= stored.bytes);
            let tail = stored.tail.as_ref().map_or(0, |tail| tail.0.len() as u64);
            let tail = tail.max(stored.tail_in.as_ref().map_or(0, |(_, _, length)| *length));
            if !is_ordered || !ends || tail > stored.bytes {
                return Err(format!("the parts of `{name}` do not fit together"));
            }
        }
        Ok(())
    }
}

/// Returns the last part of the key of a push's record.
pub fn file_name(number: u64, id: Id) -> String {
    format!("{number:010}-{id}")
}

/// Returns number and id of a push, from the last part of its key.
pub fn parse_file_name(name: &str) -> Option<(u64, Id)> {
    let (number, id) = name.split_once('-')?;
    if number.len() != 10 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, id.parse().ok()?))
}

/// The directories of a repository whose files are pushed.
const DIRECTORIES: [&str; 7] = [
    "packs",
    "manifests",
    "kept",
    "marks",
    "operations",
    "snapshots",
    // Not of a repository: the last bytes of packs.
    TAILS,
];

/// The directory of files with the last bytes of packs, which no repository has.
pub(super) const TAILS: &str = "tails";

/// Returns true for a name that a file of a repository can have: whatever else a record names would
/// be written somewhere else.
fn is_name(name: &str) -> bool {
    if name == "format.json" {
        return true;
    }
    let Some((dir, rest)) = name.split_once('/') else {
        return false;
    };
    let is_component = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        !part.is_empty() && !part.starts_with('.') && part.len() <= 120 && part.bytes().all(fits)
    };
    let depth = if dir == "packs" { 2 } else { 1 };
    DIRECTORIES.contains(&dir)
        && rest.split('/').count() == depth
        && rest.split('/').all(is_component)
}

fn unwritable(error: &dyn std::fmt::Display) -> Error {
    Error::Unrecordable {
        reason: error.to_string(),
    }
}

fn newer(version: u64) -> Error {
    Error::NewerFormat {
        version,
        supported: u64::from(VERSION),
        features: " at this destination".to_owned(),
    }
}

impl Head {
    /// Reads the first line of a record, checks its signature, and the rest by its digest; returns it
    /// with the rest.
    ///
    /// # Errors
    /// It is damaged, of another push than its name says, or needs a newer bdr.
    pub fn decode<'b>(name: &str, machine: Id, bytes: &'b [u8]) -> Result<(Self, &'b [u8])> {
        let damaged = |reason: &str| Error::damaged(name, reason);
        let end = memchr::memchr(b'\n', bytes).ok_or_else(|| damaged("it is cut off"))?;
        let signed = Signed::split(&bytes[..end]);
        let value: serde_json::Value = serde_json::from_slice(&signed.object())
            .map_err(|_| damaged("its first line is no JSON"))?;
        if value["format"] != FORMAT {
            return Err(damaged("it is no push"));
        }
        let version = value["version"].as_u64().unwrap_or(0);
        if version != u64::from(VERSION) {
            return Err(newer(version));
        }
        let head: Self = serde_json::from_value(value).map_err(|e| damaged(&e.to_string()))?;
        let body = &bytes[end + 1..];
        if head.body != Digest::of(body) {
            return Err(damaged("its checksum does not match"));
        }
        if head.machine != machine || parse_file_name(name) != Some((head.number, head.id)) {
            return Err(damaged("it is the record of another push"));
        }
        if !signed.is_by(head.signer.as_ref()) {
            return Err(damaged("its signature does not fit"));
        }
        let sizes = head.objects.iter().map(|(_, _, bytes)| *bytes);
        check_sum("objects", sizes).map_err(|reason| damaged(&reason))?;
        Ok((head, body))
    }

    /// Decrypts the rest.
    ///
    /// # Errors
    /// None of the identities fits, or it is damaged.
    pub fn open(&self, name: &str, body: &[u8], identities: &Identities) -> Result<Push> {
        let packed = identities.decrypt(name, &self.encryption, body)?;
        let (text, json) = frame::gunzip(name, &packed, MAX_BYTES)?;
        let push = Push::parse(name, &json)?;
        let expected = format!("bdr1 {} push {name}", push.repository);
        let same = (push.machine, push.number, push.id, push.time)
            == (self.machine, self.number, self.id, self.time)
            && (push.since, push.base, push.signer) == (self.since, self.base, self.signer);
        let mut named: Vec<(Digest, Digest, u64)> = self.objects.clone();
        let parts = push.objects.values().flat_map(|stored| &stored.parts);
        let mut inside: Vec<_> = parts.map(|p| (p.key, p.digest, p.bytes)).collect();
        named.sort_unstable();
        inside.sort_unstable();
        if text != expected || !same || named != inside {
            return Err(Error::damaged(name, "its first line does not fit the rest"));
        }
        Ok(push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_needs_at_most_one_record_per_digit_and_misses_none() {
        for newest in 1..2000_u64 {
            let (mut number, mut records, mut seen) = (newest, 0, Vec::new());
            while number > 0 {
                seen.extend(since(number) + 1..=number);
                number = since(number);
                records += 1;
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(1..=newest), "{newest}");
            assert!(records <= 4, "{newest}: {records} records");
        }
    }

    #[test]
    fn only_names_of_files_in_a_repository_are_names() {
        for name in [
            "format.json",
            "packs/ab/abcd.tar.gz",
            "snapshots/0000000001-01J.json",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "lock",
            "packs/abcd",
            "packs/../x/y",
            "snapshots/../../x",
            "/etc/passwd",
            "snapshots/.hidden",
            "tmp/x",
            "snapshots/a/b",
            "snapshots/a\\b",
            "recover.py",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
