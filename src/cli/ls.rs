//! `bdr ls`.

use std::ffi::OsString;

use bdr::base::path::{RepoPath, show_bytes};
use bdr::base::units::size;
use bdr::model::manifest::{Entry, Kind};
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::RootRecord;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{EntryDocument, LsDocument, SourceEntry};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pager;
use crate::app::pick;
use crate::app::remotes::FromArgs;
use crate::ui::{self, when};

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
    #[command(flatten)]
    from: FromArgs,
}

pub(crate) fn run(cx: &Context, args: &LsArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let picked = pick::pick(cx, "ls", &snapshots, args.at.as_deref(), &args.words)?;
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
    pager::show(cx, &text)?;
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
