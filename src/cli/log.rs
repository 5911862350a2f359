//! `bdr log`.

use std::path::PathBuf;

use bdr::base::id::Id;
use bdr::base::path::absolute;
use bdr::model::agent::{MCP_HOST, OWN_HOST};
use bdr::repo::Repository;
use bdr::repo::by_path::ByPath;
use bdr::repo::oplog::{Operation, OperationKind};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{LogDocument, OperationDocument, unreadable};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log::{self, counts, detail, remarks, title};
use crate::app::pager;
use crate::app::time;
use crate::ui::table::{Columns, shorten};
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
  bdr log --since yesterday --kind hook
  bdr log --grep 'git reset'
  bdr log --json | jq '.data.operations[0]'")]
pub(crate) struct LogArgs {
    /// List at most N; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 40)]
    limit: usize,
    /// Only operations since a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only operations until a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only operations of a kind: guard, undo, redo, restore, call, hook (by a shell, git or an agent), mcp
    #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
    kind: Option<Kind>,
    /// Only operations that changed this path or something below it
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
    /// Only operations whose command or label contains a text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Guard,
    Undo,
    Redo,
    Restore,
    Sync,
    Call,
    Hook,
    Mcp,
}

impl Kind {
    fn fits(self, operation: &Operation) -> bool {
        let begin = &operation.begin;
        let host = begin.agent.as_ref().map(|agent| &*agent.host);
        match self {
            Self::Guard => begin.kind == OperationKind::Guard,
            Self::Undo => begin.kind == OperationKind::Undo,
            Self::Redo => begin.kind == OperationKind::Redo,
            Self::Restore => begin.kind == OperationKind::Restore,
            Self::Sync => begin.kind == OperationKind::Sync,
            Self::Call => begin.kind == OperationKind::Call,
            Self::Hook => host.is_some_and(|host| host != MCP_HOST && host != OWN_HOST),
            Self::Mcp => host == Some(MCP_HOST),
        }
    }
}

impl LogArgs {
    /// Returns the requested operations, newest first.
    fn chosen<'o>(
        &self,
        cx: &Context,
        repo: &Repository,
        operations: &'o [Operation],
        ids: &[Id],
    ) -> Result<Vec<&'o Operation>, Failure> {
        let within = time::within(self.since.as_deref(), self.until.as_deref(), cx.now)?;
        let grep = self.grep.as_ref().map(|text| text.to_lowercase());
        let mut found: Vec<&Operation> = operations.iter().rev().collect();
        found.retain(|operation| {
            within(operation.begin.time)
                && self.kind.is_none_or(|kind| kind.fits(operation))
                && grep
                    .as_ref()
                    .is_none_or(|text| title(operation, ids).to_lowercase().contains(text))
        });
        if let Some(path) = &self.path {
            let place = absolute(&cx.cwd, path);
            let mut by_path = ByPath::new(repo);
            found.retain(|operation| by_path.saw_changes(operation, &place));
        }
        Ok(found)
    }

    fn is_plain(&self) -> bool {
        self.since.is_none()
            && self.until.is_none()
            && self.kind.is_none()
            && self.path.is_none()
            && self.grep.is_none()
    }
}

/// How many characters of a command a line shows.
const MOST: usize = 60;

const COLUMNS: Columns<'_> = Columns {
    names: &["id", "age", "command", "files", "notes"],
    align: "lllll",
    dropped: &[4],
    cut: 2,
};

pub(crate) fn log(cx: &Context, args: &LogArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = log::all(&repo)?;
    let code = exit::of_listing(&repo);
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let limit = if args.limit == 0 {
        usize::MAX
    } else {
        args.limit
    };
    let found = args.chosen(cx, &repo, &operations, &ids)?;
    let shown = &found[..found.len().min(limit)];
    if cx.ui.json {
        let documents = shown.iter();
        let data = LogDocument {
            operations: documents
                .map(|o| OperationDocument::new(cx, &repo, o, &ids))
                .collect(),
            total: found.len(),
            unreadable: unreadable(&repo),
        };
        cx.ui.document("log", code, &data)?;
        return Ok(code);
    }
    if found.is_empty() {
        say_nothing_found(cx, args, operations.is_empty(), code);
        return Ok(code);
    }
    let newest = operations.last().map(|o| o.begin.id);
    let mut text = lines(cx, &repo, shown, &ids, newest);
    let hidden = found.len().saturating_sub(limit);
    if hidden > 0 {
        text.push_str(&format!(
            "  and {} older: bdr log -n 0\n",
            count(hidden as u64)
        ));
    }
    pager::show(cx, &text)?;
    Ok(code)
}

/// Says why the list is empty: an empty screen would leave open whether bdr works at all.
fn say_nothing_found(cx: &Context, args: &LogArgs, no_operations: bool, code: u8) {
    match (&args.path, args.is_plain()) {
        _ if no_operations => {
            // If records cannot be read, something may have happened.
            if code == exit::OK {
                cx.ui
                    .say("No operations yet. Try it: bdr guard -- rm -rf <a file you can spare>");
            }
        }
        (Some(path), _) => {
            let path = cx.shown(&absolute(&cx.cwd, path));
            cx.ui.say(&format!("No operation changed {path}."));
        }
        (None, false) => cx.ui.say("No operation is like that."),
        (None, true) => {}
    }
}

/// Returns a line per operation, fitted to the terminal: `@` is the newest one, the one that a
/// plain `bdr undo` begins with.
fn lines(
    cx: &Context,
    repo: &Repository,
    shown: &[&Operation],
    ids: &[Id],
    newest: Option<Id>,
) -> String {
    let (minus, line, more) = match cx.ui.unicode {
        true => ('−', '│', '…'),
        false => ('-', '|', '~'),
    };
    let row = |o: &&Operation| {
        let mut remarks = remarks(cx, repo, o);
        remarks.extend(detail(cx, repo, o, minus));
        vec![
            o.begin.id.prefix(ids),
            when::age(cx.now, o.begin.time),
            shorten(&title(o, ids), MOST, more),
            counts(o, minus),
            remarks.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    let mut text = String::new();
    // The sign in front takes two columns.
    let width = cx.ui.width().map(|width| width.saturating_sub(2));
    let mut lines = ui::table::fitted(&rows, &COLUMNS, width, more).into_iter();
    if width.is_some() {
        let names = lines.next().unwrap_or_default();
        text.push_str(&format!("  {}\n", cx.ui.out.dim(&names)));
    }
    for (row, operation) in lines.zip(shown) {
        let row = match operation.undone_by {
            Some(_) => cx.ui.out.dim(&row),
            None => row,
        };
        let is_newest = Some(operation.begin.id) == newest;
        text.push_str(&format!("{} {row}\n", if is_newest { '@' } else { line }));
    }
    text
}
