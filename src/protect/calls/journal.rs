//! What a captured command has touched so far, on disk: one JSON line per first look at a path.
//!
//! Written before the call may happen. A line that was cut off belongs to a call that did not
//! happen.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::id::{Id, OperationId};
use crate::base::path::RawName;
use crate::model::manifest::{Kind, Stat, Time};

/// How an object was before the operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    #[serde(with = "stat_as_list")]
    pub(super) stat: Stat,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
    /// It has an attribute with a secret, which is not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) withheld: bool,
    /// It has holes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) sparse: bool,
    /// Where a symlink leads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) target: Vec<u8>,
    pub(super) content: Held,
}

/// Where the content of a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Held {
    /// Nothing has threatened it yet.
    InPlace,
    /// There is none: it is empty, or no file.
    None,
    /// In a staging area: number of the set, and of the file in it.
    Kept(usize, u32),
    /// It could not be kept; says why.
    Lost(String),
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    /// Always 1.
    pub(super) version: u32,
    pub(super) repository: Id,
    pub(super) id: OperationId,
    pub(super) time: DateTime<Utc>,
    pub(super) pid: u32,
    pub(super) argv: Vec<RawName>,
    pub(super) cwd: RawName,
    pub(super) label: Option<String>,
    pub(super) remote: Vec<String>,
    pub(super) host: String,
    /// Sets with more bytes are not packed: their files stay where they are until no snapshot needs
    /// them.
    #[serde(default = "all_bytes")]
    pub(super) pack_bytes: u64,
    /// The session that it is a part of, and the programs from the session's to the one that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<OperationId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chain: Vec<RawName>,
}

/// What a journal of an earlier version means, which says nothing.
fn all_bytes() -> u64 {
    u64::MAX
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Set(Set),
    /// A path, and what was there; `None` if nothing was.
    Path(RawName, Option<Box<Before>>),
    /// A file was kept: size and time of the kept file, by number of its set.
    File(usize, u64, Time),
}

/// A set of kept files on one file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Set {
    pub(super) id: Id,
    pub(super) dir: RawName,
    pub(super) device: u64,
}

/// What a journal says.
pub(super) struct Read {
    pub(super) head: Head,
    pub(super) sets: Vec<(Set, Vec<(u64, Time)>)>,
    pub(super) before: HashMap<PathBuf, Option<Box<Before>>>,
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    line: Vec<u8>,
}

impl Journal {
    pub(super) fn create(path: &Path, head: &Head) -> io::Result<Self> {
        let file = crate::disk::fsutil::create_journal(path)?;
        let mut journal = Self {
            file,
            line: Vec::new(),
        };
        journal.put(head)?;
        Ok(journal)
    }

    pub(super) fn put<T: Serialize>(&mut self, line: &T) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        // One write, so that a line is there as a whole or not at all, whatever happens to bdr.
        self.file.write_all(&self.line)
    }

    /// Returns the file, to make durable what was written so far, and with it, on file systems with a
    /// journal, what the command did until now.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Reads the first line of a journal.
///
/// # Errors
/// It cannot be read, or says nothing.
pub(super) fn head(path: &Path) -> io::Result<Head> {
    let mut line = Vec::new();
    io::BufReader::new(crate::disk::fsutil::open_own(path)?).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Reads a journal as far as it goes.
///
/// # Errors
/// It cannot be read, or its first line says nothing.
pub(super) fn read(path: &Path) -> io::Result<Read> {
    let mut lines = io::BufReader::new(crate::disk::fsutil::open_own(path)?).split(b'\n');
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let mut found = Read {
        head: serde_json::from_slice(&first)?,
        sets: Vec::new(),
        before: HashMap::new(),
    };
    for line in lines {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else {
            break;
        };
        match line {
            Line::Set(set) => found.sets.push((set, Vec::new())),
            Line::Path(path, before) => {
                found.before.insert(path.as_path().to_path_buf(), before);
            }
            Line::File(set, size, time) => {
                if let Some((_, files)) = found.sets.get_mut(set) {
                    files.push((size, time));
                }
            }
        }
    }
    Ok(found)
}

/// A stat as a list of numbers: there may be a hundred thousand.
mod stat_as_list {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Kind, Stat, Time};

    type List = (u8, u32, u32, u32, u64, Time, Time, u64, u64, u32);

    pub(super) fn serialize<S: Serializer>(stat: &Stat, to: S) -> Result<S::Ok, S::Error> {
        let list: List = (
            stat.kind.to_u8(),
            stat.mode,
            stat.uid,
            stat.gid,
            stat.size,
            stat.mtime,
            stat.ctime,
            stat.inode,
            stat.device,
            stat.links,
        );
        list.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Stat, D::Error> {
        let (kind, mode, uid, gid, size, mtime, ctime, inode, device, links) =
            List::deserialize(from)?;
        let kind = Kind::from_u8(kind);
        Ok(Stat {
            kind: kind.ok_or_else(|| serde::de::Error::custom("unknown kind"))?,
            mode,
            uid,
            gid,
            size,
            mtime,
            ctime,
            inode,
            device,
            links,
        })
    }
}
