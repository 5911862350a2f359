//! Chooses the operation to undo if nobody named one: the newest that can be undone.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
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

/// Returns for each operation, in order, the place in the log of the command that it belongs to. What
/// a captured command left running is recorded later, maybe after other commands, and is still its
/// work; a command in a session is one of its own.
fn places(operations: &[Operation]) -> Vec<usize> {
    let at: HashMap<OperationId, usize> = (0..operations.len())
        .map(|at| (operations[at].begin.id, at))
        .collect();
    let command = |own: usize| {
        let left_by = at.get(&operations[own].begin.session?)?;
        (!operations[*left_by].is_session()).then_some(*left_by)
    };
    (0..operations.len())
        .map(|own| command(own).unwrap_or(own))
        .collect()
}

/// Returns the operations with the place of their command, by command, newest first.
fn by_command(operations: &[Operation]) -> impl Iterator<Item = (usize, &Operation)> {
    let places = places(operations);
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse((places[*at], *at)));
    order
        .into_iter()
        .map(move |at| (places[at], &operations[at]))
}

/// Returns the operation that a plain `bdr undo` reverses: the newest that can be undone, if
/// possible of this workspace. What a command left running counts as of the time of the command
/// ([`whole_command`]). With `all`, operations count that changed only places which they neither
/// named nor ran in. An operation that another machine recorded must be named, because anybody who
/// can write to the repository may have forged it.
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
        by_command(operations)
            .map(|(_, operation)| operation)
            .filter(can_be)
            .find(|o| !near || here.has(o))
    };
    newest(true)
        .or_else(|| newest(false))
        .ok_or(Error::NothingTo { verb: "undo" })
}

/// Returns the id of the command that left running what did `operation`, or of `operation` itself, if
/// more than that one can be undone of that command ([`of_session`]).
pub fn whole_command(operations: &[Operation], operation: &Operation) -> Option<OperationId> {
    let own = operations
        .iter()
        .position(|o| o.begin.id == operation.begin.id)?;
    let command = operations[places(operations)[own]].begin.id;
    let is_session = operation.is_session();
    (!is_session && of_session(operations, command).nth(1).is_some()).then_some(command)
}

/// Returns the operations of this workspace that can be undone, newest first.
pub fn newest_first<'a>(
    operations: &'a [Operation],
    here: &Here<'_>,
) -> impl Iterator<Item = &'a Operation> {
    let own = operations.iter().rev();
    own.filter(move |operation| is_step_back(operation) && here.has(operation))
}

/// Returns the operations that can be undone of the newest commands of this workspace, newest first.
pub fn of_last<'a>(
    operations: &'a [Operation],
    here: &Here<'_>,
    commands: usize,
) -> Vec<&'a Operation> {
    let (mut last, mut chosen) = (HashSet::new(), HashSet::new());
    let candidates = by_command(operations).filter(|(_, operation)| is_step_back(operation));
    for (place, operation) in candidates.filter(|(_, operation)| here.has(operation)) {
        if !last.contains(&place) && last.len() == commands {
            break;
        }
        last.insert(place);
        chosen.insert(operation.begin.id);
    }
    let own = operations.iter().rev();
    own.filter(|o| chosen.contains(&o.begin.id)).collect()
}

/// Returns true if undoing it is a step back: it is neither an undo nor a redo.
fn is_step_back(operation: &Operation) -> bool {
    let kind = operation.begin.kind;
    operation.is_undoable()
        && operation.is_ours
        && !matches!(kind, OperationKind::Undo | OperationKind::Redo)
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
