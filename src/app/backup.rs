//! Takes a backup and reports the result.

use bdr::Error;
use bdr::base::path::RawName;
use bdr::base::units::size;
use bdr::care::prune::Budget;
use bdr::model::rules::Root;
use bdr::protect::backup::{BackupOptions, BackupReport, Level, SealedSummary, backup};
use bdr::protect::staging::settle;
use bdr::repo::Repository;
use bdr::repo::snapshot::{PathNote, SnapshotKind, Trigger};

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{self, count, plural};

#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Read and store every byte again.
    pub(crate) full: bool,
    /// Names of sources; empty means all.
    pub(crate) sources: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) label: Option<String>,
}

pub(crate) struct BackupRun {
    pub(crate) report: BackupReport,
}

/// Returns the roots of the sources with these names; of all if there are none.
pub(crate) fn wanted_roots(cx: &Context, names: &[String]) -> Result<Vec<Root>, Failure> {
    let roots = match names {
        [] => cx.roots(),
        names => {
            let sources: Result<Vec<_>, Error> = names
                .iter()
                .map(|name| Ok(cx.config.source(name)?.root()))
                .collect();
            sources?
        }
    };
    if roots.is_empty() {
        let message = "there is nothing to back up: no source is configured";
        return Err(Failure::usage(message, "bdr add PATH, or bdr init"));
    }
    Ok(roots)
}

pub(crate) fn perform(
    cx: &Context,
    repo: &Repository,
    wanted: &Wanted,
) -> Result<BackupRun, Failure> {
    let roots = wanted_roots(cx, &wanted.sources)?;
    let missing = missing(&roots);
    if roots
        .iter()
        .all(|root| root.path.symlink_metadata().is_err())
    {
        // An empty snapshot would replace one with files as the latest.
        let gone = std::io::ErrorKind::NotFound.into();
        let error = Error::io("find", roots[0].path.clone(), gone);
        return Err(Failure::from(error).hinted(|_| Some("bdr config check".to_owned())));
    }
    cx.launch_lifeboat(repo.location());
    let hour_ago = std::time::SystemTime::from(cx.now) - std::time::Duration::from_secs(3600);
    bdr::disk::fsutil::sweep_temporaries(&cx.places.state, 3, hour_ago);
    // Pack what guards have kept. A failure must not stop the backup.
    match settle(repo, Level::Best, cx.now, &cx.progress()) {
        Ok(report) => crate::app::guard::tell_settled(cx, &report),
        Err(error) => cx
            .ui
            .warn(&format!("bdr: could not pack what guards kept: {error}")),
    }
    let mut options = BackupOptions::new(Trigger::Backup, cx.now);
    options.full = wanted.full;
    options.tags.clone_from(&wanted.tags);
    options.label.clone_from(&wanted.label);
    options.host.clone_from(&cx.host);
    options.problems = missing;
    let report = backup(repo, &roots, &options, &cx.progress())?;
    if wanted.full {
        cx.catch_up_lifeboat(repo.location());
    }
    Ok(BackupRun { report })
}

/// Returns the use of the budget that was just measured at the end of a backup.
pub(crate) fn remembered_budget(cx: &Context, report: &BackupReport) -> Budget {
    let memory = cx.journal().memory();
    let configured = cx.config.retention.max_bytes;
    Budget {
        used: memory.repository_bytes,
        max: configured.unwrap_or(memory.max_bytes),
        by_disk: configured.is_none(),
        full: match report.snapshot.kind {
            SnapshotKind::Full => report.stored_bytes,
            SnapshotKind::Incremental => 0,
        },
        unreachable: false,
    }
}

/// A missing source makes a backup partial: its content is unknown, not gone.
pub(crate) fn missing(roots: &[Root]) -> Vec<PathNote> {
    let gone = roots.iter().filter_map(|root| {
        let found = root.path.symlink_metadata();
        let why = match found.is_ok_and(|found| found.file_type().is_symlink()) {
            // A link with a target was followed before.
            true => "is a symlink that leads nowhere",
            false if root.path.symlink_metadata().is_err() => "is missing",
            false => return None,
        };
        Some(PathNote {
            path: RawName::from(root.path.as_path()),
            reason: format!("source `{}` {why}", root.name),
        })
    });
    gone.collect()
}

/// Returns the exit code for a report.
pub(crate) fn code(report: &BackupReport) -> u8 {
    if report.problems.is_empty() && !report.snapshot.partial && report.unstable.is_empty() {
        exit::OK
    } else {
        exit::PARTIAL
    }
}

/// Returns the summary, without a line end.
pub(crate) fn text(cx: &Context, report: &BackupReport, id: Option<&str>) -> String {
    let mut text = what_was_done(report);
    if let Some(id) = id {
        text.push_str(&format!(" Snapshot {id}."));
    }
    if code(report) == exit::PARTIAL {
        text.push_str(" Partial (exit 3):");
        let notes: Vec<&PathNote> = report.problems.iter().chain(&report.unstable).collect();
        for line in cx.note_lines(notes.into_iter(), 20) {
            text.push_str(&format!("\n  {line}"));
        }
    }
    text.push_str(&remarks(cx, report));
    text
}

fn what_was_done(report: &BackupReport) -> String {
    let stats = &report.snapshot.stats;
    let mut text = format!(
        "Backed up {}, {}",
        plural(stats.files, "file"),
        size(stats.bytes)
    );
    if report.reused {
        text.push_str(", nothing new");
    } else if report.snapshot.kind == SnapshotKind::Full {
        text.push_str(&format!(" → {}", size(report.stored_bytes)));
    } else {
        let changes = [
            ("new", report.added),
            ("changed", report.changed),
            ("removed", report.removed),
        ];
        let changes: Vec<String> = changes
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(word, n)| format!("{} {word}", count(*n)))
            .collect();
        if changes.is_empty() {
            text.push_str(", no changes");
        } else {
            text.push_str(&format!(
                " ({}), {} stored",
                changes.join(", "),
                size(report.stored_bytes)
            ));
        }
    }
    if !report.problems.is_empty() {
        text.push_str(&format!(
            ", {} skipped",
            count(report.problems.len() as u64)
        ));
    }
    text + &format!(", in {}.", ui::elapsed(report.elapsed))
}

/// Returns what is not in the snapshot as it is on disk, a line each: people who believe that
/// everything is in it must learn here that it is not.
fn remarks(cx: &Context, report: &BackupReport) -> String {
    let mut text = String::new();
    let left_out = report.left_out.iter();
    let over = left_out.filter(|note| note.why().is_worth_a_line());
    for note in over.take(3) {
        let path = cx.shown_absolute(note.path.as_path());
        text.push_str(&format!("\nLeft out: {path}  {}", note.reason));
    }
    if let Some(first) = report.mounts.first() {
        let more = match report.mounts.len() - 1 {
            0 => String::new(),
            more => format!(" and {} more", count(more as u64)),
        };
        text.push_str(&format!(
            "\nMounted below a source, and backed up with it: {}{more} (one_file_system = true leaves it out).",
            cx.shown_absolute(first)
        ));
    }
    let sealed = sealed_words(cx, &report.sealed);
    if !sealed.is_empty() {
        text.push_str(&format!("\nSealed: {sealed}."));
    }
    if report.not_stored > 0 {
        let special = count(report.not_stored);
        text.push_str(&format!(
            "\nNot stored: {special} sockets or devices (listed only)."
        ));
    }
    text
}

/// Returns what was sealed; empty if nothing was.
pub(crate) fn sealed_words(cx: &Context, sealed: &SealedSummary) -> String {
    let mut parts = Vec::new();
    if sealed.values > 0 {
        let values = plural(sealed.values, "secret value");
        parts.push(format!("{values} in {}", plural(sealed.files, "file")));
    }
    if sealed.records > 0 {
        let records = plural(sealed.records, "record");
        parts.push(format!("{records} of patients in logs"));
    }
    if let Some(first) = sealed.whole.first() {
        let path = cx.shown_absolute(first);
        parts.push(match sealed.whole.len() {
            1 => format!("the whole of {path}"),
            n => format!("the whole of {} and {} more", path, n - 1),
        });
    }
    parts.join(", ")
}
