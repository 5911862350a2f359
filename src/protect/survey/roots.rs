//! Walks roots: what is new, what is gone, what the budget allows.

use std::collections::HashSet;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::sealed::SealedSummary;
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::path::{RepoPath, RootName, os_to_bytes};
use crate::disk::sqlite;
use crate::model::manifest::{Content, Flag, Kept, Kind};
use crate::model::reason::Reason;
use crate::model::rules::{Origin, Root, Rules};
use crate::protect::options::BackupOptions;
use crate::protect::walk::{Dirty, RootHandle, Scan, WalkOptions, walk};
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::layout;
use crate::repo::snapshot::{LeftOut, RootRecord, Trigger};
use crate::repo::state::{KEPT, Known, SEALED, State, same_stat};

/// One root during and after its capture: what the snapshot knows about it.
pub(crate) struct RootRun {
    pub(crate) root: Root,
    pub(crate) state: Option<State>,
    pub(crate) left_out: Vec<LeftOut>,
    /// What could not be read: as unknown as what was left out.
    pub(crate) unread: Vec<LeftOut>,
    /// Paths with a secret in an extended attribute, which is not stored.
    pub(crate) withheld: Vec<RepoPath>,
    pub(crate) state_path: PathBuf,
    pub(crate) handle: Option<RootHandle>,
    pub(crate) scan: Scan,
}

/// Files that a mentioned path may add: the command may not mean it, and it must not slow down the
/// guard.
const MENTIONED_FILES: u64 = 10_000;
const MENTIONED_BYTES: u64 = 64 << 20;

/// Returns the path of a root's state file.
pub(crate) fn state_path(repo: &Repository, root: &Root) -> PathBuf {
    let mut hasher = Sha256::new();
    hasher.update(os_to_bytes(root.path.as_os_str()));
    hasher.update([0]);
    hasher.update(serde_json::to_vec(&root.rules).unwrap_or_default());
    for other in &root.without {
        hasher.update([0]);
        hasher.update(os_to_bytes(other.as_os_str()));
    }
    repo.cache()
        .join("state")
        .join(&Digest::finish(hasher).to_hex()[..24])
}

pub(crate) fn look_at(
    repo: &Repository,
    root: &Root,
    options: &BackupOptions,
    never: &[PathBuf],
) -> Result<RootRun> {
    let state_path = state_path(repo, root);
    let state = if options.full {
        None
    } else {
        State::load(&state_path, repo.id())
    };
    // A state mirrors a snapshot; without that snapshot nothing says that the contents still exist.
    let state = state.filter(|state| {
        let mirrors = state.mirrors();
        let name = layout::snapshot(mirrors.seq, mirrors.snapshot);
        matches!(repo.storage().size(&name), Ok(Some(_)))
            && mirrors
                .base
                .is_some_and(|base| repo.has_whole_keyframe(base))
    });
    let max_files = match root.origin {
        Origin::Source => None,
        Origin::Mentioned => Some(options.max_files.unwrap_or(u64::MAX).min(MENTIONED_FILES)),
        Origin::Operand | Origin::Workspace => options.max_files,
    };
    let mut scan = walk(
        root,
        state.as_ref(),
        &WalkOptions {
            never,
            max_files,
            // An operand is about to be replaced or removed, so it is saved however large it has
            // grown.
            keep_known: matches!(
                options.trigger,
                Trigger::Undo | Trigger::Redo | Trigger::Restore
            ),
        },
    )?;
    if scan.too_many && root.origin == Origin::Operand {
        return Err(Error::invalid(
            format!(
                "`{}` has more than {} files",
                root.path.display(),
                max_files.unwrap_or(0)
            ),
            Some("cover a smaller part with --path, or raise guard.max_files in the configuration"),
        ));
    }
    if scan.too_many {
        scan = Scan {
            exists: false,
            too_many: true,
            ..Scan::default()
        };
        scan.left_out.push(LeftOut {
            path: RepoPath::root(),
            reason: Reason::TooMany.words().to_owned(),
            inode: 0,
        });
    }
    let handle = if scan.exists {
        RootHandle::of(root)?
    } else {
        None
    };
    let left_out = std::mem::take(&mut scan.left_out);
    Ok(RootRun {
        root: root.clone(),
        state,
        left_out,
        unread: Vec::new(),
        withheld: Vec::new(),
        state_path,
        handle,
        scan,
    })
}

pub(crate) fn is_damaged(known: &Known<'_>, damaged: &DigestSet) -> bool {
    let lost = |content: &Content| content.blobs().iter().any(|b| damaged.contains(b));
    !damaged.is_empty()
        && known
            .body()
            .is_none_or(|body| body.content.as_ref().is_some_and(lost))
}

/// Walks a root. If it has too many files, or directories that cannot be listed, also walks what
/// the command names below it.
pub(crate) fn look_around(
    repo: &Repository,
    root: &Root,
    options: &BackupOptions,
    never: &[PathBuf],
    runs: &mut Vec<RootRun>,
) -> Result<()> {
    let run = match look_at(repo, root, options, never) {
        // A mention does not say that the command means it.
        Err(error) if root.origin == Origin::Mentioned => {
            let reason = crate::base::error::reason(&error);
            runs.push(RootRun {
                root: root.clone(),
                state: None,
                left_out: vec![LeftOut {
                    path: RepoPath::root(),
                    reason,
                    inode: 0,
                }],
                unread: Vec::new(),
                withheld: Vec::new(),
                state_path: state_path(repo, root),
                handle: None,
                scan: Scan::default(),
            });
            return Ok(());
        }
        other => other?,
    };
    let too_many = run.scan.too_many;
    // A directory that cannot be listed may still lead to an operand inside.
    let closed: Vec<PathBuf> = run
        .scan
        .problems
        .iter()
        .map(|(path, _)| path.to_path(&root.path))
        .collect();
    runs.push(run);
    let hidden = |path: &&PathBuf| {
        too_many
            || closed
                .iter()
                .any(|dir| path.starts_with(dir) && *path != dir)
    };
    for path in root.named.iter().filter(hidden) {
        let operand = Root::ad_hoc(path.clone(), Origin::Operand);
        runs.push(look_at(repo, &operand, options, never)?);
    }
    Ok(())
}

/// Returns the sets of kept content that a state names and that are neither in their area nor
/// packed.
pub(crate) fn lost_sets(repo: &Repository, run: &RootRun) -> HashSet<Id> {
    let Some(state) = run.state.as_ref().filter(|s| s.has_flag(KEPT)) else {
        return HashSet::new();
    };
    let kept = paths_of(state).filter(|(_, number)| state.flags(*number) & KEPT != 0);
    let mut sets: HashSet<Id> = kept
        .filter_map(|(_, number)| Some(kept_of(&state.entry(number))?.set))
        .collect();
    sets.retain(|set| !repo.has_kept_files(*set));
    sets
}

fn kept_of(known: &Known<'_>) -> Option<Kept> {
    known.body()?.content.as_ref().and_then(Content::as_kept)
}

/// Returns true if the content of a file was kept in one of `sets`.
pub(crate) fn is_kept_in(known: &Known<'_>, sets: &HashSet<Id>) -> bool {
    !sets.is_empty() && kept_of(known).is_some_and(|kept| sets.contains(&kept.set))
}

/// Marks files whose content is lost as dirty, so that they are stored again.
pub(crate) fn mark_lost(run: &mut RootRun, is_lost: &dyn Fn(&Known<'_>) -> bool) {
    // No prior: the old content must not serve as a base.
    mark(run, is_lost, &|_| None);
}

/// Marks all files as dirty, so that they are examined again.
pub(crate) fn mark_all(run: &mut RootRun) {
    mark(run, &|_| true, &|number| u32::try_from(number).ok());
}

fn mark(
    run: &mut RootRun,
    is_lost: &dyn Fn(&Known<'_>) -> bool,
    prior: &dyn Fn(usize) -> Option<u32>,
) {
    let (Some(state), Some(handle)) = (&run.state, &run.handle) else {
        return;
    };
    let known: HashSet<RepoPath> = run.scan.dirty.iter().map(|d| d.path.clone()).collect();
    for (path, number) in paths_of(state) {
        let entry = state.entry(number);
        let lost = entry.stat.kind == Kind::File && is_lost(&entry);
        if lost
            && !known.contains(&path)
            && !run.scan.removed.iter().any(|r| path.starts_with(r))
            && let Ok(stat) = handle.stat(&path)
        {
            run.scan.dirty.push(Dirty {
                path,
                stat,
                prior: prior(number),
            });
        }
    }
    run.scan.dirty.sort_by(|a, b| a.path.cmp(&b.path));
}

pub(crate) fn paths_of(state: &State) -> impl Iterator<Item = (RepoPath, usize)> + '_ {
    std::iter::once((RepoPath::root(), 0)).chain(state.directories().flat_map(
        move |(dir, children)| {
            let dir = RepoPath::new(dir).unwrap_or_default();
            children.map(move |number| (dir.join(state.name(number)), number))
        },
    ))
}

/// Fails if an operand is over the budget: it must not be left out, so the command must not run.
fn refuse_named(run: &RootRun, number: usize, budget: u64) -> Result<()> {
    let absolute = |dirty: &Dirty| dirty.path.to_path(&run.root.path);
    let over = absolute(&run.scan.dirty[number]);
    let named = run.root.named.iter().find(|named| over.starts_with(named));
    let Some(named) = named else { return Ok(()) };
    let below = |dirty: &&Dirty| absolute(dirty).starts_with(named);
    Err(Error::OverBudget {
        path: named.clone(),
        bytes: run
            .scan
            .dirty
            .iter()
            .filter(below)
            .map(|d| d.stat.size)
            .sum(),
        budget,
    })
}

/// Leaves out new content that is over the budget.
pub(crate) fn apply_budget(run: &mut RootRun, options: &BackupOptions) -> Result<()> {
    let Some(budget) = options.max_bytes else {
        return Ok(());
    };
    // The next backup takes what does not fit of a source, but operands are needed now.
    let is_source = run.root.origin == Origin::Source;
    let is_needed = |run: &RootRun, dirty: &Dirty| {
        let path = dirty.path.to_path(&run.root.path);
        is_source && run.root.named.iter().any(|named| path.starts_with(named))
    };
    let budget = match run.root.origin {
        Origin::Mentioned => budget.min(MENTIONED_BYTES),
        _ => budget,
    };
    // Usually everything fits, and the operands need not be determined.
    let mut total: u64 = run.scan.dirty.iter().map(|d| d.stat.size).sum();
    if total <= budget {
        return Ok(());
    }
    let needed = run.scan.dirty.iter().filter(|dirty| is_needed(run, dirty));
    total -= needed.map(|dirty| dirty.stat.size).sum::<u64>();
    if run.root.origin == Origin::Operand {
        return Err(Error::OverBudget {
            path: run.root.path.clone(),
            bytes: total,
            budget,
        });
    }
    let mut by_size: Vec<usize> = (0..run.scan.dirty.len())
        .filter(|number| !is_needed(run, &run.scan.dirty[*number]))
        .collect();
    by_size.sort_by_key(|i| std::cmp::Reverse(run.scan.dirty[*i].stat.size));
    let mut dropped = HashSet::new();
    for i in by_size {
        if total <= budget {
            break;
        }
        refuse_named(run, i, budget)?;
        total -= run.scan.dirty[i].stat.size;
        dropped.insert(i);
    }
    leave_out(run, &dropped, Reason::OverBudget);
    Ok(())
}

/// New content that an undo does not touch is captured up to this size, in bytes: reading it takes
/// a moment, and the snapshot is more complete.
const SPARE_BYTES: u64 = 32 << 20;

/// Leaves out large new files to which nothing is about to happen: otherwise undoing a few bytes
/// would first read and store everything that was too large to be captured so far. What a snapshot
/// had before is captured, because it only costs its changes.
pub(crate) fn spare_untouched(run: &mut RootRun, touched: &HashSet<PathBuf>) {
    let is_named = |path: &RepoPath| touched.contains(&path.to_path(&run.root.path));
    // A database and its log belong together.
    let is_touched = |path: &RepoPath| {
        let dir = path.parent().unwrap_or_default();
        let database = sqlite::database_of(path.name()).map(|name| dir.join(name));
        let mut companions = sqlite::COMPANIONS.iter();
        is_named(path)
            || database.is_some_and(|database| is_named(&database))
            || companions.any(|tail| is_named(&sqlite::companion(path, tail)))
    };
    let dirty = &run.scan.dirty;
    let mut spare: Vec<usize> = (0..dirty.len())
        .filter(|i| dirty[*i].prior.is_none() && dirty[*i].stat.kind == Kind::File)
        .filter(|i| !is_touched(&dirty[*i].path))
        .collect();
    let mut total: u64 = spare.iter().map(|i| dirty[*i].stat.size).sum();
    spare.sort_by_key(|i| std::cmp::Reverse(dirty[*i].stat.size));
    let mut dropped = HashSet::new();
    for i in spare {
        if total <= SPARE_BYTES {
            break;
        }
        total -= dirty[i].stat.size;
        dropped.insert(i);
    }
    if !dropped.is_empty() {
        leave_out(run, &dropped, Reason::Untouched);
    }
}

/// Leaves out dirty files, by number, and notes the reason.
fn leave_out(run: &mut RootRun, dropped: &HashSet<usize>, reason: Reason) {
    let mut i = 0;
    let (left_out, removed) = (&mut run.left_out, &mut run.scan.removed);
    run.scan.dirty.retain(|dirty| {
        let out = dropped.contains(&i);
        i += 1;
        if out {
            left_out.push(LeftOut {
                path: dirty.path.clone(),
                reason: format!(
                    "{} ({})",
                    reason.words(),
                    crate::base::units::size(dirty.stat.size)
                ),
                inode: dirty.stat.inode,
            });
            run.scan.files -= 1;
            run.scan.bytes -= dirty.stat.size;
            if dirty.prior.is_some() {
                removed.push(dirty.path.clone());
            }
        }
        !out
    });
    removed.sort();
    left_out.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Returns the roots of a snapshot as they were captured, to capture the same set again.
pub(crate) fn roots_of(records: &[RootRecord], names: &[RootName]) -> Vec<Root> {
    records
        .iter()
        .filter(|record| names.is_empty() || names.contains(&record.name))
        .map(|record| Root {
            name: record.name.clone(),
            path: record.path.as_path().to_path_buf(),
            rules: Rules::clone(&record.rules),
            origin: Origin::Source,
            named: Vec::new(),
            must: Vec::new(),
            without: record.apart(record.path.as_path()),
            resolved: false,
        })
        .collect()
}

/// Reads a file that looks unchanged and returns true if its content still equals the state.
pub(crate) fn is_same_content(
    repo: &Repository,
    handle: &RootHandle,
    path: &RepoPath,
    known: &Known<'_>,
) -> bool {
    let Some(body) = known.body() else {
        return false;
    };
    if body.flags.contains(&Flag::Online) {
        return true;
    }
    match known.stat.kind {
        Kind::Symlink => handle
            .read_link(path)
            .is_ok_and(|target| target == body.target),
        Kind::File => {
            let Ok(mut file) = handle.open_file(path) else {
                return false;
            };
            // A hard link cannot differ from the file.
            let kept = body.content.as_ref().is_some_and(|c| c.as_kept().is_some());
            kept || repo.has_content(&body, &mut file)
        }
        _ => true,
    }
}

impl RootRun {
    pub(crate) fn handle(&self) -> Option<&RootHandle> {
        self.handle.as_ref()
    }

    /// Returns true if anything in the root was sealed.
    pub(crate) fn has_sealed(&self) -> bool {
        self.state.as_ref().is_some_and(|s| s.has_flag(SEALED))
    }

    pub(crate) fn add_sealed(&self, summary: &mut SealedSummary) {
        let Some(state) = self.state.as_ref().filter(|s| s.has_flag(SEALED)) else {
            return;
        };
        for (path, number) in paths_of(state) {
            if state.flags(number) & SEALED == 0 {
                continue;
            }
            let body = state.entry(number).body();
            if let Some(sealed) = body.and_then(|body| body.sealed) {
                summary.add(&path.to_path(&self.root.path), &sealed);
            }
        }
    }

    /// Returns the files in which something was sealed.
    pub(crate) fn sealed_paths(&self) -> Vec<PathBuf> {
        let Some(state) = self.state.as_ref().filter(|s| s.has_flag(SEALED)) else {
            return Vec::new();
        };
        paths_of(state)
            .filter(|(_, number)| state.flags(*number) & SEALED != 0)
            .map(|(path, _)| path.to_path(&self.root.path))
            .collect()
    }

    /// Returns what is new or may have changed, sorted by path.
    pub(crate) fn dirty(&self) -> &[Dirty] {
        &self.scan.dirty
    }

    /// Removes captured paths from the dirty list.
    pub(crate) fn take_dirty(&mut self, paths: &HashSet<RepoPath>) {
        self.scan.dirty.retain(|dirty| !paths.contains(&dirty.path));
    }

    /// Walks again and returns the differences from the snapshot.
    pub(crate) fn look_again(
        &self,
        repo: &Repository,
        never: &[PathBuf],
    ) -> Result<(Scan, Option<RootHandle>)> {
        let options = WalkOptions {
            never,
            max_files: None,
            keep_known: true,
        };
        let mut scan = walk(&self.root, self.state.as_ref(), &options)?;
        let handle = if scan.exists {
            RootHandle::of(&self.root)?
        } else {
            None
        };
        // These were written just before the snapshot, so they only may have changed.
        if let (Some(state), Some(handle)) = (&self.state, &handle) {
            scan.dirty.retain(|dirty| {
                let Some(number) = dirty.prior else {
                    return true;
                };
                let known = state.entry(number as usize);
                !same_stat(&known.stat, &dirty.stat)
                    || !is_same_content(repo, handle, &dirty.path, &known)
            });
        }
        let unknown: Vec<&LeftOut> = self.unknown().collect();
        let is_out = |path: &RepoPath| unknown.iter().any(|l| path.starts_with(&l.path));
        scan.dirty.retain(|dirty| !is_out(&dirty.path));
        scan.removed.retain(|path| !is_out(path));
        scan.problems.retain(|(path, _)| !is_out(path));
        Ok((scan, handle))
    }

    /// Returns what the snapshot does not have, for whatever reason: nothing can be said about it
    /// afterwards.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.iter().chain(&self.unread)
    }

    /// Returns how many files and bytes of the snapshot are at or below some paths, of which none
    /// is below another.
    pub(crate) fn weigh(&self, paths: &[RepoPath]) -> (u64, u64) {
        let (Some(state), false) = (&self.state, paths.is_empty()) else {
            return (0, 0);
        };
        let (mut files, mut bytes) = (0, 0);
        let mut add = |stat: &crate::model::manifest::Stat| {
            if stat.kind == Kind::File {
                files += 1;
                bytes += stat.size;
            }
        };
        let whole = paths.iter().any(RepoPath::is_root);
        if whole {
            // A root that is a file has its entry in no directory.
            add(&state.entry(0).stat);
        }
        let paths: HashSet<&[u8]> = paths.iter().map(RepoPath::as_bytes).collect();
        for (dir, children) in state.directories() {
            let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let mut above = ends.map(|(end, _)| &dir[..end]).chain([dir]);
            let inside = whole || above.any(|above| paths.contains(above));
            let mut path = dir.to_vec();
            for number in children {
                let known = state.entry(number);
                let named = || {
                    path.truncate(dir.len());
                    if !dir.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(known.name);
                    paths.contains(&path[..])
                };
                if inside || { named }() {
                    add(&known.stat);
                }
            }
        }
        (files, bytes)
    }

    /// Returns what differs from the last capture by stat alone, without directories. A file that
    /// was written just before its capture is read again by the next backup, but as far as we can
    /// tell it is the same.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &Dirty> {
        self.scan.dirty.iter().filter(|dirty| {
            let known = |number: u32| {
                self.state
                    .as_ref()
                    .map(|state| state.entry(number as usize).stat)
            };
            dirty.stat.kind != Kind::Dir
                && dirty
                    .prior
                    .and_then(known)
                    .is_none_or(|known| !same_stat(&known, &dirty.stat))
        })
    }

    /// Returns how many objects differ from the last capture, and the newest ctime among them.
    pub(crate) fn waiting(&self) -> (u64, Option<crate::model::manifest::Time>) {
        let newest = self.changed().map(|dirty| dirty.stat.mtime).max();
        let count = self.changed().count() + self.scan.removed.len();
        (count as u64, newest)
    }

    /// Returns number and size of what is new, and the total size, for a dry run.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let new = self.scan.dirty.iter().map(|d| d.stat.size).sum();
        (self.scan.files, self.scan.bytes, new)
    }
}
