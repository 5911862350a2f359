//! Locks on files, between processes.
//!
//! The system releases them with the process, whatever happens to it; so a lock file that is left over means nothing.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

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
pub struct Lock(File);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(5);

impl Lock {
    /// Takes the lock on an open file; tries for up to `patience`, at least once.
    ///
    /// # Errors
    /// `WouldBlock` if others hold it all that time; anything else says that the file system has no locks, each in its own words.
    pub fn take(file: File, sharing: Sharing, patience: Duration) -> io::Result<Self> {
        let started = Instant::now();
        loop {
            let tried = match sharing {
                Sharing::Shared => file.try_lock_shared(),
                Sharing::Alone => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
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
        // Closing would do, if no child that is just being started had the file open as well.
        let _ = self.0.unlock();
    }
}
