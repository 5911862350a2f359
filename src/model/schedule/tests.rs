use chrono::LocalResult;
use chrono::{FixedOffset, NaiveDateTime, Offset};
use proptest::prelude::*;

use super::*;

/// UTC+1 until 2026-03-29 01:00 UTC, then UTC+2 until 2026-10-25 01:00 UTC, then UTC+1: Berlin.
#[derive(Debug, Clone, Copy)]
struct Berlin;

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
        let at = |m, d| {
            NaiveDate::from_ymd_opt(2026, m, d)
                .unwrap()
                .and_hms_opt(1, 0, 0)
                .unwrap()
        };
        let summer = *utc >= at(3, 29) && *utc < at(10, 25);
        FixedOffset::east_opt(if summer { 7200 } else { 3600 }).unwrap()
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn daily() -> Schedule {
    Schedule {
        full: None,
        drill: None,
        ..Schedule::default()
    }
}

/// Wakes up at each of `wakes`; returns those at which a backup ran. `works` says whether it
/// succeeds.
fn backups(
    schedule: &Schedule,
    pasts: &mut Pasts,
    wakes: &[DateTime<Utc>],
    works: impl Fn(DateTime<Utc>) -> bool,
) -> Vec<DateTime<Utc>> {
    let mut ran = Vec::new();
    for now in wakes {
        if schedule.due(pasts, *now, &Berlin).contains(&Job::Backup) {
            pasts.begin(Job::Backup, *now);
            ran.push(*now);
            if works(*now) {
                pasts.succeed(Job::Backup, *now);
            }
        }
    }
    ran
}

fn hourly(from: &str, to: &str) -> Vec<DateTime<Utc>> {
    let (mut now, to) = (at(from), at(to));
    let mut all = Vec::new();
    while now < to {
        all.push(now);
        now += TimeDelta::hours(1);
    }
    all
}

#[test]
fn a_machine_that_is_on_backs_up_once_a_day_after_the_slot() {
    let ran = backups(
        &daily(),
        &mut Pasts::default(),
        &hourly("2026-11-01T00:17:00Z", "2026-11-05T00:00:00Z"),
        |_| true,
    );
    // The first at once, because there is none yet. 02:30 in Berlin is 01:30 UTC, so at the wake-up
    // after it.
    let expected = [
        "2026-11-01T00:17:00Z",
        "2026-11-01T02:17:00Z",
        "2026-11-02T02:17:00Z",
        "2026-11-03T02:17:00Z",
        "2026-11-04T02:17:00Z",
    ];
    assert_eq!(ran, expected.map(at));
}

#[test]
fn three_slots_slept_through_are_one_run_and_the_next_slot_stays_where_it_is() {
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-11-10T02:17:00Z"));
    // Asleep from the 10th to the evening of the 13th.
    let ran = backups(
        &daily(),
        &mut pasts,
        &hourly("2026-11-13T19:03:00Z", "2026-11-15T00:00:00Z"),
        |_| true,
    );
    assert_eq!(
        ran,
        ["2026-11-13T19:03:00Z", "2026-11-14T02:03:00Z"].map(at)
    );
}

#[test]
fn what_fails_is_tried_again_at_growing_distances_and_success_is_not_claimed() {
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-11-10T02:00:00Z"));
    let wakes: Vec<_> = (0..18 * 60)
        .map(|m| at("2026-11-11T01:30:00Z") + TimeDelta::minutes(m))
        .collect();
    let ran = backups(&daily(), &mut pasts, &wakes, |_| false);
    let waits: Vec<i64> = ran
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).num_minutes())
        .collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 360]);
    assert_eq!(pasts.backup.success, Some(at("2026-11-10T02:00:00Z")));
    assert_eq!(pasts.backup.failures, 8);
    // A success ends the failures.
    let ran = backups(
        &daily(),
        &mut pasts,
        &hourly("2026-11-12T00:00:00Z", "2026-11-13T00:00:00Z"),
        |_| true,
    );
    assert_eq!(ran.len(), 2);
    assert_eq!(pasts.backup.failures, 0);
}

#[test]
fn a_run_that_never_came_back_counts_as_failed_and_one_that_was_skipped_does_not() {
    let mut pasts = Pasts::default();
    let now = at("2026-11-11T10:00:00Z");
    pasts.begin(Job::Full, now);
    assert!(
        !daily()
            .due(&pasts, now + TimeDelta::minutes(9), &Berlin)
            .contains(&Job::Backup)
    );
    assert!(
        daily()
            .due(&pasts, now + TimeDelta::minutes(10), &Berlin)
            .contains(&Job::Backup)
    );
    pasts.skip(Job::Full);
    assert_eq!((pasts.backup.failures, pasts.full.failures), (0, 0));
    assert!(daily().due(&pasts, now, &Berlin).contains(&Job::Backup));
}

#[test]
fn the_weekly_full_takes_the_place_of_the_daily_backup_and_counts_as_one() {
    let schedule = Schedule::default();
    let mut pasts = Pasts::default();
    let mut ran = Vec::new();
    for now in hourly("2026-11-20T10:00:00Z", "2026-12-01T10:00:00Z") {
        for job in schedule.due(&pasts, now, &Berlin) {
            pasts.begin(job, now);
            pasts.succeed(job, now);
            ran.push((now.format("%a %d").to_string(), job));
        }
    }
    let fulls: Vec<&str> = ran
        .iter()
        .filter(|(_, job)| *job == Job::Full)
        .map(|(day, _)| &**day)
        .collect();
    assert_eq!(fulls, ["Fri 20", "Sun 22", "Sun 29"]);
    for day in ran.iter().map(|(day, _)| day) {
        let backups = ran
            .iter()
            .filter(|(d, job)| d == day && matches!(job, Job::Full | Job::Backup));
        assert_eq!(backups.count(), 1, "{day}");
        let prunes = ran.iter().filter(|(d, job)| d == day && *job == Job::Prune);
        assert_eq!(prunes.count(), 1, "{day}");
    }
    let drills: Vec<&str> = ran
        .iter()
        .filter(|(_, job)| *job == Job::Drill)
        .map(|(day, _)| &**day)
        .collect();
    assert_eq!(drills, fulls);
}

#[test]
fn nothing_is_pruned_while_no_backup_succeeds() {
    let schedule = daily();
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-11-09T02:00:00Z"));
    let first = at("2026-11-10T02:00:00Z");
    assert_eq!(
        schedule.due(&pasts, first, &Berlin),
        [Job::Backup, Job::Prune]
    );
    // It failed: nothing until it is retried.
    pasts.begin(Job::Backup, first);
    assert_eq!(
        schedule.due(&pasts, first + TimeDelta::minutes(5), &Berlin),
        []
    );
    let again = first + TimeDelta::minutes(10);
    assert_eq!(
        schedule.due(&pasts, again, &Berlin),
        [Job::Backup, Job::Prune]
    );
    pasts.succeed(Job::Backup, again);
    assert_eq!(
        schedule.due(&pasts, again + TimeDelta::hours(1), &Berlin),
        [Job::Prune]
    );
}

#[test]
fn nights_when_the_clock_changes_have_one_slot() {
    let schedule = daily();
    for (day, slot) in [
        // 02:30 is skipped: the first minute after the gap, 03:00 summer time.
        ("2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z"),
        // 02:30 occurs twice: the first one.
        ("2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z"),
        ("2026-07-01T12:00:00Z", "2026-07-01T00:30:00Z"),
    ] {
        assert_eq!(
            schedule.slot_before(Job::Backup, at(day), &Berlin),
            Some(at(slot))
        );
    }
    for (from, to) in [
        ("2026-03-28T12:10:00Z", "2026-03-30T12:00:00Z"),
        ("2026-10-24T12:10:00Z", "2026-10-26T12:00:00Z"),
    ] {
        let mut pasts = Pasts::default();
        pasts.succeed(Job::Backup, at(from));
        assert_eq!(
            backups(&schedule, &mut pasts, &hourly(from, to), |_| true).len(),
            2,
            "{from}"
        );
    }
}

#[test]
fn a_clock_that_jumps_a_year_does_not_stop_backups_for_a_year() {
    let schedule = daily();
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-11-10T02:00:00Z"));
    // The clock is a year ahead: one run, then one a day as usual.
    let ran = backups(
        &schedule,
        &mut pasts,
        &hourly("2027-11-10T10:00:00Z", "2027-11-11T00:00:00Z"),
        |_| true,
    );
    assert_eq!(ran.len(), 1);
    // The clock is right again: what was done in the future does not count.
    let ran = backups(
        &schedule,
        &mut pasts,
        &hourly("2026-11-10T12:00:00Z", "2026-11-12T12:00:00Z"),
        |_| true,
    );
    assert_eq!(ran.len(), 3);
    // The same for what failed there.
    pasts.begin(Job::Backup, at("2027-11-12T00:00:00Z"));
    let ran = backups(
        &schedule,
        &mut pasts,
        &hourly("2026-11-12T12:00:00Z", "2026-11-13T12:00:00Z"),
        |_| true,
    );
    assert_eq!(ran.len(), 1);
    assert!(schedule.is_overdue(
        Some(at("2027-11-12T00:00:00Z")),
        None,
        at("2026-11-12T00:00:00Z")
    ));
}

#[test]
fn what_is_next_is_the_next_slot_unless_something_is_owed() {
    let schedule = daily();
    let mut pasts = Pasts::default();
    let now = at("2026-11-10T12:00:00Z");
    assert_eq!(schedule.next(Job::Backup, &pasts, now, &Berlin), Some(now));
    pasts.begin(Job::Backup, now);
    assert_eq!(
        schedule.next(Job::Backup, &pasts, now, &Berlin),
        Some(now + TimeDelta::minutes(10))
    );
    pasts.succeed(Job::Backup, now);
    assert_eq!(
        schedule.next(Job::Backup, &pasts, now, &Berlin),
        Some(at("2026-11-11T01:30:00Z"))
    );
    assert_eq!(schedule.next(Job::Drill, &pasts, now, &Berlin), None);
}

#[test]
fn overdue_is_by_age_of_the_last_success() {
    let schedule = daily();
    let now = at("2026-11-10T12:00:00Z");
    assert!(!schedule.is_overdue(Some(now - TimeDelta::hours(26)), None, now));
    assert!(schedule.is_overdue(Some(now - TimeDelta::hours(27)), None, now));
    assert!(schedule.is_overdue(None, None, now));
    // Installed an hour ago: nothing is late yet.
    assert!(!schedule.is_overdue(None, Some(now - TimeDelta::hours(1)), now));
}

#[test]
fn words_of_the_configuration() {
    assert_eq!(parse_clock("02:30"), Ok(Schedule::default().at));
    for wrong in ["2.30", "25:00", "noon", ""] {
        assert!(parse_clock(wrong).is_err(), "{wrong}");
    }
    for (day, word) in DAYS {
        assert_eq!(parse_day(word), Ok(Some(day)));
        assert_eq!(parse_day(&word[..3].to_uppercase()), Ok(Some(day)));
        assert_eq!(day_word(Some(day)), word);
    }
    assert_eq!(parse_day("never"), Ok(None));
    assert_eq!(day_word(None), "never");
    for wrong in ["su", "sund", "", "8"] {
        assert!(parse_day(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    /// However irregularly a machine wakes, each day on which it was awake after the slot has
    /// exactly one backup, and no slot has two.
    #[test]
    fn every_slot_that_was_seen_has_one_run(gaps in prop::collection::vec(1_i64..4000, 1..80), hour in 0_u32..24, minute in 0_u32..60) {
        let schedule = Schedule { at: NaiveTime::from_hms_opt(hour, minute, 0).unwrap(), ..daily() };
        let mut now = at("2026-03-20T00:00:00Z");
        let wakes: Vec<_> = gaps.into_iter().map(|gap| { now += TimeDelta::minutes(gap); now }).collect();
        let mut pasts = Pasts::default();
        pasts.succeed(Job::Backup, at("2026-03-20T00:00:00Z"));
        let ran = backups(&schedule, &mut pasts, &wakes, |_| true);
        // The model: walk over the days; a slot is the first minute of the day's clock that shows `at` or later.
        let start = at("2026-03-20T00:00:00Z");
        let slots: Vec<_> = (0..240).filter_map(|day| {
            let midnight = NaiveDate::from_ymd_opt(2026, 3, 19).unwrap() + Days::new(day);
            (0..=26 * 60).map(|m| midnight.and_time(NaiveTime::MIN).and_utc() - TimeDelta::hours(2) + TimeDelta::minutes(m))
                .find(|utc| { let local = utc.with_timezone(&Berlin).naive_local(); local.date() == midnight && local.time() >= schedule.at })
        }).collect();
        let mut expected = Vec::new();
        let mut done = start;
        for wake in wakes {
            if slots.iter().any(|slot| done < *slot && *slot <= wake) {
                expected.push(wake);
                done = wake;
            }
        }
        prop_assert_eq!(ran, expected);
    }
}

#[test]
fn every_few_hours_counts_from_the_daily_slot_and_passes_a_change_of_the_clock() {
    let every = |hours| Schedule {
        every: Some(hours),
        ..daily()
    };
    let wakes = hourly("2026-11-02T00:17:00Z", "2026-11-03T00:00:00Z");
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-11-02T00:00:00Z"));
    // 02:30 in Berlin is 01:30 UTC: each slot is served by the wake-up after it.
    let ran = backups(&every(6), &mut pasts, &wakes, |_| true);
    let expected = ["02", "08", "14", "20"].map(|h| at(&format!("2026-11-02T{h}:17:00Z")));
    assert_eq!(ran, expected);
    // Every hour, also on the day with 25 hours: none left out and none twice.
    let mut pasts = Pasts::default();
    pasts.succeed(Job::Backup, at("2026-10-25T00:05:00Z"));
    let wakes = hourly("2026-10-25T00:17:00Z", "2026-10-26T00:00:00Z");
    let ran = backups(&every(1), &mut pasts, &wakes, |_| true);
    assert_eq!(ran, wakes[1..]);
    // 5 does not divide 24: the next day begins at its own time again.
    let next = |now: &str| every(5).slot_after(Job::Backup, at(now), &Berlin);
    assert_eq!(
        next("2026-11-02T20:00:00Z"),
        Some(at("2026-11-02T21:30:00Z"))
    );
    assert_eq!(
        next("2026-11-02T21:30:00Z"),
        Some(at("2026-11-03T01:30:00Z"))
    );
    // Prunes and drills stay daily and weekly.
    let prune = every(1).slot_after(Job::Prune, at("2026-11-02T02:00:00Z"), &Berlin);
    assert_eq!(prune, Some(at("2026-11-03T01:30:00Z")));
}

#[test]
fn hours_are_read_as_they_are_written() {
    assert_eq!(parse_every("1h"), Ok(Some(1)));
    assert_eq!(parse_every(" 12H "), Ok(Some(12)));
    assert_eq!(parse_every("daily"), Ok(None));
    for bad in ["0h", "13h", "24h", "h", "90m", "2", "-1h"] {
        assert!(parse_every(bad).is_err(), "{bad}");
    }
    assert_eq!(every_word(parse_every("6h").unwrap()), "6h");
}
