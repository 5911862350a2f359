//! Options of a snapshot.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::model::rules::Root;
use crate::repo::pack::Level;
use crate::repo::snapshot::{PathNote, Trigger};

#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Read and store every byte; trust no cache.
    pub full: bool,
    pub trigger: Trigger,
    pub label: Option<String>,
    pub tags: Vec<String>,
    pub host: String,
    /// Time of the snapshot, and of the walk.
    pub now: DateTime<Utc>,
    pub level: Level,
    /// New bytes that an operand or a workspace may add; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// Files that a workspace may have; `None` for no limit.
    pub max_files: Option<u64>,
    /// Absolute paths that are never captured, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    /// Also cover the targets of symlinks.
    pub follow_links: bool,
    /// Keep large content instead of reading it; `None` reads everything.
    pub staging: Option<StagingOptions>,
    /// Roots that are recorded under another path: where they are, and the recorded path.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Directories that bdr opened for this snapshot and will close again, with the modes to
    /// record.
    pub modes: HashMap<PathBuf, u32>,
    /// Known problems from before; they make the snapshot partial.
    pub problems: Vec<PathNote>,
    /// What will be written or removed next, and the directories above it; `None` if anything may
    /// be. Of other files that no snapshot has yet, only a little is captured.
    pub touched: Option<Arc<HashSet<PathBuf>>>,
}

impl BackupOptions {
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

    /// Returns the path to record for a root.
    pub(crate) fn recorded<'a>(&'a self, root: &'a Root) -> &'a Path {
        let moved = self.moved.iter().find(|(stands, _)| *stands == root.path);
        moved.map_or(&root.path, |(_, says)| says)
    }

    /// Returns true if a snapshot without news may be skipped.
    pub(crate) fn may_reuse(&self) -> bool {
        !self.full && !matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }
}

/// When files are kept instead of being read.
#[derive(Debug, Clone)]
pub struct StagingOptions {
    /// Paths of which the command only removes names.
    pub unlinked: Vec<PathBuf>,
    /// With fewer new bytes than this, reading is fast enough.
    pub from_bytes: u64,
    /// With fewer new files than this, reading is fast enough.
    pub from_files: usize,
    pub max_bytes: u64,
    /// Sets up to this size are packed afterwards; larger ones stay until no snapshot needs them.
    pub pack_bytes: u64,
}

impl StagingOptions {
    /// Returns the defaults: reading is fast enough up to 32 MiB or 4,096 files; up to 16 GiB are
    /// kept, up to 512 MiB are packed.
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
