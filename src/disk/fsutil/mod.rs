//! The only module that writes files.
//!
//! Whatever must survive is written to a temporary file in the same directory, fsynced, renamed
//! into place, and the directory fsynced, in that order. After a failed fsync the file is
//! abandoned, never synced again, because the kernel may have marked its pages clean. Platform
//! differences are in `unix.rs` and `windows.rs` behind the same functions.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that writes"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::base::error::{IoContext as _, Result};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::*;

pub mod area;
pub mod dir;
mod lock;
mod opened;
mod own;
pub use dir::{Dir, Found, Identity};
pub use lock::{Lock, Sharing};
pub use opened::Opened;
pub use own::{OwnTree, clear, remove_empty_dir};
#[cfg(unix)]
pub mod attributes;
#[cfg(unix)]
mod listed;
#[cfg(unix)]
pub use listed::{DirEntry, ReadDir, read_dir};
pub use std::fs::File;
#[cfg(windows)]
pub use std::fs::{DirEntry, ReadDir, read_dir};
#[cfg(target_os = "linux")]
pub mod socket;
pub mod target;

/// Returns an absolute path without symlinks, in the one form that all paths have: on Windows
/// `C:\x`, not `\\?\C:\x`, which names the same file but compares as different. (std's function
/// returns the latter, so clippy.toml denies it.)
///
/// # Errors
/// Nothing is at `path`, or the way there cannot be read.
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    dunce::canonicalize(path)
}

/// Writes a file so that it has either its old or its new content, whatever happens; durable when
/// it returns.
///
/// A symlink at `path` is followed: its target is replaced, not the link.
///
/// # Errors
/// The directory cannot be written, or the disk is full; then the old content stays.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let path = canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let dir = path.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = create_temporary(dir, mode).context("write", &path)?;
    let written = (|| {
        point("write")?;
        file.write_all(bytes)?;
        point("fsync")?;
        file.sync_all()?;
        point("rename")?;
        rename(&temporary, &path)?;
        sync_dir(dir)
    })();
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written.context("write", &path)
}

/// Writes a file that does not exist yet; durable when it returns.
///
/// # Errors
/// It exists, or the directory cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_new_named_later(path, bytes, mode).context("write", path)?;
    sync_dir(path.parent().unwrap_or(Path::new("."))).context("write", path)
}

/// As [`write_new`], but only the content is durable: the caller fsyncs the directory when it has
/// made everything in it.
fn write_new_named_later(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = create_temporary(dir, mode)?;
    let written = (|| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // A hard link never replaces anything; without hard links, a check before the rename is
        // nearly as good.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
                fs::rename(&temporary, path)
            }
            other => other,
        }
    })();
    let _ = fs::remove_file(&temporary);
    written
}

/// Creates a file that is only appended to, and that only this user may read.
///
/// # Errors
/// It exists, or the directory cannot be written.
pub fn create_journal(path: &Path) -> io::Result<File> {
    point("write")?;
    let mut options = OpenOptions::new();
    options.create_new(true).append(true);
    private_options(&mut options, 0o600);
    options.open(path)
}

/// Hard-links one of bdr's own files, or copies it if that is impossible. An existing target stays.
///
/// # Errors
/// Neither works.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            fs::copy(from, to).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Writes a derived file atomically but not durably: losing it only costs time.
///
/// # Errors
/// The directory cannot be written.
pub fn write_derived(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = create_temporary(dir, 0o600).context("write", path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.context("write", path)
}

/// Overwrites the beginning of an existing derived file in place.
///
/// # Errors
/// It does not exist, or cannot be written.
pub fn overwrite_derived(path: &Path, bytes: &[u8]) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .context("write", path)
}

/// Appends to a derived file.
///
/// # Errors
/// The file cannot be opened or written.
pub fn append_derived(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    private_options(&mut options, 0o600);
    let is_new = !path.exists();
    options
        .open(path)
        .and_then(|mut f| {
            if is_new {
                keep_owner_mode(&f, 0o600)?;
            }
            f.write_all(bytes)
        })
        .context("write", path)
}

/// Reads a derived file. An unreadable one counts as missing, because its content can be derived
/// again.
pub fn read_derived(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// Returns the size of a derived file in bytes; `None` as in [`read_derived`].
pub fn size_of_derived(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|stat| stat.len())
}

/// Opens a derived file for reading; `None` as in [`read_derived`].
pub fn open_derived(path: &Path) -> Option<File> {
    File::open(path).ok()
}

/// Opens the file on which locks are taken, and creates it if it is missing.
///
/// # Errors
/// The directory cannot be written, or something else is there.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private_options(&mut options, 0o600);
    let is_new = !path.exists();
    let opened = options.open(path).and_then(|file| {
        if is_new {
            keep_owner_mode(&file, 0o600)?;
        }
        Ok(file)
    });
    opened.or_else(|error| {
        // On read-only media, a shared lock works on a file that can only be read.
        if path.exists() {
            open_own(path)
        } else {
            Err(error)
        }
    })
}

/// Creates a directory and its parents, each 0700; durable when it returns. An existing one is left
/// as it is.
///
/// # Errors
/// A parent cannot be written, or something else is there.
pub fn create_dir_private(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dir_private(parent)?;
    }
    point("mkdir").context("create", path)?;
    match make_dir(path, 0o700) {
        Ok(()) => ensure_mode(path, 0o700).context("create", path)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error).context("create", path),
    }
    sync_dir(path.parent().unwrap_or(Path::new("."))).context("create", path)
}

/// Creates a file with an unguessable name; returns it and its path.
///
/// # Errors
/// The directory cannot be written.
pub fn create_temporary(dir: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..16 {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = dir.join(format!("{TEMPORARY_PREFIX}{}", hex::encode(random)));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        private_options(&mut options, mode);
        point("create")?;
        match options.open(&path) {
            Ok(file) => {
                // A umask may have removed rights of the owner.
                keep_owner_mode(&file, mode)?;
                return Ok((file, path));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The name of staging areas outside of the repository.
pub const AREA_NAME: &str = ".bdr-staging";

/// Returns true for names that bdr may have given; [`is_own_object`] determines whether it did.
pub fn may_be_own(name: &[u8]) -> bool {
    name.starts_with(b".bdr-")
}

/// Returns true for objects that only bdr makes, wherever they are: they belong to no snapshot.
/// Something with such a name that bdr did not make is a user's file.
pub fn is_own_object(path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return false;
    };
    if name == AREA_NAME {
        return area::is_place(path);
    }
    let is_plain = |found: fs::Metadata| found.is_file() || found.is_symlink();
    is_temporary_name(name.as_encoded_bytes())
        && fs::symlink_metadata(path).is_ok_and(is_plain)
        && is_own_link(path)
}

/// Returns true for bdr's names of temporary files: 16 hexadecimal digits, or a process, 12 digits
/// and a number.
pub fn is_temporary_name(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(TEMPORARY_PREFIX.as_bytes()) else {
        return false;
    };
    let is_hex = |part: &[u8], digits| {
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == digits && part.iter().all(hex)
    };
    let is_number =
        |part: &[u8]| matches!(part.len(), 1..=19) && part.iter().all(u8::is_ascii_digit);
    let mut parts = rest.split(|byte| *byte == b'-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(random), None, None, None) => is_hex(random, 16),
        (Some(process), Some(random), Some(count), None) => {
            is_number(process) && is_hex(random, 12) && is_number(count)
        }
        _ => false,
    }
}

/// The beginning of names of temporary files, by which leftovers of a crash are found.
pub const TEMPORARY_PREFIX: &str = ".bdr-tmp-";

/// Removes a file; a missing one counts as removed.
///
/// # Errors
/// It cannot be removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    point("unlink")?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the ctime of the object at a path, without following a symlink.
pub fn changed_at(path: &Path) -> Option<crate::model::manifest::Time> {
    Some(mtime_of(&std::fs::symlink_metadata(path).ok()?))
}

/// Removes temporary files that a crash left below `dir`, one of bdr's own directories, down to
/// `depth` levels: those not written since `before`. Returns how many.
pub fn sweep_temporaries(dir: &Path, depth: u32, before: std::time::SystemTime) -> u64 {
    let mut removed = 0;
    for entry in read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth > 0 {
            removed += sweep_temporaries(&entry.path(), depth - 1, before);
        }
        let name = entry.file_name();
        let is_temporary = name
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes());
        let is_old = || {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            written.is_ok_and(|written| written < before)
        };
        if kind.is_file() && is_temporary && is_old() && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    removed
}

/// Renames over whatever is at `to`.
///
/// # Errors
/// The system refuses.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    point("rename")?;
    fs::rename(from, to)
}

/// Replaces `old` by `new`, and overwrites the previous content of `old`, which may have other
/// names. Effective only on file systems that write in place.
///
/// # Errors
/// Renaming or writing failed; `old` stays until it is replaced.
pub fn replace_and_wipe(new: &Path, old: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(old)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    rename(new, old)?;
    if let Some(dir) = old.parent() {
        sync_dir(dir)?;
    }
    point("wipe")?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

/// Counts a step that changes the disk; a test build can be told to die at the n-th.
///
/// # Errors
/// Never in a release build.
#[inline]
pub fn point(step: &'static str) -> io::Result<()> {
    #[cfg(feature = "test-support")]
    crash::point(step)?;
    let _ = step;
    Ok(())
}

#[cfg(feature = "test-support")]
mod crash {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static LEFT: OnceLock<Option<AtomicI64>> = OnceLock::new();

    /// `BDR_TEST_CRASH_AT=n` kills the process right before its n-th step, like a power cut.
    /// `BDR_TEST_FAIL_AT=link` makes every step of that name fail, like a broken disk.
    pub(super) fn point(step: &'static str) -> io::Result<()> {
        if std::env::var_os("BDR_TEST_FAIL_AT").is_some_and(|name| name == step) {
            return Err(io::Error::other("the disk is broken"));
        }
        let left = LEFT.get_or_init(|| {
            std::env::var("BDR_TEST_CRASH_AT")
                .ok()
                .and_then(|n| n.parse().ok())
                .map(AtomicI64::new)
        });
        if let Some(left) = left
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
        Ok(())
    }
}
