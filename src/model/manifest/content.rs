//! Where the bytes of a file are stored.

use serde::{Deserialize, Serialize};

use crate::base::id::{Digest, Id};

/// The stored bytes of a file: a list of ranges of blobs, and the digest of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the whole.
    pub digest: Digest,
    parts: Parts,
}

/// Nearly all files are one blob, which takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parts {
    /// The digest of the whole is that of the blob.
    Whole([Extent; 1]),
    Pieces(Box<(Vec<Digest>, Vec<Extent>)>),
    /// Not read yet: a file in a staging area.
    Kept(Kept),
}

/// A file that was kept in a staging area instead of being read, so its content has no digest yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub set: Id,
    pub number: u32,
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent(
    /// Index into the content's blobs.
    pub u32,
    /// Offset in the blob, bytes.
    pub u64,
    /// Length, bytes.
    pub u64,
);

impl Content {
    pub fn whole(digest: Digest, size: u64) -> Self {
        Self {
            digest,
            parts: Parts::Whole([Extent(0, 0, size)]),
        }
    }

    pub fn new(digest: Digest, blobs: Vec<Digest>, extents: Vec<Extent>) -> Self {
        let parts = match (&blobs[..], &extents[..]) {
            ([blob], [extent]) if *blob == digest => Parts::Whole([*extent]),
            _ => Parts::Pieces(Box::new((blobs, extents))),
        };
        Self { digest, parts }
    }

    /// Returns the content of a file in a staging area. Its digest is a made-up name, never that of
    /// bytes.
    pub fn kept(kept: Kept) -> Self {
        let name = format!("kept {} {}", kept.set, kept.number);
        Self {
            digest: Digest::of(name.as_bytes()),
            parts: Parts::Kept(kept),
        }
    }

    /// Returns where the content is kept, if it was not read.
    pub fn as_kept(&self) -> Option<Kept> {
        match self.parts {
            Parts::Kept(kept) => Some(kept),
            _ => None,
        }
    }

    pub fn blobs(&self) -> &[Digest] {
        match &self.parts {
            Parts::Kept(_) => &[],
            Parts::Whole(_) => std::slice::from_ref(&self.digest),
            Parts::Pieces(pieces) => &pieces.0,
        }
    }

    /// Returns the ranges of blobs that form the content, in order.
    pub fn extents(&self) -> &[Extent] {
        match &self.parts {
            Parts::Kept(_) => &[],
            Parts::Whole(extent) => extent,
            Parts::Pieces(pieces) => &pieces.1,
        }
    }

    /// Returns the number of bytes stored: the size of the file, unless it has sealed values.
    pub fn size(&self) -> u64 {
        match &self.parts {
            Parts::Kept(kept) => kept.size,
            _ => self.extents().iter().map(|e| e.2).sum(),
        }
    }

    pub fn is_whole(&self) -> bool {
        matches!(self.parts, Parts::Whole(_))
    }
}
