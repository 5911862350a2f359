//! Why commands are not captured by their calls, where that was wanted.

use std::ffi::OsString;

use bdr::base::id::OperationId;
use bdr::disk::fsutil;
use bdr::effects::Assessment;
use bdr::model::config::CaptureMode;
use bdr::repo::Repository;
use serde::{Deserialize, Serialize};

use crate::app::context::{Context, variable};

#[cfg(target_os = "linux")]
pub(crate) use super::capture::works_here;

/// Says to programs below that they are captured.
pub(super) const CAPTURED: &str = "BDR_CAPTURED";

/// Says why nothing can be captured here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn works_here(_: &Context) -> Result<(), String> {
    Err("this system cannot stop calls before they happen".to_owned())
}

/// Returns how a guard protects: as typed, as the environment says, or as configured. And whether
/// somebody said so for this guard.
pub(crate) fn mode(cx: &Context, typed: Option<CaptureMode>) -> (CaptureMode, bool) {
    let from_environment = variable("BDR_GUARD_CAPTURE");
    let from_environment = from_environment.and_then(|v| CaptureMode::parse(v.to_str()?));
    match typed.or(from_environment) {
        Some(mode) => (mode, true),
        None => (cx.config.guard.capture, false),
    }
}

/// Returns true if a guard of a command would capture it, as far as that is known before it runs.
pub(crate) fn would_capture(
    cx: &Context,
    assessment: &Assessment,
    (mode, command): (CaptureMode, &[OsString]),
) -> bool {
    #[cfg(target_os = "linux")]
    return mode != CaptureMode::Off
        && super::capture::check(cx, assessment, (mode, command)).is_ok();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (cx, assessment, mode, command);
        false
    }
}

/// Returns false if no guard above captures this process, without looking further.
pub(crate) fn may_be_captured() -> bool {
    variable(CAPTURED).is_some()
}

/// Returns the operation of the guard above this process that captures it, if there is one.
pub(crate) fn captured_by(repo: &Repository) -> Option<OperationId> {
    #[cfg(target_os = "linux")]
    return super::capture::captured_by(repo);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = repo;
        None
    }
}

/// Returns true if a guard above this process captures it. Without a repository nothing does.
pub(crate) fn is_captured(cx: &Context) -> bool {
    let lives = |repo: Repository| captured_by(&repo).is_some();
    may_be_captured() && cx.repository().is_ok_and(lives)
}

/// More reasons than this are not remembered.
const MOST: usize = 64;

/// What was said since the system started.
#[derive(Default, Serialize, Deserialize)]
struct Said {
    boot: String,
    reasons: Vec<String>,
}

/// Says that a snapshot protects a command, and why; once per reason and start of the system,
/// because each command would get the same line. The log has it for each.
pub(crate) fn say_once(cx: &Context, why: &str) {
    let note = cx.places.cache.join("uncaptured.json");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known: Option<Said> =
        fsutil::read_derived(&note).and_then(|json| serde_json::from_slice(&json).ok());
    let mut said = known.filter(|said| said.boot == boot).unwrap_or_default();
    if said.reasons.iter().any(|reason| reason == why) {
        return;
    }
    cx.ui.say(&format!(
        "bdr: not by capture: {why}; a snapshot of the watched places protects it"
    ));
    if cx.ui.quiet {
        return;
    }
    said.boot = boot;
    said.reasons.truncate(MOST - 1);
    said.reasons.push(why.to_owned());
    let json = serde_json::to_vec(&said).unwrap_or_default();
    let _ = fsutil::create_dir_private(&cx.places.cache);
    let _ = fsutil::write_derived(&note, &json);
}
