//! Where the key of the vault is stored.
//!
//! The place where the key is decides, not the place where it could be. A vault whose key was moved
//! to the keychain (`vault.keychain` says so) never gets a second key just because the keychain is
//! locked. A vault with its key in a file keeps it there until the user wants it elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bdr::disk::fsutil;
use bdr::disk::vault::{FileKey, Key, KeyStore, NoKey};
use bdr::model::config::VaultKey;

#[cfg_attr(target_os = "linux", path = "keychain/linux.rs")]
#[cfg_attr(any(target_os = "macos", windows), path = "keychain/native.rs")]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "macos", windows)),
    path = "keychain/none.rs"
)]
mod system;

/// Returns the key store that the configuration wants. Opens nothing yet.
pub(crate) fn store(wanted: VaultKey, dir: &Path) -> Arc<dyn KeyStore> {
    match wanted {
        VaultKey::Off => Arc::new(NoKey),
        VaultKey::File | VaultKey::Auto | VaultKey::Keychain => Arc::new(Place {
            wanted,
            dir: dir.to_path_buf(),
        }),
    }
}

/// Removes the key of a deleted vault from the keychain; a key that stays opens nothing any more.
pub(crate) fn forget(dir: &Path) {
    let place = Place {
        wanted: VaultKey::Auto,
        dir: dir.to_path_buf(),
    };
    if place.marker().exists() {
        let _ = system::remove(&place.id());
    }
}

/// How long to wait before trying again to move a key.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

struct Place {
    wanted: VaultKey,
    /// The directory of the vault.
    dir: PathBuf,
}

impl Place {
    fn file(&self) -> PathBuf {
        self.dir.join("vault.key")
    }

    /// Exists if the key is in the keychain.
    fn marker(&self) -> PathBuf {
        self.dir.join("vault.keychain")
    }

    /// The name of the key in the keychain: the directory has the name of the repository.
    fn id(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns true once per [`AGAIN`]: otherwise each guard would wait for a keychain that does
    /// not answer.
    fn may_try(&self) -> bool {
        let file = self.dir.join("keychain.tried");
        let modified = file.metadata().and_then(|meta| meta.modified());
        let tried = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < AGAIN));
        if !tried {
            let _ = fsutil::write_derived(&file, b"");
        }
        !tried
    }

    fn fetch(&self) -> Result<Key, String> {
        let key = system::get(&self.id())?.ok_or("the keychain has no key of this vault")?;
        Key::try_from(&key[..]).map_err(|_| "the keychain's entry is not a key".to_owned())
    }

    /// Moves the key of the file, or a new one, into the keychain.
    fn move_in(&self) -> Result<Key, String> {
        let id = self.id();
        // A lost vault may have left its key there; and this notices a keychain that does not
        // answer before it has to store anything.
        let there = system::get(&id)?;
        if !self.file().exists()
            && let Some(key) = there.and_then(|key| Key::try_from(&key[..]).ok())
        {
            self.mark()?;
            return Ok(key);
        }
        let key = FileKey(self.file()).key()?;
        system::set(&id, &key)?;
        // Do not rely on a key that was not read back: the file stays.
        if system::get(&id)?.as_deref() != Some(&key[..]) {
            return Err("the keychain did not store the key".to_owned());
        }
        self.mark()?;
        fsutil::remove_file(&self.file()).map_err(|e| e.to_string())?;
        Ok(key)
    }

    fn mark(&self) -> Result<(), String> {
        let made = fsutil::create_dir_private(&self.dir)
            .and_then(|()| fsutil::write_atomic(&self.marker(), b"", 0o600));
        let _ = fsutil::remove_file(&self.dir.join("keychain.tried"));
        made.map_err(|e| e.to_string())
    }

    /// Moves the key of the keychain into a file.
    fn move_out(&self) -> Result<Key, String> {
        let key = self.fetch()?;
        fsutil::write_atomic(&self.file(), &key, 0o600).map_err(|e| e.to_string())?;
        fsutil::remove_file(&self.marker()).map_err(|e| e.to_string())?;
        // A key left behind opens no more than before.
        let _ = system::remove(&self.id());
        Ok(key)
    }
}

impl KeyStore for Place {
    fn key(&self) -> Result<Key, String> {
        let (inside, file) = (self.marker().exists(), self.file().exists());
        match (self.wanted, inside) {
            (VaultKey::File, true) => self.move_out(),
            (_, true) => self.fetch(),
            (VaultKey::Keychain, false) if !file => self.move_in(),
            // While it cannot be moved it stays where it is, and `status` says where.
            (VaultKey::Keychain, false) if self.may_try() => {
                self.move_in().or_else(|_| FileKey(self.file()).key())
            }
            (VaultKey::Auto, false) if system::ALWAYS && !file => {
                // A machine without a user session has no keychain: then use the file.
                self.move_in().or_else(|_| FileKey(self.file()).key())
            }
            _ => FileKey(self.file()).key(),
        }
    }

    fn name(&self) -> String {
        let inside = self.marker().exists();
        if inside { "keychain" } else { "file" }.to_owned()
    }
}

/// Returns an entry of bdr's in the system's keychain.
pub(crate) fn read(id: &str) -> Result<Option<Vec<u8>>, String> {
    system::get(id)
}

/// Writes an entry of bdr's into the system's keychain.
pub(crate) fn write(id: &str, secret: &[u8]) -> Result<(), String> {
    system::set(id, secret)
}

/// Removes an entry of bdr's from the system's keychain.
pub(crate) fn erase(id: &str) -> Result<(), String> {
    system::remove(id)
}
