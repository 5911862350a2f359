//! Operations whose begin and end are seen by two processes: an agent's hook runs once before a tool and once after it.
//!
//! Nothing is kept in memory in between. Afterwards the state files tell what the snapshot holds, as long as they mirror it; once another snapshot
//! was taken, by a call that ran at the same time, what stands is compared with the snapshot itself. A call that nobody closes stays
//! undoable without an end.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::{
    GuardOptions, Intent, MAX_LOOKED_INTO, MAX_LOOKED_INTO_BYTES, changes_of, open, stamp,
};
use crate::agent::AgentCall;
use crate::backup::{BackupReport, Present, RootRun, present};
use crate::error::Result;
use crate::id::OperationId;
use crate::manifest::{Entry, Kind, by_path};
use crate::merge;
use crate::monitor::Monitor;
use crate::path::RepoPath;
use crate::repo::Repository;
use crate::repo::oplog::{Begin, End, Inside, Operation, OperationKind, RootChanges};
use crate::repo::reader::Reader;
use crate::repo::snapshot::RootRecord;
use crate::rules::Root;

/// How to close an operation.
#[derive(Debug, Clone)]
pub struct CloseOptions {
    /// The time of its end.
    pub now: DateTime<Utc>,
    /// How the command ended, if that is known.
    pub exit: Option<i32>,
    /// Absolute paths that are never looked at, beside the repository's own.
    pub never: Vec<PathBuf>,
}

/// Saves the state of `roots` and opens an operation for a tool that somebody else runs; [`close`] ends it.
///
/// # Errors
/// There can be no snapshot.
pub fn begin_call(
    repo: &Repository,
    roots: &[Root],
    options: &GuardOptions,
    call: AgentCall,
    monitor: &dyn Monitor,
) -> Result<(OperationId, BackupReport)> {
    let intent = Intent {
        kind: OperationKind::Guard,
        argv: options.argv.clone(),
        cwd: options.cwd.clone(),
        label: options.label.clone(),
        remote: options.remote.clone(),
        undoes: None,
        restore: None,
        agent: Some(call),
        in_place: true,
    };
    let protected = open(repo, roots, &options.backup, intent, monitor)?;
    Ok((protected.operation(), protected.report))
}

/// Looks at what changed since an operation began, and closes it; `None` if somebody else did meanwhile.
///
/// # Errors
/// Its snapshot cannot be read, a root cannot be looked at, or the record cannot be written: the operation stays open.
pub fn close(repo: &Repository, begin: Begin, options: &CloseOptions) -> Result<Option<Operation>> {
    let mut never = repo.own_paths();
    never.extend(options.never.iter().cloned());
    let mut roots = Vec::new();
    if let Some(before) = begin.before {
        let snapshot = repo.snapshot(before)?;
        let own =
            |record: &&RootRecord| begin.roots.is_empty() || begin.roots.contains(&record.name);
        for record in snapshot.roots.iter().filter(own) {
            let changes = match RootRun::of_snapshot(repo, record, before) {
                Some(run) => changes_of(repo, &run, &never)?,
                None => changes_since(repo, record, &never)?,
            };
            if !changes.is_empty() {
                roots.push(changes);
            }
        }
    }
    let elapsed = options.now.signed_duration_since(begin.time);
    let end = End {
        version: 1,
        repository: repo.id(),
        id: begin.id,
        time: options.now,
        exit: options.exit,
        signal: None,
        elapsed_ms: u64::try_from(elapsed.num_milliseconds()).unwrap_or(0),
        roots,
    };
    // Records are written once.
    let name = format!("operations/{}.end.json", begin.id);
    if matches!(repo.storage().size(&name), Ok(Some(_))) {
        return Ok(None);
    }
    repo.end(&end)?;
    Ok(Some(Operation {
        begin,
        end: Some(end),
        undone_by: None,
        pinned: false,
    }))
}

/// Returns how a root differs from what a snapshot has of it, by content where no state tells.
fn changes_since(repo: &Repository, record: &RootRecord, never: &[PathBuf]) -> Result<RootChanges> {
    let mut changes = RootChanges {
        name: record.name.clone(),
        ..RootChanges::default()
    };
    let present = present(repo, record, never)?;
    let listing = by_path(repo.listing(record)?);
    // What is left out, then or now, says nothing.
    let left_out = record.left_out.iter().chain(&present.left_out);
    let left_out: Vec<&RepoPath> = left_out.map(|left| &left.path).collect();
    let is_out = |path: &RepoPath| left_out.iter().any(|left| path.starts_with(left));
    let mut altered = Vec::new();
    for (path, standing) in present.objects.iter().filter(|(path, _)| !is_out(path)) {
        let entry = listing.get(path);
        if entry.is_some_and(|entry| present.is_as(repo, entry, standing)) {
            continue;
        }
        let stamp = stamp(path.clone(), &standing.stat);
        match entry {
            None => changes.created.push(stamp),
            Some(entry) => {
                altered.push((entry, standing.stat.size));
                changes.modified.push(stamp);
            }
        }
    }
    let mut top: Option<&RepoPath> = None;
    let missing = listing
        .iter()
        .filter(|(path, _)| !present.objects.contains_key(path));
    for (path, entry) in missing.filter(|(path, _)| !is_out(path)) {
        if entry.kind == Kind::File {
            changes.deleted_files += 1;
            changes.deleted_bytes += entry.size;
        }
        if !top.is_some_and(|top| path.starts_with(top)) {
            top = Some(path);
            changes.removed.push(path.clone());
        }
    }
    changes.merges = inside(repo, &present, &altered);
    Ok(changes)
}

/// Says what changed inside of files that can be merged, as far as it can be told.
fn inside(repo: &Repository, present: &Present, altered: &[(&Entry, u64)]) -> Vec<Inside> {
    let mut reader = Reader::new(repo);
    let mut left = MAX_LOOKED_INTO_BYTES;
    let mut found = Vec::new();
    for (entry, size) in altered {
        let bytes = entry.size + size;
        if entry.kind != Kind::File
            || !merge::is_mergeable(entry.path.name())
            || entry.size.max(*size) > merge::MAX_BYTES
            || bytes > left
        {
            continue;
        }
        if found.len() >= MAX_LOOKED_INTO {
            break;
        }
        left -= bytes;
        let told = (|| {
            let file = present.handle.as_ref()?.open_file(&entry.path).ok()?;
            let mut after = Vec::new();
            let mut file = std::io::Read::take(file, merge::MAX_BYTES);
            std::io::Read::read_to_end(&mut file, &mut after).ok()?;
            let before = reader.original_to_vec(&entry.body).ok()?;
            if before == after {
                return Some(merge::Changes::none(entry.path.name()));
            }
            merge::describe(entry.path.name(), &before, &after, &repo.merge_key().ok()?)
        })();
        found.extend(told.map(|changes| Inside {
            path: entry.path.clone(),
            changes,
        }));
    }
    found
}
