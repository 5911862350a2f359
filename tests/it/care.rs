//! Backups that look after themselves: what runs when, what a drill finds, what is said of it. Time comes from `BDR_TEST_NOW`.

use std::path::PathBuf;
use std::process::Command;
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
    /// Wakes bdr up as a scheduler does; returns what ran.
    #[track_caller]
    pub(crate) fn tick(&self, now: &str) -> Vec<String> {
        let data = self.json_at(now, &["tick", "--scheduler", "cron"], 0);
        let ran = data["ran"].as_array().unwrap();
        ran.iter()
            .map(|r| r["job"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Triggers of all snapshots, oldest first.
    pub(crate) fn triggers(&self) -> Vec<String> {
        self.triggers_from("tree")
    }

    fn triggers_from(&self, dir: &str) -> Vec<String> {
        let output = self
            .bdr(&["list", "--json"])
            .current_dir(self.path(dir))
            .output();
        let document: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let list = &document["data"];
        let snapshots = list["snapshots"].as_array().unwrap();
        snapshots
            .iter()
            .map(|s| s["trigger"].as_str().unwrap().to_owned())
            .collect()
    }

    fn journal(&self) -> bdr::care::runs::Journal {
        bdr::care::runs::Journal::new(&self.path("bdr/state"), &self.store())
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
        runs[2..].iter().all(|run| run.by == "cron")
            && runs.iter().all(bdr::care::runs::Run::succeeded),
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
        bdr::care::runs::Outcome::Skipped
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
    assert!(
        said.contains("cannot find") && said.contains("bdr config check"),
        "{said}"
    );
    // A snapshot of nothing would be the newest there is.
    assert_eq!(place.triggers_from("elsewhere"), ["init"]);
    let memory = place.journal().memory();
    assert_eq!(memory.pasts.backup.failures, 1);
    assert!(memory.pasts.backup.success < memory.pasts.backup.attempt);
    // Nothing was pruned: nothing new came.
    assert_eq!(memory.pasts.prune.success, None);
    assert_eq!(tick("2026-11-02T03:09:00Z", 0), "");
    assert_eq!(place.journal().memory().pasts.prune.success, None);
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

#[test]
fn a_run_under_way_has_not_failed_and_one_that_was_killed_has() {
    let place = scheduled();
    let journal = place.journal();
    let begun = "2026-11-02T03:00:00Z".parse().unwrap();
    let begin = |pid: u32| {
        let update = journal.update(|memory| {
            memory.pasts.begin(bdr::model::schedule::Job::Backup, begun);
            memory.running = Some(bdr::care::runs::Running {
                job: bdr::model::schedule::Job::Backup,
                pid,
            });
        });
        update.unwrap();
    };
    begin(std::process::id());
    assert_eq!(journal.seen().pasts.backup.failures, 0);
    // Nobody starts a second one meanwhile.
    assert_eq!(place.tick("2026-11-02T03:01:00Z"), [""; 0]);
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    journal
        .update(|memory| memory.pasts.skip(bdr::model::schedule::Job::Backup))
        .unwrap();
    begin(dead.id());
    assert_eq!(journal.seen().pasts.backup.failures, 1);
    assert_eq!(place.tick("2026-11-02T03:11:00Z"), ["backup", "prune"]);
    assert_eq!(journal.memory().running, None);
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
fn a_file_that_changed_while_it_was_read_is_told_by_status_until_it_is_stored_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = scheduled();
    let file = place.tree().join("busy");
    std::fs::write(&file, vec![0_u8; 4_000_000]).unwrap();
    let done = AtomicBool::new(false);
    let torn = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
            for round in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                file.write_at(&round.to_le_bytes(), round % 400 * 10_000)
                    .unwrap();
            }
        });
        // Whether it is read at rest is up to chance.
        let torn = (0..50).any(|_| {
            let output = place.bdr(&["backup"]).output().unwrap();
            output.status.code() == Some(3)
                && String::from_utf8_lossy(&output.stdout).contains("changed while it was read")
        });
        done.store(true, Ordering::Relaxed);
        torn
    });
    assert!(torn, "fifty backups found it at rest");
    let status = place.json(&["status"]);
    let told = |status: &Value| {
        let mut troubles = status["troubles"].as_array().unwrap().iter();
        troubles.any(|trouble| trouble["code"] == "torn")
    };
    assert!(told(&status), "{status}");
    let said = place.bdr(&["status"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("1 file changed while the last backup read it"),
        "{said}"
    );
    place.run(&["backup"], 0);
    assert!(!told(&place.json(&["status"])));
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

/// What monitoring gets: exit code and line.
#[track_caller]
fn check(place: &Place, now: &str, more: &[&str]) -> (i32, String) {
    let mut args = vec!["status", "--check"];
    args.extend_from_slice(more);
    let output = place.bdr_at(now, &args).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    (output.status.code().unwrap(), line)
}

#[test]
fn status_says_in_one_sentence_whether_all_is_well() {
    let place = scheduled();
    assert_eq!(place.tick("2026-11-02T03:00:00Z"), ["backup", "prune"]);
    let page = |now: &str| String::from_utf8(place.run_at(now, &["status"], 0).stdout).unwrap();
    let text = page("2026-11-02T06:00:00Z");
    assert!(
        text.starts_with(
            "Protected, with 1 warning. Last backup 3 h ago, last restore drill 18 h ago, next 02:30.\n"
        ) || text.starts_with(
            "Protected, with 1 warning. Last backup 3 h ago, last restore drill yesterday 12:00, next 02:30.\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("tree") && text.contains("1 file, 5 B, all captured"),
        "{text}"
    );
    let text = page("2026-11-11T06:00:00Z");
    assert!(text.starts_with("Not protected: last backup 9 days ago; no scheduler is installed.\n  fix: bdr schedule install\n"), "{text}");
    // What is new is seen without a backup of it.
    place.write("new.md", b"n");
    place.write("notes.md", b"changed");
    let data = place.json_at("2026-11-02T06:00:00Z", &["status"], 0);
    assert_eq!(
        (
            data["sources"][0]["waiting"].as_u64(),
            data["sources"][0]["files"].as_u64()
        ),
        (Some(2), Some(2))
    );
    assert_eq!(data["jobs"]["backup"]["consecutive_failures"], 0);
}

#[test]
fn status_for_monitoring_has_three_exit_codes() {
    let place = scheduled();
    place.run_at("2026-11-02T03:00:00Z", &["tick", "--scheduler", "cron"], 0);
    let (code, line) = check(&place, "2026-11-02T06:00:00Z", &[]);
    assert!(
        code == 1
            && line.starts_with("bdr WARNING: no scheduler is installed | age=10800s stored="),
        "{line}"
    );
    let (code, line) = check(&place, "2026-11-02T06:00:00Z", &["--max-age", "2h"]);
    assert!(
        code == 2 && line.starts_with("bdr CRITICAL: last backup 3 h ago"),
        "{line}"
    );
    let (code, line) = check(&place, "2026-11-04T06:00:00Z", &["--max-age", "3d"]);
    assert!(code == 1 && !line.contains("last backup"), "{line}");
    // A destination that is away is said, not an error.
    std::fs::rename(place.store(), place.path("away")).unwrap();
    let (code, line) = check(&place, "2026-11-02T06:00:00Z", &[]);
    assert!(
        code == 2 && line.contains("the repository is missing"),
        "{line}"
    );
    // Neither is one that has nothing to protect.
    let empty = Place::with_repository();
    let (code, line) = check(&empty, "2026-11-02T06:00:00Z", &[]);
    assert!(
        code == 2 && line.contains("nothing is configured"),
        "{line}"
    );
}

#[test]
fn status_names_what_is_wrong_with_a_way_out() {
    let place = scheduled();
    place.configure("[source.gone]\npath = \"/nonexistent/gone\"\n");
    let home = place.path("home");
    std::fs::write(home.join(".claude.json"), "{}").unwrap();
    place.run_at("2026-11-02T03:00:00Z", &["tick", "--scheduler", "cron"], 0);
    let data = place.json_at("2026-11-02T06:00:00Z", &["status"], 0);
    let codes: Vec<&str> = data["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        ["unread", "source-missing", "not-installed"],
        "{data}"
    );
    for trouble in data["troubles"].as_array().unwrap() {
        assert!(!trouble["fix"].as_str().unwrap().is_empty());
    }
    assert_eq!(
        data["uncovered"][0]["path"],
        home.join(".claude.json").display().to_string()
    );
    let history = String::from_utf8(
        place
            .run_at("2026-11-02T06:00:00Z", &["status", "--history"], 0)
            .stdout,
    )
    .unwrap();
    assert!(
        history.lines().any(|line| line.starts_with("2026-11-02")),
        "{history}"
    );
    let runs = place.json_at("2026-11-02T06:00:00Z", &["status", "--history"], 0);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 4);
}

/// Where second names of a user's repository are if nobody else took the place.
#[cfg(unix)]
struct Lifeboats {
    user: u32,
    first: PathBuf,
}

#[cfg(unix)]
impl Lifeboats {
    fn new() -> Self {
        // A number that nobody has.
        let user = 1_700_000_000 + std::process::id();
        let first = PathBuf::from(format!("/var/tmp/bdr-lifeboat-{user}"));
        Self { user, first }
    }

    fn all(&self) -> Vec<PathBuf> {
        let name = self.first.file_name().unwrap().to_str().unwrap();
        let entries = std::fs::read_dir("/var/tmp").unwrap().flatten();
        let names = entries.map(|entry| entry.path());
        names
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(name)
            })
            .collect()
    }
}

#[cfg(unix)]
impl Drop for Lifeboats {
    fn drop(&mut self) {
        for path in self.all() {
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}

#[cfg(unix)]
#[test]
fn who_takes_the_place_of_the_lifeboat_first_takes_nothing_away() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: another user's directory can be made by root only");
        return;
    }
    for taken in ["directory", "file", "link", "link to HOME", "open"] {
        let boats = Lifeboats::new();
        let place = Place::with_repository();
        place.write("a", b"content");
        let bdr = place.path("bdr-binary");
        std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &bdr).unwrap();
        for below in [
            place.path(""),
            place.tree(),
            place.path("home"),
            place.tree().join("a"),
        ] {
            chown(below, Some(boats.user), Some(boats.user)).unwrap();
        }
        match taken {
            "directory" => {
                std::fs::create_dir(&boats.first).unwrap();
                let open = std::fs::Permissions::from_mode(0o777);
                std::fs::set_permissions(&boats.first, open).unwrap();
            }
            "file" => std::fs::write(&boats.first, b"").unwrap(),
            "link" => symlink("/nonexistent/x", &boats.first).unwrap(),
            "link to HOME" => symlink(place.path("home"), &boats.first).unwrap(),
            // Their own, and open to others.
            _ => {
                std::fs::create_dir(&boats.first).unwrap();
                chown(&boats.first, Some(boats.user), Some(boats.user)).unwrap();
                let open = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&boats.first, open).unwrap();
            }
        }
        let run = |args: &[&str]| {
            let mut command = std::process::Command::new(&bdr);
            command
                .args(args)
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .env("HOME", place.path("home"))
                .env("BDR_BACKGROUND", "0")
                .current_dir(place.tree())
                .uid(boats.user)
                .gid(boats.user);
            let output = command.output().unwrap();
            let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            (output.status.code(), said)
        };
        let source = format!("tree={}", place.tree().display());
        assert_eq!(
            run(&["init", "--yes", "--source", &source]).0,
            Some(0),
            "{taken}"
        );
        let second: Vec<_> = boats
            .all()
            .into_iter()
            .filter(|p| *p != boats.first)
            .collect();
        assert_eq!(second.len(), 1, "{taken}: {second:?}");
        let found = second[0].metadata().unwrap();
        assert_eq!(
            (found.uid(), found.mode() & 0o777),
            (boats.user, 0o700),
            "{taken}"
        );
        let (_, said) = run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(
            status["data"]["lifeboat"]["manned"], true,
            "{taken}: {said}"
        );
        // It is found again without a note, after all of HOME is gone.
        for entry in walkdir::WalkDir::new(place.path("home")) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() {
                let open = std::fs::Permissions::from_mode(0o700);
                std::fs::set_permissions(entry.path(), open).unwrap();
            }
        }
        std::fs::remove_dir_all(place.path("home")).unwrap();
        std::fs::create_dir(place.path("home")).unwrap();
        chown(place.path("home"), Some(boats.user), Some(boats.user)).unwrap();
        std::fs::remove_file(place.tree().join("a")).unwrap();
        let (code, said) = run(&["restore", "latest"]);
        assert_eq!(code, Some(0), "{taken}: {said}");
        assert_eq!(
            std::fs::read(place.tree().join("a")).unwrap(),
            b"content",
            "{taken}"
        );
        assert_eq!(boats.all().len(), 2, "{taken}");
    }
}

#[test]
fn a_lifeboat_that_cannot_be_had_is_said_by_status() {
    let place = Place::with_repository();
    place.write("a", b"a");
    place.init();
    let with = |args: &[&str], boat: &std::path::Path| {
        let output = place.bdr(args).env("BDR_LIFEBOAT", boat).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    // A file is where it should be.
    let boat = place.path("boat");
    std::fs::write(&boat, b"").unwrap();
    with(&["backup"], &boat);
    let (_, page) = with(&["status"], &boat);
    assert!(
        page.contains("a deleted repository could not be restored"),
        "{page}"
    );
    let (code, line) = with(&["status", "--check"], &boat);
    assert!(code >= Some(1), "{line}");
    let (_, json) = with(&["status", "--json"], &boat);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["data"]["lifeboat"]["manned"], false);
    let troubles = status["data"]["troubles"].as_array().unwrap().clone();
    assert!(
        troubles
            .iter()
            .any(|trouble| trouble["code"] == "no-lifeboat"),
        "{json}"
    );
    let (_, doctor) = with(&["doctor"], &boat);
    assert!(doctor.contains("belongs to somebody else"), "{doctor}");
    std::fs::remove_file(&boat).unwrap();
    with(&["backup"], &boat);
    let (_, page) = with(&["status"], &boat);
    assert!(!page.contains("lifeboat"), "{page}");
    // Turned off: nothing to say.
    let (_, page) = with(&["status"], std::path::Path::new(""));
    assert!(!page.contains("lifeboat"), "{page}");
}

#[test]
fn the_dashboard_is_made_anew_after_each_wake_up_that_did_something() {
    let place = scheduled();
    place.write("<script>alert(1)</script>", b"x");
    place.run_at(
        "2026-11-02T02:45:00Z",
        &["guard", "--", "rm", "<script>alert(1)</script>"],
        0,
    );
    place.run_at("2026-11-02T03:00:00Z", &["tick", "--scheduler", "cron"], 0);
    let file = place.path("bdr/state/dashboard.html");
    let html = std::fs::read_to_string(&file).unwrap();
    assert!(
        html.contains("Protected, with 1 warning. Last backup just now"),
        "{html}"
    );
    assert!(
        html.contains("&lt;script&gt;") && !html.contains("<script"),
        "a name is text"
    );
    // Paths are for those who ask for them.
    let dir = place.tree().display().to_string();
    assert!(!html.contains(&dir), "{html}");
    let shown = place.run_at(
        "2026-11-02T03:00:00Z",
        &["dashboard", "--show-paths", "--output", "-"],
        0,
    );
    assert!(String::from_utf8(shown.stdout).unwrap().contains(&dir));
    // Nothing is fetched from anywhere.
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "{html}"
    );
    assert!(html.len() < 150 << 10);
    let output = place.run_at(
        "2026-11-02T03:00:00Z",
        &["dashboard", "--output", "/nonexistent/x.html"],
        1,
    );
    assert!(
        stderr(&output).contains("bdr dashboard --output"),
        "{}",
        stderr(&output)
    );
    // One that cannot be written is no reason not to back up.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(place.tick("2026-11-03T03:00:00Z"), ["backup", "prune"]);
}
