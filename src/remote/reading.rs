//! A repository's storage that reads from a destination. All verbs that only read work with it.
//!
//! Small files, and the contents of packs, come with the records. Of larger objects only the parts
//! that are asked for are fetched, until so much of one was asked for that the whole costs less.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crypt::Identities;
use super::destination::{Destination, Holdings, object_name};
use super::frame;
use super::push::comment;
use super::record::{Part, Push, Stored, TAILS};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::disk::storage::{Listed, Staged, Storage};
use crate::repo::recovery;

/// An object up to this size is fetched whole, in bytes.
const SMALL: u64 = 512 << 10;
/// What is fetched at once from a larger one, in bytes.
const BLOCK: u64 = 256 << 10;
/// After this many blocks, the whole object is fetched.
const PATIENCE: u32 = 4;
/// Whole objects in memory, in bytes, at most (or one).
const CACHE: usize = 96 << 20;
/// The largest compressed file, decompressed, in bytes.
const MAX_BYTES: u64 = 1 << 30;

const WRONG_SIZE: &str = "it does not have the size that its record says";

/// A read-only storage with what a destination holds.
pub struct RemoteStorage {
    destination: Destination,
    identities: Identities,
    encryption: String,
    /// Why objects may be closed, if these identities do not open all.
    lacking: Option<String>,
    all: Push,
    /// Directory → name → size.
    dirs: BTreeMap<String, BTreeMap<String, (u64, bool)>>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// Decrypted objects, most recently used last.
    whole: VecDeque<(Digest, Arc<Vec<u8>>)>,
    /// Stored blocks of larger objects.
    blocks: HashMap<(Digest, u64), Arc<Vec<u8>>>,
    asked: HashMap<Digest, u32>,
    tails: HashMap<String, Arc<Vec<u8>>>,
    /// Held while an object is fetched whole.
    fetching: HashMap<Digest, Arc<Mutex<()>>>,
}

impl RemoteStorage {
    /// Makes one of what a destination holds.
    pub fn new(destination: Destination, identities: Identities, holdings: Holdings) -> Self {
        let lacking = holdings.lacking(&identities).concat();
        let all = holdings.all;
        let mut dirs: BTreeMap<String, BTreeMap<String, (u64, bool)>> = BTreeMap::new();
        let files = all
            .files
            .iter()
            .map(|(name, bytes)| (name, bytes.0.len() as u64));
        let objects = all
            .objects
            .iter()
            .map(|(name, stored)| (name, stored.bytes));
        let own = |name: &str| !name.starts_with(TAILS);
        for (name, bytes) in files.chain(objects).filter(|(name, _)| own(name)) {
            let (mut name, mut leaf) = (&**name, (bytes, false));
            loop {
                let (dir, last) = name.rsplit_once('/').unwrap_or(("", name));
                dirs.entry(dir.to_owned())
                    .or_default()
                    .insert(last.to_owned(), leaf);
                if dir.is_empty() {
                    break;
                }
                (name, leaf) = (dir, (0, true));
            }
        }
        Self {
            destination,
            identities,
            encryption: holdings.encryption,
            lacking: (!lacking.is_empty()).then(|| lacking.join(", ")),
            all,
            dirs,
            cache: Mutex::default(),
        }
    }

    /// Returns all pushes as one.
    pub fn push(&self) -> &Push {
        &self.all
    }

    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a file to `sink`, object by object, as it is in the repository. Nothing of it is kept
    /// in memory.
    pub(super) fn pieces(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if let Some(bytes) = self.all.files.get(name) {
            return sink(&bytes.0);
        }
        let none = || Error::damaged(name, "it is not at the destination");
        let stored = self.all.objects.get(name).ok_or_else(none)?;
        if stored.is_compressed {
            return sink(&self.fetch(name, stored)?);
        }
        let mut length = 0;
        for (number, part) in stored.parts.iter().enumerate() {
            let content = self.content(name, number, part)?;
            length += content.len() as u64;
            sink(&content)?;
        }
        match length == stored.bytes {
            true => Ok(()),
            false => Err(Error::damaged(name, WRONG_SIZE)),
        }
    }

    /// Fetches a file whole, as it is in the repository.
    fn fetch(&self, name: &str, stored: &Stored) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (number, part) in stored.parts.iter().enumerate() {
            bytes.extend_from_slice(&self.whole(name, number, part)?);
        }
        if stored.is_compressed {
            bytes = frame::decompressed(name, &bytes, MAX_BYTES)?;
        }
        match bytes.len() as u64 == stored.bytes {
            true => Ok(bytes),
            false => Err(Error::damaged(name, WRONG_SIZE)),
        }
    }

    /// Fetches and decrypts an object; checks that it is the one that the record names.
    fn content(&self, name: &str, number: usize, part: &Part) -> Result<Vec<u8>> {
        let stored = self.destination.get(&object_name(part.key), None)?;
        if stored.len() as u64 != part.bytes || Digest::of(&stored) != part.digest {
            return Err(Error::damaged(
                object_name(part.key),
                "its checksum does not match: it was changed or cut off there",
            ));
        }
        let plain = self.identities.decrypt(name, &self.encryption, &stored);
        let plain = plain.map_err(|error| self.closed(part, error))?;
        Ok(match &*self.encryption {
            "none" => plain,
            _ => frame::strip(name, &comment(self.all.repository, name, number), &plain)?.to_vec(),
        })
    }

    /// Says for whom an object is, if it is for an older key.
    fn closed(&self, part: &Part, error: Error) -> Error {
        match error {
            Error::NoKey { .. } => Error::Unreadable {
                name: object_name(part.key),
                reason: match &self.lacking {
                    Some(recipients) => format!(
                        "it was pushed before the keys were changed, for {recipients}, and no such key was given"
                    ),
                    None => "none of the identities opens it".to_owned(),
                },
            },
            other => other,
        }
    }

    /// Returns the content of an object, which stays in memory for a while.
    fn whole(&self, name: &str, number: usize, part: &Part) -> Result<Arc<Vec<u8>>> {
        if let Some((_, bytes)) = self.cache().whole.iter().find(|(key, _)| *key == part.key) {
            return Ok(Arc::clone(bytes));
        }
        // Several threads may want it at once.
        let lock = Arc::clone(self.cache().fetching.entry(part.key).or_default());
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = self.cache().whole.iter().find(|(key, _)| *key == part.key) {
            return Ok(Arc::clone(bytes));
        }
        let content = Arc::new(self.content(name, number, part)?);
        let mut cache = self.cache();
        cache.blocks.retain(|(key, _), _| *key != part.key);
        cache.whole.push_back((part.key, Arc::clone(&content)));
        let size = |cache: &Cache| {
            cache
                .whole
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum::<usize>()
        };
        while cache.whole.len() > 1 && size(&cache) > CACHE {
            cache.whole.pop_front();
        }
        drop(cache);
        Ok(content)
    }

    /// Fills `buffer` from a place in an object's content.
    fn ranged(
        &self,
        name: &str,
        number: usize,
        part: &Part,
        at: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let asked = {
            let mut cache = self.cache();
            let asked = cache.asked.entry(part.key).or_insert(0);
            *asked += 1;
            *asked
        };
        let is_cached = self.cache().whole.iter().any(|(key, _)| *key == part.key);
        if is_cached || part.bytes <= SMALL || asked > PATIENCE {
            let whole = self.whole(name, number, part).map_err(io::Error::other)?;
            let from = usize::try_from(at).map_err(io::Error::other)?;
            let found = whole.get(from..from.saturating_add(buffer.len()));
            buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            return Ok(());
        }
        let mut blocks = Blocks {
            storage: self,
            part,
            at: 0,
        };
        if self.encryption == "none" {
            blocks.at = at;
            return blocks.read_exact(buffer);
        }
        let comment = comment(self.all.repository, name, number);
        let frame = frame::empty_member(&comment).len() as u64;
        let mut reader = self
            .identities
            .reader(name, blocks)
            .map_err(|error| io::Error::other(self.closed(part, error)))?;
        reader.seek(SeekFrom::Start(at + frame))?;
        reader.read_exact(buffer)
    }

    /// Returns a file with the last bytes of packs.
    fn tails(&self, name: &str) -> Result<Arc<Vec<u8>>> {
        if let Some(tails) = self.cache().tails.get(name) {
            return Ok(Arc::clone(tails));
        }
        let stored = self.all.objects.get(name);
        let stored = stored.ok_or_else(|| Error::damaged(name, "no record names it"))?;
        let tails = Arc::new(self.fetch(name, stored)?);
        self.cache()
            .tails
            .insert(name.to_owned(), Arc::clone(&tails));
        Ok(tails)
    }

    fn block(&self, part: &Part, number: u64) -> io::Result<Arc<Vec<u8>>> {
        if let Some(block) = self.cache().blocks.get(&(part.key, number)) {
            return Ok(Arc::clone(block));
        }
        let start = number * BLOCK;
        let end = (start + BLOCK).min(part.bytes);
        let bytes = self
            .destination
            .get(&object_name(part.key), Some(start..end));
        let bytes = Arc::new(bytes.map_err(io::Error::other)?);
        if bytes.len() as u64 != end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut cache = self.cache();
        cache.blocks.insert((part.key, number), Arc::clone(&bytes));
        Ok(bytes)
    }
}

/// Reads an object as it is stored, block by block.
struct Blocks<'a> {
    storage: &'a RemoteStorage,
    part: &'a Part,
    at: u64,
}

impl io::Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.part.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let head = self.part.head.as_ref().map_or(&[][..], |head| &head.0);
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        if let Some(found) = head.get(at..).filter(|found| !found.is_empty()) {
            let length = found.len().min(buffer.len());
            buffer[..length].copy_from_slice(&found[..length]);
            self.at += length as u64;
            return Ok(length);
        }
        let block = self.storage.block(self.part, self.at / BLOCK)?;
        let from = usize::try_from(self.at % BLOCK).map_err(io::Error::other)?;
        let found = &block[from.min(block.len())..];
        let length = found.len().min(buffer.len());
        buffer[..length].copy_from_slice(&found[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl io::Seek for Blocks<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.part.bytes.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "a destination is only read here",
    ))
}

impl Storage for RemoteStorage {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        // Those at the destination are for people who read it without bdr.
        if let Some((_, bytes)) = recovery::FILES.iter().find(|(own, _)| *own == name) {
            return Ok(bytes.to_vec());
        }
        if let Some(bytes) = self.all.files.get(name) {
            return Ok(bytes.0.clone());
        }
        let stored = self.all.objects.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.fetch(name, stored).map_err(io::Error::other)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len() as u64;
        if let Some(bytes) = self.all.files.get(name) {
            return copy(&bytes.0, offset, buffer);
        }
        let stored = self.all.objects.get(name).ok_or(io::ErrorKind::NotFound)?;
        if let Some(tail) = &stored.tail {
            let start = stored.bytes - tail.0.len() as u64;
            if offset >= start {
                return copy(&tail.0, offset - start, buffer);
            }
        }
        if let Some((tails, at, tail)) = &stored.tail_in {
            let start = stored.bytes - tail;
            if offset >= start && offset + length <= stored.bytes {
                let tails = self.tails(tails).map_err(io::Error::other)?;
                return copy(&tails, at + (offset - start), buffer);
            }
        }
        if stored.is_compressed {
            let bytes = self.fetch(name, stored).map_err(io::Error::other)?;
            return copy(&bytes, offset, buffer);
        }
        if offset
            .checked_add(length)
            .is_none_or(|end| end > stored.bytes)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let number = stored.parts.partition_point(|part| part.at <= at) - 1;
            let part = &stored.parts[number];
            let end = stored
                .parts
                .get(number + 1)
                .map_or(stored.bytes, |next| next.at);
            let take = usize::try_from(end - at).map_or(rest.len(), |n| n.min(rest.len()));
            let (now, later) = rest.split_at_mut(take);
            self.ranged(name, number, part, at - part.at, now)?;
            at += take as u64;
            rest = later;
        }
        Ok(())
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        let file = self.all.files.get(name).map(|bytes| bytes.0.len() as u64);
        Ok(file.or_else(|| self.all.objects.get(name).map(|stored| stored.bytes)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let found = self.dirs.get(dir).into_iter().flatten();
        Ok(found
            .map(|(name, (bytes, is_dir))| Listed {
                name: name.clone(),
                bytes: *bytes,
                is_dir: *is_dir,
            })
            .collect())
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        read_only()
    }

    fn publish(&self, _: Box<dyn Staged>, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }
}

fn copy(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let from = usize::try_from(offset).map_err(io::Error::other)?;
    let found = bytes.get(from..from.saturating_add(buffer.len()));
    buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}
