//! What a machine pushed is signed: what somebody else wrote below its prefix is named, and not followed.

use std::path::{Path, PathBuf};

use crate::support::Place;
use crate::support::cli::{stderr, stdout};

/// A machine that pushes to a directory, to which somebody else can write.
struct Victim {
    place: Place,
    disk: tempfile::TempDir,
    encrypted: bool,
}

/// Returns the directory of what a machine knows of destinations.
fn state(place: &Place) -> PathBuf {
    let remotes = place.path("bdr/state/remotes");
    let dirs = std::fs::read_dir(remotes)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut dirs = dirs.filter(|path| path.join("machine.json").exists());
    dirs.next().unwrap()
}

fn machine() -> Place {
    let place = Place::with_repository();
    place.write("mine.txt", b"mine\n");
    place.init();
    place
}

fn id(place: &Place) -> String {
    let json = std::fs::read(state(place).join("machine.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["id"].as_str().unwrap().to_owned()
}

/// Every record at a destination, by its number.
fn records(disk: &Path, machine: &str) -> Vec<PathBuf> {
    let dir = disk.join("bdr1").join(machine).join("pushes");
    let all = std::fs::read_dir(dir).unwrap();
    let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

impl Victim {
    fn new(encrypted: bool) -> Self {
        let (place, disk) = (machine(), tempfile::tempdir().unwrap());
        let victim = Self {
            place,
            disk,
            encrypted,
        };
        let mut args = vec!["remote", "add", "disk", victim.url()];
        args.extend(encrypted.then_some("--encrypt"));
        victim.place.run(&args, 0);
        victim.place.run(&["backup"], 0);
        victim.place.run(&["push"], 0);
        victim
    }

    fn url(&self) -> &str {
        self.disk.path().to_str().unwrap()
    }

    fn recipient(&self) -> String {
        let shown = self.place.json(&["remote", "show", "disk"]);
        shown["recipients"][0].as_str().unwrap().to_owned()
    }

    /// Somebody who can write there, and who knows the machine's id and the public key, pushes under its
    /// name, as bdr would.
    fn attack(&self) -> Place {
        let attacker = machine();
        attacker.write("evil.txt", b"evil\n");
        let recipient = self.encrypted.then(|| self.recipient());
        let mut args = vec!["remote", "add", "disk", self.url()];
        if let Some(recipient) = &recipient {
            args.extend(["--recipient", recipient]);
        }
        attacker.run(&args, 0);
        // Once elsewhere: then there is an id to be replaced by the other's.
        let elsewhere = tempfile::tempdir().unwrap();
        attacker.run(
            &["remote", "add", "other", elsewhere.path().to_str().unwrap()],
            0,
        );
        attacker.run(&["backup"], 0);
        attacker.run(&["push", "other"], 0);
        let stolen = std::fs::read(state(&self.place).join("machine.json")).unwrap();
        std::fs::write(state(&attacker).join("machine.json"), stolen).unwrap();
        let before = records(self.disk.path(), &id(&self.place)).len();
        let pushed = attacker.json(&["push", "disk"]);
        assert_eq!(pushed["remotes"][0]["ok"], true, "{pushed}");
        assert_eq!(
            records(self.disk.path(), &id(&self.place)).len(),
            before + 1
        );
        attacker
    }

    /// The options with which a bare machine opens it.
    fn key(&self) -> Vec<String> {
        match self.encrypted {
            true => vec![
                "--identity".to_owned(),
                self.place.path("bdr/disk.key").to_str().unwrap().to_owned(),
            ],
            false => Vec::new(),
        }
    }

    /// What `recover.py` sees of the newest backup, and says.
    fn recovered(&self, key: &[String]) -> Option<(String, String)> {
        let python = std::process::Command::new("python3")
            .arg(
                self.disk
                    .path()
                    .join("bdr1")
                    .join(id(&self.place))
                    .join("recover.py"),
            )
            .args(key)
            .args(["ls", "latest"])
            .output();
        let Ok(output) = python else {
            println!("SKIPPED: no python3: recover.py is not tried");
            return None;
        };
        Some((stdout(&output), stderr(&output)))
    }

    /// What a bare machine sees: the files of the newest backup, and what it is told.
    fn seen(&self, key: &[String]) -> (String, String) {
        let bare = Place::with_repository();
        let mut args = vec!["ls", "latest", "--from", self.url()];
        args.extend(key.iter().map(String::as_str));
        let output = bare.bdr(&args).output().unwrap();
        (stdout(&output), stderr(&output))
    }
}

#[test]
fn what_somebody_else_wrote_there_is_named_and_not_followed() {
    for encrypted in [true, false] {
        let victim = Victim::new(encrypted);
        victim.attack();
        // The machine itself, and whoever has its key file or sheet.
        let own = victim.place.run(&["ls", "latest", "--from", "disk"], 0);
        assert!(stdout(&own).contains("mine.txt") && !stdout(&own).contains("evil"));
        assert!(
            stderr(&own).contains("somebody else wrote it"),
            "{}",
            stderr(&own)
        );
        if encrypted {
            let (files, said) = victim.seen(&victim.key());
            assert!(
                files.contains("mine.txt") && !files.contains("evil"),
                "{files}"
            );
            assert!(said.contains("somebody else wrote it"), "{said}");
            let sheet = victim.place.path("sheet.txt");
            let text = stdout(
                &victim
                    .place
                    .run(&["remote", "key", "show", "disk", "--sheet"], 0),
            );
            std::fs::write(&sheet, &text).unwrap();
            let sheet = ["--identity".to_owned(), sheet.to_str().unwrap().to_owned()];
            let (files, said) = victim.seen(&sheet);
            assert!(
                files.contains("mine.txt") && !files.contains("evil"),
                "{files}"
            );
            assert!(said.contains("somebody else wrote it"), "{said}");
            for key in [&victim.key()[..], &sheet] {
                if let Some((files, said)) = victim.recovered(key) {
                    assert!(
                        files.contains("mine.txt") && !files.contains("evil"),
                        "{files}{said}"
                    );
                    assert!(said.contains("somebody else wrote it"), "{said}");
                }
            }
        }
        // A check without a key says so.
        let output = victim
            .place
            .run(&["--json", "verify", "--remote", "disk"], 4);
        let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let faults = checked["data"]["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 1, "{checked}");
        assert!(
            faults[0]["reason"]
                .as_str()
                .unwrap()
                .contains("somebody else")
        );
        assert_eq!(checked["data"]["signer_known"], true);
        // The next push goes on, says it, and comes after: whoever knows nothing of signatures reads
        // the machine's own again.
        victim.place.write("later.txt", b"later\n");
        victim.place.run(&["backup"], 0);
        let pushed = victim.place.json(&["push"]);
        let strangers = pushed["remotes"][0]["strangers"].as_array().unwrap();
        assert_eq!(strangers.len(), 1, "{pushed}");
        let key: Vec<String> = match encrypted {
            true => {
                let secret = victim.place.path("secret.txt");
                let text = victim
                    .place
                    .run(&["remote", "key", "show", "disk", "--secret"], 0);
                std::fs::write(&secret, stdout(&text)).unwrap();
                vec!["--identity".to_owned(), secret.to_str().unwrap().to_owned()]
            }
            false => Vec::new(),
        };
        let (files, _) = victim.seen(&key);
        assert!(
            files.contains("later.txt") && !files.contains("evil"),
            "{files}"
        );
        if let Some((files, said)) = victim.recovered(&key) {
            assert!(
                files.contains("later.txt") && !files.contains("evil"),
                "{files}{said}"
            );
        }
        // It is said once for each; afterwards nothing new was written there.
        victim.place.write("more.txt", b"more\n");
        victim.place.run(&["backup"], 0);
        let pushed = victim.place.json(&["push"]);
        assert_eq!(pushed["remotes"][0]["strangers"], serde_json::json!([]));
    }
}

/// Whoever uses up the numbers of pushes takes nothing away: pushes go on below, and each reader who knows
/// the signature finds them.
#[test]
fn a_record_with_the_last_number_stops_nothing() {
    let victim = Victim::new(false);
    let own = records(victim.disk.path(), &id(&victim.place))
        .pop()
        .unwrap();
    let last = own.with_file_name("9999999999-01ARZ3NDEKTSV4RRFFQ69G5FAV");
    std::fs::copy(&own, &last).unwrap();
    for n in 0..3 {
        victim
            .place
            .write("later.txt", format!("later {n}\n").as_bytes());
        victim.place.run(&["backup"], 0);
        let pushed = victim.place.json(&["push"]);
        assert_eq!(
            pushed["remotes"][0]["strangers"].as_array().unwrap().len(),
            1
        );
        let status = victim.place.json(&["status"]);
        assert_eq!(status["remotes"][0]["written_by_others"], 1, "{status}");
    }
    let own = stdout(
        &victim
            .place
            .run(&["cat", "latest:later.txt", "--from", "disk"], 0),
    );
    assert_eq!(own, "later 2\n");
    victim.place.run(&["verify", "--remote", "disk"], 4);
    std::fs::remove_file(last).unwrap();
    victim.place.run(&["verify", "--remote", "disk"], 0);
    let status = victim.place.json(&["status"]);
    assert_eq!(status["remotes"][0]["written_by_others"], 0, "{status}");
}

#[test]
fn a_record_that_was_changed_or_whose_signature_was_taken_off_does_not_count() {
    let victim = Victim::new(false);
    victim.place.write("later.txt", b"later\n");
    victim.place.run(&["backup"], 0);
    victim.place.run(&["push"], 0);
    let newest = records(victim.disk.path(), &id(&victim.place))
        .pop()
        .unwrap();
    let whole = std::fs::read(&newest).unwrap();
    let text = String::from_utf8_lossy(&whole[..whole.iter().position(|b| *b == b'\n').unwrap()])
        .into_owned();
    let rest = &whole[text.len()..];
    let at = text.find(",\"signature\":\"").unwrap();
    let signer = text.find(",\"signer\":\"").unwrap();
    let unsigned = format!("{}}}", &text[..at]);
    let anonymous = format!("{}}}", &text[..signer]);
    let moved = text.replace("\"since\":0", "\"since\":0 ");
    for changed in [unsigned, anonymous, moved] {
        assert_ne!(changed, text);
        std::fs::write(&newest, [changed.as_bytes(), rest].concat()).unwrap();
        let own = victim.place.run(&["ls", "latest", "--from", "disk"], 0);
        assert!(!stdout(&own).contains("later.txt"), "{changed}");
        assert!(stderr(&own).contains("sign"), "{}", stderr(&own));
        if let Some((files, said)) = victim.recovered(&[]) {
            let is_known = changed.contains("signer");
            assert!(!is_known || !files.contains("later.txt"), "{files}");
            assert!(!is_known || said.contains("sign"), "{said}");
        }
        victim.place.run(&["verify", "--remote", "disk"], 4);
    }
    std::fs::write(&newest, whole).unwrap();
    victim.place.run(&["verify", "--remote", "disk"], 0);
}

/// An older record that the newest builds on has to be by the same machine, even for whoever knows
/// neither.
#[test]
fn what_a_signed_record_builds_on_is_signed_by_the_same() {
    let victim = Victim::new(false);
    victim.place.write("later.txt", b"later\n");
    victim.place.run(&["backup"], 0);
    victim.attack();
    let other = records(victim.disk.path(), &id(&victim.place))
        .pop()
        .unwrap();
    for n in 0..8 {
        victim
            .place
            .write("later.txt", format!("later {n}\n").as_bytes());
        victim.place.run(&["backup"], 0);
        victim.place.run(&["push"], 0);
    }
    let newest = records(victim.disk.path(), &id(&victim.place))
        .pop()
        .unwrap();
    let line = std::fs::read(&newest).unwrap();
    let line = line.split(|b| *b == b'\n').next().unwrap();
    let head: serde_json::Value = serde_json::from_slice(line).unwrap();
    let base = head["base"].as_str().unwrap();
    let all = records(victim.disk.path(), &id(&victim.place));
    let base = all
        .iter()
        .find(|path| path.to_str().unwrap().ends_with(base))
        .unwrap();
    std::fs::copy(other, base).unwrap();
    let (_, said) = victim.seen(&[]);
    assert!(
        said.contains("another push") || said.contains("somebody else"),
        "{said}"
    );
}

#[test]
fn a_sync_takes_only_what_the_machine_signed_that_it_began_with() {
    let victim = Victim::new(false);
    let other = machine();
    other.run(&["remote", "add", "disk", victim.url()], 0);
    let with = id(&victim.place);
    let sync = ["sync", "tree", "--with", &with, "--yes"];
    let print = victim.place.json(&["machines"])["machines"][0]["fingerprint"].clone();
    let print = print.as_str().unwrap();
    // A preview remembers nothing; a wake-up does not decide whom to believe.
    let said = stderr(&other.run(&["sync", "tree", "--with", &with, "--dry-run"], 0));
    assert!(
        said.contains(print) && !said.contains("remembered"),
        "{said}"
    );
    let file = other.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let asked = text.replace(
        "[remote.disk]\n",
        &format!("[remote.disk]\nsync = [\"{with}\"]\n"),
    );
    assert_ne!(asked, text);
    std::fs::write(&file, asked).unwrap();
    victim.place.write("new.txt", b"new\n");
    victim.place.run(&["backup"], 0);
    victim.place.run(&["push"], 0);
    other.configure("[schedule]\nat = \"00:00\"\n");
    let woken = stderr(&other.run(&["tick"], 0));
    assert!(woken.contains("by hand"), "{woken}");
    assert!(!other.tree().join("new.txt").exists());
    // The first sync remembers, and says so.
    let said = stderr(&other.run(&sync, 0));
    assert!(
        said.contains(print) && said.contains("remembered"),
        "{said}"
    );
    assert!(other.tree().join("new.txt").exists());
    let known = other.json(&["machines"]);
    let known = known["machines"].as_array().unwrap().iter();
    let known: Vec<_> = known.filter(|one| one["machine"] == *with).collect();
    assert_eq!(known[0]["signer_known"], true);
    // Nothing that somebody else planted comes.
    victim.attack();
    let said = stderr(&other.run(&sync, 3));
    assert!(said.contains("somebody else wrote it"), "{said}");
    assert!(!other.tree().join("evil.txt").exists());
    // Even where the machine's own records are taken away.
    for record in records(victim.disk.path(), &with) {
        let line = std::fs::read(&record).unwrap();
        let text =
            String::from_utf8_lossy(line.split(|b| *b == b'\n').next().unwrap()).into_owned();
        let head: serde_json::Value = serde_json::from_str(&text).unwrap();
        let signer = victim.place.json(&["machines"])["machines"][0]["signer"].clone();
        if head["signer"] == signer {
            std::fs::remove_file(&record).unwrap();
        }
    }
    let output = other.bdr(&sync).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!other.tree().join("evil.txt").exists());
    // Whoever set the machine up anew says so.
    other.run(&["machines", "--forget", "nobody"], 2);
    other.run(&["machines", "--forget", &with], 0);
    other.run(&sync, 0);
    assert!(
        other.tree().join("evil.txt").exists(),
        "now it was believed"
    );
}

#[test]
fn another_machine_of_the_same_name_is_not_taken_for_it() {
    let victim = Victim::new(false);
    let other = machine();
    other.run(&["remote", "add", "disk", victim.url()], 0);
    other.run(&["sync", "tree", "--with", &id(&victim.place), "--yes"], 0);
    // The machine's part goes, and somebody comes who calls himself the same.
    let own = victim.disk.path().join("bdr1").join(id(&victim.place));
    std::fs::remove_dir_all(own).unwrap();
    let attacker = machine();
    attacker.write("evil.txt", b"evil\n");
    attacker.run(&["remote", "add", "disk", victim.url()], 0);
    attacker.run(&["backup"], 0);
    attacker.run(&["push"], 0);
    let host = attacker.json(&["machines"])["machines"][0]["host"].clone();
    let host = host.as_str().unwrap();
    let said = stderr(&other.run(&["sync", "tree", "--with", host, "--yes"], 2));
    assert!(
        said.contains("another machine") && said.contains("--forget"),
        "{said}"
    );
    assert!(!other.tree().join("evil.txt").exists());
}

/// The old machine is gone: the new one has its repository, and goes on where that one ended.
#[test]
fn a_machine_goes_on_with_what_another_has_pushed() {
    for encrypted in [true, false] {
        let old = Victim::new(encrypted);
        old.place.write("big", &crate::support::noise(400_000));
        old.place.run(&["backup"], 0);
        old.place.run(&["push"], 0);
        let peer = machine();
        let (with, key) = (id(&old.place), old.key());
        let and = |args: &[&str]| -> Vec<String> {
            let args = args.iter().map(|arg| (*arg).to_owned());
            args.chain(key.clone()).collect()
        };
        let run = |place: &Place, args: &[&str], code: i32| {
            let args = and(args);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            place.run(&args, code)
        };
        run(
            &peer,
            &[
                "sync",
                "tree",
                "--with",
                &with,
                "--from",
                old.url(),
                "--yes",
            ],
            0,
        );
        // The new machine.
        let new = Place::with_repository();
        run(&new, &["clone", old.url()], 0);
        new.run(&["add", new.tree().to_str().unwrap(), "--as", "tree"], 0);
        let recipient = encrypted.then(|| old.recipient());
        let mut add = vec!["remote", "add", "disk", old.url()];
        if let Some(recipient) = &recipient {
            add.extend(["--recipient", recipient]);
        }
        new.run(&add, 0);
        let said = stderr(&run(&new, &["remote", "adopt", &with], 2));
        assert!(said.contains("--yes"), "{said}");
        run(&new, &["remote", "adopt", "nobody", "--yes"], 2);
        run(&new, &["remote", "adopt", &with, "--dry-run"], 0);
        run(&new, &["remote", "adopt", &with, "--yes"], 0);
        assert_eq!(id(&new), with);
        run(&new, &["remote", "adopt", &with, "--yes"], 2);
        new.write("new.txt", b"new\n");
        new.run(&["backup"], 0);
        let pushed = new.json(&["push"]);
        let bytes = pushed["remotes"][0]["bytes"].as_u64().unwrap();
        assert!(bytes < 100_000, "nothing is sent again: {pushed}");
        assert_eq!(pushed["remotes"][0]["strangers"], serde_json::json!([]));
        // It knows its own signature, whatever an old sheet says.
        run(&new, &["verify", "--remote", "disk", "--level", "full"], 0);
        // Who has the old sheet is told that somebody else goes on; who has the key alone reads on.
        let bare = Place::with_repository();
        let secret = new.path("secret.txt");
        let mut args = vec!["ls", "latest", "--from", old.url()];
        if encrypted {
            let text = std::fs::read_to_string(old.place.path("bdr/disk.key")).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            std::fs::write(&secret, lines.collect::<Vec<_>>().join("\n")).unwrap();
            args.extend(["--identity", secret.to_str().unwrap()]);
        }
        let seen = stdout(&bare.run(&args, 0));
        assert!(seen.contains("new.txt"), "{seen}");
        let mut all: Vec<&str> = vec!["list"];
        all.extend(&args[2..]);
        let all = bare.json(&all);
        let all = all["snapshots"].as_array().unwrap().len();
        assert!(
            all >= 4,
            "{all} snapshots: those of the old machine as well"
        );
        // A machine that has synced with the old one decides.
        let sync = [
            "sync",
            "tree",
            "--with",
            &with,
            "--from",
            old.url(),
            "--yes",
        ];
        let output = peer.bdr(&and(&sync).iter().map(String::as_str).collect::<Vec<_>>());
        let output = { output }.output().unwrap();
        assert!(
            stderr(&output).contains("somebody else"),
            "{}",
            stderr(&output)
        );
        assert!(!peer.tree().join("new.txt").exists());
        peer.run(&["machines", "--forget", &with], 0);
        let mut again: Vec<&str> = sync.to_vec();
        args.iter().skip(4).for_each(|arg| again.push(arg));
        peer.run(&again, 0);
        assert!(peer.tree().join("new.txt").exists());
        // If the old one was not gone after all, both are told, and nothing is lost.
        old.place.write("old.txt", b"old\n");
        old.place.run(&["backup"], 0);
        let pushed = old.place.json(&["push"]);
        assert_eq!(
            pushed["remotes"][0]["strangers"].as_array().unwrap().len(),
            1
        );
        new.write("newer.txt", b"newer\n");
        new.run(&["backup"], 0);
        let pushed = new.json(&["push"]);
        assert_eq!(
            pushed["remotes"][0]["strangers"].as_array().unwrap().len(),
            1
        );
        assert!(stdout(&bare.run(&args, 0)).contains("newer.txt"));
        let status = new.json(&["status"]);
        assert_eq!(status["remotes"][0]["written_by_others"], 1, "{status}");
    }
}

#[test]
fn what_another_repository_pushed_is_not_gone_on_with() {
    let old = Victim::new(false);
    let new = machine();
    new.run(&["remote", "add", "disk", old.url()], 0);
    let said = stderr(&new.run(&["remote", "adopt", &id(&old.place), "--yes"], 2));
    assert!(said.contains("another repository"), "{said}");
}

#[test]
fn snapshots_at_a_destination_are_compared_and_never_with_the_files_of_another_machine() {
    let victim = Victim::new(false);
    victim.place.write("mine.txt", b"mine, and more\n");
    victim.place.write("new.txt", b"new\n");
    victim.place.run(&["backup"], 0);
    victim.place.run(&["push"], 0);
    let bare = Place::with_repository();
    let two = ["diff", "latest~1", "latest", "--from", victim.url()];
    let said = stdout(&bare.run(&two, 0));
    assert!(said.contains("+ ") && said.contains("new.txt"), "{said}");
    let said = stderr(&bare.run(&["diff", "latest", "--from", victim.url()], 2));
    assert!(said.contains("name two snapshots"), "{said}");
    // With the machine's own, the current files are its own.
    victim.place.write("later.txt", b"later\n");
    let said = stdout(&victim.place.run(&["diff", "latest", "--from", "disk"], 0));
    assert!(
        said.contains("later.txt") && !said.contains("new.txt"),
        "{said}"
    );
}

#[test]
fn a_key_that_was_made_before_the_repository_says_who_signs_as_well() {
    let place = Place::with_repository();
    let disk = tempfile::tempdir().unwrap();
    let url = disk.path().to_str().unwrap();
    place.write("mine.txt", b"mine\n");
    place.run(&["remote", "add", "disk", url, "--encrypt"], 0);
    place.init();
    place.run(&["backup"], 0);
    let key = || std::fs::read_to_string(place.path("bdr/disk.key")).unwrap();
    let mut known = Vec::new();
    // Nor does a new id of the machine leave the file behind. A push that is like the one before
    // changes nothing in it.
    for round in 0..3 {
        if round == 1 {
            place.run(&["remote", "reset", "--yes"], 0);
        }
        place.write("mine.txt", format!("{round}\n").as_bytes());
        place.run(&["backup"], 0);
        place.run(&["push"], 0);
        let signer = place.json(&["machines"])["machines"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["is_this"] == true)
            .map(|one| one["signer"].as_str().unwrap().to_owned());
        let line = format!("{}/{}", id(&place), signer.unwrap());
        assert!(key().contains(&line), "{line}: {}", key());
        known.push(line);
    }
    known.dedup();
    for line in &known {
        assert_eq!(key().matches(line.as_str()).count(), 1, "{}", key());
    }
    let bare = Place::with_repository();
    let machine = id(&place);
    let file = place.path("bdr/disk.key");
    let mine = place.tree().join("mine.txt");
    let mine = mine.to_str().unwrap();
    let args = ["cat", "latest", mine, "--from", url, "--machine"];
    let rest = [machine.as_str(), "--identity", file.to_str().unwrap()];
    let seen = bare.run(&[&args[..], &rest[..]].concat(), 0);
    assert_eq!(seen.stdout, b"2\n");
}
