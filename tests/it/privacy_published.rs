//! What a remote or a registry of packages has already is not sealed, and nothing else is let through
//! by that.

#![cfg(unix)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bdr::disk::published::Published;
use bdr::privacy::{Profile, Rules, examine};

use crate::privacy::Chance;
use crate::support::Place;

/// Runs git in a directory; nothing of this machine's configuration counts.
fn git(dir: &Path, args: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c"])
        .args(["init.defaultBranch=main", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "git {args:?}: {said}");
}

/// Values that would be sealed in a file, and where those stand that are public.
fn look(file: &Path, rules: &Rules) -> (Vec<String>, Vec<String>) {
    let bytes = std::fs::read(file).unwrap();
    let name = bdr::base::path::os_to_bytes(file.as_os_str());
    let mut examined = examine(&name, &bytes, rules);
    let through = Published::default().let_through(file, &bytes, rules, &mut examined);
    let values = examined.values(&bytes);
    (
        values
            .map(|v| String::from_utf8(v.to_vec()).unwrap())
            .collect(),
        through.iter().map(|one| one.place.to_string()).collect(),
    )
}

/// A clone of a repository that has `.env` with these values, one commit for each.
fn cloned(place: &Place, values: &[&str]) -> PathBuf {
    let origin = place.path("origin.git");
    std::fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "--bare"]);
    let work = place.tree().join("work");
    git(
        &place.tree(),
        &["clone", "-q", origin.to_str().unwrap(), "work"],
    );
    git(&work, &["checkout", "-q", "-B", "main"]);
    for value in values {
        commit(&work, &format!("API_KEY={value}\n"));
    }
    git(&work, &["push", "-q", "-u", "origin", "main"]);
    work
}

fn commit(work: &Path, text: &str) {
    std::fs::write(work.join(".env"), text).unwrap();
    git(work, &["add", "-f", ".env"]);
    git(work, &["commit", "-q", "-m", "x"]);
}

#[test]
fn a_value_is_let_through_if_the_remote_has_it_and_only_then() {
    let mut chance = Chance::new(90);
    let [old, now, own] = [(); 3].map(|()| chance.text(32));
    let place = Place::with_repository();
    let work = cloned(&place, &[&old, &now]);
    let file = work.join(".env");
    let rules = Rules::default();
    let write = |text: String| std::fs::write(&file, text).unwrap();

    // The same bytes; values of this version or an older one in a file that has more; line ends.
    let (sealed, places) = look(&file, &rules);
    assert!(sealed.is_empty(), "{sealed:?}");
    assert!(
        places[0].starts_with("stands in origin/main, commit "),
        "{places:?}"
    );
    for (text, is_own) in [
        (format!("A=1\nAPI_KEY={now}\n"), false),
        (format!("API_KEY={old}\n"), false),
        (format!("API_KEY={now}\r\n"), false),
        (format!("API_KEY={now}\nDB_PASSWORD={own}\n"), true),
        (format!("API_KEY={own}\n"), true),
        // Only a part of it, or more than it.
        (format!("API_KEY={}\n", &now[..24]), true),
        (format!("API_KEY={now}{own}\n"), true),
    ] {
        write(text.clone());
        let (sealed, _) = look(&file, &rules);
        assert_eq!(sealed.len(), usize::from(is_own), "{text}: {sealed:?}");
        assert!(!sealed.contains(&now) && !sealed.contains(&old), "{text}");
    }

    // Committed here, and not pushed yet.
    commit(&work, &format!("API_KEY={own}\n"));
    assert_eq!(look(&file, &rules).0, [own.as_str()]);
    git(&work, &["branch", "-q", "local"]);
    assert_eq!(look(&file, &rules).0, [own.as_str()]);
    git(&work, &["push", "-q", "origin", "HEAD:refs/heads/other"]);
    assert!(look(&file, &rules).0.is_empty());

    // The strict profile and the setting seal all the same.
    for rules in [
        Rules::new(Profile::Strict),
        Rules {
            seal_published: true,
            ..Rules::default()
        },
    ] {
        assert_eq!(look(&file, &rules).0, [own.as_str()]);
    }
    // Another file, tracked or not, with the same value; a file that is tracked no more.
    let copy = work.join("copy.env");
    std::fs::copy(&file, &copy).unwrap();
    assert_eq!(look(&copy, &rules).0, [own.as_str()]);
    git(&work, &["rm", "-q", "--cached", ".env"]);
    git(&work, &["commit", "-q", "-m", "gone"]);
    assert_eq!(look(&file, &rules).0, [own.as_str()]);
    // Without a remote of that name a branch of one says nothing.
    git(&work, &["checkout", "-q", "-f", "main"]);
    git(&work, &["reset", "-q", "--hard", "origin/main"]);
    assert!(look(&file, &rules).0.is_empty());
    git(&work, &["config", "--remove-section", "remote.origin"]);
    assert_eq!(look(&file, &rules).0, [now]);
}

#[test]
fn shallow_clones_work_trees_and_submodules_have_what_their_remote_has() {
    let mut chance = Chance::new(91);
    let [old, now, own] = [(); 3].map(|()| chance.text(32));
    let place = Place::with_repository();
    let work = cloned(&place, &[&old, &now]);
    let rules = Rules::default();
    let url = format!("file://{}", place.path("origin.git").display());
    git(
        &place.tree(),
        &["clone", "-q", "--depth", "1", &url, "shallow"],
    );
    git(
        &work,
        &["worktree", "add", "-q", "--detach", "../beside", "HEAD"],
    );
    let outer = place.tree().join("outer");
    std::fs::create_dir(&outer).unwrap();
    git(&outer, &["init", "-q"]);
    let allow = "protocol.file.allow=always";
    git(
        &outer,
        &["-c", allow, "submodule", "add", "-q", &url, "inner"],
    );
    for dir in ["shallow", "beside", "outer/inner"] {
        let file = place.tree().join(dir).join(".env");
        let (sealed, places) = look(&file, &rules);
        assert!(sealed.is_empty() && !places.is_empty(), "{dir}: {sealed:?}");
        std::fs::write(&file, format!("API_KEY={own}\n")).unwrap();
        assert_eq!(look(&file, &rules).0, [own.as_str()], "{dir}");
    }
    // What a shallow clone does not have, it cannot say.
    let file = place.tree().join("shallow/.env");
    std::fs::write(&file, format!("API_KEY={old}\n")).unwrap();
    assert_eq!(look(&file, &rules).0, [old.as_str()]);
    // A branch behind one that does not have it any more.
    git(&work, &["branch", "-q", "behind"]);
    commit(&work, "API_KEY=\n");
    git(&work, &["push", "-q", "origin", "main"]);
    git(&work, &["checkout", "-q", "behind"]);
    assert!(look(&work.join(".env"), &rules).0.is_empty());
}

#[test]
fn objects_of_another_user_say_nothing() {
    let mut chance = Chance::new(92);
    let now = chance.text(32);
    let place = Place::with_repository();
    let work = cloned(&place, &[&now]);
    let rules = Rules::default();
    git(
        &place.tree(),
        &["clone", "-q", "--shared", "work", "shared"],
    );
    let file = place.tree().join("shared/.env");
    assert!(look(&file, &rules).0.is_empty(), "an own store is followed");
    let list = place.tree().join("shared/.git/objects/info/alternates");
    let own = std::fs::read(&list).unwrap();
    // A store that is not there, and one that goes on forever.
    for text in ["/nowhere/objects\n", "../objects\n"] {
        std::fs::write(&list, [&own[..], text.as_bytes()].concat()).unwrap();
        let (sealed, _) = look(&file, &rules);
        let wanted = usize::from(text.starts_with(".."));
        assert_eq!(sealed.len(), wanted, "{text}");
    }
    std::fs::write(&list, own).unwrap();
    let objects = work.join(".git/objects");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&objects, Some(12345), None).unwrap();
        assert_eq!(look(&file, &rules).0, [now.as_str()]);
        assert_eq!(look(&work.join(".env"), &rules).0, [now]);
    } else {
        println!("SKIPPED: only root can give an object store to another user");
    }
}

#[test]
fn a_patient_is_not_public_and_neither_is_what_stands_beside() {
    let mut chance = Chance::new(93);
    let place = Place::with_repository();
    let work = cloned(&place, &[&chance.text(32)]);
    let value = chance.text(32);
    let log =
        format!("patient name: Jane Roe, SSN: 536-22-8174, diagnosis: diabetes\napi_key={value}\n");
    for name in ["a.log", "a.txt"] {
        std::fs::write(work.join(name), &log).unwrap();
    }
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "x"]);
    git(&work, &["push", "-q", "origin", "main"]);
    for name in ["a.log", "a.txt"] {
        let bytes = log.as_bytes();
        let path = work.join(name);
        let rules = Rules::default();
        let mut found = examine(name.as_bytes(), bytes, &rules);
        let before = found.clone();
        let through = Published::default().let_through(&path, bytes, &rules, &mut found);
        let kinds: Vec<&str> = found.seals.iter().map(|(_, kind)| *kind).collect();
        match name {
            "a.log" => assert_eq!((kinds, through.len()), (vec!["record"], 1)),
            _ => assert_eq!((&found, through.len()), (&before, 0)),
        }
    }
}

/// A crate in a registry of cargo: its archive, and its files.
fn packed(registry: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let index = "index.crates.io-0123456789abcdef";
    let cache = registry.join("cache").join(index);
    std::fs::create_dir_all(&cache).unwrap();
    let out = std::fs::File::create(cache.join(format!("{name}.crate"))).unwrap();
    let gzip = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let dir = registry.join("src").join(index).join(name);
    for (file, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let member = format!("{name}/{file}");
        tar.append_data(&mut header, member, text.as_bytes())
            .unwrap();
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
    dir
}

#[test]
fn a_published_package_is_restored_whole_without_the_vault() {
    let mut chance = Chance::new(94);
    let place = Place::with_repository();
    let values: Vec<String> = (0..4).map(|_| chance.text(32)).collect();
    let line = |n: usize| format!("let client_secret = \"{}\";\n", values[n]);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        chance.text(64)
    );
    let registry = place.tree().join("registry");
    let dir = packed(
        &registry,
        "thing-1.0.0",
        &[
            ("src/lib.rs", &line(0)),
            ("tests/key.p8", &pem),
            ("src/own.rs", &line(1)),
        ],
    );
    let same = packed(&registry, "cut-1.0.0", &[("src/lib.rs", &line(2))]);
    let cut = registry.join("cache/index.crates.io-0123456789abcdef/cut-1.0.0.crate");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    // Changed here; not in the package.
    std::fs::write(dir.join("src/own.rs"), format!("{}// mine\n", line(1))).unwrap();
    std::fs::write(dir.join("src/more.rs"), line(0)).unwrap();
    std::fs::write(place.tree().join("more.rs"), line(0)).unwrap();

    place.init();
    let found = place.json(&["scan"]);
    let paths = |list: &serde_json::Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter();
        let mut all: Vec<String> = all
            .map(|one| {
                let path = Path::new(one["path"].as_str().unwrap());
                path.strip_prefix(place.tree())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        all.sort();
        all
    };
    let src = "registry/src/index.crates.io-0123456789abcdef";
    // An archive is what the registry has only if its index says so.
    let archive = "registry/cache/index.crates.io-0123456789abcdef/thing-1.0.0.crate";
    let sealed = [
        "more.rs".to_owned(),
        archive.to_owned(),
        format!("{src}/cut-1.0.0/src/lib.rs"),
        format!("{src}/thing-1.0.0/src/more.rs"),
        format!("{src}/thing-1.0.0/src/own.rs"),
    ];
    assert_eq!(paths(&found["files"]), sealed);
    let public = [
        format!("{src}/thing-1.0.0/src/lib.rs"),
        format!("{src}/thing-1.0.0/tests/key.p8"),
    ];
    assert_eq!(paths(&found["published"]), public);
    let content = std::fs::read(place.tree().join(archive)).unwrap();
    let index = "registry/index/index.crates.io-0123456789abcdef/.cache/th/in/thing";
    let digest = bdr::base::id::Digest::of(&content).to_hex();
    place.write(
        index,
        format!("1.0.0\0{{\"cksum\":\"{digest}\"}}\0").as_bytes(),
    );
    let found = place.json(&["scan"]);
    assert_eq!(paths(&found["files"]).len(), 4);
    assert_eq!(paths(&found["published"]).len(), 3);
    let lib = dir.join("src/lib.rs");
    let said = place.run(&["privacy", "why", lib.to_str().unwrap()], 0);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let wanted = "stands in thing-1.0.0.crate, which crates.io publishes";
    assert!(
        said.contains(wanted) && said.contains("stored as is"),
        "{said}"
    );

    std::fs::remove_dir_all(place.path("bdr/state/vault")).unwrap();
    let out = place.path("out");
    place.run(
        &[
            "restore",
            "--yes",
            "latest",
            "--target",
            out.to_str().unwrap(),
        ],
        3,
    );
    let read = |file: &Path| {
        let below = file.strip_prefix(place.tree()).unwrap();
        std::fs::read(out.join("tree").join(below))
    };
    for file in ["src/lib.rs", "tests/key.p8"] {
        let path = dir.join(file);
        assert_eq!(
            read(&path).unwrap(),
            std::fs::read(&path).unwrap(),
            "{file}"
        );
    }
    assert!(read(&same.join("src/lib.rs")).is_err() && read(&dir.join("src/own.rs")).is_err());

    // The setting seals it again, in files that did not change as well.
    place.configure("[privacy]\npublished = false\n");
    place.run(&["backup"], 0);
    let found = place.json(&["scan"]);
    assert_eq!(paths(&found["files"]).len(), 7);
    assert!(paths(&found["published"]).is_empty());
    std::fs::remove_dir_all(place.path("bdr/state/vault")).unwrap();
    let again = place.path("again");
    place.run(
        &[
            "restore",
            "--yes",
            "latest",
            "--target",
            again.to_str().unwrap(),
        ],
        3,
    );
    assert!(!again.join("tree").join(&public[0]).exists());
}
