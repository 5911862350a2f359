//! Backups in figures, by the names that the brief's specification and the server that was shipped gave them.

use bdr::repo::Repository;
use bdr::repo::snapshot::{Snapshot, SnapshotKind};
use bdr::repo::summaries::Summary;
use serde_json::{Value, json};

use super::super::call::backup_id;
use crate::app::context::Context;
use crate::ui::when;

pub(super) fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Incremental => "incremental",
    }
}

/// Returns how much smaller it is, in percent.
pub(super) fn ratio(bytes: u64, stored: u64) -> u64 {
    match bytes {
        0 => 0,
        bytes => bytes.saturating_sub(stored) * 100 / bytes,
    }
}

/// Returns what was backed up and into how many bytes. `stored` are those that were added.
fn contents(cx: &Context, summary: &Summary, stored: u64) -> Value {
    let sources: Vec<String> = summary
        .roots
        .iter()
        .map(|root| cx.shown_absolute(root.path.as_path()))
        .collect();
    let mut contents = json!({
        "type": kind(summary.kind),
        "created": when::utc(summary.time),
        "sources": sources,
        "fileCount": summary.stats.files,
        "totalSize": summary.stats.bytes,
        "compressedSize": stored,
        "compressionRatio": ratio(summary.stats.bytes, stored),
    });
    if let Some(label) = &summary.label {
        contents["label"] = label.clone().into();
    }
    contents
}

/// Returns a backup as a list shows it.
pub(super) fn backup(cx: &Context, summary: &Summary) -> Value {
    let mut one = contents(cx, summary, summary.stats.stored_bytes);
    one["backupId"] = backup_id(summary.id, summary.time).into();
    one["status"] = match summary.partial || summary.problems > 0 {
        true => "partial".into(),
        false => "completed".into(),
    };
    one
}

/// Returns all that is known of a backup. The checksum is that of its record: that has the digests of its packs and listings, and they those of the
/// files.
pub(super) fn metadata(cx: &Context, repo: &Repository, snapshot: &Snapshot, stored: u64) -> Value {
    let mut metadata = contents(cx, &Summary::from(snapshot), stored);
    if let Ok(digest) = repo.record_digest(&snapshot.file_name()) {
        metadata["checksum"] = digest.to_string().into();
    }
    metadata
}

/// What all backups hold and take.
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

/// Returns the figures of the server that was shipped.
pub(super) fn statistics(backups: &[&Summary]) -> Value {
    let totals = totals(backups);
    json!({
        "totalBackups": backups.len(),
        "totalSize": totals.bytes,
        "totalCompressedSize": totals.stored,
        "fullBackups": totals.full,
        "incrementalBackups": backups.len() - totals.full,
        "compressionRatio": ratio(totals.bytes, totals.stored),
        "oldestBackup": backups.first().map(|summary| when::utc(summary.time)),
        "newestBackup": backups.last().map(|summary| when::utc(summary.time)),
    })
}

/// Returns the figures that the specification wants of a list.
pub(super) fn storage_stats(backups: &[&Summary]) -> Value {
    let totals = totals(backups);
    json!({
        "totalBackups": backups.len(),
        "totalStorageUsed": totals.stored,
        "totalStorageUncompressed": totals.bytes,
        "averageCompressionRatio": ratio(totals.bytes, totals.stored),
    })
}
