//! Runs a command under capture.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rustix::event::{PollFd, PollFlags, poll};

use super::journal::{Head, Journal};
use super::keep::{Budget, Keeper};
use super::record::{Ended, record};
use super::sorted::Taken;
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::OperationId;
use crate::base::path::RawName;
use crate::disk::calls::{Listener, watch};
use crate::disk::fsutil::{self, Lock, OwnTree, Sharing};
use crate::protect::guard::{redacted, run_child, signal_of};
use crate::repo::Repository;
use crate::repo::oplog::Operation;

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
    /// Absolute paths that are never captured, in addition to the repository's own.
    pub never: Vec<PathBuf>,
    /// Bytes that may be copied, because no link protects them.
    pub max_copied: u64,
    /// Bytes that may be kept in any way.
    pub max_kept: u64,
}

/// A captured command that has ended.
pub struct Protected {
    pub status: ExitStatus,
    /// The operation; or why what was captured is not recorded yet: the next use of the repository
    /// tries again.
    pub operation: Result<Operation>,
    /// The filter of processes that still run: somebody has to answer for them, see [`linger`].
    pub left: Option<OwnedFd>,
}

/// How long processes that end with the command may take.
const GRACE: Duration = Duration::from_millis(150);

pub(super) fn captures(repo: &Repository) -> PathBuf {
    repo.cache().join("captures")
}

/// Returns true if the guard of an operation still captures: its lock is held.
pub fn is_live(repo: &Repository, operation: OperationId) -> bool {
    let dir = captures(repo).join(operation.to_string());
    let free = || Lock::on(&dir.join("lock"), Sharing::Alone, Duration::ZERO).is_ok();
    dir.join("journal").exists() && !free()
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
    let id = head.id;
    let place = captures(repo);
    fsutil::create_dir_private(&place)?;
    let own = OwnTree::create(&place.join(id.to_string()))?;
    let lock = own.path().join("lock");
    // Somebody may just be looking whether it is held.
    let lock = Lock::on(&lock, Sharing::Alone, GRACE).context("lock", lock)?;
    let path = own.path().join("journal");
    let journal = Journal::create(&path, &head).context("write", &path)?;
    let budget = Budget {
        copied: options.max_copied,
        kept: options.max_kept,
    };
    let cwd = fsutil::canonicalize(&options.cwd).unwrap_or_else(|_| options.cwd.clone());
    let keeper = Keeper::new(repo, journal, budget, &options.never, &cwd, options.now);
    let mut command = prepare(id);
    let program = PathBuf::from(command.get_program());
    let (status, keeper, left) = match watched(&mut command, keeper) {
        Ok(done) => done,
        Err(failed) => {
            let _ = own.remove();
            return Err(match failed {
                Failed::Program(error) => Error::io("run", program, error),
                Failed::Capture(error) => Error::NotCaptured {
                    path: program,
                    reason: format!("its system calls cannot be seen: {error}"),
                },
            });
        }
    };
    let elapsed = TimeDelta::from_std(started.elapsed()).unwrap_or_default();
    let ended = Ended {
        exit: status.code(),
        signal: signal_of(&status),
        elapsed,
        now: options.now + elapsed,
    };
    let copies = keeper.sets.iter().enumerate();
    let copies = copies.flat_map(|(set, kept)| kept.copies.iter().map(move |file| (set, *file)));
    let taken = Taken {
        copies: copies.collect(),
        cwd,
        before: keeper.before,
        sets: keeper
            .sets
            .into_iter()
            .map(|kept| (kept.set, kept.files))
            .collect(),
        foreign: keeper.foreign.into_iter().collect(),
        unseen: keeper.unseen,
    };
    let operation = record(repo, &head, taken, &options.never, ended);
    drop(lock);
    if operation.is_ok() {
        let _ = own.remove();
    }
    Ok(Protected {
        status,
        operation,
        left,
    })
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
    })
}

/// Why a command did not run.
enum Failed {
    /// There is no such program, or it cannot be executed.
    Program(io::Error),
    /// The filter cannot be installed, or its notifications cannot be received.
    Capture(io::Error),
}

/// Starts a command under the filter and answers until it has ended. Returns the listener if some of
/// its processes still run.
fn watched<'k>(
    command: &mut Command,
    mut keeper: Keeper<'k>,
) -> std::result::Result<(ExitStatus, Keeper<'k>, Option<OwnedFd>), Failed> {
    let mut ready = || {
        let waiting = watch(command)?;
        waiting.patience(Duration::from_secs(10))?;
        Ok::<_, io::Error>((waiting, UnixStream::pair()?))
    };
    let (waiting, (stop, stopped)) = ready().map_err(Failed::Capture)?;
    let is_watched = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let noted = &is_watched;
        let answering = move || {
            let listener = waiting.listener()?;
            noted.store(true, Ordering::Release);
            while let Some(call) = listener.next(std::os::fd::AsFd::as_fd(&stopped))? {
                keeper.answer(&listener, &call);
            }
            let left = has_users(&listener);
            Ok::<_, io::Error>((keeper, left.then(|| OwnedFd::from(listener))))
        };
        let builder = std::thread::Builder::new();
        let answers = builder
            .spawn_scoped(scope, answering)
            .map_err(Failed::Capture)?;
        let status = run_child(command);
        // It ends by itself once the last process has.
        let until = Instant::now() + GRACE;
        while !answers.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(stop);
        let done = answers.join();
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the capture failed")));
        match (status, done) {
            (Ok(status), Ok((keeper, left))) => Ok((status, keeper, left)),
            // It had the filter, so what failed is to become the program.
            (Err(error), Ok(_)) => Err(Failed::Program(error)),
            (Err(error), Err(_)) if is_watched.load(Ordering::Acquire) => {
                Err(Failed::Program(error))
            }
            (_, Err(error)) => Err(Failed::Capture(error)),
        }
    })
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

/// Answers for processes that a captured command left running, until the last has ended. Nothing is
/// kept any more: without an answer, all their calls would fail.
///
/// # Errors
/// `listener` is none.
pub fn linger(listener: OwnedFd) -> io::Result<()> {
    let listener = Listener::from(listener);
    let (_stop, stopped) = UnixStream::pair()?;
    while let Some(call) = listener.next(std::os::fd::AsFd::as_fd(&stopped))? {
        listener.allow(call.id);
    }
    Ok(())
}

/// Says whether commands can be captured here, by capturing one: that a filter can be installed does
/// not mean that its notifications arrive. `program` is one that removes the file that is its last
/// argument; `scratch` is a directory for it.
///
/// # Errors
/// Says why not.
pub fn usable(program: &Path, scratch: &Path) -> std::result::Result<(), String> {
    let file = scratch.join(format!("probe-{}", std::process::id()));
    fsutil::write_derived(&file, b"x").map_err(|error| error.to_string())?;
    let tried = try_it(program, &file);
    let _ = fsutil::remove_file(&file);
    tried
}

fn try_it(program: &Path, file: &Path) -> std::result::Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let mut command = Command::new(program);
    command.arg("-f").arg("--").arg(file);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let waiting = watch(&mut command).map_err(said)?;
    waiting.patience(Duration::from_secs(2)).map_err(said)?;
    let (stop, stopped) = UnixStream::pair().map_err(said)?;
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let listener = waiting.listener()?;
            let mut saw = false;
            while let Some(call) = listener.next(std::os::fd::AsFd::as_fd(&stopped))? {
                let mut caller = crate::disk::calls::Caller::new(&call);
                let number = u32::try_from(call.number).unwrap_or(u32::MAX);
                if let Some(crate::disk::calls::Call::Remove { place }) =
                    crate::disk::calls::call_of(call.arch, number)
                {
                    let spot = caller.spot(place, false)?;
                    saw |= spot.is_some_and(|spot| {
                        spot.path.file_name() == file.file_name()
                            && matches!(spot.stat(), Ok(Some(_)))
                    });
                }
                listener.allow(call.id);
            }
            Ok::<_, io::Error>(saw)
        });
        let status = command.status();
        drop(stop);
        let saw = answers
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("it failed")));
        match (status, saw) {
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
            (Ok(_), Ok(false)) => Err("what a program does does not arrive".to_owned()),
            (Ok(status), Ok(true)) => match status.success() && !file.exists() {
                true => Ok(()),
                false => Err("a program fails that works without it".to_owned()),
            },
        }
    })
}
