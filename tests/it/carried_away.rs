//! Two machines push to a real server and are gone; a third brings both back bit for bit.

use crate::backup::odd_tree;
use crate::stores::{Server, run, server, with};
use crate::support::cli::stderr;
use crate::support::{Place, assert_same, noise, picture};

/// Returns a machine that has worked and pushed, and was there.
fn machine(server: &Server, seed: u8) -> Place {
    let place = Place::with_repository();
    odd_tree(&place);
    place.write("own", &[seed; 1000]);
    place.write("picture", &noise(300_000 + usize::from(seed)));
    place.init();
    run(&place, server, &["remote", "add", "far", &server.url]);
    run(&place, server, &["remote", "test", "far"]);
    run(&place, server, &["push"]);
    for day in 0..3_u8 {
        place.write(&format!("days/{day}"), &[seed ^ day; 5000]);
        run(&place, server, &["backup"]);
        run(&place, server, &["guard", "--", "rm", "-f", "empty"]);
        run(&place, server, &["push"]);
    }
    run(&place, server, &["backup"]);
    run(&place, server, &["push"]);
    place
}

fn brings_both_back(name: &str) {
    let Some(server) = server(name, &format!("carried-{name}")) else {
        return;
    };
    let mut lost = Vec::new();
    for seed in 0..2 {
        let place = machine(&server, seed);
        let config = place.json(&["config", "path"]);
        let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
        let key = std::fs::read(config.with_file_name("far.key")).unwrap();
        let own = run(&place, &server, &["--json", "machines", "far"]);
        let all: serde_json::Value = serde_json::from_str(&own).unwrap();
        let machines = all["data"]["machines"].as_array().unwrap().iter();
        let own = machines.filter(|machine| machine["is_this"] == true);
        let ids: Vec<String> = own
            .map(|m| m["machine"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), 1, "{name}: {all}");
        lost.push((ids[0].clone(), picture(&place.tree()), place.tree(), key));
        // The machine is gone, with all that it had.
        drop(place);
    }
    let third = Place::with_repository();
    for (id, before, tree, key) in &lost {
        let identity = third.path("key.txt");
        std::fs::write(&identity, key).unwrap();
        let identity = identity.to_str().unwrap();
        let from = [
            "--from",
            &server.url,
            "--machine",
            id,
            "--identity",
            identity,
        ];
        let listed = run(&third, &server, &[&["list"][..], &from].concat());
        assert!(listed.contains("backup"), "{name}: {listed}");
        // Without a repository, and with one.
        let out = third.path(&format!("out-{id}"));
        let target = ["restore", "latest", "--target", out.to_str().unwrap()];
        run(&third, &server, &[&target[..], &from].concat());
        assert_same(before, &picture(&out.join("tree")), name);
        let own = tree.join("own");
        let shown = run(
            &third,
            &server,
            &[&["cat", "latest", own.to_str().unwrap()][..], &from].concat(),
        );
        assert_eq!(shown.len(), 1000, "{name}");
        let repository = third.path(&format!("repository-{id}"));
        let at = ["--repository", repository.to_str().unwrap()];
        let clone = [
            "clone",
            &server.url,
            "--machine",
            id,
            "--identity",
            identity,
        ];
        run(&third, &server, &[&clone[..], &at].concat());
        run(&third, &server, &[&["verify"][..], &at].concat());
        let out = third.path(&format!("again-{id}"));
        let target = ["restore", "latest", "--target", out.to_str().unwrap()];
        run(&third, &server, &[&target[..], &at].concat());
        assert_same(before, &picture(&out.join("tree")), name);
    }
    // What the first did comes into a source of the third, too. Not all of its odd files can.
    let (id, _, _, key) = &lost[0];
    third.init();
    let identity = third.path("key.txt");
    std::fs::write(&identity, key).unwrap();
    let identity = identity.to_str().unwrap();
    let sync = [
        "sync",
        "tree",
        "--with",
        id,
        "--from",
        &server.url,
        "--yes",
        "--identity",
        identity,
    ];
    let output = with(&third, &server, &sync).output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{name}: {}",
        stderr(&output)
    );
    let synced = std::fs::read(third.tree().join("own")).unwrap();
    assert_eq!(synced, [0; 1000], "{name}");
    let whole = ["verify", "--remote", &server.url, "--machine", &lost[0].0];
    run(&third, &server, &whole);
}

#[test]
fn from_s3() {
    brings_both_back("s3");
}

#[test]
fn from_an_s3_without_conditions() {
    brings_both_back("s3-lax");
}

#[test]
fn from_a_locked_bucket() {
    brings_both_back("s3-locked");
}

#[test]
fn from_azure() {
    brings_both_back("azblob");
}

#[test]
fn from_webdav() {
    brings_both_back("webdav");
}

#[test]
fn from_another_webdav() {
    brings_both_back("webdav-rclone");
}

#[test]
fn from_google_drive() {
    brings_both_back("gdrive");
}

#[test]
fn from_dropbox() {
    brings_both_back("dropbox");
}

#[test]
fn from_google_cloud_storage() {
    brings_both_back("gs");
}

#[test]
fn from_backblaze() {
    brings_both_back("b2");
}

#[test]
fn from_sftp() {
    brings_both_back("sftp");
}

/// Whoever has the credentials of a machine tries everything with what it pushed to a bucket with
/// Object Lock: nothing is destroyed.
#[test]
fn nothing_that_was_pushed_to_a_locked_bucket_can_be_destroyed() {
    use bdr::disk::store::{Trouble, Write};
    let Some(server) = server("s3-locked", "thief") else {
        return;
    };
    let place = machine(&server, 7);
    drop(place);
    let store = server.open();
    let mut keys = Vec::new();
    let listed = store.list("bdr1/", None, &mut |object| {
        keys.push(object.key.clone());
        std::ops::ControlFlow::Continue(())
    });
    listed.unwrap();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys.iter().filter(|key| !key.starts_with("bdr1/probe/")) {
        let before = store.get(key, None).unwrap();
        let again = store.put(key, b"mine", Write::CreateOnly).unwrap_err();
        assert_eq!(again.trouble, Trouble::Exists, "{key}");
        assert_eq!(store.get(key, None).unwrap(), before);
        // What hides it does not destroy it.
        let _ = store.put(key, b"mine", Write::Plain);
        let _ = store.remove(key);
        let _ = store.remove_together(&[key.clone(), format!("{key}-too")]);
        let gone = store.remove_versions(key).unwrap_err();
        let is_kept = matches!(gone.trouble, Trouble::Retained | Trouble::Forbidden);
        assert!(is_kept, "{key}: {gone}");
    }
}
