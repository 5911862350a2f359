//! What an operation means for git: which branches and tags were moved, made or deleted. The files that say it are noise to everybody else.

use std::collections::{BTreeMap, BTreeSet};

use bdr::base::path::RepoPath;
use bdr::repo::Repository;
use bdr::repo::snapshot::RootRecord;

use super::changes::{Changed, Now};

/// A repository of git in which something changed.
pub(crate) struct Touched {
    /// Its git directory, below the root.
    pub(crate) dir: RepoPath,
    /// Files in it that changed.
    pub(crate) files: usize,
    pub(crate) moves: Vec<Move>,
}

/// A ref that names something else than before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// `refs/heads/main`, `HEAD`.
    pub(crate) name: String,
    /// What it named; `None`: it was not there.
    pub(crate) before: Option<String>,
    pub(crate) after: After,
}

/// What a ref named when the operation was over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    Gone,
    Names(String),
    /// It has been moved again, so that nobody can say.
    Unknown,
}

/// Returns the git directory that a path lies in.
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

/// Returns what changed in repositories of git below a root.
///
/// # Errors
/// What the snapshot has is damaged.
pub(crate) fn touched(
    repo: &Repository,
    record: Option<&RootRecord>,
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
            dir,
            files: inside.len(),
            moves,
        });
    }
    Ok(all)
}

fn below(dir: &RepoPath, name: &str) -> Option<RepoPath> {
    let mut bytes = dir.as_bytes().to_vec();
    bytes.push(b'/');
    bytes.extend_from_slice(name.as_bytes());
    RepoPath::new(bytes).ok()
}

/// Returns the name of a file in a git directory, if it says what a ref names.
fn name_in<'a>(dir: &RepoPath, path: &'a RepoPath) -> Option<&'a str> {
    let rest = path.as_bytes().strip_prefix(dir.as_bytes())?;
    let name = std::str::from_utf8(rest.strip_prefix(b"/")?).ok()?;
    let is_ref = name.starts_with("refs/") || matches!(name, "HEAD" | "packed-refs");
    (is_ref && !name.ends_with(".lock")).then_some(name)
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
    let packed = below(dir, "packed-refs");
    let wanted: BTreeSet<&RepoPath> = files.values().map(|changed| &changed.path).collect();
    let mut before = BTreeMap::new();
    let mut loose = BTreeMap::new();
    let is_wanted = |path: &RepoPath| wanted.contains(path) || Some(path) == packed.as_ref();
    for entry in repo.listing_of(record, &is_wanted)? {
        let (Some(name), true) = (name_in(dir, &entry.path), entry.size < 1 << 20) else {
            continue;
        };
        let mut bytes = Vec::new();
        repo.read_content(&entry, &mut bytes)?;
        match name {
            "packed-refs" => before = packed_refs(&bytes),
            name => drop(loose.insert(name.to_owned(), value(&bytes))),
        }
    }
    before.extend(loose);
    let packed_now = packed.and_then(|path| now.read(&path));
    let packed_now = packed_now
        .map(|bytes| packed_refs(&bytes))
        .unwrap_or_default();
    let mut names: BTreeSet<&str> = files.keys().copied().collect();
    if names.remove("packed-refs") {
        names.extend(before.keys().chain(packed_now.keys()).map(String::as_str));
    }
    let as_left = |name: &str| {
        files
            .get(name)
            .is_none_or(|changed| now.is_as_left(changed))
    };
    let packed_as_left = as_left("packed-refs");
    let mut found = Vec::new();
    for name in names {
        let before = before.get(name).cloned();
        let standing = below(dir, name).and_then(|path| now.read(&path));
        let standing = standing.map(|bytes| value(&bytes));
        let after = match standing.or_else(|| packed_now.get(name).cloned()) {
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

/// Returns what a file of a ref says.
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
    /// Returns "main 503b6e5 → 461d899"; `arrow` is what the terminal can show.
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
