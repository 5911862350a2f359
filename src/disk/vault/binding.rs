//! Binds the records that this machine makes: each has a keyed digest of itself.
//!
//! The key is next to the values, never in a repository, and has a hard link in the lifeboat. The
//! first record creates it, a reader never does. If it is lost, nothing else is: its records then
//! count as made by a key that is not here, not as forged.

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
/// Input of the digest that names the key without revealing it.
const NAMES: &[u8] = b"bdr: the name of this key";
/// Prefix of the digest input for the name of a set.
const SETS: &[u8] = b"bdr: the name of a set\n";
/// Bits of a name that show whether this machine gave it.
const NAME_BITS: u32 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Snapshot,
    Begin,
    End,
    Set,
    /// The digests of a set of kept content.
    Contents,
}

impl Kind {
    /// Prefix of a record's digest input, so that equal bytes of another kind have another digest.
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

/// Names a key without revealing it.
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

/// The part of a record about the key that bound it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub key: KeyName,
    /// HMAC-SHA-256 of the record without this member.
    pub mac: Digest,
}

/// The key of this machine, with its name.
pub(super) struct Binding {
    key: Zeroizing<Key>,
    name: KeyName,
    /// When it was created, in milliseconds since 1970.
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

    /// Returns an id with the same time that shows who gave it.
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
    // A key of any length is valid: cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::invalid(error.to_string(), None))?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(Digest(mac.finalize().into_bytes().into()))
}

impl Vault {
    /// Returns the key, if there is one; with `make` it is created if missing.
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
    /// The key is refused, or cannot be read or created.
    pub fn bind(&self, kind: Kind, record: &[u8]) -> Result<Bound> {
        let binding = self.binding(true)?;
        let binding = binding.ok_or_else(|| Error::invalid("there is no key", None))?;
        Ok(Bound {
            key: binding.name,
            mac: mac(&binding.key, &[kind.head(), record])?,
        })
    }

    /// Returns the name of the key that binds this machine's records; `None` if there is none yet.
    ///
    /// # Errors
    /// The key is refused or cannot be read.
    pub fn binding_key(&self) -> Result<Option<KeyName>> {
        Ok(self.binding(false)?.map(|binding| binding.name))
    }

    /// Returns when that key was created, in milliseconds since 1970; `None` if there is none, or
    /// it is refused. Older records were bound by nobody.
    pub fn bound_since(&self) -> Option<i64> {
        Some(self.binding(false).ok()??.since)
    }

    /// Returns an id for a set of kept content by which this machine later recognises its own; any
    /// id if there is no key.
    pub fn own_name(&self, id: Id) -> Id {
        let binding = self.binding(true).ok().flatten();
        binding
            .and_then(|binding| binding.own(id).ok())
            .unwrap_or(id)
    }

    /// Returns true for the id of a set that this machine made.
    pub fn has_named(&self, id: Id) -> bool {
        let binding = self.binding(false).ok().flatten();
        binding.is_some_and(|binding| binding.own(id).is_ok_and(|own| own == id))
    }

    /// Returns false only if a record claims to be bound by this machine's key and is not: `parts`
    /// are the record without that claim.
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
