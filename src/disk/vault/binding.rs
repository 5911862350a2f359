//! Binds the records that this machine makes: each carries a keyed digest of itself.
//!
//! The key is beside the values, never in a repository, and has a hard link in the lifeboat. It is
//! made when the first record is written, and never by a reader. If it is lost, nothing is lost
//! with it: its records then count as made by a key that is not here, not as forged.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Key, Vault, read_key, read_or_make};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::fsutil;

/// The name of the key in a vault.
const FILE: &str = "snapshots.key";
/// What is digested to name the key: tells nothing of it.
const NAMES: &[u8] = b"bdr: the name of this key";
/// Begins what is digested of the name of a set.
const SETS: &[u8] = b"bdr: the name of a set\n";
/// Bits of a name that tell whether this machine gave it.
const NAME_BITS: u32 = 40;

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A snapshot.
    Snapshot,
    /// The beginning of an operation.
    Begin,
    /// The end of an operation.
    End,
    /// A set of kept content.
    Set,
    /// What that turned out to be.
    Contents,
}

impl Kind {
    /// Begins what is digested of a record: the same bytes of another kind have another digest.
    fn head(self) -> &'static [u8] {
        match self {
            Self::Snapshot => b"bdr: a snapshot\n",
            Self::Begin => b"bdr: the beginning of an operation\n",
            Self::End => b"bdr: the end of an operation\n",
            Self::Set => b"bdr: a set of kept content\n",
            Self::Contents => b"bdr: the contents of a set\n",
        }
    }
}

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
            Err(_) => Err(serde::de::Error::custom("a key name has 16 digits")),
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
    /// When it was made, milliseconds since 1970.
    since: i64,
}

impl Binding {
    fn new(key: Key, since: i64) -> Result<Self> {
        let key = Zeroizing::new(key);
        let digest = mac(&key, &[NAMES])?;
        Ok(Self {
            name: KeyName(super::fingerprint_of(digest).0),
            key,
            since,
        })
    }

    /// Returns a name of the same moment that tells who gave it.
    fn own(&self, id: Id) -> Result<Id> {
        let tail = (1_u128 << NAME_BITS) - 1;
        let head = id.to_u128() & !tail;
        let digest = mac(&self.key, &[SETS, &head.to_be_bytes()])?;
        let mut last = [0; 16];
        last[11..].copy_from_slice(&digest.0[..5]);
        Ok(Id::from_u128(head | u128::from_be_bytes(last)))
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
        let made = fsutil::changed_at(&path).map_or(0, |time| time.nanos() / 1_000_000);
        let binding = Binding::new(key, made)?;
        Ok(Some(self.binding.get_or_init(|| binding)))
    }

    /// Binds a record to this machine.
    ///
    /// # Errors
    /// The key is refused, or cannot be read or made.
    pub fn bind(&self, kind: Kind, record: &[u8]) -> Result<Bound> {
        let binding = self.binding(true)?;
        let binding = binding.ok_or_else(|| Error::invalid("there is no key", None))?;
        Ok(Bound {
            key: binding.name,
            mac: mac(&binding.key, &[kind.head(), record])?,
        })
    }

    /// Returns the name of the key that binds what this machine makes; `None` while there is none.
    ///
    /// # Errors
    /// The key is refused or cannot be read.
    pub fn binding_key(&self) -> Result<Option<KeyName>> {
        Ok(self.binding(false)?.map(|binding| binding.name))
    }

    /// Returns when that key was made, milliseconds since 1970; `None` while there is none, or it is refused. What is older was bound by nobody.
    pub fn bound_since(&self) -> Option<i64> {
        Some(self.binding(false).ok()??.since)
    }

    /// Returns a name for a set of kept content by which this machine knows later that it made it; any name where there is no key.
    pub fn own_name(&self, id: Id) -> Id {
        let binding = self.binding(true).ok().flatten();
        binding
            .and_then(|binding| binding.own(id).ok())
            .unwrap_or(id)
    }

    /// Returns true for the name of a set that this machine made.
    pub fn has_named(&self, id: Id) -> bool {
        let binding = self.binding(false).ok().flatten();
        binding.is_some_and(|binding| binding.own(id).is_ok_and(|own| own == id))
    }

    /// Returns true unless the key of this machine is said to have bound a record, and did not: `parts` are the record without what it says of that.
    pub fn may_have_bound(&self, kind: Kind, bound: &Bound, parts: Option<[&[u8]; 2]>) -> bool {
        let Ok(Some(binding)) = self.binding(false) else {
            return true;
        };
        if binding.name != bound.key {
            return true;
        }
        let Some([head, tail]) = parts else {
            return false;
        };
        mac(&binding.key, &[kind.head(), head, tail]).is_ok_and(|digest| digest == bound.mac)
    }
}
