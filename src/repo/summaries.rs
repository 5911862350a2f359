//! What a list of snapshots shows, without reading each record, which has every change since its
//! base.
//!
//! Derived: one file in the cache with a line per snapshot, completed when one is missing. Records
//! are never edited, so a line holds as long as its record keeps size and time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Repository;
use crate::base::error::Result;
use crate::base::id::SnapshotId;
use crate::base::path::{AbsolutePath, RootName};
use crate::disk::fsutil;
use crate::disk::storage::Look;
use crate::disk::vault::KeyName;
use crate::repo::layout;
use crate::repo::snapshot::{Named, Snapshot, SnapshotKind, Stats, Trigger};

/// A snapshot without its listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub id: SnapshotId,
    /// Orders snapshots, together with the id.
    pub seq: u64,
    /// When it began.
    pub time: DateTime<Utc>,
    pub kind: SnapshotKind,
    pub trigger: Trigger,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// As they were when it was taken; a mark may replace them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default)]
    pub host: String,
    /// Something could not be read.
    #[serde(default)]
    pub partial: bool,
    /// How many paths could not be read.
    #[serde(default)]
    pub problems: u64,
    pub stats: Stats,
    pub roots: Vec<RootSummary>,
    /// The key that bound it. A line without this member is from an older bdr, and its record is
    /// read again.
    #[serde(deserialize_with = "Option::deserialize")]
    pub key: Option<KeyName>,
    /// Size and time of the record when it was read: a replaced record is read again.
    #[serde(default)]
    look: Option<Look>,
    /// The backup before it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Named>,
}

/// A root of a snapshot, without its listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSummary {
    pub name: RootName,
    /// Absolute original path.
    pub path: AbsolutePath,
    pub files: u64,
    pub bytes: u64,
    /// Number of paths that rules or budget left out.
    #[serde(default)]
    pub left_out: u64,
}

impl Summary {
    pub fn file_name(&self) -> String {
        layout::snapshot(self.seq, self.id)
    }

    /// Returns true for what `bdr backup` and `bdr init` take.
    pub fn is_backup(&self) -> bool {
        matches!(self.trigger, Trigger::Backup | Trigger::Init)
    }
}

impl From<&Snapshot> for Summary {
    fn from(snapshot: &Snapshot) -> Self {
        let roots = snapshot.roots.iter().map(|root| RootSummary {
            name: root.name.clone(),
            path: root.path.clone(),
            files: root.files,
            bytes: root.bytes,
            left_out: root.left_out.len() as u64,
        });
        Self {
            id: snapshot.id,
            seq: snapshot.seq,
            time: snapshot.time,
            kind: snapshot.kind,
            trigger: snapshot.trigger,
            label: snapshot.label.clone(),
            tags: snapshot.tags.clone(),
            host: snapshot.host.clone(),
            partial: snapshot.partial,
            problems: snapshot.problems.len() as u64,
            stats: snapshot.stats,
            roots: roots.collect(),
            key: snapshot.bound.map(|bound| bound.key),
            look: None,
            last_backup: snapshot.last_backup,
        }
    }
}

impl Repository {
    /// Returns the summaries of all snapshots, oldest first; unreadable records are in
    /// [`Repository::unreadable`].
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn summaries(&self) -> Result<Vec<Summary>> {
        let ids = self.snapshot_order()?;
        let file = self.cache().join("summaries.jsonl");
        let text = fsutil::read_derived(&file).unwrap_or_default();
        let mut known: HashMap<SnapshotId, Summary> = HashMap::with_capacity(ids.len());
        let mut lines = 0;
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            lines += 1;
            if let Ok(summary) = serde_json::from_slice::<Summary>(line) {
                known.insert(summary.id, summary);
            }
        }
        let mut new = Vec::new();
        let mut summaries = Vec::with_capacity(ids.len());
        for (seq, id) in &ids {
            let name = layout::snapshot(*seq, *id);
            let look = || self.storage.look(&name).ok().flatten();
            let found = known.remove(id).filter(|summary| summary.seq == *seq);
            let found = found.filter(|summary| summary.look.is_none_or(|was| look() == Some(was)));
            let summary = found.or_else(|| {
                // Before the reading, so that a record replaced meanwhile is read again next time.
                let look = look().filter(|look| look.time.is_some());
                let mut summary = Summary::from(&self.read_listed(&name).ok()??);
                summary.look = look;
                line_of(&mut new, &summary);
                Some(summary)
            });
            summaries.extend(summary);
        }
        let named = |summary: &Summary| Named {
            seq: summary.seq,
            id: summary.id,
        };
        let last = ids.last().map(|(seq, id)| Named { seq: *seq, id: *id });
        let last_backup = summaries.iter().rev().find(|s| s.is_backup()).map(named);
        let before = summaries.iter().filter_map(|summary| summary.last_backup);
        self.notice_missing(last, last_backup, before);
        // Derived: a failure only costs time.
        if lines > 2 * ids.len() + 100 {
            let mut all = Vec::new();
            summaries
                .iter()
                .for_each(|summary| line_of(&mut all, summary));
            let _ = fsutil::write_derived(&file, &all);
        } else if !new.is_empty() && fsutil::create_dir_private(self.cache()).is_ok() {
            let _ = fsutil::append_derived(&file, &new);
        }
        Ok(summaries)
    }
}

fn line_of(out: &mut Vec<u8>, summary: &Summary) {
    // A line break first as well: a line that a crash cut off must not spoil this one.
    out.push(b'\n');
    out.extend(serde_json::to_vec(summary).unwrap_or_default());
    out.push(b'\n');
}
