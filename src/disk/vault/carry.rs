//! Carries the values to another machine: a file of age (<https://age-encryption.org/v1>) for a passphrase.
//!
//! In it are the values and the key of their fingerprints, without which nobody can tell whether what comes back is what
//! it was. The key that encrypts a vault is not in it: the other machine has its own. Nor is the key that binds
//! records: with it the other machine could write records that this one would take for its own.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use age::{DecryptError, scrypt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Key, Vault, read_key};
use crate::base::error::{Error, Result};
use crate::base::id::Id;
use crate::disk::fsutil;
use crate::privacy::Fingerprint;

const FINGERPRINT_KEY: &str = "fingerprint.key";
/// Names of the values that were exported, 8 bytes each.
const EXPORTED: &str = "exported";
const FORMAT: &str = "bdr-vault-export";
const VERSION: u32 = 1;
/// A file that wants more than 2 to this many rounds is refused: it would take hours, or all memory.
const MAX_WORK: u8 = 22;

/// What is carried. Values are in base64, by fingerprint; both as text, so that `age -d` shows what is in a file.
#[derive(Serialize, Deserialize)]
pub struct Parcel {
    format: String,
    version: u32,
    /// Whose values these are.
    pub repository: Id,
    fingerprint_key: String,
    values: BTreeMap<String, String>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.fingerprint_key.zeroize();
        for value in self.values.values_mut() {
            value.zeroize();
        }
    }
}

/// A file that was made.
pub struct Exported {
    /// It, encrypted.
    pub bytes: Vec<u8>,
    /// How many values are in it.
    pub values: u64,
    /// Values that are damaged here, or whose key is gone.
    pub unreadable: u64,
    /// Names of these values.
    pub fingerprints: Vec<Fingerprint>,
}

/// What an import came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Values that were not here.
    pub added: u64,
    /// Values that were here already.
    pub known: u64,
    /// Values that are others here: they stay as they are.
    pub differing: Vec<Fingerprint>,
}

impl Parcel {
    /// Decrypts a file.
    ///
    /// # Errors
    /// The passphrase is wrong, or the file is not one of an export.
    pub fn open(bytes: &[u8], passphrase: &str) -> Result<Self> {
        let not_one = |why: &str| {
            let message = format!("this is not a file of `bdr vault export`: {why}");
            Error::invalid(
                message,
                Some("bdr vault export FILE, on the machine that has the values"),
            )
        };
        let mut identity = scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
        identity.set_max_work_factor(MAX_WORK);
        let decryptor = age::Decryptor::new(ArmoredReader::new(bytes))
            .map_err(|_| not_one("age did not write it, or it is damaged"))?;
        let mut reader = decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|error| match error {
                DecryptError::DecryptionFailed
                | DecryptError::KeyDecryptionFailed
                | DecryptError::NoMatchingKeys => Error::invalid(
                    "the passphrase is wrong, or the file is damaged",
                    Some("try again: bdr vault import FILE (nothing was imported)"),
                ),
                DecryptError::ExcessiveWork { .. } => {
                    not_one("opening it would take hours, or all memory")
                }
                _ => not_one("it was not encrypted with a passphrase, or is damaged"),
            })?;
        let mut text = Zeroizing::new(Vec::new());
        reader
            .read_to_end(&mut text)
            .map_err(|_| not_one("it is cut off or damaged; nothing was imported"))?;
        let parcel: Self =
            serde_json::from_slice(&text).map_err(|_| not_one("something else is in it"))?;
        match (&*parcel.format, parcel.version) {
            (FORMAT, VERSION) => Ok(parcel),
            (FORMAT, newer) => Err(not_one(&format!("version {newer} is newer than this bdr"))),
            _ => Err(not_one("something else is in it")),
        }
    }

    fn key(&self) -> Result<Key> {
        let key = hex::decode(&self.fingerprint_key).ok();
        key.and_then(|key| Key::try_from(&key[..]).ok())
            .ok_or_else(|| Error::damaged("fingerprint_key", "it is not a key of 32 bytes"))
    }

    fn values(&self) -> Result<Vec<(Fingerprint, Zeroizing<Vec<u8>>)>> {
        let value = |(name, value): (&String, &String)| {
            let mut bytes = [0; 8];
            hex::decode_to_slice(name, &mut bytes).ok()?;
            let value = STANDARD.decode(value).ok()?;
            Some((Fingerprint(bytes), Zeroizing::new(value)))
        };
        let values: Option<Vec<_>> = self.values.iter().map(value).collect();
        values.ok_or_else(|| Error::damaged("values", "one of them is not base64"))
    }
}

impl Vault {
    /// Makes a file with all values, for a passphrase.
    ///
    /// # Errors
    /// The key of the values is not available.
    pub fn export(&self, repository: Id, passphrase: &str, armor: bool) -> Result<Exported> {
        if let Some(why) = self.trouble() {
            return Err(Error::invalid(why, None));
        }
        self.flush()?;
        let mut parcel = Parcel {
            format: FORMAT.to_owned(),
            version: VERSION,
            repository,
            fingerprint_key: hex::encode(self.fingerprint_key()?),
            values: BTreeMap::new(),
        };
        let (mut unreadable, mut fingerprints) = (0, Vec::new());
        for fingerprint in self.fingerprints() {
            match self.get(fingerprint).map(Zeroizing::new) {
                Some(value) => {
                    let name = hex::encode(fingerprint.0);
                    parcel.values.insert(name, STANDARD.encode(&*value));
                    fingerprints.push(fingerprint);
                }
                None => unreadable += 1,
            }
        }
        // Texts and numbers: cannot fail.
        let text = Zeroizing::new(serde_json::to_vec(&parcel).unwrap_or_default());
        let recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        let bytes = match armor {
            true => age::encrypt_and_armor(&recipient, &text).map(String::into_bytes),
            false => age::encrypt(&recipient, &text),
        };
        let bytes =
            bytes.map_err(|error| Error::invalid(format!("cannot encrypt: {error}"), None))?;
        Ok(Exported {
            bytes,
            values: parcel.values.len() as u64,
            unreadable,
            fingerprints,
        })
    }

    /// Compares the values of a file with those that are here. Changes nothing.
    ///
    /// # Errors
    /// The key of the values is not available, or values were sealed here with another key of fingerprints.
    pub fn compare(&self, parcel: &Parcel) -> Result<Imported> {
        if let Some(why) = self.trouble() {
            return Err(Error::invalid(why, None));
        }
        let key = Zeroizing::new(parcel.key()?);
        let here = read_key(&self.dir.join(FINGERPRINT_KEY))?;
        // A key by which nothing was named is one that a mere look has created.
        if here.as_ref() != Some(&*key) && self.usage().0 > 0 {
            return Err(Error::invalid(
                "this machine has sealed values of this repository with a key of its own",
                Some("import into a place of its own: BDR_HOME=DIR bdr vault import FILE"),
            ));
        }
        let mut found = Imported::default();
        for (fingerprint, value) in parcel.values()? {
            match self.get(fingerprint).map(Zeroizing::new) {
                Some(old) if *old == *value => found.known += 1,
                Some(_) => found.differing.push(fingerprint),
                None => found.added += 1,
            }
        }
        Ok(found)
    }

    /// Adds the values of a file. Existing ones stay as they are, so it can be repeated.
    ///
    /// # Errors
    /// As [`Vault::compare`], or the vault cannot be written.
    pub fn import(&self, parcel: &Parcel) -> Result<Imported> {
        let found = self.compare(parcel)?;
        let key = Zeroizing::new(parcel.key()?);
        let path = self.dir.join(FINGERPRINT_KEY);
        if read_key(&path)?.as_ref() != Some(&*key) {
            fsutil::create_dir_private(&self.dir)?;
            fsutil::write_atomic(&path, &*key, 0o600)?;
            self.link_anew(&path)?;
        }
        let mut named = Vec::new();
        for (fingerprint, value) in parcel.values()? {
            named.push(fingerprint);
            if self.get(fingerprint).map(Zeroizing::new).is_none() {
                self.put(fingerprint, &value)?;
            }
        }
        self.flush()?;
        self.note_exported(&named)?;
        Ok(found)
    }

    /// Returns the number of values that are in no export.
    pub fn only_here(&self) -> u64 {
        let exported = std::fs::read(self.dir.join(EXPORTED)).unwrap_or_default();
        let exported: HashSet<&[u8]> = exported.chunks_exact(8).collect();
        let here = self.fingerprints();
        let only = here.iter().filter(|one| !exported.contains(&one.0[..]));
        only.count() as u64
    }

    /// Notes values that are in a file elsewhere. The note has names of values, which are keyed digests,
    /// and no value.
    ///
    /// # Errors
    /// The vault cannot be written.
    pub fn note_exported(&self, values: &[Fingerprint]) -> Result<()> {
        let path = self.dir.join(EXPORTED);
        let known = std::fs::read(&path).unwrap_or_default();
        let known = known.chunks_exact(8).map(<[u8]>::to_vec);
        let new = values.iter().map(|one| one.0.to_vec());
        let names: HashSet<Vec<u8>> = known.chain(new).collect();
        let names: Vec<u8> = names.into_iter().flatten().collect();
        fsutil::write_atomic(&path, &names, 0o600)
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        let inner = self.inner();
        let known = inner.index.iter().flatten().map(|(known, _)| *known);
        known.collect()
    }
}
