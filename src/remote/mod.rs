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
        hint: hint(place, error),
    }
}

/// Returns what to do about it. A destination that is only known by its address has no name to type.
fn hint(place: &str, error: &StoreError) -> Option<String> {
    let is_ssh = error.said.starts_with("ssh: ");
    let named = |about: &str, command: &str| match place.contains([':', '/']) {
        true => String::new(),
        false => format!("{about}{command} {place}"),
    };
    Some(match error.trouble {
        Trouble::Unreachable => format!(
            "check the network and the address{}, then run the same command again",
            named(": ", "bdr remote show")
        ),
        Trouble::Certificate if is_ssh => "log in there by hand once (ssh HOST) and compare the key of the host; or add the option known-hosts=add to the address, which accepts a host that is new".to_owned(),
        Trouble::Certificate => "check the address: the server's certificate is for another host, expired, or signed by nobody known; the option ca=FILE names an authority of your own".to_owned(),
        Trouble::Credentials if is_ssh => "log in there by hand first (ssh USER@HOST has to work without a password); the option identity=FILE in the address names a key".to_owned(),
        Trouble::Credentials => match place.contains([':', '/']) {
            true => "check the key and the secret, or the password: they are read from variables, from the keychain, or from the provider's own files".to_owned(),
            false => format!(
                "check the key and the secret, or the password; to give others, run bdr remote add {place} URL again, with the same address (bdr remote show {place} has it)"
            ),
        },
        Trouble::Clock => {
            "set this machine's clock: the store refuses requests that are dated wrongly".to_owned()
        }
        Trouble::Forbidden => format!(
            "this user, or these credentials, may not do that{}",
            named("; what they may: ", "bdr remote test")
        ),
        Trouble::NoPlace => format!(
            "create the bucket or directory first, mount the disk, or correct the address{}",
            named(": ", "bdr remote show")
        ),
        Trouble::Elsewhere => {
            "name the region or the endpoint of the bucket in the URL: s3://BUCKET?region=REGION".to_owned()
        }
        Trouble::NotFound | Trouble::Exists => match place.contains([':', '/']) {
            true => return None,
            false => format!("bdr verify --remote {place}"),
        },
        Trouble::Retained => {
            "nothing to do: the store keeps it until its retention ends".to_owned()
        }
        Trouble::Full => {
            "free some space there, or add another destination (bdr remote add)".to_owned()
        }
        Trouble::Busy => "run the same command again later".to_owned(),
        Trouble::Nonsense => {
            "this is not the store's answer: check the address, and whether the network asks for a login first".to_owned()
        }
        Trouble::Unsupported => "bdr remote services lists what this bdr can reach".to_owned(),
        Trouble::Other => return None,
    })
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
