//! Key frames: complete listings of a root (`docs/format.md` §3).

use std::io::{Read as _, Write as _};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::{Digest, Id};
use crate::manifest::{Entry, Listing};
use crate::path::RawName;

/// Where a key frame lies in the repository.
pub fn keyframe_name(id: Digest) -> String {
    format!("manifests/{}.json.gz", id.to_hex())
}

/// A listing larger than this, decompressed, is refused.
const MAX_BYTES: u64 = 4 << 30;

#[derive(Deserialize)]
struct Wire {
    format: String,
    version: u32,
    repository: Id,
    entries: Vec<Entry>,
}

/// Returns the file of a key frame: its bytes and its name.
///
/// # Errors
/// An entry has no JSON form.
pub fn encode(
    repository: Id,
    root: &str,
    path: &RawName,
    entries: &[Entry],
) -> Result<(Digest, Vec<u8>)> {
    let failed = |e: serde_json::Error| Error::invalid(format!("a listing: {e}"), None);
    let mut json = Vec::with_capacity(200 * entries.len() + 200);
    let head = serde_json::json!({"name": root, "path": path});
    json.extend_from_slice(
        format!("{{\"format\":\"bdr-manifest\",\"version\":1,\"repository\":\"{repository}\",\"root\":{head},\"entries\":[")
            .as_bytes(),
    );
    for (i, entry) in entries.iter().enumerate() {
        json.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut json, entry).map_err(failed)?;
    }
    json.extend_from_slice(b"\n]}\n");
    let mut packed = Vec::with_capacity(json.len() / 3);
    let mut encoder = flate2::GzBuilder::new().write(&mut packed, flate2::Compression::new(4));
    encoder
        .write_all(&json)
        .and_then(|()| encoder.try_finish())
        .map_err(|e| Error::storage("compress", "a listing", e))?;
    drop(encoder);
    Ok((Digest::of(&packed), packed))
}

/// Reads the file of a key frame.
///
/// # Errors
/// It is not what its name says, or not a listing of this repository.
pub fn decode(repository: Id, id: Digest, bytes: &[u8]) -> Result<Listing> {
    let damaged = |reason: String| Error::damaged(keyframe_name(id), reason);
    if Digest::of(bytes) != id {
        return Err(damaged("its checksum does not match its name".to_owned()));
    }
    let mut json = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(MAX_BYTES)
        .read_to_end(&mut json)
        .map_err(|e| damaged(e.to_string()))?;
    let wire: Wire = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
    if wire.format != "bdr-manifest" || wire.version != 1 {
        return Err(damaged("it has another format".to_owned()));
    }
    if wire.repository != repository {
        return Err(damaged("it belongs to another repository".to_owned()));
    }
    if !wire
        .entries
        .windows(2)
        .all(|pair| pair[0].path < pair[1].path)
    {
        return Err(damaged("its entries are out of order".to_owned()));
    }
    Ok(wire.entries)
}
