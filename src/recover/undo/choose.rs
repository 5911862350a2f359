//! Which operation is meant: the newest that can be taken back, where nobody named one.

use std::cell::RefCell;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::repo::Repository;
use crate::repo::by_path::ByPath;
use crate::repo::oplog::{Operation, OperationKind};

/// Tells which operations are of a workspace: those that ran in it, and those that changed something in it, wherever they ran. One that ran in a
/// directory above it is not, as long as it left it alone.
pub struct Here<'a> {
    workspace: &'a Path,
    by_path: RefCell<ByPath<'a>>,
}

impl<'a> Here<'a> {
    /// Has looked at nothing yet.
    pub fn new(repo: &'a Repository, workspace: &'a Path) -> Self {
        Self {
            workspace,
            by_path: RefCell::new(ByPath::new(repo)),
        }
    }

    /// Returns true for an operation of this workspace.
    pub fn has(&self, operation: &Operation) -> bool {
        operation.begin.cwd.as_path().starts_with(self.workspace)
            || self.by_path.borrow_mut().changed(operation, self.workspace)
    }
}

/// Returns the operation that a plain `bdr undo` takes back: the newest that can be, of this workspace if there is one. With `all` one counts as well that
/// changed nothing but what it neither named nor ran in. One that this machine did not record has to be named: who writes to the repository may have made it up.
///
/// # Errors
/// There is none.
pub fn choose<'a>(
    operations: &'a [Operation],
    here: &Here<'_>,
    all: bool,
) -> Result<&'a Operation> {
    // A redo did it again: taking that back is what undo means then.
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

/// Returns the operations of this workspace that can be taken back, the newest first.
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

/// Returns the undo that a plain `bdr redo` takes back: the newest, if no other operation came after it.
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

/// Returns what has to be taken back to take back `operation`: itself, or the redo that did it again after it was undone.
pub fn effective<'a>(operations: &'a [Operation], operation: &'a Operation) -> &'a Operation {
    let mut current = operation;
    // What somebody else wrote down leads nowhere from what this machine did.
    let counts = |o: &&Operation| o.is_ours || !operation.is_ours;
    loop {
        let undo = operations
            .iter()
            .rev()
            .filter(counts)
            .find(|o| o.begin.undoes == Some(current.begin.id));
        let redo = undo.and_then(|undo| {
            operations
                .iter()
                .filter(counts)
                .find(|o| undo.undone_by == Some(o.begin.id))
        });
        match redo {
            Some(redo) => current = redo,
            None => return current,
        }
    }
}
