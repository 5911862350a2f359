//! Version control repositories as an undo has to treat them: not as unrelated files in one
//! directory.
//!
//! Two rules follow from how they work. Objects named by their content, or only ever appended to,
//! are never removed: something made since may need them, and garbage costs nothing. Files that
//! refer to them (refs, HEAD, reflogs, the index) are restored only if they are as the operation
//! left them. Nothing is ever written next to them, because the tool would take it for one of its
//! own files.
//!
//! Sources: gitrepository-layout(5), git-worktree(1); the layouts of jj, Mercurial, git-annex,
//! git-lfs and DVC.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::base::id::Digest;
use crate::base::path::os_to_bytes;
use crate::model::merge::Key;

/// Directories of tools whose files only make sense together: they are restored as a whole or not
/// at all.
const UNITS: [&str; 6] = [".hg", ".jj", ".svn", ".bzr", ".pijul", "_darcs"];

/// Below a git directory: content named by its digest, and tables that only grow.
const GIT_STORES: [&str; 4] = ["objects", "lfs/objects", "annex/objects", "reftable"];

/// The same for other tools, anywhere.
const OTHER_STORES: [&str; 5] = [
    ".jj/repo/store",
    ".jj/repo/op_store",
    ".dvc/cache",
    ".hg/store",
    ".pijul/changes",
];

/// The role of a path in the repository around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Content: never removed.
    Store,
    /// A name for a commit, in a file of its own.
    Ref,
    /// Everything else: HEAD, logs, index, configuration, state of a merge or rebase in progress.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The git directory, or the directory of a tool whose files belong together.
    pub top: PathBuf,
    pub part: Part,
    /// All of `top` is restored, or nothing.
    pub is_unit: bool,
}

/// Knows which directories are repositories; asks the disk once for each.
#[derive(Default)]
pub struct Repositories {
    known: RefCell<HashMap<PathBuf, bool>>,
}

impl Repositories {
    /// Also treats these directories as repositories although they no longer are, or were not yet.
    pub fn knowing(git_dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        let known = git_dirs.into_iter().map(|dir| (dir, true)).collect();
        Self {
            known: RefCell::new(known),
        }
    }

    fn is_git_dir(&self, dir: &Path) -> bool {
        if let Some(known) = self.known.borrow().get(dir) {
            return *known;
        }
        let is_one = looks_like_git_dir(dir);
        self.known.borrow_mut().insert(dir.to_path_buf(), is_one);
        is_one
    }

    /// Returns the repository around a path, if there is one; the repository's own directory is not
    /// in it.
    pub fn around(&self, path: &Path) -> Option<Inside> {
        for above in path.ancestors().skip(1) {
            let name = above.file_name().and_then(|name| name.to_str());
            let is_unit = name.is_some_and(|name| UNITS.contains(&name));
            if !is_unit && !self.is_git_dir(above) {
                continue;
            }
            let below = path.strip_prefix(above).ok()?;
            let is_store = if is_unit {
                let name = name.unwrap_or_default();
                OTHER_STORES.iter().any(|store| {
                    let rest = store.strip_prefix(name).and_then(|s| s.strip_prefix('/'));
                    rest.is_some_and(|rest| below.starts_with(rest) && below != Path::new(rest))
                })
            } else {
                GIT_STORES
                    .iter()
                    .any(|store| below.starts_with(store) && below != Path::new(store))
            };
            let part = match () {
                () if is_store => Part::Store,
                () if !is_unit && below.starts_with("refs") => Part::Ref,
                () => Part::Other,
            };
            return Some(Inside {
                top: above.to_path_buf(),
                part,
                is_unit,
            });
        }
        is_other_store(path).map(|top| Inside {
            top,
            part: Part::Store,
            is_unit: false,
        })
    }
}

/// Returns true if git would accept a directory: a HEAD, and objects of its own or a reference to
/// them.
fn looks_like_git_dir(dir: &Path) -> bool {
    let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    is_there("HEAD") && (is_there("objects") || is_there("commondir"))
}

/// Returns the store of a tool that has no recognisable directory above it here.
fn is_other_store(path: &Path) -> Option<PathBuf> {
    let dvc = Path::new(".dvc/cache");
    let above = path.ancestors().skip(1);
    above
        .into_iter()
        .find(|dir| dir.ends_with(dvc))
        .map(Path::to_path_buf)
}

/// Returns the directories that a set of paths makes git directories: those with a HEAD and
/// objects, or a reference to them.
pub fn git_dirs_of<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found: HashMap<&Path, u8> = HashMap::new();
    for path in paths {
        let bit = match path.file_name().and_then(|name| name.to_str()) {
            Some("HEAD") => 1,
            Some("objects" | "commondir") => 2,
            _ => continue,
        };
        if let Some(parent) = path.parent() {
            *found.entry(parent).or_default() |= bit;
        }
    }
    let dirs = found.into_iter().filter(|(_, bits)| *bits == 3);
    dirs.map(|(dir, _)| dir.to_path_buf()).collect()
}

/// Returns the ref that a HEAD checks out, if it names one.
pub fn checked_out(head: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(head).ok()?;
    let name = text.trim_end().strip_prefix("ref:")?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the files that say what is checked out in a repository and its work trees.
pub fn heads(git_dir: &Path) -> Vec<PathBuf> {
    let mut heads = vec![git_dir.join("HEAD")];
    let trees = crate::disk::fsutil::read_dir(git_dir.join("worktrees"));
    heads.extend(
        trees
            .into_iter()
            .flatten()
            .flatten()
            .map(|tree| tree.path().join("HEAD")),
    );
    heads
}

/// Returns a keyed digest of what a git index lists: content and mode by name. The recorded file
/// times do not count, because git refreshes these whenever somebody looks. `None` if it is no
/// readable index.
pub fn index_meaning(path: &Path, key: &Key) -> Option<Digest> {
    let index = git2::Index::open(path).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for entry in index.iter() {
        mac.update(&(entry.path.len() as u64).to_le_bytes());
        mac.update(&entry.path);
        mac.update(entry.id.as_bytes());
        mac.update(&entry.mode.to_le_bytes());
        // The lower bits are the length of the name.
        mac.update(&(entry.flags & 0xf000).to_le_bytes());
        mac.update(&entry.flags_extended.to_le_bytes());
    }
    Some(Digest(mac.finalize().into_bytes().into()))
}

/// Returns the id of the object in a loose file below `objects`.
pub fn loose_object(path: &Path) -> Option<git2::Oid> {
    let name = path.file_name().map(os_to_bytes)?;
    let dir = path.parent()?.file_name().map(os_to_bytes)?;
    let text = [&dir[..], &name[..]].concat();
    let is_hex = text.len() == 40 && text.iter().all(u8::is_ascii_hexdigit);
    git2::Oid::from_str(std::str::from_utf8(&text).ok().filter(|_| is_hex)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_where_they_lie() {
        let repositories =
            Repositories::knowing(["/w/.git", "/w/.git/worktrees/x"].map(PathBuf::from));
        let part = |path: &str| {
            repositories
                .around(Path::new(path))
                .map(|inside| inside.part)
        };
        for (path, expected) in [
            ("/w/a", None),
            ("/w/.git", None),
            ("/w/.git/objects", Some(Part::Other)),
            ("/w/.git/objects/ab/cd", Some(Part::Store)),
            ("/w/.git/objects/pack/pack-1.idx", Some(Part::Store)),
            ("/w/.git/lfs/objects/ab/cd/e", Some(Part::Store)),
            ("/w/.git/annex/objects/x", Some(Part::Store)),
            ("/w/.git/reftable/0x1.ref", Some(Part::Store)),
            ("/w/.git/refs/heads/main", Some(Part::Ref)),
            ("/w/.git/logs/refs/heads/main", Some(Part::Other)),
            ("/w/.git/worktrees/x/HEAD", Some(Part::Other)),
            ("/w/.git/packed-refs", Some(Part::Other)),
            ("/w/.jj/repo/store/git/x", Some(Part::Store)),
            ("/w/.hg/store/00changelog.i", Some(Part::Store)),
            ("/w/.hg/dirstate", Some(Part::Other)),
            ("/w/.dvc/cache/ab/cd", Some(Part::Store)),
        ] {
            assert_eq!(part(path), expected, "{path}");
        }
        assert!(
            repositories
                .around(Path::new("/w/.hg/dirstate"))
                .is_some_and(|i| i.is_unit)
        );
    }

    #[test]
    fn a_set_of_paths_tells_which_directories_are_repositories() {
        let paths = [
            "/r/.git/HEAD",
            "/r/.git/objects",
            "/r/x/HEAD",
            "/b/commondir",
            "/b/HEAD",
        ];
        let mut found = git_dirs_of(paths.iter().map(Path::new));
        found.sort();
        assert_eq!(found, [PathBuf::from("/b"), PathBuf::from("/r/.git")]);
    }

    #[test]
    fn a_head_names_what_is_checked_out() {
        assert_eq!(
            checked_out(b"ref: refs/heads/main\n").as_deref(),
            Some("refs/heads/main")
        );
        assert_eq!(checked_out(b"2f1d\n"), None);
    }
}
