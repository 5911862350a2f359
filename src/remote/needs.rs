//! Finds out which files of a destination a snapshot needs.
//!
//! From the listing of the snapshot to the blobs of its files, from there to packs. Where several packs
//! have a blob, the newest is chosen: it is that of the last full backup, which stays longest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::path::RepoPath;
use crate::model::manifest::{Content, Entry};
use crate::repo::Repository;
use crate::repo::index::{DigestSet, Index};
use crate::repo::layout;
use crate::repo::snapshot::{Snapshot, SnapshotKind};

/// So many entries of key frames stay in memory.
const ENTRIES: usize = 400_000;

/// Where what a pack of the repository has is at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// All of these are needed.
    pub(super) names: Vec<String>,
    /// Larger for what came later.
    pub(super) rank: u64,
}

type Frame = Arc<Vec<(RepoPath, Content)>>;

/// Finds what snapshots need.
pub(super) struct Finder<'a> {
    repo: &'a Repository,
    index: Arc<Index>,
    /// By the packs of the repository: where their blobs are.
    places: HashMap<Digest, Place>,
    /// Key frames that were read last.
    frames: VecDeque<(Digest, Frame)>,
    sets: HashMap<Id, Vec<Digest>>,
}

/// What a snapshot needs, before it is known where that is.
struct Wanted {
    names: BTreeSet<String>,
    blobs: DigestSet,
}

impl<'a> Finder<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        index: Arc<Index>,
        places: HashMap<Digest, Place>,
    ) -> Self {
        Self {
            repo,
            index,
            places,
            frames: VecDeque::new(),
            sets: HashMap::new(),
        }
    }

    /// Returns the names of all files that a snapshot needs.
    ///
    /// # Errors
    /// Something of it cannot be read, or is not there: nobody knows what it needs.
    pub(super) fn names(&mut self, snapshot: &Snapshot) -> Result<BTreeSet<String>> {
        let Wanted { mut names, blobs } = self.wanted(snapshot)?;
        let mut chosen: BTreeSet<&String> = BTreeSet::new();
        if snapshot.kind == SnapshotKind::Full {
            // `tar` extracts them all.
            for pack in &snapshot.packs {
                match self.places.get(&pack.id) {
                    Some(place) => chosen.extend(&place.names),
                    None if self.repo.is_set_aside(pack.id) => {}
                    None => return Err(lacking(&layout::pack(pack.id))),
                }
            }
        }
        let mut several: Vec<(Digest, Vec<&Place>)> = Vec::new();
        for blob in &blobs {
            let copies = self.copies(*blob);
            match &copies[..] {
                [] => return Err(lacking(&format!("blobs/{blob}"))),
                [one] => chosen.extend(&one.names),
                _ => several.push((*blob, copies)),
            }
        }
        several.sort_unstable_by_key(|(blob, _)| *blob);
        for (_, copies) in several {
            let has = |place: &&Place| place.names.iter().all(|name| chosen.contains(name));
            if copies.iter().any(has) {
                continue;
            }
            let newest = copies
                .into_iter()
                .max_by_key(|place| (place.rank, &place.names));
            chosen.extend(newest.into_iter().flat_map(|place| &place.names));
        }
        names.extend(chosen.into_iter().cloned());
        Ok(names)
    }

    /// Returns what of a snapshot is in none of the places: names of key frames and sets that it needs,
    /// and the packs of the repository that have its blobs.
    ///
    /// # Errors
    /// Something of it cannot be read.
    pub(super) fn lacking(&mut self, snapshot: &Snapshot) -> Result<(BTreeSet<String>, DigestSet)> {
        let Wanted { names, blobs } = self.wanted(snapshot)?;
        let mut packs = DigestSet::default();
        if snapshot.kind == SnapshotKind::Full {
            packs.extend(snapshot.packs.iter().map(|pack| pack.id));
        }
        for blob in blobs {
            if self.copies(blob).is_empty() {
                let mut here = self.index.copies(blob).map(|copy| copy.pack);
                let pack = here.next().and_then(|pack| self.index.pack(pack));
                packs.extend(pack.map(|pack| pack.pack.id));
            }
        }
        Ok((names, packs))
    }

    /// Returns the places that have a blob, each once.
    fn copies(&self, blob: Digest) -> Vec<&Place> {
        let packs = self.index.copies(blob);
        let packs = packs.filter_map(|copy| Some(self.index.pack(copy.pack)?.pack.id));
        let mut copies: Vec<&Place> = packs.filter_map(|pack| self.places.get(&pack)).collect();
        copies.sort_unstable_by(|a, b| a.names.cmp(&b.names));
        copies.dedup_by(|a, b| a.names == b.names);
        copies
    }

    fn wanted(&mut self, snapshot: &Snapshot) -> Result<Wanted> {
        let mut wanted = Wanted {
            names: BTreeSet::from([snapshot.file_name()]),
            blobs: DigestSet::default(),
        };
        for root in &snapshot.roots {
            for entry in &root.changed {
                if let Some(content) = content_of(entry) {
                    self.content(content, &mut wanted)?;
                }
            }
            let Some(base) = root.base else { continue };
            wanted.names.insert(layout::key_frame(base));
            let frame = self.frame(base)?;
            let over = root.over_base();
            for (_, content) in frame.iter().filter(|(path, _)| !over.hides(path)) {
                self.content(content, &mut wanted)?;
            }
        }
        Ok(wanted)
    }

    fn frame(&mut self, base: Digest) -> Result<Frame> {
        if let Some((_, frame)) = self.frames.iter().find(|(id, _)| *id == base) {
            return Ok(Arc::clone(frame));
        }
        let listing = self.repo.keyframe(base)?.into_iter();
        let entries = listing.filter_map(|entry| Some((entry.path, entry.body.content?)));
        let frame: Frame = Arc::new(entries.collect());
        self.frames.push_back((base, Arc::clone(&frame)));
        let size = |frames: &VecDeque<(Digest, Frame)>| {
            frames.iter().map(|(_, frame)| frame.len()).sum::<usize>()
        };
        while self.frames.len() > 1 && size(&self.frames) > ENTRIES {
            self.frames.pop_front();
        }
        Ok(frame)
    }

    fn content(&mut self, content: &Content, wanted: &mut Wanted) -> Result<()> {
        let Some(kept) = content.as_kept() else {
            wanted.blobs.extend(content.blobs());
            return Ok(());
        };
        if !self.sets.contains_key(&kept.set) {
            let found = self.repo.kept_digests(kept.set)?;
            let (digests, _) = found.ok_or_else(|| lacking(&layout::kept_set(kept.set)))?;
            self.sets.insert(kept.set, digests);
        }
        wanted.names.insert(layout::kept_set(kept.set));
        wanted.names.insert(layout::kept_contents(kept.set));
        wanted.blobs.extend(&self.sets[&kept.set]);
        Ok(())
    }
}

fn content_of(entry: &Entry) -> Option<&Content> {
    entry.body.content.as_ref()
}

fn lacking(name: &str) -> Error {
    Error::damaged(name, "it is not at the destination")
}
