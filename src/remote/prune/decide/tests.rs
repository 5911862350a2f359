use chrono::TimeDelta;

use super::*;
use crate::base::id::Id;

fn day(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + days) + TimeDelta::hours(12)
}

fn zone(time: DateTime<Utc>) -> NaiveDateTime {
    time.naive_utc()
}

/// A backup that was taken and that came on these days.
fn found(number: u64, taken: DateTime<Utc>, arrived: u64, at: DateTime<Utc>) -> Found {
    let id = Id::from_u128(u128::from(number));
    Found {
        seq: number,
        id,
        about: Some(About {
            seq: number,
            id,
            time: taken,
            kind: SnapshotKind::Full,
            trigger: Trigger::Backup,
            partial: false,
            label: None,
            tags: Vec::new(),
            roots: vec!["tree".to_owned()],
            bytes: 1,
        }),
        arrived,
        at,
        pinned: false,
        undo: None,
    }
}

fn policy() -> Policy {
    Policy {
        daily: 7,
        weekly: 4,
        monthly: 12,
        ..Policy::nothing()
    }
}

fn kept(found: &[Found], policy: &Policy, now: DateTime<Utc>) -> Vec<SnapshotId> {
    let mut found = found.to_vec();
    let decided = decide(&mut found, Some(policy), now, &zone).unwrap();
    assert_eq!(decided.clock, None);
    let keeps = decided.all.into_iter().filter(|one| one.keep);
    keeps.map(|one| one.id).collect()
}

/// A history that is pushed for the first time keeps its days, weeks and months.
#[test]
fn a_history_that_comes_at_once_is_thinned_by_its_own_times() {
    let all: Vec<Found> = (0..400_u64)
        .map(|n| found(n, day(i64::try_from(n).unwrap()), 1, day(400)))
        .collect();
    let kept = kept(&all, &policy(), day(400));
    assert!((15..=24).contains(&kept.len()), "{}", kept.len());
    assert!(kept.contains(&Id::from_u128(399)));
}

/// Whoever adds snapshots, however they are dated, takes at most the places that time has passed for.
#[test]
fn snapshots_that_are_dated_back_or_forward_push_no_good_ones_out() {
    let good: Vec<Found> = (0..100_u64)
        .map(|n| {
            let at = day(i64::try_from(n).unwrap());
            found(n, at, n + 1, at + TimeDelta::minutes(5))
        })
        .collect();
    let now = day(100);
    let before = kept(&good, &policy(), now);
    for dates in [-3000, -90, -30, -2, 0, 1, 400] {
        for spread in [0, 1, 7, 40] {
            let mut all = good.clone();
            for n in 0..60_u64 {
                let taken = day(100 + dates + i64::try_from(n).unwrap() * spread / 60);
                all.push(found(1000 + n, taken, 101 + n, now));
            }
            let after = kept(&all, &policy(), now);
            let lost: Vec<_> = before.iter().filter(|id| !after.contains(id)).collect();
            // One day came to an end, perhaps a week and a month with it.
            assert!(lost.len() <= 3, "{dates} {spread}: {lost:?}");
        }
    }
    // A floor keeps all that came within it, whatever came after.
    let floor = Policy {
        within: Some(TimeDelta::days(30)),
        last: 1,
        ..Policy::nothing()
    };
    let mut all = good.clone();
    all.extend((0..60).map(|n| found(1000 + n, day(50), 101 + n, now)));
    let after = kept(&all, &floor, now);
    assert!(good[71..].iter().all(|one| after.contains(&one.id)));
}

/// A destination that was away gets a week of backups at once: each day counts.
#[test]
fn what_waited_for_a_push_keeps_its_days() {
    let mut all: Vec<Found> = (0..20_u64)
        .map(|n| {
            let at = day(i64::try_from(n).unwrap());
            found(n, at, n + 1, at)
        })
        .collect();
    all.extend((20..27_u64).map(|n| found(n, day(i64::try_from(n).unwrap()), 99, day(27))));
    let kept = kept(&all, &policy(), day(27));
    for n in 20..27 {
        assert!(kept.contains(&Id::from_u128(n)), "{n}");
    }
}

#[test]
fn without_a_policy_everything_stays_and_so_does_what_is_unknown() {
    let mut all: Vec<Found> = (0..50).map(|n| found(n, day(0), n, day(0))).collect();
    let decided = decide(&mut all, None, day(900), &zone).unwrap();
    assert!(decided.all.iter().all(|one| one.keep));
    all[3].about = None;
    let id = all[3].id;
    let last = Policy {
        last: 1,
        ..Policy::nothing()
    };
    let kept = kept(&all, &last, day(900));
    assert!(kept.contains(&id) && kept.len() == 2, "{kept:?}");
}
