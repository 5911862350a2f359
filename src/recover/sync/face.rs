//! What a path is, in a form that can be compared between machines.

use std::io::Read as _;

use crate::base::error::Result;
use crate::base::id::{Digest, Fingerprint};
use crate::base::path::RepoPath;
use crate::disk::fsutil::target::Target;
use crate::model::manifest::{Entry, Kind, Stat};
use crate::privacy::examine;
use crate::privacy::seal::{PREFIX, placeholder, placeholders, seal};
use crate::repo::Repository;
use crate::repo::kept::digest_of;
use crate::repo::reader::Reader;

/// Larger files, in bytes, are compared by their digests only.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Face {
    Absent,
    Dir,
    Link(Vec<u8>),
    /// Its digest. With sealed values, that of the text in which they are all alike.
    File(Digest),
    /// Nobody can tell.
    Unknown,
}

/// The fingerprint that stands for every value.
const ANY: Fingerprint = Fingerprint([0; 8]);

/// Returns a sealed text with all sealed values alike: their fingerprints are keyed, and every machine
/// has another key.
pub(super) fn alike(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for found in placeholders(text) {
        if found.range.start < at {
            continue;
        }
        out.extend_from_slice(&text[at..found.range.start]);
        out.extend_from_slice(placeholder(&found.kind, ANY).as_bytes());
        at = found.range.end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// Returns true if a text has a placeholder.
pub(super) fn has_sealed(text: &[u8]) -> bool {
    memchr::memmem::find(text, PREFIX).is_some()
}

/// Returns a text of this machine as [`alike`] returns it for one from a repository.
pub(super) fn sealed_alike(repo: &Repository, path: &[u8], text: &[u8]) -> Vec<u8> {
    let examined = examine(path, text, repo.privacy_rules());
    seal(text, &examined.seals, &mut |_, _| Some(ANY))
}

/// Returns the stored bytes of a file with all sealed values alike; `None` if it is not stored whole,
/// or too long.
pub(super) fn stored(reader: &mut Reader<'_>, entry: &Entry) -> Result<Option<Vec<u8>>> {
    let is_whole = entry
        .body
        .sealed
        .as_ref()
        .is_none_or(|sealed| !sealed.whole);
    if entry.kind != Kind::File || !is_whole || entry.size > MAX_BYTES {
        return Ok(None);
    }
    let bytes = match &entry.body.content {
        Some(content) => reader.to_vec(content, content.size())?,
        None => Vec::new(),
    };
    Ok(Some(match entry.body.sealed {
        Some(_) => alike(&bytes),
        None => bytes,
    }))
}

/// Returns what an entry of a listing is.
pub(super) fn of_entry(reader: &mut Reader<'_>, entry: Option<&Entry>) -> Result<Face> {
    let Some(entry) = entry else {
        return Ok(Face::Absent);
    };
    Ok(match entry.kind {
        Kind::Dir => Face::Dir,
        Kind::Symlink => Face::Link(entry.body.target.clone()),
        Kind::File => match (&entry.body.sealed, &entry.body.content) {
            (None, None) => Face::File(Digest::of(b"")),
            (None, Some(content)) if content.as_kept().is_none() => Face::File(content.digest),
            _ => match stored(reader, entry)? {
                Some(bytes) => Face::File(Digest::of(&bytes)),
                None => Face::Unknown,
            },
        },
        _ => Face::Unknown,
    })
}

/// What is at a path here; its digests are made when they are needed.
pub(super) struct Here {
    pub(super) stat: Option<Stat>,
    path: Vec<u8>,
    place: RepoPath,
    raw: Option<Digest>,
    bytes: Option<Vec<u8>>,
    alike: Option<Vec<u8>>,
}

impl Here {
    pub(super) fn new(stat: Option<Stat>, path: &RepoPath, place: RepoPath) -> Self {
        let path = match path.is_root() {
            true => place.name().to_vec(),
            false => path.as_bytes().to_vec(),
        };
        Self {
            stat,
            path,
            place,
            raw: None,
            bytes: None,
            alike: None,
        }
    }

    /// Returns the content; `None` if it cannot be read, or is too long.
    pub(super) fn bytes(&mut self, target: &mut Target) -> Option<&[u8]> {
        if self.bytes.is_none() && self.stat?.size <= MAX_BYTES {
            let mut bytes = Vec::new();
            let file = target.open_file(&self.place).ok()?;
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
            self.bytes = Some(bytes);
        }
        self.bytes.as_deref()
    }

    /// Returns the content with what is secret in it all alike.
    pub(super) fn alike(&mut self, repo: &Repository, target: &mut Target) -> Option<&[u8]> {
        if self.alike.is_none() {
            let path = self.path.clone();
            let alike = sealed_alike(repo, &path, self.bytes(target)?);
            self.alike = Some(alike);
        }
        self.alike.as_deref()
    }

    /// Returns true if this is what an entry is, whose face is given.
    pub(super) fn is(
        &mut self,
        repo: &Repository,
        target: &mut Target,
        (entry, face): (Option<&Entry>, &Face),
    ) -> bool {
        let kind = self.stat.map(|stat| stat.kind);
        match (face, kind) {
            (Face::Absent, None) | (Face::Dir, Some(Kind::Dir)) => true,
            (Face::Link(there), Some(Kind::Symlink)) => {
                target.read_link(&self.place).is_ok_and(|own| own == *there)
            }
            (Face::File(digest), Some(Kind::File)) => {
                match entry.is_some_and(|entry| entry.body.sealed.is_some()) {
                    true => self
                        .alike(repo, target)
                        .is_some_and(|own| Digest::of(own) == *digest),
                    false => self.raw(target) == Some(*digest),
                }
            }
            _ => false,
        }
    }

    fn raw(&mut self, target: &mut Target) -> Option<Digest> {
        if self.raw.is_none() {
            self.raw = match self.bytes(target) {
                Some(bytes) => Some(Digest::of(bytes)),
                None => digest_of(&mut target.open_file(&self.place).ok()?),
            };
        }
        self.raw
    }
}
