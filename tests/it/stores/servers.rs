//! Stores on real servers, which `tests/servers.py` starts.

use std::sync::Arc;
use std::time::Duration;

use bdr::disk::store::{
    self, Access, Conduct, Location, Manners, MemoryStore, Store, Trouble, Write,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

/// A server, as a test reaches it.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) access: Access,
}

pub(super) fn facts(name: &str) -> Option<Value> {
    let file = std::env::var_os("BDR_TEST_SERVERS")?;
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    all.get(name).cloned()
}

fn text(facts: &Value, name: &str) -> String {
    facts[name].as_str().unwrap().to_owned()
}

fn access(values: &[(&str, String)]) -> Access {
    let mut access = Access::default();
    for (name, value) in values {
        access.set(*name, value.clone());
    }
    access
}

/// Returns a server, with a place of its own below `root`; `None`, and a loud line, without one.
#[expect(clippy::print_stdout, reason = "a test that does nothing says so")]
pub(super) fn server(name: &str, root: &str) -> Option<Server> {
    let Some(facts) = facts(name) else {
        println!("SKIPPED: the store `{name}` (no such server; tests/servers.py starts them)");
        return None;
    };
    Some(match name {
        "s3" | "s3-lax" => Server {
            url: format!(
                "s3://{}/{root}?endpoint={}",
                text(&facts, "bucket"),
                text(&facts, "endpoint")
            ),
            access: access(&[
                ("access-key-id", text(&facts, "key")),
                ("secret-access-key", text(&facts, "secret")),
            ]),
        },
        "azblob" => Server {
            url: format!(
                "azblob://{}/{root}?endpoint={}&account={}",
                text(&facts, "bucket"),
                text(&facts, "endpoint"),
                text(&facts, "account")
            ),
            access: access(&[("account-key", text(&facts, "key"))]),
        },
        "webdav" | "webdav-rclone" => Server {
            url: format!(
                "webdav://{}@{}:{}/{root}",
                text(&facts, "user"),
                text(&facts, "host"),
                facts["port"]
            ),
            access: access(&[("password", text(&facts, "password"))]),
        },
        "sftp" => Server {
            url: format!(
                "sftp://{}:{}{}/{root}?identity={}&known-hosts={}",
                text(&facts, "host"),
                facts["port"],
                text(&facts, "dir"),
                text(&facts, "identity"),
                text(&facts, "known")
            ),
            access: Access::default(),
        },
        _ => panic!("no server is called {name}"),
    })
}

/// Short waits: what fails here fails on purpose.
pub(super) fn conduct() -> Conduct {
    Conduct {
        patience: Duration::from_secs(10),
        pause: Duration::from_millis(10),
        ..Conduct::default()
    }
}

pub(super) fn open(url: &str, access: &Access) -> Arc<dyn Store> {
    store::open(&Location::parse(url).unwrap(), access, &conduct()).unwrap()
}

/// Every real server answers generated requests as the model in memory does.
fn answers_as_the_model(name: &str, manners: Manners) {
    let mut runner = TestRunner::new(Config {
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..Config::default()
    });
    for case in 0..6 {
        let Some(server) = server(name, &format!("model-{case}/deep")) else {
            return;
        };
        let store = open(&server.url, &server.access);
        store.prepare().unwrap();
        let model = MemoryStore::new(manners);
        let steps = proptest::collection::vec(super::step(), 10..40);
        let steps = steps.new_tree(&mut runner).unwrap().current();
        for (number, step) in steps.iter().enumerate() {
            let (got, wanted) = (super::answer(&*store, step), super::answer(&model, step));
            assert_eq!(got, wanted, "{name}, case {case}, step {number}: {step:?}");
        }
    }
}

#[test]
fn an_s3_server_is_a_store() {
    answers_as_the_model("s3", Manners::Strict);
}

/// It overwrites whatever is asked: the reason why `bdr remote test` tries instead of believing.
#[test]
fn an_s3_server_without_conditions_is_a_store() {
    answers_as_the_model("s3-lax", Manners::IgnoresConditions);
}

#[test]
fn an_azure_server_is_a_store() {
    answers_as_the_model("azblob", Manners::Strict);
}

#[test]
fn a_webdav_server_is_a_store() {
    answers_as_the_model("webdav", Manners::Strict);
}

#[test]
fn another_webdav_server_is_a_store() {
    answers_as_the_model("webdav-rclone", Manners::Strict);
}

#[test]
fn an_sftp_server_is_a_store() {
    answers_as_the_model("sftp", Manners::Strict);
}

/// Listings longer than a page come whole, in order, and from any key on.
#[test]
fn a_listing_of_many_pages_is_whole() {
    let Some(server) = server("s3", "pages") else {
        return;
    };
    let store = open(&server.url, &server.access);
    let keys: Vec<String> = (0..1200).map(|n| format!("k/{n:05}")).collect();
    std::thread::scope(|scope| {
        for part in keys.chunks(150) {
            let store = &store;
            scope.spawn(move || {
                for key in part {
                    store.put(key, b"x", Write::CreateOnly).unwrap();
                }
            });
        }
    });
    let listed: Vec<String> = super::listed(&*store, "k/", None)
        .into_iter()
        .map(|l| l.0)
        .collect();
    assert_eq!(listed, keys);
    let rest = super::listed(&*store, "k/", Some("k/01100"));
    assert_eq!(rest.len(), 99);
    assert_eq!(store.names("k/").unwrap().len(), 1200);
    let before = store.traffic().requests;
    let error = store.put("k/00000", b"y", Write::CreateOnly).unwrap_err();
    assert_eq!(error.trouble, Trouble::Exists);
    assert_eq!(
        store.traffic().requests,
        before + 1,
        "a refusal is not asked for again"
    );
}
