//! Stores of objects: the same rules for every one, each against the model in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bdr::disk::store::{
    self, Access, Conduct, Location, Manners, MemoryStore, Store, Trouble, Write,
};
use proptest::prelude::*;

#[cfg(feature = "remote")]
mod disturbed;
#[cfg(feature = "remote")]
mod faults;
#[cfg(feature = "remote")]
mod proxy;
#[cfg(feature = "remote")]
mod servers;
#[cfg(feature = "remote")]
pub(crate) use proxy::Act;
#[cfg(feature = "remote")]
pub(crate) use servers::{Server, StandIn, prune, run, server, with};

/// Returns a proxy before a server that is there, and the server's port.
#[cfg(feature = "remote")]
pub(crate) fn before(name: &str) -> (proxy::Proxy, u16) {
    let port = servers::port(name);
    (proxy::Proxy::before(port), port)
}

fn in_directory(dir: &Path) -> Arc<dyn Store> {
    let location = Location::parse(dir.to_str().unwrap()).unwrap();
    store::open(&location, &Access::default(), &Conduct::default()).unwrap()
}

fn listed(store: &dyn Store, prefix: &str, after: Option<&str>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let each = &mut |object: store::Object| {
        found.push((object.key, object.bytes));
        ControlFlow::Continue(())
    };
    store.list(prefix, after, each).unwrap();
    found
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, Vec<u8>, Write),
    Get(String, Option<(u64, u64)>),
    Size(String),
    List(String, Option<String>),
    Names(String),
    Remove(String),
}

#[cfg(feature = "remote")]
impl Step {
    fn without_capitals(&mut self) {
        let (Self::Put(key, ..)
        | Self::Get(key, _)
        | Self::Size(key)
        | Self::List(key, _)
        | Self::Names(key)
        | Self::Remove(key)) = self;
        *key = key.replace('B', "c");
        if let Self::List(_, Some(after)) = self {
            *after = after.replace('B', "c");
        }
    }
}

/// Few parts, so that keys meet; with those whose order differs between names and paths.
fn part() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a-b", "a.b", "a0", "b", "B", "z_9"]).prop_map(str::to_owned)
}

/// A part is either the name of a directory or that of an object, as everywhere in bdr's layout.
fn key() -> impl Strategy<Value = String> {
    (prop::collection::vec(part(), 0..3), part()).prop_map(|(dirs, name)| {
        let dirs: String = dirs.iter().map(|dir| format!("{dir}.d/")).collect();
        format!("{dirs}{name}")
    })
}

fn prefix() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 0..3)
        .prop_map(|dirs| dirs.iter().map(|dir| format!("{dir}.d/")).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    let how = prop::sample::select(vec![Write::CreateOnly, Write::Plain]);
    prop_oneof![
        4 => (key(), bytes, how).prop_map(|(key, bytes, how)| Step::Put(key, bytes, how)),
        2 => (key(), prop::option::of((0..30_u64, 0..50_u64)))
            .prop_map(|(key, range)| Step::Get(key, range)),
        1 => key().prop_map(Step::Size),
        2 => (prefix(), prop::option::of(key())).prop_map(|(p, after)| Step::List(p, after)),
        1 => prefix().prop_map(Step::Names),
        1 => key().prop_map(Step::Remove),
    ]
}

/// What a step answers, in a form that can be compared.
fn answer(store: &dyn Store, step: &Step) -> String {
    match step.clone() {
        Step::Put(key, bytes, how) => {
            format!("{:?}", store.put(&key, &bytes, how).map_err(|e| e.trouble))
        }
        Step::Get(key, range) => {
            let range = range.map(|(start, end)| start..end);
            format!("{:?}", store.get(&key, range).map_err(|e| e.trouble))
        }
        Step::Size(key) => format!("{:?}", store.size(&key).map_err(|e| e.trouble)),
        Step::List(prefix, after) => format!("{:?}", listed(store, &prefix, after.as_deref())),
        // An empty directory may stay; a bucket has none.
        Step::Names(prefix) => {
            let mut names = store.names(&prefix).unwrap();
            names.retain(|name| {
                !name.ends_with('/') || !listed(store, &format!("{prefix}{name}"), None).is_empty()
            });
            format!("{names:?}")
        }
        Step::Remove(key) => format!("{:?}", store.remove(&key).map_err(|e| e.trouble)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A directory answers every request as an object store with conditions does.
    #[test]
    fn a_directory_is_a_store_like_any_other(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let store = in_directory(&dir.path().join("d"));
        store.prepare().unwrap();
        let model = MemoryStore::new(Manners::Strict);
        for step in &steps {
            prop_assert_eq!(answer(&*store, step), answer(&model, step), "{:?}", step);
        }
    }
}

#[test]
fn a_listing_ends_when_the_caller_has_enough() {
    let dir = tempfile::tempdir().unwrap();
    let store = in_directory(dir.path());
    for name in ["a/1", "a/2", "b/3"] {
        store.put(name, b"x", Write::CreateOnly).unwrap();
    }
    let mut seen = Vec::new();
    let each = &mut |object: store::Object| {
        seen.push(object.key);
        match seen.len() {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    store.list("", None, each).unwrap();
    assert_eq!(seen, ["a/1", "a/2"]);
}

/// The disk of a destination is away: its objects must not land where it is usually mounted.
#[test]
fn a_directory_that_is_away_is_not_made_by_writing() {
    let dir = tempfile::tempdir().unwrap();
    let away = dir.path().join("disk");
    let store = in_directory(&away);
    let errors = [
        store.put("a", b"x", Write::Plain).unwrap_err(),
        store.get("a", None).unwrap_err(),
        store.size("a").unwrap_err(),
        store.names("").unwrap_err(),
        store.remove("a").unwrap_err(),
        store
            .list("", None, &mut |_| ControlFlow::Continue(()))
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.trouble, Trouble::NoPlace);
        assert!(error.said.contains("mounted"), "{error}");
    }
    assert!(!away.exists());
    store.prepare().unwrap();
    store.put("a", b"x", Write::CreateOnly).unwrap();
    assert_eq!(std::fs::read(away.join("a")).unwrap(), b"x");
}

/// Foreign files, files that are being written, and links are neither listed nor followed.
#[cfg(unix)]
#[test]
fn what_is_not_bdrs_in_a_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("private"), "secret").unwrap();
    let store = in_directory(dir.path());
    store.put("a/b", b"x", Write::CreateOnly).unwrap();
    for name in [
        "note with spaces",
        ".hidden",
        ".bdr-tmp-0123456789abcdef",
        "ä",
    ] {
        std::fs::write(dir.path().join(name), "foreign").unwrap();
    }
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("private"), dir.path().join("a/l")).unwrap();
    assert_eq!(listed(&*store, "", None), [("a/b".to_owned(), 1)]);
    assert_eq!(store.names("").unwrap(), ["a/"]);
    assert_eq!(store.names("a/").unwrap(), ["b"]);
    for key in ["link/private", "a/l"] {
        assert!(store.get(key, None).is_err(), "{key}");
        assert!(store.put(key, b"y", Write::CreateOnly).is_err(), "{key}");
    }
    assert!(
        store
            .list("link/", None, &mut |_| ControlFlow::Continue(()))
            .is_err()
    );
    let private = std::fs::read_to_string(elsewhere.path().join("private")).unwrap();
    assert_eq!(private, "secret");
    for key in [
        "", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a\\b", "ä", "a:b",
    ] {
        assert!(store.put(key, b"x", Write::Plain).is_err(), "{key}");
        assert!(store.get(key, None).is_err(), "{key}");
        assert!(store.remove(key).is_err(), "{key}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
}

/// An object is there whole or not at all, wherever the program dies.
#[test]
fn every_request_can_be_lost_before_and_after_it_is_carried_out() {
    let content: BTreeMap<&str, &[u8]> = [("a", &b"1"[..]), ("b", b"2"), ("c", b"3")].into();
    for number in 0..content.len() {
        for is_after in [false, true] {
            let memory = MemoryStore::new(Manners::Strict);
            let trial = store::Trial::new(Arc::new(memory.clone()));
            match is_after {
                true => trial.cut_after(number),
                false => trial.cut_before(number),
            }
            let done = content
                .iter()
                .take_while(|(key, bytes)| trial.put(key, bytes, Write::CreateOnly).is_ok())
                .count();
            assert_eq!(done, number);
            assert_eq!(memory.keys().len(), number + usize::from(is_after));
            trial.reset();
            let again = content.iter().map(|(key, bytes)| {
                let put = trial.put(key, bytes, Write::CreateOnly);
                put.map_err(|error| error.trouble)
            });
            let again: Vec<_> = again.collect();
            let there = memory.keys().len();
            assert_eq!(there, content.len());
            let existed = again.iter().filter(|put| **put == Err(Trouble::Exists));
            assert_eq!(existed.count(), number + usize::from(is_after));
        }
    }
}

#[test]
fn a_service_that_this_build_lacks_says_so() {
    for service in store::Service::ALL {
        if store::services().contains(&service) {
            continue;
        }
        let url = format!("{}://host/x", service.scheme());
        let location = Location::parse(&url).unwrap();
        let opened = store::open(&location, &Access::default(), &Conduct::default());
        let error = opened.err().unwrap();
        assert_eq!(error.trouble, Trouble::Unsupported, "{url}");
        assert!(error.said.contains(service.scheme()), "{error}");
    }
}
