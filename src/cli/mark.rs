//! `bdr tag`, `bdr pin`, `bdr unpin`.

use std::ffi::OsString;

use bdr::base::id::SnapshotId;
use bdr::repo::Repository;
use bdr::repo::marks::Mark;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::MarkDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pick;

/// Add tags to a snapshot, or remove them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr tag latest before-upgrade
  bdr tag 3f2a before-upgrade --remove
  bdr prune --keep-daily 7 --keep-tag before-upgrade")]
pub(crate) struct TagArgs {
    /// Snapshot (id, `latest`, `latest~2`, a time)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: OsString,
    /// Tags
    #[arg(value_name = "TAG", required = true, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    tags: Vec<String>,
    /// Remove these tags
    #[arg(long)]
    remove: bool,
}

/// Keep a snapshot, whatever the retention policy says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr pin latest
  bdr pin 3f2a")]
pub(crate) struct PinArgs {
    /// Snapshot (id, `latest`, `latest~2`, a time)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: OsString,
}

/// Let the retention policy expire a snapshot again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr unpin 3f2a")]
pub(crate) struct UnpinArgs {
    /// Snapshot (id, `latest`, `latest~2`, a time)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: OsString,
}

pub(crate) fn tag(cx: &Context, args: &TagArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let mut mark = mark_of(cx, &repo, &args.snapshot)?;
    mark.tags.retain(|tag| !args.tags.contains(tag));
    if !args.remove {
        mark.tags.extend(args.tags.iter().cloned());
        mark.tags.sort();
        mark.tags.dedup();
    }
    put(cx, &repo, &mark, "tag")
}

pub(crate) fn pin(cx: &Context, args: &PinArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let mut mark = mark_of(cx, &repo, &args.snapshot)?;
    mark.pinned = true;
    put(cx, &repo, &mark, "pin")
}

pub(crate) fn unpin(cx: &Context, args: &UnpinArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let mut mark = mark_of(cx, &repo, &args.snapshot)?;
    mark.pinned = false;
    put(cx, &repo, &mark, "unpin")
}

/// Returns the current mark of a snapshot.
fn mark_of(cx: &Context, repo: &Repository, word: &OsString) -> Result<Mark, Failure> {
    let snapshots = repo.all_snapshots()?;
    let snapshot = pick::one(cx, &snapshots, word)?;
    // A damaged mark is replaced: that is how to repair it.
    let known = repo.mark(snapshot.id).ok().flatten();
    Ok(known.unwrap_or_else(|| Mark {
        version: 1,
        repository: repo.id(),
        id: snapshot.id,
        tags: snapshot.tags.clone(),
        pinned: false,
    }))
}

fn put(cx: &Context, repo: &Repository, mark: &Mark, verb: &str) -> Result<u8, Failure> {
    repo.check_writable()?;
    repo.put_mark(mark)?;
    let ids: Vec<SnapshotId> = repo.snapshot_ids()?;
    let short = mark.id.prefix(&ids);
    if cx.ui.json {
        let data = MarkDocument::new(mark, &short);
        cx.ui.document(verb, exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = format!("Snapshot {short}");
    text.push_str(if mark.pinned {
        " is pinned: no policy removes it."
    } else {
        " is not pinned."
    });
    if !mark.tags.is_empty() {
        let tags: Vec<String> = mark
            .tags
            .iter()
            .map(|t| bdr::base::path::show(t.as_ref()))
            .collect();
        text.push_str(&format!(" Tags: {}.", tags.join(", ")));
    }
    text.push('\n');
    cx.ui.report(&text)?;
    Ok(exit::OK)
}
