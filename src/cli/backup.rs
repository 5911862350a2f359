//! `bdr backup`.

use bdr::base::units::size;
use bdr::care::preview::preview;
use bdr::disk::fsutil::process_runs;
use bdr::model::schedule::Job;
use bdr::protect::backup::BackupOptions;
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use clap::Args;

use crate::app::backup::{BackupRun, Wanted, code, perform, remembered_budget, text};
use crate::app::context::Context;
use crate::app::documents::{BackupDocument, BackupPlanDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::prune::tight_words;
use crate::ui::prompt::NeverAsks;
use crate::ui::{count, plural};

/// Back up the configured sources
///
/// Takes a snapshot of every source: incremental, or with --full one that needs nothing older. If a file cannot be read, bdr
/// names it, backs up the rest and exits with 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr backup
  bdr backup --full --label \"before the move\"
  bdr backup brain agents                    only these sources
  bdr backup --dry-run                       show what it would store")]
pub(crate) struct BackupArgs {
    /// Read and store everything again; the result needs no older snapshot
    #[arg(long)]
    full: bool,
    /// Back up only these sources (names from `bdr status`)
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// The same by an option; may be repeated
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Tag the snapshot; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Name the snapshot
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Print what would be backed up; store nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: list every new or changed file
    #[arg(long, requires = "dry_run")]
    files: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

impl BackupArgs {
    fn wanted(&self) -> Vec<String> {
        [&self.sources[..], &self.source].concat()
    }
}

pub(crate) fn run(cx: &Context, args: &BackupArgs) -> Result<u8, Failure> {
    crate::app::config::warn_useless(cx);
    let repo = cx.repository()?;
    let wanted = Wanted {
        full: args.full,
        sources: args.wanted(),
        tags: args.tag.clone(),
        label: args.label.clone(),
    };
    if args.dry_run {
        return dry_run(cx, &repo, args);
    }
    say_if_another_runs(cx);
    let BackupRun { report } = if wanted.sources.is_empty() {
        let job = if args.full { Job::Full } else { Job::Backup };
        jobs::remember(cx, job, "user", || perform(cx, &repo, &wanted))?.0
    } else {
        // A backup of only some sources is not the daily one.
        perform(cx, &repo, &wanted)?
    };
    let code = code(&report);
    if cx.ui.json {
        cx.ui
            .document("backup", code, &BackupDocument::new(&report))?;
    } else {
        let id = report.snapshot.id.prefix(&repo.snapshot_ids()?);
        let id = cx.ui.out.yellow(&id);
        cx.ui
            .report(&format!("{}\n", text(cx, &report, Some(&id))))?;
    }
    if let Some(says) = tight_words(&remembered_budget(cx, &report)) {
        cx.ui.say(&says);
    }
    Ok(code)
}

/// Two at the same time would read the same files, and each would take as long as alone.
fn say_if_another_runs(cx: &Context) {
    let running = cx.journal().memory().running;
    if let Some(other) = running
        && matches!(other.job, Job::Backup | Job::Full)
        && process_runs(other.pid)
    {
        cx.ui.say(&format!(
            "Another backup is running (process {}); this one reads what that has not stored yet as well.",
            other.pid
        ));
    }
}

/// Says what a backup would do. `stat` tells whether a file is unchanged; its compressed size is
/// known only after storing it.
fn dry_run(cx: &Context, repo: &Repository, args: &BackupArgs) -> Result<u8, Failure> {
    let roots = crate::app::backup::wanted_roots(cx, &args.wanted())?;
    let mut options = BackupOptions::new(Trigger::Backup, cx.now);
    options.full = args.full;
    let found = preview(repo, &roots, &options)?;
    let missing: Vec<_> = roots
        .iter()
        .filter(|root| root.path.symlink_metadata().is_err())
        .collect();
    let partial = !missing.is_empty() || found.iter().any(|one| !one.problems.is_empty());
    let code = if partial { exit::PARTIAL } else { exit::OK };
    if cx.ui.json {
        let data = BackupPlanDocument::new(args.full, &found);
        cx.ui.document("backup", code, &data)?;
        return Ok(code);
    }
    let width = found.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let mut says = String::new();
    for one in &found {
        let new: u64 = one.changed.iter().map(|(_, bytes)| bytes).sum();
        let changes = match (one.changed.len() as u64, one.removed.len() as u64) {
            (0, 0) => "nothing new".to_owned(),
            (files, 0) => format!("{} new or changed, {}", plural(files, "file"), size(new)),
            (files, gone) => format!(
                "{} new or changed, {}; {} removed",
                plural(files, "file"),
                size(new),
                count(gone)
            ),
        };
        let left_out = match one.left_out.len() as u64 {
            0 => String::new(),
            n => format!("; {} left out", count(n)),
        };
        says.push_str(&format!(
            "  {:<width$}  {}, {}: {changes}{left_out}\n",
            one.name,
            plural(one.files, "file"),
            size(one.bytes)
        ));
        if args.files {
            for (path, bytes) in &one.changed {
                says.push_str(&format!(
                    "    + {}  {}\n",
                    cx.shown_absolute(path),
                    size(*bytes)
                ));
            }
            for path in &one.removed {
                says.push_str(&format!("    - {}\n", cx.shown_absolute(path)));
            }
        }
        for (path, why) in &one.problems {
            says.push_str(&format!(
                "    cannot read {}  {why}\n",
                cx.shown_absolute(path)
            ));
        }
    }
    for root in missing {
        says.push_str(&format!(
            "  {}  missing: {}\n",
            root.name,
            cx.shown_absolute(&root.path)
        ));
    }
    says.push_str("Nothing was stored.\n");
    cx.ui.report(&says)?;
    Ok(code)
}
