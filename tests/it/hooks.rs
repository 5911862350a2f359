//! Other programs are made to call bdr: their files before, with and after it, and the programs themselves, real ones.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Place;
use crate::support::cli::stderr;
use crate::support::terminal::{Terminal, in_place, wait_for};

fn place() -> Place {
    let place = Place::with_repository();
    place.write("f", b"precious");
    place.init();
    place
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\" >/dev/null", program])
        .status()
        .unwrap()
        .success();
    if !found {
        println!("SKIPPED: no {program}");
    }
    found
}

/// Everything below a directory: kind, mode, content or target. bdr's own is left out.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap) {
        let path = entry.path();
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_symlink() {
            let target = std::fs::read_link(path).unwrap();
            target.into_os_string().into_encoded_bytes()
        } else if meta.is_file() {
            std::fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        let name = path.strip_prefix(dir).unwrap().to_path_buf();
        all.insert(name, (meta.permissions().mode(), content));
    }
    all
}

fn home_file(place: &Place, name: &str, content: &str) -> PathBuf {
    let file = place.path("home").join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, content).unwrap();
    file
}

/// Settings as people have them.
const SETTINGS: [&str; 8] = [
    "{}",
    "{\n}\n",
    "",
    "{\"model\": \"opus\", \"hooks\": {}}",
    "{\r\n  \"a\": 1,\r\n  \"z\": [1, 2]\r\n}\r\n",
    "{\n\t// mine\n\t\"hooks\": {\n\t\t\"PreToolUse\": [{\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"/usr/bin/other hook claude\"}]}],\n\t},\n\t/* last */\n}\n",
    "{\"hooks\": {\"PostToolUse\": [], \"BeforeTool\": [], \"beforeShellExecution\": [{\"command\": \"x\"}]}, \"version\": 1}",
    "{\n    \"n\": 1.50e3, \"u\": \"\\u00e9\"   }",
];

#[test]
fn what_is_installed_leaves_every_file_byte_for_byte() {
    for settings in SETTINGS {
        for rc in [
            "",
            "# mine\nalias x=y",
            "set -o vi\r\n",
            "last line without end",
        ] {
            let place = place();
            for name in [
                ".claude/settings.json",
                ".gemini/settings.json",
                ".codex/hooks.json",
            ] {
                home_file(&place, name, settings);
            }
            // A manager of dotfiles has it elsewhere.
            let linked = home_file(&place, "dotfiles/cursor.json", settings);
            std::fs::set_permissions(&linked, std::fs::Permissions::from_mode(0o640)).unwrap();
            std::fs::create_dir_all(place.path("home/.cursor")).unwrap();
            symlink(
                "../dotfiles/cursor.json",
                place.path("home/.cursor/hooks.json"),
            )
            .unwrap();
            home_file(&place, ".bashrc", rc);
            home_file(&place, ".zshrc", rc);
            std::fs::create_dir_all(place.path("home/.config/fish")).unwrap();
            let before = picture(&place.path("home"));
            place.run(&["hooks", "install", "all", "--dry-run"], 0);
            assert_eq!(picture(&place.path("home")), before, "a dry run");
            let done = place.json(&["hooks", "install", "all"]);
            let targets: Vec<&str> = done["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| file["target"].as_str().unwrap())
                .collect();
            assert_eq!(
                targets,
                ["bash", "zsh", "fish", "claude", "codex", "gemini", "cursor"]
            );
            // The link is one still, and what it leads to keeps its mode.
            let with = picture(&place.path("home"));
            let link = Path::new(".cursor/hooks.json");
            assert_eq!(with[link], before[link]);
            let mode =
                |all: &BTreeMap<PathBuf, (u32, Vec<u8>)>| all[Path::new("dotfiles/cursor.json")].0;
            assert_eq!(mode(&with), mode(&before));
            assert!(
                with[Path::new("dotfiles/cursor.json")].1
                    != before[Path::new("dotfiles/cursor.json")].1
            );
            // Once is enough.
            place.run(&["hooks", "install", "all"], 0);
            assert_eq!(picture(&place.path("home")), with, "{settings:?}");
            place.run(&["hooks", "status"], 0);
            place.run(&["hooks", "uninstall", "all"], 0);
            assert_eq!(picture(&place.path("home")), before, "{settings:?} {rc:?}");
        }
    }
}

#[test]
fn what_the_user_writes_around_it_stays() {
    let place = place();
    let settings = home_file(&place, ".claude/settings.json", SETTINGS[5]);
    let rc = home_file(&place, ".bashrc", "one\n");
    place.run(&["hooks", "install", "claude", "bash"], 0);
    let edit = |file: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replacen(from, to, 1)).unwrap();
    };
    edit(&settings, "// mine", "// mine, newer");
    edit(&rc, "one\n", "zero\none\n");
    let text = std::fs::read_to_string(&rc).unwrap() + "two\n";
    std::fs::write(&rc, text).unwrap();
    let status = place.json(&["hooks", "status"]);
    assert!(
        status["files"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["standing"] == "edited")
    );
    place.run(&["hooks", "uninstall", "claude", "bash"], 0);
    assert_eq!(std::fs::read_to_string(&rc).unwrap(), "zero\none\ntwo\n");
    let left = std::fs::read_to_string(&settings).unwrap();
    assert!(
        !left.contains("PostToolUse") && left.contains("// mine, newer"),
        "{left}"
    );
    // Somebody else's hook is not taken for bdr's.
    assert!(left.contains("/usr/bin/other hook claude"), "{left}");
    // A file that bdr made, and that somebody has used since, stays without bdr's part.
    place.run(&["hooks", "install", "gemini"], 0);
    let made = place.path("home/.gemini/settings.json");
    edit(&made, "{", "{\n  \"mine\": true,");
    place.run(&["hooks", "uninstall", "gemini"], 0);
    let left: Value = serde_json::from_str(&std::fs::read_to_string(&made).unwrap()).unwrap();
    assert_eq!(left, serde_json::json!({"mine": true}));
    // Half a block is nobody's to guess.
    place.run(&["hooks", "install", "bash"], 0);
    edit(&rc, "# <<< bdr <<<", "# gone");
    let torn = std::fs::read(&rc).unwrap();
    let output = place.run(&["hooks", "uninstall", "bash"], 1);
    assert!(String::from_utf8_lossy(&output.stdout).contains("by hand"));
    assert_eq!(std::fs::read(&rc).unwrap(), torn);
}

#[test]
fn an_installation_is_an_operation_that_undo_takes_back() {
    let place = place();
    let settings = home_file(&place, ".claude/settings.json", SETTINGS[4]);
    place.run(&["hooks", "install", "claude"], 0);
    assert_ne!(std::fs::read_to_string(&settings).unwrap(), SETTINGS[4]);
    place.undo_by_name();
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), SETTINGS[4]);
    // What was undone is said, and installed again.
    let status = place.bdr(&["--json", "hooks", "status"]).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["data"]["files"][0]["standing"], "gone");
    place.run(&["hooks", "install", "claude"], 0);
    place.run(&["hooks", "uninstall", "claude"], 0);
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), SETTINGS[4]);
}

/// Most of those who type it right after an installation mean the command before.
#[test]
fn a_plain_undo_asks_before_it_takes_back_bdrs_own_set_up() {
    let place = place();
    home_file(&place, ".bashrc", "alias ll='ls -l'\n");
    place.write("notes", b"mine");
    place.run(&["guard", "--", "rm", "notes"], 0);
    place.run(&["hooks", "install", "bash"], 0);
    let bashrc = place.path("home/.bashrc");
    let installed = std::fs::read(&bashrc).unwrap();
    let mut terminal = Terminal::start(&place, &["bdr", "undo"]);
    let said = terminal.expect("Undo bdr's own set-up?");
    assert!(said.contains("before it: rm notes, bdr undo "), "{said}");
    terminal.type_in("n\n");
    terminal.expect("Nothing was changed.");
    assert_eq!(std::fs::read(&bashrc).unwrap(), installed);
    // Named, it is what was asked for.
    place.undo_by_name();
    assert_eq!(std::fs::read(&bashrc).unwrap(), b"alias ll='ls -l'\n");
}

#[test]
fn files_that_are_not_bdrs_to_edit_are_left_alone() {
    let place = place();
    let file = place.path("home/.claude/settings.json");
    let refused = |why: &str| {
        let before = picture(&place.path("home"));
        let output = place.run(&["hooks", "install", "claude"], 1);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(picture(&place.path("home")), before, "{why}");
    };
    for (text, why) in [
        ("{\"hooks\": {", "it is not JSON"),
        ("[1]", "is not in the form that the host documents"),
        (
            "{\"hooks\": []}",
            "is not in the form that the host documents",
        ),
        (
            "{\"hooks\": {\"PreToolUse\": {}}}",
            "is not in the form that the host documents",
        ),
    ] {
        home_file(&place, ".claude/settings.json", text);
        refused(why);
    }
    std::fs::write(&file, b"{\"a\": \"\xff\"}").unwrap();
    refused("is not UTF-8");
    std::fs::write(&file, "{}").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    refused("is read-only");
    std::fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    refused("dangling symlink");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    refused("is not a file");
    // Another user's: only who may give files away can try.
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, "{}").unwrap();
    match std::os::unix::fs::chown(&file, Some(12345), None) {
        Ok(()) => refused("belongs to another user"),
        Err(_) => println!("SKIPPED: a file of another user (only root can make one)"),
    }
    place.run(&["hooks", "install", "nonsense"], 2);
}

#[test]
fn drift_is_said_and_mended() {
    let place = place();
    home_file(&place, ".claude/settings.json", "{}");
    // Installed by a bdr that is then moved away.
    let old = place.path("old/bdr");
    std::fs::create_dir(place.path("old")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_bdr"), &old).unwrap();
    let mut like = Command::new(&old);
    in_place(&place, &mut like);
    assert!(
        like.args(["hooks", "install", "claude"])
            .status()
            .unwrap()
            .success()
    );
    let trouble = || {
        let output = place.bdr(&["--json", "hooks", "status"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["data"]["files"][0]["trouble"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(trouble().contains("a different bdr"), "{}", trouble());
    std::fs::remove_file(&old).unwrap();
    assert!(trouble().contains("does not exist"), "{}", trouble());
    let doctor = place.run(&["doctor"], 0);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("fix: bdr hooks install claude"), "{said}");
    place.run(&["hooks", "install", "claude"], 0);
    assert_eq!(trouble(), "");
    let said = place.run(&["doctor"], 0);
    assert!(String::from_utf8_lossy(&said.stdout).contains("claude call bdr"));
    let text = std::fs::read_to_string(place.path("home/.claude/settings.json")).unwrap();
    assert!(!text.contains("old/bdr"), "{text}");
    // Of an older bdr, with the same text: to install it again is enough.
    let manifest = place.path("bdr/state/hooks/manifest.json");
    let good = std::fs::read_to_string(&manifest).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(good.contains(&version), "{good}");
    std::fs::write(&manifest, good.replace(&version, "\"version\": \"0.0.1\"")).unwrap();
    assert!(
        trouble().contains("it was written by bdr 0.0.1"),
        "{}",
        trouble()
    );
    place.run(&["hooks", "install", "claude"], 0);
    assert_eq!(trouble(), "");
    // What was edited cannot be read: nothing is taken for nobody's.
    std::fs::write(&manifest, "{").unwrap();
    let settings = std::fs::read(place.path("home/.claude/settings.json")).unwrap();
    for verb in ["install", "uninstall"] {
        let output = place.bdr(&["hooks", verb, "claude"]).output().unwrap();
        assert!(
            stderr(&output).contains("is damaged"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(
        std::fs::read(place.path("home/.claude/settings.json")).unwrap(),
        settings
    );
    std::fs::write(&manifest, good).unwrap();
    // Somebody switched hooks off.
    let text = text.replacen('{', "{\"disableAllHooks\": true,", 1);
    std::fs::write(place.path("home/.claude/settings.json"), text).unwrap();
    assert!(trouble().contains("disableAllHooks"), "{}", trouble());
}

/// Runs a script in the tree, with bdr on the PATH.
fn script(place: &Place, text: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    in_place(place, &mut command);
    command
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@b")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@b")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.output().unwrap()
}

#[track_caller]
fn must(place: &Place, text: &str) -> String {
    let output = script(place, text);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}\n{said}");
    said
}

fn operations(place: &Place) -> Vec<Value> {
    place.json(&["log"])["operations"]
        .as_array()
        .unwrap()
        .clone()
}

fn hook(place: &Place, name: &str, text: &str) -> PathBuf {
    let file = place.tree().join(".git/hooks").join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn gits_hooks_take_snapshots_and_run_what_was_there() {
    let place = place();
    must(
        &place,
        "git init -q -b main . && git add f && git commit -qm one",
    );
    hook(
        &place,
        "pre-commit",
        "#!/bin/sh\necho \"$@|$GIT_INDEX_FILE\" >>../said\nexit ${FAIL:-0}\n",
    );
    hook(
        &place,
        "pre-push",
        "#!/bin/sh\necho \"args $*\" >>../said\ncat >>../said\n",
    );
    symlink(
        "../../../shared-hook",
        place.tree().join(".git/hooks/post-merge"),
    )
    .unwrap();
    let before = picture(&place.tree().join(".git/hooks"));
    place.run(&["hooks", "install", "git"], 0);
    place.run(&["hooks", "install", "git"], 0);
    // A snapshot, whatever the commit is made of, and what was there sees what git tells it.
    let labels = || {
        let list = place.json(&["list"]);
        let all = list["snapshots"].as_array().unwrap().clone();
        all.iter()
            .filter(|s| s["label"] == "git pre-commit")
            .count()
    };
    std::fs::write(place.tree().join("f"), "two").unwrap();
    std::fs::write(place.tree().join("untracked"), "mine").unwrap();
    must(&place, "git commit -qm two -- f");
    let said = std::fs::read_to_string(place.path("said")).unwrap();
    assert!(said.contains("next-index-"), "{said}");
    assert_eq!(labels(), 1);
    // Its status counts.
    std::fs::write(place.tree().join("f"), "three").unwrap();
    assert_ne!(
        script(&place, "FAIL=3 git commit -qam three").status.code(),
        Some(0)
    );
    must(&place, "git commit -qam three");
    // In a linked work tree, and as a submodule would: from elsewhere.
    must(
        &place,
        "git worktree add -q ../linked -b side && cd ../linked && echo x >f && git commit -qam side",
    );
    // Turned off, and in CI.
    let number = place.json(&["list"])["snapshots"].as_array().unwrap().len();
    std::fs::write(place.tree().join("f"), "four").unwrap();
    must(&place, "BDR=0 git commit -qam four");
    std::fs::write(place.tree().join("f"), "five").unwrap();
    must(&place, "CI=true git commit -qam five");
    assert_eq!(
        place.json(&["list"])["snapshots"].as_array().unwrap().len(),
        number
    );
    std::fs::write(place.tree().join("f"), "six").unwrap();
    must(&place, "CI=true BDR_CI=1 git commit -qam six");
    assert!(place.json(&["list"])["snapshots"].as_array().unwrap().len() > number);
    // A rebase is one operation, and can be undone.
    must(
        &place,
        "git worktree remove ../linked && git checkout -q side && echo mine >g && git add g && git commit -qm g",
    );
    let head = must(&place, "git rev-parse HEAD");
    must(&place, "git rebase -q -X theirs main");
    assert_ne!(must(&place, "git rev-parse HEAD"), head);
    let rebase = operations(&place)
        .into_iter()
        .find(|o| o["label"] == "pre-rebase")
        .unwrap();
    assert_eq!(rebase["state"], "finished", "{rebase}");
    place.run(&["undo", "--yes", rebase["id"].as_str().unwrap()], 0);
    assert_eq!(must(&place, "git rev-parse HEAD"), head);
    assert_eq!(must(&place, "git status --porcelain"), "?? untracked\n");
    // A push that takes something away says what; another one says nothing.
    must(
        &place,
        "git init -q --bare ../remote && git remote add r ../remote && git push -q r side main",
    );
    let pushes = || {
        operations(&place)
            .iter()
            .filter(|o| o["label"] == "pre-push")
            .count()
    };
    assert_eq!(pushes(), 0);
    must(
        &place,
        "git commit -q --amend -m other && git push -qf r side",
    );
    assert_eq!(pushes(), 1);
    let all = operations(&place);
    let push = all.iter().find(|o| o["label"] == "pre-push").unwrap();
    let shown = place
        .json(&["show", push["id"].as_str().unwrap()])
        .to_string();
    let was = format!("r/side was {}", head.trim());
    assert!(shown.contains(&was), "{shown}");
    let said = std::fs::read_to_string(place.path("said")).unwrap();
    assert!(said.contains("args r ../remote\nrefs/heads/"), "{said}");
    place.run(&["hooks", "uninstall", "git"], 0);
    assert_eq!(picture(&place.tree().join(".git/hooks")), before);
}

#[test]
fn whatever_fails_git_goes_on() {
    let place = place();
    must(&place, "git init -q . && git add f && git commit -qm one");
    place.run(&["hooks", "install", "git"], 0);
    let commit = |name: &str| {
        let mut told = String::new();
        std::fs::write(place.tree().join("f"), name).unwrap();
        told += &must(
            &place,
            &format!("git commit -qam '{name}' && git log -1 --format=%s"),
        );
        assert!(told.contains(&format!("{name}\n")), "{told}");
        told
    };
    assert_eq!(commit("well"), "well\n", "it says something");
    // The repository is damaged, away, or a file.
    let store = place.path("bdr/data");
    let store = if store.exists() {
        store
    } else {
        place.path("bdr")
    };
    let away = place.path("away");
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "a file").unwrap();
    let said = commit("a file in its place");
    assert_eq!(said.lines().count(), 2, "one line of complaint: {said}");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    std::fs::write(place.path("bdr/config.toml"), "not = [toml").unwrap();
    assert!(commit("a broken configuration").contains("no snapshot at pre-commit"));
    // There is no bdr any more.
    let hooks = place.tree().join(".git/hooks");
    for entry in std::fs::read_dir(&hooks).unwrap().map(Result::unwrap) {
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let text = text.replace(env!("CARGO_BIN_EXE_bdr"), "/nowhere/bdr");
            std::fs::write(entry.path(), text).unwrap();
        }
    }
    assert_eq!(commit("gone"), "gone\n");
}

#[test]
fn other_managers_of_hooks_are_lived_with() {
    let place = place();
    must(&place, "git init -q . && git add f && git commit -qm one");
    let hooks = place.tree().join(".git/hooks");
    // husky and whoever else sets core.hooksPath: the line to add is said, nothing is written.
    must(
        &place,
        "mkdir -p .husky/_ && git config core.hooksPath .husky/_",
    );
    let before = picture(&place.tree());
    let output = place.run(&["hooks", "install", "git"], 1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains(".husky/pre-commit: bdr hook git pre-commit"),
        "{said}"
    );
    assert_eq!(picture(&place.tree()), before);
    place.run(&["hooks", "install", "git", "--force"], 0);
    assert!(place.tree().join(".husky/_/pre-commit").exists());
    place.run(&["hooks", "uninstall", "git"], 0);
    assert_eq!(picture(&place.tree()), before);
    must(&place, "git config --unset core.hooksPath && rm -r .husky");
    // The `pre-commit` program moves what it finds to `.legacy` and runs it first.
    hook(&place, "pre-commit", "#!/bin/sh\necho first >>../said\n");
    place.run(&["hooks", "install", "git"], 0);
    std::fs::rename(hooks.join("pre-commit"), hooks.join("pre-commit.legacy")).unwrap();
    hook(
        &place,
        "pre-commit",
        "#!/bin/sh\n\"$(dirname \"$0\")\"/pre-commit.legacy \"$@\" || exit\necho manager >>../said\n",
    );
    let labels = || {
        let list = place.json(&["list"]);
        list["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["label"] == "git pre-commit")
            .count()
    };
    std::fs::write(place.tree().join("f"), "two").unwrap();
    must(&place, "git commit -qam two");
    assert_eq!(
        std::fs::read_to_string(place.path("said")).unwrap(),
        "first\nmanager\n"
    );
    assert_eq!(labels(), 1);
    // That is as good as where it was, and comes out from there as well.
    place.run(&["hooks", "status"], 0);
    let with = picture(&hooks);
    place.run(&["hooks", "install", "git"], 0);
    assert_eq!(picture(&hooks), with);
    place.run(&["hooks", "uninstall", "git"], 0);
    let text = |name: &str| std::fs::read_to_string(hooks.join(name)).unwrap_or_default();
    assert_eq!(
        text("pre-commit.legacy"),
        "#!/bin/sh\necho first >>../said\n"
    );
    assert!(text("pre-commit").contains("echo manager"));
    // lefthook moves it to `.old`, and runs it no more: that is drift, said and mended.
    std::fs::remove_file(hooks.join("pre-commit.legacy")).unwrap();
    std::fs::remove_file(hooks.join("pre-commit")).unwrap();
    place.run(&["hooks", "install", "git"], 0);
    std::fs::rename(hooks.join("pre-commit"), hooks.join("pre-commit.old")).unwrap();
    hook(&place, "pre-commit", "#!/bin/sh\necho lefthook >>../said\n");
    place.run(&["hooks", "status"], 1);
    place.run(&["hooks", "install", "git"], 0);
    place.run(&["hooks", "status"], 0);
    std::fs::write(place.tree().join("f"), "lefthook").unwrap();
    must(&place, "git commit -qam lefthook");
    let said = std::fs::read_to_string(place.path("said")).unwrap();
    assert!(said.ends_with("manager\nlefthook\n"), "{said}");
    assert_eq!(labels(), 2);
    place.run(&["hooks", "uninstall", "git"], 0);
    assert!(text("pre-commit").contains("lefthook"));
    for name in ["pre-commit", "pre-commit.old"] {
        let _ = std::fs::remove_file(hooks.join(name));
    }
    hook(&place, "pre-commit", "#!/bin/sh\necho first >>../said\n");
    place.run(&["hooks", "install", "git"], 0);
    // The security hook of the brief copies what is there to `.backup`, and puts that back when it goes.
    std::fs::copy(hooks.join("pre-commit"), hooks.join("pre-commit.backup")).unwrap();
    hook(&place, "pre-commit", "#!/bin/sh\nexit 0\n");
    let status = place.bdr(&["--json", "hooks", "status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"standing\":\"gone\""));
    std::fs::rename(hooks.join("pre-commit.backup"), hooks.join("pre-commit")).unwrap();
    place.run(&["hooks", "status"], 0);
    std::fs::write(place.tree().join("f"), "three").unwrap();
    must(&place, "git commit -qam three");
    assert_eq!(labels(), 3);
    place.run(&["hooks", "uninstall", "git"], 0);
    let text = std::fs::read_to_string(hooks.join("pre-commit")).unwrap();
    assert_eq!(text, "#!/bin/sh\necho first >>../said\n");
    assert!(!hooks.join("pre-commit.bdr-previous").exists());
    // A directory of hooks that is a file, and a hook that is a directory.
    std::fs::create_dir(hooks.join("pre-push")).unwrap();
    place.run(&["hooks", "install", "git"], 1);
    assert!(!hooks.join("pre-rebase").exists(), "all or none");
    std::fs::remove_dir_all(&hooks).unwrap();
    std::fs::write(&hooks, "").unwrap();
    place.run(&["hooks", "install", "git"], 1);
    // Elsewhere there is nothing to install into, before git 2.54.
    let output = place
        .bdr(&["hooks", "install", "git"])
        .current_dir(place.path("home"))
        .output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

/// A git that says that it is newer than it is.
#[test]
fn newer_gits_get_their_hooks_by_configuration() {
    let place = place();
    must(&place, "git init -q .");
    std::fs::create_dir(place.path("newer")).unwrap();
    let git = place.path("newer/git");
    std::fs::write(&git, "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'git version 2.54.0'; exit; }\nPATH=${PATH#*:} exec git \"$@\"\n").unwrap();
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = "[user]\n\tname = me\n";
    let file = home_file(&place, ".gitconfig", before);
    let path = format!(
        "{}:{}",
        place.path("newer").display(),
        std::env::var("PATH").unwrap()
    );
    let run = |args: &[&str]| {
        let output = place
            .bdr(args)
            .env("PATH", &path)
            .env_remove("GIT_CONFIG_GLOBAL")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    run(&["hooks", "install", "git"]);
    // git itself reads it, and it does what the hook does.
    let read = |key: &str| {
        let output = Command::new("git")
            .args(["config", "--file"])
            .arg(&file)
            .args(["--get", key])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(read("hook.bdr-pre-commit.event"), "pre-commit\n");
    assert_eq!(read("user.name"), "me\n");
    let line = read("hook.bdr-pre-commit.command");
    let number = place.json(&["list"])["snapshots"].as_array().unwrap().len();
    // As git runs it: by a shell, with the arguments behind.
    std::fs::write(place.tree().join("f"), "changed").unwrap();
    must(
        &place,
        &format!(
            "sh -c '{} \"$@\"' hook one",
            line.trim().replace('\'', "'\\''")
        ),
    );
    assert_eq!(
        place.json(&["list"])["snapshots"].as_array().unwrap().len(),
        number + 1
    );
    run(&["hooks", "uninstall", "git"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

/// What a project's hooks go by (their own name, place, arguments, input) is as it was, or bdr does not install and says why: a check that
/// silently no longer runs is worse than none.
#[test]
fn checks_that_were_there_still_refuse() {
    let run_parts = "#!/bin/sh\nfor h in \"$0\".d/*; do [ -x \"$h\" ] || continue; \"$h\" \"$@\" || exit 1; done\n";
    let by_name = "#!/bin/sh\ncase $(basename \"$0\") in pre-commit) exit 1;; esac\n";
    let by_suffix = "#!/bin/bash\n[ \"${0##*/}\" != pre-commit ] || exit 1\n";
    let by_place = "#!/bin/sh\n. \"$(dirname \"$0\")/common\"\nrefuse\n";
    let by_config =
        "#!/bin/sh\nf=\"$(cd \"$(dirname \"$0\")/..\" && pwd)/refuse\"\n[ ! -f \"$f\" ]\n";
    let python = "#!/usr/bin/env python3\nimport os, sys\nsys.exit(os.path.basename(sys.argv[0]) == 'pre-commit')\n";
    for (style, text, around) in [
        (
            "run-parts",
            run_parts,
            "mkdir pre-commit.d; printf '#!/bin/sh\\nexit 1\\n' > pre-commit.d/10; chmod +x pre-commit.d/10",
        ),
        ("basename", by_name, ""),
        ("suffix", by_suffix, ""),
        ("dirname", by_place, "echo 'refuse() { exit 1; }' > common"),
        ("file beside", by_config, ": > ../refuse"),
        ("python", python, ""),
        (
            "dispatcher by link",
            by_name,
            "mv pre-commit dispatch; ln -s dispatch pre-commit",
        ),
        (
            "dispatcher elsewhere",
            by_name,
            "mkdir ../shared; mv pre-commit ../shared/all; ln -s ../shared/all pre-commit",
        ),
    ] {
        if text.contains("python3") && !has("python3") || text.contains("/bin/bash") && !has("bash")
        {
            println!("NOT TRIED: {style}: its program is not here");
            continue;
        }
        let place = place();
        must(
            &place,
            "git init -q -b main . && git add f && git commit -qm one",
        );
        hook(&place, "pre-commit", text);
        must(&place, &format!("cd .git/hooks; {around}"));
        let commit =
            |what: &str| script(&place, &format!("git commit -q --allow-empty -m '{what}'"));
        assert_ne!(
            commit("before").status.code(),
            Some(0),
            "{style}: it refuses nothing"
        );
        let before = picture(&place.tree().join(".git/hooks"));
        let installed = place.bdr(&["hooks", "install", "git"]).output().unwrap();
        let said = stderr(&installed) + &String::from_utf8_lossy(&installed.stdout);
        assert_ne!(commit("after").status.code(), Some(0), "{style}: {said}");
        if installed.status.code() == Some(0) {
            let list = place.json(&["list"]);
            let taken = list["snapshots"].as_array().unwrap().iter();
            let mut taken = taken.filter(|s| s["label"] == "git pre-commit");
            assert!(taken.next().is_some(), "{style}: no snapshot: {said}");
        } else {
            assert!(said.contains("pre-commit"), "{style}: {said}");
        }
        place.run(&["hooks", "uninstall", "git"], 0);
        let after = picture(&place.tree().join(".git/hooks"));
        assert_eq!(before, after, "{style}");
        assert_ne!(commit("at last").status.code(), Some(0), "{style}");
    }
}

/// Whatever a session has set, its lines are protected, or bdr says once that they are not.
#[test]
fn no_setting_of_bash_turns_protection_off_in_silence() {
    if !has("bash") {
        return;
    }
    for before in [
        "IFS=$'\\n'",
        "IFS=:",
        "IFS=",
        "unset IFS",
        "set -u",
        "set -f",
        "set -o posix",
        "shopt -u promptvars",
        "shopt -s nullglob failglob",
        "shopt -s extglob nocasematch",
        "readonly PROMPT_COMMAND=:",
        "PROMPT_COMMAND=(: :)",
        "alias command=false builtin=false printf=false local=false",
        "PROMPT_COMMAND=:",
        "unset PROMPT_COMMAND",
        "trap 'x=1' DEBUG",
        "HISTCONTROL=ignorespace; HISTSIZE=0",
        "set +o history",
        "CDPATH=/; GLOBIGNORE='*'",
        "PS0='mine '",
        "command() { false; }; export -f command",
    ] {
        let place = place();
        place.write("a", b"a");
        // Set before bdr is there, and by a line that is typed after.
        for first in [true, false] {
            let mut typed = Shell::start(&place, "bash", &[], if first { before } else { "" });
            if !first {
                typed.line(before);
            }
            let said = typed.line("rm -f a");
            assert!(!place.tree().join("a").exists(), "{before}: {said}");
            let greeting = &typed.greeting;
            let warned = greeting.contains("bdr:");
            let told = said.contains("1 file deleted");
            assert!(
                told || warned,
                "{before} (first: {first}): {greeting}{said}"
            );
            assert!(!said.contains("__bdr"), "{before}: {said}");
            if told {
                typed.line("bdr undo --yes");
                assert!(place.tree().join("a").exists(), "{before}");
            }
            place.write("a", b"a");
        }
    }
}

#[test]
fn projects_deploy_after_a_snapshot() {
    let place = place();
    let package = "{\n  \"name\": \"shop\",\n  \"version\": \"1.0.0\",\n  \"scripts\": {\n    \"deploy\": \"echo deployed >>../said\",\n    \"deploy:prod\": \"echo prod >>../said\",\n    \"predeploy:prod\": \"echo before >>../said\"\n  }\n}\n";
    place.write("package.json", package.as_bytes());
    place.run(&["hooks", "install", "deploy"], 0);
    if has("npm") {
        must(
            &place,
            "npm run --silent deploy && npm run --silent deploy:prod",
        );
        assert_eq!(
            std::fs::read_to_string(place.path("said")).unwrap(),
            "deployed\nbefore\nprod\n"
        );
        let list = place.json(&["list"]);
        let labels: Vec<&str> = list["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|s| s["label"].as_str())
            .collect();
        assert_eq!(labels, ["pre-deploy", "pre-deploy:prod"]);
        // Without bdr a deployment goes on.
        let output = script(
            &place,
            "PATH=$(dirname \"$(command -v npm)\"):/usr/bin:/bin npm run --silent deploy",
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    place.run(&["hooks", "uninstall", "deploy"], 0);
    assert_eq!(
        std::fs::read_to_string(place.tree().join("package.json")).unwrap(),
        package
    );
    let printed = place.run(&["hooks", "print", "deploy"], 0);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    for name in [
        "Makefile",
        "justfile",
        "GitHub Actions",
        "Kamal",
        "Capistrano",
        "kamal",
    ] {
        assert!(
            text.to_lowercase().contains(&name.to_lowercase()),
            "{name}: {text}"
        );
    }
    // The contract for other programs: one document, whatever else happens.
    let document = place.json(&["backup", "--label", "pre-deploy:production"]);
    assert!(document["snapshot"].is_string(), "{document}");
}

/// A shell that has bdr's hooks, in a terminal. Each line typed is followed by a mark that is waited for.
struct Shell {
    terminal: Terminal,
    marks: u32,
    /// What was shown when bdr was read in.
    greeting: String,
}

impl Shell {
    fn start(place: &Place, shell: &str, options: &[&str], before: &str) -> Self {
        let mut args = vec!["shell", "init", shell];
        args.extend(options);
        let init = place.run(&args, 0).stdout;
        let file = place.path("init");
        std::fs::write(&file, [before.as_bytes(), b"\n", &init].concat()).unwrap();
        let program: Vec<&str> = match shell {
            "bash" => vec!["bash", "--norc", "--noprofile", "--noediting", "-i"],
            "zsh" => vec!["zsh", "-f", "-i"],
            _ => vec!["fish", "--no-config", "-i"],
        };
        let mut shell = Self {
            terminal: Terminal::start(place, &program),
            marks: 0,
            greeting: String::new(),
        };
        shell.line("true");
        shell.greeting = shell.line(&format!(". {}", file.display()));
        shell
    }

    /// Types a line, and returns what was shown until the prompt after it is there.
    #[track_caller]
    fn line(&mut self, line: &str) -> String {
        self.terminal.type_in(&format!("{line}\n"));
        self.marks += 1;
        // An echo starts nothing, and in two parts it is not what is typed.
        self.terminal
            .type_in(&format!("echo end'of'{}.\n", self.marks));
        self.terminal.expect(&format!("endof{}.", self.marks))
    }
}

fn shells() -> impl Iterator<Item = &'static str> {
    ["bash", "zsh", "fish"]
        .into_iter()
        .filter(|shell| has(shell))
}

#[test]
fn shells_protect_each_line_and_say_what_is_gone() {
    for shell in shells() {
        let place = place();
        for name in ["a", "b", "c", "d/1", "d/2"] {
            place.write(name, name.as_bytes());
        }
        let mut typed = Shell::start(&place, shell, &[], "");
        let quiet = operations(&place).len();
        // What only looks leaves nothing, and what changes nothing neither.
        for line in ["ls", "cat a", "git status", "true", "test -e a", ""] {
            let said = typed.line(line);
            assert!(!said.contains("bdr:"), "{shell} {line}: {said}");
        }
        assert_eq!(operations(&place).len(), quiet, "{shell}");
        let said = typed.line("rm -r d");
        assert!(said.contains("bdr: 2 files deleted"), "{shell}: {said}");
        assert!(said.contains("undo: bdr undo"), "{shell}: {said}");
        assert!(!place.tree().join("d").exists());
        typed.line("bdr undo --yes");
        assert!(place.tree().join("d/2").exists(), "{shell}");
        // A loop, a pipeline and a redirection; one operation each.
        let lines = match shell {
            "fish" => [
                "for i in a b; rm $i; end",
                "echo c | xargs rm",
                "echo x > d/1",
            ],
            _ => [
                "for i in a b; do rm $i; done",
                "echo c | xargs rm",
                "echo x > d/1",
            ],
        };
        for line in lines {
            let number = operations(&place).len();
            typed.line(line);
            assert_eq!(operations(&place).len(), number + 1, "{shell}: {line}");
            place.run(&["undo", "--yes"], 0);
        }
        assert_eq!(std::fs::read(place.tree().join("d/1")).unwrap(), b"d/1");
        assert!(
            ["a", "b", "c"]
                .iter()
                .all(|name| place.tree().join(name).exists())
        );
        // bdr's own lines are bdr's own.
        let number = operations(&place).len();
        typed.line("guard rm a");
        assert_eq!(operations(&place).len(), number + 1, "{shell}");
        place.run(&["undo", "--yes"], 0);
        // Turned off.
        typed.line(if shell == "fish" {
            "set -gx BDR 0"
        } else {
            "export BDR=0"
        });
        let number = operations(&place).len();
        typed.line("rm a");
        assert_eq!(operations(&place).len(), number, "{shell}");
    }
}

/// Jobs belong to the line that began them, whatever is typed while they run; functions, aliases and variables stand for what they say.
#[cfg(target_os = "linux")]
#[test]
fn shells_tell_what_runs_on_and_what_words_stand_for() {
    for shell in shells() {
        let place = place();
        for name in [
            "ws/notes",
            "ws/docs/d",
            "ws/docs2/d",
            "out/a/1",
            "out/b/1",
            "out/c/1",
        ] {
            place.write(name, name.as_bytes());
        }
        let tree = place.tree();
        let mut typed = Shell::start(&place, shell, &[], "");
        typed.line("cd ws");
        let said = typed.line("sh -c 'while ! [ -e ../go ]; do sleep 0.02; done; rm -rf docs' &");
        let line = "still running: sh -c 'while ! [ -e ../go ]; ";
        assert!(
            said.contains(line) && said.contains("· undo so far: bdr undo"),
            "{shell}: {said}"
        );
        let said = typed.line("rm notes");
        assert!(said.contains("1 file deleted"), "{shell}: {said}");
        place.write("go", b"");
        let both = || operations(&place).iter().all(|o| o["finished"] == true);
        wait_for("the end of the job", both);
        assert_eq!(operations(&place).len(), 2, "{shell}");
        typed.line("bdr undo --yes");
        assert!(
            tree.join("ws/notes").exists() && !tree.join("ws/docs").exists(),
            "{shell}"
        );
        typed.line("bdr undo --yes");
        assert!(tree.join("ws/docs/d").exists(), "{shell}");
        let lines = match shell {
            "fish" => [
                ("alias nuke='rm -rf ../out/a'", "nuke", "a"),
                ("function f; sh -c 'rm -rf ../out/b'; end", "f", "b"),
                ("set D ../out/c", "rm -rf \"$D\"", "c"),
            ],
            _ => [
                ("alias nuke='rm -rf ../out/a'", "nuke", "a"),
                ("f() { sh -c 'rm -rf ../out/b'; }", "f", "b"),
                ("D=../out/c", "rm -rf \"$D\"", "c"),
            ],
        };
        for (before, line, name) in lines {
            typed.line(before);
            typed.line(line);
            assert!(!tree.join("out").join(name).exists(), "{shell}: {line}");
            typed.line("bdr undo --yes");
            assert!(
                tree.join("out").join(name).join("1").exists(),
                "{shell}: {line}"
            );
        }
    }
}

#[test]
fn shells_keep_their_state() {
    for shell in shells() {
        let place = place();
        place.write("a", b"a");
        let mut typed = Shell::start(&place, shell, &[], "");
        let status = if shell == "fish" { "$status" } else { "$?" };
        typed.line("sh -c 'exit 7'");
        // Of the line before, which was watched.
        typed.terminal.type_in("sh -c 'rm -f a; exit 7'\n");
        let said = typed.line(&format!("echo is={status}."));
        assert!(said.contains("is=7."), "{shell}: {said}");
        if shell == "fish" {
            continue;
        }
        typed.terminal.type_in("touch a | false | true\n");
        let name = if shell == "bash" {
            "PIPESTATUS"
        } else {
            "pipestatus"
        };
        let said = typed.line(&format!("echo pipe=${{{name}[*]}}."));
        assert!(said.contains("pipe=0 1 0."), "{shell}: {said}");
        typed.terminal.type_in("touch a last-word\n");
        let said = typed.line("echo word=$_.");
        assert!(said.contains("word=last-word."), "{shell}: {said}");
        // Strict shells are no worse off.
        typed.line("set -u");
        let said = typed.line("rm a");
        assert!(said.contains("1 file deleted"), "{shell}: {said}");
        typed.line("set -e");
        let said = typed.line("touch z && rm z last-word");
        assert!(
            said.contains("deleted") && !said.contains("unbound"),
            "{shell}: {said}"
        );
    }
}

#[test]
fn shells_let_other_programs_have_their_hooks() {
    for (shell, before) in [
        (
            "bash",
            "PROMPT_COMMAND='other_prompt'; other_prompt() { other_status=$?; other=$((other+1)); }; trap ': ' DEBUG; PS0='[other]'",
        ),
        (
            "zsh",
            "autoload -Uz add-zsh-hook; other() { others=$((others+1)); }; add-zsh-hook preexec other; add-zsh-hook precmd other_prompt; other_prompt() { other_status=$?; other=$((other+1)); }",
        ),
    ] {
        if !has(shell) {
            continue;
        }
        let place = place();
        place.write("a", b"a");
        let mut typed = Shell::start(&place, shell, &[], before);
        typed.terminal.type_in("sh -c 'rm a; exit 5'\n");
        let said = typed.line("echo seen=$other_status.");
        assert!(
            said.contains("seen=5.") && said.contains("1 file deleted"),
            "{shell}: {said}"
        );
        let said = typed.line("test $other -gt 2 && echo many.");
        assert!(said.contains("many."), "{shell}: {said}");
        if shell == "bash" {
            assert!(typed.line("ls").contains("[other]"));
            assert!(typed.line("trap -p DEBUG").contains("': '"));
        }
        // A second time is once.
        std::fs::write(
            place.path("again"),
            place.run(&["shell", "init", shell], 0).stdout,
        )
        .unwrap();
        typed.line(&format!(". {}", place.path("again").display()));
        let number = operations(&place).len();
        typed.line("touch b");
        assert_eq!(operations(&place).len(), number + 1, "{shell}");
    }
}

#[test]
fn bash_knows_lines_that_it_does_not_remember_and_does_without_ps0() {
    if !has("bash") {
        return;
    }
    let place = place();
    place.write("a", b"a");
    place.write("b", b"b");
    let mut typed = Shell::start(&place, "bash", &[], "HISTCONTROL=ignoreboth");
    let said = typed.line(" rm a");
    assert!(said.contains("1 file deleted"), "{said}");
    place.run(&["undo", "--yes"], 0);
    typed.line("rm b");
    typed.line("bdr undo --yes");
    typed.line("bdr undo --yes");
    assert!(place.tree().join("b").exists());
    // As bash 3.2, and with bash-preexec.
    for before in [
        "__bdr_no_ps0=1",
        "__bdr_no_ps0=1; bash_preexec_imported=1; preexec_functions=(); precmd_functions=(); PROMPT_COMMAND='for f in \"${precmd_functions[@]}\"; do $f; done; armed=1'; trap '[[ -n ${armed-} ]] && { armed=; for f in \"${preexec_functions[@]}\"; do $f \"$BASH_COMMAND\"; done; }' DEBUG",
    ] {
        let mut typed = Shell::start(&place, "bash", &[], before);
        assert!(!typed.line("ls").contains("bdr:"));
        let said = typed.line("rm a");
        assert!(said.contains("1 file deleted"), "{before}: {said}");
        typed.line("bdr undo --yes");
        assert!(place.tree().join("a").exists(), "{before}");
    }
}

/// A place with a file outside of the source that is over the budget.
fn tight_place() -> (Place, PathBuf) {
    let place = place();
    place.write("a", b"a");
    std::fs::create_dir(place.path("other")).unwrap();
    let big = place.path("other/big");
    std::fs::write(&big, vec![b'x'; 3 << 20]).unwrap();
    place.run(&["config", "set", "guard.max_bytes", "1M"], 0);
    place.run(&["config", "set", "guard.max_kept", "1M"], 0);
    place.run(&["config", "set", "guard.capture", "off"], 0);
    (place, big)
}

#[test]
fn wrapped_commands_are_not_run_unprotected_and_make_one_operation() {
    for shell in shells() {
        let (place, big) = tight_place();
        let mut typed = Shell::start(&place, shell, &["--wrap", "rm,mv"], "");
        let number = operations(&place).len();
        let said = typed.line("rm a");
        assert!(said.contains("1 file deleted"), "{shell}: {said}");
        assert_eq!(operations(&place).len(), number + 1, "{shell}");
        // Over the budget: the observer says so, the wrapped command does not run.
        let said = typed.line("rm ../other/big");
        assert!(said.contains("not run"), "{shell}: {said}");
        assert!(big.exists(), "{shell}");
    }
}

#[test]
fn shells_that_may_refuse_a_line_do() {
    for shell in shells() {
        let (place, big) = tight_place();
        let mut typed = Shell::start(&place, shell, &["--veto"], "");
        let number = operations(&place).len();
        let said = typed.line("rm a");
        assert!(said.contains("1 file deleted"), "{shell}: {said}");
        assert_eq!(operations(&place).len(), number + 1, "{shell}");
        // It stays in the editor of zsh and fish: Ctrl-U takes it out.
        typed.terminal.type_in("rm ../other/big");
        typed.terminal.type_in("\r");
        typed.terminal.expect("not run");
        if shell != "bash" {
            typed.terminal.type_in("\u{15}");
        }
        let said = typed.line("echo still here");
        assert!(said.contains("still here"), "{shell}: {said}");
        assert!(big.exists(), "{shell}");
        let below = match shell {
            "fish" => "begin; cd ../other; rm big; end",
            _ => "(cd ../other && rm big)",
        };
        for line in [below, "rm f; rm ../other/big", "true && rm ../other/big"] {
            typed.terminal.type_in(line);
            typed.terminal.type_in("\r");
            typed.terminal.expect("not run");
            if shell != "bash" {
                typed.terminal.type_in("\u{15}");
            }
            typed.line("echo next");
            assert!(
                big.exists() && place.tree().join("f").exists(),
                "{shell}: {line}"
            );
        }
        // What can be protected runs as before.
        let said = typed.line("rm f");
        assert!(said.contains("1 file deleted"), "{shell}: {said}");
    }
}

#[test]
fn one_command_that_several_see_is_one_operation() {
    let place = place();
    must(
        &place,
        "git init -q -b main . && git add f && git commit -qm one && git checkout -qb side && echo x >g && git add g && git commit -qm g \
         && git checkout -q main && echo y >h && git add h && git commit -qm h && git checkout -q side",
    );
    place.run(&["hooks", "install", "git"], 0);
    let number = || operations(&place).len();
    let start = number();
    must(&place, "bdr guard -- git rebase -q main");
    assert_eq!(number(), start + 1, "a guard and git");
    place.run(&["undo", "--yes"], 0);
    let start = number();
    let event = |name: &str| {
        let event = serde_json::json!({
            "session_id": "s", "cwd": place.tree(), "hook_event_name": name, "tool_name": "Bash", "tool_use_id": "t1",
            "tool_input": {"command": "git rebase -q main"},
        });
        must(&place, &format!("echo '{event}' | bdr hook claude"))
    };
    event("PreToolUse");
    // The agent's shell is an interactive one, with bdr in it.
    must(
        &place,
        "bdr hook shell before --shell bash --session 1 -- 'git rebase -q main'",
    );
    must(&place, "git rebase -q main");
    must(
        &place,
        "bdr hook shell after --shell bash --session 1 --exit 0",
    );
    event("PostToolUse");
    assert_eq!(number(), start + 1, "an agent, a shell and git");
    place.run(&["undo", "--yes"], 0);
    for shell in shells() {
        let start = number();
        let mut typed = Shell::start(&place, shell, &["--wrap", "git,rm"], "");
        typed.line("git -c user.name=a -c user.email=b rebase -q main");
        assert_eq!(number(), start + 1, "{shell}, a function and git");
        place.run(&["undo", "--yes"], 0);
        assert_eq!(must(&place, "git log -1 --format=%s"), "g\n");
    }
}

#[test]
fn shells_start_as_ever_when_bdr_is_gone() {
    let place = place();
    home_file(&place, ".bashrc", "echo own-rc\n");
    home_file(&place, ".zshrc", "echo own-rc\n");
    std::fs::create_dir_all(place.path("home/.config/fish")).unwrap();
    place.run(&["hooks", "install", "shell"], 0);
    for (shell, file) in [
        ("bash", ".bashrc"),
        ("zsh", ".zshrc"),
        ("fish", ".config/fish/conf.d/bdr.fish"),
    ] {
        let file = place.path("home").join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        let bdr = env!("CARGO_BIN_EXE_bdr");
        assert!(text.contains(bdr), "{text}");
        std::fs::write(&file, text.replace(bdr, "/nowhere/bdr")).unwrap();
        if !has(shell) {
            continue;
        }
        let output = script(
            &place,
            &format!(
                "{shell} -ic 'echo well' 2>&1 | grep -v 'job control\\|terminal process group'"
            ),
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let own = if shell == "fish" { "" } else { "own-rc\n" };
        assert_eq!(said, format!("{own}well\n"), "{shell}");
    }
}

#[test]
fn a_snapshot_that_is_interrupted_does_not_break_the_shell() {
    if !has("bash") {
        return;
    }
    let place = place();
    place.write("a", b"a");
    let mut typed = Shell::start(&place, "bash", &[], "");
    // In place of bdr: one that never comes back by itself before a line.
    let slow = place.path("slow");
    let text = "#!/bin/sh\ncase \"$*\" in *' before '*) echo waiting >&2; exec sleep 600 ;; esac\n";
    std::fs::write(&slow, text).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    typed.line(&format!("__bdr_bin={}", slow.display()));
    typed.terminal.type_in("touch b\n");
    typed.terminal.expect("waiting");
    typed.terminal.type_in("\u{3}");
    let said = typed.line("echo next");
    assert!(!said.contains("syntax error"), "{said}");
}

#[test]
fn a_line_that_nobody_closed_does_not_stand_for_the_next_one() {
    let place = place();
    place.write("a", b"first");
    let before = |session: &str| {
        let line = "bdr hook shell before --shell bash --session";
        must(&place, &format!("{line} {session} -- 'rm a'"));
    };
    let states = || -> Vec<String> {
        let all = operations(&place);
        let state = |o: &Value| o["state"].as_str().unwrap().to_owned();
        all.iter().map(state).collect()
    };
    let own = std::process::id().to_string();
    // The shell was interrupted, and did not say what became of it.
    before(&own);
    place.write("a", b"second");
    before(&own);
    std::fs::remove_file(place.tree().join("a")).unwrap();
    must(
        &place,
        &format!("bdr hook shell after --shell bash --session {own} --exit 0"),
    );
    assert_eq!(states(), ["finished", "finished"]);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"second");
    // A terminal that was closed; another one, and an agent that runs the same elsewhere, are nobody's business.
    let gone = Command::new("true").spawn().unwrap();
    let number = gone.id().to_string();
    let mut gone = gone;
    gone.wait().unwrap();
    before(&number);
    place.write("a", b"third");
    before(&own);
    // The shell that the last one was typed in is there.
    assert_eq!(states()[..2], ["running", "finished"]);
}

#[test]
fn a_file_that_bdr_made_is_gone_afterwards_even_if_an_undo_came_between() {
    let place = place();
    std::fs::create_dir_all(place.path("home/.config/fish")).unwrap();
    let before = picture(&place.path("home"));
    for target in ["claude", "fish"] {
        place.run(&["hooks", "install", target], 0);
        let last = operations(&place).remove(0);
        place.run(&["undo", "--yes", last["id"].as_str().unwrap()], 0);
        place.run(&["hooks", "install", target], 0);
        place.run(&["hooks", "uninstall", target], 0);
        assert_eq!(picture(&place.path("home")), before, "{target}");
    }
}

/// The repository is used where it is until it is moved to where it was configured to be: no shell
/// makes another one there meanwhile, or stands in the way of the move.
#[cfg(target_os = "linux")]
#[test]
fn a_repository_can_be_moved_in_a_shell_that_is_protected() {
    for shell in shells() {
        let place = place();
        place.write("ws/notes", b"1");
        place.write("ws/other", b"1");
        let new = place.path("elsewhere");
        let mut typed = Shell::start(&place, shell, &[], "");
        typed.line("cd ws");
        typed.line("rm notes");
        let said = place.run(&["config", "set", "repository", &new.to_string_lossy()], 0);
        let said = String::from_utf8(said.stdout).unwrap();
        let (from, to) = (place.store(), new.clone());
        let command = format!("mv {} {}", from.display(), to.display());
        assert!(said.contains(&command), "{shell}: {said}");
        typed.line("rm other");
        assert!(!new.exists(), "{shell}");
        let said = typed.line(&command);
        assert!(!said.contains("bdr: "), "{shell}: {said}");
        assert!(new.join("format.json").exists(), "{shell}");
        assert_eq!(operations(&place).len(), 2, "{shell}");
        let undo = place
            .bdr(&["undo", "--yes"])
            .current_dir(place.tree().join("ws"))
            .status();
        assert!(undo.unwrap().success(), "{shell}");
        assert!(place.tree().join("ws/other").exists(), "{shell}");
        // One that is moved first, or deleted, is not said to be saved from that.
        let said = typed.line(&format!("mv {} {}", to.display(), from.display()));
        assert!(
            said.contains("not protected") && !said.contains("not run"),
            "{shell}: {said}"
        );
        assert!(from.exists(), "{shell}");
    }
}
