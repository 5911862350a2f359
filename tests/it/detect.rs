//! Changes are found on every axis, also where nothing that a lazy look sees has changed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bdr::model::manifest::Flag;

use crate::backup::restore_to;
use crate::support::{Place, assert_same, later, options, picture};

fn set_mtime(path: &Path, time: SystemTime) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

type Edit = (&'static str, fn(&Path));

/// Edits of `tree/f` (content `0123456789`, mtime long ago) beside `tree/d/x`.
const EDITS: [Edit; 14] = [
    ("size", |t| {
        fs::write(t.join("f"), "longer than before").unwrap();
    }),
    ("same size", |t| {
        fs::write(t.join("f"), "9876543210").unwrap();
    }),
    ("same size, mtime put back", |t| {
        let mtime = t.join("f").metadata().unwrap().modified().unwrap();
        fs::write(t.join("f"), "9876543210").unwrap();
        set_mtime(&t.join("f"), mtime);
    }),
    ("mtime forward", |t| {
        set_mtime(
            &t.join("f"),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000),
        );
    }),
    ("mtime backwards", |t| {
        set_mtime(
            &t.join("f"),
            SystemTime::UNIX_EPOCH + Duration::from_secs(5),
        );
    }),
    ("mode", |t| {
        fs::set_permissions(t.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    }),
    ("another inode, same content and mtime", |t| {
        let mtime = t.join("f").metadata().unwrap().modified().unwrap();
        fs::write(t.join("f2"), "0123456789").unwrap();
        set_mtime(&t.join("f2"), mtime);
        fs::rename(t.join("f2"), t.join("f")).unwrap();
        fs::set_permissions(t.join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    }),
    ("emptied", |t| fs::write(t.join("f"), "").unwrap()),
    ("removed", |t| fs::remove_file(t.join("f")).unwrap()),
    ("file becomes directory", |t| {
        fs::remove_file(t.join("f")).unwrap();
        fs::create_dir(t.join("f")).unwrap();
        fs::write(t.join("f/inside"), "x").unwrap();
    }),
    ("directory becomes file", |t| {
        fs::remove_dir_all(t.join("d")).unwrap();
        fs::write(t.join("d"), "x").unwrap();
    }),
    ("file becomes symlink", |t| {
        fs::remove_file(t.join("f")).unwrap();
        std::os::unix::fs::symlink("d/x", t.join("f")).unwrap();
    }),
    ("renamed directory", |t| {
        fs::rename(t.join("d"), t.join("e")).unwrap();
    }),
    ("hard link added", |t| {
        fs::hard_link(t.join("f"), t.join("g")).unwrap();
    }),
];

#[test]
fn every_kind_of_edit_is_found() {
    for (what, edit) in EDITS {
        let place = Place::new();
        place.write("f", b"0123456789");
        place.write("d/x", b"deep");
        set_mtime(
            &place.tree().join("f"),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        );
        let repo = place.repository();
        place.backup(&repo);
        edit(&place.tree());
        let report = place.backup(&repo);
        let out = tempfile::tempdir().unwrap();
        let tree = restore_to(&repo, &report.snapshot, out.path());
        assert_same(&picture(&place.tree()), &picture(&tree), what);
    }
}

#[test]
fn a_same_size_edit_within_one_tick_is_found() {
    // The stat is forced to be equal: only the racy rule can find this edit.
    let place = Place::new();
    place.write("f", b"before");
    let repo = place.repository();
    // The file's times are not older than the run's start.
    place.backup_with(&repo, &options());
    let state_path = fs::read_dir(repo.cache().join("state"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(place.tree().join("f"), b"after!").unwrap();
    // Make the state believe that it saw the file as it stands now.
    let metadata = place.tree().join("f").metadata().unwrap();
    rewrite_stat(&state_path, &metadata);
    let report = place.backup(&repo);
    let out = tempfile::tempdir().unwrap();
    let tree = restore_to(&repo, &report.snapshot, out.path());
    assert_eq!(fs::read(tree.join("f")).unwrap(), b"after!");
}

/// Puts the times of `metadata` into the state's entry of the only file.
fn rewrite_stat(state: &Path, metadata: &fs::Metadata) {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = fs::read(state).unwrap();
    // The entry of the file is the one with its inode.
    let inode = metadata.ino().to_le_bytes();
    let at = bytes.windows(8).position(|w| w == inode).unwrap() - 72;
    bytes[at + 40..at + 48].copy_from_slice(&metadata.mtime().to_le_bytes());
    bytes[at + 48..at + 52].copy_from_slice(&(metadata.mtime_nsec() as u32).to_le_bytes());
    bytes[at + 56..at + 64].copy_from_slice(&metadata.ctime().to_le_bytes());
    bytes[at + 64..at + 68].copy_from_slice(&(metadata.ctime_nsec() as u32).to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    fs::write(state, bytes).unwrap();
}

#[test]
fn an_appended_log_costs_its_new_lines_only() {
    let place = Place::new();
    let line = br#"{"event":"something happened","at":"2026-11-20T10:00:00Z"}
"#;
    place.write("log.jsonl", &line.repeat(40_000));
    let repo = place.repository();
    place.backup(&repo);
    let mut log = line.repeat(40_000);
    for i in 0..60 {
        log.extend_from_slice(format!("{{\"line\":{i}}}\n").as_bytes());
        place.write("log.jsonl", &log);
        let report = place.backup(&repo);
        assert!(
            report.stored_bytes < 2_000,
            "{} bytes for one line",
            report.stored_bytes
        );
        if i % 20 == 0 {
            let out = tempfile::tempdir().unwrap();
            let tree = restore_to(&repo, &report.snapshot, out.path());
            assert_eq!(fs::read(tree.join("log.jsonl")).unwrap(), log, "line {i}");
        }
    }
}

#[test]
fn large_files_are_streamed_and_patched() {
    let place = Place::new();
    let mut bytes = crate::crash::noise(20 << 20);
    place.write("large.bin", &bytes);
    let repo = place.repository();
    place.backup(&repo);
    let edits: [fn(&mut Vec<u8>); 4] = [
        |b| b[10_000_000..10_000_100].fill(7),
        |b| b.extend_from_slice(&[9; 5_000]),
        |b| b.truncate(19 << 20),
        |b| b.reverse(),
    ];
    for (i, edit) in edits.iter().enumerate() {
        edit(&mut bytes);
        place.write("large.bin", &bytes);
        let report = place.backup(&repo);
        if i < 3 {
            assert!(
                report.stored_bytes < 100_000,
                "edit {i}: {} bytes",
                report.stored_bytes
            );
        }
        let out = tempfile::tempdir().unwrap();
        let tree = restore_to(&repo, &report.snapshot, out.path());
        assert!(
            fs::read(tree.join("large.bin")).unwrap() == bytes,
            "edit {i}"
        );
    }
}

#[test]
fn a_torn_line_is_kept_and_flagged() {
    let place = Place::new();
    place.write("a.jsonl", b"{\"whole\":1}\n{\"torn\":");
    let repo = place.repository();
    let report = place.backup(&repo);
    let listing = repo.listing(&report.snapshot.roots[0]).unwrap();
    let entry = listing
        .iter()
        .find(|e| e.path.as_bytes() == b"a.jsonl")
        .unwrap();
    assert_eq!(entry.body.flags, [Flag::Torn]);
}

#[test]
fn a_live_database_is_always_consistent() {
    let place = Place::new();
    let path = place.tree().join("live.db");
    let setup = rusqlite::Connection::open(&path).unwrap();
    setup
        .execute_batch("pragma journal_mode=wal; create table a(id integer primary key, v); create table n(c); insert into n values(0);")
        .unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (stop, path) = (stop.clone(), path.clone());
        std::thread::spawn(move || {
            let mut db = rusqlite::Connection::open(path).unwrap();
            db.busy_timeout(Duration::from_secs(10)).unwrap();
            // Bounded: a failed assertion must not leave it running.
            for _ in 0..3_000 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let t = db.transaction().unwrap();
                for _ in 0..20 {
                    t.execute("insert into a(v) values(randomblob(300))", [])
                        .unwrap();
                }
                t.execute("update n set c = c + 20", []).unwrap();
                t.commit().unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let repo = place.repository();
    for round in 0..5 {
        let options = later(round);
        let report = bdr::protect::backup::backup(
            &repo,
            &[place.root()],
            &options,
            &bdr::base::monitor::NullMonitor,
        )
        .unwrap();
        let out = tempfile::tempdir().unwrap();
        let tree = restore_to(&repo, &report.snapshot, out.path());
        let copy = rusqlite::Connection::open(tree.join("live.db")).unwrap();
        let check: String = copy
            .query_row("pragma integrity_check", [], |r| r.get(0))
            .unwrap();
        assert_eq!(check, "ok", "round {round}");
        let rows: i64 = copy
            .query_row("select count(*) from a", [], |r| r.get(0))
            .unwrap();
        let said: i64 = copy.query_row("select c from n", [], |r| r.get(0)).unwrap();
        assert_eq!(rows, said, "round {round}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    drop(setup);
}

#[test]
fn what_is_no_file_is_listed_and_does_not_block() {
    let place = Place::new();
    place.write("f", b"x");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.tree().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.tree().join("socket")).unwrap();
    let sparse = File::create(place.tree().join("sparse")).unwrap();
    sparse.set_len(30 << 20).unwrap();
    let repo = place.repository();
    let report = place.backup(&repo);
    assert_eq!(report.not_stored, 1);
    assert!(report.stored_bytes < 200_000, "{}", report.stored_bytes);
    let listing = repo.listing(&report.snapshot.roots[0]).unwrap();
    assert_eq!(listing.iter().filter(|e| !e.kind.is_stored()).count(), 1);
}

#[test]
fn a_missing_source_is_noticed_and_the_others_are_backed_up() {
    let place = Place::new();
    place.write("f", b"x");
    let repo = place.repository();
    let mut other = place.root();
    other.name = bdr::base::path::RootName::tame("other");
    other.path = place.path("not there");
    let report = bdr::protect::backup::backup(
        &repo,
        &[place.root(), other],
        &options(),
        &bdr::base::monitor::NullMonitor,
    )
    .unwrap();
    assert_eq!(report.snapshot.roots[1].base, None);
    assert_eq!(report.snapshot.roots[0].files, 1);
}

#[test]
fn rebuildable_trees_are_left_out_and_said() {
    let place = Place::new();
    place.write("src/a", b"x");
    for i in 0..300 {
        place.write(&format!("node_modules/m{i}/index.js"), b"x");
    }
    place.write("Cargo.toml", b"");
    place.write("target/debug/x", &vec![b'x'; 5 << 20]);
    place.write(
        "lib/node_modules/mine.js",
        b"small: it costs nothing to keep",
    );
    place.write("sub/target/precious", b"no Cargo.toml beside it");
    let mut root = place.root();
    root.rules.rebuildable = false;
    let repo = place.repository();
    let report =
        bdr::protect::backup::backup(&repo, &[root], &options(), &bdr::base::monitor::NullMonitor)
            .unwrap();
    let left_out: Vec<String> = report.left_out.iter().map(|n| n.path.to_string()).collect();
    let tree = place.tree();
    assert_eq!(
        left_out,
        [tree.join("node_modules"), tree.join("target")].map(|p| p.display().to_string())
    );
    assert_eq!(report.snapshot.roots[0].files, 4);
}
