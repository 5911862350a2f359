//! Consistent copies of SQLite databases in use.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::RepoPath;

/// The first bytes of every SQLite database (<https://www.sqlite.org/fileformat2.html>).
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Suffixes of the files that SQLite keeps next to a database.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Returns the name of the database to which a companion file belongs.
pub fn database_of(name: &[u8]) -> Option<&[u8]> {
    COMPANIONS
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix.as_bytes()))
        .filter(|base| !base.is_empty())
}

/// Returns the path of a companion of a database.
pub fn companion(database: &RepoPath, suffix: &str) -> RepoPath {
    let name = [database.name(), suffix.as_bytes()].concat();
    database.parent().unwrap_or_default().join(&name)
}

/// Copies a database through SQLite's backup interface into a private file below `scratch`.
///
/// In one step, because stepwise copies start over whenever another process writes.
///
/// # Errors
/// It is no database, encrypted, locked for good, or the copy fails its integrity check.
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

/// The end of a rollback journal that names another file, which SQLite reads and finally removes.
const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Returns true if opening a database touches only it and regular files next to it. SQLite follows
/// symlinks in their place and creates what they lead to, and a journal can name any file of the
/// system.
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

/// Opens a copy of a database, with the `-wal` next to it, and checks it. Not for one in use,
/// because this may write to it.
///
/// # Errors
/// Says how it is damaged.
pub fn check(copy: &Path) -> std::result::Result<(), String> {
    // It cannot be opened safely, so it counts as sound.
    if !is_alone_with_its_own(copy) {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let answer = Connection::open_with_flags(copy, flags).and_then(|connection| {
        // Its schema may call functions, and anyone may have written it.
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    });
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        // The rest of the answer may contain data.
        Ok(_) => Err("its pages are inconsistent".to_owned()),
        // A collation or module that only its own program has: nothing more can be checked from
        // outside.
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::Unknown =>
        {
            Ok(())
        }
        Err(error) => Err(format!("it cannot be opened as a database: {error}")),
    }
}
