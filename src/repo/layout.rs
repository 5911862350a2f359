//! Names of everything in a repository, as in `docs/format.md`. No other module makes one.

use crate::base::id::{Digest, Id, OperationId, SnapshotId};

/// Returns the name of a snapshot record. Sorting by name gives the order in which snapshots were
/// taken.
pub fn snapshot(seq: u64, id: SnapshotId) -> String {
    format!("snapshots/{seq:010}-{id}.json")
}

/// Returns what messages call a snapshot record if its number is unknown.
pub fn some_snapshot(id: SnapshotId) -> String {
    format!("snapshots/{id}.json")
}

pub fn begin(id: OperationId) -> String {
    operation(id, "begin")
}

pub fn end(id: OperationId) -> String {
    operation(id, "end")
}

pub fn operation(id: OperationId, part: &str) -> String {
    format!("operations/{id}.{part}.json")
}

/// Returns the operation to which a record of this name belongs.
pub fn operation_of(name: &str) -> Option<OperationId> {
    let file = name.strip_prefix("operations/")?;
    file.split('.').next()?.parse().ok()
}

pub fn kept_set(id: Id) -> String {
    format!("kept/{id}.json")
}

pub fn kept_contents(id: Id) -> String {
    format!("kept/{id}.contents.json.gz")
}

/// Returns the set to which a record of this name belongs.
pub fn set_of(name: &str) -> Option<Id> {
    let file = name.strip_prefix("kept/")?;
    file.split('.').next()?.parse().ok()
}

/// Returns what messages call a file of a set.
pub fn kept_file(set: Id, number: u32) -> String {
    format!("kept/{set}/{number}")
}

/// Returns the name of the user's marks on a snapshot: pins, tags.
pub fn mark(id: Id) -> String {
    format!("marks/{id}.json")
}

/// Returns the name of the note that a snapshot was removed on purpose.
pub fn forgotten(id: Id) -> String {
    format!("marks/{id}.forgotten.json")
}

/// Returns the name of the note that a damaged pack was set aside.
pub fn set_aside(pack: Digest) -> String {
    format!("marks/{}.aside.json", pack.to_hex())
}

pub fn pack(id: Digest) -> String {
    let hex = id.to_hex();
    format!("packs/{}/{hex}.tar.gz", &hex[..2])
}

pub fn key_frame(id: Digest) -> String {
    format!("manifests/{}.json.gz", id.to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_name_of_each_of_its_records() {
        let id: OperationId = "01JDBYZ3M6ZQ0VJ7CSPQ3W5XKT".parse().unwrap();
        for name in [begin(id), end(id), operation(id, "undone")] {
            assert_eq!(operation_of(&name), Some(id), "{name}");
        }
        assert_eq!(operation_of("snapshots/x.json"), None);
        assert_eq!(operation_of("operations/x.json"), None);
    }
}
