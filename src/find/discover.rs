//! Finds files worth keeping on this machine, for `bdr init`.
//!
//! It checks names and sizes below two directories from its arguments, the home and the workspace,
//! and reads no file. It never enters rebuildable trees. The result is sources with include
//! patterns, so a known file that appears later is covered without another search.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::base::error::Result;
use crate::base::path::{RepoPath, os_to_bytes};
use crate::model::config::{Criticality, Source};
use crate::model::reason::Reason;
use crate::model::rules::{Matcher, Rules, Verdict, pattern_of};
use known::{
    AGENTS, AGENTS_EXCLUDED, DOTFILES, NOT_DOTFILES, NOT_TOOLS, SMALL_BYTES, TOOL_BYTES,
    TOOL_FILES, TOOLS_BYTES, WORKSPACE,
};

mod elsewhere;
mod known;

pub use elsewhere::{Elsewhere, elsewhere};
pub use known::is_of_an_agent;

#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub home: Option<&'a Path>,
    /// The git work tree around the current directory, or the directory itself.
    pub workspace: Option<&'a Path>,
    /// Never part of a source: the repository, the cache.
    pub never: &'a [PathBuf],
    /// Bytes that the agents' state may have.
    pub budget: u64,
}

#[derive(Debug, Clone)]
pub struct Discovery {
    /// Sources, the most precious first.
    pub found: Vec<Found>,
    /// Rebuildable trees that were skipped.
    pub rebuildable: Vec<PathBuf>,
}

/// A source that is not empty.
#[derive(Debug, Clone)]
pub struct Found {
    /// As it goes into the configuration.
    pub source: Source,
    pub files: u64,
    pub bytes: u64,
    /// The first path found, absolute.
    pub first: PathBuf,
    /// How many more there are besides `first`.
    pub more: usize,
    /// Directories left out to stay within the budget.
    pub over_budget: Vec<(PathBuf, u64)>,
    /// Symlinks among the included paths: the link is stored, not its target.
    pub links: Vec<PathBuf>,
}

/// Looks for the known places.
///
/// # Errors
/// A pattern made from a file name does not compile; unreadable directories are skipped.
pub fn discover(places: &Places<'_>) -> Result<Discovery> {
    let mut discovery = Discovery {
        found: Vec::new(),
        rebuildable: Vec::new(),
    };
    let workspace = places.workspace.filter(|w| w.parent().is_some());
    if let Some(home) = places.home {
        let brain = home.join("workspace-brain");
        // The workspace may be the brain itself: one source is enough.
        if brain.is_dir() {
            look(
                &mut discovery,
                places,
                source("brain", &brain, &[], Criticality::Irreplaceable),
            )?;
        }
    }
    if let Some(workspace) = workspace {
        let within = discovery
            .found
            .iter()
            .any(|f| workspace.starts_with(&f.source.path));
        if !within {
            let state = source(
                "workspace",
                workspace,
                WORKSPACE,
                Criticality::Irreplaceable,
            );
            look(&mut discovery, places, state)?;
        }
    }
    if let Some(home) = places.home {
        let mut agents = source("agents", home, AGENTS, Criticality::Tedious);
        agents.rules.exclude = AGENTS_EXCLUDED.iter().map(|s| (*s).to_owned()).collect();
        look(&mut discovery, places, agents)?;
        let mut dotfiles = source("dotfiles", home, DOTFILES, Criticality::Tedious);
        dotfiles.rules.include.extend(small_dotfiles(home));
        look(&mut discovery, places, dotfiles)?;
        let mut tools = source("tools", home, &[], Criticality::Tedious);
        tools.rules.include = small_tools(home, places.never);
        if !tools.rules.include.is_empty() {
            look(&mut discovery, places, tools)?;
        }
    }
    if discovery.found.is_empty()
        && let Some(workspace) = workspace.filter(|w| Some(*w) != places.home)
    {
        let all = source("workspace", workspace, &[], Criticality::Irreplaceable);
        look(&mut discovery, places, all)?;
    }
    discovery.rebuildable.sort();
    discovery.rebuildable.dedup();
    Ok(discovery)
}

/// Returns existing known places that no source covers; only checks their names.
///
/// # Errors
/// A pattern does not compile.
pub fn uncovered(places: &Places<'_>, sources: &[Source]) -> Result<Vec<PathBuf>> {
    let mut known = Vec::new();
    if let Some(home) = places.home {
        known.push(source("agents", home, AGENTS, Criticality::Tedious));
        known.push(source(
            "brain",
            home,
            &["workspace-brain"],
            Criticality::Irreplaceable,
        ));
    }
    if let Some(workspace) = places.workspace.filter(|w| Some(*w) != places.home) {
        known.push(source(
            "workspace",
            workspace,
            WORKSPACE,
            Criticality::Irreplaceable,
        ));
    }
    let mut matchers = Vec::new();
    for source in sources {
        matchers.push((source, Matcher::new(&source.rules)?));
    }
    let covered = |path: &Path| {
        matchers.iter().any(|(source, matcher)| {
            let below = RepoPath::below(&source.path, path);
            below.is_some_and(|below| matcher.covers(&below))
        })
    };
    let mut found = Vec::new();
    for source in &known {
        for top in tops(source, places.never, usize::MAX)? {
            let path = source.path.join(top);
            if !covered(&path) && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Returns the include patterns of a source that match nothing.
///
/// # Errors
/// A pattern does not compile.
pub fn unmatched(source: &Source) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pattern in &source.rules.include {
        let one = self::source("", &source.path, &[pattern], source.criticality);
        if tops(&one, &[], 1)?.is_empty() {
            found.push(pattern.clone());
        }
    }
    Ok(found)
}

/// Returns the first `most` topmost paths that a source captures, relative to it.
fn tops(source: &Source, never: &[PathBuf], most: usize) -> Result<Vec<PathBuf>> {
    let matcher = Matcher::new(&source.rules)?;
    let mut tops = Vec::new();
    let mut walk = WalkDir::new(&source.path).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        if tops.len() >= most {
            break;
        }
        let Ok(entry) = entry else { continue };
        let Some(path) = RepoPath::below(&source.path, entry.path()) else {
            continue;
        };
        let verdict = matcher.include(path.as_bytes());
        let own = never.iter().any(|n| entry.path().starts_with(n));
        if verdict == Verdict::Take && !path.is_root() && !own {
            tops.push(path.to_path(Path::new("")));
        }
        if entry.file_type().is_dir() && (verdict != Verdict::OnTheWay || own) {
            walk.skip_current_dir();
        }
    }
    Ok(tops)
}

fn source(name: &str, path: &Path, include: &[&str], criticality: Criticality) -> Source {
    let include = include.iter().map(|s| (*s).to_owned()).collect();
    let rules = Rules {
        include,
        ..Rules::default()
    };
    Source {
        name: name.to_owned(),
        path: path.to_owned(),
        rules,
        criticality,
    }
}

/// Counts what is in a source, and adds it unless it is empty.
fn look(discovery: &mut Discovery, places: &Places<'_>, mut source: Source) -> Result<()> {
    let tree = measure(&source, places.never)?;
    discovery
        .rebuildable
        .extend(tree.rebuildable.iter().cloned());
    let Some(first) = tree.tops.first() else {
        return Ok(());
    };
    // Joining an empty path would add a slash.
    let first = if first.as_os_str().is_empty() {
        source.path.clone()
    } else {
        source.path.join(first)
    };
    let mut found = Found {
        files: tree.files,
        bytes: tree.bytes,
        more: tree.tops.len() - 1,
        first,
        over_budget: Vec::new(),
        links: tree.links.clone(),
        source: source.clone(),
    };
    if source.name == "agents" && tree.bytes > places.budget {
        for (path, (files, bytes)) in largest(&tree, places.budget) {
            source
                .rules
                .exclude
                .push(format!("/{}", pattern_of(path.as_os_str())));
            found.over_budget.push((source.path.join(&path), bytes));
            found.files -= files;
            found.bytes -= bytes;
        }
        found.source = source;
    }
    discovery.found.push(found);
    Ok(())
}

#[derive(Default)]
struct Tree {
    files: u64,
    bytes: u64,
    /// Topmost captured paths, relative to the source.
    tops: Vec<PathBuf>,
    links: Vec<PathBuf>,
    rebuildable: Vec<PathBuf>,
    /// Files and bytes at any depth below directories of depth two and three.
    dirs: BTreeMap<PathBuf, (u64, u64)>,
}

fn measure(source: &Source, never: &[PathBuf]) -> Result<Tree> {
    let matcher = Matcher::new(&source.rules)?;
    let mut tree = Tree::default();
    let mut walk = WalkDir::new(&source.path)
        .follow_root_links(true)
        .sort_by_file_name()
        .into_iter();
    while let Some(entry) = walk.next() {
        // The backup reports what cannot be read.
        let Ok(entry) = entry else { continue };
        let is_dir = entry.file_type().is_dir();
        let skip = |walk: &mut walkdir::IntoIter| {
            if is_dir {
                walk.skip_current_dir();
            }
        };
        let Some(path) = RepoPath::below(&source.path, entry.path()) else {
            continue;
        };
        if never.iter().any(|n| entry.path().starts_with(n)) {
            skip(&mut walk);
            continue;
        }
        if let Some(parent) = path.parent() {
            let dir = entry.path().parent().unwrap_or(&source.path);
            let siblings = |name: &[u8]| dir.join(crate::base::path::os_from_bytes(name)).exists();
            match matcher.left_out(parent.as_bytes(), path.name(), is_dir, &siblings) {
                Some(reason) => {
                    let included = matcher.include(path.as_bytes()) == Verdict::Take;
                    if reason == Reason::Rebuildable && included {
                        tree.rebuildable.push(entry.path().to_owned());
                    }
                    skip(&mut walk);
                    continue;
                }
                None if matcher.include(path.as_bytes()) == Verdict::Outside => {
                    skip(&mut walk);
                    continue;
                }
                None => {}
            }
        }
        if matcher.include(path.as_bytes()) == Verdict::Take {
            tree.take(&matcher, &path, &entry);
        }
    }
    Ok(tree)
}

impl Tree {
    fn take(&mut self, matcher: &Matcher, path: &RepoPath, entry: &walkdir::DirEntry) {
        let above = path.parent().map(|p| matcher.include(p.as_bytes()));
        if above != Some(Verdict::Take) {
            self.tops.push(path.to_path(Path::new("")));
            if entry.path_is_symlink() && entry.depth() > 0 {
                self.links.push(entry.path().to_owned());
            }
        }
        if !entry.file_type().is_file() {
            return;
        }
        let bytes = entry.metadata().map_or(0, |m| m.len());
        self.files += 1;
        self.bytes += bytes;
        let relative = path.to_path(Path::new(""));
        for depth in [2, 3] {
            if path.components().count() > depth {
                let dir: PathBuf = relative.components().take(depth).collect();
                let sum = self.dirs.entry(dir).or_default();
                sum.0 += 1;
                sum.1 += bytes;
            }
        }
    }
}

/// Returns the directories to leave out so that the rest fits: the largest first, and of equal ones
/// the innermost.
fn largest(tree: &Tree, budget: u64) -> Vec<(PathBuf, (u64, u64))> {
    let mut over = tree.bytes.saturating_sub(budget);
    let mut left: Vec<(PathBuf, (u64, u64))> = Vec::new();
    for depth in [3, 2] {
        let mut dirs: Vec<_> = tree
            .dirs
            .iter()
            .filter(|(path, _)| path.components().count() == depth)
            .map(|(path, sum)| {
                // Without what is left out below it already.
                let inner = left.iter().filter(|(p, _)| p.starts_with(path));
                let inner = inner.fold((0, 0), |a, (_, s)| (a.0 + s.0, a.1 + s.1));
                (path.clone(), (sum.0 - inner.0, sum.1 - inner.1))
            })
            .collect();
        dirs.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        for (path, sum) in dirs {
            // Keep small ones: leaving out a hundred of them would save little and lose much.
            if over == 0 || (depth == 3 && sum.1 < budget / 64) {
                break;
            }
            over = over.saturating_sub(sum.1);
            left.push((path, sum));
        }
    }
    left
}

/// Returns names of small regular dotfiles in `home`, as patterns.
fn small_dotfiles(home: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let listing = WalkDir::new(home)
        .min_depth(1)
        .max_depth(1)
        .sort_by_file_name();
    for entry in listing.into_iter().flatten() {
        let Some(name) = entry.file_name().to_str() else {
            continue;
        };
        let wanted = name.starts_with('.')
            && !DOTFILES.contains(&name)
            && !NOT_DOTFILES.contains(&name)
            && ![
                "history", "_hist", ".lock", ".swp", ".pid", ".bak", ".backup", "~",
            ]
            .iter()
            .any(|end| name.ends_with(end))
            && ![
                ".zcompdump",
                ".claude.json.",
                ".bdr",
                ".goutputstream",
                ".nfs",
                ".fuse_hidden",
            ]
            .iter()
            .any(|start| name.starts_with(start));
        let small =
            entry.file_type().is_file() && entry.metadata().is_ok_and(|m| m.len() <= SMALL_BYTES);
        if wanted && small {
            names.push(included(entry.file_name()));
        }
    }
    names
}

/// Returns small directories with the state of tools, in `home` and its `.config`, as patterns.
fn small_tools(home: &Path, never: &[PathBuf]) -> Vec<String> {
    let mut names = Vec::new();
    let mut left = TOOLS_BYTES;
    for (dir, hidden) in [(home.to_path_buf(), true), (home.join(".config"), false)] {
        let listing = WalkDir::new(&dir)
            .min_depth(1)
            .max_depth(1)
            .sort_by_file_name();
        for entry in listing.into_iter().flatten() {
            let Ok(path) = entry.path().strip_prefix(home) else {
                continue;
            };
            let name = os_to_bytes(entry.file_name()).into_owned();
            let known = |list: &[&str]| list.iter().any(|known| Path::new(known).starts_with(path));
            let skip = !entry.file_type().is_dir()
                || hidden && !name.starts_with(b".")
                || name.starts_with(b".bdr")
                || known(AGENTS)
                || NOT_TOOLS.iter().any(|n| path == Path::new(n))
                || never.iter().any(|n| n.starts_with(entry.path()));
            if skip {
                continue;
            }
            let mut bytes = 0;
            let files = WalkDir::new(entry.path())
                .into_iter()
                .flatten()
                .take(TOOL_FILES + 1)
                .inspect(|e| bytes += e.metadata().map_or(0, |m| m.len()))
                .count();
            if files <= TOOL_FILES && bytes <= TOOL_BYTES.min(left) {
                left -= bytes;
                names.push(included(path.as_os_str()));
            }
        }
    }
    names
}

/// Returns the pattern that includes a path; if the path has wildcards, the pattern still means
/// only this place.
fn included(path: &OsStr) -> String {
    match path.to_str() {
        Some(_) => pattern_of(path),
        None => format!("/{}", pattern_of(path)),
    }
}

#[cfg(test)]
mod tests;
