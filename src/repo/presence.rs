//! Whether everything that a snapshot needs exists: checked before anything relies on it.
//!
//! The check lists instead of reading. A key frame was read completely once and counts as whole
//! while its size and time stay the same; a pack counts while it exists with its size. What is
//! missing or changed is taken from the lifeboat if that has a good copy; otherwise the caller
//! reads its files again.

use std::collections::HashMap;
use std::io::Read;

use sha2::Digest as _;

use super::Repository;
use super::index::{self, DigestSet};
use super::keyframe::{self};
use super::snapshot::PackRef;
use super::trash::Part;
use crate::base::error::Result;
use crate::base::id::Digest;
use crate::disk::fsutil;
use crate::disk::storage::{Look, MAX_READ_BYTES, Pieces};
use crate::repo::layout;

/// With more packs than this, sizes are not requested: a listing of names has to be fast enough.
const MANY_PACKS: usize = 256;
/// How many key frames are remembered as whole.
const REMEMBERED: usize = 256;

/// Returns true if the content of `file` has this digest.
pub(super) fn has_digest(id: Digest, file: &mut dyn Read) -> bool {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Digest::finish(hasher) == id,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

impl Repository {
    /// Returns true if a key frame exists and is whole.
    pub(crate) fn has_whole_keyframe(&self, id: Digest) -> bool {
        let name = layout::key_frame(id);
        let look = || self.storage.look(&name).ok().flatten();
        let Some(found) = look() else {
            return self.heal_part(Part::Keyframe(id));
        };
        let mut known = self.known_keyframes();
        if found.time.is_some() && known.get(&id) == Some(&found) {
            return true;
        }
        let is_whole = || {
            let file = Pieces::of(&*self.storage, &name);
            file.is_ok_and(|mut file| {
                file.left() <= keyframe::MAX_PACKED && has_digest(id, &mut file)
            })
        };
        if !is_whole() && !self.heal_part(Part::Keyframe(id)) {
            return false;
        }
        if let Some(found) = look().filter(|found| found.time.is_some()) {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(id, found);
            let list: Vec<(Digest, Look)> = known.into_iter().collect();
            let json = serde_json::to_vec(&list).unwrap_or_default();
            // Derived: what is not remembered is read again.
            let _ = fsutil::create_dir_private(&self.cache)
                .and_then(|()| fsutil::write_derived(&self.keyframes_path(), &json));
        }
        true
    }

    fn keyframes_path(&self) -> std::path::PathBuf {
        self.cache.join("keyframes.json")
    }

    fn known_keyframes(&self) -> HashMap<Digest, Look> {
        let json = fsutil::read_derived(&self.keyframes_path()).unwrap_or_default();
        let list: Vec<(Digest, Look)> = serde_json::from_slice(&json).unwrap_or_default();
        list.into_iter().collect()
    }

    /// Returns true if a file exists and is what its name says. Reads all of it.
    pub fn is_whole_part(&self, part: Part) -> bool {
        let id = match part {
            Part::Pack(id) | Part::Keyframe(id) => id,
        };
        let name = self.part_name(part);
        let file = Pieces::of(&*self.storage, &name);
        file.is_ok_and(|mut file| has_digest(id, &mut file))
    }

    /// Replaces a missing or damaged file from the lifeboat; returns true if it is whole now.
    pub fn heal_part(&self, part: Part) -> bool {
        let id = match part {
            Part::Pack(id) | Part::Keyframe(id) => id,
        };
        let whole = |file: &mut dyn Read| has_digest(id, file);
        self.storage.heal(&part.name(), &whole).unwrap_or(false)
    }

    /// Drops packs from the index that are gone or have another size. What only they contained
    /// counts as damaged, and is stored again when a backup finds the file.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub(crate) fn notice_lost_packs(&self) -> Result<()> {
        let known = match self.index.read() {
            Ok(index) if index.is_some() => {
                let packs = index.iter().flat_map(|index| index.packs());
                packs.map(|p| p.pack).collect()
            }
            _ => index::heads(&self.index_path()),
        };
        let present: HashMap<Digest, Option<u64>> = match known.len() > MANY_PACKS {
            true => self.pack_ids()?.into_iter().map(|id| (id, None)).collect(),
            false => {
                let packs = self.list_packs()?.into_iter();
                packs.map(|pack| (pack.id, Some(pack.bytes))).collect()
            }
        };
        let is_lost = |pack: &&PackRef| match present.get(&pack.id) {
            None => true,
            Some(bytes) => bytes.is_some_and(|bytes| bytes != pack.bytes),
        };
        let mut lost: Vec<PackRef> = known.iter().filter(is_lost).copied().collect();
        // A pack that prune removed meanwhile is in the trash, and is read there.
        lost.retain(|pack| !self.heal_part(Part::Pack(pack.id)));
        if lost.is_empty() && known.len() >= present.len() {
            return Ok(());
        }
        let (index, _) = self.refreshed_index()?;
        let bad: DigestSet = lost.iter().map(|pack| pack.id).collect();
        let is_bad = |number: u32| {
            let pack = index.pack(number);
            pack.is_none_or(|pack| bad.contains(&pack.pack.id))
        };
        if bad.is_empty() {
            return Ok(());
        }
        let gone = |blob: &Digest| index.copies(*blob).all(|copy| is_bad(copy.pack));
        self.note_damaged_blobs(&index.digests().filter(gone).collect())
    }

    /// Reads a record; replaces a missing or damaged one from the lifeboat if that has a good copy.
    pub(super) fn read_checked<T>(
        &self,
        name: &str,
        parse: &dyn Fn(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let once = || {
            let bytes = self.storage.read(name);
            parse(&bytes.map_err(|e| crate::base::error::Error::storage("read", name, e))?)
        };
        once().or_else(|error| {
            let whole = |file: &mut dyn Read| {
                let mut bytes = Vec::new();
                let mut file = file.take(MAX_READ_BYTES);
                file.read_to_end(&mut bytes).is_ok() && parse(&bytes).is_ok()
            };
            match self.storage.heal(name, &whole) {
                Ok(true) => once(),
                _ => Err(error),
            }
        })
    }
}
