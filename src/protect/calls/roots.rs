//! The roots that a captured operation is recorded by.

use std::collections::BTreeSet;
use std::path::Path;

use super::sorted::{Sorted, TOP, is_own_place};
use crate::base::path::RepoPath;
use crate::model::manifest::Kind;
use crate::model::rules::named::{Touched, bases, topmost};
use crate::model::rules::{Origin, Root};

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
        bases(self.tops().into_iter().chain(dirs()).map(around).collect())
    }

    /// Returns a root of the record. Its rules name what was touched, so that nobody who compares it
    /// walks a whole disk.
    pub(super) fn root(&self, base: &RepoPath) -> Root {
        let mut root = Root::ad_hoc(base.to_path(Path::new(TOP)), Origin::Operand);
        root.rules.rebuildable = true;
        let tops = self.tops();
        if tops.contains(base) {
            return root;
        }
        let own = |paths: &mut dyn Iterator<Item = &RepoPath>| {
            paths.filter_map(|path| inside_of(base, path)).collect()
        };
        let dirs = self.modified.iter();
        let dirs = dirs.filter(|(_, now)| now.kind == Kind::Dir);
        let touched = Touched {
            old: own(&mut tops.iter().filter(|top| self.entries.contains_key(*top))),
            dirs: own(&mut dirs.map(|(path, _)| path)),
            tops: own(&mut tops.iter()),
        };
        root.rules = touched.rules();
        root
    }
}

/// Returns a path below another one, as it is recorded there.
pub(super) fn inside_of(base: &RepoPath, path: &RepoPath) -> Option<RepoPath> {
    let top = Path::new(TOP);
    RepoPath::below(&base.to_path(top), &path.to_path(top))
}
