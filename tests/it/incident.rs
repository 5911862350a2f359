//! What real losses looked like, in general form: git, worktrees, links, the directory that is gone, the repository that is gone.

use std::process::Command;

use crate::support::cli::stderr;
use crate::support::{Place, assert_same, beside_new_objects, picture};

/// Runs a script in the tree, as a user would, without bdr.
pub(crate) fn sh(place: &Place, script: &str) {
    let output = Command::new("sh")
        .args(["-ec", script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", place.path("home"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .current_dir(place.tree())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn repository(place: &Place) {
    sh(
        place,
        "git init -q -b main; printf '*.log\\n.env\\n' > .gitignore; echo 1 > a; mkdir d; echo 2 > d/b; git add -A; git commit -qm one;
         echo 3 >> a; git commit -qam two; git branch side HEAD~1; git checkout -q side; echo s > s; git add s; git commit -qm side; git checkout -q main;
         echo stashed >> d/b; git stash -q; echo staged > staged; git add staged; echo work >> a; echo untracked > u; echo secret > .env; echo x > x.log",
    );
}

#[test]
fn git_commands_that_discard_are_undone_with_index_refs_and_stash() {
    for script in [
        "git reset -q --hard",
        "git reset -q --hard HEAD~1",
        "git checkout -q -- .",
        "git checkout -q -f side",
        "git restore -q --staged --worktree .",
        "git clean -q -fdx",
        "git stash -q -u",
        "git stash drop -q",
        "git stash clear && git reflog expire --expire=now --all && git gc -q --prune=now",
        "git branch -q -D side",
        "git stash -q -u && git rebase -q side; true",
        "git stash -q && git merge -q side; true",
        "git rm -q -rf .",
        "git commit -q --amend -m rewritten",
        "git update-ref -d refs/heads/side",
        "rm -rf .git",
        "rm .git/HEAD .git/index",
        "git config user.name other",
    ] {
        let place = Place::with_repository();
        repository(&place);
        let before = picture(&place.tree());
        place
            .bdr(&["guard", "--", "sh", "-c", script])
            .env("GIT_AUTHOR_NAME", "a")
            .env("GIT_AUTHOR_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_NAME", "a")
            .env("GIT_COMMITTER_EMAIL", "a@example.com")
            .output()
            .unwrap();
        assert!(
            before != picture(&place.tree()),
            "{script}: nothing happened"
        );
        place.run(&["undo", "--yes"], 0);
        let after = beside_new_objects(&before, picture(&place.tree()));
        assert_same(&before, &after, script);
        sh(
            &place,
            "git fsck --no-dangling >/dev/null; git status >/dev/null",
        );
    }
}

#[test]
fn other_work_trees_of_the_repository_are_covered() {
    let place = Place::with_repository();
    repository(&place);
    sh(
        &place,
        "git worktree add -q ../linked side; echo dirty >> ../linked/s; echo new > ../linked/new",
    );
    let before = (picture(&place.tree()), picture(&place.path("linked")));
    place.run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "git worktree remove --force ../linked; git branch -q -D side",
        ],
        0,
    );
    assert!(!place.path("linked").exists());
    place.run(&["undo", "--yes"], 0);
    assert_same(&before.0, &picture(&place.tree()), "main work tree");
    assert_same(
        &before.1,
        &picture(&place.path("linked")),
        "linked work tree",
    );
    // And the other way round: the repository of a linked work tree lies elsewhere.
    let mut guard = place.bdr(&[
        "guard",
        "--",
        "sh",
        "-c",
        "git branch -q -D main; rm -rf ../tree/.git/refs ../tree/.git/logs",
    ]);
    guard.current_dir(place.path("linked")).output().unwrap();
    assert!(before.0 != picture(&place.tree()), "nothing happened");
    // It ran in the other work tree, and changed something here.
    place.run(&["undo", "--yes"], 0);
    assert_same(&before.0, &picture(&place.tree()), "shared repository");
}

#[test]
fn what_symlinks_lead_to_is_covered_and_restored_through_no_link() {
    let place = Place::with_repository();
    place.write("own", b"1");
    std::fs::create_dir_all(place.path("shared/deep")).unwrap();
    std::fs::write(place.path("shared/deep/precious"), b"not in the tree").unwrap();
    std::os::unix::fs::symlink("../shared/deep", place.tree().join("link")).unwrap();
    let before = (picture(&place.tree()), picture(&place.path("shared")));
    for script in [
        "rm -f link/*",
        "echo x > link/precious",
        "rm -rf link/ ../shared",
    ] {
        place
            .bdr(&["guard", "--", "sh", "-c", script])
            .output()
            .unwrap();
        let precious = std::fs::read(place.path("shared/deep/precious"));
        assert!(
            precious.is_err() || precious.is_ok_and(|now| now != b"not in the tree"),
            "{script}: nothing happened"
        );
        place.run(&["undo", "--yes"], 0);
        assert_same(&before.0, &picture(&place.tree()), script);
        let shared = picture(&place.path("shared"));
        assert_eq!(
            before.1.keys().collect::<Vec<_>>(),
            shared.keys().collect::<Vec<_>>(),
            "{script}"
        );
        assert_eq!(
            std::fs::read(place.path("shared/deep/precious")).unwrap(),
            b"not in the tree"
        );
    }
}

#[test]
fn what_was_made_outside_is_taken_back_too() {
    let place = Place::with_repository();
    place.write("data/a", b"1");
    let before = picture(&place.tree());
    place.run(&["guard", "--", "mv", "data", "../moved"], 0);
    assert!(place.path("moved/a").exists());
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "moved");
    assert!(!place.path("moved").exists());
}

#[test]
fn work_in_a_small_rebuildable_tree_comes_back_even_if_it_grew() {
    let place = Place::with_repository();
    place.write("node_modules/mine/index.js", b"my own work");
    let before = picture(&place.tree());
    let script = "rm -rf node_modules; mkdir node_modules; for i in $(seq 400); do echo $i > node_modules/$i; done";
    place.run(&["guard", "--", "sh", "-c", script], 0);
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "node_modules");
}

#[test]
fn undo_works_where_the_directory_is_gone() {
    let place = Place::with_repository();
    place.write("sub/file", b"1");
    // The directory around the current one is not covered: its time may differ.
    let before = picture(&place.tree().join("sub"));
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let script = format!("cd sub && {bdr} guard -- rm -rf ../sub && {bdr} undo --yes");
    let mut shell = place.bdr(&[]);
    let environment: Vec<_> = shell
        .get_envs()
        .filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())))
        .collect();
    shell = Command::new("sh");
    let output = shell
        .args(["-c", &script])
        .env_clear()
        .envs(environment)
        .current_dir(place.tree())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(
        &before,
        &picture(&place.tree().join("sub")),
        "the directory is back",
    );
}

#[test]
fn the_lifeboat_brings_repository_and_configuration_back() {
    let place = Place::with_repository().watched();
    place.write("a", b"1");
    place.write("wipe.sh", b"chmod -R u+w \"$1\"; rm -rf \"$1\" a; true");
    let lifeboat = place.path("lifeboat");
    let run = |args: &[&str], code: i32| {
        let output = place
            .bdr(args)
            .env("BDR_LIFEBOAT", &lifeboat)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        output
    };
    let source = format!("tree={}", place.tree().display());
    run(&["init", "--yes", "--source", &source], 0);
    let before = picture(&place.tree());
    let config = std::fs::read(place.path("bdr/config.toml")).unwrap();
    let own = place.path("bdr");
    // Named, it is refused; hidden in a script, it happens.
    let line = format!("rm -rf {}", own.display());
    run(&["guard", "--", "sh", "-c", &line], 125);
    run(
        &["guard", "--", "rm", "-rf", &own.display().to_string()],
        125,
    );
    run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            &format!("> {}/config.toml", own.display()),
        ],
        125,
    );
    run(
        &["guard", "--", "sh", "wipe.sh", &own.display().to_string()],
        0,
    );
    assert!(!place.tree().join("a").exists());
    let _ = std::fs::remove_dir_all(&own);
    let undone = run(&["undo", "--yes"], 0);
    assert!(
        stderr(&undone).contains("was missing; restored"),
        "{}",
        stderr(&undone)
    );
    assert_same(
        &before,
        &picture(&place.tree()),
        "after the repository was deleted",
    );
    assert_eq!(
        std::fs::read(place.path("bdr/config.toml")).unwrap(),
        config
    );
    run(&["verify", "--level", "full"], 0);
    // It goes on as before: what is written now has its second name as well.
    std::fs::write(place.tree().join("b"), b"2").unwrap();
    run(&["backup"], 0);
    let _ = std::fs::remove_dir_all(place.path("bdr/repository"));
    run(&["verify", "--level", "full"], 0);
    let list: serde_json::Value =
        serde_json::from_slice(&run(&["--json", "list"], 0).stdout).unwrap();
    assert!(list["data"]["snapshots"].as_array().unwrap().len() >= 3);
}

#[test]
fn a_lifeboat_that_somebody_else_could_have_made_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_repository();
    place.write("a", b"1");
    let lifeboat = place.path("lifeboat");
    std::fs::create_dir(&lifeboat).unwrap();
    std::fs::set_permissions(&lifeboat, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = place
        .bdr(&["guard", "--", "rm", "a"])
        .env("BDR_LIFEBOAT", &lifeboat)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let written = std::fs::read_dir(&lifeboat).unwrap().count();
    assert_eq!(written, 0, "something was put where others can look");
    let _ = std::fs::remove_dir_all(place.path("bdr"));
    let output = place
        .bdr(&["undo", "--yes"])
        .env("BDR_LIFEBOAT", &lifeboat)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
}

#[test]
fn explain_tells_without_running() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.init();
    let told = place.json(&["explain", "cd sub && rm -rf *.log; git push --force"]);
    assert_eq!(told["effect"], "remote");
    assert_eq!(told["remote"][0], "git push --force");
    assert!(
        told["operands"]
            .as_array()
            .unwrap()
            .iter()
            .any(|o| o["pattern"] == true)
    );
    assert_eq!(told["roots"][0]["files"], 1);
    assert_eq!(place.json(&["explain", "ls -la | wc -l"])["effect"], "read");
    let own = format!("rm -rf {}", place.path("bdr").display());
    assert!(place.json(&["explain", &own])["refused"].is_string());
    assert!(place.tree().join("a").exists());
}

#[test]
fn a_configuration_that_changed_since_gets_back_only_what_the_operation_took() {
    let place = Place::with_repository();
    let config = |servers: &str, n: u32| {
        format!("{{\n  \"mcpServers\": {{{servers}}},\n  \"starts\": {n}\n}}\n")
    };
    let both = "\n    \"foo\": {\n      \"token\": \"s3cr3t-value\"\n    },\n    \"bar\": {}\n  ";
    let one = "\n    \"bar\": {}\n  ";
    place.write(".claude.json", config(both, 1).as_bytes());
    place.write("log.jsonl", b"{\"n\":1}\n{\"n\":2}\n");
    place.write("new-config", config(one, 1).as_bytes());
    place.init();
    let read = |name: &str| std::fs::read_to_string(place.tree().join(name)).unwrap();
    place.run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "cat new-config > .claude.json; : > log.jsonl",
        ],
        0,
    );
    // The tools go on working.
    place.write(".claude.json", config(one, 2).as_bytes());
    place.write("log.jsonl", b"{\"n\":3}\n");
    let plan = place.json(&["undo", "--dry-run"]);
    let actions: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["merge", "merge"]);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(".claude.json"), config(both, 2));
    assert_eq!(read("log.jsonl"), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    // Redo merges as well.
    place.write(".claude.json", config(both, 3).as_bytes());
    place.run(&["redo", "--yes"], 0);
    assert_eq!(read(".claude.json"), config(one, 3));
    assert_eq!(read("log.jsonl"), "{\"n\":3}\n");
    // What was deleted and made anew gets its other keys back.
    place.run(&["guard", "--", "rm", ".claude.json"], 0);
    place.write(".claude.json", b"{\n  \"fresh\": true\n}\n");
    place.run(&["undo", "--yes"], 0);
    let merged: serde_json::Value = serde_json::from_str(&read(".claude.json")).unwrap();
    let expected = serde_json::json!({"mcpServers": {"bar": {}}, "starts": 3, "fresh": true});
    assert_eq!(merged, expected);
    // A key with two histories is a conflict: both are kept.
    place.run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "echo '{\"starts\":9}' > .claude.json",
        ],
        0,
    );
    place.write(".claude.json", b"{\"starts\":10}");
    place.run(&["undo", "--yes"], 3);
    assert_eq!(read(".claude.json"), "{\"starts\":10}");
    // No value, and no plain digest of one, is in a record.
    for record in std::fs::read_dir(place.store().join("operations")).unwrap() {
        let text = std::fs::read_to_string(record.unwrap().path()).unwrap();
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn several_operations_are_taken_back_one_after_the_other() {
    let place = Place::with_repository();
    place.write("f", b"0");
    place.init();
    let before = picture(&place.tree());
    for n in 1..=3 {
        let script = format!("echo {n} >> f; echo {n} > made-{n}");
        place.run(&["guard", "--", "sh", "-c", &script], 0);
    }
    let listed = place.run(&["undo", "--last", "2", "--dry-run"], 0);
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout)
            .matches("Undo ")
            .count(),
        2
    );
    place.run(&["undo", "--last", "2", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"01\n");
    place.run(&["undo", "--since", "1 hour ago", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "all of them");
    place.run(&["undo", "--last", "1", "--yes"], 1);
}

#[test]
fn what_acted_elsewhere_is_said_when_the_rest_is_undone() {
    let place = Place::with_repository();
    place.write("a", b"1");
    place.run(
        &[
            "guard",
            "--",
            "sh",
            "-c",
            "rm a; git push --force >/dev/null 2>&1; true",
        ],
        0,
    );
    let plan = place.json(&["undo", "--dry-run"]);
    assert_eq!(plan["remote"][0], "git push --force");
    place.run(&["undo", "--yes"], 0);
    assert!(place.tree().join("a").exists());
}

#[test]
fn two_undos_at_once_lose_nothing() {
    let place = Place::with_repository();
    for n in 0..100 {
        place.write(&format!("f{n}"), format!("{n}").as_bytes());
    }
    place.init();
    let before = picture(&place.tree());
    for _ in 0..3 {
        place.run(&["guard", "--", "sh", "-c", "rm f*; echo new > made"], 0);
        let start = || place.bdr(&["undo", "--yes"]).output().unwrap();
        let codes = std::thread::scope(|scope| {
            let other = scope.spawn(start);
            [start(), other.join().unwrap()].map(|output| output.status.code())
        });
        // Whichever comes second finds its work done, or says what it left alone.
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 1 | 3))),
            "{codes:?}"
        );
        let now = picture(&place.tree());
        assert!(before.keys().eq(now.keys()), "other names than before");
        for n in 0..100 {
            let content = std::fs::read(place.tree().join(format!("f{n}"))).unwrap();
            assert_eq!(content, format!("{n}").as_bytes());
        }
    }
    place.run(&["verify", "--level", "full"], 0);
}

#[test]
fn a_guard_within_a_guard_covers_what_the_outer_one_does_not() {
    let place = Place::with_repository().watched();
    place.write("in/a", b"1");
    std::fs::create_dir_all(place.path("elsewhere")).unwrap();
    std::fs::write(place.path("elsewhere/b"), b"2").unwrap();
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let script =
        format!("#!/bin/sh\n{bdr} guard -- rm -r in; cd ../elsewhere && {bdr} guard -- rm b\n");
    place.write("deploy.sh", script.as_bytes());
    let before = picture(&place.tree());
    place.run(&["guard", "--", "sh", "deploy.sh"], 0);
    // One operation for what the outer covers, one more for what it does not.
    let log = place.json(&["log"]);
    assert_eq!(log["operations"].as_array().unwrap().len(), 2);
    place.run(&["undo", "--last", "2", "--yes"], 0);
    let mut elsewhere = place.bdr(&["undo", "--yes"]);
    elsewhere
        .current_dir(place.path("elsewhere"))
        .output()
        .unwrap();
    assert_same(&before, &picture(&place.tree()), "the tree");
    assert_eq!(std::fs::read(place.path("elsewhere/b")).unwrap(), b"2");
}

#[test]
fn a_forced_push_records_where_the_branch_was() {
    let place = Place::with_repository();
    repository(&place);
    let other = place.path("other.git");
    let other = other.display();
    sh(
        &place,
        &format!(
            "git init -q --bare '{other}'; git remote add origin '{other}'; git push -q -u origin main side;
             git rev-parse refs/remotes/origin/main refs/remotes/origin/side > ../was; git stash -q -u; git reset -q --hard HEAD~1"
        ),
    );
    let was = std::fs::read_to_string(place.path("was")).unwrap();
    let (main, side) = was.trim().split_once('\n').unwrap();
    for (script, wanted) in [
        ("git push -q --force", vec![("origin/main", main)]),
        ("git push -q origin +HEAD:main", vec![("origin/main", main)]),
        ("git push -q origin :side", vec![("origin/side", side)]),
        (
            "git push -q --mirror origin",
            vec![("origin/main", main), ("origin/side", side)],
        ),
    ] {
        place.run(&["guard", "--", "sh", "-c", script], 0);
        let text = place.json(&["undo", "--dry-run"]).to_string();
        for (branch, oid) in wanted {
            assert!(
                text.contains(&format!("{branch} was {oid}")),
                "{script}: {text}"
            );
        }
        // As it was before, for the next.
        sh(
            &place,
            &format!(
                "git push -q -f origin {main}:refs/heads/main {side}:refs/heads/side; git fetch -q"
            ),
        );
    }
    // What rewrites nothing is undone as any command: nothing is to be said.
    place.run(&["guard", "--", "sh", "-c", "git push -q origin side"], 0);
    let plan = place.json(&["undo", "--dry-run"]);
    assert_eq!(plan["remote"], serde_json::json!([]));
}
