//! Merges a state with what was captured: the new state, and what the record of the root says.

use std::collections::{BTreeMap, HashSet};

use super::{Counts, RootRun};
use crate::capture::Captured;
use crate::manifest::{Body, Entry, Kind, Listing};
use crate::path::{RepoPath, compare};
use crate::repo::state::{
    DIRTY, IN_DELTA, Known, Mirrors, NOT_IN_BASE, Stat, State, StateBuilder, entry_of,
};

/// What a root looks like now, ready to be committed.
pub(super) struct Pending {
    pub(super) builder: StateBuilder,
    /// Entries that differ from the base; empty if there is a new base.
    pub(super) changed: Vec<Entry>,
    /// Paths of the base that are gone.
    pub(super) removed: Vec<RepoPath>,
    /// The whole listing, if there is to be a new base.
    pub(super) listing: Listing,
    pub(super) mirrors: Mirrors,
    /// The old base is kept.
    pub(super) base_kept: bool,
    /// Something is not as the last snapshot has it.
    pub(super) is_news: bool,
}

/// Sorts as a state does: by directory, then by name.
fn state_order(a: &RepoPath, b: &RepoPath) -> std::cmp::Ordering {
    fn split(path: &RepoPath) -> (&[u8], &[u8]) {
        let bytes = path.as_bytes();
        match bytes.iter().rposition(|b| *b == b'/') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (b"", bytes),
        }
    }
    let ((dir_a, name_a), (dir_b, name_b)) = (split(a), split(b));
    compare(dir_a, dir_b).then_with(|| name_a.cmp(name_b))
}

/// Merges the state with what was captured.
pub(super) fn rebuild(
    run: &RootRun,
    captured: &BTreeMap<RepoPath, Captured>,
    full: bool,
    counts: &mut Counts,
) -> Pending {
    let empty = Stat {
        kind: Kind::Dir,
        mode: 0o700,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: crate::manifest::Time(0, 0),
        ctime: crate::manifest::Time(0, 0),
        inode: 0,
        device: 0,
        links: 1,
    };
    let state = run.state.as_ref().filter(|_| !full);
    let removed: HashSet<&RepoPath> = run.scan.removed.iter().collect();
    let parents: HashSet<RepoPath> = run
        .scan
        .removed
        .iter()
        .filter_map(RepoPath::parent)
        .collect();

    // What stays of the state, in its order.
    let mut old: Vec<(RepoPath, usize)> = Vec::new();
    let mut gone_below: Option<RepoPath> = None;
    if let Some(state) = state.filter(|_| !removed.contains(&RepoPath::root())) {
        for (dir, children) in state.directories() {
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
            let some_gone = parents.contains(&dir);
            for number in children {
                let path = dir.join(state.name(number));
                if !(some_gone && removed.contains(&path)) {
                    old.push((path, number));
                }
            }
        }
    }
    let mut new: Vec<&Captured> = captured.values().filter(|c| !c.path.is_root()).collect();
    new.sort_by(|a, b| state_order(&a.path, &b.path));

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
        let entry = entry_of(RepoPath::root(), &one.stat, one.body.clone());
        let same = prior.to_entry(RepoPath::root()).is_some_and(|p| p == entry);
        if same {
            return one.flags | inherited;
        }
        counts.changed += is_file(&one.stat);
        is_news = true;
        one.flags | inherited | IN_DELTA
    };
    let root_prior = state.map(|s| s.entry(0));
    let mut root_entry: Option<Entry> = None;
    let mut builder = match captured.get(&RepoPath::root()) {
        Some(one) => {
            let flags = judge(one, root_prior);
            root_entry = (flags & IN_DELTA != 0)
                .then(|| entry_of(RepoPath::root(), &one.stat, one.body.clone()));
            StateBuilder::new(&one.stat, flags, &body_json(&one.body))
        }
        None => match root_prior {
            Some(known) => {
                root_entry = (known.flags & IN_DELTA != 0)
                    .then(|| known.to_entry(RepoPath::root()))
                    .flatten();
                let body = known.body().unwrap_or_default();
                StateBuilder::new(&known.stat, known.flags, &body_json(&body))
            }
            None => StateBuilder::new(&empty, DIRTY, b""),
        },
    };
    let root_known = root_prior.and_then(|k| k.to_entry(RepoPath::root()));
    let mut changed: Vec<Entry> = root_entry.clone().into_iter().collect();
    let mut vanished: Vec<RepoPath> = Vec::new();
    let mut total = 1;
    let mut kept: Vec<(RepoPath, usize)> = Vec::new();
    let mut dir: Option<RepoPath> = None;
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let order = match (old.get(i), new.get(j)) {
            (Some((path, _)), Some(one)) => state_order(path, &one.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let prior = (order != std::cmp::Ordering::Greater)
            .then(|| state.map(|s| s.entry(old[i].1)))
            .flatten();
        let path = if order == std::cmp::Ordering::Greater {
            &new[j].path
        } else {
            &old[i].0
        };
        let one = (order != std::cmp::Ordering::Less).then(|| new[j]);
        let mut enter = |builder: &mut StateBuilder| {
            let parent = path.parent().unwrap_or_default();
            if dir.as_ref() != Some(&parent) {
                builder.dir(parent.as_bytes());
                dir = Some(parent);
            }
        };
        match (one, prior) {
            (Some(one), prior) if one.gone => {
                if let Some(prior) = prior
                    && prior.flags & NOT_IN_BASE == 0
                {
                    vanished.push(path.clone());
                }
            }
            (Some(one), prior) => {
                let flags = judge(one, prior);
                enter(&mut builder);
                builder.child(path.name(), &one.stat, flags, &body_json(&one.body));
                total += 1;
                if flags & IN_DELTA != 0 {
                    changed.push(entry_of(path.clone(), &one.stat, one.body.clone()));
                } else {
                    kept.push((path.clone(), old[i].1));
                }
            }
            (None, Some(prior)) => {
                enter(&mut builder);
                builder.copy(&prior, prior.flags);
                total += 1;
                if prior.flags & IN_DELTA != 0 {
                    changed.extend(prior.to_entry(path.clone()));
                } else {
                    kept.push((path.clone(), old[i].1));
                }
            }
            (None, None) => {}
        }
        if order != std::cmp::Ordering::Greater {
            i += 1;
        }
        if order != std::cmp::Ordering::Less {
            j += 1;
        }
    }
    is_news |= !vanished.is_empty();
    let mut gone: Vec<RepoPath> = state.map(State::removed).unwrap_or_default();
    for path in &run.scan.removed {
        let in_base = state.is_none_or(|s| {
            let parent = path.parent().unwrap_or_default();
            let found = s
                .children(parent.as_bytes())
                .and_then(|mut c| c.find(|n| s.name(*n) == path.name()));
            found.is_none_or(|n| s.entry(n).flags & NOT_IN_BASE == 0)
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
            snapshot: crate::id::Id::from_u128(0),
            seq: 0,
            started: 0,
            base: None,
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
        let mut entries = std::mem::take(&mut changed);
        if let Some(state) = state {
            entries.extend(
                kept.into_iter()
                    .filter_map(|(path, number)| state.entry(number).to_entry(path)),
            );
            if root_entry.is_none() {
                entries.extend(root_known);
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        listing = entries;
        builder.forget_delta();
    }
    Pending {
        builder,
        changed,
        removed: gone,
        listing,
        mirrors: Mirrors { base, ..mirrors },
        base_kept,
        is_news,
    }
}

fn body_json(body: &Body) -> Vec<u8> {
    if *body == Body::default() {
        Vec::new()
    } else {
        body.to_json()
    }
}
