//! Decides when somebody is notified: on a change for the worse or the better, and once a day while
//! current files could be lost. Pure.
//!
//! No message contains a path, a file name or a value, because it leaves the machine.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};

use crate::care::runs::Said;
use crate::care::status::{Level, Trouble};

/// How long until a critical state is reported again.
const AGAIN: TimeDelta = TimeDelta::hours(24);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// How bad it is; [`Level::Good`] means that all is well again.
    pub level: Level,
    /// What is wrong, worst first.
    pub troubles: Vec<Trouble>,
    /// Files of which backups now leave out more, because of what is in them.
    pub newly_excluded: u64,
}

/// Returns a text that represents a state: the words of the troubles that are worth a message.
pub fn state(troubles: &[Trouble]) -> String {
    let mut words: Vec<&str> = worth(troubles).map(Trouble::word).collect();
    words.sort_unstable();
    let mut text = String::new();
    for word in words {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{word}");
    }
    text
}

/// Drops what a person chose, or sees at the next call anyway.
fn worth(troubles: &[Trouble]) -> impl Iterator<Item = &Trouble> {
    troubles.iter().filter(|trouble| {
        !matches!(
            trouble,
            Trouble::NoSchedule | Trouble::NotLingering | Trouble::NoSource | Trouble::NoLifeboat
        )
    })
}

/// Returns the message to send, given the last one, and how many files were left out since.
pub fn decide(
    said: &Said,
    troubles: &[Trouble],
    newly_excluded: u64,
    now: DateTime<Utc>,
) -> Option<Alert> {
    let mut worth: Vec<Trouble> = worth(troubles).cloned().collect();
    worth.sort_by_key(|trouble| std::cmp::Reverse(trouble.level()));
    let level = worth.first().map_or(Level::Good, Trouble::level);
    let changed = state(troubles) != said.trouble;
    // A clock that was ahead at the last message must not keep us silent for long.
    let long_ago = said
        .at
        .is_none_or(|at| now - at >= AGAIN || at > now + AGAIN);
    (changed || newly_excluded > 0 || level == Level::Critical && long_ago).then_some(Alert {
        // This trouble does not go away by itself: somebody should check.
        level: match newly_excluded {
            0 => level,
            _ => level.max(Level::Warning),
        },
        troubles: worth,
        newly_excluded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Returns the levels of the messages for troubles at certain times.
    fn told(states: &[(&str, &[Trouble])]) -> Vec<(String, Level)> {
        let mut said = Said::default();
        let mut told = Vec::new();
        for (now, troubles) in states {
            if let Some(alert) = decide(&said, troubles, 0, at(now)) {
                told.push(((*now).to_owned(), alert.level));
                said = Said {
                    trouble: state(troubles),
                    at: Some(at(now)),
                };
            }
        }
        told
    }

    #[test]
    fn a_change_is_told_once_and_a_critical_state_daily() {
        let failing = [Trouble::BackupFailing { failures: 1 }];
        let worse = [Trouble::BackupFailing { failures: 2 }];
        let last = at("2026-11-01T00:00:00Z");
        let overdue = [
            Trouble::BackupFailing { failures: 3 },
            Trouble::Overdue { last },
        ];
        let states: [(&str, &[Trouble]); 9] = [
            ("2026-11-01T00:00:00Z", &[]),
            ("2026-11-02T00:00:00Z", &failing),
            ("2026-11-02T06:00:00Z", &worse),
            ("2026-11-04T00:00:00Z", &worse),
            ("2026-11-05T00:00:00Z", &overdue),
            ("2026-11-05T23:00:00Z", &overdue),
            ("2026-11-06T00:00:00Z", &overdue),
            ("2026-11-06T01:00:00Z", &[]),
            ("2026-11-09T00:00:00Z", &[]),
        ];
        let expected = [
            ("2026-11-02T00:00:00Z", Level::Warning),
            ("2026-11-05T00:00:00Z", Level::Critical),
            ("2026-11-06T00:00:00Z", Level::Critical),
            ("2026-11-06T01:00:00Z", Level::Good),
        ];
        assert_eq!(told(&states), expected.map(|(t, l)| (t.to_owned(), l)));
    }

    #[test]
    fn what_is_left_out_is_told_though_all_is_well() {
        let now = at("2026-11-01T00:00:00Z");
        let alert = decide(&Said::default(), &[], 2, now).unwrap();
        assert_eq!((alert.level, alert.newly_excluded), (Level::Warning, 2));
        let last = at("2026-10-01T00:00:00Z");
        let alert = decide(&Said::default(), &[Trouble::Overdue { last }], 2, now).unwrap();
        assert_eq!(alert.level, Level::Critical);
    }

    #[test]
    fn what_a_person_chose_is_not_sent_after_him() {
        let chosen = [Trouble::NoSchedule, Trouble::NoSource];
        assert_eq!(
            decide(&Said::default(), &chosen, 0, at("2026-11-01T00:00:00Z")),
            None
        );
    }
}
