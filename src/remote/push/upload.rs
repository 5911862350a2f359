//! Sends objects: cut, framed, encrypted, several at once, each under a name that is the same again
//! after a crash.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Item, PushReport, Run, Source, comment};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::threads;
use crate::disk::store::Trouble;
use crate::remote::crypt::Encryption;
use crate::remote::destination::object_name;
use crate::remote::frame;
use crate::remote::record::{Bytes, Part, Stored, TAILS};
use crate::remote::spool::Single;
use crate::repo::pack;

/// An object is cut at about this size, at the boundary of a member: what was sent need not be sent
/// again.
const PART_BYTES: u64 = 32 << 20;
/// The table of contents of a pack is kept apart up to this size, in bytes; others are read from the
/// pack.
const INLINE_TAIL: u64 = 4 << 20;
/// A tail up to this size is in the record, in bytes.
const SHORT_TAIL: usize = 4096;
/// Of larger objects, in bytes, the record has the beginning.
const LARGE: u64 = 512 << 10;
/// A longer header of age is not kept in the record, in bytes.
const MAX_HEAD: usize = 4096;
/// How many names are tried for an object, if all exist.
const ATTEMPTS: u32 = 8;
/// How many objects are sent at once.
const THREADS: usize = 4;

impl Run<'_> {
    /// Sends items, several at once; returns what they became.
    pub(super) fn upload(
        &self,
        items: Vec<Item>,
        report: &mut PushReport,
    ) -> Result<BTreeMap<String, Stored>> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            let mut sent: Vec<(String, Option<Stored>, u64, u64)> = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                let stop = self.monitor.stopped();
                if stop || failed.lock().map_or(true, |failed| failed.is_some()) {
                    if stop {
                        note(&failed, Error::Interrupted);
                    }
                    break;
                }
                let (mut objects, mut bytes) = (0, 0);
                match self.send_item(item, &mut objects, &mut bytes) {
                    Ok(stored) => sent.push((item.name.clone(), stored, objects, bytes)),
                    Err(error) => note(&failed, error),
                }
                self.monitor.advance(1, item.bytes);
            }
            sent
        };
        let threads = THREADS.min(items.len()).max(1);
        let done = threads::share(threads, &work);
        if let Some(error) = failed.into_inner().ok().flatten() {
            return Err(error);
        }
        let mut result = BTreeMap::new();
        let mut count = 0;
        for (name, stored, objects, bytes) in done.into_iter().flatten().flatten() {
            report.objects += objects;
            report.bytes += bytes;
            count += 1;
            if let Some(stored) = stored {
                result.insert(name, stored);
            }
        }
        if count != items.len() {
            return Err(Error::invalid(
                "a part of the push failed",
                Some("run the same command again"),
            ));
        }
        Ok(result)
    }

    /// Sends one file; `None` if it is gone.
    fn send_item(&self, item: &Item, objects: &mut u64, sent: &mut u64) -> Result<Option<Stored>> {
        let is_pack = item.name.starts_with("packs/");
        let is_gzip = is_pack || item.name.ends_with(".gz");
        let mut stored = Stored {
            bytes: item.bytes,
            parts: Vec::new(),
            is_compressed: !is_gzip,
            tail: None,
            tail_in: None,
            instead_of: item.instead_of.clone(),
        };
        let cuts = match is_pack {
            true => {
                let Some((cuts, tail)) = self.cuts(item)? else {
                    return Ok(None);
                };
                stored.tail = tail;
                cuts
            }
            false => vec![0, item.bytes],
        };
        for (number, ends) in cuts.windows(2).enumerate() {
            let Some(content) = self.piece(item, ends[0], ends[1])? else {
                return Ok(None);
            };
            let content = match is_gzip {
                true => content,
                false => frame::compressed(&content)?,
            };
            let comment = comment(self.repo.id(), &item.name, number);
            stored
                .parts
                .push(self.send_part(&comment, content, ends[0], objects, sent)?);
        }
        Ok(Some(stored))
    }

    /// Reads a piece of a file; `None` if it is gone.
    fn piece(&self, item: &Item, from: u64, to: u64) -> Result<Option<Vec<u8>>> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        if let Source::Memory(bytes) = &item.content {
            return Ok(bytes.get(number(from)..number(to)).map(<[u8]>::to_vec));
        }
        let mut bytes = vec![0; number(to - from)];
        match self.repo.storage().read_at(&item.name, from, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("read", &item.name, error)),
        }
    }

    /// Returns where a pack is cut, and its last bytes; `None` if it is gone.
    fn cuts(&self, item: &Item) -> Result<Option<(Vec<u64>, Option<Bytes>)>> {
        let single = Single {
            memory: match &item.content {
                Source::Memory(bytes) => Some(bytes),
                Source::File => None,
            },
            storage: self.repo.storage(),
        };
        let id = pack_id(&item.name);
        let contents =
            match id.map(|id| pack::read_contents(&single, id, item.bytes, self.repo.id())) {
                Some(Ok(contents)) => contents,
                Some(Err(Error::Storage { source, .. }))
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    return Ok(None);
                }
                // As it is: whatever can be saved of it can be saved there as well.
                _ => return Ok(Some((vec![0, item.bytes], None))),
            };
        let mut cuts = vec![0];
        let (mut at, mut from) = (0, 0);
        for member in &contents.members {
            if at - from >= PART_BYTES {
                cuts.push(at);
                from = at;
            }
            at += u64::from(member.0);
        }
        cuts.push(item.bytes);
        let tail = match item.bytes - at <= INLINE_TAIL {
            true => self.piece(item, at, item.bytes)?.map(Bytes),
            false => None,
        };
        Ok(Some((cuts, tail)))
    }

    /// Sends one object, unless it is there.
    fn send_part(
        &self,
        comment: &str,
        content: Vec<u8>,
        at: u64,
        objects: &mut u64,
        sent: &mut u64,
    ) -> Result<Part> {
        let digest = Digest::of(&content);
        let (plain, named) = match self.options.encryption {
            Encryption::None => (content, true),
            Encryption::Age(_) => {
                let mut framed = frame::empty_member(comment);
                framed.extend_from_slice(&content);
                (framed, false)
            }
        };
        let mut refused = 0;
        for attempt in 0.. {
            let key = match named {
                true => digest,
                false => self.machine.object_key(digest, attempt),
            };
            // It is to be removed, or may be gone already. The same content in the clear is written
            // again under its only name, and is needed again when a record names it.
            if !named && self.ledger.trash().has(&object_name(key)) {
                continue;
            }
            if let Some(part) = self.ledger.written(key) {
                return Ok(Part { at, ..part.clone() });
            }
            let bytes = self.options.encryption.encrypt(&plain)?;
            let part = Part {
                key,
                digest: Digest::of(&bytes),
                bytes: bytes.len() as u64,
                at,
                head: (!named && bytes.len() as u64 > LARGE)
                    .then(|| age_head(&bytes))
                    .flatten(),
            };
            match self.destination.put_new(&object_name(key), &bytes) {
                Ok(()) => {}
                // The same bytes, from a push that was interrupted; or what is left of them.
                Err(error) if error.trouble == Trouble::Exists && named => {
                    self.replace_damaged(&object_name(key), &bytes)?;
                }
                // Nobody knows which file key that one has.
                Err(error) if error.trouble == Trouble::Exists => {
                    refused += 1;
                    match refused < ATTEMPTS {
                        true => continue,
                        false => break,
                    }
                }
                Err(error) => return Err(self.destination.failed("write to", &error)),
            }
            *objects += 1;
            *sent += part.bytes;
            self.ledger.note_written(&part)?;
            return Ok(part);
        }
        Err(Error::invalid(
            format!(
                "`{}` says of every name that it exists",
                self.destination.place()
            ),
            Some(&format!("bdr remote test {}", self.destination.place())),
        ))
    }
}

impl Run<'_> {
    /// Writes an object in the clear again, which can have no other name, if what is there is known to
    /// be damaged.
    fn replace_damaged(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let is_damaged = self.options.doubt.damaged.contains(name)
            || self.destination.size(name)? != Some(bytes.len() as u64);
        match is_damaged {
            true => self.destination.put_again(name, bytes),
            false => Ok(()),
        }
    }

    /// Moves longer tails of packs into a file of their own: records repeat what they say, and that
    /// need not be repeated.
    pub(super) fn part_tails(
        &self,
        number: u64,
        objects: &mut BTreeMap<String, Stored>,
        report: &mut PushReport,
    ) -> Result<()> {
        let name = format!("{TAILS}/{number:010}");
        let mut all = Vec::new();
        for stored in objects.values_mut() {
            let Some(tail) = stored.tail.take_if(|tail| tail.0.len() > SHORT_TAIL) else {
                continue;
            };
            stored.tail_in = Some((name.clone(), all.len() as u64, tail.0.len() as u64));
            all.extend_from_slice(&tail.0);
        }
        if all.is_empty() {
            return Ok(());
        }
        let item = Item {
            name,
            bytes: all.len() as u64,
            content: Source::Memory(all),
            instead_of: Vec::new(),
        };
        objects.extend(self.upload(vec![item], report)?);
        Ok(())
    }
}

/// Returns the header of an encrypted object, with the nonce that follows it
/// (<https://age-encryption.org/v1>): all that has to be known to decrypt a piece.
fn age_head(bytes: &[u8]) -> Option<Bytes> {
    const NONCE: usize = 16;
    let mac = memchr::memmem::find(bytes.get(..MAX_HEAD.min(bytes.len()))?, b"\n--- ")?;
    let end = mac + 1 + memchr::memchr(b'\n', &bytes[mac + 1..])? + 1 + NONCE;
    Some(Bytes(bytes.get(..end)?.to_vec()))
}

/// Keeps the first error.
fn note(failed: &Mutex<Option<Error>>, error: Error) {
    if let Ok(mut failed) = failed.lock() {
        failed.get_or_insert(error);
    }
}

pub(super) fn pack_id(name: &str) -> Option<Digest> {
    name.rsplit('/')
        .next()?
        .strip_suffix(".tar.gz")?
        .parse()
        .ok()
}
