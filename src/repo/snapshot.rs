//! The snapshot record: the commit point. Members are those of `docs/format.md` §2.2.

use std::collections::HashSet;

/// The tag of what was imported; with the label it says which backup it was.
pub const IMPORTED: &str = "backup-dr";

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::id::{Digest, SnapshotId};
use crate::base::path::{AbsolutePath, RawName, RepoPath, RootName};
use crate::disk::vault::{Bound, BoundKind};
use crate::model::manifest::Entry;
use crate::model::reason::Reason;
use crate::model::rules::Rules;
use crate::repo::keyframe::check_entries;
use crate::repo::layout;
use crate::repo::record::{Record, check_counts, check_id, check_moment, check_sum};

/// What a snapshot needs to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Its packs and manifests need nothing older.
    Full,
    /// It refers to older packs.
    Incremental,
}

/// What took the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// `bdr backup`, typed or scheduled.
    Backup,
    /// The first one.
    Init,
    /// Before a guarded command.
    Guard,
    /// Before an undo.
    Undo,
    /// Before a redo.
    Redo,
    /// Before a restore.
    Restore,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Backup,
        Self::Init,
        Self::Guard,
        Self::Undo,
        Self::Redo,
        Self::Restore,
    ];

    /// Returns the word used in records and for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Init => "init",
            Self::Guard => "guard",
            Self::Undo => "undo",
            Self::Redo => "redo",
            Self::Restore => "restore",
        }
    }
}

/// Immutable record of one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// 1.
    pub version: u32,
    /// The repository that it belongs to.
    pub repository: crate::base::id::Id,
    /// Its name.
    pub id: SnapshotId,
    /// Orders snapshots, with the id; never the time.
    pub seq: u64,
    /// When it was begun.
    pub time: DateTime<Utc>,
    /// Whether it stands alone.
    pub kind: SnapshotKind,
    /// What took it.
    pub trigger: Trigger,
    /// Given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Given by the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Name of the machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Something that belongs to it could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PathNote>,
    /// What it covers.
    pub roots: Vec<RootRecord>,
    /// Packs written for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackRef>,
    /// Counts.
    pub stats: Stats,
    /// Who made it, where it says so. Written as the last member, by [`super::Repository::commit`].
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
    /// The backup before it, where that is known: its record would be missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Named>,
}

/// A snapshot by number and id, as its file is called. Sorted as snapshots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Its number.
    pub seq: u64,
    /// Its id.
    pub id: SnapshotId,
}

impl Named {
    /// Returns the name of its file in the repository.
    pub fn file_name(self) -> String {
        layout::snapshot(self.seq, self.id)
    }
}

/// A pack and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// Digest of the file.
    pub id: Digest,
    /// Its size.
    pub bytes: u64,
}

/// A path and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathNote {
    /// Absolute path.
    pub path: RawName,
    /// Why.
    #[serde(deserialize_with = "crate::base::path::deserialize_text")]
    pub reason: String,
}

impl PathNote {
    /// Returns what is to be said of an absolute path.
    pub fn new(path: impl Into<std::ffi::OsString>, reason: impl Into<String>) -> Self {
        Self {
            path: RawName(path.into()),
            reason: reason.into(),
        }
    }

    /// Returns the reason, where it is one of those that are told apart.
    pub fn why(&self) -> Reason {
        Reason::of(&self.reason)
    }
}

/// Counts of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stats {
    /// Regular files in all roots.
    pub files: u64,
    /// Their total size.
    pub bytes: u64,
    /// Bytes of the packs and manifests written for it.
    pub stored_bytes: u64,
    /// From the first look to the commit, milliseconds.
    pub elapsed_ms: u64,
}

/// One root of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootRecord {
    /// Unique in the snapshot.
    pub name: RootName,
    /// Absolute original path.
    pub path: AbsolutePath,
    /// What belongs to it.
    #[serde(default, skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
    /// The key frame; `None` if the root did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// Entries that replace or add to those of the base, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Entry>,
    /// Paths of the base that are gone, each with everything below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RepoPath>,
    /// What the rules or the budget left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Regular files.
    #[serde(default)]
    pub files: u64,
    /// Their total size.
    #[serde(default)]
    pub bytes: u64,
}

impl RootRecord {
    /// Returns what was left to roots of its own, as paths below where the root stands.
    pub fn apart(&self, base: &std::path::Path) -> Vec<std::path::PathBuf> {
        let left_out = self.left_out.iter();
        let apart = left_out.filter(|left_out| left_out.why() == Reason::Elsewhere);
        apart.map(|left_out| left_out.path.to_path(base)).collect()
    }
}

/// A path below a root that was left out: unknown, not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where.
    pub path: RepoPath,
    /// `rebuildable`, `excluded`, `over the budget`, `bdr's own`, `a root of its own`, `unreadable: …`.
    #[serde(deserialize_with = "crate::base::path::deserialize_text")]
    pub reason: String,
    /// Number of the file, 0 if it is not known: it may turn up under another name.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub inode: u64,
}

impl LeftOut {
    /// Returns the reason.
    pub fn why(&self) -> Reason {
        Reason::of(&self.reason)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Record for Snapshot {
    const KIND: Option<BoundKind> = Some(BoundKind::Snapshot);

    fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    fn check(&self) -> Result<(), String> {
        let stats = &self.stats;
        check_id(self.id)?;
        check_moment(self.time)?;
        check_counts(&[
            ("seq", self.seq),
            ("stats.files", stats.files),
            ("stats.bytes", stats.bytes),
            ("stats.stored_bytes", stats.stored_bytes),
            ("stats.elapsed_ms", stats.elapsed_ms),
        ])?;
        for root in &self.roots {
            check_counts(&[("files", root.files), ("bytes", root.bytes)])?;
            check_entries(&root.changed)?;
        }
        let stored = self.packs.iter().map(|pack| pack.bytes);
        check_sum("packs", stored)
    }
}

impl Snapshot {
    /// Returns the name of its file in the repository.
    pub fn file_name(&self) -> String {
        layout::snapshot(self.seq, self.id)
    }

    /// Returns true if somebody took it to keep: not for what was about to happen.
    pub fn is_backup(&self) -> bool {
        matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }

    /// Returns the root with a name.
    pub fn root(&self, name: &str) -> Option<&RootRecord> {
        self.roots.iter().find(|root| root.name == name)
    }

    /// Returns its number and id.
    pub fn named(&self) -> Named {
        Named {
            seq: self.seq,
            id: self.id,
        }
    }

    /// Returns the position in the order of snapshots.
    pub fn order(&self) -> (u64, SnapshotId) {
        (self.seq, self.id)
    }
}

/// What a root says in place of its base.
pub struct OverBase<'a> {
    changed: HashSet<&'a RepoPath>,
    removed: &'a [RepoPath],
}

impl OverBase<'_> {
    /// Returns true if the entry of the base at `path` does not count.
    pub fn hides(&self, path: &RepoPath) -> bool {
        self.changed.contains(path) || self.removed.iter().any(|gone| path.starts_with(gone))
    }
}

impl RootRecord {
    /// Returns what of its base does not count.
    pub fn over_base(&self) -> OverBase<'_> {
        OverBase {
            changed: self.changed.iter().map(|entry| &entry.path).collect(),
            removed: &self.removed,
        }
    }
}
