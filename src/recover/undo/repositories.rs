//! What an undo does differently in version control repositories; `vcs` has the rules.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::UndoAction;
use super::found::Found;
use super::planner::Planner;
use crate::base::error::Result;
use crate::base::path::{RepoPath, os_to_bytes};
use crate::disk::vcs::{self, Part, Repositories};
use crate::model::manifest::{Entry, Kind};
use crate::protect::work::Act;
use crate::repo::oplog::{RootChanges, Stamp};

/// Checks the repositories that an operation changed, and reports those that stay because they
/// changed since.
pub(super) fn find(planner: &mut Planner<'_>, changes: &RootChanges) {
    let listed: Vec<PathBuf> = planner
        .listing
        .keys()
        .filter(|path| matches!(path.name(), b"HEAD" | b"objects" | b"commondir"))
        .map(|path| planner.site.absolute(path))
        .collect();
    let created: Vec<PathBuf> = changes
        .created
        .iter()
        .map(|stamp| planner.site.absolute(&stamp.path))
        .collect();
    let made = vcs::git_dirs_of(created.iter().map(PathBuf::as_path));
    let before = vcs::git_dirs_of(listed.iter().map(PathBuf::as_path));
    let known = made.iter().chain(&before).cloned();
    planner.found = Found {
        repositories: Repositories::knowing(known),
        ..Found::default()
    };
    hold_made(planner, changes, &made);
    hold_units(planner, changes);
}

/// Plans repositories that the operation created: they are removed if nothing happened in them
/// since, otherwise they stay.
fn hold_made(planner: &mut Planner<'_>, changes: &RootChanges, made: &[PathBuf]) {
    for stamp in changes
        .created
        .iter()
        .filter(|stamp| stamp.kind == Kind::Dir)
    {
        let top = planner.site.absolute(&stamp.path);
        if !made.contains(&top) {
            continue;
        }
        let mut names: HashSet<PathBuf> = HashSet::new();
        let mut as_left = true;
        let below: Vec<&Stamp> = changes
            .created
            .iter()
            .filter(|below| below.path.starts_with(&stamp.path))
            .collect();
        for below in below {
            let path = planner.site.absolute(&below.path);
            let inside = planner.found.repositories.around(&path);
            let is_store = inside.is_some_and(|inside| inside.part == Part::Store);
            names.insert(path);
            as_left &= is_store
                || match planner.stat(&below.path) {
                    Ok(Some(now)) => planner.is_left(below, &now),
                    // Gone or unreadable.
                    _ => false,
                };
        }
        if as_left && !has_more(&top, &names) {
            planner.found.whole.push(stamp.path.clone());
        } else {
            planner.found.held.push(stamp.path.clone());
            planner.step(&stamp.path, UndoAction::Keep, Kind::Dir, 0);
        }
    }
}

/// Returns true if a directory contains anything except `names`: then somebody works in it.
fn has_more(dir: &Path, names: &HashSet<PathBuf>) -> bool {
    let Ok(entries) = crate::disk::fsutil::read_dir(dir) else {
        return true;
    };
    for entry in entries {
        let Ok(entry) = entry else { return true };
        let path = entry.path();
        if !names.contains(&path) {
            return true;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && has_more(&path, names) {
            return true;
        }
    }
    false
}

/// Plans the data of tools whose files only make sense together: if one of them changed since, all
/// stay.
fn hold_units(planner: &mut Planner<'_>, changes: &RootChanges) {
    let mut units: HashMap<PathBuf, bool> = HashMap::new();
    let mut check = |planner: &mut Planner<'_>, path: &RepoPath, stamp: Option<&Stamp>| {
        let absolute = planner.site.absolute(path);
        let inside = planner.found.repositories.around(&absolute);
        let Some(inside) = inside.filter(|inside| inside.is_unit) else {
            return;
        };
        let as_left = match (stamp, planner.stat(path)) {
            (Some(stamp), Ok(Some(now))) => planner.is_left(stamp, &now),
            (None, Ok(None)) => true,
            _ => false,
        };
        *units.entry(inside.top).or_insert(true) &= as_left;
    };
    for stamp in changes.created.iter().chain(&changes.modified) {
        if stamp.kind != Kind::Dir {
            check(planner, &stamp.path, Some(stamp));
        }
    }
    for path in &changes.removed {
        check(planner, path, None);
    }
    for (top, as_left) in units {
        let below = RepoPath::below(&planner.site.absolute(&RepoPath::root()), &top);
        if let (false, Some(below)) = (as_left, below) {
            planner.step(&below, UndoAction::Keep, Kind::Dir, 0);
            planner.found.held.push(below);
        }
    }
}

/// What happens to an object that the operation created in a repository.
pub(super) enum Made {
    /// The same as elsewhere.
    AsUsual,
    /// It is content that nothing refers to: it stays, silently.
    Stays,
    /// Something refers to it now.
    Needed,
}

/// Decides about an object that the operation created.
pub(super) fn of_made(planner: &mut Planner<'_>, changes: &RootChanges, path: &RepoPath) -> Made {
    let absolute = planner.site.absolute(path);
    let Some(inside) = planner.found.repositories.around(&absolute) else {
        return Made::AsUsual;
    };
    if planner.found.whole.iter().any(|top| path.starts_with(top)) {
        return Made::AsUsual;
    }
    match inside.part {
        Part::Store => Made::Stays,
        Part::Ref
            if is_checked_out(planner, changes, &inside.top, &absolute)
                && !is_packed(planner, changes, &inside.top, &absolute) =>
        {
            Made::Needed
        }
        Part::Ref | Part::Other => Made::AsUsual,
    }
}

/// Returns true if a HEAD that stays names this ref: without the ref a work tree would have no
/// commit.
fn is_checked_out(
    planner: &Planner<'_>,
    changes: &RootChanges,
    git_dir: &Path,
    reference: &Path,
) -> bool {
    let Ok(name) = reference.strip_prefix(git_dir) else {
        return false;
    };
    let changed = |head: &Path| {
        let stamps = changes.created.iter().chain(&changes.modified);
        let mut paths = stamps.map(|stamp| planner.site.absolute(&stamp.path));
        // It is restored, or planned like every path that changed again.
        paths.any(|path| path == head)
            || changes
                .removed
                .iter()
                .any(|top| head.starts_with(planner.site.absolute(top)))
    };
    vcs::heads(git_dir).iter().any(|head| {
        let named = std::fs::read(head)
            .ok()
            .and_then(|text| vcs::checked_out(&text));
        named.is_some_and(|named| Path::new(&named) == name) && !changed(head)
    })
}

/// Returns true if a ref will still have a value in the packed refs when its own file is gone.
fn is_packed(
    planner: &mut Planner<'_>,
    changes: &RootChanges,
    git_dir: &Path,
    reference: &Path,
) -> bool {
    let root = planner.site.absolute(&RepoPath::root());
    let (Ok(name), Some(packed)) = (
        reference.strip_prefix(git_dir),
        RepoPath::below(&root, &git_dir.join("packed-refs")),
    ) else {
        return false;
    };
    let moved = packed_moved(planner, changes, &packed).unwrap_or(true);
    let entry = planner.listing.get(&packed).cloned();
    // The packed refs are restored as they were, or stay if they changed since.
    let text = match entry.filter(|_| !moved) {
        Some(entry) => planner
            .reader
            .original_to_vec(&entry.body)
            .unwrap_or_default(),
        None => std::fs::read(git_dir.join("packed-refs")).unwrap_or_default(),
    };
    let line = [b" ", os_to_bytes(name.as_os_str()).as_ref()].concat();
    text.split(|byte| *byte == b'\n')
        .any(|each| each.ends_with(&line))
}

/// Returns true if a ref must not be restored as a file: it has none now, and the packed refs
/// changed since, so it may have another value there.
pub(super) fn is_elsewhere(
    planner: &mut Planner<'_>,
    changes: &RootChanges,
    path: &RepoPath,
) -> Result<bool> {
    let absolute = planner.site.absolute(path);
    let Some(inside) = planner.found.repositories.around(&absolute) else {
        return Ok(false);
    };
    if inside.part != Part::Ref {
        return Ok(false);
    }
    if let Some(moved) = planner.found.packed_moved.get(&inside.top) {
        return Ok(*moved);
    }
    let root = planner.site.absolute(&RepoPath::root());
    let moved = match RepoPath::below(&root, &inside.top.join("packed-refs")) {
        None => false,
        Some(packed) => packed_moved(planner, changes, &packed)?,
    };
    planner.found.packed_moved.insert(inside.top, moved);
    Ok(moved)
}

fn packed_moved(
    planner: &mut Planner<'_>,
    changes: &RootChanges,
    packed: &RepoPath,
) -> Result<bool> {
    let now = planner.stat(packed)?;
    let mut stamps = changes.created.iter().chain(&changes.modified);
    if let Some(stamp) = stamps.find(|stamp| stamp.path == *packed) {
        return Ok(now.is_none_or(|now| !planner.is_left(stamp, &now)));
    }
    if changes.removed.iter().any(|top| packed.starts_with(top)) {
        return Ok(now.is_some());
    }
    // The operation did not touch it, so it is as it was, or somebody else's.
    let entry = planner.listing.get(packed).cloned();
    Ok(match (entry, now) {
        (None, None) => false,
        (Some(entry), Some(now)) => !planner.site.has(&entry, &now),
        _ => true,
    })
}

/// Restores content that restored refs and indexes need and that git has deleted since.
pub(super) fn bring_content(planner: &mut Planner<'_>) -> Result<()> {
    let mut tops: HashSet<PathBuf> = HashSet::new();
    let mut tips: Vec<git2::Oid> = Vec::new();
    let writes: Vec<(PathBuf, Option<Entry>)> = planner
        .site
        .jobs(&planner.plan.work)
        .filter(|job| job.act == Act::Write)
        .map(|job| {
            let path = planner.site.absolute_place(&job.path);
            (path, job.entry.as_deref().cloned())
        })
        .collect();
    for (path, entry) in writes {
        let Some(inside) = planner.found.repositories.around(&path) else {
            continue;
        };
        if inside.part == Part::Ref
            && let Some(entry) = entry
            && let Ok(bytes) = planner.reader.original_to_vec(&entry.body)
            && let Ok(text) = std::str::from_utf8(&bytes)
        {
            tips.extend(git2::Oid::from_str(text.trim()));
        }
        if inside.part != Part::Store && !inside.is_unit {
            tops.insert(inside.top);
        }
    }
    for top in tops {
        bring_content_of(planner, &top, &tips)?;
    }
    Ok(())
}

fn bring_content_of(planner: &mut Planner<'_>, top: &Path, tips: &[git2::Oid]) -> Result<()> {
    let root = planner.site.absolute(&RepoPath::root());
    let Some(objects) = RepoPath::below(&root, &top.join("objects")) else {
        return Ok(());
    };
    let planned = planner.planned(|_| true);
    let listed: Vec<Entry> = planner
        .listing
        .range(objects.clone()..)
        .take_while(|(path, _)| path.starts_with(&objects))
        .map(|(_, entry)| entry.clone())
        .filter(|entry| !planned.contains(&planner.site.place(&entry.path)))
        .collect();
    let mut missing: Vec<Entry> = Vec::new();
    for entry in listed {
        if planner.stat(&entry.path)?.is_none() {
            missing.push(entry);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // It may have been packed since. If we cannot tell, we restore it, which does no harm.
    let repository = git2::Repository::open(top).ok();
    let database = repository
        .as_ref()
        .and_then(|repository| repository.odb().ok());
    let has = |oid: git2::Oid| database.as_ref().is_some_and(|odb| odb.exists(oid));
    let tip_is_gone = tips.iter().any(|tip| !has(*tip));
    let mut dirs: HashSet<RepoPath> = HashSet::new();
    for entry in &missing {
        let is_needed = match vcs::loose_object(&planner.site.absolute(&entry.path)) {
            Some(oid) => !has(oid),
            None => tip_is_gone,
        };
        if entry.kind == Kind::File && is_needed {
            dirs.extend(entry.path.parent());
            planner.restore(entry, None);
        }
    }
    for entry in missing.iter().filter(|entry| dirs.contains(&entry.path)) {
        planner.restore(entry, None);
    }
    Ok(())
}
