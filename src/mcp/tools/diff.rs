//! `diff_changes`.

use std::path::PathBuf;

use bdr::find::query;
use bdr::model::manifest::{Change, Entry, Kind};
use bdr::repo::Repository;
use bdr::repo::snapshot::Snapshot;
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Globs, Outcome, Page, backup_id, checkpoint_id, snapshot};
use super::super::fault::Fault;
use super::super::roots::Roots;
use crate::app::context::Context;
use crate::app::{mask, patch};
use crate::ui::{count, plural};

/// Files of one page.
const PAGE: usize = 100;
/// Bytes of text diffs in one answer.
const MAX_PATCHES: usize = 24 << 10;

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let repo = call.repository()?;
    let roots = call.roots()?;
    let snapshots = repo.all_snapshots()?;
    let named = match call.args.text("from")? {
        Some(name) => Some(name),
        None => call.args.text("checkpointId")?,
    };
    let operations = repo.operations()?;
    let (a, from) = match (named, call.checkpoint(&operations, None)) {
        (Some(name), _) => {
            let found = snapshot(cx, &repo, &snapshots, name)?;
            let shown = match name.starts_with("cp-") {
                true => name.to_owned(),
                false => backup_id(found.id, found.time),
            };
            (found, shown)
        }
        (None, Ok(operation)) => {
            let found = operation.begin.before.and_then(|id| snapshots.get(id));
            let gone = || {
                Fault::new(
                    "CHECKPOINT_EXPIRED",
                    "the snapshot of the last checkpoint has expired",
                    "make the same call with from: \"latest\"",
                )
            };
            (
                found.ok_or_else(gone)?,
                checkpoint_id(operation.begin.id, operation.begin.time),
            )
        }
        (None, Err(_)) => {
            let found = snapshot(cx, &repo, &snapshots, "latest")?;
            (found, backup_id(found.id, found.time))
        }
    };
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
    let with_patches = call.args.flag("patch")? == Some(true);
    let shown: Vec<&Changed> = changes.iter().skip(page.from).take(PAGE).collect();
    let mut left = MAX_PATCHES;
    let mut files = Vec::with_capacity(shown.len());
    for changed in &shown {
        let mut one = changed.to_json(cx);
        if with_patches {
            match left {
                0 => one["patch"] = "(left out: narrow it by paths)".into(),
                _ => {
                    let text = patch_of(&repo, changed, b.is_none().then_some(&roots))?;
                    let text = cut(&text, left);
                    left = left.saturating_sub(text.len());
                    one["patch"] = text.into();
                }
            }
        }
        files.push(one);
    }
    let until = b.map_or_else(|| "now".to_owned(), |b| backup_id(b.id, b.time));
    let mut data = summary(&from, &until, &changes);
    let mut lines: Vec<String> = shown
        .iter()
        .take(20)
        .map(|changed| changed.line(cx))
        .collect();
    if changes.len() > page.from + lines.len() {
        lines.push(format!(
            "… {} more in all",
            count((changes.len() - page.from - lines.len()) as u64)
        ));
    }
    data["files"] = files.into();
    page.next(&mut data, shown.len(), changes.len());
    let counts = &data["summary"];
    let mut brief = format!(
        "{} added, {} changed, {} deleted from {from} to {until}.",
        counts["added"], counts["changed"], counts["deleted"]
    );
    if changes.is_empty() {
        brief = format!("No differences from {from} to {until}.");
    } else {
        if !lines.is_empty() {
            brief.push_str(&format!("\n{}", lines.join("\n")));
        }
        if b.is_none() && from.starts_with("cp-") {
            brief.push_str(&format!(
                "\nTo undo this: undo_changes {{\"checkpointId\":\"{from}\"}}"
            ));
        }
        if with_patches {
            // A model reads the text; the structured form has it file by file.
            for file in data["files"].as_array().into_iter().flatten() {
                brief.push_str(&format!("\n{}", file["patch"].as_str().unwrap_or_default()));
            }
        }
    }
    Ok(Answer::new(data, brief).into())
}

/// Returns what `bdr://diff/FROM/TO` shows, and whether it will always be that: names like `latest` mean others tomorrow.
pub(crate) fn document(
    cx: &Context,
    roots: &Roots,
    from: &str,
    to: &str,
) -> Result<(Value, bool), Fault> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let a = snapshot(cx, &repo, &snapshots, from)?;
    let b = match to {
        "now" => None,
        name => Some(snapshot(cx, &repo, &snapshots, name)?),
    };
    let changes = changes(cx, &repo, roots, a, b, &Globs::new(cx, &[])?)?;
    let mut data = summary(from, to, &changes);
    data["files"] = changes
        .iter()
        .take(1000)
        .map(|changed| changed.to_json(cx))
        .collect();
    data["more"] = changes.len().saturating_sub(1000).into();
    let fixed = |name: &str, of: &Snapshot| name == backup_id(of.id, of.time);
    let stays = fixed(from, a) && b.is_some_and(|b| fixed(to, b));
    Ok((data, stays))
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

    fn to_json(&self, cx: &Context) -> Value {
        let (old, new) = self.sides();
        json!({"path": cx.shown_absolute(&self.path), "change": self.word(), "size": new.map(|entry| entry.size), "sizeWas": old.map(|entry| entry.size)})
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
    let differences = query::diff(repo, a, b, &repo.own_paths(), &cx.progress())?;
    let mut found = Vec::new();
    for (_, root, changes) in differences {
        for change in changes {
            let path = change.path().to_path(&root);
            // A directory whose times are new says nothing that its files do not.
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
    // A directory says nothing that what is in it does not.
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

fn summary(from: &str, to: &str, changes: &[Changed]) -> Value {
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
    json!({"from": from, "to": to, "summary": {"added": by("added"), "changed": by("changed") + by("metadata"), "deleted": by("deleted"), "bytes": bytes}})
}

/// Returns the difference of a text file as a patch, or one line that says why there is none. `now`: the newer side is what stands, within these roots.
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
