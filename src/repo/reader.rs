//! Reads content back: extents of blobs, members of packs. It tries every copy before it gives up.

use std::collections::{HashSet, VecDeque};
use std::io::{Read as _, Write};
use std::sync::Arc;

use libdeflater::Decompressor;
use sha2::{Digest as _, Sha256};

use super::Repository;
use super::index::{DigestSet, Index, Location};
use super::kept::{Found, KeptPlace, Resolved};
use super::pack::Member;
use super::trash::Part;
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::model::manifest::{Body, Content, Entry, Extent, Kept, Sealed};
use crate::privacy::Fingerprint;
use crate::privacy::seal::Unsealer;
use crate::repo::layout;

/// Decompressed members kept in memory: files of one directory share a member, and in-place changes
/// alternate between a few.
const KEPT_MEMBERS: usize = 6;

/// Reads blobs; one per thread.
pub struct Reader<'a> {
    repo: &'a Repository,
    /// Read on first use: a full backup never needs it.
    index: Option<Arc<Index>>,
    /// The index is up to date with the packs.
    fresh: bool,
    decompressor: Decompressor,
    kept: VecDeque<((u32, u32), Vec<u8>)>,
    packed: Vec<u8>,
    /// Something that was returned may not be the original content.
    unsure: bool,
    lost: DigestSet,
    /// The member found damaged last, and the members whose blobs are already among the lost.
    damaged: Option<(u32, u32)>,
    accounted: HashSet<(u32, u32)>,
}

/// Remembers what cannot be read: a backup stores it again from the file if it still exists, and
/// until then nothing claims that it is safe.
impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Derived: if noting fails, the next reader finds it again.
        let _ = self.repo.note_damaged_blobs(&self.lost);
    }
}

impl<'a> Reader<'a> {
    pub fn new(repo: &'a Repository) -> Self {
        Self {
            repo,
            index: None,
            fresh: false,
            decompressor: Decompressor::new(),
            kept: VecDeque::new(),
            packed: Vec::new(),
            unsure: false,
            lost: DigestSet::default(),
            damaged: None,
            accounted: HashSet::new(),
        }
    }

    /// Creates a reader with an index known to be complete.
    pub fn with_index(repo: &'a Repository, index: Arc<Index>) -> Self {
        let mut reader = Self::new(repo);
        reader.fresh = true;
        reader.index = Some(index);
        reader
    }

    /// Returns where the file is that a body is, if it is kept as it was.
    pub fn kept_place(&self, body: &Body) -> Option<KeptPlace> {
        self.repo.kept_place(body)
    }

    /// Returns true if something returned since the last call may not be the original content,
    /// because the file was written to after it was kept.
    pub fn take_unsure(&mut self) -> bool {
        std::mem::take(&mut self.unsure)
    }

    /// Passes the bytes of an entry to `sink` piece by piece, and checks their digest.
    ///
    /// # Errors
    /// There is no good copy of a part (discard what `sink` got), or `sink` failed.
    pub fn entry(
        &mut self,
        entry: &Entry,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.unsure |= entry.body.unsure;
        match &entry.body.content {
            Some(content) => self.content(content, sink),
            None => Ok(()),
        }
    }

    /// Passes content to `sink` piece by piece, and checks its digest.
    ///
    /// # Errors
    /// As [`Reader::entry`].
    pub fn content(
        &mut self,
        content: &Content,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if let Some(kept) = content.as_kept() {
            return self.kept(kept, sink);
        }
        let mut hasher = Sha256::new();
        for Extent(blob, offset, length) in content.extents() {
            let blob = *content.blobs().get(*blob as usize).ok_or_else(|| {
                Error::damaged(content.digest.to_hex(), "an extent names no blob")
            })?;
            self.range(blob, *offset, *length, &mut |bytes| {
                hasher.update(bytes);
                sink(bytes)
            })?;
        }
        if Digest::finish(hasher) != content.digest {
            self.lost.extend(content.blobs().iter().copied());
            return Err(Error::damaged(
                content.digest.to_hex(),
                "the stored bytes have a different checksum",
            ));
        }
        Ok(())
    }

    /// Passes kept content to `sink`.
    fn kept(&mut self, kept: Kept, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = match self.repo.find_kept(kept)? {
            Found::Kept(opened) => {
                self.unsure |= !opened.is_sure;
                opened.file
            }
            Found::Stored(resolved) => return self.resolved(resolved, sink),
        };
        let mut left = kept.size;
        self.packed.resize(128 * 1024, 0);
        while left > 0 {
            let want =
                usize::try_from(left).map_or(self.packed.len(), |n| n.min(self.packed.len()));
            match file.read(&mut self.packed[..want]) {
                Ok(0) => {
                    let name = layout::kept_file(kept.set, kept.number);
                    return Err(Error::damaged(name, "it became shorter while it was read"));
                }
                Ok(n) => {
                    sink(&self.packed[..n])?;
                    left -= n as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::storage("read", "a kept file", error)),
            }
        }
        Ok(())
    }

    /// Passes the stored form of kept content to `sink`, with sealed values put back.
    fn resolved(
        &mut self,
        resolved: Resolved,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.unsure |= resolved.is_unsure;
        match (resolved.sealed, resolved.content) {
            (Some(sealed), content) => self.unsealed(content.as_ref(), &sealed, sink),
            (None, Some(content)) => self.content(&content, sink),
            (None, None) => Ok(()),
        }
    }

    /// Passes the original bytes of a file to `sink`, with sealed values put back.
    ///
    /// # Errors
    /// As [`Reader::entry`]; [`Error::Sealed`] if values are not in this machine's vault. Discard
    /// what `sink` got then.
    pub fn original(
        &mut self,
        body: &Body,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.unsure |= body.unsure;
        match (&body.sealed, &body.content) {
            (Some(sealed), content) => self.unsealed(content.as_ref(), sealed, sink),
            (None, Some(content)) => self.content(content, sink),
            (None, None) => Ok(()),
        }
    }

    /// Returns the original bytes of a file.
    ///
    /// # Errors
    /// As [`Reader::original`].
    pub fn original_to_vec(&mut self, body: &Body) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.original(body, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn unsealed(
        &mut self,
        content: Option<&Content>,
        sealed: &Sealed,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let vault = self.repo.vault();
        let missing = |values: Vec<Fingerprint>| Error::Sealed { values };
        let mut mac = vault.mac()?;
        if sealed.whole {
            for fingerprint in &sealed.values {
                let piece = vault
                    .get(*fingerprint)
                    .ok_or_else(|| missing(vec![*fingerprint]))?;
                mac.update(&piece);
                sink(&piece)?;
            }
        } else if let Some(content) = content {
            let mut value =
                |f: Fingerprint| sealed.values.contains(&f).then(|| vault.get(f)).flatten();
            let mut unsealer = Unsealer::new(&mut value);
            self.content(content, &mut |piece| {
                let out = unsealer.push(piece);
                mac.update(&out);
                sink(&out)
            })?;
            let out = unsealer.finish();
            mac.update(&out);
            sink(&out)?;
            let gone: Vec<Fingerprint> = unsealer
                .missing
                .iter()
                .filter(|f| sealed.values.contains(f))
                .copied()
                .collect();
            if !gone.is_empty() {
                return Err(missing(gone));
            }
        }
        if mac.finish() == sealed.mac {
            return Ok(());
        }
        // From another machine or another key: the result is not the original.
        Err(missing(sealed.values.clone()))
    }

    /// Returns the content of a file of `size` bytes.
    ///
    /// # Errors
    /// As [`Reader::entry`].
    pub fn to_vec(&mut self, content: &Content, size: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(64 << 20));
        self.content(content, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Reads a whole blob and checks its digest.
    ///
    /// # Errors
    /// This copy is missing or damaged.
    pub fn check_copy(&mut self, blob: Digest, location: Location) -> Result<()> {
        let mut hasher = Sha256::new();
        self.copy_range(location, 0, location.size, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        if Digest::finish(hasher) == blob {
            return Ok(());
        }
        Err(Error::damaged(
            blob.to_hex(),
            "its bytes have a different checksum",
        ))
    }

    fn refresh(&mut self) -> Result<bool> {
        if self.fresh {
            return Ok(false);
        }
        self.fresh = true;
        self.index = Some(self.repo.refreshed_index()?.0);
        self.kept.clear();
        Ok(true)
    }

    fn range(
        &mut self,
        blob: Digest,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        // Bytes that `sink` already has: another copy continues from there.
        let mut done = 0;
        let mut last = Error::BlobMissing { id: blob };
        loop {
            let index = self.index.get_or_insert_with(|| self.repo.index());
            let copies: Vec<Location> = index.copies(blob).collect();
            for location in copies {
                if offset
                    .checked_add(length)
                    .is_none_or(|end| end > location.size)
                {
                    continue;
                }
                let mut failed = None;
                let result =
                    self.copy_range(location, offset + done, length - done, &mut |bytes| {
                        let taken = sink(bytes);
                        match taken {
                            Ok(()) => done += bytes.len() as u64,
                            Err(error) => failed = Some(error),
                        }
                        if failed.is_some() {
                            Err(Error::Interrupted)
                        } else {
                            Ok(())
                        }
                    });
                if let Some(error) = failed {
                    return Err(error);
                }
                match result {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            if !self.refresh()? {
                // A read that only failed just now does not mean that the blob is lost.
                if matches!(last, Error::BlobMissing { .. } | Error::Damaged { .. }) {
                    self.lost.insert(blob);
                    self.account();
                }
                return Err(last);
            }
        }
    }

    /// Counts as lost everything that begins in the damaged member and has no other copy, not only
    /// the requested blob.
    fn account(&mut self) {
        let (Some(damaged), Some(index)) = (self.damaged.take(), &self.index) else {
            return;
        };
        if self.accounted.insert(damaged) {
            let only_there = |blob: &Digest| {
                let mut copies = index.copies(*blob);
                copies.all(|copy| (copy.pack, copy.member) == damaged)
            };
            self.lost.extend(index.digests().filter(only_there));
        }
    }

    fn copy_range(
        &mut self,
        location: Location,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut left = length;
        let mut skip = u64::from(location.offset) + offset;
        let mut member = location.member;
        // Whole members before the range are not even read.
        while let Some(raw) = self.member_raw(location.pack, member) {
            if skip < raw || left == 0 {
                break;
            }
            skip -= raw;
            member += 1;
        }
        while left > 0 {
            let bytes = self.member(location.pack, member)?;
            let from = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            let take = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(bytes.len() - from);
            if take == 0 {
                return Err(Error::damaged("a pack", "an entry ends too early"));
            }
            sink(&bytes[from..from + take])?;
            left -= take as u64;
            skip = 0;
            member += 1;
        }
        Ok(())
    }

    fn member_raw(&self, pack: u32, member: u32) -> Option<u64> {
        let pack = self.index.as_ref()?.pack(pack)?;
        Some(u64::from(pack.members.get(member as usize)?.1.1))
    }

    fn member(&mut self, pack: u32, member: u32) -> Result<&[u8]> {
        if let Some(at) = self.kept.iter().position(|(key, _)| *key == (pack, member)) {
            if at > 0
                && let Some(found) = self.kept.remove(at)
            {
                self.kept.push_front(found);
            }
            return Ok(&self.kept[0].1);
        }
        let known = self
            .index
            .as_ref()
            .and_then(|index| index.pack(pack))
            .ok_or_else(|| Error::damaged("the index", "it names no pack"))?;
        let name = layout::pack(known.pack.id);
        let Some((offset, Member(packed, raw))) = known.members.get(member as usize).copied()
        else {
            return Err(Error::damaged(name, "an entry goes beyond its members"));
        };
        if raw as usize > super::pack::MEMBER_BYTES {
            return Err(Error::damaged(name, "a member is too long"));
        }
        self.packed.resize(packed as usize, 0);
        let storage = self.repo.storage();
        let read = match storage.read_at(&name, offset, &mut self.packed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                match self.repo.in_trash(Part::Pack(known.pack.id)) {
                    Some(name) => storage.read_at(&name, offset, &mut self.packed),
                    None => Err(error),
                }
            }
            other => other,
        };
        read.map_err(|e| Error::storage("read", &name, e))?;
        let mut bytes = if self.kept.len() >= KEPT_MEMBERS {
            self.kept
                .pop_back()
                .map(|(_, bytes)| bytes)
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        bytes.resize(raw as usize, 0);
        match self.decompressor.gzip_decompress(&self.packed, &mut bytes) {
            Ok(n) if n == raw as usize => {}
            _ => {
                self.damaged = Some((pack, member));
                return Err(Error::damaged(
                    name,
                    format!("the member at byte {offset} is damaged"),
                ));
            }
        }
        self.kept.push_front(((pack, member), bytes));
        Ok(&self.kept[0].1)
    }
}

impl Repository {
    /// Writes the bytes of an entry to `sink`, checked; returns false if they may not be the
    /// original: see [`Reader::take_unsure`].
    ///
    /// # Errors
    /// There is no good copy (discard what was written), or `sink` failed.
    pub fn read_content(&self, entry: &Entry, sink: &mut dyn Write) -> Result<bool> {
        let mut reader = Reader::new(self);
        reader.entry(entry, &mut |bytes| {
            sink.write_all(bytes)
                .map_err(|e| Error::storage("write out", "content", e))
        })?;
        Ok(!reader.take_unsure())
    }
}
