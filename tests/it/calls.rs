//! Capture by system call: whatever a command destroys, wherever it is, comes back.
//!
//! The oracle is a picture of the whole place, taken by another walk than bdr's.

mod faults;
mod large;
mod left;
mod mounts;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::cli::stderr;
use crate::support::{Place, assert_same, beside_new_objects, picture};

/// Says loudly where nothing can be captured; then there is nothing to test.
pub(crate) fn usable(place: &Place) -> bool {
    let mut trial = guard(place, &["rm -f nothing-there"]);
    let output = trial.env("BDR_HOME", place.path("trial")).output().unwrap();
    let said = stderr(&output);
    let refused = said.contains("cannot be captured here");
    if refused {
        println!("SKIPPED: system calls cannot be captured on this machine: {said}");
    }
    !refused
}

/// A guard that captures, of a line of a shell.
fn guard(place: &Place, line: &[&str]) -> Command {
    let line = line.join(" ");
    let mut command = place.bdr(&["guard", "--capture", "only", "--", "sh", "-c", &line]);
    command.env("BDR_BACKGROUND", "0").env("TZ", "UTC");
    command
}

#[track_caller]
fn captured(place: &Place, line: &str) -> Output {
    let output = guard(place, &[line]).output().unwrap();
    let said = stderr(&output);
    assert!(!said.contains("bdr: not run"), "{line}: {said}");
    output
}

#[track_caller]
fn undone(place: &Place, what: &str) {
    let mut undo = place.bdr(&["undo", "--yes"]);
    let output = undo.env("BDR_BACKGROUND", "0").output().unwrap();
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{what}: {said}");
}

/// A place with everything that can be in one, and nothing that bdr watches.
pub(crate) fn world() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.path("home/notes")).unwrap();
    std::fs::write(place.path("home/notes/one"), "outside of the project\n").unwrap();
    std::fs::write(place.path("home/.config.json"), "{\"a\": 1}\n").unwrap();
    let tree = place.tree();
    std::fs::create_dir_all(tree.join("d/e/empty")).unwrap();
    std::fs::write(tree.join("a"), "first\n").unwrap();
    std::fs::write(tree.join("d/b"), vec![b'b'; 70_000]).unwrap();
    std::fs::write(tree.join("d/e/c"), "deep\n").unwrap();
    std::fs::write(tree.join("d/none"), "").unwrap();
    std::fs::write(tree.join("with space \"q\" \\ ü"), "odd\n").unwrap();
    std::fs::hard_link(tree.join("d/e/c"), tree.join("d/hard")).unwrap();
    std::fs::write(tree.join("mode"), "m").unwrap();
    std::fs::set_permissions(tree.join("mode"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::write(tree.join(".env"), "KEY=value\n").unwrap();
    std::os::unix::fs::symlink("d/b", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
    let _ = xattr::set(tree.join("mode"), "user.note", b"kept");
    for path in ["a", "d/b", "d/e", "d", "mode"] {
        let path = tree.join(path);
        let touched = Command::new("touch")
            .args(["-d", "2020-02-03"])
            .arg(&path)
            .status();
        assert!(touched.unwrap().success());
    }
    place
}

/// The project, and the home directory.
pub(crate) type Pictures =
    [std::collections::BTreeMap<std::path::PathBuf, crate::support::Object>; 2];

pub(crate) fn pictures(place: &Place) -> Pictures {
    [picture(&place.tree()), picture(&place.path("home"))]
}

#[track_caller]
fn assert_back(place: &Place, line: &str) {
    let before = pictures(place);
    let output = captured(place, line);
    let between = pictures(place);
    let said = stderr(&output);
    assert!(before != between, "`{line}` changed nothing: {said}");
    undone(place, line);
    for (before, after) in before.iter().zip(&pictures(place)) {
        assert_same(before, &beside_new_objects(before, after.clone()), line);
    }
}

#[test]
fn many_names_that_go_say_nothing_of_their_neighbour() {
    let place = world();
    if !usable(&place) {
        return;
    }
    for number in 0..400 {
        std::fs::write(place.tree().join(format!("d/n{number}")), "n").unwrap();
    }
    captured(&place, "echo x >> d/b");
    captured(&place, "rm d/n[0-9]*");
    let known = place.run(&["history", "d/n7"], 0);
    let neighbour = place.run(&["history", "d/b"], 0);
    for (output, lines) in [(known, 2), (neighbour, 2)] {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.lines().count(), lines, "{said}");
        assert!(!said.contains("gone"), "{said}");
    }
}

#[test]
fn each_way_to_lose_something_is_undone_bit_for_bit() {
    let place = world();
    if !usable(&place) {
        return;
    }
    for line in [
        "rm a",
        "rm -rf d",
        "rm -rf -- * .env",
        "rmdir d/e/empty",
        "rm d/hard",
        "echo both > d/hard",
        "echo both > d/hard; rm d/e/c",
        "rm d/e/c; mkdir d/e/c; echo x > d/e/c/y",
        "find . -delete 2>/dev/null; true",
        "mv a x",
        "mv a d/b",
        "mv d x",
        "mv d/e/empty d/e/other; mv d x; rm -r x/e",
        ": > a",
        "echo more >> a",
        "echo new > d/none",
        "echo through > link",
        "echo made > dangling",
        "cp mode d/b",
        "cp -p mode a",
        "cp -p d/e/c t; mv t d/e/c",
        "cp -p d/hard t; mv t d/e/c; cp -p a t; mv t d/hard",
        "ln -f a mode",
        "ln -sfn d link",
        "ln a second; echo changed > second; rm a",
        "chmod 600 mode; chmod 700 d; chmod 755 d/e/empty",
        "touch a; touch -d 2001-01-01 d/b",
        "dd if=/dev/zero of=d/b bs=1 count=5 seek=3 conv=notrunc 2>/dev/null",
        "truncate -s 5 d/b; truncate -s 99999 a",
        "mkdir -p n/m; echo 1 > n/m/f; mv a n/a; ln -s a n/l; mkfifo n/p",
        "rm d/e/c; echo again > d/e/c; rm d/e/c",
        "rm a; mkdir a; echo 1 > a/b",
        "rm -r d; echo file > d",
        "tar cf t.tar d; rm -r d; tar xf t.tar; rm t.tar; rm d/b",
        "echo out > \"$HOME/notes/one\"; rm \"$HOME/.config.json\"",
        "rm -rf \"$HOME/notes\"; mkdir \"$HOME/other\"",
        "cd d && echo x > ../a && rm e/c && cd e && rm ../b",
        "exec 5>d/e/c; rm d/e/c; echo gone >&5",
        "echo kept > /dev/fd/1 > a",
        "sh -c 'rm a & rm d/b & wait'; (cd d; rm -r e) | cat",
        "cat a > copy; sed -i s/first/second/ a",
        "git init -q . && git add -A && git -c user.name=a -c user.email=a@b.c commit -qm one; rm -rf d",
    ] {
        assert_back(&place, line);
    }
}

#[test]
fn git_commands_in_a_tree_that_nobody_watched_are_undone() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let git = |line: &str| {
        let done = Command::new("sh")
            .args(["-ec", line])
            .env("HOME", place.path("home"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(place.tree())
            .status();
        assert!(done.unwrap().success(), "{line}");
    };
    git(
        "git init -q -b main; git config user.name a; git config user.email a@b.c; git add -A; git commit -qm one; \
         echo two >> a; git commit -qam two; git branch side HEAD~1; echo work >> a; echo new > untracked",
    );
    for line in [
        "git reset -q --hard",
        "git reset -q --hard HEAD~1",
        "git checkout -q -- .",
        "git clean -qfdx",
        "git stash -q -u; git stash drop -q",
        "git branch -q -D side",
        "git checkout -qf side",
        "git commit -qa --amend -m other",
        "rm -rf .git",
    ] {
        assert_back(&place, line);
    }
}

/// A sequence of commands over the names of a small tree, by a number.
fn script(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let names = [
        "a",
        "d",
        "d/b",
        "d/e",
        "d/e/c",
        "mode",
        "n",
        "n/x",
        "link",
        "d/none",
        "d/e/empty",
        "n/x/y",
    ];
    let mut lines = Vec::new();
    for _ in 0..3 + next(9) {
        let mut name = || names[next(names.len() as u64) as usize];
        let (one, other) = (name(), name());
        let kind = next(14);
        lines.push(match kind {
            0 => format!("rm -rf {one}"),
            1 => format!("rm -f {one}"),
            2 => format!("mv -T {one} {other}"),
            3 => format!("mv -f {one} {other}"),
            4 => format!("mkdir -p {one}"),
            5 => format!("echo {seed} > {one}"),
            6 => format!("echo {seed} >> {one}"),
            7 => format!("ln {one} {other}"),
            8 => format!("ln -sfn {one} {other}"),
            9 => format!("chmod 711 {one}"),
            10 => format!("touch {one}"),
            11 => format!("cp -a {one} {other}"),
            12 => format!("truncate -s {} {one}", seed % 5000),
            _ => format!("rmdir {one}"),
        });
    }
    lines.join("; ") + "; true"
}

#[test]
fn generated_sequences_of_commands_are_undone_bit_for_bit() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut changed = 0;
    for seed in 1..=60 {
        let line = format!("exec 2>/dev/null; {}", script(seed));
        let before = pictures(&place);
        captured(&place, &line);
        if pictures(&place) == before {
            continue;
        }
        changed += 1;
        undone(&place, &line);
        for (before, after) in before.iter().zip(&pictures(&place)) {
            assert_same(before, after, &line);
        }
    }
    assert!(changed > 30, "only {changed} sequences changed anything");
}

#[test]
fn what_changed_is_redone_and_undone_again() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    captured(
        &place,
        r"rm -r d; echo new > a; mkdir n; echo 1 > n/f; chmod 600 mode; mkdir 'n[1]' 'n\d'
        for name in 'a\b' '*' '[x]' '{a,b}' '!not' 'a?' '\*' '#c' ' b ' 'n[1]/f' 'n\d/f'; do echo 1 > $name; done".replace("$name", "\"$name\"").as_str(),
    );
    let after = pictures(&place);
    undone(&place, "first");
    place.run(&["redo", "--yes"], 0);
    for (after, again) in after.iter().zip(&pictures(&place)) {
        let contents =
            |picture: &std::collections::BTreeMap<std::path::PathBuf, crate::support::Object>| {
                let each = picture
                    .iter()
                    .map(|(path, object)| (path.clone(), object.content.clone(), object.mode));
                each.collect::<Vec<_>>()
            };
        assert_eq!(contents(after), contents(again));
    }
    undone(&place, "second");
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, "undone twice");
    }
}

#[test]
fn nobody_deletes_what_bdr_keeps_and_the_rest_comes_back() {
    let place = world();
    if !usable(&place) {
        return;
    }
    captured(&place, "echo x > a");
    let before = pictures(&place);
    let line = format!(
        "rm -rf {} d; mv {} gone",
        place.path("bdr").display(),
        place.path("bdr").display()
    );
    let output = captured(&place, &line);
    assert!(
        stderr(&output).contains("Operation not permitted"),
        "{}",
        stderr(&output)
    );
    place.run(&["verify"], 0);
    undone(&place, &line);
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, &line);
    }
}

/// Starts a captured command that waits for a line on its stdin before it goes on; returns once it has
/// said that it waits.
fn waiting(place: &Place, line: &str) -> std::process::Child {
    let mut command = guard(place, &[line]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "now\n");
    child
}

#[test]
fn a_guard_that_is_killed_loses_nothing_and_the_next_call_records_it() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut child = waiting(
        &place,
        "rm -r d; echo over > a; echo now; read x; rm mode; echo end",
    );
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    child.wait().unwrap();
    // The command goes on, and destroys nothing more: nobody answers for it.
    let _ = stdin.write_all(b"go\n");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    assert_eq!(rest, "end\n");
    assert!(place.tree().join("mode").exists());
    let output = place.run(&["log"], 0);
    assert!(
        stderr(&output).contains("an interrupted guard had captured"),
        "{}",
        stderr(&output)
    );
    undone(&place, "killed");
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, "killed");
    }
    assert!(!stderr(&place.run(&["log"], 0)).contains("interrupted"));
}

#[test]
fn a_guard_that_is_cut_at_any_step_loses_nothing() {
    if !usable(&world()) {
        return;
    }
    let mut cuts = 0;
    for step in 1.. {
        let place = world();
        captured(&place, "echo first > first");
        let before = pictures(&place);
        let line = "rm -r d; echo over > a; mv mode n; chmod 600 with*";
        let mut command = guard(&place, &[line]);
        command.env("BDR_TEST_CRASH_AT", step.to_string());
        let output = command.output().unwrap();
        if output.status.success() {
            break;
        }
        cuts += 1;
        // What it was about to destroy next fails for the command.
        place.run(&["log"], 0);
        if pictures(&place) != before {
            undone(&place, &format!("cut at {step}"));
        }
        for (before, after) in before.iter().zip(&pictures(&place)) {
            assert_same(before, after, &format!("cut at {step}"));
        }
        place.run(&["verify"], 0);
    }
    assert!(cuts > 20, "only {cuts} steps");
}

#[test]
fn what_a_command_leaves_running_goes_on_after_the_guard() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let fifo = place.tree().join("wake");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let output = captured(
        &place,
        "(read x < wake; echo late > late; echo done > said) > /dev/null 2>&1 & rm a",
    );
    assert!(stderr(&output).contains("still run"), "{}", stderr(&output));
    assert!(!place.tree().join("a").exists());
    std::fs::OpenOptions::new()
        .write(true)
        .open(&fifo)
        .unwrap()
        .write_all(b"go\n")
        .unwrap();
    for _ in 0..500 {
        if place.tree().join("said").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(
        std::fs::read_to_string(place.tree().join("late")).unwrap(),
        "late\n"
    );
}

#[test]
fn what_is_kept_stays_while_a_command_takes_hours() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let fifo = place.path("wake");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let line = format!("rm -r d; read x < {}; rm a", fifo.display());
    let mut running = guard(&place, &[&line]).spawn().unwrap();
    // Opens when the command reads, after its first change.
    let mut wake = std::fs::File::options().write(true).open(&fifo).unwrap();
    let later = (crate::support::now() + chrono::TimeDelta::hours(5)).to_rfc3339();
    let mut settle = place.bdr(&["settle"]);
    let settled = settle.env("BDR_TEST_NOW", later).output().unwrap();
    assert!(settled.status.success(), "{}", stderr(&settled));
    wake.write_all(b"go\n").unwrap();
    assert!(running.wait().unwrap().success());
    undone(&place, &line);
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, &line);
    }
}

#[test]
fn a_guard_below_a_guard_leaves_the_work_to_it() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let bdr = env!("CARGO_BIN_EXE_bdr");
    let before = pictures(&place);
    let line = format!(
        "rm a; {bdr} guard --capture only -- rm -r d; {bdr} guard --capture auto -- rm mode"
    );
    let output = captured(&place, &line);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = place.json(&["log"]);
    assert_eq!(log["operations"].as_array().unwrap().len(), 1, "{log}");
    undone(&place, &line);
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, &line);
    }
}

#[test]
fn where_a_filter_cannot_be_had_only_refuses_and_auto_takes_a_snapshot() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let bdr = env!("CARGO_BIN_EXE_bdr");
    // A process under one filter cannot have another one.
    let home = place.path("other");
    let nested = |mode: &str, what: &str| {
        format!(
            "env -u BDR_CAPTURED -u BDR_OP BDR_HOME={} {bdr} guard --capture {mode} --summary always -- {what}",
            home.display()
        )
    };
    let output = guard(&place, &[&nested("only", "rm a")]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot be captured here"),
        "{}",
        stderr(&output)
    );
    assert!(place.tree().join("a").exists());
    let output = captured(&place, &nested("auto", "rm a"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("1 file deleted"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_command_that_changes_nothing_has_nothing_to_undo() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let output = captured(&place, "rm -f nothing-there; exit 7");
    assert_eq!(output.status.code(), Some(7));
    let log = place.json(&["log"]);
    assert_eq!(log["operations"][0]["exit"], 7, "{log}");
    let none = place.bdr(&["undo", "--yes"]).output().unwrap();
    assert_ne!(none.status.code(), Some(0));
}

#[test]
fn a_program_that_writes_through_memory_or_a_database_is_undone() {
    let place = world();
    if !usable(&place) {
        return;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        println!("SKIPPED: there is no python3 for the programs of this test");
        return;
    }
    let python = |script: &str| {
        let path = place.path("script.py");
        std::fs::write(&path, script).unwrap();
        format!("python3 {}", path.display())
    };
    let made = Command::new("python3")
        .args(["-c", "import sqlite3; c = sqlite3.connect('data.db'); c.execute('create table t (x)'); c.executemany('insert into t values (?)', [(i,) for i in range(5000)]); c.commit()"])
        .current_dir(place.tree())
        .status();
    assert!(made.unwrap().success());
    for script in [
        "import mmap, os\nf = open('d/b', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0:4] = b'XXXX'; m.flush()",
        "import os\nfd = os.open('d/b', os.O_RDWR); os.pwrite(fd, b'Y', 9); os.ftruncate(fd, 100)",
        "import os\nos.replace('a', 'd/e/c'); os.link('mode', 'x'); os.unlink('mode'); os.truncate('x', 0)",
        "import sqlite3\nc = sqlite3.connect('data.db'); c.execute('delete from t where x > 10'); c.commit(); c.execute('vacuum')",
        "import os, threading\nts = [threading.Thread(target=lambda i=i: (open('f%d' % i, 'w').write('x'), os.unlink('f%d' % i) if i % 2 else None)) for i in range(40)]\n[t.start() for t in ts]; [t.join() for t in ts]; os.unlink('a')",
        "import os, shutil\nos.chdir('d'); shutil.rmtree('e'); os.mkdir('e'); os.rename('b', 'e/b')",
        "import os\nd = os.open('d', os.O_RDONLY | os.O_DIRECTORY); os.unlink('b', dir_fd=d); os.rename('e', '../moved', src_dir_fd=d)",
    ] {
        assert_back(&place, &python(script));
    }
}

#[test]
fn only_this_user_can_read_what_is_kept() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut child = waiting(&place, "rm a; echo now; read x");
    let captures = place.path("bdr");
    let mut journals = 0;
    for entry in walkdir::WalkDir::new(&captures) {
        let entry = entry.unwrap();
        let below = |name: &str| {
            entry
                .path()
                .components()
                .any(|part| part.as_os_str() == name)
        };
        if below("captures") {
            let mode = entry.metadata().unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
            journals += u32::from(entry.path().file_name() == Some("journal".as_ref()));
        }
    }
    assert_eq!(journals, 1);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(
        !Path::new(&place.path("bdr/cache"))
            .join("captures/journal")
            .exists()
    );
}

#[test]
fn processes_that_pack_at_the_same_time_lose_nothing() {
    let place = world();
    if !usable(&place) {
        return;
    }
    for round in 0..3 {
        let names: Vec<String> = (0..12).map(|n| format!("kept-{round}-{n}")).collect();
        for name in &names {
            std::fs::write(place.tree().join(name), name.repeat(500)).unwrap();
        }
        let before = pictures(&place);
        for name in &names {
            captured(&place, &format!("rm {name}"));
        }
        let settle = |_| {
            let mut settle = place.bdr(&["settle"]);
            settle.stdout(Stdio::null()).stderr(Stdio::null());
            settle.spawn().unwrap()
        };
        // Each finds sets that another is packing, or has just packed.
        let mut all: Vec<_> = (0..4).map(settle).collect();
        for one in &mut all {
            one.wait().unwrap();
        }
        place.run(&["settle"], 0);
        let last = names.len().to_string();
        place.run(&["undo", "--last", &last, "--yes"], 0);
        for (before, after) in before.iter().zip(&pictures(&place)) {
            assert_same(before, after, "packed by several");
        }
    }
    place.run(&["verify"], 0);
}
