//! What ran, when, and how it ended: the history behind schedule, status and alerts.
//!
//! It is in the state directory, by the path of the repository, and not inside it, because bdr has
//! to notice when a repository is away. The memory says which repository it is about, so it follows
//! one that was moved (`moved`). Locks and the place of the disk stay with the path. Losing it costs
//! the history and one early run, nothing else. A part that cannot be read counts as missing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::base::id::{Digest, SnapshotId};
use crate::base::path::os_to_bytes;
use crate::disk::fsutil::{self, Lock, Sharing};
use crate::disk::storage::Place;
use crate::model::schedule::{Job, Pasts};

mod moved;

pub use moved::Of;

/// From this size on, in bytes, the list of runs is put aside, replacing the previous one. About
/// 4,000 runs.
const ROTATE_BYTES: u64 = 1024 * 1024;
/// How long another process may hold the lock: it only writes one small file.
const PATIENCE: Duration = Duration::from_secs(2);

const MEMORY: &str = "memory.json";
const RUNS: &str = "runs.jsonl";
const OLD_RUNS: &str = "runs.old.jsonl";
/// What backups kept out of the repository.
const EXCLUDED: &str = "excluded";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    /// Done, but something could not be read, or space could not be freed.
    Partial,
    Failed,
    /// It could not be attempted: busy, or the destination is missing.
    Skipped,
}

impl Outcome {
    /// Returns the word for files and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One run of a job. No paths, no values, because others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub time: DateTime<Utc>,
    pub job: Job,
    /// Who started it: `user`, a scheduler, `guard`, `hook`, `mcp`.
    pub by: String,
    pub outcome: Outcome,
    pub elapsed_ms: u64,
    /// Code of the error, as in `--json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The snapshot that was made or checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Files backed up, or restored by a drill.
    #[serde(default)]
    pub files: u64,
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that a backup added, or a prune freed.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Bytes of the repository afterwards; 0 if unknown.
    #[serde(default)]
    pub repository_bytes: u64,
    /// Paths that could not be read, or were found damaged.
    #[serde(default)]
    pub problems: u64,
    /// Files that changed during every reading.
    #[serde(default)]
    pub torn: u64,
}

impl Run {
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, Outcome::Done | Outcome::Partial)
    }
}

/// The last time a scheduler woke bdr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    pub time: DateTime<Utc>,
    /// Which scheduler.
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub job: Job,
    pub pid: u32,
}

/// The last message about the state of protection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The word for what was wrong; empty if all was well.
    pub trouble: String,
    /// When it was last sent.
    pub at: Option<DateTime<Utc>>,
}

/// What has to be known at once, in one small file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When automatic backups should have started.
    pub since: Option<DateTime<Utc>>,
    /// The scheduler that was registered.
    pub backend: Option<String>,
    pub tick: Option<Tick>,
    pub pasts: Pasts,
    /// What the last backup could not read.
    pub unread: u64,
    /// Files that changed during every reading by the last backup.
    pub torn: u64,
    /// Damage that the last verification of everything found.
    pub damage: u64,
    /// Bytes of the repository after the last run; 0 if unknown.
    pub repository_bytes: u64,
    /// Bytes that the repository was allowed to take then, if that follows the disk; 0 for no
    /// limit.
    pub max_bytes: u64,
    /// What the last full backup stored; 0 if unknown.
    pub full_bytes: u64,
    /// The last run that began and did not report its end.
    pub running: Option<Running>,
    pub said: Said,
    /// Time of the last export of the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported: Option<DateTime<Utc>>,
    /// Files of which backups now leave out more, if nobody was notified yet.
    pub newly_excluded: u64,
    /// The repository that this is about; `None` if an earlier version wrote it, or the repository
    /// was away: then it is the one at its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Of>,
}

#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
    state: PathBuf,
    repository: PathBuf,
}

impl Journal {
    /// Returns the journal of the repository at `repository`, below the directory `state`. Creates
    /// nothing yet.
    pub fn new(state: &Path, repository: &Path) -> Self {
        Self {
            dir: dir_of(state, &os_to_bytes(repository.as_os_str())),
            state: state.to_path_buf(),
            repository: repository.to_path_buf(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the file system on which the repository was when it was last written to.
    pub fn place(&self) -> Option<Place> {
        let json = std::fs::read(self.dir.join("place.json")).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Remembers the file system of the repository.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn remember_place(&self, place: &Place) -> Result<()> {
        if self.place().as_ref() == Some(place) {
            return Ok(());
        }
        fsutil::create_dir_private(&self.dir)?;
        // Only strings and numbers: cannot fail.
        let json = serde_json::to_vec(place).unwrap_or_default();
        fsutil::write_derived(&self.dir.join("place.json"), &json)
    }

    pub fn memory(&self) -> Memory {
        moved::find(self).memory
    }

    /// Returns the memory for people: a run in progress has not failed yet.
    pub fn seen(&self) -> Memory {
        let mut memory = self.memory();
        if let Some(running) = memory.running
            && fsutil::process_runs(running.pid)
        {
            memory.pasts.skip(running.job);
        }
        memory
    }

    /// Changes the memory under its lock, and returns it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> Result<Memory> {
        fsutil::create_dir_private(&self.dir)?;
        // Without locks, or if somebody holds it for ever, the last writer wins: that costs an
        // early run.
        let _alone = Lock::on(&self.dir.join("lock"), Sharing::Alone, PATIENCE).ok();
        self.rewrite(change)
    }

    fn rewrite(&self, change: impl FnOnce(&mut Memory)) -> Result<Memory> {
        let found = moved::find(self);
        moved::carry(self, &found);
        let mut memory = found.memory;
        change(&mut memory);
        if let Some(repository) = found.repository {
            memory.of = Some(Of::new(repository, &self.repository));
        }
        // Only strings, numbers and times: cannot fail.
        let json = serde_json::to_vec(&memory).unwrap_or_default();
        fsutil::write_derived(&self.dir.join(MEMORY), &json)?;
        Ok(memory)
    }

    /// Records what a backup kept out of the repository, as file and kind; returns how many files
    /// are new in that, or have a new kind of reason. Each is new only once; what the first backup
    /// leaves out does not count as new.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn newly_excluded(&self, excluded: &[(PathBuf, String)]) -> Result<u64> {
        let before = std::fs::read(self.found_in().join(EXCLUDED));
        let mut known: BTreeSet<[u8; 8]> = before
            .iter()
            .flat_map(|bytes| bytes.chunks_exact(8))
            .filter_map(|key| key.try_into().ok())
            .collect();
        let mut new = BTreeSet::new();
        for (path, kind) in excluded {
            let text = [&*os_to_bytes(path.as_os_str()), kind.as_bytes()].join(&0);
            let mut key = [0; 8];
            key.copy_from_slice(&Digest::of(&text).0[..8]);
            if known.insert(key) {
                new.insert(path);
            }
        }
        if before.is_ok() && new.is_empty() {
            return Ok(0);
        }
        self.settle()?;
        let bytes: Vec<u8> = known.into_iter().flatten().collect();
        fsutil::write_derived(&self.dir.join(EXCLUDED), &bytes)?;
        Ok(before.map_or(0, |_| new.len() as u64))
    }

    /// Adds a run to the list.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn add(&self, run: &Run) -> Result<()> {
        self.settle()?;
        let file = self.dir.join(RUNS);
        if std::fs::metadata(&file).is_ok_and(|meta| meta.len() > ROTATE_BYTES) {
            // If two do this at once, one of them finds nothing to put aside.
            let _ = fsutil::rename(&file, &self.dir.join(OLD_RUNS));
        }
        // A line break first as well: a line that a crash cut off must not spoil this one.
        let mut line = vec![b'\n'];
        line.extend(serde_json::to_vec(run).unwrap_or_default());
        line.push(b'\n');
        fsutil::append_derived(&file, &line)
    }

    /// Returns the recorded runs, oldest first: at least the last 4,000.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        let dir = self.found_in();
        for file in [OLD_RUNS, RUNS] {
            let Ok(file) = std::fs::File::open(dir.join(file)) else {
                continue;
            };
            let lines = BufReader::new(file)
                .split(b'\n')
                .map_while(std::io::Result::ok);
            runs.extend(lines.filter_map(|line| serde_json::from_slice::<Run>(&line).ok()));
        }
        runs
    }

    /// Returns true if the history of the repository is still under the path where it was before.
    pub fn is_elsewhere(&self) -> bool {
        moved::find(self).dir.is_some_and(|dir| dir != self.dir)
    }

    /// Notes that a repository will be moved here: until then it is where it was.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn await_from(&self, old: &Path) -> Result<()> {
        moved::await_from(self, old)
    }

    /// Returns where a repository still is that will be moved here; `None` if there is none, or one
    /// is here.
    pub fn awaited_from(&self) -> Option<PathBuf> {
        moved::awaited_from(self)
    }

    /// Returns the directory in which the history is until something is written.
    fn found_in(&self) -> PathBuf {
        moved::find(self).dir.unwrap_or_else(|| self.dir.clone())
    }

    /// Makes the directory, and has the history in it.
    fn settle(&self) -> Result<()> {
        fsutil::create_dir_private(&self.dir)?;
        moved::carry(self, &moved::find(self));
        Ok(())
    }

    /// Takes the lock that a tick holds while it works; `None` if another one has it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn tick_lock(&self) -> Result<Option<Lock>> {
        fsutil::create_dir_private(&self.dir)?;
        let path = self.dir.join("tick.lock");
        match Lock::on(&path, Sharing::Alone, Duration::ZERO) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(crate::Error::io("lock", &path, error)),
        }
    }
}

fn dir_of(state: &Path, key: &[u8]) -> PathBuf {
    state.join(&Digest::of(key).to_hex()[..16])
}
