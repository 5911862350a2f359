//! Undoes one operation: plans it, shows it, asks if it may not be the intended one, and applies
//! it.

use std::ffi::OsString;

use bdr::Error;
use bdr::base::id::Id;
use bdr::base::path::absolute;
use bdr::model::agent::OWN_HOST;
use bdr::recover::undo::{self, Here, UndoOptions, UndoPlan};
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;
use chrono::TimeDelta;
use clap::Args;

use super::words::{self, ending, heading, meanwhile, steps};
use crate::app::context::Context;
use crate::app::documents::{UndoAsked, UndoDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log;
use crate::app::refs::Touched;
use crate::ui::{prompt, when};

/// A plain undo does not ask about an operation this recent, because the user still has it on the
/// screen.
const RECENT: TimeDelta = TimeDelta::minutes(10);

#[derive(Debug, Args)]
pub(super) struct How {
    /// Print the plan; change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// List every path of the plan, instead of directories
    #[arg(long)]
    pub(super) files: bool,
    /// Do not ask (needed where there is no terminal)
    #[arg(long, short)]
    pub(super) yes: bool,
}

/// How to undo an operation.
pub(super) struct Reversal<'a> {
    /// Only these paths; empty for all.
    pub(super) words: &'a [OsString],
    pub(super) how: &'a How,
    pub(super) force: bool,
    pub(super) all: bool,
    pub(super) verb: &'static str,
    pub(super) found: Found,
}

/// How the operation was found: one that nobody named may not be the intended one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Named,
    /// By a plain `bdr undo`.
    Plain {
        /// It belongs to another workspace.
        elsewhere: bool,
    },
    /// From a list, so the user has agreed to it.
    Picked,
    /// As one of several, whose plans the user has seen and agreed to.
    Shown,
}

impl Reversal<'_> {
    pub(super) fn options(&self, cx: &Context, repo: &Repository) -> UndoOptions {
        let paths = self.words.iter();
        UndoOptions {
            now: cx.now,
            cwd: cx.cwd.clone(),
            argv: cx.argv(),
            paths: paths.map(|w| absolute(&cx.cwd, w.as_ref())).collect(),
            force: self.force,
            all: self.all,
            look_only: self.how.dry_run,
            never: repo.own_paths(),
            host: cx.host.clone(),
            agent: None,
        }
    }

    /// Returns the command that does the same to `id` without asking, whatever happens in between.
    fn command(&self, id: &str) -> String {
        let mut command = format!("bdr {} {id}", self.verb);
        for (given, flag) in [(self.force, " --force"), (self.all, " --all")] {
            command.push_str(if given { flag } else { "" });
        }
        command.push_str(" --yes");
        if !self.words.is_empty() {
            command.push_str(&format!(" {}", crate::app::guard::shell_words(self.words)));
        }
        command
    }

    /// Returns what is unexpected about an operation that nobody named, where `--yes` is given:
    /// that answers for what was just done here, and does not choose an operation.
    fn unexpected(&self, cx: &Context, operation: &Operation, plan: &UndoPlan) -> Option<String> {
        let plain = self.how.yes && matches!(self.found, Found::Plain { .. });
        let ago = || when::ago(cx.now, operation.begin.time);
        match operation {
            _ if !plain => None,
            operation if is_set_up(operation) => Some("bdr's own set-up".to_owned()),
            operation if is_old(cx, operation) => Some(format!("an operation from {}", ago())),
            operation if reaches_out(cx, operation, plan) => {
                let place = cx.shown_absolute(operation.begin.cwd.as_path());
                Some(format!("what ran in {place} and is undone there too"))
            }
            _ => None,
        }
    }

    /// Returns the question to ask first, if it may not be the intended operation.
    fn question(&self, cx: &Context, operation: &Operation, plan: &UndoPlan) -> Option<String> {
        if self.how.yes {
            return None;
        }
        let nothing = plan.steps.is_empty() && plan.unseen.is_empty();
        let question = match self.found {
            Found::Shown => return None,
            _ if !operation.is_ours => "Undo it anyway?".to_owned(),
            Found::Picked => "Undo this?".to_owned(),
            Found::Named => return None,
            Found::Plain { .. } if is_set_up(operation) => "Undo bdr's own set-up?".to_owned(),
            Found::Plain { elsewhere: true } => "Undo that one?".to_owned(),
            Found::Plain { .. } if nothing => {
                "There is nothing to do for it. Undo it anyway?".to_owned()
            }
            Found::Plain { .. } if is_old(cx, operation) => {
                let ago = when::ago(cx.now, operation.begin.time);
                format!("It is from {ago}. Undo it?")
            }
            Found::Plain { .. } if reaches_out(cx, operation, plan) => {
                let place = cx.shown_absolute(operation.begin.cwd.as_path());
                format!("It ran in {place}, and is undone there too. Undo it?")
            }
            Found::Plain { .. } => return None,
        };
        Some(question)
    }
}

/// Returns true if the operation is no longer on the user's screen.
pub(super) fn is_old(cx: &Context, operation: &Operation) -> bool {
    cx.now - operation.begin.time > RECENT
}

/// Returns true for an operation that ran in another place and did something here, if not only that
/// is undone: somebody may still work there.
fn reaches_out(cx: &Context, operation: &Operation, plan: &UndoPlan) -> bool {
    let workspace = cx.workspace();
    let is_outside = |path: &std::path::Path| !path.starts_with(&workspace);
    is_outside(operation.begin.cwd.as_path())
        && plan.steps.iter().any(|step| is_outside(&step.path))
}

/// Returns true if bdr changed its own set-up, as `bdr hooks install` does.
pub(super) fn is_set_up(operation: &Operation) -> bool {
    let caller = operation.begin.agent.as_ref();
    caller.is_some_and(|caller| caller.host == OWN_HOST)
}

/// Returns the operation that a plain undo would reverse if the last one were not a change of bdr's
/// own set-up.
fn before_set_up<'a>(operations: &'a [Operation], here: &Here<'_>) -> Option<&'a Operation> {
    undo::newest_first(operations, here).find(|operation| !is_set_up(operation))
}

/// Plans, shows, asks, and applies.
pub(super) fn reverse(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    operation: &Operation,
    reversal: &Reversal<'_>,
) -> Result<u8, Failure> {
    let (how, verb) = (reversal.how, reversal.verb);
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let own = operation.begin.id.prefix(&ids);
    let options = reversal.options(cx, repo);
    let plan = undo::plan(repo, operation, &options, &cx.progress())?;
    check_something(operation, &ids, reversal, &plan)?;
    // Only with `--json`: for 50,000 steps it is many times the size of the plan.
    let git = words::git_of(repo, operation, &plan.steps)?;
    let document = cx.ui.json.then(|| {
        let asked = UndoAsked {
            dry_run: how.dry_run,
            here: reversal.found != Found::Plain { elsewhere: true },
            set_up: is_set_up(operation),
            command: reversal.command(&own),
        };
        UndoDocument::new(operation, &plan, &git, asked)
    });
    let text = page(cx, repo, operations, operation, reversal, &plan, &git);
    let unexpected = reversal.unexpected(cx, operation, &plan);
    let ready = how.yes && unexpected.is_none() || !how.yes && cx.ui.can_ask;
    if how.dry_run || !ready {
        let code = if how.dry_run { exit::OK } else { exit::PARTIAL };
        match document {
            Some(document) => cx.ui.document(verb, code, &document)?,
            None => cx.ui.data(&only_shown(text, reversal, &own, unexpected))?,
        }
        return Ok(code);
    }
    let conflicts = words::next_steps(cx, &plan, &own);
    if operation.undone_by.is_some() && plan.does_nothing() {
        match document {
            Some(document) => cx.ui.document(verb, exit::PARTIAL, &document)?,
            None => cx.ui.report(&format!(
                "{text}Nothing was changed: the rest is undone already (exit 3).\n{conflicts}"
            ))?,
        }
        return Ok(exit::PARTIAL);
    }
    if document.is_none() {
        let shown = match reversal.found {
            Found::Shown => text.split_inclusive('\n').next().unwrap_or_default(),
            _ => &text,
        };
        cx.ui.report(shown)?;
    }
    if let Some(question) = reversal.question(cx, operation, &plan)
        && !prompt::confirm(&question, false)?
    {
        cx.ui.report("Nothing was changed.\n")?;
        return Ok(exit::OK);
    }
    let rest = plan.part().map_or(plan.rest, |part| part.left());
    let report = undo::apply(repo, operation, plan, &options, &cx.progress())?;
    let whole = report.conflicts == 0 && report.problems.is_empty() && report.missing.is_empty();
    let code = if !whole { exit::PARTIAL } else { exit::OK };
    if let Some(document) = document {
        cx.ui.document(verb, code, &document.done(&report))?;
    } else {
        // A plain undo continues with the rest, unless another operation comes first.
        let next = match reversal.found {
            Found::Plain { .. } => format!("bdr {verb}"),
            _ => format!("bdr {verb} {own}"),
        };
        let left = (rest > 0).then_some((rest, next));
        cx.ui.report(&ending(cx, &report, verb, left, &conflicts))?;
    }
    Ok(code)
}

/// Returns the plan for a dry run, or if nobody could agree to it. Then it names the command that
/// needs no question, so that scripts can run that instead.
fn only_shown(
    plan: String,
    reversal: &Reversal<'_>,
    own: &str,
    unexpected: Option<String>,
) -> String {
    let mut text = plan + "Nothing was changed.";
    if !reversal.how.dry_run {
        let why = match unexpected {
            Some(what) => format!("For {what}, --yes needs its name"),
            None => "Without a terminal, say so".to_owned(),
        };
        text.push_str(&format!(" {why}: {}", reversal.command(own)));
    }
    text + "\n"
}

/// Makes sure that there is something to do or to report.
fn check_something(
    operation: &Operation,
    ids: &[Id],
    reversal: &Reversal<'_>,
    plan: &UndoPlan,
) -> Result<(), Failure> {
    let verb = reversal.verb;
    let own = operation.begin.id.prefix(ids);
    let nothing = plan.steps.is_empty() && plan.unseen.is_empty();
    if let (true, Some(by)) = (nothing, operation.undone_by) {
        let by = by.prefix(ids);
        let (back, done) = match verb {
            "undo" => ("redo", "undone"),
            _ => ("undo", "done again"),
        };
        return Err(Failure::Hinted {
            error: Box::new(Error::NothingTo { verb }),
            hint: format!("`{own}` is {done} already; to reverse that: bdr {back} {by}"),
        });
    }
    let silent = nothing && plan.problems.is_empty() && plan.missing.is_empty();
    if let (true, Some(word)) = (silent, reversal.words.first()) {
        let error = Error::NoSuchPath {
            path: bdr::base::path::show(word),
            place: format!("what operation {own} changed"),
        };
        return Err(Failure::Hinted {
            error: Box::new(error),
            hint: format!("bdr show {own}"),
        });
    }
    Ok(())
}

/// Returns the text that is shown before anything changes.
fn page(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    operation: &Operation,
    reversal: &Reversal<'_>,
    plan: &UndoPlan,
    git: &[Touched],
) -> String {
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let own = operation.begin.id.prefix(&ids);
    let mut text = String::new();
    if reversal.found == (Found::Plain { elsewhere: true }) {
        let here = cx.shown_absolute(&cx.workspace());
        let there = cx.shown_absolute(operation.begin.cwd.as_path());
        text.push_str(&format!(
            "Nothing to undo in {here}. The last operation elsewhere ran in {there}:\n"
        ));
    }
    text.push_str(&heading(
        cx,
        operation,
        operations,
        reversal.verb,
        plan.part(),
    ));
    if matches!(reversal.found, Found::Plain { .. }) && is_set_up(operation) {
        text.push_str("  it is bdr's own set-up");
        let workspace = cx.workspace();
        if let Some(other) = before_set_up(operations, &Here::new(repo, &workspace)) {
            let (id, title) = (other.begin.id.prefix(&ids), log::title(other, &ids));
            text.push_str(&format!("; before it: {title}, bdr undo {id}"));
        }
        text.push('\n');
    }
    if !operation.is_ours {
        text.push_str("  it was not recorded by this machine: anybody who can write to the repository may have made it up\n");
    }
    for part in &operation.begin.remote {
        let part = bdr::base::path::show(part.as_ref());
        text.push_str(&format!("  not undone: {part}  it acted elsewhere\n"));
    }
    text.push_str(&steps(cx, plan, git, reversal.how.files));
    text.push_str(&meanwhile(cx, plan, reversal.verb, &own));
    text
}
