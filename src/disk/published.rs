//! What everybody who has a remote or a registry of packages can read already is no secret of this
//! machine.
//!
//! Asked only where something was found, and only by reading: objects of git through libgit2, and
//! archives of packages. Nothing of a work tree runs. A repository, an archive or an alternate
//! object store of another user is not followed. Where it cannot be told, nothing is public.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::privacy::{Examined, Finding, Public, Rules};

mod git;
mod packages;

/// Larger content, in bytes, is not compared.
const MAX_BYTES: u64 = 8 << 20;

/// Knows what is public; one for each run, because it asks the disk once for each repository and
/// archive.
#[derive(Default)]
pub struct Published {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The work tree around a directory.
    tops: HashMap<PathBuf, Option<PathBuf>>,
    checkouts: HashMap<PathBuf, Option<git::Checkout>>,
    archives: HashMap<PathBuf, Option<packages::Members>>,
}

/// A finding that everybody can read already.
#[derive(Debug, Clone)]
pub struct LetThrough {
    pub finding: Finding,
    /// `stands in origin/main, commit 0123abc`
    pub place: Arc<str>,
}

impl Published {
    /// Takes out of `examined` what is public, and returns it. The path is absolute.
    pub fn let_through(
        &self,
        path: &Path,
        bytes: &[u8],
        rules: &Rules,
        examined: &mut Examined,
    ) -> Vec<LetThrough> {
        if !rules.lets_published_through()
            || examined.findings.is_empty()
            || bytes.len() as u64 > MAX_BYTES
            || !path.is_absolute()
        {
            return Vec::new();
        }
        let Ok(mut known) = self.known.lock() else {
            return Vec::new();
        };
        if let Some(place) = known.package(path, bytes) {
            return all(examined, bytes, &place);
        }
        let Some((checkout, below)) = known.checkout(path) else {
            return Vec::new();
        };
        let values = examined.values(bytes).map(<[u8]>::to_vec).collect();
        match checkout.find(below, bytes, values, rules) {
            git::Found::All(place) => all(examined, bytes, &place),
            git::Found::Values(places) => {
                let has = |value: &[u8]| places.contains_key(value);
                let through = examined.let_through(bytes, &Public::Values(&has));
                let with_place = through.into_iter().filter_map(|finding| {
                    let place = places.get(&bytes[finding.range.clone()])?.clone();
                    Some(LetThrough { finding, place })
                });
                with_place.collect()
            }
        }
    }
}

fn all(examined: &mut Examined, bytes: &[u8], place: &Arc<str>) -> Vec<LetThrough> {
    let through = examined.let_through(bytes, &Public::All).into_iter();
    through
        .map(|finding| LetThrough {
            finding,
            place: Arc::clone(place),
        })
        .collect()
}

impl Known {
    /// Returns where a file of a package, or its archive, is published.
    fn package(&mut self, path: &Path, bytes: &[u8]) -> Option<Arc<str>> {
        if let Some(place) = packages::archive(path, bytes) {
            return Some(place);
        }
        let (archive, member) = packages::of(path)?;
        let members = self
            .archives
            .entry(archive)
            .or_insert_with_key(|archive| packages::members(archive))
            .as_ref()?;
        members.has(&member, bytes)
    }

    /// Returns the work tree around a file, and the path of the file in it.
    fn checkout<'p>(&mut self, path: &'p Path) -> Option<(&git::Checkout, &'p Path)> {
        let dir = path.parent()?;
        let top = match self.tops.get(dir) {
            Some(top) => top.clone(),
            None => {
                let has_git = |dir: &&Path| dir.join(".git").symlink_metadata().is_ok();
                let top = dir.ancestors().find(has_git).map(Path::to_path_buf);
                self.tops.insert(dir.to_path_buf(), top.clone());
                top
            }
        }?;
        let below = path.strip_prefix(&top).ok()?;
        let checkout = self
            .checkouts
            .entry(top)
            .or_insert_with_key(|top| git::Checkout::open(top))
            .as_ref()?;
        Some((checkout, below))
    }
}
