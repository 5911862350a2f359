//! Where blobs are: derived from the packs' tables of contents, kept in the cache, safe to delete.
//!
//! The file is a log of sections, one per pack, each with its own checksum. Everything after a
//! damaged section is ignored and read from the packs again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use crate::base::error::Result;
use crate::base::id::Digest;
use crate::disk::fsutil;
use crate::repo::pack::{Contents, Finished, Member, PackedBlob};
use crate::repo::snapshot::PackRef;

/// A digest is random already, so it serves as its own hash.
#[derive(Default)]
pub struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for (i, byte) in bytes.iter().take(8).enumerate() {
            self.0 ^= u64::from(*byte) << (8 * i);
        }
    }
    fn write_usize(&mut self, _: usize) {}
}

pub type DigestSet = HashSet<Digest, BuildHasherDefault<DigestHasher>>;
type DigestMap<V> = HashMap<Digest, V, BuildHasherDefault<DigestHasher>>;

#[derive(Debug, Clone)]
pub struct IndexedPack {
    pub pack: PackRef,
    /// Offset in the pack, compressed length, decompressed length.
    pub members: Vec<(u64, Member)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Number of the pack in the index.
    pub pack: u32,
    /// Number of the member in the pack.
    pub member: u32,
    /// Offset in the decompressed member.
    pub offset: u32,
    pub size: u64,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Blob → copies.
#[derive(Debug, Default, Clone)]
pub struct Index {
    packs: Vec<IndexedPack>,
    known: DigestSet,
    copies: Vec<Location>,
    first: DigestMap<u32>,
}

impl Index {
    pub fn pack(&self, number: u32) -> Option<&IndexedPack> {
        self.packs.get(number as usize)
    }

    pub fn packs(&self) -> &[IndexedPack] {
        &self.packs
    }

    pub fn knows(&self, pack: Digest) -> bool {
        self.known.contains(&pack)
    }

    pub fn copies(&self, blob: Digest) -> impl Iterator<Item = Location> + '_ {
        let mut next = self.first.get(&blob).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let location = *self.copies.get(next as usize)?;
            next = location.next;
            Some(location)
        })
    }

    /// Returns the number of distinct blobs.
    pub fn blobs(&self) -> usize {
        self.first.len()
    }

    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.first.keys().copied()
    }

    pub fn add(&mut self, pack: PackRef, members: Vec<(u64, Member)>, blobs: &[PackedBlob]) {
        if !self.known.insert(pack.id) {
            return;
        }
        let number = self.packs.len() as u32;
        self.first.reserve(blobs.len());
        for PackedBlob(digest, size, member, offset) in blobs {
            if *member as usize >= members.len() {
                continue;
            }
            let place = self.copies.len() as u32;
            let next = self.first.insert(*digest, place).unwrap_or(NONE);
            self.copies.push(Location {
                pack: number,
                member: *member,
                offset: *offset,
                size: *size,
                next,
            });
        }
        self.packs.push(IndexedPack { pack, members });
    }

    /// Adds a pack whose table of contents was read.
    pub fn add_contents(&mut self, pack: PackRef, contents: &Contents) {
        self.add(pack, offsets(&contents.members), &contents.blobs);
    }

    pub fn without(&self, gone: &DigestSet) -> Self {
        let mut result = Self::default();
        let mut by_pack: Vec<Vec<PackedBlob>> = vec![Vec::new(); self.packs.len()];
        for digest in self.digests() {
            for location in self.copies(digest) {
                by_pack[location.pack as usize].push(PackedBlob(
                    digest,
                    location.size,
                    location.member,
                    location.offset,
                ));
            }
        }
        for (pack, blobs) in self.packs.iter().zip(&by_pack) {
            if !gone.contains(&pack.pack.id) {
                result.add(pack.pack, pack.members.clone(), blobs);
            }
        }
        result
    }

    /// Reads the cached index; whatever cannot be read counts as missing.
    pub fn load(path: &Path) -> Self {
        let mut index = Self::default();
        let Some(bytes) = fsutil::read_derived(path) else {
            return index;
        };
        let mut rest = &bytes[..];
        while let Some((section, after)) = take_section(rest) {
            let Some((pack, members, blobs)) = parse_section(section) else {
                break;
            };
            index.add(pack, members, &blobs);
            rest = after;
        }
        index
    }

    /// Writes the whole index.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut by_pack: Vec<Vec<PackedBlob>> = vec![Vec::new(); self.packs.len()];
        for digest in self.digests() {
            for l in self.copies(digest) {
                by_pack[l.pack as usize].push(PackedBlob(digest, l.size, l.member, l.offset));
            }
        }
        let mut bytes = Vec::new();
        for (pack, blobs) in self.packs.iter().zip(&by_pack) {
            bytes.extend_from_slice(&section(pack.pack, &pack.members, blobs));
        }
        fsutil::write_derived(path, &bytes)
    }
}

/// Returns the packs in the cached index without reading their contents. A damaged index may claim
/// anything, so a caller that finds a difference has to read the packs.
pub fn heads(path: &Path) -> Vec<PackRef> {
    let mut packs = Vec::new();
    let Some(file) = fsutil::open_derived(path) else {
        return packs;
    };
    let (mut at, mut head) = (0_u64, [0; 48]);
    // Length, checksum, then the body, which begins with digest and size of the pack.
    while fsutil::read_exact_at(&file, &mut head, at).is_ok() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let (Ok(id), Ok(bytes)) = (head[8..40].try_into(), head[40..48].try_into()) else {
            break;
        };
        packs.push(PackRef {
            id: Digest(id),
            bytes: u64::from_le_bytes(bytes),
        });
        at += 8 + u64::from(length);
    }
    packs
}

/// Appends newly published packs to the cached index.
///
/// # Errors
/// The cache cannot be written.
pub fn append(path: &Path, packs: &[Finished]) -> Result<()> {
    let mut bytes = Vec::new();
    for finished in packs {
        bytes.extend_from_slice(&section(
            finished.pack,
            &offsets(&finished.contents.members),
            &finished.contents.blobs,
        ));
    }
    fsutil::append_derived(path, &bytes)
}

fn offsets(members: &[Member]) -> Vec<(u64, Member)> {
    let mut at = 0;
    members
        .iter()
        .map(|member| {
            let offset = at;
            at += u64::from(member.0);
            (offset, *member)
        })
        .collect()
}

fn section(pack: PackRef, members: &[(u64, Member)], blobs: &[PackedBlob]) -> Vec<u8> {
    let mut body = Vec::with_capacity(48 + members.len() * 16 + blobs.len() * 48);
    body.extend_from_slice(&pack.id.0);
    body.extend_from_slice(&pack.bytes.to_le_bytes());
    body.extend_from_slice(&(members.len() as u32).to_le_bytes());
    body.extend_from_slice(&(blobs.len() as u32).to_le_bytes());
    for (offset, Member(packed, raw)) in members {
        body.extend_from_slice(&offset.to_le_bytes());
        body.extend_from_slice(&packed.to_le_bytes());
        body.extend_from_slice(&raw.to_le_bytes());
    }
    for PackedBlob(digest, size, member, offset) in blobs {
        body.extend_from_slice(&digest.0);
        body.extend_from_slice(&size.to_le_bytes());
        body.extend_from_slice(&member.to_le_bytes());
        body.extend_from_slice(&offset.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn take_section(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let body = bytes.get(8..8usize.checked_add(length)?)?;
    (crc32fast::hash(body) == u32_at(bytes, 4)?).then_some((body, &bytes[8 + length..]))
}

type Section = (PackRef, Vec<(u64, Member)>, Vec<PackedBlob>);

fn parse_section(body: &[u8]) -> Option<Section> {
    let pack = PackRef {
        id: Digest(body.get(..32)?.try_into().ok()?),
        bytes: u64_at(body, 32)?,
    };
    let (members, blobs) = (u32_at(body, 40)? as usize, u32_at(body, 44)? as usize);
    let blobs_at = 48usize.checked_add(members.checked_mul(16)?)?;
    if body.len() != blobs_at.checked_add(blobs.checked_mul(48)?)? {
        return None;
    }
    let members = (0..members)
        .map(|i| {
            let at = 48 + i * 16;
            Some((
                u64_at(body, at)?,
                Member(u32_at(body, at + 8)?, u32_at(body, at + 12)?),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    let blobs = body[blobs_at..]
        .chunks_exact(48)
        .map(|b| {
            Some(PackedBlob(
                Digest(b[..32].try_into().ok()?),
                u64_at(b, 32)?,
                u32_at(b, 40)?,
                u32_at(b, 44)?,
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    Some((pack, members, blobs))
}
