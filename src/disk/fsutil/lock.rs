//! Locks on files, between processes.
//!
//! The system releases them with the process, whatever happens to it; so a lock file that is left over means nothing.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use fd_lock::RwLock;

/// Who else may hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Others who share it.
    Shared,
    /// Nobody.
    Alone,
}

/// A lock, held until this is dropped.
#[derive(Debug)]
pub struct Lock(RwLock<File>);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(5);

impl Lock {
    /// Takes the lock on an open file; tries for up to `patience`, at least once.
    ///
    /// # Errors
    /// `WouldBlock` if others hold it all that time; anything else says that the file system has no locks, each in its own words.
    pub fn take(file: File, sharing: Sharing, patience: Duration) -> io::Result<Self> {
        let started = Instant::now();
        let mut lock = RwLock::new(file);
        loop {
            // The guards of the library borrow the lock, and a lock is handed around here: it is held by the open file, and given back below.
            let tried = match sharing {
                Sharing::Shared => lock.try_read().map(std::mem::forget),
                Sharing::Alone => lock.try_write().map(std::mem::forget),
            };
            match tried {
                Ok(()) => return Ok(Self(lock)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if started.elapsed() >= patience => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes the lock on a file, which is made if it is not there.
    ///
    /// # Errors
    /// As [`Lock::take`], and if the file cannot be made.
    pub fn on(path: &Path, sharing: Sharing, patience: Duration) -> io::Result<Self> {
        Self::take(super::open_lock(path)?, sharing, patience)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, if no child that is just being started had the file open as well. Who holds a lock can share it with itself, and
        // the end of that guard unlocks the file.
        drop(self.0.try_read());
    }
}
