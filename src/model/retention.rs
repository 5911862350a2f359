//! Which snapshots stay: pure, from what they are, a policy and a moment to one decision each, with its reasons.
//!
//! *Backups* (typed, scheduled, the first one) fill slots: the newest of a day, of an ISO week, of a month. Slots are counted per root, and only
//! those that have a backup: a machine that was off for a year keeps as many as one that was not. *Guard snapshots* (guard, undo, redo,
//! restore) stay for as long as what they protect is to be undone, within a number of bytes.
//!
//! Ages are measured at the newest snapshot, not at the clock: where nothing new is stored, nothing old expires.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};

use crate::base::error::{Error, Result};
use crate::base::id::SnapshotId;

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Newest backups.
    pub last: u32,
    /// Hours with a backup.
    pub hourly: u32,
    /// Days with a backup.
    pub daily: u32,
    /// ISO weeks with a backup.
    pub weekly: u32,
    /// Months with a backup.
    pub monthly: u32,
    /// Years with a backup.
    pub yearly: u32,
    /// Everything at most this much older than the newest snapshot.
    pub within: Option<TimeDelta>,
    /// Whatever has one of these tags.
    pub tags: Vec<String>,
    /// How long guarded commands can be undone.
    pub guard_within: TimeDelta,
    /// Bytes that guard snapshots may have stored, newest first; what does not fit goes.
    pub guard_bytes: u64,
    /// Bytes that everything may take; 0: any number, `None`: as many as [`usual_max_bytes`] says.
    pub max_bytes: Option<u64>,
}

/// Returns how many bytes a repository may take if nobody says: a quarter of what the disk has for it, and room for the
/// history of a large first backup, but never the last tenth of the disk. `used` is what the repository takes now, `free`
/// what the disk has left, `full` what the last full backup stored.
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
    /// Returns a policy that keeps no backup, and guard snapshots for 7 days and 1 GB: to be filled in.
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

/// A rule that keeps a number of backups. Another one is a field of [`Policy`] and a record in [`COUNTS`]: configuration and command line go by the list.
pub struct Count {
    /// Its name in the configuration.
    pub key: &'static str,
    /// Its option of `bdr prune`.
    pub flag: &'static str,
    /// What the option does.
    pub help: &'static str,
    /// What is counted.
    pub about: &'static str,
    /// Returns where the number is.
    pub place: fn(&mut Policy) -> &mut u32,
    /// Returns the number.
    pub of: fn(&Policy) -> u32,
}

/// The rules that count.
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

/// Returns the span that a text like `7d`, `36h`, `2w`, `6m` or `1y` means; months have 30 days, years 365.
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

/// What is to be known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub id: SnapshotId,
    /// Orders snapshots, with the id.
    pub seq: u64,
    /// When it says it was begun.
    pub time: DateTime<Utc>,
    /// It stands alone.
    pub full: bool,
    /// Something could not be read.
    pub partial: bool,
    /// Taken before something destructive, not as a backup.
    pub guard: bool,
    /// Names of its roots.
    pub roots: Vec<String>,
    /// Given by the user.
    pub tags: Vec<String>,
    /// The user said that it stays.
    pub pinned: bool,
    /// Bytes written for it.
    pub bytes: u64,
    /// The newest operation that is undone from it.
    pub undo: Option<DateTime<Utc>>,
    /// The next guard of the same place compares with it.
    pub mirrored: bool,
}

/// A span of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// By the clock of the zone.
    Hour,
    /// From midnight to midnight there.
    Day,
    /// From Monday, as ISO 8601 counts.
    Week,
    /// Of the calendar.
    Month,
    /// Of the calendar.
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

    /// Fulls need nothing older: of what is kept for long, they let old packs die whole.
    fn prefers_full(self) -> bool {
        matches!(self, Self::Week | Self::Month | Self::Year)
    }

    /// Returns the span that a local time falls in.
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

    /// Returns the word for how often it is.
    pub fn every(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// Returns the word for people.
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
    /// The newest full of a root.
    LastFull,
    /// The user said so.
    Pinned,
    /// It has a tag that stays.
    Tag(String),
    /// One of the newest backups.
    Last,
    /// It stands for a span of time.
    Slot(Period, String),
    /// Taken minutes ago: what it is for may not be written down yet.
    New,
    /// It is young.
    Within,
    /// It is a guard snapshot, and young.
    Guard,
    /// An operation is undone from it.
    Undo,
    /// The next guard builds on it.
    Mirrored,
    /// The clock cannot be trusted.
    Clock,
    /// Only what the user names goes.
    NotNamed,
    /// Named by the user to go.
    Forgotten,
    /// No rule keeps it.
    Expired,
    /// What it protected can no longer be undone.
    GuardExpired,
    /// It does not fit into the bytes for guard snapshots, beside the newer ones.
    GuardBytes,
    /// The storage budget is used up.
    Budget,
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
        })
    }
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub id: SnapshotId,
    /// It stays.
    pub keep: bool,
    /// All reasons for that.
    pub reasons: Vec<Reason>,
}

/// Why nothing expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrouble {
    /// A snapshot is from later than now.
    Future {
        /// Which.
        snapshot: SnapshotId,
        /// What it says.
        time: DateTime<Utc>,
        /// None was taken after it.
        is_newest: bool,
    },
    /// The last snapshots are much later than those before them, since less than a day.
    Jump {
        /// The last before.
        from: DateTime<Utc>,
        /// The first after.
        to: DateTime<Utc>,
    },
}

/// What becomes of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    /// In the order of snapshots, oldest first.
    pub all: Vec<Decision>,
    /// Set if the clock cannot be trusted: then nothing goes.
    pub clock: Option<ClockTrouble>,
}

/// Clocks of this machine may differ by this much from one snapshot to the next.
const TOLERANCE: TimeDelta = TimeDelta::minutes(10);
/// Nobody waits this long between two snapshots, but on holiday, and after a clock jumped.
const JUMP: TimeDelta = TimeDelta::days(31);
/// After a jump nothing expires for this long.
const SETTLED: TimeDelta = TimeDelta::days(1);

/// The record of an operation follows its snapshot by less than this.
const JUST_TAKEN: TimeDelta = TimeDelta::minutes(10);

/// Decides what becomes of each snapshot. `zone` says what a clock on the wall shows.
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
    /// Returns true if not even a full storage makes it go.
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

/// Says why the clock cannot be trusted; `items` are in order, and so are their times. `ahead` is the one that itself says that it is from the future.
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
        // Newest first. What is partial fills what complete ones leave, and takes no place from them.
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

/// Returns the newest `count` spans that have a backup, and the backup that stands for each. `list` is newest first.
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
        // Clocks are put back: an hour that comes twice is one.
        match found.iter().position(|(other, _)| *other == slot) {
            Some(at) if rank(&items[number]) > rank(&items[found[at].1]) => found[at].1 = number,
            Some(_) => {}
            None if found.len() < count as usize => found.push((slot, number)),
            None => break,
        }
    }
    found
}

/// Keeps what can be undone; returns guard snapshots that go because of the bytes of others.
fn keep_guards(
    items: &[Item],
    policy: &Policy,
    reasons: &mut [Vec<Reason>],
) -> HashSet<SnapshotId> {
    let newest = items.last().map(|item| item.time).unwrap_or_default();
    let is_young = |time: DateTime<Utc>| newest - time < policy.guard_within;
    // Without it the next guard of a place that was not worked in for a while reads everything there again.
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
        // The last command can be undone, whatever else.
        reasons[last].push(Reason::Newest);
    }
    guards.sort_unstable();
    let mut left = policy.guard_bytes;
    for (place, (last_use, number, undo)) in guards.into_iter().rev().enumerate() {
        let young = is_young(last_use);
        if !young && !is_of_use(&items[number]) {
            continue;
        }
        // What does not fit goes alone: one giant must not drive out what all the small ones protect. The last one stays however large it is, for it is
        // what the next undo needs; then it takes no room from the others.
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
