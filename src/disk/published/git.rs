//! What the remotes of a git repository have, as far as its remote-tracking branches say.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, RepositoryOpenFlags};

use super::MAX_BYTES;
use crate::disk::fsutil;
use crate::privacy::{self, Rules};

/// Most remote-tracking branches that are asked.
const BRANCHES: usize = 32;
/// How many commits of each of the first two are asked, when the tips do not have it.
const COMMITS: usize = 64;
/// Most versions of one file that are read.
const VERSIONS: usize = 24;
/// Alternates of alternates, as git allows.
const DEPTH: usize = 5;

/// A work tree with branches of a remote.
pub(super) struct Checkout {
    repository: Repository,
    /// What is checked out.
    head: Oid,
    /// Names and tips, the best first; a commit that the remote has and the checkout comes from.
    branches: Vec<(String, Oid)>,
    common: Vec<(String, Oid)>,
}

pub(super) enum Found {
    /// The remote has the same bytes.
    All(Arc<str>),
    /// It has these values in a version of the file.
    Values(HashMap<Vec<u8>, Arc<str>>),
}

impl Checkout {
    /// `None` if nothing of it can be told to be public: it is of somebody else, or has no remote.
    pub(super) fn open(top: &Path) -> Option<Self> {
        let none: [&Path; 0] = [];
        // Refuses what another user owns, as git does.
        let flags = RepositoryOpenFlags::NO_SEARCH;
        let repository = Repository::open_ext(top, flags, none).ok()?;
        let objects = repository.commondir().join("objects");
        let all_own = !fsutil::is_of_another(repository.path())
            && !fsutil::is_of_another(repository.commondir())
            && is_own_store(&objects, DEPTH);
        if !all_own {
            return None;
        }
        let head = repository.head().ok()?.peel_to_commit().ok()?.id();
        let branches = branches(&repository);
        let common = branches.iter().take(BRANCHES / 4);
        let common = common.filter_map(|(name, tip)| {
            let both = repository.merge_base(head, *tip).ok()?;
            (both != *tip).then(|| (name.clone(), both))
        });
        let common = common.collect();
        (!branches.is_empty()).then_some(Self {
            repository,
            head,
            branches,
            common,
        })
    }

    /// Looks for a file of the work tree, and for values in it.
    pub(super) fn find(
        &self,
        path: &Path,
        bytes: &[u8],
        mut values: HashSet<Vec<u8>>,
        rules: &Rules,
    ) -> Found {
        let mut places = HashMap::new();
        // Not tracked: whatever a remote has under this name is another file.
        if self.blob(self.head, path).is_none() {
            return Found::Values(places);
        }
        let same = same_as(bytes);
        let mut seen = HashSet::new();
        let tips = self.branches.iter().chain(&self.common).cloned();
        let history = self.branches.iter().take(2).flat_map(|(name, tip)| {
            let commits = self.history(*tip).into_iter();
            commits.map(|commit| (name.clone(), commit))
        });
        for (name, commit) in tips.chain(history) {
            let Some(blob) = self.blob(commit, path).filter(|blob| seen.insert(*blob)) else {
                continue;
            };
            let id = commit.to_string();
            let place: Arc<str> = format!("stands in {name}, commit {}", &id[..7]).into();
            if same.contains(&blob) {
                return Found::All(place);
            }
            for value in self.values_of(blob, path, rules) {
                if let Some(value) = values.take(&value) {
                    places.insert(value, Arc::clone(&place));
                }
            }
            if seen.len() >= VERSIONS {
                break;
            }
        }
        Found::Values(places)
    }

    /// Returns the content of a file in a commit.
    fn blob(&self, commit: Oid, path: &Path) -> Option<Oid> {
        let tree = self.repository.find_commit(commit).ok()?.tree().ok()?;
        let entry = tree.get_path(path).ok()?;
        (entry.kind() == Some(ObjectType::Blob)).then(|| entry.id())
    }

    /// Returns the last commits of a branch, without those that were merged into it. A shallow
    /// clone ends earlier.
    fn history(&self, tip: Oid) -> Vec<Oid> {
        let walk = || {
            let mut walk = self.repository.revwalk().ok()?;
            walk.simplify_first_parent().ok()?;
            walk.push(tip).ok()?;
            Some(walk)
        };
        let walk = walk().into_iter().flatten();
        walk.skip(1).map_while(Result::ok).take(COMMITS).collect()
    }

    /// Returns the values that would be sealed in a version of a file.
    fn values_of(&self, blob: Oid, path: &Path, rules: &Rules) -> Vec<Vec<u8>> {
        let odb = self.repository.odb().ok();
        let size = odb.as_ref().and_then(|odb| odb.read_header(blob).ok());
        if size.is_none_or(|(size, _)| size as u64 > MAX_BYTES) {
            return Vec::new();
        }
        let Ok(blob) = self.repository.find_blob(blob) else {
            return Vec::new();
        };
        let path = crate::base::path::os_to_bytes(path.as_os_str());
        let rules = Rules {
            allow: Vec::new(),
            ..rules.clone()
        };
        let examined = privacy::examine(&path, blob.content(), &rules);
        let values = examined.values(blob.content());
        values.map(<[u8]>::to_vec).collect()
    }
}

/// Returns the objects that a file is, as it is and with the line ends that git stores.
fn same_as(bytes: &[u8]) -> Vec<Oid> {
    let id = |bytes: &[u8]| Oid::hash_object(ObjectType::Blob, bytes).ok();
    let mut all: Vec<Oid> = id(bytes).into_iter().collect();
    if memchr::memmem::find(bytes, b"\r\n").is_some() {
        let mut unix = Vec::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            if !(*byte == b'\r' && bytes.get(at + 1) == Some(&b'\n')) {
                unix.push(*byte);
            }
        }
        all.extend(id(&unix));
    }
    all
}

/// Returns the branches of the remotes that the configuration names: first the one that the
/// checked-out branch follows.
fn branches(repository: &Repository) -> Vec<(String, Oid)> {
    let mut found: Vec<(String, Oid)> = Vec::new();
    let mut add = |reference: git2::Reference<'_>| {
        let name = reference.name().ok().map(str::to_owned);
        let name = name.and_then(|name| Some(name.strip_prefix("refs/remotes/")?.to_owned()));
        if let (Some(name), Ok(commit)) = (name, reference.peel_to_commit()) {
            found.push((name, commit.id()));
        }
    };
    let upstream = || {
        let head = repository.head().ok()?;
        let name = repository.branch_upstream_name(head.name().ok()?).ok()?;
        repository.find_reference(name.as_str().ok()?).ok()
    };
    if let Some(reference) = upstream() {
        add(reference);
    }
    let Ok(remotes) = repository.remotes() else {
        return found;
    };
    for remote in remotes.iter().filter_map(|name| name.ok().flatten()) {
        // A section without an address is no remote.
        let has_url = repository.find_remote(remote);
        if !has_url.is_ok_and(|remote| remote.url().is_ok_and(|url| !url.is_empty())) {
            continue;
        }
        let all = repository.references_glob(&format!("refs/remotes/{remote}/*"));
        for reference in all.into_iter().flatten().flatten().take(BRANCHES) {
            add(reference);
        }
    }
    let mut seen = HashSet::new();
    found.retain(|(_, tip)| seen.insert(*tip));
    found.truncate(BRANCHES);
    found
}

/// Returns true if an object store and all others that it borrows from are this user's.
fn is_own_store(objects: &Path, depth: usize) -> bool {
    if fsutil::is_of_another(objects) {
        return false;
    }
    let list = objects.join("info/alternates");
    let text = match std::fs::read(&list) {
        Ok(text) => text,
        Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
    };
    if depth == 0 || fsutil::is_of_another(&list) {
        return false;
    }
    let lines = text.split(|b| matches!(b, b'\n' | b'\r'));
    let mut lines = lines.filter(|line| !line.is_empty() && line[0] != b'#');
    lines.all(|line| {
        // A quoted path: nobody writes one by hand.
        let other: PathBuf = crate::base::path::os_from_bytes(line).into();
        line[0] != b'"' && is_own_store(&objects.join(other), depth - 1)
    })
}
