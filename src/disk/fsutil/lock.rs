//! Locks on files, between processes.
//!
//! The system releases them when a process ends, however it ends; so a leftover lock file means
//! nothing.

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

/// The wait between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

impl Lock {
    /// Locks an open file; tries for up to `patience`, at least once.
    ///
    /// # Errors
    /// `WouldBlock` if others hold it all that time. Any other error means that the file system has
    /// no locks; each reports that differently.
    pub fn take(file: File, sharing: Sharing, patience: Duration) -> io::Result<Self> {
        let started = Instant::now();
        let mut lock = RwLock::new(file);
        loop {
            // The library's guards borrow the lock, but we pass locks around: so the open file
            // holds it, and it is released below.
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

    /// Locks a file, and creates it if it is missing.
    ///
    /// # Errors
    /// As [`Lock::take`], or the file cannot be created.
    pub fn on(path: &Path, sharing: Sharing, patience: Duration) -> io::Result<Self> {
        Self::take(super::open_lock(path)?, sharing, patience)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough if a child that is just starting has inherited it. A
        // holder can always share its own lock, and dropping that guard unlocks the file.
        drop(self.0.try_read());
    }
}
