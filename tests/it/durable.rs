//! What is said to be on disk is on disk: the system calls of the real storage, in order; and what is thrown away stays for a day.

use std::collections::HashSet;

use bdr::base::monitor::NullMonitor;
use bdr::care::prune::{PruneOptions, apply, plan};
use bdr::model::retention::Policy;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::support::cli::stderr;
use crate::support::{Place, later, now};

/// One call that matters, in the order in which they came back.
#[derive(Debug)]
enum Step {
    /// Of a file or a directory, by its path at that time.
    Sync(String),
    /// Of the whole file system that holds a path.
    SyncAll(String),
    Rename(String, String),
}

fn between(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close)
}

/// Reads what strace wrote: `PID fsync(5</path>) = 0`, `PID rename("/a", "/b") = 0`, and halves of both.
fn steps(log: &str) -> Vec<Step> {
    let mut begun: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((pid, call)) = line.trim_start().split_once(char::is_whitespace) else {
            continue;
        };
        let call = call.trim_start();
        if let Some((first, _)) = call.split_once(" <unfinished ...>") {
            begun.insert(pid, first.to_owned());
            continue;
        }
        let whole = match call.strip_prefix("<... ") {
            Some(rest) => {
                let (_, end) = rest.split_once(" resumed>").unwrap();
                format!("{}{end}", begun.remove(pid).unwrap_or_default())
            }
            None => call.to_owned(),
        };
        if !whole.ends_with("= 0") {
            continue;
        }
        if whole.starts_with("fsync(") || whole.starts_with("fdatasync(") {
            let (path, _) = between(&whole, '<', '>').unwrap();
            found.push(Step::Sync(path.to_owned()));
        } else if whole.starts_with("syncfs(") {
            let (path, _) = between(&whole, '<', '>').unwrap();
            found.push(Step::SyncAll(path.to_owned()));
        } else if whole.starts_with("rename") {
            // A name is in the directory whose handle stands before it.
            let full = |before: &str, name: &str| {
                let dir = before
                    .rsplit_once('<')
                    .and_then(|(_, dir)| dir.split_once('>'));
                match dir.filter(|_| !name.starts_with('/')) {
                    Some((dir, _)) => format!("{dir}/{name}"),
                    None => name.to_owned(),
                }
            };
            let parts: Vec<&str> = whole.split('"').collect();
            let (from, to) = (full(parts[0], parts[1]), full(parts[2], parts[3]));
            found.push(Step::Rename(from, to));
        }
    }
    found
}

/// Runs bdr and returns what it had the system do, in order; `None`, and a line, where that cannot be seen.
fn traced(place: &Place, args: &[&str]) -> Option<Vec<Step>> {
    let log = place.path("trace");
    let bdr = place.bdr(args);
    let mut strace = std::process::Command::new("strace");
    strace
        .args(["-f", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-e"])
        .arg("trace=fsync,fdatasync,syncfs,rename,renameat,renameat2")
        .arg("-o")
        .arg(&log)
        .arg(bdr.get_program())
        .args(args)
        .current_dir(place.tree())
        .env_clear()
        .env("BDR_BACKGROUND", "0");
    for (name, value) in bdr.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    let Ok(output) = strace.output() else {
        println!("SKIPPED: there is no strace");
        return None;
    };
    if stderr(&output).contains("PTRACE") {
        println!("SKIPPED: strace may not trace here");
        return None;
    }
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    Some(steps(&std::fs::read_to_string(&log).unwrap()))
}

#[test]
fn files_are_on_disk_before_their_names_and_names_before_the_record() {
    let place = Place::with_repository().watched();
    for i in 0..20 {
        place.write(
            &format!("data/{i}"),
            format!("content {i}\n").repeat(100).as_bytes(),
        );
    }
    place.init();
    let runs: [&[&str]; 4] = [
        &["backup"],
        &["guard", "--", "rm", "data/3"],
        &["undo", "--yes"],
        &["backup", "--full"],
    ];
    for args in runs {
        place.write("data/1", format!("changed by {args:?}").as_bytes());
        let Some(steps) = traced(&place, args) else {
            return;
        };
        check(&steps, &place, args);
    }
}

#[test]
fn where_an_undo_is_about_to_write_is_on_disk_before_it_writes() {
    let place = Place::with_repository();
    place.write("data/1", b"one");
    place.write("data/2", b"two");
    place.init();
    place.run(&["guard", "--", "rm", "-r", "data"], 0);
    let Some(steps) = traced(&place, &["undo", "--yes"]) else {
        return;
    };
    let is_noted = |step: &Step| matches!(step, Step::Sync(path) if path.contains("under-way"));
    let tree = place.tree().to_str().unwrap().to_owned();
    let is_written = |step: &Step| matches!(step, Step::Rename(from, _) if from.starts_with(&tree) && from.contains("/.bdr-tmp-"));
    let noted = steps.iter().position(is_noted).expect("nothing was noted");
    let written = steps.iter().position(is_written);
    assert!(noted < written.expect("nothing was written"));
}

#[test]
fn what_is_restored_elsewhere_is_on_disk_when_it_is_said_to_be_done() {
    for files in [5, 60] {
        let place = Place::with_repository();
        for i in 0..files {
            place.write(&format!("data/{i}"), format!("content {i}").as_bytes());
        }
        place.init();
        let out = place.path("out");
        let out = out.to_str().unwrap();
        let Some(steps) = traced(&place, &["restore", "latest", "--target", out, "--yes"]) else {
            return;
        };
        let synced = |from: usize, path: &str| {
            steps[from..].iter().any(|step| match step {
                Step::Sync(synced) => synced == path,
                Step::SyncAll(on) => out.starts_with(on.as_str()) || on.starts_with(out),
                Step::Rename(..) => false,
            })
        };
        // A few are synced one by one; of many all of the file system at the end.
        let mut renamed = 0;
        for (at, step) in steps.iter().enumerate() {
            if let Step::Rename(from, to) = step
                && let Some(name) = to.strip_prefix(&format!("{out}/tree/data/"))
                && name.parse::<u32>().is_ok()
            {
                renamed += 1;
                let content = steps[..at]
                    .iter()
                    .any(|step| matches!(step, Step::Sync(path) if path == from));
                let all = steps[at..]
                    .iter()
                    .any(|step| matches!(step, Step::SyncAll(_)));
                assert!(content || all, "{to} of {files} was never synced");
                assert!(
                    synced(at, &format!("{out}/tree/data")),
                    "the name {to} of {files} was never synced"
                );
            }
        }
        assert_eq!(renamed, files);
        let made = steps.iter().any(|step| match step {
            Step::Sync(path) => out.starts_with(path.as_str()),
            Step::SyncAll(_) => true,
            Step::Rename(..) => false,
        });
        assert!(made, "the directory itself was never synced: {steps:?}");
    }
}

/// Every published file was synced under its temporary name, its directory afterwards; a record is published when all before it is durable.
fn check(steps: &[Step], place: &Place, args: &[&str]) {
    let store = place.store().to_str().unwrap().to_owned();
    let mut synced: HashSet<&str> = HashSet::new();
    let mut waiting: Vec<(&str, &str)> = Vec::new();
    let mut published = 0;
    for step in steps {
        match step {
            Step::Sync(path) => {
                synced.insert(path);
                waiting.retain(|(dir, _)| dir != path);
            }
            Step::Rename(from, to) if to.starts_with(&store) => {
                published += 1;
                assert!(
                    synced.contains(&**from),
                    "{args:?}: {to} was not synced before it got its name"
                );
                let is_record = to.contains("/snapshots/") || to.contains("/operations/");
                assert!(
                    !is_record || waiting.is_empty(),
                    "{args:?}: {to} was published before these names were durable: {waiting:?}"
                );
                waiting.push((to.rsplit_once('/').unwrap().0, to));
            }
            Step::Rename(..) | Step::SyncAll(_) => {}
        }
    }
    assert!(published >= 2, "{args:?}: {steps:?}");
    assert!(
        waiting.is_empty(),
        "{args:?}: their directories were never synced: {waiting:?}"
    );
}

fn utc(time: DateTime<Utc>) -> NaiveDateTime {
    time.naive_utc()
}

#[test]
fn what_is_thrown_away_can_be_had_back_for_a_day() {
    let place = Place::new();
    let repo = place.repository();
    for day in 0..3 {
        place.write(
            "file",
            format!("content of day {day}").repeat(100).as_bytes(),
        );
        let mut options = later(86_400 * day + 60);
        options.full = true;
        place.backup_with(&repo, &options);
    }
    let start = now() + TimeDelta::days(3);
    // As everybody prunes who does not ask for something else.
    let prune = |after: TimeDelta| {
        let mut options = PruneOptions::new(start + after, &utc);
        options.policy = Policy {
            daily: 1,
            ..Policy::nothing()
        };
        let plan = plan(&repo, &options, &NullMonitor).unwrap();
        apply(&repo, &plan, &options, &NullMonitor).unwrap()
    };
    let first = prune(TimeDelta::zero());
    assert!(first.packs > 0 && first.swept == 0, "{first:?}");
    let thrown = repo.trash().unwrap().len();
    for after in [
        TimeDelta::hours(1),
        TimeDelta::hours(3),
        TimeDelta::minutes(24 * 60 - 1),
    ] {
        let report = prune(after);
        assert_eq!(report.swept, 0, "{after}: {report:?}");
        assert_eq!(repo.trash().unwrap().len(), thrown, "{after}");
    }
    let last = prune(TimeDelta::hours(24));
    assert_eq!(last.swept as usize, thrown, "{last:?}");
    assert!(repo.trash().unwrap().is_empty());
}
