//! `bdr mcp` on the real binary, by raw messages of both eras.

mod clients;
mod contract;
mod limits;
mod project;
mod protocol;
mod stories;
mod tools;
mod trouble;

use std::fs;

use serde_json::{Value, json};

use crate::support::Place;

fn place() -> Place {
    let place = Place::with_repository();
    for n in 0..30 {
        place.write(&format!("src/f{n}.txt"), format!("file {n}\n").as_bytes());
    }
    place.write("registry.json", b"{\n  \"a\": 1,\n  \"b\": [1, 2, 3]\n}\n");
    place.init();
    place
}

fn yes(_: &Value) -> Value {
    json!({"action": "accept", "content": {"proceed": true}})
}

/// Breaks the tree in three ways.
fn break_tree(place: &Place) {
    fs::remove_file(place.tree().join("src/f1.txt")).unwrap();
    fs::write(place.tree().join("registry.json"), "{}").unwrap();
    place.write("src/new.txt", b"new");
}

/// Without times: a directory has those of what was made in it meanwhile.
fn contents(
    tree: &std::collections::BTreeMap<std::path::PathBuf, crate::support::Object>,
) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    tree.iter()
        .map(|(path, object)| (path.clone(), object.content.clone()))
        .collect()
}
