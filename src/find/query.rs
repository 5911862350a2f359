//! Questions about the content of snapshots: versions of a file, files by pattern, differences.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use globset::GlobBuilder;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, SnapshotId};
use crate::base::monitor::Monitor;
use crate::base::path::{RepoPath, show};
use crate::find::select::candidates;
use crate::model::manifest::{Body, Change, Content, Entry, Kind, diff as diff_listings};
use crate::model::rules::{Matcher, Rules};
use crate::protect::compare::{Compared, Differing, Standing};
use crate::protect::walk::RootHandle;
use crate::repo::Repository;
use crate::repo::kept::digest_of;
use crate::repo::snapshot::{RootRecord, Snapshot};
use crate::repo::state::{Stat, entry_of};

#[derive(Debug, Clone)]
pub struct Version {
    /// The first snapshot that has it.
    pub snapshot: SnapshotId,
    pub seq: u64,
    pub time: DateTime<Utc>,
    /// `None` if it is gone from here on.
    pub entry: Option<Entry>,
    /// Absolute original path.
    pub path: PathBuf,
}

/// Looks up entries without building listings: a key frame is read once for each path.
struct Lookup<'a> {
    repo: &'a Repository,
    found: HashMap<(Digest, RepoPath), Option<Entry>>,
}

impl Lookup<'_> {
    fn entry(&mut self, root: &RootRecord, path: &RepoPath) -> Result<Option<Entry>> {
        if let Some(entry) = root.changed.iter().find(|e| e.path == *path) {
            return Ok(Some(entry.clone()));
        }
        let Some(base) = root.base else {
            return Ok(None);
        };
        if root.removed.iter().any(|r| path.starts_with(r)) {
            return Ok(None);
        }
        let key = (base, path.clone());
        if let Some(known) = self.found.get(&key) {
            return Ok(known.clone());
        }
        let found = self.repo.keyframe_of(base, &|p| p == path)?.pop();
        self.found.insert(key, found.clone());
        Ok(found)
    }
}

/// Returns the versions of a path, oldest first: one for each change.
///
/// # Errors
/// No snapshot has the path.
pub fn history(
    repo: &Repository,
    snapshots: &[Snapshot],
    cwd: &Path,
    text: &OsStr,
) -> Result<Vec<Version>> {
    let mut lookup = Lookup {
        repo,
        found: HashMap::new(),
    };
    let mut versions: Vec<Version> = Vec::new();
    for snapshot in snapshots {
        let mut covered = None;
        let mut found = None;
        for candidate in candidates(snapshot, cwd, text) {
            let Some(root) = snapshot.root(&candidate.root) else {
                continue;
            };
            let path = candidate.path.to_path(root.path.as_path());
            if root
                .left_out
                .iter()
                .any(|l| candidate.path.starts_with(&l.path))
            {
                continue;
            }
            if let Some(entry) = lookup.entry(root, &candidate.path)? {
                found = Some((path, entry));
                break;
            }
            // One that names what it has, as that of a captured command does, says nothing of the rest.
            if Matcher::new(&root.rules).is_ok_and(|rules| rules.covers(&candidate.path)) {
                covered.get_or_insert(path);
            }
        }
        let last = versions.last();
        let version = |path, entry| Version {
            snapshot: snapshot.id,
            seq: snapshot.seq,
            time: snapshot.time,
            entry,
            path,
        };
        match (found, covered) {
            (Some((path, entry)), _) => {
                let same = last
                    .and_then(|v| v.entry.as_ref())
                    .is_some_and(|e| e.same_object(&entry, true));
                if !same {
                    versions.push(version(path, Some(entry)));
                }
            }
            // Gone only if a root that had it still covers the place.
            (None, Some(path)) => {
                if last.is_some_and(|v| v.entry.is_some() && v.path == path) {
                    versions.push(version(path, None));
                }
            }
            (None, None) => {}
        }
    }
    if versions.is_empty() {
        return Err(Error::NoSuchPath {
            path: show(text),
            place: "any snapshot".to_owned(),
        });
    }
    Ok(versions)
}

#[derive(Debug, Clone)]
pub struct Found {
    pub root: String,
    /// Absolute original path.
    pub path: PathBuf,
    pub entry: Entry,
    /// The newest snapshot that has it.
    pub snapshot: SnapshotId,
    pub time: DateTime<Utc>,
    /// The newest snapshot of its root has it.
    pub current: bool,
}

/// Finds paths by a glob: against the name if it has no `/`, otherwise against the absolute path or
/// the path below the root.
///
/// # Errors
/// It is not a valid glob, or a listing is damaged.
pub fn find(repo: &Repository, snapshots: &[Snapshot], glob: &str) -> Result<Vec<Found>> {
    let matcher = GlobBuilder::new(glob)
        .literal_separator(glob.contains('/'))
        .case_insensitive(false)
        .build()
        .map_err(|e| Error::invalid(format!("the pattern `{glob}` is wrong: {}", e.kind()), None))?
        .compile_matcher();
    let by_name = !glob.contains('/');
    let mut found: BTreeMap<PathBuf, Found> = BTreeMap::new();
    let mut newest: HashMap<PathBuf, SnapshotId> = HashMap::new();
    // What newer snapshots cover of a root: what they have not is gone.
    let mut newer: HashMap<PathBuf, Vec<(&Rules, Matcher)>> = HashMap::new();
    let mut seen_frames: HashMap<(PathBuf, Digest), ()> = HashMap::new();
    for snapshot in snapshots.iter().rev() {
        for root in &snapshot.roots {
            let root_path = root.path.as_path().to_path_buf();
            let latest = *newest.entry(root_path.clone()).or_insert(snapshot.id);
            let later = newer.get(&root_path);
            let is_gone = |path: &RepoPath| {
                let mut later = later.into_iter().flatten();
                later.any(|(_, rules)| rules.covers(path))
            };
            let mut consider = |entry: &Entry| {
                let path = entry.path.to_path(&root_path);
                let name = path.file_name().unwrap_or_default();
                let fits = if by_name {
                    matcher.is_match(Path::new(name))
                } else {
                    matcher.is_match(&path)
                        || matcher.is_match(Path::new(&crate::base::path::os_from_bytes(
                            entry.path.as_bytes(),
                        )))
                };
                if fits {
                    found.entry(path.clone()).or_insert_with(|| Found {
                        root: root.name.to_string(),
                        path,
                        entry: entry.clone(),
                        snapshot: snapshot.id,
                        time: snapshot.time,
                        current: !is_gone(&entry.path),
                    });
                }
            };
            // A base seen before adds nothing, unless entries of it were removed since, whose paths
            // were found already.
            let known = root
                .base
                .is_some_and(|base| seen_frames.contains_key(&(root_path.clone(), base)));
            if known && root.removed.is_empty() && latest != snapshot.id {
                root.changed.iter().for_each(&mut consider);
            } else {
                repo.listing(root)?.iter().for_each(&mut consider);
            }
            let all = newer.entry(root_path.clone()).or_default();
            if !all.iter().any(|(rules, _)| **rules == root.rules)
                && let Ok(rules) = Matcher::new(&root.rules)
            {
                all.push((&root.rules, rules));
            }
            if let Some(base) = root.base
                && root.removed.is_empty()
            {
                seen_frames.insert((root_path.clone(), base), ());
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Returns every version of the found paths, newest first, each with the newest snapshot that has
/// it.
///
/// # Errors
/// A listing is damaged.
pub fn versions(repo: &Repository, snapshots: &[Snapshot], found: &[Found]) -> Result<Vec<Found>> {
    let mut lookup = Lookup {
        repo,
        found: HashMap::new(),
    };
    let mut all: Vec<Found> = Vec::new();
    for one in found {
        let from = all.len();
        for snapshot in snapshots.iter().rev() {
            let Some(root) = snapshot.roots.iter().find(|root| root.name == one.root) else {
                continue;
            };
            let Some(path) = RepoPath::below(root.path.as_path(), &one.path) else {
                continue;
            };
            let Some(entry) = lookup.entry(root, &path)? else {
                continue;
            };
            let known = all[from..].last();
            if known.is_some_and(|newer| newer.entry.same_object(&entry, true)) {
                continue;
            }
            all.push(Found {
                entry,
                snapshot: snapshot.id,
                time: snapshot.time,
                current: one.current && all.len() == from,
                ..one.clone()
            });
        }
    }
    Ok(all)
}

/// The differences in one root: its name, its path, the changes.
pub type RootDiff = (String, PathBuf, Vec<Change>);

/// Compares two snapshots, or a snapshot with the files as they are now.
///
/// # Errors
/// A listing is damaged, or a root cannot be read.
pub fn diff(
    repo: &Repository,
    a: &Snapshot,
    b: Option<&Snapshot>,
    monitor: &dyn Monitor,
) -> Result<Vec<RootDiff>> {
    let mut result = Vec::new();
    for old in &a.roots {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let changes = match b {
            None => changes_on_disk(repo, old)?,
            Some(b) => match partner(old, &a.roots, &b.roots) {
                Some(new) => diff_listings(&repo.listing(old)?, &repo.listing(new)?),
                // The other does not cover it, so nothing can be said.
                None => continue,
            },
        };
        result.push((
            old.name.to_string(),
            old.path.as_path().to_path_buf(),
            changes,
        ));
    }
    if let Some(b) = b {
        for new in b
            .roots
            .iter()
            .filter(|new| partner(new, &b.roots, &a.roots).is_none())
        {
            let added = repo.listing(new)?.into_iter().map(Change::Added).collect();
            result.push((
                new.name.to_string(),
                new.path.as_path().to_path_buf(),
                added,
            ));
        }
    }
    Ok(result)
}

/// Returns the root among `others` that is the same source as one of `own`: same place and name.
/// Several sources may share a place, so a match by place alone counts only if no other root there
/// is possible: then the source was renamed.
fn partner<'s>(
    root: &RootRecord,
    own: &[RootRecord],
    others: &'s [RootRecord],
) -> Option<&'s RootRecord> {
    let same = |a: &RootRecord, b: &RootRecord| a.path == b.path && a.name == b.name;
    if let Some(found) = others.iter().find(|other| same(other, root)) {
        return Some(found);
    }
    let renamed = |list: &'s [RootRecord], among: &[RootRecord]| -> Vec<&'s RootRecord> {
        let there = list.iter().filter(|one| one.path == root.path);
        there
            .filter(|one| !among.iter().any(|other| same(one, other)))
            .collect()
    };
    let mut there = own.iter().filter(|one| one.path == root.path);
    let alone = there.all(|one| one.name == root.name || others.iter().any(|o| same(o, one)));
    match renamed(others, own)[..] {
        [one] if alone => Some(one),
        _ => None,
    }
}

/// Compares a snapshot's root with what is there now. What is left out now counts as gone, because
/// a new snapshot would not have it.
fn changes_on_disk(repo: &Repository, record: &RootRecord) -> Result<Vec<Change>> {
    let compared = Compared::of(repo, record, &repo.own_paths())?;
    let now = |path: &RepoPath, standing: &Standing, old: Option<&Entry>| {
        let handle = compared.present.handle.as_ref()?;
        let known = standing.body.clone();
        let body = known.or_else(|| read(repo, handle, path, &standing.stat, old))?;
        let entry = entry_of(path.clone(), &standing.stat, body);
        repo.resolve_all(vec![entry]).pop()
    };
    let differences = compared.differences(repo, &|_| false);
    let mut changes: Vec<Change> = differences
        .filter_map(|differing| match differing {
            Differing::New(path, standing) => now(path, standing, None).map(Change::Added),
            Differing::Gone(entry) => Some(Change::Removed(entry.clone())),
            Differing::Altered(entry, standing) => {
                match now(&entry.path, standing, Some(entry)) {
                    Some(new) => Change::between(entry, &new),
                    // Gone since it was listed.
                    None => Some(Change::Removed(entry.clone())),
                }
            }
        })
        .collect();
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(changes)
}

/// Reads an existing object; `None` if that is impossible.
fn read(
    repo: &Repository,
    handle: &RootHandle,
    path: &RepoPath,
    stat: &Stat,
    old: Option<&Entry>,
) -> Option<Body> {
    let mut body = Body::default();
    match stat.kind {
        Kind::File => {
            let mut file = match handle.open_file(path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                // Unknown, not gone.
                Err(_) => return old.map(|old| old.body.clone()),
            };
            body.xattrs = RootHandle::xattrs(&file).ok()?;
            if stat.size == 0 {
                return Some(body);
            }
            // Sealed content, and kept content that is not packed, has no digest to compare.
            let alike = old.filter(|old| {
                let kept = old.body.content.as_ref().and_then(Content::as_kept);
                old.size == stat.size && (old.body.sealed.is_some() || kept.is_some())
            });
            if let Some(old) = alike.filter(|old| repo.has_content(&old.body, &mut file)) {
                body.content.clone_from(&old.body.content);
                body.sealed.clone_from(&old.body.sealed);
            } else {
                let digest = digest_of(&mut handle.open_file(path).ok()?)?;
                body.content = Some(Content::whole(digest, stat.size));
            }
        }
        Kind::Symlink => {
            body.target = handle.read_link(path).unwrap_or_default();
            body.xattrs = handle.xattrs_at(path, stat.kind).ok()?;
        }
        Kind::Dir => body.xattrs = handle.xattrs_at(path, stat.kind).ok()?,
        _ => {}
    }
    Some(body)
}
