//! What a key may be: what every store and every file system takes as it is.

use super::{StoreError, StoreResult, Trouble};

/// The longest key, in bytes: what S3 allows.
const MAX_BYTES: usize = 1024;
/// The longest part between two `/`, in bytes: what file systems allow.
const MAX_PART_BYTES: usize = 200;

/// Returns true for a part of a key: letters, digits and `._=+-`, not beginning with a dot.
pub(super) fn is_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._=+-".contains(&byte);
    (1..=MAX_PART_BYTES).contains(&part.len())
        && !part.starts_with('.')
        && !part.ends_with('.')
        && part.bytes().all(allowed)
}

/// Checks the key of an object.
pub(super) fn check(key: &str) -> StoreResult<()> {
    match key.len() <= MAX_BYTES && key.split('/').all(is_part) {
        true => Ok(()),
        false => Err(StoreError::new(
            Trouble::Other,
            format!("`{}` is no key of an object", key.escape_debug()),
        )),
    }
}

/// Checks the beginning of keys: empty, or parts with a `/` after each.
pub(super) fn check_prefix(prefix: &str) -> StoreResult<()> {
    match prefix.strip_suffix('/') {
        None if prefix.is_empty() => Ok(()),
        Some(parts) => check(parts),
        None => Err(StoreError::new(
            Trouble::Other,
            format!("`{}` is no prefix of keys", prefix.escape_debug()),
        )),
    }
}
