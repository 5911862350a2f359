//! The Keychain of macOS and the Credential Manager of Windows. Every session of a user has them
//! unlocked.

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
#[cfg(windows)]
use windows_native_keyring_store::Store;

/// New keys go there without being asked.
pub(crate) const ALWAYS: bool = true;

fn entry(id: &str) -> Result<Entry, String> {
    let store: Arc<Store> = Store::new().map_err(|e| e.to_string())?;
    // Not to other machines of the same account: the values are only on this one.
    let modifiers = HashMap::from([("persistence", "Local")]);
    let modifiers = cfg!(windows).then_some(&modifiers);
    store
        .build("bdr vault", id, modifiers)
        .map_err(|e| e.to_string())
}

/// Returns the secret under a name.
pub(crate) fn get(id: &str) -> Result<Option<Vec<u8>>, String> {
    match entry(id)?.get_secret() {
        Ok(secret) => Ok(Some(secret)),
        Err(Error::NoEntry) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn set(id: &str, secret: &[u8]) -> Result<(), String> {
    entry(id)?.set_secret(secret).map_err(|e| e.to_string())
}

pub(crate) fn remove(id: &str) -> Result<(), String> {
    entry(id)?.delete_credential().map_err(|e| e.to_string())
}
