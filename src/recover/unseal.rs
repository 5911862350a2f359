//! Restores a file with sealed values: exactly, from this machine's vault, or by a merge with the
//! existing file.

use std::fs::File;
use std::io::Read as _;

use crate::base::error::Result;
use crate::model::manifest::{Body, Entry};
use crate::privacy::merge::{Merged, Sources, merge};
use crate::repo::Repository;
use crate::repo::reader::Reader;

/// Larger files, in bytes, are restored exactly or not at all.
const MAX_BYTES: u64 = 64 << 20;
/// The suffix for the name of a file that cannot be restored completely.
const ASIDE: &str = ".bdr-restored";

/// Returns the name under which an incompletely restored file is written.
pub(crate) fn aside(name: &[u8]) -> Vec<u8> {
    [name, ASIDE.as_bytes()].concat()
}

/// How the reason begins if the keyed digest of a file is not available.
pub(crate) const UNPROVEN: &str =
    "its values are from the vault, and bdr cannot tell whether it is unchanged";

/// The reason if no value of a file is available.
pub const NOTHING: &str =
    "only its metadata is stored, and its content is not in this machine's vault";

#[derive(Debug, Clone, Default)]
pub struct SecretOptions {
    /// Use the sealed values even if the existing file has others.
    pub from_vault: bool,
    /// Remove secrets that only the existing file has.
    pub exact: bool,
    pub leave_blank: bool,
    /// Names and values of environment variables: a value is used if its fingerprint matches.
    pub environment: Vec<(String, Vec<u8>)>,
}

/// How a file can be restored.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// As it was: its values are in the vault.
    Exact,
    /// As these bytes, which lack nothing.
    Merged(Vec<u8>, Merged),
    /// Not in place, because these bytes have placeholders.
    Aside(Vec<u8>, Merged),
    /// Not at all: nothing of it is stored here.
    Nothing,
}

impl Repository {
    /// Returns true if a file can be restored as it was; tries it if the file is small.
    pub fn is_whole_here(&self, body: &Body) -> bool {
        let Some(sealed) = &body.sealed else {
            return true;
        };
        let vault = self.vault();
        vault.trouble().is_none() && sealed.values.iter().all(|v| vault.has(*v))
    }
}

/// Determines how an entry with sealed values can be restored; `live` is the existing file.
pub(crate) fn recover(
    repo: &Repository,
    reader: &mut Reader<'_>,
    entry: &Entry,
    live: Option<&mut File>,
    options: &SecretOptions,
) -> Result<Recovery> {
    let Some(sealed) = &entry.body.sealed else {
        return Ok(Recovery::Exact);
    };
    let exact = |reader: &mut Reader<'_>| {
        repo.is_whole_here(&entry.body)
            && (entry.size > MAX_BYTES || reader.original_to_vec(&entry.body).is_ok())
    };
    if (live.is_none() || options.from_vault || sealed.whole || entry.size > MAX_BYTES)
        && exact(reader)
    {
        return Ok(Recovery::Exact);
    }
    let Some(content) = entry
        .body
        .content
        .as_ref()
        .filter(|_| !sealed.whole && sealed.size <= MAX_BYTES)
    else {
        return Ok(Recovery::Nothing);
    };
    let text = reader.to_vec(content, sealed.size)?;
    let mut standing = None;
    if let Some(file) = live {
        let mut bytes = Vec::new();
        // An unreadable file cannot be merged.
        if file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok() {
            standing = Some(bytes);
        }
    }
    let vault = repo.vault();
    let mut value = |key: &str, fingerprint| {
        if !sealed.values.contains(&fingerprint) {
            return None;
        }
        vault.get(fingerprint).or_else(|| {
            let named = options.environment.iter().find(|(name, _)| name == key)?;
            [named.1.clone(), escaped(&named.1)]
                .into_iter()
                .find(|value| vault.fingerprint(value).is_ok_and(|f| f == fingerprint))
        })
    };
    let merged = merge(
        entry.path.as_bytes(),
        &text,
        standing.as_deref(),
        &mut Sources {
            value: &mut value,
            fingerprint: &|value| vault.fingerprint(value).ok(),
            rules: repo.privacy_rules(),
            prefer_live: !options.from_vault,
            exact: options.exact,
            blank: options.leave_blank,
        },
    );
    Ok(if merged.unresolved.is_empty() {
        Recovery::Merged(merged.bytes.clone(), merged)
    } else {
        Recovery::Aside(text, merged)
    })
}

/// Escapes a value for a JSON string.
fn escaped(value: &[u8]) -> Vec<u8> {
    let text = serde_json::to_vec(&String::from_utf8_lossy(value)).unwrap_or_default();
    text.get(1..text.len().saturating_sub(1))
        .unwrap_or_default()
        .to_vec()
}

/// Returns the sentence about keys whose values are unavailable.
pub(crate) fn unresolved(merged: &Merged) -> String {
    let n = merged.unresolved.len();
    let shown: Vec<&str> = merged
        .unresolved
        .iter()
        .take(5)
        .map(String::as_str)
        .collect();
    let more = if n > shown.len() { ", …" } else { "" };
    let values = if n == 1 {
        "one sealed value is"
    } else {
        "sealed values are"
    };
    format!(
        "{values} not in this machine's vault ({}{more}); it was written beside, as *{ASIDE}",
        shown.join(", ")
    )
}
