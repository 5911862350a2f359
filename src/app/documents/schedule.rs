//! `schedule`: installing the scheduler's entry, and whether it works.

use std::path::Path;

use bdr::care::runs::Memory;
use bdr::care::status::{Scheduler, Trouble};
use bdr::install::schedule::Backend;
use bdr::model::schedule::{Job, Schedule, every_word};
use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::config::Times;
use super::paths::At;
use super::status::{SchedulerDocument, TroubleDocument};
use crate::ui::when;

/// `schedule install`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ScheduleDocument {
    backend: &'static str,
    #[serde(flatten)]
    times: Times,
    next_backup: Option<String>,
}

impl ScheduleDocument {
    pub(crate) fn new(backend: Backend, schedule: &Schedule, next: Option<DateTime<Utc>>) -> Self {
        Self {
            backend: backend.word(),
            times: Times::new(schedule),
            next_backup: next.map(when::utc),
        }
    }
}

/// `schedule uninstall`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ScheduleRemovedDocument {
    pub(crate) removed: Vec<&'static str>,
    pub(crate) configuration_changed: bool,
    pub(crate) dry_run: bool,
}

/// `schedule print`, `schedule install --dry-run`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SchedulePrintDocument<'a> {
    pub(crate) backend: &'static str,
    pub(crate) files: Vec<ScheduleFile>,
    pub(crate) configuration: Option<&'a str>,
}

/// A file that a scheduler would get.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ScheduleFile {
    #[serde(flatten)]
    at: At,
    text: String,
}

impl ScheduleFile {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self {
            at: At::new(path),
            text,
        }
    }
}

/// `schedule status`. If there is no `[schedule]`, it has only the first two members.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum ScheduleStatusDocument {
    NotConfigured { configured: bool, installed: bool },
    Configured(Box<ScheduleState>),
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ScheduleState {
    configured: bool,
    #[serde(flatten)]
    scheduler: SchedulerDocument,
    every: String,
    last_success: Option<String>,
    next_backup: Option<String>,
    next_full: Option<String>,
    next_drill: Option<String>,
    troubles: Vec<TroubleDocument>,
}

impl ScheduleStatusDocument {
    pub(crate) fn not_configured() -> Self {
        Self::NotConfigured {
            configured: false,
            installed: false,
        }
    }

    pub(crate) fn new(
        schedule: &Schedule,
        scheduler: &Scheduler,
        memory: &Memory,
        troubles: &[Trouble],
        now: DateTime<Utc>,
    ) -> Self {
        let next = |job| {
            let time = schedule.next(job, &memory.pasts, now, &Local);
            time.map(when::utc)
        };
        let troubles = troubles.iter();
        Self::Configured(Box::new(ScheduleState {
            configured: true,
            scheduler: SchedulerDocument::new(scheduler, memory),
            every: every_word(schedule.every),
            last_success: memory.pasts.backup.success.map(when::utc),
            next_backup: next(Job::Backup),
            next_full: next(Job::Full),
            next_drill: next(Job::Drill),
            troubles: troubles.map(|one| TroubleDocument::new(one, now)).collect(),
        }))
    }
}
