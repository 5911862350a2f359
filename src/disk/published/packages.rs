//! What a registry of packages has: cargo keeps the archive of each crate beside its files.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::id::Digest;
use crate::base::path::os_to_bytes;
use crate::disk::fsutil;

/// Larger archives are not read, in bytes.
const MAX_ARCHIVE: u64 = 64 << 20;
/// No more is unpacked of one, in bytes; crates.io takes crates of 10 MB.
const MAX_UNPACKED: u64 = 512 << 20;

/// The files of an archive, by their digests.
pub(super) struct Members {
    name: Arc<str>,
    digests: HashMap<Vec<u8>, Digest>,
}

/// Returns the archive that a file would come from, and its path in it:
/// `registry/src/index.crates.io-…/NAME-VERSION/src/lib.rs`.
pub(super) fn of(path: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let mut above = path.ancestors().skip(1);
    // The directory of the crate is right below that of the registry.
    let package = above.find(|dir| {
        let mut up = dir.ancestors().skip(1).map(Path::file_name);
        let index = up.next().flatten().and_then(|name| name.to_str());
        index.is_some_and(|name| name.starts_with("index.crates.io-"))
            && up.next().flatten().is_some_and(|name| name == "src")
            && up.next().flatten().is_some_and(|name| name == "registry")
    })?;
    let name = package.file_name()?;
    let index = package.parent()?;
    let registry = index.parent()?.parent()?;
    let mut archive = name.to_owned();
    archive.push(".crate");
    let archive = registry
        .join("cache")
        .join(index.file_name()?)
        .join(archive);
    let below = path.strip_prefix(package.parent()?).ok()?;
    let below: Vec<Vec<u8>> = below
        .iter()
        .map(|part| os_to_bytes(part).to_vec())
        .collect();
    Some((archive, below.join(&b'/')))
}

/// Returns where an archive of a package is published, if the registry's index, as cargo keeps it,
/// has its checksum: `registry/cache/index.crates.io-…/NAME-VERSION.crate`.
pub(super) fn archive(path: &Path, bytes: &[u8]) -> Option<Arc<str>> {
    let dir = path.parent()?;
    let (index, cache) = (dir.file_name()?, dir.parent()?);
    let is_place =
        index.to_str()?.starts_with("index.crates.io-") && cache.ends_with("registry/cache");
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".crate").filter(|_| is_place)?;
    let kept = cache.parent()?.join("index").join(index).join(".cache");
    let checksum = format!("\"{}\"", Digest::of(bytes).to_hex());
    // The version begins with a digit, and so may a part of the name.
    let names = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .filter(|at| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let mut lists = names.filter_map(|at| {
        let crate_name = stem[..at].to_ascii_lowercase();
        let list = match crate_name.len() {
            0 => return None,
            n @ 1..=2 => kept.join(n.to_string()),
            3 => kept.join("3").join(crate_name.get(..1)?),
            _ => kept.join(crate_name.get(..2)?).join(crate_name.get(2..4)?),
        };
        Some(list.join(&crate_name))
    });
    let is_listed = lists.any(|list| {
        let small = list
            .metadata()
            .is_ok_and(|found| found.len() <= super::MAX_BYTES);
        small
            && !fsutil::is_of_another(&list)
            && std::fs::read(&list)
                .is_ok_and(|text| memchr::memmem::find(&text, checksum.as_bytes()).is_some())
    });
    is_listed.then(|| format!("{name} is what crates.io publishes").into())
}

/// Reads an archive; `None` if it is not here or not this user's.
pub(super) fn members(archive: &Path) -> Option<Members> {
    let is_file = archive
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.len() <= MAX_ARCHIVE);
    if !is_file || fsutil::is_of_another(archive) {
        return None;
    }
    let unpacked = flate2::read::GzDecoder::new(File::open(archive).ok()?).take(MAX_UNPACKED);
    let mut tar = tar::Archive::new(unpacked);
    let mut digests = HashMap::new();
    let mut bytes = Vec::new();
    for entry in tar.entries().ok()? {
        let mut entry = entry.ok()?;
        if !entry.header().entry_type().is_file() || entry.size() > super::MAX_BYTES {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        bytes.clear();
        entry.read_to_end(&mut bytes).ok()?;
        digests.insert(path, Digest::of(&bytes));
    }
    let name = archive.file_name()?.to_string_lossy();
    let name = format!("stands in {name}, which crates.io publishes");
    Some(Members {
        name: name.into(),
        digests,
    })
}

impl Members {
    /// Returns where a file is published, if it has the same content there.
    pub(super) fn has(&self, member: &[u8], bytes: &[u8]) -> Option<Arc<str>> {
        let same = self.digests.get(member)? == &Digest::of(bytes);
        same.then(|| Arc::clone(&self.name))
    }
}
