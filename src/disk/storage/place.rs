//! Which file system a repository is on, and where it is mounted. This distinguishes a deleted
//! repository from one whose disk is away.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::path::RawName;
use crate::disk::fsutil;

/// Where a file system was mounted when a repository was last written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The topmost directory on it.
    pub mount: RawName,
    /// Its persistent id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// What is mounted now at the place of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    Same,
    Another,
    /// Nothing: an empty mount point, or not even that.
    None,
}

impl Place {
    /// Returns the place of an existing path; `None` if the system does not tell.
    pub fn of(path: &Path) -> Option<Self> {
        let path = fsutil::canonicalize(path).ok()?;
        let device = fsutil::device_of(&path)?;
        let on_it = |dir: &&Path| fsutil::device_of(dir) == Some(device);
        let mount = path.ancestors().take_while(on_it).last()?;
        Some(Self {
            mount: RawName::from(mount),
            number: fsutil::file_system_of(&path),
        })
    }

    /// Checks what is there now.
    pub fn look(&self) -> Stands {
        let mount = self.mount.as_path();
        // There is always one at the top.
        let Some(above) = mount.parent() else {
            return Stands::Same;
        };
        match fsutil::device_of(mount) {
            None => return Stands::None,
            device if device == fsutil::device_of(above) => return Stands::None,
            Some(_) => {}
        }
        match (self.number, fsutil::file_system_of(mount)) {
            (Some(then), Some(now)) if then != now => Stands::Another,
            _ => Stands::Same,
        }
    }
}
