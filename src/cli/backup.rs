//! `bdr backup`.

use bdr::base::units::size;
use bdr::care::prune::Budget;
use bdr::model::schedule::Job;
use clap::Args;

use crate::app::backup::{BackupRun, Wanted, code, perform, text};
use crate::app::context::Context;
use crate::app::documents::BackupDocument;
use crate::app::error::Failure;
use crate::app::jobs;

/// Back up the configured sources
///
/// Takes a snapshot of every source: incremental, or with --full one that needs nothing older. If a file cannot be read, bdr
/// names it, backs up the rest and exits with 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr backup
  bdr backup --full --label \"before the move\"
  bdr backup --source brain --source agents")]
pub(crate) struct BackupArgs {
    /// Read and store everything again; the result needs no older snapshot
    #[arg(long)]
    full: bool,
    /// Back up this source only; may be repeated
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Tag the snapshot; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Name the snapshot
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

pub(crate) fn run(cx: &Context, args: &BackupArgs) -> Result<u8, Failure> {
    crate::app::config::warn_useless(cx);
    let repo = cx.repository()?;
    let wanted = Wanted {
        full: args.full,
        sources: args.source.clone(),
        tags: args.tag.clone(),
        label: args.label.clone(),
    };
    let BackupRun { report } = if wanted.sources.is_empty() {
        let job = if args.full { Job::Full } else { Job::Backup };
        jobs::remember(cx, job, "user", || perform(cx, &repo, &wanted))?.0
    } else {
        // One of some sources is not what is due every day.
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
    // As large as it was found to be a moment ago.
    let budget = Budget {
        used: cx.journal().memory().repository_bytes,
        max: cx.config.retention.max_bytes,
        unreachable: false,
    };
    if budget.max > 0 && budget.is_tight() {
        let (used, max) = (size(budget.used), size(budget.max));
        let percent = budget.percent();
        cx.ui.say(&format!(
            "Storage: {used} of {max} ({percent} %): bdr prune --dry-run"
        ));
    }
    Ok(code)
}
