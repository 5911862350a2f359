//! What a captured command left running goes on being captured, by a process of its own.
//!
//! The command's operation is recorded when the command ends, so that it can be undone at once. What
//! its last processes do from then on becomes further operations, which say whose they are. Each
//! ends after a pause, with the last process, or as soon as somebody looks: whoever does asks first,
//! through a socket beside the lock, and waits for the answer.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::journal::Head;
use super::keep::{Budget, Keeper, Unkept};
use super::pending::{Files, claimed};
use super::run::{Until, answer_all, captures};
use super::session::{Session, recorder};
use super::steps::Steps;
use crate::base::error::{IoContext as _, Result};
use crate::base::id::OperationId;
use crate::disk::calls::{Listener, Next};
use crate::disk::fsutil;
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::oplog::Begin;

/// The socket of who captures what is left of an operation.
const ASK: &str = "ask";

/// How long who looks waits for an answer: it takes as long as recording an operation.
const PATIENCE: Duration = Duration::from_secs(10);

/// How what is left of a command is captured: as the command was.
#[derive(Debug, Clone)]
pub struct LeftOptions {
    pub operation: OperationId,
    pub host: String,
    pub now: DateTime<Utc>,
    pub clock: fn() -> DateTime<Utc>,
    pub never: Vec<PathBuf>,
    pub max_copied: u64,
    pub max_kept: u64,
    pub unkept: Unkept,
}

/// Answers for processes that a captured command left running, until the last has ended, and keeps
/// what they destroy.
///
/// # Errors
/// Nothing could be kept, or no longer: the processes still wait for answers, see [`linger`].
pub fn go_on(listener: &Listener, repo: &Repository, options: &LeftOptions) -> Result<()> {
    let begin: Begin = repo.read_record(&layout::begin(options.operation))?;
    let is_session = begin.session == Some(begin.id);
    let head = Head {
        version: 1,
        repository: repo.id(),
        id: begin.id,
        time: begin.time,
        pid: std::process::id(),
        argv: begin.argv,
        cwd: begin.cwd,
        label: begin.label,
        remote: Vec::new(),
        host: options.host.clone(),
        pack_bytes: options.max_copied,
        session: None,
        chain: Vec::new(),
    };
    let place = captures(repo);
    // As long as its lock is held, every bdr below knows that it is captured. Without it, and without
    // somebody who can ask, everything is still recorded, in its own time.
    let files = claimed(&place.join(begin.id.to_string())).ok();
    let asks = files.as_ref().and_then(|files| asks_of(files).ok());
    let (_keeps_quiet, nobody) = UnixStream::pair().context("make", "a socket")?;
    let told = asks
        .as_ref()
        .map_or_else(|| nobody.as_fd(), |asks| asks.as_fd());
    let budget = Budget {
        copied: options.max_copied,
        kept: options.max_kept,
    };
    let mut keeper = Keeper::new(repo, budget, options.unkept, &options.never, options.now);
    let asking = (told, asks.as_ref());
    let done = std::thread::scope(|scope| {
        let (to_recorder, recorder) = recorder();
        let builder = std::thread::Builder::new();
        builder.spawn_scoped(scope, move || recorder.run(repo, options.clock))?;
        let around = (&options.never[..], options.clock);
        let session = Session::new(head, Steps::of_all(), &place, around, to_recorder);
        keeper.session = Some(session.taken_for_one(!is_session));
        repo.storage().let_go();
        // Whatever goes wrong there, the processes wait for somebody who answers.
        let answers = std::thread::Builder::new().spawn_scoped(scope, move || {
            let done = answer_and_record(listener, &mut keeper, asking);
            keeper.close_all();
            done
        })?;
        let failed = |_| Err(io::Error::other("the capture failed"));
        answers.join().unwrap_or_else(failed)
    });
    if let Some(files) = files {
        drop(files.lock);
        let _ = files.own.remove();
    }
    done.context("answer", "a captured process")
}

fn asks_of(files: &Files) -> io::Result<UnixListener> {
    let asks = fsutil::socket::listen(files.own.path(), ASK)?;
    asks.set_nonblocking(true)?;
    Ok(asks)
}

fn answer_and_record(
    listener: &Listener,
    keeper: &mut Keeper<'_>,
    (told, asks): (BorrowedFd<'_>, Option<&UnixListener>),
) -> io::Result<()> {
    while let Until::Told = answer_all(listener, keeper, told)? {
        let asking = asks.into_iter().flat_map(UnixListener::incoming);
        let asking: Vec<UnixStream> = asking.map_while(io::Result::ok).collect();
        keeper.close_all();
        keeper.flush();
        drop(asking);
    }
    Ok(())
}

/// Answers for processes without keeping anything: without an answer, all their calls would fail.
///
/// # Errors
/// `listener` is none.
pub fn linger(listener: &Listener) -> io::Result<()> {
    let (_stop, stopped) = UnixStream::pair()?;
    while let Next::Call(call) = listener.next(&[stopped.as_fd()], None)? {
        listener.allow(call.id);
    }
    Ok(())
}

/// Takes over the filter of processes that still run.
pub fn listener(fd: OwnedFd) -> Listener {
    Listener::from(fd)
}

/// Has everything recorded that processes left by captured commands have done until now.
pub fn record_left(repo: &Repository) {
    let place = captures(repo);
    for entry in fsutil::read_dir(&place).into_iter().flatten().flatten() {
        let Ok(mut asked) = fsutil::socket::connect(&entry.path(), ASK) else {
            continue;
        };
        let _ = asked.set_read_timeout(Some(PATIENCE));
        // It says nothing, and ends when all is recorded.
        let _ = asked.read(&mut [0]);
    }
}
