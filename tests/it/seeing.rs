//! What people see of operations and snapshots: `show`, `log`, `list`, the pager.

use std::process::Command;

use crate::support::Place;
use crate::support::cli::stdout;
use crate::support::terminal::Terminal;

fn guard(place: &Place, script: &str) {
    place.run(&["guard", "--", "sh", "-c", script], 0);
}

fn git(place: &Place, script: &str) {
    let mut command = Command::new("sh");
    command
        .args(["-ec", script])
        .current_dir(place.tree())
        .env("HOME", place.path("home"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "a");
        command.env(format!("GIT_{who}_EMAIL"), "a@b");
    }
    assert!(command.status().unwrap().success(), "{script}");
}

/// Runs a command on a terminal of a size and returns what it showed.
fn on_terminal(place: &Place, columns: u32, rows: u32, command: &str) -> String {
    let script = format!("stty cols {columns} rows {rows}; {command}");
    let (status, shown) = Terminal::start(place, &["sh", "-c", &script]).end();
    assert!(status.success(), "{shown}");
    shown.replace('\r', "")
}

#[test]
fn show_names_the_files_and_sums_them_up_by_directory_where_there_are_many() {
    let place = Place::with_repository();
    for number in 0..60 {
        place.write(&format!("data/{}/f{number}", number % 3), b"twelve bytes");
    }
    place.write("notes.md", b"old\n");
    place.init();
    guard(&place, "rm -rf data; echo new > notes.md; echo x > made");
    let shown = stdout(&place.run(&["show"], 0));
    assert!(
        shown.contains("changes   60 files deleted (720 B), 1 file created, 1 file changed"),
        "{shown}"
    );
    assert!(shown.contains("data/0/  20 files  240 B"), "{shown}");
    assert!(
        shown.contains("/made  2 B") && shown.contains("/notes.md  4 B"),
        "{shown}"
    );
    assert!(shown.lines().count() < 20, "{shown}");
    let id = place.json(&["log"])["operations"][0]["short"].clone();
    let all = format!("bdr show {} --files", id.as_str().unwrap());
    assert!(shown.contains(&all), "{shown}");
    let shown = stdout(&place.run(&["show", "--files"], 0));
    assert!(
        (0..60).all(|n| shown.contains(&format!("/f{n}  12 B"))),
        "{shown}"
    );
    let data = place.json(&["show", "--files"]);
    assert_eq!(data["files"].as_array().unwrap().len(), 62);
    assert_eq!(place.json(&["show"]).get("files"), None);
}

#[test]
fn a_patch_shows_what_changed_and_no_secret_and_says_where_a_file_changed_again() {
    let place = Place::with_repository();
    let secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    place.write("notes.md", b"one\ntwo\nthree\n");
    place.write(
        "conf.env",
        format!("A=1\nGITHUB_TOKEN={secret}\n").as_bytes(),
    );
    place.write("gone.txt", b"farewell\n");
    place.init();
    guard(
        &place,
        "sed -i s/two/TWO/ notes.md; sed -i s/A=1/A=2/ conf.env; rm gone.txt",
    );
    let shown = stdout(&place.run(&["show", "-p"], 0));
    for line in ["-two\n+TWO\n", "-A=1\n+A=2\n", "-farewell\n"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains(secret), "{shown}");
    place.write("notes.md", b"yet another\n");
    let shown = stdout(&place.run(&["show", "-p"], 0));
    assert!(
        shown.contains("notes.md: not shown, it has changed again since"),
        "{shown}"
    );
    assert!(!shown.contains("yet another"), "{shown}");
    let data = place.json(&["show", "--patch"]);
    assert!(data["files"].to_string().contains("farewell"), "{data}");
}

#[test]
fn what_an_operation_did_to_branches_is_said_in_the_words_of_git() {
    let place = Place::with_repository();
    place.write("f", b"1");
    git(
        &place,
        "git init -q -b main .; git add f; git commit -qm one; git branch old; git pack-refs --all",
    );
    place.init();
    git(&place, "echo 2 > f; git commit -qam two");
    let head = |name: &str| {
        let mut command = Command::new("git");
        command.args(["rev-parse", name]).current_dir(place.tree());
        stdout(&command.output().unwrap())[..7].to_owned()
    };
    let (one, two) = (head("main~1"), head("main"));
    guard(
        &place,
        "git reset -q --hard HEAD~1; git branch -q -D old; git checkout -q -b other",
    );
    let shown = stdout(
        &place
            .bdr(&["show"])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap(),
    );
    for words in [
        format!("main {two} → {one}"),
        format!("old {one} deleted"),
        format!("other created at {one}"),
        "HEAD main → other".to_owned(),
    ] {
        assert!(shown.contains(&words), "{words}: {shown}");
    }
    assert!(!shown.contains("objects/"), "{shown}");
    let data = place.json(&["show"]);
    let refs = data["git"][0]["refs"].as_array().unwrap();
    let main = refs
        .iter()
        .find(|r| r["name"] == "refs/heads/main")
        .unwrap();
    assert!(main["after"].as_str().unwrap().starts_with(&one), "{data}");
    git(
        &place,
        "git checkout -q main; echo 3 > f; git commit -qam three",
    );
    let shown = stdout(&place.run(&["show"], 0));
    assert!(
        shown.contains(&format!("main was {two}, moved again since")),
        "{shown}"
    );
}

#[test]
fn log_is_asked_by_kind_time_and_text() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init_at("2026-11-20T10:00:00Z");
    let at = |now: &str, script: &str| {
        place.run_at(now, &["guard", "--", "sh", "-c", script], 0);
    };
    at("2026-11-20T11:00:00Z", "echo Alpha > f");
    at("2026-11-21T11:00:00Z", "echo beta > f");
    let now = "2026-11-22T11:00:00Z";
    place.run_at(now, &["undo", "--last", "1", "--yes"], 0);
    let number = |args: &[&str]| {
        let mut all = vec!["log"];
        all.extend_from_slice(args);
        place.json_at(now, &all, 0)["total"].as_u64().unwrap()
    };
    assert_eq!(number(&[]), 3);
    assert_eq!(number(&["--kind", "guard"]), 2);
    assert_eq!(number(&["--kind", "undo"]), 1);
    assert_eq!(number(&["--kind", "hook"]), 0);
    assert_eq!(number(&["--grep", "alpha"]), 1);
    assert_eq!(number(&["--since", "2026-11-21 00:00"]), 2);
    assert_eq!(number(&["--until", "2026-11-20 12:00"]), 1);
    assert_eq!(
        number(&["--since", "2026-11-21 00:00", "--kind", "guard"]),
        1
    );
}

#[test]
fn list_shows_backups_and_the_rest_if_asked() {
    let place = Place::with_repository().watched();
    place.write("f", b"1");
    place.init();
    guard(&place, "echo 2 > f; rm -f nothing");
    guard(&place, "echo 3 > f");
    place.run(&["backup", "--tag", "release"], 0);
    let lines = |args: &[&str]| {
        let mut all = vec!["list"];
        all.extend_from_slice(args);
        let output = place.bdr(&all).output().unwrap();
        let text = stdout(&output);
        (text.lines().count().saturating_sub(1), text)
    };
    let (number, text) = lines(&[]);
    assert_eq!(number, 2, "{text}");
    assert!(text.contains("2 snapshots, 1 more with --all"), "{text}");
    assert_eq!(lines(&["--all"]).0, 3);
    assert_eq!(lines(&["--kind", "guard"]).0, 1);
    assert_eq!(lines(&["--tag", "release"]).0, 1);
    assert_eq!(lines(&["--source", "tree"]).0, 2);
    assert_eq!(lines(&["--source", "other"]).0, 0);
    assert_eq!(lines(&["-n", "1"]).0, 1);
    assert_eq!(lines(&["--path", "/nowhere"]).0, 0);
    assert_eq!(lines(&["--path", "f"]).0, 2);
    // A guard snapshot that somebody keeps is shown.
    let list = place.json(&["list", "--kind", "guard"]);
    let id = list["snapshots"][0]["id"].as_str().unwrap();
    place.run(&["pin", id], 0);
    assert_eq!(lines(&[]).0, 3);
    // Programs get all of them, and filter themselves.
    assert_eq!(place.json(&["list"])["total"], 3);
}

#[test]
fn no_line_of_a_list_is_wider_than_the_screen() {
    let place = Place::with_repository();
    place.write("f", b"1");
    place.init();
    guard(&place, &format!("echo {} > f", "long words ".repeat(20)));
    place.run(
        &["backup", "--label", &"a label that is long ".repeat(5)],
        0,
    );
    for columns in [60, 80, 140] {
        for command in ["bdr list --all", "bdr log"] {
            let shown = on_terminal(&place, columns, 40, command);
            let lines: Vec<&str> = shown.lines().filter(|line| !line.is_empty()).collect();
            assert!(lines[0].contains("id  "), "{shown}");
            for line in &lines {
                let width = line.chars().count();
                assert!(width <= columns as usize, "{columns} {command}: {line}");
            }
        }
    }
    // Another program gets one line for each, and no names.
    let piped = stdout(&place.run(&["log"], 0));
    assert_eq!(piped.lines().count(), 1, "{piped}");
}

#[test]
fn a_pager_is_used_on_a_terminal_and_nowhere_else() {
    let place = Place::with_repository();
    place.write("f", b"0");
    place.init();
    for number in 1..12 {
        guard(&place, &format!("echo {number} > f"));
    }
    let pager = place.path("pager");
    std::fs::write(&pager, "#!/bin/sh\necho paged; cat\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&pager, mode).unwrap();
    let with = |rows: u32, args: &str| {
        let command = format!(
            "TERM=xterm BDR_PAGER={} bdr {args}",
            pager.to_str().unwrap()
        );
        on_terminal(&place, 80, rows, &command)
    };
    assert!(with(10, "log").contains("paged"));
    assert!(!with(40, "log").contains("paged"));
    for args in ["log --no-pager", "--json log", "log | cat"] {
        let shown = with(10, args);
        assert!(
            !shown.contains("paged") && shown.contains("echo 3"),
            "{args}: {shown}"
        );
    }
    // One that is not there is no reason to show nothing.
    let shown = on_terminal(&place, 80, 10, "TERM=xterm BDR_PAGER=no-such-pager bdr log");
    assert!(shown.contains("echo 3 "), "{shown}");
}

#[test]
fn diff_compares_the_last_backup_with_now_and_takes_paths() {
    let place = Place::with_repository();
    place.write("docs/a.md", b"one\n");
    place.write("docs/b.md", b"two\n");
    place.write("c.md", b"three\n");
    place.init();
    place.write("docs/a.md", b"ONE\n");
    place.write("c.md", b"THREE\n");
    let shown = |args: &[&str]| stdout(&place.run(args, 0));
    let files = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("M "));
        lines
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(files(&shown(&["diff"])), ["c.md", "docs/a.md"]);
    assert_eq!(files(&shown(&["diff", "docs"])), ["docs/a.md"]);
    assert_eq!(files(&shown(&["diff", "latest", "c.md"])), ["c.md"]);
    assert_eq!(files(&shown(&["diff", "latest:c.md"])), ["c.md"]);
    assert_eq!(files(&shown(&["diff", "docs/b.md"])), [""; 0]);
    let patch = shown(&["diff", "-p", "c.md"]);
    assert!(patch.contains("-three\n+THREE\n"), "{patch}");
    let data = place.json(&["diff", "-p", "docs"]);
    assert!(data["changes"].to_string().contains("+ONE"), "{data}");
    place.run(&["backup"], 0);
    assert_eq!(files(&shown(&["diff"])), [""; 0]);
    assert_eq!(
        files(&shown(&["diff", "latest~1", "latest", "docs"])),
        ["docs/a.md"]
    );
    // What is neither is said, not taken for a path without differences.
    let output = place.bdr(&["diff", "3f2q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`3f2q` names no snapshot"), "{said}");
}

#[test]
fn sources_of_one_directory_are_compared_each_with_itself() {
    let place = Place::with_repository();
    place.write(".zshrc", b"z\n");
    place.write(".claude.json", b"{}\n");
    place.init();
    // Beside the source of the whole tree.
    let tree = place.tree().display().to_string();
    for (name, file) in [("dotfiles", ".zshrc"), ("agents", ".claude.json")] {
        place.configure(&format!(
            "[source.{name}]\npath = \"{tree}\"\ninclude = [\"{file}\"]\n"
        ));
    }
    place.run(&["backup"], 0);
    place.run(&["backup"], 0);
    let data = place.json(&["diff", "latest~1", "latest"]);
    assert_eq!(data["changes"].as_array().unwrap().len(), 0, "{data}");
    place.write(".zshrc", b"zz\n");
    place.run(&["backup"], 0);
    let data = place.json(&["diff", "latest~1", "latest"]);
    let changes = data["changes"].as_array().unwrap();
    let mut names: Vec<_> = changes
        .iter()
        .filter(|c| c["before"]["kind"] == "file" || c["after"]["kind"] == "file")
        .map(|c| (c["source"].as_str().unwrap(), c["change"].as_str().unwrap()))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [("dotfiles", "modified"), ("tree", "modified")],
        "{data}"
    );
}

#[test]
fn a_snapshot_and_a_path_are_named_in_one_word_and_a_path_alone_means_the_latest() {
    let place = Place::with_repository();
    place.write("notes.md", b"one");
    place.write("docs/plan.md", b"plan");
    place.write("odd:name", b"odd");
    place.init();
    place.write("notes.md", b"two");
    place.run(&["backup"], 0);
    let cat = |word: &str| stdout(&place.run(&["cat", word], 0));
    assert_eq!(cat("notes.md"), "two");
    assert_eq!(cat("latest~1:notes.md"), "one");
    assert_eq!(cat("latest:full:notes.md"), "one");
    assert_eq!(cat("odd:name"), "odd");
    assert_eq!(cat("latest:odd:name"), "odd");
    assert_eq!(cat("tree/docs/plan.md"), "plan");
    let listed = stdout(&place.run(&["ls", "latest:docs"], 0));
    assert!(
        listed.contains("docs/plan.md") && !listed.contains("notes"),
        "{listed}"
    );
    let listed = stdout(&place.run(&["ls", "docs"], 0));
    assert!(listed.contains("docs/plan.md"), "{listed}");
    // What find prints is taken as it is.
    let found = stdout(&place.run(&["find", "notes.md"], 0));
    assert_eq!(cat(found.split_whitespace().next().unwrap()), "two");
    let found = stdout(&place.run(&["find", "notes.md", "--all"], 0));
    let all: Vec<String> = found
        .lines()
        .map(|line| cat(line.split_whitespace().next().unwrap()))
        .collect();
    assert_eq!(all, ["two", "one"]);
}

#[test]
fn restore_takes_a_path_alone_and_patterns() {
    let place = Place::with_repository();
    for name in ["a.md", "b.md", "c.txt", "docs/d.md", "docs/deep/e.md"] {
        place.write(name, b"as it was");
    }
    place.init();
    let read = |name: &str| std::fs::read(place.tree().join(name)).ok();
    let restored = |args: &[&str]| {
        for name in ["a.md", "b.md", "c.txt", "docs/d.md", "docs/deep/e.md"] {
            place.write(name, b"changed");
        }
        let mut all = vec!["restore", "--yes"];
        all.extend_from_slice(args);
        place.run(&all, 0);
        let names = ["a.md", "b.md", "c.txt", "docs/d.md", "docs/deep/e.md"];
        let back = names
            .iter()
            .filter(|name| read(name).unwrap() == b"as it was");
        back.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(restored(&["a.md"]), ["a.md"]);
    assert_eq!(restored(&["latest", "*.md"]), ["a.md", "b.md"]);
    assert_eq!(restored(&["latest:docs/*.md"]), ["docs/d.md"]);
    assert_eq!(restored(&["docs/**/*.md"]), ["docs/d.md", "docs/deep/e.md"]);
    assert_eq!(restored(&["tree/*.txt"]), ["c.txt"]);
    // Without a terminal the plan is not carried out unasked, however it was named.
    place.run(&["restore", "a.md"], 2);
    let said = place.run(&["restore", "nowhere.md", "--yes"], 1);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("bdr list"), "{said}");
    // A file where only a snapshot can be meant.
    let said = place.run(&["pin", "a.md"], 1);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("bdr history a.md"), "{said}");
    // What the directory is called is no pattern.
    let odd = place.tree().join(r"back\slash [x] {y}");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("f.md"), "as it was").unwrap();
    place.run(&["backup"], 0);
    std::fs::remove_file(odd.join("f.md")).unwrap();
    let mut restore = place.bdr(&["restore", "*.md", "--yes"]);
    assert!(restore.current_dir(&odd).status().unwrap().success());
    assert_eq!(std::fs::read(odd.join("f.md")).unwrap(), b"as it was");
}

#[test]
fn what_a_restore_was_told_to_keep_is_named_where_it_differs() {
    let place = Place::with_repository();
    place.write("same.md", b"same\n");
    place.write("edited.md", b"old\n");
    place.write("gone.md", b"gone\n");
    place.init();
    place.run(&["backup"], 0);
    place.write("edited.md", b"new\n");
    std::fs::remove_file(place.tree().join("gone.md")).unwrap();

    let restore = ["restore", "latest", "--overwrite", "never", "--yes"];
    let plan = place.json(&[&restore[..], &["--dry-run"]].concat());
    let kept = |data: &serde_json::Value| -> Vec<(String, bool)> {
        let kept = data["kept"].as_array().unwrap().iter();
        let name = |path: &serde_json::Value| {
            let path = path.as_str().unwrap();
            path.rsplit('/').next().unwrap().to_owned()
        };
        kept.map(|one| (name(&one["path"]), one["differs"].as_bool().unwrap()))
            .collect()
    };
    let expected = [
        ("edited.md".to_owned(), true),
        ("same.md".to_owned(), false),
    ];
    assert_eq!(kept(&plan), expected);
    let shown = stdout(&place.run(&[&restore[..], &["--dry-run"]].concat(), 0));
    assert!(
        shown.contains("edited.md   it exists already, and differs"),
        "{shown}"
    );
    assert!(!shown.contains("same.md"), "{shown}");

    let said = place.run(&restore, 0);
    let said = format!("{}{}", stdout(&said), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("kept 1 path as it is now"), "{said}");
    assert_eq!(
        std::fs::read(place.tree().join("edited.md")).unwrap(),
        b"new\n"
    );
    assert_eq!(
        std::fs::read(place.tree().join("gone.md")).unwrap(),
        b"gone\n"
    );
    // Nothing is left to do, and it is not true that everything is as in the snapshot.
    let said = place.run(&restore, 0);
    let said = format!("{}{}", stdout(&said), String::from_utf8_lossy(&said.stderr));
    assert!(!said.contains("everything is as in"), "{said}");
}

#[test]
fn a_file_that_only_an_older_snapshot_has_comes_with_the_command_that_restores_it() {
    let place = Place::with_repository();
    place.write("n1.md", b"one");
    place.write("n2.md", b"two");
    place.init();
    std::fs::remove_file(place.tree().join("n1.md")).unwrap();
    place.run(&["backup"], 0);
    let output = place.bdr(&["restore", "n1.md"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    let hint = said
        .split("bdr restore ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let mut args = vec!["restore"];
    args.extend(hint.lines().next().unwrap().split(' '));
    args.push("--yes");
    place.run(&args, 0);
    let back = std::fs::read(place.tree().join("n1.md")).unwrap();
    assert_eq!(back, b"one");
}

#[test]
fn a_diff_says_what_happened_to_a_git_repository_in_one_line() {
    let place = Place::with_repository();
    place.write("a", b"1");
    let git = |args: &[&str]| {
        let own = ["-c", "user.name=n", "-c", "user.email=e@e"];
        let branch = ["-c", "init.defaultBranch=main"];
        let mut git = std::process::Command::new("git");
        git.args(own).args(branch).args(args);
        let done = git.current_dir(place.tree()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    place.init();
    let first = git(&["rev-parse", "HEAD"]);
    place.write("a", b"22");
    git(&["commit", "-q", "-a", "-m", "two"]);
    let second = git(&["rev-parse", "HEAD"]);
    let moved = format!("git main {} -> {}", &first[..7], &second[..7]);
    let said = |args: &[&str]| {
        let output = place.run(args, 0);
        String::from_utf8_lossy(&output.stdout).replace('→', "->")
    };
    let now = said(&["diff"]);
    assert!(now.contains(&moved), "{now}");
    assert!(!now.contains(".git/"), "{now}");
    assert!(now.contains("M a  1 B"), "{now}");
    assert!(said(&["diff", "--files"]).contains(".git/refs/heads/main"));
    place.run(&["backup"], 0);
    let two = said(&["diff", "latest~1", "latest"]);
    assert!(two.contains(&moved) && !two.contains(".git/"), "{two}");
    let document = place.json(&["diff", "latest~1", "latest"]);
    assert_eq!(document["git"][0]["refs"][0]["before"], first, "{document}");
}
