//! Merges a state with what was captured: the new state, and what the record of the root says.

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

/// What a root looks like now, ready to be committed.
pub(super) struct Pending {
    /// The new state; `None`: the old one holds.
    builder: Option<StateBuilder>,
    /// Entries that differ from the base; empty if there is a new base.
    pub(super) changed: Vec<Entry>,
    /// Paths of the base that are gone.
    pub(super) removed: Vec<RepoPath>,
    /// The whole listing, if there is to be a new base.
    pub(super) listing: Listing,
    pub(super) mirrors: Mirrors,
    /// The old base is kept.
    base_kept: bool,
    /// Something is not as the last snapshot has it.
    pub(super) is_news: bool,
}

impl Pending {
    /// Makes the state mirror a snapshot, on disk as well.
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

/// Splits a path as a state orders: by directory, then by name.
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

/// What of a state is still there: numbers of directories and of entries, in its order. Paths are built only where needed:
/// there may be hundreds of thousands.
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

/// Finds a name in a directory of the state, whose children are sorted: thousands may be looked for.
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

/// Nothing was captured and nothing is gone: the state holds.
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

#[expect(
    clippy::too_many_lines,
    reason = "one merge of two sorted lists, then what follows from it"
)]
fn merge(
    run: &RootRun,
    state: Option<&State>,
    captured: CapturedList,
    counts: &mut Counts,
) -> Pending {
    let is_file = |stat: &Stat| u64::from(stat.kind == Kind::File);
    let mut is_news = !run.scan.removed.is_empty() || state.is_none();
    // Decide for one captured object: its flags, and whether it is news.
    let mut judge = |one: &Captured, prior: Option<Known<'_>>| -> u8 {
        let Some(prior) = prior else {
            counts.added += is_file(&one.stat);
            is_news = true;
            return one.flags | IN_DELTA | NOT_IN_BASE;
        };
        let inherited = prior.flags & (IN_DELTA | NOT_IN_BASE);
        if is_same(one, prior) {
            return one.flags | inherited;
        }
        counts.changed += is_file(&one.stat);
        is_news = true;
        one.flags | inherited | IN_DELTA
    };
    let mut captured = captured.into_iter().peekable();
    let root_prior = state.map(|s| s.entry(0));
    let root_known = root_prior.and_then(|k| k.to_entry(RepoPath::root()));
    let mut root_entry: Option<Entry> = None;
    let mut builder = match captured.next_if(|one| one.path.is_root()) {
        Some(one) => {
            let flags = judge(&one, root_prior);
            let builder = StateBuilder::new(&one.stat, flags, &body_json(&one.body));
            if flags & IN_DELTA != 0 {
                root_entry = Some(entry_of(RepoPath::root(), &one.stat, one.body));
            }
            builder
        }
        None => match root_prior {
            Some(known) => {
                if known.flags & IN_DELTA != 0 {
                    root_entry.clone_from(&root_known);
                }
                let body = known.body().unwrap_or_default();
                StateBuilder::new(&known.stat, known.flags, &body_json(&body))
            }
            None => {
                let unknown = Stat {
                    kind: Kind::Dir,
                    mode: 0o700,
                    ..Stat::default()
                };
                StateBuilder::new(&unknown, DIRTY, b"")
            }
        },
    };
    let has_root_entry = root_entry.is_some();
    let mut changed: Vec<Entry> = root_entry.into_iter().collect();
    let mut new: CapturedList = captured.collect();
    new.sort_unstable_by(|a, b| state_order(split(&a.path), split(&b.path)));
    let old = state.map_or_else(Vec::new, |s| still_there(s, &run.scan.removed));
    builder.reserve(old.len() + new.len());

    let mut vanished: Vec<RepoPath> = Vec::new();
    let mut total = 1;
    let mut kept: Vec<(u32, u32)> = Vec::new();
    let mut dir: Option<Vec<u8>> = None;
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
        let prior = place.and_then(|(_, child)| Some(state?.entry(child as usize)));
        let mut enter = |builder: &mut StateBuilder, parent: &[u8]| {
            if dir.as_deref() != Some(parent) {
                builder.dir(parent);
                dir = Some(parent.to_vec());
            }
        };
        match (one, prior) {
            (Some(one), prior) if one.gone => {
                if prior.is_some_and(|prior| prior.flags & NOT_IN_BASE == 0) {
                    vanished.push(one.path);
                }
            }
            (Some(one), prior) => {
                let flags = judge(&one, prior);
                enter(&mut builder, split(&one.path).0);
                builder.child(one.path.name(), &one.stat, flags, &body_json(&one.body));
                total += 1;
                if flags & IN_DELTA != 0 {
                    changed.push(entry_of(one.path, &one.stat, one.body));
                } else {
                    kept.extend(place);
                }
            }
            (None, Some(prior)) => {
                let (Some((dir, child)), Some(state)) = (place, state) else {
                    continue;
                };
                enter(&mut builder, state.dir_path(dir as usize));
                builder.copy(&prior, prior.flags);
                total += 1;
                if prior.flags & IN_DELTA != 0 {
                    changed.extend(prior.to_entry(path_of(state, dir, child)));
                } else {
                    kept.push((dir, child));
                }
            }
            (None, None) => {}
        }
    }
    is_news |= !vanished.is_empty();
    let mut gone: Vec<RepoPath> = state.map(State::removed).unwrap_or_default();
    for path in &run.scan.removed {
        let in_base = state.is_none_or(|s| {
            let (parent, name) = split(path);
            child_named(s, parent, name).is_none_or(|n| s.flags(n) & NOT_IN_BASE == 0)
        });
        if in_base {
            gone.push(path.clone());
        }
    }
    gone.extend(vanished);
    gone.sort();
    gone.dedup();
    changed.sort_by(|a, b| a.path.cmp(&b.path));
    let mirrors = state.map_or(
        Mirrors {
            snapshot: Id::from_u128(0),
            seq: 0,
            started: 0,
            base: None,
            rules: 0,
        },
        State::mirrors,
    );
    // A delta that has grown makes every record long; a key frame is long once. The square root balances the two.
    let limit = (total / 4).min(2 * usize::isqrt(total)).max(32);
    let base_kept = mirrors.base.is_some() && changed.len() + gone.len() <= limit;
    let mut listing = Vec::new();
    let mut base = mirrors.base;
    if !base_kept {
        base = None;
        listing = std::mem::take(&mut changed);
        if let Some(state) = state {
            listing.extend(kept.into_iter().filter_map(|(dir, child)| {
                let known = state.entry(child as usize);
                known.to_entry(path_of(state, dir, child))
            }));
            if !has_root_entry {
                listing.extend(root_known);
            }
        }
        listing.sort_by(|a, b| a.path.cmp(&b.path));
        builder.forget_delta();
    }
    Pending {
        builder: Some(builder),
        changed,
        removed: gone,
        listing,
        mirrors: Mirrors { base, ..mirrors },
        base_kept,
        is_news,
    }
}

/// Returns true if an object is what the state has of it, as far as an entry tells.
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
