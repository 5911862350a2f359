//! When something is due. Pure: the past, the time and the zone are arguments.
//!
//! A *slot* is a time at which a job should run: daily or weekly by the local clock, or every few
//! hours from there on. A job is due if there is a slot after its last success that is not in the
//! future; one run makes up for any number of missed slots. Failed jobs are retried at growing
//! intervals. So whatever wakes bdr needs to know nothing: hourly, late, twice or after a week
//! asleep, the answer is the same.

use chrono::{
    DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta,
    TimeZone, Utc, Weekday,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Local time of the daily and weekly slots.
    pub at: NaiveTime,
    /// Hours from one backup to the next, counted from `at` each day; `None` for one a day.
    pub every: Option<u32>,
    /// The day of the weekly full backup; `None` for never.
    pub full: Option<Weekday>,
    /// The day of the weekly drill; `None` for never.
    pub drill: Option<Weekday>,
    /// Age of the last backup above which somebody is notified.
    pub max_age: TimeDelta,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            at: NaiveTime::from_hms_opt(2, 30, 0).unwrap_or_default(),
            every: None,
            full: Some(Weekday::Sun),
            drill: Some(Weekday::Sun),
            max_age: TimeDelta::hours(26),
        }
    }
}

/// A job that runs automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// A snapshot of every source.
    Backup,
    /// A backup that needs nothing older; it counts as a backup too.
    Full,
    Prune,
    /// Proof that the data can be restored.
    Drill,
    /// A check of the stored data; only on request.
    Verify,
}

impl Job {
    /// All, in the order in which they run.
    pub const ALL: [Self; 5] = [
        Self::Backup,
        Self::Full,
        Self::Prune,
        Self::Drill,
        Self::Verify,
    ];

    /// Returns the word for files and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Full => "full",
            Self::Prune => "prune",
            Self::Drill => "drill",
            Self::Verify => "verify",
        }
    }
}

/// What is known about a job's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// When the last successful run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<DateTime<Utc>>,
    /// When the last run began, whatever its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<DateTime<Utc>>,
    /// Number of failures since the last success.
    #[serde(default)]
    pub failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pasts {
    /// Of backups of either kind.
    pub backup: Past,
    pub full: Past,
    pub prune: Past,
    pub drill: Past,
    pub verify: Past,
}

impl Pasts {
    pub fn of(&self, job: Job) -> Past {
        match job {
            Job::Backup => self.backup,
            Job::Full => self.full,
            Job::Prune => self.prune,
            Job::Drill => self.drill,
            Job::Verify => self.verify,
        }
    }

    fn of_mut(&mut self, job: Job) -> &mut Past {
        match job {
            Job::Backup => &mut self.backup,
            Job::Full => &mut self.full,
            Job::Prune => &mut self.prune,
            Job::Drill => &mut self.drill,
            Job::Verify => &mut self.verify,
        }
    }

    /// Notes that a run begins: if nothing more is heard of it, it has failed.
    pub fn begin(&mut self, job: Job, at: DateTime<Utc>) {
        for job in covered(job) {
            let past = self.of_mut(*job);
            past.attempt = Some(at);
            past.failures = past.failures.saturating_add(1);
        }
    }

    /// Notes that the run that began at `at` succeeded.
    pub fn succeed(&mut self, job: Job, at: DateTime<Utc>) {
        for job in covered(job) {
            *self.of_mut(*job) = Past {
                success: Some(at),
                attempt: Some(at),
                failures: 0,
            };
        }
    }

    /// Notes that a run could not be attempted and so proves nothing: another one was active, or
    /// the destination is missing.
    pub fn skip(&mut self, job: Job) {
        for job in covered(job) {
            let past = self.of_mut(*job);
            past.failures = past.failures.saturating_sub(1);
        }
    }
}

/// A full backup counts as a backup too.
fn covered(job: Job) -> &'static [Job] {
    match job {
        Job::Backup => &[Job::Backup],
        Job::Full => &[Job::Backup, Job::Full],
        Job::Prune => &[Job::Prune],
        Job::Drill => &[Job::Drill],
        Job::Verify => &[Job::Verify],
    }
}

/// A success further in the future than this was noted by a wrong clock.
const SKEW: TimeDelta = TimeDelta::minutes(10);
/// Wait after the first failure; doubles with each.
const RETRY: TimeDelta = TimeDelta::minutes(5);
/// The longest wait.
const RETRY_MAX: TimeDelta = TimeDelta::hours(6);

impl Schedule {
    /// Returns the due jobs in the order in which to run them, with at most one of backup and full.
    pub fn due<Z: TimeZone>(&self, pasts: &Pasts, now: DateTime<Utc>, zone: &Z) -> Vec<Job> {
        let mut due = Vec::new();
        if self.is_due(Job::Full, pasts, now, zone) {
            due.push(Job::Full);
        } else if self.is_due(Job::Backup, pasts, now, zone) {
            due.push(Job::Backup);
        }
        // Remove nothing while nothing new arrives: only once the backup of the same slot exists or
        // is about to be made.
        let slot = self.slot_before(Job::Backup, now, zone);
        let backed_up = trusted(pasts.backup.success, now) >= slot;
        if (backed_up || !due.is_empty()) && self.is_due(Job::Prune, pasts, now, zone) {
            due.push(Job::Prune);
        }
        if self.is_due(Job::Drill, pasts, now, zone) {
            due.push(Job::Drill);
        }
        due
    }

    fn is_due<Z: TimeZone>(&self, job: Job, pasts: &Pasts, now: DateTime<Utc>, zone: &Z) -> bool {
        let Some(slot) = self.slot_before(job, now, zone) else {
            return false;
        };
        let past = pasts.of(job);
        let done = trusted(past.success, now).is_some_and(|success| success >= slot);
        !done && retry_at(&past, now).is_none_or(|at| at <= now)
    }

    /// Returns the last slot of a job that is not in the future.
    pub fn slot_before<Z: TimeZone>(
        &self,
        job: Job,
        now: DateTime<Utc>,
        zone: &Z,
    ) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(zone).date_naive();
        // A week, and a day more for a change of the clock at either end.
        (0..=8).find_map(|back| {
            let day = today.checked_sub_days(Days::new(back))?;
            let mut slots = self.slots_of(job, day, zone).into_iter().rev();
            slots.find(|slot| *slot <= now)
        })
    }

    /// Returns the next slot of a job.
    pub fn slot_after<Z: TimeZone>(
        &self,
        job: Job,
        now: DateTime<Utc>,
        zone: &Z,
    ) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(zone).date_naive();
        // Yesterday's slots last until the first one of today.
        let first = today.checked_sub_days(Days::new(1))?;
        (0..=9).find_map(|ahead| {
            let day = first.checked_add_days(Days::new(ahead))?;
            let mut slots = self.slots_of(job, day, zone).into_iter();
            slots.find(|slot| *slot > now)
        })
    }

    /// Returns the slots from that of a day until before that of the next, in order. The hours
    /// between are elapsed hours, so that a clock change leaves no gap.
    fn slots_of<Z: TimeZone>(&self, job: Job, day: NaiveDate, zone: &Z) -> Vec<DateTime<Utc>> {
        let Some(first) = self.slot_on(job, day, zone) else {
            return Vec::new();
        };
        let mut slots = vec![first];
        let next = day
            .checked_add_days(Days::new(1))
            .and_then(|day| self.slot_on(job, day, zone));
        let every = self.every.filter(|_| job == Job::Backup);
        if let (Some(hours), Some(next)) = (every, next) {
            let step = TimeDelta::hours(hours.max(1).into());
            let later = std::iter::successors(first.checked_add_signed(step), |slot| {
                slot.checked_add_signed(step)
            });
            slots.extend(later.take_while(|slot| *slot < next));
        }
        slots
    }

    fn slot_on<Z: TimeZone>(&self, job: Job, day: NaiveDate, zone: &Z) -> Option<DateTime<Utc>> {
        let weekday = match job {
            Job::Backup | Job::Prune => None,
            Job::Full => Some(self.full?),
            Job::Drill => Some(self.drill?),
            Job::Verify => return None,
        };
        if weekday.is_some_and(|weekday| weekday != day.weekday()) {
            return None;
        }
        // If the clock skips the time, the first minute after the gap. If it occurs twice, the
        // first.
        (0..=180).find_map(|minutes| {
            let at = day
                .and_time(self.at)
                .checked_add_signed(TimeDelta::minutes(minutes))?;
            moments_of(at, zone).into_iter().next()
        })
    }

    /// Returns when to expect the next run of a job: the next slot, or the next attempt if one is
    /// owed. Never before `now`.
    pub fn next<Z: TimeZone>(
        &self,
        job: Job,
        pasts: &Pasts,
        now: DateTime<Utc>,
        zone: &Z,
    ) -> Option<DateTime<Utc>> {
        let past = pasts.of(job);
        let slot = self.slot_before(job, now, zone);
        let owed = slot.is_some_and(|slot| trusted(past.success, now).is_none_or(|s| s < slot));
        if owed {
            return Some(retry_at(&past, now).map_or(now, |at| at.max(now)));
        }
        self.slot_after(job, now, zone)
    }

    /// Returns true if the last backup is older than allowed. `since` is when backups should have
    /// started.
    pub fn is_overdue(
        &self,
        last: Option<DateTime<Utc>>,
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> bool {
        let from = trusted(last, now).or(since);
        from.is_none_or(|from| now - from > self.max_age)
    }
}

/// Returns a time of success if it can be true.
pub fn trusted(success: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    success.filter(|success| *success <= now + SKEW)
}

/// Returns the times at which the local clock shows `local`, the earlier first: none if the clock
/// skips it, two if it is set back over it.
///
/// Computed with the offsets of the days around and verified by converting back: libraries and
/// systems disagree on which of two times comes first, and on the minute in which one ends.
pub fn moments_of<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> Vec<DateTime<Utc>> {
    let offset = |utc: NaiveDateTime| zone.offset_from_utc_datetime(&utc).fix();
    let around = [-26, 26].map(TimeDelta::hours);
    let offsets = around
        .into_iter()
        .filter_map(|hours| Some(offset(local.checked_add_signed(hours)?)));
    let mut found: Vec<DateTime<Utc>> = offsets
        .filter_map(|one| {
            let utc = local.checked_sub_offset(one)?;
            (offset(utc) == one).then(|| utc.and_utc())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Returns when a failed job may be retried.
fn retry_at(past: &Past, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let attempt = past
        .attempt
        .filter(|attempt| past.failures > 0 && *attempt <= now + SKEW)?;
    // Seven doublings exceed the maximum.
    let wait = RETRY * (1 << past.failures.min(7));
    attempt.checked_add_signed(wait.min(RETRY_MAX))
}

/// Parses a time of day like `02:30`.
///
/// # Errors
/// Says that it is none.
pub fn parse_clock(text: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(text.trim(), "%H:%M").map_err(|_| {
        format!(
            "`{}` is not a time of day: write it like 02:30",
            crate::base::path::show(text.as_ref())
        )
    })
}

/// Parses a number of hours like `6h`; `daily` is `None`.
///
/// # Errors
/// Says that it is no such number.
pub fn parse_every(text: &str) -> Result<Option<u32>, String> {
    let word = text.trim().to_ascii_lowercase();
    if word == "daily" {
        return Ok(None);
    }
    let hours = word.strip_suffix('h').and_then(|hours| hours.parse().ok());
    hours
        .filter(|hours| (1..=12).contains(hours))
        .map(Some)
        .ok_or_else(|| {
            format!(
                "`{}` is not a number of hours from 1h to 12h: write it like 6h, or daily",
                crate::base::path::show(text.as_ref())
            )
        })
}

/// Inverse of [`parse_every`].
pub fn every_word(every: Option<u32>) -> String {
    every.map_or_else(|| "daily".to_owned(), |hours| format!("{hours}h"))
}

const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Mon, "monday"),
    (Weekday::Tue, "tuesday"),
    (Weekday::Wed, "wednesday"),
    (Weekday::Thu, "thursday"),
    (Weekday::Fri, "friday"),
    (Weekday::Sat, "saturday"),
    (Weekday::Sun, "sunday"),
];

/// Parses a day of the week like `sunday` or `sun`; `never` is `None`.
///
/// # Errors
/// Says that it is none.
pub fn parse_day(text: &str) -> Result<Option<Weekday>, String> {
    let word = text.trim().to_ascii_lowercase();
    if word == "never" {
        return Ok(None);
    }
    let fits = |name: &str| name == word || word.len() == 3 && name.starts_with(&word);
    let found = DAYS.iter().find(|(_, name)| fits(name));
    found.map(|(day, _)| Some(*day)).ok_or_else(|| {
        format!(
            "`{}` is not a day: write it like sunday, or never",
            crate::base::path::show(text.as_ref())
        )
    })
}

/// Inverse of [`parse_day`].
pub fn day_word(day: Option<Weekday>) -> &'static str {
    day.and_then(|day| DAYS.iter().find(|(other, _)| *other == day))
        .map_or("never", |(_, name)| name)
}

#[cfg(test)]
mod tests;
