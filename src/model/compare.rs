//! The one comparison between an existing object and its entry in a listing, except for its bytes:
//! kind, mode, owner, time, attributes.
//!
//! Backup, guard, undo, restore, diff and drill all use it, so that none of them treats as equal
//! what another would restore.

use std::collections::HashMap;

use serde::Serialize;

use crate::model::manifest::{Entry, Kind, Stat};

/// Extended attributes, sorted by escaped name.
pub type Attributes = [(String, Vec<u8>)];

/// How an object differs from an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Differences {
    /// Permission and special bits.
    pub mode: bool,
    pub owner: bool,
    /// Time of the last change of content.
    pub time: bool,
    /// Extended attributes, including access control lists.
    pub attributes: bool,
}

impl Differences {
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Returns the differences for people: "mode and owner".
    pub fn words(self) -> String {
        let words: Vec<&str> = [
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.time, "time"),
            (self.attributes, "attributes"),
        ]
        .into_iter()
        .filter_map(|(differs, word)| differs.then_some(word))
        .collect();
        words.join(", ")
    }
}

/// Returns the differences that `stat` shows. A symlink has no mode of its own.
pub fn by_stat(entry: &Entry, stat: &Stat) -> Differences {
    Differences {
        mode: stat.mode != entry.mode && entry.kind != Kind::Symlink,
        owner: has_owners() && (stat.uid, stat.gid) != (entry.uid, entry.gid),
        time: stat.mtime != entry.mtime,
        attributes: false,
    }
}

/// Returns the differences, including attributes.
pub fn whole(entry: &Entry, stat: &Stat, attributes: &Attributes) -> Differences {
    Differences {
        attributes: attributes != entry.body.xattrs,
        ..by_stat(entry, stat)
    }
}

/// Which names should be one file, and which of the existing ones are.
#[derive(Debug, Default)]
pub struct Groups {
    /// The group of each existing file, by device and inode.
    standing: HashMap<(u64, u64), String>,
    /// The file of each group's first name.
    files: HashMap<String, (u64, u64)>,
}

impl Groups {
    /// Notes an existing name with the right bytes. Returns false if it has to be made anew, to be
    /// one file with exactly the names of its group.
    pub fn fits(&mut self, entry: &Entry, stat: &Stat) -> bool {
        let has_names = matches!(entry.kind, Kind::File | Kind::Symlink);
        if !has_names || entry.body.link.is_empty() && stat.links <= 1 {
            return true;
        }
        let file = (stat.device, stat.inode);
        let group = match entry.body.link.is_empty() {
            // No group has a slash in its name.
            true => format!("/{}", entry.path),
            false => entry.body.link.clone(),
        };
        let joined = self
            .standing
            .get(&file)
            .is_some_and(|other| *other != group);
        let apart = self.files.get(&group).is_some_and(|other| *other != file);
        if joined || apart {
            return false;
        }
        self.standing.insert(file, group.clone());
        self.files.insert(group, file);
        true
    }
}

fn has_owners() -> bool {
    cfg!(unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::Time;

    #[test]
    fn each_thing_that_differs_is_told() {
        let mut entry = Entry {
            mode: 0o644,
            mtime: Time(1, 2),
            uid: 3,
            gid: 4,
            ..Entry::default()
        };
        entry.body.xattrs = vec![("user.a".to_owned(), b"1".to_vec())];
        let stat = Stat {
            mode: 0o644,
            mtime: Time(1, 2),
            uid: 3,
            gid: 4,
            ..Stat::default()
        };
        let same = entry.body.xattrs.clone();
        assert!(!whole(&entry, &stat, &same).any());
        assert_eq!(whole(&entry, &stat, &[]).words(), "attributes");
        let other = Stat {
            mode: 0o600,
            gid: 5,
            mtime: Time(1, 3),
            ..stat
        };
        assert_eq!(whole(&entry, &other, &same).words(), "mode, owner, time");
        entry.kind = Kind::Symlink;
        assert_eq!(by_stat(&entry, &other).words(), "owner, time");
    }
}
