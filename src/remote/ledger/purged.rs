//! What was found to be secret after it was pushed (`docs/format.md` §9): what replaces it is there, and
//! what it replaces has to go.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::disk::fsutil;

const FILE: &str = "purged.json";

/// A push that replaced snapshots which were there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Its number: records before it have what was replaced.
    pub number: u64,
    pub at: DateTime<Utc>,
    /// Snapshots that are there alone, so that nobody has looked into them again.
    pub unseen: u64,
}

impl Purged {
    /// Reads it, in the directory of a destination; `None` if nothing that was replaced is left there.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fsutil::read_derived(&dir.join(FILE))?).ok()
    }

    pub(in crate::remote) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::write_atomic(&dir.join(FILE), &json, 0o600)
    }

    pub(super) fn forget(dir: &Path) {
        let _ = fsutil::remove_file(&dir.join(FILE));
    }
}
