//! Where a root is on disk, for the planners of restore and undo.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::path::{RepoPath, os_to_bytes};
use crate::disk::fsutil::Opened;
use crate::disk::fsutil::target::{Fidelity, Target, existing_base};
use crate::model::compare::{self, Differences};
use crate::model::manifest::{Entry, Kind, Stat};
use crate::protect::compare::has_content;
use crate::protect::work::{Act, Job, Work};
use crate::repo::Repository;

/// Finds an existing directory from which `place` is reached, and the path of `place` below it.
/// Symlinks are followed down to that directory, as usual, but not below it.
pub(super) fn locate(place: &Path, beneath: Option<&Path>) -> Result<(PathBuf, RepoPath)> {
    // The root itself may be a file: then its directory is the base.
    let (parent, name) = match (place.parent(), place.file_name()) {
        (Some(parent), Some(name)) => (parent, Some(name)),
        _ => (place, None),
    };
    let reached = match beneath {
        Some(above) => RepoPath::below(above, parent).map(|rest| (above.to_path_buf(), rest)),
        None => existing_base(parent),
    };
    let (base, rest) = reached
        .ok_or_else(|| Error::invalid(format!("`{}` cannot be reached", place.display()), None))?;
    let prefix = match name {
        Some(name) => rest.join(&os_to_bytes(name)),
        None => rest,
    };
    Ok((base, prefix))
}

/// Returns the place of a path in a root at `prefix`.
pub(super) fn below(prefix: &RepoPath, path: &RepoPath) -> RepoPath {
    if path.is_root() {
        prefix.clone()
    } else {
        prefix.join(path.as_bytes())
    }
}

/// A root on disk. *Paths* are those of its listing; *places* are below the base, as in jobs.
pub(super) struct Site<'a> {
    repo: &'a Repository,
    pub(super) number: usize,
    base: PathBuf,
    prefix: RepoPath,
    pub(super) target: Target,
    opened: &'a Opened,
}

impl<'a> Site<'a> {
    /// Opens a site and adds it to the sites of the work.
    pub(super) fn open(
        repo: &'a Repository,
        (base, prefix): (PathBuf, RepoPath),
        opened: &'a Opened,
        work: &mut Work,
    ) -> Result<Self> {
        let target = Target::open(&base, Fidelity::InPlace)?;
        work.sites.push(base.clone());
        Ok(Self {
            repo,
            number: work.sites.len() - 1,
            base,
            prefix,
            target,
            opened,
        })
    }

    /// Returns the directory from which everything here is reached.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn place(&self, path: &RepoPath) -> RepoPath {
        below(&self.prefix, path)
    }

    /// Returns the place of a path under another name. The root has neighbours too, which no path
    /// names.
    pub(super) fn beside(&self, path: &RepoPath, name: &[u8]) -> RepoPath {
        self.place(path).parent().unwrap_or_default().join(name)
    }

    pub(super) fn absolute(&self, path: &RepoPath) -> PathBuf {
        self.absolute_place(&self.place(path))
    }

    pub(super) fn absolute_place(&self, place: &RepoPath) -> PathBuf {
        place.to_path(&self.base)
    }

    /// Returns the stat of a path. A directory that was opened for the plan gets its owner's mode,
    /// because that is to be compared and kept.
    pub(super) fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        let place = self.place(path);
        let seen = self.target.stat(&place)?;
        Ok(seen.map(|seen| match seen.kind {
            Kind::Dir => Stat {
                mode: self
                    .opened
                    .mode_of(&self.absolute_place(&place))
                    .unwrap_or(seen.mode),
                ..seen
            },
            _ => seen,
        }))
    }

    /// Returns true if the object at the path of an entry has its content; reads it instead of
    /// trusting its times.
    pub(super) fn has(&mut self, entry: &Entry, seen: &Stat) -> bool {
        let place = self.place(&entry.path);
        self.has_at(&place, entry, seen)
    }

    /// Returns true if the object at a place has the content of an entry.
    pub(super) fn has_at(&mut self, place: &RepoPath, entry: &Entry, seen: &Stat) -> bool {
        let target = std::cell::RefCell::new(&mut self.target);
        let open = || target.borrow_mut().open_file(place).ok();
        let read_link = || target.borrow_mut().read_link(place).ok();
        // Nothing is known about objects that are not stored, so they never count as equal.
        entry.kind.is_stored() && has_content(self.repo, entry, seen, open, read_link)
    }

    /// Returns how an entry differs from the object at its path, other than in content.
    pub(super) fn differs(&mut self, entry: &Entry, seen: &Stat) -> Differences {
        let place = self.place(&entry.path);
        match self.target.xattrs(&place, entry.kind) {
            Ok(found) => compare::whole(entry, seen, &found),
            // Attributes that cannot be read cannot be restored either.
            Err(_) => compare::by_stat(entry, seen),
        }
    }

    pub(super) fn job(
        &self,
        path: &RepoPath,
        act: Act,
        entry: Option<Arc<Entry>>,
        seen: Option<Stat>,
    ) -> Job {
        Job {
            site: self.number,
            path: self.place(path),
            act,
            entry,
            seen,
            bytes: None,
        }
    }

    /// Returns the jobs of a work at this site.
    pub(super) fn jobs<'w>(&self, work: &'w Work) -> impl Iterator<Item = &'w Job> + use<'w> {
        let number = self.number;
        work.jobs.iter().filter(move |job| job.site == number)
    }

    /// Returns the hard-link groups of which a work writes some names: existing names may be ones
    /// to link to.
    pub(super) fn written_groups(&self, work: &Work) -> HashSet<String> {
        let written = self.jobs(work).filter(|job| job.act == Act::Write);
        written
            .filter_map(|job| Some(job.entry.as_ref()?.body.link.clone()))
            .filter(|link| !link.is_empty())
            .collect()
    }
}
