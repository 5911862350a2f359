//! Plans an undo, one root at a time: what comes back, what goes, what is merged, what is a conflict.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::PathBuf;

use super::planner::{Done, Planner};
use super::repositories::{self, Made};
use super::{UndoAction, UndoOptions, UndoPlan, around};
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::disk::fsutil::Opened;
use crate::model::manifest::{Entry, Kind, Stat};
use crate::protect::work::Act;
use crate::repo::Repository;
use crate::repo::oplog::{RootChanges, Stamp};

/// Plans what is to be done in one root.
///
/// Repositories are looked at first, because what they hold back is not decided on path by path. What the operation made goes before
/// what it changed comes back: a directory that it put in the place of a file is to be empty by then. What no path can say alone comes last.
pub(super) fn plan_root(
    repo: &Repository,
    done: &Done<'_>,
    options: &UndoOptions,
    opened: &Opened,
    plan: &mut UndoPlan,
    seen: &mut HashSet<PathBuf>,
) -> Result<()> {
    let mut planner = Planner::new(repo, done, options, opened, plan, seen)?;
    let changes = done.changes;
    repositories::find(&mut planner, changes);
    // From the bottom, so that directories come after what they hold.
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

/// Something that the operation made: it goes if nothing touched it since, and nothing needs it by now.
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

/// Something that the operation changed: as it left it, it goes back; changed again since, it is a conflict.
fn plan_modified(planner: &mut Planner<'_>, stamp: &Stamp) -> Result<()> {
    let Some(entry) = planner.listing.get(&stamp.path).cloned() else {
        return Ok(());
    };
    let Some(now) = planner.stat(&stamp.path)? else {
        // Gone since: nothing that could be lost is there.
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
        // The same bytes, but perhaps one file with a name that it was not one with, or no longer with those that it was.
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

/// Puts an entry in the place of what the operation left there.
fn put_back(planner: &mut Planner<'_>, entry: &Entry, now: Stat) {
    if now.kind != Kind::Dir && entry.kind != Kind::Dir {
        planner.restore(entry, Some(now));
        return;
    }
    // It became something else: that goes first, and below it nothing is there any more.
    planner.cleared.insert(entry.path.clone());
    if now.kind == Kind::Dir {
        clear_created_below(planner, &entry.path);
    }
    planner.job(&entry.path, Act::Clear, None, Some(now));
    planner.restore(entry, None);
}

/// Goes on with an undo that was cut off: that leaves each of mode and time either as before or as after.
fn finish_metadata(planner: &mut Planner<'_>, stamp: &Stamp, entry: Entry, now: Stat) {
    let between = (now.mode == entry.mode || now.mode == stamp.mode)
        && (now.mtime == entry.mtime || now.mtime == stamp.mtime);
    if between && (now.mode, now.mtime) != (entry.mode, entry.mtime) {
        planner.step(&stamp.path, UndoAction::Metadata, entry.kind, 0);
        planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
    }
}

/// A directory goes back in what the operation changed of it; what others changed of it since stays.
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

/// What the operation made below a path that is to become a file again goes before, not after.
fn clear_created_below(planner: &mut Planner<'_>, path: &RepoPath) {
    let place = planner.site.place(path);
    let site = planner.site.number;
    for job in &mut planner.plan.work.jobs {
        if job.site == site && job.act == Act::Remove && job.path.starts_with(&place) {
            job.act = Act::Clear;
        }
    }
}

/// Something that the operation removed. A ref that is not there may have been packed with all others since: then it is not gone.
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

/// Puts back what was removed, unless something else is there by now.
fn plan_removed(planner: &mut Planner<'_>, entry: &Entry) -> Result<()> {
    let Some(now) = planner.stat(&entry.path)? else {
        planner.restore(entry, None);
        return Ok(());
    };
    if now.kind == Kind::Dir && entry.kind == Kind::Dir {
        // Made again since, perhaps by an undo that was interrupted: what comes back into it changes its time in any case.
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
