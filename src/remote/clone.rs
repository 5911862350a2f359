//! Copies what a destination holds into a repository of this machine: a new one, or one that lacks
//! something.
//!
//! The order is that of every write (`docs/format.md` §6), and a new repository gets its
//! `format.json` last: until then it is none. What was fetched is not fetched again after an
//! interruption.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::reading::RemoteStorage;
use super::record::TAILS;
use crate::base::error::{Error, Result};
use crate::base::monitor::{Monitor, Phase};
use crate::base::threads;
use crate::disk::storage::{self, Storage};
use crate::repo::recovery;

/// How many files are fetched at once.
const THREADS: usize = 4;
/// The order in which files become visible. `format.json` makes the directory a repository.
const ORDER: [&str; 7] = [
    "packs/",
    "manifests/",
    "kept/",
    "marks/",
    "snapshots/",
    "operations/",
    "format.json",
];
/// Says what a directory is that is no repository yet.
pub const MARKER: &str = "clone.json";

/// What was copied.
#[derive(Debug, Default)]
pub struct CloneReport {
    /// New snapshots.
    pub snapshots: u64,
    pub files: u64,
    pub bytes: u64,
    /// What could not be fetched, with the reason. Nothing that needs it counts as whole.
    pub problems: Vec<(String, String)>,
}

/// Returns the names of files that the repository lacks, in the order in which they are written, with
/// their sizes.
///
/// # Errors
/// The repository cannot be listed.
pub fn missing(far: &RemoteStorage, own: &dyn Storage) -> Result<Vec<(String, u64)>> {
    let failed = |dir: &str| {
        let dir = dir.to_owned();
        move |e| Error::storage("list", dir, e)
    };
    let mut have: HashSet<String> = HashSet::new();
    for dir in [
        "packs",
        "manifests",
        "kept",
        "marks",
        "snapshots",
        "operations",
    ] {
        let listed = match own.list(dir) {
            // There is no repository yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(failed(dir))?,
        };
        for listed in listed {
            let name = format!("{dir}/{}", listed.name);
            match listed.is_dir {
                true => {
                    let inside = own.names(&name).map_err(failed(&name))?;
                    have.extend(inside.into_iter().map(|file| format!("{name}/{file}")));
                }
                false => drop(have.insert(name)),
            }
        }
    }
    if matches!(own.size("format.json"), Ok(Some(_))) {
        have.insert("format.json".to_owned());
    }
    // A pack that was put together there is not needed if all that it replaces is here.
    let push = far.push();
    let has_pack = |id: &crate::base::id::Digest| have.contains(&crate::repo::layout::pack(*id));
    let replaced = |stored: &super::record::Stored| {
        !stored.instead_of.is_empty() && stored.instead_of.iter().all(has_pack)
    };
    let files = push
        .files
        .iter()
        .map(|(name, bytes)| (name, bytes.0.len() as u64, false));
    let objects = push.objects.iter();
    let objects = objects.map(|(name, stored)| (name, stored.bytes, replaced(stored)));
    let mut missing: Vec<(String, u64)> = files
        .chain(objects)
        .filter(|(name, _, replaced)| !replaced && !have.contains(*name))
        .filter(|(name, _, _)| !name.starts_with(TAILS))
        .map(|(name, bytes, _)| (name.clone(), bytes))
        .collect();
    let rank = |name: &str| ORDER.iter().position(|dir| name.starts_with(dir));
    missing.sort_by(|a, b| rank(&a.0).cmp(&rank(&b.0)).then_with(|| a.0.cmp(&b.0)));
    Ok(missing)
}

/// Copies what the repository lacks. What cannot be fetched is named; a snapshot comes anyway, and
/// `verify` says what it lost.
///
/// # Errors
/// The repository cannot be written, or the user stopped it.
pub fn fetch(
    far: &RemoteStorage,
    own: &dyn Storage,
    missing: &[(String, u64)],
    monitor: &dyn Monitor,
) -> Result<CloneReport> {
    let total = missing.iter().map(|(_, bytes)| bytes).sum();
    monitor.phase(Phase::Restoring, missing.len() as u64, total);
    let mut report = CloneReport::default();
    for dir in ORDER {
        let group: Vec<&(String, u64)> = missing
            .iter()
            .filter(|(name, _)| name.starts_with(dir))
            .collect();
        let is_last = dir == "format.json";
        if is_last && !group.is_empty() {
            for (name, bytes) in recovery::FILES {
                storage::put(own, name, bytes).map_err(|e| Error::storage("write", name, e))?;
            }
        }
        copy(far, own, &group, monitor, &mut report)?;
    }
    let is_there = |name: &str| !report.problems.iter().any(|(problem, _)| problem == name);
    let snapshots = missing
        .iter()
        .filter(|(name, _)| name.starts_with("snapshots/") && is_there(name));
    report.snapshots = snapshots.count() as u64;
    Ok(report)
}

fn copy(
    far: &RemoteStorage,
    own: &dyn Storage,
    group: &[&(String, u64)],
    monitor: &dyn Monitor,
    report: &mut CloneReport,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let stop = |error| {
        if let Ok(mut failed) = failed.lock() {
            failed.get_or_insert(error);
        }
    };
    let work = || {
        let (mut files, mut bytes, mut problems) = (0_u64, 0_u64, Vec::new());
        while let Some((name, size)) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
            if monitor.stopped() {
                stop(Error::Interrupted);
            }
            if failed.lock().map_or(true, |failed| failed.is_some()) {
                break;
            }
            match copy_one(far, own, name) {
                Ok(()) => {
                    files += 1;
                    bytes += size;
                }
                Err(error @ (Error::Damaged { .. } | Error::Unreadable { .. })) => {
                    monitor.problem(name.as_bytes(), &error);
                    problems.push((name.clone(), error.to_string()));
                }
                Err(error) => stop(error),
            }
            monitor.advance(1, *size);
        }
        (files, bytes, problems)
    };
    let threads = THREADS.min(group.len()).max(1);
    for (files, bytes, problems) in threads::share(threads, &work).into_iter().flatten() {
        report.files += files;
        report.bytes += bytes;
        report.problems.extend(problems);
    }
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// Copies a file, piece by piece: a pack may be larger than the memory.
fn copy_one(far: &RemoteStorage, own: &dyn Storage, name: &str) -> Result<()> {
    let failed = |e| Error::storage("write", name, e);
    let mut staged = own.stage().map_err(failed)?;
    far.pieces(name, &mut |piece| staged.write(piece).map_err(failed))?;
    own.publish(staged, name).map_err(failed)
}
