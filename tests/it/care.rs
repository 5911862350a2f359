//! Backups that look after themselves: what runs when, what a drill finds, what is said of it. Time comes from `BDR_TEST_NOW`.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Place;
use crate::support::cli::stderr;

/// A place with one source, a repository and a schedule.
pub(crate) fn scheduled() -> Place {
    let place = Place::with_repository();
    place.write("notes.md", b"first");
    place.init_at("2026-11-01T12:00:00Z");
    place.configure("[schedule]\nat = \"02:30\"\n");
    place
}

impl Place {
    /// Adds to the configuration.
    pub(crate) fn configure(&self, toml: &str) {
        let file = self.path("bdr/config.toml");
        let old = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{old}\n{toml}")).unwrap();
    }

    fn init_at(&self, now: &str) {
        let source = format!("tree={}", self.tree().display());
        self.run_at(now, &["init", "--yes", "--source", &source], 0);
    }

    /// A call of bdr at a time, in UTC.
    pub(crate) fn bdr_at(&self, now: &str, args: &[&str]) -> Command {
        let mut command = self.bdr(args);
        command
            .env("BDR_TEST_NOW", now)
            .env("TZ", "UTC")
            .env("BDR_BACKGROUND", "0");
        command
    }

    #[track_caller]
    pub(crate) fn run_at(&self, now: &str, args: &[&str], code: i32) -> Output {
        let output = self.bdr_at(now, args).output().unwrap();
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{now}: bdr {args:?}: {said}"
        );
        output
    }

    #[track_caller]
    pub(crate) fn json_at(&self, now: &str, args: &[&str], code: i32) -> Value {
        let mut all = vec!["--json"];
        all.extend_from_slice(args);
        let output = self.run_at(now, &all, code);
        let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["data"].take()
    }

    /// Wakes bdr up as a scheduler does; returns what ran.
    #[track_caller]
    fn tick(&self, now: &str) -> Vec<String> {
        let data = self.json_at(now, &["tick", "--scheduler", "cron"], 0);
        let ran = data["ran"].as_array().unwrap();
        ran.iter()
            .map(|r| r["job"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Triggers of all snapshots, oldest first.
    fn triggers(&self) -> Vec<String> {
        let list = self.json(&["list"]);
        let snapshots = list["snapshots"].as_array().unwrap();
        snapshots
            .iter()
            .map(|s| s["trigger"].as_str().unwrap().to_owned())
            .collect()
    }

    fn journal(&self) -> bdr::runs::Journal {
        bdr::runs::Journal::new(&self.path("bdr/state"), &self.store())
    }
}

#[test]
fn a_wake_up_does_what_is_due_and_nothing_else() {
    let place = scheduled();
    // The backup and the drill of `init` count.
    assert_eq!(place.tick("2026-11-01T12:17:00Z"), ["prune"]);
    assert_eq!(place.tick("2026-11-01T13:17:00Z"), [""; 0]);
    assert_eq!(place.tick("2026-11-02T02:17:00Z"), [""; 0]);
    assert_eq!(place.tick("2026-11-02T03:17:00Z"), ["backup", "prune"]);
    assert_eq!(place.tick("2026-11-02T04:17:00Z"), [""; 0]);
    // Asleep for days, over the Sunday: one run, a full one, and the drill.
    assert_eq!(
        place.tick("2026-11-09T19:00:00Z"),
        ["full", "prune", "drill"]
    );
    assert_eq!(place.tick("2026-11-09T20:00:00Z"), [""; 0]);
    assert_eq!(place.triggers(), ["init", "backup", "backup"]);
    let runs = place.journal().runs();
    assert!(
        runs[2..].iter().all(|run| run.by == "cron") && runs.iter().all(bdr::runs::Run::succeeded),
        "{runs:?}"
    );
    // A backup by hand is one as well.
    place.run_at("2026-11-10T08:00:00Z", &["backup"], 0);
    assert_eq!(place.tick("2026-11-10T09:00:00Z"), ["prune"]);
}

#[test]
fn without_a_schedule_a_wake_up_says_how_to_get_one() {
    let place = Place::with_repository();
    place.init();
    let output = place.run(&["tick"], 2);
    assert!(
        stderr(&output).contains("bdr schedule install"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_wake_up_with_nothing_to_say_says_nothing() {
    let place = scheduled();
    for now in ["2026-11-02T03:00:00Z", "2026-11-02T04:00:00Z"] {
        let output = place.run_at(now, &["tick", "--scheduler", "cron"], 0);
        assert_eq!(
            (stderr(&output).as_str(), output.stdout.len()),
            ("", 0),
            "cron would mail it"
        );
    }
}

#[test]
fn a_memory_that_was_lost_costs_no_second_backup() {
    let place = scheduled();
    assert_eq!(place.tick("2026-11-02T03:00:00Z"), ["backup", "prune"]);
    std::fs::remove_dir_all(place.path("bdr/state")).unwrap();
    assert_eq!(place.tick("2026-11-02T04:00:00Z"), ["prune", "drill"]);
    std::fs::write(
        place.journal().dir().join("memory.json"),
        "{\"pasts\":{\"ba",
    )
    .unwrap();
    assert_eq!(place.tick("2026-11-02T05:00:00Z"), ["prune", "drill"]);
    assert_eq!(place.triggers(), ["init", "backup"]);
}

#[test]
fn many_wake_ups_at_once_make_one_backup() {
    let place = scheduled();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            place
                .bdr_at("2026-11-02T03:00:00Z", &["tick", "--scheduler", "cron"])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut call in calls {
        assert!(call.wait().unwrap().success());
    }
    assert_eq!(place.triggers(), ["init", "backup"]);
    assert_eq!(place.journal().memory().pasts.backup.failures, 0);
}

#[test]
fn a_destination_that_is_away_is_no_failure_and_is_made_up_for_when_it_is_back() {
    let place = scheduled();
    let away = place.path("away");
    std::fs::rename(place.store(), &away).unwrap();
    assert_eq!(place.tick("2026-11-02T03:00:00Z"), ["backup"]);
    let memory = place.journal().memory();
    assert_eq!(memory.pasts.backup.failures, 0);
    assert_eq!(
        place.journal().runs().last().unwrap().outcome,
        bdr::runs::Outcome::Skipped
    );
    std::fs::rename(&away, place.store()).unwrap();
    assert_eq!(place.tick("2026-11-02T04:00:00Z"), ["backup", "prune"]);
}

#[test]
fn a_backup_that_fails_is_not_claimed_and_is_tried_again_later() {
    let place = scheduled();
    let away = place.path("away");
    std::fs::rename(place.tree(), &away).unwrap();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let tick = |now: &str, code: i32| {
        let output = place
            .bdr_at(now, &["tick"])
            .current_dir(place.path("elsewhere"))
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{now} {}",
            stderr(&output)
        );
        stderr(&output)
    };
    let said = tick("2026-11-02T03:00:00Z", 1);
    assert!(said.contains("bdr status"), "{said}");
    let memory = place.journal().memory();
    assert_eq!(memory.pasts.backup.failures, 1);
    assert!(memory.pasts.backup.success < memory.pasts.backup.attempt);
    // Nothing was pruned: nothing new came.
    assert_eq!(memory.pasts.prune.success, None);
    assert_eq!(tick("2026-11-02T03:09:00Z", 0), "");
    std::fs::rename(&away, place.tree()).unwrap();
    assert_eq!(tick("2026-11-02T03:10:00Z", 0), "");
    assert_eq!(place.journal().memory().pasts.backup.failures, 0);
}

#[test]
fn a_guard_starts_a_backup_that_no_scheduler_made_and_says_so_when_it_is_late() {
    let place = scheduled();
    assert_eq!(place.tick("2026-11-02T03:00:00Z"), ["backup", "prune"]);
    // Due, but not late: nothing is said.
    let guard = |now: &str, background: &str| {
        place.write("victim", b"v");
        let mut command = place.bdr_at(now, &["guard", "--", "rm", "victim"]);
        let output = command.env("BDR_BACKGROUND", background).output().unwrap();
        assert!(output.status.success());
        stderr(&output)
    };
    assert!(!guard("2026-11-03T04:00:00Z", "0").contains("last backup"));
    let said = guard("2026-11-05T04:00:00Z", "0");
    assert!(
        said.contains("last backup 3 days ago") && said.contains("bdr status"),
        "{said}"
    );
    let said = guard("2026-11-05T05:00:00Z", "1");
    assert!(
        said.contains("last backup 3 days ago; making one now"),
        "{said}"
    );
    let started = Instant::now();
    while place.journal().runs().last().unwrap().by != "guard" {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "no backup came"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!guard("2026-11-05T06:00:00Z", "0").contains("last backup"));
    // A guard is no scheduler.
    assert_eq!(place.journal().memory().tick.unwrap().by, "cron");
}

fn packs(place: &Place) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(place.store().join("packs"))
        .into_iter()
        .flatten();
    files
        .filter(|e| e.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[test]
fn a_drill_restores_compares_and_opens() {
    let place = scheduled();
    place.write("good.json", br#"{"a": [1, 2, {"b": null}]}"#);
    place.write("with-comments.json", b"// settings\n{\"a\": 1,}\n");
    place.write("log.jsonl", b"{\"n\":1}\n{\"n\":2}\n");
    place.write("torn.jsonl", b"{\"n\":1}\n{\"n\":");
    place.write("truncated.json", br#"{"a": [1, 2"#);
    place.write("empty.json", b"");
    let database = rusqlite::Connection::open(place.tree().join("state.db")).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1), (2);")
        .unwrap();
    place.write(
        "broken.db",
        &[b"SQLite format 3\0".as_slice(), &[7; 5000]].concat(),
    );
    place.run_at("2026-11-02T03:00:00Z", &["backup"], 0);
    drop(database);
    let drill = place.json_at("2026-11-02T04:00:00Z", &["drill", "latest"], 0);
    let one = &drill["snapshots"][0];
    assert_eq!(
        (one["databases"].as_u64(), one["documents"].as_u64()),
        (Some(2), Some(5)),
        "{drill}"
    );
    assert_eq!(one["damage"], serde_json::json!([]));
    let remarks: Vec<&str> = one["remarks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["path"].as_str().unwrap())
        .collect();
    let path = |name: &str| place.tree().join(name).display().to_string();
    assert_eq!(
        remarks,
        [path("broken.db"), path("truncated.json")],
        "{drill}"
    );
    // Nothing is left of it, and nothing was remembered: it was asked for by name.
    let left = std::fs::read_dir(place.path("bdr/cache"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect::<Vec<_>>();
    let inner = left
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .map(|e| e.unwrap().file_name());
    assert!(
        !inner
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("verify-"))
    );
    let init = "2026-11-01T12:00:00Z".parse().unwrap();
    assert_eq!(place.journal().memory().pasts.drill.success, Some(init));
    // Both the newest and an older one.
    let drill = place.json_at("2026-11-02T05:00:00Z", &["drill"], 0);
    assert_eq!(drill["snapshots"].as_array().unwrap().len(), 2);
    assert!(place.journal().memory().pasts.drill.success > Some(init));
}

#[test]
fn a_database_that_is_broken_only_in_the_backup_fails_the_drill() {
    let place = scheduled();
    let broken = [b"SQLite format 3\0".as_slice(), &[7; 5000]].concat();
    place.write("state.db", &broken);
    place.run_at("2026-11-02T03:00:00Z", &["backup"], 0);
    place.write("state.db", b"something else");
    let drill = place.json_at("2026-11-02T04:00:00Z", &["drill", "latest"], 4);
    let damage = &drill["snapshots"][0]["damage"][0];
    assert_eq!(
        damage["path"],
        place.tree().join("state.db").display().to_string()
    );
}

#[test]
fn a_drill_of_damaged_storage_fails_names_the_file_and_is_remembered() {
    let place = scheduled();
    place.configure("drill = \"monday\"");
    let mut noise = 1_u32;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(64 << 10)
    .collect();
    place.write("precious", &content);
    place.run_at("2026-11-02T03:00:00Z", &["backup", "--full"], 0);
    for pack in packs(&place) {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    let output = place.run_at("2026-11-02T04:00:00Z", &["drill"], 4);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("Failed.") && said.contains("bdr verify"),
        "{said}"
    );
    let memory = place.journal().memory();
    assert_eq!(
        (memory.pasts.drill.success, memory.pasts.drill.failures),
        (Some("2026-11-01T12:00:00Z".parse().unwrap()), 1)
    );
    // From the scheduler it is an error that the scheduler shows.
    let output = place.run_at("2026-11-02T04:30:00Z", &["tick", "--scheduler", "cron"], 4);
    assert!(stderr(&output).contains("bdr drill"), "{}", stderr(&output));
}

#[test]
fn lists_are_complete_whatever_became_of_the_derived_summaries() {
    let place = scheduled();
    for day in 2..6 {
        place.run_at(&format!("2026-11-0{day}T03:00:00Z"), &["backup"], 0);
    }
    let expected = place.json(&["list"]);
    assert_eq!(expected["snapshots"].as_array().unwrap().len(), 5);
    let id = std::fs::read_dir(place.path("bdr/cache"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = id.join("summaries.jsonl");
    let text = std::fs::read(&file).unwrap();
    for broken in [&text[..text.len() / 2], b"", b"\xff\x00{}\n{\"id\":1}\n"] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(place.json(&["list"]), expected);
        assert_eq!(place.json(&["list"]), expected);
    }
    // A snapshot that is gone is not shown.
    let gone = expected["snapshots"][1]["id"].as_str().unwrap();
    place.run(&["forget", gone, "--yes"], 0);
    assert_eq!(
        place.json(&["list"])["snapshots"].as_array().unwrap().len(),
        4
    );
}
