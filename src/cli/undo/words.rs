//! The wording of an undo: heading, plan and result.

use std::path::Path;

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::model::manifest::Kind;
use bdr::recover::undo::{Meanwhile, UndoAction, UndoPlan, UndoReport, UndoStep};
use bdr::repo::Repository;
use bdr::repo::oplog::{Operation, OperationKind, Portion};
use bdr::repo::snapshot::PathNote;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::log;
use crate::app::refs::{self, Touched};
use crate::ui::steps::{Line, Shown, View, collapse, gathered};
use crate::ui::table::shorten;
use crate::ui::{self, count, plural, when};

/// A heading shows this many characters of the command.
const TITLE: usize = 60;
/// How much of it is shown on the narrowest screen.
const LEAST_TITLE: usize = 20;

/// The next step is named for this many conflicts.
const CONFLICTS: usize = 3;

/// Returns the heading, which says which operation it is. For the undo of an undo it names the
/// operation that was undone.
pub(super) fn heading(
    cx: &Context,
    operation: &Operation,
    operations: &[Operation],
    verb: &str,
    part: Option<Portion>,
) -> String {
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let own = operation.begin.id.prefix(&ids);
    let id = cx.ui.out.yellow(&own);
    let mut title = log::title(operation, &ids);
    let is_reversal = matches!(
        operation.begin.kind,
        OperationKind::Undo | OperationKind::Redo
    );
    if let (true, Some(command)) = (is_reversal, log::reversed(operation, operations)) {
        title = format!("{title}: {}", log::title(command, &ids));
    }
    let verb = if verb == "redo" {
        "Redo: reverse"
    } else {
        "Undo"
    };
    let ago = when::ago(cx.now, operation.begin.time);
    let part = part.map_or_else(String::new, |part| {
        format!("   {} of {}", count(part.done), plural(part.of, "file"))
    });
    // On a screen all of it fits into a line: the beginning of a command tells which it is.
    let others = format!("{verb} {own}     {ago}{part}").chars().count();
    let room = cx
        .ui
        .width()
        .map_or(TITLE, |columns| columns.saturating_sub(others));
    let title = shorten(
        &title,
        room.clamp(LEAST_TITLE, TITLE),
        if cx.ui.unicode { '…' } else { '~' },
    );
    format!("{verb} {id}  {title}   {ago}{part}\n")
}

/// Returns the lines of a plan: first what cannot come back, then what is done.
pub(super) fn steps(cx: &Context, plan: &UndoPlan, git: &[Touched], all: bool) -> String {
    let mut text = String::new();
    for note in plan.missing.iter().chain(&plan.problems) {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  cannot be undone: {path}  {}\n", note.reason));
    }
    for note in &plan.unseen {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  not checked: {path}  {}\n", note.reason));
    }
    let is_said = !text.is_empty();
    if !plan.steps.is_empty() || !is_said {
        text.push_str(&listed(cx, &plan.steps, git, all));
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

/// Returns what the steps of an undo mean for git repositories.
pub(super) fn git_of(
    repo: &Repository,
    operation: &Operation,
    steps: &[UndoStep],
) -> Result<Vec<Touched>, Failure> {
    if !steps.iter().any(refs::is_inside) {
        return Ok(Vec::new());
    }
    let snapshot = operation.begin.before.map(|id| repo.snapshot(id));
    let snapshot = snapshot.transpose()?;
    let touched = snapshot.map(|snapshot| refs::taken_back(repo, &snapshot, steps));
    Ok(touched.transpose()?.unwrap_or_default())
}

/// Returns the lines of steps. Changes in a git repository are summed up by its branches, and many
/// of one kind in a directory become one line, unless `all` is set.
pub(super) fn listed(cx: &Context, steps: &[UndoStep], git: &[Touched], all: bool) -> String {
    let mut text = String::new();
    for one in git {
        text.push_str(&format!("  git      {}\n", one.words(cx)));
    }
    if all || git.is_empty() {
        text.push_str(&by_directory(cx, steps, all));
        return text;
    }
    let others = steps.iter().filter(|step| !refs::is_inside(step));
    let others: Vec<UndoStep> = others.cloned().collect();
    if !others.is_empty() {
        text.push_str(&by_directory(cx, &others, all));
    }
    text
}

fn by_directory(cx: &Context, steps: &[UndoStep], all: bool) -> String {
    let lines = collapse(steps, |step| View {
        path: &step.path,
        action: step.action,
        is_dir: step.kind == Kind::Dir,
        files: step.files,
        bytes: step.bytes,
    });
    let joins = |line: &Line| {
        let step = &steps[line.first];
        let simple = matches!(step.action, UndoAction::Restore | UndoAction::Remove);
        let parent = step.path.parent().filter(|_| simple)?;
        Some((parent.to_path_buf(), step.action == UndoAction::Restore))
    };
    gathered(lines, all, joins, |shown| match shown {
        Shown::One(joined) => line(cx, &steps[joined.first], joined),
        Shown::Many((dir, restores), sum) => many(cx, dir, *restores, &sum),
    })
}

fn many(cx: &Context, dir: &Path, restores: bool, sum: &Line) -> String {
    let style = cx.ui.out;
    let action = match restores {
        true => format!("{} ", style.green("restore")),
        false => format!("{}  ", style.red("remove")),
    };
    let what = match sum.files {
        0 => plural(sum.steps as u64, "path"),
        files => plural(files, "file"),
    };
    let place = cx.shown(dir);
    format!("{action} {what} in {place}  {}", size(sum.bytes))
}

/// Returns lines about places that changed while the operation ran, most likely by others.
pub(super) fn meanwhile(cx: &Context, plan: &UndoPlan, verb: &str, own: &str) -> String {
    let line = |root: &Meanwhile| {
        let what = match (root.deleted, root.altered) {
            (0, altered) => format!("{} changed", plural(altered, "path")),
            (deleted, _) => format!("{} deleted", plural(deleted, "file")),
        };
        let place = cx.shown_absolute(&root.path);
        format!("  meanwhile, not touched: {what} in {place}: bdr {verb} {own} --all\n")
    };
    plan.meanwhile.iter().map(line).collect()
}

/// Returns the commands that settle conflicts: compare both versions, then take the old one.
pub(super) fn next_steps(cx: &Context, plan: &UndoPlan, own: &str) -> String {
    let word = |path: &Path| {
        let below = path.strip_prefix(&cx.cwd).unwrap_or(path);
        crate::app::guard::typed(cx.shown(path), below)
    };
    let beside = plan.steps.iter().filter_map(|step| {
        let beside = step.beside.as_deref()?;
        Some((word(&step.path), word(beside)))
    });
    let mut text = String::new();
    for (path, beside) in beside.take(CONFLICTS) {
        text.push_str(&format!("  compare: diff {path} {beside}\n"));
        text.push_str(&format!(
            "  take the old one: bdr undo {own} --force {path}\n"
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
                "{} {path}   changed since; yours is kept{beside}",
                style.yellow("conflict")
            )
        }
    }
}

/// Returns the result. `left` is the number of files that were not requested, and the command that
/// undoes them too.
pub(super) fn ending(
    cx: &Context,
    report: &UndoReport,
    verb: &str,
    left: Option<(u64, String)>,
    conflicts: &str,
) -> String {
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
    if let Some((files, next)) = left {
        let (is, next) = (if files == 1 { "is" } else { "are" }, cx.ui.out.bold(&next));
        let files = plural(files, "file");
        text.push_str(&format!("{files} of it {is} not undone yet: {next}\n"));
    }
    if report.conflicts > 0 {
        text.push_str(&format!(
            "{} left (exit 3).\n{conflicts}",
            plural(report.conflicts, "conflict")
        ));
    }
    text
}
