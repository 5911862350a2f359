//! What belongs to a source: patterns, symlinks, places that are empty, and what is mounted below.

use std::process::Command;

use crate::support::Place;
use std::path::{Path, PathBuf};

const OK: i32 = 0;
const PARTIAL: i32 = 3;

/// A tree with sources in it.
struct Cli(Place);

impl Cli {
    fn new() -> Self {
        Self(Place::with_repository())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.tree().join(below)
    }

    fn config(&self) -> PathBuf {
        self.0.path("bdr/config.toml")
    }

    fn write(&self, path: &str, text: &str) {
        self.0.write(path, text.as_bytes());
    }

    fn init_with(&self, name: &str, path: &Path) {
        let source = format!("{name}={}", path.display());
        self.ok(&["init", "--yes", "--no-backup", "--source", &source]);
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.0.bdr(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, OK, "{args:?}: {out}{err}");
        out
    }
}

/// A source `s` at `source/`, and nothing else.
fn with_source(files: &[&str]) -> Cli {
    let cli = Cli::new();
    for file in files {
        cli.write(&format!("source/{file}"), file);
    }
    cli.init_with("s", &cli.path("source"));
    cli
}

#[test]
fn included_patterns_reach_every_depth() {
    let cli = with_source(&[
        "docs/a.md",
        "docs/x/b.md",
        "docs/x/y/c.md",
        "docs/x/y/c.txt",
        "d.md",
    ]);
    for (pattern, there, not) in [
        (
            "docs/**/*.md",
            &["docs/a.md", "docs/x/b.md", "docs/x/y/c.md"][..],
            &["d.md", "docs/x/y/c.txt"][..],
        ),
        (
            "**/*.md",
            &["d.md", "docs/a.md", "docs/x/y/c.md"],
            &["docs/x/y/c.txt"],
        ),
        ("*.md", &["d.md", "docs/x/y/c.md"], &["docs/x/y/c.txt"]),
        ("/*.md", &["d.md"], &["docs/a.md"]),
        (
            "{docs,nope}/**/*.{md,rst}",
            &["docs/a.md", "docs/x/y/c.md"],
            &["d.md"],
        ),
    ] {
        cli.ok(&["config", "set", "source.s.include", pattern]);
        cli.ok(&["backup"]);
        for file in there {
            assert_eq!(
                cli.ok(&["cat", "latest", &format!("s/{file}")]),
                *file,
                "{pattern}"
            );
        }
        for file in not {
            let (code, ..) = cli.run(&["cat", "latest", &format!("s/{file}")]);
            assert_ne!(code, OK, "{pattern} takes {file}");
        }
    }
}

/// Simple generated numbers: the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.next(from.len())]
    }
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(dir.path())
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        git
    };
    assert!(git(&["init", "-q"]).status().unwrap().success());
    let mut numbers = Numbers(7);
    let names = ["a", "b", "ab", "x.md", "y.log", "docs", "a-b", "e-f"];
    let mut paths: Vec<String> = Vec::new();
    for first in names {
        paths.push(first.to_owned());
        for second in names {
            paths.push(format!("{first}/{second}"));
            let deep = (numbers.pick(&names), numbers.pick(&names));
            paths.push(format!("{first}/{second}/{}", deep.0));
            paths.push(format!("{first}/{second}/{}/{}", deep.0, deep.1));
        }
    }
    let parts = [
        "a",
        "b",
        "ab",
        "*",
        "**",
        "*.md",
        "?",
        "a*",
        "[ab]",
        "[!a]*",
        "docs",
        "*-*",
        "[a-c]b",
        "\\a",
        "[[:alpha:]]",
    ];
    let mut compared = 0;
    for _ in 0..250 {
        let length = 1 + numbers.next(4);
        let mut pattern: Vec<&str> = (0..length).map(|_| numbers.pick(&parts)).collect();
        if numbers.next(4) == 0 {
            pattern.insert(0, "");
        }
        let mut pattern = pattern.join("/");
        if numbers.next(5) == 0 {
            pattern.push('/');
        }
        std::fs::write(dir.path().join(".gitignore"), format!("{pattern}\n")).unwrap();
        let mut oracle = git(&["check-ignore", "-z", "--no-index", "--stdin"]);
        oracle
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut oracle = oracle.spawn().unwrap();
        // Each path as a file: nothing of these names stands there, and git takes what ends with a slash for a directory.
        let all = paths.join("\0");
        std::io::Write::write_all(oracle.stdin.as_mut().unwrap(), all.as_bytes()).unwrap();
        let out = oracle.wait_with_output().unwrap().stdout;
        let ignored: std::collections::HashSet<&str> =
            std::str::from_utf8(&out).unwrap().split('\0').collect();
        let rules = |include: &str, exclude: &str| {
            let list = |text: &str| match text {
                "" => Vec::new(),
                text => vec![text.to_owned()],
            };
            let rules = bdr::model::rules::Rules {
                include: list(include),
                exclude: list(exclude),
                ..bdr::model::rules::Rules::default()
            };
            bdr::model::rules::Matcher::new(&rules).unwrap()
        };
        let exclude = rules("", &pattern);
        // A name without a wildcard or a slash is a path for include, and for exclude a name at any depth: `**/` says so to both.
        let plain = !pattern.trim_end_matches('/').contains(['/', '*', '?', '[']);
        let prefix = if plain { "**/" } else { "" };
        let include = rules(&format!("{prefix}{pattern}"), "");
        for path in &paths {
            let mut left_out = false;
            let components: Vec<&str> = path.split('/').collect();
            for depth in 0..components.len() {
                let (dir, name) = (components[..depth].join("/"), components[depth]);
                let is_dir = depth + 1 < components.len();
                left_out |= exclude
                    .left_out(dir.as_bytes(), name.as_bytes(), is_dir, &|_| false)
                    .is_some();
            }
            assert_eq!(
                left_out,
                ignored.contains(path.as_str()),
                "exclude `{pattern}`: {path}"
            );
            // A pattern for directories includes them; that a file has the name is no reason to lose it.
            if !pattern.ends_with('/') {
                let taken = include.include(path.as_bytes()) == bdr::model::rules::Verdict::Take;
                assert_eq!(taken, left_out, "include `{pattern}`: {path}");
            }
            compared += 1;
        }
    }
    assert!(compared > 10_000);
}

#[test]
fn a_pattern_that_can_never_match_is_not_set_and_warned_of_when_read() {
    let cli = with_source(&["a.log", "keep.log", "cache/c"]);
    let absolute = cli.path("source/cache");
    for (pattern, says) in [
        ("!keep.log", "exception"),
        (absolute.to_str().unwrap(), "write `/cache`"),
    ] {
        let (code, _, err) = cli.run(&["config", "set", "source.s.exclude", pattern]);
        assert_ne!(code, OK, "{pattern} was set");
        assert!(err.contains(says), "{err}");
    }
    cli.ok(&["config", "set", "source.s.exclude", "./cache"]);
    cli.ok(&["backup"]);
    assert_ne!(cli.run(&["cat", "latest", "s/cache/c"]).0, OK);
    // Somebody wrote it by hand.
    let config = cli.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"./cache\"", "\"*.log\", \"!keep.log\""),
    )
    .unwrap();
    let (code, _, err) = cli.run(&["backup"]);
    assert_eq!(code, OK, "{err}");
    assert!(err.contains("`!keep.log` would be an exception"), "{err}");
    assert_ne!(cli.run(&["config", "check"]).0, OK);
}

#[test]
fn what_includes_nothing_is_said() {
    let cli = with_source(&["a"]);
    let (code, _, err) = cli.run(&["config", "set", "source.s.include", "nothere"]);
    assert_eq!(code, OK);
    assert!(err.contains("nothing there matches `nothere`"), "{err}");
    assert_eq!(cli.run(&["config", "check"]).0, PARTIAL);
    let (code, out, err) = cli.run(&["backup"]);
    assert_eq!(code, PARTIAL, "{out}{err}");
}

#[test]
fn what_two_sources_have_is_restored_once() {
    let cli = Cli::new();
    for file in ["o/f", "o/i/g", "o/i/j/h"] {
        cli.write(file, file);
    }
    cli.init_with("o", &cli.path("o"));
    for (name, place) in [("i", "o/i"), ("j", "o/i/j")] {
        let key = format!("source.{name}.path");
        cli.ok(&["config", "set", &key, cli.path(place).to_str().unwrap()]);
    }
    cli.ok(&["backup"]);
    let before = crate::support::picture(&cli.path("o"));
    let same = |what: &str| {
        crate::support::assert_same(&before, &crate::support::picture(&cli.path("o")), what);
    };
    std::fs::remove_dir_all(cli.path("o/i")).unwrap();
    std::fs::write(cli.path("o/f"), "spoilt").unwrap();
    cli.ok(&["restore", "latest", "--yes"]);
    same("restored");
    std::fs::remove_dir_all(cli.path("o/i/j")).unwrap();
    cli.write("o/i/new", "new");
    cli.ok(&["restore", "latest", "--delete", "--yes"]);
    same("restored with --delete");
    cli.ok(&["guard", "--", "rm", "-rf", cli.path("o").to_str().unwrap()]);
    cli.ok(&["undo", "--yes"]);
    same("undone");
    assert!(
        cli.ok(&["restore", "latest", "--yes"])
            .contains("Nothing to restore")
    );
}

#[cfg(unix)]
#[test]
fn a_source_that_is_a_symlink_is_what_it_leads_to() {
    use std::os::unix::fs::symlink;
    let cli = Cli::new();
    cli.write("real/a", "precious");
    cli.write("key", "k");
    symlink("real", cli.path("link")).unwrap();
    symlink("link", cli.path("second")).unwrap();
    symlink("key", cli.path("keylink")).unwrap();
    let slash = cli.path("link/");
    cli.init_with("l", &slash);
    for (name, place) in [("t", "second"), ("k", "keylink"), ("dot", "link/.")] {
        cli.ok(&[
            "config",
            "set",
            &format!("source.{name}.path"),
            cli.path(place).to_str().unwrap(),
        ]);
    }
    let (code, out, err) = cli.run(&["backup"]);
    assert_eq!(code, OK, "{out}{err}");
    for file in ["l/a", "t/a", "dot/a"] {
        assert_eq!(cli.ok(&["cat", "latest", file]), "precious", "{file}");
    }
    let link = cli.path("keylink");
    assert_eq!(cli.ok(&["cat", "latest", link.to_str().unwrap()]), "k");
    std::fs::write(cli.path("real/a"), "spoilt").unwrap();
    std::fs::write(cli.path("key"), "spoilt").unwrap();
    cli.ok(&["restore", "latest", "l/a", "--yes"]);
    assert_eq!(
        std::fs::read_to_string(cli.path("real/a")).unwrap(),
        "precious"
    );
    assert!(cli.path("link").symlink_metadata().unwrap().is_symlink());
    // One that leads nowhere has nothing in it that could be kept.
    cli.ok(&["backup"]);
    std::fs::remove_file(cli.path("key")).unwrap();
    let (code, out, err) = cli.run(&["backup"]);
    assert_eq!(code, PARTIAL, "{out}{err}");
    assert!(
        out.contains("source `k` is a symlink that leads nowhere"),
        "{out}{err}"
    );
}

#[test]
fn a_source_is_named_from_within_another_one() {
    let cli = Cli::new();
    cli.write("work/x", "of work");
    cli.write("work/both/x", "of work, in a directory named like a source");
    cli.write("real/deep/a", "precious");
    cli.write("both/x", "of both");
    cli.init_with("work", &cli.path("work"));
    for (name, place) in [("notes", "real"), ("both", "both")] {
        let path = cli.path(place);
        let key = format!("source.{name}.path");
        cli.ok(&["config", "set", &key, path.to_str().unwrap()]);
    }
    cli.ok(&["backup"]);
    let from_work = |args: &[&str]| {
        let mut command = cli.0.bdr(args);
        let output = command.current_dir(cli.path("work")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text)
    };
    std::fs::remove_dir_all(cli.path("real")).unwrap();
    assert_eq!(
        from_work(&["cat", "latest", "notes/deep/a"]),
        (OK, "precious".to_owned())
    );
    // What is there under that name from here comes first.
    let (_, text) = from_work(&["cat", "latest", "both/x"]);
    assert!(text.starts_with("of work"), "{text}");
    for (word, back) in [
        ("notes/deep", "real/deep/a"),
        ("notes", "real/deep/a"),
        ("notes/", "real/deep/a"),
    ] {
        let (code, text) = from_work(&["restore", "latest", word, "--yes"]);
        assert_eq!(code, OK, "{word}: {text}");
        assert_eq!(std::fs::read(cli.path(back)).unwrap(), b"precious");
        std::fs::remove_dir_all(cli.path("real")).unwrap();
    }
    assert_eq!(from_work(&["restore", "latest", "nowhere", "--yes"]).0, 1);
}

#[cfg(unix)]
#[test]
fn a_source_that_was_a_symlink_is_known_by_it_when_what_it_led_to_is_gone() {
    use std::os::unix::fs::symlink;
    let cli = Cli::new();
    cli.write("real/a", "precious");
    symlink("real", cli.path("link")).unwrap();
    symlink("link", cli.path("second")).unwrap();
    cli.init_with("l", &cli.path("second"));
    cli.ok(&["backup"]);
    for word in ["link", "second", "link/a", "second/a", "l", "l/a"] {
        std::fs::remove_dir_all(cli.path("real")).unwrap();
        cli.ok(&["restore", "latest", word, "--yes"]);
        assert_eq!(
            std::fs::read(cli.path("real/a")).unwrap(),
            b"precious",
            "{word}"
        );
    }
    // Links in a circle end, too.
    symlink("round", cli.path("about")).unwrap();
    symlink("about", cli.path("round")).unwrap();
    assert_eq!(cli.run(&["restore", "latest", "round/a", "--yes"]).0, 1);
}

#[cfg(unix)]
#[test]
fn an_included_path_that_is_a_symlink_is_what_it_leads_to() {
    use std::os::unix::fs::symlink;
    for (include, leads, there, not) in [
        ("notes", "notes", "real/notes/x/b.md", "real/docs/a.md"),
        ("./file", "file", "real/docs/a.md", "real/docs/x/c.txt"),
        (
            "docs/**/*.md",
            "docs",
            "real/docs/x/b.md",
            "real/docs/x/c.txt",
        ),
        ("in/docs/x", "in/docs", "real/docs/x/b.md", "real/docs/a.md"),
    ] {
        let cli = with_source(&["other"]);
        for file in ["notes/x/b.md", "docs/a.md", "docs/x/b.md", "docs/x/c.txt"] {
            cli.write(&format!("real/{file}"), file);
        }
        let source = cli.path("source");
        std::fs::create_dir(source.join("in")).unwrap();
        symlink("../real/notes", source.join("notes")).unwrap();
        symlink("../real/docs/a.md", source.join("file")).unwrap();
        symlink("../real/docs", source.join("docs")).unwrap();
        symlink("../../real/docs", source.join("in/docs")).unwrap();
        cli.ok(&["config", "set", "source.s.include", include]);
        // A guard covers it as well.
        cli.ok(&[
            "guard",
            "--",
            "rm",
            cli.path("real/notes").join("x/b.md").to_str().unwrap(),
        ]);
        cli.ok(&["undo", "--yes"]);
        cli.ok(&["backup"]);
        let place = |path: &str| cli.path(path).to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(cli.path(there)).unwrap();
        assert_eq!(cli.ok(&["cat", "latest", &place(there)]), text, "{include}");
        let (code, ..) = cli.run(&["cat", "latest", &place(not)]);
        assert_ne!(code, OK, "{include}: {not}");
        std::fs::write(cli.path(there), "spoilt").unwrap();
        cli.ok(&["restore", "latest", "--yes"]);
        assert_eq!(
            std::fs::read_to_string(cli.path(there)).unwrap(),
            text,
            "{include}"
        );
        assert!(source.join(leads).symlink_metadata().unwrap().is_symlink());
        // One that leads nowhere has nothing in it that could be kept.
        std::fs::rename(cli.path("real"), cli.path("gone")).unwrap();
        let (code, out, err) = cli.run(&["backup"]);
        assert_eq!(code, PARTIAL, "{include}: {out}{err}");
        assert!(out.contains("leads nowhere"), "{include}: {out}{err}");
    }
    // All that is around the source is not what is meant.
    let cli = with_source(&["in/a", "other"]);
    symlink("..", cli.path("source/in/up")).unwrap();
    cli.ok(&["config", "set", "source.s.include", "in/up"]);
    let (code, out, err) = cli.run(&["backup"]);
    assert_eq!(code, PARTIAL, "{out}{err}");
    assert!(
        out.contains("leads to a directory around the source"),
        "{out}{err}"
    );
    // What another source has is not stored twice.
    let cli = with_source(&["real/a", "other"]);
    symlink("real", cli.path("source/link")).unwrap();
    cli.ok(&[
        "config",
        "set",
        "source.all.path",
        cli.path("source").to_str().unwrap(),
    ]);
    cli.ok(&["config", "set", "source.s.include", "link"]);
    cli.ok(&["backup"]);
    assert!(!cli.ok(&["ls", "latest"]).contains('@'));
}

#[test]
fn a_source_that_was_emptied_is_partial_until_it_has_files() {
    let cli = with_source(&["a", "b"]);
    cli.ok(&["backup"]);
    std::fs::remove_dir_all(cli.path("source")).unwrap();
    std::fs::create_dir(cli.path("source")).unwrap();
    for args in [&["backup"][..], &["backup"], &["backup", "--full"]] {
        let (code, out, err) = cli.run(args);
        assert_eq!(code, PARTIAL, "{out}{err}");
        assert!(
            out.contains("source `s` is empty, but had 2 files before"),
            "{out}{err}"
        );
    }
    cli.write("source/a", "again");
    cli.ok(&["backup"]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_mounted_below_a_source_is_named_and_one_file_system_leaves_it_out() {
    let cli = with_source(&["a", "mnt/under"]);
    let mount = |args: &[&str], program: &str| {
        Command::new(program)
            .args(args)
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let place = cli.path("source/mnt");
    let place = place.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "bdr-test", place], "mount") {
        eprintln!("SKIPPED what_is_mounted_below_a_source: a tmpfs cannot be mounted here");
        return;
    }
    cli.write("source/mnt/inside", "1");
    let (code, out, err) = cli.run(&["backup"]);
    cli.ok(&["config", "set", "source.s.one_file_system", "true"]);
    let (second_code, second, second_err) = cli.run(&["backup"]);
    assert!(mount(&[place], "umount"));
    assert_eq!(code, OK, "{out}{err}");
    assert!(out.contains("Mounted below a source"), "{out}{err}");
    assert_eq!(second_code, OK, "{second_err}");
    assert!(second.contains("another file system"), "{second}");
}
