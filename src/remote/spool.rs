//! Packs in memory, on their way to a destination.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use crate::disk::storage::{Listed, Staged, Storage};

/// A storage that only collects what is published.
#[derive(Default)]
pub(super) struct Spool {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Spool {
    /// Takes out what was published.
    pub(super) fn take(&self) -> BTreeMap<String, Vec<u8>> {
        self.files
            .lock()
            .map(|mut files| std::mem::take(&mut *files))
            .unwrap_or_default()
    }
}

struct Buffer(Vec<u8>);

impl Staged for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0
            .truncate(usize::try_from(length).map_err(io::Error::other)?);
        Ok(())
    }

    fn as_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Storage for Spool {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        refused()
    }

    fn read_at(&self, _: &str, _: u64, _: &mut [u8]) -> io::Result<()> {
        refused()
    }

    fn size(&self, _: &str) -> io::Result<Option<u64>> {
        refused()
    }

    fn list(&self, _: &str) -> io::Result<Vec<Listed>> {
        refused()
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        Ok(Box::new(Buffer(Vec::new())))
    }

    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()> {
        let Ok(buffer) = staged.as_any().downcast::<Buffer>() else {
            return refused();
        };
        let mut files = self.files.lock().map_err(|_| io::ErrorKind::Other)?;
        files.insert(name.to_owned(), buffer.0);
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }
}

/// One file, in memory or in a storage, for those who read it as a pack.
pub(super) struct Single<'a> {
    pub(super) memory: Option<&'a [u8]>,
    pub(super) storage: &'a dyn Storage,
}

impl Storage for Single<'_> {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        match self.memory {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.storage.read(name),
        }
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some(bytes) = self.memory else {
            return self.storage.read_at(name, offset, buffer);
        };
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = bytes.get(from..from.saturating_add(buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match self.memory {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None => self.storage.size(name),
        }
    }

    fn list(&self, _: &str) -> io::Result<Vec<Listed>> {
        refused()
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        refused()
    }

    fn publish(&self, _: Box<dyn Staged>, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }
}
