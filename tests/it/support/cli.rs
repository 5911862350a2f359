//! The real binary in a place of its own: HOME, configuration, clock.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::Place;

impl Place {
    /// A call of bdr in the tree.
    pub(crate) fn bdr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bdr"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("BDR_HOME", self.path("bdr"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(self.tree());
        // Most tests hold however a guard protects.
        let mode = std::env::var_os("BDR_GUARD_CAPTURE");
        let off = self.watched.then(|| "off".into());
        if let Some(mode) = off.or(mode) {
            command.env("BDR_GUARD_CAPTURE", mode);
        }
        command
    }

    /// Runs bdr and expects an exit code.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], code: i32) -> Output {
        let output = self.bdr(args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "bdr {args:?}\nstdout: {}\nstderr: {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs bdr with `--json` and returns `data`.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend_from_slice(args);
        let output = self.run(&all, 0);
        let mut document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["ok"], true);
        document["data"].take()
    }

    /// Takes back what a plain undo would, by the command that it names.
    #[track_caller]
    pub(crate) fn undo_by_name(&self) {
        let plan = self.json(&["undo", "--dry-run"]);
        let command = plan["command"].as_str().unwrap().to_owned();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        self.run(&words, 0);
    }

    /// A place whose tree is the one source of a repository.
    pub(crate) fn with_repository() -> Self {
        let place = Self::new();
        std::fs::create_dir(place.path("home")).unwrap();
        place
    }

    pub(crate) fn init(&self) {
        let source = format!("tree={}", self.tree().display());
        self.run(&["init", "--yes", "--source", &source], 0);
    }

    /// Adds to the configuration.
    pub(crate) fn configure(&self, toml: &str) {
        let file = self.path("bdr/config.toml");
        let old = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{old}\n{toml}")).unwrap();
    }

    pub(crate) fn init_at(&self, now: &str) {
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

    pub(crate) fn store(&self) -> PathBuf {
        self.path("bdr/repository")
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A call of bdr where the repository has a second place.
pub(crate) fn manned(place: &Place, args: &[&str]) -> Command {
    let mut command = place.bdr(args);
    command.env("BDR_LIFEBOAT", place.path("boat"));
    command
}

/// Runs it, expects an exit code, and returns all that it said.
#[track_caller]
pub(crate) fn run_manned(place: &Place, args: &[&str], code: i32) -> String {
    let output = manned(place, args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

/// Runs it with `--json`, and returns `data`.
#[track_caller]
pub(crate) fn data_manned(place: &Place, args: &[&str], code: i32) -> Value {
    let said = run_manned(place, &[&["--json"], args].concat(), code);
    let mut document: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    document["data"].take()
}

/// An ordinary user: `nobody`.
pub(crate) const NOBODY: u32 = 65_534;

impl Place {
    /// A place that belongs to an ordinary user where the tests run as root; where they do not, it does already.
    ///
    /// Modes stop root from nothing: what depends on them has to be tried as somebody whom they stop.
    pub(crate) fn of_a_user() -> Self {
        let place = Self::with_repository();
        if rustix::process::geteuid().is_root() {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(place.dir.path(), open).unwrap();
            for below in [place.path(""), place.tree(), place.path("home")] {
                std::os::unix::fs::chown(below, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        place
    }

    /// The same call as that ordinary user.
    pub(crate) fn as_user(&self, mut command: Command) -> Command {
        command.env("BDR_LIFEBOAT", "").env("BDR_BACKGROUND", "0");
        if rustix::process::geteuid().is_root() {
            std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
            std::os::unix::process::CommandExt::gid(&mut command, NOBODY);
        }
        command
    }

    /// Runs bdr as the ordinary user and expects an exit code; returns what it said on both streams.
    #[track_caller]
    pub(crate) fn run_as_user(&self, args: &[&str], code: i32) -> String {
        // A build directory below /root cannot be reached by others.
        let binary = self.path("bdr-binary");
        if !binary.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &binary).unwrap();
        }
        let given = self.bdr(args);
        let mut command = Command::new(&binary);
        command.args(args).env_clear().current_dir(self.tree());
        for (name, value) in given.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let output = self.as_user(command).output().unwrap();
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "bdr {args:?}: {said}");
        said
    }

    /// Runs a script in the tree as the ordinary user, without bdr.
    #[track_caller]
    pub(crate) fn sh_as_user(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.tree());
        let output = self.as_user(command).output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
    }
}
