//! `bdr undo`, `bdr redo`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bdr::Error;
use bdr::base::id::Id;
use bdr::base::path::absolute;
use bdr::base::units::size;
use bdr::model::agent::OWN_HOST;
use bdr::model::manifest::Kind;
use bdr::recover::undo::{self, UndoAction, UndoOptions, UndoPlan, UndoReport, UndoStep};
use bdr::repo::Repository;
use bdr::repo::oplog::{Operation, resolve};
use bdr::repo::snapshot::PathNote;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::UndoDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log;
use crate::app::time;
use crate::ui::steps::{Line, View, collapse, listing};
use crate::ui::{self, plural, prompt, when};

/// Undo what an operation changed
///
/// Without OP: the last operation here that can be undone. Only what the operation changed is reversed. A path that has changed
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
  bdr undo --since \"1 hour ago\"
  bdr undo --force 7f3a        also paths that changed again since (they are saved first)
  bdr undo --all 7f3a          also changes elsewhere, most likely by other programs
  bdr undo --yes               without a terminal, as in a script

Exit codes: 3 if a conflict remains, if something cannot be undone, or if --yes is missing in a script.")]
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

#[derive(Debug, Args)]
struct How {
    /// Print the plan; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask (needed where there is no terminal)
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn undo(cx: &Context, args: &UndoArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = operations(&repo)?;
    if args.last.is_some() || args.since.is_some() {
        return several(cx, args, &repo, &operations);
    }
    let named = match args.words.split_first() {
        None => None,
        Some((word, rest)) => match word.to_str().map(|text| resolve(&operations, text)) {
            Some(Ok(operation)) => Some((undo::effective(&operations, operation), rest)),
            Some(Err(error @ Error::Ambiguous { .. })) => return Err(error.into()),
            _ => None,
        },
    };
    let workspace = cx.workspace();
    let (operation, paths) = match named {
        Some(named) => named,
        None => {
            let chosen = undo::choose(&operations, &workspace, args.all);
            // One that cannot be read may be the newest.
            repo.check_log(chosen.as_ref().ok().map(|o| o.begin.id))?;
            let chosen = chosen.map_err(|error| instead(error, &operations))?;
            (chosen, &args.words[..])
        }
    };
    let elsewhere = named.is_none()
        && !undo::is_about(operation, &workspace)
        && !undo::has_worked_in(&repo, operation, &workspace);
    let asks = args.how.dry_run || cx.ui.can_ask && !args.how.yes;
    if elsewhere && !asks {
        // `--yes` says yes to what was done here: a script in one project is not to revert another.
        let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
        let place = cx.shown_absolute(operation.begin.cwd.as_path());
        let id = operation.begin.id.prefix(&ids);
        return Err(Failure::Hinted {
            error: Box::new(Error::NothingTo { verb: "undo here" }),
            hint: format!("the last operation ran in {place}: bdr undo {id}"),
        });
    }
    let done = Reversal {
        words: paths,
        how: &args.how,
        force: args.force,
        all: args.all,
        verb: "undo",
        elsewhere,
        set_up: named.is_none() && is_set_up(operation),
    };
    reverse(cx, &repo, &operations, operation, &done)
}

/// Returns true if bdr changed its own set-up, as `bdr hooks install` does.
fn is_set_up(operation: &Operation) -> bool {
    let caller = operation.begin.agent.as_ref();
    caller.is_some_and(|caller| caller.host == OWN_HOST)
}

/// Returns what a plain undo would take back if bdr's own set-up were not the last operation.
fn before_set_up<'a>(operations: &'a [Operation], workspace: &'a Path) -> Option<&'a Operation> {
    undo::newest_first(operations, workspace).find(|operation| !is_set_up(operation))
}

/// Names the operation to look at where all that changed meanwhile was in other places, or nothing that this machine recorded is left.
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

/// Returns all operations but the one that the shell has open for the line that this call is in. One that the shell opened because it did not
/// know the line is forgotten: what this call does is an operation of its own.
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

/// Takes back several operations, each by an undo of its own. A conflict stops it: what comes before may build on it.
fn several(
    cx: &Context,
    args: &UndoArgs,
    repo: &Repository,
    operations: &[Operation],
) -> Result<u8, Failure> {
    let since = match &args.since {
        Some(text) => Some(time::parse(text, cx.now)?),
        None => None,
    };
    let most = args.last.map_or(usize::MAX, usize::from);
    let workspace = cx.workspace();
    let chosen: Vec<&Operation> = undo::newest_first(operations, &workspace)
        .filter(|operation| since.is_none_or(|since| operation.begin.time >= since))
        .take(most)
        .collect();
    repo.check_log(chosen.last().map(|o| o.begin.id))?;
    if chosen.is_empty() {
        return Err(Error::NothingTo { verb: "undo" }.into());
    }
    if args.how.dry_run && !cx.ui.json {
        // What each would do depends on those before it: it is not said as if it was known.
        let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
        let lines: String = chosen
            .iter()
            .map(|operation| heading(cx, operation, &ids, "undo"))
            .collect();
        cx.ui.data(&format!("{lines}Nothing was changed.\n"))?;
        return Ok(exit::OK);
    }
    for operation in chosen {
        let done = Reversal {
            words: &[],
            how: &args.how,
            force: args.force,
            all: args.all,
            verb: "undo",
            elsewhere: false,
            set_up: false,
        };
        let code = reverse(cx, repo, operations, operation, &done)?;
        if code != exit::OK {
            return Ok(code);
        }
    }
    Ok(exit::OK)
}

pub(crate) fn redo(cx: &Context, args: &RedoArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = operations(&repo)?;
    let operation = match &args.operation {
        Some(name) => resolve(&operations, name)?,
        None => {
            let chosen = undo::choose_redo(&operations, &cx.workspace());
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
        elsewhere: false,
        set_up: false,
    };
    reverse(cx, &repo, &operations, operation, &done)
}

/// How an operation is taken back.
struct Reversal<'a> {
    /// Only these paths; empty: all.
    words: &'a [OsString],
    how: &'a How,
    force: bool,
    all: bool,
    verb: &'static str,
    /// Nobody named it, and it is not of this workspace.
    elsewhere: bool,
    /// Nobody named it, and it is a change of bdr's own set-up.
    set_up: bool,
}

/// Plans, shows, and applies.
fn reverse(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    operation: &Operation,
    reversal: &Reversal<'_>,
) -> Result<u8, Failure> {
    let (how, verb) = (reversal.how, reversal.verb);
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let options = UndoOptions {
        now: cx.now,
        cwd: cx.cwd.clone(),
        argv: cx.argv(),
        paths: reversal.paths(cx),
        force: reversal.force,
        all: reversal.all,
        look_only: how.dry_run,
        never: repo.own_paths(),
        host: cx.host.clone(),
        agent: None,
    };
    let plan = undo::plan(repo, operation, &options, &cx.progress())?;
    check_something_to_do(&plan, operation, &ids, reversal)?;
    let text = announcement(cx, operations, operation, &plan, reversal);
    // Only for those who asked: at 50,000 steps it is many times the size of the plan.
    let document = cx
        .ui
        .json
        .then(|| UndoDocument::new(operation, &plan, how.dry_run));
    if how.dry_run || !(how.yes || cx.ui.can_ask) {
        return leave(cx, how, verb, text, document.as_ref());
    }
    if document.is_none() {
        cx.ui.report(&text)?;
    }
    if !is_meant(operation, reversal)? {
        cx.ui.report("Nothing was changed.\n")?;
        return Ok(exit::OK);
    }
    let rest = plan.rest;
    let report = undo::apply(repo, operation, plan, &options, &cx.progress())?;
    let whole = report.conflicts == 0 && report.problems.is_empty() && report.missing.is_empty();
    let code = if whole { exit::OK } else { exit::PARTIAL };
    match document {
        Some(document) => cx.ui.document(verb, code, &document.done(&report))?,
        None => {
            let mut text = ending(cx, &report, verb);
            if rest > 0 {
                let own = operation.begin.id.prefix(&ids);
                text.push_str(&format!(
                    "The rest of {own} is not undone: bdr {verb} {own}\n"
                ));
            }
            cx.ui.report(&text)?;
        }
    }
    Ok(code)
}

impl Reversal<'_> {
    fn paths(&self, cx: &Context) -> Vec<PathBuf> {
        let words = self.words.iter();
        words.map(|word| absolute(&cx.cwd, word.as_ref())).collect()
    }
}

/// An empty plan has three reasons, and only one of them is "it is all as it was": whoever asked hears which.
fn check_something_to_do(
    plan: &UndoPlan,
    operation: &Operation,
    ids: &[Id],
    reversal: &Reversal<'_>,
) -> Result<(), Failure> {
    let verb = reversal.verb;
    let nothing = plan.steps.is_empty() && plan.unseen.is_empty();
    if let (true, Some(by)) = (nothing, operation.undone_by) {
        let (own, by) = (operation.begin.id.prefix(ids), by.prefix(ids));
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
        let place = format!("what operation {} changed", operation.begin.id.prefix(ids));
        let error = Error::NoSuchPath {
            path: bdr::base::path::show(word),
            place,
        };
        return Err(Failure::Hinted {
            error: Box::new(error),
            hint: "bdr log".to_owned(),
        });
    }
    Ok(())
}

/// Returns what is about to happen, and all that it does not do.
fn announcement(
    cx: &Context,
    operations: &[Operation],
    operation: &Operation,
    plan: &UndoPlan,
    reversal: &Reversal<'_>,
) -> String {
    let verb = reversal.verb;
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let mut text = heading(cx, operation, &ids, verb);
    if reversal.elsewhere {
        let place = cx.shown_absolute(operation.begin.cwd.as_path());
        text.push_str(&format!("  it ran elsewhere: {place}\n"));
    }
    if reversal.set_up {
        text.push_str("  it is bdr's own set-up");
        if let Some(other) = before_set_up(operations, &cx.workspace()) {
            let (id, title) = (other.begin.id.prefix(&ids), log::title(other, &ids));
            text.push_str(&format!("; before it: {title}, bdr undo {id}"));
        }
        text.push('\n');
    }
    if !operation.is_ours {
        text.push_str("  it was not recorded by this machine: anybody who can write to the repository may have made it up\n");
    }
    text.push_str(&steps(cx, plan));
    for root in &plan.meanwhile {
        let what = match (root.deleted, root.altered) {
            (0, altered) => format!("{} changed", plural(altered, "path")),
            (deleted, _) => format!("{} deleted", plural(deleted, "file")),
        };
        let place = cx.shown_absolute(&root.path);
        let own = operation.begin.id.prefix(&ids);
        text.push_str(&format!(
            "  meanwhile, not touched: {what} in {place}: bdr {verb} {own} --all\n"
        ));
    }
    for part in &operation.begin.remote {
        let part = bdr::base::path::show(part.as_ref());
        text.push_str(&format!("  not undone: {part}  it acted elsewhere\n"));
    }
    text
}

/// Shows the plan and changes nothing: that was asked for, or nobody is there to say yes.
fn leave(
    cx: &Context,
    how: &How,
    verb: &str,
    mut text: String,
    document: Option<&UndoDocument>,
) -> Result<u8, Failure> {
    let code = if how.dry_run { exit::OK } else { exit::PARTIAL };
    if let Some(document) = document {
        cx.ui.document(verb, code, document)?;
        return Ok(code);
    }
    text.push_str("Nothing was changed.");
    if !how.dry_run {
        text.push_str(&format!(" Without a terminal, add --yes: bdr {verb} --yes"));
    }
    text.push('\n');
    cx.ui.data(&text)?;
    Ok(code)
}

/// Asks where a plain `bdr undo` would take back something else than what was typed here last.
fn is_meant(operation: &Operation, reversal: &Reversal<'_>) -> Result<bool, Failure> {
    // What somebody did in another project is not what `bdr undo` is typed for.
    let questions = [
        (reversal.elsewhere, "Nothing to undo here. Undo this one?"),
        (reversal.set_up, "Undo bdr's own set-up?"),
        (!operation.is_ours, "Undo it anyway?"),
    ];
    for (is_asked, question) in questions {
        if is_asked && !reversal.how.yes && !prompt::confirm(question, false)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn heading(cx: &Context, operation: &Operation, ids: &[Id], verb: &str) -> String {
    let id = cx.ui.out.yellow(&operation.begin.id.prefix(ids));
    let title = log::title(operation, ids);
    let verb = if verb == "redo" {
        "Redo: reverse"
    } else {
        "Undo"
    };
    format!(
        "{verb} {id}  {title}   {}\n",
        when::ago(cx.now, operation.begin.time)
    )
}

fn steps(cx: &Context, plan: &UndoPlan) -> String {
    let lines = collapse(&plan.steps, |step| View {
        path: &step.path,
        action: step.action,
        is_dir: step.kind == Kind::Dir,
        files: step.files,
        bytes: step.bytes,
    });
    let told = !plan.missing.is_empty() || !plan.problems.is_empty() || !plan.unseen.is_empty();
    let nothing = plan.steps.is_empty() && told;
    let mut text = match nothing {
        true => String::new(),
        false => listing(&lines, |joined| line(cx, &plan.steps[joined.first], joined)),
    };
    for note in plan.missing.iter().chain(&plan.problems) {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  cannot be undone: {path}  {}\n", note.reason));
    }
    for note in &plan.unseen {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  not checked: {path}  {}\n", note.reason));
    }
    let said = |note: &&PathNote| !plan.missing.iter().any(|m| m.path == note.path);
    let not_captured: Vec<&PathNote> = plan.not_captured.iter().filter(said).collect();
    for note in not_captured.iter().take(3) {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  not captured: {path}  {}\n", note.reason));
    }
    if not_captured.len() > 3 {
        text.push_str(&format!(
            "  not captured: and {} more\n",
            not_captured.len() - 3
        ));
    }
    text
}

fn line(cx: &Context, step: &UndoStep, joined: &Line) -> String {
    let path = cx.shown(&step.path);
    let what = match (joined.files, step.kind) {
        (1.., Kind::Dir) => {
            format!(
                "{} in {path}  {}",
                plural(joined.files, "file"),
                size(joined.bytes)
            )
        }
        (_, Kind::File) => format!("{path}  {}", size(step.bytes)),
        (_, Kind::Dir) => format!("{path}/"),
        _ => format!("{path}  {}", step.kind.word()),
    };
    let style = cx.ui.out;
    match step.action {
        UndoAction::Restore => format!("{}  {what}", style.green("restore")),
        UndoAction::Remove => format!("{}   {what}", style.red("remove")),
        UndoAction::Metadata => format!("{:<8} {path}", step.differs.words()),
        UndoAction::Merge => format!(
            "{}    {path}   changed since: only what the operation changed",
            style.green("merge")
        ),
        UndoAction::Keep => format!("keep     {path}   changed since it was created"),
        UndoAction::Conflict => {
            let beside = step.beside.as_deref().and_then(|path| path.file_name());
            let beside = beside.map_or_else(String::new, |name| {
                format!(", the old one is {}", bdr::base::path::show(name))
            });
            format!(
                "{} {path}   changed since; keeping your version{beside}",
                style.yellow("conflict")
            )
        }
    }
}

fn ending(cx: &Context, report: &UndoReport, verb: &str) -> String {
    let mut text = String::new();
    for note in &report.problems {
        text.push_str(&format!(
            "  {}   {}\n",
            cx.shown(note.path.as_path()),
            note.reason
        ));
    }
    let back = if verb == "undo" {
        "bdr redo"
    } else {
        "bdr undo"
    };
    let back = cx.ui.out.bold(back);
    let elapsed = ui::elapsed(report.elapsed);
    if !report.missing.is_empty() {
        let missing = plural(report.missing.len() as u64, "path");
        text.push_str(&format!(
            "{missing} cannot be undone in full: not captured (exit 3).\n"
        ));
    }
    if report.problems.is_empty() {
        text.push_str(&format!("Done in {elapsed}. Take it back: {back}\n"));
    } else {
        let problems = plural(report.problems.len() as u64, "problem");
        text.push_str(&format!(
            "{problems} (exit 3), {elapsed}. Take it back: {back}\n"
        ));
    }
    if report.conflicts > 0 {
        text.push_str(&format!(
            "{} left (exit 3).\n",
            plural(report.conflicts, "conflict")
        ));
    }
    text
}
