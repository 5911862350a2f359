//! `bdr schedule`: what schedulers are told, by stand-ins for their tools that keep a file and refuse on demand. The real ones are in
//! `tests/system.sh`.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::Place;
use crate::support::cli::stderr;

const NOW: &str = "2026-11-02T12:00:00Z";

/// A place with a source, and a directory of tools that is all there is in PATH.
struct World {
    place: Place,
    tools: PathBuf,
}

/// Keeps the crontab in a file, byte for byte; `crontab.says` makes it refuse.
const CRONTAB: &str = r#"
dir=${0%/*}
if [ -f "$dir/crontab.says" ]; then /bin/cat "$dir/crontab.says" >&2; exit 1; fi
case $1 in
    -l) if [ -f "$dir/crontab.text" ]; then /bin/cat "$dir/crontab.text"; else echo "no crontab for tester" >&2; exit 1; fi ;;
    -r) /bin/rm "$dir/crontab.text" ;;
    -) if [ -f "$dir/crontab.spoils" ]; then /usr/bin/tr a-z A-Z >"$dir/crontab.text"; /bin/rm "$dir/crontab.spoils"; else /bin/cat >"$dir/crontab.text"; fi ;;
esac"#;

/// Notes what it is asked; `systemctl.says` makes it refuse.
const SYSTEMCTL: &str = r#"
dir=${0%/*}
echo "$*" >>"$dir/systemctl.log"
if [ -f "$dir/systemctl.says" ]; then /bin/cat "$dir/systemctl.says" >&2; exit 1; fi"#;

impl World {
    fn new(tools: &[(&str, &str)]) -> Self {
        let place = Place::with_repository();
        place.write("notes.md", b"first");
        place.init();
        let dir = place.path("tools");
        std::fs::create_dir(&dir).unwrap();
        for (name, script) in tools {
            use std::os::unix::fs::PermissionsExt;
            let file = dir.join(name);
            std::fs::write(&file, format!("#!/bin/sh{script}\n")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { place, tools: dir }
    }

    fn bdr(&self, args: &[&str]) -> Command {
        let mut command = self.place.bdr(args);
        command
            .env("PATH", &self.tools)
            .env("BDR_TEST_NOW", NOW)
            .env("TZ", "UTC");
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> Output {
        let output = self.bdr(args).output().unwrap();
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "bdr {args:?}: {said}");
        output
    }

    fn out(&self, args: &[&str], code: i32) -> String {
        String::from_utf8(self.run(args, code).stdout).unwrap()
    }

    fn crontab(&self) -> Option<Vec<u8>> {
        std::fs::read(self.tools.join("crontab.text")).ok()
    }

    fn put(&self, name: &str, text: &[u8]) {
        std::fs::write(self.tools.join(name), text).unwrap();
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.place.path("bdr/config.toml")).unwrap()
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.place.path("home/.config/systemd/user").join(name)
    }
}

#[test]
fn cron_gets_a_block_and_keeps_everything_else() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let said = world.out(
        &["schedule", "install", "--at", "03:15", "--full", "fri"],
        0,
    );
    assert!(
        said.starts_with("Backups run daily at 03:15, a full one on friday; next: "),
        "{said}"
    );
    let text = String::from_utf8(world.crontab().unwrap()).unwrap();
    let home = world.place.path("bdr");
    let command = format!(
        "/usr/bin/env BDR_HOME={} {} tick --quiet --scheduler cron",
        home.display(),
        env!("CARGO_BIN_EXE_bdr")
    );
    assert_eq!(text.matches(&command).count(), 2, "{text}");
    assert!(
        world
            .config()
            .contains("at = \"03:15\"\nfull = \"friday\"\n"),
        "{}",
        world.config()
    );
    // Nothing was there, nothing is left.
    world.run(&["schedule", "install", "--at", "03:15"], 0);
    assert_eq!(
        String::from_utf8(world.crontab().unwrap()).unwrap(),
        text,
        "twice is once"
    );
    world.run(&["schedule", "uninstall"], 0);
    assert_eq!(world.crontab(), None);
    assert!(!world.config().contains("[schedule]"), "{}", world.config());
    // The lines of others, whatever their encoding, come through byte for byte.
    for old in [
        b"# caf\xe9\n0 1 * * * true".as_slice(),
        b"SHELL=/usr/bin/fish\nMAILTO=\"\"\n* * * * * x\n",
    ] {
        world.put("crontab.text", old);
        world.run(&["schedule", "install"], 0);
        assert!(world.crontab().unwrap().ends_with(old));
        let kept = std::fs::read(world.place.path("bdr/state/crontab.old")).unwrap();
        assert_eq!(kept, old);
        world.run(&["schedule", "uninstall"], 0);
        assert_eq!(world.crontab().unwrap(), old);
    }
}

#[test]
fn the_command_in_the_crontab_works_in_the_bare_world_of_cron() {
    let world = World::new(&[("crontab", CRONTAB)]);
    world.run(&["schedule", "install"], 0);
    let text = String::from_utf8(world.crontab().unwrap()).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("@reboot "))
        .unwrap();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &line.replace("\\%", "%")])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("BDR_TEST_NOW", "2026-12-01T12:00:00Z")
        .env("PATH", "/usr/bin:/bin");
    let output = shell.current_dir("/").output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            stderr(&output).as_str(),
            output.stdout.len()
        ),
        (Some(0), "", 0)
    );
    let memory =
        bdr::care::runs::Journal::new(&world.place.path("bdr/state"), &world.place.store())
            .memory();
    assert_eq!(memory.tick.unwrap().by, "cron");
    assert_eq!(
        memory.pasts.backup.success,
        Some("2026-12-01T12:00:00Z".parse().unwrap())
    );
}

#[test]
fn a_crontab_that_cannot_be_changed_stays_as_it_is() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let old = b"0 1 * * * true\n";
    world.put("crontab.text", old);
    world.put(
        "crontab.says",
        b"You (tester) are not allowed to use this program (crontab)\n",
    );
    let said = stderr(&world.run(&["schedule", "install"], 1));
    assert!(
        said.contains("not allowed") && said.contains("guards and hooks still start"),
        "{said}"
    );
    std::fs::remove_file(world.tools.join("crontab.says")).unwrap();
    assert_eq!(world.crontab().unwrap(), old);
    // One that comes out differently is put back.
    world.put("crontab.spoils", b"");
    let said = stderr(&world.run(&["schedule", "install"], 1));
    assert!(said.contains("the old one is back"), "{said}");
    assert_eq!(world.crontab().unwrap(), old);
    // Marks that somebody has broken are named, not repaired.
    let broken = b"0 1 * * * true\n# <<< bdr schedule <<<\n";
    world.put("crontab.text", broken);
    let said = stderr(&world.run(&["schedule", "install"], 2));
    assert!(
        said.contains("line 2") && said.contains("crontab -e"),
        "{said}"
    );
    assert_eq!(world.crontab().unwrap(), broken);
}

#[test]
fn systemd_gets_a_timer_of_the_user() {
    let world = World::new(&[("systemctl", SYSTEMCTL), ("crontab", CRONTAB)]);
    // What cron had goes: two would wake twice.
    world.run(&["schedule", "install", "--backend", "cron"], 0);
    let said = world.out(&["schedule", "install"], 0);
    assert!(
        said.contains("A systemd user timer wakes bdr every hour"),
        "{said}"
    );
    assert_eq!(world.crontab(), None);
    let service = std::fs::read_to_string(world.unit("bdr-tick.service")).unwrap();
    let home = world.place.path("bdr");
    assert!(
        service.contains(&format!(
            "ExecStart=\"{}\" \"tick\" \"--quiet\" \"--scheduler\" \"systemd\"\n",
            env!("CARGO_BIN_EXE_bdr")
        )),
        "{service}"
    );
    assert!(
        service.contains(&format!("Environment=\"BDR_HOME={}\"\n", home.display())),
        "{service}"
    );
    let log = std::fs::read_to_string(world.tools.join("systemctl.log")).unwrap();
    assert!(
        log.ends_with(
            "--user show-environment\n--user daemon-reload\n--user enable --now bdr-tick.timer\n"
        ),
        "{log}"
    );
    let status: serde_json::Value =
        serde_json::from_str(&world.out(&["schedule", "status", "--json"], 0)).unwrap();
    assert_eq!(
        (
            status["data"]["backend"].as_str(),
            &status["data"]["starts_other"]
        ),
        (Some("systemd"), &serde_json::Value::Null)
    );
    world.run(&["schedule", "uninstall"], 0);
    assert!(!world.unit("bdr-tick.service").exists() && !world.unit("bdr-tick.timer").exists());
}

#[test]
fn an_entry_that_works_outlives_one_that_is_refused() {
    let world = World::new(&[("systemctl", SYSTEMCTL), ("crontab", CRONTAB)]);
    world.run(&["schedule", "install", "--backend", "systemd"], 0);
    world.put(
        "crontab.says",
        b"You (tester) are not allowed to use this program (crontab)\n",
    );
    world.run(&["schedule", "install", "--backend", "cron"], 1);
    assert!(world.unit("bdr-tick.timer").exists() && world.unit("bdr-tick.service").exists());
    // The other way round: what systemd did not take does not pass for an entry.
    std::fs::remove_file(world.tools.join("crontab.says")).unwrap();
    world.run(&["schedule", "install", "--backend", "cron"], 0);
    let block = world.crontab().unwrap();
    world.put("systemctl.says", b"Failed to connect to bus\n");
    world.run(&["schedule", "install", "--backend", "systemd"], 1);
    assert_eq!(world.crontab().unwrap(), block);
    let status = world
        .bdr(&["schedule", "status", "--json"])
        .output()
        .unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("\"backend\":\"cron\""), "{status}");
    std::fs::remove_file(world.tools.join("systemctl.says")).unwrap();
    world.run(&["schedule", "install", "--backend", "systemd"], 0);
    world.put(
        "crontab.says",
        b"You (tester) are not allowed to use this program (crontab)\n",
    );
    // Nor does who may not use cron have to keep the timer.
    world.run(&["schedule", "uninstall"], 0);
    assert!(!world.unit("bdr-tick.timer").exists());
    assert!(!world.config().contains("[schedule]"));
}

/// Notes what it is asked; 113 says that there is no such agent.
const LAUNCHCTL: &str = r#"
echo "$*" >>"${0%/*}/launchctl.log"
[ "$1" != bootout ] || exit 113"#;

/// Takes no task that starts at logon.
const SCHTASKS: &str = r#"
dir=${0%/*}
echo "$*" >>"$dir/schtasks.log"
case $1 in
    /create) if /usr/bin/tr -d '\000' <"$5" | /bin/grep -q LogonTrigger; then echo "ERROR: Access is denied." >&2; exit 1; fi; /bin/cp "$5" "$dir/task.xml" ;;
esac"#;

#[test]
fn launchd_and_task_scheduler_are_told_in_their_own_words() {
    let world = World::new(&[("launchctl", LAUNCHCTL), ("schtasks", SCHTASKS)]);
    world.run(&["schedule", "install", "--backend", "launchd"], 0);
    let agent = world
        .place
        .path("home/Library/LaunchAgents/dev.bdr.tick.plist");
    let text = std::fs::read_to_string(&agent).unwrap();
    assert!(text.contains("<key>BDR_HOME</key>"), "{text}");
    let log = std::fs::read_to_string(world.tools.join("launchctl.log")).unwrap();
    let user = rustix::process::getuid().as_raw();
    assert_eq!(
        log,
        format!(
            "bootout gui/{user}/dev.bdr.tick\nbootstrap gui/{user} {}\n",
            agent.display()
        )
    );
    // One that may not start at logon is registered without that.
    world.run(&["schedule", "install", "--backend", "schtasks"], 0);
    let task = std::fs::read(world.tools.join("task.xml")).unwrap();
    let units: Vec<u16> = task[2..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let task = String::from_utf16(&units).unwrap();
    assert!(
        task.contains("PT1H") && !task.contains("LogonTrigger"),
        "{task}"
    );
    // What the environment says goes along, and works.
    let home = world.place.path("bdr");
    assert!(
        task.contains(&format!(" --with BDR_HOME={}</Arguments>", home.display())),
        "{task}"
    );
    let with = format!("BDR_HOME={}", home.display());
    let mut tick = world.bdr(&[
        "tick",
        "--quiet",
        "--scheduler",
        "schtasks",
        "--with",
        &with,
    ]);
    let output = tick
        .env_remove("BDR_HOME")
        .env("BDR_TEST_NOW", "2026-12-01T12:00:00Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let memory =
        bdr::care::runs::Journal::new(&world.place.path("bdr/state"), &world.place.store())
            .memory();
    assert_eq!(memory.tick.unwrap().by, "schtasks");
}

#[test]
fn without_a_session_bus_cron_is_named_and_without_anything_what_happens_then() {
    let world = World::new(&[("systemctl", SYSTEMCTL)]);
    world.put(
        "systemctl.says",
        b"Failed to connect to bus: No medium found\n",
    );
    let said = stderr(&world.run(&["schedule", "install"], 2));
    assert!(
        said.contains("neither systemd user units nor crontab") && said.contains("guards"),
        "{said}"
    );
    // Guards do it from now on: the configuration says so.
    assert!(world.config().contains("[schedule]"));
    let said = stderr(&world.run(&["schedule", "install", "--backend", "systemd"], 1));
    assert!(
        said.contains("Failed to connect to bus") && said.contains("--backend cron"),
        "{said}"
    );
    let said = stderr(&world.run(&["schedule", "install", "--backend", "cron"], 1));
    assert!(
        said.contains("`crontab` failed: the program does not exist"),
        "{said}"
    );
}

#[test]
fn an_entry_that_starts_another_bdr_is_seen() {
    let world = World::new(&[("systemctl", SYSTEMCTL)]);
    world.run(&["schedule", "install"], 0);
    let unit = world.unit("bdr-tick.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    std::fs::write(
        &unit,
        text.replace(env!("CARGO_BIN_EXE_bdr"), "/old/place/bdr"),
    )
    .unwrap();
    let said = world.out(&["schedule", "status"], 1);
    assert!(
        said.contains("/old/place/bdr, not this bdr") && said.contains("fix: bdr schedule install"),
        "{said}"
    );
    world.run(&["schedule", "install"], 0);
    world.run(&["schedule", "status"], 0);
    // Nothing wakes it up although it is installed.
    let mut late = world.bdr(&["schedule", "status"]);
    let output = late
        .env("BDR_TEST_NOW", "2026-11-09T12:00:00Z")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.code() == Some(1)
            && said.contains("the scheduler has not run since 2026-11-02"),
        "{said}"
    );
}

#[test]
fn what_would_be_done_can_be_seen_first() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let before = world.config();
    let text = world.out(&["schedule", "install", "--dry-run", "--at", "04:00"], 0);
    assert!(
        text.contains("at = \"04:00\"") && text.contains("# >>> bdr schedule >>>"),
        "{text}"
    );
    for (backend, what) in [
        ("systemd", "OnCalendar="),
        ("launchd", "<key>StartCalendarInterval</key>"),
        ("cron", "@reboot "),
        ("schtasks", "<StartWhenAvailable>true"),
    ] {
        let text = world.out(&["schedule", "print", "--backend", backend], 0);
        assert!(text.contains(what), "{backend}: {text}");
        let document: serde_json::Value = serde_json::from_str(
            &world.out(&["schedule", "print", "--backend", backend, "--json"], 0),
        )
        .unwrap();
        assert_eq!(document["data"]["backend"], backend);
    }
    assert_eq!((world.config(), world.crontab()), (before, None));
    // Comments of the configuration stay.
    let commented = format!("# mine, keep it\n{}", world.config());
    std::fs::write(world.place.path("bdr/config.toml"), &commented).unwrap();
    world.run(&["schedule", "install"], 0);
    assert!(world.config().starts_with("# mine, keep it\n"));
    world.run(&["schedule", "uninstall", "--dry-run"], 0);
    assert!(world.crontab().is_some() && world.config().contains("[schedule]"));
}

#[test]
fn what_was_never_backed_up_is_not_protected() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let source = format!("tree={}", world.place.tree().display());
    std::fs::remove_dir_all(world.place.path("bdr/state")).unwrap();
    std::fs::remove_dir_all(world.place.path("bdr/cache")).unwrap();
    let said = world.out(
        &[
            "init",
            "--yes",
            "--no-backup",
            "--source",
            &source,
            "--repository",
            "other",
        ],
        0,
    );
    assert!(said.contains("No backup was made"), "{said}");
    world.run(&["schedule", "install"], 0);
    let said = world.out(&["status"], 0);
    assert!(
        said.starts_with("Not protected: there is no backup.\n  fix: bdr backup\n"),
        "{said}"
    );
}

#[test]
fn init_can_set_it_up() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let source = format!("tree={}", world.place.tree().display());
    let said = world.out(
        &["init", "--yes", "--schedule", "05:45", "--source", &source],
        0,
    );
    assert!(
        said.contains("--schedule 05:45") && said.contains("Backups run daily at 05:45"),
        "{said}"
    );
    assert!(world.crontab().is_some() && world.config().contains("at = \"05:45\""));
    // Without a scheduler the rest is done all the same.
    let bare = World::new(&[]);
    let source = format!("tree={}", bare.place.tree().display());
    let output = bare.run(
        &["init", "--yes", "--schedule", "05:45", "--source", &source],
        3,
    );
    assert!(
        stderr(&output).contains("found no scheduler"),
        "{}",
        stderr(&output)
    );
    assert!(bare.config().contains("at = \"05:45\""));
    bare.run(&["init", "--yes", "--schedule", "5 o'clock"], 2);
}

/// Runs as a cron daemon is called, so that it is one to whoever looks.
fn daemon(world: &World) -> Option<std::process::Child> {
    let program = world.place.path("crond");
    std::fs::copy("/bin/sleep", &program).ok()?;
    Command::new(program).arg("600").spawn().ok()
}

#[test]
fn a_cron_without_its_daemon_does_not_count_as_one_that_works() {
    let world = World::new(&[("crontab", CRONTAB)]);
    let said = world.out(
        &["schedule", "install", "--backend", "cron", "--every", "2h"],
        0,
    );
    assert!(said.contains("every 2 hours, from 02:30 on"), "{said}");
    if !said.contains("no cron daemon is running") {
        println!("SKIPPED in part: a cron daemon runs here");
        return;
    }
    let status = world.out(&["schedule", "status"], 1);
    assert!(status.contains("! no cron daemon is running"), "{status}");
    assert!(status.contains("every 2 hours"), "{status}");
    let mut crond = daemon(&world).unwrap();
    let status = world.out(&["schedule", "status"], 0);
    assert!(!status.contains("daemon"), "{status}");
    crond.kill().unwrap();
    crond.wait().unwrap();
    // Who is woken needs no daemon that bdr knows.
    world.run(&["tick", "--scheduler", "cron"], 0);
    world.run(&["schedule", "status"], 0);
    let data = world.out(&["--json", "schedule", "status"], 0);
    assert!(
        data.contains("\"daemon_runs\":false") && data.contains("\"every\":\"2h\""),
        "{data}"
    );
    world.run(
        &[
            "schedule",
            "install",
            "--backend",
            "cron",
            "--every",
            "daily",
        ],
        0,
    );
    assert!(
        world
            .out(&["config", "export", "--include-schedules"], 0)
            .contains("at = \"02:30\"")
    );
}
