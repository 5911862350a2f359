//! Reads changed files in several threads, each with a pack of its own. A database is read as one
//! unit, a file with several names only once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Counts, RootRun};
use crate::base::error::{Error, Result};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::RepoPath;
use crate::model::manifest::{Body, Kind};
use crate::protect::capture::{Capture, Captured, Shared};
use crate::repo::pack::Finished;
use crate::repo::state::{Known, Stat};

/// A captured object, or its path and the error.
type Object = std::result::Result<Box<Captured>, Box<(RepoPath, Error)>>;
pub(super) type Outcome = (usize, Object);

pub(super) struct Results {
    pub(super) objects: Vec<Outcome>,
    pub(super) packs: Vec<Finished>,
    pub(super) read_bytes: u64,
}

enum Task {
    /// Root number and index of the dirty object.
    One(usize, usize),
    /// Root number and path of the database.
    Database(usize, RepoPath),
}

/// Returns what has to be read: databases as one unit, further names of a file not at all.
fn tasks(runs: &[RootRun]) -> (Vec<Task>, Vec<(usize, usize, usize)>) {
    let mut tasks = Vec::new();
    let mut aliases = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let mut databases: HashSet<RepoPath> = HashSet::new();
        let mut names: HashMap<(u64, u64), usize> = HashMap::new();
        for (i, dirty) in run.scan.dirty.iter().enumerate() {
            if dirty.stat.kind != Kind::File {
                tasks.push(Task::One(number, i));
                continue;
            }
            if dirty.stat.links > 1 {
                match names.entry((dirty.stat.device, dirty.stat.inode)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        aliases.push((number, i, *first.get()));
                        continue;
                    }
                    std::collections::hash_map::Entry::Vacant(place) => {
                        place.insert(i);
                    }
                }
            }
            match crate::protect::survey::database_for(run, dirty) {
                Some(base) => {
                    if databases.insert(base.clone()) {
                        tasks.push(Task::Database(number, base));
                    }
                }
                None => tasks.push(Task::One(number, i)),
            }
        }
    }
    // Large files first, so that no thread ends up alone with one. Small ones in order, so that
    // neighbours share members.
    let size = |task: &Task| match task {
        Task::One(number, i) => runs[*number].scan.dirty[*i].stat.size,
        Task::Database(..) => u64::MAX,
    };
    tasks.sort_by_key(|task| std::cmp::Reverse(if size(task) < 1 << 20 { 0 } else { size(task) }));
    (tasks, aliases)
}

pub(super) fn read_dirty<'a>(
    shared: &'a Shared<'a>,
    runs: &'a [RootRun],
    counts: &mut Counts,
    monitor: &dyn Monitor,
) -> Result<Results> {
    let (tasks, aliases) = tasks(runs);
    let total: u64 = runs
        .iter()
        .flat_map(|r| &r.scan.dirty)
        .map(|d| d.stat.size)
        .sum();
    monitor.phase(Phase::Storing, tasks.len() as u64, total);
    let queue = Queue {
        shared,
        runs,
        tasks: &tasks,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        monitor,
    };
    // Little work is done before a second thread has started, and this way it makes one pack
    // instead of two.
    let outcomes: Vec<_> = if total < 1 << 20 && tasks.len() < 256 {
        vec![queue.work()]
    } else {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .clamp(1, 8);
        share_work(threads, &queue)
    };
    let mut results = Results {
        objects: Vec::new(),
        packs: Vec::new(),
        read_bytes: 0,
    };
    for outcome in outcomes {
        let one = outcome?;
        results.objects.extend(one.objects);
        results.packs.extend(one.packs);
        counts.read_bytes += one.read_bytes;
    }
    add_aliases(runs, &aliases, &mut results);
    Ok(results)
}

/// What the threads that read share: the tasks, and which of them is next.
struct Queue<'a> {
    shared: &'a Shared<'a>,
    runs: &'a [RootRun],
    tasks: &'a [Task],
    next: AtomicUsize,
    /// One of them failed, so the backup fails: the others need not go on.
    failed: AtomicBool,
    monitor: &'a dyn Monitor,
}

impl Queue<'_> {
    /// Does tasks until none is left. Each thread writes its own pack, because a common one would
    /// need a lock for every blob.
    fn work(&self) -> Result<Results> {
        let done = self.fill_pack();
        if done.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        done
    }

    fn fill_pack(&self) -> Result<Results> {
        let mut capture = Capture::new(self.shared);
        let mut objects = Vec::new();
        loop {
            // Neighbours go to one thread, so that they share a member.
            let first = self.next.fetch_add(16, Ordering::Relaxed);
            if first >= self.tasks.len() || self.failed.load(Ordering::Relaxed) {
                break;
            }
            for task in &self.tasks[first..(first + 16).min(self.tasks.len())] {
                if self.monitor.stopped() {
                    return Err(Error::Interrupted);
                }
                one_task(&mut capture, self.shared, self.runs, task, &mut objects)?;
                let bytes = match task {
                    Task::One(number, i) => self.runs[*number].scan.dirty[*i].stat.size,
                    Task::Database(..) => 0,
                };
                self.monitor
                    .advance(1, bytes.saturating_sub(capture.take_told()));
            }
        }
        Ok(Results {
            objects,
            read_bytes: capture.read_bytes,
            packs: capture.finish()?,
        })
    }
}

fn share_work(threads: usize, queue: &Queue<'_>) -> Vec<Result<Results>> {
    if threads == 1 {
        return vec![queue.work()];
    }
    let failed = || Err(Error::invalid("a worker thread failed", None));
    let outcomes = crate::base::threads::share(threads, &|| queue.work());
    let outcomes = outcomes.into_iter();
    outcomes.map(|one| one.unwrap_or_else(failed)).collect()
}

fn one_task<'a>(
    capture: &mut Capture<'a>,
    shared: &Shared<'_>,
    runs: &'a [RootRun],
    task: &Task,
    objects: &mut Vec<Outcome>,
) -> Result<()> {
    /// Errors of the repository end the backup; those of one file do not.
    fn sort(path: &RepoPath, result: Result<Captured>) -> Result<Object> {
        match result {
            Err(error @ (Error::Storage { .. } | Error::Damaged { .. } | Error::Interrupted)) => {
                Err(error)
            }
            Ok(one) => Ok(Ok(Box::new(one))),
            Err(error) => Ok(Err(Box::new((path.clone(), error)))),
        }
    }
    match task {
        Task::One(number, i) => {
            let run = &runs[*number];
            let Some(handle) = &run.handle else {
                return Ok(());
            };
            let dirty = &run.scan.dirty[*i];
            let prior = known(run, dirty.prior);
            let result = capture.object(&run.root.name, handle, &dirty.path, prior);
            objects.push((*number, sort(&dirty.path, result)?));
        }
        Task::Database(number, base) => {
            let run = &runs[*number];
            let Some(handle) = &run.handle else {
                return Ok(());
            };
            let prior = |path: &RepoPath| -> Option<(Known<'a>, bool)> {
                // Changed objects carry their number; the others are looked up, and trusted.
                let dirty = &run.scan.dirty;
                if let Ok(i) = dirty.binary_search_by(|d| d.path.cmp(path)) {
                    return known(run, dirty[i].prior).map(|k| (k, false));
                }
                let state = run.state.as_ref()?;
                let parent = path.parent()?;
                let mut children = state.children(parent.as_bytes())?;
                let found = children.find(|n| state.name(*n) == path.name())?;
                Some((state.entry(found), true))
            };
            let scratch = shared.repo.cache().join("scratch");
            match capture.database(&run.root.name, handle, base, &prior, &scratch) {
                Ok(captured) => {
                    objects.extend(captured.into_iter().map(|one| (*number, Ok(Box::new(one)))));
                }
                Err(error) => objects.push((*number, sort(base, Err(error))?)),
            }
        }
    }
    Ok(())
}

fn known(run: &RootRun, prior: Option<u32>) -> Option<Known<'_>> {
    Some(run.state.as_ref()?.entry(prior? as usize))
}

/// Gives the further names of a file the content of the first.
fn add_aliases(runs: &[RootRun], aliases: &[(usize, usize, usize)], results: &mut Results) {
    if aliases.is_empty() {
        return;
    }
    let wanted: HashSet<(usize, &RepoPath)> = aliases
        .iter()
        .map(|(number, _, first)| (*number, &runs[*number].scan.dirty[*first].path))
        .collect();
    let firsts: HashMap<(usize, RepoPath), (Body, Stat, u8, bool)> = results
        .objects
        .iter()
        .filter_map(|(number, result)| {
            let one = result.as_ref().ok()?;
            wanted.contains(&(*number, &one.path)).then(|| {
                (
                    (*number, one.path.clone()),
                    (one.body.clone(), one.stat, one.flags, one.gone),
                )
            })
        })
        .collect();
    for (number, i, first) in aliases {
        let (dirty, first) = (
            &runs[*number].scan.dirty[*i],
            &runs[*number].scan.dirty[*first],
        );
        if let Some((body, stat, flags, gone)) = firsts.get(&(*number, first.path.clone())) {
            let one = Captured {
                path: dirty.path.clone(),
                stat: *stat,
                body: body.clone(),
                flags: *flags,
                gone: *gone,
                withheld: false,
            };
            results.objects.push((*number, Ok(Box::new(one))));
        } else {
            let error = Error::io(
                "read",
                dirty.path.to_path(&runs[*number].root.path),
                std::io::Error::other("a hard link to the same file could not be read"),
            );
            let failed = Err(Box::new((dirty.path.clone(), error)));
            results.objects.push((*number, failed));
        }
    }
}
