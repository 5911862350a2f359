//! `bdr list`.

use std::collections::HashSet;
use std::path::PathBuf;

use bdr::base::id::{Shorts, SnapshotId};
use bdr::base::path::absolute;
use bdr::base::units::size;
use bdr::repo::Repository;
use bdr::repo::origin::Origin;
use bdr::repo::snapshot::{SnapshotKind, Trigger};
use bdr::repo::summaries::Summary;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{ListDocument, SnapshotDocument, unreadable};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pager;
use crate::app::remotes::FromArgs;
use crate::app::time;
use crate::ui::table::{Columns, fitted};
use crate::ui::{count, plural, when};

/// List backups, newest last
///
/// Snapshots that were taken before a guarded command, an undo or a restore are listed with --all, with --kind, or if they are
/// pinned or have a tag. With --json they are always listed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr list
  bdr list -n 5 --source brain
  bdr list --all --since yesterday
  bdr list --json | jq -r '.data.snapshots[].id'")]
pub(crate) struct ListArgs {
    /// List the newest N; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0)]
    limit: usize,
    /// List the snapshots of guards, undos and restores as well
    #[arg(long, short)]
    all: bool,
    /// Only snapshots since a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only snapshots until a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what was taken by: backup, init, guard, undo, redo, restore
    #[arg(long, value_parser = Trigger::ALL.map(Trigger::word), value_name = "KIND", hide_possible_values = true)]
    kind: Option<String>,
    /// Only snapshots with a tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only snapshots that have a source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only snapshots that cover a path
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
    #[command(flatten)]
    from: FromArgs,
}

impl ListArgs {
    /// Returns the requested snapshots, without regard to --all and the number.
    fn chosen<'s>(
        &self,
        cx: &Context,
        snapshots: &'s [Summary],
    ) -> Result<Vec<&'s Summary>, Failure> {
        let within = time::within(self.since.as_deref(), self.until.as_deref(), cx.now)?;
        let path = self.path.as_ref().map(|path| absolute(&cx.cwd, path));
        let fits = |snapshot: &&Summary| {
            let roots = || snapshot.roots.iter();
            within(snapshot.time)
                && self
                    .kind
                    .as_ref()
                    .is_none_or(|kind| snapshot.trigger.word() == kind)
                && self
                    .tag
                    .as_ref()
                    .is_none_or(|tag| snapshot.tags.contains(tag))
                && self
                    .source
                    .as_ref()
                    .is_none_or(|name| roots().any(|root| root.name == **name))
                && path
                    .as_ref()
                    .is_none_or(|path| roots().any(|root| path.starts_with(root.path.as_path())))
        };
        Ok(snapshots.iter().filter(fits).collect())
    }
}

const COLUMNS: Columns<'_> = Columns {
    names: &[
        "id", "taken", "age", "by", "kind", "files", "size", "stored", "notes",
    ],
    align: "lllllrrrl",
    dropped: &[2, 4, 7, 8],
    cut: 8,
};

pub(crate) fn run(cx: &Context, args: &ListArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    // Sizing asks for the size of each file, so it runs in parallel to the reading.
    let (snapshots, sized) = std::thread::scope(|scope| {
        let sizing = scope.spawn(|| repo.stored_bytes());
        (repo.summaries(), sizing.join())
    });
    let mut snapshots = snapshots?;
    let repository_bytes = match sized {
        Ok(sized) => sized?,
        Err(_) => 0,
    };
    let shorts = Shorts::new(&repo.snapshot_ids()?);
    let origins = repo.origins(&snapshots);
    let pinned = mark_all(&repo, &mut snapshots)?;
    let code = exit::of_listing(&repo);
    let mut chosen = args.chosen(cx, &snapshots)?;
    let before = chosen.len();
    // Users who kept one explicitly want to see it.
    let is_kept = |s: &Summary| pinned.contains(&s.id) || !s.tags.is_empty();
    if !cx.ui.json && !args.all && args.kind.is_none() {
        chosen.retain(|s| s.is_backup() || is_kept(s));
    }
    let hidden = before - chosen.len();
    if args.limit > 0 {
        chosen.drain(..chosen.len().saturating_sub(args.limit));
    }
    if cx.ui.json {
        let line = |s: &&Summary| {
            SnapshotDocument::new(s, shorts.of(s.id), pinned.contains(&s.id), origins.of(s))
        };
        let data = ListDocument {
            snapshots: chosen.iter().map(line).collect(),
            total: before,
            repository_bytes,
            unreadable: unreadable(&repo),
        };
        cx.ui.document("list", code, &data)?;
        return Ok(code);
    }
    if chosen.is_empty() {
        if code == exit::OK {
            cx.ui.say(&nothing(snapshots.is_empty(), hidden));
        }
        return Ok(code);
    }
    let rows: Vec<Vec<String>> = chosen
        .iter()
        .map(|s| {
            let origin = origins.of(s);
            row(cx, s, &shorts.of(s.id), pinned.contains(&s.id), origin)
        })
        .collect();
    let more = if cx.ui.unicode { '…' } else { '~' };
    let mut lines = fitted(&rows, &COLUMNS, cx.ui.width(), more);
    if let (Some(names), true) = (lines.first_mut(), cx.ui.width().is_some()) {
        *names = cx.ui.out.dim(names);
    }
    let mut text = lines.join("\n");
    let shown = plural(chosen.len() as u64, "snapshot");
    let others = match hidden {
        0 => String::new(),
        hidden => format!(", {} more with --all", count(hidden as u64)),
    };
    let total = size(repository_bytes);
    text.push_str(&format!("\n{shown}{others}; the repository has {total}\n"));
    pager::show(cx, &text)?;
    Ok(code)
}

/// Returns the message for an empty list.
fn nothing(none_at_all: bool, hidden: usize) -> String {
    match (none_at_all, hidden) {
        (true, _) => "No snapshots yet: bdr backup".to_owned(),
        (false, 0) => "No snapshot is like that.".to_owned(),
        (false, hidden) => format!(
            "No backup is like that. {} of guards and the like: bdr list --all",
            plural(hidden as u64, "snapshot")
        ),
    }
}

/// Adds later marks to the snapshots; returns which are pinned.
fn mark_all(repo: &Repository, snapshots: &mut [Summary]) -> Result<HashSet<SnapshotId>, Failure> {
    let mut pinned = HashSet::new();
    for id in repo.marked()? {
        let snapshot = snapshots.iter_mut().find(|s| s.id == id);
        // A damaged mark says nothing; prune keeps its snapshot.
        if let (Some(snapshot), Ok(Some(mark))) = (snapshot, repo.mark(id)) {
            snapshot.tags = mark.tags;
            if mark.pinned {
                pinned.insert(id);
            }
        }
    }
    Ok(pinned)
}

fn row(cx: &Context, snapshot: &Summary, id: &str, pinned: bool, origin: Origin) -> Vec<String> {
    let kind = match snapshot.kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Incremental => "",
    };
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend(
        snapshot
            .label
            .as_ref()
            .map(|l| bdr::base::path::show(l.as_ref())),
    );
    remarks.extend(
        snapshot
            .tags
            .iter()
            .map(|t| format!("#{}", bdr::base::path::show(t.as_ref()))),
    );
    if pinned {
        remarks.push("pinned".to_owned());
    }
    if snapshot.partial {
        remarks.push(format!("partial: {} skipped", snapshot.problems));
    }
    match origin {
        Origin::Here | Origin::Before => {}
        Origin::Elsewhere => remarks.push("made elsewhere".to_owned()),
        Origin::Unbound => remarks.push("not bound to this machine".to_owned()),
    }
    vec![
        id.to_owned(),
        when::local(snapshot.time),
        when::ago(cx.now, snapshot.time),
        snapshot.trigger.word().to_owned(),
        kind.to_owned(),
        plural(snapshot.stats.files, "file"),
        size(snapshot.stats.bytes),
        format!("+{}", size(snapshot.stats.stored_bytes)),
        remarks.join("  "),
    ]
}
