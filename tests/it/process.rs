//! A guard must not be felt: statuses, signals, streams, job control on a terminal are those of the command alone.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::cli::stderr;
use crate::support::terminal::{Terminal, in_place, wait_for};
use crate::support::{Place, assert_same, picture};

/// A place with a file to destroy, where `bdr` is on the PATH.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("f", b"precious");
    place.init();
    place
}

/// Runs a shell script in the tree.
fn shell(place: &Place, shell: &str, script: &str) -> Output {
    let mut command = Command::new(shell);
    command.args(["-c", script]);
    in_place(place, &mut command);
    command.output().unwrap()
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status();
    let found = found.unwrap().success();
    if !found {
        println!("SKIPPED: no {program}");
    }
    found
}

fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The newest guard in the log.
fn guarded(place: &Place) -> serde_json::Value {
    let log = place.json(&["log"]);
    let operations = log["operations"].as_array().unwrap();
    operations
        .iter()
        .find(|operation| operation["kind"] == "guard")
        .unwrap()
        .clone()
}

/// The file is back, and all else as it was.
#[track_caller]
fn undone(place: &Place) {
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"precious");
}

#[test]
fn the_status_is_as_without_a_guard() {
    let place = place();
    for script in [
        "true; exit 0",
        "exit 1",
        "exit 7",
        "exit 125",
        "exit 255",
        "no-such-command-anywhere",
        "kill -HUP $$",
        "kill -INT $$",
        "kill -QUIT $$",
        "kill -ABRT $$",
        "kill -KILL $$",
        "kill -SEGV $$",
        "kill -PIPE $$",
        "kill -ALRM $$",
        "kill -TERM $$",
        "kill -USR1 $$",
        "trap 'exit 5' TERM; kill -TERM $$; sleep 5",
        "trap 'exit 3' INT; kill -INT $$; sleep 5",
    ] {
        let mut bare = Command::new("sh");
        bare.args(["-c", script]);
        in_place(&place, &mut bare);
        let bare = bare.output().unwrap().status;
        let guarded = place.bdr(&["guard", "--", "sh", "-c", script]);
        let guarded = { guarded }.output().unwrap();
        assert_eq!(
            (bare.code(), bare.signal()),
            (guarded.status.code(), guarded.status.signal()),
            "{script}: {}",
            stderr(&guarded)
        );
        // As a shell tells it: 128 + signal.
        let told = |command: &str| {
            let quoted = script.replace('\'', "'\\''");
            let output = shell(
                &place,
                "sh",
                &format!("{command} sh -c '{quoted}'; echo $?"),
            );
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(told(""), told("bdr guard --"), "{script}");
    }
}

#[test]
fn a_core_is_left_by_the_command_only() {
    let place = place();
    // Where cores are files, two processes that dump leave two of them.
    let script = "ulimit -c unlimited 2>/dev/null; bdr guard -- sh -c 'kill -SEGV $$'; ls";
    let listed = String::from_utf8(shell(&place, "sh", script).stdout).unwrap();
    let cores = listed.lines().filter(|name| name.starts_with("core"));
    assert!(cores.count() <= 1, "{listed}");
}

#[test]
fn what_cannot_run_ends_with_125_126_or_127_and_changes_nothing() {
    let place = place();
    place.write("text", b"not a program");
    std::fs::create_dir(place.tree().join("dir")).unwrap();
    let before = picture(&place.tree());
    for (args, code) in [
        (&["guard"][..], 125),
        (&["guard", "--no-such-option", "--", "rm", "f"], 125),
        (&["guard", "--path", "no-such-path", "--", "rm", "f"], 125),
        (&["guard", "--", "./text"], 126),
        (&["guard", "--", "./dir"], 126),
        (&["guard", "--", "no-such-program", "f"], 127),
        (&["guard", "--", "./no/such/program", "f"], 127),
    ] {
        place.run(args, code);
    }
    assert_same(&before, &picture(&place.tree()), "nothing was run");
    // A redo or an undo finds nothing in them to take back.
    place.run(&["undo", "--yes"], 1);
}

#[test]
fn pipes_and_their_statuses_are_the_commands() {
    if !has("bash") {
        return;
    }
    let place = place();
    let script = "bdr guard -- sh -c 'rm f; yes' | head -n 1; echo ${PIPESTATUS[*]}
        echo in | bdr guard -- sh -c 'cat; exit 4' | cat; echo ${PIPESTATUS[*]}
        set -o pipefail; bdr guard -- sh -c 'echo x; exit 9' | cat; echo $?";
    let output = shell(&place, "bash", script);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "y\n141 0\nin\n0 4 0\nx\n9\n", "{}", stderr(&output));
    undone(&place);
}

#[test]
fn a_full_device_is_the_commands_to_report() {
    if !std::path::Path::new("/dev/full").exists() {
        println!("SKIPPED: no /dev/full");
        return;
    }
    let place = place();
    for command in ["cat f", "sh -c 'cat f; exit 6'", "sh -c 'rm f; ls -a; :'"] {
        let bare = shell(&place, "sh", &format!("{command} >/dev/full"));
        place.write("f", b"precious");
        let guarded = shell(&place, "sh", &format!("bdr guard -- {command} >/dev/full"));
        assert_eq!(bare.status, guarded.status, "{command}");
    }
    undone(&place);
    // With nobody to talk to, bdr does its work all the same.
    let script = "bdr guard -- rm f 2>/dev/full; echo $?; ls; bdr guard --json -- sh -c 'echo > g' 2>&-; echo $?";
    let output = shell(&place, "sh", script);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n0\n");
    place.run(&["undo", "--last", "2", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"precious");
}

#[test]
fn the_terminal_is_the_commands() {
    if !has("setsid") || !has("bash") {
        return;
    }
    let place = place();
    let look = "for fd in 0 1 2; do [ -t $fd ] && echo fd$fd=tty || echo fd$fd=no; done; exit 7";
    let guard = ["bdr", "guard", "--", "sh", "-c", look];
    let (status, shown) = Terminal::start(&place, &guard).end();
    assert_eq!(status.code(), Some(7), "{shown}");
    for fd in 0..3 {
        assert!(shown.contains(&format!("fd{fd}=tty")), "{shown}");
    }
    let mut terminal = Terminal::shell(&place);
    terminal.type_in(&format!(
        "bdr guard -- sh -c '{look}' </dev/null | cat; echo over\n"
    ));
    let shown = terminal.expect("over");
    let expected = ["fd0=no", "fd1=no", "fd2=tty"];
    assert!(expected.iter().all(|fd| shown.contains(fd)), "{shown}");
    // What is typed goes to the command, and to nobody else.
    terminal.type_in("bdr guard -- sh -c 'read line; echo \"[$line]\"; rm f'\n");
    terminal.type_in("typed\n");
    terminal.expect("[typed]");
    terminal.expect("1 file deleted");
    terminal.type_in("exit\n");
    terminal.end();
    undone(&place);
}

#[test]
fn ctrl_c_stops_the_command_and_the_loop_around_it() {
    if !has("setsid") || !has("bash") {
        return;
    }
    let place = place();
    let mut terminal = Terminal::shell(&place);
    terminal.type_in(
        "for i in 1 2 3; do bdr guard -- sh -c 'rm -f f; echo round-$0; sleep 20' $i; done; echo no-$((1+1))\n",
    );
    terminal.expect("round-1");
    terminal.type_in("\x03");
    let shown = terminal.expect("ready> ");
    assert!(
        !shown.contains("round-2") && !shown.contains("no-2"),
        "{shown}"
    );
    terminal.type_in("echo status=$?\n");
    terminal.expect("status=130");
    assert_eq!(guarded(&place)["signal"], 2);
    undone(&place);
    // A script is stopped with it.
    place.write(
        "script",
        b"for i in 1 2 3; do bdr guard -- sh -c 'rm -f f; echo turn-$0; sleep 20' $i; done\n",
    );
    terminal.type_in("bash script; echo script=$?\n");
    terminal.expect("turn-1");
    terminal.type_in("\x03");
    let shown = terminal.expect("ready> ");
    assert!(!shown.contains("turn-2"), "{shown}");
    terminal.type_in("exit\n");
    terminal.end();
    undone(&place);
}

#[test]
fn a_command_that_handles_ctrl_c_goes_on_and_so_does_its_guard() {
    if !has("setsid") || !has("bash") {
        return;
    }
    let place = place();
    let mut terminal = Terminal::shell(&place);
    let script = "n=0; trap \"n=\\$((n+1)); echo caught-\\$n\" INT; echo begun; while [ $n -lt 2 ]; do sleep 0.1; done; rm f; exit 5";
    terminal.type_in(&format!("bdr guard -- sh -c '{script}'; echo status=$?\n"));
    terminal.expect("begun");
    terminal.type_in("\x03");
    terminal.expect("caught-1");
    terminal.type_in("\x03");
    terminal.expect("caught-2");
    terminal.expect("1 file deleted");
    terminal.expect("status=5");
    terminal.type_in("exit\n");
    terminal.end();
    let operation = guarded(&place);
    assert_eq!(
        (&operation["exit"], &operation["deleted"]),
        (&5.into(), &1.into())
    );
    undone(&place);
}

#[test]
fn ctrl_z_and_fg_work_as_without_a_guard() {
    if !has("setsid") || !has("bash") {
        return;
    }
    let place = place();
    let mut terminal = Terminal::shell(&place);
    let script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; rm f; exit 4";
    terminal.type_in(&format!("bdr guard -- sh -c '{script}'\n"));
    terminal.expect("begun");
    terminal.type_in("\x1a");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.type_in("touch go; sleep 0.3; ls f && echo still-$((1+1))\n");
    terminal.expect("still-2");
    terminal.type_in("fg; echo status=$?\n");
    terminal.expect("status=4");
    terminal.type_in("exit\n");
    terminal.end();
    assert_eq!(guarded(&place)["exit"], 4);
    undone(&place);
}

#[test]
fn a_background_job_that_reads_the_terminal_waits_for_fg() {
    if !has("setsid") || !has("bash") {
        return;
    }
    let place = place();
    let mut terminal = Terminal::shell(&place);
    terminal.type_in("bdr guard -- sh -c 'read line; echo \"<$line>\"; rm f' &\n");
    terminal.expect("ready> ");
    let mut stopped = String::new();
    wait_for("the job to be stopped", || {
        terminal.type_in("jobs; echo list-$((1+1))\n");
        stopped = terminal.expect("list-2");
        stopped.contains("Stopped")
    });
    terminal.type_in("fg\n");
    terminal.expect("bdr guard");
    terminal.type_in("hello\n");
    terminal.expect("<hello>");
    terminal.expect("1 file deleted");
    terminal.type_in("exit\n");
    terminal.end();
    undone(&place);
}

#[test]
fn a_terminal_that_goes_away_ends_the_command_and_the_operation_is_recorded() {
    if !has("setsid") {
        return;
    }
    let place = place();
    let script = "rm f; echo begun; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&place, &["bdr", "guard", "--", "sh", "-c", script]);
    terminal.expect("begun");
    // The reading thread has the other handle: only when it is gone the line is cut.
    drop(terminal.master.take());
    send(terminal.session.id(), rustix::process::Signal::HUP);
    let (status, shown) = terminal.end();
    assert_eq!(status.signal(), Some(1), "{shown}");
    let operation = guarded(&place);
    assert_eq!(
        (&operation["signal"], &operation["finished"]),
        (&1.into(), &true.into())
    );
    undone(&place);
}

#[test]
fn signals_that_bdr_was_told_to_ignore_are_ignored_by_the_command_too() {
    let place = place();
    let script = "kill -HUP $$; kill -INT $$; echo survived; rm f";
    let guard = format!("trap '' HUP INT; exec bdr guard -- sh -c '{script}'");
    let output = shell(&place, "sh", &guard);
    assert_eq!(output.stdout, b"survived\n", "{output:?}");
    undone(&place);
    // `trap '' CHLD` must not cost the status.
    let output = shell(
        &place,
        "bash",
        "trap '' CHLD; exec bdr guard -- sh -c 'exit 6'",
    );
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

#[test]
fn nohup_keeps_both_alive() {
    if !has("nohup") {
        return;
    }
    let place = place();
    let mut nohup = Command::new("nohup");
    nohup.args(["bdr", "guard", "--", "sh", "-c"]);
    nohup.arg("touch begun; while [ ! -e go ]; do sleep 0.05; done; rm f; exit 8");
    in_place(&place, &mut nohup);
    let mut nohup = nohup.stdin(Stdio::null()).spawn().unwrap();
    wait_for("the command to begin", || {
        place.tree().join("begun").exists()
    });
    send(nohup.id(), rustix::process::Signal::HUP);
    std::thread::sleep(Duration::from_millis(200));
    assert!(nohup.try_wait().unwrap().is_none(), "it was hung up");
    place.write("go", b"");
    assert_eq!(nohup.wait().unwrap().code(), Some(8));
    undone(&place);
}

#[test]
fn what_is_sent_to_the_guard_reaches_the_command() {
    use rustix::process::Signal;
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        for (trap, expected) in [("", None), ("exit 3", Some(3))] {
            let place = place();
            let trap = match trap {
                "" => String::new(),
                trap => format!("trap '{trap}' {name};"),
            };
            let script = format!("{trap} rm f; : > begun; while :; do sleep 0.02; done");
            let mut guard = place.bdr(&["guard", "--", "sh", "-c", &script]);
            let mut guard = guard.stderr(Stdio::null()).spawn().unwrap();
            wait_for("the command to begin", || {
                place.tree().join("begun").exists()
            });
            send(guard.id(), signal);
            let status = guard.wait().unwrap();
            assert_eq!(status.code(), expected, "{name}");
            assert_eq!(
                status.signal(),
                expected.is_none().then_some(signal.as_raw()),
                "{name}"
            );
            assert_eq!(guarded(&place)["finished"], true, "{name}");
            undone(&place);
        }
    }
}

#[test]
fn guards_within_a_guard_are_one_operation() {
    let place = place();
    place.write("g", b"too");
    let script = "touch h; bdr guard -- rm f; bdr guard -- sh -c 'touch i; bdr guard -- rm g'";
    let output = shell(&place, "sh", &format!("bdr guard -- sh -c \"{script}\""));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stderr(&output).matches("deleted").count(),
        1,
        "{}",
        stderr(&output)
    );
    let log = place.json(&["log"]);
    assert_eq!(log["operations"].as_array().unwrap().len(), 1, "{log}");
    undone(&place);
    assert!(place.tree().join("g").exists());
}

#[test]
fn a_guard_that_is_killed_leaves_an_operation_that_can_be_undone() {
    let place = place().watched();
    place.write("dir/a", b"1");
    let before = picture(&place.tree());
    let script = "rm f; echo 2 > dir/a; echo > made; touch begun; while [ -e begun ]; do sleep 0.02; done; rm -rf dir";
    let mut guard = place
        .bdr(&["guard", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    wait_for("the command to begin", || {
        place.tree().join("begun").exists()
    });
    guard.kill().unwrap();
    guard.wait().unwrap();
    let operation = guarded(&place);
    assert_eq!(
        (&operation["finished"], &operation["undoable"]),
        (&false.into(), &true.into())
    );
    // The command goes on without its guard.
    std::fs::remove_file(place.tree().join("begun")).unwrap();
    wait_for("the command to end", || !place.tree().join("dir").exists());
    place.run(&["undo", "--yes"], 0);
    assert_same(&before, &picture(&place.tree()), "after kill -9");
    place.run(&["verify"], 0);
}
