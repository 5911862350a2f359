//! What a captured command touched, by what became of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::journal::{Before, Held, Set};
use super::keep::{now_at, xattrs_at};
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil;
use crate::model::manifest::{Content, Kind, Stat, Time};
use crate::privacy;
use crate::repo::Repository;
use crate::repo::kept::KeptSet;
use crate::repo::oplog::RootChanges;
use crate::repo::snapshot::PathNote;
use crate::repo::touches::Touch;

/// What all paths are below while they are sorted.
pub(super) const TOP: &str = "/";

/// What there is to record.
pub(super) struct Taken {
    pub(super) before: HashMap<PathBuf, Option<Box<Before>>>,
    pub(super) sets: Vec<(Set, Vec<(u64, Time)>)>,
    /// Copies in the sets, whose content is not on disk yet: numbers of the set and in it.
    pub(super) copies: Vec<(usize, u32)>,
    /// Where the command ran.
    pub(super) cwd: PathBuf,
    /// Paths in mounts that cannot be reached from here.
    pub(super) foreign: Vec<PathBuf>,
    /// Calls that could not be looked at.
    pub(super) unseen: u64,
}

impl Taken {
    /// Returns the bytes in sets that are too large to be packed.
    pub(super) fn lasting(&self, pack_bytes: u64) -> u64 {
        let of_set = |files: &Vec<(u64, Time)>| files.iter().map(|(size, _)| size).sum();
        let sets = self.sets.iter().map(|(_, files)| of_set(files));
        sets.filter(|bytes: &u64| *bytes > pack_bytes).sum()
    }
}

/// What was touched, by what became of it.
pub(super) struct Sorted {
    pub(super) never: Vec<PathBuf>,
    /// Where the command ran, if that is a directory of this user.
    pub(super) cwd: Option<RepoPath>,
    /// Files of which the staging areas have a name.
    pub(super) linked: HashSet<(u64, u64)>,
    /// What is gone or different now, as it was.
    pub(super) entries: BTreeMap<RepoPath, (Box<Before>, PathBuf)>,
    pub(super) gone: BTreeSet<RepoPath>,
    /// Files and symlinks that were touched and are as they were.
    standing: Vec<(RepoPath, Box<Before>, PathBuf)>,
    pub(super) modified: BTreeMap<RepoPath, Stat>,
    pub(super) created: BTreeMap<RepoPath, Stat>,
    pub(super) lost: BTreeSet<RepoPath>,
    pub(super) altered: BTreeSet<RepoPath>,
    pub(super) not_captured: Vec<PathNote>,
    /// Files whose content was never threatened, with their numbers in sets that are made at the end.
    pub(super) in_place: HashMap<RepoPath, Content>,
    pub(super) later_sets: Vec<KeptSet>,
    /// The changes for the end record.
    pub(super) changes: Vec<RootChanges>,
    /// Files of which nothing changed but the ctime, by a second name of bdr's: as they were.
    same: Vec<(PathBuf, Stat)>,
}

impl Sorted {
    pub(super) fn new(repo: &Repository, never: &[PathBuf], taken: &Taken) -> Self {
        let mut never: Vec<PathBuf> = never.to_vec();
        never.extend(repo.own_paths());
        never.extend(
            taken
                .sets
                .iter()
                .map(|(set, _)| set.dir.as_path().to_path_buf()),
        );
        let kept = taken.before.values().flatten();
        let kept = kept.filter(|before| matches!(before.content, Held::Kept(..)));
        let cwd = Some(&taken.cwd).filter(|cwd| is_own_place(cwd));
        Self {
            never,
            cwd: cwd.and_then(|cwd| RepoPath::below(Path::new(TOP), cwd)),
            linked: kept.map(|one| (one.stat.device, one.stat.inode)).collect(),
            entries: BTreeMap::new(),
            gone: BTreeSet::new(),
            standing: Vec::new(),
            modified: BTreeMap::new(),
            created: BTreeMap::new(),
            lost: BTreeSet::new(),
            altered: BTreeSet::new(),
            not_captured: Vec::new(),
            in_place: HashMap::new(),
            later_sets: Vec::new(),
            changes: Vec::new(),
            same: Vec::new(),
        }
    }

    /// Remembers what bdr did to the ctime of files that stay as they were, once its second names are
    /// gone: an older operation may have left them.
    pub(super) fn note_touches(&mut self, repo: &Repository) {
        let same = std::mem::take(&mut self.same).into_iter();
        let touches = same.filter_map(|(path, was)| Touch::between(&was, &now_at(&path)?));
        repo.note_touches(&touches.collect::<Vec<_>>());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.created.is_empty()
            && self.lost.is_empty()
            && self.altered.is_empty()
    }

    /// Compares a path with what is there now.
    pub(super) fn sort(&mut self, path: &Path, before: Option<Box<Before>>) {
        let Some(below) = RepoPath::below(Path::new(TOP), path) else {
            return;
        };
        if self.never.iter().any(|never| path.starts_with(never)) {
            return;
        }
        let now = now_at(path);
        let Some(before) = before else {
            if let Some(now) = now {
                self.made(path, below, now);
            }
            return;
        };
        let is_same = now.is_some_and(|now| self.is_same(path, &before, &now));
        if is_same {
            if before.stat.kind == Kind::File {
                self.same.push((path.to_path_buf(), before.stat));
            }
            let has_names = matches!(before.stat.kind, Kind::File | Kind::Symlink);
            if before.stat.links > 1 && has_names {
                // Another name of a file of which a name is gone or written to: one file again.
                let entry = (before.clone(), path.to_path_buf());
                self.entries.insert(below.clone(), entry);
            }
            if has_names {
                self.standing.push((below, before, path.to_path_buf()));
            }
            return;
        }
        if before.withheld {
            self.not_captured.push(PathNote {
                path: RawName(path.as_os_str().to_owned()),
                reason: privacy::IN_ATTRIBUTE.to_owned(),
            });
        }
        if let Some(reason) = why_not_kept(&below, &before, now.is_some()) {
            self.not_captured.push(PathNote {
                path: RawName(path.as_os_str().to_owned()),
                reason,
            });
            match now {
                Some(_) => self.altered.insert(below),
                None => self.lost.insert(below),
            };
            return;
        }
        match now {
            Some(now) => {
                self.modified.insert(below.clone(), now);
            }
            None => {
                self.gone.insert(below.clone());
            }
        }
        self.entries.insert(below, (before, path.to_path_buf()));
    }

    /// Where another file has taken the place of a name and looks the same, the other names of both
    /// have changed too: that they are one file, or no longer. An undo would not see it from the one.
    pub(super) fn note_parted(&mut self) {
        let of_file = |stat: &Stat| (stat.device, stat.inode);
        let mut touched = HashSet::new();
        for (path, now) in &self.modified {
            let Some((before, _)) = self.entries.get(path) else {
                continue;
            };
            let was = &before.stat;
            let looks_same = was.kind == now.kind
                && (was.kind == Kind::Symlink || (was.size, was.mtime) == (now.size, now.mtime));
            if looks_same && of_file(was) != of_file(now) && (was.links > 1 || now.links > 1) {
                touched.extend([of_file(was), of_file(now)]);
            }
        }
        let standing = std::mem::take(&mut self.standing);
        if touched.is_empty() {
            return;
        }
        for (below, before, path) in standing {
            if touched.contains(&of_file(&before.stat))
                && let Some(now) = now_at(&path)
            {
                self.entries.insert(below.clone(), (before, path));
                self.modified.insert(below, now);
            }
        }
    }

    /// Compares paths below directories that the command has closed to their owner.
    pub(super) fn sort_closed(
        &mut self,
        closed: Vec<(PathBuf, Option<Box<Before>>)>,
    ) -> fsutil::Opened {
        let mut opened = fsutil::Opened::default();
        for (path, _) in &closed {
            opened.way(Path::new(TOP), path);
        }
        for (path, before) in closed {
            self.sort(&path, before);
        }
        opened
    }

    /// Closes directories again, and notes how they are then.
    pub(super) fn look_again(&mut self, opened: fsutil::Opened) {
        let paths = opened.paths();
        drop(opened);
        for path in paths {
            let below = RepoPath::below(Path::new(TOP), &path);
            let noted = below.and_then(|below| self.modified.get_mut(&below));
            if let (Some(noted), Some(now)) = (noted, now_at(&path)) {
                *noted = now;
            }
        }
    }

    /// Returns true if nothing has changed. A link of bdr's own changes the ctime of a file.
    pub(super) fn is_same(&self, path: &Path, before: &Before, now: &Stat) -> bool {
        let was = &before.stat;
        let same = (was.kind, was.mode, was.uid, was.gid) == (now.kind, now.mode, now.uid, now.gid)
            && was.mtime == now.mtime
            && was.size == now.size
            && (was.device, was.inode) == (now.device, now.inode);
        let is_by_us = self.linked.contains(&(now.device, now.inode));
        same && (was.ctime == now.ctime
            || (is_by_us || now.kind == Kind::Dir)
                && xattrs_at(path).is_some_and(|found| found == before.xattrs))
    }

    /// Notes what was made, with everything in it.
    pub(super) fn made(&mut self, path: &Path, below: RepoPath, now: Stat) {
        if self.never.iter().any(|never| path.starts_with(never)) {
            return;
        }
        if now.kind == Kind::Dir {
            for entry in fsutil::read_dir(path).into_iter().flatten().flatten() {
                let inner = entry.path();
                if let (Some(stat), Some(below)) =
                    (now_at(&inner), RepoPath::below(Path::new(TOP), &inner))
                {
                    self.made(&inner, below, stat);
                }
            }
        }
        self.created.insert(below, now);
    }
}

/// Returns true if a path cannot be looked at, because of a directory above it.
pub(super) fn is_closed(path: &Path) -> bool {
    matches!(rustix::fs::lstat(path), Err(rustix::io::Errno::ACCESS))
}

/// Returns why the snapshot cannot have an object as it was.
fn why_not_kept(path: &RepoPath, before: &Before, is_there: bool) -> Option<String> {
    if privacy::is_secret_name(path.name()) {
        return Some("a secret in its name".to_owned());
    }
    if before.stat.kind == Kind::Symlink && privacy::is_secret_text(&before.target) {
        return Some(privacy::IN_TARGET.to_owned());
    }
    if !before.stat.kind.is_stored() {
        return Some(format!("a {} is not stored", before.stat.kind.word()));
    }
    match &before.content {
        Held::Lost(reason) => Some(reason.clone()),
        Held::InPlace if !is_there => Some("it went without a call that was seen".to_owned()),
        _ => None,
    }
}

/// Returns true for a directory that is this user's, or root's for root, and not everybody's.
pub(super) fn is_own_place(dir: &Path) -> bool {
    now_at(dir).is_some_and(|now| {
        let is_own = fsutil::is_own(&now) || fsutil::is_root();
        now.kind == Kind::Dir && now.mode & 0o1000 == 0 && is_own
    })
}
