//! Operations, in words and as documents.

use std::path::Path;

use bdr::base::id::Id;
use bdr::model::agent::MCP_HOST;
use bdr::model::merge::Changes;
use bdr::repo::Repository;
use bdr::repo::by_path::root_path;
use bdr::repo::oplog::{Operation, OperationKind};
use bdr::repo::origin::Origin;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::ui::count;
use crate::ui::table::shorten;

/// Returns a one-line description of an operation.
pub(crate) fn title(operation: &Operation, ids: &[Id]) -> String {
    let begin = &operation.begin;
    let target = begin.undoes.map(|id| id.prefix(ids));
    let mut title = match (begin.kind, target) {
        (OperationKind::Undo | OperationKind::Redo, Some(target)) => {
            let more = match begin.also.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{} {target}{more}", begin.kind.word())
        }
        (OperationKind::Sync, _) => match &begin.sync {
            Some(sync) => format!(
                "sync {} with {}",
                sync.source,
                bdr::base::path::show(sync.host.as_ref())
            ),
            None => "sync".to_owned(),
        },
        (OperationKind::Restore, _) => match &begin.restore {
            Some(journal) => format!("restore from {}", journal.snapshot.prefix(ids)),
            None => "restore".to_owned(),
        },
        // An agent's command is a line already.
        _ if begin.agent.is_some() => {
            let words = begin.argv.iter().map(|word| bdr::base::path::show(&word.0));
            words.collect::<Vec<_>>().join(" ")
        }
        _ => {
            let argv: Vec<_> = begin.argv.iter().map(|arg| arg.0.clone()).collect();
            crate::app::guard::shell_words(&argv)
        }
    };
    if let Some(label) = &begin.label {
        let label = bdr::base::path::show(label.as_ref());
        title = match title.is_empty() {
            true => label,
            false => format!("{label}: {title}"),
        };
    }
    title
}

/// Returns the command at the beginning of a chain of undos and redos.
pub(crate) fn reversed<'a>(
    operation: &Operation,
    operations: &'a [Operation],
) -> Option<&'a Operation> {
    let find = |id| operations.iter().find(|o| o.begin.id == id);
    let mut found = find(operation.begin.undoes?)?;
    // Each reverses an earlier one; without this check, a record that names itself would never end
    // the loop.
    while let Some(id) = found.begin.undoes.filter(|id| *id < found.begin.id) {
        found = find(id)?;
    }
    Some(found)
}

/// Returns "−313 +2 ~14".
pub(crate) fn counts(operation: &Operation, minus: char) -> String {
    if operation.end.is_none() || operation.begin.kind == OperationKind::Call {
        return String::new();
    }
    let (deleted, created, modified) = operation.counts();
    let parts: Vec<String> = [(minus, deleted), ('+', created), ('~', modified)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(sign, n)| format!("{sign}{}", count(n)))
        .collect();
    if operation.is_session() {
        "session".to_owned()
    } else if parts.is_empty() {
        "no change".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Returns the operations that a capture has not recorded yet, because their commands still run,
/// oldest first.
pub(crate) fn under_way(repo: &Repository) -> Vec<Operation> {
    #[cfg(target_os = "linux")]
    return bdr::protect::calls::under_way(repo);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = repo;
        Vec::new()
    }
}

/// Returns all operations, those that still run among them, oldest first.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn all(repo: &Repository) -> bdr::Result<Vec<Operation>> {
    let mut operations = repo.operations()?;
    operations.extend(under_way(repo));
    operations.sort_by_key(|operation| operation.begin.id);
    Ok(operations)
}

/// Makes sure that no operation of a workspace still runs that is newer than `chosen`: without its
/// record, whoever asks for the last one would get the one before.
///
/// # Errors
/// One runs.
pub(crate) fn check_under_way(
    repo: &Repository,
    workspace: &Path,
    chosen: Option<Id>,
) -> Result<(), Failure> {
    let here = |o: &Operation| o.begin.cwd.as_path().starts_with(workspace);
    let running = under_way(repo);
    let newest = running.iter().rev().find(|o| here(o));
    match newest.filter(|o| chosen.is_none_or(|id| id < o.begin.id)) {
        None => Ok(()),
        Some(operation) => Err(still_runs(operation, chosen)),
    }
}

/// Returns the refusal to undo an operation that still runs.
pub(crate) fn still_runs(operation: &Operation, before: Option<Id>) -> Failure {
    let pid = operation.begin.pid;
    let before = before.map_or_else(String::new, |id| {
        format!("; the one before it: bdr undo {}", id.prefix(&[]))
    });
    Failure::Hinted {
        error: Box::new(bdr::Error::Running {
            command: title(operation, &[]),
        }),
        hint: format!("wait for process {pid}, or stop it, then: bdr undo{before}"),
    }
}

/// Returns true if a capture has an operation in hand.
fn is_captured_now(repo: &Repository, id: Id) -> bool {
    #[cfg(target_os = "linux")]
    return bdr::protect::calls::is_live(repo, id);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (repo, id);
        false
    }
}

/// Returns the state of an operation without an end: its processes may still run.
pub(crate) fn unfinished(
    cx: &Context,
    repo: &Repository,
    operation: &Operation,
) -> Option<&'static str> {
    match &operation.end {
        Some(end) => end.interrupted.then_some("interrupted"),
        None if repo.is_running(&operation.begin, cx.now) => Some("running"),
        None if is_captured_now(repo, operation.begin.id) => Some("running"),
        None => Some("interrupted"),
    }
}

pub(crate) fn remarks(cx: &Context, repo: &Repository, operation: &Operation) -> Vec<String> {
    let begin = &operation.begin;
    let mut remarks = Vec::new();
    let caller = begin.agent.as_ref().filter(|agent| agent.host == MCP_HOST);
    if let Some(client) = caller.and_then(|agent| agent.session.as_ref()) {
        remarks.push(format!("by {}", bdr::base::path::show(client.as_ref())));
    }
    if let Some(session) = begin.session.filter(|session| *session != begin.id) {
        remarks.push(format!("in {}", session.prefix(&[])));
    }
    if operation.undone_by.is_some() {
        remarks.push("undone".to_owned());
    } else if let Some(part) = operation.partly {
        let (done, of) = (count(part.done), count(part.of));
        remarks.push(format!("partly undone ({done} of {of})"));
    }
    match operation.origin {
        Origin::Here | Origin::Before => {}
        Origin::Elsewhere => remarks.push("recorded elsewhere".to_owned()),
        Origin::Unbound => remarks.push("not recorded by this machine".to_owned()),
    }
    if operation.pinned {
        remarks.push("pinned".to_owned());
    }
    match &operation.end {
        None => remarks.extend(unfinished(cx, repo, operation).map(str::to_owned)),
        Some(end) if end.interrupted => remarks.push("interrupted".to_owned()),
        Some(end) => match (end.exit, end.signal) {
            (_, Some(signal)) => remarks.push(format!("signal {signal}")),
            (Some(code), _) if code != 0 => remarks.push(format!("exit {code}")),
            _ => {}
        },
    }
    if !begin.not_captured.is_empty() {
        remarks.push(format!(
            "{} not captured",
            count(begin.not_captured.len() as u64)
        ));
    }
    remarks
}

/// Most keys named in a line of the log.
pub(crate) const KEYS: usize = 3;

/// Returns what changed inside the only file that an operation changed:
/// `~/.claude.json: −mcpServers.foo`.
pub(crate) fn detail(
    cx: &Context,
    repo: &Repository,
    operation: &Operation,
    minus: char,
) -> Option<String> {
    let end = operation.end.as_ref()?;
    let mut inside = end
        .roots
        .iter()
        .flat_map(|root| root.merges.iter().map(move |inside| (root, inside)));
    let ((root, inside), None) = (inside.next()?, inside.next()) else {
        return None;
    };
    if operation.counts() != (0, 0, 1) {
        return None;
    }
    let what = match &inside.changes {
        Changes::Keys { keys } if keys.is_empty() => return None,
        Changes::Keys { keys } => {
            let named = keys.iter().take(KEYS).map(|key| {
                let sign = if key.after.is_none() { minus } else { '~' };
                let path = key.path.join(".");
                format!(
                    "{sign}{}",
                    shorten(&bdr::base::path::show(path.as_ref()), 40, '~')
                )
            });
            let mut named = named.collect::<Vec<_>>().join(" ");
            if keys.len() > KEYS {
                named.push_str(&format!(" and {} more", keys.len() - KEYS));
            }
            named
        }
        Changes::Lines { gone, new } => {
            let gone: u64 = gone.iter().map(|(_, number)| u64::from(*number)).sum();
            format!("{minus}{} +{} lines", count(gone), count(new.len() as u64))
        }
    };
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    let path = inside.path.to_path(&root_path(root, snapshot.as_ref()));
    Some(format!("{}: {what}", cx.shown_absolute(&path)))
}
