//! Restores one object.

use std::sync::Arc;

use super::planner::Planner;
use super::{UndoAction, UndoStep};
use crate::base::path::RawName;
use crate::model::manifest::{Entry, Kind, Stat};
use crate::protect::work::{Act, Job};
use crate::recover::unseal::{self, Recovery, SecretOptions, recover};
use crate::repo::snapshot::PathNote;

impl Planner<'_> {
    /// Finishes an object that has the right content already: its metadata or hard links may still
    /// differ.
    pub(super) fn finish(&mut self, entry: &Entry, now: &Stat) {
        match self.groups.fits(entry, now) {
            true => self.metadata(entry, now),
            false => self.restore(entry, Some(*now)),
        }
    }

    pub(super) fn restore(&mut self, entry: &Entry, seen: Option<Stat>) {
        if !entry.kind.is_stored() {
            let path = RawName(self.site.absolute(&entry.path).into_os_string());
            let reason = format!("a {} is not stored", entry.kind.word());
            self.plan.missing.push(PathNote { path, reason });
            return;
        }
        if entry.body.sealed.is_some() {
            let is_whole = self.repo.is_whole_here(&entry.body);
            let unproven = self.repo.vault().unproven();
            if !is_whole || unproven.is_some() {
                self.restore_sealed(entry, seen, is_whole, unproven);
                return;
            }
        }
        self.step(&entry.path, UndoAction::Restore, entry.kind, entry.size);
        self.job(&entry.path, Act::Write, Some(entry.clone()), seen);
    }

    /// Restores a file with sealed values, or one that cannot be compared. With all values in the
    /// vault it is restored exactly; otherwise it takes missing values from the current file, or is
    /// written beside it.
    fn restore_sealed(
        &mut self,
        entry: &Entry,
        seen: Option<Stat>,
        is_whole: bool,
        unproven: Option<String>,
    ) {
        let place = self.site.place(&entry.path);
        let mut live = match seen {
            Some(seen) if seen.kind == Kind::File => self.site.target.open_file(&place).ok(),
            _ => None,
        };
        let options = SecretOptions {
            from_vault: is_whole,
            ..SecretOptions::default()
        };
        let found = recover(self.repo, &mut self.reader, entry, live.as_mut(), &options);
        let (place, bytes, mode, seen, why) = match found {
            Ok(Recovery::Merged(bytes, _)) => {
                let why = unproven.map(|why| format!("{}: {why}", unseal::UNPROVEN));
                (place, bytes, entry.mode, seen, why)
            }
            Ok(Recovery::Aside(bytes, merged)) => {
                let name = unseal::aside(place.name());
                let aside = self.site.beside(&entry.path, &name);
                let there = self.site.target.stat(&aside).ok().flatten();
                let why = unseal::unresolved(&merged);
                (aside, bytes, 0o600, there, Some(why))
            }
            _ if let Some(reason) = unproven => {
                // When the key is available again, another undo can restore the value.
                let path = RawName(self.site.absolute(&entry.path).into_os_string());
                self.plan.problems.push(PathNote { path, reason });
                return;
            }
            _ => return self.not_whole(entry, unseal::NOTHING.to_owned()),
        };
        if let Some(why) = why {
            self.not_whole(entry, why);
        }
        let mut new = Entry {
            mode,
            size: bytes.len() as u64,
            ..entry.clone()
        };
        new.body.link.clear();
        self.plan.steps.push(UndoStep {
            path: self.site.absolute_place(&place),
            ..self.step_of(&entry.path, UndoAction::Restore, Kind::File, new.size)
        });
        self.plan.work.jobs.push(Job {
            site: self.site.number,
            path: place,
            act: Act::Write,
            entry: Some(Arc::new(new)),
            seen,
            bytes: Some(Arc::new(bytes)),
        });
    }

    fn not_whole(&mut self, entry: &Entry, reason: String) {
        let path = RawName(self.site.absolute(&entry.path).into_os_string());
        self.plan.sealed.push(PathNote { path, reason });
    }
}
