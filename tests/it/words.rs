//! What a line says in whatever way is covered: words, quoted text, literals, what lists and links lead to.

#![cfg(unix)]

use std::path::Path;

use crate::support::Place;

/// A workspace `ws`, and beside it what a line destroys.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("ws/own", b"own");
    fresh(&place);
    let made = std::process::Command::new("git")
        .args(["init", "-q", "ws"])
        .current_dir(place.tree())
        .status();
    assert!(made.unwrap().success());
    place
}

fn fresh(place: &Place) {
    let _ = std::fs::remove_dir_all(place.tree().join("outside"));
    for (file, text) in [("o", "o"), ("d/p", "p"), ("e/q", "q")] {
        place.write(&format!("outside/{file}"), text.as_bytes());
    }
}

fn in_workspace(place: &Place, args: &[&str]) -> std::process::Output {
    let mut bdr = place.bdr(args);
    bdr.current_dir(place.tree().join("ws"))
        .env("BDR_BACKGROUND", "0");
    bdr.output().unwrap()
}

fn picture(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(dir).sort_by_file_name();
    let files = walk
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file());
    files
        .map(|e| (e.path().to_owned(), std::fs::read(e.path()).unwrap()))
        .collect()
}

#[track_caller]
fn comes_back(place: &Place, line: &str) {
    fresh(place);
    let outside = place.tree().join("outside");
    let before = picture(&outside);
    let said = in_workspace(place, &["guard", "--", "bash", "-c", line]);
    assert_ne!(picture(&outside), before, "did nothing: {line}: {said:?}");
    let undone = in_workspace(place, &["undo", "--yes"]);
    assert_eq!(
        picture(&outside),
        before,
        "lost: {line}: {said:?} {undone:?}"
    );
}

#[test]
fn what_a_line_mentions_comes_back() {
    let place = place();
    for line in [
        "find ../outside -type f | xargs rm -f",
        "find ../outside -type f | while read -r f; do rm \"$f\"; done",
        "grep -rl o ../outside | xargs sed -i s/o/X/",
        "rm -rf $(find ../outside -type f)",
        "D=$(realpath ../outside); rm -rf \"$D/d\"",
        "a=(../outside/o ../outside/d); rm -rf \"${a[@]}\"",
        "D=../outside; cd \"$D\" && rm -f o",
        "test -d ../outside && rm -rf \"$_\"",
        "env -C ../outside rm -f o",
        "git --git-dir=.git --work-tree=../outside clean -fdxq",
        "GIT_WORK_TREE=../outside GIT_DIR=$PWD/.git git clean -fdxq",
        "bash -s <<< 'rm -rf ../outside/d'",
        "echo 'rm -rf ../outside/d' | bash",
        "source /dev/stdin <<< 'rm -rf ../outside/d'",
        "trap 'rm -rf ../outside/d' EXIT; true",
        "$'rm' -rf $'../outs\\x69de'",
        "awk 'BEGIN{system(\"rm -rf ../outside/d\")}'",
        // Made by the line itself, and nothing else leads there.
        "ln -s ../outside x; rm -rf x/*",
        "ln -s ../outside made; rm -rf made/d; rm made",
        "ln -sfn ../outside own; rm -rf own/*",
        "ln ../outside/o name; echo written > name; rm name",
        "gzip ../outside/o",
        "gzip -c own > own.gz; cp own.gz ../outside/o.gz; gunzip -f ../outside/o.gz",
    ] {
        comes_back(&place, line);
    }
}

#[test]
fn what_a_link_leads_to_is_covered_also_above_what_is_named() {
    let place = place();
    std::os::unix::fs::symlink("outside", place.tree().join("lk")).unwrap();
    for line in [
        "rm -rf ../lk/",
        "rm -rf ../lk/d ../lk/",
        "rm -rf ../outside/d ../lk/",
    ] {
        comes_back(&place, line);
    }
    std::os::unix::fs::symlink("../outside", place.tree().join("ws/l")).unwrap();
    for line in [
        "echo log > ../outside/d/p; rm -rf l/*",
        "for n in l/*; do rm -rf $n; done; rm -f ../outside/o",
    ] {
        comes_back(&place, line);
    }
}

#[test]
fn many_links_that_lead_out_are_all_followed() {
    let place = place();
    for n in 0..90 {
        place.write(&format!("far/{n}/f"), b"far");
        std::os::unix::fs::symlink(
            format!("../far/{n}/f"),
            place.tree().join(format!("ws/l{n}")),
        )
        .unwrap();
    }
    let before = picture(&place.tree().join("far"));
    place.write("ws/wipe.sh", b"for l in l*; do : > $l; done");
    in_workspace(&place, &["guard", "--", "sh", "wipe.sh"]);
    assert_ne!(picture(&place.tree().join("far")), before);
    in_workspace(&place, &["undo", "--yes"]);
    assert_eq!(picture(&place.tree().join("far")), before);
}

#[test]
fn what_is_only_mentioned_stops_no_command() {
    let place = place().watched();
    let big = std::fs::File::create(place.tree().join("big")).unwrap();
    big.set_len(100 << 20).unwrap();
    let locked = place.tree().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o000);
    let said = in_workspace(
        &place,
        &["guard", "--", "sh", "-c", "true ../big ../locked; rm own"],
    );
    mode(0o700);
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(
        text.contains("not captured") && text.contains("big"),
        "{text}"
    );
    in_workspace(&place, &["undo", "--yes"]);
    assert!(place.tree().join("ws/own").exists());
}

/// Words that the shells' filters let through without asking bdr, as they stand in the scripts of the shells.
fn let_through() -> (Vec<String>, Vec<String>) {
    let fish = include_str!("../../shell/bdr.fish");
    let line = fish
        .lines()
        .find(|line| line.contains("'^\\s*($|#|("))
        .unwrap();
    let rest = &line[line.find("$|#|(").unwrap() + 5..];
    let (always, rest) = rest.split_once(")(\\s|$)|(").unwrap();
    let plain = &rest[..rest.find("))(").unwrap()];
    let words = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let (others, git) = plain.split_once("|git (").unwrap();
    let mut without_options = words(others);
    without_options.extend(words(git).iter().map(|word| format!("git {word}")));
    (words(always), without_options)
}

#[test]
fn what_the_shells_let_through_only_reads_by_the_one_table() {
    use bdr::effects::{Effect, Surroundings, Table, assess_line};
    let around = Surroundings {
        cwd: Path::new("/w"),
        home: None,
        table: Table::builtin(),
    };
    let reads = |line: &str| assess_line(line, &around).effect == Effect::Read;
    let (always, without_options) = let_through();
    assert!(always.len() > 20 && without_options.len() > 8);
    for word in &always {
        for line in [
            "",
            " f",
            " -o f",
            " -w f",
            " -C f",
            " --output=f",
            " -i f",
            " -x --prune y",
        ] {
            assert!(
                reads(&format!("{word}{line}")),
                "`{word}{line}` does not only read"
            );
        }
    }
    for word in &without_options {
        for line in ["", " f", " f g"] {
            assert!(
                reads(&format!("{word}{line}")),
                "`{word}{line}` does not only read"
            );
        }
    }
    // The other shells have the same words.
    for script in [
        include_str!("../../shell/bdr.bash"),
        include_str!("../../shell/bdr.zsh"),
    ] {
        let filter = &script[script.find("__bdr_looks()").unwrap()..];
        let filter = &filter[..filter.find("\n}").unwrap()];
        for never in ["fg", "bg", "fetch", "git add", "git\\ add"] {
            let found = filter
                .split(|c: char| "|()'\\ \n".contains(c))
                .any(|word| word == never);
            assert!(!found, "{never}");
        }
        for word in filter
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|w| w.len() > 3)
        {
            let known = |list: &[String]| list.iter().any(|w| w.split(' ').any(|w| w == word));
            let syntax = [
                "builtin",
                "local",
                "line",
                "return",
                "case",
                "esac",
                "Without",
                "options",
                "some",
                "write",
                "quotes",
                "behind",
                "declaration",
                "word",
                "like",
                "others",
                "alias",
                "anything",
                "What",
                "here",
                "only",
                "reads",
                "rules",
                "whatever",
                "follows",
                "test",
                "compares",
                "none",
                "blank",
                "output",
                "BASH",
                "ALIASES",
                "emulate",
                "setopt",
                "extended",
                "glob",
                "looks",
                "bdr",
                "--output",
            ];
            assert!(
                known(&always)
                    || known(&without_options)
                    || syntax
                        .iter()
                        .any(|s| s.trim_matches('-') == word.trim_matches('-')),
                "`{word}` is in one filter only"
            );
        }
    }
}

/// What a command left running belongs to its operation until it ends.
#[cfg(target_os = "linux")]
#[test]
fn what_a_command_leaves_running_belongs_to_it() {
    // The job waits for a file: no clock decides.
    let job = "while ! [ -e ../go ]; do sleep 0.02; done; rm -rf docs; : > ../done";
    for line in [
        "(JOB) >/dev/null 2>&1 </dev/null & rm notes",
        // In a process group of its own, in a session of its own.
        "timeout 600 sh -c 'JOB' >/dev/null 2>&1 </dev/null & rm notes",
        "setsid sh -c 'JOB' >/dev/null 2>&1 </dev/null & rm notes",
        "setsid sh -c 'JOB' >/dev/null 2>&1 </dev/null & true",
    ] {
        let place = place().watched();
        place.write("ws/notes", b"n");
        place.write("ws/docs/d", b"d");
        let before = picture(&place.tree().join("ws/docs"));
        let line = line.replace("JOB", job);
        let mut guard = place.bdr(&["guard", "--", "sh", "-c", &line]);
        guard.current_dir(place.tree().join("ws"));
        let said = guard.output().unwrap();
        assert_eq!(said.status.code(), Some(0));
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(
            text.contains("still running") && text.contains("bdr undo"),
            "{line}: {text}"
        );
        std::fs::write(place.tree().join("go"), "").unwrap();
        let wait = |there: &dyn Fn() -> bool| {
            for _ in 0..1000 {
                if there() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            panic!("it did not come to its end: {line}");
        };
        wait(&|| place.tree().join("done").exists());
        // The process that waits for the job writes the end.
        wait(&|| {
            let records = std::fs::read_dir(place.store().join("operations")).unwrap();
            records
                .flatten()
                .any(|r| r.file_name().to_string_lossy().ends_with(".end.json"))
        });
        assert!(!place.tree().join("ws/docs").exists());
        in_workspace(&place, &["undo", "--yes"]);
        assert!(place.tree().join("ws/notes").exists(), "{line}");
        assert_eq!(picture(&place.tree().join("ws/docs")), before, "{line}");
    }
}

#[test]
fn what_only_shows_when_it_runs_is_said_once_before_it_runs() {
    let place = place().watched();
    place.write("ws/list", b"own\n");
    let said = |args: &[&str]| crate::support::cli::stderr(&in_workspace(&place, args));
    // The first makes the repository, and says so.
    said(&["guard", "--", "touch", "own"]);
    for line in [
        "rm -f $(cat list); echo ran >&2",
        "xargs rm -f < list; echo ran >&2",
        "find . -name nothing | xargs rm -f; echo ran >&2",
        "while read -r f; do rm -f \"$f\"; done < list; echo ran >&2",
        "rm -rf \"$NO_SUCH_VARIABLE\"; echo ran >&2",
        "eval \"$NO_SUCH_VARIABLE\"; echo ran >&2",
        "echo x > \"${NO_SUCH_VARIABLE:-/dev/null}\"; echo ran >&2",
        "echo x > \"../$(cat list)\"; echo ran >&2",
        "echo x > \".$(echo ./)made\"; echo ran >&2",
    ] {
        let said = said(&["guard", "--summary", "never", "--", "bash", "-c", line]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{line}: {said}");
        assert!(
            lines[0].starts_with("bdr: cannot tell what `") && lines[0].contains("until it runs"),
            "{line}: {said}"
        );
        assert_eq!(lines[1], "ran", "{line}");
    }
    for line in [
        "cat $(cat list) | grep x",
        "ls \"$(pwd)\"",
        "for f in *.none; do rm -f \"$f\"; done",
        "printf '%s\\n' own | xargs rm -f",
        // What is below the current directory is watched, whatever its name comes to.
        "mkdir -p junk; for i in $(cat list); do echo > junk/$i; done",
        "for i in $(cat list); do echo x > \"out-$i.txt\"; done",
        "D=own; rm -f \"$D\"",
    ] {
        place.write("ws/own", b"own");
        let said = said(&["guard", "--summary", "never", "--", "bash", "-c", line]);
        assert!(!said.contains("until it runs"), "{line}: {said}");
    }
}

/// What another operation did while one was open belongs to the other, as far as that can be told.
#[cfg(target_os = "linux")]
#[test]
fn what_another_operation_did_meanwhile_is_not_taken_back() {
    let place = place().watched();
    for name in ["a", "b", "c", "d", "dir/e"] {
        place.write(&format!("ws/{name}"), name.as_bytes());
    }
    let ws = place.tree().join("ws");
    let line = "(while ! [ -e \"$GO\" ]; do sleep 0.02; done; rm c; echo late > late) >/dev/null 2>&1 </dev/null & rm a";
    let mut guard = place.bdr(&["guard", "--", "sh", "-c", line]);
    guard.current_dir(&ws).env("GO", place.tree().join("go"));
    let said = guard.output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("still running"));
    // Named, made, written to; a directory goes along with what was in it.
    let line = "rm -r b dir; echo new > made; echo more >> d; mkdir sub; echo x > sub/x";
    let said = in_workspace(&place, &["guard", "--", "sh", "-c", line]);
    assert_eq!(said.status.code(), Some(0));
    std::fs::write(place.tree().join("go"), "").unwrap();
    let ended = || {
        let log = place.json(&["log", "-n", "0"]);
        let operations = log["operations"].as_array().unwrap();
        assert_eq!(operations.len(), 2, "{log}");
        (operations[1]["finished"] == true).then(|| operations[1].clone())
    };
    crate::support::terminal::wait_for("the end of the first", || ended().is_some());
    let first = ended().unwrap();
    assert_eq!(
        (&first["deleted"], &first["created"]),
        (&2.into(), &1.into())
    );
    let id = first["id"].as_str().unwrap();
    let undone = in_workspace(&place, &["undo", id, "--yes"]);
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    let stands = |name: &str| ws.join(name).symlink_metadata().is_ok();
    for (name, there) in [
        ("a", true),
        ("c", true),
        ("late", false),
        ("b", false),
        ("dir", false),
        ("made", true),
        ("sub/x", true),
    ] {
        assert_eq!(stands(name), there, "{name}");
    }
    assert_eq!(std::fs::read(ws.join("d")).unwrap(), b"dmore\n");
    in_workspace(&place, &["undo", "--yes"]);
    assert!(stands("b") && stands("dir/e") && !stands("made") && !stands("sub"));
    assert_eq!(std::fs::read(ws.join("d")).unwrap(), b"d");
}

/// A later operation may have taken another one back. Where its record is too long to be read for that, nothing is left out: what was seen stays on record.
#[cfg(target_os = "linux")]
#[test]
fn a_long_record_that_came_later_leaves_out_nothing_of_what_was_seen() {
    let place = place().watched();
    for name in ["a", "b", "c", "dir/e", "many/stays"] {
        place.write(&format!("ws/{name}"), name.as_bytes());
    }
    let many = 8_000_usize;
    for i in 0..many {
        let name = format!("ws/many/{i:0>160}");
        place.write(&name, b"");
    }
    let ws = place.tree().join("ws");
    let line =
        "(while ! [ -e \"$GO\" ]; do sleep 0.02; done; rm c) >/dev/null 2>&1 </dev/null & rm a";
    let mut guard = place.bdr(&["guard", "--", "sh", "-c", line]);
    guard.current_dir(&ws).env("GO", place.tree().join("go"));
    let said = guard.output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("still running"));
    for line in ["rm -r b dir", "find many -name '0*' -delete"] {
        let said = in_workspace(&place, &["guard", "--", "sh", "-c", line]);
        assert_eq!(said.status.code(), Some(0), "{said:?}");
    }
    let ends = walkdir::WalkDir::new(place.store().join("operations"));
    let ends = ends
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.metadata().ok());
    assert!(ends.map(|found| found.len()).max() > Some(1 << 20));
    std::fs::write(place.tree().join("go"), "").unwrap();
    let ended = || {
        let log = place.json(&["log", "-n", "0"]);
        let first = log["operations"][2].clone();
        (first["finished"] == true).then_some(first)
    };
    crate::support::terminal::wait_for("the end of the first", || ended().is_some());
    let deleted = ended().unwrap()["deleted"].as_u64();
    assert_eq!(
        deleted,
        Some(4 + many as u64),
        "a, c, b, dir/e and the many"
    );
}

#[cfg(unix)]
#[test]
fn a_socket_that_a_command_names_is_said_before_it_runs() {
    let place = place();
    let socket = place.tree().join("ws/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let said = in_workspace(&place, &["guard", "--", "rm", "socket", "own"]);
    assert_eq!(said.status.code(), Some(0));
    let text = crate::support::cli::stderr(&said);
    assert!(
        text.contains("not captured: socket (a socket is not stored)"),
        "{text}"
    );
    let undone = in_workspace(&place, &["undo", "--yes"]);
    assert_eq!(undone.status.code(), Some(3), "{undone:?}");
    assert!(place.tree().join("ws/own").exists());
}

/// Two terminals, one source: what the other is doing is not taken back.
#[cfg(target_os = "linux")]
#[test]
fn what_another_project_is_doing_meanwhile_is_not_undone() {
    let place = Place::with_repository().watched();
    place.write("shop/src/a", b"a");
    place.write("other/b", b"b");
    place.init();
    let (shop, other) = (place.tree().join("shop"), place.tree().join("other"));
    let wait = |name: &str| format!("while ! [ -e \"{name}\" ]; do sleep 0.02; done");
    let line = format!("{}; echo new > new; {}", wait("$START"), wait("go"));
    let with_names = |line: &str, dir: &std::path::Path| {
        let mut guard = place.bdr(&["guard", "--", "sh", "-c", line]);
        let (start, new) = (place.path("start"), other.join("new"));
        guard.env("START", start).env("NEW", new).current_dir(dir);
        guard
    };
    let mut running = with_names(&line, &other).spawn().unwrap();
    // This one begins before the other has written anything, and ends after it.
    let line = format!("touch \"$START\"; {}; rm -r src", wait("$NEW"));
    assert!(with_names(&line, &shop).status().unwrap().success());
    // By its name: which of the two began later is left to the scheduler.
    let log = place.json(&["log", "-n", "0"]);
    let own = log["operations"].as_array().unwrap().iter();
    let mut own = own.filter(|one| one["argv"].to_string().contains("rm -r src"));
    let own = own.next().unwrap()["id"].as_str().unwrap();
    let output = place
        .bdr(&["undo", own, "--yes"])
        .current_dir(&shop)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &crate::support::cli::stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(shop.join("src/a").exists(), "{said}");
    assert!(other.join("new").exists(), "{said}");
    std::fs::write(other.join("go"), "").unwrap();
    assert!(running.wait().unwrap().success());
    assert!(
        said.contains("meanwhile, not touched: 1 path changed in "),
        "{said}"
    );
}
