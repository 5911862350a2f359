//! Which processes an operation that has no end waits for, as far as somebody noted them. Derived: without it an operation counts as interrupted
//! that still runs, and can be undone all the same.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::Repository;
use super::oplog::Begin;
use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::disk::fsutil::{self, process_runs, process_start};
use crate::model::agent::Host;

/// For so long a call of an agent may run without a word: none lets a tool in the foreground run longer.
const LONGEST_CALL: TimeDelta = TimeDelta::minutes(15);

impl Repository {
    fn running_note(&self, id: OperationId) -> PathBuf {
        self.cache.join("running").join(id.to_string())
    }

    /// Notes which processes go on with an operation.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn note_running(&self, id: OperationId, pids: &[u32]) -> Result<()> {
        let note = self.running_note(id);
        fsutil::create_dir_private(&self.cache.join("running"))?;
        let line = |pid: &u32| {
            let start = process_start(*pid).map_or(0, |start| start.timestamp_millis());
            format!("{pid} {start}\n")
        };
        fsutil::write_derived(&note, pids.iter().map(line).collect::<String>().as_bytes())
    }

    /// Forgets who goes on with an operation: it is over.
    pub fn forget_running(&self, id: OperationId) {
        let _ = fsutil::remove_file(&self.running_note(id));
    }

    /// Returns true if an operation without an end is still under way at `now`, as far as that can be told.
    pub fn is_running(&self, begin: &Begin, now: DateTime<Utc>) -> bool {
        let Some(call) = &begin.agent else {
            return process_runs(begin.pid) || self.noted_run(begin.id);
        };
        if self.noted_run(begin.id) {
            return true;
        }
        if call.host == Host::Shell.word() {
            // The line is over when its shell is; the next line closes it.
            let session = call.session.as_deref().unwrap_or_default();
            let shell = session.rsplit(' ').next().unwrap_or_default();
            return shell.parse().is_ok_and(process_runs);
        }
        // Their process does not say which it is.
        process_runs(begin.pid) || call.background || now - begin.time < LONGEST_CALL
    }

    fn running_text(&self, id: OperationId) -> String {
        let bytes = fsutil::read_derived(&self.running_note(id)).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Returns true if a process was noted to go on with an operation.
    pub fn has_noted(&self, id: OperationId, pid: u32) -> bool {
        let text = self.running_text(id);
        let numbers = text.lines().filter_map(|line| line.split(' ').next());
        numbers
            .filter_map(|number| number.parse().ok())
            .any(|noted: u32| noted == pid)
    }

    /// Returns true if a process still runs that was noted to go on with an operation.
    pub fn noted_run(&self, id: OperationId) -> bool {
        let text = self.running_text(id);
        text.lines().any(|line| {
            let (pid, start) = line.split_once(' ').unwrap_or((line, "0"));
            let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<i64>()) else {
                return false;
            };
            // Numbers are used again; starts are told to the second.
            let same = |now: DateTime<Utc>| (now.timestamp_millis() - start).abs() <= 2000;
            process_runs(pid) && (start == 0 || process_start(pid).is_none_or(same))
        })
    }
}
