//! What was sealed in a backup, in numbers and kinds: never a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::manifest::Sealed;
use crate::privacy::RECORD;

/// What was sealed in the files of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedSummary {
    /// Files that are stored with placeholders for some values.
    pub files: u64,
    /// Places sealed in them, without records of logs.
    pub values: u64,
    /// Records of logs that were left out.
    pub records: u64,
    /// Files stored as metadata only.
    pub whole: Vec<PathBuf>,
    /// Kinds of findings, with their counts.
    pub kinds: BTreeMap<String, u64>,
    /// What the repository lacks entirely: file and kind, for each file without content and each
    /// log without some records.
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

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
