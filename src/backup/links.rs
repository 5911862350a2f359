//! Symlinks that lead out of what is captured: a command that follows one destroys what it leads to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::roots::look_at;
use super::{BackupOptions, RootRun};
use crate::error::Result;
use crate::fsutil::canonicalize;
use crate::manifest::Kind;
use crate::path::{RepoPath, absolute, os_from_bytes};
use crate::repo::Repository;
use crate::rules::{Matcher, Origin, Root, is_system};

/// Roots that links may add.
const MAX_ADDED: usize = 64;

/// Adds roots for what symlinks below the roots lead to, and for what symlinks there lead to.
pub(super) fn follow(
    repo: &Repository,
    runs: &mut Vec<RootRun>,
    options: &BackupOptions,
    never: &[PathBuf],
) -> Result<()> {
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let most = runs.len() + MAX_ADDED;
    let mut rules: Vec<Matcher> = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        for target in targets(&runs[at]) {
            for run in &runs[rules.len()..] {
                rules.push(Matcher::new(&run.root.rules)?);
            }
            let new = seen.insert(target.clone());
            let covered = runs.iter().zip(&rules).any(|(run, rules)| {
                RepoPath::below(&run.root.path, &target).is_some_and(|below| rules.covers(&below))
            });
            let outside = new
                && !covered
                && target.parent().is_some()
                && !is_system(&target)
                // What lies above a root would bring everything along.
                && !runs.iter().any(|run| run.root.path.starts_with(&target))
                && !never
                    .iter()
                    .any(|n| target.starts_with(n) || n.starts_with(&target));
            if outside && runs.len() < most {
                let root = Root::ad_hoc(target, Origin::Workspace);
                runs.push(look_at(repo, &root, options, never)?);
            }
        }
        at += 1;
    }
    Ok(())
}

/// Returns what the symlinks below a root lead to, as far as it is there.
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
