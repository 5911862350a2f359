//! Where the key of the vault is kept.

use std::path::Path;
use std::sync::Arc;

use bdr::config::VaultKey;
use bdr::vault::{FileKey, KeyStore, NoKey};

/// Returns the place that the configuration wants. Nothing is opened yet.
pub(crate) fn store(wanted: VaultKey, dir: &Path) -> Arc<dyn KeyStore> {
    let file = FileKey(dir.join("vault.key"));
    match wanted {
        VaultKey::Off => Arc::new(NoKey),
        VaultKey::File | VaultKey::Auto | VaultKey::Keychain => Arc::new(file),
    }
}
