//! The repository: everything below its directory, in the format of `docs/format.md`.
//!
//! Invariant: a snapshot record is written last, and everything it refers to is durable before it.
//! Files are written once and never edited.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::id::{Id, SnapshotId};
use crate::disk::fsutil::{self, Sharing};
use crate::disk::published::Published;
use crate::disk::storage::{self, Hold, LocalStorage, Storage};
use crate::disk::vault::{FileKey, Vault};
use crate::model::manifest::Time;
use crate::privacy::Rules;

pub mod aside;
mod batch;
pub mod by_path;
pub mod index;
pub mod kept;
pub mod keyframe;
pub mod layout;
mod lazy;
mod listings;
mod log;
pub mod marks;
mod newest;
pub mod oplog;
pub mod origin;
pub mod pack;
mod packs;
mod presence;
pub mod reader;
pub mod record;
pub(crate) mod recovery;
mod redacted;
mod running;
pub mod snapshot;
mod snapshots;
pub mod state;
pub mod summaries;
pub(crate) mod touches;
pub mod trash;
pub(crate) mod under_way;
mod unreadable;
pub(crate) mod verdicts;

pub use batch::Batch;
use index::Index;
pub use lazy::Snapshots;
pub(crate) use newest::MISSING;
use recovery::{RECOVER_MD, RECOVER_PY};
use snapshot::PackRef;
use snapshots::parse_snapshot_name;

/// Returns the id of the repository in a directory of this machine, without opening it; `None` if
/// there is none, or it cannot be read.
pub fn id_at(dir: &Path) -> Option<Id> {
    let json = crate::disk::fsutil::read_derived(&dir.join("format.json"))?;
    let format: Format = serde_json::from_slice(&json).ok()?;
    Some(format.id)
}

const VERSION: u64 = 1;
/// Space that is freed when the disk is full, in bytes.
const RESERVE_BYTES: usize = 128 * 1024;

#[derive(Serialize, Deserialize)]
struct Format {
    format: String,
    version: u64,
    id: Id,
    created: DateTime<Utc>,
    features: Features,
}

#[derive(Serialize, Deserialize, Default)]
struct Features {
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    prune: Vec<String>,
}

/// Returns the default place of sealed values: next to the derived files.
fn default_vault(cache: &Path) -> Vault {
    let dir = cache.join("vault");
    let key = FileKey(dir.join("vault.key"));
    Vault::new(&dir, None, Arc::new(key))
}

/// Snapshots, their content, and the operation log. A cheap handle: clones share what was read.
#[derive(Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    id: Id,
    cache: PathBuf,
    location: PathBuf,
    /// Features that a writer must know and this program does not.
    write_features: Vec<String>,
    /// Features that prune must know and this program does not.
    prune_features: Vec<String>,
    index: Arc<RwLock<Option<Arc<Index>>>>,
    kept: kept::Cache,
    /// Names of snapshots that were listed, by id: thousands of operations may each ask for theirs.
    snapshots: Arc<Mutex<HashMap<SnapshotId, String>>>,
    /// Records that were listed but could not be read, with the reason.
    unreadable: Arc<Mutex<BTreeMap<String, String>>>,
    privacy_rules: Arc<Rules>,
    published: Arc<Published>,
    vault: Arc<Vault>,
}

/// Packs whose table of contents cannot be read, with the reason.
pub type Unreadable = Vec<(PackRef, Error)>;

/// What a directory may contain that is not a repository yet.
const UNFINISHED: [&str; 5] = ["tmp", "RECOVER.md", "recover.py", "reserve", "lock"];

/// The file that all writers lock shared, and the sweep of prune alone.
const LOCK: &str = "lock";

impl Repository {
    /// Creates a repository, or finishes one whose creation was interrupted.
    ///
    /// # Errors
    /// The directory contains something else, or cannot be written.
    pub fn create(storage: Arc<dyn Storage>, cache: &Path, now: DateTime<Utc>) -> Result<Self> {
        let location = location_of(&*storage);
        storage.prepare()?;
        let is_made = || -> Result<bool> {
            let listed = storage
                .list("")
                .map_err(|e| Error::storage("list", ".", e))?;
            if listed.iter().any(|l| l.name == "format.json") {
                return Ok(true);
            }
            match listed.iter().find(|l| !UNFINISHED.contains(&&*l.name)) {
                None => Ok(false),
                // Another process created it during the listing.
                Some(_) if matches!(storage.size("format.json"), Ok(Some(_))) => Ok(true),
                Some(foreign) => Err(Error::NotARepository {
                    location: location.display().to_string(),
                    reason: format!("it holds `{}` and no format.json", foreign.name),
                }),
            }
        };
        if is_made()? {
            return Self::open(storage, cache);
        }
        // If several first calls run at once, one creates the repository and the others find it.
        // Without locks this takes luck.
        let _alone = storage.lock(LOCK, Sharing::Alone, Duration::MAX).ok();
        if is_made()? {
            return Self::open(storage, cache);
        }
        let format = Format {
            format: "bdr".to_owned(),
            version: VERSION,
            id: Id::new(now),
            created: now,
            features: Features::default(),
        };
        let json = serde_json::to_vec(&format)
            .map_err(|e| Error::invalid(format!("format.json: {e}"), None))?;
        // format.json comes last: it makes the directory a repository.
        for (name, bytes) in [
            ("RECOVER.md", RECOVER_MD),
            ("recover.py", RECOVER_PY),
            ("reserve", &vec![0; RESERVE_BYTES][..]),
            ("format.json", &json[..]),
        ] {
            storage::put(&*storage, name, bytes).map_err(|e| Error::storage("write", name, e))?;
        }
        Self::open(storage, cache)
    }

    /// Opens a repository. `cache` is the directory with `<repository id>/`, the derived files.
    ///
    /// # Errors
    /// There is none, it is something else, or it needs a newer program.
    pub fn open(storage: Arc<dyn Storage>, cache: &Path) -> Result<Self> {
        let location = location_of(&*storage);
        let shown = location.display().to_string();
        let not_one = |reason: &str| Error::NotARepository {
            location: shown.clone(),
            reason: reason.to_owned(),
        };
        let json = match storage.read("format.json") {
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A repository that is being created, or whose creation was interrupted, is none
                // yet.
                let is_foreign = |name: &str| !UNFINISHED.contains(&name);
                let foreign = storage
                    .list("")
                    .is_ok_and(|listed| listed.iter().any(|l| is_foreign(&l.name)));
                // Another process created it meanwhile.
                if foreign && matches!(storage.size("format.json"), Ok(Some(_))) {
                    return Self::open(storage, cache);
                }
                return Err(if foreign {
                    not_one("it has no format.json")
                } else {
                    Error::NoRepository { location: shown }
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(not_one("it is not a directory"));
            }
            Err(error) => return Err(Error::storage("read", "format.json", error)),
        };
        let value: serde_json::Value =
            serde_json::from_slice(&json).map_err(|_| not_one("its format.json is damaged"))?;
        if value["format"] != "bdr" {
            return Err(not_one("its format.json is not bdr's"));
        }
        let version = value["version"].as_u64().unwrap_or(0);
        let newer = |version, features: String| Error::NewerFormat {
            version,
            supported: VERSION,
            features,
        };
        if version != VERSION {
            return Err(newer(version, String::new()));
        }
        let format: Format =
            serde_json::from_value(value).map_err(|_| not_one("its format.json is damaged"))?;
        if !format.features.read.is_empty() {
            let features = format!(" without `{}`", format.features.read.join("`, `"));
            return Err(newer(version, features));
        }
        Ok(Self {
            storage,
            id: format.id,
            cache: cache.join(format.id.to_string()),
            location,
            write_features: format.features.write,
            prune_features: format.features.prune,
            index: Arc::default(),
            kept: kept::Cache::default(),
            snapshots: Arc::default(),
            unreadable: Arc::default(),
            privacy_rules: Arc::default(),
            published: Arc::default(),
            vault: Arc::new(default_vault(&cache.join(format.id.to_string()))),
        })
    }

    /// Sets the rules for what is sealed, and the vault for sealed values.
    #[must_use]
    pub fn with_privacy(mut self, rules: Rules, vault: Vault) -> Self {
        self.privacy_rules = Arc::new(rules);
        self.vault = Arc::new(vault);
        self
    }

    pub fn privacy_rules(&self) -> &Rules {
        &self.privacy_rules
    }

    /// What is public already, and so not sealed.
    pub fn published(&self) -> &Published {
        &self.published
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Returns the directory of a local repository; empty for others.
    pub fn location(&self) -> &Path {
        &self.location
    }

    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Returns the places where this machine can keep files without going through the storage, best
    /// first.
    pub fn areas(&self) -> Vec<PathBuf> {
        let local = self.storage.local();
        local.map(LocalStorage::areas).unwrap_or_default()
    }

    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Returns paths that no snapshot may contain: the repository and its cache.
    pub fn own_paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.cache.clone(), self.vault.dir().to_path_buf()];
        if let Some(local) = self.storage.local() {
            paths.push(local.directory().to_path_buf());
        }
        // A directory of that name next to the repository may be somebody else's.
        let is_own = |place: &PathBuf| !place.exists() || fsutil::area::is_place(place);
        paths.extend(self.areas().into_iter().filter(is_own));
        paths
    }

    /// Returns all paths that are neither captured nor changed: the repository's own, then those of
    /// the program that uses it.
    pub fn untouchable(&self, more: &[PathBuf]) -> Vec<PathBuf> {
        let mut paths = self.own_paths();
        paths.extend_from_slice(more);
        paths
    }

    /// Makes sure that this program may write to the repository.
    ///
    /// # Errors
    /// It has a feature that a writer must know.
    pub fn check_writable(&self) -> Result<()> {
        if self.write_features.is_empty() {
            return Ok(());
        }
        Err(Error::NewerFormat {
            version: VERSION,
            supported: VERSION,
            features: format!(" without writing `{}`", self.write_features.join("`, `")),
        })
    }

    /// Waits up to `patience` for a shared hold, which every writer but the sweep of prune needs;
    /// `None` if the storage has no locks.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process has it alone all that time, or if locking fails.
    pub fn hold(&self, patience: Duration) -> Result<Option<Hold>> {
        self.locked(LOCK, Sharing::Shared, patience)
    }

    fn locked(&self, name: &str, sharing: Sharing, patience: Duration) -> Result<Option<Hold>> {
        let held = self.storage.lock(name, sharing, patience);
        held.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::Busy {
                holder: String::new(),
            },
            // Not "busy": file systems without locks report that in other ways.
            _ => Error::io("lock", self.location.join(name), error),
        })
    }

    fn names(&self, dir: &str) -> Result<Vec<String>> {
        let names = self.storage.names(dir);
        names.map_err(|e| Error::storage("list", dir, e))
    }

    /// Reads a checked record.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn read_record<T: serde::de::DeserializeOwned + record::Record>(
        &self,
        name: &str,
    ) -> Result<T> {
        self.read_checked(name, &|bytes| {
            let value: T = record::decode(name, bytes)?;
            self.check_bound(name, &value, bytes)?;
            Ok(value)
        })
    }

    /// Returns the key for digests in end records, from this machine's cache. If the key is lost,
    /// changed files become conflicts instead of being merged.
    ///
    /// # Errors
    /// There is none yet and the cache cannot be written.
    pub fn merge_key(&self) -> Result<crate::model::merge::Key> {
        let path = self.cache.join("merge-key");
        if let Some(key) = fsutil::read_derived(&path).and_then(|k| k.try_into().ok()) {
            return Ok(key);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|e| Error::invalid(format!("no random numbers: {e}"), None))?;
        fsutil::create_dir_private(&self.cache)?;
        fsutil::write_derived(&path, &key)?;
        Ok(key)
    }

    /// Returns the total size of the repository.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn stored_bytes(&self) -> Result<u64> {
        fn sum(storage: &dyn Storage, dir: &str) -> std::io::Result<u64> {
            let mut total = 0;
            for listed in storage.list(dir)? {
                // Not part of the repository, and mostly hard links to files elsewhere.
                if dir.is_empty() && listed.name == "staging" {
                    continue;
                }
                let name = if dir.is_empty() {
                    listed.name
                } else {
                    format!("{dir}/{}", listed.name)
                };
                total += if listed.is_dir {
                    sum(storage, &name)?
                } else {
                    listed.bytes
                };
            }
            Ok(total)
        }
        sum(&*self.storage, "").map_err(|e| Error::storage("list", ".", e))
    }

    /// Removes temporary files that a crash left, unless a living writer may own them. Not every
    /// writer holds the lock: operation records are written without it, and so is the snapshot of a
    /// guard that could not wait for prune; both take seconds.
    ///
    /// Returns how many were removed.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn sweep_temporaries(&self, now: DateTime<Utc>) -> Result<u64> {
        if self.temporaries(now - LEFT_AFTER)?.is_empty() {
            return Ok(0);
        }
        // Every writer that takes longer holds the lock shared.
        let Ok(Some(_alone)) = self.storage.lock(LOCK, Sharing::Alone, Duration::ZERO) else {
            return Ok(0);
        };
        Ok(self.remove_temporaries(now)?.removed)
    }

    /// The same for whoever holds the lock alone.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn remove_temporaries(&self, now: DateTime<Utc>) -> Result<Left> {
        let left = self.temporaries(now - LEFT_AFTER)?;
        let removed = self.storage.remove_all(&left);
        removed.map_err(|e| Error::storage("remove", "tmp", e))?;
        Ok(Left {
            removed: left.len() as u64,
            young: self.temporaries(DateTime::<Utc>::MAX_UTC)?.len() as u64,
        })
    }

    fn temporaries(&self, before: DateTime<Utc>) -> Result<Vec<String>> {
        let before = Time(before.timestamp(), before.timestamp_subsec_nanos());
        let found = self.storage.abandoned(before);
        found.map_err(|e| Error::storage("list", "tmp", e))
    }
}

/// Temporary files that were found.
pub struct Left {
    /// Left by a crash, and removed.
    pub removed: u64,
    /// Those that a living writer may own.
    pub young: u64,
}

/// A temporary file that has not been written for this long is left from a crash.
const LEFT_AFTER: TimeDelta = TimeDelta::minutes(10);

fn location_of(storage: &dyn Storage) -> PathBuf {
    let local = storage.local();
    local.map_or_else(PathBuf::new, |local| local.directory().to_path_buf())
}
