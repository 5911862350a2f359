//! Checks a destination without a key: whether every object that its records name is there, as it was
//! written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::destination::NOT_SIGNED;
use super::destination::{Destination, object_name};
use super::record::{Head, file_name};
use super::sign::Signer;
use crate::base::error::{Error, Result};
use crate::base::id::{Digest, Id};
use crate::base::monitor::{Monitor, Phase};
use crate::base::threads;

/// How many objects are fetched at once.
const THREADS: usize = 4;

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckLevel {
    /// A listing: names and sizes.
    Listed,
    /// Every byte.
    Digests,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It has another size.
    Size,
    /// It has other bytes.
    Content,
}

impl Fault {
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "it is missing",
            Self::Size => "it has another size",
            Self::Content => "it was changed",
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The newest push, and how many there are.
    pub newest: Option<(u64, Id)>,
    pub pushes: u64,
    pub objects: u64,
    pub bytes: u64,
    /// Objects by their names below the machine's prefix.
    pub faults: Vec<(String, Fault)>,
    /// Records that are missing or damaged, with the reason.
    pub records: Vec<(String, String)>,
    /// Objects that no record names, and their bytes: in the trash, or left by a push that was
    /// interrupted.
    pub unnamed: u64,
    pub unnamed_bytes: u64,
    /// Numbers of pushes that two records have.
    pub twins: Vec<u64>,
    /// Who signed the newest record that counts.
    pub signer: Option<Signer>,
    /// That is who was expected.
    pub is_signer_known: bool,
}

impl CheckReport {
    /// Returns true if something is missing or damaged.
    pub fn is_damaged(&self) -> bool {
        !self.faults.is_empty() || !self.records.is_empty()
    }
}

/// Reads the first line of a record; what is missing, damaged or signed by another is reported.
fn head(
    destination: &Destination,
    push: (u64, Id),
    signer: Option<Signer>,
    report: &mut CheckReport,
) -> Result<Option<Head>> {
    let read = destination.head(push).map(|(head, _)| head);
    let name = file_name(push.0, push.1);
    let error = match read {
        Ok(head) if signer.is_some() && head.signer != signer => Error::damaged(&name, NOT_SIGNED),
        Ok(head) => return Ok(Some(head)),
        Err(error @ Error::Damaged { .. }) => error,
        Err(error) => return Err(error),
    };
    let reason = match error {
        Error::Damaged { reason, .. } => reason,
        other => other.to_string(),
    };
    report.records.push((name, reason));
    Ok(None)
}

/// Returns the objects that the records name which a reader needs, with digests and sizes.
fn named(
    destination: &Destination,
    pushes: &[(u64, Id)],
    signer: Option<Signer>,
    report: &mut CheckReport,
) -> Result<BTreeMap<Digest, (Digest, u64)>> {
    let mut named: BTreeMap<Digest, (Digest, u64)> = BTreeMap::new();
    let mut gone: HashSet<Digest> = HashSet::new();
    // Where the newest record is damaged, a reader goes on from the one before.
    let mut found = None;
    for push in pushes.iter().rev() {
        found = head(destination, *push, signer, report)?;
        if found.is_some() {
            report.newest = Some(*push);
            break;
        }
    }
    report.signer = found.as_ref().and_then(|head| head.signer);
    report.is_signer_known = signer.is_some() && report.signer == signer;
    while let Some(newest) = found.take() {
        // What a newer push no longer needs may be gone.
        for (key, digest, bytes) in newest.objects {
            if !gone.contains(&key) {
                named.entry(key).or_insert((digest, bytes));
            }
        }
        gone.extend(newest.gone);
        if let Some(base) = newest.base {
            found = head(destination, (newest.since, base), report.signer, report)?;
        }
    }
    Ok(named)
}

/// Checks a destination. `signer`: who signs what is there, if that is known.
///
/// # Errors
/// It cannot be read, or the user stopped it. What is damaged is reported, not an error.
pub fn check(
    destination: &Destination,
    level: CheckLevel,
    signer: Option<Signer>,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let pushes = destination.pushes(0)?;
    let mut report = CheckReport {
        newest: pushes.last().copied(),
        pushes: pushes.len() as u64,
        ..CheckReport::default()
    };
    let same = pushes.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    report.twins = same.map(|pair| pair[0].0).collect();
    let named = named(destination, &pushes, signer, &mut report)?;
    let listed: HashMap<String, u64> = destination
        .list("objects/")?
        .into_iter()
        .map(|object| (object.key, object.bytes))
        .collect();
    report.objects = named.len() as u64;
    report.bytes = named.values().map(|(_, bytes)| bytes).sum();
    let mut whole = Vec::new();
    for (key, (digest, bytes)) in &named {
        let name = object_name(*key);
        match listed.get(&name) {
            None => report.faults.push((name, Fault::Missing)),
            Some(found) if found != bytes => report.faults.push((name, Fault::Size)),
            Some(_) => whole.push((name, *digest, *bytes)),
        }
    }
    let is_named = |name: &str| {
        let key = name
            .rsplit('/')
            .next()
            .and_then(|hex| hex.parse::<Digest>().ok());
        key.is_some_and(|key| named.contains_key(&key))
    };
    for bytes in listed
        .iter()
        .filter(|(name, _)| !is_named(name))
        .map(|(_, bytes)| bytes)
    {
        report.unnamed += 1;
        report.unnamed_bytes += bytes;
    }
    if level == CheckLevel::Digests {
        let faults = read_all(destination, &whole, monitor)?;
        report.faults.extend(faults);
    }
    report.faults.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(report)
}

/// Fetches objects and compares their digests.
fn read_all(
    destination: &Destination,
    objects: &[(String, Digest, u64)],
    monitor: &dyn Monitor,
) -> Result<Vec<(String, Fault)>> {
    let total = objects.iter().map(|(_, _, bytes)| bytes).sum();
    monitor.phase(Phase::Verifying, objects.len() as u64, total);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let stop = |error| {
        if let Ok(mut failed) = failed.lock() {
            failed.get_or_insert(error);
        }
    };
    let work = || {
        let mut faults = Vec::new();
        while let Some((name, digest, bytes)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            if monitor.stopped() {
                stop(Error::Interrupted);
            }
            if failed.lock().map_or(true, |failed| failed.is_some()) {
                break;
            }
            match destination.get(name, None) {
                Ok(found) if Digest::of(&found) == *digest => {}
                Ok(_) => faults.push((name.clone(), Fault::Content)),
                // It was listed a moment ago.
                Err(Error::Damaged { .. }) => faults.push((name.clone(), Fault::Missing)),
                Err(error) => stop(error),
            }
            monitor.advance(1, *bytes);
        }
        faults
    };
    let threads = THREADS.min(objects.len()).max(1);
    let faults = threads::share(threads, &work);
    match failed.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => Ok(faults.into_iter().flatten().flatten().collect()),
    }
}
