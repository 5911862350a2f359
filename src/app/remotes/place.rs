//! Where a destination in a directory is: what would not be a backup is refused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bdr::base::path::RepoPath;
use bdr::disk::fsutil;
use bdr::disk::store::{Location, Service, Store};
use bdr::model::config::{Remote, Source};
use bdr::model::rules::{Matcher, pattern_of};
use bdr::remote::push::emptied;

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

/// Returns the pattern that leaves a directory out of a source.
fn leaving_out(below: &RepoPath) -> String {
    pattern_of(below.to_path(Path::new("/")).as_os_str())
}

/// Returns what a source would leave out, with a directory below it.
fn excluded(source: &Source, below: &RepoPath) -> Vec<OsString> {
    let known = source.rules.exclude.iter().cloned();
    known
        .chain([leaving_out(below)])
        .map(OsString::from)
        .collect()
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
        let Some(below) = covered(source, &path) else {
            continue;
        };
        let message = format!(
            "{shown} is in the source `{}`: each backup would have everything that was pushed before",
            source.name
        );
        let hint = match below.is_root() {
            true => format!(
                "name a directory on another disk; or take it out of the backups first: bdr remove {}",
                shell_words(&[source.name.clone().into()])
            ),
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

/// Returns where a directory is in a source that has it; its top also if the source is below it.
fn covered(source: &Source, path: &Path) -> Option<RepoPath> {
    let top = real(&source.path);
    if top.starts_with(path.join("bdr1")) {
        return Some(RepoPath::root());
    }
    let below = RepoPath::below(&top, path)?;
    let covers = |matcher: Matcher| below.is_root() || matcher.covers(&below);
    Matcher::new(&source.rules)
        .is_ok_and(covers)
        .then_some(below)
}

/// Returns the directories to which this machine pushes, as they are named and as they are.
pub(crate) fn directories(cx: &Context) -> Vec<PathBuf> {
    let remotes = cx.config.remotes.iter();
    let named = remotes.clone().filter_map(|remote| {
        let location = Location::parse(&remote.url).ok()?;
        location.directory()
    });
    named.chain(remotes.filter_map(directory_of)).collect()
}

/// Returns the patterns that keep destinations out of a new source.
pub(crate) fn kept_out(cx: &Context, source: &Source) -> Result<Vec<String>, Failure> {
    let mut patterns = Vec::new();
    for remote in &cx.config.remotes {
        let covered = directory_of(remote).and_then(|path| covered(source, &path));
        let Some(below) = covered else { continue };
        if below.is_root() {
            let shown = cx.shown_absolute(&source.path);
            return Err(Failure::usage(
                format!(
                    "{shown} has what is pushed to `{}`: each backup would have everything that was pushed before",
                    remote.name
                ),
                "add another directory, or one beside it",
            ));
        }
        patterns.push(leaving_out(&below));
    }
    Ok(patterns)
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

/// The file that says that a destination was reached when it was added.
const REACHED: &str = "reached";

/// Notes that a place was there.
pub(crate) fn note_reached(dir: &Path, remote: &Remote) -> Result<(), Failure> {
    fsutil::create_dir_private(dir)?;
    fsutil::write_atomic(&dir.join(REACHED), remote.url.as_bytes(), 0o600)?;
    Ok(())
}

/// Makes sure that a directory has something of bdr, if it had: otherwise its disk is not mounted.
/// `pushed` if something was pushed there.
pub(super) fn check_filled(
    dir: &Path,
    remote: &Remote,
    store: &dyn Store,
    pushed: bool,
) -> Result<(), Failure> {
    let was_reached =
        || fsutil::read_derived(&dir.join(REACHED)).is_some_and(|url| url == remote.url.as_bytes());
    let is_directory = Location::parse(&remote.url)?.service == Service::File;
    if !is_directory || !pushed && !was_reached() {
        return Ok(());
    }
    let there = store.names(bdr::remote::PREFIX);
    let there = there.map_err(|e| bdr::remote::failed(&remote.name, "list", &e))?;
    match there.is_empty() {
        true => Err(emptied(&remote.name).into()),
        false => Ok(()),
    }
}
