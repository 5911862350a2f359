//! `bdr status`.

use bdr::care::status::{Level, Trouble};
use bdr::model::retention::parse_span;
use chrono::TimeDelta;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::StatusDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::status::look;

mod history;

/// Show whether everything is protected, and what to do if not
///
/// Starts with one sentence, then shows sources and how much of them is backed up, storage, scheduler and guards. --check is for
/// monitoring: one line, and exit code 0 if all is well, 1 for a warning, 2 if current files could be lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr status
  bdr status --check --max-age 26h
  bdr status --history
  bdr status --json | jq -r .data.level")]
pub(crate) struct StatusArgs {
    /// Print one line for monitoring; exit 0, 1 or 2
    #[arg(long)]
    check: bool,
    /// How old the last backup may be: 26h, 3d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    max_age: Option<TimeDelta>,
    /// Print the backup history, week by week
    #[arg(long, conflicts_with = "check")]
    history: bool,
}

pub(crate) fn run(cx: &Context, args: &StatusArgs) -> Result<u8, Failure> {
    if args.history {
        return history::run(cx);
    }
    let seen = look(cx, args.max_age, !args.check)?;
    let status = &seen.status;
    if args.check {
        let code = match status.level {
            Level::Good => 0,
            Level::Warning => 1,
            Level::Critical => 2,
        };
        if cx.ui.json {
            cx.ui
                .document("status", code, &StatusDocument::new(&seen))?;
        } else {
            cx.ui.data(&format!(
                "{}\n",
                crate::app::status::words::check_line(status)
            ))?;
        }
        return Ok(code);
    }
    let codes = status.troubles.iter().map(|trouble| match trouble {
        Trouble::Away => exit::NO_REPOSITORY,
        Trouble::Damaged { .. } | Trouble::Lost { .. } => exit::DAMAGED,
        _ => exit::OK,
    });
    let code = codes.max().unwrap_or(exit::OK);
    if cx.ui.json {
        cx.ui
            .document("status", code, &StatusDocument::new(&seen))?;
    } else {
        cx.ui.prose(&crate::app::status::words::page(cx, &seen))?;
    }
    Ok(code)
}
