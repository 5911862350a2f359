//! Where the values of a vault are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use super::{Inner, Vault, records};
use crate::disk::fsutil;

impl Vault {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.index.is_none() {
            self.bring_back();
            self.read_index(&mut inner);
        }
        inner
    }

    /// Looks for values that another process has added. Returns true if there may be some.
    pub(super) fn look_again(&self) -> bool {
        let mut inner = self.inner();
        let is_new = self.files().iter().any(|file| !inner.files.contains(file));
        if is_new {
            self.read_index(&mut inner);
        }
        is_new
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fsutil::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "vault"))
            .collect()
    }

    fn read_index(&self, inner: &mut Inner) {
        let mut index = HashMap::new();
        let files = self.files();
        for (number, path) in files.iter().enumerate() {
            // An unreadable file contributes no values; whatever needs them reports that.
            if let Ok(bytes) = std::fs::read(path) {
                for (fingerprint, offset, _) in records(&bytes) {
                    index.insert(fingerprint, (number, offset as u64));
                }
            }
        }
        inner.index = Some(index);
        inner.files = files;
    }
}
