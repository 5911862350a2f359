//! Records what was captured by a bdr that did not live to do it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::journal::{self, Head, Read};
use super::record::{Ended, begun, part_from_living, sort, write};
use super::run::{captures, is_live};
use super::sorted::Taken;
use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::disk::fsutil::{self, Lock, OwnTree, Sharing};
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::oplog::Operation;

/// Something captured that nobody records any more, locked.
struct Left {
    own: OwnTree,
    found: Read,
    _lock: Lock,
}

/// Turns journals that nobody writes any more into operations; returns these. Without one it costs a
/// look at a directory.
///
/// # Errors
/// The repository cannot be written. The journals stay, and the next call tries again.
pub fn recover(
    repo: &Repository,
    never: &[PathBuf],
    now: DateTime<Utc>,
) -> Result<Vec<OperationId>> {
    let mut recovered = Vec::new();
    let mut failed = None;
    for left in left(repo) {
        let head = left.found.head.clone();
        match record(repo, left, never, now) {
            Ok(true) => recovered.push(head.id),
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if recovered.is_empty() => Err(error),
        // The others are told of, and what is left is tried again.
        _ => Ok(recovered),
    }
}

/// Returns the operations that are captured and not recorded yet, because the repository cannot be
/// written, oldest first.
pub fn waiting(repo: &Repository) -> Vec<OperationId> {
    let left = left(repo).into_iter();
    let mut ids: Vec<OperationId> = left
        .filter(|left| is_wanted(repo, &left.found.head))
        .map(|left| left.found.head.id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Returns the operations that are being captured and have touched something, oldest first: they
/// are on record only when their commands have ended.
pub fn under_way(repo: &Repository) -> Vec<Operation> {
    let place = captures(repo);
    let found = fsutil::read_dir(&place).into_iter().flatten().flatten();
    let heads = found.filter_map(|entry| journal::head(&entry.path().join("journal")).ok());
    let running = heads.filter(|head| is_wanted(repo, head) && is_live(repo, head.id));
    let mut all: Vec<Operation> = running
        .map(|head| Operation::recorded(begun(&head), None))
        .collect();
    all.sort_by_key(|operation| operation.begin.id);
    all
}

fn is_wanted(repo: &Repository, head: &Head) -> bool {
    let is_recorded = matches!(repo.storage().size(&layout::end(head.id)), Ok(Some(_)));
    !is_recorded && head.repository == repo.id()
}

fn left(repo: &Repository) -> Vec<Left> {
    let place = captures(repo);
    let mut all = Vec::new();
    for entry in fsutil::read_dir(&place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let dir = entry.path();
        // Whoever starts one has it locked before there is a journal.
        if !dir.join("journal").exists() {
            continue;
        }
        // Held as long as the command runs.
        let lock = Lock::on(&dir.join("lock"), Sharing::Alone, Duration::ZERO);
        let (Ok(lock), Some(own)) = (lock, OwnTree::left_in(&place, &name)) else {
            continue;
        };
        let Ok(found) = journal::read(&dir.join("journal")) else {
            // Nothing was started.
            let _ = own.remove();
            continue;
        };
        all.push(Left {
            own,
            found,
            _lock: lock,
        });
    }
    all.sort_by_key(|left| left.found.head.id);
    all
}

/// Records an operation; false if it is on record already.
fn record(repo: &Repository, left: Left, never: &[PathBuf], now: DateTime<Utc>) -> Result<bool> {
    let is_wanted = is_wanted(repo, &left.found.head);
    let Left { own, found, _lock } = left;
    if is_wanted {
        let mut taken = Taken {
            before: found.before,
            sets: found.sets,
            copies: Vec::new(),
            cwd: found.head.cwd.as_path().to_path_buf(),
            foreign: Vec::new(),
            unseen: 0,
        };
        part_from_living(&taken);
        let sorted = sort(repo, &found.head, &mut taken, never)?;
        let ended = Ended {
            unseen: true,
            ..Ended::at(now, now - found.head.time)
        };
        write(repo, &found.head, sorted, &taken, ended)?;
    }
    let _ = own.remove();
    Ok(is_wanted)
}
