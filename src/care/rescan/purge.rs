//! Seals what today's rules would, and deletes the old form.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::{Fate, Work, key_of};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::tar_name;
use crate::disk::fsutil::OwnTree;
use crate::disk::storage;
use crate::model::manifest::{Content, Entry, Time};
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::layout;
use crate::repo::pack::{Level, PackWriter, TarKind, TarMeta};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{RootRecord, Snapshot, SnapshotKind};

/// Names the packs to delete, from before the first record is rewritten until they are gone.
const JOURNAL: &str = "purging.json";

/// Writes the replacements, then the records, then deletes. In this order everything can be
/// restored wherever it is interrupted; the journal names what to delete before the first record
/// forgets it.
pub(super) fn purge(work: &mut Work, repo: &Repository, monitor: &dyn Monitor) -> Result<()> {
    // What an interrupted run still had to delete.
    let unfinished: DigestSet = match repo.storage().read(JOURNAL) {
        Ok(json) => serde_json::from_slice(&json).unwrap_or_default(),
        Err(_) => DigestSet::default(),
    };
    monitor.phase(Phase::Storing, work.snapshots.len() as u64, 0);
    let mut purge = Purge {
        repo,
        work,
        writer: PackWriter::new(repo.storage(), repo.id(), Level::Best),
        reader: Reader::new(repo),
        written: DigestSet::default(),
        listings: HashMap::new(),
        names: HashMap::new(),
        needed: DigestSet::default(),
        sets: HashSet::new(),
    };
    let changed = purge.snapshots(monitor)?;
    let going = purge.save_from(&unfinished, monitor)?;
    if going.is_empty() && !changed.iter().any(|(_, touched)| *touched) {
        // What was thrown away may have it as well.
        return delete(repo, &going, Vec::new());
    }
    let old = purge.old_listings();
    let rewritten = purge.commit(changed, &going)?;
    work.report.rewritten += rewritten;
    delete(repo, &going, old)?;
    work.report.removed_packs = going.len() as u64;
    // States say where content was; without them, the next run reads everything again.
    match OwnTree::left_in(repo.cache(), "state".as_ref()) {
        Some(states) => states.remove(),
        None => Ok(()),
    }
}

struct Purge<'a> {
    repo: &'a Repository,
    work: &'a Work,
    writer: PackWriter<'a>,
    reader: Reader<'a>,
    written: DigestSet,
    /// New key frames by the old ones.
    listings: HashMap<Digest, Digest>,
    /// The name of a content in its pack.
    names: HashMap<Digest, String>,
    /// Blobs that any snapshot has.
    needed: DigestSet,
    /// Sets of kept content that are not packed as far as their listings know.
    sets: HashSet<Id>,
}

impl Purge<'_> {
    /// Returns the records to rewrite: those with changes (true), and those that name packs that go.
    fn snapshots(&mut self, monitor: &dyn Monitor) -> Result<Vec<(Snapshot, bool)>> {
        let mut changed = Vec::new();
        for mut snapshot in self.work.snapshots.clone() {
            let mut touched = false;
            for root in &mut snapshot.roots {
                for entry in &mut root.changed {
                    touched |= self.replace((&root.name, root.path.as_path()), entry)?;
                    self.need(entry)?;
                }
                let Some(base) = root.base else { continue };
                let new = self.listing(root, base)?;
                touched |= new != base;
                root.base = Some(new);
            }
            if touched || snapshot.kind == SnapshotKind::Full {
                changed.push((snapshot, touched));
            }
            monitor.advance(1, 0);
        }
        Ok(changed)
    }

    /// Returns the replacement of a key frame, or the same one if nothing in it changes. Many
    /// snapshots share one, so each is examined once.
    fn listing(&mut self, root: &RootRecord, base: Digest) -> Result<Digest> {
        if let Some(new) = self.listings.get(&base) {
            return Ok(*new);
        }
        let mut listing = self.repo.resolve_all(self.repo.keyframe(base)?);
        let mut any = false;
        for entry in &mut listing {
            any |= self.replace((&root.name, root.path.as_path()), entry)?;
            self.need(entry)?;
            if let Some(content) = entry.body.content.as_ref().filter(|c| c.is_whole()) {
                let name = name_of(&root.name, entry);
                self.names.insert(content.digest, name);
            }
        }
        let path = root.path.as_path();
        let new = match any {
            true => self.repo.put_keyframe(&root.name, path, &listing)?.0,
            false => base,
        };
        self.listings.insert(base, new);
        Ok(new)
    }

    /// Notes what an entry needs.
    fn need(&mut self, entry: &Entry) -> Result<()> {
        let Some(content) = &entry.body.content else {
            return Ok(());
        };
        self.needed.extend(content.blobs());
        if let Some(kept) = content.as_kept().filter(|kept| self.sets.insert(kept.set))
            && let Some((digests, _)) = self.repo.kept_digests(kept.set)?
        {
            self.needed.extend(digests);
        }
        Ok(())
    }

    /// Replaces an entry's content, in a root of this name and path, by its sealed form; content that shares a blob with it is stored
    /// again, whole.
    fn replace(&mut self, (root, path): (&str, &Path), entry: &mut Entry) -> Result<bool> {
        let Some(key) = key_of(entry, path) else {
            return Ok(false);
        };
        if let Some(Fate::Opens) = self.work.fates.get(&key) {
            let bytes = self.reader.original_to_vec(&entry.body)?;
            let digest = Digest::of(&bytes);
            if self.written.insert(digest) {
                self.writer
                    .add(&meta(&name_of(root, entry)), &bytes, Some(digest))?;
            }
            entry.body.content = Some(Content::whole(digest, bytes.len() as u64));
            entry.body.sealed = None;
            return Ok(true);
        }
        if let Some(Fate::Becomes(new)) = self.work.fates.get(&key) {
            entry.body.content = None;
            if let Some(bytes) = &new.bytes {
                let digest = Digest::of(bytes);
                if self.written.insert(digest) {
                    self.writer
                        .add(&meta(&name_of(root, entry)), bytes, Some(digest))?;
                }
                entry.body.content = Some(Content::whole(digest, bytes.len() as u64));
            }
            entry.body.sealed = Some(new.sealed.clone());
            return Ok(true);
        }
        let Some(content) = entry.body.content.clone() else {
            return Ok(false);
        };
        if !content
            .blobs()
            .iter()
            .any(|blob| self.work.bad.contains(blob))
        {
            return Ok(false);
        }
        let bytes = match self.reader.to_vec(&content, content.size()) {
            Ok(bytes) => bytes,
            // It was lost before, or no snapshot shows it.
            Err(Error::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.written.insert(content.digest) {
            self.writer
                .add(&meta(&name_of(root, entry)), &bytes, Some(content.digest))?;
        }
        entry.body.content = Some(Content::whole(content.digest, bytes.len() as u64));
        Ok(true)
    }

    /// Stores again everything else in the packs that go, because a pack is deleted whole; returns
    /// these packs. What no snapshot has may be anything, also what was found in one that is gone: it
    /// goes as well, unless something else in its pack cannot be read now.
    fn save_from(&mut self, unfinished: &DigestSet, monitor: &dyn Monitor) -> Result<DigestSet> {
        let (index, _) = self.repo.refreshed_index()?;
        let packs = |blob| index.copies(blob).map(|copy| copy.pack);
        let ids = (0..).zip(index.packs());
        let mut must: HashSet<u32> = ids
            .filter(|(_, pack)| unfinished.contains(&pack.pack.id))
            .map(|(number, _)| number)
            .collect();
        must.extend(self.work.bad.iter().copied().flat_map(packs));
        let unneeded = index.digests().filter(|blob| !self.needed.contains(blob));
        let mut going: HashSet<u32> = unneeded
            .flat_map(packs)
            .chain(must.iter().copied())
            .collect();
        let is_saved = |blob: &Digest| {
            self.needed.contains(blob)
                && !self.work.bad.contains(blob)
                && !self.written.contains(blob)
                && packs(*blob).all(|pack| going.contains(&pack))
        };
        let saved: Vec<Digest> = index.digests().filter(is_saved).collect();
        monitor.phase(Phase::Storing, saved.len() as u64, 0);
        for blob in saved {
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            let Some(location) = index.copies(blob).next() else {
                continue;
            };
            let content = Content::whole(blob, location.size);
            match self.reader.to_vec(&content, location.size) {
                Ok(bytes) => {
                    let name = self.names.get(&blob).cloned();
                    let name = name.unwrap_or_else(|| format!("blobs/{blob}"));
                    self.writer.add(&meta(&name), &bytes, Some(blob))?;
                    monitor.advance(1, location.size);
                }
                // It was lost before. What may mend it needs its pack.
                Err(Error::Damaged { .. }) => {
                    going.retain(|pack| must.contains(pack) || packs(blob).all(|of| of != *pack));
                }
                Err(error) => return Err(error),
            }
        }
        let ids = going.into_iter().filter_map(|pack| index.pack(pack));
        Ok(ids.map(|pack| pack.pack.id).collect())
    }

    /// Returns the names of the replaced key frames.
    fn old_listings(&self) -> Vec<String> {
        let replaced = self.listings.iter().filter(|(old, new)| old != new);
        replaced.map(|(old, _)| layout::key_frame(*old)).collect()
    }

    /// Publishes what was stored, then writes the journal, then the records; returns how many.
    fn commit(self, changed: Vec<(Snapshot, bool)>, going: &DigestSet) -> Result<u64> {
        let packs = self.writer.finish()?;
        self.repo.vault().flush()?;
        self.repo.remember_packs(&packs);
        let journal = serde_json::to_vec(going).unwrap_or_default();
        storage::put(self.repo.storage(), JOURNAL, &journal)
            .map_err(|e| Error::storage("write", JOURNAL, e))?;
        let count = changed.len() as u64;
        for (mut snapshot, touched) in changed {
            let before = snapshot.packs.len();
            snapshot.packs.retain(|pack| !going.contains(&pack.id));
            if snapshot.packs.len() < before || touched {
                snapshot.packs.extend(packs.iter().map(|p| p.pack));
            }
            self.repo.commit_again(&snapshot)?;
        }
        Ok(count)
    }
}

/// Deletes what no record names any more, and the trash, which may contain older copies. The
/// journal goes last.
fn delete(repo: &Repository, going: &DigestSet, old: Vec<String>) -> Result<()> {
    let packs = going.iter().map(|id| layout::pack(*id));
    let dead: Vec<String> = packs.chain(old).collect();
    let trash: Vec<String> = repo.trash()?.iter().map(|t| t.name.clone()).collect();
    for list in [dead, trash, vec![JOURNAL.to_owned()]] {
        repo.storage()
            .remove_all(&list)
            .map_err(|e| Error::storage("remove", "packs", e))?;
    }
    repo.forget_packs(going);
    Ok(())
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
