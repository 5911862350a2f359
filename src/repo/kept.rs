//! Content that was kept in a staging area instead of being read (`docs/format.md` §2.4): where it
//! is, and its digest once it is packed.
//!
//! An entry refers to such content by a set and a number. The record of the set says where the
//! files are; it is durable before any snapshot that refers to it. Once the files are packed, a
//! list of their digests replaces them, and they are deleted.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Repository;
use super::origin::Origin;
use super::record::{self, Record, check_id, check_moment, check_sum};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::path::AbsolutePath;
use crate::disk::fsutil::{self, File, area::OwnArea};
use crate::disk::storage;
use crate::disk::vault::{Bound, BoundKind};
use crate::model::manifest::{Body, Content, Kept, Listing, Sealed, Time};
use crate::privacy::Fingerprint;
use crate::repo::layout;

/// A longer list of digests (decompressed, in bytes) is refused.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptSet {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: Id,
    pub time: DateTime<Utc>,
    /// The directory with the files, which are named by number.
    pub area: AbsolutePath,
    /// Size of each file by number, and its time when it was kept; without a time if the file never
    /// changes.
    pub files: Vec<(u64, Option<Time>)>,
    /// Pack the files; otherwise they stay where they are until no snapshot needs them.
    pub pack: bool,
    /// Who made it; the last member, written by the repository.
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
}

impl Record for KeptSet {
    const KIND: Option<BoundKind> = Some(BoundKind::Set);

    fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        check_moment(self.time)?;
        check_sum("files", self.files.iter().map(|(size, _)| *size))?;
        let name = self.area.as_path().file_name();
        if name != Some(self.id.to_string().as_ref()) {
            return Err("its area has the wrong name".to_owned());
        }
        Ok(())
    }
}

/// Where a file is kept.
pub struct KeptPlace {
    pub area: Arc<OwnArea>,
    pub number: u32,
    /// It is one of so much that it is not packed: it stays there until no snapshot needs it.
    pub stays: bool,
}

pub struct KeptFile {
    /// Its first bytes, as many as it had when it was kept, are the kept content.
    pub file: File,
    /// Nobody has written to it since. Otherwise it was appended to, which preserves the kept
    /// content, or rewritten, which does not.
    pub is_sure: bool,
}

impl KeptSet {
    /// Returns the total size of the files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(size, _)| size).sum()
    }

    /// Returns the owner mark of the area for this set.
    pub fn owner(repository: Id, set: Id) -> String {
        format!("bdr {repository} {set}\n")
    }

    /// Opens the area with the files.
    ///
    /// # Errors
    /// It is gone, or not bdr's own.
    pub fn open_area(&self, places: &[PathBuf]) -> Result<OwnArea> {
        let owner = Self::owner(self.repository, self.id);
        let path = self.area.as_path();
        OwnArea::open(path, &owner, places).map_err(|e| Error::io("read", path, e))
    }

    /// Opens a file of the set.
    ///
    /// # Errors
    /// It is gone, or was overwritten.
    pub fn open(&self, area: &OwnArea, number: u32) -> Result<KeptFile> {
        let failed = |e| Error::io("read", self.area.as_path().join(number.to_string()), e);
        let Some((size, mtime)) = self.files.get(number as usize).copied() else {
            return Err(Error::damaged(
                layout::kept_set(self.id),
                "the file is not in it",
            ));
        };
        let file = area.file(number).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let is_as_kept = mtime.is_none_or(|mtime| mtime == fsutil::mtime_of(&found));
        match found.len().cmp(&size) {
            Ordering::Equal if is_as_kept => Ok(KeptFile {
                file,
                is_sure: true,
            }),
            Ordering::Greater => Ok(KeptFile {
                file,
                is_sure: false,
            }),
            _ => Err(written_to(self.id, number)),
        }
    }
}

/// Returns true if an error of [`KeptSet::open`] means that the content is lost: overwritten, or
/// gone. Any other obstacle (a device, a limit, a permission) may pass.
pub fn is_lost(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// The digests of the files of a set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptContents {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: Id,
    /// By number; `None` if the file was overwritten or gone before it could be read.
    pub files: Vec<Option<KeptContent>>,
    /// Numbers, in order, of files that had grown: their first bytes may or may not be the kept
    /// content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsure: Vec<u32>,
    /// Who packed it; the last member, written by the repository.
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
}

impl Record for KeptContents {
    const KIND: Option<BoundKind> = Some(BoundKind::Contents);

    fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    // Room for the digests of very many files.
    const MAX_BYTES: u64 = MAX_BYTES;

    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        let sealed = self
            .files
            .iter()
            .flatten()
            .filter_map(|f| f.sealed.as_ref());
        check_sum("files", sealed.map(|sealed| sealed.size))
    }
}

/// The digest of a kept file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "KeptWire", into = "KeptWire")]
pub struct KeptContent {
    /// Of the stored bytes; `None` if nothing is stored.
    pub digest: Option<Digest>,
    pub sealed: Option<Box<Sealed>>,
}

/// Nearly all are a digest and nothing else.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KeptWire {
    Plain(Digest),
    Sealed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        h: Option<Digest>,
        z: Box<Sealed>,
    },
}

impl From<KeptWire> for KeptContent {
    fn from(wire: KeptWire) -> Self {
        match wire {
            KeptWire::Plain(digest) => Self {
                digest: Some(digest),
                sealed: None,
            },
            KeptWire::Sealed { h, z } => Self {
                digest: h,
                sealed: Some(z),
            },
        }
    }
}

impl From<KeptContent> for KeptWire {
    fn from(content: KeptContent) -> Self {
        match (content.digest, content.sealed) {
            (Some(digest), None) => Self::Plain(digest),
            (h, Some(z)) => Self::Sealed { h, z },
            // Nothing stored and nothing sealed: an empty file.
            (None, None) => Self::Plain(Digest::of(b"")),
        }
    }
}

/// Kept content, as far as it is known now.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub content: Option<Content>,
    pub sealed: Option<Box<Sealed>>,
    /// It may not be the kept content: see [`KeptFile`].
    pub is_unsure: bool,
}

/// Where kept content was found.
pub enum Found {
    /// It is packed.
    Stored(Resolved),
    /// It is not packed yet; only the first bytes of the file count, as many as it had.
    Kept(KeptFile),
}

#[derive(Debug)]
pub(super) struct Known {
    set: KeptSet,
    contents: Option<KeptContents>,
    /// Opened on first use.
    area: OnceLock<Arc<OwnArea>>,
}

impl Known {
    fn area(&self, places: impl FnOnce() -> Vec<PathBuf>) -> Result<Arc<OwnArea>> {
        if let Some(area) = self.area.get() {
            return Ok(Arc::clone(area));
        }
        let area = Arc::new(self.set.open_area(&places())?);
        Ok(Arc::clone(self.area.get_or_init(|| area)))
    }
}

/// Sets that were looked up, by id.
pub(super) type Cache = Arc<RwLock<HashMap<Id, Arc<Known>>>>;

impl Repository {
    /// Returns the sets, oldest first; unreadable ones are in [`Repository::unreadable`].
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn kept_sets(&self) -> Result<Vec<KeptSet>> {
        let names = self.names("kept")?;
        let ids = names
            .iter()
            .filter_map(|n| n.strip_suffix(".json")?.parse().ok());
        let mut sets: Vec<KeptSet> = ids
            .filter_map(|id: Id| {
                let name = layout::kept_set(id);
                self.listed(&name, self.read_set(id)).ok()?
            })
            .collect();
        sets.sort_by_key(|set| set.id);
        Ok(sets)
    }

    /// Returns the sets that still have to be packed, oldest first.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn unpacked_sets(&self) -> Result<Vec<KeptSet>> {
        let names = self.names("kept")?;
        let has_contents = |id: Id| {
            let name = format!("{id}.contents.json.gz");
            names.binary_search(&name).is_ok()
        };
        let mut sets = self.kept_sets()?;
        sets.retain(|set| set.pack && !has_contents(set.id));
        Ok(sets)
    }

    /// Returns true if a set is recorded.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn has_kept_set(&self, id: Id) -> Result<bool> {
        let name = layout::kept_set(id);
        let size = self.storage().size(&name);
        Ok(size.map_err(|e| Error::storage("read", name, e))?.is_some())
    }

    /// Writes the record of a set: from now on it belongs to the repository.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn put_kept_set(&self, set: &KeptSet) -> Result<()> {
        self.put_bound(&layout::kept_set(set.id), set)
    }

    fn read_set(&self, id: Id) -> Result<KeptSet> {
        let name = layout::kept_set(id);
        let set: KeptSet = self.read_record(&name)?;
        if set.id != id || set.repository != self.id {
            return Err(Error::damaged(
                name,
                "it belongs to another repository or name",
            ));
        }
        self.check_own(&name, id, set.bound.as_ref())?;
        Ok(set)
    }

    /// Makes sure that the record of a set made by this machine is unchanged: through it a snapshot
    /// names the content of its files.
    fn check_own(&self, name: &str, id: Id, bound: Option<&Bound>) -> Result<()> {
        let vault = self.vault();
        let is_foreign =
            vault.has_named(id) && self.origin_of(id, bound.map(|bound| bound.key)) != Origin::Here;
        match is_foreign {
            true => Err(Error::damaged(
                name,
                "it was forged: this machine made that set but did not write this record",
            )),
            false => Ok(()),
        }
    }

    /// Returns true for a set that another machine made with its own key: the area is there.
    pub fn is_kept_elsewhere(&self, set: &KeptSet) -> bool {
        let key = set.bound.map(|bound| bound.key);
        self.origin_of(set.id, key) == Origin::Elsewhere
    }

    /// Writes the digests of the files of a set: from now on the files are not needed.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn put_kept_contents(&self, contents: &KeptContents) -> Result<()> {
        let name = layout::kept_contents(contents.id);
        let failed = |e| Error::storage("write", &name, e);
        let mut packed = Vec::new();
        let mut encoder = flate2::GzBuilder::new().write(&mut packed, flate2::Compression::new(6));
        encoder
            .write_all(&record::encode_bound(contents, |kind, record| {
                self.vault().bind(kind, record).ok()
            })?)
            .and_then(|()| encoder.try_finish())
            .map_err(failed)?;
        drop(encoder);
        storage::put(self.storage(), &name, &packed).map_err(failed)?;
        self.forget_kept(contents.id);
        Ok(())
    }

    /// Removes the records of a set that nothing needs any more; its files must be gone already.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn remove_kept_set(&self, id: Id) -> Result<()> {
        for name in [layout::kept_set(id), layout::kept_contents(id)] {
            let there = self.storage().size(&name);
            if matches!(there, Ok(Some(_))) {
                self.storage()
                    .remove(&name)
                    .map_err(|e| Error::storage("remove", name, e))?;
            }
        }
        self.forget_kept(id);
        Ok(())
    }

    /// Forgets what was looked up about a set, because another process may have packed it.
    pub(super) fn forget_kept(&self, id: Id) {
        let mut cache = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        cache.remove(&id);
    }

    fn kept_set(&self, id: Id) -> Result<Arc<Known>> {
        let cached = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cached.get(&id) {
            return Ok(Arc::clone(known));
        }
        drop(cached);
        let set = self.read_set(id)?;
        let known = Arc::new(Known {
            set,
            contents: self.kept_contents(id)?,
            area: OnceLock::new(),
        });
        let mut cache = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        cache.insert(id, Arc::clone(&known));
        Ok(known)
    }

    /// Returns the digests of the files of a set; `None` while it is not packed.
    ///
    /// # Errors
    /// They are damaged.
    pub fn kept_contents(&self, id: Id) -> Result<Option<KeptContents>> {
        let name = layout::kept_contents(id);
        let read = self.read_checked(&name, &|bytes| {
            let json = unpacked(bytes).map_err(|e| Error::damaged(&name, e.to_string()))?;
            let contents: KeptContents = record::decode(&name, &json)?;
            if contents.repository != self.id || contents.id != id {
                return Err(Error::damaged(&name, "it belongs to another set"));
            }
            self.check_bound(&name, &contents, &json)?;
            self.check_own(&name, id, contents.bound.as_ref())?;
            Ok(contents)
        });
        match read {
            Ok(contents) => Ok(Some(contents)),
            Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the blobs and sealed values of the files of a set as it is now; `None` while it is
    /// not packed.
    ///
    /// # Errors
    /// The set is missing or damaged.
    pub fn kept_digests(&self, set: Id) -> Result<Option<(Vec<Digest>, Vec<Fingerprint>)>> {
        self.forget_kept(set);
        let known = self.kept_set(set)?;
        let contents = known.contents.as_ref();
        Ok(contents.map(|contents| {
            let files = || contents.files.iter().flatten();
            let digests = files().filter_map(|file| file.digest).collect();
            let sealed = files().filter_map(|file| file.sealed.as_ref());
            (digests, sealed.flat_map(|s| s.values.clone()).collect())
        }))
    }

    /// Returns the stored form of kept content; `None` while it is not packed.
    ///
    /// # Errors
    /// The set is missing or damaged, or the file was overwritten before it could be packed.
    pub fn resolve_kept(&self, kept: Kept) -> Result<Option<Resolved>> {
        let known = self.kept_set(kept.set)?;
        let Some(contents) = &known.contents else {
            return Ok(None);
        };
        match contents.files.get(kept.number as usize) {
            Some(Some(file)) => {
                let size = file.sealed.as_ref().map_or(kept.size, |sealed| sealed.size);
                Ok(Some(Resolved {
                    content: file.digest.map(|digest| Content::whole(digest, size)),
                    sealed: file.sealed.clone(),
                    is_unsure: contents.unsure.binary_search(&kept.number).is_ok(),
                }))
            }
            _ => Err(Error::damaged(
                layout::kept_file(kept.set, kept.number),
                "the file was written to or deleted before it could be packed",
            )),
        }
    }

    /// Replaces kept content in a listing by its stored form, as far as it is known.
    pub(crate) fn resolve_all(&self, mut listing: Listing) -> Listing {
        for entry in &mut listing {
            if let Some(kept) = entry.body.content.as_ref().and_then(Content::as_kept)
                && let Ok(Some(resolved)) = self.resolve_kept(kept)
            {
                entry.body.content = resolved.content;
                entry.body.sealed = resolved.sealed;
                entry.body.unsure = resolved.is_unsure;
            }
        }
        listing
    }

    /// Returns where the file is that a body is, if it is kept as it was.
    pub fn kept_place(&self, body: &Body) -> Option<KeptPlace> {
        let kept = body.content.as_ref()?.as_kept()?;
        if body.sealed.is_some() || body.unsure || !matches!(self.resolve_kept(kept), Ok(None)) {
            return None;
        }
        let known = self.kept_set(kept.set).ok()?;
        let area = known.area(|| self.areas()).ok()?;
        let changes = matches!(
            known.set.files.get(kept.number as usize),
            Some((_, Some(_)))
        );
        Some(KeptPlace {
            area,
            number: kept.number,
            stays: !known.set.pack && changes,
        })
    }

    /// Returns where kept content is now. Another process may pack it at any time: then the file is gone,
    /// and what was looked up before no longer holds.
    ///
    /// # Errors
    /// It is gone, or was overwritten.
    pub fn find_kept(&self, kept: Kept) -> Result<Found> {
        if let Some(resolved) = self.resolve_kept(kept)? {
            return Ok(Found::Stored(resolved));
        }
        let open = || {
            let known = self.kept_set(kept.set)?;
            let area = known.area(|| self.areas())?;
            known.set.open(&area, kept.number)
        };
        match open() {
            Ok(file) => Ok(Found::Kept(file)),
            Err(error) => {
                self.forget_kept(kept.set);
                let stored = self.resolve_kept(kept)?.map(Found::Stored);
                stored.ok_or(error)
            }
        }
    }

    /// Returns true if a set is packed, or its area seems to be in place; reads none of the files.
    pub fn has_kept_files(&self, set: Id) -> bool {
        self.kept_set(set).is_ok_and(|known| {
            known.contents.is_some()
                || known
                    .area(|| self.areas())
                    .is_ok_and(|area| area.file(0).is_ok())
        })
    }

    /// Returns true if the rest of an open file equals the content of an entry.
    pub fn has_content(&self, body: &Body, file: &mut File) -> bool {
        if let Some(sealed) = &body.sealed {
            return self.mac_of(file).is_some_and(|mac| mac == sealed.mac);
        }
        let Some(content) = &body.content else {
            return matches!(file.read(&mut [0]), Ok(0));
        };
        let Some(kept) = content.as_kept() else {
            return digest_of(file) == Some(content.digest);
        };
        match self.find_kept(kept) {
            Ok(Found::Stored(Resolved {
                sealed: Some(sealed),
                ..
            })) => self.mac_of(file).is_some_and(|mac| mac == sealed.mac),
            Ok(Found::Stored(resolved)) => match resolved.content {
                Some(content) => digest_of(file) == Some(content.digest),
                None => matches!(file.read(&mut [0]), Ok(0)),
            },
            Ok(Found::Kept(found)) => {
                let now = digest_of(file);
                now.is_some() && now == digest_of_kept(&found.file, kept)
            }
            Err(_) => false,
        }
    }

    /// Returns the keyed digest of the rest of a file; `None` if it cannot be read.
    fn mac_of(&self, file: &mut File) -> Option<Digest> {
        let mut mac = self.vault().mac().ok()?;
        read_all(file, &mut |piece| mac.update(piece))?;
        Some(mac.finish())
    }
}

/// Returns true for the digests of a set as they were written.
pub fn is_whole(packed: &[u8]) -> bool {
    unpacked(packed).is_ok_and(|json| record::is_whole(&json))
}

fn unpacked(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(packed).take(MAX_BYTES);
    decoder.read_to_end(&mut json)?;
    Ok(json)
}

/// Passes the rest of a file to `sink`; `None` if it cannot be read.
fn read_all(file: &mut File, sink: &mut dyn FnMut(&[u8])) -> Option<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(()),
            Ok(n) => sink(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Returns the digest of the rest of a file; `None` if it cannot be read.
pub(crate) fn digest_of(file: &mut File) -> Option<Digest> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    read_all(file, &mut |piece| hasher.update(piece))?;
    Some(Digest::finish(hasher))
}

/// Returns the digest of the kept bytes; `None` if they cannot be read.
pub fn digest_of_kept(file: &File, kept: Kept) -> Option<Digest> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let (mut file, mut left) = (file.take(kept.size), kept.size);
    let mut buffer = vec![0; 128 * 1024];
    while left > 0 {
        match file.read(&mut buffer) {
            Ok(0) => return None,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                left -= n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(Digest::finish(hasher))
}

fn written_to(set: Id, number: u32) -> Error {
    Error::damaged(
        layout::kept_file(set, number),
        "the file was written to after it was kept",
    )
}
