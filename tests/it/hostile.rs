//! Bad input: whatever is typed, named, locked, broken or gone, bdr runs the command as it is, or says why not, and loses nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::crash::noise;
use crate::support::cli::stderr;
use crate::support::{Place, assert_same, picture};

fn place() -> Place {
    let place = Place::with_repository();
    place.write("f", b"precious");
    place.init();
    place
}

/// Puts a program that only notes that it was called before all others on the PATH.
fn fake(place: &Place, name: &str) -> (OsString, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = place.path("fake-bin");
    let called = place.path("called");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\n", called.display());
    std::fs::write(bin.join(name), script).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join(name), mode).unwrap();
    let mut path = vec![bin];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    (std::env::join_paths(path).unwrap(), called)
}

#[test]
fn lines_that_cannot_be_parsed_are_covered_and_end_as_the_shell_says() {
    let place = place();
    for line in [
        "rm 'f",
        "rm \"f",
        "rm f; echo $(",
        "rm f; echo ${x",
        "rm f; cat <<END",
        "rm f; if true; then",
        "rm f; }",
        "rm f; echo `",
        "((((((",
        "\u{1b}[2J rm f",
        "rm\u{a0}f; rm f",
        "rm -- \u{202e}f; rm f",
    ] {
        let before = picture(&place.tree());
        let told = place.json(&["explain", line]);
        assert_ne!(told["effect"], "read", "{line:?}");
        let bare = place
            .bdr(&["guard", "--", "sh", "-c", line])
            .env("BDR", "0")
            .output()
            .unwrap();
        place.write("f", b"precious");
        let prior = picture(&place.tree());
        let output = place
            .bdr(&["guard", "--", "sh", "-c", line])
            .output()
            .unwrap();
        assert_eq!(bare.status, output.status, "{line:?}: {}", stderr(&output));
        if !place.tree().join("f").exists() {
            place.run(&["undo", "--yes"], 0);
        }
        assert_same(&prior, &picture(&place.tree()), line);
        assert_eq!(before.len(), prior.len());
    }
}

#[test]
fn a_line_of_a_megabyte_is_read_in_time_or_given_up_as_unknown() {
    use bdr::effects::{Effect, Surroundings, Table, assess, assess_line};
    let around = Surroundings {
        cwd: Path::new("/work"),
        home: Some(Path::new("/home/u")),
        table: Table::builtin(),
    };
    let long = |part: &str| part.repeat((1 << 20) / part.len());
    for line in [
        long("x"),
        long("rm a "),
        long("rm a;"),
        long("rm 'a b' && "),
        long("("),
        long("$("),
        long("`"),
        long("{ "),
        long("if true; then "),
        long("'\""),
        long("a=$b; "),
        long("<<E "),
        long("*/"),
        long("../"),
        long("\\\n"),
        long("sudo "),
        long("bash -c "),
        format!("rm {}", long("é")),
        format!("echo {} | xargs rm", long("{a,b}")),
    ] {
        let started = Instant::now();
        let told = assess_line(&line, &around);
        let took = started.elapsed();
        let start: String = line.chars().take(20).collect();
        assert!(took < Duration::from_secs(5), "{start}…: {took:?}");
        assert!(
            told.effect != Effect::Read || !line.contains("rm "),
            "{start}… counts as reading"
        );
    }
    // As one argument of a command, and as a hundred thousand.
    let argv: Vec<OsString> = vec!["sh".into(), "-c".into(), long("rm a;").into()];
    assert_ne!(assess(&argv, &around).effect, Effect::Read);
    let mut argv: Vec<OsString> = vec!["rm".into()];
    argv.extend((0..100_000).map(|n| n.to_string().into()));
    let started = Instant::now();
    assert_eq!(assess(&argv, &around).operands.len(), 100_000);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn operands_of_any_bytes_are_covered() {
    let place = place();
    let names: [&[u8]; 6] = [
        b"\xff\xfe",
        b"new\nline",
        b"-rf",
        b" ",
        b"a\tb'\"$(x)`",
        b"\xe2\x80\xae",
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        std::fs::create_dir_all(place.path("out")).unwrap();
        let path = place.path("out").join(name);
        std::fs::write(&path, b"odd").unwrap();
        let mut guard = place.bdr(&["guard", "--", "rm", "--"]);
        let output = guard.arg(&path).output().unwrap();
        assert!(
            output.status.success() && !path.exists(),
            "{name:?}: {}",
            stderr(&output)
        );
        // Named again, by the log and by the plan.
        assert_eq!(
            place.json(&["log", "-n", "1"])["operations"][0]["deleted"],
            1
        );
        place.json(&["undo", "--dry-run"]);
        place.run(&["undo", "--dry-run"], 0);
        place.run(&["undo", "--yes"], 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"odd", "{name:?}");
        let mut explain = place.bdr(&["--json", "explain", "rm", "--"]);
        let told = explain.arg(&path).output().unwrap();
        assert!(told.status.success(), "{name:?}: {}", stderr(&told));
        let mut line = place.bdr(&["explain"]);
        let told = line
            .arg(OsStr::from_bytes(&[b"rm ", name.as_bytes()].concat()))
            .output()
            .unwrap();
        assert!(
            matches!(told.status.code(), Some(0 | 2)),
            "{name:?}: {}",
            stderr(&told)
        );
    }
}

#[test]
fn operands_that_are_not_there_or_vanish_stop_nothing() {
    let place = place();
    let output = place.run(
        &[
            "guard",
            "--",
            "rm",
            "-f",
            "no-such",
            "../no/such",
            "/no/such",
            "f",
        ],
        0,
    );
    assert!(!place.tree().join("f").exists(), "{}", stderr(&output));
    place.run(&["undo", "--yes"], 0);
    // Files come and go while the snapshot is taken.
    let churn = place.tree().join("churn");
    std::fs::create_dir(&churn).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let path = churn.join(format!("{}", n % 50));
                let _ = match n % 3 {
                    0 => std::fs::write(&path, noise(4_000)),
                    1 => std::fs::remove_file(&path),
                    _ => std::fs::create_dir(&path).and_then(|()| std::fs::remove_dir(&path)),
                };
            }
        });
        for _ in 0..10 {
            place.run(&["guard", "--", "sh", "-c", "rm f"], 0);
            place.run(&["undo", "--yes", "--", "f"], 0);
            assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"precious");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    place.run(&["verify", "--level", "full"], 0);
}

#[test]
fn the_root_and_the_home_directory_are_refused_at_once() {
    for (place, is_watched) in [
        (Place::with_repository().watched(), true),
        (Place::with_repository(), false),
    ] {
        refuses_the_root(&place, is_watched);
    }
}

fn refuses_the_root(place: &Place, is_watched: bool) {
    place.write("f", b"precious");
    let (path, called) = fake(place, "rm");
    let home = place.path("home");
    std::fs::write(home.join("letter"), b"dear").unwrap();
    // The repository lies below HOME, as it does by default.
    let run = |args: &[&str]| {
        let mut bdr = place.bdr(args);
        bdr.env_remove("BDR_HOME")
            .env("PATH", &path)
            .env("BDR_LIFEBOAT", "");
        let started = Instant::now();
        let output = bdr.output().unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{args:?} took too long"
        );
        output
    };
    assert!(run(&["guard", "--", "sh", "-c", "rm f"]).status.success());
    let _ = std::fs::remove_file(&called);
    let home = home.display().to_string();
    let root: [&[&str]; 5] = [
        &["rm", "-rf", "/"],
        &["rm", "-rf", "--no-preserve-root", "/"],
        &["sh", "-c", "rm -rf /*"],
        &["sh", "-c", "cd / && rm -rf *"],
        &["rm", "-rf", "../../../../../../../../.."],
    ];
    // Capture lets it happen but for bdr's own files, and brings the rest back.
    let home: [&[&str]; 3] = [
        &["sh", "-c", "rm -rf ~"],
        &["sh", "-c", "rm -rf \"$HOME\"/"],
        &["rm", "-rf", &home],
    ];
    let home = home.into_iter().filter(|_| is_watched);
    for args in root.into_iter().chain(home) {
        let dry = run(&[&["guard", "--dry-run", "--"], args].concat());
        let output = run(&[&["guard", "--"], args].concat());
        assert_eq!(
            output.status.code(),
            Some(125),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("not run"),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_ne!(dry.status.code(), Some(0), "{args:?} would be run");
        assert!(!called.exists(), "{args:?} was run");
    }
    assert_eq!(std::fs::read(place.path("home/letter")).unwrap(), b"dear");
}

#[test]
fn operands_on_another_file_system_come_back() {
    use std::os::unix::fs::MetadataExt as _;
    let place = place();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: no /dev/shm");
        return;
    };
    if other.path().metadata().unwrap().dev() == place.tree().metadata().unwrap().dev() {
        println!("SKIPPED: /dev/shm is the same file system");
        return;
    }
    let dir = other.path().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("a"), b"over there").unwrap();
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let before = picture(other.path());
    let name = dir.display().to_string();
    place.run(&["guard", "--", "rm", "-rf", &name, "f"], 0);
    assert!(!dir.exists());
    place.run(&["undo", "--yes"], 0);
    // The directory that holds it is not covered, so its time is not either.
    let inside = |p: std::collections::BTreeMap<PathBuf, crate::support::Object>| {
        p.into_iter()
            .filter(|(path, _)| path.starts_with("dir"))
            .collect()
    };
    assert_same(&inside(before), &inside(picture(other.path())), "/dev/shm");
    // Moved over there.
    let target = other.path().join("moved").display().to_string();
    place.run(&["guard", "--", "mv", "f", &target], 0);
    place.run(&["undo", "--yes"], 0);
    assert!(!other.path().join("moved").exists());
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"precious");
}

#[test]
fn a_hundred_thousand_operands_are_covered() {
    let place = place();
    let limit = Command::new("getconf").arg("ARG_MAX").output().ok();
    let limit: usize = limit
        .and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok())
        .unwrap_or(131_072);
    // Each takes its bytes, a NUL and a pointer; the environment needs some, too.
    let each = "o/12345".len() + 1 + 8;
    let number = 100_000.min((limit - 60_000) / each);
    println!("{number} operands");
    // In memory where that can be: ext4 is slow to make files right after it deleted as many.
    let out = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    std::os::unix::fs::symlink(out.path(), place.tree().join("o")).unwrap();
    let names: Vec<String> = (0..number).map(|n| format!("o/{n:05}")).collect();
    for name in &names {
        std::fs::write(place.tree().join(name), b"").unwrap();
    }
    let started = Instant::now();
    let mut guard = place.bdr(&["guard", "--summary", "json", "--", "rm"]);
    let output = guard.args(&names).output().unwrap();
    let took = started.elapsed();
    assert!(output.status.success(), "{}", stderr(&output));
    let said: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(said["data"]["deleted"], number);
    println!("guard took {took:?}");
    let started = Instant::now();
    place.run(&["undo", "--yes"], 0);
    println!("undo took {:?}", started.elapsed());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), number);
}

#[test]
fn a_broken_or_locked_git_repository_is_a_directory_like_any_other() {
    let git = |place: &Place, line: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-ec", line]).current_dir(place.tree());
        sh.env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(sh.status().unwrap().success(), "{line}");
    };
    for breakage in [
        "echo garbage > .git/HEAD",
        ": > .git/HEAD",
        "rm .git/HEAD",
        "head -c 40 .git/index > i; mv i .git/index",
        "echo broken > .git/index",
        "rm -r .git/objects .git/refs",
        "echo '[core' > .git/config",
        "touch .git/index.lock .git/HEAD.lock .git/refs/heads/main.lock",
        "rm -r .git; echo 'gitdir: /no/such/place' > .git",
        "rm -r .git; echo 'gitdir: .git' > .git",
        "rm -r .git; ln -s .git .git",
        "rm -r .git/refs; ln -s .. .git/refs",
        "mkdir .git/worktrees; mkdir .git/worktrees/w; echo ../../../../../../nowhere > .git/worktrees/w/gitdir",
    ] {
        let place = Place::with_repository();
        place.write("f", b"precious");
        git(
            &place,
            "git init -q -b main; git add -A; git -c user.name=a -c user.email=a@b commit -qm 1; echo x > untracked",
        );
        git(&place, breakage);
        let before = picture(&place.tree());
        for command in [
            &["rm", "-rf", "f", "untracked"][..],
            &["git", "reset", "--hard", "-q"],
            &["sh", "-c", "rm -rf ./* .git"],
        ] {
            let output = place
                .bdr(&[&["guard", "--"], command].concat())
                .output()
                .unwrap();
            assert_ne!(
                output.status.code(),
                Some(125),
                "{breakage}: {}",
                stderr(&output)
            );
            if before != picture(&place.tree()) {
                place.run(&["undo", "--yes"], 0);
            }
            assert_same(
                &before,
                &picture(&place.tree()),
                &format!("{breakage}: {command:?}"),
            );
        }
    }
}

#[test]
fn a_directory_that_became_a_file_is_not_overwritten() {
    let place = Place::with_repository();
    place.write("dir/sub/a", b"1");
    place.write("dir/b", b"2");
    place.init();
    place.run(&["guard", "--", "rm", "-rf", "dir/sub"], 0);
    std::fs::remove_dir_all(place.tree().join("dir")).unwrap();
    place.write("dir", b"a file of somebody else");
    let output = place.bdr(&["undo", "--yes"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    assert!(said.contains("dir"), "{said}");
    assert_eq!(
        std::fs::read(place.tree().join("dir")).unwrap(),
        b"a file of somebody else"
    );
    // Once it is out of the way, the rest comes back.
    std::fs::rename(place.tree().join("dir"), place.tree().join("file")).unwrap();
    let id = guard_id(&place);
    place.run(&["undo", &id, "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("dir/sub/a")).unwrap(), b"1");
}

fn guard_id(place: &Place) -> String {
    let log = place.json(&["log"]);
    let operations = log["operations"].as_array().unwrap();
    let guard = operations.iter().find(|o| o["kind"] == "guard").unwrap();
    guard["id"].as_str().unwrap().to_owned()
}

/// A small file system of its own, if this user may make one.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "bdr-test"])
            .arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: this user cannot mount a small file system");
        }
        mounted.then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_undo_onto_a_full_disk_says_so_and_gets_through_when_there_is_room() {
    let place = place().watched();
    let Some(disk) = Disk::mount(&place.path("disk"), "2m") else {
        return;
    };
    let big = disk.0.join("dir/big");
    std::fs::create_dir(disk.0.join("dir")).unwrap();
    std::fs::write(&big, noise(1 << 20)).unwrap();
    std::fs::write(disk.0.join("dir/small"), b"small").unwrap();
    let before = picture(&disk.0.join("dir"));
    let dir = disk.0.join("dir").display().to_string();
    place.run(&["guard", "--", "rm", "-rf", &dir], 0);
    std::fs::write(disk.0.join("filler"), noise(1_500_000)).unwrap();
    let output = place.bdr(&["undo", "--yes"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    assert!(said.to_lowercase().contains("no space"), "{said}");
    assert!(!big.exists(), "half a file was left under its name");
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    let id = guard_id(&place);
    place.run(&["undo", &id, "--yes"], 0);
    assert_same(&before, &picture(&disk.0.join("dir")), "with room again");
}

#[test]
fn a_repository_on_a_full_disk_stops_the_command() {
    let place = Place::with_repository().watched();
    place.write("f", b"precious");
    let Some(disk) = Disk::mount(&place.path("bdr"), "1m") else {
        return;
    };
    place.init();
    std::fs::write(place.tree().join("big"), noise(600_000)).unwrap();
    std::fs::write(disk.0.join("filler"), noise(300_000)).unwrap();
    let output = place.run(&["guard", "--", "rm", "big"], 125);
    assert!(
        stderr(&output).to_lowercase().contains("no space"),
        "{}",
        stderr(&output)
    );
    assert!(place.tree().join("big").exists());
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    // What fits is guarded again, without mending anything first.
    std::fs::remove_file(place.tree().join("big")).unwrap();
    place.run(&["guard", "--", "rm", "f"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("f")).unwrap(), b"precious");
    place.run(&["verify", "--level", "full"], 0);
}

#[test]
fn read_only_directories_are_written_to_and_closed_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_repository();
    place.write("closed/a", b"1");
    place.write("closed/sub/b", b"2");
    let mode = |path: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.tree().join(path), mode).unwrap();
    };
    mode("closed/a", 0o444);
    mode("closed/sub", 0o555);
    mode("closed", 0o555);
    // As root modes stop nobody: somebody else is needed.
    let root = rustix::process::geteuid().is_root();
    let user = 65_534_u32;
    let run = |args: &[&str]| {
        let like = place.bdr(args);
        let mut command = if root {
            let mut command = Command::new("setpriv");
            let ids = [format!("--reuid={user}"), format!("--regid={user}")];
            command.args(ids).arg("--clear-groups");
            command.arg(like.get_program()).args(like.get_args());
            command
        } else {
            Command::new(like.get_program())
        };
        if !root {
            command.args(like.get_args());
        }
        command.env_clear();
        command.envs(like.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.current_dir(place.tree()).output()
    };
    if root {
        let chown = Command::new("chown")
            .args(["-R", &format!("{user}:{user}")])
            .arg(place.dir.path())
            .status();
        let runs = run(&["--version"]).is_ok_and(|output| output.status.success());
        if !chown.unwrap().success() || !runs {
            println!("SKIPPED: cannot run as another user");
            return;
        }
    }
    let before = picture(&place.tree());
    let script = "chmod u+w closed closed/sub; rm -rf closed/sub closed/a; echo x > closed/new; chmod u-w closed";
    let done = run(&["guard", "--", "sh", "-c", script]).unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(!place.tree().join("closed/a").exists(), "{}", stderr(&done));
    let undone = run(&["undo", "--yes"]).unwrap();
    let said = String::from_utf8_lossy(&undone.stdout).into_owned();
    assert!(undone.status.success(), "{said}{}", stderr(&undone));
    assert_same(&before, &picture(&place.tree()), "read-only");
}

#[test]
fn names_that_differ_in_case_only_are_one_where_the_file_system_says_so() {
    let place = place();
    let dir = place.path("folded");
    std::fs::create_dir(&dir).unwrap();
    let mount = Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            "size=4m,mode=0700,casefold",
            "bdr-test",
        ])
        .arg(&dir)
        .output();
    let mounted = mount
        .is_ok_and(|output| output.status.success())
        .then(|| Disk(dir.clone()));
    let tree = dir.join("tree");
    let folds = mounted.is_some() && {
        std::fs::create_dir(&tree).unwrap();
        let done = Command::new("chattr").arg("+F").arg(&tree).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !folds {
        println!("SKIPPED: no file system here ignores case");
        return;
    }
    std::fs::write(tree.join("Readme"), b"1").unwrap();
    std::fs::write(tree.join("other"), b"2").unwrap();
    let before = picture(&tree);
    for script in [
        "mv Readme README; echo 3 > readme",
        "rm readme; echo 3 > README",
        "mv other OTHER",
        "rm -r ../tree/*; mkdir README",
    ] {
        let mut guard = place.bdr(&["guard", "--", "sh", "-c", script]);
        let output = guard.current_dir(&tree).output().unwrap();
        assert!(
            before != picture(&tree),
            "{script}: nothing happened: {}",
            stderr(&output)
        );
        let mut undo = place.bdr(&["undo", "--yes"]);
        let output = undo.current_dir(&tree).output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        assert_same(&before, &picture(&tree), script);
    }
}
