//! Placeholders, which replace values in a repository: `bdr:sealed:v1:<kind>:<fingerprint>`.
//!
//! The bytes around a value stay as they are. A record of a log becomes
//! `{"bdr:sealed":"bdr:sealed:v1:record:<fingerprint>"}`. The fingerprint is keyed: without the
//! machine's key it says nothing about the value.

use std::ops::Range;

use super::RECORD;
use crate::base::id::Fingerprint;

/// The beginning of every placeholder.
pub const PREFIX: &[u8] = b"bdr:sealed:v1:";
/// The kind of a placeholder that replaces [`PREFIX`] itself, where a file contained it. Not a
/// secret, so it needs no vault.
pub const LITERAL: &str = "literal";
const BEFORE_RECORD: &[u8] = b"{\"bdr:sealed\":\"";
const AFTER_RECORD: &[u8] = b"\"}";
/// Limit of a placeholder with the text around that of a record, in bytes.
pub const LONGEST: usize = 128;

pub fn placeholder(kind: &str, fingerprint: Fingerprint) -> String {
    if kind == RECORD {
        format!("{{\"bdr:sealed\":\"bdr:sealed:v1:{kind}:{fingerprint}\"}}")
    } else {
        format!("bdr:sealed:v1:{kind}:{fingerprint}")
    }
}

/// Replaces ranges of a text by placeholders. `seals` are in order and do not overlap; `fingerprint` sees each value.
pub fn seal(
    text: &[u8],
    seals: &[(Range<usize>, &'static str)],
    fingerprint: &mut dyn FnMut(&[u8], &'static str) -> Option<Fingerprint>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for (range, kind) in seals {
        let value = &text[range.clone()];
        // The user allowed it.
        let Some(fingerprint) = fingerprint(value, kind) else {
            continue;
        };
        out.extend_from_slice(&text[at..range.start]);
        out.extend_from_slice(placeholder(kind, fingerprint).as_bytes());
        at = range.end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// Its place; for a record, with the text around it.
    pub range: Range<usize>,
    pub kind: String,
    pub fingerprint: Fingerprint,
}

/// Finds the placeholders in a text, in order.
pub fn placeholders(text: &[u8]) -> Vec<Placeholder> {
    memchr::memmem::find_iter(text, PREFIX)
        .filter_map(|at| {
            let rest = &text[at + PREFIX.len()..];
            let kind_end = rest.iter().take(48).position(|b| *b == b':')?;
            let kind = std::str::from_utf8(&rest[..kind_end]).ok()?;
            if kind.is_empty()
                || !kind
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            {
                return None;
            }
            let digits = rest.get(kind_end + 1..kind_end + 17)?;
            let fingerprint = std::str::from_utf8(digits).ok()?.parse().ok()?;
            let mut range = at..at + PREFIX.len() + kind_end + 17;
            if kind == RECORD
                && text[..at].ends_with(BEFORE_RECORD)
                && text[range.end..].starts_with(AFTER_RECORD)
            {
                range = range.start - BEFORE_RECORD.len()..range.end + AFTER_RECORD.len();
            }
            Some(Placeholder {
                range,
                kind: kind.to_owned(),
                fingerprint,
            })
        })
        .collect()
}

/// Puts values back, piece by piece: text that was sealed goes in, the original comes out.
pub struct Unsealer<'a> {
    value: &'a mut dyn FnMut(Fingerprint) -> Option<Vec<u8>>,
    pending: Vec<u8>,
    pub missing: Vec<Fingerprint>,
}

impl<'a> Unsealer<'a> {
    /// Creates an unsealer that calls `value` for each placeholder.
    pub fn new(value: &'a mut dyn FnMut(Fingerprint) -> Option<Vec<u8>>) -> Self {
        Self {
            value,
            pending: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Takes the next piece; returns what is certain so far.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(piece);
        let hold = self.pending.len().saturating_sub(2 * LONGEST);
        self.replace(hold)
    }

    pub fn finish(&mut self) -> Vec<u8> {
        let all = self.pending.len();
        self.replace(all)
    }

    /// Replaces placeholders before `limit`; one that reaches beyond it waits.
    fn replace(&mut self, limit: usize) -> Vec<u8> {
        if limit == 0 {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(limit);
        let mut at = 0;
        for found in placeholders(&self.pending) {
            if found.range.start >= limit || found.range.start < at {
                continue;
            }
            out.extend_from_slice(&self.pending[at..found.range.start]);
            let value = if found.kind == LITERAL {
                Some(PREFIX.to_vec())
            } else {
                (self.value)(found.fingerprint)
            };
            match value {
                Some(value) => out.extend_from_slice(&value),
                None => {
                    out.extend_from_slice(&self.pending[found.range.clone()]);
                    if !self.missing.contains(&found.fingerprint) {
                        self.missing.push(found.fingerprint);
                    }
                }
            }
            at = found.range.end;
        }
        let end = limit.max(at);
        // One may begin right at the limit, so hold back more than the longest.
        out.extend_from_slice(&self.pending[at..end]);
        self.pending.drain(..end);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_comes_back_whatever_the_pieces() {
        let text = b"a=one b=two\n{\"x\":1}\nbdr:sealed:v1: c=three";
        let seals = [
            (2..5, "generic"),
            (8..11, "password"),
            (12..19, RECORD),
            (20..34, LITERAL),
            (37..42, "generic"),
        ];
        let mut values = Vec::new();
        let sealed = seal(text, &seals, &mut |value, _| {
            values.push(value.to_vec());
            Some(Fingerprint([values.len() as u8; 8]))
        });
        assert!(!sealed.windows(3).any(|w| w == b"two"));
        for step in [1, 7, 64, 4096] {
            let mut lookup = |f: Fingerprint| values.get(usize::from(f.0[0]) - 1).cloned();
            let mut unsealer = Unsealer::new(&mut lookup);
            let mut out = Vec::new();
            for piece in sealed.chunks(step) {
                out.extend(unsealer.push(piece));
            }
            out.extend(unsealer.finish());
            assert_eq!(out, text, "pieces of {step}");
        }
    }
}
