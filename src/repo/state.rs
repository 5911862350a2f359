//! What a root looked like when it was last captured: path → stat → content. Derived, checksummed,
//! safe to delete.
//!
//! A flat file that is used in place, so that opening it costs little more than reading it. It
//! mirrors one snapshot; users have to make sure that the snapshot still exists.
//!
//! Layout, little-endian: header (magic, CRC-32 of the header, repository, snapshot, run start,
//! base, rules, counts, CRC-32 of what follows), directories sorted by path, entries (the children
//! of a directory are adjacent, sorted by name; entry 0 is the root itself), heap of names and
//! bodies. If nothing changed, only the header is rewritten in place: it is smaller than a sector,
//! and a torn one is rejected.

use std::cmp::Ordering;
use std::path::Path;

use crate::base::id::{Digest, Id, SnapshotId};
use crate::base::path::{RepoPath, compare};
use crate::disk::fsutil;
pub use crate::model::manifest::Stat;
use crate::model::manifest::{Body, Entry, Kind, Time};

const MAGIC: &[u8; 8] = b"BDRSTA03";
const HEADER: usize = 8 + 4 + 16 + 16 + 8 + 8 + 32 + 1 + 8 + 4 + 4 + 4 + 4 + 8;
/// Offsets in the header: the CRC-32 of what follows it, and the number of bytes of removed paths.
const REST_CRC: usize = HEADER - 12;
const TAIL: usize = HEADER - 8;
const DIR: usize = 16;
const ENTRY: usize = 96;

/// The entry is in the snapshot's `changed` list.
pub const IN_DELTA: u8 = 1;
/// Do not trust the stat: read the content again next time.
pub const DIRTY: u8 = 2;
/// The base does not have it: when it goes, nothing has to be recorded.
pub const NOT_IN_BASE: u8 = 4;

/// Its content was kept in a staging area, not read.
pub const KEPT: u8 = 8;
/// Something in the file was sealed.
pub const SEALED: u8 = 16;

/// The state of one root, read-only.
pub struct State {
    bytes: Vec<u8>,
    dirs: usize,
    entries: usize,
    removed: usize,
    heap: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirrors {
    pub snapshot: SnapshotId,
    pub seq: u64,
    /// When the run that made it began, in nanoseconds since 1970.
    pub started: i64,
    /// The key frame of the root in that snapshot.
    pub base: Option<Digest>,
    /// The rules by which all of it was examined, by [`crate::privacy::Rules::number`]; newer ones
    /// may have examined some of it.
    pub rules: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub name: &'a [u8],
    pub stat: Stat,
    /// [`IN_DELTA`], [`DIRTY`].
    pub flags: u8,
    body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    bytes
        .get(at..at + 16)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u128::from_le_bytes)
}

impl Mirrors {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.snapshot.to_u128().to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.started.to_le_bytes());
        bytes.extend_from_slice(&self.base.map_or([0; 32], |base| base.0));
        bytes.push(u8::from(self.base.is_some()));
        bytes.extend_from_slice(&self.rules.to_le_bytes());
        bytes
    }
}

fn seal_header(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[12..HEADER]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

impl State {
    /// Makes it mirror another snapshot with the same entries.
    #[must_use]
    pub fn renew(mut self, path: &Path, mirrors: &Mirrors) -> Self {
        let new = mirrors.to_bytes();
        self.bytes[28..28 + new.len()].copy_from_slice(&new);
        seal_header(&mut self.bytes);
        // Derived: if this fails, the file mirrors the snapshot before, or is rejected.
        let _ = fsutil::overwrite_derived(path, &self.bytes[..HEADER]);
        self
    }

    /// Reads the state of a root; `None` if there is none that can be used.
    pub fn load(path: &Path, repository: Id) -> Option<Self> {
        let bytes = fsutil::read_derived(path)?;
        if bytes.len() < HEADER
            || &bytes[..8] != MAGIC
            || crc32fast::hash(&bytes[12..HEADER]) != u32_at(&bytes, 8)
            || crc32fast::hash(&bytes[HEADER..]) != u32_at(&bytes, REST_CRC)
        {
            return None;
        }
        let at = HEADER - 24;
        let dirs = u32_at(&bytes, at) as usize;
        let entries = u32_at(&bytes, at + 4) as usize;
        let removed = u32_at(&bytes, at + 8) as usize;
        let heap = HEADER
            .checked_add(dirs.checked_mul(DIR)?)?
            .checked_add(entries.checked_mul(ENTRY)?)?;
        let fits = heap <= bytes.len() && entries > 0;
        (fits && u128_at(&bytes, 12) == repository.to_u128()).then_some(Self {
            bytes,
            dirs,
            entries,
            removed,
            heap,
        })
    }

    /// Returns what a state file mirrors, reading only its header.
    pub fn mirrored_by(path: &Path, repository: Id) -> Option<Mirrors> {
        use std::io::Read as _;
        let mut bytes = Vec::with_capacity(HEADER);
        let file = fsutil::open_derived(path)?;
        file.take(HEADER as u64).read_to_end(&mut bytes).ok()?;
        let whole = bytes.len() == HEADER
            && &bytes[..8] == MAGIC
            && crc32fast::hash(&bytes[12..]) == u32_at(&bytes, 8)
            && u128_at(&bytes, 12) == repository.to_u128();
        let header = Self {
            bytes,
            dirs: 0,
            entries: 0,
            removed: 0,
            heap: HEADER,
        };
        whole.then(|| header.mirrors())
    }

    pub fn mirrors(&self) -> Mirrors {
        let b = &self.bytes;
        let mut base = [0; 32];
        base.copy_from_slice(&b[60..92]);
        Mirrors {
            snapshot: Id::from_u128(u128_at(b, 28)),
            seq: u64_at(b, 44),
            started: u64_at(b, 52).cast_signed(),
            base: (b[92] == 1).then_some(Digest(base)),
            rules: u64_at(b, 93),
        }
    }

    fn heap(&self, offset: u32, length: u32) -> &[u8] {
        let start = self.heap + offset as usize;
        self.bytes
            .get(start..start + length as usize)
            .unwrap_or_default()
    }

    /// Returns the number of entries, with the root itself.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Returns true if there is only the root.
    pub fn is_empty(&self) -> bool {
        self.entries <= 1
    }

    /// Returns the paths of the base that are gone.
    pub fn removed(&self) -> Vec<RepoPath> {
        // They are at the end of the heap, as pairs of length and bytes.
        let mut at = self.bytes.len() - (u64_at(&self.bytes, TAIL) as usize).min(self.bytes.len());
        let mut result = Vec::with_capacity(self.removed.min(1 << 16));
        for _ in 0..self.removed {
            let length = u32_at(&self.bytes, at) as usize;
            let Some(bytes) = self.bytes.get(at + 4..at + 4 + length) else {
                break;
            };
            if let Ok(path) = RepoPath::new(bytes) {
                result.push(path);
            }
            at += 4 + length;
        }
        result
    }

    pub fn dir_path(&self, dir: usize) -> &[u8] {
        let at = HEADER + dir * DIR;
        self.heap(u32_at(&self.bytes, at), u32_at(&self.bytes, at + 4))
    }

    fn dir_children(&self, dir: usize) -> std::ops::Range<usize> {
        let at = HEADER + dir * DIR;
        let first = u32_at(&self.bytes, at + 8) as usize;
        let end = first
            .saturating_add(u32_at(&self.bytes, at + 12) as usize)
            .min(self.entries);
        first.min(end)..end
    }

    pub fn children(&self, path: &[u8]) -> Option<std::ops::Range<usize>> {
        let (mut low, mut high) = (0, self.dirs);
        while low < high {
            let middle = usize::midpoint(low, high);
            match compare(self.dir_path(middle), path) {
                Ordering::Equal => return Some(self.dir_children(middle)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Returns the directories with their children, sorted by path.
    pub fn directories(&self) -> impl Iterator<Item = (&[u8], std::ops::Range<usize>)> {
        (0..self.dirs).map(|dir| (self.dir_path(dir), self.dir_children(dir)))
    }

    pub fn entry(&self, number: usize) -> Known<'_> {
        let at = HEADER + self.dirs * DIR + number.min(self.entries - 1) * ENTRY;
        let b = &self.bytes;
        Known {
            name: self.heap(u32_at(b, at), u32_at(b, at + 4)),
            body: self.heap(u32_at(b, at + 8), u32_at(b, at + 12)),
            flags: b[at + 17],
            stat: Stat {
                kind: Kind::from_u8(b[at + 16]).unwrap_or_default(),
                mode: u32_at(b, at + 20),
                uid: u32_at(b, at + 24),
                gid: u32_at(b, at + 28),
                size: u64_at(b, at + 32),
                mtime: Time(u64_at(b, at + 40).cast_signed(), u32_at(b, at + 48)),
                links: u32_at(b, at + 52),
                ctime: Time(u64_at(b, at + 56).cast_signed(), u32_at(b, at + 64)),
                inode: u64_at(b, at + 72),
                device: u64_at(b, at + 80),
            },
        }
    }

    /// Returns the inodes of all entries.
    pub fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|number| self.entry(number).stat.inode)
    }

    pub fn flags(&self, number: usize) -> u8 {
        let at = HEADER + self.dirs * DIR + number.min(self.entries - 1) * ENTRY;
        self.bytes[at + 17]
    }

    /// Returns true if any entry has one of these flags.
    pub fn has_flag(&self, flags: u8) -> bool {
        (0..self.entries).any(|number| self.flags(number) & flags != 0)
    }

    /// Returns the name of an entry, which is all that a search needs.
    pub fn name(&self, number: usize) -> &[u8] {
        let at = HEADER + self.dirs * DIR + number.min(self.entries - 1) * ENTRY;
        self.heap(u32_at(&self.bytes, at), u32_at(&self.bytes, at + 4))
    }
}

impl Known<'_> {
    /// Returns what had to be read; `None` if it cannot be used.
    pub fn body(&self) -> Option<Body> {
        if self.body.is_empty() {
            return Some(Body::default());
        }
        Body::from_json(self.body, self.stat.size).ok()
    }

    pub fn to_entry(&self, path: RepoPath) -> Option<Entry> {
        Some(entry_of(path, &self.stat, self.body()?))
    }
}

/// Returns the entry of an object with this stat.
pub fn entry_of(path: RepoPath, stat: &Stat, body: Body) -> Entry {
    Entry {
        path,
        kind: stat.kind,
        mode: stat.mode,
        mtime: stat.mtime,
        uid: stat.uid,
        gid: stat.gid,
        size: if stat.kind == Kind::File {
            stat.size
        } else {
            0
        },
        body,
    }
}

pub use crate::model::manifest::same_identity as same_stat;

/// Returns true if an edit after `stat` was taken could have left it unchanged.
///
/// git's racy-index rule (its `Documentation/technical/racy-git.txt`): if the newest time of a file
/// is not older than the start of the run that read it, by the granularity of the file system's
/// clock, the file may have changed again within the same tick.
pub fn is_racy(stat: &Stat, started: i64) -> bool {
    let newest = stat.mtime.nanos().max(stat.ctime.nanos());
    // Whole seconds mean a coarse clock: FAT has 2 s. Otherwise the kernel's tick, at most 10 ms.
    let coarse = stat.mtime.1 == 0 && stat.ctime.1 == 0;
    let granularity: i64 = if coarse { 2_000_000_000 } else { 20_000_000 };
    newest >= started.saturating_sub(granularity)
}

pub struct StateBuilder {
    dirs: Vec<(u32, u32, u32, u32)>,
    entries: Vec<u8>,
    count: u32,
    heap: Vec<u8>,
}

impl StateBuilder {
    /// Starts with the root itself.
    pub fn new(stat: &Stat, flags: u8, body: &[u8]) -> Self {
        let mut builder = Self {
            dirs: Vec::new(),
            entries: Vec::new(),
            count: 0,
            heap: Vec::new(),
        };
        builder.push(b"", stat, flags, body);
        builder
    }

    /// Starts the children of a directory; directories must come sorted by path.
    pub fn dir(&mut self, path: &[u8]) {
        let at = self.put(path);
        self.dirs.push((at, path.len() as u32, self.count, 0));
    }

    /// Adds a child of the directory started last; children must come sorted by name.
    pub fn child(&mut self, name: &[u8], stat: &Stat, flags: u8, body: &[u8]) {
        self.push(name, stat, flags, body);
        if let Some(dir) = self.dirs.last_mut() {
            dir.3 += 1;
        }
    }

    /// Adds a child unchanged.
    pub fn copy(&mut self, known: &Known<'_>, flags: u8) {
        self.child(known.name, &known.stat, flags, known.body);
    }

    pub fn reserve(&mut self, children: usize) {
        self.entries.reserve_exact(children * ENTRY);
    }

    /// Marks everything collected so far as part of a new base.
    pub fn forget_delta(&mut self) {
        for entry in self.entries.chunks_exact_mut(ENTRY) {
            entry[17] &= !(IN_DELTA | NOT_IN_BASE);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.heap.len() as u32;
        self.heap.extend_from_slice(bytes);
        at
    }

    fn push(&mut self, name: &[u8], stat: &Stat, flags: u8, body: &[u8]) {
        let name_at = self.put(name);
        let body_at = self.put(body);
        let out = &mut self.entries;
        for number in [name_at, name.len() as u32, body_at, body.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[stat.kind.to_u8(), flags, 0, 0]);
        for number in [stat.mode, stat.uid, stat.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&stat.size.to_le_bytes());
        out.extend_from_slice(&stat.mtime.0.to_le_bytes());
        out.extend_from_slice(&stat.mtime.1.to_le_bytes());
        out.extend_from_slice(&stat.links.to_le_bytes());
        out.extend_from_slice(&stat.ctime.0.to_le_bytes());
        out.extend_from_slice(&stat.ctime.1.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&stat.inode.to_le_bytes());
        out.extend_from_slice(&stat.device.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        self.count += 1;
    }

    /// Writes the state and returns it. If the cache cannot be written, the state lasts as long as
    /// the process.
    pub fn save(
        mut self,
        path: &Path,
        repository: Id,
        mirrors: &Mirrors,
        removed: &[RepoPath],
    ) -> State {
        let mut tail = Vec::new();
        for path in removed {
            tail.extend_from_slice(&(path.as_bytes().len() as u32).to_le_bytes());
            tail.extend_from_slice(path.as_bytes());
        }
        self.heap.extend_from_slice(&tail);
        let mut bytes = Vec::with_capacity(
            HEADER + self.dirs.len() * DIR + self.entries.len() + self.heap.len(),
        );
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&repository.to_u128().to_le_bytes());
        bytes.extend_from_slice(&mirrors.to_bytes());
        for number in [self.dirs.len() as u32, self.count, removed.len() as u32, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(tail.len() as u64).to_le_bytes());
        for (at, length, first, count) in &self.dirs {
            for number in [at, length, first, count] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&self.entries);
        let heap = bytes.len();
        self.entries = Vec::new();
        bytes.extend_from_slice(&self.heap);
        self.heap = Vec::new();
        let crc = crc32fast::hash(&bytes[HEADER..]);
        bytes[REST_CRC..REST_CRC + 4].copy_from_slice(&crc.to_le_bytes());
        seal_header(&mut bytes);
        // Derived: a failure only costs the next run time.
        if path
            .parent()
            .is_some_and(|dir| fsutil::create_dir_private(dir).is_ok())
        {
            let _ = fsutil::write_derived(path, &bytes);
        }
        State {
            bytes,
            dirs: self.dirs.len(),
            entries: self.count as usize,
            removed: removed.len(),
            heap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat() -> Stat {
        Stat {
            kind: Kind::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 3,
            mtime: Time(1_000, 5),
            ctime: Time(1_000, 6),
            inode: 7,
            device: 8,
            links: 1,
        }
    }

    #[test]
    fn every_axis_of_a_stat_counts() {
        let base = stat();
        assert!(same_stat(&base, &base));
        for (axis, other) in [
            ("size", Stat { size: 4, ..base }),
            (
                "mtime",
                Stat {
                    mtime: Time(1_001, 5),
                    ..base
                },
            ),
            (
                "mtime backwards",
                Stat {
                    mtime: Time(999, 5),
                    ..base
                },
            ),
            (
                "mtime nanoseconds",
                Stat {
                    mtime: Time(1_000, 4),
                    ..base
                },
            ),
            (
                "ctime",
                Stat {
                    ctime: Time(1_000, 7),
                    ..base
                },
            ),
            ("inode", Stat { inode: 8, ..base }),
            ("device", Stat { device: 9, ..base }),
            (
                "mode",
                Stat {
                    mode: 0o600,
                    ..base
                },
            ),
            (
                "kind",
                Stat {
                    kind: Kind::Dir,
                    ..base
                },
            ),
            ("owner", Stat { uid: 0, ..base }),
            ("group", Stat { gid: 0, ..base }),
            ("links", Stat { links: 2, ..base }),
        ] {
            assert!(!same_stat(&base, &other), "{axis}");
        }
    }

    #[test]
    fn an_edit_within_one_tick_is_not_trusted() {
        let s = 1_000_000_000;
        let at = |seconds, nanos| Stat {
            mtime: Time(seconds, nanos),
            ctime: Time(seconds, nanos),
            ..stat()
        };
        for (what, stat, started, racy) in [
            ("long before", at(1_000, 5), 1_010 * s, false),
            ("in the same tick", at(1_010, 5), 1_010 * s, true),
            (
                "just before, fine clock",
                at(1_009, 999_000_000),
                1_010 * s,
                true,
            ),
            (
                "well before, fine clock",
                at(1_009, 900_000_000),
                1_010 * s,
                false,
            ),
            ("just before, coarse clock", at(1_009, 0), 1_010 * s, true),
            ("well before, coarse clock", at(1_007, 0), 1_010 * s, false),
            ("from the future", at(2_000, 5), 1_010 * s, true),
            (
                "old mtime, new ctime",
                Stat {
                    ctime: Time(1_010, 1),
                    ..at(500, 1)
                },
                1_010 * s,
                true,
            ),
        ] {
            assert_eq!(is_racy(&stat, started), racy, "{what}");
        }
    }

    #[test]
    fn a_state_reads_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let repository = Id::from_u128(1);
        let mirrors = Mirrors {
            snapshot: Id::from_u128(2),
            seq: 3,
            started: -4,
            base: Some(Digest::of(b"x")),
            rules: 5,
        };
        let mut builder = StateBuilder::new(
            &Stat {
                kind: Kind::Dir,
                ..stat()
            },
            0,
            b"",
        );
        builder.dir(b"");
        builder.child(b"a", &stat(), IN_DELTA, br#"{"l":"t"}"#);
        builder.child(
            b"d",
            &Stat {
                kind: Kind::Dir,
                ..stat()
            },
            0,
            b"",
        );
        builder.dir(b"d");
        builder.child(b"x", &stat(), DIRTY, b"");
        let removed = vec![
            RepoPath::new("gone/1").unwrap(),
            RepoPath::new("gone2").unwrap(),
        ];
        let newer = Mirrors { seq: 4, ..mirrors };
        let saved = builder.save(&path, repository, &mirrors, &removed);
        assert_eq!(State::load(&path, repository).unwrap().mirrors(), mirrors);
        assert_eq!(saved.renew(&path, &newer).mirrors(), newer);
        let state = State::load(&path, repository).unwrap();
        assert_eq!(state.mirrors(), newer);
        assert_eq!(state.removed(), removed);
        assert_eq!(state.children(b"d").unwrap(), 3..4);
        assert_eq!(state.children(b"e"), None);
        let known = state.entry(1);
        assert_eq!(
            (known.name, known.stat, known.flags),
            (&b"a"[..], stat(), IN_DELTA)
        );
        assert!(State::load(&path, Id::from_u128(9)).is_none());
        let good = std::fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 16;
            fsutil::write_derived(&path, &bad).unwrap();
            assert!(State::load(&path, repository).is_none(), "byte {i}");
        }
        fsutil::write_derived(&path, &good[..good.len() - 1]).unwrap();
        assert!(State::load(&path, repository).is_none());
    }
}
