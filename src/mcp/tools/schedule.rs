//! `schedule_backup`. bdr has one daily time, an interval in hours, and one day for the full
//! backup. Cron expressions are accepted if they mean one of these.

use bdr::model::schedule::{Job, Schedule, day_word, every_word, parse_every};
use chrono::{Local, Timelike as _};
use serde::Serialize;

use super::super::call::{Answer, Call, Outcome, plan_id};
use super::super::fault::Fault;
use crate::app::context::Context;
use crate::app::jobs;
use crate::app::schedule as scheduling;
use crate::ui::when;

const DAILY: &str = "daily";
const WEEKLY: &str = "weekly-full";

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleResult {
    success: bool,
    action: String,
    schedule_id: Option<&'static str>,
    schedule: Option<ScheduleOf>,
    schedules: Vec<ScheduleOf>,
    message: String,
    warnings: Vec<String>,
}

/// One of the two schedules.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleOf {
    schedule_id: &'static str,
    name: &'static str,
    cron_expression: String,
    sources: Vec<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    compression: bool,
    verify: bool,
    exclude_patterns: Vec<String>,
    backup_config: BackupConfig,
    enabled: bool,
    next_run: Option<String>,
    #[serde(flatten)]
    last: Option<LastRun>,
}

/// Values that the specification puts into a member of their own.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct BackupConfig {
    sources: Vec<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    compression: bool,
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct LastRun {
    last_run: String,
    last_status: &'static str,
}

/// Which jobs run by themselves, and when next.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct SchedulesOverview {
    total_schedules: usize,
    enabled_schedules: usize,
    disabled_schedules: usize,
    active_jobs: usize,
    next_scheduled_backup: Option<NextRun>,
    schedules: Vec<ScheduleOf>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct NextRun {
    pub(super) schedule_id: String,
    pub(super) next_run: String,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let words = [
        "list", "create", "update", "delete", "enable", "disable", "trigger",
    ];
    let action = call.args.word("action", &words)?.ok_or_else(|| {
        Fault::argument(
            "`action` is missing",
            "schedule_backup {\"action\":\"list\"}",
        )
    })?;
    let message = match action {
        "list" => String::new(),
        "create" | "update" if call.args.flag("enabled")? == Some(false) => {
            match stop(call, "disable")? {
                Ok(message) => message,
                Err(ask) => return Ok(ask),
            }
        }
        "create" | "update" | "enable" => start(call)?,
        "delete" | "disable" => match stop(call, action)? {
            Ok(message) => message,
            Err(ask) => return Ok(ask),
        },
        _ => trigger(call)?,
    };
    if action != "list"
        && let Ok(repo) = call.cx.repository()
    {
        call.note(&repo)?;
    }
    // Read again: the call has just changed it.
    let cx = call
        .cx
        .afresh(Some(&call.cx.places.repository), call.cx.stop.clone(), None)?;
    let schedules = schedules(&cx);
    let id = which(call)?;
    let one = schedules.iter().find(|schedule| schedule.schedule_id == id);
    let result = ScheduleResult {
        success: true,
        action: action.to_owned(),
        schedule_id: one.map(|one| one.schedule_id),
        schedule: one.filter(|_| action != "list").cloned(),
        schedules,
        message,
        warnings: ignored(call)?,
    };
    Ok(Answer::new(result, "").into())
}

/// Warns about options of the earlier server that have no effect: scheduled backups follow the
/// configuration only.
fn ignored(call: &Call<'_>) -> Result<Vec<String>, Fault> {
    let args = &call.args;
    let asked = [
        (
            args.flag("compression")? == Some(false),
            "compression: false was ignored: content is always compressed",
        ),
        (
            args.flag("verify")? == Some(true),
            "verify: true was ignored: scheduled drills restore and compare backups",
        ),
        (
            !args.texts("excludePatterns")?.is_empty(),
            "excludePatterns was ignored, and nothing is left out for it: ask the user to run `bdr exclude PATTERN`",
        ),
        (
            args.text("label")?.is_some(),
            "label was ignored: scheduled backups have none",
        ),
    ];
    let ignored = asked.into_iter().filter(|(is_asked, _)| *is_asked);
    Ok(ignored.map(|(_, says)| says.to_owned()).collect())
}

/// Returns the schedule that a call names: daily or full.
fn which(call: &Call<'_>) -> Result<&'static str, Fault> {
    let id = match call.args.text("scheduleId")? {
        Some(id) => Some(id),
        None => call.args.text("name")?,
    };
    let full = call.args.word("type", &["full", "incremental"])? == Some("full");
    Ok(match id {
        Some(WEEKLY) => WEEKLY,
        Some(DAILY) => DAILY,
        Some(id) if full || id.contains("full") || id.contains("week") => WEEKLY,
        None if full => WEEKLY,
        _ => DAILY,
    })
}

fn invalid(message: String) -> Fault {
    Fault::new(
        "INVALID_SCHEDULE",
        message,
        "a daily time like {\"cronExpression\":\"30 2 * * *\"}, or a day for the full backup like {\"type\":\"full\",\"cronExpression\":\"30 2 * * 0\"}",
    )
}

/// The meaning of a cron expression.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cron {
    at: String,
    /// Hours from one backup to the next, in the form of the configuration.
    every: Option<String>,
    day: Option<String>,
}

/// Reads "30 2 * * *", "30 2 * * 0", "0 */6 * * *" and "30 2-23/6 * * *".
fn parse_cron(text: &str) -> Result<Cron, Fault> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, "*", "*", day] = fields[..] else {
        return Err(invalid(format!(
            "`{}` is not a time of day, nor a day of the week with one",
            bdr::base::path::show(text.as_ref())
        )));
    };
    let number =
        |field: &str, below: u32| field.parse::<u32>().ok().filter(|number| *number < below);
    let (hour, every) = match hour.split_once('/') {
        None => (hour, None),
        Some((from, hours)) => {
            let every = parse_every(&format!("{hours}h")).map_err(invalid)?;
            let from = from.strip_suffix("-23").unwrap_or(from);
            let from = if from == "*" { "0" } else { from };
            (from, every.map(|_| every_word(every)))
        }
    };
    let (Some(minute), Some(hour)) = (number(minute, 60), number(hour, 24)) else {
        return Err(invalid(
            "minute and hour must be one number each, or the hour a step like */6".to_owned(),
        ));
    };
    let at = format!("{hour:02}:{minute:02}");
    const DAYS: [&str; 8] = [
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let day = match day {
        "*" => None,
        day => {
            let by_number = day
                .parse::<usize>()
                .ok()
                .and_then(|number| DAYS.get(number).copied());
            let lower = day.to_ascii_lowercase();
            let by_name = DAYS
                .iter()
                .find(|name| lower.len() >= 3 && name.starts_with(&lower))
                .copied();
            let found = by_number.or(by_name);
            Some(
                found
                    .ok_or_else(|| {
                        invalid(format!(
                            "`{}` is not a single day of the week",
                            bdr::base::path::show(day.as_ref())
                        ))
                    })?
                    .to_owned(),
            )
        }
    };
    Ok(Cron { at, every, day })
}

fn start(call: &Call<'_>) -> Result<String, Fault> {
    let cx = call.cx;
    let sources = call.args.texts("sources")?;
    let known = |text: &String| {
        cx.config
            .sources
            .iter()
            .any(|source| source.name == *text || source.path == cx.cwd.join(text))
    };
    if !sources.iter().all(known) || !sources.is_empty() && sources.len() < cx.config.sources.len()
    {
        return Err(invalid(
            "a schedule backs up all configured sources; for a single one use create_backup"
                .to_owned(),
        ));
    }
    let weekly = which(call)? == WEEKLY;
    let cron = call
        .args
        .text("cronExpression")?
        .map(parse_cron)
        .transpose()?;
    let mut message = String::new();
    match (weekly, cron) {
        (false, Some(Cron { day: Some(_), .. })) => {
            return Err(invalid(
                "backups run every day; only the full one has a day of the week".to_owned(),
            ));
        }
        (false, cron) => {
            // A cron expression replaces the whole schedule: without a step it means one backup a
            // day.
            let every = cron.as_ref().map(|cron| cron.every.clone());
            let every = every.map(|every| every.unwrap_or_else(|| every_word(None)));
            change(cx, cron.map(|cron| cron.at), every, None)?;
        }
        (true, Some(Cron { every: Some(_), .. } | Cron { day: None, .. })) => {
            return Err(invalid(
                "a full backup is made on one day of the week".to_owned(),
            ));
        }
        (true, cron) => {
            let Cron { at, day, .. } = cron.unwrap_or_default();
            let day = day.unwrap_or_else(|| day_word(Schedule::default().full).to_owned());
            let daily = cx
                .config
                .schedule
                .as_ref()
                .map(|schedule| schedule.at.format("%H:%M").to_string());
            // bdr has one time of day for all backups, so the first one counts.
            let at = Some(at).filter(|at| !at.is_empty());
            match (&daily, &at) {
                (Some(daily), Some(at)) if daily != at => {
                    message = format!(
                        "the full backup runs at {daily}, like the daily one: change that in the schedule `{DAILY}`. "
                    );
                    change(cx, None, None, Some(day))?;
                }
                _ => change(cx, at, None, Some(day))?,
            }
        }
    }
    Ok(format!("{message}The system's scheduler runs it."))
}

/// Ends a schedule. That removes protection, so only the user can agree to it.
fn stop(call: &Call<'_>, action: &str) -> Result<Result<String, Outcome>, Fault> {
    let cx = call.cx;
    let weekly = which(call)? == WEEKLY;
    let there = cx
        .config
        .schedule
        .as_ref()
        .is_some_and(|schedule| !weekly || schedule.full.is_some());
    if !there {
        return Ok(Ok("There is no such schedule; nothing was done.".to_owned()));
    }
    if !call.client.can_ask {
        return Err(Fault::new(
            "CONFIRMATION_REQUIRED",
            format!(
                "to {action} a schedule reduces protection, and this client cannot ask its user"
            ),
            "ask the user to run: bdr schedule uninstall",
        ));
    }
    let plan = plan_id(["schedule".to_owned(), action.to_owned(), weekly.to_string()]);
    let question = match weekly {
        true => "Stop the weekly full backups? The daily ones continue.".to_owned(),
        false => {
            "Stop scheduled backups? Existing backups stay; no new ones are made automatically."
                .to_owned()
        }
    };
    if let Some(ask) = call.consent(&plan, || question)? {
        return Ok(Err(ask));
    }
    match weekly {
        true => change(cx, None, None, Some("never".to_owned()))?,
        false => drop(scheduling::remove(cx, false)?),
    }
    Ok(Ok(
        "Done. To reverse this: schedule_backup {\"action\":\"create\"}".to_owned(),
    ))
}

fn trigger(call: &Call<'_>) -> Result<String, Fault> {
    let job = if which(call)? == WEEKLY {
        Job::Full
    } else {
        Job::Backup
    };
    match jobs::run(call.cx, job, "mcp")? {
        true => Ok("The backup ran.".to_owned()),
        false => Err(Fault::new(
            "PARTIAL",
            "the backup is empty",
            "get_backup_status",
        )),
    }
}

/// Returns the existing schedules.
pub(super) fn schedules(cx: &Context) -> Vec<ScheduleOf> {
    let Some(schedule) = &cx.config.schedule else {
        return Vec::new();
    };
    let pasts = cx.journal().memory().pasts;
    let names = cx
        .config
        .sources
        .iter()
        .map(|source| source.name.to_string());
    let sources: Vec<String> = names.collect();
    let (minute, hour) = (schedule.at.minute(), schedule.at.hour());
    let one = |id: &'static str, kind: &'static str, day: String, job: Job| {
        let past = pasts.of(job);
        let hours = match schedule.every.filter(|_| job == Job::Backup) {
            None => hour.to_string(),
            Some(every) => format!("{}-23/{every}", hour % every),
        };
        let last = past.attempt.or(past.success);
        let succeeded = past.failures == 0;
        ScheduleOf {
            schedule_id: id,
            name: id,
            cron_expression: format!("{minute} {hours} * * {day}"),
            sources: sources.clone(),
            kind,
            compression: true,
            verify: false,
            exclude_patterns: Vec::new(),
            backup_config: BackupConfig {
                sources: sources.clone(),
                kind,
                compression: true,
            },
            enabled: true,
            next_run: schedule.next(job, &pasts, cx.now, &Local).map(when::utc),
            last: last.map(|time| LastRun {
                last_run: when::utc(time),
                last_status: if succeeded { "success" } else { "failure" },
            }),
        }
    };
    let mut all = vec![one(DAILY, "incremental", "*".to_owned(), Job::Backup)];
    if let Some(day) = schedule.full {
        all.push(one(
            WEEKLY,
            "full",
            day.num_days_from_sunday().to_string(),
            Job::Full,
        ));
    }
    all
}

/// Returns which schedule is due next, and when.
pub(super) fn next(cx: &Context) -> Option<NextRun> {
    let due = schedules(cx).into_iter().filter_map(|schedule| {
        Some(NextRun {
            schedule_id: schedule.schedule_id.to_owned(),
            next_run: schedule.next_run?,
        })
    });
    due.min_by(|a, b| a.next_run.cmp(&b.next_run))
}

/// Returns which jobs run by themselves, and when next.
pub(super) fn overview(cx: &Context) -> SchedulesOverview {
    let schedules = schedules(cx);
    SchedulesOverview {
        total_schedules: schedules.len(),
        enabled_schedules: schedules.len(),
        disabled_schedules: 0,
        active_jobs: schedules.len(),
        next_scheduled_backup: next(cx),
        schedules,
    }
}

/// Installs the schedule with another time, interval or day.
fn change(
    cx: &Context,
    at: Option<String>,
    every: Option<String>,
    full: Option<String>,
) -> Result<(), Fault> {
    let wanted = scheduling::Wanted {
        at,
        every,
        full,
        drill: None,
    };
    scheduling::install(cx, &wanted, scheduling::AUTO)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_that_mean_a_daily_time_or_one_day_are_read() {
        for (text, at, every, day) in [
            ("30 2 * * *", "02:30", None, None),
            ("0 0 * * 0", "00:00", None, Some("sunday")),
            ("5 23 * * 7", "23:05", None, Some("sunday")),
            ("5 23 * * fri", "23:05", None, Some("friday")),
            ("0 */6 * * *", "00:00", Some("6h"), None),
            ("30 2-23/4 * * *", "02:30", Some("4h"), None),
            ("30 2/12 * * *", "02:30", Some("12h"), None),
        ] {
            let expected = Cron {
                at: at.to_owned(),
                every: every.map(str::to_owned),
                day: day.map(str::to_owned),
            };
            assert_eq!(parse_cron(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "* * * * *",
            "*/5 2 * * *",
            "0 */13 * * *",
            "0 */0 * * *",
            "0 1-5/2 * * *",
            "30 24 * * *",
            "30 2 1 * *",
            "30 2 * * 1-5",
            "30 2 * * 8",
            "30 2 * *",
            "a b * * *",
        ] {
            assert_eq!(
                parse_cron(text).unwrap_err().code,
                "INVALID_SCHEDULE",
                "{text}"
            );
        }
    }
}
