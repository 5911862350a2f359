//! A file for the text file collector of Prometheus's node exporter
//! (<https://github.com/prometheus/node_exporter#textfile-collector>).

use std::fmt::Write as _;
use std::path::Path;

use bdr::care::runs::{Memory, Run};
use bdr::disk::fsutil;
use bdr::model::schedule::Job;

use crate::app::context::Context;

/// Writes it. A failure is reported, and nothing else.
pub(crate) fn write(cx: &Context, path: &Path, memory: &Memory) {
    let text = render(memory, &cx.journal().runs());
    // Another user reads it.
    if let Err(error) = fsutil::write_atomic(path, text.as_bytes(), 0o644) {
        cx.ui.say(&format!("bdr: {error}"));
    }
}

fn render(memory: &Memory, runs: &[Run]) -> String {
    let mut text = String::new();
    let pasts = &memory.pasts;
    let last = |job: Job| runs.iter().rev().find(|run| run.job == job);
    // A job that never ran has no values: a zero would set off alarms.
    let of = |value: &dyn Fn(Job) -> Option<f64>| -> Vec<(Option<Job>, f64)> {
        Job::ALL
            .into_iter()
            .filter(|job| pasts.of(*job).attempt.is_some())
            .filter_map(|job| Some((Some(job), value(job)?)))
            .collect()
    };
    family(
        &mut text,
        "bdr_last_success_timestamp_seconds",
        "Start of the last successful run.",
        &of(&|job| Some(pasts.of(job).success?.timestamp() as f64)),
    );
    family(
        &mut text,
        "bdr_last_run_success",
        "Whether the last run succeeded.",
        &of(&|job| Some(f64::from(u8::from(pasts.of(job).failures == 0)))),
    );
    family(
        &mut text,
        "bdr_consecutive_failures",
        "Runs that failed since the last success.",
        &of(&|job| Some(pasts.of(job).failures.into())),
    );
    family(
        &mut text,
        "bdr_last_duration_seconds",
        "Wall time of the last run.",
        &of(&|job| Some(last(job)?.elapsed_ms as f64 / 1000.0)),
    );
    let is_backup = |run: &&Run| matches!(run.job, Job::Backup | Job::Full) && run.succeeded();
    if let Some(backup) = runs.iter().rev().find(is_backup) {
        let values = [
            (
                "bdr_protected_files",
                "Files in the last backup.",
                backup.files,
            ),
            ("bdr_protected_bytes", "Their size.", backup.bytes),
            (
                "bdr_unread_paths",
                "Paths that the last backup could not read.",
                backup.problems,
            ),
        ];
        for (name, help, value) in values {
            family(&mut text, name, help, &[(None, value as f64)]);
        }
    }
    family(
        &mut text,
        "bdr_repository_bytes",
        "Size of the repository.",
        &[(None, memory.repository_bytes as f64)],
    );
    text
}

/// Adds a metric with its values, of a job each or of all; nothing if there is no value.
fn family(text: &mut String, name: &str, help: &str, values: &[(Option<Job>, f64)]) {
    if values.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (job, value) in values {
        let _ = match job {
            Some(job) => writeln!(text, "{name}{{job=\"{}\"}} {value}", job.word()),
            None => writeln!(text, "{name} {value}"),
        };
    }
}
