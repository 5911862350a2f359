//! Which snapshots stay. Pure: from snapshots, a policy and a time to a decision about each, with
//! its reasons.
//!
//! *Backups* (typed, scheduled, the first one) fill slots: the newest of a day, of an ISO week, of
//! a month. Slots are counted per root, and only those with a backup: a machine that was off for a
//! year keeps as many as one that was not. *Guard snapshots* (guard, undo, redo, restore) stay for
//! as long as what they protect should be undoable, within a number of bytes.
//!
//! Ages are measured from the newest snapshot, not from the clock: if nothing new is stored,
//! nothing old expires.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::SnapshotId;

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Number of newest backups.
    pub last: u32,
    /// Number of hours with a backup.
    pub hourly: u32,
    /// Number of days with a backup.
    pub daily: u32,
    /// Number of ISO weeks with a backup.
    pub weekly: u32,
    /// Number of months with a backup.
    pub monthly: u32,
    /// Number of years with a backup.
    pub yearly: u32,
    /// Everything at most this much older than the newest snapshot.
    pub within: Option<TimeDelta>,
    /// Everything with one of these tags.
    pub tags: Vec<String>,
    /// How long guarded commands can be undone.
    pub guard_within: TimeDelta,
    /// Bytes that guard snapshots may have stored, newest first; what does not fit is removed.
    pub guard_bytes: u64,
    /// Bytes that everything may take; 0 for no limit, `None` for as many as [`usual_max_bytes`]
    /// returns.
    pub max_bytes: Option<u64>,
}

/// Returns how many bytes a repository may take by default: a quarter of what the disk has for it,
/// and room for the history of a large first backup, but never the last tenth of the disk. `used`
/// is what the repository takes now, `free` what the disk has left, `full` what the last full
/// backup stored.
pub fn usual_max_bytes(used: u64, free: u64, full: u64) -> u64 {
    const LEAST: u64 = 500_000_000;
    let room = used.saturating_add(free);
    (room / 4)
        .max(full.saturating_mul(3))
        .max(LEAST)
        .min(room / 10 * 9)
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            daily: 7,
            weekly: 4,
            monthly: 12,
            ..Self::nothing()
        }
    }
}

impl Policy {
    /// Returns a policy that keeps no backup, and guard snapshots for 7 days and 1 GB: a starting
    /// point.
    pub fn nothing() -> Self {
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within: None,
            tags: Vec::new(),
            guard_within: TimeDelta::days(7),
            guard_bytes: 1_000_000_000,
            max_bytes: None,
        }
    }

    /// Makes sure that it keeps something.
    ///
    /// # Errors
    /// It would keep no backup at all.
    pub fn check(&self) -> Result<()> {
        let slots = Period::ALL.iter().any(|period| period.count(self) > 0);
        let within = self.within.is_some_and(|span| span > TimeDelta::zero());
        if self.last > 0 || slots || within {
            return Ok(());
        }
        Err(Error::invalid(
            "this policy would keep no backup",
            Some("keep at least one: bdr prune --keep-last 1 --dry-run"),
        ))
    }
}

/// A rule that keeps a number of backups. A new one is a field of [`Policy`] and a record in
/// [`COUNTS`]: configuration and command line use the list.
pub struct Count {
    pub key: &'static str,
    pub flag: &'static str,
    pub help: &'static str,
    pub about: &'static str,
    /// Returns a reference to the number.
    pub place: fn(&mut Policy) -> &mut u32,
    pub of: fn(&Policy) -> u32,
}

pub const COUNTS: [Count; 6] = [
    Count {
        key: "keep_last",
        flag: "keep-last",
        help: "Keep the last N backups",
        about: "newest backups",
        place: |policy| &mut policy.last,
        of: |policy| policy.last,
    },
    Count {
        key: "keep_hourly",
        flag: "keep-hourly",
        help: "Keep a backup for each of N hours",
        about: "hours with a backup",
        place: |policy| &mut policy.hourly,
        of: |policy| policy.hourly,
    },
    Count {
        key: "keep_daily",
        flag: "keep-daily",
        help: "Keep a backup for each of N days",
        about: "days with a backup",
        place: |policy| &mut policy.daily,
        of: |policy| policy.daily,
    },
    Count {
        key: "keep_weekly",
        flag: "keep-weekly",
        help: "Keep a backup for each of N weeks",
        about: "weeks with a backup",
        place: |policy| &mut policy.weekly,
        of: |policy| policy.weekly,
    },
    Count {
        key: "keep_monthly",
        flag: "keep-monthly",
        help: "Keep a backup for each of N months",
        about: "months with a backup",
        place: |policy| &mut policy.monthly,
        of: |policy| policy.monthly,
    },
    Count {
        key: "keep_yearly",
        flag: "keep-yearly",
        help: "Keep a backup for each of N years",
        about: "years with a backup",
        place: |policy| &mut policy.yearly,
        of: |policy| policy.yearly,
    },
];

/// Parses a span like `7d`, `36h`, `2w`, `6m` or `1y`; months have 30 days, years 365.
///
/// # Errors
/// Says that it is no span.
pub fn parse_span(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("`{text}` is not a duration: write it like 7d, 36h, 2w, 6m or 1y");
    let text = text.trim();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        'y' => 365 * 24,
        _ => return Err(wrong()),
    };
    let hours = number.checked_mul(hours).filter(|hours| *hours >= 0);
    hours.and_then(TimeDelta::try_hours).ok_or_else(wrong)
}

/// What a decision needs to know about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub id: SnapshotId,
    /// Orders snapshots, together with the id.
    pub seq: u64,
    /// When it began, by its own record.
    pub time: DateTime<Utc>,
    pub full: bool,
    /// Something could not be read.
    pub partial: bool,
    /// Taken before something destructive, not as a backup.
    pub guard: bool,
    pub roots: Vec<String>,
    pub tags: Vec<String>,
    pub pinned: bool,
    /// Bytes written for it.
    pub bytes: u64,
    /// The newest operation whose undo needs it.
    pub undo: Option<DateTime<Utc>>,
    /// The next guard of the same place compares with it.
    pub mirrored: bool,
}

/// A span of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// By the local clock.
    Hour,
    /// From midnight to midnight, local time.
    Day,
    /// From Monday, as in ISO 8601.
    Week,
    Month,
    Year,
}

impl Period {
    const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    fn count(self, policy: &Policy) -> u32 {
        match self {
            Self::Hour => policy.hourly,
            Self::Day => policy.daily,
            Self::Week => policy.weekly,
            Self::Month => policy.monthly,
            Self::Year => policy.yearly,
        }
    }

    /// Full backups need nothing older: keeping these for long lets old packs go as a whole.
    fn prefers_full(self) -> bool {
        matches!(self, Self::Week | Self::Month | Self::Year)
    }

    /// Returns the span to which a local time belongs.
    fn slot(self, local: NaiveDateTime) -> String {
        let week = local.iso_week();
        match self {
            Self::Hour => format!("{} {:02} h", local.date(), local.hour()),
            Self::Day => local.date().to_string(),
            Self::Week => format!("{}-W{:02}", week.year(), week.week()),
            Self::Month => format!("{}-{:02}", local.year(), local.month()),
            Self::Year => local.year().to_string(),
        }
    }

    /// Returns the adverb, like "daily".
    pub fn every(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// Why a snapshot stays or goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The newest of all, or of the backups of a root.
    Newest,
    /// The newest full backup of a root.
    LastFull,
    Pinned,
    Tag(String),
    /// One of the newest backups.
    Last,
    /// It represents a span of time.
    Slot(Period, String),
    /// Taken minutes ago: the record of its operation may not be written yet.
    New,
    Within,
    Guard,
    /// The undo of an operation needs it.
    Undo,
    /// The next guard builds on it.
    Mirrored,
    /// The clock cannot be trusted.
    Clock,
    /// The user named others to remove.
    NotNamed,
    /// The user named it to be removed.
    Forgotten,
    /// No rule keeps it.
    Expired,
    /// What it protected can no longer be undone.
    GuardExpired,
    /// It does not fit into the bytes for guard snapshots, next to the newer ones.
    GuardBytes,
    /// The storage budget is used up.
    Budget,
    /// Nothing expires: no policy is set.
    All,
    /// What another one needs is not known, and may be in this one.
    Unknown,
    /// It cannot be read.
    Unreadable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "newest",
            Self::LastFull => "last full",
            Self::Pinned => "pinned",
            Self::Tag(tag) => return write!(f, "tag {tag}"),
            Self::Last => "one of the last",
            Self::Slot(period, slot) => return write!(f, "{} {slot}", period.word()),
            Self::New => "just taken",
            Self::Within => "young enough",
            Self::Guard => "young guard snapshot",
            Self::Undo => "needed to undo",
            Self::Mirrored => "the next guard builds on it",
            Self::Clock => "the clock is not trusted",
            Self::NotNamed => "not named",
            Self::Forgotten => "forgotten",
            Self::Expired => "no rule keeps it",
            Self::GuardExpired => "too old to undo from",
            Self::GuardBytes => "over the bytes for guards",
            Self::Budget => "over the storage budget",
            Self::All => "everything is kept",
            Self::Unknown => "what others need is not known here",
            Self::Unreadable => "nothing is known of it here",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub id: SnapshotId,
    pub keep: bool,
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrouble {
    /// A snapshot is from the future.
    Future {
        snapshot: SnapshotId,
        /// The time in its record.
        time: DateTime<Utc>,
        /// No snapshot was taken after it.
        is_newest: bool,
    },
    /// The last snapshots are much later than those before, and less than a day old.
    Jump {
        /// The last before the jump.
        from: DateTime<Utc>,
        /// The first after it.
        to: DateTime<Utc>,
    },
}

/// The decisions about all snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    /// In the order of snapshots, oldest first.
    pub all: Vec<Decision>,
    /// Set if the clock cannot be trusted: then nothing is removed.
    pub clock: Option<ClockTrouble>,
}

/// How much the clock of one machine may differ between two snapshots.
const TOLERANCE: TimeDelta = TimeDelta::minutes(10);
/// Nobody leaves this much time between two snapshots, except on holiday or after the clock jumped.
const JUMP: TimeDelta = TimeDelta::days(31);
/// How long nothing expires after a jump.
const SETTLED: TimeDelta = TimeDelta::days(1);

/// The record of an operation follows its snapshot sooner than this.
const JUST_TAKEN: TimeDelta = TimeDelta::minutes(10);

/// Decides about each snapshot. `zone` converts to local time.
///
/// # Errors
/// The policy would keep nothing.
pub fn decide(
    items: &[Item],
    policy: &Policy,
    now: DateTime<Utc>,
    zone: &dyn Fn(DateTime<Utc>) -> NaiveDateTime,
) -> Result<Decisions> {
    policy.check()?;
    let mut items: Vec<Item> = items.to_vec();
    items.sort_by_key(|item| (item.seq, item.id));
    let ahead = items.iter().rev().find(|item| item.time > now + TOLERANCE);
    let ahead = ahead.map(|item| (item.id, item.time));
    settle_times(&mut items);
    let clock = clock_trouble(&items, ahead, now);
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); items.len()];
    keep_marked(&items, policy, &mut reasons);
    keep_backups(&items, policy, zone, &mut reasons);
    let guards_gone = keep_guards(&items, policy, &mut reasons);
    let all = items.iter().zip(reasons).map(|(item, mut reasons)| {
        if reasons.is_empty() && clock.is_some() {
            reasons.push(Reason::Clock);
        }
        let keep = !reasons.is_empty();
        if !keep {
            reasons.push(match (item.guard, guards_gone.contains(&item.id)) {
                (true, true) => Reason::GuardBytes,
                (true, false) => Reason::GuardExpired,
                (false, _) => Reason::Expired,
            });
        }
        reasons.sort();
        reasons.dedup();
        Decision {
            id: item.id,
            keep,
            reasons,
        }
    });
    Ok(Decisions {
        all: all.collect(),
        clock,
    })
}

impl Decision {
    /// Returns true if not even a full storage removes it.
    pub fn is_fixed(&self) -> bool {
        let fixed = |reason: &Reason| {
            use Reason::{Clock, LastFull, Newest, NotNamed, Pinned, Tag};
            matches!(
                reason,
                Newest | LastFull | Pinned | Tag(_) | Clock | NotNamed
            )
        };
        self.keep && self.reasons.iter().any(fixed)
    }
}

/// Returns why the clock cannot be trusted; `items` are in order, and so are their times. `ahead`
/// is the snapshot whose own record is from the future.
fn clock_trouble(
    items: &[Item],
    ahead: Option<(SnapshotId, DateTime<Utc>)>,
    now: DateTime<Utc>,
) -> Option<ClockTrouble> {
    let newest = items.last()?;
    if let Some((snapshot, time)) = ahead {
        return Some(ClockTrouble::Future {
            snapshot,
            time,
            is_newest: snapshot == newest.id,
        });
    }
    let (from, to) = items
        .windows(2)
        .rev()
        .map(|pair| (pair[0].time, pair[1].time))
        .find(|(from, to)| *to - *from > JUMP)?;
    (now.max(newest.time) - to < SETTLED).then_some(ClockTrouble::Jump { from, to })
}

/// A snapshot is not older than those before it, whatever the clock said when it was taken.
fn settle_times(items: &mut [Item]) {
    let mut last = DateTime::<Utc>::MIN_UTC;
    for item in items {
        item.time = item.time.max(last);
        last = item.time;
    }
}

fn keep_marked(items: &[Item], policy: &Policy, reasons: &mut [Vec<Reason>]) {
    let newest = items.last().map(|item| item.time).unwrap_or_default();
    for (item, reasons) in items.iter().zip(reasons.iter_mut()) {
        if item.pinned {
            reasons.push(Reason::Pinned);
        }
        let tags = item.tags.iter().filter(|tag| policy.tags.contains(tag));
        reasons.extend(tags.cloned().map(Reason::Tag));
        if newest - item.time < JUST_TAKEN {
            reasons.push(Reason::New);
        }
        if policy.within.is_some_and(|span| newest - item.time < span) {
            reasons.push(Reason::Within);
        }
    }
    if let Some(last) = reasons.last_mut() {
        last.push(Reason::Newest);
    }
}

/// Fills the slots of every root with its backups.
fn keep_backups(
    items: &[Item],
    policy: &Policy,
    zone: &dyn Fn(DateTime<Utc>) -> NaiveDateTime,
    reasons: &mut [Vec<Reason>],
) {
    let mut roots: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, item) in items.iter().enumerate().filter(|(_, item)| !item.guard) {
        for root in &item.roots {
            roots.entry(root).or_default().push(number);
        }
    }
    for mut backups in roots.into_values() {
        // Newest first. Partial backups fill what complete ones leave free, and take no place from
        // them.
        backups.reverse();
        let complete: Vec<usize> = backups
            .iter()
            .copied()
            .filter(|number| !items[*number].partial)
            .collect();
        for list in [&complete, &backups] {
            let full = list.iter().find(|number| items[**number].full);
            if let Some(newest) = list.first() {
                reasons[*newest].push(Reason::Newest);
            }
            if let Some(full) = full {
                reasons[*full].push(Reason::LastFull);
            }
            for number in list.iter().take(policy.last as usize) {
                reasons[*number].push(Reason::Last);
            }
            for period in Period::ALL {
                for (slot, number) in slots(items, list, period, period.count(policy), zone) {
                    reasons[number].push(Reason::Slot(period, slot));
                }
            }
        }
    }
}

/// Returns the newest `count` spans with a backup, and the backup that represents each. `list` is
/// newest first.
fn slots(
    items: &[Item],
    list: &[usize],
    period: Period,
    count: u32,
    zone: &dyn Fn(DateTime<Utc>) -> NaiveDateTime,
) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    if count == 0 {
        return found;
    }
    let rank = |item: &Item| (!item.partial, item.full && period.prefers_full());
    for &number in list {
        let slot = period.slot(zone(items[number].time));
        // When the clock is set back, an hour that occurs twice counts once.
        match found.iter().position(|(other, _)| *other == slot) {
            Some(at) if rank(&items[number]) > rank(&items[found[at].1]) => found[at].1 = number,
            Some(_) => {}
            None if found.len() < count as usize => found.push((slot, number)),
            None => break,
        }
    }
    found
}

/// Keeps what can be undone; returns guard snapshots that go because others use up the bytes.
fn keep_guards(
    items: &[Item],
    policy: &Policy,
    reasons: &mut [Vec<Reason>],
) -> HashSet<SnapshotId> {
    let newest = items.last().map(|item| item.time).unwrap_or_default();
    let is_young = |time: DateTime<Utc>| newest - time < policy.guard_within;
    // Without it, the next guard of a place that was not used for a while would read everything
    // there again.
    let is_of_use = |item: &Item| item.mirrored && newest - item.time < policy.guard_within * 4;
    let mut over = HashSet::new();
    let mut guards = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let undo = item.undo.filter(|time| is_young(*time));
        if item.guard {
            let last_use = undo.map_or(item.time, |undo| undo.max(item.time));
            guards.push((last_use, number, undo.is_some()));
        } else if undo.is_some() {
            reasons[number].push(Reason::Undo);
        }
    }
    let last = (0..items.len()).max_by_key(|number| items[*number].undo);
    if let Some(last) = last.filter(|last| items[*last].undo.is_some_and(is_young)) {
        // The last command can be undone in any case.
        reasons[last].push(Reason::Newest);
    }
    guards.sort_unstable();
    let mut left = policy.guard_bytes;
    for (place, (last_use, number, undo)) in guards.into_iter().rev().enumerate() {
        let young = is_young(last_use);
        if !young && !is_of_use(&items[number]) {
            continue;
        }
        // A snapshot that does not fit goes alone: one giant must not drive out what all the small
        // ones protect. The last one stays however large it is, because the next undo needs it; it
        // then takes no room from the others.
        let bytes = items[number].bytes;
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None if place == 0 => {}
            None => {
                over.insert(items[number].id);
                continue;
            }
        }
        reasons[number].push(match (undo, young) {
            (true, _) => Reason::Undo,
            (false, true) => Reason::Guard,
            (false, false) => Reason::Mirrored,
        });
        if place == 0 {
            reasons[number].push(Reason::Newest);
        }
    }
    over
}

#[cfg(test)]
mod tests;
