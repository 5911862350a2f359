//! What an operation changed, file by file: the end record has the topmost paths that are gone, and
//! the snapshot says what was in them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, RootName};
use bdr::model::manifest::{Entry, Kind};
use bdr::model::rules::{Origin, Root};
use bdr::protect::is_stamped;
use bdr::protect::walk::RootHandle;
use bdr::repo::Repository;
use bdr::repo::by_path::root_path;
use bdr::repo::oplog::{Operation, RootChanges, Stamp};
use bdr::repo::snapshot::Snapshot;

use super::mask::{self, Shown};
use super::patch;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Deleted,
    Created,
    Modified,
}

impl Fate {
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Deleted => '-',
            Self::Created => '+',
            Self::Modified => '~',
        }
    }

    /// Returns the word for JSON documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Created => "created",
            Self::Modified => "modified",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) path: RepoPath,
    pub(crate) fate: Fate,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    /// Number of regular files that it represents.
    pub(crate) files: u64,
    pub(crate) before: Option<Entry>,
    pub(crate) after: Option<Stamp>,
}

pub(crate) struct ChangedRoot {
    pub(crate) name: RootName,
    pub(crate) base: PathBuf,
    /// The operation neither named it nor ran in it: another program made these changes meanwhile.
    pub(crate) elsewhere: bool,
    /// Sorted by path.
    pub(crate) paths: Vec<Changed>,
}

/// Returns what an operation changed, by root.
///
/// # Errors
/// The listing of its snapshot is damaged.
pub(crate) fn of(
    repo: &Repository,
    operation: &Operation,
    snapshot: Option<&Snapshot>,
) -> bdr::Result<Vec<ChangedRoot>> {
    let roots = operation.end.iter().flat_map(|end| &end.roots);
    let roots = roots.map(|root| {
        Ok(ChangedRoot {
            name: root.name.clone(),
            base: root_path(root, snapshot),
            elsewhere: operation.begin.elsewhere.contains(&root.name),
            paths: paths(root, &listed(repo, root, snapshot)?),
        })
    });
    let mut roots: Vec<ChangedRoot> = roots.collect::<bdr::Result<_>>()?;
    // A file that the command names is in a root of its own, and may be in a source as well.
    let own = roots.iter().filter(|root| !root.elsewhere);
    let own = own.flat_map(|root| root.paths.iter().map(|one| one.path.to_path(&root.base)));
    let own: HashSet<PathBuf> = own.collect();
    for root in roots.iter_mut().filter(|root| root.elsewhere) {
        let base = root.base.clone();
        (root.paths).retain(|one| !own.contains(&one.path.to_path(&base)));
    }
    roots.retain(|root| !root.elsewhere || !root.paths.is_empty());
    roots.sort_by_key(|root| root.elsewhere);
    Ok(roots)
}

/// Returns what the snapshot has at and below the changed paths.
fn listed(
    repo: &Repository,
    root: &RootChanges,
    snapshot: Option<&Snapshot>,
) -> bdr::Result<Vec<Entry>> {
    let Some(record) = snapshot.and_then(|snapshot| snapshot.root(&root.name)) else {
        return Ok(Vec::new());
    };
    let removed: HashSet<&RepoPath> = root.removed.iter().collect();
    let modified: HashSet<&RepoPath> = root.modified.iter().map(|stamp| &stamp.path).collect();
    let is_below_removed = |path: &RepoPath| {
        let mut above = Some(path.clone());
        while let Some(path) = above {
            if removed.contains(&path) {
                return true;
            }
            above = path.parent();
        }
        false
    };
    repo.listing_of(record, &|path| {
        modified.contains(path) || is_below_removed(path)
    })
}

fn paths(root: &RootChanges, listing: &[Entry]) -> Vec<Changed> {
    let modified: HashMap<&RepoPath, &Stamp> = root.modified.iter().map(|s| (&s.path, s)).collect();
    let mut found = Vec::new();
    let mut known: HashSet<&RepoPath> = HashSet::new();
    for entry in listing {
        let after = modified.get(&entry.path).copied();
        let (fate, kind, bytes) = match after {
            Some(stamp) => (Fate::Modified, stamp.kind, stamp.size),
            None => (Fate::Deleted, entry.kind, entry.size),
        };
        known.insert(&entry.path);
        found.push(Changed {
            path: entry.path.clone(),
            fate,
            kind,
            bytes,
            files: u64::from(entry.kind == Kind::File),
            before: Some(entry.clone()),
            after: after.cloned(),
        });
    }
    let stamps = |fate, stamps: &[Stamp]| -> Vec<Changed> {
        let unknown = stamps.iter().filter(|stamp| !known.contains(&stamp.path));
        unknown.map(|stamp| of_stamp(fate, stamp)).collect()
    };
    found.extend(stamps(Fate::Created, &root.created));
    found.extend(stamps(Fate::Modified, &root.modified));
    // Without the snapshot we cannot say what was in them.
    let gone = root.removed.iter().filter(|path| !known.contains(path));
    found.extend(gone.map(|path| Changed {
        path: path.clone(),
        fate: Fate::Deleted,
        kind: Kind::File,
        bytes: 0,
        files: 1,
        before: None,
        after: None,
    }));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    without_said(found)
}

fn of_stamp(fate: Fate, stamp: &Stamp) -> Changed {
    Changed {
        path: stamp.path.clone(),
        fate,
        kind: stamp.kind,
        bytes: stamp.size,
        files: u64::from(stamp.kind == Kind::File),
        before: None,
        after: Some(stamp.clone()),
    }
}

/// Drops directories that say nothing beyond their content: they come and go with it, and change
/// whenever it does.
fn without_said(paths: Vec<Changed>) -> Vec<Changed> {
    let mut kept: Vec<Changed> = Vec::with_capacity(paths.len());
    for changed in paths.into_iter().rev() {
        let said = kept.last().is_some_and(|below| {
            below.fate == changed.fate && below.path.starts_with(&changed.path)
        });
        if changed.kind == Kind::Dir && (said || changed.fate == Fate::Modified) {
            continue;
        }
        kept.push(changed);
    }
    kept.reverse();
    kept
}

/// Some changed paths in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) fate: Fate,
    pub(crate) path: RepoPath,
    /// It is a directory, and the line is about the files in it.
    pub(crate) is_dir: bool,
    pub(crate) kind: Kind,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Line {
    fn of(changed: &Changed) -> Self {
        Self {
            fate: changed.fate,
            path: changed.path.clone(),
            is_dir: changed.kind == Kind::Dir,
            kind: changed.kind,
            files: changed.files,
            bytes: changed.bytes,
        }
    }
}

/// Joins changed paths to at most `most` lines: the deepest ones become a line about their
/// directory, and so on upwards.
pub(crate) fn joined(paths: &[&Changed], most: usize) -> Vec<Line> {
    let mut lines: BTreeMap<(RepoPath, Fate), Line> = paths
        .iter()
        .map(|changed| ((changed.path.clone(), changed.fate), Line::of(changed)))
        .collect();
    let depth = |path: &RepoPath| path.components().count();
    while lines.len() > most {
        let deepest = lines.keys().map(|(path, _)| depth(path)).max();
        let Some(deepest) = deepest.filter(|deepest| *deepest > 0) else {
            break;
        };
        let full = crowded(&lines, deepest);
        let mut next: BTreeMap<(RepoPath, Fate), Line> = BTreeMap::new();
        let mut moved = false;
        for ((path, fate), line) in lines {
            let above = path.parent().unwrap_or_default();
            // A directory says less than the single line in it, so it replaces one only if there is
            // no other way.
            let is_joined = depth(&path) == deepest && full.contains(&(above.clone(), fate));
            if !is_joined {
                add(&mut next, path, line);
                continue;
            }
            moved = true;
            let line = Line {
                is_dir: true,
                kind: Kind::Dir,
                path: above.clone(),
                ..line
            };
            add(&mut next, above, line);
        }
        lines = next;
        if !moved {
            break;
        }
    }
    lines.into_values().collect()
}

/// Returns the directories right above the deepest lines that have several of them; if none has,
/// all of them.
fn crowded(lines: &BTreeMap<(RepoPath, Fate), Line>, deepest: usize) -> BTreeSet<(RepoPath, Fate)> {
    let mut inside: BTreeMap<(RepoPath, Fate), usize> = BTreeMap::new();
    for (path, fate) in lines.keys() {
        if path.components().count() == deepest {
            let above = path.parent().unwrap_or_default();
            *inside.entry((above, *fate)).or_default() += 1;
        }
    }
    let any = inside.values().any(|number| *number > 1);
    let full = inside.into_iter().filter(|(_, number)| !any || *number > 1);
    full.map(|(dir, _)| dir).collect()
}

fn add(lines: &mut BTreeMap<(RepoPath, Fate), Line>, path: RepoPath, line: Line) {
    match lines.get_mut(&(path.clone(), line.fate)) {
        Some(there) => {
            there.files += line.files;
            there.bytes += line.bytes;
            there.is_dir |= line.is_dir;
        }
        None => {
            lines.insert((path, line.fate), line);
        }
    }
}

/// Compares what is there now with what an operation left.
pub(crate) struct Now<'a> {
    repo: &'a Repository,
    base: &'a Path,
    handle: Option<RootHandle>,
}

impl<'a> Now<'a> {
    pub(crate) fn of(repo: &'a Repository, base: &'a Path) -> Self {
        let root = Root::ad_hoc(base.to_path_buf(), Origin::Source);
        Self {
            repo,
            base,
            handle: RootHandle::of(&root).ok().flatten(),
        }
    }

    pub(crate) fn is_as_left(&self, changed: &Changed) -> bool {
        let stat = self.stat(&changed.path);
        match (&changed.after, stat) {
            (Some(stamp), Some(stat)) => is_stamped(stamp, &stat),
            (None, None) => true,
            _ => false,
        }
    }

    fn stat(&self, path: &RepoPath) -> Option<bdr::model::manifest::Stat> {
        self.handle.as_ref()?.stat(path).ok()
    }

    /// Returns the content of an existing small file.
    pub(crate) fn read(&self, path: &RepoPath) -> Option<Vec<u8>> {
        use std::io::Read as _;
        let file = self.handle.as_ref()?.open_file(path).ok()?;
        let mut bytes = Vec::new();
        file.take(mask::MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Returns an operation's changes to a text, or one line that says why they cannot be shown.
    ///
    /// # Errors
    /// The content in the snapshot is damaged.
    pub(crate) fn patch(&self, name: &str, changed: &Changed) -> bdr::Result<String> {
        let path = changed.path.to_path(self.base);
        let before = match (&changed.before, changed.fate) {
            (Some(entry), _) => mask::stored(self.repo, &path, entry)?,
            (None, Fate::Created) => Ok(Vec::new()),
            (None, _) => Err("its snapshot has expired"),
        };
        Ok(patch::of(name, before, self.after(changed)))
    }

    fn after(&self, changed: &Changed) -> Shown {
        if changed.fate == Fate::Deleted {
            return Ok(Vec::new());
        }
        if !self.is_as_left(changed) {
            return Err("it has changed again since");
        }
        // Shows only what this user can read anyway.
        let may_see = |_: &Path| true;
        mask::standing(self.repo, &may_see, self.base, &changed.path, changed.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_paths_are_joined_from_the_depth_upwards() {
        let changed = |path: &str| Changed {
            path: RepoPath::new(path).unwrap(),
            fate: Fate::Deleted,
            kind: Kind::File,
            bytes: 10,
            files: 1,
            before: None,
            after: None,
        };
        let all: Vec<Changed> = [
            "a.txt",
            "dir/sub/x",
            "dir/sub/y",
            "dir/sub/z",
            "dir/one",
            "other/deep/alone",
        ]
        .map(changed)
        .to_vec();
        let all: Vec<&Changed> = all.iter().collect();
        let lines = |most| -> Vec<(String, u64)> {
            let lines = joined(&all, most);
            lines
                .iter()
                .map(|l| (l.path.to_string(), l.files))
                .collect()
        };
        assert_eq!(lines(6).len(), 6);
        let expected = [
            ("a.txt", 1),
            ("dir/one", 1),
            ("dir/sub", 3),
            ("other/deep/alone", 1),
        ];
        assert_eq!(lines(5), expected.map(|(path, n)| (path.to_owned(), n)));
        let expected = [("a.txt", 1), ("dir", 4), ("other/deep", 1)];
        assert_eq!(lines(3), expected.map(|(path, n)| (path.to_owned(), n)));
    }
}
