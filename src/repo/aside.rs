//! What `repair` sets aside: damaged files, moved to `aside/`. bdr reads nothing there and deletes nothing: some day somebody may make sense of
//! it, or have a better copy of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Repository;
use super::record::{self, Record};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::storage;
use crate::repo::layout;

/// Notes that a damaged pack was set aside, after all that could be read of it had been stored elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// 1.
    pub version: u32,
    /// The repository that it belongs to.
    pub repository: Id,
    /// The pack.
    pub pack: Digest,
}

impl Record for Aside {
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }
}

impl Repository {
    /// Returns true if a damaged pack was set aside: that it is missing is no news.
    pub fn is_set_aside(&self, pack: Digest) -> bool {
        matches!(self.storage.size(&layout::set_aside(pack)), Ok(Some(_)))
    }

    /// Sets a pack aside, if it is there at all. The note comes first: without it a pack that has been moved would count as missing.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn set_pack_aside(&self, id: Digest, now: DateTime<Utc>) -> Result<()> {
        let aside = Aside {
            version: 1,
            repository: self.id,
            pack: id,
        };
        let name = layout::set_aside(id);
        storage::put(&*self.storage, &name, &record::encode(&aside)?)
            .map_err(|e| Error::storage("write", name, e))?;
        self.move_aside(&layout::pack(id), now)
    }

    /// Sets a record aside that cannot be read; an operation with both of its records.
    ///
    /// # Errors
    /// It can be read, or the storage cannot be written.
    pub fn set_record_aside(&self, name: &str, now: DateTime<Utc>) -> Result<()> {
        self.take_unreadable(name, &|part| self.move_aside(part, now))?;
        if let Some(set) = layout::set_of(name) {
            self.forget_kept(set);
        }
        Ok(())
    }

    fn move_aside(&self, name: &str, now: DateTime<Utc>) -> Result<()> {
        let file = name.replace('/', "-");
        let to = format!("aside/{}-{file}", now.timestamp_millis());
        match self.storage.rename(name, &to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::storage("move", name, e)),
        }
    }
}
