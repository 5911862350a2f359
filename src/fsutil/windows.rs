//! What is different on Windows.
#![expect(
    clippy::disallowed_methods,
    reason = "part of the one place that writes"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::FileExt as _;
use std::path::Path;

/// The profile directory is private by its access list; files inherit it.
pub fn private_options(_options: &mut OpenOptions, _mode: u32) {}

/// Creates one directory.
///
/// # Errors
/// The parent cannot be written.
pub fn make_dir(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::create_dir(path)
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

/// Unknown without further libraries: a process that may run is taken to run.
pub fn process_runs(_pid: u32) -> bool {
    true
}

/// Files are synced one by one here.
///
/// # Errors
/// Never.
pub fn sync_file_system(_path: &Path) -> io::Result<()> {
    super::point("syncfs")
}
