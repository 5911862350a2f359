//! Keys of destinations: sheets, words, passphrases, and what a change of keys means.

use std::path::PathBuf;
use std::process::{Command, Output};

use bdr::remote::crypt::{Generated, handed, locked};
use serde_json::Value;

use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, picture};

mod kept;

/// A machine with a backup, and an encrypted destination in a directory.
struct Machine {
    place: Place,
    url: String,
}

impl Machine {
    fn new(options: &[&str]) -> Self {
        let place = Place::with_repository();
        place.write("plain.txt", b"hello");
        place.write("big.log", &b"0123456789abcdef\n".repeat(30_000));
        place.write("noise", &crate::support::noise(300_000));
        place.init();
        let far = place.path("far");
        std::fs::create_dir(&far).unwrap();
        let url = format!("file://{}", far.display());
        let machine = Self { place, url };
        let mut args = vec!["remote", "add", "far", &machine.url];
        args.extend(options);
        machine.with_passphrase("four horses stapled a battery", &args, 0);
        machine
    }

    fn encrypted() -> Self {
        Self::new(&["--encrypt"])
    }

    fn with_passphrase(&self, passphrase: &str, args: &[&str], code: i32) -> Output {
        with_passphrase(&self.place, passphrase, args, code)
    }

    fn key_file(&self) -> PathBuf {
        self.place.path("bdr/far.key")
    }

    /// The lines of the key file, newest first.
    fn secrets(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.key_file()).unwrap();
        let keys = text.lines().filter(|line| line.starts_with("AGE-"));
        keys.map(str::to_owned).collect()
    }

    fn push(&self) -> Value {
        let pushed = self.place.json(&["push", "far"]);
        assert_eq!(pushed["remotes"][0]["ok"], true, "{pushed}");
        pushed["remotes"][0].clone()
    }

    fn work(&self, name: &str) {
        self.place.write(name, name.as_bytes());
        self.place.run(&["backup"], 0);
    }

    fn recipients(&self) -> Vec<String> {
        let shown = self.place.json(&["remote", "show", "far"]);
        let recipients = shown["recipients"].as_array().unwrap().iter();
        recipients
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    }

    /// A file with a key, beside the machine.
    fn identity(&self, name: &str, text: &str) -> String {
        let path = self.place.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The destination's directory of this machine.
    fn prefix(&self) -> PathBuf {
        let mut found = std::fs::read_dir(self.place.path("far/bdr1"))
            .unwrap()
            .flatten();
        let found = found.find(|entry| entry.file_name() != "probe");
        found.unwrap().path()
    }

    fn identities(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.prefix())
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        all.filter(|path| path.to_string_lossy().contains("/identity-"))
            .collect()
    }

    /// A bare machine restores everything with this key.
    fn check_restores(&self, identity: &str, what: &str) {
        let bare = Place::with_repository();
        let out = bare.path("out").display().to_string();
        let args = [
            "restore",
            "--from",
            &self.url,
            "latest",
            "--target",
            &out,
            "--identity",
            identity,
        ];
        bare.run(&args, 0);
        assert_same(
            &picture(&self.place.tree()),
            &picture(&bare.path("out/tree")),
            what,
        );
        bare.run(&["clone", &self.url, "--identity", identity], 0);
        bare.run(&["verify"], 0);
        let ids = |list: &Value| -> Vec<String> {
            let snapshots = list["snapshots"].as_array().unwrap();
            snapshots.iter().map(|s| s["id"].to_string()).collect()
        };
        assert_eq!(
            ids(&bare.json(&["list"])),
            ids(&self.place.json(&["list"])),
            "{what}"
        );
    }
}

fn with_passphrase(place: &Place, passphrase: &str, args: &[&str], code: i32) -> Output {
    let output = place
        .bdr(args)
        .env("BDR_REMOTE_PASSPHRASE", passphrase)
        .output()
        .unwrap();
    let said = stderr(&output) + &stdout(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    output
}

/// A program of the system; `None`, and a line, if it is not there.
fn has(program: &str, argument: &str, what: &str) -> bool {
    let there = Command::new(program).arg(argument).output().is_ok();
    if !there {
        println!("SKIPPED: {what} (no {program})");
    }
    there
}

/// Reads the blocks of a sheet as a camera would.
fn scanned(sheet: &str) -> String {
    // In ASCII, two signs are one module, and a line is one row of them.
    let is_ascii = sheet.contains("##");
    let ascii = |line: &str| -> String {
        line.chars()
            .step_by(2)
            .map(|c| if c == '#' { '█' } else { c })
            .collect()
    };
    let sheet: String = match is_ascii {
        true => sheet
            .lines()
            .filter(|line| line.contains("##"))
            .map(|line| ascii(line) + "\n")
            .collect(),
        false => sheet.to_owned(),
    };
    let per_line = if is_ascii { 1 } else { 2 };
    let is_block = |line: &&str| line.contains(['█', '▀', '▄']);
    let rows: Vec<Vec<char>> = sheet
        .lines()
        .filter(is_block)
        .map(|line| line.chars().collect())
        .collect();
    let width = rows.iter().map(Vec::len).max().unwrap() + 8;
    let scale = 4;
    let dark = |x: usize, y: usize| {
        // A margin of light, as paper has it.
        let (Some(x), Some(y)) = ((x / scale).checked_sub(4), (y / scale).checked_sub(8)) else {
            return false;
        };
        let sign = rows
            .get(y / per_line)
            .and_then(|row| row.get(x))
            .copied()
            .unwrap_or(' ');
        sign == '█' || sign == if y % per_line == 0 { '▀' } else { '▄' }
    };
    let height = rows.len() * per_line + 16;
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width * scale, height * scale, |x, y| {
            if dark(x, y) { 0 } else { 255 }
        });
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "{sheet}");
    grids[0].decode().unwrap().1
}

#[test]
fn the_sheet_has_the_key_as_text_words_and_code() {
    let machine = Machine::encrypted();
    let sheet = stdout(
        &machine
            .place
            .run(&["remote", "key", "show", "far", "--sheet"], 0),
    );
    let secret = machine.secrets().remove(0);
    assert!(sheet.lines().any(|line| line == secret), "{sheet}");
    assert!(
        sheet.contains(&machine.url) && sheet.contains("bdr clone"),
        "{sheet}"
    );
    assert_eq!(scanned(&sheet), secret);
    let mut command = machine
        .place
        .bdr(&["remote", "key", "show", "far", "--sheet"]);
    let drawn = stdout(&command.env("LC_ALL", "C.UTF-8").output().unwrap());
    assert!(drawn.contains('▀'), "{drawn}");
    assert_eq!(scanned(&drawn), secret);
    // Another implementation of BIP-39 says the same words.
    let key = Generated::parse(&secret).unwrap();
    let words = key.words().join(" ");
    let entropy = bip39::Mnemonic::parse_normalized(&words).unwrap();
    assert_eq!(
        *Generated::of_words(&entropy.to_string()).unwrap().secret,
        secret
    );
    let numbered: Vec<&str> = sheet.split_whitespace().collect();
    for (at, word) in key.words().iter().enumerate() {
        let number = format!("{}.", at + 1);
        let found = numbered
            .windows(2)
            .any(|pair| pair[0] == number && pair[1] == *word);
        assert!(found, "{number} {word}: {sheet}");
    }
    let plain = stdout(&machine.place.run(&["remote", "key", "show", "far"], 0));
    let later = (crate::support::now() + chrono::TimeDelta::hours(3)).to_rfc3339();
    let mut bdr = machine.place.bdr(&["remote", "key", "show", "far"]);
    let later = stdout(&bdr.env("BDR_TEST_NOW", later).output().unwrap());
    assert!(later.contains("made 3 h ago"), "{later}");
    assert!(
        !plain.contains("AGE-SECRET") && plain.contains("far.key"),
        "{plain}"
    );
    let data = machine.place.json(&["remote", "key", "show", "far"]);
    assert!(!data.to_string().contains("AGE-SECRET"), "{data}");
    let asked = machine
        .place
        .json(&["remote", "key", "show", "far", "--secret"]);
    assert_eq!(asked["recipients"][0]["secret_key"], secret.as_str());
    assert_eq!(asked["recipients"][0]["words"], words.as_str());
    let secrets = stdout(
        &machine
            .place
            .run(&["remote", "key", "show", "far", "--secret"], 0),
    );
    assert_eq!(secrets.trim(), secret);
}

/// Nothing but the sheet: its commands, as they are.
#[test]
fn what_the_sheet_says_brings_everything_back() {
    let machine = Machine::encrypted();
    machine.push();
    // A key that was changed, so that the sheet has to lead to an older one.
    machine.place.run(&["remote", "key", "rotate", "far"], 0);
    machine.work("later.txt");
    machine.push();
    let sheet = stdout(
        &machine
            .place
            .run(&["remote", "key", "show", "far", "--sheet"], 0),
    );
    let before = picture(&machine.place.tree());
    let commands = |after: &str| -> String {
        let part = sheet
            .split(after)
            .nth(1)
            .unwrap_or_else(|| panic!("{after}: {sheet}"));
        let lines = part.lines().skip_while(|line| !line.starts_with("    "));
        let lines = lines.take_while(|line| line.starts_with("    "));
        lines
            .map(|line| format!("{}\n", line.trim_start()))
            .collect()
    };
    let secret = sheet
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
        .unwrap();
    // With bdr; the tree is gone, and a new machine is at the same place.
    std::fs::remove_dir_all(machine.place.tree()).unwrap();
    std::fs::create_dir(machine.place.tree()).unwrap();
    let bare = Place::with_repository();
    let run = |place: &Place, dir: &std::path::Path, script: &str| {
        let like = place.bdr(&[]);
        let bin = std::path::Path::new(env!("CARGO_BIN_EXE_bdr"))
            .parent()
            .unwrap();
        let mut path = vec![bin.to_path_buf()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let output = Command::new("sh")
            .args(["-ec", script])
            .env_clear()
            .envs(
                like.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("PATH", std::env::join_paths(path).unwrap())
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}: {}{}",
            stderr(&output),
            stdout(&output)
        );
    };
    let work = bare.path("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("key.txt"), secret).unwrap();
    run(&bare, &work, &commands("With bdr:"));
    assert_same(&before, &picture(&machine.place.tree()), "with bdr");

    // Without bdr: the directory, as the sheet names it.
    let named = sheet
        .split("directory\nbdr1/")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert_eq!(machine.prefix().file_name().unwrap(), named);
    let contents = |dir: &std::path::Path| -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
        let all = picture(dir).into_iter();
        all.filter(|(_, object)| object.kind == 'f')
            .map(|(path, object)| (path, object.content))
            .collect()
    };
    let wanted = contents(&machine.place.tree());
    for (part, program, argument, tree) in [
        ("With Python", "python3", "--version", "recovered/tree"),
        (
            "with age and tar",
            "age",
            "--version",
            "recovered/files/tree",
        ),
    ] {
        if !has(program, argument, "the commands of the sheet") {
            continue;
        }
        let there = bare.path(program);
        let copied = Command::new("cp")
            .arg("-r")
            .arg(machine.prefix())
            .arg(&there)
            .status()
            .unwrap();
        assert!(copied.success());
        std::fs::write(there.join("key.txt"), format!("{secret}\n")).unwrap();
        std::fs::create_dir_all(bare.path("home")).unwrap();
        run(&bare, &there, &commands(part));
        let found = contents(&bare.path("home").join(tree));
        match program {
            "python3" => assert_eq!(found, wanted),
            // The last full backup: without what came later.
            _ => assert_eq!(
                found[&PathBuf::from("big.log")],
                wanted[&PathBuf::from("big.log")]
            ),
        }
        std::fs::remove_dir_all(bare.path("home/recovered")).unwrap();
    }
}

#[test]
fn words_a_sheet_and_standard_input_are_identities() {
    let machine = Machine::encrypted();
    machine.push();
    let secret = machine.secrets().remove(0);
    let words = Generated::parse(&secret).unwrap().words();
    let sheet = stdout(
        &machine
            .place
            .run(&["remote", "key", "show", "far", "--sheet"], 0),
    );
    let rows: Vec<String> = words
        .chunks(4)
        .map(|row| row.join("  ").to_uppercase())
        .collect();
    let short: Vec<&str> = words
        .iter()
        .map(|word| &word[..word.len().min(4)])
        .collect();
    for (name, text) in [
        ("words", rows.join("\n")),
        ("short", format!("# from paper\n{}", short.join(" "))),
        ("sheet", sheet),
        ("small", secret.to_lowercase()),
    ] {
        let file = machine.identity(name, &text);
        let bare = Place::with_repository();
        let args = [
            "cat",
            "--from",
            &machine.url,
            "latest",
            "tree/plain.txt",
            "--identity",
            &file,
        ];
        assert_eq!(stdout(&bare.run(&args, 0)), "hello", "{name}");
        let mut command = bare.bdr(&[
            "cat",
            "--from",
            &machine.url,
            "latest",
            "tree/plain.txt",
            "--identity",
            "-",
        ]);
        let output = command
            .stdin(std::fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        assert_eq!(stdout(&output), "hello", "{name}: {}", stderr(&output));
    }
    let bare = Place::with_repository();
    let says = |text: &str| {
        let file = machine.identity("wrong", text);
        stderr(&bare.run(&["list", "--from", &machine.url, "--identity", &file], 2))
    };
    let with = |at: usize, word: &str| {
        let mut changed = words.clone();
        changed[at] = word;
        changed.join(" ")
    };
    assert!(
        says(&with(4, "tabel"))
            .contains("word 5, `tabel`, is not in the list of words; do you mean `table`?")
    );
    let swapped = match words[2] == words[3] {
        true => with(2, if words[2] == "zoo" { "able" } else { "zoo" }),
        false => {
            let mut changed = words.clone();
            changed.swap(2, 3);
            changed.join(" ")
        }
    };
    // One of 256 passes as another key, which opens nothing.
    let said = says(&swapped);
    assert!(
        said.contains("checksum") || said.contains("none of the identities"),
        "{said}"
    );
    assert!(says(&words[..23].join(" ")).contains("these are 23 words"));
    assert!(says(&secret[..70]).contains("cut off or changed"));
    assert!(says("").contains("it has no key"));
    let said = stderr(&bare.run(&["list", "--from", &machine.url], 2));
    assert!(said.contains("--identity FILE"), "{said}");
    let said = stderr(&bare.run(&["list", "--identity", "x"], 2));
    assert!(said.contains("--from"), "{said}");
    let said = stderr(&bare.run(&["verify", "--identity", "x"], 2));
    assert!(said.contains("--remote"), "{said}");
}

#[test]
fn a_passphrase_is_enough_on_a_bare_machine() {
    let machine = Machine::new(&["--passphrase"]);
    machine.push();
    let identities = machine.identities();
    assert_eq!(identities.len(), 1, "{identities:?}");
    let bare = Place::with_repository();
    let list = ["list", "--from", &machine.url];
    let said = stderr(&bare.run(&list, 2));
    assert!(
        said.contains("BDR_REMOTE_PASSPHRASE") && said.contains("--passphrase-file"),
        "{said}"
    );
    with_passphrase(&bare, "four horses stapled a battery", &list, 0);
    let said = stderr(&with_passphrase(&bare, "wrong", &list, 2));
    assert!(said.contains("the passphrase is wrong"), "{said}");
    let file = machine.identity("passphrase", "four horses stapled a battery\nignored\n");
    bare.run(&[&list[..], &["--passphrase-file", &file]].concat(), 0);
    bare.run(&["clone", &machine.url, "--passphrase-file", &file], 0);
    bare.run(&["verify"], 0);
    // Whose it is, is asked with the same passphrase.
    let host =
        bare.json(&["machines", &machine.url, "--passphrase-file", &file])["machines"][0]["host"]
            .clone();
    bare.run(
        &[
            "list",
            "--from",
            &machine.url,
            "--machine",
            host.as_str().unwrap(),
            "--passphrase-file",
            &file,
        ],
        0,
    );
    // Without bdr.
    if has("python3", "--version", "a passphrase with recover.py") {
        let run = |passphrase: &str| {
            let mut python = Command::new("python3");
            python.arg(machine.prefix().join("recover.py")).arg("list");
            python
                .env("BDR_REMOTE_PASSPHRASE", passphrase)
                .output()
                .unwrap()
        };
        let done = run("four horses stapled a battery");
        assert!(
            done.status.success() && !done.stdout.is_empty(),
            "{}",
            stderr(&done)
        );
        let done = run("wrong");
        assert!(
            stderr(&done).contains("the passphrase is wrong"),
            "{}",
            stderr(&done)
        );
    }
    // Damaged there: named, and the key itself still opens everything.
    let whole = std::fs::read(&identities[0]).unwrap();
    for (at, damaged) in [whole[..whole.len() - 1].to_vec(), {
        let mut changed = whole.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        changed
    }]
    .into_iter()
    .enumerate()
    {
        let _ = std::fs::remove_file(&identities[0]);
        std::fs::write(&identities[0], damaged).unwrap();
        let said = stderr(&with_passphrase(
            &bare,
            "four horses stapled a battery",
            &list,
            2,
        ));
        assert!(
            said.contains("is damaged") && said.contains("--identity"),
            "{at}: {said}"
        );
    }
    let key = machine.key_file().display().to_string();
    machine.check_restores(&key, "with the key");
    // A new id: the passphrase works there too.
    std::fs::remove_file(&identities[0]).unwrap();
    std::fs::write(&identities[0], whole).unwrap();
    machine.place.run(&["remote", "reset", "--yes"], 0);
    machine.push();
    let new = stdout(&bare.run(&["machines", &machine.url, "--passphrase-file", &file], 0));
    assert_eq!(
        new.lines().filter(|line| line.contains("snapshot")).count(),
        2,
        "{new}"
    );
}

#[test]
fn a_passphrase_can_be_added_changed_and_removed_later() {
    let machine = Machine::encrypted();
    machine.push();
    let add = ["remote", "key", "add", "far", "--passphrase"];
    let said = stderr(&machine.with_passphrase("short", &add, 0));
    assert!(said.contains("That passphrase is short"), "{said}");
    assert_eq!(machine.identities().len(), 1, "it is put there at once");
    let bare = Place::with_repository();
    let list = ["list", "--from", &machine.url];
    with_passphrase(&bare, "short", &list, 0);
    let said = stdout(&machine.with_passphrase("one or two better words", &add, 0));
    let old = machine.identities();
    assert_eq!(old.len(), 2);
    assert!(
        said.contains("still opens it: bdr remote key remove far identity-"),
        "{said}"
    );
    let name = said
        .split("remove far ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    machine
        .place
        .run(&["remote", "key", "remove", "far", name, "--dry-run"], 0);
    assert_eq!(machine.identities().len(), 2);
    let removed = stdout(
        &machine
            .place
            .run(&["remote", "key", "remove", "far", name], 0),
    );
    assert!(removed.contains("rotate"), "{removed}");
    assert_eq!(machine.identities().len(), 1);
    with_passphrase(&bare, "short", &list, 2);
    with_passphrase(&bare, "one or two better words", &list, 0);
    // It is not put there again.
    machine.work("later");
    machine.push();
    assert_eq!(machine.identities().len(), 1);
    // Without a secret key here, there is nothing to encrypt; it can be given.
    let words = Generated::parse(&machine.secrets()[0])
        .unwrap()
        .words()
        .join(" ");
    let words = machine.identity("words", &words);
    std::fs::remove_file(machine.key_file()).unwrap();
    let said = stderr(&machine.with_passphrase("a third one, of words", &add, 2));
    assert!(said.contains("--identity FILE"), "{said}");
    machine.with_passphrase(
        "a third one, of words",
        &[&add[..], &["--identity", &words]].concat(),
        0,
    );
    with_passphrase(&bare, "a third one, of words", &list, 0);
}

/// Whoever opens only what is older hears that there may be more, by the exit code too.
#[track_caller]
fn check_older(machine: &Machine, old: &str) {
    let bare = Place::with_repository();
    let clone = ["clone", &machine.url, "--identity", old];
    let planned = stdout(&bare.run(&[&clone[..], &["--dry-run"]].concat(), 3));
    assert!(planned.contains("newer backups"), "{planned}");
    let cloned = stdout(&bare.run(&clone, 3));
    assert!(cloned.contains("newer backups"), "{cloned}");
    let pulled = bare.run(&["pull", &machine.url, "--identity", old, "--json"], 3);
    let pulled = stdout(&pulled);
    assert!(
        pulled.contains(r#""problems":[{"name":"pushes/"#),
        "{pulled}"
    );
    let pulled = stdout(&bare.run(&["pull", &machine.url, "--identity", old], 3));
    assert!(pulled.contains("of what could be read"), "{pulled}");
    // What is in the clone is what was asked for, and so is a backup that is named.
    let out = bare.path("cloned").display().to_string();
    bare.run(&["restore", "latest", "--target", &out], 0);
    let named = bare.json(&["list"])["snapshots"][0]["id"].take();
    let out = bare.path("named").display().to_string();
    let named = named.as_str().unwrap();
    let from = ["--from", &machine.url, "--identity", old, "--target", &out];
    bare.run(&[&["restore", named][..], &from].concat(), 0);
}

/// After a change of keys a new key alone opens everything, the old one what was pushed before; at any
/// number of pushes before and after.
#[test]
fn a_new_key_alone_opens_everything() {
    for (before, after) in [(1, 1), (3, 9), (9, 2), (1, 0)] {
        let machine = Machine::encrypted();
        for day in 0..before {
            machine.work(&format!("before-{day}"));
            machine.push();
        }
        let old = machine.identity("old.txt", &machine.secrets()[0]);
        let then = picture(&machine.place.tree());
        let dry = stdout(
            &machine
                .place
                .run(&["remote", "key", "rotate", "far", "--dry-run"], 0),
        );
        assert!(dry.contains("Nothing was changed"), "{dry}");
        assert_eq!(machine.secrets().len(), 1);
        let said = stdout(&machine.place.run(&["remote", "key", "rotate", "far"], 0));
        assert!(
            said.contains("still opens what was pushed until now"),
            "{said}"
        );
        assert_eq!(machine.secrets().len(), 2, "the old one stays");
        let new = machine.identity("new.txt", &machine.secrets()[0]);
        assert_eq!(machine.recipients().len(), 1);
        for day in 0..after {
            machine.work(&format!("after-{day}"));
            machine.push();
        }
        if after == 0 {
            // Nothing else is new, and still there has to be a record for the new key.
            assert!(machine.push()["push"].is_number());
            assert!(machine.push()["push"].is_null());
        }
        machine.check_restores(&new, "the new key");
        machine.check_restores(&machine.key_file().display().to_string(), "the key file");
        // The old one: what it was for.
        let bare = Place::with_repository();
        let out = bare.path("out").display().to_string();
        let args = [
            "restore",
            "--from",
            &machine.url,
            "latest",
            "--target",
            &out,
            "--identity",
            &old,
        ];
        let said = stdout(&bare.run(&args, 3));
        assert!(said.contains("there may be a newer one"), "{said}");
        assert_same(&then, &picture(&bare.path("out/tree")), "the old key");
        check_older(&machine, &old);
        // And without bdr.
        if has("python3", "--version", "a new key with recover.py") {
            let mut python = Command::new("python3");
            python
                .arg(machine.prefix().join("recover.py"))
                .args(["--identity", &new, "verify"]);
            let done = python.output().unwrap();
            assert!(done.status.success(), "{}{}", stderr(&done), stdout(&done));
        }
        let shown = machine.place.json(&["remote", "key", "show", "far"]);
        assert_eq!(shown["pushes"].as_array().unwrap().len(), 2, "{shown}");
        assert_eq!(shown["pushes"][1]["since"], before + 1, "{shown}");
        assert_eq!(shown["recipients"][1]["current"], false, "{shown}");
        assert_eq!(
            shown["recipients"][1]["secret"],
            serde_json::json!(["file", "other-key"])
        );
    }
}

#[test]
fn somebody_new_is_told_what_they_cannot_read() {
    let machine = Machine::encrypted();
    machine.push();
    let (plain, past) = (Generated::new(), Generated::new());
    let add = |key: &Generated, more: &[&str]| {
        let args = [&["remote", "key", "add", "far", &key.recipient], more].concat();
        stdout(&machine.place.run(&args, 0))
    };
    let said = add(&plain, &[]);
    assert!(
        said.contains("What was pushed until now is not for it") && said.contains("--past"),
        "{said}"
    );
    machine.work("after.txt");
    machine.push();
    let file = machine.identity("plain.txt", &plain.secret);
    let bare = Place::with_repository();
    let list = stdout(&bare.run(&["list", "--from", &machine.url, "--identity", &file], 0));
    assert!(!list.is_empty());
    let cat = |path: &str, code: i32| {
        bare.run(
            &[
                "cat",
                "--from",
                &machine.url,
                "latest",
                path,
                "--identity",
                &file,
            ],
            code,
        )
    };
    assert_eq!(stdout(&cat("tree/after.txt", 0)), "after.txt");
    let old = bare
        .bdr(&[
            "cat",
            "--from",
            &machine.url,
            "latest",
            "tree/noise",
            "--identity",
            &file,
        ])
        .output()
        .unwrap();
    let first = machine.recipients()[0].clone();
    assert_ne!(old.status.code(), Some(0));
    assert!(
        stderr(&old).contains(&first),
        "the older key is named: {}",
        stderr(&old)
    );
    // A clone has what it can have, and says what is not there.
    let cloned = bare.run(&["clone", &machine.url, "--identity", &file], 3);
    let said = stderr(&cloned) + &stdout(&cloned);
    assert!(
        said.contains(&first) && said.contains("not fetched"),
        "{said}"
    );

    let said = add(&past, &["--past"]);
    assert!(said.contains("what was pushed until now"), "{said}");
    machine.work("third.txt");
    machine.push();
    let file = machine.identity("past.txt", &past.secret);
    machine.check_restores(&file, "with the past");
    let again = machine
        .place
        .run(&["remote", "key", "add", "far", &past.recipient], 2);
    assert!(stderr(&again).contains("already"));
    let nonsense = machine
        .place
        .run(&["remote", "key", "add", "far", "age1nonsense"], 2);
    assert!(stderr(&nonsense).contains("is no recipient"));

    // Removed again: what was pushed stays readable, and that it was given the key is said.
    let said = stdout(
        &machine
            .place
            .run(&["remote", "key", "remove", "far", &past.recipient], 0),
    );
    assert!(
        said.contains("stays readable") && said.contains("bdr remote key rotate far"),
        "{said}"
    );
    let said = stdout(&machine.place.run(
        &["remote", "key", "remove", "far", &plain.recipient[..20]],
        0,
    ));
    assert!(
        said.contains("stays readable") && !said.contains("But it was given"),
        "{said}"
    );
    let last = machine
        .place
        .run(&["remote", "key", "remove", "far", &first], 2);
    assert!(stderr(&last).contains("the only one"), "{}", stderr(&last));
    machine.work("fourth.txt");
    machine.push();
    let bare = Place::with_repository();
    let file = machine.identity("plain.txt", &plain.secret);
    let list = bare.run(
        &[
            "list",
            "--from",
            &machine.url,
            "--identity",
            &file,
            "--json",
        ],
        4,
    );
    let said = stderr(&list);
    assert!(
        said.contains("for another key; the newest push that this one opens is 3"),
        "{said}"
    );
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let snapshots = list["data"]["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 3, "what it was for: {list}");
    machine.check_restores(
        &machine.key_file().display().to_string(),
        "the key that stays",
    );
}

#[test]
fn a_key_is_not_changed_without_the_old_one() {
    let machine = Machine::encrypted();
    machine.push();
    let secret = machine.secrets().remove(0);
    std::fs::remove_file(machine.key_file()).unwrap();
    let before = machine.recipients();
    let said = stderr(&machine.place.run(&["remote", "key", "rotate", "far"], 2));
    assert!(
        said.contains("--identity FILE") && said.contains("bdr remote reset"),
        "{said}"
    );
    assert_eq!(machine.recipients(), before);
    assert!(!machine.key_file().exists());
    let said = stderr(
        &machine
            .place
            .run(&["remote", "key", "show", "far", "--sheet"], 2),
    );
    assert!(said.contains("rotate"), "{said}");
    let old = machine.identity("old.txt", &secret);
    machine
        .place
        .run(&["remote", "key", "rotate", "far", "--identity", &old], 0);
    machine.push();
    let new = machine.identity("new.txt", &machine.secrets()[0]);
    machine.check_restores(&new, "after a rotation with the old key from elsewhere");
    // Not encrypted: there are no keys.
    machine.place.configure(&format!(
        "[remote.plain]\nurl = \"{}/plain\"\n",
        machine.url
    ));
    for args in [["rotate", "plain"], ["add", "plain"], ["remove", "plain"]] {
        let mut line = vec!["remote", "key"];
        line.extend(args);
        if args[0] != "rotate" {
            line.push("age1x");
        }
        let said = stderr(&machine.place.run(&line, 2));
        assert!(said.contains("is not encrypted"), "{said}");
    }
    let said = stdout(&machine.place.run(&["remote", "key", "show", "plain"], 0));
    assert!(said.contains("is not encrypted"), "{said}");
}

/// Whoever can write there can put identities; none of them hurts.
#[test]
fn foreign_identities_there_change_nothing() {
    let machine = Machine::new(&["--passphrase"]);
    machine.push();
    let foreign = [Generated::new(), Generated::new()];
    let prefix = machine.prefix();
    let put = |bytes: &[u8]| {
        std::fs::write(prefix.join(bdr::remote::identity::name_of(bytes)), bytes).unwrap();
    };
    put(&locked(&foreign, "four horses stapled a battery").unwrap());
    put(&handed(&foreign, &machine.recipients()).unwrap());
    put(b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 60\nAAAA\n--- AAAA\n");
    put(b"nonsense");
    std::fs::create_dir(prefix.join("identity-0000000z.age")).unwrap();
    let bare = Place::with_repository();
    with_passphrase(
        &bare,
        "four horses stapled a battery",
        &["list", "--from", &machine.url],
        0,
    );
    machine.check_restores(
        &machine.key_file().display().to_string(),
        "with foreign identities there",
    );
}

#[test]
fn the_key_follows_a_new_name_and_is_never_written_over() {
    let machine = Machine::encrypted();
    machine.push();
    machine.place.run(&["remote", "rename", "far", "away"], 0);
    assert!(!machine.key_file().exists() && machine.place.path("bdr/away.key").is_file());
    let shown = machine.place.json(&["remote", "key", "show", "away"]);
    assert!(shown["recipients"][0]["made"].is_string(), "{shown}");
    machine.place.run(&["list", "--from", "away"], 0);
    machine.place.run(&["remote", "remove", "away"], 0);
    let said = stderr(
        &machine
            .place
            .run(&["remote", "add", "away", &machine.url, "--encrypt"], 2),
    );
    assert!(said.contains("away.key"), "{said}");
}
