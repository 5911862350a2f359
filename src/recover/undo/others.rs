//! What another operation did meanwhile in its own place: with a source that has both places it is
//! in the record of this one as well. Nobody knows who wrote a file, so it stays on the record, and
//! an undo leaves it alone unless somebody asks for all.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;

use super::{Meanwhile, UndoPlan};
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::disk::fsutil;
use crate::model::manifest::Kind;
use crate::protect::guard::others::{named, names};
use crate::repo::Repository;
use crate::repo::oplog::{Begin, Keeping, Operation, OperationKind, RootChanges};
use crate::repo::snapshot::Snapshot;

/// How many operations that began before this one are checked: one of them may still have run.
const EARLIER: usize = 16;
/// One without an end may still run if it began this recently.
const LONGEST: TimeDelta = TimeDelta::hours(24);

/// Sets apart what changed where another operation ran at the same time, if this one neither ran
/// there nor names it.
///
/// # Errors
/// The log cannot be read.
pub(super) fn without_others(
    repo: &Repository,
    operation: &Operation,
    snapshot: &Snapshot,
    changes: &mut Vec<RootChanges>,
    plan: &mut UndoPlan,
) -> Result<()> {
    let begin = &operation.begin;
    let by = begin.protection.as_ref().map(|protection| protection.by);
    if begin.kind != OperationKind::Guard || by == Some(Keeping::Capture) {
        // Capture sees who makes a change.
        return Ok(());
    }
    let own = place_of(begin);
    let named = named(begin);
    let is_out = |place: &Path| !place.starts_with(&own) && !names(named.as_deref(), place);
    let any = |change: &RootChanges| {
        let Some(root) = snapshot.root(&change.name) else {
            return false;
        };
        let stamps = change.created.iter().chain(&change.modified);
        let paths = stamps.map(|stamp| &stamp.path).chain(&change.removed);
        paths
            .into_iter()
            .any(|path| is_out(&path.to_path(root.path.as_path())))
    };
    // Nearly every operation: the log need not be read.
    if !changes.iter().any(any) {
        return Ok(());
    }
    for place in others(repo, operation, &own)? {
        let is_theirs = |path: &Path| path.starts_with(&place) && is_out(path);
        let mut found = Meanwhile {
            path: place.clone(),
            deleted: 0,
            altered: 0,
        };
        for change in changes.iter_mut() {
            let Some(root) = snapshot.root(&change.name) else {
                continue;
            };
            let theirs = |path: &RepoPath| is_theirs(&path.to_path(root.path.as_path()));
            let stamps = change.created.iter().chain(&change.modified);
            let files = stamps.filter(|stamp| stamp.kind != Kind::Dir && theirs(&stamp.path));
            found.altered += files.count() as u64;
            found.deleted += change.removed.iter().filter(|path| theirs(path)).count() as u64;
            change.keep(&|path| !theirs(path));
        }
        if found.altered + found.deleted > 0 {
            plan.meanwhile.push(found);
        }
    }
    changes.retain(|change| !change.is_empty());
    Ok(())
}

/// Returns where other operations ran at the same time as this one.
fn others(repo: &Repository, operation: &Operation, own: &Path) -> Result<Vec<PathBuf>> {
    let begin = &operation.begin;
    let ended = operation.end.as_ref().map(|end| end.time);
    let ids = repo.operation_ids()?;
    let at = ids.partition_point(|id| *id < begin.id);
    let mut places = Vec::new();
    for id in &ids[at.saturating_sub(EARLIER)..] {
        let Some(other) = repo.operation(*id).filter(|other| other.is_ours) else {
            continue;
        };
        if ended.is_some_and(|ended| other.begin.time > ended) {
            break;
        }
        let runs_on = match &other.end {
            Some(end) => end.time >= begin.time,
            None => begin.time - other.begin.time < LONGEST,
        };
        let place = place_of(&other.begin);
        let is_apart = !place.starts_with(own) && !own.starts_with(&place);
        let is_it = *id != begin.id && other.begin.kind == OperationKind::Guard;
        if is_it && runs_on && is_apart && !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

fn place_of(begin: &Begin) -> PathBuf {
    let cwd = begin.cwd.as_path();
    fsutil::canonicalize(cwd).unwrap_or_else(|_| cwd.to_path_buf())
}
