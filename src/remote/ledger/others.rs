//! Records that somebody else wrote below this machine's prefix.
//!
//! It may be a machine that pushes as this one does: what its records name, a prune must not remove, as
//! long as they are there. So their names are kept when later pushes have come after them.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::removed::{read, write};
use crate::base::error::Result;
use crate::disk::fsutil;

const FILE: &str = "others.json.gz";

/// What is known of records of others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::remote) struct Others {
    /// Names of their files.
    pub names: BTreeSet<String>,
    /// Records up to this number were not looked at: this ledger does not know who wrote them.
    #[serde(default)]
    pub unseen: u64,
}

impl Others {
    pub(super) fn read(dir: &Path) -> Self {
        read(&dir.join(FILE)).unwrap_or_default()
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        write(&dir.join(FILE), self)
    }

    pub(super) fn forget(dir: &Path) {
        let _ = fsutil::remove_file(&dir.join(FILE));
    }
}
