//! The demonstration's scratch workspace: created, read and compared without the engine.
#![expect(
    clippy::disallowed_methods,
    reason = "a scratch directory; the engine must not check itself"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bdr::Error;
use bdr::base::error::IoContext as _;
use bdr::base::path::show;

use crate::app::error::Failure;

/// What must be the same again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    kind: &'static str,
    content: Vec<u8>,
    mode: u32,
    modified: Option<SystemTime>,
    /// The first path that is the same file.
    same_as: Option<PathBuf>,
}

/// Creates the workspace; returns the names in it.
pub(super) fn make(root: &Path) -> Result<Vec<OsString>, Failure> {
    for module in 0..12 {
        for file in 0..25 {
            let path = root.join(format!("src/module-{module:02}/file-{file:02}.rs"));
            let line = format!("// file {file} of module {module}\nfn work() {{}}\n");
            write(&path, line.repeat(3 + (module * file) % 40).as_bytes())?;
            age(&path, (module * 31 + file * 7 + 1) as u64)?;
        }
    }
    for day in 1..=12 {
        let line = format!("{{\"day\":{day},\"event\":\"worked\",\"by\":\"demo\"}}\n");
        write(
            &root.join(format!("logs/day-{day:02}.jsonl")),
            line.repeat(400).as_bytes(),
        )?;
    }
    write(
        &root.join("notes/a name with spaces, ünïcode.md"),
        b"remember this\n",
    )?;
    write(&root.join("notes/empty"), b"")?;
    fs::create_dir_all(root.join("notes/an empty directory")).context("create", root)?;
    database(&root.join("data/work.sqlite"))?;
    special(root)?;
    age(&root.join("notes/empty"), 90_000_000)?;
    let mut names = Vec::new();
    for entry in bdr::disk::fsutil::read_dir(root).context("read", root)? {
        names.push(entry.context("read", root)?.file_name());
    }
    names.sort();
    Ok(names)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context("create", parent)?;
    }
    fs::write(path, bytes).context("write", path)
}

/// Sets a time that no clock would have given by itself.
fn age(path: &Path, seconds: u64) -> Result<(), Error> {
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 + seconds, 123_456_700);
    let file = File::options()
        .append(true)
        .open(path)
        .context("open", path)?;
    file.set_times(FileTimes::new().set_modified(then))
        .context("change the time of", path)
}

fn database(path: &Path) -> Result<(), Failure> {
    write(path, b"")?;
    let fill = || -> rusqlite::Result<()> {
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO task SELECT i, 'task number ' || i, i % 3 = 0 FROM n;",
        )
    };
    fill()
        .map_err(|error| Error::io("write", path, std::io::Error::other(error.to_string())).into())
}

#[cfg(unix)]
fn special(root: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let link = root.join("notes/latest.jsonl");
    symlink("../logs/day-12.jsonl", &link).context("link", &link)?;
    let dangling = root.join("notes/dangling");
    symlink("nowhere", &dangling).context("link", &dangling)?;
    let twin = root.join("logs/day-12-twin.jsonl");
    fs::hard_link(root.join("logs/day-12.jsonl"), &twin).context("link", &twin)?;
    for (name, mode) in [
        ("src/module-00/file-00.rs", 0o755),
        ("notes/empty", 0o600),
        ("logs", 0o750),
    ] {
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .context("change the mode of", &path)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn special(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// Reads everything below `root`.
pub(super) fn read(root: &Path) -> Result<BTreeMap<PathBuf, Object>, Failure> {
    let mut tree = BTreeMap::new();
    let mut files: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).to_owned();
            Error::io("read", path, error.into())
        })?;
        let metadata = entry
            .metadata()
            .map_err(|e| Error::io("read", entry.path(), e.into()))?;
        let kind = entry.file_type();
        let relative = entry
            .path()
            .strip_prefix(root)
            .unwrap_or(entry.path())
            .to_owned();
        let (kind, content) = if kind.is_symlink() {
            let target = fs::read_link(entry.path()).context("read", entry.path())?;
            ("symlink", target.into_os_string().into_encoded_bytes())
        } else if kind.is_dir() {
            ("directory", Vec::new())
        } else {
            (
                "file",
                fs::read(entry.path()).context("read", entry.path())?,
            )
        };
        let same_as = identity(&metadata)
            .filter(|_| kind == "file")
            .map(|id| files.entry(id).or_insert_with(|| relative.clone()).clone());
        let object = Object {
            kind,
            content,
            mode: mode(&metadata),
            // A symlink's own time cannot be set everywhere, and nothing reads it.
            modified: metadata.modified().ok().filter(|_| kind != "symlink"),
            same_as,
        };
        tree.insert(relative, object);
    }
    Ok(tree)
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

#[cfg(not(unix))]
fn mode(metadata: &fs::Metadata) -> u32 {
    u32::from(metadata.permissions().readonly())
}

/// Returns number and size of the files.
pub(super) fn totals(tree: &BTreeMap<PathBuf, Object>) -> (u64, u64) {
    let files = tree.values().filter(|object| object.kind == "file");
    files.fold((0, 0), |(files, bytes), file| {
        (files + 1, bytes + file.content.len() as u64)
    })
}

/// Returns a line for every path that has changed.
pub(super) fn compare(
    before: &BTreeMap<PathBuf, Object>,
    after: &BTreeMap<PathBuf, Object>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, old) in before {
        let shown = show(path.as_os_str());
        let Some(new) = after.get(path) else {
            lines.push(format!("{shown}: missing"));
            continue;
        };
        let parts = [
            ("kind", old.kind == new.kind),
            ("content", old.content == new.content),
            ("mode", old.mode == new.mode),
            ("time", old.modified == new.modified),
            ("hard links", old.same_as == new.same_as),
        ];
        let wrong: Vec<&str> = parts
            .iter()
            .filter(|(_, same)| !same)
            .map(|(part, _)| *part)
            .collect();
        if !wrong.is_empty() {
            lines.push(format!("{shown}: {}", wrong.join(", ")));
        }
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        lines.push(format!("{}: not there before", show(path.as_os_str())));
    }
    lines
}
