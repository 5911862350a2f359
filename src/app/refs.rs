//! What an operation means for git: which branches and tags were moved, created or deleted. To
//! everybody else, the files that say so are noise.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bdr::base::path::RepoPath;
use bdr::model::manifest::{Change, Kind};
use bdr::recover::undo::{UndoAction, UndoStep};
use bdr::repo::Repository;
use bdr::repo::snapshot::{RootRecord, Snapshot};

use super::changes::{Changed, Now};
use super::context::Context;
use crate::ui::plural;

/// A git repository in which something changed.
pub(crate) struct Touched {
    pub(crate) dir: PathBuf,
    pub(crate) files: u64,
    pub(crate) moves: Vec<Move>,
}

/// A ref that names something else than before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// `refs/heads/main`, `HEAD`.
    pub(crate) name: String,
    /// What it named; `None` if it did not exist.
    pub(crate) before: Option<String>,
    pub(crate) after: After,
}

/// What a ref named at the end of the operation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    Gone,
    Names(String),
    /// It has been moved again, so nobody can say.
    Unknown,
}

/// Returns the git directory around a path.
pub(crate) fn git_dir(path: &RepoPath) -> Option<RepoPath> {
    let mut found = None;
    let mut above = path.parent();
    while let Some(dir) = above {
        if dir.name() == b".git" {
            found = Some(dir.clone());
        }
        above = dir.parent();
    }
    found
}

/// Returns the changes in git repositories below a root, which is at `base`.
///
/// # Errors
/// The content in the snapshot is damaged.
pub(crate) fn touched(
    repo: &Repository,
    record: Option<&RootRecord>,
    base: &Path,
    paths: &[Changed],
    now: &Now<'_>,
) -> bdr::Result<Vec<Touched>> {
    let mut dirs: BTreeMap<RepoPath, Vec<&Changed>> = BTreeMap::new();
    for changed in paths {
        if let Some(dir) = git_dir(&changed.path) {
            dirs.entry(dir).or_default().push(changed);
        }
    }
    let mut all = Vec::new();
    for (dir, inside) in dirs {
        let moves = match record {
            Some(record) => moves(repo, record, &dir, &inside, now)?,
            None => Vec::new(),
        };
        all.push(Touched {
            dir: dir.to_path(base),
            files: inside.len() as u64,
            moves,
        });
    }
    Ok(all)
}

/// Returns what an undo means for the git repositories in which it writes: how refs move from their
/// current values.
///
/// # Errors
/// The content in the snapshot is damaged.
pub(crate) fn taken_back(
    repo: &Repository,
    snapshot: &Snapshot,
    steps: &[UndoStep],
) -> bdr::Result<Vec<Touched>> {
    let mut dirs: BTreeMap<PathBuf, Vec<&UndoStep>> = BTreeMap::new();
    for step in steps.iter().filter(|step| is_inside(step)) {
        let dir = git_dir_of(&step.path);
        dirs.entry(dir.to_path_buf()).or_default().push(step);
    }
    let mut all = Vec::new();
    for (dir, inside) in dirs {
        let roots = snapshot.roots.iter();
        let around = roots.filter(|root| dir.starts_with(root.path.as_path()));
        let record = around.max_by_key(|root| root.path.as_path().as_os_str().len());
        let moves = match record {
            Some(record) => moves_back(repo, record, &dir, &inside)?,
            None => Vec::new(),
        };
        all.push(Touched {
            dir,
            files: inside.iter().map(|step| step.files).sum(),
            moves,
        });
    }
    Ok(all)
}

/// Returns true for a step inside a git repository, which [`taken_back`] explains. Doubtful steps
/// are still named.
pub(crate) fn is_inside(step: &UndoStep) -> bool {
    let is_plain = matches!(
        step.action,
        UndoAction::Restore | UndoAction::Remove | UndoAction::Metadata
    );
    is_plain && git_dir_of(&step.path) != step.path
}

/// Returns the git directory around an absolute path, or the path itself.
fn git_dir_of(path: &Path) -> &Path {
    let above = path.ancestors().skip(1);
    let dirs = above.filter(|dir| dir.file_name().is_some_and(|name| name == ".git"));
    dirs.last().unwrap_or(path)
}

fn below(dir: &RepoPath, name: &str) -> Option<RepoPath> {
    let mut bytes = dir.as_bytes().to_vec();
    bytes.push(b'/');
    bytes.extend_from_slice(name.as_bytes());
    RepoPath::new(bytes).ok()
}

/// Returns the ref whose value a file in a git directory has, if it is such a file.
fn name_in<'a>(dir: &RepoPath, path: &'a RepoPath) -> Option<&'a str> {
    let rest = path.as_bytes().strip_prefix(dir.as_bytes())?;
    let name = std::str::from_utf8(rest.strip_prefix(b"/")?).ok()?;
    let is_ref = name.starts_with("refs/") || matches!(name, "HEAD" | PACKED);
    (is_ref && !name.ends_with(".lock")).then_some(name)
}

/// The file with all refs that have no file of their own.
const PACKED: &str = "packed-refs";
/// A longer file does not contain refs.
const MOST_BYTES: u64 = 1 << 20;

/// The values of refs: those with a file of their own, and the packed ones.
#[derive(Default)]
struct Refs {
    loose: BTreeMap<String, String>,
    packed: BTreeMap<String, String>,
}

impl Refs {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        match name {
            PACKED => self.packed = packed_refs(bytes),
            name => drop(self.loose.insert(name.to_owned(), value(bytes))),
        }
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.loose.get(name).or_else(|| self.packed.get(name))
    }

    /// Returns the refs in a snapshot's git directory `dir` for which `is_wanted` is true, and all
    /// packed ones.
    fn stored(
        repo: &Repository,
        record: &RootRecord,
        dir: &RepoPath,
        is_wanted: &dyn Fn(&RepoPath) -> bool,
    ) -> bdr::Result<Self> {
        let mut refs = Self::default();
        let is_read = |path: &RepoPath| {
            let name = name_in(dir, path);
            name.is_some_and(|name| name == PACKED || is_wanted(path))
        };
        for entry in repo.listing_of(record, &is_read)? {
            let (Some(name), true) = (name_in(dir, &entry.path), entry.size < MOST_BYTES) else {
                continue;
            };
            if entry.kind == Kind::File {
                let mut bytes = Vec::new();
                repo.read_content(&entry, &mut bytes)?;
                refs.add(name, &bytes);
            }
        }
        Ok(refs)
    }

    /// Returns the refs that `read` finds, and all packed ones.
    fn present<'n>(
        names: impl Iterator<Item = &'n str>,
        read: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Self {
        let mut refs = Self::default();
        for name in names.chain([PACKED]) {
            if let Some(bytes) = read(name) {
                refs.add(name, &bytes);
            }
        }
        refs
    }
}

/// Adds the names of refs that may have moved because the packed file changed.
fn with_packed<'n>(names: &mut BTreeSet<&'n str>, one: &'n Refs, other: &'n Refs) {
    if names.remove(PACKED) {
        let packed = one.packed.keys().chain(other.packed.keys());
        names.extend(packed.map(String::as_str));
    }
}

fn moves(
    repo: &Repository,
    record: &RootRecord,
    dir: &RepoPath,
    inside: &[&Changed],
    now: &Now<'_>,
) -> bdr::Result<Vec<Move>> {
    let files: BTreeMap<&str, &Changed> = inside
        .iter()
        .filter_map(|changed| Some((name_in(dir, &changed.path)?, *changed)))
        .collect();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: BTreeSet<&RepoPath> = files.values().map(|changed| &changed.path).collect();
    let before = Refs::stored(repo, record, dir, &|path| wanted.contains(path))?;
    let read = |name: &str| now.read(&below(dir, name)?);
    let packed = Refs::present(std::iter::empty(), read);
    let mut names: BTreeSet<&str> = files.keys().copied().collect();
    with_packed(&mut names, &before, &packed);
    let after = Refs::present(names.iter().copied(), read);
    let as_left = |name: &str| {
        files
            .get(name)
            .is_none_or(|changed| now.is_as_left(changed))
    };
    let packed_as_left = as_left(PACKED);
    let mut found = Vec::new();
    for name in names {
        let before = before.get(name).cloned();
        let after = match after.get(name).cloned() {
            _ if !as_left(name) || !packed_as_left => After::Unknown,
            Some(names) => After::Names(names),
            None => After::Gone,
        };
        let same = match &after {
            After::Gone => before.is_none(),
            After::Names(names) => before.as_ref() == Some(names),
            After::Unknown => !files.contains_key(name),
        };
        if !same {
            found.push(Move {
                name: name.to_owned(),
                before,
                after,
            });
        }
    }
    Ok(found)
}

/// Returns the differences in git repositories between two sides of a root: a snapshot, and a
/// newer one or the disk.
///
/// # Errors
/// The content in a snapshot is damaged.
pub(crate) fn differing<'c>(
    repo: &Repository,
    older: &RootRecord,
    newer: Option<&RootRecord>,
    changes: impl Iterator<Item = &'c Change>,
) -> bdr::Result<Vec<Touched>> {
    let mut dirs: BTreeMap<RepoPath, BTreeSet<&RepoPath>> = BTreeMap::new();
    for path in changes.map(Change::path) {
        if let Some(dir) = git_dir(path) {
            dirs.entry(dir).or_default().insert(path);
        }
    }
    let mut all = Vec::new();
    for (dir, paths) in dirs {
        let names = paths.iter().filter_map(|path| name_in(&dir, path));
        let mut names: BTreeSet<&str> = names.collect();
        let is_wanted = |path: &RepoPath| paths.contains(path);
        let before = Refs::stored(repo, older, &dir, &is_wanted)?;
        let place = dir.to_path(older.path.as_path());
        let after = match newer {
            Some(newer) => Refs::stored(repo, newer, &dir, &is_wanted)?,
            None => Refs::present(names.iter().copied(), |name| read(&place, name)),
        };
        with_packed(&mut names, &before, &after);
        all.push(Touched {
            files: paths.len() as u64,
            moves: moved(names, &before, &after),
            dir: place,
        });
    }
    Ok(all)
}

/// Returns the refs that name something else in `after` than in `before`.
fn moved(names: BTreeSet<&str>, before: &Refs, after: &Refs) -> Vec<Move> {
    let one = |name: &str| {
        let (from, to) = (before.get(name), after.get(name));
        (from != to).then(|| Move {
            name: name.to_owned(),
            before: from.cloned(),
            after: to.cloned().map_or(After::Gone, After::Names),
        })
    };
    names.into_iter().filter_map(one).collect()
}

/// Reads the file of a ref from a git directory on disk.
fn read(dir: &Path, name: &str) -> Option<Vec<u8>> {
    let file = std::fs::File::open(dir.join(name)).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns how the refs of one git directory move if `steps` are applied.
fn moves_back(
    repo: &Repository,
    record: &RootRecord,
    dir: &Path,
    steps: &[&UndoStep],
) -> bdr::Result<Vec<Move>> {
    let Some(below_root) = RepoPath::below(record.path.as_path(), dir) else {
        return Ok(Vec::new());
    };
    let written: HashSet<&Path> = steps.iter().map(|step| step.path.as_path()).collect();
    let is_written = |path: &Path| path.ancestors().any(|above| written.contains(above));
    let is_wanted = |path: &RepoPath| is_written(&path.to_path(record.path.as_path()));
    let stored = Refs::stored(repo, record, &below_root, &is_wanted)?;
    // One step removes a directory with everything in it.
    let mut files = BTreeSet::new();
    for step in steps {
        files_below(dir, &step.path, &mut files);
    }
    files.extend(stored.loose.keys().cloned());
    let mut names: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let present = Refs::present(files.iter().map(String::as_str), |name| read(dir, name));
    let mut after = stored;
    if !is_written(&dir.join(PACKED)) {
        after.packed.clone_from(&present.packed);
    }
    with_packed(&mut names, &present, &after);
    Ok(moved(names, &present, &after))
}

/// Adds the names of the ref files at or below a path.
fn files_below(dir: &Path, path: &Path, files: &mut BTreeSet<String>) {
    let Some(name) = path.strip_prefix(dir).ok().and_then(Path::to_str) else {
        return;
    };
    let is_ref = name.starts_with("refs") || matches!(name, "HEAD" | PACKED);
    if !is_ref || name.ends_with(".lock") {
        return;
    }
    match path.symlink_metadata() {
        Ok(stat) if stat.is_dir() => {
            let inside = bdr::disk::fsutil::read_dir(path).into_iter().flatten();
            for entry in inside.flatten() {
                files_below(dir, &path.join(entry.file_name()), files);
            }
        }
        Ok(stat) if stat.is_file() => drop(files.insert(name.replace('\\', "/"))),
        _ => {}
    }
}

/// How many refs a line names.
const NAMED: usize = 6;

impl Touched {
    /// Returns "main 503b6e5 → 461d899   (12 files in ~/shop/.git)".
    pub(crate) fn words(&self, cx: &Context) -> String {
        let arrow = if cx.ui.unicode { "→" } else { "->" };
        let moves = self.moves.iter().take(NAMED);
        let mut words: Vec<String> = moves.map(|one| one.words(arrow)).collect();
        if self.moves.len() > NAMED {
            words.push(format!("and {} more", self.moves.len() - NAMED));
        }
        if words.is_empty() {
            words.push("no branch or tag moved".to_owned());
        }
        let (files, place) = (plural(self.files, "file"), cx.shown(&self.dir));
        format!("{}   ({files} in {place})", words.join(", "))
    }
}

/// Returns the value in a file of a ref.
fn value(bytes: &[u8]) -> String {
    bdr::base::path::show_bytes(bytes.trim_ascii())
}

fn packed_refs(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter(|line| !line.starts_with(['#', '^']));
    lines
        .filter_map(|line| {
            let (id, name) = line.split_once(' ')?;
            Some((bdr::base::path::show(name.as_ref()), value(id.as_bytes())))
        })
        .collect()
}

impl Move {
    /// Returns "main 503b6e5 → 461d899"; `arrow` is one that the terminal can show.
    pub(crate) fn words(&self, arrow: &str) -> String {
        let name = match self.name.strip_prefix("refs/") {
            Some(rest) => match rest.split_once('/') {
                Some(("heads" | "remotes", name)) => name.to_owned(),
                Some(("tags", name)) => format!("tag {name}"),
                _ => rest.to_owned(),
            },
            None => self.name.clone(),
        };
        let before = self.before.as_deref().map(short);
        match (&self.after, before) {
            (After::Names(after), Some(before)) => {
                format!("{name} {before} {arrow} {}", short(after))
            }
            (After::Names(after), None) => format!("{name} created at {}", short(after)),
            (After::Gone, Some(before)) => format!("{name} {before} deleted"),
            (After::Gone, None) => format!("{name} deleted"),
            (After::Unknown, Some(before)) => format!("{name} was {before}, moved again since"),
            (After::Unknown, None) => format!("{name} created, moved again since"),
        }
    }
}

/// Returns a commit as git shows it, or the branch that a HEAD names.
fn short(value: &str) -> String {
    match value.strip_prefix("ref:") {
        Some(name) => name.trim().trim_start_matches("refs/heads/").to_owned(),
        None => value.chars().take(7).collect(),
    }
}
