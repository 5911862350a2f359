//! What bdr itself did to the ctime of files: a second name that it gives or takes away changes it, and
//! nothing else. So an undo can tell that from a write whose mtime was set back.
//!
//! Derived, in the cache: a line for each change, the newest last. A loss costs a conflict.

use std::collections::HashMap;

use super::Repository;
use crate::disk::fsutil;
use crate::model::manifest::{Stat, Time};

/// How many changes are remembered.
const MOST: usize = 4096;

/// A change of a file's ctime by bdr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touch {
    device: u64,
    inode: u64,
    from: Time,
    to: Time,
}

impl Touch {
    /// Returns the change between two looks at a file; `None` if there is none, or if more than the
    /// ctime has changed.
    pub(crate) fn between(before: &Stat, after: &Stat) -> Option<Self> {
        let same = |s: &Stat| {
            (
                s.kind, s.device, s.inode, s.size, s.mtime, s.mode, s.uid, s.gid,
            )
        };
        let is_it = same(before) == same(after) && before.ctime != after.ctime;
        is_it.then_some(Self {
            device: before.device,
            inode: before.inode,
            from: before.ctime,
            to: after.ctime,
        })
    }

    fn line(self) -> String {
        let (Time(from, from_ns), Time(to, to_ns)) = (self.from, self.to);
        let (device, inode) = (self.device, self.inode);
        format!("{device} {inode} {from} {from_ns} {to} {to_ns}\n")
    }

    fn parsed(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ');
        let mut next = || numbers.next();
        Some(Self {
            device: next()?.parse().ok()?,
            inode: next()?.parse().ok()?,
            from: Time(next()?.parse().ok()?, next()?.parse().ok()?),
            to: Time(next()?.parse().ok()?, next()?.parse().ok()?),
        })
    }
}

/// The changes that are remembered.
#[derive(Default)]
pub(crate) struct Touches(HashMap<(u64, u64, Time), Time>);

impl Touches {
    /// Returns true if bdr alone made the ctime of a file what it is from what it was.
    pub(crate) fn lead(&self, from: Time, now: &Stat) -> bool {
        let mut at = from;
        for _ in 0..=self.0.len() {
            let Some(to) = self.0.get(&(now.device, now.inode, at)) else {
                return false;
            };
            if *to == now.ctime {
                return true;
            }
            at = *to;
        }
        false
    }
}

impl Repository {
    /// Remembers changes.
    pub(crate) fn note_touches(&self, touches: &[Touch]) {
        if touches.is_empty() {
            return;
        }
        let path = self.cache().join("touches");
        let known = fsutil::read_derived(&path).unwrap_or_default();
        let known = String::from_utf8_lossy(&known);
        let mut lines: Vec<String> = known.lines().map(|line| format!("{line}\n")).collect();
        lines.extend(touches.iter().map(|touch| touch.line()));
        let first = lines.len().saturating_sub(MOST);
        let _ = fsutil::write_derived(&path, lines[first..].concat().as_bytes());
    }

    /// Returns the changes that are remembered.
    pub(crate) fn touches(&self) -> Touches {
        let known = fsutil::read_derived(&self.cache().join("touches")).unwrap_or_default();
        let known = String::from_utf8_lossy(&known);
        let touches = known.lines().filter_map(Touch::parsed);
        Touches(
            touches
                .map(|t| ((t.device, t.inode, t.from), t.to))
                .collect(),
        )
    }
}
