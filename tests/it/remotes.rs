//! `bdr remote`: destinations by name.

use serde_json::Value;

use crate::support::Place;
use crate::support::cli::{stderr, stdout};

fn place() -> Place {
    let place = Place::with_repository();
    place.init();
    place
}

#[test]
fn a_destination_is_added_tried_shown_renamed_and_removed() {
    let place = place();
    let disk = place.path("disk");
    let url = format!("file://{}", disk.display());
    let added = stdout(&place.run(&["remote", "add", "disk", disk.to_str().unwrap()], 0));
    assert!(
        added.contains("bdr push disk") && added.contains(&url),
        "{added}"
    );
    assert!(disk.is_dir(), "adding makes the directory");
    let left: Vec<_> = std::fs::read_dir(disk.join("bdr1/probe"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "nothing is left of the attempt");
    let again = place.run(&["remote", "add", "disk", "file:///elsewhere"], 2);
    assert!(stderr(&again).contains("already"), "{}", stderr(&again));

    let tested = place.json(&["remote", "test", "disk"]);
    assert_eq!(tested["level"], "create-only");
    assert_eq!(tested["delete"], "done");
    place.run(&["push", "disk"], 0);
    let shown = place.json(&["remote", "show", "disk"]);
    assert_eq!(shown["level"], "create-only");
    assert_eq!(shown["encrypted"], false);
    assert!(shown["pushed"].is_string(), "{shown}");
    let words = stdout(&place.run(&["remote", "show", "disk"], 0));
    assert!(words.contains("create-only (tried"), "{words}");

    let status = place.json(&["status"]);
    assert_eq!(status["remotes"][0]["level"], "create-only");

    place.run(&["remote", "rename", "disk", "usb"], 0);
    place.run(&["remote", "show", "disk"], 2);
    let renamed = place.json(&["remote", "show", "usb"]);
    assert_eq!(renamed["pushed"], shown["pushed"], "what is known follows");
    assert_eq!(renamed["level"], "create-only");
    let nothing = place.json(&["push", "usb"]);
    assert_eq!(nothing["remotes"][0]["push"], Value::Null, "{nothing}");

    let removed = stdout(&place.run(&["remote", "remove", "usb"], 0));
    assert!(removed.contains("stays"), "{removed}");
    assert_eq!(
        place.json(&["remote", "list"])["remotes"],
        serde_json::json!([])
    );
    assert!(disk.join("bdr1").is_dir(), "what was pushed stays");
}

/// What cannot work is refused before anything is written.
#[test]
fn a_destination_that_does_not_work_is_not_added() {
    let place = place();
    std::fs::write(place.path("file"), "x").unwrap();
    let before = std::fs::read(place.path("bdr/config.toml")).ok();
    let inside = format!("{}/bdr", place.path("file").display());
    for (args, code, word) in [
        (vec!["disk", &inside], 1, "hint:"),
        (vec!["disk", "ftp://host/x"], 2, "bdr remote services"),
        (vec!["disk", "sftp://me:hunter2@host/x"], 2, "BDR_REMOTE_"),
        (vec!["Disk", "file:///x"], 2, "small letters"),
        (vec!["disk", "s3://b?colour=red"], 2, "region"),
        (
            vec!["disk", "file:///x", "--recipient", "age1nonsense"],
            2,
            "age1nonsense",
        ),
        (
            vec!["disk", "webdav://127.0.0.1:1/x", "--no-encryption"],
            1,
            "hint:",
        ),
    ] {
        let mut line = vec!["remote", "add"];
        line.extend(&args);
        let output = place.bdr(&line).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(
            said.contains(word) && !said.contains("hunter2"),
            "{args:?}: {said}"
        );
    }
    assert_eq!(std::fs::read(place.path("bdr/config.toml")).ok(), before);
    assert_eq!(
        place.json(&["remote", "list"])["remotes"],
        serde_json::json!([])
    );
}

/// Everywhere but in a directory, what is pushed is encrypted; the secret half is written once.
#[test]
fn a_destination_elsewhere_gets_a_key_of_its_own() {
    let place = place();
    let add = [
        "remote",
        "add",
        "far",
        "sftp://nobody@127.0.0.1:1/x",
        "--no-test",
    ];
    let added = stdout(&place.run(&add, 0));
    assert!(
        added.contains("far.key") && added.contains("copy it"),
        "{added}"
    );
    let config = place.json(&["config", "path"]);
    let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
    let key = config.with_file_name("far.key");
    let secret = std::fs::read_to_string(&key).unwrap();
    assert!(secret.contains("AGE-SECRET-KEY-1"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let shown = place.json(&["remote", "show", "far"]);
    let recipient = shown["recipients"][0].as_str().unwrap();
    assert!(secret.contains(recipient));
    let text = std::fs::read_to_string(config).unwrap();
    assert!(!text.contains("AGE-SECRET"), "{text}");
    // A key that opens backups is never written over.
    place.run(&["remote", "remove", "far"], 0);
    let again = stderr(&place.run(&add, 2));
    assert!(again.contains("far.key"), "{again}");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), secret);
}

/// What is typed at the questions is kept where only this user can read it, follows a new name, and is
/// forgotten with the destination.
#[cfg(unix)]
#[test]
fn credentials_are_asked_for_and_kept_out_of_the_configuration() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let add = [
        "bdr",
        "remote",
        "add",
        "dav",
        "webdav://me@127.0.0.1:1/x",
        "--no-test",
        "--yes",
    ];
    let mut terminal = crate::support::terminal::Terminal::start_echoing(&place, &add);
    terminal.expect("password");
    terminal.wait_for_secret();
    terminal.type_in("hunter2-secret\r");
    terminal.expect("bearer token");
    terminal.wait_for_secret();
    terminal.type_in("\r");
    let said = terminal.expect("bdr push dav");
    assert!(!said.contains("hunter2"), "{said}");
    // The same again asks for others; who presses Enter only keeps these.
    let again = |password: &str, shows: &str| {
        let mut terminal = crate::support::terminal::Terminal::start_echoing(&place, &add);
        for answer in [password, ""] {
            terminal.wait_for_secret();
            terminal.type_in(&format!("{answer}\r"));
            std::thread::yield_now();
            terminal.expect(match answer.is_empty() {
                true => shows,
                false => "bearer token",
            });
        }
    };
    again("hunter3-secret", "bdr push dav");
    again("hunter2-secret", "bdr push dav");
    let output = place.run(&add[1..], 2);
    let said = stderr(&output);
    assert!(said.contains("BDR_REMOTE_DAV_PASSWORD"), "{said}");
    let shown = place.json(&["remote", "show", "dav"]);
    let config = place.json(&["config", "path"]);
    let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
    assert!(
        !std::fs::read_to_string(&config)
            .unwrap()
            .contains("hunter2")
    );
    // A machine without a keychain: a file of this user's alone.
    if shown["credentials"] == "file" {
        let file = |name: &str| place.path(&format!("bdr/state/remotes/{name}.credentials"));
        let mode = file("dav").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        place.run(&["remote", "rename", "dav", "cloud"], 0);
        assert!(!file("dav").exists());
        let kept = std::fs::read_to_string(file("cloud")).unwrap();
        assert!(kept.contains("hunter2-secret"));
        place.run(&["remote", "remove", "cloud"], 0);
        assert!(!file("cloud").exists());
    } else {
        assert_eq!(shown["credentials"], "keychain");
        place.run(&["remote", "remove", "dav"], 0);
    }
}

#[test]
fn the_services_of_this_build_are_listed() {
    let place = place();
    let found = place.json(&["remote", "services"]);
    let services = found["services"].as_array().unwrap();
    let schemes: Vec<&str> = services
        .iter()
        .map(|s| s["scheme"].as_str().unwrap())
        .collect();
    for scheme in [
        "file", "s3", "gs", "azblob", "b2", "sftp", "webdav", "webdavs", "gdrive", "dropbox",
    ] {
        assert!(schemes.contains(&scheme), "{scheme}");
    }
    for service in services {
        let always = ["file", "sftp", "webdav", "webdavs", "gdrive", "dropbox"];
        let always = always.contains(&service["scheme"].as_str().unwrap());
        assert!(service["built"] == true || !always);
        assert_eq!(service["feature"].is_null(), always);
    }
    place.run(&["remote", "services"], 0);
}

#[test]
fn a_policy_is_printed_where_one_is_known() {
    let place = place();
    place.configure(
        "[remote.aws]\nurl = \"s3://bucket/laptop?region=eu-west-1\"\nencrypt = false\n\
         [remote.disk]\nurl = \"file:///mnt\"\n",
    );
    let policy = stdout(&place.run(&["remote", "test", "aws", "--policy"], 0));
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let add = &policy["Statement"][0];
    assert_eq!(add["Resource"], "arn:aws:s3:::bucket/laptop/*");
    assert_eq!(add["Condition"]["Null"]["s3:if-none-match"], "false");
    assert!(!policy.to_string().contains("Delete"));
    let none = place.run(&["remote", "test", "disk", "--policy"], 2);
    assert!(stderr(&none).contains("snapshots"), "{}", stderr(&none));
}

/// A store refuses what is dated wrongly; that is no matter of credentials.
#[cfg(feature = "remote")]
#[test]
fn a_clock_that_is_an_hour_off_is_named() {
    let Some(server) = crate::stores::server("s3", "clock") else {
        return;
    };
    if std::process::Command::new("faketime")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("SKIPPED: a clock that is wrong (no faketime)");
        return;
    }
    let place = place();
    for offset in ["-1h", "+1h"] {
        let like = place.bdr(&["remote", "add", "far", &server.url, "--no-encryption"]);
        let mut command = std::process::Command::new("faketime");
        command
            .args(["-f", offset])
            .arg(like.get_program())
            .args(like.get_args());
        command.envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        for (field, value) in &server.fields {
            let field = field.to_ascii_uppercase().replace('-', "_");
            command.env(format!("BDR_REMOTE_FAR_{field}"), value);
        }
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("RequestTimeTooSkewed") && said.contains("set this machine's clock"),
            "{said}"
        );
        assert!(!said.contains("&#"), "{said}");
    }
}

#[test]
fn a_place_that_would_be_no_backup_is_refused() {
    let place = Place::with_repository();
    place.write("a.txt", b"one\n");
    place.init();
    let (store, tree) = (place.store(), place.tree());
    let link = place.path("link");
    std::os::unix::fs::symlink(&tree, &link).unwrap();
    let refused = [
        (store.clone(), "in the repository itself"),
        (store.join("below"), "in the repository itself"),
        (tree.clone(), "is in the source `tree`"),
        (tree.join("x/y"), "is in the source `tree`"),
        (link.join("x"), "is in the source `tree`"),
    ];
    for (path, why) in &refused {
        let output = place.run(&["remote", "add", "disk", path.to_str().unwrap()], 2);
        let said = stderr(&output);
        assert!(said.contains(why), "{}: {said}", path.display());
        assert!(!tree.join("x").exists());
    }
    // What the hint says works.
    let inside = tree.join("x/y");
    let output = place.run(&["remote", "add", "disk", inside.to_str().unwrap()], 2);
    let said = stderr(&output);
    let command = said.split("first: bdr ").nth(1).unwrap().trim();
    place.run(&command.split(' ').collect::<Vec<_>>(), 0);
    place.run(&["remote", "add", "disk", inside.to_str().unwrap()], 0);
    place.run(&["push"], 0);
    // The same place is no second copy, by whatever path.
    let again = link.join("x/y");
    let output = place.run(&["remote", "add", "two", again.to_str().unwrap()], 2);
    assert!(stderr(&output).contains("`disk` pushes to that place already"));
    // Nor does a push follow what was written by hand.
    let url = format!("file://{}", tree.join("hand").display());
    std::fs::create_dir(tree.join("hand")).unwrap();
    place.configure(&format!(
        "[remote.hand]\nurl = \"{url}\"\nencrypt = false\n"
    ));
    let output = place.run(&["push", "hand"], 2);
    assert!(
        stderr(&output).contains("is in the source `tree`"),
        "{output:?}"
    );
    assert_eq!(std::fs::read_dir(tree.join("hand")).unwrap().count(), 0);
}

/// What a hint says can be typed as it is.
#[test]
fn hints_name_the_destination() {
    let place = place();
    let disk = place.path("disk");
    place.run(&["remote", "add", "disk", disk.to_str().unwrap()], 0);
    place.run(&["push"], 0);
    let machine = std::fs::read_dir(disk.join("bdr1")).unwrap();
    let machine = machine.map(|entry| entry.unwrap().path());
    let part = machine
        .into_iter()
        .find(|path| path.join("machine.json").exists());
    let part = part.unwrap();
    // Somebody named a directory that lies deeper.
    for deeper in [part.clone(), disk.join("bdr1")] {
        let output = place.run(&["list", "--from", deeper.to_str().unwrap()], 2);
        let said = stderr(&output);
        let wanted = format!(
            "name the directory that has `bdr1`: file://{}\n",
            disk.display()
        );
        assert!(said.contains(&wanted), "{said}");
    }
    // What to type next is about the same place.
    let bare = Place::with_repository();
    for verb in [
        &["cat"][..],
        &["history"],
        &["restore", "--target", "out"],
        &["ls", "latest"],
    ] {
        let args = [verb, &["no.txt", "--from", disk.to_str().unwrap()]].concat();
        let said = stderr(&bare.run(&args, 1));
        let hint = said.split("hint: ").nth(1).unwrap().trim();
        let is_command = hint.starts_with("bdr ") && !hint.contains(';');
        let wanted = format!(" --from {}", disk.display());
        assert!(!is_command || hint.ends_with(&wanted), "{args:?}: {hint}");
    }
    let record = std::fs::read_dir(part.join("pushes")).unwrap().next();
    let record = record.unwrap().unwrap().path();
    std::fs::write(&record, b"no record").unwrap();
    let from = format!("file://{}", disk.display());
    for (place_word, command) in [("disk", "disk"), (&*from, &*from)] {
        let bare = Place::with_repository();
        let on = if place_word == "disk" { &place } else { &bare };
        let output = on.run(&["list", "--from", place_word], 4);
        let said = stderr(&output);
        assert!(
            said.contains(&format!("bdr verify --remote {command} ")),
            "{said}"
        );
        assert!(!said.contains("NAME"), "{said}");
    }
    std::fs::remove_dir_all(&disk).unwrap();
    let said = stderr(&place.run(&["push", "disk"], 1));
    assert!(said.contains("bdr remote show disk"), "{said}");
    // What has no name yet is called by its address.
    let file = place.path("file");
    std::fs::write(&file, b"x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let output = place.run(&["remote", "add", "other", path.to_str().unwrap()], 1);
        let said = stderr(&output);
        assert!(
            said.contains("is no directory, or is below a file"),
            "{said}"
        );
        assert!(
            !said.contains("remote show") && !said.contains("NAME"),
            "{said}"
        );
    }
}

#[cfg(unix)]
#[test]
fn what_could_not_be_typed_again_or_be_secret_is_no_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let disk = place.path("disk");
    let url = disk.to_str().unwrap();
    let two = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJBnxiXeHKdXb0hP8WmV2cxKQZ3FDsjU3cGZ3vr1XXXX\nAGE-SECRET-KEY-1";
    let output = place.run(&["remote", "add", "disk", url, "--recipient", two], 2);
    assert!(
        stderr(&output).contains("a recipient is one line"),
        "{output:?}"
    );
    let mut command = place.bdr(&["remote", "add", "disk", url, "--passphrase", "--yes"]);
    command.env("BDR_REMOTE_PASSPHRASE", "one two three four\nfive");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("a line break"), "{output:?}");
    // Nothing is left of it.
    assert!(!place.path("bdr/disk.key").exists());
    place.run(&["remote", "add", "disk", url, "--encrypt"], 0);
    let key = place.path("bdr/disk.key");
    let said = stdout(&place.bdr(&["doctor"]).output().unwrap());
    assert!(!said.contains("chmod"), "{said}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = stdout(&place.bdr(&["doctor"]).output().unwrap());
    assert!(
        said.contains(&format!("chmod 600 {}", key.display())),
        "{said}"
    );
}
