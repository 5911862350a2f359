//! Which operation is meant: the newest that can be taken back, where nobody named one.

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::path::RootName;
use crate::repo::Repository;
use crate::repo::oplog::{End, Operation, OperationKind};

/// Returns true if an operation ran in `workspace`, or somewhere above it.
pub fn is_about(operation: &Operation, workspace: &Path) -> bool {
    let there = operation.begin.cwd.as_path();
    there.starts_with(workspace) || workspace.starts_with(there)
}

/// Returns true if an operation changed something in `workspace`, wherever it ran: in another work tree of its repository, or by a path.
pub fn has_worked_in(repo: &Repository, operation: &Operation, workspace: &Path) -> bool {
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    let end = operation.end.as_ref();
    let touched = |name: &RootName| {
        let changed = |end: &End| end.roots.iter().any(|root| root.name == *name);
        !operation.begin.elsewhere.contains(name)
            && end.is_none_or(|end| changed(end) || end.unseen.contains(name))
    };
    let mut roots = snapshot.iter().flat_map(|snapshot| &snapshot.roots);
    roots.any(|root| {
        let path = root.path.as_path();
        touched(&root.name) && (path.starts_with(workspace) || workspace.starts_with(path))
    })
}

/// Returns the operation that a plain `bdr undo` takes back: the newest that can be, about `workspace` if there is one. With `all` one counts as well that
/// changed nothing but what it neither named nor ran in. One that this machine did not record has to be named: who writes to the repository may have made it up.
///
/// # Errors
/// There is none.
pub fn choose<'a>(
    operations: &'a [Operation],
    workspace: &Path,
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
            .find(|o| !near || is_about(o, workspace))
    };
    newest(true)
        .or_else(|| newest(false))
        .ok_or(Error::NothingTo { verb: "undo" })
}

/// Returns the operations about `workspace` that can be taken back, the newest first.
pub fn newest_first<'a>(
    operations: &'a [Operation],
    workspace: &'a Path,
) -> impl Iterator<Item = &'a Operation> {
    operations.iter().rev().filter(move |operation| {
        operation.is_undoable()
            && operation.is_ours
            && !matches!(
                operation.begin.kind,
                OperationKind::Undo | OperationKind::Redo
            )
            && is_about(operation, workspace)
    })
}

/// Returns the undo that a plain `bdr redo` takes back: the newest, if no other operation came after it.
///
/// # Errors
/// There is none.
pub fn choose_redo<'a>(operations: &'a [Operation], workspace: &Path) -> Result<&'a Operation> {
    operations
        .iter()
        .rev()
        .filter(|o| is_about(o, workspace) && o.is_ours)
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
