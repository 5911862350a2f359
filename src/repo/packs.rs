//! Which packs exist, and the cached index that says what is in them. The index is derived: what it
//! lacks is found by reading packs, and packs that are gone are dropped from it.

use std::path::PathBuf;
use std::sync::Arc;

use super::index::{self, DigestSet, Index};
use super::pack;
use super::snapshot::PackRef;
use super::{Repository, Unreadable};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::disk::fsutil;
use crate::repo::layout;

impl Repository {
    pub(super) fn index_path(&self) -> PathBuf {
        self.cache.join("index")
    }

    pub fn index(&self) -> Arc<Index> {
        if let Ok(index) = self.index.read()
            && let Some(index) = &*index
        {
            return Arc::clone(index);
        }
        let index = Arc::new(Index::load(&self.index_path()));
        if let Ok(mut place) = self.index.write() {
            *place = Some(Arc::clone(&index));
        }
        index
    }

    /// Returns the ids of the existing packs, without asking for their sizes.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn pack_ids(&self) -> Result<DigestSet> {
        let mut ids = DigestSet::default();
        // Anything else that somebody put there is not a directory of packs.
        for dir in self.names("packs")?.iter().filter(|name| name.len() == 2) {
            let names = self.names(&format!("packs/{dir}"))?;
            ids.extend(names.iter().filter_map(|name| pack_id(name)));
        }
        Ok(ids)
    }

    /// Returns the existing packs, whatever the index says.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn list_packs(&self) -> Result<Vec<PackRef>> {
        let failed = |e| Error::storage("list", "packs", e);
        let mut packs = Vec::new();
        for dir in self
            .storage
            .list("packs")
            .map_err(failed)?
            .iter()
            .filter(|l| l.is_dir)
        {
            for file in self
                .storage
                .list(&format!("packs/{}", dir.name))
                .map_err(failed)?
            {
                if let Some(id) = pack_id(&file.name) {
                    packs.push(PackRef {
                        id,
                        bytes: file.bytes,
                    });
                }
            }
        }
        Ok(packs)
    }

    /// Updates the index to the existing packs; returns it with the packs that could not be read.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn refreshed_index(&self) -> Result<(Arc<Index>, Unreadable)> {
        let mut index = (*self.index()).clone();
        let packs = self.list_packs()?;
        let present: DigestSet = packs.iter().map(|p| p.id).collect();
        let gone: DigestSet = index
            .packs()
            .iter()
            .map(|p| p.pack.id)
            .filter(|id| !present.contains(id))
            .collect();
        let mut changed = !gone.is_empty();
        let mut orphans: Vec<Digest> = Vec::new();
        if changed {
            let smaller = index.without(&gone);
            orphans.extend(
                index
                    .digests()
                    .filter(|d| smaller.copies(*d).next().is_none()),
            );
            index = smaller;
        }
        let mut unreadable = Vec::new();
        for pack in packs {
            if index.knows(pack.id) {
                continue;
            }
            changed = true;
            match pack::read_contents(&*self.storage, pack.id, pack.bytes, self.id) {
                Ok(contents) => index.add_contents(pack, &contents),
                Err(error) => {
                    // What its hash identifies is as good as before.
                    let (members, blobs) =
                        pack::salvage(&*self.storage, &layout::pack(pack.id), pack.bytes);
                    index.add(pack, members, &blobs);
                    unreadable.push((pack, error));
                }
            }
        }
        // The next backup of the file has to store again what was lost with a pack.
        orphans.retain(|digest| index.copies(*digest).next().is_none());
        let _ = self.note_damaged_blobs(&orphans.into_iter().collect());
        let index = Arc::new(index);
        if changed {
            if unreadable.is_empty() && fsutil::create_dir_private(&self.cache).is_ok() {
                // Derived: a failure only costs time.
                let _ = index.save(&self.index_path());
            }
            if let Ok(mut place) = self.index.write() {
                *place = Some(Arc::clone(&index));
            }
        }
        Ok((index, unreadable))
    }

    /// Adds newly published packs to the index.
    pub fn remember_packs(&self, packs: &[pack::Finished]) {
        if packs.is_empty() {
            return;
        }
        // Derived: what is not remembered is found again by reading the packs.
        if fsutil::create_dir_private(&self.cache).is_ok() {
            let _ = index::append(&self.index_path(), packs);
        }
        if let Ok(mut place) = self.index.write()
            && let Some(index) = place.as_mut()
        {
            let index = Arc::make_mut(index);
            for finished in packs {
                index.add_contents(finished.pack, &finished.contents);
            }
        }
    }

    fn damaged_path(&self) -> PathBuf {
        self.cache.join("damaged.json")
    }

    /// Adds to the known damaged blobs.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(crate) fn note_damaged_blobs(&self, blobs: &DigestSet) -> Result<()> {
        let mut damaged = self.damaged_blobs();
        if blobs.is_subset(&damaged) {
            return Ok(());
        }
        damaged.extend(blobs.iter().copied());
        self.set_damaged_blobs(&damaged)
    }

    /// Returns the known damaged blobs: the next backup stores them again.
    pub fn damaged_blobs(&self) -> DigestSet {
        fsutil::read_derived(&self.damaged_path())
            .and_then(|json| serde_json::from_slice::<Vec<Digest>>(&json).ok())
            .map(|list| list.into_iter().collect())
            .unwrap_or_default()
    }

    /// Replaces the known damaged blobs; an empty set forgets them.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_damaged_blobs(&self, blobs: &DigestSet) -> Result<()> {
        if blobs.is_empty() && !self.damaged_path().exists() {
            return Ok(());
        }
        fsutil::create_dir_private(&self.cache)?;
        let list: Vec<&Digest> = blobs.iter().collect();
        let json = serde_json::to_vec(&list).unwrap_or_default();
        fsutil::write_derived(&self.damaged_path(), &json)
    }
}

pub(super) fn pack_id(name: &str) -> Option<Digest> {
    name.strip_suffix(".tar.gz")?.parse().ok()
}
