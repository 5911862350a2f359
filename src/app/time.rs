//! Times as people type them after `--at` and `--since`.

use chrono::{
    DateTime, Datelike as _, Days, Local, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone, Utc, Weekday,
};

use crate::app::error::Failure;

/// Shown in the error and the help.
pub(crate) const EXAMPLES: &str =
    "\"2026-11-20 14:00\", 2026-11-20, \"yesterday 14:00\", monday, 2h, \"2 weeks ago\", \"1 Jan\"";

/// Returns the first moment of what `text` means here and now: "since yesterday" includes that
/// day's morning.
pub(crate) fn parse(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    understood(text, since(text, &now.with_timezone(&Local)))
}

/// Returns the last moment of what `text` means here and now: a minute lasts until the next begins,
/// and includes snapshots taken in it.
pub(crate) fn parse_until(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    understood(text, until(text, &now.with_timezone(&Local)))
}

/// Returns a test for times between two that were typed; a missing one is no bound.
pub(crate) fn within(
    since: Option<&str>,
    until: Option<&str>,
    now: DateTime<Utc>,
) -> Result<impl Fn(DateTime<Utc>) -> bool, Failure> {
    let since = since.map(|text| parse(text, now)).transpose()?;
    let until = until.map(|text| parse_until(text, now)).transpose()?;
    Ok(move |time| {
        since.is_none_or(|since| time >= since) && until.is_none_or(|until| time <= until)
    })
}

fn since<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Option<DateTime<Utc>> {
    match day_by_name(text, now.naive_local().date()) {
        Some(day) => resolve(day.and_time(NaiveTime::MIN), &now.timezone()),
        None => moment(text, now),
    }
}

fn until<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Option<DateTime<Utc>> {
    let time = moment(text, now)?;
    let clock = text.rsplit([' ', 't', 'T']).next().unwrap_or_default();
    // Without an offset, and before one.
    let clock = clock.trim_end_matches(['z', 'Z']);
    let clock = clock.split(['+', '-']).next().unwrap_or_default();
    let fits = |format: &str| NaiveTime::parse_from_str(clock, format).is_ok();
    let more = match (fits("%H:%M"), fits("%H:%M:%S")) {
        (true, _) => TimeDelta::minutes(1),
        (_, true) => TimeDelta::seconds(1),
        _ => return Some(time),
    };
    Some(time + more - TimeDelta::nanoseconds(1))
}

fn understood(text: &str, time: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, Failure> {
    time.ok_or_else(|| {
        let shown = bdr::base::path::show(text.as_ref());
        Failure::usage(
            format!("`{shown}` is not a time that bdr understands"),
            &format!("write it like {EXAMPLES}"),
        )
    })
}

/// Returns the date of "yesterday", "monday" or "last monday". A weekday is the most recent one,
/// including today; "last" excludes today.
fn day_by_name(text: &str, today: NaiveDate) -> Option<NaiveDate> {
    let lower = text.trim().to_lowercase();
    let (name, is_last) = match lower.strip_prefix("last ") {
        Some(name) => (name.trim_start(), true),
        None => (lower.as_str(), false),
    };
    match (name, is_last) {
        ("today", false) => return Some(today),
        ("yesterday", false) => return today.checked_sub_days(Days::new(1)),
        _ => {}
    }
    // "mon" and "sat" are accepted too; "may" is a month.
    let weekday: Weekday = name.parse().ok()?;
    let back = today.weekday().days_since(weekday);
    let back = if back == 0 && is_last { 7 } else { back };
    today.checked_sub_days(Days::new(back.into()))
}

/// A date alone is its first minute; a day by name, like `yesterday`, is at the present time of
/// day.
fn moment<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let lower = text.to_lowercase();
    let lower = match lower.split_once('t') {
        // 2026-11-20T14:00, without an offset: local.
        Some((day, clock)) if day.parse::<NaiveDate>().is_ok() => format!("{day} {clock}"),
        _ => lower,
    };
    let words: Vec<&str> = lower
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .collect();
    if words == ["now"] {
        return Some(now.to_utc());
    }
    match &words[..] {
        [rest @ .., "ago"] => return ago(rest, now),
        ["last", unit @ ("week" | "month" | "year")] => return ago(&["1", unit], now),
        // "2h" and "3 days" can only mean the past.
        short => {
            if let Some(time) = ago(short, now) {
                return Some(time);
            }
        }
    }
    let (words, clock) = match words.split_last() {
        Some((last, rest)) => match clock_time(last) {
            Some(clock) => (rest, Some(clock)),
            None => (&words[..], None),
        },
        None => return None,
    };
    let today = now.naive_local().date();
    let midnight = NaiveTime::MIN;
    let named = day_by_name(&words.join(" "), today);
    let local = match words {
        [] => today.and_time(clock?),
        ["today"] => today.and_time(clock.unwrap_or(midnight)),
        _ if named.is_some() => named?.and_time(clock.unwrap_or(now.time())),
        [date] => date
            .parse::<NaiveDate>()
            .ok()?
            .and_time(clock.unwrap_or(midnight)),
        [a, b] => {
            // The most recent one: "24 Dec" in November is last year's.
            let (day, month) = day_and_month(a, b)?;
            let (year, before) = (today.year(), today.year() - 1);
            let this = NaiveDate::from_ymd_opt(year, month, day).filter(|date| *date <= today);
            let date = this.or_else(|| NaiveDate::from_ymd_opt(before, month, day))?;
            date.and_time(clock.unwrap_or(midnight))
        }
        [a, b, year] => {
            let (day, month) = day_and_month(a, b)?;
            let year = year
                .parse()
                .ok()
                .filter(|year| (1970..=9999).contains(year))?;
            NaiveDate::from_ymd_opt(year, month, day)?.and_time(clock.unwrap_or(midnight))
        }
        _ => return None,
    };
    resolve(local, &now.timezone())
}

/// If the clock skips a time, the first one after the gap; if it occurs twice, the later one, so
/// that a snapshot between the two is found.
fn resolve<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> Option<DateTime<Utc>> {
    for minutes in 0..=24 * 60 {
        let at = local.checked_add_signed(TimeDelta::minutes(minutes))?;
        if let Some(time) = bdr::model::schedule::moments_of(at, zone).pop() {
            return Some(time);
        }
    }
    None
}

fn clock_time(word: &str) -> Option<NaiveTime> {
    ["%H:%M", "%H:%M:%S"]
        .iter()
        .find_map(|format| NaiveTime::parse_from_str(word, format).ok())
}

fn day_and_month(a: &str, b: &str) -> Option<(u32, u32)> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let month = |word: &str| {
        let word = word.trim_end_matches('.');
        let found = MONTHS
            .iter()
            .position(|m| word.len() >= 3 && m.starts_with(word))?;
        u32::try_from(found + 1).ok()
    };
    let day = |word: &str| {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '.');
        digits.parse::<u32>().ok()
    };
    match (month(a), month(b)) {
        (Some(month), None) => Some((day(b)?, month)),
        (None, Some(month)) => Some((day(a)?, month)),
        _ => None,
    }
}

fn ago<Z: TimeZone>(words: &[&str], now: &DateTime<Z>) -> Option<DateTime<Utc>> {
    let (number, unit) = match words {
        [number, unit] => (*number, *unit),
        [both] => both.split_at(both.find(|c: char| !c.is_ascii_digit())?),
        _ => return None,
    };
    let number: u32 = match number {
        "a" | "an" | "one" => 1,
        digits => digits.parse().ok()?,
    };
    let singular = if unit.len() > 1 {
        unit.trim_end_matches('s')
    } else {
        unit
    };
    let exact = |delta: Option<TimeDelta>| now.to_utc().checked_sub_signed(delta?);
    let local = now.naive_local();
    let by_date = |date: Option<NaiveDateTime>| resolve(date?, &now.timezone());
    match singular {
        "s" | "sec" | "second" => exact(TimeDelta::try_seconds(number.into())),
        "m" | "min" | "minute" => exact(TimeDelta::try_minutes(number.into())),
        "h" | "hr" | "hour" => exact(TimeDelta::try_hours(number.into())),
        "d" | "day" => by_date(local.checked_sub_days(Days::new(number.into()))),
        "w" | "week" => by_date(local.checked_sub_days(Days::new(u64::from(number) * 7))),
        "month" => by_date(local.checked_sub_months(Months::new(number))),
        "y" | "year" => by_date(local.checked_sub_months(Months::new(number.checked_mul(12)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, LocalResult, Offset as _};

    use super::*;

    /// UTC+1 until 2026-03-29 02:00, then UTC+2 until 2026-10-25 03:00, then UTC+1: Berlin.
    #[derive(Debug, Clone, Copy)]
    struct Berlin;

    impl Berlin {
        fn summer(self, utc: &NaiveDateTime) -> bool {
            let at = |m, d| {
                NaiveDate::from_ymd_opt(2026, m, d)
                    .unwrap()
                    .and_hms_opt(1, 0, 0)
                    .unwrap()
            };
            *utc >= at(3, 29) && *utc < at(10, 25)
        }
    }

    impl TimeZone for Berlin {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_local_date(&self, local: &NaiveDate) -> LocalResult<FixedOffset> {
            self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
        }

        fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<FixedOffset> {
            let fits: Vec<FixedOffset> = [2, 1]
                .map(|hours| FixedOffset::east_opt(hours * 3600).unwrap())
                .into_iter()
                .filter(|o| self.offset_from_utc_datetime(&(*local - o.fix())) == *o)
                .collect();
            match fits[..] {
                [] => LocalResult::None,
                [one] => LocalResult::Single(one),
                [early, late, ..] => LocalResult::Ambiguous(early, late),
            }
        }

        fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
            self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
        }

        fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
            FixedOffset::east_opt(if self.summer(utc) { 7200 } else { 3600 }).unwrap()
        }
    }

    fn at(text: &str, now: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339(now)
            .unwrap()
            .with_timezone(&Berlin);
        moment(text, &now).map(|t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    #[test]
    fn times_are_understood_as_people_write_them() {
        for (text, expected) in [
            ("2026-11-20 14:00", "2026-11-20T13:00:00Z"),
            ("2026-11-20T14:00", "2026-11-20T13:00:00Z"),
            ("2026-11-20 14:00:30", "2026-11-20T13:00:30Z"),
            ("2026-11-20T14:00:00Z", "2026-11-20T14:00:00Z"),
            ("2026-11-20T14:00:00+05:00", "2026-11-20T09:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-07-01 12:00", "2026-07-01T10:00:00Z"),
            ("now", "2026-11-22T11:30:00Z"),
            ("09:15", "2026-11-22T08:15:00Z"),
            ("today", "2026-11-21T23:00:00Z"),
            ("today 09:30", "2026-11-22T08:30:00Z"),
            ("Yesterday", "2026-11-21T11:30:00Z"),
            ("yesterday 14:00", "2026-11-21T13:00:00Z"),
            ("2 hours ago", "2026-11-22T09:30:00Z"),
            ("90min ago", "2026-11-22T10:00:00Z"),
            ("an hour ago", "2026-11-22T10:30:00Z"),
            ("3 days ago", "2026-11-19T11:30:00Z"),
            ("1 week ago", "2026-11-15T11:30:00Z"),
            ("last week", "2026-11-15T11:30:00Z"),
            ("1h", "2026-11-22T10:30:00Z"),
            ("90m", "2026-11-22T10:00:00Z"),
            ("2d", "2026-11-20T11:30:00Z"),
            ("2 days", "2026-11-20T11:30:00Z"),
            ("monday", "2026-11-16T11:30:00Z"),
            ("Monday 08:00", "2026-11-16T07:00:00Z"),
            ("last monday", "2026-11-16T11:30:00Z"),
            ("sunday 08:00", "2026-11-22T07:00:00Z"),
            ("last sunday 08:00", "2026-11-15T07:00:00Z"),
            ("2 months ago", "2026-09-22T10:30:00Z"),
            ("1 Jan", "2025-12-31T23:00:00Z"),
            ("Jan 1", "2025-12-31T23:00:00Z"),
            ("24 dec", "2025-12-23T23:00:00Z"),
            ("1st March 2026 08:00", "2026-03-01T07:00:00Z"),
            ("March 1, 2026", "2026-02-28T23:00:00Z"),
        ] {
            assert_eq!(
                at(text, "2026-11-22T11:30:00Z").as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn since_a_day_includes_all_of_it() {
        let now = DateTime::parse_from_rfc3339("2026-11-22T11:30:00Z")
            .unwrap()
            .with_timezone(&Berlin);
        for (text, expected) in [
            ("yesterday", "2026-11-20T23:00:00Z"),
            ("today", "2026-11-21T23:00:00Z"),
            ("monday", "2026-11-15T23:00:00Z"),
            ("last Friday", "2026-11-19T23:00:00Z"),
            ("sunday", "2026-11-21T23:00:00Z"),
            ("last sunday", "2026-11-14T23:00:00Z"),
            ("yesterday 14:00", "2026-11-21T13:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("1h", "2026-11-22T10:30:00Z"),
        ] {
            let found = since(text, &now).unwrap();
            let expected = DateTime::parse_from_rfc3339(expected).unwrap();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_hour_that_is_skipped_or_doubled_has_an_answer() {
        for (text, expected) in [
            ("2026-03-29 01:59", "2026-03-29T00:59:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:00:00Z"),
            ("2026-10-25 02:30", "2026-10-25T01:30:00Z"),
            ("2026-10-25 01:59", "2026-10-24T23:59:00Z"),
            ("2026-10-25 03:00", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(
                at(text, "2026-11-22T11:30:00Z").as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(
            at("yesterday 02:30", "2026-03-30T10:00:00Z").as_deref(),
            Some("2026-03-29T01:00:00Z")
        );
    }

    #[test]
    fn a_minute_is_asked_for_with_all_that_was_taken_in_it() {
        let now = DateTime::parse_from_rfc3339("2026-11-22T11:30:00Z")
            .unwrap()
            .with_timezone(&Berlin);
        for (text, expected) in [
            ("2026-11-20 14:00", "2026-11-20T13:00:59.999999999Z"),
            ("2026-11-20T14:00:30", "2026-11-20T13:00:30.999999999Z"),
            ("2026-11-20T14:00:30Z", "2026-11-20T14:00:30.999999999Z"),
            ("2026-11-20T14:00:30.250Z", "2026-11-20T14:00:30.250Z"),
            ("yesterday 14:00", "2026-11-21T13:00:59.999999999Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("now", "2026-11-22T11:30:00Z"),
            ("2 hours ago", "2026-11-22T09:30:00Z"),
        ] {
            let found = until(text, &now).unwrap();
            let expected = DateTime::parse_from_rfc3339(expected).unwrap();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_time() {
        for text in [
            "",
            "soon",
            "2026-13-01",
            "2026-02-30",
            "25:00",
            "30 Feb",
            "yesterday noon",
            "-1 days ago",
            "5 ago",
            "99999999999 days ago",
            "4000000000 years ago",
            "5 fortnights ago",
            "last",
            "last yesterday",
            "moonday",
            "5x",
            "5",
            "1 Jan 2026 2026",
            "latest",
            "1 Jan 99999",
            "\n",
        ] {
            assert_eq!(at(text, "2026-11-22T11:30:00Z"), None, "{text}");
        }
    }
}
