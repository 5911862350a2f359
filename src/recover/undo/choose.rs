//! Chooses the operation to undo if nobody named one: the newest that can be undone.

use std::cell::RefCell;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::id::OperationId;
use crate::repo::Repository;
use crate::repo::by_path::ByPath;
use crate::repo::oplog::{Operation, OperationKind};

/// Decides which operations belong to a workspace: those that ran in it, and those that changed
/// something in it. One that ran in a directory above it belongs to it only if it changed something
/// in it.
pub struct Here<'a> {
    workspace: &'a Path,
    by_path: RefCell<ByPath<'a>>,
}

impl<'a> Here<'a> {
    pub fn new(repo: &'a Repository, workspace: &'a Path) -> Self {
        Self {
            workspace,
            by_path: RefCell::new(ByPath::new(repo)),
        }
    }

    /// Returns true if an operation belongs to this workspace.
    pub fn has(&self, operation: &Operation) -> bool {
        operation.begin.cwd.as_path().starts_with(self.workspace)
            || self.by_path.borrow_mut().changed(operation, self.workspace)
    }
}

/// Returns the operation that a plain `bdr undo` reverses: the newest that can be undone, if
/// possible of this workspace. With `all`, operations count that changed only places which they
/// neither named nor ran in. An operation that another machine recorded must be named, because
/// anybody who can write to the repository may have forged it.
///
/// # Errors
/// There is none.
pub fn choose<'a>(
    operations: &'a [Operation],
    here: &Here<'_>,
    all: bool,
) -> Result<&'a Operation> {
    // After a redo, undo means to reverse the redo.
    let changed = |o: &Operation| o.is_undoable() || all && o.saw_changes_elsewhere();
    let can_be = |o: &&Operation| changed(o) && o.is_ours && o.begin.kind != OperationKind::Undo;
    let newest = |near: bool| {
        operations
            .iter()
            .rev()
            .filter(can_be)
            .find(|o| !near || here.has(o))
    };
    newest(true)
        .or_else(|| newest(false))
        .ok_or(Error::NothingTo { verb: "undo" })
}

/// Returns the operations of this workspace that can be undone, newest first.
pub fn newest_first<'a>(
    operations: &'a [Operation],
    here: &Here<'_>,
) -> impl Iterator<Item = &'a Operation> {
    operations.iter().rev().filter(move |operation| {
        operation.is_undoable()
            && operation.is_ours
            && !matches!(
                operation.begin.kind,
                OperationKind::Undo | OperationKind::Redo
            )
            && here.has(operation)
    })
}

/// Returns the operations of a session that can be undone, newest first; or a command that was
/// captured, with what it left running did since.
pub fn of_session(
    operations: &[Operation],
    session: OperationId,
) -> impl Iterator<Item = &Operation> {
    let own = operations.iter().rev();
    own.filter(move |operation| {
        let of_it = operation.begin.session == Some(session) || operation.begin.id == session;
        of_it && operation.is_undoable() && operation.is_ours
    })
}

/// Returns the undo that a plain `bdr redo` reverses: the newest, if no other operation followed
/// it.
///
/// # Errors
/// There is none.
pub fn choose_redo<'a>(operations: &'a [Operation], here: &Here<'_>) -> Result<&'a Operation> {
    operations
        .iter()
        .rev()
        .filter(|o| o.is_ours && here.has(o))
        .take_while(|o| matches!(o.begin.kind, OperationKind::Undo | OperationKind::Redo))
        .find(|o| o.begin.kind == OperationKind::Undo && o.is_undoable())
        .ok_or(Error::NothingTo { verb: "redo" })
}

/// Returns the operation that must be undone to undo `operation`: itself, or the redo that repeated
/// it.
pub fn effective<'a>(operations: &'a [Operation], operation: &'a Operation) -> &'a Operation {
    let mut current = operation;
    // A record of another machine must not redirect the undo of an own operation.
    let counts = |o: &&Operation| o.is_ours || !operation.is_ours;
    loop {
        let undo = operations
            .iter()
            .rev()
            .filter(counts)
            .find(|o| o.begin.reverses().any(|id| id == current.begin.id));
        let redo = undo.and_then(|undo| {
            operations
                .iter()
                .filter(counts)
                .find(|o| undo.undone_by == Some(o.begin.id))
                // One that repeated others too would be too much to undo.
                .filter(|_| undo.begin.also.is_empty())
        });
        match redo {
            Some(redo) => current = redo,
            None => return current,
        }
    }
}
