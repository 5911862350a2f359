//! `bdr diff`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

use bdr::base::path::{RepoPath, absolute};
use bdr::base::units::size;
use bdr::find::{query, select};
use bdr::model::manifest::{Change, Entry, Kind};
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::{RootRecord, Snapshot};
use bdr::repo::{Repository, Snapshots};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::DiffDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pick;
use crate::app::remotes::FromArgs;
use crate::app::time;
use crate::app::{mask, pager, patch, refs};

/// Compare a snapshot with another one or with the current files
///
/// Without A: the last backup. With PATH: only what is there or below. `+` added, `-` removed, `M` content changed, `m` only
/// metadata changed. Changes inside a git repository are one line. The exit code is 0 whether or not there are differences.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr diff                     what changed since the last backup
  bdr diff -p notes.md         what changed in a file
  bdr diff latest~1 latest
  bdr diff 3f2a:notes.md
  bdr diff --at yesterday docs
  bdr diff --from nas --machine laptop latest~1 latest")]
pub(crate) struct DiffArgs {
    /// Older snapshot (id, `latest`, `latest~2`, `latest:full`), newer snapshot (without it, the current files), then paths
    #[arg(value_name = "A] [B] [PATH", value_hint = clap::ValueHint::AnyPath)]
    words: Vec<OsString>,
    /// Compare from the last snapshot at or before a time, instead of A
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Show text differences; secret values are masked
    #[arg(long, short)]
    patch: bool,
    /// List the files inside `.git` too, instead of the branches that moved
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    from: FromArgs,
}

struct Sides<'a> {
    a: Cow<'a, Snapshot>,
    b: Option<&'a Snapshot>,
    paths: Vec<OsString>,
}

impl DiffArgs {
    /// Parses the words: up to two snapshots, then paths.
    fn sides<'a>(&self, cx: &Context, snapshots: &'a Snapshots<'_>) -> Result<Sides<'a>, Failure> {
        let mut named: Vec<OsString> = Vec::new();
        let mut paths: Vec<OsString> = Vec::new();
        let mut words = self.words.iter();
        for word in words.by_ref() {
            if let Some((snapshot, path)) = pick::split(cx, snapshots, word) {
                named.push(snapshot);
                paths.extend((!path.is_empty()).then_some(path));
            } else {
                match pick::one(cx, snapshots, word) {
                    Ok(_) => named.push(word.clone()),
                    Err(failure) if pick::is_unknown(&failure) && word != "latest" => {
                        paths.push(word.clone());
                        break;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            if named.len() == 2 {
                break;
            }
        }
        paths.extend(words.cloned());
        let latest = OsString::from("latest");
        let (a, b) = match (&self.at, &named[..]) {
            (Some(_), [_, _, ..]) => {
                return Err(Failure::usage(
                    "--at is snapshot A; give at most one more",
                    "bdr diff --at yesterday latest",
                ));
            }
            (Some(at), b) => {
                let time = time::parse_until(at, cx.now)?;
                let a = pick::at_or_before(cx, snapshots, time)?;
                (Cow::Borrowed(a), b.first())
            }
            (None, []) => (pick::newest_of_each(cx, snapshots)?.snapshot, None),
            (None, [a]) if *a == latest => (pick::newest_of_each(cx, snapshots)?.snapshot, None),
            (None, [a, b @ ..]) => (Cow::Borrowed(pick::one(cx, snapshots, a)?), b.first()),
        };
        let b = b.map(|b| pick::one(cx, snapshots, b)).transpose()?;
        Ok(Sides { a, b, paths })
    }
}

/// Returns the places that a path names in the compared snapshots.
///
/// # Errors
/// It is neither in them nor on disk: most likely it was meant to be a snapshot.
fn places(cx: &Context, repo: &Repository, sides: &Sides<'_>) -> Result<Vec<RootPath>, Failure> {
    let mut all = Vec::new();
    for path in &sides.paths {
        let mut is_there = absolute(&cx.cwd, Path::new(path))
            .symlink_metadata()
            .is_ok();
        let mut known = Vec::new();
        for snapshot in std::iter::once(&*sides.a).chain(sides.b) {
            let found = select::candidates(snapshot, &cx.cwd, path);
            is_there |= found.iter().any(|one| {
                let root = snapshot.root(&one.root);
                let listing = root.and_then(|root| repo.listing_of(root, &|p| *p == one.path).ok());
                listing.is_some_and(|listing| !listing.is_empty())
            });
            known.extend(found);
        }
        if !is_there || known.is_empty() {
            let text = bdr::base::path::show(path);
            let message = format!("`{text}` names no snapshot, and no file in what is compared");
            return Err(Failure::usage(
                message,
                "which snapshots there are: bdr list",
            ));
        }
        all.extend(known);
    }
    Ok(all)
}

/// Refuses to take this machine's files for another's.
fn check_machine(cx: &Context, repo: &Repository, sides: &Sides<'_>) -> Result<(), Failure> {
    let is_other = cx.far.is_some() && bdr::repo::id_at(&cx.places.repository) != Some(repo.id());
    match is_other && sides.b.is_none() {
        true => {
            let from = cx.from_words.lock();
            let from = from.map(|words| words.clone()).unwrap_or_default();
            Err(Failure::usage(
                "the current files are those of this machine, not of the one whose backups these are",
                &format!(
                    "name two snapshots: bdr diff{from} A B; or see what a restore would do: bdr restore{from} --dry-run"
                ),
            ))
        }
        false => Ok(()),
    }
}

pub(crate) fn run(cx: &Context, args: &DiffArgs) -> Result<u8, Failure> {
    let cx = &args.from.see(cx)?;
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let mut sides = args.sides(cx, &snapshots)?;
    check_machine(cx, &repo, &sides)?;
    let places = places(cx, &repo, &sides)?;
    let wanted = |root: &str, path: &RepoPath| {
        let mut places = places.iter();
        sides.paths.is_empty() || places.any(|one| one.root == *root && path.starts_with(&one.path))
    };
    if !sides.paths.is_empty() {
        // Places that nobody asked about are not read.
        let asked = |root: &RootRecord| places.iter().any(|one| one.root == root.name);
        sides.a.to_mut().roots.retain(asked);
    }
    let (a, b) = (&*sides.a, sides.b);
    let mut differences = query::diff(&repo, a, b, &cx.progress())?;
    for (root, _, changes) in &mut differences {
        changes.retain(|change| wanted(root, change.path()));
    }
    let mut git = Vec::new();
    for (root, _, changes) in &differences {
        if let Some(older) = a.root(root) {
            let newer = b.and_then(|b| b.root(root));
            git.extend(refs::differing(&repo, older, newer, changes.iter())?);
        }
    }
    let is_listed = |change: &Change| args.files || refs::git_dir(change.path()).is_none();
    let mut shown = Vec::new();
    for (root, base, changes) in &differences {
        for change in changes {
            let patch = match args.patch && is_listed(change) {
                true => patch_of(cx, &repo, base, change, b.is_none())?,
                false => None,
            };
            shown.push((root.as_str(), base.as_path(), change, patch));
        }
    }
    if cx.ui.json {
        let data = DiffDocument::new(a.id, b.map(|b| b.id), &git, shown.into_iter());
        cx.ui.document("diff", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let lines = git.iter().map(|one| format!("git {}\n", one.words(cx)));
    let mut text: String = lines.collect();
    shown.retain(|(_, _, change, _)| is_listed(change));
    for (_, base, change, patch) in &shown {
        text.push_str(&change_lines(cx, base, change, patch.as_deref()));
    }
    pager::show(cx, &text)?;
    if text.is_empty() {
        cx.ui.say("No differences.");
    }
    Ok(exit::OK)
}

fn change_lines(cx: &Context, base: &Path, change: &Change, patch: Option<&str>) -> String {
    let line = line(&cx.shown(&change.path().to_path(base)), change);
    let line = match change {
        Change::Added(_) => cx.ui.out.green(&line),
        Change::Removed(_) => cx.ui.out.red(&line),
        Change::Modified(_) => cx.ui.out.yellow(&line),
        Change::Metadata(_) => line,
    };
    let patch = patch.map(|patch| cx.ui.out.patch(patch));
    format!("{line}\n{}", patch.unwrap_or_default())
}

/// Returns the difference in the text of a file; `now`: the newer side is on disk.
fn patch_of(
    cx: &Context,
    repo: &Repository,
    base: &Path,
    change: &Change,
    now: bool,
) -> Result<Option<String>, Failure> {
    let (old, new) = match change {
        Change::Added(entry) => (None, Some(entry)),
        Change::Removed(entry) => (Some(entry), None),
        Change::Modified(pair) => (Some(&pair.0), Some(&pair.1)),
        Change::Metadata(_) => return Ok(None),
    };
    if [old, new]
        .iter()
        .flatten()
        .all(|entry| entry.kind != Kind::File)
    {
        return Ok(None);
    }
    let path = change.path().to_path(base);
    let stored = |entry: Option<&Entry>| match entry {
        Some(entry) => mask::stored(repo, &path, entry),
        None => Ok(Ok(Vec::new())),
    };
    let before = stored(old)?;
    let after = match new {
        // Shows only what this user can read anyway.
        Some(entry) if now => mask::standing(repo, &|_| true, base, &entry.path, entry.kind),
        entry => stored(entry)?,
    };
    Ok(Some(patch::of(&cx.shown(&path), before, after)))
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
