//! The part of a plan about files with sealed values.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use super::{Overwrite, RestoreOptions};
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::privacy::merge::Merged;
use crate::recover::site::Site;
use crate::recover::unseal::{self, Recovery, recover};
use crate::repo::Repository;
use crate::repo::reader::Reader;

/// A file composed of the stored bytes and the available values.
pub(super) struct Written {
    /// Below the base of the site.
    pub(super) place: RepoPath,
    pub(super) entry: Arc<Entry>,
    pub(super) bytes: Vec<u8>,
    /// What is there now.
    pub(super) seen: Option<Stat>,
}

/// The outcome for a file with sealed values.
pub(super) struct Outcome {
    /// `None` if nothing is written.
    pub(super) written: Option<Written>,
    /// The result, key by key; `None` if no value is available.
    pub(super) merged: Option<Merged>,
    /// Where it is written, if next to the original.
    pub(super) aside: Option<RepoPath>,
    /// What will not be as it should be.
    pub(super) problem: Option<String>,
}

/// Decides on a file with sealed values; `None` if it can be restored like any other.
pub(super) fn decide(
    repo: &Repository,
    site: &mut Site<'_>,
    entry: &Entry,
    seen: Option<Stat>,
    options: &RestoreOptions,
) -> Result<Option<Outcome>> {
    let place = site.place(&entry.path);
    let mut open = || match seen {
        Some(seen) if seen.kind == Kind::File => site.target.open_file(&place).ok(),
        _ => None,
    };
    // A file that is unchanged needs none of its values.
    let is_as_it_was = |mut file: File| repo.has_content(&entry.body, &mut file);
    if options.overwrite == Overwrite::IfChanged && open().is_some_and(is_as_it_was) {
        return Ok(None);
    }
    let mut reader = Reader::new(repo);
    let mut live = open();
    let found = recover(repo, &mut reader, entry, live.as_mut(), &options.secrets)?;
    Ok(match found {
        Recovery::Exact => None,
        Recovery::Merged(bytes, merged) => {
            let is_there = open().is_some_and(|file| has_bytes(file, &bytes));
            let written = Written {
                entry: entry_of(entry, &bytes, entry.mode, options),
                place,
                bytes,
                seen,
            };
            let unproven = repo.vault().unproven();
            Some(Outcome {
                written: (!is_there).then_some(written),
                merged: Some(merged),
                aside: None,
                problem: unproven.map(|why| format!("{}: {why}", unseal::UNPROVEN)),
            })
        }
        Recovery::Aside(bytes, merged) => {
            let aside = site.beside(&entry.path, &unseal::aside(place.name()));
            let there = site.target.stat(&aside)?;
            let written = Written {
                place: aside.clone(),
                entry: entry_of(entry, &bytes, 0o600, options),
                bytes,
                seen: there.filter(|there| there.kind != Kind::Dir),
            };
            Some(Outcome {
                written: Some(written),
                problem: Some(unseal::unresolved(&merged)),
                merged: Some(merged),
                aside: Some(aside),
            })
        }
        Recovery::Nothing => {
            let why = repo.vault().unproven();
            Some(Outcome {
                written: None,
                merged: None,
                aside: None,
                problem: Some(why.unwrap_or_else(|| unseal::NOTHING.to_owned())),
            })
        }
    })
}

/// Returns the entry of a composed file: it is new, and not another name of a file.
fn entry_of(entry: &Entry, bytes: &[u8], mode: u32, options: &RestoreOptions) -> Arc<Entry> {
    let now = options.now;
    let mut new = Entry {
        mode,
        mtime: Time(now.timestamp(), now.timestamp_subsec_nanos()),
        size: bytes.len() as u64,
        ..entry.clone()
    };
    new.body.link.clear();
    Arc::new(new)
}

fn has_bytes(mut file: File, bytes: &[u8]) -> bool {
    let mut there = Vec::new();
    file.read_to_end(&mut there).is_ok() && there == bytes
}
