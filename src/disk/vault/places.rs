//! Which repositories the values of a vault are for.
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
/// Begins the line of a place where nothing is: `gone:<seconds since 1970> <inode> <path>`. Earlier versions take it for another place.
const GONE: &str = "gone:";
/// So long a place has to be gone until it counts no more.
const FORGOTTEN: Duration = Duration::from_secs(400 * 24 * 3600);

/// Returns what says which directory a repository is: one at the same path need not be the same.
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
    // A name that is shown otherwise than it is cannot be looked for.
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
    // Moved: the same directory, and its old place is empty.
    let inode = own.split(' ').next().unwrap_or_default();
    all.retain(|line| match line.split_once(' ') {
        Some((number, path)) => number != inode || number == "0" || Path::new(path).exists(),
        None => false,
    });
    all.push(own);
    write(vault, &all)
}

/// Returns true if the values are those of the repository at `location`, and of no other. Notes since when others are gone.
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
        // A clock that was ahead says nothing.
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
