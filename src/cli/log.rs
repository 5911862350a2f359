//! `bdr log`, `bdr show`.

use std::collections::HashMap;
use std::path::PathBuf;

use bdr::base::id::Id;
use bdr::base::path::absolute;
use bdr::base::units::size;
use bdr::model::manifest::Kind;
use bdr::repo::oplog::{Operation, RootChanges, resolve};
use bdr::repo::snapshot::Snapshot;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{LogDocument, OperationDocument, ShowDocument, unreadable};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::deleted_words;
use crate::app::log::{ByPath, counts, detail, remarks, root_path, shorten, title};
use crate::ui::{self, count, when};

/// List operations, newest first
///
/// Each line shows the id, age, command, and the number of files deleted (−), created (+) and changed (~), then notes: undone,
/// running, interrupted, a failed exit status, files that were not captured, or the keys that changed in a single configuration
/// file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr log
  bdr log -n 0               all of them
  bdr log --path notes.md    those that changed this file
  bdr log --json | jq '.data.operations[0]'")]
pub(crate) struct LogArgs {
    /// List at most N; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 40)]
    limit: usize,
    /// Only operations that changed this path or something below it
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
}

/// Show what an operation changed
///
/// Without OP: the last operation.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr show
  bdr show 7f3a
  bdr show 7f3a --json")]
pub(crate) struct ShowArgs {
    /// Operation, from `bdr log`
    #[arg(value_name = "OP")]
    operation: Option<String>,
}

pub(crate) fn log(cx: &Context, args: &LogArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = repo.operations()?;
    let code = exit::of_listing(&repo);
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let limit = if args.limit == 0 {
        usize::MAX
    } else {
        args.limit
    };
    let mut found: Vec<&Operation> = operations.iter().rev().collect();
    if let Some(path) = &args.path {
        let mut by_path = ByPath {
            repo: &repo,
            wanted: absolute(&cx.cwd, path),
            snapshots: HashMap::new(),
        };
        found.retain(|operation| by_path.changed(operation));
    }
    let shown = || found.iter().take(limit).copied();
    if cx.ui.json {
        let data = LogDocument {
            operations: shown()
                .map(|o| OperationDocument::new(cx, &repo, o, &ids))
                .collect(),
            total: found.len(),
            unreadable: unreadable(&repo),
        };
        cx.ui.document("log", code, &data)?;
        return Ok(code);
    }
    if operations.is_empty() {
        if code == exit::OK {
            cx.ui
                .say("No operations yet. Try it: bdr guard -- rm -rf <a file you can spare>");
        }
        return Ok(code);
    }
    if let (true, Some(path)) = (found.is_empty(), &args.path) {
        let path = cx.shown(&absolute(&cx.cwd, path));
        cx.ui.say(&format!("No operation changed {path}."));
    }
    let (minus, line, more) = match cx.ui.unicode {
        true => ('−', '│', '…'),
        false => ('-', '|', '~'),
    };
    let rows: Vec<Vec<String>> = shown()
        .map(|o| {
            let id = o.begin.id.prefix(&ids);
            let title: String = shorten(&title(o, &ids), 60, more);
            let mut remarks = remarks(cx, &repo, o);
            remarks.extend(detail(cx, &repo, o, minus));
            vec![
                id,
                when::age(cx.now, o.begin.time),
                title,
                counts(o, minus),
                remarks.join(", "),
            ]
        })
        .collect();
    let mut text = String::new();
    let newest = operations.last().map(|o| o.begin.id);
    let mut drawn = shown();
    for row in ui::table::table(&rows, "lllll") {
        let operation = drawn.next();
        let undone = operation.is_some_and(|o| o.undone_by.is_some());
        let row = if undone { cx.ui.out.dim(&row) } else { row };
        let is_newest = operation.map(|o| o.begin.id) == newest;
        text.push_str(&format!("{} {row}\n", if is_newest { '@' } else { line }));
    }
    let hidden = found.len().saturating_sub(limit);
    if hidden > 0 {
        text.push_str(&format!(
            "  and {} older: bdr log -n 0\n",
            count(hidden as u64)
        ));
    }
    cx.ui.data(&text)?;
    Ok(code)
}

pub(crate) fn show(cx: &Context, args: &ShowArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = repo.operations()?;
    let operation = match &args.operation {
        Some(name) => resolve(&operations, name)?,
        None => {
            let newest = operations.last();
            // One that cannot be read may be the newest.
            repo.check_log(newest.map(|operation| operation.begin.id))?;
            newest.ok_or(bdr::Error::NothingTo { verb: "show" })?
        }
    };
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    // Roots have their paths in the snapshot; without it the changes still have names.
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    if cx.ui.json {
        let own = OperationDocument::new(cx, &repo, operation, &ids);
        let data = ShowDocument::new(own, operation, snapshot.as_ref());
        cx.ui.document("show", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let begin = &operation.begin;
    let mut text = format!(
        "{}  {}\n",
        cx.ui.out.yellow(&begin.id.prefix(&ids)),
        title(operation, &ids)
    );
    let time = format!(
        "{}, {}",
        when::local(begin.time),
        when::ago(cx.now, begin.time)
    );
    text.push_str(&format!("  when      {time}\n"));
    text.push_str(&format!(
        "  where     {}\n",
        cx.shown_absolute(begin.cwd.as_path())
    ));
    // A call that changes no protected file, like a backup, has none.
    if let Some(id) = begin.before {
        let all = repo.snapshot_ids();
        let before = all.map_or_else(|_| id.to_string(), |all| id.prefix(&all));
        text.push_str(&format!("  snapshot  {before}\n"));
    }
    let remarks = remarks(cx, &repo, operation).join(", ");
    if !remarks.is_empty() {
        text.push_str(&format!("  note      {remarks}\n"));
    }
    for part in &begin.remote {
        let part = bdr::base::path::show(part.as_ref());
        text.push_str(&format!("  elsewhere {part}   not undone\n"));
    }
    for note in &begin.not_captured {
        let path = cx.shown_absolute(note.path.as_path());
        text.push_str(&format!("  not captured: {path}  {}\n", note.reason));
    }
    for root in operation.end.iter().flat_map(|end| &end.roots) {
        text.push_str(&changes(cx, root, snapshot.as_ref()));
    }
    if operation.is_undoable() {
        let undo = format!("bdr undo {}", begin.id.prefix(&ids));
        text.push_str(&format!("Take it back: {}\n", cx.ui.out.bold(&undo)));
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn changes(cx: &Context, root: &RootChanges, snapshot: Option<&Snapshot>) -> String {
    let base = root_path(root, snapshot);
    let shown = |path: &bdr::base::path::RepoPath| cx.shown_absolute(&path.to_path(&base));
    let mut text = format!("{}\n", cx.shown_absolute(&base));
    if root.deleted_files > 0 {
        let words = deleted_words(root.deleted_files, root.deleted_bytes);
        text = format!("{}  {words}\n", cx.shown_absolute(&base));
    }
    for path in &root.removed {
        text.push_str(&format!(
            "  {}\n",
            cx.ui.out.red(&format!("- {}", shown(path)))
        ));
    }
    for (sign, stamps) in [('+', &root.created), ('~', &root.modified)] {
        // A directory is modified whenever something in it comes or goes: that is said already.
        for stamp in stamps.iter().filter(|s| sign == '+' || s.kind != Kind::Dir) {
            let path = shown(&stamp.path);
            let line = match stamp.kind {
                Kind::File => format!("{sign} {path}  {}", size(stamp.size)),
                _ => format!("{sign} {path}  {}", stamp.kind.word()),
            };
            let line = if sign == '+' {
                cx.ui.out.green(&line)
            } else {
                cx.ui.out.yellow(&line)
            };
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}
