//! `bdr log`, `bdr show`.

use std::collections::HashMap;
use std::path::PathBuf;

use bdr::id::{Id, SnapshotId};
use bdr::manifest::Kind;
use bdr::merge::Changes;
use bdr::monitor::size;
use bdr::path::absolute;
use bdr::repo::Repository;
use bdr::repo::oplog::{Operation, OperationKind, RootChanges, resolve};
use bdr::repo::origin::Origin;
use bdr::repo::snapshot::Snapshot;
use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::error::Failure;
use super::exit;
use super::guard::deleted_words;
use crate::ui::{self, count, when};

/// List operations, newest first
///
/// Each line: id, age, command, files deleted (−), created (+) and changed (~), and what else there is to say: undone, running,
/// interrupted, how it ended, what was not captured, what changed inside of the one configuration that it changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr log
  bdr log -n 0               all of them
  bdr log --path notes.md    those that changed it, or something in it
  bdr log --json | jq '.data.operations[0]'")]
pub(crate) struct LogArgs {
    /// How many to list; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 40)]
    limit: usize,
    /// Only operations that changed this path, or something in it
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
}

/// Show what an operation changed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr show 7f3a
  bdr show 7f3a --json")]
pub(crate) struct ShowArgs {
    /// Operation, as in `bdr log`
    #[arg(value_name = "OP")]
    operation: String,
}

/// Returns what an operation was, in a line.
pub(crate) fn title(operation: &Operation, ids: &[Id]) -> String {
    let begin = &operation.begin;
    let target = begin.undoes.map(|id| id.prefix(ids));
    let mut title = match (begin.kind, target) {
        (OperationKind::Undo | OperationKind::Redo, Some(target)) => {
            format!("{} {target}", begin.kind.word())
        }
        (OperationKind::Restore, _) => match &begin.restore {
            Some(journal) => format!("restore from {}", journal.snapshot.prefix(ids)),
            None => "restore".to_owned(),
        },
        // An agent's command is a line already.
        _ if begin.agent.is_some() => {
            let words = begin.argv.iter().map(|word| bdr::path::show(&word.0));
            words.collect::<Vec<_>>().join(" ")
        }
        _ => {
            let argv: Vec<_> = begin.argv.iter().map(|arg| arg.0.clone()).collect();
            super::guard::shell_words(&argv)
        }
    };
    if let Some(label) = &begin.label {
        let label = bdr::path::show(label.as_ref());
        title = match title.is_empty() {
            true => label,
            false => format!("{label}: {title}"),
        };
    }
    title
}

/// Returns "−313 +2 ~14".
fn counts(operation: &Operation, minus: char) -> String {
    if operation.end.is_none() || operation.begin.kind == OperationKind::Call {
        return String::new();
    }
    let (deleted, created, modified) = operation.counts();
    let parts: Vec<String> = [(minus, deleted), ('+', created), ('~', modified)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(sign, n)| format!("{sign}{}", count(n)))
        .collect();
    if parts.is_empty() {
        "no change".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Returns what became of an operation that has no end: what it began may still run.
fn unfinished(cx: &Context, repo: &Repository, operation: &Operation) -> Option<&'static str> {
    match &operation.end {
        Some(_) => None,
        None if repo.is_running(&operation.begin, cx.now) => Some("running"),
        None => Some("interrupted"),
    }
}

fn remarks(cx: &Context, repo: &Repository, operation: &Operation) -> Vec<String> {
    let begin = &operation.begin;
    let mut remarks = Vec::new();
    let caller = begin
        .agent
        .as_ref()
        .filter(|agent| agent.host == crate::mcp::call::HOST);
    if let Some(client) = caller.and_then(|agent| agent.session.as_ref()) {
        remarks.push(format!("by {}", bdr::path::show(client.as_ref())));
    }
    if operation.undone_by.is_some() {
        remarks.push("undone".to_owned());
    }
    match operation.origin {
        Origin::Here | Origin::Before => {}
        Origin::Elsewhere => remarks.push("recorded elsewhere".to_owned()),
        Origin::Unbound => remarks.push("not recorded by this machine".to_owned()),
    }
    if operation.pinned {
        remarks.push("pinned".to_owned());
    }
    if begin.before.is_none() && begin.kind != OperationKind::Call {
        remarks.push("unprotected".to_owned());
    }
    match &operation.end {
        None => remarks.extend(unfinished(cx, repo, operation).map(str::to_owned)),
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

/// Most keys that a line of the log names.
const KEYS: usize = 3;

/// Returns what changed inside of the one file that an operation changed: `~/.claude.json: −mcpServers.foo`.
fn detail(cx: &Context, repo: &Repository, operation: &Operation, minus: char) -> Option<String> {
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
                    shorten(&bdr::path::show(path.as_ref()), 40, '~')
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

/// Finds operations by the paths that they changed.
struct ByPath<'a> {
    repo: &'a Repository,
    wanted: PathBuf,
    snapshots: HashMap<SnapshotId, Option<Snapshot>>,
}

impl ByPath<'_> {
    fn changed(&mut self, operation: &Operation) -> bool {
        let before = operation.begin.before;
        let snapshot = before.and_then(|id| {
            let known = self.snapshots.entry(id);
            known
                .or_insert_with(|| self.repo.snapshot(id).ok())
                .as_ref()
        });
        let wanted = &self.wanted;
        let Some(end) = &operation.end else {
            // It may have changed whatever it covers.
            return snapshot.is_some_and(|snapshot| {
                let mut roots = snapshot.roots.iter().map(|root| root.path.as_path());
                roots.any(|root| root.starts_with(wanted) || wanted.starts_with(root))
            });
        };
        end.roots.iter().any(|root| {
            let base = root_path(root, snapshot);
            let gone = root.removed.iter().map(|path| path.to_path(&base));
            let stamps = root.created.iter().chain(&root.modified);
            // The time of a directory changes with what is in it: that is not about something else in it.
            gone.into_iter()
                .any(|gone| gone.starts_with(wanted) || wanted.starts_with(&gone))
                || stamps
                    .map(|stamp| stamp.path.to_path(&base))
                    .any(|path: PathBuf| path.starts_with(wanted))
        })
    }
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
        let list: Vec<Value> = shown().map(|o| summary(cx, &repo, o, &ids)).collect();
        let unreadable = ui::json::unreadable(&repo);
        let data = json!({"operations": list, "total": found.len(), "unreadable": unreadable});
        cx.ui.document("log", code, &data)?;
        return Ok(code);
    }
    if operations.is_empty() {
        if code == exit::OK {
            cx.ui
                .say("No operations yet. Try it: bdr guard -- rm -rf <something you like>");
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
    let operation = resolve(&operations, &args.operation)?;
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    // Roots have their paths in the snapshot; without it the changes still have names.
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    if cx.ui.json {
        let mut data = summary(cx, &repo, operation, &ids);
        data["not_captured"] = ui::json::notes(&operation.begin.not_captured);
        data["changes"] = changes_data(operation, snapshot.as_ref());
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
    let before = begin
        .before
        .map_or("none: it ran unprotected".to_owned(), |id| {
            repo.snapshot_ids()
                .map_or_else(|_| id.to_string(), |all| id.prefix(&all))
        });
    text.push_str(&format!("  snapshot  {before}\n"));
    let remarks = remarks(cx, &repo, operation).join(", ");
    if !remarks.is_empty() {
        text.push_str(&format!("  note      {remarks}\n"));
    }
    for part in &begin.remote {
        let part = bdr::path::show(part.as_ref());
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
    let shown = |path: &bdr::path::RepoPath| cx.shown_absolute(&path.to_path(&base));
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

fn root_path(root: &RootChanges, snapshot: Option<&Snapshot>) -> PathBuf {
    let record = snapshot.and_then(|snapshot| snapshot.root(&root.name));
    record.map_or_else(
        || root.name.to_string().into(),
        |record| record.path.as_path().to_owned(),
    )
}

fn summary(cx: &Context, repo: &Repository, operation: &Operation, ids: &[Id]) -> Value {
    let begin = &operation.begin;
    let (deleted, created, modified) = operation.counts();
    let end = operation.end.as_ref();
    let mut map = serde_json::Map::new();
    ui::json::put_name(&mut map, "cwd", &begin.cwd.0);
    let rest = json!({
        "id": begin.id.to_string(),
        "short": begin.id.prefix(ids),
        "kind": begin.kind.word(),
        "time": when::utc(begin.time),
        "argv": ui::json::argv(&begin.argv),
        "label": begin.label,
        "agent": begin.agent,
        "snapshot": begin.before.map(|id| id.to_string()),
        "undoes": begin.undoes.map(|id| id.to_string()),
        "undone_by": operation.undone_by.map(|id| id.to_string()),
        "undoable": operation.is_undoable(),
        "finished": end.is_some(),
        "state": unfinished(cx, repo, operation).unwrap_or("finished"),
        "pinned": operation.pinned,
        "origin": operation.origin.word(),
        "exit": end.and_then(|end| end.exit),
        "signal": end.and_then(|end| end.signal),
        "elapsed_ms": end.map(|end| end.elapsed_ms),
        "deleted": deleted,
        "created": created,
        "modified": modified,
        "remote": begin.remote,
        "not_captured_count": begin.not_captured.len(),
    });
    if let Value::Object(rest) = rest {
        map.extend(rest);
    }
    Value::Object(map)
}

fn changes_data(operation: &Operation, snapshot: Option<&Snapshot>) -> Value {
    let mut list = Vec::new();
    for root in operation.end.iter().flat_map(|end| &end.roots) {
        let base = root_path(root, snapshot);
        for path in &root.removed {
            list.push(ui::json::with_path(
                &path.to_path(&base),
                json!({"change": "deleted"}),
            ));
        }
        for (change, stamps) in [("created", &root.created), ("modified", &root.modified)] {
            for stamp in stamps {
                let rest = json!({
                    "change": change, "kind": ui::json::kind(stamp.kind), "bytes": stamp.size,
                });
                list.push(ui::json::with_path(&stamp.path.to_path(&base), rest));
            }
        }
    }
    Value::Array(list)
}

fn shorten(text: &str, width: usize, more: char) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width - 1).collect();
    short.push(more);
    short
}
