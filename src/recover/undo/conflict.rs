//! Paths that changed again since the operation: they stay, and the old version is merged into them
//! or written beside them.

use std::io::Read as _;
use std::sync::Arc;

use super::planner::Planner;
use super::{UndoAction, UndoStep};
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::model::merge;
use crate::protect::work::{Act, Job};

/// The longest name that file systems accept, in bytes.
pub(crate) const NAME_MAX: usize = 255;

impl Planner<'_> {
    /// Plans a path that is not as the operation left it: the current version stays, and the old
    /// one is merged into it or written beside it.
    pub(super) fn conflict(&mut self, entry: &Entry, gone: bool) -> Result<()> {
        if entry.kind == Kind::Dir {
            return Ok(());
        }
        if self.found.is_inside(&self.site.absolute(&entry.path)) {
            // git would take a copy beside it for another branch, log or index.
            self.step(&entry.path, UndoAction::Keep, entry.kind, entry.size);
            return Ok(());
        }
        if self.merge(entry, gone)? {
            return Ok(());
        }
        let (there, seen) = self.room_beside(entry)?;
        self.plan.steps.push(UndoStep {
            files: 1,
            beside: Some(self.site.absolute_place(&there)),
            ..self.step_of(&entry.path, UndoAction::Conflict, entry.kind, entry.size)
        });
        if seen.is_some() {
            // An earlier undo wrote it there, and will remove it when it is reversed.
            return Ok(());
        }
        let mut copy = entry.clone();
        copy.body.link.clear();
        let job = Job {
            site: self.site.number,
            path: there,
            act: Act::Write,
            entry: Some(Arc::new(copy)),
            seen,
            bytes: None,
        };
        self.plan.work.jobs.push(job);
        Ok(())
    }

    /// Undoes the operation's changes within a file that changed again since. Returns false if that
    /// is impossible.
    fn merge(&mut self, entry: &Entry, gone: bool) -> Result<bool> {
        let place = self.site.place(&entry.path);
        let name = place.name();
        let Some(seen) = self.site.target.stat(&place)? else {
            return Ok(false);
        };
        let fits = entry.kind == Kind::File
            && seen.kind == Kind::File
            && merge::is_mergeable(name)
            && entry.size.max(seen.size) <= merge::MAX_BYTES;
        let (true, Some(key)) = (fits, self.key) else {
            return Ok(false);
        };
        let bytes = match self.reversed(entry, &place, gone, &key) {
            None => return Ok(false),
            Some(None) => return Ok(true),
            Some(Some(bytes)) => bytes,
        };
        self.step(
            &entry.path,
            UndoAction::Merge,
            Kind::File,
            bytes.len() as u64,
        );
        let now = self.now;
        let mut new = Entry {
            mode: seen.mode,
            mtime: Time(now.timestamp(), now.timestamp_subsec_nanos()),
            size: bytes.len() as u64,
            ..entry.clone()
        };
        new.body.content = None;
        new.body.sealed = None;
        new.body.link.clear();
        self.job(&entry.path, Act::Write, Some(new), Some(seen));
        if let Some(job) = self.plan.work.jobs.last_mut() {
            job.bytes = Some(Arc::new(bytes));
        }
        Ok(true)
    }

    /// Returns the content of a file without the operation's changes. The inner `None` means that
    /// it stays the same, the outer one that the changes cannot be separated.
    fn reversed(
        &mut self,
        entry: &Entry,
        place: &RepoPath,
        gone: bool,
        key: &merge::Key,
    ) -> Option<Option<Vec<u8>>> {
        let before = self.reader.original_to_vec(&entry.body).ok()?;
        let mut present = Vec::new();
        let file = self.site.target.open_file(place).ok()?;
        file.take(merge::MAX_BYTES).read_to_end(&mut present).ok()?;
        let all;
        let changes = match gone {
            true => {
                all = merge::describe(place.name(), &before, b"", key)?;
                &all
            }
            false => self.inside.get(&entry.path)?,
        };
        let merged = merge::reverse(&before, &present, changes, key)?;
        Some((merged != present).then_some(merged))
    }

    /// Returns the path for the old version, and the object that is there already. It is the first
    /// free name, or the one to which an earlier undo wrote the same version.
    fn room_beside(&mut self, entry: &Entry) -> Result<(RepoPath, Option<Stat>)> {
        let mut name = self.site.place(&entry.path).name().to_vec();
        // Leave room for the suffix and a number.
        shorten(&mut name, NAME_MAX - self.suffix.len() - 4);
        name.extend_from_slice(self.suffix.as_bytes());
        let mut there = self.site.beside(&entry.path, &name);
        let mut number = 1;
        loop {
            let seen = self.site.target.stat(&there)?;
            match seen {
                Some(seen) if !self.site.has_at(&there, entry, &seen) => {
                    number += 1;
                    let numbered = [&name, format!("-{number}").as_bytes()].concat();
                    there = self.site.beside(&entry.path, &numbered);
                }
                seen => return Ok((there, seen)),
            }
        }
    }
}

/// Shortens a name to a number of bytes without cutting a character.
pub(crate) fn shorten(name: &mut Vec<u8>, most: usize) {
    if name.len() <= most {
        return;
    }
    let is_inside = |byte: u8| byte & 0xc0 == 0x80;
    let mut end = most;
    while end > 0 && is_inside(name[end]) {
        end -= 1;
    }
    name.truncate(end);
}
