//! Capture of programs of all kinds, in hostile places, many at once, and when things break.

use super::*;

/// Says loudly that a program or a right is missing.
pub(super) fn skipped(what: &str) {
    println!("SKIPPED: {what}");
}

pub(super) fn works(program: &str, args: &[&str]) -> bool {
    let found = Command::new(program).args(args).output();
    let works = found.is_ok_and(|output| output.status.success());
    if !works {
        skipped(&format!(
            "`{program} {}` does not work here",
            args.join(" ")
        ));
    }
    works
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file system of its own, for as long as this lives.
pub(super) struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: std::path::PathBuf, args: &[&str]) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(args).arg(&at).output();
        let done = mount.is_ok_and(|output| output.status.success());
        if !done {
            skipped(&format!("`mount {}` is not possible here", args.join(" ")));
        }
        done.then(|| Self(at))
    }

    pub(super) fn at(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A world whose tree is on a file system of its own; everything else is not.
pub(super) fn world_on(args: &[&str]) -> Option<(Place, Mounted)> {
    let place = world();
    let mounted = Mounted::new(place.path("mounted"), args)?;
    let script = format!(
        "cp -a {0}/. {1}/in && rm -rf {0} && ln -s {1}/in {0}",
        place.tree().display(),
        mounted.0.display()
    );
    let copied = Command::new("sh").args(["-ec", &script]).status();
    assert!(copied.unwrap().success());
    Some((place, mounted))
}

#[test]
fn programs_of_all_kinds_are_captured() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let script = |name: &str, text: &str| {
        let path = place.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut lines = vec![
        // A directory that is gone, and what is named from there.
        "mkdir s; cd s; rm -r ../s; rm -f ../a; cd ..; rm d/e/c; cd d/e; rm -r ../../d".to_owned(),
        "cd d/e; rm -rf \"$OLDPWD/d\"; echo x > \"$OLDPWD/a\"".to_owned(),
        "cd 'q (deleted)' && rm f && echo 1 > g; cd ..; rm -r 'q (deleted)'".to_owned(),
    ];
    std::fs::create_dir(place.tree().join("q (deleted)")).unwrap();
    std::fs::write(place.tree().join("q (deleted)/f"), "still here\n").unwrap();
    let python = works("python3", &["--version"]);
    if python {
        let uring = script(
            "uring.py",
            "import ctypes, os, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n\
             made = libc.syscall(425, 4, ctypes.create_string_buffer(256))\n\
             assert (made, ctypes.get_errno()) == (-1, errno.ENOSYS)\nos.unlink('a')",
        );
        lines.push(format!("python3 {uring}"));
    }
    if python {
        let exchange = script(
            "exchange.py",
            "import ctypes, sys\nlibc = ctypes.CDLL(None)\n\
             assert libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2) == 0",
        );
        for (one, other) in [
            ("a", "d/b"),
            ("d/e", "mode"),
            ("mode", "d/e"),
            ("d/e", "x"),
            ("link", "d"),
        ] {
            lines.push(format!("python3 {exchange} {one} {other}"));
        }
        // A directory that takes the place of an empty one.
        lines.push("python3 -c 'import os; os.rename(\"d\", \"empty\")'".to_owned());
        lines.push(
            "mkdir -p n/m; echo 1 > n/m/f; python3 -c 'import os; os.rename(\"n\", \"empty\")'"
                .to_owned(),
        );
        std::fs::create_dir(place.tree().join("empty")).unwrap();
        std::fs::create_dir_all(place.tree().join("x/y")).unwrap();
        std::fs::write(place.tree().join("x/y/z"), "1").unwrap();
        std::fs::write(place.tree().join("x/c"), "2").unwrap();
    }
    if python && is_root() {
        let chroot = script(
            "chroot.py",
            "import os\nos.chroot('.')\nos.unlink('/a')\nopen('/d/b', 'w').write('x')\n\
             os.rename('/mode', '/d/e/m')\nos.chdir('/d')\nos.unlink('../link')",
        );
        lines.push(format!("python3 {chroot}"));
    } else {
        skipped("a program that changes its root (needs root and python3)");
    }
    if works("node", &["--version"]) {
        lines.push(
            "node -e \"const fs = require('fs'); fs.rmSync('d/e', {recursive: true}); fs.writeFileSync('d/b', 'x'); \
             fs.promises.unlink('a').then(() => fs.renameSync('mode', 'd/m'))\""
                .to_owned(),
        );
    }
    if works("java", &["-version"]) {
        let java = script(
            "Loss.java",
            "import java.nio.file.*;\npublic class Loss { public static void main(String[] args) throws Exception {\n\
             Files.delete(Path.of(\"a\")); Files.writeString(Path.of(\"d/b\"), \"x\"); Files.move(Path.of(\"mode\"), Path.of(\"d/m\"));\n\
             try (var file = java.nio.channels.FileChannel.open(Path.of(\"d/e/c\"), StandardOpenOption.WRITE)) { file.truncate(1); } } }",
        );
        lines.push(format!("LC_ALL=C.UTF-8 java {java}"));
    }
    if works("go", &["version"]) {
        let go = script(
            "loss.go",
            "package main\nimport \"os\"\nfunc main() { os.Remove(\"a\"); os.RemoveAll(\"d\"); os.WriteFile(\"mode\", nil, 0600) }",
        );
        lines.push(format!("go run {go}"));
    }
    if works("strace", &["-V"]) {
        lines.push("strace -f -o trace sh -c 'rm a; echo x > d/b; rm -r d/e'".to_owned());
    }
    if works("gdb", &["--version"]) {
        lines.push("gdb -batch -ex run --args rm a d/b > /dev/null 2>&1".to_owned());
    }
    for line in &lines {
        assert_back(&place, line);
    }
}

/// The calls of 32-bit programs have other numbers.
#[test]
fn a_32_bit_program_is_captured() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let source = place.path("old.c");
    std::fs::write(
        &source,
        r#"static int call(int n, int a, int b, int c) {
               int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory"); return r;
           }
           void _start(void) {
               int bad = call(10, (int)"a", 0, 0) < 0;         /* unlink */
               int file = call(5, (int)"d/b", 01 | 01000, 0);  /* open, truncated */
               bad |= file < 0 || call(4, file, (int)"32", 2) != 2;
               bad |= call(38, (int)"mode", (int)"d/moved", 0) < 0;
               bad |= call(39, (int)"new", 0755, 0) < 0;
               bad |= call(40, (int)"d/e/empty", 0, 0) < 0;    /* rmdir */
               call(1, bad, 0, 0);
           }"#,
    )
    .unwrap();
    let program = place.path("old");
    let flags = "-m32 -nostdlib -static -fno-pie -no-pie -fno-stack-protector -O1";
    let built = Command::new("gcc")
        .args(flags.split(' '))
        .arg("-o")
        .args([&program, &source])
        .output();
    let built = built.is_ok_and(|output| output.status.success());
    let before = pictures(&place);
    let mut bare = Command::new(&program);
    if !built || bare.current_dir(place.tree()).status().is_err() {
        return skipped(
            "there is no compiler for 32-bit programs, or the kernel does not run them",
        );
    }
    // That was it without bdr; the world is made again.
    assert!(pictures(&place) != before);
    let place_again = world();
    assert_back(&place_again, &program.display().to_string());
}

#[test]
fn a_thousand_processes_and_a_storm_of_forks_are_captured() {
    let place = world();
    if !usable(&place) {
        return;
    }
    for line in [
        "for i in $(seq 1000); do (echo $i > f$i; [ $((i % 2)) = 0 ] || rm f$i) & done; wait; rm a; rm -r d",
        "f() { if [ $1 -gt 0 ]; then f $(($1-1)) & f $(($1-1)) & wait; fi; echo x > t$1.$$; rm -f d/e/c; echo $1 >> a; }; \
         f 6; rm -rf d",
    ] {
        assert_back(&place, line);
    }
}

#[test]
fn paths_as_long_as_the_kernel_takes_are_captured() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let name = "n".repeat(200);
    let mut deep = place.tree();
    while deep.as_os_str().len() + 201 < 4060 {
        deep.push(&name);
        std::fs::create_dir(&deep).unwrap();
    }
    std::fs::write(deep.join("f"), "deep\n").unwrap();
    for line in [
        "while cd n* 2>/dev/null; do :; done; echo changed > f; ln -s x l",
        "rm -rf n*; rm a",
        // Deeper than any path: nothing of it was there before.
        "i=0; while [ $i -lt 24 ]; do mkdir y$i$i; cd y$i$i; i=$((i + 1)); done; echo x > f; cd /; rm \"$OLDPWD\" 2>/dev/null; true",
    ] {
        assert_back(&place, line);
    }
}

#[test]
fn what_lies_deeper_than_any_path_is_not_destroyed_unless_that_is_wanted() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let name = "n".repeat(200);
    let script = format!("for i in $(seq 24); do mkdir {name}; cd {name}; done; echo x > f",);
    let mut made = Command::new("bash");
    let made = made
        .args(["-ec", &script])
        .current_dir(place.tree())
        .status();
    assert!(made.unwrap().success());
    let before = pictures_of_short_paths(&place);
    let deepest = || {
        let mut find = Command::new("find");
        let found = find.args([".", "-name", "f"]).current_dir(place.tree());
        found.output().unwrap().stdout.len()
    };
    let there = deepest();
    assert!(there > 4096);
    let said = stderr(&captured(&place, "rm -rf n*; rm a"));
    assert!(said.contains("could not be kept"), "{said}");
    assert_eq!(deepest(), there);
    undone(&place, "all but the depths");
    assert_eq!(before, pictures_of_short_paths(&place));
    let line = ["sh", "-c", "rm -rf n*; rm a"];
    let args = ["guard", "--capture", "only", "--on-fail", "run", "--"];
    place.run(&[&args[..], &line].concat(), 0);
    assert_eq!(deepest(), 0);
    let output = place.bdr(&["undo", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot be undone"), "{said}");
    assert_eq!(before, pictures_of_short_paths(&place));
}

/// Returns the content of the files that have a path.
fn pictures_of_short_paths(place: &Place) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = walkdir::WalkDir::new(place.tree()).sort_by_file_name();
    let files = all.into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .filter_map(|entry| {
            Some((
                entry.path().to_path_buf(),
                std::fs::read(entry.path()).ok()?,
            ))
        })
        .collect()
}

#[test]
fn an_operation_that_waits_for_room_is_named_and_recorded_once_there_is() {
    if !is_root() {
        return skipped("a repository without room (needs root)");
    }
    let place = world();
    if !usable(&place) {
        return;
    }
    let before = pictures(&place);
    captured(&place, "echo older > older");
    let all = walkdir::WalkDir::new(place.path("bdr")).into_iter();
    let records = all
        .filter_map(Result::ok)
        .find(|entry| entry.file_name() == "operations");
    let Some(full) = Mounted::new(
        records.unwrap().into_path(),
        &["-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none"],
    ) else {
        return;
    };
    let output = captured(&place, "rm -r d a");
    assert!(
        stderr(&output).contains("the next call of bdr tries again"),
        "{}",
        stderr(&output)
    );
    let undo = place.bdr(&["undo", "--yes"]).output().unwrap();
    let said = stderr(&undo);
    assert_eq!(undo.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 operation waiting to be recorded"),
        "{said}"
    );
    assert!(said.contains("make room in"), "{said}");
    drop(full);
    place.run(&["undo", "--yes"], 0);
    std::fs::remove_file(place.tree().join("older")).unwrap();
    let back = pictures(&place);
    for (before, after) in before.iter().zip(&back) {
        assert_eq!(before.len(), after.len());
    }
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"first\n");
}

#[test]
fn where_the_disk_is_full_everything_is_kept_elsewhere() {
    if !is_root() {
        return skipped("a full file system (needs root)");
    }
    let Some((place, mounted)) = world_on(&["-t", "tmpfs", "-o", "size=3M,nr_inodes=40", "none"])
    else {
        return;
    };
    if !usable(&place) {
        return;
    }
    std::fs::write(mounted.0.join("in/big"), vec![b'k'; 1_800_000]).unwrap();
    let lines = [
        // A copy does not fit beside it.
        "echo x >> big; rm a; dd if=/dev/zero of=big bs=1k count=10 conv=notrunc 2>/dev/null; rm -r d/e",
        // The command itself fills the disk.
        "rm a; dd if=/dev/zero of=fill bs=64k 2>/dev/null; rm -r d/e; echo y > mode; rm big",
        // There is no room for another name.
        "i=0; while : > f$i; do i=$((i + 1)); done 2>/dev/null; rm a; echo new > d/b; rm -r d",
    ];
    for line in lines {
        let before = pictures(&place);
        let output = captured(&place, line);
        assert!(
            !stderr(&output).contains("not captured"),
            "{line}: {}",
            stderr(&output)
        );
        // What is put back needs room, too.
        resize(&mounted, "size=12M,nr_inodes=400");
        undone(&place, line);
        for (before, after) in before.iter().zip(&pictures(&place)) {
            assert_same(before, after, line);
        }
        let _ = place.bdr(&["settle"]).output().unwrap();
        resize(&mounted, "size=3M,nr_inodes=40");
    }
    // What is kept by a second name would change along with the file.
    let line = "ln big second; rm big; echo over >> second; echo again >> second; true";
    let before = pictures(&place);
    let output = captured(&place, line);
    let said = stderr(&output);
    assert!(said.contains("could not be kept"), "{said}");
    resize(&mounted, "size=12M");
    undone(&place, line);
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, line);
    }
}

fn resize(mounted: &Mounted, options: &str) {
    let remounted = Command::new("mount")
        .args(["-o", &format!("remount,{options}")])
        .arg(&mounted.0)
        .status();
    assert!(remounted.unwrap().success());
}

#[test]
fn what_cannot_be_written_to_is_no_trouble() {
    if !is_root() {
        return skipped("file systems of other kinds (needs root)");
    }
    let Some((place, mounted)) = world_on(&["-t", "tmpfs", "-o", "size=3M", "none"]) else {
        return;
    };
    if !usable(&place) {
        return;
    }
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&mounted.0)
        .status();
    assert!(remounted.unwrap().success());
    let before = pictures(&place);
    let output = captured(&place, "rm a; rm -r d; rm -r \"$HOME/notes\"");
    assert!(
        stderr(&output).contains("Read-only file system"),
        "{}",
        stderr(&output)
    );
    undone(&place, "read-only");
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, "read-only");
    }
}

/// FAT has no links, no owners and times of two seconds.
#[test]
fn a_file_system_without_links_is_captured_by_copies() {
    if !is_root() {
        return skipped("FAT (needs root)");
    }
    let place = world();
    if !usable(&place) {
        return;
    }
    let image = place.path("image").to_string_lossy().into_owned();
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(16 << 20).unwrap();
    let mount = |maker: &str, kind: &str| {
        let made = Command::new(maker).arg(&image).output();
        let made = made.is_ok_and(|output| output.status.success());
        let options = ["-t", kind, "-o", "loop", &image];
        made.then(|| Mounted::new(place.path("fat"), &options))?
    };
    let fat = mount("mkfs.vfat", "vfat");
    let Some(mounted) = fat.or_else(|| mount("mkfs.exfat", "exfat-fuse")) else {
        return skipped(
            "FAT (needs mkfs.vfat and a kernel that has it, or mkfs.exfat and exfat-fuse)",
        );
    };
    std::fs::create_dir_all(mounted.0.join("d/e")).unwrap();
    for (path, text) in [("a", "first\n"), ("d/b", "second\n"), ("d/e/c", "deep\n")] {
        std::fs::write(mounted.0.join(path), text).unwrap();
    }
    let contents = || {
        let picture = picture(&mounted.0);
        let files = picture.into_iter();
        files
            .filter(|(path, _)| !path.starts_with(".bdr-staging"))
            .map(|(path, object)| (path, object.kind, object.content))
            .collect::<Vec<_>>()
    };
    let before = contents();
    for line in [
        "rm a; rm -r d",
        "echo more >> d/b; mv a d/e/c; mkdir n",
        "mv d n; : > n/b; rm a",
    ] {
        let line = format!("cd {} && {line}", mounted.0.display());
        captured(&place, &line);
        assert_ne!(contents(), before, "{line}");
        undone(&place, &line);
        assert_eq!(contents(), before, "{line}");
    }
}

#[test]
fn a_database_that_is_opened_a_thousand_times_is_copied_once() {
    let place = world();
    if !usable(&place) || !works("python3", &["--version"]) {
        return;
    }
    std::fs::write(place.tree().join("base"), vec![b'x'; 3_000_000]).unwrap();
    // A second copy would be over the budget.
    place.run(&["config", "set", "guard.max_bytes", "4M"], 0);
    assert_back(
        &place,
        "python3 -c 'for i in range(1000):\n  with open(\"base\", \"r+b\") as f: f.seek(i * 2999); f.write(b\"new\")'",
    );
}

#[test]
fn what_somebody_else_writes_meanwhile_is_not_lost() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut writer = Command::new("sh")
        .args([
            "-c",
            "exec 3>>d/b; echo w >&3; while ! [ -e stop ]; do echo w >&3; sleep 0.01; done",
        ])
        .current_dir(place.tree())
        .spawn()
        .unwrap();
    let long = |at_least: u64| {
        while std::fs::metadata(place.tree().join("d/b")).unwrap().len() < at_least {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    long(70_010);
    captured(&place, "rm -r d; sleep 0.1; rm a");
    let mut undo = place.bdr(&["undo", "--yes"]);
    let output = undo.env("BDR_BACKGROUND", "0").output().unwrap();
    std::fs::write(place.tree().join("stop"), "").unwrap();
    writer.wait().unwrap();
    // It may say that it is not all, and then it does not say that all is well.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 3)), "{}", stderr(&output));
    let content = std::fs::read_to_string(place.tree().join("d/b")).unwrap();
    assert!(content.starts_with(&"b".repeat(70_000)));
    assert!(content[70_000..].lines().all(|line| line == "w"));
    assert_eq!(
        std::fs::read_to_string(place.tree().join("d/e/c")).unwrap(),
        "deep\n"
    );
}

#[test]
fn two_guards_that_destroy_one_tree_lose_nothing() {
    let place = world();
    if !usable(&place) {
        return;
    }
    for number in 0..300 {
        let path = place.tree().join(format!("d/f{number}"));
        std::fs::write(path, format!("was {number}\n")).unwrap();
    }
    let before = picture(&place.tree());
    let lines = [
        "rm -rf d a",
        "for f in d/f*; do echo other > $f; done 2>/dev/null; rm -rf d mode",
    ];
    let running = lines.map(|line| {
        let mut command = guard(&place, &[line]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    });
    for mut guard in running {
        guard.wait().unwrap();
    }
    let log = place.json(&["log"]);
    let guards = log["operations"].as_array().unwrap();
    assert_eq!(guards.len(), 2, "{log}");
    for guard in guards {
        let id = guard["id"].as_str().unwrap();
        let undo = place.bdr(&["undo", id, "--yes"]).output().unwrap();
        // What the other one has made since is a conflict, and both versions stay.
        assert!(
            matches!(undo.status.code(), Some(0 | 3)),
            "{}",
            stderr(&undo)
        );
    }
    let after = picture(&place.tree());
    for (path, object) in before.iter().filter(|(_, object)| object.kind == 'f') {
        let name = path.to_string_lossy().into_owned();
        let versions = after.iter().filter(|(other, _)| {
            let other = other.to_string_lossy();
            other == name || other.starts_with(&format!("{name}.bdr-"))
        });
        let found: Vec<_> = versions.map(|(_, version)| &version.content).collect();
        assert!(found.contains(&&object.content), "{name}: {found:?}");
    }
}

/// Makes a world that of an ordinary user, with a bdr that it may start, in the directory returned.
pub(super) fn given_to_nobody(place: &Place) -> std::path::PathBuf {
    let shared = place.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::copy(env!("CARGO_BIN_EXE_bdr"), shared.join("bdr")).unwrap();
    std::fs::set_permissions(shared.join("bdr"), readable.clone()).unwrap();
    std::fs::set_permissions(place.dir.path(), readable).unwrap();
    let given = Command::new("chown")
        .args(["-R", "65534:65534"])
        .args([place.tree(), place.path("home")])
        .status();
    assert!(given.unwrap().success());
    shared
}

pub(super) fn as_nobody(place: &Place, args: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(place.path("shared/bdr"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", place.path("home"))
        .env("BDR_HOME", place.path("home/bdr"))
        .env("BDR_BACKGROUND", "0")
        .current_dir(place.tree());
    command.output().unwrap()
}

#[test]
fn a_command_that_shuts_its_user_out_is_undone_by_the_user() {
    if !is_root() || !works("setpriv", &["--reuid", "65534", "true"]) {
        return skipped("an ordinary user who is shut out (needs root and setpriv)");
    }
    let place = world();
    given_to_nobody(&place);
    let home = place.path("home");
    let first = as_nobody(&place, &["guard", "--capture", "only", "--", "rm", "mode"]);
    if stderr(&first).contains("cannot be captured here") {
        return skipped(&stderr(&first));
    }
    let before = std::fs::metadata(&home).unwrap().mode();
    let line = "rm a; chmod 000 \"$HOME\"";
    let output = as_nobody(
        &place,
        &["guard", "--capture", "only", "--", "sh", "-c", line],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::metadata(&home).unwrap().mode() & 0o777, 0);
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
    let undo = as_nobody(&place, &["undo", "--yes"]);
    assert_eq!(undo.status.code(), Some(0), "{}", stderr(&undo));
    assert!(place.tree().join("a").exists());
    assert_eq!(std::fs::metadata(&home).unwrap().mode(), before);
}

/// A filter is accepted only from who gives up gaining rights: a set-user-ID program inside runs with
/// the rights that the command has.
#[test]
fn a_set_user_id_program_inside_gains_no_rights_and_the_rest_is_captured() {
    if !is_root() || !works("setpriv", &["--reuid", "65534", "true"]) {
        return skipped("a set-user-ID program inside (needs root and setpriv)");
    }
    let place = world();
    let shared = given_to_nobody(&place);
    let as_nobody = |args: &[&str]| as_nobody(&place, args);
    std::fs::copy("/usr/bin/id", shared.join("id")).unwrap();
    std::fs::set_permissions(shared.join("id"), PermissionsExt::from_mode(0o4755)).unwrap();
    let before = picture(&place.tree());
    // Not where bdr looks for such programs before it starts the command.
    let id = shared.join("id").display().to_string();
    std::fs::write(place.path("makefile"), format!("all:\n\t@{id}; rm -r d\n")).unwrap();
    let make = format!("make -f {}", place.path("makefile").display());
    if !works("make", &["--version"]) {
        return;
    }
    let plain = as_nobody(&["guard", "--capture", "off", "--", "sh", "-c", &id]);
    assert!(
        String::from_utf8_lossy(&plain.stdout).contains("euid=0"),
        "{}",
        stderr(&plain)
    );
    let output = as_nobody(&["guard", "--capture", "only", "--", "sh", "-c", &make]);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if said.contains("cannot be captured here") {
        return skipped(&said);
    }
    assert!(said.contains("uid=65534"), "{said}");
    assert!(!said.contains("euid=0"), "{said}");
    assert!(!place.tree().join("d").exists());
    let undo = as_nobody(&["undo", "--yes"]);
    assert_eq!(undo.status.code(), Some(0), "{}", stderr(&undo));
    assert_same(&before, &picture(&place.tree()), "as nobody");
}

/// A file system in a file, with a world's tree and everything of bdr's on it.
struct Disk {
    place: Place,
    image: String,
    mounted: Option<Mounted>,
}

impl Disk {
    fn new() -> Option<Self> {
        let place = world();
        let image = place.path("image").to_string_lossy().into_owned();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", &image])
            .status();
        assert!(made.unwrap().success());
        let mounted = Mounted::new(place.path("disk"), &["-o", "loop", &image])?;
        let copied = Command::new("cp")
            .arg("-a")
            .args([place.tree(), mounted.0.join("tree")])
            .status();
        assert!(copied.unwrap().success());
        assert!(Command::new("sync").status().unwrap().success());
        Some(Self {
            place,
            image,
            mounted: Some(mounted),
        })
    }

    fn tree(&self) -> std::path::PathBuf {
        self.place.path("disk/tree")
    }

    fn on_it(&self, mut command: Command) -> Command {
        command
            .env("BDR_HOME", self.place.path("disk/bdr"))
            .env("BDR_LIFEBOAT", self.place.path("disk/lifeboat"))
            .env("BDR_BACKGROUND", "0")
            .current_dir(self.tree());
        command
    }

    fn bdr(&self, args: &[&str]) -> Output {
        self.on_it(self.place.bdr(args)).output().unwrap()
    }

    /// The power goes while a command waits. Returns false where that cannot be played.
    fn loses_power(&mut self, line: &str, flag: &str) -> bool {
        let mut command = self.on_it(guard(&self.place, &[line]));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert_eq!(said, "now\n");
        let shutdown = format!(
            "import fcntl, os, struct; fcntl.ioctl(os.open({:?}, os.O_RDONLY), 0x8004587d, struct.pack('I', {flag}))",
            self.place.path("disk").display().to_string()
        );
        let off = Command::new("python3").args(["-c", &shutdown]).output();
        child.kill().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let off = off.unwrap().status.success();
        // Sandboxes elsewhere may have copied the mount: what is on the disk is looked at in a copy.
        drop(self.mounted.take());
        let copy = format!("{}.{flag}", self.image);
        std::fs::copy(&self.image, &copy).unwrap();
        self.mounted = Mounted::new(self.place.path("disk"), &["-o", "loop", &copy]);
        assert!(self.mounted.is_some(), "the disk cannot be mounted again");
        off
    }
}

/// What is kept is made durable once a second.
#[test]
fn what_was_destroyed_some_time_before_the_power_went_is_undone() {
    if !is_root() || !works("mkfs.ext4", &["-V"]) || !works("python3", &["--version"]) {
        return skipped("power loss (needs root, mkfs.ext4 and python3)");
    }
    if !usable(&world()) {
        return;
    }
    for flag in ["1", "2"] {
        let Some(mut disk) = Disk::new() else { return };
        let before = picture(&disk.tree());
        let line =
            "rm -r d; rm a; echo over > mode; mv .env moved; mkdir n; sleep 4; echo now; read x";
        if !disk.loses_power(line, flag) {
            return skipped("this kernel cannot shut a file system down");
        }
        let log = disk.bdr(&["log"]);
        assert!(
            stderr(&log).contains("an interrupted guard had captured"),
            "{flag}: {}",
            stderr(&log)
        );
        let undo = disk.bdr(&["undo", "--yes"]);
        let said = stderr(&undo) + &String::from_utf8_lossy(&undo.stdout);
        assert_eq!(undo.status.code(), Some(0), "{flag}: {said}");
        assert_same(&before, &picture(&disk.tree()), flag);
        assert_eq!(disk.bdr(&["verify"]).status.code(), Some(0));
    }
}

/// What power loss leaves is what the file system has on disk. What was written out comes back; of
/// what was not, the content is still there, but not yet its names.
#[test]
fn after_power_loss_the_content_of_what_was_deleted_is_still_there() {
    if !is_root() || !works("mkfs.ext4", &["-V"]) || !works("python3", &["--version"]) {
        return skipped("power loss (needs root, mkfs.ext4 and python3)");
    }
    if !usable(&world()) {
        return;
    }
    // EXT4_IOC_SHUTDOWN with its flags: everything written out first; only the log; nothing.
    for flag in ["0", "1", "2"] {
        let Some(mut disk) = Disk::new() else { return };
        let before = picture(&disk.tree());
        if !disk.loses_power("rm -r d; rm a; echo now; read x", flag) {
            return skipped("this kernel cannot shut a file system down");
        }
        let log = disk.bdr(&["log"]);
        assert!(log.status.success(), "{flag}: {}", stderr(&log));
        if stderr(&log).contains("an interrupted guard had captured") {
            let undo = disk.bdr(&["undo", "--yes"]);
            assert_eq!(undo.status.code(), Some(0), "{flag}: {}", stderr(&undo));
            assert_same(&before, &picture(&disk.tree()), flag);
        } else {
            assert_ne!(flag, "0", "what was written out is recorded");
        }
        let everything = picture(&disk.place.path("disk"));
        for (path, object) in before.iter().filter(|(_, object)| object.kind == 'f') {
            let mut all = everything.values();
            let is_there = all.any(|found| found.content == object.content);
            assert!(is_there, "{flag}: {} is gone", path.display());
        }
    }
}
