//! Steps that bdr itself takes in the user's directories, as planned by a restore or an undo.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::id::Digest;
use crate::base::path::{RepoPath, os_to_bytes};
use crate::disk::fsutil::target::standing;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::repo::oplog::Portion;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is created or replaced.
    Write,
    Metadata,
    Remove,
    /// It is removed because something else will be at its path or above it.
    Clear,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Number of the base directory.
    pub(crate) site: usize,
    /// Path below the base.
    pub(crate) path: RepoPath,
    pub(crate) act: Act,
    /// What will be there; `None` for removals.
    pub(crate) entry: Option<Arc<Entry>>,
    /// What the plan found there.
    pub(crate) seen: Option<Stat>,
    /// A merge result to write instead of the content of `entry`.
    pub(crate) bytes: Option<Arc<Vec<u8>>>,
}

/// Steps, and the directories that they are below.
#[derive(Debug, Default, Clone)]
pub(crate) struct Work {
    pub(crate) sites: Vec<PathBuf>,
    pub(crate) jobs: Vec<Job>,
    /// Hard-link groups: site and group to a name that exists already.
    pub(crate) anchors: HashMap<(usize, String), RepoPath>,
    /// Times to set on the surrounding directories once the work is done.
    pub(crate) times: Vec<(PathBuf, Time)>,
    /// Some of the planned steps are missing, or failed.
    pub(crate) partial: bool,
    /// How much of everything it is, if only some paths were requested.
    pub(crate) part: Option<Portion>,
}

impl Job {
    pub(crate) fn is_dir(&self) -> bool {
        let kind = self.entry.as_ref().map(|entry| entry.kind);
        kind.or(self.seen.map(|seen| seen.kind)) == Some(Kind::Dir)
    }
}

impl Work {
    /// Returns the number of steps, without those that only restore the time of a directory: these
    /// follow from other steps in it.
    pub(crate) fn steps(&self) -> u64 {
        let jobs = self.jobs.iter();
        jobs.filter(|job| job.act != Act::Metadata || !job.is_dir())
            .count() as u64
    }

    /// Returns how many steps are about something other than directories.
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

    /// Returns a test for directories whose modes the work sets, or that it removes.
    pub(crate) fn sets_modes(&self) -> impl Fn(&Path) -> bool {
        let dirs = self.jobs.iter().filter(|job| job.is_dir());
        let dirs: HashSet<PathBuf> = dirs.map(|job| absolute(self, job)).collect();
        move |path| dirs.contains(path)
    }

    /// Returns a digest of this work. It differs for other steps, and for the same steps if the
    /// paths have changed meanwhile.
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
        // Steps may have been planned in any order.
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

pub(crate) fn absolute(work: &Work, job: &Job) -> PathBuf {
    job.path.to_path(&work.sites[job.site])
}
