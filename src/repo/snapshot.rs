//! The snapshot record: the commit point. The members are those of `docs/format.md` §2.2.

use std::collections::HashSet;

/// The tag of imported snapshots; the label says which backup it was.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Its packs and manifests need nothing older.
    Full,
    /// It refers to older packs.
    Incremental,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// `bdr backup`, typed or scheduled.
    Backup,
    /// The first backup, by `bdr init`.
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
    pub const ALL: [Self; 6] = [
        Self::Backup,
        Self::Init,
        Self::Guard,
        Self::Undo,
        Self::Redo,
        Self::Restore,
    ];

    /// Returns the word for records and for people.
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
    /// Always 1.
    pub version: u32,
    pub repository: crate::base::id::Id,
    pub id: SnapshotId,
    /// Orders snapshots, together with the id; the time never does.
    pub seq: u64,
    /// When it began.
    pub time: DateTime<Utc>,
    pub kind: SnapshotKind,
    pub trigger: Trigger,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Something that belongs to it could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PathNote>,
    pub roots: Vec<RootRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackRef>,
    pub stats: Stats,
    /// Who made it, if known. The last member, written by [`super::Repository::commit`].
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
    /// The backup before it, if known, so that a missing record is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Named>,
}

/// A snapshot by number and id, like its file name. Sorts as snapshots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    pub seq: u64,
    pub id: SnapshotId,
}

impl Named {
    pub fn file_name(self) -> String {
        layout::snapshot(self.seq, self.id)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    pub id: Digest,
    pub bytes: u64,
}

/// A path and a remark about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathNote {
    pub path: RawName,
    #[serde(deserialize_with = "crate::base::path::deserialize_text")]
    pub reason: String,
}

impl PathNote {
    pub fn new(path: impl Into<std::ffi::OsString>, reason: impl Into<String>) -> Self {
        Self {
            path: RawName(path.into()),
            reason: reason.into(),
        }
    }

    /// Returns the reason, if it is one of the known ones.
    pub fn why(&self) -> Reason {
        Reason::of(&self.reason)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stats {
    /// Regular files in all roots.
    pub files: u64,
    pub bytes: u64,
    /// Bytes of the packs and manifests written for it.
    pub stored_bytes: u64,
    /// From the beginning of the walk to the commit, in milliseconds.
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootRecord {
    pub name: RootName,
    /// Absolute original path.
    pub path: AbsolutePath,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    #[serde(default)]
    pub files: u64,
    #[serde(default)]
    pub bytes: u64,
}

impl RootRecord {
    /// Returns the places that are roots of their own, as paths below the given place of this root.
    pub fn apart(&self, base: &std::path::Path) -> Vec<std::path::PathBuf> {
        let left_out = self.left_out.iter();
        let apart = left_out.filter(|left_out| left_out.why() == Reason::Elsewhere);
        apart.map(|left_out| left_out.path.to_path(base)).collect()
    }
}

/// A path below a root that was left out: unknown, not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub path: RepoPath,
    /// One of `rebuildable`, `excluded`, `over the budget`, `bdr's own`, `a root of its own`,
    /// `unreadable: …`.
    #[serde(deserialize_with = "crate::base::path::deserialize_text")]
    pub reason: String,
    /// Its inode, in case it appears under another name; 0 if unknown.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub inode: u64,
}

impl LeftOut {
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
    pub fn file_name(&self) -> String {
        layout::snapshot(self.seq, self.id)
    }

    /// Returns true for a backup, as opposed to a snapshot before an operation.
    pub fn is_backup(&self) -> bool {
        matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }

    pub fn root(&self, name: &str) -> Option<&RootRecord> {
        self.roots.iter().find(|root| root.name == name)
    }

    pub fn named(&self) -> Named {
        Named {
            seq: self.seq,
            id: self.id,
        }
    }

    /// Returns its place in the order of snapshots.
    pub fn order(&self) -> (u64, SnapshotId) {
        (self.seq, self.id)
    }
}

/// The part of a root record that replaces its base.
pub struct OverBase<'a> {
    changed: HashSet<&'a RepoPath>,
    removed: &'a [RepoPath],
}

impl OverBase<'_> {
    /// Returns true if the base's entry at `path` does not count.
    pub fn hides(&self, path: &RepoPath) -> bool {
        self.changed.contains(path) || self.removed.iter().any(|gone| path.starts_with(gone))
    }
}

impl RootRecord {
    /// Returns what does not count in its base.
    pub fn over_base(&self) -> OverBase<'_> {
        OverBase {
            changed: self.changed.iter().map(|entry| &entry.path).collect(),
            removed: &self.removed,
        }
    }
}
