//! What was pushed may not be there any more: somebody removed it, the disk is another one, a record
//! or an object was damaged. It is looked at, and sent again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::{PushReport, Run};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::fsutil;
use crate::disk::store::{Service, Trouble};
use crate::remote::destination::object_name;
use crate::remote::record::{Part, Push, Stored};
use crate::repo::recovery;

/// The file that names damaged objects, in the directory of what is known of a destination.
const DAMAGED: &str = "damaged.json";

/// What is known of a destination besides what was pushed.
#[derive(Debug, Clone, Default)]
pub struct Doubt {
    /// Send everything again where nothing is left. Otherwise a disk that is not mounted would be
    /// filled anew, below the place where it is usually mounted.
    pub refill: bool,
    /// Objects that were read, and are not what was written there.
    pub damaged: HashSet<String>,
    /// It is a directory, here or on a server: its disk may be away.
    pub can_be_away: bool,
    /// What was written is found at once. Otherwise only a look at everything, now and then, says
    /// that something is gone: a search that is behind must not have all sent again.
    pub sees_at_once: bool,
}

impl Doubt {
    /// Reads which objects are damaged; the rest follows from what kind of destination it is.
    pub fn read(dir: &Path, service: Service, refill: bool) -> Self {
        let json = fsutil::read_derived(&dir.join(DAMAGED)).unwrap_or_default();
        Self {
            refill,
            damaged: serde_json::from_slice(&json).unwrap_or_default(),
            can_be_away: matches!(
                service,
                Service::File | Service::Sftp | Service::Webdav | Service::Webdavs
            ),
            sees_at_once: !matches!(service, Service::Gdrive | Service::Dropbox | Service::B2),
        }
    }

    /// Notes which objects are damaged, for the next push.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn note(dir: &Path, damaged: &[String]) -> Result<()> {
        if damaged.is_empty() {
            let path = dir.join(DAMAGED);
            return match fsutil::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("remove", path, error))
                }
                _ => Ok(()),
            };
        }
        let json = serde_json::to_vec(damaged).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::write_atomic(&dir.join(DAMAGED), &json, 0o600)
    }
}

/// Nothing is left of what was written.
pub fn emptied(place: &str) -> Error {
    Error::Remote {
        place: place.to_owned(),
        action: "push to",
        said: "nothing is left there of what was written: its disk is not mounted, or somebody emptied it".to_owned(),
        trouble: Trouble::NoPlace.word(),
        hint: Some(format!(
            "mount it; if it is empty on purpose, everything is sent again by: bdr push {place} --check"
        )),
    }
}

impl Run<'_> {
    /// Returns true if the newest push that is known is there. It is looked for by its name as well:
    /// a listing may be behind.
    ///
    /// # Errors
    /// Nothing is left of what was pushed, and nobody asked to send it again.
    pub(super) fn still_there(&self, known: (u64, Id), listed: &[(u64, Id)]) -> Result<bool> {
        if listed.contains(&known) || self.destination.has_push(known)? {
            return Ok(true);
        }
        self.check_filled()?;
        Ok(false)
    }

    /// Makes sure that something is left of what was sent.
    ///
    /// # Errors
    /// Nothing is, and nobody asked to send it again.
    pub(super) fn check_filled(&self) -> Result<()> {
        let doubt = &self.options.doubt;
        if doubt.refill
            || !doubt.can_be_away
            || self.destination.is_claimed()?
            || !self.destination.pushes(0)?.is_empty()
        {
            return Ok(());
        }
        Err(emptied(self.destination.place()))
    }

    /// Compares with a listing, and reads the records: what is not there any more has to be sent
    /// again. Returns how many records are missing or damaged.
    pub(super) fn compare(&mut self) -> Result<u64> {
        let listed = self.destination.list("objects/")?;
        let damaged = &self.options.doubt.damaged;
        let there: HashMap<&str, u64> = listed
            .iter()
            .filter(|object| !damaged.contains(&object.key))
            .map(|object| (&*object.key, object.bytes))
            .collect();
        let keys = self.ledger.written_keys();
        let lost = keys.filter(|key| !there.contains_key(&*object_name(*key)));
        let lost: Vec<Digest> = lost.collect();
        self.ledger.unlearn(&lost);
        let mut records = 0;
        for push in self.ledger.chain() {
            match self.destination.head((push.number, push.id)) {
                Ok((head, _)) if head.signer == push.signer => {}
                Ok(_) | Err(Error::Damaged { .. }) => records += 1,
                Err(error) => return Err(error),
            }
        }
        self.anew |= records > 0;
        let Some(held) = &mut self.held else {
            return Ok(records);
        };
        let is_there = |part: &Part| there.get(&*object_name(part.key)) == Some(&part.bytes);
        let is_lost = |stored: &Stored| !stored.parts.iter().all(is_there);
        let objects = held.objects.iter();
        let mut lacking: BTreeSet<String> = objects
            .filter(|(_, stored)| is_lost(stored))
            .map(|(name, _)| name.clone())
            .collect();
        // Without its last bytes, nobody knows what is in a pack.
        let tail_of = |stored: &Stored| stored.tail_in.as_ref().map(|(tails, _, _)| tails.clone());
        let objects = held.objects.iter();
        let without = objects.filter(|(_, s)| tail_of(s).is_some_and(|t| lacking.contains(&t)));
        let without: Vec<String> = without.map(|(name, _)| name.clone()).collect();
        lacking.extend(without);
        for name in &lacking {
            if let Some(stored) = held.objects.remove(name) {
                self.lost.insert(name.clone(), stored.instead_of);
            }
        }
        Ok(records)
    }

    /// Counts what was missing and was sent again, and what is neither there nor here.
    pub(super) fn count_mended(&self, records: u64, report: &mut PushReport) {
        // The tails of packs are part of those.
        let lost = self.lost.keys().filter(|name| !name.starts_with("tails/"));
        for name in lost {
            match self.back.contains(name) {
                true => report.mended += 1,
                false => report.lost += 1,
            }
        }
        report.mended += records;
    }

    /// Writes what says whose prefix it is, and how it is read without bdr.
    pub(super) fn introduce(&self) -> Result<()> {
        self.destination.claim()?;
        for (name, bytes) in recovery::FILES {
            let is_text = name == "RECOVER.md";
            let bytes = if is_text { super::RECOVER_MD } else { bytes };
            self.destination.put_once(name, bytes)?;
        }
        Ok(())
    }

    /// Writes the lists of full backups again, whose objects were missing and may have other names
    /// now.
    pub(super) fn name_fulls_again(&self, delta: &Push) -> Result<()> {
        for snapshot in self.repo.snapshots()? {
            if !self.has(&snapshot.file_name()) {
                continue;
            }
            if let Some((name, text)) = self.full_list(&snapshot, delta)
                && !matches!(self.destination.get(&name, None), Ok(old) if old == text.as_bytes())
            {
                // For people: the records have the same, and an older list cannot always be replaced.
                let _ = self.destination.put_again(&name, text.as_bytes());
            }
        }
        Ok(())
    }
}
