//! The one place that decides whether a file on disk equals its record.
//!
//! There are three questions, because there are three kinds of records, and the shorter the record,
//! the more expensive the answer:
//!
//! * a *state* has the whole `stat` and belongs to one snapshot: the walk compares with it and
//!   reads nothing ([`RootRun::look_again`]);
//! * a *stamp* records how an operation left an object: [`is_stamped`] reads nothing either;
//! * a *listing* has neither inodes nor times of change, so an object that nothing else vouches for
//!   is read: [`has_content`] checks one object, [`Compared`] all of a root.
//!
//! Differences other than in content are found by [`crate::model::compare`], for all three.
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
pub(crate) use stamp::UNKNOWN;
pub use stamp::is_stamped;
pub(crate) use stamp::stamp;

/// Returns true if an object has the content of an entry, or the target of a symlink. It reads the
/// object instead of trusting its times, but opens it only if kind and size fit.
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

/// One way in which a root differs from its listing.
pub(crate) enum Differing<'a> {
    /// The listing does not have it.
    New(&'a RepoPath, &'a Standing),
    /// It is another object, or differs in some attribute.
    Altered(&'a Entry, &'a Standing),
    Gone(&'a Entry),
}

/// A root of a snapshot, compared with what is there now.
pub(crate) struct Compared {
    pub(crate) listing: BTreeMap<RepoPath, Entry>,
    pub(crate) present: Present,
}

impl Compared {
    /// Lists a root and walks it; nothing is read yet.
    ///
    /// # Errors
    /// The listing cannot be read, the rules of the root do not compile, or the walk fails.
    pub(crate) fn of(repo: &Repository, record: &RootRecord, never: &[PathBuf]) -> Result<Self> {
        Ok(Self {
            present: present::present(repo, record, never)?,
            listing: by_path(repo.listing(record)?),
        })
    }

    /// Returns the differences, except where `is_out` says so. First what exists, then what is
    /// gone, each by path.
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
