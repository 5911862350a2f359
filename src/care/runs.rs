//! What ran, when, and how it ended: the memory behind schedule, status and alerts.
//!
//! It is in the state directory, by the path of the repository, and not inside it, because bdr has
//! to notice when a repository is away. Losing it costs the history and one early run, nothing
//! else. A part that cannot be read counts as missing.

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

/// From this size on the list of runs is put aside; the one put aside before goes. Some 4,000 runs.
const ROTATE_BYTES: u64 = 1024 * 1024;
/// For how long another process may hold the memory: it writes one small file.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It did, but something could not be read, or space not be given back.
    Partial,
    /// It did not.
    Failed,
    /// It could not be tried: busy, or the destination is not there.
    Skipped,
}

impl Outcome {
    /// Returns its word in files and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One run of a job. No paths, no values: it is shown to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub time: DateTime<Utc>,
    /// What ran.
    pub job: Job,
    /// Who started it: `user`, a scheduler, `guard`, `hook`, `mcp`.
    pub by: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
    /// Code of the error, as in `--json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The snapshot made, or checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Files backed up, or restored by a drill.
    #[serde(default)]
    pub files: u64,
    /// Their bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that a backup added, or a prune gave back.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Bytes of the repository afterwards; 0: not known.
    #[serde(default)]
    pub repository_bytes: u64,
    /// What could not be read, or was found damaged.
    #[serde(default)]
    pub problems: u64,
    /// What changed whenever a backup read it.
    #[serde(default)]
    pub torn: u64,
}

impl Run {
    /// Returns true if the job did what it is there for.
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, Outcome::Done | Outcome::Partial)
    }
}

/// The last time a scheduler woke bdr up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When.
    pub time: DateTime<Utc>,
    /// Which.
    pub by: String,
}

/// A run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What runs.
    pub job: Job,
    /// In which process.
    pub pid: u32,
}

/// What was last said about the state of things.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The word of what was wrong; empty: all was well.
    pub trouble: String,
    /// When it was said last.
    pub at: Option<DateTime<Utc>>,
}

/// What has to be known at once, in one small file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// From when on backups were to run by themselves.
    pub since: Option<DateTime<Utc>>,
    /// What was registered to wake bdr up.
    pub backend: Option<String>,
    /// The last wake-up.
    pub tick: Option<Tick>,
    /// The past of every job.
    pub pasts: Pasts,
    /// What the last backup could not read.
    pub unread: u64,
    /// What changed whenever the last backup read it.
    pub torn: u64,
    /// Bytes of the repository after the last run; 0: not known.
    pub repository_bytes: u64,
    /// Bytes that the repository may take, as of then, where that follows the disk; 0: any number.
    pub max_bytes: u64,
    /// The last run that began and has not come back.
    pub running: Option<Running>,
    /// What was said of it.
    pub said: Said,
    /// Files of which backups leave out more than they did, and nobody was told yet.
    pub newly_excluded: u64,
}

/// The memory of one repository.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Returns that of the repository at `repository`, below the directory `state`. Nothing is made yet.
    pub fn new(state: &Path, repository: &Path) -> Self {
        let name = Digest::of(&os_to_bytes(repository.as_os_str())).to_hex();
        Self {
            dir: state.join(&name[..16]),
        }
    }

    /// Returns its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn memory_file(&self) -> PathBuf {
        self.dir.join("memory.json")
    }

    fn runs_file(&self) -> PathBuf {
        self.dir.join("runs.jsonl")
    }

    fn old_runs_file(&self) -> PathBuf {
        self.dir.join("runs.old.jsonl")
    }

    /// Returns the file system that the repository was on when it was last written to.
    pub fn place(&self) -> Option<Place> {
        let json = std::fs::read(self.dir.join("place.json")).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Remembers the file system that the repository is on.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn remember_place(&self, place: &Place) -> Result<()> {
        if self.place().as_ref() == Some(place) {
            return Ok(());
        }
        fsutil::create_dir_private(&self.dir)?;
        // Strings and numbers: cannot fail.
        let json = serde_json::to_vec(place).unwrap_or_default();
        fsutil::write_derived(&self.dir.join("place.json"), &json)
    }

    /// Returns what is remembered.
    pub fn memory(&self) -> Memory {
        let bytes = std::fs::read(self.memory_file());
        let memory = bytes.ok().and_then(|b| serde_json::from_slice(&b).ok());
        memory.unwrap_or_default()
    }

    /// Returns what is remembered, as a person is to hear of it: what is under way has not failed yet.
    pub fn seen(&self) -> Memory {
        let mut memory = self.memory();
        if let Some(running) = memory.running
            && fsutil::process_runs(running.pid)
        {
            memory.pasts.skip(running.job);
        }
        memory
    }

    /// Changes what is remembered, alone, and returns it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> Result<Memory> {
        fsutil::create_dir_private(&self.dir)?;
        // Where there are no locks, or somebody holds it for ever, the last one wins: that costs an early run.
        let _alone = Lock::on(&self.dir.join("lock"), Sharing::Alone, PATIENCE).ok();
        self.rewrite(change)
    }

    fn rewrite(&self, change: impl FnOnce(&mut Memory)) -> Result<Memory> {
        let mut memory = self.memory();
        change(&mut memory);
        // Strings, numbers and times: cannot fail.
        let json = serde_json::to_vec(&memory).unwrap_or_default();
        fsutil::write_derived(&self.memory_file(), &json)?;
        Ok(memory)
    }

    /// Takes what a backup left out of the repository, as file and kind; returns how many files are new in that, or for a new kind of
    /// reason. Each is new once; what the first backup leaves out is what was there when backups began, and is not.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn newly_excluded(&self, excluded: &[(PathBuf, String)]) -> Result<u64> {
        let file = self.dir.join("excluded");
        let before = std::fs::read(&file);
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
        fsutil::create_dir_private(&self.dir)?;
        let bytes: Vec<u8> = known.into_iter().flatten().collect();
        fsutil::write_derived(&file, &bytes)?;
        Ok(before.map_or(0, |_| new.len() as u64))
    }

    /// Adds a run to the list.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn add(&self, run: &Run) -> Result<()> {
        fsutil::create_dir_private(&self.dir)?;
        let file = self.runs_file();
        if std::fs::metadata(&file).is_ok_and(|meta| meta.len() > ROTATE_BYTES) {
            // Of two that do this at once one finds nothing to put aside.
            let _ = fsutil::rename(&file, &self.old_runs_file());
        }
        // The line end comes first as well: a line that was cut off by a crash does not take this one along.
        let mut line = vec![b'\n'];
        line.extend(serde_json::to_vec(run).unwrap_or_default());
        line.push(b'\n');
        fsutil::append_derived(&file, &line)
    }

    /// Returns the runs that are remembered, oldest first: at least the last 4,000.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for file in [self.old_runs_file(), self.runs_file()] {
            let Ok(file) = std::fs::File::open(file) else {
                continue;
            };
            let lines = BufReader::new(file)
                .split(b'\n')
                .map_while(std::io::Result::ok);
            runs.extend(lines.filter_map(|line| serde_json::from_slice::<Run>(&line).ok()));
        }
        runs
    }

    /// Takes the lock that a wake-up holds while it works; `None`: another one is at work.
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
