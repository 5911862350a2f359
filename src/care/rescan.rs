//! Looks at what is stored with the rules of today; what should not be there is sealed, and what held it is removed.
//!
//! Nobody else writes meanwhile. Order: what takes its place is written (packs, vault, listings), then the records of the snapshots one by
//! one, then what held it is deleted, not thrown into the trash. Cut off anywhere, everything that was stored can still be restored, and
//! the next run goes on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, SnapshotId};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{os_to_bytes, tar_name};
use crate::disk::fsutil::OwnTree;
use crate::model::manifest::{Content, Entry, Kind, Listing, Time};
use crate::protect::capture::{Sealing, seal_bytes};
use crate::protect::guard::redacted;
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::layout;
use crate::repo::pack::{Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{Snapshot, SnapshotKind};

/// Larger content is not looked at again, bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Names the packs that are to be deleted, from before the first record is written anew until they are gone.
const JOURNAL: &str = "purging.json";
/// How long to wait for others who write.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file of which something is stored that the rules of today would seal.
#[derive(Debug, Clone)]
pub struct Exposed {
    /// Root and path.
    pub path: String,
    /// Snapshots that have it.
    pub snapshots: u64,
    /// What was found.
    pub kinds: BTreeMap<String, u64>,
}

/// What a rescan came to.
#[derive(Debug, Clone, Default)]
pub struct RescanReport {
    /// Different contents that were looked at.
    pub checked: u64,
    /// What is exposed, by path.
    pub exposed: Vec<Exposed>,
    /// Contents that are too large, or cannot be read.
    pub skipped: u64,
    /// Snapshots that were written anew.
    pub rewritten: u64,
    /// Packs that are gone.
    pub removed_packs: u64,
    /// Operations whose commands were written anew.
    pub operations: u64,
}

/// Looks at everything that is stored; with `purge`, seals what the rules of today would.
///
/// # Errors
/// The repository cannot be read or written, or somebody else does not let go of it.
pub fn rescan(repo: &Repository, purge: bool, monitor: &dyn Monitor) -> Result<RescanReport> {
    if !purge {
        return Work::default().look(repo, monitor).map(|work| work.report);
    }
    repo.check_writable()?;
    repo.check_prunable()?;
    repo.alone(PATIENCE, || {
        let mut work = Work::default().look(repo, monitor)?;
        work.purge(repo, monitor)?;
        Ok(work.report)
    })
}

/// What becomes of one content under one name.
enum Fate {
    Stays,
    /// What takes its place.
    Becomes(Box<Sealing>),
}

#[derive(Default)]
struct Work {
    report: RescanReport,
    snapshots: Vec<Snapshot>,
    /// By digest and name of the file.
    fates: HashMap<(Digest, Vec<u8>), Fate>,
    /// Blobs that hold what is to go.
    bad: DigestSet,
    exposed: BTreeMap<String, (HashSet<SnapshotId>, BTreeMap<String, u64>)>,
}

fn key_of(entry: &Entry) -> Option<(Digest, Vec<u8>)> {
    let content = entry.body.content.as_ref()?;
    Some((content.digest, entry.path.name().to_vec()))
}

impl Work {
    fn look(mut self, repo: &Repository, monitor: &dyn Monitor) -> Result<Self> {
        self.snapshots = repo
            .snapshot_names()?
            .iter()
            .map(|name| repo.read_snapshot(name))
            .collect::<Result<_>>()?;
        monitor.phase(Phase::Verifying, self.snapshots.len() as u64, 0);
        let mut reader = Reader::new(repo);
        for snapshot in self.snapshots.clone() {
            for root in &snapshot.roots {
                for entry in repo.listing(root)? {
                    if monitor.stopped() {
                        return Err(Error::Interrupted);
                    }
                    let place = format!("{}/{}", root.name, entry.path);
                    let absolute = entry.path.to_path(root.path.as_path());
                    self.entry(
                        repo,
                        &mut reader,
                        &entry,
                        &os_to_bytes(absolute.as_os_str()),
                    )?;
                    let fate = key_of(&entry).and_then(|key| self.fates.get(&key));
                    if let Some(Fate::Becomes(sealing)) = fate {
                        let kinds = sealing.sealed.kinds.clone();
                        self.exposed
                            .entry(place)
                            .or_insert_with(|| (HashSet::new(), kinds))
                            .0
                            .insert(snapshot.id);
                    }
                }
            }
            monitor.advance(1, 0);
        }
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

    fn entry(
        &mut self,
        repo: &Repository,
        reader: &mut Reader<'_>,
        entry: &Entry,
        path: &[u8],
    ) -> Result<()> {
        let (Some(key), Some(content)) = (key_of(entry), &entry.body.content) else {
            return Ok(());
        };
        if entry.kind != Kind::File || self.fates.contains_key(&key) || content.as_kept().is_some()
        {
            return Ok(());
        }
        self.report.checked += 1;
        // What was sealed before is sealed anew from the original, if that is here.
        let sealed_before = entry.body.sealed.is_some();
        let whole_here = repo.is_whole_here(&entry.body);
        let bytes = if content.size() > MAX_BYTES || sealed_before && !whole_here {
            Err(Error::Interrupted)
        } else {
            reader.original_to_vec(&entry.body)
        };
        let fate = match bytes {
            Err(_) => {
                self.report.skipped += 1;
                Fate::Stays
            }
            Ok(bytes) => match seal_bytes(repo, path, &bytes)? {
                Some(new)
                    if !entry.body.sealed.as_ref().is_some_and(|old| {
                        old.values == new.sealed.values && old.whole == new.sealed.whole
                    }) =>
                {
                    self.bad.extend(content.blobs());
                    Fate::Becomes(Box::new(new))
                }
                _ => Fate::Stays,
            },
        };
        self.fates.insert(key, fate);
        Ok(())
    }

    fn purge(&mut self, repo: &Repository, monitor: &dyn Monitor) -> Result<()> {
        self.operations(repo)?;
        // What a run that was cut off had yet to delete.
        let unfinished: DigestSet = match repo.storage().read(JOURNAL) {
            Ok(json) => serde_json::from_slice(&json).unwrap_or_default(),
            Err(_) => DigestSet::default(),
        };
        if self.bad.is_empty() && unfinished.is_empty() {
            return Ok(());
        }
        monitor.phase(Phase::Storing, self.snapshots.len() as u64, 0);
        let mut writer = PackWriter::new(repo.storage(), repo.id(), Level::Best);
        let mut reader = Reader::new(repo);
        let mut written = DigestSet::default();
        let mut listings: HashMap<Digest, Digest> = HashMap::new();
        let mut changed: Vec<Snapshot> = Vec::new();
        let mut names: HashMap<Digest, String> = HashMap::new();
        let mut needed = DigestSet::default();
        let mut need = |entry: &Entry| {
            if let Some(content) = &entry.body.content {
                needed.extend(content.blobs());
            }
        };
        for mut snapshot in self.snapshots.clone() {
            let mut touched = false;
            for root in &mut snapshot.roots {
                for entry in &mut root.changed {
                    touched |=
                        self.replace(&root.name, entry, &mut reader, &mut writer, &mut written)?;
                    need(entry);
                }
                let Some(base) = root.base else { continue };
                let new = match listings.get(&base) {
                    Some(new) => *new,
                    None => {
                        let mut listing: Listing = repo.keyframe(base)?;
                        let mut any = false;
                        for entry in &mut listing {
                            any |= self.replace(
                                &root.name,
                                entry,
                                &mut reader,
                                &mut writer,
                                &mut written,
                            )?;
                            if let Some(content) =
                                entry.body.content.as_ref().filter(|c| c.is_whole())
                            {
                                names.insert(content.digest, name_of(&root.name, entry));
                            }
                        }
                        let new = if any {
                            repo.put_keyframe(&root.name, root.path.as_path(), &listing)?
                                .0
                        } else {
                            base
                        };
                        listings.insert(base, new);
                        new
                    }
                };
                touched |= new != base;
                root.base = Some(new);
            }
            if touched || snapshot.kind == SnapshotKind::Full {
                changed.push(snapshot);
            }
            monitor.advance(1, 0);
        }
        // What else lies in the packs that go.
        let (index, _) = repo.refreshed_index()?;
        let mut going: Vec<(u32, Digest)> = Vec::new();
        for (number, pack) in (0..).zip(index.packs()) {
            let holds = self
                .bad
                .iter()
                .any(|blob| index.copies(*blob).any(|l| l.pack == number));
            if holds || unfinished.contains(&pack.pack.id) {
                going.push((number, pack.pack.id));
            }
        }
        for set in repo.kept_sets()? {
            if let Some((digests, _)) = repo.kept_digests(set.id)? {
                needed.extend(digests);
            }
        }
        let numbers: HashSet<u32> = going.iter().map(|(number, _)| *number).collect();
        for blob in index.digests() {
            let elsewhere = index.copies(blob).any(|l| !numbers.contains(&l.pack));
            if !needed.contains(&blob) || written.contains(&blob) || elsewhere {
                continue;
            }
            let Some(location) = index.copies(blob).next() else {
                continue;
            };
            // One that cannot be read was lost before.
            if let Ok(bytes) = reader.to_vec(&Content::whole(blob, location.size), location.size) {
                let name = names
                    .get(&blob)
                    .cloned()
                    .unwrap_or_else(|| format!("blobs/{blob}"));
                writer.add(&meta(&name), &bytes, Some(blob))?;
            }
        }
        let packs = writer.finish()?;
        repo.vault().flush()?;
        repo.remember_packs(&packs);
        let gone: DigestSet = going.iter().map(|(_, id)| *id).collect();
        let journal = serde_json::to_vec(&gone).unwrap_or_default();
        crate::disk::storage::put(repo.storage(), JOURNAL, &journal)
            .map_err(|e| Error::storage("write", JOURNAL, e))?;
        for mut snapshot in changed {
            let before = snapshot.packs.len();
            snapshot.packs.retain(|pack| !gone.contains(&pack.id));
            if snapshot.packs.len() < before {
                snapshot.packs.extend(packs.iter().map(|p| p.pack));
            }
            repo.commit_again(&snapshot)?;
            self.report.rewritten += 1;
        }
        // From here on nothing names it.
        let old = listings
            .iter()
            .filter(|(old, new)| old != new)
            .map(|(old, _)| layout::key_frame(*old));
        let dead: Vec<String> = gone.iter().map(|id| layout::pack(*id)).chain(old).collect();
        let trash: Vec<String> = repo.trash()?.iter().map(|t| t.name.clone()).collect();
        for list in [dead, trash, vec![JOURNAL.to_owned()]] {
            repo.storage()
                .remove_all(&list)
                .map_err(|e| Error::storage("remove", "packs", e))?;
        }
        repo.forget_packs(&gone);
        self.report.removed_packs = gone.len() as u64;
        // States say where content was; the next run reads everything again.
        match OwnTree::left_in(repo.cache(), "state".as_ref()) {
            Some(states) => states.remove(),
            None => Ok(()),
        }
    }

    /// Puts what was sealed in the place of an entry's content; content that shares a blob with it is stored anew, whole.
    fn replace(
        &self,
        root: &str,
        entry: &mut Entry,
        reader: &mut Reader<'_>,
        writer: &mut PackWriter<'_>,
        written: &mut DigestSet,
    ) -> Result<bool> {
        let (Some(key), Some(content)) = (key_of(entry), entry.body.content.clone()) else {
            return Ok(false);
        };
        if let Some(Fate::Becomes(new)) = self.fates.get(&key) {
            entry.body.content = None;
            if let Some(bytes) = &new.bytes {
                let digest = Digest::of(bytes);
                if written.insert(digest) {
                    writer.add(&meta(&name_of(root, entry)), bytes, Some(digest))?;
                }
                entry.body.content = Some(Content::whole(digest, bytes.len() as u64));
            }
            entry.body.sealed = Some(new.sealed.clone());
            return Ok(true);
        }
        if !content.blobs().iter().any(|blob| self.bad.contains(blob)) {
            return Ok(false);
        }
        let bytes = reader.to_vec(&content, content.size())?;
        if written.insert(content.digest) {
            writer.add(&meta(&name_of(root, entry)), &bytes, Some(content.digest))?;
        }
        entry.body.content = Some(Content::whole(content.digest, bytes.len() as u64));
        Ok(true)
    }

    /// Commands of operations that were written down with a secret in them.
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

fn name_of(root: &str, entry: &Entry) -> String {
    match entry.path.is_root() {
        true => format!("files/{root}"),
        false => format!("files/{root}/{}", tar_name(entry.path.as_bytes())),
    }
}

fn meta(name: &str) -> TarMeta<'_> {
    TarMeta {
        name,
        kind: TarKind::File,
        mode: 0o600,
        mtime: Time(0, 0),
    }
}
