//! Pieces of JSON documents; `docs/json.md` is their manual.

use std::ffi::OsStr;
use std::path::Path;

use bdr::base::path::{os_to_bytes, show};
use bdr::model::manifest::Kind;
use serde_json::{Map, Value};

/// Puts a name under `key`; if it is not UTF-8, its bytes under `<key>_hex` too.
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
