//! An oracle: worlds and commands out of a number, and a witness that shares no code with bdr. What bdr said, by its exit code, its summary and its lists, is
//! compared with what the witness sees. Silence or success where something is missing is a failure; what fails is made as small as possible first.
//!
//! Forty worlds in the gate, a thousand with `sh tests/run --long`. `BDR_TEST_SEED=N` tries world N alone.

mod generate;
mod oracle;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::cli::NOBODY;
use generate::{Way, World};
use oracle::{Look, differences, look};

/// What is wrong with a world, and everything bdr said in it.
struct Fault {
    what: String,
    said: String,
}

/// A world that has been built.
struct Scene<'a> {
    world: &'a World,
    place: Place,
    binary: PathBuf,
    said: String,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World) -> Self {
        let place = match world.user {
            true => Place::of_a_user(),
            false => Place::with_repository(),
        };
        let binary = match world.user && rustix::process::geteuid().is_root() {
            // A build directory may be closed to others.
            true => {
                let copy = place.path("bdr-binary");
                std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &copy).unwrap();
                copy
            }
            false => PathBuf::from(env!("CARGO_BIN_EXE_bdr")),
        };
        let mut scene = Self {
            world,
            place,
            binary,
            said: String::new(),
        };
        if scene.world.source {
            let source = format!("tree={}", scene.place.tree().display());
            scene.bdr(&["init", "--yes", "--source", &source]);
        }
        for piece in &world.pieces {
            scene.sh(piece);
        }
        scene
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.place.path("home"))
            .env("BDR_HOME", self.place.path("bdr"))
            .env("BDR_LIFEBOAT", "")
            .env("BDR_BACKGROUND", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_EDITOR", "true")
            .current_dir(self.place.tree().join(self.world.cwd));
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env(format!("{name}_NAME"), "a");
            command.env(format!("{name}_EMAIL"), "a@example.com");
        }
        if self.world.user && rustix::process::geteuid().is_root() {
            use std::os::unix::process::CommandExt as _;
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// A line without bdr; it may fail.
    fn sh(&self, line: &str) -> Output {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", line]).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn bdr(&mut self, args: &[&str]) -> (i32, Output) {
        self.bdr_told(args, "")
    }

    fn bdr_told(&mut self, args: &[&str], input: &str) -> (i32, Output) {
        let mut command = self.command(&self.binary);
        command.args(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A closed pipe is for the exit code to tell.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        self.said.push_str(&format!(
            "  $ bdr {} -> {code}\n{}{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
        (code, output)
    }

    /// What lies in the tree and outside of it.
    fn look(&self) -> Look {
        look(&[self.place.tree(), self.place.path("out")])
    }

    /// A time of a directory around what was captured, where nothing in it is another than before: a file that came and went.
    fn is_only_around(&self, path: &Path, what: &str) -> bool {
        path == self.place.path("out") && what.starts_with("time")
    }

    fn fault<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            what: what.into(),
            said: self.said.clone(),
        })
    }
}

/// The paths that a document of bdr names as not as they were: lists of notes, and steps that leave something.
fn named(document: &Value) -> BTreeSet<PathBuf> {
    fn path(of: &Value) -> Option<PathBuf> {
        if let Some(hex) = of["path_hex"].as_str() {
            let bytes = (0..hex.len() / 2)
                .filter_map(|i| u8::from_str_radix(hex.get(i * 2..i * 2 + 2)?, 16).ok());
            return Some(PathBuf::from(OsString::from_vec(bytes.collect())));
        }
        Some(PathBuf::from(of["path"].as_str()?))
    }
    let mut found = BTreeSet::new();
    let mut waiting = vec![document];
    while let Some(value) = waiting.pop() {
        let Some(members) = value.as_object() else {
            continue;
        };
        for (name, value) in members {
            match name.as_str() {
                "not_captured" | "left_out" | "problems" | "skipped" | "missing" | "meanwhile"
                | "unstable" => {
                    found.extend(value.as_array().into_iter().flatten().filter_map(path));
                }
                "steps" => {
                    let leaves = |step: &&Value| {
                        matches!(
                            step["action"].as_str(),
                            Some("conflict" | "keep" | "merge" | "unknown")
                        )
                    };
                    found.extend(
                        value
                            .as_array()
                            .into_iter()
                            .flatten()
                            .filter(leaves)
                            .filter_map(path),
                    );
                }
                _ => waiting.push(value),
            }
        }
    }
    found
}

fn is_below_any(path: &Path, of: &BTreeSet<PathBuf>) -> bool {
    path.ancestors().any(|part| of.contains(part))
}

fn document(output: &Output) -> Value {
    let stream = if output.stdout.starts_with(b"{") {
        &output.stdout
    } else {
        &output.stderr
    };
    stream
        .split(|b| *b == b'\n')
        .filter(|line| line.starts_with(b"{"))
        .filter_map(|line| serde_json::from_slice(line).ok())
        .next_back()
        .unwrap_or(Value::Null)
}

/// What came of a world that is in order.
#[derive(Default)]
struct Tally {
    undone: usize,
    refused: usize,
    unchanged: usize,
    partial: usize,
}

/// Guard, command, what others do, undo, redo.
fn undone(world: &World) -> Result<Tally, Fault> {
    let mut scene = Scene::new(world);
    let mut tally = Tally::default();
    let before = scene.look();
    let line = world.line();
    let mut told = BTreeSet::new();
    match world.way {
        Way::Guard => {
            let (code, output) =
                scene.bdr(&["guard", "--summary", "json", "--", "sh", "-c", &line]);
            let summary = document(&output);
            told = named(&summary["data"]);
            let changed = differences(&before, &scene.look());
            if code == 125 {
                if let Some((path, what)) = changed.first_key_value() {
                    return scene.fault(format!("refused, and yet {}: {what}", path.display()));
                }
                tally.refused += 1;
                return Ok(tally);
            }
            if code != 0 {
                return scene.fault(format!("the guard ended with {code}"));
            }
            if let Some((path, what)) = changed
                .iter()
                .find(|(path, what)| !scene.is_only_around(path, what))
                && summary["data"]["undo"].is_null()
            {
                return scene.fault(format!(
                    "nothing to undo, and yet {}: {what}",
                    path.display()
                ));
            }
        }
        Way::Agent => {
            let call = |event: &str| {
                json!({"session_id": "s", "transcript_path": "/dev/null", "cwd": scene.place.tree(), "permission_mode": "default", "hook_event_name": event,
                       "tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": line, "description": "x"},
                       "tool_response": {"stdout": "", "stderr": ""}})
                .to_string()
            };
            let (first, last) = (call("PreToolUse"), call("PostToolUse"));
            let (code, output) = scene.bdr_told(&["hook", "claude"], &first);
            if code != 0 || String::from_utf8_lossy(&output.stdout).contains("\"deny\"") {
                tally.refused += 1;
                return Ok(tally);
            }
            scene.sh(&line);
            scene.bdr_told(&["hook", "claude"], &last);
        }
    }
    let after = scene.look();
    for line in &world.others {
        scene.sh(line);
    }
    let meanwhile = scene.look();
    let theirs: BTreeSet<PathBuf> = differences(&after, &meanwhile).into_keys().collect();
    let (code, output) = scene.bdr(&["--json", "undo", "--yes"]);
    let undone = scene.look();
    let report = document(&output);
    told.extend(named(&report["data"]));
    let changed = differences(&before, &after);
    match code {
        0 | 3 => {}
        _ if report["error"]["code"] == "nothing-to-do"
            || report["error"]["code"] == "no-repository"
            || report["error"]["code"] == "no-such-operation" =>
        {
            let Some((path, what)) = changed
                .iter()
                .find(|(path, what)| !scene.is_only_around(path, what))
            else {
                tally.unchanged += 1;
                return Ok(tally);
            };
            return scene.fault(format!(
                "nothing to undo, and yet {}: {what}",
                path.display()
            ));
        }
        _ => return scene.fault(format!("undo ended with {code}")),
    }
    // What others did stays: where it was, or beside it.
    for path in &theirs {
        let Some(seen) = meanwhile.get(path).filter(|seen| seen.has_content()) else {
            continue;
        };
        let is_there = undone.iter().any(|(at, now)| {
            now.content() == seen.content()
                && at.parent() == path.parent()
                && at
                    .as_os_str()
                    .as_bytes()
                    .starts_with(path.as_os_str().as_bytes())
        });
        if !is_there {
            return scene.fault(format!(
                "what somebody else wrote to {} is gone",
                path.display()
            ));
        }
    }
    for (path, what) in differences(&before, &undone) {
        let is_theirs = theirs.iter().any(|one| {
            one.starts_with(&path)
                || path.starts_with(one)
                || path
                    .as_os_str()
                    .as_bytes()
                    .starts_with(&[one.as_os_str().as_bytes(), b".bdr-"].concat())
        });
        // Of a name outside of what was captured that the file has lost, the name inside tells.
        let names = before.get(&path).map_or(&[][..], |seen| seen.names());
        if what.starts_with("names") && names.iter().any(|name| told.contains(name)) {
            continue;
        }
        // A directory that was named as not captured, with something of it that was: its time is what was not.
        if is_theirs || what.starts_with("time") && told.contains(&path) {
            continue;
        }
        match code {
            0 => {
                return scene.fault(format!(
                    "undo said that all is back, and yet {}: {what}",
                    path.display()
                ));
            }
            _ if !is_below_any(&path, &told) => {
                return scene.fault(format!("undo did not name {}: {what}", path.display()));
            }
            _ => {}
        }
    }
    if code == 3 {
        tally.partial += 1;
        return Ok(tally);
    }
    tally.undone += 1;
    if theirs.is_empty() {
        let (code, output) = scene.bdr(&["--json", "redo", "--yes"]);
        let told = named(&document(&output)["data"]);
        for (path, what) in differences(&after, &scene.look()) {
            match code {
                0 => {
                    return scene.fault(format!(
                        "redo said that all is done, and yet {}: {what}",
                        path.display()
                    ));
                }
                3 if is_below_any(&path, &told) => {}
                _ => {
                    return scene.fault(format!(
                        "redo ended with {code} and did not name {}: {what}",
                        path.display()
                    ));
                }
            }
        }
    }
    Ok(tally)
}

/// Backup, loss, restore to another place and in place, undo of the restore.
fn restored(world: &World) -> Result<Tally, Fault> {
    let mut scene = Scene::new(world);
    let mut tally = Tally::default();
    let tree = scene.place.tree();
    let before = look(std::slice::from_ref(&tree));
    let (code, output) = scene.bdr(&["--json", "backup"]);
    let mut told = named(&document(&output)["data"]);
    match code {
        0 | 3 if code == 3 || told.is_empty() => {}
        0 => {}
        _ => return scene.fault(format!("backup ended with {code}")),
    }
    let (_, output) = scene.bdr(&["--json", "diff", "latest"]);
    let compared = document(&output);
    let differs: Vec<&Value> = compared["data"]["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    for change in differs {
        let path = PathBuf::from(change["path"].as_str().unwrap_or_default());
        if !is_below_any(&path, &told) {
            return scene.fault(format!(
                "nothing has changed, and `diff` says so of {change}"
            ));
        }
    }
    // Another place.
    let target = scene.place.path("home/target");
    let (code, output) = scene.bdr(&[
        "--json",
        "restore",
        "latest",
        "--target",
        &target.to_string_lossy(),
    ]);
    let report = document(&output);
    let beside: Look = look(&[target.join("tree")])
        .into_iter()
        .filter_map(|(path, seen)| {
            Some((
                tree.join(path.strip_prefix(target.join("tree")).ok()?),
                seen,
            ))
        })
        .collect();
    let mut at_target = told.clone();
    at_target.extend(named(&report["data"]));
    at_target.extend(
        named(&report["data"])
            .iter()
            .filter_map(|path| Some(tree.join(path.strip_prefix(target.join("tree")).ok()?))),
    );
    if code != 0 && code != 3 {
        return scene.fault(format!("restore to a target ended with {code}"));
    }
    for (path, what) in differences(&before, &beside) {
        if what.starts_with("names") {
            continue;
        }
        match code {
            0 if !is_below_any(&path, &told) => {
                return scene.fault(format!(
                    "restored to a target, and yet {}: {what}",
                    path.display()
                ));
            }
            _ if !is_below_any(&path, &at_target) => {
                return scene.fault(format!(
                    "restore to a target did not name {}: {what}",
                    path.display()
                ));
            }
            _ => {}
        }
    }
    // In place.
    for line in &world.acts {
        scene.sh(line);
    }
    let damaged = scene.look();
    let (code, output) = scene.bdr(&["--json", "restore", "latest", "--yes"]);
    let report = document(&output);
    told.extend(named(&report["data"]));
    let is = scene.look();
    match code {
        0 | 3 => {}
        _ => return scene.fault(format!("restore ended with {code}")),
    }
    let new: BTreeSet<PathBuf> = damaged
        .keys()
        .filter(|path| !before.contains_key(*path))
        .cloned()
        .collect();
    for (path, what) in differences(&before, &is) {
        // What is new stays, and its directories have its times. So do refs of git that are new.
        let is_beside = path.ends_with(".git")
            || is_below_any(&path, &new)
            || new.iter().any(|one| one.parent() == Some(&path))
            || what.starts_with("names");
        if !path.starts_with(&tree) || is_beside {
            continue;
        }
        match code {
            0 if !is_below_any(&path, &told) => {
                return scene.fault(format!("restored, and yet {}: {what}", path.display()));
            }
            3 if !is_below_any(&path, &told) => {
                return scene.fault(format!("restore did not name {}: {what}", path.display()));
            }
            _ => {}
        }
    }
    if code == 3 {
        tally.partial += 1;
    }
    if differences(&damaged, &is).is_empty() {
        tally.unchanged += 1;
        return Ok(tally);
    }
    let (code, output) = scene.bdr(&["--json", "undo", "--yes"]);
    let told = named(&document(&output)["data"]);
    for (path, what) in differences(&damaged, &scene.look()) {
        match code {
            0 => {
                return scene.fault(format!(
                    "the restore is undone, and yet {}: {what}",
                    path.display()
                ));
            }
            3 if is_below_any(&path, &told) => {}
            _ => {
                return scene.fault(format!(
                    "undo of a restore ended with {code} and did not name {}: {what}",
                    path.display()
                ));
            }
        }
    }
    let (code, _) = scene.bdr(&["verify"]);
    if code != 0 {
        return scene.fault(format!("verify ended with {code}"));
    }
    tally.undone += 1;
    Ok(tally)
}

/// Leaves out what is not needed for a failure, one thing at a time.
fn shrunk(
    world: World,
    fault: Fault,
    try_it: fn(&World) -> Result<Tally, Fault>,
) -> (World, Fault) {
    let (mut world, mut fault) = (world, fault);
    let mut left = 150;
    'again: loop {
        for one in world.smaller() {
            if left == 0 {
                break 'again;
            }
            left -= 1;
            if let Err(smaller) = try_it(&one) {
                (world, fault) = (one, smaller);
                continue 'again;
            }
        }
        break;
    }
    (world, fault)
}

/// Tries a share of the worlds; several tests so that they run beside each other.
fn worlds(
    share: u64,
    shares: u64,
    change: fn(&mut World),
    try_it: fn(&World) -> Result<Tally, Fault>,
) {
    // `BDR_TEST_LONG=400..700` tries a part of the long form, a number that many worlds from the first on, anything else all of them.
    let many = match std::env::var("BDR_TEST_LONG") {
        Ok(text) => {
            let part = text.split_once("..");
            part.and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?))
                .or_else(|| {
                    text.parse()
                        .ok()
                        .filter(|many| *many > 1)
                        .map(|many| 0..many)
                })
                .unwrap_or(0..1000)
        }
        Err(_) => 0..40,
    };
    let one: Option<u64> = std::env::var("BDR_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = match one {
        Some(seed) => vec![seed],
        None => many.filter(|seed| seed % shares == share).collect(),
    };
    let mut all = Tally::default();
    let mut faults = Vec::new();
    for seed in &seeds {
        let mut world = World::new(*seed);
        change(&mut world);
        match try_it(&world) {
            Ok(one) => {
                all.undone += one.undone;
                all.refused += one.refused;
                all.unchanged += one.unchanged;
                all.partial += one.partial;
            }
            Err(fault) => {
                let (world, fault) = shrunk(world, fault, try_it);
                faults.push(format!("{}\n{}{}", fault.what, world.story(), fault.said));
                if faults.len() == 5 {
                    break;
                }
            }
        }
    }
    println!(
        "{} worlds: {} undone, {} in part, {} refused, {} unchanged",
        seeds.len(),
        all.undone,
        all.partial,
        all.refused,
        all.unchanged
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n\n{}",
        faults.len(),
        faults.join("\n\n")
    );
    // A generator that makes nothing happen would find nothing.
    assert!(
        one.is_some() || all.undone * 3 >= seeds.len(),
        "only {} of {} worlds were undone",
        all.undone,
        seeds.len()
    );
}

#[test]
fn what_undo_says_is_what_a_witness_sees_of_the_first_worlds() {
    worlds(0, 2, |_| {}, undone);
}

#[test]
fn what_undo_says_is_what_a_witness_sees_of_the_other_worlds() {
    worlds(1, 2, |_| {}, undone);
}

#[test]
fn what_restore_says_is_what_a_witness_sees() {
    worlds(0, 2, |world| world.source = true, restored);
}
