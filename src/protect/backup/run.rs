//! One snapshot while it is made, phase by phase.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::merge::{Pending, rebuild};
use super::read::read_dirty;
use super::{BackupOptions, BackupReport, Counts, RootRun};
use crate::base::error::{Error, Result, reason};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{AbsolutePath, RawName, RepoPath, os_to_bytes, tar_name};
use crate::disk::storage::Hold;
use crate::model::manifest::{Flag, Kind};
use crate::model::reason::Reason;
use crate::model::rules::{Origin, Root};
use crate::protect::capture::{Capture, CapturedList, Shared};
use crate::protect::staging::{self, KeptReport};
use crate::protect::survey::links::{follow, follow_included};
use crate::protect::survey::{
    SealedSummary, apply_budget, is_damaged, is_kept_in, look_around, lost_sets, mark_all,
    mark_lost, spare_untouched,
};
use crate::repo::index::DigestSet;
use crate::repo::pack::{Finished, TarKind, TarMeta};
use crate::repo::snapshot::{
    LeftOut, PathNote, RootRecord, Snapshot, SnapshotKind, Stats, Trigger,
};
use crate::repo::state::{KEPT, Mirrors, SEALED, State};
use crate::repo::{Repository, layout};

/// Keeps prune from sweeping while a snapshot is made. A person must not wait for prune, so if the
/// lock is taken this becomes a full snapshot: it refers to nothing older and needs no lock.
pub(super) fn hold(
    repo: &Repository,
    options: &mut BackupOptions,
    scheduled: bool,
) -> Result<Option<Hold>> {
    let patience = Duration::from_millis(if scheduled { 10_000 } else { 50 });
    match repo.hold(patience) {
        Err(Error::Busy { .. }) if !scheduled => {
            options.full = true;
            Ok(None)
        }
        other => other,
    }
}

pub(super) struct Run<'a> {
    repo: &'a Repository,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    started: Instant,
    /// A scheduled backup, not a snapshot of a guard or an undo: it has time to examine everything,
    /// and nobody is watching.
    scheduled: bool,
    runs: Vec<RootRun>,
    problems: Vec<PathNote>,
    /// Included symlinks whose target does not exist.
    nowhere: Vec<PathNote>,
    /// Symlinks that were not followed because there were too many.
    not_followed: Vec<PathNote>,
    unstable: Vec<PathNote>,
    kept: KeptReport,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        options: &'a BackupOptions,
        monitor: &'a dyn Monitor,
        started: Instant,
    ) -> Self {
        Self {
            repo,
            options,
            monitor,
            started,
            scheduled: matches!(options.trigger, Trigger::Backup | Trigger::Init),
            runs: Vec::new(),
            problems: options.problems.clone(),
            nowhere: Vec::new(),
            not_followed: Vec::new(),
            unstable: Vec::new(),
            kept: KeptReport::default(),
        }
    }

    /// Walks the roots and the targets of their symlinks against the states.
    pub(super) fn look(&mut self, roots: &[Root]) -> Result<()> {
        let options = self.options;
        self.monitor.phase(Phase::Scanning, 0, 0);
        let never = self.repo.untouchable(&options.never);
        for root in roots {
            look_around(self.repo, root, options, &never, &mut self.runs)?;
            if self.monitor.stopped() {
                return Err(Error::Interrupted);
            }
        }
        if self.scheduled || options.follow_links {
            self.nowhere = follow_included(self.repo, &mut self.runs, options, &never)?;
        }
        if options.follow_links {
            self.not_followed = follow(self.repo, &mut self.runs, options, &never)?;
        }
        Ok(())
    }

    /// Marks files as dirty that look unchanged but cannot be relied on; returns true if new rules
    /// require examining everything.
    ///
    /// Otherwise a snapshot would keep naming content that is damaged, that only a guard keeps, or
    /// whose secrets the vault has lost, although the file still exists and could be stored again.
    pub(super) fn distrust(&mut self, damaged: &DigestSet) -> bool {
        let vault = self.repo.vault();
        for run in &mut self.runs {
            let has_sealed = run.state.as_ref().is_some_and(|s| s.has_flag(SEALED));
            if has_sealed && vault.trouble().is_none() {
                mark_lost(run, &|known| {
                    known.flags & SEALED != 0
                        && known.body().is_none_or(|body| {
                            let sealed = body.sealed.as_ref();
                            sealed.is_some_and(|s| !s.values.iter().all(|v| vault.has(*v)))
                        })
                });
            }
        }
        // With new rules, unchanged files are examined again too. A guard has no time for that.
        let rules = self.repo.privacy_rules().number();
        let by_others = |state: &State| state.mirrors().rules != rules;
        let mut states = self.runs.iter().filter_map(|run| run.state.as_ref());
        let anew = self.scheduled && states.any(by_others);
        if anew {
            self.runs.iter_mut().for_each(mark_all);
        }
        let scheduled = self.scheduled;
        for run in &mut self.runs {
            let has_kept = run.state.as_ref().is_some_and(|s| s.has_flag(KEPT));
            if damaged.is_empty() && !has_kept {
                continue;
            }
            let lost = lost_sets(self.repo, run);
            mark_lost(run, &|known| {
                // Kept content belongs to the guard that kept it; a backup must not depend on it.
                let kept = known.flags & KEPT != 0;
                kept && (scheduled || is_kept_in(known, &lost)) || is_damaged(known, damaged)
            });
        }
        anew
    }

    /// Keeps what need not be read, then applies the budget to the rest.
    pub(super) fn keep(&mut self) -> Result<Vec<CapturedList>> {
        let mut kept: Vec<CapturedList> = self.runs.iter().map(|_| Vec::new()).collect();
        if let Some(staging) = &self.options.staging {
            let now = self.options.now;
            (kept, self.kept) = staging::keep(self.repo, &mut self.runs, staging, now)?;
        }
        for run in &mut self.runs {
            if let Some(touched) = &self.options.touched {
                spare_untouched(run, touched);
            }
            apply_budget(run, self.options)?;
        }
        Ok(kept)
    }

    /// Notes what could not be read, and sources that have become empty.
    pub(super) fn note_unread(&mut self) -> Result<()> {
        let nowhere = std::mem::take(&mut self.nowhere);
        if self.scheduled {
            self.problems.extend(nowhere);
            if self.options.moved.is_empty() {
                let emptied = emptied(self.repo, &self.runs, &self.problems)?;
                self.problems.extend(emptied);
            }
        }
        for number in 0..self.runs.len() {
            for (path, error) in std::mem::take(&mut self.runs[number].scan.problems) {
                self.problem(number, path, &error, 0);
            }
        }
        Ok(())
    }

    fn problem(&mut self, number: usize, path: RepoPath, error: &Error, inode: u64) {
        let run = &mut self.runs[number];
        let absolute = path.to_path(&run.root.path);
        self.monitor
            .problem(&os_to_bytes(absolute.as_os_str()), error);
        self.problems.push(note(&run.root, &path, &reason(error)));
        run.unread.push(unread(path, error, inode));
    }

    /// Returns how many bytes the files have that have to be read.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let dirty = self.runs.iter().flat_map(|run| &run.scan.dirty);
        dirty.map(|dirty| dirty.stat.size).sum()
    }

    /// Returns true if the walk found nothing new.
    pub(super) fn is_untouched(&self) -> bool {
        self.kept.files == 0
            && self
                .runs
                .iter()
                .all(|run| run.scan.dirty.is_empty() && run.scan.removed.is_empty())
    }

    /// Returns the last snapshot if it says all that this one would and may be reused.
    pub(super) fn reusable(&self) -> Result<Option<Snapshot>> {
        if !self.options.may_reuse() || !self.problems.is_empty() {
            return Ok(None);
        }
        reusable(self.repo, &self.runs)
    }

    pub(super) fn read(
        &mut self,
        shared: &Shared<'_>,
        kept: Vec<CapturedList>,
        counts: &mut Counts,
    ) -> Result<(Vec<CapturedList>, Vec<Finished>)> {
        let results = read_dirty(shared, &self.runs, counts, self.monitor)?;
        // Sealed values must be durable before anything says that they were sealed.
        self.repo.vault().flush()?;
        let mut captured = kept;
        for (number, result) in results.objects {
            match result {
                Ok(mut one) => {
                    let run = &mut self.runs[number];
                    if one.stat.kind == Kind::Dir && !self.options.modes.is_empty() {
                        let dir = one.path.to_path(&run.root.path);
                        let mode = self.options.modes.get(&dir).copied();
                        one.stat.mode = mode.unwrap_or(one.stat.mode);
                    }
                    if one.withheld {
                        run.withheld.push(one.path.clone());
                    }
                    captured[number].push(one);
                }
                Err(failed) => {
                    let (path, error) = *failed;
                    let run = &self.runs[number];
                    // A directory that cannot be listed fails here again for its attributes; one
                    // message is enough.
                    if run.unread.iter().any(|known| known.path == path) {
                        continue;
                    }
                    let stat = run.handle.as_ref().and_then(|h| h.stat(&path).ok());
                    self.problem(number, path, &error, stat.map_or(0, |stat| stat.inode));
                }
            }
        }
        for (run, captured) in self.runs.iter_mut().zip(&mut captured) {
            let torn = captured
                .iter()
                .filter(|one| !one.gone && one.body.flags.contains(&Flag::Unstable));
            let torn = torn.map(|one| note(&run.root, &one.path, UNSTABLE));
            self.unstable.extend(torn);
            run.scan.dirty = Vec::new();
            in_order(captured);
        }
        let mut packs = results.packs;
        if self.options.full {
            packs.extend(write_tree(shared, &self.runs, &captured)?);
        }
        Ok((captured, packs))
    }

    /// Returns each root as it is now.
    pub(super) fn rebuild(&self, captured: Vec<CapturedList>, counts: &mut Counts) -> Vec<Pending> {
        let full = self.options.full;
        let both = self.runs.iter().zip(captured);
        both.map(|(run, captured)| rebuild(run, captured, full, counts))
            .collect()
    }

    /// Racy files turned out to be unchanged: from now on the state trusts them.
    pub(super) fn trust_racy(&mut self, pending: Vec<Pending>) {
        for (run, new) in self.runs.iter_mut().zip(pending) {
            let mirrors = Mirrors {
                started: nanos(self.options.now),
                ..new.mirrors
            };
            let old = run.state.take();
            run.state = new.save(old, &run.state_path, self.repo.id(), &mirrors);
        }
    }

    /// Writes key frames, then the snapshot record: the snapshot exists from that rename on.
    pub(super) fn commit(
        &mut self,
        pending: &mut [Pending],
        packs: &[Finished],
        counts: &mut Counts,
    ) -> Result<Snapshot> {
        let (repo, options) = (self.repo, self.options);
        let (seq, id) = repo.next_snapshot(options.now)?;
        let mut roots = Vec::new();
        for (run, new) in self.runs.iter().zip(pending) {
            roots.push(self.record(run, new, counts)?);
        }
        counts.stored_bytes += packs.iter().map(|p| p.pack.bytes).sum::<u64>();
        // The last chance to stop: once the record is written, the snapshot exists.
        if self.monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let redacted = |text: &String| repo.redacted_text(text.clone());
        let snapshot = Snapshot {
            version: 1,
            repository: repo.id(),
            id,
            seq,
            time: options.now,
            kind: match options.full {
                true => SnapshotKind::Full,
                false => SnapshotKind::Incremental,
            },
            trigger: options.trigger,
            label: options.label.as_ref().map(redacted),
            tags: options.tags.iter().map(redacted).collect(),
            host: options.host.clone(),
            partial: !self.problems.is_empty(),
            problems: self.problems.clone(),
            packs: packs.iter().map(|p| p.pack).collect(),
            stats: Stats {
                files: self.runs.iter().map(|run| run.scan.files).sum(),
                bytes: self.runs.iter().map(|run| run.scan.bytes).sum(),
                stored_bytes: counts.stored_bytes,
                elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
            roots,
            bound: None,
            last_backup: repo.last_backup(),
        };
        repo.commit(&snapshot)?;
        // After the commit point, because the index is derived.
        repo.remember_packs(packs);
        Ok(snapshot)
    }

    /// Returns the snapshot's record of a root: a key frame and everything that differs from it.
    fn record(&self, run: &RootRun, new: &mut Pending, counts: &mut Counts) -> Result<RootRecord> {
        let path = self.options.recorded(&run.root);
        let mut record = RootRecord {
            name: run.root.name.clone(),
            path: AbsolutePath::new(path).map_err(|reason| Error::invalid(reason, None))?,
            rules: run.root.rules.clone(),
            base: None,
            changed: Vec::new(),
            removed: Vec::new(),
            left_out: run.unknown().cloned().collect(),
            files: run.scan.files,
            bytes: run.scan.bytes,
        };
        if !run.scan.exists {
            return Ok(record);
        }
        if let Some(base) = new.mirrors.base {
            record.base = Some(base);
            record.changed = std::mem::take(&mut new.changed);
            record.removed.clone_from(&new.removed);
        } else {
            let listing = std::mem::take(&mut new.listing);
            let (base, written) = self.repo.put_keyframe(&run.root.name, path, &listing)?;
            counts.stored_bytes += written;
            new.mirrors.base = Some(base);
            record.base = Some(base);
        }
        Ok(record)
    }

    /// Writes the states that mirror the snapshot. They are derived: after a crash before this, the
    /// next run only has to read more.
    pub(super) fn renew_states(&mut self, pending: Vec<Pending>, snapshot: &Snapshot) {
        let rules = self.repo.privacy_rules().number();
        for (run, new) in self.runs.iter_mut().zip(pending) {
            // A root that does not exist has no state to compare with.
            let old = run.state.take();
            if !run.scan.exists {
                let _ = crate::disk::fsutil::remove_file(&run.state_path);
                continue;
            }
            let mirrors = Mirrors {
                snapshot: snapshot.id,
                seq: snapshot.seq,
                started: nanos(self.options.now),
                base: new.mirrors.base,
                rules: match &old {
                    Some(state) if !self.scheduled => state.mirrors().rules,
                    _ => rules,
                },
            };
            run.state = new.save(old, &run.state_path, self.repo.id(), &mirrors);
        }
    }

    pub(super) fn finish(
        self,
        snapshot: Snapshot,
        reused: bool,
        counts: Counts,
    ) -> (BackupReport, Vec<RootRun>) {
        let runs = self.runs;
        let left_out = |run: &RootRun| -> Vec<PathNote> {
            let left_out = run.left_out.iter();
            left_out
                .map(|l| note(&run.root, &l.path, &l.reason))
                .collect()
        };
        let withheld = |run: &RootRun| -> Vec<PathNote> {
            let withheld = run.withheld.iter();
            withheld
                .map(|path| note(&run.root, path, crate::privacy::IN_ATTRIBUTE))
                .collect()
        };
        let report = BackupReport {
            snapshot,
            reused,
            added: counts.added,
            changed: counts.changed,
            removed: runs.iter().map(|r| r.scan.removed.len() as u64).sum(),
            read_bytes: counts.read_bytes,
            stored_bytes: counts.stored_bytes,
            problems: self.problems,
            // If nothing was written, nothing can be torn.
            unstable: if reused { Vec::new() } else { self.unstable },
            left_out: runs
                .iter()
                .flat_map(left_out)
                .chain(self.not_followed)
                .chain(runs.iter().flat_map(withheld))
                .collect(),
            mounts: runs
                .iter()
                .filter(|r| r.root.origin == Origin::Source)
                .flat_map(|r| r.scan.mounts.iter().map(|m| m.to_path(&r.root.path)))
                .collect(),
            not_stored: runs.iter().map(|r| r.scan.not_stored).sum(),
            kept: self.kept,
            sealed: sealed_of(&runs, self.scheduled),
            elapsed: self.started.elapsed(),
        };
        (report, runs)
    }
}

/// Sorts what was captured. If a path appears twice, the reading counts, not the earlier keeping.
fn in_order(captured: &mut CapturedList) {
    captured.sort_by(|a, b| a.path.cmp(&b.path));
    captured.dedup_by(|later, earlier| {
        let same = later.path == earlier.path;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

/// Returns the sources that are empty but had files before, or whose include patterns match
/// nothing: an unmounted disk looks just like that.
fn emptied(repo: &Repository, runs: &[RootRun], known: &[PathNote]) -> Result<Vec<PathNote>> {
    let is_empty = |run: &&RootRun| {
        let told = known
            .iter()
            .any(|note| note.path.as_path() == run.root.path);
        run.root.origin == Origin::Source && run.scan.exists && run.scan.files == 0 && !told
    };
    let empty: Vec<&RootRun> = runs.iter().filter(is_empty).collect();
    if empty.is_empty() {
        return Ok(Vec::new());
    }
    let summaries = repo.summaries()?;
    let mut notes = Vec::new();
    for run in empty {
        let name = &run.root.name;
        let mut backups = summaries.iter().rev().filter(|s| s.is_backup());
        let had = backups.find_map(|summary| {
            let mut roots = summary.roots.iter();
            roots.find(|r| r.name == *name && r.files > 0)
        });
        let reason = match had {
            Some(had) => format!(
                "source `{name}` is empty, but had {} file{} before: is its disk mounted? Older snapshots still have them",
                had.files,
                if had.files == 1 { "" } else { "s" }
            ),
            None if !run.root.rules.include.is_empty() && !run.scan.found => {
                format!("nothing matches the include patterns of source `{name}`")
            }
            None => continue,
        };
        notes.push(PathNote {
            path: RawName::from(run.root.path.as_path()),
            reason,
        });
    }
    Ok(notes)
}

/// Returns the snapshot that all roots were last captured by, if it covers just these.
fn reusable(repo: &Repository, runs: &[RootRun]) -> Result<Option<Snapshot>> {
    let mut last = None;
    for run in runs {
        let Some(state) = &run.state else {
            // It did not exist before and does not now.
            if run.scan.exists || run.scan.too_many {
                return Ok(None);
            }
            continue;
        };
        let mirrors = state.mirrors();
        if last.is_some_and(|(seq, id)| (seq, id) != (mirrors.seq, mirrors.snapshot)) {
            return Ok(None);
        }
        last = Some((mirrors.seq, mirrors.snapshot));
    }
    let Some((seq, id)) = last else {
        return Ok(None);
    };
    let Ok(snapshot) = repo.read_snapshot(&layout::snapshot(seq, id)) else {
        return Ok(None);
    };
    let same = snapshot.roots.len() == runs.len()
        && !snapshot.partial
        && runs.iter().all(|run| {
            snapshot.root(&run.root.name).is_some_and(|record| {
                record.path.as_path() == run.root.path
                    && record.base.is_some() == run.scan.exists
                    && record.left_out == run.left_out
            })
        });
    Ok(same.then_some(snapshot))
}

/// Writes the pack of objects without data. It is extracted last, so that directories get their
/// modes and times.
fn write_tree(
    shared: &Shared<'_>,
    runs: &[RootRun],
    captured: &[CapturedList],
) -> Result<Vec<Finished>> {
    let mut capture = Capture::new(shared);
    for (run, captured) in runs.iter().zip(captured) {
        let name_of = |path: &RepoPath| match path.is_root() {
            true => format!("files/{}", run.root.name),
            false => format!("files/{}/{}", run.root.name, tar_name(path.as_bytes())),
        };
        let mut firsts: HashMap<&str, &RepoPath> = HashMap::new();
        for one in captured.iter().filter(|one| !one.gone) {
            let path = &one.path;
            let name = name_of(path);
            let link = one.body.link.as_str();
            let target;
            let kind = match one.stat.kind {
                Kind::Dir => TarKind::Dir,
                Kind::Symlink => TarKind::Symlink(&one.body.target),
                Kind::File if !link.is_empty() && firsts.contains_key(link) => {
                    target = name_of(firsts[link]);
                    TarKind::Hardlink(&target)
                }
                Kind::File if one.stat.size == 0 => TarKind::File,
                _ => {
                    if !link.is_empty() {
                        firsts.insert(link, path);
                    }
                    continue;
                }
            };
            if !link.is_empty() {
                firsts.entry(link).or_insert(path);
            }
            let (mode, mtime) = (one.stat.mode, one.stat.mtime);
            capture.tree_entry(&TarMeta {
                name: &name,
                kind,
                mode,
                mtime,
            })?;
        }
    }
    capture.finish()
}

/// Note on a file that changed during every reading.
const UNSTABLE: &str = "it changed while it was read";

fn sealed_of(runs: &[RootRun], wanted: bool) -> SealedSummary {
    let mut summary = SealedSummary::default();
    for run in runs.iter().filter(|_| wanted) {
        run.add_sealed(&mut summary);
    }
    summary
}

fn nanos(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

fn unread(path: RepoPath, error: &Error, inode: u64) -> LeftOut {
    let reason = Reason::Unreadable.because(&reason(error));
    LeftOut {
        path,
        reason,
        inode,
    }
}

fn note(root: &Root, path: &RepoPath, reason: &str) -> PathNote {
    PathNote {
        path: RawName(path.to_path(&root.path).into_os_string()),
        reason: reason.to_owned(),
    }
}
