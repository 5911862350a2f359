//! Operations that one process begins and another ends: an agent's hook runs once before a tool and
//! once after it.
//!
//! Nothing stays in memory in between. Afterwards the state files tell what the snapshot has, as
//! long as they mirror it; once another snapshot was taken, by a call at the same time, the present
//! is compared with the snapshot itself. A call that nobody closes can be undone without an end.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::changes::{self, Look, Origins};
use super::{GuardOptions, Intent, left, open, others};
use crate::base::error::Result;
use crate::base::id::{OperationId, SnapshotId};
use crate::base::monitor::Monitor;
use crate::base::path::RootName;
use crate::disk::fsutil;
use crate::model::agent::AgentCall;
use crate::model::manifest::Time;
use crate::model::rules::Root;
use crate::protect::backup::RootRun;
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::oplog::{Begin, End, Operation, Parent, RootChanges};
use crate::repo::snapshot::{PathNote, RootRecord};

#[derive(Debug, Clone)]
pub struct CloseOptions {
    /// When it ended.
    pub now: DateTime<Utc>,
    /// The exit code, if known.
    pub exit: Option<i32>,
    /// Absolute paths that are never read, in addition to the repository's own.
    pub never: Vec<PathBuf>,
}

/// Saves the state of `roots` and opens an operation for a tool that somebody else runs; [`close`]
/// ends it. Also returns what the tool may change although it was not captured.
///
/// # Errors
/// No snapshot could be taken.
pub fn begin_call(
    repo: &Repository,
    roots: &[Root],
    options: &GuardOptions,
    call: AgentCall,
    monitor: &dyn Monitor,
) -> Result<(OperationId, Vec<PathNote>)> {
    let intent = Intent {
        agent: Some(call),
        ..Intent::of(options)
    };
    let protected = open(repo, roots, &options.backup, intent, monitor)?;
    Ok((protected.operation(), protected.not_captured().to_vec()))
}

/// Returns the processes that an agent's call left running, by number and name, as far as the
/// system tells. Only for the hook that the agent's program calls after a call. `detached`: the
/// command line sends something to the background.
pub fn left_by_call(
    repo: &Repository,
    begin: &Begin,
    now: DateTime<Utc>,
    detached: bool,
) -> Vec<(u32, String)> {
    let snapshot = begin.before.and_then(|id| repo.snapshot(id).ok());
    let records = snapshot.iter().flat_map(|snapshot| &snapshot.roots);
    let own = records.filter(|record| {
        let name = &record.name;
        (begin.roots.is_empty() || begin.roots.contains(name)) && !begin.elsewhere.contains(name)
    });
    let mut places: Vec<&Path> = own.map(|record| record.path.as_path()).collect();
    places.push(begin.cwd.as_path());
    let age = (now - begin.time).to_std().unwrap_or_default();
    left::by_call(age, &places, detached)
}

/// Finds what changed since an operation began, and closes it; `None` if somebody else did
/// meanwhile.
///
/// # Errors
/// Its snapshot or a root cannot be read, or the record cannot be written: the operation stays
/// open.
pub fn close(repo: &Repository, begin: Begin, options: &CloseOptions) -> Result<Option<Operation>> {
    let never = repo.untouchable(&options.never);
    let (mut roots, unseen) = match begin.before {
        Some(before) => looked_at(repo, &begin, before, &never)?,
        None => (Vec::new(), Vec::new()),
    };
    others::leave_out(repo, &begin, &[], &mut roots)?;
    let elapsed = options.now.signed_duration_since(begin.time);
    let end = End {
        exit: options.exit,
        roots,
        file_time: file_time(repo, &unseen),
        unseen,
        parents: parents_now(&begin.parents),
        ..End::new(repo.id(), begin.id, options.now, elapsed)
    };
    // Records are written only once.
    let name = layout::end(begin.id);
    if matches!(repo.storage().size(&name), Ok(Some(_))) {
        return Ok(None);
    }
    repo.end(&end)?;
    repo.forget_running(begin.id);
    Ok(Some(Operation::recorded(begin, Some(end))))
}

/// Returns the clock of the file system, if some roots could not be read.
pub(super) fn file_time(repo: &Repository, unseen: &[RootName]) -> Option<Time> {
    if unseen.is_empty() {
        return None;
    }
    let probe = repo.cache().join("clock");
    fsutil::write_derived(&probe, b"").ok()?;
    fsutil::changed_at(&probe)
}

/// Returns the directories whose times have changed.
pub(super) fn parents_now(before: &[Parent]) -> Vec<Parent> {
    let now = |one: &Parent| {
        let mtime = fsutil::changed_at(one.path.as_path())?;
        let path = one.path.clone();
        (mtime != one.mtime).then_some(Parent { path, mtime })
    };
    before.iter().filter_map(now).collect()
}

/// Returns what changed since an operation began, and the names of roots that could not be read.
fn looked_at(
    repo: &Repository,
    begin: &Begin,
    before: SnapshotId,
    never: &[PathBuf],
) -> Result<(Vec<RootChanges>, Vec<RootName>)> {
    let snapshot = repo.snapshot(before)?;
    let own = |record: &&RootRecord| begin.roots.is_empty() || begin.roots.contains(&record.name);
    let records: Vec<&RootRecord> = snapshot.roots.iter().filter(own).collect();
    let runs: Vec<RootRun> = records
        .iter()
        .filter_map(|record| RootRun::of_snapshot(repo, record, before))
        .collect();
    let left_out = records.iter().flat_map(|record| &record.left_out);
    let origins = Origins::new(begin.time, left_out, &runs, never);
    let (mut roots, mut unseen) = (Vec::new(), Vec::new());
    for record in records {
        let look = match runs.iter().find(|run| run.root.name == record.name) {
            Some(run) => changes::of_run(repo, run, &origins)?,
            None => changes::since(repo, record, &origins)?,
        };
        match look {
            Look::Whole(changes) if changes.is_empty() => {}
            Look::Whole(changes) => roots.push(*changes),
            Look::Partial(_) => unseen.push(record.name.clone()),
        }
    }
    Ok((roots, unseen))
}
