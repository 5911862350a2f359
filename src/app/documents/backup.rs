//! `backup`.

use std::collections::BTreeMap;

use bdr::protect::backup::{BackupReport, SealedSummary};
use serde::Serialize;

use super::files::snapshot_kind;
use super::millis;
use super::paths::{At, Note, notes};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BackupDocument {
    snapshot: String,
    kind: &'static str,
    reused: bool,
    files: u64,
    bytes: u64,
    added: u64,
    changed: u64,
    removed: u64,
    read_bytes: u64,
    stored_bytes: u64,
    not_stored: u64,
    problems: Vec<Note>,
    unstable: Vec<Note>,
    left_out: Vec<Note>,
    mounts: Vec<At>,
    sealed: SealedDocument,
    elapsed_ms: u64,
}

/// What is stored without its secret values.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SealedDocument {
    files: u64,
    values: u64,
    records: u64,
    whole: Vec<At>,
    kinds: BTreeMap<String, u64>,
}

impl SealedDocument {
    pub(crate) fn new(sealed: &SealedSummary) -> Self {
        Self {
            files: sealed.files,
            values: sealed.values,
            records: sealed.records,
            whole: sealed.whole.iter().map(|path| At::new(path)).collect(),
            kinds: sealed.kinds.clone(),
        }
    }
}

impl BackupDocument {
    pub(crate) fn new(report: &BackupReport) -> Self {
        Self {
            snapshot: report.snapshot.id.to_string(),
            kind: snapshot_kind(report.snapshot.kind),
            reused: report.reused,
            files: report.snapshot.stats.files,
            bytes: report.snapshot.stats.bytes,
            added: report.added,
            changed: report.changed,
            removed: report.removed,
            read_bytes: report.read_bytes,
            stored_bytes: report.stored_bytes,
            not_stored: report.not_stored,
            problems: notes(&report.problems),
            unstable: notes(&report.unstable),
            left_out: notes(&report.left_out),
            mounts: report.mounts.iter().map(|path| At::new(path)).collect(),
            sealed: SealedDocument::new(&report.sealed),
            elapsed_ms: millis(report.elapsed),
        }
    }
}
