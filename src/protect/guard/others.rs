//! Which changes seen during an operation belong to another one that ran at the same time and has
//! ended.
//!
//! Nobody knows who wrote a file. But if an operation names a path, found it as this one found it,
//! and left it as it is now, then it made the change, unless this one names the path too: an undo
//! of this one must not revert that. The same holds for whatever another one is known to have made:
//! it is never removed on a suspicion. What nobody named and both saw vanish stays on both records,
//! because bringing it back harms nobody. So do the changes of an operation whose record is very
//! long.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::base::path::{RepoPath, absolute};
use crate::effects::{self, Operand, Surroundings, Table};
use crate::model::manifest::{Entry, Kind, by_path};
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::oplog::{Begin, Operation, OperationKind, RootChanges, Stamp};
use crate::repo::snapshot::{RootRecord, Snapshot};

/// How many operations that began before this one are checked: one of them may have ended since.
const EARLIER: usize = 16;

/// Longer end records are not read: every command would pay for what a large one did before it, in
/// bytes.
const MAX_END: u64 = 1 << 20;

/// Drops the changes that other operations made, which ran at the same time and have ended.
/// `ended_before` are operations, sorted, that had ended when this one began, as far as that is
/// known: their records need not be read.
///
/// # Errors
/// The log or a listing cannot be read.
pub(super) fn leave_out(
    repo: &Repository,
    begin: &Begin,
    ended_before: &[OperationId],
    changes: &mut Vec<RootChanges>,
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let ids = repo.operation_ids()?;
    let at = ids.partition_point(|id| *id < begin.id);
    let end_bytes = |id: &OperationId| {
        let end = repo.storage().size(&layout::end(*id));
        end.ok().flatten()
    };
    // A later operation with a long record may have undone another one, so nothing is certain.
    if ids[at..]
        .iter()
        .filter_map(end_bytes)
        .any(|bytes| bytes > MAX_END)
    {
        return Ok(());
    }
    let first = ids[at.saturating_sub(EARLIER)..].iter().copied();
    let others: Vec<Operation> = first
        .filter(|id| *id != begin.id && ended_before.binary_search(id).is_err())
        .filter(|id| end_bytes(id).is_some_and(|bytes| bytes <= MAX_END))
        .filter_map(|id| repo.operation(id).filter(|other| other.is_ours))
        .filter(|other| {
            let ended = other.end.as_ref().map(|end| end.time);
            ended.is_some_and(|ended| ended >= begin.time) && other.begin.before.is_some()
        })
        .collect();
    let Some(before) = begin.before.filter(|_| !others.is_empty()) else {
        return Ok(());
    };
    let snapshot = repo.snapshot(before)?;
    let own_names = named(begin);
    let names_itself = |place: &Path| names(own_names.as_deref(), place);
    let mut own = Found::new(repo, snapshot);
    // An operation that was undone no longer vouches for what is there.
    let undone = others.iter().flat_map(|other| other.begin.reverses());
    let undone: HashSet<OperationId> = undone.collect();
    let others = others
        .iter()
        .filter(|other| !undone.contains(&other.begin.id));
    for other in others {
        // An operation whose snapshot is gone proves nothing.
        let Some(theirs) = other.begin.before.and_then(|id| repo.snapshot(id).ok()) else {
            continue;
        };
        let mut theirs = Found::new(repo, theirs);
        let theirs_changes = Theirs::new(other, &theirs.snapshot);
        for change in changes.iter_mut() {
            leave_to(
                &theirs_changes,
                &names_itself,
                &mut own,
                &mut theirs,
                change,
            )?;
        }
    }
    changes.retain(|change| !change.is_empty());
    Ok(())
}

/// Drops another operation's changes from those of one root.
fn leave_to(
    other: &Theirs,
    names_itself: &dyn Fn(&Path) -> bool,
    own: &mut Found<'_>,
    theirs: &mut Found<'_>,
    change: &mut RootChanges,
) -> Result<()> {
    let Some(root) = own.snapshot.root(&change.name).cloned() else {
        return Ok(());
    };
    let at = |path: &RepoPath| path.to_path(root.path.as_path());
    let mut dropped: HashSet<RepoPath> = HashSet::new();
    for path in &change.removed {
        let place = at(path);
        if other.removed.contains(&place)
            && other.names(&place)
            && !names_itself(&place)
            && same_before(own, theirs, &place)?
        {
            let (files, bytes) = own.weight(&place)?;
            change.deleted_files = change.deleted_files.saturating_sub(files);
            change.deleted_bytes = change.deleted_bytes.saturating_sub(bytes);
            dropped.insert(path.clone());
        }
    }
    let as_left = |stamp: &Stamp| {
        let left = other.left.get(&at(&stamp.path));
        left.is_some_and(|left| left.ctime == stamp.ctime && left.inode == stamp.inode)
    };
    let files = |stamp: &&Stamp| stamp.kind != Kind::Dir;
    for stamp in change.created.iter().filter(files) {
        let place = at(&stamp.path);
        if as_left(stamp) && other.created.contains(&place) && !names_itself(&place) {
            dropped.insert(stamp.path.clone());
        }
    }
    for stamp in change.modified.iter().filter(files) {
        let place = at(&stamp.path);
        if as_left(stamp)
            && other.names(&place)
            && !names_itself(&place)
            && same_before(own, theirs, &place)?
        {
            dropped.insert(stamp.path.clone());
        }
    }
    if dropped.is_empty() {
        return Ok(());
    }
    // A directory changes with its content: it is this operation's only if it still contains
    // changes of its own.
    let names = |change: &RootChanges| -> Vec<RepoPath> {
        let stamps = change.created.iter().chain(&change.modified);
        let stamps = stamps.map(|stamp| stamp.path.clone());
        stamps.chain(change.removed.iter().cloned()).collect()
    };
    let mut all = names(change);
    all.sort_by(|a, b| b.cmp(a));
    // From the bottom up: a directory left without own changes may empty its parent too.
    for path in &all {
        let stamps = || change.created.iter().chain(&change.modified);
        let is_dir = stamps().any(|stamp| stamp.path == *path && stamp.kind == Kind::Dir);
        let lies_in = |inner: &RepoPath| inner != path && inner.starts_with(path);
        let touched = dropped.iter().any(lies_in);
        if is_dir
            && touched
            && !all
                .iter()
                .any(|inner| lies_in(inner) && !dropped.contains(inner))
        {
            dropped.insert(path.clone());
        }
    }
    change.keep(&|path| !dropped.contains(path));
    Ok(())
}

/// Returns true if two operations found the same at a path.
fn same_before(own: &mut Found<'_>, theirs: &mut Found<'_>, place: &Path) -> Result<bool> {
    if own.snapshot.id == theirs.snapshot.id {
        return Ok(true);
    }
    let below = |found: &mut Found<'_>| -> Result<Option<Vec<(PathBuf, Entry)>>> {
        let Some((root, path)) = found.locate(place) else {
            return Ok(None);
        };
        let listing = found.listing(&root)?;
        let entries = listing.range(path.clone()..);
        let entries = entries.take_while(|(inner, _)| inner.starts_with(&path));
        let entries =
            entries.map(|(inner, entry)| (inner.to_path(root.path.as_path()), entry.clone()));
        Ok(Some(entries.collect()))
    };
    let (Some(one), Some(other)) = (below(own)?, below(theirs)?) else {
        return Ok(false);
    };
    let same = |((a, x), (b, y)): (&(PathBuf, Entry), &(PathBuf, Entry))| {
        a == b && x.same_object(y, false)
    };
    Ok(one.len() == other.len() && one.iter().zip(&other).all(same))
}

/// What another operation changed, by absolute paths.
struct Theirs {
    removed: HashSet<PathBuf>,
    created: HashSet<PathBuf>,
    left: HashMap<PathBuf, Stamp>,
    /// What it names; `None` if it did nothing beyond its record.
    named: Option<Vec<Operand>>,
}

impl Theirs {
    fn new(operation: &Operation, snapshot: &Snapshot) -> Self {
        let mut found = Self {
            removed: HashSet::new(),
            created: HashSet::new(),
            left: HashMap::new(),
            named: named(&operation.begin),
        };
        for change in operation.end.iter().flat_map(|end| &end.roots) {
            let Some(root) = snapshot.root(&change.name) else {
                continue;
            };
            let at = |path: &RepoPath| path.to_path(root.path.as_path());
            found.removed.extend(change.removed.iter().map(at));
            found
                .created
                .extend(change.created.iter().map(|stamp| at(&stamp.path)));
            let stamps = change.created.iter().chain(&change.modified);
            found
                .left
                .extend(stamps.map(|stamp| (at(&stamp.path), stamp.clone())));
        }
        found
    }

    fn names(&self, place: &Path) -> bool {
        names(self.named.as_deref(), place)
    }
}

/// Returns true if an operation names a path; `None` means that it names everything it did.
pub(crate) fn names(named: Option<&[Operand]>, place: &Path) -> bool {
    let is_it = |operand: &Operand| match operand.glob {
        false => place.starts_with(&operand.path),
        true => place.ancestors().any(|above| fits(&operand.path, above)),
    };
    named.is_none_or(|named| named.iter().any(is_it))
}

/// Returns true if a pattern matches a path, as a shell expands it.
fn fits(pattern: &Path, path: &Path) -> bool {
    let (pattern, path) = (pattern.components(), path.components());
    pattern.clone().count() == path.clone().count()
        && pattern.zip(path).all(|(one, name)| {
            let text = one.as_os_str().to_str();
            let glob = text.and_then(|text| globset::Glob::new(text).ok());
            one == name
                || glob.is_some_and(|glob| glob.compile_matcher().is_match(name.as_os_str()))
        })
}

/// Returns what an operation names, unless its record is known to be complete.
pub(crate) fn named(begin: &Begin) -> Option<Vec<Operand>> {
    if !matches!(begin.kind, OperationKind::Guard) {
        return None;
    }
    let cwd = begin.cwd.as_path();
    let table = Table::builtin();
    let around = Surroundings {
        cwd,
        home: None,
        table,
    };
    let words: Vec<OsString> = begin.argv.iter().map(|word| word.0.clone()).collect();
    let found = match (&begin.agent, &words[..]) {
        (Some(_), [line]) => effects::assess_line(&line.to_string_lossy(), &around),
        _ => effects::assess(&words, &around),
    };
    let whole = |path: PathBuf| Operand {
        path,
        follow: false,
        glob: false,
        itself: true,
        place: false,
    };
    let operands = found.operands.into_iter().filter(|operand| !operand.place);
    let mut named: Vec<Operand> = operands
        .chain(found.mentioned.into_iter().map(whole))
        .collect();
    if begin.agent.is_some() {
        // Records of tools that write files have their paths.
        let paths = words.iter().map(|word| absolute(cwd, Path::new(word)));
        named.extend(paths.map(whole));
    }
    for operand in named.iter_mut().filter(|operand| !operand.glob) {
        operand.path = super::canonical_parent(&operand.path);
    }
    Some(named)
}

/// A snapshot, with the listings read so far.
struct Found<'a> {
    repo: &'a Repository,
    snapshot: Snapshot,
    listings: HashMap<String, BTreeMap<RepoPath, Entry>>,
}

impl<'a> Found<'a> {
    fn new(repo: &'a Repository, snapshot: Snapshot) -> Self {
        Self {
            repo,
            snapshot,
            listings: HashMap::new(),
        }
    }

    /// Returns the root that contains a path, and the path in it.
    fn locate(&self, place: &Path) -> Option<(RootRecord, RepoPath)> {
        let roots = self.snapshot.roots.iter();
        let holding = roots.filter(|root| place.starts_with(root.path.as_path()));
        let root = holding.max_by_key(|root| root.path.as_path().components().count())?;
        let path = RepoPath::below(root.path.as_path(), place)?;
        Some((root.clone(), path))
    }

    fn listing(&mut self, root: &RootRecord) -> Result<&BTreeMap<RepoPath, Entry>> {
        let name = root.name.to_string();
        if !self.listings.contains_key(&name) {
            let listing = by_path(self.repo.listing(root)?);
            self.listings.insert(name.clone(), listing);
        }
        Ok(&self.listings[&name])
    }

    /// Returns number and size of the files at and below a path.
    fn weight(&mut self, place: &Path) -> Result<(u64, u64)> {
        let Some((root, path)) = self.locate(place) else {
            return Ok((0, 0));
        };
        let entries = self.listing(&root)?.range(path.clone()..);
        let below = entries.take_while(|(inner, _)| inner.starts_with(&path));
        let files = below.filter(|(_, entry)| entry.kind == Kind::File);
        Ok(files.fold((0, 0), |(n, bytes), (_, entry)| (n + 1, bytes + entry.size)))
    }
}
