//! Digests and ids: the names of things in a repository.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest: names a blob, a pack or a manifest, or checks a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Returns the 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("a digest must be in lower case".to_owned());
        }
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "a digest has 64 hexadecimal digits".to_owned())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The first eight bytes of HMAC-SHA-256 of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|e| e.to_string())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A ULID: 48 bits of milliseconds and 80 random bits as 26 characters that sort by time.
///
/// Specification: <https://github.com/ulid/spec>. [`Id::after`] keeps ids growing when the clock does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u128);

pub type SnapshotId = Id;
pub type OperationId = Id;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Id {
    pub const LEN: usize = 26;

    pub fn new(now: DateTime<Utc>) -> Self {
        let millis = u128::from(now.timestamp_millis().max(0).unsigned_abs()) & ((1 << 48) - 1);
        let mut random = [0; 16];
        if getrandom::fill(&mut random[6..]).is_err() {
            // Without a random source, ids still differ by process and time.
            random[6..10].copy_from_slice(&std::process::id().to_le_bytes());
            random[10..]
                .copy_from_slice(&now.timestamp_subsec_nanos().to_le_bytes()[..].repeat(2)[..6]);
        }
        Self((millis << 80) | (u128::from_be_bytes(random) & ((1 << 80) - 1)))
    }

    /// The last millisecond that an id may have: the end of the year 9999.
    const MAX_MILLIS: u128 = 253_402_300_799_999;

    /// Returns true if its time is possible: a made-up id could be the last one there is.
    pub fn is_dated(self) -> bool {
        self.0 >> 80 <= Self::MAX_MILLIS
    }

    /// Returns a new id that sorts after `last`, even if the clock went backwards; a `last` with an
    /// impossible time is ignored.
    pub fn after(last: Option<Self>, now: DateTime<Utc>) -> Self {
        let id = Self::new(now);
        match last.filter(|last| last.0 >> 80 < Self::MAX_MILLIS) {
            Some(last) if id <= last => {
                let millis = (last.0 >> 80) + 1;
                Self((millis << 80) | (id.0 & ((1 << 80) - 1)))
            }
            _ => id,
        }
    }

    /// Returns when it was made, in milliseconds since 1970.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0 >> 80).unwrap_or(i64::MAX)
    }

    pub fn to_u128(self) -> u128 {
        self.0
    }

    pub fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Returns a name that shows when it was made and sorts by that: `2026-11-22-120000-7f3a2c1d`,
    /// in UTC. Forty bits of the random part distinguish it from others; [`Id::matches`] accepts
    /// it.
    pub fn dated(self, time: DateTime<Utc>) -> String {
        let full = self.to_string().to_lowercase();
        let random = full
            .get(Self::RANDOM_AT..Self::RANDOM_AT + 8)
            .unwrap_or(&full);
        format!("{}-{random}", time.format("%Y-%m-%d-%H%M%S"))
    }

    /// Returns true if `text` names this id: all of it, the beginning of its random part, or a
    /// dated name, with `cp-` before it for a checkpoint.
    pub fn matches(self, text: &str) -> bool {
        let full = self.to_string();
        let text = without_date(text).to_uppercase();
        full == text || (text.len() >= 2 && full[Self::RANDOM_AT..].starts_with(&text))
    }

    const RANDOM_AT: usize = 10;

    /// Returns the beginning of the random part, long enough to be unique among `ids`, at least
    /// four characters.
    pub fn prefix(self, ids: &[Self]) -> String {
        // A character is five bits. Compare bits, not texts, because lists do this for each of
        // thousands.
        let random_bits = 5 * (Self::LEN - Self::RANDOM_AT) as u32;
        let mut len = 4;
        for other in ids.iter().filter(|other| **other != self) {
            let different = (self.0 ^ other.0) << (u128::BITS - random_bits);
            let common = different.leading_zeros() / 5;
            len = len.max(common as usize + 1);
        }
        let own = self.to_string().to_lowercase();
        own[Self::RANDOM_AT..]
            .get(..len)
            .unwrap_or(&own[Self::RANDOM_AT..])
            .to_owned()
    }
}

/// Returns a dated name without its date; any other text unchanged.
fn without_date(text: &str) -> &str {
    let plain = text.strip_prefix("cp-").unwrap_or(text);
    let fits = |(at, byte): (usize, u8)| match at {
        4 | 7 | 10 | 17 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let is_dated = plain.len() > 18 && plain.bytes().take(18).enumerate().all(fits);
    if is_dated { &plain[18..] } else { plain }
}

/// Finds the short forms of many ids: like [`Id::prefix`], without comparing each with each.
#[derive(Debug, Clone)]
pub struct Shorts(Vec<u128>);

impl Shorts {
    pub fn new(ids: &[Id]) -> Self {
        let mut random: Vec<u128> = ids.iter().map(|id| Self::random(*id)).collect();
        random.sort_unstable();
        Self(random)
    }

    fn random(id: Id) -> u128 {
        id.0 << (u128::BITS - 5 * (Id::LEN - Id::RANDOM_AT) as u32)
    }

    /// Returns the short form of one of them.
    pub fn of(&self, id: Id) -> String {
        // In sorted order, the most similar one is a neighbour.
        let own = Self::random(id);
        let at = self.0.partition_point(|other| *other < own);
        let after = if self.0.get(at) == Some(&own) {
            at + 1
        } else {
            at
        };
        let neighbours = [at.checked_sub(1), Some(after)].into_iter().flatten();
        let longest = neighbours
            .filter_map(|n| self.0.get(n))
            .map(|other| (own ^ other).leading_zeros() / 5 + 1)
            .max();
        let len = longest.map_or(4, |len| (len as usize).max(4));
        let text = id.to_string().to_lowercase();
        text[Id::RANDOM_AT..]
            .get(..len)
            .unwrap_or(&text[Id::RANDOM_AT..])
            .to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LEN];
        for (i, place) in text.iter_mut().enumerate() {
            *place = ALPHABET[((self.0 >> (5 * (Self::LEN - 1 - i))) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() != Self::LEN {
            return Err("an id has 26 characters".to_owned());
        }
        let mut value: u128 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET
                .iter()
                .position(|a| *a == byte)
                .ok_or_else(|| "an id has characters of Crockford's base 32".to_owned())?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_names_lead_back_to_ids() {
        let time = DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
            .unwrap()
            .to_utc();
        let id = Id::new(time);
        let name = id.dated(time);
        assert!(name.starts_with("2026-11-22-120000-"), "{name}");
        assert!(id.matches(&name) && id.matches(&format!("cp-{name}")));
        assert!(!Id::new(time).matches(&name));
        for other in ["latest", "2026-11-22", "ü2026-11-22-120000-x", "cp-", ""] {
            assert!(!id.matches(other), "{other}");
        }
    }

    #[test]
    fn ids_round_trip_and_sort_by_time() {
        let early = Id::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let late = Id::new(DateTime::from_timestamp(1_700_000_001, 0).unwrap());
        assert_eq!(early.to_string().parse::<Id>().unwrap(), early);
        assert!(early < late && early.to_string() < late.to_string());
        assert!(early.matches(&early.prefix(&[late])));
    }

    #[test]
    fn a_prefix_is_as_long_as_it_has_to_be() {
        let id = |text: &str| text.parse::<Id>().unwrap();
        let own = id("01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for (other, expected) in [
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "tsv4"),
            ("01ARZ3NDEKZSV4RRFFQ69G5FAV", "tsv4"),
            ("02ARZ3NDEKTSV4XRFFQ69G5FAV", "tsv4r"),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAW", "tsv4rrffq69g5fav"),
            ("00000000KKTSV4RRFFQ69G5FAV", "tsv4rrffq69g5fav"),
        ] {
            assert_eq!(own.prefix(&[own, id(other)]), expected, "{other}");
        }
    }

    #[test]
    fn many_short_forms_are_those_of_each() {
        // Close together, so that many begin alike; some differ only in the time.
        let mut ids: Vec<Id> = (0..300_u128)
            .map(|n| Id::from_u128((n % 7) << 100 | (n * n % 997) << 50 | n))
            .collect();
        ids.extend((0..9).map(|n| Id::from_u128(n << 90 | 5 << 20)));
        ids.sort();
        ids.dedup();
        let shorts = Shorts::new(&ids);
        for id in &ids {
            assert_eq!(shorts.of(*id), id.prefix(&ids));
        }
    }

    #[test]
    fn ids_keep_growing_when_the_clock_goes_back() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let last = Id::new(now);
        let next = Id::after(Some(last), now - chrono::Duration::days(365));
        assert!(next > last);
    }
}
