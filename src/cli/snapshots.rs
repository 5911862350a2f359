//! `bdr list`, `bdr ls`.

use std::collections::HashSet;
use std::ffi::OsString;

use bdr::base::id::{Shorts, SnapshotId};
use bdr::base::path::{RepoPath, show_bytes};
use bdr::base::units::size;
use bdr::model::manifest::{Entry, Kind};
use bdr::repo::Repository;
use bdr::repo::oplog::RootPath;
use bdr::repo::origin::Origin;
use bdr::repo::snapshot::{RootRecord, SnapshotKind};
use bdr::repo::summaries::Summary;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{
    EntryDocument, ListDocument, LsDocument, SnapshotDocument, SourceEntry, unreadable,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pick;
use crate::ui::{self, plural, when};

/// List snapshots, newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr list
  bdr list --json | jq -r '.data.snapshots[].id'")]
pub(crate) struct ListArgs {}

/// List the files of a snapshot
///
/// Names are printed as SOURCE/relative, which every command accepts as a PATH.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr ls latest
  bdr ls 3f2a docs
  bdr ls --at yesterday brain/notes")]
pub(crate) struct LsArgs {
    /// Snapshot (id, `latest`, `latest~2`, `latest:full`), then paths
    #[arg(value_name = "SNAPSHOT] [PATH", value_hint = clap::ValueHint::AnyPath)]
    words: Vec<OsString>,
    /// Use the last snapshot at or before a time, instead of naming one
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

pub(crate) fn list(cx: &Context, _: &ListArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    // Sizing asks for the size of each file: beside the reading.
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
    if cx.ui.json {
        let line = |s: &Summary| {
            SnapshotDocument::new(s, shorts.of(s.id), pinned.contains(&s.id), origins.of(s))
        };
        let data = ListDocument {
            snapshots: snapshots.iter().map(line).collect(),
            repository_bytes,
            unreadable: unreadable(&repo),
        };
        cx.ui.document("list", code, &data)?;
        return Ok(code);
    }
    if snapshots.is_empty() {
        if code == exit::OK {
            cx.ui.say("No snapshots yet: bdr backup");
        }
        return Ok(code);
    }
    let rows: Vec<Vec<String>> = snapshots
        .iter()
        .map(|s| {
            let origin = origins.of(s);
            row(cx, s, &shorts.of(s.id), pinned.contains(&s.id), origin)
        })
        .collect();
    let mut text = ui::table::table(&rows, "llllrrrl").join("\n");
    let total = size(repository_bytes);
    text.push_str(&format!(
        "\n{} in {total}\n",
        plural(snapshots.len() as u64, "snapshot")
    ));
    cx.ui.data(&text)?;
    Ok(code)
}

/// Puts what was said later into the snapshots; returns which are pinned.
fn mark_all(repo: &Repository, snapshots: &mut [Summary]) -> Result<HashSet<SnapshotId>, Failure> {
    let mut pinned = HashSet::new();
    for id in repo.marked()? {
        let snapshot = snapshots.iter_mut().find(|s| s.id == id);
        // One that is damaged says nothing; prune lets its snapshot stay.
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
    let time = format!(
        "{}  {}",
        when::local(snapshot.time),
        when::ago(cx.now, snapshot.time)
    );
    vec![
        id.to_owned(),
        time,
        snapshot.trigger.word().to_owned(),
        kind.to_owned(),
        plural(snapshot.stats.files, "file"),
        size(snapshot.stats.bytes),
        format!("+{}", size(snapshot.stats.stored_bytes)),
        remarks.join("  "),
    ]
}

pub(crate) fn ls(cx: &Context, args: &LsArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let picked = pick::pick(cx, &snapshots, args.at.as_deref(), &args.words)?;
    let snapshot = &*picked.snapshot;
    let id = snapshot.id.prefix(&snapshots.ids());
    let everything: Vec<RootPath> = snapshot
        .roots
        .iter()
        .map(|root| RootPath {
            root: root.name.clone(),
            path: RepoPath::root(),
        })
        .collect();
    let paths = if picked.paths.is_empty() {
        &everything
    } else {
        &picked.paths
    };
    let mut rows = Vec::new();
    let mut data = Vec::new();
    for wanted in paths {
        let Some(root) = snapshot.root(&wanted.root) else {
            continue;
        };
        let listing = repo.listing_of(root, &|path| path.starts_with(&wanted.path))?;
        let mut found = false;
        for entry in &listing {
            found = true;
            if cx.ui.json {
                let path = entry.path.to_path(root.path.as_path());
                data.push(SourceEntry {
                    entry: EntryDocument::new(&path, entry),
                    source: root.name.to_string(),
                });
            } else {
                rows.push(line(root, entry));
            }
        }
        if !found && !wanted.path.is_root() {
            let path = format!("{}/{}", wanted.root, wanted.path);
            return Err(bdr::Error::NoSuchPath {
                path,
                place: format!("snapshot {id}"),
            }
            .into());
        }
    }
    if cx.ui.json {
        let data = LsDocument {
            snapshot: snapshot.id.to_string(),
            entries: data,
        };
        cx.ui.document("ls", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = ui::table::table(&rows, "lrll").join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn line(root: &RootRecord, entry: &Entry) -> Vec<String> {
    let mut name = if entry.path.is_root() {
        root.name.to_string()
    } else {
        format!("{}/{}", root.name, entry.path)
    };
    match entry.kind {
        Kind::Dir => name.push('/'),
        Kind::Symlink => name.push_str(&format!(" -> {}", show_bytes(&entry.body.target))),
        Kind::File => {}
        other => name.push_str(&format!("  ({}, not stored)", other.word())),
    }
    let bytes = if entry.kind == Kind::File {
        size(entry.size)
    } else {
        String::new()
    };
    vec![mode(entry), bytes, when::of_file(entry.mtime), name]
}

/// Returns `-rw-r--r--`.
pub(crate) fn mode(entry: &Entry) -> String {
    let mut text = String::from(match entry.kind {
        Kind::File => "-",
        Kind::Dir => "d",
        Kind::Symlink => "l",
        Kind::Fifo => "p",
        Kind::Socket => "s",
        Kind::CharDevice => "c",
        Kind::BlockDevice => "b",
    });
    for (i, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if entry.mode & (0o400 >> i) != 0 {
            letter
        } else {
            '-'
        });
    }
    text
}
