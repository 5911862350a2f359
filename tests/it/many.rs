//! Destinations with many objects, with names that have every byte, and at odd addresses.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;

use bdr::disk::store::Write;

use crate::stores::{Server, run, server, with};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, noise, picture};
use crate::thinned::at;

/// A directory, as a server.
fn directory(place: &Place, name: &str) -> Server {
    Server::directory(&place.path(name))
}

fn a_place() -> Place {
    let place = Place::with_repository();
    for n in 0..20_u8 {
        place.write(&format!("dir/{n}"), &noise(3000 + usize::from(n)));
    }
    place.init();
    place
}

/// Runs bdr, and returns what it says and the most memory that it had, in KiB.
fn measured(place: &Place, server: &Server, day: i64, args: &[&str]) -> (String, u64) {
    let like = with(place, server, args);
    let file = place.path("measured");
    let mut command = std::process::Command::new("/usr/bin/time");
    command.args(["-f", "%M", "-o"]).arg(&file);
    command.arg(like.get_program()).args(like.get_args());
    command.envs(
        like.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.env("BDR_TEST_NOW", at(day));
    let output = command.output().unwrap();
    let said = format!("bdr {args:?}: {}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let most = std::fs::read_to_string(file).unwrap();
    (stdout(&output), most.trim().parse().unwrap())
}

/// Ten thousand objects that an interrupted push left, among those of a backup: every verb ends, with
/// few requests and little memory, and a prune removes them and nothing else.
#[test]
fn ten_thousand_objects_are_listed_pushed_verified_and_pruned() {
    if !std::path::Path::new("/usr/bin/time").exists() {
        println!("SKIPPED: memory with ten thousand objects (no /usr/bin/time)");
        return;
    }
    let place = a_place();
    let mut servers = vec![("file", directory(&place, "disk"))];
    servers.extend(server("s3", "many").map(|s3| ("s3", s3)));
    for (name, server) in &servers {
        let place = a_place();
        let proxy = (*name == "s3").then(|| crate::stores::before(name));
        let server = match &proxy {
            None => server.clone(),
            Some((proxy, port)) => server.at_port(*port, proxy.port),
        };
        run(&place, &server, &["remote", "add", "far", &server.url]);
        run(&place, &server, &["push"]);
        let (_, before) = measured(&place, &server, 1, &["verify", "--remote", "far"]);
        let store = server.open();
        let machines = store.names("bdr1/").unwrap();
        let machine = machines.iter().find(|name| *name != "probe/").unwrap();
        let all: Vec<usize> = (0..10_000).collect();
        std::thread::scope(|scope| {
            for part in all.chunks(1250) {
                let store = &store;
                scope.spawn(move || {
                    for n in part {
                        let hex = format!(
                            "{:064x}",
                            (*n as u128 + 1) * 0x9e37_79b9_7f4a_7c15_0000_0000
                        );
                        let hex = format!("{}{}", &hex[40..], &hex[..40]);
                        let key = format!("bdr1/{machine}objects/{}/{hex}", &hex[..2]);
                        store.put(&key, b"left", Write::CreateOnly).unwrap();
                    }
                });
            }
        });
        let mut told = Vec::new();
        let mut ask = |day: i64, args: &[&str]| {
            if let Some((proxy, _)) = &proxy {
                proxy.plan(|_, _| crate::stores::Act::Pass);
            }
            let started = std::time::Instant::now();
            let (said, memory) = measured(&place, &server, day, args);
            let requests = proxy.as_ref().map_or(0, |(proxy, _)| proxy.counted().0);
            told.push(format!(
                "{name}: {args:?}: {requests} requests, {memory} KiB, {:.1} s",
                started.elapsed().as_secs_f64()
            ));
            // Not more than 40 MiB above what it takes without them.
            assert!(
                memory < before + (40 << 10),
                "{}; before {before}",
                told.last().unwrap()
            );
            (said, requests)
        };
        let few = |requests: usize, most: usize| assert!(requests <= most, "{requests}");
        few(ask(1, &["machines", "far"]).1, 30);
        place.write("more", b"more");
        run(&place, &server, &["backup"]);
        few(ask(1, &["push"]).1, 6);
        few(ask(1, &["push", "--check"]).1, 20);
        let (said, requests) = ask(1, &["verify", "--remote", "far"]);
        few(requests, 40);
        assert!(said.contains("10"), "{said}");
        let prune = ["prune", "--remote", "far", "--yes"];
        few(ask(2, &prune).1, 40);
        let (_, requests) = ask(5, &prune);
        few(requests, 10_100);
        let mut left = BTreeSet::new();
        let listed = store.list("bdr1/", None, &mut |object| {
            left.insert(object.key);
            std::ops::ControlFlow::Continue(())
        });
        listed.unwrap();
        assert!(left.len() < 40, "{} are left", left.len());
        run(
            &place,
            &server,
            &["verify", "--remote", "far", "--level", "full"],
        );
        println!("{}", told.join("\n"));
    }
}

/// Names with each byte that a name can have, alone and among others, and as long as they can be.
fn every_byte(place: &Place) {
    let tree = place.tree();
    for byte in 1..=255_u8 {
        if byte == b'/' {
            continue;
        }
        let name = |bytes: &[u8]| tree.join(std::ffi::OsStr::from_bytes(bytes));
        if byte != b'.' {
            std::fs::write(name(&[byte]), [byte]).unwrap();
        }
        std::fs::write(name(&[b'a', byte, b'z', byte]), [byte; 3]).unwrap();
        if byte % 16 == 1 {
            let dir = name(&[b'd', byte]);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join(std::ffi::OsStr::from_bytes(&[byte; 255])), b"long").unwrap();
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&[byte, b'\n']), dir.join("l"))
                .unwrap();
        }
    }
}

#[test]
fn names_with_every_byte_come_back_from_odd_addresses() {
    let here = Place::with_repository();
    // (A `?` and a `#` have to be written as bytes.)
    let odd = "odd%20pre+fix%26=%23%3F'(),%25/%C3%BC%E6%97%A5/a";
    let mut servers = vec![("file", directory(&here, "disk").below(odd))];
    for name in [
        "s3",
        "webdav",
        "webdav-rclone",
        "sftp",
        "azblob",
        "gdrive",
        "dropbox",
        "gs",
        "b2",
    ] {
        // (wsgidav takes what follows these signs out of the name to which something is moved.)
        let odd = match name {
            "webdav" => odd.replace("%23%3F", ""),
            _ => odd.to_owned(),
        };
        servers.extend(server(name, &odd).map(|server| (name, server)));
    }
    for (name, server) in servers {
        let place = Place::with_repository();
        every_byte(&place);
        place.init();
        run(
            &place,
            &server,
            &["remote", "add", "far", &server.url, "--encrypt"],
        );
        run(&place, &server, &["push"]);
        run(&place, &server, &["verify", "--remote", "far"]);
        let config = place.json(&["config", "path"]);
        let key =
            std::path::PathBuf::from(config["path"].as_str().unwrap()).with_file_name("far.key");
        let bare = Place::with_repository();
        let out = bare.path("out");
        let from = [
            "restore",
            "latest",
            "--from",
            &server.url,
            "--identity",
            key.to_str().unwrap(),
            "--target",
            out.to_str().unwrap(),
        ];
        run(&bare, &server, &from);
        assert_same(&picture(&place.tree()), &picture(&out.join("tree")), name);
    }
}

/// A machine is called what its kernel says, and that may be anything.
#[test]
fn a_machine_with_an_odd_name_is_listed_and_restored_from() {
    let place = a_place();
    let server = directory(&place, "disk");
    let name = "büro 'x' $(id) %2F\t\u{1b}[31m;--rm";
    let line = |args: &[&str]| {
        let like = with(&place, &server, args);
        let mut command = std::process::Command::new("unshare");
        command.args([
            "--uts",
            "sh",
            "-c",
            "printf %s \"$0\" > /proc/sys/kernel/hostname; exec \"$@\"",
            name,
        ]);
        command.arg(like.get_program()).args(like.get_args());
        command.envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.output().unwrap()
    };
    let added = line(&["remote", "add", "far", &server.url]);
    if stderr(&added).contains("unshare") || stderr(&added).contains("hostname") {
        println!("SKIPPED: an odd name of a machine (no unshare, or not root)");
        return;
    }
    assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    let pushed = line(&["push"]);
    assert_eq!(pushed.status.code(), Some(0), "{}", stderr(&pushed));
    let shown = run(&place, &server, &["machines", "far"]);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&place, &server, &["--json", "machines", "far"])).unwrap();
    let id = json["data"]["machines"][0]["machine"]
        .as_str()
        .unwrap()
        .to_owned();
    let host = json["data"]["machines"][0]["host"]
        .as_str()
        .map(str::to_owned);
    let bare = Place::with_repository();
    for by in [Some(id), host].into_iter().flatten() {
        let out = bare.path(&format!("out-{}", by.len()));
        run(
            &bare,
            &server,
            &[
                "restore",
                "latest",
                "--from",
                &server.url,
                "--machine",
                &by,
                "--target",
                out.to_str().unwrap(),
            ],
        );
        assert_same(&picture(&place.tree()), &picture(&out.join("tree")), &by);
    }
}
