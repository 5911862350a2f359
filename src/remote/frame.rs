//! What an object says about itself: its repository, kind and name, inside the encryption, in the
//! comment of a gzip header. `tar` and `gzip` read over it.

use std::io::Read as _;

use libdeflater::{CompressionLvl, Compressor};

use crate::base::error::{Error, Result};

/// Returns an empty gzip member (RFC 1952) with a comment.
pub(super) fn empty_member(comment: &str) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 0, 0xff];
    bytes.extend_from_slice(comment.as_bytes());
    // End of the comment; an empty block; checksum and size of nothing.
    bytes.extend_from_slice(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Returns the content behind the empty member at the beginning, if that says what it should.
pub(super) fn strip<'b>(name: &str, comment: &str, bytes: &'b [u8]) -> Result<&'b [u8]> {
    let expected = empty_member(comment);
    bytes.strip_prefix(&expected[..]).ok_or_else(|| {
        Error::damaged(
            name,
            "it does not say that it is this object: it was exchanged for another",
        )
    })
}

/// Compresses bytes after an empty member with a comment.
pub(super) fn gzip(comment: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut framed = empty_member(comment);
    framed.extend_from_slice(&compressed(bytes)?);
    Ok(framed)
}

/// Compresses bytes as one gzip member.
pub(super) fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = Compressor::new(CompressionLvl::new(6).unwrap_or_default());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let length = compressor.gzip_compress(bytes, &mut out);
    let length = length.map_err(|e| Error::damaged("compressed data", e.to_string()))?;
    out.truncate(length);
    Ok(out)
}

/// Decompresses what [`gzip`] made; returns the comment and the bytes, at most `limit`.
pub(super) fn gunzip(name: &str, bytes: &[u8], limit: u64) -> Result<(String, Vec<u8>)> {
    let damaged = |reason: &str| Error::damaged(name, reason);
    let rest = bytes.get(10..).unwrap_or_default();
    let end = memchr::memchr(0, rest).filter(|_| bytes.starts_with(&[0x1f, 0x8b, 8, 0x10]));
    let comment = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
    let comment = comment.ok_or_else(|| damaged("it does not say what it is"))?;
    let packed = strip(name, comment, bytes)?;
    Ok((comment.to_owned(), decompressed(name, packed, limit)?))
}

/// Decompresses bytes, at most `limit`.
pub(super) fn decompressed(name: &str, packed: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut reader = flate2::bufread::MultiGzDecoder::new(packed).take(limit + 1);
    let read = reader.read_to_end(&mut out);
    if read.is_err() || out.len() as u64 > limit {
        return Err(Error::damaged(name, "it does not decompress"));
    }
    Ok(out)
}
