//! Recovery without bdr: two files in every repository, as this program writes them.

use super::Repository;
use crate::base::error::{Error, Result};
use crate::disk::storage;

pub(super) const RECOVER_MD: &[u8] = include_bytes!("RECOVER.md");
pub(super) const RECOVER_PY: &[u8] = include_bytes!("recover.py");

/// The files and their content.
pub(crate) const FILES: [(&str, &[u8]); 2] =
    [("RECOVER.md", RECOVER_MD), ("recover.py", RECOVER_PY)];

impl Repository {
    /// Returns the recovery files that differ from what this program would write, unless a newer
    /// one wrote them.
    pub fn outdated_recovery(&self) -> Vec<&'static str> {
        let revision = |bytes: &[u8]| -> u32 {
            let text = String::from_utf8_lossy(bytes);
            let after = text.split_once("\nREVISION = ").map(|(_, after)| after);
            let number = after.and_then(|after| after.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0)
        };
        let read = |name: &str| self.storage.read(name).unwrap_or_default();
        if revision(&read("recover.py")) > revision(RECOVER_PY) {
            return Vec::new();
        }
        let differs = FILES.iter().filter(|(name, wanted)| read(name) != *wanted);
        differs.map(|(name, _)| *name).collect()
    }

    /// Rewrites a recovery file.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn renew_recovery(&self, name: &str) -> Result<()> {
        let bytes = match name {
            "recover.py" => RECOVER_PY,
            _ => RECOVER_MD,
        };
        // A hard link to the old content may be left.
        let _ = self.storage.remove(name);
        storage::put(&*self.storage, name, bytes).map_err(|e| Error::storage("write", name, e))
    }
}
