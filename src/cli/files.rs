//! `bdr history`, `bdr find`, `bdr cat`.

use std::ffi::OsString;
use std::io::{self, Write};

use bdr::Error;
use bdr::base::units::size;
use bdr::find::query;
use bdr::model::manifest::{Entry, Kind};
use bdr::repo::Repository;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{CatDocument, EntryDocument, FindDocument, HistoryDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pager;
use crate::app::pick;
use crate::app::remotes::FromArgs;
use crate::ui::{self, OutputError, when};

/// List the versions of a file, newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr history notes.md
  bdr history brain/2026/plan.md
  bdr cat 3f2a notes.md          print one of them")]
pub(crate) struct HistoryArgs {
    /// Original path, relative path, or SOURCE/relative
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: OsString,
    #[command(flatten)]
    from: FromArgs,
}

/// Find files in all snapshots
///
/// A pattern without `/` matches a name in any directory. Lists the newest version of each path, as SNAPSHOT:PATH, which other
/// commands accept. The exit code is 1 if nothing matches.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr find '*.sqlite'
  bdr find 'docs/**/*.md'
  bdr find plan.md --all         every version")]
pub(crate) struct FindArgs {
    /// Pattern: `*`, `?`, `[a-z]`, `**`
    glob: String,
    /// List every version
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// Print an earlier version of a file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr cat notes.md               from the latest backup
  bdr cat 3f2a:notes.md
  bdr cat --at yesterday notes.md > notes.old
  bdr cat 3f2a brain/plan.md | diff - plan.md")]
pub(crate) struct CatArgs {
    /// Snapshot (id, `latest`, `latest~2`, `latest:full`), then the path
    #[arg(required = true, value_name = "SNAPSHOT] [PATH", value_hint = clap::ValueHint::FilePath)]
    words: Vec<OsString>,
    /// Use the last snapshot at or before a time, instead of naming one
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    from: FromArgs,
}

pub(crate) fn history(cx: &Context, args: &HistoryArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    let snapshots = repo.snapshots()?;
    let ids = repo.snapshot_ids()?;
    let versions = query::history(&repo, &snapshots, &cx.cwd, &args.path)?;
    if cx.ui.json {
        let data = HistoryDocument::new(&versions, &ids);
        cx.ui.document("history", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|v| {
            let what = v.entry.as_ref().map_or_else(|| "gone".to_owned(), describe);
            let modified = v
                .entry
                .as_ref()
                .map(|e| format!("modified {}", when::of_file(e.mtime)));
            let id = v.snapshot.prefix(&ids);
            vec![
                id,
                when::local(v.time),
                when::ago(cx.now, v.time),
                what,
                modified.unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = String::new();
    if let Some(last) = versions.last() {
        text.push_str(&format!("{}\n", cx.shown_absolute(&last.path)));
    }
    for line in ui::table::table(&rows, "lllrl") {
        text.push_str(&format!("  {line}\n"));
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn describe(entry: &Entry) -> String {
    match entry.kind {
        Kind::File => size(entry.size),
        other => other.word().to_owned(),
    }
}

pub(crate) fn find(cx: &Context, args: &FindArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    let snapshots = repo.snapshots()?;
    let ids = repo.snapshot_ids()?;
    let mut found = query::find(&repo, &snapshots, &args.glob)?;
    if args.all {
        found = query::versions(&repo, &snapshots, &found)?;
    }
    if cx.ui.json {
        let code = match found.is_empty() {
            true => exit::FAILURE,
            false => exit::OK,
        };
        cx.ui
            .document("find", code, &FindDocument::new(&found, &ids))?;
        return Ok(code);
    }
    if found.is_empty() {
        cx.ui.say(&format!(
            "Nothing matches in {}.",
            ui::plural(snapshots.len() as u64, "snapshot")
        ));
        return Ok(exit::FAILURE);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|f| {
            let gone = match f.current || args.all {
                true => "",
                false => "gone since",
            };
            let path = cx.shown_absolute(&f.path);
            vec![
                format!("{}:{path}", f.snapshot.prefix(&ids)),
                describe(&f.entry),
                when::ago(cx.now, f.time),
                gone.to_owned(),
            ]
        })
        .collect();
    let mut text = ui::table::table(&rows, "lrll").join("\n");
    text.push('\n');
    pager::show(cx, &text)?;
    Ok(exit::OK)
}

pub(crate) fn cat(cx: &Context, args: &CatArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    print(cx, args, &repo)
        .map_err(|failure| pick::newest_instead(cx, &repo, args.words.last(), "cat", failure))
}

fn print(cx: &Context, args: &CatArgs, repo: &Repository) -> Result<u8, Failure> {
    let snapshots = repo.all_snapshots()?;
    let picked = pick::pick(cx, "cat", &snapshots, args.at.as_deref(), &args.words)?;
    let [wanted] = &picked.paths[..] else {
        let what = if picked.paths.is_empty() {
            "no file given"
        } else {
            "more than one file given"
        };
        return Err(Failure::usage(what, "bdr cat latest PATH"));
    };
    let id = picked.snapshot.id.prefix(&snapshots.ids());
    let missing = || {
        let path = format!("{}/{}", wanted.root, wanted.path);
        Error::NoSuchPath {
            path,
            place: format!("snapshot {id}"),
        }
    };
    let root = picked.snapshot.root(&wanted.root).ok_or_else(missing)?;
    let found = repo.listing_of(root, &|path| *path == wanted.path)?.pop();
    let entry = &found.ok_or_else(missing)?;
    match entry.kind {
        Kind::File => {}
        Kind::Dir => {
            let message = format!("`{}` is a directory", wanted.path);
            return Err(
                Error::invalid(message, Some(&format!("bdr ls {id} {}", wanted.path))).into(),
            );
        }
        other => {
            let message = format!("`{}` is a {}, not a file", wanted.path, other.word());
            return Err(Error::invalid(message, None).into());
        }
    }
    if cx.ui.json {
        // The content does not fit into a document, so describe it.
        let data = CatDocument {
            entry: EntryDocument::new(&entry.path.to_path(root.path.as_path()), entry),
            snapshot: picked.snapshot.id.to_string(),
        };
        cx.ui.document("cat", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut sink = Sink {
        out: io::stdout().lock(),
        failed: None,
    };
    let read = repo.read_content(entry, &mut sink);
    // A reader that closed the pipe is not damage in the repository.
    if let Some(error) = sink.failed.take() {
        return Err(OutputError(error).into());
    }
    let is_sure = read?;
    sink.out.flush().map_err(OutputError)?;
    if !is_sure {
        cx.ui.warn("another program wrote to it after it was deleted: only its beginning was saved, and even that may have changed");
        return Ok(exit::PARTIAL);
    }
    Ok(exit::OK)
}

/// Standard output that remembers why it failed.
struct Sink {
    out: io::StdoutLock<'static>,
    failed: Option<io::Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(io::Error::from(error.kind()));
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
