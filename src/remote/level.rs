//! How far a destination is safe from the machine that writes to it: found out by trying, with the
//! machine's own credentials, because servers and policies promise more than they do.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::PREFIX;
use super::ledger::Refusal;
use crate::base::error::{Error, Result};
use crate::disk::fsutil;
use crate::disk::store::{Location, Service, Store, StoreError, StoreResult, Trouble, Write};

/// From the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The store lets this machine add, and neither change nor delete for good.
    AddOnly,
    /// The store refuses to replace an object where bdr asks it to; whoever does not ask can
    /// replace and delete.
    CreateOnly,
    /// Anything can be replaced and deleted; bdr notices, because records have the digests.
    Noticed,
    /// What was written was not what was read afterwards.
    Neither,
}

impl Level {
    pub const ALL: [Self; 4] = [
        Self::AddOnly,
        Self::CreateOnly,
        Self::Noticed,
        Self::Neither,
    ];

    /// Returns a stable word for machines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AddOnly => "add-only",
            Self::CreateOnly => "create-only",
            Self::Noticed => "noticed",
            Self::Neither => "neither",
        }
    }

    /// Returns what it is called.
    pub const fn words(self) -> &'static str {
        match self {
            Self::AddOnly => "add-only, enforced",
            Self::CreateOnly => "create-only",
            Self::Noticed => "overwriting is noticed",
            Self::Neither => "nothing: it does not keep what it is given",
        }
    }

    /// Returns what a thief of this machine's credentials can do.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::AddOnly => {
                "whoever has this machine's credentials can add, and cannot change or destroy what is there"
            }
            Self::CreateOnly => {
                "nothing is replaced by mistake; whoever has this machine's credentials can still delete"
            }
            Self::Noticed => {
                "whoever has this machine's credentials can replace and delete; bdr notices it"
            }
            Self::Neither => "do not rely on it",
        }
    }
}

/// What came of an attempt at something that should be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    Refused,
    /// It was done, and what was there before stays as a version that cannot be removed.
    Kept,
    Done,
    /// The service has nothing like it.
    Unsupported,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    pub level: Level,
    /// Creating an object that exists, only if it does not.
    pub create: Attempt,
    /// Replacing it.
    pub replace: Attempt,
    /// Deleting it.
    pub delete: Attempt,
    /// Whether a listing had it right after it was written.
    pub is_listed: bool,
    /// The key of the object that was tried with, if it could not be removed.
    pub left: Option<String>,
}

/// What is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Another place is another destination.
    pub url: String,
    pub at: DateTime<Utc>,
    pub probed: Probed,
}

impl Known {
    /// Reads what was found out about the place at `url`, in the directory of a destination; `None`
    /// if it was never tried.
    pub fn read(dir: &Path, url: &str) -> Option<Self> {
        let json = fsutil::read_derived(&dir.join("level.json"))?;
        let known: Self = serde_json::from_slice(&json).ok()?;
        (known.url == url).then_some(known)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(dir)?;
        fsutil::write_atomic(&dir.join("level.json"), &json, 0o600)
    }
}

const FIRST: &[u8] = b"bdr tries whether this can be replaced";
const SECOND: &[u8] = b"it can";

/// Says whether something was refused, and passes on what has another reason.
fn attempt(outcome: StoreResult<()>) -> StoreResult<Attempt> {
    match outcome {
        Ok(()) => Ok(Attempt::Done),
        Err(error) => match error.trouble {
            Trouble::Forbidden | Trouble::Exists | Trouble::Retained => Ok(Attempt::Refused),
            Trouble::Unsupported => Ok(Attempt::Unsupported),
            _ => Err(error),
        },
    }
}

fn probe_key() -> StoreResult<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::new(Trouble::Other, error.to_string()))?;
    Ok(format!("{PREFIX}probe/{}", hex::encode(random)))
}

/// Writes an object, reads it, finds it in a listing and removes it: whether the place can be used
/// at all. Returns whether it could be removed.
///
/// # Errors
/// It cannot, `place` says where.
pub fn reach(store: &dyn Store, place: &str) -> Result<bool> {
    let fail = |action, error: &StoreError| super::failed(place, action, error);
    let key = probe_key().map_err(|e| fail("write to", &e))?;
    put_new(store, &key, FIRST).map_err(|e| fail("write to", &e))?;
    let read = store.get(&key, None).map_err(|e| fail("read from", &e))?;
    let names = store.names(&format!("{PREFIX}probe/"));
    names.map_err(|e| fail("list", &e))?;
    let removed = attempt(store.remove(&key)).map_err(|e| fail("delete from", &e))?;
    match read == FIRST {
        true => Ok(removed == Attempt::Done),
        false => {
            let said = "what was read is not what was written";
            Err(fail("read from", &StoreError::new(Trouble::Nonsense, said)))
        }
    }
}

/// Writes an object and removes it: whether these credentials can delete. `None` if they can.
///
/// # Errors
/// The store cannot be reached or used, `place` says which.
pub(super) fn refusal(store: &dyn Store, place: &str) -> Result<Option<Refusal>> {
    let fail = |action, error: &StoreError| super::failed(place, action, error);
    let key = probe_key().map_err(|e| fail("write to", &e))?;
    put_new(store, &key, FIRST).map_err(|e| fail("write to", &e))?;
    match store.remove(&key) {
        Ok(()) => Ok(None),
        Err(error) => match error.trouble {
            Trouble::NotFound => Ok(None),
            Trouble::Retained => Ok(Some(Refusal::Retained)),
            Trouble::Forbidden | Trouble::Exists => Ok(Some(Refusal::Forbidden)),
            _ => Err(fail("delete from", &error)),
        },
    }
}

fn put_new(store: &dyn Store, key: &str, bytes: &[u8]) -> StoreResult<()> {
    if store.has_create_only() {
        match store.put(key, bytes, Write::CreateOnly) {
            Err(error) if error.trouble == Trouble::Unsupported => {}
            other => return other,
        }
    }
    store.put(key, bytes, Write::Plain)
}

/// Finds the level out, with objects below `bdr1/probe/`.
///
/// # Errors
/// The store cannot be reached or used, `place` says which.
pub fn probe(store: &dyn Store, place: &str) -> Result<Probed> {
    try_all(store).map_err(|(action, error)| super::failed(place, action, &error))
}

fn try_all(store: &dyn Store) -> std::result::Result<Probed, (&'static str, StoreError)> {
    let key = probe_key().map_err(|e| ("write to", e))?;
    put_new(store, &key, FIRST).map_err(|e| ("write to", e))?;
    let read = |wanted: &[u8]| match store.get(&key, None) {
        Ok(found) => Ok(found == wanted),
        Err(error) if error.trouble == Trouble::NotFound => Ok(false),
        Err(error) => Err(("read from", error)),
    };
    let is_read = read(FIRST)?;
    let name = key.rsplit('/').next().unwrap_or_default();
    let names = store
        .names(&format!("{PREFIX}probe/"))
        .map_err(|e| ("list", e))?;
    let is_listed = names.iter().any(|found| found == name);

    let create = match store.has_create_only() {
        false => Attempt::Unsupported,
        true => attempt(store.put(&key, SECOND, Write::CreateOnly)).map_err(|e| ("write to", e))?,
    };
    // What is said to be refused, and was done, counts as done.
    let create = match create {
        Attempt::Refused if !read(FIRST)? => Attempt::Done,
        create => create,
    };
    let mut replace =
        attempt(store.put(&key, SECOND, Write::Plain)).map_err(|e| ("write to", e))?;
    if replace == Attempt::Refused && create == Attempt::Refused && !read(FIRST)? {
        replace = Attempt::Done;
    }
    let mut delete = attempt(store.remove(&key)).map_err(|e| ("delete from", e))?;
    if delete == Attempt::Refused && store.size(&key).is_ok_and(|size| size.is_none()) {
        delete = Attempt::Done;
    }
    // A server may refuse one way and not the other (SeaweedFS 4.48 with a bucket's policy does).
    if delete == Attempt::Refused {
        let _ = store.remove_together(&[key.clone(), format!("{key}-too")]);
        if store.size(&key).is_ok_and(|size| size.is_none()) {
            delete = Attempt::Done;
        }
    }
    // With versions, replacing and deleting only hide what was there; unless versions can go, too.
    if (replace, delete) != (Attempt::Refused, Attempt::Refused) {
        let versions = store.remove_versions(&key);
        let is_kept = versions
            .as_ref()
            .is_err_and(|error| matches!(error.trouble, Trouble::Retained | Trouble::Forbidden));
        if is_kept {
            for done in [&mut replace, &mut delete] {
                if *done == Attempt::Done {
                    *done = Attempt::Kept;
                }
            }
        }
    }
    let is_gone = matches!(delete, Attempt::Done);
    let is_safe = |attempt| matches!(attempt, Attempt::Refused | Attempt::Kept);
    let level = match (is_safe(replace) && is_safe(delete), create) {
        _ if !is_read => Level::Neither,
        (true, _) => Level::AddOnly,
        (false, Attempt::Refused) => Level::CreateOnly,
        _ => Level::Noticed,
    };
    Ok(Probed {
        level,
        create,
        replace,
        delete,
        is_listed,
        left: (!is_gone).then_some(key),
    })
}

/// Returns a policy to paste at the provider, which makes a bucket one that this machine can only
/// add to; `None` where bdr knows none.
pub fn policy(location: &Location) -> Option<String> {
    // Other servers that speak S3 have policies of their own.
    let is_aws = location
        .option("endpoint")
        .is_none_or(|endpoint| endpoint.contains(".amazonaws.com"));
    if location.service != Service::S3 || !is_aws {
        return None;
    }
    let bucket = &location.bucket;
    let slash = if location.root.is_empty() { "" } else { "/" };
    let below = format!("{bucket}/{}{slash}", location.root);
    Some(format!(
        r#"{{
  "Version": "2012-10-17",
  "Statement": [
    {{
      "Sid": "Add",
      "Effect": "Allow",
      "Action": "s3:PutObject",
      "Resource": "arn:aws:s3:::{below}*",
      "Condition": {{ "Null": {{ "s3:if-none-match": "false" }} }}
    }},
    {{
      "Sid": "Read",
      "Effect": "Allow",
      "Action": "s3:GetObject",
      "Resource": "arn:aws:s3:::{below}*"
    }},
    {{
      "Sid": "List",
      "Effect": "Allow",
      "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
      "Resource": "arn:aws:s3:::{bucket}"
    }}
  ]
}}
"#
    ))
}

/// Returns how an enforced level can be had where the store gives less; `None` where bdr knows no
/// way.
pub fn advice(location: &Location) -> Option<&'static str> {
    Some(match location.service {
        Service::S3 => {
            "give this machine a key of its own with the policy of `bdr remote test NAME --policy`, or make a bucket with Object Lock and a default retention"
        }
        Service::Gcs => {
            "set a retention policy on the bucket, or give this machine the role Storage Object Creator and Viewer, without delete"
        }
        Service::Azblob => "set an immutability policy (time-based retention) on the container",
        Service::B2 => {
            "use its S3 endpoint with Object Lock, or a key without the capability deleteFiles"
        }
        Service::Sftp | Service::Webdav | Service::Webdavs | Service::File => {
            "let the server make snapshots that this machine's account cannot delete"
        }
        Service::Gdrive | Service::Dropbox => return None,
    })
}
