//! `create_backup`.

use std::path::PathBuf;

use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::fsutil::canonicalize;
use bdr::model::rules::{Origin, Root};
use bdr::model::schedule::Job;
use bdr::protect::backup::{BackupOptions, BackupReport, Level, backup};
use bdr::protect::staging::settle;
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, backup_id};
use super::super::fault::Fault;
use super::super::result::Problem;
use super::super::roots::{Roots, Use};
use super::checkpoint::Excluded;
use super::figures::Metadata;
use crate::app::backup::{self as backing, Wanted};
use crate::app::jobs;
use crate::ui::plural;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateResult {
    success: bool,
    backup_id: String,
    backup_path: String,
    metadata: Metadata,
    stats: CreateStats,
    excluded: Excluded,
    #[serde(skip_serializing_if = "Option::is_none")]
    phi_scan_results: Option<PhiScan>,
    duration: u64,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct CreateStats {
    files_backed_up: u64,
    files_skipped: usize,
    bytes_processed: u64,
    compression_savings: u64,
}

/// Only for callers that ask for it; bdr looks for patient data in any case.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct PhiScan {
    files_scanned: u64,
    phi_detected: bool,
    warnings: Vec<String>,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let roots = call.roots()?;
    let full = call.args.word("type", &["full", "incremental"])? == Some("full");
    let label = call.args.text("label")?.map(str::to_owned);
    let patterns = call.args.texts("excludePatterns")?;
    let wanted = wanted(call, &roots)?;
    let mut warnings: Vec<String> = Vec::new();
    for (name, why) in [
        ("compression", "content is always compressed"),
        ("scanPHI", "secrets and patient data are always looked for"),
    ] {
        if call.args.flag(name)? == Some(false) {
            warnings.push(format!("{name}: false was ignored: {why}"));
        }
    }
    let repo = call.repository_or_new()?;
    let report = match wanted {
        Sources::Configured(sources) if patterns.is_empty() => {
            let all = sources.is_empty();
            let wanted = Wanted {
                full,
                sources,
                tags: Vec::new(),
                label,
            };
            let job = if full { Job::Full } else { Job::Backup };
            match all {
                true => {
                    jobs::remember(cx, job, "mcp", || backing::perform(cx, &repo, &wanted))?
                        .0
                        .report
                }
                // A backup of some sources does not replace the daily one of all.
                false => backing::perform(cx, &repo, &wanted)?.report,
            }
        }
        Sources::Configured(sources) => {
            // Under its own name, because this backup has only part of the source: under the name
            // of the source it would look complete.
            let chosen = cx
                .config
                .sources
                .iter()
                .filter(|source| sources.is_empty() || sources.contains(&source.name));
            let places: Vec<Root> = chosen
                .map(|source| Root {
                    rules: source.rules.clone(),
                    ..Root::ad_hoc(&source.path, Origin::Operand)
                })
                .collect();
            of_places(call, &repo, places, &patterns, full, label)?
        }
        Sources::Places(places) => {
            let places = places
                .into_iter()
                .map(|path| Root::resolved(path, Origin::Operand))
                .collect();
            of_places(call, &repo, places, &patterns, full, label)?
        }
    };
    let verified = match call.args.flag("verify")? == Some(true) {
        true => Some(verify(
            &repo,
            Some(report.snapshot.id),
            VerifyLevel::Full,
            None,
            &cx.progress(),
        )?),
        false => None,
    };
    call.note(&repo)?;
    let damaged = verified.is_some_and(|verified| !verified.damage.is_empty());
    Ok(answer(call, &repo, &report, warnings, damaged).into())
}

enum Sources {
    /// Names of sources; empty for all.
    Configured(Vec<String>),
    Places(Vec<PathBuf>),
}

fn wanted(call: &Call<'_>, roots: &Roots) -> Result<Sources, Fault> {
    let texts = call.args.texts("sources")?;
    let configured = &call.cx.config.sources;
    if texts.is_empty() {
        return match configured.is_empty() {
            false => Ok(Sources::Configured(Vec::new())),
            true => match roots.captured.is_empty() {
                false => Ok(Sources::Places(
                    roots
                        .captured
                        .iter()
                        .map(|root| root.path.clone())
                        .collect(),
                )),
                true => Err(Fault::new(
                    "SOURCE_NOT_FOUND",
                    "no source is configured",
                    "ask the user to run `bdr init`, or name sources",
                )),
            },
        };
    }
    let mut names = Vec::new();
    let mut places = Vec::new();
    for text in &texts {
        if let Some(source) = configured.iter().find(|source| source.name == *text) {
            names.push(source.name.clone());
            places.push(source.path.clone());
            continue;
        }
        let path = roots.path(call.cx, text, Use::Read)?;
        let own = configured
            .iter()
            .find(|source| canonicalize(&source.path).is_ok_and(|real| real == path));
        names.extend(own.map(|source| source.name.clone()));
        places.push(path);
    }
    places.sort();
    places.dedup();
    names.sort();
    names.dedup();
    Ok(match names.len() == places.len() {
        true => Sources::Configured(names),
        false => Sources::Places(places),
    })
}

fn of_places(
    call: &Call<'_>,
    repo: &Repository,
    mut places: Vec<Root>,
    patterns: &[String],
    full: bool,
    label: Option<String>,
) -> Result<BackupReport, Fault> {
    let cx = call.cx;
    for place in &mut places {
        place.rules.exclude.extend(patterns.iter().map(|pattern| {
            pattern
                .trim_start_matches("**/")
                .trim_end_matches("/**")
                .to_owned()
        }));
    }
    let places = bdr::model::rules::normalise(places)?;
    cx.launch_lifeboat(repo.location());
    // If the content that guards kept cannot be packed, the backup is still worth making.
    let _ = settle(repo, Level::Best, cx.now, &cx.progress());
    let mut options = BackupOptions::new(Trigger::Backup, cx.now);
    options.full = full;
    options.label = label;
    options.host.clone_from(&cx.host);
    options.never = cx.own_files();
    Ok(backup(repo, &places, &options, &cx.progress())?)
}

fn answer(
    call: &Call<'_>,
    repo: &Repository,
    report: &BackupReport,
    mut warnings: Vec<String>,
    damaged: bool,
) -> Answer {
    let cx = call.cx;
    let snapshot = &report.snapshot;
    let stats = &snapshot.stats;
    let partial = backing::code(report) != crate::app::exit::OK;
    let sealed = backing::sealed_words(cx, &report.sealed);
    if !sealed.is_empty() {
        warnings.push(format!(
            "stored without its values, which stay in the vault of this machine: {sealed}"
        ));
    }
    if report.reused {
        warnings.push("nothing has changed since this backup; no new one was needed".to_owned());
    }
    let error = match (damaged, partial) {
        (true, _) => Some(Problem::new(
            "BACKUP_CORRUPTED",
            "the new backup does not read back correctly",
            "verify_backup, then create_backup {\"type\":\"full\"}",
        )),
        (_, true) => {
            let paths = plural(report.problems.len() as u64, "path");
            let message = format!("{paths} could not be read; the rest is backed up");
            Some(Problem::partial(cx, message, &report.problems))
        }
        _ => None,
    };
    let asked = call.args.flag("scanPHI");
    let asked = asked.is_ok_and(|asked| asked == Some(true));
    let result = CreateResult {
        success: error.is_none(),
        backup_id: backup_id(snapshot.id, snapshot.time),
        backup_path: cx.shown_absolute(&repo.location().join(snapshot.file_name())),
        metadata: Metadata::new(cx, repo, snapshot, report.stored_bytes),
        stats: CreateStats {
            files_backed_up: stats.files,
            files_skipped: report.problems.len() + report.left_out.len(),
            bytes_processed: report.read_bytes,
            compression_savings: stats.bytes.saturating_sub(report.stored_bytes),
        },
        excluded: Excluded::of(report, 0),
        phi_scan_results: asked.then(|| PhiScan {
            files_scanned: stats.files,
            phi_detected: report.sealed.records > 0 || !report.sealed.whole.is_empty(),
            warnings: Vec::new(),
        }),
        duration: call.elapsed_ms(),
        warnings,
        error,
    };
    Answer {
        failed: !result.success,
        ..Answer::new(result, "")
    }
}
