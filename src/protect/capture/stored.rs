//! What is in the repository already, and what this run has added.

use super::Capture;
use crate::base::error::Result;
use crate::base::id::Digest;
use crate::repo::layout;
use crate::repo::pack::TarMeta;

impl Capture<'_> {
    /// Takes bytes into the repository that were sealed, or examined and found clear.
    pub(super) fn admit(&mut self, meta: &TarMeta<'_>, bytes: &[u8], digest: Digest) -> Result<()> {
        self.pack.add(meta, bytes, Some(digest))?;
        self.note_stored(digest);
        Ok(())
    }

    pub(super) fn note_stored(&self, digest: Digest) {
        if let Ok(mut stored) = self.shared.stored.lock() {
            stored.insert(digest);
        }
    }

    /// Returns true if an existing pack holds a good copy of a blob, or if this run stored it.
    pub(super) fn is_stored(&self, digest: Digest) -> Result<bool> {
        if self.shared.damaged.contains(&digest) {
            let stored = self.shared.stored.lock();
            return Ok(stored.is_ok_and(|s| s.contains(&digest)));
        }
        if self.shared.stored.lock().is_ok_and(|s| s.contains(&digest)) {
            return Ok(true);
        }
        let index = self.shared.repo.index();
        for location in index.copies(digest) {
            let Some(pack) = index.pack(location.pack) else {
                continue;
            };
            let Ok(mut present) = self.shared.present.lock() else {
                continue;
            };
            let there = match present.get(&pack.pack.id) {
                Some(there) => *there,
                None => {
                    let name = layout::pack(pack.pack.id);
                    let size = self.shared.repo.storage().size(&name);
                    let there = matches!(size, Ok(Some(bytes)) if bytes == pack.pack.bytes);
                    present.insert(pack.pack.id, there);
                    there
                }
            };
            if there {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
