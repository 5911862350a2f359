//! Signatures of records (Ed25519, RFC 8032): what a machine pushed, nobody else could have written.
//!
//! Encryption does not say so: whoever knows the public half of a key can encrypt to it. So each machine
//! has a key of its own to sign with, which never leaves it. Whoever reads compares with what they know
//! of the machine: what they saw the first time, or what a recovery sheet says.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::fsutil;

/// The file with the secret half, beside the one that says which machine this is.
const FILE: &str = "signing.key";
/// Before what is signed, so that a signature of something else is none of a record.
const CONTEXT: &[u8] = b"bdr: the record of a push\n";
/// How the text of a public half begins.
const WORD: &str = "ed25519:";

/// Who signed: the public half of a machine's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signer([u8; 32]);

impl Signer {
    /// Returns true if this is a signature of these bytes by this signer.
    fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(&[CONTEXT, bytes].concat(), signature).is_ok()
    }

    /// Returns what two people compare: 80 bits of the key's SHA-256, in five groups.
    pub fn fingerprint(&self) -> String {
        let hex = Digest::of(&self.0).to_hex();
        let groups: Vec<&str> = (0..5).map(|at| &hex[at * 4..at * 4 + 4]).collect();
        groups.join("-")
    }

    /// Returns one word that says who signs what a machine pushes; [`found_in`] finds it again.
    pub fn of_machine(&self, machine: Id) -> String {
        format!("{machine}/{self}")
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Signer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bytes = text.strip_prefix(WORD);
        let bytes = bytes.and_then(|text| STANDARD_NO_PAD.decode(text).ok());
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| "it is no key that signs".to_owned())
    }
}

impl Serialize for Signer {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns who signs what machines push, where a text (a key file, a recovery sheet) says so.
pub fn found_in(text: &str) -> impl Iterator<Item = (Id, Signer)> + '_ {
    text.split_whitespace().filter_map(|word| {
        let (machine, signer) = word.split_once('/')?;
        Some((machine.parse().ok()?, signer.parse().ok()?))
    })
}

/// The key of a machine, with its secret half.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Returns the machine's key; makes it up at the first time.
    ///
    /// # Errors
    /// It cannot be read or written, or what is there is none.
    pub fn of(dir: &Path) -> Result<Self> {
        if let Some(key) = Self::known(dir)? {
            return Ok(key);
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut seed[..])
            .map_err(|e| Error::invalid(format!("no random numbers: {e}"), None))?;
        let text = Zeroizing::new(hex::encode(&seed[..]));
        fsutil::create_dir_private(dir)?;
        match fsutil::write_new(&dir.join(FILE), text.as_bytes(), 0o600) {
            Ok(()) => Self::from_seed(dir, &seed[..]),
            // Another process was faster.
            Err(error) => Self::known(dir)?.ok_or(error),
        }
    }

    /// Returns the machine's key, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or what is there is none.
    pub fn known(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let seed = Zeroizing::new(hex::decode(text.trim_ascii()).unwrap_or_default());
        Self::from_seed(dir, &seed).map(Some)
    }

    fn from_seed(dir: &Path, seed: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| {
            Error::invalid(
                format!(
                    "the key with which this machine signs is damaged ({})",
                    crate::base::path::show(dir.join(FILE).as_os_str())
                ),
                Some("give the machine a new id, with a new key: bdr remote reset, then bdr push"),
            )
        })
    }

    /// Forgets the machine's key.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn forget(dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        match fsutil::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the public half.
    pub fn signer(&self) -> Signer {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        Signer(bytes)
    }

    /// Adds a signature to a JSON object, as its last member.
    pub(super) fn sign(&self, mut object: Vec<u8>) -> Vec<u8> {
        if object.last() == Some(&b'}') {
            object.pop();
            let signature = self.0.sign(&[CONTEXT, &object].concat());
            object.extend_from_slice(MEMBER);
            object.extend_from_slice(STANDARD_NO_PAD.encode(signature.as_ref()).as_bytes());
            object.extend_from_slice(b"\"}");
        }
        object
    }
}

/// How the last member of a signed object begins.
const MEMBER: &[u8] = b",\"signature\":\"";

/// What of a JSON object was signed, and by what; or all of it, if it is not signed.
pub(super) struct Signed<'b> {
    /// Up to the signature, without the brace that ends the object.
    bytes: &'b [u8],
    signature: Option<Vec<u8>>,
}

impl<'b> Signed<'b> {
    /// Takes the signature off an object.
    pub(super) fn split(object: &'b [u8]) -> Self {
        let start = memchr::memmem::rfind(object, MEMBER);
        let found = start.and_then(|start| {
            let text = object[start + MEMBER.len()..].strip_suffix(b"\"}")?;
            Some((&object[..start], STANDARD_NO_PAD.decode(text).ok()?))
        });
        match found {
            Some((bytes, signature)) => Self {
                bytes,
                signature: Some(signature),
            },
            None => Self {
                // One that is cut off is none.
                bytes: object.strip_suffix(b"}").unwrap_or_default(),
                signature: None,
            },
        }
    }

    /// Returns the object without the signature: nothing else of it is to be believed.
    pub(super) fn object(&self) -> Vec<u8> {
        [self.bytes, b"}"].concat()
    }

    /// Returns true if it is signed by whom it names; or not at all, if it names nobody.
    pub(super) fn is_by(&self, signer: Option<&Signer>) -> bool {
        match (signer, &self.signature) {
            (Some(signer), Some(signature)) => signer.signed(self.bytes, signature),
            (None, None) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_counts() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::of(dir.path()).unwrap();
        let object = br#"{"a":"x","b":[1]}"#;
        let signed = key.sign(object.to_vec());
        let split = Signed::split(&signed);
        assert_eq!(split.object(), object);
        assert!(split.is_by(Some(&key.signer())) && !split.is_by(None));
        let other = SigningKey::of(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(!split.is_by(Some(&other.signer())));
        // Whatever byte is changed, added or taken away: it is not signed, or it says the same.
        for at in 0..signed.len() {
            for change in 0..3 {
                let mut bytes = signed.clone();
                match change {
                    0 => bytes[at] ^= 1,
                    1 => bytes.insert(at, b'0'),
                    _ => drop(bytes.remove(at)),
                }
                let split = Signed::split(&bytes);
                let same = split.object() == object;
                assert!(same || !split.is_by(Some(&key.signer())), "{at} {change}");
            }
        }
        assert!(
            Signed::split(object).is_by(None) && !Signed::split(object).is_by(Some(&key.signer()))
        );
    }

    /// RFC 8032, 7.1, test 1: the public half of a known secret.
    #[test]
    fn the_public_half_is_that_of_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        fsutil::write_new(&dir.path().join(FILE), seed.as_bytes(), 0o600).unwrap();
        let signer = SigningKey::of(dir.path()).unwrap().signer();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(signer.0), public);
        let id: Id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let text = format!(
            "# signed by {}\nother/words ed25519:AAAA",
            signer.of_machine(id)
        );
        assert_eq!(found_in(&text).collect::<Vec<_>>(), [(id, signer)]);
        fsutil::write_atomic(&dir.path().join(FILE), b"damaged", 0o600).unwrap();
        assert!(SigningKey::of(dir.path()).is_err());
    }
}
