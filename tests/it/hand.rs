//! How bdr feels in the hand: choosing what is backed up, completions, questions on a terminal.

use crate::support::Place;
use crate::support::terminal::Terminal;

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config(place: &Place) -> String {
    std::fs::read_to_string(place.path("bdr/config.toml")).unwrap()
}

/// A HOME with something to back up, and some things that nothing finds by itself.
fn home() -> Place {
    let place = Place::new();
    for (path, text) in [
        ("home/workspace-brain/a.md", "brain"),
        ("home/notes/n.md", "note"),
        ("home/notes/big/film.mp4", "a film"),
        ("home/code/shop/main.rs", "fn main() {}"),
    ] {
        let path = place.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let run = |args: &[&str]| {
        let done = std::process::Command::new("git")
            .args(args)
            .current_dir(place.path("home/code/shop"))
            .status();
        assert!(done.unwrap().success());
    };
    run(&["init", "-q"]);
    place
}

fn at_home(place: &Place, args: &[&str], code: i32) -> std::process::Output {
    let output = place
        .bdr(args)
        .env("HOME", place.path("home"))
        .current_dir(place.path("home"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    output
}

#[test]
fn what_no_source_has_is_said_and_can_be_added_in_one_command() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    let page = said(&at_home(&place, &["status"], 0));
    assert!(
        page.contains("Not covered: ~/code (1 repository, 1 with uncommitted work), ~/notes"),
        "{page}"
    );
    let add = page.split("cover them: bdr ").nth(1).unwrap();
    let add: Vec<String> = add
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .map(|word| word.replace('~', &place.path("home").to_string_lossy()))
        .collect();
    let add: Vec<&str> = add.iter().map(String::as_str).collect();
    let before = config(&place);
    at_home(&place, &[&add[..], &["--dry-run"]].concat(), 0);
    assert_eq!(config(&place), before);
    at_home(&place, &add, 0);
    let page = said(&at_home(&place, &["status"], 0));
    assert!(!page.contains("Not covered"), "{page}");
    // It is a source like others: the next backup has it, and a second `add` has nothing to add.
    at_home(&place, &["backup"], 0);
    let listed = said(&at_home(&place, &["ls", "latest"], 0));
    assert!(
        listed.contains("notes/n.md") && listed.contains("code/shop/main.rs"),
        "{listed}"
    );
    let now = config(&place);
    let again = said(&at_home(&place, &add, 0));
    assert!(again.contains("already"), "{again}");
    assert_eq!(config(&place), now);
}

#[test]
fn what_is_excluded_is_shown_and_left_out_of_the_source_that_has_it_only() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    at_home(&place, &["add", "notes", "code"], 0);
    at_home(&place, &["backup"], 0);
    let before = config(&place);
    let shown = said(&at_home(&place, &["exclude", "notes/big", "--dry-run"], 0));
    assert!(shown.contains("notes  1 file"), "{shown}");
    assert_eq!(config(&place), before);
    at_home(&place, &["exclude", "notes/big"], 0);
    let after = config(&place);
    assert_eq!(after.matches("/big").count(), 1, "{after}");
    let plan = said(&at_home(&place, &["backup", "--dry-run", "--files"], 0));
    assert!(
        !plan.contains("film.mp4") && plan.contains("1 left out"),
        "{plan}"
    );
    at_home(&place, &["backup"], 0);
    let listed = said(&at_home(&place, &["ls", "latest"], 0));
    assert!(
        !listed.contains("film.mp4") && listed.contains("notes/n.md"),
        "{listed}"
    );
    // The whole of a source, what nobody has, and a wrong pattern are no exclusions.
    for (what, hint) in [
        ("notes", "bdr remove notes"),
        ("/etc/passwd", "nothing backs it up"),
        ("!x", "exclude less"),
    ] {
        let what = if what == "notes" { "./notes" } else { what };
        let output = at_home(&place, &["exclude", what], 2);
        assert!(
            stderr(&output).contains(hint),
            "{what}: {}",
            stderr(&output)
        );
        assert_eq!(config(&place), after);
    }
}

/// However it is written, and whatever its name: what does not exist yet is left out when it does.
#[test]
fn what_does_not_exist_yet_can_be_excluded() {
    for name in ["videos", "a b", "deep/er", "empty"] {
        for form in [
            "~/notes/{}",
            "{home}/notes/{}",
            "./notes/{}",
            "../home/notes/{}",
        ] {
            let place = home();
            at_home(&place, &["init", "--yes"], 0);
            at_home(&place, &["add", "notes"], 0);
            let dir = place.path("home/notes").join(name);
            if name == "empty" {
                std::fs::create_dir(&dir).unwrap();
            }
            let home = place.path("home").display().to_string();
            let typed = form.replace("{home}", &home).replace("{}", name);
            let shown = said(&at_home(&place, &["exclude", &typed], 0));
            assert!(
                shown.contains("matches nothing there yet"),
                "{typed}: {shown}"
            );
            let after = config(&place);
            assert!(after.contains(&format!("\"/{name}\"")), "{typed}: {after}");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("film.mov"), b"film").unwrap();
            // Of the same name elsewhere, it is another one.
            let other = place.path("home/notes/other").join(name);
            std::fs::create_dir_all(&other).unwrap();
            std::fs::write(other.join("kept.mov"), b"film").unwrap();
            at_home(&place, &["backup"], 0);
            let listed = said(&at_home(&place, &["ls", "latest"], 0));
            assert!(
                !listed.contains("film.mov") && listed.contains("kept.mov"),
                "{typed}: {listed}"
            );
        }
    }
    // What begins with a slash and lies in no source is a pattern; what can be no pattern is an error.
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    at_home(&place, &["add", "notes"], 0);
    at_home(&place, &["exclude", "/cache", "--source", "notes"], 0);
    assert!(config(&place).contains("\"/cache\""));
    let said = stderr(&at_home(&place, &["exclude", "~/nowhere"], 2));
    assert!(said.contains("nothing backs it up"), "{said}");
}

#[test]
fn a_place_that_is_in_no_source_on_purpose_is_named_no_more() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    at_home(&place, &["backup"], 0);
    let status = said(&at_home(&place, &["status"], 0));
    assert!(
        status.contains("or leave them out: bdr exclude ~/code ~/notes"),
        "{status}"
    );
    let dry = said(&at_home(&place, &["exclude", "code", "--dry-run"], 0));
    assert!(dry.contains("Nothing was changed"), "{dry}");
    let said_then = said(&at_home(&place, &["exclude", "code"], 0));
    assert!(said_then.contains("code is in no source"), "{said_then}");
    assert!(config(&place).contains("not_covered = [\"~/code\"]"));
    let status = said(&at_home(&place, &["status"], 0));
    assert!(
        !status.contains("~/code") && status.contains("cover it: bdr add ~/notes"),
        "{status}"
    );
    at_home(&place, &["exclude", "notes"], 0);
    let status = said(&at_home(&place, &["status"], 0));
    assert!(!status.contains("ot covered: ~"), "{status}");
    // Whoever adds it, or something in it, has thought better of it.
    at_home(&place, &["add", "code/shop"], 0);
    let now = config(&place);
    assert!(now.contains("not_covered = [\"~/notes\"]"), "{now}");
    at_home(&place, &["add", "notes"], 0);
    assert!(!config(&place).contains("not_covered"));
    at_home(&place, &["config", "check"], 0);
}

#[test]
fn the_shell_that_ran_init_is_protected_by_the_line_that_it_prints() {
    let place = home();
    let script = r#"
        said=$("$BDR" init --yes)
        line=$(printf '%s\n' "$said" | sed -n 's/^Protect what you type in this shell: //p')
        [ -n "$line" ] || { echo "no line: $said"; exit 1; }
        eval "$line"
        type guard >/dev/null && echo protected
    "#;
    for shell in ["bash", "zsh"] {
        let output = std::process::Command::new(shell)
            .args(["-c", script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", place.path("home"))
            .env("BDR_HOME", place.path("bdr"))
            .env("BDR", env!("CARGO_BIN_EXE_bdr"))
            .current_dir(place.path("home"))
            .output();
        let Ok(output) = output else {
            println!("SKIPPED for {shell}: it is not installed");
            continue;
        };
        let said = said(&output);
        assert!(
            said.contains("protected"),
            "{shell}: {said} {}",
            stderr(&output)
        );
    }
    // A program that is no shell gets no line for one.
    let plain = said(&at_home(&place, &["init", "--yes"], 0));
    assert!(!plain.contains("this shell"), "{plain}");
}

#[test]
fn a_dry_backup_says_what_the_next_one_does_and_stores_nothing() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    at_home(&place, &["add", "notes"], 0);
    at_home(&place, &["backup"], 0);
    std::fs::write(place.path("home/notes/n.md"), "changed since").unwrap();
    std::fs::remove_file(place.path("home/notes/big/film.mp4")).unwrap();
    let list = || said(&at_home(&place, &["--json", "list"], 0));
    let before = list();
    let plan = said(&at_home(&place, &["backup", "--dry-run", "--files"], 0));
    assert!(plan.contains("+ ~/notes/n.md  13 B"), "{plan}");
    assert!(plan.contains("- ~/notes/big/film.mp4"), "{plan}");
    assert_eq!(list(), before);
    at_home(&place, &["backup"], 0);
    let plan = said(&at_home(&place, &["backup", "--dry-run"], 0));
    assert!(!plan.contains("new or changed"), "{plan}");
}

#[test]
fn init_again_adds_and_replaces_nothing() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    let own = config(&place).replace("[source.brain]", "# mine\n[source.brain]");
    std::fs::write(place.path("bdr/config.toml"), &own).unwrap();
    at_home(&place, &["init", "--yes", "--no-backup"], 0);
    assert_eq!(config(&place), own, "there is nothing new");
    std::fs::write(place.path("home/.claude.json"), "{}").unwrap();
    at_home(
        &place,
        &["init", "--yes", "--no-backup", "--source", "notes=~/notes"],
        0,
    );
    let text = config(&place);
    assert!(
        text.contains("# mine\n[source.brain]") && text.contains("[source.notes]"),
        "{text}"
    );
    at_home(&place, &["init", "--yes", "--no-backup"], 0);
    let text = config(&place);
    assert!(
        text.contains("# mine\n[source.brain]") && text.contains(".claude.json"),
        "{text}"
    );
    // A name that is taken by another place, and a configuration that is wrong, are nothing to write over.
    at_home(&place, &["init", "--yes", "--source", "notes=~/code"], 2);
    std::fs::write(place.path("bdr/config.toml"), "[").unwrap();
    at_home(&place, &["init", "--yes"], 2);
    assert_eq!(config(&place), "[");
}

#[test]
fn a_source_is_removed_by_its_name_and_keeps_what_was_stored() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    at_home(&place, &["add", "notes", "--as", "letters"], 0);
    at_home(&place, &["backup"], 0);
    let output = at_home(&place, &["rm", "notes/n.md"], 2);
    assert!(
        stderr(&output).contains("bdr guard -- rm"),
        "{}",
        stderr(&output)
    );
    at_home(&place, &["remove", "letters", "--dry-run"], 0);
    assert!(config(&place).contains("[source.letters]"));
    at_home(&place, &["remove", "letters"], 0);
    assert!(!config(&place).contains("[source.letters]"));
    let old = said(&at_home(&place, &["cat", "latest", "letters/n.md"], 0));
    assert_eq!(old, "note");
}

/// What a shell is offered for the last of some words.
fn offered(place: &Place, words: &[&str]) -> Vec<String> {
    let output = place
        .bdr(&[&["--", "bdr"], words].concat())
        .env("BDR_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    said(&output).lines().map(str::to_owned).collect()
}

#[test]
fn shells_are_offered_commands_operations_snapshots_sources_and_paths() {
    let place = Place::new();
    place.write("notes.md", b"n");
    place.init();
    place.run(&["guard", "--", "rm", "notes.md"], 0);
    let log: serde_json::Value =
        serde_json::from_slice(&place.run(&["--json", "log"], 0).stdout).unwrap();
    let id = log["data"]["operations"][0]["id"].as_str().unwrap();
    assert!(offered(&place, &["un"]).contains(&"undo".to_owned()));
    let operations = offered(&place, &["undo", ""]);
    let id = id.to_lowercase();
    assert!(
        operations
            .iter()
            .any(|word| word.len() >= 4 && id.contains(&word[..])),
        "{operations:?}"
    );
    let snapshots = offered(&place, &["restore", "lat"]);
    assert!(snapshots.contains(&"latest".to_owned()), "{snapshots:?}");
    let sources = offered(&place, &["backup", "--source", ""]);
    assert!(
        sources.contains(&"tree".to_owned()) || !sources.is_empty(),
        "{sources:?}"
    );
    // Where there is no repository there is nothing to offer, and nothing to say.
    let empty = Place::new();
    assert!(offered(&empty, &["undo", "zz"]).is_empty());
    for shell in ["bash", "zsh", "fish", "powershell", "man"] {
        let text = said(&place.run(&["completions", shell], 0));
        assert!(text.contains("bdr"), "{shell}");
    }
}

#[test]
fn keys_before_a_question_answer_nothing_and_enter_answers_one() {
    use crate::support::terminal::Terminal;
    let place = home();
    std::fs::write(place.path("home/.bashrc"), "# mine\n").unwrap();
    let home = place.path("home");
    let bin = env!("CARGO_BIN_EXE_bdr");
    let line = format!("cd '{0}' && HOME='{0}' exec '{bin}' init", home.display());
    let mut terminal = Terminal::start(&place, &["sh", "-c", &line]);
    terminal.expect("Another directory");
    // One Enter too many, as after any question.
    terminal.type_in("\n\n\n\n");
    terminal.expect("Back up every day");
    terminal.type_in("n\n");
    terminal.expect("by adding bdr to their settings?");
    terminal.type_in("\n");
    let (status, seen) = terminal.end();
    assert!(status.success(), "{seen}");
    let kept = std::fs::read_to_string(home.join(".bashrc")).unwrap();
    assert_eq!(kept, "# mine\n", "nobody asked for hooks: {seen}");
    assert!(
        !config(&place).contains("\n[schedule]"),
        "{}",
        config(&place)
    );
}

#[test]
fn a_line_in_one_word_is_recognised_and_the_way_to_run_it_is_said() {
    let place = Place::new();
    place.write("src/a", b"a");
    place.init();
    let said = stderr(&place.run(&["guard", "--", "rm -rf src"], 127));
    assert!(said.contains("bdr guard -- rm -rf src"), "{said}");
    assert!(place.tree().join("src/a").exists());
    // A program that is not there is only that.
    let said = stderr(&place.run(&["guard", "--", "no-such-program"], 127));
    assert!(!said.contains("hint"), "{said}");
}

#[test]
fn nothing_is_broken_within_a_word_on_a_narrow_terminal() {
    let place = Place::with_repository();
    for number in 0..3 {
        place.write(&format!("file{number}.md"), b"text\n");
    }
    place.init();
    place.run(&["backup"], 0);
    place.run(&["guard", "--", "rm", "file1.md"], 0);
    // A terminal would break the long lines of these wherever its edge is.
    for command in [
        "bdr",
        "bdr status",
        "bdr prune --dry-run",
        "bdr log",
        "bdr list --all",
        "bdr undo --dry-run",
        "bdr restore nothing-of-this-long-name-was-ever-captured-in-any-snapshot.md",
    ] {
        let script = format!("stty cols 60 rows 200; {command}");
        let (_, shown) = Terminal::start(&place, &["sh", "-c", &script]).end();
        let shown = shown.replace('\r', "");
        let wide = |line: &&str| {
            let line = line.trim_end();
            // A path or a command that has to be copied is no use in pieces.
            line.chars().count() > 60 && line.trim_start().contains(' ') && !line.contains("bdr ")
        };
        let wide: Vec<&str> = match command {
            // Its lines are made for 80.
            "bdr" => shown
                .lines()
                .filter(|line| line.chars().count() > 80)
                .collect(),
            _ => shown.lines().filter(wide).collect(),
        };
        assert!(wide.is_empty(), "{command}: {wide:#?}");
    }
}

#[test]
fn a_source_that_no_backup_has_is_not_called_protected() {
    let place = Place::with_repository();
    place.write("a.md", b"a");
    place.init();
    place.run(&["backup"], 0);
    let before = place.run(&["status"], 0);
    let before = String::from_utf8_lossy(&before.stdout).into_owned();
    assert!(before.starts_with("Protected"), "{before}");

    std::fs::create_dir(place.path("more")).unwrap();
    std::fs::write(place.path("more/b.md"), b"b").unwrap();
    place.run(&["add", place.path("more").to_str().unwrap()], 0);
    let shown = place.run(&["status"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.starts_with("Partly protected: 1 source has no backup yet."),
        "{shown}"
    );
    let status = place.json(&["status"]);
    let codes: Vec<&str> = status["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|trouble| trouble["code"].as_str())
        .collect();
    assert!(codes.contains(&"not-backed-up"), "{codes:?}");
    place.run(&["backup"], 0);
    let shown = place.run(&["status"], 0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.starts_with("Protected"), "{shown}");
}

#[test]
fn yes_is_taken_where_nothing_is_asked() {
    let place = home();
    at_home(&place, &["init", "--yes"], 0);
    let notes = place.path("home/notes");
    let notes = notes.to_string_lossy();
    at_home(&place, &["add", &notes, "--yes"], 0);
    at_home(&place, &["exclude", "*.mp4", "--yes"], 0);
    at_home(&place, &["backup", "notes", "--yes"], 0);
    let listed = said(&at_home(&place, &["ls", "latest"], 0));
    assert!(
        listed.contains("n.md") || listed.contains("notes"),
        "{listed}"
    );
    assert!(!listed.contains("workspace-brain"), "{listed}");
    at_home(&place, &["remove", "notes", "-y"], 0);
    at_home(&place, &["repair", "--yes"], 0);
    at_home(&place, &["schedule", "uninstall", "--yes"], 0);
    // A client is named as a hook is; the option of before means the same.
    std::fs::create_dir_all(place.path("home/.claude")).unwrap();
    let file = place.path("home/.claude.json");
    for (install, uninstall) in [
        (&["claude"][..], &["claude"][..]),
        (&["--client", "claude"], &["--client", "claude"]),
    ] {
        at_home(
            &place,
            &[&["mcp", "install"], install, &["--yes"]].concat(),
            0,
        );
        assert!(std::fs::read_to_string(&file).unwrap().contains("bdr"));
        at_home(
            &place,
            &[&["mcp", "uninstall"], uninstall, &["--yes"]].concat(),
            0,
        );
        assert!(!file.exists());
    }
    at_home(&place, &["mcp", "install"], 2);
}

#[test]
fn a_preview_of_a_restore_names_the_snapshot_and_what_came_after_it() {
    let place = Place::with_repository();
    place.write("registry.json", b"{\"a\": 1}");
    place.init_at("2026-03-02T12:00:00Z");
    place.write("registry.json", b"{\"a\": 2, \"b\": 3}");
    place.run_at(
        "2026-03-02T13:00:00Z",
        &["guard", "--", "rm", "registry.json"],
        0,
    );
    let now = "2026-03-02T13:30:00Z";
    let preview = [
        "restore",
        "latest",
        "--at",
        "10 minutes ago",
        "registry.json",
        "--dry-run",
    ];
    let text = said(&place.run_at(now, &preview, 0));
    assert!(
        text.contains("30 min ago, before `rm registry.json`"),
        "{text}"
    );
    let command = text.split("Restore: bdr ").nth(1).unwrap();
    let command: Vec<&str> = command.lines().next().unwrap().split(' ').collect();
    assert_eq!((command[0], command.len()), ("restore", 3), "{text}");
    // Hours later the command still means the same.
    place.run_at(
        "2026-03-02T20:00:00Z",
        &[&command[..], &["--yes"]].concat(),
        0,
    );
    let back = std::fs::read(place.tree().join("registry.json")).unwrap();
    assert_eq!(back, b"{\"a\": 2, \"b\": 3}");
    // Nothing is as old: the versions that there are.
    let early = ["restore", "latest", "registry.json", "--at", "1 Jan"];
    let text = stderr(&place.run_at(now, &early, 1));
    assert!(text.contains("hint: bdr history registry.json"), "{text}");
}

#[test]
fn the_time_of_a_directory_elsewhere_is_no_change_elsewhere() {
    let place = Place::with_repository();
    place.write("shop/src/a.ts", b"1");
    place.write("shop/b", b"1");
    place.write("here/c", b"1");
    place.init();
    let here = place.tree().join("here");
    let line = "rm c; (cd ../shop && rm -r src)";
    let guard = place
        .bdr(&["guard", "--", "sh", "-c", line])
        .current_dir(&here)
        .status();
    assert!(guard.unwrap().success());
    let output = place
        .bdr(&["undo", "--yes"])
        .current_dir(&here)
        .output()
        .unwrap();
    let text = said(&output) + &stderr(&output);
    assert!(
        output.status.success() && !text.contains("meanwhile"),
        "{text}"
    );
    assert!(place.tree().join("shop/src/a.ts").exists());
}

/// The bar comes after half a second, so the backup is held up for that long once it has begun.
#[test]
fn a_long_backup_shows_how_many_bytes_of_how_many_are_done() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = Place::with_repository();
    place.init();
    place.write("large", &crate::support::noise(64 << 20));
    let line = "export TERM=xterm; stty cols 80 rows 24; exec bdr backup";
    let mut terminal = Terminal::start(&place, &["sh", "-c", line]);
    let pid = i32::try_from(terminal.session.id()).unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    let temporary = place.store().join("tmp");
    crate::support::terminal::wait_for("the first bytes of a pack", || {
        let files = std::fs::read_dir(&temporary)
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| file.metadata().ok())
            .any(|file| file.len() > 0)
    });
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    kill_process(pid, Signal::CONT).unwrap();
    let bar = terminal.expect(" MiB of 64.00 MiB");
    assert!(bar.contains("Storing") && bar.contains(" %"), "{bar}");
    let (status, shown) = terminal.end();
    assert!(status.success(), "{shown}");
    assert!(shown.contains("Backed up 1 file, 64.0 MiB"), "{shown}");
}
