//! The differences on Windows.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, symlink_dir,
    symlink_file,
};
use std::path::Path;

use crate::model::manifest::{Kind, Stat, Time};

/// Opens a file for reading.
///
/// # Errors
/// It is not there or may not be read.
pub fn open_reading(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file of bdr's own for reading: as [`open_reading`], and never through a link.
///
/// # Errors
/// It is not there, is a link, or may not be read.
pub fn open_own(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    open_reading(path)
}

/// Modes close nothing here.
pub fn open_to_owner(_dir: &Path) -> Option<u32> {
    None
}

/// Modes close nothing here.
pub fn is_closed_to_owner(_dir: &Path) -> bool {
    false
}

/// Modes close nothing here.
pub fn set_dir_mode(_dir: &Path, _mode: u32) -> bool {
    false
}

/// Nobody is root here.
pub fn is_root() -> bool {
    false
}

/// Owners are not checked here: nothing counts as this user's.
pub fn is_own(_stat: &Stat) -> bool {
    false
}

/// Returns what bdr needs of an object's metadata.
///
/// File number, device and number of names are not stable in the standard library (`windows_by_handle`): each file counts as
/// having one name, and the time of creation stands in for the ctime, so that a file that was replaced does not look the same.
pub fn stat_of(metadata: &Metadata) -> Stat {
    const READ_ONLY: u32 = 0x1;
    // Junctions count as symlinks (std: whatever reparse point stands for another name). Reparse points that only store the file
    // elsewhere (deduplicated, OneDrive) are files and directories as any.
    let (kind, mode) = if metadata.is_symlink() {
        (Kind::Symlink, 0o777)
    } else if metadata.is_dir() {
        (Kind::Dir, 0o755)
    } else if metadata.file_attributes() & READ_ONLY != 0 {
        (Kind::File, 0o444)
    } else {
        (Kind::File, 0o644)
    };
    Stat {
        kind,
        mode,
        uid: 0,
        gid: 0,
        size: if kind == Kind::File {
            metadata.file_size()
        } else {
            0
        },
        mtime: time_of(metadata.last_write_time()),
        ctime: time_of(metadata.creation_time()),
        inode: 0,
        device: 0,
        links: 1,
    }
}

/// Lets other processes go first: left to the system here.
pub fn lower_priority() {}

/// Returns the number of the process that started this one: unknown here.
pub fn parent_process() -> Option<u32> {
    None
}

/// Returns true if a file belongs to another user: unknown here.
pub fn is_of_another(_path: &Path) -> bool {
    false
}

/// Returns the owner of a file, if it is another user: unknown here.
pub fn foreign_owner(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}

/// Returns the permission bits of a file: there are none here.
pub fn mode_of(_metadata: &std::fs::Metadata) -> u32 {
    0o644
}

/// Returns the number of the device that a path is on: not known here.
pub fn inode_of(_path: &Path) -> Option<u64> {
    None
}

/// Files below a profile are closed to others as they are.
pub fn closes(_path: &Path) -> Option<String> {
    None
}

/// Unknown here.
pub fn device_of(_path: &Path) -> Option<u64> {
    None
}

/// Returns true if two paths are known to be names of one file: it is not asked for here.
pub fn is_same_file(_a: &Path, _b: &Path) -> bool {
    false
}

/// Returns true if removing `path` frees no space, because the file has another name. `other` is where that would be, for
/// systems that do not count names.
pub fn has_another_name(_path: &Path, other: &Path) -> bool {
    other.exists()
}

/// Makes sure that a file just made has the mode that it was made with: there are no modes here.
///
/// # Errors
/// Never.
pub fn keep_owner_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// The same for a directory.
///
/// # Errors
/// Never.
pub fn ensure_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Returns the number of the file system that a path is on: not known here.
pub fn file_system_of(_path: &Path) -> Option<u64> {
    None
}

/// Returns true if `path` is a directory of this user, no symlink.
pub fn is_own_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Returns the time of the last change of content.
pub fn mtime_of(metadata: &Metadata) -> Time {
    time_of(metadata.last_write_time())
}

/// Returns a time of the file system, which counts 100 ns since 1601.
fn time_of(ticks: u64) -> Time {
    const PER_SECOND: u64 = 10_000_000;
    const UNIX_EPOCH: i64 = 11_644_473_600;
    Time(
        (ticks / PER_SECOND).cast_signed() - UNIX_EPOCH,
        (ticks % PER_SECOND) as u32 * 100,
    )
}

/// Opens whatever is at `path`, a directory or link too, to see and set its times; a link is not followed.
///
/// # Errors
/// It is not there, or belongs to somebody else.
pub fn open_attributes(path: &Path) -> io::Result<File> {
    const FILE_READ_ATTRIBUTES: u32 = 0x80;
    const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
    // Without it no directory can be opened.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    OpenOptions::new()
        .access_mode(FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Makes a symlink of one of the two sorts that there are.
///
/// # Errors
/// The user has neither the privilege nor developer mode.
pub fn symlink(target: &Path, link: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir {
        symlink_dir(target, link)
    } else {
        symlink_file(target, link)
    }
}

/// Returns true for a junction or a symlink to a directory: it is removed as a directory is.
pub fn is_dir_link(metadata: &Metadata) -> bool {
    metadata.file_type().is_symlink_dir()
}

/// The profile directory is private by its access list; files inherit it.
pub fn private_options(_options: &mut OpenOptions, _mode: u32) {}

/// Creates one directory.
///
/// # Errors
/// The parent cannot be written.
pub fn make_dir(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Returns true if `path` is a directory and no symlink. Who may look into it is inherited from where it lies.
pub fn is_private_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// NTFS journals names itself; there is nothing to sync a directory with.
///
/// # Errors
/// Never.
pub fn sync_dir(_path: &Path) -> io::Result<()> {
    super::point("fsync-dir")
}

/// Reads exactly `buffer.len()` bytes at `offset`.
///
/// # Errors
/// The file is shorter, or the device failed.
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Windows knows only the read-only attribute.
///
/// # Errors
/// The system refuses.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let mut permissions = std::fs::metadata(path)?.permissions();
    permissions.set_readonly(mode & 0o200 == 0);
    std::fs::set_permissions(path, permissions)
}

/// Unknown without further libraries.
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// There are no such numbers here.
pub fn user_and_group() -> (u32, u32) {
    (0, 0)
}

/// Returns the object at a path, without following a symlink.
pub fn kind_of(path: &Path) -> Option<Kind> {
    Some(stat_of(&std::fs::symlink_metadata(path).ok()?).kind)
}

/// Unknown without further libraries: a process that may run is taken to run.
pub fn process_runs(_pid: u32) -> bool {
    true
}

/// Unknown without further libraries.
pub fn process_start(_pid: u32) -> Option<chrono::DateTime<chrono::Utc>> {
    None
}

/// Files are synced one by one here.
///
/// # Errors
/// Never.
pub fn sync_file_system(_path: &Path) -> io::Result<()> {
    super::point("syncfs")
}

/// Access lists say who may write here, and bdr does not read them: nothing is staged.
pub fn is_open_to_writers(_dir: &Path) -> bool {
    true
}

/// Owners are not checked.
pub fn is_own_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
