//! Expresses a large file as a delta against its old content, in one pass over both, so that
//! neither has to fit into memory.

use std::fs::File;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::{Capture, MEMORY_BYTES};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::model::delta::{self, Piece};
use crate::model::manifest::Content;
use crate::repo::pack::TarMeta;
use crate::repo::reader::Reader;

/// Bytes compared at once.
const STEP: usize = 64 * delta::PAGE;

impl Capture<'_> {
    /// Expresses a large file as a delta against its old content if the new part fits into memory;
    /// otherwise it is stored whole.
    pub(super) fn large_delta(
        &mut self,
        file: &File,
        size: u64,
        meta: &TarMeta<'_>,
        old: &Content,
    ) -> Result<Option<Content>> {
        let failed = |error| Error::io("read", meta.name, error);
        let mut both = Both::of(file);
        if !both.along(&mut self.reader, old).map_err(failed)? {
            return Ok(None);
        }
        if !both.rest(size).map_err(failed)? {
            return Ok(None);
        }
        self.read_bytes += size;
        let end = both.window.len().saturating_sub(1);
        self.buffer.clear();
        self.buffer.extend_from_slice(&both.window[end..]);
        let Found {
            hasher,
            pieces,
            fresh,
        } = both.found;
        let digest = Digest::finish(hasher);
        if digest == old.digest {
            return Ok(Some(old.clone()));
        }
        if !delta::is_worth(&pieces, size) {
            return Ok(None);
        }
        // Folding would need bytes that are no longer in memory, so the file is stored whole.
        let new_bytes = delta::new_bytes(&pieces);
        let mut exact = true;
        let patched = delta::patched(old, &pieces, digest, |ranges| {
            exact = ranges.iter().map(|r| r.end - r.start).sum::<u64>() == new_bytes;
            Digest::of(&fresh)
        });
        let Some(patched) = patched.filter(|_| exact) else {
            return Ok(None);
        };
        self.patch(meta, &fresh)?;
        Ok(Some(patched.content))
    }
}

/// Findings of a comparison so far.
#[derive(Default)]
struct Found {
    hasher: Sha256,
    pieces: Vec<Piece>,
    /// Bytes that the old content does not have.
    fresh: Vec<u8>,
}

impl Found {
    /// Compares both at an offset; false once there is too much new content.
    fn compare(&mut self, old: &[u8], new: &[u8], at: u64) -> bool {
        self.hasher.update(new);
        let mut here = Vec::new();
        delta::pages(old, new, at, &mut here);
        for piece in here {
            if let Piece::New(range) = &piece {
                let (from, to) = ((range.start - at) as usize, (range.end - at) as usize);
                self.fresh.extend_from_slice(&new[from..to]);
            }
            delta::push(&mut self.pieces, piece);
        }
        self.fresh.len() as u64 <= MEMORY_BYTES
    }
}

/// Old content and a new file, side by side.
struct Both<'f> {
    file: &'f File,
    found: Found,
    /// Bytes of the file that have been compared.
    at: u64,
    /// Old content that has not been compared yet.
    pending: Vec<u8>,
    /// The part of the file read last.
    window: Vec<u8>,
}

impl<'f> Both<'f> {
    fn of(file: &'f File) -> Self {
        Self {
            file,
            found: Found::default(),
            at: 0,
            pending: Vec::new(),
            window: Vec::new(),
        }
    }

    fn fill(&mut self, most: u64) -> std::io::Result<u64> {
        self.window.clear();
        let mut file = self.file.take(most);
        file.read_to_end(&mut self.window).map(|n| n as u64)
    }

    /// Follows the old content while it is unpacked; false if it cannot be read, or too much is
    /// new.
    fn along(&mut self, reader: &mut Reader<'_>, old: &Content) -> std::io::Result<bool> {
        let mut failed = None;
        let walked = reader.content(old, &mut |piece| {
            self.pending.extend_from_slice(piece);
            while self.pending.len() >= STEP {
                match self.fill(STEP as u64) {
                    Ok(n) if n > 0 => {
                        let old = &self.pending[..STEP];
                        let enough = self.found.compare(old, &self.window, self.at);
                        self.at += n;
                        self.pending.drain(..STEP);
                        if !enough {
                            return Err(Error::Interrupted);
                        }
                    }
                    Ok(_) => self.pending.clear(),
                    Err(error) => {
                        failed = Some(error);
                        return Err(Error::Interrupted);
                    }
                }
            }
            Ok(())
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(walked.is_ok()),
        }
    }

    /// Compares the part of the file beyond the old content; false if the file is shorter than its
    /// stat said, or too much is new.
    fn rest(&mut self, size: u64) -> std::io::Result<bool> {
        while self.at < size {
            let n = self.fill((STEP as u64).min(size - self.at))?;
            let old = std::mem::take(&mut self.pending);
            if n == 0 || !self.found.compare(&old, &self.window, self.at) {
                return Ok(false);
            }
            self.at += n;
        }
        Ok(self.at == size)
    }
}
