//! Which content was examined and found clear: a full backup reads everything again, but need not
//! examine it again.
//!
//! Derived, in the cache: a line with the number of the rules, then 16 bytes for each content and
//! file name. Only clear content is remembered; sealed content has no digest outside of the vault's
//! key.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::Repository;
use crate::base::id::Digest;
use crate::disk::fsutil;

type Key = [u8; 16];

/// Content known to be clear, from earlier runs and from this one.
pub(crate) struct Verdicts {
    rules: String,
    path: PathBuf,
    known: HashSet<Key>,
    seen: Mutex<HashSet<Key>>,
}

impl Verdicts {
    /// Reads the verdicts of earlier runs with the same rules.
    pub(crate) fn load(repo: &Repository) -> Self {
        let rules = Digest::of(repo.privacy_rules().identity().as_bytes()).to_hex() + "\n";
        let path = repo.cache().join("clear");
        let bytes = fsutil::read_derived(&path).unwrap_or_default();
        let keys = bytes.strip_prefix(rules.as_bytes()).unwrap_or_default();
        let known = keys.chunks_exact(16).filter_map(|k| k.try_into().ok());
        Self {
            known: known.collect(),
            rules,
            path,
            seen: Mutex::default(),
        }
    }

    /// Returns the key of content under a name: the name decides how content is examined.
    pub(crate) fn key(&self, content: Digest, path: &[u8]) -> Key {
        let digest = Digest::of(&[&content.0[..], path].concat());
        let mut key = Key::default();
        key.copy_from_slice(&digest.0[..16]);
        key
    }

    pub(crate) fn is_clear(&self, key: Key) -> bool {
        self.known.contains(&key)
    }

    pub(crate) fn note(&self, key: Key) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert(key);
        }
    }

    /// Writes the verdicts that this run used or added; others are dropped. A loss only costs time.
    pub(crate) fn save(&self) {
        let Ok(seen) = self.seen.lock() else { return };
        if *seen == self.known {
            return;
        }
        let mut bytes = self.rules.clone().into_bytes();
        bytes.extend(seen.iter().flatten());
        let _ = fsutil::write_derived(&self.path, &bytes);
    }
}
