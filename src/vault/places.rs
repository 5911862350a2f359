//! Which repositories the values of a vault are for.
//!
//! A copy of a repository has its id, and so its vault; what the copy does not need the original may. Whoever adds values is noted with its
//! place; values are swept for the one place that was ever noted, and for nobody where there are several.

use std::path::Path;

use crate::error::Result;
use crate::fsutil;
use crate::path::{os_to_bytes, show_bytes};

/// The name of the list in a vault.
const FILE: &str = "places";

/// Returns what says which directory a repository is: one at the same path need not be the same.
fn line_of(location: &Path) -> String {
    let path = show_bytes(&os_to_bytes(location.as_os_str()));
    format!("{} {path}", fsutil::inode_of(location).unwrap_or(0))
}

fn lines(vault: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(vault.join(FILE)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Notes that the repository at `location` adds values.
///
/// # Errors
/// The list cannot be written.
pub(super) fn note(vault: &Path, location: &Path) -> Result<()> {
    let own = line_of(location);
    let mut all = lines(vault);
    if all.contains(&own) {
        return Ok(());
    }
    // Moved: the same directory, and nothing is where it was.
    let inode = own.split(' ').next().unwrap_or_default();
    all.retain(|line| match line.split_once(' ') {
        Some((number, path)) => number != inode || number == "0" || Path::new(path).exists(),
        None => false,
    });
    all.push(own);
    fsutil::create_dir_private(vault)?;
    fsutil::write_atomic(&vault.join(FILE), (all.join("\n") + "\n").as_bytes(), 0o600)
}

/// Returns true if the values are those of the repository at `location`, and of no other.
pub(super) fn is_alone(vault: &Path, location: &Path) -> bool {
    lines(vault) == [line_of(location)]
}
