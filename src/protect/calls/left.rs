//! Records what was captured by a bdr that did not live to do it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::journal;
use super::record::{Ended, part_from_living, sort, write};
use super::run::captures;
use super::sorted::Taken;
use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::disk::fsutil::{self, Lock, OwnTree, Sharing};
use crate::repo::Repository;
use crate::repo::layout;

/// Turns journals that nobody writes any more into operations; returns these. Without one it costs a
/// look at a directory.
///
/// # Errors
/// The repository cannot be written. The journals stay.
pub fn recover(
    repo: &Repository,
    never: &[PathBuf],
    now: DateTime<Utc>,
) -> Result<Vec<OperationId>> {
    let place = captures(repo);
    let mut recovered = Vec::new();
    for entry in fsutil::read_dir(&place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let dir = entry.path();
        // Whoever starts one has it locked before there is a journal.
        if !dir.join("journal").exists() {
            continue;
        }
        // Held as long as the command runs.
        let lock = Lock::on(&dir.join("lock"), Sharing::Alone, Duration::ZERO);
        let (Ok(_lock), Some(own)) = (lock, OwnTree::left_in(&place, &name)) else {
            continue;
        };
        let Ok(found) = journal::read(&dir.join("journal")) else {
            // Nothing was started.
            let _ = own.remove();
            continue;
        };
        let id = found.head.id;
        let is_recorded = matches!(repo.storage().size(&layout::end(id)), Ok(Some(_)));
        if !is_recorded && found.head.repository == repo.id() {
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
            recovered.push(id);
        }
        let _ = own.remove();
    }
    Ok(recovered)
}
