//! `bdr undo -i`: an operation from a list, then what of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use bdr::Error;
use bdr::base::id::Id;
use bdr::recover::undo::{self, UndoStep};
use bdr::repo::Repository;
use bdr::repo::oplog::{Operation, OperationKind};

use super::reverse::{Found, How, Reversal, reverse};
use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log;
use crate::ui::table::shorten;
use crate::ui::{plural, prompt, when};

/// The list has this many operations.
const LISTED: usize = 200;
/// More paths in one directory than this become one line.
const MANY: usize = 13;

pub(super) fn interactive(
    cx: &Context,
    how: &How,
    (force, all): (bool, bool),
    repo: &Repository,
    operations: &[Operation],
) -> Result<u8, Failure> {
    if !cx.ui.can_ask {
        let message = "there is no terminal to choose on";
        return Err(Failure::usage(message, "bdr log, then bdr undo OP --yes"));
    }
    let listed = operations.iter().rev().filter(|operation| {
        let is_undo = operation.begin.kind == OperationKind::Undo;
        operation.is_ours && operation.is_undoable() && !is_undo
    });
    let listed: Vec<&Operation> = listed.take(LISTED).collect();
    repo.check_log(listed.last().map(|o| o.begin.id))?;
    if listed.is_empty() {
        return Err(Error::NothingTo { verb: "undo" }.into());
    }
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let lines: Vec<String> = listed.iter().map(|o| line(cx, o, &ids)).collect();
    let nothing = || cx.ui.report("Nothing was changed.\n").map(|()| exit::OK);
    let Some(number) = prompt::choose("Which operation", &lines)? else {
        return Ok(nothing()?);
    };
    let operation = listed[number];
    let mut done = Reversal {
        words: &[],
        how,
        force,
        all,
        verb: "undo",
        found: Found::Picked,
    };
    let options = done.options(cx, repo);
    let plan = undo::plan(repo, operation, &options, &cx.progress())?;
    let rows = rows(cx, &plan.steps);
    let mut words: Vec<OsString> = Vec::new();
    if rows.len() > 1 {
        let names: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
        let question = "What of it (Space to take or leave, Enter to go on)";
        let Some(picked) = prompt::choose_some(question, &names)? else {
            return Ok(nothing()?);
        };
        if picked.is_empty() {
            return Ok(nothing()?);
        }
        if picked.len() < rows.len() {
            let paths = picked.iter().flat_map(|number| &rows[*number].1);
            words.extend(paths.map(|path| path.as_os_str().to_owned()));
        }
    }
    done.words = &words;
    reverse(cx, repo, operations, operation, &done)
}

fn line(cx: &Context, operation: &Operation, ids: &[Id]) -> String {
    let (minus, more) = if cx.ui.unicode {
        ('−', '…')
    } else {
        ('-', '~')
    };
    format!(
        "{}  {:<8}  {}  {}",
        operation.begin.id.prefix(ids),
        when::age(cx.now, operation.begin.time),
        shorten(&log::title(operation, ids), 40, more),
        log::counts(operation, minus)
    )
}

/// Returns the lines of the list, with the paths of each.
fn rows<'a>(cx: &Context, steps: &'a [UndoStep]) -> Vec<(String, Vec<&'a Path>)> {
    let mut by_dir: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for step in steps {
        let dir = step.path.parent().unwrap_or(&step.path);
        by_dir.entry(dir).or_default().push(&step.path);
    }
    let mut rows = Vec::new();
    for (dir, paths) in by_dir {
        if paths.len() >= MANY {
            let name = format!(
                "{} in {}",
                plural(paths.len() as u64, "path"),
                cx.shown(dir)
            );
            rows.push((name, paths));
        } else {
            rows.extend(paths.into_iter().map(|path| (cx.shown(path), vec![path])));
        }
    }
    rows
}
