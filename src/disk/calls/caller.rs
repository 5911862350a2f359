//! What a stopped process means by its arguments: read from `/proc`, see proc(5).

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

use super::abi::{Place, pointer};
use super::kernel::{self, Notification};
use super::mounts;
use crate::disk::fsutil::{self, c_path, stat_of};
use crate::model::manifest::{Kind, Stat};

/// The longest path that the kernel takes, with its end, in bytes.
const MAX_PATH: usize = 4096;
/// How many symlinks the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Arguments of a program that are read, and bytes of each.
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT: usize = 512;

const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Where something is: an open directory and a name in it, as the caller will find it.
pub struct Spot {
    pub dir: OwnedFd,
    pub name: Vec<u8>,
    /// The absolute path, free of symlinks up to the name.
    pub path: PathBuf,
    /// It is in a mount of the caller's that cannot be reached from here, or that hides what else has
    /// this path: nothing can be kept of it, and the path is the caller's.
    pub is_foreign: bool,
    /// What was there, if that was looked at on the way.
    looked: Option<Option<Stat>>,
}

impl Spot {
    /// Returns a spot in a directory whose path is known.
    pub fn new(dir: OwnedFd, name: Vec<u8>, path: PathBuf) -> Self {
        Self {
            dir,
            name,
            path,
            is_foreign: false,
            looked: None,
        }
    }

    /// Returns what was there when the path was followed, or is now.
    ///
    /// # Errors
    /// As [`Spot::stat`].
    pub fn found(&self) -> io::Result<Option<Stat>> {
        match self.looked {
            Some(found) => Ok(found),
            None => self.stat(),
        }
    }

    /// Returns what is there; `None` if nothing is.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, c_path(&self.name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat_of(&stat))),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the directory as an object of its own.
    pub fn parent_path(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// A process, or a thread of one, that waits for an answer.
pub struct Caller<'a> {
    call: &'a Notification,
    memory: Option<File>,
    /// Whether it is in our mount namespace, once that was asked.
    is_here: OnceCell<bool>,
}

impl<'a> Caller<'a> {
    pub fn new(call: &'a Notification) -> Self {
        Self {
            call,
            memory: None,
            is_here: OnceCell::new(),
        }
    }

    fn proc(&self, rest: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{rest}", self.call.thread))
    }

    /// Returns the number of the thread.
    pub fn thread(&self) -> u32 {
        self.call.thread
    }

    /// Returns an argument as a number.
    pub fn argument(&self, number: u8) -> u64 {
        self.call.args[usize::from(number)]
    }

    /// Returns true if the process runs this program.
    pub fn is_this_program(&self) -> bool {
        let id = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        let theirs = id(&self.proc("exe"));
        theirs.is_ok() && theirs == id(Path::new("/proc/self/exe"))
    }

    /// Reads from the memory of the process.
    fn memory(&mut self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // It ends at the first page that is not there.
        let page = 4096 - usize::try_from(address % 4096).unwrap_or(0);
        let first = page.min(buffer.len());
        let at_once = kernel::read_memory(self.call.thread, address, buffer);
        match at_once
            .or_else(|_| kernel::read_memory(self.call.thread, address, &mut buffer[..first]))
        {
            Ok(n) => Ok(n),
            // Some kernels have no such call.
            Err(_) => {
                if self.memory.is_none() {
                    self.memory = Some(File::open(self.proc("mem"))?);
                }
                match &self.memory {
                    Some(memory) => memory.read_at(buffer, address),
                    None => Ok(0),
                }
            }
        }
    }

    /// Returns the first number of the structure that an argument points to.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn number_at(&mut self, argument: u8) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let address = self.argument(argument);
        match self.memory(address, &mut bytes)? {
            8 => Ok(u64::from_ne_bytes(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns the text that an argument points to; `None` for a null pointer.
    fn text(&mut self, argument: u8) -> io::Result<Option<Vec<u8>>> {
        let address = self.argument(argument);
        if address == 0 {
            return Ok(None);
        }
        let mut text = Vec::new();
        // Most paths are short, and reading past the end of a mapping gives what there is.
        for want in [256, MAX_PATH] {
            text.resize(want, 0);
            let n = self.memory(address, &mut text)?;
            text.truncate(n);
            if let Some(end) = memchr::memchr(0, &text) {
                text.truncate(end);
                return Ok(Some(text));
            }
        }
        Err(io::ErrorKind::InvalidInput.into())
    }

    /// Returns the arguments of a program that is about to start, as far as they are short.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn arguments(&mut self, argument: u8) -> io::Result<Vec<Vec<u8>>> {
        let width = pointer(self.call.arch);
        let mut at = self.argument(argument);
        let mut found = Vec::new();
        while at != 0 && found.len() < MAX_ARGUMENTS {
            let mut bytes = [0; 8];
            if self.memory(at, &mut bytes[..width])? != width {
                break;
            }
            let address = u64::from_le_bytes(bytes);
            if address == 0 {
                break;
            }
            let mut text = vec![0; MAX_ARGUMENT];
            let n = self.memory(address, &mut text)?;
            let end = memchr::memchr(0, &text[..n]).unwrap_or(n);
            text.truncate(end);
            found.push(text);
            at += width as u64;
        }
        Ok(found)
    }

    /// Returns where a call will find what it names. `None` if nothing that could be lost is meant:
    /// the directory does not exist, or the object has no name any more.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn spot(&mut self, place: Place, follow: bool) -> io::Result<Option<Spot>> {
        let Some(text) = self.text(place.path)? else {
            return match place.at {
                // utimensat(2) without a path means the open file.
                Some(at) => self.open_spot(at),
                None => Ok(None),
            };
        };
        let base = place.at.map(|at| self.argument(at) as u32 as i32);
        if text.is_empty() {
            return match place.at {
                Some(at) => self.open_spot(at),
                None => Ok(None),
            };
        }
        if let Some(number) = own_file(&text, self.call.thread) {
            return self.spot_of_file(&number);
        }
        let found = self.followed(base, &text, follow)?;
        found.map(|spot| self.seen_here(spot)).transpose()
    }

    /// Resolves a path as the process does.
    fn followed(&self, base: Option<i32>, text: &[u8], follow: bool) -> io::Result<Option<Spot>> {
        let mut found = self.in_directory(base, text)?;
        let mut links = 0;
        while let Some(spot) = found.as_mut().filter(|_| follow) {
            let stat = spot.stat()?;
            if stat.is_none_or(|stat| stat.kind != Kind::Symlink) {
                spot.looked = Some(stat);
                break;
            }
            links += 1;
            if links > MAX_LINKS {
                return Ok(None);
            }
            let target = rustix::fs::readlinkat(&spot.dir, c_path(&spot.name)?, Vec::new())?;
            let target = target.into_bytes();
            found = match target.first() {
                Some(b'/') => self.in_directory(None, &target)?,
                _ => below(spot.dir.try_clone()?, &target)?,
            };
        }
        Ok(found)
    }

    /// A process in another mount namespace sees other mounts, and no link can be made from one
    /// mount to another: looks from here at the same object. So it is with mounts that the command
    /// has made: what it deletes there had another path before, and has it again afterwards.
    fn seen_here(&self, spot: Spot) -> io::Result<Spot> {
        let mount = mounts::of(&spot.dir);
        // Another namespace has mounts of its own, with their own numbers.
        if mount.is_some_and(|mount| mounts::is_known(mount, &spot.path)) {
            return Ok(spot);
        }
        if self.sees_what_we_see() {
            if mount.is_none() {
                return Ok(spot);
            }
            return Ok(self.elsewhere(&spot)?.unwrap_or_else(|| Spot {
                is_foreign: mounts::covers(&spot.path),
                ..spot
            }));
        }
        if let Some(here) = split(&spot.path)?.filter(|here| is_same(here, &spot)) {
            return Ok(here);
        }
        let here = self.elsewhere(&spot)?;
        Ok(here.unwrap_or(Spot {
            is_foreign: true,
            ..spot
        }))
    }

    fn sees_what_we_see(&self) -> bool {
        *self.is_here.get_or_init(|| {
            let theirs = rustix::fs::readlink(self.proc("ns/mnt"), Vec::new());
            let ours = rustix::fs::readlink("/proc/self/ns/mnt", Vec::new());
            theirs.is_ok() && theirs.ok() == ours.ok()
        })
    }

    /// Returns the same object under another path, which it has here.
    fn elsewhere(&self, spot: &Spot) -> io::Result<Option<Spot>> {
        let object = rustix::fs::openat(
            &spot.dir,
            c_path(&spot.name)?,
            LOOK | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        // A single file can be mounted, too.
        let in_object = object.ok().and_then(mounts::of);
        let in_dir = mounts::of(&spot.dir);
        let mut paths = Vec::new();
        if let Some(mount) = in_object {
            paths = mounts::paths_here(self.call.thread, mount, &spot.path);
        }
        if let (Some(mount), Some(name)) = (in_dir, spot.path.file_name())
            && in_dir != in_object
        {
            let dirs = mounts::paths_here(self.call.thread, mount, spot.parent_path());
            paths.extend(dirs.iter().map(|dir| dir.join(name)));
        }
        for path in paths {
            if let Some(here) = split(&path)?.filter(|here| is_same(here, spot)) {
                return Ok(Some(here));
            }
        }
        Ok(None)
    }

    /// Notes that something is mounted on a directory. What is in it then has paths that other objects
    /// have without it, or, if the directory is new, that seem to be new.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn mounts(&mut self, on: Place, is_new: impl FnOnce(&Path) -> bool) -> io::Result<()> {
        if let Some(spot) = self.spot(on, true)?
            && self.sees_what_we_see()
        {
            let is_empty =
                fsutil::read_dir(&spot.path).is_ok_and(|mut entries| entries.next().is_none());
            if !is_empty || is_new(&spot.path) {
                mounts::cover(spot.path);
            }
        }
        Ok(())
    }

    /// Returns where the file is that an argument holds open.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn open_spot(&self, argument: u8) -> io::Result<Option<Spot>> {
        let number = self.argument(argument) as u32 as i32;
        match number {
            libc::AT_FDCWD => self.spot_at(&self.proc("cwd")),
            _ => self.spot_of_file(&number.to_string()),
        }
    }

    fn spot_of_file(&self, number: &str) -> io::Result<Option<Spot>> {
        self.spot_at(&self.proc(&format!("fd/{number}")))
    }

    /// Returns where the object is that a link of `/proc` leads to; `None` if it has no name.
    fn spot_at(&self, link: &Path) -> io::Result<Option<Spot>> {
        let Some(path) = where_is(link)? else {
            return Ok(None);
        };
        let Ok(open) = rustix::fs::open(link, LOOK, Mode::empty()) else {
            return Ok(None);
        };
        let mount = mounts::of(&open);
        let is_ours = self.sees_what_we_see();
        let mut paths = Vec::new();
        if let Some(mount) = mount.filter(|mount| !is_ours || !mounts::is_known(*mount, &path)) {
            paths = mounts::paths_here(self.call.thread, mount, &path);
        }
        paths.push(path);
        let open = stat_of(&rustix::fs::fstat(&open)?);
        for path in paths {
            // The name may belong to something else by now.
            let found = split(&path)?;
            let named = found.as_ref().map(Spot::stat).transpose()?.flatten();
            if named.is_some_and(|named| (named.device, named.inode) == (open.device, open.inode)) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Resolves a path as the process does, but for a final symlink.
    fn in_directory(&self, base: Option<i32>, text: &[u8]) -> io::Result<Option<Spot>> {
        if text.first() == Some(&b'/') {
            let root =
                rustix::fs::open(self.proc("root"), LOOK | OFlags::DIRECTORY, Mode::empty())?;
            // The same directory is not the same root where other things are mounted below it.
            let is_ours = is_our_root(&root) && self.sees_what_we_see();
            return in_root(root, text, is_ours);
        }
        let base = match base {
            None | Some(libc::AT_FDCWD) => self.proc("cwd"),
            Some(number) => self.proc(&format!("fd/{number}")),
        };
        match rustix::fs::open(base, LOOK | OFlags::DIRECTORY, Mode::empty()) {
            Ok(dir) => below(dir, text),
            Err(error) => nowhere(error),
        }
    }
}

/// Returns true if both names mean one object or, where nothing is there yet, would.
fn is_same(one: &Spot, other: &Spot) -> bool {
    let id = |spot: &Spot| match spot.stat() {
        Ok(Some(stat)) => Some((true, stat.device, stat.inode)),
        Ok(None) => {
            let dir = rustix::fs::fstat(&spot.dir).ok()?;
            Some((false, dir.st_dev, dir.st_ino))
        }
        Err(_) => None,
    };
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// Returns true for the directory of this process's own root.
fn is_our_root(root: &OwnedFd) -> bool {
    let here = rustix::fs::stat("/");
    let there = rustix::fs::fstat(root);
    here.is_ok_and(|here| {
        there.is_ok_and(|there| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
    })
}

fn nowhere<T>(error: rustix::io::Errno) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::BADF | Errno::NAMETOOLONG => Ok(None),
        other => Err(other.into()),
    }
}

/// Returns the number in a path that means an open file of the process itself.
fn own_file(text: &[u8], thread: u32) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let own = format!("/proc/{thread}/fd/");
    let named = [
        ("/dev/stdin", "0"),
        ("/dev/stdout", "1"),
        ("/dev/stderr", "2"),
    ];
    if let Some((_, number)) = named.iter().find(|(name, _)| *name == text) {
        return Some((*number).to_owned());
    }
    let prefixes = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", &own];
    let number = prefixes
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| number.to_owned())
}

/// Splits off the last component; `None` in place of a name for one that is no name.
fn last(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = text.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let text = &text[..end];
    let cut = memchr::memrchr(b'/', text).map_or(0, |at| at + 1);
    match &text[cut..] {
        b"" | b"." | b".." => (text, None),
        name => (&text[..cut], Some(name)),
    }
}

/// Resolves an absolute path below the root of a process.
fn in_root(root: OwnedFd, text: &[u8], is_ours: bool) -> io::Result<Option<Spot>> {
    let (above, name) = last(text);
    let above = if above.is_empty() { b"/" } else { above };
    let flags = LOOK | OFlags::DIRECTORY;
    let dir = if is_ours {
        rustix::fs::openat(CWD, c_path(above)?, flags, Mode::empty())
    } else {
        // Absolute symlinks on the way count from there.
        let path = c_path(above)?;
        rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    match dir {
        Ok(dir) => spot_in(dir, name),
        Err(error) => nowhere(error),
    }
}

/// Resolves a relative path.
fn below(dir: OwnedFd, text: &[u8]) -> io::Result<Option<Spot>> {
    let (above, name) = last(text);
    if above.is_empty() {
        return spot_in(dir, name);
    }
    let flags = LOOK | OFlags::DIRECTORY;
    match rustix::fs::openat(&dir, c_path(above)?, flags, Mode::empty()) {
        Ok(dir) => spot_in(dir, name),
        Err(error) => nowhere(error),
    }
}

/// Returns a spot in an open directory; without a name, the directory itself.
fn spot_in(dir: OwnedFd, name: Option<&[u8]>) -> io::Result<Option<Spot>> {
    use std::os::fd::AsRawFd as _;
    let link = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let Some(path) = where_is(&link)? else {
        return Ok(None);
    };
    match name {
        Some(name) => Ok(Some(Spot {
            dir,
            name: name.to_vec(),
            path: path.join(OsStr::from_bytes(name)),
            is_foreign: false,
            looked: None,
        })),
        None => split(&path),
    }
}

/// Returns where a link of `/proc` leads; `None` if that has no name, or none that can be reached
/// from here.
fn where_is(link: &Path) -> io::Result<Option<PathBuf>> {
    let path = match rustix::fs::readlink(link, Vec::new()) {
        Ok(path) => path.into_bytes(),
        // It is there, and bdr cannot say where.
        Err(error @ rustix::io::Errno::NAMETOOLONG) => return Err(error.into()),
        Err(error) => return nowhere(error),
    };
    // Pipes and sockets have other texts, and what is unreachable is said to be.
    let gone =
        path.first() != Some(&b'/') || path.ends_with(b" (deleted)") && !is_named(link, &path);
    Ok((!gone).then(|| PathBuf::from(std::ffi::OsString::from_vec(path))))
}

/// Returns true if a link of `/proc` leads to what has this path: a name may end in ` (deleted)`, too.
fn is_named(link: &Path, path: &[u8]) -> bool {
    let named = rustix::fs::lstat(OsStr::from_bytes(path));
    let open = rustix::fs::stat(link);
    named.is_ok_and(|named| {
        open.is_ok_and(|open| (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
    })
}

/// Returns the spot of an absolute path that is free of symlinks.
fn split(path: &Path) -> io::Result<Option<Spot>> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    match rustix::fs::open(above, LOOK | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(Spot {
            dir,
            name: name.as_bytes().to_vec(),
            path: path.to_path_buf(),
            is_foreign: false,
            looked: None,
        })),
        Err(error) => nowhere(error),
    }
}

impl std::fmt::Debug for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spot").field(&self.path).finish()
    }
}
