//! `bdr show`.

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::model::manifest::Kind;
use bdr::repo::Repository;
use bdr::repo::oplog::{Keeping, Operation, Protection, resolve};
use bdr::repo::snapshot::Snapshot;
use clap::Args;

use crate::app::changes::{self, Changed, ChangedRoot, Fate, Line, Now};
use crate::app::context::Context;
use crate::app::documents::{FileDocument, GitDocument, OperationDocument, ShowDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log::{self, remarks, title};
use crate::app::pager;
use crate::app::refs::{self, Touched};
use crate::ui::{plural, when};

/// Show what an operation changed
///
/// Without OP: the last operation. A long list of files is summarized by directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr show
  bdr show 7f3a
  bdr show 7f3a --files        every file
  bdr show -p                  what changed in the text of the files
  bdr show 7f3a --json")]
pub(crate) struct ShowArgs {
    /// Operation, from `bdr log`
    #[arg(value_name = "OP")]
    operation: Option<String>,
    /// List every file instead of directories
    #[arg(long)]
    files: bool,
    /// Show text differences; secret values are masked
    #[arg(long, short)]
    patch: bool,
}

/// More lines than this are joined by directory.
const LINES: usize = 20;

/// An operation with everything there is to say about it.
struct Told<'a> {
    repo: &'a Repository,
    operation: &'a Operation,
    ids: &'a [Id],
    snapshot: Option<Snapshot>,
    roots: Vec<ChangedRoot>,
}

pub(crate) fn run(cx: &Context, args: &ShowArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = log::all(&repo)?;
    let operation = match &args.operation {
        Some(name) => resolve(&operations, name)?,
        None => {
            let newest = operations.last();
            // An unreadable record may be the newest.
            repo.check_log(newest.map(|operation| operation.begin.id))?;
            newest.ok_or(bdr::Error::NothingTo { verb: "show" })?
        }
    };
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    // The paths of roots are in the snapshot; without it the changes still have names.
    let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
    // Counts and names are shown even if the listing is damaged.
    let roots = match changes::of(&repo, operation, snapshot.as_ref()) {
        Ok(roots) => roots,
        Err(error) => {
            cx.ui.warn(&format!("bdr: {error}"));
            changes::of(&repo, operation, None)?
        }
    };
    let told = Told {
        repo: &repo,
        operation,
        ids: &ids,
        snapshot,
        roots,
    };
    if cx.ui.json {
        let data = told.document(cx, args)?;
        cx.ui.document("show", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = told.heading(cx);
    text.push_str(&told.counts());
    let mut joined = false;
    for root in &told.roots {
        joined |= told.write_root(cx, args, root, &mut text)?;
    }
    let id = operation.begin.id.prefix(&ids);
    if joined {
        text.push_str(&format!("All files: bdr show {id} --files\n"));
    }
    if operation.is_undoable() || operation.is_session() {
        let undo = format!("bdr undo {id}");
        text.push_str(&format!("Take it back: {}\n", cx.ui.out.bold(&undo)));
    }
    pager::show(cx, &text)?;
    Ok(exit::OK)
}

impl Told<'_> {
    fn heading(&self, cx: &Context) -> String {
        let begin = &self.operation.begin;
        let mut text = format!(
            "{}  {}\n",
            cx.ui.out.yellow(&begin.id.prefix(self.ids)),
            title(self.operation, self.ids)
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
            let all = self.repo.snapshot_ids();
            let before = all.map_or_else(|_| id.to_string(), |all| id.prefix(&all));
            let gone = match self.snapshot {
                Some(_) => "",
                None => "   expired",
            };
            text.push_str(&format!("  snapshot  {before}{gone}\n"));
        }
        if let Some(protection) = &begin.protection {
            text.push_str(&format!("  protected {}\n", protection_words(protection)));
        }
        if !begin.chain.is_empty() {
            let chain: Vec<String> = begin.chain.iter().map(ToString::to_string).collect();
            text.push_str(&format!("  by        {}\n", chain.join(" > ")));
        }
        let remarks = remarks(cx, self.repo, self.operation).join(", ");
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
        text
    }

    /// Returns "  changes   312 files deleted (48.1 MiB), 2 created, 1 changed".
    fn counts(&self) -> String {
        let (deleted, created, modified) = self.operation.counts();
        let own = self.operation.end.iter().flat_map(|end| &end.roots);
        let own = own.filter(|root| !self.operation.begin.elsewhere.contains(&root.name));
        let bytes = own.map(|root| root.deleted_bytes).sum::<u64>();
        let mut parts = Vec::new();
        if deleted > 0 {
            parts.push(format!(
                "{} deleted ({})",
                plural(deleted, "file"),
                size(bytes)
            ));
        }
        for (number, word) in [(created, "created"), (modified, "changed")] {
            if number > 0 {
                parts.push(format!("{} {word}", plural(number, "file")));
            }
        }
        match parts.is_empty() {
            true => String::new(),
            false => format!("  changes   {}\n", parts.join(", ")),
        }
    }

    /// Writes the changes in a root; returns true if files were joined to directories.
    fn write_root(
        &self,
        cx: &Context,
        args: &ShowArgs,
        root: &ChangedRoot,
        text: &mut String,
    ) -> Result<bool, Failure> {
        let shown = |path: &bdr::base::path::RepoPath| cx.shown_absolute(&path.to_path(&root.base));
        if root.elsewhere {
            let place = cx.shown_absolute(&root.base);
            text.push_str(&format!("  meanwhile, by another program, in {place}:\n"));
        }
        let now = Now::of(self.repo, &root.base);
        let repositories = self.repositories(root, &now)?;
        for one in &repositories {
            text.push_str(&format!("  git       {}\n", one.words(cx)));
        }
        let outside = |changed: &&Changed| args.files || refs::git_dir(&changed.path).is_none();
        let paths: Vec<&Changed> = root.paths.iter().filter(outside).collect();
        let most = match args.files || args.patch {
            true => usize::MAX,
            false => LINES,
        };
        let lines = changes::joined(&paths, most);
        for line in &lines {
            text.push_str(&file_line(cx, line, &shown(&line.path)));
        }
        if args.patch {
            for changed in paths.iter().filter(|changed| changed.kind == Kind::File) {
                let patch = now.patch(&shown(&changed.path), changed)?;
                text.push_str(&cx.ui.out.patch(&patch));
            }
        }
        let inside: u64 = repositories.iter().map(|one| one.files).sum();
        Ok(!args.files && (lines.len() < paths.len() || inside > 0))
    }

    fn repositories(&self, root: &ChangedRoot, now: &Now<'_>) -> Result<Vec<Touched>, Failure> {
        let record = self.snapshot.as_ref().and_then(|s| s.root(&root.name));
        Ok(refs::touched(
            self.repo,
            record,
            &root.base,
            &root.paths,
            now,
        )?)
    }

    fn document(&self, cx: &Context, args: &ShowArgs) -> Result<ShowDocument, Failure> {
        let own = OperationDocument::new(cx, self.repo, self.operation, self.ids);
        let mut document = ShowDocument::new(own, self.operation, self.snapshot.as_ref());
        let mut files = (args.files || args.patch).then(Vec::new);
        for root in &self.roots {
            let now = Now::of(self.repo, &root.base);
            let repositories = self.repositories(root, &now)?;
            let git = repositories.iter().map(GitDocument::new);
            document.git.extend(git);
            let Some(files) = &mut files else { continue };
            for changed in &root.paths {
                let mut one = FileDocument::new(root, changed);
                if args.patch && changed.kind == Kind::File {
                    let path = changed.path.to_path(&root.base);
                    one.patch = Some(now.patch(&cx.shown_absolute(&path), changed)?);
                }
                files.push(one);
            }
        }
        document.files = files;
        Ok(document)
    }
}

/// Returns how an operation was protected, after the word "protected".
fn protection_words(protection: &Protection) -> String {
    let because = protection.because.as_ref();
    let because = because.map(|why| format!(" (capture was not possible: {why})"));
    match protection.by {
        Keeping::Watched => format!(
            "by a snapshot of the watched places{}",
            because.unwrap_or_default()
        ),
        Keeping::Capture => "by capture of each call, in all places".to_owned(),
    }
}

fn file_line(cx: &Context, line: &Line, path: &str) -> String {
    let sign = line.fate.sign();
    let what = match (line.is_dir, line.kind) {
        (true, _) if line.files > 0 => {
            let files = plural(line.files, "file");
            format!("{sign} {path}/  {files}  {}", size(line.bytes))
        }
        (true, _) => format!("{sign} {path}/"),
        (false, Kind::File) => format!("{sign} {path}  {}", size(line.bytes)),
        (false, other) => format!("{sign} {path}  {}", other.word()),
    };
    let what = match line.fate {
        Fate::Deleted => cx.ui.out.red(&what),
        Fate::Created => cx.ui.out.green(&what),
        Fate::Modified => cx.ui.out.yellow(&what),
    };
    format!("  {what}\n")
}
