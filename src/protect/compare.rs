//! The one place that answers whether what is on disk is what is on record.
//!
//! There are three questions, because there are three records of an object, and each answer is as dear as its record is short:
//!
//! * a *state* has the whole `stat` and belongs to one snapshot: the walk compares with it and reads nothing ([`RootRun::look_again`]);
//! * a *stamp* is what an operation left of an object that it changed: [`is_stamped`], nothing is read either;
//! * a *listing* has no inodes and no times of change, so an object that nothing else vouches for is read: [`has_content`] asks of one
//!   object, [`Compared`] of all in a root.
//!
//! What else than the content of an object differs is said by [`crate::model::compare`], for all of them.
//!
//! [`RootRun::look_again`]: crate::protect::survey::RootRun::look_again

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::model::manifest::{Entry, Kind, Stat, by_path};
use crate::repo::Repository;
use crate::repo::snapshot::RootRecord;

mod present;
mod stamp;

pub(crate) use present::{Present, Standing};
pub use stamp::is_stamped;
pub(crate) use stamp::stamp;

/// Returns true if an object has the content of an entry, or the target of a symlink: by reading it, not by its times. It is opened only if its
/// kind and size fit.
pub(crate) fn has_content(
    repo: &Repository,
    entry: &Entry,
    seen: &Stat,
    open: impl FnOnce() -> Option<File>,
    read_link: impl FnOnce() -> Option<Vec<u8>>,
) -> bool {
    if seen.kind != entry.kind {
        return false;
    }
    match entry.kind {
        Kind::File if seen.size != entry.size => false,
        Kind::File => open().is_some_and(|mut file| repo.has_content(&entry.body, &mut file)),
        Kind::Symlink => read_link().is_some_and(|target| target == entry.body.target),
        _ => true,
    }
}

/// One way in which a root is not as its listing says.
pub(crate) enum Differing<'a> {
    /// The listing does not have it.
    New(&'a RepoPath, &'a Standing),
    /// It is another, or something of it differs.
    Altered(&'a Entry, &'a Standing),
    /// It is not there any more.
    Gone(&'a Entry),
}

/// A root of a snapshot, and what is there now.
pub(crate) struct Compared {
    pub(crate) listing: BTreeMap<RepoPath, Entry>,
    pub(crate) present: Present,
}

impl Compared {
    /// Lists a root and looks at it; nothing is read yet.
    ///
    /// # Errors
    /// The listing cannot be read, the rules of the root do not compile, or it cannot be looked at.
    pub(crate) fn of(repo: &Repository, record: &RootRecord, never: &[PathBuf]) -> Result<Self> {
        Ok(Self {
            present: present::present(repo, record, never)?,
            listing: by_path(repo.listing(record)?),
        })
    }

    /// Returns what differs, but where `is_out` says so. First what is there, then what is gone, each by path.
    pub(crate) fn differences<'a>(
        &'a self,
        repo: &'a Repository,
        is_out: &'a dyn Fn(&RepoPath) -> bool,
    ) -> impl Iterator<Item = Differing<'a>> {
        let objects = self.present.objects.iter();
        let there = objects.filter(|(path, _)| !is_out(path));
        let there = there.filter_map(|(path, standing)| match self.listing.get(path) {
            None => Some(Differing::New(path, standing)),
            Some(entry) if self.present.is_as(repo, entry, standing) => None,
            Some(entry) => Some(Differing::Altered(entry, standing)),
        });
        let gone = self
            .listing
            .iter()
            .filter(|(path, _)| !self.present.objects.contains_key(path) && !is_out(path));
        there.chain(gone.map(|(_, entry)| Differing::Gone(entry)))
    }
}
