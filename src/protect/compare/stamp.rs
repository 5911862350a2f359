//! How an operation left an object, written down so that nothing has to be read to see whether it was touched since.

use crate::base::path::RepoPath;
use crate::model::manifest::{Kind, Stat};
use crate::repo::oplog::Stamp;

/// Returns the stamp of an object.
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

/// Returns true if an object is as a stamp says, untouched since. Whatever is done in a directory changes its times: it only has to be the same one.
pub fn is_stamped(stamp: &Stamp, stat: &Stat) -> bool {
    if stamp.kind == Kind::Dir {
        return stat.kind == Kind::Dir && stamp.inode == stat.inode;
    }
    stamp.kind == stat.kind
        && stamp.size == stat.size
        && stamp.mtime == stat.mtime
        && stamp.ctime == stat.ctime
        && stamp.inode == stat.inode
        && stamp.mode == stat.mode
}
