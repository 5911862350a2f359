//! Key frames: complete listings of a root (`docs/format.md` §3).

use std::io::{Read as _, Write as _};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::{Digest, Id};
use crate::manifest::{Entry, Listing};
use crate::path::{RawName, RepoPath};

/// Where a key frame lies in the repository.
pub fn keyframe_name(id: Digest) -> String {
    format!("manifests/{}.json.gz", id.to_hex())
}

/// A listing larger than this, decompressed, is refused.
const MAX_BYTES: u64 = 4 << 30;

/// The first line, closed.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
    repository: Id,
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
    let head = serde_json::json!({"name": root, "path": path});
    let mut json = format!("{{\"format\":\"bdr-manifest\",\"version\":1,\"repository\":\"{repository}\",\"root\":{head},\"entries\":[")
        .into_bytes();
    let mut packed = Vec::with_capacity(64 * entries.len() + 200);
    let mut encoder = flate2::GzBuilder::new().write(&mut packed, flate2::Compression::new(4));
    let compress = |e| Error::storage("compress", "a listing", e);
    for (i, entry) in entries.iter().enumerate() {
        json.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut json, entry).map_err(failed)?;
        if json.len() > 64 * 1024 {
            encoder.write_all(&json).map_err(compress)?;
            json.clear();
        }
    }
    json.extend_from_slice(b"\n]}\n");
    encoder.write_all(&json).map_err(compress)?;
    encoder.try_finish().map_err(compress)?;
    drop(encoder);
    Ok((Digest::of(&packed), packed))
}

/// Reads the entries of a key frame whose path is `wanted`.
///
/// All of it is decompressed and checked against its name; of the other entries only the paths are looked at.
///
/// # Errors
/// It is not what its name says, or not a listing of this repository.
pub fn decode(
    repository: Id,
    id: Digest,
    bytes: &[u8],
    wanted: &dyn Fn(&RepoPath) -> bool,
) -> Result<Listing> {
    let damaged = |reason: String| Error::damaged(keyframe_name(id), reason);
    if Digest::of(bytes) != id {
        return Err(damaged("its checksum does not match its name".to_owned()));
    }
    let mut json = Vec::with_capacity(bytes.len().saturating_mul(4));
    flate2::read::MultiGzDecoder::new(bytes)
        .take(MAX_BYTES)
        .read_to_end(&mut json)
        .map_err(|e| damaged(e.to_string()))?;
    let other = || damaged("it has another format".to_owned());
    let rest = json.strip_suffix(b"\n]}\n").ok_or_else(other)?;
    let mut lines = rest.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let head: Head = serde_json::from_slice(&[first, b"]}"].concat()).map_err(|_| other())?;
    if head.format != "bdr-manifest" || head.version != 1 {
        return Err(other());
    }
    if head.repository != repository {
        return Err(damaged("it belongs to another repository".to_owned()));
    }
    let mut entries: Listing = Vec::new();
    let mut last: Option<RepoPath> = None;
    for line in lines {
        let line = line.strip_suffix(b",").unwrap_or(line);
        let (path, entry) = match plain_path(line) {
            Some(path) => (path, None),
            None => {
                let entry = parse(line).map_err(damaged)?;
                (entry.path.clone(), Some(entry))
            }
        };
        if last.as_ref().is_some_and(|last| *last >= path) {
            return Err(damaged("its entries are out of order".to_owned()));
        }
        if wanted(&path) {
            entries.push(match entry {
                Some(entry) => entry,
                None => parse(line).map_err(damaged)?,
            });
        }
        last = Some(path);
    }
    Ok(entries)
}

fn parse(line: &[u8]) -> std::result::Result<Entry, String> {
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

/// Returns the path at the beginning of an entry, if it can be told without parsing JSON.
fn plain_path(line: &[u8]) -> Option<RepoPath> {
    let rest = line.strip_prefix(b"{\"p\":\"")?;
    let path = &rest[..rest.iter().position(|byte| *byte == b'"')?];
    (!path.contains(&b'\\')).then(|| RepoPath::new(path).ok())?
}
