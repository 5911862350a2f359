//! The one comparison of an object that stands with what a listing says of it, but for its bytes: kind, mode, owner, time, attributes.
//!
//! Backup, guard, undo, restore, diff and drill all ask here, so that none of them takes for equal what another brings back.

use std::collections::HashMap;

use serde::Serialize;

use crate::model::manifest::{Entry, Kind, Stat};

/// Extended attributes, sorted by escaped name.
pub type Attributes = [(String, Vec<u8>)];

/// What of an object is not as an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Differences {
    /// Permission and special bits.
    pub mode: bool,
    /// User or group.
    pub owner: bool,
    /// Time of the last change of content.
    pub time: bool,
    /// Extended attributes, access lists among them.
    pub attributes: bool,
}

impl Differences {
    /// Returns true if anything differs.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Returns what differs, for people: "mode and owner".
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

/// Returns what differs in what `stat` tells. A symlink has no mode of its own.
pub fn by_stat(entry: &Entry, stat: &Stat) -> Differences {
    Differences {
        mode: stat.mode != entry.mode && entry.kind != Kind::Symlink,
        owner: has_owners() && (stat.uid, stat.gid) != (entry.uid, entry.gid),
        time: stat.mtime != entry.mtime,
        attributes: false,
    }
}

/// Returns what differs, attributes included.
pub fn whole(entry: &Entry, stat: &Stat, attributes: &Attributes) -> Differences {
    Differences {
        attributes: attributes != entry.body.xattrs,
        ..by_stat(entry, stat)
    }
}

/// Which names are to be one file, and which of those that stand are.
#[derive(Debug, Default)]
pub struct Groups {
    /// By device and number of what stands: the group it is to be in.
    standing: HashMap<(u64, u64), String>,
    /// By group: the file that its first name is.
    files: HashMap<String, (u64, u64)>,
}

impl Groups {
    /// Takes note of a name that stands with the right bytes; returns false if it has to be made anew to be one with the names that it is to be one
    /// with, and with no other.
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
