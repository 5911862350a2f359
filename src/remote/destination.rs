//! A destination: the part of a store that belongs to one machine.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::crypt::Identities;
use super::record::{Head, Push, parse_file_name};
use super::sign::Signer;
use super::{PREFIX, failed};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::store::{Object, Store, StoreError, Traffic, Trouble, Write};

/// The file that makes a prefix a machine's: `bdr1/<machine>/machine.json`.
const MACHINE: &str = "machine.json";
const FORMAT: &str = "bdr-machine";
/// Where a record is lost that others build on, so many before it are tried in its place.
const STAND_INS: usize = 16;
/// Why a record is not believed that is whole.
pub(super) const NOT_SIGNED: &str =
    "it is not signed with the machine's key: somebody else wrote it";
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct About {
    format: String,
    version: u64,
    machine: Id,
}

/// The part of a store that belongs to one machine.
#[derive(Clone)]
pub struct Destination {
    store: Arc<dyn Store>,
    /// What messages call it.
    place: String,
    machine: Id,
}

/// Names a record by where it is.
fn of_record(error: Error) -> Error {
    match error {
        Error::Damaged { name, reason } => Error::Damaged {
            name: format!("pushes/{name}"),
            reason,
        },
        other => other,
    }
}

/// Returns the machines that have something in a store, oldest first.
///
/// # Errors
/// It cannot be listed.
pub fn machines(store: &dyn Store, place: &str) -> Result<Vec<Id>> {
    let names = store.names(PREFIX).map_err(|e| failed(place, "list", &e))?;
    let ids = names.iter().filter_map(|name| name.strip_suffix('/'));
    let mut ids: Vec<Id> = ids.filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the key of an object below the machine's prefix.
pub(super) fn object_name(key: Digest) -> String {
    let hex = key.to_hex();
    format!("objects/{}/{hex}", &hex[..2])
}

/// Returns the key of the record of a push below the machine's prefix.
pub(super) fn push_name(number: u64, id: Id) -> String {
    format!("pushes/{}", super::record::file_name(number, id))
}

impl Destination {
    /// Names a machine's part of a store; asks for nothing.
    pub fn new(store: Arc<dyn Store>, place: &str, machine: Id) -> Self {
        Self {
            store,
            place: place.to_owned(),
            machine,
        }
    }

    /// Returns what messages call it.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn machine(&self) -> Id {
        self.machine
    }

    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub fn traffic(&self) -> Traffic {
        self.store.traffic()
    }

    fn key(&self, name: &str) -> String {
        format!("{PREFIX}{}/{name}", self.machine)
    }

    pub(super) fn failed(&self, action: &'static str, error: &StoreError) -> Error {
        failed(&self.place, action, error)
    }

    /// Writes a file that must not exist yet, as far as the store can tell.
    pub(super) fn put_new(&self, name: &str, bytes: &[u8]) -> std::result::Result<(), StoreError> {
        let key = self.key(name);
        if self.store.has_create_only() {
            match self.store.put(&key, bytes, Write::CreateOnly) {
                Err(error) if error.trouble == Trouble::Unsupported => {}
                other => return other,
            }
        }
        self.store.put(&key, bytes, Write::Plain)
    }

    /// Writes a small file unless there is one.
    pub(super) fn put_once(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.put_new(name, bytes) {
            Err(error) if error.trouble != Trouble::Exists => Err(self.failed("write to", &error)),
            _ => Ok(()),
        }
    }

    /// Writes a file in the place of another one.
    pub(super) fn put_again(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let put = self.store.put(&self.key(name), bytes, Write::Plain);
        put.map_err(|error| self.failed("write to", &error))
    }

    /// Returns the size of a file; `None` if there is none.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        let size = self.store.size(&self.key(name));
        size.map_err(|error| self.failed("read from", &error))
    }

    /// Returns true if something says whose prefix it is.
    pub(super) fn is_claimed(&self) -> Result<bool> {
        Ok(self.size(MACHINE)?.is_some())
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> std::result::Result<(), StoreError> {
        self.store.remove(&self.key(name))
    }

    /// Reads a file.
    pub(super) fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        let got = self.store.get(&self.key(name), range);
        got.map_err(|error| match error.trouble {
            Trouble::NotFound => Error::damaged(name, format!("it is not in `{}`", self.place)),
            _ => self.failed("read from", &error),
        })
    }

    /// Lists everything whose name begins with `dir`, which ends with `/`.
    pub(super) fn list(&self, dir: &str) -> Result<Vec<Object>> {
        let (prefix, own) = (self.key(dir), self.key(""));
        let mut found = Vec::new();
        let listed = self.store.list(&prefix, None, &mut |object| {
            if let Some(name) = object.key.strip_prefix(&own) {
                found.push(Object {
                    key: name.to_owned(),
                    bytes: object.bytes,
                });
            }
            ControlFlow::Continue(())
        });
        listed.map_err(|e| self.failed("list", &e))?;
        Ok(found)
    }

    /// Says whose prefix it is, if nothing does yet.
    pub(super) fn claim(&self) -> Result<()> {
        let about = About {
            format: FORMAT.to_owned(),
            version: VERSION,
            machine: self.machine,
        };
        let json = serde_json::to_vec(&about).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        self.put_once(MACHINE, &json)
    }

    /// Returns number and id of all pushes after a number, in order.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn pushes(&self, after: u64) -> Result<Vec<(u64, Id)>> {
        let prefix = self.key("pushes/");
        // Sorts after every record of that number: ids have digits and capitals.
        let start = (after > 0).then(|| format!("{prefix}{after:010}-~"));
        let mut found = Vec::new();
        let listed = self.store.list(&prefix, start.as_deref(), &mut |object| {
            let name = object.key.strip_prefix(&prefix);
            if let Some(push) = name.and_then(parse_file_name)
                && push.0 > after
            {
                found.push(push);
            }
            ControlFlow::Continue(())
        });
        listed.map_err(|e| self.failed("list", &e))?;
        found.sort_unstable();
        Ok(found)
    }

    /// Returns true if the record of a push is there, whatever a listing says.
    pub(super) fn has_push(&self, push: (u64, Id)) -> Result<bool> {
        Ok(self.size(&push_name(push.0, push.1))?.is_some())
    }

    /// Reads what the record of a push says in the clear, and the rest as it is.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn head(&self, push: (u64, Id)) -> Result<(Head, Vec<u8>)> {
        let bytes = self.get(&push_name(push.0, push.1), None)?;
        let name = super::record::file_name(push.0, push.1);
        let (head, body) = Head::decode(&name, self.machine, &bytes).map_err(of_record)?;
        Ok((head, body.to_vec()))
    }

    /// Reads the record of a push; also returns what it is encrypted with. `signer`: who signed what
    /// builds on it.
    fn read(
        &self,
        push: (u64, Id),
        signer: Option<Signer>,
        identities: &Identities,
    ) -> Result<(String, Push)> {
        let (head, body) = self.head(push)?;
        let name = super::record::file_name(push.0, push.1);
        let wanted = signer.or_else(|| identities.signer_of(self.machine));
        if wanted.is_some() && head.signer != wanted {
            return Err(of_record(Error::damaged(name, NOT_SIGNED)));
        }
        // Whoever can write there could add a record in the clear; one that a key opens, only who
        // knows the public half.
        if head.encryption == "none" && !identities.is_empty() {
            let why = "it is not encrypted, and a key was given: nothing vouches for it";
            return Err(of_record(Error::damaged(name, why)));
        }
        let opened = head.open(&name, &body, identities).map_err(of_record)?;
        Ok((head.encryption, opened))
    }

    /// Returns what the destination holds by its records, newest push first read; `None` if nothing
    /// was pushed. Records that are damaged, missing, or for another key are named. Older keys that
    /// lie there, and that the given ones open, are added to them.
    ///
    /// # Errors
    /// No record can be read, or no identity opens it.
    pub fn held(&self, identities: &mut Identities) -> Result<Option<Holdings>> {
        Ok(self.chain(identities)?.map(Chain::held))
    }

    /// Returns the records that a reader needs, as [`Destination::held`].
    pub(super) fn chain(&self, identities: &mut Identities) -> Result<Option<Chain>> {
        let is_closed = |error: &Error| matches!(error, Error::NoKey { .. });
        let found = self.chain_by(identities);
        let lacks = match &found {
            Err(Error::NoKey { is_given: true }) => true,
            Ok(Some(chain)) => {
                let before = chain.pushes.first().map_or(&[][..], |push| &push.before);
                let is_lacking = before.iter().any(|all| !identities.opens(all));
                is_lacking || chain.problems.iter().any(is_closed)
            }
            _ => false,
        };
        if !lacks || !self.follow(identities)? {
            return found;
        }
        match found {
            Ok(Some(chain)) if !chain.problems.iter().any(is_closed) => Ok(Some(chain)),
            _ => self.chain_by(identities),
        }
    }

    fn chain_by(&self, identities: &Identities) -> Result<Option<Chain>> {
        let pushes = self.pushes(0)?;
        let mut problems = Vec::new();
        // Where the newest record is damaged, what was there before it still is.
        let mut found = None;
        let mut rest = &pushes[..];
        while let [older @ .., push] = rest {
            match self.read(*push, None, identities) {
                Ok(read) => {
                    found = Some(read);
                    break;
                }
                Err(error @ Error::Damaged { .. }) => {
                    problems.push(error);
                    rest = older;
                }
                // It may be for another key, and older ones for this one.
                Err(error @ Error::NoKey { is_given: true }) => {
                    let count = self.last_for(older, identities)?.ok_or(error)?;
                    problems.push(Error::Unreadable {
                        name: format!("pushes/{}", super::record::file_name(push.0, push.1)),
                        reason: format!(
                            "it is for another key; the newest push that this one opens is {}",
                            older[count - 1].0
                        ),
                    });
                    rest = &older[..count];
                }
                Err(error) => return Err(error),
            }
        }
        let Some((encryption, first)) = found else {
            problems.truncate(1);
            return problems.pop().map_or(Ok(None), Err);
        };
        let signer = first.signer;
        let mut chain = vec![first];
        while let Some(Push {
            since,
            base: Some(base),
            ..
        }) = chain.last()
        {
            let wanted = (*since, *base);
            let found = self.base(
                wanted,
                &pushes,
                (signer, &encryption),
                identities,
                &mut problems,
            )?;
            match found {
                Some(push) => chain.push(push),
                None => break,
            }
        }
        let twins: Vec<u64> = pushes
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0)
            .map(|pair| pair[0].0)
            .collect();
        Ok(Some(Chain {
            pushes: chain,
            problems,
            twins,
            encryption,
            count: pushes.len() as u64,
        }))
    }
}

impl Destination {
    /// Reads the record on which others build, or one before it: what only the lost one has is unknown
    /// then, and named.
    fn base(
        &self,
        wanted: (u64, Id),
        pushes: &[(u64, Id)],
        (signer, encryption): (Option<Signer>, &str),
        identities: &Identities,
        problems: &mut Vec<Error>,
    ) -> Result<Option<Push>> {
        let older = pushes.iter().rev().filter(|push| push.0 < wanted.0);
        for push in [wanted].iter().chain(older.take(STAND_INS)) {
            let error = match self.read(*push, signer, identities) {
                Ok((word, push)) if word == encryption => return Ok(Some(push)),
                Ok((_, push)) => {
                    let name = push.file_name();
                    of_record(Error::damaged(name, "it is not encrypted like the others"))
                }
                Err(error @ (Error::Damaged { .. } | Error::NoKey { .. })) => error,
                Err(error) => return Err(error),
            };
            // Those before it are for an older key as well.
            let is_closed = matches!(error, Error::NoKey { .. });
            problems.push(error);
            if is_closed {
                break;
            }
        }
        Ok(None)
    }

    /// Returns how many of these pushes there are up to the last that an identity opens. Recipients
    /// change seldom, so it is looked for in steps that double, then by halves.
    fn last_for(&self, pushes: &[(u64, Id)], identities: &Identities) -> Result<Option<usize>> {
        let opens = |count: usize| match self.read(pushes[count - 1], None, identities) {
            Ok(_) => Ok(true),
            Err(Error::Damaged { .. } | Error::NoKey { .. }) => Ok(false),
            Err(error) => Err(error),
        };
        let (mut closed, mut step) = (pushes.len() + 1, 1);
        let mut open = loop {
            let count = closed.saturating_sub(step).max(1);
            if count == closed {
                return Ok(None);
            }
            if opens(count)? {
                break count;
            }
            (closed, step) = (count, step * 2);
        };
        while closed - open > 1 {
            let middle = open.midpoint(closed);
            if opens(middle)? {
                open = middle;
            } else {
                closed = middle;
            }
        }
        Ok(Some(open))
    }
}

/// The records that a reader needs.
pub(super) struct Chain {
    /// Newest first.
    pub(super) pushes: Vec<Push>,
    /// Records that could not be read.
    pub(super) problems: Vec<Error>,
    pub(super) twins: Vec<u64>,
    pub(super) encryption: String,
    pub(super) count: u64,
}

impl Chain {
    pub(super) fn held(self) -> Holdings {
        Holdings {
            all: fold(self.pushes),
            problems: self.problems,
            twins: self.twins,
            encryption: self.encryption,
            count: self.count,
        }
    }
}

/// What a destination holds by its records.
pub struct Holdings {
    /// All pushes as one.
    pub all: Push,
    /// Records that could not be read.
    pub problems: Vec<Error>,
    /// Numbers that two pushes have: a copy of the machine pushes too.
    pub twins: Vec<u64>,
    /// What its objects are encrypted with: `age`, or `none`.
    pub encryption: String,
    /// How many records there are.
    pub count: u64,
}

impl Holdings {
    /// Returns the recipients of older objects that these identities do not open.
    pub fn lacking(&self, identities: &Identities) -> Vec<Vec<String>> {
        let before = self.all.before.iter();
        let lacking = before.filter(|all| !identities.opens(all));
        lacking.cloned().collect()
    }

    /// Returns how many snapshots there are.
    pub fn snapshots(&self) -> u64 {
        let names = self.all.files.keys().chain(self.all.objects.keys());
        names.filter(|name| name.starts_with("snapshots/")).count() as u64
    }
}

/// Returns pushes, newest first, as one.
pub(super) fn fold(chain: Vec<Push>) -> Push {
    let mut chain = chain.into_iter().rev();
    // An empty chain does not occur: every caller has read one.
    let Some(mut all) = chain.next() else {
        return Push::new(
            Id::from_u128(0),
            Id::from_u128(0),
            0,
            Id::from_u128(0),
            chrono::DateTime::UNIX_EPOCH,
        );
    };
    for later in chain {
        all.follow(&later);
        let (files, objects) = (
            std::mem::take(&mut all.files),
            std::mem::take(&mut all.objects),
        );
        let (since, base) = (all.since, all.base);
        let gone = std::mem::take(&mut all.gone);
        all = Push {
            files,
            objects,
            gone,
            since,
            base,
            ..later
        };
    }
    all
}
