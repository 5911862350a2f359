//! Destinations: what a repository has outside of this machine (`docs/format.md` §10).
//!
//! The local repository stays the truth. A *destination* is a prefix of a store that one machine
//! alone writes to. A *push* adds objects, then one record that names them and has the small files
//! inside; the push exists when its record does. Nothing is locked, renamed, or ordered by a clock.
//!
//! `record` is what a push says, `sign` who says it, `crypt` and `frame` what an object looks like,
//! `ledger` what this machine knows of a destination without asking. `push` writes, `reading` is a storage that reads.
//! `adopt` goes on with what another machine
//! pushed. `prune` removes, by what `book` knows of the needs of each snapshot (`needs` finds them out).

use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::disk::storage::Storage;
use crate::disk::store::{StoreError, Trouble};
use crate::repo::Repository;
use crypt::Identities;
use reading::RemoteStorage;

pub mod adopt;
pub mod book;
pub mod check;
pub mod clone;
pub mod crypt;
pub mod destination;
mod frame;
pub mod identity;
pub mod ledger;
pub mod level;
mod needs;
pub mod prune;
pub mod push;
pub mod reading;
pub mod record;
pub mod sign;
mod spool;
pub mod words;

pub use destination::Destination;

/// The first part of every key: nothing else in a bucket is bdr's.
pub const PREFIX: &str = "bdr1/";

/// Returns the error of a request to a destination.
pub fn failed(place: &str, action: &'static str, error: &StoreError) -> Error {
    Error::Remote {
        place: place.to_owned(),
        action,
        said: error.said.clone(),
        trouble: error.trouble.word(),
        hint: error.trouble.hint().map(str::to_owned),
    }
}

impl Trouble {
    /// Returns a stable word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Certificate => "certificate",
            Self::Credentials => "credentials",
            Self::Clock => "clock",
            Self::Forbidden => "forbidden",
            Self::NoPlace => "no-place",
            Self::Elsewhere => "elsewhere",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Retained => "retained",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Nonsense => "nonsense",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }

    /// Returns what to do about it.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable => {
                "check the network and the address (bdr remote show NAME), then run the same command again"
            }
            Self::Certificate => {
                "check the address: the server's certificate is for another host, expired, or signed by nobody known"
            }
            Self::Credentials => {
                "check the key and the secret, or renew them: bdr remote test NAME"
            }
            Self::Clock => {
                "set this machine's clock: the store refuses requests that are dated wrongly"
            }
            Self::Forbidden => {
                "these credentials do not allow it; bdr remote test NAME says what they allow"
            }
            Self::NoPlace => {
                "create the bucket or directory first, or correct the address: bdr remote show NAME"
            }
            Self::Elsewhere => {
                "name the region or the endpoint of the bucket in the URL: s3://BUCKET?region=REGION"
            }
            Self::NotFound | Self::Exists => "bdr verify --remote NAME",
            Self::Retained => "nothing to do: the store keeps it until its retention ends",
            Self::Full => {
                "free some space there, or add another destination: bdr remote add NAME URL"
            }
            Self::Busy => "run the same command again later",
            Self::Nonsense => {
                "this is not the store's answer: check the address, and whether the network asks for a login first"
            }
            Self::Unsupported => "bdr remote services lists what this bdr can reach",
            Self::Other => return None,
        })
    }
}

/// Opens what a destination holds as a repository that is only read. `cache` is the directory for
/// derived files, which must not be that of the local repository. Also returns the storage.
///
/// # Errors
/// Nothing was pushed there, no identity opens it, or it cannot be read.
pub fn open(
    destination: &Destination,
    mut identities: Identities,
    cache: &Path,
) -> Result<(Repository, Arc<RemoteStorage>)> {
    let held = destination.held(&mut identities)?;
    let held = held.ok_or_else(|| Error::NothingPushed {
        place: destination.place().to_owned(),
    })?;
    let problems: Vec<(String, String)> = held
        .problems
        .iter()
        .map(|problem| match problem {
            Error::Damaged { name, reason } => (name.clone(), reason.clone()),
            Error::Unreadable { name, reason } => (name.clone(), reason.clone()),
            Error::NoKey { .. } => (
                "pushes".to_owned(),
                "an older record is for an older key, which was not given".to_owned(),
            ),
            other => ("pushes".to_owned(), other.to_string()),
        })
        .collect();
    let storage = Arc::new(RemoteStorage::new(destination.clone(), identities, held));
    let opened = Repository::open(Arc::clone(&storage) as Arc<dyn Storage>, cache);
    let repo = match (opened, problems.first()) {
        (Ok(repo), _) => repo,
        // What is missing is in there.
        (Err(_), Some((name, reason))) => return Err(Error::damaged(name, reason.clone())),
        (Err(error), None) => return Err(error),
    };
    for (name, reason) in problems {
        repo.note_lost(&name, reason);
    }
    Ok((repo, storage))
}

/// The file that says how a destination is read without bdr; [`crate::repo::recovery`] has the program.
const RECOVER_MD: &[u8] = include_bytes!("RECOVER.md");
