//! Mounts: one file system can be seen at several places, and a sandbox sees it at others than we do.
//!
//! A file is kept, and comes back, under the path that it has here and had before the command began.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, StatxFlags};

/// The mounts that there were when the first command began, and where. A number alone says nothing:
/// that of a mount that is gone is given to the next.
static KNOWN: OnceLock<HashMap<u64, PathBuf>> = OnceLock::new();

/// Where commands have mounted something over what was there.
static OVER: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// One line of mountinfo, see proc(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    device: String,
    /// Which directory of its file system is seen.
    root: PathBuf,
    at: PathBuf,
}

/// Remembers which mounts there are, before a command can make some.
pub(super) fn remember() {
    let _ = KNOWN.get_or_init(|| {
        let all = all("self").into_iter();
        all.map(|mount| (mount.id, mount.at)).collect()
    });
}

/// Returns true unless the command has made the mount in which a path is.
pub(super) fn is_known(mount: u64, path: &Path) -> bool {
    KNOWN.get().is_none_or(|known| {
        let at = known.get(&mount);
        at.is_some_and(|at| path.starts_with(at))
    })
}

/// Notes that a command mounts something over a directory.
pub(super) fn cover(path: PathBuf) {
    let mut over = OVER.lock().unwrap_or_else(PoisonError::into_inner);
    if !over.contains(&path) {
        over.push(path);
    }
}

/// Returns true if a path below a mount that a command has made may mean something else without it.
pub(super) fn covers(path: &Path) -> bool {
    let over = OVER.lock().unwrap_or_else(PoisonError::into_inner);
    over.iter().any(|dir| path.starts_with(dir))
}

/// Returns the number of the mount of an open file; `None` before Linux 5.8.
pub(super) fn of(file: impl AsFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(file, c"", flags, StatxFlags::MNT_ID).ok()?;
    let has = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    has.then_some(found.stx_mnt_id)
}

/// Returns the paths at which something could be seen here, those of the oldest mounts first. `path`
/// is its path for a thread, in the mount with this number.
pub(super) fn paths_here(thread: u32, mount: u64, path: &Path) -> Vec<PathBuf> {
    let Some(mut theirs) = all(&thread.to_string())
        .into_iter()
        .find(|theirs| theirs.id == mount)
    else {
        return Vec::new();
    };
    // Its mounts are listed as it sees them, which may be from another root.
    if let Ok(root) = rustix::fs::readlink(format!("/proc/{thread}/root"), Vec::new()) {
        let at = theirs.at.strip_prefix("/").unwrap_or(&theirs.at);
        theirs.at = match at.as_os_str().is_empty() {
            true => PathBuf::from(OsString::from_vec(root.into_bytes())),
            false => Path::new(&OsString::from_vec(root.into_bytes())).join(at),
        };
    }
    let mut here = all("self");
    here.retain(|here| is_known(here.id, &here.at));
    paths_in(&theirs, &here, path)
}

fn paths_in(theirs: &Mount, here: &[Mount], path: &Path) -> Vec<PathBuf> {
    let Ok(rest) = path.strip_prefix(&theirs.at) else {
        return Vec::new();
    };
    let inside = theirs.root.join(rest);
    let same = here.iter().filter(|here| here.device == theirs.device);
    same.filter_map(|here| Some(here.at.join(inside.strip_prefix(&here.root).ok()?)))
        .collect()
}

fn all(process: &str) -> Vec<Mount> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(read).collect()
}

fn read(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(words.nth(1)?.to_vec()).ok()?;
    let mut path = || Some(PathBuf::from(OsString::from_vec(unescaped(words.next()?))));
    Some(Mount {
        id,
        device,
        root: path()?,
        at: path()?,
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut at = 0;
    while let Some(byte) = word.get(at) {
        let digits = word.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let number = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(number.unwrap_or(*byte));
        at += if number.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> Mount {
        read(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_in_a_sandbox_is_found_where_it_is_here() {
        let here = [
            mount("25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw"),
            mount("29 25 0:30 / /tmp rw - tmpfs none rw"),
            mount("31 25 254:1 /srv/a\\040b /data rw - ext4 /dev/vda rw"),
        ];
        let of = |line: &str, path: &str| paths_in(&mount(line), &here, Path::new(path));
        assert_eq!(
            of(
                "80 79 254:1 /srv/a\\040b/c /mnt ro - ext4 /dev/vda rw",
                "/mnt/d"
            ),
            [Path::new("/srv/a b/c/d"), Path::new("/data/c/d")]
        );
        assert_eq!(
            of("80 79 0:30 / /x rw - tmpfs none rw", "/x"),
            [Path::new("/tmp")]
        );
        assert!(of("80 79 0:77 / /x rw - tmpfs none rw", "/x/y").is_empty());
        assert!(of("80 79 0:30 / /x rw - tmpfs none rw", "/other").is_empty());
    }

    #[test]
    fn the_mount_of_the_root_is_known() {
        remember();
        let root = std::fs::File::open("/").unwrap();
        let top = Path::new("/");
        assert!(of(&root).is_none_or(|id| is_known(id, top)));
        assert!(!is_known(u64::MAX, top));
    }
}
