//! Records how an operation left an object, so that a later touch is recognised without reading.

use crate::base::path::RepoPath;
use crate::model::manifest::{Kind, Stat, Time};
use crate::repo::oplog::Stamp;

/// In place of the ctime of a file of which bdr has a second name: that changes when this name goes.
pub(crate) const UNKNOWN: Time = Time(0, 0);

pub(crate) fn stamp(path: RepoPath, stat: &Stat) -> Stamp {
    Stamp {
        path,
        kind: stat.kind,
        mode: stat.mode,
        mtime: stat.mtime,
        size: stat.size,
        ctime: stat.ctime,
        inode: stat.inode,
        owner: Some((stat.uid, stat.gid)),
    }
}

/// Returns true if an object is untouched since its stamp. Any change inside a directory changes
/// its times, so a directory only has to be the same one.
pub fn is_stamped(stamp: &Stamp, stat: &Stat) -> bool {
    if stamp.kind == Kind::Dir {
        return stat.kind == Kind::Dir && stamp.inode == stat.inode;
    }
    stamp.kind == stat.kind
        && stamp.size == stat.size
        && stamp.mtime == stat.mtime
        && (stamp.ctime == stat.ctime || stamp.ctime == UNKNOWN)
        && stamp.inode == stat.inode
        && stamp.mode == stat.mode
}
