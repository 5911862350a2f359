//! The changes of a captured operation, for its end record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::journal::Held;
use super::roots::inside_of;
use super::sorted::{Sorted, TOP, Taken};
use crate::base::path::RepoPath;
use crate::disk::fsutil::area::Area;
use crate::disk::{fsutil, vcs};
use crate::model::manifest::{Kind, Stat};
use crate::model::merge;
use crate::protect::compare::{UNKNOWN, stamp};
use crate::repo::Repository;
use crate::repo::oplog::{Inside, Meaning, RootChanges, Stamp};

/// How many files are read to find changes inside of them, and their bytes before and after.
const MAX_LOOKED_INTO: usize = 32;
const MAX_LOOKED_INTO_BYTES: u64 = 16 << 20;

impl Sorted {
    /// Returns the changes inside of files that can be merged, within a budget: an undo then takes back
    /// just these, although the file has changed since.
    pub(super) fn inside(&self, repo: &Repository, taken: &Taken) -> Vec<Inside> {
        let mut found = Vec::new();
        let mut left = MAX_LOOKED_INTO_BYTES;
        let Ok(key) = repo.merge_key() else {
            return found;
        };
        for (below, now) in &self.modified {
            let Some((before, path)) = self.entries.get(below) else {
                continue;
            };
            let Held::Kept(set, file) = before.content else {
                continue;
            };
            let bytes = before.stat.size + now.size;
            let fits = merge::is_mergeable(below.name())
                && now.kind == Kind::File
                && before.stat.size.max(now.size) <= merge::MAX_BYTES
                && bytes <= left
                && found.len() < MAX_LOOKED_INTO;
            if !fits {
                continue;
            }
            left -= bytes;
            let (set, _) = &taken.sets[set];
            let area = Area::left_at(set.dir.as_path());
            let told = || {
                let before = area.read(file, merge::MAX_BYTES).ok()?;
                let after = fsutil::read_derived(path)?;
                match before == after {
                    true => Some(merge::Changes::none(below.name())),
                    false => merge::describe(below.name(), &before, &after, &key),
                }
            };
            found.extend(told().map(|changes| Inside {
                path: below.clone(),
                changes,
            }));
        }
        found
    }

    /// Returns the changes for the end record.
    pub(super) fn found_changes(&self, repo: &Repository, taken: &Taken) -> Vec<RootChanges> {
        let inside = self.inside(repo, taken);
        let of_base = |base: &RepoPath| self.changes_in(repo, base, &inside);
        let all = self.bases();
        all.iter()
            .map(of_base)
            .filter(|one| !one.is_empty())
            .collect()
    }

    pub(super) fn changes_in(
        &self,
        repo: &Repository,
        base: &RepoPath,
        inside: &[Inside],
    ) -> RootChanges {
        let mut changes = RootChanges {
            name: self.root(base).name,
            ..RootChanges::default()
        };
        let within = |path: &&RepoPath| path.starts_with(base);
        for path in self.gone.iter().filter(within) {
            let before = self.entries.get(path).map(|(before, _)| before);
            if let Some(before) = before.filter(|before| before.stat.kind == Kind::File) {
                changes.deleted_files += 1;
                changes.deleted_bytes += before.stat.size;
            }
            let Some(below) = inside_of(base, path) else {
                continue;
            };
            let top = changes.removed.last();
            if !top.is_some_and(|top| below.starts_with(top)) {
                changes.removed.push(below);
            }
        }
        let paths = |all: &BTreeSet<RepoPath>| -> Vec<RepoPath> {
            let own = all.iter().filter(within);
            own.filter_map(|path| inside_of(base, path)).collect()
        };
        changes.created = self.stamps(base, &self.created);
        changes.modified = self.stamps(base, &self.modified);
        changes.lost = paths(&self.lost);
        changes.altered = paths(&self.altered);
        changes.indexes = meanings(repo, base, &changes);
        let own = inside.iter().filter(|one| one.path.starts_with(base));
        changes.merges = own
            .filter_map(|one| {
                let path = inside_of(base, &one.path)?;
                Some(Inside {
                    path,
                    ..one.clone()
                })
            })
            .collect();
        changes
    }

    pub(super) fn stamps(&self, base: &RepoPath, all: &BTreeMap<RepoPath, Stat>) -> Vec<Stamp> {
        let one = |(path, stat): (&RepoPath, &Stat)| {
            let mut stamp = stamp(inside_of(base, path)?, stat);
            if self.linked.contains(&(stat.device, stat.inode)) {
                stamp.ctime = UNKNOWN;
            }
            Some(stamp)
        };
        let own = all.iter().filter(|(path, _)| path.starts_with(base));
        own.filter_map(one).collect()
    }
}

/// Returns the meaning of the git indexes that the operation left.
fn meanings(repo: &Repository, base: &RepoPath, changes: &RootChanges) -> Vec<Meaning> {
    let stamps = changes.created.iter().chain(&changes.modified);
    let named = stamps.filter(|stamp| stamp.path.name() == b"index" && stamp.kind == Kind::File);
    let meaning = |stamp: &Stamp| {
        let path = stamp.path.to_path(&base.to_path(Path::new(TOP)));
        let digest = vcs::index_meaning(&path, &repo.merge_key().ok()?)?;
        Some(Meaning {
            path: stamp.path.clone(),
            digest,
        })
    };
    named.filter_map(meaning).collect()
}
