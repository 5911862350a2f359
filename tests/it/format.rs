//! A repository can be read without bdr: with tar, with recover.py, and by every later version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bdr::repo::snapshot::SnapshotKind;

use crate::backup::odd_tree;
use crate::crash::noise;
use crate::support::{Object, Place, assert_same, later, picture};

fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIPPED: this machine has no {program}");
    }
    found
}

/// What tar cannot keep: nanoseconds, attributes; names are escaped.
fn as_tar_sees(picture: &BTreeMap<PathBuf, Object>) -> BTreeMap<PathBuf, Object> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = |path: &Path| PathBuf::from(bdr::path::tar_name(path.as_os_str().as_bytes()));
    picture
        .iter()
        .map(|(path, object)| {
            let mut object = object.clone();
            object.mtime.1 = 0;
            object.xattrs.clear();
            object.same_as = object.same_as.map(|path| name(&path));
            if object.kind == 'l' {
                // GNU tar sets the times of symlinks, busybox does not.
                object.mtime = (0, 0);
            }
            (
                if path.as_os_str().is_empty() {
                    PathBuf::new()
                } else {
                    name(path)
                },
                object,
            )
        })
        .collect()
}

#[test]
fn a_full_backup_is_restored_by_tar_alone() {
    if !has("tar") {
        return;
    }
    let place = Place::new();
    odd_tree(&place);
    place.write("large.bin", &noise(3 << 20));
    let repo = place.repository();
    let mut options = later(60);
    options.full = true;
    let snapshot = place.backup_with(&repo, &options).snapshot;
    assert_eq!(snapshot.kind, SnapshotKind::Full);
    let out = tempfile::tempdir().unwrap();
    for pack in &snapshot.packs {
        let file = place.path("repo").join(bdr::repo::pack::pack_name(pack.id));
        let done = Command::new("tar")
            .arg("xzf")
            .arg(file)
            .arg("-C")
            .arg(out.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    let mut expected = as_tar_sees(&picture(&place.tree()));
    let mut got = as_tar_sees(&picture(&out.path().join("files/tree")));
    // as_tar_sees escaped the escaped names once more: undo that by comparing through the same function.
    let again: BTreeMap<PathBuf, Object> = expected
        .iter()
        .map(|(path, object)| {
            let mut object = object.clone();
            let twice = |p: &Path| PathBuf::from(p.to_string_lossy().replace('%', "%25"));
            object.same_as = object.same_as.map(|p| twice(&p));
            (twice(path), object)
        })
        .collect();
    expected = again;
    // Which of two names comes first may differ once names are escaped.
    for map in [&mut expected, &mut got] {
        for object in map.values_mut() {
            object.same_as = object.same_as.as_ref().map(|_| PathBuf::from("linked"));
        }
    }
    assert_same(&expected, &got, "tar");
}

#[test]
fn recover_py_restores_every_snapshot_and_skips_what_is_damaged() {
    if !has("python3") {
        return;
    }
    let place = Place::new();
    odd_tree(&place);
    place.write("large.bin", &noise(3 << 20));
    place.write("log.jsonl", &b"{\"a\":1}\n".repeat(2_000));
    let repo = place.repository();
    let first = place.backup_with(&repo, &later(60)).snapshot;
    let before = picture(&place.tree());
    place.write("log.jsonl", &b"{\"a\":1}\n".repeat(2_001));
    place.write("plain.txt", b"changed");
    std::fs::remove_dir_all(place.tree().join("empty dir")).unwrap();
    let second = place.backup_with(&repo, &later(120)).snapshot;
    let after = picture(&place.tree());
    let recover = place.path("repo/recover.py");
    let call = |args: &[&str]| {
        let mut command = Command::new("python3");
        command.arg("-B").arg(&recover).args(args).output().unwrap()
    };
    for (snapshot, expected) in [(&first, &before), (&second, &after)] {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("t");
        let done = call(&[
            "restore",
            &snapshot.seq.to_string(),
            target.to_str().unwrap(),
        ]);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert_same(expected, &picture(&target.join("tree")), "recover.py");
    }
    assert!(call(&["verify"]).status.success());
    assert!(call(&["list"]).status.success());

    // A flipped byte costs what was in that member, and is said; all else comes back.
    let pack = place.path("repo").join(bdr::repo::pack::pack_name(
        first.packs.iter().max_by_key(|pack| pack.bytes).unwrap().id,
    ));
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("t");
    let done = call(&["restore", "latest", target.to_str().unwrap()]);
    assert_eq!(
        done.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let got = picture(&target.join("tree"));
    let wrong = got.iter().filter(|(path, o)| {
        o.kind == 'f' && after.get(*path).is_some_and(|a| a.content != o.content)
    });
    assert_eq!(wrong.count(), 0, "a damaged file got its final name");
    let files = |p: &BTreeMap<PathBuf, Object>| p.values().filter(|o| o.kind == 'f').count();
    assert!(
        files(&got) >= files(&after) - 3,
        "{} of {}",
        files(&got),
        files(&after)
    );
    assert_eq!(call(&["verify"]).status.code(), Some(4));
}

#[test]
fn every_tool_reads_a_pack() {
    let place = Place::new();
    odd_tree(&place);
    place.write("large.bin", &noise(2 << 20));
    let repo = place.repository();
    let snapshot = place.backup_with(&repo, &later(60)).snapshot;
    for pack in &snapshot.packs {
        let file = place.path("repo").join(bdr::repo::pack::pack_name(pack.id));
        let tools: [(&str, &[&str]); 5] = [
            ("tar", &["tzf"]),
            ("gzip", &["-t"]),
            ("bsdtar", &["tzf"]),
            ("busybox", &["tar", "tzf"]),
            (
                "python3",
                &[
                    "-B",
                    "-c",
                    "import sys,tarfile; tarfile.open(sys.argv[1]).getmembers()",
                ],
            ),
        ];
        for (tool, args) in tools {
            if tool == "busybox" && Command::new(tool).output().is_err()
                || tool != "busybox" && !has(tool)
            {
                println!("SKIPPED: this machine has no {tool}");
                continue;
            }
            let done = Command::new(tool).args(args).arg(&file).output().unwrap();
            assert!(
                done.status.success(),
                "{tool}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
    }
}

/// Every version of the format has a frozen repository that stays readable.
#[test]
fn repositories_of_every_version_are_read() {
    use flate2::read::GzDecoder;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut versions = 0;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("repo-v"), "unknown fixture {name}");
        versions += 1;
        let out = tempfile::tempdir().unwrap();
        let expected: BTreeMap<String, BTreeMap<String, String>> =
            serde_json::from_slice(&std::fs::read(path.join("expected.json")).unwrap()).unwrap();
        // Kept as one archive: directories of a repository are read-only, and git keeps no empty ones.
        let archive = std::fs::File::open(path.join("repository.tar.gz")).unwrap();
        tar::Archive::new(GzDecoder::new(archive))
            .unpack(out.path())
            .unwrap();
        let storage = bdr::storage::LocalStorage::new(out.path().join("repository"));
        let repo =
            bdr::repo::Repository::open(std::sync::Arc::new(storage), &out.path().join("cache"))
                .unwrap();
        let report = bdr::verify::verify(
            &repo,
            None,
            bdr::verify::VerifyLevel::Full,
            None,
            &bdr::monitor::NullMonitor,
        )
        .unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let mut got: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for snapshot in repo.snapshots().unwrap() {
            let mut files = BTreeMap::new();
            for root in &snapshot.roots {
                for entry in repo.listing(root).unwrap() {
                    let mut hasher = Vec::new();
                    repo.read_content(&entry, &mut hasher).unwrap();
                    let text = format!(
                        "{} {:o} {}.{:09} {} {}",
                        entry.kind.word(),
                        entry.mode,
                        entry.mtime.0,
                        entry.mtime.1,
                        bdr::path::show_bytes(&entry.body.target),
                        bdr::id::Digest::of(&hasher)
                    );
                    files.insert(format!("{}/{}", root.name, entry.path), text);
                }
            }
            got.insert(snapshot.seq.to_string(), files);
        }
        if std::env::var_os("BDR_BLESS").is_some() {
            std::fs::write(
                path.join("expected.json"),
                serde_json::to_vec_pretty(&got).unwrap(),
            )
            .unwrap();
        } else {
            assert_eq!(got, expected, "{name}");
        }
        assert_eq!(repo.operations().unwrap().len(), 2, "{name}");
    }
    assert_eq!(versions, 1);
}

#[test]
fn recover_py_says_so_where_no_snapshot_can_be_read() {
    let place = Place::with_repository();
    place.write("a", b"a");
    place.init();
    let recover = || {
        let mut command = Command::new("python3");
        command.arg(place.store().join("recover.py"));
        command.args(["restore", "latest"]).arg(place.path("out"));
        command.output()
    };
    if recover().is_err() {
        println!("SKIPPED: no python3: recover.py is not tried");
        return;
    }
    crate::gates::open_up(&place.store());
    let snapshot = std::fs::read_dir(place.store().join("snapshots")).unwrap();
    let snapshot = snapshot.flatten().next().unwrap().path();
    std::fs::remove_file(&snapshot).unwrap();
    for code in [1, 4] {
        let _ = std::fs::remove_dir_all(place.path("out"));
        let output = recover().unwrap();
        let said = crate::support::cli::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("no snapshot here can be read"), "{said}");
        assert!(!said.contains("index"), "{said}");
        // One that is damaged.
        std::fs::write(&snapshot, b"{").unwrap();
    }
}
