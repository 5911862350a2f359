//! Expresses a changed file by its old bytes: append, 4 KiB pages in place, or a changed middle.
//!
//! Pure: two byte strings in, pieces out. Storing the whole file is always possible, so a delta has
//! to pay.

use std::ops::Range;

use crate::base::id::Digest;
use crate::model::manifest::{Content, Extent};

/// Page size of SQLite and most in-place formats, in bytes.
pub const PAGE: usize = 4096;
/// Smaller files are stored whole, in bytes: describing a delta would cost as much.
pub const MIN_BYTES: u64 = 2048;
/// Beyond this many extents or blobs, a chain is folded.
const MAX_EXTENTS: usize = 256;
const MAX_BLOBS: usize = 12;

/// A run of the new content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Old(Range<u64>),
    /// Bytes that only the new content has, as a range of it.
    New(Range<u64>),
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Returns how many bytes of `pieces` are new.
pub fn new_bytes(pieces: &[Piece]) -> u64 {
    pieces
        .iter()
        .map(|p| {
            if let Piece::New(range) = p {
                length(range)
            } else {
                0
            }
        })
        .sum()
}

/// Returns true if `pieces` are worth storing instead of all `size` bytes.
pub fn is_worth(pieces: &[Piece], size: u64) -> bool {
    size >= MIN_BYTES && new_bytes(pieces) + 64 * pieces.len() as u64 <= size / 2
}

/// Returns the pieces of a file that was appended to.
pub fn append(old_size: u64, new_size: u64) -> Vec<Piece> {
    vec![Piece::Old(0..old_size), Piece::New(old_size..new_size)]
}

/// Compares page by page; `at` is the offset of both slices.
///
/// In a page that differs, only the part between the common head and tail is new: a row of a
/// database is much smaller than its page.
pub fn pages(old: &[u8], new: &[u8], at: u64, pieces: &mut Vec<Piece>) {
    let mut offset = 0;
    while offset < new.len() {
        let end = (offset + PAGE).min(new.len());
        let page = &new[offset..end];
        let (head, tail) = match old.get(offset..end) {
            Some(old) if old == page => (page.len(), 0),
            Some(old) => ends(old, page),
            None => (0, 0),
        };
        let from = at + offset as u64;
        let to = at + end as u64;
        let (head, tail) = (from + head as u64, to - tail as u64);
        push(pieces, Piece::Old(from..head));
        push(pieces, Piece::New(head..tail));
        push(pieces, Piece::Old(tail..to));
        offset = end;
    }
}

/// Adds a piece, merged with the last one if they are adjacent.
pub fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Old(range) | Piece::New(range)) if range.is_empty() => {}
        (Some(Piece::Old(last)), Piece::Old(next)) if last.end == next.start => last.end = next.end,
        (Some(Piece::New(last)), Piece::New(next)) if last.end == next.start => last.end = next.end,
        (_, piece) => pieces.push(piece),
    }
}

/// Returns the lengths of the common head and of the common tail after it.
fn ends(old: &[u8], new: &[u8]) -> (usize, usize) {
    let most = old.len().min(new.len());
    let head = common(old, new, most);
    let rest = most - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    (head, tail)
}

/// Returns the pieces of a file with a changed middle.
pub fn middle(old: &[u8], new: &[u8]) -> Vec<Piece> {
    let (prefix, suffix) = ends(old, new);
    let (prefix, suffix) = (prefix as u64, suffix as u64);
    let (old_size, new_size) = (old.len() as u64, new.len() as u64);
    [
        Piece::Old(0..prefix),
        Piece::New(prefix..new_size - suffix),
        Piece::Old(old_size - suffix..old_size),
    ]
    .into_iter()
    .filter(|p| match p {
        Piece::Old(r) | Piece::New(r) => r.start < r.end,
    })
    .collect()
}

fn common(a: &[u8], b: &[u8], most: usize) -> usize {
    // Chunks first: comparing slices is many times faster than comparing bytes.
    let mut at = 0;
    while at + 4096 <= most && a[at..at + 4096] == b[at..at + 4096] {
        at += 4096;
    }
    at + a[at..most]
        .iter()
        .zip(&b[at..most])
        .take_while(|(x, y)| x == y)
        .count()
}

/// Returns the better of the two ways to express `new` by `old`, if one pays.
pub fn compare(old: &[u8], new: &[u8]) -> Option<Vec<Piece>> {
    let middle = middle(old, new);
    let mut by_page = Vec::new();
    if old.len() > PAGE && new.len() > PAGE {
        pages(old, new, 0, &mut by_page);
    }
    let cost = |pieces: &[Piece]| new_bytes(pieces) + 64 * pieces.len() as u64;
    let best = if by_page.is_empty() || cost(&middle) <= cost(&by_page) {
        middle
    } else {
        by_page
    };
    is_worth(&best, new.len() as u64).then_some(best)
}

/// Returns the extents of `range` of a content.
fn slice(content: &Content, range: &Range<u64>) -> Vec<Extent> {
    let mut result = Vec::new();
    let mut at = 0;
    for Extent(blob, offset, length) in content.extents() {
        let start = range.start.max(at);
        let end = range.end.min(at + length);
        if start < end {
            result.push(Extent(*blob, offset + (start - at), end - start));
        }
        at += length;
    }
    result
}

/// The result of applying a delta.
#[derive(Debug, PartialEq, Eq)]
pub struct Patched {
    /// The new content; its blob number `patch` still has to be stored.
    pub content: Content,
    /// Ranges of the new content whose concatenation is the blob to store.
    pub patch: Vec<Range<u64>>,
}

/// Returns the content that `pieces` make of `old`, with one new blob for everything new; `None` if
/// it is better stored whole.
///
/// `patch_digest` computes the digest of the concatenated ranges. Long chains are folded: of the
/// old blobs only the one that contributes most stays, everything else becomes part of the new
/// blob.
pub fn patched(
    old: &Content,
    pieces: &[Piece],
    digest: Digest,
    mut patch_digest: impl FnMut(&[Range<u64>]) -> Digest,
) -> Option<Patched> {
    let lengths = pieces.iter().map(|piece| match piece {
        Piece::Old(range) | Piece::New(range) => length(range),
    });
    let size: u64 = lengths.sum();
    let mut runs = runs_of(old, pieces);
    if runs.len() > MAX_EXTENTS || used(&runs).len() + 1 > MAX_BLOBS {
        fold(old, &mut runs);
    }
    let patch: Vec<Range<u64>> = runs
        .iter()
        .filter(|(from, _)| from.is_none())
        .map(|(_, range)| range.clone())
        .collect();
    let patch_bytes: u64 = patch.iter().map(length).sum();
    if patch_bytes + 64 * runs.len() as u64 > size / 2 || runs.len() > 4 * MAX_EXTENTS {
        return None;
    }
    let kept = used(&runs);
    let mut blobs: Vec<Digest> = kept.iter().map(|b| old.blobs()[*b as usize]).collect();
    let patch_number = blobs.len() as u32;
    if !patch.is_empty() {
        blobs.push(patch_digest(&patch));
    }
    let mut extents: Vec<Extent> = Vec::with_capacity(runs.len());
    let mut in_patch = 0;
    for (from, range) in runs {
        let (blob, offset) = match from {
            Some((blob, offset)) => (
                kept.iter().position(|k| *k == blob).unwrap_or_default() as u32,
                offset,
            ),
            None => {
                let offset = in_patch;
                in_patch += length(&range);
                (patch_number, offset)
            }
        };
        match extents.last_mut() {
            Some(Extent(b, o, l)) if *b == blob && *o + *l == offset => *l += length(&range),
            _ => extents.push(Extent(blob, offset, length(&range))),
        }
    }
    Some(Patched {
        content: Content::new(digest, blobs, extents),
        patch,
    })
}

/// A run of the new content: its source (an old blob and offset, or the patch), and its range.
type Run = (Option<(u32, u64)>, Range<u64>);

fn runs_of(old: &Content, pieces: &[Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    for piece in pieces {
        match piece {
            Piece::New(range) => {
                runs.push((None, at..at + length(range)));
                at += length(range);
            }
            Piece::Old(range) => {
                for Extent(blob, offset, length) in slice(old, range) {
                    runs.push((Some((blob, offset)), at..at + length));
                    at += length;
                }
            }
        }
    }
    runs
}

/// Returns the old blobs that runs use, each once.
fn used(runs: &[Run]) -> Vec<u32> {
    let from = runs.iter().filter_map(|(from, _)| Some((*from)?.0));
    let mut blobs: Vec<u32> = from.collect();
    blobs.sort_unstable();
    blobs.dedup();
    blobs
}

/// Moves everything into the patch except the runs of the blob that contributes most: reading a
/// file must not need ever more blobs.
fn fold(old: &Content, runs: &mut [Run]) {
    let mut given = vec![0; old.blobs().len()];
    for (from, range) in runs.iter() {
        if let Some((blob, _)) = from {
            given[*blob as usize] += length(range);
        }
    }
    let given = given.iter().enumerate();
    let largest = given.max_by_key(|(_, n)| **n).map(|(i, _)| i as u32);
    for (from, _) in runs {
        if from.is_some_and(|(blob, _)| Some(blob) != largest) {
            *from = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of blobs, with files written to it only as deltas.
    fn rebuild(content: &Content, blobs: &std::collections::HashMap<Digest, Vec<u8>>) -> Vec<u8> {
        content
            .extents()
            .iter()
            .flat_map(|Extent(b, o, l)| {
                blobs[&content.blobs()[*b as usize]][*o as usize..(*o + *l) as usize].to_vec()
            })
            .collect()
    }

    #[test]
    fn chains_of_edits_rebuild_exactly_and_stay_short() {
        let mut blobs = std::collections::HashMap::new();
        let mut bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let whole = |bytes: &[u8], blobs: &mut std::collections::HashMap<Digest, Vec<u8>>| {
            let digest = Digest::of(bytes);
            blobs.insert(digest, bytes.to_vec());
            Content::whole(digest, bytes.len() as u64)
        };
        let mut content = whole(&bytes, &mut blobs);
        let mut wholes = 0;
        for round in 0..200u32 {
            let old = bytes.clone();
            match round % 3 {
                0 => bytes.extend_from_slice(format!("line {round}\n").as_bytes()),
                1 => {
                    let at = (round as usize * 7919) % (bytes.len() - 10);
                    bytes[at..at + 5].copy_from_slice(b"PATCH");
                }
                _ => {
                    let at = (round as usize * 104_729) % bytes.len();
                    bytes.splice(at..at + 3.min(bytes.len() - at), *b"inserted");
                }
            }
            let pieces = if round % 3 == 0 {
                append(old.len() as u64, bytes.len() as u64)
            } else {
                compare(&old, &bytes).expect("small edits are worth a delta")
            };
            let digest = Digest::of(&bytes);
            let patch_of = |ranges: &[Range<u64>]| -> Vec<u8> {
                ranges
                    .iter()
                    .flat_map(|r| bytes[r.start as usize..r.end as usize].to_vec())
                    .collect()
            };
            match patched(&content, &pieces, digest, |r| Digest::of(&patch_of(r))) {
                Some(new) => {
                    let patch = patch_of(&new.patch);
                    blobs.insert(Digest::of(&patch), patch);
                    content = new.content;
                }
                None => {
                    wholes += 1;
                    content = whole(&bytes, &mut blobs);
                }
            }
            assert_eq!(rebuild(&content, &blobs), bytes, "round {round}");
            assert!(
                content.blobs().len() <= MAX_BLOBS && content.extents().len() <= 4 * MAX_EXTENTS
            );
        }
        assert!(wholes <= 2, "{wholes} of 200 small edits were stored whole");
    }

    #[test]
    fn a_rewritten_file_is_not_worth_a_delta() {
        let old = vec![1; 50_000];
        let new: Vec<u8> = (0..50_000u32).map(|i| (i * i % 253) as u8).collect();
        assert_eq!(compare(&old, &new), None);
        assert_eq!(compare(&old, &[]), None);
    }
}
