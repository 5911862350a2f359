//! Pushes a repository to a destination: what is missing there, in the order packs, key frames, the
//! other files, and at the end one record that names all of it.
//!
//! The repository is not locked: snapshots are listed first, what they need afterwards, and at the
//! end a snapshot that prune removed meanwhile is left out. What a guard wrote in many small packs is
//! put into one.
//!
//! What each new snapshot needs there is noted before the record ([`super::book`]): later, nobody here
//! could tell. What retention removed there ([`super::prune`]) is not pushed again, unless a new snapshot
//! needs it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::RECOVER_MD;
use super::crypt::{Encryption, Identities};
use super::destination::Destination;
use super::ledger::{Ledger, Machine};
use super::record::{self, Bytes, Part, Push};
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::monitor::{Monitor, Phase};
use crate::disk::store::Traffic;
use crate::model::manifest::Content;
use crate::protect::staging;
use crate::repo::Repository;
use crate::repo::layout;
use crate::repo::pack::Level;
use crate::repo::snapshot::Snapshot;

mod commit;
mod doubt;
pub(super) mod known;
mod packs;
mod replaced;
mod upload;

pub use doubt::{Doubt, emptied};

/// What is this small is in the record itself, in bytes: an object of its own would cost a request.
const INLINE: u64 = 2048;
/// The same for records of snapshots and operations, which compress well together.
const INLINE_RECORD: u64 = 128 << 10;

/// How often to look whether another process has packed what guards kept, and how long to wait in
/// between.
const SETTLE_TRIES: u32 = 20;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// What a push or a prune connects: a repository, and this machine's part of a destination.
pub struct Link<'a> {
    pub repo: &'a Repository,
    pub destination: &'a Destination,
    pub machine: &'a Machine,
    /// What is known of the destination.
    pub ledger: &'a mut Ledger,
}

/// How to push.
pub struct PushOptions<'a> {
    pub now: DateTime<Utc>,
    pub host: String,
    pub encryption: &'a Encryption,
    /// Compare with a listing of the destination first, and send again what is not there.
    pub check: bool,
    pub doubt: Doubt,
}

/// What a push came to.
#[derive(Debug, Default)]
pub struct PushReport {
    /// The push; `None` if there was nothing to push.
    pub number: Option<u64>,
    /// New snapshots there.
    pub snapshots: u64,
    pub operations: u64,
    /// Objects written.
    pub objects: u64,
    /// Small packs that were put together.
    pub joined: u64,
    /// Bytes of objects and records written.
    pub bytes: u64,
    /// Snapshots that wait, because what they kept is not packed yet.
    pub waiting: u64,
    /// Records of snapshots that cannot be read here, and are not pushed.
    pub unreadable: u64,
    /// Files and records that were missing or damaged at the destination, and are there again.
    pub mended: u64,
    /// Files that are missing or damaged there, and that this machine has no more.
    pub lost: u64,
    /// All snapshots that are there now, and the newest.
    pub held: u64,
    pub newest: Option<(u64, Id)>,
    pub held_bytes: u64,
    /// Records there that this machine has not signed: somebody else wrote them.
    pub strangers: Vec<String>,
    /// It replaced snapshots in which something was found to be secret.
    pub replaces: bool,
    pub traffic: Traffic,
}

/// A file that is to be pushed.
struct Item {
    name: String,
    bytes: u64,
    content: Source,
    instead_of: Vec<Digest>,
}

enum Source {
    /// In the repository.
    File,
    /// In memory: a pack that was put together.
    Memory(Vec<u8>),
}

/// Pushes what is missing.
///
/// # Errors
/// The destination or the repository cannot be read or written; another machine pushes under the
/// same id; or the user stopped it. What was sent is not sent again by the next push.
pub fn push(
    link: Link<'_>,
    options: &PushOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<PushReport> {
    match push_all(link, options, monitor) {
        // What was under way was given up.
        Err(Error::Remote { .. }) if monitor.stopped() => Err(Error::Interrupted),
        done => done,
    }
}

fn push_all(
    link: Link<'_>,
    options: &PushOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<PushReport> {
    let mut report = PushReport::default();
    // What guards kept is packed first. If that fails, its snapshots wait.
    settle(link.repo, options.now, monitor)?;
    let destination = link.destination;
    let mut run = Run::new(link, options, monitor);
    run.catch_up()?;
    let mut records = 0;
    if options.check || run.is_in_doubt {
        records = run.compare()?;
    }
    let wanted = run.wanted(&mut report)?;
    // Whoever is new has to find a record that is for them.
    let is_news = options.encryption.is_new() && run.held.is_some();
    if !wanted.is_empty() || is_news || run.anew {
        run.send(wanted, &mut report)?;
    }
    run.count_mended(records, &mut report);
    if let Some(held) = run.ledger.held() {
        let snapshots = held.files.keys().chain(held.objects.keys());
        let snapshots = snapshots.filter_map(|name| snapshot_of(name));
        for snapshot in snapshots {
            report.held += 1;
            report.newest = report.newest.max(Some(snapshot));
        }
        let parts = held.objects.values().flat_map(|stored| &stored.parts);
        report.held_bytes = parts.map(|part| part.bytes).sum();
    }
    report.strangers = std::mem::take(&mut run.strangers);
    report.traffic = destination.traffic();
    Ok(report)
}

/// Packs what guards kept, and waits a little for another process that does it.
fn settle(repo: &Repository, now: DateTime<Utc>, monitor: &dyn Monitor) -> Result<()> {
    for _ in 0..SETTLE_TRIES {
        if let Err(error @ Error::Interrupted) = staging::settle(repo, Level::Fast, now, monitor) {
            return Err(error);
        }
        if repo.unpacked_sets()?.is_empty() {
            break;
        }
        std::thread::sleep(SETTLE_PAUSE);
    }
    Ok(())
}

pub(super) fn snapshot_of(name: &str) -> Option<(u64, Id)> {
    let (seq, id) = name
        .strip_prefix("snapshots/")?
        .strip_suffix(".json")?
        .split_once('-')?;
    Some((seq.parse().ok()?, id.parse().ok()?))
}

/// What is to be pushed.
#[derive(Default)]
struct Wanted {
    /// Files that go into the record.
    files: BTreeMap<String, Vec<u8>>,
    items: Vec<Item>,
    /// Names that are there, and whose snapshot or operation record is new.
    snapshots: Vec<(String, Snapshot)>,
    /// Some of them replace what is there.
    replaces: bool,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.items.is_empty()
    }
}

pub(super) struct Run<'a> {
    pub(super) repo: &'a Repository,
    pub(super) destination: &'a Destination,
    machine: &'a Machine,
    pub(super) ledger: &'a mut Ledger,
    options: &'a PushOptions<'a>,
    monitor: &'a dyn Monitor,
    /// All pushes as one.
    pub(super) held: Option<Push>,
    /// Names that are lost there, with the packs that each stood for.
    lost: BTreeMap<String, Vec<Digest>>,
    /// Of these, those that were sent again, or for which others stand now.
    back: BTreeSet<String>,
    /// The newest push that is known is not there.
    is_in_doubt: bool,
    /// The next record says everything: one on which it would build is missing or damaged.
    anew: bool,
    /// The least number of the next push: what others wrote there must not come after it.
    after: u64,
    /// Records of pushes there that this machine has not signed.
    pub(super) strangers: Vec<String>,
    /// What is there is replaced, because it should never have been stored: no reader is to find it.
    replaces: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        link: Link<'a>,
        options: &'a PushOptions<'a>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            repo: link.repo,
            destination: link.destination,
            machine: link.machine,
            ledger: link.ledger,
            options,
            monitor,
            held: None,
            lost: BTreeMap::new(),
            back: BTreeSet::new(),
            is_in_doubt: false,
            anew: false,
            after: 0,
            strangers: Vec::new(),
            replaces: false,
        }
    }
}

impl Run<'_> {
    /// Finds out what happened to a push that was interrupted, and whether somebody else pushed.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let known = self.ledger.newest().map(|push| (push.number, push.id));
        let after = known.map_or(0, |(number, _)| number);
        // The newest one that is known as well: it may be gone.
        let mut found = self.destination.pushes(after.saturating_sub(1))?;
        if let Some(known) = known.filter(|_| self.options.doubt.sees_at_once) {
            self.is_in_doubt = !self.still_there(known, &found)?;
        } else if known.is_none() && found.is_empty() && self.ledger.written_keys().next().is_some()
        {
            // The first push was interrupted.
            self.check_filled()?;
        }
        found.retain(|(number, _)| *number > after);
        let pending = self.ledger.pending();
        if let Some(pending) = pending {
            // Asked for by its name, too: a listing may be behind, and a second record of that number
            // would look like one of another machine.
            let push = (pending.number, pending.id);
            // What is noted already (by a run that was killed right after it) is only forgotten.
            let is_noted = known.is_some_and(|(number, _)| pending.number <= number);
            let is_there =
                !is_noted && (found.contains(&push) || self.destination.has_push(push)?);
            if is_there {
                self.ledger.finish(pending)?;
                self.ledger.forget_written();
            } else {
                self.ledger.forget_pending();
            }
        }
        let known = self.ledger.newest().map(|push| (push.number, push.id));
        let own = self.own(&found, known)?;
        match (known, own) {
            // The ledger is lost, or the destination was cleared.
            (None, Some(own)) => self.learn(own)?,
            (Some(known), Some(own)) if own != known => {
                return Err(Error::invalid(
                    format!(
                        "another machine pushes to `{}` under this machine's id ({})",
                        self.destination.place(),
                        self.machine.id
                    ),
                    Some(
                        "one of them is a copy of the other: give this one an id of its own with bdr remote reset, then push again",
                    ),
                ));
            }
            _ => {}
        }
        self.held = self.ledger.held();
        Ok(())
    }

    /// Returns the newest push that this machine signed, of those that were found. What somebody else
    /// wrote there says nothing: it is counted, and this machine's next push comes after it.
    fn own(&mut self, found: &[(u64, Id)], known: Option<(u64, Id)>) -> Result<Option<(u64, Id)>> {
        let mut own = None;
        for push in found.iter().rev() {
            if Some(*push) == known {
                own = known;
                break;
            }
            let signer = match self.destination.head(*push) {
                Ok((head, _)) => head.signer,
                Err(Error::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            if signer.is_some() && signer == self.machine.signer() {
                own = Some(*push);
                break;
            }
            self.strangers.push(record::file_name(push.0, push.1));
            if push.0 < record::LAST {
                self.after = self.after.max(push.0 + 1);
            }
        }
        // Without a ledger, nobody knows who wrote those before it.
        let unseen = own.filter(|_| known.is_none()).map(|(number, _)| number);
        if unseen.is_some() || !self.strangers.is_empty() {
            let mut others = self.ledger.others().clone();
            others.unseen = unseen.unwrap_or(others.unseen);
            others.names.extend(self.strangers.iter().cloned());
            self.ledger.set_others(others)?;
        }
        Ok(own)
    }

    /// Returns the records of others that are there. `listed`: all that are, in order.
    pub(super) fn others(&mut self, listed: &[(u64, Id)]) -> Result<Vec<String>> {
        let unseen = self.ledger.others().unseen;
        let (mut first, mut found) = (None, Vec::new());
        for push in listed.iter().filter(|push| push.0 <= unseen) {
            let mut known = self.ledger.chain().iter();
            let known = known.find(|own| (own.number, own.id) == *push);
            let signer = match known {
                Some(own) => own.signer,
                None => match self.destination.head(*push) {
                    Ok((head, _)) => head.signer,
                    // Gone since then, or damaged: it names nothing that anybody could read.
                    Err(Error::Damaged { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            // What comes before all of this machine's is of one whose place it took, or from before
            // records were signed.
            if signer.is_some() && signer == self.machine.signer() {
                first = first.or(Some(push.0));
            } else if signer.is_some() && first.is_some() {
                found.push(record::file_name(push.0, push.1));
            }
        }
        if unseen > 0 {
            let mut others = self.ledger.others().clone();
            others.unseen = 0;
            others.names.extend(found);
            self.ledger.set_others(others)?;
        }
        // A listing may be behind: what it does not show is still remembered.
        let others = &self.ledger.others().names;
        let names = listed.iter().map(|push| record::file_name(push.0, push.1));
        Ok(names.filter(|name| others.contains(name)).collect())
    }

    /// Learns from the records which objects are there, so that they are not sent again: from all
    /// of them if they are not encrypted, else from their first lines.
    fn learn(&mut self, newest: (u64, Id)) -> Result<()> {
        let mut next = Some(newest);
        let (mut chain, mut is_open) = (Vec::new(), true);
        // What a newer record no longer needs may be gone any time.
        let mut gone: HashSet<Digest> = HashSet::new();
        let nobody = Identities::default();
        while let Some((number, id)) = next {
            let (head, body) = match self.destination.head((number, id)) {
                Ok(found) if found.0.signer == self.machine.signer() => found,
                // What it had is sent again, as far as it is here.
                Ok(_) | Err(Error::Damaged { .. }) => {
                    self.anew = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            next = head.base.map(|base| (head.since, base));
            for (key, digest, bytes) in &head.objects {
                if gone.contains(key) {
                    continue;
                }
                self.ledger.learn(Part {
                    key: *key,
                    digest: *digest,
                    bytes: *bytes,
                    at: 0,
                    head: None,
                });
            }
            gone.extend(&head.gone);
            match head.open(&record::file_name(number, id), &body, &nobody) {
                Ok(push) => chain.push(push),
                Err(_) => is_open = false,
            }
        }
        match is_open && !chain.is_empty() {
            true => self.ledger.replace(chain),
            false => {
                self.ledger.set_floor(Some(newest));
                Ok(())
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.files.contains_key(name) || held.objects.contains_key(name))
    }

    /// Returns the content of a file in the record, if it is there.
    fn held_file(&self, name: &str) -> Option<&[u8]> {
        let bytes = self.held.as_ref()?.files.get(name)?;
        Some(&bytes.0)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.repo.storage().read(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("read", name, error)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<(String, u64)>> {
        let listed = self.repo.storage().list(dir);
        let listed = listed.map_err(|e| Error::storage("list", dir, e))?;
        let files = listed.into_iter().filter(|l| !l.is_dir);
        Ok(files
            .map(|l| (format!("{dir}/{}", l.name), l.bytes))
            .collect())
    }

    /// Returns the names of the files of this repository that can be pushed.
    pub(super) fn names_here(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for dir in ["snapshots", "operations", "marks", "kept", "manifests"] {
            names.extend(self.list(dir)?.into_iter().map(|(name, _)| name));
        }
        let packs = self.repo.list_packs()?.into_iter();
        names.extend(packs.map(|pack| layout::pack(pack.id)));
        Ok(names)
    }

    /// Finds out what is not there yet: records first, then what they need.
    fn wanted(&self, report: &mut PushReport) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        let waiting = self.waiting()?;
        for (name, _) in self.list("snapshots")? {
            let is_dropped = !self.has(&name) && self.ledger.dropped().contains(&name);
            if is_dropped || self.has(&name) && !self.is_changed(&name)? {
                continue;
            }
            let Ok(snapshot) = self.repo.read_snapshot(&name) else {
                // Removed meanwhile, or damaged: it is not spread, and `verify` says what is wrong.
                report.unreadable += u64::from(self.read(&name)?.is_some());
                continue;
            };
            if self.waits(&snapshot, &waiting) {
                report.waiting += 1;
                continue;
            }
            wanted.replaces |= self.has(&name);
            wanted.snapshots.push((name, snapshot));
        }
        let again = self.needed_again(&wanted)?;
        let is_wanted = |name: &str| !self.ledger.dropped().contains(name) || again.contains(name);
        let mut records: Vec<(String, u64)> = Vec::new();
        for dir in ["operations", "marks", "kept"] {
            records.extend(self.list(dir)?);
        }
        let of_waiting = |name: &str| layout::set_of(name).is_some_and(|id| waiting.contains(&id));
        records.retain(|(name, _)| !of_waiting(name));
        if !self.has("format.json") {
            records.push(("format.json".to_owned(), 0));
        }
        for (name, bytes) in records {
            let is_changed = self.is_changed(&name)?;
            wanted.replaces |= is_changed && !name.starts_with("marks/");
            if !self.has(&name) && is_wanted(&name) || is_changed {
                self.want(&mut wanted, name, bytes, INLINE_RECORD)?;
            }
        }
        for (name, bytes) in self.list("manifests")? {
            if !self.has(&name) && is_wanted(&name) {
                self.want(&mut wanted, name, bytes, INLINE)?;
            }
        }
        if wanted.replaces {
            self.want_long(&mut wanted)?;
        }
        for at in 0..wanted.snapshots.len() {
            let name = wanted.snapshots[at].0.clone();
            self.want(&mut wanted, name, 0, INLINE_RECORD)?;
        }
        self.packs(&mut wanted, &is_wanted, report)?;
        report.operations = wanted
            .files
            .keys()
            .filter(|name| name.ends_with(".begin.json"))
            .count() as u64;
        Ok(wanted)
    }

    /// Returns the sets of kept content that are not packed.
    fn waiting(&self) -> Result<HashSet<Id>> {
        let mut waiting = HashSet::new();
        for set in self.repo.kept_sets()? {
            if self.repo.kept_contents(set.id)?.is_none() {
                waiting.insert(set.id);
            }
        }
        Ok(waiting)
    }

    /// Returns true if a snapshot needs content that is only on this machine.
    fn waits(&self, snapshot: &Snapshot, waiting: &HashSet<Id>) -> bool {
        !waiting.is_empty()
            && snapshot.roots.iter().any(|root| {
                let Ok(listing) = self.repo.listing(root) else {
                    return false;
                };
                listing.iter().any(|entry| {
                    let content = entry.body.content.as_ref();
                    let kept = content.and_then(Content::as_kept);
                    kept.is_some_and(|kept| waiting.contains(&kept.set))
                })
            })
    }

    fn want(&self, wanted: &mut Wanted, name: String, bytes: u64, inline: u64) -> Result<()> {
        // Records are read to know their size; the rest is read when it is sent.
        if bytes <= inline {
            let Some(content) = self.read(&name)? else {
                return Ok(());
            };
            if content.len() as u64 <= inline {
                wanted.files.insert(name, content);
                return Ok(());
            }
        }
        let bytes = match bytes {
            0 => self.repo.storage().size(&name).ok().flatten().unwrap_or(0),
            bytes => bytes,
        };
        wanted.items.push(Item {
            name,
            bytes,
            content: Source::File,
            instead_of: Vec::new(),
        });
        Ok(())
    }

    /// Sends objects, then the record.
    fn send(&mut self, mut wanted: Wanted, report: &mut PushReport) -> Result<()> {
        let is_mending = self.anew || !self.lost.is_empty();
        if self.ledger.newest().is_none() || is_mending {
            self.introduce()?;
        }
        let total: u64 = wanted.items.iter().map(|item| item.bytes).sum();
        self.monitor
            .phase(Phase::Storing, wanted.items.len() as u64, total);
        let items = std::mem::take(&mut wanted.items);
        let mut objects = self.upload(items, report)?;
        let mut delta = self.empty();
        let number = delta.number;
        self.part_tails(number, &mut objects, report)?;
        // Prune may have removed a snapshot meanwhile, with what it needs.
        let left: BTreeSet<String> = self
            .list("snapshots")?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let is_left = |name: &String| !name.starts_with("snapshots/") || left.contains(name);
        delta.files = wanted
            .files
            .into_iter()
            .filter(|(name, _)| is_left(name))
            .map(|(name, bytes)| (name, Bytes(bytes)))
            .collect();
        delta.objects = objects
            .into_iter()
            .filter(|(name, _)| is_left(name))
            .collect();
        let (gone, stands) = self.replaced(&delta);
        delta.gone = gone;
        if !delta.gone.is_empty() {
            self.ledger.note_instead(delta.gone.clone(), stands)?;
        }
        let new = wanted.snapshots.iter().filter(|(name, _)| is_left(name));
        let new: Vec<&Snapshot> = new.map(|(_, snapshot)| snapshot).collect();
        report.snapshots = new.len() as u64;
        if wanted.replaces {
            self.replace(number, &left)?;
            report.replaces = true;
        }
        for snapshot in &new {
            self.name_full(snapshot, &delta)?;
        }
        if is_mending || wanted.replaces {
            self.name_fulls_again(&delta)?;
        }
        let again = delta.files.keys().chain(delta.objects.keys());
        self.back = again.chain(&delta.gone).cloned().collect();
        // The others may have needed what was replaced.
        let others = match wanted.replaces {
            true => self.others_here(&new, &left)?,
            false => Vec::new(),
        };
        let all: Vec<&Snapshot> = new.into_iter().chain(&others).collect();
        let needs = self.needs(&all, &delta)?;
        self.ledger.note_needs(needs)?;
        report.bytes += self.commit(delta, &BTreeSet::new())?;
        report.number = Some(number);
        self.ledger.forget_written();
        Ok(())
    }
}

/// Returns what an object says that it is, inside of the encryption.
pub(super) fn comment(repository: Id, name: &str, part: usize) -> String {
    format!("bdr1 {repository} object {name} {part}")
}
