//! Retention as a job.

use bdr::care::prune::{self, PruneOptions, PruneReport};
use bdr::repo::Repository;
use chrono::{DateTime, Local, NaiveDateTime, Utc};

use crate::app::context::Context;
use crate::app::error::Failure;

/// Returns what the clock on the wall shows.
pub(crate) fn local(time: DateTime<Utc>) -> NaiveDateTime {
    time.with_timezone(&Local).naive_local()
}

/// Prunes by the configuration's policy, unasked.
pub(crate) fn by_policy(cx: &Context, repo: &Repository) -> Result<PruneReport, Failure> {
    let mut options = PruneOptions::new(cx.now, &local);
    options.policy = cx.config.retention.clone();
    let plan = prune::plan(repo, &options, &cx.progress())?;
    Ok(prune::apply(repo, &plan, &options, &cx.progress())?)
}
