//! Files that also had names outside of what was captured: such a file comes back as a separate
//! file, and the user is told.

use std::collections::{HashMap, HashSet};

use crate::base::path::RepoPath;
use crate::model::manifest::Entry;
use crate::protect::work::{Act, Job, Work};
use crate::recover::site::Site;

/// The reason given for such a file.
pub(super) const APART: &str =
    "it had hard links outside of what was captured: it is now a separate file";

/// The names of one file in a listing.
type Names<'e> = HashMap<&'e str, Vec<&'e Entry>>;

/// Returns true for a git object: nobody writes to these, so it does not matter which of them are
/// one file. A clone on the same file system shares all of them.
fn is_object_of_git(path: &RepoPath) -> bool {
    let mut parts = path.as_bytes().split(|byte| *byte == b'/');
    parts.any(|part| part.ends_with(b".git")) && parts.any(|part| part == b"objects")
}

/// Returns the files that had more names than the listing has.
pub(super) fn elsewhere<'e>(listing: impl Iterator<Item = &'e Entry>) -> Names<'e> {
    let mut names = Names::new();
    for entry in listing.filter(|entry| !entry.body.link.is_empty()) {
        names.entry(&entry.body.link).or_default().push(entry);
    }
    names.retain(|_, group| {
        let count = group.iter().map(|entry| entry.body.count_of_names()).max();
        count.is_some_and(|count| count > group.len()) && !is_object_of_git(&group[0].path)
    });
    names
}

/// Returns the paths that `work` brings back into a root as files with fewer names than they had.
pub(super) fn brought_back<'e>(
    names: &Names<'e>,
    work: &Work,
    site: &mut Site<'_>,
) -> Vec<&'e RepoPath> {
    if names.is_empty() {
        return Vec::new();
    }
    let jobs: HashMap<&RepoPath, &Job> = site
        .jobs(work)
        .filter(|job| matches!(job.act, Act::Write | Act::Metadata))
        .map(|job| (&job.path, job))
        .collect();
    let mut found: Vec<&RepoPath> = Vec::new();
    for (link, group) in names {
        let with_job = |entry: &&'e Entry| Some((*entry, *jobs.get(&site.place(&entry.path))?));
        let touched: Vec<(&'e Entry, &Job)> = group.iter().filter_map(with_job).collect();
        let anchor = work.anchors.get(&(site.number, (*link).to_owned()));
        let stands = match anchor {
            Some(anchor) => site.target.stat(anchor).ok().flatten(),
            None => touched
                .iter()
                .find(|(_, job)| job.act == Act::Metadata)
                .and_then(|(_, job)| job.seen),
        };
        let mut made: HashSet<&RepoPath> = HashSet::new();
        for (_, job) in touched.iter().filter(|(_, job)| job.act == Act::Write) {
            let is_one = |file: &_| job.seen.is_some_and(|seen| is_same_file(&seen, file));
            if !stands.as_ref().is_some_and(is_one) {
                made.insert(&job.path);
            }
        }
        let will_have = stands.map_or(0, |file| file.links as usize) + made.len();
        let had = group.iter().map(|entry| entry.body.count_of_names()).max();
        if had.is_some_and(|had| will_have < had) {
            found.extend(touched.iter().map(|(entry, _)| &entry.path));
        }
    }
    found.sort();
    found
}

fn is_same_file(a: &crate::model::manifest::Stat, b: &crate::model::manifest::Stat) -> bool {
    (a.device, a.inode) == (b.device, b.inode)
}
