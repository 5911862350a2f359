//! How an operation was protected: it is on record, and whoever wanted more hears why not.

use std::process::Command;

use crate::support::Place;
use crate::support::cli::stderr;

/// A guard where capture does not work, because there is no program to try it with.
fn without_rm(place: &Place, args: &[&str]) -> Command {
    let mut command = place.bdr(args);
    command.env("PATH", place.path("no-programs"));
    command.env("BDR_BACKGROUND", "0");
    command.env_remove("BDR_GUARD_CAPTURE");
    command
}

fn last(place: &Place) -> serde_json::Value {
    place.json(&["show"])
}

/// Returns false, and says so, where nothing can be captured.
fn captures(place: &Place) -> bool {
    let mut guard = place.bdr(&["guard", "--capture", "only", "--", "/bin/rm", "-f", "none"]);
    let output = guard.env("BDR_BACKGROUND", "0").output().unwrap();
    let said = stderr(&output);
    let refused = said.contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls cannot be captured on this machine: {said}");
    }
    !refused
}

#[test]
fn each_operation_records_how_it_was_protected() {
    let place = Place::with_repository();
    for name in ["a", "b", "c"] {
        place.write(name, name.as_bytes());
    }
    place.run(&["guard", "--capture", "off", "--", "/bin/rm", "a"], 0);
    let watched = serde_json::json!({"by": "watched", "because": null});
    assert_eq!(last(&place)["protection"], watched);
    let shown = place.run(&["show"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("\n  protected by a snapshot of the watched places\n"),
        "{shown}"
    );
    if captures(&place) {
        place.run(&["guard", "--capture", "auto", "--", "/bin/rm", "b"], 0);
        let captured = serde_json::json!({"by": "capture", "because": null});
        assert_eq!(last(&place)["protection"], captured);
        let shown = place.run(&["show"], 0);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            shown.contains("\n  protected by capture of each call, in all places\n"),
            "{shown}"
        );
    }
    // An undo saves the present by a snapshot of what it touches.
    place.run(&["undo", "--yes"], 0);
    assert_eq!(last(&place)["protection"], watched);
    let log = place.json(&["log"]);
    for operation in log["operations"].as_array().unwrap() {
        assert!(operation["protection"]["by"].is_string(), "{operation}");
    }
}

#[test]
fn by_default_a_guard_captures_where_that_works_and_says_so_before() {
    let place = Place::with_repository();
    if !captures(&place) {
        return;
    }
    let bdr = |args: &[&str]| {
        let mut command = place.bdr(args);
        command.env_remove("BDR_GUARD_CAPTURE");
        let output = command.env("BDR_BACKGROUND", "0").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    place.write("a", b"a");
    let elsewhere = place.path("home/elsewhere");
    std::fs::write(
        &elsewhere,
        "in no work tree, no source and no word of the command",
    )
    .unwrap();
    let line = "rm a; for f in \"$HOME\"/else*; do rm \"$f\"; done";
    bdr(&["guard", "--", "sh", "-c", line]);
    assert!(!elsewhere.exists());
    assert_eq!(last(&place)["protection"]["by"], "capture");
    bdr(&["undo", "--yes"]);
    assert!(elsewhere.exists() && place.tree().join("a").exists());
    let plan = bdr(&["guard", "--dry-run", "--", "rm", "a"]);
    assert!(plan.contains("call by call"), "{plan}");
    let plan = bdr(&["guard", "--capture", "off", "--dry-run", "--", "rm", "a"]);
    assert!(
        plan.contains("The snapshot before the command would cover"),
        "{plan}"
    );
    let explained = bdr(&["explain", "rm a"]);
    assert!(explained.contains("call by call"), "{explained}");
    bdr(&["config", "set", "guard.capture", "off"]);
    let explained = bdr(&["explain", "rm a"]);
    assert!(!explained.contains("call by call"), "{explained}");
    bdr(&["guard", "--", "rm", "a"]);
    assert_eq!(last(&place)["protection"]["by"], "watched");
}

#[test]
fn a_snapshot_in_place_of_capture_is_explained_in_the_log_and_once_on_the_terminal() {
    let place = Place::with_repository();
    for name in ["a", "b", "c"] {
        place.write(name, name.as_bytes());
    }
    let guard = |file: &str| {
        let args = ["guard", "--capture", "auto", "--", "/bin/rm", file];
        let output = without_rm(&place, &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    let first = guard("a");
    let said = "a snapshot of the watched places protects it";
    assert_eq!(first.matches(said).count(), 1, "{first}");
    let second = guard("b");
    assert!(!second.contains(said), "said again: {second}");
    let operation = last(&place);
    assert_eq!(operation["protection"]["by"], "watched");
    let because = operation["protection"]["because"].as_str().unwrap();
    assert!(first.contains(because), "{because}: {first}");
    let shown = place.run(&["show"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&format!("(capture was not possible: {because})")),
        "{shown}"
    );
    // Nobody wanted it: nothing to explain.
    place.run(&["guard", "--capture", "off", "--", "/bin/rm", "c"], 0);
    assert!(last(&place)["protection"]["because"].is_null());
    place.run(&["undo", "--yes"], 0);
}

#[test]
fn doctor_says_which_mode_works_and_what_guards_are_set_to() {
    let place = Place::with_repository();
    place.init();
    let found = |command: &mut Command| {
        let output = command.output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = document["data"]["findings"].as_array().unwrap().clone();
        let mut findings = findings.into_iter();
        findings.find(|one| one["check"] == "capture").unwrap()
    };
    let works = captures(&place);
    for (set, health, says) in [
        ("off", "good", "off, and does not work here"),
        ("auto", "warning", "guards take a snapshot first"),
        ("only", "bad", "guards run nothing"),
    ] {
        place.run(&["config", "set", "guard.capture", set], 0);
        let finding = found(&mut without_rm(&place, &["--json", "doctor"]));
        assert_eq!(finding["health"], health, "{finding}");
        let message = finding["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        assert!(message.contains("no program `rm`"), "{message}");
        assert_eq!(finding["fix"].is_string(), health != "good", "{finding}");
        if works {
            let finding = found(&mut place.bdr(&["--json", "doctor"]));
            assert_eq!(finding["health"], "good", "{finding}");
            let message = finding["message"].as_str().unwrap();
            let is_off = message.contains("off, and works here");
            assert_eq!(is_off, set == "off", "{message}");
        }
    }
    let text = without_rm(&place, &["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("bdr config set guard.capture auto"), "{text}");
}

/// A guard by an ordinary user whose PATH has programs of this test first.
fn by_user(place: &Place, mode: &str, words: &[&str]) -> Command {
    let binary = place.path("bdr-binary");
    if !binary.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &binary).unwrap();
    }
    let mut command = Command::new(&binary);
    command.args(["guard", "--capture", mode, "--"]).args(words);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", place.path("bin").display());
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", place.path("home"))
        .env("BDR_HOME", place.path("bdr"))
        .current_dir(place.tree());
    place.as_user(command)
}

/// A program in the first directory of that PATH.
fn program(place: &Place, name: &str, text: &str) -> std::path::PathBuf {
    let dir = place.path("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&dir, open(0o755)).unwrap();
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, open(0o755)).unwrap();
    file
}

/// Returns why the last operation was not captured.
fn because(place: &Place) -> Option<String> {
    let said = place.run_as_user(&["--json", "show"], 0);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    let because = &document["data"]["protection"]["because"];
    because.as_str().map(str::to_owned)
}

/// Returns false, and says so, where an ordinary user cannot be captured.
fn captures_users(place: &Place) -> bool {
    let output = by_user(place, "only", &["rm", "-f", "none"]).output();
    let said = stderr(&output.unwrap());
    let refused = said.contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls of an ordinary user cannot be captured here: {said}");
    }
    !refused
}

#[test]
fn a_command_that_raises_its_rights_somewhere_inside_is_not_captured() {
    let place = Place::of_a_user();
    program(&place, "sudo", "#!/bin/sh\nexec \"$@\"\n");
    program(
        &place,
        "deploy",
        "#!/bin/sh\nset -e\nif [ -e a ]; then\n  sudo rm a\nfi\n",
    );
    place.sh_as_user(
        "echo '. ./lib.sh' > outer.sh; echo 'true; sudo rm a' > lib.sh; \
         printf '#!/bin/sh\\nsudo rm a\\n' > deploy.sh; chmod +x deploy.sh; \
         printf '#!/usr/bin/env python3\\nsudo = 1\\n' > other.py; chmod +x other.py",
    );
    let captures = captures_users(&place);
    for (words, by) in [
        (&["sudo", "rm", "a"][..], ""),
        (&["sh", "-c", "true; sudo rm a"], ""),
        (&["env", "A=b", "sudo", "rm", "a"], ""),
        (&["nohup", "sudo", "rm", "a"], ""),
        (&["timeout", "20", "sudo", "rm", "a"], ""),
        (&["sh", "-c", "echo a | xargs sudo rm"], ""),
        (&["./deploy.sh"], "deploy.sh"),
        (&["sh", "deploy.sh"], "deploy.sh"),
        (&["sh", "outer.sh"], "lib.sh"),
        (&["deploy"], "bin/deploy"),
    ] {
        place.sh_as_user("echo precious > a");
        let refused = by_user(&place, "only", words).output().unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(125), "{words:?}: {said}");
        assert!(said.contains("`sudo`"), "{words:?}: {said}");
        assert!(place.tree().join("a").exists(), "{words:?} was run");
        let output = by_user(&place, "auto", words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        assert!(!place.tree().join("a").exists(), "{words:?} was not run");
        let why = because(&place).unwrap_or_default();
        assert!(
            why.contains("`sudo`") && why.contains(by),
            "{words:?}: {why}"
        );
        place.run_as_user(&["undo", "--yes"], 0);
        assert_eq!(
            std::fs::read(place.tree().join("a")).unwrap(),
            b"precious\n"
        );
    }
    if !captures {
        return;
    }
    // The word alone is no reason.
    for words in [
        &["sh", "-c", "echo sudo; rm a"][..],
        &["sh", "-c", "./other.py 2>/dev/null; rm a"],
    ] {
        place.sh_as_user("echo precious > a");
        let output = by_user(&place, "auto", words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        assert_eq!(because(&place), None, "{words:?}");
        place.run_as_user(&["undo", "--yes"], 0);
    }
}

#[test]
fn a_program_whose_file_gives_it_more_rights_is_not_captured() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can make programs with more rights");
        return;
    }
    let place = Place::of_a_user();
    program(&place, "plain", "#!/bin/sh\nrm a\n");
    if !captures_users(&place) {
        return;
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    // A capability of one bit, as `setcap` writes it.
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    for (name, mode, attribute) in [
        ("plain", 0o755, false),
        ("of-root", 0o4755, false),
        ("of-group", 0o2755, false),
        ("able", 0o755, true),
    ] {
        place.sh_as_user("echo precious > a");
        let file = program(&place, name, "#!/bin/sh\nrm a\n");
        std::fs::set_permissions(&file, open(mode)).unwrap();
        if attribute && let Err(error) = xattr::set(&file, "security.capability", &capability) {
            println!("SKIPPED: this file system keeps no capabilities: {error}");
            continue;
        }
        let line = format!("true; {name}");
        let output = by_user(&place, "auto", &["sh", "-c", &line])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let why = because(&place);
        let named = why
            .as_ref()
            .is_some_and(|why| why.contains(&format!("`{name}`")));
        assert_eq!(named, name != "plain", "{name}: {why:?}");
        place.run_as_user(&["undo", "--yes"], 0);
    }
}

#[test]
fn what_a_makefile_starts_with_more_rights_is_protected_by_a_snapshot() {
    if Command::new("make").arg("--version").output().is_err() {
        println!("SKIPPED: there is no make for this test");
        return;
    }
    let place = Place::of_a_user();
    program(&place, "sudo", "#!/bin/sh\nexec \"$@\"\n");
    let captures = captures_users(&place);
    for (text, is_noticed) in [
        ("all:\n\t@sudo rm a\n", true),
        ("RM = /usr/bin/sudo rm\nall:\n\t@rm a\n", true),
        ("# pseudo-targets, visudo\nall:\n\t@rm a\n", false),
    ] {
        place.sh_as_user("echo precious > a");
        let makefile = place.tree().join("Makefile");
        std::fs::write(&makefile, text).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&makefile, open).unwrap();
        let output = by_user(&place, "auto", &["make"]).output().unwrap();
        assert!(output.status.success(), "{text}: {}", stderr(&output));
        let why = because(&place);
        if captures || is_noticed {
            let named = why
                .as_ref()
                .is_some_and(|why| why.contains("`sudo` in Makefile"));
            assert_eq!(named, is_noticed, "{text}: {why:?}");
        }
        place.run_as_user(&["undo", "--yes"], 0);
    }
}

#[test]
fn a_command_that_failed_for_want_of_rights_is_protected_by_a_snapshot_the_next_time() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can make programs with more rights");
        return;
    }
    let place = Place::of_a_user();
    if !captures_users(&place) {
        return;
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    // Not where bdr looks for such programs before it starts the command.
    let helper = place.path("helper");
    std::fs::copy("/bin/cat", &helper).unwrap();
    std::fs::set_permissions(&helper, open(0o4755)).unwrap();
    let secret = place.path("of-root");
    std::fs::write(&secret, "for root only").unwrap();
    std::fs::set_permissions(&secret, open(0o600)).unwrap();
    let inner = place.path("inner.py");
    let text = format!(
        "import subprocess, sys\nsys.exit(subprocess.call(['{}', '{}']))\n",
        helper.display(),
        secret.display()
    );
    std::fs::write(&inner, text).unwrap();
    std::fs::set_permissions(&inner, open(0o644)).unwrap();
    let words = ["python3", inner.to_str().unwrap()];
    let Ok(plain) = by_user(&place, "off", &words).output() else {
        return;
    };
    if !plain.status.success() {
        println!(
            "SKIPPED: no program can gain rights here: {}",
            stderr(&plain)
        );
        return;
    }
    let first = by_user(&place, "auto", &words).output().unwrap();
    let said = stderr(&first);
    assert!(!first.status.success(), "{said}");
    assert!(
        said.contains("`helper`") && said.contains("run it again"),
        "{said}"
    );
    let again = by_user(&place, "auto", &words).output().unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(again.stdout, b"for root only");
    assert!(because(&place).unwrap().contains("`helper`"));
    // Others go on being captured.
    place.sh_as_user("echo precious > a");
    let other = by_user(&place, "auto", &["rm", "a"]).output().unwrap();
    assert!(other.status.success());
    assert_eq!(because(&place), None);
}

/// Root has the right to install a filter: programs inside may become somebody else.
#[test]
fn captured_by_root_programs_gain_and_give_up_rights_as_ever() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can be captured with all rights");
        return;
    }
    let place = Place::with_repository();
    if !captures(&place) {
        return;
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    let id = place.path("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    std::os::unix::fs::chown(&id, Some(65_534), Some(65_534)).unwrap();
    std::fs::set_permissions(&id, open(0o4755)).unwrap();
    std::fs::set_permissions(place.dir.path(), open(0o755)).unwrap();
    place.write("a", b"a");
    let line = format!("rm a; grep NoNewPrivs /proc/self/status; {}", id.display());
    let args = ["guard", "--capture", "only", "--", "sh", "-c", &line];
    let output = place.bdr(&args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("NoNewPrivs:\t1") {
        println!("SKIPPED: root has no CAP_SYS_ADMIN here");
        return;
    }
    assert!(said.contains("NoNewPrivs:\t0"), "{said}");
    assert!(said.contains("euid=65534"), "{said}: {}", stderr(&output));
    assert!(
        !stderr(&output).contains("without the rights"),
        "{}",
        stderr(&output)
    );
    place.run(&["undo", "--yes"], 0);
}
