//! Continues what another machine has pushed: that one is gone, and this one has its repository.
//!
//! Nothing at the destination changes. This machine takes over the id, the key of the names of objects
//! (a record has it), and what the records say; it signs with a key of its own, so its first push says
//! everything anew.

use std::path::Path;
use std::time::Duration;

use super::crypt::Identities;
use super::destination::{Destination, fold};
use super::ledger::{At, Era, Ledger, Machine};
use super::record::Push;
use crate::base::error::{Error, Result};
use crate::base::id::Id;

/// What a machine has at a destination.
pub struct Estate {
    /// Newest first.
    chain: Vec<Push>,
    all: Push,
    encryption: String,
    /// Records that do not count, or cannot be read.
    pub problems: Vec<Error>,
}

/// Reads what a machine has at a destination; `None` if it has nothing there.
///
/// # Errors
/// It cannot be read, or no identity opens it.
pub fn look(destination: &Destination, identities: &mut Identities) -> Result<Option<Estate>> {
    let Some(chain) = destination.chain(identities)? else {
        return Ok(None);
    };
    Ok(Some(Estate {
        all: fold(chain.pushes.clone()),
        chain: chain.pushes,
        encryption: chain.encryption,
        problems: chain.problems,
    }))
}

impl Estate {
    /// Returns whose repository it is.
    pub fn repository(&self) -> Id {
        self.all.repository
    }

    /// Returns what the machine called itself.
    pub fn host(&self) -> &str {
        &self.all.host
    }

    /// Returns how many snapshots there are.
    pub fn snapshots(&self) -> u64 {
        self.snapshot_ids().count() as u64
    }

    fn snapshot_ids(&self) -> impl Iterator<Item = (u64, Id)> + '_ {
        let names = self.all.files.keys().chain(self.all.objects.keys());
        names.filter_map(|name| super::push::snapshot_of(name))
    }

    /// Returns the machine that pushes as this one did. `dir` is the directory of destinations for its
    /// repository.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn heir(&self, dir: &Path) -> Result<Machine> {
        Machine::adopt(dir, self.all.machine, &self.all.name_key)
    }

    /// Notes what is there, as if this machine had pushed it.
    ///
    /// # Errors
    /// Another process pushes there, or it cannot be written.
    pub fn take(self, dir: &Path, url: &str) -> Result<At> {
        let parts = self.all.objects.values().flat_map(|stored| &stored.parts);
        let era = |recipients: &Vec<String>, since| Era {
            since,
            recipients: recipients.clone(),
        };
        let older = self.all.before.iter().map(|recipients| era(recipients, 1));
        let at = At {
            url: url.to_owned(),
            encryption: self.encryption.clone(),
            number: self.all.number,
            pushed: Some(self.all.time),
            newest: self.snapshot_ids().max(),
            snapshots: self.snapshots(),
            bytes: parts.map(|part| part.bytes).sum(),
            eras: older.chain([era(&self.all.recipients, 1)]).collect(),
            ..At::default()
        };
        let mut ledger = Ledger::open(dir, Duration::from_secs(2))?;
        ledger.forget()?;
        ledger.replace(self.chain)?;
        at.write(dir)?;
        Ok(at)
    }
}
