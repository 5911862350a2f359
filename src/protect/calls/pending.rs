//! An operation while it is being captured.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable::Batch;
use super::journal::{Before, Head, Held, Journal, Line, Set};
use super::sorted::Taken;
use crate::base::path::RawName;
use crate::disk::fsutil::area::Area;
use crate::disk::fsutil::{self, Lock, OwnTree, Sharing};
use crate::model::manifest::{Kind, Time};

/// How long somebody may look whether a lock is held.
const LOOK: Duration = Duration::from_millis(150);

/// The files kept on one file system.
pub(super) struct Kept {
    pub(super) set: Set,
    pub(super) area: Area,
    pub(super) files: Vec<(u64, Time)>,
    /// Which of them are copies, and how many of these are on disk, or on their way to it.
    pub(super) copies: Vec<u32>,
    pub(super) durable: usize,
}

/// What an operation has on disk while it is captured: a directory with the journal and a lock.
pub(super) struct Files {
    pub(super) own: OwnTree,
    pub(super) lock: Lock,
    /// Of its staging areas, until they are recorded.
    pub(super) areas: Vec<Lock>,
}

/// What is known so far of one operation.
#[derive(Default)]
pub(super) struct Pending {
    /// The processes whose calls belong to it, see [`super::steps`]; none if all do.
    pub(super) steps: HashSet<u32>,
    /// There once something was touched.
    open: Option<(Head, Files, Journal)>,
    /// How each path was; `None` if nothing was there.
    pub(super) before: HashMap<PathBuf, Option<Box<Before>>>,
    pub(super) sets: Vec<Kept>,
    /// How directories that everybody may write to were before something in them changed.
    pub(super) shared: HashMap<PathBuf, Before>,
    /// Files whose content is kept under one name, with how many names they had: other names had the
    /// same content.
    pub(super) same: HashMap<(u64, u64), (Held, u32)>,
    /// The files below the directory where the command runs that have several names, once one was
    /// needed.
    pub(super) names: Option<HashMap<(u64, u64), Vec<PathBuf>>>,
    /// Paths in mounts that cannot be reached from here.
    pub(super) foreign: HashSet<PathBuf>,
    /// Calls that could not be looked at.
    pub(super) unseen: u64,
    /// The journal has lines that may not be on disk.
    dirty: bool,
    /// The threads that were answered last, for [`super::flight`].
    pub(super) recent: VecDeque<u32>,
}

/// Makes the directory of something that is captured, locked.
///
/// # Errors
/// It cannot be made.
pub(super) fn claimed(dir: &Path) -> io::Result<Files> {
    if let Some(place) = dir.parent() {
        fsutil::create_dir_private(place).map_err(io::Error::other)?;
    }
    let own = OwnTree::create(dir).map_err(io::Error::other)?;
    let lock = Lock::on(&dir.join("lock"), Sharing::Alone, LOOK)?;
    Ok(Files {
        own,
        lock,
        areas: Vec::new(),
    })
}

impl Pending {
    /// Starts the journal in a directory of its own, below `place`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn start(&mut self, place: &Path, head: Head) -> io::Result<()> {
        // Locked before there is a journal: one without a lock is somebody's who is gone.
        let files = claimed(&place.join(head.id.to_string()))?;
        let journal = Journal::create(&files.own.path().join("journal"), &head)?;
        self.open = Some((head, files, journal));
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the directory where the command runs.
    pub(super) fn cwd(&self) -> Option<&Path> {
        self.open.as_ref().map(|(head, ..)| head.cwd.as_path())
    }

    /// Keeps the lock of a staging area.
    pub(super) fn hold(&mut self, area: Lock) {
        if let Some((_, files, _)) = &mut self.open {
            files.areas.push(area);
        }
    }

    pub(super) fn put(&mut self, line: &Line) -> io::Result<()> {
        self.dirty = true;
        match &mut self.open {
            Some((_, _, journal)) => journal.put(line),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Adds to a batch what a power loss would take: new copies, and the journal, which says whose they
    /// are.
    pub(super) fn add_to(&mut self, batch: &mut Batch) {
        for kept in &mut self.sets {
            let new = kept.copies[kept.durable..].to_vec();
            kept.durable = kept.copies.len();
            if !new.is_empty() {
                batch
                    .copies
                    .push((kept.set.dir.as_path().to_path_buf(), new));
            }
        }
        if let Some((_, _, journal)) = &self.open {
            batch.journals.extend(journal.file());
        }
        self.dirty = false;
    }

    /// Returns true if the path did not exist before: it, or a directory above it, was made by the
    /// operation.
    pub(super) fn is_new(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|above| matches!(self.before.get(above), Some(None)))
    }

    /// Returns true if it has done something to a path, or above it, that another operation must not
    /// do as well: then the two are one. That the time of a directory changes is nothing.
    pub(super) fn touched(&self, path: &Path) -> bool {
        match self.before.get(path) {
            Some(Some(before)) => before.stat.kind != Kind::Dir,
            Some(None) => true,
            None => self.is_new(path),
        }
    }

    /// Notes how a path was, in the journal first.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn insert(&mut self, path: &Path, before: Option<Box<Before>>) -> io::Result<()> {
        let line = Line::Path(RawName(path.as_os_str().to_owned()), before);
        self.put(&line)?;
        if let Line::Path(_, before) = line {
            self.before.insert(path.to_path_buf(), before);
        }
        Ok(())
    }

    /// Takes in a later operation. What this one knows of a path was earlier.
    ///
    /// # Errors
    /// The journal cannot be written; then what the other one had stays in its own.
    pub(super) fn absorb(&mut self, other: Self) -> io::Result<()> {
        let first = self.sets.len();
        for kept in other.sets {
            self.put(&Line::Set(kept.set.clone()))?;
            for (size, time) in &kept.files {
                self.put(&Line::File(self.sets.len(), *size, *time))?;
            }
            self.sets.push(kept);
        }
        let moved = |held: Held| match held {
            Held::Kept(set, file) => Held::Kept(first + set, file),
            held => held,
        };
        for (path, before) in other.before {
            if self.before.contains_key(&path) || self.is_new(&path) {
                continue;
            }
            let before = before.map(|before| {
                let content = moved(before.content.clone());
                Box::new(Before { content, ..*before })
            });
            self.insert(&path, before)?;
        }
        for (number, (held, links)) in other.same {
            self.same.entry(number).or_insert((moved(held), links));
        }
        self.recent.extend(other.recent);
        self.steps.extend(other.steps);
        self.foreign.extend(other.foreign);
        self.unseen += other.unseen;
        if let Some((_, files, _)) = other.open {
            let _ = files.own.remove();
            files.areas.into_iter().for_each(|area| self.hold(area));
        }
        Ok(())
    }

    /// Returns what there is to record; `None` if nothing was touched.
    pub(super) fn taken(self) -> Option<(Head, Files, Taken)> {
        let (head, files, _) = self.open?;
        let cwd = head.cwd.as_path();
        let copies = self.sets.iter().enumerate();
        let copies =
            copies.flat_map(|(set, kept)| kept.copies.iter().map(move |file| (set, *file)));
        let taken = Taken {
            copies: copies.collect(),
            cwd: fsutil::canonicalize(cwd).unwrap_or_else(|_| cwd.to_path_buf()),
            before: self.before,
            sets: self
                .sets
                .into_iter()
                .map(|kept| (kept.set, kept.files))
                .collect(),
            foreign: self.foreign.into_iter().collect(),
            unseen: self.unseen,
        };
        Some((head, files, taken))
    }
}
