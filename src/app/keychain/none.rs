//! Systems without a keychain that bdr knows.

/// A new key goes there without being asked.
pub(crate) const ALWAYS: bool = false;

const NONE: &str = "this system has no keychain that bdr knows: set privacy.vault to file";

/// Returns what is kept under a name.
pub(crate) fn get(_: &str) -> Result<Option<Vec<u8>>, String> {
    Err(NONE.to_owned())
}

/// Keeps something under a name.
pub(crate) fn set(_: &str, _: &[u8]) -> Result<(), String> {
    Err(NONE.to_owned())
}

/// Removes what is kept under a name.
pub(crate) fn remove(_: &str) -> Result<(), String> {
    Err(NONE.to_owned())
}
