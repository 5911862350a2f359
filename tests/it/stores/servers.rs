//! Stores on real servers, which `tests/servers.py` starts.

use std::sync::Arc;
use std::time::Duration;

use bdr::disk::store::{
    self, Access, Conduct, Location, Manners, MemoryStore, Store, Trouble, Write,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::support::Place;
use crate::support::cli::{stderr, stdout};

/// A server, as a test reaches it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(super) access: Access,
    /// Its credentials, by field.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The HTTPS proxy that stands in for a provider, and the account there.
    pub(crate) standin: Option<StandIn>,
}

#[derive(Clone)]
pub(crate) struct StandIn {
    pub(crate) port: u64,
    pub(crate) account: String,
}

impl StandIn {
    /// Asks about the account, or changes how the provider behaves to it.
    fn ask(&self, method: &str, body: &str) -> Value {
        use std::io::{Read as _, Write as _};
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", u16::try_from(self.port).unwrap())).unwrap();
        let head = format!(
            "{method} /{} HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            self.account,
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub(crate) fn control(&self, wanted: &Value) -> Value {
        self.ask("POST", &wanted.to_string())
    }

    pub(crate) fn state(&self) -> Value {
        self.ask("GET", "")
    }
}

/// A call of bdr that has the credentials of a destination called `far`, and of one by its address.
pub(crate) fn with(place: &Place, server: &Server, args: &[&str]) -> std::process::Command {
    let mut command = place.bdr(args);
    command.env("BDR_BACKGROUND", "0");
    for (field, value) in &server.fields {
        let field = field.to_uppercase().replace('-', "_");
        command.env(format!("BDR_REMOTE_FAR_{field}"), value);
        command.env(format!("BDR_REMOTE_{field}"), value);
    }
    if let Some(standin) = &server.standin {
        command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", standin.port));
    }
    command
}

#[track_caller]
pub(crate) fn run(place: &Place, server: &Server, args: &[&str]) -> String {
    let output = with(place, server, args).output().unwrap();
    let said = format!("bdr {args:?}: {}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    stdout(&output)
}

/// The arguments of a prune of `far` that keeps the last backups, this many.
pub(crate) const fn prune(last: &str) -> [&str; 8] {
    [
        "prune",
        "--remote",
        "far",
        "--keep-last",
        last,
        "--keep-within",
        "1h",
        "--yes",
    ]
}

impl Server {
    /// Returns a directory of this machine.
    pub(crate) fn directory(dir: &std::path::Path) -> Self {
        Self {
            url: format!("file://{}", dir.display()),
            access: Access::default(),
            fields: Vec::new(),
            standin: None,
        }
    }

    /// Returns a place below.
    pub(crate) fn below(mut self, path: &str) -> Self {
        self.url = format!("{}/{path}", self.url);
        self
    }

    /// Returns it as reached by another port.
    pub(crate) fn at_port(&self, port: u16, other: u16) -> Self {
        let url = self.url.replace(&format!(":{port}"), &format!(":{other}"));
        Self {
            url,
            ..self.clone()
        }
    }

    pub(crate) fn open(&self) -> Arc<dyn Store> {
        open(&self.url, &self.access)
    }
}

pub(super) fn facts(name: &str) -> Option<Value> {
    let file = std::env::var_os("BDR_TEST_SERVERS")?;
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    all.get(name).cloned()
}

/// Returns the port of a server that is there.
pub(super) fn port(name: &str) -> u16 {
    let facts = facts(name).unwrap();
    let port = facts["port"].as_u64().map(|port| port.to_string());
    let port = port.unwrap_or_else(|| {
        let endpoint = text(&facts, "endpoint");
        endpoint.rsplit(':').next().unwrap().to_owned()
    });
    port.parse().unwrap()
}

fn text(facts: &Value, name: &str) -> String {
    facts[name].as_str().unwrap().to_owned()
}

fn access(values: &[(&'static str, String)]) -> Access {
    let mut access = Access::default();
    for (name, value) in values {
        access.set(*name, value.clone());
    }
    access
}

/// Returns a server, with a place of its own below `root`; `None`, and a loud line, without one.
#[expect(clippy::print_stdout, reason = "a test that does nothing says so")]
pub(crate) fn server(name: &str, root: &str) -> Option<Server> {
    if ["gdrive", "dropbox", "gs", "b2"].contains(&name) {
        return provider(name, root);
    }
    let kind = name.trim_end_matches("-locked");
    let Some(facts) = facts(kind.trim_end_matches("-guarded")) else {
        println!("SKIPPED: the store `{name}` (no such server; tests/servers.py starts them)");
        return None;
    };
    let (url, fields) = match name {
        "s3" | "s3-lax" | "s3-locked" | "s3-guarded" => (
            format!(
                "s3://{}/{root}?endpoint={}",
                match name {
                    "s3-locked" => text(&facts, "locked"),
                    "s3-guarded" => text(&facts, "guarded"),
                    _ => text(&facts, "bucket"),
                },
                text(&facts, "endpoint")
            ),
            vec![
                ("access-key-id", text(&facts, "key")),
                ("secret-access-key", text(&facts, "secret")),
            ],
        ),
        "azblob" => (
            format!(
                "azblob://{}/{root}?endpoint={}&account={}",
                text(&facts, "bucket"),
                text(&facts, "endpoint"),
                text(&facts, "account")
            ),
            vec![("account-key", text(&facts, "key"))],
        ),
        "webdav" | "webdav-rclone" => (
            format!(
                "webdav://{}@{}:{}/{root}",
                text(&facts, "user"),
                text(&facts, "host"),
                facts["port"]
            ),
            vec![("password", text(&facts, "password"))],
        ),
        "sftp" => (
            format!(
                "sftp://{}:{}{}/{root}?identity={}&known-hosts={}",
                text(&facts, "host"),
                facts["port"],
                text(&facts, "dir"),
                text(&facts, "identity"),
                text(&facts, "known")
            ),
            Vec::new(),
        ),
        _ => panic!("no server is called {name}"),
    };
    Some(Server {
        access: access(&fields),
        url,
        fields,
        standin: None,
    })
}

/// Returns a provider, as the stand-in gives it to an account of this test's own. It is reached by
/// `HTTPS_PROXY`, which has to be in the environment of whoever asks.
#[expect(clippy::print_stdout, reason = "a test that does nothing says so")]
fn provider(name: &str, root: &str) -> Option<Server> {
    let Some(facts) = facts("standins") else {
        println!("SKIPPED: the store `{name}` (no stand-in; tests/servers.py starts it)");
        return None;
    };
    // The whole test may have one account; it is a name without signs.
    let account: String = root.chars().filter(char::is_ascii_alphanumeric).collect();
    let account = format!("{name}-{account}");
    let ca = text(&facts, "ca");
    let url = match name {
        "gs" => format!("gs://bucket/{root}?ca={ca}"),
        "b2" => format!("b2://bucket/{root}?bucket-id=bucket-id&ca={ca}"),
        _ => format!("{name}://{root}?ca={ca}"),
    };
    let fields = match name {
        "gs" => vec![(
            "credential",
            serde_json::json!({
                "type": "service_account",
                "client_email": format!("{account}@project.iam.gserviceaccount.com"),
                "private_key": text(&facts, "key"),
                "token_uri": "https://oauth2.googleapis.com/token",
            })
            .to_string(),
        )],
        "b2" => vec![
            ("application-key-id", format!("key-{account}")),
            ("application-key", "secret-of-the-app".to_owned()),
        ],
        _ => vec![
            ("client-id", "client".to_owned()),
            ("client-secret", "secret-of-the-app".to_owned()),
            ("refresh-token", format!("rt-{account}")),
        ],
    };
    let port = facts["port"].as_u64().unwrap();
    Some(Server {
        access: access(&fields),
        url,
        fields,
        standin: Some(StandIn { port, account }),
    })
}

/// Runs this very test again where the stand-in for a provider is the proxy, unless it is one. Returns
/// true where the test is to be run here.
fn is_behind_the_proxy(test: &str) -> bool {
    if std::env::var_os("HTTPS_PROXY").is_some() {
        return true;
    }
    let Some(facts) = facts("standins") else {
        // It says that it is skipped.
        return true;
    };
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("HTTPS_PROXY", text(&facts, "proxy"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
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
        let mut steps = steps.new_tree(&mut runner).unwrap().current();
        if name == "dropbox" {
            // Paths in any case are the same there.
            steps.iter_mut().for_each(super::Step::without_capitals);
        }
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

#[test]
fn google_drive_is_a_store() {
    if is_behind_the_proxy("stores::servers::google_drive_is_a_store") {
        answers_as_the_model("gdrive", Manners::NoConditions);
    }
}

#[test]
fn dropbox_is_a_store() {
    if is_behind_the_proxy("stores::servers::dropbox_is_a_store") {
        answers_as_the_model("dropbox", Manners::Strict);
    }
}

#[test]
fn google_cloud_storage_is_a_store() {
    if is_behind_the_proxy("stores::servers::google_cloud_storage_is_a_store") {
        answers_as_the_model("gs", Manners::Strict);
    }
}

#[test]
fn backblaze_is_a_store() {
    if is_behind_the_proxy("stores::servers::backblaze_is_a_store") {
        answers_as_the_model("b2", Manners::NoConditions);
    }
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

/// What a store enforces is found out with the credentials that a thief would have.
#[test]
fn the_level_of_a_store_is_what_trying_shows() {
    use bdr::remote::level::{Attempt, Level, probe};
    is_behind_the_proxy("stores::servers::the_level_of_a_store_is_what_trying_shows");
    for (name, level, create) in [
        ("s3", Level::CreateOnly, Attempt::Refused),
        ("s3-lax", Level::Noticed, Attempt::Done),
        // Object Lock: deleting only hides, and the version stays.
        ("s3-locked", Level::AddOnly, Attempt::Refused),
        // A policy that refuses to delete, and is not asked where several are deleted.
        ("s3-guarded", Level::CreateOnly, Attempt::Refused),
        ("azblob", Level::CreateOnly, Attempt::Refused),
        ("webdav", Level::CreateOnly, Attempt::Refused),
        ("sftp", Level::CreateOnly, Attempt::Refused),
        ("gdrive", Level::Noticed, Attempt::Unsupported),
        ("dropbox", Level::CreateOnly, Attempt::Refused),
        ("gs", Level::CreateOnly, Attempt::Refused),
        ("b2", Level::Noticed, Attempt::Unsupported),
    ] {
        let is_provider = matches!(name, "gdrive" | "dropbox" | "gs" | "b2");
        let is_there = std::env::var_os("HTTPS_PROXY").is_some();
        if is_provider != is_there {
            continue;
        }
        let Some(server) = server(name, "level") else {
            continue;
        };
        let store = open(&server.url, &server.access);
        store.prepare().unwrap();
        let probed = probe(&*store, name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(
            (probed.level, probed.create),
            (level, create),
            "{name}: {probed:?}"
        );
        assert!(probed.is_listed, "{name}");
        let refuses = matches!(name, "s3-locked");
        assert_eq!(
            probed.delete == Attempt::Done,
            !refuses,
            "{name}: {probed:?}"
        );
        let left = store.names("bdr1/probe/").unwrap();
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn somebody_who_may_only_read_is_told_so() {
    let (Some(server), Some(facts)) = (server("s3", "reader"), facts("s3")) else {
        return;
    };
    let reader = facts["reader"].as_array().unwrap();
    let access = access(&[
        ("access-key-id", reader[0].as_str().unwrap().to_owned()),
        ("secret-access-key", reader[1].as_str().unwrap().to_owned()),
    ]);
    let store = open(&server.url, &access);
    let error = store.put("a", b"x", Write::CreateOnly).unwrap_err();
    assert_eq!(error.trouble, Trouble::Forbidden, "{error}");
    assert_eq!(store.names("").unwrap(), Vec::<String>::new());
}

/// Real servers say in their own words what is wrong.
#[test]
fn what_is_wrong_with_a_real_server_is_understood() {
    let cases = [
        ("s3", Trouble::Credentials),
        ("azblob", Trouble::Credentials),
        ("webdav", Trouble::Credentials),
    ];
    for (name, trouble) in cases {
        let Some(server) = server(name, "wrong") else {
            continue;
        };
        let mut access = server.access.clone();
        for field in ["secret-access-key", "password"] {
            if access.get(field).is_some() {
                access.set(field, "hunter2-is-wrong");
            }
        }
        if access.get("account-key").is_some() {
            access.set("account-key", "aHVudGVyMi1pcy13cm9uZw==");
        }
        let store = open(&server.url, &access);
        let error = store.put("a", b"x", Write::Plain).unwrap_err();
        assert_eq!(error.trouble, trouble, "{name}: {error}");
        assert!(!error.said.contains("hunter2"), "{error}");
        let error = store
            .list("", None, &mut |_| std::ops::ControlFlow::Continue(()))
            .unwrap_err();
        assert_eq!(error.trouble, trouble, "{name}: {error}");
    }
    if let Some(server) = server("s3", "x") {
        let url = server.url.replace("s3://plain/", "s3://no-such-bucket/");
        let store = open(&url, &server.access);
        // (A PUT would make the bucket: SeaweedFS does that for whoever may.)
        let error = store.names("").unwrap_err();
        assert_eq!(error.trouble, Trouble::NoPlace, "{error}");
    }
    if let Some(server) = server("sftp", "x") {
        let known = server.url.split("known-hosts=").nth(1).unwrap().to_owned();
        // Another host key than the one that is known.
        let other = format!("{known}-other");
        let line = std::fs::read_to_string(&known).unwrap();
        let host = line.split_whitespace().next().unwrap();
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8h8V5cVx7mQv1w3bH0kq9m4q6zJr0mXo0Yl1bqk2fT";
        std::fs::write(&other, format!("{host} {key}\n")).unwrap();
        let error = open(&server.url.replace(&known, &other), &server.access)
            .names("")
            .unwrap_err();
        assert_eq!(error.trouble, Trouble::Certificate, "{error}");
        // A key that the server does not know.
        let identity = format!("{known}-identity");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &identity])
            .status();
        assert!(made.unwrap().success());
        let own = server.url.split("identity=").nth(1).unwrap();
        let own = own.split('&').next().unwrap();
        let url = server
            .url
            .replace(&format!("identity={own}"), &format!("identity={identity}"));
        let error = open(&url, &server.access).names("").unwrap_err();
        assert_eq!(error.trouble, Trouble::Credentials, "{error}");
        // The directory is away.
        let url = server.url.replace("/sftp/x?", "/away/x?");
        let error = open(&url, &server.access)
            .put("a/b", b"x", Write::CreateOnly)
            .unwrap_err();
        assert_eq!(error.trouble, Trouble::NoPlace, "{error}");
    }
}
