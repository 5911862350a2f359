//! `bdr diff`.

use std::borrow::Cow;
use std::ffi::OsString;

use bdr::base::units::size;
use bdr::find::query;
use bdr::model::manifest::{Change, Entry, Kind};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::DiffDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pick;
use crate::app::time;

/// Compare a snapshot with another one or with the current files
///
/// `+` added, `-` removed, `M` content changed, `m` only metadata changed. The exit code is 0 whether or not there are differences.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr diff latest              what changed since the last snapshot
  bdr diff latest~1 latest
  bdr diff --at yesterday")]
pub(crate) struct DiffArgs {
    /// Older snapshot (id, `latest`, `latest~2`, `latest:full`)
    #[arg(value_name = "A", required_unless_present = "at")]
    a: Option<OsString>,
    /// Newer snapshot; without it, the current files
    #[arg(value_name = "B")]
    b: Option<OsString>,
    /// Compare from the last snapshot at or before a time, instead of A
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

pub(crate) fn run(cx: &Context, args: &DiffArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let (a, b) = match (&args.at, &args.a, &args.b) {
        (Some(_), Some(_), Some(_)) => {
            return Err(Failure::usage(
                "--at is snapshot A; give at most one more",
                "bdr diff --at yesterday latest",
            ));
        }
        (Some(at), b, None) => {
            let time = time::parse_until(at, cx.now)?;
            (Cow::Borrowed(pick::at_or_before(cx, &snapshots, time)?), b)
        }
        (None, Some(a), None) if a == "latest" => {
            (pick::newest_of_each(cx, &snapshots)?.snapshot, &None)
        }
        (None, Some(a), b) => (Cow::Borrowed(pick::one(cx, &snapshots, a)?), b),
        (_, None, _) => return Err(Failure::usage("no snapshot given", "bdr diff latest")),
    };
    let b = b
        .as_ref()
        .map(|b| pick::one(cx, &snapshots, b))
        .transpose()?;
    let differences = query::diff(&repo, &a, b, &repo.own_paths(), &cx.progress())?;
    if cx.ui.json {
        let changes = differences
            .iter()
            .flat_map(|(root, path, changes)| changes.iter().map(|c| (&**root, &**path, c)));
        let data = DiffDocument::new(a.id, b.map(|b| b.id), changes);
        cx.ui.document("diff", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for (_, path, changes) in &differences {
        for change in changes {
            let line = line(&cx.shown(&change.path().to_path(path)), change);
            let line = match change {
                Change::Added(_) => cx.ui.out.green(&line),
                Change::Removed(_) => cx.ui.out.red(&line),
                Change::Modified(_) => cx.ui.out.yellow(&line),
                Change::Metadata(_) => line,
            };
            text.push_str(&format!("{line}\n"));
        }
    }
    cx.ui.data(&text)?;
    if text.is_empty() {
        cx.ui.say("No differences.");
    }
    Ok(exit::OK)
}

fn line(path: &str, change: &Change) -> String {
    let sign = change.sign();
    match change {
        Change::Added(entry) | Change::Removed(entry) => format!("{sign} {path}{}", tail(entry)),
        Change::Modified(pair) if pair.0.kind != pair.1.kind => {
            format!(
                "{sign} {path}  {} → {}",
                pair.0.kind.word(),
                pair.1.kind.word()
            )
        }
        Change::Modified(pair) if pair.0.kind == Kind::File => {
            format!(
                "{sign} {path}  {} → {}",
                size(pair.0.size),
                size(pair.1.size)
            )
        }
        Change::Modified(_) => format!("{sign} {path}"),
        Change::Metadata(pair) if pair.0.mode != pair.1.mode => {
            format!(
                "{sign} {path}  mode {:04o} → {:04o}",
                pair.0.mode, pair.1.mode
            )
        }
        Change::Metadata(_) => format!("{sign} {path}"),
    }
}

fn tail(entry: &Entry) -> String {
    match entry.kind {
        Kind::File => format!("  {}", size(entry.size)),
        Kind::Dir => "/".to_owned(),
        other => format!("  {}", other.word()),
    }
}
