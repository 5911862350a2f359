//! `cleanup_old_backups`: retention, never below what the user has configured.

use bdr::care::prune::{self, PlannedSnapshot, PruneOptions, PrunePlan};
use bdr::model::retention::{Policy, Reason};
use bdr::model::schedule::Job;
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Outcome, backup_id};
use super::super::fault::Fault;
use super::figures::kind;
use crate::app::jobs;
use crate::app::prune as pruning;
use crate::ui::when;

/// Backups that a preview names.
const SHOWN: usize = 100;

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
    let space = report.trashed_bytes + report.staged_bytes + report.swept_bytes;
    let blocked = !report.blocked.is_empty();
    let deleted: Vec<Value> = going
        .iter()
        .take(SHOWN)
        .map(|planned| {
            let mut one = one(planned);
            one["reason"] = reasons(planned).into();
            one
        })
        .collect();
    let kept: Vec<Value> = staying
        .iter()
        .rev()
        .take(SHOWN)
        .map(|planned| {
            let mut one = one(planned);
            one["category"] = category(planned).into();
            one
        })
        .collect();
    if let Some(trouble) = &plan.clock {
        warnings.push(format!(
            "nothing expires, the clock cannot be trusted: {trouble:?}"
        ));
    }
    let mut data = json!({
        "success": !blocked,
        "operation": if dry_run { "dry-run" } else { "cleanup" },
        "dryRun": dry_run,
        "backupsDeleted": if applied { report.snapshots } else { 0 },
        "backupsKept": plan.snapshots.len() as u64 - if applied { report.snapshots } else { going.len() as u64 },
        "spaceReclaimed": if applied { space } else { 0 },
        "analysis": {"totalBackups": plan.snapshots.len(), "backupsToKeep": staying.len(), "backupsToDelete": going.len(), "spaceToReclaim": space},
        "policy": told(&options.policy),
        "duration": call.elapsed_ms(),
        "warnings": warnings,
    });
    if dry_run {
        data["preview"] =
            json!({"toDelete": deleted, "toKeep": kept, "estimatedSpaceReclaimed": space});
    } else {
        data["deletedBackupIds"] = deleted.iter().map(|one| one["backupId"].clone()).collect();
        data["deletedBackups"] = deleted.into();
    }
    if blocked {
        data["error"] = json!({"code": "PARTIAL", "message": report.blocked.join("; "), "recovery": "verify_backup {\"backupId\":\"latest\"}"});
    }
    Ok(Outcome::Done(Answer {
        failed: blocked,
        ..Answer::new(data, "")
    }))
}

/// Returns the policy of the configuration, raised by what the call asks for; never lowered.
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

pub(super) fn told(policy: &Policy) -> Value {
    json!({"dailyRetention": policy.daily, "weeklyRetention": policy.weekly, "monthlyRetention": policy.monthly})
}

fn one(planned: &PlannedSnapshot) -> Value {
    json!({"backupId": backup_id(planned.decision.id, planned.time), "type": kind(planned.kind), "created": when::utc(planned.time), "size": planned.stored_bytes})
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

/// Returns the period that it stands for, or why else it stays.
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

/// Returns what retention would do now.
pub(super) fn overview(call: &Call<'_>) -> Result<Value, Fault> {
    let repo = call.repository()?;
    let mut options = PruneOptions::new(call.cx.now, &pruning::local);
    options.policy = call.cx.config.retention.clone();
    let plan: PrunePlan = prune::plan(&repo, &options, &call.cx.progress())?;
    let report = prune::estimate(&repo, &plan, &options, &call.cx.progress())?;
    let by = |word: &str| {
        let keeps = plan
            .snapshots
            .iter()
            .filter(|planned| planned.decision.keep);
        keeps
            .filter(|planned| {
                planned.decision.reasons.iter().any(
                    |reason| matches!(reason, Reason::Slot(period, _) if period.every() == word),
                )
            })
            .count()
    };
    Ok(json!({
        "daily": by("daily"), "weekly": by("weekly"), "monthly": by("monthly"), "expired": plan.going().count(),
        "estimatedSpaceReclaimed": report.trashed_bytes + report.staged_bytes + report.swept_bytes, "policy": told(&options.policy),
    }))
}
