//! Plans an undo, one root at a time: what is restored, removed or merged, and what is a conflict.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::PathBuf;

use super::planner::{Done, Planner};
use super::repositories::{self, Made};
use super::{UndoAction, UndoOptions, UndoPlan, around};
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::disk::fsutil::Opened;
use crate::model::manifest::{Entry, Kind, Listing, Stat};
use crate::protect::work::Act;
use crate::repo::Repository;
use crate::repo::oplog::{RootChanges, Stamp};

/// Plans one root.
///
/// Repositories come first, because some of them are restored whole or not at all. Objects that the
/// operation created are removed before others are restored: a directory that replaced a file must
/// be empty by then. Hard links and times come last, because they need all paths.
pub(super) fn plan_root(
    repo: &Repository,
    done: &Done<'_>,
    listing: Listing,
    options: &UndoOptions,
    opened: &Opened,
    plan: &mut UndoPlan,
    seen: &mut HashSet<PathBuf>,
) -> Result<()> {
    let mut planner = Planner::new(repo, done, listing, options, opened, plan, seen)?;
    let changes = done.changes;
    repositories::find(&mut planner, changes);
    // From the bottom up, so that directories come after their content.
    for stamp in changes.created.iter().rev() {
        if planner.takes(&stamp.path) {
            let planned = plan_created(&mut planner, changes, stamp);
            planner.unseen(&stamp.path, planned)?;
        }
    }
    for stamp in &changes.modified {
        if planner.takes(&stamp.path) {
            let planned = plan_modified(&mut planner, stamp);
            planner.unseen(&stamp.path, planned)?;
        }
    }
    for top in &changes.removed {
        let from_top = (Bound::Included(top.clone()), Bound::Unbounded);
        let below = planner.listing.range(from_top);
        let below = below.take_while(|(path, _)| path.starts_with(top));
        let below: Vec<Entry> = below.map(|(_, entry)| entry.clone()).collect();
        for entry in below {
            if planner.takes(&entry.path) {
                let planned = plan_gone(&mut planner, changes, &entry);
                planner.unseen(&entry.path, planned)?;
            }
        }
    }
    repositories::bring_content(&mut planner)?;
    around::anchors(&mut planner)?;
    if let Some(since) = done.past.since {
        around::directories(&mut planner, since)?;
    }
    around::apart(&mut planner);
    Ok(())
}

/// Plans an object that the operation created: it is removed if nobody touched it since and nothing
/// needs it.
fn plan_created(planner: &mut Planner<'_>, changes: &RootChanges, stamp: &Stamp) -> Result<()> {
    let Some(now) = planner.stat(&stamp.path)? else {
        return Ok(());
    };
    let is_needed = match repositories::of_made(planner, changes, &stamp.path) {
        Made::Stays => return Ok(()),
        Made::Needed => true,
        Made::AsUsual => false,
    };
    if planner.is_left(stamp, &now) && !is_needed {
        planner.step(&stamp.path, UndoAction::Remove, now.kind, now.size);
        planner.job(&stamp.path, Act::Remove, None, Some(now));
    } else {
        planner.step(&stamp.path, UndoAction::Keep, now.kind, now.size);
    }
    Ok(())
}

/// Plans an object that the operation changed: it is restored, or a conflict if it changed again
/// since.
fn plan_modified(planner: &mut Planner<'_>, stamp: &Stamp) -> Result<()> {
    let Some(entry) = planner.listing.get(&stamp.path).cloned() else {
        return Ok(());
    };
    let Some(now) = planner.stat(&stamp.path)? else {
        // It is gone, so nothing can be lost.
        planner.restore(&entry, None);
        return Ok(());
    };
    let is_left = planner.is_left(stamp, &now);
    if entry.kind == Kind::Dir && now.kind == Kind::Dir {
        if is_left {
            plan_directory(planner, stamp, entry, now);
        }
        return Ok(());
    }
    let same = planner.site.has(&entry, &now);
    if same && (is_left || planner.is_put_back(&stamp.path, &now)) {
        // The content is right, but its hard links may not be.
        planner.finish(&entry, &now);
    } else if is_left {
        put_back(planner, &entry, now);
    } else if same {
        finish_metadata(planner, stamp, entry, now);
    } else {
        planner.conflict(&entry, false)?;
    }
    Ok(())
}

/// Plans to restore an entry in place of what the operation left.
fn put_back(planner: &mut Planner<'_>, entry: &Entry, now: Stat) {
    if now.kind != Kind::Dir && entry.kind != Kind::Dir {
        planner.restore(entry, Some(now));
        return;
    }
    // It became another kind of object. That is removed first, so nothing is below it.
    planner.cleared.insert(entry.path.clone());
    if now.kind == Kind::Dir {
        clear_created_below(planner, &entry.path);
    }
    planner.job(&entry.path, Act::Clear, None, Some(now));
    planner.restore(entry, None);
}

/// Continues an interrupted undo. Mode and time may each be as before or as after.
fn finish_metadata(planner: &mut Planner<'_>, stamp: &Stamp, entry: Entry, now: Stat) {
    let between = (now.mode == entry.mode || now.mode == stamp.mode)
        && (now.mtime == entry.mtime || now.mtime == stamp.mtime);
    if between && (now.mode, now.mtime) != (entry.mode, entry.mtime) {
        planner.step(&stamp.path, UndoAction::Metadata, entry.kind, 0);
        planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
    }
}

/// Plans a directory: only the metadata that the operation changed is restored; changes by others
/// stay.
fn plan_directory(planner: &mut Planner<'_>, stamp: &Stamp, mut entry: Entry, now: Stat) {
    if !planner.force && stamp.ctime != now.ctime {
        if stamp.mode == entry.mode {
            entry.mode = now.mode;
        }
        let left = stamp.owner.unwrap_or((now.uid, now.gid));
        if left == (entry.uid, entry.gid) || left != (now.uid, now.gid) {
            (entry.uid, entry.gid) = (now.uid, now.gid);
        }
    }
    planner.metadata(&entry, &now);
}

/// Plans to remove what the operation created below a path that becomes a file again. That must
/// happen first.
fn clear_created_below(planner: &mut Planner<'_>, path: &RepoPath) {
    let place = planner.site.place(path);
    let site = planner.site.number;
    for job in &mut planner.plan.work.jobs {
        if job.site == site && job.act == Act::Remove && job.path.starts_with(&place) {
            job.act = Act::Clear;
        }
    }
}

/// Plans an object that the operation removed. A missing git ref may have been packed since; then
/// it is not gone.
fn plan_gone(planner: &mut Planner<'_>, changes: &RootChanges, entry: &Entry) -> Result<()> {
    let gone = planner.stat(&entry.path)?.is_none();
    if gone && repositories::is_elsewhere(planner, changes, &entry.path)? {
        if entry.kind == Kind::File {
            planner.step(&entry.path, UndoAction::Keep, entry.kind, entry.size);
        }
        return Ok(());
    }
    plan_removed(planner, entry)
}

/// Plans to restore what was removed, unless something else is there now.
fn plan_removed(planner: &mut Planner<'_>, entry: &Entry) -> Result<()> {
    let Some(now) = planner.stat(&entry.path)? else {
        planner.restore(entry, None);
        return Ok(());
    };
    if now.kind == Kind::Dir && entry.kind == Kind::Dir {
        // It exists again, perhaps because an undo was interrupted. Restoring its content changes
        // its time anyway.
        planner.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(now));
        return Ok(());
    }
    if planner.site.has(entry, &now) {
        if planner.is_put_back(&entry.path, &now) {
            planner.finish(entry, &now);
        }
        return Ok(());
    }
    if planner.force && now.kind != Kind::Dir && entry.kind != Kind::Dir {
        planner.restore(entry, Some(now));
        return Ok(());
    }
    planner.conflict(entry, true)
}
