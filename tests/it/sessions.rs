//! Sessions: a shell or an agent under one guard, whose history is that of the commands it starts.
//!
//! The oracle is a picture of the whole place between two commands, taken by another walk than
//! bdr's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::calls::{Pictures, pictures, usable, world};
use crate::support::cli::stderr;
use crate::support::{Place, assert_same, beside_new_objects};

/// A shell that reads lines from this test.
struct Shell {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Shell {
    fn start(place: &Place) -> Self {
        let mut command = place.bdr(&["guard", "--session", "--", "bash", "-s"]);
        command
            .env("BDR_BACKGROUND", "0")
            .env("TZ", "UTC")
            .env("BDR", env!("CARGO_BIN_EXE_bdr"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Runs a line; returns what it said. Afterwards all of it is recorded: bdr in the session waits
    /// for that before it starts.
    fn run(&mut self, line: &str) -> String {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(
            stdin,
            "{line}\n\"$BDR\" log -n 1 >/dev/null\necho 'the end'"
        )
        .unwrap();
        let mut said = String::new();
        while !said.ends_with("the end\n") {
            let n = self.said.read_line(&mut said).unwrap();
            assert!(n > 0, "`{line}` ended the shell: {said}");
        }
        said
    }

    /// Ends the shell; returns what bdr said.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    }
}

fn operations(place: &Place) -> Vec<Value> {
    let log = place.json(&["log", "-n", "0"]);
    log["operations"].as_array().unwrap().clone()
}

fn id(operation: &Value) -> String {
    operation["id"].as_str().unwrap().to_owned()
}

fn argv(operation: &Value) -> String {
    let words = operation["argv"].as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the operation that stands for a session.
fn session(operations: &[Value]) -> &Value {
    let mut all = operations.iter();
    all.find(|one| one["session"] == one["id"]).unwrap()
}

#[track_caller]
fn assert_all_same(before: &Pictures, after: &Pictures, what: &str) {
    for (before, after) in before.iter().zip(after) {
        assert_same(before, &beside_new_objects(before, after.clone()), what);
    }
}

/// Without the times of directories.
fn timeless(mut pictures: Pictures) -> Pictures {
    for object in pictures.iter_mut().flat_map(|picture| picture.values_mut()) {
        if object.kind == 'd' {
            object.mtime = Default::default();
        }
    }
    pictures
}

/// What somebody does in an afternoon.
const LINES: [&str; 20] = [
    "rm a",
    "echo new > a",
    "echo more >> d/b; rm d/none",
    "cp d/e/c moved; rm d/e/c; echo changed > moved",
    "(rm mode; echo again > mode) & wait",
    "mkdir q; cp -p moved q/; chmod 600 q/moved",
    "for i in 1 2 3 4 5; do echo $i > n$i; done; rm n2 n3",
    "cat a | tee a2 > a3",
    "cp moved other; echo through >> other; mv other moved",
    "touch -d 2001-02-03 moved",
    "ln -sfn q link; rm dangling",
    "sed -i s/new/old/ a",
    "mv q q2; mv q2 q; rm -r q",
    "echo home > \"$HOME/notes/one\"; rm \"$HOME/.config.json\"",
    "sh -c 'cd d && rm -r e && mkdir e && echo x > e/y'",
    "true; ls > /dev/null; test -e nothing",
    "find . -name 'n*' -delete",
    "{ echo first; rm a2; } > a3",
    "printf x | dd of=d/b conv=notrunc 2>/dev/null; : > moved",
    "mv a b; mv moved a; mv b moved; rm -rf d",
];

#[test]
fn the_commands_of_a_session_are_undone_one_by_one_bit_for_bit() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    let mut states = vec![(pictures(&place), 0)];
    for line in LINES {
        shell.run(line);
        states.push((pictures(&place), operations(&place).len()));
    }
    let said = shell.end();
    assert!(said.contains("operations in this session"), "{said}");
    let all = operations(&place);
    let oldest_first: Vec<&Value> = all.iter().rev().collect();
    for (number, line) in LINES.iter().enumerate().rev() {
        let (before, first) = (&states[number].0, states[number].1.max(1));
        for operation in oldest_first[first..states[number + 1].1].iter().rev() {
            place.run(&["undo", &id(operation), "--yes"], 0);
        }
        assert_all_same(before, &pictures(&place), line);
    }
}

#[test]
fn a_session_is_undone_as_a_whole_by_its_own_name() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    for line in LINES {
        shell.run(line);
    }
    shell.end();
    let after = pictures(&place);
    let all = operations(&place);
    let own = id(session(&all));
    place.run(&["undo", &own, "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "the whole session");
    // Twice there is nothing to do.
    place.run(&["undo", &own, "--yes"], 1);
    assert!(after != pictures(&place));
}

/// Returns the operation that a session is undone by, and makes sure that it is one.
fn undone_at_once(place: &Place, own: &str) -> String {
    let before = operations(place).len();
    place.run(&["undo", own, "--yes"], 0);
    let all = operations(place);
    assert_eq!(all.len(), before + 1, "one by one: {all:?}");
    assert_eq!(all[0]["kind"], "undo");
    let of_session = all.iter().filter(|o| o["session"] == own && o["id"] != own);
    for operation in of_session {
        assert_eq!(operation["undone_by"], all[0]["id"], "{operation}");
    }
    id(&all[0])
}

/// Many ways to change a few files, with numbers for names.
const STEPS: [&str; 16] = [
    "rm -f {a}",
    "echo {r} >> {a}",
    "echo {r} > {a}",
    "cp {a} {b}",
    "mv {a} {b}",
    "sed -i s/1/2/ {a}",
    "chmod 6{r}0 {a}",
    "touch {a}",
    "mkdir -p D; mv {a} D/",
    "rm -rf D",
    "mv D/{b} {a}",
    "ln -sfn {a} L",
    "rm -rf D; mkdir D; chmod 7{r}5 D",
    "rm {a}; mkdir {a}; echo z > {a}/z",
    "rm -rf {b}; ln -s x {b}",
    "git init -q g; cd g; echo {r} > {a}; git add .; git -c user.name=a -c user.email=b commit -qm x",
];

#[test]
fn whatever_a_session_did_is_undone_at_once_and_done_again() {
    let mut seed = 22_u64;
    let mut dice = |sides: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % sides
    };
    for round in 0..6 {
        let place = world();
        if !usable(&place) {
            return;
        }
        let before = pictures(&place);
        let mut script = String::new();
        for _ in 0..15 {
            let mut line = STEPS[dice(STEPS.len())].replace("{r}", &(dice(4) * 2).to_string());
            for name in ["{a}", "{b}"] {
                line = line.replace(name, ["a", "mode", "new", "d/b"][dice(4)]);
            }
            script.push_str(&format!("sh -c '{line}'\n"));
        }
        let words = [
            "guard",
            "--session",
            "--",
            "bash",
            "-c",
            &format!("{script} true"),
        ];
        place
            .bdr(&words)
            .env("BDR_BACKGROUND", "0")
            .output()
            .unwrap();
        let after = pictures(&place);
        let own = id(session(&operations(&place)));
        undone_at_once(&place, &own);
        assert_all_same(&before, &pictures(&place), &format!("{round}: {script}"));
        place.run(&["redo", "--yes"], 0);
        let again = pictures(&place);
        assert_all_same(
            &timeless(after),
            &timeless(again),
            &format!("redo {round}: {script}"),
        );
        undone_at_once(&place, &own);
        assert_all_same(
            &before,
            &pictures(&place),
            &format!("again {round}: {script}"),
        );
    }
}

#[test]
fn what_somebody_else_changed_between_two_commands_is_a_conflict() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    shell.run("sh -c 'echo one >> a; rm mode'");
    // Not a process of the session.
    std::fs::write(place.tree().join("a"), "theirs, and longer\n").unwrap();
    shell.run("sh -c 'echo two >> a'");
    shell.end();
    let own = id(session(&operations(&place)));
    place.run(&["undo", &own, "--yes"], 3);
    let text = std::fs::read_to_string(place.tree().join("a")).unwrap();
    assert_eq!(text, "theirs, and longer\n");
    assert!(place.tree().join("mode").exists());
}

#[test]
fn a_process_without_parents_is_a_child_of_the_guard_and_leaves_no_zombie() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    let guard = shell.child.id();
    shell.run(concat!(
        "for i in 1 2 3; do (sh -c 'until [ -e go ]; do sleep 0.02; done;",
        " grep PPid: /proc/$$/status > parent'$i'; mv parent'$i' told'$i &); done"
    ));
    shell.run("touch go; for i in 1 2 3; do until [ -e told$i ]; do sleep 0.02; done; done");
    for number in 1..=3 {
        let told = place.tree().join(format!("told{number}"));
        let told = std::fs::read_to_string(told).unwrap();
        assert_eq!(told.trim(), format!("PPid:\t{guard}"));
    }
    let zombies = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let stats = all.filter_map(|one| std::fs::read_to_string(one.path().join("stat")).ok());
        let of_guard = |stat: &String| {
            let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
            rest.starts_with(&format!(" Z {guard} "))
        };
        stats.filter(of_guard).count()
    };
    // The last of them may be ending just now; a zombie would stay.
    let started = std::time::Instant::now();
    while zombies() > 0 && started.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(zombies(), 0);
    shell.run("(exit 7)");
    shell.end();
    let mut guard = place.bdr(&[
        "guard",
        "--session",
        "--",
        "bash",
        "-c",
        "(sleep 0.1 &); exit 7",
    ]);
    assert_eq!(guard.output().unwrap().status.code(), Some(7));
    let mut guard = place.bdr(&["guard", "--session", "--", "bash", "-c", "kill -9 $$"]);
    let status = guard.output().unwrap().status;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
}

#[test]
fn the_document_about_a_session_has_the_numbers_of_its_operations() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let script = "rm a; rm -r d; sh -c 'echo x > x; echo y > mode'; true";
    let words = [
        "guard",
        "--summary",
        "json",
        "--session",
        "--",
        "bash",
        "-c",
        script,
    ];
    let output = place
        .bdr(&words)
        .env("BDR_BACKGROUND", "0")
        .output()
        .unwrap();
    let said = stderr(&output);
    let line = said.lines().find(|line| line.starts_with('{')).unwrap();
    let document: Value = serde_json::from_str(line).unwrap();
    let data = &document["data"];
    let own = id(session(&operations(&place)));
    assert_eq!(data["operation"], own);
    assert_eq!(data["operations"], 3, "{data}");
    // `d` has three files, one of them with two names.
    assert_eq!(data["deleted"], 5, "{data}");
    assert_eq!(
        (data["created"].as_u64(), data["modified"].as_u64()),
        (Some(1), Some(1)),
        "{data}"
    );
    let undo = data["undo"].as_str().unwrap().split(' ').skip(1);
    place.run(&undo.chain(["--yes"]).collect::<Vec<_>>(), 0);
    assert!(place.tree().join("d/e/c").exists());
}

#[test]
fn a_rename_that_failed_is_no_conflict_for_what_was_done_before() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    shell.run("sh -c 'echo made > new; echo changed > a'");
    // bdr keeps what a rename would replace, and lets go of it again.
    shell.run("mv nothing new 2>/dev/null; mv nothing a 2>/dev/null; ln a nowhere/b 2>/dev/null");
    let all = operations(&place);
    shell.end();
    let own = id(session(&operations(&place)));
    assert_eq!(all.len(), 2, "{all:?}");
    place.run(&["undo", &own, "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "a rename that failed");
}

#[test]
fn a_write_whose_time_was_set_back_is_a_conflict_all_the_same() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    shell.run("sh -c 'echo mine > new'");
    shell.run("mv nothing new 2>/dev/null");
    let file = place.tree().join("new");
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, "past\n").unwrap();
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(time).unwrap();
    shell.run("mv nothing new 2>/dev/null");
    shell.end();
    let own = id(session(&operations(&place)));
    place.run(&["undo", &own, "--yes"], 3);
    assert_eq!(std::fs::read(place.tree().join("new")).unwrap(), b"past\n");
}

#[test]
fn the_log_of_a_session_says_who_did_what_while_it_runs() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    shell.run("rm a");
    shell.run("sh -c 'sh -c \"rm mode; true\"; true'");
    shell.run("echo by the shell > made");
    shell.run("ls > /dev/null");
    let all = operations(&place);
    let told: Vec<String> = all.iter().map(argv).collect();
    assert_eq!(
        told,
        [
            "bash -s",
            "sh -c sh -c \"rm mode; true\"; true",
            "rm a",
            "bash -s"
        ]
    );
    let own = session(&all);
    assert_eq!(own["state"], "running");
    assert!(all.iter().all(|one| one["session"] == own["id"]));
    assert_eq!(
        all[1]["chain"],
        serde_json::json!(["bash", "sh", "sh", "rm"])
    );
    assert_eq!(all[1]["protection"]["by"], "capture");
    assert_eq!(all[1]["cwd"], place.tree().to_str().unwrap());
    let history = place.run(&["history", "mode"], 0);
    assert!(!history.stdout.is_empty());
    shell.end();
    assert_eq!(session(&operations(&place))["state"], "finished");
}

#[test]
fn what_one_command_did_says_nothing_of_other_files() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    shell.run("echo over > d/b");
    shell.run("rm a");
    shell.run("rm -r d/e");
    shell.end();
    let history = place.run(&["history", "d/b"], 0);
    let history = String::from_utf8_lossy(&history.stdout).into_owned();
    assert!(!history.contains("gone"), "{history}");
    let found = place.json(&["find", "b"]);
    let found = found["found"].as_array().unwrap();
    assert!(!found.is_empty());
    assert!(found.iter().all(|one| one["current"] == true), "{found:?}");
    // What went with a directory is gone by the next look at the directory.
    shell = Shell::start(&place);
    shell.run("mkdir d/e; echo c > d/e/c");
    shell.run("rm -r d");
    shell.end();
    let history = place.run(&["history", "d/b"], 0);
    assert!(!String::from_utf8_lossy(&history.stdout).contains("gone"));
}

#[test]
fn inside_a_session_bdr_undoes_what_was_just_done() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    shell.run("rm a; \"$BDR\" undo --yes");
    assert_all_same(&before, &pictures(&place), "rm");
    shell.run("sh -c 'rm mode; \"$BDR\" undo --yes; true'");
    assert_all_same(&before, &pictures(&place), "in one step");
    shell.run("echo x > a");
    shell.run("\"$BDR\" undo --yes");
    assert_all_same(&before, &pictures(&place), "by the shell itself");
    shell.run("rm a; rm mode; rm -r d");
    shell.run("\"$BDR\" undo --last 2 --yes");
    assert!(!place.tree().join("a").exists());
    shell.run("\"$BDR\" undo --since 10m --yes");
    assert_all_same(&before, &pictures(&place), "since");
    // A guard inside of it is one of its commands, and nothing is done twice.
    let known = operations(&place).len();
    let said = shell.run("\"$BDR\" guard -- rm a 2>&1");
    assert!(!said.contains("undo: bdr undo"), "{said}");
    let all = operations(&place);
    assert_eq!(all.len(), known + 1, "{}", argv(&all[0]));
    shell.run("\"$BDR\" undo --yes");
    assert_all_same(&before, &pictures(&place), "a guard inside");
    shell.end();
}

#[test]
fn commands_that_change_the_same_thing_at_once_are_one_operation() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    // Each waits for the other, so that they overlap whatever the scheduler does.
    shell.run(
        "sh -c 'echo 1 > a; : > one; while ! [ -e two ]; do sleep 0.01; done; echo 3 >> a' &
         sh -c 'while ! [ -e one ]; do sleep 0.01; done; echo 2 >> a; rm mode; : > two' & wait",
    );
    let all = operations(&place);
    assert_eq!(all.len(), 2, "the session, and one operation");
    shell.end();
    place.run(&["undo", &id(&all[0]), "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "both");
}

#[test]
fn a_command_that_outlives_its_parents_is_an_operation_of_its_own() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    shell.run(
        "sh -c '(while ! [ -e go ]; do sleep 0.01; done; rm a; echo late > late) > /dev/null & :'",
    );
    shell.run("rm mode");
    shell.run(": > go; while ! [ -e late ]; do sleep 0.01; done");
    shell.end();
    let all = operations(&place);
    let own = id(session(&all));
    place.run(&["undo", &own, "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "late");
}

#[test]
fn a_session_that_is_killed_loses_nothing() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let mut shell = Shell::start(&place);
    shell.run("rm a");
    // Two commands that have not ended, and one of the shell itself.
    let stdin = shell.child.stdin.as_mut().unwrap();
    writeln!(
        stdin,
        "sh -c 'rm mode; : > \"$HOME/r1\"; exec sleep 60' > /dev/null &
         sh -c 'rm -r d; : > \"$HOME/r2\"; exec sleep 60' > /dev/null &
         echo x > link2; echo ready; read y"
    )
    .unwrap();
    let mut said = String::new();
    shell.said.read_line(&mut said).unwrap();
    while !place.path("home/r1").exists() || !place.path("home/r2").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(shell.child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    shell.child.wait().unwrap();
    drop(shell.child.stdin.take());
    let said = stderr(&place.run(&["log"], 0));
    assert!(said.contains("an interrupted guard had captured"), "{said}");
    let all = operations(&place);
    let own = session(&all);
    assert_eq!(own["state"], "interrupted");
    let undone = place.run(&["undo", &id(own), "--yes"], 0);
    let undone = format!("{}{all:#?}", String::from_utf8_lossy(&undone.stdout));
    // Of commands that overlap, each knows the times of a directory from in between.
    assert_all_same(&timeless(before), &timeless(pictures(&place)), &undone);
    place.run(&["verify"], 0);
    let _ = Command::new("pkill").args(["-f", "sleep 60"]).status();
}

#[test]
fn an_agent_is_a_session_by_its_name() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    let agent = place.path("claude");
    std::fs::write(
        &agent,
        "#!/bin/bash\nbash -c 'rm a'\necho edit > d/b\nbash -c 'rm -r d/e; rm mode'\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    let output = place
        .bdr(&["guard", "--", agent.to_str().unwrap()])
        .env("BDR_BACKGROUND", "0")
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(said.contains("3 operations in this session"), "{said}");
    let all = operations(&place);
    assert_eq!(argv(&all[2]), "bash -c rm a");
    place.run(&["undo", &id(session(&all)), "--yes"], 0);
    assert_all_same(&before, &pictures(&place), "an agent");
}

#[test]
fn hundreds_of_commands_leave_nothing_behind_but_their_operations() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut shell = Shell::start(&place);
    let fds = format!("/proc/{}/fd", shell.child.id());
    let open = || std::fs::read_dir(&fds).unwrap().count();
    let areas = || {
        let all = walkdir::WalkDir::new(place.path("")).into_iter();
        let all = all.filter_map(Result::ok);
        all.filter(|entry| entry.file_name() == "owner").count()
    };
    // Commands are faster than their records: what waits for these is bounded.
    let over = std::sync::atomic::AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let mut most = (0, 0);
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                most = (most.0.max(open()), most.1.max(areas()));
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            most
        });
        shell.run("for i in $(seq 200); do echo $i > t; rm t; cp a t; touch a; done");
        shell.run("rm -f t");
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        seen.join().unwrap()
    });
    assert!(most.0 < 250, "{most:?} files, and staging areas");
    assert!(most.1 < 350, "{most:?} files, and staging areas");
    assert!(open() < 40, "{}", open());
    let captures: Vec<_> = walkdir::WalkDir::new(place.path("bdr"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == "journal")
        .collect();
    assert!(captures.is_empty(), "{captures:?}");
    shell.end();
    place.run(&["verify"], 0);
}
