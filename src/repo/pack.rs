//! Packs: gzip members that form one tar archive, a table of contents and a footer
//! (`docs/format.md` §4).
//!
//! A [`PackWriter`] streams to a staged file and keeps one member in memory. Before it writes a
//! member it decompresses it again and re-hashes the blobs in it: a fault of compressor or memory
//! stops the backup, not the restore.

use std::io::{self, Read};

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::storage::{Pieces, Staged, Storage};
use crate::model::manifest::Time;
use crate::repo::layout;
use crate::repo::snapshot::PackRef;

mod salvage;

pub use salvage::salvage;

/// Input of one member, at most, in bytes.
pub const MEMBER_BYTES: usize = 256 * 1024;
/// A pack is closed once it has this many bytes.
pub const PACK_BYTES: u64 = 32 << 20;
const BLOCK: usize = 512;
const FOOTER_BYTES: usize = 42;
const TOC_NAME: &str = ".bdr/toc.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For guards: a person is waiting.
    Fast,
    /// For scheduled backups: gzip level 6.
    Best,
}

impl Level {
    /// Returns gzip's level, from 1 to 9.
    pub fn number(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Best => 6,
        }
    }
}

/// Compressed and decompressed length of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member(pub u32, pub u32);

/// Place of a blob in a pack: digest, size, member, offset in the decompressed member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedBlob(pub Digest, pub u64, pub u32, pub u32);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    format: String,
    version: u32,
    repository: Id,
    /// Content members in file order from offset 0.
    pub members: Vec<Member>,
    pub blobs: Vec<PackedBlob>,
}

#[derive(Debug, Clone)]
pub struct Finished {
    pub pack: PackRef,
    pub contents: Contents,
}

/// The tar header of an entry.
pub struct TarMeta<'a> {
    /// Escaped name below `files/` or `blobs/`.
    pub name: &'a str,
    pub kind: TarKind<'a>,
    pub mode: u32,
    /// Only whole seconds are stored.
    pub mtime: Time,
}

#[derive(Clone, Copy)]
pub enum TarKind<'a> {
    File,
    Dir,
    /// With its target.
    Symlink(&'a [u8]),
    /// With the name of the entry to which it links.
    Hardlink(&'a str),
}

fn tar_header(meta: &TarMeta<'_>, size: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 * BLOCK);
    let mut header = tar::Header::new_gnu();
    let (kind, link) = match meta.kind {
        TarKind::File => (tar::EntryType::Regular, None),
        TarKind::Dir => (tar::EntryType::Directory, None),
        TarKind::Symlink(target) => (tar::EntryType::Symlink, Some(target)),
        TarKind::Hardlink(target) => (tar::EntryType::Link, Some(target.as_bytes())),
    };
    let mut name = meta.name.as_bytes().to_vec();
    if matches!(meta.kind, TarKind::Dir) {
        name.push(b'/');
    }
    for (bytes_of, long, place) in [
        (link, tar::EntryType::GNULongLink, 157..257),
        (Some(&name[..]), tar::EntryType::GNULongName, 0..100),
    ] {
        let Some(text) = bytes_of else { continue };
        if text.len() < 100 {
            header.as_mut_bytes()[place.start..place.start + text.len()].copy_from_slice(text);
        } else {
            header.as_mut_bytes()[place.start..place.start + 99].copy_from_slice(&text[..99]);
            let mut extra = tar::Header::new_gnu();
            extra.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
            extra.set_entry_type(long);
            extra.set_size(text.len() as u64 + 1);
            extra.set_mode(0o644);
            extra.set_mtime(0);
            extra.set_cksum();
            bytes.extend_from_slice(extra.as_bytes());
            bytes.extend_from_slice(text);
            bytes.resize(bytes.len() + 1, 0);
            pad(&mut bytes);
        }
    }
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.mode & 0o1777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(
        u64::try_from(meta.mtime.0)
            .unwrap_or(0)
            .min(0o77_777_777_777),
    );
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

struct Compress {
    compressor: Compressor,
    decompressor: Decompressor,
    out: Vec<u8>,
    check: Vec<u8>,
}

impl Compress {
    /// Compresses `raw` into `self.out` and decompresses it again into `self.check`.
    fn member(&mut self, raw: &[u8]) -> Result<()> {
        self.out
            .resize(self.compressor.gzip_compress_bound(raw.len()), 0);
        let length = self
            .compressor
            .gzip_compress(raw, &mut self.out)
            .map_err(|e| Error::damaged("compressed data", e.to_string()))?;
        self.out.truncate(length);
        self.check.resize(raw.len(), 0);
        let decompressed = self
            .decompressor
            .gzip_decompress(&self.out, &mut self.check);
        if !matches!(decompressed, Ok(n) if n == raw.len()) || self.check != raw {
            return Err(Error::damaged(
                "compressed data",
                "it does not decompress to the original: check this machine's memory",
            ));
        }
        Ok(())
    }
}

struct Mark {
    length: u64,
    hasher: Sha256,
    members: usize,
    blobs: usize,
}

struct Long {
    mark: Mark,
    /// Member and offset at which the data begins.
    start: (u32, u32),
    size: u64,
    written: u64,
    /// Re-hashes the data as the decompressor returns it.
    check: Sha256,
    /// Bytes of header or padding to skip in the next decompressed member.
    skip: usize,
    checked: u64,
}

/// Writes packs, and opens a new one whenever the last is full.
pub struct PackWriter<'a> {
    storage: &'a dyn Storage,
    repository: Id,
    compress: Compress,
    staged: Option<Box<dyn Staged>>,
    hasher: Sha256,
    length: u64,
    members: Vec<Member>,
    blobs: Vec<PackedBlob>,
    buffer: Vec<u8>,
    pending: Vec<(Digest, usize, usize)>,
    long: Option<Long>,
    finished: Vec<Finished>,
}

impl<'a> PackWriter<'a> {
    /// Creates a writer; it writes nothing until there is data.
    pub fn new(storage: &'a dyn Storage, repository: Id, level: Level) -> Self {
        let level = CompressionLvl::new(level.number()).unwrap_or_default();
        Self {
            storage,
            repository,
            compress: Compress {
                compressor: Compressor::new(level),
                decompressor: Decompressor::new(),
                out: Vec::new(),
                check: Vec::new(),
            },
            staged: None,
            hasher: Sha256::new(),
            length: 0,
            members: Vec::new(),
            blobs: Vec::new(),
            buffer: Vec::with_capacity(MEMBER_BYTES),
            pending: Vec::new(),
            long: None,
            finished: Vec::new(),
        }
    }

    /// Adds a whole entry; `digest` names its data as a blob (`None` for entries without data).
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn add(&mut self, meta: &TarMeta<'_>, data: &[u8], digest: Option<Digest>) -> Result<()> {
        let header = tar_header(meta, data.len() as u64);
        let total = header.len() + data.len().next_multiple_of(BLOCK);
        if total > MEMBER_BYTES {
            self.begin_long(meta, data.len() as u64)?;
            self.write_long(data)?;
            return self.end_long(digest.unwrap_or_else(|| Digest::of(data)));
        }
        if self.buffer.len() + total > MEMBER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(&header);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(data);
        if let Some(digest) = digest {
            self.pending.push((digest, start, data.len()));
        }
        pad(&mut self.buffer);
        if self.length + self.buffer.len() as u64 / 4 > PACK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    /// Begins an entry of exactly `size` bytes, whose data follows by [`PackWriter::write_long`].
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn begin_long(&mut self, meta: &TarMeta<'_>, size: u64) -> Result<()> {
        // A long entry begins a member of its own, so that it can be cut off again (`abort_long`).
        self.flush()?;
        // Data is guessed to compress to a quarter. A pack that is still small is not closed for
        // it.
        if self.length + size / 4 > PACK_BYTES && self.length > PACK_BYTES / 4 {
            self.close()?;
        }
        let mark = Mark {
            length: self.length,
            hasher: self.hasher.clone(),
            members: self.members.len(),
            blobs: self.blobs.len(),
        };
        let header = tar_header(meta, size);
        let start = (
            u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            header.len() as u32,
        );
        self.long = Some(Long {
            mark,
            start,
            size,
            written: 0,
            check: Sha256::new(),
            skip: header.len(),
            checked: 0,
        });
        self.buffer.extend_from_slice(&header);
        Ok(())
    }

    /// Adds data to the open entry.
    ///
    /// # Errors
    /// The storage cannot be written, or there is more data than announced.
    pub fn write_long(&mut self, mut data: &[u8]) -> Result<()> {
        let long = self
            .long
            .as_mut()
            .ok_or_else(|| Error::invalid("no entry was begun", None))?;
        long.written += data.len() as u64;
        if long.written > long.size {
            return Err(Error::invalid("more data than announced", None));
        }
        while !data.is_empty() {
            let room = MEMBER_BYTES - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == MEMBER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the open entry, whose data must have this digest.
    ///
    /// # Errors
    /// The storage cannot be written, or the data that came back from the compressor has another
    /// digest.
    pub fn end_long(&mut self, digest: Digest) -> Result<()> {
        pad(&mut self.buffer);
        self.flush()?;
        let Some(long) = self.long.take() else {
            return Ok(());
        };
        if Digest::finish(long.check) != digest || long.written != long.size {
            return Err(Error::damaged(
                digest.to_hex(),
                "the packed data has a different digest",
            ));
        }
        self.blobs
            .push(PackedBlob(digest, long.size, long.start.0, long.start.1));
        if self.length > PACK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    /// Drops the open entry as if it had never been begun.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn abort_long(&mut self) -> Result<()> {
        let Some(long) = self.long.take() else {
            return Ok(());
        };
        self.buffer.clear();
        self.pending.clear();
        if let Some(staged) = &mut self.staged {
            staged
                .truncate(long.mark.length)
                .map_err(|e| Error::storage("truncate", "a staged pack", e))?;
        }
        self.length = long.mark.length;
        self.hasher = long.mark.hasher;
        self.members.truncate(long.mark.members);
        self.blobs.truncate(long.mark.blobs);
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        if self.staged.is_none() {
            let staged = self
                .storage
                .stage()
                .map_err(|e| Error::storage("create", "a pack in tmp/", e))?;
            self.staged = Some(staged);
        }
        if let Some(staged) = &mut self.staged {
            staged
                .write(&self.compress.out)
                .map_err(|e| Error::storage("write", "a pack in tmp/", e))?;
        }
        self.hasher.update(&self.compress.out);
        self.length += self.compress.out.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.compress.member(&self.buffer)?;
        for (digest, start, length) in &self.pending {
            if Digest::of(&self.compress.check[*start..start + length]) != *digest {
                return Err(Error::damaged(
                    digest.to_hex(),
                    "the packed data has a different digest",
                ));
            }
        }
        if let Some(long) = &mut self.long {
            let data = &self.compress.check[long.skip.min(self.compress.check.len())..];
            long.skip = 0;
            let rest = usize::try_from(long.size - long.checked).unwrap_or(usize::MAX);
            let data = &data[..rest.min(data.len())];
            long.check.update(data);
            long.checked += data.len() as u64;
        }
        let number = self.members.len() as u32;
        self.members.push(Member(
            self.compress.out.len() as u32,
            self.buffer.len() as u32,
        ));
        self.write_out()?;
        for (digest, start, length) in self.pending.drain(..) {
            self.blobs
                .push(PackedBlob(digest, length as u64, number, start as u32));
        }
        self.buffer.clear();
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.flush()?;
        if self.members.is_empty() {
            return Ok(());
        }
        let contents = Contents {
            format: "bdr-pack".to_owned(),
            version: 1,
            repository: self.repository,
            members: std::mem::take(&mut self.members),
            blobs: std::mem::take(&mut self.blobs),
        };
        let json = serde_json::to_vec(&contents)
            .map_err(|e| Error::invalid(format!("contents: {e}"), None))?;
        let meta = TarMeta {
            name: TOC_NAME,
            kind: TarKind::File,
            mode: 0o644,
            mtime: Time(0, 0),
        };
        // An entry of the tar archive like any other, so that `tar` reads the pack to its end.
        let mut archive = tar_header(&meta, json.len() as u64);
        archive.extend_from_slice(&json);
        pad(&mut archive);
        archive.resize(archive.len() + 2 * BLOCK, 0);
        let offset = self.length;
        for piece in archive.chunks(MEMBER_BYTES) {
            self.compress.member(piece)?;
            self.write_out()?;
        }
        let footer = footer(offset, self.length - offset);
        self.compress.out.clear();
        self.compress.out.extend_from_slice(&footer);
        self.write_out()?;
        let hasher = std::mem::replace(&mut self.hasher, Sha256::new());
        let pack = PackRef {
            id: Digest::finish(hasher),
            bytes: self.length,
        };
        self.length = 0;
        if let Some(staged) = self.staged.take() {
            let name = layout::pack(pack.id);
            self.storage
                .publish(staged, &name)
                .map_err(|e| Error::storage("write", name, e))?;
        }
        self.finished.push(Finished { pack, contents });
        Ok(())
    }

    /// Publishes the last pack and returns all packs written, in order.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn finish(mut self) -> Result<Vec<Finished>> {
        self.close()?;
        Ok(self.finished)
    }
}

fn footer(offset: u64, length: u64) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..16].copy_from_slice(&[
        0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 20, 0, b'B', b'D', 16, 0,
    ]);
    footer[16..24].copy_from_slice(&offset.to_le_bytes());
    footer[24..32].copy_from_slice(&length.to_le_bytes());
    footer[32] = 3;
    footer
}

fn le64(bytes: &[u8]) -> u64 {
    let mut buffer = [0; 8];
    buffer.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(buffer)
}

/// Reads the table of contents of a pack of `bytes` bytes.
///
/// # Errors
/// The pack is missing, cut off or damaged.
pub fn read_contents(
    storage: &dyn Storage,
    id: Digest,
    bytes: u64,
    repository: Id,
) -> Result<Contents> {
    let name = layout::pack(id);
    let damaged = |reason: &str| Error::damaged(layout::pack(id), reason);
    if bytes < FOOTER_BYTES as u64 {
        return Err(damaged("it is cut off"));
    }
    let mut found = [0; FOOTER_BYTES];
    storage
        .read_at(&name, bytes - FOOTER_BYTES as u64, &mut found)
        .map_err(|e| Error::storage("read", &name, e))?;
    let (offset, length) = (le64(&found[16..]), le64(&found[24..]));
    let end = offset.checked_add(length);
    if found != footer(offset, length)
        || end != Some(bytes - FOOTER_BYTES as u64)
        || length > MAX_TABLE_PACKED
    {
        return Err(damaged("its footer is damaged or cut off"));
    }
    let packed = Pieces::range(storage, &name, offset, length);
    let packed = io::BufReader::with_capacity(64 << 10, packed);
    let limit = length.saturating_mul(MAX_TABLE_RATIO) + (1 << 20);
    let mut archive = flate2::bufread::MultiGzDecoder::new(packed).take(limit.min(MAX_TABLE));
    let contents =
        parse_contents(&mut archive).ok_or_else(|| damaged("its table of contents is damaged"))?;
    if contents.repository != repository {
        return Err(damaged("it belongs to another repository"));
    }
    let total: u64 = contents.members.iter().map(|m| u64::from(m.0)).sum();
    if total != offset {
        return Err(damaged("its table of contents does not match its size"));
    }
    let is_member = |member: &Member| {
        member.0 as usize <= 2 * MEMBER_BYTES && member.1 as usize <= MEMBER_BYTES
    };
    if !contents.members.iter().all(is_member) {
        return Err(damaged(
            "its table of contents has a member that is too large",
        ));
    }
    // Blobs are inside members, so none can be longer than all of them; readers rely on that when
    // they add up sizes.
    let raw: u64 = contents.members.iter().map(|m| u64::from(m.1)).sum();
    if contents.blobs.iter().any(|blob| blob.1 > raw) {
        return Err(damaged(
            "its table of contents has a part that is larger than all of it",
        ));
    }
    Ok(contents)
}

/// The longest table of contents, in bytes, also compressed: that of a pack full of the smallest
/// files.
const MAX_TABLE: u64 = 128 << 20;
const MAX_TABLE_PACKED: u64 = 64 << 20;
/// How many times longer than its compressed form a table of contents may be: it is mostly digests,
/// which do not compress.
const MAX_TABLE_RATIO: u64 = 64;

fn parse_contents(archive: &mut impl Read) -> Option<Contents> {
    let mut header = [0; BLOCK];
    archive.read_exact(&mut header).ok()?;
    let size = tar::Header::from_byte_slice(&header).size().ok()?;
    let mut json = archive.take(size);
    let contents: Contents = serde_json::from_reader(io::BufReader::new(&mut json)).ok()?;
    (contents.format == "bdr-pack" && contents.version == 1).then_some(contents)
}
