//! When something is due. Pure: the past, the moment and the zone come in.
//!
//! A *slot* is a moment at which a job should run: daily or weekly on the clock on the wall, or each few hours from there on. A job is due if a slot lies after its last
//! success and is not in the future; however many were missed, one run makes up for them. What failed is tried again at growing
//! distances. So whoever wakes bdr up needs to know nothing: hourly, late, twice or after a week asleep, the answer is the same.

use chrono::{
    DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta,
    TimeZone, Utc, Weekday,
};
use serde::{Deserialize, Serialize};

/// When backups run by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Local time of the daily slot, and of the weekly ones.
    pub at: NaiveTime,
    /// Hours from one backup to the next, counted from `at` each day; `None`: one a day.
    pub every: Option<u32>,
    /// The day of the weekly full; `None`: never.
    pub full: Option<Weekday>,
    /// The day of the weekly drill; `None`: never.
    pub drill: Option<Weekday>,
    /// Age of the last backup from which on somebody is told.
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

/// What runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// A snapshot of every source.
    Backup,
    /// One that needs nothing older; it is a backup as well.
    Full,
    /// Retention.
    Prune,
    /// The proof that it can be restored.
    Drill,
    /// A look at what is stored; only by hand.
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

    /// Returns its word in files and JSON.
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

/// What is known of a job's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// When the last run began that did what it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<DateTime<Utc>>,
    /// When the last run began, whatever came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<DateTime<Utc>>,
    /// How many failed since the last success.
    #[serde(default)]
    pub failures: u32,
}

/// The past of all jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pasts {
    /// Of backups of either kind.
    pub backup: Past,
    /// Of fulls.
    pub full: Past,
    /// Of prunes.
    pub prune: Past,
    /// Of drills.
    pub drill: Past,
    /// Of looks at what is stored.
    pub verify: Past,
}

impl Pasts {
    /// Returns the past of a job.
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

    /// Notes that a run begins: one that never comes back has failed.
    pub fn begin(&mut self, job: Job, at: DateTime<Utc>) {
        for job in covered(job) {
            let past = self.of_mut(*job);
            past.attempt = Some(at);
            past.failures = past.failures.saturating_add(1);
        }
    }

    /// Notes that the run that began at `at` did what it should.
    pub fn succeed(&mut self, job: Job, at: DateTime<Utc>) {
        for job in covered(job) {
            *self.of_mut(*job) = Past {
                success: Some(at),
                attempt: Some(at),
                failures: 0,
            };
        }
    }

    /// Notes that the run could not be tried, so that it says nothing: another was under way, the destination is not there.
    pub fn skip(&mut self, job: Job) {
        for job in covered(job) {
            let past = self.of_mut(*job);
            past.failures = past.failures.saturating_sub(1);
        }
    }
}

/// A full is a backup as well.
fn covered(job: Job) -> &'static [Job] {
    match job {
        Job::Backup => &[Job::Backup],
        Job::Full => &[Job::Backup, Job::Full],
        Job::Prune => &[Job::Prune],
        Job::Drill => &[Job::Drill],
        Job::Verify => &[Job::Verify],
    }
}

/// A success that lies further in the future than this was noted by a clock that was wrong.
const SKEW: TimeDelta = TimeDelta::minutes(10);
/// After the first failure; doubles with each.
const RETRY: TimeDelta = TimeDelta::minutes(5);
/// At most.
const RETRY_MAX: TimeDelta = TimeDelta::hours(6);

impl Schedule {
    /// Returns the jobs that are due, in the order in which they are to run: at most one of backup and full.
    pub fn due<Z: TimeZone>(&self, pasts: &Pasts, now: DateTime<Utc>, zone: &Z) -> Vec<Job> {
        let mut due = Vec::new();
        if self.is_due(Job::Full, pasts, now, zone) {
            due.push(Job::Full);
        } else if self.is_due(Job::Backup, pasts, now, zone) {
            due.push(Job::Backup);
        }
        // Nothing is taken away while nothing new comes: not before the backup of the same slot is there, or about to be made.
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
        // A night longer than usual at either end of the week.
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
        // Yesterday has slots until the first one of today.
        let first = today.checked_sub_days(Days::new(1))?;
        (0..=9).find_map(|ahead| {
            let day = first.checked_add_days(Days::new(ahead))?;
            let mut slots = self.slots_of(job, day, zone).into_iter();
            slots.find(|slot| *slot > now)
        })
    }

    /// Returns the slots that begin with that of a day and end before that of the next, in order. Hours between are hours that
    /// pass, so that a clock that is changed makes no gap.
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
        // An hour that the clock skips: the first minute after it. One that comes twice: the first time.
        (0..=180).find_map(|minutes| {
            let at = day
                .and_time(self.at)
                .checked_add_signed(TimeDelta::minutes(minutes))?;
            moments_of(at, zone).into_iter().next()
        })
    }

    /// Returns when the next run of a job is to be expected: the next slot, or the next attempt where one is owed. Never before `now`.
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

    /// Returns true if the last backup is older than it may be. `since` is from when on there were to be backups.
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

/// A time of success that can be true.
pub fn trusted(success: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    success.filter(|success| *success <= now + SKEW)
}

/// Returns the moments at which the clock on the wall shows `local`, the earlier first: none where it is set forward over it, two where it is set back.
///
/// By the offsets of the days around, and back again: libraries and systems do not agree on which of two comes first, nor on the minute in which one ends.
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

/// Returns when what failed may be tried again.
fn retry_at(past: &Past, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let attempt = past
        .attempt
        .filter(|attempt| past.failures > 0 && *attempt <= now + SKEW)?;
    // Seven doublings are more than the maximum.
    let wait = RETRY * (1 << past.failures.min(7));
    attempt.checked_add_signed(wait.min(RETRY_MAX))
}

/// Returns the time of day that `02:30` means.
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

/// Returns the hours that `6h` means; `daily` is none.
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

/// Returns what [`parse_every`] reads.
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

/// Returns the day of the week that `sunday` or `sun` means; `never` is none.
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

/// Returns what [`parse_day`] reads.
pub fn day_word(day: Option<Weekday>) -> &'static str {
    day.and_then(|day| DAYS.iter().find(|(other, _)| *other == day))
        .map_or("never", |(_, name)| name)
}

#[cfg(test)]
mod tests;
