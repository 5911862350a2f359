//! Verification as a job, and its scratch directories.

use bdr::base::error::IoContext as _;
use bdr::care::verify::{Damage, LostFile, VerifyReport};
use bdr::repo::origin::Origin;
use serde_json::{Value, json};

use crate::app::error::Failure;
use crate::ui::{self};

/// Makes a scratch directory in a place of bdr's own, where what earlier ones left is removed; it goes away with the value.
pub(crate) fn scratch(own: &std::path::Path) -> Result<tempfile::TempDir, Failure> {
    sweep(own);
    scratch_in(own)
}

/// Makes a scratch directory that goes away with the value.
pub(crate) fn scratch_in(parent: &std::path::Path) -> Result<tempfile::TempDir, Failure> {
    bdr::disk::fsutil::create_dir_private(parent)?;
    // Whose it is: one of a process that is gone is left over.
    let made = tempfile::Builder::new()
        .prefix(&format!("verify-{}-", std::process::id()))
        .tempdir_in(parent);
    let made = made.context("create a directory in", parent)?;
    bdr::disk::fsutil::ensure_mode(made.path(), 0o700).context("open", made.path())?;
    Ok(made)
}

/// Removes scratch directories of processes that did not come to their end.
pub(crate) fn sweep(parent: &std::path::Path) {
    for entry in bdr::disk::fsutil::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("verify-")) else {
            continue;
        };
        // Without a number they are of an earlier version, which nobody runs any more.
        let process = rest.split_once('-').and_then(|(pid, _)| pid.parse().ok());
        let runs = process.is_some_and(bdr::disk::fsutil::process_runs);
        if !runs && let Some(left) = bdr::disk::fsutil::OwnTree::left_in(parent, &name) {
            // What cannot be removed is in nobody's way.
            let _ = left.remove();
        }
    }
}

pub(crate) fn data(report: &VerifyReport, level: &str) -> Value {
    let lost = |lost: &LostFile| {
        let rest = json!({
            "snapshot": lost.snapshot.to_string(),
            "good_in": lost.other.map(|id| id.to_string()),
        });
        ui::json::with_path(lost.path.as_path(), rest)
    };
    let damage = |damage: &Damage| {
        json!({
            "name": damage.name,
            "reason": damage.reason,
            "lost": damage.lost.iter().map(lost).collect::<Vec<_>>(),
        })
    };
    json!({
        "level": level,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "healed": report.healed,
        "made_here": {
            "key": match (&report.key_refused, report.has_key) {
                (Some(_), _) => "refused",
                (None, true) => "here",
                (None, false) => "none",
            },
            "key_refused": report.key_refused,
            "snapshots": report.origins.iter().filter(|(_, o)| *o == Origin::Here).map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
            "others": report.origins.iter().filter(|(_, o)| *o != Origin::Here).map(|(id, o)| json!({"id": id.to_string(), "origin": o.word()})).collect::<Vec<_>>(),
        },
        "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}
