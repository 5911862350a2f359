//! Retention as a job.

use bdr::base::units::size;
use bdr::care::prune::{self, Budget, PruneOptions, PruneReport};
use bdr::repo::Repository;
use chrono::{DateTime, Local, NaiveDateTime, Utc};

use crate::app::context::Context;
use crate::app::error::Failure;

/// Returns local time.
pub(crate) fn local(time: DateTime<Utc>) -> NaiveDateTime {
    time.with_timezone(&Local).naive_local()
}

/// Returns what to do if the budget is too small for what has to stay.
pub(crate) fn more_room(budget: &Budget) -> String {
    if budget.by_disk {
        return "The disk has no more room: bdr exclude PATTERN, or move the repository to a larger one".to_owned();
    }
    // Returns room for a history of what one backup takes, in whole gigabytes.
    let wanted = budget.full.saturating_mul(3).max(budget.used / 4 * 5);
    let wanted = (wanted >> 30) + 1;
    format!("Raise it: bdr config set retention.max_size {wanted}G (or auto)")
}

/// Returns the line about a storage that is nearly full or overfull; `None` if there is room.
pub(crate) fn tight_words(budget: &Budget) -> Option<String> {
    if !budget.is_tight() {
        return None;
    }
    let (used, max) = (size(budget.used), size(budget.max));
    let percent = budget.percent();
    let says = format!("Storage: {used} of {max} ({percent} %)");
    // Prune would have nothing to remove.
    Some(match budget.full >= budget.max / 2 {
        true => format!(
            "{says}. One full backup takes {}, so there is little room for history. {}",
            size(budget.full),
            more_room(budget)
        ),
        false => format!("{says}: bdr prune --dry-run"),
    })
}

/// Prunes by the configured policy, automatically.
pub(crate) fn by_policy(cx: &Context, repo: &Repository) -> Result<PruneReport, Failure> {
    let mut options = PruneOptions::new(cx.now, &local);
    options.policy = cx.config.retention.clone();
    let plan = prune::plan(repo, &options, &cx.progress())?;
    Ok(prune::apply(repo, &plan, &options, &cx.progress())?)
}
