//! Times for people: relative when near, always local.

use chrono::{DateTime, Local, NaiveDate, TimeDelta, Utc};

/// Returns "just now", "2 min ago", "3 h ago", "yesterday 13:58", "3 days ago", "2026-08-14".
pub(crate) fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    let (now_local, local) = (now.with_timezone(&Local), then.with_timezone(&Local));
    relative(
        now_local.date_naive(),
        local.date_naive(),
        (now - then).num_seconds(),
        || local.format("%H:%M").to_string(),
    )
}

/// Returns the same in short form, for a column: "just now", "2 min", "1 day".
pub(crate) fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    match (now - then).num_seconds() {
        i64::MIN..0 => "ahead".to_owned(),
        0..60 => "just now".to_owned(),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..86_400 => format!("{} h", s / 3600),
        s @ 86_400..172_800 => format!("{} day", s / 86_400),
        s => format!("{} days", s / 86_400),
    }
}

/// Returns the local time to the minute.
pub(crate) fn local(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local)
        .format("%Y-%m-%d %H:%M")
        .to_string()
}

/// Returns RFC 3339 in UTC, as in all JSON.
pub(crate) fn utc(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// Returns a file's time, local to the second.
pub(crate) fn of_file(time: bdr::model::manifest::Time) -> String {
    match DateTime::from_timestamp(time.0, time.1) {
        Some(utc) => utc
            .with_timezone(&Local)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string(),
        None => format!("@{}", time.0),
    }
}

fn relative(today: NaiveDate, day: NaiveDate, secs: i64, clock: impl Fn() -> String) -> String {
    let days = (today - day).num_days();
    match (secs, days) {
        (i64::MIN..-5, _) => format!("in the future, {day} {}", clock()),
        (..60, _) => "just now".to_owned(),
        (60..3600, _) => format!("{} min ago", secs / 60),
        (_, 0) => format!("{} h ago", secs / 3600),
        (3600..21_600, _) => format!("{} h ago", secs / 3600),
        (_, 1) => format!("yesterday {}", clock()),
        (_, 2..30) => format!("{days} days ago"),
        _ => day.to_string(),
    }
}

/// Returns "02:30", "tomorrow 02:30", "2026-11-29 02:30", "now".
pub(crate) fn soon(now: DateTime<Utc>, next: DateTime<Utc>) -> String {
    if next <= now {
        return "now".to_owned();
    }
    let (today, day) = (
        now.with_timezone(&Local).date_naive(),
        next.with_timezone(&Local),
    );
    let clock = day.format("%H:%M");
    // Less than a day away cannot be mistaken for another day.
    if next - now < TimeDelta::hours(24) {
        return clock.to_string();
    }
    match (day.date_naive() - today).num_days() {
        1 => format!("tomorrow {clock}"),
        _ => format!("{} {clock}", day.date_naive()),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};

    #[test]
    fn near_times_are_relative() {
        let date = |d: &str| d.parse::<NaiveDate>().unwrap();
        let now: DateTime<chrono::Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        for (then, expected) in [
            ("2026-11-22T11:59:30Z", "just now"),
            ("2026-11-22T11:57:00Z", "3 min ago"),
            ("2026-11-22T02:30:00Z", "9 h ago"),
            ("2026-11-21T13:58:00Z", "yesterday 13:58"),
            ("2026-11-19T13:58:00Z", "3 days ago"),
            ("2026-08-14T02:30:00Z", "2026-08-14"),
            ("2026-11-22T13:00:00Z", "in the future, 2026-11-22 13:00"),
        ] {
            let then: DateTime<chrono::Utc> = then.parse().unwrap();
            let text = super::relative(
                date("2026-11-22"),
                then.date_naive(),
                (now - then).num_seconds(),
                || then.format("%H:%M").to_string(),
            );
            assert_eq!(text, expected);
        }
    }
}
