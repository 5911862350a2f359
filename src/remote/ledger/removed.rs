//! What was removed from a destination, or is about to be.
//!
//! *Dropped* names are those that this repository still has and that retention took away there: a push
//! does not bring them back, unless a new snapshot needs them. *Trash* is what no record needs any more;
//! it waits a day, for readers that began earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::id::Id;
use crate::disk::fsutil;
use crate::remote::frame;

const DROPPED: &str = "dropped.json.gz";
const DROPPING: &str = "dropping.json.gz";
const TRASH: &str = "trash.json.gz";
const MAX_BYTES: u64 = 256 << 20;

pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let packed = fsutil::read_derived(path)?;
    let json = frame::decompressed("a note in the ledger", &packed, MAX_BYTES).ok()?;
    serde_json::from_slice(&json).ok()
}

pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let json = serde_json::to_vec(value).map_err(|e| Error::Unrecordable {
        reason: e.to_string(),
    })?;
    fsutil::write_atomic(path, &frame::compressed(&json)?, 0o600)
}

/// Names that a push is about to remove: they are dropped when its record exists.
#[derive(Serialize, Deserialize)]
struct Dropping {
    push: Id,
    names: BTreeSet<String>,
}

/// Notes what the push that begins will drop.
pub(super) fn begin(dir: &Path, push: Id, names: &BTreeSet<String>) -> Result<()> {
    match names.is_empty() {
        true => forget_dropping(dir),
        false => {
            let names = names.clone();
            write(&dir.join(DROPPING), &Dropping { push, names })?;
        }
    }
    Ok(())
}

pub(super) fn forget_dropping(dir: &Path) {
    let _ = fsutil::remove_file(&dir.join(DROPPING));
}

pub(super) fn forget_dropped(dir: &Path) {
    let _ = fsutil::remove_file(&dir.join(DROPPED));
}

/// Returns the dropped names.
pub(super) fn dropped(dir: &Path) -> BTreeSet<String> {
    read(&dir.join(DROPPED)).unwrap_or_default()
}

/// Notes that the record of a push exists, which has some names.
pub(super) fn finish<'n>(
    dir: &Path,
    dropped: &mut BTreeSet<String>,
    push: Id,
    names: impl Iterator<Item = &'n String>,
) -> Result<()> {
    let before = dropped.len();
    let dropping = read::<Dropping>(&dir.join(DROPPING)).filter(|one| one.push == push);
    if !dropped.is_empty() {
        names.for_each(|name| _ = dropped.remove(name));
    }
    let is_same = dropped.len() == before && dropping.is_none();
    dropped.extend(dropping.into_iter().flat_map(|dropping| dropping.names));
    if !is_same {
        write(&dir.join(DROPPED), dropped)?;
    }
    Ok(())
}

/// Forgets dropped names that nobody has any more.
pub(super) fn sweep(
    dir: &Path,
    dropped: &mut BTreeSet<String>,
    is_here: impl Fn(&str) -> bool,
) -> Result<()> {
    let before = dropped.len();
    dropped.retain(|name| is_here(name));
    match dropped.len() == before {
        true => Ok(()),
        false => write(&dir.join(DROPPED), dropped),
    }
}

/// Why a store did not remove an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Until its retention ends.
    Retained,
    /// These credentials cannot delete.
    Forbidden,
}

/// One list of what is to be removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Discarded {
    /// The last part of its key: `<number>-<id>`.
    pub name: String,
    /// When this machine wrote it.
    pub at: DateTime<Utc>,
    /// Names below the machine's prefix with their sizes, and why they are still there, if the store
    /// was asked.
    pub objects: BTreeMap<String, (u64, Option<Refusal>)>,
    /// Somebody began to remove what it names.
    #[serde(default)]
    pub is_begun: bool,
}

/// All lists whose objects are still there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Trash {
    pub lists: Vec<Discarded>,
    /// Something was removed there, or will be when a retention ends: it can be.
    #[serde(default)]
    pub can_remove: bool,
    /// When these credentials were found not to allow it.
    #[serde(default)]
    pub forbidden: Option<DateTime<Utc>>,
}

impl Trash {
    pub(super) fn read(dir: &Path) -> Self {
        read(&dir.join(TRASH)).unwrap_or_default()
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        write(&dir.join(TRASH), self)
    }

    /// Returns true if an object is to be removed, or may be gone already.
    pub(in crate::remote) fn has(&self, name: &str) -> bool {
        self.lists
            .iter()
            .any(|list| list.objects.contains_key(name))
    }

    /// Returns how many objects wait, and their bytes: those that the store was not asked about.
    pub fn waiting(&self) -> (u64, u64) {
        self.count(None)
    }

    /// Returns how many objects the store refused to remove for a reason, and their bytes.
    pub fn refused(&self, why: Refusal) -> (u64, u64) {
        self.count(Some(why))
    }

    fn count(&self, fate: Option<Refusal>) -> (u64, u64) {
        let all = self.lists.iter().flat_map(|list| list.objects.values());
        let fits = all.filter(|(_, found)| *found == fate);
        fits.fold((0, 0), |(count, sum), (bytes, _)| (count + 1, sum + bytes))
    }

    /// Returns when the next of what waits may be removed.
    pub fn next(&self, wait: TimeDelta) -> Option<DateTime<Utc>> {
        let waits = |list: &&Discarded| list.objects.values().any(|(_, fate)| fate.is_none());
        let times = self.lists.iter().filter(waits).map(|list| list.at + wait);
        times.min()
    }
}
