//! Snapshot before, run, record after: the one way to do something destructive.
//!
//! A [`Protected`] can only be made by taking a durable snapshot and writing a durable begin
//! record; everything that destroys requires one. No lock is held while a command runs.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use changes::{Look, Origins};
use chrono::TimeDelta;

use crate::base::error::{Error, Result};
use crate::base::id::OperationId;
use crate::base::monitor::Monitor;
use crate::base::path::{RawName, RepoPath, RootName};
use crate::disk::fsutil;
use crate::disk::storage::LocalStorage;
use crate::model::agent::AgentCall;
use crate::model::reason::Reason;
use crate::model::rules::{Matcher, Origin, Root, Verdict};
use crate::protect::backup::{BackupOptions, BackupReport, RootRun, capture, survey};
use crate::protect::work::Work;
use crate::repo::Repository;
use crate::repo::oplog::{
    Begin, End, Keeping, Operation, OperationKind, Parent, Protection, RestoreJournal, RootChanges,
    SyncJournal,
};
use crate::repo::snapshot::PathNote;

mod call;
pub(crate) mod changes;
mod child;
#[cfg(target_os = "linux")]
pub(crate) use child::{run as run_child, signal_of};
mod close;
mod left;
pub(crate) mod others;
mod remote;
mod set;

pub use call::{checkpoint, note_call};
pub use close::{CloseOptions, begin_call, close, left_by_call};
#[cfg(target_os = "linux")]
pub(crate) use left::by_filter;
pub use remote::{lost_by_push, with_what_was};
pub use set::{CaptureSet, canonical_parent, capture_roots, named_above};

#[derive(Debug, Clone)]
pub struct GuardOptions {
    /// How to take the snapshot.
    pub backup: BackupOptions,
    pub argv: Vec<OsString>,
    pub cwd: PathBuf,
    pub label: Option<String>,
    /// Refuse to run the command unless everything that it names was captured.
    pub all_named: bool,
    /// Parts of the command that cannot be undone.
    pub remote: Vec<String>,
    /// Why its calls are not captured, if that was wanted.
    pub uncaptured: Option<String>,
}

impl GuardOptions {
    /// Returns the options for a command that must not run unless everything that it names was
    /// captured.
    pub fn new(backup: BackupOptions, argv: Vec<OsString>, cwd: &Path) -> Self {
        Self {
            backup,
            argv,
            cwd: cwd.to_path_buf(),
            label: None,
            all_named: true,
            remote: Vec::new(),
            uncaptured: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct GuardPlan {
    pub roots: Vec<PlannedRoot>,
    pub left_out: Vec<PathNote>,
}

#[derive(Debug, Clone)]
pub struct PlannedRoot {
    /// Name in the snapshot.
    pub name: String,
    pub path: PathBuf,
    /// Why it is captured.
    pub origin: Origin,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that would have to be read.
    pub new_bytes: u64,
}

/// Returns what [`protect`] would capture.
///
/// # Errors
/// Those of [`protect`], as far as they show without reading files.
pub fn plan(repo: &Repository, roots: &[Root], options: &BackupOptions) -> Result<GuardPlan> {
    let runs = survey(repo, roots, options)?;
    let left_out = runs
        .iter()
        .flat_map(|run| {
            run.left_out.iter().map(|l| PathNote {
                path: RawName(l.path.to_path(&run.root.path).into_os_string()),
                reason: l.reason.clone(),
            })
        })
        .collect();
    let roots = runs
        .iter()
        .map(|run| {
            let (files, bytes, new_bytes) = run.totals();
            PlannedRoot {
                name: run.root.name.to_string(),
                path: run.root.path.clone(),
                origin: run.root.origin,
                files,
                bytes,
                new_bytes,
            }
        })
        .collect();
    Ok(GuardPlan { roots, left_out })
}

/// The fields of an operation's begin record.
pub(crate) struct Intent {
    pub(crate) kind: OperationKind,
    pub(crate) argv: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) label: Option<String>,
    pub(crate) remote: Vec<String>,
    pub(crate) undoes: Option<OperationId>,
    pub(crate) also: Vec<OperationId>,
    pub(crate) restore: Option<RestoreJournal>,
    pub(crate) sync: Option<SyncJournal>,
    pub(crate) agent: Option<AgentCall>,
    /// It writes to the original places.
    pub(crate) in_place: bool,
    /// It must not run unless everything that it names was captured.
    pub(crate) all_named: bool,
    /// Why its calls are not captured, if that was wanted.
    pub(crate) uncaptured: Option<String>,
}

impl Intent {
    /// Returns the intent of bdr's own operation, or of one that another program asks bdr for.
    pub(crate) fn new(kind: OperationKind, argv: &[OsString], cwd: &Path) -> Self {
        Self {
            kind,
            argv: argv.to_vec(),
            cwd: cwd.to_path_buf(),
            label: None,
            remote: Vec::new(),
            undoes: None,
            also: Vec::new(),
            restore: None,
            sync: None,
            agent: None,
            in_place: true,
            all_named: false,
            uncaptured: None,
        }
    }

    fn of(options: &GuardOptions) -> Self {
        Self {
            label: options.label.clone(),
            remote: options.remote.clone(),
            all_named: options.all_named,
            uncaptured: options.uncaptured.clone(),
            ..Self::new(OperationKind::Guard, &options.argv, &options.cwd)
        }
    }
}

/// Proof that the state before is saved durably and an operation is open.
#[must_use = "an operation that is not finished stays in the log as interrupted"]
pub struct Protected {
    repo: Repository,
    begin: Begin,
    report: BackupReport,
    runs: Vec<RootRun>,
    never: Vec<PathBuf>,
    /// Operations that had ended before the capture, sorted.
    ended: Vec<OperationId>,
    started: Instant,
    in_place: bool,
}

/// The outcome of a guarded command.
pub struct GuardOutcome {
    pub status: ExitStatus,
    /// The operation, with its changes.
    pub operation: Operation,
    /// Why its changes could not be recorded; it can be undone all the same.
    pub after_error: Option<Error>,
    /// Processes that it left running, by number and name. If there are any, the operation stays
    /// open until [`close`] ends it.
    pub running: Vec<(u32, String)>,
}

/// Saves the state of `roots` and opens an operation for the command of `options`.
///
/// # Errors
/// No snapshot could be taken: the command must not run.
pub fn protect(
    repo: &Repository,
    roots: &[Root],
    options: &GuardOptions,
    monitor: &dyn Monitor,
) -> Result<Protected> {
    open(repo, roots, &options.backup, Intent::of(options), monitor)
}

/// How long a guard waits for prune before it takes a snapshot that needs nothing older.
const LONGEST_SWEEP: Duration = Duration::from_secs(2);

/// Returns a command without its secrets, fit for the log.
pub fn redacted(repo: &Repository, argv: Vec<OsString>) -> Vec<RawName> {
    repo.redacted(argv)
}

fn redacted_texts(repo: &Repository, texts: Vec<String>) -> Vec<String> {
    texts
        .into_iter()
        .map(|text| repo.redacted_text(text))
        .collect()
}

/// Returns sealed files whose values cannot be kept: an undo has to use the values that the files
/// have then.
fn not_kept(repo: &Repository, runs: &[RootRun]) -> Vec<PathNote> {
    // The last check, because fetching the key may be slow; without sealed files there is no key to
    // fetch.
    if !runs.iter().any(RootRun::has_sealed) {
        return Vec::new();
    }
    let Some(why) = repo.vault().trouble() else {
        return Vec::new();
    };
    let reason = Reason::ValuesAway.because(&why);
    let paths = runs.iter().flat_map(RootRun::sealed_paths);
    paths
        .map(|path| PathNote {
            path: RawName(path.into_os_string()),
            reason: reason.clone(),
        })
        .collect()
}

/// Makes sure that the snapshot has everything the command removes or changes.
fn check_named(runs: &[RootRun]) -> Result<()> {
    let must: Vec<&PathBuf> = runs.iter().flat_map(|run| &run.root.must).collect();
    if must.is_empty() {
        return Ok(());
    }
    for run in runs {
        for unread in &run.unread {
            let path = unread.path.to_path(&run.root.path);
            // Operands below a directory that cannot be listed have a root of their own.
            if must.iter().any(|named| path.starts_with(named)) {
                let reason = Reason::Unreadable.said(&unread.reason).to_owned();
                return Err(Error::NotCaptured { path, reason });
            }
        }
    }
    Ok(())
}

/// Returns the sources that a command has nothing to do with, as far as we can tell: it neither
/// names them nor runs in them.
fn elsewhere(roots: &[Root], intent: &Intent) -> Vec<RootName> {
    if intent.kind != OperationKind::Guard {
        return Vec::new();
    }
    let cwd = fsutil::canonicalize(&intent.cwd).unwrap_or_else(|_| intent.cwd.clone());
    let is_elsewhere = |root: &&Root| {
        if root.origin != Origin::Source || !root.named.is_empty() {
            return false;
        }
        let path = fsutil::canonicalize(&root.path).unwrap_or_else(|_| root.path.clone());
        if path.starts_with(&cwd) {
            return false;
        }
        RepoPath::below(&path, &cwd).is_none_or(|below| {
            let matcher = Matcher::new(&root.rules);
            matcher.is_ok_and(|m| m.include(below.as_bytes()) == Verdict::Outside)
        })
    };
    let names = roots
        .iter()
        .filter(is_elsewhere)
        .map(|root| root.name.clone());
    names.collect()
}

/// Returns the stats of the directories that contain the roots.
fn parents_of(runs: &[RootRun]) -> Vec<Parent> {
    let holds = |path: &Path| {
        let is_unread = |run: &RootRun| {
            let mut unread = run.unread.iter();
            unread.any(|left| path.starts_with(left.path.to_path(&run.root.path)))
        };
        let mut runs = runs.iter();
        runs.any(|run| path.starts_with(&run.root.path) && !is_unread(run))
    };
    let dirs: BTreeSet<&Path> = runs
        .iter()
        .filter_map(|run| run.root.path.parent())
        .filter(|dir| !holds(dir))
        .collect();
    dirs.into_iter()
        .filter_map(|dir| {
            Some(Parent {
                path: RawName::from(dir),
                mtime: fsutil::changed_at(dir)?,
            })
        })
        .collect()
}

/// [`protect`] for any kind of operation.
pub(crate) fn open(
    repo: &Repository,
    roots: &[Root],
    options: &BackupOptions,
    intent: Intent,
    monitor: &dyn Monitor,
) -> Result<Protected> {
    let started = Instant::now();
    // Before the capture: what ends while it reads may be in the snapshot or not.
    let ended = repo.names_of_operations()?.ended;
    let (mut report, mut runs) = capture(repo, roots, options, monitor)?;
    // Prune looks for begin records while nobody else holds the repository, so one that names an
    // older snapshot is written under the lock.
    let hold = match report.reused {
        true => repo.hold(LONGEST_SWEEP),
        false => Ok(None),
    };
    if report.reused
        && (hold.is_err() || !repo.has_snapshot(report.snapshot.seq, report.snapshot.id)?)
    {
        // Prune removed the reused snapshot, or may be about to: take one that needs nothing older.
        let full = BackupOptions {
            full: true,
            ..options.clone()
        };
        (report, runs) = capture(repo, roots, &full, monitor)?;
    }
    if intent.all_named {
        check_named(&runs)?;
    }
    let mut not_captured = report.problems.clone();
    not_captured.extend(
        report
            .left_out
            .iter()
            .filter(|left| {
                let why = left.why();
                !matches!(why, Reason::Own | Reason::Elsewhere | Reason::Untouched)
            })
            .cloned(),
    );
    not_captured.extend(not_kept(repo, &runs));
    let elsewhere = elsewhere(roots, &intent);
    let words = redacted(repo, intent.argv);
    let cwd = RawName(intent.cwd.into_os_string());
    let id = repo.next_operation(options.now)?;
    let begin = Begin {
        label: redacted_texts(repo, intent.label.into_iter().collect()).pop(),
        before: Some(report.snapshot.id),
        elsewhere,
        parents: parents_of(&runs),
        not_captured,
        remote: redacted_texts(repo, intent.remote),
        undoes: intent.undoes,
        also: intent.also,
        restore: intent.restore,
        sync: intent.sync,
        agent: intent.agent,
        protection: Some(Protection {
            by: Keeping::Watched,
            because: redacted_texts(repo, intent.uncaptured.into_iter().collect()).pop(),
        }),
        ..Begin::new(repo.id(), id, intent.kind, options.now, (words, cwd))
    };
    repo.begin(&begin)?;
    drop(hold);
    let never = repo.untouchable(&options.never);
    Ok(Protected {
        repo: repo.clone(),
        begin,
        report,
        runs,
        never,
        ended,
        started,
        in_place: intent.in_place,
    })
}

impl Protected {
    pub fn report(&self) -> &BackupReport {
        &self.report
    }

    pub fn operation(&self) -> OperationId {
        self.begin.id
    }

    /// Returns the repository in which it was saved.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repo
    }

    /// Returns what the command may change although it was not captured.
    pub fn not_captured(&self) -> &[PathNote] {
        &self.begin.not_captured
    }

    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Runs the command in the same process group, terminal and streams; passes on signals that
    /// reach only bdr.
    ///
    /// # Errors
    /// The command cannot be started. Everything later is in the outcome.
    pub fn run(self, mut command: Command) -> Result<GuardOutcome> {
        let program = PathBuf::from(command.get_program());
        let status = match child::run(&mut command) {
            Ok(status) => status,
            Err(error) => {
                // Nothing ran, and the log has to say so.
                let _ = self.finish(None, None, None);
                return Err(Error::io("run", program, error));
            }
        };
        let begin = self.begin.clone();
        let (exit, signal) = (status.code(), child::signal_of(&status));
        let places: Vec<&Path> = self.runs.iter().map(|run| &*run.root.path).collect();
        // A command that a signal ended did not leave anything running on purpose.
        let running = match signal {
            Some(_) => Vec::new(),
            None => left::by_child(&places),
        };
        if !running.is_empty() {
            // Their changes belong to the operation too: it stays open, and an undo reverts as much
            // as they have done.
            return Ok(GuardOutcome {
                status,
                operation: Operation::recorded(begin, None),
                after_error: None,
                running,
            });
        }
        let (operation, after_error) = match self.finish(exit, signal, None) {
            Ok(operation) => (operation, None),
            Err(error) => (Operation::recorded(begin, None), Some(error)),
        };
        Ok(GuardOutcome {
            status,
            operation,
            after_error,
            running: Vec::new(),
        })
    }

    /// Closes an operation in which bdr itself did `work`: changes that others made meanwhile do
    /// not belong to it. `linked` are the files, by device and inode, of which bdr keeps a second name.
    ///
    /// # Errors
    /// As for a command.
    pub(crate) fn finish_work(
        self,
        work: &Work,
        linked: &HashSet<(u64, u64)>,
    ) -> Result<Operation> {
        self.finish(None, None, Some((work, linked)))
    }

    /// Returns true if the snapshot lacks nothing that it should cover.
    pub(crate) fn holds_all(&self) -> bool {
        self.runs.iter().all(|run| run.unknown().next().is_none())
    }

    /// Returns why the object at a path is not in the snapshot, or `None` if it is.
    pub(crate) fn lacks(&self, path: &Path) -> Option<&str> {
        let mut why = None;
        for run in &self.runs {
            let Some(below) = RepoPath::below(&run.root.path, path) else {
                continue;
            };
            // Another root may have what this one leaves out.
            let unknown = run.unknown().find(|left| below.starts_with(&left.path))?;
            why = Some(unknown.reason.as_str());
        }
        why
    }

    /// Drops changes that an earlier root of the same directory already lists: operands in one
    /// directory share a root, and a link to that directory makes another one.
    fn count_once(&self, run: &RootRun, before: &[RootChanges], changes: &mut RootChanges) {
        let same = |other: &&RootChanges| {
            let mut runs = self.runs.iter();
            runs.any(|one| one.root.name == other.name && one.root.path == run.root.path)
        };
        let told: Vec<&RootChanges> = before.iter().filter(same).collect();
        if told.is_empty() {
            return;
        }
        let removed = told.iter().flat_map(|other| other.removed.iter().cloned());
        let stamps = told
            .iter()
            .flat_map(|other| other.created.iter().chain(&other.modified));
        let stamped = stamps.map(|stamp| stamp.path.clone());
        let told: HashSet<RepoPath> = removed.chain(stamped).collect();
        changes.keep(&|path| !told.contains(path));
        (changes.deleted_files, changes.deleted_bytes) = run.weigh(&changes.removed);
    }

    /// Finds the changes and closes the operation.
    ///
    /// # Errors
    /// The roots cannot be read, or the record cannot be written: the operation stays open.
    fn finish(
        self,
        exit: Option<i32>,
        signal: Option<i32>,
        own: Option<(&Work, &HashSet<(u64, u64)>)>,
    ) -> Result<Operation> {
        let elapsed = self.started.elapsed();
        let left_out = self.runs.iter().flat_map(RootRun::unknown);
        let mut origins = Origins::new(self.begin.time, left_out, &self.runs, &self.never);
        if let Some((_, linked)) = own {
            origins = origins.with_linked(linked);
        }
        let touched = own.map(|(work, _)| work.touched());
        let mut roots = Vec::new();
        let mut unseen = Vec::new();
        for run in &self.runs {
            match changes::of_run(&self.repo, run, &origins)? {
                Look::Whole(mut changes) => {
                    if let Some(own) = &touched {
                        changes.keep(&|path| own.contains(&path.to_path(&run.root.path)));
                    }
                    self.count_once(run, &roots, &mut changes);
                    if !changes.is_empty() {
                        roots.push(*changes);
                    }
                }
                Look::Partial(_) => unseen.push(run.root.name.clone()),
            }
        }
        if own.is_none() {
            others::leave_out(&self.repo, &self.begin, &self.ended, &mut roots)?;
        }
        let elapsed = TimeDelta::from_std(elapsed).unwrap_or_default();
        let time = self.begin.time + elapsed;
        let end = End {
            exit,
            signal,
            roots,
            file_time: close::file_time(&self.repo, &unseen),
            unseen,
            parents: close::parents_now(&self.begin.parents),
            partial: own.is_some_and(|(work, _)| work.partial),
            part: own.and_then(|(work, _)| work.part),
            ..End::new(self.repo.id(), self.begin.id, time, elapsed)
        };
        let storage = self.repo.storage();
        if matches!(storage.size("format.json"), Ok(None)) {
            // The command deleted the repository. Unless the lifeboat can restore it, the end
            // cannot be recorded.
            let _ = storage.local().map(LocalStorage::rescue);
        }
        self.repo.end(&end)?;
        Ok(Operation::recorded(self.begin, Some(end)))
    }
}
