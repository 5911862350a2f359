//! What each pushed snapshot needs at a destination: noted when it is pushed, because that is the last
//! time that this machine is sure to know.
//!
//! A machine can only add to an encrypted destination. When something is to be removed there, the
//! snapshots that stay are often gone here, and so is the knowledge of their packs. So a push writes
//! down, before its record, which files of the destination every new snapshot needs.
//!
//! It is a file of lines that is only appended to. Each has a checksum: a line that is damaged or lost
//! makes that snapshot *unknown*, and what is unknown keeps everything that was there when it came.
//! Names are written once and have numbers from then on, which no other name ever gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::id::{Digest, SnapshotId};
use crate::disk::fsutil;
use crate::repo::layout;
use crate::repo::snapshot::{Snapshot, SnapshotKind, Trigger};

/// What retention asks about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub seq: u64,
    pub id: SnapshotId,
    /// When it began, by its own record.
    pub time: DateTime<Utc>,
    pub kind: SnapshotKind,
    pub trigger: Trigger,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    pub roots: Vec<String>,
    /// Bytes written for it here.
    pub bytes: u64,
}

impl From<&Snapshot> for About {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            seq: snapshot.seq,
            id: snapshot.id,
            time: snapshot.time,
            kind: snapshot.kind,
            trigger: snapshot.trigger,
            partial: snapshot.partial,
            label: snapshot.label.clone(),
            tags: snapshot.tags.clone(),
            roots: snapshot.roots.iter().map(|r| r.name.to_string()).collect(),
            bytes: snapshot.stats.stored_bytes,
        }
    }
}

impl About {
    pub fn file_name(&self) -> String {
        layout::snapshot(self.seq, self.id)
    }
}

/// What one snapshot needs at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub about: About,
    /// Number and time of the push that brought it.
    pub arrived: u64,
    pub at: DateTime<Utc>,
    /// Digest of its record as it was pushed, where that is in the record of the push.
    pub record: Option<Digest>,
    /// Digest of its record, where that was too long for the record of the push.
    pub long: Option<Digest>,
    /// Names of files, its own record among them.
    pub names: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    about: About,
    arrived: u64,
    at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long: Option<Digest>,
    /// Names that no line before has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    new: BTreeMap<u64, String>,
    /// Numbers of its names: first and last, each time.
    names: Vec<(u64, u64)>,
    /// The next free number.
    next: u64,
}

/// Packs that were lost there, and what stands for each now.
#[derive(Serialize, Deserialize)]
struct Instead {
    lost: BTreeSet<String>,
    stands: BTreeSet<String>,
}

enum Entry {
    Need(Box<Line>),
    Instead(Instead),
}

/// All that is known.
pub(super) struct Book {
    path: PathBuf,
    needs: BTreeMap<SnapshotId, Need>,
    /// What stands for packs that were lost.
    stands: BTreeSet<String>,
    numbers: HashMap<String, u64>,
    next: u64,
}

impl Book {
    /// Reads the book in the directory of a destination. What is damaged is not in it.
    pub(super) fn open(dir: &Path) -> Self {
        let mut book = Self::empty(dir.join("needs"));
        let mut names: HashMap<u64, String> = HashMap::new();
        let bytes = fsutil::read_derived(&book.path).unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n');
        let lines: Vec<Entry> = lines.filter_map(read_line).collect();
        for entry in &lines {
            let Entry::Need(line) = entry else { continue };
            book.next = book.next.max(line.next);
            for (number, name) in &line.new {
                book.numbers.insert(name.clone(), *number);
                names.insert(*number, name.clone());
            }
        }
        for entry in lines {
            let line = match entry {
                Entry::Need(line) => line,
                Entry::Instead(instead) => {
                    book.replace(&instead);
                    continue;
                }
            };
            let numbers = line.names.iter().flat_map(|(from, to)| *from..=*to);
            let known: Option<BTreeSet<String>> =
                numbers.map(|number| names.get(&number).cloned()).collect();
            let id = line.about.id;
            match known {
                Some(names) => {
                    let need = Need {
                        about: line.about,
                        arrived: line.arrived,
                        at: line.at,
                        record: line.record,
                        long: line.long,
                        names,
                    };
                    book.needs.insert(id, need);
                }
                // An older line about it says what it needed then.
                None => drop(book.needs.remove(&id)),
            }
        }
        book
    }

    fn empty(path: PathBuf) -> Self {
        Self {
            path,
            needs: BTreeMap::new(),
            stands: BTreeSet::new(),
            numbers: HashMap::new(),
            next: 1,
        }
    }

    /// Returns what a snapshot needs, if that is known.
    pub(super) fn get(&self, id: SnapshotId) -> Option<&Need> {
        self.needs.get(&id)
    }

    /// Notes what snapshots need.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(super) fn note(&mut self, needs: Vec<Need>) -> Result<()> {
        let mut lines = Vec::new();
        for need in needs {
            lines.extend_from_slice(&self.line(&need)?);
            self.needs.insert(need.about.id, need);
        }
        match lines.is_empty() {
            true => Ok(()),
            false => fsutil::append_derived(&self.path, &lines),
        }
    }

    fn line(&mut self, need: &Need) -> Result<Vec<u8>> {
        let mut new = BTreeMap::new();
        let mut numbers: Vec<u64> = Vec::with_capacity(need.names.len());
        for name in &need.names {
            let number = *self.numbers.entry(name.clone()).or_insert_with(|| {
                new.insert(self.next, name.clone());
                self.next += 1;
                self.next - 1
            });
            numbers.push(number);
        }
        numbers.sort_unstable();
        let mut names: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match names.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => names.push((number, number)),
            }
        }
        let line = Line {
            about: need.about.clone(),
            arrived: need.arrived,
            at: need.at,
            record: need.record,
            long: need.long,
            new,
            names,
            next: self.next,
        };
        let json = serde_json::to_string(&line).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        Ok(framed(&json))
    }

    /// Returns what stands for packs that were lost: it was there, under other names, before.
    pub(super) fn stands(&self) -> &BTreeSet<String> {
        &self.stands
    }

    /// Notes that what is known of packs that were lost holds for others.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(super) fn note_instead(
        &mut self,
        lost: BTreeSet<String>,
        stands: BTreeSet<String>,
    ) -> Result<()> {
        let instead = Instead { lost, stands };
        let json = serde_json::to_string(&instead).map_err(|e| Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::append_derived(&self.path, &framed(&json))?;
        self.replace(&instead);
        Ok(())
    }

    fn replace(&mut self, instead: &Instead) {
        for need in self.needs.values_mut() {
            let before = need.names.len();
            need.names.retain(|name| !instead.lost.contains(name));
            if need.names.len() < before {
                need.names.extend(instead.stands.iter().cloned());
            }
        }
        self.stands.extend(instead.stands.iter().cloned());
    }

    /// Forgets snapshots that are not there any more.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(super) fn retain(&mut self, is_there: impl Fn(&About) -> bool) -> Result<()> {
        let before = self.needs.len();
        let mut needs = std::mem::take(&mut self.needs);
        needs.retain(|_, need| is_there(&need.about));
        if needs.len() == before {
            self.needs = needs;
            return Ok(());
        }
        let mut fresh = Self::empty(self.path.clone());
        let mut all = Vec::new();
        if !self.stands.is_empty() {
            fresh.stands.clone_from(&self.stands);
            let instead = Instead {
                lost: BTreeSet::new(),
                stands: self.stands.clone(),
            };
            let json = serde_json::to_string(&instead).map_err(|e| Error::Unrecordable {
                reason: e.to_string(),
            })?;
            all.extend_from_slice(&framed(&json));
        }
        for need in needs.values() {
            all.extend_from_slice(&fresh.line(need)?);
        }
        fsutil::write_atomic(&self.path, &all, 0o600)?;
        *self = Self { needs, ..fresh };
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        let _ = fsutil::remove_file(&self.path);
        *self = Self::empty(self.path.clone());
    }
}

/// Returns a line. It begins with its line break: what was cut off before it stays alone.
fn framed(json: &str) -> Vec<u8> {
    format!("\n{} {json}", checksum(json.as_bytes())).into_bytes()
}

fn checksum(json: &[u8]) -> String {
    Digest::of(json).to_hex()[..16].to_owned()
}

fn read_line(line: &[u8]) -> Option<Entry> {
    let (sum, json) = line.split_at_checked(17)?;
    let is_whole = sum.strip_suffix(b" ") == Some(checksum(json).as_bytes());
    if !is_whole {
        return None;
    }
    let need = serde_json::from_slice(json).map(|line| Entry::Need(Box::new(line)));
    let entry = need.or_else(|_| serde_json::from_slice(json).map(Entry::Instead));
    entry.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Id;

    fn need(number: u64, names: &[&str]) -> Need {
        let about = About {
            seq: number,
            id: Id::from_u128(u128::from(number)),
            time: DateTime::UNIX_EPOCH,
            kind: SnapshotKind::Incremental,
            trigger: Trigger::Guard,
            partial: false,
            label: None,
            tags: Vec::new(),
            roots: vec!["tree".to_owned()],
            bytes: 1,
        };
        let mut names: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        names.insert(about.file_name());
        Need {
            about,
            arrived: number,
            at: DateTime::UNIX_EPOCH,
            record: Some(Digest::of(b"record")),
            long: None,
            names,
        }
    }

    fn known(book: &Book, need: &Need) -> bool {
        match book.get(need.about.id) {
            Some(found) => {
                assert_eq!(found, need, "what is known is right");
                true
            }
            None => false,
        }
    }

    /// Whatever is lost of the file, what is still read is right; and what is written later too.
    #[test]
    fn a_damaged_line_makes_its_snapshots_unknown_and_no_other_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let needs: Vec<Need> = (1..9_u64)
            .map(|n| {
                let own = format!("packs/{n}");
                need(n, &["packs/a", "packs/b", &own])
            })
            .collect();
        let mut book = Book::open(dir.path());
        for one in &needs {
            book.note(vec![one.clone()]).unwrap();
        }
        assert!(
            needs
                .iter()
                .all(|need| known(&Book::open(dir.path()), need))
        );
        let path = dir.path().join("needs");
        let whole = std::fs::read(&path).unwrap();
        let mut lost = 0;
        for at in 0..whole.len() {
            for cut in [true, false] {
                let mut bytes = whole.clone();
                match cut {
                    true => bytes.truncate(at),
                    false => bytes[at] ^= 1,
                }
                fsutil::write_atomic(&path, &bytes, 0o600).unwrap();
                let mut book = Book::open(dir.path());
                lost += needs.iter().filter(|need| !known(&book, need)).count();
                let later = need(99, &["packs/b", "packs/new"]);
                book.note(vec![later.clone()]).unwrap();
                let book = Book::open(dir.path());
                assert!(known(&book, &later), "{at} {cut}");
                needs.iter().for_each(|need| _ = known(&book, need));
            }
        }
        assert!(lost > 100);
        // What is gone is forgotten, and the rest stays as it is.
        fsutil::write_atomic(&path, &whole, 0o600).unwrap();
        let mut book = Book::open(dir.path());
        book.retain(|about| about.seq % 2 == 0).unwrap();
        for book in [&book, &Book::open(dir.path())] {
            for need in &needs {
                assert_eq!(known(book, need), need.about.seq % 2 == 0);
            }
        }
        assert!(std::fs::read(&path).unwrap().len() < whole.len());
    }
}
