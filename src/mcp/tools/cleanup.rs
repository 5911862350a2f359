//! `cleanup_old_backups`: retention, never below what the user has configured.

use bdr::care::prune::{self, PlannedSnapshot, PruneOptions, PrunePlan, PruneReport};
use bdr::model::retention::{Policy, Reason};
use bdr::model::schedule::Job;
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, backup_id};
use super::super::fault::Fault;
use super::super::result::Problem;
use super::figures::kind;
use crate::app::jobs;
use crate::app::prune as pruning;
use crate::ui::when;

/// A preview names this many backups.
const SHOWN: usize = 100;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct CleanupResult {
    success: bool,
    operation: &'static str,
    dry_run: bool,
    backups_deleted: u64,
    backups_kept: u64,
    space_reclaimed: u64,
    analysis: Analysis,
    policy: KeptCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Preview>,
    #[serde(flatten)]
    deleted: Option<Deleted>,
    duration: u64,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Analysis {
    total_backups: usize,
    backups_to_keep: usize,
    backups_to_delete: usize,
    space_to_reclaim: u64,
}

/// The answer to a dry run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Preview {
    to_delete: Vec<Expired>,
    to_keep: Vec<Staying>,
    estimated_space_reclaimed: u64,
}

/// The answer after backups were removed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Deleted {
    deleted_backup_ids: Vec<String>,
    deleted_backups: Vec<Expired>,
}

impl Deleted {
    fn new(deleted: Vec<Expired>) -> Self {
        let ids = deleted.iter().map(|one| one.backup.backup_id.clone());
        Self {
            deleted_backup_ids: ids.collect(),
            deleted_backups: deleted,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct PlannedBackup {
    backup_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    created: String,
    size: u64,
}

impl PlannedBackup {
    fn new(planned: &PlannedSnapshot) -> Self {
        Self {
            backup_id: backup_id(planned.decision.id, planned.time),
            kind: kind(planned.kind),
            created: when::utc(planned.time),
            size: planned.stored_bytes,
        }
    }
}

/// A backup that is removed, and why.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Expired {
    #[serde(flatten)]
    backup: PlannedBackup,
    reason: String,
}

impl Expired {
    fn new(planned: &PlannedSnapshot) -> Self {
        Self {
            backup: PlannedBackup::new(planned),
            reason: reasons(planned),
        }
    }
}

/// A backup that is kept, and for which period.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Staying {
    #[serde(flatten)]
    backup: PlannedBackup,
    category: String,
}

impl Staying {
    fn new(planned: &PlannedSnapshot) -> Self {
        Self {
            backup: PlannedBackup::new(planned),
            category: category(planned),
        }
    }
}

/// How many backups are kept for each period.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct KeptCounts {
    daily_retention: u32,
    weekly_retention: u32,
    monthly_retention: u32,
}

impl KeptCounts {
    pub(super) fn of(policy: &Policy) -> Self {
        Self {
            daily_retention: policy.daily,
            weekly_retention: policy.weekly,
            monthly_retention: policy.monthly,
        }
    }
}

/// Which backups retention would keep and remove now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct RetentionOverview {
    pub(super) daily: usize,
    pub(super) weekly: usize,
    pub(super) monthly: usize,
    pub(super) expired: usize,
    estimated_space_reclaimed: u64,
    policy: KeptCounts,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let repo = call.repository()?;
    let mut warnings = Vec::new();
    let policy = policy(call, &mut warnings)?;
    let mut options = PruneOptions::new(cx.now, &pruning::local);
    options.policy = policy;
    let plan = prune::plan(&repo, &options, &cx.progress())?;
    let dry_run = call.args.flag("dryRun")? == Some(true);
    let (going, staying): (Vec<&PlannedSnapshot>, Vec<&PlannedSnapshot>) = plan
        .snapshots
        .iter()
        .partition(|planned| !planned.decision.keep);
    let (report, applied) = match dry_run {
        true => (
            prune::estimate(&repo, &plan, &options, &cx.progress())?,
            false,
        ),
        false => {
            let apply = || Ok(prune::apply(&repo, &plan, &options, &cx.progress())?);
            (jobs::remember(cx, Job::Prune, "mcp", apply)?.0, true)
        }
    };
    if applied {
        call.note(&repo)?;
    }
    if let Some(trouble) = &plan.clock {
        warnings.push(format!(
            "nothing expires, the clock cannot be trusted: {trouble:?}"
        ));
    }
    let deleted = going
        .iter()
        .take(SHOWN)
        .map(|planned| Expired::new(planned))
        .collect();
    let kept = || staying.iter().rev().take(SHOWN);
    let space = reclaimed(&report);
    let gone = if applied {
        report.snapshots
    } else {
        going.len() as u64
    };
    let mut result = CleanupResult {
        success: report.blocked.is_empty(),
        operation: if dry_run { "dry-run" } else { "cleanup" },
        dry_run,
        backups_deleted: if applied { report.snapshots } else { 0 },
        backups_kept: plan.snapshots.len() as u64 - gone,
        space_reclaimed: if applied { space } else { 0 },
        analysis: Analysis {
            total_backups: plan.snapshots.len(),
            backups_to_keep: staying.len(),
            backups_to_delete: going.len(),
            space_to_reclaim: space,
        },
        policy: KeptCounts::of(&options.policy),
        preview: None,
        deleted: None,
        duration: call.elapsed_ms(),
        warnings,
        error: blocked(&report),
    };
    match dry_run {
        true => {
            result.preview = Some(Preview {
                to_delete: deleted,
                to_keep: kept().map(|planned| Staying::new(planned)).collect(),
                estimated_space_reclaimed: space,
            });
        }
        false => result.deleted = Some(Deleted::new(deleted)),
    }
    Ok(Outcome::Done(Answer {
        failed: !result.success,
        ..Answer::new(result, "")
    }))
}

/// Returns how many bytes a clean-up frees.
fn reclaimed(report: &PruneReport) -> u64 {
    report.trashed_bytes + report.staged_bytes + report.swept_bytes
}

fn blocked(report: &PruneReport) -> Option<Problem> {
    let next = "verify_backup {\"backupId\":\"latest\"}";
    let why = || report.blocked.join("; ");
    (!report.blocked.is_empty()).then(|| Problem::new("PARTIAL", why(), next))
}

/// Returns the policy of the configuration, with the higher numbers of the call. Lower ones are
/// ignored: a program must not be able to delete backups that the user wants to keep.
fn policy(call: &Call<'_>, warnings: &mut Vec<String>) -> Result<Policy, Fault> {
    let configured = &call.cx.config.retention;
    let mut policy = configured.clone();
    for (name, own, place) in [
        ("dailyRetention", configured.daily, &mut policy.daily),
        ("weeklyRetention", configured.weekly, &mut policy.weekly),
        ("monthlyRetention", configured.monthly, &mut policy.monthly),
    ] {
        let mut asked = None;
        for object in ["retentionPolicy", "policy"] {
            asked = asked.or(call.args.member(object, name)?);
        }
        let Some(asked) = asked else { continue };
        let asked = asked
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| {
                Fault::argument(
                    format!("`{name}` must be a whole number"),
                    "make the same call with {\"retentionPolicy\":{\"dailyRetention\":7}}",
                )
            })?;
        if asked < own {
            warnings.push(format!("{name}: {asked} is less than the user's {own}, which applies; only the user can keep fewer: bdr prune"));
        }
        *place = own.max(asked);
    }
    Ok(policy)
}

fn reasons(planned: &PlannedSnapshot) -> String {
    let words: Vec<String> = planned
        .decision
        .reasons
        .iter()
        .map(ToString::to_string)
        .collect();
    words.join(", ")
}

/// Returns the period for which it is kept, or the other reason.
fn category(planned: &PlannedSnapshot) -> String {
    let slot = planned
        .decision
        .reasons
        .iter()
        .find_map(|reason| match reason {
            Reason::Slot(period, _) => Some(period.every().to_owned()),
            _ => None,
        });
    slot.unwrap_or_else(|| reasons(planned))
}

/// Returns which backups retention would keep and remove now.
pub(super) fn overview(call: &Call<'_>) -> Result<RetentionOverview, Fault> {
    let repo = call.repository()?;
    let mut options = PruneOptions::new(call.cx.now, &pruning::local);
    options.policy = call.cx.config.retention.clone();
    let plan: PrunePlan = prune::plan(&repo, &options, &call.cx.progress())?;
    let report = prune::estimate(&repo, &plan, &options, &call.cx.progress())?;
    let by = |word: &str| {
        let stands_for =
            |reason: &Reason| matches!(reason, Reason::Slot(period, _) if period.every() == word);
        let decisions = plan.snapshots.iter().map(|planned| &planned.decision);
        decisions
            .filter(|decision| decision.keep && decision.reasons.iter().any(stands_for))
            .count()
    };
    Ok(RetentionOverview {
        daily: by("daily"),
        weekly: by("weekly"),
        monthly: by("monthly"),
        expired: plan.going().count(),
        estimated_space_reclaimed: reclaimed(&report),
        policy: KeptCounts::of(&options.policy),
    })
}
