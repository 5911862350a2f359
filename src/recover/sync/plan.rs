//! Decides on each path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::base::{Base, Scope};
use super::face::{self, Face, Here};
use super::{FROM, SyncAction, SyncOptions, SyncPlan, SyncStep};
use crate::base::error::{Error, Result};
use crate::base::monitor::Monitor;
use crate::base::path::RepoPath;
use crate::disk::fsutil::Opened;
use crate::disk::sqlite;
use crate::model::manifest::{Entry, Flag, Kind, Stat};
use crate::model::merge::{self, Together, Versions};
use crate::protect::walk::{WalkOptions, walk};
use crate::protect::work::Work;
use crate::recover::site::{Site, locate};
use crate::recover::unseal::{Recovery, SecretOptions, recover};
use crate::repo::Repository;
use crate::repo::reader::Reader;
use crate::repo::snapshot::RootRecord;

/// Who changed a path.
enum Changed {
    Here,
    There,
    Both,
    /// Nothing is known of what both came from.
    Unknown,
}

/// What a path was when both had the same, by one of the logs.
struct Common {
    base: usize,
    face: Face,
}

pub(super) struct Planner<'a> {
    own: &'a Repository,
    far: &'a Repository,
    bases: Vec<Base<'a>>,
    pub(super) options: &'a SyncOptions,
    pub(super) plan: &'a mut SyncPlan,
    pub(super) reader: Reader<'a>,
    theirs: BTreeMap<RepoPath, Entry>,
    /// What is here, as far as the rules take it.
    here: BTreeMap<RepoPath, Stat>,
    scope_there: Scope,
    scope_here: Scope,
    never: Vec<PathBuf>,
    /// Below these, nothing is done: the path is something else on either side.
    blocked: Vec<RepoPath>,
    pub(super) removed: BTreeSet<RepoPath>,
    pub(super) suffix: Vec<u8>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        (own, far): (&'a Repository, &'a Repository),
        record: &'a RootRecord,
        bases: Vec<Base<'a>>,
        options: &'a SyncOptions,
        plan: &'a mut SyncPlan,
    ) -> Result<Self> {
        let theirs = far.listing(record)?;
        let never = own.untouchable(&options.never);
        let scan = walk(
            &options.source,
            None,
            &WalkOptions {
                never: &never,
                max_files: None,
                keep_known: false,
            },
        )?;
        if let Some((path, failed)) = scan.problems.into_iter().next() {
            // What cannot be read may be anything.
            let path = path.to_path(&options.source.path);
            let reason = failed.to_string();
            return Err(Error::invalid(
                format!(
                    "{} cannot be read: {reason}",
                    crate::base::path::show(path.as_os_str())
                ),
                Some("bdr exclude PATH leaves it out"),
            ));
        }
        let left_out = scan.left_out.iter().map(|left| left.path.clone());
        let scope_here = Scope::new(left_out.collect(), &options.source.rules)?;
        let host = options.host.bytes();
        let tame = |b: u8| if b.is_ascii_alphanumeric() { b } else { b'-' };
        Ok(Self {
            own,
            far,

            bases,
            options,
            plan,
            reader: Reader::new(far),
            theirs: theirs
                .into_iter()
                .map(|entry| (entry.path.clone(), entry))
                .collect(),
            here: scan
                .dirty
                .into_iter()
                .map(|found| (found.path, found.stat))
                .collect(),
            scope_there: Scope::of(record)?,
            scope_here,
            never,
            blocked: Vec::new(),
            removed: BTreeSet::new(),
            suffix: FROM.bytes().chain(host.map(tame).take(64)).collect(),
        })
    }

    pub(super) fn run(mut self, is_partial: bool, monitor: &dyn Monitor) -> Result<()> {
        let opened = Opened::only_looking();
        let place = locate(&self.options.source.path, None)?;
        let mut work = Work::default();
        let mut site = Site::open(self.far, place, &opened, &mut work)?;
        let mut paths: BTreeSet<RepoPath> = self.theirs.keys().cloned().collect();
        paths.extend(self.here.keys().cloned());
        for base in &self.bases {
            paths.extend(base.listing.keys().cloned());
        }
        for path in &paths {
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            if self.is_out(&site, path) {
                self.plan.left_to_git |= path.components().any(|name| name == b".git");
                continue;
            }
            self.path(&mut site, &mut work, path, is_partial)?;
        }
        self.empty_dirs(&mut site, &mut work, &paths);
        self.plan.work = work;
        Ok(())
    }

    /// Returns true if nothing is done about a path, whatever is there.
    fn is_out(&self, site: &Site<'_>, path: &RepoPath) -> bool {
        let names_out =
            |name: &[u8]| name == b".git" || memchr::memmem::find(name, FROM.as_bytes()).is_some();
        let place = site.absolute(path);
        path.components().any(names_out)
            || self
                .blocked
                .iter()
                .any(|dir| path.starts_with(dir) && path != dir)
            || self.never.iter().any(|never| place.starts_with(never))
            || !self.scope_there.has(path)
            || !self.here.contains_key(path) && !self.scope_here.has(path)
    }

    fn path(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        path: &RepoPath,
        is_partial: bool,
    ) -> Result<()> {
        let there = self.theirs.get(path).cloned();
        let stat = site.stat(path)?;
        if stat.is_some() && !self.here.contains_key(path) && !path.is_root() {
            // Left out here for a reason that only the disk shows.
            return Ok(());
        }
        let mut here = Here::new(stat, path, site.place(path));
        if let Some(note) = self.cannot(&there, stat) {
            self.blocked.push(path.clone());
            self.problem(site, path, note);
            return Ok(());
        }
        let theirs = face::of_entry(&mut self.reader, there.as_ref())?;
        if here.is(self.own, &mut site.target, (there.as_ref(), &theirs)) {
            if let (Face::File(_), Some(entry)) = (&theirs, &there)
                && self.has_new_mode(entry, stat)
                && !is_database(entry, here.bytes(&mut site.target))
            {
                return self.take(site, work, entry, &mut here);
            }
            self.plan.same += u64::from(theirs != Face::Absent && theirs != Face::Dir);
            return Ok(());
        }
        if theirs == Face::Unknown {
            let why = "only its metadata is stored there";
            match stat {
                Some(_) => self.plan.unknown.push(self.note(site, path, why)),
                None => self.problem(site, path, why),
            }
            return Ok(());
        }
        let beside = self.beside(site, path)?;
        let common = self.common(path, !beside.is_empty())?;
        // It may have been decided there since: then that counts here too.
        if common.is_empty() && !beside.is_empty() && stat.is_some() {
            return self.still_open(site, work, there.as_ref());
        }
        let conflicts = self.plan.conflicts.len();
        let changed = self.changed(site, &mut here, path, &theirs, &common);
        let is_dir = theirs == Face::Dir || stat.is_some_and(|stat| stat.kind == Kind::Dir);
        match (there, changed) {
            // Only directories whose files are all gone go: `empty_dirs` sees to it.
            (Some(entry), Changed::There | Changed::Unknown) if is_dir && stat.is_none() => {
                self.write(site, work, &entry, None, None);
            }
            _ if is_dir => {}
            (None, Changed::There) if !is_partial => self.remove(site, work, path, stat),
            (None, _) | (_, Changed::Here) => self.plan.ours += 1,
            // What was removed here and changed there comes back: nobody loses anything.
            (Some(entry), _) if stat.is_none() => self.take(site, work, &entry, &mut here)?,
            (Some(entry), Changed::There) => self.take(site, work, &entry, &mut here)?,
            (Some(entry), _) => self.both(site, work, &entry, &mut here, &common)?,
        }
        if self.plan.conflicts.len() == conflicts {
            self.clear(site, work, beside);
        }
        Ok(())
    }

    /// Returns true if only they changed who may read, write and run a file, since both had the same.
    fn has_new_mode(&self, there: &Entry, here: Option<Stat>) -> bool {
        const RIGHTS: u32 = 0o777;
        let Some(here) = here.map(|here| here.mode & RIGHTS) else {
            return false;
        };
        let known = |base: &Base<'_>| {
            let entry = base.listing.get(&there.path)?;
            (entry.kind == Kind::File && !base.not_taken.contains(&there.path))
                .then_some(entry.mode & RIGHTS)
        };
        // The newest version that both had.
        let common = self.bases.iter().find_map(known);
        there.mode & RIGHTS != here && common == Some(here)
    }

    /// Returns who changed a path since both had the same: by the newest version that one of them
    /// still has.
    fn changed(
        &self,
        site: &mut Site<'_>,
        here: &mut Here,
        path: &RepoPath,
        theirs: &Face,
        common: &[Common],
    ) -> Changed {
        for one in common {
            let entry = self.bases[one.base].listing.get(path);
            if here.is(self.own, &mut site.target, (entry, &one.face)) {
                return Changed::There;
            }
            if one.face == *theirs {
                return Changed::Here;
            }
        }
        match common.is_empty() {
            true => Changed::Unknown,
            false => Changed::Both,
        }
    }

    /// Returns why a path is left alone, whoever changed it.
    fn cannot(&self, there: &Option<Entry>, stat: Option<Stat>) -> Option<&'static str> {
        let (kind, entry) = (stat.map(|stat| stat.kind), there.as_ref());
        let is_dir = |kind: Option<Kind>| kind == Some(Kind::Dir);
        match (kind, entry) {
            (Some(_), Some(entry)) if is_dir(kind) != is_dir(Some(entry.kind)) => {
                Some("a directory on one side and not on the other: move one of them away")
            }
            _ => None,
        }
    }

    /// Returns what the path was in the versions that both came from, as far as that counts.
    fn common(&mut self, path: &RepoPath, is_beside: bool) -> Result<Vec<Common>> {
        let mut found = Vec::new();
        for number in 0..self.bases.len() {
            let undecided = self.is_undecided(&self.bases[number], path, is_beside);
            let base = &mut self.bases[number];
            if undecided && !base.is_ours {
                // What is older says less.
                break;
            }
            if undecided || base.not_taken.contains(path) {
                continue;
            }
            let entry = base.listing.get(path);
            if entry.is_none() && !base.scope.has(path) {
                continue;
            }
            let face = face::of_entry(&mut base.reader, entry)?;
            if face != Face::Unknown {
                found.push(Common { base: number, face });
            }
        }
        Ok(found)
    }

    /// Returns the places of the other versions that an earlier sync put beside a path, and that are
    /// still there.
    fn beside(&self, site: &mut Site<'_>, path: &RepoPath) -> Result<Vec<(RepoPath, Stat)>> {
        let own = self.bases.iter().filter(|base| !base.is_ours);
        let conflicts = own.flat_map(|base| &base.conflicts);
        let mut found = Vec::new();
        for (_, beside) in conflicts.filter(|(of, _)| of == path) {
            let place = site.beside(path, beside.name());
            found.extend(site.target.stat(&place)?.map(|stat| (place, stat)));
        }
        Ok(found)
    }

    /// Returns true if nobody has decided a conflict about a path on the machine whose log it is.
    fn is_undecided(&self, base: &Base<'_>, path: &RepoPath, is_beside: bool) -> bool {
        let mut conflicts = base.conflicts.iter().filter(|(of, _)| of == path);
        conflicts.any(|(_, beside)| match (base.is_ours, path.is_root()) {
            (false, _) => is_beside,
            (true, false) => self.theirs.contains_key(beside),
            // What is beside a source, its backup does not have.
            (true, true) => base.file_then.as_ref().is_some_and(|then| {
                let now = self.theirs.get(path);
                now.is_some_and(|now| now.body.content == then.body.content)
            }),
        })
    }

    /// Keeps an undecided conflict as it is, with the newest version of the other side.
    fn still_open(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        there: Option<&Entry>,
    ) -> Result<()> {
        let Some(entry) = there else {
            self.plan.ours += 1;
            return Ok(());
        };
        let before = work.jobs.len();
        self.conflict(site, work, entry, Vec::new())?;
        if work.jobs.len() == before
            && let Some(SyncStep {
                path,
                beside: Some(beside),
                ..
            }) = self.plan.steps.pop()
        {
            self.plan.open.push((path, beside));
        }
        Ok(())
    }

    /// Takes the other side's version of a file or symlink.
    fn take(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        here: &mut Here,
    ) -> Result<()> {
        if here.stat.is_some() && is_database(entry, here.bytes(&mut site.target)) {
            let why = "a database that changed there; a program may have it open: bdr restore --from brings it";
            self.plan.not_taken.push(entry.path.clone());
            self.problem(site, &entry.path, why);
            return Ok(());
        }
        if entry.body.sealed.is_none() {
            self.write(site, work, entry, here.stat, None);
            return Ok(());
        }
        let mut live = match here.stat {
            Some(stat) if stat.kind == Kind::File => {
                site.target.open_file(&site.place(&entry.path)).ok()
            }
            _ => None,
        };
        let secrets = SecretOptions::default();
        let found = recover(self.far, &mut self.reader, entry, live.as_mut(), &secrets)?;
        match found {
            Recovery::Merged(bytes, _) => self.write(site, work, entry, here.stat, Some(bytes)),
            Recovery::Exact => self.write(site, work, entry, here.stat, None),
            Recovery::Aside(..) | Recovery::Nothing => {
                let why = "it has values that are sealed there and not known here";
                self.plan.not_taken.push(entry.path.clone());
                self.problem(site, &entry.path, why);
            }
        }
        Ok(())
    }

    /// Brings together what both changed, or puts the other version beside it.
    fn both(
        &mut self,
        site: &mut Site<'_>,
        work: &mut Work,
        entry: &Entry,
        here: &mut Here,
        common: &[Common],
    ) -> Result<()> {
        let is_file = |kind: Option<Kind>| kind == Some(Kind::File);
        let files = is_file(Some(entry.kind)) && is_file(here.stat.map(|stat| stat.kind));
        let merged = match files && !is_database(entry, here.bytes(&mut site.target)) {
            true => self.merged(site, entry, here, common)?,
            false => None,
        };
        let Some(together) = merged else {
            return self.conflict(site, work, entry, Vec::new());
        };
        let is_same = here.bytes(&mut site.target) == Some(&together.bytes[..]);
        if !together.lacking.is_empty() {
            let names = together.lacking.join(", ");
            let why = format!("without what is sealed there and not known here: {names}");
            self.problem(site, &entry.path, &why);
        }
        if !is_same {
            let bytes = together.bytes;
            self.job_merged(site, work, entry, here.stat, bytes);
            self.step(site, entry, SyncAction::Merge, None, Vec::new());
        }
        if together.both.is_empty() {
            self.plan.same += u64::from(is_same);
            return Ok(());
        }
        self.conflict(site, work, entry, together.both)
    }

    fn merged(
        &mut self,
        site: &mut Site<'_>,
        entry: &Entry,
        here: &mut Here,
        common: &[Common],
    ) -> Result<Option<Together>> {
        if entry.size.max(here.stat.map_or(0, |stat| stat.size)) > merge::MAX_BYTES {
            return Ok(None);
        }
        let Some(theirs) = face::stored(&mut self.reader, entry)? else {
            return Ok(None);
        };
        let mut bases = Vec::new();
        for one in common {
            let base = &mut self.bases[one.base];
            if let Some(older) = base.listing.get(&entry.path)
                && let Some(bytes) = face::stored(&mut base.reader, older)?
            {
                bases.push(bytes);
            }
        }
        let is_sealed = face::has_sealed(&theirs) || bases.iter().any(|b| face::has_sealed(b));
        let Some(live) = here.bytes(&mut site.target).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        let mine = match is_sealed {
            true => match here.alike(self.own, &mut site.target) {
                Some(alike) => alike.to_vec(),
                None => return Ok(None),
            },
            false => live.clone(),
        };
        let versions = Versions {
            live: &live,
            mine: &mine,
            theirs: &theirs,
            bases: &bases,
            lacks: &face::has_sealed,
        };
        // A source that is a file has its name, not its path.
        let place = site.place(&entry.path);
        Ok(merge::three(place.name(), &versions))
    }

    /// Removes directories that the other side has no more, if nothing is left in them.
    fn empty_dirs(&mut self, site: &mut Site<'_>, work: &mut Work, paths: &BTreeSet<RepoPath>) {
        for path in paths.iter().rev() {
            let stat = self.here.get(path).copied();
            let is_gone = stat.is_some_and(|stat| stat.kind == Kind::Dir)
                && !path.is_root()
                && !self.theirs.contains_key(path)
                && self
                    .bases
                    .iter()
                    .any(|base| base.listing.contains_key(path))
                && !self.is_out(site, path);
            let in_it = |other: &&RepoPath| other.starts_with(path) && *other != path;
            let has_left = || {
                self.here
                    .keys()
                    .filter(in_it)
                    .any(|other| !self.removed.contains(other))
                    || self
                        .scope_here
                        .left_out
                        .iter()
                        .any(|left| left.starts_with(path))
            };
            if is_gone && !has_left() {
                self.remove(site, work, path, stat);
            }
        }
    }
}

/// Returns true if a file is a database, or belongs to one.
fn is_database(entry: &Entry, here: Option<&[u8]>) -> bool {
    let name = entry.path.name();
    let companion = sqlite::COMPANIONS
        .iter()
        .any(|suffix| name.ends_with(suffix.as_bytes()));
    companion
        || entry.body.flags.contains(&Flag::Online)
        || here.is_some_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}
