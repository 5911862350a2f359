//! The content of a file that is written back, with its holes.

use std::fs::File;
use std::io::{self, Write as _};

/// Granularity of holes in file systems, in bytes.
const BLOCK: usize = 4096;

/// Writes a file from its beginning; skips zeros if the original had holes.
pub(super) struct Sink<'a> {
    file: &'a File,
    sparse: bool,
    at: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a File, sparse: bool) -> Self {
        Self {
            file,
            sparse,
            at: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.sparse {
            return (&mut &*self.file).write_all(bytes);
        }
        let mut rest = bytes;
        let mut pending = 0;
        while pending < rest.len() {
            // Up to the end of a block of the file, wherever the piece begins.
            let at = self.at + pending as u64;
            let left = BLOCK - usize::try_from(at % BLOCK as u64).unwrap_or(0);
            let end = (pending + left).min(rest.len());
            if rest[pending..end].iter().any(|byte| *byte != 0) {
                pending = end;
                continue;
            }
            self.put(&rest[..pending])?;
            self.at += (end - pending) as u64;
            rest = &rest[end..];
            pending = 0;
        }
        self.put(rest)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self.sparse {
            // A hole at the end has no write that would extend the file.
            true => self.file.set_len(self.at),
            false => Ok(()),
        }
    }
}
