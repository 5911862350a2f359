//! Key frames: complete listings of a root (`docs/format.md` §3).

use std::io::{BufRead, BufReader, Read, Write as _};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::path::{RawName, RepoPath};
use crate::model::manifest::{Entry, Listing};
use crate::repo::layout;
use crate::repo::record::check_sum;

/// Checks consecutive entries: their order, and their sums.
///
/// # Errors
/// Says what is wrong.
pub fn check_entries(entries: &[Entry]) -> std::result::Result<(), String> {
    if !entries.is_sorted_by(|a, b| a.path < b.path) {
        return Err("its entries are out of order".to_owned());
    }
    check_sum("entries", entries.iter().map(|entry| entry.size))
}

/// The largest file of a listing, in bytes: some ten million files.
pub const MAX_PACKED: u64 = 1 << 30;
/// Decompressed bytes that any listing may have, beyond [`MAX_RATIO`] times its file.
const FREE_BYTES: u64 = 16 << 20;
/// How many times longer than its file a listing may be: it is full of digests, which do not
/// compress.
const MAX_RATIO: u64 = 200;
/// Bytes of the file per entry, at least, on average, if there are more than [`FREE_ENTRIES`].
const MIN_ENTRY_BYTES: u64 = 8;
const FREE_ENTRIES: u64 = 100_000;
/// The longest line, in bytes: a path of 64 KiB in hexadecimal, and as many attributes.
const MAX_LINE: u64 = 8 << 20;

/// Returns true if a file of `packed` bytes may plausibly contain this much. Otherwise a few bytes
/// could expand to fill all memory.
fn is_proportionate(packed: u64, bytes: u64, entries: u64) -> bool {
    bytes <= packed.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES)
        && entries <= packed / MIN_ENTRY_BYTES + FREE_ENTRIES
}

/// The first line; unknown members are refused.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
    repository: Id,
}

/// Returns the bytes and the name of a key frame's file.
///
/// # Errors
/// An entry has no JSON form.
pub fn encode(
    repository: Id,
    root: &str,
    path: &RawName,
    entries: &[Entry],
) -> Result<(Digest, Vec<u8>)> {
    let packed = compressed(repository, root, path, entries, 4)?;
    let (packed, bytes) = packed;
    let is_fine = is_proportionate(packed.len() as u64, bytes, entries.len() as u64);
    // What compresses better than anything honest should is stored as is, so that it is not
    // mistaken for a bomb.
    let packed = match is_fine {
        true => packed,
        false => compressed(repository, root, path, entries, 0)?.0,
    };
    Ok((Digest::of(&packed), packed))
}

/// Returns the file, and its decompressed length.
fn compressed(
    repository: Id,
    root: &str,
    path: &RawName,
    entries: &[Entry],
    level: u32,
) -> Result<(Vec<u8>, u64)> {
    let mut bytes = 0;
    let failed = |e: serde_json::Error| Error::invalid(format!("a listing: {e}"), None);
    let head = serde_json::json!({"name": root, "path": path});
    let mut json = format!("{{\"format\":\"bdr-manifest\",\"version\":1,\"repository\":\"{repository}\",\"root\":{head},\"entries\":[")
        .into_bytes();
    let mut packed = Vec::with_capacity(64 * entries.len() + 200);
    let mut encoder = flate2::GzBuilder::new().write(&mut packed, flate2::Compression::new(level));
    let compress = |e| Error::storage("compress", "a listing", e);
    for (i, entry) in entries.iter().enumerate() {
        json.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut json, entry).map_err(failed)?;
        if json.len() > 64 * 1024 {
            encoder.write_all(&json).map_err(compress)?;
            bytes += json.len() as u64;
            json.clear();
        }
    }
    json.extend_from_slice(b"\n]}\n");
    encoder.write_all(&json).map_err(compress)?;
    bytes += json.len() as u64;
    encoder.try_finish().map_err(compress)?;
    drop(encoder);
    Ok((packed, bytes))
}

/// Passes on what it reads, and computes the digest.
struct Digesting<R> {
    from: R,
    hasher: Sha256,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Reads the entries of a key frame of `packed` bytes whose path is `wanted`.
///
/// All of it is decompressed and checked against its name, line by line; the other entries are
/// parsed only up to their paths.
///
/// # Errors
/// Its content does not match its name, or is not a listing of this repository.
pub fn decode(
    repository: Id,
    id: Digest,
    packed: u64,
    file: impl Read,
    wanted: &dyn Fn(&RepoPath) -> bool,
) -> Result<Listing> {
    if packed > MAX_PACKED {
        return Err(Error::damaged(layout::key_frame(id), "it is too large"));
    }
    let mut file = Digesting {
        from: file,
        hasher: Sha256::new(),
    };
    let limit = packed.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
    let gzip = flate2::read::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, &mut file));
    let mut text = BufReader::with_capacity(64 << 10, gzip.take(limit + 1));
    let read = lines(repository, packed, &mut text, wanted);
    let is_over = text.get_ref().limit() == 0;
    drop(text);
    // Whatever else is wrong with it: the digest tells whether it was damaged, or made like that.
    let mut rest = (&mut file).take(MAX_REST);
    let at_end = std::io::copy(&mut rest, &mut std::io::sink()).is_ok() && rest.limit() > 0;
    let is_whole = at_end && Digest::finish(file.hasher) == id;
    let damaged = |reason: &str| Error::damaged(layout::key_frame(id), reason);
    match read {
        _ if at_end && !is_whole => Err(damaged("its checksum does not match its name")),
        Ok(_) if !is_whole => Err(damaged("more follows than belongs to it")),
        Err(_) if is_over => Err(damaged("it is much longer than its file")),
        Err(reason) => Err(damaged(&reason)),
        Ok(entries) => Ok(entries),
    }
}

/// Bytes that are still hashed after the readable part of a key frame.
const MAX_REST: u64 = 64 << 20;

fn lines(
    repository: Id,
    packed: u64,
    text: &mut impl BufRead,
    wanted: &dyn Fn(&RepoPath) -> bool,
) -> std::result::Result<Listing, String> {
    let other = || "it has another format".to_owned();
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> std::result::Result<(), String> {
        line.clear();
        let read = text.by_ref().take(MAX_LINE).read_until(b'\n', line);
        read.map_err(|e| e.to_string())?;
        match line.pop() {
            Some(b'\n') => Ok(()),
            Some(_) => Err("a line of it is longer than any entry, or cut off".to_owned()),
            None => Err(other()),
        }
    };
    next(&mut line)?;
    line.extend_from_slice(b"]}");
    let head: Head = serde_json::from_slice(&line).map_err(|_| other())?;
    if head.format != "bdr-manifest" || head.version != 1 {
        return Err(other());
    }
    if head.repository != repository {
        return Err("it belongs to another repository".to_owned());
    }
    let mut entries: Listing = Vec::new();
    let mut last: Option<RepoPath> = None;
    let mut count: u64 = 0;
    let mut bytes: u64 = 0;
    loop {
        next(&mut line)?;
        if line == b"]}" {
            break;
        }
        count += 1;
        if !is_proportionate(packed, 0, count) {
            return Err("it has many more entries than its file has room for".to_owned());
        }
        let line = line.strip_suffix(b",").unwrap_or(&line);
        let (path, entry) = match plain_path(line) {
            Some(path) => (path, None),
            None => {
                let entry = parse(line)?;
                (entry.path.clone(), Some(entry))
            }
        };
        if last.as_ref().is_some_and(|last| *last >= path) {
            return Err("its entries are out of order".to_owned());
        }
        if wanted(&path) {
            let entry = match entry {
                Some(entry) => entry,
                None => parse(line)?,
            };
            bytes = bytes.saturating_add(entry.size);
            entries.push(entry);
        }
        last = Some(path);
    }
    let mut rest = [0];
    if !matches!(text.read(&mut rest), Ok(0)) {
        return Err(other());
    }
    check_sum("entries", std::iter::once(bytes))?;
    Ok(entries)
}

fn parse(line: &[u8]) -> std::result::Result<Entry, String> {
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

/// Returns the path at the beginning of an entry, if that works without parsing JSON.
fn plain_path(line: &[u8]) -> Option<RepoPath> {
    let rest = line.strip_prefix(b"{\"p\":\"")?;
    let path = &rest[..rest.iter().position(|byte| *byte == b'"')?];
    (!path.contains(&b'\\')).then(|| RepoPath::new(path).ok())?
}
