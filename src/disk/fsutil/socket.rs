//! Sockets with a name in a directory. The directory may have a path of any length: a socket's own
//! name has room for some hundred bytes only.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Returns a handle to a directory, and a short path through it.
fn short(dir: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Makes a socket that others can connect to.
///
/// # Errors
/// There is one of that name, or the file system has no sockets.
pub fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let (_dir, path) = short(dir, name)?;
    UnixListener::bind(path)
}

/// Connects to a socket.
///
/// # Errors
/// There is none, or nobody listens any more.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_dir, path) = short(dir, name)?;
    UnixStream::connect(path)
}
