//! Roots and their rules.
//!
//! A [`Root`] is a directory or file that a snapshot covers; its [`Rules`] say which paths below it
//! count. Rebuildable trees (`node_modules`, `target`, caches, …) are left out and never descended
//! into.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{RepoPath, RootName, os_to_bytes, tar_name};
use crate::model::reason::Reason;

pub(crate) mod named;
mod pattern;

use pattern::Pattern;
pub(crate) use pattern::never_matches;
pub use pattern::{glob_of, pattern_of};

/// Which paths below a root are captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Paths and patterns below the root (`temp/workflows`, `docs/**/*.md`), each including
    /// everything below it. Empty means everything. A pattern without `/` matches a name at any
    /// depth; a name without a wildcard is a path from the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns to leave out: without `/` they match a name at any depth, otherwise a path from the
    /// root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Capture rebuildable trees too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuildable: bool,
    /// Stay on the root's file system: leave out what is mounted below it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_file_system: bool,
}

impl Rules {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A directory or file that a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Unique in a snapshot: a source's name, or `@<base name>-<8 hex digits>`.
    pub name: RootName,
    /// Absolute path; need not exist.
    pub path: PathBuf,
    pub rules: Rules,
    /// How important it is: an operand has to be captured within a budget or the command does not
    /// run; of other roots, what is over the budget is left out and reported.
    pub origin: Origin,
    /// What the command names below it: captured like an operand, or the command does not run.
    pub named: Vec<PathBuf>,
    /// What the command may remove or change in it: if that cannot be captured, for whatever
    /// reason, the command does not run.
    pub must: Vec<PathBuf>,
    /// Other roots below it, which are captured by themselves.
    pub without: Vec<PathBuf>,
    /// The path had no symlink when it was allowed: one that has appeared since is not followed.
    pub resolved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Source,
    Operand,
    /// The work tree around the current directory.
    Workspace,
    /// A word of the line is its path, and the command may or may not mean it: captured within a
    /// budget of its own, and reported if it is not.
    Mentioned,
}

impl Root {
    pub fn source(name: &str, path: impl Into<PathBuf>, rules: Rules) -> Self {
        Self {
            name: RootName::tame(name),
            path: path.into(),
            rules,
            origin: Origin::Source,
            named: Vec::new(),
            must: Vec::new(),
            without: Vec::new(),
            resolved: false,
        }
    }

    /// Returns a root for a path outside all sources.
    pub fn ad_hoc(path: impl Into<PathBuf>, origin: Origin) -> Self {
        let path = path.into();
        let bytes = os_to_bytes(path.as_os_str());
        let hash = Digest::of(&bytes).to_hex();
        let base = path.file_name().map_or_else(
            || "root".to_owned(),
            |name| tar_name(&os_to_bytes(name)).chars().take(40).collect(),
        );
        Self {
            name: RootName::tame(&format!("@{base}-{}", &hash[..8])),
            path,
            rules: Rules::default(),
            origin,
            named: Vec::new(),
            must: Vec::new(),
            without: Vec::new(),
            resolved: false,
        }
    }

    /// As `ad_hoc`, for a path that was just resolved and found to be allowed.
    pub fn resolved(path: impl Into<PathBuf>, origin: Origin) -> Self {
        Self {
            resolved: true,
            ..Self::ad_hoc(path, origin)
        }
    }
}

/// Checks the name of a source, which becomes a directory name and the first part of
/// `SOURCE/relative`.
///
/// # Errors
/// Says what a name may contain.
pub fn check_source_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with(['.', '-'])
        && !name.ends_with('.');
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        format!("`{name}` cannot name a source"),
        Some("use letters, digits, `.`, `_` and `-`, beginning with a letter or digit"),
    ))
}

/// What the rules say about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// A directory that leads to an included path: listed, but only matching children are captured.
    OnTheWay,
    /// It is outside the included paths, which is not worth reporting.
    Outside,
    /// It is left out; the reason is recorded.
    LeaveOut(&'static str),
}

pub struct Matcher {
    /// There are include patterns, so nothing else is captured.
    chooses: bool,
    include: Vec<Pattern>,
    /// Included paths without a wildcard, and the directories that lead to them; a set because
    /// there may be many.
    literal: HashSet<Vec<u8>>,
    leading: HashSet<Vec<u8>>,
    all: bool,
    exclude_names: Vec<Pattern>,
    exclude_paths: Vec<Pattern>,
    rebuildable: bool,
}

/// Returns true if a pattern has no wildcards.
pub fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\', '!'])
}

impl Matcher {
    /// Compiles rules.
    ///
    /// # Errors
    /// A pattern is invalid.
    pub fn new(rules: &Rules) -> Result<Self> {
        let mut include = Vec::new();
        let (mut literal, mut leading) = (HashSet::new(), HashSet::new());
        let mut all = false;
        for text in &rules.include {
            let pattern = Pattern::new(text)?;
            if pattern.is_root() {
                all = true;
            } else if let Some(path) = pattern.path() {
                let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                leading.extend(ends.map(|(end, _)| path[..end].to_vec()));
                literal.insert(path);
            } else if pattern.anchored {
                include.push(pattern);
            } else {
                include.push(pattern.anywhere());
            }
        }
        let (mut exclude_names, mut exclude_paths) = (Vec::new(), Vec::new());
        for text in &rules.exclude {
            let pattern = Pattern::new(text)?;
            match pattern.anchored {
                true => exclude_paths.push(pattern),
                false => exclude_names.push(pattern),
            }
        }
        Ok(Self {
            chooses: !rules.include.is_empty(),
            include,
            literal,
            leading,
            all,
            exclude_names,
            exclude_paths,
            rebuildable: rules.rebuildable,
        })
    }

    /// Returns true if only rebuildable trees can be left out.
    pub fn takes_everything(&self) -> bool {
        !self.chooses && self.exclude_names.is_empty() && self.exclude_paths.is_empty()
    }

    fn excludes_nothing(&self) -> bool {
        self.exclude_names.is_empty() && self.exclude_paths.is_empty()
    }

    /// Returns what the include patterns say about the directory `dir` itself: [`Verdict::Take`],
    /// [`Verdict::OnTheWay`] or [`Verdict::Outside`].
    pub fn include(&self, path: &[u8]) -> Verdict {
        if !self.chooses || self.all {
            return Verdict::Take;
        }
        if path.is_empty() {
            return Verdict::OnTheWay;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut above = ends.map(|(end, _)| &path[..end]).chain([path]);
        if above.any(|above| self.literal.contains(above)) {
            return Verdict::Take;
        }
        let mut best = match self.leading.contains(path) {
            true => Verdict::OnTheWay,
            false => Verdict::Outside,
        };
        if self.include.is_empty() {
            return best;
        }
        for pattern in &self.include {
            let mut progress = pattern.begin();
            for name in path.split(|byte| *byte == b'/') {
                if pattern.step(&mut progress, name) {
                    return Verdict::Take;
                }
            }
            if pattern.may_go_on(&progress) {
                best = Verdict::OnTheWay;
            }
        }
        best
    }

    /// Returns why `name` in the directory `dir` is left out, if it is. `siblings` returns whether
    /// the directory also contains a name.
    pub fn left_out(
        &self,
        dir: &[u8],
        name: &[u8],
        is_dir: bool,
        siblings: &dyn Fn(&[u8]) -> bool,
    ) -> Option<Reason> {
        let path = || {
            let mut path = dir.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            path
        };
        if is_dir && !self.rebuildable && is_rebuildable(name, siblings) {
            // The user wants what they included by its exact name.
            let named = !self.literal.is_empty() && {
                let path = path();
                self.literal.contains(&path) || self.leading.contains(&path)
            };
            if !named {
                return Some(Reason::Rebuildable);
            }
        }
        if self.excludes_nothing() {
            return None;
        }
        let counts = |pattern: &&Pattern| is_dir || !pattern.directories;
        let mut names = self.exclude_names.iter().filter(counts);
        if names.any(|pattern| pattern.fits_name(name)) {
            return Some(Reason::Excluded);
        }
        if self.exclude_paths.is_empty() {
            return None;
        }
        let path = path();
        let mut paths = self.exclude_paths.iter().filter(counts);
        paths
            .any(|pattern| pattern.fits(&path))
            .then_some(Reason::Excluded)
    }

    /// Returns true if `path` below the root is captured, judging only by names.
    pub fn covers(&self, path: &RepoPath) -> bool {
        if self.include(path.as_bytes()) != Verdict::Take {
            return false;
        }
        let mut dir = RepoPath::root();
        for component in path.components() {
            if self
                .left_out(dir.as_bytes(), component, true, &|_| true)
                .is_some()
            {
                return false;
            }
            dir = dir.join(component);
        }
        true
    }
}

/// Returns true for a directory that its tools can recreate.
///
/// Names that people also use for their own work (`target`, `venv`, `build`) only count next to
/// proof of the tool.
pub fn is_rebuildable(name: &[u8], siblings: &dyn Fn(&[u8]) -> bool) -> bool {
    match name {
        b"node_modules" | b".venv" | b"__pycache__" | b".mypy_cache" | b".pytest_cache"
        | b".ruff_cache" | b".tox" | b".nox" | b".gradle" | b".turbo" | b".parcel-cache"
        | b".svelte-kit" | b".nuxt" | b".next" | b".terraform" | b".cache" | b".ccache"
        | b".npm" | b".pnpm-store" | b".eslintcache" => true,
        b"target" => [&b"Cargo.toml"[..], b"pom.xml", b"build.sbt"]
            .iter()
            .any(|s| siblings(s)),
        b"venv" | b"env" => [&b"pyproject.toml"[..], b"requirements.txt", b"setup.py"]
            .iter()
            .any(|s| siblings(s)),
        _ => false,
    }
}

/// Up to this many entries and bytes, a rebuildable tree is captured anyway: it costs next to
/// nothing, and may contain somebody's own work.
const SMALL_ENTRIES: usize = 256;
const SMALL_BYTES: u64 = 4 << 20;

/// Returns true if a directory is so small that it is captured even if its tools could recreate it.
pub fn is_small(dir: &Path) -> bool {
    let entries: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .take(SMALL_ENTRIES + 1)
        .collect();
    let bytes = || -> u64 {
        let files = entries.iter().filter(|entry| entry.file_type().is_file());
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    };
    entries.len() <= SMALL_ENTRIES && bytes() <= SMALL_BYTES
}

/// Returns true for virtual file systems. The shared memory in `/dev` is a place for files like any
/// other.
pub fn is_virtual(path: &Path) -> bool {
    ["/dev", "/proc", "/sys"]
        .iter()
        .any(|system| path.starts_with(system))
        && !path.starts_with("/dev/shm")
}

/// Returns true for programs and devices: commands name them without meaning to change them.
pub fn is_system(path: &Path) -> bool {
    if path.starts_with("/dev/shm") {
        return false;
    }
    [
        "/dev", "/proc", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/run",
    ]
    .iter()
    .any(|system| path.starts_with(system))
}

/// How many paths of one directory get roots of their own; beyond this, the directory is the root.
const MAX_SIBLINGS: usize = 64;

/// Groups paths: returns one root for each directory with many named children, and the other paths.
pub(crate) fn grouped(named: Vec<PathBuf>, origin: Origin) -> (Vec<Root>, Vec<PathBuf>) {
    let plain = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let fits = is_plain(name) && !is_rebuildable(name.as_bytes(), &|_| true);
        Some((path.parent()?.to_path_buf(), name.to_owned())).filter(|_| fits)
    };
    let mut children: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (parent, name) in named.iter().filter_map(|path| plain(path)) {
        children.entry(parent).or_default().push(name);
    }
    children.retain(|_, names| names.len() > MAX_SIBLINGS);
    let few = named
        .into_iter()
        .filter(|path| plain(path).is_none_or(|(parent, _)| !children.contains_key(&parent)));
    let few = few.collect();
    let many = children.into_iter().map(|(parent, names)| {
        let mut root = Root::ad_hoc(parent, origin);
        root.rules.include = names;
        root
    });
    (many.collect(), few)
}

/// Drops duplicates and roots that another root covers; keeps the order of the rest.
///
/// # Errors
/// A root's rules do not compile.
pub fn normalise(roots: Vec<Root>) -> Result<Vec<Root>> {
    let matchers: Result<Vec<Matcher>> = roots.iter().map(|r| Matcher::new(&r.rules)).collect();
    let matchers = matchers?;
    let covered = |inner: usize| {
        roots.iter().enumerate().any(|(outer, root)| {
            if outer == inner {
                return false;
            }
            let Some(below) = RepoPath::below(&root.path, &roots[inner].path) else {
                return false;
            };
            if below.is_root() {
                // The same path twice: keep the root that captures more, or else the first.
                let wider = matchers[outer].takes_everything() as u8 * 2
                    + u8::from(roots[outer].rules.rebuildable);
                let own = matchers[inner].takes_everything() as u8 * 2
                    + u8::from(roots[inner].rules.rebuildable);
                return matchers[outer].takes_everything()
                    && (wider, std::cmp::Reverse(outer)) > (own, std::cmp::Reverse(inner));
            }
            let rules = &roots[inner].rules;
            // What a command names is captured even if a source leaves it out.
            if roots[inner].origin == Origin::Operand && !matchers[outer].excludes_nothing() {
                return false;
            }
            if rules.include.is_empty() {
                matchers[outer].covers(&below)
            } else {
                matchers[outer].takes_everything() && matchers[outer].covers(&below)
            }
        })
    };
    let keep: Vec<bool> = (0..roots.len()).map(|i| !covered(i)).collect();
    let mut result = Vec::new();
    let mut kept_matchers = Vec::new();
    let mut dropped = Vec::new();
    for ((root, matcher), keep) in roots.into_iter().zip(matchers).zip(keep) {
        if keep {
            result.push(root);
            kept_matchers.push(matcher);
        } else if root.origin == Origin::Operand {
            dropped.push((root.path, root.must));
        }
    }
    for (path, must) in dropped {
        // Several sources may share a directory, each with other files of it.
        for (outer, matcher) in result.iter_mut().zip(&kept_matchers) {
            let below = RepoPath::below(&outer.path, &path);
            if below.is_some_and(|below| below.is_root() || matcher.covers(&below)) {
                outer.named.push(path.clone());
                outer.must.extend(must.iter().cloned());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    for root in &mut result {
        // Two roots with one name (the same path under different rules) get different names.
        while !seen.insert(root.name.clone()) {
            root.name = root.name.again();
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(include: &[&str], exclude: &[&str]) -> Matcher {
        Matcher::new(&Rules {
            include: include.iter().map(|s| (*s).to_owned()).collect(),
            exclude: exclude.iter().map(|s| (*s).to_owned()).collect(),
            ..Rules::default()
        })
        .unwrap()
    }

    #[test]
    fn includes_are_followed_component_by_component() {
        let m = matcher(
            &["temp/workflows", "/.env.*", ".claude/settings*.json"],
            &[],
        );
        for (path, verdict) in [
            ("", Verdict::OnTheWay),
            ("temp", Verdict::OnTheWay),
            ("temp/other", Verdict::Outside),
            ("temp/workflows", Verdict::Take),
            ("temp/workflows/a/b", Verdict::Take),
            (".env.local", Verdict::Take),
            (".env", Verdict::Outside),
            (".claude/settings.local.json", Verdict::Take),
            (".claude/x", Verdict::Outside),
        ] {
            assert_eq!(m.include(path.as_bytes()), verdict, "{path}");
        }
    }

    #[test]
    fn a_pattern_without_a_slash_is_included_at_any_depth() {
        let m = matcher(&["*.md", "notes", "we\\[ird"], &[]);
        for (path, verdict) in [
            ("a.md", Verdict::Take),
            ("x/y/a.md", Verdict::Take),
            ("x/y", Verdict::OnTheWay),
            ("notes/a", Verdict::Take),
            ("x/notes", Verdict::OnTheWay),
            ("we[ird/a", Verdict::Take),
        ] {
            assert_eq!(m.include(path.as_bytes()), verdict, "{path}");
        }
        let m = matcher(&["we\\[ird", "/.x/*"], &[]);
        assert_eq!(m.include(b"other"), Verdict::Outside);
        assert_eq!(m.include(b".x/a/b"), Verdict::Take);
    }

    #[test]
    fn what_is_left_out_is_what_would_be_included() {
        let none = |_: &[u8]| false;
        for pattern in [
            "*.md",
            "docs/**/*.md",
            "**/x",
            "{a,b}/**/*.md",
            "a/**",
            "/a",
            "a?/[b-d]",
        ] {
            let (inc, exc) = (matcher(&[pattern], &[]), matcher(&[], &[pattern]));
            for path in [
                "a.md",
                "a/a.md",
                "docs/a.md",
                "docs/q/r/a.md",
                "x",
                "q/x",
                "a",
                "b/c/d/e.md",
                "ab/c",
                "ab/e",
            ] {
                let mut out = false;
                let mut dir = String::new();
                for name in path.split('/') {
                    out |= exc
                        .left_out(dir.as_bytes(), name.as_bytes(), true, &none)
                        .is_some();
                    dir = format!("{dir}/{name}").trim_start_matches('/').to_owned();
                }
                let taken = inc.include(path.as_bytes()) == Verdict::Take;
                assert_eq!(taken, out, "{pattern} {path}");
            }
        }
    }

    #[test]
    fn precious_directories_named_like_build_output_are_kept() {
        let none = |_: &[u8]| false;
        let cargo = |name: &[u8]| name == b"Cargo.toml";
        assert!(is_rebuildable(b"node_modules", &none));
        assert!(!is_rebuildable(b"target", &none));
        assert!(is_rebuildable(b"target", &cargo));
        assert!(!is_rebuildable(b"build", &cargo));
    }

    #[test]
    fn excludes_match_names_anywhere_and_paths_from_the_root() {
        let m = matcher(&[], &["*.log", "/top", "a/b"]);
        let none = |_: &[u8]| false;
        assert_eq!(
            m.left_out(b"x/y", b"z.log", false, &none),
            Some(Reason::Excluded)
        );
        assert_eq!(m.left_out(b"", b"top", true, &none), Some(Reason::Excluded));
        assert_eq!(m.left_out(b"x", b"top", true, &none), None);
        assert_eq!(m.left_out(b"a", b"b", true, &none), Some(Reason::Excluded));
    }

    #[test]
    fn nested_roots_are_dropped_unless_the_outer_leaves_them_out() {
        let roots = vec![
            Root::ad_hoc("/w", Origin::Workspace),
            Root::ad_hoc("/w/src", Origin::Operand),
            Root::ad_hoc("/w/node_modules", Origin::Operand),
            Root::ad_hoc("/w", Origin::Operand),
            Root::source("brain", "/w/brain", Rules::default()),
            Root::ad_hoc("/other", Origin::Operand),
        ];
        let mut picky = Root::source("picky", "/p", Rules::default());
        picky.rules.exclude = vec!["*.key".to_owned()];
        let named = Root::ad_hoc("/p/secrets", Origin::Operand);
        assert_eq!(normalise(vec![picky, named]).unwrap().len(), 2);
        let names: Vec<PathBuf> = normalise(roots)
            .unwrap()
            .into_iter()
            .map(|r| r.path)
            .collect();
        assert_eq!(
            names,
            ["/w", "/w/node_modules", "/other"].map(PathBuf::from)
        );
    }
}
