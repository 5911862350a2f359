//! The kernel's side: installing the filter, receiving and answering notifications.
#![expect(
    unsafe_code,
    reason = "seccomp notifications have no safe form: a prctl, a system call and three ioctls whose \
              structures are defined here as in linux/seccomp.h"
)]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::{abi, mounts};

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification {
    /// Names this notification until it is answered.
    pub id: u64,
    /// The thread that made the call.
    pub thread: u32,
    flags: u32,
    pub number: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    instruction: u64,
    pub args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: u64 = 0xC050_2100;
const SEND: u64 = 0xC018_2101;
const IS_VALID: u64 = 0x4008_2102;
const SET_FLAGS: u64 = 0x4008_2104;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: the answer wakes the caller on this processor, because
/// waking it on another one costs ten times as much.
const WAKE_HERE: u64 = 1;
const CONTINUE: u32 = 1;

const SET_MODE_FILTER: libc::c_ulong = 1;
const NEW_LISTENER: libc::c_ulong = 1 << 3;
/// Only a signal that kills ends the wait for an answer. Otherwise programs that interrupt
/// themselves all the time, as those written in Go do, would start the call again and again.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// The parent's end of a command that is about to start under the filter.
pub struct Waiting {
    socket: UnixStream,
}

/// Makes a command install the filter on itself when it starts. Its listener is in
/// [`Waiting::listener`], which has to be called by another thread: the start waits for it.
///
/// # Errors
/// There is no filter for this processor, or no socket.
pub fn watch(command: &mut Command) -> io::Result<Waiting> {
    if !abi::is_known() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    mounts::remember();
    let (socket, theirs) = UnixStream::pair()?;
    let filter = abi::filter();
    // Root may keep set-user-ID programs.
    let privileged = rustix::process::geteuid().is_root();
    // SAFETY: the closure runs between fork and exec, where only calls are allowed that are safe in a
    // signal handler. It makes system calls and nothing else: no allocation, no lock, no panic.
    unsafe {
        command.pre_exec(move || install(&filter, &theirs, privileged));
    }
    Ok(Waiting { socket })
}

/// Installs the filter on the calling thread and hands over the listener.
fn install(filter: &[abi::Instruction], socket: &UnixStream, privileged: bool) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let with = |flags: libc::c_ulong| {
        // SAFETY: `program` and the instructions that it points to live until the call returns; the
        // kernel only reads them. `Instruction` has the layout of `struct sock_filter`.
        unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        }
    };
    let forbid_new_privileges = || {
        // SAFETY: no pointers are passed.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }
    };
    if !privileged && forbid_new_privileges() != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut listener = with(NEW_LISTENER | WAIT_KILLABLE);
    if listener < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 5.19.
        listener = with(NEW_LISTENER);
    }
    if listener < 0 && privileged {
        // In a container root may have no CAP_SYS_ADMIN.
        if forbid_new_privileges() != 0 {
            return Err(io::Error::last_os_error());
        }
        listener = with(NEW_LISTENER);
    }
    let Ok(listener) = i32::try_from(listener) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut message = [0; 8];
    message[..4].copy_from_slice(&listener.to_ne_bytes());
    message[4..].copy_from_slice(&std::process::id().to_ne_bytes());
    let mut socket = socket;
    socket.write_all(&message)?;
    let mut taken = [0];
    socket.read_exact(&mut taken)?;
    match taken {
        [1] => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Makes a command start detached: in a session without a terminal, and with no open files but its
/// streams. What a shell gave this process, such as a pipe or a lock, is not for a process that
/// stays.
pub fn detach(command: &mut Command) {
    /// `CLOSE_RANGE_CLOEXEC`: std still needs some of them until then.
    const ON_EXEC: libc::c_ulong = 4;
    let detached = || {
        // It fails if it is the first of a session already.
        let _ = rustix::process::setsid();
        // SAFETY: the arguments are numbers. Before Linux 5.11 it fails, and they stay open.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_ulong::from(u32::MAX),
                ON_EXEC,
            );
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and nothing else.
    unsafe {
        command.pre_exec(detached);
    }
}

impl Waiting {
    /// Takes the listener over from the starting command. Returns once the command has been told to
    /// go on.
    ///
    /// # Errors
    /// The command did not start, or its listener cannot be had: it does not run.
    pub fn listener(mut self) -> io::Result<Listener> {
        let mut message = [0; 8];
        self.socket.read_exact(&mut message)?;
        let taken = taken_from(message);
        self.socket.write_all(&[u8::from(taken.is_ok())])?;
        let fd = taken?;
        // Linux 6.6 or newer; without it everything works, more slowly.
        // SAFETY: the argument is a number, not a pointer.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), SET_FLAGS as _, WAKE_HERE) };
        let [.., a, b, c, d] = message;
        Ok(Listener {
            fd,
            leader: u32::from_ne_bytes([a, b, c, d]),
        })
    }

    /// Waits at most this long for the command to start.
    ///
    /// # Errors
    /// The socket cannot be set so.
    pub fn patience(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }
}

fn taken_from(message: [u8; 8]) -> io::Result<OwnedFd> {
    let [a, b, c, d, rest @ ..] = message;
    let number = i32::from_ne_bytes([a, b, c, d]);
    let process = i32::from_ne_bytes(rest);
    let process = rustix::process::Pid::from_raw(process).ok_or(io::ErrorKind::NotFound)?;
    let process = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let flags = rustix::process::PidfdGetfdFlags::empty();
    Ok(rustix::process::pidfd_getfd(&process, number, flags)?)
}

/// Receives notifications.
pub struct Listener {
    fd: OwnedFd,
    /// The process that installed the filter; 0 if it is not known any more.
    pub leader: u32,
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, leader: 0 }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.fd
    }
}

impl Listener {
    /// Waits for the next call, or until something else happens: one of `others` becomes readable, or
    /// the time is over.
    ///
    /// # Errors
    /// The kernel refuses, which it should not.
    pub fn next(&self, others: &[BorrowedFd<'_>], patience: Option<Duration>) -> io::Result<Next> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            let mut fds = vec![PollFd::new(&self.fd, PollFlags::IN)];
            let others = others.iter().copied();
            fds.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| rustix::time::Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Ok(Next::Quiet),
                other => other?,
            };
            let listener = fds[0].revents();
            if listener.contains(PollFlags::IN) {
                if let Some(found) = self.receive()? {
                    return Ok(Next::Call(found));
                }
            } else if listener.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(Next::Gone);
            } else if let Some(at) = fds[1..].iter().position(|fd| !fd.revents().is_empty()) {
                return Ok(Next::Other(at));
            }
        }
    }

    /// Returns `None` if the caller is gone.
    fn receive(&self) -> io::Result<Option<Notification>> {
        // The kernel wants it zeroed.
        let mut found = Notification::default();
        // SAFETY: `found` has the layout and size of `struct seccomp_notif`, which is what this ioctl
        // fills in.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), RECEIVE as _, &raw mut found) };
        if done == 0 {
            return Ok(Some(found));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        }
    }

    /// Returns true if the caller still waits: what was read of it belongs to the call.
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the argument points to a number, which the ioctl reads.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), IS_VALID as _, &raw const id) == 0 }
    }

    /// Lets a call happen.
    pub fn allow(&self, id: u64) {
        self.answer(&Answer {
            id,
            value: 0,
            error: 0,
            flags: CONTINUE,
        });
    }

    /// Makes a call fail with "operation not permitted".
    pub fn refuse(&self, id: u64) {
        self.answer(&Answer {
            id,
            value: 0,
            error: -libc::EPERM,
            flags: 0,
        });
    }

    fn answer(&self, answer: &Answer) {
        // SAFETY: `answer` has the layout of `struct seccomp_notif_resp`, which this ioctl reads. It
        // fails only if the caller is gone.
        let _ = unsafe { libc::ioctl(self.fd.as_raw_fd(), SEND as _, std::ptr::from_ref(answer)) };
    }
}

/// What a [`Listener`] waited for.
pub enum Next {
    Call(Notification),
    /// Every process under the filter has ended.
    Gone,
    /// One of the others, by number.
    Other(usize),
    /// The time is over.
    Quiet,
}

/// Reads from the memory of a process; the caller's own is not touched.
///
/// # Errors
/// The process is gone or may not be read, or this kernel cannot do it.
pub(super) fn read_memory(process: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let address = usize::try_from(address).map_err(io::Error::other)?;
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address),
        iov_len: buffer.len(),
    };
    // SAFETY: `local` describes `buffer`, which lives and is ours until the call returns; the address
    // in `remote` belongs to the other process, and the kernel checks it.
    let n =
        unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
