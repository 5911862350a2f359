//! `bdr status --history`: how backups went, week by week.

use std::collections::BTreeMap;

use bdr::base::units::size;
use bdr::care::runs::Outcome;
use bdr::model::schedule::Job;
use chrono::{DateTime, Datelike as _, Days, Local, NaiveDate, Utc};

use crate::app::context::Context;
use crate::app::documents::RunsDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui;

/// The backups of one week.
#[derive(Default)]
struct Week {
    backups: u64,
    failed: u64,
    drills: u64,
    elapsed_ms: Vec<u64>,
    added: u64,
    repository: u64,
}

pub(super) fn run(cx: &Context) -> Result<u8, Failure> {
    let runs = cx.journal().runs();
    if cx.ui.json {
        let data = RunsDocument::new(&runs);
        cx.ui.document("status.history", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    if runs.is_empty() {
        cx.ui.say("Nothing has run yet: bdr backup");
        return Ok(exit::OK);
    }
    let mut weeks: BTreeMap<NaiveDate, Week> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.outcome != Outcome::Skipped) {
        let week = weeks.entry(monday(run.time)).or_default();
        match run.job {
            Job::Backup | Job::Full if run.succeeded() => {
                week.backups += 1;
                week.elapsed_ms.push(run.elapsed_ms);
                week.added += run.stored_bytes;
            }
            Job::Drill if run.succeeded() => week.drills += 1,
            _ => {}
        }
        week.failed += u64::from(!run.succeeded());
        if run.repository_bytes > 0 {
            week.repository = run.repository_bytes;
        }
    }
    let mut rows = vec![
        [
            "week of",
            "backups",
            "failed",
            "drills",
            "median",
            "longest",
            "added",
            "repository",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (monday, week) in &mut weeks {
        week.elapsed_ms.sort_unstable();
        let time = |ms: Option<&u64>| {
            ms.map_or_else(String::new, |ms| {
                ui::elapsed(std::time::Duration::from_millis(*ms))
            })
        };
        rows.push(vec![
            monday.to_string(),
            ui::count(week.backups),
            ui::count(week.failed),
            ui::count(week.drills),
            time(week.elapsed_ms.get(week.elapsed_ms.len() / 2)),
            time(week.elapsed_ms.last()),
            format!("+{}", size(week.added)),
            size(week.repository),
        ]);
    }
    let mut text = ui::table::table(&rows, "lrrrrrrr").join("\n");
    text.push('\n');
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn monday(time: DateTime<Utc>) -> NaiveDate {
    let day = time.with_timezone(&Local).date_naive();
    let back = Days::new(day.weekday().num_days_from_monday().into());
    day.checked_sub_days(back).unwrap_or(day)
}
