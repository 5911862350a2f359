//! Where secret keys are: with an ordinary user, a person at a terminal, in a keychain, in hardware.

use std::process::Command;

use bdr::remote::crypt::Generated;
use serde_json::Value;

use super::{Machine, has};
use crate::support::Place;
use crate::support::cli::{stderr, stdout};

/// A destination of an ordinary user: files of theirs alone, and the same commands.
#[cfg(unix)]
#[test]
fn an_ordinary_user_has_keys_of_their_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::of_a_user();
    place.sh_as_user("echo hello > plain.txt; mkdir ../bdr ../far 2>/dev/null || true");
    if rustix::process::geteuid().is_root() {
        for dir in ["bdr", "far"] {
            let _ = std::fs::create_dir(place.path(dir));
            std::os::unix::fs::chown(place.path(dir), Some(65_534), Some(65_534)).unwrap();
        }
    }
    let source = format!("tree={}", place.tree().display());
    place.run_as_user(&["init", "--yes", "--source", &source], 0);
    let far = place.path("far").display().to_string();
    place.run_as_user(&["remote", "add", "far", &far, "--encrypt"], 0);
    let mode = |path: &str| place.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("bdr/far.key"), 0o600);
    assert_eq!(mode("bdr/state/remotes/far.keys.json"), 0o600);
    place.run_as_user(&["push"], 0);
    place.run_as_user(&["remote", "key", "rotate", "far"], 0);
    assert_eq!(mode("bdr/far.key"), 0o600);
    place.run_as_user(&["push"], 0);
    let said = place.run_as_user(&["remote", "key", "show", "far", "--sheet"], 0);
    assert!(said.contains("AGE-SECRET-KEY-1"), "{said}");
    let said = place.run_as_user(&["list", "--from", "far"], 0);
    assert!(said.contains("init"), "{said}");
}

/// A person is shown the sheet once, and asked; a script is not.
#[cfg(unix)]
#[test]
fn a_person_is_asked_whether_the_key_is_in_another_place() {
    use crate::support::terminal::Terminal;
    let machine = Machine::encrypted();
    let place = &machine.place;
    let warned = |name: &str| {
        let shown = place.json(&["remote", "key", "show", name]);
        shown["recipients"][0]["only_here"] == true
    };
    assert!(warned("far"), "made by a script: nobody has seen it");
    let dir = |name: &str| {
        let dir = place.path(name);
        std::fs::create_dir(&dir).unwrap();
        dir.display().to_string()
    };
    for (name, answer) in [("yes", "y\r"), ("no", "n\r")] {
        let url = dir(name);
        let mut terminal =
            Terminal::start(place, &["bdr", "remote", "add", name, &url, "--encrypt"]);
        let sheet = terminal.expect("in another place than this machine?");
        assert!(
            sheet.contains("AGE-SECRET-KEY-1") && sheet.contains("bdr clone"),
            "{sheet}"
        );
        terminal.type_in(answer);
        let (status, said) = terminal.end();
        assert!(status.success(), "{said}");
        assert_eq!(said.contains("--sheet"), name == "no", "{said}");
        assert!(
            said.contains("Without it nobody can read the backups"),
            "{said}"
        );
        let shown = place.json(&["remote", "key", "show", name]);
        assert!(shown["recipients"][0]["shown"].is_string(), "{shown}");
        assert_eq!(
            shown["recipients"][0]["stored"].is_string(),
            name == "yes",
            "{shown}"
        );
        assert!(!warned(name));
    }
    let url = dir("quiet");
    let terminal = Terminal::start(
        place,
        &["bdr", "remote", "add", "quiet", &url, "--encrypt", "--yes"],
    );
    let (status, said) = terminal.end();
    assert!(status.success() && !said.contains("AGE-SECRET"), "{said}");
    assert!(said.contains("bdr remote key show quiet --sheet"), "{said}");
    // Where stdout is a file, it may be a log.
    let url = dir("logged");
    let script = format!("bdr remote add logged '{url}' --encrypt | cat");
    let (_, said) = Terminal::start(place, &["sh", "-c", &script]).end();
    assert!(
        !said.contains("AGE-SECRET") && said.contains("--sheet"),
        "{said}"
    );
    let as_json = place.json(&["remote", "add", "data", &dir("data"), "--encrypt"]);
    assert!(!as_json.to_string().contains("AGE-SECRET"), "{as_json}");
    // It was never shown: status and doctor say so, until it was.
    for args in [
        &["doctor"][..],
        &["status"],
        &["remote", "test", "far"],
        &["remote", "show", "far"],
    ] {
        let said = stdout(&place.run(args, 0))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            said.contains("bdr remote key show far --sheet"),
            "{args:?}: {said}"
        );
    }
    place.run(&["remote", "key", "show", "far", "--sheet"], 0);
    assert!(!warned("far"));
    let doctor = stdout(&place.run(&["doctor"], 0));
    assert!(
        !doctor.contains("bdr remote key show far --sheet"),
        "{doctor}"
    );
}

/// Whoever has nothing but the sheet types its words, row by row, and is told of a mistake at once.
#[cfg(unix)]
#[test]
fn words_are_typed_row_by_row() {
    use crate::support::terminal::Terminal;
    let machine = Machine::encrypted();
    machine.push();
    let words = Generated::parse(&machine.secrets()[0]).unwrap().words();
    let bare = Place::with_repository();
    let mut terminal = Terminal::start_echoing(&bare, &["bdr", "list", "--from", &machine.url]);
    let type_row = |terminal: &mut Terminal, question: &str, row: &str| {
        terminal.expect(question);
        terminal.wait_for_secret();
        terminal.type_in(&format!("{row}\r"));
    };
    type_row(&mut terminal, "row by row", "tabel");
    type_row(&mut terminal, "That row once more", &words[..4].join(" "));
    for at in (4..24).step_by(4) {
        type_row(
            &mut terminal,
            &format!("{at} of 24"),
            &words[at..at + 4].join(" "),
        );
    }
    let (status, said) = terminal.end();
    assert!(status.success() && said.contains("init"), "{said}");
    assert!(!said.contains(&words[..4].join(" ")), "{said}");
    // The passphrase is asked for first, where there is one.
    let machine = Machine::new(&["--passphrase"]);
    machine.push();
    let mut terminal = Terminal::start_echoing(&bare, &["bdr", "list", "--from", &machine.url]);
    type_row(&mut terminal, "Passphrase", "four horses stapled a battery");
    let (status, said) = terminal.end();
    assert!(
        status.success() && said.contains("init") && !said.contains("horses"),
        "{said}"
    );
}

/// A stand-in for libsecret's program that keeps each entry in a file of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_key_can_be_in_the_keychain() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = Machine::encrypted();
    let place = &machine.place;
    let (bin, kept) = (place.path("bin"), place.path("kept"));
    for dir in [&bin, &kept] {
        std::fs::create_dir(dir).unwrap();
    }
    let script = format!(
        "#!/bin/sh\ncase $1 in store) eval \"n=\\${{$#}}\"; cat >'{0}'/$n ;; lookup) eval \"n=\\${{$#}}\"; cat '{0}'/$n 2>/dev/null ;; clear) eval \"n=\\${{$#}}\"; rm -f '{0}'/$n ;; esac\n",
        kept.display()
    );
    let tool = bin.join("secret-tool");
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = |args: &[&str], code: i32| {
        let output = place.bdr(args).env("PATH", &path).output().unwrap();
        let said = stderr(&output) + &stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    let dir = place.path("chain");
    std::fs::create_dir(&dir).unwrap();
    let url = format!("file://{}", dir.display());
    let said = run(&["remote", "add", "chain", &url, "--keychain"], 0);
    assert!(said.contains("in the keychain"), "{said}");
    assert!(!place.path("bdr/chain.key").exists());
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);
    run(&["push", "chain"], 0);
    run(&["list", "--from", "chain"], 0);
    let secret = run(&["remote", "key", "show", "chain", "--secret"], 0);
    assert!(secret.starts_with("AGE-SECRET-KEY-1"), "{secret}");
    // A second key is beside it, not in its place.
    run(&["remote", "key", "rotate", "chain", "--keychain"], 0);
    run(&["push", "chain"], 0);
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
    let both = run(&["remote", "key", "show", "chain", "--secret"], 0);
    assert_eq!(both.lines().count(), 2, "{both}");
    run(&["list", "--from", "chain"], 0);
    // Into a file, and back.
    run(&["remote", "key", "move", "chain", "--to", "keychain"], 2);
    run(&["remote", "key", "move", "chain", "--to", "file"], 0);
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
    let file = std::fs::read_to_string(place.path("bdr/chain.key")).unwrap();
    assert!(both.lines().all(|line| file.contains(line)), "{file}");
    run(&["list", "--from", "chain"], 0);
    let said = run(&["remote", "key", "move", "chain", "--to", "keychain"], 0);
    assert!(said.contains("2 secret keys"), "{said}");
    assert!(!place.path("bdr/chain.key").exists());
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
    run(&["list", "--from", "chain"], 0);
    let said = run(&["remote", "remove", "chain"], 0);
    assert!(said.contains("keychain"), "{said}");
    let said = run(&["remote", "add", "chain", &url, "--encrypt"], 2);
    assert!(said.contains("keychain"), "{said}");
    // One that does not take it: nothing is added.
    std::fs::write(&tool, "#!/bin/sh\necho locked >&2\nexit 1\n").unwrap();
    let said = run(&["remote", "add", "other", &url, "--keychain"], 2);
    assert!(said.contains("leave out --keychain"), "{said}");
    assert_eq!(
        place.json(&["remote", "list"])["remotes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// Over each kind of network: the passphrase alone, and after a change of the key the new one alone.
#[cfg(feature = "remote")]
#[test]
fn a_passphrase_or_a_new_key_is_enough_on_real_servers() {
    for name in [
        "s3",
        "sftp",
        "webdav",
        "webdav-rclone",
        "azblob",
        "s3-lax",
        "s3-locked",
    ] {
        let Some(server) = crate::stores::server(name, "keys/changed") else {
            continue;
        };
        let place = Place::with_repository();
        place.write("plain.txt", b"hello");
        place.init();
        let with = |command: &mut std::process::Command| {
            for (field, value) in &server.fields {
                let field = field.to_ascii_uppercase().replace('-', "_");
                command.env(format!("BDR_REMOTE_FAR_{field}"), value);
                // Without a name in the configuration.
                command.env(format!("BDR_REMOTE_{field}"), value);
            }
            command.env("BDR_REMOTE_PASSPHRASE", "four horses stapled a battery");
        };
        let run = |place: &Place, args: &[&str]| {
            let mut command = place.bdr(args);
            with(&mut command);
            let output = command.output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(0),
                "{name} {args:?}: {}{}",
                stderr(&output),
                stdout(&output)
            );
            stdout(&output)
        };
        run(
            &place,
            &["remote", "add", "far", &server.url, "--passphrase"],
        );
        run(&place, &["push", "far"]);
        let config = place.json(&["config", "path"]);
        let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
        let key = config.with_file_name("far.key");
        let key = key.to_str().unwrap();

        let bare = Place::with_repository();
        run(&bare, &["clone", &server.url, "--identity", key]);
        let wanted = place.json(&["list"]);
        let got = bare.json(&["list"]);
        let ids = |list: &Value| -> Vec<String> {
            let snapshots = list["snapshots"].as_array().unwrap();
            snapshots.iter().map(|s| s["id"].to_string()).collect()
        };
        assert_eq!(ids(&got), ids(&wanted), "{name}");
        run(&bare, &["verify"]);
        // The passphrase alone.
        let bare = Place::with_repository();
        run(&bare, &["clone", &server.url]);
        run(&bare, &["verify"]);
        // After a change of the key, the new one alone.
        run(&place, &["remote", "key", "rotate", "far"]);
        place.write("later.txt", b"later");
        run(&place, &["backup"]);
        run(&place, &["push", "far"]);
        let newest = std::fs::read_to_string(key).unwrap();
        let newest = newest.lines().find(|line| line.starts_with("AGE-"));
        let file = place.path("new.txt");
        std::fs::write(&file, newest.unwrap()).unwrap();
        let bare = Place::with_repository();
        run(
            &bare,
            &["clone", &server.url, "--identity", file.to_str().unwrap()],
        );
        run(&bare, &["verify"]);
        assert_eq!(
            ids(&bare.json(&["list"])),
            ids(&place.json(&["list"])),
            "{name}"
        );
    }
}

/// With the keychain of a desktop (Secret Service), where one can be started.
#[cfg(target_os = "linux")]
#[test]
fn a_key_can_be_in_the_keychain_of_a_desktop() {
    for (program, argument) in [
        ("secret-tool", "--help"),
        ("gnome-keyring-daemon", "--version"),
        ("dbus-run-session", "--version"),
    ] {
        if !has(program, argument, "a keychain of a desktop") {
            return;
        }
    }
    let machine = Machine::encrypted();
    let place = &machine.place;
    let dir = place.path("chain");
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir_all(place.path("home/.local/share/keyrings")).unwrap();
    let script = format!(
        "printf secret | gnome-keyring-daemon --unlock --components=secrets >/dev/null\n\
         bdr remote add chain 'file://{}' --keychain\n\
         bdr push chain\n\
         bdr remote key rotate chain --keychain\n\
         bdr push chain\n\
         bdr list --from chain\n\
         bdr remote key show chain --secret",
        dir.display()
    );
    let like = place.bdr(&[]);
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_bdr"));
    let mut path = vec![bin.parent().unwrap().to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let output = Command::new("dbus-run-session")
        .args(["--", "sh", "-ec", &script])
        .env_clear()
        .envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", std::env::join_paths(path).unwrap())
        .current_dir(place.tree())
        .output()
        .unwrap();
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}", stderr(&output));
    assert!(said.contains("in the keychain"), "{said}");
    assert_eq!(said.matches("AGE-SECRET-KEY-1").count(), 2, "{said}");
    assert!(!place.path("bdr/chain.key").exists());
}

/// An SSH key is a recipient like others: it is given the past, and what it cannot read is named.
#[cfg(feature = "ssh-keys")]
#[test]
fn a_key_of_ssh_opens_what_it_was_given() {
    if !has("ssh-keygen", "-?", "keys of SSH") {
        return;
    }
    for past in [true, false] {
        let machine = Machine::encrypted();
        machine.push();
        let ssh = machine.place.path("home/.ssh");
        std::fs::create_dir_all(&ssh).unwrap();
        let file = ssh.join("id_ed25519").display().to_string();
        let made = Command::new("ssh-keygen")
            .args([
                "-q", "-t", "ed25519", "-N", "", "-C", "me here", "-f", &file,
            ])
            .status();
        assert!(made.unwrap().success());
        let public = std::fs::read_to_string(format!("{file}.pub")).unwrap();
        let mut args = vec!["remote", "key", "add", "far", public.trim()];
        args.extend(past.then_some("--past"));
        machine.place.run(&args, 0);
        machine.work("after.txt");
        machine.push();
        let shown = machine.place.json(&["remote", "key", "show", "far"]);
        assert_eq!(
            shown["recipients"][1]["secret"],
            serde_json::json!(["ssh-key"]),
            "{shown}"
        );
        if past {
            machine.check_restores(&file, "with a key of SSH");
        } else {
            let first = &machine.recipients()[0];
            let bare = Place::with_repository();
            let cloned = bare.run(&["clone", &machine.url, "--identity", &file], 3);
            let said = stderr(&cloned) + &stdout(&cloned);
            assert!(said.contains(first), "{said}");
        }
        // It is found by its beginning, and removed.
        machine
            .place
            .run(&["remote", "key", "remove", "far", "ssh-ed"], 0);
        assert_eq!(machine.recipients().len(), 1);
    }
}

/// The secret half is in a piece of hardware, and bdr never sees it: it pushes, and says what it cannot do.
#[test]
fn a_key_in_hardware_is_a_recipient() {
    use bech32::{Bech32, Hrp};
    // A point of the curve P-256 (its generator), as such a key says it.
    let point = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    let bytes: Vec<u8> = (0..33)
        .map(|at| u8::from_str_radix(&point[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let tag = bech32::encode::<Bech32>(Hrp::parse("age1tag").unwrap(), &bytes).unwrap();
    let machine = Machine::new(&["--recipient", &tag]);
    let other = Generated::new();
    let said = stderr(
        &machine
            .place
            .run(&["remote", "key", "add", "far", &other.recipient], 0),
    );
    assert!(!said.contains("no recipient"), "{said}");
    let shown = machine.place.json(&["remote", "key", "show", "far"]);
    let kinds: Vec<&str> = shown["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["hardware", "age"], "{shown}");
    machine.push();
    // Either of them: the other one is at hand here.
    let key = machine.place.path("other.txt");
    std::fs::write(&key, &*other.secret).unwrap();
    let args = [
        "ls",
        "latest",
        "--from",
        "far",
        "--identity",
        key.to_str().unwrap(),
    ];
    assert!(stdout(&machine.place.run(&args, 0)).contains("plain.txt"));
    // Alone, it is said that bdr cannot read it.
    let far = machine.place.path("alone");
    std::fs::create_dir(&far).unwrap();
    let args = [
        "remote",
        "add",
        "alone",
        far.to_str().unwrap(),
        "--recipient",
        &tag,
    ];
    let said = stderr(&machine.place.run(&args, 0));
    assert!(said.contains("plug-in"), "{said}");
    let broken = tag.replace('q', "p");
    machine
        .place
        .run(&["remote", "key", "add", "far", &broken], 2);
}
