//! Which snapshots this machine made: their records carry a keyed digest of themselves.
//!
//! The key lies beside the values, never in a repository, and has a second name in the lifeboat. It is made when the first record is written; whoever
//! only looks makes none. Lost, nothing is lost with it: what it bound counts as made by a key that is not here, not as forged.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Key, Vault, read_key, read_or_make};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::disk::fsutil;

/// The name of the key in a vault.
const FILE: &str = "snapshots.key";
/// What is digested to name the key: tells nothing of it.
const NAMES: &[u8] = b"bdr: the name of this key";
/// Begins what is digested of a record: the same bytes of another kind have another digest.
const SNAPSHOT: &[u8] = b"bdr: a snapshot\n";

/// Names a key without telling it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName([u8; 8]);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; 8];
        match hex::decode_to_slice(&*text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(serde::de::Error::custom("a key is named by 16 digits")),
        }
    }
}

/// What a record carries of the key that bound it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Which key that was.
    pub key: KeyName,
    /// HMAC-SHA-256 of the record without this member.
    pub mac: Digest,
}

/// The key of this machine, with its name.
pub(super) struct Binding {
    key: Zeroizing<Key>,
    name: KeyName,
}

impl Binding {
    fn new(key: Key) -> Result<Self> {
        let key = Zeroizing::new(key);
        let digest = mac(&key, &[NAMES])?;
        Ok(Self {
            name: KeyName(super::fingerprint_of(digest).0),
            key,
        })
    }
}

fn mac(key: &Key, parts: &[&[u8]]) -> Result<Digest> {
    // A key of any length will do: it cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::invalid(error.to_string(), None))?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(Digest(mac.finalize().into_bytes().into()))
}

impl Vault {
    /// Returns the key, if there is one; `make` sees to that.
    fn binding(&self, make: bool) -> Result<Option<&Binding>> {
        if let Some(binding) = self.binding.get() {
            return Ok(Some(binding));
        }
        let path = self.dir.join(FILE);
        let mut key = read_key(&path)?;
        let second = self.second.as_ref().map(|dir| dir.join(FILE));
        if key.is_none()
            && let Some(second) = second.filter(|second| second.exists())
            && fsutil::create_dir_private(&self.dir).is_ok()
            && fsutil::link_or_copy(&second, &path).is_ok()
        {
            key = read_key(&path)?;
        }
        if key.is_none() && make {
            key = Some(read_or_make(&path)?);
            self.link(&path);
        }
        let Some(key) = key else { return Ok(None) };
        let binding = Binding::new(key)?;
        Ok(Some(self.binding.get_or_init(|| binding)))
    }

    /// Binds a record to this machine.
    ///
    /// # Errors
    /// The key is refused, or cannot be read or made.
    pub fn bind(&self, record: &[u8]) -> Result<Bound> {
        let binding = self.binding(true)?;
        let binding = binding.ok_or_else(|| Error::invalid("there is no key", None))?;
        Ok(Bound {
            key: binding.name,
            mac: mac(&binding.key, &[SNAPSHOT, record])?,
        })
    }

    /// Returns the name of the key that binds what this machine makes; `None` while there is none.
    ///
    /// # Errors
    /// The key is refused or cannot be read.
    pub fn binding_key(&self) -> Result<Option<KeyName>> {
        Ok(self.binding(false)?.map(|binding| binding.name))
    }

    /// Returns true unless the key of this machine is said to have bound a record, and did not: `parts` are the record without what it says of that.
    pub fn may_have_bound(&self, bound: &Bound, parts: Option<[&[u8]; 2]>) -> bool {
        let Ok(Some(binding)) = self.binding(false) else {
            return true;
        };
        if binding.name != bound.key {
            return true;
        }
        let Some([head, tail]) = parts else {
            return false;
        };
        mac(&binding.key, &[SNAPSHOT, head, tail]).is_ok_and(|digest| digest == bound.mac)
    }
}
