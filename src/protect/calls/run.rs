//! Runs a command under capture.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rustix::event::{PollFd, PollFlags, poll};

use super::journal::Head;
use super::keep::{Budget, Keeper, Unkept};
use super::pending::claimed;
use super::record::{Ended, begin_of_session, part_from_living, sort, write};
use super::session::{Session, Tally, recorder};
use super::steps::Steps;
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::OperationId;
use crate::base::path::RawName;
use crate::disk::calls::{Listener, Next, Waiting, watch};
use crate::disk::fsutil::{Lock, OwnTree, Sharing};
use crate::protect::guard::{by_filter, redacted, run_child, signal_of};
use crate::repo::Repository;
use crate::repo::oplog::{End, Operation};

/// How a command is captured.
#[derive(Debug, Clone)]
pub struct RunOptions {
    pub argv: Vec<OsString>,
    pub cwd: PathBuf,
    pub label: Option<String>,
    /// Parts of the command that cannot be undone.
    pub remote: Vec<String>,
    pub host: String,
    pub now: DateTime<Utc>,
    /// The clock, for the operations of a session.
    pub clock: fn() -> DateTime<Utc>,
    /// Absolute paths that are never captured, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    /// Bytes that may be copied, because no link protects them.
    pub max_copied: u64,
    /// Bytes that may be kept in any way.
    pub max_kept: u64,
    pub unkept: Unkept,
    /// It is a shell or an agent: each command that it starts is an operation of its own.
    pub session: bool,
}

/// A captured command that has ended.
pub struct Protected {
    pub id: OperationId,
    pub status: ExitStatus,
    /// The operation; or why what was captured is not recorded yet: the next use of the repository
    /// tries again. Of a session, the operation that stands for all of it, without changes of its own.
    pub operation: Result<Operation>,
    /// What the operations of a session did.
    pub tally: Tally,
    /// The filter of processes that still run: somebody has to answer for them, see
    /// [`super::go_on`].
    pub left: Option<OwnedFd>,
    /// These processes, by number and name.
    pub running: Vec<(u32, String)>,
    /// Bytes that deleting does not free, because they are too many to be packed; of a session 0.
    pub lasting: u64,
    /// What could not be kept, so that it was not allowed to go, and why.
    pub refused: BTreeMap<PathBuf, String>,
    /// Programs that did not get the rights of another user.
    pub raised: BTreeSet<PathBuf>,
}

/// How long processes that end with the command may take.
const GRACE: Duration = Duration::from_millis(150);

pub(super) fn captures(repo: &Repository) -> PathBuf {
    repo.cache().join("captures")
}

/// Returns true if the guard of an operation still captures: its lock is held.
pub fn is_live(repo: &Repository, operation: OperationId) -> bool {
    let lock = captures(repo).join(operation.to_string()).join("lock");
    lock.exists() && Lock::on(&lock, Sharing::Alone, Duration::ZERO).is_err()
}

/// Runs a command, keeping whatever it destroys. `prepare` gets the operation's id and returns the
/// command.
///
/// # Errors
/// The command was not run: it cannot be captured here, or there is no such program.
pub fn run(
    repo: &Repository,
    options: &RunOptions,
    prepare: impl FnOnce(OperationId) -> Command,
) -> Result<Protected> {
    let started = Instant::now();
    let head = head_of(repo, options)?;
    let budget = Budget {
        copied: options.max_copied,
        kept: options.max_kept,
    };
    let keeper = Keeper::new(repo, budget, options.unkept, &options.never, options.now);
    let mut command = prepare(head.id);
    let program = PathBuf::from(command.get_program());
    let ended = |status: &ExitStatus| {
        let elapsed = TimeDelta::from_std(started.elapsed()).unwrap_or_default();
        Ended {
            exit: status.code(),
            signal: signal_of(status),
            ..Ended::at(options.now + elapsed, elapsed)
        }
    };
    let done = match Ready::new(&mut command) {
        Err(error) => Err(Failed::Capture(error)),
        Ok(ready) => match options.session {
            true => whole_session(repo, (ready, &mut command), keeper, head, options, ended)?,
            false => one_operation(repo, (ready, &mut command), keeper, head, options, ended)?,
        },
    };
    done.map_err(|failed| match failed {
        Failed::Program(error) => Error::io("run", program, error),
        Failed::Capture(error) => Error::NotCaptured {
            path: program,
            reason: format!("its system calls cannot be seen: {error}"),
        },
    })
}

/// Runs a command that is one operation.
fn one_operation(
    repo: &Repository,
    (ready, command): (Ready, &mut Command),
    mut keeper: Keeper<'_>,
    head: Head,
    options: &RunOptions,
    ended: impl Fn(&ExitStatus) -> Ended,
) -> Result<std::result::Result<Protected, Failed>> {
    let place = captures(repo);
    let name = head.id.to_string();
    keeper.op.start(&place, head).context("write", &place)?;
    let (keeper, outcome) = ready.run(command, keeper, |_, _| {});
    let Some(mut keeper) = keeper else {
        if let Some(own) = OwnTree::left_in(&place, name.as_ref()) {
            let _ = own.remove();
        }
        let lost = || Failed::Capture(io::Error::other("the capture failed"));
        return Ok(Err(outcome.err().unwrap_or_else(lost)));
    };
    let op = std::mem::take(&mut keeper.op);
    let Some((head, files, mut taken)) = op.taken() else {
        return Err(Error::invalid("the capture has no journal", None));
    };
    let (status, left) = match outcome {
        Ok(done) => done,
        Err(failed) => {
            files.own.remove()?;
            return Ok(Err(failed));
        }
    };
    part_from_living(&taken);
    let lasting = taken.lasting(head.pack_bytes);
    let operation = sort(repo, &head, &mut taken, &options.never)
        .and_then(|sorted| write(repo, &head, sorted, &taken, ended(&status)));
    drop(files.lock);
    if operation.is_ok() {
        let _ = files.own.remove();
    }
    Ok(Ok(Protected {
        id: head.id,
        status,
        operation,
        tally: Tally::default(),
        running: running(left.as_ref()),
        left,
        lasting,
        refused: keeper.refused,
        raised: keeper.raised,
    }))
}

/// Runs a shell or an agent, of which each command is an operation.
fn whole_session<'k>(
    repo: &'k Repository,
    (ready, command): (Ready, &mut Command),
    keeper: Keeper<'k>,
    head: Head,
    options: &'k RunOptions,
    ended: impl Fn(&ExitStatus) -> Ended,
) -> Result<std::result::Result<Protected, Failed>> {
    let place = captures(repo);
    // As long as its lock is held, every bdr below knows that it is captured.
    let files = claimed(&place.join(head.id.to_string())).context("write", &place)?;
    let begin = begin_of_session(&head);
    repo.begin(&begin)?;
    let end = |ended: Ended| {
        let id = begin.id;
        let end = End {
            exit: ended.exit,
            signal: ended.signal,
            ..End::new(repo.id(), id, ended.now, ended.elapsed)
        };
        repo.end(&end)?;
        Ok(Operation::recorded(begin.clone(), Some(end)))
    };
    let (keeper, outcome, tally) = std::thread::scope(|scope| {
        let (to_recorder, recorder) = recorder();
        let builder = std::thread::Builder::new();
        let recording = builder.spawn_scoped(scope, move || recorder.run(repo, options.clock));
        let recording = match recording {
            Ok(recording) => recording,
            Err(error) => return (None, Err(Failed::Capture(error)), Tally::default()),
        };
        let start = |keeper: &mut Keeper<'k>, leader: u32| {
            let around = (&options.never[..], options.clock);
            let steps = Steps::new(leader);
            keeper.session = Some(Session::new(head, steps, &place, around, to_recorder));
        };
        let (mut keeper, outcome) = ready.run(command, keeper, start);
        let mut failed = 0;
        if let Some(keeper) = &mut keeper {
            keeper.reap();
            keeper.close_all();
            failed = keeper.session.take().map_or(0, |session| session.failed());
        }
        let mut tally = recording.join().unwrap_or_default();
        tally.failed += failed;
        (keeper, outcome, tally)
    });
    let done = match (outcome, keeper) {
        (Ok((status, left)), Some(keeper)) => Ok(Protected {
            id: begin.id,
            status,
            running: running(left.as_ref()),
            operation: end(ended(&status)),
            tally,
            left,
            lasting: 0,
            refused: keeper.refused,
            raised: keeper.raised,
        }),
        (Ok(_), None) => Err(Failed::Capture(io::Error::other("the capture failed"))),
        (Err(failed), _) => {
            end(Ended::at(options.now, TimeDelta::zero()))?;
            Err(failed)
        }
    };
    drop(files.lock);
    let _ = files.own.remove();
    Ok(done)
}

/// Returns the first line of the journal of a command that is about to start.
fn head_of(repo: &Repository, options: &RunOptions) -> Result<Head> {
    let redacted_text = |text: &String| repo.redacted_text(text.clone());
    Ok(Head {
        version: 1,
        repository: repo.id(),
        id: repo.next_operation(options.now)?,
        time: options.now,
        pid: std::process::id(),
        argv: redacted(repo, options.argv.clone()),
        cwd: RawName(options.cwd.clone().into_os_string()),
        label: options.label.as_ref().map(redacted_text),
        remote: options.remote.iter().map(redacted_text).collect(),
        host: options.host.clone(),
        pack_bytes: options.max_copied,
        session: None,
        chain: Vec::new(),
    })
}

/// Why a command did not run.
enum Failed {
    /// There is no such program, or it cannot be executed.
    Program(io::Error),
    /// The filter cannot be installed, or its notifications cannot be received.
    Capture(io::Error),
}

/// A command that is about to start under the filter.
struct Ready {
    waiting: Waiting,
    stop: UnixStream,
    stopped: UnixStream,
}

type Outcome = std::result::Result<(ExitStatus, Option<OwnedFd>), Failed>;

impl Ready {
    fn new(command: &mut Command) -> io::Result<Self> {
        let waiting = watch(command)?;
        waiting.patience(Duration::from_secs(10))?;
        let (stop, stopped) = UnixStream::pair()?;
        Ok(Self {
            waiting,
            stop,
            stopped,
        })
    }

    /// Starts the command and answers until it has ended. `start` is called with the process of the
    /// command before the first answer. Returns the listener if some of its processes still run; the
    /// keeper is lost only with a thread that panicked.
    fn run<'k>(
        self,
        command: &mut Command,
        mut keeper: Keeper<'k>,
        start: impl FnOnce(&mut Keeper<'k>, u32) + Send,
    ) -> (Option<Keeper<'k>>, Outcome) {
        let Self {
            waiting,
            stop,
            stopped,
        } = self;
        let is_watched = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let noted = &is_watched;
            let (over, ends) = channel::<()>();
            let builder = std::thread::Builder::new();
            let answers = builder.spawn_scoped(scope, move || {
                let answering = || {
                    let listener = waiting.listener()?;
                    noted.store(true, Ordering::Release);
                    start(&mut keeper, listener.leader);
                    answer_all(&listener, &mut keeper, stopped.as_fd())?;
                    let left = has_users(&listener);
                    Ok::<_, io::Error>(left.then(|| OwnedFd::from(listener)))
                };
                let done = answering();
                drop(over);
                (keeper, done)
            });
            let answers = match answers {
                Ok(answers) => answers,
                // Nothing was started, and nobody would answer.
                Err(error) => return (None, Err(Failed::Capture(error))),
            };
            let status = run_child(command);
            // It ends by itself once the last process has.
            let _ = ends.recv_timeout(GRACE);
            drop(stop);
            match answers.join() {
                Err(_) => {
                    let error = io::Error::other("the capture failed");
                    (None, Err(Failed::Capture(error)))
                }
                Ok((keeper, done)) => {
                    let outcome = match (status, done) {
                        (Ok(status), Ok(left)) => Ok((status, left)),
                        // It had the filter, so what failed is to become the program.
                        (Err(error), Ok(_)) => Err(Failed::Program(error)),
                        (Err(error), Err(_)) if is_watched.load(Ordering::Acquire) => {
                            Err(Failed::Program(error))
                        }
                        (_, Err(error)) => Err(Failed::Capture(error)),
                    };
                    (Some(keeper), outcome)
                }
            }
        })
    }
}

/// Why there is nothing to answer for now.
pub(super) enum Until {
    /// The last process has ended.
    Gone,
    Told,
}

/// Answers until the last process has ended, or `told` is readable.
pub(super) fn answer_all(
    listener: &Listener,
    keeper: &mut Keeper<'_>,
    told: BorrowedFd<'_>,
) -> io::Result<Until> {
    loop {
        let next = {
            let mut others = vec![told];
            if let Some(session) = &keeper.session {
                others.extend(session.steps().ends().into_iter().map(|(_, end)| end));
            }
            listener.next(&others, keeper.patience())?
        };
        match next {
            Next::Call(call) => {
                keeper.answer(listener, &call);
                keeper.sync_if_due();
            }
            Next::Gone => return Ok(Until::Gone),
            Next::Other(0) => return Ok(Until::Told),
            Next::Other(_) => keeper.reap(),
            Next::Quiet => keeper.quiet(),
        }
    }
}

/// Returns the processes that the command left, if it left any.
fn running(left: Option<&OwnedFd>) -> Vec<(u32, String)> {
    left.map_or_else(Vec::new, |_| by_filter())
}

/// Returns true if a process still runs under the filter.
fn has_users(listener: &Listener) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let now = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let _ = poll(&mut fds, Some(&now));
    !fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
