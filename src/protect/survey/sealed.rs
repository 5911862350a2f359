//! What of a backup was sealed, in numbers and kinds: never a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::manifest::Sealed;
use crate::privacy::RECORD;

/// What of the files of a snapshot was sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedSummary {
    /// Files that are stored with placeholders for some values.
    pub files: u64,
    /// Places that were sealed in them, records aside.
    pub values: u64,
    /// Records of logs that were left out.
    pub records: u64,
    /// Files of which only metadata is stored.
    pub whole: Vec<PathBuf>,
    /// Kinds of what was found, and how often.
    pub kinds: BTreeMap<String, u64>,
    /// What the repository does not have, not even in part: file and kind, for each file without content and each log without some record.
    pub excluded: Vec<(PathBuf, String)>,
}

impl SealedSummary {
    pub(crate) fn add(&mut self, path: &Path, sealed: &Sealed) {
        for (kind, number) in &sealed.kinds {
            *self.kinds.entry(kind.clone()).or_default() += number;
        }
        let mut exclude = |kind: &str| self.excluded.push((path.to_path_buf(), kind.to_owned()));
        if sealed.whole {
            sealed.kinds.keys().for_each(|kind| exclude(kind));
            self.whole.push(path.to_path_buf());
            return;
        }
        if sealed.kinds.contains_key(RECORD) {
            exclude(RECORD);
        }
        self.files += 1;
        let records = sealed.kinds.get(RECORD).copied().unwrap_or(0);
        self.records += records;
        self.values += sealed.kinds.values().sum::<u64>() - records;
    }

    /// Returns true if nothing was sealed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
