//! The lifeboat: hard links to a repository's files, in a place that a command which deletes the
//! repository does not reach.
//!
//! Hard links are on the same file system, take no space and hardly any time. Where linking fails,
//! files are copied up to [`COPY_BUDGET`]. A deleted repository is restored by linking everything
//! back. Names that a power failure took from the lifeboat are added again by
//! [`Lifeboat::catch_up`].
#![expect(
    clippy::disallowed_methods,
    reason = "writes beside the repository what the storage has written into it"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Place, Stands};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{RawName, os_to_bytes};
use crate::disk::fsutil::{self, Dir, OwnTree};

/// Bytes of files that may be copied because they cannot be linked.
const COPY_BUDGET: u64 = 512 << 20;

const ABOUT: &str = "about.json";
const CONFIG: &str = "config.toml";
const FILES: &str = "repository";
/// Notes that a file has no hard link here.
const INCOMPLETE: &str = "incomplete";

/// What a lifeboat belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    pub repository: RawName,
    pub config: RawName,
    /// The file system of the repository, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

#[derive(Debug, Clone)]
pub struct Lifeboat {
    dir: PathBuf,
    repository: PathBuf,
    /// Bytes copied; counted when the first file has to be copied.
    copied: Arc<Mutex<Option<u64>>>,
}

impl Lifeboat {
    /// Names the lifeboat of a repository in `place`; touches nothing yet.
    pub fn new(place: &Path, repository: &Path) -> Self {
        let key = Digest::of(&os_to_bytes(repository.as_os_str())).to_hex();
        Self {
            dir: place.join(&key[..16]),
            repository: repository.to_path_buf(),
            copied: Arc::default(),
        }
    }

    /// Returns the readable lifeboats in `place`, with what they belong to.
    pub fn all(place: &Path) -> Vec<(Self, About)> {
        if !fsutil::is_private_dir(place) {
            return Vec::new();
        }
        let Ok(entries) = fsutil::read_dir(place) else {
            return Vec::new();
        };
        let found = entries.flatten().filter_map(|entry| {
            let about = fs::read(entry.path().join(ABOUT)).ok()?;
            let about: About = serde_json::from_slice(&about).ok()?;
            let lifeboat = Self::new(place, about.repository.as_path());
            (lifeboat.dir == entry.path()).then_some((lifeboat, about))
        });
        found.collect()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where large files can be kept next to it; `None` if it was not launched.
    pub(super) fn area(&self) -> Option<PathBuf> {
        self.private().then(|| self.dir.join("staging"))
    }

    /// Returns the path of a file's hard link, or of a directory; `None` if there can be none.
    pub(super) fn second(&self, name: &str) -> Option<PathBuf> {
        self.private().then(|| self.dir.join(FILES).join(name))
    }

    /// Returns what it belongs to.
    pub fn about(&self) -> Option<About> {
        let about = fs::read(self.dir.join(ABOUT)).ok()?;
        serde_json::from_slice(&about).ok()
    }

    pub fn config(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.join(CONFIG)).ok()
    }

    /// Returns true if it has a repository to restore.
    pub fn is_manned(&self) -> bool {
        self.private() && self.dir.join(FILES).join("format.json").is_file()
    }

    /// Returns the bytes that only it takes: copies, and files that the repository no longer has.
    pub fn own_bytes(&self) -> u64 {
        self.bytes_of(FILES)
    }

    fn bytes_of(&self, part: &str) -> u64 {
        let (files, mut bytes) = (self.dir.join(part), 0);
        // Unreadable directories are not counted, because this is only shown to people.
        let _ = each_file(&files, Path::new(""), &mut |name| {
            let path = files.join(name);
            if !fsutil::has_another_name(&path, &self.repository.join(name)) {
                bytes += path.symlink_metadata()?.len();
            }
            Ok(())
        });
        bytes
    }

    /// Returns what it has of earlier repositories at the same place, by name, with the bytes that
    /// only it takes.
    pub fn earlier(&self) -> Vec<(String, u64)> {
        let begin = format!("{FILES}.");
        let entries = fsutil::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| name.starts_with(&begin))
            .map(|name| {
                let bytes = self.bytes_of(&name);
                (name, bytes)
            })
            .collect()
    }

    /// Removes one of those from [`Lifeboat::earlier`].
    ///
    /// # Errors
    /// It is not this user's alone, or something in it cannot be removed.
    pub fn remove_earlier(&self, name: &str) -> Result<()> {
        match OwnTree::left_in(&self.dir, name.as_ref()) {
            Some(tree) => tree.remove(),
            None => Err(Error::io(
                "remove",
                self.dir.join(name),
                io::ErrorKind::PermissionDenied.into(),
            )),
        }
    }

    /// Returns true if its repository was deleted or moved; false if it exists, or its disk is
    /// away.
    pub fn is_left(&self) -> bool {
        !self.repository.join("format.json").exists() && self.check_place().is_ok()
    }

    /// Removes it for good: a repository that was deleted on purpose must not come back at the next
    /// call.
    ///
    /// # Errors
    /// It is not this user's alone, or something in it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let (Some(place), Some(name)) = (self.dir.parent(), self.dir.file_name()) else {
            return Ok(());
        };
        match OwnTree::left_in(place, name) {
            Some(tree) => tree.remove(),
            None if !self.dir.exists() => Ok(()),
            None => Err(Error::io(
                "remove",
                &self.dir,
                io::ErrorKind::PermissionDenied.into(),
            )),
        }
    }

    /// Returns true if nobody else made it or may read it.
    fn private(&self) -> bool {
        let place = self.dir.parent();
        place.is_some_and(fsutil::is_private_dir)
            && fsutil::is_private_dir(&self.dir)
            && fsutil::is_private_dir(&self.dir.join(FILES))
    }

    /// Creates it, and saves what it belongs to and the configuration. `place` is where the
    /// repository is, if known.
    ///
    /// # Errors
    /// The place cannot be written, or is not this user's alone.
    pub fn launch(&self, config: &Path, place: Option<Place>) -> io::Result<()> {
        // From the top: nothing is created in somebody else's place.
        let files = self.dir.join(FILES);
        for dir in [self.dir.parent().unwrap_or(&self.dir), &self.dir, &files] {
            if fsutil::is_private_dir(dir) {
                continue;
            }
            if !dir.is_dir() {
                fsutil::create_dir_private(dir).map_err(io::Error::other)?;
            }
            if !fsutil::is_private_dir(dir) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("other users can write to `{}`", dir.display()),
                ));
            }
        }
        self.part_from_another()?;
        let known = || self.about().and_then(|about| about.place);
        let about = About {
            repository: RawName::from(self.repository.as_path()),
            config: RawName::from(config),
            place: place.or_else(known),
        };
        let about = serde_json::to_vec(&about).map_err(io::Error::other)?;
        let config = fs::read(config).unwrap_or_default();
        for (name, bytes) in [(ABOUT, about), (CONFIG, config)] {
            let path = self.dir.join(name);
            // An empty configuration counts as none: an earlier saved one is worth more.
            let same = fs::read(&path).is_ok_and(|old| old == bytes);
            if !same && !bytes.is_empty() {
                fsutil::write_derived(&path, &bytes).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Moves the saved repository aside if another one was made in its place, because their names
    /// must not mix.
    fn part_from_another(&self) -> io::Result<()> {
        let files = self.dir.join(FILES);
        let (ours, theirs) = (
            files.join("format.json"),
            self.repository.join("format.json"),
        );
        if fsutil::is_same_file(&ours, &theirs) {
            return Ok(());
        }
        let (ours, theirs) = (fs::read(ours), fs::read(theirs));
        if let (Ok(ours), Ok(theirs)) = (ours, theirs)
            && ours != theirs
        {
            let aside = self
                .dir
                .join(format!("{FILES}.{}", &Digest::of(&ours).to_hex()[..8]));
            fs::rename(&files, aside)?;
            fsutil::create_dir_private(&files).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Creates the hard link to a file in `dir`. A failure only costs this extra safety, so it is
    /// not an error.
    pub(super) fn keep(&self, name: &str, dir: &Dir) {
        if !self.private() {
            return;
        }
        let there = self.dir.join(FILES).join(name);
        let missing = |done: &io::Result<()>| {
            let error = done.as_ref().err();
            error.is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        let own = name.rsplit('/').next().unwrap_or(name);
        let done = self.link_or_copy(dir, own, &there);
        if missing(&done)
            && let Some(parent) = there.parent()
            && fsutil::create_dir_private(parent).is_ok()
        {
            // The next catch-up adds what was missed here.
            self.note_kept(&self.link_or_copy(dir, own, &there));
        } else {
            self.note_kept(&done);
        }
    }

    /// Notes that a file could not be kept, so that the rest is not taken for the whole repository.
    fn note_kept(&self, done: &io::Result<()>) {
        let failed = |e: &io::Error| e.kind() != io::ErrorKind::NotFound;
        if done.as_ref().is_err_and(failed) {
            // Without the note, a rescue trusts the files it finds.
            let _ = fsutil::write_derived(&self.dir.join(INCOMPLETE), b"");
        }
    }

    fn link_or_copy(&self, dir: &Dir, name: &str, to: &Path) -> io::Result<()> {
        match dir.link_to(name, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => self.copy_within_budget(dir, name, to),
            Ok(()) => Ok(()),
        }
    }

    fn copy_within_budget(&self, from: &Dir, name: &str, to: &Path) -> io::Result<()> {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match *copied {
            Some(bytes) => bytes,
            None => {
                let (files, mut bytes) = (self.dir.join(FILES), 0);
                each_file(&files, Path::new(""), &mut |name| {
                    bytes += files.join(name).symlink_metadata()?.len();
                    Ok(())
                })?;
                bytes
            }
        };
        let (file, more) = from.file(name)?;
        if there + more > COPY_BUDGET {
            *copied = Some(there);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        copy(file, to)?;
        *copied = Some(there + more);
        Ok(())
    }

    /// Forgets a file that is no longer in the repository.
    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.dir.join(FILES).join(name));
    }

    /// Adds missing hard links. Returns how many.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn catch_up(&self) -> io::Result<u64> {
        let files = self.dir.join(FILES);
        if !files.is_dir() {
            return Ok(0);
        }
        let mut made = 0;
        let _ = fsutil::remove_file(&self.dir.join(INCOMPLETE));
        let top = Dir::open(&self.repository)?;
        each_file(&self.repository, Path::new(""), &mut |path| {
            if !files.join(path).exists()
                && let Some(name) = path.to_str()
            {
                match path.parent().and_then(|parent| below(&top, parent).ok()) {
                    Some(dir) => self.keep(name, &dir),
                    None => self.keep(name, &top),
                }
                made += 1;
            }
            Ok(())
        })?;
        Ok(made)
    }

    /// Makes sure that the repository was deleted from its file system, rather than its disk
    /// removed: then it comes back by itself.
    fn check_place(&self) -> io::Result<()> {
        let there = self.repository.ancestors().find(|dir| dir.is_dir());
        let device = there.and_then(fsutil::device_of);
        let same = match self.about().and_then(|about| about.place) {
            Some(place) => {
                place.look() == Stands::Same && fsutil::device_of(place.mount.as_path()) == device
            }
            // Nobody noted it: what can be linked was on the same file system.
            None => fsutil::device_of(&self.dir) == device,
        };
        match same {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the file system of the repository is not mounted",
            )),
        }
    }

    /// Makes sure that everything its snapshots need is in it.
    fn check_whole(&self) -> io::Result<()> {
        let files = self.dir.join(FILES);
        let partial = || io::Error::other("the lifeboat has only part of the repository");
        if self.dir.join(INCOMPLETE).exists() {
            return Err(partial());
        }
        let has = |name: String| files.join(name).is_file();
        let Ok(records) = fsutil::read_dir(files.join("snapshots")) else {
            return Ok(());
        };
        for record in records {
            let json = fs::read(record?.path())?;
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
            let record = &value["record"];
            let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
            let roots = list(&record["roots"]);
            let mut bases = roots.iter().filter_map(|root| root["base"].as_str());
            let listed = bases.all(|base| has(format!("manifests/{base}.json.gz")));
            let packs = list(&record["packs"]);
            let mut packs = packs.iter().filter_map(|pack| pack["id"].as_str());
            // Prune may have removed packs that others wrote.
            let packed = record["kind"] != "full"
                || packs.all(|id| {
                    let dir = id.get(..2).unwrap_or_default();
                    has(format!("packs/{dir}/{id}.tar.gz"))
                });
            if !listed || !packed {
                return Err(partial());
            }
        }
        Ok(())
    }

    /// Restores the repository in its place, on the same file system, completely or not at all.
    /// Existing files are left alone. Returns how many files came back.
    ///
    /// # Errors
    /// Its file system is away, the lifeboat is incomplete, or the place cannot be written.
    pub fn rescue(&self) -> io::Result<u64> {
        if !self.is_manned() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.check_place()?;
        self.check_whole()?;
        let files = self.dir.join(FILES);
        let mut names = Vec::new();
        each_file(&files, Path::new(""), &mut |name| {
            names.push(name.to_path_buf());
            Ok(())
        })?;
        // format.json comes last: it makes the directory a repository.
        names.sort_by_key(|name| name == Path::new("format.json"));
        self.check_alone()?;
        fsutil::create_dir_private(&self.repository).map_err(io::Error::other)?;
        let top = Dir::open(&self.repository)?;
        let mut back = 0;
        for name in names {
            let Some(own) = name.file_name().and_then(|own| own.to_str()) else {
                continue;
            };
            let dir = made_in(&top, name.parent().unwrap_or(Path::new("")))?;
            let dir = dir.as_ref().unwrap_or(&top);
            if dir.look(own)?.is_some() {
                continue;
            }
            let temporary = name_in(&files.join(&name), dir)?;
            dir.rename(&temporary, dir, own)?;
            back += 1;
        }
        fsutil::sync_file_system(&self.repository)?;
        Ok(back)
    }
}

/// The top-level names of a repository.
const PARTS: [&str; 16] = [
    "RECOVER.md",
    "aside",
    "format.json",
    "kept",
    "lock",
    "lock-prune",
    "manifests",
    "marks",
    "operations",
    "packs",
    "recover.py",
    "reserve",
    "snapshots",
    "staging",
    "tmp",
    "trash",
];

/// Returns true for bdr's top-level names of a repository.
pub fn is_part(name: &str) -> bool {
    PARTS.contains(&name)
}

impl Lifeboat {
    /// Makes sure that nothing else is in the repository's place: through a symlink to a user's
    /// directory, it would be restored among their files.
    fn check_alone(&self) -> io::Result<()> {
        let entries = match fsutil::read_dir(&self.repository) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name();
            // Ignore what systems put at the top of a disk.
            let is_hidden = name.as_encoded_bytes().starts_with(b".") || name == "lost+found";
            if !is_hidden && !PARTS.iter().any(|part| name == *part) {
                let name = crate::base::path::show(&name);
                let what = format!("`{name}` is where the repository was");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
}

/// Opens a directory below `top`, never through a symlink.
fn below(top: &Dir, path: &Path) -> io::Result<Dir> {
    let mut parts = path.iter();
    let first = parts.next().ok_or(io::ErrorKind::InvalidInput)?;
    parts.try_fold(top.child(first)?, |dir, part| dir.child(part))
}

/// Opens a directory of a repository, and creates it if it is missing; `None` is the top. Symlinks
/// are not followed.
fn made_in(top: &Dir, path: &Path) -> io::Result<Option<Dir>> {
    let mut found: Option<Dir> = None;
    for part in path.iter() {
        let part = part.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = found.as_ref().unwrap_or(top);
        let next = match dir.dir(part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It may be closed against a stray `rm -r`.
                if dir.make_dir(part).is_err() {
                    dir.set_mode(0o700)?;
                    dir.make_dir(part)?;
                }
                dir.dir(part)?
            }
            other => other?,
        };
        found = Some(next);
    }
    Ok(found)
}

/// Returns where lifeboats are in a directory to which everybody may write: the directory `name`,
/// or `name.<random>` if somebody else made that first. Nobody can make such a directory for
/// another user, so the one that is this user's alone can be found without a note.
pub fn lifeboats_in(dir: &Path, name: &str) -> PathBuf {
    let first = dir.join(name);
    if fsutil::is_private_dir(&first) {
        return first;
    }
    let begin = format!("{name}.");
    let entries = fsutil::read_dir(dir).into_iter().flatten().flatten();
    let own = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(&begin))
            && fsutil::is_private_dir(&entry.path())
    });
    if let Some(second) = own.map(|entry| entry.path()).min() {
        return second;
    }
    let mut random = [0; 8];
    // The name is free, or we can do nothing about it: `status` reports that.
    if first.symlink_metadata().is_err() || getrandom::fill(&mut random).is_err() {
        return first;
    }
    dir.join(format!("{begin}{}", hex::encode(random)))
}

/// Creates an unguessable name for a file in `dir`, by a hard link or, if that fails, a durable
/// copy; returns the name.
pub(super) fn name_in(from: &Path, dir: &Dir) -> io::Result<String> {
    if let Ok(name) = dir.second_name(from) {
        return Ok(name);
    }
    let (mut file, name) = dir.temporary(0o400)?;
    let copied = fs::File::open(from)
        .and_then(|mut from| io::copy(&mut from, &mut file))
        .and_then(|_| file.sync_all());
    match copied {
        Ok(()) => Ok(name),
        Err(error) => {
            let _ = dir.remove_file(&name);
            Err(error)
        }
    }
}

/// Copies under a temporary name first, so that a partial file never has the final one.
fn copy(mut from: fs::File, to: &Path) -> io::Result<()> {
    let dir = to.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = fsutil::create_temporary(dir, 0o400)?;
    let copied = io::copy(&mut from, &mut file).and_then(|_| fsutil::rename(&temporary, to));
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

/// Calls `found` with every file below `top` that is part of a repository.
fn each_file(
    top: &Path,
    dir: &Path,
    found: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fsutil::read_dir(top.join(dir))? {
        let entry = entry?;
        let name = dir.join(entry.file_name());
        let kind = entry.file_type()?;
        let temporary = name.starts_with("tmp")
            || name.starts_with("staging")
            || entry
                .file_name()
                .to_str()
                .is_none_or(|n| n.starts_with(fsutil::TEMPORARY_PREFIX));
        if temporary || name == Path::new("lock") {
            continue;
        }
        if kind.is_dir() {
            each_file(top, &name, found)?;
        } else if kind.is_file() {
            found(&name)?;
        }
    }
    Ok(())
}
