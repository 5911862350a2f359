//! What a snapshot records about files: entries, the content of a file, listings and their
//! differences.
//!
//! Member names are those of `docs/format.md` §2.1; a change here needs a new format version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::Digest;
use crate::base::path::RepoPath;
use crate::privacy::Fingerprint;

mod content;
mod listing;
mod stat;
mod wire;

pub use content::{Content, Extent, Kept};
pub use listing::{Change, Listing, by_path, diff, overlay};
pub use stat::{Kind, Stat, Time, same_identity};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One file, directory, symlink or other object of a root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its path below the root.
    pub path: RepoPath,
    pub kind: Kind,
    /// Permission and special bits, `0o7777`.
    pub mode: u32,
    pub mtime: Time,
    pub uid: u32,
    pub gid: u32,
    /// Size of a file, in bytes.
    pub size: u64,
    /// What `stat` does not tell.
    pub body: Body,
}

/// The part of an entry that has to be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// `None` if it is empty or not a file.
    pub content: Option<Content>,
    pub target: Vec<u8>,
    /// Hard-link group: entries of one snapshot and root with the same group are one file. Empty if
    /// it has only one name.
    pub link: String,
    /// How many names it had, if more than two: if its group has fewer, the others are elsewhere.
    pub names: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub flags: Vec<Flag>,
    pub sealed: Option<Box<Sealed>>,
    /// It was written to after it was kept, and may not be the original. Only known for kept
    /// content; not in any record.
    pub unsure: bool,
    /// It has holes: its zeros take no space, and a restore must keep it so.
    pub sparse: bool,
}

/// A file with sealed values, or sealed as a whole: it is not stored as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// HMAC-SHA-256 of the original, with a key that is not in the repository.
    #[serde(rename = "m")]
    pub mac: Digest,
    /// Bytes of what is stored instead; 0 if nothing is.
    #[serde(rename = "s")]
    pub size: u64,
    /// Only metadata is stored: `values` are the pieces of the whole file, in order.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub whole: bool,
    /// Fingerprints of the sealed values, each once.
    #[serde(rename = "v")]
    pub values: Vec<Fingerprint>,
    /// Kinds of findings, with their counts.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub kinds: BTreeMap<String, u64>,
}

/// What was special about a file when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// It changed while it was read.
    Unstable,
    /// A JSONL file whose last line is incomplete.
    Torn,
    /// A SQLite database copied through its backup interface; it needs no `-wal`.
    Online,
}

impl Body {
    /// Records the names that a file or symlink has.
    #[must_use]
    pub fn named(mut self, stat: &Stat) -> Self {
        if stat.links > 1 {
            self.link = format!("{}:{}", stat.device, stat.inode);
            // A group implies two, so two need not be recorded.
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
}

impl Entry {
    /// Returns the digest of the content; for an empty file, that of no bytes.
    pub fn digest(&self) -> Option<Digest> {
        match (&self.body.content, self.kind) {
            (Some(content), _) => Some(content.digest),
            (None, Kind::File) => Some(Digest::of(b"")),
            _ => None,
        }
    }

    /// Returns true if both have the same bytes (or target), whatever their metadata.
    pub fn same_content(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.size == other.size
            && self.body.target == other.body.target
            && self.body.content.as_ref().map(|c| c.digest)
                == other.body.content.as_ref().map(|c| c.digest)
    }

    /// Returns true if restoring one or the other gives the same object.
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
