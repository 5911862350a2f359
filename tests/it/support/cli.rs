//! The real binary in a place of its own: HOME, configuration, clock.

use std::path::PathBuf;
use std::process::{Command, Output};

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

    pub(crate) fn store(&self) -> PathBuf {
        self.path("bdr/repository")
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
