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
/// It does not exist or may not be read.
pub fn open_reading(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens one of bdr's own files for reading, like [`open_reading`] but never through a symlink.
///
/// # Errors
/// It does not exist, is a symlink, or may not be read.
pub fn open_own(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    open_reading(path)
}

pub fn open_to_owner(_dir: &Path) -> Option<u32> {
    None
}

pub fn is_closed_to_owner(_dir: &Path) -> bool {
    false
}

pub fn set_dir_mode(_dir: &Path, _mode: u32) -> bool {
    false
}

pub fn is_root() -> bool {
    false
}

/// Owners are not checked here: nothing counts as this user's.
pub fn is_own(_stat: &Stat) -> bool {
    false
}

/// Returns the stat of an open file, whatever its name is now.
pub fn stat_file(file: &File) -> Option<Stat> {
    file.metadata().ok().map(|metadata| stat_of(&metadata))
}

/// Returns the stat of an object's metadata.
///
/// File id, device and link count are not stable in the standard library (`windows_by_handle`):
/// each file counts as having one name, and the creation time replaces the ctime, so that a
/// replaced file does not look the same.
pub fn stat_of(metadata: &Metadata) -> Stat {
    const READ_ONLY: u32 = 0x1;
    // Junctions count as symlinks (in std, every reparse point that stands for another name does).
    // Reparse points that only store the file elsewhere (deduplicated, OneDrive) are ordinary files
    // and directories.
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

/// Does nothing: priorities are left to the system here.
pub fn lower_priority() {}

pub fn parent_process() -> Option<u32> {
    None
}

pub fn is_of_another(_path: &Path) -> bool {
    false
}

pub fn foreign_owner(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}

/// There are no permission bits here.
pub fn mode_of(_metadata: &std::fs::Metadata) -> u32 {
    0o644
}

pub fn inode_of(_path: &Path) -> Option<u64> {
    None
}

/// Returns nothing: the profile closes files to others already.
pub fn closes(_path: &Path) -> Option<String> {
    None
}

pub fn device_of(_path: &Path) -> Option<u64> {
    None
}

/// Returns false: not determined here.
pub fn is_same_file(_a: &Path, _b: &Path) -> bool {
    false
}

/// Returns true if removing `path` frees no space, because the file has another name. `other` is
/// that name, for systems that do not count hard links.
pub fn has_another_name(_path: &Path, other: &Path) -> bool {
    other.exists()
}

/// Does nothing: there are no modes here.
///
/// # Errors
/// Never.
pub fn keep_owner_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Does nothing: there are no modes here.
///
/// # Errors
/// Never.
pub fn ensure_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Nobody looks at access control lists here.
pub fn is_open_to_readers(_file: &Path) -> bool {
    false
}

pub fn file_system_of(_path: &Path) -> Option<u64> {
    None
}

/// Returns true if `path` is a directory, not a symlink; owners are not checked.
pub fn is_own_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

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

/// Opens the object at `path`, even a directory or link, to read and set its times; a link is not
/// followed.
///
/// # Errors
/// It does not exist, or belongs to somebody else.
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

/// Creates a symlink of one of the two kinds.
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

/// Returns true for a junction or a symlink to a directory: both are removed like a directory.
pub fn is_dir_link(metadata: &Metadata) -> bool {
    metadata.file_type().is_symlink_dir()
}

/// Does nothing: the access control list of the profile makes it private, and files inherit it.
pub fn private_options(_options: &mut OpenOptions, _mode: u32) {}

/// Creates one directory.
///
/// # Errors
/// The parent cannot be written.
pub fn make_dir(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Returns true if `path` is a directory and not a symlink. Its access control list is inherited.
pub fn is_private_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Does nothing: NTFS journals names itself, and directories cannot be synced.
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

/// Windows only has the read-only attribute.
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

/// There are no such ids here.
pub fn user_and_group() -> (u32, u32) {
    (0, 0)
}

/// Returns the kind of the object at a path, without following a symlink.
pub fn kind_of(path: &Path) -> Option<Kind> {
    Some(stat_of(&std::fs::symlink_metadata(path).ok()?).kind)
}

/// Unknown without further libraries: any process counts as running.
pub fn process_runs(_pid: u32) -> bool {
    true
}

/// Unknown without further libraries.
pub fn process_start(_pid: u32) -> Option<chrono::DateTime<chrono::Utc>> {
    None
}

/// Does nothing: files are synced one by one here.
///
/// # Errors
/// Never.
pub fn sync_file_system(_path: &Path) -> io::Result<()> {
    super::point("syncfs")
}

/// Returns true: bdr does not read access control lists, so it stages nothing here.
pub fn is_open_to_writers(_dir: &Path) -> bool {
    true
}

/// Owners are not checked here.
pub fn is_own_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
