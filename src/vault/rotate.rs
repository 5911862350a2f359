//! A new key for all values.
//!
//! Order: the new key lies beside the old (`vault.key.next`), durably; each file of values is written anew in place of the old; the new key takes
//! the place of the old; the old is overwritten. Cut off anywhere, values are read by whichever of the two fits, and the next call goes on.

use std::path::PathBuf;

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::{HEADER, RECORD, SWEPT_END, Vault, open_record, read_or_make, records, write_record};
use crate::error::{Error, IoContext as _, Result};
use crate::fsutil;

impl Vault {
    pub(super) fn next_key(&self) -> PathBuf {
        self.dir.join("vault.key.next")
    }

    /// Returns the cipher of a key that is about to become the key.
    pub(super) fn next_cipher(&self) -> Option<XChaCha20Poly1305> {
        let path = self.next_key();
        if !path.exists() {
            return None;
        }
        let key = Zeroizing::new(read_or_make(&path).ok()?);
        Some(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Gives all values a new key, and wipes the old one. Returns how many there are. Nobody else may write meanwhile.
    ///
    /// # Errors
    /// The key is not in a file, or something cannot be written: what was begun is finished by another call.
    pub fn rotate(&self) -> Result<u64> {
        self.flush()?;
        let (key, next) = (self.dir.join("vault.key"), self.next_key());
        if !key.exists() {
            return Err(Error::invalid(
                "the key of the vault is not in a file here",
                Some("bdr config set privacy.vault file"),
            ));
        }
        let old = self.cipher().map_err(|why| Error::invalid(why, None))?;
        let new_key = Zeroizing::new(read_or_make(&next)?);
        let new = XChaCha20Poly1305::new((&*new_key).into());
        let mut values = 0;
        let entries = std::fs::read_dir(&self.dir).context("read", &self.dir)?;
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
                    // Done before, or damaged: it stays as it is.
                    None => out.extend_from_slice(&bytes[at..end]),
                }
            }
            if changed {
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

    /// The second name leads to what a file was before it was written anew.
    fn link_anew(&self, path: &std::path::Path) -> Result<()> {
        if let Some((second, name)) = self.second.as_ref().zip(path.file_name()) {
            let there = second.join(name);
            fsutil::remove_file(&there).context("remove", &there)?;
        }
        self.link(path);
        Ok(())
    }
}
