//! Google Drive, Dropbox, Google Cloud Storage and Backblaze with the faults that only they have, by a
//! stand-in for their interfaces (`tests/standins.py`).

use serde_json::{Value, json};

use crate::stores::{Server, StandIn, prune, run, server, with};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, noise, picture};
use crate::thinned::at;

/// A place that has been added, and what a restore must bring back.
struct Machine {
    place: Place,
    server: Server,
    day: std::cell::Cell<i64>,
}

impl Machine {
    fn new(name: &str, root: &str) -> Option<Self> {
        let server = server(name, root)?;
        let place = Place::with_repository();
        for n in 0..20_u8 {
            place.write(&format!("dir/{n}"), &vec![n; 3000 + usize::from(n)]);
        }
        place.write("noise", &noise(6 << 20));
        place.init();
        let machine = Self {
            place,
            server,
            day: std::cell::Cell::new(0),
        };
        machine.run(&["remote", "add", "far", &machine.server.url]);
        Some(machine)
    }

    fn standin(&self) -> &StandIn {
        self.server.standin.as_ref().unwrap()
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = with(&self.place, &self.server, args);
        command.env("BDR_TEST_NOW", at(self.day.get()));
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let said = format!("bdr {args:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{said}");
        stdout(&output)
    }

    /// Returns what a prune did, that of two days later after it, and how many objects were removed.
    fn prunes(&self) -> u64 {
        let mut removed = 0;
        for _ in 0..2 {
            let document: Value =
                serde_json::from_str(&self.run(&[&["--json"][..], &PRUNE].concat())).unwrap();
            removed += document["data"]["result"]["removed"].as_u64().unwrap();
            self.day.set(self.day.get() + 2);
        }
        removed
    }

    /// Runs something that fails, and returns what it said.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.command(args).output().unwrap();
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "bdr {args:?}: {said}");
        for secret in ["secret-of-the-app", "rt-", "at."] {
            assert!(!said.contains(secret), "{said}");
        }
        said
    }

    fn faults(&self, faults: Value) {
        self.standin().control(&json!({ "faults": faults }));
    }

    /// Adds to the tree.
    fn work(&self, day: u8) {
        self.place
            .write(&format!("day/{day}"), &noise(20_000 + usize::from(day)));
        self.day.set(self.day.get() + 1);
        self.run(&["backup"]);
    }

    /// Everything verifies with the key, and what comes back on a bare machine is what is here.
    fn comes_back(&self, what: &str) {
        self.run(&["verify", "--remote", "far", "--level", "full"]);
        let config = self.place.json(&["config", "path"]);
        let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
        let key = config.with_file_name("far.key");
        let bare = Place::with_repository();
        let out = bare.path("out");
        run(
            &bare,
            &self.server,
            &[
                "restore",
                "latest",
                "--from",
                &self.server.url,
                "--identity",
                key.to_str().unwrap(),
                "--target",
                out.to_str().unwrap(),
            ],
        );
        let (before, after) = (picture(&self.place.tree()), picture(&out.join("tree")));
        assert_same(&before, &after, what);
    }
}

const PRUNE: [&str; 8] = prune("1");
const ALL: [&str; 4] = ["gdrive", "dropbox", "gs", "b2"];

/// What a request is for that stores an object.
fn upload(name: &str) -> &'static str {
    match name {
        "gdrive" => "(POST|PATCH|PUT) www.googleapis.com/upload/",
        "dropbox" => "POST content.dropboxapi.com/2/files/upload",
        "gs" => "(POST|PUT) storage.googleapis.com/upload/",
        _ => "POST api000.backblazeb2.com/b2api/v2/b2_upload_file",
    }
}

/// What passes is waited for: each kind of fault once or a few times, anywhere in a push.
#[test]
fn what_passes_at_a_provider_does_not_stop_a_push() {
    for name in ALL {
        let Some(machine) = Machine::new(name, "passes") else {
            continue;
        };
        let busy = json!({"status": 429, "headers": {"Retry-After": "1"}, "body": ""});
        let google =
            r#"{"error":{"code":403,"message":"x","errors":[{"reason":"userRateLimitExceeded"}]}}"#;
        let box_busy = r#"{"error_summary":"too_many_write_operations/..","error":{".tag":"x"}}"#;
        let limited = match name {
            "dropbox" => json!({"status": 429, "headers": {"Retry-After": "0"}, "body": box_busy}),
            "b2" => {
                json!({"status": 503, "body": r#"{"code":"service_unavailable","message":"x"}"#})
            }
            _ => json!({"status": 403, "body": google}),
        };
        for (day, act) in [
            busy,
            limited,
            json!("reset"),
            json!("lose"),
            json!("twice"),
            json!("half"),
        ]
        .into_iter()
        .enumerate()
        {
            machine.work(u8::try_from(day).unwrap());
            machine.faults(json!([
                {"match": upload(name), "do": act, "times": 2},
                {"match": "GET|POST", "skip": 2, "do": act, "times": 1},
            ]));
            machine.run(&["push"]);
            let state = machine.standin().state();
            assert!(
                state["faults"].as_array().unwrap().len() < 2,
                "{name}, {act}: no request met the fault: {state}"
            );
            machine.standin().control(&json!({"clear": true}));
        }
        machine.comes_back(name);
    }
}

/// An access token that ends before its time is renewed; an app that was taken away is told.
#[test]
fn a_token_that_ended_is_renewed_and_one_that_was_taken_away_is_told() {
    for name in ["gdrive", "dropbox"] {
        let Some(machine) = Machine::new(name, "tokens") else {
            continue;
        };
        // In the middle of a push.
        let expired = match name {
            "gdrive" => {
                json!({"status": 401, "body": r#"{"error":{"code":401,"message":"x","errors":[{"reason":"authError"}]}}"#})
            }
            _ => {
                json!({"status": 401, "body": r#"{"error_summary":"expired_access_token/..","error":{}}"#})
            }
        };
        machine.faults(json!([{"match": upload(name), "skip": 1, "do": expired}]));
        machine.run(&["push"]);
        assert_eq!(machine.standin().state()["faults"], json!([]));
        let tokens = machine.standin().state()["requests"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| line.as_str().unwrap().ends_with("/token"))
            .count();
        assert!(tokens > 1, "{name}");

        machine.work(0);
        let gone =
            r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#;
        machine.faults(
            json!([{"match": "/token$", "times": 99, "do": {"status": 400, "body": gone}}]),
        );
        for args in [
            &["push"][..],
            &["remote", "test", "far"],
            &["verify", "--remote", "far"],
        ] {
            let said = machine.fails(args, 1);
            assert!(
                said.contains("invalid_grant") && said.contains("hint:"),
                "{said}"
            );
        }
        machine.standin().control(&json!({"clear": true}));
        machine.run(&["push"]);
        machine.comes_back(name);
    }
}

#[test]
fn a_provider_that_is_full_is_told_and_nothing_is_lost() {
    for name in ALL {
        let Some(machine) = Machine::new(name, "full") else {
            continue;
        };
        machine.run(&["push"]);
        machine.work(1);
        machine.standin().control(&json!({"quota": 1}));
        let said = machine.fails(&["push"], 1);
        assert!(said.contains("free some space"), "{name}: {said}");
        machine.standin().control(&json!({"quota": null}));
        machine.run(&["push"]);
        machine.comes_back(name);
    }
}

/// Listings come in pages, in no order, and as they were some writes ago. Nothing is concluded from
/// what they do not show.
#[test]
fn listings_in_pages_and_of_some_moments_ago_lose_nothing() {
    for name in ALL {
        let Some(machine) = Machine::new(name, "stale") else {
            continue;
        };
        machine.standin().control(&json!({"page": 2}));
        for day in 0..6 {
            machine.work(day);
            let behind = [0, 3, 30][usize::from(day) % 3];
            machine.standin().control(&json!({ "stale": behind }));
            machine.run(&["push"]);
        }
        machine.standin().control(&json!({"stale": 0}));
        machine.comes_back(name);
        // A prune and its sweeps: done, or nothing is removed.
        for behind in [8, 1, 0] {
            machine.standin().control(&json!({ "stale": behind }));
            let output = machine.command(&PRUNE).output().unwrap();
            let said = format!("{}{}", stdout(&output), stderr(&output));
            match output.status.code() {
                Some(0) => {}
                Some(3) if behind > 0 => {
                    assert!(said.contains("Nothing is removed"), "{name}: {said}");
                    assert!(said.contains("bdr push far --check"), "{name}: {said}");
                }
                _ => panic!("{name}, {behind}: {said}"),
            }
            machine.work(7 + behind);
            machine.run(&["push"]);
            machine.standin().control(&json!({"stale": 0}));
            machine.comes_back(name);
        }
    }
}

/// Two files of one name, and two folders of one name, one of them half of the objects.
#[test]
fn names_that_exist_twice_at_google_drive_do_no_harm() {
    let Some(machine) = Machine::new("gdrive", "twice") else {
        return;
    };
    machine.run(&["push"]);
    machine.standin().control(&json!({"double": true}));
    machine.comes_back("doubled");
    let doubled = |state: &Value| {
        let objects = state["objects"].as_object().unwrap().values();
        objects
            .filter(|sizes| sizes.as_array().unwrap().len() > 1)
            .count()
    };
    assert!(doubled(&machine.standin().state()) > 2);
    for day in 0..3 {
        machine.work(day);
        machine.run(&["push"]);
        machine.comes_back("after a push");
    }
    // A new full backup needs nothing older.
    machine.day.set(machine.day.get() + 1);
    machine.run(&["backup", "--full"]);
    machine.run(&["push"]);
    // What is removed is removed in both: nothing of the name comes back.
    assert!(machine.prunes() > 0, "nothing was removed");
    machine.comes_back("after a prune");
    let checked = machine.run(&["--json", "verify", "--remote", "far"]);
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["data"]["unnamed"], 0, "{checked}");
}
