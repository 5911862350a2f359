//! The differences on Unix.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::fs::{FileType, Mode, OFlags};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use crate::model::manifest::{Kind, Stat, Time};

/// Flags for opening directories: never through a symlink.
pub const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Flags for opening a symlink itself, only to name it by its handle.
#[cfg(target_os = "linux")]
pub const LINK_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The same without `O_PATH`: opens no symlinks, so their attributes are not stored.
#[cfg(not(target_os = "linux"))]
pub const LINK_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory of this user that is closed to them; returns its previous mode, or `None` if
/// there was nothing to do or it is somebody else's.
pub fn open_to_owner(dir: &Path) -> Option<u32> {
    let mode = closed_mode(dir)?;
    set_dir_mode(dir, mode | 0o700).then_some(mode)
}

/// Returns true for a directory of this user that its owner cannot read.
pub fn is_closed_to_owner(dir: &Path) -> bool {
    closed_mode(dir).is_some_and(|mode| mode & 0o500 != 0o500)
}

fn closed_mode(dir: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(dir).ok()?;
    let mode = found.mode() & 0o7777;
    let closed = found.is_dir() && found.uid() == user_number() && mode & 0o700 != 0o700;
    closed.then_some(mode)
}

/// Sets the mode of a directory, but never through a symlink; returns false on failure.
pub fn set_dir_mode(dir: &Path, mode: u32) -> bool {
    let mode = std::fs::Permissions::from_mode(mode);
    #[cfg(target_os = "linux")]
    {
        // By a handle that needs no read permission and follows no symlink.
        let flags = LINK_FLAGS | OFlags::DIRECTORY;
        let Ok(held) = rustix::fs::open(dir, flags, Mode::empty()) else {
            return false;
        };
        let number = std::os::fd::AsRawFd::as_raw_fd(&held);
        std::fs::set_permissions(format!("/proc/self/fd/{number}"), mode).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let is_dir = std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir());
        is_dir && std::fs::set_permissions(dir, mode).is_ok()
    }
}

/// Returns true if this process acts as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens a path below an open directory, or an absolute one, without following a symlink anywhere
/// on the way: a directory that was just checked may be a symlink by now, and lead anywhere.
///
/// Linux has `openat2` for this since 5.6, macOS `O_NOFOLLOW_ANY` since 11; elsewhere only the end
/// of the path is protected.
///
/// # Errors
/// `LOOP` for a symlink; otherwise as `openat`.
pub fn open_unlinked(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    match rustix::fs::openat2(dir, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // From an old kernel, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => return other,
    }
    #[cfg(target_os = "macos")]
    let flags = flags.difference(OFlags::NOFOLLOW) | OFlags::NOFOLLOW_ANY;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// Returns a path as a C string.
///
/// # Errors
/// It contains a NUL.
pub fn c_path(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::from)
}

/// Opens a file for reading; a FIFO in its place does not block.
///
/// # Errors
/// It does not exist or may not be read.
pub fn open_reading(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// Opens one of bdr's own files for reading, like [`open_reading`] but never through a symlink.
///
/// # Errors
/// It does not exist, is a symlink, or may not be read.
pub fn open_own(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Returns the stat of an open file, whatever its name is now.
pub fn stat_file(file: &File) -> Option<Stat> {
    rustix::fs::fstat(file).ok().map(|stat| stat_of(&stat))
}

pub fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::File,
    };
    #[expect(
        clippy::unnecessary_cast,
        reason = "the types of these members differ between systems"
    )]
    Stat {
        kind,
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // The size of a directory or symlink is nothing that a restore could bring back.
        size: if kind == Kind::File {
            stat.st_size as u64
        } else {
            0
        },
        mtime: Time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        ctime: Time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        inode: stat.st_ino as u64,
        device: stat.st_dev as u64,
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
    }
}

pub fn mtime_of(metadata: &std::fs::Metadata) -> Time {
    use std::os::unix::fs::MetadataExt as _;
    Time(
        metadata.mtime(),
        u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
    )
}

/// Makes a file private: `mode`, never through a symlink, not inherited by children.
pub fn private_options(options: &mut OpenOptions, mode: u32) {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    options.mode(mode).custom_flags(flags.bits().cast_signed());
}

/// Creates one directory.
///
/// # Errors
/// The parent cannot be written.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::DirBuilder::new().mode(mode).create(path)?;
    // Whatever the umask says, bdr gets at what it makes.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Returns this user's id.
pub fn user_number() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub fn is_own(stat: &Stat) -> bool {
    stat.uid == user_number()
}

/// Returns the ids of user and group for whom this process acts.
pub fn user_and_group() -> (u32, u32) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    (user.as_raw(), group.as_raw())
}

/// Returns true if `path` is a directory, not a symlink, that belongs to this user and is open to
/// nobody else.
pub fn is_private_dir(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir() && found.uid() == user_number() && found.mode() & 0o077 == 0
    })
}

pub fn inode_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| found.ino())
}

/// Returns the command that makes an existing file private to this user, if it is not.
pub fn closes(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(path).ok()?;
    let shown = crate::base::path::shell_word(&crate::base::path::show(path.as_os_str()));
    if !found.is_file() {
        return Some(format!("ls -l {shown}"));
    }
    if found.uid() != user_number() {
        return Some(format!("chown {} {shown}", user_number()));
    }
    (found.mode() & 0o077 != 0).then(|| format!("chmod 600 {shown}"))
}

pub fn parent_process() -> Option<u32> {
    Some(std::os::unix::process::parent_id())
}

pub fn is_of_another(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.uid() != user_number())
}

/// Returns the owner of a file, if it is neither this user nor root.
pub fn foreign_owner(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = metadata.uid();
    (owner != user_number() && owner != 0).then_some(owner)
}

pub fn mode_of(metadata: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.mode() & 0o7777
}

pub fn device_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::symlink_metadata(path).ok()?.dev())
}

/// Returns true if two paths are names of one file; symlinks are not followed.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let number = |path: &Path| {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    number(a).is_some_and(|one| number(b) == Some(one))
}

/// Returns true if removing `path` frees no space, because the file has another name. `other` is
/// that name, for systems that do not count hard links.
pub fn has_another_name(path: &Path, _other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.nlink() > 1)
}

/// Returns the persistent id of a path's file system, if it has one.
pub fn file_system_of(path: &Path) -> Option<u64> {
    let number = rustix::fs::statvfs(path).ok()?.f_fsid;
    (number != 0).then_some(number)
}

/// Returns true if others than the owner may read a file.
pub fn is_open_to_readers(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.mode() & 0o044 != 0)
}

/// Returns true if others than the owner may remove names in a directory, or if that is unknown. In
/// a sticky one they may not.
pub fn is_open_to_writers(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let is_open = |mode: u32| mode & 0o022 != 0 && mode & 0o1000 == 0;
    std::fs::symlink_metadata(dir).map_or(true, |found| is_open(found.mode()))
}

/// Returns true for a directory in which everybody may make names, and remove only their own.
#[cfg(target_os = "linux")]
pub fn is_sticky(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(dir);
    found.is_ok_and(|found| found.is_dir() && found.mode() & 0o1002 == 0o1002)
}

/// Returns true if the object at a path, without following a symlink, belongs to this user.
pub fn is_own_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.uid() == user_number())
}

/// Returns true if `path` is a directory of this user, not a symlink.
pub fn is_own_dir(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == user_number())
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The device failed. File systems that cannot sync a directory (some network ones) are trusted.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    super::point("fsync-dir")?;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match File::open(path).and_then(|dir| dir.sync_all()) {
        // EINVAL, ENOTSUP and, on SMB, ENOENT: https://github.com/restic/restic/issues/3720
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Reads exactly `buffer.len()` bytes at `offset`.
///
/// # Errors
/// The file is shorter, or the device failed.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Makes sure that a new file has the mode with which it was created: a umask can lock out even the
/// owner.
///
/// # Errors
/// The system refuses.
pub fn keep_owner_mode(file: &File, mode: u32) -> io::Result<()> {
    let has = rustix::fs::fstat(file)?.st_mode as u32 & 0o7777;
    // The mode itself keeps others out. Only restore the rights that the owner lacks.
    if has & 0o700 != mode & 0o700 {
        rustix::fs::fchmod(
            file,
            Mode::from_raw_mode(((has & 0o077) | (mode & 0o700)) as _),
        )?;
    }
    Ok(())
}

/// As `keep_owner_mode`, for a directory.
///
/// # Errors
/// The system refuses.
pub fn ensure_mode(path: &Path, mode: u32) -> io::Result<()> {
    let has = mode_of(&std::fs::symlink_metadata(path)?);
    if has & 0o700 != mode & 0o700 {
        set_mode(path, mode)?;
    }
    Ok(())
}

/// Returns the bytes available to this user on the file system of `path`, if the system tells.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Lets other processes go first.
pub fn lower_priority() {
    let _ = rustix::process::nice(10);
}

pub fn process_runs(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    // A zombie: it has ended, but nobody has reaped it.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    if stat.is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    }) {
        return false;
    }
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// Returns the kind of the object at a path, without following a symlink.
pub fn kind_of(path: &Path) -> Option<Kind> {
    Some(stat_of(&rustix::fs::lstat(path).ok()?).kind)
}

/// Returns when a process started, to some hundredths of a second, if the system tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn process_start(pid: u32) -> Option<chrono::DateTime<chrono::Utc>> {
    use rustix::time::{ClockId, clock_gettime};
    // Ticks are hundredths of a second on every Linux; see proc(5).
    const TICK_NANOS: i64 = 10_000_000;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may contain anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    let ticks: i64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    // The boot time in /proc/stat is precise only to the second.
    let nanos = |id| {
        let time = clock_gettime(id);
        time.tv_sec
            .checked_mul(1_000_000_000)?
            .checked_add(time.tv_nsec)
    };
    let since = nanos(ClockId::Boottime)?.checked_sub(ticks.checked_mul(TICK_NANOS)?)?;
    let start = nanos(ClockId::Realtime)?.checked_sub(since)?;
    Some(chrono::DateTime::from_timestamp_nanos(start))
}

/// Returns nothing: it is unknown here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn process_start(_pid: u32) -> Option<chrono::DateTime<chrono::Utc>> {
    None
}

/// Flushes the whole file system of `path`.
///
/// # Errors
/// The device failed.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    super::point("syncfs")?;
    let dir = File::open(path)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        Ok(rustix::fs::syncfs(&dir)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        dir.sync_all()?;
        rustix::fs::sync();
        Ok(())
    }
}
