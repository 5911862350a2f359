//! Which processes an operation without an end waits for, as far as that is noted. Derived: without
//! a note, an operation counts as interrupted although it still runs; it can be undone all the
//! same.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::Repository;
use super::oplog::Begin;
use crate::base::error::Result;
use crate::base::id::OperationId;
use crate::disk::fsutil::{self, process_runs, process_start};
use crate::model::agent::Host;

/// How long an agent's call may run without a sign: no agent lets a foreground tool run longer.
const LONGEST_CALL: TimeDelta = TimeDelta::minutes(15);

impl Repository {
    fn running_note(&self, id: OperationId) -> PathBuf {
        self.cache.join("running").join(id.to_string())
    }

    /// Notes which processes continue an operation.
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

    /// Forgets the processes of an operation that has ended.
    pub fn forget_running(&self, id: OperationId) {
        let _ = fsutil::remove_file(&self.running_note(id));
    }

    /// Returns true if an operation without an end is still running at `now`, as far as we can
    /// tell.
    pub fn is_running(&self, begin: &Begin, now: DateTime<Utc>) -> bool {
        let Some(call) = &begin.agent else {
            return process_runs(begin.pid) || self.noted_run(begin.id);
        };
        if self.noted_run(begin.id) {
            return true;
        }
        if call.host == Host::Shell.word() {
            // A shell's line ends with the shell; otherwise the next line closes it.
            let session = call.session.as_deref().unwrap_or_default();
            let shell = session.rsplit(' ').next().unwrap_or_default();
            return shell.parse().is_ok_and(process_runs);
        }
        // A call of another host has no process of its own to check, so allow it the longest time.
        process_runs(begin.pid) || call.background || now - begin.time < LONGEST_CALL
    }

    fn running_text(&self, id: OperationId) -> String {
        let bytes = fsutil::read_derived(&self.running_note(id)).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Returns true if a process is noted for an operation.
    pub fn has_noted(&self, id: OperationId, pid: u32) -> bool {
        let text = self.running_text(id);
        let numbers = text.lines().filter_map(|line| line.split(' ').next());
        numbers
            .filter_map(|number| number.parse().ok())
            .any(|noted: u32| noted == pid)
    }

    /// Returns true if a process noted for an operation still runs.
    pub fn noted_run(&self, id: OperationId) -> bool {
        let text = self.running_text(id);
        text.lines().any(|line| {
            let (pid, start) = line.split_once(' ').unwrap_or((line, "0"));
            let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<i64>()) else {
                return false;
            };
            // Process ids are reused, and start times are known only to the second.
            let same = |now: DateTime<Utc>| (now.timestamp_millis() - start).abs() <= 2000;
            process_runs(pid) && (start == 0 || process_start(pid).is_none_or(same))
        })
    }
}
