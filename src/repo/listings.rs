//! Complete listings of roots: a key frame, and what the snapshot changed in it.

use std::path::Path;

use super::snapshot::RootRecord;
use super::{Repository, keyframe, layout, presence, trash};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::RepoPath;
use crate::disk::storage::Pieces;
use crate::model::manifest::{Listing, overlay};

impl Repository {
    /// Returns the complete listing of a root of a snapshot.
    ///
    /// # Errors
    /// Its key frame is missing or damaged.
    pub fn listing(&self, root: &RootRecord) -> Result<Listing> {
        self.listing_of(root, &|_| true)
    }

    /// Returns the entries of a root whose path is `wanted`: a few of a large listing cost much
    /// less than all.
    ///
    /// # Errors
    /// Its key frame is missing or damaged.
    pub fn listing_of(
        &self,
        root: &RootRecord,
        wanted: &dyn Fn(&RepoPath) -> bool,
    ) -> Result<Listing> {
        let Some(base) = root.base else {
            return Ok(Listing::new());
        };
        let changed = root.changed.iter().filter(|e| wanted(&e.path));
        Ok(self.resolve_all(overlay(
            self.keyframe_of(base, wanted)?,
            &root.removed,
            changed.cloned().collect(),
        )))
    }

    /// Reads a key frame.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn keyframe(&self, id: Digest) -> Result<Listing> {
        self.keyframe_of(id, &|_| true)
    }

    /// Reads the `wanted` entries of a key frame.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn keyframe_of(&self, id: Digest, wanted: &dyn Fn(&RepoPath) -> bool) -> Result<Listing> {
        let part = trash::Part::Keyframe(id);
        let once = || {
            let name = self.part_name(part);
            let file = Pieces::of(&*self.storage, &name);
            let file = file.map_err(|e| Error::storage("read", part.name(), e))?;
            keyframe::decode(self.id, id, file.left(), file, wanted)
        };
        once().or_else(|error| match self.heal_part(part) {
            true => once(),
            false => Err(error),
        })
    }

    /// Writes a key frame unless it exists; returns its name and the bytes written.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn put_keyframe(
        &self,
        root: &str,
        path: &Path,
        entries: &Listing,
    ) -> Result<(Digest, u64)> {
        let (id, bytes) = self.encoded_keyframe(root, path, entries)?;
        let Some(bytes) = bytes else {
            return Ok((id, 0));
        };
        self.put(&layout::key_frame(id), &bytes)?;
        Ok((id, bytes.len() as u64))
    }

    /// Returns the name and the bytes of a key frame; without the bytes if it exists.
    pub(super) fn encoded_keyframe(
        &self,
        root: &str,
        path: &Path,
        entries: &Listing,
    ) -> Result<(Digest, Option<Vec<u8>>)> {
        let (id, bytes) = keyframe::encode(self.id, root, &path.into(), entries)?;
        let name = layout::key_frame(id);
        let there = self
            .storage
            .size(&name)
            .map_err(|e| Error::storage("read", &name, e))?;
        // An existing one may be damaged, so it only counts if it reads back equal.
        let is_whole = || {
            let file = Pieces::of(&*self.storage, &name);
            file.is_ok_and(|mut file| {
                file.left() <= keyframe::MAX_PACKED && presence::has_digest(id, &mut file)
            })
        };
        let is_there = there.is_some() && is_whole();
        Ok((id, (!is_there).then_some(bytes)))
    }
}
