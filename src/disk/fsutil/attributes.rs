//! Extended attributes: which are stored, and how they are read, restored and named in records.
//!
//! Attributes that somebody set are stored: `user.*`, access control lists, and labels of
//! `security.*` and `trusted.*` (which only root sees). Those that the kernel computes from content
//! (`security.evm`, `security.ima`), and those that file systems generate, are not.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use xattr::FileExt as _;

use crate::base::path::{os_from_bytes, os_to_bytes};

/// Returns true if snapshots store an attribute.
fn is_kept(name: &[u8]) -> bool {
    if cfg!(target_os = "macos") {
        return true;
    }
    let computed = matches!(name, b"security.evm" | b"security.ima");
    let kept: [&[u8]; 4] = [b"user.", b"system.posix_acl_", b"security.", b"trusted."];
    !computed && kept.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns true for a secret, which must not get into a repository; labels and access control lists
/// never are.
fn is_secret(name: &[u8], value: &[u8]) -> bool {
    let told = [&b"system."[..], b"security."];
    !told.iter().any(|prefix| name.starts_with(prefix))
        && crate::privacy::is_secret_attribute(name, value)
}

/// Returns true for attributes that belong to a place or give privileges: they are only restored in
/// place.
pub fn is_of_the_place(escaped: &str) -> bool {
    escaped.starts_with("security.") || escaped.starts_with("trusted.")
}

/// Returns true if an error means that there is no such attribute, or not for this user.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NODATA,
        Errno::NOTTY,
    ];
    let code = error.raw_os_error();
    absent
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Attributes to store, sorted by escaped name.
#[derive(Debug, Default)]
pub struct Attributes {
    pub kept: Vec<(String, Vec<u8>)>,
    /// Some contain a secret and are not in `kept`.
    pub withheld: bool,
}

/// Returns true if an error means that this user may not.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Returns true for attributes that every reader of a file may read.
fn is_own(name: &std::ffi::OsStr) -> bool {
    os_to_bytes(name).starts_with(b"user.")
}

/// Returns the attributes of an open file or directory, sorted by escaped name.
///
/// # Errors
/// They cannot be read although there may be some.
pub fn of_file(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    Ok(all_of_file(file)?.kept)
}

/// As [`of_file`], and whether some are withheld.
///
/// # Errors
/// As [`of_file`].
pub fn all_of_file(file: &File) -> io::Result<Attributes> {
    let names = file.list_xattr().map(Iterator::collect);
    read(names, &|name| file.get_xattr(name))
}

/// Returns a path to an open symlink, because no system call takes the attributes of a symlink by
/// handle.
fn by_name(link: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", link.as_raw_fd()))
}

/// Returns the attributes of an open symlink (`O_PATH`). Only root can set any.
///
/// # Errors
/// As [`of_file`].
pub fn of_link(link: &OwnedFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    Ok(all_of_link(link)?.kept)
}

/// As [`of_link`], and whether some are withheld.
///
/// # Errors
/// As [`of_file`].
pub fn all_of_link(link: &OwnedFd) -> io::Result<Attributes> {
    let path = by_name(link);
    let names = xattr::list_deref(&path).map(Iterator::collect);
    let names = names.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    });
    read(names, &|name| xattr::get_deref(&path, name))
}

type Names = io::Result<Vec<std::ffi::OsString>>;
type Get<'a> = dyn Fn(&std::ffi::OsStr) -> io::Result<Option<Vec<u8>>> + 'a;

fn read(names: Names, get: &Get<'_>) -> io::Result<Attributes> {
    let names = match names {
        Err(error) if is_absent(&error) => return Ok(Attributes::default()),
        other => other?,
    };
    let mut found = Vec::new();
    let mut withheld = false;
    for name in names.iter().filter(|name| is_kept(&os_to_bytes(name))) {
        match get(name) {
            // All of bdr treats it as absent: not stored, not compared, not removed.
            Ok(Some(value)) if is_secret(&os_to_bytes(name), &value) => withheld = true,
            Ok(Some(value)) => found.push((escaped(&os_to_bytes(name)), value)),
            Ok(None) => {}
            // What only root may read is not the user's to lose; of other attributes we do not know
            // what they are.
            Err(error) if is_absent(&error) && !(is_refused(&error) && is_own(name)) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(Attributes {
        kept: found,
        withheld,
    })
}

/// Sets the wanted attributes on an open file or directory, and removes others; returns the names
/// for which that failed.
pub fn set_on_file(file: &File, wanted: &[(String, Vec<u8>)]) -> Vec<String> {
    let present = of_file(file).unwrap_or_default();
    set(
        &present,
        wanted,
        &|name, value| file.set_xattr(name, value),
        &|name| file.remove_xattr(name),
    )
}

/// As `set_on_file`, for an open symlink.
pub fn set_on_link(link: &OwnedFd, wanted: &[(String, Vec<u8>)]) -> Vec<String> {
    let path = by_name(link);
    let present = of_link(link).unwrap_or_default();
    set(
        &present,
        wanted,
        &|name, value| xattr::set_deref(&path, name, value),
        &|name| xattr::remove_deref(&path, name),
    )
}

fn set(
    present: &[(String, Vec<u8>)],
    wanted: &[(String, Vec<u8>)],
    give: &dyn Fn(&std::ffi::OsStr, &[u8]) -> io::Result<()>,
    take: &dyn Fn(&std::ffi::OsStr) -> io::Result<()>,
) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, _) in present {
        if !wanted.iter().any(|(other, _)| other == name) && take(&unescaped(name)).is_err() {
            failed.push(name.clone());
        }
    }
    for one in wanted {
        // A correct one may be something that this user could not set.
        if !present.contains(one) && give(&unescaped(&one.0), &one.1).is_err() {
            failed.push(one.0.clone());
        }
    }
    failed
}

/// Returns the name with `%XX` for everything but printable ASCII.
fn escaped(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name {
        if matches!(byte, 0x21..=0x7e) && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescaped(name: &str) -> std::ffi::OsString {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let coded = (bytes[i] == b'%').then(|| name.get(i + 1..i + 3)).flatten();
        match coded.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    os_from_bytes(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_may_not_read_of_his_own_is_an_error_and_of_the_system_is_not_there() {
        let number = rustix::io::Errno::ACCESS.raw_os_error();
        let refused = |_: &std::ffi::OsStr| Err(io::Error::from_raw_os_error(number));
        assert!(read(Ok(vec!["user.a".into()]), &refused).is_err());
        let labels = Ok(vec!["security.selinux".into(), "trusted.x".into()]);
        assert!(read(labels, &refused).unwrap().kept.is_empty());
    }
}
