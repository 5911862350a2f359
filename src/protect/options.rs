//! How a snapshot is taken.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::model::rules::Root;
use crate::repo::pack::Level;
use crate::repo::snapshot::{PathNote, Trigger};

/// How to take a snapshot.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Re-read and store every byte, trust no cache.
    pub full: bool,
    /// What takes it.
    pub trigger: Trigger,
    /// Given by the user.
    pub label: Option<String>,
    /// Given by the user.
    pub tags: Vec<String>,
    /// Name of the machine.
    pub host: String,
    /// The time of the snapshot, and of the walk.
    pub now: DateTime<Utc>,
    /// How hard to compress.
    pub level: Level,
    /// New bytes that an operand or workspace may bring; `None`: any number.
    pub max_bytes: Option<u64>,
    /// Files that a workspace may have; `None`: any number.
    pub max_files: Option<u64>,
    /// Absolute paths that are never captured, beside the repository's own.
    pub never: Vec<PathBuf>,
    /// Cover what symlinks lead to as well.
    pub follow_links: bool,
    /// Keep large content instead of reading it; `None`: read everything.
    pub staging: Option<StagingOptions>,
    /// Roots that stand somewhere else than the snapshot is to say: where they stand, and what it says.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Directories that were opened for this snapshot and will be closed again: the modes that they are to have in it.
    pub modes: HashMap<PathBuf, u32>,
    /// What is known to be missing: it makes the snapshot partial.
    pub problems: Vec<PathNote>,
    /// What is written to or removed next, and the directories above it; `None`: anything may be. Of other files that no snapshot had yet, only
    /// little is taken.
    pub touched: Option<Arc<HashSet<PathBuf>>>,
}

impl BackupOptions {
    /// Returns the defaults for a trigger.
    pub fn new(trigger: Trigger, now: DateTime<Utc>) -> Self {
        let scheduled = matches!(trigger, Trigger::Backup | Trigger::Init);
        Self {
            full: false,
            trigger,
            label: None,
            tags: Vec::new(),
            host: String::new(),
            now,
            level: if scheduled { Level::Best } else { Level::Fast },
            max_bytes: None,
            max_files: None,
            never: Vec::new(),
            follow_links: false,
            staging: None,
            moved: Vec::new(),
            modes: HashMap::new(),
            problems: Vec::new(),
            touched: None,
        }
    }

    /// Returns the path that the snapshot is to have for a root.
    pub(crate) fn recorded<'a>(&'a self, root: &'a Root) -> &'a Path {
        let moved = self.moved.iter().find(|(stands, _)| *stands == root.path);
        moved.map_or(&root.path, |(_, says)| says)
    }

    /// Returns true if a snapshot that says nothing new may be left out.
    pub(crate) fn may_reuse(&self) -> bool {
        !self.full && !matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }
}

/// When files are kept instead of being read.
#[derive(Debug, Clone)]
pub struct StagingOptions {
    /// Paths of which the command does nothing but remove names.
    pub unlinked: Vec<PathBuf>,
    /// New bytes, or files, below which reading them is quick enough.
    pub from_bytes: u64,
    /// See `from_bytes`.
    pub from_files: usize,
    /// Bytes that may be kept.
    pub max_bytes: u64,
    /// Sets up to this size are packed afterwards; larger ones stay where they are until no snapshot needs them.
    pub pack_bytes: u64,
}

impl StagingOptions {
    /// Returns the defaults: 32 MiB or 4,096 files are read quickly enough, 16 GiB may be kept, 512 MiB are packed.
    pub fn new() -> Self {
        Self {
            unlinked: Vec::new(),
            from_bytes: 32 << 20,
            from_files: 4096,
            max_bytes: 16 << 30,
            pack_bytes: 512 << 20,
        }
    }
}

impl Default for StagingOptions {
    fn default() -> Self {
        Self::new()
    }
}
