//! Roots and what belongs to them.
//!
//! A [`Root`] is a directory or file that a snapshot covers; its [`Rules`] say which paths below it count.
//! Rebuildable trees (`node_modules`, `target`, caches, …) are left out and never descended into.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Digest;
use crate::path::{RepoPath, os_to_bytes, tar_name};

/// Which paths below a root belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Paths or patterns below the root, component by component (`temp/workflows`, `.env.*`); each with everything
    /// below it. Empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns that are left out: one without `/` matches a name at any depth, else the path from the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Take rebuildable trees too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuildable: bool,
}

impl Rules {
    /// Returns true if these are the defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A directory or file that a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Unique in a snapshot: a source's name, or `@<base name>-<8 hex digits>`.
    pub name: String,
    /// Absolute path; need not exist.
    pub path: PathBuf,
    /// What belongs to it.
    pub rules: Rules,
    /// How important: operands are captured within a budget or the command is not run; of others, what is over the
    /// budget is left out and said.
    pub origin: Origin,
    /// What the command names below it: as an operand is it captured, or the command is not run.
    pub named: Vec<PathBuf>,
    /// What of it the command may take away or change: if it cannot be captured, for whatever reason, the command is not run.
    pub must: Vec<PathBuf>,
    /// The path had no symlink on it when it was allowed: one that is there by now is not followed.
    pub resolved: bool,
}

/// Why a root is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A configured source.
    Source,
    /// Named by the command or the user.
    Operand,
    /// Around the current directory.
    Workspace,
}

impl Root {
    /// Returns the root of a configured source.
    pub fn source(name: &str, path: impl Into<PathBuf>, rules: Rules) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            rules,
            origin: Origin::Source,
            named: Vec::new(),
            must: Vec::new(),
            resolved: false,
        }
    }

    /// Returns a root for a path that no source names.
    pub fn ad_hoc(path: impl Into<PathBuf>, origin: Origin) -> Self {
        let path = path.into();
        let bytes = os_to_bytes(path.as_os_str());
        let hash = Digest::of(&bytes).to_hex();
        let base = path.file_name().map_or_else(
            || "root".to_owned(),
            |name| tar_name(&os_to_bytes(name)).chars().take(40).collect(),
        );
        Self {
            name: format!("@{base}-{}", &hash[..8]),
            path,
            rules: Rules::default(),
            origin,
            named: Vec::new(),
            must: Vec::new(),
            resolved: false,
        }
    }

    /// The same for a path that was just resolved and found to lie where it may.
    pub fn resolved(path: impl Into<PathBuf>, origin: Origin) -> Self {
        Self {
            resolved: true,
            ..Self::ad_hoc(path, origin)
        }
    }
}

/// Checks the name of a source: it becomes a directory name and the first part of `SOURCE/relative`.
///
/// # Errors
/// Says what a name may hold.
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

/// What the rules say of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the root.
    Take,
    /// A directory on the way to an included path: listed, only matching children looked at.
    OnTheWay,
    /// It does not belong, and is not worth a word: beside the included paths.
    Outside,
    /// It is left out; the reason is recorded.
    LeaveOut(&'static str),
}

/// Rules ready to be asked.
pub struct Matcher {
    /// Nothing is included by default.
    chooses: bool,
    include: Vec<Vec<GlobMatcher>>,
    /// Included paths without a wildcard, and the directories on the way to them: there may be many.
    literal: HashSet<Vec<u8>>,
    leading: HashSet<Vec<u8>>,
    exclude_names: Vec<GlobMatcher>,
    exclude_paths: Vec<GlobMatcher>,
    rebuildable: bool,
}

/// Returns true if a pattern stands for itself only.
pub fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\', '!'])
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    if pattern.len() > 4096 || pattern.matches("**").count() > 8 {
        return Err(Error::invalid(
            format!("the pattern `{pattern}` is too complex"),
            None,
        ));
    }
    Ok(GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|e| {
            Error::invalid(
                format!("the pattern `{pattern}` is wrong: {}", e.kind()),
                None,
            )
        })?
        .compile_matcher())
}

impl Matcher {
    /// Compiles rules.
    ///
    /// # Errors
    /// A pattern that is no glob.
    pub fn new(rules: &Rules) -> Result<Self> {
        let mut include = Vec::new();
        let (mut literal, mut leading) = (HashSet::new(), HashSet::new());
        for pattern in &rules.include {
            let parts = || pattern.split('/').filter(|p| !p.is_empty() && *p != ".");
            if is_plain(pattern) && parts().next().is_some() {
                let path = parts().collect::<Vec<_>>().join("/");
                let ends = path.match_indices('/').map(|(end, _)| end);
                leading.extend(ends.map(|end| path.as_bytes()[..end].to_vec()));
                literal.insert(path.into_bytes());
                continue;
            }
            include.push(parts().map(glob).collect::<Result<Vec<_>>>()?);
        }
        let (mut exclude_names, mut exclude_paths) = (Vec::new(), Vec::new());
        for pattern in &rules.exclude {
            let trimmed = pattern.trim_end_matches('/');
            match trimmed.strip_prefix('/') {
                Some(anchored) => exclude_paths.push(glob(anchored)?),
                None if trimmed.contains('/') => exclude_paths.push(glob(trimmed)?),
                None => exclude_names.push(glob(trimmed)?),
            }
        }
        Ok(Self {
            chooses: !rules.include.is_empty(),
            include,
            literal,
            leading,
            exclude_names,
            exclude_paths,
            rebuildable: rules.rebuildable,
        })
    }

    /// Returns true if nothing but rebuildable trees can be left out.
    pub fn takes_everything(&self) -> bool {
        !self.chooses && self.exclude_names.is_empty() && self.exclude_paths.is_empty()
    }

    /// Returns true if no pattern leaves anything out.
    fn excludes_nothing(&self) -> bool {
        self.exclude_names.is_empty() && self.exclude_paths.is_empty()
    }

    /// Returns what the include patterns say of the directory `dir` itself: [`Verdict::Take`], [`Verdict::OnTheWay`] or
    /// [`Verdict::Outside`].
    pub fn include(&self, path: &[u8]) -> Verdict {
        if !self.chooses || path.is_empty() && self.include.iter().any(Vec::is_empty) {
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
        let parts: Vec<PathBuf> = path
            .split(|b| *b == b'/')
            .map(|part| PathBuf::from(crate::path::os_from_bytes(part)))
            .collect();
        for pattern in &self.include {
            let fits = pattern
                .iter()
                .zip(&parts)
                .all(|(glob, part)| glob.is_match(part));
            if fits && parts.len() >= pattern.len() {
                return Verdict::Take;
            }
            if fits {
                best = Verdict::OnTheWay;
            }
        }
        best
    }

    /// Returns why `name` in the directory `dir` is left out, if it is. `siblings` tells whether the directory also holds a name.
    pub fn left_out(
        &self,
        dir: &[u8],
        name: &[u8],
        is_dir: bool,
        siblings: &dyn Fn(&[u8]) -> bool,
    ) -> Option<&'static str> {
        if is_dir && !self.rebuildable && is_rebuildable(name, siblings) {
            return Some("rebuildable");
        }
        if self.exclude_names.is_empty() && self.exclude_paths.is_empty() {
            return None;
        }
        let name_path = PathBuf::from(crate::path::os_from_bytes(name));
        if self
            .exclude_names
            .iter()
            .any(|glob| glob.is_match(&name_path))
        {
            return Some("excluded");
        }
        if self.exclude_paths.is_empty() {
            return None;
        }
        let mut path = dir.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let path = PathBuf::from(crate::path::os_from_bytes(&path));
        self.exclude_paths
            .iter()
            .any(|glob| glob.is_match(&path))
            .then_some("excluded")
    }

    /// Returns true if `path` below the root is taken, judged by names alone.
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

/// Returns true for a directory that its tools can make again.
///
/// Names that people also use for their own work (`target`, `venv`, `build`) count only beside what proves the tool.
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

/// Entries and bytes up to which a rebuildable tree is taken all the same: somebody's own work in it costs next to nothing to keep.
const SMALL_ENTRIES: usize = 256;
const SMALL_BYTES: u64 = 4 << 20;

/// Returns true if a directory is so small that it is taken even if its tools could make it again.
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

/// Returns true for what no disk holds. The shared memory of `/dev` is a place for files like others.
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

/// Drops roots that another root covers, and duplicates; keeps the order of the rest.
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
                // The same path twice: the one that takes more stays, else the first.
                let wider = matchers[outer].takes_everything() as u8 * 2
                    + u8::from(roots[outer].rules.rebuildable);
                let own = matchers[inner].takes_everything() as u8 * 2
                    + u8::from(roots[inner].rules.rebuildable);
                return matchers[outer].takes_everything()
                    && (wider, std::cmp::Reverse(outer)) > (own, std::cmp::Reverse(inner));
            }
            let rules = &roots[inner].rules;
            // What a command names is captured whatever a source leaves out.
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
        // Two roots of one name (the same path under different rules) get different names.
        while !seen.insert(root.name.clone()) {
            root.name.push('+');
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
            rebuildable: false,
        })
        .unwrap()
    }

    #[test]
    fn includes_are_followed_component_by_component() {
        let m = matcher(&["temp/workflows", ".env.*", ".claude/settings*.json"], &[]);
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
        assert_eq!(m.left_out(b"x/y", b"z.log", false, &none), Some("excluded"));
        assert_eq!(m.left_out(b"", b"top", true, &none), Some("excluded"));
        assert_eq!(m.left_out(b"x", b"top", true, &none), None);
        assert_eq!(m.left_out(b"a", b"b", true, &none), Some("excluded"));
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
