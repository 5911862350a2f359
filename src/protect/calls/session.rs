//! A session: many operations under one filter, each recorded when its command ends.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::durable::Batch;
use super::flight;
use super::journal::{Before, Head};
use super::keep::Keeper;
use super::pending::{Files, Pending};
use super::record::{Ended, discard, part_from_living, sort, write};
use super::sorted::{Sorted, Taken};
use super::steps::Steps;
use crate::base::error::Result;
use crate::base::id::{Id, OperationId};
use crate::base::monitor::NullMonitor;
use crate::base::path::RawName;
use crate::protect::staging::settle;
use crate::repo::Repository;
use crate::repo::oplog::Operation;
use crate::repo::pack::Level;

/// What a program that starts commands does itself is recorded once it has done nothing more for so
/// long. As often, what is kept is made durable: after a power failure no more than this is missing.
const QUIET: Duration = Duration::from_secs(1);

/// What a command left running, such as a server, may go on for days. Each of its operations may be
/// followed by twice as long a pause before it ends, up to this; whoever looks at the log does not
/// wait for that.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Where it never pauses, an operation ends after this time, or with so many paths.
const LONGEST: Duration = Duration::from_secs(600);
const MOST_PATHS: usize = 100_000;

/// How long nothing is recorded until what is kept gets packed, and how many operations at most: each
/// has staging areas of its own.
const IDLE: Duration = Duration::from_secs(2);
const MOST_UNPACKED: u32 = 256;

/// How many operations wait to be recorded: each has its files open. Commands that are faster wait.
const MOST_WAITING: usize = 32;

/// An operation that is over, and sorted: what happens to files from now on is not its own.
pub(super) struct Job {
    head: Head,
    files: Files,
    taken: Taken,
    sorted: Sorted,
    ended: Ended,
}

enum Message {
    Write(Box<Job>),
    /// Says so once everything before it is written.
    Flush(Sender<()>),
}

/// What the recorded operations of a session did, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations with changes.
    pub operations: u64,
    /// Paths that were removed, made and changed, as the operations say.
    pub deleted: u64,
    pub created: u64,
    pub changed: u64,
    /// Operations that could not be recorded yet.
    pub failed: u64,
}

/// When an operation of what was left running ends.
struct Pace {
    /// It is told by the command that left it, not by the process that does it.
    by_command: bool,
    pause: Duration,
    /// The last call, and when the operation began.
    last: Instant,
    began: Instant,
}

impl Pace {
    fn is_quiet(&self) -> bool {
        self.last.elapsed() >= self.pause
    }
}

/// What there is only in a session.
pub(super) struct Session<'a> {
    /// Of the session itself; what its operations have in common.
    head: Head,
    steps: Steps,
    /// Where all processes are taken for one.
    pace: Option<Pace>,
    /// Operations whose commands still run, without the one whose call is being looked at.
    parked: Vec<Pending>,
    /// Who makes the call that is being looked at, and whose it is.
    thread: u32,
    step: u32,
    /// The last operation's.
    last: OperationId,
    place: PathBuf,
    never: &'a [PathBuf],
    clock: fn() -> DateTime<Utc>,
    to_recorder: ToRecorder,
    /// Operations that could not be recorded yet: their journals stay.
    failed: u64,
}

impl<'a> Session<'a> {
    /// Takes all calls for one operation, until there is a pause.
    pub(super) fn taken_for_one(mut self, by_command: bool) -> Self {
        let now = Instant::now();
        self.pace = Some(Pace {
            by_command,
            pause: QUIET,
            last: now,
            began: now,
        });
        self
    }

    /// Starts the session of a process.
    pub(super) fn new(
        head: Head,
        steps: Steps,
        place: &Path,
        (never, clock): (&'a [PathBuf], fn() -> DateTime<Utc>),
        to_recorder: ToRecorder,
    ) -> Self {
        Self {
            last: head.id,
            head,
            pace: None,
            parked: Vec::new(),
            thread: 0,
            step: steps.leader(),
            steps,
            place: place.to_path_buf(),
            never,
            clock,
            to_recorder,
            failed: 0,
        }
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(super) fn parked(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.parked.iter_mut()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }
}

impl Keeper<'_> {
    /// Turns to the operation to which a call belongs; false if bdr itself makes it.
    pub(super) fn turns_to(&mut self, thread: u32) -> bool {
        let Some(session) = &mut self.session else {
            return true;
        };
        let seen = session.steps.of(thread);
        session.thread = thread;
        session.step = seen.step;
        if seen.is_bdr {
            return false;
        }
        if self.op.steps.contains(&seen.step) {
            flight::answered(&mut self.op.recent, thread);
            return true;
        }
        // An end is there before whatever follows it, and what follows is not its own.
        self.reap();
        let other = std::mem::take(&mut self.op);
        self.park(other);
        self.op = match &mut self.session {
            Some(session) => {
                let found = session
                    .parked
                    .iter()
                    .position(|op| op.steps.contains(&seen.step));
                found.map_or_else(Pending::default, |at| session.parked.swap_remove(at))
            }
            None => Pending::default(),
        };
        self.op.steps.insert(seen.step);
        flight::answered(&mut self.op.recent, thread);
        true
    }

    /// Puts an operation aside while another command makes calls.
    fn park(&mut self, op: Pending) {
        let Some(session) = &mut self.session else {
            return;
        };
        if op.steps.iter().all(|step| session.steps.is_host(*step)) {
            // A command that was started may change what the host just wrote.
            self.close(op);
        } else if op.is_started() {
            session.parked.push(op);
        }
    }

    /// Notes how a path was.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn insert(
        &mut self,
        path: &Path,
        before: Option<Box<Before>>,
    ) -> std::io::Result<()> {
        self.ensure_started()?;
        self.op.insert(path, before)
    }

    /// Makes sure that the operation has a journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn ensure_started(&mut self) -> std::io::Result<()> {
        if self.op.is_started() {
            return Ok(());
        }
        let Some(session) = &mut self.session else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let told = session.steps.told(session.step, session.thread);
        let now = (session.clock)();
        let id = Id::after(Some(session.last), now);
        session.last = id;
        if let Some(pace) = &mut session.pace {
            pace.began = Instant::now();
        }
        let (argv, cwd) = match &session.pace {
            Some(pace) if pace.by_command => (session.head.argv.clone(), session.head.cwd.clone()),
            _ => {
                let argv = told.argv.into_iter();
                let argv = argv.map(|word| crate::base::path::os_from_bytes(&word));
                let cwd = RawName(told.cwd.into_os_string());
                (self.repo.redacted(argv.collect()), cwd)
            }
        };
        let head = Head {
            id,
            time: now,
            argv,
            cwd,
            session: Some(session.head.id),
            chain: told
                .chain
                .into_iter()
                .map(|name| RawName(crate::base::path::os_from_bytes(&name)))
                .collect(),
            pid: session.step,
            ..session.head.clone()
        };
        self.op.start(&session.place, head)
    }

    /// Two commands that run at the same time and change the same thing are one operation: neither
    /// could be undone by itself.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn meet(&mut self, path: &Path) -> std::io::Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        while let Some(at) = session.parked.iter().position(|op| op.touched(path)) {
            let mut older = session.parked.swap_remove(at);
            let younger = std::mem::take(&mut self.op);
            older.absorb(younger)?;
            self.op = older;
        }
        Ok(())
    }

    /// A thread becomes another program.
    pub(super) fn becomes(&mut self, thread: u32, file: Option<(u64, u64)>, argv: Vec<Vec<u8>>) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.steps.becomes(thread, file, argv) {
            // It may be about to look at the log, or to undo what has just been done.
            self.close_all();
            self.flush();
        }
    }

    /// Records the operations whose commands have ended.
    pub(super) fn reap(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        for step in session.steps.ended() {
            let Some(session) = &mut self.session else {
                return;
            };
            let own = self.op.steps.remove(&step) && self.op.steps.is_empty();
            let mut over = Vec::new();
            for at in (0..session.parked.len()).rev() {
                let op = &mut session.parked[at];
                if op.steps.remove(&step) && op.steps.is_empty() {
                    over.push(session.parked.swap_remove(at));
                }
            }
            if own {
                over.push(std::mem::take(&mut self.op));
            }
            for op in over {
                self.close(op);
            }
        }
    }

    /// Returns how long to wait for calls before [`Keeper::quiet`].
    pub(super) fn patience(&self) -> Option<Duration> {
        let of_host = self.session.as_ref().filter(|session| {
            let mut steps = self.op.steps.iter();
            self.op.is_started() && steps.all(|step| session.steps.is_host(*step))
        });
        let mut parked = self.session.iter().flat_map(|session| &session.parked);
        let dirty = self.op.is_dirty() || parked.any(Pending::is_dirty);
        let pause = of_host.map(|session| match &session.pace {
            Some(pace) => pace.pause.saturating_sub(pace.last.elapsed()),
            None => QUIET,
        });
        dirty.then_some(QUIET).into_iter().chain(pause).min()
    }

    /// Makes durable what is kept so far, and records what a program that starts commands did itself.
    pub(super) fn quiet(&mut self) {
        self.sync();
        let paces = self.session.as_ref().map(|session| &session.pace);
        if paces.is_some_and(|pace| pace.as_ref().is_none_or(Pace::is_quiet)) {
            let op = std::mem::take(&mut self.op);
            self.park(op);
        }
    }

    /// Makes durable what is kept so far, if the last time is long enough ago.
    pub(super) fn sync_if_due(&mut self) {
        let paced = self.session.as_mut();
        if let Some(pace) = paced.and_then(|session| session.pace.as_mut()) {
            pace.last = Instant::now();
            let is_long = pace.began.elapsed() > LONGEST || self.op.before.len() > MOST_PATHS;
            if self.op.is_started() && is_long {
                self.close_all();
            }
        }
        if self.synced.elapsed() > QUIET {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        if self.durable.is_busy() {
            return;
        }
        let mut batch = Batch::default();
        let parked = self.session.iter_mut().flat_map(Session::parked);
        for op in parked.chain([&mut self.op]).filter(|op| op.is_dirty()) {
            op.add_to(&mut batch);
        }
        if !batch.journals.is_empty() {
            self.durable.start(batch);
        }
    }

    /// Ends all operations: what their commands do from now on belongs to others.
    pub(super) fn close_all(&mut self) {
        let parked = self.session.as_mut();
        let parked = parked.map(|session| std::mem::take(&mut session.parked));
        let mut all = parked.unwrap_or_default();
        all.push(std::mem::take(&mut self.op));
        for op in all {
            self.close(op);
        }
    }

    /// Waits until everything that ended is recorded.
    pub(super) fn flush(&self) {
        if let Some(session) = &self.session {
            let (done, wait) = channel();
            if session.to_recorder.0.send(Message::Flush(done)).is_ok() {
                let _ = wait.recv();
            }
        }
    }

    /// Ends an operation. What it changed is found now, because the next command may change it again;
    /// it is recorded by another thread.
    fn close(&mut self, op: Pending) {
        if op.is_started() {
            flight::landed(&op.recent);
        }
        let Some((head, files, taken)) = op.taken() else {
            return;
        };
        self.budget = self.whole_budget;
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(pace) = &mut session.pace {
            pace.pause = (pace.pause * 2).min(LONGEST_PAUSE);
        }
        let now = (session.clock)();
        match sorted_job(self.repo, head, files, taken, (session.never, now)) {
            Ok(Some(mut job)) => {
                let living = part_from_living(&job.taken);
                job.sorted.note_touches(self.repo);
                let of_this = |dir: &Path| {
                    let mut sets = job.taken.sets.iter();
                    sets.any(|(set, _)| set.dir.as_path() == dir)
                };
                self.linked
                    .retain(|_, kept| !of_this(&kept.0) || living.contains(kept));
                if session
                    .to_recorder
                    .0
                    .send(Message::Write(Box::new(job)))
                    .is_err()
                {
                    session.failed += 1;
                }
            }
            Ok(None) => {}
            // The journal stays, and the next bdr tries again.
            Err(_) => session.failed += 1,
        }
    }
}

/// Sorts what an operation touched; `None` if nothing is left of it.
fn sorted_job(
    repo: &Repository,
    head: Head,
    files: Files,
    mut taken: Taken,
    (never, now): (&[PathBuf], DateTime<Utc>),
) -> Result<Option<Job>> {
    let mut sorted = sort(repo, &head, &mut taken, never)?;
    if sorted.is_empty() && taken.foreign.is_empty() && taken.unseen == 0 {
        discard(&taken.sets);
        sorted.note_touches(repo);
        files.own.remove()?;
        return Ok(None);
    }
    let ended = Ended::at(now, now - head.time);
    Ok(Some(Job {
        head,
        files,
        taken,
        sorted,
        ended,
    }))
}

/// Where operations go that are over.
pub(super) struct ToRecorder(SyncSender<Message>);

/// The other end: what is to be recorded.
pub(super) struct Recorder(Receiver<Message>);

pub(super) fn recorder() -> (ToRecorder, Recorder) {
    let (to_recorder, jobs) = sync_channel(MOST_WAITING);
    (ToRecorder(to_recorder), Recorder(jobs))
}

impl Recorder {
    /// Records operations until the session is over.
    pub(super) fn run(self, repo: &Repository, clock: fn() -> DateTime<Utc>) -> Tally {
        let mut tally = Tally::default();
        let mut unpacked = 0;
        loop {
            // Idle, it sleeps: a session may last for days.
            let message = match unpacked {
                0 => self.0.recv().map_err(RecvTimeoutError::from),
                MOST_UNPACKED.. => Err(RecvTimeoutError::Timeout),
                _ => self.0.recv_timeout(IDLE),
            };
            match message {
                Ok(Message::Write(job)) => {
                    unpacked += 1;
                    tally.record(repo, *job);
                }
                Ok(Message::Flush(done)) => {
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    unpacked = 0;
                    // If it fails, whoever comes next tries again.
                    let _ = settle(repo, Level::Fast, clock(), &NullMonitor);
                    // The repository may be on a disk that is to be unmounted.
                    repo.storage().let_go();
                }
                Err(RecvTimeoutError::Disconnected) => return tally,
            }
        }
    }
}

impl Tally {
    fn record(&mut self, repo: &Repository, job: Job) {
        match write(repo, &job.head, job.sorted, &job.taken, job.ended) {
            Ok(operation) => {
                self.add(&operation);
                let _ = job.files.own.remove();
            }
            // The journal stays, and the next bdr tries again.
            Err(_) => self.failed += 1,
        }
        drop(job.files.lock);
    }

    fn add(&mut self, operation: &Operation) {
        let Some(end) = &operation.end else { return };
        self.operations += 1;
        for root in &end.roots {
            self.deleted += root.deleted_files;
            let is_file = |stamp: &&crate::repo::oplog::Stamp| {
                stamp.kind != crate::model::manifest::Kind::Dir
            };
            self.created += root.created.iter().filter(is_file).count() as u64;
            self.changed += root.modified.iter().filter(is_file).count() as u64;
        }
    }
}
