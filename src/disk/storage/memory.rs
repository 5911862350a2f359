//! A storage that loses power, for tests that interrupt a verb after every single step.
//!
//! It separates what survives a power cut from what a running program sees: content counts as
//! written only after its fsync, a name only after the fsync of its directory.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Hold, Listed, Staged, Storage};
use crate::disk::fsutil::Sharing;

/// What survives of steps that were not fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    LoseUnsynced,
    /// Everything: the process died, but not the machine.
    KeepAll,
}

#[derive(Default)]
struct Inner {
    /// What a running program sees.
    live: BTreeMap<String, Arc<Vec<u8>>>,
    /// What is on the disk.
    durable: BTreeMap<String, Arc<Vec<u8>>>,
    steps: u64,
    /// The step before which power fails.
    cut: Option<u64>,
    full_at: Option<u64>,
    bytes: u64,
    log: Vec<String>,
    holders: BTreeMap<String, Holders>,
}

#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<Inner>>);

struct MemoryStaged {
    inner: Arc<Mutex<Inner>>,
    bytes: Vec<u8>,
}

fn cut_error() -> io::Error {
    io::Error::other("power cut (test)")
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn step(inner: &mut Inner, what: String) -> io::Result<()> {
    if inner.cut.is_some_and(|cut| inner.steps >= cut) {
        return Err(cut_error());
    }
    inner.steps += 1;
    inner.log.push(what);
    Ok(())
}

impl MemoryStorage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many steps were done, and which.
    pub fn steps(&self) -> (u64, Vec<String>) {
        let inner = lock(&self.0);
        (inner.steps, inner.log.clone())
    }

    /// Cuts the power before the step with this number, counted from now.
    pub fn cut_after(&self, steps: u64) {
        let mut inner = lock(&self.0);
        inner.steps = 0;
        inner.log.clear();
        inner.cut = Some(steps);
    }

    /// Makes writes fail as on a full disk after this many more bytes.
    pub fn full_after(&self, bytes: u64) {
        let mut inner = lock(&self.0);
        inner.bytes = 0;
        inner.full_at = Some(bytes);
    }

    /// Returns the storage as it is found after the power cut; it works again.
    pub fn after_crash(&self, mode: CrashMode) -> Self {
        let inner = lock(&self.0);
        let files = match mode {
            CrashMode::LoseUnsynced => inner.durable.clone(),
            CrashMode::KeepAll => inner.live.clone(),
        };
        let fresh = Inner {
            live: files.clone(),
            durable: files,
            ..Inner::default()
        };
        Self(Arc::new(Mutex::new(fresh)))
    }

    /// Returns an independent copy of what a running program sees.
    pub fn fork(&self) -> Self {
        self.after_crash(CrashMode::KeepAll)
    }

    /// Changes a stored file behind the program's back.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = lock(&self.0);
        if let Some(bytes) = inner.live.get(name) {
            let mut bytes = bytes.as_ref().clone();
            change(&mut bytes);
            let bytes = Arc::new(bytes);
            inner.live.insert(name.to_owned(), Arc::clone(&bytes));
            inner.durable.insert(name.to_owned(), bytes);
        }
    }

    pub fn names(&self) -> Vec<String> {
        lock(&self.0).live.keys().cloned().collect()
    }
}

impl Staged for MemoryStaged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        step(&mut inner, format!("write {} bytes", bytes.len()))?;
        inner.bytes += bytes.len() as u64;
        if inner.full_at.is_some_and(|full| inner.bytes > full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.bytes
            .truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn as_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Storage for MemoryStorage {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inner = lock(&self.0);
        inner
            .live
            .get(name)
            .map(|b| b.as_ref().clone())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = lock(&self.0);
        let bytes = inner
            .live
            .get(name)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start
            .checked_add(buffer.len())
            .and_then(|end| bytes.get(start..end))
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(range);
        Ok(())
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(lock(&self.0).live.get(name).map(|b| b.len() as u64))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let inner = lock(&self.0);
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let mut listed: Vec<Listed> = Vec::new();
        for (name, bytes) in &inner.live {
            let Some(rest) = name.strip_prefix(&prefix) else {
                continue;
            };
            let (name, bytes, is_dir) = match rest.split_once('/') {
                Some((dir, _)) => (dir, 0, true),
                None => (rest, bytes.len() as u64, false),
            };
            if listed.last().is_none_or(|l| l.name != name) {
                listed.push(Listed {
                    name: name.to_owned(),
                    bytes,
                    is_dir,
                });
            }
        }
        Ok(listed)
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        step(&mut lock(&self.0), "stage".to_owned())?;
        Ok(Box::new(MemoryStaged {
            inner: Arc::clone(&self.0),
            bytes: Vec::new(),
        }))
    }

    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()> {
        let staged = staged
            .as_any()
            .downcast::<MemoryStaged>()
            .map_err(|_| io::Error::other("staged by another storage"))?;
        let bytes = Arc::new(staged.bytes);
        let mut inner = lock(&self.0);
        step(&mut inner, format!("fsync {name}"))?;
        step(&mut inner, format!("rename {name}"))?;
        inner.live.insert(name.to_owned(), Arc::clone(&bytes));
        step(&mut inner, format!("fsync directory of {name}"))?;
        inner.durable.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = lock(&self.0);
        step(&mut inner, format!("remove {name}"))?;
        inner.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
        step(&mut inner, format!("fsync directory of {name}"))?;
        inner.durable.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = lock(&self.0);
        step(&mut inner, format!("rename {from} to {to}"))?;
        let bytes = inner.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.live.insert(to.to_owned(), Arc::clone(&bytes));
        step(&mut inner, format!("fsync directories of {from} and {to}"))?;
        inner.durable.remove(from);
        inner.durable.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn lock(&self, name: &str, sharing: Sharing, patience: Duration) -> io::Result<Option<Hold>> {
        let started = Instant::now();
        loop {
            if let Some(held) = Held::take(&self.0, name, sharing) {
                return Ok(Some(Hold::new(held)));
            }
            if started.elapsed() >= patience {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A lock that is held, by a number of sharers or by one alone.
#[derive(Clone, Copy)]
enum Holders {
    Sharing(usize),
    One,
}

struct Held {
    inner: Arc<Mutex<Inner>>,
    name: String,
}

impl Held {
    fn take(inner: &Arc<Mutex<Inner>>, name: &str, sharing: Sharing) -> Option<Self> {
        let mut locked = lock(inner);
        let now = match (sharing, locked.holders.get(name)) {
            (Sharing::Shared, None) => Holders::Sharing(1),
            (Sharing::Shared, Some(Holders::Sharing(others))) => Holders::Sharing(others + 1),
            (Sharing::Alone, None) => Holders::One,
            _ => return None,
        };
        locked.holders.insert(name.to_owned(), now);
        drop(locked);
        Some(Self {
            inner: Arc::clone(inner),
            name: name.to_owned(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut locked = lock(&self.inner);
        match locked.holders.get(&self.name).copied() {
            Some(Holders::Sharing(count)) if count > 1 => {
                let left = Holders::Sharing(count - 1);
                locked.holders.insert(self.name.clone(), left);
            }
            _ => drop(locked.holders.remove(&self.name)),
        }
    }
}
