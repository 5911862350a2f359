//! Takes an operation back: the reverse of what it changed, and nothing else.
//!
//! For each path that the operation changed there are three states: before (in its snapshot), after (the stamp in its end record) and now. Only where
//! now is as after left it is before put back. What changed again since is a conflict: it stays, and the old is written beside it. The undo
//! saves the present first and is an operation itself, so a redo is the undo of the undo.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::apply::{self, Act, Job, Licence, Work};
use crate::backup::{BackupOptions, roots_of};
use crate::error::{Error, Result};
use crate::fsutil::target::{Fidelity, Target, existing_base};
use crate::guard::{self, Intent};
use crate::id::OperationId;
use crate::manifest::{Entry, Kind, Stat, Time, by_path};
use crate::merge;
use crate::monitor::Monitor;
use crate::path::{RawName, RepoPath, os_to_bytes};
use crate::repo::Repository;
use crate::repo::oplog::{Operation, OperationKind, RootChanges, Stamp};
use crate::repo::reader::Reader;
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot, Trigger};
use crate::restore::same_bytes;
use crate::rules::{Origin, Root};
use crate::walk::{WalkOptions, walk};

/// What to take back, and how.
#[derive(Debug, Clone)]
pub struct UndoOptions {
    /// The time of the operation.
    pub now: DateTime<Utc>,
    /// Where it was asked for.
    pub cwd: PathBuf,
    /// How it was asked for.
    pub argv: Vec<OsString>,
    /// Only at or below these absolute paths; empty: all.
    pub paths: Vec<PathBuf>,
    /// Absolute paths that are never touched, beside the repository's own.
    pub never: Vec<PathBuf>,
    /// Name of the machine.
    pub host: String,
}

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UndoAction {
    /// It comes back as it was.
    Restore,
    /// The operation made it, and nothing touched it since.
    Remove,
    /// Mode, times or attributes come back.
    Metadata,
    /// It changed again since, elsewhere inside: what the operation changed comes back, the rest stays.
    Merge,
    /// It changed again since: it stays, the old one is written beside it.
    Conflict,
    /// The operation made it, and it changed since: it stays.
    Keep,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct UndoStep {
    /// Where, absolute.
    pub path: PathBuf,
    /// What happens.
    pub action: UndoAction,
    /// What is restored or removed.
    pub kind: Kind,
    /// Its size, with all below a directory that comes back whole.
    pub bytes: u64,
    /// Regular files; more than one for a directory that comes back whole.
    pub files: u64,
    /// Where the old one is written, for a conflict.
    pub beside: Option<PathBuf>,
}

/// What an undo would do. Inert.
#[derive(Debug, Clone)]
pub struct UndoPlan {
    /// What is taken back.
    pub operation: OperationId,
    /// Steps, sorted by path.
    pub steps: Vec<UndoStep>,
    /// What the operation may have changed without its having been captured.
    pub not_captured: Vec<PathNote>,
    work: Work,
    roots: Vec<Root>,
}

/// What an undo did.
#[derive(Debug, Clone)]
pub struct UndoReport {
    /// The undo, itself an operation.
    pub operation: OperationId,
    /// Objects restored.
    pub restored: u64,
    /// Objects removed.
    pub removed: u64,
    /// Paths that changed since and were kept.
    pub conflicts: u64,
    /// What failed.
    pub problems: Vec<PathNote>,
    /// Wall time.
    pub elapsed: Duration,
}

fn is_about(operation: &Operation, cwd: &Path) -> bool {
    let there = operation.begin.cwd.as_path();
    there.starts_with(cwd) || cwd.starts_with(there)
}

/// Returns the operation that a plain `bdr undo` takes back: the newest that can be, around `cwd` if there is one.
///
/// # Errors
/// There is none.
pub fn choose<'a>(operations: &'a [Operation], cwd: &Path) -> Result<&'a Operation> {
    // A redo did it again: taking that back is what undo means then.
    let can_be = |o: &&Operation| o.is_undoable() && o.begin.kind != OperationKind::Undo;
    let newest = |near: bool| {
        operations
            .iter()
            .rev()
            .filter(can_be)
            .find(|o| !near || is_about(o, cwd))
    };
    newest(true)
        .or_else(|| newest(false))
        .ok_or(Error::NothingTo { verb: "undo" })
}

/// Returns the operations around `cwd` that can be taken back, the newest first.
pub fn newest_first<'a>(
    operations: &'a [Operation],
    cwd: &'a Path,
) -> impl Iterator<Item = &'a Operation> {
    operations.iter().rev().filter(move |operation| {
        operation.is_undoable()
            && !matches!(
                operation.begin.kind,
                OperationKind::Undo | OperationKind::Redo
            )
            && is_about(operation, cwd)
    })
}

/// Returns the undo that a plain `bdr redo` takes back: the newest, if no other operation came after it.
///
/// # Errors
/// There is none.
pub fn choose_redo<'a>(operations: &'a [Operation], cwd: &Path) -> Result<&'a Operation> {
    operations
        .iter()
        .rev()
        .filter(|o| is_about(o, cwd))
        .take_while(|o| matches!(o.begin.kind, OperationKind::Undo | OperationKind::Redo))
        .find(|o| o.begin.kind == OperationKind::Undo && o.is_undoable())
        .ok_or(Error::NothingTo { verb: "redo" })
}

/// Returns what has to be taken back to take back `operation`: itself, or the redo that did it again after it was undone.
pub fn effective<'a>(operations: &'a [Operation], operation: &'a Operation) -> &'a Operation {
    let mut current = operation;
    loop {
        let undo = operations
            .iter()
            .rev()
            .find(|o| o.begin.undoes == Some(current.begin.id));
        let redo = undo.and_then(|undo| {
            operations
                .iter()
                .find(|o| undo.undone_by == Some(o.begin.id))
        });
        match redo {
            Some(redo) => current = redo,
            None => return current,
        }
    }
}

/// Plans an undo. Reads only.
///
/// # Errors
/// The operation has no snapshot, or its snapshot is damaged.
pub fn plan(
    repo: &Repository,
    operation: &Operation,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoPlan> {
    let before = operation.begin.before.ok_or_else(|| {
        Error::invalid(
            "this operation ran unprotected: there is nothing to go back to",
            Some("bdr history PATH finds older versions of a file"),
        )
    })?;
    let snapshot = repo.snapshot(before)?;
    let mut plan = UndoPlan {
        operation: operation.begin.id,
        steps: Vec::new(),
        not_captured: operation.begin.not_captured.clone(),
        work: Work::default(),
        roots: roots_of(&snapshot.roots, &operation.begin.roots),
    };
    let computed;
    let changes = match &operation.end {
        Some(end) => &end.roots,
        None => {
            computed = compare_with_now(repo, &snapshot, operation, options)?;
            &computed
        }
    };
    let mut put_back = put_back_since(repo, operation)?;
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for change in changes {
        let Some(record) = snapshot.root(&change.name) else {
            continue;
        };
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let put_back = put_back.remove(&change.name).unwrap_or_default();
        plan_root(
            repo, record, change, options, put_back, &mut plan, &mut seen,
        )?;
    }
    plan.steps = collapsed(std::mem::take(&mut plan.steps));
    Ok(plan)
}

/// Returns what undos and redos after an operation wrote, by root: they put back what it left, under another inode.
fn put_back_since(
    repo: &Repository,
    operation: &Operation,
) -> Result<HashMap<String, HashMap<RepoPath, Stamp>>> {
    let mut found: HashMap<String, HashMap<RepoPath, Stamp>> = HashMap::new();
    let later = repo.operations_after(operation.begin.id)?;
    let later = later
        .into_iter()
        .filter(|later| matches!(later.begin.kind, OperationKind::Undo | OperationKind::Redo));
    for root in later
        .filter_map(|later| later.end)
        .flat_map(|end| end.roots)
    {
        let stamps = root.created.into_iter().chain(root.modified);
        let known = found.entry(root.name).or_default();
        known.extend(stamps.map(|stamp| (stamp.path.clone(), stamp)));
    }
    Ok(found)
}

/// Sorts steps, and makes one of a directory that comes back or goes with everything below it.
fn collapsed(mut steps: Vec<UndoStep>) -> Vec<UndoStep> {
    steps.sort_by(|a, b| a.path.cmp(&b.path));
    let mut result: Vec<UndoStep> = Vec::with_capacity(steps.len().min(1024));
    for step in steps {
        let simple = matches!(step.action, UndoAction::Restore | UndoAction::Remove);
        if let Some(last) = result.last_mut()
            && simple
            && last.kind == Kind::Dir
            && last.action == step.action
            && step.path.starts_with(&last.path)
        {
            last.files += step.files;
            last.bytes += step.bytes;
        } else {
            result.push(step);
        }
    }
    result
}

/// Returns what differs from the snapshot now: for operations that never ended.
fn compare_with_now(
    repo: &Repository,
    snapshot: &Snapshot,
    operation: &Operation,
    options: &UndoOptions,
) -> Result<Vec<RootChanges>> {
    let never: Vec<PathBuf> = repo
        .own_paths()
        .into_iter()
        .chain(options.never.clone())
        .collect();
    let names = &operation.begin.roots;
    let mut result = Vec::new();
    for record in snapshot
        .roots
        .iter()
        .filter(|r| names.is_empty() || names.contains(&r.name))
    {
        let root = roots_of(std::slice::from_ref(record), &[]).remove(0);
        let scan = walk(
            &root,
            None,
            &WalkOptions {
                never: &never,
                max_files: None,
                keep_known: false,
            },
        )?;
        let mut changes = RootChanges {
            name: record.name.clone(),
            ..RootChanges::default()
        };
        let listing = by_path(repo.listing(record)?);
        let handle = crate::walk::RootHandle::open(&root.path)?;
        let mut there = HashSet::new();
        for dirty in scan.dirty {
            there.insert(dirty.path.clone());
            let stamp = stamp_of(dirty.path.clone(), &dirty.stat);
            match listing.get(&dirty.path) {
                _ if record
                    .left_out
                    .iter()
                    .any(|l| dirty.path.starts_with(&l.path)) => {}
                None => changes.created.push(stamp),
                Some(entry) => {
                    let same = handle
                        .as_ref()
                        .is_some_and(|h| stands(h, entry, &dirty.stat));
                    if !same {
                        changes.modified.push(stamp);
                    }
                }
            }
        }
        let mut top: Option<&RepoPath> = None;
        for path in listing.keys().filter(|p| !there.contains(p)) {
            if !top.is_some_and(|t| path.starts_with(t)) {
                top = Some(path);
                changes.removed.push(path.clone());
            }
        }
        if !changes.is_empty() {
            result.push(changes);
        }
    }
    Ok(result)
}

/// Returns true if the object is as the entry says, by reading it.
fn stands(handle: &crate::walk::RootHandle, entry: &Entry, stat: &Stat) -> bool {
    if stat.kind != entry.kind || stat.mode != entry.mode || stat.mtime != entry.mtime {
        return false;
    }
    match entry.kind {
        Kind::File => {
            stat.size == entry.size
                && handle
                    .open_file(&entry.path)
                    .is_ok_and(|mut file| crate::backup::digest_of(&mut file) == entry.digest())
        }
        Kind::Symlink => handle
            .read_link(&entry.path)
            .is_ok_and(|t| t == entry.body.target),
        _ => true,
    }
}

fn stamp_of(path: RepoPath, stat: &Stat) -> Stamp {
    Stamp {
        path,
        kind: stat.kind,
        mode: stat.mode,
        mtime: stat.mtime,
        size: stat.size,
        ctime: stat.ctime,
        inode: stat.inode,
    }
}

fn is_as(stamp: &Stamp, stat: &Stat) -> bool {
    if stamp.kind == Kind::Dir {
        return stat.kind == Kind::Dir && stamp.inode == stat.inode;
    }
    stamp.kind == stat.kind
        && stamp.size == stat.size
        && stamp.mtime == stat.mtime
        && stamp.ctime == stat.ctime
        && stamp.inode == stat.inode
        && stamp.mode == stat.mode
}

struct Planner<'a> {
    plan: &'a mut UndoPlan,
    target: Target,
    site: usize,
    base: PathBuf,
    prefix: RepoPath,
    listing: BTreeMap<RepoPath, Entry>,
    /// Paths whose present object is cleared away first.
    cleared: HashSet<RepoPath>,
    /// Directories restored whole: shown as one line.
    suffix: String,
    reader: Reader<'a>,
    key: Option<merge::Key>,
    /// What the operation changed inside of files.
    inside: HashMap<RepoPath, merge::Changes>,
    now: DateTime<Utc>,
    /// How bdr itself left objects after the operation, when it took later ones back.
    put_back: HashMap<RepoPath, Stamp>,
}

impl Planner<'_> {
    /// Returns true if an object stands as the operation left it: never touched since, or put back so by bdr.
    fn is_left(&self, stamp: &Stamp, now: &Stat) -> bool {
        let same = |put: &Stamp| {
            put.kind == stamp.kind
                && (put.kind == Kind::Dir
                    || (put.size, put.mtime, put.mode) == (stamp.size, stamp.mtime, stamp.mode))
        };
        let put = self.put_back.get(&stamp.path);
        is_as(stamp, now) || put.is_some_and(|put| same(put) && is_as(put, now))
    }

    fn place(&self, path: &RepoPath) -> RepoPath {
        if path.is_root() {
            self.prefix.clone()
        } else {
            self.prefix.join(path.as_bytes())
        }
    }

    fn absolute(&self, path: &RepoPath) -> PathBuf {
        self.place(path).to_path(&self.base)
    }

    fn job(&mut self, path: &RepoPath, act: Act, entry: Option<Entry>, seen: Option<Stat>) {
        let job = Job {
            site: self.site,
            path: self.place(path),
            act,
            entry: entry.map(Arc::new),
            seen,
            bytes: None,
        };
        self.plan.work.jobs.push(job);
    }

    fn step(&mut self, path: &RepoPath, action: UndoAction, kind: Kind, bytes: u64) {
        let step = UndoStep {
            path: self.absolute(path),
            action,
            kind,
            bytes,
            files: u64::from(kind == Kind::File),
            beside: None,
        };
        self.plan.steps.push(step);
    }

    fn stat(&mut self, path: &RepoPath) -> Result<Option<Stat>> {
        if self.cleared.iter().any(|c| path.starts_with(c)) {
            return Ok(None);
        }
        let place = self.place(path);
        match self.target.stat(&place) {
            // Something else stands where a directory was: below it there is nothing.
            Err(Error::Unsafe { .. }) => Ok(None),
            other => other,
        }
    }

    /// Takes back what the operation changed inside of a file that changed again since. Returns false if that cannot be.
    fn merge(&mut self, entry: &Entry, gone: bool) -> Result<bool> {
        let name = match entry.path.is_root() {
            true => self.prefix.name().to_vec(),
            false => entry.path.name().to_vec(),
        };
        let place = self.place(&entry.path);
        let Some(seen) = self.target.stat(&place)? else {
            return Ok(false);
        };
        let fits = entry.kind == Kind::File
            && seen.kind == Kind::File
            && merge::is_mergeable(&name)
            && entry.size.max(seen.size) <= merge::MAX_BYTES;
        let (true, Some(key)) = (fits, self.key) else {
            return Ok(false);
        };
        let merged = (|| {
            let before = match &entry.body.content {
                Some(content) => self.reader.to_vec(content, entry.size).ok()?,
                None => Vec::new(),
            };
            let mut present = Vec::new();
            let file = self.target.open_file(&place).ok()?;
            std::io::Read::read_to_end(
                &mut std::io::Read::take(file, merge::MAX_BYTES),
                &mut present,
            )
            .ok()?;
            let all;
            let changes = match gone {
                true => {
                    all = merge::describe(&name, &before, b"", &key)?;
                    &all
                }
                false => self.inside.get(&entry.path)?,
            };
            let merged = merge::reverse(&before, &present, changes, &key)?;
            Some((merged != present).then_some(merged))
        })();
        let Some(merged) = merged else {
            return Ok(false);
        };
        let Some(bytes) = merged else {
            return Ok(true);
        };
        self.step(
            &entry.path,
            UndoAction::Merge,
            Kind::File,
            bytes.len() as u64,
        );
        let now = self.now;
        let mut new = Entry {
            mode: seen.mode,
            mtime: Time(now.timestamp(), now.timestamp_subsec_nanos()),
            size: bytes.len() as u64,
            ..entry.clone()
        };
        new.body.content = None;
        new.body.link.clear();
        self.job(&entry.path, Act::Write, Some(new), Some(seen));
        if let Some(job) = self.plan.work.jobs.last_mut() {
            job.bytes = Some(Arc::new(bytes));
        }
        Ok(true)
    }

    /// The path is not as the operation left it: what is there stays, what was is merged into it or written beside it.
    fn conflict(&mut self, entry: &Entry, gone: bool) -> Result<()> {
        if entry.kind == Kind::Dir || self.merge(entry, gone)? {
            return Ok(());
        }
        let parent = entry.path.parent().unwrap_or_default();
        let mut name = entry.path.name().to_vec();
        if entry.path.is_root() {
            name = self.prefix.name().to_vec();
        }
        name.extend_from_slice(self.suffix.as_bytes());
        let mut beside = parent.join(&name);
        let mut number = 1;
        let place = |this: &Self, beside: &RepoPath| {
            if entry.path.is_root() {
                this.prefix.parent().unwrap_or_default().join(beside.name())
            } else {
                this.place(beside)
            }
        };
        while let Some(stat) = self.target.stat(&place(self, &beside))? {
            // The same conflict met again: it is there already.
            let there = place(self, &beside);
            if same_bytes(&mut self.target, &there, entry, &stat) {
                break;
            }
            number += 1;
            let mut numbered = name.clone();
            numbered.extend_from_slice(format!("-{number}").as_bytes());
            beside = parent.join(&numbered);
        }
        let there = place(self, &beside);
        let seen = self.target.stat(&there)?;
        self.plan.steps.push(UndoStep {
            path: self.absolute(&entry.path),
            action: UndoAction::Conflict,
            kind: entry.kind,
            bytes: entry.size,
            files: 1,
            beside: Some(there.to_path(&self.base)),
        });
        let mut copy = entry.clone();
        copy.body.link.clear();
        let job = Job {
            site: self.site,
            path: there,
            act: Act::Write,
            entry: Some(Arc::new(copy)),
            seen,
            bytes: None,
        };
        self.plan.work.jobs.push(job);
        Ok(())
    }

    fn restore(&mut self, entry: &Entry, seen: Option<Stat>) {
        if !entry.kind.is_stored() {
            let path = RawName(self.absolute(&entry.path).into_os_string());
            let reason = format!("a {} is not stored", entry.kind.word());
            self.plan.not_captured.push(PathNote { path, reason });
            return;
        }
        self.step(&entry.path, UndoAction::Restore, entry.kind, entry.size);
        self.job(&entry.path, Act::Write, Some(entry.clone()), seen);
    }
}

fn plan_root(
    repo: &Repository,
    record: &RootRecord,
    changes: &RootChanges,
    options: &UndoOptions,
    put_back: HashMap<RepoPath, Stamp>,
    plan: &mut UndoPlan,
    seen: &mut HashSet<PathBuf>,
) -> Result<()> {
    let root = record.path.as_path();
    let (parent, name) = match (root.parent(), root.file_name()) {
        (Some(parent), Some(name)) => (parent, Some(name)),
        _ => (root, None),
    };
    let (base, rest) = existing_base(parent)
        .ok_or_else(|| Error::invalid(format!("`{}` cannot be reached", root.display()), None))?;
    let prefix = match name {
        Some(name) => rest.join(&os_to_bytes(name)),
        None => rest,
    };
    let site = plan.work.sites.len();
    plan.work.sites.push(base.clone());
    let suffix = format!(".bdr-{}", plan.operation.prefix(&[]));
    let target = Target::open(&base, Fidelity::InPlace)?;
    let listing = by_path(repo.listing(record)?);
    let mut planner = Planner {
        plan,
        target,
        site,
        base,
        prefix,
        listing,
        cleared: HashSet::new(),
        suffix,
        reader: Reader::new(repo),
        key: repo.merge_key().ok(),
        inside: changes
            .merges
            .iter()
            .map(|inside| (inside.path.clone(), inside.changes.clone()))
            .collect(),
        now: options.now,
        put_back,
    };
    let mut wanted = |planner: &Planner<'_>, path: &RepoPath| {
        let absolute = planner.absolute(path);
        let chosen =
            options.paths.is_empty() || options.paths.iter().any(|p| absolute.starts_with(p));
        // Two roots may cover the same path.
        chosen && seen.insert(absolute)
    };
    // Created: removed if nothing touched them since. From the bottom, so that directories come after what they hold.
    for stamp in changes.created.iter().rev() {
        if !wanted(&planner, &stamp.path) {
            continue;
        }
        let Some(now) = planner.stat(&stamp.path)? else {
            continue;
        };
        if planner.is_left(stamp, &now) {
            planner.step(&stamp.path, UndoAction::Remove, now.kind, now.size);
            planner.job(&stamp.path, Act::Remove, None, Some(now));
        } else {
            planner.step(&stamp.path, UndoAction::Keep, now.kind, now.size);
        }
    }
    for stamp in &changes.modified {
        if wanted(&planner, &stamp.path) {
            plan_modified(&mut planner, stamp)?;
        }
    }
    for top in &changes.removed {
        let below: Vec<Entry> = planner
            .listing
            .range((Bound::Included(top.clone()), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(top))
            .map(|(_, entry)| entry.clone())
            .collect();
        for entry in below {
            if wanted(&planner, &entry.path) {
                plan_removed(&mut planner, &entry)?;
            }
        }
    }
    anchors(&mut planner)
}

fn plan_modified(planner: &mut Planner<'_>, stamp: &Stamp) -> Result<()> {
    let Some(entry) = planner.listing.get(&stamp.path).cloned() else {
        return Ok(());
    };
    let Some(now) = planner.stat(&stamp.path)? else {
        // Gone since: nothing that could be lost stands there.
        planner.restore(&entry, None);
        return Ok(());
    };
    let place = planner.place(&stamp.path);
    if entry.kind == Kind::Dir && now.kind == Kind::Dir {
        if planner.is_left(stamp, &now) && (now.mode != entry.mode || now.mtime != entry.mtime) {
            if now.mode != entry.mode {
                planner.step(&stamp.path, UndoAction::Metadata, Kind::Dir, 0);
            }
            planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
        }
        return Ok(());
    }
    let same = now.kind == entry.kind && same_bytes(&mut planner.target, &place, &entry, &now);
    if planner.is_left(stamp, &now) {
        if same {
            if now.mode != entry.mode || now.mtime != entry.mtime {
                planner.step(&stamp.path, UndoAction::Metadata, entry.kind, 0);
            }
            // Attributes do not show in a stat: they are set in any case.
            planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
        } else if now.kind == Kind::Dir || entry.kind == Kind::Dir {
            // It became something else: that goes first.
            planner.cleared.insert(stamp.path.clone());
            if now.kind == Kind::Dir {
                clear_created_below(planner, &stamp.path);
            }
            planner.job(&stamp.path, Act::Clear, None, Some(now));
            planner.restore(&entry, None);
        } else {
            planner.restore(&entry, Some(now));
        }
        return Ok(());
    }
    if same {
        // An undo that was interrupted leaves each of mode and time either as before or as after.
        let between = (now.mode == entry.mode || now.mode == stamp.mode)
            && (now.mtime == entry.mtime || now.mtime == stamp.mtime);
        if between && (now.mode, now.mtime) != (entry.mode, entry.mtime) {
            planner.step(&stamp.path, UndoAction::Metadata, entry.kind, 0);
            planner.job(&stamp.path, Act::Metadata, Some(entry), Some(now));
        }
        return Ok(());
    }
    planner.conflict(&entry, false)
}

/// What the operation made below a path that is to become a file again goes before, not after.
fn clear_created_below(planner: &mut Planner<'_>, path: &RepoPath) {
    let place = planner.place(path);
    let site = planner.site;
    for job in &mut planner.plan.work.jobs {
        if job.site == site && job.act == Act::Remove && job.path.starts_with(&place) {
            job.act = Act::Clear;
        }
    }
}

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
    let place = planner.place(&entry.path);
    if now.kind == entry.kind && same_bytes(&mut planner.target, &place, entry, &now) {
        return Ok(());
    }
    planner.conflict(entry, true)
}

/// Finds names that still stand of files whose other names come back.
fn anchors(planner: &mut Planner<'_>) -> Result<()> {
    let restored: HashMap<String, ()> = planner
        .plan
        .work
        .jobs
        .iter()
        .filter(|j| j.site == planner.site && j.act == Act::Write)
        .filter_map(|j| Some((j.entry.as_ref()?.body.link.clone(), ())))
        .filter(|(link, ())| !link.is_empty())
        .collect();
    if restored.is_empty() {
        return Ok(());
    }
    let written: HashSet<RepoPath> = planner
        .plan
        .work
        .jobs
        .iter()
        .filter(|j| j.site == planner.site && j.act != Act::Metadata)
        .map(|j| j.path.clone())
        .collect();
    let candidates: Vec<Entry> = planner
        .listing
        .values()
        .filter(|e| restored.contains_key(&e.body.link))
        .cloned()
        .collect();
    for entry in candidates {
        let place = planner.place(&entry.path);
        if written.contains(&place) {
            continue;
        }
        if let Some(now) = planner.stat(&entry.path)?
            && now.kind == Kind::File
            && same_bytes(&mut planner.target, &place, &entry, &now)
        {
            planner
                .plan
                .work
                .anchors
                .insert((planner.site, entry.body.link.clone()), place);
        }
    }
    Ok(())
}

/// Saves the present, then applies the plan.
///
/// # Errors
/// The present cannot be saved (nothing is written then). Files that cannot be restored are problems, not errors.
pub fn apply(
    repo: &Repository,
    operation: &Operation,
    plan: UndoPlan,
    options: &UndoOptions,
    monitor: &dyn Monitor,
) -> Result<UndoReport> {
    let started = Instant::now();
    let redo = operation.begin.kind == OperationKind::Undo;
    let (trigger, kind) = if redo {
        (Trigger::Redo, OperationKind::Redo)
    } else {
        (Trigger::Undo, OperationKind::Undo)
    };
    let mut backup = BackupOptions::new(trigger, options.now);
    backup.never.clone_from(&options.never);
    backup.host.clone_from(&options.host);
    let intent = Intent {
        kind,
        argv: options.argv.clone(),
        cwd: options.cwd.clone(),
        label: None,
        remote: Vec::new(),
        undoes: Some(operation.begin.id),
        restore: None,
        in_place: true,
    };
    let mut roots = plan.roots.clone();
    for root in &mut roots {
        root.origin = Origin::Source;
    }
    let protected = guard::open(repo, &roots, &backup, intent, monitor)?;
    let id = protected.operation();
    let applied = apply::apply(repo, &plan.work, &Licence::Saved(&protected), monitor)?;
    protected.finish(None, None)?;
    let conflicts = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, UndoAction::Conflict | UndoAction::Keep))
        .count() as u64;
    Ok(UndoReport {
        operation: id,
        restored: applied.restored,
        removed: applied.removed,
        conflicts,
        problems: applied.problems,
        elapsed: started.elapsed(),
    })
}
