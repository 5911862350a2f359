//! Pieces of JSON documents; `docs/json.md` is their manual.

use std::ffi::OsStr;
use std::path::Path;

use bdr::base::path::{RawName, os_to_bytes, show};
use bdr::model::manifest::{Entry, Kind};
use bdr::repo::snapshot::PathNote;
use bdr::repo::summaries::Summary;
use serde_json::{Map, Value, json};

use super::when;

/// Puts a name under `key`; where it is not UTF-8, its bytes under `<key>_hex` too.
pub(crate) fn put_name(map: &mut Map<String, Value>, key: &str, name: &OsStr) {
    match name.to_str() {
        Some(text) => map.insert(key.to_owned(), text.into()),
        None => {
            map.insert(format!("{key}_hex"), hex::encode(os_to_bytes(name)).into());
            map.insert(key.to_owned(), show(name).into())
        }
    };
}

/// Returns an object with a path and further members.
pub(crate) fn with_path(path: &Path, rest: Value) -> Value {
    let mut map = match rest {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    put_name(&mut map, "path", path.as_os_str());
    Value::Object(map)
}

/// Returns notes as `[{"path","reason"}]`.
pub(crate) fn notes(notes: &[PathNote]) -> Value {
    notes
        .iter()
        .map(|n| with_path(n.path.as_path(), json!({"reason": n.reason})))
        .collect()
}

/// Returns a command as strings; what is not UTF-8 is escaped.
pub(crate) fn argv(argv: &[RawName]) -> Value {
    argv.iter().map(|a| Value::from(a.to_string())).collect()
}

/// Returns the word for a kind.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "character-device",
        Kind::BlockDevice => "block-device",
    }
}

/// Returns what a snapshot knows of a file.
pub(crate) fn entry(path: &Path, entry: &Entry) -> Value {
    let mtime = chrono::DateTime::from_timestamp(entry.mtime.0, entry.mtime.1).map(when::utc);
    let mut map = Map::new();
    map.insert("kind".into(), kind(entry.kind).into());
    map.insert("mode".into(), format!("{:04o}", entry.mode).into());
    map.insert("mtime".into(), mtime.into());
    if entry.kind == Kind::File {
        map.insert("bytes".into(), entry.size.into());
        map.insert("sha256".into(), entry.digest().map(|d| d.to_hex()).into());
    }
    if entry.kind == Kind::Symlink {
        let target = bdr::base::path::os_from_bytes(&entry.body.target);
        put_name(&mut map, "target", &target);
    }
    with_path(path, Value::Object(map))
}

/// Returns one line of `bdr list`.
pub(crate) fn snapshot(snapshot: &Summary, short: &str) -> Value {
    let roots: Value = snapshot
        .roots
        .iter()
        .map(|r| {
            let rest = json!({"name": r.name, "files": r.files, "bytes": r.bytes});
            with_path(r.path.as_path(), rest)
        })
        .collect();
    json!({
        "id": snapshot.id.to_string(),
        "short": short,
        "seq": snapshot.seq,
        "time": when::utc(snapshot.time),
        "kind": snapshot.kind,
        "trigger": snapshot.trigger.word(),
        "label": snapshot.label,
        "tags": snapshot.tags,
        "host": snapshot.host,
        "partial": snapshot.partial,
        "files": snapshot.stats.files,
        "bytes": snapshot.stats.bytes,
        "stored_bytes": snapshot.stats.stored_bytes,
        "roots": roots,
    })
}

/// Returns the records of a repository that were listed and could not be read.
pub(crate) fn unreadable(repo: &bdr::repo::Repository) -> Vec<Value> {
    let list = repo.unreadable().into_iter();
    list.map(|(name, reason)| json!({"name": name, "reason": reason}))
        .collect()
}
