//! Whoever can write to a repository, or hands one over, makes bdr act on nothing but bdr's own: names, paths and numbers that records tell are
//! checked where they are decoded, and only what bdr made is removed.

use std::path::{Path, PathBuf};

use bdr::base::id::Digest;
use serde_json::{Value, json};

use crate::support::cli::stderr;
use crate::support::{Place, picture};

/// Writes a record with a digest of itself, as bdr does.
pub(crate) fn write_record(place: &Place, name: &str, record: &Value) {
    let body = record.to_string();
    let digest = Digest::of(body.as_bytes()).to_hex();
    put(
        place,
        name,
        format!("{{\"sha256\":\"{digest}\",\"record\":{body}}}\n").as_bytes(),
    );
}

/// Puts a file into the repository, whatever stands there.
pub(crate) fn put(place: &Place, name: &str, bytes: &[u8]) {
    let path = place.store().join(name);
    open_up(&place.store());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&path);
    std::fs::write(path, bytes).unwrap();
}

/// Makes the repository writable to whoever runs the tests.
pub(crate) fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() {
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(entry.path(), mode).unwrap();
        }
    }
}

/// Reads a record without looking at its digest, and without what binds it to this machine: what is written back then is one that nobody bound.
pub(crate) fn read_record(path: &Path) -> Value {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut record = value["record"].take();
    record.as_object_mut().unwrap().remove("bound");
    record
}

fn newest(place: &Place, dir: &str) -> String {
    let mut names: Vec<String> = std::fs::read_dir(place.store().join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    format!("{dir}/{}", names.pop().unwrap())
}

fn repository_id(place: &Place) -> Value {
    let format = std::fs::read(place.store().join("format.json")).unwrap();
    serde_json::from_slice::<Value>(&format).unwrap()["id"].take()
}

/// Puts a key frame into the repository; returns its name.
fn put_keyframe(place: &Place, entries: &[Value]) -> String {
    use std::io::Write as _;
    let lines: Vec<String> = entries.iter().map(Value::to_string).collect();
    let text = format!(
        "{{\"format\":\"bdr-manifest\",\"version\":1,\"repository\":{},\"root\":{{\"name\":\"tree\",\"path\":\"/x\"}},\"entries\":[\n{}\n]}}\n",
        repository_id(place),
        lines.join(",\n")
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    gzip.write_all(text.as_bytes()).unwrap();
    let bytes = gzip.finish().unwrap();
    let digest = Digest::of(&bytes).to_hex();
    put(place, &format!("manifests/{digest}.json.gz"), &bytes);
    digest
}

/// A place with a repository, and the user's own beside it.
fn place_with_canary() -> (Place, PathBuf) {
    let place = Place::with_repository();
    place.write("a", b"hello\n");
    place.init();
    let canary = place.path("home/Documents");
    std::fs::create_dir_all(canary.join("deep")).unwrap();
    std::fs::write(canary.join("thesis"), b"only copy").unwrap();
    std::fs::write(canary.join("deep/x"), b"x").unwrap();
    (place, canary)
}

const SET: &str = "01M8FMSJRYEJ4F0YK6935NXPV1";

fn kept_set(place: &Place, area: &Path, pack: bool) {
    kept_files(place, area, pack, &json!([]));
}

fn kept_files(place: &Place, area: &Path, pack: bool, files: &Value) {
    let record = json!({
        "version": 1, "repository": repository_id(place), "id": SET, "time": "2026-11-20T10:00:00Z",
        "area": area.to_str().unwrap(), "files": files, "pack": pack,
    });
    write_record(place, &format!("kept/{SET}.json"), &record);
}

#[test]
fn a_record_of_kept_content_has_no_directory_removed_that_is_not_its_own_area() {
    let (place, canary) = place_with_canary();
    let before = picture(&canary);
    // By the name of the directory itself, by that of the set, in a place that is called as those of bdr, and by a way round.
    let named = canary.join(SET);
    std::fs::create_dir_all(&named).unwrap();
    std::fs::write(named.join("mine"), b"mine").unwrap();
    let called = canary.join(".bdr-staging").join(SET);
    std::fs::create_dir_all(&called).unwrap();
    std::fs::write(called.join("mine"), b"mine").unwrap();
    let areas = [
        canary.clone(),
        named.clone(),
        called.clone(),
        place.path("home").join("x/..").join("Documents").join(SET),
        PathBuf::from("Documents").join(SET),
    ];
    let with_all = picture(&canary);
    assert!(with_all.len() > before.len());
    for area in areas {
        for (pack, args) in [
            (true, &["backup"][..]),
            (true, &["settle"]),
            (false, &["prune", "--yes"]),
            (true, &["prune", "--yes"]),
            (true, &["verify"]),
            (true, &["guard", "--", "true"]),
        ] {
            kept_set(&place, &area, pack);
            let output = place.bdr(args).output().unwrap();
            let said = stderr(&output);
            assert!(!said.contains("panicked"), "{args:?}: {said}");
            crate::support::assert_same(
                &with_all,
                &picture(&canary),
                &format!("{args:?} {area:?}"),
            );
        }
    }
    kept_set(&place, &canary, true);
    let said = place.run(&["verify"], 4);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(SET), "{said}");
}

#[test]
fn kept_content_is_read_through_no_link_and_waits_for_no_fifo() {
    use std::os::unix::fs::{DirBuilderExt as _, symlink};
    let (place, canary) = place_with_canary();
    // On the disk of the repository whoever writes there makes a directory that looks as bdr's do.
    let beside = place.path("bdr/repository-staging");
    let area = beside.join(SET);
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700);
    for dir in [beside, area.clone(), area.join("0")] {
        private.create(dir).unwrap();
    }
    let link = area.join("0/0");
    symlink(canary.join("thesis"), &link).unwrap();
    kept_files(&place, &area, true, &json!([[9, null]]));
    let output = place.bdr(&["backup"]).output().unwrap();
    assert!(!stderr(&output).contains("panicked"));
    std::fs::remove_file(&link).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&link).status();
    assert!(made.unwrap().success());
    kept_files(&place, &area, true, &json!([[9, null]]));
    let mut child = place.bdr(&["backup"]).spawn().unwrap();
    crate::support::terminal::wait_for("a backup beside a FIFO", || {
        child.try_wait().unwrap().is_some()
    });
    // Nothing of the file is in any pack.
    for pack in walkdir::WalkDir::new(place.store().join("packs")) {
        let pack = pack.unwrap();
        if pack.file_type().is_file() {
            let file = std::fs::File::open(pack.path()).unwrap();
            let mut text = Vec::new();
            let mut gzip = flate2::read::MultiGzDecoder::new(file);
            let _ = std::io::Read::read_to_end(&mut gzip, &mut text);
            assert!(memchr::memmem::find(&text, b"only copy").is_none());
        }
    }
}

#[test]
fn a_root_is_laid_out_where_it_is_told_whatever_it_is_called() {
    for name in ["/HOME", "..", ".", "a/b", "", "x\u{1b}[2J", "C:x"] {
        let (place, canary) = place_with_canary();
        let home = place.path("home");
        let name = name.replace("/HOME", home.to_str().unwrap());
        let record = newest(&place, "snapshots");
        let mut snapshot = read_record(&place.store().join(&record));
        let hello = Digest::of(b"hello\n").to_hex();
        let base = put_keyframe(
            &place,
            &[
                json!({"p": "", "k": "d", "m": 0o755, "t": [1, 1]}),
                json!({"p": ".bashrc", "m": 0o644, "t": [1, 1], "s": 6, "h": hello}),
                json!({"p": "Documents", "k": "d", "m": 0o755, "t": [1, 1]}),
                json!({"p": "Documents/thesis", "m": 0o644, "t": [1, 1], "s": 6, "h": hello}),
            ],
        );
        snapshot["roots"][0]["name"] = name.clone().into();
        snapshot["roots"][0]["base"] = base.into();
        write_record(&place, &record, &snapshot);
        let before = picture(&home);
        let out = place.path("out");
        for args in [
            &[
                "restore",
                "latest",
                "--target",
                out.to_str().unwrap(),
                "--yes",
            ][..],
            &["verify", "--level", "restore"],
            &["drill"],
            &["ls", "latest"],
        ] {
            let _ = std::fs::remove_dir_all(place.path("bdr/cache"));
            let output = place.bdr(args).output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(4),
                "{name:?} {args:?}: {}",
                stderr(&output)
            );
            crate::support::assert_same(&before, &picture(&home), &format!("{name:?} {args:?}"));
            assert!(!out.join(".bashrc").exists());
        }
        assert!(canary.exists());
    }
}

#[test]
fn numbers_and_times_that_cannot_be_are_damage_and_stop_nobody() {
    let (place, _) = place_with_canary();
    let record = newest(&place, "snapshots");
    let good = read_record(&place.store().join(&record));
    let id = SET.to_owned();
    let last = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    for (seq, id, change) in [
        (u64::MAX, &*id, json!({})),
        ((1 << 53) + 1, &*id, json!({})),
        (1 << 53, last, json!({})),
        (100, &*id, json!({"time": "+262142-12-31T23:59:59Z"})),
        (
            200,
            &*id,
            json!({"stats": {"files": u64::MAX, "bytes": u64::MAX, "stored_bytes": u64::MAX, "elapsed_ms": u64::MAX}}),
        ),
        (
            300,
            &*id,
            json!({"packs": [{"id": "0".repeat(64), "bytes": 1_u64 << 53}, {"id": "1".repeat(64), "bytes": 1}]}),
        ),
    ] {
        let mut hostile = good.clone();
        hostile["seq"] = seq.into();
        hostile["id"] = id.into();
        for (key, value) in change.as_object().unwrap() {
            hostile[key] = value.clone();
        }
        let name = format!("snapshots/{seq:010}-{id}.json");
        write_record(&place, &name, &hostile);
        place.run(&["verify"], 4);
        place.run(&["restore", "latest", "--dry-run"], 4);
        // New ones are numbered after the last that can be, and are found by their ids.
        place.write("a", format!("{seq} {id}").as_bytes());
        let made = place.json(&["backup"]);
        let text = made["snapshot"]
            .as_str()
            .or(made["snapshot"]["id"].as_str());
        let text = text.unwrap_or_else(|| panic!("{made}")).to_owned();
        place.run(&["ls", &text], 0);
        assert!(!newest_number(&place, &name).is_empty());
        open_up(&place.store());
        std::fs::remove_file(place.store().join(&name)).unwrap();
    }
    place.run(&["verify"], 0);
}

/// Makes sure that snapshots have numbers; returns their names but one.
fn newest_number(place: &Place, without: &str) -> Vec<String> {
    let listed = std::fs::read_dir(place.store().join("snapshots")).unwrap();
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| format!("snapshots/{name}") != without);
    names
        .inspect(|name| assert!(!name.starts_with("0000000000-"), "{name}"))
        .collect()
}

#[test]
fn a_store_of_the_whole_system_is_laid_out_in_the_scratch_only() {
    let place = Place::new();
    let home = place.path("home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join(".bashrc"), b"my own").unwrap();
    let backup = place.path("store/backups/2026-01-01-000000");
    std::fs::create_dir_all(backup.join("data")).unwrap();
    std::fs::write(backup.join("data/x"), b"evil\n").unwrap();
    let file = |path: PathBuf| {
        json!({
            "path": "x", "originalPath": path, "size": 5, "checksum": Digest::of(b"evil\n").to_hex(),
            "modified": "2026-01-01T00:00:00Z", "permissions": "644",
        })
    };
    let metadata = json!({
        "backupId": "2026-01-01-000000", "created": "2026-01-01T00:00:00Z", "type": "full", "sources": ["/"],
        "files": [file(home.join(".bashrc")), file(home.join(".config/autostart/x.desktop"))],
        "config": {"compression": false},
    });
    std::fs::write(backup.join("backup-metadata.json"), metadata.to_string()).unwrap();
    let before = picture(&home);
    let store = place.path("store");
    let repo = place.repository();
    let found = bdr::care::import::look(&store, None).unwrap();
    let scratch = place.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut importer = bdr::care::import::Importer::new(&repo, &scratch);
    let imported = importer
        .import(&found.backups[0], "host", &bdr::base::monitor::NullMonitor)
        .unwrap();
    crate::support::assert_same(&before, &picture(&home), "imported");
    assert_eq!(imported.report.snapshot.roots[0].files, 2);
    assert_eq!(
        imported.report.snapshot.roots[0].path.as_path(),
        Path::new("/")
    );
}

#[test]
fn the_whole_of_a_file_system_does_not_become_a_source() {
    let place = Place::with_repository();
    let backup = place.path("store/backups/2026-01-01-000000");
    std::fs::create_dir_all(backup.join("data")).unwrap();
    std::fs::write(backup.join("data/x"), b"evil\n").unwrap();
    let metadata = json!({
        "backupId": "2026-01-01-000000", "created": "2026-01-01T00:00:00Z", "type": "full", "sources": ["/", "/usr/.."],
        "files": [{
            "path": "x", "originalPath": place.path("home/x"), "size": 5, "checksum": Digest::of(b"evil\n").to_hex(),
            "modified": "2026-01-01T00:00:00Z", "permissions": "644",
        }],
        "config": {"compression": false},
    });
    std::fs::write(backup.join("backup-metadata.json"), metadata.to_string()).unwrap();
    let config = json!({"sources": ["/", "//", "/."], "schedules": []});
    std::fs::write(place.path("store/config.json"), config.to_string()).unwrap();
    let store = place.path("store");
    let output = place
        .bdr(&["import", store.to_str().unwrap(), "--yes"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    assert!(said.contains("the whole file system"), "{said}");
    let config = std::fs::read_to_string(place.path("bdr/config.toml")).unwrap_or_default();
    let paths = config.lines().filter(|line| line.starts_with("path"));
    assert_eq!(paths.collect::<Vec<_>>(), [""; 0], "{config}");
}

#[test]
fn a_file_whose_parts_do_not_come_to_it_is_found() {
    let (place, _) = place_with_canary();
    let record = newest(&place, "snapshots");
    let mut snapshot = read_record(&place.store().join(&record));
    let hello = Digest::of(b"hello\n").to_hex();
    let dir = json!({"p": "", "k": "d", "m": 0o755, "t": [1, 1]});
    for (entry, is_good) in [
        (
            json!({"p": "a", "m": 0o644, "t": [1, 1], "s": 6, "h": hello}),
            true,
        ),
        (
            json!({"p": "a", "m": 0o644, "t": [1, 1], "s": 12, "h": Digest::of(b"hello\nhello\n").to_hex(), "b": [hello], "x": [[0, 0, 6], [0, 0, 6]]}),
            true,
        ),
        (
            json!({"p": "a", "m": 0o644, "t": [1, 1], "s": 3, "h": Digest::of(b"other").to_hex(), "b": [hello], "x": [[0, 1, 3]]}),
            false,
        ),
        (
            json!({"p": "a", "m": 0o644, "t": [1, 1], "s": 5, "h": hello}),
            false,
        ),
    ] {
        let base = put_keyframe(&place, &[dir.clone(), entry.clone()]);
        snapshot["roots"][0]["base"] = base.into();
        write_record(&place, &record, &snapshot);
        let _ = std::fs::remove_dir_all(place.path("bdr/cache"));
        let code = if is_good { 0 } else { 4 };
        let said = place.run(&["verify", "--level", "full"], code);
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(
            is_good || said.contains("do not add up to"),
            "{entry}: {said}"
        );
    }
}

#[test]
fn links_in_the_place_of_the_repository_s_directories_are_not_followed() {
    for dir in [
        "tmp",
        "snapshots",
        "operations",
        "packs",
        "manifests",
        "kept",
        "trash",
    ] {
        let (place, canary) = place_with_canary();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
        for file in ["thesis", "deep/x"] {
            let file = std::fs::File::options().write(true).open(canary.join(file));
            file.unwrap().set_modified(old).unwrap();
        }
        std::fs::write(canary.join(".bdr-tmp-mine"), b"mine").unwrap();
        open_up(&place.store());
        let _ = std::fs::remove_dir_all(place.store().join(dir));
        std::os::unix::fs::symlink(&canary, place.store().join(dir)).unwrap();
        let before = picture(&canary);
        place.write("a", b"changed");
        for args in [
            &["backup"][..],
            &["guard", "--", "rm", "a"],
            &["prune", "--yes", "--now"],
            &["settle"],
            &["undo", "--yes"],
            &["backup", "--full"],
        ] {
            let output = place.bdr(args).output().unwrap();
            let said = stderr(&output);
            assert!(!said.contains("panicked"), "{said}");
            crate::support::assert_same(&before, &picture(&canary), &format!("{dir} {args:?}"));
        }
    }
}

#[test]
fn a_listing_that_becomes_all_the_memory_there_is_is_not_read() {
    let (place, _) = place_with_canary();
    let record = newest(&place, "snapshots");
    let mut snapshot = read_record(&place.store().join(&record));
    let dir = json!({"p": "", "k": "d", "m": 0o755, "t": [1, 1]});
    let empty = |number: u32| json!({"p": format!("f{number:07}"), "m": 0o644, "t": [1, 1]});
    let mut many = vec![dir.clone()];
    many.extend((0..300_000).map(empty));
    let mut long = dir;
    long["a"] = json!([["user.x", "00".repeat(100 << 20)]]);
    for entries in [many, vec![long]] {
        let base = put_keyframe(&place, &entries);
        snapshot["roots"][0]["base"] = base.into();
        write_record(&place, &record, &snapshot);
        let said = stderr(&place.run(&["ls", "latest"], 4));
        assert!(said.contains("manifests/"), "{said}");
        place.run(&["verify"], 4);
    }
    // What bdr writes itself it can read, however much alike the files are.
    for number in 0..120_000 {
        place.write(&format!("many/f{number:07}"), b"");
    }
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for entry in std::fs::read_dir(place.tree().join("many")).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.set_modified(time).unwrap();
    }
    place.run(&["backup", "--full"], 0);
    place.run(&["ls", "latest", "many/f0000077"], 0);
}

#[test]
fn files_that_are_called_as_those_of_bdr_are_the_user_s_unless_bdr_made_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_repository();
    let names = [
        "sub/.bdr-tmp-notes",
        "sub/.bdr-tmp-4711-abc-1",
        "sub/.bdr-staging/mine/deep",
        "sub/own/.bdr-staging",
        "sub/.bdr-tmp-dir-0123456789ab-1/file",
    ];
    for name in names {
        place.write(name, name.as_bytes());
    }
    // Private, and yet with something in it that is no area.
    place.write("private/.bdr-staging/notes", b"notes");
    let private = place.tree().join("private/.bdr-staging");
    std::fs::set_permissions(private, std::fs::Permissions::from_mode(0o700)).unwrap();
    place.init();
    let before = picture(&place.tree());
    place.run(&["guard", "--", "rm", "-rf", "sub", "private"], 0);
    place.run(&["undo", "--yes"], 0);
    crate::support::assert_same(&before, &picture(&place.tree()), "undone");
    let out = place.path("out");
    place.run(
        &[
            "restore",
            "latest",
            "--target",
            out.to_str().unwrap(),
            "--yes",
        ],
        0,
    );
    for name in names {
        assert!(out.join("tree").join(name).exists(), "{name}");
    }
    // An undo does not take them for what a crash left.
    place.run(&["guard", "--", "sh", "-c", "echo x > sub/new"], 0);
    place.run(&["undo", "--yes"], 0);
    crate::support::assert_same(&before, &picture(&place.tree()), "undone again");
}

#[test]
fn what_a_restore_that_was_killed_left_goes_with_the_next() {
    let temporary = |dir: &Path| {
        let walk = walkdir::WalkDir::new(dir).into_iter().flatten();
        walk.filter(|entry| entry.file_name().to_string_lossy().contains(".bdr-tmp-"))
            .count()
    };
    let mut seen = 0;
    for step in 1..60 {
        let place = Place::with_repository();
        place.write("a/one", b"one");
        place.write("b/two", b"two");
        place.init();
        place.write("a/one", b"changed");
        place.write("b/two", b"changed");
        let killed = place
            .bdr(&["restore", "latest", "--yes"])
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        if killed.status.code().is_some() {
            break;
        }
        seen += usize::from(temporary(&place.tree()) > 0);
        // With nothing to do there, too.
        std::fs::write(place.tree().join("a/one"), b"one").unwrap();
        std::fs::write(place.tree().join("b/two"), b"two").unwrap();
        place.bdr(&["restore", "latest", "--yes"]).output().unwrap();
        assert_eq!(temporary(&place.tree()), 0, "step {step}");
    }
    assert!(seen > 0, "no step left anything");
}

#[test]
fn a_drill_looks_at_nothing_that_a_link_in_the_backup_leads_to() {
    let (place, canary) = place_with_canary();
    let fifo = canary.join("fifo.json");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let record = newest(&place, "snapshots");
    let mut snapshot = read_record(&place.store().join(&record));
    let hello = Digest::of(b"hello\n").to_hex();
    let base = put_keyframe(
        &place,
        &[
            json!({"p": "", "k": "d", "m": 0o755, "t": [1, 1]}),
            json!({"p": "a", "k": "l", "m": 0o777, "t": [1, 1], "l": canary.to_str().unwrap()}),
            json!({"p": "a/fifo.json", "m": 0o644, "t": [1, 1], "s": 6, "h": hello}),
            json!({"p": "b", "m": 0o644, "t": [1, 1], "s": 6, "h": hello}),
        ],
    );
    snapshot["roots"][0]["base"] = base.into();
    write_record(&place, &record, &snapshot);
    let _ = std::fs::remove_dir_all(place.path("bdr/cache"));
    let mut child = place.bdr(&["drill"]).spawn().unwrap();
    crate::support::terminal::wait_for("a drill beside a FIFO", || {
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_directory_that_is_called_as_the_place_beside_the_repository_is_the_user_s() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_repository();
    // A source that holds the repository, and what is called as its staging place would be.
    let mine = place.path("bdr/repository-staging");
    let old = mine.join("01HZZZZZZZZZZZZZZZZZZZZZZZ");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(mine.join("notes"), b"mine").unwrap();
    std::fs::write(old.join("deep"), b"mine").unwrap();
    for dir in [&mine, &old] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let source = format!("all={}", place.path("").display());
    place.run(&["init", "--yes", "--source", &source], 0);
    place.run(&["settle"], 0);
    place.run(&["backup"], 0);
    for number in 0..3 {
        let file = std::fs::File::create(place.tree().join(format!("big{number}"))).unwrap();
        file.set_len(12 << 20).unwrap();
    }
    let args = ["guard", "--", "rm", "-rf", "big0", "big1", "big2"];
    place.run(&args, 0);
    place.run(&["undo", "--yes"], 0);
    place.run(&["backup"], 0);
    assert_eq!(std::fs::read(old.join("deep")).unwrap(), b"mine");
    let names = std::fs::read_dir(&mine).unwrap().count();
    assert_eq!(names, 2, "nothing of bdr's is put there");
    let path = mine.join("notes");
    place.run(&["cat", "latest", path.to_str().unwrap()], 0);
}

/// Exchanges a directory for a link and back, over and over, while `act` runs.
fn while_swapped(dir: &Path, to: &Path, act: impl FnOnce()) {
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let away = dir.with_extension("away");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if std::fs::rename(dir, &away).is_ok() {
                    let _ = std::os::unix::fs::symlink(to, dir);
                    std::thread::yield_now();
                    let _ = std::fs::remove_file(dir);
                    // What was made in its place meanwhile is no directory to come back to.
                    let _ = std::fs::remove_dir_all(dir);
                    let _ = std::fs::rename(&away, dir);
                }
                std::thread::yield_now();
            }
        });
        // A failed assertion stops it as well.
        let _stop = Stop(&stop);
        act();
    });
}

#[test]
fn directories_that_are_swapped_for_links_meanwhile_lead_nowhere() {
    use bdr::disk::storage::{LocalStorage, Storage as _, put};
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let (store, canary) = (place.path("store"), place.path("home/Documents"));
    for dir in [&canary, &store.join("operations"), &store.join("tmp")] {
        std::fs::create_dir_all(dir).unwrap();
    }
    // Called as the files of the repository are.
    for number in 0..10 {
        std::fs::write(canary.join(format!("file{number}")), b"mine").unwrap();
    }
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let picture = || {
        let mode = canary.metadata().unwrap().permissions().mode();
        let entries = std::fs::read_dir(&canary).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        (mode & 0o7777, names)
    };
    let before = picture();
    let storage = LocalStorage::new(&store);
    for dir in ["operations", "tmp"] {
        while_swapped(&store.join(dir), &canary, || {
            for round in 0..2000 {
                let name = format!("operations/file{}", round % 10);
                // Whatever they answer.
                let _ = put(&storage, &name, b"theirs");
                let _ = storage.rename(&name, &format!("trash/file{}", round % 10));
                let _ = storage.remove(&name);
                let _ = storage.remove_all(std::slice::from_ref(&name));
                if let Ok(bytes) = storage.read(&name) {
                    assert_eq!(bytes, b"theirs");
                }
                if round % 10 == 0 {
                    assert_eq!(picture(), before, "{dir}, round {round}");
                }
            }
        });
        assert_eq!(picture(), before, "{dir}");
        for number in 0..10 {
            let bytes = std::fs::read(canary.join(format!("file{number}"))).unwrap();
            assert_eq!(bytes, b"mine");
        }
    }
}

#[test]
fn what_is_removed_with_everything_in_it_is_what_was_found_there() {
    use bdr::disk::fsutil::OwnTree;
    let place = Place::new();
    let (cache, canary) = (place.path("cache"), place.path("home"));
    let private = |dir: &Path| {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).unwrap();
    };
    for dir in [&cache, &canary, &cache.join("left"), &canary.join("left")] {
        private(dir);
    }
    std::fs::write(canary.join("left/thesis"), b"only copy").unwrap();
    // Another took its place, in the same directory and by a link on the way.
    let tree = OwnTree::left_in(&cache, "left".as_ref()).unwrap();
    std::fs::rename(cache.join("left"), cache.join("aside")).unwrap();
    std::fs::rename(canary.join("left"), cache.join("left")).unwrap();
    assert!(tree.remove().is_err());
    assert!(cache.join("left/thesis").exists());
    std::fs::rename(cache.join("left"), canary.join("left")).unwrap();
    std::fs::rename(cache.join("aside"), cache.join("left")).unwrap();
    let tree = OwnTree::left_in(&cache, "left".as_ref()).unwrap();
    std::fs::rename(&cache, place.path("moved")).unwrap();
    std::os::unix::fs::symlink(&canary, &cache).unwrap();
    tree.remove().unwrap();
    assert!(canary.join("left/thesis").exists());
    assert!(!place.path("moved/left").exists());
    // Closed directories, links and depth.
    std::fs::remove_file(&cache).unwrap();
    private(&cache);
    private(&cache.join("left"));
    let deep = cache.join("left").join(["d"; 200].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&canary, deep.join("link")).unwrap();
    for closed in [&deep, &cache.join("left/d")] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(closed, mode).unwrap();
    }
    let tree = OwnTree::left_in(&cache, "left".as_ref()).unwrap();
    tree.remove().unwrap();
    assert!(!cache.join("left").exists() && canary.join("left/thesis").exists());
}

#[test]
fn sets_that_come_to_more_than_there_can_be_are_counted_all_the_same() {
    let place = Place::with_repository();
    place.write("a", b"hello\n");
    place.init();
    let first: bdr::base::id::Id = SET.parse().unwrap();
    let repository = repository_id(&place);
    for number in 0..2_100 {
        let id = bdr::base::id::Id::from_u128(first.to_u128() + number).to_string();
        let area = place.path("nowhere").join(&id);
        let record = json!({
            "version": 1, "repository": repository, "id": id, "time": "2026-11-20T10:00:00Z",
            "area": area.to_str().unwrap(), "files": [[1_u64 << 53, null]], "pack": true,
        });
        write_record(&place, &format!("kept/{id}.json"), &record);
    }
    for args in [
        &["prune", "--dry-run"][..],
        &["status"],
        &["settle"],
        &["prune", "--yes"],
    ] {
        let output = place.bdr(args).output().unwrap();
        let said = stderr(&output);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn a_link_in_the_place_of_the_repository_gets_nothing_laid_out_where_it_leads() {
    let place = Place::with_repository();
    place.write("a", b"hello\n");
    let boat = place.path("boat");
    let run = |args: &[&str]| {
        let mut command = place.bdr(args);
        command
            .env("BDR_LIFEBOAT", &boat)
            .env("BDR_BACKGROUND", "0");
        command.output().unwrap()
    };
    place.init();
    assert!(run(&["backup", "--full"]).status.success());
    let (store, canary) = (place.store(), place.path("home/Documents"));
    std::fs::create_dir_all(&canary).unwrap();
    std::fs::write(canary.join("thesis"), b"mine").unwrap();
    std::fs::rename(&store, place.path("old")).unwrap();
    std::os::unix::fs::symlink(&canary, &store).unwrap();
    let before = picture(&canary);
    for args in [
        &["list"][..],
        &["backup"],
        &["guard", "--", "touch", "b"],
        &["prune", "--yes"],
    ] {
        let output = run(args);
        assert!(!output.status.success(), "{args:?}");
        crate::support::assert_same(&before, &picture(&canary), &format!("{args:?}"));
    }
    // Nor by a link in the place of one of its directories.
    std::fs::remove_file(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    std::os::unix::fs::symlink(&canary, store.join("packs")).unwrap();
    run(&["list"]);
    crate::support::assert_same(&before, &picture(&canary), "packs");
    // Where nothing stands it comes back.
    std::fs::remove_dir_all(&store).unwrap();
    let output = run(&["list"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(run(&["verify"]).status.success());
}

#[test]
fn a_store_that_says_what_cannot_be_is_counted_all_the_same() {
    let place = Place::new();
    let backup = place.path("store/backups/2026-01-01-000000");
    std::fs::create_dir_all(backup.join("data")).unwrap();
    let file = |name: &str| json!({"path": name, "originalPath": format!("/a/{name}"), "size": u64::MAX, "checksum": "0"});
    let metadata = json!({
        "backupId": "2026-01-01-000000", "created": "2026-01-01T00:00:00Z", "type": "full", "sources": ["/a", "/a", "/b/a"],
        "files": [file("x"), file("y")], "config": {"compression": false},
    });
    std::fs::write(backup.join("backup-metadata.json"), metadata.to_string()).unwrap();
    let found = bdr::care::import::look(&place.path("store"), None).unwrap();
    assert_eq!(found.backups[0].bytes(), u64::MAX);
    let names = bdr::care::import::names(&found.backups[0].metadata.sources);
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "a-2"]);
}

#[test]
fn a_repository_that_is_swapped_for_a_link_meanwhile_stays_where_it_was() {
    use std::time::Duration;

    use bdr::disk::fsutil::Sharing;
    use bdr::disk::storage::{LocalStorage, Storage as _, put};
    let place = Place::new();
    let (store, canary) = (place.path("store"), place.path("home/Documents"));
    for dir in ["operations", "tmp", "trash"] {
        std::fs::create_dir_all(store.join(dir)).unwrap();
    }
    std::fs::create_dir_all(&canary).unwrap();
    std::fs::write(canary.join("thesis"), b"mine").unwrap();
    let before = picture(&canary);
    let storage = LocalStorage::new(&store);
    put(&storage, "format.json", b"{\"id\":1}").unwrap();
    storage.read("format.json").unwrap();
    while_swapped(&store, &canary, || {
        for round in 0..400 {
            let name = format!("operations/file{}", round % 10);
            let to = format!("trash/file{}", round % 10);
            if round < 200 {
                // It is held: where its path leads is all the same.
                put(&storage, &name, b"own").unwrap();
                storage.rename(&name, &to).unwrap();
                assert_eq!(storage.read(&to).unwrap(), b"own");
                assert!(
                    storage
                        .lock("lock", Sharing::Shared, Duration::ZERO)
                        .unwrap()
                        .is_some()
                );
            } else {
                // Whatever they answer: it is looked for each time.
                storage.let_go();
                let _ = put(&storage, &name, b"own");
                storage.let_go();
                let _ = storage.lock("lock", Sharing::Shared, Duration::ZERO);
                storage.let_go();
                let _ = storage.rename(&name, &to);
                assert_ne!(storage.names("trash").unwrap_or_default(), ["thesis"]);
            }
            if round % 20 == 0 {
                crate::support::assert_same(&before, &picture(&canary), &format!("{round}"));
            }
        }
    });
    crate::support::assert_same(&before, &picture(&canary), "afterwards");

    // What was mounted again is another directory with the same repository in it.
    storage.let_go();
    let again = place.path("again");
    std::fs::create_dir(&again).unwrap();
    std::fs::copy(store.join("format.json"), again.join("format.json")).unwrap();
    std::fs::rename(&store, place.path("first")).unwrap();
    assert!(storage.read("format.json").is_err(), "nothing is mounted");
    std::fs::rename(&again, &store).unwrap();
    put(&storage, "operations/new", b"own").unwrap();
    assert!(store.join("operations/new").exists());
    // Another repository is not.
    storage.let_go();
    std::fs::rename(&store, &again).unwrap();
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("format.json"), b"{\"id\":2}").unwrap();
    let error = put(&storage, "operations/new", b"own").unwrap_err();
    assert!(error.to_string().contains("another directory"), "{error}");
    assert!(!store.join("operations").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_repository_is_not_held_while_a_command_runs() {
    let place = Place::with_repository().watched();
    place.write("mine", b"mine");
    place.init();
    // Or the command could not unmount the disk that it is on.
    let script = "readlink /proc/$PPID/fd/* > held || true; rm mine";
    place.run(&["guard", "--", "sh", "-c", script], 0);
    let held = std::fs::read_to_string(place.tree().join("held")).unwrap();
    let store = place.store();
    assert!(
        !held.is_empty() && !held.contains(store.to_str().unwrap()),
        "{held}"
    );
    place.run(&["undo", "--yes"], 0);
}

#[test]
fn a_link_in_the_place_of_the_staging_place_gets_nothing_removed_where_it_leads() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_repository();
    place.init();
    // Empty, and called as an area that a crash left: of the user's all the same.
    let mine = place.path("home/Documents");
    let empty = mine.join("01HZZZZZZZZZZZZZZZZZZZZZZZ");
    std::fs::create_dir_all(&empty).unwrap();
    for dir in [&mine, &empty] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let beside = {
        let mut name = place.store().file_name().unwrap().to_owned();
        name.push("-staging");
        place.store().with_file_name(name)
    };
    std::os::unix::fs::symlink(&mine, &beside).unwrap();
    for args in [&["settle"][..], &["backup"], &["prune", "--yes"]] {
        place.run(args, 0);
        assert!(empty.is_dir(), "{args:?}");
    }
    // Where it is bdr's own it goes.
    std::fs::remove_file(&beside).unwrap();
    std::fs::rename(&mine, &beside).unwrap();
    place.run(&["settle"], 0);
    assert!(!beside.join(empty.file_name().unwrap()).exists());
}
