//! Checked records: one line of JSON with a digest of itself (`docs/format.md` §2).

use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::disk::vault::{Bound, BoundKind};

const HEAD: &[u8] = b"{\"sha256\":\"";
const MIDDLE: &[u8] = b"\",\"record\":";
const TAIL: &[u8] = b"}\n";
const BODY_AT: usize = HEAD.len() + 64 + MIDDLE.len();

/// The largest number in a record: sums stay far below the limit of a `u64`, and other languages
/// read it from JSON exactly.
pub const MAX_COUNT: u64 = 1 << 53;

/// The largest record: anything larger was not written by bdr, and is not read into memory.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;

/// A record type. Only valid values can be decoded: names and paths have types that refuse anything
/// else, and `check` covers numbers and times. Writing passes the same gate, so whatever was
/// acknowledged can be read.
pub trait Record {
    /// The largest file of this kind, in bytes.
    const MAX_BYTES: u64 = MAX_RECORD_BYTES;

    /// What this machine's key binds it as; `None` if it is not bound.
    const KIND: Option<BoundKind> = None;

    fn bound(&self) -> Option<&Bound> {
        None
    }

    /// Checks what its types do not.
    ///
    /// # Errors
    /// Says what is wrong.
    fn check(&self) -> std::result::Result<(), String>;
}

/// Checks numbers, each with the name of its member.
///
/// # Errors
/// Says which is too large.
pub fn check_counts(counts: &[(&str, u64)]) -> std::result::Result<(), String> {
    match counts.iter().find(|(_, count)| *count > MAX_COUNT) {
        Some((name, count)) => Err(format!("`{name}` cannot be {count}")),
        None => Ok(()),
    }
}

/// Checks numbers that will be added up.
///
/// # Errors
/// Their sum is too large.
pub fn check_sum(
    name: &str,
    mut counts: impl Iterator<Item = u64>,
) -> std::result::Result<(), String> {
    let sum = counts.try_fold(0_u64, |sum, count| sum.checked_add(count));
    match sum.is_some_and(|sum| sum <= MAX_COUNT) {
        true => Ok(()),
        false => Err(format!("the sizes in `{name}` come to too much")),
    }
}

/// Checks that a calendar has the year of a time.
///
/// # Errors
/// Says which year it names.
pub fn check_moment(time: DateTime<Utc>) -> std::result::Result<(), String> {
    match time.year() {
        1900..=9999 => Ok(()),
        year => Err(format!("it names the year {year}")),
    }
}

/// Checks an id, which contains a time.
///
/// # Errors
/// Says that the date is impossible.
pub fn check_id(id: crate::base::id::Id) -> std::result::Result<(), String> {
    match id.is_dated() {
        true => Ok(()),
        false => Err(format!("its id {id} has an impossible time")),
    }
}

/// Returns the bytes of a record file.
///
/// # Errors
/// The value has no JSON form, or fails its check.
pub fn encode<T: Serialize + Record>(value: &T) -> Result<Vec<u8>> {
    frame::<T>(&body_of(value)?)
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::Unrecordable {
        reason: reason.to_string(),
    }
}

fn body_of<T: Serialize + Record>(value: &T) -> Result<Vec<u8>> {
    value.check().map_err(refused)?;
    serde_json::to_vec(value).map_err(refused)
}

fn frame<T: Record>(body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(BODY_AT + body.len() + TAIL.len());
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(Digest::of(body).to_hex().as_bytes());
    bytes.extend_from_slice(MIDDLE);
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(TAIL);
    if bytes.len() as u64 > T::MAX_BYTES {
        return Err(refused(format!("it would be {} bytes long", bytes.len())));
    }
    Ok(bytes)
}

/// The beginning of the last member of a bound record.
const BOUND: &[u8] = b",\"bound\":";
/// Its length with everything after it: name of the key, digest, and the end of the record.
const BOUND_BYTES: usize =
    BOUND.len() + b"{\"key\":\"\",\"mac\":\"\"}".len() + 16 + 64 + b"}".len();

/// Returns the bytes of a record file whose last member is what `bind` returns for the rest.
///
/// # Errors
/// As [`encode`].
pub fn encode_bound<T: Serialize + Record>(
    value: &T,
    bind: impl FnOnce(BoundKind, &[u8]) -> Option<Bound>,
) -> Result<Vec<u8>> {
    let mut body = body_of(value)?;
    if let Some(bound) = T::KIND.and_then(|kind| bind(kind, &body)) {
        let bound = serde_json::to_vec(&bound).map_err(refused)?;
        body.pop();
        body.extend_from_slice(BOUND);
        body.extend_from_slice(&bound);
        body.push(b'}');
    }
    frame::<T>(&body)
}

/// Returns a record file, in two parts, without its last member, which says who bound it; `None` if
/// it has no such member.
pub fn without_bound(bytes: &[u8]) -> Option<[&[u8]; 2]> {
    let body = bytes.get(BODY_AT..bytes.len().checked_sub(TAIL.len())?)?;
    let cut = body.len().checked_sub(BOUND_BYTES)?;
    let (head, rest) = body.split_at(cut);
    rest.starts_with(BOUND).then_some([head, b"}"])
}

/// Reads a record file.
///
/// # Errors
/// The frame, the digest or the JSON is wrong.
pub fn decode<T: DeserializeOwned + Record>(name: &str, bytes: &[u8]) -> Result<T> {
    let value: T = parse(name, bytes)?;
    let checked = value.check();
    checked.map_err(|reason| Error::damaged(name, reason))?;
    Ok(value)
}

/// Reads a record file without its check.
fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
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

/// Returns true if a record file matches its own digest.
pub fn is_whole(bytes: &[u8]) -> bool {
    parse::<serde::de::IgnoredAny>("record", bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Record for serde_json::Value {
        fn check(&self) -> std::result::Result<(), String> {
            Ok(())
        }
    }

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
