//! Which content was examined and found clear: whoever comes upon it again need not examine it.
//!
//! Derived, in the cache: a line with the number of the rules, then 16 bytes for each content and
//! file name. Only clear content is remembered; sealed content has no digest outside of the vault's
//! key. Guards and backups add to it; one that reads everything leaves out what is no longer there.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::Repository;
use crate::base::id::Digest;
use crate::disk::fsutil;

type Key = [u8; 16];

/// Most bytes of the file; beyond, only a run that reads everything writes it.
const MOST: usize = 32 << 20;
/// Less content is examined again rather than looked up, in bytes: it takes no longer.
const LEAST: u64 = 256 << 10;

/// Content known to be clear, from earlier runs and from this one.
pub(crate) struct Verdicts {
    rules: String,
    path: PathBuf,
    known: HashSet<Key>,
    seen: Mutex<HashSet<Key>>,
    /// This run reads everything.
    all: bool,
    /// The file is as this program writes it.
    whole: bool,
}

impl Verdicts {
    /// Reads the verdicts of earlier runs with the same rules, for a run that reads everything.
    pub(crate) fn load(repo: &Repository) -> Self {
        let rules = Digest::of(repo.privacy_rules().identity().as_bytes()).to_hex() + "\n";
        let path = repo.cache().join("clear");
        let bytes = fsutil::read_derived(&path).unwrap_or_default();
        let keys = bytes.strip_prefix(rules.as_bytes());
        let keys = keys.filter(|keys| keys.len().is_multiple_of(size_of::<Key>()));
        let known = keys.unwrap_or_default().chunks_exact(size_of::<Key>());
        Self {
            known: known.filter_map(|key| key.try_into().ok()).collect(),
            whole: keys.is_some() && bytes.len() <= MOST,
            rules,
            path,
            seen: Mutex::default(),
            all: true,
        }
    }

    /// The same for a run that reads so many bytes; `None` if they are too few to be worth it.
    pub(crate) fn load_for(repo: &Repository, bytes: u64) -> Option<Self> {
        let stored = || fsutil::size_of_derived(&repo.cache().join("clear")).unwrap_or(0);
        let is_worth = bytes >= LEAST && bytes >= stored();
        is_worth.then(|| Self {
            all: false,
            ..Self::load(repo)
        })
    }

    /// Returns the key of content under a name: the name decides how content is examined, the
    /// directory does not. `None` if it does, or if the rules let the path through unseen.
    pub(crate) fn key(&self, repo: &Repository, content: Digest, path: &[u8]) -> Option<Key> {
        let name = crate::privacy::examined_by(path, repo.privacy_rules())?;
        let digest = Digest::of(&[&content.0[..], name].concat());
        let mut key = Key::default();
        key.copy_from_slice(&digest.0[..16]);
        Some(key)
    }

    pub(crate) fn is_clear(&self, key: Key) -> bool {
        self.known.contains(&key)
    }

    pub(crate) fn note(&self, key: Key) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert(key);
        }
    }

    /// Writes the verdicts that this run used or added; if it read everything, others are dropped. A
    /// loss only costs time.
    pub(crate) fn save(&self) {
        let Ok(seen) = self.seen.lock() else { return };
        if self.all && *seen == self.known {
            return;
        }
        // In a new repository, nothing has made the cache yet.
        let dir = self.path.parent();
        if dir.is_none_or(|dir| fsutil::create_dir_private(dir).is_err()) {
            return;
        }
        if self.all || !self.whole {
            let mut bytes = self.rules.clone().into_bytes();
            bytes.extend(seen.iter().flatten());
            let _ = fsutil::write_derived(&self.path, &bytes);
            return;
        }
        let new: Vec<u8> = seen.difference(&self.known).flatten().copied().collect();
        if !new.is_empty() {
            let _ = fsutil::append_derived(&self.path, &new);
        }
    }
}
