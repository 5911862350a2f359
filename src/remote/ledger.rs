//! What this machine knows of a destination without asking it: the plain form of what it pushed.
//!
//! A machine can only add to an encrypted destination, never read it. So it keeps the records that a
//! reader would read now, in the clear, in bdr's state directory. If they are lost, the destination's
//! listing and the first lines of its records say what is there ([`super::push`] asks then).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::book::{Book, Need};
use super::destination::fold;
use super::frame;
use super::record::{Part, Push, parse_file_name};
use super::sign::{Signer, SigningKey};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::disk::fsutil::{self, Lock, Sharing};

mod others;
mod purged;
mod removed;
mod there;

pub(super) use others::Others;
pub use purged::Purged;
pub use removed::{Discarded, Refusal, Trash};
pub use there::There;

/// The largest record in the ledger, decompressed, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Who pushes: one machine with one repository.
#[derive(Clone, Serialize, Deserialize)]
pub struct Machine {
    pub id: Id,
    /// The key of the names of objects.
    name_key: String,
    /// What it signs with.
    #[serde(skip)]
    key: Option<Arc<SigningKey>>,
}

impl Machine {
    /// Returns who this machine is for a repository; makes it up at the first time. `dir` is the
    /// directory of destinations for that repository.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn of(dir: &Path, now: DateTime<Utc>) -> Result<Self> {
        if let Some(machine) = Self::known(dir) {
            return machine.with_key(dir);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|e| Error::invalid(format!("no random numbers: {e}"), None))?;
        let machine = Self {
            id: Id::new(now),
            name_key: hex::encode(key),
            key: None,
        };
        let json = serde_json::to_vec(&machine).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(dir)?;
        match fsutil::write_new(&dir.join("machine.json"), &json, 0o600) {
            Ok(()) => machine.with_key(dir),
            // Another process was faster.
            Err(error) => Self::known(dir).ok_or(error)?.with_key(dir),
        }
    }

    fn with_key(mut self, dir: &Path) -> Result<Self> {
        if self.key.is_none() {
            self.key = Some(Arc::new(SigningKey::of(dir)?));
        }
        Ok(self)
    }

    /// Returns who this machine is for a repository, if it pushed before.
    pub fn known(dir: &Path) -> Option<Self> {
        let json = fsutil::read_derived(&dir.join("machine.json"))?;
        let machine: Self = serde_json::from_slice(&json).ok()?;
        let key = SigningKey::known(dir).ok().flatten().map(Arc::new);
        Some(Self { key, ..machine })
    }

    /// Makes this machine another one for a repository.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn renew(dir: &Path, now: DateTime<Utc>) -> Result<Self> {
        let _ = fsutil::remove_file(&dir.join("machine.json"));
        SigningKey::forget(dir)?;
        Self::of(dir, now)
    }

    /// Makes this machine the one that pushed until now under another's id, for a repository. It signs
    /// with a key of its own.
    pub(super) fn adopt(dir: &Path, id: Id, name_key: &str) -> Result<Self> {
        let machine = Self {
            id,
            name_key: name_key.to_owned(),
            key: None,
        };
        let json = serde_json::to_vec(&machine).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(dir)?;
        SigningKey::forget(dir)?;
        fsutil::write_atomic(&dir.join("machine.json"), &json, 0o600)?;
        machine.with_key(dir)
    }

    /// Returns who signs what it pushes; `None` if it has signed nothing yet.
    pub fn signer(&self) -> Option<Signer> {
        self.key.as_ref().map(|key| key.signer())
    }

    /// Returns the key with which it signs.
    pub(super) fn signing_key(&self) -> Result<&SigningKey> {
        // Whoever pushes has got one (`of`).
        self.key
            .as_deref()
            .ok_or_else(|| Error::invalid("this machine has no key to sign with", Some("bdr push")))
    }

    pub(super) fn name_key(&self) -> &str {
        &self.name_key
    }

    /// Returns the key of an object in an encrypted destination. It says nothing about the content
    /// to whoever has not this machine's key, and is the same again after a crash. `attempt`: an
    /// object of the earlier name may be there, and nobody knows how it was encrypted.
    pub(super) fn object_key(&self, content: Digest, attempt: u32) -> Digest {
        let key = hex::decode(&self.name_key).unwrap_or_default();
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
            return content;
        };
        mac.update(b"bdr: the name of an object\n");
        mac.update(&content.0);
        mac.update(&attempt.to_be_bytes());
        Digest(mac.finalize().into_bytes().into())
    }
}

/// Forgets what is known of a destination.
///
/// # Errors
/// Another process pushes there, or it cannot be written.
pub fn forget(dir: &Path) -> Result<()> {
    Ledger::open(dir, Duration::from_secs(2))?.forget()
}

/// What is known of one destination.
pub struct Ledger {
    dir: PathBuf,
    /// All pushes that a reader would read, newest first.
    chain: Vec<Push>,
    /// Objects that were written by a push that has no record yet.
    written: HashMap<Digest, Part>,
    /// The newest push, if nothing else is known of it.
    floor: Option<(u64, Id)>,
    /// What each snapshot needs there.
    book: Book,
    /// Names that this repository has and that were removed there.
    dropped: BTreeSet<String>,
    trash: Trash,
    others: Others,
    _lock: Lock,
}

/// What is said about a destination without reading its records.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct At {
    /// Where it was then: another place is another destination.
    pub url: String,
    /// What it is encrypted with: `age`, or `none`.
    #[serde(default)]
    pub encryption: String,
    /// Number and time of the last push.
    pub number: u64,
    pub pushed: Option<DateTime<Utc>>,
    /// When its listing was compared last.
    pub listed: Option<DateTime<Utc>>,
    /// Number and id of the newest snapshot that is there.
    pub newest: Option<(u64, Id)>,
    pub snapshots: u64,
    /// Bytes in objects.
    pub bytes: u64,
    /// Why the last push failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Records there that this machine has not signed, since a person looked last.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub strangers: BTreeSet<String>,
    /// For whom was pushed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eras: Vec<Era>,
    /// Names of the locked identities that were put there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
}

/// Pushes for the same recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// The number of the first.
    pub since: u64,
    pub recipients: Vec<String>,
}

impl At {
    /// Returns true if the last push was for others than these.
    pub fn is_for_others(&self, recipients: &[String]) -> bool {
        let of = |all: &[String]| all.iter().cloned().collect::<BTreeSet<_>>();
        let last = self.eras.last().map(|era| of(&era.recipients));
        self.number > 0 && last != Some(of(recipients))
    }

    /// Returns for whom older objects may be, if these are the recipients now.
    pub fn before(&self, recipients: &[String]) -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = Vec::new();
        for era in &self.eras {
            let opens = |one: &String| era.recipients.contains(one);
            if !recipients.iter().all(opens) && !all.contains(&era.recipients) {
                all.push(era.recipients.clone());
            }
        }
        all
    }

    /// Reads it; `None` if there was no push yet.
    pub fn read(dir: &Path) -> Option<Self> {
        let json = fsutil::read_derived(&dir.join("at.json"))?;
        serde_json::from_slice(&json).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(dir)?;
        fsutil::write_atomic(&dir.join("at.json"), &json, 0o600)
    }
}

const PENDING: &str = "pending.json.gz";
const WRITTEN: &str = "written.jsonl";

impl Ledger {
    /// Opens the ledger of a destination for a push: there is one push to a destination at a time.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process pushes there; or it cannot be read or written.
    pub fn open(dir: &Path, patience: Duration) -> Result<Self> {
        fsutil::create_dir_private(&dir.join("pushes"))?;
        let lock = Lock::on(&dir.join("lock"), Sharing::Alone, patience);
        let lock = lock.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::Busy {
                holder: " by another push to this destination".to_owned(),
            },
            _ => Error::io("lock", dir.join("lock"), error),
        })?;
        let mut ledger = Self {
            dir: dir.to_path_buf(),
            chain: Vec::new(),
            written: HashMap::new(),
            floor: None,
            book: Book::open(dir),
            dropped: removed::dropped(dir),
            trash: Trash::read(dir),
            others: Others::read(dir),
            _lock: lock,
        };
        ledger.read();
        Ok(ledger)
    }

    fn read(&mut self) {
        let mut found = HashMap::new();
        let Ok(names) = fsutil::read_dir(self.dir.join("pushes")) else {
            return;
        };
        for entry in names.flatten() {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json.gz"));
            if let Some((number, id)) = name.and_then(parse_file_name) {
                found.insert((number, id), entry.path());
            }
        }
        let mut next = found.keys().max().copied();
        let mut chain = Vec::new();
        while let Some(push) = next.and_then(|key| read_push(found.get(&key)?)) {
            next = push.base.map(|base| (push.since, base));
            chain.push(push);
        }
        // If an older one is lost, what it had is sent again.
        self.chain = chain;
        self.read_written();
    }

    fn read_written(&mut self) {
        self.written.clear();
        // Whatever is not whole is lost: the destination says it again.
        for line in fsutil::read_derived(&self.dir.join(WRITTEN))
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
        {
            if let Ok(part) = serde_json::from_slice::<Part>(line) {
                self.written.insert(part.key, part);
            }
        }
    }

    /// Returns the newest push; `None` if nothing is known.
    pub fn newest(&self) -> Option<&Push> {
        self.chain.first()
    }

    /// Returns the pushes that a reader would read, newest first.
    pub fn chain(&self) -> &[Push] {
        &self.chain
    }

    /// Returns all pushes as one; `None` if nothing is known.
    pub fn held(&self) -> Option<Push> {
        (!self.chain.is_empty()).then(|| fold(self.chain.clone()))
    }

    /// Returns the object of that key, if a push that has no record yet wrote it.
    pub(super) fn written(&self, key: Digest) -> Option<&Part> {
        self.written.get(&key)
    }

    /// Notes that an object is there by what the destination says.
    pub(super) fn learn(&mut self, part: Part) {
        self.written.insert(part.key, part);
    }

    /// Returns the keys of the objects that were written without a record.
    pub(super) fn written_keys(&self) -> impl Iterator<Item = Digest> + '_ {
        self.written.keys().copied()
    }

    /// Forgets objects that are not there after all.
    pub(super) fn unlearn(&mut self, keys: &[Digest]) {
        for key in keys {
            self.written.remove(key);
        }
    }

    /// Notes the newest push, of which nothing else is known.
    pub(super) fn set_floor(&mut self, push: Option<(u64, Id)>) {
        self.floor = push;
    }

    /// Returns the newest push, if nothing else is known of it.
    pub(super) fn floor(&self) -> Option<(u64, Id)> {
        self.floor
    }

    /// Notes that an object was written.
    pub(super) fn note_written(&self, part: &Part) -> Result<()> {
        let mut line = serde_json::to_vec(part).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        line.push(b'\n');
        fsutil::append_derived(&self.dir.join(WRITTEN), &line)
    }

    /// Notes the push whose record is about to be written, and which names of this repository it
    /// removes.
    pub(super) fn begin(&self, push: &Push, dropping: &BTreeSet<String>) -> Result<()> {
        removed::begin(&self.dir, push.id, dropping)?;
        let json = serde_json::to_vec(push).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        let packed = frame::compressed(&json)?;
        fsutil::write_atomic(&self.dir.join(PENDING), &packed, 0o600)
    }

    /// Returns the push whose record was about to be written when it was interrupted.
    pub(super) fn pending(&self) -> Option<Push> {
        read_push(&self.dir.join(PENDING))
    }

    /// Notes that the record exists, and forgets what a reader no longer reads.
    pub(super) fn finish(&mut self, push: Push) -> Result<()> {
        let names = push.files.keys().chain(push.objects.keys());
        removed::finish(&self.dir, &mut self.dropped, push.id, names)?;
        self.add(push)?;
        self.forget_pending();
        Ok(())
    }

    fn add(&mut self, push: Push) -> Result<()> {
        if self.newest().is_some_and(|newest| newest.id == push.id) {
            // Noted already, by a run that was killed right after it.
            return Ok(());
        }
        self.write(&push)?;
        let stays = self
            .chain
            .iter()
            .position(|older| Some(older.id) == push.base);
        let rest = stays.map_or_else(Vec::new, |at| self.chain.split_off(at));
        for older in std::mem::replace(&mut self.chain, rest) {
            let _ = fsutil::remove_file(&self.file(&older));
        }
        self.chain.insert(0, push);
        Ok(())
    }

    /// Returns the chain's records in which each name that is there came first: the number after which
    /// they begin, their own number, and their time.
    pub(super) fn origins(&self) -> HashMap<&str, (u64, u64, DateTime<Utc>)> {
        let mut origins = HashMap::new();
        for push in self.chain.iter().rev() {
            for name in &push.gone {
                origins.remove(&**name);
            }
            for name in push.files.keys().chain(push.objects.keys()) {
                let origin = (push.since, push.number, push.time);
                origins.entry(&**name).or_insert(origin);
            }
        }
        origins
    }

    /// Returns true if all that is there is known.
    pub(super) fn is_whole(&self) -> bool {
        self.chain.last().is_some_and(|oldest| oldest.since == 0)
    }

    /// Returns what a snapshot needs there, if that is known.
    pub(super) fn need(&self, id: Id) -> Option<&Need> {
        self.book.get(id)
    }

    /// Notes what snapshots need there. This has to come before their record.
    pub(super) fn note_needs(&mut self, needs: Vec<Need>) -> Result<()> {
        self.book.note(needs)
    }

    /// Notes what stands now for packs that were lost there.
    pub(super) fn note_instead(
        &mut self,
        lost: BTreeSet<String>,
        stands: BTreeSet<String>,
    ) -> Result<()> {
        self.book.note_instead(lost, stands)
    }

    /// Returns what stands for packs that were lost there.
    pub(super) fn stands(&self) -> &BTreeSet<String> {
        self.book.stands()
    }

    /// Returns names that this repository has and that were removed there.
    pub(super) fn dropped(&self) -> &BTreeSet<String> {
        &self.dropped
    }

    /// Forgets what concerns snapshots that are not there, and files that are not here.
    pub(super) fn tidy(
        &mut self,
        is_there: impl Fn(&str) -> bool,
        is_here: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.book.retain(|about| is_there(&about.file_name()))?;
        removed::sweep(&self.dir, &mut self.dropped, is_here)
    }

    /// Returns what waits to be removed.
    pub fn trash(&self) -> &Trash {
        &self.trash
    }

    /// Notes what waits to be removed.
    pub(super) fn set_trash(&mut self, trash: Trash) -> Result<()> {
        trash.write(&self.dir)?;
        self.trash = trash;
        Ok(())
    }

    /// Returns what is known of records that somebody else wrote there.
    pub(super) fn others(&self) -> &Others {
        &self.others
    }

    /// Notes what is known of records that somebody else wrote there.
    pub(super) fn set_others(&mut self, others: Others) -> Result<()> {
        others.write(&self.dir)?;
        self.others = others;
        Ok(())
    }

    /// Notes that a push replaces what is there.
    pub(super) fn set_purged(&self, purged: &Purged) -> Result<()> {
        purged.write(&self.dir)
    }

    /// Returns what a push has replaced, and may still be there.
    pub(super) fn purged(&self) -> Option<Purged> {
        Purged::read(&self.dir)
    }

    /// Notes that nothing of it is there any more.
    pub(super) fn forget_purged(&self) {
        Purged::forget(&self.dir);
    }

    /// Forgets a push that came to nothing; its objects are remembered.
    pub(super) fn forget_pending(&self) {
        removed::forget_dropping(&self.dir);
        let _ = fsutil::remove_file(&self.dir.join(PENDING));
    }

    /// Forgets what was written without a record, when a record names it.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
        let _ = fsutil::remove_file(&self.dir.join(WRITTEN));
    }

    /// Forgets everything: the destination is another one now.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn forget(&mut self) -> Result<()> {
        self.forget_pending();
        self.forget_written();
        self.book.forget();
        self.dropped.clear();
        removed::forget_dropped(&self.dir);
        self.others = Others::default();
        Others::forget(&self.dir);
        Purged::forget(&self.dir);
        super::prune::Last::forget(&self.dir);
        self.set_trash(Trash::default())?;
        self.replace(Vec::new())
    }

    /// Replaces everything known by what the destination says, newest first.
    pub(super) fn replace(&mut self, chain: Vec<Push>) -> Result<()> {
        // The newest first: whoever finds only a part of it knows that the rest is unknown.
        for push in &chain {
            self.write(push)?;
        }
        for older in std::mem::replace(&mut self.chain, chain) {
            if self.chain.iter().all(|push| push.id != older.id) {
                let _ = fsutil::remove_file(&self.file(&older));
            }
        }
        // What was learned of objects alone is in the records.
        self.read_written();
        self.forget_pending();
        Ok(())
    }

    fn file(&self, push: &Push) -> PathBuf {
        let name = format!("{}.json.gz", push.file_name());
        self.dir.join("pushes").join(name)
    }

    fn write(&self, push: &Push) -> Result<()> {
        let json = serde_json::to_vec(push).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::write_atomic(&self.file(push), &frame::compressed(&json)?, 0o600)
    }
}

fn read_push(path: &Path) -> Option<Push> {
    let packed = fsutil::read_derived(path)?;
    let json = frame::decompressed("a record in the ledger", &packed, MAX_BYTES).ok()?;
    Push::parse("a record in the ledger", &json).ok()
}
