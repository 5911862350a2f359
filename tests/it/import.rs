//! `bdr import`: a store of backup-dr as it is, with what that server did wrong in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::Place;
use crate::support::cli::stderr;

struct Old {
    place: Place,
    dir: PathBuf,
}

impl Old {
    fn new() -> Self {
        let place = Place::with_repository();
        let dir = place.path("home/.backup-dr");
        std::fs::create_dir_all(dir.join("backups")).unwrap();
        Self { place, dir }
    }

    /// Writes a backup; a file is what it was called, and what its content was then.
    fn backup(
        &self,
        id: &str,
        created: &str,
        kind: &str,
        sources: &[&Path],
        files: &[(&Path, &str)],
    ) {
        let dir = self.dir.join("backups").join(id);
        std::fs::create_dir_all(dir.join("data")).unwrap();
        let mut entries = Vec::new();
        for (original, content) in files {
            let source = sources
                .iter()
                .find(|source| original.starts_with(source))
                .unwrap();
            let below = original.strip_prefix(source).unwrap().to_str().unwrap();
            // A source that is a file has no path below itself: all of these have one place.
            let place = if below.is_empty() {
                dir.join("data.gz")
            } else {
                dir.join("data").join(format!("{below}.gz"))
            };
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let file = std::fs::File::create(place).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
            gzip.write_all(content.as_bytes()).unwrap();
            gzip.finish().unwrap();
            entries.push(json!({
                "path": below,
                "originalPath": original,
                "size": content.len(),
                "compressedSize": 1,
                "checksum": hex::encode(Sha256::digest(content)),
                "modified": "2026-01-02T03:04:05.678Z",
                "permissions": "100640",
            }));
        }
        let metadata = json!({
            "backupId": id, "version": "1.0.0", "type": kind, "created": created, "sources": sources,
            "fileCount": entries.len(), "checksum": "", "files": entries, "status": "success",
            "config": {"compression": true, "compressionLevel": 6, "excludePatterns": []},
        });
        std::fs::write(dir.join("backup-metadata.json"), metadata.to_string()).unwrap();
        std::fs::write(dir.join("manifest.json"), metadata["files"].to_string()).unwrap();
    }

    fn cat(&self, snapshot: &str, path: &str) -> Vec<u8> {
        self.place.run(&["cat", snapshot, path], 0).stdout
    }

    fn list(&self) -> Vec<serde_json::Value> {
        let list = self.place.json(&["list"]);
        let all = list["snapshots"].as_array().unwrap().iter();
        all.filter(|s| s["tags"] == json!(["backup-dr"]))
            .cloned()
            .collect()
    }
}

#[test]
fn a_chain_is_imported_as_what_was_there_at_each_moment() {
    let old = Old::new();
    let brain = old.place.path("home/brain");
    let (a, b, c) = (
        brain.join("a.json"),
        brain.join("deep/b.json"),
        brain.join("c.json"),
    );
    old.backup(
        "2026-01-03-000000",
        "2026-01-03T00:00:00.000Z",
        "full",
        &[&brain],
        &[(&a, "{\"a\":1}"), (&b, "{}")],
    );
    old.backup(
        "2026-01-04-000000",
        "2026-01-04T00:00:00.000Z",
        "incremental",
        &[&brain],
        &[(&a, "{\"a\":2}"), (&c, "[]")],
    );
    let seen = String::from_utf8(old.place.run(&["import", "--dry-run"], 0).stdout).unwrap();
    assert!(
        seen.contains("2026-01-04-000000") && seen.contains("Nothing was changed"),
        "{seen}"
    );
    assert!(!old.place.store().exists() && !old.place.path("bdr/config.toml").exists());
    old.place.run(&["import", "--yes"], 0);
    let list = old.list();
    assert_eq!(list.len(), 2);
    for (snapshot, time) in list
        .iter()
        .zip(["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"])
    {
        assert_eq!(
            (snapshot["time"].as_str(), &snapshot["tags"]),
            (Some(time), &json!(["backup-dr"]))
        );
        assert_eq!(snapshot["roots"][0]["path"], brain.display().to_string());
        assert_eq!(snapshot["partial"], false);
    }
    let ids: Vec<&str> = list.iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(old.cat(ids[0], "brain/a.json"), b"{\"a\":1}");
    assert_eq!(old.cat(ids[1], "brain/a.json"), b"{\"a\":2}");
    assert_eq!(old.cat(ids[1], "brain/deep/b.json"), b"{}");
    // It goes back to where it was, with its time and mode.
    std::fs::create_dir_all(&brain).unwrap();
    old.place
        .run(&["restore", ids[1], "brain/c.json", "--yes"], 0);
    assert_eq!(std::fs::read(&c).unwrap(), b"[]");
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(&c).unwrap();
    assert_eq!(
        (meta.mode() & 0o777, meta.mtime(), meta.mtime_nsec()),
        (0o640, 1_767_323_045, 678_000_000)
    );
    // Twice is once, and what comes later builds upon what is there.
    old.backup(
        "2026-01-05-000000",
        "2026-01-05T00:00:00.000Z",
        "incremental",
        &[&brain],
        &[(&c, "[1]")],
    );
    std::fs::write(&c, "[2]").unwrap();
    old.place.run(&["import", "--yes"], 0);
    let list = old.list();
    assert_eq!(list.len(), 3);
    // The last of all is of today.
    assert_eq!(old.cat("latest", "brain/c.json"), b"[2]");
    let last = list[2]["id"].as_str().unwrap();
    assert_eq!(
        (old.cat(last, "brain/a.json"), old.cat(last, "brain/c.json")),
        (b"{\"a\":2}".to_vec(), b"[1]".to_vec())
    );
    old.place.run(&["verify"], 0);
}

#[test]
fn what_was_stored_under_a_wrong_name_is_never_imported_under_it() {
    // The founding loss: two sources that are files have one place, and the last one is what is there.
    let old = Old::new();
    let (claude, rules) = (
        old.place.path("home/.claude.json"),
        old.place.path("home/rules.json"),
    );
    let (one, two) = (old.place.path("home/ws/a"), old.place.path("home/ws/b"));
    let (first, second) = (one.join("config.json"), two.join("config.json"));
    let files: [(&Path, &str); 4] = [
        (&claude, "{\"precious\":1}"),
        (&rules, "{\"rules\":[]}"),
        (&first, "{\"a\":1}"),
        (&second, "{\"b\":1}"),
    ];
    old.backup(
        "2026-01-03-000000",
        "2026-01-03T00:00:00.000Z",
        "full",
        &[&claude, &rules, &one, &two],
        &files,
    );
    let output = old.place.run(&["import", "--yes"], 3);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("~/.claude.json")
            && said.contains("~/ws/a/config.json")
            && said.contains("2 files, exit 3"),
        "{said}"
    );
    let list = old.list();
    assert_eq!(
        (list[0]["partial"].as_bool(), list[0]["files"].as_u64()),
        (Some(true), Some(2))
    );
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(old.cat(id, "rules.json"), b"{\"rules\":[]}");
    assert_eq!(old.cat(id, "b/config.json"), b"{\"b\":1}");
    let output = old.place.bdr(&["cat", id, "claude.json"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn damage_in_the_store_is_named_and_the_rest_is_imported() {
    let old = Old::new();
    let brain = old.place.path("home/brain");
    let (a, b, c) = (brain.join("a"), brain.join("b"), brain.join("c"));
    old.backup(
        "2026-01-03-000000",
        "2026-01-03T00:00:00.000Z",
        "full",
        &[&brain],
        &[(&a, "aaaa"), (&b, "bbbb"), (&c, "cccc")],
    );
    let data = old.dir.join("backups/2026-01-03-000000/data");
    std::fs::write(data.join("a.gz"), b"\x1f\x8bnothing").unwrap();
    std::fs::remove_file(data.join("b.gz")).unwrap();
    std::fs::create_dir(old.dir.join("backups/2026-01-04-000000")).unwrap();
    // Somebody who would have files written elsewhere.
    let dir = old.dir.join("backups/2026-01-05-000000");
    std::fs::create_dir_all(&dir).unwrap();
    let evil = json!({"backupId": "x", "type": "full", "created": "2026-01-05T00:00:00Z", "sources": ["/srv/x"], "config": {"compression": false},
        "files": [{"path": "x", "originalPath": "/srv/x/../../../../../../tmp/escaped", "size": 1, "checksum": hex::encode(Sha256::digest("x"))},
            {"path": "../../../../etc/passwd", "originalPath": "/srv/x/passwd", "size": 1, "checksum": "00"}]});
    std::fs::create_dir(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/x"), "x").unwrap();
    std::fs::write(dir.join("backup-metadata.json"), evil.to_string()).unwrap();
    let said = String::from_utf8(old.place.run(&["import", "--yes"], 3).stdout).unwrap();
    for (path, reason) in [
        ("~/brain/a", "it is damaged in the store"),
        ("~/brain/b", "it is not in the store"),
        ("tmp/escaped", "its path points outside its source"),
        (
            "/srv/x/passwd",
            "its path in the store points outside the store",
        ),
        (
            "unreadable ~/.backup-dr/backups/2026-01-04-000000",
            "backup-metadata.json",
        ),
    ] {
        let mut lines = said.lines();
        assert!(
            lines.any(|line| line.contains(path) && line.contains(reason)),
            "{path}: {said}"
        );
    }
    assert!(!Path::new("/tmp/escaped").exists());
    let list = old.list();
    assert_eq!(old.cat(list[0]["id"].as_str().unwrap(), "brain/c"), b"cccc");
    old.place.run(&["verify"], 0);
}

#[test]
fn configuration_and_schedule_are_taken_over_where_there_is_none() {
    let old = Old::new();
    let brain = old.place.path("home/brain");
    std::fs::create_dir(&brain).unwrap();
    std::fs::write(
        old.dir.join("config.json"),
        json!({"version": "1.0.0", "retention": {"dailyRetention": 14, "weeklyRetention": 4, "monthlyBackups": 6},
            "defaults": {"excludePatterns": ["**/node_modules/**", "**/*.log", "**/temp/**", "!keep"]},
            "sources": ["~/brain", old.place.tree().display().to_string()]})
        .to_string(),
    )
    .unwrap();
    std::fs::write(
        old.dir.join("schedules.json"),
        json!({"version": "1.0.0", "schedules": [
            {"scheduleId": "off", "cronExpression": "0 0 * * *", "enabled": false},
            {"scheduleId": "daily", "cronExpression": "15 3 * * *", "type": "incremental", "enabled": true},
            {"scheduleId": "weekly", "cronExpression": "0 4 * * 6", "type": "full", "enabled": true},
            {"scheduleId": "often", "cronExpression": "*/5 * * * *", "enabled": true}]})
        .to_string(),
    )
    .unwrap();
    old.place.init();
    old.place.configure("# mine");
    let output = old.place.run(&["import", "--yes"], 0);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("`!keep` has no equivalent")
            && said.contains("the schedule `often`")
            && said.contains("bdr schedule install"),
        "{said}"
    );
    let config = old.place.json(&["config", "show"]);
    let sources: Vec<_> = config["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["exclude"].clone()))
        .collect();
    assert_eq!(
        sources,
        [("brain", json!(["*.log", "temp"])), ("tree", json!([]))],
        "what is covered stays as it is"
    );
    let retention = &config["retention"];
    assert_eq!(
        [
            &retention["keep_daily"],
            &retention["keep_weekly"],
            &retention["keep_monthly"]
        ],
        [&json!(14), &json!(4), &json!(6)]
    );
    assert_eq!(
        (&config["schedule"]["at"], &config["schedule"]["full"]),
        (&json!("03:15"), &json!("saturday"))
    );
    assert!(
        std::fs::read_to_string(old.place.path("bdr/config.toml"))
            .unwrap()
            .contains("# mine")
    );
    // Twice is once.
    let before = std::fs::read(old.place.path("bdr/config.toml")).unwrap();
    old.place.run(&["import", "--yes"], 0);
    assert_eq!(
        std::fs::read(old.place.path("bdr/config.toml")).unwrap(),
        before
    );
    let said = stderr(&old.place.run(&["import", "/nonexistent"], 2));
    assert!(said.contains("there is no /nonexistent"), "{said}");
}
