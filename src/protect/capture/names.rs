//! Hard links that bdr itself made in its staging areas: they do not count as the user's.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::model::manifest::{Kind, Stat};
use crate::protect::walk::RootHandle;
use crate::repo::Repository;

/// The files in staging areas, by device and inode; listed once, and only if a file has several
/// hard links.
#[derive(Default)]
pub(crate) struct OwnNames(OnceLock<HashSet<(u64, u64)>>);

impl OwnNames {
    /// Returns the stat of a file without the hard link that it has in a staging area.
    pub(super) fn without(&self, repo: &Repository, stat: &Stat) -> Stat {
        let has_more = stat.kind == Kind::File && stat.links > 1;
        let is_kept = has_more && {
            let kept = self.0.get_or_init(|| kept(repo));
            kept.contains(&(stat.device, stat.inode))
        };
        Stat {
            links: stat.links - u32::from(is_kept),
            ..*stat
        }
    }
}

fn kept(repo: &Repository) -> HashSet<(u64, u64)> {
    let mut found = HashSet::new();
    // If a set cannot be read, its links count as somebody else's and are reported.
    for set in repo.kept_sets().unwrap_or_default() {
        let Ok(area) = set.open_area(&repo.areas()) else {
            continue;
        };
        for (number, _) in (0..).zip(&set.files) {
            let file = area.file(number);
            if let Ok(stat) = file.and_then(|file| RootHandle::stat_file(&file)) {
                found.insert((stat.device, stat.inode));
            }
        }
    }
    found
}
