//! Listings that show the state of some changes ago, requests that arrive twice, and answers that are
//! lost, in any order: what ends well is true, what ends with an error loses nothing, and the next
//! calls put everything right.

use std::collections::BTreeSet;

use bdr::base::error::Error;
use bdr::base::id::SnapshotId;
use bdr::disk::store::{Fate, Manners, Trouble};
use bdr::model::retention::Policy;
use bdr::repo::snapshot::Trigger;
use chrono::TimeDelta;

use crate::support::noise;
use crate::thinned::{History, How, day, last, prune};

/// Errors that a request may end with; none of them says that something is damaged.
fn is_clear(error: &Error) -> bool {
    match error {
        Error::Remote { hint, .. } => hint.is_some(),
        Error::Invalid { hint, .. } => hint.is_some(),
        _ => false,
    }
}

impl History {
    /// One request of the next ones has a fate, and listings are behind, as chance has it.
    fn disturb(&mut self) -> String {
        let lag = [0, 0, 1, 2, 3, 5, 8, 20][self.below(8)];
        let number = self.below(9);
        let fate = match self.below(5) {
            0 => Some(Fate::Twice),
            1 => Some(Fate::Unanswered(Trouble::Unreachable)),
            2 => Some(Fate::Lost(Trouble::Busy)),
            _ => None,
        };
        self.far.trial.reset();
        if let Some(fate) = fate {
            self.far.trial.at(number, fate);
        }
        self.far.trial.lag(lag);
        format!("lag {lag} {number} {fate:?}")
    }

    fn calm(&self) {
        self.far.trial.reset();
        self.far.trial.lag(0);
    }

    fn try_push(&self, what: &str) -> bool {
        let at = day(self.day) + TimeDelta::minutes(30);
        let pushed = self.far.push_at(&self.place, &self.repo, false, at);
        if let Err(error) = &pushed {
            assert!(is_clear(error), "{what}: {error:?}");
        }
        pushed.is_ok()
    }

    fn try_prune(&self, policy: Policy, what: &str) -> Option<BTreeSet<SnapshotId>> {
        let how = How {
            policy: Some(policy),
            at: day(self.day) + TimeDelta::hours(1),
            key: false,
        };
        match prune(&self.far, &self.place, &self.repo, &how) {
            Ok((plan, _)) if plan.blocked.is_empty() => {
                let going = plan.going().map(|one| one.decision.id);
                Some(going.collect())
            }
            // Nothing was removed, and it says what helps.
            Ok((plan, report)) => {
                let helps = |why: &String| why.contains("bdr ");
                assert!(plan.blocked.iter().all(helps), "{what}: {plan:?}");
                assert_eq!((report.snapshots, report.removed.0), (0, 0), "{what}");
                None
            }
            Err(error) => {
                assert!(is_clear(&error), "{what}: {error:?}");
                None
            }
        }
    }
}

#[test]
fn whatever_listings_show_and_requests_do_nothing_is_lost() {
    let count = std::env::var("BDR_TEST_HISTORIES").map_or(12, |n| n.parse().unwrap());
    for seed in 0..count {
        let manners = [
            Manners::Strict,
            Manners::NoConditions,
            Manners::IgnoresConditions,
        ];
        let manners = manners[usize::try_from(seed % 3).unwrap()];
        let mut history = History::new(manners, seed % 2 == 0, 5000 + seed);
        history.backup(Trigger::Backup, true);
        history.push();
        history.calm();
        // What was pushed, and that no prune that succeeded, or may have, took away.
        let mut there: BTreeSet<SnapshotId> = history.there();
        let mut said = vec![format!("{manners:?}")];
        for _ in 0..25 {
            let choice = history.below(10);
            said.push(choice.to_string());
            match choice {
                0..=3 => {
                    let name = format!("f{}", history.below(5));
                    let size = 1500 * (1 + history.below(4));
                    history.place.write(&name, &noise(size));
                    let full = history.below(5) == 0;
                    history.backup(Trigger::Backup, full);
                }
                4..=6 => {
                    let how = history.disturb();
                    said.push(how);
                    let what = format!("seed {seed}: {said:?}");
                    let is_done = history.try_push(&what);
                    history.calm();
                    if is_done {
                        let now = history.there();
                        assert!(there.is_subset(&now), "{what}");
                        let newest = history.pictures.keys().max().unwrap();
                        assert!(now.contains(newest), "{what}: pushed, and not there");
                        there = now;
                    }
                    history.check(&what);
                }
                _ => {
                    let how = history.disturb();
                    said.push(how);
                    let what = format!("seed {seed}: {said:?}");
                    if history.below(2) == 0 {
                        history.day += 2;
                    }
                    let keep = 1 + u32::try_from(history.below(3)).unwrap();
                    let before = there.clone();
                    let going = history.try_prune(last(keep), &what);
                    history.calm();
                    there = history.there();
                    match going {
                        Some(going) => {
                            let stays: BTreeSet<_> = before.difference(&going).copied().collect();
                            assert!(stays.is_subset(&there), "{what}");
                        }
                        None => assert!(there.len() >= before.len().min(1), "{what}"),
                    }
                    history.check(&what);
                }
            }
        }
        let what = format!("seed {seed}: {said:?}");
        let is_done = (0..3).any(|_| history.try_push(&what));
        assert!(is_done, "{what}: no push succeeds any more");
        history.check(&what);
        assert!(
            history.try_prune(last(1), &what).is_some(),
            "{what}: no prune succeeds any more"
        );
        history.day += 2;
        history.prune(last(1));
        history.check(&what);
        history.check_nothing_spare(&what);
    }
}
