//! A walk over everything that writes to a repository or takes from it, in any order: backups, guards and
//! undos, allowing and purging, prunes, forgetting, settling, pushes and pulls, and calls that are cut.
//!
//! The walk knows what each snapshot has to have: the tree as it was when it was taken. After every step,
//! no snapshot is gone that nobody asked to remove, everything verifies, what is left restores what it had,
//! and after a purge no value that is secret stands anywhere, neither here nor, in the end, at the
//! destination.
//!
//! Four walks in the gate, two hundred with `sh tests/run --long`. `BDR_TEST_SEED=N` takes walk N alone,
//! `BDR_TEST_LONG=40..90` a part of them, and `BDR_TEST_STEPS=N` that many steps in each.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Output;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::purged::Chance;
use crate::support::cli::{stderr, stdout};
use crate::support::{Object, Place, assert_same, noise, picture};

type Picture = BTreeMap<PathBuf, Object>;

/// Files in which values are secret until they are allowed.
const PRIVATE: [&str; 2] = ["own.env", "run.jsonl"];

/// What is typed after `bdr guard --`.
const GUARDED: [&str; 8] = [
    "rm -rf d1 run.jsonl own.env",
    "rm -f run.jsonl",
    "rm -rf d0",
    "rm -f d1/*",
    "echo x > own.env",
    "find . -name 'f1*' -delete",
    "mv d2 d9 2>/dev/null; true",
    "chmod -R go-r d3 2>/dev/null; true",
];

struct Walk {
    place: Place,
    chance: Chance,
    now: DateTime<Utc>,
    /// Guards take a snapshot of all of the tree.
    watched: bool,
    /// Values that were written to private files.
    secrets: Vec<String>,
    allowed: bool,
    /// What each snapshot has to have: the tree as it was.
    known: BTreeMap<String, Picture>,
    /// What snapshots of a part of the tree had when they were new.
    parts: BTreeMap<String, Picture>,
    /// Those that are here.
    here: BTreeSet<String>,
    pushed: bool,
    said: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let (watched, encrypted) = (seed.is_multiple_of(2), seed % 4 == 3);
        let place = match watched {
            true => Place::with_repository().watched(),
            false => Place::with_repository(),
        };
        // With files that are of the future nothing is taken for unchanged by its times alone. To whoever
        // watches, files that are older than the command are none that it made.
        let year = if watched || seed.is_multiple_of(3) {
            2026
        } else {
            2050
        };
        let now = format!("{year}-01-01T00:00:00Z").parse().unwrap();
        let mut walk = Self {
            place,
            chance: Chance(seed),
            now,
            watched,
            secrets: Vec::new(),
            allowed: false,
            known: BTreeMap::new(),
            parts: BTreeMap::new(),
            here: BTreeSet::new(),
            pushed: false,
            said: vec![format!("BDR_TEST_SEED={seed}")],
        };
        let source = format!("tree={}", walk.place.tree().display());
        walk.run(&["init", "--yes", "--source", &source]);
        let tree = walk.tree();
        walk.note(Some(&tree));
        // What is allowed first is found later.
        walk.allow(true);
        let far = walk.far();
        let way = if encrypted {
            "--encrypt"
        } else {
            "--no-encryption"
        };
        walk.run(&["remote", "add", "far", far.to_str().unwrap(), way]);
        walk
    }

    fn far(&self) -> PathBuf {
        self.place.path("far")
    }

    fn story(&self) -> String {
        let last = self.said.len().saturating_sub(40);
        format!("{}\n{}", self.said[0], self.said[last..].join("\n"))
    }

    /// Some time passes.
    fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }

    fn call(&mut self, args: &[&str], cut: Option<usize>) -> Output {
        // An undo of what was done long ago asks, and looking takes no time.
        let is_work = !matches!(args[0], "undo" | "--json" | "verify" | "restore");
        let some = [60, 600, 3600, 86_400][self.chance.below(4)];
        self.wait(if is_work { some } else { 1 });
        let now = self.now.to_rfc3339();
        let mut command = self.place.bdr_at(&now, args);
        command.env("BDR_LIFEBOAT", self.place.path("bdr/boat"));
        if let Some(step) = cut {
            command.env("BDR_TEST_CRASH_AT", step.to_string());
        }
        let output = command.output().unwrap();
        if cut.is_some() {
            crate::purged::age(&self.place, self.now - TimeDelta::hours(1));
        }
        let cut = cut.map_or_else(String::new, |step| format!(" cut at {step}"));
        let status = output.status;
        self.said.push(format!("{now} {args:?}{cut}: {status}"));
        output
    }

    fn ends(&mut self, args: &[&str], codes: &[i32]) -> Output {
        let output = self.call(args, None);
        let is_right = output
            .status
            .code()
            .is_some_and(|code| codes.contains(&code));
        let said = stdout(&output) + &stderr(&output);
        assert!(is_right, "bdr {args:?}: {said}");
        output
    }

    fn run(&mut self, args: &[&str]) -> Output {
        self.ends(args, &[0])
    }

    /// The same, cut like by a power cut now and then, and then as a whole.
    fn run_cut(&mut self, args: &[&str], most: usize, codes: &[i32]) -> Output {
        if self.chance.below(2) == 0 {
            let step = 1 + self.chance.below(most);
            let output = self.call(args, Some(step));
            let code = output.status.code();
            let is_right =
                output.status.signal() == Some(6) || code.is_some_and(|code| codes.contains(&code));
            let said = stdout(&output) + &stderr(&output);
            assert!(is_right, "bdr {args:?}: {said}");
            self.run(&["verify", "--level", "full"]);
        }
        self.ends(args, codes)
    }

    fn json(&mut self, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["data"].take()
    }

    /// All snapshots, oldest first, and whether each is a backup.
    fn listed(&mut self, more: &[&str]) -> Vec<(String, bool)> {
        let listed = self.json(&[&["list", "--all"], more].concat());
        let each = listed["snapshots"].as_array().unwrap().iter().map(|one| {
            let is_backup = one["trigger"] == "backup" || one["trigger"] == "init";
            (one["id"].as_str().unwrap().to_owned(), is_backup)
        });
        each.collect()
    }

    /// The tree, as it is restored into a directory.
    fn tree(&self) -> Picture {
        let found = picture(&self.place.tree()).into_iter();
        let below = |path: &Path| match path.as_os_str().is_empty() {
            true => PathBuf::from("tree"),
            false => Path::new("tree").join(path),
        };
        found
            .map(|(path, object)| {
                let same_as = object.same_as.as_deref().map(below);
                (below(&path), Object { same_as, ..object })
            })
            .collect()
    }

    fn restored(&mut self, id: &str, more: &[&str]) -> Picture {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().to_str().unwrap();
        self.run(&[&["restore", "--yes", "--target", target, id], more].concat());
        let mut found = picture(out.path());
        // The directory itself is new.
        found.retain(|path, _| path.components().count() > 0);
        found
    }

    /// What a snapshot has is what it had.
    fn check(&mut self, id: &str, more: &[&str]) {
        let mut found = self.restored(id, more);
        let what = format!("snapshot {id} {more:?}");
        if let Some(known) = self.known.get(id) {
            assert_same(known, &found, &what);
            return;
        }
        // The directory is not in it, and is new.
        for (_, top) in found
            .iter_mut()
            .filter(|(path, _)| path.components().count() == 1)
        {
            top.mtime = (0, 0);
        }
        let part = self
            .parts
            .entry(id.to_owned())
            .or_insert_with(|| found.clone());
        assert_same(part, &found, &what);
    }
}

/// The steps.
impl Walk {
    fn change(&mut self) {
        for _ in 0..=self.chance.below(9) {
            let name = format!("d{}/f{}", self.chance.below(4), self.chance.below(16));
            let file = self.place.tree().join(&name);
            match self.chance.below(10) {
                0 => drop(std::fs::remove_file(&file)),
                1 => {
                    let bytes = self.chance.below(50_000);
                    self.place.write(&name, &noise(bytes));
                }
                // The same content in several places.
                2 => self.place.write(&name, &b"shared\n".repeat(1000)),
                3 if file.exists() => {
                    let mode = [0o600, 0o644, 0o755][self.chance.below(3)];
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                    std::fs::set_permissions(&file, mode).unwrap();
                }
                4 if file.exists() => {
                    // Unless it is there.
                    let _ = std::fs::hard_link(&file, file.with_extension("h"));
                }
                _ => {
                    let old = std::fs::read(&file).unwrap_or_default();
                    let new = self.chance.lines(300);
                    self.place.write(&name, &[&old, new.as_bytes()].concat());
                }
            }
        }
        if self.chance.below(3) > 0 {
            let value = self.chance.secret();
            if self.chance.below(2) == 0 {
                let line = format!("API_KEY={value}\n");
                self.place.write("own.env", line.as_bytes());
            } else {
                // A long one that grows: its snapshots share blobs.
                let log = self.place.tree().join("run.jsonl");
                let mut text = std::fs::read_to_string(log).unwrap_or_default();
                text.push_str(&self.chance.lines(4000));
                text.push_str(&format!("{{\"api_key\": \"{value}\"}}\n"));
                self.place.write("run.jsonl", text.as_bytes());
            }
            self.secrets.push(value);
        }
    }

    fn backup(&mut self) {
        self.change();
        let tree = self.tree();
        match self.chance.below(3) {
            0 => self.run(&["backup", "--full"]),
            _ => self.run(&["backup"]),
        };
        self.note(Some(&tree));
    }

    fn guard(&mut self) {
        let before = self.tree();
        let command = GUARDED[self.chance.below(GUARDED.len())];
        self.run(&["guard", "--", "sh", "-c", command]);
        let after = self.tree();
        self.note(self.watched.then_some(&before));
        if before != after && self.chance.below(10) < 7 {
            self.run(&["undo", "--yes"]);
            let what = format!("undo of {command}");
            assert_same(&before, &self.tree(), &what);
            self.note(self.watched.then_some(&after));
        }
    }

    /// Snapshots that are new have the tree as it was.
    fn note(&mut self, tree: Option<&Picture>) {
        for (id, _) in self.listed(&[]) {
            if self.here.insert(id.clone())
                && let Some(tree) = tree
            {
                self.known.insert(id, tree.clone());
            }
        }
    }

    fn allow(&mut self, allowed: bool) {
        for name in PRIVATE {
            let file = self.place.tree().join(name);
            let file = file.to_str().unwrap();
            match allowed {
                true => self.run(&["privacy", "allow", file, "--reason", "a test"]),
                false => self.run(&["privacy", "revoke", file]),
            };
        }
        self.allowed = allowed;
    }

    fn purge(&mut self) {
        self.run_cut(&["privacy", "rescan", "--purge", "--yes"], 40, &[0]);
        if !self.allowed {
            crate::privacy::assert_clean(&self.place, &self.secrets, "a purge");
        }
        self.check_all(&[]);
    }

    /// Everything that is here, or there, has what it had.
    fn check_all(&mut self, more: &[&str]) {
        for (id, _) in self.listed(more) {
            self.check(&id, more);
        }
    }

    fn prune(&mut self) {
        let before = self.listed(&[]);
        let last = 2 + self.chance.below(5);
        let many = last.to_string();
        self.run_cut(&["prune", "--yes", "--keep-last", &many], 30, &[0]);
        let backups = before.iter().rev().filter(|(_, is_backup)| *is_backup);
        let stay: Vec<&String> = backups.take(last).map(|(id, _)| id).collect();
        let after = self.listed(&[]);
        for id in stay {
            assert!(after.iter().any(|(one, _)| one == id), "{id} was pruned");
        }
        self.here = after.into_iter().map(|(id, _)| id).collect();
        self.check_all(&[]);
    }

    fn forget(&mut self) {
        let all = self.listed(&[]);
        if all.len() > 3 {
            let id = &all[self.chance.below(all.len())].0;
            self.run(&["forget", id, "--yes"]);
            self.here.remove(id);
        }
    }

    fn push(&mut self) {
        self.run_cut(&["push"], 20, &[0]);
        self.pushed = true;
        let there = self.listed(&["--from", "far"]);
        let id = &there[self.chance.below(there.len())].0;
        self.check(id, &["--from", "far"]);
    }

    fn prune_far(&mut self) {
        if self.pushed {
            let before = self.listed(&["--from", "far"]);
            self.run_cut(
                &["prune", "--remote", "far", "--yes", "--keep-last", "3"],
                20,
                &[0],
            );
            let after = self.listed(&["--from", "far"]);
            let backups = before.iter().rev().filter(|(_, is_backup)| *is_backup);
            for (id, _) in backups.take(3) {
                assert!(after.iter().any(|(one, _)| one == id), "{id} was pruned");
            }
        }
    }

    fn pull(&mut self) {
        if self.pushed {
            let there = self.listed(&["--from", "far"]);
            self.run_cut(&["pull", "far"], 20, &[0]);
            // What was removed here, and is there, is back.
            self.here.extend(there.into_iter().map(|(id, _)| id));
        }
    }

    fn step(&mut self) {
        match self.chance.below(16) {
            0..5 => self.backup(),
            5 | 6 => self.guard(),
            7 => self.allow(!self.allowed),
            8 | 9 => {
                if self.allowed && self.chance.below(2) == 0 {
                    self.allow(false);
                }
                self.purge();
            }
            10 => self.prune(),
            11 => drop(self.run_cut(&["settle"], 20, &[0])),
            12 => self.forget(),
            13 => self.push(),
            14 => self.prune_far(),
            _ => self.pull(),
        }
        let listed = self.listed(&[]).into_iter().map(|(id, _)| id);
        let listed: BTreeSet<String> = listed.collect();
        // An operation of which nobody was told, like a restore, may have made others.
        let gone: Vec<&String> = self.here.difference(&listed).collect();
        assert!(gone.is_empty(), "nobody asked to remove {gone:?}");
        self.run(&["verify", "--level", "full"]);
        let id = listed.iter().nth(self.chance.below(listed.len()));
        self.check(id.unwrap(), &[]);
    }

    /// Whatever happened, everything is right in the end, at the destination as well.
    fn end(&mut self) {
        if self.allowed {
            self.allow(false);
        }
        // What only the destination has is looked at too.
        self.pull();
        self.purge();
        for _ in 0..2 {
            self.run(&["push"]);
            self.wait(2 * 86_400);
        }
        self.run(&["verify", "--remote", "far", "--level", "full"]);
        self.check_all(&["--from", "far"]);
        self.check_all(&[]);
        // Of what is encrypted nobody can tell.
        let is_left = crate::pushed::has_any(&self.far(), &self.secrets);
        assert!(!is_left, "a value is still at the destination");
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Which walks are taken.
fn seeds() -> std::ops::Range<u64> {
    let part = std::env::var("BDR_TEST_LONG").ok();
    match (number("BDR_TEST_SEED"), part) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(part)) => {
            let ends = part.split_once("..");
            let ends = ends.and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
            ends.unwrap_or(0..200)
        }
        (None, None) => 0..4,
    }
}

#[test]
fn whatever_is_done_in_any_order_every_snapshot_keeps_what_it_had() {
    let steps = number("BDR_TEST_STEPS").unwrap_or(10);
    for seed in seeds() {
        let mut walk = Walk::new(seed);
        let done = catch_unwind(AssertUnwindSafe(|| {
            (0..steps).for_each(|_| walk.step());
            walk.end();
        }));
        if let Err(panic) = done {
            println!("{}", walk.story());
            resume_unwind(panic);
        }
    }
}
