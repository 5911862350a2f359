//! Tries a restore in a scratch directory: the basis of a drill and of a thorough verify.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Overwrite, RestoreOptions, plan_anywhere};
use crate::base::error::Result;
use crate::base::monitor::Monitor;
use crate::base::path::RawName;
use crate::model::compare;
use crate::model::manifest::{Entry, Kind};
use crate::protect::compare::has_content;
use crate::protect::walk::RootHandle;
use crate::recover::apply::{self, Licence};
use crate::recover::unseal::SecretOptions;
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, Snapshot};

/// Restores every file of a snapshot into a scratch directory and compares it with the listing;
/// returns the differences.
///
/// # Errors
/// The scratch directory cannot be written, or a listing is damaged.
pub(crate) fn rehearse(
    repo: &Repository,
    snapshot: &Snapshot,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Vec<PathNote>> {
    let options = RestoreOptions {
        target: Some(scratch.to_path_buf()),
        beneath: None,
        paths: Vec::new(),
        overwrite: Overwrite::Never,
        delete: false,
        look_only: false,
        now: snapshot.time,
        cwd: scratch.to_path_buf(),
        argv: Vec::new(),
        never: Vec::new(),
        host: String::new(),
        secrets: SecretOptions::default(),
        agent: None,
    };
    let plan = plan_anywhere(repo, snapshot, &options, monitor)?;
    let scratch_only = Licence::NothingThere { own: None };
    let applied = apply::apply(repo, &plan.work, &scratch_only, monitor)?;
    // Copies do not get special bits and labels; they belong to whoever runs the drill.
    let mut problems = applied.problems;
    // A sealed value that is not on this machine is no damage: nothing else was promised.
    let failed: HashSet<PathBuf> = problems
        .iter()
        .chain(&plan.problems)
        .map(|p| p.path.as_path().to_path_buf())
        .collect();
    for record in &snapshot.roots {
        let place = scratch.join(&record.name);
        let Some(handle) = RootHandle::open(&place)? else {
            continue;
        };
        let mut links: HashMap<String, u64> = HashMap::new();
        for entry in repo.listing(record)?.iter().filter(|e| e.kind.is_stored()) {
            let path = entry.path.to_path(&place);
            if failed.contains(&path) {
                continue;
            }
            if let Some(reason) = difference(repo, &handle, entry, &mut links) {
                problems.push(PathNote {
                    path: RawName(path.into_os_string()),
                    reason,
                });
            }
        }
    }
    Ok(problems)
}

/// Returns how a restored object differs from its entry. Not the common comparison: the files in a
/// scratch directory belong to whoever runs this, so owners and special bits are not compared.
fn difference(
    repo: &Repository,
    handle: &RootHandle,
    entry: &Entry,
    links: &mut HashMap<String, u64>,
) -> Option<String> {
    let Ok(stat) = handle.stat(&entry.path) else {
        return Some("it is not there".to_owned());
    };
    if stat.kind != entry.kind {
        return Some(format!("it is a {}", stat.kind.word()));
    }
    // Files get no special bits there.
    let powers = if entry.kind == Kind::File { 0o6000 } else { 0 };
    if entry.kind != Kind::Symlink {
        if stat.mode & !powers != entry.mode & !powers {
            return Some(format!("its mode is {:o}, not {:o}", stat.mode, entry.mode));
        }
        if compare::by_stat(entry, &stat).time {
            return Some("its time differs".to_owned());
        }
    }
    if !entry.body.link.is_empty()
        && *links.entry(entry.body.link.clone()).or_insert(stat.inode) != stat.inode
    {
        return Some("it is no longer hard-linked to its other name".to_owned());
    }
    let open = || handle.open_file(&entry.path).ok();
    let read_link = || handle.read_link(&entry.path).ok();
    let is_good = has_content(repo, entry, &stat, open, read_link);
    (!is_good).then(|| "its content differs".to_owned())
}
