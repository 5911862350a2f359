//! What a snapshot knows of files: entries, the content of a file, listings and their differences.
//!
//! Member names are those of `docs/format.md` §2.1; a change here needs a new format version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::{Digest, Id};
use crate::base::path::RepoPath;
use crate::privacy::Fingerprint;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    #[serde(rename = "f")]
    File,
    /// A directory.
    #[serde(rename = "d")]
    Dir,
    /// A symbolic link.
    #[serde(rename = "l")]
    Symlink,
    /// A FIFO: it has a name and metadata, and no content.
    #[serde(rename = "fifo")]
    Fifo,
    /// Listed, never stored.
    #[serde(rename = "socket")]
    Socket,
    /// Listed, never stored.
    #[serde(rename = "char")]
    CharDevice,
    /// Listed, never stored.
    #[serde(rename = "block")]
    BlockDevice,
}

impl Kind {
    /// Returns true if the kind can be stored and restored.
    ///
    /// A socket is nothing without the process that listens on it, and devices are made by the system.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::File | Self::Dir | Self::Symlink | Self::Fifo)
    }

    /// Returns the word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }

    /// Returns a small number for derived files.
    pub fn to_u8(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Dir => 1,
            Self::Symlink => 2,
            Self::Fifo => 3,
            Self::Socket => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
        }
    }

    /// Returns the kind of a number that [`Kind::to_u8`] gave.
    pub fn from_u8(number: u8) -> Option<Self> {
        [
            Self::File,
            Self::Dir,
            Self::Symlink,
            Self::Fifo,
            Self::Socket,
            Self::CharDevice,
            Self::BlockDevice,
        ]
        .get(usize::from(number))
        .copied()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Seconds since 1970 and nanoseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct Time(pub i64, pub u32);

impl Time {
    /// Returns nanoseconds since 1970, saturated to what an `i64` holds (the years 1678 to 2262).
    pub fn nanos(self) -> i64 {
        self.0
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.1))
    }
}

/// What `stat` says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or symlink; 0 for directories.
    pub size: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Number of the file.
    pub inode: u64,
    /// Device.
    pub device: u64,
    /// Names it has.
    pub links: u32,
}

/// Returns true if nothing that `stat` tells has changed.
pub fn same_identity(a: &Stat, b: &Stat) -> bool {
    a.size == b.size
        && a.mtime == b.mtime
        && a.ctime == b.ctime
        && a.inode == b.inode
        && a.device == b.device
        && a.mode == b.mode
        && a.kind == b.kind
        && a.uid == b.uid
        && a.gid == b.gid
        && (a.links > 1) == (b.links > 1)
}

/// One file, directory, symlink or other object of a root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Where it lies below the root.
    pub path: RepoPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// When its content last changed.
    pub mtime: Time,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    /// What cannot be derived from `stat`.
    pub body: Body,
}

/// The part of an entry that has to be read, not only stat'ed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Content of a file; `None` if it is empty or not a file.
    pub content: Option<Content>,
    /// Target of a symlink.
    pub target: Vec<u8>,
    /// Hard-link group: entries of one snapshot and root with the same are one file. Empty if it has one name.
    pub link: String,
    /// Names that it had, if these were more than two: fewer in its hard-link group are others elsewhere.
    pub names: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// What is special about it.
    pub flags: Vec<Flag>,
    /// Something of it was sealed.
    pub sealed: Option<Box<Sealed>>,
    /// It was written to after it was kept, and may not be what was there. Known of content that was kept only; in no record.
    pub unsure: bool,
    /// It has holes: what is zero in it takes no space, and is not to.
    pub sparse: bool,
}

/// What is known of a file of which values, or all, were sealed: it is not stored as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// HMAC-SHA-256 of the original, with a key that is not in the repository.
    #[serde(rename = "m")]
    pub mac: Digest,
    /// Bytes of what is stored instead; 0 if nothing is.
    #[serde(rename = "s")]
    pub size: u64,
    /// Nothing but metadata is stored: `values` are the pieces of the whole, in order.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub whole: bool,
    /// Fingerprints of the sealed values, each once.
    #[serde(rename = "v")]
    pub values: Vec<Fingerprint>,
    /// What was found: kinds and how often.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub kinds: BTreeMap<String, u64>,
}

/// What was special about a file when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// It changed while it was read.
    Unstable,
    /// A JSONL whose last line is incomplete.
    Torn,
    /// A SQLite database copied through its backup interface; it needs no `-wal`.
    Online,
}

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

/// The JSON shape of an entry, `docs/format.md` §2.1.
#[derive(Serialize, Deserialize, Default)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p_hex: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    k: Kind,
    m: u32,
    t: Time,
    #[serde(default, skip_serializing_if = "is_default")]
    u: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    g: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    s: u64,
    #[serde(flatten)]
    body: WireBody,
}

/// The JSON shape of a [`Body`]; also what the state keeps of it.
#[derive(Serialize, Deserialize, Default)]
struct WireBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x: Vec<Extent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<(Id, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l_hex: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    i: String,
    #[serde(default, skip_serializing_if = "is_default")]
    n: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    a: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    f: Vec<Flag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    z: Option<Box<Sealed>>,
    #[serde(default, skip_serializing_if = "is_default")]
    o: bool,
}

fn text_or_hex(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(hex::encode(bytes))),
    }
}

fn bytes_of(text: Option<String>, hexed: Option<String>) -> Result<Vec<u8>, String> {
    match (text, hexed) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(hexed)) => hex::decode(hexed).map_err(|e| e.to_string()),
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err("both a name and its hex form".to_owned()),
    }
}

impl From<&Body> for WireBody {
    fn from(body: &Body) -> Self {
        let (l, l_hex) = if body.target.is_empty() {
            (None, None)
        } else {
            text_or_hex(&body.target)
        };
        let mut wire = Self {
            l,
            l_hex,
            i: body.link.clone(),
            n: body.names,
            a: body
                .xattrs
                .iter()
                .map(|(n, v)| (n.clone(), hex::encode(v)))
                .collect(),
            f: body.flags.clone(),
            z: body.sealed.clone(),
            o: body.sparse,
            ..Self::default()
        };
        if let Some(kept) = body.content.as_ref().and_then(Content::as_kept) {
            wire.y = Some((kept.set, kept.number));
        } else if let Some(content) = &body.content {
            wire.h = Some(content.digest);
            if !content.is_whole() {
                wire.b = content.blobs().to_vec();
                wire.x = content.extents().to_vec();
            }
        }
        wire
    }
}

impl WireBody {
    fn into_body(self, size: u64) -> Result<Body, String> {
        // What is stored of a sealed file has another size.
        let size = self.z.as_ref().map_or(size, |z| z.size);
        let kept = self.y.map(|(set, number)| Kept { set, number, size });
        let content = match self.h {
            None => kept.map(Content::kept),
            Some(digest) if self.b.is_empty() && self.x.is_empty() => {
                Some(Content::whole(digest, size))
            }
            Some(digest) => {
                let mut total: u64 = 0;
                for Extent(blob, offset, length) in &self.x {
                    if *blob as usize >= self.b.len() {
                        return Err("an extent names no blob".to_owned());
                    }
                    offset.checked_add(*length).ok_or("an extent overflows")?;
                    total = total.checked_add(*length).ok_or("the extents overflow")?;
                }
                if total != size {
                    return Err("the extents do not add up to the size".to_owned());
                }
                Some(Content::new(digest, self.b, self.x))
            }
        };
        let mut xattrs = Vec::with_capacity(self.a.len());
        for (name, value) in self.a {
            xattrs.push((name, hex::decode(value).map_err(|e| e.to_string())?));
        }
        Ok(Body {
            content,
            target: bytes_of(self.l, self.l_hex)?,
            link: self.i,
            names: self.n,
            xattrs,
            flags: self.f,
            sealed: self.z,
            unsure: false,
            sparse: self.o,
        })
    }
}

impl Body {
    /// Takes note of the names that a file or symlink has.
    #[must_use]
    pub fn named(mut self, stat: &Stat) -> Self {
        if stat.links > 1 {
            self.link = format!("{}:{}", stat.device, stat.inode);
            // One of a group has two at least: that is not worth a word.
            self.names = if stat.links > 2 { stat.links } else { 0 };
        }
        self
    }

    /// Returns how many names it had.
    pub fn count_of_names(&self) -> usize {
        match self.link.is_empty() {
            true => 1,
            false => usize::try_from(self.names).unwrap_or(usize::MAX).max(2),
        }
    }

    /// Returns the JSON of the members that a body has.
    pub fn to_json(&self) -> Vec<u8> {
        // Maps and strings only: cannot fail.
        serde_json::to_vec(&WireBody::from(self)).unwrap_or_default()
    }

    /// Reads what [`Body::to_json`] wrote for a file of `size` bytes.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_json(json: &[u8], size: u64) -> Result<Self, String> {
        serde_json::from_slice::<WireBody>(json)
            .map_err(|e| e.to_string())?
            .into_body(size)
    }
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (p, p_hex) = text_or_hex(self.path.as_bytes());
        Wire {
            p,
            p_hex,
            k: self.kind,
            m: self.mode,
            t: self.mtime,
            u: self.uid,
            g: self.gid,
            s: self.size,
            body: WireBody::from(&self.body),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let wire = Wire::deserialize(deserializer)?;
        let path = RepoPath::new(bytes_of(wire.p, wire.p_hex).map_err(D::Error::custom)?)
            .map_err(D::Error::custom)?;
        if wire.t.1 >= 1_000_000_000 || wire.m > 0o7777 {
            return Err(D::Error::custom("a time or mode is out of range"));
        }
        let body = wire.body.into_body(wire.s).map_err(D::Error::custom)?;
        if wire.k == Kind::File && wire.s > 0 && body.content.is_none() && body.sealed.is_none() {
            return Err(D::Error::custom("a file without content"));
        }
        if wire.k == Kind::Symlink && (body.target.is_empty() || body.target.contains(&0)) {
            return Err(D::Error::custom("a symlink without a target"));
        }
        Ok(Self {
            path,
            kind: wire.k,
            mode: wire.m,
            mtime: wire.t,
            uid: wire.u,
            gid: wire.g,
            size: wire.s,
            body,
        })
    }
}

impl Entry {
    /// Returns the digest of the content; that of no bytes for an empty file.
    pub fn digest(&self) -> Option<Digest> {
        match (&self.body.content, self.kind) {
            (Some(content), _) => Some(content.digest),
            (None, Kind::File) => Some(Digest::of(b"")),
            _ => None,
        }
    }

    /// Returns true if both hold the same bytes (or target), whatever their metadata.
    pub fn same_content(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.size == other.size
            && self.body.target == other.body.target
            && self.body.content.as_ref().map(|c| c.digest)
                == other.body.content.as_ref().map(|c| c.digest)
    }

    /// Returns true if a restore of one or the other leaves the same object.
    ///
    /// How the bytes are stored does not count, nor does a directory's mtime unless `dir_times`.
    pub fn same_object(&self, other: &Self, dir_times: bool) -> bool {
        self.same_content(other)
            && self.mode == other.mode
            && (self.uid, self.gid) == (other.uid, other.gid)
            && self.body.xattrs == other.body.xattrs
            && (self.mtime == other.mtime || (self.kind == Kind::Dir && !dir_times))
    }
}

/// All entries of a root at one moment, sorted by path.
pub type Listing = Vec<Entry>;

/// Returns the listing that a base with removals and changes amounts to. `base` and `changed` are sorted.
pub fn overlay(base: Listing, removed: &[RepoPath], changed: Listing) -> Listing {
    if removed.is_empty() && changed.is_empty() {
        return base;
    }
    let mut result = Vec::with_capacity(base.len() + changed.len());
    let mut removed: Vec<&RepoPath> = removed.iter().collect();
    removed.sort();
    let mut removed = removed.into_iter().peekable();
    let mut gone: Option<&RepoPath> = None;
    let mut changed = changed.into_iter().peekable();
    for entry in base {
        while let Some(next) = removed.next_if(|r| **r <= entry.path) {
            // A removal below one that already covers it says nothing new.
            if gone.is_none_or(|g| !next.starts_with(g)) {
                gone = Some(next);
            }
        }
        while let Some(new) = changed.next_if(|c| c.path < entry.path) {
            result.push(new);
        }
        if let Some(new) = changed.next_if(|c| c.path == entry.path) {
            result.push(new);
        } else if !gone.is_some_and(|g| entry.path.starts_with(g)) {
            result.push(entry);
        }
    }
    result.extend(changed);
    result
}

/// How one path differs between two listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the newer has it.
    Added(Entry),
    /// Only the older has it.
    Removed(Entry),
    /// Content or kind differ.
    Modified(Box<(Entry, Entry)>),
    /// Only mode, mtime, owner or attributes differ.
    Metadata(Box<(Entry, Entry)>),
}

impl Change {
    /// Returns how an object differs from itself earlier; `None` if it does not. A directory's mtime alone is no difference.
    pub fn between(old: &Entry, new: &Entry) -> Option<Self> {
        let pair = || Box::new((old.clone(), new.clone()));
        if !old.same_content(new) {
            Some(Self::Modified(pair()))
        } else if !old.same_object(new, false) {
            Some(Self::Metadata(pair()))
        } else {
            None
        }
    }

    /// Returns the path concerned.
    pub fn path(&self) -> &RepoPath {
        match self {
            Self::Added(entry) | Self::Removed(entry) => &entry.path,
            Self::Modified(pair) | Self::Metadata(pair) => &pair.1.path,
        }
    }

    /// Returns `+`, `-`, `M` or `m`.
    pub fn sign(&self) -> char {
        match self {
            Self::Added(_) => '+',
            Self::Removed(_) => '-',
            Self::Modified(_) => 'M',
            Self::Metadata(_) => 'm',
        }
    }
}

/// Returns what differs from `old` to `new`, sorted by path. A directory's mtime alone is no difference.
pub fn diff(old: &[Entry], new: &[Entry]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let order = match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) => a.path.cmp(&b.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => {
                changes.push(Change::Removed(old[i].clone()));
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                changes.push(Change::Added(new[j].clone()));
                j += 1;
            }
            std::cmp::Ordering::Equal => {
                changes.extend(Change::between(&old[i], &new[j]));
                i += 1;
                j += 1;
            }
        }
    }
    changes
}

/// Returns a listing as a map by path.
pub fn by_path(listing: Listing) -> BTreeMap<RepoPath, Entry> {
    listing
        .into_iter()
        .map(|entry| (entry.path.clone(), entry))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> Entry {
        Entry {
            path: RepoPath::new(path).unwrap(),
            mode: 0o644,
            size: content.len() as u64,
            body: Body {
                content: (!content.is_empty())
                    .then(|| Content::whole(Digest::of(content.as_bytes()), content.len() as u64)),
                ..Body::default()
            },
            ..Entry::default()
        }
    }

    #[test]
    fn entries_round_trip() {
        let mut entry = file("a/b", "xyz");
        entry.mtime = Time(-5, 999_999_999);
        entry.body.xattrs = vec![("user.k".into(), vec![0, 255])];
        entry.body.link = "8:1".into();
        entry.body.flags = vec![Flag::Torn];
        let odd = Entry {
            path: RepoPath::new(&b"\xff"[..]).unwrap(),
            ..file("q", "")
        };
        for entry in [entry, odd] {
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(
                serde_json::from_str::<Entry>(&json).unwrap(),
                entry,
                "{json}"
            );
        }
    }

    #[test]
    fn hostile_entries_are_refused() {
        let hash = "0".repeat(64);
        for json in [
            r#"{"p":"../x","m":420,"t":[0,0]}"#.to_owned(),
            r#"{"p":"x","m":420,"t":[0,1000000000]}"#.to_owned(),
            r#"{"p":"x","m":65535,"t":[0,0]}"#.to_owned(),
            r#"{"p":"x","m":420,"t":[0,0],"s":5}"#.to_owned(),
            format!(
                r#"{{"p":"x","m":420,"t":[0,0],"s":5,"h":"{hash}","b":["{hash}"],"x":[[1,0,5]]}}"#
            ),
            format!(
                r#"{{"p":"x","m":420,"t":[0,0],"s":5,"h":"{hash}","b":["{hash}"],"x":[[0,0,4]]}}"#
            ),
            format!(
                r#"{{"p":"x","m":420,"t":[0,0],"s":5,"h":"{hash}","b":["{hash}"],"x":[[0,18446744073709551615,5]]}}"#
            ),
        ] {
            assert!(serde_json::from_str::<Entry>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn overlay_removes_with_everything_below_and_then_adds() {
        let base = vec![
            file("a", "1"),
            file("d", ""),
            file("d/x", "2"),
            file("d/y", "3"),
            file("e", "4"),
        ];
        let removed = vec![RepoPath::new("d").unwrap(), RepoPath::new("d/x").unwrap()];
        let changed = vec![
            file("a", "9"),
            file("c", "5"),
            file("d/z", "6"),
            file("f", "7"),
        ];
        let result = overlay(base, &removed, changed);
        let paths: Vec<String> = result.iter().map(|e| e.path.to_string()).collect();
        assert_eq!(paths, ["a", "c", "d/z", "e", "f"]);
        assert_eq!(result[0].size, 1);
        assert_eq!(result[0].digest(), file("a", "9").digest());
    }

    #[test]
    fn diff_tells_content_from_metadata() {
        let old = vec![file("a", "1"), file("b", "2"), file("c", "3")];
        let mut chmod = file("c", "3");
        chmod.mode = 0o600;
        let new = vec![file("a", "9"), chmod, file("d", "4")];
        let signs: String = diff(&old, &new).iter().map(Change::sign).collect();
        assert_eq!(signs, "M-m+");
    }
}
