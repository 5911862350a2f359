//! The main job on the real binary: guard, undo, redo; exit codes and signals; crashes at every step.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use crate::backup::odd_tree;
use crate::support::cli::stderr;
use crate::support::{Place, assert_same, picture};

/// Commands that destroy, in the tree of `odd_tree`.
const DESTROYERS: [&str; 10] = [
    "rm -rf ./* .[!.]*",
    "rm -rf deep 'empty dir' link plain.txt",
    "mv plain.txt moved; mv deep deeper",
    "> plain.txt; echo more >> big.log",
    "chmod 600 plain.txt; chmod 700 deep; touch -d @5 big.log",
    "rm plain.txt; mkdir plain.txt; echo x > plain.txt/inside",
    "rm -rf deep; echo 'a file now' > deep",
    "ln -sf elsewhere link; rm deep/hard",
    "mkdir -p created/by/it; echo 1 > created/by/it/file; rm -rf 'empty dir'",
    "sed -i s/hello/HELLO/ plain.txt; truncate -s 10 big.log; cp plain.txt copied",
];

#[test]
fn undo_restores_exactly_what_a_guarded_command_did() {
    for script in DESTROYERS {
        let place = Place::with_repository();
        odd_tree(&place);
        place.init();
        let before = picture(&place.tree());
        place.run(&["guard", "--", "sh", "-c", script], 0);
        let destroyed = picture(&place.tree());
        assert_ne!(before, destroyed, "{script}: nothing happened");
        place.run(&["undo", "--yes"], 0);
        assert_same(&before, &picture(&place.tree()), script);
        place.run(&["redo", "--yes"], 0);
        let redone = picture(&place.tree());
        let names = |p: &std::collections::BTreeMap<_, _>| p.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&destroyed), names(&redone), "{script}: redo");
        place.run(&["undo", "--yes"], 0);
        assert_same(
            &before,
            &picture(&place.tree()),
            &format!("{script}: after redo"),
        );
    }
}

#[test]
fn a_guard_works_on_a_fresh_machine_without_init() {
    let place = Place::with_repository();
    place.write("dir/file", b"precious");
    let before = picture(&place.tree());
    place.run(&["guard", "--", "rm", "-rf", "dir"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "fresh");
}

#[test]
fn what_changed_again_since_is_kept_and_the_old_is_beside_it() {
    let place = Place::with_repository();
    place.write("notes", b"first");
    place.write("other", b"first");
    place.init();
    place.run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "echo second > notes; rm other; echo made > made",
        ],
        0,
    );
    place.write("notes", b"third");
    place.write("made", b"grown");
    let output = place.run(&["undo", "--yes"], 3);
    let read = |name: &str| std::fs::read(place.tree().join(name)).unwrap();
    assert_eq!(read("notes"), b"third", "{}", stderr(&output));
    assert_eq!(read("other"), b"first");
    assert_eq!(read("made"), b"grown");
    let beside: Vec<_> = std::fs::read_dir(place.tree())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("notes.bdr-"))
        .collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(read(&beside[0]), b"first");
}

#[test]
fn the_status_is_the_childs() {
    let place = Place::with_repository();
    place.write("f", b"x");
    place.init();
    place.run(&["guard", "--", "sh", "-c", "exit 7"], 7);
    place.run(&["guard", "--", "sh", "-c", "exit 255"], 255);
    place.run(&["guard", "--", "no-such-program-at-all"], 127);
    std::fs::write(place.tree().join("not-executable"), "x").unwrap();
    place.run(&["guard", "--", "./not-executable"], 126);
    place.run(&["guard"], 125);
    place.run(&["guard", "--"], 125);
    let killed = place
        .bdr(&["guard", "--", "sh", "-c", "kill -TERM $$"])
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(15), "{killed:?}");
}

#[test]
fn streams_belong_to_the_child() {
    use std::io::Write as _;
    let place = Place::with_repository();
    place.write("f", b"x");
    place.init();
    let mut child = place
        .bdr(&["guard", "--", "sh", "-c", "cat; echo err >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through\n");
    assert_eq!(
        output.stderr, b"err\n",
        "bdr has nothing to say when nothing was destroyed"
    );
}

#[test]
fn signals_sent_to_bdr_reach_the_child_and_the_operation_is_recorded() {
    let place = Place::with_repository();
    place.write("f", b"x");
    place.init();
    let mut child = place
        .bdr(&[
            "guard",
            "--",
            "sh",
            "-c",
            "trap 'rm f; exit 9' TERM; touch ready; while :; do sleep 0.05; done",
        ])
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if place.tree().join("ready").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"x");
}

#[test]
fn without_a_snapshot_nothing_is_run() {
    let place = Place::with_repository();
    place.write("f", b"x");
    place.init();
    // A repository that cannot be written, even by root: its directory is a file.
    std::fs::rename(place.store(), place.path("bdr/away")).unwrap();
    std::fs::write(place.store(), "in the way").unwrap();
    let output = place.run(&["guard", "--", "rm", "f"], 125);
    assert!(place.tree().join("f").exists(), "{}", stderr(&output));
    assert!(stderr(&output).contains("not run"), "{}", stderr(&output));
    place.run(&["guard", "--on-fail", "run", "--", "rm", "f"], 0);
    assert!(!place.tree().join("f").exists());
}

#[test]
fn the_repository_itself_is_not_deleted() {
    let place = Place::with_repository().watched();
    place.write("f", b"x");
    place.init();
    let store = place.store().display().to_string();
    for target in [&store, &place.path("bdr").display().to_string()] {
        let output = place.run(&["guard", "--", "rm", "-rf", target], 125);
        assert!(
            stderr(&output).contains("needs to undo it"),
            "{}",
            stderr(&output)
        );
        assert!(place.store().join("format.json").exists());
    }
}

#[test]
fn what_is_over_the_budget_is_refused_or_run_on_request() {
    let place = Place::with_repository().watched();
    place.write("small", b"x");
    place.init();
    let outside = place.path("videos");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("film"), vec![1; 300_000]).unwrap();
    let name = outside.display().to_string();
    let output = place.run(
        &["guard", "--max-bytes", "100K", "--", "rm", "-rf", &name],
        125,
    );
    assert!(outside.exists());
    assert!(
        stderr(&output).contains("--max-bytes"),
        "{}",
        stderr(&output)
    );
    place.run(&["guard", "--max-bytes", "1M", "--", "rm", "-rf", &name], 0);
    assert!(!outside.exists());
    place.run(&["undo", "--yes"], 0);
    assert_eq!(
        std::fs::read(outside.join("film")).unwrap(),
        vec![1; 300_000]
    );
}

#[test]
fn a_kill_at_any_step_of_guard_undo_or_restore_loses_nothing() {
    let verbs: [&[&str]; 3] = [
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "rm -rf deep; echo x > plain.txt; echo n > new",
        ],
        &["undo", "--yes"],
        &["restore", "--yes", "--delete"],
    ];
    for (number, verb) in verbs.iter().enumerate() {
        let base = Place::with_repository();
        odd_tree(&base);
        base.init();
        let original = picture(&base.tree());
        if number > 0 {
            base.run(verbs[0], 0);
        }
        // The same place, copied anew for each step: hard links, times and all.
        let mut points = 0;
        let mut step = 1;
        loop {
            let place = Place::with_repository();
            let copied = std::process::Command::new("cp")
                .args(["-a", &format!("{}/.", base.dir.path().display())])
                .arg(place.dir.path())
                .status()
                .unwrap();
            assert!(copied.success());
            let moved = |text: &std::path::Path| {
                let text = std::fs::read_to_string(text).unwrap();
                let from = base.dir.path().canonicalize().unwrap();
                let to = place.dir.path().canonicalize().unwrap();
                text.replace(from.to_str().unwrap(), to.to_str().unwrap())
            };
            let config = place.path("bdr/config.toml");
            std::fs::write(&config, moved(&config)).unwrap();
            if number == 0 {
                // Only a guard works on a moved tree: records name absolute paths.
                let output = place
                    .bdr(verb)
                    .env("BDR_TEST_CRASH_AT", step.to_string())
                    .output()
                    .unwrap();
                let crashed = output.status.signal() == Some(6);
                if crashed {
                    points += 1;
                    // Under capture the command may be cut off as well, at a call that nobody answers.
                    if picture(&place.tree()) != original {
                        place.run(&["undo", "--yes"], 0);
                    }
                    assert_same(
                        &original,
                        &picture(&place.tree()),
                        &format!("guard cut at {step}"),
                    );
                    place.run(&["backup"], 0);
                    let output = place.run(&["verify"], 0);
                    drop(output);
                } else {
                    break;
                }
            } else {
                break;
            }
            step += 1;
        }
        if number > 0 {
            // In place: cut, finish, compare; then make the same mess again.
            let mut step = 1;
            loop {
                let output = base
                    .bdr(verb)
                    .env("BDR_TEST_CRASH_AT", step.to_string())
                    .output()
                    .unwrap();
                let crashed = output.status.signal() == Some(6);
                if crashed {
                    points += 1;
                    finish(&base, number);
                }
                assert_same(
                    &original,
                    &picture(&base.tree()),
                    &format!("{verb:?} cut at {step}: {}", stderr(&output)),
                );
                base.run(&["verify"], 0);
                if !crashed {
                    break;
                }
                base.run(verbs[0], 0);
                step += 1;
            }
        }
        assert!(points > 5, "{verb:?}: only {points} points were cut");
    }
}

/// What a user does after a crash in the middle.
fn finish(place: &Place, number: usize) {
    let log = place.json(&["log"]);
    let operations = log["operations"].as_array().unwrap();
    let guard = operations.iter().find(|o| o["kind"] == "guard").unwrap();
    if number == 1 {
        // The undo is asked for again.
        let id = guard["id"].as_str().unwrap().to_owned();
        let output = place.bdr(&["undo", &id, "--yes"]).output().unwrap();
        // It may have been over before the crash.
        let said = stderr(&output);
        let over = output.status.code() == Some(1) && said.contains("undone already");
        assert!(output.status.success() || over, "{said}");
    } else {
        let resumed = place
            .bdr(&["restore", "--resume", "--yes"])
            .output()
            .unwrap();
        if resumed.status.code() != Some(0) {
            // It had not begun.
            place.run(&["restore", "latest:full", "--yes", "--delete"], 0);
        }
    }
}

#[test]
fn a_rule_of_the_user_makes_more_of_what_only_reads() {
    let place = Place::with_repository();
    place.write("file", b"precious");
    place.init();
    let config = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // A program of this name that does not only read.
    let own = place.path("tools");
    std::fs::create_dir(&own).unwrap();
    let program = own.join("sha1sum");
    std::fs::write(&program, "#!/bin/sh\n: > file\n").unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let dirs = std::iter::once(own).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(dirs).unwrap();
    let guard = || {
        let mut command = place.bdr(&["guard", "--", "sha1sum", "file"]);
        assert!(command.env("PATH", &path).status().unwrap().success());
    };
    let rule = "rules = [\"my.sum | destructive | sha1sum | | args\"]";
    std::fs::write(
        &config,
        text.replace("[guard]", &format!("[guard]\n{rule}")),
    )
    .unwrap();
    guard();
    place.run(&["undo", "--yes"], 0);
    assert_eq!(
        std::fs::read(place.tree().join("file")).unwrap(),
        b"precious"
    );
    // Without it the table is believed.
    std::fs::write(&config, text).unwrap();
    guard();
    assert_eq!(std::fs::read(place.tree().join("file")).unwrap(), b"");
}

#[cfg(target_os = "linux")]
#[test]
fn an_operation_whose_command_left_something_running_is_running_until_that_ends() {
    let place = Place::with_repository().watched();
    place.init();
    place.write("a", b"a");
    // Ends when it may.
    let script = "(until [ -e stop ]; do sleep 0.05; done; rm -f a) >/dev/null 2>&1 & true";
    place.run(&["guard", "--", "sh", "-c", script], 0);
    let state = || {
        let log = place.json(&["log"]);
        log["operations"][0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(), "running");
    let shown = place.run(&["show", log_id(&place).as_str()], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("running") && !shown.contains("interrupted"),
        "{shown}"
    );
    place.write("stop", b"");
    let began = std::time::Instant::now();
    while state() == "running" && began.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(state(), "finished");
}

#[cfg(target_os = "linux")]
fn log_id(place: &Place) -> String {
    let log = place.json(&["log"]);
    log["operations"][0]["id"].as_str().unwrap().to_owned()
}
