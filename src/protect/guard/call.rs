//! Requests of other programs: checkpoints, and notes about everything else.
//!
//! A checkpoint is an operation that ends at once: nothing stays open while the caller continues,
//! and an undo compares the present with its snapshot.

use std::ffi::OsString;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::{GuardOptions, Intent, open, redacted};
use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::base::monitor::Monitor;
use crate::base::path::RawName;
use crate::model::agent::AgentCall;
use crate::model::rules::Root;
use crate::protect::backup::BackupReport;
use crate::repo::Repository;
use crate::repo::oplog::{Begin, End, OperationKind};

/// Saves the state of `roots`, so that whatever comes after can be undone.
///
/// # Errors
/// No snapshot could be taken, or the records cannot be written.
pub fn checkpoint(
    repo: &Repository,
    roots: &[Root],
    options: &GuardOptions,
    call: AgentCall,
    monitor: &dyn Monitor,
) -> Result<(OperationId, BackupReport)> {
    let intent = Intent {
        label: options.label.clone(),
        agent: Some(call),
        ..Intent::new(OperationKind::Call, &options.argv, &options.cwd)
    };
    let protected = open(repo, roots, &options.backup, intent, monitor)?;
    let began = protected.begin.time;
    end_at_once(repo, protected.operation(), (began, began))?;
    Ok((protected.operation(), protected.report))
}

fn end_at_once(
    repo: &Repository,
    id: OperationId,
    (began, now): (DateTime<Utc>, DateTime<Utc>),
) -> Result<()> {
    repo.end(&End::new(repo.id(), id, now, now - began))
}

/// Records a request of another program that changes no protected file; there is nothing to undo.
///
/// # Errors
/// The records cannot be written.
pub fn note_call(
    repo: &Repository,
    cwd: &Path,
    argv: Vec<OsString>,
    call: AgentCall,
    (began, now): (DateTime<Utc>, DateTime<Utc>),
) -> Result<OperationId> {
    let id = repo.next_operation(began)?;
    let words = redacted(repo, argv);
    let cwd = RawName(cwd.as_os_str().to_owned());
    let begin = Begin {
        agent: Some(call),
        ..Begin::new(repo.id(), id, OperationKind::Call, began, (words, cwd))
    };
    repo.begin(&begin)?;
    end_at_once(repo, id, (began, now))?;
    Ok(id)
}
