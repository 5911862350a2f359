//! `verify_backup`.

use bdr::care::verify::{Damage, LostFile, VerifyLevel, verify};
use bdr::repo::Snapshots;
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, backup_id, snapshot};
use super::super::fault::Fault;
use super::super::result::Problem;
use crate::app::verify as verifying;
use crate::ui::plural;

/// A result names this many issues at most.
const SHOWN: usize = 100;
/// The type of an issue if we know of no lost file.
const METADATA: &str = "corrupt-metadata";

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct VerifyResult {
    success: bool,
    backup_id: String,
    valid: bool,
    checksum_valid: bool,
    files_verified: u64,
    files_invalid: usize,
    verification: Verification,
    bytes: u64,
    issues: Vec<Issue>,
    errors: Vec<Mismatch>,
    /// Files that were damaged and are whole again: verifying takes them from the second copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repair_actions: Vec<String>,
    duration: u64,
    warnings: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Verification {
    manifest_valid: bool,
    checksum_valid: bool,
    file_count_match: bool,
    deep_verification: bool,
    level: &'static str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Issue {
    #[serde(rename = "type")]
    kind: &'static str,
    file: String,
    reason: String,
    severity: &'static str,
    /// A backup that still has the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    good_in: Option<String>,
}

/// An issue in the form of the specification.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Mismatch {
    file: String,
    expected: &'static str,
    actual: String,
}

impl Mismatch {
    fn new(issue: &Issue) -> Self {
        Self {
            file: issue.file.clone(),
            expected: "content by its SHA-256",
            actual: issue.reason.clone(),
        }
    }
}

impl Verification {
    fn new(level: VerifyLevel, valid: bool, issues: &[Issue]) -> Self {
        Self {
            manifest_valid: !issues.iter().any(|issue| issue.kind == METADATA),
            checksum_valid: valid,
            file_count_match: valid,
            deep_verification: level == VerifyLevel::Restore,
            level: match level {
                VerifyLevel::Quick => "quick",
                VerifyLevel::Full => "full",
                VerifyLevel::Restore => "deep",
            },
        }
    }
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let wanted = call.args.text("backupId")?.ok_or_else(|| {
        Fault::argument(
            "`backupId` is missing",
            "verify_backup {\"backupId\":\"latest\"}",
        )
    })?;
    let repo = call.repository()?;
    let snapshots = repo.all_snapshots()?;
    let one = snapshot(cx, &repo, &snapshots, wanted)?;
    let deep = call.args.flag("deep")? == Some(true);
    let quick = !deep && call.args.flag("quick")? == Some(true);
    let level = match (deep, quick) {
        (true, _) => VerifyLevel::Restore,
        (_, true) => VerifyLevel::Quick,
        _ => VerifyLevel::Full,
    };
    let repair = call.args.flag("repair")? == Some(true);
    let scratch = match deep {
        true => Some(verifying::scratch(repo.cache())?),
        false => None,
    };
    let report = verify(
        &repo,
        Some(one.id),
        level,
        scratch.as_ref().map(tempfile::TempDir::path),
        &cx.progress(),
    )?;
    verifying::remember_part(cx, &report);
    let mut issues = Vec::new();
    for damage in &report.damage {
        issues.extend(issues_of(call, &snapshots, damage));
    }
    let found = issues.len();
    issues.truncate(SHOWN);
    let valid = report.damage.is_empty();
    let checked = match level {
        VerifyLevel::Quick => 0,
        _ => one.stats.files.saturating_sub(found as u64),
    };
    let mut warnings = Vec::new();
    if repair && !valid {
        warnings.push("repair: true was refused: this tool changes nothing. Run `bdr repair`");
    }
    let result = VerifyResult {
        success: valid,
        backup_id: backup_id(one.id, one.time),
        valid,
        checksum_valid: valid,
        files_verified: checked,
        files_invalid: found,
        verification: Verification::new(level, valid, &issues),
        bytes: report.bytes,
        errors: issues.iter().map(Mismatch::new).collect(),
        issues,
        repair_actions: report
            .healed
            .iter()
            .map(|name| format!("mended {name} from its second copy"))
            .collect(),
        duration: call.elapsed_ms(),
        warnings,
        error: (!valid).then(|| corrupted(report.damage.len())),
    };
    Ok(Outcome::Done(Answer {
        failed: !valid,
        ..Answer::new(result, "")
    }))
}

fn corrupted(damaged: usize) -> Problem {
    Problem::new(
        "BACKUP_CORRUPTED",
        format!("{} damaged", plural(damaged as u64, "object")),
        "other files restore as usual; `bdr repair` mends what can be mended, and create_backup {\"type\":\"full\"} stores what still exists again",
    )
}

/// Returns the issues of one damaged object: one for each lost file, or one for the object if we
/// know of none.
fn issues_of(call: &Call<'_>, snapshots: &Snapshots<'_>, damage: &Damage) -> Vec<Issue> {
    let reason = damage.reason.to_string();
    if damage.lost.is_empty() {
        return vec![Issue {
            kind: METADATA,
            file: damage.name.clone(),
            reason,
            severity: "error",
            good_in: None,
        }];
    }
    let kind = match damage.reason.is_missing() {
        true => "missing-file",
        false => "checksum-mismatch",
    };
    let issue = |lost: &LostFile| Issue {
        kind,
        file: call.cx.shown_absolute(lost.path.as_path()),
        reason: reason.clone(),
        severity: if lost.other.is_some() {
            "warning"
        } else {
            "error"
        },
        good_in: lost
            .other
            .and_then(|id| snapshots.get(id))
            .map(|other| backup_id(other.id, other.time)),
    };
    damage.lost.iter().map(issue).collect()
}
