//! The one path by which content gets from files into packs.
//!
//! Every byte that is stored passes `Capture::content`: what is scanned, sealed (`seal`), hashed and stored are the same bytes. A file that changes while it is read is read again, then stored as it was read and flagged.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::{Digest, Id};
use crate::base::path::{RepoPath, os_to_bytes, tar_name};
use crate::disk::sqlite;
use crate::model::delta::{self, Piece};
use crate::model::manifest::{Body, Content, Flag, Kind, Sealed};
use crate::privacy;
use crate::protect::walk::{RootHandle, Xattrs};
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::kept::KeptContent;
use crate::repo::layout;
use crate::repo::pack::{Finished, Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;
use crate::repo::state::{DIRTY, Known, SEALED, Stat, same_stat};
use crate::repo::verdicts::Verdicts;

mod look;
mod names;
mod seal;

pub(crate) use names::OwnNames;
pub(crate) use seal::{Sealing, seal_bytes};

use look::Head;

/// Files up to this size are read whole; larger ones are streamed.
const MEMORY_BYTES: u64 = 8 << 20;
/// A buffer that had to grow beyond this is given back.
const KEPT_BYTES: usize = 1 << 20;
/// Times to read a file that changes while it is read.
const ATTEMPTS: u32 = 4;

/// What the threads of one backup share.
pub(crate) struct Shared<'a> {
    pub(crate) repo: &'a Repository,
    /// Store every file whole, whatever is there already.
    pub(crate) full: bool,
    /// Look at all of every file, and build upon nothing that was looked at by other rules.
    pub(crate) anew: bool,
    pub(crate) level: Level,
    pub(crate) damaged: DigestSet,
    /// Blobs stored by this run.
    pub(crate) stored: Mutex<DigestSet>,
    /// Packs looked for by this run.
    pub(crate) present: Mutex<HashMap<Digest, bool>>,
    /// What was found to be clear, for runs that read everything.
    pub(crate) verdicts: Option<Verdicts>,
    pub(crate) own_names: OwnNames,
}

/// An object as it was captured.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) path: RepoPath,
    pub(crate) stat: Stat,
    pub(crate) body: Body,
    /// State flags.
    pub(crate) flags: u8,
    /// It turned out to be gone; or, beside a database copied online, not needed.
    pub(crate) gone: bool,
    /// It has an extended attribute with a secret in it, which is not stored.
    pub(crate) withheld: bool,
}

/// What was captured of a root, sorted by path. Boxed: hundreds of thousands are sorted, moved and freed one by one.
pub(crate) type CapturedList = Vec<Box<Captured>>;

/// Captures objects; one per thread.
pub(crate) struct Capture<'a> {
    shared: &'a Shared<'a>,
    pack: PackWriter<'a>,
    reader: Reader<'a>,
    buffer: Vec<u8>,
    pub(crate) read_bytes: u64,
}

/// What became of the content of a file.
struct Stored {
    content: Option<Content>,
    /// Bytes that the file had.
    size: u64,
    sealed: Option<Box<Sealed>>,
}

fn xattrs_at(handle: &RootHandle, path: &RepoPath, kind: Kind) -> Result<(Xattrs, bool)> {
    let found = handle.all_xattrs_at(path, kind);
    found.context("read", handle.absolute(path))
}

/// The target of a symlink; one with a secret in it is not stored, whenever it came there.
fn target_of(handle: &RootHandle, path: &RepoPath) -> Result<Vec<u8>> {
    let target = handle.read_link(path);
    let target = target.context("read", handle.absolute(path))?;
    match privacy::is_secret_text(&target) {
        true => Err(Error::NotCaptured {
            path: handle.absolute(path),
            reason: privacy::IN_TARGET.to_owned(),
        }),
        false => Ok(target),
    }
}

/// Where a file lies: the name in its pack, and its real path, which says what kind of file it is.
struct Place<'a> {
    root: &'a str,
    path: &'a RepoPath,
    absolute: &'a Path,
}

/// What is known of an object from before.
pub(crate) type Prior<'a> = Option<Known<'a>>;

impl<'a> Capture<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            pack: PackWriter::new(shared.repo.storage(), shared.repo.id(), shared.level),
            reader: Reader::new(shared.repo),
            buffer: Vec::new(),
            read_bytes: 0,
        }
    }

    /// Returns how a file stands but for a name that bdr gave it.
    fn of_user(&self, stat: &Stat) -> Stat {
        self.shared.own_names.without(self.shared.repo, stat)
    }

    /// Publishes the packs.
    pub(crate) fn finish(self) -> Result<Vec<Finished>> {
        self.pack.finish()
    }

    /// Captures one object.
    pub(crate) fn object(
        &mut self,
        root: &str,
        handle: &RootHandle,
        path: &RepoPath,
        prior: Prior<'_>,
    ) -> Result<Captured> {
        let stat = match handle.stat(path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(gone(path)),
            Err(error) => return Err(error).context("read", handle.absolute(path)),
        };
        if stat.kind == Kind::File {
            return self.file(root, handle, path, prior);
        }
        let (xattrs, withheld) = xattrs_at(handle, path, stat.kind)?;
        let body = match stat.kind {
            Kind::Dir => Body {
                xattrs,
                ..Body::default()
            },
            Kind::Symlink => Body {
                xattrs,
                target: target_of(handle, path)?,
                ..Body::default().named(&stat)
            },
            _ => Body::default(),
        };
        Ok(Captured {
            path: path.clone(),
            stat,
            body,
            flags: 0,
            gone: false,
            withheld,
        })
    }

    /// Stores a file that was kept; `None` if it does not have `size` bytes.
    pub(crate) fn kept_file(
        &mut self,
        set: Id,
        number: u32,
        file: &File,
        size: u64,
    ) -> Result<Option<KeptContent>> {
        let stat = Stat {
            size,
            ..Stat::default()
        };
        let path = RepoPath::new(number.to_string()).unwrap_or_default();
        let place = Place {
            root: &format!("kept-{set}"),
            path: &path,
            absolute: Path::new(""),
        };
        let read = self.content(&place, file, &stat, None, false)?;
        Ok(read.map(|stored| KeptContent {
            digest: stored.content.map(|content| content.digest),
            sealed: stored.sealed,
        }))
    }

    fn file(
        &mut self,
        root: &str,
        handle: &RootHandle,
        path: &RepoPath,
        prior: Prior<'_>,
    ) -> Result<Captured> {
        let absolute = handle.absolute(path);
        for attempt in 1..=ATTEMPTS {
            let last = attempt == ATTEMPTS;
            let file = match handle.open_file(path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(gone(path));
                }
                Err(error) => {
                    let stat = handle.stat(path).ok();
                    let empty = stat.filter(|stat| stat.kind == Kind::File && stat.size == 0);
                    let Some(stat) = empty else {
                        return Err(error).context("read", absolute);
                    };
                    // There is nothing to read.
                    return Ok(Captured {
                        path: path.clone(),
                        stat,
                        body: Body::default().named(&self.of_user(&stat)),
                        flags: 0,
                        gone: false,
                        withheld: false,
                    });
                }
            };
            let before = RootHandle::stat_file(&file).context("read", &absolute)?;
            if before.kind != Kind::File {
                return Err(Error::io(
                    "read",
                    absolute,
                    std::io::Error::other("it was replaced while being read"),
                ));
            }
            let place = Place {
                root,
                path,
                absolute: &absolute,
            };
            let read = self.content(&place, &file, &before, prior.as_ref(), last);
            let read = match read {
                // Shorter than it was: it is being rewritten right now.
                Ok(None) => None,
                Ok(Some(read)) => Some(read),
                Err(error) => return Err(error),
            };
            let after = RootHandle::stat_file(&file).context("read", &absolute)?;
            let steady = same_stat(&before, &after);
            match read {
                Some(stored) if steady || last => {
                    let size = stored.size;
                    let all = RootHandle::all_xattrs(&file);
                    let (xattrs, withheld) = all.context("read", &absolute)?;
                    let mut body = Body {
                        content: stored.content,
                        sealed: stored.sealed,
                        sparse: RootHandle::has_holes(&file),
                        xattrs,
                        ..Body::default().named(&self.of_user(&before))
                    };
                    if self.buffer.last().is_some_and(|b| *b != b'\n')
                        && path.name().ends_with(b".jsonl")
                    {
                        body.flags.push(Flag::Torn);
                    }
                    if !steady {
                        body.flags.push(Flag::Unstable);
                    }
                    // It is named every time, so it is looked at every time.
                    let flags = if steady && !withheld { 0 } else { DIRTY };
                    let flags = if body.sealed.is_some() {
                        flags | SEALED
                    } else {
                        flags
                    };
                    let stat = Stat { size, ..before };
                    return Ok(Captured {
                        path: path.clone(),
                        stat,
                        body,
                        flags,
                        gone: false,
                        withheld,
                    });
                }
                _ => std::thread::sleep(Duration::from_millis(u64::from(attempt * attempt) * 3)),
            }
        }
        Err(Error::io(
            "read",
            absolute,
            std::io::Error::other("it keeps shrinking while being read"),
        ))
    }

    /// Reads and stores the content of an open file; returns it and its size, or `None` if the file was shorter than it said.
    ///
    /// Leaves the end of the content in `self.buffer`.
    fn content(
        &mut self,
        place: &Place<'_>,
        file: &File,
        stat: &Stat,
        prior: Option<&Known<'_>>,
        last: bool,
    ) -> Result<Option<Stored>> {
        let (root, path) = (place.root, place.path);
        if stat.size == 0 {
            self.buffer.clear();
            return Ok(Some(Stored {
                content: None,
                size: 0,
                sealed: None,
            }));
        }
        let body = prior
            .filter(|known| known.stat.kind == Kind::File)
            .and_then(Known::body);
        let head = body
            .as_ref()
            .zip(prior)
            .filter(|_| !self.shared.full && !self.shared.anew && privacy::is_log_name(path.name()))
            .and_then(|(body, known)| Head::of(body, known.stat.size));
        let old = body.and_then(|body| body.content).filter(|content| {
            content.as_kept().is_none()
                && content
                    .blobs()
                    .iter()
                    .all(|b| !self.shared.damaged.contains(b))
        });
        let name = format!("files/{root}/{}", tar_name(path.as_bytes()));
        let name = if path.is_root() {
            format!("files/{root}")
        } else {
            name
        };
        let meta = TarMeta {
            name: &name,
            kind: TarKind::File,
            mode: stat.mode,
            mtime: stat.mtime,
        };
        if stat.size > MEMORY_BYTES {
            return self.large_sealed(place, file, stat, &meta, old, head.as_ref());
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        if bytes.capacity() > KEPT_BYTES {
            bytes = Vec::new();
        }
        bytes.clear();
        bytes.reserve_exact(usize::try_from(stat.size).unwrap_or(0) + 1);
        // One byte more than it should have: growth shows in the stat afterwards.
        let read = file.take(stat.size).read_to_end(&mut bytes);
        self.buffer = bytes;
        read.map_err(|e| Error::io("read", name.clone(), e))?;
        self.read_bytes += self.buffer.len() as u64;
        if (self.buffer.len() as u64) < stat.size && !last {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.buffer);
        let size = bytes.len() as u64;
        let kind_of = os_to_bytes(place.absolute.as_os_str());
        let stored = self
            .look_at(&kind_of, &bytes, head.as_ref())
            .and_then(|found| {
                let (content, sealed) = match found {
                    seal::Stored::Clear => (self.whole(&meta, &bytes, old)?, None),
                    seal::Stored::Sealed(bytes, sealed) => {
                        (self.whole(&meta, &bytes, old)?, Some(sealed))
                    }
                    seal::Stored::Whole(sealed) => (None, Some(sealed)),
                };
                Ok(Stored {
                    content,
                    size,
                    sealed,
                })
            });
        self.buffer = bytes;
        stored.map(Some)
    }

    /// Stores a file that is too large for memory, after a look at what is in it.
    fn large_sealed(
        &mut self,
        place: &Place<'_>,
        file: &File,
        stat: &Stat,
        meta: &TarMeta<'_>,
        old: Option<Content>,
        head: Option<&Head>,
    ) -> Result<Option<Stored>> {
        let kind_of = os_to_bytes(place.absolute.as_os_str());
        let size = stat.size;
        let seen = Self::seen_of(file, head).unwrap_or(0);
        let (content, sealed) = match seal::large(self.shared.repo, &kind_of, file, size, seen)? {
            seal::LargeStored::Short => return Ok(None),
            seal::LargeStored::Whole(sealed) => (None, Some(sealed)),
            seal::LargeStored::Clear => {
                let mut file = file;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
                    .map_err(|e| Error::io("read", meta.name, e))?;
                match self.large(file, size, meta, old)? {
                    Some(content) => (content, None),
                    None => return Ok(None),
                }
            }
            seal::LargeStored::Sealed(spool, sealed) => {
                let mut file = &spool.file;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
                    .map_err(|e| Error::io("read", meta.name, e))?;
                match self.large(file, sealed.size, meta, old)? {
                    Some(content) => (content, Some(sealed)),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Stored {
            content,
            size,
            sealed,
        }))
    }

    /// Stores content that is in memory.
    fn whole(
        &mut self,
        meta: &TarMeta<'_>,
        bytes: &[u8],
        old: Option<Content>,
    ) -> Result<Option<Content>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let size = bytes.len() as u64;
        let old = old.map(|content| {
            let size = content.size();
            (content, size)
        });
        let mut hasher = Sha256::new();
        // The digest of the old length comes for free on the way: an appended file is found without reading the old one.
        let mut appended = false;
        match &old {
            Some((content, old_size)) if *old_size < size && *old_size > 0 => {
                let (head, tail) = bytes.split_at(*old_size as usize);
                hasher.update(head);
                appended = Digest::finish(hasher.clone()) == content.digest;
                hasher.update(tail);
            }
            _ => hasher.update(bytes),
        }
        let digest = Digest::finish(hasher);
        if self.shared.full {
            self.admit(meta, bytes, digest)?;
            return Ok(Some(Content::whole(digest, size)));
        }
        if let Some((content, _)) = &old
            && content.digest == digest
        {
            return Ok(Some(content.clone()));
        }
        if self.is_stored(digest)? {
            return Ok(Some(Content::whole(digest, size)));
        }
        if let Some((content, old_size)) = old
            && !self.shared.anew
            && size >= delta::MIN_BYTES
        {
            let pieces = if appended {
                Some(delta::append(old_size, size))
            } else if (delta::MIN_BYTES..=MEMORY_BYTES).contains(&old_size) {
                // An old copy that cannot be read any more is no reason to fail: the new one is stored whole.
                let old_bytes = self.reader.to_vec(&content, old_size).ok();
                old_bytes.and_then(|old_bytes| delta::compare(&old_bytes, bytes))
            } else {
                None
            };
            let gather = |ranges: &[Range<u64>]| -> Vec<u8> {
                ranges
                    .iter()
                    .flat_map(|r| &bytes[r.start as usize..r.end as usize])
                    .copied()
                    .collect()
            };
            let patched = pieces.and_then(|pieces| {
                delta::patched(&content, &pieces, digest, |ranges| {
                    Digest::of(&gather(ranges))
                })
            });
            if let Some(patched) = patched {
                self.patch(meta, &gather(&patched.patch))?;
                return Ok(Some(patched.content));
            }
        }
        self.admit(meta, bytes, digest)?;
        Ok(Some(Content::whole(digest, size)))
    }

    fn patch(&mut self, meta: &TarMeta<'_>, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let digest = Digest::of(bytes);
        if self.is_stored(digest)? {
            return Ok(());
        }
        let name = format!("blobs/{}", digest.to_hex());
        self.admit(
            &TarMeta {
                name: &name,
                ..*meta
            },
            bytes,
            digest,
        )
    }

    /// Stores a file that is too large for memory.
    fn large(
        &mut self,
        file: &File,
        size: u64,
        meta: &TarMeta<'_>,
        old: Option<Content>,
    ) -> Result<Option<Option<Content>>> {
        if let Some(content) = old
            && !self.shared.full
            && !self.shared.anew
            && let Some(known) = self.large_delta(file, size, meta, &content)?
        {
            return Ok(Some(Some(known)));
        }
        let mut file = file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
            .map_err(|e| Error::io("read", meta.name, e))?;
        self.pack.begin_long(meta, size)?;
        let mut hasher = Sha256::new();
        let mut left = size;
        self.buffer.resize(256 * 1024, 0);
        while left > 0 {
            let want = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = file.read(&mut self.buffer[..want]);
            let n = match read {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.pack.abort_long()?;
                    return Err(Error::io("read", meta.name, error));
                }
            };
            if n == 0 {
                self.pack.abort_long()?;
                return Ok(None);
            }
            self.read_bytes += n as u64;
            hasher.update(&self.buffer[..n]);
            self.pack.write_long(&self.buffer[..n])?;
            left -= n as u64;
            if left == 0 {
                self.buffer.truncate(n);
            }
        }
        let digest = Digest::finish(hasher);
        if !self.shared.full && self.is_stored(digest)? {
            self.pack.abort_long()?;
        } else {
            self.pack.end_long(digest)?;
            self.note_stored(digest);
        }
        Ok(Some(Some(Content::whole(digest, size))))
    }

    /// Says a large file in terms of its old content, in one pass over both, if what is new fits into memory.
    fn large_delta(
        &mut self,
        file: &File,
        size: u64,
        meta: &TarMeta<'_>,
        old: &Content,
    ) -> Result<Option<Content>> {
        let mut new = file;
        let mut hasher = Sha256::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut fresh: Vec<u8> = Vec::new();
        let mut at: u64 = 0;
        let (mut pending, mut window) = (Vec::new(), Vec::new());
        let mut given_up = false;
        let mut compare = |old: &[u8], new: &[u8], at: u64| {
            hasher.update(new);
            let mut here = Vec::new();
            delta::pages(old, new, at, &mut here);
            for piece in here {
                if let Piece::New(range) = &piece {
                    let (from, to) = ((range.start - at) as usize, (range.end - at) as usize);
                    fresh.extend_from_slice(&new[from..to]);
                }
                delta::push(&mut pieces, piece);
            }
            fresh.len() as u64 <= MEMORY_BYTES
        };
        let fill = |window: &mut Vec<u8>, mut new: &File, most: u64| {
            window.clear();
            (&mut new).take(most).read_to_end(window).map(|n| n as u64)
        };
        let step = 64 * delta::PAGE as u64;
        let mut failed = None;
        let walked = self.reader.content(old, &mut |piece| {
            pending.extend_from_slice(piece);
            while pending.len() as u64 >= step {
                match fill(&mut window, new, step) {
                    Ok(n) if n > 0 => {
                        let enough = compare(&pending[..step as usize], &window, at);
                        at += n;
                        pending.drain(..step as usize);
                        if !enough {
                            given_up = true;
                            return Err(Error::Interrupted);
                        }
                    }
                    Ok(_) => pending.clear(),
                    Err(error) => {
                        failed = Some(error);
                        return Err(Error::Interrupted);
                    }
                }
            }
            Ok(())
        });
        if let Some(error) = failed {
            return Err(Error::io("read", meta.name, error));
        }
        if given_up || walked.is_err() {
            return Ok(None);
        }
        // What the old content does not have.
        while at < size {
            let n = fill(&mut window, new, step.min(size - at))
                .map_err(|e| Error::io("read", meta.name, e))?;
            if n == 0 {
                return Ok(None);
            }
            let old = std::mem::take(&mut pending);
            if !compare(&old, &window, at) {
                return Ok(None);
            }
            at += n;
        }
        if at != size {
            return Ok(None);
        }
        self.read_bytes += at;
        let digest = Digest::finish(hasher);
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&window[window.len().saturating_sub(1)..]);
        if digest == old.digest {
            return Ok(Some(old.clone()));
        }
        if !delta::is_worth(&pieces, size) {
            return Ok(None);
        }
        // Folding would need bytes that are not at hand: then the file is stored whole.
        let new_bytes = delta::new_bytes(&pieces);
        let mut exact = true;
        let patched = delta::patched(old, &pieces, digest, |ranges| {
            exact = ranges.iter().map(|r| r.end - r.start).sum::<u64>() == new_bytes;
            Digest::of(&fresh)
        });
        match patched.filter(|_| exact) {
            Some(patched) => {
                self.patch(meta, &fresh)?;
                std::io::Seek::seek(&mut new, std::io::SeekFrom::Start(0))
                    .map_err(|e| Error::io("read", meta.name, e))?;
                Ok(Some(patched.content))
            }
            None => Ok(None),
        }
    }

    /// Takes bytes into the repository: what was sealed, or found to be clear.
    fn admit(&mut self, meta: &TarMeta<'_>, bytes: &[u8], digest: Digest) -> Result<()> {
        self.pack.add(meta, bytes, Some(digest))?;
        self.note_stored(digest);
        Ok(())
    }

    fn note_stored(&self, digest: Digest) {
        if let Ok(mut stored) = self.shared.stored.lock() {
            stored.insert(digest);
        }
    }

    /// Returns true if a good copy of a blob is in a pack that is still there, or was stored by this run.
    fn is_stored(&self, digest: Digest) -> Result<bool> {
        if self.shared.damaged.contains(&digest) {
            let stored = self.shared.stored.lock();
            return Ok(stored.is_ok_and(|s| s.contains(&digest)));
        }
        if self.shared.stored.lock().is_ok_and(|s| s.contains(&digest)) {
            return Ok(true);
        }
        let index = self.shared.repo.index();
        for location in index.copies(digest) {
            let Some(pack) = index.pack(location.pack) else {
                continue;
            };
            let Ok(mut present) = self.shared.present.lock() else {
                continue;
            };
            let there = match present.get(&pack.pack.id) {
                Some(there) => *there,
                None => {
                    let name = layout::pack(pack.pack.id);
                    let size = self.shared.repo.storage().size(&name);
                    let there = matches!(size, Ok(Some(bytes)) if bytes == pack.pack.bytes);
                    present.insert(pack.pack.id, there);
                    there
                }
            };
            if there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds what has no data of its own to a full backup's packs: directories, symlinks, hard links, empty files.
    pub(crate) fn tree_entry(&mut self, meta: &TarMeta<'_>) -> Result<()> {
        self.pack.add(meta, b"", None)
    }

    /// Captures a SQLite database with its `-wal`, `-shm` and `-journal` as one unit.
    ///
    /// If none of them changes while all are read, the copy is of one moment and byte-exact. Otherwise the
    /// database is copied through SQLite's backup interface, and the copy needs no companions.
    pub(crate) fn database(
        &mut self,
        root: &str,
        handle: &RootHandle,
        base: &RepoPath,
        prior: &dyn Fn(&RepoPath) -> Option<(Known<'a>, bool)>,
        scratch: &Path,
    ) -> Result<Vec<Captured>> {
        let members: Vec<RepoPath> = std::iter::once(base.clone())
            .chain(
                sqlite::COMPANIONS
                    .iter()
                    .map(|suffix| sqlite::companion(base, suffix)),
            )
            .collect();
        let look = |handle: &RootHandle| -> Vec<Option<Stat>> {
            members.iter().map(|path| handle.stat(path).ok()).collect()
        };
        for attempt in 1..=3 {
            let before = look(handle);
            let mut captured = Vec::new();
            for (path, stat) in members.iter().zip(&before) {
                let Some(stat) = stat else { continue };
                let known = prior(path);
                // Unchanged members stay as they are known.
                if let Some((known, trusted)) = &known
                    && *trusted
                    && same_stat(&known.stat, stat)
                {
                    continue;
                }
                captured.push(self.object(root, handle, path, known.map(|(known, _)| known))?);
            }
            let steady = look(handle).iter().zip(&before).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => same_stat(a, b),
                (None, None) => true,
                _ => false,
            });
            if steady && captured.iter().all(|c| c.flags & DIRTY == 0) {
                return Ok(captured);
            }
            std::thread::sleep(Duration::from_millis(attempt * 5));
        }
        self.online(root, handle, base, &members, prior, scratch)
    }

    fn online(
        &mut self,
        root: &str,
        handle: &RootHandle,
        base: &RepoPath,
        members: &[RepoPath],
        prior: &dyn Fn(&RepoPath) -> Option<(Known<'a>, bool)>,
        scratch: &Path,
    ) -> Result<Vec<Captured>> {
        let absolute = handle.absolute(base);
        let Ok(copy) = sqlite::copy_online(&absolute, scratch) else {
            // Not a database SQLite can read (encrypted, damaged): as it was read, flagged.
            let mut captured = Vec::new();
            for path in members {
                let known = prior(path).map(|(known, _)| known);
                let mut one = self.object(root, handle, path, known)?;
                if !one.body.flags.contains(&Flag::Unstable) && one.stat.kind == Kind::File {
                    one.body.flags.push(Flag::Unstable);
                }
                one.flags |= DIRTY;
                captured.push(one);
            }
            return Ok(captured);
        };
        let live = handle.stat(base).context("read", &absolute)?;
        let stored = {
            let file = File::open(copy.path()).context("read", copy.path())?;
            let stat = RootHandle::stat_file(&file).context("read", copy.path())?;
            let stat = Stat {
                mode: live.mode,
                mtime: live.mtime,
                ..stat
            };
            let known = prior(base).map(|(known, _)| known);
            let place = Place {
                root,
                path: base,
                absolute: &absolute,
            };
            self.content(&place, &file, &stat, known.as_ref(), true)?
                .ok_or_else(|| Error::damaged("a database copy", "it changed while it was read"))?
        };
        let size = stored.size;
        let body = Body {
            content: stored.content,
            sealed: stored.sealed,
            flags: vec![Flag::Online],
            ..Body::default().named(&self.of_user(&live))
        };
        let stat = Stat { size, ..live };
        let mut captured = vec![Captured {
            path: base.clone(),
            stat,
            body,
            flags: DIRTY,
            gone: false,
            withheld: false,
        }];
        captured.extend(members[1..].iter().map(gone));
        Ok(captured)
    }
}

fn gone(path: &RepoPath) -> Captured {
    Captured {
        path: path.clone(),
        stat: Stat::default(),
        body: Body::default(),
        flags: 0,
        gone: true,
        withheld: false,
    }
}
