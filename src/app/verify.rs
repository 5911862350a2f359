//! Verification as a job, and its scratch directories.

use bdr::base::error::IoContext as _;

use crate::app::error::Failure;

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
