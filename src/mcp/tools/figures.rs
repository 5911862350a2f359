//! Statistics of backups, under the names of the specification and of the earlier server.

use bdr::repo::Repository;
use bdr::repo::snapshot::{Snapshot, SnapshotKind};
use bdr::repo::summaries::Summary;
use serde::Serialize;

use super::super::call::backup_id;
use crate::app::context::Context;
use crate::ui::when;

pub(super) fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Incremental => "incremental",
    }
}

/// Returns the space that compression saved, in percent.
pub(super) fn ratio(bytes: u64, stored: u64) -> u64 {
    match bytes {
        0 => 0,
        bytes => bytes.saturating_sub(stored) * 100 / bytes,
    }
}

/// The sizes of a backup: of its files, and in the repository.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Contents {
    #[serde(rename = "type")]
    kind: &'static str,
    created: String,
    sources: Vec<String>,
    file_count: u64,
    total_size: u64,
    /// Bytes added to the repository.
    compressed_size: u64,
    /// Space saved, in percent.
    compression_ratio: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl Contents {
    fn new(cx: &Context, summary: &Summary, stored: u64) -> Self {
        let roots = summary.roots.iter();
        Self {
            kind: kind(summary.kind),
            created: when::utc(summary.time),
            sources: roots
                .map(|root| cx.shown_absolute(root.path.as_path()))
                .collect(),
            file_count: summary.stats.files,
            total_size: summary.stats.bytes,
            compressed_size: stored,
            compression_ratio: ratio(summary.stats.bytes, stored),
            label: summary.label.clone(),
        }
    }
}

/// A backup in a list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Backup {
    #[serde(flatten)]
    contents: Contents,
    backup_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Metadata>,
}

impl Backup {
    pub(super) fn new(cx: &Context, summary: &Summary) -> Self {
        let is_partial = summary.partial || summary.problems > 0;
        Self {
            contents: Contents::new(cx, summary, summary.stats.stored_bytes),
            backup_id: backup_id(summary.id, summary.time),
            status: if is_partial { "partial" } else { "completed" },
            metadata: None,
        }
    }
}

/// A backup with all details.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(flatten)]
    contents: Contents,
    /// The digest of its record. The record has the digests of packs and listings, and these have
    /// those of the files: it covers everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

impl Metadata {
    pub(super) fn new(cx: &Context, repo: &Repository, snapshot: &Snapshot, stored: u64) -> Self {
        let digest = repo.record_digest(&snapshot.file_name()).ok();
        Self {
            contents: Contents::new(cx, &Summary::from(snapshot), stored),
            checksum: digest.map(|digest| digest.to_string()),
        }
    }
}

/// The sums of all backups.
struct Totals {
    bytes: u64,
    stored: u64,
    full: usize,
}

fn totals(backups: &[&Summary]) -> Totals {
    Totals {
        bytes: backups.iter().map(|summary| summary.stats.bytes).sum(),
        stored: backups
            .iter()
            .map(|summary| summary.stats.stored_bytes)
            .sum(),
        full: backups
            .iter()
            .filter(|summary| summary.kind == SnapshotKind::Full)
            .count(),
    }
}

/// The statistics of the earlier server.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    total_backups: usize,
    pub(super) total_size: u64,
    pub(super) total_compressed_size: u64,
    full_backups: usize,
    incremental_backups: usize,
    pub(super) compression_ratio: u64,
    pub(super) oldest_backup: Option<String>,
    pub(super) newest_backup: Option<String>,
}

impl Statistics {
    pub(super) fn of(backups: &[&Summary]) -> Self {
        let totals = totals(backups);
        Self {
            total_backups: backups.len(),
            total_size: totals.bytes,
            total_compressed_size: totals.stored,
            full_backups: totals.full,
            incremental_backups: backups.len() - totals.full,
            compression_ratio: ratio(totals.bytes, totals.stored),
            oldest_backup: backups.first().map(|summary| when::utc(summary.time)),
            newest_backup: backups.last().map(|summary| when::utc(summary.time)),
        }
    }
}

/// The statistics that the specification asks for with a list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageStats {
    total_backups: usize,
    total_storage_used: u64,
    total_storage_uncompressed: u64,
    average_compression_ratio: u64,
}

impl StorageStats {
    pub(super) fn of(backups: &[&Summary]) -> Self {
        let totals = totals(backups);
        Self {
            total_backups: backups.len(),
            total_storage_used: totals.stored,
            total_storage_uncompressed: totals.bytes,
            average_compression_ratio: ratio(totals.bytes, totals.stored),
        }
    }
}
