//! Tables for the agreed rules, and a model written from the documentation, not from the code.

use std::collections::BTreeSet;

use chrono::{Datelike as _, Weekday};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn utc(time: DateTime<Utc>) -> NaiveDateTime {
    time.naive_utc()
}

/// Central Europe: two hours ahead from the last Sunday of March, 01:00 UTC, to that of October; else one.
fn berlin(time: DateTime<Utc>) -> NaiveDateTime {
    let last_sunday = |month| {
        let day = chrono::NaiveDate::from_ymd_opt(time.year(), month, 31).unwrap();
        let back = day.weekday().num_days_from_sunday();
        (day - TimeDelta::days(back.into()))
            .and_hms_opt(1, 0, 0)
            .unwrap()
            .and_utc()
    };
    let summer = time >= last_sunday(3) && time < last_sunday(10);
    time.naive_utc() + TimeDelta::hours(if summer { 2 } else { 1 })
}

fn item(seq: u64, time: DateTime<Utc>) -> Item {
    Item {
        id: SnapshotId::from_u128(u128::from(seq)),
        seq,
        time,
        full: false,
        partial: false,
        guard: false,
        roots: vec!["tree".to_owned()],
        tags: Vec::new(),
        pinned: false,
        bytes: 1000,
        undo: None,
        mirrored: false,
    }
}

fn guard(seq: u64, time: DateTime<Utc>) -> Item {
    Item {
        guard: true,
        ..item(seq, time)
    }
}

fn kept(items: &[Item], policy: &Policy, now: DateTime<Utc>) -> Vec<u64> {
    let decisions = decide(items, policy, now, &utc).unwrap();
    let kept = decisions.all.iter().filter(|d| d.keep);
    kept.map(|d| d.id.to_u128() as u64).collect()
}

fn daily(n: u32) -> Policy {
    Policy {
        daily: n,
        ..Policy::nothing()
    }
}

#[test]
fn the_newest_of_a_day_stands_for_it_and_empty_days_do_not_count() {
    let times = [
        "2026-03-01T08:00:00Z",
        "2026-03-01T20:00:00Z",
        "2026-03-05T08:00:00Z",
        "2026-03-05T09:00:00Z",
        "2026-03-09T09:00:00Z",
    ];
    let items: Vec<Item> = (1..).zip(times).map(|(n, t)| item(n, at(t))).collect();
    let now = at("2026-03-09T10:00:00Z");
    assert_eq!(kept(&items, &daily(1), now), [5]);
    assert_eq!(kept(&items, &daily(2), now), [4, 5]);
    assert_eq!(kept(&items, &daily(3), now), [2, 4, 5]);
    // A year later, with nothing new, nothing changes: ages are measured from the newest.
    assert_eq!(
        kept(&items, &daily(3), now + TimeDelta::days(365)),
        [2, 4, 5]
    );
}

#[test]
fn fulls_stand_for_weeks_and_months_where_there_is_one() {
    // Sunday's full, then six incrementals; ISO weeks end on Sunday.
    let mut items = Vec::new();
    for day in 0..28 {
        let time = at("2026-03-02T02:30:00Z") + TimeDelta::days(day);
        let mut new = item(day as u64 + 1, time);
        new.full = time.weekday() == Weekday::Wed;
        items.push(new);
    }
    let now = items[27].time;
    let policy = Policy {
        weekly: 3,
        ..Policy::nothing()
    };
    // Wednesdays of the last three weeks, and the newest.
    assert_eq!(kept(&items, &policy, now), [10, 17, 24, 28]);
    let decisions = decide(&items, &policy, now, &utc).unwrap();
    let reasons = &decisions.all[23].reasons;
    assert!(reasons.contains(&Reason::LastFull), "{reasons:?}");
    assert!(
        reasons.contains(&Reason::Slot(Period::Week, "2026-W13".to_owned())),
        "{reasons:?}"
    );
}

#[test]
fn iso_weeks_cross_the_year() {
    // 2026-12-28 … 2027-01-03 is one week, 2026-W53.
    let items = [
        item(1, at("2026-12-27T12:00:00Z")),
        item(2, at("2026-12-28T12:00:00Z")),
        item(3, at("2027-01-03T12:00:00Z")),
        item(4, at("2027-01-04T12:00:00Z")),
    ];
    let policy = Policy {
        weekly: 10,
        ..Policy::nothing()
    };
    assert_eq!(kept(&items, &policy, items[3].time), [1, 3, 4]);
    let decisions = decide(&items, &policy, items[3].time, &utc).unwrap();
    assert!(
        decisions.all[2]
            .reasons
            .contains(&Reason::Slot(Period::Week, "2026-W53".to_owned()))
    );
}

#[test]
fn days_are_those_of_the_zone_also_when_clocks_change() {
    // 23:30 and 00:30 local are different days, though one day in UTC.
    let items = [
        item(1, at("2026-07-01T21:30:00Z")),
        item(2, at("2026-07-01T22:30:00Z")),
    ];
    let count = |items: &[Item], policy: &Policy| {
        let decisions = decide(items, policy, items.last().unwrap().time, &berlin).unwrap();
        decisions.all.iter().filter(|d| d.keep).count()
    };
    assert_eq!(count(&items, &daily(9)), 2);
    assert_eq!(kept(&items, &daily(9), items[1].time), [2]);
    // 25 October 2026: 02:30 occurs twice. One local hour, one day; the newer of the two represents
    // it.
    let night = [
        item(1, at("2026-10-25T00:30:00Z")),
        item(2, at("2026-10-25T01:30:00Z")),
        item(3, at("2026-10-25T02:30:00Z")),
    ];
    let hourly = Policy {
        hourly: 9,
        ..Policy::nothing()
    };
    assert_eq!(count(&night, &hourly), 2);
    assert_eq!(count(&night, &daily(9)), 1);
    // 29 March 2026: 02:30 does not exist; before and after are two hours.
    let night = [
        item(1, at("2026-03-29T00:45:00Z")),
        item(2, at("2026-03-29T01:15:00Z")),
    ];
    assert_eq!(count(&night, &hourly), 2);
    assert_eq!(count(&night, &daily(9)), 1);
}

#[test]
fn what_is_partial_takes_no_place_from_what_is_complete() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..6)
        .map(|n| item(n + 1, start + TimeDelta::days(n as i64)))
        .collect();
    for partial in [3, 4, 5] {
        items[partial].partial = true;
    }
    // Two complete days, and the two newest of all.
    assert_eq!(kept(&items, &daily(2), items[5].time), [2, 3, 5, 6]);
    // A complete backup represents its day even if it is older than a partial one.
    items[4].partial = false;
    items[5].time = items[4].time + TimeDelta::hours(1);
    let decisions = decide(&items, &daily(1), items[5].time, &utc).unwrap();
    assert!(decisions.all[4].keep);
    assert_eq!(decisions.all[5].reasons, [Reason::Newest, Reason::New]);
}

#[test]
fn each_root_has_slots_of_its_own() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..4)
        .map(|n| item(n + 1, start + TimeDelta::hours(n as i64)))
        .collect();
    items[1].roots = vec!["notes".to_owned()];
    items[2].roots = vec!["notes".to_owned(), "tree".to_owned()];
    items[3].roots = vec!["other".to_owned()];
    // 1 and 2 are displaced by 3, which has both; 4 displaces nothing.
    assert_eq!(kept(&items, &daily(1), items[3].time), [3, 4]);
    items[2].roots = vec!["notes".to_owned()];
    assert_eq!(kept(&items, &daily(1), items[3].time), [1, 3, 4]);
}

#[test]
fn guard_snapshots_stay_for_their_window_and_within_their_bytes() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..10)
        .map(|n| guard(n + 1, start + TimeDelta::days(n as i64)))
        .collect();
    items.push(item(11, start + TimeDelta::days(9) + TimeDelta::hours(1)));
    let now = items[10].time;
    assert_eq!(kept(&items, &daily(1), now), [4, 5, 6, 7, 8, 9, 10, 11]);
    // A reused snapshot is as young as the last command that it protects, whatever took it.
    items[0].undo = Some(now);
    assert_eq!(kept(&items, &daily(1), now), [1, 4, 5, 6, 7, 8, 9, 10, 11]);
    // The next guard's base is kept four times as long.
    items[1].mirrored = true;
    assert_eq!(kept(&items, &daily(1), now)[..3], [1, 2, 4]);
    let mut later = items.clone();
    later.push(item(12, now + TimeDelta::days(20)));
    assert_eq!(kept(&later, &daily(1), later[11].time), [12]);
    items[1].mirrored = false;
    let tight = Policy {
        guard_bytes: 2500,
        ..daily(1)
    };
    assert_eq!(kept(&items, &tight, now), [1, 10, 11]);
    let none = Policy {
        guard_bytes: 0,
        ..daily(1)
    };
    // What the next undo needs stays.
    assert_eq!(kept(&items, &none, now), [1, 11]);
    let decisions = decide(&items, &tight, now, &utc).unwrap();
    assert_eq!(decisions.all[1].reasons, [Reason::GuardExpired]);
    assert_eq!(decisions.all[8].reasons, [Reason::GuardBytes]);
}

#[test]
fn a_guard_snapshot_that_stored_a_giant_drives_out_nothing_else() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..10)
        .map(|n| guard(n + 1, start + TimeDelta::hours(n as i64)))
        .collect();
    let policy = Policy {
        guard_bytes: 10_000,
        ..daily(1)
    };
    let now = items[9].time;
    items[5].bytes = 5_000_000;
    assert_eq!(kept(&items, &policy, now), [1, 2, 3, 4, 5, 7, 8, 9, 10]);
    let decisions = decide(&items, &policy, now, &utc).unwrap();
    assert_eq!(decisions.all[5].reasons, [Reason::GuardBytes]);
    // The newest stays, and the others with it.
    items[5].bytes = 1000;
    items[9].bytes = 5_000_000;
    assert_eq!(kept(&items, &policy, now).len(), 10);
}

#[test]
fn a_backup_that_an_undo_needs_stays() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..4)
        .map(|n| item(n + 1, start + TimeDelta::hours(n as i64)))
        .collect();
    items[1].undo = Some(items[1].time);
    let policy = Policy {
        guard_bytes: 0,
        ..daily(1)
    };
    assert_eq!(kept(&items, &policy, items[3].time), [2, 4]);
}

#[test]
fn nothing_expires_while_the_clock_is_wrong() {
    let start = at("2026-03-01T08:00:00Z");
    let mut items: Vec<Item> = (0..9)
        .map(|n| item(n + 1, start + TimeDelta::hours(n as i64)))
        .collect();
    let newest = items[8].time;
    assert_eq!(kept(&items, &daily(1), newest), [9]);
    // The clock runs behind: the last snapshot is from the future.
    let decisions = decide(&items, &daily(1), newest - TimeDelta::days(365), &utc).unwrap();
    assert!(matches!(decisions.clock, Some(ClockTrouble::Future { .. })));
    assert!(decisions.all.iter().all(|d| d.keep));
    assert_eq!(decisions.all[0].reasons, [Reason::Clock]);
    // One snapshot of a year ahead, now right again.
    items.push(item(10, newest + TimeDelta::days(365)));
    assert_eq!(kept(&items, &daily(1), newest).len(), 10);
    // The clock jumped ahead: guards of an hour ago look a year old. After a holiday they would
    // too, but only until a day later.
    let mut items: Vec<Item> = (0..9)
        .map(|n| guard(n + 1, start + TimeDelta::hours(n as i64)))
        .collect();
    let jumped = newest + TimeDelta::days(365);
    items.push(item(10, jumped));
    let decisions = decide(&items, &daily(1), jumped + TimeDelta::hours(1), &utc).unwrap();
    assert!(matches!(decisions.clock, Some(ClockTrouble::Jump { .. })));
    assert!(decisions.all.iter().all(|d| d.keep));
    assert_eq!(kept(&items, &daily(1), jumped + TimeDelta::hours(25)), [10]);
}

#[test]
fn what_was_taken_with_a_slow_clock_is_not_older_than_what_came_before() {
    let start = at("2026-03-01T08:00:00Z");
    // The clock was a year behind for one guard.
    let items = [
        item(1, start),
        guard(2, start - TimeDelta::days(365)),
        item(3, start + TimeDelta::hours(1)),
    ];
    assert_eq!(kept(&items, &daily(1), items[2].time), [2, 3]);
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let items = [item(1, at("2026-03-01T08:00:00Z"))];
    let refused = decide(&items, &Policy::nothing(), items[0].time, &utc).unwrap_err();
    assert!(refused.to_string().contains("no backup"), "{refused}");
    let zero = Policy {
        within: Some(TimeDelta::zero()),
        ..Policy::nothing()
    };
    assert!(zero.check().is_err());
    Policy::default().check().unwrap();
}

/// What `docs/operations.md` says, snapshot by snapshot, without any cleverness.
fn model_keeps(items: &[Item], policy: &Policy, one: &Item) -> bool {
    let newest = items.iter().map(|i| i.time).max().unwrap();
    let after = |a: &Item, b: &Item| a.seq > b.seq;
    let is_newest = !items.iter().any(|other| after(other, one));
    let tagged = one.tags.iter().any(|t| policy.tags.contains(t));
    let within = policy.within.is_some_and(|w| newest - one.time < w);
    let just_taken = newest - one.time < TimeDelta::minutes(10);
    if just_taken || is_newest || one.pinned || tagged || within {
        return true;
    }
    let young = |time: DateTime<Utc>| newest - time < policy.guard_within;
    let newest_undo = items.iter().filter_map(|i| i.undo).max();
    let is_last = one.undo.is_some() && one.undo == newest_undo;
    let same_undo = |i: &&Item| i.undo == one.undo;
    let youngest = items.iter().filter(same_undo).all(|i| i.seq <= one.seq);
    if is_last && youngest && one.undo.is_some_and(young) {
        return true;
    }
    if one.guard {
        let used = |i: &Item| match i.undo.filter(|u| young(*u)) {
            Some(undo) => (undo.max(i.time), i.seq),
            None => (i.time, i.seq),
        };
        let builds_on = |i: &Item| i.mirrored && newest - i.time < policy.guard_within * 4;
        let mut guards: Vec<&Item> = items.iter().filter(|i| i.guard).collect();
        guards.sort_by_key(|i| std::cmp::Reverse(used(i)));
        let mut taken = 0;
        for (place, guard) in guards.into_iter().enumerate() {
            let in_time = young(used(guard).0) || builds_on(guard);
            let fits = in_time && taken + guard.bytes <= policy.guard_bytes;
            if fits {
                taken += guard.bytes;
            }
            if guard.seq == one.seq {
                return fits || in_time && place == 0;
            }
        }
    }
    if one.undo.is_some_and(young) {
        return true;
    }
    let key = |period: Period, time: DateTime<Utc>| -> (i32, u32, u32) {
        let t = berlin(time);
        match period {
            Period::Hour => (t.year(), t.ordinal(), t.hour()),
            Period::Day => (t.year(), t.ordinal(), 0),
            Period::Week => (t.iso_week().year(), t.iso_week().week(), 0),
            Period::Month => (t.year(), t.month(), 0),
            Period::Year => (t.year(), 0, 0),
        }
    };
    let counts = [
        (Period::Hour, policy.hourly),
        (Period::Day, policy.daily),
        (Period::Week, policy.weekly),
        (Period::Month, policy.monthly),
        (Period::Year, policy.yearly),
    ];
    one.roots.iter().any(|root| {
        [true, false].into_iter().any(|complete_only| {
            let peers: Vec<&Item> = items
                .iter()
                .filter(|i| !i.guard && i.roots.contains(root) && !(complete_only && i.partial))
                .collect();
            if !peers.iter().any(|p| p.seq == one.seq) {
                return false;
            }
            let later = peers.iter().filter(|p| after(p, one)).count();
            let last_full = one.full && !peers.iter().any(|p| p.full && after(p, one));
            if later == 0 || last_full || later < policy.last as usize {
                return true;
            }
            counts.iter().any(|(period, count)| {
                let own = key(*period, one.time);
                let later: BTreeSet<_> = peers
                    .iter()
                    .map(|p| key(*period, p.time))
                    .filter(|k| *k > own)
                    .collect();
                let weight = |p: &Item| {
                    let full = p.full && !matches!(period, Period::Hour | Period::Day);
                    (!p.partial, full, p.seq)
                };
                let best = peers
                    .iter()
                    .filter(|p| key(*period, p.time) == own)
                    .map(|p| weight(p))
                    .max();
                later.len() < *count as usize && best == Some(weight(one))
            })
        })
    })
}

/// Snapshots minutes to weeks apart: regular enough that the clock is never in doubt.
fn histories() -> impl Strategy<Value = Vec<Item>> {
    let gap = prop_oneof![1i64..180, 60i64..3000, 1000i64..40_000];
    let bits = any::<(bool, bool, bool, u8, bool)>();
    let one = (gap, bits, 0u64..3000, proptest::option::of(0i64..20_000));
    proptest::collection::vec(one, 1..60).prop_map(|list| {
        let mut time = at("2025-11-20T23:10:00Z");
        let mut items = Vec::new();
        for (seq, (gap, (full, partial, guard, mix, pinned), bytes, undo)) in (1..).zip(list) {
            time += TimeDelta::minutes(gap);
            let roots: &[&str] = match mix % 4 {
                0 => &["a"],
                1 => &["b"],
                _ => &["a", "b"],
            };
            items.push(Item {
                full,
                partial: partial && mix % 3 == 0,
                guard,
                roots: roots.iter().map(|r| (*r).to_owned()).collect(),
                tags: if mix > 240 {
                    vec!["keep".to_owned()]
                } else {
                    Vec::new()
                },
                pinned: pinned && mix < 10,
                bytes,
                undo: undo
                    .filter(|_| mix % 5 == 0)
                    .map(|u| time + TimeDelta::minutes(u)),
                ..item(seq, time)
            });
        }
        items
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let counts = (0u32..3, 0u32..5, 0u32..9, 0u32..6, 0u32..5, 0u32..3);
    let within = proptest::option::of(1i64..20_000);
    (counts, within, 1i64..14, 0u64..20_000, any::<bool>()).prop_map(
        |((last, hourly, daily, weekly, monthly, yearly), within, days, bytes, tags)| Policy {
            last: if hourly + daily + weekly + monthly + yearly == 0 {
                1
            } else {
                last
            },
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(TimeDelta::minutes),
            tags: if tags {
                vec!["keep".to_owned()]
            } else {
                Vec::new()
            },
            guard_within: TimeDelta::days(days),
            guard_bytes: bytes,
            max_bytes: Some(0),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_those_of_the_model(items in histories(), policy in policies()) {
        let now = items.last().unwrap().time + TimeDelta::days(2);
        let decisions = decide(&items, &policy, now, &berlin).unwrap();
        prop_assert_eq!(decisions.clock, None);
        for (item, decision) in items.iter().zip(&decisions.all) {
            let expected = model_keeps(&items, &policy, item);
            prop_assert_eq!(decision.keep, expected, "{:?}\n{:?}", item, decision);
            prop_assert!(!decision.reasons.is_empty());
        }
    }

    #[test]
    fn what_went_once_changes_nothing_for_the_rest(items in histories(), policy in policies()) {
        let now = items.last().unwrap().time + TimeDelta::days(2);
        let first = decide(&items, &policy, now, &berlin).unwrap();
        let left: Vec<Item> = items
            .iter()
            .zip(&first.all)
            .filter(|(_, d)| d.keep)
            .map(|(i, _)| i.clone())
            .collect();
        // Without the guards that the byte limit removed, the rest fits: all of it stays.
        let second = decide(&left, &policy, now, &berlin).unwrap();
        let gone: Vec<_> = second.all.iter().filter(|d| !d.keep).collect();
        prop_assert!(gone.is_empty(), "{:?}", gone);
    }
}

#[test]
fn without_a_number_the_budget_follows_the_disk_and_the_first_backup() {
    const GB: u64 = 1_000_000_000;
    let cases = [
        // A large disk: a quarter of it.
        ((GB, 399 * GB, GB), 100 * GB),
        // A small disk: a first backup that is large for it still gets a history.
        ((2 * GB, 10 * GB, 2 * GB), 6 * GB),
        // A tiny disk keeps a tenth free, whatever the backup takes.
        ((4 * GB, GB, 4 * GB), 4_500_000_000),
        ((0, 100 * GB, 0), 25 * GB),
        ((0, GB, 0), 500_000_000),
        ((0, 0, 0), 0),
    ];
    for ((used, free, full), max) in cases {
        assert_eq!(
            usual_max_bytes(used, free, full),
            max,
            "{used} {free} {full}"
        );
    }
    assert!(usual_max_bytes(u64::MAX, u64::MAX, u64::MAX) > u64::MAX / 2);
}
