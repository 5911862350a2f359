//! Checked records: one line of JSON that carries the digest of itself (`docs/format.md` §2).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::id::Digest;

const HEAD: &[u8] = b"{\"sha256\":\"";
const MIDDLE: &[u8] = b"\",\"record\":";
const TAIL: &[u8] = b"}\n";
const BODY_AT: usize = HEAD.len() + 64 + MIDDLE.len();

/// Returns the bytes of a record file.
///
/// # Errors
/// The value has no JSON form.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(value)
        .map_err(|e| Error::invalid(format!("a record cannot be written: {e}"), None))?;
    let mut bytes = Vec::with_capacity(BODY_AT + body.len() + TAIL.len());
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(Digest::of(&body).to_hex().as_bytes());
    bytes.extend_from_slice(MIDDLE);
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(TAIL);
    Ok(bytes)
}

/// Reads a record file.
///
/// # Errors
/// The frame, the digest or the JSON is wrong.
pub fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let framed = bytes.len() > BODY_AT + TAIL.len()
        && bytes.starts_with(HEAD)
        && bytes[BODY_AT - MIDDLE.len()..BODY_AT] == *MIDDLE
        && bytes.ends_with(TAIL);
    if !framed {
        return Err(Error::damaged(name, "it is cut off or overwritten"));
    }
    let body = &bytes[BODY_AT..bytes.len() - TAIL.len()];
    let digest = &bytes[HEAD.len()..HEAD.len() + 64];
    if Digest::of(body).to_hex().as_bytes() != digest {
        return Err(Error::damaged(name, "its checksum does not match"));
    }
    serde_json::from_slice(body).map_err(|e| Error::damaged(name, e.to_string()))
}

/// Returns true if a record file says of itself that it is whole.
pub fn is_whole(bytes: &[u8]) -> bool {
    decode::<serde::de::IgnoredAny>("record", bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&serde_json::json!({"a": 1, "b": "text"})).unwrap();
        assert_eq!(BODY_AT, 86);
        assert!(decode::<serde_json::Value>("r", &bytes).is_ok());
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << bit;
                assert!(
                    decode::<serde_json::Value>("r", &damaged).is_err(),
                    "byte {i} bit {bit}"
                );
            }
            assert!(decode::<serde_json::Value>("r", &bytes[..i]).is_err());
        }
    }
}
