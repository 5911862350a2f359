//! Examines what is stored by today's rules; whatever should not be there is sealed, and its old
//! form is removed.
//!
//! Nobody else writes meanwhile. Order: the replacement is written (packs, vault, listings), then
//! the records of the snapshots one by one, then the old form is deleted, not moved to the trash.
//! Wherever this is interrupted, everything stored can still be restored, and the next run
//! continues.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, SnapshotId};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::os_to_bytes;
use crate::model::manifest::{Content, Entry, Kind};
use crate::protect::capture::{Sealing, seal_bytes};
use crate::protect::guard::redacted;
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::reader::Reader;
use crate::repo::snapshot::{RootRecord, Snapshot};

mod purge;

/// Larger content, in bytes, is not examined again.
const MAX_BYTES: u64 = 256 << 20;
/// How long to wait for other writers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file that is stored in part or whole although today's rules would seal it.
#[derive(Debug, Clone)]
pub struct Exposed {
    pub path: String,
    /// Number of snapshots that have it.
    pub snapshots: u64,
    /// Kinds of findings, with their counts.
    pub kinds: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
pub struct RescanReport {
    /// Distinct contents that were examined.
    pub checked: u64,
    /// Exposed files, by path.
    pub exposed: Vec<Exposed>,
    /// Paths of files that were sealed although today's rules let them be, in order.
    pub opened: Vec<String>,
    /// Contents that are too large, or cannot be read.
    pub skipped: u64,
    pub rewritten: u64,
    pub removed_packs: u64,
    /// Operations whose commands were rewritten.
    pub operations: u64,
    /// Temporary files that may be left from a crash, or be written just now.
    pub unfinished: u64,
}

/// Examines everything that is stored; with `purge`, seals what today's rules would.
///
/// # Errors
/// The repository cannot be read or written, or another process does not let go of it.
pub fn rescan(
    repo: &Repository,
    purge: bool,
    now: DateTime<Utc>,
    monitor: &dyn Monitor,
) -> Result<RescanReport> {
    if !purge {
        return Work::default().look(repo, monitor).map(|work| work.report);
    }
    repo.check_writable()?;
    repo.check_prunable()?;
    repo.alone(PATIENCE, || {
        let mut work = Work::default().look(repo, monitor)?;
        work.operations(repo)?;
        purge::purge(&mut work, repo, monitor)?;
        // What a crash left half written may have anything.
        work.report.unfinished = repo.remove_temporaries(now)?.young;
        Ok(work.report)
    })
}

/// What happens to a content under one name.
enum Fate {
    Stays,
    /// It is replaced by this.
    Becomes(Box<Sealing>),
    /// It was sealed, and is nothing to seal any more.
    Opens,
}

#[derive(Default)]
struct Work {
    report: RescanReport,
    snapshots: Vec<Snapshot>,
    /// By digest and path.
    fates: HashMap<(Digest, Vec<u8>), Fate>,
    /// Blobs with content that has to go.
    bad: DigestSet,
    exposed: BTreeMap<String, (HashSet<SnapshotId>, BTreeMap<String, u64>)>,
    opened: BTreeSet<String>,
}

/// Returns the content and the whole path of a file: what happens to a content may depend on where it
/// is.
fn key_of(entry: &Entry, root: &Path) -> Option<(Digest, Vec<u8>)> {
    let content = entry.body.content.as_ref().map(|content| content.digest);
    // Of a file that is sealed as a whole there is only the keyed digest.
    let digest = content.or_else(|| entry.body.sealed.as_ref().map(|sealed| sealed.mac))?;
    let path = entry.path.to_path(root);
    Some((digest, os_to_bytes(path.as_os_str()).into_owned()))
}

impl Work {
    fn look(mut self, repo: &Repository, monitor: &dyn Monitor) -> Result<Self> {
        self.snapshots = repo
            .snapshot_names()?
            .iter()
            .map(|name| {
                let mut snapshot = repo.read_snapshot(name)?;
                for root in &mut snapshot.roots {
                    root.changed = repo.resolve_all(std::mem::take(&mut root.changed));
                }
                Ok(snapshot)
            })
            .collect::<Result<_>>()?;
        monitor.phase(Phase::Verifying, self.snapshots.len() as u64, 0);
        let mut reader = Reader::new(repo);
        let mut bases = DigestSet::default();
        let (index, _) = repo.refreshed_index()?;
        // Of what a snapshot does not show, prune may have removed the content.
        let is_stored = |entry: &&Entry| {
            let mut blobs = entry.body.content.iter().flat_map(Content::blobs);
            blobs.all(|blob| index.copies(*blob).next().is_some())
        };
        for snapshot in self.snapshots.clone() {
            for root in &snapshot.roots {
                for entry in repo.listing(root)? {
                    self.find(repo, &mut reader, (root, snapshot.id), &entry, monitor)?;
                }
                // What a listing builds on has more than it shows: what changed since.
                let base = root.base.filter(|base| bases.insert(*base));
                let frame = base.map(|base| repo.keyframe(base)).transpose()?;
                let frame = frame.map(|frame| repo.resolve_all(frame));
                for entry in frame.iter().flatten().filter(is_stored) {
                    self.find(repo, &mut reader, (root, snapshot.id), entry, monitor)?;
                }
            }
            monitor.advance(1, 0);
        }
        self.report.opened = self.opened.iter().cloned().collect();
        self.report.exposed = std::mem::take(&mut self.exposed)
            .into_iter()
            .map(|(path, (snapshots, kinds))| Exposed {
                path,
                snapshots: snapshots.len() as u64,
                kinds,
            })
            .collect();
        Ok(self)
    }

    /// Examines an entry of a snapshot, and notes what was found.
    fn find(
        &mut self,
        repo: &Repository,
        reader: &mut Reader<'_>,
        (root, snapshot): (&RootRecord, SnapshotId),
        entry: &Entry,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let Some(key) = key_of(entry, root.path.as_path()) else {
            return Ok(());
        };
        self.entry(repo, reader, entry, &key)?;
        let place = || format!("{}/{}", root.name, entry.path);
        match self.fates.get(&key) {
            Some(Fate::Becomes(sealing)) => {
                let kinds = || (HashSet::new(), sealing.sealed.kinds.clone());
                let found = self.exposed.entry(place()).or_insert_with(kinds);
                found.0.insert(snapshot);
            }
            Some(Fate::Opens) => {
                self.opened.insert(place());
            }
            Some(Fate::Stays) | None => {}
        }
        Ok(())
    }

    fn entry(
        &mut self,
        repo: &Repository,
        reader: &mut Reader<'_>,
        entry: &Entry,
        key: &(Digest, Vec<u8>),
    ) -> Result<()> {
        let content = entry.body.content.as_ref();
        if entry.kind != Kind::File
            || self.fates.contains_key(key)
            || content.is_some_and(|content| content.as_kept().is_some())
        {
            return Ok(());
        }
        // Values sealed before are sealed again from the original, if it is here.
        let sealed_before = entry.body.sealed.is_some();
        let whole_here = repo.is_whole_here(&entry.body);
        if content.is_none() && !whole_here {
            // Nothing of it is stored, and nothing can be.
            return Ok(());
        }
        self.report.checked += 1;
        let size = content.map_or(entry.size, |content| content.size());
        let bytes = if size > MAX_BYTES || sealed_before && !whole_here {
            Err(Error::Interrupted)
        } else {
            reader.original_to_vec(&entry.body)
        };
        let fate = match bytes {
            Err(_) => {
                self.report.skipped += 1;
                Fate::Stays
            }
            Ok(bytes) => match seal_bytes(repo, &key.1, &bytes)? {
                Some(new)
                    if !entry.body.sealed.as_ref().is_some_and(|old| {
                        old.values == new.sealed.values && old.whole == new.sealed.whole
                    }) =>
                {
                    self.bad
                        .extend(content.into_iter().flat_map(Content::blobs));
                    Fate::Becomes(Box::new(new))
                }
                None if sealed_before => Fate::Opens,
                _ => Fate::Stays,
            },
        };
        self.fates.insert(key.clone(), fate);
        Ok(())
    }

    /// Finds commands of operations that were recorded with a secret.
    fn operations(&mut self, repo: &Repository) -> Result<()> {
        for operation in repo.operations()? {
            let mut begin = operation.begin;
            let argv = redacted(repo, begin.argv.iter().map(|word| word.0.clone()).collect());
            if argv != begin.argv {
                begin.argv = argv;
                repo.begin(&begin)?;
                self.report.operations += 1;
            }
        }
        Ok(())
    }
}
