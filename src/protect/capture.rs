//! The one path by which content gets from files into packs.
//!
//! Every stored byte passes `Capture::content`: the bytes scanned are the bytes sealed (`seal`),
//! hashed and stored. A file that changes while it is read is read again; the last reading is
//! stored as it is and flagged.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::{Digest, Id};
use crate::base::monitor::Monitor;
use crate::base::path::RepoPath;
use crate::model::manifest::{Body, Content, Flag, Kind, Sealed};
use crate::privacy;
use crate::protect::walk::{RootHandle, Xattrs};
use crate::repo::Repository;
use crate::repo::index::DigestSet;
use crate::repo::kept::KeptContent;
use crate::repo::pack::{Finished, Level, PackWriter, TarMeta};
use crate::repo::reader::Reader;
use crate::repo::state::{DIRTY, Known, SEALED, Stat, same_stat};
use crate::repo::verdicts::Verdicts;

mod content;
mod database;
mod large;
mod look;
mod names;
mod seal;
mod stored;

pub(crate) use names::OwnNames;
pub(crate) use seal::{Sealing, seal_bytes};

/// Files up to this size are read whole; larger ones are streamed.
const MEMORY_BYTES: u64 = 8 << 20;
/// A buffer larger than this, in bytes, is freed after use.
const KEPT_BYTES: usize = 1 << 20;
/// How often a file is read that changes while it is read.
const ATTEMPTS: u32 = 4;

pub(crate) struct Shared<'a> {
    pub(crate) repo: &'a Repository,
    /// Store every file whole, whatever is stored already.
    pub(crate) full: bool,
    /// Examine all of every file, and do not build on content that was examined by other rules.
    pub(crate) anew: bool,
    pub(crate) level: Level,
    pub(crate) damaged: DigestSet,
    pub(crate) stored: Mutex<DigestSet>,
    /// Packs that this run has checked for.
    pub(crate) present: Mutex<HashMap<Digest, bool>>,
    /// Verdicts "no secret in it", for runs that read everything.
    pub(crate) verdicts: Option<Verdicts>,
    pub(crate) own_names: OwnNames,
    /// Receives progress within a large file, which alone may take minutes.
    pub(crate) monitor: &'a dyn Monitor,
}

#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) path: RepoPath,
    pub(crate) stat: Stat,
    pub(crate) body: Body,
    pub(crate) flags: u8,
    /// It vanished meanwhile; or it belongs to a database that was copied online, so it is not
    /// needed.
    pub(crate) gone: bool,
    /// It has an extended attribute with a secret, which is not stored.
    pub(crate) withheld: bool,
}

/// The captured objects of a root, sorted by path. Boxed, because hundreds of thousands are sorted,
/// moved and freed one by one.
pub(crate) type CapturedList = Vec<Box<Captured>>;

/// Captures objects; one per thread.
pub(crate) struct Capture<'a> {
    shared: &'a Shared<'a>,
    pack: PackWriter<'a>,
    reader: Reader<'a>,
    buffer: Vec<u8>,
    pub(crate) read_bytes: u64,
    /// Bytes of the current file already reported to the monitor.
    told_bytes: u64,
}

/// How the content of a file was stored.
struct Stored {
    content: Option<Content>,
    /// Size of the file, in bytes.
    size: u64,
    sealed: Option<Box<Sealed>>,
}

fn xattrs_at(handle: &RootHandle, path: &RepoPath, kind: Kind) -> Result<(Xattrs, bool)> {
    let found = handle.all_xattrs_at(path, kind);
    found.context("read", handle.absolute(path))
}

/// Returns the target of a symlink. A target with a secret in it is not stored, even if it appeared
/// only now.
fn target_of(handle: &RootHandle, path: &RepoPath) -> Result<Vec<u8>> {
    let target = handle.read_link(path);
    let target = target.context("read", handle.absolute(path))?;
    match privacy::is_secret_text(&target) {
        true => Err(Error::NotCaptured {
            path: handle.absolute(path),
            reason: privacy::IN_TARGET.to_owned(),
        }),
        false => Ok(target),
    }
}

/// Where a file is: its name in the pack, and its real path, which decides what kind of file it is.
struct Place<'a> {
    root: &'a str,
    path: &'a RepoPath,
    absolute: &'a Path,
}

/// What was known about an object before.
pub(crate) type Prior<'a> = Option<Known<'a>>;

impl<'a> Capture<'a> {
    /// Returns the bytes reported to the monitor since the last call.
    pub(crate) fn take_told(&mut self) -> u64 {
        std::mem::take(&mut self.told_bytes)
    }

    pub(crate) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            pack: PackWriter::new(shared.repo.storage(), shared.repo.id(), shared.level),
            reader: Reader::new(shared.repo),
            buffer: Vec::new(),
            read_bytes: 0,
            told_bytes: 0,
        }
    }

    /// Returns the stat of a file without the hard link that bdr itself made.
    fn of_user(&self, stat: &Stat) -> Stat {
        self.shared.own_names.without(self.shared.repo, stat)
    }

    pub(crate) fn finish(self) -> Result<Vec<Finished>> {
        self.pack.finish()
    }

    pub(crate) fn object(
        &mut self,
        root: &str,
        handle: &RootHandle,
        path: &RepoPath,
        prior: Prior<'_>,
    ) -> Result<Captured> {
        let stat = match handle.stat(path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(gone(path)),
            Err(error) => return Err(error).context("read", handle.absolute(path)),
        };
        if stat.kind == Kind::File {
            return self.file(root, handle, path, prior);
        }
        let (xattrs, withheld) = xattrs_at(handle, path, stat.kind)?;
        let body = match stat.kind {
            Kind::Dir => Body {
                xattrs,
                ..Body::default()
            },
            Kind::Symlink => Body {
                xattrs,
                target: target_of(handle, path)?,
                ..Body::default().named(&stat)
            },
            _ => Body::default(),
        };
        Ok(Captured {
            path: path.clone(),
            stat,
            body,
            flags: 0,
            gone: false,
            withheld,
        })
    }

    /// Stores a file that was kept; `None` if it is not `size` bytes long.
    pub(crate) fn kept_file(
        &mut self,
        set: Id,
        number: u32,
        file: &File,
        size: u64,
    ) -> Result<Option<KeptContent>> {
        let stat = Stat {
            size,
            ..Stat::default()
        };
        let path = RepoPath::new(number.to_string()).unwrap_or_default();
        let place = Place {
            root: &format!("kept-{set}"),
            path: &path,
            absolute: Path::new(""),
        };
        let read = self.content(&place, file, &stat, None, false)?;
        Ok(read.map(|stored| KeptContent {
            digest: stored.content.map(|content| content.digest),
            sealed: stored.sealed,
        }))
    }

    /// Stores a file that was kept and has a name by which it is sealed; notes in `body` what is stored.
    #[cfg(target_os = "linux")]
    pub(crate) fn kept_by_name(
        &mut self,
        path: &RepoPath,
        absolute: &Path,
        file: &File,
        body: &mut Body,
    ) -> Result<()> {
        let size = file.metadata().context("read", absolute)?.len();
        let stat = Stat {
            size,
            ..Stat::default()
        };
        let place = Place {
            root: "before",
            path,
            absolute,
        };
        if let Some(stored) = self.content(&place, file, &stat, None, true)? {
            body.content = stored.content;
            body.sealed = stored.sealed;
        }
        Ok(())
    }

    /// Captures a file. If it changes during the reading, waits a little longer each time and reads
    /// again; the last reading is stored as it is.
    fn file(
        &mut self,
        root: &str,
        handle: &RootHandle,
        path: &RepoPath,
        prior: Prior<'_>,
    ) -> Result<Captured> {
        let absolute = handle.absolute(path);
        let place = Place {
            root,
            path,
            absolute: &absolute,
        };
        for attempt in 1..=ATTEMPTS {
            let file = match handle.open_file(path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(gone(path));
                }
                Err(error) => return self.closed(handle, path, error),
            };
            let last = attempt == ATTEMPTS;
            if let Some(captured) = self.opened(&place, &file, prior.as_ref(), last)? {
                return Ok(captured);
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt * attempt) * 3));
        }
        let shrinks = std::io::Error::other("it keeps shrinking while being read");
        Err(Error::io("read", absolute, shrinks))
    }

    /// Captures a file that cannot be opened. If it is empty, nothing is lost.
    fn closed(
        &self,
        handle: &RootHandle,
        path: &RepoPath,
        error: std::io::Error,
    ) -> Result<Captured> {
        let stat = handle.stat(path).ok();
        let empty = stat.filter(|stat| stat.kind == Kind::File && stat.size == 0);
        let Some(stat) = empty else {
            return Err(error).context("read", handle.absolute(path));
        };
        Ok(Captured {
            path: path.clone(),
            stat,
            body: Body::default().named(&self.of_user(&stat)),
            flags: 0,
            gone: false,
            withheld: false,
        })
    }

    /// Reads an open file once; `None` if it changed meanwhile and this is not the `last` attempt.
    fn opened(
        &mut self,
        place: &Place<'_>,
        file: &File,
        prior: Option<&Known<'_>>,
        last: bool,
    ) -> Result<Option<Captured>> {
        let before = RootHandle::stat_file(file).context("read", place.absolute)?;
        if before.kind != Kind::File {
            let replaced = std::io::Error::other("it was replaced while being read");
            return Err(Error::io("read", place.absolute, replaced));
        }
        let read = self.content(place, file, &before, prior, last)?;
        // A different stat after the reading means that somebody wrote meanwhile.
        let after = RootHandle::stat_file(file).context("read", place.absolute)?;
        let steady = same_stat(&before, &after);
        // Shorter than its stat said: somebody is rewriting it right now.
        let Some(stored) = read.filter(|_| steady || last) else {
            return Ok(None);
        };
        let all = RootHandle::all_xattrs(file);
        let (xattrs, withheld) = all.context("read", place.absolute)?;
        let mut body = Body {
            content: stored.content,
            sealed: stored.sealed,
            sparse: RootHandle::has_holes(file),
            xattrs,
            ..Body::default().named(&self.of_user(&before))
        };
        let is_torn = self.buffer.last().is_some_and(|byte| *byte != b'\n');
        if is_torn && place.path.name().ends_with(b".jsonl") {
            body.flags.push(Flag::Torn);
        }
        if !steady {
            body.flags.push(Flag::Unstable);
        }
        // A withheld attribute is reported by every backup, so the file has to stay dirty.
        let mut flags = if steady && !withheld { 0 } else { DIRTY };
        if body.sealed.is_some() {
            flags |= SEALED;
        }
        Ok(Some(Captured {
            path: place.path.clone(),
            stat: Stat {
                size: stored.size,
                ..before
            },
            body,
            flags,
            gone: false,
            withheld,
        }))
    }

    /// Adds objects without data to the packs of a full backup: directories, symlinks, hard links,
    /// empty files.
    pub(crate) fn tree_entry(&mut self, meta: &TarMeta<'_>) -> Result<()> {
        self.pack.add(meta, b"", None)
    }
}

fn gone(path: &RepoPath) -> Captured {
    Captured {
        path: path.clone(),
        stat: Stat::default(),
        body: Body::default(),
        flags: 0,
        gone: true,
        withheld: false,
    }
}
