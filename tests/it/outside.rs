//! What comes from outside does not make bdr act beyond its own: what is printed, other users' files, repositories that name directories elsewhere.

use std::os::unix::fs::chown;

use crate::incident::sh;
use crate::support::Place;
use crate::support::cli::{NOBODY, stderr};

/// Names that a careless suggestion would run, and that a terminal would act on.
const HOSTILE: [&str; 6] = [
    "a'$(touch PWNED)'b",
    "`touch PWNED`",
    "x;touch PWNED;",
    "x\u{1b}]0;title\u{7}",
    "x\ntouch PWNED\n#",
    "$(touch PWNED)",
];

#[test]
fn what_is_suggested_can_be_copied_whatever_a_file_is_called() {
    for name in HOSTILE {
        let place = Place::of_a_user();
        place.run_as_user(
            &[
                "init",
                "--yes",
                "--source",
                &format!("tree={}", place.tree().display()),
            ],
            0,
        );
        std::fs::create_dir_all(place.tree().join(name)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(place.tree().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let said = place.run_as_user(&["cat", "latest", &format!("{name}z")], 1);
        assert!(
            !said.contains('\u{1b}') && !said.contains('\u{7}'),
            "{said}"
        );
        let hint = said
            .lines()
            .find_map(|line| line.strip_prefix("hint: "))
            .unwrap_or_default();
        assert!(hint.contains("bdr find"), "{said}");
        // What it names is one word: a shell that only tells its words finds the name in it, and runs nothing.
        let words = std::process::Command::new("bash")
            .args(["-c", &format!("bdr() {{ printf '%s\\0' \"$@\"; }}; {hint}")])
            .current_dir(place.tree())
            .output();
        let Ok(words) = words else {
            println!("SKIPPED: what a shell makes of suggestions (no bash)");
            return;
        };
        assert!(!place.tree().join("PWNED").exists(), "{hint}");
        assert_eq!(
            words.stdout.iter().filter(|b| **b == 0).count(),
            2,
            "{hint}: {}",
            stderr(&words)
        );
    }
}

#[test]
fn a_configuration_and_a_repository_of_another_user_are_not_believed() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: files of other users (not root)");
        return;
    }
    let run = |place: &Place, args: &[&str]| {
        let mut command = place.bdr(args);
        // Named by nobody: found below HOME, as with `sudo` that keeps it.
        command
            .env_remove("BDR_HOME")
            .env("BDR_LIFEBOAT", "")
            .env("BDR_BACKGROUND", "0");
        command.output().unwrap()
    };
    let place = Place::with_repository();
    sh(&place, "echo 1 > f");
    let source = format!("tree={}", place.tree().display());
    assert!(
        run(&place, &["init", "--yes", "--source", &source])
            .status
            .success()
    );
    let config = place.path("home/.config/bdr/config.toml");
    chown(&config, Some(1234), None).unwrap();
    let output = run(&place, &["backup"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("another user"),
        "{}",
        stderr(&output)
    );
    chown(&config, Some(0), None).unwrap();
    let repository = place.path("home/.local/share/bdr");
    chown(&repository, Some(1234), None).unwrap();
    let output = run(&place, &["backup"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    // Who names it means it.
    let named = repository.to_string_lossy().into_owned();
    let output = run(&place, &["--repository", &named, "list"]);
    assert!(
        !stderr(&output).contains("another user"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_repository_that_names_directories_elsewhere_is_not_followed() {
    let place = Place::with_repository();
    std::fs::create_dir(place.path("victim")).unwrap();
    std::fs::write(place.path("victim/mine"), "private").unwrap();
    let victim = place.path("victim").display().to_string();
    place.init();
    let roots = |place: &Place| {
        let planned = place.json(&["guard", "--dry-run", "--", "rm", "-rf", "f"]);
        planned["roots"].to_string()
    };
    for how in [
        format!(
            "mkdir -p .git/worktrees/x; echo {victim}/.git > .git/worktrees/x/gitdir; echo ../.. > .git/worktrees/x/commondir; echo ref: refs/heads/x > .git/worktrees/x/HEAD"
        ),
        format!("git config core.worktree {victim}"),
        format!("git init -q {victim}; echo {victim}/.git > .git/commondir"),
    ] {
        sh(
            &place,
            &format!("rm -rf .git; git init -q .; echo 1 > f; {how}"),
        );
        assert!(
            !roots(&place).contains("victim"),
            "{how}: {}",
            roots(&place)
        );
    }
    // One that both ends tell of is covered.
    sh(
        &place,
        "rm -rf .git; git init -q .; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; git worktree add -q ../linked",
    );
    assert!(roots(&place).contains("linked"), "{}", roots(&place));
}

/// What bdr makes for itself is closed to others, whatever the umask says: repository, cache, state, configuration, vault, lifeboat, copies.
#[cfg(unix)]
#[test]
fn nothing_that_bdr_makes_for_itself_is_open_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    for umask in ["000", "022", "077"] {
        let place = Place::with_repository();
        place.write(".env", b"API_KEY=Zk81hfQzLm22pq7TtYw3\n");
        place.write("big", &vec![7; 34 << 20]);
        let boat = place.path("boat");
        let source = format!("tree={}", place.tree().display());
        for args in [
            &["init", "--yes", "--source", &source][..],
            &["guard", "--", "rm", "-f", "big", ".env"],
            &["dashboard"],
            &["undo", "--yes"],
            &["verify", "--level", "restore"],
            &["drill"],
            &["settle"],
            &["backup", "--full"],
            &["prune", "--yes", "--now"],
            &["vault", "rotate"],
            &["tick"],
        ] {
            let given = place.bdr(args);
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", "umask \"$0\"; exec \"$@\"", umask])
                .arg(given.get_program())
                .args(args)
                .env_clear()
                .current_dir(place.tree());
            for (name, value) in given.get_envs() {
                command.env(name, value.unwrap());
            }
            command
                .env("BDR_BACKGROUND", "0")
                .env("BDR_LIFEBOAT", &boat);
            let output = command.output().unwrap();
            assert!(
                output.status.code().is_some_and(|code| code <= 3),
                "{args:?}: {output:?}"
            );
        }
        let made = [place.path("bdr"), boat]
            .into_iter()
            .flat_map(walkdir::WalkDir::new);
        let mut count = 0;
        for entry in made {
            let entry = entry.unwrap();
            count += 1;
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(
                mode & 0o077,
                0,
                "umask {umask}: {:o} {}",
                mode,
                entry.path().display()
            );
        }
        assert!(count > 40, "{count}");
    }
}
