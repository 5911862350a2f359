//! Verification as a job: its scratch directories, and what it found, by file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bdr::base::error::IoContext as _;
use bdr::base::id::SnapshotId;
use bdr::care::verify::{LostFile, VerifyReport};

use crate::app::context::Context;
use crate::app::error::Failure;

/// Creates a scratch directory in one of bdr's own places, after removing earlier leftovers; it is
/// deleted with the value.
pub(crate) fn scratch(own: &std::path::Path) -> Result<tempfile::TempDir, Failure> {
    sweep(own);
    scratch_in(own)
}

/// Creates a scratch directory that is deleted with the value.
pub(crate) fn scratch_in(parent: &std::path::Path) -> Result<tempfile::TempDir, Failure> {
    bdr::disk::fsutil::create_dir_private(parent)?;
    // Its name has the process id, so that leftovers of dead processes can be found.
    let made = tempfile::Builder::new()
        .prefix(&format!("verify-{}-", std::process::id()))
        .tempdir_in(parent);
    let made = made.context("create a directory in", parent)?;
    bdr::disk::fsutil::ensure_mode(made.path(), 0o700).context("open", made.path())?;
    Ok(made)
}

/// Removes scratch directories of processes that did not finish.
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
        // Names without a process id are of an earlier version, which nobody runs any more.
        let process = rest.split_once('-').and_then(|(pid, _)| pid.parse().ok());
        let runs = process.is_some_and(bdr::disk::fsutil::process_runs);
        if !runs && let Some(left) = bdr::disk::fsutil::OwnTree::left_in(parent, &name) {
            // One that cannot be removed is in nobody's way.
            let _ = left.remove();
        }
    }
}

/// Remembers what a check of a part found: that may find damage, but does not prove that there is
/// none elsewhere. If it cannot be remembered, it is said all the same.
pub(crate) fn remember_part(cx: &Context, report: &VerifyReport) {
    let found = report.damage.len() as u64;
    let _ = (cx.journal()).update(|memory| memory.damage = memory.damage.max(found));
}

/// A file that cannot be restored from some snapshots.
pub(crate) struct Lost {
    /// From how many.
    pub(crate) snapshots: u64,
    /// One of them.
    pub(crate) last: SnapshotId,
    /// The newest that has a good one.
    pub(crate) good_in: Option<SnapshotId>,
}

/// Returns each file once, whatever number of snapshots lost it.
pub(crate) fn lost_files<'a>(
    lost: impl IntoIterator<Item = &'a LostFile>,
) -> BTreeMap<PathBuf, Lost> {
    let mut files: BTreeMap<PathBuf, Lost> = BTreeMap::new();
    for one in lost {
        let path = one.path.as_path().to_path_buf();
        let lost = files.entry(path).or_insert(Lost {
            snapshots: 0,
            last: one.snapshot,
            good_in: None,
        });
        lost.snapshots += 1;
        lost.last = one.snapshot;
        lost.good_in = lost.good_in.max(one.other);
    }
    files
}
