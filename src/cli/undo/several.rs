//! Undoes several operations: as one where their records allow that, else newest first, each with its
//! own undo.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bdr::Error;
use bdr::base::id::OperationId;
use bdr::recover::undo::{self, Here, Together, UndoAction, UndoPlan, UndoStep};
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;

use super::reverse::{Found, How, Reversal, is_old, is_set_up, reverse};
use super::words::{ending, git_of, heading, listed, steps};
use crate::app::context::Context;
use crate::app::documents::{UndoAsked, UndoDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log;
use crate::app::time;
use crate::ui::{plural, prompt};

/// Which operations.
#[derive(Debug, Clone, Copy)]
pub(super) enum Range<'a> {
    /// So many, of this workspace.
    Last(u16),
    /// Since a time, of this workspace.
    Since(&'a str),
    /// Those of a session, wherever they were.
    Session(OperationId),
    /// The last command here, and what it left running, without being named.
    Plain(OperationId),
}

/// More operations than these are not listed one by one.
const LISTED: usize = 20;

/// Undoes operations. One by one it stops at a conflict, because earlier operations may depend on the
/// file.
pub(super) fn several(
    cx: &Context,
    range: Range<'_>,
    how: &How,
    (force, all): (bool, bool),
    repo: &Repository,
    operations: &[Operation],
) -> Result<u8, Failure> {
    let since = match range {
        Range::Since(text) => Some(time::parse(text, cx.now)?),
        _ => None,
    };
    let workspace = cx.workspace();
    let here = Here::new(repo, &workspace);
    let chosen: Vec<&Operation> = match range {
        Range::Session(id) | Range::Plain(id) => undo::of_session(operations, id).collect(),
        Range::Last(most) => undo::of_last(operations, &here, usize::from(most)),
        Range::Since(_) => undo::newest_first(operations, &here)
            .filter(|operation| since.is_none_or(|since| operation.begin.time >= since))
            .collect(),
    };
    if !matches!(range, Range::Session(_) | Range::Plain(_)) {
        log::check_under_way(repo, &workspace, chosen.first().map(|o| o.begin.id))?;
    }
    repo.check_log(chosen.last().map(|o| o.begin.id))?;
    if chosen.is_empty() {
        return Err(Error::NothingTo { verb: "undo" }.into());
    }
    let plain = matches!(range, Range::Plain(_));
    let in_doubt = chosen.iter().any(|operation| {
        let is_here = operation.begin.cwd.as_path().starts_with(&workspace);
        is_old(cx, operation) || is_set_up(operation) || plain && !is_here
    });
    // Without its name, `--yes` is no word for what is no longer on the user's screen.
    let how = &How {
        yes: how.yes && !(plain && in_doubt),
        ..*how
    };
    let done = Reversal {
        words: &[],
        how,
        force,
        all,
        verb: "undo",
        found: Found::Shown,
    };
    let ready = how.yes || cx.ui.can_ask;
    if let Some((one, plan)) = at_once(cx, repo, &chosen, &done)? {
        let all = All {
            range,
            operations,
            chosen: &chosen,
            in_doubt,
        };
        return undo_at_once(cx, repo, &all, (&one, plan), &done);
    }
    if cx.ui.json && (how.dry_run || !ready) {
        let mut code = exit::OK;
        for operation in chosen {
            code = code.max(reverse(cx, repo, operations, operation, &done)?);
        }
        return Ok(code);
    }
    if !cx.ui.json {
        let text = plans(cx, repo, operations, &chosen, &done)?;
        if let Some(code) = only_shown(cx, text, range, &done)? {
            return Ok(code);
        }
    }
    if !agreed(cx, &chosen, in_doubt, how)? {
        return Ok(exit::OK);
    }
    for operation in chosen {
        let code = reverse(cx, repo, operations, operation, &done)?;
        if code != exit::OK {
            return Ok(code);
        }
    }
    Ok(exit::OK)
}

/// Shows what will be undone. Returns the exit code if that is all, because of `--dry-run` or because
/// nobody can agree to it.
fn only_shown(
    cx: &Context,
    mut text: String,
    range: Range<'_>,
    done: &Reversal<'_>,
) -> Result<Option<u8>, Failure> {
    let (dry_run, ready) = (done.how.dry_run, done.how.yes || cx.ui.can_ask);
    if !dry_run && ready {
        cx.ui.report(&text)?;
        return Ok(None);
    }
    text.push_str("Nothing was changed.");
    if !dry_run {
        let command = command(range, done);
        text.push_str(&format!(" Without a terminal, say so: {command}"));
    }
    cx.ui.data(&format!("{text}\n"))?;
    Ok(Some(if dry_run { exit::OK } else { exit::PARTIAL }))
}

/// Asks, if a period may contain more operations than the user remembers.
fn agreed(cx: &Context, chosen: &[&Operation], in_doubt: bool, how: &How) -> Result<bool, Failure> {
    if how.yes || !in_doubt {
        return Ok(true);
    }
    let operations = plural(chosen.len() as u64, "operation");
    let agreed = prompt::confirm(&format!("Undo {operations}?"), false)?;
    if !agreed {
        cx.ui.report("Nothing was changed.\n")?;
    }
    Ok(agreed)
}

/// Returns the plan that undoes all operations at once; `None` if they have to be undone one by one.
fn at_once(
    cx: &Context,
    repo: &Repository,
    chosen: &[&Operation],
    done: &Reversal<'_>,
) -> Result<Option<(Together, UndoPlan)>, Failure> {
    if chosen.len() < 2 || done.force || done.all {
        return Ok(None);
    }
    let Some(one) = undo::together(repo, chosen)? else {
        return Ok(None);
    };
    let plan = undo::plan_together(repo, &one, &done.options(cx, repo), &cx.progress())?;
    Ok(plan.is_clean().then_some((one, plan)))
}

/// What is undone at once.
struct All<'a> {
    range: Range<'a>,
    operations: &'a [Operation],
    chosen: &'a [&'a Operation],
    /// The user may not remember all of them, or mean others.
    in_doubt: bool,
}

/// Undoes several operations with one plan.
fn undo_at_once(
    cx: &Context,
    repo: &Repository,
    all: &All<'_>,
    (one, plan): (&Together, UndoPlan),
    done: &Reversal<'_>,
) -> Result<u8, Failure> {
    let how = done.how;
    let document = cx.ui.json.then(|| {
        let asked = UndoAsked {
            dry_run: how.dry_run,
            here: true,
            set_up: all.chosen.iter().any(|operation| is_set_up(operation)),
            command: command(all.range, done),
        };
        UndoDocument::new(one.operation(), &plan, &[], asked)
    });
    match document {
        Some(document) if how.dry_run || !(how.yes || cx.ui.can_ask) => {
            let code = if how.dry_run { exit::OK } else { exit::PARTIAL };
            cx.ui.document("undo", code, &document)?;
            return Ok(code);
        }
        Some(_) => {}
        None => {
            let mut text = String::new();
            for operation in all.chosen.iter().take(LISTED) {
                text.push_str(&heading(cx, operation, all.operations, "undo", None));
            }
            if let Some(more @ 1..) = all.chosen.len().checked_sub(LISTED) {
                text.push_str(&format!("and {}\n", plural(more as u64, "more operation")));
            }
            for part in &one.operation().begin.remote {
                let part = bdr::base::path::show(part.as_ref());
                text.push_str(&format!("  not undone: {part}  it acted elsewhere\n"));
            }
            text.push_str(&steps(cx, &plan, &[], how.files));
            if let Some(code) = only_shown(cx, text, all.range, done)? {
                return Ok(code);
            }
        }
    }
    if !agreed(cx, all.chosen, all.in_doubt, how)? {
        return Ok(exit::OK);
    }
    let options = done.options(cx, repo);
    let report = undo::apply(repo, one.operation(), plan, &options, &cx.progress())?;
    let whole = report.problems.is_empty() && report.missing.is_empty();
    let code = if whole { exit::OK } else { exit::PARTIAL };
    match document {
        Some(document) => cx.ui.document("undo", code, &document.done(&report))?,
        None => cx.ui.report(&ending(cx, &report, "undo", None, ""))?,
    }
    Ok(code)
}

/// Returns the command that does the same without asking.
fn command(range: Range<'_>, done: &Reversal<'_>) -> String {
    let which = match range {
        Range::Last(last) => format!("--last {last}"),
        Range::Since(since) => {
            format!(
                "--since {}",
                crate::app::guard::shell_words(&[since.into()])
            )
        }
        Range::Session(id) | Range::Plain(id) => id.prefix(&[]),
    };
    let mut command = format!("bdr undo {which}");
    for (given, flag) in [(done.force, " --force"), (done.all, " --all")] {
        command.push_str(if given { flag } else { "" });
    }
    command + " --yes"
}

/// Returns the plan of each operation. Paths that a later operation changed too can be planned only
/// when that one is undone, and are marked so.
fn plans(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    chosen: &[&Operation],
    done: &Reversal<'_>,
) -> Result<String, Failure> {
    let mut options = done.options(cx, repo);
    options.look_only = true;
    let mut text = String::new();
    let mut before: HashSet<PathBuf> = HashSet::new();
    for operation in chosen {
        let mut plan = undo::plan(repo, operation, &options, &cx.progress())?;
        text.push_str(&heading(cx, operation, operations, "undo", None));
        let is_shared = |path: &Path| {
            let mut above = path.ancestors();
            above.any(|above| before.contains(above))
        };
        let (mut shared, own): (Vec<UndoStep>, Vec<UndoStep>) = std::mem::take(&mut plan.steps)
            .into_iter()
            .partition(|step| is_shared(&step.path));
        plan.steps = own;
        if !plan.steps.is_empty() || shared.is_empty() {
            let git = git_of(repo, operation, &plan.steps)?;
            text.push_str(&steps(cx, &plan, &git, done.how.files));
        }
        for step in &mut shared {
            // Whether it fits by then can only be said then.
            step.action = match step.action {
                UndoAction::Conflict => UndoAction::Restore,
                UndoAction::Keep => UndoAction::Remove,
                action => action,
            };
        }
        if !shared.is_empty() {
            text.push_str("  and what is undone above as well, as it is by then:\n");
            let git = git_of(repo, operation, &shared)?;
            text.push_str(&listed(cx, &shared, &git, done.how.files));
        }
        before.extend(plan.steps.into_iter().map(|step| step.path));
        before.extend(shared.into_iter().map(|step| step.path));
    }
    Ok(text)
}
