//! Systems without a keychain that bdr knows.

/// New keys stay in a file.
pub(crate) const ALWAYS: bool = false;

const NONE: &str = "this system has no keychain that bdr knows: set privacy.vault to file";

pub(crate) fn get(_: &str) -> Result<Option<Vec<u8>>, String> {
    Err(NONE.to_owned())
}

pub(crate) fn set(_: &str, _: &[u8]) -> Result<(), String> {
    Err(NONE.to_owned())
}

pub(crate) fn remove(_: &str) -> Result<(), String> {
    Err(NONE.to_owned())
}
