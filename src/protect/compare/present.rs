//! What is below a root now: walked, and read only if no record tells.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::error::{Error, Result};
use crate::base::path::RepoPath;
use crate::model::compare;
use crate::model::manifest::{Body, Entry, Kind};
use crate::protect::survey::{paths_of, root_of, state_path};
use crate::protect::walk::{RootHandle, WalkOptions, walk};
use crate::repo::Repository;
use crate::repo::snapshot::{LeftOut, RootRecord};
use crate::repo::state::{Stat, State};

/// An object as it is now, with its content by the state; `None` if it has to be read.
pub(crate) struct Standing {
    pub(crate) stat: Stat,
    pub(crate) body: Option<Body>,
}

/// What is below a root now.
pub(crate) struct Present {
    pub(crate) objects: BTreeMap<RepoPath, Standing>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Paths that the walk could not read.
    pub(crate) problems: Vec<(RepoPath, Error)>,
    pub(crate) handle: Option<RootHandle>,
}

/// Walks a root of a snapshot. Even a state that mirrors another snapshot saves reading the files
/// it knows.
pub(crate) fn present(
    repo: &Repository,
    record: &RootRecord,
    never: &[PathBuf],
) -> Result<Present> {
    let root = root_of(record);
    let state = State::load(&state_path(repo, &root), repo.id());
    let options = WalkOptions {
        never,
        max_files: None,
        keep_known: true,
    };
    let scan = walk(&root, state.as_ref(), &options)?;
    if !scan.exists {
        return Ok(Present {
            objects: BTreeMap::new(),
            left_out: Vec::new(),
            problems: Vec::new(),
            handle: None,
        });
    }
    let mut objects = BTreeMap::new();
    if let Some(state) = &state {
        objects.extend(paths_of(state).map(|(path, number)| {
            let known = state.entry(number);
            let standing = Standing {
                stat: known.stat,
                body: known.body(),
            };
            (path, standing)
        }));
    }
    for top in scan
        .removed
        .iter()
        .chain(scan.left_out.iter().map(|l| &l.path))
    {
        // A directory comes right before its content.
        let below = objects
            .range(top..)
            .take_while(|(path, _)| path.starts_with(top));
        for path in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            objects.remove(&path);
        }
    }
    for dirty in scan.dirty {
        let standing = Standing {
            stat: dirty.stat,
            body: None,
        };
        objects.insert(dirty.path, standing);
    }
    Ok(Present {
        objects,
        left_out: scan.left_out,
        problems: scan.problems,
        handle: RootHandle::of(&root)?,
    })
}

/// Returns true if two bodies prove equal content; false proves nothing.
fn is_same(a: &Body, b: &Body) -> bool {
    match (&a.sealed, &b.sealed) {
        (Some(a), Some(b)) => a.mac == b.mac,
        (None, None) => a.content == b.content,
        _ => false,
    }
}

impl Present {
    /// Returns true if an object equals an entry; reads it if nothing else tells.
    pub(crate) fn is_as(&self, repo: &Repository, entry: &Entry, standing: &Standing) -> bool {
        let stat = &standing.stat;
        let (handle, known) = (self.handle.as_ref(), standing.body.as_ref());
        let attributes = || match (known, entry.kind) {
            (Some(body), _) => Some(body.xattrs.clone()),
            (None, Kind::File) => {
                let file = handle?.open_file(&entry.path).ok()?;
                RootHandle::xattrs(&file).ok()
            }
            (None, kind) => handle?.xattrs_at(&entry.path, kind).ok(),
        };
        let same = stat.kind == entry.kind
            && !compare::by_stat(entry, stat).any()
            && attributes().is_some_and(|found| found == entry.body.xattrs);
        if !same {
            return false;
        }
        // A file that the state knows need not be read again. If the two differ, it may be the same
        // content stored differently.
        let is_known = known.is_some_and(|body| is_same(body, &entry.body));
        if entry.kind == Kind::File && stat.size == entry.size && is_known {
            return true;
        }
        let open = || handle?.open_file(&entry.path).ok();
        let read_link = || match known {
            Some(body) => Some(body.target.clone()),
            None => handle?.read_link(&entry.path).ok(),
        };
        super::has_content(repo, entry, stat, open, read_link)
    }
}
