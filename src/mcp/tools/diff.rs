//! `diff_changes`.

use std::path::PathBuf;

use bdr::find::query;
use bdr::model::manifest::{Change, Entry, Kind};
use bdr::repo::snapshot::Snapshot;
use bdr::repo::{Repository, Snapshots};
use serde::Serialize;

use super::super::call::{Answer, Call, Globs, Outcome, Page, backup_id, checkpoint_id, snapshot};
use super::super::fault::Fault;
use super::super::roots::Roots;
use crate::app::context::Context;
use crate::app::{mask, patch};
use crate::ui::{count, plural};

/// Files per page.
const PAGE: usize = 100;
/// Text diffs in one answer have this many bytes at most.
const MAX_PATCHES: usize = 24 << 10;
/// The resource names this many files at most.
const MAX_DOCUMENT: usize = 1000;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct DiffResult {
    #[serde(flatten)]
    summary: Summary,
    files: Vec<FileChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `bdr://diff/FROM/TO`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiffDocument {
    #[serde(flatten)]
    summary: Summary,
    files: Vec<FileChange>,
    /// How many more there are.
    more: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Summary {
    from: String,
    to: String,
    #[serde(rename = "summary")]
    counts: Counts,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Counts {
    added: usize,
    changed: usize,
    deleted: usize,
    /// The size in the newer snapshot, or now.
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct FileChange {
    path: String,
    change: &'static str,
    size: Option<u64>,
    size_was: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let repo = call.repository()?;
    let roots = call.roots()?;
    let snapshots = repo.all_snapshots()?;
    let (a, from) = older(call, &repo, &snapshots)?;
    let to = call.args.text("to")?.filter(|to| *to != "now");
    let b = match to {
        Some(name) => Some(snapshot(cx, &repo, &snapshots, name)?),
        None => None,
    };
    let patterns = call.args.texts("paths")?;
    let globs = Globs::new(cx, &patterns)?;
    let changes = changes(cx, &repo, &roots, a, b, &globs)?;
    let page = Page::read(
        &call.args,
        &format!("diff_changes {from} {to:?} {patterns:?}"),
    )?;
    let shown: Vec<&Changed> = changes.iter().skip(page.from).take(PAGE).collect();
    let mut files: Vec<FileChange> = shown.iter().map(|changed| changed.document(cx)).collect();
    if call.args.flag("patch")? == Some(true) {
        let now = b.is_none().then_some(&roots);
        put_patches(&repo, &shown, &mut files, now)?;
    }
    let until = b.map_or_else(|| "now".to_owned(), |b| backup_id(b.id, b.time));
    let result = DiffResult {
        summary: summary(&from, &until, &changes),
        files,
        next_cursor: page.next(shown.len(), changes.len()),
    };
    let brief = brief(cx, &result, &shown, changes.len() - page.from);
    Ok(Answer::new(result, brief).into())
}

/// Returns the older side and its name for clients: the snapshot that was named, else the last
/// checkpoint, else the last backup.
fn older<'s>(
    call: &Call<'_>,
    repo: &Repository,
    snapshots: &'s Snapshots<'_>,
) -> Result<(&'s Snapshot, String), Fault> {
    let cx = call.cx;
    let named = match call.args.text("from")? {
        Some(name) => Some(name),
        None => call.args.text("checkpointId")?,
    };
    if let Some(name) = named {
        let found = snapshot(cx, repo, snapshots, name)?;
        let shown = match name.starts_with("cp-") {
            true => name.to_owned(),
            false => backup_id(found.id, found.time),
        };
        return Ok((found, shown));
    }
    let operations = repo.operations()?;
    let Ok(operation) = call.checkpoint(&operations, None) else {
        let found = snapshot(cx, repo, snapshots, "latest")?;
        return Ok((found, backup_id(found.id, found.time)));
    };
    let before = operation.begin.before.and_then(|id| snapshots.get(id));
    let before = before.ok_or_else(|| {
        Fault::new(
            "CHECKPOINT_EXPIRED",
            "the snapshot of the last checkpoint has expired",
            "make the same call with from: \"latest\"",
        )
    })?;
    let name = checkpoint_id(operation.begin.id, operation.begin.time);
    Ok((before, name))
}

/// Adds text diffs until the answer is full.
fn put_patches(
    repo: &Repository,
    shown: &[&Changed],
    files: &mut [FileChange],
    now: Option<&Roots>,
) -> Result<(), Fault> {
    let mut left = MAX_PATCHES;
    for (changed, file) in shown.iter().zip(files) {
        if left == 0 {
            file.patch = Some("(left out: narrow it by paths)".to_owned());
            continue;
        }
        let text = cut(&patch_of(repo, changed, now)?, left);
        left = left.saturating_sub(text.len());
        file.patch = Some(text);
    }
    Ok(())
}

/// Returns the answer as text. `left` is the number of differing files from this page on.
fn brief(cx: &Context, result: &DiffResult, shown: &[&Changed], left: usize) -> String {
    let (counts, from, to) = (
        &result.summary.counts,
        &result.summary.from,
        &result.summary.to,
    );
    let is_same = counts.added + counts.changed + counts.deleted == 0;
    if is_same {
        return format!("No differences from {from} to {to}.");
    }
    let mut lines = vec![format!(
        "{} added, {} changed, {} deleted from {from} to {to}.",
        counts.added, counts.changed, counts.deleted
    )];
    lines.extend(shown.iter().take(20).map(|changed| changed.line(cx)));
    let told = lines.len() - 1;
    if left > told {
        lines.push(format!("… {} more in all", count((left - told) as u64)));
    }
    // An undo goes back from the present, so we offer it only for a diff with the present.
    if to == "now" && from.starts_with("cp-") {
        lines.push(format!(
            "To undo this: undo_changes {{\"checkpointId\":\"{from}\"}}"
        ));
    }
    // The text is for the model; the structured result has every file.
    let patches = result.files.iter().filter_map(|file| file.patch.clone());
    lines.extend(patches);
    lines.join("\n")
}

/// Returns the content of `bdr://diff/FROM/TO`, and whether clients may cache it for good: `latest`
/// is another snapshot tomorrow.
pub(crate) fn document(
    cx: &Context,
    roots: &Roots,
    from: &str,
    to: &str,
) -> Result<(DiffDocument, bool), Fault> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let a = snapshot(cx, &repo, &snapshots, from)?;
    let b = match to {
        "now" => None,
        name => Some(snapshot(cx, &repo, &snapshots, name)?),
    };
    let changes = changes(cx, &repo, roots, a, b, &Globs::new(cx, &[])?)?;
    let document = DiffDocument {
        summary: summary(from, to, &changes),
        files: changes
            .iter()
            .take(MAX_DOCUMENT)
            .map(|changed| changed.document(cx))
            .collect(),
        more: changes.len().saturating_sub(MAX_DOCUMENT),
    };
    let fixed = |name: &str, of: &Snapshot| name == backup_id(of.id, of.time);
    let stays = fixed(from, a) && b.is_some_and(|b| fixed(to, b));
    Ok((document, stays))
}

/// A file that differs.
struct Changed {
    root: PathBuf,
    path: PathBuf,
    change: Change,
}

impl Changed {
    fn word(&self) -> &'static str {
        match self.change {
            Change::Added(_) => "added",
            Change::Removed(_) => "deleted",
            Change::Modified(_) => "changed",
            Change::Metadata(_) => "metadata",
        }
    }

    fn sides(&self) -> (Option<&Entry>, Option<&Entry>) {
        match &self.change {
            Change::Added(entry) => (None, Some(entry)),
            Change::Removed(entry) => (Some(entry), None),
            Change::Modified(pair) | Change::Metadata(pair) => (Some(&pair.0), Some(&pair.1)),
        }
    }

    fn document(&self, cx: &Context) -> FileChange {
        let (old, new) = self.sides();
        FileChange {
            path: cx.shown_absolute(&self.path),
            change: self.word(),
            size: new.map(|entry| entry.size),
            size_was: old.map(|entry| entry.size),
            patch: None,
        }
    }

    fn line(&self, cx: &Context) -> String {
        format!("{} {}", self.change.sign(), cx.shown_absolute(&self.path))
    }
}

fn changes(
    cx: &Context,
    repo: &Repository,
    roots: &Roots,
    a: &Snapshot,
    b: Option<&Snapshot>,
    globs: &Globs,
) -> Result<Vec<Changed>, Fault> {
    let differences = query::diff(repo, a, b, &cx.progress())?;
    let mut found = Vec::new();
    for (_, root, changes) in differences {
        for change in changes {
            let path = change.path().to_path(&root);
            // If only the times of a directory changed, the files in it explain why.
            let noise = matches!(&change, Change::Metadata(pair) if pair.0.mode == pair.1.mode);
            if !noise && roots.has(&path) && globs.fit(&path) {
                found.push(Changed {
                    root: root.clone(),
                    path,
                    change,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    // The files in a directory are listed anyway.
    let mut listed: Vec<Changed> = Vec::with_capacity(found.len());
    for changed in found.into_iter().rev() {
        let is_dir = changed
            .sides()
            .0
            .or(changed.sides().1)
            .is_some_and(|entry| entry.kind == Kind::Dir);
        if is_dir
            && listed
                .last()
                .is_some_and(|below| below.path.starts_with(&changed.path))
        {
            continue;
        }
        listed.push(changed);
    }
    listed.reverse();
    Ok(listed)
}

fn summary(from: &str, to: &str, changes: &[Changed]) -> Summary {
    let by = |word: &str| {
        changes
            .iter()
            .filter(|changed| changed.word() == word)
            .count()
    };
    let bytes: u64 = changes
        .iter()
        .filter_map(|changed| changed.sides().1)
        .map(|entry| entry.size)
        .sum();
    Summary {
        from: from.to_owned(),
        to: to.to_owned(),
        counts: Counts {
            added: by("added"),
            changed: by("changed") + by("metadata"),
            deleted: by("deleted"),
            bytes,
        },
    }
}

/// Returns the patch of a text file, or one line that says why there is none. With `now`, the newer
/// side is the file on disk, if it is below these roots.
fn patch_of(repo: &Repository, changed: &Changed, now: Option<&Roots>) -> Result<String, Fault> {
    let (old, new) = changed.sides();
    let old = match old {
        Some(entry) => mask::stored(repo, &changed.path, entry)?,
        None => Ok(Vec::new()),
    };
    let new = match (new, now) {
        (Some(entry), Some(roots)) => {
            let may_see = |path: &std::path::Path| roots.has(path);
            mask::standing(repo, &may_see, &changed.root, &entry.path, entry.kind)
        }
        (Some(entry), None) => mask::stored(repo, &changed.path, entry)?,
        (None, _) => Ok(Vec::new()),
    };
    let name = bdr::base::path::show(changed.path.file_name().unwrap_or_default());
    Ok(patch::of(&name, old, new))
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!(
        "{}\n(cut: {} more; narrow it by paths)",
        bdr::model::agent::start_of(text, most),
        plural((text.len() - most) as u64, "byte")
    )
}
