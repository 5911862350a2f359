//! Symlinks that lead out of the captured roots: a command that follows one destroys its target.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::roots::RootRun;
use super::roots::look_at;
use crate::base::error::reason;
use crate::base::error::{Error, Result};
use crate::base::path::{RawName, RepoPath, absolute, os_from_bytes};
use crate::disk::fsutil::canonicalize;
use crate::model::manifest::Kind;
use crate::model::rules::{Matcher, Origin, Root, grouped, is_plain, is_system};
use crate::protect::options::BackupOptions;
use crate::repo::Repository;
use crate::repo::snapshot::PathNote;

/// How many roots links may add.
const MAX_ADDED: usize = 512;

/// Adds roots for the targets of symlinks below the roots, and for those of symlinks below these.
/// Returns what exceeds the limit.
pub(crate) fn follow(
    repo: &Repository,
    runs: &mut Vec<RootRun>,
    options: &BackupOptions,
    never: &[PathBuf],
) -> Result<Vec<PathNote>> {
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let most = runs.len() + MAX_ADDED;
    let mut rules: Vec<Matcher> = Vec::new();
    let mut over = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let until = runs.len();
        let mut found: Vec<PathBuf> = runs[at..until].iter().flat_map(targets).collect();
        at = until;
        if found.is_empty() {
            continue;
        }
        for run in &runs[rules.len()..] {
            rules.push(Matcher::new(&run.root.rules)?);
        }
        found.retain(|target| {
            let covered = || {
                runs.iter().zip(&rules).any(|(run, rules)| {
                    RepoPath::below(&run.root.path, target)
                        .is_some_and(|below| rules.covers(&below))
                })
            };
            seen.insert(target.clone())
                && target.parent().is_some()
                && !is_system(target)
                && !covered()
                // The walk leaves out bdr's own places inside.
                && !never.iter().any(|never| target.starts_with(never))
        });
        found.sort();
        let (mut roots, few) = grouped(found, Origin::Workspace);
        for path in few {
            // Sorted, so a parent comes before its children.
            let above = |root: &Root| root.rules.include.is_empty() && path.starts_with(&root.path);
            if !roots.iter().any(above) {
                roots.push(Root::ad_hoc(path, Origin::Workspace));
            }
        }
        for mut root in roots {
            if runs.len() >= most {
                over.push(note(&root, "more symlinks lead out than a guard follows"));
                continue;
            }
            let others = runs.iter().map(|run| &run.root.path);
            root.without = others
                .filter(|path| path.starts_with(&root.path) && **path != root.path)
                .cloned()
                .collect();
            if !root.without.is_empty() {
                // A place above a root may be very large; it must not slow down every guard.
                root.origin = Origin::Mentioned;
            }
            while runs.iter().any(|run| run.root.name == root.name) {
                root.name = root.name.again();
            }
            match look_at(repo, &root, options, never) {
                Ok(run) => runs.push(run),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => over.push(note(&root, &reason(&error))),
            }
        }
    }
    Ok(over)
}

/// Adds roots for the targets of included symlinks: including `notes` means its content, even if it
/// is a link. Returns links that lead nowhere, or to a place around the source.
pub(crate) fn follow_included(
    repo: &Repository,
    runs: &mut Vec<RootRun>,
    options: &BackupOptions,
    never: &[PathBuf],
) -> Result<Vec<PathNote>> {
    let mut nowhere = Vec::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut at = 0;
    while at < runs.len() {
        let run = &mut runs[at];
        at += 1;
        let links = match run.root.origin {
            Origin::Source if run.scan.exists => included_links(&run.root),
            _ => continue,
        };
        run.scan.found |= !links.is_empty();
        let (source, place, rules) = {
            let root = &run.root;
            (
                root.name.clone(),
                canonicalize(&root.path),
                root.rules.clone(),
            )
        };
        let mut found: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for (link, rest) in links {
            let why = match canonicalize(&link) {
                // A single name that links to, say, all of HOME does not mean all of it.
                Ok(target) if place.as_ref().is_ok_and(|place| place.starts_with(&target)) => {
                    "to a directory around the source"
                }
                Ok(target) => {
                    found.entry(target).or_default().push(rest);
                    continue;
                }
                Err(_) => "nowhere",
            };
            nowhere.push(PathNote {
                path: RawName::from(link.as_path()),
                reason: format!("source `{source}` includes it, a symlink that leads {why}"),
            });
        }
        for (target, rest) in found {
            let mut covered = false;
            for run in runs.iter() {
                let below = RepoPath::below(&run.root.path, &target);
                let rules = Matcher::new(&run.root.rules)?;
                covered |= below.is_some_and(|below| rules.covers(&below));
            }
            let is_own = never.iter().any(|never| target.starts_with(never));
            if covered || is_own || target.parent().is_none() || !seen.insert(target.clone()) {
                continue;
            }
            let mut root = Root::ad_hoc(target, Origin::Source);
            root.rules = rules.clone();
            root.rules.include = match rest.iter().any(String::is_empty) {
                true => Vec::new(),
                false => rest,
            };
            let others = runs.iter().map(|run| &run.root.path);
            root.without = others
                .filter(|path| path.starts_with(&root.path) && **path != root.path)
                .cloned()
                .collect();
            while runs.iter().any(|run| run.root.name == root.name) {
                root.name = root.name.again();
            }
            runs.push(look_at(repo, &root, options, never)?);
        }
    }
    Ok(nowhere)
}

/// Returns the symlinks that the includes of a root name or pass through, each with the rest of its
/// pattern.
fn included_links(root: &Root) -> Vec<(PathBuf, String)> {
    let through = |pattern: &String| {
        let names: Vec<&str> = pattern.split('/').collect();
        let mut path = root.path.clone();
        for (number, name) in names.iter().enumerate() {
            if name.is_empty() || *name == "." {
                continue;
            }
            if !is_plain(name) || *name == ".." {
                return None;
            }
            path.push(name);
            let found = path.symlink_metadata().ok()?;
            if found.is_symlink() {
                return Some((path, names[number + 1..].join("/")));
            }
        }
        None
    };
    root.rules.include.iter().filter_map(through).collect()
}

fn note(root: &Root, reason: &str) -> PathNote {
    PathNote {
        path: RawName::from(root.path.as_path()),
        reason: reason.to_owned(),
    }
}

/// Returns the existing targets of symlinks below a root.
fn targets(run: &RootRun) -> Vec<PathBuf> {
    let mut links = Vec::new();
    if let Some(state) = &run.state {
        for (dir, children) in state.directories() {
            for number in children {
                let known = state.entry(number);
                if known.stat.kind == Kind::Symlink
                    && let Some(body) = known.body()
                {
                    links.push((run.root.path.join(os_from_bytes(dir)), body.target));
                }
            }
        }
    }
    if let Some(handle) = &run.handle {
        let dirty = run.scan.dirty.iter();
        for link in dirty.filter(|dirty| dirty.stat.kind == Kind::Symlink) {
            if let Ok(target) = handle.read_link(&link.path) {
                let path = link.path.to_path(&run.root.path);
                links.push((
                    path.parent().unwrap_or(Path::new("/")).to_path_buf(),
                    target,
                ));
            }
        }
    }
    links
        .into_iter()
        .filter_map(|(dir, target)| {
            canonicalize(absolute(&dir, Path::new(&os_from_bytes(&target)))).ok()
        })
        .collect()
}
