//! `config show`, `config export`: the configuration in effect, member by member.

use std::collections::BTreeMap;

use bdr::base::path::show;
use bdr::care::runs::Memory;
use bdr::model::config::{Config, Source};
use bdr::model::retention::{COUNTS, Policy};
use bdr::model::schedule::{Job, Schedule, day_word, every_word};
use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::paths::{At, Cache, ConfigAt, RepositoryAt, State};
use crate::app::context::Places;
use crate::ui::when;

/// `config show`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigDocument {
    #[serde(flatten)]
    config: ConfigAt,
    #[serde(flatten)]
    repository: RepositoryAt,
    #[serde(flatten)]
    cache: Cache,
    #[serde(flatten)]
    state: State,
    exists: bool,
    #[serde(flatten)]
    values: ConfigValues,
}

impl ConfigDocument {
    pub(crate) fn new(places: &Places, config: &Config) -> Self {
        Self {
            config: ConfigAt::new(&places.config),
            repository: RepositoryAt::new(&places.repository),
            cache: Cache::new(&places.cache),
            state: State::new(&places.state),
            exists: places.config.exists(),
            values: ConfigValues::new(config),
        }
    }
}

/// `config export`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigExportDocument {
    #[serde(flatten)]
    repository: RepositoryAt,
    #[serde(flatten)]
    values: ConfigValues,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<NextRuns>,
}

impl ConfigExportDocument {
    pub(crate) fn new(
        places: &Places,
        config: &Config,
        memory: &Memory,
        now: DateTime<Utc>,
    ) -> Self {
        let schedule = config.schedule.as_ref();
        Self {
            repository: RepositoryAt::new(&places.repository),
            values: ConfigValues::new(config),
            next: schedule.map(|schedule| NextRuns::new(schedule, memory, now)),
        }
    }
}

/// When each job runs next.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NextRuns {
    backup: Option<String>,
    full: Option<String>,
    drill: Option<String>,
}

impl NextRuns {
    fn new(schedule: &Schedule, memory: &Memory, now: DateTime<Utc>) -> Self {
        let next = |job| {
            let time = schedule.next(job, &memory.pasts, now, &Local);
            time.map(when::utc)
        };
        Self {
            backup: next(Job::Backup),
            full: next(Job::Full),
            drill: next(Job::Drill),
        }
    }
}

/// What the tables of the configuration say. The repository is not among it: where it is depends on
/// the command line as well.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigValues {
    sources: Vec<SourceValues>,
    not_covered: Vec<String>,
    guard: GuardValues,
    hooks: HooksValues,
    mcp: McpValues,
    retention: RetentionValues,
    schedule: Option<ScheduleValues>,
    notify: NotifyValues,
    privacy: PrivacyValues,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SourceValues {
    name: String,
    #[serde(flatten)]
    at: At,
    include: Vec<String>,
    exclude: Vec<String>,
    rebuildable: bool,
    one_file_system: bool,
    criticality: &'static str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GuardValues {
    on_fail: &'static str,
    max_bytes: u64,
    max_files: u64,
    max_kept: u64,
    capture: &'static str,
    summary: &'static str,
    rules: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HooksValues {
    mcp_tools: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct McpValues {
    unattended: &'static str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RetentionValues {
    keep_within_hours: Option<i64>,
    keep_tags: Vec<String>,
    guard_within_hours: i64,
    guard_bytes: u64,
    max_size: Option<u64>,
    /// The rules that count, by their keys: a rule is one line of `retention::COUNTS`, so they are
    /// not spelled out here again.
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u32>,
}

/// Times and days in the words of the configuration.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Times {
    at: String,
    every: String,
    full: &'static str,
    drill: &'static str,
}

impl Times {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self {
            at: schedule.at.format("%H:%M").to_string(),
            every: every_word(schedule.every),
            full: day_word(schedule.full),
            drill: day_word(schedule.drill),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ScheduleValues {
    #[serde(flatten)]
    times: Times,
    max_age_hours: i64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NotifyValues {
    desktop: bool,
    healthchecks: Option<String>,
    ntfy: Option<String>,
    webhook: Option<String>,
    command: Vec<String>,
    prometheus: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PrivacyValues {
    profile: &'static str,
    allow: Vec<String>,
    vault: &'static str,
    published: bool,
}

impl ConfigValues {
    pub(crate) fn new(config: &Config) -> Self {
        let not_covered = config.not_covered.iter();
        let notify = &config.notify;
        let prometheus = notify.prometheus.as_ref();
        Self {
            sources: config.sources.iter().map(SourceValues::new).collect(),
            not_covered: not_covered.map(|path| show(path.as_os_str())).collect(),
            guard: GuardValues {
                on_fail: config.guard.on_fail.word(),
                max_bytes: config.guard.max_bytes,
                max_files: config.guard.max_files,
                max_kept: config.guard.max_kept,
                capture: config.guard.capture.word(),
                summary: config.guard.summary.word(),
                rules: config.guard.rules.clone(),
            },
            hooks: HooksValues {
                mcp_tools: config.hooks.mcp_tools.clone(),
            },
            mcp: McpValues {
                unattended: config.mcp.unattended.word(),
            },
            retention: RetentionValues::new(&config.retention),
            schedule: config.schedule.as_ref().map(|schedule| ScheduleValues {
                times: Times::new(schedule),
                max_age_hours: schedule.max_age.num_hours(),
            }),
            notify: NotifyValues {
                desktop: notify.desktop,
                healthchecks: notify.healthchecks.clone(),
                ntfy: notify.ntfy.clone(),
                webhook: notify.webhook.clone(),
                command: notify.command.clone(),
                prometheus: prometheus.map(|path| show(path.as_os_str())),
            },
            privacy: PrivacyValues {
                profile: config.privacy.profile.word(),
                allow: config.privacy.allow.clone(),
                vault: config.privacy.vault.word(),
                published: !config.privacy.seal_published,
            },
        }
    }
}

impl SourceValues {
    fn new(source: &Source) -> Self {
        let rules = &source.rules;
        Self {
            name: source.name.clone(),
            at: At::new(&source.path),
            include: rules.include.clone(),
            exclude: rules.exclude.clone(),
            rebuildable: rules.rebuildable,
            one_file_system: rules.one_file_system,
            criticality: source.criticality.word(),
        }
    }
}

impl RetentionValues {
    fn new(policy: &Policy) -> Self {
        let counts = COUNTS.iter().map(|rule| (rule.key, (rule.of)(policy)));
        Self {
            keep_within_hours: policy.within.map(|within| within.num_hours()),
            keep_tags: policy.tags.clone(),
            guard_within_hours: policy.guard_within.num_hours(),
            guard_bytes: policy.guard_bytes,
            max_size: policy.max_bytes,
            counts: counts.collect(),
        }
    }
}
