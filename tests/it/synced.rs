//! `bdr sync`: two machines bring each other's sources together over a destination.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::Place;
use crate::support::cli::{stderr, stdout};

/// Two machines that push to one directory.
struct Two {
    machines: [Place; 2],
    ids: [String; 2],
    _disk: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        Self::with(&[])
    }

    /// Both begin with these files.
    fn with(files: &[(&str, &str)]) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let machines = [(), ()].map(|()| {
            let place = Place::with_repository();
            for (name, text) in files {
                place.write(name, text.as_bytes());
            }
            place.init();
            let url = disk.path().to_str().unwrap();
            place.run(&["remote", "add", "disk", url], 0);
            place
        });
        let mut two = Self {
            machines,
            ids: [String::new(), String::new()],
            _disk: disk,
        };
        for at in 0..2 {
            two.push(at);
            let found = two.machines[at].json(&["machines"]);
            let own = found["machines"].as_array().unwrap().iter();
            let own = own.filter(|machine| machine["is_this"] == true);
            let ids: Vec<&str> = own
                .map(|machine| machine["machine"].as_str().unwrap())
                .collect();
            two.ids[at] = ids.first().unwrap().to_string();
        }
        two
    }

    fn push(&self, at: usize) {
        self.machines[at].run(&["backup"], 0);
        self.machines[at].run(&["push"], 0);
    }

    /// One brings in what the other has pushed; returns the document.
    #[track_caller]
    fn sync(&self, at: usize, code: i32) -> Value {
        let other = &self.ids[1 - at];
        let args = ["--json", "sync", "tree", "--with", other, "--yes"];
        let output = self.machines[at].run(&args, code);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["data"]["sources"][0].clone()
    }

    /// As [`Two::sync`], and pushes what came of it.
    #[track_caller]
    fn turn(&self, at: usize, code: i32) -> Value {
        let done = self.sync(at, code);
        self.push(at);
        done
    }

    fn write(&self, at: usize, name: &str, text: &str) {
        self.machines[at].write(name, text.as_bytes());
    }

    fn remove(&self, at: usize, name: &str) {
        std::fs::remove_file(self.machines[at].tree().join(name)).unwrap();
    }

    fn files(&self, at: usize) -> BTreeMap<String, String> {
        files(&self.machines[at].tree())
    }

    #[track_caller]
    fn assert_alike(&self) {
        assert_eq!(self.files(0), self.files(1));
    }
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let found = walkdir::WalkDir::new(dir).min_depth(1).into_iter();
    let found = found.map(|entry| entry.unwrap());
    found
        .map(|entry| {
            let name = entry.path().strip_prefix(dir).unwrap();
            let text = match entry.file_type().is_dir() {
                true => "a directory".to_owned(),
                false => String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into(),
            };
            (name.to_str().unwrap().to_owned(), text)
        })
        .collect()
}

fn actions(done: &Value) -> Vec<(String, String)> {
    let steps = done["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let path = Path::new(step["path"].as_str().unwrap());
            let name = path.file_name().unwrap().to_str().unwrap();
            (step["action"].as_str().unwrap().to_owned(), name.to_owned())
        })
        .collect()
}

#[test]
fn what_one_changed_the_other_gets_and_both_come_to_the_same() {
    let two = Two::with(&[
        ("notes/a.md", "one\ntwo\nthree\nfour\n"),
        ("notes/b.md", "b\n"),
        ("gone/x", "x\n"),
        (
            "settings.json",
            "{\"theme\": \"dark\", \"tools\": {\"git\": true}}\n",
        ),
        ("log.jsonl", "{\"n\": 1}\n"),
    ]);
    // The first finds nothing to do, and remembers that.
    let first = two.turn(0, 0);
    assert_eq!(
        (&first["first"], &first["same"]),
        (&true.into(), &5.into()),
        "{first}"
    );
    // Each changes something else, partly in the same files.
    two.write(0, "notes/a.md", "ONE\ntwo\nthree\nfour\n");
    two.write(
        0,
        "settings.json",
        "{\"theme\": \"light\", \"tools\": {\"git\": true}}\n",
    );
    two.write(0, "log.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    two.write(0, "notes/new/deep.md", "new\n");
    two.remove(0, "gone/x");
    std::fs::remove_dir(two.machines[0].tree().join("gone")).unwrap();
    two.write(1, "notes/a.md", "one\ntwo\nthree\nFOUR\n");
    two.write(1, "notes/b.md", "B\n");
    let other = "{\"theme\": \"dark\", \"tools\": {\"git\": true, \"npm\": false}}\n";
    two.write(1, "settings.json", other);
    two.write(1, "log.jsonl", "{\"n\": 1}\n{\"n\": 3}\n");
    two.push(0);
    two.push(1);
    let here = two.files(1);
    let done = two.turn(1, 0);
    let mut wanted = [
        ("remove", "gone"),
        ("remove", "x"),
        ("merge", "log.jsonl"),
        ("merge", "a.md"),
        ("create", "new"),
        ("create", "deep.md"),
        ("merge", "settings.json"),
    ]
    .map(|(a, b)| (a.to_owned(), b.to_owned()));
    wanted.sort();
    let mut found = actions(&done);
    found.sort();
    assert_eq!(found, wanted, "{done:#}");
    let files = two.files(1);
    assert_eq!(files["notes/a.md"], "ONE\ntwo\nthree\nFOUR\n");
    assert_eq!(files["notes/b.md"], "B\n");
    assert_eq!(files["log.jsonl"], "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n");
    let settings: Value = serde_json::from_str(&files["settings.json"]).unwrap();
    let both = serde_json::json!({"theme": "light", "tools": {"git": true, "npm": false}});
    assert_eq!(settings, both);
    // It is an operation like any other.
    let log = two.machines[1].json(&["log"]);
    assert_eq!(log["operations"][0]["kind"], "sync", "{log}");
    two.machines[1].run(&["undo", "--yes"], 0);
    assert_eq!(two.files(1), here);
    two.machines[1].run(&["redo", "--yes"], 0);
    assert_eq!(two.files(1), files);
    two.turn(1, 0);
    // The first takes it over; then neither has anything to do.
    let taken = two.turn(0, 0);
    assert!(
        actions(&taken)
            .iter()
            .all(|(action, _)| action != "conflict"),
        "{taken}"
    );
    two.assert_alike();
    for at in [1, 0, 1] {
        let nothing = two.turn(at, 0);
        assert_eq!(nothing["steps"], serde_json::json!([]));
    }
    two.assert_alike();
}

#[test]
fn the_first_sync_only_adds() {
    let two = Two::new();
    two.write(0, "only-a", "a\n");
    two.write(0, "both.txt", "of a\n");
    two.write(0, "both.json", "{\"a\": 1, \"x\": 1}");
    two.write(1, "only-b", "b\n");
    two.write(1, "both.txt", "of b\n");
    two.write(1, "both.json", "{\"b\": 2, \"x\": 1}");
    two.push(0);
    two.push(1);
    let done = two.sync(1, 3);
    assert_eq!(done["first"], true);
    let files = two.files(1);
    assert_eq!(files["only-a"], "a\n");
    assert_eq!(files["only-b"], "b\n");
    assert_eq!(files["both.txt"], "of b\n", "ours stays");
    let json: Value = serde_json::from_str(&files["both.json"]).unwrap();
    assert_eq!(json, serde_json::json!({"a": 1, "b": 2, "x": 1}));
    let beside: Vec<&String> = files
        .keys()
        .filter(|name| name.contains(".bdr-from-"))
        .collect();
    assert_eq!(beside.len(), 1, "{files:?}");
    assert_eq!(files[beside[0]], "of a\n");
}

/// Until somebody decides, both keep their own; then the decision reaches the other.
#[test]
fn a_conflict_lasts_until_somebody_decides() {
    let two = Two::with(&[("x", "old\n"), ("s.json", "{\"n\": 0}")]);
    two.turn(0, 0);
    two.write(0, "x", "of a\n");
    two.write(1, "x", "of b\n");
    two.write(0, "s.json", "{\"n\": 1}");
    two.write(1, "s.json", "{\"n\": 2, \"m\": 3}");
    two.push(1);
    let done = two.turn(0, 3);
    let step = done["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["both"][0] == "n");
    assert_eq!(step.unwrap()["action"], "conflict", "{done:#}");
    assert_eq!(two.files(0)["x"], "of a\n");
    let text = two.files(0)["s.json"].clone();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"n": 1, "m": 3}),
        "what is no conflict is taken"
    );
    // Nobody is overruled by a sync on the other side, and again here.
    for at in [1, 0, 1] {
        let done = two.turn(at, 3);
        let own = ["of a\n", "of b\n"][at];
        assert_eq!(two.files(at)["x"], own, "{done:#}");
    }
    let listed = two.files(0);
    let beside: Vec<&String> = listed.keys().filter(|n| n.contains(".bdr-from-")).collect();
    assert_eq!(
        beside.len(),
        2,
        "one for each file, however often: {listed:?}"
    );
    assert_eq!(listed[beside[1]], "of b\n");
    // Somebody decides on the first machine, by a third version.
    two.write(0, "x", "of both\n");
    two.write(0, "s.json", "{\"n\": 9, \"m\": 3}");
    for name in &beside {
        two.remove(0, name);
    }
    let done = two.turn(0, 0);
    assert_eq!(done["steps"], serde_json::json!([]), "{done:#}");
    // That counts on the second too, and what is beside goes.
    two.turn(1, 0);
    two.assert_alike();
    assert_eq!(two.files(1)["x"], "of both\n");
}

#[test]
fn what_one_removed_and_the_other_changed_stays_and_comes_back() {
    let two = Two::with(&[("kept", "1\n"), ("back", "1\n")]);
    two.turn(0, 0);
    two.remove(0, "kept");
    two.write(1, "kept", "2\n");
    two.write(0, "back", "2\n");
    two.remove(1, "back");
    two.push(0);
    two.turn(1, 0);
    assert_eq!(
        two.files(1),
        [("back".into(), "2\n".into()), ("kept".into(), "2\n".into())].into()
    );
    two.turn(0, 0);
    two.assert_alike();
}

/// Values that are sealed stay on the machine that has them.
#[test]
fn secrets_stay_where_they_are() {
    let token = |seed: &str| {
        let letters: String = seed.bytes().cycle().take(18).map(char::from).collect();
        format!("ghp_{letters}{}", "a8Fq27LmZx09RtYwKc")
    };
    let config = |token: &str, more: &str| {
        format!("{{\"env\": {{\"GITHUB_TOKEN\": \"{token}\"}}, \"theme\": \"{more}\"}}\n")
    };
    let two = Two::new();
    let (of_a, of_b) = (token("Qx7Zp2"), token("Wm4Ns8"));
    two.write(0, "c.json", &config(&of_a, "dark"));
    two.write(1, "c.json", &config(&of_b, "dark"));
    two.write(0, "only.json", &config(&token("Hd5Kt1"), "x"));
    two.push(0);
    two.push(1);
    // The tokens differ, and nothing else: they count as alike.
    let done = two.turn(1, 3);
    assert_eq!(actions(&done), [], "{done:#}");
    let problem = done["problems"][0]["reason"].as_str().unwrap();
    assert!(problem.contains("sealed there"), "{done:#}");
    assert!(!two.files(1).contains_key("only.json"));
    // Of a container of keys only metadata is stored: where both have one, nobody can tell.
    let key = |seed: u8| {
        let head = hex::decode("302e020100300506032b657004220420").unwrap();
        [head, vec![seed; 32]].concat()
    };
    for at in 0..2 {
        two.machines[at].write("key.p8", &key([7, 9][at]));
    }
    two.write(0, "c.json", &config(&of_a, "light"));
    two.push(0);
    two.turn(1, 3);
    assert_eq!(
        two.files(1)["c.json"],
        config(&of_b, "light"),
        "its own token, their theme"
    );
    let done = two.sync(1, 3);
    assert_eq!(done["unknown"].as_array().unwrap().len(), 1, "{done:#}");
    assert_eq!(done["problems"].as_array().unwrap().len(), 1, "{done:#}");
    assert_eq!(
        std::fs::read(two.machines[1].tree().join("key.p8")).unwrap(),
        key(9)
    );
}

#[test]
fn git_repositories_databases_and_what_is_excluded_are_left_alone() {
    let two = Two::with(&[
        ("code/.git/HEAD", "ref: refs/heads/main\n"),
        ("code/a.rs", "a\n"),
    ]);
    two.turn(0, 0);
    two.write(0, "code/.git/HEAD", "ref: refs/heads/other\n");
    two.write(0, "code/a.rs", "b\n");
    two.write(0, "cache/big", "x\n");
    two.machines[1].run(&["exclude", "cache"], 0);
    two.push(0);
    let done = two.turn(1, 0);
    assert_eq!(
        actions(&done),
        [("replace".to_owned(), "a.rs".to_owned())],
        "{done:#}"
    );
    assert_eq!(done["left_to_git"], true);
    assert_eq!(two.files(1)["code/.git/HEAD"], "ref: refs/heads/main\n");
    assert!(!two.files(1).contains_key("cache"));
    // What is excluded later is not taken for removed.
    two.write(1, "drafts/d", "d\n");
    two.push(1);
    two.turn(0, 0);
    two.turn(1, 0);
    two.machines[0].run(&["exclude", "drafts"], 0);
    two.push(0);
    let done = two.turn(1, 0);
    assert_eq!(actions(&done), [], "{done:#}");
    assert_eq!(two.files(1)["drafts/d"], "d\n");
}

/// Who may run a file is part of it; what gives more than that stays.
#[cfg(unix)]
#[test]
fn a_changed_mode_comes_like_a_changed_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let two = Two::with(&[("run.sh", "#!/bin/sh\n"), ("both", "b"), ("suid", "s")]);
    let path = |at: usize, name: &str| two.machines[at].tree().join(name);
    let set = |at: usize, name: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path(at, name), mode).unwrap();
    };
    let mode = |at: usize, name: &str| path(at, name).metadata().unwrap().permissions().mode();
    for at in 0..2 {
        for name in ["run.sh", "both", "suid"] {
            set(at, name, 0o644);
        }
        two.push(at);
    }
    two.turn(1, 0);
    two.turn(0, 0);
    set(0, "run.sh", 0o755);
    set(0, "both", 0o600);
    set(1, "both", 0o640);
    set(0, "suid", 0o4644);
    two.push(0);
    let done = two.turn(1, 0);
    assert_eq!(
        actions(&done),
        [("replace".to_owned(), "run.sh".to_owned())]
    );
    assert_eq!(mode(1, "run.sh") & 0o7777, 0o755);
    assert_eq!(mode(1, "both") & 0o7777, 0o640);
    assert_eq!(mode(1, "suid") & 0o7777, 0o644);
    // And is not brought again, nor taken back. Where both changed it, the side that synced first decides.
    let done = two.turn(0, 0);
    assert_eq!(actions(&done), [("replace".to_owned(), "both".to_owned())]);
    assert_eq!(mode(0, "both") & 0o7777, 0o640);
    assert!(actions(&two.turn(1, 0)).is_empty());
    assert_eq!(mode(0, "run.sh") & 0o7777, 0o755);
    let undone = two.machines[1].run(&["undo", "--yes"], 0);
    assert_eq!(mode(1, "run.sh") & 0o7777, 0o644, "{undone:?}");
}

/// A source can be one file, whose neighbours are in no source.
#[test]
fn a_source_that_is_a_file_is_brought_together_too() {
    let two = Two::new();
    for (at, text) in [(0, "{\"a\": 1, \"n\": 1}"), (1, "{\"b\": 2, \"n\": 2}")] {
        let place = &two.machines[at];
        let file = place.path("home/.claude.json");
        std::fs::write(&file, text).unwrap();
        place.run(&["add", file.to_str().unwrap(), "--as", "claude"], 0);
        two.push(at);
    }
    let place = &two.machines[1];
    let before = files(&place.path("home"));
    place.run(&["sync", "claude", "--with", &two.ids[0], "--yes"], 3);
    let after = files(&place.path("home"));
    let json: Value = serde_json::from_str(&after[".claude.json"]).unwrap();
    assert_eq!(json, serde_json::json!({"a": 1, "b": 2, "n": 2}));
    let beside = after
        .iter()
        .find(|(name, _)| name.contains(".bdr-from-"))
        .unwrap();
    assert_eq!(beside.1, "{\"a\": 1, \"n\": 1}");
    place.run(&["undo", "--yes"], 0);
    assert_eq!(
        files(&place.path("home")),
        before,
        "what is beside it is taken back too"
    );
}

/// A wake-up does it by itself where the configuration says so.
#[test]
fn a_wake_up_syncs_if_asked() {
    let two = Two::with(&[("a", "1\n"), ("b", "1\n")]);
    two.turn(0, 0);
    let place = &two.machines[0];
    two.write(0, "b", "2\n");
    two.write(1, "a", "2\n");
    two.write(1, "b", "3\n");
    two.push(1);
    place.configure("[schedule]\nat = \"03:00\"\n");
    let tick = |place: &Place| {
        let mut tick = place.bdr(&["tick"]);
        let done = tick.env("BDR_BACKGROUND", "0").output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        stderr(&done)
    };
    tick(place);
    assert_eq!(two.files(0)["a"], "1\n", "nobody asked for it");
    let file = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = format!("[remote.disk]\nsync = [{:?}]\n", two.ids[1]);
    std::fs::write(&file, text.replace("[remote.disk]\n", &with)).unwrap();
    let said = tick(place);
    assert_eq!(two.files(0)["a"], "2\n");
    assert_eq!(two.files(0)["b"], "2\n", "ours stays");
    assert!(
        said.contains("1 path of") && said.contains("bdr sync --with"),
        "{said}"
    );
    place.run(&["undo", "--yes"], 0);
    assert_eq!(two.files(0)["a"], "1\n");
}

#[test]
fn what_cannot_be_synced_is_said() {
    let two = Two::new();
    two.write(1, "a", "a\n");
    two.push(1);
    let place = &two.machines[0];
    // A preview changes nothing, and neither does a script that did not agree to a change.
    let plan = place.json(&["sync", "tree", "--with", &two.ids[1], "--dry-run"]);
    assert_eq!(
        plan["sources"][0]["steps"][0]["action"], "create",
        "{plan:#}"
    );
    assert!(!place.tree().join("a").exists());
    // Both have the name of this machine, so the other is meant.
    let host = place.json(&["machines"])["machines"][0]["host"].clone();
    let text = stdout(&place.run(&["sync", "--with", host.as_str().unwrap(), "--dry-run"], 0));
    assert!(!text.contains("\n\n"), "{text}");
    assert!(
        text.contains("create") && text.contains("the first time"),
        "{text}"
    );
    two.turn(0, 0);
    two.write(1, "a", "b\n");
    two.push(1);
    let said = stderr(&place.run(&["sync", "tree", "--with", &two.ids[1]], 2));
    assert!(
        said.contains("--yes") && said.contains("--dry-run"),
        "{said}"
    );
    assert_eq!(two.files(0)["a"], "a\n");
    for (args, word) in [
        (vec!["sync", "tree", "--with", "nobody"], "bdr machines"),
        (
            vec!["sync", "tree", "--with", &two.ids[0]],
            "is this machine",
        ),
        (
            vec!["sync", "tre", "--with", &two.ids[1]],
            "did you mean `tree`",
        ),
    ] {
        let output = place.bdr(&args).output().unwrap();
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(word),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    // A source that only this machine has.
    std::fs::create_dir(place.path("own")).unwrap();
    place.run(&["add", place.path("own").to_str().unwrap()], 0);
    let said = stderr(&place.run(&["sync", "own", "--with", &two.ids[1]], 2));
    assert!(said.contains("has pushed no backup of `own`"), "{said}");
    let said = stderr(&place.run(&["sync", "--with", &two.ids[1], "--yes"], 0));
    assert!(
        said.contains("own: only here"),
        "it is said, and no fault: {said}"
    );
    assert_eq!(two.files(0)["a"], "b\n");
}

/// What happened to a file on a machine, by an independent rule: versions know which others they
/// came from.
#[derive(Clone, Default)]
struct Known {
    /// 0: never there.
    version: u32,
    is_there: bool,
    seen: std::collections::BTreeSet<u32>,
}

/// Whatever two people do to files, and in whatever order their machines push and sync: a file comes
/// from whoever changed it last, and two changes that did not know of each other are a conflict.
#[test]
fn whatever_two_machines_do_the_newest_version_wins_and_no_change_is_overruled() {
    const NAMES: [&str; 3] = ["p", "d/q", "d/e/r"];
    let seeds = match std::env::var("BDR_SYNC_SEEDS") {
        Ok(most) => 0..most.parse().unwrap(),
        Err(_) => 0..6,
    };
    for seed in seeds {
        let mut dice = crate::fuzzed::Dice(seed);
        let files = [("p", "0\n"), ("d/q", "0\n"), ("d/e/r", "0\n")];
        let two = Two::with(&[&files[..], &[("stays", "s\n")]].concat());
        let start = Known {
            version: 0,
            is_there: true,
            seen: [0].into(),
        };
        let mut now = [[(); 3], [(); 3]].map(|files| files.map(|()| start.clone()));
        let mut pushed = now.clone();
        let mut next = 0;
        let mut story = Vec::new();
        two.turn(0, 0);
        for _ in 0..14 {
            let at = dice.below(2);
            match dice.below(5) {
                0 | 1 => {
                    let file = dice.below(3);
                    next += 1;
                    let known = &mut now[at][file];
                    known.version = next;
                    known.seen.insert(next);
                    known.is_there = !known.is_there || dice.below(4) > 0;
                    let path = two.machines[at].tree().join(NAMES[file]);
                    match known.is_there {
                        true => two.write(at, NAMES[file], &format!("{next}\n")),
                        false => std::fs::remove_file(path).unwrap(),
                    }
                    story.push(format!(
                        "{at}: {} is {next}, {}",
                        NAMES[file], known.is_there
                    ));
                }
                2 => {
                    two.push(at);
                    pushed[at] = now[at].clone();
                    story.push(format!("{at} pushes"));
                }
                _ => {
                    let decides = dice.below(2) == 0;
                    story.push(format!("{at} syncs, and decides: {decides}"));
                    synced(&two, at, &mut now[at], &pushed[1 - at], decides, &story);
                    two.push(at);
                    pushed[at] = now[at].clone();
                }
            }
            for (file, known) in now[at].iter().enumerate() {
                let found = std::fs::read_to_string(two.machines[at].tree().join(NAMES[file]));
                let wanted = known.is_there.then(|| format!("{}\n", known.version));
                assert_eq!(
                    found.ok(),
                    wanted,
                    "seed {seed}, {}: {story:#?}",
                    NAMES[file]
                );
            }
        }
    }
}

fn synced(
    two: &Two,
    at: usize,
    own: &mut [Known; 3],
    theirs: &[Known; 3],
    decides: bool,
    story: &[String],
) {
    const NAMES: [&str; 3] = ["p", "d/q", "d/e/r"];
    let mut conflicts = Vec::new();
    for file in 0..3 {
        let (mine, other) = (&mut own[file], &theirs[file]);
        let alike = mine.version == other.version || !mine.is_there && !other.is_there;
        if alike || mine.seen.contains(&other.version) {
            mine.seen.extend(&other.seen);
        } else if other.seen.contains(&mine.version) || !mine.is_there {
            let seen: std::collections::BTreeSet<u32> = &mine.seen | &other.seen;
            *mine = Known {
                seen,
                ..other.clone()
            };
        } else if !other.is_there {
            mine.seen.extend(&other.seen);
        } else {
            conflicts.push(file);
        }
    }
    let code = if conflicts.is_empty() { 0 } else { 3 };
    let other = &two.ids[1 - at];
    let args = ["--json", "sync", "tree", "--with", other, "--yes"];
    let output = two.machines[at].bdr(&args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{said} {story:#?}");
    for file in conflicts {
        let name = two.machines[at].tree().join(NAMES[file]);
        let dir = std::fs::read_dir(name.parent().unwrap()).unwrap();
        let start = format!("{}.bdr-from-", name.file_name().unwrap().to_str().unwrap());
        let beside = dir.map(|entry| entry.unwrap().path()).find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&start)
        });
        let beside = beside.unwrap_or_else(|| panic!("nothing beside {name:?}: {story:#?}"));
        let text = std::fs::read_to_string(&beside).unwrap();
        assert_eq!(text, format!("{}\n", theirs[file].version), "{story:#?}");
        if decides {
            std::fs::remove_file(&beside).unwrap();
            own[file].seen.extend(&theirs[file].seen);
        }
    }
}

/// Killed at any call that changes something, a sync leaves each file as it was or as it should be; the
/// next one completes it, or an undo takes back what was done.
#[test]
fn a_sync_that_is_killed_is_completed_or_taken_back() {
    let text = "one\ntwo\nthree\nfour\n";
    let two = Two::with(&[
        ("a", "1\n"),
        ("d/gone", "1\n"),
        ("text", text),
        ("c", "0\n"),
    ]);
    two.turn(0, 0);
    two.write(1, "a", "2\n");
    two.write(1, "new/deep", "2\n");
    two.write(1, "text", "ONE\ntwo\nthree\nfour\n");
    two.write(1, "c", "of b\n");
    two.remove(1, "d/gone");
    two.push(1);
    two.write(0, "text", "one\ntwo\nthree\nFOUR\n");
    two.write(0, "c", "of a\n");
    two.write(0, "mine", "1\n");
    let place = &two.machines[0];
    place.run(&["backup"], 0);
    let newest = |place: &Place| {
        let log = place.json(&["log"]);
        let operations = log["operations"].as_array().unwrap().iter();
        let mut syncs = operations.filter(|one| one["kind"] == "sync");
        syncs.next().unwrap()["id"].clone()
    };
    let begun = newest(place);
    let before = two.files(0);
    let saved = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new(program).args(args).status();
        assert!(done.unwrap().success(), "{program} {args:?}");
    };
    let dirs = ["tree", "bdr", "home"];
    for dir in dirs {
        let (from, to) = (place.path(dir), saved.path().join(dir));
        run("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()]);
    }
    let put_back = || {
        for dir in dirs {
            let (from, to) = (saved.path().join(dir), place.path(dir));
            run("chmod", &["-R".as_ref(), "u+w".as_ref(), to.as_ref()]);
            run("rm", &["-rf".as_ref(), to.as_ref()]);
            run("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()]);
        }
    };
    two.sync(0, 3);
    let after = two.files(0);
    let args = ["sync", "tree", "--with", &two.ids[1], "--yes"];
    let calls =
        "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync";
    let mut killed = 0;
    for n in 1.. {
        put_back();
        match killed_at(place, calls, n, &args) {
            None => return,
            Some(false) => break,
            Some(true) => killed += 1,
        }
        let now = two.files(0);
        for (name, text) in &now {
            let is_ours = name.contains(".bdr-tmp") || name.contains(".bdr-");
            let known = [before.get(name), after.get(name)];
            assert!(
                is_ours || known.contains(&Some(text)),
                "{n}: {name}: {text}"
            );
        }
        let lost = before.keys().filter(|name| !now.contains_key(*name));
        let lost: Vec<_> = lost.filter(|name| after.contains_key(*name)).collect();
        assert!(lost.is_empty(), "{n}: {lost:?}");
        if n % 2 == 0 {
            // Nothing may have been done yet.
            if newest(place) != begun {
                place.run(&["undo", "--yes"], 0);
                assert_eq!(two.files(0), before, "{n}");
            }
        }
        let again = two.sync(0, 3);
        assert_eq!(again["problems"], serde_json::json!([]), "{n}");
        assert_eq!(two.files(0), after, "{n}");
        place.run(&["verify"], 0);
    }
    assert!(killed > 10, "{killed} calls");
}

/// The same for files that come back from a destination: nothing half written stays.
#[test]
fn a_restore_from_a_destination_that_is_killed_is_completed_by_the_next() {
    let two = Two::with(&[("a", "1\n"), ("d/b", "1\n"), ("e", "1\n")]);
    let place = &two.machines[0];
    let before = two.files(0);
    let args = ["restore", "latest", "--from", "disk", "--yes"];
    let calls = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,fsync,fdatasync";
    let mut killed = 0;
    for n in 1.. {
        two.write(0, "a", "2\n");
        let _ = std::fs::remove_dir_all(place.tree().join("d"));
        match killed_at(place, calls, n, &args) {
            None => return,
            Some(false) => break,
            Some(true) => killed += 1,
        }
        place.run(&args, 0);
        assert_eq!(two.files(0), before, "{n}");
    }
    assert!(killed > 10, "{killed} calls");
}

/// Runs bdr and kills it at the N-th of some calls; false if it made fewer. `None`, and a line, where that
/// cannot be done.
fn killed_at(place: &Place, calls: &str, n: usize, args: &[&str]) -> Option<bool> {
    use std::os::unix::process::ExitStatusExt as _;
    let bdr = place.bdr(args);
    let mut strace = std::process::Command::new("strace");
    strace
        .args(["-f", "-b", "execve", "-qq", "-o", "/dev/null"])
        .arg(format!("-etrace={calls}"))
        .arg(format!("-einject={calls}:signal=KILL:when={n}"))
        .arg(bdr.get_program())
        .args(args)
        .current_dir(place.tree())
        .env_clear();
    let set = bdr
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let Ok(output) = strace.envs(set).env("BDR_BACKGROUND", "0").output() else {
        println!("SKIPPED: there is no strace");
        return None;
    };
    if stderr(&output).contains("PTRACE") {
        println!("SKIPPED: strace may not trace here");
        return None;
    }
    Some(output.status.signal() == Some(9) || output.status.code() == Some(137))
}
