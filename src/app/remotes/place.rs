//! Where a destination in a directory is: what would not be a backup is refused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bdr::base::path::RepoPath;
use bdr::disk::fsutil;
use bdr::disk::store::Location;
use bdr::model::config::{Remote, Source};
use bdr::model::rules::Matcher;

use super::Context;
use crate::app::error::Failure;
use crate::app::guard::shell_words;

/// Returns where a path leads, as far as it exists.
fn real(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|there| {
            let rest = path.strip_prefix(there).ok()?;
            let found = fsutil::canonicalize(there).ok()?;
            // Joining an empty path would add a slash.
            Some(match rest.as_os_str().is_empty() {
                true => found,
                false => found.join(rest),
            })
        })
        .unwrap_or_else(|| path.to_path_buf())
}

/// Returns what a source would leave out, with a directory below it.
fn excluded(source: &Source, below: &RepoPath) -> Vec<OsString> {
    let path = below.to_path(Path::new("/"));
    let known = source.rules.exclude.iter().map(OsString::from);
    known.chain([path.into_os_string()]).collect()
}

fn directory_of(remote: &Remote) -> Option<PathBuf> {
    let location = Location::parse(&remote.url).ok()?;
    location.directory().map(|path| real(&path))
}

/// Refuses a directory in the repository, and one that a source covers: each backup would have
/// everything that was pushed before.
pub(crate) fn check_apart(cx: &Context, remote: &Remote) -> Result<(), Failure> {
    let Some(path) = directory_of(remote) else {
        return Ok(());
    };
    let shown = cx.shown_absolute(&path);
    if path.starts_with(real(&cx.places.repository)) {
        return Err(Failure::usage(
            format!("{shown} is in the repository itself, and is lost with it"),
            "name a directory on another disk",
        ));
    }
    for source in &cx.config.sources {
        let top = real(&source.path);
        let Some(below) = RepoPath::below(&top, &path) else {
            continue;
        };
        let covers = |matcher: Matcher| below.is_root() || matcher.covers(&below);
        if !Matcher::new(&source.rules).is_ok_and(covers) {
            continue;
        }
        let message = format!(
            "{shown} is in the source `{}`: each backup would have everything that was pushed before",
            source.name
        );
        let hint = match below.is_root() {
            true => "name a directory on another disk".to_owned(),
            false => format!(
                "name a directory on another disk; or leave it out of the backups first: bdr config set {} {}",
                shell_words(&[format!("source.{}.exclude", source.name).into()]),
                shell_words(&excluded(source, &below))
            ),
        };
        return Err(Failure::usage(message, &hint));
    }
    Ok(())
}

/// Refuses a place to which another destination of this machine pushes: each would take what the other
/// wrote for that of a copy of this machine.
pub(crate) fn check_alone(cx: &Context, remote: &Remote) -> Result<(), Failure> {
    let is_same = |other: &&Remote| match (directory_of(remote), directory_of(other)) {
        (Some(one), Some(two)) => one == two,
        (None, None) => one_url(&remote.url) == one_url(&other.url),
        _ => false,
    };
    match cx.config.remotes.iter().find(is_same) {
        None => Ok(()),
        Some(other) => Err(Failure::usage(
            format!("`{}` pushes to that place already", other.name),
            &format!(
                "bdr push {}; for another copy, name another directory",
                other.name
            ),
        )),
    }
}

/// How a server is reached does not make it another place; in a bucket's address it may.
fn one_url(url: &str) -> &str {
    match url.starts_with("sftp:") || url.starts_with("webdav") {
        true => url.split('?').next().unwrap_or(url),
        false => url,
    }
}

/// Returns true if a destination is where the repository is: a disk that fails takes both.
pub(crate) fn is_on_the_same_disk(cx: &Context, remote: &Remote) -> bool {
    let disk = |path: &Path| path.ancestors().find_map(fsutil::file_system_of);
    directory_of(remote)
        .and_then(|path| disk(&path))
        .is_some_and(|one| disk(&cx.places.repository) == Some(one))
}
