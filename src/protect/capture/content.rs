//! From an open file to stored content: read once, examined, and stored in the shortest form.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::look::Head;
use super::{Capture, KEPT_BYTES, MEMORY_BYTES, Place, Stored, seal};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{os_to_bytes, tar_name};
use crate::model::delta;
use crate::model::manifest::{Content, Kind};
use crate::privacy;
use crate::repo::pack::{TarKind, TarMeta};
use crate::repo::state::{Known, Stat};

impl Capture<'_> {
    /// Reads and stores the content of an open file. Returns it with its size, or `None` if the
    /// file was shorter than its stat said.
    ///
    /// Leaves the end of the content in `self.buffer`.
    pub(super) fn content(
        &mut self,
        place: &Place<'_>,
        file: &File,
        stat: &Stat,
        prior: Option<&Known<'_>>,
        last: bool,
    ) -> Result<Option<Stored>> {
        if stat.size == 0 {
            self.buffer.clear();
            return Ok(Some(Stored {
                content: None,
                size: 0,
                sealed: None,
            }));
        }
        let (old, head) = self.before(place, prior);
        let name = match place.path.is_root() {
            true => format!("files/{}", place.root),
            false => format!("files/{}/{}", place.root, tar_name(place.path.as_bytes())),
        };
        let meta = TarMeta {
            name: &name,
            kind: TarKind::File,
            mode: stat.mode,
            mtime: stat.mtime,
        };
        if stat.size > MEMORY_BYTES {
            return self.large_sealed(place, file, stat, &meta, old, head.as_ref());
        }
        if !self.read_whole(file, stat.size, &name)? && !last {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.buffer);
        let stored = self.look_and_store(place, &bytes, &meta, old, head.as_ref());
        self.buffer = bytes;
        stored.map(Some)
    }

    /// Returns the file's previous content if it may serve as a base, and how much of a log was
    /// examined before.
    fn before(
        &self,
        place: &Place<'_>,
        prior: Option<&Known<'_>>,
    ) -> (Option<Content>, Option<Head>) {
        let known = prior.filter(|known| known.stat.kind == Kind::File);
        let Some((known, body)) = known.and_then(|known| Some((known, known.body()?))) else {
            return (None, None);
        };
        let all_anew = self.shared.full || self.shared.anew;
        let is_log = !all_anew && privacy::is_log_name(place.path.name());
        let head = match is_log {
            true => Head::of(&body, known.stat.size),
            false => None,
        };
        // A delta depends on its old blobs, so none may be damaged; kept content has no blobs yet.
        let is_good = |blob: &Digest| !self.shared.damaged.contains(blob);
        let old = body
            .content
            .filter(|content| content.as_kept().is_none() && content.blobs().iter().all(is_good));
        (old, head)
    }

    /// Reads a file into `self.buffer`; false if it was shorter than its stat said.
    fn read_whole(&mut self, file: &File, size: u64, name: &str) -> Result<bool> {
        let mut bytes = std::mem::take(&mut self.buffer);
        if bytes.capacity() > KEPT_BYTES {
            bytes = Vec::new();
        }
        bytes.clear();
        bytes.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
        // At most `size` bytes: growth shows in the stat afterwards.
        let read = file.take(size).read_to_end(&mut bytes);
        self.buffer = bytes;
        read.map_err(|e| Error::io("read", name.to_owned(), e))?;
        let read = self.buffer.len() as u64;
        self.read_bytes += read;
        Ok(read >= size)
    }

    /// Examines content in memory, and stores it as far as it may be stored.
    fn look_and_store(
        &mut self,
        place: &Place<'_>,
        bytes: &[u8],
        meta: &TarMeta<'_>,
        old: Option<Content>,
        head: Option<&Head>,
    ) -> Result<Stored> {
        let size = bytes.len() as u64;
        let kind_of = os_to_bytes(place.absolute.as_os_str());
        let (found, digest) = self.look_at(&kind_of, bytes, head)?;
        let (content, sealed) = match found {
            seal::Stored::Clear | seal::Stored::Public => {
                (self.whole(meta, bytes, old, digest)?, None)
            }
            seal::Stored::Sealed(bytes, sealed) => {
                (self.whole(meta, &bytes, old, None)?, Some(sealed))
            }
            seal::Stored::Whole(sealed) => (None, Some(sealed)),
        };
        Ok(Stored {
            content,
            size,
            sealed,
        })
    }

    /// Examines a file that is too large for memory, then stores it.
    fn large_sealed(
        &mut self,
        place: &Place<'_>,
        file: &File,
        stat: &Stat,
        meta: &TarMeta<'_>,
        old: Option<Content>,
        head: Option<&Head>,
    ) -> Result<Option<Stored>> {
        let kind_of = os_to_bytes(place.absolute.as_os_str());
        let size = stat.size;
        let seen = Self::seen_of(file, head).unwrap_or(0);
        let (content, sealed) = match seal::large(self.shared.repo, &kind_of, file, size, seen)? {
            seal::LargeStored::Short => return Ok(None),
            seal::LargeStored::Whole(sealed) => (None, Some(sealed)),
            seal::LargeStored::Clear => {
                let mut file = file;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
                    .map_err(|e| Error::io("read", meta.name, e))?;
                match self.large(file, size, meta, old)? {
                    Some(content) => (content, None),
                    None => return Ok(None),
                }
            }
            seal::LargeStored::Sealed(spool, sealed) => {
                let mut file = &spool.file;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
                    .map_err(|e| Error::io("read", meta.name, e))?;
                match self.large(file, sealed.size, meta, old)? {
                    Some(content) => (content, Some(sealed)),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Stored {
            content,
            size,
            sealed,
        }))
    }

    /// Stores content that is in memory; `known` is its digest, if it was hashed already.
    fn whole(
        &mut self,
        meta: &TarMeta<'_>,
        bytes: &[u8],
        old: Option<Content>,
        known: Option<Digest>,
    ) -> Result<Option<Content>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let size = bytes.len() as u64;
        let old = old.map(|content| {
            let size = content.size();
            (content, size)
        });
        let mut hasher = Sha256::new();
        // Hashing yields the digest at the old length for free, so an append is recognised without
        // reading the old file.
        let mut appended = false;
        match &old {
            Some((content, old_size)) if *old_size < size && *old_size > 0 => {
                let (head, tail) = bytes.split_at(*old_size as usize);
                hasher.update(head);
                appended = Digest::finish(hasher.clone()) == content.digest;
                hasher.update(tail);
            }
            _ if known.is_some() => {}
            _ => hasher.update(bytes),
        }
        let digest = known.unwrap_or_else(|| Digest::finish(hasher));
        // A full backup stores everything again, so that its own packs are enough to restore it.
        if self.shared.full {
            self.admit(meta, bytes, digest)?;
            return Ok(Some(Content::whole(digest, size)));
        }
        if let Some((content, _)) = &old
            && content.digest == digest
        {
            return Ok(Some(content.clone()));
        }
        if self.is_stored(digest)? {
            return Ok(Some(Content::whole(digest, size)));
        }
        // A delta keeps old blobs, so after a change of rules it must not build on what the old
        // rules let through.
        if let Some((content, old_size)) = old
            && !self.shared.anew
            && size >= delta::MIN_BYTES
            && let Some(known) = self.delta(meta, bytes, digest, &content, old_size, appended)?
        {
            return Ok(Some(known));
        }
        self.admit(meta, bytes, digest)?;
        Ok(Some(Content::whole(digest, size)))
    }

    /// Expresses content as a delta against the old content, if that pays.
    fn delta(
        &mut self,
        meta: &TarMeta<'_>,
        bytes: &[u8],
        digest: Digest,
        old: &Content,
        old_size: u64,
        appended: bool,
    ) -> Result<Option<Content>> {
        let size = bytes.len() as u64;
        let pieces = if appended {
            Some(delta::append(old_size, size))
        } else if (delta::MIN_BYTES..=MEMORY_BYTES).contains(&old_size) {
            // If the old content cannot be read any more, store the new one whole instead of
            // failing.
            let old_bytes = self.reader.to_vec(old, old_size).ok();
            old_bytes.and_then(|old_bytes| delta::compare(&old_bytes, bytes))
        } else {
            None
        };
        let gather = |ranges: &[Range<u64>]| -> Vec<u8> {
            let parts = ranges.iter();
            parts
                .flat_map(|r| &bytes[r.start as usize..r.end as usize])
                .copied()
                .collect()
        };
        let patched = pieces.and_then(|pieces| {
            delta::patched(old, &pieces, digest, |ranges| Digest::of(&gather(ranges)))
        });
        let Some(patched) = patched else {
            return Ok(None);
        };
        self.patch(meta, &gather(&patched.patch))?;
        Ok(Some(patched.content))
    }

    pub(super) fn patch(&mut self, meta: &TarMeta<'_>, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let digest = Digest::of(bytes);
        if self.is_stored(digest)? {
            return Ok(());
        }
        let name = format!("blobs/{}", digest.to_hex());
        self.admit(
            &TarMeta {
                name: &name,
                ..*meta
            },
            bytes,
            digest,
        )
    }

    /// Stores a file that is too large for memory.
    fn large(
        &mut self,
        file: &File,
        size: u64,
        meta: &TarMeta<'_>,
        old: Option<Content>,
    ) -> Result<Option<Option<Content>>> {
        if let Some(content) = old
            && !self.shared.full
            && !self.shared.anew
            && let Some(known) = self.large_delta(file, size, meta, &content)?
        {
            return Ok(Some(Some(known)));
        }
        let mut file = file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
            .map_err(|e| Error::io("read", meta.name, e))?;
        // The digest is known only after the last byte, so pack the file meanwhile, and take it out
        // again if it turns out to be stored already.
        self.pack.begin_long(meta, size)?;
        let mut hasher = Sha256::new();
        let mut left = size;
        self.buffer.resize(256 * 1024, 0);
        while left > 0 {
            let want = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = file.read(&mut self.buffer[..want]);
            let n = match read {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.pack.abort_long()?;
                    return Err(Error::io("read", meta.name, error));
                }
            };
            // Somebody is truncating the file: drop the incomplete entry.
            if n == 0 {
                self.pack.abort_long()?;
                return Ok(None);
            }
            self.read_bytes += n as u64;
            self.told_bytes += n as u64;
            self.shared.monitor.advance(0, n as u64);
            hasher.update(&self.buffer[..n]);
            self.pack.write_long(&self.buffer[..n])?;
            left -= n as u64;
            if left == 0 {
                self.buffer.truncate(n);
            }
        }
        let digest = Digest::finish(hasher);
        if !self.shared.full && self.is_stored(digest)? {
            self.pack.abort_long()?;
        } else {
            self.pack.end_long(digest)?;
            self.note_stored(digest);
        }
        Ok(Some(Some(Content::whole(digest, size))))
    }
}
