//! Gives all values a new key.
//!
//! Order: the new key is written next to the old one (`vault.key.next`), durably. Each file of
//! values is rewritten in place of the old. The new key replaces the old one, which is overwritten.
//! If this is interrupted, values are read with whichever of the two matches, and the next call
//! continues.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::{
    HEADER, Opened, RECORD, SWEPT_END, Vault, open_record, read_key, read_or_make, records,
    sealed_file, write_record,
};
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::Digest;
use crate::disk::fsutil;
use crate::privacy::Fingerprint;

impl Vault {
    pub(super) fn next_key(&self) -> PathBuf {
        self.dir.join("vault.key.next")
    }

    /// Returns the cipher of the key that is about to become current.
    pub(super) fn next_cipher(&self) -> Option<XChaCha20Poly1305> {
        let path = self.next_key();
        if !path.exists() {
            return None;
        }
        let key = Zeroizing::new(read_or_make(&path).ok()?);
        Some(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Returns the cipher of the key in the file now.
    pub(super) fn cipher_in_file(&self) -> Option<XChaCha20Poly1305> {
        let key = read_key(&self.dir.join("vault.key")).ok()??;
        Some(Opened::new(key).cipher)
    }

    /// Makes sure that a newly published file of values can be read with the future key: a rotation
    /// may have listed the files before this one existed.
    ///
    /// If there is no next key now, any later rotation will find the file.
    pub(super) fn follow_rotation(
        &self,
        path: &Path,
        mut used: Digest,
        values: &HashMap<Fingerprint, Vec<u8>>,
    ) -> Result<()> {
        loop {
            // In this order, because the next key becomes the current one and is gone then.
            let next = read_key(&self.next_key())?;
            let key = match next {
                Some(key) => Some(key),
                None => read_key(&self.dir.join("vault.key"))?,
            };
            // `None` if the key is in a keychain, where it stays the same.
            let Some(opened) = key.map(Opened::new).filter(|opened| opened.key != used) else {
                return Ok(());
            };
            let (bytes, _) = sealed_file(&opened.cipher, values)?;
            fsutil::write_atomic(path, &bytes, 0o600)?;
            self.link_anew(path)?;
            used = opened.key;
        }
    }

    /// Gives all values a new key, and wipes the old one. Returns their number. Concurrent writers
    /// check afterwards whether the key is still the same.
    ///
    /// # Errors
    /// The key is not in a file, or something cannot be written; another call finishes what was
    /// begun.
    pub fn rotate(&self) -> Result<u64> {
        self.flush()?;
        let (key, next) = (self.dir.join("vault.key"), self.next_key());
        if !key.exists() {
            return Err(Error::invalid(
                "the vault's key is not in a file on this machine",
                Some("bdr config set privacy.vault file"),
            ));
        }
        let old = self.cipher().map_err(|why| Error::invalid(why, None))?;
        let new_key = Zeroizing::new(read_or_make(&next)?);
        let new = XChaCha20Poly1305::new((&*new_key).into());
        let mut values = 0;
        let entries = fsutil::read_dir(&self.dir).context("read", &self.dir)?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let swept = path.extension().is_some_and(|end| end == SWEPT_END);
            if !swept && path.extension().is_none_or(|end| end != "vault") {
                continue;
            }
            let bytes = std::fs::read(&path).context("read", &path)?;
            let mut out = HEADER.to_vec();
            let mut changed = false;
            for (fingerprint, at, end) in records(&bytes) {
                let mut head = [0; RECORD];
                head.copy_from_slice(&bytes[at..at + RECORD]);
                let text = &bytes[at + RECORD..end];
                values += 1;
                match open_record(old, &head, text) {
                    Some(value) => {
                        let value = Zeroizing::new(value);
                        write_record(&new, fingerprint, &value, &mut out)?;
                        changed = true;
                    }
                    // Done before, or damaged: leave it.
                    None => out.extend_from_slice(&bytes[at..end]),
                }
            }
            if changed {
                // Its writer may have rewritten it meanwhile, with the same key: either version is fine.
                fsutil::write_atomic(&path, &out, 0o600)?;
                if !swept {
                    self.link_anew(&path)?;
                }
            }
        }
        fsutil::replace_and_wipe(&next, &key).context("write", &key)?;
        self.link_anew(&key)?;
        Ok(values)
    }

    /// Replaces the hard link, which leads to the file before it was rewritten.
    pub(super) fn link_anew(&self, path: &Path) -> Result<()> {
        if let Some((second, name)) = self.second.as_ref().zip(path.file_name()) {
            let there = second.join(name);
            fsutil::remove_file(&there).context("remove", &there)?;
        }
        self.link(path);
        Ok(())
    }
}
