//! Which command of a session a call belongs to.
//!
//! A session is a shell or an agent that runs for hours, and its history is that of the commands it
//! starts. Whoever starts commands is a *host*: the program of the session, and agents and
//! interactive shells below it. What a host starts is a *step*, with everything that it starts in
//! turn. What a host does itself is a step of its own.
//!
//! Processes are found by their parents, in `/proc`. One that outlives its parents counts by itself.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::model::hosts;

/// How many callers are remembered. Who is forgotten is found again.
const MAX_KNOWN: usize = 65_536;

/// Processes from one up to the session's program, at most.
const MAX_ABOVE: usize = 256;

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The process that the step began with.
    pub(super) step: u32,
    /// It is bdr, which records what it does itself.
    pub(super) is_bdr: bool,
}

/// A process that steps begin with.
struct First {
    process: OwnedFd,
    /// Where it was when it was first seen.
    cwd: PathBuf,
    /// What it became, if that was seen.
    argv: Option<Vec<Vec<u8>>>,
}

pub(super) struct Steps {
    leader: u32,
    /// All calls are one step, the leader's: who makes them has no parents left to tell.
    is_one: bool,
    hosts: HashSet<u32>,
    /// By thread. A number that is used again while its step lasts is taken for the old thread.
    known: HashMap<u32, Seen>,
    first: HashMap<u32, First>,
    /// bdr, by device and inode.
    own_program: Option<(u64, u64)>,
}

/// How a step is told.
pub(super) struct Told {
    pub(super) argv: Vec<Vec<u8>>,
    pub(super) cwd: PathBuf,
    /// The programs from the session's to the one that makes the call.
    pub(super) chain: Vec<Vec<u8>>,
}

impl Steps {
    pub(super) fn new(leader: u32) -> Self {
        Self {
            leader,
            is_one: false,
            hosts: HashSet::from([leader]),
            known: HashMap::new(),
            first: HashMap::new(),
            own_program: program_of(std::process::id()),
        }
    }

    /// Takes all processes for one.
    pub(super) fn of_all() -> Self {
        Self {
            is_one: true,
            ..Self::new(0)
        }
    }

    pub(super) fn leader(&self) -> u32 {
        self.leader
    }

    pub(super) fn is_host(&self, process: u32) -> bool {
        self.hosts.contains(&process)
    }

    /// Returns who makes a call.
    pub(super) fn of(&mut self, thread: u32) -> Seen {
        if self.is_one {
            return Seen {
                step: self.leader,
                is_bdr: self.is_bdr(thread),
            };
        }
        if let Some(seen) = self.known.get(&thread) {
            return *seen;
        }
        let above = above(thread);
        let seen = Seen {
            step: self.step_among(&above),
            is_bdr: self.is_bdr(thread),
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        // Not before anybody who ends it can be told of its end.
        let watched = self.first.contains_key(&seen.step) || self.watch(seen.step);
        if watched || self.hosts.contains(&seen.step) {
            self.known.insert(thread, seen);
        }
        seen
    }

    fn is_bdr(&self, thread: u32) -> bool {
        self.own_program.is_some() && program_of(thread) == self.own_program
    }

    /// Returns the process with which the step of a process begins, given that and its parents.
    fn step_among(&self, above: &[u32]) -> u32 {
        let top = above.iter().position(|process| *process == self.leader);
        let Some(top) = top else {
            // What outlived its parents.
            return above.last().copied().unwrap_or(0);
        };
        let mut below = above[..=top].iter().rev();
        let mut step = self.leader;
        for process in &mut below {
            step = *process;
            if !self.hosts.contains(process) {
                break;
            }
        }
        step
    }

    fn watch(&mut self, step: u32) -> bool {
        let number = i32::try_from(step).ok().and_then(Pid::from_raw);
        let process = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
        let is_there = process.is_some();
        if let Some(process) = process {
            let first = First {
                process,
                cwd: fs::read_link(proc(step, "cwd")).unwrap_or_default(),
                argv: None,
            };
            self.first.insert(step, first);
        }
        is_there
    }

    /// Notes that a thread is about to become another program. Returns true if that is bdr.
    pub(super) fn becomes(
        &mut self,
        thread: u32,
        file: Option<(u64, u64)>,
        argv: Vec<Vec<u8>>,
    ) -> bool {
        let is_bdr = self.own_program.is_some() && file == self.own_program;
        if self.is_one {
            return is_bdr;
        }
        let above = above(thread);
        let step = self.step_among(&above);
        let process = above.first().copied().unwrap_or(thread);
        self.known.remove(&thread);
        self.known.remove(&process);
        if hosts::is_agent(&argv) {
            // Whatever started it, such as npx, is part of the session too.
            let top = above.iter().position(|process| *process == self.leader);
            for process in &above[..top.map_or(1.min(above.len()), |top| top + 1)] {
                self.make_host(*process);
            }
        } else if process == step && hosts::is_interactive(&argv, is_terminal(thread)) {
            self.make_host(process);
        }
        if process == step && (self.first.contains_key(&step) || self.watch(step)) {
            // The first program counts: `bash -c "rm x"` becomes rm.
            if let Some(first) = self.first.get_mut(&step) {
                first.argv.get_or_insert(argv);
            }
        }
        is_bdr
    }

    fn make_host(&mut self, process: u32) {
        if self.hosts.insert(process) {
            self.known.clear();
            self.watch(process);
        }
    }

    /// Returns how the step of a call is told.
    pub(super) fn told(&self, step: u32, thread: u32) -> Told {
        let mut chain = above(thread);
        if self.is_one {
            // Above are those who adopted it.
            chain.truncate(1);
        }
        let top = chain.iter().position(|process| *process == self.leader);
        chain.truncate(top.map_or(chain.len(), |top| top + 1));
        let step = match self.is_one {
            true => chain.first().copied().unwrap_or(thread),
            false => step,
        };
        let first = self.first.get(&step);
        let argv = first.and_then(|first| first.argv.clone());
        let argv = argv.unwrap_or_else(|| {
            let all = fs::read(proc(step, "cmdline")).unwrap_or_default();
            let all = all.strip_suffix(b"\0").unwrap_or(&all);
            all.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
        });
        let name = |process: &u32| {
            let mut name = fs::read(proc(*process, "comm")).ok()?;
            name.pop();
            Some(name)
        };
        Told {
            argv,
            cwd: match first {
                Some(first) if !self.hosts.contains(&step) => first.cwd.clone(),
                // A shell goes from place to place.
                _ => fs::read_link(proc(step, "cwd")).unwrap_or_default(),
            },
            chain: chain.iter().rev().filter_map(name).collect(),
        }
    }

    /// Returns something to wait on for the end of each step, and whose it is.
    pub(super) fn ends(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        let first = self.first.iter();
        first
            .map(|(step, first)| (*step, first.process.as_fd()))
            .collect()
    }

    /// Returns the steps whose first process has ended since the last look.
    pub(super) fn ended(&mut self) -> Vec<u32> {
        let ends = self.ends();
        let mut fds: Vec<PollFd<'_>> = ends
            .iter()
            .map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if fds.is_empty() || poll(&mut fds, Some(&now)).is_ok_and(|n| n == 0) {
            return Vec::new();
        }
        let over = ends
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        let over: Vec<u32> = over.map(|((step, _), _)| *step).collect();
        for step in &over {
            self.first.remove(step);
            self.hosts.remove(step);
            self.known.retain(|_, seen| seen.step != *step);
        }
        over
    }
}

fn proc(process: u32, rest: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{rest}"))
}

/// Returns which file a process runs.
fn program_of(process: u32) -> Option<(u64, u64)> {
    let found = rustix::fs::stat(proc(process, "exe")).ok()?;
    Some((found.st_dev, found.st_ino))
}

/// Returns true if a terminal is what a process reads.
fn is_terminal(process: u32) -> bool {
    let found = fs::read_link(proc(process, "fd/0")).unwrap_or_default();
    found.starts_with("/dev/pts")
        || found.starts_with("/dev/tty")
        || found == Path::new("/dev/console")
}

/// Returns the process of a thread, its parent, and so on, without the first process of the system
/// and this one.
fn above(thread: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let status = fs::read_to_string(proc(thread, "status")).unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse::<u32>().ok())
    };
    let own = std::process::id();
    found.extend(number("Tgid:"));
    let mut next = number("PPid:");
    while let Some(process) = next.filter(|process| *process > 1 && *process != own) {
        if found.len() >= MAX_ABOVE {
            break;
        }
        found.push(process);
        let stat = fs::read(proc(process, "stat")).unwrap_or_default();
        // The name in parentheses may contain anything.
        let end = memchr::memrchr(b')', &stat).map_or(stat.len(), |at| at + 1);
        let rest = String::from_utf8_lossy(&stat[end..]);
        next = rest
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok());
    }
    found
}
