//! Directories around what is written: those that nothing happens to, and those that are closed.

use std::collections::{HashMap, HashSet};

use super::is_dir;
use crate::base::path::RepoPath;
use crate::disk::fsutil::target::Target;
use crate::model::manifest::Stat;
use crate::protect::work::{Act, Work};

/// Returns directories in which files are only replaced: for everyone else nothing happens to
/// these.
pub(super) fn neutral_dirs(work: &Work, targets: &mut [Target]) -> Vec<(usize, RepoPath, Stat)> {
    let mut dirs: HashMap<(usize, RepoPath), bool> = HashMap::new();
    for job in &work.jobs {
        if let Some(parent) = job.path.parent() {
            let replaces = job.act == Act::Metadata || job.act == Act::Write && job.seen.is_some();
            *dirs.entry((job.site, parent)).or_insert(true) &= replaces;
        }
    }
    for job in work.jobs.iter().filter(|j| is_dir(j)) {
        dirs.remove(&(job.site, job.path.clone()));
    }
    dirs.into_iter()
        .filter(|(_, neutral)| *neutral)
        .filter_map(|((site, path), _)| {
            let stat = targets[site].stat(&path).ok()??;
            Some((site, path, stat))
        })
        .collect()
}

/// Opens directories that are closed to their owner and have to be written to; returns those to
/// close again.
pub(super) fn open_dirs(work: &Work, targets: &mut [Target]) -> Vec<(usize, RepoPath, Stat)> {
    let mut dirs: Vec<(usize, RepoPath)> = work
        .jobs
        .iter()
        .filter(|job| job.act != Act::Metadata)
        .filter_map(|job| Some((job.site, job.path.parent()?)))
        .collect();
    dirs.sort();
    dirs.dedup();
    let own: HashSet<(usize, &RepoPath)> = work
        .jobs
        .iter()
        .filter(|job| is_dir(job))
        .map(|job| (job.site, &job.path))
        .collect();
    let mut opened = Vec::new();
    for (site, dir) in dirs {
        if let Ok(Some(stat)) = targets[site].open_up(&dir)
            && !own.contains(&(site, &dir))
        {
            opened.push((site, dir, stat));
        }
    }
    opened
}
