//! `bdr vault export` and `import`: sealed files come back whole on another machine.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Place;
use crate::support::cli::stderr;
use crate::support::terminal::Terminal;

const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

fn bdr(place: &Place, home: &str, args: &[&str]) -> Command {
    let mut command = place.bdr(args);
    command
        .env("BDR_HOME", place.path(home))
        .env("BDR_PASSPHRASE", "correct horse battery");
    command
}

#[track_caller]
fn run(place: &Place, home: &str, args: &[&str], code: i32) -> String {
    let output = bdr(place, home, args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

#[track_caller]
fn data(place: &Place, home: &str, args: &[&str], code: i32) -> Value {
    let said = run(place, home, &[&["--json"], args].concat(), code);
    let mut document: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    document["data"].take()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

/// A place with a sealed value, backed up in `bdr`; `other` is a machine that got a copy of the repository.
fn place() -> (Place, String) {
    let place = Place::with_repository();
    place.write("app/.env", format!("API_KEY={SECRET}\nPORT=1\n").as_bytes());
    place.write("app/main.py", b"print(1)\n");
    place.init();
    std::fs::create_dir(place.path("other")).unwrap();
    copy(&place.store(), &place.path("other/repository"));
    let file = place.path("values.age").to_str().unwrap().to_owned();
    (place, file)
}

#[test]
fn sealed_files_come_back_whole_on_another_machine() {
    let (place, file) = place();
    let seen = run(&place, "bdr", &["status"], 0);
    assert!(
        seen.contains("only on this machine: bdr vault export FILE"),
        "{seen}"
    );
    let made = data(&place, "bdr", &["vault", "export", &file], 0);
    assert_eq!(made["values"], 1, "{made}");
    assert!(!run(&place, "bdr", &["status"], 0).contains("only on this machine"));
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(place.tree().join("app/.env")).unwrap();
    let into = |name: &str| place.path(name).to_str().unwrap().to_owned();
    // Without the values there is a placeholder under another name, and a word about it.
    let said = run(
        &place,
        "other",
        &["restore", "latest", "--target", &into("without"), "--yes"],
        3,
    );
    assert!(
        said.contains("1 file cannot come back whole") && said.contains("bdr vault import FILE"),
        "{said}"
    );
    // Nobody is there to agree, and it says how to.
    let said = run(&place, "other", &["vault", "import", &file], 3);
    assert!(
        said.contains("1 value new, 0 here already.") && said.contains("--yes"),
        "{said}"
    );
    let dry = data(&place, "other", &["vault", "import", &file, "--dry-run"], 0);
    assert_eq!((&dry["applied"], &dry["added"]), (&false.into(), &1.into()));
    let done = data(&place, "other", &["vault", "import", &file, "--yes"], 0);
    assert_eq!(
        (&done["added"], &done["known"]),
        (&1.into(), &0.into()),
        "{done}"
    );
    run(
        &place,
        "other",
        &["restore", "latest", "--target", &into("with"), "--yes"],
        0,
    );
    let back = walkdir::WalkDir::new(place.path("with"))
        .into_iter()
        .flatten()
        .find(|entry| entry.file_name() == ".env")
        .unwrap();
    assert_eq!(std::fs::read(back.path()).unwrap(), before);
    // Again changes nothing.
    let done = data(&place, "other", &["vault", "import", &file, "--yes"], 0);
    assert_eq!(
        (&done["added"], &done["known"]),
        (&0.into(), &1.into()),
        "{done}"
    );
    // Records of the first machine are still another's to the second.
    assert!(
        !place
            .path("other/state/vault")
            .join("snapshots.key")
            .exists()
    );
}

#[test]
fn a_wrong_passphrase_and_other_files_are_refused() {
    let (place, file) = place();
    run(&place, "bdr", &["vault", "export", &file], 0);
    let output = bdr(&place, "other", &["vault", "import", &file])
        .env("BDR_PASSPHRASE", "wrong")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("the passphrase is wrong, or"),
        "{}",
        stderr(&output)
    );
    let mine = place.tree().join("app/main.py");
    let mine = mine.to_str().unwrap();
    assert!(run(&place, "other", &["vault", "import", mine], 2).contains("not a file of"));
    // Of these, none reaches the vault.
    assert!(!place.path("other/state/vault").exists());
    assert!(run(&place, "bdr", &["vault", "export", mine], 2).contains("not an export"));
    assert_eq!(std::fs::read(mine).unwrap(), b"print(1)\n");
    let bytes = std::fs::read(&file).unwrap();
    for cut in [bytes.len() - 9, bytes.len() / 2, 60, 30, 0] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let said = run(&place, "other", &["vault", "import", &file, "--yes"], 2);
        assert!(
            said.contains("hint: bdr vault export FILE"),
            "{cut}: {said}"
        );
    }
    for at in [40, bytes.len() / 2, bytes.len() - 1] {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        std::fs::write(&file, altered).unwrap();
        run(&place, "other", &["vault", "import", &file, "--yes"], 2);
    }
    std::fs::write(&file, &bytes).unwrap();
    let mut nobody = bdr(&place, "bdr", &["vault", "export", &file]);
    nobody.env_remove("BDR_PASSPHRASE").stdin(Stdio::null());
    let output = nobody.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--passphrase-file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_machine_that_has_sealed_by_a_key_of_its_own_keeps_it() {
    let (place, file) = place();
    run(&place, "bdr", &["vault", "export", &file], 0);
    std::fs::copy(
        place.path("bdr/config.toml"),
        place.path("other/config.toml"),
    )
    .unwrap();
    place.write(
        "app/.env",
        b"API_KEY=ghp_99C7e42F292c6912E7710c838347Ae178B4b\n",
    );
    run(&place, "other", &["backup"], 0);
    let said = run(&place, "other", &["vault", "import", &file], 2);
    assert!(said.contains("BDR_HOME=DIR bdr vault import"), "{said}");
}

#[test]
fn status_asks_again_when_values_came_since_the_export() {
    let (place, file) = place();
    run(&place, "bdr", &["vault", "export", &file, "--armor"], 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let status = data(&place, "bdr", &["status"], 0);
    assert_eq!(status["vault"]["only_here"], 0, "{status}");
    place.write(
        "more/.env",
        b"TOKEN=ghp_77C7e42F292c6912E7710c838347Ae178B4c\n",
    );
    run(&place, "bdr", &["backup"], 0);
    let seen = run(&place, "bdr", &["status"], 0);
    assert!(
        seen.contains("1 since the last export: bdr vault export FILE"),
        "{seen}"
    );
    // The file is renewed, with a passphrase from a file.
    std::fs::write(place.path("secret"), "another one\nnot this\n").unwrap();
    let secret = place.path("secret").to_str().unwrap().to_owned();
    let args = ["vault", "export", &file, "--passphrase-file", &secret];
    assert_eq!(data(&place, "bdr", &args, 0)["values"], 2);
    assert!(!run(&place, "bdr", &["status"], 0).contains("export FILE"));
    let args = [
        "vault",
        "import",
        &file,
        "--passphrase-file",
        &secret,
        "--yes",
    ];
    assert_eq!(data(&place, "other", &args, 0)["added"], 2);
    run(&place, "other", &["vault", "import", &file, "--yes"], 2);
}

#[test]
fn a_new_passphrase_is_typed_twice_and_never_shown() {
    let (place, file) = place();
    let mut terminal = Terminal::start_echoing(&place, &["bdr", "vault", "export", &file]);
    let mut answer = |question: &str, words: &str| {
        let seen = terminal.expect(question);
        assert!(!seen.contains("one two"), "{seen}");
        terminal.wait_for_secret();
        terminal.type_in(words);
    };
    answer("Passphrase", "one two three\r");
    answer("Once more", "one two four\r");
    answer("Passphrase", "one two three\r");
    answer("Once more", "one two three\r");
    let (status, said) = terminal.end();
    assert!(status.success() && !said.contains("one two"), "{said}");
    let import = ["vault", "import", &file, "--yes"];
    let tried = bdr(&place, "other", &import)
        .env("BDR_PASSPHRASE", "one two three")
        .output()
        .unwrap();
    assert!(tried.status.success(), "{}", stderr(&tried));
}

#[test]
fn init_says_what_is_only_on_this_machine() {
    let place = Place::with_repository();
    place.write("app/.env", format!("API_KEY={SECRET}\n").as_bytes());
    let source = format!("tree={}", place.tree().display());
    let said = run(&place, "bdr", &["init", "--yes", "--source", &source], 0);
    assert!(
        said.contains(
            "Only on this machine: 1 secret value. For another one: bdr vault export FILE"
        ),
        "{said}"
    );
}

#[test]
fn another_implementation_of_age_reads_the_file() {
    let (place, file) = place();
    run(&place, "bdr", &["vault", "export", &file], 0);
    let script = "import sys, pyrage; print(pyrage.passphrase.decrypt(open(sys.argv[1], 'rb').read(), 'correct horse battery').decode())";
    let by_python = Command::new("python3").args(["-c", script, &file]).output();
    if let Ok(output) = &by_python
        && output.status.success()
    {
        let text: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(text["format"], "bdr-vault-export");
        assert_eq!(text["values"].as_object().unwrap().len(), 1);
        return;
    }
    if let Some(error) = by_python.ok().map(|output| stderr(&output)) {
        assert!(error.contains("ModuleNotFoundError"), "{error}");
    }
    if Command::new("age").arg("--version").output().is_err() {
        println!("SKIPPED: neither age nor pyrage is here to read the file");
        return;
    }
    // age asks its terminal only.
    let script = format!("age -d {file} | grep -c bdr-vault-export");
    let mut terminal = Terminal::start(&place, &["sh", "-c", &script]);
    terminal.expect("passphrase");
    terminal.type_in("correct horse battery\r");
    let (status, said) = terminal.end();
    assert!(status.success(), "{said}");
}
