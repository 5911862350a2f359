//! Merges a state with what was captured, into the new state and the record of the root.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::Path;

use super::{Counts, RootRun};
use crate::base::id::Id;
use crate::base::path::{RepoPath, compare};
use crate::model::manifest::{Body, Entry, Kind, Listing};
use crate::protect::capture::{Captured, CapturedList};
use crate::repo::state::{
    DIRTY, IN_DELTA, Known, Mirrors, NOT_IN_BASE, Stat, State, StateBuilder, entry_of,
};

/// A root as it is now, ready to be committed.
pub(super) struct Pending {
    /// The new state; `None` if the old one still holds.
    builder: Option<StateBuilder>,
    /// Entries that differ from the base; empty if there is a new base.
    pub(super) changed: Vec<Entry>,
    /// Paths of the base that are gone.
    pub(super) removed: Vec<RepoPath>,
    /// The whole listing, if there is to be a new base.
    pub(super) listing: Listing,
    pub(super) mirrors: Mirrors,
    base_kept: bool,
    /// Something differs from the last snapshot.
    pub(super) is_news: bool,
}

impl Pending {
    /// Makes the state mirror a snapshot, on disk too.
    pub(super) fn save(
        self,
        old: Option<State>,
        path: &Path,
        repository: Id,
        mirrors: &Mirrors,
    ) -> Option<State> {
        match (self.builder, old) {
            (Some(builder), _) => {
                let removed = if self.base_kept {
                    &self.removed[..]
                } else {
                    &[]
                };
                Some(builder.save(path, repository, mirrors, removed))
            }
            (None, Some(old)) => Some(old.renew(path, mirrors)),
            (None, None) => None,
        }
    }
}

/// Splits a path by the sort order of a state: directory, then name.
fn split(path: &RepoPath) -> (&[u8], &[u8]) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|b| *b == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (b"", bytes),
    }
}

fn state_order((dir_a, name_a): (&[u8], &[u8]), (dir_b, name_b): (&[u8], &[u8])) -> Ordering {
    compare(dir_a, dir_b).then_with(|| name_a.cmp(name_b))
}

/// Returns what of a state is still there, as numbers of directories and entries in its order.
/// Paths are built only where needed: there may be hundreds of thousands.
fn still_there(state: &State, removed: &[RepoPath]) -> Vec<(u32, u32)> {
    let removed: HashSet<&RepoPath> = removed.iter().collect();
    let parents: HashSet<RepoPath> = removed.iter().filter_map(|path| path.parent()).collect();
    let mut kept = Vec::with_capacity(state.len());
    if removed.contains(&RepoPath::root()) {
        return kept;
    }
    let mut gone_below: Option<RepoPath> = None;
    for (number, (dir, children)) in state.directories().enumerate() {
        let mut some_gone = false;
        if !removed.is_empty() {
            let Ok(dir) = RepoPath::new(dir) else {
                continue;
            };
            if gone_below.as_ref().is_some_and(|g| dir.starts_with(g)) {
                continue;
            }
            if removed.contains(&dir) {
                gone_below = Some(dir);
                continue;
            }
            some_gone = parents.contains(&dir);
        }
        for child in children {
            if !(some_gone && removed.contains(&path_of(state, number as u32, child as u32))) {
                kept.push((number as u32, child as u32));
            }
        }
    }
    kept
}

fn path_of(state: &State, dir: u32, child: u32) -> RepoPath {
    let dir = RepoPath::new(state.dir_path(dir as usize)).unwrap_or_default();
    dir.join(state.name(child as usize))
}

/// Finds a name in a directory of the state by binary search, because a caller may look for
/// thousands.
fn child_named(state: &State, dir: &[u8], name: &[u8]) -> Option<usize> {
    let children = state.children(dir)?;
    let (mut low, mut high) = (children.start, children.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match state.name(middle).cmp(name) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

/// Merges the state with what was captured, sorted by path.
pub(super) fn rebuild(
    run: &RootRun,
    captured: CapturedList,
    full: bool,
    counts: &mut Counts,
) -> Pending {
    let state = run.state.as_ref().filter(|_| !full);
    match state {
        Some(state) if captured.is_empty() && run.scan.removed.is_empty() => as_it_was(state),
        _ => merge(run, state, captured, counts),
    }
}

/// Nothing was captured and nothing is gone, so the old state holds.
fn as_it_was(state: &State) -> Pending {
    let mut changed: Vec<Entry> = Vec::new();
    let root = state.entry(0);
    if root.flags & IN_DELTA != 0 {
        changed.extend(root.to_entry(RepoPath::root()));
    }
    for (dir, children) in state.directories() {
        for number in children.filter(|n| state.flags(*n) & IN_DELTA != 0) {
            let path = RepoPath::new(dir).unwrap_or_default();
            let known = state.entry(number);
            changed.extend(known.to_entry(path.join(known.name)));
        }
    }
    changed.sort_by(|a, b| a.path.cmp(&b.path));
    Pending {
        builder: None,
        changed,
        removed: state.removed(),
        listing: Listing::new(),
        mirrors: state.mirrors(),
        base_kept: true,
        is_news: false,
    }
}

/// Merges two sorted lists, the state and what was captured, and decides whether the base is kept.
fn merge(
    run: &RootRun,
    state: Option<&State>,
    captured: CapturedList,
    counts: &mut Counts,
) -> Pending {
    let removed = &run.scan.removed;
    let judge = Judge {
        counts,
        is_news: !removed.is_empty() || state.is_none(),
    };
    let mut captured = captured.into_iter().peekable();
    let root = captured.next_if(|one| one.path.is_root());
    let mut merger = Merger::begin(state, root, judge);
    let mut new: CapturedList = captured.collect();
    new.sort_unstable_by(|a, b| state_order(split(&a.path), split(&b.path)));
    merger.walk(removed, new);
    let gone = merger.gone(removed);
    merger.finish(gone)
}

/// Decides what counts as news.
struct Judge<'c> {
    counts: &'c mut Counts,
    is_news: bool,
}

impl Judge<'_> {
    /// Returns the flags of a captured object. An object that equals its entry in the state keeps
    /// that entry's relation to the base; otherwise every touch of a file would make each later
    /// record one entry longer.
    fn flags(&mut self, one: &Captured, prior: Option<Known<'_>>) -> u8 {
        let files = u64::from(one.stat.kind == Kind::File);
        let Some(prior) = prior else {
            self.counts.added += files;
            self.is_news = true;
            return one.flags | IN_DELTA | NOT_IN_BASE;
        };
        let inherited = prior.flags & (IN_DELTA | NOT_IN_BASE);
        if is_same(one, prior) {
            return one.flags | inherited;
        }
        self.counts.changed += files;
        self.is_news = true;
        one.flags | inherited | IN_DELTA
    }
}

/// The new state and the record of the root, while they are being built.
struct Merger<'a, 'c> {
    state: Option<&'a State>,
    judge: Judge<'c>,
    builder: StateBuilder,
    dir: Option<Vec<u8>>,
    /// Number of objects, with the root.
    total: usize,
    /// Entries that differ from the base.
    changed: Vec<Entry>,
    /// The root as the base has it, if it has not changed.
    root: Option<Entry>,
    /// Objects that equal the base, by their numbers in the old state. They become entries only for
    /// a new base.
    kept: Vec<(u32, u32)>,
    /// Paths that turned out to be gone while they were captured.
    vanished: Vec<RepoPath>,
}

impl<'a, 'c> Merger<'a, 'c> {
    /// Starts with the root: it comes first in a state, and it has no name to sort by.
    fn begin(
        state: Option<&'a State>,
        captured: Option<Box<Captured>>,
        mut judge: Judge<'c>,
    ) -> Self {
        let prior = state.map(|state| state.entry(0));
        let known = prior.and_then(|known| known.to_entry(RepoPath::root()));
        let mut changed = Vec::new();
        let builder = match (captured, prior) {
            (Some(one), prior) => {
                let flags = judge.flags(&one, prior);
                let builder = StateBuilder::new(&one.stat, flags, &body_json(&one.body));
                if flags & IN_DELTA != 0 {
                    changed.push(entry_of(RepoPath::root(), &one.stat, one.body));
                }
                builder
            }
            (None, Some(prior)) => {
                if prior.flags & IN_DELTA != 0 {
                    changed.extend(known.clone());
                }
                let body = prior.body().unwrap_or_default();
                StateBuilder::new(&prior.stat, prior.flags, &body_json(&body))
            }
            (None, None) => {
                let unknown = Stat {
                    kind: Kind::Dir,
                    mode: 0o700,
                    ..Stat::default()
                };
                StateBuilder::new(&unknown, DIRTY, b"")
            }
        };
        Self {
            state,
            judge,
            builder,
            dir: None,
            total: 1,
            root: known.filter(|_| changed.is_empty()),
            changed,
            kept: Vec::new(),
            vanished: Vec::new(),
        }
    }

    /// Walks both lists in the order of the state: its builder takes children directory by
    /// directory and cannot go back.
    fn walk(&mut self, removed: &[RepoPath], new: CapturedList) {
        let state = self.state;
        let old = state.map_or_else(Vec::new, |state| still_there(state, removed));
        self.builder.reserve(old.len() + new.len());
        let mut old = old.into_iter().peekable();
        let mut new = new.into_iter().peekable();
        loop {
            let (place, one) = match (state, old.peek().copied(), new.peek()) {
                (_, None, None) => break,
                (Some(state), Some((dir, child)), one) => {
                    let there = (state.dir_path(dir as usize), state.name(child as usize));
                    match one.map(|one| state_order(there, split(&one.path))) {
                        None | Some(Ordering::Less) => (old.next(), None),
                        Some(Ordering::Equal) => (old.next(), new.next()),
                        Some(Ordering::Greater) => (None, new.next()),
                    }
                }
                _ => (None, new.next()),
            };
            match (one, place, state) {
                (Some(one), place, _) => self.captured(*one, place),
                (None, Some(place), Some(state)) => self.untouched(state, place),
                (None, ..) => {}
            }
        }
    }

    fn enter(&mut self, parent: &[u8]) {
        if self.dir.as_deref() != Some(parent) {
            self.builder.dir(parent);
            self.dir = Some(parent.to_vec());
        }
    }

    /// Adds a captured object; `place` is its position in the old state.
    fn captured(&mut self, one: Captured, place: Option<(u32, u32)>) {
        let prior = place.and_then(|(_, child)| Some(self.state?.entry(child as usize)));
        if one.gone {
            if prior.is_some_and(|prior| prior.flags & NOT_IN_BASE == 0) {
                self.vanished.push(one.path);
            }
            return;
        }
        let flags = self.judge.flags(&one, prior);
        self.enter(split(&one.path).0);
        let body = body_json(&one.body);
        self.builder.child(one.path.name(), &one.stat, flags, &body);
        self.total += 1;
        if flags & IN_DELTA != 0 {
            self.changed.push(entry_of(one.path, &one.stat, one.body));
        } else {
            self.kept.extend(place);
        }
    }

    /// Adds an object that is unchanged since the old state.
    fn untouched(&mut self, state: &State, (dir, child): (u32, u32)) {
        let prior = state.entry(child as usize);
        self.enter(state.dir_path(dir as usize));
        self.builder.copy(&prior, prior.flags);
        self.total += 1;
        if prior.flags & IN_DELTA != 0 {
            self.changed
                .extend(prior.to_entry(path_of(state, dir, child)));
        } else {
            self.kept.push((dir, child));
        }
    }

    /// Returns the paths of the base that are gone. Paths that came and went since the base were
    /// never in it and are not listed.
    fn gone(&mut self, removed: &[RepoPath]) -> Vec<RepoPath> {
        self.judge.is_news |= !self.vanished.is_empty();
        let state = self.state;
        let mut gone: Vec<RepoPath> = state.map(State::removed).unwrap_or_default();
        let in_base = |path: &&RepoPath| {
            state.is_none_or(|state| {
                let (parent, name) = split(path);
                let number = child_named(state, parent, name);
                number.is_none_or(|number| state.flags(number) & NOT_IN_BASE == 0)
            })
        };
        gone.extend(removed.iter().filter(in_base).cloned());
        gone.append(&mut self.vanished);
        gone.sort();
        gone.dedup();
        gone
    }

    /// Keeps the base or replaces it. A delta that has grown makes every later record long, while a
    /// key frame is long only once; the square root balances the two.
    fn finish(mut self, removed: Vec<RepoPath>) -> Pending {
        self.changed.sort_by(|a, b| a.path.cmp(&b.path));
        let unknown = Mirrors {
            snapshot: Id::from_u128(0),
            seq: 0,
            started: 0,
            base: None,
            rules: 0,
        };
        let mut mirrors = self.state.map_or(unknown, State::mirrors);
        // At least 32, so that a small root does not get a new base for every few changes.
        let limit = (self.total / 4).min(2 * usize::isqrt(self.total)).max(32);
        let base_kept = mirrors.base.is_some() && self.changed.len() + removed.len() <= limit;
        let mut listing = Vec::new();
        if !base_kept {
            mirrors.base = None;
            listing = std::mem::take(&mut self.changed);
            if let Some(state) = self.state {
                listing.extend(self.kept.into_iter().filter_map(|(dir, child)| {
                    let known = state.entry(child as usize);
                    known.to_entry(path_of(state, dir, child))
                }));
            }
            listing.extend(self.root);
            listing.sort_by(|a, b| a.path.cmp(&b.path));
            self.builder.forget_delta();
        }
        Pending {
            builder: Some(self.builder),
            changed: self.changed,
            removed,
            listing,
            mirrors,
            base_kept,
            is_news: self.judge.is_news,
        }
    }
}

/// Returns true if an object equals its entry in the state, as far as an entry tells.
fn is_same(one: &Captured, prior: Known<'_>) -> bool {
    let (a, b) = (&one.stat, &prior.stat);
    a.kind == b.kind
        && a.mode == b.mode
        && a.mtime == b.mtime
        && (a.uid, a.gid) == (b.uid, b.gid)
        && (a.kind != Kind::File || a.size == b.size)
        && prior.body().is_some_and(|body| body == one.body)
}

fn body_json(body: &Body) -> Vec<u8> {
    if *body == Body::default() {
        Vec::new()
    } else {
        body.to_json()
    }
}
