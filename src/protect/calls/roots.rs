//! The roots that a captured operation is recorded by.

use std::collections::BTreeSet;
use std::path::Path;

use super::sorted::{Sorted, TOP, is_own_place};
use crate::base::path::RepoPath;
use crate::model::manifest::Kind;
use crate::model::rules::{Origin, Root};

/// Paths that a record of a root names, at most: with more, it is not compared with the disk.
const MAX_NAMED: usize = 256;

/// Roots of a record, at most: with more, their neighbours are one with them.
const MAX_ROOTS: usize = 64;

impl Sorted {
    /// Returns the topmost paths that are gone, new, or no directory.
    pub(super) fn tops(&self) -> BTreeSet<RepoPath> {
        // It was a directory, and is one.
        let is_dir = |path: &&RepoPath| {
            let was = self.entries.get(*path);
            let was = was.is_some_and(|(before, _)| before.stat.kind == Kind::Dir);
            let now = self.modified.get(*path);
            was && now.is_some_and(|now| now.kind == Kind::Dir)
        };
        let all = self.entries.keys().chain(self.created.keys());
        let all = all.filter(|path| !is_dir(path));
        let all = all.chain(&self.lost).chain(&self.altered);
        topmost(all.cloned().collect())
    }

    /// Returns the paths of the roots that the changes are recorded by: directories that have changed,
    /// with what changed in them, and topmost paths by themselves where the directory has not, or is
    /// everybody's.
    pub(super) fn bases(&self) -> BTreeSet<RepoPath> {
        let dirs = || {
            let dirs = self
                .modified
                .iter()
                .filter(|(_, now)| now.kind == Kind::Dir);
            dirs.map(|(path, _)| path.clone())
        };
        let around = |top: RepoPath| {
            if let Some(cwd) = &self.cwd
                && top.starts_with(cwd)
            {
                return cwd.clone();
            }
            let parent = top.parent();
            let parent = parent.filter(|parent| is_own_place(&parent.to_path(Path::new(TOP))));
            parent.unwrap_or(top)
        };
        let mut bases = topmost(self.tops().into_iter().chain(dirs()).map(around).collect());
        while bases.len() > MAX_ROOTS {
            bases = topmost(bases.iter().filter_map(RepoPath::parent).collect());
        }
        bases
    }

    /// Returns a root of the record. Its rules name what was touched, so that nobody who compares it
    /// walks a whole disk.
    pub(super) fn root(&self, base: &RepoPath) -> Root {
        let mut root = Root::ad_hoc(base.to_path(Path::new(TOP)), Origin::Operand);
        root.rules.rebuildable = true;
        let mut tops: BTreeSet<RepoPath> = self
            .tops()
            .into_iter()
            .filter(|top| top.starts_with(base))
            .collect();
        if tops.contains(base) {
            return root;
        }
        // Rules that name each of thousands of paths cost more than a look at their neighbours.
        while tops.len() > MAX_NAMED {
            let parents = tops.iter().filter_map(RepoPath::parent);
            tops = topmost(parents.filter(|parent| parent.starts_with(base)).collect());
        }
        let text = |path: &RepoPath| {
            let below = inside_of(base, path)?;
            let text = std::str::from_utf8(below.as_bytes()).ok()?.to_owned();
            Some(globset::escape(&text)).filter(|text| !text.is_empty())
        };
        if tops.contains(base) || tops.iter().any(|top| text(top).is_none()) {
            // A name that is no text cannot be in a rule.
            return root;
        }
        let mut include: Vec<String> = tops.iter().filter_map(text).collect();
        // What an undo leaves beside files that have changed since.
        let files = tops.iter().filter(|top| self.entries.contains_key(*top));
        include.extend(files.filter_map(|top| Some(format!("{}.bdr-*", text(top)?))));
        // A directory of which only the metadata changed: it is on the way to a name that is not there.
        let dirs = self
            .modified
            .iter()
            .filter(|(_, now)| now.kind == Kind::Dir);
        for (dir, _) in dirs.filter(|(dir, _)| dir.starts_with(base)) {
            match text(dir) {
                Some(text) => include.push(format!("{text}/.bdr-none")),
                None if dir == base => include.push(".bdr-none".to_owned()),
                None => return root,
            }
        }
        root.rules.include = include;
        root
    }
}

/// Returns a path below another one, as it is recorded there.
pub(super) fn inside_of(base: &RepoPath, path: &RepoPath) -> Option<RepoPath> {
    let top = Path::new(TOP);
    RepoPath::below(&base.to_path(top), &path.to_path(top))
}

/// Drops paths below others.
fn topmost(paths: BTreeSet<RepoPath>) -> BTreeSet<RepoPath> {
    let mut tops: Vec<RepoPath> = Vec::new();
    for path in paths {
        if !tops.last().is_some_and(|top| path.starts_with(top)) {
            tops.push(path);
        }
    }
    tops.into_iter().collect()
}
