//! `bdr undo`, `bdr redo`.

use std::ffi::{OsStr, OsString};

use bdr::Error;
use bdr::base::id::Id;
use bdr::base::path::absolute;
use bdr::recover::undo::{self, Here};
use bdr::repo::Repository;
use bdr::repo::by_path::ByPath;
use bdr::repo::oplog::{Operation, OperationKind, resolve};
use clap::Args;
use reverse::{Found, How, Reversal, reverse};
use several::{Range, several};

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::log;
use crate::ui::when;

mod pick;
mod reverse;
mod several;
mod words;

/// Undo what an operation changed
///
/// Without OP: the last operation here that can be undone, with what it left running. Only what the operation changed is reversed. A path that has changed
/// again since is a conflict: bdr keeps your version and writes the old one beside it. An undo can be undone too, with `bdr
/// redo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr undo                     undo the last operation here
  bdr undo --dry-run           show what that would do
  bdr undo 7f3a                undo this one (see `bdr log`)
  bdr undo 7f3a src/main.rs    only this path
  bdr undo --last 3            undo the last three here, newest first
  bdr undo --since 1h          every one of the last hour; also yesterday, monday, \"2 weeks ago\"
  bdr undo 5c1d                a session (a guarded shell or agent): everything that its commands did
  bdr undo -i                  choose from lists
  bdr undo --force 7f3a        also paths that changed again since (they are saved first)
  bdr undo --all 7f3a          also changes elsewhere, most likely by other programs
  bdr undo --yes               without a terminal, as in a script: what was done here in the last 10 minutes
  bdr undo 7f3a --yes          the same for any other operation

Exit codes: 3 if a conflict remains, if something cannot be undone, or if a script has to say --yes, or which operation.")]
pub(crate) struct UndoArgs {
    /// Operation (from `bdr log`), then paths; without an operation, the last one
    #[arg(value_name = "OP] [PATH", value_hint = clap::ValueHint::AnyPath)]
    words: Vec<OsString>,
    /// Undo the last N operations, newest first
    #[arg(long, value_name = "N", conflicts_with = "words", value_parser = clap::value_parser!(u16).range(1..))]
    last: Option<u16>,
    /// Undo every operation since this time, newest first
    #[arg(long, value_name = "TIME", conflicts_with_all = ["words", "last"])]
    since: Option<String>,
    /// Choose an operation and what of it to undo, from lists
    #[arg(long, short, conflicts_with_all = ["words", "last", "since", "yes", "dry_run"])]
    interactive: bool,
    /// Also put back paths that changed again since; their current content is saved first
    #[arg(long)]
    force: bool,
    /// Also undo changes in places that the operation neither named nor ran in
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: How,
}

/// Reverse an undo
///
/// Without OP: the last undo here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr redo
  bdr redo --dry-run
  bdr redo 9c1e")]
pub(crate) struct RedoArgs {
    /// The undo to reverse, from `bdr log`
    #[arg(value_name = "OP")]
    operation: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Returns the operations of which the named one is only the first: a session's, or those of what a
/// captured command left running.
fn with_parts<'a>(words: &[OsString], operations: &[Operation]) -> Option<Range<'a>> {
    let word = words.first()?.to_str()?;
    let operation = resolve(operations, word).ok()?;
    let id = operation.begin.id;
    let more = || undo::of_session(operations, id).any(|of_it| of_it.begin.id != id);
    let has_parts = operation.is_session() || words.len() == 1 && more();
    has_parts.then_some(Range::Session(id))
}

pub(crate) fn undo(cx: &Context, args: &UndoArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    nothing_waits(cx, &repo)?;
    let operations = operations(&repo)?;
    if args.interactive {
        return pick::interactive(cx, &args.how, (args.force, args.all), &repo, &operations);
    }
    let last = args.last.map(Range::Last);
    let since = args.since.as_deref().map(Range::Since);
    let session = with_parts(&args.words, &operations);
    if let (Some(_), [_, path, ..]) = (session, &args.words[..]) {
        let path = bdr::base::path::show(path);
        return Err(Failure::usage(
            format!("a session is undone as a whole, and `{path}` is a part"),
            "bdr log --path PATH names the operation that changed it",
        ));
    }
    if let Some(range) = last.or(since).or(session) {
        return several(
            cx,
            range,
            &args.how,
            (args.force, args.all),
            &repo,
            &operations,
        );
    }
    let named = named(cx, &repo, &operations, &args.words)?;
    let workspace = cx.workspace();
    let here = Here::new(&repo, &workspace);
    let (operation, paths) = match named {
        Some(named) => named,
        None => {
            let chosen = undo::choose(&operations, &here, args.all);
            log::check_under_way(&repo, &workspace, chosen.as_ref().ok().map(|o| o.begin.id))?;
            // A record that cannot be read may be the newest, and we must not undo another one
            // instead.
            repo.check_log(chosen.as_ref().ok().map(|o| o.begin.id))?;
            let chosen = chosen.map_err(|error| instead(error, &operations))?;
            check_words(cx, &repo, &operations, chosen, &args.words)?;
            let whole = undo::whole_command(&operations, chosen);
            if let (Some(id), true) = (whole, args.words.is_empty()) {
                let flags = (args.force, args.all);
                let range = Range::Plain(id);
                return several(cx, range, &args.how, flags, &repo, &operations);
            }
            (chosen, &args.words[..])
        }
    };
    let elsewhere = named.is_none() && !here.has(operation);
    let asks = args.how.dry_run || cx.ui.can_ask && !args.how.yes;
    if elsewhere && !asks {
        // `--yes` covers only operations of this workspace: a script in one project must not revert
        // another.
        let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
        let place = cx.shown_absolute(operation.begin.cwd.as_path());
        let id = operation.begin.id.prefix(&ids);
        return Err(Failure::Hinted {
            error: Box::new(Error::NothingTo { verb: "undo here" }),
            hint: format!("the last operation ran in {place}: bdr undo {id} --yes"),
        });
    }
    let done = Reversal {
        words: paths,
        how: &args.how,
        force: args.force,
        all: args.all,
        verb: "undo",
        found: match named {
            Some(_) => Found::Named,
            None => Found::Plain { elsewhere },
        },
    };
    reverse(cx, &repo, &operations, operation, &done)
}

/// Returns the operation that the first word names, and the paths after it.
fn named<'a, 'w>(
    cx: &Context,
    repo: &Repository,
    operations: &'a [Operation],
    words: &'w [OsString],
) -> Result<Option<(&'a Operation, &'w [OsString])>, Failure> {
    let Some((word, rest)) = words.split_first() else {
        return Ok(None);
    };
    let Some(text) = word.to_str() else {
        return Ok(None);
    };
    match resolve(operations, text) {
        Ok(operation) => Ok(Some((
            done_again(cx, repo, operations, operation, rest),
            rest,
        ))),
        Err(error @ Error::Ambiguous { .. }) => Err(error.into()),
        Err(_) => match resolve(&log::under_way(repo), text) {
            Ok(operation) => Err(log::still_runs(operation, None)),
            Err(_) => Ok(None),
        },
    }
}

/// Makes sure that nothing captured waits to be recorded: without it, the last operation would be
/// another one.
#[cfg(target_os = "linux")]
fn nothing_waits(cx: &Context, repo: &Repository) -> Result<(), Failure> {
    use bdr::protect::calls;

    let waiting = calls::waiting(repo).len() as u64;
    let never = [cx.places.config.clone()];
    match calls::recover(repo, &never, cx.now) {
        Err(error) if waiting > 0 => Err(Failure::Hinted {
            error: Box::new(error),
            hint: format!(
                "{} waiting to be recorded, and nothing of it is lost: make room in {}, then bdr undo",
                crate::ui::plural(waiting, "operation"),
                cx.shown_absolute(repo.location())
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn nothing_waits(_cx: &Context, _repo: &Repository) -> Result<(), Failure> {
    Ok(())
}

/// Returns the operation that must be undone to undo `operation`: the redo that repeated it, unless
/// the redo did not touch the requested paths. A redo skips files that the undo before it left as
/// conflicts.
fn done_again<'a>(
    cx: &Context,
    repo: &Repository,
    operations: &'a [Operation],
    operation: &'a Operation,
    words: &[OsString],
) -> &'a Operation {
    let effective = undo::effective(operations, operation);
    let mut by_path = ByPath::new(repo);
    let mut changed = |word: &OsString| {
        let place = absolute(&cx.cwd, word.as_ref());
        by_path.saw_changes(effective, &place)
    };
    match words.is_empty() || words.iter().any(&mut changed) {
        true => effective,
        false => operation,
    }
}

/// Names an operation that the user may mean, if none can be undone: one that changed only other
/// places, or one that another machine recorded.
fn instead(error: Error, operations: &[Operation]) -> Failure {
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let newest = |is_it: &dyn Fn(&Operation) -> bool| operations.iter().rev().find(|o| is_it(o));
    let theirs = newest(&|o| !o.is_ours && o.is_undoable());
    let newest = newest(&|o| o.is_ours && o.saw_changes_elsewhere());
    match (error, newest.or(theirs)) {
        (error @ Error::NothingTo { .. }, Some(operation)) if !operation.is_ours => {
            let id = operation.begin.id.prefix(&ids);
            let hint =
                format!("{id} was not recorded by this machine: bdr show {id}, then bdr undo {id}");
            let error = Box::new(error);
            Failure::Hinted { error, hint }
        }
        (error @ Error::NothingTo { .. }, Some(operation)) => {
            let id = operation.begin.id.prefix(&ids);
            Failure::Hinted {
                error: Box::new(error),
                hint: format!("other places changed while {id} ran: bdr undo {id} --all"),
            }
        }
        (error, _) => error.into(),
    }
}

/// Makes sure that words which are no operation are paths that `chosen` changed; otherwise the
/// error names the operation that changed them. Without this check a mistyped id would count as a
/// path.
fn check_words(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    chosen: &Operation,
    words: &[OsString],
) -> Result<(), Failure> {
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    for word in words {
        let wanted = absolute(&cx.cwd, word.as_ref());
        let mut by_path = ByPath::new(repo);
        // An interrupted operation has no list of changes, so we compare with the present.
        if chosen.end.is_none()
            || by_path.saw_changes(chosen, &wanted)
            || !chosen.begin.not_captured.is_empty()
        {
            continue;
        }
        let unseen = chosen
            .end
            .as_ref()
            .is_some_and(|end| !end.unseen.is_empty());
        let shown = bdr::base::path::show(word);
        let mut others = operations.iter().rev().filter(|o| {
            o.is_ours && o.is_undoable() && o.end.is_some() && o.begin.kind != OperationKind::Undo
        });
        let other = others.find(|other| by_path.saw_changes(other, &wanted));
        let (place, hint) = match other {
            _ if unseen => continue,
            Some(other) => {
                let (id, title) = (other.begin.id.prefix(&ids), log::title(other, &ids));
                let ago = when::ago(cx.now, other.begin.time);
                let last = chosen.begin.id.prefix(&ids);
                let word = crate::app::guard::shell_words(std::slice::from_ref(word));
                let place = format!(
                    "what the last operation here, {last}, changed, but in {id}: {title}, {ago}"
                );
                (place, format!("bdr undo {id} {word}"))
            }
            None if words.len() == 1 && !wanted.exists() && is_like_an_id(word) => {
                let place = "what the last operation changed, and no operation matches it";
                (place.to_owned(), "bdr log".to_owned())
            }
            None => continue,
        };
        let error = Box::new(Error::NoSuchPath { path: shown, place });
        return Err(Failure::Hinted { error, hint });
    }
    Ok(())
}

/// Returns true if a word looks like the name of an operation.
fn is_like_an_id(word: &OsStr) -> bool {
    let text = word.to_str().unwrap_or_default();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns all operations except the one that the shell hook opened for this very command line. If
/// the hook opened it only because it did not know the line, the record is removed: the undo is an
/// operation itself.
fn operations(repo: &Repository) -> Result<Vec<Operation>, Failure> {
    let mut operations = repo.operations()?;
    let parent = bdr::disk::fsutil::parent_process().map(|parent| format!(" {parent}"));
    let around = |operation: &Operation| {
        let call = operation.begin.agent.as_ref();
        let session = call
            .filter(|call| {
                operation.end.is_none() && call.host == bdr::model::agent::Host::Shell.word()
            })
            .and_then(|call| call.session.as_ref());
        session
            .zip(parent.as_ref())
            .is_some_and(|(session, parent)| session.ends_with(parent.as_str()))
    };
    for operation in operations
        .iter()
        .filter(|o| around(o) && o.begin.argv.is_empty())
    {
        repo.forget(std::slice::from_ref(operation), operation)?;
    }
    operations.retain(|operation| !around(operation));
    Ok(operations)
}

pub(crate) fn redo(cx: &Context, args: &RedoArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = operations(&repo)?;
    let operation = match &args.operation {
        Some(name) => resolve(&operations, name)?,
        None => {
            let chosen = undo::choose_redo(&operations, &Here::new(&repo, &cx.workspace()));
            repo.check_log(chosen.as_ref().ok().map(|o| o.begin.id))?;
            chosen?
        }
    };
    let done = Reversal {
        words: &[],
        how: &args.how,
        force: false,
        all: false,
        verb: "redo",
        found: Found::Named,
    };
    reverse(cx, &repo, &operations, operation, &done)
}
