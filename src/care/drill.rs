//! Proves that a backup is usable: restores a snapshot into a scratch directory, compares every
//! file with what was stored, and opens files that have a format of their own.
//!
//! There are two kinds of results. *Damage*: a file did not come back as it was stored, or a
//! database that bdr copied does not open. *Remarks*: a file claims to be JSON and is not valid. It
//! came back exactly, so it was like that when it was backed up.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::SnapshotId;
use crate::base::monitor::Monitor;
use crate::base::path::RawName;
use crate::disk::fsutil::{self, OwnTree};
use crate::disk::sqlite;
use crate::model::manifest::{Entry, Flag, Kind};
use crate::recover::restore;
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, Snapshot};
use crate::repo::summaries::Summary;

/// The largest JSON document that is read as a whole, in bytes; logs are read line by line,
/// whatever their size.
const MAX_DOCUMENT: u64 = 256 << 20;
/// Free space needed in addition to the content, in bytes: for directories, and the overhead of
/// each file.
const MARGIN_BYTES: u64 = 256 << 10;

/// The result of a drill of one snapshot.
#[derive(Debug, Clone)]
pub struct Drilled {
    pub snapshot: SnapshotId,
    /// Files restored and compared.
    pub files: u64,
    pub bytes: u64,
    /// SQLite databases opened and checked.
    pub databases: u64,
    /// JSON documents and logs read.
    pub documents: u64,
    /// What did not come back as it was stored, or is unusable; with the original paths.
    pub damage: Vec<PathNote>,
    /// What came back exactly but was invalid when it was backed up.
    pub remarks: Vec<PathNote>,
    pub elapsed: Duration,
}

/// Returns the snapshots for a drill: the newest backup and a random older one. `dice` is any
/// number.
pub fn choose(backups: &[&Summary], dice: u64) -> Vec<SnapshotId> {
    let Some((newest, older)) = backups.split_last() else {
        return Vec::new();
    };
    let mut chosen = vec![newest.id];
    if let Some(number) = dice.checked_rem(older.len() as u64) {
        // In range, because it is a remainder.
        chosen.extend(
            usize::try_from(number)
                .ok()
                .and_then(|n| older.get(n))
                .map(|s| s.id),
        );
    }
    chosen
}

/// Restores a snapshot below `scratch`, an existing directory, checks it, and removes it again.
///
/// # Errors
/// There is no room for it, the scratch directory cannot be written, a listing is damaged, or the user stopped it.
pub fn drill(
    repo: &Repository,
    snapshot: &Snapshot,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Drilled> {
    let started = Instant::now();
    let bytes = snapshot.stats.bytes;
    let needed = bytes.saturating_add(bytes / 8).saturating_add(MARGIN_BYTES);
    if let Some(free) = fsutil::free_bytes(scratch)
        && free < needed
    {
        let (needed, free) = (
            crate::base::units::size(needed),
            crate::base::units::size(free),
        );
        return Err(Error::NoRoom {
            place: crate::base::path::show(scratch.as_os_str()),
            reason: format!("it takes {needed}, and {free} are free"),
        });
    }
    let place = tempfile::Builder::new()
        .prefix("drill-")
        .tempdir_in(scratch)
        .context("create a directory in", scratch)?;
    fsutil::ensure_mode(place.path(), 0o700).context("open", place.path())?;
    let mut drilled = Drilled {
        snapshot: snapshot.id,
        files: 0,
        bytes: 0,
        databases: 0,
        documents: 0,
        damage: Vec::new(),
        remarks: Vec::new(),
        elapsed: Duration::ZERO,
    };
    let looked = look(repo, snapshot, place.path(), &mut drilled, monitor);
    // Restored objects may have modes that prevent an ordinary removal.
    let removed = OwnTree::made(&place).remove();
    looked?;
    removed?;
    drilled.elapsed = started.elapsed();
    Ok(drilled)
}

fn look(
    repo: &Repository,
    snapshot: &Snapshot,
    place: &Path,
    drilled: &mut Drilled,
    monitor: &dyn Monitor,
) -> Result<()> {
    let problems = restore::rehearse(repo, snapshot, place, monitor)?;
    check_room(place, &problems)?;
    for problem in problems {
        let path = original(snapshot, place, problem.path.as_path());
        drilled.damage.push(PathNote { path, ..problem });
    }
    for record in &snapshot.roots {
        let root = place.join(&record.name);
        for entry in repo
            .listing(record)?
            .iter()
            .filter(|e| e.kind == Kind::File)
        {
            if monitor.stopped() {
                return Err(Error::Interrupted);
            }
            drilled.files += 1;
            drilled.bytes += entry.size;
            let file = entry.path.to_path(&root);
            let note = |reason: String| PathNote {
                path: RawName(entry.path.to_path(record.path.as_path()).into_os_string()),
                reason,
            };
            if !is_below(&root, &entry.path) {
                continue;
            }
            match check(&file, entry) {
                Use::Nothing => {}
                Use::Database(None) => drilled.databases += 1,
                Use::Database(Some(reason)) => {
                    drilled.databases += 1;
                    // If the original is damaged in the same way, and has no companions, the backup
                    // is not to blame.
                    let live = entry.path.to_path(record.path.as_path());
                    if is_alone(&file) && is_same_file(&live, repo, entry) {
                        drilled.remarks.push(note(reason));
                    } else {
                        drilled.damage.push(note(reason));
                    }
                }
                Use::Document(None) => drilled.documents += 1,
                Use::Document(Some(reason)) => {
                    drilled.documents += 1;
                    drilled.remarks.push(note(reason));
                }
            }
        }
    }
    Ok(())
}

/// The errors for a full disk, or a used-up quota.
const NO_ROOM: [&str; 3] = ["(os error 28)", "(os error 112)", "(os error 122)"];

/// Makes sure that a trial did not fail for lack of space, which says nothing about what is stored.
///
/// # Errors
/// [`Error::NoRoom`].
pub(crate) fn check_room(place: &Path, problems: &[PathNote]) -> Result<()> {
    let full = |note: &&PathNote| NO_ROOM.iter().any(|text| note.reason.ends_with(text));
    match problems.iter().find(full) {
        Some(note) => Err(Error::NoRoom {
            place: crate::base::path::show(place.as_os_str()),
            reason: note.reason.clone(),
        }),
        None => Ok(()),
    }
}

/// Returns where a restored file came from.
fn original(snapshot: &Snapshot, place: &Path, restored: &Path) -> RawName {
    let found = snapshot.roots.iter().find_map(|record| {
        let below = restored.strip_prefix(place.join(&record.name)).ok()?;
        Some(record.path.as_path().join(below))
    });
    RawName(
        found
            .unwrap_or_else(|| restored.to_path_buf())
            .into_os_string(),
    )
}

/// Returns true if a regular file is at a path and no symlink on the way: a restored symlink could
/// lead to files in use.
fn is_below(root: &Path, path: &crate::base::path::RepoPath) -> bool {
    let kind = |path: &crate::base::path::RepoPath| {
        let found = std::fs::symlink_metadata(path.to_path(root));
        found.map(|found| found.file_type()).ok()
    };
    let mut above = std::iter::successors(path.parent(), crate::base::path::RepoPath::parent);
    kind(path).is_some_and(|kind| kind.is_file())
        && above.all(|dir| kind(&dir).is_some_and(|kind| kind.is_dir()))
}

/// What can be checked about a file.
enum Use {
    /// Nothing beyond its bytes, or these were not restored.
    Nothing,
    /// A SQLite database, and what is wrong with it.
    Database(Option<String>),
    /// JSON, and what is wrong with it.
    Document(Option<String>),
}

fn check(path: &Path, entry: &Entry) -> Use {
    let Ok(mut file) = File::open(path) else {
        // Counted already.
        return Use::Nothing;
    };
    let mut head = Vec::new();
    if (&mut file).take(16).read_to_end(&mut head).is_err() {
        return Use::Nothing;
    }
    if head == sqlite::MAGIC {
        return Use::Database(sqlite::check(path).err());
    }
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    if head.is_empty() {
        return Use::Nothing;
    }
    match extension.as_deref() {
        Some("json") if entry.size <= MAX_DOCUMENT => Use::Document(document(path)),
        Some("jsonl" | "ndjson") => {
            let torn = entry.body.flags.contains(&Flag::Torn);
            Use::Document(log(path, torn))
        }
        _ => Use::Nothing,
    }
}

/// JSON as its usual readers accept it: comments and trailing commas are not our business.
fn document(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err()?;
    let relaxed = std::str::from_utf8(bytes).is_ok_and(|text| {
        let (collect, options) = (CollectOptions::default(), ParseOptions::default());
        parse_to_ast(text, &collect, &options).is_ok()
    });
    (!relaxed).then(|| format!("it is not JSON: {error}"))
}

fn log(path: &Path, torn: bool) -> Option<String> {
    use std::io::BufRead as _;
    let mut lines = std::io::BufReader::new(File::open(path).ok()?);
    let mut number = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines)
            .take(MAX_DOCUMENT)
            .read_until(b'\n', &mut line)
            .ok()?;
        if read == 0 {
            return None;
        }
        number += 1;
        let last = !line.ends_with(b"\n");
        let text = line.trim_ascii();
        if text.is_empty() || last && torn {
            continue;
        }
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            return Some(format!("line {number} is not JSON: {error}"));
        }
    }
}

/// Returns true if a database has no companions that would have to match it.
fn is_alone(database: &Path) -> bool {
    sqlite::COMPANIONS.iter().all(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        !Path::new(&name).exists()
    })
}

/// Returns true if the existing file has the content of an entry.
fn is_same_file(live: &Path, repo: &Repository, entry: &Entry) -> bool {
    let opened = fsutil::open_own(live).ok();
    let plain = opened.filter(|file| file.metadata().is_ok_and(|found| found.is_file()));
    plain.is_some_and(|mut file| repo.has_content(&entry.body, &mut file))
}
