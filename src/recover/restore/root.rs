//! Plans a restore of one root: what comes back, what goes, what stays.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Action, Kept, Overwrite, RestoreOptions, RestorePlan, SecretStep, Step, sealed};
use crate::base::error::{self, Result};
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::Opened;
use crate::disk::sqlite;
use crate::model::compare::{Differences, Groups};
use crate::model::manifest::{Entry, Flag, Kind, Stat};
use crate::model::rules::{Origin, Root};
use crate::protect::walk::{WalkOptions, walk};
use crate::protect::work::{Act, Job};
use crate::recover::apart::{self, APART};
use crate::recover::site::{Site, locate};
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, RootRecord};

/// For nested roots: the places planned so far, and those that any root lists.
#[derive(Default)]
pub(super) struct Once {
    pub(super) overlaps: bool,
    planned: HashSet<PathBuf>,
    listed: HashSet<PathBuf>,
}

impl Once {
    pub(super) fn of(records: &[RootRecord]) -> Self {
        let paths = || records.iter().map(|record| record.path.as_path());
        let lies_in = |path: &Path| paths().filter(|other| path.starts_with(other)).count() > 1;
        Self {
            overlaps: paths().any(lies_in),
            ..Self::default()
        }
    }

    /// Notes what a root lists, so that none of it is deleted because another root lacks it.
    pub(super) fn note_listed(&mut self, record: &RootRecord, listing: &[Entry]) {
        let root = record.path.as_path();
        let paths = listing.iter().map(|entry| entry.path.to_path(root));
        self.listed.extend(paths);
    }

    /// Returns true if this place is planned for the first time.
    fn is_first(&mut self, place: &Path) -> bool {
        !self.overlaps || self.planned.insert(place.to_path_buf())
    }
}

/// Returns where a root is written: a base directory, and the path of the root below it.
pub(super) fn place_of(
    record: &RootRecord,
    options: &RestoreOptions,
) -> Result<(PathBuf, RepoPath)> {
    match &options.target {
        Some(target) => locate(&target.join(&record.name), options.beneath.as_deref()),
        None => locate(record.path.as_path(), None),
    }
}

/// The part of a root to restore.
pub(super) struct Wanted<'a> {
    pub(super) record: &'a RootRecord,
    /// What the snapshot has of it, as far as needed here.
    pub(super) listing: &'a [Arc<Entry>],
    /// Empty means everything.
    pub(super) paths: &'a [&'a RepoPath],
}

impl Wanted<'_> {
    fn selects(&self, path: &RepoPath) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|wanted| path.starts_with(wanted))
    }

    /// Returns true if `path` is above something wanted.
    fn leads_to(&self, path: &RepoPath) -> bool {
        self.paths.iter().any(|wanted| wanted.starts_with(path))
    }
}

/// Plans the restore of one root.
///
/// First each entry of the listing by itself, from the top, so that a missing directory is known
/// before its content. Then what no single entry decides: which names are one file, what the
/// snapshot does not have. Directories come last, because all of that changes their times.
pub(super) fn plan_root(
    repo: &Repository,
    wanted: &Wanted<'_>,
    options: &RestoreOptions,
    opened: &Opened,
    once: &mut Once,
    plan: &mut RestorePlan,
) -> Result<()> {
    let place = place_of(wanted.record, options)?;
    let mut planner = Planner {
        repo,
        site: Site::open(repo, place, opened, &mut plan.work)?,
        never: repo.untouchable(&options.never),
        listed: wanted.listing.iter().map(|entry| &entry.path).collect(),
        wanted,
        options,
        once,
        plan,
        touched: HashSet::new(),
        dirs: Vec::new(),
        absent: None,
        groups: Groups::default(),
        blocking: Vec::new(),
    };
    for entry in wanted.listing {
        planner.entry(entry)?;
    }
    if options.target.is_none() {
        planner.names()?;
    }
    planner.deletions()?;
    planner.directories();
    Ok(())
}

struct Planner<'a> {
    repo: &'a Repository,
    wanted: &'a Wanted<'a>,
    options: &'a RestoreOptions,
    once: &'a mut Once,
    plan: &'a mut RestorePlan,
    site: Site<'a>,
    /// Absolute paths that are never written to.
    never: Vec<PathBuf>,
    listed: HashSet<&'a RepoPath>,
    /// Directories in which something is restored or removed: their times have to be set
    /// afterwards.
    touched: HashSet<RepoPath>,
    /// Directories that exist and stay, with their current stat.
    dirs: Vec<(Arc<Entry>, Stat)>,
    /// A missing directory, while the entries below it are planned.
    absent: Option<RepoPath>,
    groups: Groups,
    /// Directories in the way of something else.
    blocking: Vec<RepoPath>,
}

impl Planner<'_> {
    /// Decides on one entry of the listing.
    fn entry(&mut self, entry: &Arc<Entry>) -> Result<()> {
        let chosen = self.wanted.selects(&entry.path);
        // A missing directory that leads to something wanted is created, with its metadata.
        let needed = chosen || entry.kind == Kind::Dir && self.wanted.leads_to(&entry.path);
        let absolute = self.site.absolute(&entry.path);
        if !needed || self.never.contains(&absolute) || !self.once.is_first(&absolute) {
            return Ok(());
        }
        let Ok(seen) = self.look(entry) else {
            return Ok(());
        };
        if !entry.kind.is_stored() {
            if seen.is_none_or(|seen| seen.kind != entry.kind) {
                self.skip(entry, &format!("a {} is not stored", entry.kind.word()));
            }
            return Ok(());
        }
        // A snapshot costs time, so take none if nothing could be lost, as in an empty directory.
        self.plan.needs_snapshot |= seen.is_some_and(|seen| {
            let replaced = seen.kind != Kind::Dir || entry.kind != Kind::Dir;
            replaced || chosen && self.options.target.is_none()
        });
        if self.sealed(entry, seen)? {
            self.touched.extend(entry.path.parent());
            return Ok(());
        }
        match seen {
            None => {
                self.job(Act::Write, entry, None);
                self.step(Action::Create, entry, None);
                self.touched.extend(entry.path.parent());
            }
            Some(seen) if seen.kind == Kind::Dir && entry.kind == Kind::Dir => match chosen {
                true => self.dirs.push((Arc::clone(entry), seen)),
                false => self.leave_dir(),
            },
            Some(seen) if self.options.overwrite == Overwrite::Never => self.keep(entry, seen),
            Some(seen) if seen.kind == Kind::Dir => self.dir_in_the_way(entry, seen),
            Some(seen) => self.other(entry, seen)?,
        }
        Ok(())
    }

    /// Returns the stat of what is there now. Nothing is below a missing directory: without this
    /// shortcut, each of the thousands of files of a lost directory would be checked, and each
    /// below a symlink in its place would be a problem. `Err` means that a problem was noted.
    fn look(&mut self, entry: &Entry) -> std::result::Result<Option<Stat>, ()> {
        let absent = self.absent.as_ref();
        if absent.is_some_and(|absent| entry.path.starts_with(absent)) {
            return Ok(None);
        }
        let seen = self.site.stat(&entry.path).map_err(|failed| {
            let reason = error::reason(&failed);
            let note = note(self.site.absolute(&entry.path), reason);
            self.plan.problems.push(note);
        })?;
        if seen.is_none() && entry.kind == Kind::Dir {
            self.absent = Some(entry.path.clone());
        }
        Ok(seen)
    }

    /// Plans a file with sealed values, whose bytes do not come from the snapshot alone. Returns
    /// false for all others, and if it can be restored like these.
    fn sealed(&mut self, entry: &Arc<Entry>, seen: Option<Stat>) -> Result<bool> {
        let overwrite = self.options.overwrite;
        let is_left =
            seen.is_some_and(|seen| seen.kind == Kind::Dir || overwrite == Overwrite::Never);
        if entry.body.sealed.is_none() || is_left {
            return Ok(false);
        }
        let decided = sealed::decide(self.repo, &mut self.site, entry, seen, self.options)?;
        let Some(outcome) = decided else {
            return Ok(false);
        };
        let path = self.site.absolute(&entry.path);
        if let Some(reason) = outcome.problem {
            self.plan.problems.push(note(path.clone(), reason));
        }
        if let Some(written) = outcome.written {
            self.plan.steps.push(Step {
                path: self.site.absolute_place(&written.place),
                action: match written.seen {
                    Some(_) => Action::Replace,
                    None => Action::Create,
                },
                kind: Kind::File,
                bytes: written.entry.size,
                old_bytes: written.seen.map(|seen| seen.size),
            });
            self.plan.work.jobs.push(Job {
                site: self.site.number,
                path: written.place,
                act: Act::Write,
                entry: Some(written.entry),
                seen: written.seen,
                bytes: Some(Arc::new(written.bytes)),
            });
        } else if outcome.merged.is_some() {
            self.plan.unchanged += 1;
        }
        if let Some(merged) = outcome.merged {
            self.plan.secrets.push(SecretStep {
                path,
                merged,
                aside: outcome.aside.map(|aside| self.site.absolute_place(&aside)),
            });
        }
        Ok(true)
    }

    /// A directory is where a file was. Its content is not ours to delete unless that was
    /// requested.
    fn dir_in_the_way(&mut self, entry: &Arc<Entry>, seen: Stat) {
        if !self.options.delete {
            return self.skip(
                entry,
                "there is a directory in its place; move it away to restore the file",
            );
        }
        // Its whole content goes first, like everything that the snapshot does not have.
        self.blocking.push(entry.path.clone());
        self.clear(entry, seen);
        self.job(Act::Write, entry, None);
        self.step(Action::Replace, entry, None);
        self.touched.extend(entry.path.parent());
    }

    /// Something other than a directory is there. If it is as it should be it stays, so that an
    /// interrupted restore continues where it stopped.
    fn other(&mut self, entry: &Arc<Entry>, seen: Stat) -> Result<()> {
        let same = self.options.overwrite == Overwrite::IfChanged && self.site.has(entry, &seen);
        if same {
            self.anchor(entry);
        }
        if !(same && self.groups.fits(entry, &seen)) {
            self.replace(entry, seen);
            self.companions(entry)?;
        } else if self.site.differs(entry, &seen).any() {
            self.job(Act::Metadata, entry, Some(seen));
            self.step(Action::Metadata, entry, Some(&seen));
        } else {
            self.plan.unchanged += 1;
        }
        Ok(())
    }

    fn replace(&mut self, entry: &Arc<Entry>, seen: Stat) {
        match entry.kind {
            Kind::Dir => {
                // A file is where a directory was: remove it before creating anything below.
                self.job(Act::Write, entry, None);
                self.clear(entry, seen);
                self.absent = Some(entry.path.clone());
            }
            _ => self.job(Act::Write, entry, Some(seen)),
        }
        self.step(Action::Replace, entry, Some(&seen));
        self.touched.extend(entry.path.parent());
    }

    /// When a database is written, remove its companions: SQLite would apply a `-wal` from another
    /// time to it.
    fn companions(&mut self, entry: &Entry) -> Result<()> {
        let is_whole = entry.body.flags.contains(&Flag::Online);
        let is_dir = entry.kind == Kind::Dir;
        if is_dir || !is_whole && !is_database_alone(entry, &self.listed) {
            return Ok(());
        }
        for suffix in sqlite::COMPANIONS {
            let path = sqlite::companion(&entry.path, suffix);
            if self.listed.contains(&path) {
                continue;
            }
            let place = sqlite::companion(&self.site.place(&entry.path), suffix);
            let seen = self.site.target.stat(&place)?;
            if let Some(seen) = seen.filter(|seen| seen.kind == Kind::File) {
                self.plan.steps.push(Step {
                    path: self.site.absolute_place(&place),
                    action: Action::Remove,
                    kind: Kind::File,
                    bytes: seen.size,
                    old_bytes: Some(seen.size),
                });
                self.plan.work.jobs.push(Job {
                    site: self.site.number,
                    path: place,
                    act: Act::Clear,
                    entry: None,
                    seen: Some(seen),
                    bytes: None,
                });
            }
        }
        Ok(())
    }

    /// Keeps names of one file together: restored names are linked to existing ones that were not
    /// requested. This is impossible for names outside of what was captured, which is reported.
    fn names(&mut self) -> Result<()> {
        let written = self.site.written_groups(&self.plan.work);
        if written.is_empty() {
            return Ok(());
        }
        let wanted = self.wanted;
        let selects = |entry: &Arc<Entry>| wanted.selects(&entry.path);
        // If only a part was requested, the listing may lack some of their names.
        let all: Vec<Arc<Entry>> = match wanted.listing.iter().all(selects) {
            true => wanted.listing.to_vec(),
            false => {
                let whole = self.repo.listing(wanted.record)?;
                whole.into_iter().map(Arc::new).collect()
            }
        };
        let others = all.iter().filter(|entry| !selects(entry));
        for entry in others.filter(|entry| written.contains(&entry.body.link)) {
            let place = self.site.place(&entry.path);
            let seen = self.site.target.stat(&place).ok().flatten();
            if seen.is_some_and(|seen| self.site.has(entry, &seen)) {
                self.anchor(entry);
            }
        }
        let names = apart::elsewhere(all.iter().map(|entry| &**entry));
        for path in apart::brought_back(&names, &self.plan.work, &mut self.site) {
            let note = note(self.site.absolute(path), APART.to_owned());
            self.plan.problems.push(note);
        }
        Ok(())
    }

    /// Removes what the snapshot does not have, if requested. A listing without its root means that
    /// the root did not exist, and says nothing about what is there now.
    fn deletions(&mut self) -> Result<()> {
        let is_told = self.listed.contains(&RepoPath::root()) || !self.options.paths.is_empty();
        if !self.options.delete || self.options.overwrite == Overwrite::Never || !is_told {
            return Ok(());
        }
        let record = self.wanted.record;
        let root = Root {
            name: record.name.clone(),
            path: self.site.absolute(&RepoPath::root()),
            rules: record.rules.clone(),
            origin: Origin::Source,
            named: Vec::new(),
            must: Vec::new(),
            without: record.apart(self.site.base()),
            resolved: false,
        };
        let options = WalkOptions {
            never: &self.never,
            max_files: None,
            keep_known: false,
        };
        for found in walk(&root, None, &options)?.dirty {
            self.deletion(&found.path, found.stat);
        }
        Ok(())
    }

    /// Decides on an existing object, whether the snapshot has it or not.
    fn deletion(&mut self, path: &RepoPath, seen: Stat) {
        let record = self.wanted.record;
        // What was left out of the snapshot existed then, and must not be deleted.
        let mut left_out = record.left_out.iter().map(|left| &left.path);
        let is_unknown = left_out.any(|left| path.starts_with(left) || left.starts_with(path));
        let is_kept = self.listed.contains(path) || !self.wanted.selects(path) || path.is_root();
        if is_unknown || is_kept {
            return;
        }
        let origin = path.to_path(record.path.as_path());
        if self.once.listed.contains(&origin) || !self.once.is_first(&origin) {
            return;
        }
        self.touched.extend(path.parent());
        self.plan.needs_snapshot = true;
        self.plan.steps.push(Step {
            path: self.site.absolute(path),
            action: Action::Remove,
            kind: seen.kind,
            bytes: seen.size,
            old_bytes: (seen.kind == Kind::File).then_some(seen.size),
        });
        let act = match self.blocking.iter().any(|dir| path.starts_with(dir)) {
            true => Act::Clear,
            false => Act::Remove,
        };
        let job = self.site.job(path, act, None, Some(seen));
        self.plan.work.jobs.push(job);
    }

    /// Sets the metadata of directories. Last, because only now is it known in which of them
    /// something changes; setting their time again is not worth a line.
    fn directories(&mut self) {
        for (entry, seen) in std::mem::take(&mut self.dirs) {
            let differs = match self.options.overwrite {
                // Existing objects stay as they are.
                Overwrite::Never => Differences::default(),
                _ => self.site.differs(&entry, &seen),
            };
            let is_touched = self.touched.contains(&entry.path);
            if !differs.any() && !is_touched && self.options.target.is_none() {
                self.leave_dir();
                continue;
            }
            let shown = Differences {
                time: differs.time && !is_touched,
                ..differs
            };
            if shown.any() {
                self.plan.steps.push(Step {
                    path: self.site.absolute(&entry.path),
                    action: Action::Metadata,
                    kind: Kind::Dir,
                    bytes: 0,
                    old_bytes: None,
                });
            }
            self.job(Act::Metadata, &entry, Some(seen));
        }
    }

    fn job(&mut self, act: Act, entry: &Arc<Entry>, seen: Option<Stat>) {
        let job = self
            .site
            .job(&entry.path, act, Some(Arc::clone(entry)), seen);
        self.plan.work.jobs.push(job);
    }

    fn clear(&mut self, entry: &Entry, seen: Stat) {
        let job = self.site.job(&entry.path, Act::Clear, None, Some(seen));
        self.plan.work.jobs.push(job);
    }

    fn step(&mut self, action: Action, entry: &Entry, old: Option<&Stat>) {
        self.plan.steps.push(Step {
            path: self.site.absolute(&entry.path),
            action,
            kind: entry.kind,
            bytes: entry.size,
            old_bytes: old.filter(|old| old.kind == Kind::File).map(|old| old.size),
        });
    }

    fn skip(&mut self, entry: &Entry, reason: &str) {
        let note = note(self.site.absolute(&entry.path), reason.to_owned());
        self.plan.skipped.push(note);
    }

    /// Keeps an existing object. Reports whether it differs from the snapshot, because users who do
    /// not overwrite want to know what they did not get.
    fn keep(&mut self, entry: &Entry, seen: Stat) {
        let kept = Kept {
            path: self.site.absolute(&entry.path),
            differs: !self.site.has(entry, &seen),
        };
        self.plan.kept.push(kept);
    }

    fn leave_dir(&mut self) {
        self.plan.unchanged += 1;
        self.plan.unchanged_dirs += 1;
    }

    /// Notes an existing name, so that others of the same file can be linked to it.
    fn anchor(&mut self, entry: &Entry) {
        if !entry.body.link.is_empty() {
            let group = (self.site.number, entry.body.link.clone());
            let place = self.site.place(&entry.path);
            self.plan.work.anchors.entry(group).or_insert(place);
        }
    }
}

fn note(path: PathBuf, reason: String) -> PathNote {
    PathNote {
        path: RawName(path.into_os_string()),
        reason,
    }
}

fn is_database_alone(entry: &Entry, listed: &HashSet<&RepoPath>) -> bool {
    let name = entry.path.name();
    let database = [&b".db"[..], b".sqlite", b".sqlite3", b".db3"]
        .iter()
        .any(|e| name.ends_with(e));
    database && !listed.contains(&sqlite::companion(&entry.path, "-wal"))
}

/// Returns true if `path` is `wanted` with a suffix like `-wal`.
pub(super) fn is_beside(path: &RepoPath, wanted: &RepoPath) -> bool {
    path.as_bytes().starts_with(wanted.as_bytes())
}
