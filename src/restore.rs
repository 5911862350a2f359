//! Brings files back from a snapshot: plan, save what stands there, apply.
//!
//! The begin record of the operation is the journal: it says what was asked, and applying it again continues where it stopped, because what is
//! already as it should be is left alone. Taking it back is an undo of the operation.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::agent::AgentCall;
use crate::apply::{self, Act, Job, Licence, Work};
use crate::backup::{BackupOptions, roots_of};
use crate::compare::{self, Differences, Groups};
use crate::error::{Error, Result};
use crate::fsutil;
use crate::fsutil::Opened;
use crate::fsutil::target::{Fidelity, Target, existing_base};
use crate::guard::{self, Intent};
use crate::id::{Digest, OperationId, SnapshotId};
use crate::manifest::{Entry, Flag, Kind, Stat};
use crate::monitor::Monitor;
use crate::path::{AbsolutePath, RawName, RepoPath, RootName};
use crate::privacy::merge::Merged;
use crate::repo::Repository;
use crate::repo::oplog::{Begin, Operation, OperationKind, RestoreJournal, RootPath};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};
use crate::rules::{Origin, Root};
use crate::sqlite;
use crate::unseal::SecretOptions;
use crate::walk::{WalkOptions, walk};

mod rehearse;
mod sealed;

pub(crate) use rehearse::rehearse;

/// What to do with files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// Replace those that differ.
    IfChanged,
    /// Leave them.
    Never,
    /// Replace all.
    Always,
}

impl Overwrite {
    /// Returns the word used in flags and records.
    pub fn word(self) -> &'static str {
        match self {
            Self::IfChanged => "if-changed",
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

/// What to restore, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Where to; `None`: where the files were.
    pub target: Option<PathBuf>,
    /// A directory above `target` from which it is reached without following a symlink: for callers that are not to get out of it.
    pub beneath: Option<PathBuf>,
    /// What; empty: everything.
    pub paths: Vec<RootPath>,
    /// What to do with files that are there.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have.
    pub delete: bool,
    /// The time of the operation.
    pub now: DateTime<Utc>,
    /// Where it was asked for.
    pub cwd: PathBuf,
    /// How it was asked for.
    pub argv: Vec<OsString>,
    /// Absolute paths that are never touched, beside the repository's own.
    pub never: Vec<PathBuf>,
    /// Name of the machine.
    pub host: String,
    /// What is wanted of sealed values.
    pub secrets: SecretOptions,
    /// The call of another program that asked for it.
    pub agent: Option<AgentCall>,
}

/// What a restore does about the sealed values of a file. Names are those of keys.
#[derive(Debug, Clone)]
pub struct SecretStep {
    /// The file.
    pub path: PathBuf,
    /// Key by key.
    pub merged: Merged,
    /// It is written beside, because something cannot be had.
    pub aside: Option<PathBuf>,
}

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is not there.
    Create,
    /// It differs.
    Replace,
    /// Only mode, times or attributes differ.
    Metadata,
    /// The snapshot does not have it.
    Remove,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where, absolute.
    pub path: PathBuf,
    /// What happens.
    pub action: Action,
    /// What is to be there, or is removed.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
    /// Size of what is there.
    pub old_bytes: Option<u64>,
}

/// What a restore would do. Inert.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// From which snapshot.
    pub snapshot: SnapshotId,
    /// Steps, sorted by path.
    pub steps: Vec<Step>,
    /// Objects that are as they should be.
    pub unchanged: u64,
    /// How many of these are directories.
    pub unchanged_dirs: u64,
    /// What cannot or will not be restored.
    pub skipped: Vec<PathNote>,
    /// Files of which something cannot be had.
    pub problems: Vec<PathNote>,
    /// What happens to sealed values.
    pub secrets: Vec<SecretStep>,
    work: Work,
    /// Directories that are closed to their owner and have to be opened for it.
    closed: Vec<PathBuf>,
    /// Something stands where files are written.
    needs_snapshot: bool,
}

impl RestorePlan {
    /// Returns what names this plan: another one for other steps, and for the same steps where something else stands by now.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{} {}", self.snapshot, self.work.digest()).as_bytes())
    }
}

/// What a restore did.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// The operation; `None`: nothing to do, or into a place where nothing was.
    pub operation: Option<OperationId>,
    /// Objects written.
    pub restored: u64,
    /// Of these, those that are no directories.
    pub files: u64,
    /// Objects removed.
    pub removed: u64,
    /// Objects left as they were.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What failed.
    pub problems: Vec<PathNote>,
    /// What was not tried.
    pub skipped: Vec<PathNote>,
    /// Wall time.
    pub elapsed: Duration,
}

/// How the reason begins for files that were to be left because something is there.
const THERE: &str = "it is there already";

impl RestoreReport {
    /// Returns true if not all that was asked for stands now as it was.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || self.skipped.iter().any(|note| note.reason != THERE)
    }
}

impl RestorePlan {
    /// Returns true if a restore by this plan will not bring all that is asked for.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || self.skipped.iter().any(|note| note.reason != THERE)
    }
}

/// Plans a restore. Reads only.
///
/// # Errors
/// A path is not in the snapshot, its listing is damaged, or the target cannot be looked at.
pub fn plan(
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestorePlan> {
    check_target(repo, options)?;
    plan_anywhere(repo, snapshot, options, monitor)
}

/// [`plan`], for targets among bdr's own files as well: scratch directories are.
fn plan_anywhere(
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestorePlan> {
    let mut plan = RestorePlan {
        snapshot: snapshot.id,
        steps: Vec::new(),
        unchanged: 0,
        unchanged_dirs: 0,
        skipped: Vec::new(),
        problems: Vec::new(),
        secrets: Vec::new(),
        work: Work::default(),
        closed: Vec::new(),
        needs_snapshot: false,
    };
    let mut opened = Opened::default();
    for record in &snapshot.roots {
        let wanted: Vec<&RepoPath> = options
            .paths
            .iter()
            .filter(|p| p.root == record.name)
            .map(|p| &p.path)
            .collect();
        if !options.paths.is_empty() && wanted.is_empty() {
            continue;
        }
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let listing = repo.listing_of(record, &|path| {
            // What is wanted, the directories on the way to it, and what may stand beside a database.
            wanted.is_empty()
                || wanted
                    .iter()
                    .any(|w| path.starts_with(w) || w.starts_with(path) || is_beside(path, w))
        })?;
        for path in &wanted {
            if !listing.iter().any(|entry| entry.path.starts_with(path)) {
                let path = path.to_path(record.path.as_path());
                return Err(Error::NoSuchPath {
                    path: crate::path::show(path.as_os_str()),
                    place: format!("snapshot {}", snapshot.id.prefix(&[])),
                });
            }
        }
        // Shared with the jobs: there may be hundreds of thousands.
        let listing: Vec<Arc<Entry>> = listing.into_iter().map(Arc::new).collect();
        open_ways(record, &listing, options, &mut opened)?;
        plan_root(repo, record, &listing, &wanted, options, &opened, &mut plan)?;
    }
    plan.closed = opened.paths();
    drop(opened);
    plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

/// Opens directories that their owner has closed, and that are to be looked into.
fn open_ways(
    record: &RootRecord,
    listing: &[Arc<Entry>],
    options: &RestoreOptions,
    opened: &mut Opened,
) -> Result<()> {
    let (base, prefix) = site_of(record, options)?;
    let dirs = listing.iter().filter(|entry| entry.kind == Kind::Dir);
    for entry in dirs {
        let dir = below(&prefix, &entry.path).to_path(&base);
        opened.way(&dir, &dir);
    }
    Ok(())
}

/// Makes sure that files may be written to the target at all.
fn check_target(repo: &Repository, options: &RestoreOptions) -> Result<()> {
    let Some(target) = &options.target else {
        return Ok(());
    };
    let real = fsutil::canonicalize(target).unwrap_or_else(|_| target.clone());
    let own = |own: &PathBuf| {
        let own = fsutil::canonicalize(own).unwrap_or_else(|_| own.clone());
        real.starts_with(own)
    };
    let shown = crate::path::show(target.as_os_str());
    if repo.own_paths().iter().any(own) {
        return Err(Error::invalid(
            format!("`{shown}` lies among bdr's own files"),
            Some("name another directory with --target"),
        ));
    }
    if target.exists() && !target.is_dir() {
        return Err(Error::invalid(
            format!("`{shown}` is not a directory"),
            Some("name a directory with --target; it is made if it is not there"),
        ));
    }
    Ok(())
}

/// Returns the directory below which a root is written, and the path of the root below it.
fn site_of(record: &RootRecord, options: &RestoreOptions) -> Result<(PathBuf, RepoPath)> {
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
        Some(name) => rest.join(&crate::path::os_to_bytes(&name)),
        None => rest,
    };
    Ok((base, prefix))
}

fn below(prefix: &RepoPath, path: &RepoPath) -> RepoPath {
    if path.is_root() {
        prefix.clone()
    } else {
        prefix.join(path.as_bytes())
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one decision after the other, in the order of the listing"
)]
fn plan_root(
    repo: &Repository,
    record: &RootRecord,
    listing: &[Arc<Entry>],
    wanted: &[&RepoPath],
    options: &RestoreOptions,
    opened: &Opened,
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
        if never.iter().any(|n| absolute(&entry.path) == *n) {
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
                        reason: crate::error::reason(&error),
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

fn is_database_alone(entry: &Entry, listed: &HashSet<&RepoPath>) -> bool {
    let name = entry.path.name();
    let database = [&b".db"[..], b".sqlite", b".sqlite3", b".db3"]
        .iter()
        .any(|e| name.ends_with(e));
    database && !listed.contains(&companion(&entry.path, "-wal"))
}

/// Returns true if `path` is `wanted` with a suffix, as `-wal`.
fn is_beside(path: &RepoPath, wanted: &RepoPath) -> bool {
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

/// Saves what stands where files are written, then applies the plan.
///
/// # Errors
/// What stands there cannot be saved (nothing is written then), or a target cannot be opened. Files that cannot be restored are
/// problems, not errors.
pub fn apply(
    repo: &Repository,
    snapshot: &Snapshot,
    plan: RestorePlan,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let started = Instant::now();
    let mut report = RestoreReport {
        operation: None,
        restored: 0,
        files: 0,
        removed: 0,
        unchanged: plan.unchanged,
        bytes: 0,
        problems: plan.problems.clone(),
        skipped: plan.skipped.clone(),
        elapsed: Duration::ZERO,
    };
    apply::sweep(repo);
    if plan.work.jobs.is_empty() {
        report.elapsed = started.elapsed();
        return Ok(report);
    }
    let mut opened = Opened::again(&plan.closed);
    let applied = if options.target.is_some() && !plan.needs_snapshot {
        let durable = Licence::NothingThere { durable: true };
        apply::apply(repo, &plan.work, &durable, monitor)?
    } else {
        let roots = match &options.target {
            Some(target) => vec![Root::ad_hoc(target.clone(), Origin::Source)],
            None => {
                let names: Vec<RootName> = snapshot
                    .roots
                    .iter()
                    .filter(|r| {
                        options.paths.is_empty() || options.paths.iter().any(|p| p.root == r.name)
                    })
                    .map(|r| r.name.clone())
                    .collect();
                roots_of(&snapshot.roots, &names)
            }
        };
        let mut backup = BackupOptions::new(Trigger::Restore, options.now);
        backup.never.clone_from(&options.never);
        backup.host.clone_from(&options.host);
        let intent = Intent {
            kind: OperationKind::Restore,
            argv: options.argv.clone(),
            cwd: options.cwd.clone(),
            label: None,
            remote: Vec::new(),
            undoes: None,
            restore: Some(RestoreJournal {
                snapshot: snapshot.id,
                target: options
                    .target
                    .as_deref()
                    .map(AbsolutePath::new)
                    .transpose()
                    .map_err(|reason| Error::invalid(reason, None))?,
                paths: options.paths.clone(),
                delete: options.delete,
                overwrite: options.overwrite.word().to_owned(),
            }),
            agent: options.agent.clone(),
            in_place: options.target.is_none(),
            all_named: false,
        };
        backup.modes = opened.modes();
        let protected = guard::open(repo, &roots, &backup, intent, monitor)?;
        report.operation = Some(protected.operation());
        let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
        protected.finish_work(&plan.work)?;
        applied
    };
    opened.release(plan.work.sets_modes());
    drop(opened);
    let directories = plan
        .steps
        .iter()
        .filter(|step| step.kind == Kind::Dir && step.action == Action::Metadata);
    report.restored = applied.restored + directories.count() as u64;
    report.files = applied.files;
    report.removed = applied.removed;
    report.bytes = applied.bytes;
    report.problems.extend(applied.problems);
    report.problems.extend(applied.lacking);
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Returns the newest restore that was begun and never ended, if its process is gone and nothing newer touched the same files.
///
/// # Errors
/// The log cannot be read.
pub fn interrupted(repo: &Repository) -> Result<Option<Operation>> {
    // The whole log is read only if there is something to find.
    let open =
        |begin: &Begin| begin.kind == OperationKind::Restore && !fsutil::process_runs(begin.pid);
    if !repo.unfinished_operations()?.iter().any(open) {
        return Ok(None);
    }
    let newest = repo
        .operations()?
        .into_iter()
        .rev()
        .find(|o| o.begin.kind == OperationKind::Restore);
    Ok(newest.filter(|o| o.end.is_none() && o.undone_by.is_none() && open(&o.begin)))
}

/// Returns the options that continue an interrupted restore.
pub fn options_of(operation: &Operation, base: RestoreOptions) -> RestoreOptions {
    let Some(journal) = &operation.begin.restore else {
        return base;
    };
    RestoreOptions {
        target: journal.target.as_ref().map(|t| t.as_path().to_path_buf()),
        paths: journal.paths.clone(),
        overwrite: match journal.overwrite.as_str() {
            "never" => Overwrite::Never,
            "always" => Overwrite::Always,
            _ => Overwrite::IfChanged,
        },
        delete: journal.delete,
        ..base
    }
}
