//! `verify_backup`.

use bdr::care::verify::{VerifyLevel, verify};
use serde_json::{Value, json};

use super::super::call::{Answer, Call, Outcome, backup_id, snapshot};
use super::super::fault::Fault;
use crate::app::verify as verifying;
use crate::ui::plural;

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
    let mut issues: Vec<Value> = Vec::new();
    for damage in &report.damage {
        let kind = match damage.reason.contains("missing") {
            true => "missing-file",
            false => "checksum-mismatch",
        };
        if damage.lost.is_empty() {
            issues.push(json!({"type": "corrupt-metadata", "file": damage.name, "reason": damage.reason, "severity": "error"}));
        }
        issues.extend(damage.lost.iter().map(|lost| {
            let mut issue = json!({"type": kind, "file": cx.shown_absolute(lost.path.as_path()), "reason": damage.reason,
                "severity": if lost.other.is_some() { "warning" } else { "error" }});
            let other = lost.other.and_then(|id| snapshots.get(id));
            if let Some(other) = other {
                issue["goodIn"] = backup_id(other.id, other.time).into();
            }
            issue
        }));
    }
    let found = issues.len();
    issues.truncate(100);
    let valid = report.damage.is_empty();
    let files = one.stats.files;
    let errors: Vec<Value> = issues.iter().map(|issue| json!({"file": issue["file"], "expected": "content by its SHA-256", "actual": issue["reason"]})).collect();
    let mut warnings: Vec<&str> = Vec::new();
    if call.args.flag("repair")? == Some(true) {
        warnings.push("repair: true was ignored; create_backup {\"type\":\"full\"} stores what still exists again");
    }
    let mut data = json!({
        "success": valid,
        "backupId": backup_id(one.id, one.time),
        "valid": valid,
        "checksumValid": valid,
        "filesVerified": if quick { 0 } else { files.saturating_sub(found as u64) },
        "filesInvalid": found,
        "verification": {
            "manifestValid": !issues.iter().any(|issue| issue["type"] == "corrupt-metadata"),
            "checksumValid": valid,
            "fileCountMatch": valid,
            "deepVerification": deep,
            "level": match level { VerifyLevel::Quick => "quick", VerifyLevel::Full => "full", VerifyLevel::Restore => "deep" },
        },
        "bytes": report.bytes,
        "issues": issues,
        "errors": errors,
        "duration": call.elapsed_ms(),
        "warnings": warnings,
    });
    if !valid {
        data["error"] = json!({"code": "BACKUP_CORRUPTED", "message": format!("{} damaged", plural(report.damage.len() as u64, "object")),
            "recovery": "other files restore as usual; create_backup {\"type\":\"full\"} stores what still exists again"});
    }
    Ok(Outcome::Done(Answer {
        failed: !valid,
        ..Answer::new(data, "")
    }))
}
