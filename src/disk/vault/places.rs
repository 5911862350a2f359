//! Which repositories use the values of a vault.
//!
//! A copy of a repository has its id, and so its vault. The original may need values that the copy
//! does not. So every repository that adds values is noted with its place. Values are swept if only
//! one place is left, and never while there are several. A place where nothing exists any more
//! counts for more than a year, because a disk in a drawer looks the same.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::base::error::Result;
use crate::base::path::{os_to_bytes, show_bytes};
use crate::disk::fsutil;

/// The name of the list in a vault.
const FILE: &str = "places";
/// Prefix for the line of an empty place: `gone:<seconds since 1970> <inode> <path>`. Earlier
/// versions take it for another place.
const GONE: &str = "gone:";
/// How long a place has to be gone before it no longer counts.
const FORGOTTEN: Duration = Duration::from_secs(400 * 24 * 3600);

/// Returns a line that identifies a repository's directory: another one at the same path is
/// different.
fn line_of(location: &Path) -> String {
    let path = show_bytes(&os_to_bytes(location.as_os_str()));
    format!("{} {path}", fsutil::inode_of(location).unwrap_or(0))
}

fn lines(vault: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(vault.join(FILE)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn write(vault: &Path, lines: &[String]) -> Result<()> {
    fsutil::create_dir_private(vault)?;
    let text = lines.join("\n") + "\n";
    fsutil::write_atomic(&vault.join(FILE), text.as_bytes(), 0o600)
}

/// Returns true if nothing is left of a place, as far as we can tell.
fn is_gone(line: &str) -> bool {
    let Some((number, path)) = line.split_once(' ') else {
        return false;
    };
    // An escaped name cannot be looked up.
    if path.contains('\\') {
        return false;
    }
    let found = fsutil::inode_of(Path::new(path));
    found.is_none_or(|inode| number != "0" && inode.to_string() != number)
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
    // It moved: the same directory, and its old place is empty.
    let inode = own.split(' ').next().unwrap_or_default();
    all.retain(|line| match line.split_once(' ') {
        Some((number, path)) => number != inode || number == "0" || Path::new(path).exists(),
        None => false,
    });
    all.push(own);
    write(vault, &all)
}

/// Returns true if only the repository at `location` uses the values. Notes since when others are
/// gone.
///
/// # Errors
/// The list cannot be written.
pub(super) fn is_alone(vault: &Path, location: &Path, now: SystemTime) -> Result<bool> {
    let own = line_of(location);
    let before = lines(vault);
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut all = Vec::with_capacity(before.len());
    for line in &before {
        let (since, place) = match line
            .strip_prefix(GONE)
            .and_then(|rest| rest.split_once(' '))
        {
            Some((since, place)) => (since.parse().ok().map(Duration::from_secs), place),
            None => (None, line.as_str()),
        };
        if place == own || !is_gone(place) {
            all.push(place.to_owned());
            continue;
        }
        // Ignore a time from a clock that was ahead.
        let since = since.filter(|since| *since <= now).unwrap_or(now);
        if now - since < FORGOTTEN {
            all.push(format!("{GONE}{} {place}", since.as_secs()));
        }
    }
    if all != before {
        write(vault, &all)?;
    }
    Ok(all == [own])
}
