//! Finds the bytes of lost blobs: in the files that they came from, if these still have them, and
//! in other content of the repository with the same bytes. Content is stored again only if it has
//! the digest of the lost blob, so it needs no new search for secrets.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::Monitor;
use crate::base::path::RepoPath;
use crate::care::verify::{entries, read_listings, read_snapshots};
use crate::model::manifest::{Content, Extent, Time};
use crate::model::rules::{Origin, Root};
use crate::protect::walk::RootHandle;
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::pack::{Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;

/// Content up to this size is read into memory to take a part of it.
const MEMORY_BYTES: u64 = 64 << 20;
/// Blobs up to this size are written together with others.
const SMALL_BYTES: u64 = 1 << 20;
/// Files are read in pieces of this many bytes.
const PIECE: usize = 256 * 1024;

/// Where the bytes of a lost blob are.
pub(super) struct Remedy {
    blob: Digest,
    /// A file that needs the blob.
    path: PathBuf,
    from: From,
    /// The ranges of the file with the bytes, in order.
    ranges: Vec<(u64, u64)>,
}

enum From {
    /// In the file as it is now.
    Live,
    /// In other content of the repository with the same bytes.
    Stored(Content),
}

impl Remedy {
    fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.1).sum()
    }

    /// Passes the bytes to `sink`, and returns true if they are the lost ones.
    fn read(&self, repo: &Repository, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let mut hasher = Sha256::new();
        let mut both = |bytes: &[u8]| {
            hasher.update(bytes);
            sink(bytes)
        };
        let mut reader = Reader::new(repo);
        match &self.from {
            From::Live => {
                let Some(mut file) = open(&self.path) else {
                    return Ok(false);
                };
                if !cut(&mut file, &self.ranges, &mut both)? {
                    return Ok(false);
                }
            }
            From::Stored(content) if is_all(&self.ranges, content) => {
                reader.content(content, &mut both)?;
            }
            From::Stored(content) => {
                let bytes = reader.to_vec(content, content.size())?;
                let mut whole = std::io::Cursor::new(bytes);
                if !cut(&mut whole, &self.ranges, &mut both)? {
                    return Ok(false);
                }
            }
        }
        Ok(Digest::finish(hasher) == self.blob)
    }
}

fn is_all(ranges: &[(u64, u64)], content: &Content) -> bool {
    matches!(ranges, [(0, length)] if *length == content.size())
}

/// Opens a path if it still is a regular file. It follows no symlink, because that may lead to
/// another file.
fn open(path: &Path) -> Option<File> {
    let root = Root::ad_hoc(path.to_path_buf(), Origin::Operand);
    let handle = RootHandle::of(&root).ok().flatten()?;
    handle.open_file(&RepoPath::root()).ok()
}

/// Passes ranges of a file to `sink`; returns false if the file is too short or unreadable.
fn cut(
    file: &mut (impl std::io::Read + std::io::Seek),
    ranges: &[(u64, u64)],
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<bool> {
    let mut buffer = vec![0; PIECE];
    for (offset, length) in ranges {
        if file.seek(SeekFrom::Start(*offset)).is_err() {
            return Ok(false);
        }
        let mut left = *length;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            match file.by_ref().take(most as u64).read(&mut buffer) {
                Ok(read @ 1..) => {
                    sink(&buffer[..read])?;
                    left -= read as u64;
                }
                Ok(0) | Err(_) => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// A file whose lost content was found completely.
pub(super) struct FoundAgain {
    pub(super) path: PathBuf,
    /// The file that has it; `None` if it is elsewhere in the repository.
    pub(super) live: Option<PathBuf>,
    blobs: Vec<Digest>,
}

impl FoundAgain {
    /// Returns true if all its lost blobs are among `stored`.
    pub(super) fn is_in(&self, stored: &DigestSet) -> bool {
        self.blobs.iter().all(|blob| stored.contains(blob))
    }
}

/// A file that needs a lost blob.
struct Use {
    path: PathBuf,
    content: Content,
    is_sealed: bool,
}

impl Use {
    fn lost(&self, lost: &DigestSet) -> impl Iterator<Item = Digest> {
        let blobs = self.content.blobs().iter().copied();
        blobs.filter(|blob| lost.contains(blob))
    }
}

/// Searches for the bytes of `lost`. Each blob gets at most one remedy.
///
/// # Errors
/// The repository cannot be listed, or the user stopped it.
pub(super) fn find(
    repo: &Repository,
    lost: &DigestSet,
    monitor: &dyn Monitor,
) -> Result<(Vec<Remedy>, Vec<FoundAgain>)> {
    if lost.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (uses, twins) = uses_of(repo, lost)?;
    let mut found: HashMap<Digest, Remedy> = HashMap::new();
    for one in &uses {
        for blob in one.lost(lost) {
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            if found.contains_key(&blob) {
                continue;
            }
            if let Some(remedy) = remedy(repo, one, blob, twins.get(&one.content.digest)) {
                found.insert(blob, remedy);
            }
        }
    }
    let mut again: Vec<FoundAgain> = Vec::new();
    for one in uses {
        let blobs: Vec<Digest> = one.lost(lost).collect();
        let remedies: Option<Vec<&Remedy>> = blobs.iter().map(|blob| found.get(blob)).collect();
        if let Some(remedies) = remedies {
            let live = remedies.iter().find(|one| matches!(one.from, From::Live));
            let live = live.map(|one| one.path.clone());
            let path = one.path;
            again.push(FoundAgain { path, live, blobs });
        }
    }
    again.sort_by(|a, b| a.path.cmp(&b.path));
    let mut found: Vec<Remedy> = found.into_values().collect();
    found.sort_by(|a, b| (&a.path, a.blob).cmp(&(&b.path, b.blob)));
    Ok((found, again))
}

/// Complete content, by its digest.
type Twins = HashMap<Digest, Content>;

/// Returns the files that need lost blobs, and content with the same bytes that does not need them.
fn uses_of(repo: &Repository, lost: &DigestSet) -> Result<(Vec<Use>, Twins)> {
    // The verification has reported unreadable snapshots and listings.
    let snapshots = read_snapshots(repo, None, &mut Vec::new())?;
    let listings = read_listings(repo, &snapshots, &mut Vec::new());
    let is_lost = |content: &Content| content.blobs().iter().any(|blob| lost.contains(blob));
    let mut uses: Vec<Use> = Vec::new();
    let mut known: HashSet<(PathBuf, Digest)> = HashSet::new();
    for (_, path, entry) in entries(&snapshots, &listings) {
        let Some(content) = entry.body.content.as_ref().filter(|c| is_lost(c)) else {
            continue;
        };
        if known.insert((path.clone(), content.digest)) {
            uses.push(Use {
                path,
                content: content.clone(),
                is_sealed: entry.body.sealed.is_some(),
            });
        }
    }
    let wanted: HashSet<Digest> = uses.iter().map(|one| one.content.digest).collect();
    let mut twins = Twins::new();
    for (_, _, entry) in entries(&snapshots, &listings) {
        let content = entry.body.content.as_ref();
        let content = content.filter(|c| wanted.contains(&c.digest) && !is_lost(c));
        if let Some(content) = content.filter(|content| content.as_kept().is_none()) {
            twins
                .entry(content.digest)
                .or_insert_with(|| content.clone());
        }
    }
    Ok((uses, twins))
}

fn remedy(repo: &Repository, one: &Use, blob: Digest, twin: Option<&Content>) -> Option<Remedy> {
    let ranges = ranges_of(&one.content, blob)?;
    let remedy = |from| Remedy {
        blob,
        path: one.path.clone(),
        from,
        ranges: ranges.clone(),
    };
    let fits = |twin: &&Content| twin.size() <= MEMORY_BYTES || is_all(&ranges, twin);
    let stored = twin
        .filter(fits)
        .map(|twin| remedy(From::Stored(twin.clone())));
    // The file contains the secret values, but the blob has placeholders instead.
    let live = (!one.is_sealed).then(|| remedy(From::Live));
    let mut both = stored.into_iter().chain(live);
    both.find(|remedy| matches!(remedy.read(repo, &mut |_| Ok(())), Ok(true)))
}

/// Returns the ranges of content that one of its blobs provides, from the beginning of the blob;
/// `None` if there are gaps.
fn ranges_of(content: &Content, blob: Digest) -> Option<Vec<(u64, u64)>> {
    let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
    let mut at = 0;
    for Extent(number, offset, length) in content.extents() {
        if content.blobs().get(*number as usize) == Some(&blob) {
            pieces.push((*offset, *length, at));
        }
        at += length;
    }
    pieces.sort_unstable();
    let mut ranges = Vec::new();
    let mut reached = 0;
    for (offset, length, at) in pieces {
        if offset > reached {
            return None;
        }
        let known = reached - offset;
        if length > known {
            ranges.push((at + known, length - known));
            reached = offset + length;
        }
    }
    Some(ranges)
}

/// Stores the content that was found; returns the blobs that exist again.
///
/// # Errors
/// The repository cannot be written, or the user stopped it.
pub(super) fn store(
    repo: &Repository,
    remedies: &[Remedy],
    monitor: &dyn Monitor,
) -> Result<DigestSet> {
    let mut writer = PackWriter::new(repo.storage(), repo.id(), Level::Best);
    let mut stored = DigestSet::default();
    for remedy in remedies {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let name = format!("blobs/{}", remedy.blob);
        let meta = TarMeta {
            name: &name,
            kind: TarKind::File,
            mode: 0o600,
            mtime: Time(0, 0),
        };
        if remedy.bytes() <= SMALL_BYTES {
            let mut bytes = Vec::new();
            let read = remedy.read(repo, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            });
            // The file may have changed since the search.
            if matches!(read, Ok(true)) {
                writer.add(&meta, &bytes, Some(remedy.blob))?;
                stored.insert(remedy.blob);
            }
            continue;
        }
        writer.begin_long(&meta, remedy.bytes())?;
        let mut full = None;
        let read = remedy.read(repo, &mut |bytes| {
            writer.write_long(bytes).map_err(|error| {
                full = Some(error);
                Error::Interrupted
            })
        });
        if let Some(error) = full {
            return Err(error);
        }
        match read {
            Ok(true) => {
                writer.end_long(remedy.blob)?;
                stored.insert(remedy.blob);
            }
            Ok(false) | Err(_) => writer.abort_long()?,
        }
    }
    repo.remember_packs(&writer.finish()?);
    Ok(stored)
}
