//! Secret keys that lie at a destination itself, encrypted (`docs/format.md` §10.4): to a passphrase,
//! or to a newer key, which so opens what was pushed for an older one.

use super::PREFIX;
use super::crypt::{Generated, Identities};
use super::destination::Destination;
use crate::base::error::Result;
use crate::base::id::Digest;
use crate::disk::store::Trouble;

const BEFORE: &str = "identity-";
const AFTER: &str = ".age";
/// A larger one is none, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// More are not looked at: who can write there could put any number.
const MAX_COUNT: usize = 32;

/// Returns the name of an identity: whoever reads it can tell that it is whole.
pub fn name_of(bytes: &[u8]) -> String {
    let hex = Digest::of(bytes).to_hex();
    format!("{BEFORE}{}{AFTER}", &hex[..8])
}

fn is_name(name: &str) -> bool {
    let middle = name.strip_prefix(BEFORE);
    let middle = middle.and_then(|name| name.strip_suffix(AFTER));
    middle.is_some_and(|hex| hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// An identity as it lies at a destination.
pub struct Locked {
    pub name: String,
    bytes: Vec<u8>,
}

impl Locked {
    /// Returns true if it is whole.
    pub fn is_whole(&self) -> bool {
        name_of(&self.bytes) == self.name
    }

    /// Returns true if a passphrase opens it, not a key.
    pub fn is_for_passphrase(&self) -> bool {
        // https://age-encryption.org/v1: such a file has this recipient alone.
        self.bytes.starts_with(b"age-encryption.org/v1\n-> scrypt ")
    }

    /// Returns its keys, if the passphrase opens it.
    pub fn open(&self, passphrase: &str) -> Option<Vec<Generated>> {
        Identities::default().unlock(&self.bytes, Some(passphrase))
    }
}

impl Destination {
    /// Puts an identity there; it may be there already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_identity(&self, bytes: &[u8]) -> Result<()> {
        self.put_once(&name_of(bytes), bytes)
    }

    /// Removes an identity; returns false if the store keeps it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn drop_identity(&self, name: &str) -> Result<bool> {
        let key = format!("{PREFIX}{}/{name}", self.machine());
        match self.store().remove(&key) {
            Ok(()) => Ok(true),
            Err(error) => match error.trouble {
                Trouble::NotFound => Ok(true),
                Trouble::Forbidden | Trouble::Retained | Trouble::Unsupported => Ok(false),
                _ => Err(self.failed("remove from", &error)),
            },
        }
    }

    /// Reads the identities that lie there.
    ///
    /// # Errors
    /// They cannot be listed or read.
    pub fn identities(&self) -> Result<Vec<Locked>> {
        let mut found = Vec::new();
        let prefix = format!("{PREFIX}{}/", self.machine());
        let names = self.store().names(&prefix);
        let names = names.map_err(|e| self.failed("list", &e))?.into_iter();
        for name in names.filter(|name| is_name(name)).take(MAX_COUNT) {
            let size = self.store().size(&format!("{prefix}{name}"));
            let size = size.map_err(|e| self.failed("read from", &e))?;
            if size.is_none_or(|size| size > MAX_BYTES) {
                continue;
            }
            let bytes = self.get(&name, None)?;
            found.push(Locked { name, bytes });
        }
        Ok(found)
    }

    /// Adds the keys to which the given ones lead; returns whether there are any.
    pub(super) fn follow(&self, identities: &mut Identities) -> Result<bool> {
        let mut locked = self.identities()?;
        locked.retain(|one| one.is_whole() && !one.is_for_passphrase());
        let before = locked.len();
        // One may open another.
        loop {
            let mut found = Vec::new();
            locked.retain(|one| match identities.unlock(&one.bytes, None) {
                Some(keys) => {
                    found.extend(keys);
                    false
                }
                None => true,
            });
            if found.is_empty() {
                return Ok(locked.len() < before);
            }
            for key in &found {
                identities.add_key(key)?;
            }
        }
    }
}
