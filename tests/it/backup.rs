//! A snapshot holds everything, and only what changed is read and stored.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bdr::base::monitor::NullMonitor;
use bdr::recover::restore::{Overwrite, RestoreOptions};
use bdr::repo::Repository;
use bdr::repo::snapshot::{Snapshot, SnapshotKind};

use crate::support::{Place, assert_same, later, now, options, picture};

pub(crate) fn restore_options(target: Option<&Path>) -> RestoreOptions {
    RestoreOptions {
        target: target.map(Path::to_path_buf),
        beneath: None,
        paths: Vec::new(),
        overwrite: Overwrite::IfChanged,
        delete: false,
        look_only: false,
        now: now(),
        cwd: "/".into(),
        argv: Vec::new(),
        never: Vec::new(),
        host: String::new(),
        secrets: bdr::recover::unseal::SecretOptions::default(),
        agent: None,
    }
}

/// Restores a snapshot elsewhere and returns where its root `tree` is.
pub(crate) fn restore_to(
    repo: &Repository,
    snapshot: &Snapshot,
    target: &Path,
) -> std::path::PathBuf {
    let options = restore_options(Some(target));
    let plan = bdr::recover::restore::plan(repo, snapshot, &options, &NullMonitor).unwrap();
    let report =
        bdr::recover::restore::apply(repo, repo, snapshot, plan, &options, &NullMonitor).unwrap();
    assert_eq!(report.problems, []);
    target.join("tree")
}

/// One of everything that a tree can hold.
pub(crate) fn odd_tree(place: &Place) {
    place.write("plain.txt", b"hello");
    place.write("empty", b"");
    place.write("deep/er/than/this/file.json", b"{\"a\": 1}");
    place.write("big.log", &b"0123456789abcdef\n".repeat(20_000));
    place.write("-leading", b"dash");
    place.write("new\nline", b"n");
    place.write("con", b"reserved on Windows");
    place.write(&"x".repeat(255), b"long name");
    place.write(
        &format!("{}/{}/f", "d".repeat(120), "e".repeat(120)),
        b"long path",
    );
    let tree = place.tree();
    std::fs::write(
        tree.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")),
        b"bytes",
    )
    .unwrap();
    std::fs::create_dir_all(tree.join("empty dir/inside")).unwrap();
    std::os::unix::fs::symlink("plain.txt", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at all", tree.join("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", tree.join("loop")).unwrap();
    std::fs::hard_link(tree.join("plain.txt"), tree.join("deep/hard")).unwrap();
    std::fs::set_permissions(tree.join("empty"), std::fs::Permissions::from_mode(0o444)).unwrap();
    std::fs::set_permissions(
        tree.join("empty dir"),
        std::fs::Permissions::from_mode(0o711),
    )
    .unwrap();
    let _ = xattr::set(tree.join("plain.txt"), "user.note", b"kept \xff");
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 123_456_789);
    let file = std::fs::File::options()
        .write(true)
        .open(tree.join("big.log"))
        .unwrap();
    file.set_modified(old).unwrap();
}

#[test]
fn everything_comes_back_from_a_full_and_from_an_incremental() {
    let place = Place::new();
    odd_tree(&place);
    let repo = place.repository();
    let mut full = options();
    full.full = true;
    let first = place.backup_with(&repo, &full);
    assert_eq!(first.snapshot.kind, SnapshotKind::Full);
    let before = picture(&place.tree());
    let restored = restore_to(&repo, &first.snapshot, &place.path("out1"));
    assert_same(&before, &picture(&restored), "full");

    place.write("plain.txt", b"changed");
    place.write("added/file", b"new");
    std::fs::remove_dir_all(place.tree().join("deep")).unwrap();
    std::fs::remove_file(place.tree().join("link")).unwrap();
    std::fs::create_dir(place.tree().join("link")).unwrap();
    place.write("link/was a symlink", b"x");
    let second = place.backup(&repo);
    assert_eq!(second.snapshot.kind, SnapshotKind::Incremental);
    let after = picture(&place.tree());
    let restored = restore_to(&repo, &second.snapshot, &place.path("out2"));
    assert_same(&after, &picture(&restored), "incremental");
    let restored = restore_to(&repo, &first.snapshot, &place.path("out3"));
    assert_same(&before, &picture(&restored), "the first, after the second");
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let place = Place::new();
    odd_tree(&place);
    let repo = place.repository();
    place.backup_with(&repo, &later(60));
    let second = place.backup_with(&repo, &later(61));
    assert_eq!(
        (
            second.read_bytes,
            second.added,
            second.changed,
            second.removed
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(second.snapshot.packs, []);
    let third = place.backup_with(&repo, &later(62));
    assert!(
        !third.reused,
        "a scheduled backup is a point in time of its own"
    );
}

#[test]
fn a_diff_says_the_same_with_and_without_what_is_remembered() {
    use bdr::model::manifest::Change;
    let place = Place::new();
    odd_tree(&place);
    // Generated, and of the form of a token: it is stored as a placeholder.
    let token = |seed: u32| format!("token = \"ghp_{}\"\n", format!("{seed:04}aZ").repeat(6));
    place.write("secret.toml", token(1).as_bytes());
    let repo = place.repository();
    let first = place.backup(&repo).snapshot;
    let told = |from: &Snapshot| -> Vec<String> {
        let roots = bdr::find::query::diff(&repo, from, None, &NullMonitor).unwrap();
        let changes = roots.into_iter().flat_map(|(_, _, changes)| changes);
        let word = |change: &Change| match change {
            Change::Added(_) => "+",
            Change::Removed(_) => "-",
            Change::Modified(_) => "M",
            Change::Metadata(_) => "m",
        };
        // A directory's time says nothing that its entries do not.
        changes
            .map(|change| {
                format!(
                    "{} {}",
                    word(&change),
                    bdr::base::path::show_bytes(change.path().as_bytes())
                )
            })
            .collect()
    };
    assert_eq!(told(&first), Vec::<String>::new());
    let tree = place.tree();
    // Content of the same length under the same time: only its ctime tells.
    let same_time = |path: &str, content: &[u8]| {
        let time = tree.join(path).metadata().unwrap().modified().unwrap();
        place.write(path, content);
        let file = std::fs::File::options().write(true).open(tree.join(path));
        file.unwrap().set_modified(time).unwrap();
    };
    same_time("con", b"RESERVED on Windows");
    std::fs::remove_file(tree.join("link")).unwrap();
    std::os::unix::fs::symlink("empty", tree.join("link")).unwrap();
    place.write("secret.toml", token(2).as_bytes());
    let mut wanted = vec!["M con", "M link", "M secret.toml"];
    assert_eq!(told(&first), wanted);
    let second = place.backup(&repo).snapshot;
    assert_eq!(told(&first), wanted);
    // And on, after a snapshot that knows of that.
    same_time("plain.txt", b"HELLO");
    std::fs::remove_dir_all(tree.join("empty dir")).unwrap();
    std::fs::set_permissions(tree.join("empty"), std::fs::Permissions::from_mode(0o640)).unwrap();
    place.write("added", b"new");
    wanted = vec![
        "+ added",
        "M deep/hard",
        "m empty",
        "- empty dir",
        "- empty dir/inside",
        "M plain.txt",
    ];
    assert_eq!(told(&second), wanted);
    let known = told(&first);
    std::fs::remove_dir_all(place.cache()).unwrap();
    assert_eq!(told(&second), wanted, "without a cache");
    assert_eq!(told(&first), known, "without a cache");
}
