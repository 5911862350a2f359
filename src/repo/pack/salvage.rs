//! What can still be read of a damaged pack.
//!
//! The table of contents is at the end, so a pack that was cut off has none. Its members are found
//! by how they begin, their entries by the headers of the tar archive in them, and what an entry is
//! by the digest of its data: nothing that is found has to be believed.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::{BLOCK, MEMBER_BYTES, Member, PackedBlob};
use crate::base::id::Digest;
use crate::disk::storage::Storage;

/// Finds what is still readable in a damaged pack, member by member, with the places.
///
/// Members are at the returned offsets; entries are identified by hashing their data. False
/// candidates cost time only up to a few times the length of the pack.
pub fn salvage(
    storage: &dyn Storage,
    name: &str,
    bytes: u64,
) -> (Vec<(u64, Member)>, Vec<PackedBlob>) {
    let window = Window {
        storage,
        name,
        end: bytes,
        start: 0,
        bytes: Vec::new(),
    };
    let mut search = Search {
        window,
        at: 0,
        found_at: 0,
        patience: bytes.saturating_mul(8).saturating_add(64 << 20),
        gap: false,
    };
    let mut members = Vec::new();
    let mut entries = Entries::default();
    while let Some((place, member, raw)) = search.next_member() {
        if std::mem::take(&mut search.gap) {
            // An entry that spans members cannot continue after a gap.
            entries.open = None;
        }
        let number = members.len() as u32;
        members.push((place, member));
        entries.read(number, &raw);
    }
    (members, entries.blobs)
}

/// A sliding view of a pack: at least one member from any requested place.
struct Window<'a> {
    storage: &'a dyn Storage,
    name: &'a str,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// Bytes without a single member after which the search stops.
const MAX_BARREN: u64 = 512 << 20;

/// Bytes read at once.
const WINDOW: u64 = 1 << 20;

impl Window<'_> {
    /// Returns what follows a place; `None` if no member fits any more, or reading fails.
    fn from(&mut self, at: u64) -> Option<&[u8]> {
        if self.end.saturating_sub(at) < 18 {
            return None;
        }
        let wanted = (at + 2 * MEMBER_BYTES as u64).min(self.end);
        if at < self.start || wanted > self.start + self.bytes.len() as u64 {
            let length = WINDOW.min(self.end - at);
            self.bytes.resize(usize::try_from(length).ok()?, 0);
            self.start = at;
            self.storage.read_at(self.name, at, &mut self.bytes).ok()?;
        }
        self.bytes.get(usize::try_from(at - self.start).ok()?..)
    }
}

/// A search for members, from the beginning of a pack to its end.
struct Search<'a> {
    window: Window<'a>,
    at: u64,
    /// Where the last member ended.
    found_at: u64,
    /// Bytes that may still be decompressed in vain: each failed attempt costs some, or a crafted
    /// file could take for ever.
    patience: u64,
    /// Something that is no member was skipped since the last one.
    gap: bool,
}

impl Search<'_> {
    /// Returns the place, the lengths and the content of the next member.
    fn next_member(&mut self) -> Option<(u64, Member, Vec<u8>)> {
        while let Some(ahead) = self.window.from(self.at) {
            // A file can claim any length and be empty.
            if self.at - self.found_at > MAX_BARREN {
                return None;
            }
            // bdr's gzip members have no name and no optional fields.
            let Some(skip) = memchr::memmem::find(ahead, &[0x1f, 0x8b, 8, 0]) else {
                self.at += (ahead.len() - 3) as u64;
                continue;
            };
            self.at += skip as u64;
            let ahead = self.window.from(self.at)?;
            let mut cursor = io::Cursor::new(ahead);
            let mut raw = Vec::new();
            let read = flate2::bufread::GzDecoder::new(&mut cursor)
                .take(MEMBER_BYTES as u64 + 1)
                .read_to_end(&mut raw);
            let used = cursor.position();
            if read.is_err() || raw.len() > MEMBER_BYTES || used == 0 {
                self.gap = true;
                self.at += 1;
                self.patience = self.patience.checked_sub(raw.len() as u64 + 64)?;
                continue;
            }
            let place = self.at;
            self.at += used;
            self.found_at = self.at;
            return Some((place, Member(used as u32, raw.len() as u32), raw));
        }
        None
    }
}

/// The entries of the archive, as far as members were read.
#[derive(Default)]
struct Entries {
    blobs: Vec<PackedBlob>,
    open: Option<OpenEntry>,
}

/// An entry that spans members.
struct OpenEntry {
    /// Where it began.
    member: u32,
    offset: u32,
    size: u64,
    /// Bytes of it that were seen.
    seen: u64,
    hasher: Sha256,
}

impl Entries {
    /// Reads the entries of a member, or goes on with the one that spans it: such an entry has its
    /// members to itself.
    fn read(&mut self, number: u32, raw: &[u8]) {
        if let Some(open) = self.open.take() {
            self.go_on(open, raw);
            return;
        }
        let mut position = 0;
        while let Some(block) = raw.get(position..position + BLOCK) {
            let header = tar::Header::from_byte_slice(block);
            // Data that is itself a tar has headers too, but with other names.
            let ours = [&b"files/"[..], b"blobs/", b".bdr/", b"././@LongLink"];
            let valid = ours.iter().any(|name| block.starts_with(name))
                && header.cksum().is_ok_and(|sum| sum == checksum(block));
            let Some(size) = header.size().ok().filter(|_| valid) else {
                break;
            };
            position += BLOCK;
            let rest = &raw[position..];
            if size as usize <= rest.len() {
                let data = &rest[..size as usize];
                if header.entry_type().is_file() {
                    let blob = PackedBlob(Digest::of(data), size, number, position as u32);
                    self.blobs.push(blob);
                }
                position += data.len().next_multiple_of(BLOCK);
            } else {
                let mut hasher = Sha256::new();
                hasher.update(rest);
                self.open = Some(OpenEntry {
                    member: number,
                    offset: position as u32,
                    size,
                    seen: rest.len() as u64,
                    hasher,
                });
                break;
            }
        }
    }

    fn go_on(&mut self, mut open: OpenEntry, raw: &[u8]) {
        let left = usize::try_from(open.size - open.seen).unwrap_or(usize::MAX);
        let take = left.min(raw.len());
        open.hasher.update(&raw[..take]);
        open.seen += take as u64;
        if open.seen == open.size {
            let digest = Digest::finish(open.hasher);
            let blob = PackedBlob(digest, open.size, open.member, open.offset);
            self.blobs.push(blob);
        } else {
            self.open = Some(open);
        }
    }
}

fn checksum(block: &[u8]) -> u32 {
    block
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum()
}
