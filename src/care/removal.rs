//! Deletes bdr's data on this machine for good.
//!
//! Nothing is removed only because of its place. A repository has a `format.json` of bdr, a
//! lifeboat is this user's alone and says whose it is, and everywhere only names that bdr gives are
//! removed. A file that somebody put among them stays, with its directory.

use std::path::Path;
use std::time::Duration;

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::Id;
use crate::disk::fsutil::{self, OwnTree};
use crate::disk::storage::is_part;
use crate::repo::Repository;

/// How long to wait for other writers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Names in the state directory, besides the journals of repositories and the vault.
const STATE: [&str; 6] = [
    "hooks",
    "mcp",
    "mcp.token",
    "dashboard.html",
    "tick.xml",
    "crontab.old",
];

/// Returns the bytes of all files below a path.
pub fn bytes_in(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else {
        return 0;
    };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fsutil::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_in(&entry.path())).sum()
}

/// Deletes a repository, with its content in staging areas. Returns names that stay because they
/// are not bdr's.
///
/// Its lifeboat goes first; otherwise the next call of bdr would restore it. `format.json` goes
/// last, so that an interrupted deletion can be continued.
///
/// # Errors
/// Somebody writes to it, or something in it cannot be removed.
pub fn repository(repo: &Repository) -> Result<Vec<String>> {
    let Some(local) = repo.storage().local() else {
        return Err(Error::invalid(
            "the repository is not a directory of this machine",
            None,
        ));
    };
    let dir = local.directory().to_path_buf();
    repo.alone(PATIENCE, || {
        let places = repo.areas();
        // If the record of a set cannot be read, nothing proves whose its area is, so it stays.
        for set in repo.kept_sets().unwrap_or_default() {
            if let Ok(area) = set.open_area(&places) {
                area.into_tree().remove()?;
            }
        }
        for place in &places {
            fsutil::remove_empty_dir(place);
        }
        fsutil::clear(&dir, &is_part, "format.json")
    })
}

/// Deletes vaults from a directory with one for each repository; `kept` is that of a repository
/// that stays.
///
/// # Errors
/// Something in it cannot be removed.
pub fn vaults(dir: &Path, kept: Option<Id>) -> Result<Vec<String>> {
    let is_vault = |name: &str| name.parse::<Id>().is_ok_and(|id| Some(id) != kept);
    fsutil::clear(dir, &is_vault, "")
}

/// Deletes the files derived from repositories.
///
/// # Errors
/// Something in it cannot be removed.
pub fn cache(dir: &Path) -> Result<Vec<String>> {
    fsutil::clear(dir, &|name| name.parse::<Id>().is_ok(), "")
}

/// Deletes the history of runs and of edits in other programs; [`vaults`] deletes the vault.
///
/// # Errors
/// Something in it cannot be removed.
pub fn state(dir: &Path) -> Result<Vec<String>> {
    let is_journal = |name: &str| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let owns = |name: &str| STATE.contains(&name) || is_journal(name);
    let mut stays = fsutil::clear(dir, &owns, "")?;
    stays.retain(|name| name != "vault");
    Ok(stays)
}

/// Deletes the configuration. If it is a symlink, only the link: the user keeps the file elsewhere.
///
/// # Errors
/// It cannot be removed.
pub fn configuration(file: &Path) -> Result<()> {
    fsutil::remove_file(file)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .context("remove", file)?;
    if let Some(dir) = file.parent() {
        fsutil::remove_empty_dir(dir);
    }
    Ok(())
}

/// Deletes the second copy of a vault, which is next to the lifeboats.
///
/// # Errors
/// It is not this user's alone, or something in it cannot be removed.
pub fn second_vault(lifeboats: &Path, id: Id) -> Result<()> {
    let place = lifeboats.join("vault");
    let name = id.to_string();
    if let Some(tree) = OwnTree::left_in(&place, name.as_ref()) {
        tree.remove()?;
    }
    fsutil::remove_empty_dir(&place);
    fsutil::remove_empty_dir(lifeboats);
    Ok(())
}
