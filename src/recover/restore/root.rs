//! Plans a restore of one root: what comes back, what goes, what is as it should be.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Action, Overwrite, RestoreOptions, RestorePlan, Step, THERE, sealed};
use crate::base::error::{Error, Result};
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::Opened;
use crate::disk::fsutil::target::{Fidelity, Target, existing_base};
use crate::disk::sqlite;
use crate::model::compare::{self, Differences, Groups};
use crate::model::manifest::{Entry, Flag, Kind, Stat};
use crate::model::rules::{Origin, Root};
use crate::protect::walk::{WalkOptions, walk};
use crate::protect::work::{Act, Job};
use crate::recover::apart::{self, APART};
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, RootRecord};

/// Where roots lie in one another: which places have been planned, and which any of them lists.
#[derive(Default)]
pub(super) struct Once {
    pub(super) overlaps: bool,
    planned: HashSet<PathBuf>,
    listed: HashSet<PathBuf>,
}

impl Once {
    pub(super) fn of(records: &[RootRecord]) -> Self {
        let paths = || records.iter().map(|record| record.path.as_path());
        let lies_in = |path: &Path| paths().filter(|other| path.starts_with(other)).count() > 1;
        Self {
            overlaps: paths().any(lies_in),
            ..Self::default()
        }
    }

    /// Takes note of what a root lists: none of it is deleted for not being in another.
    pub(super) fn note_listed(&mut self, record: &RootRecord, listing: &[Entry]) {
        let root = record.path.as_path();
        let paths = listing.iter().map(|entry| entry.path.to_path(root));
        self.listed.extend(paths);
    }

    /// Returns true for a place that is planned for the first time.
    fn is_first(&mut self, place: &Path) -> bool {
        !self.overlaps || self.planned.insert(place.to_path_buf())
    }
}

/// Returns the directory below which a root is written, and the path of the root below it.
pub(super) fn site_of(
    record: &RootRecord,
    options: &RestoreOptions,
) -> Result<(PathBuf, RepoPath)> {
    let target = options.target.as_deref();
    let place = match target {
        Some(target) => target.join(&record.name),
        None => record.path.as_path().to_path_buf(),
    };
    // The root itself may be a file: its directory is the base.
    let (parent, name) = match (place.parent(), place.file_name()) {
        (Some(parent), Some(name)) => (parent, Some(name.to_owned())),
        _ => (place.as_path(), None),
    };
    let reached = match (&options.beneath, target) {
        (Some(above), Some(_)) => RepoPath::below(above, parent).map(|rest| (above.clone(), rest)),
        _ => existing_base(parent),
    };
    let (base, rest) = reached
        .ok_or_else(|| Error::invalid(format!("`{}` cannot be reached", place.display()), None))?;
    let prefix = match name {
        Some(name) => rest.join(&crate::base::path::os_to_bytes(&name)),
        None => rest,
    };
    Ok((base, prefix))
}

pub(super) fn below(prefix: &RepoPath, path: &RepoPath) -> RepoPath {
    if path.is_root() {
        prefix.clone()
    } else {
        prefix.join(path.as_bytes())
    }
}

#[expect(
    clippy::too_many_lines,
    clippy::too_many_arguments,
    reason = "one decision after the other, in the order of the listing"
)]
pub(super) fn plan_root(
    repo: &Repository,
    record: &RootRecord,
    listing: &[Arc<Entry>],
    wanted: &[&RepoPath],
    options: &RestoreOptions,
    opened: &Opened,
    once: &mut Once,
    plan: &mut RestorePlan,
) -> Result<()> {
    let (base, prefix) = site_of(record, options)?;
    let never: Vec<PathBuf> = repo
        .own_paths()
        .into_iter()
        .chain(options.never.clone())
        .collect();
    let site = plan.work.sites.len();
    plan.work.sites.push(base.clone());
    let mut target = Target::open(&base, Fidelity::InPlace)?;
    let selected =
        |path: &RepoPath| wanted.is_empty() || wanted.iter().any(|w| path.starts_with(w));
    // Directories on the way to what is wanted: made if they are missing, with their metadata.
    let on_the_way = |path: &RepoPath| wanted.iter().any(|w| w.starts_with(path));
    let by_path: HashSet<&RepoPath> = listing.iter().map(|e| &e.path).collect();
    let absolute = |path: &RepoPath| below(&prefix, path).to_path(&base);
    let mut touched: HashSet<RepoPath> = HashSet::new();
    let mut dirs: Vec<(Arc<Entry>, Stat)> = Vec::new();
    let mut absent: Option<RepoPath> = None;
    let mut groups = Groups::default();
    let mut blocking: Vec<RepoPath> = Vec::new();
    for entry in listing {
        let chosen = selected(&entry.path);
        let needed = chosen || (entry.kind == Kind::Dir && on_the_way(&entry.path));
        if !needed {
            continue;
        }
        let path = below(&prefix, &entry.path);
        let skip = |plan: &mut RestorePlan, reason: &str| {
            plan.skipped.push(PathNote {
                path: RawName(absolute(&entry.path).into_os_string()),
                reason: reason.to_owned(),
            });
        };
        if never.iter().any(|n| absolute(&entry.path) == *n)
            || !once.is_first(&absolute(&entry.path))
        {
            continue;
        }
        // Nothing is below what is not there.
        let hidden = absent.as_ref().is_some_and(|a| entry.path.starts_with(a));
        let seen = if hidden {
            None
        } else {
            match target.stat(&path) {
                Ok(seen) => seen.map(|seen| Stat {
                    mode: opened.mode_of(&absolute(&entry.path)).unwrap_or(seen.mode),
                    ..seen
                }),
                Err(error) => {
                    plan.problems.push(PathNote {
                        path: RawName(absolute(&entry.path).into_os_string()),
                        reason: crate::base::error::reason(&error),
                    });
                    continue;
                }
            }
        };
        if !entry.kind.is_stored() {
            if seen.is_none_or(|seen| seen.kind != entry.kind) {
                skip(plan, &format!("a {} is not stored", entry.kind.word()));
            }
            continue;
        }
        if seen.is_none() && !hidden && entry.kind == Kind::Dir {
            absent = Some(entry.path.clone());
        }
        plan.needs_snapshot |= seen.is_some_and(|seen| {
            let replaced = seen.kind != Kind::Dir || entry.kind != Kind::Dir;
            replaced || chosen && options.target.is_none()
        });
        let job = |act, seen| Job {
            site,
            path: path.clone(),
            act,
            entry: Some(Arc::clone(entry)),
            seen,
            bytes: None,
        };
        let step = |action, old: Option<&Stat>| Step {
            path: absolute(&entry.path),
            action,
            kind: entry.kind,
            bytes: entry.size,
            old_bytes: old.filter(|s| s.kind == Kind::File).map(|s| s.size),
        };
        if entry.body.sealed.is_some()
            && !seen.is_some_and(|s| s.kind == Kind::Dir || options.overwrite == Overwrite::Never)
            && sealed::plan_sealed(
                repo,
                &mut target,
                site,
                &base,
                &path,
                entry,
                seen,
                options,
                plan,
            )?
        {
            touched.extend(entry.path.parent());
            continue;
        }
        match seen {
            None => {
                plan.work.jobs.push(job(Act::Write, None));
                plan.steps.push(step(Action::Create, None));
                touched.extend(entry.path.parent());
            }
            Some(seen) if seen.kind == Kind::Dir && entry.kind == Kind::Dir => {
                if chosen {
                    dirs.push((Arc::clone(entry), seen));
                } else {
                    plan.unchanged += 1;
                    plan.unchanged_dirs += 1;
                }
            }
            Some(_) if options.overwrite == Overwrite::Never => skip(plan, THERE),
            Some(seen) if seen.kind == Kind::Dir && options.delete => {
                // All that is in it goes first, as everything goes that the snapshot does not have.
                blocking.push(entry.path.clone());
                plan.work.jobs.push(Job {
                    entry: None,
                    ..job(Act::Clear, Some(seen))
                });
                plan.work.jobs.push(job(Act::Write, None));
                plan.steps.push(step(Action::Replace, None));
                touched.extend(entry.path.parent());
            }
            Some(seen) if seen.kind == Kind::Dir => {
                skip(
                    plan,
                    "a directory stands there; move it away to restore the file",
                );
            }
            Some(seen) => {
                let same = options.overwrite == Overwrite::IfChanged
                    && seen.kind == entry.kind
                    && same_bytes(repo, &mut target, &path, entry, &seen);
                let fits = same && groups.fits(entry, &seen);
                if same && !entry.body.link.is_empty() {
                    let group = (site, entry.body.link.clone());
                    plan.work
                        .anchors
                        .entry(group)
                        .or_insert_with(|| path.clone());
                }
                let attributes = if fits {
                    target.xattrs(&path, entry.kind).ok()
                } else {
                    None
                };
                let differs = match &attributes {
                    Some(found) => compare::whole(entry, &seen, found),
                    None => compare::by_stat(entry, &seen),
                };
                if !fits {
                    plan.work.jobs.push(job(Act::Write, Some(seen)));
                    if entry.kind == Kind::Dir {
                        // A file stands where a directory was.
                        let clear = Job {
                            entry: None,
                            ..job(Act::Clear, Some(seen))
                        };
                        plan.work.jobs.push(clear);
                        if let Some(write) = plan.work.jobs.iter_mut().rev().nth(1) {
                            write.seen = None;
                        }
                        absent = Some(entry.path.clone());
                    }
                    plan.steps.push(step(Action::Replace, Some(&seen)));
                    touched.extend(entry.path.parent());
                } else if differs.any() {
                    plan.work.jobs.push(job(Act::Metadata, Some(seen)));
                    plan.steps.push(step(Action::Metadata, Some(&seen)));
                } else {
                    plan.unchanged += 1;
                }
                if entry.body.flags.contains(&Flag::Online) || is_database_alone(entry, &by_path) {
                    drop_companions(&mut target, site, &path, entry, &by_path, plan)?;
                }
            }
        }
    }
    if options.target.is_none() {
        names(
            repo,
            record,
            listing,
            &selected,
            &prefix,
            site,
            &mut target,
            plan,
        )?;
    }
    let listed_at_all = by_path.contains(&RepoPath::root()) || !options.paths.is_empty();
    if options.delete && options.overwrite != Overwrite::Never && listed_at_all {
        plan_deletions(
            record,
            &prefix,
            site,
            &by_path,
            &selected,
            &never,
            &blocking,
            once,
            plan,
            &mut touched,
        )?;
    }
    for (entry, seen) in dirs {
        let path = below(&prefix, &entry.path);
        let differs = match target.xattrs(&path, Kind::Dir) {
            // What is there is left as it is.
            _ if options.overwrite == Overwrite::Never => Differences::default(),
            Ok(found) => compare::whole(&entry, &seen, &found),
            Err(_) => compare::by_stat(&entry, &seen),
        };
        let is_touched = touched.contains(&entry.path);
        // Its time goes along with what comes back into it.
        let shown = Differences {
            time: differs.time && !is_touched,
            ..differs
        };
        if differs.any() || is_touched || options.target.is_some() {
            if shown.any() {
                plan.steps.push(Step {
                    path: absolute(&entry.path),
                    action: Action::Metadata,
                    kind: Kind::Dir,
                    bytes: 0,
                    old_bytes: None,
                });
            }
            plan.work.jobs.push(Job {
                site,
                path,
                act: Act::Metadata,
                entry: Some(entry),
                seen: Some(seen),
                bytes: None,
            });
        } else {
            plan.unchanged += 1;
            plan.unchanged_dirs += 1;
        }
    }
    Ok(())
}

/// Has what comes back join names that stand and were not asked for, and names files that come back without names that they had elsewhere.
#[expect(
    clippy::too_many_arguments,
    reason = "one part of plan_root, split for reading"
)]
fn names(
    repo: &Repository,
    record: &RootRecord,
    listing: &[Arc<Entry>],
    selected: &dyn Fn(&RepoPath) -> bool,
    prefix: &RepoPath,
    site: usize,
    target: &mut Target,
    plan: &mut RestorePlan,
) -> Result<()> {
    let place = |path: &RepoPath| below(prefix, path);
    let jobs = plan.work.jobs.iter();
    let mut written: HashSet<String> = jobs
        .filter(|job| job.site == site && job.act == Act::Write)
        .filter_map(|job| Some(job.entry.as_ref()?.body.link.clone()))
        .collect();
    written.retain(|link| !link.is_empty());
    if written.is_empty() {
        return Ok(());
    }
    // Where a part was asked for, the listing may not have all of their names.
    let all: Vec<Arc<Entry>> = match listing.iter().all(|entry| selected(&entry.path)) {
        true => listing.to_vec(),
        false => repo.listing(record)?.into_iter().map(Arc::new).collect(),
    };
    let others = all.iter().filter(|entry| !selected(&entry.path));
    for entry in others.filter(|entry| written.contains(&entry.body.link)) {
        let path = place(&entry.path);
        let seen = target.stat(&path).ok().flatten();
        if seen.is_some_and(|seen| {
            seen.kind == entry.kind && same_bytes(repo, target, &path, entry, &seen)
        }) {
            let group = (site, entry.body.link.clone());
            plan.work.anchors.entry(group).or_insert(path);
        }
    }
    let names = apart::elsewhere(all.iter().map(|entry| &**entry));
    for path in apart::brought_back(&names, &plan.work, site, &place, target) {
        let path = place(path).to_path(&plan.work.sites[site]);
        plan.problems.push(PathNote {
            path: RawName(path.into_os_string()),
            reason: APART.to_owned(),
        });
    }
    Ok(())
}

fn is_database_alone(entry: &Entry, listed: &HashSet<&RepoPath>) -> bool {
    let name = entry.path.name();
    let database = [&b".db"[..], b".sqlite", b".sqlite3", b".db3"]
        .iter()
        .any(|e| name.ends_with(e));
    database && !listed.contains(&companion(&entry.path, "-wal"))
}

/// Returns true if `path` is `wanted` with a suffix, as `-wal`.
pub(super) fn is_beside(path: &RepoPath, wanted: &RepoPath) -> bool {
    path.as_bytes().starts_with(wanted.as_bytes())
}

fn companion(path: &RepoPath, suffix: &str) -> RepoPath {
    let mut name = path.name().to_vec();
    name.extend_from_slice(suffix.as_bytes());
    path.parent().unwrap_or_default().join(&name)
}

/// A `-wal` of another time would be played into the restored database: it has to go.
fn drop_companions(
    target: &mut Target,
    site: usize,
    path: &RepoPath,
    entry: &Entry,
    listed: &HashSet<&RepoPath>,
    plan: &mut RestorePlan,
) -> Result<()> {
    let rewritten = plan
        .work
        .jobs
        .last()
        .is_some_and(|j| j.path == *path && j.act == Act::Write);
    for suffix in sqlite::COMPANIONS {
        if listed.contains(&companion(&entry.path, suffix)) || !rewritten {
            continue;
        }
        let beside = companion(path, suffix);
        if let Some(seen) = target.stat(&beside)?.filter(|s| s.kind == Kind::File) {
            plan.steps.push(Step {
                path: beside.to_path(&plan.work.sites[site]),
                action: Action::Remove,
                kind: Kind::File,
                bytes: seen.size,
                old_bytes: Some(seen.size),
            });
            let job = Job {
                site,
                path: beside,
                act: Act::Clear,
                entry: None,
                seen: Some(seen),
                bytes: None,
            };
            // Before the rewriting job, so that it stays the last.
            let at = plan.work.jobs.len() - 1;
            plan.work.jobs.insert(at, job);
        }
    }
    Ok(())
}

/// Returns true if what stands at `path` has the bytes (or target) of `entry`: by reading it, not by its times.
pub(crate) fn same_bytes(
    repo: &Repository,
    target: &mut Target,
    path: &RepoPath,
    entry: &Entry,
    seen: &Stat,
) -> bool {
    match entry.kind {
        Kind::Symlink => target.read_link(path).is_ok_and(|t| t == entry.body.target),
        Kind::File if seen.size == entry.size => {
            let Ok(mut file) = target.open_file(path) else {
                return false;
            };
            repo.has_content(&entry.body, &mut file)
        }
        Kind::Fifo => seen.kind == Kind::Fifo,
        _ => false,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one part of plan_root, split for reading"
)]
fn plan_deletions(
    record: &RootRecord,
    prefix: &RepoPath,
    site: usize,
    listed: &HashSet<&RepoPath>,
    selected: &dyn Fn(&RepoPath) -> bool,
    never: &[PathBuf],
    blocking: &[RepoPath],
    once: &mut Once,
    plan: &mut RestorePlan,
    touched: &mut HashSet<RepoPath>,
) -> Result<()> {
    let base = plan.work.sites[site].clone();
    let root = Root {
        name: record.name.clone(),
        path: prefix.to_path(&base),
        rules: record.rules.clone(),
        origin: Origin::Source,
        named: Vec::new(),
        must: Vec::new(),
        without: record.apart(&base),
        resolved: false,
    };
    let scan = walk(
        &root,
        None,
        &WalkOptions {
            never,
            max_files: None,
            keep_known: false,
        },
    )?;
    for found in scan.dirty {
        let unknown = record
            .left_out
            .iter()
            .any(|l| found.path.starts_with(&l.path) || l.path.starts_with(&found.path));
        if listed.contains(&found.path) || !selected(&found.path) || unknown || found.path.is_root()
        {
            continue;
        }
        let place = found.path.to_path(record.path.as_path());
        if once.listed.contains(&place) || !once.is_first(&place) {
            continue;
        }
        touched.extend(found.path.parent());
        let path = below(prefix, &found.path);
        plan.needs_snapshot = true;
        plan.steps.push(Step {
            path: path.to_path(&base),
            action: Action::Remove,
            kind: found.stat.kind,
            bytes: found.stat.size,
            old_bytes: (found.stat.kind == Kind::File).then_some(found.stat.size),
        });
        plan.work.jobs.push(Job {
            site,
            path,
            act: match blocking.iter().any(|dir| found.path.starts_with(dir)) {
                true => Act::Clear,
                false => Act::Remove,
            },
            entry: None,
            seen: Some(found.stat),
            bytes: None,
        });
    }
    Ok(())
}
