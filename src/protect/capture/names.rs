//! Names that bdr itself has given to files, in its staging areas: they are none of the user's.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::model::manifest::{Kind, Stat};
use crate::protect::walk::RootHandle;
use crate::repo::Repository;

/// The files in staging areas, by device and number; looked for once, and only where a file has more names than one.
#[derive(Default)]
pub(crate) struct OwnNames(OnceLock<HashSet<(u64, u64)>>);

impl OwnNames {
    /// Returns how a file stands without the name that it has in a staging area.
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
    // One that cannot be read counts as a name of somebody else's, which is said.
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
