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

    // What was done is in the past.
    for (later, args, past) in [
        (3, vec!["remote", "show", "disk"], "3 h ago: 1 snapshot"),
        (
            3,
            vec!["remote", "show", "disk"],
            "create-only (tried 3 h ago)",
        ),
        (72, vec!["remote", "list"], "pushed 3 days ago"),
        (3, vec!["remote", "list"], "pushed 3 h ago"),
    ] {
        let later = (crate::support::now() + chrono::TimeDelta::hours(later)).to_rfc3339();
        let mut bdr = place.bdr(&args);
        let words = stdout(&bdr.env("BDR_TEST_NOW", later).output().unwrap());
        assert!(words.contains(past), "{args:?}: {words}");
    }

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
        (vec!["disk", ""], 2, "bdr remote services"),
        (vec!["disk", "x://host/y"], 2, "bdr remote services"),
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
/// What status and a prune say to do can be typed as it is.
#[test]
fn what_to_do_about_a_destination_names_it() {
    let place = place();
    let disk = place.path("disk");
    let url = disk.to_str().unwrap();
    place.run(&["remote", "add", "disk", url], 0);
    place.run(&["push"], 0);
    let prune = ["prune", "--remote", "disk", "--keep-last", "1", "--yes"];
    for (given, typed) in [("disk", "disk".to_owned()), (url, format!("file://{url}"))] {
        let said = stderr(&place.run(&["clone", given], 2));
        let typed = if given == "disk" {
            typed
        } else {
            "disk".to_owned()
        };
        assert!(said.contains(&format!("bdr pull {typed} adds")), "{said}");
    }
    let other = Place::with_repository();
    other.write("b.txt", b"b");
    other.init();
    let said = stderr(&other.run(&["pull", url], 2));
    let wanted = format!("bdr restore --from file://{url} brings");
    assert!(said.contains(&wanted), "{said}");
    // Something is not as it was written.
    let files = walkdir::WalkDir::new(&disk).into_iter().flatten();
    let mut objects: Vec<_> = files
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.is_file() && path.to_str().unwrap().contains("/objects/"))
        .collect();
    objects.sort();
    let object = std::fs::read(&objects[0]).unwrap();
    std::fs::write(&objects[0], b"cut").unwrap();
    place.write("a.txt", &crate::support::noise(5000));
    place.run_at("2036-01-01T00:00:00Z", &["backup", "--full"], 0);
    let output = place.run_at("2036-01-01T00:00:00Z", &prune, 3);
    let said = stderr(&output) + &crate::support::cli::stdout(&output);
    assert!(said.contains("bdr push disk --check"), "{said}");
    std::fs::write(&objects[0], object).unwrap();
    // Somebody else writes there.
    let records = objects[0].ancestors().find(|dir| dir.ends_with("objects"));
    let records = records.unwrap().with_file_name("pushes");
    let record = std::fs::read_dir(&records).unwrap().next();
    let record = record.unwrap().unwrap().path();
    let planted = records.join("0000000009-01M0000000000000000000000A");
    std::fs::copy(record, planted).unwrap();
    place.run_at("2036-01-02T00:00:00Z", &["push"], 0);
    let output = place.run_at("2036-01-02T00:00:00Z", &["status"], 0);
    let said = crate::support::cli::stdout(&output);
    assert!(said.contains("fix: bdr verify --remote disk\n"), "{said}");
    assert!(!said.contains("NAME"), "{said}");
}

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

/// What is pushed to a directory is never part of what is backed up, however a source is added.
#[test]
fn a_source_leaves_out_where_backups_are_pushed_to() {
    let place = place();
    let home = place.path("home");
    for dir in ["disk", "deep/d[1]s*k", "notes"] {
        std::fs::create_dir_all(home.join(dir)).unwrap();
        std::fs::write(home.join(dir).join("file"), "x").unwrap();
    }
    let deep = home.join("deep/d[1]s*k");
    place.run(
        &["remote", "add", "disk", home.join("disk").to_str().unwrap()],
        0,
    );
    place.run(&["remote", "add", "deep", deep.to_str().unwrap()], 0);
    place.run(&["push"], 0);
    // Nothing advises to back it up.
    let mut status = place.bdr(&["status"]);
    let words = stdout(&status.env("HOME", &home).output().unwrap());
    assert!(
        words.contains("~/notes") && !words.contains("~/disk"),
        "{words}"
    );
    for below in ["disk", "disk/bdr1"] {
        let refused = place.run(&["add", home.join(below).to_str().unwrap()], 2);
        assert!(stderr(&refused).contains("`disk`"), "{}", stderr(&refused));
    }
    let added = stdout(&place.run(&["add", home.to_str().unwrap(), "--as", "all"], 0));
    assert!(added.contains("leaves out /disk"), "{added}");
    place.run(&["backup"], 0);
    let listed = stdout(&place.run(&["ls", "latest"], 0));
    assert!(listed.contains("all/notes/file"), "{listed}");
    assert!(!listed.contains("bdr1"), "{listed}");
    place.run(&["push"], 0);
}

/// A bare machine hears from nobody else what a backup had not read.
#[test]
fn a_restore_says_what_its_backup_could_not_read() {
    let place = Place::of_a_user();
    place.sh_as_user("mkdir shut ../disk; echo x > shut/in; echo y > open; chmod 000 shut");
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 3);
    let disk = place.path("disk");
    let disk = disk.to_str().unwrap();
    place.run_as_user(&["remote", "add", "disk", disk], 0);
    place.run_as_user(&["push"], 0);
    let into = place.path("back");
    let into = into.to_str().unwrap();
    let from = ["restore", "latest", "--from", disk, "--target", into];
    let preview = place.run_as_user(&[&from[..], &["--dry-run"]].concat(), 0);
    assert!(preview.contains("not whole in this backup"), "{preview}");
    let done = place.run_as_user(&from, 0);
    assert!(
        done.contains("not whole in this backup") && done.contains("shut"),
        "{done}"
    );
    let one = place.run_as_user(
        &[
            "restore",
            "latest",
            "tree/open",
            "--from",
            disk,
            "--dry-run",
        ],
        0,
    );
    assert!(!one.contains("not whole"), "{one}");
    let data = place.run_as_user(&[&from[..], &["--dry-run", "--json"]].concat(), 0);
    assert!(data.contains(r#""absent":[{"#), "{data}");
    place.sh_as_user("chmod 700 shut");
}

/// Where the disk is that was there when the destination was added, is known before the first push too: nothing is
/// written below the place where it is usually mounted.
#[test]
fn a_disk_that_is_away_is_not_filled_below_its_place() {
    for (options, pushed) in [(&[][..], false), (&[], true), (&["--passphrase"], true)] {
        let place = place();
        let disk = place.path("disk");
        let words = place.path("words");
        std::fs::write(&words, "four horses stapled a battery").unwrap();
        let (url, words) = (disk.to_str().unwrap(), words.to_str().unwrap());
        let mut add = vec!["remote", "add", "first", url];
        if !options.is_empty() {
            add.extend(options);
            add.extend(["--passphrase-file", words]);
        }
        place.run(&add, 0);
        place.run(&["remote", "rename", "first", "disk"], 0);
        if pushed {
            place.run(&["push", "disk"], 0);
        }
        std::fs::rename(&disk, place.path("away")).unwrap();
        std::fs::create_dir(&disk).unwrap();
        place.write("new", b"new");
        place.run(&["backup"], 0);
        for _ in 0..2 {
            let refused = stderr(&place.run(&["push", "disk"], 1));
            assert!(refused.contains("not mounted"), "{refused}");
            assert!(
                std::fs::read_dir(&disk).unwrap().next().is_none(),
                "{options:?}"
            );
        }
        let mark = || {
            let status = stdout(&place.run(&["status"], 0));
            let line = status
                .lines()
                .find(|line| line.contains("to disk "))
                .unwrap();
            line.split_whitespace().nth(2).unwrap().to_owned()
        };
        assert_eq!(mark(), "!");
        std::fs::remove_dir(&disk).unwrap();
        std::fs::rename(place.path("away"), &disk).unwrap();
        place.run(&["push", "disk"], 0);
        assert_eq!(mark(), "+");
        // On purpose.
        std::fs::remove_dir_all(&disk).unwrap();
        std::fs::create_dir(&disk).unwrap();
        place.run(&["push", "disk", "--check"], 0);
        place.run(&["verify", "--remote", "disk"], 0);
    }
}

/// A server that answers everything with one status, until the test ends.
fn answering(status: &'static str) -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                while let Ok(1..) = stream.read(&mut buffer) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Where credentials are missing or wrong, what to set is named as it can be typed.
#[test]
fn credentials_that_are_missing_or_wrong_are_named() {
    let place = place();
    let url = format!("webdav://me@{}/x", answering("401 Unauthorized"));
    let add = ["remote", "add", "nas-2", &url];
    let said = stderr(&place.run(&add, 1));
    assert!(said.contains("set BDR_REMOTE_NAS_2_PASSWORD"), "{said}");
    let wrong = |args: &[&str], name: &str| {
        let mut bdr = place.bdr(args);
        stderr(&bdr.env(name, "hunter2").output().unwrap())
    };
    let said = wrong(&add, "BDR_REMOTE_NAS_2_PASSWORD");
    assert!(
        said.contains("value of BDR_REMOTE_NAS_2_PASSWORD"),
        "{said}"
    );
    place.run(&["remote", "add", "nas-2", &url, "--no-test"], 0);
    let named = "set BDR_REMOTE_NAS_2_PASSWORD";
    for args in [
        &["push"][..],
        &["remote", "test", "nas-2"],
        &["list", "--from", "nas-2"],
        &["clone", "nas-2", "--repository", "other"],
    ] {
        let said = stderr(&place.run(args, 1));
        assert!(said.contains(named), "{args:?}: {said}");
    }
    let said = stderr(&place.run(&["list", "--from", &url.replace("/x", "/y")], 1));
    assert!(said.contains("set BDR_REMOTE_PASSWORD"), "{said}");
    // Variables have the name of the destination, and nobody else renames them.
    let mut bdr = place.bdr(&["remote", "rename", "nas-2", "far"]);
    let renamed = bdr.env("BDR_REMOTE_NAS_2_PASSWORD", "hunter2");
    let renamed = stdout(&renamed.output().unwrap());
    assert!(
        renamed.contains("BDR_REMOTE_NAS_2_PASSWORD, too: BDR_REMOTE_FAR_PASSWORD"),
        "{renamed}"
    );
}

/// Every error says something.
#[cfg(feature = "remote-s3")]
#[test]
fn an_answer_that_says_nothing_is_an_error_that_does() {
    let place = place();
    let endpoint = answering("201 Created");
    let url = format!("s3://bucket/x?endpoint=http://{endpoint}&region=us-east-1");
    let mut bdr = place.bdr(&["list", "--from", &url]);
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let said = stderr(&bdr.envs(keys.map(|key| (key, "x"))).output().unwrap());
    assert!(said.contains("makes no sense"), "{said}");
}

/// A part of a repository is not called a foreign directory that should be emptied.
#[test]
fn after_an_interrupted_clone_it_is_said_how_to_go_on() {
    let place = place();
    let disk = place.path("disk");
    let disk = disk.to_str().unwrap();
    place.run(&["remote", "add", "disk", disk], 0);
    place.run(&["push"], 0);
    let bare = Place::with_repository();
    let repository = bare.path("bdr/repository");
    std::fs::create_dir_all(repository.join("packs")).unwrap();
    let id = place.json(&["clone", disk, "--dry-run", "--repository", "none"])["repository"].take();
    let marker = repository.join(bdr::remote::clone::MARKER);
    std::fs::write(marker, id.as_str().unwrap()).unwrap();
    for args in [&["list"][..], &["init", "--yes"]] {
        let said = stderr(&bare.run(args, 10));
        assert!(
            said.contains("the same bdr clone again"),
            "{args:?}: {said}"
        );
    }
    bare.run(&["clone", disk], 0);
    bare.run(&["list"], 0);
    // Nor is a lost repository begun anew while there is one elsewhere.
    std::fs::remove_dir_all(place.path("bdr/repository")).unwrap();
    let said = stderr(&place.run(&["list"], 10));
    assert!(said.contains("bdr clone disk"), "{said}");
    place.run(&["clone", "disk"], 0);
    place.run(&["list"], 0);
}

/// Who checks a place of another machine cannot send anything again.
#[test]
fn what_is_damaged_is_sent_again_by_the_machine_that_has_it() {
    let place = place();
    let disk = place.path("di$sk");
    let url = disk.to_str().unwrap();
    place.run(&["remote", "add", "disk", url], 0);
    place.run(&["push"], 0);
    let objects = walkdir::WalkDir::new(disk.join("bdr1"))
        .into_iter()
        .flatten();
    let mut records = objects.filter(|entry| entry.path().parent().unwrap().ends_with("pushes"));
    let bare = Place::with_repository();
    let said = stderr(&bare.run(&["list", "--from", url, "--machine", "nobody"], 2));
    assert!(said.contains("bdr machines 'file://"), "{said}");
    let record = records.next().unwrap().into_path();
    let mut bytes = std::fs::read(&record).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let _ = std::fs::remove_file(&record);
    std::fs::write(&record, bytes).unwrap();
    let own = stdout(&place.run(&["verify", "--remote", "disk"], 4));
    assert!(own.contains("bdr push disk --check"), "{own}");
    let other = stdout(&bare.run(&["verify", "--remote", url], 4));
    assert!(
        other.contains("on the machine that pushed it: bdr push NAME"),
        "{other}"
    );
    assert!(
        !other.contains("bdr push /") && !other.contains("bdr push file"),
        "{other}"
    );
}
