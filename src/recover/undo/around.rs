//! The parts of an undo that need all paths at once, so they are planned last: hard links, and the
//! times of directories around restored files.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::ops::Bound;
use std::path::Path;

use super::planner::Planner;
use crate::base::error::Result;
use crate::base::path::{RawName, RepoPath, os_to_bytes};
use crate::disk::fsutil::{is_temporary_name, open_own, stat_file};
use crate::model::manifest::{Entry, Kind, Stat, by_path};
use crate::protect::work::{Act, Work, absolute};
use crate::recover::apart::{self, APART};
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, RootRecord};
use crate::repo::touches::Touch;

/// Finds existing names of files whose other names are restored. The restored names must be linked
/// to them, or one file would become two.
pub(super) fn anchors(planner: &mut Planner<'_>) -> Result<()> {
    let restored = planner.site.written_groups(&planner.plan.work);
    if restored.is_empty() {
        return Ok(());
    }
    let written = planner.planned(|job| job.act != Act::Metadata);
    let candidates: Vec<Entry> = planner
        .listing
        .values()
        .filter(|e| restored.contains(&e.body.link))
        .cloned()
        .collect();
    for entry in candidates {
        let place = planner.site.place(&entry.path);
        if written.contains(&place) {
            continue;
        }
        if let Some(now) = planner.stat(&entry.path)?
            && planner.site.has(&entry, &now)
        {
            let group = (planner.site.number, entry.body.link.clone());
            planner.plan.work.anchors.insert(group, place);
        }
    }
    Ok(())
}

/// Reports files that are restored without some of their hard links, because these were in places
/// that were not captured.
pub(super) fn apart(planner: &mut Planner<'_>) {
    let listing = std::mem::take(&mut planner.listing);
    let names = apart::elsewhere(listing.values());
    let found = apart::brought_back(&names, &planner.plan.work, &mut planner.site);
    for path in found {
        let path = RawName(planner.site.absolute(path).into_os_string());
        let reason = APART.to_owned();
        planner.plan.missing.push(PathNote { path, reason });
    }
    planner.listing = listing;
}

/// Restores the times of directories in which an interrupted undo replaced files. Apart from bdr
/// nobody changed them.
pub(super) fn directories(planner: &mut Planner<'_>, since: &RootRecord) -> Result<()> {
    let listing = by_path(planner.repo.listing(since)?);
    let planned = planner.planned(|_| true);
    for entry in listing.values().filter(|entry| entry.kind == Kind::Dir) {
        if planned.contains(&planner.site.place(&entry.path)) {
            continue;
        }
        let Some(now) = planner.stat(&entry.path)? else {
            continue;
        };
        if now.kind == Kind::Dir
            // bdr may have opened it to write into it.
            && (now.mode == entry.mode || now.mode == entry.mode | 0o700)
            && (now.mode, now.mtime) != (entry.mode, entry.mtime)
            && has_the_names(&planner.site.absolute(&entry.path), since, &listing, &entry.path)
        {
            planner.job(&entry.path, Act::Metadata, Some(entry.clone()), Some(now));
        }
    }
    Ok(())
}

/// Returns true if a directory has the same names as before: then only bdr touched it.
fn has_the_names(
    dir: &Path,
    since: &RootRecord,
    listing: &BTreeMap<RepoPath, Entry>,
    path: &RepoPath,
) -> bool {
    let Ok(present) = crate::disk::fsutil::read_dir(dir) else {
        return false;
    };
    let mut missing: HashSet<&[u8]> = listing
        .range((Bound::Excluded(path.clone()), Bound::Unbounded))
        .take_while(|(below, _)| below.starts_with(path))
        .filter(|(below, _)| below.parent().as_ref() == Some(path))
        .map(|(below, _)| below.name())
        .collect();
    let left_out: HashSet<&[u8]> = since.left_out.iter().map(|l| l.path.name()).collect();
    for entry in present {
        let Ok(entry) = entry else { return false };
        let name = entry.file_name();
        let name = os_to_bytes(&name);
        let ours = is_temporary_name(&name);
        if !missing.remove(&name[..]) && !left_out.contains(&name[..]) && !ours {
            return false;
        }
    }
    missing.is_empty()
}

/// How many files are held open to see what becomes of their ctime.
const MOST_OPENED: usize = 256;

/// Opens the files with several names that a work gives or takes a name.
pub(super) fn linked(work: &Work) -> Vec<(File, Stat)> {
    let jobs = work.jobs.iter();
    let jobs = jobs.filter(|job| {
        job.seen
            .is_some_and(|s| s.links > 1 && s.kind == Kind::File)
    });
    let anchors = work.anchors.iter();
    let anchors = anchors.map(|((site, _), path)| path.to_path(&work.sites[*site]));
    let places = jobs.map(|job| absolute(work, job)).chain(anchors);
    let mut inodes = HashSet::new();
    let opened = places.filter_map(|place| {
        let file = open_own(&place).ok()?;
        let stat = stat_file(&file)?;
        (stat.kind == Kind::File && inodes.insert(stat.inode)).then_some((file, stat))
    });
    opened.take(MOST_OPENED).collect()
}

/// Remembers what the work did to the ctime of files that are the same otherwise.
pub(super) fn note_touches(repo: &Repository, opened: Vec<(File, Stat)>) {
    let touches = opened
        .iter()
        .filter_map(|(file, before)| Touch::between(before, &stat_file(file)?));
    repo.note_touches(&touches.collect::<Vec<_>>());
}
