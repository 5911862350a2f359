//! Listings of stores that have directories.

use std::ops::ControlFlow;

use super::{Object, StoreResult, key};

/// One name in a directory, with `/` at its end if it is one: so the order of entries is that of
/// keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// How deep directories are followed; keys are not that deep.
const MAX_DEPTH: usize = 16;

impl Entry {
    /// Makes an entry of what is found in a directory, unless it is not bdr's.
    pub(super) fn of(name: &str, bytes: u64, is_dir: bool) -> Option<Self> {
        let slash = if is_dir { "/" } else { "" };
        key::is_part(name).then(|| Self {
            name: format!("{name}{slash}"),
            bytes,
        })
    }
}

/// Lists everything below a prefix in the order of keys; `entries` lists one directory, an empty
/// one if there is none.
pub(super) fn walk(
    entries: &dyn Fn(&str) -> StoreResult<Vec<Entry>>,
    prefix: &str,
    after: Option<&str>,
    each: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> StoreResult<()> {
    down(entries, prefix, after, each, 0).map(|_| ())
}

fn down(
    entries: &dyn Fn(&str) -> StoreResult<Vec<Entry>>,
    prefix: &str,
    after: Option<&str>,
    each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    depth: usize,
) -> StoreResult<ControlFlow<()>> {
    let mut found = entries(prefix)?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in found {
        let key = format!("{prefix}{}", entry.name);
        let is_dir = entry.name.ends_with('/');
        let is_before = |after: &str| match is_dir {
            true => key.as_str() <= after && !after.starts_with(&key),
            false => key.as_str() <= after,
        };
        if after.is_some_and(is_before) {
            continue;
        }
        let flow = match is_dir {
            true if depth >= MAX_DEPTH => continue,
            true => down(entries, &key, after, each, depth + 1)?,
            false => each(Object {
                key,
                bytes: entry.bytes,
            }),
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}
