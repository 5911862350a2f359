use std::sync::Arc;

use super::*;
use crate::base::id::Digest;
use crate::disk::storage::MemoryStorage;
use crate::model::manifest::{Body, Content, Sealed};
use crate::privacy::Fingerprint;

/// Whatever planned it, and whatever mistake it made: a placeholder never gets into a file in use.
#[test]
fn a_placeholder_of_the_file_never_gets_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(MemoryStorage::new());
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let repo = Repository::create(storage, &dir.path().join("cache"), now).unwrap();
    let fingerprint: Fingerprint = "0123456789abcdef".parse().unwrap();
    let other: Fingerprint = "fedcba9876543210".parse().unwrap();
    let write = |name: &str, text: &str| {
        let path = RepoPath::new(name).unwrap();
        let entry = Entry {
            path: path.clone(),
            kind: Kind::File,
            mode: 0o600,
            mtime: crate::model::manifest::Time(1_800_000_000, 0),
            uid: 0,
            gid: 0,
            size: text.len() as u64,
            body: Body {
                content: Some(Content::whole(
                    Digest::of(text.as_bytes()),
                    text.len() as u64,
                )),
                sealed: Some(Box::new(Sealed {
                    mac: Digest::of(b"what it was"),
                    size: 10,
                    whole: false,
                    values: vec![fingerprint],
                    kinds: std::collections::BTreeMap::new(),
                })),
                ..Body::default()
            },
        };
        let job = Job {
            site: 0,
            path,
            act: Act::Write,
            entry: Some(Arc::new(entry.clone())),
            seen: None,
            bytes: Some(Arc::new(text.as_bytes().to_vec())),
        };
        let mut target = Target::open(dir.path(), Fidelity::InPlace).unwrap();
        write_one(&mut Reader::new(&repo), &mut target, &job, &entry, false)
    };
    let text = |value: &Fingerprint| format!("key = bdr:sealed:v1:aws-key:{value}\n");
    fsutil::write_new(&dir.path().join("live.env"), b"key = the live one\n", 0o600).unwrap();
    assert!(matches!(
        write("live.env", &text(&fingerprint)),
        Err(Error::Sealed { .. })
    ));
    let live = std::fs::read_to_string(dir.path().join("live.env")).unwrap();
    assert_eq!(live, "key = the live one\n");
    // A copy next to it may have one, and text that does not stand for a value of this file is only
    // text.
    write("live.env.bdr-restored", &text(&fingerprint)).unwrap();
    write("notes.txt", &text(&other)).unwrap();
}
