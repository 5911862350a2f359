//! The process is killed in the middle of a push or a prune of a destination: what was there before is
//! there, everything verifies, and the next run completes.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::stores::{Server, prune, server, with};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, noise, picture};
use crate::thinned::at;

/// Who runs bdr.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    Own,
    /// Somebody without rights.
    Other,
}

const OTHER: u32 = 65_534;

struct Machine {
    place: Place,
    server: Server,
    user: User,
    day: i64,
    /// A copy of the program where everybody can read it.
    program: Option<tempfile::TempDir>,
}

const PRUNE: [&str; 8] = prune("1");

impl Machine {
    fn new(server: Server, user: User) -> Self {
        let place = Place::with_repository();
        for n in 0..5_u8 {
            place.write(&format!("dir/{n}"), &noise(5000 + usize::from(n)));
        }
        let program = (user == User::Other).then(|| {
            let dir = tempfile::tempdir_in("/tmp").unwrap();
            let copy = dir.path().join("bdr");
            std::fs::copy(env!("CARGO_BIN_EXE_bdr"), copy).unwrap();
            open(dir.path());
            dir
        });
        let mut machine = Self {
            place,
            server,
            user,
            day: 0,
            program,
        };
        machine.give();
        let source = format!("tree={}", machine.place.tree().display());
        machine.run(&["init", "--yes", "--source", &source]);
        let url = machine.server.url.clone();
        machine.run(&["remote", "add", "far", &url, "--encrypt"]);
        machine.run(&["push"]);
        machine.day += 1;
        machine
    }

    /// Everything in the place belongs to whoever runs bdr.
    fn give(&self) {
        if self.user == User::Other {
            let owner = format!("{OTHER}:{OTHER}");
            let dir = self.place.dir.path();
            let given = Command::new("chown").args(["-R", &owner]).arg(dir).status();
            assert!(given.unwrap().success());
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let like = with(&self.place, &self.server, args);
        let program = self.program.as_ref().map(|dir| dir.path().join("bdr"));
        let mut command = Command::new(
            program
                .as_deref()
                .map_or(like.get_program(), |p| p.as_os_str()),
        );
        command.args(like.get_args());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = like.get_current_dir() {
            command.current_dir(dir);
        }
        command.env("BDR_TEST_NOW", at(self.day));
        if self.user == User::Other {
            command.uid(OTHER).gid(OTHER);
        }
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let said = format!("bdr {args:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{said}");
        stdout(&output)
    }

    fn work(&mut self, full: bool) {
        self.day += 1;
        let name = format!("day/{}", self.day);
        self.place
            .write(&name, &noise(9000 + usize::try_from(self.day).unwrap()));
        self.give();
        let full: &[&str] = if full { &["--full"] } else { &[] };
        self.run(&[&["backup"][..], full].concat());
    }

    fn comes_back(&self, what: &str, is_newest: bool) {
        let checked = self.run(&["verify", "--remote", "far", "--level", "full"]);
        let config = self.place.path("bdr/far.key");
        let key = match config.exists() {
            true => config,
            false => {
                let shown = self.run(&["config", "path"]);
                std::path::PathBuf::from(shown.trim()).with_file_name("far.key")
            }
        };
        let bare = Place::with_repository();
        let out = bare.path("out");
        let args = [
            "restore",
            "latest",
            "--from",
            &self.server.url,
            "--identity",
            key.to_str().unwrap(),
            "--target",
            out.to_str().unwrap(),
        ];
        let output = with(&bare, &self.server, &args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{what}: {}{checked}",
            stderr(&output)
        );
        if is_newest {
            let (before, after) = (picture(&self.place.tree()), picture(&out.join("tree")));
            assert_same(&before, &after, what);
        }
    }

    /// Kills a call right before its n-th request, or after it was carried out; returns whether it was.
    fn is_killed_at(&self, args: &[&str], at: &str, what: &str) -> bool {
        let output = self
            .command(args)
            .env("BDR_TEST_KILL_REQUEST", at)
            .output()
            .unwrap();
        match output.status.code() {
            None => true,
            Some(0) => false,
            _ => panic!("{what}: {}{}", stdout(&output), stderr(&output)),
        }
    }
}

fn open(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    for file in std::fs::read_dir(dir).unwrap().flatten() {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// At every request of a push and of a prune, before it and after it.
fn killed_at_every_request(server: Server, user: User, name: &str) {
    let mut machine = Machine::new(server, user);
    let mut kills = 0;
    for suffix in ["", "+"] {
        for number in 1.. {
            machine.work(number % 2 == 0);
            let what = format!("{name}: push killed at {number}{suffix}");
            let is_killed = machine.is_killed_at(&["push"], &format!("{number}{suffix}"), &what);
            machine.comes_back(&what, !is_killed);
            machine.run(&["push"]);
            machine.comes_back(&format!("{what}, pushed"), true);
            if !is_killed {
                break;
            }
            kills += 1;
        }
        for number in 1.. {
            // Something to take away, and something whose day is over.
            machine.work(true);
            machine.run(&["push"]);
            let what = format!("{name}: prune killed at {number}{suffix}");
            let is_killed = machine.is_killed_at(&PRUNE, &format!("{number}{suffix}"), &what);
            machine.comes_back(&what, true);
            machine.run(&["push"]);
            machine.day += 2;
            machine.run(&PRUNE);
            machine.comes_back(&format!("{what}, pruned"), true);
            if !is_killed {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 12, "{name}: only {kills} kills");
    machine.day += 2;
    machine.run(&PRUNE);
    let checked = machine.run(&["--json", "verify", "--remote", "far"]);
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["data"]["unnamed"], 0, "{name}: {checked}");
}

#[test]
fn killed_at_every_request_to_a_directory_the_next_run_completes() {
    let place = Place::with_repository();
    killed_at_every_request(Server::directory(&place.path("disk")), User::Own, "file");
}

#[test]
fn killed_at_every_request_to_s3_the_next_run_completes() {
    let Some(server) = server("s3", "killed") else {
        return;
    };
    killed_at_every_request(server, User::Own, "s3");
}

#[test]
fn an_ordinary_user_killed_at_every_request_completes_too() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "SKIPPED: another user than this one (not root); the test above runs as an ordinary one"
        );
        return;
    }
    let place = Place::with_repository();
    let disk = place.path("disk");
    std::fs::create_dir(&disk).unwrap();
    std::os::unix::fs::chown(&disk, Some(OTHER), Some(OTHER)).unwrap();
    open_all(place.dir.path());
    killed_at_every_request(Server::directory(&disk), User::Other, "file, another user");
}

fn open_all(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// SIGKILL at any moment, not only at requests: also while packs are made, notes are written, or files of
/// a directory are renamed.
#[test]
fn killed_at_any_moment_the_next_run_completes() {
    let place = Place::with_repository();
    let mut machine = Machine::new(Server::directory(&place.path("disk")), User::Own);
    // How long each takes where nobody kills it.
    machine.work(true);
    let mut spans = Vec::new();
    for args in [&["push"][..], &PRUNE] {
        let started = Instant::now();
        machine.run(args);
        spans.push(started.elapsed());
    }
    let mut killed = [0, 0];
    for step in 1..16_u32 {
        for (which, args) in [&["push"][..], &PRUNE].into_iter().enumerate() {
            machine.work(step % 3 == 0);
            if which == 1 {
                machine.run(&["push"]);
                machine.day += 2;
            }
            let mut child = machine
                .command(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(
                spans[which] * step / 16 + Duration::from_micros(u64::from(step) * 137 % 900),
            );
            let _ = child.kill();
            let ended = child.wait().unwrap();
            killed[which] += u32::from(ended.code().is_none());
            let what = format!("{args:?} killed at {step}/16");
            machine.comes_back(&what, which == 1);
            machine.run(&["push"]);
            machine.run(&PRUNE);
            machine.comes_back(&format!("{what}, completed"), true);
        }
    }
    assert!(killed.iter().all(|killed| *killed >= 3), "{killed:?}");
}
