//! Where the bytes of a file are.

use serde::{Deserialize, Serialize};

use crate::base::id::{Digest, Id};

/// Where the bytes of a file are: a list of ranges of blobs, and the digest of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the whole.
    pub digest: Digest,
    parts: Parts,
}

/// Nearly all files are one blob: that takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parts {
    /// The blob is named by the digest of the whole.
    Whole([Extent; 1]),
    Pieces(Box<(Vec<Digest>, Vec<Extent>)>),
    /// Not read yet: a file in a staging area.
    Kept(Kept),
}

/// A file that was kept in a staging area instead of being read: content that has no digest yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The set that it belongs to.
    pub set: Id,
    /// Its number in the set.
    pub number: u32,
    /// Bytes.
    pub size: u64,
}

/// A range of a blob.
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
    /// Returns the content of a file that is one whole blob.
    pub fn whole(digest: Digest, size: u64) -> Self {
        Self {
            digest,
            parts: Parts::Whole([Extent(0, 0, size)]),
        }
    }

    /// Returns the content that consists of ranges of blobs.
    pub fn new(digest: Digest, blobs: Vec<Digest>, extents: Vec<Extent>) -> Self {
        let parts = match (&blobs[..], &extents[..]) {
            ([blob], [extent]) if *blob == digest => Parts::Whole([*extent]),
            _ => Parts::Pieces(Box::new((blobs, extents))),
        };
        Self { digest, parts }
    }

    /// Returns the content of a file in a staging area. Its digest is a name made up for it, never that of bytes.
    pub fn kept(kept: Kept) -> Self {
        let name = format!("kept {} {}", kept.set, kept.number);
        Self {
            digest: Digest::of(name.as_bytes()),
            parts: Parts::Kept(kept),
        }
    }

    /// Returns where the content is kept if it was not read.
    pub fn as_kept(&self) -> Option<Kept> {
        match self.parts {
            Parts::Kept(kept) => Some(kept),
            _ => None,
        }
    }

    /// Returns the blobs that the extents refer to.
    pub fn blobs(&self) -> &[Digest] {
        match &self.parts {
            Parts::Kept(_) => &[],
            Parts::Whole(_) => std::slice::from_ref(&self.digest),
            Parts::Pieces(pieces) => &pieces.0,
        }
    }

    /// Returns the ranges of blobs whose concatenation is the content.
    pub fn extents(&self) -> &[Extent] {
        match &self.parts {
            Parts::Kept(_) => &[],
            Parts::Whole(extent) => extent,
            Parts::Pieces(pieces) => &pieces.1,
        }
    }

    /// Returns the number of bytes stored: the size of the file, unless something of it was sealed.
    pub fn size(&self) -> u64 {
        match &self.parts {
            Parts::Kept(kept) => kept.size,
            _ => self.extents().iter().map(|e| e.2).sum(),
        }
    }

    /// Returns true if the file is one whole blob.
    pub fn is_whole(&self) -> bool {
        matches!(self.parts, Parts::Whole(_))
    }
}
