//! The captured set: which roots a guard's snapshot covers.
//!
//! The sources and the workspace are covered before every command that does not provably only read;
//! what the command names is added.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::base::path::{RepoPath, RootName, absolute, os_to_bytes};
use crate::disk::fsutil::canonicalize;
use crate::effects::{Assessment, Effect, Operand};
use crate::model::rules::{
    Matcher, Origin, Root, grouped, is_rebuildable, is_system, is_virtual, normalise,
};

/// How many paths one pattern may match; beyond this, its directory is captured.
const MAX_MATCHES: usize = 4096;

/// What decides on the captured set besides the command.
#[derive(Debug, Clone)]
pub struct CaptureSet<'a> {
    pub sources: Vec<Root>,
    pub cwd: &'a Path,
    pub home: Option<&'a Path>,
    /// More absolute paths to cover.
    pub extra: &'a [PathBuf],
    /// bdr's own files: a command that names them must not delete them.
    pub own: &'a [PathBuf],
    /// Also cover what repositories say lies elsewhere: other work trees, a repository outside of
    /// its work tree. Anyone who can write in the project can write that, so it is no licence to
    /// write there.
    pub linked: bool,
    /// The command may delete bdr's own files all the same.
    pub accept_loss: bool,
}

/// Returns a path that a command names to change it, and that contains one of some files.
pub fn named_above(assessment: &Assessment, files: &[PathBuf]) -> Option<PathBuf> {
    let named = assessment.operands.iter().filter(|operand| operand.itself);
    let mut paths = named.flat_map(paths_of);
    let is_above = |path: &PathBuf| {
        let mut files = files.iter();
        files.any(|file| file != path && file.starts_with(path))
    };
    paths.find(is_above)
}

/// Returns what to capture before a command runs: the sources, the workspaces around where it runs
/// and works, and what it names.
///
/// # Errors
/// It would delete bdr's own files, or rules do not compile.
pub fn capture_roots(assessment: &Assessment, set: CaptureSet<'_>) -> Result<Vec<Root>> {
    let own: Vec<PathBuf> = set.own.iter().map(|path| canonical_parent(path)).collect();
    let is_own = |path: &Path| {
        own.iter()
            .any(|own| own.starts_with(path) || path.starts_with(own))
    };
    let mut named: BTreeMap<PathBuf, bool> = BTreeMap::new();
    // A command that packs or sends its operands does not change them.
    let destroys = matches!(assessment.effect, Effect::Destructive | Effect::GitDiscard)
        && assessment.rule != "fs.tar";
    let mut must: HashSet<PathBuf> = HashSet::new();
    let mut places = vec![set.cwd.to_path_buf()];
    for operand in &assessment.operands {
        for path in paths_of(operand) {
            if operand.place {
                places.push(path);
                continue;
            }
            if operand.itself && !set.accept_loss && is_own(&path) {
                let path = own
                    .iter()
                    .find(|own| own.starts_with(&path))
                    .cloned()
                    .unwrap_or(path);
                return Err(Error::WouldDeleteRepository { path });
            }
            if operand.itself || destroys {
                must.insert(path.clone());
            }
            *named.entry(path).or_default() |= operand.itself;
        }
    }
    let extra: Vec<PathBuf> = set
        .extra
        .iter()
        .map(|path| absolute(set.cwd, path))
        .collect();
    must.extend(extra.iter().cloned());
    named.extend(extra.into_iter().map(|path| (path, true)));
    let mut roots = set.sources;
    places.dedup();
    for place in places {
        for path in workspaces(&place, set.home, set.linked) {
            roots.push(Root::ad_hoc(path, Origin::Workspace));
        }
    }
    named.retain(|path, itself| {
        let within_own = own.iter().any(|own| path.starts_with(own));
        // Naming a program does not mean changing it, unless it would be removed or replaced.
        let system = is_virtual(path) || !*itself && is_system(path);
        path.parent().is_some() && !system && !within_own
    });
    let (many, few) = grouped(named.into_keys().collect(), Origin::Operand);
    roots.extend(many);
    for path in few {
        let mut root = Root::ad_hoc(path, Origin::Operand);
        // `rm -rf node_modules` means exactly that directory.
        let name = root.path.file_name().unwrap_or_default().to_owned();
        root.rules.rebuildable = is_rebuildable(&os_to_bytes(&name), &|_| true);
        roots.push(root);
    }
    for root in roots
        .iter_mut()
        .filter(|root| root.origin == Origin::Operand)
    {
        let below = must.iter().filter(|path| path.starts_with(&root.path));
        root.must.extend(below.cloned());
    }
    let roots = normalise(roots)?;
    let fits = |path: &Path| {
        let kept = own.iter().any(|own| path.starts_with(own));
        !kept && !is_system(path) && !is_virtual(path) && !is_wide(path, set.home)
    };
    with_mentioned(roots, &assessment.mentioned, &fits)
}

/// Returns true for directories with everybody's files, or all of one user's: a word that names one
/// says nothing.
fn is_wide(path: &Path, home: Option<&Path>) -> bool {
    let top = path.parent().is_none_or(|parent| parent.parent().is_none());
    let home = home.and_then(|home| canonicalize(home).ok());
    top || home.as_ref().is_some_and(|home| home.starts_with(path))
        || path
            .parent()
            .is_some_and(|parent| parent == Path::new("/home") || parent == Path::new("/Users"))
        || path == Path::new("/var/tmp")
}

/// Adds roots for paths that the words of the line mention, if they exist and no root covers them.
/// One that contains another root leaves that out.
fn with_mentioned(
    mut roots: Vec<Root>,
    mentioned: &[PathBuf],
    fits: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Root>> {
    let mut there = BTreeSet::new();
    let mut rules = Vec::new();
    for root in &roots {
        rules.push(Matcher::new(&root.rules)?);
    }
    for path in mentioned {
        let path = canonical_parent(path);
        let is_link = match path.symlink_metadata() {
            Ok(metadata) => metadata.is_symlink(),
            // An undo removes what is made there.
            Err(_) if path.parent().is_some_and(Path::is_dir) => false,
            Err(_) => continue,
        };
        let end = is_link.then(|| canonicalize(&path).ok());
        for path in [Some(path), end.flatten()].into_iter().flatten() {
            let mut each = roots.iter().zip(&rules);
            let covered = each.any(|(root, rules)| {
                RepoPath::below(&root.path, &path).is_some_and(|below| rules.covers(&below))
            });
            if !covered && fits(&path) {
                there.insert(path);
            }
        }
    }
    let (mut many, few) = grouped(there.into_iter().collect(), Origin::Mentioned);
    for path in few {
        // Sorted, so a parent comes before its children.
        if many
            .iter()
            .any(|root| root.rules.include.is_empty() && path.starts_with(&root.path))
        {
            continue;
        }
        let mut root = Root::ad_hoc(path, Origin::Mentioned);
        let name = root.path.file_name().unwrap_or_default().to_owned();
        root.rules.rebuildable = is_rebuildable(&os_to_bytes(&name), &|_| true);
        many.push(root);
    }
    for root in &mut many {
        let below = roots.iter().map(|other| &other.path);
        root.without = below
            .filter(|path| path.starts_with(&root.path) && **path != root.path)
            .cloned()
            .collect();
    }
    let taken: HashSet<RootName> = roots.iter().map(|root| root.name.clone()).collect();
    for root in &mut many {
        while taken.contains(&root.name) {
            root.name = root.name.again();
        }
    }
    roots.extend(many);
    Ok(roots)
}

/// Returns the existing paths that an operand stands for, with directories free of symlinks, and
/// the target of a final symlink if the command follows it.
fn paths_of(operand: &Operand) -> Vec<PathBuf> {
    let found = match operand.glob {
        true => expand(&operand.path),
        false => vec![operand.path.clone()],
    };
    let mut paths = Vec::with_capacity(found.len());
    for path in found {
        let path = canonical_parent(&path);
        let Ok(metadata) = path.symlink_metadata() else {
            // An undo removes what is made there.
            if path.parent().is_some_and(Path::is_dir) {
                paths.push(path);
            }
            continue;
        };
        if metadata.is_symlink()
            && operand.follow
            && let Ok(target) = canonicalize(&path)
        {
            paths.push(target);
        }
        paths.push(path);
    }
    paths
}

/// Expands a pattern as a shell does, but with hidden names: rather capture too much than too
/// little.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.components().skip(1) {
        let bytes = os_to_bytes(component.as_os_str()).into_owned();
        let is_pattern = bytes.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
        let matcher = std::str::from_utf8(&bytes)
            .ok()
            .filter(|_| is_pattern)
            .and_then(|text| globset::Glob::new(text).ok())
            .map(|glob| glob.compile_matcher());
        let mut next = Vec::new();
        for dir in &found {
            let Some(matcher) = &matcher else {
                let name = String::from_utf8_lossy(&bytes).replace('\\', "");
                next.push(dir.join(name));
                continue;
            };
            let entries = crate::disk::fsutil::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten();
            next.extend(
                entries
                    .filter(|entry| matcher.is_match(Path::new(&entry.file_name())))
                    .map(|entry| entry.path()),
            );
            if next.len() > MAX_MATCHES {
                return found;
            }
        }
        found = next;
    }
    found
}

/// Returns the path with its directory free of symlinks; like `rm` and `mv`, it does not follow the
/// last component.
pub fn canonical_parent(path: &Path) -> PathBuf {
    match (
        path.parent().and_then(|p| canonicalize(p).ok()),
        path.file_name(),
    ) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

/// Returns what surrounds a directory: the work tree, its other work trees and the repository they
/// share; or the directory itself. Never HOME or anything above it.
fn workspaces(dir: &Path, home: Option<&Path>, linked: bool) -> Vec<PathBuf> {
    let Ok(dir) = canonicalize(dir) else {
        return Vec::new();
    };
    let dir = match dir.is_dir() {
        true => dir,
        false => dir.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let home = home.and_then(|home| canonicalize(home).ok());
    let too_much = |path: &Path| {
        path.parent().is_none() || home.as_ref().is_some_and(|home| home.starts_with(path))
    };
    let ceilings: Vec<&Path> = home.iter().map(PathBuf::as_path).collect();
    let repository =
        git2::Repository::open_ext(&dir, git2::RepositoryOpenFlags::empty(), &ceilings).ok();
    let mut found: Vec<PathBuf> = repository
        .iter()
        .flat_map(|repository| of_repository(repository, &dir, linked))
        .collect();
    found.retain(|path| !too_much(path));
    let around = found.iter().any(|path| dir.starts_with(path));
    if !around && !too_much(&dir) && !is_system(&dir) {
        found.push(dir);
    }
    found
}

/// Returns the directories of a repository with user data: the work tree around `dir` and, with
/// `linked`, other work trees and what they share, if both ends confirm that they belong together:
/// a file in a project can name any directory.
fn of_repository(repository: &git2::Repository, dir: &Path, linked: bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = repository
        .workdir()
        .and_then(|top| canonicalize(top).ok())
        .filter(|top| dir.starts_with(top))
        .into_iter()
        .collect();
    let own = canonicalize(repository.path()).ok();
    let shared = canonicalize(repository.commondir()).ok();
    let (Some(own), Some(shared), true) = (own, shared, linked) else {
        return found;
    };
    if own != shared {
        let belongs = own.starts_with(shared.join("worktrees"))
            && found.iter().any(|tree| points_at(tree, &own))
            && found.iter().any(|tree| names_tree(&own, tree));
        if !belongs {
            return found;
        }
    }
    // The main work tree is where the shared directory is named `.git`.
    let main = Some(&shared).filter(|path| path.ends_with(".git"));
    found.extend(main.and_then(|path| path.parent()).map(Path::to_path_buf));
    let trees = repository.worktrees().ok();
    for name in trees
        .iter()
        .flat_map(|names| names.iter())
        .flatten()
        .flatten()
    {
        let path = repository.find_worktree(name).ok();
        let tree = path.and_then(|tree| canonicalize(tree.path()).ok());
        let record = shared.join("worktrees").join(name);
        found.extend(tree.filter(|tree| points_at(tree, &record)));
    }
    if !found.iter().any(|path| shared.starts_with(path)) {
        found.push(shared);
    }
    found.dedup();
    found
}

/// Returns the path that a short file of git gives after `prefix`, free of symlinks.
fn said_in(file: &Path, prefix: &str) -> Option<PathBuf> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let open = std::fs::File::open(file).ok()?;
    open.take(1 << 16).read_to_end(&mut text).ok()?;
    let said = text.trim_ascii().strip_prefix(prefix.as_bytes())?;
    let said = crate::base::path::os_from_bytes(said.trim_ascii());
    canonicalize(file.parent()?.join(said)).ok()
}

/// Returns true if the `.git` file of a work tree names `record`.
fn points_at(tree: &Path, record: &Path) -> bool {
    let record = canonicalize(record).ok();
    let file = tree.join(".git");
    let is_file = file.symlink_metadata().is_ok_and(|found| found.is_file());
    is_file && record.is_some() && said_in(&file, "gitdir:") == record
}

/// Returns true if the record of a work tree names `tree`.
fn names_tree(record: &Path, tree: &Path) -> bool {
    said_in(&record.join("gitdir"), "") == canonicalize(tree.join(".git")).ok()
}
