//! All entries of a root, and how two listings differ.

use std::collections::BTreeMap;

use super::Entry;
use crate::base::path::RepoPath;

/// All entries of a root at one moment, sorted by path.
pub type Listing = Vec<Entry>;

/// Applies removals and changes to a base. `base` and `changed` are sorted.
pub fn overlay(base: Listing, removed: &[RepoPath], changed: Listing) -> Listing {
    if removed.is_empty() && changed.is_empty() {
        return base;
    }
    let mut result = Vec::with_capacity(base.len() + changed.len());
    let mut removed: Vec<&RepoPath> = removed.iter().collect();
    removed.sort();
    let mut removed = removed.into_iter().peekable();
    let mut gone: Option<&RepoPath> = None;
    let mut changed = changed.into_iter().peekable();
    for entry in base {
        while let Some(next) = removed.next_if(|r| **r <= entry.path) {
            // A removal below another one adds nothing.
            if gone.is_none_or(|g| !next.starts_with(g)) {
                gone = Some(next);
            }
        }
        while let Some(new) = changed.next_if(|c| c.path < entry.path) {
            result.push(new);
        }
        if let Some(new) = changed.next_if(|c| c.path == entry.path) {
            result.push(new);
        } else if !gone.is_some_and(|g| entry.path.starts_with(g)) {
            result.push(entry);
        }
    }
    result.extend(changed);
    result
}

/// How one path differs between two listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added(Entry),
    Removed(Entry),
    /// Content or kind differ.
    Modified(Box<(Entry, Entry)>),
    /// Only mode, mtime, owner or attributes differ.
    Metadata(Box<(Entry, Entry)>),
}

impl Change {
    /// Returns how an object differs from its earlier version; `None` if it does not. A directory's
    /// mtime alone is no difference.
    pub fn between(old: &Entry, new: &Entry) -> Option<Self> {
        let pair = || Box::new((old.clone(), new.clone()));
        if !old.same_content(new) {
            Some(Self::Modified(pair()))
        } else if !old.same_object(new, false) {
            Some(Self::Metadata(pair()))
        } else {
            None
        }
    }

    pub fn path(&self) -> &RepoPath {
        match self {
            Self::Added(entry) | Self::Removed(entry) => &entry.path,
            Self::Modified(pair) | Self::Metadata(pair) => &pair.1.path,
        }
    }

    /// Returns `+`, `-`, `M` or `m`.
    pub fn sign(&self) -> char {
        match self {
            Self::Added(_) => '+',
            Self::Removed(_) => '-',
            Self::Modified(_) => 'M',
            Self::Metadata(_) => 'm',
        }
    }
}

/// Returns the differences from `old` to `new`, sorted by path. A directory's mtime alone is no
/// difference.
pub fn diff(old: &[Entry], new: &[Entry]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let order = match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) => a.path.cmp(&b.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => {
                changes.push(Change::Removed(old[i].clone()));
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                changes.push(Change::Added(new[j].clone()));
                j += 1;
            }
            std::cmp::Ordering::Equal => {
                changes.extend(Change::between(&old[i], &new[j]));
                i += 1;
                j += 1;
            }
        }
    }
    changes
}

pub fn by_path(listing: Listing) -> BTreeMap<RepoPath, Entry> {
    listing
        .into_iter()
        .map(|entry| (entry.path.clone(), entry))
        .collect()
}
