//! The operation log: a begin record before anything destructive, an end record after it.
//!
//! The members are those of `docs/format.md` §2.3. An operation without an end was interrupted, and
//! can be undone all the same.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Repository;
use super::record::{self, Record, check_counts, check_id, check_moment, check_sum};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id, OperationId, SnapshotId};
use crate::base::path::{RawName, RepoPath, RootName};
use crate::disk::storage;
use crate::disk::vault::{Bound, BoundKind};
use crate::model::agent::AgentCall;
use crate::model::manifest::{Kind, Time};
use crate::repo::layout;
use crate::repo::origin::Origin;
use crate::repo::snapshot::PathNote;

mod journal;
mod protection;

pub use journal::{RestoreJournal, RootPath, SyncJournal};
pub use protection::{Keeping, Protection};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    Guard,
    Undo,
    Redo,
    Restore,
    /// Brings in what another machine has.
    Sync,
    /// A request by another program that changes no protected file: a backup, a change of the
    /// schedule.
    Call,
}

impl OperationKind {
    /// Returns the word for records and for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Undo => "undo",
            Self::Redo => "redo",
            Self::Restore => "restore",
            Self::Sync => "sync",
            Self::Call => "call",
        }
    }
}

/// Written before an operation acts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Begin {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: OperationId,
    pub kind: OperationKind,
    pub time: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<RawName>,
    pub cwd: RawName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The snapshot of the state before; `None` if no protected file was to be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<SnapshotId>,
    /// The captured set, as names of roots of `before`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<RootName>,
    /// Roots that the command neither named nor ran in: an undo reverts changes there only on
    /// request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<RootName>,
    /// Directories that contain roots and are in no root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_captured: Vec<PathNote>,
    /// Parts of the command that act on something other than local files: they are not undone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<String>,
    /// The operation that this one reverses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<OperationId>,
    /// Older operations that it reverses together with that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<OperationId>,
    #[serde(default)]
    pub pid: u32,
    /// What is needed to resume a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreJournal>,
    /// What another machine had when it was brought in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncJournal>,
    /// The call of a coding agent to which it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentCall>,
    /// `None` in older records, and if there was nothing to protect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
    /// The session that it is a part of: a guard of a shell or an agent. A session itself has its own
    /// id here. Or the captured command whose processes did it after that had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<OperationId>,
    /// In a session: the programs from the session's to the one that made the first change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<RawName>,
    /// Who recorded it; the last member, written by the repository.
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
}

impl Begin {
    /// Returns the record of an operation of this process that has no snapshot and belongs to nobody
    /// else. What else there is to say, the caller adds: so a new member is added in one place.
    pub(crate) fn new(
        repository: Id,
        id: OperationId,
        kind: OperationKind,
        time: DateTime<Utc>,
        (argv, cwd): (Vec<RawName>, RawName),
    ) -> Self {
        Self {
            version: 1,
            repository,
            id,
            kind,
            time,
            argv,
            cwd,
            label: None,
            before: None,
            roots: Vec::new(),
            elsewhere: Vec::new(),
            parents: Vec::new(),
            not_captured: Vec::new(),
            remote: Vec::new(),
            undoes: None,
            also: Vec::new(),
            pid: std::process::id(),
            restore: None,
            sync: None,
            agent: None,
            protection: None,
            session: None,
            chain: Vec::new(),
            bound: None,
        }
    }
}

impl Begin {
    /// Returns all operations that it reverses.
    pub fn reverses(&self) -> impl Iterator<Item = OperationId> + '_ {
        self.undoes.into_iter().chain(self.also.iter().copied())
    }
}

impl Record for Begin {
    const KIND: Option<BoundKind> = Some(BoundKind::Begin);

    fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        if let Some(sync) = &self.sync {
            check_id(sync.machine)?;
            check_id(sync.snapshot)?;
        }
        check_moment(self.time)
    }
}

/// A directory that contains a root. Making or removing the root changes its time, and only that is
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its absolute path.
    #[serde(rename = "p")]
    pub path: RawName,
    /// Last change of its names.
    #[serde(rename = "t")]
    pub mtime: Time,
}

/// An object as it was when the operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    #[serde(rename = "p")]
    pub path: RepoPath,
    #[serde(rename = "k", default)]
    pub kind: Kind,
    #[serde(rename = "m")]
    pub mode: u32,
    #[serde(rename = "t")]
    pub mtime: Time,
    #[serde(rename = "s", default)]
    pub size: u64,
    #[serde(rename = "c")]
    pub ctime: Time,
    #[serde(rename = "n")]
    pub inode: u64,
    /// User and group; `None` in older records, which do not have them.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

/// Written when an operation ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct End {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: OperationId,
    pub time: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub elapsed_ms: u64,
    /// The changes per root; roots without changes are omitted.
    #[serde(default)]
    pub roots: Vec<RootChanges>,
    /// Roots that could not be read afterwards: an undo finds their changes by comparing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<RootName>,
    /// When it ended by the clock of the file system, if there are roots whose later changes have
    /// to be told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_time: Option<Time>,
    /// Those of [`Begin::parents`] whose time has changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// For an undo: part of it failed, so the operation that it reverses does not count as undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// For an undo of only some paths: how much of the operation it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Portion>,
    /// Nobody saw how it ended: bdr was gone before. What it changed was recorded later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Who recorded it; the last member, written by the repository.
    #[serde(default, skip_serializing)]
    pub bound: Option<Bound>,
}

/// A part of a whole, counted in paths that are not directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    pub done: u64,
    pub of: u64,
}

impl Portion {
    pub fn left(self) -> u64 {
        self.of.saturating_sub(self.done)
    }
}

impl End {
    /// Returns the record of an operation that changed nothing and ended at `time`, after `elapsed`.
    pub(crate) fn new(
        repository: Id,
        id: OperationId,
        time: DateTime<Utc>,
        elapsed: TimeDelta,
    ) -> Self {
        Self {
            version: 1,
            repository,
            id,
            time,
            exit: None,
            signal: None,
            elapsed_ms: u64::try_from(elapsed.num_milliseconds()).unwrap_or(0),
            roots: Vec::new(),
            unseen: Vec::new(),
            file_time: None,
            parents: Vec::new(),
            partial: false,
            part: None,
            interrupted: false,
            bound: None,
        }
    }

    /// Returns the record without the changes, as if nobody had been able to look.
    pub(super) fn in_short(&self) -> Self {
        let changed = self.roots.iter().map(|root| root.name.clone());
        Self {
            roots: Vec::new(),
            unseen: changed.chain(self.unseen.iter().cloned()).collect(),
            ..self.clone()
        }
    }
}

impl Record for End {
    const KIND: Option<BoundKind> = Some(BoundKind::End);

    fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        check_moment(self.time)?;
        check_counts(&[("elapsed_ms", self.elapsed_ms)])?;
        if let Some(part) = self.part {
            check_counts(&[("done", part.done), ("of", part.of)])?;
        }
        for root in &self.roots {
            check_counts(&[
                ("deleted_files", root.deleted_files),
                ("deleted_bytes", root.deleted_bytes),
            ])?;
            let stamps = || root.created.iter().chain(&root.modified);
            check_sum("stamps", stamps().map(|stamp| stamp.size))?;
            if stamps().any(|stamp| stamp.mtime.1 >= 1_000_000_000 || stamp.mode > 0o7777) {
                return Err("a time or mode is out of range".to_owned());
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RootChanges {
    /// Name of the root in the snapshot before.
    pub name: RootName,
    /// Paths that are gone; only the topmost of each tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RepoPath>,
    /// Objects that did not exist before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<Stamp>,
    /// Objects that have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modified: Vec<Stamp>,
    /// Regular files among and below the removed paths.
    #[serde(default)]
    pub deleted_files: u64,
    #[serde(default)]
    pub deleted_bytes: u64,
    /// Changes inside modified JSON objects and JSONL logs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merges: Vec<Inside>,
    /// The meaning of changed git indexes: git rewrites them without changing their meaning
    /// whenever somebody runs `git status`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Meaning>,
    /// Topmost objects under new names that the operation did not make and the snapshot does not
    /// have: they stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<RepoPath>,
    /// Objects that were not captured and are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<RepoPath>,
    /// Objects that were not captured and have changed: a file, or a directory that could not be
    /// read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<RepoPath>,
}

/// The meaning of a file as a keyed digest: the file may be rewritten and mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    #[serde(rename = "p")]
    pub path: RepoPath,
    /// HMAC-SHA-256 with a key that is not in the repository.
    #[serde(rename = "m")]
    pub digest: Digest,
}

/// What an operation changed inside a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    #[serde(rename = "p")]
    pub path: RepoPath,
    #[serde(flatten)]
    pub changes: crate::model::merge::Changes,
}

impl RootChanges {
    /// Drops everything except the paths for which `own` returns true.
    pub(crate) fn keep(&mut self, own: &dyn Fn(&RepoPath) -> bool) {
        self.removed.retain(own);
        self.created.retain(|stamp| own(&stamp.path));
        self.modified.retain(|stamp| own(&stamp.path));
        self.merges.retain(|inside| own(&inside.path));
        self.indexes.retain(|index| own(&index.path));
        self.unknown.retain(own);
        self.lost.retain(own);
        self.altered.retain(own);
    }

    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.created.is_empty()
            && self.modified.is_empty()
            && self.unknown.is_empty()
            && self.lost.is_empty()
            && self.altered.is_empty()
    }
}

/// A record that an operation is pinned, with what its undo needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pin {
    /// Always 1.
    pub version: u32,
    pub repository: Id,
    pub id: OperationId,
    pub time: DateTime<Utc>,
}

impl Record for Pin {
    fn check(&self) -> std::result::Result<(), String> {
        check_id(self.id)?;
        check_moment(self.time)
    }
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub begin: Begin,
    /// How it ended; `None` if it was interrupted or still runs.
    pub end: Option<End>,
    /// The undo that reversed it and was not undone itself.
    pub undone_by: Option<OperationId>,
    /// How much of it was reversed by undos of single paths, if it is not undone as a whole.
    pub partly: Option<Portion>,
    /// It never expires and cannot be forgotten.
    pub pinned: bool,
    pub origin: Origin,
    /// This machine recorded it, or no clue says otherwise. Any other operation is undone only if
    /// the user names it, and proves nothing about others.
    pub is_ours: bool,
}

impl Operation {
    /// Returns an operation that was recorded just now.
    pub(crate) fn recorded(begin: Begin, end: Option<End>) -> Self {
        Self {
            begin,
            end,
            undone_by: None,
            partly: None,
            pinned: false,
            origin: Origin::Here,
            is_ours: true,
        }
    }

    /// Returns counts of regular files: deleted, created, modified.
    pub fn counts(&self) -> (u64, u64, u64) {
        let Some(end) = &self.end else {
            return (0, 0, 0);
        };
        let files = |stamps: &[Stamp]| stamps.iter().filter(|s| s.kind != Kind::Dir).count() as u64;
        let own = |root: &&RootChanges| !self.begin.elsewhere.contains(&root.name);
        end.roots
            .iter()
            .filter(own)
            .fold((0, 0, 0), |(d, c, m), root| {
                (
                    d + root.deleted_files,
                    c + files(&root.created),
                    m + files(&root.modified),
                )
            })
    }

    /// Returns true for a session, whose commands are operations of their own.
    pub fn is_session(&self) -> bool {
        self.begin.session == Some(self.begin.id)
    }

    /// Returns true if it changed, or may have changed, something that an undo would reverse.
    pub fn is_undoable(&self) -> bool {
        let own = |name: &RootName| !self.begin.elsewhere.contains(name);
        let changed =
            |end: &End| end.roots.iter().any(|root| own(&root.name)) || end.unseen.iter().any(own);
        self.begin.before.is_some()
            && self.undone_by.is_none()
            && self.end.as_ref().is_none_or(changed)
    }

    /// Returns true if something changed during it in roots that it neither named nor ran in, and
    /// nothing is undone yet.
    pub fn saw_changes_elsewhere(&self) -> bool {
        let roots = self.end.iter().flat_map(|end| &end.roots);
        self.begin.before.is_some()
            && self.undone_by.is_none()
            && roots
                .map(|root| &root.name)
                .any(|name| self.begin.elsewhere.contains(name))
    }
}

/// Sets which operations, sorted by id, are undone, completely or in part: the newest undo decides.
pub fn mark_undone(operations: &mut [Operation]) {
    for i in (0..operations.len()).rev() {
        mark_partly(operations, i);
        let (reversed, ours) = (operations[i].undone_by.is_some(), operations[i].is_ours);
        let finished = operations[i].end.as_ref().is_some_and(|end| !end.partial);
        if !finished || reversed {
            continue;
        }
        let by = operations[i].begin.id;
        let targets: Vec<OperationId> = operations[i].begin.reverses().collect();
        let earlier = &mut operations[..i];
        for target in targets {
            let found = earlier.binary_search_by_key(&target, |o| o.begin.id);
            let target = found.ok().map(|at| &mut earlier[at]);
            if let Some(target) = target.filter(|target| ours || !target.is_ours) {
                target.undone_by = Some(by);
            }
        }
    }
}

/// Adds what an undo of single paths reversed. Each leaves less than the one before had.
fn mark_partly(operations: &mut [Operation], number: usize) {
    let (earlier, later) = operations.split_at_mut(number);
    let Some(undo) = later.first().filter(|undo| undo.undone_by.is_none()) else {
        return;
    };
    let part = undo.end.as_ref().and_then(|end| end.part);
    let (Some(part), Some(target)) = (part, undo.begin.undoes) else {
        return;
    };
    let target = earlier.iter_mut().find(|o| o.begin.id == target);
    if let Some(target) = target.filter(|target| undo.is_ours || !target.is_ours) {
        let left = target.partly.map_or(part.left(), Portion::left);
        let of = target.partly.map_or(part.of, |known| known.of.max(part.of));
        let done = of.saturating_sub(left);
        target.partly = Some(Portion { done, of });
    }
}

impl Repository {
    /// Returns an operation, without determining whether it is undone; `None` if it does not exist
    /// or cannot be read.
    pub(crate) fn operation(&self, id: OperationId) -> Option<Operation> {
        self.read_operations(vec![id]).pop()
    }

    /// Returns the ids of pinned operations. A pin counts even if its record is damaged.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn pinned(&self) -> Result<HashSet<OperationId>> {
        let names = self.names("operations")?;
        let pins = names
            .iter()
            .filter_map(|name| name.strip_suffix(".pin.json")?.parse().ok());
        Ok(pins.collect())
    }

    /// Exempts an operation from expiry.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn pin(&self, id: OperationId, now: DateTime<Utc>) -> Result<()> {
        self.check_writable()?;
        let pin = Pin {
            version: 1,
            repository: self.id,
            id,
            time: now,
        };
        let name = layout::operation(id, "pin");
        storage::put(self.storage(), &name, &record::encode(&pin)?)
            .map_err(|e| Error::storage("write", name, e))
    }

    /// Lets an operation expire like any other.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn unpin(&self, id: OperationId) -> Result<()> {
        self.check_writable()?;
        self.remove_if_there(&layout::operation(id, "pin"))
    }

    /// Removes an operation from the log; its snapshot stays.
    ///
    /// The begin record goes first: without it there is no operation, whatever else is left. The
    /// other way round, the operation would look interrupted, and its undo would revert later
    /// changes of others.
    ///
    /// # Errors
    /// It is pinned, or it undoes another one that is still in the log; or the storage cannot be
    /// written.
    pub fn forget(&self, operations: &[Operation], operation: &Operation) -> Result<()> {
        self.check_writable()?;
        let id = operation.begin.id;
        check_forgettable(operations, operation)?;
        self.remove_if_there(&layout::operation(id, "begin"))?;
        self.remove_if_there(&layout::operation(id, "end"))?;
        // Leftovers of other removals that a crash interrupted.
        for name in self.names("operations")? {
            let id = name
                .strip_suffix(".end.json")
                .or_else(|| name.strip_suffix(".pin.json"));
            let orphan: Option<OperationId> = id.and_then(|id| id.parse().ok());
            if let Some(id) = orphan
                && self.is_gone(&layout::operation(id, "begin"))?
            {
                self.remove_if_there(&format!("operations/{name}"))?;
            }
        }
        Ok(())
    }

    fn is_gone(&self, name: &str) -> Result<bool> {
        let size = self.storage().size(name);
        Ok(size.map_err(|e| Error::storage("read", name, e))?.is_none())
    }
}

/// Makes sure that an operation may be forgotten.
///
/// # Errors
/// It is pinned, or it undoes an operation in the log, which would no longer look undone.
pub fn check_forgettable(operations: &[Operation], operation: &Operation) -> Result<()> {
    let ids: Vec<Id> = operations.iter().map(|o| o.begin.id).collect();
    let own = operation.begin.id.prefix(&ids);
    if operation.pinned {
        let hint = format!("bdr op unpin {own}");
        return Err(Error::invalid(format!("`{own}` is pinned"), Some(&hint)));
    }
    if let Some(target) = operation.begin.reverses().find(|id| ids.contains(id)) {
        let target = target.prefix(&ids);
        let message =
            format!("`{own}` reverses `{target}`, which would then look as if it were not undone");
        let hint = format!("bdr op forget {target} {own}");
        return Err(Error::invalid(message, Some(&hint)));
    }
    Ok(())
}

/// Finds an operation by `spec`: an id, or the beginning of its random part.
///
/// # Errors
/// None matches, or more than one.
pub fn resolve<'a>(operations: &'a [Operation], spec: &str) -> Result<&'a Operation> {
    let found: Vec<&Operation> = operations
        .iter()
        .filter(|operation| operation.begin.id.matches(spec))
        .collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(Error::NoSuchOperation {
            spec: spec.to_owned(),
        }),
        _ => Err(Error::Ambiguous {
            spec: spec.to_owned(),
            candidates: found
                .iter()
                .map(|o| o.begin.id.to_string().to_lowercase())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}
