//! Consistent copies of SQLite databases that are in use.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::RepoPath;

/// How every SQLite database begins (<https://www.sqlite.org/fileformat2.html>).
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What SQLite keeps beside a database, by suffix.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Returns the name of the database that a companion file belongs to.
pub fn database_of(name: &[u8]) -> Option<&[u8]> {
    COMPANIONS
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix.as_bytes()))
        .filter(|base| !base.is_empty())
}

/// Returns the path of what SQLite keeps beside a database.
pub fn companion(database: &RepoPath, suffix: &str) -> RepoPath {
    let name = [database.name(), suffix.as_bytes()].concat();
    database.parent().unwrap_or_default().join(&name)
}

/// Copies a database through SQLite's backup interface into a private file below `scratch`.
///
/// In one step: stepwise copies start over whenever another process writes.
///
/// # Errors
/// It is no database, encrypted, locked for good, or the copy does not pass its integrity check.
pub fn copy_online(database: &Path, scratch: &Path) -> Result<tempfile::NamedTempFile> {
    crate::disk::fsutil::create_dir_private(scratch)?;
    let copy = tempfile::Builder::new()
        .prefix("sqlite-")
        .tempfile_in(scratch)
        .context("create", scratch)?;
    let failed = |error: rusqlite::Error| {
        Error::io("copy", database, std::io::Error::other(error.to_string()))
    };
    if !is_alone_with_its_own(database) {
        let strange = std::io::Error::other("the files beside it are not SQLite's");
        return Err(Error::io("copy", database, strange));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(database, flags).map_err(failed)?;
    source
        .busy_timeout(Duration::from_secs(5))
        .map_err(failed)?;
    {
        let mut target = Connection::open(copy.path()).map_err(failed)?;
        let backup = Backup::new(&source, &mut target).map_err(failed)?;
        let mut result = StepResult::Busy;
        for _ in 0..50 {
            result = backup.step(-1).map_err(failed)?;
            if result == StepResult::Done {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(backup);
        if result != StepResult::Done {
            return Err(Error::io(
                "copy",
                database,
                std::io::ErrorKind::WouldBlock.into(),
            ));
        }
        let check: String = target
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        if check != "ok" {
            return Err(Error::damaged(database.display().to_string(), check));
        }
    }
    Ok(copy)
}

/// How a rollback journal ends that names another file, which SQLite reads, and removes when it is done.
const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Returns true if opening a database touches nothing but it and regular files beside it. SQLite follows links in the place of those, and makes what they
/// lead to; a journal can name any file of the system.
fn is_alone_with_its_own(database: &Path) -> bool {
    use std::io::{Read as _, Seek as _, SeekFrom};
    COMPANIONS.iter().all(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let path = Path::new(&name);
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => return false,
            Ok(_) if *suffix == "-journal" => {}
            Ok(_) => return true,
            Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
        }
        let Ok(mut journal) = crate::disk::fsutil::open_own(path) else {
            return false;
        };
        let mut end = [0; 8];
        journal.seek(SeekFrom::End(-8)).is_err()
            || journal
                .read_exact(&mut end)
                .is_ok_and(|()| end != SUPER_JOURNAL)
    })
}

/// Opens a copy of a database, with the `-wal` that lies beside it, and looks through it. Not for one that is in use: this may write to it.
///
/// # Errors
/// Says in which way it is broken.
pub fn check(copy: &Path) -> std::result::Result<(), String> {
    // As whole as can be told without opening it.
    if !is_alone_with_its_own(copy) {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let answer = Connection::open_with_flags(copy, flags).and_then(|connection| {
        // What its schema calls is whoever wrote it.
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    });
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        // The rest of the answer may name what is in it.
        Ok(_) => Err("its pages are inconsistent".to_owned()),
        // A collation or module that only its own program has: as whole as can be told from outside.
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::Unknown =>
        {
            Ok(())
        }
        Err(error) => Err(format!("it cannot be opened as a database: {error}")),
    }
}
