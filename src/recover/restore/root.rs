//! Plans a restore of one root: what comes back, what goes, what is as it should be.

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

/// Where roots lie in one another: which places have been planned, and which any of them lists.
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

    /// Takes note of what a root lists: none of it is deleted for not being in another.
    pub(super) fn note_listed(&mut self, record: &RootRecord, listing: &[Entry]) {
        let root = record.path.as_path();
        let paths = listing.iter().map(|entry| entry.path.to_path(root));
        self.listed.extend(paths);
    }

    /// Returns true for a place that is planned for the first time.
    fn is_first(&mut self, place: &Path) -> bool {
        !self.overlaps || self.planned.insert(place.to_path_buf())
    }
}

/// Returns where a root is written: the directory below which, and the path of the root below it.
pub(super) fn place_of(
    record: &RootRecord,
    options: &RestoreOptions,
) -> Result<(PathBuf, RepoPath)> {
    match &options.target {
        Some(target) => locate(&target.join(&record.name), options.beneath.as_deref()),
        None => locate(record.path.as_path(), None),
    }
}

/// What is wanted of a root.
pub(super) struct Wanted<'a> {
    pub(super) record: &'a RootRecord,
    /// What the snapshot has of it, as far as it matters here.
    pub(super) listing: &'a [Arc<Entry>],
    /// Paths; empty: everything.
    pub(super) paths: &'a [&'a RepoPath],
}

impl Wanted<'_> {
    fn selects(&self, path: &RepoPath) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|wanted| path.starts_with(wanted))
    }

    /// Returns true for what is above something wanted.
    fn leads_to(&self, path: &RepoPath) -> bool {
        self.paths.iter().any(|wanted| wanted.starts_with(path))
    }
}

/// Plans what is to be done in one root.
///
/// First each entry of the listing by itself, from the top: what is not there is known before what is below it. Then what no entry can
/// say alone: which names are one file, what the snapshot does not have. Directories come last, because all of that changes their times.
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
        never: repo
            .own_paths()
            .into_iter()
            .chain(options.never.clone())
            .collect(),
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
    /// Absolute paths that nothing is written to.
    never: Vec<PathBuf>,
    listed: HashSet<&'a RepoPath>,
    /// Directories in which something comes back or goes: their times have to be set afterwards.
    touched: HashSet<RepoPath>,
    /// Directories that are there and stay, with what they are now.
    dirs: Vec<(Arc<Entry>, Stat)>,
    /// The directory that is not there, while what is below it goes by.
    absent: Option<RepoPath>,
    groups: Groups,
    /// Directories that are in the way of something else.
    blocking: Vec<RepoPath>,
}

impl Planner<'_> {
    /// Decides on one entry of the listing.
    fn entry(&mut self, entry: &Arc<Entry>) -> Result<()> {
        let chosen = self.wanted.selects(&entry.path);
        // Directories on the way to what is wanted are made if they are missing, with their metadata.
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
        // A snapshot costs time: none is taken where nothing could be lost, as in an empty directory.
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

    /// Looks at what is there now. Nothing is below what is not there: without that, each of the thousands of files of a lost directory
    /// would be asked for, and one where a symlink took its place would be a problem each. `Err`: it was noted that it cannot be read.
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

    /// Plans a file of which something was sealed: its bytes are not those of the snapshot alone. Returns false for all others, and where it
    /// can come back like them.
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

    /// A directory is where a file was. Whatever is in it is nobody's of ours to throw away, unless that was asked for.
    fn dir_in_the_way(&mut self, entry: &Arc<Entry>, seen: Stat) {
        if !self.options.delete {
            return self.skip(
                entry,
                "there is a directory in its place; move it away to restore the file",
            );
        }
        // All that is in it goes first, as everything goes that the snapshot does not have.
        self.blocking.push(entry.path.clone());
        self.clear(entry, seen);
        self.job(Act::Write, entry, None);
        self.step(Action::Replace, entry, None);
        self.touched.extend(entry.path.parent());
    }

    /// Something that is no directory is there: what is as it should be stays, so that a restore that was cut off goes on where it stopped.
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
                // A file is where a directory was: it goes before anything is made below it.
                self.job(Act::Write, entry, None);
                self.clear(entry, seen);
                self.absent = Some(entry.path.clone());
            }
            _ => self.job(Act::Write, entry, Some(seen)),
        }
        self.step(Action::Replace, entry, Some(&seen));
        self.touched.extend(entry.path.parent());
    }

    /// Of a database that is written, what is beside it has to go: a `-wal` of another time would be played into it.
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

    /// Has names of one file stay one: what comes back joins names that are there and were not asked for. Where a file had names outside of
    /// what was captured, it cannot, and that is said.
    fn names(&mut self) -> Result<()> {
        let written = self.site.written_groups(&self.plan.work);
        if written.is_empty() {
            return Ok(());
        }
        let wanted = self.wanted;
        let selects = |entry: &Arc<Entry>| wanted.selects(&entry.path);
        // Where a part was asked for, the listing may not have all of their names.
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

    /// Removes what the snapshot does not have, if that was asked for. A listing that lacks its root is that of a root that was not there, and
    /// says nothing of what is.
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

    /// Decides on something that is there, whether the snapshot has it or not.
    fn deletion(&mut self, path: &RepoPath, seen: Stat) {
        let record = self.wanted.record;
        // What was left out was there, and is no less dear for that.
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

    /// Gives directories their metadata. Last, because only now is it known in which of them something comes back or goes: to those the
    /// time has to be given again, and that is not worth a line.
    fn directories(&mut self) {
        for (entry, seen) in std::mem::take(&mut self.dirs) {
            let differs = match self.options.overwrite {
                // What is there is left as it is.
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

    /// Leaves what is there. Whether it is what the snapshot has is worth a look: who asked not to overwrite anything wants to know what
    /// they did not get.
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

    /// Notes a name that is there, for others of the same file to join.
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

/// Returns true if `path` is `wanted` with a suffix, as `-wal`.
pub(super) fn is_beside(path: &RepoPath, wanted: &RepoPath) -> bool {
    path.as_bytes().starts_with(wanted.as_bytes())
}
