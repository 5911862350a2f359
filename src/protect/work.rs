//! Steps that bdr itself takes in the user's directories: what a restore or an undo has planned.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::id::Digest;
use crate::base::path::{RepoPath, os_to_bytes};
use crate::disk::fsutil::target::standing;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::repo::oplog::Portion;

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is created or replaced.
    Write,
    /// It keeps its content.
    Metadata,
    /// It is removed.
    Remove,
    /// It is removed because something else is to stand at its path or above it.
    Clear,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Which base directory, by number.
    pub(crate) site: usize,
    /// Below the base.
    pub(crate) path: RepoPath,
    pub(crate) act: Act,
    /// What is to be there; `None` for removals.
    pub(crate) entry: Option<Arc<Entry>>,
    /// What the plan saw there.
    pub(crate) seen: Option<Stat>,
    /// What is written instead of the content of `entry`: a merge.
    pub(crate) bytes: Option<Arc<Vec<u8>>>,
}

/// Steps and the directories that they are below.
#[derive(Debug, Default, Clone)]
pub(crate) struct Work {
    pub(crate) sites: Vec<PathBuf>,
    pub(crate) jobs: Vec<Job>,
    /// Hard-link groups: site and group to a name that stands already.
    pub(crate) anchors: HashMap<(usize, String), RepoPath>,
    /// Times that directories around the work are to have once it is done.
    pub(crate) times: Vec<(PathBuf, Time)>,
    /// Not all that was to be done is in it, or was done.
    pub(crate) partial: bool,
    /// How much of all it is, where only some paths were asked for.
    pub(crate) part: Option<Portion>,
}

impl Job {
    /// Returns true if it is about a directory.
    pub(crate) fn is_dir(&self) -> bool {
        let kind = self.entry.as_ref().map(|entry| entry.kind);
        kind.or(self.seen.map(|seen| seen.kind)) == Some(Kind::Dir)
    }
}

impl Work {
    /// Returns how many steps there are, without those that only give a directory its time again: these come with whatever is done in it.
    pub(crate) fn steps(&self) -> u64 {
        let jobs = self.jobs.iter();
        jobs.filter(|job| job.act != Act::Metadata || !job.is_dir())
            .count() as u64
    }

    /// Returns how many of the steps are about something that is no directory.
    pub(crate) fn files(&self) -> u64 {
        self.jobs.iter().filter(|job| !job.is_dir()).count() as u64
    }

    /// Returns the paths that the work writes or removes, and the directories above them.
    pub(crate) fn touched(&self) -> HashSet<PathBuf> {
        let mut paths: HashSet<PathBuf> = HashSet::new();
        for job in &self.jobs {
            for path in absolute(self, job).ancestors() {
                if !paths.insert(path.to_path_buf()) {
                    break;
                }
            }
        }
        paths
    }

    /// Returns a test for directories that the work gives their modes, or takes away.
    pub(crate) fn sets_modes(&self) -> impl Fn(&Path) -> bool {
        let dirs = self.jobs.iter().filter(|job| job.is_dir());
        let dirs: HashSet<PathBuf> = dirs.map(|job| absolute(self, job)).collect();
        move |path| dirs.contains(path)
    }

    /// Returns what names this work: another one for other steps, and for the same steps where something else stands by now.
    pub(crate) fn digest(&self) -> Digest {
        let mut jobs: Vec<Vec<u8>> = self
            .jobs
            .iter()
            .map(|job| {
                let mut bytes = job.path.as_bytes().to_vec();
                let entry = job.entry.as_ref();
                let content =
                    entry.map(|entry| (entry.kind, entry.mode, entry.mtime, entry.digest()));
                let merged = job.bytes.as_ref().map(|bytes| Digest::of(bytes));
                bytes.extend(
                    format!("\0{} {:?} {content:?} {merged:?} ", job.site, job.act).bytes(),
                );
                bytes.extend(job.seen.as_ref().map(standing).unwrap_or_default());
                bytes
            })
            .collect();
        // Planned in any order.
        jobs.sort();
        let mut all = Vec::new();
        let sites = self
            .sites
            .iter()
            .map(|site| os_to_bytes(site.as_os_str()).into_owned());
        for part in sites.chain(jobs) {
            all.extend(part);
            all.push(b'\n');
        }
        Digest::of(&all)
    }
}

/// Returns the path of a step.
pub(crate) fn absolute(work: &Work, job: &Job) -> PathBuf {
    job.path.to_path(&work.sites[job.site])
}
