//! Hard links that bdr itself made in its staging areas: they do not count as the user's.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::base::id::Id;
use crate::model::manifest::{Kind, Stat};
use crate::protect::walk::RootHandle;
use crate::repo::Repository;

/// The files in staging areas, by device and inode; listed once, and only if a file has several
/// hard links.
#[derive(Default)]
pub(crate) struct OwnNames {
    found: OnceLock<HashSet<(u64, u64)>>,
    /// Sets that do not count: the stats are from before them.
    later: Vec<Id>,
}

impl OwnNames {
    /// Returns those of which the links of some sets are none.
    #[cfg(target_os = "linux")]
    pub(crate) fn before(later: Vec<Id>) -> Self {
        Self {
            found: OnceLock::new(),
            later,
        }
    }

    /// Returns the stat of a file without the hard link that it has in a staging area.
    pub(crate) fn without(&self, repo: &Repository, stat: &Stat) -> Stat {
        let has_more = stat.kind == Kind::File && stat.links > 1;
        let is_kept = has_more && {
            let kept = self.found.get_or_init(|| kept(repo, &self.later));
            kept.contains(&(stat.device, stat.inode))
        };
        Stat {
            links: stat.links - u32::from(is_kept),
            ..*stat
        }
    }
}

fn kept(repo: &Repository, later: &[Id]) -> HashSet<(u64, u64)> {
    let mut found = HashSet::new();
    // If a set cannot be read, its links count as somebody else's and are reported.
    let sets = repo.kept_sets().unwrap_or_default().into_iter();
    for set in sets.filter(|set| !later.contains(&set.id)) {
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
