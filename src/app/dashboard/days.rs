//! The last 53 weeks, with a square for each day.

use std::collections::BTreeMap;

use bdr::care::runs::{Outcome, Run};
use bdr::model::schedule::Job;
use bdr::repo::summaries::Summary;
use chrono::{DateTime, Datelike as _, Days, Local, NaiveDate, Utc};
use maud::{Markup, html};

use crate::app::status::Seen;
use crate::ui::plural;

const WEEKS: i64 = 53;
/// Width and height of a day, and the space between two.
const SIZE: i64 = 10;
const STEP: i64 = 12;
const LEFT: i64 = 28;
const TOP: i64 = 16;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Day {
    backups: u64,
    guards: u64,
    partial: u64,
    failed: u64,
}

fn day_of(time: DateTime<Utc>) -> NaiveDate {
    time.with_timezone(&Local).date_naive()
}

fn gather(summaries: &[Summary], runs: &[Run]) -> BTreeMap<NaiveDate, Day> {
    let mut days: BTreeMap<NaiveDate, Day> = BTreeMap::new();
    let is_backup = |run: &&Run| matches!(run.job, Job::Backup | Job::Full);
    for run in runs.iter().filter(is_backup) {
        let day = days.entry(day_of(run.time)).or_default();
        match run.outcome {
            Outcome::Done => day.backups += 1,
            Outcome::Partial => {
                day.backups += 1;
                day.partial += 1;
            }
            Outcome::Failed => day.failed += 1,
            Outcome::Skipped => {}
        }
    }
    // Backups whose runs are not in the history: retention has thinned them out, but they exist.
    let mut stored: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    for summary in summaries {
        let date = day_of(summary.time);
        if summary.is_backup() {
            *stored.entry(date).or_default() += 1;
        } else {
            days.entry(date).or_default().guards += 1;
        }
    }
    for (date, number) in stored {
        let day = days.entry(date).or_default();
        day.backups = day.backups.max(number);
    }
    days
}

/// Returns the CSS class of a day, and its name.
fn class(
    day: Day,
    date: NaiveDate,
    first: Option<NaiveDate>,
    today: NaiveDate,
    scheduled: Option<NaiveDate>,
) -> (&'static str, String) {
    let mut parts = Vec::new();
    if day.backups > 0 {
        parts.push(plural(day.backups, "backup"));
    }
    if day.guards > 0 {
        parts.push(format!(
            "{} before commands",
            plural(day.guards, "snapshot")
        ));
    }
    if day.partial > 0 {
        parts.push(format!("{} partial", day.partial));
    }
    if day.failed > 0 {
        parts.push(format!("{} failed", day.failed));
    }
    // Today is not over.
    let missed = day.backups == 0 && scheduled.is_some_and(|since| date > since) && date < today;
    let class = match day {
        Day {
            failed: 1..,
            backups: 0,
            ..
        } => "failed",
        _ if missed => {
            parts.push("a backup was due but did not run".to_owned());
            "missed"
        }
        Day { partial: 1.., .. } => "partial",
        Day {
            backups: 0,
            guards: 0,
            ..
        } if first.is_none_or(|first| date < first) => "before",
        Day {
            backups: 0,
            guards: 0,
            ..
        } => "none",
        Day { guards, .. } => match guards {
            0..=2 => "s1",
            3..=20 => "s2",
            _ => "s3",
        },
    };
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    (class, format!("{date}: {}", parts.join(", ")))
}

/// Draws a cross over a day that failed and a stroke over a partial one: colours are not for everybody.
fn mark(x: i64, y: i64, class: &str) -> Markup {
    let path = match class {
        "failed" => "l6 6m0-6l-6 6",
        "partial" => "m0 6l6-6",
        _ => return html! {},
    };
    let (x, y) = (x + 2, y + 2);
    html! { path class="mark" d=(format!("M{x} {y}{path}")) {} }
}

pub(crate) fn render(seen: &Seen, scheduled: bool) -> Markup {
    let today = day_of(seen.status.now);
    let days = gather(&seen.summaries, &seen.runs);
    let first = days.keys().next().copied();
    let since = seen.status.memory.since.filter(|_| scheduled).map(day_of);
    let back =
        Days::new(u64::from(today.weekday().num_days_from_monday()) + 7 * (WEEKS as u64 - 1));
    let start = today.checked_sub_days(back).unwrap_or(today);
    let mut squares = Vec::new();
    let mut months = Vec::new();
    let (mut with, mut failed, mut missed) = (0, 0, 0);
    for (number, date) in start
        .iter_days()
        .take_while(|date| *date <= today)
        .enumerate()
    {
        let (column, row) = (number as i64 / 7, number as i64 % 7);
        let day = days.get(&date).copied().unwrap_or_default();
        let (class, title) = class(day, date, first, today, since);
        with += u64::from(day.backups > 0);
        failed += u64::from(class == "failed");
        missed += u64::from(class == "missed");
        if date.day() == 1 {
            // The year with the first one, and wherever it is another.
            let with_year = months.is_empty() || date.month() == 1;
            let name = date.format(if with_year { "%b %Y" } else { "%b" });
            months.push((LEFT + column * STEP, name.to_string()));
        }
        squares.push((LEFT + column * STEP, TOP + row * STEP, class, title));
    }
    let mut summary = format!("{} with a backup in the last year", plural(with, "day"));
    if missed > 0 {
        summary.push_str(&format!(", {missed} missed"));
    }
    if failed > 0 {
        summary.push_str(&format!(", {failed} failed"));
    }
    let (width, height) = (LEFT + WEEKS * STEP, TOP + 7 * STEP);
    html! {
        section {
            h2 { "Days" }
            div class="scroll" tabindex="0" role="region" aria-label="Calendar of the last year" { svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(format!("Calendar: {summary}.")) {
                defs { pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" {
                    rect width="4" height="4" {}
                    path d="M0 4L4 0" {}
                } }
                @for (x, name) in &months { text x=(x) y="10" { (name) } }
                @for (row, name) in [(0, "Mon"), (2, "Wed"), (4, "Fri")] { text x="0" y=(TOP + row * STEP + 9) { (name) } }
                @for (x, y, class, title) in &squares {
                    rect x=(x) y=(y) width=(SIZE) height=(SIZE) rx="2" class=(class) { title { (title) } }
                    (mark(*x, *y, class))
                }
            } }
            div class="legend" {
                span { b { (summary) } }
                @for (class, name) in [("s1", "backup"), ("s2", "with guards"), ("s3", "with many"), ("partial", "partial"), ("failed", "failed"), ("missed", "missed"), ("none", "nothing")] {
                    span { svg viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" rx="2" class=(class) {} (mark(0, 0, class)) } (name) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_called_what_it_was() {
        let date = |d: u32| NaiveDate::from_ymd_opt(2026, 11, d).unwrap();
        let none = Day::default();
        let class = |day, d| class(day, date(d), Some(date(5)), date(20), Some(date(8))).0;
        assert_eq!(class(none, 4), "before");
        assert_eq!(class(none, 7), "none");
        assert_eq!(class(none, 9), "missed");
        // Today is not over, and guards do not replace a backup.
        assert_eq!(class(none, 20), "none");
        assert_eq!(class(Day { guards: 3, ..none }, 9), "missed");
        assert_eq!(class(Day { backups: 1, ..none }, 9), "s1");
        assert_eq!(
            class(
                Day {
                    backups: 1,
                    guards: 30,
                    ..none
                },
                9
            ),
            "s3"
        );
        assert_eq!(
            class(
                Day {
                    backups: 1,
                    partial: 1,
                    ..none
                },
                9
            ),
            "partial"
        );
        assert_eq!(class(Day { failed: 2, ..none }, 9), "failed");
        // It succeeded in the end.
        assert_eq!(
            class(
                Day {
                    failed: 2,
                    backups: 1,
                    ..none
                },
                9
            ),
            "s1"
        );
    }
}
