//! Several captured operations, undone as if they were one: each path goes from how the newest of them
//! left it to how it was before the oldest, in one plan and one operation.
//!
//! This needs a record of everything that they did, as capture makes it, and nobody else may have
//! changed these paths in between: what one operation left is what the next one found. Otherwise they
//! are undone one by one, which finds such a change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::snapshot_before;
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, OperationId};
use crate::base::path::{AbsolutePath, RepoPath, RootName};
use crate::model::manifest::{Entry, Kind, Listing, by_path};
use crate::model::rules::named::{Touched, bases, topmost};
use crate::model::rules::{Origin, Root};
use crate::repo::Repository;
use crate::repo::oplog::{End, Keeping, Meaning, Operation, OperationKind, RootChanges, Stamp};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot};

/// What all paths are below while they are put together.
const TOP: &str = "/";

/// Several operations as one.
pub struct Together {
    /// The newest, with what all of them did.
    pub(super) operation: Operation,
    /// What was there before all of them.
    pub(super) snapshot: Snapshot,
    pub(super) listings: HashMap<RootName, Listing>,
    /// The oldest of them.
    pub(super) since: OperationId,
    /// All except the newest.
    pub(super) also: Vec<OperationId>,
}

impl Together {
    /// Returns the operation that stands for all.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }
}

/// What is known of a path.
struct Known {
    /// Before the oldest operation that saw it; `None` if nothing was there.
    before: Option<Entry>,
    /// After the newest operation that touched it; the inner `None` if nothing was there.
    after: Option<Option<Stamp>>,
}

/// Puts operations together, newest first; `None` if they have to be undone one by one.
///
/// # Errors
/// There are none.
pub fn together(repo: &Repository, chosen: &[&Operation]) -> Result<Option<Together>> {
    let (Some(newest), Some(oldest)) = (chosen.first(), chosen.last()) else {
        return Ok(None);
    };
    let mut sum = Sum::default();
    let mut latest = None;
    for operation in chosen {
        let Some(end) = complete(operation) else {
            return Ok(None);
        };
        let Ok(snapshot) = snapshot_before(repo, operation) else {
            // The others can be undone, and then the error says what is wrong with this one.
            return Ok(None);
        };
        if !sum.add(repo, &snapshot, end) {
            return Ok(None);
        }
        sum.remote.extend_from_slice(&operation.begin.remote);
        for note in &operation.begin.not_captured {
            if !sum.not_captured.iter().any(|one| one.path == note.path) {
                sum.not_captured.push(note.clone());
            }
        }
        latest.get_or_insert(snapshot);
    }
    let Some(snapshot) = latest.filter(|_| sum.is_clear()) else {
        return Ok(None);
    };
    let mut operation = (*newest).clone();
    operation.begin.time = oldest.begin.time;
    operation.begin.not_captured = std::mem::take(&mut sum.not_captured);
    operation.begin.remote = std::mem::take(&mut sum.remote);
    let mut one = Together {
        operation,
        snapshot,
        listings: HashMap::new(),
        since: oldest.begin.id,
        also: chosen[1..].iter().map(|o| o.begin.id).collect(),
    };
    sum.into_roots(&mut one)?;
    Ok(Some(one))
}

/// Returns the end of an operation whose record says everything that it did.
fn complete(operation: &Operation) -> Option<&End> {
    let begin = &operation.begin;
    let by = begin.protection.as_ref().map(|protection| protection.by);
    let is_plain = begin.kind == OperationKind::Guard
        && by == Some(Keeping::Capture)
        && operation.is_ours
        && operation.partly.is_none()
        && begin.roots.is_empty()
        && begin.elsewhere.is_empty()
        && begin.parents.is_empty();
    operation
        .end
        .as_ref()
        .filter(|end| is_plain && end.unseen.is_empty())
}

/// What the operations did, added up from the newest to the oldest.
#[derive(Default)]
struct Sum {
    paths: BTreeMap<RepoPath, Known>,
    bases: BTreeSet<RepoPath>,
    indexes: HashMap<RepoPath, Digest>,
    /// What was not captured: gone, changed, and there under a new name.
    lost: BTreeSet<RepoPath>,
    altered: BTreeSet<RepoPath>,
    unknown: BTreeSet<RepoPath>,
    not_captured: Vec<PathNote>,
    remote: Vec<String>,
    /// How many operations were added.
    added: usize,
    /// Which of them saw or left a file, by inode.
    changed_by: HashMap<u64, BTreeSet<usize>>,
    /// Files with several names.
    linked: Vec<(u64, Seen)>,
}

/// What an operation saw of a file with several names.
#[derive(Default)]
struct Seen {
    /// How many it had.
    names: usize,
    paths: Vec<RepoPath>,
}

impl Sum {
    /// Adds an operation that is older than those so far. Returns false if it does not fit to them.
    fn add(&mut self, repo: &Repository, snapshot: &Snapshot, end: &End) -> bool {
        let mut seen: HashMap<String, Seen> = HashMap::new();
        let fits = snapshot.roots.iter().all(|record| {
            let mut changes = end.roots.iter();
            let changes = changes.find(|change| change.name == record.name);
            self.add_root(repo, record, changes, &mut seen).is_some()
        });
        for (link, seen) in seen {
            let inode = link.rsplit(':').next().and_then(|inode| inode.parse().ok());
            let Some(inode) = inode else { return false };
            self.changed_by.entry(inode).or_default().insert(self.added);
            self.linked.push((inode, seen));
        }
        self.added += 1;
        fits
    }

    fn add_root(
        &mut self,
        repo: &Repository,
        record: &RootRecord,
        changes: Option<&RootChanges>,
        seen: &mut HashMap<String, Seen>,
    ) -> Option<()> {
        let nothing = RootChanges::default();
        let changes = changes.unwrap_or(&nothing);
        let base = RepoPath::below(Path::new(TOP), record.path.as_path())?;
        let at = |path: &RepoPath| match path.is_root() {
            true => base.clone(),
            false => RepoPath::below(Path::new(TOP), &path.to_path(record.path.as_path()))
                .unwrap_or_default(),
        };
        let listing = by_path(repo.listing(record).ok()?);
        for meaning in &changes.indexes {
            let path = at(&meaning.path);
            let known = self.paths.get(&path);
            if known.is_none_or(|known| known.after.is_none()) {
                self.indexes.insert(path, meaning.digest);
            }
        }
        let mut left: HashMap<&RepoPath, Option<Stamp>> = HashMap::new();
        for top in &changes.removed {
            let below = listing.range(top.clone()..);
            let below = below.take_while(|(path, _)| path.starts_with(top));
            left.extend(below.map(|(path, _)| (path, None)));
        }
        let stamps = changes.created.iter().chain(&changes.modified);
        for stamp in stamps.clone().filter(|stamp| stamp.kind == Kind::File) {
            let by = self.changed_by.entry(stamp.inode).or_default();
            by.insert(self.added);
        }
        left.extend(stamps.map(|stamp| (&stamp.path, Some(stamp.clone()))));
        for (path, entry) in &listing {
            let after = left.remove(path);
            if !entry.body.link.is_empty() {
                let seen = seen.entry(entry.body.link.clone()).or_default();
                seen.names = entry.body.count_of_names();
                seen.paths.push(at(path));
            }
            self.older(at(path), Some(entry.clone()), after)?;
        }
        for (path, after) in left {
            // What was changed has to be in the snapshot.
            let was_made = changes.created.iter().any(|stamp| stamp.path == *path);
            self.older(at(path), None, Some(after))
                .filter(|()| was_made)?;
        }
        self.lost.extend(changes.lost.iter().map(at));
        self.altered.extend(changes.altered.iter().map(at));
        self.unknown.extend(changes.unknown.iter().map(at));
        self.bases.insert(base);
        Some(())
    }

    /// Adds what an older operation knows of a path; `None` if somebody else changed it in between.
    fn older(
        &mut self,
        path: RepoPath,
        before: Option<Entry>,
        after: Option<Option<Stamp>>,
    ) -> Option<()> {
        let Some(known) = self.paths.get_mut(&path) else {
            self.paths.insert(path, Known { before, after });
            return Some(());
        };
        let fits = match (&after, &before, &known.before) {
            (Some(None), _, None) | (None, None, None) => true,
            (Some(Some(left)), _, Some(found)) => is_as_left(left, found),
            (None, Some(seen), Some(found)) => is_same(seen, found),
            _ => false,
        };
        known.before = before;
        if known.after.is_none() {
            known.after = after;
        }
        fits.then_some(())
    }

    /// Returns true if what was not captured is not in the way of anything else, and each file with
    /// several names is a matter of one operation: what another does to it by one name is not on record
    /// for the others. Files that are gone altogether before the oldest do not count.
    fn is_clear(&self) -> bool {
        let by_one = |inode: &u64| self.changed_by.get(inode).is_none_or(|by| by.len() < 2);
        let is_new = |path: &RepoPath| self.paths.get(path).is_some_and(|p| p.before.is_none());
        let mut linked = self.linked.iter();
        let one_by_one = linked.all(|(inode, seen)| {
            let is_whole = seen.paths.len() == seen.names;
            by_one(inode) || is_whole && seen.paths.iter().all(is_new)
        });
        if !one_by_one {
            return false;
        }
        let unclear = self.lost.iter().chain(&self.altered).chain(&self.unknown);
        unclear.into_iter().all(|path| {
            let mut below = self.paths.range(path.clone()..);
            !below
                .next()
                .is_some_and(|(other, _)| other.starts_with(path))
        })
    }

    /// Makes a root of each place in which something was touched.
    fn into_roots(mut self, one: &mut Together) -> Result<()> {
        let bases: Vec<RepoPath> = bases(std::mem::take(&mut self.bases)).into_iter().collect();
        one.snapshot.roots.clear();
        let mut changed = Vec::new();
        for base in bases {
            let (record, changes, listing) = self.root(&base)?;
            one.listings.insert(record.name.clone(), listing);
            one.snapshot.roots.push(record);
            changed.push(changes);
        }
        if let Some(end) = &mut one.operation.end {
            end.roots = changed;
        }
        Ok(())
    }

    fn root(&self, base: &RepoPath) -> Result<(RootRecord, RootChanges, Listing)> {
        let place = base.to_path(Path::new(TOP));
        let inside = |path: &RepoPath| RepoPath::below(&place, &path.to_path(Path::new(TOP)));
        let below = self.paths.range(base.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(base));
        let mut changes = RootChanges::default();
        let mut listing = Listing::new();
        let mut gone = BTreeSet::new();
        let mut touched = Touched::default();
        for (path, known) in below {
            let Some(path) = inside(path) else { continue };
            let own = |stamp: &Stamp| Stamp {
                path: path.clone(),
                ..stamp.clone()
            };
            let is_dir = |kind: Kind| kind == Kind::Dir;
            let was_dir = known
                .before
                .as_ref()
                .is_some_and(|entry| is_dir(entry.kind));
            match (&known.before, &known.after) {
                (None, Some(Some(stamp))) => changes.created.push(own(stamp)),
                (Some(_), Some(Some(stamp))) => changes.modified.push(own(stamp)),
                (Some(_), Some(None)) => drop(gone.insert(path.clone())),
                (_, None) | (None, Some(None)) => {}
            }
            match &known.after {
                Some(Some(stamp)) if was_dir && is_dir(stamp.kind) => {
                    touched.dirs.insert(path.clone());
                }
                Some(None) if known.before.is_none() => {}
                _ => drop(touched.tops.insert(path.clone())),
            }
            if let Some(entry) = &known.before {
                touched.old.insert(path.clone());
                listing.push(Entry {
                    path,
                    ..entry.clone()
                });
            }
        }
        touched.tops = topmost(touched.tops);
        let own = |paths: &BTreeSet<RepoPath>| {
            let paths = paths.iter().filter(|path| path.starts_with(base));
            paths.filter_map(&inside).collect::<Vec<_>>()
        };
        changes.removed = topmost(gone).into_iter().collect();
        changes.lost = own(&self.lost);
        changes.altered = own(&self.altered);
        changes.unknown = own(&self.unknown);
        let indexes = self
            .indexes
            .iter()
            .filter(|(path, _)| path.starts_with(base));
        let meaning = |(path, digest): (&RepoPath, &Digest)| {
            let digest = *digest;
            inside(path).map(|path| Meaning { path, digest })
        };
        changes.indexes = indexes.filter_map(meaning).collect();
        let root = Root::ad_hoc(&*place, Origin::Operand);
        changes.name = root.name.clone();
        let record = RootRecord {
            name: root.name,
            path: AbsolutePath::new(&*place).map_err(|reason| Error::invalid(reason, None))?,
            rules: touched.rules(),
            base: None,
            changed: Vec::new(),
            removed: Vec::new(),
            left_out: Vec::new(),
            files: 0,
            bytes: 0,
        };
        Ok((record, changes, listing))
    }
}

/// Returns true if an operation found an object as an older one had left it. The times of a directory
/// change with its content.
fn is_as_left(left: &Stamp, found: &Entry) -> bool {
    let same_owner = left
        .owner
        .is_none_or(|owner| owner == (found.uid, found.gid));
    left.kind == found.kind
        && (left.kind == Kind::Dir
            || same_owner
                && (left.size, left.mtime, left.mode) == (found.size, found.mtime, found.mode))
}

/// Returns true if two operations found an object as the same.
fn is_same(older: &Entry, newer: &Entry) -> bool {
    older.kind == newer.kind
        && (older.kind == Kind::Dir
            || (older.size, older.mtime, older.mode) == (newer.size, newer.mtime, newer.mode))
}
